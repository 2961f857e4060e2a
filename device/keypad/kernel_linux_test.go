package keypad

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// matrixSim is a matrix of keys between lines of a simulated chip: rows are lines 0
// to 3, columns 4 to 7. While keys are held it looks all the time at which columns
// are low, and pulls the rows that are connected to one.
type matrixSim struct {
	t *testing.T
	*devicetest.GPIOSim
}

// hold holds keys of the usual pad for a while.
func (s matrixSim) hold(keys string, d time.Duration) {
	var held matrix
	for _, k := range []byte(keys) {
		held |= 1 << strings.IndexByte(defaultKeys, k)
	}
	for began := time.Now(); time.Since(began) < d; time.Sleep(200 * time.Microsecond) {
		connected := map[int]bool{}
		for column := range 4 {
			if held&(0x1111<<column) == 0 {
				continue
			}
			s.pull(4+column, true) // it stays where it was driven to, unless it is pulled again
			up, err := s.Level(4 + column)
			if err != nil {
				s.t.Fatal(err)
			}
			for row := range 4 {
				if held&bit(row, column) != 0 {
					connected[row] = connected[row] || !up
				}
			}
		}
		for row, low := range connected {
			s.pull(row, !low)
		}
	}
	for row := range 4 {
		s.pull(row, true)
	}
	time.Sleep(d)
}

func (s matrixSim) pull(line int, up bool) {
	if err := s.Pull(line, up); err != nil {
		s.t.Fatal(err)
	}
}

func TestKernelMatrixKeypad(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"gpio-sim"}}, func(t *testing.T) {
		if _, err := openPad("wall", []int{0, 1, 2, 3}, []int{4, 5, 6, 7}); !errors.Is(err, device.ErrMissing) {
			t.Errorf("no chip at all: %v", err)
		}
		sim := matrixSim{t, devicetest.NewGPIOSim(t, "wall", 8)}
		var opened *pad
		cfg := Config{Name: "pad", Chip: "wall", Rows: []string{"GPIO0", "GPIO1", "GPIO2", "GPIO3"}, Columns: []string{"GPIO4", "GPIO5", "GPIO6", "GPIO7"}}
		real, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Open = func() (Pad, error) {
			p, err := real.cfg.Open()
			if err == nil {
				opened = p.(*pad)
				opened.settle = 8 * time.Millisecond // the simulated wires are a program that looks and pulls
			}
			return p, err
		}
		r, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan device.Event, 64)
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx, out) }()
		next := func() device.Event {
			t.Helper()
			select {
			case ev := <-out:
				return ev
			case <-time.After(10 * time.Second):
				t.Fatal("nothing came")
				return device.Event{}
			}
		}
		if ev := next(); ev.What != device.Up {
			t.Fatalf("%v %v", ev.What, ev.Err)
		}
		// At rest all columns are low, and no scan moves them: an hour costs nothing.
		time.Sleep(time.Second)
		for line := range 4 {
			if up, err := sim.Level(4 + line); err != nil || up {
				t.Errorf("at rest column %d is high (%v)", line, err)
			}
		}
		used := cpuTime(t)
		time.Sleep(time.Hour)
		used = cpuTime(t) - used

		for _, k := range "C12#A34#" {
			sim.hold(string(k), 300*time.Millisecond)
		}
		for _, want := range []string{"key/go-out//", "key///", "entry/in/12/34"} {
			ev := next()
			if got := fmt.Sprintf("%v/%s/%s/%s", ev.What, ev.Key, ev.Number, string(ev.PIN)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		sim.hold("15", 300*time.Millisecond)
		if ev := next(); ev.What != device.Fault || ev.Fault != device.FaultNoise {
			t.Errorf("two keys at once: %v %s", ev.What, ev.Fault)
		}
		// The lines are ours, and free afterwards. Nothing was driven high.
		if _, err := openPad("wall", []int{0, 1, 2, 3}, []int{4, 5, 6, 7}); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "punchclock") {
			t.Errorf("taken twice: %v", err)
		}
		if _, err := openPad("wall", []int{0, 1, 2, 9}, []int{4, 5, 6, 7}); err == nil {
			t.Error("a line that is not there was taken")
		}
		if _, err := openPad("other", []int{0, 1, 2, 3}, []int{4, 5, 6, 7}); !errors.Is(err, device.ErrMissing) || !strings.Contains(err.Error(), "wall") {
			t.Errorf("another chip: %v", err)
		}
		cancel()
		began := time.Now()
		if err := <-done; err != nil || time.Since(began) > 100*time.Millisecond {
			t.Errorf("Run = %v after %v", err, time.Since(began))
		}
		p, err := openPad("wall", []int{0, 1, 2, 3}, []int{4, 5, 6, 7})
		if err != nil {
			t.Fatalf("the lines were not given back: %v", err)
		}
		p.Close()
		t.Logf("CPU in an hour without a key: %v", used)
		if used > time.Second {
			t.Error("that is too much")
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
