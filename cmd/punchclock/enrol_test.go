package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
)

// must runs a verb and returns what it printed.
func (h *house) must(args ...string) string {
	h.t.Helper()
	out, code := h.run(append(args, "--config", h.config)...)
	if code != 0 {
		h.t.Fatalf("%v: %d %s", args, code, out)
	}
	return out
}

// A new hire's first days, with the real program: three taps before anybody knows the
// card, the card given at the door, moved, lost, and the day when HR finds that it was
// the wrong person's.
func TestCardIsGivenAtTheDoorMovedBlockedAndGivenBack(t *testing.T) {
	h := newHouse(t, settings{window: "0s"})
	h.openClouds()
	h.start()
	fresh := person{card: [5]byte{0x06, 0x00, 0x12, 0x59, 0xE3}}
	const badge = "em:06001259E3"
	tap := func() result { // the same card within 0.8 s is the same tap
		time.Sleep(900 * time.Millisecond)
		return h.tap(fresh)
	}
	for range 3 {
		if r := tap(); r.Outcome != "unknown_badge" {
			t.Fatalf("%+v", r)
		}
	}
	var seen []stranger
	if err := json.Unmarshal([]byte(h.must("enrol", "seen", "--json")), &seen); err != nil || len(seen) != 1 || seen[0].Badge != badge || seen[0].Times != 3 || seen[0].Readers[0] != "front" {
		t.Errorf("seen lately: %+v, %v", seen, err)
	}
	if out := h.must("enrol", "find", "員工2"); !strings.Contains(out, "000002") {
		t.Errorf("found: %s", out)
	}

	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "enrol", "open", "--config", h.config, "--employee", "000002", "--by", "小林", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.until(20*time.Second, "enrolment is open", func() bool {
		rows := h.must("punches", "export")
		return strings.Contains(rows, `"act":"enrol-open"`)
	})
	time.Sleep(900 * time.Millisecond)
	h.send(devicetest.RDM6300(fresh.card))
	var g given
	if err := json.NewDecoder(out).Decode(&g); err != nil || cmd.Wait() != nil {
		t.Fatal(err)
	}
	if r := h.answer(); r.Outcome != "enrolment" || r.Reason != device.FaultEnrolled || r.PunchID != "" || g.Employee != "000002" || g.Badge != badge || g.Linked != 3 {
		t.Errorf("the door said %+v, the verb %+v", r, g)
	}
	if r := tap(); r.Outcome != "stored" || r.Employee != "000002" {
		t.Errorf("the first tap with it: %+v", r)
	}
	// The next file of HR's knows nothing of it.
	h.must("roster", "import", filepath.Join(h.dir, "roster.csv"))
	if r := tap(); r.Outcome != "stored" || r.Employee != "000002" {
		t.Errorf("after an import: %+v", r)
	}
	h.delivered(20 * time.Second)

	// Lost: the very next tap is refused, and says not whose it was.
	h.must("badge", "block", "dec:0001202659", "--by", "HR")
	if r := tap(); r.Outcome != "blocked_badge" || r.Employee != "" || r.Name != "" || r.PunchID == "" {
		t.Errorf("a blocked card: %+v", r)
	}
	h.must("badge", "unblock", badge)
	if out, code := h.run("enrol", "card", badge, "--employee", "000003", "--config", h.config); code == 0 || !strings.Contains(out, "000002") || !strings.Contains(out, "--move") {
		t.Errorf("somebody else's card: %d %s", code, out)
	}
	// It was the wrong person's: what the far sides have is superseded, and goes to the right one.
	un := h.must("badge", "unlink", badge, "--by", "HR")
	if strings.Count(un, "correct it there") != 3 {
		t.Errorf("unlink: %s", un)
	}
	h.must("enrol", "card", badge, "--employee", "000003")
	h.delivered(20 * time.Second)
	h.stop()

	rows := map[uint64]exportRow{}
	var acts []string
	byRight := 0
	for line := range strings.Lines(h.must("punches", "export")) {
		var r exportRow
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		rows[r.Seq] = r
		if r.Audit != nil {
			acts = append(acts, r.Audit.Act)
			for dest, d := range r.Deliveries {
				if d.State != "skipped" || r.Outcome != "audit" || r.Kind != "" {
					t.Errorf("an entry that is no punch is %+v at %s: %+v", d, dest, r)
				}
			}
		}
		if r.Supersedes != 0 && r.Employee == "000003" && r.Linked != "" && r.TimeMS == rows[r.Supersedes].TimeMS && r.Deliveries["104"].State == "delivered" && r.Deliveries["feishu"].State == "delivered" {
			byRight++
		}
		if r.Outcome == "blocked_badge" && r.Deliveries["104"].State != "skipped" {
			t.Errorf("a blocked card's tap was sent: %+v", r)
		}
	}
	want := []string{"enrol-open", "card-given", "card-blocked", "card-unblocked", "card-taken", "punch-unlinked", "punch-unlinked", "punch-unlinked", "card-given"}
	if !slices.Equal(acts, want) || byRight != 3 {
		t.Errorf("the chain says %v, and %d punches came to the right person", acts, byRight)
	}
	if out := h.must("verify"); !strings.Contains(out, "are what was written") {
		t.Errorf("verify: %s", out)
	}
	if log := h.logged(); strings.Contains(log, "1259E3") || strings.Contains(log, "員工") || strings.Contains(log, "小林") {
		t.Errorf("the log holds a whole number or a name:\n%s", log)
	}
}

// counter is where one gives out cards, with everything but a door.
type counter struct {
	*enroller
	a   *archive
	out chan device.Event
	end func()
}

func newCounter(t *testing.T) *counter {
	dir := t.TempDir()
	boot := time.Now()
	stamp := func() punch.Stamp {
		return punch.Stamp{Wall: time.Now(), BootID: [16]byte{1}, Uptime: time.Hour + time.Since(boot), Clock: punch.Synced}
	}
	r, err := roster.Open(filepath.Join(dir, "roster.db"), roster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	people := &directory{}
	people.set(r)
	o, err := queue.Open(queue.Options{Dir: filepath.Join(dir, "outbox"), Device: "t", Destinations: []string{"104"}, BootID: [16]byte{1}, Who: people.who, UnsafeNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	var rows []*roster.Row
	for n := range 3 {
		rows = append(rows, &roster.Row{Employee: punch.Employee{Number: fmt.Sprint(n + 1), Name: "員工", Badges: []punch.Badge{punch.Badge(fmt.Sprintf("em:%010d", n+1))}, Active: true}})
	}
	if _, err := r.Replace(rows); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	a := &archive{cfg: &config{}, outbox: o, roster: r, stamp: stamp}
	c := &counter{enroller: newEnroller(a, newPINGuard(filepath.Join(dir, "tries.json"), stamp, log), log), a: a, out: make(chan device.Event, 8)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.run(ctx, c.out) }()
	c.end = func() {
		cancel()
		if err := errors.Join(<-done, o.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	}
	return c
}

func (c *counter) tapped(value string) device.Event {
	return c.hear(device.Event{Reader: "front", What: device.Card, Medium: "em", Value: value, Last: time.Now()})
}

// When the verb has ended the card is refused, and not a moment later: the next thing that
// happens is a tap with it.
func TestABlockedCardIsRefusedFromTheMomentTheBlockIsAnswered(t *testing.T) {
	h := newHouse(t, settings{people: 5, window: "0s"})
	h.start()
	tap := func(p person, outcome, number string) {
		t.Helper()
		if r := h.tap(p); r.Outcome != outcome || r.Employee != number || outcome == "blocked_badge" && (r.Name != "" || r.PunchID == "") {
			t.Errorf("%s: %+v, want %s", p.number, r, outcome)
		}
	}
	tap(h.people[4], "stored", "000005")
	for _, p := range h.people[:4] {
		h.must("badge", "block", p.badge())
		tap(p, "blocked_badge", "")
	}
	time.Sleep(900 * time.Millisecond) // the same card sooner is the same tap
	h.must("badge", "block", h.people[4].badge())
	tap(h.people[4], "blocked_badge", "")
	// A file that gives it to its person again does not undo it, nor does a kill.
	h.must("roster", "import", filepath.Join(h.dir, "roster.csv"))
	h.kill()
	h.start()
	tap(h.people[0], "blocked_badge", "")
	h.must("badge", "unblock", h.people[1].badge())
	tap(h.people[1], "stored", "000002")
	h.stop()
}

func TestMasterCardAndItsPINOpenEnrolmentForOneCardAndAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		defer c.end()
		if err := c.a.roster.SetMaster("em:00000000AA", "4711", "t"); err != nil {
			t.Fatal(err)
		}
		typed := func(number, pin string) string {
			t.Helper()
			ev := c.hear(device.Event{Reader: "front", What: device.Entry, Number: number, PIN: device.PIN(pin), Last: time.Now()})
			if ev.What == device.Entry {
				return "a punch"
			}
			return (<-c.out).Fault
		}
		if got := typed("2", "4711"); got != "a punch" {
			t.Errorf("without a master card: %s", got)
		}
		steps := []struct {
			number, pin, want string
			after             time.Duration
		}{
			{"2", "4712", device.FaultPIN, 0},
			{"9", "4711", device.FaultEnrolNo, 0},
			{"2", "4711", "a punch", time.Minute + time.Second}, // too late
			{"2", "4711", device.FaultEnrolCard, 0},
		}
		for _, s := range steps {
			if ev := c.tapped("00000000AA"); ev.Fault != device.FaultEnrolPIN || !ev.Try {
				t.Fatalf("the master card: %+v", ev)
			}
			time.Sleep(s.after)
			if got := typed(s.number, s.pin); got != s.want {
				t.Errorf("%s %s: %s, want %s", s.number, s.pin, got, s.want)
			}
		}
		if ev := c.tapped("00000000BB"); ev.What != 0 {
			t.Errorf("the new card's tap is %+v", ev)
		}
		if ev := <-c.out; ev.Fault != device.FaultEnrolled {
			t.Errorf("the door says %q", ev.Fault)
		}
		if e, _ := c.a.roster.ByBadge("em:00000000BB"); e.Number != "2" {
			t.Errorf("it is %q's", e.Number)
		}
		if ev := c.tapped("00000000CC"); ev.What != device.Card {
			t.Errorf("one card too many: %+v", ev)
		}
		// Opened, and nobody comes: it closes by itself.
		c.tapped("00000000AA")
		typed("2", "4711")
		time.Sleep(time.Minute + time.Second)
		if ev := c.tapped("00000000CC"); ev.What != device.Card {
			t.Errorf("open for ever: %+v", ev)
		}
		if _, known := c.a.roster.ByBadge("em:00000000CC"); known {
			t.Error("a stranger's card was given out")
		}
	})
}

func TestGuessesOfAMasterPINAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		defer c.end()
		if err := c.a.roster.SetMaster("em:00000000AA", "4711", "t"); err != nil {
			t.Fatal(err)
		}
		for try := range 8 {
			c.tapped("00000000AA")
			c.hear(device.Event{Reader: "front", What: device.Entry, Number: "2", PIN: "0000", Last: time.Now()})
			want := device.FaultPIN
			if try >= triesFree {
				want = device.FaultTries
			}
			if ev := <-c.out; ev.Fault != want {
				t.Errorf("try %d: %s, want %s", try+1, ev.Fault, want)
			}
		}
	})
}

func TestSomebodyElsesCardIsNotGivenAwayUnlessThatIsMeant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		defer c.end()
		give := func(number string, move bool) (given, error) {
			type answer struct {
				given
				err error
			}
			got := make(chan answer, 1)
			go func() {
				g, err := c.tap(t.Context(), number, "front", move, "t", time.Minute)
				got <- answer{g, err}
			}()
			synctest.Wait()
			if ev := c.hear(device.Event{Reader: "back", What: device.Card, Medium: "em", Value: "0000000003", Last: time.Now()}); ev.What != device.Card {
				t.Errorf("another reader's tap: %+v", ev)
			}
			c.tapped("0000000001")
			<-c.out
			a := <-got
			return a.given, a.err
		}
		if g, err := give("2", false); !errors.Is(err, roster.ErrTaken) || g.From != "1" {
			t.Errorf("%+v %v", g, err)
		}
		if g, err := give("2", true); err != nil || g.From != "1" || !g.Changed {
			t.Errorf("%+v %v", g, err)
		}
		if _, err := c.tap(t.Context(), "2", "", false, "t", time.Minute); !errors.Is(err, errEnrolLate) {
			t.Errorf("nobody came: %v", err)
		}
		if _, err := c.tap(t.Context(), "9", "", false, "t", time.Minute); !errors.Is(err, roster.ErrNobody) {
			t.Errorf("for nobody: %v", err)
		}
	})
}

// A master card's PIN may be looked at just when somebody else's time runs out.
func TestWhoeverWaitedForACardHearsThatNoneCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		defer c.end()
		got := make(chan error, 1)
		go func() {
			_, err := c.tap(t.Context(), "2", "", false, "t", time.Minute)
			got <- err
		}()
		synctest.Wait()
		c.tapped("00000000AA")
		<-c.out
		if err := <-got; err != nil {
			t.Errorf("the card was given: %v", err)
		}
		go func() {
			_, err := c.tap(t.Context(), "2", "", false, "t", time.Minute)
			got <- err
		}()
		synctest.Wait()
		c.mu.Lock()
		c.open, c.busy = nil, true // a master card was tapped, and its PIN is being looked at
		c.mu.Unlock()
		time.Sleep(2 * time.Minute)
		select {
		case err := <-got:
			if !errors.Is(err, errEnrolLate) {
				t.Errorf("%v", err)
			}
		default:
			t.Fatal("waits for ever")
		}
		c.mu.Lock()
		c.busy = false
		c.mu.Unlock()
	})
}

// Whoever asks five years later who had a card then finds it in the chain, by whatever way
// it was changed, and the file that an import came from by its sum.
func TestEveryWayToChangeACardIsInTheChain(t *testing.T) {
	source := filepath.Join(t.TempDir(), "hr.csv")
	put := func(text string) {
		old := time.Now().Add(-time.Minute) // it has lain there long enough to be whole
		if err := errors.Join(os.WriteFile(source, []byte(text), 0o600), os.Chtimes(source, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	put("employee_no,badges\n1,em:00000000A1\n2,em:00000000A2\n")
	h := newHouse(t, settings{extra: fmt.Sprintf("[roster]\nsource = %q\n", source)})
	h.start()
	h.must("roster", "refresh") // the first look may be under way
	h.tap(h.people[0])          // the chain begins
	if out := h.must("roster", "refresh"); !strings.Contains(out, "0 added, 0 changed, 0 removed, 2 unchanged") {
		t.Errorf("nothing new: %s", out)
	}
	put("employee_no,badges\n1,em:00000000A2\n2,\n")
	if out := h.must("roster", "refresh"); !strings.Contains(out, "2 changed") {
		t.Errorf("refresh: %s", out)
	}
	put("<html>log in</html>")
	if out, code := h.run("roster", "refresh", "--config", h.config); code == 0 || !strings.Contains(out, "stays as it is") {
		t.Errorf("a page instead of a roster: %d %s", code, out)
	}
	big5 := []byte("employee_no;name;badges\r\n1;\xa4\xfd;em:00000000B1\r\n2;\xa7\xf5;em:00000000A2\r\n") // 王, 李
	h.write("big5.csv", string(big5))
	if out := h.must("roster", "import", "--dry-run", "--encoding", "big5", filepath.Join(h.dir, "big5.csv")); !strings.Contains(out, "> em:00000000A2\tthe card of 1 is 2's then") {
		t.Errorf("dry run: %s", out)
	}
	h.must("roster", "import", "--encoding", "big5", "--by", "小林", filepath.Join(h.dir, "big5.csv"))
	h.must("enrol", "card", "em:00000000B1", "--employee", "2", "--move")
	h.must("badge", "take", "em:00000000B1")
	h.stop()
	var got []string
	for line := range strings.Lines(h.must("punches", "export")) {
		var r exportRow
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Audit == nil {
			continue
		}
		x := fmt.Sprintf("%s %s %s<%s by %s", r.Audit.Act, r.Badge, r.Employee, r.Audit.From, r.Audit.By)
		if r.Audit.Detail != "" {
			x = r.Audit.Act + " by " + r.Audit.By + ": " + r.Audit.Detail
			if len(r.Raw) != 64 || r.RawBits != 256 {
				t.Errorf("no sum of the file: %q", r.Raw)
			}
		}
		if r.Audit.By == "小林" && r.Audit.Detail != "" && r.Raw != fmt.Sprintf("%X", sha256.Sum256(big5)) {
			t.Errorf("the sum is not the file's as it came: %s", r.Raw)
		}
		got = append(got, x)
	}
	want := []string{
		"roster-imported by roster source: people 0 new, 2 changed, 0 gone, 0 numbers passed on; cards 1 moved, 1 taken, 0 given",
		"card-moved em:00000000A2 1<2 by roster source", "card-taken em:00000000A1 <1 by roster source",
		"roster-imported by 小林: people 0 new, 2 changed, 0 gone, 0 numbers passed on; cards 1 moved, 0 taken, 1 given",
		"card-moved em:00000000A2 2<1 by 小林", "card-given em:00000000B1 1< by 小林",
		"card-moved em:00000000B1 2<1 by command line", "card-taken em:00000000B1 <2 by command line",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the chain says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if out := h.must("verify"); !strings.Contains(out, "are what was written") {
		t.Errorf("verify: %s", out)
	}
}
