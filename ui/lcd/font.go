package lcd

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// glyphs.gz, unpacked: the number of glyphs n as u32, then n code points in ascending
// order, each as its distance from the one before as u32, then n bytes of width (8 or 16
// dots), then n pictures of 16 rows: the left 8 dots of each, then the right 8 dots of
// each, the first dot in the highest bit. Big-endian. In this order it packs best.
//
//go:embed glyphs.gz
var packed []byte

const glyphHeight = 16

// font finds the picture of a character.
type font struct {
	points []rune
	widths []byte
	rows   []byte
}

func loadFont() (*font, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("display: the font inside this program: %w", err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("display: the font inside this program: %w", err)
	}
	return parseFont(b)
}

// Dots returns what finds the picture of a character in the font of this program: 16 rows
// of two bytes, the first dot in the highest bit, and 8 or 16 dots wide.
func Dots() (find func(r rune) (rows []byte, width int, ok bool), err error) {
	f, err := loadFont()
	if err != nil {
		return nil, err
	}
	return f.glyph, nil
}

func parseFont(b []byte) (*font, error) {
	bad := errors.New("display: the font inside this program is damaged")
	if len(b) < 4 {
		return nil, bad
	}
	n := int(binary.BigEndian.Uint32(b))
	if b = b[4:]; n < 0 || n > 1<<16 || len(b) != n*(4+1+2*glyphHeight) {
		return nil, bad
	}
	f := &font{points: make([]rune, n), widths: slices.Clone(b[4*n : 5*n]), rows: slices.Clone(b[5*n:])}
	at := uint32(0)
	var halves [2 * glyphHeight]byte
	for i := range n {
		by := binary.BigEndian.Uint32(b[4*i:])
		if by == 0 || by > utf8.MaxRune-at || f.widths[i] != 8 && f.widths[i] != 16 {
			return nil, bad
		}
		at += by
		f.points[i] = rune(at)
		rows := f.rows[2*glyphHeight*i:]
		copy(halves[:], rows)
		for y := range glyphHeight {
			rows[2*y], rows[2*y+1] = halves[y], halves[glyphHeight+y]
		}
	}
	return f, nil
}

// glyph returns the rows of a character and its width in dots; ok is false for one
// that the font does not have.
func (f *font) glyph(r rune) (rows []byte, width int, ok bool) {
	i, ok := slices.BinarySearch(f.points, r)
	if !ok {
		return nil, 0, false
	}
	return f.rows[2*glyphHeight*i : 2*glyphHeight*(i+1)], int(f.widths[i]), true
}

// has reports whether the font has every character of s.
func (f *font) has(s string) bool {
	for _, r := range s {
		if _, _, ok := f.glyph(r); !ok {
			return false
		}
	}
	return true
}

// width is how many dots wide s is.
func (f *font) width(s string) (n int) {
	for _, r := range s {
		if _, w, ok := f.glyph(r); ok {
			n += w
		}
	}
	return n
}
