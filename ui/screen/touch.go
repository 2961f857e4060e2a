package screen

// contact is what a finger does: x and y from 0 to 1, of the panel.
type contact struct {
	x, y float64
	down bool
	lost bool // the kernel dropped something: whatever was meant is not done
}

// touchDevice is a touch screen that was found.
type touchDevice interface {
	path() string
	// read waits for what comes next. Close ends the waiting.
	read() ([]contact, error)
	Close() error
}

// Types and codes of the kernel's input events that mean something here, from
// linux/input-event-codes.h.
const (
	evSyn = 0
	evKey = 1
	evAbs = 3

	synReport  = 0
	synDropped = 3

	btnTouch = 0x14A

	absX       = 0x00
	absY       = 0x01
	mtSlot     = 0x2F
	mtX        = 0x35
	mtY        = 0x36
	mtTracking = 0x39
)

// span is what a coordinate runs from and to.
type span struct{ min, max int32 }

// part is where a value stands in the span, from 0 to 1.
func (s span) part(v int32) float64 {
	if s.max <= s.min {
		return 0
	}
	return min(max(float64(int64(v)-int64(s.min))/float64(int64(s.max)-int64(s.min)), 0), .9999)
}

// fingers turns the kernel's events into what the first finger does. Others beside it do
// nothing, and what began before an event was dropped is lost. It is pure.
type fingers struct {
	x, y  span
	slots bool // multi-touch protocol B; else one finger, by BTN_TOUCH

	slot  int32
	owner int32 // slot of the first finger
	down  bool
	was   bool // down at the last report
	moved bool
	deaf  bool // until the next report, and then until all is lifted
	at    [2]int32
}

// event takes one event and returns what it comes to.
func (f *fingers) event(typ, code uint16, value int32) (c contact, ok bool) {
	switch {
	case typ == evSyn && code == synDropped:
		f.deaf, f.down, f.slot, f.owner = true, false, -1, 0 // which slot is meant is not known until told
		if f.was {
			f.was = false
			return contact{lost: true}, true
		}
		return contact{}, false
	case typ == evSyn && code == synReport:
		if f.deaf {
			f.deaf = false
			f.down = false
			return contact{}, false
		}
		return f.report()
	case f.deaf:
		return contact{}, false
	case !f.slots && typ == evKey && code == btnTouch:
		f.down = value != 0
	case !f.slots && typ == evAbs && code == absX:
		f.at[0], f.moved = value, true
	case !f.slots && typ == evAbs && code == absY:
		f.at[1], f.moved = value, true
	case !f.slots || typ != evAbs:
	case code == mtSlot:
		f.slot = value
	case code == mtTracking && value >= 0:
		if !f.down {
			f.down, f.owner = true, f.slot
		}
	case code == mtTracking:
		if f.down && (f.owner == f.slot || f.owner < 0) { // below 0: nobody knows any more which it was
			f.down = false
		}
	case code == mtX && f.slot == f.owner:
		f.at[0], f.moved = value, true
	case code == mtY && f.slot == f.owner:
		f.at[1], f.moved = value, true
	}
	return contact{}, false
}

// report says what has become of the finger since the last report.
func (f *fingers) report() (contact, bool) {
	if !f.down && !f.was || f.down && f.was && !f.moved {
		f.moved = false
		return contact{}, false
	}
	f.was, f.moved = f.down, false
	return contact{x: f.x.part(f.at[0]), y: f.y.part(f.at[1]), down: f.down}, true
}
