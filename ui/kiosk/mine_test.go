package kiosk

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"punchclock/queue/punch"
	"punchclock/ui"
)

// correct asks for a correction as the page does, and reports whether it was taken.
func (d *door) correct(id string, k punch.Kind) bool {
	before := len(d.answers) + len(d.waiting)
	d.feed(event{what: evCorrect, id: d.draw(), fix: punch.ID(id), kind: k})
	return len(d.answers)+len(d.waiting) > before
}

func TestSecondTapShowsThePersonsOwnPunchesUntilTheNextPersonComes(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	if d.screen().Mine != nil {
		t.Fatal("the first tap shows a list")
	}
	d.wait(5 * time.Second)
	id := d.tap(wang)
	d.want("duplicate", "in")
	m := d.screen().Mine
	if m == nil || m.Employee != "000123" || m.Name != "王小明" || m.Listed || m.Fix != "test-000000000001" || m.FixKind != "in" {
		t.Fatalf("shows %+v", m)
	}
	if want := d.now().Wall.Add(55 * time.Second); !m.FixUntil.Equal(want) {
		t.Errorf("to be corrected until %v, want %v", m.FixUntil, want)
	}
	past := []ui.Past{{PunchID: "test-000000000001", Kind: "in"}}
	d.feed(event{what: evRecalled, id: punch.Tap{9}, past: past}) // of somebody before
	if d.screen().Mine.Listed {
		t.Error("shows somebody else's list")
	}
	d.feed(event{what: evRecalled, id: id, past: past})
	if m := d.screen().Mine; !m.Listed || len(m.Punches) != 1 {
		t.Errorf("shows %+v", m)
	}
	d.wait(mineFor - time.Millisecond)
	if d.screen().Mine == nil || d.screen().Result != nil {
		t.Errorf("after the answer: %+v", d.screen())
	}
	d.wait(time.Millisecond)
	if d.screen().Mine != nil {
		t.Error("it does not clear itself")
	}
	for what, next := range map[string]func(){
		"another person": func() { d.tap(li) }, "an unreadable card": func() { d.misread() }, "a choice": func() { d.choose(punch.Out) },
	} {
		d.wait(20 * time.Second)
		d = newDoor(t, "2026-11-21 09:00:00", nil)
		d.tap(wang)
		id := d.tap(wang)
		next()
		d.feed(event{what: evRecalled, id: id, past: past})
		if d.screen().Mine != nil {
			t.Errorf("%s: the list is still there", what)
		}
	}
	d.tap(anon)
	d.tap(anon)
	if d.screen().Mine != nil {
		t.Error("a card nobody knows has a list")
	}
}

func TestSecondTapOfOneWhileAnotherWaitsShowsNobodysPunches(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	d.hold = true
	d.tap(wang)
	d.tap(li)
	d.finish(0, ok)
	if d.screen().Mine != nil {
		t.Error("the next person sees the list of the one before")
	}
}

func TestWrongKindIsCorrectedByARecordOfItsOwn(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.choose(punch.Out)
	d.tap(wang)
	d.wait(20 * time.Second)
	d.tap(wang2) // the other card of the same person
	id := d.screen().Mine.Fix
	for _, k := range []punch.Kind{punch.Out} {
		if d.correct(id, k) {
			t.Errorf("corrected to the same %v", k)
		}
	}
	if d.correct("test-000000000002", punch.In) {
		t.Error("a duplicate was corrected")
	}
	if !d.correct(id, punch.In) {
		t.Fatal("refused")
	}
	d.want("stored", "in")
	if want := []ui.Cue{ui.CueOut, ui.CueDuplicate, ui.CueIn.Corrected()}; !slices.Equal(d.cues, want) {
		t.Errorf("lamps and tone were told %v, want %v", d.cues, want)
	}
	if r := d.last(); r.Supersedes != id || r.Seq != 3 || r.Name != "王小明" || !r.Time.Equal(d.medium[0].Stamp.Wall) {
		t.Errorf("answered %+v", r)
	}
	was, now := d.medium[0], d.medium[2]
	if was.Kind != punch.Out || now.Supersedes != 1 || now.Stamp != was.Stamp || now.Badge != was.Badge || now.Employee != was.Employee || now.Reader != was.Reader || now.Tap == was.Tap {
		t.Errorf("stored %+v", now.Draft)
	}
	if d.screen().Mine != nil || d.correct(id, punch.GoOut) {
		t.Error("corrected again without a tap")
	}
	// A third tap, and the correction is corrected: still within the first minute.
	d.wait(20 * time.Second)
	d.tap(wang)
	d.want("duplicate", "in")
	m := d.screen().Mine
	if m.Fix != "test-000000000003" || m.FixKind != "in" || !d.correct(m.Fix, punch.GoOut) {
		t.Fatalf("shows %+v", m)
	}
	if p := d.medium[4]; p.Supersedes != 3 || p.Kind != punch.GoOut {
		t.Errorf("stored %+v", p.Draft)
	}
	d.wait(19 * time.Second)
	d.tap(wang)
	m = d.screen().Mine
	if m.Fix == "" {
		t.Fatal("the minute is over too early")
	}
	d.wait(time.Second)
	if d.correct(m.Fix, punch.In) {
		t.Error("corrected after more than a minute")
	}
	d.wait(time.Hour)
	d.tap(wang)
	d.want("stored", "return") // follows what was corrected last
}

func TestOnlyWhoStandsAtTheDoorCorrects(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	if d.correct("test-000000000001", punch.Out) {
		t.Error("corrected without a second tap")
	}
	d.tap(wang)
	d.tap(li)
	if d.correct("test-000000000001", punch.Out) {
		t.Error("corrected while somebody else was at the door")
	}
	if got := d.stored(); got != "stored:in duplicate:in stored:in " {
		t.Errorf("stored %s", got)
	}
}

func TestCorrectionThatCouldNotBeStoredIsTheSameOneWhenAskedForAgain(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	d.tap(wang)
	id := d.screen().Mine.Fix
	d.fate = kept // an error, and the record is there all the same
	d.correct(id, punch.Out)
	d.want("not_stored", "out")
	if d.last().Supersedes != id || d.screen().Mine == nil {
		t.Errorf("answered %+v", d.last())
	}
	d.fate = ok
	d.hold = true
	d.correct(id, punch.Out)
	if d.correct(id, punch.GoOut) {
		t.Error("two corrections of one punch at a time")
	}
	d.finish(0, ok)
	d.hold = false
	d.want("stored", "out")
	if len(d.medium) != 3 || d.last().Seq != 3 {
		t.Errorf("%d records: %s", len(d.medium), d.stored())
	}
	// A failed correction is no tap that the next tap would hand in again.
	d.fate = lost
	d.tap(li)
	d.fate = ok
	d.wait(2 * time.Minute)
	d.tap(li)
	d.want("stored", "in")
}

func TestPunchOfBeforeARestartOfTheProgramCanBeCorrected(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.tap(wang)
	old, uptime := d.medium, d.uptime
	d = newDoor(t, "2026-11-21 09:00:00", nil)
	d.uptime, d.medium, d.taps = uptime+20*time.Second, old, 100
	k := &Kiosk{state: d.s}
	k.Seed(old)
	d.s = k.state
	d.tap(wang)
	d.want("duplicate", "in")
	if m := d.screen().Mine; m == nil || m.Fix != "test-000000000001" || !d.correct(m.Fix, punch.Out) {
		t.Errorf("shows %+v", m)
	}
}

// archive is a History that takes its time.
type archive struct {
	takes time.Duration
	err   error
}

func (a archive) Recent(ctx context.Context, employee string, most int) ([]ui.Past, error) {
	select {
	case <-time.After(a.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return []ui.Past{{PunchID: "of-" + employee}}, a.err
}

func TestListComesLaterAndHoldsUpNoTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *Config, p *Parts) { p.History = archive{takes: 3 * time.Second} })
		r.in <- card(7)
		settle(time.Millisecond)
		r.in <- card(7)
		settle(time.Millisecond)
		if m := r.screen().Mine; m == nil || m.Listed {
			t.Fatalf("shows %+v", m)
		}
		for n := range 20 {
			r.in <- card(100 + n)
			settle(time.Millisecond)
		}
		if got := len(r.results); got != 22 {
			t.Errorf("%d answers while a list was read", got)
		}
		settle(time.Minute)
		r.in <- card(8)
		settle(time.Second)
		r.in <- card(8)
		settle(3 * time.Second)
		if m := r.screen().Mine; m == nil || !m.Listed || m.Punches[0].PunchID != "of-000008" {
			t.Errorf("shows %+v", m)
		}
		r.in <- card(8)
		settle(time.Second) // a list is being read
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestCorrectionIsAnsweredToWhoAskedAndRefusedToAnybodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *Config, p *Parts) { p.History = archive{err: errMedium} })
		r.in <- card(7)
		settle(time.Millisecond)
		if _, err := r.Correct(t.Context(), "test-000000000001", punch.Out); !errors.Is(err, ErrNotCorrectable) {
			t.Errorf("without a second tap: %v", err)
		}
		if _, err := r.Correct(t.Context(), "test-000000000001", 0); err == nil {
			t.Error("no kind is a kind")
		}
		r.in <- card(7)
		settle(time.Millisecond)
		res, err := r.Correct(t.Context(), "test-000000000001", punch.Out)
		if err != nil || res.Outcome != "stored" || res.Kind != "out" || res.Supersedes != "test-000000000001" {
			t.Errorf("%+v %v", res, err)
		}
		r.stop()
		if _, err := r.Correct(t.Context(), "test-000000000001", punch.Out); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestWhateverHappensACorrectionIsThePersonsOwnAndInTime taps, corrects at any moment
// whatever anybody ever saw, lets appends fail in both ways and come back in any order.
func TestWhateverHappensACorrectionIsThePersonsOwnAndInTime(t *testing.T) {
	corrected := 0
	defer func() {
		if t.Logf("%d corrections", corrected); corrected == 0 && !t.Failed() {
			t.Error("nothing was ever corrected: the test proves nothing")
		}
	}()
	rapid.Check(t, func(rt *rapid.T) {
		d := newDoor(rt, "2026-11-21 10:55:00", nil)
		d.hold = true
		asked := map[punch.Tap]*ui.Mine{}         // a correction under way, and the list it was asked from
		toldAt := map[string]time.Duration{}      // when the first punch of a chain was told
		superseded := map[uint64]int{}            // by acknowledged corrections
		ids := []string{"test-000000000001", "x"} // whatever was seen
		finish := func(i, fate int) {
			id := d.waiting[i].id
			n := len(d.answers)
			d.finish(i, fate)
			r := d.answers[n]
			m, isFix := asked[id]
			if isFix != (r.Supersedes != "") {
				rt.Fatalf("answered %+v to a correction: %v", r, isFix)
			}
			if r.Outcome == "not_stored" {
				return
			}
			p := d.medium[r.Seq-1]
			if p.Kind.String() != r.Kind || p.Outcome.String() != r.Outcome {
				rt.Fatalf("told %+v, stored %+v", r, p.Draft)
			}
			ids = append(ids, r.PunchID)
			if !isFix {
				if p.Supersedes != 0 {
					rt.Fatalf("a tap made a correction: %+v", p.Draft)
				}
				if _, again := toldAt[r.PunchID]; !again {
					toldAt[r.PunchID] = d.uptime
				}
				return
			}
			was := d.medium[p.Supersedes-1]
			if string(was.ID) != m.Fix || was.Employee != p.Employee || m.Employee != p.Employee || was.Stamp != p.Stamp || was.Badge != p.Badge || was.Kind == p.Kind {
				rt.Fatalf("%+v corrects %+v", p.Draft, was.Draft)
			}
			if superseded[was.Seq]++; superseded[was.Seq] > 1 {
				rt.Fatalf("%s was corrected twice", was.ID)
			}
			corrected++
			toldAt[r.PunchID] = toldAt[string(was.ID)] // the minute is that of the first
		}
		rt.Repeat(map[string]func(*rapid.T){
			"tap": func(rt *rapid.T) {
				d.tap(rapid.SampledFrom([]punch.Badge{wang, wang2, li, anon}).Draw(rt, "card"))
				d.wait(time.Millisecond)
			},
			"choose": func(rt *rapid.T) { d.choose(rapid.SampledFrom(punch.Kinds[:]).Draw(rt, "kind")) },
			"wait": func(rt *rapid.T) {
				d.wait(time.Duration(rapid.IntRange(0, 30_000).Draw(rt, "ms")) * time.Millisecond)
			},
			"append comes back": func(rt *rapid.T) {
				if len(d.waiting) == 0 {
					rt.Skip()
				}
				finish(rapid.IntRange(0, len(d.waiting)-1).Draw(rt, "which"), rapid.SampledFrom([]int{ok, ok, ok, lost, kept}).Draw(rt, "fate"))
			},
			"one person taps twice": func(rt *rapid.T) {
				for range 2 {
					d.tap(wang)
					for len(d.waiting) > 0 {
						finish(0, ok)
					}
					d.wait(time.Second)
				}
			},
			"correct": func(rt *rapid.T) {
				m := d.screen().Mine
				id := rapid.SampledFrom(ids).Draw(rt, "punch")
				if m != nil && m.Fix != "" && rapid.IntRange(0, 3).Draw(rt, "sensible") > 0 {
					id = m.Fix
				}
				kind := rapid.SampledFrom(punch.Kinds[:]).Draw(rt, "kind")
				if !d.correct(id, kind) {
					return
				}
				if m == nil || m.Fix != id || m.FixKind == kind.String() {
					rt.Fatalf("%s was corrected to %v while the screen showed %+v", id, kind, m)
				}
				if ago := d.uptime - toldAt[id]; ago >= fixFor {
					rt.Fatalf("corrected after %v", ago)
				}
				asked[d.s.taps[len(d.s.taps)-1].id] = m
			},
			"": func(rt *rapid.T) {
				if m := d.screen().Mine; m != nil {
					last := d.answers[len(d.answers)-1]
					if m.Employee == "" || last.Employee != m.Employee {
						rt.Fatalf("%s's punches are shown after an answer to %q", m.Employee, last.Employee)
					}
				}
			},
		})
		for len(d.waiting) > 0 {
			finish(0, ok)
		}
		if len(d.s.taps) != 0 || len(d.s.fresh) > len(d.medium) {
			rt.Fatalf("%d taps left, %d to be corrected", len(d.s.taps), len(d.s.fresh))
		}
	})
}
