package lcd

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"flag"
	"image"
	"image/draw"
	"os"
	"slices"
	"testing"

	xfont "golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"

	"punchclock/ui/text"
)

var update = flag.Bool("update", false, "make glyphs.gz and the golden pictures anew")

const (
	fontFile = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc" // Debian's fonts-noto-cjk
	fontName = "Noto Sans Mono CJK TC"
	dark     = 140 // of 255: a dot is set where the outline covers more than about half
	baseline = 14
)

// alphabet is every character that the font has to have.
func alphabet(t *testing.T) []rune {
	set := map[rune]bool{}
	for r := rune(0x20); r < 0x7F; r++ {
		set[r] = true
	}
	for _, tag := range []string{"zh-TW", "zh-CN", "en", "vi", "id", "fil"} {
		for _, s := range text.For(tag).Words() {
			for _, r := range s {
				set[r] = true
			}
		}
	}
	for _, r := range "○…·，。、：；！？（）「」－％àáâãèéêìíòóôõùúýăđĩũơưñ" {
		set[r] = true
	}
	// The commonest characters of both scripts, for names.
	add := func(e encoding.Encoding, highFrom, highTo byte, lows [][2]byte) {
		for high := highFrom; ; high++ {
			for _, l := range lows {
				for low := l[0]; ; low++ {
					if s, err := e.NewDecoder().Bytes([]byte{high, low}); err == nil {
						if r := []rune(string(s)); len(r) == 1 && r[0] >= 0x4E00 && r[0] <= 0x9FFF {
							set[r[0]] = true
						}
					}
					if low == l[1] {
						break
					}
				}
			}
			if high == highTo {
				return
			}
		}
	}
	add(traditionalchinese.Big5, 0xA4, 0xC6, [][2]byte{{0x40, 0x7E}, {0xA1, 0xFE}})
	add(simplifiedchinese.GBK, 0xB0, 0xD7, [][2]byte{{0xA1, 0xFE}})
	points := make([]rune, 0, len(set))
	for r := range set {
		if r >= ' ' {
			points = append(points, r)
		}
	}
	slices.Sort(points)
	return points
}

// makeFont rasters the alphabet.
func makeFont(t *testing.T, file []byte) []byte {
	c, err := opentype.ParseCollection(file)
	if err != nil {
		t.Fatal(err)
	}
	var face xfont.Face
	for i := range c.NumFonts() {
		f, err := c.Font(i)
		if err != nil {
			t.Fatal(err)
		}
		if name, err := f.Name(nil, 4); err != nil || name != fontName {
			continue
		}
		if face, err = opentype.NewFace(f, &opentype.FaceOptions{Size: 16, DPI: 72, Hinting: xfont.HintingFull}); err != nil {
			t.Fatal(err)
		}
	}
	if face == nil {
		t.Fatalf("%s holds no font %s", fontFile, fontName)
	}
	var points, widths, rows []byte
	n, last := 0, rune(0)
	for _, r := range alphabet(t) {
		advance, ok := face.GlyphAdvance(r)
		w := advance.Round()
		if !ok || w != 8 && w != 16 {
			continue
		}
		img := image.NewGray(image.Rect(0, 0, 16, glyphHeight))
		draw.Draw(img, img.Bounds(), image.Black, image.Point{}, draw.Src)
		d := xfont.Drawer{Dst: img, Src: image.White, Face: face, Dot: fixed.P(0, baseline)}
		d.DrawString(string(r))
		points = binary.BigEndian.AppendUint32(points, uint32(r-last))
		last = r
		widths = append(widths, byte(w))
		var left, right []byte
		for y := range glyphHeight {
			row := uint16(0)
			for x := range w {
				if img.GrayAt(x, y).Y > 255-dark {
					row |= 0x8000 >> x
				}
			}
			left, right = append(left, byte(row>>8)), append(right, byte(row))
		}
		rows = slices.Concat(rows, left, right)
		n++
	}
	return slices.Concat(binary.BigEndian.AppendUint32(nil, uint32(n)), points, widths, rows)
}

// The font in the program is the one that Debian's package makes.
func TestFontIsMadeFromDebiansPackage(t *testing.T) {
	file, err := os.ReadFile(fontFile)
	if err != nil {
		t.Skipf("not compared with the font it is made from: %v (Debian: fonts-noto-cjk)", err)
	}
	fresh := makeFont(t, file)
	if *update {
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		z.Write(fresh)
		z.Close()
		if err := os.WriteFile("glyphs.gz", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		packed = b.Bytes()
	}
	f, err := loadFont()
	if err != nil {
		t.Fatal(err)
	}
	made, err := parseFont(fresh)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.points, made.points) || !bytes.Equal(f.widths, made.widths) || !bytes.Equal(f.rows, made.rows) {
		t.Error("glyphs.gz is another font, or of other characters: go test ./ui/lcd -update")
	}
	t.Logf("%d characters, %d bytes packed", len(f.points), len(packed))
}

// Whatever can be said to a person at this display can be drawn, in the languages that
// it speaks; Thai is said in English.
func TestEverySentenceCanBeDrawn(t *testing.T) {
	f, err := loadFont()
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"zh-TW", "zh-CN", "en", "id", "fil"} {
		for k, s := range text.For(tag).Personal() {
			if k != text.LanguageName && !f.has(s) {
				t.Errorf("%s %s: %q", tag, k, s)
			}
		}
	}
}

func FuzzFontFile(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 65, 8})
	f.Add(append([]byte{0, 0, 0, 1, 0, 0, 0, 65, 8}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseFont(b); err == nil {
			p.width("A王")
			p.has("A")
		}
	})
}
