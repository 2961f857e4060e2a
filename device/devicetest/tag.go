package devicetest

import (
	"encoding/hex"
	"slices"
	"time"
)

// Tag is a card for 13.56 MHz, in the field of [MFRC522] or [PN532].
type Tag struct {
	UID []byte
	SAK byte   // as a PN532 tells it; an MFRC522 hears what follows from the UID
	ATS []byte // likewise

	BadBCC, BadCRC, Short bool
	NoMore                bool // its SAK leaves out that the UID goes on

	state string // "" idle, ready, active, halt
	level int
	back  string // where a card goes that is not meant: "" or halt
}

// NewTag returns a card with that UID, in hexadecimal.
func NewTag(uid string) *Tag {
	b, err := hex.DecodeString(uid)
	if err != nil {
		panic(err)
	}
	return &Tag{UID: b}
}

// Unpower is what happens to a card that leaves the field, if only for a moment.
func (p *Tag) Unpower() { p.state, p.level, p.back = "", 0, "" }

// hand holds cards to a field, one after another.
type hand struct {
	queue []*Tag
	since time.Time // the first of them is there
}

// holds tells what is held to the field now; false where nobody has begun to.
func (h *hand) holds() (cards []*Tag, held bool) {
	switch {
	case len(h.queue) == 0:
		return nil, false
	case h.since.IsZero():
		h.since = time.Now()
	case time.Since(h.since) > 400*time.Millisecond:
		h.queue, h.since = h.queue[1:], time.Time{}
		return nil, true
	}
	return h.queue[:1], true
}

// levelBytes is the card's UID CLn and BCC at a level, and whether that is the last.
func (p *Tag) levelBytes() (b [5]byte, last bool) {
	switch {
	case len(p.UID) == 4:
		copy(b[:], p.UID)
		last = true
	case len(p.UID) == 7 && p.level == 1, len(p.UID) == 10 && p.level == 2:
		copy(b[:4], p.UID[len(p.UID)-4:])
		last = true
	default:
		b[0] = 0x88
		copy(b[1:4], p.UID[3*p.level:])
	}
	b[4] = b[0] ^ b[1] ^ b[2] ^ b[3]
	if p.BadBCC {
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
func (p *Tag) hear(sent []byte, bits int) []byte {
	if bits == 7 {
		switch {
		case sent[0] == 0x26 && p.state == "", sent[0] == 0x52 && (p.state == "" || p.state == "halt"):
			p.back, p.level = p.state, 0
			p.state = "ready"
			atqa := []byte{0x04, 0x00}
			switch len(p.UID) {
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
			} else if sak = 0x04; p.NoMore {
				sak = 0x00
			}
			answer := withCRC(sak)
			if p.BadCRC {
				answer[2] ^= 1
			}
			if p.Short {
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
		if p.Short && known == 0 {
			answer = answer[:24]
		}
		return answer
	}
	return nil
}
