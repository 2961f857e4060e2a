// Package mfrc522 reads 13.56 MHz cards (ISO 14443 type A) with an MFRC522 on an SPI
// bus, the chip of the small blue boards. A card becomes the badge uid:<hex digits>,
// of 4, 7 or 10 bytes.
//
// # The chip
//
// SPI in mode 0, most significant bit first, 4 MHz. A transfer begins with the
// register's number shifted left by one, bit 7 set to read. After a reset the version
// register must name an MFRC522 or its Fudan clone; 00 and FF are a wire that is not
// there. The accesses of a step go to the kernel in one call.
//
// # The card
//
// REQA (7 bits) is answered by every card that does not rest. The UID is read level
// by level: SEL 93, 95, 97; "SEL 20" brings four bytes and their XOR, "SEL 70" with
// them and CRC_A selects the card, and its SAK says with bit 04 that the UID goes on.
// Then the first of the four bytes is the cascade tag 88 and no part of the UID: a
// card of seven bytes is seven bytes, and never the tag and three. Where two cards
// answer, the chip tells the first bit in which they differ, and the one with a 1
// there is followed. HLTA puts the card to rest. SAK and SELECT carry CRC_A, the
// four bytes their XOR; what does not fit is thrown away.
//
// # Looking
//
// This chip does not look by itself: it is asked ten times a second, which leaves a
// tap at most 150 ms. While nobody is there that is one wake-up and one call of the
// kernel each time, with four short transfers and one of half a millisecond, during
// which an answer would come. A card that has been read rests, so that it is not read
// again; while it may be there it is woken by its own number and put back to rest,
// which tells a card that stays from one that comes again (see [device.Field]). All
// cards that answer are read before anything is told, and two at once are none.
//
// A bad answer now and then is a card at the edge of the field, and only the
// technician's business; after three looks in a row the person is asked to try again.
package mfrc522

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"periph.io/x/conn/v3/spi"

	"punchclock/device"
)

// Config says where the chip is.
type Config struct {
	Name   string // in events and logs
	Port   string // /dev/spidev0.0
	Logger *slog.Logger
}

// Reader is one MFRC522.
type Reader struct {
	cfg  Config
	open func() (conn spi.Conn, closer func() error, err error)

	field  device.Field
	faults int  // looks in a row
	again  bool // cards were put to rest and not told: call them all
}

var _ device.Reader = (*Reader)(nil)

const (
	every     = 100 * time.Millisecond // between two looks
	mostCards = 4                      // that are read in one look
	tryFaults = 3                      // looks in a row, before the person is asked to try again
)

// New checks the configuration and touches nothing. The errors say what may be
// written instead. A nil Logger logs nothing.
func New(cfg Config) (*Reader, error) {
	switch {
	case cfg.Name == "":
		return nil, errors.New("MFRC522: it has no name")
	case cfg.Port == "":
		return nil, fmt.Errorf("reader %s: port is missing: write for example /dev/spidev0.0", cfg.Name)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reader{cfg: cfg, open: func() (spi.Conn, func() error, error) { return openPort(cfg.Port) }}, nil
}

// Run reads until ctx is done, and returns nil within 0.6 s of it. A chip that is
// missing or goes away is told as Down and started again; Run never gives up. It is
// called once at a time.
func (r *Reader) Run(ctx context.Context, out chan<- device.Event) error {
	device.Keep(ctx, r.cfg.Name, r.cfg.Logger, out, func(ctx context.Context, up func()) error {
		conn, closer, err := r.open()
		if err != nil {
			return fmt.Errorf("%s: %w", r.cfg.Port, err)
		}
		defer closer()
		c := &chip{conn: conn}
		if err := c.start(ctx); err != nil {
			return fmt.Errorf("%s: %w", r.cfg.Port, err)
		}
		defer c.stop()
		up()
		r.field.Empty()
		r.faults = 0
		for next := time.Now(); ctx.Err() == nil; {
			if err := r.look(ctx, c, out); err != nil {
				return fmt.Errorf("%s: %w", r.cfg.Port, err)
			}
			next = next.Add(every)
			if now := time.Now(); next.Before(now) {
				next = now // it was a long one
			}
			device.Sleep(ctx, time.Until(next))
		}
		return nil
	})
	return nil
}

// look reads all cards that came since the last one, and sees which of the others
// are still there. An error means that the chip is gone.
func (r *Reader) look(ctx context.Context, a air, out chan<- device.Event) error {
	first := time.Now()
	var uids [][]byte
	many, fault := false, ""
	call, calls := byte(reqA), 1
	if r.again {
		call, calls = wupA, 2 // one that was left in the middle goes back at the first
	}
	r.again = false
	for len(uids) < mostCards {
		there, err := request(ctx, a, call)
		for ; calls > 1 && !there && err == nil; calls-- {
			there, err = request(ctx, a, call)
		}
		if err != nil {
			return err
		}
		if !there {
			break
		}
		uid, more, err := readUID(ctx, a)
		many = many || more
		if word, ok := faultOf(err); ok {
			if r.again = true; many || word != device.FaultTimeout {
				fault = word // otherwise it was noise, or is out of reach again
			}
			break
		} else if err != nil {
			return err
		}
		if err := halt(ctx, a); err != nil {
			return err
		}
		uids = append(uids, uid)
		call = reqA // those that were read rest now
	}
	if fault == "" && many && len(uids) == 1 {
		fault = device.FaultNoise
	}
	if fault != "" {
		// Nothing could be read; or two answered, and not both could be read, and
		// which of them was meant is not to be said.
		r.again = true
		r.fault(ctx, out, first, fault)
		return nil
	}
	for _, uid := range r.field.Resting(first) {
		if slices.ContainsFunc(uids, func(o []byte) bool { return bytes.Equal(o, uid) }) {
			continue
		}
		there, err := request(ctx, a, wupA)
		if err != nil {
			return err
		}
		if !there {
			break // nobody at all
		}
		if there, err = chooseUID(ctx, a, uid); err != nil {
			return err
		}
		if there {
			uids = append(uids, slices.Clone(uid))
			if err := halt(ctx, a); err != nil {
				return err
			}
		}
	}
	r.faults = 0
	r.see(ctx, out, first, uids)
	return nil
}

// fault tells of a look in which nothing could be read: the first of a row and the
// third.
func (r *Reader) fault(ctx context.Context, out chan<- device.Event, first time.Time, word string) {
	if r.faults++; r.faults == 1 || r.faults == tryFaults {
		device.Send(ctx, out, device.Event{Reader: r.cfg.Name, What: device.Fault, Fault: word, Try: r.faults == tryFaults, First: first, Last: time.Now()})
	}
}

// see tells what a look has found, if it is a tap.
func (r *Reader) see(ctx context.Context, out chan<- device.Event, first time.Time, uids [][]byte) {
	now := time.Now()
	uid, fault := r.field.See(now, uids...)
	ev := device.Event{Reader: r.cfg.Name, First: first, Last: now}
	switch {
	case fault != "":
		ev.What, ev.Fault, ev.Try = device.Fault, fault, true
	case uid != nil:
		ev.What, ev.Medium, ev.Value = device.Card, "uid", strings.ToUpper(hex.EncodeToString(uid))
		ev.Raw, ev.Bits = uid, 8*len(uid)
	default:
		return
	}
	device.Send(ctx, out, ev)
}
