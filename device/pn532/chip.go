package pn532

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// Commands.
const (
	getFirmwareVersion  = 0x02
	samConfiguration    = 0x14
	rfConfiguration     = 0x32
	inListPassiveTarget = 0x4A
)

// link carries frames. One goroutine uses it.
type link interface {
	// wake gets the chip out of its sleep after power-up, as far as the wire needs it.
	wake(ctx context.Context) error
	// send sends a frame whole.
	send(frame []byte) error
	// receive waits for the next frame, for about wait at most: nothing is silence.
	// It returns early when ctx is done.
	receive(ctx context.Context, wait time.Duration) (frame, error)
	close() error
}

// chip is the conversation.
type chip struct{ link link }

var (
	errSilent   = errors.New("the chip does not answer; check its power, its wires, and its switches for UART, I²C or SPI")
	errNoAnswer = errors.New("no answer yet") // to a command that waits for a card
)

// faultError is an answer that was thrown away; the chip is still there.
type faultError struct{ word string }

func (e *faultError) Error() string { return "the chip's answers do not hold together: " + e.word }

func faultOf(err error) (string, bool) {
	var f *faultError
	if errors.As(err, &f) {
		return f.word, true
	}
	return "", false
}

// call gives a command and returns its answer, without the answer's first byte; it
// is good until the next call.
func (c *chip) call(ctx context.Context, wait time.Duration, command ...byte) ([]byte, error) {
	acked := false
	for try := 0; try < maxTries && !acked; try++ {
		if err := c.link.send(encode(command...)); err != nil {
			return nil, err
		}
		for deadline := time.Now().Add(ackWait); !acked; {
			f, err := c.link.receive(ctx, time.Until(deadline))
			if err != nil {
				return nil, err
			}
			if f.kind == answer && f.data[0] == command[0]+1 { // its ACK was lost
				return f.data[1:], nil
			}
			if acked = f.kind == ack; f.kind == nothing || f.kind == nack || !time.Now().Before(deadline) {
				break
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if !acked {
		return nil, errSilent
	}
	again := 0
	for deadline := time.Now().Add(wait); ; {
		f, err := c.link.receive(ctx, time.Until(deadline))
		switch {
		case err != nil:
			return nil, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case f.kind == nothing && !time.Now().Before(deadline):
			return nil, errNoAnswer
		case f.kind == refused:
			return nil, &faultError{"format"}
		case f.kind == answer && f.data[0] == command[0]+1:
			return f.data[1:], nil
		case f.kind == bad && again == 2:
			return nil, &faultError{f.fault}
		case f.kind == bad:
			again++
			if err := c.link.send(nackFrame); err != nil {
				return nil, err
			}
			// The same answer comes at once, or not at all.
			deadline = time.Now().Add(min(wait, quickWait))
		}
	}
}

// quick is call for a command that needs no card: no answer is a chip that is gone.
func (c *chip) quick(ctx context.Context, command ...byte) ([]byte, error) {
	data, err := c.call(ctx, quickWait, command...)
	if errors.Is(err, errNoAnswer) {
		err = errSilent
	}
	return data, err
}

// start wakes the chip and sets it up to look for cards until one comes.
func (c *chip) start(ctx context.Context, irq bool) error {
	if err := c.link.wake(ctx); err != nil {
		return err
	}
	// It may be in the middle of what a program that was killed had asked for.
	if err := c.link.send(ackFrame); err != nil {
		return err
	}
	if err := c.drain(ctx); err != nil {
		return err
	}
	sam := []byte{samConfiguration, 0x01, 0x00, 0x00} // normal mode
	if irq {
		sam = []byte{samConfiguration, 0x01, 0x14, 0x01} // and use the line
	}
	if _, err := c.quick(ctx, sam...); err != nil {
		return fmt.Errorf("wake the chip: %w", err)
	}
	version, err := c.quick(ctx, getFirmwareVersion)
	if err != nil {
		return fmt.Errorf("ask for its version: %w", err)
	}
	if len(version) != 4 || version[0] != 0x32 {
		return fmt.Errorf("what answers is no PN532 but % X; check the port", version)
	}
	// Item 5: how often to try. The first two are for other kinds of targets.
	if _, err := c.quick(ctx, rfConfiguration, 0x05, 0xFF, 0x01, 0xFF); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	return nil
}

// drain throws away what the chip had to say before it was asked, for a while at
// most.
func (c *chip) drain(ctx context.Context) error {
	for end := time.Now().Add(200 * time.Millisecond); ctx.Err() == nil && time.Now().Before(end); {
		f, err := c.link.receive(ctx, 20*time.Millisecond)
		if err != nil {
			return err
		}
		if f.kind == nothing {
			break
		}
	}
	return ctx.Err()
}

// list asks for at most so many cards and waits until there is one.
func (c *chip) list(ctx context.Context, wait time.Duration, most byte) ([][]byte, error) {
	data, err := c.call(ctx, wait, inListPassiveTarget, most, 0x00)
	if err != nil {
		return nil, err
	}
	uids, fault := targets(bytes.Clone(data))
	if fault != "" {
		return nil, &faultError{fault}
	}
	return uids, nil
}

// others looks for a second card beside those that were found, and returns all.
// What goes wrong meanwhile does not undo what was read.
func (c *chip) others(ctx context.Context, found [][]byte) [][]byte {
	for range 2 {
		more, err := c.list(ctx, twoWait, 2)
		if err == nil {
			return append(found, more...)
		}
		if errors.Is(err, errNoAnswer) && c.link.send(ackFrame) == nil && c.drain(ctx) == nil {
			continue
		}
		break
	}
	return found
}

// giveUp ends a command that waits for a card. Whether the chip is alive shows the next
// one, which it must acknowledge.
func (c *chip) giveUp(ctx context.Context) error {
	if err := c.link.send(ackFrame); err != nil {
		return err
	}
	return c.drain(ctx)
}
