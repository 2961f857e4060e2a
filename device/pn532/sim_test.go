package pn532

import (
	"bytes"
	"errors"
	"math/bits"
	"slices"
	"sync"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
)

// A PN532 at the level of its frames, written from the data sheet's side: what it is
// told comes in by hear, what it has to say waits in said. It commits the faults that
// the real one does.

type simCard struct {
	uid []byte
	sak byte
	ats []byte
}

type sim struct {
	mu    sync.Mutex
	wires chan struct{} // something is said, or came into the field
	said  [][]byte
	last  []byte // the last answer, for NACK

	cards   []simCard
	queue   []tapped // cards that are held to it one after another
	awake   bool     // after SAMConfiguration
	listing int      // cards that InListPassiveTarget waits for, 0: not waiting
	forever bool     // RFConfiguration said FF

	gone     bool // unplugged, or without power
	hung     bool // takes commands and says nothing any more
	deaf     int  // so many commands get no ACK
	lostAck  int  // so many commands are answered without an ACK
	badSum   int  // so many answers have a wrong sum
	short    int  // so many answers end early
	shy      bool // asked for two, it answers only every other time, as some do
	shyTurn  bool
	irq      func(low bool) // the line of that name, nil where it is not wired
	commands []string       // the first byte of each command, as it was heard
	acks     int            // commands given up
}

type tapped struct {
	card  simCard
	since time.Time // first told
}

func newSim() *sim { return &sim{wires: make(chan struct{}, 1)} }

func (s *sim) poke() {
	select {
	case s.wires <- struct{}{}:
	default:
	}
}

// do changes the simulator from a test.
func (s *sim) do(f func(*sim)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	s.look()
	s.poke()
	s.level()
}

// level drives the line IRQ.
func (s *sim) level() {
	if s.irq != nil {
		s.irq(len(s.said) > 0 && !s.gone && !s.hung)
	}
}

func (s *sim) put(cards ...simCard) { s.do(func(s *sim) { s.cards = cards }) }

// say makes a frame of an answer, by hand.
func (s *sim) say(data ...byte) {
	body := append([]byte{0xD5}, data...)
	frame := []byte{0, 0, 0xFF, byte(len(body)), byte(256 - len(body))}
	sum := 0
	for _, b := range body {
		sum += int(b)
	}
	frame = append(append(frame, body...), byte(256-sum%256), 0)
	s.last = bytes.Clone(frame)
	switch {
	case s.badSum > 0:
		s.badSum--
		frame[len(frame)-2] ^= 0x10
	case s.short > 0:
		s.short--
		frame = frame[:len(frame)/2]
	}
	s.said = append(s.said, frame)
	s.poke()
}

// hear takes a frame from the host.
func (s *sim) hear(f []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := bytes.Index(f, []byte{0x00, 0xFF})
	if i < 0 || s.hung {
		return
	}
	f = f[i+2:]
	switch {
	case bytes.HasPrefix(f, []byte{0x00, 0xFF}): // ACK: give up
		s.listing, s.said = 0, nil
		s.acks++
		return
	case bytes.HasPrefix(f, []byte{0xFF, 0x00}): // NACK: again
		if s.last != nil {
			frame := s.last
			if s.badSum > 0 {
				s.badSum--
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
	if s.deaf > 0 {
		s.deaf--
		return
	}
	if cmd[0] != 0x14 && !s.awake {
		return // only SAMConfiguration ends LowVbat
	}
	s.commands = append(s.commands, string([]byte{"0123456789ABCDEF"[cmd[0]>>4], "0123456789ABCDEF"[cmd[0]&15]}))
	if s.lostAck > 0 {
		s.lostAck--
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
		s.forever = len(cmd) == 5 && cmd[1] == 5 && cmd[4] == 0xFF
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
func (s *sim) look() {
	if s.listing == 0 {
		return
	}
	cards := s.cards
	if len(s.queue) > 0 {
		q := &s.queue[0]
		if !q.since.IsZero() && time.Since(q.since) > 400*time.Millisecond {
			if s.queue = s.queue[1:]; len(s.queue) == 0 {
				return
			}
			q = &s.queue[0]
		}
		if q.since.IsZero() {
			q.since = time.Now()
		}
		cards = []simCard{q.card}
	}
	if len(cards) == 0 {
		return
	}
	if s.shy && s.listing == 2 {
		if s.shyTurn = !s.shyTurn; s.shyTurn {
			return
		}
	}
	n := min(len(cards), s.listing)
	data := []byte{0x4B, byte(n)}
	for i, c := range cards[:n] {
		data = append(data, byte(i+1), 0x00, 0x44, c.sak, byte(len(c.uid)))
		data = append(append(data, c.uid...), c.ats...)
	}
	s.listing = 0
	s.say(data...)
}

var errUnplugged = errors.New("input/output error")

// next takes what is said next, nil for nothing.
func (s *sim) next() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil, errUnplugged
	}
	s.look()
	if len(s.said) == 0 || s.hung {
		return nil, nil
	}
	f := s.said[0]
	s.said = s.said[1:]
	return f, nil
}

// simUART is the chip on a serial port.
type simUART struct {
	*sim
	in, out []byte
}

func (u *simUART) Write(b []byte) (int, error) {
	u.mu.Lock()
	gone := u.gone
	u.mu.Unlock()
	if gone {
		return 0, errUnplugged
	}
	u.hear(b) // each call is one frame, or the wake-up
	return len(b), nil
}

func (u *simUART) ReadFor(b []byte, wait time.Duration) (int, error) {
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
		if !time.Now().Before(deadline) {
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

func (u *simUART) Close() error { return nil }

// simI2C is the chip on an I²C bus.
type simI2C struct {
	*sim
	last time.Time
	fast bool // an access came too soon after the one before
	naps int  // so many accesses are not acknowledged
}

func (c *simI2C) Tx(addr uint16, w, r []byte) error {
	if !c.last.IsZero() && time.Since(c.last) < 5*time.Millisecond {
		c.fast = true
	}
	defer func() {
		c.last = time.Now()
		c.mu.Lock()
		c.level()
		c.mu.Unlock()
	}()
	c.mu.Lock()
	gone := c.gone || addr != 0x24
	if c.naps > 0 {
		c.naps--
		gone = true
	}
	c.look()
	waiting := len(c.said) > 0 && !c.hung
	c.mu.Unlock()
	switch {
	case gone:
		return errUnplugged
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

func (c *simI2C) SetSpeed(physic.Frequency) error { return nil }
func (c *simI2C) String() string                  { return "simulated" }
func (c *simI2C) Close() error                    { return nil }

// simSPI is the chip on an SPI bus, which turns every byte round.
type simSPI struct{ *sim }

func (c simSPI) Tx(w, r []byte) error {
	c.mu.Lock()
	c.look()
	gone, waiting := c.gone, len(c.said) > 0 && !c.hung
	c.mu.Unlock()
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

func (c simSPI) TxPackets([]spi.Packet) error { return errors.New("not used") }
func (c simSPI) Duplex() conn.Duplex          { return conn.Full }
func (c simSPI) String() string               { return "simulated" }

// simIRQ is the line: low while something is said.
type simIRQ struct {
	*sim
	waits *int
}

func (l simIRQ) wait(d time.Duration) {
	*l.waits++
	l.mu.Lock()
	waiting := len(l.said) > 0
	l.mu.Unlock()
	if waiting {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-l.wires:
	case <-t.C:
	}
}

func (l simIRQ) close() error { return nil }

// onEachLink makes a reader for each way to wire the chip.
func onEachLink(s *sim) map[string]*Reader {
	hsuReader, err := New(Config{Name: "front", Link: "hsu", Serial: func() (Serial, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gone {
			return nil, errUnplugged
		}
		return &simUART{sim: s}, nil
	}})
	if err != nil {
		panic(err)
	}
	wired := func(how string, open func() wire, irq interrupt) *Reader {
		cfg := Config{Name: "front", Link: how, Port: "/dev/simulated"}
		if irq != nil {
			cfg.IRQ = "GPIO4"
		}
		r, err := New(cfg)
		if err != nil {
			panic(err)
		}
		r.open = func() (link, error) { return &polled{wire: open(), irq: irq}, nil }
		return r
	}
	return map[string]*Reader{
		"hsu":     hsuReader,
		"i2c":     wired("i2c", func() wire { return &i2cWire{bus: &simI2C{sim: s}} }, nil),
		"i2c+irq": wired("i2c", func() wire { return &i2cWire{bus: &simI2C{sim: s}} }, simIRQ{s, new(int)}),
		"spi":     wired("spi", func() wire { return &spiWire{conn: simSPI{s}, closer: func() error { return nil }} }, nil),
	}
}

var links = func() []string {
	var names []string
	for name := range onEachLink(newSim()) {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}()
