package devicetest

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/spi"
)

// MFRC522 is such a chip at the level of its registers, on an SPI bus, with cards that
// follow ISO 14443-3 bit by bit. It is written from the data sheets and shares no code
// with the driver. What is sent and answered takes the time that it takes in the field,
// and bytes on the bus take theirs: an answer that is asked for too soon is not there
// yet. Fields are changed in [MFRC522.Do].
type MFRC522 struct {
	Version byte
	Gone    bool       // nobody drives the line
	Zero    bool       // the line hangs at 0
	Noise   int        // so many answers have a parity error
	Over    bool       // says that its store holds more than it has room for
	Wild    *rand.Rand // a wire that picks up anything: nothing that is read is what the chip says
	Hertz   int        // of the bus; 0 is 4 MHz

	Calls, Transfers int      // of the bus
	Noisy            int      // bytes of a wild wire
	Sent             [][]byte // frames to the field

	mu    sync.Mutex
	reg   [64]byte
	fifo  []byte
	cards []*Tag
	hand  hand

	now                 time.Time // by the chip's clock: the bus's bytes count
	sent, begins, heard time.Time // of an exchange: the frame is out, the answer begins, it is in
	answer              func()    // puts the answer into the registers; nil for none
}

// bit is how long one takes at 106 kbit/s, and pause is between a frame and its answer.
const (
	bit   = 9440 * time.Nanosecond
	pause = 91 * time.Microsecond
)

// NewMFRC522 returns a chip with an empty field.
func NewMFRC522() *MFRC522 { return &MFRC522{Version: 0x92} }

// Do changes the chip from a test.
func (s *MFRC522) Do(f func(*MFRC522)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// Lay lays cards into the field, in Do; those that lay there before and do not now
// have lost their power.
func (s *MFRC522) Lay(cards ...*Tag) {
	for _, c := range s.cards {
		if !slices.Contains(cards, c) {
			c.Unpower()
		}
	}
	s.cards = cards
}

// Reset is a moment without power, in Do.
func (s *MFRC522) Reset() {
	s.reg = [64]byte{0x14: 0x80}
	s.fifo, s.answer = nil, nil
	for _, c := range s.cards { // the field is off
		c.Unpower()
	}
}

// Stray is something that the receiver picks up while it is on, in Do: with an end, which
// it takes for a frame's, or without.
func (s *MFRC522) Stray(end bool) {
	if s.reg[0x01] != 0x0C || s.answer != nil {
		return
	}
	s.fifo = append(s.fifo, 0xA5)
	if end {
		s.reg[0x04] |= 0x20
	}
}

// Hold holds a card to it for a moment, after those before it have gone.
func (s *MFRC522) Hold(card *Tag) {
	s.Do(func(s *MFRC522) { s.hand.queue = append(s.hand.queue, card) })
}

// Tx is one access: see [NewSPIDevice].
func (s *MFRC522) Tx(w, r []byte) error { return s.TxPackets([]spi.Packet{{W: w, R: r}}) }

// TxPackets is one call of the kernel, and an access for each packet.
func (s *MFRC522) TxPackets(ps []spi.Packet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Calls++
	if now := time.Now(); now.After(s.now) {
		s.now = now
	}
	for _, p := range ps {
		s.Transfers++
		if p.KeepCS || len(p.R) != len(p.W) {
			return errors.New("chip select must go up after each access")
		}
		for i := range p.R {
			p.R[i] = 0xFF
			if s.Zero {
				p.R[i] = 0
			}
		}
		for i := range p.R {
			if s.Wild != nil {
				p.R[i] = byte(s.Wild.Uint32())
				s.Noisy++
			}
		}
		if s.Gone || s.Zero || s.Wild != nil {
			continue
		}
		for i, b := range p.W {
			if i > 0 && p.W[0]&0x80 != 0 {
				p.R[i] = s.readReg(p.W[i-1] >> 1 & 0x3F)
			} else if i > 0 {
				s.writeReg(p.W[0]>>1&0x3F, b)
			}
			s.now = s.now.Add(8 * time.Second / time.Duration(cmp.Or(s.Hertz, 4_000_000)))
		}
	}
	return nil
}

func (s *MFRC522) readReg(n byte) byte {
	if s.answer != nil && !s.now.Before(s.heard) {
		s.answer()
		s.answer = nil
	}
	switch n {
	case 0x08: // what the modem does
		switch {
		case s.reg[0x01] != 0x0C:
			return 0
		case s.now.Before(s.sent):
			return 3
		case s.answer == nil, s.now.Before(s.begins):
			return 5
		}
		return 6
	case 0x09:
		if len(s.fifo) == 0 {
			return 0
		}
		b := s.fifo[0]
		s.fifo = s.fifo[1:]
		return b
	case 0x0A:
		if s.Over {
			return 65
		}
		return byte(len(s.fifo))
	case 0x37:
		return s.Version
	}
	return s.reg[n]
}

func (s *MFRC522) writeReg(n, b byte) {
	switch n {
	case 0x01:
		if b == 0x0F {
			s.Reset()
			return
		}
		s.answer = nil // what was going on ends
	case 0x04:
		if b&0x80 == 0 { // marked bits are cleared
			s.reg[n] &^= b
			return
		}
	case 0x09:
		s.fifo = append(s.fifo, b)
		return
	case 0x0A:
		if b&0x80 != 0 {
			s.fifo = nil
		}
		return
	case 0x0E:
		b &= 0x80
	}
	s.reg[n] = b
	if n == 0x0D && b&0x80 != 0 && s.reg[0x01] == 0x0C {
		s.transceive()
	}
}

func (s *MFRC522) transceive() {
	s.reg[0x0D] &^= 0x80
	s.reg[0x06] = 0
	if s.reg[0x14]&3 != 3 || s.reg[0x15] != 0x40 || s.reg[0x11] != 0x3D { // no field to speak of
		return
	}
	if cards, held := s.hand.holds(); held {
		s.Lay(cards...)
	}
	sent := slices.Clone(s.fifo)
	s.fifo, s.answer = nil, nil
	s.Sent = append(s.Sent, sent)
	bits := 8 * len(sent)
	if last := int(s.reg[0x0D] & 7); last > 0 {
		bits += last - 8
	}
	s.sent = s.now.Add(time.Duration(bits+bits/8+2) * bit)
	var answers [][]byte
	for _, c := range s.cards {
		if a := c.hear(sent, bits); a != nil {
			answers = append(answers, a)
		}
	}
	if len(answers) == 0 {
		s.reg[0x04] |= 0x01 // the timer, sooner or later
		return
	}
	s.begins = s.sent.Add(pause)
	s.heard = s.begins.Add(time.Duration(len(answers[0])*9/8+2) * bit)
	s.answer = func() { s.receive(answers) }
}

// receive puts the cards' answers into the registers.
func (s *MFRC522) receive(answers [][]byte) {
	align := int(s.reg[0x0D] >> 4 & 7)
	air, coll := answers[0], 0
	for _, a := range answers[1:] {
		for i := range min(len(air), len(a)) {
			if air[i] != a[i] && (coll == 0 || align+i+1 < coll) {
				coll = align + i + 1
			}
		}
	}
	s.reg[0x0E] = 0x20
	if coll > 0 {
		s.reg[0x06] |= 0x08
		s.reg[0x0E] = byte(coll & 0x1F)
		if coll > 32 {
			s.reg[0x0E] = 0x20
		}
		air = slices.Clone(air)
		clear(air[coll-align-1:])
	}
	if s.Noise > 0 {
		s.Noise--
		s.reg[0x06] |= 0x02
	}
	all := append(make([]byte, align), air...)
	s.fifo = make([]byte, (len(all)+7)/8)
	for i, b := range all {
		s.fifo[i/8] |= b << (i % 8)
	}
	s.reg[0x0C] = byte(len(all) % 8)
	s.reg[0x04] |= 0x30
}

// Duplex is both ways at once.
func (s *MFRC522) Duplex() conn.Duplex { return conn.Full }

func (s *MFRC522) String() string { return "simulated" }
