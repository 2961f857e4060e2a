// Package ui is the vocabulary between the conversation at the door and
// everything that shows it: the kiosk page, the event stream, a lamp, a display.
// It imports the standard library only, so the words here are strings where the
// domain has types.
//
// Whoever shows may be slow, or absent. Nothing here is ever waited for between a
// tap and its commit, and each display has a mailbox in which only the newest
// screen stays.
package ui

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Result is the answer to one tap, sent once, after the commit (or after the
// commit failed). Its JSON form is the `result` event.
type Result struct {
	Outcome  string    `json:"outcome"` // stored, duplicate, unknown_badge, blocked_badge, misread, not_stored, enrolment
	PunchID  string    `json:"punch_id,omitempty"`
	Seq      uint64    `json:"seq,omitempty"`
	Kind     string    `json:"kind,omitempty"` // in, out, go-out, return
	Employee string    `json:"employee_no,omitempty"`
	Name     string    `json:"name,omitempty"` // already masked where the site wants that
	Time     time.Time `json:"time"`           // in the device's zone, to the millisecond
	Reader   string    `json:"reader,omitempty"`
	Clock    string    `json:"clock"`            // synced, holdover, unset
	Reason   string    `json:"reason,omitempty"` // of a misread: the reader's word for it; of enrolment: which step
	Language string    `json:"-"`                // the person's own, "" for the device's
	// Supersedes is the id of the punch whose kind this one corrects, "" for none.
	Supersedes string `json:"supersedes,omitempty"`
}

// masked is the result without the person's name.
func (r Result) masked() string {
	s := r.Outcome
	for _, word := range []string{r.Kind, r.PunchID, r.Employee, r.Reason} {
		if word != "" {
			s += " " + word
		}
	}
	return s
}

// LogValue keeps names out of logs.
func (r Result) LogValue() slog.Value { return slog.StringValue(r.masked()) }

// Format keeps them out of all that is printed.
func (r Result) Format(f fmt.State, _ rune) { io.WriteString(f, r.masked()) }

// Screen is all that a display needs to draw.
type Screen struct {
	Kind   string  `json:"kind"`   // the kind the next tap gets; "" when it follows the person's own last punch
	Why    string  `json:"why"`    // chosen, schedule or person: where Kind comes from
	Result *Result `json:"result"` // shown full screen while not nil
	Clock  string  `json:"clock"`  // synced, holdover, unset
	// Choose until: when a chosen kind falls back; zero if none was chosen.
	Until   time.Time `json:"until,omitzero"`
	Readers []Reader  `json:"readers"` // in configured order
	// Mine is for the person who tapped a second time; nil at all other times. It is
	// there with the answer, its list a moment later.
	Mine *Mine `json:"mine,omitempty"`
}

// Mine shows somebody their own last punches, and lets them say that the kind of the
// last one was wrong. It is never changed once it is shown.
type Mine struct {
	Employee string    `json:"employee_no"`
	Name     string    `json:"name"` // masked where the site wants that
	Language string    `json:"-"`    // the person's own, "" for the device's
	Listed   bool      `json:"listed"`
	Punches  []Past    `json:"punches"` // newest first; complete once Listed
	Fix      string    `json:"fix"`     // id of the punch whose kind may be corrected, "" for none
	FixKind  string    `json:"fix_kind"`
	FixUntil time.Time `json:"fix_until,omitzero"`
	Until    time.Time `json:"until"` // when this is gone by itself
}

// LogValue keeps names out of logs.
func (m Mine) LogValue() slog.Value { return slog.StringValue(m.Employee) }

// Format keeps them out of all that is printed.
func (m Mine) Format(f fmt.State, _ rune) { io.WriteString(f, m.Employee) }

// Past is one punch of the log.
type Past struct {
	PunchID    string    `json:"punch_id"`
	Kind       string    `json:"kind"`
	Outcome    string    `json:"outcome"`
	Time       time.Time `json:"time"` // as it is delivered, in the device's zone
	Superseded bool      `json:"superseded"`
	Places     []Place   `json:"places"` // in configured order
}

// Place is a destination, and whether a punch has arrived there.
type Place struct {
	Name  string `json:"name"`
	State string `json:"state"` // pending, delivered, parked or skipped
}

// Reader is how a reader fares.
type Reader struct {
	Name  string `json:"name"`
	State string `json:"state"` // ok or down
}

// Cue is what lamp and tone should say.
type Cue string

// The cues. Patterns differ in rhythm, not only in pitch or colour.
const (
	CueIn        Cue = "in"        // stored 上班
	CueOut       Cue = "out"       // stored 下班
	CueGoOut     Cue = "go-out"    // stored 外出
	CueReturn    Cue = "return"    // stored 外歸
	CueDuplicate Cue = "duplicate" // answered, not sent
	CueUnknown   Cue = "unknown"   // kept, nobody knows the badge, or it is blocked
	CueMisread   Cue = "misread"   // try again
	CueNotStored Cue = "not-stored"
	CueEnrolled  Cue = "enrolled" // a card is somebody's from now on
	CueEnrolNext Cue = "enrol"    // of enrolment: the next step, please
)

// Unset is the cue of a stored kind while nobody has set the clock: the punch is
// kept, and its time may have to be corrected.
func (c Cue) Unset() Cue { return c + "-unset" }

// Corrected is the cue of a stored kind, or of its Unset, that corrects the kind of an
// earlier punch. It says the same, but nobody has come to the door with it.
func (c Cue) Corrected() Cue { return c + "-corrected" }

// Display draws screens. Show may be slow; it is called by a goroutine of its
// own, never at the same time twice, and only with the newest screen.
type Display interface {
	Show(Screen)
}

// Sounder plays cues. Play may take as long as the pattern lasts; it is called by
// a goroutine of its own, and a newer cue replaces one that waits.
type Sounder interface {
	Play(Cue)
}
