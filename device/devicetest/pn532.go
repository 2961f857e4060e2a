package devicetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
)

// PN532 is such a chip at the level of its frames, written from the data sheet's side:
// what it is told comes in by hear, what it has to say waits in said. It commits the
// faults that the real one does. [PN532.UART], [PN532.I2C] and [PN532.SPI] wire it.
// Fields are changed in [PN532.Do].
type PN532 struct {
	Tags []*Tag // in the field

	Gone    bool           // unplugged, or without power
	Hung    bool           // takes commands and says nothing any more
	Deaf    int            // so many commands get no ACK
	LostAck int            // so many commands are answered without an ACK
	BadSum  int            // so many answers have a wrong sum
	Short   int            // so many answers end early
	Shy     bool           // asked for two, it answers only every other time, as some do
	IRQ     func(low bool) // the line of that name, nil where it is not wired

	Commands []string // the first byte of each command, as it was heard
	Forever  bool     // was told to look for cards until there is one

	mu      sync.Mutex
	wires   chan struct{} // something is said, or came into the field
	said    [][]byte
	last    []byte // the last answer, for NACK
	hand    hand
	awake   bool // after SAMConfiguration
	listing int  // cards that InListPassiveTarget waits for, 0: not waiting
	shyTurn bool
}

// NewPN532 returns a chip with an empty field.
func NewPN532() *PN532 { return &PN532{wires: make(chan struct{}, 1)} }

func (s *PN532) poke() {
	select {
	case s.wires <- struct{}{}:
	default:
	}
}

// Do changes the chip from a test.
func (s *PN532) Do(f func(*PN532)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	s.look()
	s.poke()
	s.level()
}

// level drives the line IRQ.
func (s *PN532) level() {
	if s.IRQ != nil {
		s.IRQ(len(s.said) > 0 && !s.Gone && !s.Hung)
	}
}

// Lay lays cards into the field, in Do, instead of those that lay there.
func (s *PN532) Lay(cards ...*Tag) { s.Tags = cards }

// Hold holds a card to it for a moment, after those before it have gone.
func (s *PN532) Hold(card *Tag) { s.Do(func(s *PN532) { s.hand.queue = append(s.hand.queue, card) }) }

// Reset is a moment without power, in Do.
func (s *PN532) Reset() { s.awake, s.said, s.listing = false, nil, 0 }

// WaitIRQ returns when the line IRQ is low, when the time is over, or when ctx is done,
// and reports whether it is low.
func (s *PN532) WaitIRQ(ctx context.Context, d time.Duration) bool {
	for end := time.NewTimer(d); ; {
		s.mu.Lock()
		low := len(s.said) > 0 && !s.Gone && !s.Hung
		s.mu.Unlock()
		if low {
			end.Stop()
			return true
		}
		select {
		case <-s.wires:
		case <-end.C:
			return false
		case <-ctx.Done():
			end.Stop()
			return false
		}
	}
}

// say makes a frame of an answer, by hand.
func (s *PN532) say(data ...byte) {
	body := append([]byte{0xD5}, data...)
	frame := []byte{0, 0, 0xFF, byte(len(body)), byte(256 - len(body))}
	sum := 0
	for _, b := range body {
		sum += int(b)
	}
	frame = append(append(frame, body...), byte(256-sum%256), 0)
	s.last = bytes.Clone(frame)
	switch {
	case s.BadSum > 0:
		s.BadSum--
		frame[len(frame)-2] ^= 0x10
	case s.Short > 0:
		s.Short--
		frame = frame[:len(frame)/2]
	}
	s.said = append(s.said, frame)
	s.poke()
}

// hear takes a frame from the host.
func (s *PN532) hear(f []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := bytes.Index(f, []byte{0x00, 0xFF})
	if i < 0 || s.Hung {
		return
	}
	f = f[i+2:]
	switch {
	case bytes.HasPrefix(f, []byte{0x00, 0xFF}): // ACK: give up
		s.listing, s.said = 0, nil
		return
	case bytes.HasPrefix(f, []byte{0xFF, 0x00}): // NACK: again
		if s.last != nil {
			frame := s.last
			if s.BadSum > 0 {
				s.BadSum--
				frame = append(bytes.Clone(frame[:len(frame)-2]), frame[len(frame)-2]^1, 0)
			}
			s.said = append(s.said, frame)
			s.poke()
		}
		return
	}
	n := int(f[0])
	if len(f) < 3+n || f[0]+f[1] != 0 || f[2] != 0xD4 {
		return
	}
	sum := 0
	for _, b := range f[2 : 3+n] {
		sum += int(b)
	}
	if sum%256 != 0 {
		return
	}
	cmd := f[3 : 2+n]
	s.listing, s.said = 0, nil // a new command ends the old one
	if s.Deaf > 0 {
		s.Deaf--
		return
	}
	if cmd[0] != 0x14 && !s.awake {
		return // only SAMConfiguration ends LowVbat
	}
	s.Commands = append(s.Commands, string([]byte{"0123456789ABCDEF"[cmd[0]>>4], "0123456789ABCDEF"[cmd[0]&15]}))
	if s.LostAck > 0 {
		s.LostAck--
	} else {
		s.said = append(s.said, []byte{0, 0, 0xFF, 0, 0xFF, 0})
		s.poke()
	}
	switch cmd[0] {
	case 0x14:
		s.awake = true
		s.say(0x15)
	case 0x02:
		s.say(0x03, 0x32, 0x01, 0x06, 0x07)
	case 0x32:
		s.Forever = len(cmd) == 5 && cmd[1] == 5 && cmd[4] == 0xFF
		s.say(0x33)
	case 0x4A:
		s.listing = int(cmd[1])
		s.look()
	default: // a syntax error
		s.said = append(s.said, []byte{0, 0, 0xFF, 1, 0xFF, 0x7F, 0x81, 0})
		s.poke()
	}
}

// look answers InListPassiveTarget if there is a card.
func (s *PN532) look() {
	if s.listing == 0 {
		return
	}
	cards := s.Tags
	if held, ok := s.hand.holds(); ok {
		cards = held
	}
	if len(cards) == 0 {
		return
	}
	if s.Shy && s.listing == 2 {
		if s.shyTurn = !s.shyTurn; s.shyTurn {
			return
		}
	}
	n := min(len(cards), s.listing)
	data := []byte{0x4B, byte(n)}
	for i, c := range cards[:n] {
		data = append(data, byte(i+1), 0x00, 0x44, c.SAK, byte(len(c.UID)))
		data = append(append(data, c.UID...), c.ATS...)
	}
	s.listing = 0
	s.say(data...)
}

// next takes what is said next, nil for nothing.
func (s *PN532) next() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Gone {
		return nil, ErrUnplugged
	}
	s.look()
	if len(s.said) == 0 || s.Hung {
		return nil, nil
	}
	f := s.said[0]
	s.said = s.said[1:]
	return f, nil
}

// PN532UART is the chip on a serial port that is no file.
type PN532UART struct {
	*PN532
	out     []byte
	stopped atomic.Bool
}

// UART wires it so.
func (s *PN532) UART() *PN532UART { return &PN532UART{PN532: s} }

// ErrUnplugged is what the wires of a chip say that is gone.
var ErrUnplugged = errors.New("input/output error")

// Write takes one frame, or what wakes it up.

func (u *PN532UART) Write(b []byte) (int, error) {
	u.mu.Lock()
	gone := u.Gone
	u.mu.Unlock()
	if gone {
		return 0, ErrUnplugged
	}
	u.hear(b) // each call is one frame, or the wake-up
	return len(b), nil
}

// ReadFor waits so long for what the chip says.
func (u *PN532UART) ReadFor(b []byte, wait time.Duration) (int, error) {
	for deadline := time.Now().Add(wait); ; {
		if len(u.out) == 0 {
			f, err := u.next()
			if err != nil {
				return 0, err
			}
			u.out = f
		}
		if n := copy(b, u.out[:min(len(u.out), 7)]); n > 0 { // in pieces, as adapters do
			u.out = u.out[n:]
			return n, nil
		}
		switch {
		case u.stopped.Load():
			return 0, os.ErrClosed
		case !time.Now().Before(deadline):
			return 0, nil
		}
		t := time.NewTimer(min(time.Until(deadline), 20*time.Millisecond))
		select {
		case <-u.wires:
		case <-t.C:
		}
		t.Stop()
	}
}

// Interrupt ends a ReadFor, and every later one.
func (u *PN532UART) Interrupt() {
	u.stopped.Store(true)
	u.poke()
}

// Close leaves it as it is.
func (u *PN532UART) Close() error { return nil }

// PN532I2C is the chip on an I²C bus.
type PN532I2C struct {
	*PN532
	Fast bool // an access came too soon after the one before
	Naps int  // so many accesses are not acknowledged
	last time.Time
}

// I2C wires it so.
func (s *PN532) I2C() *PN532I2C { return &PN532I2C{PN532: s} }

// Tx is one transfer: see [NewI2CBus].

func (c *PN532I2C) Tx(addr uint16, w, r []byte) error {
	if !c.last.IsZero() && time.Since(c.last) < 5*time.Millisecond {
		c.Fast = true
	}
	defer func() {
		c.last = time.Now()
		c.mu.Lock()
		c.level()
		c.mu.Unlock()
	}()
	c.mu.Lock()
	gone := c.Gone || addr != 0x24
	if c.Naps > 0 {
		c.Naps--
		gone = true
	}
	c.look()
	waiting := len(c.said) > 0 && !c.Hung
	c.mu.Unlock()
	switch {
	case gone:
		return ErrUnplugged
	case len(w) > 0:
		c.hear(w)
	case len(r) == 1:
		r[0] = 0
		if waiting {
			r[0] = 1
		}
	default:
		clear(r)
		f, err := c.next()
		if err != nil {
			return err
		}
		if f != nil {
			r[0] = 1
			copy(r[1:], f)
		}
	}
	return nil
}

// SetSpeed changes nothing.
func (c *PN532I2C) SetSpeed(physic.Frequency) error { return nil }
func (c *PN532I2C) String() string                  { return "simulated" }

// Close leaves it as it is.
func (c *PN532I2C) Close() error { return nil }

// PN532SPI is the chip on an SPI bus, which turns every byte round.
type PN532SPI struct{ *PN532 }

// SPI wires it so.
func (s *PN532) SPI() PN532SPI { return PN532SPI{s} }

// Tx is one transfer: see [NewSPIDevice].

func (c PN532SPI) Tx(w, r []byte) error {
	c.mu.Lock()
	c.look()
	gone, waiting := c.Gone, len(c.said) > 0 && !c.Hung
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.level()
		c.mu.Unlock()
	}()
	for i := range r {
		r[i] = 0xFF // nobody drives the line
	}
	if gone {
		return nil
	}
	in := make([]byte, len(w))
	for i, b := range w {
		in[i] = bits.Reverse8(b)
	}
	out := make([]byte, len(r))
	switch in[0] {
	case 1:
		c.hear(in[1:])
	case 2:
		if waiting {
			out[1] = 1
		}
	case 3:
		f, err := c.next()
		if err != nil {
			return err
		}
		copy(out[1:], f)
	}
	for i, b := range out {
		r[i] = bits.Reverse8(b)
	}
	return nil
}

// TxPackets is not used with this chip.
func (c PN532SPI) TxPackets([]spi.Packet) error { return errors.New("not used") }

// Duplex is both ways at once.
func (c PN532SPI) Duplex() conn.Duplex { return conn.Full }
func (c PN532SPI) String() string      { return "simulated" }

// Serve is the chip at the far end of a line, such as [NewPTY]'s, until that is closed.
// It waits and asks nobody, so a card is to be laid into its field, not held to it.
func (s *PN532) Serve(line io.ReadWriter) {
	ended := make(chan struct{})
	var said sync.WaitGroup
	said.Go(func() {
		for {
			for {
				f, err := s.next()
				if f == nil || err != nil {
					break
				}
				line.Write(f)
			}
			select {
			case <-s.wires:
			case <-ended:
				return
			}
		}
	})
	defer said.Wait()
	defer close(ended)
	var buf []byte
	b := make([]byte, 64)
	for {
		n, err := line.Read(b)
		if err != nil {
			return
		}
		for buf = append(buf, b[:n]...); ; {
			i := bytes.Index(buf, []byte{0x00, 0xFF})
			if i < 0 || len(buf) < i+4 {
				break
			}
			end := i + 4 // ACK and NACK
			if buf[i+2] != 0 && buf[i+3] != 0 {
				end = i + 5 + int(buf[i+2])
			}
			if len(buf) < end {
				break
			}
			s.hear(buf[i:end])
			buf = buf[end:]
		}
	}
}
