package mfrc522

import (
	"context"
	"errors"
	"time"

	"punchclock/device"
)

// Commands to a card, ISO 14443-3.
const (
	reqA = 0x26 // seven bits: every card that rests not
	wupA = 0x52 // seven bits: every card
	hltA = 0x50

	cascadeTag = 0x88
	wholeUID   = 0x70 // NVB: all 40 bits follow
	moreUID    = 0x04 // SAK: the UID is not complete
)

var levels = [3]byte{0x93, 0x95, 0x97} // SEL, by cascade level

// crcA is CRC_A: preset 6363, polynomial 8408 reflected. It goes low byte first.
func crcA(b []byte) (low, high byte) {
	crc := uint16(0x6363)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x8408
			} else {
				crc >>= 1
			}
		}
	}
	return byte(crc), byte(crc >> 8)
}

// reply is what came back from the field.
type reply struct {
	data []byte // good until the next exchange
	bits int    // how many bits of the last byte count, 0 for all
	coll int    // place of the first bit, from 1, at which two cards differ; 0 for none
}

// air is the field. An exchange sends bytes, of the last one only so many bits (0 for
// all), and takes the answer, which begins at bit align of its first byte. No answer
// is an empty reply. Errors are *faultError, for what was received badly, or mean
// that the chip is gone.
type air interface {
	exchange(ctx context.Context, send []byte, lastBits, align int, wait time.Duration) (reply, error)
}

// faultError is something that was received and thrown away.
type faultError struct{ word string }

func (e *faultError) Error() string { return "card: " + e.word }

func faultOf(err error) (string, bool) {
	var f *faultError
	if errors.As(err, &f) {
		return f.word, true
	}
	return "", false
}

// How long a card may take. It answers a request after 0.1 ms, a selection after no
// more; what is over is the chip's and the bus's.
const (
	requestWait = 3 * time.Millisecond
	selectWait  = 15 * time.Millisecond
	haltWait    = 2 * time.Millisecond // an answer would be a refusal
)

// request calls the cards: those that do not rest, or all. It reports whether there
// are any, and whether they are seen to be more than one kind already.
func request(ctx context.Context, a air, command byte) (there bool, err error) {
	r, err := a.exchange(ctx, []byte{command}, 7, 0, requestWait)
	if _, ok := faultOf(err); ok {
		return true, nil // some answer: two cards whose answers differ, or a weak one
	}
	return len(r.data) > 0, err
}

// readUID reads the UID of one of the cards that were called, level by level, and
// leaves that card selected. many says that another one answered as well.
func readUID(ctx context.Context, a air) (uid []byte, many bool, err error) {
	for _, sel := range levels {
		part, coll, err := anticollision(ctx, a, sel)
		many = many || coll
		if err != nil {
			return nil, many, err
		}
		more, err := choose(ctx, a, sel, part)
		if err != nil {
			return nil, many, err
		}
		if !more {
			if part[0] == cascadeTag { // says that there is more, and that there is not
				return nil, many, &faultError{device.FaultFormat}
			}
			return append(uid, part[:]...), many, nil
		}
		if part[0] != cascadeTag {
			return nil, many, &faultError{device.FaultFormat}
		}
		uid = append(uid, part[1:]...)
	}
	return nil, many, &faultError{device.FaultLength} // there is no fourth level
}

// anticollision finds the four bytes of one card at a level. Where two cards differ
// it goes on with the one that has a 1 there.
func anticollision(ctx context.Context, a air, sel byte) (part [4]byte, many bool, err error) {
	var known [5]byte // the four bytes and their check
	bits := 0         // of known
	for range 32 {
		whole, rest := bits/8, bits%8
		send := append([]byte{sel, byte((2+whole)<<4 | rest)}, known[:whole]...)
		if rest > 0 {
			send = append(send, known[whole])
		}
		r, err := a.exchange(ctx, send, rest, rest, selectWait)
		if err != nil {
			return part, many, err
		}
		if len(r.data) == 0 {
			return part, many, &faultError{device.FaultTimeout}
		}
		if len(r.data) != 5-whole && r.coll == 0 || len(r.data) > 5-whole {
			return part, many, &faultError{device.FaultLength}
		}
		// The first byte's low bits are ours.
		mask := byte(1<<rest - 1)
		for i, b := range r.data {
			if i == 0 {
				b = b&^mask | known[whole]&mask
			}
			known[whole+i] = b
		}
		if r.coll == 0 {
			if known[0]^known[1]^known[2]^known[3] != known[4] {
				return part, many, &faultError{device.FaultChecksum}
			}
			return [4]byte(known[:4]), many, nil
		}
		// coll counts the bits of the answer in its own bytes, ours included.
		at := 8*whole + r.coll
		if at <= bits || at > 32 {
			return part, many, &faultError{device.FaultFormat}
		}
		many = true
		bits = at
		known[(bits-1)/8] |= 1 << ((bits - 1) % 8)
		// What lies behind is not known.
		if rest := bits % 8; rest > 0 {
			known[bits/8] &= 1<<rest - 1
		}
		for i := (bits + 7) / 8; i < 5; i++ {
			known[i] = 0
		}
	}
	return part, many, &faultError{device.FaultFormat}
}

// choose selects the card with these four bytes at a level, and reports whether its
// UID goes on.
func choose(ctx context.Context, a air, sel byte, part [4]byte) (more bool, err error) {
	send := []byte{sel, wholeUID, part[0], part[1], part[2], part[3], part[0] ^ part[1] ^ part[2] ^ part[3]}
	low, high := crcA(send)
	r, err := a.exchange(ctx, append(send, low, high), 0, 0, selectWait)
	switch {
	case err != nil:
		return false, err
	case len(r.data) == 0:
		return false, &faultError{device.FaultTimeout}
	case len(r.data) != 3 || r.bits != 0 || r.coll != 0:
		return false, &faultError{device.FaultLength}
	}
	if low, high := crcA(r.data[:1]); low != r.data[1] || high != r.data[2] {
		return false, &faultError{device.FaultChecksum}
	}
	return r.data[0]&moreUID != 0, nil
}

// chooseUID selects a card whose whole UID is known, and reports whether it is there.
func chooseUID(ctx context.Context, a air, uid []byte) (bool, error) {
	for i, sel := range levels {
		last := len(uid) == 4
		var part [4]byte
		if last {
			copy(part[:], uid)
		} else {
			part[0] = cascadeTag
			copy(part[1:], uid[:3])
			uid = uid[3:]
		}
		more, err := choose(ctx, a, sel, part)
		if _, ok := faultOf(err); ok {
			return false, nil // another one, or none
		}
		if err != nil || more == last {
			return false, err
		}
		if last {
			return true, nil
		}
		if i == len(levels)-1 || len(uid) < 4 {
			break
		}
	}
	return false, nil
}

// halt puts the selected card to rest: it answers no request until it has left the
// field.
func halt(ctx context.Context, a air) error {
	send := []byte{hltA, 0x00}
	low, high := crcA(send)
	_, err := a.exchange(ctx, append(send, low, high), 0, 0, haltWait)
	if _, ok := faultOf(err); ok {
		return nil
	}
	return err
}
