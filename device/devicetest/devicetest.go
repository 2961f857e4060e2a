// Package devicetest holds the stand-ins that the readers' tests share, and the
// suite that every [device.Reader] must pass.
//
//   - [NewPTY] gives a real terminal of the kernel with the test at its other
//     end: what is written to the master is what the reader's line delivers.
//   - [Port] is a scripted line for tests on a virtual clock: bytes, pauses and
//     errors at given times. [Openings] hands several of them out one after
//     another, as if a device were unplugged and came back.
//   - [InKernel] runs a test on a kernel of its own, in a virtual machine, where it
//     may make devices: [NewGPIOSim] is a GPIO chip with the test at the other end of
//     its wires, and there are the kernel's modules for keyboards and USB.
//   - [RDM6300] writes the frames of the commonest serial reader, [Wiegand] those of
//     readers with two wires.
//   - [TestReader] is the contract of device.Reader as tests.
package devicetest

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"
)

// RDM6300 writes the frame that a 125 kHz reader of that kind sends for a card:
// STX, ten hex digits, two hex digits XOR of the five bytes, ETX.
func RDM6300(card [5]byte) []byte {
	sum := card[0] ^ card[1] ^ card[2] ^ card[3] ^ card[4]
	return fmt.Appendf(nil, "\x02%X%02X\x03", card[:], sum)
}

// Wiegand writes the frame that a reader with two wires sends, as '0' and '1': the
// bits that format prints (verbs of binary digits), between an even parity bit over
// the first half and an odd one over the second. A middle bit is part of both.
//
//	Wiegand("%08b%016b", 123, 45678) // 26 bits: facility, number
func Wiegand(format string, args ...any) string {
	bits := fmt.Sprintf(format, args...)
	half := (len(bits) + 3) / 2
	even, odd := "0", "1"
	if strings.Count(bits[:half-1], "1")%2 == 1 {
		even = "1"
	}
	if strings.Count(bits[len(bits)-half+1:], "1")%2 == 1 {
		odd = "0"
	}
	return even + bits + odd
}

// Step is one thing that happens on a scripted line.
type Step struct {
	After time.Duration // since the step before, the first one since the port was first read
	Data  string        // arrives then; a read takes as much of it as it has room for
	Err   error         // is what reads return from then on
}

// Port is a scripted serial line. It behaves as the real one: a read returns what
// has arrived, or waits for it, or returns io.EOF after the timeout; after an
// error it returns that error for ever. It may be used by one goroutine, and on
// the virtual clock of testing/synctest.
type Port struct {
	steps   []Step
	due     time.Time // of steps[0]
	buf     []byte
	err     error
	timeout time.Duration

	mu     sync.Mutex
	reads  int
	closed bool
}

var _ io.ReadCloser = (*Port)(nil)

// NewPort returns a line on which the steps happen; afterwards it is silent.
func NewPort(steps ...Step) *Port { return &Port{steps: steps, timeout: 500 * time.Millisecond} }

// SetReadTimeout changes how long a read waits; 500 ms until it is called.
func (p *Port) SetReadTimeout(d time.Duration) error {
	p.timeout = d
	return nil
}

// Read reads as a serial port does.
func (p *Port) Read(b []byte) (int, error) {
	p.mu.Lock()
	p.reads++
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return 0, fs.ErrClosed
	}
	now := time.Now()
	if p.due.IsZero() && len(p.steps) > 0 {
		p.due = now.Add(p.steps[0].After)
	}
	for deadline := now.Add(p.timeout); ; {
		for len(p.steps) > 0 && !p.due.After(time.Now()) && p.err == nil {
			p.buf, p.err = append(p.buf, p.steps[0].Data...), p.steps[0].Err
			if p.steps = p.steps[1:]; len(p.steps) > 0 {
				p.due = p.due.Add(p.steps[0].After)
			}
		}
		switch {
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			return n, nil
		case p.err != nil:
			return 0, p.err
		case !time.Now().Before(deadline):
			return 0, io.EOF
		}
		wait := time.Until(deadline)
		if len(p.steps) > 0 {
			wait = min(wait, time.Until(p.due))
		}
		time.Sleep(wait)
	}
}

// Close ends it; later reads return fs.ErrClosed.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

// Closed reports whether Close was called.
func (p *Port) Closed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// Reads counts the calls of Read, each of which is a wake-up of the machine.
func (p *Port) Reads() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reads
}

// Untimed hides SetReadTimeout: a line whose timeout cannot be changed.
func Untimed(p *Port) io.ReadCloser { return struct{ io.ReadCloser }{p} }

// Openings returns an open function that returns the values one after another: an
// error, or something to read. After the last one it says that the device does
// not exist.
func Openings(values ...any) func() (io.ReadCloser, error) {
	var mu sync.Mutex
	return func() (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(values) == 0 {
			return nil, fmt.Errorf("open: %w", fs.ErrNotExist)
		}
		v := values[0]
		values = values[1:]
		if err, ok := v.(error); ok {
			return nil, err
		}
		return v.(io.ReadCloser), nil
	}
}
