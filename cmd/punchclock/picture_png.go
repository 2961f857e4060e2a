package main

import (
	"compress/flate"
	endian "encoding/binary"
	"hash/crc32"
	"io"

	"punchclock/queue"
)

// PNG as W3C's recommendation has it, with all its kinds of dots, into three bytes a dot:
// image/png has a picture of its own for each kind, which would be the program's largest
// part for the least of its work. Of a transparent dot only that one is kept which a
// palette or an alpha says; a colour that is declared to be transparent is that colour.

const pngHead = "\x89PNG\r\n\x1a\n"

// pngKind is what IHDR says.
type pngKind struct {
	w, h    int
	depth   int // bits of a sample
	colour  byte
	samples int // of a dot
	adam7   bool
	palette []byte // three bytes each
	alpha   []byte // of the palette
	rest    []byte // the chunks that are not read yet
	packed  []byte // of the IDAT that is read
}

// measurePNG reads the first chunk, which must be IHDR.
func measurePNG(b []byte) (s pictureSize, err error) {
	if len(b) < len(pngHead)+25 || string(b[8:16]) != "\x00\x00\x00\x0dIHDR" {
		return s, errNoPicture
	}
	w, h := endian.BigEndian.Uint32(b[16:]), endian.BigEndian.Uint32(b[20:])
	k := pngKind{depth: int(b[24]), colour: b[25], adam7: b[28] == 1, rest: b[33:]}
	switch k.colour {
	case 0, 3:
		k.samples = 1
	case 2:
		k.samples = 3
	case 4:
		k.samples = 2
	case 6:
		k.samples = 4
	}
	fits := k.depth == 8 || k.depth == 16 && k.colour != 3 || k.samples == 1 && (k.depth == 1 || k.depth == 2 || k.depth == 4)
	if w == 0 || h == 0 || w > 1<<16 || h > 1<<16 || k.samples == 0 || !fits || b[26] != 0 || b[27] != 0 || b[28] > 1 ||
		crc32.ChecksumIEEE(b[12:29]) != endian.BigEndian.Uint32(b[29:]) {
		return s, errNoPicture
	}
	k.w, k.h = int(w), int(h)
	return pictureSize{w: k.w, h: k.h, memory: 3 * int64(w) * int64(h), turn: 1, unpack: func([]byte) (dots, error) { k := k; return k.unpack() }}, nil
}

// chunk reads the next one.
func (k *pngKind) chunk() (name string, body []byte, ok bool) {
	b := k.rest
	if len(b) < 12 {
		return "", nil, false
	}
	n := int64(endian.BigEndian.Uint32(b))
	if n > int64(len(b)-12) || crc32.ChecksumIEEE(b[4:8+n]) != endian.BigEndian.Uint32(b[8+n:]) {
		return "", nil, false
	}
	k.rest = b[12+n:]
	return string(b[4:8]), b[8 : 8+n], true
}

// adam7 is where the passes of an interlaced picture begin, and how far their dots are
// apart.
var adam7 = [...]struct{ x, y, dx, dy int }{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}}

// Read reads on in what the IDATs hold: there may be a million of them.
func (k *pngKind) Read(b []byte) (int, error) {
	for len(k.packed) == 0 {
		switch name, body, ok := k.chunk(); {
		case !ok:
			return 0, errNoPicture
		case name == "IEND":
			return 0, io.EOF
		case name == "IDAT":
			k.packed = body
		}
	}
	n := copy(b, k.packed)
	k.packed = k.packed[n:]
	return n, nil
}

func (k *pngKind) unpack() (dots, error) {
	for k.packed == nil {
		name, body, ok := k.chunk()
		if !ok || name == "IEND" {
			return nil, errNoPicture
		}
		switch name {
		case "PLTE":
			k.palette = body
		case "tRNS":
			k.alpha = body
		case "IDAT":
			k.packed = body
		}
	}
	if k.colour == 3 && (len(k.palette) == 0 || len(k.palette)%3 != 0) {
		return nil, errNoPicture
	}
	var head [2]byte // of zlib; its checksum is passed over, for each chunk has one
	if _, err := io.ReadFull(k, head[:]); err != nil || head[0]&15 != 8 || endian.BigEndian.Uint16(head[:])%31 != 0 || head[1]&32 != 0 {
		return nil, errNoPicture
	}
	rows := flate.NewReader(k)
	out := make([]byte, 3*k.w*k.h)
	passes := adam7[:]
	var rest queue.Pace
	if !k.adam7 {
		passes = append(passes[:0:0], struct{ x, y, dx, dy int }{0, 0, 1, 1})
	}
	for _, p := range passes {
		w, h := (k.w-p.x+p.dx-1)/p.dx, (k.h-p.y+p.dy-1)/p.dy
		if w <= 0 || h <= 0 {
			continue
		}
		n := (w*k.depth*k.samples + 7) / 8
		each := max(k.depth*k.samples/8, 1) // bytes to the dot at the left
		row, above := make([]byte, 1+n), make([]byte, 1+n)
		for y := range h {
			rest.Step(0)
			if _, err := io.ReadFull(rows, row); err != nil || !unfilter(row[0], row[1:], above[1:], each) {
				return nil, errNoPicture
			}
			for x := range w {
				to := 3 * ((p.y+y*p.dy)*k.w + p.x + x*p.dx)
				if !k.dot(row[1:], x, out[to:to+3]) {
					return nil, errNoPicture
				}
			}
			row, above = above, row
		}
	}
	if _, err := io.ReadFull(rows, head[:1]); err != io.EOF { // there is more in it than its header says
		return nil, errNoPicture
	}
	if _, err := io.Copy(io.Discard, k); err != nil { // it was cut off
		return nil, errNoPicture
	}
	return func(x, y int) (byte, byte, byte) {
		at := 3 * (y*k.w + x)
		return out[at], out[at+1], out[at+2]
	}, nil
}

// unfilter gives a row its values back: what was written is the difference to its
// neighbours.
func unfilter(filter byte, row, above []byte, each int) bool {
	for i := range row {
		var left, corner byte
		if i >= each {
			left, corner = row[i-each], above[i-each]
		}
		switch filter {
		case 0:
			return true
		case 1:
			row[i] += left
		case 2:
			row[i] += above[i]
		case 3:
			row[i] += byte((int(left) + int(above[i])) / 2)
		case 4:
			a, b, c := int(left), int(above[i]), int(corner)
			pa, pb, pc := b-c, a-c, a+b-2*c
			pa, pb, pc = max(pa, -pa), max(pb, -pb), max(pc, -pc)
			switch {
			case pa <= pb && pa <= pc:
				row[i] += left
			case pb <= pc:
				row[i] += above[i]
			default:
				row[i] += corner
			}
		default:
			return false
		}
	}
	return true
}

// dot writes the colour of the x-th dot of a row, on white.
func (k *pngKind) dot(row []byte, x int, to []byte) bool {
	alpha := byte(255)
	step := max(k.depth/8, 1) // of 16 bits the higher eight
	at := x * k.samples * step
	switch k.colour {
	case 0, 3:
		v := row[x*k.depth/8]
		if k.depth == 16 {
			v = row[at]
		}
		if k.depth < 8 {
			mask := byte(1)<<k.depth - 1
			v = v >> (8 - k.depth - x*k.depth%8) & mask
			if k.colour == 0 {
				v *= 255 / mask
			}
		}
		if k.colour == 0 {
			to[0], to[1], to[2] = v, v, v
			return true
		}
		if 3*int(v)+3 > len(k.palette) {
			return false
		}
		copy(to, k.palette[3*int(v):3*int(v)+3])
		if int(v) < len(k.alpha) {
			alpha = k.alpha[v]
		}
	case 4:
		to[0], to[1], to[2], alpha = row[at], row[at], row[at], row[at+step]
	default:
		to[0], to[1], to[2] = row[at], row[at+step], row[at+2*step]
		if k.colour == 6 {
			alpha = row[at+3*step]
		}
	}
	if alpha < 255 {
		for i, v := range to {
			to[i] = byte((uint(v)*uint(alpha) + 255*uint(255-alpha) + 127) / 255)
		}
	}
	return true
}
