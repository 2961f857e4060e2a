package serialport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	reference "go.bug.st/serial"
	"golang.org/x/sys/unix"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// subject is a reader on a real terminal behind a link, as udev makes one below
// /dev/serial/by-id.
func subject(t *testing.T, open func(path string) (io.ReadCloser, error)) devicetest.Subject {
	link := filepath.Join(t.TempDir(), "usb-reader")
	var master *os.File
	plug := func() {
		m, path := devicetest.NewPTY(t)
		master = m
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
	}
	plug()
	write := func(s string) {
		if _, err := master.WriteString(s); err != nil {
			t.Errorf("write to the line: %v", err)
		}
	}
	cfg := Config{Name: "front", Port: link, Dialect: "rdm6300"}
	if open != nil {
		cfg.Open = func() (io.ReadCloser, error) { return open(link) }
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return devicetest.Subject{
		Reader: r,
		Name:   "front",
		Cards: [2]devicetest.Card{
			{Tap: func() { write(rdm) }, Medium: "em", Value: "06001259E3"},
			{Tap: func() { write(other[:5]); write(other[5:]) }, Medium: "em", Value: "0102030405"},
		},
		Misread: func() { write("\x0206001259E3AF\x03") },
		Unplug: func() {
			if err := errors.Join(master.Close(), os.Remove(link)); err != nil {
				t.Error(err)
			}
		},
		Replug: plug,
	}
}

func TestSerialReaderKeepsTheReadersContract(t *testing.T) {
	devicetest.TestReader(t, func(t *testing.T) devicetest.Subject { return subject(t, nil) })
}

// countedPort counts how often a port is read.
type countedPort struct {
	*port
	reads atomic.Int64
}

func (c *countedPort) Read(b []byte) (int, error) {
	c.reads.Add(1)
	return c.port.Read(b)
}

func TestAnIdlePortWakesNobodyAndStillStopsAtOnce(t *testing.T) {
	master, path := devicetest.NewPTY(t)
	c := &countedPort{}
	r, err := New(Config{Name: "front", Dialect: "rdm6300", Open: func() (_ io.ReadCloser, err error) {
		c.port, err = openPort(path, 9600)
		return c, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan device.Event)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, out) }()
	if ev := <-out; ev.What != device.Up {
		t.Fatalf("%+v", ev)
	}
	before := c.reads.Load()
	time.Sleep(3 * readTimeout)
	if n := c.reads.Load() - before; n > 1 {
		t.Errorf("%d reads in %v of silence", n, 3*readTimeout)
	}
	if err := write(master, rdm); err != nil {
		t.Fatal(err)
	}
	if ev := <-out; ev.Value != "06001259E3" {
		t.Errorf("%+v", ev)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(idleTimeout / 2):
		t.Error("it does not stop")
	}
}

// The same suite over another serial library: what passes here and fails above is
// the wrapper's fault, not the terminal's.
func TestReferenceLibraryKeepsTheSameContract(t *testing.T) {
	devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
		return subject(t, func(path string) (io.ReadCloser, error) {
			p, err := reference.Open(path, &reference.Mode{BaudRate: 9600})
			if err != nil {
				return nil, err
			}
			return p, errors.Join(p.SetReadTimeout(readTimeout), p.ResetInputBuffer())
		})
	})
}

func TestUnplugInTheMiddleOfAFrameLosesOnlyThatFrame(t *testing.T) {
	link := filepath.Join(t.TempDir(), "usb-reader")
	plug := func() *os.File {
		master, path := devicetest.NewPTY(t)
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		return master
	}
	master := plug()
	r, err := New(Config{Name: "front", Port: link, Dialect: "rdm6300"})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan device.Event)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, out) }()
	want := func(w device.What) device.Event {
		t.Helper()
		select {
		case ev := <-out:
			if ev.What != w {
				t.Fatalf("%v %s, want %v", ev.What, ev.Fault, w)
			}
			return ev
		case <-time.After(5 * time.Second):
			t.Fatalf("no %v", w)
		}
		return device.Event{}
	}
	want(device.Up)
	if err := errors.Join(write(master, other[:9]), master.Close(), os.Remove(link)); err != nil {
		t.Fatal(err)
	}
	want(device.Down)
	master = plug()
	want(device.Up)
	// The other half of that frame, then a whole one.
	if err := write(master, other[9:]+rdm); err != nil {
		t.Fatal(err)
	}
	want(device.Fault)
	if ev := want(device.Card); ev.Value != "06001259E3" {
		t.Errorf("card %+v", ev)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// cpu is what this process has used of the processor.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestFiftyUnplugsCostTwoSecondsAtMostEachAndNothingStays(t *testing.T) {
	cycles := 50
	if testing.Short() {
		cycles = 3
	}
	s := subject(t, nil)
	before := runtime.NumGoroutine()
	out := make(chan device.Event)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Reader.Run(ctx, out) }()
	want := func(w device.What) {
		t.Helper()
		select {
		case ev := <-out:
			if ev.What != w {
				t.Fatalf("%v %s, want %v", ev.What, ev.Fault, w)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no %v", w)
		}
	}
	want(device.Up)
	var worst time.Duration
	used, began := cpu(t), time.Now()
	for i := range cycles {
		s.Unplug()
		want(device.Down)
		time.Sleep(time.Duration(i%5) * 100 * time.Millisecond) // wherever its waits are
		s.Replug()
		plugged := time.Now()
		want(device.Up)
		s.Cards[i%2].Tap()
		want(device.Card)
		worst = max(worst, time.Since(plugged))
	}
	share := float64(cpu(t)-used) / float64(time.Since(began))
	if worst > 2*time.Second {
		t.Errorf("a tap after replugging took %v", worst)
	}
	if share > 0.02 && !raceEnabled {
		t.Errorf("%.1f %% of a core", 100*share)
	}
	if n := runtime.NumGoroutine(); n > before+1 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	t.Logf("%d cycles: first tap after %v at worst, %.2f %% of a core", cycles, worst, 100*share)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestALineIsSpokenToByTheSameRules(t *testing.T) {
	master, path := devicetest.NewPTY(t)
	l, err := Open(path, 115200)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, 115200); err == nil || !strings.Contains(err.Error(), "another program has it") {
		t.Errorf("second open: %v", err)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	if n, err := l.Write(all); n != 256 || err != nil {
		t.Errorf("write = %d, %v", n, err)
	}
	got := make([]byte, 256)
	if _, err := io.ReadFull(master, got); err != nil || !bytes.Equal(got, all) {
		t.Errorf("the other end got % X, %v", got, err)
	}
	began := time.Now()
	if n, err := l.ReadFor(got, 20*time.Millisecond); n != 0 || err != nil {
		t.Errorf("silence is %d, %v", n, err)
	}
	if took := time.Since(began); took < 20*time.Millisecond || took > 400*time.Millisecond {
		t.Errorf("silence took %v", took)
	}
	if err := write(master, "\x00\xFF\r\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := l.ReadFor(got, time.Second); string(got[:n]) != "\x00\xFF\r\n" || err != nil {
		t.Errorf("read % X, %v", got[:n], err)
	}
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := l.ReadFor(got, time.Second); n != 0 || err == nil {
		t.Errorf("a device that is gone reads %d, %v", n, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// A megabyte through the kernel's terminal, and what the log and the memory say.
func TestAMegabyteOfNoiseLeavesNoCardNoLineAndNoMemory(t *testing.T) {
	master, path := devicetest.NewPTY(t)
	var log bytes.Buffer
	r, err := New(Config{Name: "front", Port: path, Dialect: "rdm6300", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan device.Event)
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, out) }()
	if ev := <-out; ev.What != device.Up {
		t.Fatalf("%+v", ev)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	sent := make(chan error, 1)
	go func() {
		for _, piece := range []string{"\x00", "\xFF", "\x1b[2J\x1b]0;x\x07", "'; DROP TABLE punches; --\r\n", "$(reboot)\n", "\nlevel=ERROR msg=forged\n"} {
			if err := write(master, strings.Repeat(piece, (1<<20)/6/len(piece))); err != nil {
				sent <- err
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
		sent <- write(master, rdm)
	}()
	events := 0
	for last := false; !last; {
		select {
		case ev := <-out:
			events++
			if last = ev.What == device.Card; last && ev.Value != "06001259E3" {
				t.Errorf("%+v", ev)
			} else if ev.What != device.Fault && !last {
				t.Errorf("%+v", ev)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the card after the noise did not come")
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if grown := int64(heap()) - int64(before); grown > 256<<10 {
		t.Errorf("%d bytes more in use", grown)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if log.Len() > 0 {
		t.Errorf("log:\n%q", log.String())
	}
	t.Logf("%d events", events)
}

func write(f *os.File, s string) error {
	_, err := f.WriteString(s)
	return err
}

func TestPortBelongsToOneProgram(t *testing.T) {
	_, path := devicetest.NewPTY(t)
	p, err := openPort(path, 9600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openPort(path, 9600)
	if err == nil || !strings.Contains(err.Error(), "another program has it") {
		t.Errorf("second open: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	p, err = openPort(path, 9600)
	if err != nil {
		t.Fatalf("open after close: %v", err)
	}
	p.Close()
}

func TestPortOfAKilledProgramCanBeOpenedAgain(t *testing.T) {
	_, path := devicetest.NewPTY(t)
	p, err := openPort(path, 9600)
	if err != nil {
		t.Fatal(err)
	}
	// What the kernel does to a killed program: the handles go, nothing is said.
	p.tty.Close()
	unix.Close(p.guard)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// An emulator of another processor may not know the question.
	if taken, err := unix.IoctlGetInt(fd, unix.TIOCGEXCL); err != nil && !errors.Is(err, unix.ENOSYS) || taken != 0 {
		t.Errorf("exclusive = %d, %v: without root it could not be opened again", taken, err)
	}
	q, err := openPort(path, 9600)
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
}

func TestOnlyASerialDeviceIsOpened(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte(rdm), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		plain:               "not a serial device",
		"/dev/null":         "not a serial device",
		plain + "-missing":  "plugged in",
		filepath.Dir(plain): "",
	} {
		p, err := openPort(path, 9600)
		if err == nil {
			p.Close()
			t.Errorf("%s was opened", path)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something with %q", path, err, want)
		}
	}
}

func TestPortIsRawAndReadsAtItsTimeout(t *testing.T) {
	master, path := devicetest.NewPTY(t)
	p, err := openPort(path, 2400)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tio, err := unix.IoctlGetTermios(p.guard, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if tio.Lflag != 0 || tio.Oflag != 0 || tio.Cc[unix.VMIN] != 0 || tio.Cc[unix.VTIME] != 5 || tio.Cflag&unix.CBAUD != unix.B2400 {
		t.Errorf("termios %+v", tio)
	}
	if err := p.SetReadTimeout(byteGap); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	n, err := p.Read(make([]byte, 8))
	if took := time.Since(began); n != 0 || err != io.EOF || took < byteGap || took > readTimeout {
		t.Errorf("idle read = %d, %v after %v", n, err, took)
	}
	// Every byte value comes through as it is: CR is not NL, 03 is no interrupt.
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	if _, err := master.Write(all); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0, 256)
	for len(got) < 256 {
		var b [64]byte
		n, err := p.Read(b[:])
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		got = append(got, b[:n]...)
	}
	if string(got) != string(all) {
		t.Errorf("got % X", got)
	}
}
