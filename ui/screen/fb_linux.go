package screen

import (
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The structures of linux/fb.h. Words are as long as the machine's.
type (
	fbFix struct {
		id                           [16]byte
		start                        uintptr
		length, kind, aux, visual    uint32
		xPan, yPan, yWrap            uint16
		line                         uint32 // bytes
		mmio                         uintptr
		mmioLength, accel            uint32
		capabilities, spare0, spare1 uint16
	}
	fbField struct{ offset, length, right uint32 }
	fbVar   struct {
		xres, yres, xVirtual, yVirtual, xOffset, yOffset, bits, gray uint32
		red, green, blue, alpha                                      fbField
		rest                                                         [20]uint32
	}
)

const (
	fbGetVar = 0x4600
	fbGetFix = 0x4602
	fbBlank  = 0x4611

	fbUnblanked = 0
	fbPowerDown = 4

	vtConsoles = "/sys/class/vtconsole"
)

// framebuffer is a display of the kernel's older kind.
type framebuffer struct {
	file    *os.File
	memory  []byte
	picture frame
	console []string // files of the kernel's console, which draws there otherwise
}

// openFramebuffer opens one. consoles is where the kernel lists what draws its consoles,
// alarm is told why the console cannot be kept out of the picture.
func openFramebuffer(path, consoles string, alarm func(error)) (_ output, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; the program's user must be in the group video", err)
		}
		return nil, err
	}
	f := &framebuffer{file: file}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	var fix fbFix
	var v fbVar
	if err := errors.Join(ioctl(file, fbGetVar, unsafe.Pointer(&v)), ioctl(file, fbGetFix, unsafe.Pointer(&fix))); err != nil {
		return nil, fmt.Errorf("%s: its size: %w", path, err)
	}
	if f.picture, err = v.picture(fix.line); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.memory, err = unix.Mmap(int(file.Fd()), 0, int(fix.length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("%s: reach the memory: %w", path, err)
	}
	from := int(v.yOffset)*int(fix.line) + int(v.xOffset)*int(v.bits/8)
	if from < 0 || from+int(v.yres)*int(fix.line) > len(f.memory) {
		return nil, fmt.Errorf("%s: the picture is larger than its memory", path)
	}
	p := unsafe.Pointer(&f.memory[from])
	if n := int(v.yres) * f.picture.pitch; v.bits == 32 {
		f.picture.wide = unsafe.Slice((*uint32)(p), n)
	} else {
		f.picture.narrow = unsafe.Slice((*uint16)(p), n)
	}
	if f.console, err = silence(consoles); err != nil {
		alarm(err)
	}
	return f, f.blank(false)
}

// silence takes the kernel's consoles off the frame buffers: their cursor blinks in the
// picture otherwise, and what is written to them stands across it. It returns the files
// that gave them up. A DRM card needs none of this: while it has a master, the console
// keeps off by itself.
func silence(consoles string) (gave []string, err error) {
	names, _ := filepath.Glob(filepath.Join(consoles, "vtcon*", "name"))
	for _, name := range names {
		b, rerr := os.ReadFile(name)
		bind := filepath.Join(filepath.Dir(name), "bind")
		on, berr := os.ReadFile(bind)
		if rerr != nil || berr != nil || !strings.Contains(string(b), "frame buffer") || strings.TrimSpace(string(on)) != "1" {
			continue // another kind, or it does not draw
		}
		if werr := os.WriteFile(bind, []byte("0"), 0); werr != nil {
			err = errors.Join(err, fmt.Errorf("take the console off the display: %w; the program's user must be allowed to write there, see 60-punchclock.rules", werr))
			continue
		}
		gave = append(gave, bind)
	}
	return gave, err
}

// picture says how dots lie, without where.
func (v *fbVar) picture(line uint32) (frame, error) {
	p := frame{w: int(v.xres), h: int(v.yres)}
	switch {
	case p.w == 0 || p.h == 0 || p.w > 4096 || p.h > 4096 || int(line) < p.w*int(v.bits/8):
		return p, fmt.Errorf("a picture of %dx%d with lines of %d bytes makes no sense", p.w, p.h, line)
	case v.bits == 32 && v.green.offset == 8 && (v.red.offset == 16 && v.blue.offset == 0 || v.red.offset == 0 && v.blue.offset == 16):
		p.pitch, p.blueFirst = int(line)/4, v.blue.offset == 16
	case v.bits == 16 && v.red == (fbField{11, 5, 0}) && v.green == (fbField{5, 6, 0}) && v.blue == (fbField{0, 5, 0}):
		p.pitch = int(line) / 2
	default:
		return p, fmt.Errorf("its dots of %d bits lie in an order that is not known; set it to 32 or 16 bits (framebuffer_depth in config.txt)", v.bits)
	}
	return p, nil
}

func (f *framebuffer) frame() *frame { return &f.picture }
func (f *framebuffer) name() string  { return f.file.Name() }
func (f *framebuffer) own() bool     { return true } // it does not say what hangs there

func (f *framebuffer) flush(image.Rectangle) error { return nil }

func (f *framebuffer) blank(off bool) error {
	how := fbUnblanked
	if off {
		how = fbPowerDown
	}
	raw, err := f.file.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.IoctlSetInt(int(fd), fbBlank, how) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
		err = nil // it has no switch: it stays lit, and black when it is off
	}
	return errors.Join(cerr, err)
}

func (f *framebuffer) there() error {
	if _, err := os.Stat(f.file.Name()); err != nil {
		return fmt.Errorf("%s is gone; check its plug", f.file.Name())
	}
	return nil
}

func (f *framebuffer) Close() error {
	var err error
	if f.memory != nil {
		err = unix.Munmap(f.memory)
	}
	for _, bind := range f.console {
		err = errors.Join(err, os.WriteFile(bind, []byte("1"), 0))
	}
	return errors.Join(err, f.file.Close())
}
