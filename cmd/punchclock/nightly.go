package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// Once a day, at night, parked punches are offered again, and the two days before
// are reconciled: on the second look what waited for approval may have come through.
// Each clock has its own minute, so that a company's clocks do not ask as one. A
// clock that is off at night does it some minutes after it comes on; one that does
// not know the time waits until it does.

const (
	nightRetry     = 2*time.Hour + 10*time.Minute // after midnight, and up to an hour later by the device's id
	nightReconcile = 3*time.Hour + 10*time.Minute
	nightAsleep    = 10 * time.Minute // a step of the wall clock is noticed so late at most
	nightSettle    = 5 * time.Minute  // after a start
	nightAgain     = time.Hour        // after a reconciliation that could not be finished
	nightTries     = 3
)

// nightly does it. Its file in the state directory remembers when it was done last
// and with what result; without it both are done once more.
type nightly struct {
	cfg    *config
	log    *slog.Logger
	outbox *queue.Outbox
	rec    *reconciler
	unset  func() bool // nobody has set the clock in this boot
	state  nightState  // of run only
}

// newNightly reads the file, so that the status has the last result from the start.
func newNightly(cfg *config, log *slog.Logger, outbox *queue.Outbox, rec *reconciler, unset func() bool) *nightly {
	n := &nightly{cfg: cfg, log: log, outbox: outbox, rec: rec, unset: unset}
	n.load()
	return n
}

// nightState is the file.
type nightState struct {
	Schema     int                         `json:"schema"`
	Retried    time.Time                   `json:"retried"`
	Reconciled time.Time                   `json:"reconciled"`
	Last       map[string]*reconcileStatus `json:"last"`
}

func (n *nightly) path() string { return filepath.Join(n.cfg.Device.StateDir, "nightly.json") }

func (n *nightly) load() {
	var s nightState
	b, err := os.ReadFile(n.path())
	if err == nil {
		if err = json.Unmarshal(b, &s); err == nil && s.Schema != 1 {
			err = fmt.Errorf("schema %d", s.Schema)
		}
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			n.log.Warn("what was done last night is not known; it is done again", "err", err)
		}
		return
	}
	n.state = s
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	for _, d := range n.rec.dests {
		if r := s.Last[d.name]; r != nil {
			n.rec.last[d.name] = r
		}
	}
}

func (n *nightly) save() {
	s := n.state
	s.Schema, s.Last = 1, map[string]*reconcileStatus{}
	for _, d := range n.rec.dests {
		if r := n.rec.status(d.name); r != nil {
			s.Last[d.name] = r
		}
	}
	if err := replaceJSON(n.path(), s); err != nil {
		n.log.Warn("what was done tonight is not remembered over a restart", "err", err)
	}
}

// spread is the device's own delay, up to an hour.
func (n *nightly) spread() time.Duration {
	h := fnv.New32a()
	h.Write([]byte(n.cfg.Device.ID))
	return time.Duration(h.Sum32()%3600) * time.Second
}

// due returns the last moment, not after now, at which a job of that hour was due,
// and the next one.
func (n *nightly) due(now time.Time, hour time.Duration) (last, next time.Time) {
	today := midnight(now.In(n.cfg.Device.Timezone), 0)
	at := func(day time.Time) time.Time { return day.Add(hour + n.spread()) }
	if last = at(today); last.After(now) {
		return at(midnight(today, -1)), last
	}
	return last, at(midnight(today, 1))
}

// run works until ctx is done.
func (n *nightly) run(ctx context.Context) error {
	wait := nightSettle + n.spread()/6
	var again time.Time // when an unfinished reconciliation is tried again
	tries := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		now := time.Now()
		wait = nightAsleep
		if n.unset() {
			continue
		}
		// A time in the future was written by a clock that was wrong.
		late := func(done, due time.Time) bool { return done.Before(due) || done.After(now.Add(time.Hour)) }
		due, next := n.due(now, nightRetry)
		wait = min(wait, next.Sub(now))
		if late(n.state.Retried, due) {
			if put, err := retryParked(n.outbox, ""); err != nil {
				n.log.Error("parked punches could not be put back; tried again tomorrow", "err", err)
			} else if put > 0 {
				n.log.Info("parked punches are offered again, as every night", "punches", put)
			}
			n.state.Retried = now
			n.save()
		}
		due, next = n.due(now, nightReconcile)
		wait = min(wait, next.Sub(now))
		retry := !again.IsZero() && !now.Before(again)
		if !retry && !late(n.state.Reconciled, due) {
			continue
		}
		if !retry {
			tries = 0
		}
		again = time.Time{}
		tries++
		finished := n.reconcile(ctx, now)
		if ctx.Err() != nil {
			return nil
		}
		if !finished && tries < nightTries {
			again = now.Add(nightAgain)
		}
		n.state.Reconciled = now
		n.save()
	}
}

// reconcile looks at yesterday and the day before.
func (n *nightly) reconcile(ctx context.Context, now time.Time) (finished bool) {
	today := midnight(now.In(n.cfg.Device.Timezone), 0)
	out, err := n.rec.run(ctx, span{days: []time.Time{midnight(today, -2), midnight(today, -1)}, end: today}, "", false)
	if err != nil {
		if ctx.Err() == nil {
			n.log.Error("the nightly reconciliation could not read the log", "err", err)
		}
		return false
	}
	for _, d := range out.Destinations {
		if !d.Finished {
			return false
		}
	}
	return true
}

// retryParked puts back every parked punch that a far side may take by now: whatever
// it was refused for may have been corrected there. Those by unknown badges need the
// roster to know them first; those whose time is not known wait for a person. It
// returns how many were put back.
//
// dest is one destination's name, or "" for all of them.
func retryParked(o *queue.Outbox, dest string) (int, error) {
	n, err := o.Relink()
	if err != nil {
		return n, err
	}
	parked, err := o.Parked(dest)
	if err != nil {
		return n, err
	}
	ids := map[string][]punch.ID{}
	for _, p := range parked {
		if !p.Again && p.Reason != punch.ReasonTimeUncertain && p.Reason != punch.ReasonUnknownBadge {
			ids[p.Destination] = append(ids[p.Destination], p.ID)
		}
	}
	for dest, list := range ids {
		put, err := o.Retry(dest, list...)
		n += put
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
