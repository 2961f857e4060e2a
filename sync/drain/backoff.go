package drain

import (
	"math/rand/v2"
	"time"
)

const (
	waitFirst = time.Second            // the first step after a failure
	waitMost  = 5 * time.Minute        // steps double up to this
	waitLeast = 100 * time.Millisecond // jitter never goes below
	busyMost  = 10 * time.Minute       // a far side's word is obeyed up to this
)

// Backoff says how long to wait after the n-th failure in a row. Its zero value
// is ready. It never gives up, and is for one goroutine.
type Backoff struct {
	tries int           // failures in a row
	last  time.Duration // the last wait that Busy gave
}

// step is 1 s, 2 s, 4 s … 5 min.
func (b *Backoff) step() time.Duration {
	d := waitMost
	if b.tries < 9 { // 1 s << 9 is beyond 5 min
		d = min(waitFirst<<b.tries, waitMost)
	}
	b.tries++
	return d
}

// Next returns the wait after a failure: anything from 100 ms to the current
// step, which doubles from 1 s to 5 min. The whole range is drawn from ("full
// jitter"), so that many clocks after one power cut spread out.
func (b *Backoff) Next() time.Duration {
	return waitLeast + rand.N(b.step()-waitLeast)
}

// Busy returns the wait after a refusal that asked for quiet: at least what was
// told and at least the current step, a little more by chance, and longer than
// the last time; 10 min at most.
func (b *Backoff) Busy(told time.Duration) time.Duration {
	step := b.step()
	b.last = min(max(told, step, b.last)+step/4+rand.N(step/4), busyMost)
	return b.last
}

// Reset begins anew, after a success.
func (b *Backoff) Reset() { *b = Backoff{} }
