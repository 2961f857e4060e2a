package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"punchclock/device/devicetest"
	"punchclock/sync/sandbox"
)

func TestBadgeOnTheLineReachesBothLedgers(t *testing.T) {
	h := newHouse(t, settings{})
	h.openClouds()
	h.start()
	p := h.people[0]
	before := time.Now().Truncate(time.Millisecond)
	r := h.tap(p)
	if r.Outcome != "stored" || r.PunchID != "test-door-000000000001" || r.Seq != 1 || r.Employee != "000001" || r.Name != "員工1" || r.Reader != "front" ||
		r.Kind != "in" || r.Clock != "synced" || !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+08:00$`).MatchString(r.Time) {
		t.Errorf("result %+v", r)
	}
	at, _ := time.Parse(milliLayout, r.Time)
	if at.Before(before) || at.After(time.Now()) {
		t.Errorf("the punch is of %v, tapped at %v", at, before)
	}
	// Again with nothing chosen: answered, recorded, not sent, and never 下班.
	h.send([]byte("\x02")) // the line was silent between: a new presentation
	time.Sleep(900 * time.Millisecond)
	if d := h.tap(p); d.Outcome != "duplicate" || d.Kind != "in" || d.Seq != 2 {
		t.Errorf("second tap %+v", d)
	}
	// An unknown card is stored, and told.
	stranger := person{card: [5]byte{0xDE, 0xAD, 0xBE, 0xEF, 0x01}}
	if u := h.tap(stranger); u.Outcome != "unknown_badge" || u.Seq != 3 || u.Employee != "" {
		t.Errorf("unknown card %+v", u)
	}
	// A damaged frame is no card.
	frame := devicetest.RDM6300(h.people[1].card)
	frame[5] ^= 1
	h.send(frame)
	if m := h.answer(); m.Outcome != "misread" || m.PunchID != "" {
		t.Errorf("misread %+v", m)
	}
	h.delivered(10 * time.Second)

	cards, flows := h.tc.Ledger(), h.fs.Ledger()
	if len(cards) != 1 || len(flows) != 1 {
		t.Fatalf("ledgers: %d at 104, %d at Feishu", len(cards), len(flows))
	}
	var card map[string]json.RawMessage
	if err := json.Unmarshal([]byte(cards[0].Raw), &card); err != nil {
		t.Fatal(err)
	}
	if want := strconv.FormatInt(at.UnixMilli(), 10); string(card["empNo"]) != `"000001"` || string(card["cardTime"]) != want || len(want) != 13 || len(card) != 2 {
		t.Errorf("104 got %s", cards[0].Raw)
	}
	f := flows[0].Flow
	if f.UserID != "000001" || f.CheckTime != strconv.FormatInt(at.Unix(), 10) || len(f.CheckTime) != 10 || f.IdempotentID != r.PunchID || f.ExternalID != r.PunchID ||
		f.Comment != "上班" || f.LocationName != "測試門" {
		t.Errorf("Feishu got %s", flows[0].Raw)
	}

	// The archive holds all of it, with receipts, and is what was written.
	out, code := h.run("punches", "export", "--config", h.config)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 3 {
		t.Fatalf("export: %d\n%s", code, out)
	}
	var rows [3]exportRow
	for i, l := range lines {
		if err := json.Unmarshal([]byte(l), &rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if d := rows[0].Deliveries; d["104"].State != "delivered" || d["feishu"].State != "delivered" || d["feishu"].Receipt == "" || rows[0].Raw != "0A0000005E" {
		t.Errorf("%s", lines[0])
	}
	if rows[1].Outcome != "duplicate" || rows[1].Deliveries["104"].State != "skipped" {
		t.Errorf("%s", lines[1])
	}
	if d := rows[2].Deliveries["104"]; rows[2].Outcome != "unknown_badge" || d.State != "parked" || d.Reason != "unknown_badge" {
		t.Errorf("%s", lines[2])
	}
	export := h.write("export.jsonl", out)
	for _, args := range [][]string{{"verify", "--config", h.config}, {"verify", "--config", h.config, export}} {
		if out, code := h.run(args...); code != 0 || !strings.Contains(out, "3 records, numbers 1 to 3") {
			t.Errorf("%v: %d\n%s", args, code, out)
		}
	}
	for name, forged := range map[string]string{
		"field":   strings.Replace(out, `"employee_no":"000001"`, `"employee_no":"000002"`, 1),
		"removed": lines[0] + "\n" + lines[2] + "\n",
	} {
		if out, code := h.run("verify", "--config", h.config, h.write("forged.jsonl", forged)); code != 1 || !strings.Contains(out, "test-door-00000000000") {
			t.Errorf("%s forged: %d\n%s", name, code, out)
		}
	}

	// The roster learns the stranger's card: the punch is delivered with its own time.
	csv, _ := os.ReadFile(filepath.Join(h.dir, "roster.csv"))
	known := append(sandbox.People("000077"), sandbox.People("000001", "000002", "000003")...)
	h.tc.SetPeople(known, false)
	h.fs.SetPeople(known, false)
	h.write("roster.csv", string(csv)+"000077,新同事,"+stranger.badge()+"\n")
	if out, code := h.run("roster", "import", "--config", h.config, filepath.Join(h.dir, "roster.csv")); code != 0 || !strings.Contains(out, "1 added") {
		t.Fatalf("import beside the running clock: %d\n%s", code, out)
	}
	h.until(10*time.Second, "the new colleague's punch is delivered", func() bool { return len(h.tc.Ledger()) == 2 && len(h.fs.Ledger()) == 2 })
	if got := h.tc.Ledger()[1]; !strings.Contains(string(got.Raw), `"empNo":"000077"`) || !strings.Contains(string(got.Raw), strconv.FormatInt(rows[2].TimeMS, 10)) {
		t.Errorf("104 got %s, tapped at %d", got.Raw, rows[2].TimeMS)
	}
	h.checkQuiet(stranger, p)
	h.stop()
}

// checkQuiet looks for badge numbers, names and secrets where they must not be.
func (h *house) checkQuiet(ps ...person) {
	h.t.Helper()
	_, s1 := h.tc.Credentials()
	_, s2 := h.fs.Credentials()
	words := []string{s1, s2}
	for _, p := range ps {
		words = append(words, strings.TrimPrefix(p.badge(), "em:"))
		if p.name != "" {
			words = append(words, p.name)
		}
	}
	for where, text := range map[string]string{"log": h.logged(), "metrics": string(h.get("/metrics")), "status": string(h.get("/api/status"))} {
		for _, w := range words {
			if strings.Contains(text, w) {
				h.t.Errorf("%s holds %q", where, w)
			}
		}
	}
}

// Cards that wait in a reader's buffer while the machine stands still come at one moment.
// They are numbered and answered in the order in which they were tapped all the same.
func TestTapsThatComeAtOneMomentKeepTheirOrder(t *testing.T) {
	h := newHouse(t, settings{people: 200})
	h.start()
	var burst []byte
	for _, p := range h.people {
		burst = append(burst, devicetest.RDM6300(p.card)...)
	}
	h.send(burst)
	for i, p := range h.people {
		if r := h.answer(); r.Outcome != "stored" || r.Seq != uint64(i+1) || r.Employee != p.number {
			t.Fatalf("answer %d: %+v, want %s's", i+1, r, p.number)
		}
	}
	h.stop()
}

func TestThousandPunchesOfAnOutageArriveInOrderUnderTheCeiling(t *testing.T) {
	const n = 1000
	h := newHouse(t, settings{people: 50, window: "0s", rate: 20, batch: 25})
	h.start()
	for i := range n {
		if r := h.tap(h.people[i%len(h.people)]); r.Outcome != "stored" || r.Seq != uint64(i+1) {
			t.Fatalf("tap %d: %+v", i, r)
		}
	}
	h.until(10*time.Second, "both destinations say that they are being retried", func() bool {
		d := h.status().Destinations
		return d[0].State == "retrying" && d[1].State == "retrying"
	})
	if d := h.status().Destinations; d[0].Pending != n || d[1].Pending != n || d[0].OldestUnsentSeconds <= 0 || d[0].LastError == "" {
		t.Errorf("offline: %+v", d)
	}
	h.openClouds()
	if out, code := h.run("queue", "retry", "--wait", "--config", h.config); code != 0 {
		t.Fatalf("queue retry --wait: %d\n%s", code, out)
	}
	cards, flows := h.tc.Ledger(), h.fs.Ledger()
	if len(cards) != n || len(flows) != n {
		t.Fatalf("%d at 104, %d at Feishu, want %d", len(cards), len(flows), n)
	}
	// Everybody's own in the order of the taps; those of two people may pass each other.
	newest := map[string]string{}
	times := map[string]int64{}
	for i := range n {
		f := flows[i].Flow
		if f.IdempotentID <= newest[f.UserID] {
			t.Fatalf("Feishu got %s of %s after %s", f.IdempotentID, f.UserID, newest[f.UserID])
		}
		newest[f.UserID] = f.IdempotentID
		var card struct {
			EmpNo    string
			CardTime int64
		}
		if err := json.Unmarshal([]byte(cards[i].Raw), &card); err != nil || card.CardTime < times[card.EmpNo] {
			t.Fatalf("104's number %d is %s (%v), after one of %d", i, cards[i].Raw, err, times[card.EmpNo])
		}
		times[card.EmpNo] = card.CardTime
	}
	if len(newest) != len(h.people) || len(times) != len(h.people) {
		t.Errorf("punches of %d and %d people, want %d", len(times), len(newest), len(h.people))
	}
	if c := h.tc.Counters(); c.WorstSecond > 20 || c.Calls < n/25 {
		t.Errorf("104: %+v", c)
	}
	if c := h.fs.Counters(); c.WorstSecond > 10 {
		t.Errorf("Feishu: %+v", c)
	}
}

func TestKillNineAtAnyMomentLosesNothingAndSendsNothingTwiceUnderTwoIDs(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	h := newHouse(t, settings{people: 40, window: "0s", batch: 10})
	h.openClouds()
	acked := map[string]result{}
	for round := range rounds {
		h.start()
		stop := time.AfterFunc(time.Duration(30+round*171)*time.Millisecond, func() { h.cmd.Process.Kill() })
	taps:
		for i := 0; ; i++ {
			time.Sleep(4 * time.Millisecond)
			if _, err := h.line.Write(devicetest.RDM6300(h.people[(round*7+i)%len(h.people)].card)); err != nil {
				break
			}
			select {
			case r := <-h.results:
				if r.Outcome != "stored" {
					t.Fatalf("%+v", r)
				}
				if old, ok := acked[r.PunchID]; ok && old.Employee != r.Employee {
					t.Fatalf("%s was given to %s and to %s", r.PunchID, old.Employee, r.Employee)
				}
				acked[r.PunchID] = r
			case <-h.exited:
				break taps
			}
		}
		stop.Stop()
		h.kill()
		for len(h.results) > 0 { // told before the end
			r := <-h.results
			acked[r.PunchID] = r
		}
		h.unplug() // what was half read is gone with the process
		h.plug()
	}
	h.start()
	h.delivered(60 * time.Second)
	at := map[string]int{}
	for _, f := range h.fs.Ledger() {
		at[f.Flow.IdempotentID]++
		if r, ok := acked[f.Flow.IdempotentID]; ok && r.Employee != f.Flow.UserID {
			t.Errorf("%s of %s was sent as %s", r.PunchID, r.Employee, f.Flow.UserID)
		}
	}
	missing := 0
	for id := range acked {
		if at[id] != 1 {
			missing++
			t.Errorf("%s: %d times at Feishu", id, at[id])
		}
	}
	t.Logf("%d kills, %d acknowledged, %d missing, %d stored at 104, %d records sent twice", rounds, len(acked), missing, len(h.tc.Ledger()), len(h.tc.Repeats()))
	if len(acked) < rounds {
		t.Errorf("only %d taps were acknowledged", len(acked))
	}
	// A resend is the same bytes, so 104 could tell: a repeat whose bytes are not
	// in the ledger is a changed record.
	sent := map[string]bool{}
	for _, c := range h.tc.Ledger() {
		sent[string(c.Raw)] = true
	}
	for _, c := range h.tc.Repeats() {
		if !sent[string(c.Raw)] {
			t.Errorf("resent with other bytes: %s", c.Raw)
		}
	}
	sent = map[string]bool{}
	for _, c := range h.fs.Ledger() {
		sent[string(c.Raw)] = true
	}
	for _, c := range h.fs.Repeats() {
		if !sent[string(c.Raw)] {
			t.Errorf("resent with other bytes: %s", c.Raw)
		}
	}
	if out, code := h.run("verify", "--config", h.config); code != 0 {
		t.Errorf("verify: %s", out)
	}
}

func TestReaderThatIsNotThereIsNotFatalAndComesWhenItComes(t *testing.T) {
	h := newHouse(t, settings{})
	h.openClouds()
	h.start()
	h.tap(h.people[0])
	h.unplug()
	h.until(5*time.Second, "the reader is down", func() bool { return h.status().Readers[0].State == "down" })
	if b := h.get("/readyz"); !strings.Contains(string(b), "ok") && h.status().Outbox.Ready != true {
		t.Errorf("readyz: %s", b)
	}
	h.plug()
	h.until(5*time.Second, "the reader is back", func() bool { return h.status().Readers[0].State == "ok" })
	if r := h.tap(h.people[1]); r.Outcome != "stored" {
		t.Errorf("%+v", r)
	}
	h.stop()
}

func TestSecondClockOnTheSameStateEndsAtOnce(t *testing.T) {
	h := newHouse(t, settings{})
	h.start()
	begin := time.Now()
	out, code := h.run("run", "--config", h.config)
	if code != 1 || !strings.Contains(out, "another punchclock runs on") || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: %d\n%s", time.Since(begin), code, out)
	}
	if r := h.tap(h.people[0]); r.Outcome != "stored" {
		t.Errorf("%+v", r)
	}
	// After a kill the socket is left over; the next start takes it.
	h.kill()
	h.start()
	if out, code := h.run("status", "--config", h.config); code != 0 || !strings.Contains(out, "punches are stored") {
		t.Errorf("%d\n%s", code, out)
	}
}

func TestWrongSecretIsSaidAndItsCorrectionNeedsNoRestart(t *testing.T) {
	h := newHouse(t, settings{})
	right, _ := os.ReadFile(filepath.Join(h.dir, "104-secret"))
	os.Remove(filepath.Join(h.dir, "feishu-secret"))
	h.write("104-secret", "wrong\n")
	h.openClouds()
	h.start()
	h.tap(h.people[0])
	h.until(10*time.Second, "both say that a person must act", func() bool {
		d := h.status().Destinations
		return d[0].State == "auth_failed" && d[1].State == "misconfigured"
	})
	// Whoever looks meanwhile sees that it was tried.
	if out, _ := h.run("punches", "export", "--config", h.config); strings.Count(out, `{"state":"pending","attempts":1,`) != 2 {
		t.Errorf("export\n%s", out)
	}
	if out, _ := h.run("queue", "ls", "--json", "--config", h.config); strings.Count(out, `"tries": 1,`) != 2 {
		t.Errorf("queue\n%s", out)
	}
	for _, args := range [][]string{{"--punch", "test-door-000000000009"}, {"--punch", "test-door-000000000001", "--destination", "104", "--wait"}} {
		if out, code := h.run(append([]string{"queue", "retry", "--config", h.config}, args...)...); code != exitFailed || !strings.Contains(out, "punch "+args[1]+" is not parked") {
			t.Errorf("retry %q: %d, %s", args, code, out)
		}
	}
	if d := h.status().Destinations; d[0].Pending != 1 || d[0].LastError == "" || d[1].Pending != 1 || !strings.Contains(d[1].LastError, "feishu-secret") {
		t.Errorf("%+v", d)
	}
	_, secret := h.fs.Credentials()
	h.write("104-secret", string(right))
	h.write("feishu-secret", secret)
	h.delivered(20 * time.Second)
	if len(h.tc.Ledger()) != 1 || len(h.fs.Ledger()) != 1 {
		t.Errorf("%d, %d", len(h.tc.Ledger()), len(h.fs.Ledger()))
	}
}

func TestGarbageOnTheLineIsNoPunch(t *testing.T) {
	h := newHouse(t, settings{})
	h.start()
	for _, junk := range []string{strings.Repeat("\xff", 4096), strings.Repeat("\x00", 4096), "'; DROP TABLE punches; --\r\n", "$(reboot)\r\n", "\x1b[2J\x1b[31mlevel=ERROR msg=forged\n",
		"\x020A1B2C3D4\x03", "\x02ZZZZZZZZZZZZ\x03", strings.Repeat("\x02", 300)} {
		h.send([]byte(junk))
		time.Sleep(120 * time.Millisecond)
	}
	for len(h.results) > 0 {
		if r := <-h.results; r.Outcome != "misread" {
			t.Errorf("%+v", r)
		}
	}
	if r := h.tap(h.people[0]); r.Outcome != "stored" || r.Seq != 1 {
		t.Errorf("after the garbage: %+v", r)
	}
	if strings.Contains(h.logged(), "\x1b") || strings.Contains(h.logged(), "\nlevel=ERROR msg=forged") {
		t.Errorf("a line was forged in the log:\n%q", h.logged())
	}
	h.stop()
}

// A clock on a small file system, with the reserve as it comes, says that it is full
// before it is, and by the right sign; with room again it goes on.
func TestFullDiskIsAnotherSignAndNeverASuccess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: a small file system can be mounted by root only")
	}
	h := newHouse(t, settings{people: 300, window: "0s"})
	state := filepath.Join(h.dir, "state")
	roster, err := os.ReadFile(filepath.Join(state, "roster.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=20m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(state, syscall.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(state, "roster.db"), roster, 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	first := h.tap(h.people[0])
	if first.Outcome != "stored" {
		t.Fatalf("%+v", first)
	}
	// now wants readyz to say how it is, not how it was when somebody last looked.
	now := func() {
		t.Helper()
		time.Sleep(readyFresh)
		if !h.red() {
			t.Error("readyz says that a punch could be stored")
		}
	}
	hog := filepath.Join(state, "hog")
	var st syscall.Statfs_t
	if err := syscall.Statfs(state, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hog, make([]byte, int64(st.Bavail)*int64(st.Bsize)-64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if r := h.tap(h.people[1+i]); r.Outcome != "not_stored" || r.PunchID != "" || r.Seq != 0 {
			t.Errorf("on a full disk: %+v", r)
		}
	}
	now()
	if s := h.status(); s.Outbox.Ready || !strings.Contains(s.Outbox.Problem, "no space left") {
		t.Errorf("status: %+v", s.Outbox)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	// The person who was turned away taps again: one punch, and the next number.
	if r := h.tap(h.people[1]); r.Outcome != "stored" || r.Seq != 2 {
		t.Errorf("with room again: %+v", r)
	}
	h.until(15*time.Second, "the clock is ready again", func() bool { return h.status().Outbox.Ready })
	// Without a tap, too, readyz means now.
	if err := os.WriteFile(hog, make([]byte, int64(st.Bavail)*int64(st.Bsize)-128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	now()
	h.stop()
	if out, code := h.run("verify", "--config", h.config); code != 0 || !strings.Contains(out, "2 records") {
		t.Errorf("%d %s", code, out)
	}
}
