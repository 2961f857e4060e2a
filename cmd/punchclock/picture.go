package main

import (
	"bytes"
	endian "encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"

	"punchclock/queue"
)

// What comes as a portrait is the most hostile thing this program opens: a file that
// somebody sent to somebody who sent it to us. So it is measured before it is unpacked,
// from its header alone, and unpacked only where that takes a known amount of memory;
// then it is cut to 3:4, made small once, and written anew. Nothing but the picture goes
// through that: no place, no camera, no name, no thumbnail of what was cut off.

const (
	pictureMost    = 12 << 20 // bytes of a file; a telephone's are half of it
	pictureMemory  = 32 << 20 // bytes that it may take unpacked: 21 megapixels of a camera's JPEG, 8 of a PNG
	pictureSide    = 32       // dots; less is no portrait
	pictureScans   = 100      // of a JPEG, each of which goes through all of it; a camera's has 1, a careful program's 10
	portraitWide   = 240      // dots, at most, of what is kept
	portraitHigh   = 320
	portraitMost   = 128 << 10 // bytes of what is kept; it is about 15,000
	portraitMemory = 1 << 20   // and unpacked; it is about 120,000
)

// errNoPicture is what a file is that cannot be shown.
var errNoPicture = errors.New("this is no JPEG or PNG picture, or a damaged one; save it again as JPEG")

// pictureSize is what the header of a picture says.
type pictureSize struct {
	w, h   int
	memory int64 // to unpack it, at most
	turn   int   // 1 to 8, as in EXIF: how it has to be turned to stand upright
	unpack func([]byte) (dots, error)
}

// dots is a picture that is unpacked: the colour at a place.
type dots func(x, y int) (r, g, b byte)

// shrink makes the picture that is kept of one that came: a JPEG of 240×320 dots at most.
// It takes as long as the picture is large, and lets others go first meanwhile. The error
// is for a person, and says nothing of what is to be seen.
func shrink(b []byte) ([]byte, error) {
	if len(b) > pictureMost {
		return nil, fmt.Errorf("the picture's file is larger than %d MB; save it smaller", pictureMost>>20)
	}
	img, err := openPicture(b, pictureMemory)
	if err != nil {
		return nil, err
	}
	if n := img.Bounds(); n.Dx() < pictureSide || n.Dy() < pictureSide { // what is left of a long strip
		return nil, tooFewDots(n.Dx(), n.Dy())
	}
	var to bytes.Buffer
	if err := jpeg.Encode(&to, img, &jpeg.Options{Quality: 85}); err != nil {
		return nil, fmt.Errorf("write a portrait: %w", err)
	}
	return to.Bytes(), nil
}

// openPicture unpacks a picture that takes so many bytes of memory at most, and makes it
// small.
func openPicture(b []byte, most int64) (out *image.RGBA, err error) {
	size, err := measure(b)
	if err != nil {
		return nil, err
	}
	switch {
	case size.w < pictureSide || size.h < pictureSide:
		return nil, tooFewDots(size.w, size.h)
	case size.memory > most:
		return nil, fmt.Errorf("a picture of %d × %d dots is too large for this clock; save it smaller, 1,000 dots wide is plenty", size.w, size.h)
	}
	defer func() { // a decoder that stumbles over a file must not end the clock
		if recover() != nil {
			out, err = nil, errNoPicture
		}
	}()
	img, err := size.unpack(b)
	if err != nil {
		return nil, errNoPicture
	}
	return scale(img, size.w, size.h, size.turn), nil
}

func tooFewDots(w, h int) error {
	return fmt.Errorf("the picture is only %d × %d dots; use a larger one", w, h)
}

// measure reads the header of a picture.
func measure(b []byte) (pictureSize, error) {
	switch {
	case bytes.HasPrefix(b, []byte(pngHead)):
		return measurePNG(b)
	case bytes.HasPrefix(b, []byte("\xff\xd8\xff")):
		return measureJPEG(b)
	}
	return pictureSize{}, errNoPicture
}

// Markers of a JPEG, from ITU T.81.
const (
	jpegSOF0  = 0xC0 // baseline; C1 is extended, C2 progressive
	jpegSOF2  = 0xC2
	jpegRST0  = 0xD0
	jpegSOS   = 0xDA
	jpegAPP1  = 0xE1
	jpegAPP14 = 0xEE
)

// measureJPEG goes through the segments before the first scan.
func measureJPEG(b []byte) (s pictureSize, err error) {
	s = pictureSize{turn: 1}
	red := false // its three colours are no YCbCr: they are copied once more
	for at := 2; ; {
		for at+1 < len(b) && b[at] == 0xFF && b[at+1] == 0xFF { // filling
			at++
		}
		if at+4 > len(b) || b[at] != 0xFF {
			return s, errNoPicture
		}
		marker, n := b[at+1], int(endian.BigEndian.Uint16(b[at+2:]))
		if n < 2 || at+2+n > len(b) || marker >= jpegRST0 && marker < jpegRST0+8 {
			return s, errNoPicture
		}
		body := b[at+4 : at+2+n]
		at += 2 + n
		switch {
		case marker == jpegSOS:
			if s.w == 0 || bytes.Count(b, []byte{0xFF, jpegSOS}) > pictureScans {
				return s, errNoPicture
			}
			if red {
				s.memory += 4 * int64(s.w) * int64(s.h)
			}
			s.unpack = func(b []byte) (dots, error) { return unpackJPEG(b, s.w, s.h) }
			return s, nil
		case marker == jpegAPP1 && bytes.HasPrefix(body, []byte("Exif\x00\x00")):
			s.turn = exifTurn(body[6:])
		case marker == jpegAPP14 && len(body) >= 12 && string(body[:5]) == "Adobe":
			red = red || body[11] == 0
		case marker >= jpegSOF0 && marker <= jpegSOF2:
			if s.w != 0 || len(body) < 6 || len(body) < 6+3*int(body[5]) || body[5] != 1 && body[5] != 3 { // four colours are a printer's
				return s, errNoPicture
			}
			s.h, s.w = int(endian.BigEndian.Uint16(body[1:])), int(endian.BigEndian.Uint16(body[3:]))
			if s.w == 0 || s.h == 0 {
				return s, errNoPicture
			}
			s.memory = jpegMemory(s.w, s.h, body[6:6+3*int(body[5])], marker == jpegSOF2)
			red = red || body[5] == 3 && body[6] == 'R'
		}
	}
}

// jpegMemory is what image/jpeg allocates: the planes in whole blocks, and four bytes a
// dot more for a progressive one.
func jpegMemory(w, h int, parts []byte, progressive bool) int64 {
	high, wide := 1, 1
	for i := 0; i < len(parts); i += 3 {
		wide, high = max(wide, int(parts[i+1]>>4)), max(high, int(parts[i+1]&15))
	}
	across, down := (w+8*wide-1)/(8*wide), (h+8*high-1)/(8*high)
	var dots int64
	for i := 0; i < len(parts); i += 3 {
		dots += 64 * int64(across) * int64(down) * int64(max(parts[i+1]>>4, 1)) * int64(max(parts[i+1]&15, 1))
	}
	memory := dots
	if progressive {
		memory += 4 * dots
	}
	return memory
}

// unpackJPEG unpacks a JPEG of this size.
func unpackJPEG(b []byte, w, h int) (dots, error) {
	img, err := jpeg.Decode(&gentle{Reader: bytes.NewReader(b)})
	if err != nil || img.Bounds() != image.Rect(0, 0, w, h) {
		return nil, errNoPicture
	}
	switch p := img.(type) {
	case *image.YCbCr:
		return func(x, y int) (byte, byte, byte) {
			i, c := p.YOffset(x, y), p.COffset(x, y)
			return color.YCbCrToRGB(p.Y[i], p.Cb[c], p.Cr[c])
		}, nil
	case *image.RGBA:
		return func(x, y int) (byte, byte, byte) {
			c := p.RGBAAt(x, y)
			return c.R, c.G, c.B
		}, nil
	case *image.Gray:
		return func(x, y int) (byte, byte, byte) {
			v := p.GrayAt(x, y).Y
			return v, v, v
		}, nil
	}
	return nil, errNoPicture
}

// exifTurn finds the orientation in the first directory of a TIFF header, 1 for none.
func exifTurn(b []byte) int {
	var order endian.ByteOrder = endian.BigEndian
	switch {
	case bytes.HasPrefix(b, []byte("II*\x00")):
		order = endian.LittleEndian
	case !bytes.HasPrefix(b, []byte("MM\x00*")):
		return 1
	}
	if len(b) < 8 {
		return 1
	}
	at := int64(order.Uint32(b[4:]))
	if at+2 > int64(len(b)) {
		return 1
	}
	for n := order.Uint16(b[at:]); n > 0; n-- {
		entry := at + 2
		if at += 12; entry+12 > int64(len(b)) {
			return 1
		}
		const orientation, short = 0x0112, 3
		if order.Uint16(b[entry:]) == orientation && order.Uint16(b[entry+2:]) == short {
			if v := order.Uint16(b[entry+8:]); v >= 1 && v <= 8 {
				return int(v)
			}
			return 1
		}
	}
	return 1
}

// gentle hands a file out little by little and rests now and then, for a large one takes
// seconds on a small board. A progressive JPEG is put together at its end without a rest.
type gentle struct {
	*bytes.Reader
	rest queue.Pace
}

func (g *gentle) Read(b []byte) (int, error) {
	g.rest.Step(0)
	return g.Reader.Read(b[:min(len(b), 1024)])
}

// scale cuts a picture to 3:4 from its middle, a little from above, where faces are, and
// makes it small: each dot is the mean of those it stands for. A smaller picture keeps its
// size. The picture is wide × high as it is; turn says how it is to stand.
func scale(img dots, wide, high, turn int) *image.RGBA {
	w, h := wide, high
	if turn >= 5 {
		w, h = h, w
	}
	cut := image.Rect(0, 0, w, h)
	if n := h * portraitWide / portraitHigh; w > n {
		cut.Min.X = (w - n) / 2
		cut.Max.X = cut.Min.X + n
	} else {
		n := min(w*portraitHigh/portraitWide, h)
		cut.Min.Y = (h - n) / 3
		cut.Max.Y = cut.Min.Y + n
	}
	out := image.NewRGBA(image.Rect(0, 0, min(cut.Dx(), portraitWide), min(cut.Dy(), portraitHigh)))
	n := out.Bounds().Dx()
	across, down := float32(n)/float32(cut.Dx()), float32(out.Bounds().Dy())/float32(cut.Dy())
	row, sum := make([]float32, 3*(n+1)), make([]float32, 3*(n+1)) // room for what falls behind the last dot
	to, left := 0, float32(1)                                      // the row that is made, and how much of it is still to come
	write := func() {
		for x := range n {
			c := color.RGBA{A: 255}
			for i, p := range []*uint8{&c.R, &c.G, &c.B} {
				*p = uint8(min(sum[3*x+i]+.5, 255))
			}
			out.SetRGBA(x, to, c)
		}
		clear(sum)
		to, left = to+1, 1
	}
	var rest queue.Pace
	for y := cut.Min.Y; y < cut.Max.Y && to < out.Bounds().Dy(); y++ {
		rest.Step(0)
		clear(row)
		for x := cut.Min.X; x < cut.Max.X; x++ {
			r, g, b := img(turned(x, y, wide, high, turn))
			// The dot covers a part of one dot of the row, or of two.
			begin := float32(x-cut.Min.X) * across
			k := min(int(begin), n-1)
			first := max(min(across, float32(k+1)-begin), 0)
			for i, v := range [3]byte{r, g, b} {
				row[3*k+i] += float32(v) * first
				row[3*k+3+i] += float32(v) * (across - first)
			}
		}
		part := min(down, left)
		for i, v := range row[:3*n] {
			sum[i] += v * part
		}
		left -= part
		if last := y == cut.Max.Y-1; left < down/1024 || last {
			if write(); down > part {
				for i, v := range row[:3*n] {
					sum[i] += v * (down - part)
				}
				left -= down - part
			}
		}
	}
	return out
}

// turned is where a dot of a picture that stands upright is found in the picture as it
// is, which is w × h.
func turned(x, y, w, h, turn int) (int, int) {
	switch turn {
	case 2:
		return w - 1 - x, y
	case 3:
		return w - 1 - x, h - 1 - y
	case 4:
		return x, h - 1 - y
	case 5:
		return y, x
	case 6:
		return y, h - 1 - x
	case 7:
		return w - 1 - y, h - 1 - x
	case 8:
		return w - 1 - y, x
	}
	return x, y
}
