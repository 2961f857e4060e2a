package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"punchclock/device/clock"
	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/sandbox"
)

// books is a clock's delivering half and both clouds, in virtual time: the real
// outbox, the real clients and the real engine.
type books struct {
	t      *testing.T
	c      *clockwork
	tc     *sandbox.TransferCard
	fs     *sandbox.Feishu
	loc    *time.Location
	taps   uint32
	stop   func()
	people []person
	logs   bytes.Buffer
}

// withBooks runs a test in a bubble at 09:00 on 21 November 2026 in Taipei.
func withBooks(t *testing.T, crowd int, test func(*books)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)))
		b := &books{t: t, people: people(crowd)}
		var known []sandbox.Person
		for _, p := range b.people {
			known = append(known, sandbox.People(p.number)...)
		}
		b.tc = sandbox.NewTransferCard(sandbox.TransferCardConfig{People: known})
		b.fs = sandbox.NewFeishu(sandbox.FeishuConfig{People: known})
		id104, secret104 := b.tc.Credentials()
		idFS, secretFS := b.fs.Credentials()
		h := &house{t: t, dir: dir}
		if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
			t.Fatal(err)
		}
		h.write("104-secret", secret104)
		h.write("feishu-secret", secretFS)
		cfg, err := loadConfig(h.write("punchclock.toml", strings.NewReplacer("ID104", id104, "IDFS", idFS, "batch = 20", "batch = 50").Replace(outageConfig)), built())
		if err != nil {
			t.Fatal(err)
		}
		b.loc = cfg.Device.Timezone
		b.c = &clockwork{cfg: cfg, log: slog.New(slog.NewTextHandler(&b.logs, nil)), metrics: newMetrics(),
			network: &clouds{tc: sandbox.Transport(b.tc), fs: sandbox.Transport(b.fs), cut: func(string) bool { return false }}}
		if b.c.clock, err = clock.New(clock.Config{Trust: clock.System}); err != nil {
			t.Fatal(err)
		}
		b.start()
		defer func() { b.stop() }()
		test(b)
	})
}

// start begins a life of the program, which stop ends.
func (b *books) start() {
	b.t.Helper()
	var err error
	c := b.c
	people := &directory{}
	c.outbox, err = queue.Open(queue.Options{Dir: outboxDir(c.cfg), Device: c.cfg.Device.ID, Destinations: []string{"104", "feishu"}, BootID: [16]byte{7}, Who: people.who})
	if err != nil {
		b.t.Fatal(err)
	}
	if c.roster, err = openRoster(c.cfg, c.log, nil); err != nil {
		b.t.Fatal(err)
	}
	people.set(c.roster)
	ctx, cancel := context.WithCancel(b.t.Context())
	var g errgroup.Group
	c.workers = nil
	for _, d := range c.cfg.Destinations {
		w := c.newWorker(d)
		c.workers = append(c.workers, w)
		g.Go(func() error { return w.Run(ctx) })
	}
	g.Go(func() error { return c.watchRoster(ctx) })
	c.reconciler = newReconciler(c.cfg, c.log, c.outbox, c.workers)
	b.stop = func() {
		cancel()
		if err := g.Wait(); err != nil {
			b.t.Error(err)
		}
		c.roster.Close()
		if err := c.outbox.Close(); err != nil {
			b.t.Error(err)
		}
	}
}

// punch stores one of the n-th person at this time of the wall clock.
func (b *books) punch(n int, at time.Time) punch.Punch {
	b.t.Helper()
	return b.append(punch.Draft{Badge: punch.Badge(b.people[n].badge()), Employee: b.people[n].number, Outcome: punch.Stored, Stamp: punch.Stamp{Wall: at, Clock: punch.Synced}})
}

func (b *books) append(d punch.Draft) punch.Punch {
	b.t.Helper()
	b.taps++
	d.Tap = punch.Tap{1, byte(b.taps >> 16), byte(b.taps >> 8), byte(b.taps)}
	d.Kind, d.Reader = punch.In, "front"
	if d.Stamp.BootID == ([16]byte{}) {
		d.Stamp.BootID = [16]byte{7}
	}
	p, err := b.c.outbox.Append(d)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// at is a time in November 2026, in Taipei.
func (b *books) at(day, hour, minute int) time.Time {
	return time.Date(2026, 11, day, hour, minute, 0, 0, b.loc)
}

// settled waits until nothing is pending.
func (b *books) settled() {
	b.t.Helper()
	for range 24 * 60 {
		time.Sleep(time.Minute)
		n := uint64(0)
		for _, d := range b.c.outbox.Stats().Destinations {
			n += d.Pending
		}
		if n == 0 {
			return
		}
	}
	b.t.Fatalf("not delivered: %+v\n%s", b.c.outbox.Stats().Destinations, b.logs.String())
}

// report reconciles and returns the part of one destination.
func (b *books) report(day int, dest string, resend bool) reconciled {
	b.t.Helper()
	d := b.at(day, 0, 0)
	out, err := b.c.reconciler.run(b.t.Context(), span{[]time.Time{d}, midnight(d, 1)}, dest, resend)
	if err != nil {
		b.t.Fatal(err)
	}
	return out.Destinations[0]
}

// feishu makes a call of somebody else's.
func (b *books) feishu(path string, body any) {
	b.t.Helper()
	client := http.Client{Transport: sandbox.Transport(b.fs)}
	call := func(path, tok string, body any) map[string]any {
		j, err := json.Marshal(body)
		if err != nil {
			b.t.Fatal(err)
		}
		req, _ := http.NewRequest("POST", "https://open.feishu.cn"+path, bytes.NewReader(j))
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
		req.Header.Set("Authorization", "Bearer "+tok)
		resp, err := client.Do(req)
		if err != nil {
			b.t.Fatal(err)
		}
		defer resp.Body.Close()
		var v map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || v["code"] != 0.0 {
			b.t.Fatalf("%s: %v, %v", path, v, err)
		}
		return v
	}
	id, secret := b.fs.Credentials()
	tok := call(sandbox.FeishuTokenPath, "", map[string]string{"app_id": id, "app_secret": secret})["tenant_access_token"].(string)
	call(path, tok, body)
}

// delete removes our punches there, as an administrator can.
func (b *books) delete(ids ...punch.ID) {
	b.t.Helper()
	var records []string
	for _, r := range b.fs.Ledger() {
		if slices.Contains(ids, punch.ID(r.Flow.IdempotentID)) && !r.Deleted {
			records = append(records, r.RecordID)
		}
	}
	b.feishu(sandbox.FeishuDeletePath, map[string]any{"record_ids": records})
}

// import_ stores a flow that the clock has not sent.
func (b *books) import_(user, key string, at time.Time) {
	b.t.Helper()
	b.feishu(sandbox.FeishuImportPath+"?employee_type=employee_no", map[string]any{"flow_records": []map[string]string{{"user_id": user, "creator_id": user,
		"location_name": "somewhere", "check_time": fmt.Sprint(at.Unix()), "comment": "x", "external_id": key, "idempotent_id": key}}})
}

func found(d reconciled) string {
	var out []string
	for _, f := range d.Findings {
		out = append(out, f.Finding+" "+f.Employee+" "+f.PunchID)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func TestReconciliationTellsMissingDoubledAndForeignRecordsApart(t *testing.T) {
	withBooks(t, 4, func(b *books) {
		var ps []punch.Punch
		for i := range 4 {
			ps = append(ps, b.punch(i, b.at(20, 9, i)))
		}
		b.settled()
		if d := b.report(20, "feishu", false); d.Counts != (reconcileCounts{Delivered: 4, Checked: 4}) || len(d.Findings) > 0 || !d.ReadBack || !d.Finished {
			t.Fatalf("before anything happened: %+v", d)
		}
		b.delete(ps[0].ID)
		b.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.Duplicates = sandbox.DuplicatesStoreTwice })
		b.import_("000002", string(ps[1].ID), ps[1].Time())
		b.import_("000003", "", b.at(20, 18, 0))                           // a phone
		b.import_("000004", "tpe-2f-lab-000000000007", b.at(20, 18, 0))    // another clock
		b.import_("000004", "tpe-1f-lobby-000000000999", b.at(20, 18, 30)) // made while we were reading
		d := b.report(20, "feishu", false)
		if want := (reconcileCounts{Delivered: 4, Checked: 4, Missing: 1, Doubled: 1, Extra: 2}); d.Counts != want || d.Days[0].reconcileCounts != want {
			t.Errorf("%+v", d.Counts)
		}
		want := "doubled 000002 " + string(ps[1].ID) + "\nextra 000003 \nextra 000004 tpe-2f-lab-000000000007\nmissing 000001 " + string(ps[0].ID)
		if got := found(d); got != want {
			t.Errorf("found\n%s\nwant\n%s", got, want)
		}
		for _, f := range d.Findings {
			if f.Finding == foundMissing && (!strings.Contains(f.Detail, "may wait for approval") || f.Receipt == "" || f.Time != "2026-11-20T09:00:00.000+08:00") {
				t.Errorf("%+v", f)
			}
			if f.Finding == foundExtra && f.PunchID != "" && f.Detail != "of clock tpe-2f-lab" {
				t.Errorf("%+v", f)
			}
		}
		if s := b.c.reconciler.status("feishu"); s == nil || s.Day != "2026-11-20" || s.Checked != 4 || s.Missing != 1 || s.Doubled != 1 || s.At == "" || s.Problem != "" {
			t.Errorf("status %+v", s)
		}
		if strings.Contains(b.logs.String(), "員工") {
			t.Error("a name is in the log")
		}
	})
}

func TestWhatIsNotShownIsSentAgainUnderItsOldIDAcrossARestart(t *testing.T) {
	withBooks(t, 3, func(b *books) {
		ps := []punch.Punch{b.punch(0, b.at(20, 9, 0)), b.punch(1, b.at(20, 9, 1)), b.punch(2, b.at(20, 9, 2))}
		b.settled()
		b.delete(ps[1].ID)
		b.fs.SetFaults(func(f *sandbox.FeishuFaults) { // not now
			f.Poison = map[string]sandbox.Refusal{"000002": {Status: 500, Code: 1226500, Msg: "punch service error"}}
		})
		// Two at once: the second waits for its turn, and finds it under way.
		var g errgroup.Group
		put := make([]int, 2)
		for i := range put {
			g.Go(func() error { put[i] = b.report(20, "feishu", true).PutBack; return nil })
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if put[0]+put[1] != 1 {
			t.Fatalf("put back %v", put)
		}
		b.stop()
		b.start()
		b.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.Poison, f.Duplicates = nil, sandbox.DuplicatesStoreTwice }) // what was deleted is forgotten there
		b.settled()
		d := b.report(20, "feishu", true)
		if d.Counts != (reconcileCounts{Delivered: 3, Resent: 1, Checked: 3}) {
			t.Errorf("%+v", d.Counts)
		}
		n := 0
		for _, r := range append(b.fs.Ledger(), b.fs.Repeats()...) {
			if r.Flow.IdempotentID == string(ps[1].ID) {
				n++
				if r.Flow.CheckTime != fmt.Sprint(ps[1].Time().Unix()) || r.Flow.UserID != "000002" {
					t.Errorf("%+v", r.Flow)
				}
			}
		}
		if n < 2 {
			t.Error("it was not sent again")
		}
		if r := b.delivery(ps[1].Seq, "feishu"); !r.Resent || r.Attempts < 2 {
			t.Errorf("%+v", r)
		}
		if r := b.delivery(ps[0].Seq, "feishu"); r.Resent {
			t.Errorf("a neighbour: %+v", r)
		}
	})
}

func (b *books) delivery(seq uint64, dest string) (r punch.Receipt) {
	b.t.Helper()
	if err := b.c.outbox.Read(b.t.Context(), seq, func(e queue.Entry) error {
		if e.Seq == seq {
			r = e.Deliveries[dest]
		}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
	return r
}

func TestADayBeginsAndEndsAtTheDevicesMidnight(t *testing.T) {
	withBooks(t, 1, func(b *books) {
		day := b.at(20, 0, 0)
		for _, at := range []time.Time{day.Add(-time.Second), day.Add(-time.Millisecond), day, day.Add(24*time.Hour - time.Second), day.Add(24*time.Hour - time.Millisecond), day.Add(24 * time.Hour)} {
			b.punch(0, at)
		}
		b.settled()
		for d, want := range map[int]int{19: 2, 20: 3, 21: 1} {
			for _, dest := range []string{"feishu", "104"} {
				if got := b.report(d, dest, false); got.Counts.Delivered != want || got.Counts.Missing+got.Counts.Extra+got.Counts.Doubled+got.Counts.Altered > 0 {
					t.Errorf("%s on the %dth: %+v %v", dest, d, got.Counts, got.Findings)
				}
			}
		}
	})
}

func TestAThousandPeopleAreReadBackInTwentyCallsWithinTheCeiling(t *testing.T) {
	withBooks(t, 1000, func(b *books) {
		for i := range 1000 {
			b.punch(i, b.at(20, 8, 0).Add(time.Duration(i)*time.Second))
		}
		for i := range 1000 {
			b.punch(i, b.at(20, 18, 0).Add(time.Duration(i)*time.Second))
		}
		b.settled()
		b.delete(punch.NewID("tpe-1f-lobby", 1), punch.NewID("tpe-1f-lobby", 1555))
		time.Sleep(2 * time.Second) // those were not the clock's calls
		before := b.fs.Counters()
		d := b.report(20, "feishu", false)
		if d.Counts != (reconcileCounts{Delivered: 2000, Checked: 2000, Missing: 2}) {
			t.Errorf("%+v", d.Counts)
		}
		queries := 0
		for _, c := range b.fs.Calls() {
			if strings.HasSuffix(c.Path, "/query") {
				queries++
			}
		}
		if queries != 20 {
			t.Errorf("%d queries", queries)
		}
		if after := b.fs.Counters(); after.WorstSecond > 10 || after.TokenCalls > before.TokenCalls {
			t.Errorf("%+v", after)
		}
	})
}

func TestAUsedUpQuotaEndsAReconciliationWithWhatIsKnown(t *testing.T) {
	withBooks(t, 120, func(b *books) {
		for i := range 120 {
			b.punch(i, b.at(20, 8, 0).Add(time.Duration(i)*time.Second))
		}
		b.settled()
		if d := b.report(20, "feishu", false); d.Counts.Checked != 120 {
			t.Fatalf("%+v", d.Counts)
		}
		b.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.QuotaExceeded = true })
		calls := len(b.fs.Calls())
		d := b.report(20, "feishu", true)
		if d.Finished || !strings.Contains(d.Problem, "quota") || d.Counts != (reconcileCounts{Delivered: 120, Unchecked: 120}) || d.PutBack != 0 {
			t.Errorf("%+v %q", d.Counts, d.Problem)
		}
		if n := len(b.fs.Calls()) - calls; n != 1 {
			t.Errorf("%d calls", n)
		}
		s := b.c.reconciler.status("feishu")
		if s.Checked != 120 || s.Missing != 0 || s.At == "" || !strings.Contains(s.Problem, "quota") {
			t.Errorf("status %+v", s)
		}
		if d := b.report(20, "104", false); !d.Finished || d.Counts.Delivered != 120 {
			t.Errorf("104: %+v", d)
		}
	})
}

func TestAReconciliationWaitsWhenItIsToldTo(t *testing.T) {
	withBooks(t, 60, func(b *books) {
		for i := range 60 {
			b.punch(i, b.at(20, 8, 0).Add(time.Duration(i)*time.Second))
		}
		b.settled()
		b.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.LimitNext, f.RateReset = 2, 5 })
		begin := time.Now()
		if d := b.report(20, "feishu", false); !d.Finished || d.Counts != (reconcileCounts{Delivered: 60, Checked: 60}) {
			t.Errorf("%+v %q", d.Counts, d.Problem)
		}
		if took := time.Since(begin); took < 10*time.Second {
			t.Errorf("it took %v", took)
		}
		b.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.LimitNext = -1 })
		if d := b.report(20, "feishu", false); d.Finished || d.Counts.Unchecked != 60 || d.Counts.Missing > 0 {
			t.Errorf("%+v %q", d.Counts, d.Problem)
		}
	})
}

// 104 takes the cards and the answer is lost: the clock must send them again, cannot
// know, and says so in the receipt, in the export and in the reconciliation.
func TestAnAcceptedThenCutCallTo104IsMarkedAsResentEverywhere(t *testing.T) {
	withBooks(t, 3, func(b *books) {
		b.tc.SetFaults(func(f *sandbox.TransferCardFaults) { f.CommitThenDrop = 1 })
		p := b.punch(0, b.at(20, 9, 0))
		b.settled()
		b.punch(1, b.at(20, 9, 1))
		b.settled()
		if n := len(b.tc.Repeats()); n != 1 {
			t.Fatalf("%d repeats", n)
		}
		if r := b.delivery(p.Seq, "104"); r.State != punch.Delivered || !r.Resent || r.Attempts != 2 {
			t.Errorf("receipt %+v", r)
		}
		b.stop()
		b.start() // the mark is on the medium
		var rows []exportRow
		if err := b.c.outbox.Read(b.t.Context(), 1, func(e queue.Entry) error {
			rows = append(rows, rowOf(e, "tpe-1f-lobby", b.loc))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !rows[0].Deliveries["104"].Resent || rows[1].Deliveries["104"].Resent || rows[0].Deliveries["feishu"].Resent {
			t.Errorf("export: %+v %+v", rows[0].Deliveries, rows[1].Deliveries)
		}
		d := b.report(20, "104", false)
		if d.ReadBack || d.Counts != (reconcileCounts{Delivered: 2, Resent: 1}) || found(d) != "resent 000001 "+string(p.ID) {
			t.Errorf("%+v\n%s", d.Counts, found(d))
		}
		if s := b.c.reconciler.status("104"); s.Resent != 1 || s.ReadBack {
			t.Errorf("status %+v", s)
		}
	})
}

func TestWhatIsParkedAndWhatIsHeldEarlyIsNotCalledMissing(t *testing.T) {
	withBooks(t, 2, func(b *books) {
		b.fs.SetPeople(sandbox.People("000001"), false)
		b.tc.SetPeople(sandbox.People("000001"), false)
		b.punch(0, b.at(20, 9, 0))
		b.settled() // in one call with the next, 104's answer would be unclear, and both be sent again
		p := b.punch(1, b.at(20, 9, 1))
		b.settled()
		b.fs.SetPeople(sandbox.People("000001", "000002"), false)
		b.import_("000002", string(p.ID), p.Time())
		d := b.report(20, "feishu", true)
		if d.Counts != (reconcileCounts{Delivered: 1, Checked: 1, Parked: 1, Unsettled: 1}) || d.PutBack != 0 {
			t.Errorf("%+v\n%s", d.Counts, found(d))
		}
		if d := b.report(20, "104", false); d.Counts != (reconcileCounts{Delivered: 1, Parked: 1}) || !strings.Contains(d.Findings[0].Detail, "員工編號不存在") {
			t.Errorf("104: %+v %+v", d.Counts, d.Findings)
		}
	})
}

func TestRecordsAreMatchedByIDAndWithoutOneByPersonAndSecond(t *testing.T) {
	loc := time.FixedZone("", 8*3600)
	at := time.Date(2026, 11, 20, 9, 0, 0, 700e6, loc)
	id := func(n uint64) punch.ID { return punch.NewID("door", n) }
	own := func(n uint64, who string, at time.Time) *entry {
		return &entry{id: id(n), seq: n, employee: who, at: at, state: punch.Delivered}
	}
	there := func(key punch.ID, who string, at time.Time) drain.Held {
		return drain.Held{Employee: who, Key: string(key), Time: at.Truncate(time.Second)}
	}
	kept := func(k punch.Kind, at time.Time) drain.Held {
		return drain.Held{Employee: "A", Kind: k, Time: at.Truncate(time.Second)}
	}
	as := func(e *entry, k punch.Kind) *entry { e.kind = k; return e }
	for _, c := range []struct {
		name string
		log  []*entry
		held []drain.Held
		want reconcileCounts
	}{
		{"its own status", []*entry{as(own(1, "A", at), punch.In)}, []drain.Held{kept(punch.In, at)}, reconcileCounts{Delivered: 1, Checked: 1}},
		{"another status", []*entry{as(own(1, "A", at), punch.In)}, []drain.Held{kept(punch.Out, at)}, reconcileCounts{Delivered: 1, Checked: 1, Altered: 1}},
		{"two in a second, by status", []*entry{as(own(1, "A", at), punch.In), as(own(2, "A", at), punch.Out)}, []drain.Held{kept(punch.Out, at), kept(punch.In, at)},
			reconcileCounts{Delivered: 2, Checked: 2}},
		{"ids that come back", []*entry{own(1, "A", at)}, []drain.Held{there(id(1), "A", at)}, reconcileCounts{Delivered: 1, Checked: 1}},
		{"no ids come back", []*entry{own(1, "A", at)}, []drain.Held{there("", "A", at)}, reconcileCounts{Delivered: 1, Checked: 1}},
		{"two taps in a second, ids", []*entry{own(1, "A", at), own(2, "A", at)}, []drain.Held{there(id(2), "A", at), there(id(1), "A", at)}, reconcileCounts{Delivered: 2, Checked: 2}},
		{"two taps in a second, one shown", []*entry{own(1, "A", at), own(2, "A", at)}, []drain.Held{there("", "A", at)}, reconcileCounts{Delivered: 2, Checked: 2, Missing: 1}},
		{"stored twice without ids", []*entry{own(1, "A", at)}, []drain.Held{there("", "A", at), there("", "A", at)}, reconcileCounts{Delivered: 1, Checked: 1, Doubled: 1}},
		{"stored three times", []*entry{own(1, "A", at)}, []drain.Held{there(id(1), "A", at), there(id(1), "A", at), there(id(1), "A", at)}, reconcileCounts{Delivered: 1, Checked: 1, Doubled: 2}},
		{"another person's second is another", []*entry{own(1, "A", at)}, []drain.Held{there("", "B", at)}, reconcileCounts{Delivered: 1, Checked: 1, Missing: 1, Extra: 1}},
		{"moved by a second", []*entry{own(1, "A", at)}, []drain.Held{there(id(1), "A", at.Add(time.Second))}, reconcileCounts{Delivered: 1, Checked: 1, Altered: 1}},
		{"as somebody else's", []*entry{own(1, "A", at)}, []drain.Held{there(id(1), "B", at)}, reconcileCounts{Delivered: 1, Checked: 1, Altered: 1}},
		{"one with, one without id", []*entry{own(1, "A", at), own(2, "A", at)}, []drain.Held{there("", "A", at), there(id(1), "A", at)}, reconcileCounts{Delivered: 2, Checked: 2}},
		{"nothing there", []*entry{own(1, "A", at)}, nil, reconcileCounts{Delivered: 1, Checked: 1, Missing: 1}},
		{"another system's id", nil, []drain.Held{there("x", "A", at)}, reconcileCounts{Extra: 1}},
	} {
		k := comparison{day: "2026-11-20", loc: loc, device: "door", head: 9, readBack: true}
		k.compare(c.log, c.held, nil)
		if k.counts != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, k.counts, c.want)
		}
	}
}

func TestTheYearsBeforeAreReadOnlyWhenTheyAreAskedFor(t *testing.T) {
	withBooks(t, 1, func(b *books) {
		old := time.Date(2026, 9, 1, 9, 0, 0, 0, b.loc)
		for i := range 50 {
			b.punch(0, old.Add(time.Duration(i)*time.Minute))
		}
		b.punch(0, b.at(20, 9, 0))
		b.punch(0, b.at(19, 9, 0)) // the clock was set back
		b.settled()
		r := b.c.reconciler
		for range 2 {
			for day, want := range map[int]int{19: 1, 20: 1, 21: 0} {
				if d := b.report(day, "104", false); d.Counts.Delivered != want {
					t.Errorf("the %dth: %+v", day, d.Counts)
				}
			}
			if r.from != 51 {
				t.Errorf("the next night would read from %d", r.from)
			}
			out, err := r.run(b.t.Context(), span{[]time.Time{midnight(old, 0)}, midnight(old, 1)}, "104", false)
			if err != nil || out.Destinations[0].Counts.Delivered != 50 {
				t.Errorf("September: %+v, %v", out, err)
			}
			if r.from != 1 {
				t.Errorf("after September from %d", r.from)
			}
		}
	})
}

func TestDaysAreReadInTheDevicesZone(t *testing.T) {
	loc, err := time.LoadLocation("Asia/Taipei")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 20, 17, 0, 0, 0, time.UTC) // 01:00 on the 21st
	for _, c := range []struct{ day, since, until, want string }{
		{"", "", "", "2026-11-20 2026-11-21"},
		{"2026-11-05", "", "", "2026-11-05 2026-11-05"},
		{"", "2026-11-19", "", "2026-11-19 2026-11-21"},
		{"", "", "2026-11-19", "2026-11-19 2026-11-19"},
		{"", "2026-10-01", "2026-10-31", "2026-10-01 2026-10-31"},
		{"", "2026-10-01", "2026-11-01", "a month at a time"},
		{"", "2026-11-22", "2026-11-21", "must not be after"},
		{"2026-11-05", "2026-11-05", "", "use --day, or"},
		{"yesterday", "", "", "write it as 2026-11-21"},
		{"", "2026-02-30", "", "write it as 2026-11-21"},
	} {
		s, err := daySpan(c.day, c.since, c.until, loc, now)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = s.first() + " " + s.last()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
	// Days of 23 and of 25 hours.
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	s, err := daySpan("", "2026-10-24", "2026-10-26", berlin, now)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]int{"2026-10-23T23:59:59+02:00": -1, "2026-10-24T00:00:00+02:00": 0, "2026-10-25T00:00:00+02:00": 1,
		"2026-10-25T23:59:59+01:00": 1, "2026-10-26T00:00:00+01:00": 2, "2026-10-26T23:59:59+01:00": 2, "2026-10-27T00:00:00+01:00": -1} {
		x, err := time.Parse(time.RFC3339, at)
		if err != nil || s.of(x) != want {
			t.Errorf("%s falls on day %d, want %d (%v)", at, s.of(x), want, err)
		}
	}
}

func TestTheReportIsReadableByHRAndByASpreadsheet(t *testing.T) {
	out := &reconciliation{Schema: 1, Since: "2026-11-20", Until: "2026-11-20", Destinations: []reconciled{
		{Name: "feishu", ReadBack: true, Finished: true, Counts: reconcileCounts{Delivered: 3, Checked: 3, Missing: 1, Extra: 1},
			Days: []reconciledDay{{"2026-11-20", reconcileCounts{Delivered: 3, Checked: 3, Missing: 1, Extra: 1}}},
			Findings: []finding{{foundMissing, "2026-11-20", "000123", "2026-11-20T08:58:03.123+08:00", "door-000000000042", "67", "taken, but not shown"},
				{foundExtra, "2026-11-20", "000124", "2026-11-20T09:00:00+08:00", "=HYPERLINK(1)", "@x", "imported by another system"}}},
		{Name: "104", Finished: true, Counts: reconcileCounts{Delivered: 3, Resent: 1}, Days: []reconciledDay{{"2026-11-20", reconcileCounts{Delivered: 3, Resent: 1}}},
			Findings: []finding{{foundResent, "2026-11-20", "000123", "2026-11-20T08:58:03.123+08:00", "door-000000000042", "", "may be stored twice"}}},
	}}
	var b bytes.Buffer
	if err := out.print(&b, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"DESTINATION  DAY", "feishu       2026-11-20  3          3        1", "104          2026-11-20  3          -        -",
		"feishu was read back: 2 of 3 delivered punches are shown", "not shown  2026-11-20T08:58:03.123+08:00  000123", "104 cannot be read back",
		"sent twice", "--destination feishu --resend"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := out.writeCSV(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(b.String(), "\uFEFF"))).ReadAll()
	if err != nil || len(rows) != 1+2*11+3 || rows[1][2] != "delivered" || rows[1][3] != "3" {
		t.Errorf("%v, %v", rows, err)
	}
	if last := rows[len(rows)-2]; last[6] != "'=HYPERLINK(1)" || last[7] != "'@x" {
		t.Errorf("a formula: %q", last)
	}
}

// The whole house: an answer of 104 is lost on the line, and the clock says so to
// whoever asks.
func TestTheRunningClockReconcilesOnCommand(t *testing.T) {
	h := newHouse(t, settings{})
	h.tc.SetFaults(func(f *sandbox.TransferCardFaults) { f.CommitThenDrop = 1 })
	h.openClouds()
	h.start()
	r := h.tap(h.people[0])
	h.delivered(30 * time.Second)
	if n := len(h.tc.Repeats()); n != 1 {
		t.Fatalf("104 got it %d times more", n)
	}
	out, code := h.run("reconcile", "--config", h.config, "--json")
	var v reconciliation
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || v.Schema != 1 || v.Device != "test-door" || len(v.Destinations) != 2 {
		t.Fatalf("%d %v\n%s", code, err, out)
	}
	if d := v.Destinations[0]; d.Name != "104" || d.ReadBack || d.Counts != (reconcileCounts{Delivered: 1, Resent: 1}) || found(d) != "resent 000001 "+r.PunchID {
		t.Errorf("104: %+v\n%s", d.Counts, found(d))
	}
	if d := v.Destinations[1]; d.Name != "feishu" || !d.ReadBack || d.Counts != (reconcileCounts{Delivered: 1, Checked: 1}) || len(d.Findings) != 0 {
		t.Errorf("feishu: %+v\n%s", d.Counts, found(d))
	}
	if strings.Contains(out, "員工1") {
		t.Error("a name is in the report")
	}
	if out, code := h.run("reconcile", "--config", h.config, "--destination", "104"); code != 0 || !strings.Contains(out, "sent twice") || !strings.Contains(out, r.PunchID) || strings.Contains(out, "feishu") {
		t.Errorf("%d\n%s", code, out)
	}
	if out, code := h.run("reconcile", "--config", h.config, "--csv"); code != 0 || !strings.Contains(out, "resent,,000001,") {
		t.Errorf("%d\n%s", code, out)
	}
	if out, _ := h.run("punches", "export", "--config", h.config); !strings.Contains(out, `"attempts":2,"receipt":"","reason":"","resent":true`) {
		t.Errorf("export\n%s", out)
	}
	if out, _ := h.run("punches", "export", "--config", h.config, "--format", "csv"); !strings.Contains(out, "104_resent") || !strings.Contains(out, ",true,") {
		t.Errorf("export\n%s", out)
	}
	for _, d := range h.status().Destinations {
		if d.Reconcile == nil || d.Reconcile.At == "" || d.Name == "feishu" && d.Reconcile.Checked != 1 || d.Name == "104" && d.Reconcile.Resent != 1 {
			t.Errorf("status %+v", d.Reconcile)
		}
	}
	if out, _ := h.run("status", "--config", h.config); !strings.Contains(out, "RECONCILED") || !strings.Contains(out, "1 sent twice") {
		t.Errorf("status\n%s", out)
	}
	metrics := string(h.get("/metrics"))
	for _, want := range []string{`punchclock_reconcile_checked{destination="feishu"} 1`, `punchclock_reconcile_missing{destination="feishu"} 0`,
		`punchclock_reconcile_doubled{destination="feishu"} 0`, `punchclock_reconcile_last_seconds{destination="104"} `} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s", want)
		}
	}

	// Feishu away: what could not be checked is not called missing.
	h.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.QuotaExceeded = true })
	out, code = h.run("reconcile", "--config", h.config, "--destination", "feishu", "--resend")
	if code != exitUnchecked || !strings.Contains(out, "NOT FINISHED, 1 punches could not be checked") || !strings.Contains(out, "quota") || strings.Contains(out, "put back") {
		t.Errorf("%d\n%s", code, out)
	}
	h.stop()
}
