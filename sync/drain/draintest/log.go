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
	// Failing, if set, is called by Next, Settle and Offer with "next", "settle" or
	// "offer", and its error is theirs.
	Failing func(what string) error

	mu      sync.Mutex
	punches []punch.Punch
	settled map[string]map[punch.ID]punch.Verdict
	done    map[string]int        // how many of punches are settled without a gap
	offered map[string][]punch.ID // by the worker that is at work
	before  map[string][]punch.ID // by those before it
	changed chan struct{}
}

// Append adds punches and wakes everybody.
func (l *Log) Append(ps ...punch.Punch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.punches = append(l.punches, ps...)
	l.done = nil
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
	if l.done == nil {
		l.done = make(map[string]int)
	}
	for _, p := range l.punches[l.done[dest]:] {
		if len(ps) == max {
			break
		}
		if _, ok := l.settled[dest][p.ID]; ok {
			if len(ps) == 0 {
				l.done[dest]++
			}
		} else {
			p.Offered = slices.Contains(l.before[dest], p.ID)
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
		if _, seq, err := v.ID.Seq(); err != nil || !l.has(seq, v.ID) {
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

func (l *Log) has(seq uint64, id punch.ID) bool {
	i, ok := slices.BinarySearchFunc(l.punches, seq, func(p punch.Punch, seq uint64) int { return cmp.Compare(p.Seq, seq) })
	return ok && l.punches[i].ID == id
}

// Offer implements drain.Log.
func (l *Log) Offer(dest string, ids []punch.ID, sync bool) error {
	if l.Failing != nil {
		if err := l.Failing("offer"); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.offered == nil {
		l.offered = make(map[string][]punch.ID)
	}
	l.offered[dest] = slices.Clone(ids)
	return nil
}

// Killed says that the worker at work was killed: what it had offered may be at the
// far side.
func (l *Log) Killed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before == nil {
		l.before = make(map[string][]punch.ID)
	}
	for dest, ids := range l.offered {
		l.before[dest] = append(l.before[dest], ids...)
	}
	l.offered = nil
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
