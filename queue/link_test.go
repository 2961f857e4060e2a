package queue

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/queue/punch"
)

// auditDraft is an entry with every field in it.
func auditDraft() punch.Draft {
	d := draft(7)
	d.Kind, d.Raw, d.Bits, d.Outcome = 0, nil, 0, punch.AuditEntry
	d.Audit = punch.Audit{Act: punch.ActMove, From: "000003", By: "admin page", Seq: 300}
	return d
}

func TestWhatIsNoPunchIsStoredAsEvidenceThatAnOlderProgramKeepsAndNeverSends(t *testing.T) {
	audit := auditDraft()
	blocked := draft(8)
	blocked.Employee, blocked.Outcome = "", punch.BlockedBadge
	one, err := encodeRecord(8, genesis("tpe-1f-lobby"), &audit)
	if err != nil {
		t.Fatal(err)
	}
	two, err := encodeRecord(9, hashRecord(8, one), &blocked)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("audit 8\n%x\nblocked 9\n%x\n", one, two)
	name := filepath.Join("testdata", "audit-form.golden")
	want, err := os.ReadFile(name)
	if os.IsNotExist(err) && os.Getenv("UPDATE_GOLDEN") != "" {
		want, err = []byte(got), os.WriteFile(name, []byte(got), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the stored form has changed; outboxes in the field could not be read.\ngot:\n%swant:\n%s", got, want)
	}
	lines := strings.Split(string(want), "\n")
	c := Chain{Device: "tpe-1f-lobby"}
	for i, d := range []punch.Draft{audit, blocked} {
		v, _ := hex.DecodeString(lines[2*i+1])
		// To a program that knows no extension it is a whole duplicate with a kind.
		if v[0] != 1 || punch.Outcome(v[1]>>4) != punch.Duplicate || string(v[3:3+v[2]]) == "" {
			t.Errorf("%s: an older program would not keep it as evidence: % x", d.Outcome, v[:8])
		}
		p, ok := c.Add(uint64(8+i), v)
		if !ok || p.Outcome != d.Outcome || p.Audit != d.Audit || p.Kind != d.Kind || p.Badge != d.Badge || p.Employee != d.Employee {
			t.Errorf("decoded %+v of %+v", p.Draft, d)
		}
		if p.Outcome.Sent() {
			t.Errorf("%s is sent", p.Outcome)
		}
	}
	if len(c.Problems) != 0 || c.Records != 2 {
		t.Errorf("the chain: %+v", c)
	}
}

func TestAuditEntryWithoutAnActIsNotStored(t *testing.T) {
	for _, bad := range []func(*punch.Draft){
		func(d *punch.Draft) { d.Audit.Act = "" },
		func(d *punch.Draft) { d.Outcome, d.Kind = punch.Stored, punch.In },
		func(d *punch.Draft) { d.Audit.By = strings.Repeat("x", punch.MaxAuditBy+1) },
	} {
		d := auditDraft()
		bad(&d)
		if _, err := encodeRecord(1, genesis("x"), &d); err == nil {
			t.Errorf("stored: %+v", d.Audit)
		}
	}
}

// people is a roster that changes.
type people struct {
	mu    sync.Mutex
	known map[punch.Badge]string
}

func (p *people) who(b punch.Badge, _ time.Time) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.known[b]
	return e, ok
}

func (p *people) is(b punch.Badge, employee string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, b)
	if employee != "" {
		p.known[b] = employee
	}
}

// Three mornings before HR writes the card beside the wrong person, and before anything
// is sent: afterwards it is as if that had never been.
func TestWrongLinkIsUndoneAsLongAsNothingCanHaveLeft(t *testing.T) {
	dir := t.TempDir()
	roster := &people{known: map[punch.Badge]string{}}
	o := Options{Dir: dir, Who: roster.who}
	b := open(t, o)
	var ids []punch.ID
	var card punch.Badge
	for n := range 3 {
		d := draft(1)
		d.Tap = punch.Tap{byte(n + 1)}
		d.Stamp.Wall = d.Stamp.Wall.AddDate(0, 0, n)
		d.Employee, d.Outcome, card = "", punch.UnknownBadge, d.Badge
		p, err := b.Append(d)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID)
		for _, dest := range []string{"104", "feishu"} {
			if err := b.Settle(dest, []punch.Verdict{{ID: p.ID, Fate: punch.Refuse, Reason: punch.ReasonUnknownBadge}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	roster.is(card, "000001")
	if n, err := b.Relink(); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if got := b.Linked("000001"); len(got) != 3 || got[0].Linked.IsZero() {
		t.Fatalf("linked: %+v", got)
	}
	roster.is(card, "")
	for _, id := range ids {
		if by, err := b.Unlink(id); by != nil || err != nil {
			t.Fatalf("%s: %v %v", id, by, err)
		}
	}
	b.Close()
	b = open(t, o)
	for _, dest := range []string{"104", "feishu"} {
		if ps, err := b.Next(dest, 10); err != nil || len(ps) != 0 {
			t.Errorf("%s is offered %+v, %v", dest, ps, err)
		}
	}
	if _, err := b.Unlink(ids[0]); err == nil {
		t.Error("a punch that is nobody's was taken from somebody")
	}
	roster.is(card, "000002")
	if n, err := b.Relink(); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	b.Close()
	b = open(t, o)
	for _, dest := range []string{"104", "feishu"} {
		ps, err := b.Next(dest, 10)
		if err != nil || len(ps) != 3 {
			t.Fatalf("%s: %+v %v", dest, ps, err)
		}
		for i, p := range ps {
			if p.ID != ids[i] || p.Employee != "000002" {
				t.Errorf("%s: punch %d is %s of %s", dest, i, p.ID, p.Employee)
			}
		}
	}
}

func TestWrongLinkThatOneFarSideHasIsSupersededForTheOthers(t *testing.T) {
	roster := &people{known: map[punch.Badge]string{}}
	b := open(t, Options{Dir: t.TempDir(), Who: roster.who})
	d := draft(1)
	d.Employee, d.Outcome = "", punch.UnknownBadge
	roster.is(d.Badge, "000001")
	p, err := b.Append(d)
	if err != nil {
		t.Fatal(err)
	}
	if ps, err := b.Next("104", 10); err != nil || len(ps) != 1 || ps[0].Employee != "000001" {
		t.Fatal(ps, err)
	}
	if err := b.Settle("104", []punch.Verdict{{ID: p.ID, Fate: punch.Accept}}); err != nil {
		t.Fatal(err)
	}
	roster.is(d.Badge, "")
	by, err := b.Unlink(p.ID)
	if err != nil || by == nil || by.Supersedes != p.Seq || by.Employee != "" || !by.Time().Equal(p.Time()) {
		t.Fatalf("%+v %v", by, err)
	}
	roster.is(d.Badge, "000002")
	ps, err := b.Next("feishu", 10)
	if err != nil || len(ps) != 2 || ps[0].SupersededBy != by.Seq || ps[1].Employee != "000002" {
		t.Errorf("the far side that has nothing is offered %+v, %v", ps, err)
	}
	ps, err = b.Next("104", 10)
	if err != nil || len(ps) != 1 || ps[0].ID != by.ID || ps[0].Employee != "000002" {
		t.Errorf("the far side that has the wrong one is offered %+v, %v", ps, err)
	}
}

func TestLinkThatWasUndoneInANewerFileStaysUndone(t *testing.T) {
	roster := &people{known: map[punch.Badge]string{}}
	o := Options{Dir: t.TempDir(), Who: roster.who, SegmentRecords: 8}
	b := open(t, o)
	d := draft(1)
	d.Employee, d.Outcome = "", punch.UnknownBadge
	p, err := b.Append(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, dest := range []string{"104", "feishu"} {
		if err := b.Settle(dest, []punch.Verdict{{ID: p.ID, Fate: punch.Refuse, Reason: punch.ReasonUnknownBadge}}); err != nil {
			t.Fatal(err)
		}
	}
	roster.is(d.Badge, "000001")
	if n, err := b.Relink(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	first := b.segmentOf(p.Seq)
	for n := 2; b.segmentOf(b.Stats().LastSeq) == first; n++ {
		appendN(t, b, n, 1)
		if err := b.Tidy(); err != nil {
			t.Fatal(err)
		}
	}
	roster.is(d.Badge, "")
	if by, err := b.Unlink(p.ID); by != nil || err != nil {
		t.Fatal(by, err)
	}
	b.Close()
	b = open(t, o)
	if got := b.Linked("000001"); len(got) != 0 {
		t.Errorf("the old file's word counts again: %+v", got)
	}
}

// A new hire's card on three mornings before HR links it, with three destinations.
func TestThreeMorningsBeforeTheLinkAreDeliveredOnceEachInOrderEverywhere(t *testing.T) {
	roster := &people{known: map[punch.Badge]string{}}
	dests := []string{"104", "feishu", "signin"}
	dir := t.TempDir()
	o := Options{Dir: dir, Who: roster.who, Destinations: dests}
	b := open(t, o)
	got := map[string][]punch.Punch{}
	drain := func() {
		t.Helper()
		for _, dest := range dests {
			for {
				ps, err := b.Next(dest, 2)
				if err != nil {
					t.Fatal(err)
				}
				if len(ps) == 0 {
					break
				}
				for _, p := range ps {
					v := punch.Verdict{ID: p.ID, Fate: punch.Accept}
					if p.Employee == "" {
						v.Fate, v.Reason = punch.Refuse, punch.ReasonUnknownBadge
					} else {
						got[dest] = append(got[dest], p)
					}
					if err := b.Settle(dest, []punch.Verdict{v}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	var mornings []punch.Punch
	for n := range 3 {
		d := draft(1)
		d.Tap, d.Employee, d.Outcome = punch.Tap{byte(n + 1)}, "", punch.UnknownBadge
		d.Stamp.Wall = d.Stamp.Wall.AddDate(0, 0, n)
		p, err := b.Append(d)
		if err != nil {
			t.Fatal(err)
		}
		mornings = append(mornings, p)
		appendN(t, b, 10*n+2, 2) // others punch meanwhile
		drain()
	}
	for _, dest := range dests {
		for _, p := range got[dest] {
			if p.Badge == mornings[0].Badge {
				t.Errorf("%s had %s before anybody knew whose it is", dest, p.ID)
			}
		}
	}
	clear(got)
	roster.is(mornings[0].Badge, "000777")
	for range 2 { // said twice, and after a restart: still once
		if _, err := b.Relink(); err != nil {
			t.Fatal(err)
		}
		drain()
		b.Close()
		b = open(t, o)
	}
	drain()
	for _, dest := range dests {
		if len(got[dest]) != 3 {
			t.Errorf("%s got %d punches", dest, len(got[dest]))
			continue
		}
		for i, p := range got[dest] {
			if p.ID != mornings[i].ID || p.Employee != "000777" || !p.Time().Equal(mornings[i].Stamp.Wall) || p.Linked.IsZero() {
				t.Errorf("%s: punch %d is %+v", dest, i, p)
			}
		}
	}
}
