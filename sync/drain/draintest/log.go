package draintest

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
)

// Log is an outbox in memory. Its zero value is empty and ready. It is safe for
// concurrent use; the fields are to be set before.
type Log struct {
	// Failing, if set, is called by Next and Settle, "next" or "settle", and its
	// error is theirs.
	Failing func(what string) error

	mu      sync.Mutex
	punches []punch.Punch
	settled map[string]map[punch.ID]punch.Verdict
	changed chan struct{}
}

// Append adds punches and wakes everybody.
func (l *Log) Append(ps ...punch.Punch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.punches = append(l.punches, ps...)
	slices.SortFunc(l.punches, func(a, b punch.Punch) int { return cmp.Compare(a.Seq, b.Seq) })
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Next implements drain.Log.
func (l *Log) Next(dest string, max int) ([]punch.Punch, error) {
	if l.Failing != nil {
		if err := l.Failing("next"); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var ps []punch.Punch
	for _, p := range l.punches {
		if _, ok := l.settled[dest][p.ID]; !ok && len(ps) < max {
			ps = append(ps, p)
		}
	}
	return ps, nil
}

// Settle implements drain.Log. A verdict about an unknown punch is an error, and
// so is one that contradicts an earlier one.
func (l *Log) Settle(dest string, vs []punch.Verdict) error {
	if l.Failing != nil {
		if err := l.Failing("settle"); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range vs {
		if !slices.ContainsFunc(l.punches, func(p punch.Punch) bool { return p.ID == v.ID }) {
			return errors.New("settle: no such punch: " + string(v.ID))
		}
		if old, ok := l.settled[dest][v.ID]; ok && old.Fate != v.Fate {
			return errors.New("settle: a second verdict on " + string(v.ID))
		}
	}
	for _, v := range vs {
		if v.Fate == punch.Keep {
			continue
		}
		if l.settled == nil {
			l.settled = make(map[string]map[punch.ID]punch.Verdict)
		}
		if l.settled[dest] == nil {
			l.settled[dest] = make(map[punch.ID]punch.Verdict)
		}
		l.settled[dest][v.ID] = v
	}
	return nil
}

// Changed implements drain.Log.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// Verdicts returns the verdicts of dest that were settled.
func (l *Log) Verdicts(dest string) map[punch.ID]punch.Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[punch.ID]punch.Verdict)
	for id, v := range l.settled[dest] {
		m[id] = v
	}
	return m
}

var _ drain.Log = (*Log)(nil)
