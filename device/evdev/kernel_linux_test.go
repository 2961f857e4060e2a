package evdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// Two hours pass in the longest of these; the host may be busy.
var guest = devicetest.Machine{Modules: []string{"evdev", "uinput"}}

// wall is where the tests' readers are plugged in and out.
type wall struct {
	t       *testing.T
	reader  *devicetest.Keyboard
	product uint16
}

func (w *wall) plug()   { w.reader = devicetest.NewKeyboard(w.t, 0x08ff, w.product, "") }
func (w *wall) unplug() { w.reader.Unplug() }

func (w *wall) tap(line string) func() {
	return func() { w.reader.Type(2*time.Millisecond, codes(line)...) }
}

func TestKernelKeyboardKeepsTheReadersContract(t *testing.T) {
	devicetest.InKernel(t, guest, func(t *testing.T) {
		product := uint16(0)
		devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
			product++
			w := &wall{t: t, product: product}
			w.plug()
			r, err := New(Config{Name: "front", Dialect: "hex-line", USB: fmt.Sprintf("08ff:%04x", product)})
			if err != nil {
				t.Fatal(err)
			}
			return devicetest.Subject{
				Reader: r, Name: "front",
				Cards: [2]devicetest.Card{
					{Tap: w.tap("06001259e3\n"), Medium: "em", Value: "06001259E3"},
					{Tap: w.tap("deadbeef\n"), Medium: "uid", Value: "DEADBEEF"},
				},
				Misread: w.tap("06001259e\n"),
				Unplug:  w.unplug, Replug: w.plug,
				Stop: 100 * time.Millisecond,
			}
		})
	})
}

// listen reads what a keyboard tells anybody else, for a while.
func listen(t *testing.T, path string) (heard func() int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func() (n int) {
		buf := make([]byte, 4096)
		for {
			m, err := readNow(f, buf)
			if err != nil || m == 0 {
				return n
			}
			for ; m >= recordSize(wordSize); m -= recordSize(wordSize) {
				n++
			}
		}
	}
}

// holds lists the input devices that this process has open.
func holds(t *testing.T) (paths []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && filepath.Dir(to) == devInputs && !slices.Contains(paths, to) {
			paths = append(paths, to)
		}
	}
	return paths
}

func TestKernelGivesTheReaderToNobodyElseAndLeavesOtherKeyboardsAlone(t *testing.T) {
	devicetest.InKernel(t, guest, func(t *testing.T) {
		reader := devicetest.NewKeyboard(t, 0xffff, 0x0035, "wall/input0")
		twin := devicetest.NewKeyboard(t, 0xffff, 0x0035, "desk/input0") // of the same make
		office := devicetest.NewKeyboard(t, 0x046d, 0xc31c, "")
		r, err := New(Config{Name: "front", Dialect: "dec-line", USB: "ffff:0035", Phys: "wall/input0"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan device.Event, 64)
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx, out) }()
		if ev := <-out; ev.What != device.Up {
			t.Fatalf("%v %v", ev.What, ev.Err)
		}
		if got := holds(t); !slices.Equal(got, []string{reader.Path}) {
			t.Errorf("open: %v, the reader is %s", got, reader.Path)
		}
		hear, hearTwin, hearOffice := listen(t, reader.Path), listen(t, twin.Path), listen(t, office.Path)
		line := codes("0001202659\n")
		for _, k := range []*devicetest.Keyboard{twin, office, reader} {
			k.Type(2*time.Millisecond, line...)
		}
		if ev := <-out; ev.What != device.Card || ev.Value != "0001202659" || ev.Last.Sub(ev.First) < 15*time.Millisecond || ev.Last.Sub(ev.First) > 60*time.Millisecond {
			t.Errorf("%v %s within %v", ev.What, ev.Value, ev.Last.Sub(ev.First))
		}
		if n, m, o := hear(), hearTwin(), hearOffice(); n != 0 || m != 4*len(line) || o != 4*len(line) {
			t.Errorf("others heard %d events of the reader, %d of its twin, %d of the office's keyboard", n, m, o)
		}
		// Nobody can have it beside us, and we cannot have what somebody else has.
		if _, err := find(Config{Port: reader.Path}); !errors.Is(err, unix.EBUSY) {
			t.Errorf("taken twice: %v", err)
		}
		if _, err := find(Config{Port: twin.Path, USB: "046d:c31c"}); err == nil {
			t.Error("a device that is not the one was taken")
		}
		if _, err := find(Config{USB: "ffff:0035"}); err == nil {
			t.Error("one of two was taken")
		}
		select {
		case ev := <-out:
			t.Errorf("%v %s%s", ev.What, ev.Value, ev.Fault)
		default:
		}
		// A person at the reader's own keys.
		reader.Type(60*time.Millisecond, line...)
		if ev := <-out; ev.What != device.Fault || ev.Fault != device.FaultTimeout {
			t.Errorf("%v %s%s", ev.What, ev.Value, ev.Fault)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		reader.Type(2*time.Millisecond, line...)
		if n := hear(); n != 4*len(line) {
			t.Errorf("after the end others hear %d events", n)
		}
	})
}

func TestKernelFiftyUnpluggings(t *testing.T) {
	devicetest.InKernel(t, guest, func(t *testing.T) {
		w := &wall{t: t, product: 9}
		r, err := New(Config{Name: "front", Dialect: "dec-line", USB: "08ff:0009"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan device.Event, 64)
		before := runtime.NumGoroutine()
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx, out) }()
		want := func(what device.What) device.Event {
			t.Helper()
			select {
			case ev := <-out:
				if ev.What != what {
					t.Fatalf("%v %s%s %v, want %v", ev.What, ev.Value, ev.Fault, ev.Err, what)
				}
				return ev
			case <-time.After(10 * time.Second):
				t.Fatalf("no %v", what)
				return device.Event{}
			}
		}
		want(device.Down)
		var worst, cpu time.Duration
		grown := 0
		for i := range 50 {
			time.Sleep(time.Duration(i%5) * 700 * time.Millisecond) // also in the middle of its tries
			w.plug()
			began := time.Now()
			want(device.Up)
			w.tap("0001202659\n")()
			want(device.Card)
			worst = max(worst, time.Since(began))
			if i%2 == 0 { // in the middle of a card
				w.tap("00012")()
			}
			w.unplug()
			if ev := want(device.Down); ev.Err == nil {
				t.Error("Down does not say why")
			}
			grown = max(grown, runtime.NumGoroutine()-before)
		}
		// An hour in which nothing is plugged in, and one in which nobody taps.
		idle := func() time.Duration {
			time.Sleep(10 * time.Second)
			used := cpuTime(t)
			time.Sleep(time.Hour)
			return cpuTime(t) - used
		}
		cpu = idle()
		w.plug()
		want(device.Up)
		there := idle()
		t.Logf("50 times: first tap at most %v after plugging in, %d goroutines more; CPU in an hour %v while it is away, %v while it is there",
			worst.Round(time.Millisecond), grown, cpu, there)
		if worst > 2*time.Second || grown > 3 || cpu > time.Second || there > time.Second {
			t.Error("that is too much")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
