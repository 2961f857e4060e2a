package screen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of an event device, from linux/input.h.
const (
	eviocgAbs  = 0x80184540 // plus the axis: struct input_absinfo, six numbers of 32 bits
	eviocsGrab = 0x40044590
)

// wordSize is the size of a machine word in bytes: the time of an event is two.
const wordSize = int(unsafe.Sizeof(uintptr(0)))

// findTouch takes the touch screens that are there and not in use yet.
func findTouch(have map[string]bool) ([]touchDevice, error) {
	return searchTouch("/sys/class/input", "/dev/input", have, openTouch)
}

// searchTouch looks through the input devices and opens those that are touch screens.
func searchTouch(sys, dev string, have map[string]bool, open func(path string, slots bool) (touchDevice, error)) (found []touchDevice, bad error) {
	entries, err := os.ReadDir(sys)
	if err != nil {
		return nil, nil // a machine without any input device
	}
	for _, e := range entries {
		path := filepath.Join(dev, e.Name())
		if !strings.HasPrefix(e.Name(), "event") || have[path] {
			continue
		}
		bits := func(name string) bitmap {
			b, _ := os.ReadFile(filepath.Join(sys, e.Name(), "device", name)) // what cannot be read has just gone
			return parseBitmap(string(b))
		}
		slots, ok := isTouchScreen(bits("capabilities/abs"), bits("capabilities/key"), bits("properties"))
		if !ok {
			continue
		}
		d, err := open(path, slots)
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		found = append(found, d)
	}
	return found, bad
}

// bitmap is a set of codes as /sys tells it: words of the machine in hexadecimal, the
// highest first.
type bitmap []uint64

func parseBitmap(s string) (b bitmap) {
	words := strings.Fields(s)
	for i := len(words) - 1; i >= 0; i-- {
		w, err := strconv.ParseUint(words[i], 16, 64)
		if err != nil {
			return nil
		}
		b = append(b, w)
	}
	return b
}

func (b bitmap) has(code int) bool {
	bits := 8 * wordSize
	return code/bits < len(b) && b[code/bits]>>(code%bits)&1 != 0
}

// isTouchScreen reports whether a device tells where it is touched, and is looked at while
// it is; slots is how it tells.
func isTouchScreen(abs, key, properties bitmap) (slots, ok bool) {
	const pointer = 0 // INPUT_PROP_POINTER: a touchpad
	if properties.has(pointer) {
		return false, false
	}
	if abs.has(mtSlot) && abs.has(mtX) && abs.has(mtY) {
		return true, true
	}
	return false, key.has(btnTouch) && abs.has(absX) && abs.has(absY)
}

// touchPanel is an event device.
type touchPanel struct {
	*os.File
	fingers fingers
	buf     [64 * 24]byte
}

func openTouch(path string, slots bool) (touchDevice, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; the program's user must be in the group input", err)
		}
		return nil, err
	}
	d := &touchPanel{File: file, fingers: fingers{slots: slots}}
	ax, ay := absX, absY
	if slots {
		ax, ay = mtX, mtY
	}
	raw, err := file.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) {
			for axis, to := range map[int]*span{ax: &d.fingers.x, ay: &d.fingers.y} {
				var info [6]int32 // value, minimum, maximum, fuzz, flat, resolution
				if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, eviocgAbs+uintptr(axis), uintptr(unsafe.Pointer(&info))); e != 0 {
					err = fmt.Errorf("what its places run from and to: %w", e)
					return
				}
				*to = span{info[1], info[2]}
			}
			if err = unix.IoctlSetInt(int(fd), eviocsGrab, 1); err != nil {
				err = fmt.Errorf("take it for this program alone: %w; stop the program that has it", err)
			}
		})
		err = errors.Join(cerr, err)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("touch screen %s: %w", path, err)
	}
	return d, nil
}

func (d *touchPanel) path() string { return d.Name() }

func (d *touchPanel) read() ([]contact, error) {
	n, err := d.Read(d.buf[:])
	return d.fingers.records(d.buf[:n], wordSize), err
}

// records takes the kernel's records: a time, two words; type and code, 16 bits each; a
// value of 32.
func (f *fingers) records(b []byte, word int) (all []contact) {
	for size := 2*word + 8; len(b) >= size; b = b[size:] {
		e := b[2*word:]
		if c, ok := f.event(binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:]), int32(binary.LittleEndian.Uint32(e[4:]))); ok {
			all = append(all, c)
		}
	}
	return all
}
