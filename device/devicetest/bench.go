package devicetest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/device"
)

// The bench for readers of a chip that a test simulates, on the virtual clock: all of it
// is called in a bubble of testing/synctest, but [EmptyHour], which makes one.

// At is what a test does to a simulated chip at a time.
type At[S any] struct {
	MS int
	Do func(S)
}

// Play runs a reader of cards with a UID for a time, does to its chip what the script
// says, and returns what the reader told: "up", "down: " and why, a card's number, or a
// fault's word, with " try" where the person shall try again.
func Play[S interface{ Do(func(S)) }](t *testing.T, r device.Reader, chip S, run time.Duration, script ...At[S]) (got []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), run)
	defer cancel()
	out := make(chan device.Event)
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- r.Run(ctx, out) }()
	go func() {
		for _, a := range script {
			time.Sleep(time.Until(began.Add(time.Duration(a.MS) * time.Millisecond)))
			chip.Do(a.Do)
		}
	}()
	for {
		select {
		case ev := <-out:
			what := ev.What.String()
			switch ev.What {
			case device.Card:
				what = ev.Value
				if ev.Medium != "uid" || fmt.Sprintf("%X", ev.Raw) != ev.Value || ev.Bits != 8*len(ev.Raw) {
					t.Errorf("%+v", ev)
				}
			case device.Fault:
				what = ev.Fault
				if ev.Try {
					what += " try"
				}
			case device.Down:
				what = "down: " + ev.Err.Error()
			}
			if late := time.Since(ev.Last); late > time.Millisecond {
				t.Errorf("%s is told %v late", what, late)
			}
			got = append(got, what)
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v", err)
			}
			if late := time.Since(began) - run; late > 600*time.Millisecond {
				t.Errorf("Run ended %v after its context", late)
			}
			return got
		}
	}
}

// Told compares what [Play] returned.
func Told(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

// Spaced makes taps of one card so far apart that each is a tap of its own: its reader
// has seen it go in between.
func Spaced(tap func()) func() {
	var last time.Time
	return func() {
		time.Sleep(time.Until(last.Add(device.Apart + 600*time.Millisecond)))
		last = time.Now()
		tap()
	}
}

// Unplugs unplugs a reader so often, plugs it in again after more or less long, and
// holds a card to it: the card must be told within two seconds, and nothing is left
// behind in the end.
func Unplugs(t *testing.T, r device.Reader, times int, unplug, replug, hold, away func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan device.Event)
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, out) }()
	before := runtime.NumGoroutine()
	wanted := func(w device.What) {
		t.Helper()
		if ev := <-out; ev.What != w {
			t.Fatalf("%+v, want %v", ev, w)
		}
	}
	wanted(device.Up)
	for i := range times {
		unplug()
		wanted(device.Down)
		time.Sleep(time.Duration(i%7) * 300 * time.Millisecond)
		replug()
		plugged := time.Now()
		wanted(device.Up)
		hold()
		wanted(device.Card)
		if took := time.Since(plugged); took > 2*time.Second {
			t.Errorf("a tap after replugging took %v", took)
		}
		away()
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// EmptyHour runs a reader for an hour in which nobody comes and returns which share of a
// processor this program has used, the chip's simulator included, which open makes too.
func EmptyHour(t *testing.T, open func() device.Reader) (share float64) {
	t.Helper()
	var before, after syscall.Rusage
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r := open()
		syscall.Getrusage(syscall.RUSAGE_SELF, &before)
		if err := r.Run(ctx, make(chan device.Event, 8)); err != nil {
			t.Error(err)
		}
		syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	})
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	if share = float64(used) / float64(time.Hour); share > 0.005 {
		t.Errorf("%.2f %% of a core", 100*share)
	}
	return share
}
