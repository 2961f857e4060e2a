package device

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// LineForms are the forms in which readers write a card as one line of
// characters, whatever the line is made of: bytes on a serial port, or keys of a
// USB reader that acts as a keyboard.
//
//	hex-line  10 hex digits: a 125 kHz number; 8, 14 or 20: a card's UID
//	dec-line  8, 10 or 13 digits, which may hold one comma
var LineForms = [...]string{"hex-line", "dec-line"}

// LineCharacters returns the characters that a line of that form may hold, "" for
// a form that is not known.
func LineCharacters(form string) string {
	switch form {
	case "hex-line":
		return "0123456789ABCDEFabcdef"
	case "dec-line":
		return "0123456789,"
	}
	return ""
}

// leastPadded is the shortest line that is padded: what is shorter is a piece of
// one rather than a card with that many leading zeros.
const leastPadded = 4

// Number is a line as a badge.
type Number struct {
	Medium string // em, uid or dec; the part of a badge before the colon
	Value  string // the part after it
	Raw    []byte // the number's bytes; of a decimal line, its text as it came
}

// ParseLine reads one line, without what begins or ends it. Where it is not a
// card, fault is one of the fault words, and the Number is zero.
//
// width, 8, 10 or 13, is for decimal readers that leave leading zeros out: a line of 4
// digits or more that is shorter is padded with zeros to that many, and any other
// length is a fault. 0 takes lines as they come, with the three lengths that readers have.
// A reader that leaves zeros out cannot show that the line came whole: give a width
// only to one that does.
func ParseLine(form string, width int, line []byte) (n Number, fault string) {
	if LineCharacters(form) == "" || bytes.ContainsFunc(line, func(r rune) bool { return !strings.ContainsRune(LineCharacters(form), r) }) {
		return Number{}, FaultFormat
	}
	if form == "hex-line" {
		medium := "uid"
		switch len(line) {
		case 10:
			medium = "em"
		case 8, 14, 20:
		default:
			return Number{}, FaultLength
		}
		raw := make([]byte, len(line)/2)
		hex.Decode(raw, line) // its characters were looked at
		return Number{medium, fmt.Sprintf("%X", raw), raw}, ""
	}
	commas := bytes.Count(line, []byte{','})
	digits := len(line) - commas
	switch {
	case commas > 1, commas == 1 && (line[0] == ',' || line[len(line)-1] == ','):
		return Number{}, FaultFormat
	case width == 0 && digits != 8 && digits != 10 && digits != 13:
		return Number{}, FaultLength
	case width > 0 && commas > 0:
		return Number{}, FaultFormat
	case width > 0 && (digits < leastPadded || digits > width):
		return Number{}, FaultLength
	}
	return Number{"dec", strings.Repeat("0", max(0, width-digits)) + string(line), bytes.Clone(line)}, ""
}
