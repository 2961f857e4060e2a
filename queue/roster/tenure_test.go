package roster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"punchclock/queue/punch"
)

// house is a roster with a clock that the test sets.
type house struct {
	*Roster
	t    *testing.T
	now  time.Time
	path string
}

func newHouse(t *testing.T, cards Cards) *house {
	h := &house{t: t, now: day("2026-01-05"), path: filepath.Join(t.TempDir(), "roster.db")}
	h.open(cards)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		check(t, h.path)
	})
	return h
}

func (h *house) open(cards Cards) {
	h.t.Helper()
	r, err := Open(h.path, Options{Cards: cards, Now: func() (time.Time, bool) { return h.now, true }})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Roster = r
}

// again is a restart: nothing of this may live in memory alone.
func (h *house) again() {
	h.t.Helper()
	if err := h.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.open(h.cards)
}

// at imports a file on a day.
func (h *house) at(date string, lines ...string) Diff {
	h.t.Helper()
	h.now = day(date)
	rows, err := ReadCSV("hr", []byte("employee_no,name,badges,signin_id,valid_from,valid_to\n"+strings.Join(lines, "\n")+"\n"), h.cards, time.UTC)
	if err != nil {
		h.t.Fatal(err)
	}
	d, err := h.Replace(rows)
	if err != nil {
		h.t.Fatal(err)
	}
	h.again()
	return d
}

// who is the name of whoever had the number on a day, at noon.
func (h *house) who(number, date string) string {
	e, ok := h.ByNumberAt(number, day(date).Add(12*time.Hour))
	if !ok {
		return "nobody"
	}
	return e.Name
}

// tapped is whose an unknown card's tap of that day is, at noon.
func (h *house) tapped(b punch.Badge, date string) string {
	e, ok := h.ByBadgeAt(b, day(date).Add(12*time.Hour))
	if !ok {
		return "nobody"
	}
	return e.Name
}

func (h *house) want(what, got, want string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

const (
	cardA = punch.Badge("em:000000000A")
	cardB = punch.Badge("em:000000000B")
)

func TestNumberGivenToSomebodyElseNeverInheritsThePast(t *testing.T) {
	for name, imports := range map[string]func(h *house) Diff{
		"in one import, plainly another person": func(h *house) Diff {
			h.at("2026-01-05", "0042,王小明,em:000000000A,s-wang,,")
			return h.at("2026-03-02", "0042,李大同,em:000000000B,s-lee,,")
		},
		"after a while in which nobody had it": func(h *house) Diff {
			h.at("2026-01-05", "0042,王小明,em:000000000A,s-wang,,", "1,x,,,,")
			h.at("2026-02-20", "1,x,,,,")
			return h.at("2026-03-02", "0042,李大同,em:000000000B,s-lee,,", "1,x,,,,")
		},
		"with the same card": func(h *house) Diff {
			h.at("2026-01-05", "0042,王小明,em:000000000A,s-wang,,", "1,x,,,,")
			h.at("2026-02-20", "1,x,,,,")
			return h.at("2026-03-02", "0042,李大同,em:000000000A,s-lee,2026-03-02,", "1,x,,,,")
		},
		"with days, both in one file": func(h *house) Diff {
			h.at("2026-01-05", "0042,王小明,em:000000000A,s-wang,,")
			return h.at("2026-03-10", "0042,王小明,,s-wang,,2026-03-01", "0042,李大同,em:000000000B,s-lee,2026-03-02,")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, Cards{})
			if d := imports(h); !reflect.DeepEqual(d.Passed, []string{"0042"}) {
				t.Errorf("the import does not say so: %+v", d)
			}
			h.want("in January", h.who("0042", "2026-01-20"), "王小明")
			h.want("in April", h.who("0042", "2026-04-01"), "李大同")
			if e, _ := h.ByNumberAt("0042", day("2026-01-20")); e.SigninID != "s-wang" {
				t.Errorf("what is unsent of January goes out as %s", e.SigninID)
			}
			if e, ok := h.ByNumber("0042"); !ok || e.Name != "李大同" {
				t.Errorf("now it is %v", e.Name)
			}
			if e, ok := h.ByNumberAt("0042", time.Time{}); ok {
				t.Errorf("of a time that nobody knows: %v", e.Name)
			}
			// The next week's file has no days in it, and changes nothing.
			last, _ := h.ByNumber("0042")
			h.now = h.now.AddDate(0, 0, 7)
			if d := h.at(h.now.Format(time.DateOnly), fmt.Sprintf("0042,李大同,%s,s-lee,,", string(last.Badges[0]))); len(d.Passed)+len(d.Changed) != 0 {
				t.Errorf("the same people again: %+v", d)
			}
			h.want("in January", h.who("0042", "2026-01-20"), "王小明")
		})
	}
}

func TestNumberPassedOnTakesNoPINAlong(t *testing.T) {
	h := newHouse(t, Cards{})
	replace(t, h.Roster, withPIN(row("0042", "王小明"), "4711"))
	h.now = day("2026-03-02")
	replace(t, h.Roster, row("0042", "李大同"))
	if h.CheckPIN("0042", "4711") {
		t.Error("the PIN of who had the number before opens")
	}
}

func TestARenamedPersonIsTheSamePerson(t *testing.T) {
	h := newHouse(t, Cards{})
	replace(t, h.Roster, withPIN(row("0042", "王小民", cardA), "4711"))
	h.now = day("2026-03-02")
	if d := replace(t, h.Roster, row("0042", "王小明", cardA)); len(d.Passed) != 0 {
		t.Errorf("%+v", d)
	}
	h.want("in January", h.who("0042", "2026-01-20"), "王小明")
	if !h.CheckPIN("0042", "4711") {
		t.Error("the PIN is gone")
	}
}

func TestWhoIsNoLongerInAnImportKeepsThePastAndComesBackWhole(t *testing.T) {
	h := newHouse(t, Cards{})
	h.at("2026-01-05", "0042,王小明,em:000000000A,,,", "1,x,,,,")
	d := h.at("2026-02-02", "1,x,,,,")
	if !reflect.DeepEqual(d.Removed, []string{"0042"}) {
		t.Errorf("%+v", d)
	}
	if _, ok := h.ByBadge(cardA); ok {
		t.Error("the card still opens")
	}
	if e, ok := h.ByNumber("0042"); !ok || e.Name != "王小明" || e.Active {
		t.Errorf("the name is gone, or works here: %+v %v", e, ok)
	}
	h.want("a tap of February", h.tapped(cardA, "2026-02-03"), "nobody")
	h.at("2026-02-09", "0042,王小明,em:000000000A,,,", "1,x,,,,") // HR had sent half a file
	h.want("a tap of February", h.tapped(cardA, "2026-02-03"), "王小明")
	h.want("in January", h.who("0042", "2026-01-20"), "王小明")
	if len(h.Former()) != 0 {
		t.Errorf("kept twice: %v", h.Former())
	}
}

func TestTapsWithSomebodyElsesOldCardAreNeverTheNextOnes(t *testing.T) {
	h := newHouse(t, Cards{})
	h.at("2026-01-05", "1,王小明,em:000000000A,,,", "2,李大同,,,,")
	h.at("2026-02-02", "2,李大同,,,,") // 王 has left, and taps once more in February
	h.at("2026-03-02", "2,李大同,em:000000000A,,,")
	h.want("a tap of February", h.tapped(cardA, "2026-02-10"), "nobody")
	h.want("a tap of March", h.tapped(cardA, "2026-03-10"), "李大同")
	if e, ok := h.ByBadgeAt(cardA, time.Time{}); ok {
		t.Errorf("a tap of nobody knows when is %s's", e.Name)
	}
	// A card that nobody ever had is the new person's from the first morning on.
	h.at("2026-03-09", "2,李大同,em:000000000A,,,", "3,新人,em:000000000B,,,")
	h.want("three mornings before", h.tapped(cardB, "2026-03-06"), "新人")
	// HR says from when on it is: then what was tapped from that day on is theirs.
	h.at("2026-04-06", "2,李大同,,,,", "3,新人,em:000000000B,,,", "4,後來,em:000000000A,,2026-04-01,")
	h.want("李's own", h.tapped(cardA, "2026-03-20"), "nobody") // 李 had it when it was tapped: it never was unknown
	h.want("before the import", h.tapped(cardA, "2026-04-02"), "nobody")
	h.want("after it", h.tapped(cardA, "2026-04-07"), "後來")
}

func TestDaysOfARowDecideWhoPunches(t *testing.T) {
	h := newHouse(t, Cards{})
	h.at("2026-01-05", "1,a,em:000000000A,,2026-01-07,2026-01-09")
	for date, works := range map[string]bool{"2026-01-06": false, "2026-01-07": true, "2026-01-09": true, "2026-01-10": false} {
		h.now = day(date).Add(23*time.Hour + 59*time.Minute)
		if _, ok := h.ByBadge(cardA); ok != works {
			t.Errorf("on %s: %v", date, ok)
		}
		if e, _ := h.ByNumber("1"); e.Active != works {
			t.Errorf("on %s by number: %v", date, e.Active)
		}
	}
	// Who has left was here: what an unknown card left behind then is theirs.
	h.want("a tap of that week", h.tapped(cardA, "2026-01-08"), "a")
	h.want("one after it", h.tapped(cardA, "2026-01-12"), "nobody")
}

func TestCardGoesOnToItsNextOwnerOnTheDayThatTheFileSays(t *testing.T) {
	h := newHouse(t, Cards{})
	h.at("2026-01-05", "1,a,em:000000000A,,,2026-01-09", "2,b,em:000000000A,,2026-01-12,")
	for date, who := range map[string]string{"2026-01-08": "a", "2026-01-10": "", "2026-01-12": "b"} {
		h.now = day(date)
		e, _ := h.ByBadge(cardA)
		h.want(date, e.Name, who)
	}
}

func TestClockThatIsNotSetKeepsNobodyOut(t *testing.T) {
	now, set := day("1970-01-01"), false
	r, err := Open(filepath.Join(t.TempDir(), "roster.db"), Options{Now: func() (time.Time, bool) { return now, set }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	e := row("1", "a", cardA)
	e.From = day("2026-01-01")
	replace(t, r, e)
	if _, ok := r.ByBadge(cardA); !ok {
		t.Error("a clock of 1970 says that the person has not begun")
	}
	if _, err := r.Replace([]*Row{row("1", "b", cardB)}); err == nil || !strings.Contains(err.Error(), "clock is not set") {
		t.Errorf("a number was passed on in 1970: %v", err)
	}
	now, set = day("2025-06-01"), true
	if _, ok := r.ByBadge(cardA); ok {
		t.Error("the person has not begun")
	}
}

func TestCardIsGivenMovedAndTaken(t *testing.T) {
	h := newHouse(t, Cards{Same: []Rule{Last4}})
	h.at("2026-01-05", "1,a,em:000000000A,,,", "2,b,,,,")
	h.now = day("2026-02-02")
	if from, _, err := h.Give("dec:0000000010", "2", false, "t"); from != "1" || !errors.Is(err, ErrTaken) {
		t.Errorf("taken from %q: %v", from, err)
	}
	if from, changed, err := h.Give("dec:0000000010", "2", true, "t"); from != "1" || !changed || err != nil {
		t.Errorf("moved from %q: %v %v", from, changed, err)
	}
	h.again()
	if e, _ := h.ByBadge(cardA); e.Number != "2" {
		t.Errorf("it is %s's", e.Number)
	}
	if _, changed, err := h.Give("dec:0000000010", "2", false, "t"); changed || err != nil {
		t.Errorf("again: %v %v", changed, err)
	}
	if _, _, err := h.Give(cardB, "9", false, "t"); !errors.Is(err, ErrNobody) {
		t.Errorf("to nobody: %v", err)
	}
	h.want("before it was moved", h.tapped(cardA, "2026-01-20"), "nobody")
	if from, err := h.Take(cardA, false, "t"); from != "2" || err != nil {
		t.Errorf("taken from %q: %v", from, err)
	}
	if _, err := h.Take(cardA, false, "t"); !errors.Is(err, ErrNobody) {
		t.Errorf("taken twice: %v", err)
	}
}

func TestCardThatWasNeverTheirsIsTheNextOnesFromTheFirstMorning(t *testing.T) {
	h := newHouse(t, Cards{})
	h.at("2026-01-05", "1,wrong,em:000000000A,,,", "2,right,,,,")
	h.now = day("2026-01-06")
	if from, err := h.Take(cardA, true, "t"); from != "1" || err != nil {
		t.Fatal(from, err)
	}
	if _, _, err := h.Give(cardA, "2", false, "t"); err != nil {
		t.Fatal(err)
	}
	h.again()
	h.want("the morning before", h.tapped(cardA, "2026-01-02"), "right")
}

func TestBlockedCardIsRefusedInEveryReadingAndWhateverAnImportSays(t *testing.T) {
	h := newHouse(t, Cards{Same: []Rule{Last4, Last3}})
	h.at("2026-01-05", "1,a,em:0012345678,,,")
	if changed, err := h.Block("dec:0305419896", "t"); !changed || err != nil { // what is printed on it
		t.Fatal(changed, err)
	}
	if changed, err := h.Block("em:0012345678", "t"); changed || err != nil {
		t.Errorf("again: %v %v", changed, err)
	}
	h.at("2026-01-12", "1,a,em:0012345678,,,", "2,b,em:0012345679,,,")
	for _, b := range []punch.Badge{"em:0012345678", "dec:0305419896", "w34:4660-22136", "w26:52-22136"} {
		if !h.Blocked(b) {
			t.Errorf("%s is taken", b)
		}
	}
	if h.Blocked("em:0012345679") {
		t.Error("another card is refused")
	}
	if _, _, err := h.Give("em:0012345678", "2", true, "t"); !errors.Is(err, ErrBlocked) {
		t.Errorf("a blocked card is given: %v", err)
	}
	if changed, err := h.Unblock("em:0012345678", "t"); !changed || err != nil || h.Blocked("em:0012345678") {
		t.Errorf("found again: %v %v", changed, err)
	}
}

func TestMasterCardHasAPINAndIsNobodys(t *testing.T) {
	h := newHouse(t, Cards{})
	h.at("2026-01-05", "1,a,em:000000000A,,,")
	if err := h.SetMaster(cardA, "4711", "t"); !errors.Is(err, ErrTaken) {
		t.Errorf("somebody's own card: %v", err)
	}
	if err := h.SetMaster(cardB, "47", "t"); err == nil {
		t.Error("a PIN of two digits")
	}
	if err := h.SetMaster(cardB, "4711", "t"); err != nil {
		t.Fatal(err)
	}
	h.again()
	if !h.Master(cardB) || h.Master(cardA) || !h.CheckMaster(cardB, "4711") || h.CheckMaster(cardB, "4712") || h.CheckMaster(cardA, "4711") || h.CheckMaster(cardB, "") {
		t.Error("the PIN of the master card does not decide")
	}
	if _, _, err := h.Give(cardB, "1", true, "t"); !errors.Is(err, ErrMaster) {
		t.Errorf("it was given to somebody: %v", err)
	}
	if err := h.SetMaster(cardB, "", "t"); err != nil || h.Master(cardB) || h.CheckMaster(cardB, "4711") {
		t.Errorf("it opens for ever: %v", err)
	}
}

func TestFewChangesLeaveTheSameFileAsAWholeNewOne(t *testing.T) {
	h := newHouse(t, Cards{})
	var lines []string
	for n := range fewChanges + 200 {
		lines = append(lines, fmt.Sprintf("%d,n%d,em:%010X,,,", n, n, n))
	}
	h.at("2026-01-05", lines...)
	lines = append(lines[:3], lines[5:]...)
	lines[0] = "0,n0,em:00000FFFFF,,,"
	h.at("2026-01-12", append(lines, "new,n,,,,")...)
	if h.Len() != fewChanges+199 || len(h.Former()) != 2 {
		t.Errorf("%d people, %d left", h.Len(), len(h.Former()))
	}
	if e, ok := h.ByBadge("em:00000FFFFF"); !ok || e.Number != "0" {
		t.Errorf("%v", e)
	}
}

func TestExportWithDaysComesBackAsItWas(t *testing.T) {
	h := newHouse(t, Cards{})
	h.at("2026-01-05", "1,a,,,2026-01-01,2026-06-30", "2,b,,,2026-01-05T08:30,")
	var b strings.Builder
	if err := WriteCSV(&b, h.All(), time.UTC); err != nil {
		t.Fatal(err)
	}
	want := "employee_no,name,badges,feishu_id,signin_id,language,active,valid_from,valid_to\n1,a,,,,,true,2026-01-01,2026-06-30\n2,b,,,,,true,2026-01-05T08:30:00Z,\n"
	h.want("the file", b.String(), want)
	rows, err := ReadCSV("r", []byte(want), Cards{}, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	if d := replace(t, h.Roster, rows...); !d.Empty() {
		t.Errorf("%+v", d)
	}
}

func TestWhatWasDoneToACardHereOutlivesTheNextFile(t *testing.T) {
	h := newHouse(t, Cards{Same: []Rule{Last4}})
	file := []string{"1,a,em:000000000A,,,", "2,b,,,,", "3,c,,,,"}
	h.at("2026-01-05", file...)
	for _, given := range []struct {
		b  punch.Badge
		to string
	}{{cardA, "2"}, {cardB, "3"}} {
		if _, _, err := h.Give(given.b, given.to, true, "t"); err != nil {
			t.Fatal(err)
		}
	}
	whose := func() string {
		a, _ := h.ByBadge(cardA)
		b, _ := h.ByBadge(cardB)
		return a.Number + " " + b.Number
	}
	h.again()
	for _, date := range []string{"2026-01-12", "2026-01-19"} { // the file knows nothing of it
		if d := h.at(date, file...); !d.Empty() {
			t.Errorf("%+v", d)
		}
		h.want(date, whose(), "2 3")
	}
	h.at("2026-01-26", "1,a,,,,", "2,b,dec:0000000010,,,", "3,c,,,,") // now it does
	h.want("HR has written it down", whose(), "2 3")
	h.at("2026-02-02", "1,a,em:000000000A,,,", "2,b,,,,", "3,c,,,,")
	h.want("HR has given it back", whose(), "1 3")
	h.at("2026-02-09", "1,a,em:000000000B,,,", "2,b,,,,", "3,c,,,,")
	h.want("HR has given another's card to somebody", whose(), " 1")
	if _, err := h.Take(cardB, false, "t"); err != nil {
		t.Fatal(err)
	}
	h.at("2026-02-16", "1,a,em:000000000B,,,", "2,b,,,,", "3,c,,,,")
	h.want("taken here, and still in the file", whose(), " ")
}

func TestWhoIsForgottenLeavesANumberAndItsTimeAndNoByteMore(t *testing.T) {
	h := newHouse(t, Cards{})
	h.at("2026-01-05", "0042,Forgetful-Name,em:00DEADBEEF,s-forgetful,,", "1,x,,,,")
	h.now = day("2026-03-02")
	was, err := h.Forget("0042", time.Time{}, "t")
	if err != nil || was.Name != "Forgetful-Name" {
		t.Fatal(was.Number, err)
	}
	h.again()
	data, err := os.ReadFile(h.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"Forgetful", "s-forgetful"} {
		if strings.Contains(string(data), left) {
			t.Errorf("the file still holds %q", left)
		}
	}
	if _, ok := h.ByBadge("em:00DEADBEEF"); ok {
		t.Error("the card opens")
	}
	h.at("2026-04-06", "0042,Somebody New,em:000000000B,,,", "1,x,,,,")
	h.want("the punches of January", h.who("0042", "2026-01-20"), "")
	h.want("those of May", h.who("0042", "2026-05-01"), "Somebody New")
	if _, err := h.Forget("0042", day("2026-01-20"), "t"); err != nil { // again, and not the next one
		t.Error(err)
	}
	h.want("those of May", h.who("0042", "2026-05-01"), "Somebody New")
	if _, err := h.Forget("9", time.Time{}, "t"); !errors.Is(err, ErrNobody) {
		t.Errorf("nobody: %v", err)
	}
}
