package kiosk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"punchclock/device"
	"punchclock/queue/punch"
	"punchclock/ui"
)

var taipei = time.FixedZone("Asia/Taipei", 8*3600)

var errMedium = errors.New("outbox: append: the card is full")

// What becomes of an append.
const (
	ok   = iota // it is on the medium, and the caller is told so
	lost        // an error, and nothing is there
	kept        // an error, and the record is there all the same
)

// failer is a test or one run of a property.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// door drives step the way the runner does, with a recorder that keeps its contract
// and fails on demand, and a wall clock that may be set.
type door struct {
	t       failer
	s       state
	uptime  time.Duration
	wall    time.Time // at uptime 0
	clock   punch.ClockState
	boot    byte
	people  map[punch.Badge]punch.Employee
	medium  []punch.Punch
	hold    bool // appends wait for finish
	fate    int
	waiting []actAppend
	answers []ui.Result
	byTap   map[punch.Tap]ui.Result
	cues    []ui.Cue
	screens []ui.Screen
	taps    uint64
}

func newDoor(t failer, at string, change func(*Config)) *door {
	t.Helper()
	cfg := Config{Location: taipei, DuplicateWindow: time.Minute, KindTimeout: 10 * time.Second, DefaultLanguage: "zh-TW"}
	if change != nil {
		change(&cfg)
	}
	d := &door{
		t: t, s: newState(cfg), clock: punch.Synced, boot: 1, uptime: time.Hour,
		people: map[punch.Badge]punch.Employee{}, byTap: map[punch.Tap]ui.Result{},
	}
	d.set(at)
	d.hire("000123", "王小明", "em:0000000001", "em:0000000002")
	d.hire("000456", "李華", "em:0000000003")
	d.tick()
	return d
}

func (d *door) hire(number, name string, badges ...punch.Badge) {
	for _, b := range badges {
		d.people[b] = punch.Employee{Number: number, Name: name, Badges: badges, Active: true}
	}
}

// set makes the wall clock say this, now.
func (d *door) set(at string) {
	d.t.Helper()
	w, err := time.ParseInLocation("2006-01-02 15:04:05", at, taipei)
	if err != nil {
		d.t.Fatal(err)
	}
	d.wall = w.Add(-d.uptime)
}

func (d *door) now() punch.Stamp {
	return punch.Stamp{Wall: d.wall.Add(d.uptime), BootID: [16]byte{d.boot}, Uptime: d.uptime, Clock: d.clock}
}

func (d *door) wait(by time.Duration) { d.uptime += by; d.tick() }
func (d *door) tick()                 { d.feed(event{what: evTick}) }

func (d *door) choose(k punch.Kind) { d.feed(event{what: evChoose, stamp: d.now(), kind: k}) }

func (d *door) misread() {
	d.feed(event{what: evMisread, id: d.draw(), stamp: d.now(), reader: "front", sign: device.Fault, fault: "checksum"})
}

func (d *door) draw() (id punch.Tap) {
	d.taps++
	binary.BigEndian.PutUint64(id[:], d.taps)
	return id
}

// tap taps a card and returns the tap's identity.
func (d *door) tap(b punch.Badge) punch.Tap {
	e := event{what: evTap, id: d.draw(), stamp: d.now(), reader: "front", badge: b}
	if p, ok := d.people[b]; ok && p.Active {
		e.who = personOf(p)
	}
	d.feed(e)
	return e.id
}

// page punches by number.
func (d *door) page(number string) punch.Tap {
	e := event{what: evTap, id: d.draw(), stamp: d.now(), reader: PageReader, badge: punch.Badge("key:" + number)}
	for _, p := range d.people {
		if p.Number == number {
			e.who = personOf(p)
		}
	}
	d.feed(e)
	return e.id
}

func (d *door) feed(e event) {
	e.at = d.now()
	var acts []action
	d.s, acts = step(d.s, e)
	for _, a := range acts {
		switch a := a.(type) {
		case actAppend:
			d.waiting = append(d.waiting, a)
		case actAnswer:
			if _, twice := d.byTap[a.id]; twice {
				d.t.Fatalf("a tap was answered twice: %+v", a.result)
			}
			d.byTap[a.id] = a.result
			d.answers = append(d.answers, a.result)
		case actShow:
			d.screens = append(d.screens, a.screen)
		case actPlay:
			d.cues = append(d.cues, a.cue)
		}
	}
	for !d.hold && len(d.waiting) > 0 {
		d.finish(0, d.fate)
	}
}

// finish lets the i-th waiting append come back.
func (d *door) finish(i, fate int) {
	a := d.waiting[i]
	d.waiting = append(d.waiting[:i:i], d.waiting[i+1:]...)
	e := event{what: evDone, id: a.id}
	if fate != ok {
		e.err = errMedium
	}
	if fate != lost {
		e.punch = d.store(a.draft)
	}
	if fate == kept {
		e.punch = punch.Punch{}
	}
	d.feed(e)
}

func (d *door) store(draft punch.Draft) punch.Punch {
	for _, p := range d.medium {
		if p.Tap == draft.Tap {
			return p
		}
	}
	seq := uint64(len(d.medium) + 1)
	p := punch.Punch{ID: punch.NewID("test", seq), Seq: seq, Draft: draft}
	d.medium = append(d.medium, p)
	return p
}

func (d *door) last() ui.Result {
	d.t.Helper()
	if len(d.answers) == 0 {
		d.t.Fatal("no answer yet")
	}
	return d.answers[len(d.answers)-1]
}

func (d *door) screen() ui.Screen { return d.screens[len(d.screens)-1] }

func (d *door) want(outcome, kind string) {
	d.t.Helper()
	if r := d.last(); r.Outcome != outcome || r.Kind != kind {
		d.t.Fatalf("answered %s %s, want %s %s", r.Outcome, r.Kind, outcome, kind)
	}
}

// stored says what is on the medium, in a line.
func (d *door) stored() string {
	var s string
	for _, p := range d.medium {
		s += fmt.Sprintf("%s:%s ", p.Outcome, p.Kind)
	}
	return s
}

const (
	wang  = punch.Badge("em:0000000001")
	wang2 = punch.Badge("em:0000000002")
	li    = punch.Badge("em:0000000003")
	anon  = punch.Badge("em:00000000FF")
)

func workday(c *Config) {
	c.Schedule = []Slot{
		{From: 5 * 60, To: 11 * 60, Kind: punch.In},
		{From: 11 * 60, To: 14 * 60, Kind: punch.GoOut},
		{From: 22 * 60, To: 2 * 60, Kind: punch.Out},
	}
}

func TestKindFollowsThePersonsOwnLastPunchOfTheDay(t *testing.T) {
	for _, c := range []struct {
		before punch.Kind
		want   string
	}{{0, "in"}, {punch.In, "out"}, {punch.Out, "in"}, {punch.GoOut, "return"}, {punch.Return, "out"}} {
		d := newDoor(t, "2026-11-21 09:00:00", nil)
		if c.before != 0 {
			d.choose(c.before)
			d.tap(wang)
		}
		d.wait(time.Hour)
		d.tap(wang2) // the other card is the same person's
		d.want("stored", c.want)
		d.tap(li)
		d.want("stored", "in")
		d.uptime += 24 * time.Hour
		d.tap(wang)
		d.want("stored", "in")
	}
}

func TestScheduleDecidesWhereNobodyChoseAndWrapsMidnight(t *testing.T) {
	for at, want := range map[string]string{
		"04:59:59": "in", // no slot: nobody punched yet
		"05:00:00": "in",
		"10:59:59": "in",
		"11:00:00": "go-out",
		"13:59:59": "go-out",
		"22:00:00": "out",
		"00:30:00": "out",
		"01:59:59": "out",
		"02:00:00": "in",
	} {
		d := newDoor(t, "2026-11-21 "+at, workday)
		d.tap(wang)
		if d.want("stored", want); t.Failed() {
			t.Fatal(at)
		}
	}
	d := newDoor(t, "2026-11-21 03:00:00", func(c *Config) { c.Schedule = []Slot{{From: 600, To: 600, Kind: punch.Return}} })
	d.tap(wang)
	d.want("stored", "return")
}

func TestScheduleReadsTheClockOfTheDevicesZone(t *testing.T) {
	d := newDoor(t, "2026-11-21 05:30:00", workday) // 21:30 of the day before in UTC
	d.wall = d.wall.UTC()
	d.tap(wang)
	d.want("stored", "in")
	if got := d.last().Time.Format(time.RFC3339); got != "2026-11-21T05:30:00+08:00" {
		t.Errorf("told the time %s", got)
	}
}

func TestScheduleIsPassedOverWhileNobodyHasSetTheClock(t *testing.T) {
	d := newDoor(t, "1970-01-01 12:00:00", workday) // go-out, if that could be believed
	d.clock = punch.Unset
	d.wait(time.Second)
	if s := d.screen(); s.Kind != "" || s.Why != "person" || s.Clock != "unset" {
		t.Errorf("shows %+v", s)
	}
	d.tap(wang)
	d.want("stored", "in")
	if d.last().Clock != "unset" {
		t.Errorf("clock %q", d.last().Clock)
	}
}

func TestSettingTheClockDoesNotForgetTheMorning(t *testing.T) {
	d := newDoor(t, "1970-01-01 00:01:00", nil)
	d.clock = punch.Unset
	d.tap(wang)
	d.want("stored", "in")
	d.set("2026-11-21 08:00:00")
	d.clock = punch.Synced
	d.wait(9 * time.Hour)
	d.tap(wang)
	d.want("stored", "out")
}

func TestUnsetClockDoesNotForgetThePunchesBeforeTheReboot(t *testing.T) {
	d := newDoor(t, "2026-11-21 08:00:00", nil)
	d.tap(wang)
	before := d.medium
	d = newDoor(t, "1970-01-01 00:00:30", nil)
	d.boot, d.clock = 2, punch.Unset
	for _, p := range before {
		d.s.remember(p, p.Stamp.Uptime)
	}
	d.wait(time.Minute)
	d.set("1970-01-02 00:00:30")
	d.wait(time.Minute)
	d.set("2026-11-21 17:00:00")
	d.clock = punch.Synced
	d.wait(time.Minute)
	d.tap(wang)
	d.want("stored", "out")
}

func TestChosenKindHoldsForOneTapAndNotLongerThanItsTimeout(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", workday)
	d.choose(punch.GoOut)
	if s := d.screen(); s.Kind != "go-out" || s.Why != "chosen" || s.Until.Format("15:04:05") != "09:00:10" {
		t.Fatalf("shows %+v", s)
	}
	d.wait(9999 * time.Millisecond)
	d.tap(wang)
	d.want("stored", "go-out")
	d.tap(li)
	d.want("stored", "in")

	d.choose(punch.GoOut)
	d.wait(10 * time.Second)
	if s := d.screen(); s.Kind != "in" || s.Why != "schedule" || !s.Until.IsZero() {
		t.Errorf("shows %+v", s)
	}
	d.wait(time.Minute)
	d.tap(li)
	d.want("stored", "in")
}

func TestUnknownCardUsesTheChoiceUpAndMisreadDoesNot(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.choose(punch.GoOut)
	d.misread()
	d.want("misread", "")
	if len(d.medium) != 0 {
		t.Fatalf("stored %s", d.stored())
	}
	d.tap(anon)
	d.want("unknown_badge", "go-out")
	d.tap(wang)
	d.want("stored", "in")
}

func TestAMisreadSaysWhyToThePerson(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	for i, why := range []string{"random", "checksum"} {
		d.feed(event{what: evMisread, id: d.draw(), stamp: d.now(), reader: "front", sign: device.Fault, fault: why})
		if len(d.answers) != i+1 || d.answers[i].Reason != why {
			t.Fatalf("%s: answers %+v", why, d.answers)
		}
	}
}

func TestChoiceNeverReachesBackToAnEarlierTap(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	early := d.now()
	d.uptime += 3 * time.Second
	d.choose(punch.GoOut)
	d.feed(event{what: evTap, id: d.draw(), stamp: early, reader: "front", badge: li, who: personOf(d.people[li])})
	d.want("stored", "in")
	d.tap(wang)
	d.want("stored", "go-out")
}

func TestSecondTapNeverFlipsInToOut(t *testing.T) {
	for _, c := range []struct {
		name, at string
		second   func(*door)
	}{
		{"same card", "2026-11-21 09:00:00", func(d *door) { d.tap(wang) }},
		{"other card", "2026-11-21 09:00:00", func(d *door) { d.tap(wang2) }},
		{"number on the page", "2026-11-21 09:00:00", func(d *door) { d.page("000123") }},
		{"slot ends between", "2026-11-21 10:59:40", func(d *door) { d.tap(wang) }},
		{"same kind chosen", "2026-11-21 09:00:00", func(d *door) { d.choose(punch.In); d.tap(wang) }},
		{"clock set between", "2026-11-21 09:00:00", func(d *door) { d.set("2026-11-22 12:00:00"); d.tick(); d.tap(wang) }},
		{"card forgotten between", "2026-11-21 09:00:00", func(d *door) { delete(d.people, wang); d.tap(wang) }},
		{"choice of another has lapsed", "2026-11-21 09:00:00", func(d *door) { d.choose(punch.Out); d.wait(11 * time.Second); d.tap(wang) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDoor(t, c.at, workday)
			d.tap(wang)
			d.want("stored", "in")
			d.wait(30 * time.Second)
			c.second(d)
			d.want("duplicate", "in")
			if d.cues[len(d.cues)-1] != ui.CueDuplicate || d.medium[1].Outcome != punch.Duplicate {
				t.Errorf("cue %v, stored %s", d.cues, d.stored())
			}
		})
	}
}

func TestSecondTapAcrossMidnightKeepsTheKind(t *testing.T) {
	d := newDoor(t, "2026-11-21 12:00:00", nil)
	d.tap(wang)
	d.wait(12*time.Hour - 20*time.Second)
	d.tap(wang)
	d.want("stored", "out")
	d.wait(40 * time.Second)
	d.tap(wang)
	d.want("duplicate", "out")
	d.wait(20 * time.Second)
	d.tap(wang) // a minute after the first
	d.want("stored", "in")
}

func TestDuplicateDoesNotLengthenTheWindow(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	d.wait(59999 * time.Millisecond)
	d.tap(wang)
	d.want("duplicate", "in")
	d.wait(time.Millisecond)
	d.tap(wang)
	d.want("stored", "out")
}

func TestAnotherKindChosenForThisTapIsAPunch(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	d.choose(punch.GoOut)
	d.tap(wang)
	d.want("stored", "go-out")
	d.tap(wang)
	d.want("duplicate", "go-out")
}

func TestWindowOfZeroTurnsDuplicatesOff(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", func(c *Config) { c.DuplicateWindow = 0 })
	d.tap(wang)
	d.tap(wang)
	d.want("stored", "out")
}

// After a standstill, frames that waited in a buffer come at one moment. 104 knows a
// punch by nothing but person and time.
func TestTwoPunchesOfOnePersonNeverHaveOneTime(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", func(c *Config) { c.DuplicateWindow = 0 })
	d.uptime = d.uptime.Truncate(time.Millisecond)
	for range 3 {
		d.tap("em:0000000001")
		d.tap("em:0000000003")
	}
	d.uptime += 2 * time.Millisecond
	d.tap("em:0000000001") // the time of the third
	for number, want := range map[string][]int{"000123": {0, 1, 2, 3}, "000456": {0, 1, 2}} {
		var got []int
		for _, p := range d.medium {
			if p.Employee == number {
				got = append(got, int(p.Stamp.Wall.Sub(d.medium[0].Stamp.Wall).Milliseconds()))
				if p.Stamp.Wall.Sub(d.medium[0].Stamp.Wall) != p.Stamp.Uptime-d.medium[0].Stamp.Uptime {
					t.Errorf("%s: wall time and uptime part", p.ID)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: punches at %v ms, want %v", number, got, want)
		}
	}
}

func TestTwoPeopleAreNeverDuplicatesOfEachOther(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	d.hire("000789", "陳美", wang) // the card changes hands
	d.people[wang2] = punch.Employee{Number: "000123", Name: "王小明", Badges: []punch.Badge{wang2}, Active: true}
	d.tap(wang)
	d.want("stored", "in")
	if d.last().Employee != "000789" {
		t.Errorf("sent as %s", d.last().Employee)
	}
	d.tap(wang2)
	d.want("duplicate", "in")
}

func TestUnknownCardThatTheRosterLearnsIsTheSamePersonsPunch(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(anon)
	d.want("unknown_badge", "in")
	if r := d.last(); r.Employee != "" || r.Name != "" || r.PunchID == "" {
		t.Errorf("answered %+v", r)
	}
	d.tap(anon)
	d.want("duplicate", "in")
	d.hire("000789", "陳美", anon, "em:0000000009")
	d.tap("em:0000000009")
	d.want("duplicate", "in")
	if d.last().Employee != "000789" {
		t.Errorf("answered %+v", d.last())
	}
	d.wait(8 * time.Hour)
	d.tap("em:0000000009")
	d.want("stored", "out")
}

func TestNumberTypedByAStrangerSaysNothingAboutThePerson(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap("key:000456") // at a keypad, and nobody's
	d.want("unknown_badge", "in")
	d.page("000456")
	d.want("stored", "in")

	d.hold = true
	d.wait(time.Hour)
	d.page("000456")
	d.tap("key:000456")
	d.page("000456")
	if len(d.waiting) != 2 {
		t.Errorf("%d appends under way, want the person's and the stranger's", len(d.waiting))
	}
}

func TestCardOfSomebodyWhoLeftIsStoredAsUnknown(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.people[li] = punch.Employee{Number: "000456", Name: "李華", Badges: []punch.Badge{li}}
	d.tap(li)
	d.want("unknown_badge", "in")
	if d.medium[0].Employee != "" || d.cues[0] != ui.CueUnknown {
		t.Errorf("stored as %q, cue %s", d.medium[0].Employee, d.cues[0])
	}
}

func TestTapAfterNotStoredHandsInTheVerySameDraft(t *testing.T) {
	for name, fate := range map[string]int{"nothing was written": lost, "it was written after all": kept} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, "2026-11-21 10:59:30", workday)
			d.hold = true
			d.tap(wang)
			first := d.waiting[0].draft
			d.finish(0, fate)
			d.want("not_stored", "in")
			if r := d.last(); r.PunchID != "" || r.Seq != 0 || d.cues[0] != ui.CueNotStored {
				t.Errorf("answered %+v %v", r, d.cues)
			}
			d.wait(50 * time.Second) // into the next slot
			d.tap(wang)
			if again := d.waiting[0].draft; fmt.Sprint(again) != fmt.Sprint(first) {
				t.Fatalf("handed in %+v, first %+v", again, first)
			}
			d.finish(0, ok)
			d.want("stored", "in")
			if len(d.medium) != 1 {
				t.Fatalf("stored %s", d.stored())
			}
			// Told just now: the next tap is a duplicate although the punch is older.
			d.wait(50 * time.Second)
			d.tap(wang)
			d.finish(0, ok)
			d.want("duplicate", "in")
		})
	}
}

func TestChoosingAnotherKindAfterNotStoredIsAnotherPunch(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.fate = lost
	d.tap(wang)
	d.choose(punch.Out)
	d.tap(wang)
	d.want("not_stored", "out")
	d.fate = ok
	d.choose(punch.In)
	in := d.tap(wang)
	d.want("stored", "in")
	if d.medium[0].Tap == in {
		t.Error("the first tap was forgotten")
	}
	d.tap(wang) // what failed before is over
	d.want("duplicate", "in")
}

func TestFailedAppendChangesNobodysLastPunch(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.fate = lost
	d.tap(wang)
	d.fate = ok
	d.wait(2 * time.Hour)
	d.tap(wang)
	d.want("stored", "in")
}

func TestEvenWithoutAWindowTheTapAfterNotStoredIsTheSame(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", func(c *Config) { c.DuplicateWindow = 0 })
	d.fate = kept
	d.tap(wang)
	d.fate = ok
	d.wait(5 * time.Second)
	d.tap(wang)
	d.want("stored", "in")
	if len(d.medium) != 1 {
		t.Errorf("stored %s", d.stored())
	}
}

func TestDuplicateThatCouldNotBeStoredIsNoSuccessEither(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	d.wait(55 * time.Second)
	d.fate = lost
	d.tap(wang)
	d.want("not_stored", "in")
	d.fate = ok
	d.wait(10 * time.Second) // the window is over, the person still taps the same tap
	d.tap(wang)
	d.want("duplicate", "in")
}

func TestQuickSecondTapWaitsForTheFirst(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.hold = true
	d.tap(wang)
	d.tap(wang2)
	d.page("000123")
	d.tap(li)
	if len(d.waiting) != 2 {
		t.Fatalf("%d appends under way, want one of each person", len(d.waiting))
	}
	first := d.waiting[0].draft
	d.finish(0, lost)
	d.want("not_stored", "in")
	if again := d.waiting[1].draft; again.Tap != first.Tap || again.Outcome != punch.Stored {
		t.Fatalf("the second tap became %+v", again)
	}
	d.finish(1, ok)
	d.want("stored", "in")
	d.finish(1, ok)
	d.want("duplicate", "in")
}

func TestChoiceBelongsToTheTapThatCameFirst(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.hold = true
	d.tap(wang)
	d.choose(punch.GoOut)
	d.tap(wang2) // waits for the first, and has the choice
	d.tap(li)
	d.finish(1, ok)
	d.want("stored", "in")
	d.finish(0, ok)
	d.finish(0, ok)
	d.want("stored", "go-out")
}

func TestAppendsUnderWayAreBounded(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.hold = true
	for i := range 100 {
		d.tap(punch.Badge(fmt.Sprintf("em:%010X", 0x1000+i)))
	}
	if len(d.waiting) != maxAppends {
		t.Fatalf("%d appends under way", len(d.waiting))
	}
	for len(d.waiting) > 0 {
		d.finish(0, ok)
	}
	if len(d.answers) != 100 {
		t.Errorf("%d answers to 100 taps", len(d.answers))
	}
}

func TestRestartKeepsWindowAndLastPunch(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	d.tap(wang)
	d.tap(anon)
	old, uptime := d.medium, d.uptime
	d = newDoor(t, "2026-11-21 09:00:00", nil)
	d.uptime = uptime + 20*time.Second
	for _, p := range old {
		d.s.remember(p, p.Stamp.Uptime)
	}
	d.tap(wang)
	d.want("duplicate", "in")
	d.tap(anon)
	d.want("duplicate", "in")

	d.boot = 2 // the machine itself was restarted: uptimes cannot be compared
	d.uptime = 30 * time.Second
	d.set("2026-11-21 12:00:00")
	d.tap(wang)
	d.want("stored", "out")
}

func TestCorrectionOfTheLastPunchCountsForTheNext(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	p := d.medium[0]
	p.Seq, p.Supersedes, p.Kind = 2, 1, punch.GoOut
	d.s.remember(p, 0)
	p.Seq, p.Supersedes, p.Kind = 3, 77, punch.Out // of some older one
	d.s.remember(p, 0)
	d.wait(time.Hour)
	d.tap(wang)
	d.want("stored", "return")
}

func TestScreenShowsTheAnswerForTwoAndAHalfSeconds(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	if r := d.screen().Result; r == nil || r.Outcome != "stored" || r.Name != "王小明" || r.Language != "zh-TW" {
		t.Fatalf("shows %+v", r)
	}
	if w := d.s.wake(d.now()); w != resultFor {
		t.Errorf("wakes after %v", w)
	}
	d.wait(2499 * time.Millisecond)
	if d.screen().Result == nil {
		t.Fatal("gone too early")
	}
	d.wait(time.Millisecond)
	if d.screen().Result != nil {
		t.Fatal("still there")
	}
	d.tap(li)
	d.choose(punch.Out)
	if s := d.screen(); s.Result != nil || s.Kind != "out" {
		t.Errorf("the next person chooses and sees %+v", s)
	}
}

func TestScreenIsDrawnOnlyWhenItChanges(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	n := len(d.screens)
	for range 10 {
		d.wait(time.Minute)
	}
	if len(d.screens) != n {
		t.Errorf("%d screens for nothing", len(d.screens)-n)
	}
}

func TestWakesForChoiceAndForTheMinute(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:20", nil)
	if w := d.s.wake(d.now()); w != 40*time.Second {
		t.Errorf("idle: wakes after %v", w)
	}
	d.choose(punch.Out)
	d.wait(4 * time.Second)
	if w := d.s.wake(d.now()); w != 6*time.Second {
		t.Errorf("a choice: wakes after %v", w)
	}
	d.uptime += time.Minute
	if w := d.s.wake(d.now()); w <= 0 || w > time.Minute {
		t.Errorf("a lapsed choice: wakes after %v", w)
	}
}

func TestReadersAreShownInConfiguredOrder(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", func(c *Config) { c.Readers = []string{"front", "back"} })
	d.feed(event{what: evReader, reader: "back", sign: device.Up})
	d.feed(event{what: evReader, reader: "front", sign: device.Fault, fault: "noise"})
	want := []ui.Reader{{Name: "front", State: "down"}, {Name: "back", State: "ok"}}
	if got := d.screen().Readers; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("shows %v", got)
	}
	if len(d.answers) != 0 || d.s.readers[0].Faults["noise"] != 1 {
		t.Errorf("line noise was answered %v, counted %v", d.answers, d.s.readers[0].Faults)
	}
	d.feed(event{what: evReader, reader: "back", sign: device.Down})
	if got := d.screen().Readers; got[1].State != "down" {
		t.Errorf("shows %v", got)
	}
	d.tap(wang)
	if got := d.screen().Readers; got[0].State != "ok" {
		t.Errorf("read a card and shows %v", got)
	}
}

func TestYesterdayIsForgottenAndMemoryIsBounded(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	for i := range 1000 {
		d.tap(punch.Badge(fmt.Sprintf("em:%010X", 0x1000+i)))
	}
	d.wait(24 * time.Hour)
	if n := len(d.s.people); n != 0 {
		t.Errorf("%d people remembered on the next day", n)
	}
	for i := range maxMemory + 100 {
		d.s.remember(punch.Punch{Seq: uint64(i + 1), Draft: punch.Draft{
			Outcome: punch.UnknownBadge, Kind: punch.In, Badge: punch.Badge(fmt.Sprintf("em:%010X", i)), Stamp: d.now()}}, 0)
	}
	if n := len(d.s.people); n > maxMemory {
		t.Errorf("%d people remembered", n)
	}
	if d.s.people[fmt.Sprintf("b:em:%010X", maxMemory+99)] == nil {
		t.Error("the latest was forgotten")
	}
}

func TestMaskedNamesKeepFirstAndLast(t *testing.T) {
	for name, want := range map[string]string{
		"王小明": "王○明", "王明": "王○", "王": "○", "歐陽小明": "歐○○明", "陳 小明": "陳○明", "陳　小明": "陳○明",
		"John Smith": "J○ S○", "Nguyễn Văn An": "N○ V○ A○", "Amy 陳": "A○ ○", "": "", "김철수": "김○수", "สมชาย": "ส○",
	} {
		if got := mask(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	d := newDoor(t, "2026-11-21 09:00:00", func(c *Config) { c.MaskNames = true })
	d.tap(wang)
	if r := d.last(); r.Name != "王○明" || r.Employee != "000123" {
		t.Errorf("answered %+v", r)
	}
}

func TestPersonsOwnLanguageIsUsed(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.people[li] = punch.Employee{Number: "000456", Name: "Lee", Language: "en", Active: true}
	d.tap(li)
	if d.last().Language != "en" {
		t.Errorf("answered in %s", d.last().Language)
	}
}

func TestBlockedCardIsKeptAsJustThatAndIsNobodysSecondTap(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	d.want("stored", "in")
	d.feed(event{what: evTap, id: d.draw(), stamp: d.now(), reader: "front", badge: wang, blocked: true})
	d.want("blocked_badge", "in")
	if p := d.medium[len(d.medium)-1]; p.Employee != "" || p.Badge != wang || p.Outcome != punch.BlockedBadge {
		t.Errorf("kept as %+v", p.Draft)
	}
	r := d.answers[len(d.answers)-1]
	if r.Employee != "" || r.Name != "" || d.cues[len(d.cues)-1] != ui.CueUnknown || d.s.mine != nil {
		t.Errorf("the door tells whose it was: %+v, %v", r, d.cues)
	}
	// Nothing follows from it, neither for the person nor for the card when it was found.
	d.wait(2 * time.Minute)
	d.tap(wang)
	d.want("stored", "out")
}

// Whoever is given a card must not take the sign for "try again".
func TestEnrolmentThatGoesWellHasItsOwnSigns(t *testing.T) {
	for fault, want := range map[string]struct {
		outcome string
		cue     ui.Cue
	}{
		device.FaultEnrolled:  {"enrolment", ui.CueEnrolled},
		device.FaultEnrolPIN:  {"enrolment", ui.CueEnrolNext},
		device.FaultEnrolCard: {"enrolment", ui.CueEnrolNext},
		device.FaultEnrolNo:   {"misread", ui.CueMisread},
		device.FaultLearned:   {"misread", ui.CueMisread},
		device.FaultChecksum:  {"misread", ui.CueMisread},
	} {
		r := Enrolling(fault, time.Now(), punch.Synced)
		if r.Outcome != want.outcome || r.Reason != fault || cueOf(r) != want.cue || r.PunchID != "" {
			t.Errorf("%s: %+v, %s", fault, r, cueOf(r))
		}
	}
}
