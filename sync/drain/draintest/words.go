package draintest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// What tests of destinations say in common, as words that a table can hold.

// Numbered makes one punch per employee number, a minute apart from begin on, of
// all four kinds in turn.
func Numbered(begin time.Time, numbers ...string) []punch.Punch {
	var ps []punch.Punch
	for i, n := range numbers {
		p := punch.Punch{Seq: uint64(i + 1), ID: punch.NewID("lobby", uint64(i+1))}
		p.Draft = punch.Draft{Kind: punch.Kinds[i%len(punch.Kinds)], Employee: n, Reader: "front", Outcome: punch.Stored,
			Stamp: punch.Stamp{Wall: begin.Add(time.Duration(i) * time.Minute), Clock: punch.Synced}}
		ps = append(ps, p)
	}
	return ps
}

// Fates writes what came of a batch as "accept skip refuse:reason -", a dash for a
// punch without a verdict. Two verdicts about one punch, or one about a punch that
// was not offered, fail the test.
func Fates(t testing.TB, ps []punch.Punch, vs []punch.Verdict) string {
	t.Helper()
	by := map[punch.ID]punch.Verdict{}
	for _, v := range vs {
		if _, twice := by[v.ID]; twice {
			t.Errorf("two verdicts about %s", v.ID)
		}
		by[v.ID] = v
	}
	var out []string
	for _, p := range ps {
		v, ok := by[p.ID]
		switch {
		case !ok || v.Fate == punch.Keep:
			out = append(out, "-")
		case v.Fate == punch.Refuse:
			out = append(out, "refuse:"+v.Reason)
		default:
			out = append(out, v.Fate.String())
		}
		delete(by, p.ID)
	}
	if len(by) > 0 {
		t.Errorf("verdicts about punches that were not offered: %v", by)
	}
	return strings.Join(out, " ")
}

// KindOf names the kind of a Send's error: denied:state, busy:wait, outage, or "".
func KindOf(err error) string {
	var denied *token.Denied
	var busy *drain.Busy
	switch {
	case err == nil:
		return ""
	case errors.As(err, &denied):
		if denied.Hint == "" {
			return "denied without a hint"
		}
		return "denied:" + denied.State
	case errors.As(err, &busy):
		return "busy:" + busy.After.String()
	}
	return "outage"
}
