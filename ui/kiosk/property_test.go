package kiosk

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"punchclock/queue/punch"
	"punchclock/ui"
)

// tapped is what a naive observer at the door writes down of one tap.
type tapped struct {
	number string // "" for a card nobody knew then
	badge  punch.Badge
	chosen punch.Kind
	at     time.Duration
}

func (a tapped) samePerson(b tapped) bool {
	if a.number != "" && b.number != "" {
		return a.number == b.number
	}
	return a.badge == b.badge
}

// told is an answer with success, and when it was given to whom.
type told struct {
	tapped
	punch punch.Punch
}

// TestWhateverHappensNoTapIsPromisedFlippedOrDoubled taps, chooses, waits, learns
// and forgets cards, and lets appends fail in both ways, in any order, and then asks
// an observer who knows none of the code's rules by heart.
func TestWhateverHappensNoTapIsPromisedFlippedOrDoubled(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		window := rapid.SampledFrom([]time.Duration{time.Minute, 90 * time.Second, 10 * time.Minute}).Draw(rt, "window")
		d := newDoor(rt, rapid.SampledFrom([]string{"2026-11-21 10:55:00", "2026-11-21 23:58:00"}).Draw(rt, "at"),
			func(c *Config) { workday(c); c.DuplicateWindow = window })
		d.hold = true
		taps := map[punch.Tap]tapped{} // every physical tap
		chosen := map[punch.Tap]bool{} // drafts whose kind somebody chose, at the first try or a later one
		var choice punch.Kind
		var choiceAt time.Duration
		var successes []told
		acknowledged := map[punch.Tap]bool{}
		abandoned := map[punch.Tap]bool{} // told not stored, and then chose otherwise and got that

		// notes what was answered since the append of tap id came back.
		answered := func(id punch.Tap, fate int) {
			r, isAnswered := d.byTap[id]
			if !isAnswered {
				rt.Fatalf("tap %v got no answer", id)
			}
			success := r.Outcome != "not_stored"
			if success != (fate == ok) {
				rt.Fatalf("the append came back %d and the person was told %s", fate, r.Outcome)
			}
			if !success {
				if r.PunchID != "" || r.Seq != 0 {
					rt.Fatalf("not stored, and yet with an id: %+v", r)
				}
				return
			}
			if r.Seq == 0 || r.Seq > uint64(len(d.medium)) || string(d.medium[r.Seq-1].ID) != r.PunchID {
				rt.Fatalf("told of a punch that is not on the medium: %+v", r)
			}
			p, now := d.medium[r.Seq-1], taps[id]
			if r.Kind != p.Kind.String() || r.Outcome != p.Outcome.String() || r.Employee != p.Employee {
				rt.Fatalf("told %+v, stored %+v", r, p.Draft)
			}
			// The kind never flips: whoever was told a kind is told the same kind
			// inside the window, unless another was chosen for the tap that was stored.
			for i := len(successes) - 1; i >= 0; i-- {
				was := successes[i]
				if was.punch.Outcome == punch.Duplicate || !was.samePerson(now) {
					continue
				}
				if now.at-was.at < window && p.Kind != was.punch.Kind && !chosen[p.Tap] {
					rt.Fatalf("told %v, and %v later %v with nothing chosen", was.punch.Kind, now.at-was.at, p.Kind)
				}
				break
			}
			successes = append(successes, told{now, p})
			acknowledged[p.Tap] = true
			for _, o := range d.medium {
				older := p.Outcome == punch.Duplicate || o.Stamp.Uptime < p.Stamp.Uptime
				if !acknowledged[o.Tap] && taps[o.Tap].samePerson(now) && o.Kind != p.Kind && older {
					abandoned[o.Tap] = true
				}
			}
		}
		finish := func(i, fate int) {
			id, draft := d.waiting[i].id, d.waiting[i].draft
			if taps[id].chosen == draft.Kind {
				chosen[draft.Tap] = true
			}
			d.finish(i, fate)
			answered(id, fate)
		}

		rt.Repeat(map[string]func(*rapid.T){
			"tap": func(rt *rapid.T) {
				b := rapid.SampledFrom([]punch.Badge{wang, wang2, li, anon}).Draw(rt, "card")
				now := tapped{number: d.people[b].Number, badge: b, at: d.uptime}
				if choice != 0 && d.uptime-choiceAt < 10*time.Second {
					now.chosen = choice
				}
				choice = 0
				taps[d.tap(b)] = now
				d.wait(time.Millisecond) // no two taps of one person at the same time
			},
			"choose": func(rt *rapid.T) {
				choice, choiceAt = rapid.SampledFrom(punch.Kinds[:]).Draw(rt, "kind"), d.uptime
				d.choose(choice)
			},
			"misread": func(*rapid.T) { d.misread() },
			"wait": func(rt *rapid.T) {
				d.wait(time.Duration(rapid.IntRange(0, 90_000).Draw(rt, "ms")) * time.Millisecond)
			},
			"append comes back": func(rt *rapid.T) {
				if len(d.waiting) == 0 {
					rt.Skip()
				}
				finish(rapid.IntRange(0, len(d.waiting)-1).Draw(rt, "which"),
					rapid.SampledFrom([]int{ok, ok, lost, kept}).Draw(rt, "fate"))
			},
			"roster changes": func(*rapid.T) {
				if _, known := d.people[anon]; known {
					delete(d.people, anon)
				} else {
					d.hire("000789", "陳美", anon)
				}
			},
			"": func(rt *rapid.T) {
				for i, a := range d.waiting {
					for _, b := range d.waiting[:i] {
						if taps[a.id].samePerson(taps[b.id]) {
							rt.Fatalf("two appends of one person under way: %+v %+v", taps[a.id], taps[b.id])
						}
					}
				}
				// Never two punches of one person inside the window without a choice,
				// and never two of the same kind.
				byTime := slices.SortedStableFunc(slices.Values(d.medium), func(a, b punch.Punch) int {
					return cmp.Compare(a.Stamp.Uptime, b.Stamp.Uptime)
				})
				for i, p := range byTime {
					if p.Outcome == punch.Duplicate {
						continue
					}
					for j := i - 1; j >= 0; j-- {
						o := byTime[j]
						if o.Outcome == punch.Duplicate || abandoned[o.Tap] && !acknowledged[o.Tap] || !taps[p.Tap].samePerson(taps[o.Tap]) {
							continue
						}
						if p.Stamp.Uptime-o.Stamp.Uptime < window && (!chosen[p.Tap] || p.Kind == o.Kind) {
							rt.Fatalf("two punches of one person: %v at %v, %v at %v", o.Kind, o.Stamp.Uptime, p.Kind, p.Stamp.Uptime)
						}
						break
					}
				}
			},
		})
		for len(d.waiting) > 0 {
			finish(0, ok)
		}
		if len(d.s.taps) != 0 {
			rt.Fatalf("%d taps were never answered", len(d.s.taps))
		}
		var misreads int
		for _, r := range d.answers {
			if r.Outcome == "misread" {
				misreads++
			}
		}
		if len(d.answers) != len(taps)+misreads {
			rt.Fatalf("%d answers to %d taps and %d misreads", len(d.answers), len(taps), misreads)
		}
		for i, r := range d.answers {
			if green := d.cues[i] == ui.Cue(r.Kind); green != (r.Outcome == "stored") {
				rt.Fatalf("cue %s for %s", d.cues[i], r.Outcome)
			}
		}
	})
}
