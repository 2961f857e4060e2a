package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"punchclock/queue/punch"
)

// Dialects that a simulated reader speaks: how one badge becomes bytes.
var dialects = []string{"rdm6300", "id12la", "idteck", "parallax", "raw4", "hex-line", "dec-line", pn532}

// pn532 is a chip that is asked, at the end of the same kind of line.
const pn532 = "pn532"

// overWires is what goes over two wires: bits, as the characters 0 and 1.
const overWires = "wiegand"

// overKeys is what a person presses: the characters on the keys.
const overKeys = "keypad"

// frame returns what a reader of a dialect sends for a badge.
//
// rdm6300 and id12la carry an em badge: STX, ten hexadecimal digits, two more of
// the XOR over the five bytes, then ETX, or CR LF ETX. idteck has ETX and then a byte
// of the XOR over all, parallax a line feed, the digits and a carriage return, raw4 the
// four bytes of a UID and nothing else. pn532 is the chip's answer about a UID. hex-line and dec-line are a
// line that ends in CR LF. dec-line writes an em badge the way it is printed on
// most cards, the low 32 bits as ten digits; a badge of another medium is its value.
// wiegand is 26, 34 or 37 bits (with a facility) for a w26, w34 or w37 badge, and the 26
// that a reader of em badges makes of the low 24. keypad is what a keys badge says, with #
// for its dashes and * for its commas.
func frame(dialect string, badge punch.Badge) ([]byte, error) {
	value := badge.Value()
	switch dialect {
	case "rdm6300", "id12la":
		b, err := emBytes(dialect, badge)
		if err != nil {
			return nil, err
		}
		end := "\x03"
		if dialect == "id12la" {
			end = "\r\n\x03"
		}
		return fmt.Appendf(nil, "\x02%X%02X%s", b, b[0]^b[1]^b[2]^b[3]^b[4], end), nil
	case "idteck":
		b, err := emBytes(dialect, badge)
		if err != nil {
			return nil, err
		}
		frame := fmt.Appendf(nil, "\x02%X\x03", b)
		var sum byte
		for _, c := range frame {
			sum ^= c
		}
		return append(frame, sum), nil
	case "parallax":
		b, err := emBytes(dialect, badge)
		if err != nil {
			return nil, err
		}
		return fmt.Appendf(nil, "\n%X\r", b), nil
	case "raw4", pn532:
		b, err := hex.DecodeString(value)
		if badge.Medium() != "uid" || err != nil || dialect == "raw4" && len(b) != 4 {
			return nil, fmt.Errorf("badge %s: a %s reader reads uid badges, for example uid:DEADBEEF", badge.Masked(), dialect)
		}
		if dialect == "raw4" {
			return b, nil
		}
		return nfcCard(b), nil
	case "hex-line":
		if strings.Trim(value, "0123456789ABCDEFabcdef") != "" {
			return nil, fmt.Errorf("badge %s: a hex-line reader sends hexadecimal only", badge.Masked())
		}
		return []byte(value + "\r\n"), nil
	case "dec-line":
		if badge.Medium() == "em" {
			b, err := emBytes(dialect, badge)
			if err != nil {
				return nil, err
			}
			n := uint64(b[1])<<24 | uint64(b[2])<<16 | uint64(b[3])<<8 | uint64(b[4])
			value = fmt.Sprintf("%010s", strconv.FormatUint(n, 10))
		}
		if strings.Trim(value, "0123456789,") != "" {
			return nil, fmt.Errorf("badge %s: a dec-line reader sends digits only", badge.Masked())
		}
		return []byte(value + "\r\n"), nil
	}
	switch dialect {
	case overWires:
		return wiegandBits(badge)
	case overKeys:
		keys := strings.NewReplacer("-", "#", ",", "*").Replace(strings.ToUpper(value))
		if badge.Medium() != "keys" || strings.Trim(keys, padKeys) != "" {
			return nil, fmt.Errorf("badge %s: a keypad has digits, A to D, - for # and , for *: write keys:123-4711- for number and PIN", badge.Masked())
		}
		return []byte(keys), nil
	}
	return nil, usagef("dialect %q: use %s", dialect, strings.Join(dialects, ", "))
}

// wiegandBits is a frame: even parity over its first half, facility, number, odd parity
// over its second half. Of an odd number of bits the one in the middle is in both.
func wiegandBits(badge punch.Badge) ([]byte, error) {
	wrong := fmt.Errorf("badge %s: a reader with wires sends w26, w34, w37 and em badges, for example w26:123-45678", badge.Masked())
	var facility, number uint64
	widths, ok := map[string][2]int{"w26": {8, 16}, "w34": {16, 16}, "w37": {16, 19}}[badge.Medium()]
	if badge.Medium() == "em" {
		b, err := emBytes(overWires, badge)
		if err != nil {
			return nil, err
		}
		widths, ok = [2]int{8, 16}, true
		facility, number = uint64(b[2]), uint64(b[3])<<8|uint64(b[4])
	} else if n, err := fmt.Sscanf(badge.Value()+"\n", "%d-%d\n", &facility, &number); n != 2 || err != nil {
		return nil, wrong
	}
	if !ok || facility>>widths[0] > 0 || number>>widths[1] > 0 {
		return nil, wrong
	}
	bits := fmt.Sprintf("%0*b%0*b", widths[0], facility, widths[1], number)
	half := (len(bits) + 1) / 2
	even := strings.Count(bits[:half], "1") % 2
	odd := 1 - strings.Count(bits[len(bits)-half:], "1")%2
	return fmt.Appendf(nil, "%d%s%d", even, bits, odd), nil
}

func emBytes(dialect string, badge punch.Badge) ([]byte, error) {
	b, err := hex.DecodeString(badge.Value())
	if badge.Medium() != "em" || err != nil || len(b) != 5 {
		return nil, fmt.Errorf("badge %s: a %s reader reads em badges only, for example em:0A1B2C3D4E", badge.Masked(), dialect)
	}
	return b, nil
}

// garbage spoils a frame the way a badge pulled away too early does: a digit is
// another one, so that a checksum does not fit. The others have no checksum; they
// get a byte that no badge holds, and raw4 has one byte too few.
func garbage(dialect string, good []byte) []byte {
	b := append([]byte(nil), good...)
	switch dialect {
	case overKeys:
		return []byte{twoKeys}
	case pn532:
		b[len(b)-2] ^= 1
	case "raw4":
		b = b[:3]
	case overWires:
		b[len(b)-1] ^= 1 // of which the parity is
	case "rdm6300", "id12la", "idteck":
		if b[3] == '0' {
			b[3] = '1'
		} else {
			b[3] = '0'
		}
	default:
		b[3] = '?'
	}
	return b
}
