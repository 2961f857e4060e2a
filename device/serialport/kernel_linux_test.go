package serialport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// usbReader is a USB reader with a serial port inside, made of the kernel's own USB
// device side and a bus between the two that is not there: the port that the reader
// opens is that of the driver cdc-acm, with all that a real plug does to it.
type usbReader struct {
	t    testing.TB
	dir  string // in configfs
	link string // stays, as a name below /dev/serial/by-id does
	far  *os.File
}

const gadget = "/sys/kernel/config/usb_gadget/reader"

func newUSBReader(t testing.TB) *usbReader {
	t.Helper()
	u := &usbReader{t: t, dir: gadget, link: filepath.Join(t.TempDir(), "usb-reader")}
	for _, d := range []string{"", "/strings/0x409", "/configs/c.1", "/functions/acm.0"} {
		if err := os.MkdirAll(gadget+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range [][2]string{{"idVendor", "0x0525"}, {"idProduct", "0xa4a7"}, {"strings/0x409/product", "Badge reader"}, {"strings/0x409/serialnumber", "R-0001"}} {
		if err := os.WriteFile(gadget+"/"+v[0], []byte(v[1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(gadget+"/functions/acm.0", gadget+"/configs/c.1/acm.0"); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	u.plug()
	t.Cleanup(func() {
		if u.far != nil {
			u.unplug()
		}
	})
	return u
}

// plug puts the reader in and waits until its port has a name, as udev would.
func (u *usbReader) plug() {
	u.t.Helper()
	if err := os.WriteFile(u.dir+"/UDC", []byte("dummy_udc.0"), 0o644); err != nil {
		u.t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if ports, _ := filepath.Glob("/dev/ttyACM*"); len(ports) == 1 {
			if err := os.Symlink(ports[0], u.link); err != nil {
				u.t.Fatal(err)
			}
			break
		}
		if time.Since(began) > 5*time.Second {
			u.t.Fatal("the kernel made no /dev/ttyACM")
		}
	}
	far, err := os.OpenFile("/dev/ttyGS0", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		u.t.Fatal(err)
	}
	u.far = far
	tio, err := unix.IoctlGetTermios(int(far.Fd()), unix.TCGETS)
	if err != nil {
		u.t.Fatal(err)
	}
	tio.Iflag, tio.Oflag, tio.Lflag = 0, 0, 0
	if err := unix.IoctlSetTermios(int(far.Fd()), unix.TCSETS, tio); err != nil {
		u.t.Fatal(err)
	}
}

func (u *usbReader) unplug() {
	u.t.Helper()
	if err := errors.Join(os.Remove(u.link), os.WriteFile(u.dir+"/UDC", []byte("\n"), 0o644), u.far.Close()); err != nil {
		u.t.Fatal(err)
	}
	u.far = nil
}

func (u *usbReader) write(s string) {
	u.t.Helper()
	if _, err := u.far.WriteString(s); err != nil {
		u.t.Errorf("write to the line: %v", err)
	}
}

func (u *usbReader) subject() devicetest.Subject {
	r, err := New(Config{Name: "front", Port: u.link, Dialect: "rdm6300"})
	if err != nil {
		u.t.Fatal(err)
	}
	return devicetest.Subject{
		Reader: r, Name: "front",
		Cards: [2]devicetest.Card{
			{Tap: func() { u.write(rdm) }, Medium: "em", Value: "06001259E3"},
			{Tap: func() { u.write(other[:5]); u.write(other[5:]) }, Medium: "em", Value: "0102030405"},
		},
		Misread: func() { u.write("\x0206001259E3AF\x03") },
		Unplug:  u.unplug,
		Replug:  u.plug,
	}
}

var usbMachine = devicetest.Machine{Modules: []string{"dummy_hcd", "libcomposite", "usb_f_acm", "cdc-acm"}}

func TestUSBReaderOnAKernelKeepsTheReadersContract(t *testing.T) {
	devicetest.InKernel(t, usbMachine, func(t *testing.T) {
		devicetest.TestReader(t, func(t *testing.T) devicetest.Subject { return newUSBReader(t).subject() })
	})
}

// portOfChild makes this program a process with nothing in it but the reader of a port.
const portOfChild = "PUNCHCLOCK_TEST_PORT"

// readAlone tells on standard output what the reader of a port tells, until standard
// input ends, and then what it took of the processor since the reader was up first.
func readAlone(t *testing.T, port string) {
	r, err := New(Config{Name: "front", Port: port, Dialect: "rdm6300"})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan device.Event)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin) // that it ends is all it says
	}()
	before := runtime.NumGoroutine()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, out) }()
	var used time.Duration
	var began time.Time
	for {
		select {
		case ev := <-out:
			if began.IsZero() {
				used, began = cpu(t), time.Now()
			}
			fmt.Println(ev.What, ev.Fault)
			continue
		case <-ctx.Done():
		}
		break
	}
	grown := runtime.NumGoroutine() - before
	if err := <-done; err != nil {
		t.Error(err)
	}
	fmt.Println("took", int64(cpu(t)-used), int64(time.Since(began)), grown)
}

func TestUSBReaderOnAKernelSurvivesFiftyUnplugs(t *testing.T) {
	if port := os.Getenv(portOfChild); port != "" {
		readAlone(t, port)
		return
	}
	devicetest.InKernel(t, usbMachine, func(t *testing.T) {
		u := newUSBReader(t)
		s := u.subject() // whose reader is not used: that is another process
		child := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$")
		child.Env = append(os.Environ(), portOfChild+"="+u.link)
		child.Stderr = os.Stderr
		stop, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		said := make(chan string, 64)
		go func() {
			defer close(said)
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				said <- strings.TrimSpace(lines.Text())
			}
		}()
		t.Cleanup(func() { child.Process.Kill(); child.Wait() })
		want := func(w device.What) {
			t.Helper()
			select {
			case line := <-said:
				if line != w.String() {
					t.Fatalf("%s, want %v", line, w)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("no %v", w)
			}
		}
		want(device.Up)
		names := map[string]bool{}
		var worst time.Duration
		cycles := 50
		if devicetest.ShortForm() {
			cycles = 5
		}
		for i := range cycles {
			if name, err := filepath.EvalSymlinks(u.link); err == nil {
				names[name] = true
			}
			s.Unplug()
			if i%3 != 0 { // at once, so that the new one comes while the old one may be open
				want(device.Down)
			}
			time.Sleep(time.Duration(i%5) * 150 * time.Millisecond)
			s.Replug()
			plugged := time.Now()
			if i%3 == 0 {
				want(device.Down)
			}
			want(device.Up)
			s.Cards[i%2].Tap()
			want(device.Card)
			worst = max(worst, time.Since(plugged))
		}
		if err := stop.Close(); err != nil {
			t.Fatal(err)
		}
		var used, lasted time.Duration
		var grown int
		line := <-said
		if n, err := fmt.Sscanf(line, "took %d %d %d", &used, &lasted, &grown); n != 3 {
			t.Fatalf("%q: %v", line, err)
		}
		if line = <-said; line != "PASS" {
			t.Errorf("the reader's process says %s", line)
		}
		share := 100 * float64(used) / float64(lasted)
		if worst > 2*time.Second {
			t.Errorf("a tap after replugging took %v", worst)
		}
		if grown > 1 { // its Run
			t.Errorf("%d goroutines more", grown)
		}
		if used == 0 || share > 2 {
			t.Errorf("%v of processor time in %v", used, lasted)
		}
		t.Logf("%d cycles in %v: first tap after %v at worst, the reader's process took %.2f %% of a processor, the port had %d names",
			cycles, lasted.Round(time.Millisecond), worst, share, len(names))
	})
}
