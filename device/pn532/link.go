package pn532

import (
	"context"
	"errors"
	"math/bits"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"

	"punchclock/device"
)

const (
	slice     = 500 * time.Millisecond // the longest wait for a line that has announced nothing yet
	byteGap   = 50 * time.Millisecond  // silence that ends a piece of a frame; at 115200 baud a whole one takes 3 ms
	mostReply = 112                    // bytes of the longest frame that is asked for: two cards with ATS
)

// hsu is the chip on a UART.
type hsu struct {
	port Serial
	dec  decoder
	buf  [64]byte
	got  []byte // what was read and not yet looked at
}

func (h *hsu) wake(context.Context) error {
	_, err := h.port.Write([]byte{0x55, 0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	return err
}

func (h *hsu) send(frame []byte) error {
	_, err := h.port.Write(frame)
	return err
}

func (h *hsu) receive(ctx context.Context, wait time.Duration) (frame, error) {
	defer context.AfterFunc(ctx, h.port.Interrupt)()
	deadline := time.Now().Add(wait)
	for tried := false; ctx.Err() == nil; tried = true {
		for len(h.got) > 0 {
			b := h.got[0]
			h.got = h.got[1:]
			if f := h.dec.push(b); f.kind != nothing {
				return f, nil
			}
		}
		left := time.Until(deadline)
		if left <= 0 {
			if tried {
				break
			}
			left = time.Millisecond // on a busy machine it may have come long ago
		}
		inside := h.dec.inside()
		if inside {
			left = max(left, byteGap) // let a frame end that has begun
		}
		n, err := h.port.ReadFor(h.buf[:], left)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return frame{}, err
		}
		if n == 0 && inside {
			h.dec.reset()
			return frame{kind: bad, fault: device.FaultTimeout}, nil
		}
		h.got = h.buf[:n]
	}
	return frame{}, nil
}

func (h *hsu) close() error { return h.port.Close() }

// wire is I²C or SPI: the chip has to be asked.
type wire interface {
	ready() (bool, error)
	read(b []byte) error
	write(frame []byte) error
	close() error
}

// interrupt is the chip's line IRQ, which is low while it has something to say.
type interrupt interface {
	// wait returns when the line is low, after d at the latest and soon after ctx is
	// done, and reports whether it is.
	wait(ctx context.Context, d time.Duration) (low bool)
	close() error
}

// polled is the chip on a wire.
type polled struct {
	wire wire
	irq  interrupt // nil: none
	told bool      // the last frame was announced by irq, so the next one will be
	dec  decoder
	buf  [mostReply]byte
}

const (
	quickPoll = 5 * time.Millisecond  // for an answer that is due
	slowPoll  = 50 * time.Millisecond // for a card, without IRQ
	longAfter = 15 * time.Millisecond // from then on it is a card that is waited for
)

// wake speaks to the chip until it hears: the first address or chip select only
// wakes it.
func (p *polled) wake(ctx context.Context) (err error) {
	for range maxTries {
		if _, err = p.wire.ready(); err == nil {
			break
		}
		device.Sleep(ctx, 5*time.Millisecond)
	}
	device.Sleep(ctx, 5*time.Millisecond)
	return err
}

func (p *polled) send(frame []byte) error { return p.wire.write(frame) }

// receive asks the chip from time to time or, with IRQ, when the line says so and at the
// end of the wait. A line that has not announced the last frame may hang on another pin,
// so until one was announced the chip is asked in between.
func (p *polled) receive(ctx context.Context, wait time.Duration) (frame, error) {
	began := time.Now()
	stuck := false // the line said so, and the chip did not: it is wired to something else
	for {
		low, now := false, time.Now()
		if left := wait - now.Sub(began); p.irq != nil && !stuck && left > 0 {
			switch {
			case p.told:
			case now.Sub(began) < longAfter:
				left = min(left, quickPoll)
			default:
				left = min(left, slice)
			}
			low = p.irq.wait(ctx, left)
			stuck = time.Since(now) < min(left, quickPoll) // if the chip has nothing
		}
		if ctx.Err() != nil {
			return frame{}, nil
		}
		ok, err := p.wire.ready()
		if err != nil {
			return frame{}, err
		}
		if ok {
			p.told = low
			return p.readFrame()
		}
		past := time.Since(began)
		left := wait - past
		switch {
		case left <= 0:
			return frame{}, nil
		case p.irq != nil && !stuck:
		case past < longAfter:
			device.Sleep(ctx, min(left, quickPoll))
		default:
			stuck = false
			device.Sleep(ctx, min(left, slowPoll))
		}
	}
}

func (p *polled) readFrame() (frame, error) {
	if err := p.wire.read(p.buf[:]); err != nil {
		return frame{}, err
	}
	p.dec.reset()
	for _, b := range p.buf {
		if f := p.dec.push(b); f.kind != nothing {
			return f, nil
		}
	}
	return frame{kind: bad, fault: device.FaultLength}, nil
}

func (p *polled) close() error {
	err := p.wire.close()
	if p.irq != nil {
		err = errors.Join(err, p.irq.close())
	}
	return err
}

// i2cWire is the chip on an I²C bus. Between a stop and the next start it wants 5 ms.
type i2cWire struct {
	bus  i2c.BusCloser
	last time.Time
	buf  [1 + mostReply]byte
}

const (
	i2cAddress = 0x24
	i2cPause   = 5 * time.Millisecond
)

func (w *i2cWire) tx(out, in []byte) error {
	if !w.last.IsZero() {
		time.Sleep(i2cPause - time.Since(w.last))
	}
	err := w.bus.Tx(i2cAddress, out, in)
	w.last = time.Now()
	return err
}

func (w *i2cWire) ready() (bool, error) {
	err := w.tx(nil, w.buf[:1])
	return w.buf[0] == 0x01, err
}

func (w *i2cWire) read(b []byte) error {
	if err := w.tx(nil, w.buf[:1+len(b)]); err != nil {
		return err
	}
	copy(b, w.buf[1:])
	return nil
}

func (w *i2cWire) write(frame []byte) error { return w.tx(frame, nil) }
func (w *i2cWire) close() error             { return w.bus.Close() }

// spiWire is the chip on an SPI bus. It sends the least significant bit first, which
// a Pi's bus cannot: each byte is turned round here.
type spiWire struct {
	conn   spi.Conn
	closer func() error
	out    [1 + mostReply]byte
	in     [1 + mostReply]byte
}

// First bytes of a transfer.
const (
	spiWrite  = 0x01
	spiStatus = 0x02
	spiRead   = 0x03
)

// tx sends a first byte and n more, and receives as many into in.
func (w *spiWire) tx(first byte, rest []byte, n int) error {
	w.out[0] = bits.Reverse8(first)
	for i := range n {
		w.out[1+i] = 0
		if i < len(rest) {
			w.out[1+i] = bits.Reverse8(rest[i])
		}
	}
	if err := w.conn.Tx(w.out[:1+n], w.in[:1+n]); err != nil {
		return err
	}
	for i := range n {
		w.in[1+i] = bits.Reverse8(w.in[1+i])
	}
	return nil
}

func (w *spiWire) ready() (bool, error) {
	err := w.tx(spiStatus, nil, 1)
	return w.in[1] == 0x01, err
}

func (w *spiWire) read(b []byte) error {
	if err := w.tx(spiRead, nil, len(b)); err != nil {
		return err
	}
	copy(b, w.in[1:])
	return nil
}

func (w *spiWire) write(frame []byte) error { return w.tx(spiWrite, frame, len(frame)) }
func (w *spiWire) close() error             { return w.closer() }
