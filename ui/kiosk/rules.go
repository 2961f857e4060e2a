package kiosk

import (
	"strings"
	"time"
	"unicode"

	"punchclock/queue/punch"
)

// covers reports whether the slot holds at a minute of the day.
func (s Slot) covers(minute int) bool {
	if s.From < s.To {
		return s.From <= minute && minute < s.To
	}
	return minute >= s.From || minute < s.To
}

// scheduled returns the kind the schedule gives at a moment, 0 for none.
func (c *Config) scheduled(at punch.Stamp) punch.Kind {
	if at.Clock == punch.Unset {
		return 0
	}
	t := at.Wall.In(c.Location)
	minute := t.Hour()*60 + t.Minute()
	for _, s := range c.Schedule {
		if s.covers(minute) {
			return s.Kind
		}
	}
	return 0
}

// next is the kind that follows a person's last punch of the day.
func next(last punch.Kind) punch.Kind {
	switch last {
	case punch.In, punch.Return:
		return punch.Out
	case punch.GoOut:
		return punch.Return
	default:
		return punch.In
	}
}

// last is what is remembered of a punch.
type last struct {
	told     uint64 // the order in which people were told; a second try is told late and numbered early
	seq      uint64
	kind     punch.Kind
	employee string // "" for a card that nobody knew
	boot     [16]byte
	uptime   time.Duration // of the punch, within its boot
	answered time.Duration // of the tap that was told so: later than uptime after a failed append
	wall     time.Time
}

// when returns the wall time of l as the clock of at sees it.
func (l *last) when(at punch.Stamp) time.Time {
	if l.boot == at.BootID {
		return at.Wall.Add(l.uptime - at.Uptime)
	}
	return l.wall
}

func sameDay(a, b time.Time, loc *time.Location) bool {
	return date(a, loc) == date(b, loc)
}

// date is the local day as a number that differs from day to day.
func date(t time.Time, loc *time.Location) int {
	y, m, d := t.In(loc).Date()
	return (y*16+int(m))*32 + d
}

// within reports whether two moments of one boot are less than window apart. Taps
// from two readers may come a few milliseconds out of order, so either may be first.
func within(window, a, b time.Duration) bool { return (a - b).Abs() < window }

// person is what a tap knows of whom it belongs to. The zero person is nobody known.
type person struct {
	number, name, language string
	badges                 []punch.Badge
}

func personOf(e punch.Employee) person {
	return person{number: e.Number, name: e.Name, language: e.Language, badges: e.Badges}
}

// owns reports whether the roster gives this person the card.
func (p person) owns(b punch.Badge) bool {
	for _, x := range p.badges {
		if x == b {
			return true
		}
	}
	return false
}

// typedMedium is that of a badge that is a typed number.
const typedMedium = "key"

// typed reports whether a badge is a number that somebody typed.
func typed(b punch.Badge) bool { return b.Medium() == typedMedium }

// same reports whether two taps are one person's. A typed number is no card, and
// tells nothing about one.
func same(a, b *tap) bool {
	if a.who.number != "" && b.who.number != "" {
		return a.who.number == b.who.number
	}
	if !typed(a.badge) && !typed(b.badge) && a.badge == b.badge {
		return true
	}
	if a.who.number == "" {
		return b.who.owns(a.badge)
	}
	return a.who.owns(b.badge)
}

// mask hides most of a name. Chinese, Japanese and Korean names keep the first and
// the last character (王小明 → 王○明, 王明 → 王○); in other scripts each word keeps its
// first letter and its length is not told (Anna Lee → A○ L○).
func mask(name string) string {
	words := strings.Fields(name)
	ideographs := 0
	for _, w := range words {
		if ideographic(w) {
			ideographs++
		}
	}
	if ideographs == len(words) && ideographs > 1 {
		words = []string{strings.Join(words, "")}
	}
	for i, w := range words {
		r := []rune(w)
		switch {
		case !ideographic(w):
			words[i] = string(r[:1]) + "○"
		case len(r) == 1:
			words[i] = "○"
		case len(r) == 2:
			words[i] = string(r[:1]) + "○"
		default:
			words[i] = string(r[:1]) + strings.Repeat("○", len(r)-2) + string(r[len(r)-1:])
		}
	}
	return strings.Join(words, " ")
}

func ideographic(w string) bool {
	return strings.IndexFunc(w, func(r rune) bool {
		return unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana)
	}) >= 0
}
