package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// line is the cable of a simulated serial reader: a pseudo-terminal whose far end
// a link points to. The near end stays open, so that the port is there whether or
// not somebody listens.
//
// When the listener closes the port the line gets a fresh pseudo-terminal, as a
// real port starts afresh with its first open: an exclusive lock would otherwise
// outlive the process that took it. Bytes sent while nobody listens are lost, as
// on a real cable.
type line struct {
	link string

	chip *nfc // at its far end, nil for a reader that only speaks

	mu     sync.Mutex
	master *os.File // nil while unplugged
	opened bool     // somebody has listened on this master
}

// plugLine makes the pseudo-terminal and the link to it. A link that is there is
// replaced; anything else of that name is refused.
func plugLine(link string) (*line, error) {
	l := &line{link: link}
	if err := l.plug(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *line) plug() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plugLocked()
}

func (l *line) plugLocked() error {
	if info, err := os.Lstat(l.link); err == nil && info.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("%s exists and is not a link; name a path of its own with --port", l.link)
	}
	master, slave, err := openPTY()
	if err != nil {
		return fmt.Errorf("make a pseudo-terminal: %w", err)
	}
	temp := l.link + ".new"
	os.Remove(temp) // of a run that was killed; what matters is Symlink below
	err = os.Symlink(slave, temp)
	if err == nil {
		err = os.Rename(temp, l.link)
	}
	if err != nil {
		master.Close()
		return fmt.Errorf("link to the pseudo-terminal: %w", err)
	}
	if l.master != nil {
		l.master.Close()
	}
	l.master, l.opened = master, false
	if l.chip != nil {
		l.chip.unplug()
	}
	return nil
}

// unplug takes the port away: whoever listens sees the line hang up.
func (l *line) unplug() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.master == nil {
		return nil
	}
	err := l.master.Close()
	l.master = nil
	return errors.Join(err, os.Remove(l.link))
}

// plugged says whether the port is there.
func (l *line) plugged() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.master != nil
}

// listening says whether somebody has the port open now.
func (l *line) listening() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listeningLocked()
}

func (l *line) listeningLocked() bool {
	if l.master == nil {
		return false
	}
	up := false
	rc, err := l.master.SyscallConn()
	if err != nil {
		return false
	}
	rc.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		for err == unix.EINTR { // a pending signal ends even a poll that does not wait
			n, err = unix.Poll(p, 0)
		}
		up = err == nil && (n == 0 || p[0].Revents&unix.POLLHUP == 0)
	})
	if up {
		l.opened = true
	}
	return up
}

// waitListener returns when somebody has the port open, or with the context's error.
func (l *line) waitListener(ctx context.Context) error {
	for !l.listening() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollLine):
		}
	}
	return nil
}

const pollLine = 20 * time.Millisecond

// run keeps the line until ctx is done: it gives what the listener sends to the chip
// or throws it away, and renews the line after the listener has left.
func (l *line) run(ctx context.Context) error {
	every := pollLine
	if l.chip != nil {
		every /= 4 // the chip's answer is waited for
	}
	t := time.NewTicker(every)
	defer t.Stop()
	gone := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		l.mu.Lock()
		switch {
		case l.listeningLocked():
			gone = 0
			l.drainLocked()
		case l.master != nil && l.opened:
			// Twice in a row: a program that opens, looks and opens again is left alone.
			if gone++; gone == 2 {
				gone = 0
				if err := l.plugLocked(); err != nil {
					l.mu.Unlock()
					return err
				}
			}
		}
		l.mu.Unlock()
	}
}

func (l *line) drainLocked() {
	rc, err := l.master.SyscallConn()
	if err != nil {
		return
	}
	rc.Control(func(fd uintptr) {
		var b [256]byte
		for {
			n, err := unix.Read(int(fd), b[:])
			if err != nil || n <= 0 {
				return
			}
			if l.chip != nil {
				if say := l.chip.hear(b[:n]); say != nil {
					unix.Write(int(fd), say) // a listener that has gone does not hear it
				}
			}
		}
	})
}

func (l *line) name() string { return l.link }

var errNobody = errors.New("nobody listens on the port: the badge was not heard")

// send writes bytes at the speed of 9600 baud, 8N1: one every 1.04 ms. It
// returns when the last one is out. A chip at the far end is held a card to.
func (l *line) send(b []byte) error {
	if l.chip != nil {
		return l.hold(b)
	}
	if !l.listening() {
		return errNobody
	}
	const perByte = time.Second * 10 / 9600
	start := time.Now()
	for i := range b {
		time.Sleep(time.Until(start.Add(time.Duration(i+1) * perByte)))
		l.mu.Lock()
		if l.master == nil {
			l.mu.Unlock()
			return errNobody
		}
		_, err := l.master.Write(b[i : i+1])
		l.mu.Unlock()
		if err != nil {
			return fmt.Errorf("write to the line: %w", err)
		}
	}
	return nil
}

// hold holds a card to the chip at the far end.
func (l *line) hold(answer []byte) error {
	if !l.listening() {
		return errNobody
	}
	say := l.chip.hold(answer)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.master == nil {
		return errNobody
	}
	if _, err := l.master.Write(say); err != nil {
		return fmt.Errorf("write to the line: %w", err)
	}
	return nil
}

// openPTY returns the near end, raw and without echo, and the path of the far end.
// The far end was opened and closed once, so that poll tells from now on whether
// somebody has it open.
func openPTY() (master *os.File, slave string, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", os.NewSyscallError("open /dev/ptmx", err)
	}
	fail := func(doing string, err error) (*os.File, string, error) {
		unix.Close(fd)
		return nil, "", os.NewSyscallError(doing, err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return fail("TIOCGPTN", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fail("TIOCSPTLCK", err)
	}
	// On a master these two act on the far end.
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fail("TCGETS", err)
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fail("TCSETS", err)
	}
	slave = "/dev/pts/" + strconv.Itoa(n)
	far, err := unix.Open(slave, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("open "+slave, err)
	}
	unix.Close(far)
	return os.NewFile(uintptr(fd), "/dev/ptmx"), slave, nil
}

// isTerminal says whether f is a terminal.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// singleKeys makes a terminal give every key at once, unechoed. Ctrl-C still
// interrupts. restore puts it back.
func singleKeys(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, os.NewSyscallError("TCGETS", err)
	}
	t := *old
	t.Lflag &^= unix.ICANON | unix.ECHO
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &t); err != nil {
		return nil, os.NewSyscallError("TCSETS", err)
	}
	return func() { unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}

// readKeys sends every byte of f to keys until ctx is done or f ends; then it
// closes keys. It never blocks in a read.
func readKeys(ctx context.Context, f *os.File, keys chan<- byte) {
	defer close(keys)
	fd := int(f.Fd())
	for ctx.Err() == nil {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 100)
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return
		}
		var b [16]byte
		n, err = unix.Read(fd, b[:])
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		for _, k := range b[:n] {
			select {
			case keys <- k:
			case <-ctx.Done():
				return
			}
		}
	}
}
