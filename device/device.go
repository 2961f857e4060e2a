// Package device is the vocabulary of everything on the wall that a person
// touches: what a reader tells the house, and what a reader is. It imports the
// standard library only; each kind of reader lives in a folder of its own, with a
// pure decoder, a Run, and one door to the hardware.
//
// A reader tells what was read and when. It never decides who the person is, and
// never guesses: a credential with a bad check, a wrong length or a lost bit is a
// [Fault], not a [Card].
package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// What says which kind of event this is.
type What uint8

const (
	Card  What = iota + 1 // a credential was read, all checks passed
	Key                   // one of the four kind keys was pressed; Event.Key holds its word, "" takes the reader's last one back
	Fault                 // something was read and thrown away; Event.Fault says why
	Up                    // the reader is there and listening
	Down                  // the reader is gone; Event.Err says why. It comes back by itself
	Entry                 // an employee number and a PIN were typed; Event.Key may hold the kind typed with them
)

// String returns the event's word for logs.
func (w What) String() string {
	if int(w) >= len(whatWords) {
		return ""
	}
	return whatWords[w]
}

var whatWords = [...]string{"", "card", "key", "fault", "up", "down", "entry"}

// Fault words. A reader uses one of these, so that metrics stay few.
const (
	FaultChecksum = "checksum" // parity, XOR, LRC or BCC is wrong
	FaultLength   = "length"   // too long or too short to be a credential
	FaultFormat   = "format"   // a byte that has no business there
	FaultTimeout  = "timeout"  // a frame stopped in the middle
	FaultNoise    = "noise"    // crosstalk, glitches, line stuck
	FaultLost     = "lost"     // the kernel or the line lost some of it

	// Read well, and refused all the same. They always have Try set, and the
	// person is told in words of their own.
	FaultRandom  = "random"  // a phone or a card that changes its number with every tap
	FaultTwo     = "two"     // two cards were held to the reader at once
	FaultLearned = "learned" // a technician is reading cards in; the house makes it, no reader
	FaultPIN     = "pin"     // number and PIN do not belong together; the house makes it, no reader
	FaultTries   = "tries"   // too many wrong PINs, none is looked at for a while; the house makes it

	// Of enrolment at the door; the house makes them.
	FaultEnrolled  = "enrolled"   // the card is the person's from now on, and was no punch
	FaultEnrolNo   = "enrol-no"   // it cannot be: whoever opened enrolment sees why
	FaultEnrolPIN  = "enrol-pin"  // a master card was tapped: number and its PIN come next
	FaultEnrolCard = "enrol-card" // enrolment is open for somebody: the card comes next
)

// ErrMissing is within the error of a reader whose hardware this machine does not
// have: no such chip, no such bus. A technician must look, though the reader itself
// goes on trying.
var ErrMissing = errors.New("the hardware is not there")

// Event is one thing a reader has to tell.
type Event struct {
	Reader string // configured name
	What   What

	// Of a Card.
	Medium string // em, w26, uid, dec …; the part of a badge before the colon
	Value  string // the part after the colon
	Raw    []byte // what came off the line, most significant bit first; kept for ever beside Value
	Bits   int    // how many bits of Raw count

	Key   string // of a Key: in, out, go-out, return, or "" (see Key); of an Entry: the kind, "" for none
	Fault string // of a Fault: one of the words above
	Err   error  // of a Down

	// Of an Entry. Whether the two belong together is not the reader's to say.
	Number string
	PIN    PIN

	// Try tells a Fault that a person caused and should hear of ("please try
	// again") from one that only the technician needs to know (line noise).
	Try bool

	// First and Last are when the first and the last byte or edge came, with
	// Go's monotonic reading. The tap's time and its latency count from Last.
	First, Last time.Time
}

// masked is the event without the card's number, the employee's and the PIN.
func (e Event) masked() string {
	s := e.Reader + " " + e.What.String()
	for _, word := range []string{e.Medium, e.Key, e.Fault} {
		if word != "" {
			s += " " + word
		}
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// LogValue keeps cards' numbers out of logs.
func (e Event) LogValue() slog.Value { return slog.StringValue(e.masked()) }

// Format keeps them out of all that is printed.
func (e Event) Format(f fmt.State, _ rune) { io.WriteString(f, e.masked()) }

// Reader is one configured input.
//
// Run reads until ctx is done and returns nil then. It recovers from unplugging,
// noise and a missing port by itself, telling Up and Down as it goes; it returns
// an error only when a person must act (a driver that cannot work on this
// machine, an impossible setting). It sends to out in the order of the taps and
// blocks while out is full; it starts no goroutine that outlives it.
type Reader interface {
	Run(ctx context.Context, out chan<- Event) error
}
