package lcd

import (
	"fmt"
	"strings"
	"time"

	"punchclock/ui"
)

// lines are a screen for a display of characters: number, time and English words in
// plain ASCII, for its own letters beyond those differ from maker to maker.
func lines(s ui.Screen, now time.Time, foot string, columns, rows int) []string {
	out := make([]string, 0, rows)
	add := func(l string) {
		if len(out) < rows {
			out = append(out, fit(l, columns))
		}
	}
	r := s.Result
	switch {
	case r == nil:
		mark := ""
		if s.Clock == "unset" {
			mark = "?"
		}
		add(ends(now.Format("15:04")+mark, kindWord(s.Kind), columns))
		for _, reader := range s.Readers {
			if reader.State == "down" {
				foot = "READER " + reader.Name + " DOWN"
			}
		}
		if rows > 2 {
			add(now.Format("2006-01-02 Mon"))
			add("Tap your card")
		}
		if foot == "" {
			foot = "Tap your card"
		}
		add(foot)
	case r.Outcome == "stored":
		who := r.Employee
		if plain(r.Name) && r.Name != "" {
			who = r.Name
		}
		add(ends("OK "+kindWord(r.Kind), r.Time.In(now.Location()).Format("15:04:05"), columns))
		add(who)
		if r.Clock == "unset" {
			add("time being checked")
		}
	default:
		head := map[string]string{"duplicate": "ALREADY PUNCHED", "unknown_badge": "? UNKNOWN CARD", "blocked_badge": "X CARD BLOCKED", "misread": "TRY AGAIN", "enrolment": "CARD SET-UP", "not_stored": "!! NOT SAVED !!"}[r.Outcome]
		second := map[string]string{"duplicate": r.Employee, "unknown_badge": "noted, ask HR", "blocked_badge": "ask HR", "misread": "not read", "enrolment": "card registered", "not_stored": "tap again"}[r.Outcome]
		if why := reasons[r.Reason]; why != "" {
			second = why
		}
		add(head)
		add(second)
	}
	for len(out) < rows {
		out = append(out, fit("", columns))
	}
	return out
}

// reasons are why a card was refused, or what comes next, as far as a word helps.
var reasons = map[string]string{"random": "use staff card", "two": "one card only", "learned": "not punched", "pin": "wrong PIN", "tries": "wait, then PIN",
	"enrol-no": "not registered", "enrol-pin": "number + PIN", "enrol-card": "tap new card"}

func kindWord(kind string) string {
	return map[string]string{"in": "IN", "out": "OUT", "go-out": "AWAY", "return": "BACK"}[kind]
}

// ends puts two words at the ends of a line.
func ends(left, right string, columns int) string {
	left = left[:min(len(left), max(columns-len(right), 0))]
	return fmt.Sprintf("%s%*s", left, columns-len(left), right)
}

// fit makes a line of exactly so many plain characters.
func fit(s string, columns int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > columns {
		s = s[:columns]
	}
	return s + strings.Repeat(" ", columns-len(s))
}

// plain reports whether s is printable ASCII.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
