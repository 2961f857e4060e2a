package devicetest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"punchclock/device"
)

// Card is a card that the suite can hold to the reader under test.
type Card struct {
	Tap           func() // one tap
	Medium, Value string // what the reader must make of it
}

// Subject is a reader under test, not running yet, with its line plugged in.
type Subject struct {
	Reader device.Reader
	Name   string  // the configured name
	Cards  [2]Card // two that differ

	Misread func() // something like a card that must not become one; nil if there is no such thing
	Unplug  func() // nil if it cannot be unplugged
	Replug  func()

	// Stop is how long Run may take to return once its context is done; 0 is 600 ms.
	Stop time.Duration
}

// patience is how long the suite waits for an event that must come.
const patience = 5 * time.Second

var faults = []string{
	device.FaultChecksum, device.FaultLength, device.FaultFormat,
	device.FaultTimeout, device.FaultNoise, device.FaultLost,
}

// TestReader holds a kind of reader to the contract of device.Reader. open is
// called once in each subtest.
func TestReader(t *testing.T, open func(t *testing.T) Subject) {
	t.Run("TellsUpAndThenCardsInTheirOrder", func(t *testing.T) {
		s := open(t)
		r := start(t, s)
		r.want(device.Up)
		for _, c := range []Card{s.Cards[0], s.Cards[1], s.Cards[0]} {
			c.Tap()
			r.wantCard(c)
		}
	})
	t.Run("KeepsTapsForAHouseThatIsBusy", func(t *testing.T) {
		s := open(t)
		r := start(t, s)
		r.want(device.Up)
		s.Cards[0].Tap()
		s.Cards[1].Tap()
		time.Sleep(300 * time.Millisecond) // nobody takes an event meanwhile
		r.wantCard(s.Cards[0])
		r.wantCard(s.Cards[1])
	})
	t.Run("StopsWhileIdle", func(t *testing.T) {
		s := open(t)
		r := start(t, s)
		r.want(device.Up)
		r.stop()
	})
	t.Run("StopsWhileNobodyListens", func(t *testing.T) {
		s := open(t)
		r := start(t, s)
		time.Sleep(300 * time.Millisecond)
		r.stop()
	})
	t.Run("MakesNoCardOfAMisread", func(t *testing.T) {
		s := open(t)
		if s.Misread == nil {
			t.Skip("this reader cannot misread")
		}
		r := start(t, s)
		r.want(device.Up)
		s.Misread()
		ev := r.want(device.Fault)
		if !slices.Contains(faults, ev.Fault) {
			t.Errorf("fault %q is not one of %v", ev.Fault, faults)
		}
		if ev.Medium != "" || ev.Value != "" || ev.Raw != nil {
			t.Errorf("a fault carries a card: %+v", ev)
		}
		s.Cards[0].Tap()
		r.wantCard(s.Cards[0], device.Fault)
	})
	t.Run("ComesBackAfterUnplugging", func(t *testing.T) {
		s := open(t)
		if s.Unplug == nil {
			t.Skip("this reader cannot be unplugged")
		}
		r := start(t, s)
		r.want(device.Up)
		for range 2 {
			s.Unplug()
			if ev := r.want(device.Down); ev.Err == nil {
				t.Error("Down does not say why")
			}
			s.Replug()
			r.want(device.Up)
			s.Cards[0].Tap()
			r.wantCard(s.Cards[0])
		}
	})
	t.Run("WaitsForAMissingDevice", func(t *testing.T) {
		s := open(t)
		if s.Unplug == nil {
			t.Skip("this reader cannot be unplugged")
		}
		s.Unplug()
		r := start(t, s)
		if ev := r.want(device.Down); ev.Err == nil {
			t.Error("Down does not say why")
		}
		r.wantNothing(time.Second) // and does not say it again
		s.Replug()
		r.want(device.Up)
		s.Cards[1].Tap()
		r.wantCard(s.Cards[1])
	})
	t.Run("StopsWhileTheDeviceIsMissing", func(t *testing.T) {
		s := open(t)
		if s.Unplug == nil {
			t.Skip("this reader cannot be unplugged")
		}
		s.Unplug()
		r := start(t, s)
		r.want(device.Down)
		r.stop()
	})
}

// running is a reader that runs.
type running struct {
	t       *testing.T
	s       Subject
	out     chan device.Event
	cancel  context.CancelFunc
	done    chan error
	before  int // goroutines
	stopped bool
	last    time.Time
}

func start(t *testing.T, s Subject) *running {
	t.Helper()
	if s.Stop == 0 {
		s.Stop = 600 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, s: s, out: make(chan device.Event), cancel: cancel, done: make(chan error, 1), before: runtime.NumGoroutine()}
	go func() { r.done <- s.Reader.Run(ctx, r.out) }()
	t.Cleanup(func() {
		if !r.stopped {
			r.stop()
		}
	})
	return r
}

// stop ends the reader and checks that it ends as it should.
func (r *running) stop() {
	r.t.Helper()
	r.stopped = true
	r.cancel()
	began := time.Now()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("Run = %v after its context was done, want nil", err)
		}
		if took := time.Since(began); took > r.s.Stop {
			r.t.Errorf("Run took %v to return, want at most %v", took, r.s.Stop)
		}
	case <-time.After(patience):
		r.t.Fatalf("Run did not return within %v", patience)
	}
	for began := time.Now(); runtime.NumGoroutine() > r.before; time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			r.t.Fatalf("a goroutine outlives Run: %d before, %d after", r.before, runtime.NumGoroutine())
		}
	}
}

// next returns the next event, after checking what holds for each.
func (r *running) next() (device.Event, bool) {
	r.t.Helper()
	select {
	case ev := <-r.out:
		if ev.Reader != r.s.Name {
			r.t.Errorf("event of reader %q, want %q", ev.Reader, r.s.Name)
		}
		if ev.First.IsZero() || ev.Last.Before(ev.First) {
			r.t.Errorf("%v event from %v to %v", ev.What, ev.First, ev.Last)
		}
		if ev.Last.Before(r.last) {
			r.t.Errorf("%v event is older than the one before it", ev.What)
		}
		if !strings.Contains(ev.Last.String(), " m=") {
			r.t.Errorf("the time of a %v event has no monotonic reading", ev.What)
		}
		r.last = ev.Last
		return ev, true
	case err := <-r.done:
		r.stopped = true
		r.t.Fatalf("Run ended by itself: %v", err)
	case <-time.After(patience):
	}
	return device.Event{}, false
}

func (r *running) want(w device.What) device.Event {
	r.t.Helper()
	ev, ok := r.next()
	if !ok || ev.What != w {
		r.t.Fatalf("got %s, want %v", describe(ev, ok), w)
	}
	return ev
}

// wantCard takes the next event, after those of the kinds to skip.
func (r *running) wantCard(c Card, skip ...device.What) {
	r.t.Helper()
	ev, ok := r.next()
	for ok && slices.Contains(skip, ev.What) {
		ev, ok = r.next()
	}
	if !ok || ev.What != device.Card || ev.Medium != c.Medium || ev.Value != c.Value {
		r.t.Fatalf("got %s, want card %s:%s", describe(ev, ok), c.Medium, c.Value)
	}
	if ev.Bits <= 0 || ev.Bits > 8*len(ev.Raw) || len(ev.Raw) > 32 {
		r.t.Errorf("card with %d bits in %d raw bytes", ev.Bits, len(ev.Raw))
	}
}

func (r *running) wantNothing(d time.Duration) {
	r.t.Helper()
	select {
	case ev := <-r.out:
		r.t.Fatalf("got %s, want nothing", describe(ev, true))
	case <-time.After(d):
	}
}

func describe(ev device.Event, ok bool) string {
	if !ok {
		return "nothing"
	}
	return strings.TrimSpace(fmt.Sprintf("%v %s:%s %s %v", ev.What, ev.Medium, ev.Value, ev.Fault, ev.Err))
}
