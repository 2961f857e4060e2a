package main

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"punchclock/ui/screen"
	"punchclock/ui/text"
)

// A person's own copy of the punches, as a PDF: what is stored, what became of it, each
// record's hash, and how to check them. The records themselves are attached as JSON
// lines. The document is in the person's language.
//
// Every letter that is used is in the file, as the outline that the door's screen has of
// it: of the font in this program, else of Debian's Noto fonts. They are put into fonts of
// Type 3, a procedure for each letter, which do for the outlines of any kind of font
// file, and stand beside a table of the characters they mean (ToUnicode), so that the text
// can be searched and copied. Letters are placed by their own widths, Thai marks above
// and below each other; there is no kerning, and no other shaping.
//
// A Chinese character that no font here has is set in the collections that PDF readers
// bring (Adobe-CNS1, Adobe-GB1); any other letter without a font is shown as "?" and stands
// in the attachment. The document says so where it comes to that.

// personCopy is whom the copy is for, and the state of the chain when it was made.
type personCopy struct {
	Employee  string    `json:"employee_no"`
	Name      string    `json:"name"`
	Language  string    `json:"language"`
	From      time.Time `json:"valid_from,omitzero"`
	Until     time.Time `json:"valid_until,omitzero"`
	Device    string    `json:"device"`
	Place     string    `json:"place"`
	LastSeq   uint64    `json:"last_seq"`
	LastHash  string    `json:"last_hash"`
	KeepYears int       `json:"keep_years"`
}

// holds reports whether a record is this person's, and not another's who has or had the
// number.
func (p *personCopy) holds(r *exportRow) bool {
	if r.Damaged != "" || r.Employee != p.Employee {
		return false
	}
	at := time.UnixMilli(r.TimeMS)
	if r.CorrectedMS != nil {
		at = time.UnixMilli(*r.CorrectedMS)
	}
	if linked, err := time.Parse(milliLayout, r.Linked); err == nil {
		at = linked
	}
	return (p.From.IsZero() || !at.Before(p.From)) && (p.Until.IsZero() || at.Before(p.Until))
}

const (
	pdfWide, pdfHigh = 595, 842 // A4 in points
	pdfMargin        = 42
	pdfRoom          = pdfWide - 2*pdfMargin
	pdfCodes         = 255 // letters in one font of Type 3, from code 1 on
)

// pdfPage is what is written on the pages, from the top down.
type pdfPage struct {
	letters *screen.Letters
	pages   []*bytes.Buffer
	y       int

	codes   map[pdfLetter]int // place in used
	used    []screen.Letter
	unfound bool // a character had no font here
}

// pdfLetter is one form of one character.
type pdfLetter struct {
	r    rune
	face int
}

// pdfCell is a text at a place from the left, in points. Where room is not 0 it is written
// smaller until it fits.
type pdfCell struct {
	x, room int
	text    string
	heavy   bool
}

// line writes cells side by side.
func (p *pdfPage) line(size int, cells ...pdfCell) {
	step := size + size/2
	if p.y < pdfMargin+step || len(p.pages) == 0 {
		p.pages = append(p.pages, &bytes.Buffer{})
		p.y = pdfHigh - pdfMargin
	}
	p.y -= step
	for _, c := range cells {
		p.cell(size, c)
	}
}

// together begins a page where so many points have no room on this one.
func (p *pdfPage) together(points int) {
	if p.y < pdfMargin+points {
		p.y = 0
	}
}

// text writes a sentence over as many lines as it takes.
func (p *pdfPage) text(size int, s string) {
	for s != "" {
		letters, _ := p.letters.Line(s, false)
		end := len(letters)
		for i, l := range letters {
			if (l.X+l.Advance)*size > pdfRoom*1000 {
				end = breakBefore(letters, i)
				break
			}
		}
		at := len(string([]rune(s)[:end]))
		p.line(size, pdfCell{text: s[:at]})
		s = strings.TrimLeft(s[at:], " ")
	}
}

// breakBefore is where a line ends of which the i-th letter has no room any more: at a
// space, else between two characters of a script that is written without any, else there.
func breakBefore(letters []screen.Letter, i int) int {
	for n := i; n > i/2; n-- {
		switch r := letters[n].Rune; {
		case letters[n-1].Rune == ' ':
			return n
		case unicode.Is(unicode.Han, r) && letters[n-1].Rune > 0x7F, // not before ，。
			unicode.Is(unicode.Thai, r) && strings.ContainsRune("เแโใไ", r): // a vowel that begins a syllable
			return n
		}
	}
	return max(i, 1)
}

func (p *pdfPage) cell(size int, c pdfCell) {
	letters, width := p.letters.Line(c.text, c.heavy)
	points := float64(size)
	if c.room > 0 && width*size > c.room*1000 {
		points = float64(c.room) * 1000 / float64(width)
	}
	w := p.pages[len(p.pages)-1]
	fmt.Fprintf(w, "BT %d %d Td ", pdfMargin+c.x, p.y)
	var codes []byte
	font, rise := 0, 0
	flush := func() {
		if len(codes) > 0 {
			fmt.Fprintf(w, "<%X> Tj ", codes)
			codes = codes[:0]
		}
	}
	x := 0 // where the reader's pen is, in thousandths of the em
	for _, l := range letters {
		f, code, reader := p.code(l)
		if f != font || l.Y != rise || x != l.X || reader {
			flush()
		}
		if f != font {
			fmt.Fprintf(w, "/F%d %.4g Tf ", f, points)
			font = f
		}
		if l.Y != rise {
			fmt.Fprintf(w, "%.4g Ts ", float64(l.Y)*points/1000)
			rise = l.Y
		}
		if x != l.X {
			fmt.Fprintf(w, "[%d] TJ ", x-l.X)
			x = l.X
		}
		if reader {
			fmt.Fprintf(w, "<%s> Tj ", pdfHex(string(l.Rune)))
			x += 1000
			continue
		}
		codes = append(codes, byte(code))
		x += p.used[p.codes[p.form(l)]].Advance
	}
	flush()
	if rise != 0 {
		w.WriteString("0 Ts ")
	}
	w.WriteString("ET\n")
}

// form is the letter that is drawn for l.
func (p *pdfPage) form(l screen.Letter) pdfLetter {
	if l.Path == nil {
		return pdfLetter{'?', 0}
	}
	return pdfLetter{l.Rune, l.Face}
}

// code returns the font and the code of a letter; reader says that the reader's own font
// is to show it, which is font 1.
func (p *pdfPage) code(l screen.Letter) (font, code int, reader bool) {
	if l.Path == nil {
		p.unfound = true
		if unicode.Is(unicode.Han, l.Rune) {
			return 1, 0, true
		}
		mark, _ := p.letters.Line("?", false)
		l = mark[0]
	}
	k := pdfLetter{l.Rune, l.Face}
	i, known := p.codes[k]
	if !known {
		i = len(p.used)
		p.codes[k] = i
		p.used = append(p.used, l)
	}
	return 2 + i/pdfCodes, 1 + i%pdfCodes, false
}

// pdfText is ASCII text inside parentheses.
func pdfText(s string) string {
	return strings.NewReplacer("(", "\\(", ")", "\\)", "\\", "\\\\").Replace(s)
}

func pdfHex(s string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, "%04X", u)
	}
	return b.String()
}

// writeCopy writes the document. records are the person's rows as JSON lines. whole says
// that this machine has a font for every letter of it.
func writeCopy(w io.Writer, who personCopy, rows []exportRow, records []byte, now time.Time) (whole bool, err error) {
	say := text.For(who.Language)
	letters, err := screen.OpenLetters(say.Language() == "zh-CN")
	if err != nil {
		return false, err
	}
	p := &pdfPage{letters: letters, codes: map[pdfLetter]int{}}
	at := func(x, room int, s string) pdfCell { return pdfCell{x: x, room: room, text: s} }
	p.line(16, pdfCell{room: pdfRoom, text: say.Copy("title"), heavy: true})
	p.line(10, pdfCell{room: pdfRoom, text: say.Copy("who", strings.TrimSpace(who.Employee+" "+who.Name)), heavy: true})
	p.text(10, say.Copy("clock", who.Place, who.Device))
	p.text(10, say.Copy("made", now.Format("2006-01-02 15:04:05 -07:00"), len(rows)))
	p.line(6)
	const when, kind, what, where, far = 40, 140, 195, 335, 385
	cells := func(no, time, kinds, outcome, reader, sent string) []pdfCell {
		return []pdfCell{at(0, when-4, no), at(when, kind-when-4, time), at(kind, what-kind-4, kinds), at(what, where-what-4, outcome), at(where, far-where-4, reader), at(far, pdfRoom-far, sent)}
	}
	p.line(8, cells("#", say.Copy("time"), say.Copy("kind"), say.Copy("outcome"), say.Copy("reader"), say.Copy("sent"))...)
	for _, r := range rows {
		moment := r.Time
		if r.CorrectedMS != nil {
			moment = time.UnixMilli(*r.CorrectedMS).In(now.Location()).Format(milliLayout)
		}
		moment = strings.Replace(moment, "T", " ", 1)
		outcome := say.Copy(r.Outcome)
		if r.Audit != nil {
			outcome = r.Audit.Act
		}
		if r.Badge != "" && strings.HasPrefix(r.Badge, "key:") {
			outcome += " " + say.Copy("typed")
		}
		if r.Supersedes != 0 {
			outcome += fmt.Sprintf(" (#%d)", r.Supersedes)
		}
		var sent []string
		for _, dest := range slices.Sorted(maps.Keys(r.Deliveries)) {
			sent = append(sent, dest+" "+say.Copy("state_"+r.Deliveries[dest].State))
		}
		p.together(12 + 9)
		p.line(8, cells(fmt.Sprint(r.Seq), moment[:min(len(moment), 23)], say.Kind(r.Kind), outcome, r.Reader, strings.Join(sent, ", "))...)
		p.line(6, at(when, 0, r.Hash))
	}
	p.line(8)
	p.line(10, pdfCell{room: pdfRoom, text: say.Copy("proof"), heavy: true})
	for words := range strings.SplitSeq(say.Copy("check"), "\n") {
		p.text(8, words)
	}
	p.text(8, say.Copy("head", who.LastSeq))
	p.line(7, at(0, 0, who.LastHash))
	if who.KeepYears > 0 {
		p.text(8, say.Copy("kept", who.KeepYears))
	}
	whole = !p.unfound
	if !whole {
		p.text(8, say.Copy("fonts"))
	}
	return whole, p.write(w, say, "punches-"+who.Employee+".jsonl", records)
}

// write puts the pages and the attachment into a file.
func (p *pdfPage) write(w io.Writer, say text.Catalog, name string, attached []byte) error {
	var b bytes.Buffer
	var at []int
	object := func(format string, args ...any) int {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n", len(at))
		fmt.Fprintf(&b, format, args...)
		b.WriteString("\nendobj\n")
		return len(at)
	}
	stream := func(dict string, data []byte) int {
		var z bytes.Buffer
		c := zlib.NewWriter(&z)
		c.Write(data)
		c.Close()
		return object("<< %s /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream", dict, z.Len(), z.Bytes())
	}
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	const pages = 2 // its object is written last but is spoken of by every page
	object("<< /Type /Catalog /Pages %d 0 R /Lang (%s) /ViewerPreferences << /DisplayDocTitle true >> /Names << /EmbeddedFiles << /Names [(%s) 3 0 R] >> >> >>", pages, say.Language(), pdfText(name))
	at = append(at, 0) // of the pages
	object("<< /Type /Filespec /F (%s) /UF (%s) /AFRelationship /Source /EF << /F 4 0 R >> >>", pdfText(name), pdfText(name))
	stream(fmt.Sprintf("/Type /EmbeddedFile /Subtype /application#2Fjson /Params << /Size %d >>", len(attached)), attached)
	info := object("<< /Title <FEFF%s> /Producer (punchclock %s) >>", pdfHex(say.Copy("title")), pdfText(version))
	var fonts strings.Builder
	if p.unfound {
		fmt.Fprintf(&fonts, "/F1 %d 0 R ", readersFont(object, say.Language() == "zh-CN"))
	}
	for i := 0; i < len(p.used); i += pdfCodes {
		fmt.Fprintf(&fonts, "/F%d %d 0 R ", 2+i/pdfCodes, ownFont(object, stream, p.used[i:min(i+pdfCodes, len(p.used))]))
	}
	var kids strings.Builder
	for _, page := range p.pages {
		content := stream("", page.Bytes())
		fmt.Fprintf(&kids, "%d 0 R ", object("<< /Type /Page /Parent %d 0 R /Contents %d 0 R >>", pages, content))
	}
	at[pages-1] = b.Len()
	fmt.Fprintf(&b, "%d 0 obj\n<< /Type /Pages /Count %d /Kids [%s] /MediaBox [0 0 %d %d] /Resources << /Font << %s>> >> >>\nendobj\n", pages, len(p.pages), kids.String(), pdfWide, pdfHigh, fonts.String())
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, offset := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", offset)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, info, start)
	_, err := w.Write(b.Bytes())
	return err
}

// readersFont is a Chinese font that the PDF reader brings.
func readersFont(object func(string, ...any) int, simplified bool) int {
	base, cmap, ordering := "MSung-Light", "UniCNS-UTF16-H", "CNS1"
	if simplified {
		base, cmap, ordering = "STSong-Light", "UniGB-UTF16-H", "GB1"
	}
	about := object("<< /Type /FontDescriptor /FontName /%s /Flags 6 /FontBBox [0 -200 1000 900] /ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 880 /StemV 80 >>", base)
	face := object("<< /Type /Font /Subtype /CIDFontType0 /BaseFont /%s /CIDSystemInfo << /Registry (Adobe) /Ordering (%s) /Supplement 0 >> /DW 1000 /FontDescriptor %d 0 R >>", base, ordering, about)
	return object("<< /Type /Font /Subtype /Type0 /BaseFont /%s-%s /Encoding /%s /DescendantFonts [%d 0 R] >>", base, cmap, cmap, face)
}

// ownFont is a font of Type 3 of these letters, which have the codes from 1 on.
func ownFont(object func(string, ...any) int, stream func(string, []byte) int, letters []screen.Letter) int {
	var procs, names, widths, means strings.Builder
	for i, l := range letters {
		low, high := [2]int{1 << 15, 1 << 15}, [2]int{-1 << 15, -1 << 15}
		var path strings.Builder
		pen := [2]int{}
		l.Path(func(op byte, pt [3][2]int) {
			n := 1
			switch op {
			case 0:
				if path.Len() > 0 {
					path.WriteString("h ")
				}
				fmt.Fprintf(&path, "%d %d m ", pt[0][0], pt[0][1])
			case 1:
				fmt.Fprintf(&path, "%d %d l ", pt[0][0], pt[0][1])
			case 2: // PDF has none: as a cubic one
				n = 2
				third := func(of [2]int, k int) int { return of[k] + (pt[0][k]-of[k])*2/3 }
				fmt.Fprintf(&path, "%d %d %d %d %d %d c ", third(pen, 0), third(pen, 1), third(pt[1], 0), third(pt[1], 1), pt[1][0], pt[1][1])
			case 3:
				n = 3
				fmt.Fprintf(&path, "%d %d %d %d %d %d c ", pt[0][0], pt[0][1], pt[1][0], pt[1][1], pt[2][0], pt[2][1])
			}
			for _, q := range pt[:n] {
				for k := range 2 {
					low[k], high[k] = min(low[k], q[k]), max(high[k], q[k])
				}
			}
			pen = pt[n-1]
		})
		if path.Len() > 0 {
			path.WriteString("h f")
		} else {
			low, high = [2]int{}, [2]int{}
		}
		proc := stream("", fmt.Appendf(nil, "%d 0 %d %d %d %d d1 %s", l.Advance, low[0], low[1], high[0], high[1], path.String()))
		fmt.Fprintf(&procs, "/g%d %d 0 R ", i+1, proc)
		fmt.Fprintf(&names, "/g%d ", i+1)
		fmt.Fprintf(&widths, "%d ", l.Advance)
		fmt.Fprintf(&means, "<%02X> <%s>\n", i+1, pdfHex(string(l.Rune)))
	}
	table := "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n/CMapName /punchclock def\n/CMapType 2 def\n1 begincodespacerange\n<00> <FF>\nendcodespacerange\n"
	lines := strings.SplitAfter(strings.TrimSuffix(means.String(), "\n"), "\n")
	for some := range slices.Chunk(lines, 100) { // as many as may stand together
		table += fmt.Sprintf("%d beginbfchar\n%s\nendbfchar\n", len(some), strings.TrimSuffix(strings.Join(some, ""), "\n"))
	}
	table += "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend"
	unicodes := stream("", []byte(table))
	return object("<< /Type /Font /Subtype /Type3 /FontBBox [0 0 0 0] /FontMatrix [0.001 0 0 0.001 0 0] /CharProcs << %s>> /Encoding << /Type /Encoding /Differences [1 %s] >> /FirstChar 1 /LastChar %d /Widths [%s] /Resources << >> /ToUnicode %d 0 R >>",
		procs.String(), names.String(), len(letters), widths.String(), unicodes)
}
