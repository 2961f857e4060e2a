package mfrc522

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/spi"
)

// An MFRC522 at the level of its registers, with cards that follow ISO 14443-3 bit by
// bit. It is written from the data sheets and shares no code with the driver.

type picc struct {
	uid   []byte
	state string // "" idle, ready, active, halt
	level int
	back  string // where a card goes that is not meant: "" or halt

	badBCC, badCRC, short bool
	noMore                bool // its SAK leaves out that the UID goes on
}

// levelBytes is the card's UID CLn and BCC at a level, and whether that is the last.
func (p *picc) levelBytes() (b [5]byte, last bool) {
	switch {
	case len(p.uid) == 4:
		copy(b[:], p.uid)
		last = true
	case len(p.uid) == 7 && p.level == 1, len(p.uid) == 10 && p.level == 2:
		copy(b[:4], p.uid[len(p.uid)-4:])
		last = true
	default:
		b[0] = 0x88
		copy(b[1:4], p.uid[3*p.level:])
	}
	b[4] = b[0] ^ b[1] ^ b[2] ^ b[3]
	if p.badBCC {
		b[4] ^= 0x40
	}
	return b, last
}

func toBits(b []byte) (bits []byte) {
	for _, c := range b {
		for i := range 8 {
			bits = append(bits, c>>i&1)
		}
	}
	return bits
}

// withCRC appends CRC_A as the standard describes it, bit by bit.
func withCRC(b ...byte) []byte {
	state := uint16(0x6363)
	for _, bit := range toBits(b) {
		feedback := byte(state&1) ^ bit
		state >>= 1
		if feedback == 1 {
			state ^= 0x8408
		}
	}
	return append(b, byte(state), byte(state>>8))
}

// hear returns the bits that the card answers, nil for none.
func (p *picc) hear(sent []byte, bits int) []byte {
	if bits == 7 {
		switch {
		case sent[0] == 0x26 && p.state == "", sent[0] == 0x52 && (p.state == "" || p.state == "halt"):
			p.back, p.level = p.state, 0
			p.state = "ready"
			atqa := []byte{0x04, 0x00}
			switch len(p.uid) {
			case 7:
				atqa[0] = 0x44
			case 10:
				atqa[0] = 0x84
			}
			return toBits(atqa)
		case p.state == "ready" || p.state == "active":
			p.state = p.back
		}
		return nil
	}
	whole := bits%8 == 0
	switch {
	case p.state == "active" && whole && slices.Equal(sent, withCRC(0x50, 0x00)):
		p.state = "halt"
	case p.state == "active":
		p.state = p.back
	case p.state == "ready" && len(sent) >= 2 && sent[0] == []byte{0x93, 0x95, 0x97}[p.level]:
		own, last := p.levelBytes()
		if sent[1] == 0x70 {
			if !whole || !slices.Equal(sent, withCRC(append([]byte{sent[0], 0x70}, own[:]...)...)) {
				p.state = p.back
				return nil
			}
			sak := byte(0x08)
			if p.level++; last {
				p.state = "active"
			} else if sak = 0x04; p.noMore {
				sak = 0x00
			}
			answer := withCRC(sak)
			if p.badCRC {
				answer[2] ^= 1
			}
			if p.short {
				answer = answer[:2]
			}
			return toBits(answer)
		}
		known := int(sent[1]>>4)*8 + int(sent[1]&7) - 16
		mine, theirs := toBits(own[:]), toBits(sent[2:])
		if known != bits-16 || known > 32 || !slices.Equal(mine[:known], theirs[:known]) {
			return nil
		}
		answer := mine[known:]
		if p.short && known == 0 {
			answer = answer[:24]
		}
		return answer
	}
	return nil
}

type sim struct {
	mu      sync.Mutex
	reg     [64]byte
	fifo    []byte
	cards   []*picc
	queue   []tapped
	version byte
	gone    bool       // nobody drives the line
	zero    bool       // the line hangs at 0
	noise   int        // so many answers have a parity error
	over    bool       // says that its store holds more than it has room for
	wild    *rand.Rand // a wire that picks up anything: nothing that is read is what the chip says
	resets  int

	calls, transfers int
	noisy            int      // bytes of a wild wire
	sent             [][]byte // frames to the field
}

type tapped struct {
	card  *picc
	since time.Time
}

func newSim() *sim { return &sim{version: 0x92} }

func (s *sim) do(f func(*sim)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// put lays cards into the field; those that lay there before and do not now have
// lost their power.
func (s *sim) put(cards ...*picc) { s.do(func(s *sim) { s.lay(cards...) }) }

func (s *sim) lay(cards ...*picc) {
	for _, c := range s.cards {
		if !slices.Contains(cards, c) {
			c.state, c.level, c.back = "", 0, ""
		}
	}
	s.cards = cards
}

func (s *sim) Tx(w, r []byte) error { return s.TxPackets([]spi.Packet{{W: w, R: r}}) }

func (s *sim) TxPackets(ps []spi.Packet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	for _, p := range ps {
		s.transfers++
		if p.KeepCS || len(p.R) != len(p.W) {
			return errors.New("chip select must go up after each access")
		}
		for i := range p.R {
			p.R[i] = 0xFF
			if s.zero {
				p.R[i] = 0
			}
		}
		for i := range p.R {
			if s.wild != nil {
				p.R[i] = byte(s.wild.Uint32())
				s.noisy++
			}
		}
		if s.gone || s.zero || s.wild != nil {
			continue
		}
		if p.W[0]&0x81 == 0x80 {
			for i := 1; i < len(p.W); i++ {
				p.R[i] = s.readReg(p.W[i-1] >> 1 & 0x3F)
			}
			continue
		}
		for _, b := range p.W[1:] {
			s.writeReg(p.W[0]>>1&0x3F, b)
		}
	}
	return nil
}

func (s *sim) readReg(n byte) byte {
	switch n {
	case 0x09:
		if len(s.fifo) == 0 {
			return 0
		}
		b := s.fifo[0]
		s.fifo = s.fifo[1:]
		return b
	case 0x0A:
		if s.over {
			return 65
		}
		return byte(len(s.fifo))
	case 0x37:
		return s.version
	}
	return s.reg[n]
}

func (s *sim) writeReg(n, b byte) {
	switch n {
	case 0x01:
		if b == 0x0F {
			s.resets++
			s.reg = [64]byte{0x14: 0x80}
			s.fifo = nil
			for _, c := range s.cards { // the field is off
				c.state, c.level, c.back = "", 0, ""
			}
			return
		}
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

func (s *sim) transceive() {
	s.reg[0x0D] &^= 0x80
	s.reg[0x06] = 0
	if s.reg[0x14]&3 != 3 || s.reg[0x15] != 0x40 || s.reg[0x11] != 0x3D { // no field to speak of
		return
	}
	if len(s.queue) > 0 {
		q := &s.queue[0]
		switch {
		case q.since.IsZero():
			q.since = time.Now()
			s.lay(q.card)
		case time.Since(q.since) > 400*time.Millisecond:
			s.lay()
			s.queue = s.queue[1:]
		}
	}
	sent := slices.Clone(s.fifo)
	s.fifo = nil
	s.sent = append(s.sent, sent)
	bits := 8 * len(sent)
	if last := int(s.reg[0x0D] & 7); last > 0 {
		bits += last - 8
	}
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
	if s.noise > 0 {
		s.noise--
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

func (s *sim) Duplex() conn.Duplex { return conn.Full }
func (s *sim) String() string      { return "simulated" }

func (s *sim) reader() *Reader {
	r, err := New(Config{Name: "front", Port: "/dev/spidev0.0"})
	if err != nil {
		panic(err)
	}
	r.open = func() (spi.Conn, func() error, error) { return s, func() error { return nil }, nil }
	return r
}
