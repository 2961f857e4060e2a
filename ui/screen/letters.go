package screen

// Letters are the letters of this package for a document: the font inside this program,
// and what it lacks of the font files of the machine. It is used by one goroutine at a
// time.
type Letters struct {
	f    *fonts
	hans bool
	all  []glyphs // of the machine, in the regular weight
}

// OpenLetters opens them; hans is for the forms of China. A machine without font files is
// no error: then the font inside this program is all there is, which has the letters of
// every language that the clock speaks, and the Chinese characters of its own sentences.
func OpenLetters(hans bool) (*Letters, error) {
	f, err := loadFonts()
	if err == nil {
		err = f.openSystem(hans)
	}
	if err != nil {
		return nil, err
	}
	l := &Letters{f: f, hans: hans}
	for _, path := range []string{"/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf", "/usr/share/fonts/truetype/noto/NotoSansThai-Regular.ttf"} {
		if face, err := openFace(path, 0); err == nil {
			l.all = append(l.all, face)
		}
	}
	return l, nil
}

// Letter is one letter of a line.
type Letter struct {
	Rune rune
	// Face tells apart the letters that look differently and are the same character.
	Face int
	// X and Y are where it goes, from the beginning of the line, and Advance is how far
	// the next one is, in thousandths of the em; Y grows upwards. Thai marks go above and
	// below the letter before; nothing else is shaped.
	X, Y, Advance int
	// Path hands out the outline: 0 to 3 for a move, a line, a quadratic and a cubic
	// curve, and their 1, 1, 2 or 3 points. It is nil for a character that nothing here
	// can draw.
	Path func(segment func(op byte, p [3][2]int))
}

// The faces.
const (
	regular = iota
	bold
)

// Line puts the letters of a text side by side, and returns the width of it in thousandths
// of the em.
func (l *Letters) Line(s string, heavy bool) (out []Letter, width int) {
	face := regular
	if heavy || !l.has(s) { // one name, one hand
		face = bold
	}
	places, _ := l.f.shape(s, style{bold: face == bold, hans: l.hans}, nil)
	at := 0 // where shape, which may know a letter of another width, has the next one
	for _, p := range places {
		o, ok := l.find(p.r, face)
		if !ok {
			o.advance = em
		}
		one := Letter{Rune: p.r, Face: face, X: width + int(p.dx) - at, Y: int(p.dy), Advance: o.advance}
		if ok {
			one.Path = o.walk
		}
		out = append(out, one)
		if o, ok = l.f.find(p.r, face == bold, l.hans); !ok {
			o.advance = em * 9 / 10
		}
		at += o.advance
		width += one.Advance
	}
	return out, width
}

// has reports whether a text can be written in the regular weight.
func (l *Letters) has(s string) bool {
	for _, r := range s {
		if _, ok := l.plain(r); !ok {
			return false
		}
	}
	return true
}

// plain is a character in the regular weight.
func (l *Letters) plain(r rune) (outline, bool) {
	if l.hans {
		if o, ok := l.f.own(uint32(r) | hansKey); ok {
			return o, true
		}
	}
	if o, ok := l.f.own(uint32(r)); ok {
		return o, true
	}
	faces := l.all
	if l.f.system[0] != nil {
		faces = append(faces[:len(faces):len(faces)], l.f.system[0])
	}
	for _, face := range faces {
		if o, ok := face(r); ok {
			return o, true
		}
	}
	return outline{}, false
}

func (l *Letters) find(r rune, face int) (outline, bool) {
	if face == regular {
		return l.plain(r)
	}
	o, ok := l.f.find(r, true, l.hans)
	return o, ok && o.path != nil
}
