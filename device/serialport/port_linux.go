package serialport

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/tarm/serial"
	"golang.org/x/sys/unix"
)

// port is the only door to tarm/serial. Beside the library's own handle it holds
// a second one on the same device, which the library does not give out: for the
// lock, for exclusive use, and to wait with a timeout that can be changed (the
// library's own is fixed when it opens, in steps of 0.1 s), and without a thread that
// waits.
type port struct {
	guard   int      // file descriptor
	wait    *os.File // the same; it closes it
	tty     *serial.Port
	timeout time.Duration
	excl    bool
	stopped atomic.Bool // Interrupt was called
}

var (
	_ io.ReadCloser = (*port)(nil)
	_ timeouter     = (*port)(nil)
	_ interrupter   = (*port)(nil)
)

// openPort opens path for this program alone and discards what had come before.
func openPort(path string, baud int) (*port, error) {
	// The link is followed once, so that both handles are of one device even if it
	// is changed in between. The guard comes first and keeps the device's number
	// from being given to another.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, hint(err)
	}
	fd, err := unix.Open(real, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, hint(&fs.PathError{Op: "open", Path: real, Err: err})
	}
	p := &port{guard: fd, wait: os.NewFile(uintptr(fd), real), timeout: readTimeout}
	if err := p.take(real, baud); err != nil {
		p.Close()
		return nil, hint(err)
	}
	return p, nil
}

func (p *port) take(real string, baud int) error {
	var st unix.Stat_t
	if err := unix.Fstat(p.guard, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return errNotSerial
	}
	if _, err := unix.IoctlGetTermios(p.guard, unix.TCGETS); err != nil {
		return errNotSerial
	}
	// Gone with the process, however it ends.
	if err := unix.Flock(p.guard, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	// TIOCEXCL lasts until the last handle is closed. On a pseudo-terminal that
	// includes the other end: a program that was killed could not open it again
	// while the simulated reader runs, so there the lock alone has to do.
	pseudo := unix.Major(uint64(st.Rdev)) >= 136 && unix.Major(uint64(st.Rdev)) <= 143
	if !pseudo {
		// To root the kernel opens a taken device all the same: ask.
		if taken, err := unix.IoctlGetInt(p.guard, unix.TIOCGEXCL); err == nil && taken != 0 {
			return fmt.Errorf("open: %w", unix.EBUSY)
		}
	}
	tty, err := serial.OpenPort(&serial.Config{Name: real, Baud: baud, ReadTimeout: readTimeout})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	p.tty = tty
	if !pseudo {
		if err := unix.IoctlSetInt(p.guard, unix.TIOCEXCL, 0); err != nil {
			return fmt.Errorf("take for this program alone: %w", err)
		}
		p.excl = true
	}
	if err := tty.Flush(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

var errNotSerial = errors.New("not a serial device: write the path of a serial port, best one below /dev/serial/by-id")

// hint says what a person can do about an error of opening.
func hint(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; check that the reader is plugged in and that the path is right", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; the program's user must be in the device's group, usually dialout", err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("%w; another program has it: stop that one, or give the reader another port", err)
	}
	return err
}

// SetReadTimeout changes how long Read waits; it is rounded up to a millisecond.
func (p *port) SetReadTimeout(d time.Duration) error {
	p.timeout = d
	return nil
}

// Read waits for the first byte until the timeout and returns io.EOF then. After
// the device is gone it returns an error or io.EOF at once.
func (p *port) Read(b []byte) (int, error) {
	if err := p.wait.SetReadDeadline(time.Now().Add(p.timeout)); err != nil {
		return 0, err
	}
	if p.stopped.Load() { // Interrupt comes after this, or its deadline after ours
		return 0, os.ErrClosed
	}
	conn, err := p.wait.SyscallConn()
	if err != nil {
		return 0, err
	}
	some := false // there is something to read, if only the end
	look := func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, perr := unix.Poll(fds, 0)
			if errors.Is(perr, unix.EINTR) {
				continue
			}
			if some = n > 0; perr != nil {
				err = fmt.Errorf("poll: %w", perr)
			}
			return some || err != nil
		}
	}
	werr := conn.Read(look)
	if p.stopped.Load() {
		return 0, os.ErrClosed
	}
	if errors.Is(werr, os.ErrDeadlineExceeded) {
		werr = conn.Control(func(fd uintptr) { look(fd) }) // the deadline wins against bytes that are there
	}
	switch err = errors.Join(werr, err); {
	case err != nil:
		return 0, err
	case !some:
		return 0, io.EOF
	}
	return p.tty.Read(b)
}

// Interrupt ends a Read, and every later one, with an error.
func (p *port) Interrupt() {
	p.stopped.Store(true)
	_ = p.wait.SetReadDeadline(time.Unix(1, 0)) // it fails on one that is closed
}

// Write sends b whole.
func (p *port) Write(b []byte) (int, error) { return p.tty.Write(b) }

// Line is a serial device that is spoken to. One goroutine uses it.
type Line struct {
	line
	port *port
}

// Open opens the serial device at path, or behind a link, for this program alone, at
// a speed from 1200 to 230400 baud, and discards what had come before. The errors
// say what a person can do.
func Open(path string, baud int) (*Line, error) {
	p, err := openPort(path, baud)
	if err != nil {
		return nil, err
	}
	return &Line{line: line{src: p, timed: p, timeout: readTimeout}, port: p}, nil
}

// ReadFor returns what has come, and waits for it for about wait at most; nothing
// and no error is silence. An error means that the device is gone: close it and open
// it again, by its name.
func (l *Line) ReadFor(b []byte, wait time.Duration) (int, error) { return l.read(b, wait) }

// Interrupt ends a ReadFor, and every later one, with an error. It is called by another
// goroutine.
func (l *Line) Interrupt() { l.port.Interrupt() }

// Write sends b whole. An error means that the device is gone.
func (l *Line) Write(b []byte) (int, error) {
	n, err := l.port.Write(b)
	if err != nil {
		return n, fmt.Errorf("the device is gone: %w", err)
	}
	return n, nil
}

// Close gives the device back.
func (l *Line) Close() error { return l.port.Close() }

// Close gives the device back. It does not block: no read is under way, because
// one goroutine does both.
func (p *port) Close() error {
	var err error
	if p.excl {
		// Best effort, for a device somebody else holds open too; it fails on one that is gone.
		_ = unix.IoctlSetInt(p.guard, unix.TIOCNXCL, 0)
	}
	if p.tty != nil {
		err = p.tty.Close()
	}
	return errors.Join(err, p.wait.Close())
}
