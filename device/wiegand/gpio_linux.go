package wiegand

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"

	"punchclock/device"
	"punchclock/device/gpiochip"
)

// buffered is how many edges the kernel keeps for us. Its own choice, 16 for each
// line, is less than a frame.
const buffered = 1024

// The kernel's structures have these sizes on every machine.
var (
	_ [eventSize]byte                                = [unsafe.Sizeof(uapi.LineEvent{})]byte{}
	_ [unsafe.Offsetof(uapi.LineEvent{}.Offset)]byte = [12]byte{}
	_ [unsafe.Offsetof(uapi.LineEvent{}.Seqno)]byte  = [16]byte{}
)

const eventSize = 48

// gpio is the only door to the chip. The kernels of today say nothing to a program
// that waits for edges of a chip that is unplugged: so we also watch whether its
// device file is deleted. Both are waited for by way of an epoll of our own, which
// Go's can wait for.
type gpio struct {
	wait    *os.File // the epoll
	request int      // file descriptors: edges come out of this one,
	deleted int      // and names of deleted files out of this
	name    string   // of the chip's device file, without its folder
	lines   [2]int
	base    time.Time // a moment,
	mono    int64     // and the same by the kernel's clock of events
	stopped atomic.Bool
	buf     [64 * eventSize]byte
}

var _ Edges = (*gpio)(nil)

// openGPIO requests both lines of a chip in one.
func openGPIO(chip string, d0, d1 int) (*gpio, error) {
	g := &gpio{request: -1, deleted: -1, lines: [2]int{d0, d1}}
	if err := g.open(chip); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func (g *gpio) open(chip string) error {
	folder := "/dev"
	if strings.HasPrefix(chip, "/") {
		real, err := filepath.EvalSymlinks(chip)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w: %w", device.ErrMissing, err)
			}
			return fmt.Errorf("chip %s: %w", chip, err)
		}
		chip, folder = real, filepath.Dir(real)
	}
	if err := g.watch(folder); err != nil { // before the chip is opened, so that nothing is missed
		return fmt.Errorf("watch %s: %w", folder, err)
	}
	c, err := gpiochip.Open(chip)
	if err != nil {
		return err
	}
	defer c.Close()
	g.name = c.Name
	edges := uapi.LineConfig{Flags: uapi.LineFlagV2Input | uapi.LineFlagV2EdgeFalling | uapi.LineFlagV2BiasPullUp}
	if g.request, err = c.Take(edges, buffered, g.lines[:]...); err != nil {
		return err
	}
	if err := errors.Join(g.waitFor(g.request), g.readClocks()); err != nil {
		return fmt.Errorf("wait for GPIO%d and GPIO%d: %w", g.lines[0], g.lines[1], err)
	}
	return nil
}

// watch begins to hear of files that are deleted in a folder.
func (g *gpio) watch(folder string) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(ep, true); err != nil {
		unix.Close(ep)
		return err
	}
	g.wait = os.NewFile(uintptr(ep), "edges")
	if err := g.wait.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if g.deleted, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return err
	}
	if _, err := unix.InotifyAddWatch(g.deleted, folder, unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_DELETE_SELF); err != nil {
		return err
	}
	return g.waitFor(g.deleted)
}

// waitFor adds a file descriptor to those whose news end a wait.
func (g *gpio) waitFor(fd int) error {
	conn, err := g.wait.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(ep uintptr) {
		if err = unix.SetNonblock(fd, true); err == nil {
			err = unix.EpollCtl(int(ep), unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		}
	})
	return errors.Join(cerr, err)
}

// readClocks finds what the kernel's clock of events, CLOCK_MONOTONIC, was at a
// moment. It is the clock that Go's monotonic times are made of, so the two never
// drift apart.
func (g *gpio) readClocks() error {
	best := int64(1) << 62
	for range 5 { // unless we were interrupted just here
		var before, after unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
			return err
		}
		now := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &after); err != nil {
			return err
		}
		if d := after.Nano() - before.Nano(); d < best {
			best, g.base, g.mono = d, now, before.Nano()
		}
	}
	return nil
}

// Read waits until deadline. See [Edges].
func (g *gpio) Read(to []Edge, deadline time.Time) (n int, err error) {
	if err := g.wait.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	if g.stopped.Load() { // Interrupt comes after this, or its deadline after ours
		return 0, os.ErrClosed
	}
	conn, err := g.wait.SyscallConn()
	if err != nil {
		return 0, err
	}
	werr := conn.Read(func(uintptr) bool {
		n, err = g.take(to)
		return n > 0 || err != nil
	})
	switch {
	case !errors.Is(werr, os.ErrDeadlineExceeded):
		return n, errors.Join(werr, err)
	case g.stopped.Load():
		return 0, os.ErrClosed
	}
	return g.take(to) // the deadline wins against edges that are there
}

// take returns the edges that are there, without waiting, and an error when there
// will never be another.
func (g *gpio) take(to []Edge) (int, error) {
	n, err := read(g.request, g.buf[:min(len(to)*eventSize, len(g.buf))])
	if n > 0 || err != nil {
		return g.parse(to, g.buf[:n]), err
	}
	n, err = read(g.deleted, g.buf[:])
	for b := g.buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		end := min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])), len(b))
		name, _, _ := strings.Cut(string(b[unix.SizeofInotifyEvent:end]), "\x00")
		if name == g.name || name == "" { // "": the folder itself, or the kernel could not tell us of all
			return 0, unix.ENODEV
		}
		b = b[end:]
	}
	return 0, err
}

// read reads what is there; 0 and no error if there is nothing.
func read(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, nil
		case err != nil:
			return 0, err
		default:
			return n, nil
		}
	}
}

// parse takes the kernel's events apart; there is room for all of them.
func (g *gpio) parse(to []Edge, b []byte) (n int) {
	ne := binary.NativeEndian
	for ; len(b) >= eventSize; b = b[eventSize:] {
		e := Edge{Seq: ne.Uint32(b[16:]), At: g.base.Add(time.Duration(int64(ne.Uint64(b)) - g.mono))}
		if int(ne.Uint32(b[12:])) == g.lines[1] {
			e.Line = 1
		}
		to[n] = e
		n++
	}
	return n
}

// Low asks the kernel for the levels.
func (g *gpio) Low() ([2]bool, error) {
	v := uapi.LineValues{Mask: 3}
	err := uapi.GetLineValuesV2(uintptr(g.request), &v)
	return [2]bool{v.Bits&1 == 0, v.Bits&2 == 0}, err
}

// Interrupt ends a Read. See [Edges].
func (g *gpio) Interrupt() {
	g.stopped.Store(true)
	_ = g.wait.SetReadDeadline(time.Unix(1, 0)) // it fails on one that is closed
}

// Close gives the lines back.
func (g *gpio) Close() (err error) {
	if g.wait != nil {
		err = g.wait.Close()
	}
	for _, fd := range []int{g.request, g.deleted} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}
