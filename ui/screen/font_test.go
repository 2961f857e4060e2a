package screen

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/font/sfnt"

	"punchclock/ui/text"
)

var update = flag.Bool("update", false, "make outlines.gz and the golden pictures anew")

// Debian's fonts-noto-core and fonts-noto-cjk.
const (
	latinFont = "/usr/share/fonts/truetype/noto/NotoSans-"
	thaiFont  = "/usr/share/fonts/truetype/noto/NotoSansThai-"
	hanFont   = "/usr/share/fonts/opentype/noto/NotoSansCJK-"
)

// plainOnly are the beginnings of the keys of what is written in the regular weight and
// never in the bold one; both are what both do.
var (
	plainOnly = []string{"greet.", "idle.sent", "idle.pending", "idle.parked", "online", "offline", "space.low", "outbox.mended", "status.", "for.", "weekday.", "date.",
		"mine.wait", "mine.today", "delivery.", "pin.number", "pin.password"}
	both = []string{"outcome.stored", "outcome.corrected", "outcome.duplicate", "mine.superseded", "status.title", "status.ready", "status.clock", "status.storage"}
)

// alphabet is every character that the font has to have in a weight. A character that is
// met in the other weight all the same has that one's form.
func alphabet(bold bool) []rune {
	set := map[rune]bool{}
	span := func(from, to rune) {
		for r := from; r <= to; r++ {
			set[r] = true
		}
	}
	span(0x20, 0x7E)     // ASCII
	span(0x0E01, 0x0E3A) // Thai
	span(0x0E40, 0x0E5B)
	for _, r := range "‘’“”–—…•○●▲■▶✓⚠·，。、：；！？（）「」％＋－" {
		set[r] = true
	}
	if bold { // names
		span(0xA1, 0x17F)    // western and central European
		span(0x1EA0, 0x1EF9) // Vietnamese
		for _, r := range "ƠơƯư\u0300\u0301\u0302\u0303\u0306\u0309\u031B\u0323" {
			set[r] = true
		}
	}
	begins := func(k text.Key, with []string) bool {
		return slices.ContainsFunc(with, func(w string) bool { return strings.HasPrefix(string(k), w) })
	}
	for _, tag := range text.Languages() {
		for k, s := range text.For(tag).Words() {
			if begins(k, both) || begins(k, plainOnly) != bold {
				for _, r := range s {
					set[r] = true
				}
			}
		}
	}
	var all []rune
	for r := range set {
		all = append(all, r)
	}
	slices.Sort(all)
	return all
}

// face opens a font of a file, by its full name, else the first.
func face(t *testing.T, path, name string) *sfnt.Font {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("not compared with the fonts it is made from: %v (Debian: fonts-noto-core, fonts-noto-cjk)", err)
	}
	c, err := sfnt.ParseCollection(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.NumFonts() {
		f, err := c.Font(i)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.Name(nil, sfnt.NameIDFull); err == nil && (n == name || c.NumFonts() == 1) {
			return f
		}
	}
	t.Fatalf("%s holds no font %s", path, name)
	return nil
}

type madeGlyph struct {
	key uint32
	outline
}

func makeFont(t *testing.T) []byte {
	var all []madeGlyph
	var buf sfnt.Buffer
	for _, w := range []struct {
		file, name string
		key        uint32
	}{{"Regular", "", 0}, {"Bold", " Bold", boldKey}} {
		tc := face(t, hanFont+w.file+".ttc", "Noto Sans CJK TC"+w.name)
		sc := face(t, hanFont+w.file+".ttc", "Noto Sans CJK SC"+w.name)
		faces := []*sfnt.Font{face(t, latinFont+w.file+".ttf", "Noto Sans"+w.name), face(t, thaiFont+w.file+".ttf", "Noto Sans Thai"+w.name), tc}
		for _, r := range alphabet(w.key != 0) {
			for _, f := range faces {
				if r == '…' && f != tc {
					continue
				}
				g, err := f.GlyphIndex(&buf, r)
				if err != nil {
					t.Fatal(err)
				}
				if g == 0 {
					continue
				}
				o, err := readOutline(f, &buf, g)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, madeGlyph{uint32(r) | w.key, o})
				if f == tc {
					if g, err = sc.GlyphIndex(&buf, r); err != nil || g == 0 {
						t.Fatalf("%c: %v", r, err)
					}
					china, err := readOutline(sc, &buf, g)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(china.path, o.path) {
						all = append(all, madeGlyph{uint32(r) | w.key | hansKey, china})
					}
				}
				break
			}
		}
	}
	slices.SortFunc(all, func(a, b madeGlyph) int { return cmp.Compare(a.key, b.key) })
	b := binary.BigEndian.AppendUint32(nil, uint32(len(all)))
	end := 0
	for _, g := range all {
		end += len(g.path)
		b = binary.BigEndian.AppendUint32(b, g.key)
		b = binary.BigEndian.AppendUint16(b, uint16(g.advance))
		b = binary.BigEndian.AppendUint32(b, uint32(end))
	}
	for _, g := range all {
		b = append(b, g.path...)
	}
	return b
}

// The font in the program is the one that Debian's packages make.
func TestFontIsMadeFromDebiansPackages(t *testing.T) {
	fresh := makeFont(t)
	if *update {
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		z.Write(fresh)
		z.Close()
		if err := os.WriteFile("outlines.gz", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		packed = b.Bytes()
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	var there bytes.Buffer
	if _, err := there.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(there.Bytes(), fresh) {
		t.Error("outlines.gz is another font, or of other characters: go test ./ui/screen -run Font -update")
	}
	t.Logf("%d glyphs, %d bytes, %d packed", binary.BigEndian.Uint32(fresh), len(fresh), len(packed))
}
