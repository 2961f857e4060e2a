package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"punchclock/device/devicetest"
	"punchclock/queue/punch"
	"punchclock/sync/sandbox"
)

// Delivery of a backlog through the real binary: while it is being killed, and after
// three months without a network. Both have a long form, see durability-drain in the
// Makefile.

// many is a number of the long form, or the short form's.
func many(t *testing.T, env string, short int) int {
	v := os.Getenv(env)
	if v == "" {
		return short
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: write a number", env, v)
	}
	return n
}

// backlog stores n punches of all people in turn, spread evenly over a time that has
// just ended, while no clock runs.
func (h *house) backlog(n int, over time.Duration) {
	h.t.Helper()
	cfg, err := loadConfig(h.config, built())
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := openOutbox(cfg, slog.New(slog.DiscardHandler), func() punch.Stamp { return punch.Stamp{} }, &directory{})
	if err != nil {
		h.t.Fatal(err)
	}
	defer b.Close()
	begin := time.Now().Add(-over)
	var wg sync.WaitGroup
	for i := range n {
		if i%50 == 0 { // these are committed together; nobody is twice among them
			wg.Wait()
		}
		wg.Go(func() {
			p := h.people[i%len(h.people)]
			_, err := b.Append(punch.Draft{Kind: punch.Kinds[i%2], Badge: punch.Badge(p.badge()), Employee: p.number, Reader: "front", Outcome: punch.Stored,
				Stamp: punch.Stamp{Wall: begin.Add(over / time.Duration(n) * time.Duration(i)), Clock: punch.Synced}})
			if err != nil {
				h.t.Error(err)
			}
		})
	}
	wg.Wait()
}

// exported is what an export says of a delivery to 104.
type exported struct {
	ID         string
	Seq        uint64
	EmployeeNo string `json:"employee_no"`
	TimeMS     int64  `json:"time_ms"`
	Deliveries map[string]struct {
		State  string
		Resent bool
	}
}

func (h *house) export() (all []exported) {
	h.t.Helper()
	bin, err := binary()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := exec.Command(bin, "punches", "export", "--format", "jsonl", "--config", h.config).Output()
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range bytes.Lines(out) {
		var e exported
		if err := json.Unmarshal(line, &e); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestKillsDuringADrainLoseNothingAndEveryResendIsMarked(t *testing.T) {
	kills := many(t, "DRAIN_KILLS", 6)
	h := newHouse(t, settings{people: 80, rate: 30, batch: 1})
	n := 40 * kills
	h.backlog(n, 24*time.Hour)
	h.openClouds()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	most, resends, at := 0, 0, 0
	for range kills {
		cmd := exec.Command(bin, "run", "--config", h.config)
		cmd.Stderr = lockedWriter{h}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second + rand.N(800*time.Millisecond)) // in the first second nothing may leave
		cmd.Process.Kill()
		cmd.Wait()
		if r := len(h.tc.Repeats()); r > at { // brought by the life before this kill
			most, resends, at = max(most, r-at), resends+r-at, r
		}
	}
	h.start()
	h.delivered(time.Duration(n/20+30) * time.Second)
	h.stop()

	type key struct {
		emp string
		ms  int64
	}
	held, repeated := map[key]int{}, map[key]bool{}
	for _, c := range h.tc.Ledger() {
		held[key{c.EmpNo, c.CardTime}]++
	}
	for _, c := range h.tc.Repeats() {
		repeated[key{c.EmpNo, c.CardTime}] = true
	}
	flows := map[string]int{}
	for _, f := range h.fs.Ledger() {
		flows[f.Flow.IdempotentID]++
	}
	all := h.export()
	marked := 0
	for _, e := range all {
		k := key{e.EmployeeNo, e.TimeMS}
		if held[k] == 0 || flows[e.ID] != 1 {
			t.Errorf("%s: %d at 104, %d at Feishu", e.ID, held[k], flows[e.ID])
		}
		d := e.Deliveries["104"]
		if d.State != "delivered" || repeated[k] && !d.Resent {
			t.Errorf("%s was sent to 104 twice: %v; the export says %s, resent %v", e.ID, repeated[k], d.State, d.Resent)
		}
		if d.Resent {
			marked++
		}
	}
	c := h.tc.Counters()
	t.Logf("%d kills while %d punches were delivered: %d sent to 104 again, at most %d after one kill, %d marked; 104's fullest second held %d calls",
		kills, n, len(h.tc.Repeats()), most, marked, c.WorstSecond)
	if len(all) != n || len(flows) != n || len(held) != n {
		t.Errorf("%d exported, %d at 104, %d at Feishu, want %d", len(all), len(held), len(flows), n)
	}
	if c.WorstSecond > 30 || h.fs.Counters().WorstSecond > 10 {
		t.Errorf("the fullest second held %d calls at 104, %d at Feishu", c.WorstSecond, h.fs.Counters().WorstSecond)
	}
	// Where answers come at once, one call at a time is under way.
	if kills >= 100 && most > 1 {
		t.Errorf("%d resends after one kill", most)
	}
	if len(h.tc.Repeats()) > kills {
		t.Errorf("%d resends for %d kills", len(h.tc.Repeats()), kills)
	}
	if marked > 2*kills {
		t.Errorf("%d punches are called resent after %d kills", marked, kills)
	}
}

// A clock that was three months without a network has to bring all of it, and people
// go on tapping.
func TestThreeMonthsOfflineAreDeliveredOldestFirstWhilePeopleTap(t *testing.T) {
	days := many(t, "DRAIN_DAYS", 3)
	const perDay = 1000
	h := newHouse(t, settings{people: 500, window: "0s", rate: 30})
	n := days * perDay
	h.backlog(n, time.Duration(days)*24*time.Hour)
	h.openClouds()
	h.start()
	pid := h.cmd.Process.Pid
	var taps []time.Duration
	var tapped []string
	peak := 0
	pending := func() (n uint64) {
		for _, d := range h.status().Destinations {
			n += uint64(d.Pending)
		}
		return n
	}
	begin := time.Now()
	for i := 0; pending() > 0; i++ {
		if time.Since(begin) > time.Duration(days)*10*time.Second+time.Minute {
			t.Fatalf("%d still pending after %v", pending(), time.Since(begin))
		}
		frame := devicetest.RDM6300(h.people[i%len(h.people)].card)
		at := time.Now()
		h.send(frame)
		r := h.answer()
		taps = append(taps, r.at.Sub(at))
		if tapped = append(tapped, r.PunchID); r.Outcome != "stored" {
			t.Fatalf("%+v", r)
		}
		peak = max(peak, procStatus(t, pid, "VmHWM"))
		if len(taps) < 1000 {
			time.Sleep(150 * time.Millisecond)
		} else {
			time.Sleep(2 * time.Second) // else the last one never is
		}
	}
	took := time.Since(begin)
	h.stop()
	slices.Sort(taps)
	t.Logf("%d punches of %d days and %d taps delivered in %v; taps p50 %v, p99 %v; at most %.1f MB", n, days, len(taps), took.Round(time.Second),
		taps[len(taps)/2].Round(100*time.Microsecond), taps[len(taps)*99/100].Round(100*time.Microsecond), float64(peak)/1024)
	if peak > 64<<10 {
		t.Errorf("%d kB of memory, 64 MB are allowed", peak)
	}
	cards, flows := h.tc.Ledger(), h.fs.Ledger()
	if len(cards) != n+len(taps) || len(flows) != n+len(taps) || len(h.tc.Repeats()) > 0 {
		t.Fatalf("%d at 104, %d twice, %d at Feishu, want %d", len(cards), len(h.tc.Repeats()), len(flows), n+len(taps))
	}
	newest := map[string]int64{}
	for i, c := range cards {
		if c.CardTime < newest[c.EmpNo] {
			t.Fatalf("104's number %d, of %s, overtook a newer one of the same person, of %d", i, c.Raw, newest[c.EmpNo])
		}
		newest[c.EmpNo] = c.CardTime
	}
	last := map[string]string{}
	for i, f := range flows {
		if f.Flow.IdempotentID < last[f.Flow.UserID] {
			t.Fatalf("Feishu's number %d overtook a newer one of the same person", i)
		}
		last[f.Flow.UserID] = f.Flow.IdempotentID
		_, seq, err := punch.ID(f.Flow.IdempotentID).Seq()
		if d := int(seq) - 1 - i; err != nil || d > 600 || d < -600 { // what may be under way together
			t.Fatalf("Feishu's number %d is %s: not the oldest first", i, f.Flow.IdempotentID)
		}
	}
	for _, id := range tapped {
		if !slices.ContainsFunc(flows[n-600:], func(f sandbox.FlowRecord) bool { return f.Flow.IdempotentID == id }) {
			t.Errorf("tap %s did not arrive", id)
		}
	}
}
