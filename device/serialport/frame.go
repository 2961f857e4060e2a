package serialport

import (
	"time"

	"punchclock/device"
)

const (
	stx = 0x02
	etx = 0x03
	lf  = '\n'
	cr  = '\r'

	bareBytes   = 4  // of a frame without framing
	frameBuffer = 64 // bytes of a frame that are kept; the longest legal one has 23
	cardLike    = 8  // bytes from which on a broken frame was a card and not noise
)

// dialect describes one form of frames. start is 0 for the line forms.
type dialect struct {
	name   string
	start  byte   // first byte of a frame
	digits int    // hex digits between start and tail, check digits included
	tail   string // the bytes that end it
	xor    bool   // the last two digits are the XOR of the bytes before
	lrc    bool   // a binary byte follows the tail: XOR of the whole frame

	bare bool // bareBytes bytes between two silences

	line string // the characters of a line
}

var dialects = []*dialect{
	{name: "rdm6300", start: stx, digits: 12, tail: "\x03", xor: true},
	{name: "id12la", start: stx, digits: 12, tail: "\r\n\x03", xor: true},
	{name: "idteck", start: stx, digits: 10, tail: "\x03", lrc: true},
	{name: "parallax", start: lf, digits: 10, tail: "\r"},
	{name: "raw4", bare: true},
	{name: "hex-line", line: device.LineCharacters("hex-line")},
	{name: "dec-line", line: device.LineCharacters("dec-line")},
}

// Dialects returns the names that [Config].Dialect accepts.
func Dialects() []string {
	names := make([]string, len(dialects))
	for i, d := range dialects {
		names[i] = d.name
	}
	return names
}

// frame is what the decoder has to tell: a card, or a fault. value and raw are
// the decoder's own memory and good until its next call.
type frame struct {
	medium string // "" for a fault
	value  []byte
	raw    []byte
	bits   int

	fault string
	try   bool

	first, last time.Time // of its bytes
}

// decoder turns bytes into frames. It is pure: it knows the time of a byte only
// from its caller, and learns of silence only by being told.
type decoder struct {
	*dialect
	buf   [frameBuffer]byte
	n     int  // bytes in buf
	skip  bool // discarding to the next start, terminator or silence
	ended bool // a terminator was seen: this reader ends its lines itself

	first, last time.Time
	value       [frameBuffer]byte
	raw         [frameBuffer]byte
}

// reset forgets a partial frame and distrusts what follows until the next start,
// terminator or silence.
func (d *decoder) reset(at time.Time) { d.n, d.skip, d.last = 0, true, at }

// pending reports whether silence would mean something.
func (d *decoder) pending() bool { return d.n > 0 || d.skip }

// push takes one byte that came at the given time.
func (d *decoder) push(b byte, at time.Time) (frame, bool) {
	began := d.first
	if d.n == 0 {
		d.first, began = at, at
	}
	before := d.last
	d.last = at
	switch {
	case d.bare:
		return d.pushBare(b)
	case d.start == 0:
		return d.pushLine(b, at)
	}
	return d.pushFrame(b, at, began, before)
}

func (d *decoder) pushFrame(b byte, at, began, before time.Time) (frame, bool) {
	tail := 1 + d.digits // where it begins
	check := tail + len(d.tail)
	switch {
	case d.n == 0:
		if b == d.start {
			d.buf[0], d.n, d.skip = b, 1, false
			return frame{}, false
		}
		if d.skip {
			return frame{}, false
		}
		d.skip = true // one fault for a burst of it
		return frame{fault: device.FaultNoise, first: at, last: at}, true
	case d.n == check: // the LRC may be any byte, a start included
	case b == d.start:
		f := frame{fault: device.FaultFormat, try: d.n >= cardLike, first: began, last: before}
		d.n, d.first = 1, at
		return f, true
	case d.n < tail:
		if unhex(b) < 0 {
			fault := device.FaultFormat
			if b == d.tail[0] {
				fault = device.FaultLength
			}
			return d.fail(fault)
		}
	case b != d.tail[d.n-tail]:
		if unhex(b) >= 0 {
			return d.fail(device.FaultLength)
		}
		return d.fail(device.FaultFormat)
	}
	d.buf[d.n] = b
	d.n++
	if d.n < check || d.lrc && d.n == check {
		return frame{}, false
	}
	return d.whole()
}

// whole judges a frame of the right shape.
func (d *decoder) whole() (frame, bool) {
	var sum byte
	if d.lrc {
		for _, b := range d.buf[:d.n-1] {
			sum ^= b
		}
		if sum != d.buf[d.n-1] {
			return d.fail(device.FaultChecksum)
		}
	}
	digits := d.buf[1 : 1+d.digits]
	if d.xor {
		n := d.bytes(digits)
		for _, b := range d.raw[:n-1] {
			sum ^= b
		}
		if sum != d.raw[n-1] {
			return d.fail(device.FaultChecksum)
		}
		digits = digits[:len(digits)-2]
	}
	return d.card("em", digits)
}

func (d *decoder) pushBare(b byte) (frame, bool) {
	if d.skip {
		return frame{}, false
	}
	if d.n == bareBytes {
		f, ok := d.fail(device.FaultLength)
		d.skip = true
		return f, ok
	}
	d.buf[d.n] = b
	d.n++
	return frame{}, false
}

// endBare judges what lay between two silences. All zeros or all ones is a line
// that hangs, not a card.
func (d *decoder) endBare() (frame, bool) {
	if d.n < bareBytes {
		return d.fail(device.FaultLength)
	}
	if b := d.buf[:bareBytes]; b[0] == b[1] && b[1] == b[2] && b[2] == b[3] && (b[0] == 0 || b[0] == 0xFF) {
		return d.fail(device.FaultNoise)
	}
	copy(d.raw[:], d.buf[:bareBytes])
	return d.number("uid", bareBytes)
}

func (d *decoder) pushLine(b byte, at time.Time) (frame, bool) {
	switch {
	case b == cr || b == lf || b == etx:
		d.ended = true
		if d.skip {
			d.n, d.skip = 0, false
		}
		if d.n == 0 {
			return frame{}, false // the rest of a CR LF ETX
		}
		return d.endLine()
	case d.skip:
		return frame{}, false
	case b == stx && d.n == 0:
		return frame{}, false
	case !d.has(b):
		fault := device.FaultFormat
		if d.n == 0 {
			fault = device.FaultNoise
		}
		f, ok := d.fail(fault)
		d.skip = true
		return f, ok
	case d.n == len(d.buf):
		f, ok := d.fail(device.FaultLength)
		f.try, d.skip = false, true
		return f, ok
	}
	d.buf[d.n] = b
	d.n++
	return frame{}, false
}

func (d *decoder) endLine() (frame, bool) {
	n, fault := device.ParseLine(d.name, 0, d.buf[:d.n])
	if fault != "" {
		return d.fail(fault)
	}
	d.n = 0
	return frame{medium: n.Medium, value: []byte(n.Value), raw: n.Raw, bits: 8 * len(n.Raw), first: d.first, last: d.last}, true
}

// silence says that nothing came for longer than the gap inside a frame may be.
func (d *decoder) silence() (frame, bool) {
	if d.skip || d.n == 0 {
		d.n, d.skip = 0, false
		return frame{}, false
	}
	if d.bare {
		return d.endBare()
	}
	if d.start == 0 && !d.ended {
		return d.endLine()
	}
	f, ok := d.fail(device.FaultTimeout)
	d.skip = false // silence is where a frame may begin
	return f, ok
}

// card hands out hex digits as a number.
func (d *decoder) card(medium string, digits []byte) (frame, bool) {
	return d.number(medium, d.bytes(digits))
}

// number hands out the first n bytes of raw.
func (d *decoder) number(medium string, n int) (frame, bool) {
	for i, b := range d.raw[:n] {
		d.value[2*i], d.value[2*i+1] = hexDigits[b>>4], hexDigits[b&15]
	}
	d.n = 0
	return frame{medium: medium, value: d.value[:2*n], raw: d.raw[:n], bits: 8 * n, first: d.first, last: d.last}, true
}

// fail gives up what was collected. A framed dialect goes on at the next start
// byte, without another fault until then.
func (d *decoder) fail(fault string) (frame, bool) {
	f := frame{fault: fault, try: d.n >= cardLike, first: d.first, last: d.last}
	d.n, d.skip = 0, d.start != 0
	return f, true
}

// bytes writes the digits, an even number of them, to raw.
func (d *decoder) bytes(digits []byte) int {
	for i := 0; i+1 < len(digits); i += 2 {
		d.raw[i/2] = byte(unhex(digits[i])<<4 | unhex(digits[i+1]))
	}
	return len(digits) / 2
}

func (d *decoder) has(b byte) bool {
	for i := range len(d.line) {
		if d.line[i] == b {
			return true
		}
	}
	return false
}

const hexDigits = "0123456789ABCDEF"

// unhex returns the value of a hex digit of either case, -1 for anything else.
func unhex(b byte) int {
	switch {
	case b >= '0' && b <= '9':
		return int(b - '0')
	case b >= 'A' && b <= 'F':
		return int(b-'A') + 10
	case b >= 'a' && b <= 'f':
		return int(b-'a') + 10
	}
	return -1
}
