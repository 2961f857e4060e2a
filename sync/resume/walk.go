package resume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// Store is where a walk stands, on the medium. Both calls may block on it.
type Store interface {
	// Next returns the beginning of the first hour that is not complete; the zero time
	// for a walk that has not begun.
	Next() (time.Time, error)
	// Complete makes durable, in one, what was found in an hour and that the hour after
	// it is next. The same hour may come again after a power cut, and the same résumé
	// in another hour: résumé id and hour are the key.
	Complete(hour time.Time, found []Candidate) error
}

const (
	pastHour   = 5 * time.Minute  // after an hour's end it is asked for
	asleepMost = 10 * time.Minute // a step of the wall clock is noticed so late at most
	aheadMost  = 25 * time.Hour   // a position further in the future was written by a wrong clock
	probeFirst = 5 * time.Minute  // after a Denied: 5, 10, then every 15 minutes
	probeMost  = 15 * time.Minute
)

// WalkerConfig is what a Walker is made of. Client, Store and Log are required.
type WalkerConfig struct {
	Client *Client
	Store  Store
	Log    *slog.Logger
	// Ready reports whether this boot's clock is set; no hour is asked for before. nil
	// is always.
	Ready func() bool
	// Back is how far back a walk looks that has not begun; 0 is the hour that ended
	// last.
	Back time.Duration
}

// Walker goes through the hours: each one five minutes after its end, by Taipei's
// clock, the last of a day at 00:05 under that day's date. After an outage it goes hour
// by hour from the first that is not complete, so each is completed once, however long
// the outage was. Nothing is skipped: while an hour cannot be read the walk stands
// there, waits as the delivery of punches does, and says why in its Status.
type Walker struct {
	c    WalkerConfig
	kick chan struct{}

	mu     sync.Mutex
	status drain.Status

	// Of Run only.
	wait   drain.Backoff
	denied int
	said   string
	listed time.Time // the hour that ids are of: it is not listed again for a retry
	ids    []string
}

// NewWalker returns a walker that does nothing until Run.
func NewWalker(c WalkerConfig) *Walker {
	return &Walker{c: c, kick: make(chan struct{}, 1), status: drain.Status{State: drain.OK}}
}

// Status may be called at any time. LastSuccess is when an hour was completed last.
func (w *Walker) Status() drain.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Kick ends a wait after a failure and forgets the token: the secret was changed, or a
// person wants to know now.
func (w *Walker) Kick() {
	w.c.Client.Reset()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Run walks until ctx is done, and returns nil then. It starts no goroutine.
func (w *Walker) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		hour, due, err := w.next(time.Now())
		switch {
		case err != nil:
			w.fails(ctx, fmt.Errorf("resume: where the walk stands: %w", err))
		case due > 0:
			w.pause(ctx, min(due, asleepMost))
		default:
			if err = w.walk(ctx, hour); err != nil && ctx.Err() == nil {
				w.fails(ctx, err)
			}
		}
	}
	return nil
}

// next returns the hour to ask for, and how long it is until then; positive as well
// where nobody has set the clock.
func (w *Walker) next(now time.Time) (hour time.Time, due time.Duration, err error) {
	if w.c.Ready != nil && !w.c.Ready() {
		return hour, asleepMost, nil
	}
	if hour, err = w.c.Store.Next(); err != nil {
		return hour, 0, err
	}
	if hour.IsZero() || hour.Sub(now) > aheadMost {
		hour = now.Add(-pastHour - time.Hour - w.c.Back)
	}
	hour = Hour(hour)
	return hour, hour.Add(time.Hour + pastHour).Sub(now), nil
}

// walk completes one hour.
func (w *Walker) walk(ctx context.Context, hour time.Time) error {
	if !w.listed.Equal(hour) {
		ids, err := w.c.Client.List(ctx, hour)
		if err != nil {
			return err
		}
		w.listed, w.ids = hour, ids
	}
	found, gone, err := w.c.Client.Candidates(ctx, hour, w.ids)
	if err != nil {
		return err
	}
	if err := w.c.Store.Complete(hour, found); err != nil {
		return fmt.Errorf("resume: keep the candidates of an hour: %w", err)
	}
	if len(found)+len(gone) > 0 {
		w.c.Log.Info("résumés read", "hour", hour.Format("2006-01-02 15"), "candidates", len(found), "gone", len(gone))
	}
	w.listed, w.ids = time.Time{}, nil
	w.wait.Reset()
	w.denied = 0
	if w.said != "" {
		w.c.Log.Info("the résumé service works again")
		w.said = ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = drain.Status{State: drain.OK, LastSuccess: time.Now()}
	return nil
}

// fails takes note of a failure and waits as it deserves.
func (w *Walker) fails(ctx context.Context, err error) {
	state, level := drain.Retrying, slog.LevelWarn
	var wait time.Duration
	var denied *token.Denied
	var told *drain.Busy
	switch {
	case errors.As(err, &denied):
		if state, level = denied.State, slog.LevelError; state != token.AuthFailed {
			state = token.Misconfigured
		}
		w.denied++
		wait = max(min(time.Duration(w.denied)*probeFirst, probeMost), denied.Probe)
		wait += rand.N(wait / 10)
	case errors.As(err, &told):
		wait = w.wait.Busy(told.After)
	default:
		wait = w.wait.Next()
	}
	text := err.Error()
	w.mu.Lock()
	w.status.State, w.status.LastError = state, text
	w.mu.Unlock()
	if text != w.said {
		w.said = text
		w.c.Log.Log(ctx, level, "the résumé service fails, no hour is skipped", "state", state, "err", text)
	}
	w.pause(ctx, wait)
	if denied != nil {
		w.c.Client.Reset()
	}
}

func (w *Walker) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.kick:
		w.denied = 0
	case <-ctx.Done():
	}
}
