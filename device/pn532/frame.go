package pn532

import "punchclock/device"

const (
	toChip = 0xD4 // TFI of a command
	toHost = 0xD5 // TFI of an answer
	toldOf = 0x7F // TFI of an error frame: the chip did not understand

	mostData = 264 // bytes after the TFI of the longest frame
)

var (
	ackFrame  = []byte{0x00, 0x00, 0xFF, 0x00, 0xFF, 0x00} // from the host: give up what you are doing
	nackFrame = []byte{0x00, 0x00, 0xFF, 0xFF, 0x00, 0x00} // say it again
)

// encode makes the frame of a command with at most 254 bytes.
func encode(command ...byte) []byte {
	n := byte(len(command) + 1)
	frame := append(make([]byte, 0, len(command)+8), 0x00, 0x00, 0xFF, n, -n, toChip)
	sum := byte(toChip)
	for _, b := range command {
		sum += b
	}
	frame = append(frame, command...)
	return append(frame, -sum, 0x00)
}

// kind says what came.
type kind uint8

const (
	nothing kind = iota
	ack
	nack
	refused // an error frame
	answer
	bad // something like a frame, thrown away; frame.fault says why
)

// frame is what came. data is the decoder's own memory, without the TFI, and good
// until its next byte.
type frame struct {
	kind  kind
	data  []byte
	fault string
}

// decoder finds frames in bytes. It is pure, and its zero value waits for a start.
type decoder struct {
	state byte
	head  [3]byte // LEN and LCS, or LENh, LENl and LCS
	need  int     // bytes of TFI and data
	n     int
	sum   byte
	buf   [1 + mostData]byte
}

// States, by what is awaited.
const (
	wantStart byte = iota
	wantFF
	wantLen
	wantLCS
	wantLong // three bytes of a long length
	wantLong2
	wantLong3
	wantData
	wantDCS
)

// reset forgets a piece of a frame.
func (d *decoder) reset() { d.state = wantStart }

// inside reports whether a frame has begun.
func (d *decoder) inside() bool { return d.state >= wantLen }

// push takes one byte.
func (d *decoder) push(b byte) frame {
	switch d.state {
	case wantStart, wantFF:
		switch {
		case b == 0:
			d.state = wantFF
		case b == 0xFF && d.state == wantFF:
			d.state = wantLen
		default:
			d.state = wantStart
		}
	case wantLen:
		d.head[0], d.state = b, wantLCS
	case wantLCS:
		length := d.head[0]
		switch {
		case length == 0x00 && b == 0xFF:
			return d.end(frame{kind: ack})
		case length == 0xFF && b == 0x00:
			return d.end(frame{kind: nack})
		case length == 0xFF && b == 0xFF:
			d.state = wantLong
		case length+b != 0:
			return d.fail(device.FaultChecksum, b)
		case length == 0:
			return d.fail(device.FaultLength, b)
		default:
			d.begin(int(length))
		}
	case wantLong, wantLong2:
		d.head[d.state-wantLong] = b
		d.state++
	case wantLong3:
		n := int(d.head[0])<<8 | int(d.head[1])
		switch {
		case d.head[0]+d.head[1]+b != 0:
			return d.fail(device.FaultChecksum, b)
		case n == 0 || n > len(d.buf):
			return d.fail(device.FaultLength, b)
		}
		d.begin(n)
	case wantData:
		d.buf[d.n] = b
		d.n++
		d.sum += b
		if d.n == d.need {
			d.state = wantDCS
		}
	case wantDCS:
		switch {
		case d.sum+b != 0:
			return d.fail(device.FaultChecksum, b)
		case d.buf[0] == toldOf && d.need == 1:
			return d.end(frame{kind: refused})
		case d.buf[0] != toHost || d.need < 2:
			return d.fail(device.FaultFormat, b)
		}
		return d.end(frame{kind: answer, data: d.buf[1:d.need]})
	}
	return frame{}
}

func (d *decoder) begin(n int) { d.need, d.n, d.sum, d.state = n, 0, 0, wantData }

func (d *decoder) end(f frame) frame {
	d.state = wantStart
	return f
}

// fail throws the frame away. The byte that gave it away may begin the next one.
func (d *decoder) fail(fault string, b byte) frame {
	d.state = wantStart
	if b == 0 {
		d.state = wantFF
	}
	return frame{kind: bad, fault: fault}
}

// targets reads the answer to InListPassiveTarget at 106 kbit/s, type A: the number
// of cards, and of each its place, SENS_RES (2 bytes), SEL_RES, the UID's length,
// the UID, and the ATS where the card is one of ISO 14443-4. The UIDs lie in data.
func targets(data []byte) (uids [][]byte, fault string) {
	if len(data) == 0 {
		return nil, device.FaultLength
	}
	count, rest := int(data[0]), data[1:]
	if count > 2 {
		return nil, device.FaultFormat
	}
	for i := range count {
		if len(rest) < 5 || len(rest) < 5+int(rest[4]) {
			return nil, device.FaultLength
		}
		place, sak, n := rest[0], rest[3], int(rest[4])
		uid := rest[5 : 5+n]
		rest = rest[5+n:]
		switch {
		case int(place) != i+1:
			return nil, device.FaultFormat
		case n != 4 && n != 7 && n != 10:
			return nil, device.FaultLength
		case n == 4 && uid[0] == 0x88: // the cascade tag: the rest of the UID is missing
			return nil, device.FaultFormat
		}
		if sak&0x20 != 0 && len(rest) > 0 { // the ATS counts its own first byte
			if rest[0] == 0 || int(rest[0]) > len(rest) {
				return nil, device.FaultLength
			}
			rest = rest[rest[0]:]
		}
		uids = append(uids, uid)
	}
	if len(rest) > 0 {
		return nil, device.FaultLength
	}
	return uids, ""
}
