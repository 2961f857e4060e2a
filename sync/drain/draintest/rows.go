package draintest

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/sync/drain"
)

// Row is one row of a contract's table: a fault that the far side commits for an
// hour, with the whole engine before it, and what must come of it. The row's test is
// found by its name: the section, the code, the words.
type Row struct {
	Name string
	// Fault commits the fault, Mend ends it. They are called in the bubble.
	Fault, Mend func()
	// Before, if set, has this many of the people's punches delivered before the fault,
	// so that a token is there.
	Before int
	People []string // who punches; none: three of them, P1 P2 P3

	State string // of the destination at the end of the hour: ok, retrying, auth_failed, misconfigured
	Calls int    // most calls in that hour
	Least int    // and fewest, for a row that ends well without its fault, too: so many only with it
	While string // what has come of each punch by then, as Fates says; "" keeps all
	After string // and an hour after it was mended; "" accepts all that was kept
	Words string // part of what status says: for a state that calls a person, the remedy
}

// RowDesk is a destination and what a row looks at.
type RowDesk struct {
	Dest    drain.Destination
	Calls   func() int // that the far side has seen
	Secrets []string   // in no status and no log line
}

var rowBegin = time.Date(2025, 12, 23, 8, 0, 0, 987_654_321, time.FixedZone("", 8*3600))

// Rows runs each row in a bubble of its own. open builds destination and far side; it
// returns the rows with their faults bound to that far side, in the same order every
// time.
func Rows(t *testing.T, open func(t *testing.T) (RowDesk, []Row)) {
	var names []string
	synctest.Test(t, func(t *testing.T) {
		_, rows := open(t)
		for _, r := range rows {
			if slices.Contains(names, r.Name) {
				t.Fatalf("two rows are named %q", r.Name)
			}
			names = append(names, r.Name)
		}
	})
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				desk, rows := open(t)
				rows[i].run(t, desk)
			})
		})
	}
}

func (r Row) run(t *testing.T, d RowDesk) {
	if len(r.People) == 0 {
		r.People = []string{"P1", "P2", "P3"}
	}
	ps := Numbered(rowBegin, r.People...)
	log, logged := &Log{}, bytes.Buffer{}
	w := drain.NewWorker(drain.Config{Name: "far", Log: log, Dest: d.Dest, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	fates := func() string {
		vs := log.Verdicts("far")
		var out []string
		for _, p := range ps {
			if v, ok := vs[p.ID]; ok {
				out = append(out, word(v.Fate.String(), v.Reason))
			} else {
				out = append(out, "-")
			}
		}
		return strings.Join(out, " ")
	}
	all := func(s string) string { return strings.TrimSpace(strings.Repeat(s+" ", len(ps))) }
	fresh := ps[r.Before:]
	log.Append(ps[:r.Before]...)
	time.Sleep(time.Minute)
	before := d.Calls()
	r.Fault()
	log.Append(fresh...)
	time.Sleep(time.Hour)

	if r.While == "" {
		r.While = strings.TrimSpace(strings.Repeat("accept ", r.Before) + strings.Repeat("- ", len(fresh)))
	}
	if got := fates(); got != r.While {
		t.Errorf("after an hour of it %q, want %q", got, r.While)
	}
	s := w.Status()
	if s.State != r.State || !strings.Contains(s.LastError, r.Words) || (s.State == drain.OK) != (s.LastError == "") {
		t.Errorf("status %+v; want %s with %q", s, r.State, r.Words)
	}
	if s.State != drain.OK && s.State != drain.Retrying && !strings.HasSuffix(s.LastError, ")") {
		t.Errorf("the remedy was cut off, or is missing: %q", s.LastError)
	}
	if n := d.Calls() - before; n > r.Calls || n < max(1, r.Least) {
		t.Errorf("%d calls in an hour, want %d to %d", n, max(1, r.Least), r.Calls)
	}
	if r.Mend != nil {
		r.Mend()
	}
	time.Sleep(time.Hour + time.Minute)
	if r.After == "" {
		r.After = r.While
		if strings.Contains(r.While, "-") {
			r.After = all("accept")
		}
	}
	if got := fates(); got != r.After {
		t.Errorf("an hour after it was mended %q, want %q", got, r.After)
	}
	if s := w.Status(); s.State != drain.OK {
		t.Errorf("an hour after it was mended %+v", s)
	}
	for _, secret := range d.Secrets {
		if strings.Contains(logged.String(), secret) || strings.Contains(s.LastError, secret) {
			t.Errorf("log or status hold %q: %s\n%s", secret, s.LastError, logged.String())
		}
	}
}

func word(fate, reason string) string {
	if reason != "" {
		return fate + ":" + reason
	}
	return fate
}
