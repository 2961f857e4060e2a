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
	"unicode/utf16"

	"punchclock/ui/text"
)

// A person's own copy of the punches, as a PDF: what is stored, what became of it, each
// record's hash, and how to check them. The records themselves are attached as JSON
// lines. The document is in the person's language where that is Chinese or English, and
// in English otherwise.
//
// Chinese is set in the character collections that every PDF reader brings (Adobe-CNS1
// and Adobe-GB1), so that no font has to be on the clock or in the file; a letter that
// neither those nor Helvetica have, as of Thai or Vietnamese names, is shown as "?" and
// stands in the attachment.

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
)

// pdfPage is what is written on the pages, from the top down.
type pdfPage struct {
	pages []*bytes.Buffer
	y     int
}

// line writes cells at places from the left, in points.
func (p *pdfPage) line(size int, cells ...pdfCell) {
	step := size + size/2
	if p.y < pdfMargin+step || len(p.pages) == 0 {
		p.pages = append(p.pages, &bytes.Buffer{})
		p.y = pdfHigh - pdfMargin
	}
	p.y -= step
	w := p.pages[len(p.pages)-1]
	for _, c := range cells {
		fmt.Fprintf(w, "BT %d %d Td ", pdfMargin+c.x, p.y)
		for run, wide := range runs(c.text) {
			switch {
			case c.fixed:
				fmt.Fprintf(w, "/F3 %d Tf (%s) Tj ", size, pdfText(run))
			case wide:
				fmt.Fprintf(w, "/F2 %d Tf <%s> Tj ", size, pdfHex(run))
			default:
				fmt.Fprintf(w, "/F1 %d Tf (%s) Tj ", size, pdfText(run))
			}
		}
		w.WriteString("ET\n")
	}
}

type pdfCell struct {
	x     int
	text  string
	fixed bool // every letter of one width, for hashes
}

// runs splits a text where it goes from Latin letters to Chinese ones and back.
func runs(s string) func(func(string, bool) bool) {
	return func(yield func(string, bool) bool) {
		from, was := 0, false
		for i, r := range s {
			wide := r >= 0x2000
			if i > from && wide != was && !yield(s[from:i], was) {
				return
			}
			if i == 0 || wide != was {
				from, was = i, wide
			}
		}
		if from < len(s) {
			yield(s[from:], was)
		}
	}
}

// pdfText is Latin text inside parentheses, in WinAnsi.
func pdfText(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '(' || r == ')' || r == '\\':
			b.WriteByte('\\')
			b.WriteByte(byte(r))
		case r >= ' ' && r < 0x7f:
			b.WriteByte(byte(r))
		case r >= 0xa1 && r <= 0xff:
			fmt.Fprintf(&b, "\\%03o", r)
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}

func pdfHex(s string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, "%04X", u)
	}
	return b.String()
}

// writeCopy writes the document. records are the person's rows as JSON lines.
func writeCopy(w io.Writer, who personCopy, rows []exportRow, records []byte, now time.Time) error {
	say := text.For(who.Language)
	if l := say.Language(); l != "zh-TW" && l != "zh-CN" {
		say = text.For("en")
	}
	p := &pdfPage{}
	at := func(x int, s string) pdfCell { return pdfCell{x: x, text: s} }
	p.line(16, at(0, say.Office("copy.title")))
	p.line(10, at(0, say.Office("copy.who", strings.TrimSpace(who.Employee+" "+who.Name))))
	p.line(10, at(0, say.Office("copy.clock", who.Place, who.Device)))
	p.line(10, at(0, say.Office("copy.made", now.Format("2006-01-02 15:04:05 -07:00"), len(rows))))
	p.line(6)
	const when, kind, what, where, far = 52, 170, 220, 350, 410
	p.line(8, at(0, "#"), at(when, say.Office("copy.time")), at(kind, say.Office("copy.kind")), at(what, say.Office("copy.outcome")), at(where, say.Office("reader")), at(far, say.Office("copy.sent")))
	for _, r := range rows {
		moment := r.Time
		if r.CorrectedMS != nil {
			moment = time.UnixMilli(*r.CorrectedMS).In(now.Location()).Format(milliLayout)
		}
		moment = strings.Replace(moment, "T", " ", 1)
		outcome := say.Office("copy." + r.Outcome)
		if r.Audit != nil {
			outcome = r.Audit.Act
		}
		if r.Badge != "" && strings.HasPrefix(r.Badge, "key:") {
			outcome += " " + say.Office("copy.typed")
		}
		if r.Supersedes != 0 {
			outcome += fmt.Sprintf(" (#%d)", r.Supersedes)
		}
		var sent []string
		for _, dest := range slices.Sorted(maps.Keys(r.Deliveries)) {
			sent = append(sent, dest+" "+say.Office("copy.state."+r.Deliveries[dest].State))
		}
		p.line(8, at(0, fmt.Sprint(r.Seq)), at(when, moment[:min(len(moment), 23)]), at(kind, say.Kind(r.Kind)), at(what, outcome), at(where, r.Reader), at(far, strings.Join(sent, ", ")))
		p.line(6, pdfCell{x: when, text: r.Hash, fixed: true})
	}
	p.line(8)
	p.line(10, at(0, say.Office("copy.proof")))
	for _, words := range strings.Split(say.Office("copy.check"), "\n") {
		p.line(8, at(0, words))
	}
	p.line(8, at(0, say.Office("copy.head", who.LastSeq)))
	p.line(7, pdfCell{text: who.LastHash, fixed: true})
	if who.KeepYears > 0 {
		p.line(8, at(0, say.Office("copy.kept", who.KeepYears)))
	}
	return p.write(w, say.Language() == "zh-CN", "punches-"+who.Employee+".jsonl", records)
}

// write puts the pages and the attachment into a file.
func (p *pdfPage) write(w io.Writer, simplified bool, name string, attached []byte) error {
	base, cmap, ordering := "MSung-Light", "UniCNS-UTF16-H", "CNS1"
	if simplified {
		base, cmap, ordering = "STSong-Light", "UniGB-UTF16-H", "GB1"
	}
	var b bytes.Buffer
	var at []int
	object := func(format string, args ...any) {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n", len(at))
		fmt.Fprintf(&b, format, args...)
		b.WriteString("\nendobj\n")
	}
	stream := func(dict string, data []byte) {
		var z bytes.Buffer
		c := zlib.NewWriter(&z)
		c.Write(data)
		c.Close()
		object("<< %s /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream", dict, z.Len(), z.Bytes())
	}
	const fonts, first = 3, 10
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	object("<< /Type /Catalog /Pages 2 0 R /Names << /EmbeddedFiles << /Names [(%s) 8 0 R] >> >> >>", pdfText(name))
	var kids strings.Builder
	for i := range p.pages {
		fmt.Fprintf(&kids, "%d 0 R ", first+2*i)
	}
	object("<< /Type /Pages /Count %d /Kids [%s] /MediaBox [0 0 %d %d] /Resources << /Font << /F1 %d 0 R /F2 %d 0 R /F3 %d 0 R >> >> >>", len(p.pages), kids.String(), pdfWide, pdfHigh, fonts, fonts+1, fonts+4)
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
	object("<< /Type /Font /Subtype /Type0 /BaseFont /%s-%s /Encoding /%s /DescendantFonts [5 0 R] >>", base, cmap, cmap)
	object("<< /Type /Font /Subtype /CIDFontType0 /BaseFont /%s /CIDSystemInfo << /Registry (Adobe) /Ordering (%s) /Supplement 0 >> /DW 1000 /FontDescriptor 6 0 R >>", base, ordering)
	object("<< /Type /FontDescriptor /FontName /%s /Flags 6 /FontBBox [0 -200 1000 900] /ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 880 /StemV 80 >>", base)
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>")
	object("<< /Type /Filespec /F (%s) /UF (%s) /EF << /F 9 0 R >> >>", pdfText(name), pdfText(name))
	stream(fmt.Sprintf("/Type /EmbeddedFile /Subtype /application#2Fjson /Params << /Size %d >>", len(attached)), attached)
	for i, page := range p.pages {
		object("<< /Type /Page /Parent 2 0 R /Contents %d 0 R >>", first+2*i+1)
		stream("", page.Bytes())
	}
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, offset := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", offset)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, start)
	_, err := w.Write(b.Bytes())
	return err
}
