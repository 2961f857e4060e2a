package devicetest

import (
	"encoding/binary"
	"os"
	"testing"
	"unsafe"
)

// TouchScreen is a touch screen of the kernel that the test touches. It exists where
// [Keyboard] does.
type TouchScreen struct {
	Path string // /dev/input/eventN

	t     testing.TB
	dev   *os.File
	slots bool
	id    int32
}

const (
	uiSetAbsBit  = 0x40045567
	uiSetPropBit = 0x4004556e
	uiAbsSetup   = 0x401c5504
)

// NewTouchScreen plugs a touch screen in whose places run from 0 to w and from 0 to h.
// With slots it speaks the kernel's multi-touch protocol B and nothing else, without it
// tells of one finger the old way.
func NewTouchScreen(t testing.TB, w, h int32, slots bool) *TouchScreen {
	t.Helper()
	dev, err := os.OpenFile("/dev/uinput", os.O_WRONLY, 0)
	if err != nil {
		t.Fatalf("simulated touch screen: %v", err)
	}
	s := &TouchScreen{t: t, dev: dev, slots: slots}
	t.Cleanup(s.Unplug)
	u := uinput{t, dev}
	u.set(uiSetPropBit, 1) // INPUT_PROP_DIRECT
	axes := map[uint16]int32{0: w, 1: h}
	if slots {
		axes = map[uint16]int32{0x2f: 9, 0x35: w, 0x36: h, 0x39: 65535}
	} else {
		u.set(uiSetEvBit, 1)      // EV_KEY
		u.set(uiSetKeyBit, 0x14a) // BTN_TOUCH
	}
	u.set(uiSetEvBit, 3) // EV_ABS
	for axis, most := range axes {
		u.set(uiSetAbsBit, uintptr(axis))
		var setup [28]byte // struct uinput_abs_setup
		binary.LittleEndian.PutUint16(setup[0:], axis)
		binary.LittleEndian.PutUint32(setup[12:], uint32(most))
		u.pass(uiAbsSetup, unsafe.Pointer(&setup))
	}
	var setup [92]byte // struct uinput_setup
	copy(setup[8:], "simulated touch screen")
	u.pass(uiDevSetup, unsafe.Pointer(&setup))
	u.set(uiDevCreate, 0)
	s.Path = u.eventDevice()
	return s
}

// Press puts a finger down, or moves it.
func (s *TouchScreen) Press(x, y int32) {
	s.t.Helper()
	if s.slots {
		s.id++
		s.send(3, 0x2f, 0, 3, 0x39, s.id, 3, 0x35, x, 3, 0x36, y)
	} else {
		s.send(3, 0, x, 3, 1, y, 1, 0x14a, 1)
	}
}

// Lift takes the finger away.
func (s *TouchScreen) Lift() {
	s.t.Helper()
	if s.slots {
		s.send(3, 0x39, -1)
	} else {
		s.send(1, 0x14a, 0)
	}
}

// send sends events, each a type, a code and a value, and a report.
func (s *TouchScreen) send(events ...int32) {
	s.t.Helper()
	var b []byte
	for e := append(events, 0, 0, 0); len(e) > 0; e = e[3:] {
		b = append(b, make([]byte, 2*unsafe.Sizeof(uintptr(0)))...) // the kernel knows the time
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, uint32(e[2]))
	}
	if _, err := s.dev.Write(b); err != nil {
		s.t.Errorf("simulated touch screen: %v", err)
	}
}

// Unplug takes the touch screen away. It may be repeated.
func (s *TouchScreen) Unplug() { s.dev.Close() }
