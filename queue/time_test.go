package queue

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"punchclock/queue/punch"
)

// unset is the n-th tap, made by a boot whose clock nobody has set.
func unset(n int, boot byte, uptime time.Duration) punch.Draft {
	d := draft(n)
	d.Stamp = punch.Stamp{Wall: time.UnixMilli(1000).Add(uptime), BootID: [16]byte{boot}, Uptime: uptime, Clock: punch.Unset, ErrorBound: punch.MaxErrorBound}
	return d
}

// sure is one whose clock is right.
func sure(n int, boot byte, wall time.Time, uptime time.Duration) punch.Draft {
	d := draft(n)
	d.Stamp = punch.Stamp{Wall: wall, BootID: [16]byte{boot}, Uptime: uptime, Clock: punch.Synced, ErrorBound: 20 * time.Millisecond}
	return d
}

// park offers what is there and parks what has no time, as a worker does.
func park(t *testing.T, b *Outbox, dest string) {
	t.Helper()
	ps, err := b.Next(dest, 100)
	if err != nil {
		t.Fatal(err)
	}
	var v []punch.Verdict
	for _, p := range ps {
		if p.Uncertain {
			v = append(v, punch.Verdict{ID: p.ID, Fate: punch.Refuse, Reason: punch.ReasonTimeUncertain})
		} else {
			v = append(v, punch.Verdict{ID: p.ID, Fate: punch.Accept})
		}
	}
	if err := b.Settle(dest, v); err != nil {
		t.Fatal(err)
	}
}

var evening = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)

// lostBoot is a punch, two of a boot that never learned the time, and one of the next morning.
func lostBoot(t *testing.T, o Options) *Outbox {
	t.Helper()
	o.BootID = [16]byte{3}
	b := open(t, o)
	for _, d := range []punch.Draft{sure(1, 1, evening, time.Hour), unset(2, 2, time.Minute), unset(3, 2, 11*time.Minute), sure(4, 3, evening.Add(14*time.Hour), 30*time.Second)} {
		if _, err := b.Append(d); err != nil {
			t.Fatal(err)
		}
	}
	park(t, b, "104")
	return b
}

func TestParkedPunchOfALostBootShowsBetweenWhichItWasMade(t *testing.T) {
	b := lostBoot(t, Options{Dir: t.TempDir()})
	ps, err := b.Parked("104")
	if err != nil || len(ps) != 2 || ps[0].Reason != punch.ReasonTimeUncertain {
		t.Fatalf("%+v %v", ps, err)
	}
	got := ps[1].Bounds
	if !got.From.Equal(evening.Add(11*time.Minute-20*time.Millisecond)) || !got.To.Equal(evening.Add(14*time.Hour-30*time.Second+20*time.Millisecond)) {
		t.Errorf("between %v and %v", got.From, got.To)
	}
	taipei := time.FixedZone("", 8*3600)
	if w := got.Words(taipei); w != "after punch test-1-000000000001 (2026-11-22 02:00:00), before the boot of punch test-1-000000000004 (2026-11-22 15:59:30)" {
		t.Error(w)
	}
}

func TestWithoutALaterPunchTheRunningBootIsTheBound(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir(), BootID: [16]byte{3}})
	b.Append(unset(1, 2, time.Minute))
	park(t, b, "104")
	words := func() string {
		ps, err := b.Parked("104")
		if err != nil || len(ps) != 1 {
			t.Fatalf("%+v %v", ps, err)
		}
		return ps[0].Bounds.Words(time.UTC)
	}
	if w := words(); w != "no punch around it has a time that is certain" {
		t.Error(w)
	}
	b.SetBootTime([16]byte{3}, evening)
	if w := words(); w != "before this boot (2026-11-21 18:00:00)" {
		t.Error(w)
	}
}

func TestPersonsDecisionIsDeliveredOnceGivenNeverChangesAndOutlivesEverything(t *testing.T) {
	dir := t.TempDir()
	b := lostBoot(t, Options{Dir: dir})
	id, at := punch.NewID("test-1", 2), evening.Add(15*time.Minute)
	before, err := b.one(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []time.Time{evening, evening.Add(14 * time.Hour)} {
		if _, err := b.SettleTime(id, TimeDecision{Time: wrong}); !errors.Is(err, ErrTimeBounds) || !strings.Contains(err.Error(), "after punch test-1-000000000001") {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	if n, err := b.SettleTime(id, TimeDecision{Time: at, By: "hr", Boot: true}); err != nil || n != 2 {
		t.Fatalf("%d %v", n, err)
	}
	check := func(what string) {
		t.Helper()
		for i, want := range []time.Time{at, at.Add(10 * time.Minute)} {
			p, err := b.one(uint64(2 + i))
			if err == nil {
				err = b.complete(&p)
			}
			if err != nil || p.Uncertain || !p.Time().Equal(want) || p.CorrectedBy != "hr" || p.CorrectedAt.IsZero() {
				t.Errorf("%s: %+v %v, want %v", what, p, err, want)
			}
			if i == 0 && (p.Hash != before.Hash || !p.Stamp.Wall.Equal(before.Stamp.Wall)) {
				t.Errorf("%s: the original was touched", what)
			}
		}
	}
	check("given")
	if ps, err := b.Next("104", 10); err != nil || len(ps) != 2 || ps[0].Uncertain || ps[0].Seq != 2 {
		t.Errorf("put back: %+v %v", ps, err)
	}
	if _, err := b.SettleTime(id, TimeDecision{Time: at.Add(time.Minute), Force: true}); !errors.Is(err, ErrTimeSettled) {
		t.Errorf("another word: %v", err)
	}
	if _, err := b.SettleTime(id, TimeDecision{Time: at, By: "somebody else"}); err != nil {
		t.Errorf("the same word again: %v", err)
	}
	// A verdict that was on its way meanwhile does not park it again.
	if err := b.Settle("104", []punch.Verdict{{ID: id, Fate: punch.Refuse, Reason: punch.ReasonTimeUncertain}}); err != nil {
		t.Fatal(err)
	}
	if ps, _ := b.Next("104", 10); len(ps) != 2 {
		t.Errorf("parked by a late verdict: %+v", ps)
	}
	b.Close()
	b = open(t, Options{Dir: dir, BootID: [16]byte{4}})
	check("after a restart")
	next := filepath.Join(dir, "next.db.new")
	err = makeEmpty(next, b.opt, func() error { return nil })
	b.wmu.Lock()
	err = errors.Join(err, b.roll(next, 0))
	b.wmu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	check("in the next segment")
	b.Close()
	b = open(t, Options{Dir: dir, BootID: [16]byte{4}})
	check("from an older segment")
	if err := b.mend(segmentPath(dir, 1), errors.New("test"), false); err != nil {
		t.Fatal(err)
	}
	clear(b.times)
	b.Close()
	b = open(t, Options{Dir: dir, BootID: [16]byte{4}})
	check("after a mend")
}

func TestTimeThatIsKnownIsNobodysToDecide(t *testing.T) {
	b := lostBoot(t, Options{Dir: t.TempDir()})
	b.Append(unset(5, 3, time.Minute)) // of this boot
	for _, seq := range []uint64{1, 4, 5} {
		if _, err := b.SettleTime(punch.NewID("test-1", seq), TimeDecision{Time: evening, Force: true}); !errors.Is(err, ErrTimeKnown) {
			t.Errorf("%d: %v", seq, err)
		}
	}
	if _, err := b.SettleTime("other-000000000002", TimeDecision{Time: evening}); err == nil {
		t.Error("another device's punch")
	}
	if n, err := b.SettleTime(punch.NewID("test-1", 2), TimeDecision{Time: evening.AddDate(-1, 0, 0), Force: true}); n != 1 || err != nil {
		t.Errorf("forced: %d %v", n, err)
	}
}

// The clock was set, one person tapped, and the power went before the boot's time
// was written down: the tap tells.
func TestBootLearnsItsTimeFromALaterPunchOfItsOwn(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir(), BootID: [16]byte{3}})
	b.Append(unset(1, 2, time.Minute))
	b.Append(sure(2, 2, evening, 5*time.Minute))
	ps, err := b.Next("104", 10)
	if err != nil || len(ps) != 2 || ps[0].Uncertain || !ps[0].Time().Equal(evening.Add(-4*time.Minute)) {
		t.Fatalf("%+v %v", ps, err)
	}
}

func FuzzDecision(f *testing.F) {
	f.Add(decision{time: evening, at: evening, by: "hr"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, ok := decodeDecision(b); ok {
			if again, ok := decodeDecision(d.encode()); !ok || !again.time.Equal(d.time) || again.by != d.by {
				t.Errorf("%+v became %+v", d, again)
			}
		}
	})
}
