package roster

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"punchclock/queue/punch"
)

// told lists what the chain has to be told, and says that it was.
func told(t *testing.T, r *Roster) (all []string) {
	t.Helper()
	notes := r.Notes()
	for _, n := range notes {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s<%s %s", n.Audit.Act, string(n.Badge), n.Employee, n.Audit.From, n.Audit.Detail)))
	}
	if err := r.Noted(notes); err != nil {
		t.Fatal(err)
	}
	if left := r.Notes(); len(left) != 0 {
		t.Errorf("told, and still there: %d", len(left))
	}
	return all
}

func TestWhatTheChainMustBeToldSurvivesARestartAndIsToldOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	r := open(t, path)
	replace(t, r, row("1", "A", "em:0000000001"), row("2", "B"))
	told(t, r)
	if _, _, err := r.Give("em:0000000009", "2", false, "HR"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Block("em:0000000001", strings.Repeat("長", 40)); err != nil {
		t.Fatal(err)
	}
	before := r.Notes()
	if err := r.Close(); err != nil { // the power goes before the chain has it
		t.Fatal(err)
	}
	r, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	after := r.Notes()
	if len(before) != 2 || len(after) != 2 || after[0].Tap != before[0].Tap || after[1].Tap == before[0].Tap || after[0].Audit.By != "HR" || len(after[1].Audit.By) > punch.MaxAuditBy {
		t.Errorf("%+v, was %+v", after, before)
	}
	// What comes meanwhile is not taken for told.
	if _, err := r.Unblock("em:0000000001", "HR"); err != nil {
		t.Fatal(err)
	}
	if err := r.Noted(before); err != nil {
		t.Fatal(err)
	}
	if all := told(t, r); !slices.Equal(all, []string{"card-unblocked em:0000000001 1<"}) {
		t.Errorf("%q", all)
	}
	if _, err := r.Take("em:0000000009", false, "HR"); err != nil {
		t.Fatal(err)
	}
	if all := told(t, r); !slices.Equal(all, []string{"card-taken em:0000000009 <2"}) {
		t.Errorf("%q", all)
	}
}

func TestAnImportTellsTheChainOfAHundredCardsAndCountsTheRest(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	replace(t, r, crowd(5000)...)
	if all := told(t, r); len(all) != 0 {
		t.Errorf("nothing was taken from anybody: %d, %.200q", len(all), all)
	}
	rows, was := crowd(5000), crowd(5000)
	for i := range 4000 { // their two cards go round
		rows[i].Badges = was[(i+1)%4000].Badges
	}
	rows = rows[:4990]
	d := replace(t, r, rows...)
	all := told(t, r)
	if len(d.Cards) != 8020 || len(all) != 1+NotesOfImport || !strings.HasSuffix(all[0], "cards 8000 moved, 20 taken, 0 given") {
		t.Errorf("%d cards, %d notes: %.200q", len(d.Cards), len(all), all)
	}
	for _, x := range all[1:] {
		if !strings.HasPrefix(x, "card-moved ") {
			t.Errorf("%s, while others were moved", x)
		}
	}
	// The same card in another notation is nobody else's.
	a := row("1", "A", "w34:0-1")
	replace(t, r, a)
	told(t, r)
	a.Badges = []punch.Badge{"dec:0000000001"}
	if d := replace(t, r, a); len(d.Changed) != 1 || d.Cards != nil {
		t.Errorf("%+v", d)
	}
	// Another person under the number has the card from another.
	b := row("1", "Z", "em:0000000077")
	replace(t, r, row("1", "Y", "em:0000000076"))
	told(t, r)
	if d := replace(t, r, b); len(d.Passed) != 1 || len(d.Cards) != 2 {
		t.Errorf("%+v", d)
	}
	if all := told(t, r); len(all) != 4 || all[1] != "number-passed  1<" {
		t.Errorf("%q", all)
	}
}

func TestWhoIsHiredHereKeepsTheCardThatWasGivenHere(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	replace(t, r, row("1", "A", "em:0000000001"))
	if _, _, err := r.Give("em:0000000009", "1", false, "HR"); err != nil {
		t.Fatal(err)
	}
	told(t, r)
	e := row("2", "B", "em:0000000002").Employee
	if err := r.Add(e, "HR"); err != nil {
		t.Fatal(err)
	}
	if all := told(t, r); !slices.Equal(all, []string{"roster-imported  < people 1 new, 0 changed, 0 gone, 0 numbers passed on; cards 0 moved, 0 taken, 1 given", "card-given em:0000000002 2<"}) {
		t.Errorf("%q", all)
	}
	if err := r.Add(e, "HR"); err == nil {
		t.Error("twice")
	}
	if err := r.Add(row("3", "C", "em:0000000001").Employee, "HR"); err == nil {
		t.Error("with another's card")
	}
	if _, err := r.Block("em:0000000004", "HR"); err != nil {
		t.Fatal(err)
	}
	if err := r.Add(row("4", "D", "em:0000000004").Employee, "HR"); err == nil {
		t.Error("with a blocked card")
	}
	// HR's next file has the new hire, and knows of neither card that was given here.
	replace(t, r, row("1", "A", "em:0000000001"), row("2", "B"))
	for badge, want := range map[punch.Badge]string{"em:0000000009": "1", "em:0000000002": "2"} {
		if p, _ := r.ByBadge(badge); p.Number != want {
			t.Errorf("%s is %q's", string(badge), p.Number)
		}
	}
}

// An import of many takes seconds on a small board. Whoever lost a card does not wait for
// it, neither where it changes few people nor where it writes the whole file anew.
func TestACardIsBlockedInTheMiddleOfAnImportAndStaysSo(t *testing.T) {
	for _, people := range []int{2, fewChanges + 2} {
		path := filepath.Join(t.TempDir(), "roster.db")
		r, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { r.Close() }() // whichever it is then
		var before, after []*Row
		for i := range people {
			before = append(before, row(fmt.Sprintf("%04d", i), "前", punch.Badge(fmt.Sprintf("em:%010X", i))))
			after = append(after, row(fmt.Sprintf("%04d", i), "後", punch.Badge(fmt.Sprintf("em:%010X", i))))
		}
		after[0].Badges = []punch.Badge{"em:000000FF00"} // the import takes the lost card from its person
		const lost, found, master = "em:0000000000", "em:0000000001", "em:0BADC0FFEE"
		replace(t, r, before...)
		if _, err := r.Block(found, "HR"); err != nil {
			t.Fatal(err)
		}
		old := r.Notes()
		_, err = r.Import(after, Source{By: "import", May: func(Diff) error {
			begun := r.Generation()
			if _, err := r.Block(lost, "door"); err != nil {
				return err
			}
			if _, err := r.Unblock(found, "door"); err != nil {
				return err
			}
			if err := r.SetMaster(master, "4711", "door"); err != nil {
				return err
			}
			if err := r.Noted(old); err != nil { // the chain has these by now
				return err
			}
			if !r.Blocked(lost) || r.Blocked(found) || !r.Master(master) || r.Generation() != begun+3 {
				t.Errorf("%d people, while the import goes on: lost %v, found %v, master %v", people, r.Blocked(lost), r.Blocked(found), r.Master(master))
			}
			if e, _ := r.ByNumber("0001"); e.Name != "前" {
				t.Errorf("%d people: the import is in force before it is whole", people)
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, when := range []string{"after the import", "after a restart"} {
			if e, _ := r.ByNumber("0001"); !r.Blocked(lost) || r.Blocked(found) || !r.Master(master) || !r.CheckMaster(master, "4711") || e.Name != "後" {
				t.Errorf("%d people, %s: lost %v, found %v, master %v, %+v", people, when, r.Blocked(lost), r.Blocked(found), r.Master(master), e)
			}
			if until, was := r.now.Load().until(lost); !was || until.IsZero() {
				t.Errorf("%d people, %s: nobody remembers whose the lost card was", people, when)
			}
			var acts []punch.Act
			for _, n := range r.Notes() {
				acts = append(acts, n.Audit.Act)
			}
			for _, act := range []punch.Act{punch.ActBlock, punch.ActUnblock, punch.ActMaster, punch.ActImport, punch.ActTake} {
				if n := len(slices.DeleteFunc(slices.Clone(acts), func(a punch.Act) bool { return a != act })); n != 1 {
					t.Errorf("%d people, %s: the chain is told %d times of %v: %v", people, when, n, act, acts)
				}
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			check(t, path)
			if r, err = Open(path, Options{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
