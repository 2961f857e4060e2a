package queue

import (
	"context"
	"errors"
	"testing"

	"punchclock/queue/punch"
)

// deliver settles everything that is next at dest and returns the ids in order.
func deliver(t *testing.T, b *Outbox, dest string) (ids []punch.ID) {
	t.Helper()
	for {
		ps, err := b.Next(dest, 50)
		if err != nil {
			t.Fatal(err)
		}
		if len(ps) == 0 {
			return ids
		}
		var vs []punch.Verdict
		for _, p := range ps {
			ids = append(ids, p.ID)
			vs = append(vs, punch.Verdict{ID: p.ID, Fate: punch.Accept, Receipt: "r-" + string(p.ID), Attempts: 1})
		}
		if err := b.Settle(dest, vs); err != nil {
			t.Fatal(err)
		}
	}
}

func stateOf(t *testing.T, b *Outbox, dest string, seq uint64) (r punch.Receipt) {
	t.Helper()
	err := b.Read(context.Background(), seq, func(e Entry) error {
		if e.Seq == seq {
			r = e.Deliveries[dest]
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestADeliveredPunchIsOpenedAgainAndSentInItsOldPlaceAfterARestart(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir})
	appendN(t, b, 0, 20)
	deliver(t, b, "feishu")
	appendN(t, b, 20, 1)
	n, err := b.Resend("feishu", punch.NewID("test-1", 7), punch.NewID("test-1", 3), punch.NewID("test-1", 7))
	if n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := b.Resend("feishu", punch.NewID("test-1", 7)); n != 0 || err != nil {
		t.Errorf("a second time: %d, %v", n, err)
	}
	if s := b.Stats().Destinations; s["feishu"].Pending != 3 || s["feishu"].Parked != 0 || s["104"].Pending != 21 {
		t.Errorf("%+v", s)
	}
	if r := stateOf(t, b, "feishu", 3); r.State != punch.Pending || r.Reason != reasonResend {
		t.Errorf("%+v", r)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b = open(t, Options{Dir: dir})
	if got := deliver(t, b, "feishu"); len(got) != 3 || got[0] != punch.NewID("test-1", 3) || got[1] != punch.NewID("test-1", 7) || got[2] != punch.NewID("test-1", 21) {
		t.Fatalf("sent %q", got)
	}
	if r := stateOf(t, b, "feishu", 3); r.State != punch.Delivered || !r.Resent || r.Attempts != 2 || r.Receipt == "" {
		t.Errorf("%+v", r)
	}
	if r := stateOf(t, b, "feishu", 4); r.State != punch.Delivered || r.Resent || r.Attempts != 1 {
		t.Errorf("the neighbour: %+v", r)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, Options{Dir: dir})
	if got := deliver(t, b, "feishu"); len(got) > 0 {
		t.Errorf("sent again: %q", got)
	}
}

func TestOnlyWhatCountsAsDeliveredIsOpenedAgain(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir()})
	appendN(t, b, 0, 4)
	id := func(n uint64) punch.ID { return punch.NewID("test-1", n) }
	if err := b.Settle("104", []punch.Verdict{{ID: id(1), Fate: punch.Skip}, {ID: id(2), Fate: punch.Refuse, Reason: "emp_no_unknown", Message: "員工編號不存在"}, {ID: id(3), Fate: punch.Accept}}); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Resend("104", id(1), id(2), id(3), id(4)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if r := stateOf(t, b, "104", 2); r.State != punch.Parked || r.Reason != "emp_no_unknown" {
		t.Errorf("%+v", r)
	}
	if _, err := b.Resend("nowhere", id(3)); !errors.Is(err, ErrNoDestination) {
		t.Error(err)
	}
	for _, bad := range []punch.ID{"other-000000000001", "test-1-000000000009", "test-1-000000000000", "x"} {
		if n, err := b.Resend("104", bad); n != 0 || err == nil {
			t.Errorf("%s: %d, %v", bad, n, err)
		}
	}
	// Refused this time: it is parked with the far side's words, like any other.
	if err := b.Settle("104", []punch.Verdict{{ID: id(3), Fate: punch.Refuse, Reason: "emp_no_unknown", Attempts: 1}, {ID: id(4), Fate: punch.Accept}}); err != nil {
		t.Fatal(err)
	}
	if s := b.Stats().Destinations["104"]; s.Pending != 0 || s.Parked != 2 {
		t.Errorf("%+v", s)
	}
	if r := stateOf(t, b, "104", 3); r.State != punch.Parked || r.Reason != "emp_no_unknown" || !r.Resent {
		t.Errorf("%+v", r)
	}
}

// The punch may lie in an older file than the one that is written.
func TestAPunchOfAnOlderSegmentIsOpenedAgain(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir, SegmentRecords: 10, ahead: 64 << 10})
	for i := range 5 {
		appendN(t, b, i*10, 10)
		deliver(t, b, "feishu")
		if err := b.tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.firsts) < 3 {
		t.Fatalf("segments from %v", b.firsts)
	}
	if n, err := b.Resend("feishu", punch.NewID("test-1", 2), punch.NewID("test-1", 44)); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if got := deliver(t, b, "feishu"); len(got) != 2 || got[0] != punch.NewID("test-1", 2) || got[1] != punch.NewID("test-1", 44) {
		t.Errorf("sent %q", got)
	}
	for _, seq := range []uint64{2, 44} {
		if r := stateOf(t, b, "feishu", seq); r.State != punch.Delivered || !r.Resent {
			t.Errorf("%d: %+v", seq, r)
		}
	}
}
