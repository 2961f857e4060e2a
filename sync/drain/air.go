package drain

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/token"
)

const (
	// noteSync is how long a call may be under way before the note of it is forced to the
	// medium. Most are answered sooner, and cost the card nothing.
	noteSync = time.Second
	// tripsKept is how many calls the delay of the answers is judged by, and tripsFew
	// how many at least: the first ones also look up names and shake hands.
	tripsKept, tripsFew = 15, 3
)

// air is what is under way. It belongs to Run's goroutine.
//
// A person is in one flight at most, and the log hands out the oldest first: so
// nobody's punches overtake each other, however many flights there are.
type air struct {
	out     []*flight
	punches map[punch.ID]bool // in a flight, or decided here and not settled yet
	people  map[string]bool   // employee numbers in a flight
	decided []punch.Verdict   // made here, settled with the next answer
	landed  chan *flight      // has room for every flight
	worst   error             // what went wrong in a flight; nothing leaves until all are back
	brake   chan struct{}     // closed: what has not left yet comes back
	braked  bool
}

// flight is one Send under way.
type flight struct {
	batch  []punch.Punch
	left   time.Time // of its first call, zero before; guarded by notes.mu
	noted  bool      // on the medium; guarded by notes.mu
	answer []punch.Verdict
	err    error
}

func newAir(lanes int) air {
	return air{punches: make(map[punch.ID]bool), people: make(map[string]bool),
		landed: make(chan *flight, lanes), brake: make(chan struct{})}
}

// stop has every flight come back whose next call has not left.
func (a *air) stop() {
	if !a.braked {
		a.braked = true
		close(a.brake)
	}
}

// remove takes a flight out.
func (a *air) remove(f *flight) {
	a.out = slices.DeleteFunc(a.out, func(o *flight) bool { return o == f })
	for _, p := range f.batch {
		delete(a.punches, p.ID)
		delete(a.people, p.Employee)
	}
}

// control is what a Send's context carries down to the [Pace].
type control struct {
	brake <-chan struct{} // closed: calls that still wait for a permit are not made
	leave func()          // called before each call leaves
	// back is called when a call was answered, with how many there would have to be
	// under way for the whole ceiling to be used, if every answer took as long.
	back func(calls float64)
}

type controlKey struct{}

// errBraked is inside the error of a call that was held back.
var errBraked = errors.New("held back, for the far side is in trouble")

// notes are what the log is told to remember about punches that left and have no
// verdict.
type notes struct {
	mu     sync.Mutex
	out    map[punch.ID]bool
	failed error // of the last write
}

// trips is how long the last answers took, each as control.back has it.
type trips struct {
	mu   sync.Mutex
	last []float64
}

func (t *trips) add(calls float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last = append(t.last, calls); len(t.last) > tripsKept {
		t.last = t.last[1:]
	}
}

// need is how many flights cover the delay of the answers, with as many again for
// answers that take longer than most.
func (t *trips) need() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) < tripsFew {
		return 1
	}
	sorted := slices.Sorted(slices.Values(t.last))
	return int(math.Ceil(2 * sorted[len(sorted)/2]))
}

// lanes is how many flights may be out. The first one after a start or a trouble goes
// alone: a far side that is down, or refuses us, is asked once and not thirty times.
// Later there are as many as it takes to use the ceiling, and no more, because each
// that is out when the power goes is sent again: where answers come at once it is one.
// Every second that an answer is late allows one more.
func (w *Worker) lanes() int {
	if !w.proven {
		return 1
	}
	n := w.trips.need()
	w.notes.mu.Lock()
	for _, f := range w.air.out {
		if !f.left.IsZero() {
			n = max(n, 1+int(time.Since(f.left)/time.Second))
		}
	}
	w.notes.mu.Unlock()
	return max(1, min(n, w.c.Lanes))
}

// full reports that nothing may leave before something has landed.
func (w *Worker) full() bool {
	return len(w.air.out) > 0 && (w.air.braked || len(w.air.out) >= w.lanes())
}

// look is how many punches to ask the log for.
func (w *Worker) look() int {
	n := len(w.air.punches) + w.c.Batch*(w.lanes()-len(w.air.out))
	if w.lanes() > 1 {
		n += lookPast
	}
	return n
}

// load has go what may: full batches while there is a free lane, the rest when
// nothing else is out. What no far side is to see is decided here.
func (w *Worker) load(ctx context.Context, ps []punch.Punch) {
	var batch []punch.Punch
	for _, p := range ps {
		if w.air.punches[p.ID] {
			continue
		}
		if v, ok := w.decide(&p); ok {
			w.air.punches[p.ID] = true
			w.air.decided = append(w.air.decided, v)
			continue
		}
		if w.held || w.air.people[p.Employee] {
			continue
		}
		if batch = append(batch, p); len(batch) == w.c.Batch {
			if w.early() {
				return
			}
			w.send(ctx, batch)
			if batch = nil; w.full() {
				return
			}
		}
	}
	if len(batch) > 0 && len(w.air.out) == 0 && !w.early() {
		w.send(ctx, batch)
	}
}

// early reports whether the next Send has to wait for the gate: after a long outage,
// for a while.
func (w *Worker) early() bool {
	w.gated = time.Now().Before(w.gate)
	return w.gated
}

// space sets the gate for the Send after this one.
func (w *Worker) space() {
	if w.gentle.IsZero() {
		return
	}
	left := gentleTime - time.Since(w.gentle)
	if left <= 0 {
		w.gentle, w.gate = time.Time{}, time.Time{}
		return
	}
	w.gate = time.Now().Add(gentleFirst * time.Duration(left/time.Millisecond) / time.Duration(gentleTime/time.Millisecond))
}

// send starts a flight.
func (w *Worker) send(ctx context.Context, batch []punch.Punch) {
	w.space()
	f := &flight{batch: batch}
	w.air.out = append(w.air.out, f)
	for _, p := range batch {
		w.air.punches[p.ID] = true
		w.air.people[p.Employee] = true
	}
	ctx = context.WithValue(ctx, controlKey{}, control{brake: w.air.brake, leave: func() { w.leaves(f) }, back: w.trips.add})
	landed := w.air.landed
	go func() {
		f.answer, f.err = w.c.Dest.Send(ctx, batch)
		landed <- f
	}()
}

// leaves notes, before a flight's first call, that the far side may hold its punches.
// That it cannot be noted stops nothing: notes are for people who look for doubles.
func (w *Worker) leaves(f *flight) {
	w.notes.mu.Lock()
	defer w.notes.mu.Unlock()
	if !f.left.IsZero() {
		return
	}
	f.left = time.Now()
	for _, p := range f.batch {
		w.notes.out[p.ID] = true
	}
	w.note(false)
}

// note has the log remember. The caller holds notes.mu.
func (w *Worker) note(sync bool) {
	ids := make([]punch.ID, 0, len(w.notes.out))
	for id := range w.notes.out {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	err := w.c.Log.Offer(w.c.Name, ids, sync)
	if err != nil && w.notes.failed == nil {
		w.log.Warn("what is being sent cannot be noted; after a kill or a power cut a double may go unmarked", "err", err)
	}
	w.notes.failed = err
}

// noteLong forces the notes of flights that are out for long to the medium.
func (w *Worker) noteLong() {
	w.notes.mu.Lock()
	defer w.notes.mu.Unlock()
	long := false
	for _, f := range w.air.out {
		if !f.noted && !f.left.IsZero() && time.Since(f.left) >= noteSync {
			f.noted, long = true, true
		}
	}
	if long {
		w.note(true)
	}
}

// unnote forgets punches that got a verdict, or of which the far side took nothing.
func (w *Worker) unnote(batch []punch.Punch) {
	w.notes.mu.Lock()
	defer w.notes.mu.Unlock()
	for _, p := range batch {
		if !w.sends[p.ID].uncertain {
			delete(w.notes.out, p.ID)
		}
	}
}

// landAll holds back what has not left, and waits for the rest.
func (w *Worker) landAll(ctx context.Context) {
	if len(w.air.out) > 0 {
		w.air.stop()
	}
	for len(w.air.out) > 0 {
		w.land(ctx, nil, nil)
	}
}

// land waits for an answer, or for changed or open, which may be nil, and acts on every
// answer that has come: verdicts are settled in one commit, and when something went
// wrong and the last flight is back, the trouble is waited out.
func (w *Worker) land(ctx context.Context, changed <-chan struct{}, open <-chan time.Time) {
	tick := time.NewTicker(noteSync)
	defer tick.Stop()
	full := w.full()
	var back []*flight
	for len(back) == 0 {
		select {
		case f := <-w.air.landed:
			back = append(back, f)
		case <-changed:
			return
		case <-open:
			return
		case <-tick.C:
			w.noteLong()
			if full && !w.full() {
				return // an answer is late
			}
		}
	}
	for more := true; more; {
		select {
		case f := <-w.air.landed:
			back = append(back, f)
		default:
			more = false
		}
	}
	verdicts := slices.Clone(w.air.decided)
	known := make([]int, len(back))
	for i, f := range back {
		vs := w.judge(f.batch, f.answer, f.err)
		known[i] = len(vs)
		verdicts = append(verdicts, vs...)
	}
	if len(verdicts) > 0 && w.settle(ctx, verdicts) {
		w.decidedSettled()
	}
	for i, f := range back {
		w.unnote(f.batch)
		w.air.remove(f)
		switch {
		case f.err != nil && ctx.Err() != nil:
			// Interrupted by the stop: no trouble of the destination's.
		case errors.Is(f.err, errBraked):
		case f.err == nil && known[i] > 0:
			if w.air.worst == nil {
				w.well(time.Now())
				w.proven = true
			}
		case f.err == nil:
			w.wrong(errors.New("the answer said nothing about any punch"))
		default:
			w.wrong(f.err)
		}
	}
	w.allBack(ctx)
}

// settleDecided settles what was decided here, with nothing under way.
func (w *Worker) settleDecided(ctx context.Context) {
	if w.settle(ctx, w.air.decided) {
		w.decidedSettled()
	}
	w.allBack(ctx)
}

func (w *Worker) decidedSettled() {
	for _, v := range w.air.decided {
		delete(w.air.punches, v.ID)
	}
	w.air.decided = nil
}

// wrong takes note of a flight that failed: the others come back before anything is
// done about it.
func (w *Worker) wrong(err error) {
	w.air.worst = worse(w.air.worst, err)
	w.air.stop()
}

// allBack, once nothing is under way, ends a hold and waits out what went wrong.
func (w *Worker) allBack(ctx context.Context) {
	if len(w.air.out) > 0 || !w.air.braked {
		return
	}
	w.air.braked, w.air.brake = false, make(chan struct{})
	err := w.air.worst
	w.air.worst = nil
	if err == nil {
		return
	}
	w.proven = false
	w.notes.mu.Lock()
	w.note(len(w.notes.out) > 0) // a trouble may last: what is unknown now must outlive a power cut
	w.notes.mu.Unlock()
	w.trouble(ctx, err)
}

// worse returns the error that asks for more patience.
func worse(a, b error) error {
	rank := func(err error) (int, time.Duration) {
		var denied *token.Denied
		var busy *Busy
		switch {
		case err == nil:
			return 0, 0
		case errors.As(err, &denied):
			return 3, denied.Probe
		case errors.As(err, &busy):
			return 2, busy.After
		}
		return 1, 0
	}
	ra, da := rank(a)
	rb, db := rank(b)
	if rb > ra || rb == ra && db > da {
		return b
	}
	return a
}
