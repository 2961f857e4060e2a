package mfrc522

import (
	"context"
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3/spi"

	"punchclock/device"
)

// Registers.
const (
	regCommand    = 0x01
	regComIrq     = 0x04
	regError      = 0x06
	regFIFOData   = 0x09
	regFIFOLevel  = 0x0A
	regControl    = 0x0C
	regBitFraming = 0x0D
	regColl       = 0x0E
	regMode       = 0x11
	regTxMode     = 0x12
	regRxMode     = 0x13
	regTxControl  = 0x14
	regTxASK      = 0x15
	regModWidth   = 0x24
	regTMode      = 0x2A
	regTPrescaler = 0x2B
	regTReloadH   = 0x2C
	regTReloadL   = 0x2D
	regVersion    = 0x37
)

// Commands to the chip.
const (
	cmdIdle       = 0x00
	cmdTransceive = 0x0C
	cmdSoftReset  = 0x0F
)

const (
	powerDown = 0x10 // Command: still starting
	startSend = 0x80 // BitFraming
	flushFIFO = 0x80 // FIFOLevel
	clearIrq  = 0x7F // ComIrq
	rxIrq     = 0x20 // ComIrq: an answer has ended
	idleIrq   = 0x10 // ComIrq: the command has ended
	errorIrq  = 0x02 // ComIrq: see Error
	antenna   = 0x03 // TxControl

	errOverflow  = 0x10 // Error
	errCollision = 0x08
	errParity    = 0x02
	errProtocol  = 0x01

	collUnknown = 0x20 // Coll: the place is not within reach
	fifoSize    = 64
)

// versions is what regVersion says, by chip.
var versions = map[byte]string{0x90: "MFRC522 v0.0", 0x91: "MFRC522 v1.0", 0x92: "MFRC522 v2.0", 0x88: "FM17522"}

// chip is an MFRC522 behind an SPI bus. One goroutine uses it.
type chip struct {
	conn    spi.Conn
	version byte

	packets []spi.Packet
	out, in [256]byte
	used    int // of out and in
}

// op is one access to a register: data to write, or nothing to read a byte.
type op struct {
	reg  byte
	data []byte
}

func write(reg byte, data ...byte) op { return op{reg, data} }
func read(reg byte) op                { return op{reg, nil} }

// do makes the accesses in their order, in one call of the kernel, and returns what
// was read, one after another; it is good until the next do. Reads that follow each
// other are one transfer: each byte sent asks for the next one that comes back.
func (c *chip) do(ops ...op) ([]byte, error) {
	c.packets, c.used = c.packets[:0], 0
	for i := 0; i < len(ops); {
		n := 1
		if ops[i].data == nil {
			for i+n < len(ops) && ops[i+n].data == nil {
				n++
			}
		}
		size := 1 + max(n, len(ops[i].data))
		if c.used+size > len(c.out) {
			return nil, errors.New("too much for one transfer")
		}
		w := c.out[c.used : c.used+size]
		if ops[i].data == nil {
			for k, o := range ops[i : i+n] {
				w[k] = o.reg<<1&0x7E | 0x80
			}
			w[n] = 0
		} else {
			w[0] = ops[i].reg << 1 & 0x7E
			copy(w[1:], ops[i].data)
		}
		c.packets = append(c.packets, spi.Packet{W: w, R: c.in[c.used : c.used+size]})
		c.used += size
		i += n
	}
	if err := c.conn.TxPackets(c.packets); err != nil {
		return nil, err
	}
	got := c.in[:0]
	for _, p := range c.packets {
		if p.W[0]&0x80 != 0 {
			got = append(got, p.R[1:]...) // never overtakes what is still to be taken
		}
	}
	return got, nil
}

// start resets the chip and switches its field on.
func (c *chip) start(ctx context.Context) error {
	if _, err := c.do(write(regCommand, cmdSoftReset)); err != nil {
		return err
	}
	for tries := 0; ; tries++ { // the oscillator needs a few milliseconds; 50 at most
		device.Sleep(ctx, 5*time.Millisecond)
		got, err := c.do(read(regCommand), read(regVersion))
		if err != nil {
			return err
		}
		c.version = got[1]
		if got[0]&powerDown == 0 && got[1] != 0x00 && got[1] != 0xFF {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if tries == 10 {
			return fmt.Errorf("no chip answers (version %02X): check SDA, SCK, MOSI, MISO, GND and 3.3 V, and that RST is tied to 3.3 V", got[1])
		}
	}
	if versions[c.version] == "" {
		return fmt.Errorf("what answers is no MFRC522 (version %02X); check the port, and the wires for a loose one", c.version)
	}
	_, err := c.do(
		write(regTxMode, 0x00), write(regRxMode, 0x00), write(regModWidth, 0x26),
		write(regTMode, 0x80), write(regTPrescaler, 0xA9), write(regTReloadH, 0x03), write(regTReloadL, 0xE8), // 25 µs a tick, 25 ms
		write(regTxASK, 0x40), write(regMode, 0x3D),
		write(regColl, 0x00), // bits behind a collision are zero
	)
	if err != nil {
		return err
	}
	got, err := c.do(read(regTxControl))
	if err != nil {
		return err
	}
	_, err = c.do(write(regTxControl, got[0]|antenna))
	return err
}

// stop switches the field off.
func (c *chip) stop() { c.do(write(regCommand, cmdSoftReset)) }

const (
	pollEvery = time.Millisecond
	guard     = 36 * time.Millisecond // the chip's own timer ends an exchange after 25
)

// exchange is air. The chip is asked after a moment, then every millisecond.
func (c *chip) exchange(ctx context.Context, send []byte, lastBits, align int, wait time.Duration) (reply, error) {
	framing := byte(align<<4 | lastBits)
	_, err := c.do(
		write(regCommand, cmdIdle), write(regComIrq, clearIrq), write(regFIFOLevel, flushFIFO),
		write(regFIFOData, send...), write(regBitFraming, framing),
		write(regCommand, cmdTransceive), write(regBitFraming, framing|startSend),
	)
	if err != nil {
		return reply{}, err
	}
	pause := pollEvery
	if wait == requestWait {
		pause = requestWait // most of the time nobody is there: look once
	}
	for began := time.Now(); ; {
		time.Sleep(pause)
		pause = pollEvery
		got, err := c.do(read(regComIrq), read(regError), read(regFIFOLevel), read(regControl), read(regColl), read(regVersion))
		if err != nil {
			return reply{}, err
		}
		irq, fault, level, control, coll := got[0], got[1], int(got[2]), got[3], got[4]
		if got[5] != c.version {
			return reply{}, fmt.Errorf("the chip is gone (version %02X, was %02X)", got[5], c.version)
		}
		if irq&(rxIrq|idleIrq|errorIrq) == 0 {
			if time.Since(began) < min(wait, guard) {
				continue
			}
			return reply{}, nil
		}
		switch {
		case level > fifoSize:
			return reply{}, fmt.Errorf("the chip is gone (%d bytes in a store of %d)", level, fifoSize)
		case fault&errCollision != 0 && coll&collUnknown != 0:
			return reply{}, &faultError{device.FaultFormat}
		case fault&errCollision == 0 && fault&(errParity|errProtocol) != 0:
			return reply{}, &faultError{device.FaultChecksum}
		case fault&errOverflow != 0, level > 18: // the longest answer that is asked for has 5 bytes
			return reply{}, &faultError{device.FaultLength}
		case level == 0:
			return reply{}, nil
		}
		r := reply{bits: int(control & 7)}
		if fault&errCollision != 0 {
			if r.coll = int(coll & 0x1F); r.coll == 0 {
				r.coll = 32
			}
		}
		ops := make([]op, level)
		for i := range ops {
			ops[i] = read(regFIFOData)
		}
		r.data, err = c.do(ops...)
		return r, err
	}
}
