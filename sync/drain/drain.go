// Package drain delivers the outbox to one destination per worker.
package drain

import (
	"context"
	"fmt"
	"time"

	"punchclock/queue/punch"
)

// Log is what the engine needs of the outbox.
type Log interface {
	// Next returns the oldest punches that dest has not settled, in order of
	// sequence, at most max of them; parked ones that were put back come in their
	// old place. It returns none where nothing is to be sent now. It may be
	// called again and gives the same answer until Settle.
	Next(dest string, max int) ([]punch.Punch, error)
	// Settle makes the verdicts of one answered batch durable in one commit and
	// may be repeated. Verdicts that say Keep change nothing.
	Settle(dest string, v []punch.Verdict) error
	// Changed returns a channel that is closed when there may be something new
	// for anybody. Take it before Next. A wake-up is a hint only.
	Changed() <-chan struct{}
}

// Destination is one remote system.
type Destination interface {
	// Send offers a batch, in order, and says what became of each punch. It is
	// repeatable: the same punches give the same bytes. A verdict may be missing,
	// which means Keep. An error means "nothing known beyond these verdicts, keep
	// the rest": *Busy inside it says not before when, *token.Denied that a person
	// must act, anything else is an outage.
	Send(ctx context.Context, batch []punch.Punch) ([]punch.Verdict, error)
}

// Busy is inside an error when the far side asked for quiet: the whole
// destination waits.
type Busy struct {
	After time.Duration // as the far side said; 0 if it did not
	Err   error
}

func (b *Busy) Error() string { return fmt.Sprintf("told to wait %v: %v", b.After, b.Err) }

// Unwrap returns why.
func (b *Busy) Unwrap() error { return b.Err }
