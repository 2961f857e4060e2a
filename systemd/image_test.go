package systemd

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"punchclock/sync/sandbox"
)

// The image as it is flashed, in an emulated machine: make test-image. The guest's time
// is counted in its instructions and not in this machine's seconds, so that what it
// waits for comes no later on a busy machine, and one run's figures are the next one's.

// pipeTo has this program be the wire from the guest to the sandbox.
const pipeTo = "PUNCHCLOCK_IMAGE_PIPE"

func TestMain(m *testing.M) {
	if addr := os.Getenv(pipeTo); addr != "" {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			os.Exit(1)
		}
		go func() {
			io.Copy(c, os.Stdin)
			c.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(os.Stdout, c)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// bootAt is where the card's boot partition begins, for mtools; dataAt the partition
// with what a clock keeps. The numbers are those of image/build.sh.
const (
	bootAt, bootEnd = 1 << 20, 49 << 20
	dataAt          = 289 << 20
)

// card is the image on a card of one gigabyte.
func card(t *testing.T) (path, built string) {
	t.Helper()
	if built = os.Getenv("IMAGE"); built == "" {
		t.Skip("takes minutes: run make test-image")
	}
	path = filepath.Join(t.TempDir(), "card.img")
	run(t, "cp", "--sparse=always", filepath.Join(built, "punchclock.img"), path)
	if err := os.Truncate(path, 1<<30); err != nil { // a power of two: the emulated card reader insists
		t.Fatal(err)
	}
	return path, built
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// machine is an emulated board that is switched on.
type machine struct {
	t       *testing.T
	reader  string // socket of the badge reader
	console string // file of all it says
	never   string // words after which nothing is worth waiting for
	cmd     *exec.Cmd
	ended   chan struct{}
}

// switchOn starts the machine with the card; the guest finds cloud at guestCloud.
func switchOn(t *testing.T, card, built, cloud string) *machine {
	t.Helper()
	m := &machine{t: t, reader: filepath.Join(t.TempDir(), "reader"), console: filepath.Join(built, "console.log"), ended: make(chan struct{})}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-accel", "tcg", "-icount", "shift=1", "-display", "none", "-no-reboot", "-monitor", "none",
		"-chardev", "socket,id=reader,server=on,wait=off,path=" + m.reader,
		"-netdev", "user,id=net,restrict=on,guestfwd=tcp:" + guestCloud + "-cmd:" + self}
	said := "panic=-1 quiet systemd.show_status=0 systemd.log_target=journal systemd.journald.forward_to_console=1"
	switch name := os.Getenv("MACHINE"); name {
	case "", "virt":
		// The boot loader's part is the emulator's: there is no U-Boot with a Pi's memory here.
		args = append(args, "-M", "virt,highmem=off", "-cpu", "cortex-a53", "-m", "1024", "-serial", "file:"+m.console,
			"-kernel", filepath.Join(built, "vmlinuz"), "-initrd", filepath.Join(built, "initrd.img"), "-append", "console=ttyAMA0 rauc.slot=A "+said,
			// The guest's card is quick at once: how busy this machine's disk is, is not its matter.
			"-drive", "if=none,id=card,format=raw,cache=unsafe,file="+card, "-device", "virtio-blk-pci,drive=card", "-device", "virtio-rng-pci",
			"-device", "virtio-net-pci,netdev=net", "-device", "qemu-xhci", "-device", "usb-serial,chardev=reader")
	case "raspi3b":
		// QEMU restarts the machine when its watchdog is armed, and not when it has run out.
		args = append(args, "-M", "raspi3b", "-serial", "null", "-serial", "file:"+m.console,
			"-kernel", filepath.Join(built, "u-boot.bin"), "-dtb", filepath.Join(built, "bcm2837-rpi-3-b.dtb"), "-append", "console=ttyS1,115200 systemd.watchdog_sec=off "+said,
			"-drive", "if=sd,format=raw,file="+card, "-device", "usb-net,netdev=net", "-device", "usb-serial,chardev=reader")
	default:
		t.Fatalf("MACHINE=%s: use virt or raspi3b", name)
	}
	m.start(args, pipeTo+"="+cloud)
	return m
}

// start switches the machine on, with these arguments.
func (m *machine) start(args []string, env ...string) {
	t := m.t
	t.Helper()
	cmd := exec.Command("qemu-system-aarch64", args...)
	cmd.Env = append(os.Environ(), env...)
	m.cmd = cmd
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	if err := os.WriteFile(m.console, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { cmd.Wait(); close(m.ended) }()
	t.Cleanup(func() {
		m.pull()
		if t.Failed() {
			t.Logf("%sthe console:\n%s", trouble.String(), m.said())
		}
	})
}

// pull cuts the power.
func (m *machine) pull() {
	m.cmd.Process.Kill()
	<-m.ended
}

func (m *machine) said() string {
	m.t.Helper()
	b, err := os.ReadFile(m.console)
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r", "")
}

// wait returns when done says so; it gives up when the machine is off, or has said
// what it must never say.
func (m *machine) wait(what string, done func() bool) {
	m.t.Helper()
	for !done() {
		if m.never != "" && strings.Contains(m.said(), m.never) {
			m.t.Fatalf("it said %q before %s", m.never, what)
		}
		select {
		case <-m.ended:
			m.t.Fatalf("the machine went off before %s", what)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (m *machine) waitFor(words string) {
	m.t.Helper()
	m.wait(fmt.Sprintf("it said %q", words), func() bool { return strings.Contains(m.said(), words) })
}

// at returns the time of the first line with these words, in seconds of the guest.
func (m *machine) at(words string) float64 {
	m.t.Helper()
	found := regexp.MustCompile(`(?m)^\[ *([0-9.]+)\] .*` + regexp.QuoteMeta(words)).FindStringSubmatch(m.said())
	if found == nil {
		m.t.Fatalf("no line with a time says %q", words)
	}
	s, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// guestCloud is where the guest finds the sandbox, and all that it can reach.
const guestCloud = "10.0.2.100:8443"

// identity is a certificate for the cloud, that is valid before anybody has set a clock.
func identity(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(guestCloud)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.ParseIP(host)},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// serve has h answer over TLS at addr, and a roster beside it.
func serve(t *testing.T, h http.Handler, roster string, cert, key []byte) (addr string) {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("/people.csv", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "employee_no,name,badges\n"+roster)
	})
	s := httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// settings are those of a clock that has one reader, and the cloud at guestCloud.
func settings(id, secret string, more ...string) []byte {
	base := "https://" + guestCloud
	return []byte("\ufeff" + strings.Join(append([]string{"schema = 1", "", "[device]", `id = "image-test"`,
		"[clock]", `trust = "system"`,
		"[roster]", `source = "` + base + `/people.csv"`, `ca_file = "sandbox.pem"`,
		"[[reader]]", `name = "front"`, `driver = "serial"`, `port = "/dev/ttyUSB0"`, "baud = 9600", `dialect = "rdm6300"`,
		"[[destination]]", `name = "104"`, `driver = "transfercard"`, `api_base = "` + base + sandbox.TransferCardBase + `"`,
		`token_url = "` + base + sandbox.TransferCardTokenPath + `"`, `client_id = "` + id + `"`, `client_secret_file = "104-secret"`, `ca_file = "sandbox.pem"`,
		"[secrets]", `104-secret = "` + secret + `"`}, append(more, "")...), "\r\n")) // as Notepad saves it
}

// put copies files to the card's boot partition, as a technician's laptop does.
func put(t *testing.T, card string, files map[string][]byte) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "mcopy", "-o", "-i", fmt.Sprintf("%s@@%d", card, bootAt), path, "::"+name)
	}
}

func TestImageTakesATapFromAFreshCardToTheCloud(t *testing.T) {
	card, built := card(t)
	cert, key := identity(t)
	c := sandbox.NewTransferCard(sandbox.TransferCardConfig{AcceptAny: true})
	addr := serve(t, c, "000123,王小明,em:0A1B2C3D4E\n", cert, key)
	id, secret := c.Credentials()
	put(t, card, map[string][]byte{"punchclock.toml": settings(id, secret), "sandbox.pem": cert})

	m := switchOn(t, card, built, addr)
	m.waitFor("Started punchclock.service")
	r, err := net.Dial("unix", m.reader)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// A card is held to the reader until something happens; the clock knows it for one tap.
	last := time.Time{}
	m.wait("the punch was in the cloud", func() bool {
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			r.Write([]byte("\x020A1B2C3D4E4E\x03")) // the last 4E: XOR of the five bytes
		}
		return len(c.Ledger()) > 0
	})
	if l := c.Ledger(); len(l) != 1 || l[0].EmpNo != "000123" {
		t.Errorf("the cloud has %+v, want one punch of 000123", l)
	}
	for _, bad := range []string{"Unbalanced", "bad unit file", "ordering cycle", "emergency", "login:", "Failed to start"} {
		if strings.Contains(m.said(), bad) {
			t.Errorf("the console says %q", bad)
		}
	}

	// What is left on the card is words for the technician.
	f, err := os.Open(card)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fat, err := io.ReadAll(io.NewSectionReader(f, bootAt, bootEnd-bootAt))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(fat, []byte(secret)) {
		t.Error("the secret is still on the boot partition")
	}

	// How long it took, in the guest's time.
	initramfs := regexp.MustCompile(`init: slot A is \S+, after ([0-9.]+) s, begun after ([0-9.]+) s`).FindStringSubmatch(m.said())
	if initramfs == nil {
		t.Fatal("the initramfs did not say when it was done")
	}
	first, err := strconv.ParseFloat(initramfs[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	begun, err := strconv.ParseFloat(initramfs[2], 64)
	if err != nil {
		t.Fatal(err)
	}
	data, start, ready := m.at("Mounted data.mount"), m.at("Starting punchclock.service"), m.at("Started punchclock.service")
	share := func(from, to float64) string { return fmt.Sprintf("%.1f s (%.0f %%)", to-from, (to-from)/ready*100) }
	t.Logf("READY=1 after %.1f s: kernel and initramfs %s, Debian until the data partition is there %s, until the clock is started %s, the clock %s",
		ready, share(0, first), share(first, data), share(data, start), share(start, ready))
	// Nothing of ours keeps the clock from its first tap for longer than a second. The four
	// processors of an emulated Pi share one's time: there the figures are told only.
	ours := func(what string, from, to float64) {
		t.Logf("%s: %.2f s", what, to-from)
		if to-from > 1 && os.Getenv("MACHINE") != "raspi3b" {
			t.Errorf("%s takes %.2f s, want a second at most", what, to-from)
		}
	}
	ours("initramfs", begun, first)
	for _, u := range []string{"punchclock-data", "punchclock-provision"} {
		ours(u, m.at("Starting "+u+".service"), m.at("Finished "+u+".service"))
	}
	ours("punchclock", start, ready)
}

// A card that has lost its data partition is a clock that says so, and no shell.
func TestImageShowsTheFaultWithoutItsDataPartition(t *testing.T) {
	card, built := card(t)
	f, err := os.OpenFile(card, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xFF}, 1<<20), dataAt); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	m := switchOn(t, card, built, "127.0.0.1:1")
	m.waitFor("OUT OF ORDER")
	m.waitFor("The data partition of the card is missing or damaged")
	for _, bad := range []string{"Started punchclock.service", "emergency mode", "login:"} {
		if strings.Contains(m.said(), bad) {
			t.Errorf("the console says %q", bad)
		}
	}
}

// The buses and the serial line of the header are on in the tree of every board, under
// the names that the configuration's examples have, and each chip select has its door.
func TestImagesTreesHaveTheHeadersBuses(t *testing.T) {
	built := os.Getenv("IMAGE")
	if built == "" {
		t.Skip("takes minutes: run make test-image")
	}
	trees, err := filepath.Glob(filepath.Join(built, "*.dtb"))
	if err != nil || len(trees) < 7 {
		t.Fatalf("%d device trees, %v", len(trees), err)
	}
	for _, tree := range trees {
		get := func(node, property string) string {
			out, _ := exec.Command("fdtget", tree, node, property).Output() // nothing where there is none
			return strings.TrimSpace(string(out))
		}
		uart := "/soc/serial@7e215040"
		if strings.Contains(tree, "bcm2712") {
			uart = get("/aliases", "serial0")
		}
		for name, node := range map[string]string{"I2C": get("/aliases", "i2c1"), "SPI": get("/aliases", "spi0"), "UART": uart} {
			if status := get(node, "status"); node == "" || get(node, "compatible") == "" || status != "okay" && status != "" {
				t.Errorf("%s: %s at %q is %q", filepath.Base(tree), name, node, status)
			}
		}
		for _, n := range []string{"0", "1"} {
			if node := get("/aliases", "spi0") + "/spidev@" + n; get(node, "compatible") == "" || get(node, "reg") != n {
				t.Errorf("%s: no %s", filepath.Base(tree), node)
			}
		}
	}
}
