// Package drain delivers the outbox to the remote systems, one [Worker] per
// destination, each at its own pace. A fault at one never delays another, nor the
// next tap.
//
// Which part do I want? A remote system is a [Destination]: it turns a batch into
// calls and answers into verdicts, and knows nothing of waiting. Its calls go
// through a client of [NewClient], which holds the ceiling ([Pace]) and every
// time limit. The [Worker] does the rest: it reads the [Log], offers batches, has
// the verdicts made durable, and waits when it should. The suite in draintest is
// what every Destination must survive.
//
// # The protocol
//
// A punch has one of four fates at a destination. Accept: the far side has it.
// Refuse: it never will as it is; the punch is parked for a person with the far
// side's words, and those behind it go on. Skip: not meant for this destination.
// Keep, the zero value: nothing is known, it stays and is sent again.
//
//   - Sending is repeatable. A stop, a crash, a power cut and a lost answer are the
//     same case: whatever has no durable verdict is sent again, byte for byte the
//     same. Delivery is at least once; a far side that has an idempotency key makes
//     it once.
//   - In order of sequence, and a person's punches in the order of the taps: of one
//     person only one batch is under way at a time. Batches of different people may
//     be under way together, so that a far side a long way off is still kept as busy
//     as its ceiling allows. After a start or a trouble the first batch goes alone.
//   - When one batch fails, those whose call has not left yet are held back and the
//     others waited for, before the trouble is waited out.
//   - A verdict counts when the log has it on the medium. If that fails, the same
//     verdicts are settled again, and nothing is sent meanwhile: sending more while
//     nothing can be remembered would only make duplicates.
//   - Outages have no limit on tries and never cost a punch. Waits double from 1 s
//     to 5 min with full jitter, so that forty clocks after a power cut do not come
//     back as one. Every punch kept and no error is an outage as well: it never
//     becomes a hot loop.
//   - Forty clocks whose network came back as one do not empty their backlogs as one
//     either: after an outage of a minute or more, and after [Config.Spread], the
//     Sends leave a second apart at first. A Kick ends that, too.
//   - [Busy] stops the whole destination for as long as the far side said, and
//     longer each further time.
//   - [token.Denied] stops it until a person acts; it is probed at 5 to 15 minutes.
//     [Worker.Kick] ends the wait. An [Insister] may answer those probes without a
//     call until a person has done something.
//   - An empty queue costs nothing: the worker sleeps until [Log.Changed].
//   - A failing destination is logged once per different message, its recovery once
//     with how long it was down.
//
// Punches by nobody (an unknown badge) are parked here, before any far side sees
// them, and come back in their old place when the roster learns the badge.
//
// # The ceiling
//
// "At most 30 calls a second" is, to the far side, a promise about any second that
// it cares to look at. A token bucket of 30 lets 60 through in the second after an
// idle spell; windows counted at the sender break when the network delays one call
// more than the next. [Pace] needs no clock but its own and no assumption about the
// network; see there.
//
// Calls are HTTP/1.1 on purpose: a call that is given up closes its connection, so
// that it cannot arrive later, and the transport never repeats a POST that may have
// been seen. Under HTTP/2 neither can be promised.
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
	// Offer remembers, in place of what it was told before, which punches dest's far
	// side may hold without a verdict of ours, so that Next says so of them after a
	// restart. It outlives a kill of this process at once, a power cut only where sync
	// is true. It is called before each call that leaves, from any goroutine.
	Offer(dest string, ids []punch.ID, sync bool) error
	// Changed returns a channel that is closed when there may be something new
	// for anybody. Take it before Next. A wake-up is a hint only.
	Changed() <-chan struct{}
}

// Destination is one remote system.
type Destination interface {
	// Send offers a batch, in order, and says what became of each punch. It is
	// repeatable: the same punches give the same bytes. A verdict may be missing,
	// which means Keep; a Keep with Resent says that the far side may hold the punch
	// whatever the error. An error means "nothing known beyond these verdicts, keep
	// the rest": *Busy inside it says not before when, *token.Denied that a person
	// must act, anything else is an outage. Errors hold no secret, no token and no
	// person's name: they are logged and shown as they are.
	//
	// The batch holds at least one punch; each has an employee, and none is a
	// duplicate tap. Send returns soon after ctx is done. Where [Config.Lanes] is more
	// than one, it is called by several goroutines at once, never with punches of one
	// person. It makes its calls with ctx, which is how they are held back and noted. A
	// punch that would be kept for ever is the destination's to refuse: a full batch of
	// kept ones stops those behind it.
	Send(ctx context.Context, batch []punch.Punch) ([]punch.Verdict, error)
}

// Resetter is a Destination that remembers refusals, most likely in a
// [token.Cache]. The worker calls Reset before each probe after a Denied, and at
// a [Worker.Kick] or [Worker.Wake], then from another goroutine than Send's,
// perhaps during one.
type Resetter interface {
	Reset()
}

// Insister is a Destination that keeps a refusal through Reset, because trying
// again by itself would do harm: a far side that locks an account after a few bad
// passwords. Its probes then cost no call. [Worker.Kick], which is a person's
// word, calls Insist in place of Reset, and everything is tried again, once. As
// with Reset, from another goroutine than Send's.
type Insister interface {
	Insist()
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
