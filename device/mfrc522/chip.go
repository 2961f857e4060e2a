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
	regStatus2    = 0x08
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
	ended     = rxIrq | idleIrq | errorIrq
	antenna   = 0x03 // TxControl

	modem         = 0x07 // Status2: what the modem does
	modemTxWait   = 2
	modemSends    = 3
	modemRxWait   = 4
	modemReceives = 6

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
	out, in [64 + airBytes]byte
	used    int // of out and in

	quiet bool // the last exchange was a call that nobody answered
}

// op is one access to a register: data to write, or nothing to read a byte, or as many
// as times.
type op struct {
	reg   byte
	data  []byte
	times int
}

func write(reg byte, data ...byte) op { return op{reg: reg, data: data} }
func read(reg byte) op                { return op{reg: reg, times: 1} }

// do makes the accesses in their order, in one call of the kernel, and returns what
// was read, one after another; it is good until the next do. Reads that follow each
// other are one transfer: each byte sent asks for the next one that comes back.
func (c *chip) do(ops ...op) ([]byte, error) {
	c.packets, c.used = c.packets[:0], 0
	for i := 0; i < len(ops); {
		next, size := i+1, 1+len(ops[i].data)+ops[i].times
		for ops[i].data == nil && next < len(ops) && ops[next].data == nil {
			size += ops[next].times
			next++
		}
		if c.used+size > len(c.out) {
			return nil, errors.New("too much for one transfer")
		}
		w := c.out[c.used : c.used+size]
		if ops[i].data == nil {
			k := 0
			for _, o := range ops[i:next] {
				for range o.times {
					w[k] = o.reg<<1&0x7E | 0x80
					k++
				}
			}
			w[k] = 0
		} else {
			w[0] = ops[i].reg << 1 & 0x7E
			copy(w[1:], ops[i].data)
		}
		c.packets = append(c.packets, spi.Packet{W: w, R: c.in[c.used : c.used+size]})
		c.used += size
		i = next
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

	// A call and its answer take 0.37 ms in the field: 9 bits of 9.44 µs there, 91 µs,
	// 20 bits back. So many bytes on the bus take 0.5 ms at 4 MHz. Where the bus is
	// faster than it was asked to be, the chip says that it is still at it.
	airBytes = 250
)

// exchange is air. The chip is asked after a moment, then every millisecond. But what
// becomes of a call, which most of the time nobody answers, is asked in the same
// message, behind a register that is read over and over for as long as an answer takes.
// While nobody answers there is nothing to clear up: then that message is five accesses.
// The first of them shows whether the chip's receiver, which stays on, has picked
// something up since; then the call went out behind that, and is made once more.
func (c *chip) exchange(ctx context.Context, send []byte, lastBits, align int, wait time.Duration) (reply, error) {
	framing, call := byte(align<<4|lastBits), wait == requestWait
	quiet := call && c.quiet
	c.quiet = false
	ops := make([]op, 0, 8+len(outcome))
	if quiet {
		ops = append(ops, read(regComIrq), read(regFIFOLevel))
	} else {
		ops = append(ops, write(regCommand, cmdIdle), write(regComIrq, clearIrq), write(regFIFOLevel, flushFIFO), write(regBitFraming, framing))
	}
	ops = append(ops, write(regFIFOData, send...), write(regCommand, cmdTransceive), write(regBitFraming, framing|startSend))
	if call {
		ops = append(append(ops, op{reg: regVersion, times: airBytes}), outcome...)
	}
	began := time.Now()
	got, err := c.do(ops...)
	if quiet && err == nil && (got[0]&ended != 0 || got[1] != 0) {
		return c.exchange(ctx, send, lastBits, align, wait)
	}
	for asked := call; ; asked = true {
		if err != nil {
			return reply{}, err
		}
		if asked {
			got = got[len(got)-len(outcome):]
			irq, does := got[0], got[5]&modem
			if err := c.there(got[6], got[7]); err != nil {
				return reply{}, err
			}
			if irq&ended != 0 {
				return c.take(got[1], got[2], got[3], got[4])
			}
			busy := does == modemTxWait || does == modemSends || does == modemRxWait || does == modemReceives
			if call && !busy || time.Since(began) >= min(wait, guard) {
				c.quiet = call && !busy && got[2] == 0
				return reply{}, nil
			}
		}
		time.Sleep(pollEvery)
		got, err = c.do(outcome...)
	}
}

// outcome is what tells of an exchange.
var outcome = []op{read(regComIrq), read(regError), read(regFIFOLevel), read(regControl), read(regColl), read(regStatus2), read(regTxControl), read(regVersion)}

// there tells a chip that is gone, or has been without power for a moment and knows
// nothing any more.
func (c *chip) there(txControl, version byte) error {
	switch {
	case version != c.version:
		return fmt.Errorf("the chip is gone (version %02X, was %02X)", version, c.version)
	case txControl&antenna != antenna:
		return fmt.Errorf("the chip has lost its settings (field %02X): check its 3.3 V", txControl)
	}
	return nil
}

// take takes the answer that has come.
func (c *chip) take(fault, size, control, coll byte) (reply, error) {
	level := int(size)
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
	var err error
	r.data, err = c.do(ops...)
	return r, err
}
