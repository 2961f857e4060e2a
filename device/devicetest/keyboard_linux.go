package devicetest

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Keyboard is a keyboard of the kernel whose keys the test presses. It exists where
// the test may open /dev/uinput: in the guest of [InKernel], with the modules
// "uinput" and "evdev".
type Keyboard struct {
	Path string // /dev/input/eventN

	t   testing.TB
	dev *os.File
}

// Requests of /dev/uinput, from linux/uinput.h.
const (
	uiSetEvBit   = 0x40045564
	uiSetKeyBit  = 0x40045565
	uiSetPhys    = 0x4000556c | unsafe.Sizeof(uintptr(0))<<16
	uiDevSetup   = 0x405c5503
	uiDevCreate  = 0x5501
	uiGetSysname = 0x8040552c // 64 bytes
)

// NewKeyboard plugs a keyboard in. phys is where, as the kernel tells it; "" for
// nowhere.
func NewKeyboard(t testing.TB, vendor, product uint16, phys string) *Keyboard {
	t.Helper()
	dev, err := os.OpenFile("/dev/uinput", os.O_WRONLY, 0)
	if err != nil {
		t.Fatalf("simulated keyboard: %v", err)
	}
	k := &Keyboard{t: t, dev: dev}
	t.Cleanup(k.Unplug)
	u := uinput{t, dev}
	u.set(uiSetEvBit, 1) // EV_KEY
	for key := uintptr(1); key < 128; key++ {
		u.set(uiSetKeyBit, key)
	}
	if phys != "" {
		b, err := unix.BytePtrFromString(phys)
		if err != nil {
			t.Fatal(err)
		}
		u.pass(uiSetPhys, unsafe.Pointer(b))
	}
	var setup [92]byte                          // struct uinput_setup
	binary.LittleEndian.PutUint16(setup[0:], 3) // BUS_USB
	binary.LittleEndian.PutUint16(setup[2:], vendor)
	binary.LittleEndian.PutUint16(setup[4:], product)
	copy(setup[8:], fmt.Sprintf("simulated reader %04x:%04x", vendor, product))
	u.pass(uiDevSetup, unsafe.Pointer(&setup))
	u.set(uiDevCreate, 0)
	k.Path = u.eventDevice()
	return k
}

// uinput is the kernel's file that input devices are made by.
type uinput struct {
	t   testing.TB
	dev *os.File
}

// set asks for something with a number.
func (u uinput) set(request, n uintptr) {
	u.t.Helper()
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, u.dev.Fd(), request, n); e != 0 {
		u.t.Fatalf("simulated input: request %#x: %v", request, e)
	}
}

// pass hands over memory. It stays a pointer up to the call: a stack that grows takes
// what lies on it along, and a number would go on telling the old place.
func (u uinput) pass(request uintptr, at unsafe.Pointer) {
	u.t.Helper()
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, u.dev.Fd(), request, uintptr(at)); e != 0 {
		u.t.Fatalf("simulated input: request %#x: %v", request, e)
	}
}

// eventDevice waits for the device of what was made just now.
func (u uinput) eventDevice() string {
	u.t.Helper()
	var name [64]byte
	u.pass(uiGetSysname, unsafe.Pointer(&name))
	dir := "/sys/devices/virtual/input/" + unix.ByteSliceToString(name[:])
	for range 100 {
		if m, _ := filepath.Glob(dir + "/event*"); len(m) == 1 {
			return "/dev/input/" + filepath.Base(m[0])
		}
		time.Sleep(10 * time.Millisecond)
	}
	u.t.Fatalf("simulated input: no event device below %s", dir)
	return ""
}

// Type presses and releases keys, by the kernel's codes, each so long after the one
// before.
func (k *Keyboard) Type(pause time.Duration, codes ...uint16) {
	k.t.Helper()
	for _, code := range codes {
		for _, value := range []uint32{1, 0} {
			var b []byte
			for _, ev := range [][3]uint32{{1, uint32(code), value}, {0, 0, 0}} {
				b = append(b, make([]byte, 2*unsafe.Sizeof(uintptr(0)))...) // the kernel knows the time
				b = binary.LittleEndian.AppendUint16(b, uint16(ev[0]))
				b = binary.LittleEndian.AppendUint16(b, uint16(ev[1]))
				b = binary.LittleEndian.AppendUint32(b, ev[2])
			}
			if _, err := k.dev.Write(b); err != nil {
				k.t.Errorf("simulated keyboard: %v", err)
			}
		}
		time.Sleep(pause)
	}
}

// Unplug takes the keyboard away. It may be repeated.
func (k *Keyboard) Unplug() { k.dev.Close() }
