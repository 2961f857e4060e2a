package main

import (
	"bytes"
	"sync"
	"time"
)

// nfc is a PN532 at the far end of a serial line, as far as a reader of cards asks
// it: it acknowledges, says its version, and answers InListPassiveTarget when a card
// is held to it. It was written from the manual and shares no code with the driver.
type nfc struct {
	mu    sync.Mutex
	buf   []byte
	card  []byte // the answer to InListPassiveTarget while a card is there
	until time.Time
	asks  bool // the question waits for a card
	last  []byte
}

const cardStays = 600 * time.Millisecond

var (
	nfcAck     = []byte{0x00, 0x00, 0xFF, 0x00, 0xFF, 0x00}
	nfcRefused = []byte{0x00, 0x00, 0xFF, 0x01, 0xFF, 0x7F, 0x81, 0x00}
)

// nfcFrame is an answer of the chip.
func nfcFrame(data ...byte) []byte {
	sum := byte(0xD5)
	for _, b := range data {
		sum += b
	}
	n := byte(len(data) + 1)
	return append(append([]byte{0x00, 0x00, 0xFF, n, -n, 0xD5}, data...), -sum, 0x00)
}

// nfcCard is the answer about one card.
func nfcCard(uid []byte) []byte {
	atqa, sak := byte(0x44), byte(0x00)
	if len(uid) == 4 {
		atqa, sak = 0x04, 0x08
	}
	return nfcFrame(append([]byte{0x4B, 1, 1, 0x00, atqa, sak, byte(len(uid))}, uid...)...)
}

// unplug forgets what was asked.
func (c *nfc) unplug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf, c.asks = nil, false
}

// hold holds a card to the chip for a moment and returns what it says of it now.
func (c *nfc) hold(answer []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.card, c.until = answer, time.Now().Add(cardStays)
	if !c.asks {
		return nil
	}
	c.asks, c.last = false, answer
	return answer
}

// hear takes what the host has sent and returns what the chip says to it.
func (c *nfc) hear(b []byte) (say []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = append(c.buf, b...)
	for {
		i := bytes.Index(c.buf, []byte{0x00, 0xFF})
		if i < 0 || len(c.buf) < i+4 {
			if len(c.buf) > 512 { // noise, or the wrong speed
				c.buf = nil
			}
			return say
		}
		f := c.buf[i+2:]
		switch {
		case f[0] == 0x00 && f[1] == 0xFF: // ACK: give up
			c.asks, c.buf = false, f[2:]
			continue
		case f[0] == 0xFF && f[1] == 0x00: // NACK: again
			say, c.buf = append(say, c.last...), f[2:]
			continue
		case f[0]+f[1] != 0 || f[0] == 0:
			c.buf = f
			continue
		case len(f) < int(f[0])+3:
			return say
		}
		n := int(f[0])
		sum := byte(0)
		for _, b := range f[2 : n+3] {
			sum += b
		}
		cmd := bytes.Clone(f[3 : n+2])
		tfi := f[2]
		c.buf = f[n+3:]
		if sum != 0 || tfi != 0xD4 || len(cmd) == 0 {
			continue
		}
		c.last = c.answer(cmd)
		say = append(append(say, nfcAck...), c.last...)
	}
}

func (c *nfc) answer(cmd []byte) []byte {
	c.asks = false
	switch cmd[0] {
	case 0x02: // GetFirmwareVersion: PN532 1.6
		return nfcFrame(0x03, 0x32, 0x01, 0x06, 0x07)
	case 0x14, 0x32: // SAMConfiguration, RFConfiguration
		return nfcFrame(cmd[0] + 1)
	case 0x4A:
		if time.Now().Before(c.until) {
			return c.card
		}
		c.asks = true
		return nil
	}
	return nfcRefused
}
