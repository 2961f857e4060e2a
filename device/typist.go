package device

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// PIN is what a person typed and nobody else may see. However it is printed,
// logged or encoded, nothing of it is shown.
type PIN string

const hidden = "…"

// Format prints a stand-in, whatever the verb.
func (PIN) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) }

// MarshalText returns a stand-in.
func (PIN) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue returns a stand-in.
func (PIN) LogValue() slog.Value { return slog.StringValue(hidden) }

const (
	// TypingPause is how long a person may take between two keys. What is half
	// typed then is forgotten. It is what keypads that collect a number themselves
	// allow.
	TypingPause = 5 * time.Second

	mostNumber = 20 // digits of an employee number
	mostPIN    = 12 // digits of a PIN; the roster takes 4 to 12
)

// Typist makes of the keys of a 12- or 16-key pad what a person means by them. It
// is pure: the time comes from its caller. The zero Typist has nothing typed.
//
//	digits #     an employee number
//	digits #     and the PIN after it: now it is an [Entry]
//	A B C D      上班 下班 外出 外歸
//	*            forget all that was typed
//
// A kind key alone is a [Key], as one beside a card reader is: it may be meant for
// the card that is held there next. When digits follow, or stand before it, it was
// meant for them: the Key is taken back and the Entry carries the kind, so that
// somebody who holds a card to a reader in the meantime is not given it.
//
// Whoever pauses for longer than [TypingPause] begins anew, and so does whoever
// comes to the pad after somebody who has walked away.
type Typist struct {
	number, pin []byte
	inPIN       bool
	long        bool // more digits than a number or a PIN has

	kind  string    // key of the kind chosen here, "" for none
	told  bool      // it was told as a Key that has not been taken back
	first time.Time // of the keys so far
	last  time.Time
}

// kindKeys are the kinds of the four letters.
var kindKeys = [...]string{"in", "out", "go-out", "return"}

// Press takes one key, '0' to '9', 'A' to 'D', '*' or '#', pressed at that time;
// any other means nothing. It reports false where there is nothing to tell. The
// event has no Reader yet.
func (t *Typist) Press(key byte, at time.Time) (Event, bool) {
	if t.expired(at) {
		t.Clear() // nobody told us that time passed
	}
	if t.last.IsZero() {
		t.first = at
	}
	switch {
	case key >= '0' && key <= '9':
		t.last = at
		digits, most := &t.number, mostNumber
		if t.inPIN {
			digits, most = &t.pin, mostPIN
		}
		if t.long = t.long || len(*digits) == most; !t.long {
			*digits = append(*digits, key)
		}
		return t.takeBack(at)
	case key >= 'A' && key <= 'D':
		t.last = at
		t.kind = kindKeys[key-'A']
		if len(t.number) > 0 {
			return Event{}, false
		}
		t.told = true
		return Event{What: Key, Key: t.kind, First: at, Last: at}, true
	case key == '*':
		ev, ok := t.takeBack(at)
		t.Clear()
		return ev, ok
	case key == '#':
		return t.enter(at)
	}
	return Event{}, false
}

func (t *Typist) enter(at time.Time) (Event, bool) {
	ev := Event{First: t.first, Last: at}
	switch {
	case len(t.number) == 0: // nothing was begun; a kind that was chosen stays
		return Event{}, false
	case t.long, t.inPIN && len(t.pin) == 0:
		ev.What, ev.Fault, ev.Try = Fault, FaultLength, true
	case !t.inPIN:
		t.inPIN, t.last = true, at
		return Event{}, false
	default:
		ev.What, ev.Number, ev.PIN, ev.Key = Entry, string(t.number), PIN(t.pin), t.kind
	}
	t.Clear()
	return ev, true
}

// takeBack withdraws the kind that was told, because it belongs to what is typed.
func (t *Typist) takeBack(at time.Time) (Event, bool) {
	if !t.told {
		return Event{}, false
	}
	t.told = false
	return Event{What: Key, First: at, Last: at}, true
}

// Until returns when what is typed will be forgotten; the zero time if there is
// nothing.
func (t *Typist) Until() time.Time {
	if t.last.IsZero() {
		return time.Time{}
	}
	return t.last.Add(TypingPause)
}

// Idle says that it is at. If that is too long after the last key, what was half
// typed is forgotten, and told as a fault that asks nobody to do anything: whoever
// typed it has gone.
func (t *Typist) Idle(at time.Time) (Event, bool) {
	if !t.expired(at) {
		return Event{}, false
	}
	ev := Event{What: Fault, Fault: FaultTimeout, First: t.first, Last: at}
	half := len(t.number) > 0
	t.Clear()
	return ev, half
}

func (t *Typist) expired(at time.Time) bool {
	return !t.last.IsZero() && at.Sub(t.last) >= TypingPause
}

// Clear forgets all that was typed. A reader that has a card beside the keys
// calls it when a card is read.
func (t *Typist) Clear() {
	clear(t.number)
	clear(t.pin)
	*t = Typist{number: t.number[:0], pin: t.pin[:0]}
}
