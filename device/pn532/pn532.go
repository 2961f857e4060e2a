// Package pn532 reads 13.56 MHz cards (ISO 14443 type A) with NXP's PN532, on a
// UART ("HSU"), on I²C or on SPI. A card becomes the badge uid:<hex digits>, of 4, 7
// or 10 bytes; the chip joins the levels of a long UID itself.
//
// # Frames
//
// All three wires carry the same frames:
//
//	command, answer   00 · 00 FF · LEN · LCS · TFI · data … · DCS · 00
//	long answer       00 · 00 FF · FF FF · LENh LENl LCS · TFI · data … · DCS · 00
//	ACK               00 00 FF 00 FF 00      NACK  00 00 FF FF 00 00
//	error             00 00 FF 01 FF 7F 81 00
//
// LEN counts TFI and data, LEN + LCS and TFI + data + DCS are 0 modulo 256. TFI is D4
// towards the chip and D5 from it; an answer's first byte is the command's plus one.
// Each command is acknowledged at once and answered when it is done. A command
// without an ACK is sent three times; an answer with a wrong sum is asked for again
// with NACK, twice; an ACK from here makes the chip give up what it does.
//
//	UART   115200 8N1. Woken with 55 55 and fourteen 00
//	I²C    address 24 (hex). A read begins with a byte that is 01 when there is something
//	SPI    mode 0, 1 MHz, least significant bit first (turned round here): 02 asks
//	       whether there is something (01), 03 reads, 01 writes
//
// # Who looks for cards
//
// The chip does. After SAMConfiguration and a look at its version it is told to try
// for ever (RFConfiguration, item 5, FF), and InListPassiveTarget is answered when a
// card comes: nothing here wakes for an empty field, but every two seconds to see
// that the chip is alive. On I²C and SPI the line IRQ says that there is an answer;
// without that wire the chip is asked twenty times a second, which costs one small
// transfer each, and where the wire says nothing, twice.
//
// With a card there the chip answers at once, so it is asked about seven times a
// second, which tells a card that stays from one that comes again (see
// [device.Field]). Asked for one card it picks one of two silently. So a card that is
// new is followed by the question for two. Chips in the field answer that one only
// every other time; it is put twice, for 60 ms each, and what was read stands where
// no answer comes.
//
// # What is thrown away
//
// A frame with a wrong sum, length or sender, an answer that does not add up, a UID
// of four bytes that begins with 88 (the tag of a longer one): each is a fault.
// Single ones happen while a card comes near and are told to the technician only;
// after three in a row the person is asked to try again. Ten in a row, or silence,
// and the chip is started afresh.
package pn532

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"punchclock/device"
)

// Links are the words that Config.Link accepts.
var Links = []string{"hsu", "i2c", "spi"}

// Serial is a serial port that is spoken to. ReadFor waits for about wait at most;
// nothing and no error is silence, an error means that the device is gone. Interrupt
// ends it, and every later one, from another goroutine.
type Serial interface {
	ReadFor(b []byte, wait time.Duration) (int, error)
	Interrupt()
	Write(b []byte) (int, error)
	Close() error
}

// Baud is the speed of a chip on a UART.
const Baud = 115200

// Config says where the chip is.
type Config struct {
	Name string // in events and logs
	Link string // one of Links
	Port string // the device's path: /dev/i2c-1, /dev/spidev0.0, a serial port
	IRQ  string // the line on which the chip says that it has something, such as GPIO4; "" is none. Not with hsu

	// Serial opens the port of a chip on a UART, at Baud.
	Serial func() (Serial, error)

	Logger *slog.Logger // nil logs nothing
}

// Reader is one PN532.
type Reader struct {
	cfg  Config
	open func() (link, error)

	field  device.Field
	faults int // in a row
}

var _ device.Reader = (*Reader)(nil)

const (
	aliveWait = 2 * time.Second        // how long an empty field is left to the chip
	stayWait  = 200 * time.Millisecond // the same, while a card may be there
	twoWait   = 60 * time.Millisecond  // for the answer about two cards
	rest      = 150 * time.Millisecond // between two looks at a card that stays
	ackWait   = 100 * time.Millisecond // the chip takes 15 ms at most; this machine may be busy
	quickWait = 200 * time.Millisecond // for an answer that needs no card
	maxTries  = 3                      // of a command without an ACK
	maxFaults = 10                     // in a row, before the chip is started afresh
	tryFaults = 3                      // in a row, before the person is asked to try again
)

// New checks the configuration and touches nothing. The errors say what may be
// written instead.
func New(cfg Config) (*Reader, error) {
	r := &Reader{cfg: cfg}
	switch {
	case cfg.Name == "":
		return nil, errors.New("PN532: it has no name")
	case !slices.Contains(Links, cfg.Link):
		return nil, fmt.Errorf("reader %s: link %q: use %s", cfg.Name, cfg.Link, strings.Join(Links, ", "))
	case cfg.Link == "hsu" && cfg.Serial == nil:
		return nil, fmt.Errorf("reader %s: it has no serial port", cfg.Name)
	case cfg.Link == "hsu" && cfg.IRQ != "":
		return nil, fmt.Errorf("reader %s: a chip on a UART speaks by itself; leave irq out", cfg.Name)
	case cfg.Link != "hsu" && cfg.Port == "":
		return nil, fmt.Errorf("reader %s: port is missing: write for example /dev/i2c-1 or /dev/spidev0.0", cfg.Name)
	}
	if cfg.Logger == nil {
		r.cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Link == "hsu" {
		r.open = func() (link, error) {
			s, err := cfg.Serial()
			if err != nil {
				return nil, err
			}
			return &hsu{port: s}, nil
		}
	} else {
		r.open = func() (link, error) {
			w, irq, err := openWire(cfg)
			if err != nil {
				return nil, err
			}
			return &polled{wire: w, irq: irq}, nil
		}
	}
	return r, nil
}

// Run reads until ctx is done, and returns nil within 0.6 s of it. A chip that is
// missing or goes away is told as Down and started again; Run never gives up. It is
// called once at a time.
func (r *Reader) Run(ctx context.Context, out chan<- device.Event) error {
	device.Keep(ctx, r.cfg.Name, r.cfg.Logger, out, func(ctx context.Context, up func()) error {
		l, err := r.open()
		if err != nil {
			return err
		}
		defer l.close()
		c := &chip{link: l}
		if err := c.start(ctx, r.cfg.IRQ != ""); err != nil {
			return err
		}
		up()
		r.field.Empty()
		r.faults = 0
		err = r.watch(ctx, c, out)
		c.link.send(ackFrame) // best effort: let it rest
		return err
	})
	return nil
}

// watch looks for cards until the chip is gone.
func (r *Reader) watch(ctx context.Context, c *chip, out chan<- device.Event) error {
	for ctx.Err() == nil {
		now := time.Now()
		wait := aliveWait
		if len(r.field.Resting(now)) > 0 {
			wait = stayWait
		}
		found, err := c.list(ctx, wait, 1)
		switch {
		case errors.Is(err, errNoAnswer): // nobody came
			if err := c.giveUp(ctx); err != nil {
				return err
			}
			continue
		case err == nil:
			r.faults = 0
			first := time.Now()
			if r.isNew(first, found) {
				found = c.others(ctx, found)
			}
			r.see(ctx, out, first, found)
		default:
			if err = r.fault(ctx, out, err); err != nil {
				return err
			}
		}
		device.Sleep(ctx, rest)
	}
	return nil
}

// isNew reports whether one of the cards was not there before.
func (r *Reader) isNew(at time.Time, uids [][]byte) bool {
	resting := r.field.Resting(at)
	return slices.ContainsFunc(uids, func(uid []byte) bool {
		return !slices.ContainsFunc(resting, func(o []byte) bool { return slices.Equal(o, uid) })
	})
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
		ev.Raw, ev.Bits = slices.Clone(uid), 8*len(uid)
	default:
		return
	}
	device.Send(ctx, out, ev)
}

// fault tells of something that was thrown away, the first of a row and the third;
// it returns an error when the chip must be started afresh.
func (r *Reader) fault(ctx context.Context, out chan<- device.Event, err error) error {
	word, ok := faultOf(err)
	if !ok {
		return err
	}
	if r.faults++; r.faults >= maxFaults {
		return err
	}
	if r.faults == 1 || r.faults == tryFaults {
		now := time.Now()
		device.Send(ctx, out, device.Event{Reader: r.cfg.Name, What: device.Fault, Fault: word, Try: r.faults == tryFaults, First: now, Last: now})
	}
	return nil
}
