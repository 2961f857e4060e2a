package main

import (
	"context"
	"math"
	"sync"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// samples is what the plots of the last day are drawn from: a ring of five-minute
// slots in memory, which begins empty with the program, but for the punches, which the
// outbox still has. It counts by the machine's running time, so that setting the clock
// moves no slot; what the wall clock said at a slot is reckoned back from now.
type samples struct {
	dests []string

	mu    sync.Mutex
	begun time.Time // of slot 0, with its running time
	slots [slotsKept]slot
	last  int64 // number of the newest slot that was touched
}

const (
	slotLong  = 5 * time.Minute
	slotsKept = int64(24 * time.Hour / slotLong)
	// Queue and clock are looked at so often; of a slot the worst is kept.
	sampleEvery = 30 * time.Second
)

// slot is five minutes.
type slot struct {
	looked  bool // queue and bound stand
	punches int
	commits timing
	calls   []timing      // by destination
	queue   []uint64      // by destination, the most
	bound   time.Duration // of the clock, the most
}

// timing is how long things took.
type timing struct {
	n        int
	sum, max time.Duration
}

func (s *timing) add(d time.Duration) { s.n++; s.sum += d; s.max = max(s.max, d) }

func newSamples(dests []string) *samples {
	now := time.Now()
	return &samples{dests: dests, begun: now.Add(-time.Duration(now.UnixNano() % int64(slotLong)))}
}

// slotAt returns the slot of a moment, nil where it is out of the ring. mu is held.
func (s *samples) slotAt(at time.Time) *slot {
	i := int64(math.Floor(float64(at.Sub(s.begun)) / float64(slotLong)))
	for s.last < i {
		s.last++
		*s.place(s.last) = slot{}
	}
	if i <= s.last-slotsKept {
		return nil
	}
	x := s.place(i)
	if x.calls == nil {
		x.calls, x.queue = make([]timing, len(s.dests)), make([]uint64, len(s.dests))
	}
	return x
}

// place is where slot i lies; those before the start have negative numbers.
func (s *samples) place(i int64) *slot { return &s.slots[((i%slotsKept)+slotsKept)%slotsKept] }

// seed counts punches from before the start.
func (s *samples) seed(recent []punch.Punch) {
	if s == nil { // a part of the house, in a test
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, p := range recent {
		age := now.Round(0).Sub(p.Stamp.Wall)
		if p.Stamp.Clock == punch.Unset || p.Outcome == punch.AuditEntry || age < 0 {
			continue
		}
		if x := s.slotAt(now.Add(-age)); x != nil {
			x.punches++
		}
	}
}

// commit hears of each commit. It never waits for longer than one look at the ring.
func (s *samples) commit(took time.Duration, punches int) {
	if s == nil { // a part of the house, in a test
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.slotAt(time.Now())
	x.punches += punches
	x.commits.add(took)
}

// call hears of each call to a destination.
func (s *samples) call(dest string, took time.Duration) {
	if s == nil { // a part of the house, in a test
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.slotAt(time.Now())
	for i, d := range s.dests {
		if d == dest {
			x.calls[i].add(took)
		}
	}
}

// run looks at queue and clock until ctx is done.
func (s *samples) run(ctx context.Context, stats func() map[string]queue.DestStats, bound func() time.Duration) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		d, b := stats(), bound()
		s.mu.Lock()
		x := s.slotAt(time.Now())
		x.looked = true
		x.bound = max(x.bound, b)
		for i, name := range s.dests {
			x.queue[i] = max(x.queue[i], d[name].Pending)
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// day returns the slots of the last day, the oldest first, and when the first began by
// the wall clock of now.
func (s *samples) day() (from time.Time, all []slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.slotAt(now)
	first := s.last - slotsKept + 1
	for i := first; i <= s.last; i++ {
		x := *s.place(i)
		x.calls, x.queue = append([]timing(nil), x.calls...), append([]uint64(nil), x.queue...)
		all = append(all, x)
	}
	return now.Round(0).Add(-now.Sub(s.begun.Add(time.Duration(first) * slotLong))), all
}
