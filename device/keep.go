package device

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Waits before a device that is gone is opened again.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = time.Second

	changeEvery = time.Minute // of what the log hears about one that stays away
)

// Keep is the life of a reader that may be missing, go and come back: it calls
// session again and again until ctx is done, and returns nil then. session opens the
// device, calls up once it listens, and returns an error when the device is gone; it
// returns soon after ctx is done, whatever it returns then. Up and Down are told to
// out, Down once for each absence, with what is wrong; where that changes while the
// device stays away, the log hears of it. It is called by a Reader's Run.
func Keep(ctx context.Context, name string, log *slog.Logger, out chan<- Event, session func(ctx context.Context, up func()) error) {
	var p Presence
	log = log.With("reader", name)
	for backoff := minBackoff; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		err := session(ctx, func() {
			backoff = minBackoff
			p.Up(ctx, out, name, time.Now())
		})
		if ctx.Err() != nil {
			return
		}
		p.Down(ctx, out, name, log, err)
		Sleep(ctx, backoff)
	}
}

// Presence is whether a reader is there, as far as it was told. Its zero value has told
// nothing yet. It is for one goroutine.
type Presence struct {
	told bool      // Down was, and no Up since
	said string    // why it is down
	when time.Time // that was said
}

// Up tells that the reader listens, since at.
func (p *Presence) Up(ctx context.Context, out chan<- Event, name string, at time.Time) {
	*p = Presence{when: p.when}
	Send(ctx, out, Event{Reader: name, What: Up, First: at, Last: at})
}

// Down tells that the reader is gone, once until it is up again; whoever gets it says
// so. What keeps the reader away may change: the log hears of that, once a minute at
// most, as noise on a wire gives each try another reason.
func (p *Presence) Down(ctx context.Context, out chan<- Event, name string, log *slog.Logger, err error) {
	err = fmt.Errorf("reader %s: %w", name, err)
	now := time.Now()
	if p.told {
		if err.Error() != p.said && now.Sub(p.when) >= changeEvery {
			p.said, p.when = err.Error(), now
			log.Warn("reader is still down", "err", err)
		}
		return
	}
	p.told, p.said = true, err.Error()
	Send(ctx, out, Event{Reader: name, What: Down, Err: err, First: now, Last: now})
}

// Send sends an event, unless ctx is done first.
func Send(ctx context.Context, out chan<- Event, ev Event) {
	select {
	case out <- ev:
	case <-ctx.Done():
	}
}

// Sleep waits, unless ctx is done first.
func Sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
