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
)

// Keep is the life of a reader that may be missing, go and come back: it calls
// session again and again until ctx is done, and returns nil then. session opens the
// device, calls up once it listens, and returns an error when the device is gone; it
// returns soon after ctx is done, whatever it returns then. Up and Down are told to
// out, Down once for each absence, with what is wrong; where that changes while the
// device stays away, the log hears of it. It is called by a Reader's Run.
func Keep(ctx context.Context, name string, log *slog.Logger, out chan<- Event, session func(ctx context.Context, up func()) error) {
	said, told := "", false
	for backoff := minBackoff; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		err := session(ctx, func() {
			said, told, backoff = "", false, minBackoff
			now := time.Now()
			Send(ctx, out, Event{Reader: name, What: Up, First: now, Last: now})
		})
		if ctx.Err() != nil {
			return
		}
		err = fmt.Errorf("reader %s: %w", name, err)
		was := said
		said = err.Error()
		if !told {
			told = true
			now := time.Now()
			Send(ctx, out, Event{Reader: name, What: Down, Err: err, First: now, Last: now})
		} else if was != said {
			log.Warn("reader is still down", "reader", name, "err", err)
		}
		Sleep(ctx, backoff)
	}
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
