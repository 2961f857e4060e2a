package evdev

import (
	"time"

	"punchclock/device"
)

// pad is the keys of a number pad for people. It is pure, as decoder is.
type pad struct {
	device.Typist
	held uint8 // modifiers
}

// padKeys are the keys of number pads, of every make, and of the kernel's own codes
// for them.
var padKeys = func() map[uint16]byte {
	keys := map[uint16]byte{
		28: '#', 96: '#', 523: '#', // Enter, the keypad's Enter, KEY_NUMERIC_POUND
		55: '*', 522: '*', 1: '*', 14: '*', 111: '*', // the keypad's *, KEY_NUMERIC_STAR, Escape, Backspace, Delete
		30: 'A', 48: 'B', 46: 'C', 32: 'D',
	}
	for i := range uint16(4) {
		keys[59+i] = 'A' + byte(i)  // F1 …
		keys[524+i] = 'A' + byte(i) // KEY_NUMERIC_A …
	}
	for i := range uint16(10) {
		keys[512+i] = '0' + byte(i) // KEY_NUMERIC_0 …
	}
	for code, c := range characters {
		if c >= '0' && c <= '9' {
			keys[uint16(code)] = c
		}
	}
	return keys
}()

// key takes one event of a key.
func (p *pad) key(code uint16, value int32, at time.Time) (device.Event, bool) {
	if bit := modifiers[code]; bit != 0 {
		if p.held |= bit; value == released {
			p.held &^= bit
		}
		return device.Event{}, false
	}
	k := padKeys[code]
	switch {
	case value != pressed, k == 0, p.held&^shift != 0:
		return device.Event{}, false
	case p.held != 0 && k == '3':
		k = '#' // as on a keyboard that has no key of its own for it
	case p.held != 0 && k == '8':
		k = '*'
	case p.held != 0 && k >= '0' && k <= '9':
		return device.Event{}, false
	}
	return p.Press(k, at)
}
