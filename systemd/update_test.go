package systemd

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/sync/sandbox"
)

// Updates of a card, in an emulated machine: make test-update. U-Boot reads boot.scr
// from the card as on a Pi, takes a slot and starts its kernel; RAUC writes the other
// slot and notes it for U-Boot; and the ten minutes of a trial are ten minutes of
// the guest's clock. Of a Pi's way to its first tap this leaves out the GPU's part,
// and U-Boot's drivers: the device tree and the card are the emulator's.
//
// Nobody can log in to a clock, so the one thing it is told is on the kernel's command
// line: to look for an update every ten seconds instead of every hour.

// guestUpdates is where the guest finds bundles, see the Makefile.
const guestUpdates = "10.0.2.101:8080"

const updateID, updateSecret = "update-test", "told to the cloud alone"

// people have a badge each, and a number that tells which.
const people = 90

func badgeOf(n int) string  { return fmt.Sprintf("0A%08X", n) }
func numberOf(n int) string { return fmt.Sprintf("%06d", n) }

func roster() string {
	var b strings.Builder
	for n := range people {
		fmt.Fprintf(&b, "%s,員工%d,em:%s\n", numberOf(n), n, badgeOf(n))
	}
	return b.String()
}

// bay is what make test-update has built, and the far side of the machines in it.
type bay struct {
	dir       string // of version 1 and 2, and of the key
	cert, key []byte // of the cloud
}

func openBay(t *testing.T) *bay {
	t.Helper()
	dir := os.Getenv("UPDATE")
	if dir == "" {
		t.Skip("takes an hour: run make test-update")
	}
	b := &bay{dir: dir}
	// The card of one run is looked at by the next, so the cloud stays the same.
	var err error
	if b.cert, err = os.ReadFile(b.path("cloud.cert")); err == nil {
		b.key, err = os.ReadFile(b.path("cloud.key"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		b.cert, b.key = identity(t)
		err = errors.Join(os.WriteFile(b.path("cloud.key"), b.key, 0o600), os.WriteFile(b.path("cloud.cert"), b.cert, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bay) path(name ...string) string { return filepath.Join(append([]string{b.dir}, name...)...) }

// clockMachine is a machine with a card, started by U-Boot.
type clockMachine struct {
	*machine
	cloud *sandbox.TransferCard
	http  *http.Client // to the clock's page
	wire  net.Conn     // of its reader

	mu       sync.Mutex
	away     bool // the cloud
	offered  []byte
	cloudHas func([]sandbox.CardRecord) // told of the ledger before a call is answered
}

// switchOn has U-Boot start the card. drive is how QEMU is to have it.
func (b *bay) switchOn(t *testing.T, name string, drive ...string) *clockMachine {
	t.Helper()
	m := &clockMachine{machine: &machine{t: t, reader: filepath.Join(t.TempDir(), "reader"), console: b.path(name + ".log"), ended: make(chan struct{})}}
	m.cloud = sandbox.NewTransferCard(sandbox.TransferCardConfig{AcceptAny: true, ClientID: updateID, ClientSecret: updateSecret})
	cloud := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		away, told := m.away, m.cloudHas
		m.mu.Unlock()
		if away {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		answer := httptest.NewRecorder()
		m.cloud.ServeHTTP(answer, r)
		if told != nil {
			told(m.cloud.Ledger())
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
	}), roster(), b.cert, b.key)
	updates := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		offered := m.offered
		m.mu.Unlock()
		if offered == nil {
			http.Error(w, "nothing today", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(offered)))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(offered))
	}))
	t.Cleanup(updates.Close)

	// The page's port on this machine: one that is free now.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	page := l.Addr().String()
	l.Close()
	m.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		Dial: func(string, string) (net.Conn, error) { return net.Dial("tcp", page) }}}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pipe := "env " + pipeTo + "=%s " + self
	args := append([]string{"-M", "virt,highmem=off", "-cpu", "cortex-a53", "-m", "1024", "-bios", b.path("1", "u-boot-virt.bin"),
		"-accel", "tcg", "-icount", "shift=1", "-display", "none", "-monitor", "none", "-serial", "file:" + m.console,
		"-device", "virtio-blk-pci,drive=card", "-device", "virtio-rng-pci", "-device", "virtio-net-pci,netdev=net",
		"-netdev", "user,id=net,restrict=on,hostfwd=tcp:" + page + "-:8080,guestfwd=tcp:" + guestCloud + "-cmd:" + fmt.Sprintf(pipe, cloud) +
			",guestfwd=tcp:" + guestUpdates + "-cmd:" + fmt.Sprintf(pipe, updates.Listener.Addr()),
		"-device", "qemu-xhci", "-chardev", "socket,id=reader,server=on,wait=off,path=" + m.reader, "-device", "usb-serial,chardev=reader"}, drive...)

	// The command line of the kernel comes with the device tree, as the Pi's does with
	// what its firmware has read from cmdline.txt.
	often := "[Timer]\nOnCalendar=\nOnActiveSec=10\nOnUnitInactiveSec=10\nRandomizedDelaySec=0\nAccuracySec=1\n"
	tree := filepath.Join(t.TempDir(), "tree.dtb")
	dump := slices.Clone(args)
	dump[1] += ",dumpdtb=" + tree
	run(t, "qemu-system-aarch64", dump...)
	run(t, "fdtput", "-t", "s", tree, "/chosen", "bootargs", "console=ttyAMA0 panic=-1 quiet systemd.show_status=0 "+
		"systemd.log_target=journal systemd.journald.forward_to_console=1 systemd.set_credential_binary=systemd.unit-dropin.punchclock-update.timer:"+
		base64.StdEncoding.EncodeToString([]byte(often)))
	m.start(append(args, "-dtb", tree))
	return m
}

func rawCard(path string) []string {
	return []string{"-drive", "if=none,id=card,format=raw,file=" + path}
}

func (m *clockMachine) setAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

// offer has a bundle at the address; nil for none.
func (m *clockMachine) offer(bundle []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offered = bundle
}

// status is what the clock says of itself; ok is false where it does not answer.
func (m *clockMachine) status() (version string, last uint64, ok bool) {
	time.Sleep(time.Second) // a second here is a moment there, and it has other things to do
	req, err := http.NewRequest(http.MethodGet, "http://10.0.2.15:8080/api/status", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return "", 0, false
	}
	defer resp.Body.Close()
	var s struct {
		Device struct{ Version string }
		Outbox struct {
			LastSeq uint64 `json:"last_seq"`
		}
	}
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&s) != nil {
		return "", 0, false
	}
	return s.Device.Version, s.Outbox.LastSeq, true
}

// up waits until the clock answers, and returns its version.
func (m *clockMachine) up() (version string, last uint64) {
	m.t.Helper()
	m.wait("the clock answered", func() (ok bool) {
		version, last, ok = m.status()
		return ok
	})
	return version, last
}

// tap holds the badge of a person to the reader until the clock has stored it.
func (m *clockMachine) tap(n int) {
	m.t.Helper()
	_, before := m.up()
	if m.wire == nil {
		var err error
		if m.wire, err = net.Dial("unix", m.reader); err != nil {
			m.t.Fatal(err)
		}
		m.t.Cleanup(func() { m.wire.Close() })
	}
	sum := byte(0)
	raw := []byte{0x0A, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(raw[1:], uint32(n))
	for _, c := range raw {
		sum ^= c
	}
	held := time.Time{}
	m.wait(fmt.Sprintf("tap %d was stored", n), func() bool {
		if time.Since(held) > 5*time.Second { // the clock knows it for one tap
			held = time.Now()
			fmt.Fprintf(m.wire, "\x02%s%02X\x03", badgeOf(n), sum)
		}
		_, last, ok := m.status()
		return ok && last > before
	})
}

// has tells whether the cloud has the punch of a person.
func (m *clockMachine) has(n int) bool {
	return slices.ContainsFunc(m.cloud.Ledger(), func(r sandbox.CardRecord) bool { return r.EmpNo == numberOf(n) })
}

// sayings counts the lines of the console with all of the words.
func (m *clockMachine) sayings(words ...string) (n int) {
	for line := range strings.Lines(m.said()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

func (m *clockMachine) waitLine(words ...string) {
	m.t.Helper()
	m.wait(fmt.Sprintf("a line said %q", words), func() bool { return m.sayings(words...) > 0 })
}

// foundGood waits for the verdict on version 2, with a tap each minute: it takes a punch
// since the version was first found well, and the first one may be older.
func (m *clockMachine) foundGood(tap func()) {
	m.t.Helper()
	tapped := time.Now()
	m.wait("version 2 was found good", func() bool {
		if time.Since(tapped) > time.Minute {
			tapped = time.Now()
			tap()
		}
		return m.sayings("phase=none", "to=2.0") > 0
	})
}

// commissioned is a card of version 1 that has been through its first start, with a
// punch delivered. It is made once.
func (b *bay) commissioned(t *testing.T) (path string) {
	t.Helper()
	path = b.path("commissioned.img")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	part := path + ".part"
	run(t, "cp", "--sparse=always", b.path("1", "punchclock.img"), part)
	if err := os.Truncate(part, 1<<30); err != nil {
		t.Fatal(err)
	}
	put(t, part, map[string][]byte{"sandbox.pem": b.cert, "punchclock.toml": settings(updateID, updateSecret,
		"[kiosk]", `listen = "0.0.0.0:8080"`, "allow_remote = true")})
	m := b.switchOn(t, "commissioned", rawCard(part)...)
	m.tap(0)
	m.wait("the first punch was in the cloud", func() bool { return m.has(0) })
	m.pull()
	if err := os.Rename(part, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// The first step of all others.
func TestUpdateCardIsCommissioned(t *testing.T) {
	b := openBay(t)
	b.commissioned(t)
}

// bundle signs a slot as make bundle does. edit changes the manifest that is signed.
func (b *bay) bundle(t *testing.T, slot, version, key string, edit ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	script := filepath.Join("image", "bundle.sh")
	if len(edit) > 0 {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		here, err := filepath.Abs("image")
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.NewReplacer(append(edit, `$(dirname "$0")`, here)...).Replace(string(text))
		script = filepath.Join(dir, "edited.sh")
		if err := os.WriteFile(script, []byte(changed), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "bundle.raucb")
	run(t, "bash", script, slot, version, key+"cert.pem", key+"key.pem", out)
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Each bundle has another fault. They are small, and no slot at all: nobody is to look
// so far.
func (b *bay) badBundles(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	slot := filepath.Join(dir, "slot")
	noise := make([]byte, 1<<20) // nothing that would get smaller
	rand.Read(noise)
	if err := os.WriteFile(slot, noise, 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(dir, "stranger-")
	run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=stranger",
		"-keyout", stranger+"key.pem", "-out", stranger+"cert.pem")
	ours := b.path("") + "/"
	good := b.bundle(t, slot, "3.0", ours)
	used := int(binary.LittleEndian.Uint64(good[40:])) // of the squashfs in it
	altered := bytes.Clone(good)
	altered[used/2] ^= 1
	return map[string][]byte{
		"lower":           b.bundle(t, slot, "0.9", ours),
		"wrong-machine":   b.bundle(t, slot, "3.0", ours, "compatible=$(sed", "compatible=other-$(sed"),
		"unsigned":        good[:(used+4095)/4096*4096],
		"wrong-signature": b.bundle(t, slot, "3.0", stranger),
		"cut":             good[:len(good)/2],
		"altered":         altered,
		"wrong-payload":   []byte("<html>" + strings.Repeat("log in to the guest network ", 1000)),
	}
}

// slotB is what is in the second slot of a card.
func slotB(t *testing.T, card string) []byte {
	t.Helper()
	f, err := os.Open(card)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, slotSize)
	if _, err := f.ReadAt(b, slotBAt); err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	slotSize = 120 << 20
	slotAAt  = 49 << 20
	slotBAt  = slotAAt + slotSize
)

// faulty versions are signed, and no good; why is what the clock says of them afterwards.
// Without root it is their kernel that is damaged.
var faulty = []struct {
	name, why string
	root      func(t *testing.T, root string) // changes the files
}{
	{name: "clock does not start", why: "not well for 3m0s: it does not answer", root: func(t *testing.T, root string) {
		write(t, filepath.Join(root, "usr/bin/punchclock"), "#!/bin/sh\nexit 1\n", 0o755)
	}},
	{name: "clock cannot store", why: "not well for 3m0s", root: func(t *testing.T, root string) {
		write(t, filepath.Join(root, "usr/lib/systemd/system/punchclock.service.d/faulty.conf"), "[Service]\nLimitFSIZE=4096\n", 0o644)
	}},
	{name: "kernel panics", why: "the machine started with 1.0 again: 2.0 did not come up", root: func(t *testing.T, root string) {
		if err := os.Remove(filepath.Join(root, "usr/sbin/init")); err != nil { // the first process ends
			t.Fatal(err)
		}
	}},
	{name: "kernel is damaged", why: "the machine started with 1.0 again: 2.0 did not come up"},
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// change makes another slot of the one of version 2: with other files, or where root is
// nil with a damaged kernel.
func (b *bay) change(t *testing.T, root func(*testing.T, string)) (slot string) {
	t.Helper()
	dir := t.TempDir()
	slot = filepath.Join(dir, "slot")
	was, err := os.ReadFile(b.path("2", "slot"))
	if err != nil {
		t.Fatal(err)
	}
	used := (int(binary.LittleEndian.Uint64(was[40:])) + 4095) / 4096 * 4096
	files, kernel := was[:used], was[used:]
	if root == nil {
		kernel[len(kernel)/2] ^= 1
	} else {
		tree := filepath.Join(dir, "root")
		run(t, "unsquashfs", "-q", "-no-progress", "-no-xattrs", "-d", tree, b.path("2", "slot"))
		root(t, tree)
		run(t, "mksquashfs", tree, slot, "-comp", "zstd", "-Xcompression-level", "3", "-all-root", "-noappend", "-quiet", "-no-progress")
		if files, err = os.ReadFile(slot); err != nil {
			t.Fatal(err)
		}
	}
	write(t, slot, string(files)+string(kernel), 0o600)
	return slot
}

// A bundle that is none, or not for this clock, changes nothing.
func TestUpdateRefusesBadBundles(t *testing.T) {
	b := openBay(t)
	card := filepath.Join(t.TempDir(), "card.img")
	run(t, "cp", "--sparse=always", b.commissioned(t), card)
	before := slotB(t, card)
	m := b.switchOn(t, "refused", rawCard(card)...)
	m.up()
	for reason, bundle := range b.badBundles(t) {
		m.offer(bundle)
		m.waitLine("refused (" + reason + ")")
	}
	m.tap(1)
	if v, _ := m.up(); v != "1.0" {
		t.Errorf("version %s runs", v)
	}
	m.wait("the punch was in the cloud", func() bool { return m.has(1) })
	if m.sayings("phase=installing") > 0 {
		t.Error("an update was begun")
	}
	m.pull()
	if !bytes.Equal(slotB(t, card), before) {
		t.Error("the other slot was written to")
	}
}

// A version that is signed, and no good, goes by itself; the one before takes punches.
func TestUpdateFallsBack(t *testing.T) {
	for _, f := range faulty {
		t.Run(f.name, func(t *testing.T) {
			b := openBay(t)
			t.Parallel()
			card := filepath.Join(t.TempDir(), "card.img")
			run(t, "cp", "--sparse=always", b.commissioned(t), card)
			bundle := b.bundle(t, b.change(t, f.root), "2.0", b.path("")+"/")
			m := b.switchOn(t, strings.ReplaceAll(f.name, " ", "-"), rawCard(card)...)
			m.never = "could not be installed"
			m.setAway(true)
			m.tap(1) // still undelivered when it comes
			m.offer(bundle)
			m.waitLine("phase=installing", "to=2.0")
			m.waitLine("punchclock: slot B of B A")
			m.waitLine("phase=none", "to=2.0")
			m.waitLine("refused (failed-before)", f.why) // and it stays refused
			if v, _ := m.up(); v != "1.0" {
				t.Errorf("version %s runs", v)
			}
			m.setAway(false)
			m.tap(2)
			m.wait("both punches were in the cloud", func() bool { return m.has(1) && m.has(2) })
			t.Logf("slot B was started %d times", m.sayings("punchclock: slot B of "))
		})
	}
}

// diskWrite is an entry of the record of a disk's writes; its bytes lie in the record.
type diskWrite struct {
	off, at, n int64 // on the disk, in the record, bytes
	flush, fua bool  // all before it, or it is on the medium
}

// readRecord reads what QEMU's blklogwrites has written, which is Linux's dm-log-writes:
// a head, then for each write a sector with its place, length and flags, then its bytes.
func readRecord(f io.ReaderAt, size int64) (writes []diskWrite, err error) {
	head := make([]byte, 32)
	if _, err := f.ReadAt(head, 0); err != nil || binary.LittleEndian.Uint64(head) != 0x6a736677736872 {
		return nil, fmt.Errorf("this is no record of writes (%v)", err)
	}
	sector := int64(binary.LittleEndian.Uint32(head[24:]))
	for at := sector; at+sector <= size; {
		if _, err := f.ReadAt(head, at); err != nil {
			return nil, err
		}
		place, n, flags := int64(binary.LittleEndian.Uint64(head)), int64(binary.LittleEndian.Uint64(head[8:])), binary.LittleEndian.Uint64(head[16:])
		if n == 0 && flags == 0 {
			break
		}
		at += sector
		w := diskWrite{off: place * sector, at: at, n: n * sector, flush: flags&1 != 0, fua: flags&2 != 0}
		if flags&4 != 0 { // a discard promises nothing
			w.n = 0
		}
		if at+w.n > size {
			break
		}
		at += w.n
		writes = append(writes, w)
	}
	return writes, nil
}

// story is what the recorded update was, with the length that the record had then.
type story struct {
	Steps     []moment // in order: where a step began
	Acked     map[int]int64
	Delivered map[int]int64 // before the clock was told
}

type moment struct {
	Name string
	At   int64
}

// A good version, from the offer to the verdict: installed while people tap, started by U-Boot
// from the other slot, found good after ten minutes. What was stored before it is
// delivered by it. The writes of the card are recorded, for the power cuts.
func TestUpdateGoodVersionStays(t *testing.T) {
	b := openBay(t)
	card, record := b.path("good.img"), b.path("good.record")
	run(t, "cp", "--sparse=always", b.commissioned(t), card)
	write(t, record, "", 0o600)
	size := func() int64 {
		fi, err := os.Stat(record)
		if err != nil {
			t.Error(err)
			return 0
		}
		return fi.Size()
	}
	m := b.switchOn(t, "good", "-blockdev", "driver=blklogwrites,node-name=card,file.driver=file,file.filename="+card+",log.driver=file,log.filename="+record)
	m.never = "the update is taken back"
	st := story{Acked: map[int]int64{}, Delivered: map[int]int64{}}
	mark := func(name string) {
		st.Steps = append(st.Steps, moment{name, size()})
		t.Logf("%s: %d MB written", name, size()>>20)
	}
	n := 1
	tap := func() {
		m.tap(n)
		st.Acked[n] = size()
		n++
	}
	var mu sync.Mutex
	m.mu.Lock()
	m.away = true
	m.cloudHas = func(ledger []sandbox.CardRecord) {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range ledger {
			i, _ := strconv.Atoi(r.EmpNo)
			if _, known := st.Delivered[i]; !known {
				st.Delivered[i] = size()
			}
		}
	}
	m.mu.Unlock()

	for range 3 {
		tap()
	}
	bundle, err := os.ReadFile(b.path("2", "punchclock.raucb"))
	if err != nil {
		t.Fatal(err)
	}
	mark("download")
	m.offer(bundle)
	m.waitLine("phase=installing", "to=2.0")
	mark("install")
	// Taps go on, while the slot is written.
	m.wait("the other slot was written", func() bool {
		if m.sayings("phase=starting", "to=2.0") > 0 {
			return true
		}
		if n < people/2 {
			tap()
		}
		return false
	})
	mark("restart")
	m.waitLine("punchclock: slot B of B A, tries left A ", " B 2")
	mark("first start")
	m.wait("version 2 answered", func() bool { v, _ := m.up(); return v == "2.0" })
	m.waitLine("phase=trial", "to=2.0")
	mark("trial")
	m.setAway(false)
	m.wait("all punches were in the cloud", func() bool {
		for i := 1; i < n; i++ {
			if !m.has(i) {
				return false
			}
		}
		return true
	})
	// Nobody taps in its first ten minutes: it is not called good, and gets its tries back.
	tried := noteOf(t, card, "slots.env")
	if !tells(tried, 2) {
		t.Errorf("U-Boot is told %q while version 2 is on trial, want two more tries", tried)
	}
	m.wait("version 2 was well for ten minutes", func() bool { return m.sayings("phase=trial", "to=2.0") == 2 })
	held := noteOf(t, card, "slots.env")
	if !tells(held, 3) {
		t.Errorf("U-Boot is told %q after ten well minutes, want three tries as at first", held)
	}
	if m.sayings("phase=proven") > 0 {
		t.Error("version 2 is called good without a tap")
	}
	tap()
	m.foundGood(func() {
		if n < people/2 {
			tap()
		}
	})
	mark("good")
	if took := m.at("phase=proven") - m.at("phase=trial"); took < 600 {
		t.Errorf("version 2 was found good after %.0f s, want ten minutes", took)
	} else {
		t.Logf("version 2 was found good after %.0f s", took)
	}
	tap()
	m.wait("the last punch was in the cloud", func() bool { return m.has(n - 1) })
	m.pull()
	mark("end")
	if told := noteOf(t, card, "slots.env"); !tells(told, 9) {
		t.Errorf("U-Boot is told %q, want slot B first, with nine tries", told)
	}
	if r := m.cloud.Repeats(); len(r) > 0 {
		t.Errorf("the cloud got %+v twice", r)
	}
	text, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.path("good.json"), string(text), 0o600)
}

// noteOf is what U-Boot knows of the slots, as it lies on the card.
func noteOf(t *testing.T, card, name string) string {
	t.Helper()
	out, err := exec.Command("mtype", "-i", fmt.Sprintf("%s@@%d", card, bootAt), "::"+name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// tells whether such a note has slot B first, with so many tries.
func tells(note string, tries int) bool {
	has := map[string]bool{}
	for v := range strings.SplitSeq(note[4:], "\x00") { // behind the checksum
		has[v] = true
	}
	return has["BOOT_ORDER=B A"] && has[fmt.Sprintf("BOOT_B_LEFT=%d", tries)]
}

// cutPoints spreads n cuts over the steps of an update: most where most may go wrong, which is in
// the middle of RAUC's writing, and at each note for U-Boot.
func cutPoints(writes []diskWrite, st story, n int) (cuts []int) {
	var notes []int // writes to the boot partition, from the offer on
	from := func(at int64) int {
		i, _ := slices.BinarySearchFunc(writes, at, func(w diskWrite, at int64) int { return cmp.Compare(w.at, at) })
		return i
	}
	for i, w := range writes {
		if w.n > 0 && w.off >= bootAt && w.off < bootEnd && i >= from(st.Steps[0].At) {
			notes = append(notes, i+1)
		}
	}
	some := func(of []int, k int) {
		for j := range min(k, len(of)) {
			cuts = append(cuts, of[j*len(of)/min(k, len(of))])
		}
	}
	some(notes, n*3/10)
	share := map[string]int{"download": 1, "install": 3, "restart": 1, "first start": 1, "trial": 2}
	for i, s := range st.Steps[:len(st.Steps)-1] {
		var within []int
		for w := from(s.At); w < from(st.Steps[i+1].At); w++ {
			within = append(within, w+1)
		}
		some(within, n*share[s.Name]/10)
	}
	var all []int // where the shares fall together, or a step had few writes
	for w := from(st.Steps[0].At); w < from(st.Steps[len(st.Steps)-1].At); w++ {
		all = append(all, w+1)
	}
	for k := 1; ; k++ {
		slices.Sort(cuts)
		if cuts = slices.Compact(cuts); len(cuts) >= n || k > n {
			return cuts
		}
		some(all, k)
	}
}

// layOut makes the disk what a cut after the first n writes may leave: what was written
// before the last flush is there, and of each write behind it all, nothing, or some sectors.
func layOut(disk *os.File, record io.ReaderAt, writes []diskWrite, n int, rng *mathrand.Rand) error {
	settled := 0
	for i, w := range writes[:n] {
		if w.flush {
			settled = i + 1
		}
	}
	for i, w := range writes[:n] {
		b := make([]byte, w.n)
		if _, err := record.ReadAt(b, w.at); err != nil {
			return err
		}
		if i < settled || w.fua {
			if _, err := disk.WriteAt(b, w.off); err != nil {
				return err
			}
			continue
		}
		fate := rng.IntN(3) // all, none, or some
		for o := int64(0); o < w.n && fate < 2; o += 512 {
			if fate == 0 || rng.IntN(2) == 0 {
				if _, err := disk.WriteAt(b[o:o+512], w.off+o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// stored opens the outbox of a card that has lost its power, as the next start does: the
// file system is mended, the outbox opened, and it must take another punch. It returns
// whose punches are in it.
func stored(t *testing.T, card string) (have map[int]bool) {
	t.Helper()
	dir := t.TempDir()
	part := filepath.Join(dir, "data")
	run(t, "dd", "if="+card, "of="+part, "bs=1M", fmt.Sprintf("skip=%d", dataAt>>20), "conv=sparse", "status=none")
	out, err := exec.Command("e2fsck", "-p", part).CombinedOutput() // as systemd does at a start
	var failed *exec.ExitError
	if errors.As(err, &failed) && failed.ExitCode() == 1 { // mended
		err = nil
	}
	if err != nil {
		t.Fatalf("the data partition: %v\n%s", err, out)
	}
	run(t, "debugfs", "-R", "rdump /var/lib/punchclock "+dir, part)
	o, err := queue.Open(queue.Options{Dir: filepath.Join(dir, "punchclock", "outbox"), Device: "image-test", Destinations: []string{"104"}})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	tail, err := o.Tail(1000)
	if err != nil {
		t.Fatal(err)
	}
	have = map[int]bool{}
	for _, p := range tail {
		if n, err := strconv.ParseInt(strings.TrimPrefix(string(p.Badge), "em:0A"), 16, 32); err == nil {
			have[int(n)] = true
		}
	}
	if _, err := o.Append(punch.Draft{Kind: punch.In, Outcome: punch.Stored, Badge: "em:0AFFFFFFFF", Employee: "999999", Reader: "front", Stamp: punch.Stamp{Wall: time.Now()}}); err != nil {
		t.Errorf("no punch can be stored: %v", err)
	}
	return have
}

// whole tells which version lies in a slot of the card, byte for byte; "" for neither.
func (b *bay) whole(t *testing.T, card, slot string) (version string) {
	t.Helper()
	f, err := os.Open(card)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, v := range []string{"1", "2"} {
		want, err := os.ReadFile(b.path(v, "slot"))
		if err != nil {
			t.Fatal(err)
		}
		is := make([]byte, len(want))
		if _, err := f.ReadAt(is, map[string]int64{"A": slotAAt, "B": slotBAt}[slot]); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(is, want) {
			return v + ".0"
		}
	}
	return ""
}

// The power is cut at moments of the recorded update. Whatever the card looks like then,
// each punch that the clock had stored is there, U-Boot comes to a slot that is whole,
// and the clock in it takes another punch and delivers all that waited. The update goes on
// by itself; that is followed to its end once from the middle of the writing, and once
// from the trial.
func TestUpdatePowerCuts(t *testing.T) {
	b := openBay(t)
	var st story
	text, err := os.ReadFile(b.path("good.json"))
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if err != nil {
		t.Skipf("%v; no update is recorded: run all of make test-update", err)
	}
	bundle, err := os.ReadFile(b.path("2", "punchclock.raucb"))
	if err != nil {
		t.Fatal(err)
	}
	record, err := os.Open(b.path("good.record"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { record.Close() })
	fi, err := record.Stat()
	if err != nil {
		t.Fatal(err)
	}
	writes, err := readRecord(record, fi.Size())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(os.Getenv("CUTS"))
	if err != nil {
		t.Fatalf("CUTS: %v", err)
	}
	cuts := cutPoints(writes, st, n)
	if len(cuts) < n {
		t.Errorf("the record of %d writes has places for %d cuts, want %d", len(writes), len(cuts), n)
	}
	t.Logf("%d writes, %d cuts", len(writes), len(cuts))
	stepOf := func(cut int) (step string) {
		for _, s := range st.Steps {
			if writes[cut-1].at >= s.At {
				step = s.Name
			}
		}
		return step
	}
	followed := map[string]bool{}
	for k, cut := range cuts {
		at, step := writes[cut-1].at, stepOf(cut)
		toTheEnd := (step == "install" || step == "trial") && !followed[step]
		followed[step] = true
		t.Run(fmt.Sprintf("%02d %s", k, step), func(t *testing.T) {
			t.Parallel()
			card := filepath.Join(t.TempDir(), "card.img")
			run(t, "cp", "--sparse=always", b.commissioned(t), card)
			f, err := os.OpenFile(card, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(layOut(f, record, writes, cut, mathrand.New(mathrand.NewPCG(uint64(k), uint64(cut)))), f.Close()); err != nil {
				t.Fatal(err)
			}
			var promised, want []int // had been stored; and of these not delivered
			for i, acked := range st.Acked {
				if acked > at {
					continue
				}
				promised = append(promised, i)
				if delivered, is := st.Delivered[i]; !is || delivered > at {
					want = append(want, i)
				}
			}
			have := stored(t, card)
			for _, i := range promised {
				if !have[i] {
					t.Errorf("punch %d had been stored, and is lost", i)
				}
			}
			m := b.switchOn(t, fmt.Sprintf("cut-%02d", k), rawCard(card)...)
			m.never = "the update is taken back"
			m.waitFor("Starting kernel")
			said := regexp.MustCompile(`punchclock: slot ([AB]) of`).FindAllStringSubmatch(m.said(), -1)
			slot := said[len(said)-1][1]
			version := b.whole(t, card, slot)
			if version == "" {
				t.Errorf("U-Boot starts slot %s, which is neither version", slot)
			}
			// The update may have gone on, and the machine started anew, before anybody has asked.
			if runs, _ := m.up(); runs != version && (runs != "2.0" || m.sayings("phase=starting") == 0) {
				t.Errorf("version %s runs", runs)
			}
			const after = people - 1
			m.tap(after)
			want = append(want, after)
			m.wait(fmt.Sprintf("punches %v were in the cloud", want), func() bool {
				return !slices.ContainsFunc(want, func(i int) bool { return !m.has(i) })
			})
			if m.sayings("OUT OF ORDER") > 0 {
				t.Error("it said that it is out of order")
			}
			t.Logf("cut at write %d of %d: %d punches had been stored, all are there; U-Boot starts version %s from slot %s after %d tries; a punch more, and the %d that waited, are delivered",
				cut, len(writes), len(promised), version, slot, len(said), len(want)-1)
			if !toTheEnd {
				return
			}
			m.offer(bundle)
			last := after
			m.foundGood(func() {
				if last > people/2+1 {
					last--
					m.tap(last)
				}
			})
			if runs, _ := m.up(); runs != "2.0" {
				t.Errorf("version %s runs at the end", runs)
			}
			m.tap(people / 2)
			m.wait("the last punches were in the cloud", func() bool { return m.has(last) && m.has(people/2) })
			m.pull()
			if told := noteOf(t, card, "slots.env"); !tells(told, 9) {
				t.Errorf("U-Boot is told %q at the end, want slot B first, with nine tries", told)
			}
			t.Log("the update went on, and version 2 was found good")
		})
	}
}

// What U-Boot makes of what is noted for it, and of slots that are damaged, on the emulator's
// own machine and on a Raspberry Pi 3 with the U-Boot of the card; each up to the
// kernel, whose checksum it has compared.
func TestUpdateUBootTakesASlotThatStarts(t *testing.T) {
	b := openBay(t)
	note := func(text string) []byte {
		out := filepath.Join(t.TempDir(), "note")
		cmd := exec.Command("mkenvimage", "-s", "0x4000", "-o", out, "-")
		cmd.Stdin = strings.NewReader(text)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mkenvimage: %v\n%s", err, said)
		}
		raw, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	before, after := note("BOOT_ORDER=A B\nBOOT_A_LEFT=8\nBOOT_B_LEFT=0\n"), note("BOOT_ORDER=B A\nBOOT_A_LEFT=8\nBOOT_B_LEFT=3\n")
	slot, err := os.ReadFile(b.path("1", "slot"))
	if err != nil {
		t.Fatal(err)
	}
	kernel := int64(len(slot) - 8<<20) // in its midst
	box := (int64(binary.LittleEndian.Uint64(slot[40:])) + 4095) / 4096 * 4096
	for _, c := range []struct {
		name     string
		env, bak []byte
		damage   int64 // where on the card, 0 for nowhere
		want     string
	}{
		{"a new card", nil, nil, 0, "A"},
		{"an update is installed", after, before, 0, "B"},
		{"half of that is noted", append(bytes.Clone(after[:20]), before[20:]...), before, 0, "A"},
		{"half of a start is noted", append(bytes.Clone(after[:20]), before[20:]...), after, 0, "B"},
		{"the note is empty", []byte{}, after, 0, "B"},
		{"neither note is whole", after[:200], []byte{}, 0, "A"},
		{"the new kernel is damaged", after, before, slotBAt + kernel, "B B B A"},
		{"the new slot has no beginning", after, before, slotBAt, "B B B A"},
		{"the new slot has no kernel", after, before, slotBAt + box, "B B B A"},
		{"nothing is left to try", note("BOOT_ORDER=B A\nBOOT_A_LEFT=0\nBOOT_B_LEFT=0\n"), before, 0, "B"},
		{"all but one is marked bad", note("BOOT_ORDER=B\nBOOT_A_LEFT=0\nBOOT_B_LEFT=1\n"), before, 0, "B"},
	} {
		for _, board := range []string{"virt", "raspi3b"} {
			t.Run(c.name+" "+board, func(t *testing.T) {
				t.Parallel()
				card := filepath.Join(t.TempDir(), "card.img")
				run(t, "cp", "--sparse=always", b.path("1", "punchclock.img"), card)
				if err := os.Truncate(card, 1<<30); err != nil {
					t.Fatal(err)
				}
				for name, text := range map[string][]byte{"slots.env": c.env, "slots.bak": c.bak} {
					if text != nil {
						put(t, card, map[string][]byte{name: text})
					}
				}
				if c.damage != 0 {
					f, err := os.OpenFile(card, os.O_WRONLY, 0)
					if err != nil {
						t.Fatal(err)
					}
					_, err = f.WriteAt(bytes.Repeat([]byte{0x5A}, 4096), c.damage)
					if err := errors.Join(err, f.Close()); err != nil {
						t.Fatal(err)
					}
				}
				name := board + "-" + strings.ReplaceAll(c.name, " ", "-")
				var m *clockMachine
				if board == "virt" {
					m = b.switchOn(t, name, rawCard(card)...)
				} else {
					m = &clockMachine{machine: &machine{t: t, console: b.path(name + ".log"), ended: make(chan struct{})}}
					m.start([]string{"-accel", "tcg", "-icount", "shift=1", "-display", "none", "-monitor", "none", "-M", "raspi3b", "-serial", "null", "-serial", "file:" + m.console,
						"-kernel", b.path("1", "u-boot.bin"), "-dtb", b.path("1", "bcm2837-rpi-3-b.dtb"), "-drive", "if=sd,format=raw,file=" + card})
				}
				m.waitFor("Starting kernel")
				m.pull()
				took := []string{}
				for _, s := range regexp.MustCompile(`punchclock: slot ([AB]) of`).FindAllStringSubmatch(m.said(), -1) {
					took = append(took, s[1])
				}
				if got := strings.Join(took, " "); got != c.want {
					t.Errorf("U-Boot took %s, want %s", got, c.want)
				}
				if env, bak := noteOf(t, card, "slots.env"), noteOf(t, card, "slots.bak"); env != bak || len(env) != 0x4000 {
					t.Errorf("U-Boot noted %q, and %q in the copy", strings.TrimRight(env, "\x00"), strings.TrimRight(bak, "\x00"))
				}
			})
		}
	}
}
