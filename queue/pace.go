package queue

import "time"

// A Pace has long work stand back for somebody at the door. The zero Pace is ready; a nil
// one never rests, for work that somebody waits for.
//
// Letting others have the processor (runtime.Gosched) is not enough. A tap goes through
// several goroutines; one that wakes the next and then waits in the kernel, for the
// reader or the medium, leaves the next behind on its P, and with all other Ps at work
// nobody looks there before the scheduler's monitor does, up to 10 ms later. A P whose
// goroutine sleeps looks there at once. So the work rests, twice as long as it worked.
type Pace struct{ since time.Time }

const (
	workMost  = 200 * time.Microsecond // at a stretch; a tap may have to wait for as long, and the runtime makes each rest 1 ms at least
	restShare = 2
	restMost  = 2 * time.Millisecond // a machine that was busy elsewhere is not to be paid for
)

// Step is called before the i-th piece of the work, and looks at the time before each
// sixteenth: a piece is some microseconds. It blocks for as long as the work has to rest.
func (p *Pace) Step(i int) {
	if p == nil || i%16 != 0 {
		return
	}
	if p.since.IsZero() {
		p.since = time.Now()
	}
	if worked := time.Since(p.since); worked >= workMost {
		time.Sleep(min(restShare*worked, restMost))
		p.since = time.Now()
	}
}
