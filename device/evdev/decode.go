package evdev

import (
	"encoding/binary"
	"strings"
	"time"

	"punchclock/device"
)

const (
	lineBuffer = 64                     // keys of a line that are kept; the longest legal one has 20
	cardLike   = 8                      // keys from which on a broken line was a card and not a finger
	keyGap     = 50 * time.Millisecond  // between two keys of a reader, at most
	lineGap    = 100 * time.Millisecond // silence that ends a line
)

// Types, codes and values of the kernel's input events that mean something here,
// from linux/input-event-codes.h.
const (
	evSyn      = 0
	evKey      = 1
	synDropped = 3

	released = 0
	pressed  = 1 // 2 is an automatic repeat

	keyTab     = 15
	keyEnter   = 28
	keyKPEnter = 96
)

// record is one event of the kernel.
type record struct {
	at    time.Duration // on the clock that the device was told to use
	typ   uint16
	code  uint16
	value int32
}

// wordSize is the size of a machine word, in bytes: the time of a record is two.
const wordSize = 4 << (^uint(0) >> 63)

// recordSize is the size of a record on a machine with words of that many bytes.
func recordSize(word int) int { return 2*word + 8 }

// parse reads the record at the beginning of b, which holds recordSize(word) bytes
// at least.
func parse(b []byte, word int) record {
	var sec, usec int64
	if word == 8 {
		sec, usec = int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))
	} else {
		sec, usec = int64(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint32(b[4:]))
	}
	b = b[2*word:]
	return record{
		at:  time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond,
		typ: binary.LittleEndian.Uint16(b), code: binary.LittleEndian.Uint16(b[2:]), value: int32(binary.LittleEndian.Uint32(b[4:])),
	}
}

// characters of the keys, as on a US keyboard without Shift; 0 is none.
var characters = func() (c [128]byte) {
	for first, row := range map[int]string{
		2: "1234567890", 16: "qwertyuiop", 30: "asdfghjkl", 44: "zxcvbnm,",
		71: "789", 75: "456", 79: "123", 82: "0", 121: ",",
	} {
		copy(c[first:], row)
	}
	return c
}()

// modifiers are keys that change others while they are held.
var modifiers = map[uint16]uint8{42: leftShift, 54: rightShift, 29: other, 97: other << 1, 56: other << 2, 100: other << 3, 125: other << 4, 126: other << 5}

const (
	leftShift  = 1 << iota
	rightShift // the rest is Ctrl, Alt and Meta
	other
	shift = leftShift | rightShift
)

// ignored are the lock keys: some readers set Num Lock before they type.
var ignored = map[uint16]bool{58: true, 69: true, 70: true}

// frame is what the decoder has to tell: a card, or a fault.
type frame struct {
	device.Number // Medium is "" for a fault

	fault string
	try   bool

	first, last time.Time // of its keys
}

// decoder turns keys into lines. It is pure: it knows the time of a key only from
// its caller, and learns of silence only by being told, or by the next key.
type decoder struct {
	form  string
	width int

	buf   [lineBuffer]byte
	n     int    // characters in buf
	bad   string // fault of the line so far
	skip  bool   // discarding to the next end of a line
	ended bool   // a key has ended a line: this reader ends its lines itself
	held  uint8  // modifiers

	first, last time.Time
}

// reset forgets a partial line and distrusts what follows until the next end of a
// line.
func (d *decoder) reset(at time.Time) { d.n, d.bad, d.skip, d.held, d.last = 0, "", true, 0, at }

// pending reports whether silence would mean something.
func (d *decoder) pending() bool { return d.n > 0 || d.bad != "" || d.skip }

// lost says that the kernel dropped events. Which keys are held is not known then.
func (d *decoder) lost(at time.Time) (frame, bool) {
	f := frame{fault: device.FaultLost, try: d.n >= cardLike, first: at, last: at}
	if d.n > 0 {
		f.first = d.first
	}
	d.reset(at)
	return f, true
}

// key takes one event of a key.
func (d *decoder) key(code uint16, value int32, at time.Time) (f frame, ok bool) {
	if bit := modifiers[code]; bit != 0 {
		if d.held |= bit; value == released {
			d.held &^= bit
		}
		return frame{}, false
	}
	if value != pressed || ignored[code] {
		return frame{}, false
	}
	if d.pending() && at.Sub(d.last) >= lineGap {
		f, ok = d.silence()
	}
	if code == keyEnter || code == keyKPEnter || code == keyTab {
		if ok { // silence has ended it
			return f, ok
		}
		return d.end(at)
	}
	if !d.pending() {
		d.first = at
	} else if at.Sub(d.last) > keyGap && d.bad == "" && !d.skip {
		d.bad = device.FaultTimeout
	}
	d.last = at
	if d.skip {
		return f, ok
	}
	var c byte
	if int(code) < len(characters) {
		c = characters[code]
	}
	switch {
	case d.n == len(d.buf):
		d.bad, d.skip = device.FaultLength, true
		return f, ok
	case d.held&^shift != 0, d.held != 0 && (c < 'a' || c > 'z'), c == 0, !strings.ContainsRune(device.LineCharacters(d.form), rune(c)):
		if d.bad == "" {
			d.bad = device.FaultFormat
		}
		c = '?'
	}
	d.buf[d.n] = c
	d.n++
	return f, ok
}

// end ends a line by a key.
func (d *decoder) end(at time.Time) (frame, bool) {
	d.ended = true
	if d.skip && d.bad == "" { // the rest of a line that was given up
		d.n, d.skip = 0, false
		return frame{}, false
	}
	if !d.pending() {
		return frame{}, false // Tab after Enter, or an empty line
	}
	d.last = at
	return d.line()
}

// silence says that nothing came for lineGap.
func (d *decoder) silence() (frame, bool) {
	if d.skip && d.bad == "" || !d.pending() {
		d.n, d.skip = 0, false
		return frame{}, false
	}
	if (d.ended || d.width > 0) && d.bad == "" { // a padded line has no length to be known by
		d.bad = device.FaultTimeout
	}
	return d.line()
}

// line judges what came.
func (d *decoder) line() (frame, bool) {
	f := frame{first: d.first, last: d.last, fault: d.bad}
	if f.fault == "" {
		f.Number, f.fault = device.ParseLine(d.form, d.width, d.buf[:d.n])
	}
	f.try = f.fault != "" && d.n >= cardLike && !d.skip
	d.n, d.bad, d.skip = 0, "", false
	return f, true
}
