package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/sandbox"
)

// night runs the nightly work beside the books until the function returned is called.
func (b *books) night(unset func() bool) (n *nightly, end func()) {
	b.t.Helper()
	if unset == nil {
		unset = func() bool { return false }
	}
	n = newNightly(b.c.cfg, b.c.log, b.c.outbox, b.c.reconciler, unset)
	ctx, cancel := context.WithCancel(b.t.Context())
	var g errgroup.Group
	g.Go(func() error { return n.run(ctx) })
	return n, func() {
		cancel()
		if err := g.Wait(); err != nil {
			b.t.Error(err)
		}
	}
}

// queries counts the days that Feishu was asked for.
func (b *books) queries() (n int) {
	for _, c := range b.fs.Calls() {
		if strings.HasSuffix(c.Path, "/query") {
			n++
		}
	}
	return n
}

func (b *books) until(day, hour, minute int) { time.Sleep(time.Until(b.at(day, hour, minute))) }

func TestEveryNightTheTwoDaysBeforeAreReconciledAtTheDevicesOwnMinute(t *testing.T) {
	withBooks(t, 2, func(b *books) {
		b.punch(0, b.at(20, 9, 0))
		b.punch(1, b.at(21, 9, 0))
		b.settled()
		n, end := b.night(nil)
		b.until(21, 12, 0) // the first time, soon after the start: the 19th and the 20th
		if got := b.queries(); got != 1 {
			t.Errorf("%d queries after the start", got)
		}
		begin := b.at(22, 0, 0).Add(nightReconcile + n.spread())
		if n.spread() >= time.Hour || n.spread() == 0 {
			t.Errorf("spread %v", n.spread())
		}
		time.Sleep(time.Until(begin) - time.Second)
		if got := b.queries(); got != 1 {
			t.Errorf("%d queries before its minute", got)
		}
		time.Sleep(10 * time.Second)
		if got := b.queries(); got != 3 {
			t.Errorf("%d queries after its minute", got)
		}
		if s := b.c.reconciler.status("feishu"); s.Since != "2026-11-20" || s.Day != "2026-11-21" || s.Checked != 2 {
			t.Errorf("%+v", s)
		}
		end()

		// A restart does not do it again, and knows the result.
		b.stop()
		b.start()
		_, end = b.night(nil)
		if s := b.c.reconciler.status("feishu"); s == nil || s.Checked != 2 || s.Day != "2026-11-21" {
			t.Errorf("after a restart: %+v", s)
		}
		time.Sleep(2 * time.Hour)
		if got := b.queries(); got != 3 {
			t.Errorf("%d queries after a restart", got)
		}
		end()

		// Off at night: some minutes after it comes on.
		b.until(23, 8, 0)
		_, end = b.night(nil)
		time.Sleep(time.Hour)
		if s := b.c.reconciler.status("feishu"); s.Day != "2026-11-22" || b.queries() != 4 {
			t.Errorf("%+v, %d queries", s, b.queries())
		}
		end()
		if b, err := os.ReadFile(n.path()); err != nil || strings.Contains(string(b), "員工") {
			t.Errorf("%s %v", b, err)
		}
	})
}

func TestTwoClocksHaveDifferentMinutes(t *testing.T) {
	withBooks(t, 1, func(b *books) {
		seen := map[time.Duration]bool{}
		for _, id := range []string{"tpe-1f-lobby", "tpe-2f-lab", "khh-gate", "desk"} {
			cfg := *b.c.cfg
			cfg.Device.ID = id
			seen[(&nightly{cfg: &cfg}).spread()] = true
		}
		if len(seen) != 4 {
			t.Errorf("%v", seen)
		}
	})
}

func TestNothingIsReconciledWhileTheClockIsUnset(t *testing.T) {
	withBooks(t, 1, func(b *books) {
		b.punch(0, b.at(20, 9, 0))
		b.settled()
		set := b.at(22, 10, 0)
		_, end := b.night(func() bool { return time.Now().Before(set) })
		b.until(22, 9, 59)
		if b.queries() != 0 || b.c.reconciler.status("104") != nil {
			t.Errorf("%d queries", b.queries())
		}
		b.until(22, 10, 30)
		if b.queries() != 1 {
			t.Errorf("%d queries once it is set", b.queries())
		}
		end()
	})
}

func TestAnUnfinishedNightIsTriedAgainHourlyAndNotForEver(t *testing.T) {
	withBooks(t, 1, func(b *books) {
		b.punch(0, b.at(20, 9, 0))
		b.settled()
		b.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.FailNext, f.FailOn = -1, sandbox.OnBusiness })
		_, end := b.night(nil)
		b.until(21, 23, 0)
		if got := b.queries(); got != nightTries {
			t.Errorf("%d queries", got)
		}
		if s := b.c.reconciler.status("feishu"); s.Problem == "" || s.At != "" {
			t.Errorf("%+v", s)
		}
		b.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.FailNext = 0 })
		b.until(22, 6, 0)
		if s := b.c.reconciler.status("feishu"); s.Problem != "" || s.Checked != 1 || b.queries() != nightTries+1 {
			t.Errorf("%+v, %d queries", s, b.queries())
		}
		end()
	})
}

// refused makes three punches that nobody takes: of somebody HR has not entered, by
// an unknown badge, and of a boot that never learned the time.
func (b *books) refused() (stranger, badge, timeless punch.Punch) {
	b.t.Helper()
	b.tc.SetPeople(nil, false)
	b.fs.SetPeople(nil, false)
	stranger = b.punch(0, b.at(21, 9, 0))
	badge = b.append(punch.Draft{Badge: "em:0B0B0B0B0B", Outcome: punch.UnknownBadge, Stamp: punch.Stamp{Wall: b.at(21, 9, 1), Clock: punch.Synced}})
	timeless = b.append(punch.Draft{Badge: punch.Badge(b.people[1].badge()), Employee: b.people[1].number, Outcome: punch.Stored,
		Stamp: punch.Stamp{Wall: time.Unix(60, 0), BootID: [16]byte{3}, Clock: punch.Unset}})
	b.settled()
	for _, dest := range []string{"104", "feishu"} {
		for p, reason := range map[uint64]string{stranger.Seq: "", badge.Seq: punch.ReasonUnknownBadge, timeless.Seq: punch.ReasonTimeUncertain} {
			if r := b.delivery(p, dest); r.State != punch.Parked || reason != "" && r.Reason != reason {
				b.t.Fatalf("%s: %d: %+v", dest, p, r)
			}
		}
	}
	return stranger, badge, timeless
}

func (b *books) enter() {
	b.tc.SetPeople(sandbox.People("000001", "000002", "000099"), false)
	b.fs.SetPeople(sandbox.People("000001", "000002", "000099"), false)
}

func (b *books) wantStates(when string, states map[uint64]punch.DeliveryState) {
	b.t.Helper()
	for _, dest := range []string{"104", "feishu"} {
		for seq, want := range states {
			if r := b.delivery(seq, dest); r.State != want {
				b.t.Errorf("%s: %s: punch %d is %v, want %v (%+v)", when, dest, seq, r.State, want, r)
			}
		}
	}
}

func TestParkedPunchesAreOfferedAgainOnceANight(t *testing.T) {
	withBooks(t, 2, func(b *books) {
		stranger, badge, timeless := b.refused()
		n, end := b.night(nil)
		b.until(21, 14, 0) // once after the start, in vain
		if r := b.delivery(stranger.Seq, "104"); r.State != punch.Parked || r.Attempts != 2 {
			t.Errorf("%+v", r)
		}
		b.enter()
		time.Sleep(time.Until(b.at(22, 0, 0).Add(nightRetry + n.spread() - time.Second)))
		b.wantStates("before its minute", map[uint64]punch.DeliveryState{stranger.Seq: punch.Parked})
		time.Sleep(time.Minute)
		b.wantStates("in the night", map[uint64]punch.DeliveryState{stranger.Seq: punch.Delivered, badge.Seq: punch.Parked, timeless.Seq: punch.Parked})
		b.until(23, 12, 0)
		b.wantStates("a day later", map[uint64]punch.DeliveryState{stranger.Seq: punch.Delivered, badge.Seq: punch.Parked, timeless.Seq: punch.Parked})
		if len(b.tc.Ledger()) != 1 || len(b.fs.Ledger()) != 1 {
			t.Errorf("104 has %d, Feishu %d", len(b.tc.Ledger()), len(b.fs.Ledger()))
		}
		end()
	})
}

func TestParkedPunchesAreOfferedAgainWhenTheRosterChanges(t *testing.T) {
	withBooks(t, 2, func(b *books) {
		stranger, badge, timeless := b.refused()
		b.enter()
		time.Sleep(time.Hour)
		b.wantStates("before", map[uint64]punch.DeliveryState{stranger.Seq: punch.Parked, badge.Seq: punch.Parked, timeless.Seq: punch.Parked})
		if _, err := b.c.roster.Replace([]*roster.Row{{Employee: punch.Employee{Number: "000099", Name: "新人", Badges: []punch.Badge{"em:0B0B0B0B0B"}, Active: true}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		b.wantStates("after", map[uint64]punch.DeliveryState{stranger.Seq: punch.Delivered, badge.Seq: punch.Delivered, timeless.Seq: punch.Parked})
		for _, r := range b.tc.Ledger() {
			if string(r.Raw) == "" || strings.Contains(string(r.Raw), "000002") {
				t.Errorf("%s", r.Raw)
			}
		}
	})
}
