package screen

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"unicode"

	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// outlines.gz, unpacked, big-endian: the number of glyphs n as u32; n times a key as
// u32, ascending, the advance as u16 and the end of the outline as u32; then the
// outlines. A key is the code point, plus hansKey for the form used in China where
// that differs from the one in Taiwan, plus boldKey. All measures are thousandths of
// the em. An outline is a list of segments, each a byte, 0 to 3, for a move, a line, a
// quadratic and a cubic curve, and the 1, 1, 2 or 3 points of it as differences to the
// point before, x then y, as signed varints; y grows upwards.
//
//go:embed outlines.gz
var packed []byte

const (
	em      = 1000
	hansKey = 1 << 24
	boldKey = 1 << 25
)

// outline is a glyph that any size can be drawn of.
type outline struct {
	advance int
	path    []byte
	dots    []byte // instead of path: 16 rows of 16 dots, two bytes a row
}

// glyphs finds a character in a font file. It is a func and no type of the library's: what
// reflection can reach of that would stay in the program, tables of forty codings with it.
type glyphs func(rune) (outline, bool)

// fonts finds the outline of a character: in this program, else in a font file of the
// machine, else as coarse dots. It is used by one goroutine at a time.
type fonts struct {
	keys    []uint32
	index   []byte // behind the number of glyphs
	paths   []byte
	system  [2]glyphs          // regular and bold; nil where there is none
	from    string             // the regular file's name
	learned map[uint32]outline // of the machine's font, and dots; an empty one for none
	dots    func(rune) (rows []byte, width int, ok bool)
}

func loadFonts() (*fonts, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(z); err == nil {
			return parseFonts(b)
		}
	}
	return nil, fmt.Errorf("screen: the font inside this program: %w", err)
}

const entrySize = 10

func parseFonts(b []byte) (*fonts, error) {
	bad := errors.New("screen: the font inside this program is damaged")
	if len(b) < 4 {
		return nil, bad
	}
	n := int(binary.BigEndian.Uint32(b))
	b = b[4:]
	if n < 0 || n > 1<<16 || len(b) < n*entrySize {
		return nil, bad
	}
	f := &fonts{keys: make([]uint32, n), index: b[:n*entrySize], paths: b[n*entrySize:], learned: map[uint32]outline{}}
	var last uint32
	for i := range n {
		f.keys[i] = binary.BigEndian.Uint32(f.index[i*entrySize:])
		end := binary.BigEndian.Uint32(f.index[i*entrySize+6:])
		if i > 0 && f.keys[i] <= f.keys[i-1] || end < last || uint64(end) > uint64(len(f.paths)) {
			return nil, bad
		}
		last = end
	}
	return f, nil
}

// systemFonts are the font files that names are drawn with, the first that is there:
// regular, bold, and which of the fonts in them is for Taiwan and which for China.
var systemFonts = []struct {
	regular, bold string
	tw, cn        int
}{
	{"/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", "/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc", 3, 2},
	{"/usr/share/fonts/truetype/wqy/wqy-microhei.ttc", "", 0, 0},
	{"/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf", "", 0, 0},
}

// FontFile returns the font file of this machine that has every common Chinese
// character, "" for none: names are then drawn as coarse dots.
func FontFile() string {
	for _, s := range systemFonts {
		if _, err := os.Stat(s.regular); err == nil {
			return s.regular
		}
	}
	return ""
}

// openSystem opens the machine's font. Of the file only what is needed is read, when
// it is needed. The files stay open.
func (f *fonts) openSystem(hans bool) error {
	for _, s := range systemFonts {
		at := s.tw
		if hans {
			at = s.cn
		}
		regular, err := openFace(s.regular, at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("font %s: %w; install it again", s.regular, err)
		}
		f.system, f.from = [2]glyphs{regular, regular}, s.regular
		if bold, err := openFace(s.bold, at); err == nil {
			f.system[1] = bold
		}
		return nil
	}
	return nil
}

// openFace opens a font of a file, which may hold several.
func openFace(path string, at int) (glyphs, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	c, err := sfnt.ParseCollectionReaderAt(file)
	if err == nil {
		var f *sfnt.Font
		if f, err = c.Font(min(at, c.NumFonts()-1)); err == nil {
			buf := new(sfnt.Buffer)
			return func(r rune) (outline, bool) {
				g, err := f.GlyphIndex(buf, r)
				if err != nil || g == 0 {
					return outline{}, false
				}
				o, err := readOutline(f, buf, g)
				return o, err == nil
			}, nil
		}
	}
	file.Close()
	return nil, err
}

// find returns the glyph of a character; ok is false for one that nothing here can draw.
func (f *fonts) find(r rune, bold, hans bool) (o outline, ok bool) {
	if r > 0xFFFFF {
		return outline{}, false
	}
	key := uint32(r)
	if bold {
		key |= boldKey
	}
	if hans {
		if o, ok = f.own(key | hansKey); ok {
			return o, true
		}
	}
	if o, ok = f.own(key); ok {
		return o, true
	}
	if o, ok = f.learned[key]; !ok {
		o = f.learn(r, bold)
		if len(f.learned) >= 2048 { // a name is learned anew sooner than memory fills
			clear(f.learned)
		}
		f.learned[key] = o
	}
	return o, o.advance > 0 || o.path != nil
}

// own looks into the font inside this program.
func (f *fonts) own(key uint32) (outline, bool) {
	i, ok := slices.BinarySearch(f.keys, key)
	if !ok {
		return outline{}, false
	}
	e := f.index[i*entrySize:]
	from := uint32(0)
	if i > 0 {
		from = binary.BigEndian.Uint32(f.index[i*entrySize-4:])
	}
	return outline{advance: int(binary.BigEndian.Uint16(e[4:])), path: f.paths[from:binary.BigEndian.Uint32(e[6:])]}, true
}

// learn asks the machine's font, the other weight, then the dots.
func (f *fonts) learn(r rune, bold bool) outline {
	face := f.system[0]
	if bold {
		face = f.system[1]
	}
	if face != nil {
		if o, ok := face(r); ok {
			return o
		}
	}
	other := uint32(r)
	if !bold {
		other |= boldKey
	}
	if o, ok := f.own(other); ok {
		return o
	}
	return f.dotsOf(r)
}

// dotsOf is a character as coarse dots, nothing for one that there are none of.
func (f *fonts) dotsOf(r rune) outline {
	if f.dots != nil {
		if rows, width, ok := f.dots(r); ok {
			return outline{advance: width * em / 16, dots: rows}
		}
	}
	return outline{}
}

// readOutline takes a glyph out of a font file, in thousandths of the em, to two of them:
// that is a fifth of a dot in the largest letter.
func readOutline(face *sfnt.Font, buf *sfnt.Buffer, g sfnt.GlyphIndex) (outline, error) {
	segments, err := face.LoadGlyph(buf, g, fixed.I(em), nil)
	if err != nil {
		return outline{}, err
	}
	o := outline{path: make([]byte, 0, 256)}
	var x, y int
	for _, s := range segments {
		o.path = append(o.path, byte(s.Op))
		for _, p := range s.Args[:pointsOf(byte(s.Op))] {
			px, py := p.X.Round()&^1, -p.Y.Round()&^1
			o.path = binary.AppendVarint(o.path, int64(px-x))
			o.path = binary.AppendVarint(o.path, int64(py-y))
			x, y = px, py
		}
	}
	advance, err := face.GlyphAdvance(buf, g, fixed.I(em), 0)
	o.advance = advance.Round()
	return o, err
}

// pointsOf is how many points a segment has.
func pointsOf(op byte) int { return [...]int{1, 1, 2, 3}[op] }

// walk hands out the segments of an outline. It stops at a damaged one.
func (o outline) walk(segment func(op byte, p [3][2]int)) {
	x, y := 0, 0
	for b := o.path; len(b) > 0; {
		op := b[0]
		if b = b[1:]; op > 3 {
			return
		}
		var p [3][2]int
		for i := range pointsOf(op) {
			dx, n := binary.Varint(b)
			if n <= 0 {
				return
			}
			dy, m := binary.Varint(b[n:])
			if m <= 0 {
				return
			}
			b = b[n+m:]
			// Nothing sensible is further away than this, and what is not must not overflow.
			x, y = max(min(x+int(max(min(dx, 1<<14), -1<<14)), 1<<14), -1<<14), max(min(y+int(max(min(dy, 1<<14), -1<<14)), 1<<14), -1<<14)
			p[i] = [2]int{x, y}
		}
		segment(op, p)
	}
}

// style is how a text is written.
type style struct {
	px   int
	bold bool
	hans bool // with the forms of China
}

// placed is a glyph in a line.
type placed struct {
	r      rune
	dots   bool    // rather than an outline that may be there: the rest of the word has none
	dx, dy float32 // where it goes, in thousandths of the em; dy upwards
}

// shape puts the glyphs of a line beside and above each other, and returns the width in
// thousandths of the em.
func (f *fonts) shape(s string, st style, to []placed) ([]placed, int) {
	x := 0
	var base, above rune // of the cluster
	coarse := false
	runes := []rune(s)
	for i, r := range runes {
		p := placed{r: r, dx: float32(x)}
		switch {
		case !isThaiMark(r):
			base, above = r, 0
		case r >= 0x0E38 && r <= 0x0E3A: // below
			if slices.Contains([]rune("ญฐฎฏ"), base) {
				p.dy = -190
			}
		default:
			if slices.Contains([]rune("ปฝฟ"), base) {
				p.dx -= 130
			}
			if tone := r >= 0x0E48 && r <= 0x0E4C; tone && (above != 0 || i+1 < len(runes) && runes[i+1] == 0x0E33) {
				p.dy = 205
			} else if !tone {
				above = r
			}
		}
		to = append(to, p)
		o, ok := f.find(r, st.bold, st.hans)
		if !ok {
			o.advance = em * 9 / 10
		}
		x += o.advance
		coarse = coarse || o.dots != nil
	}
	for i := range to { // one name, one hand
		to[i].dots = coarse && unicode.Is(unicode.Han, to[i].r)
	}
	return to, x
}

// isThaiMark reports whether a character stands above or below the one before.
func isThaiMark(r rune) bool {
	return r == 0x0E31 || r >= 0x0E34 && r <= 0x0E3A || r >= 0x0E47 && r <= 0x0E4E
}

// width is how wide a line is, in dots.
func (f *fonts) width(s string, st style) int {
	x := 0
	for _, r := range s {
		if o, ok := f.find(r, st.bold, st.hans); ok {
			x += o.advance
		} else {
			x += em * 9 / 10
		}
	}
	return (x*st.px + em - 1) / em
}

// has reports whether every character of s can be drawn.
func (f *fonts) has(s string) bool {
	for _, r := range s {
		if _, ok := f.find(r, false, false); !ok {
			return false
		}
	}
	return true
}
