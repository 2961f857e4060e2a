package main

import (
	"bytes"
	"compress/zlib"
	endian "encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/color/palette"
	"image/draw"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// painting is a picture with four quarters in colours of their own, a little noise, and
// nothing that a mirror image has, too.
func painting(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	r := rand.New(rand.NewPCG(1, 2))
	for y := range h {
		for x := range w {
			c := color.NRGBA{200, 40, 40, 255} // upper left
			switch {
			case x >= w/2 && y < h/2:
				c = color.NRGBA{40, 200, 40, 255}
			case x < w/2 && y >= h/2:
				c = color.NRGBA{40, 40, 200, 255}
			case x >= w/2:
				c = color.NRGBA{220, 220, 60, 255}
			}
			n := uint8(r.IntN(8))
			img.SetNRGBA(x, y, color.NRGBA{c.R + n, c.G + n, c.B + n, 255})
		}
	}
	return img
}

func asJPEG(t testing.TB, img image.Image, quality int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asPNG(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// near reports whether a dot has about this colour.
func near(c color.Color, r, g, b int) bool {
	x := color.NRGBAModel.Convert(c).(color.NRGBA)
	far := func(a uint8, b int) bool { return int(a) > b+14 || int(a) < b-14 }
	return !far(x.R, r) && !far(x.G, g) && !far(x.B, b)
}

// exif is an APP1 segment that says how a picture is to be turned, and where it was made.
func exif(order endian.AppendByteOrder, mark string, turn uint16) []byte {
	b := append([]byte("Exif\x00\x00"), mark...)
	b = order.AppendUint16(b, 42)
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 2)
	for _, tag := range []uint16{0x0100, 0x0112} {
		b = order.AppendUint16(b, tag)
		b = order.AppendUint16(b, 3)
		b = order.AppendUint32(b, 1)
		b = order.AppendUint16(b, turn)
		b = order.AppendUint16(b, 0)
	}
	b = append(b, "canary-place 25.0330N"...)
	return append(endian.BigEndian.AppendUint16([]byte{0xFF, 0xE1}, uint16(len(b)+2)), b...)
}

func with(b, segment []byte) []byte {
	return append(append(append([]byte{}, b[:2]...), segment...), b[2:]...)
}

func TestAPortraitIsMadeSmallOnceAndCutAboutTheFace(t *testing.T) {
	for _, c := range []struct{ w, h, wantW, wantH int }{
		{600, 800, 240, 320}, {900, 500, 240, 320}, {300, 900, 240, 320}, {240, 320, 240, 320}, {120, 160, 120, 160}, {100, 101, 75, 100}, {33, 300, 33, 44}, {241, 321, 240, 320},
	} {
		for form, b := range map[string][]byte{"png": asPNG(t, painting(c.w, c.h)), "jpeg": asJPEG(t, painting(c.w, c.h), 90)} {
			out, err := shrink(b)
			if err != nil {
				t.Fatalf("%s %d×%d: %v", form, c.w, c.h, err)
			}
			img, err := jpeg.Decode(bytes.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			n := img.Bounds()
			if w, h := n.Dx(), n.Dy(); w < c.wantW-1 || w > c.wantW || h < c.wantH-1 || h > c.wantH+1 || len(out) > portraitMost/2 {
				t.Errorf("%s %d×%d: %v, %d bytes", form, c.w, c.h, n, len(out))
			}
			if c.h <= 2*c.w { // else the middle is cut off
				w, h := n.Dx(), n.Dy()
				if !near(img.At(w/8, h/8), 203, 43, 43) || !near(img.At(w*7/8, h/8), 43, 203, 43) || !near(img.At(w/8, h*7/8), 43, 43, 203) || !near(img.At(w*7/8, h*7/8), 223, 223, 63) {
					t.Errorf("%s %d×%d: other colours: %v %v %v %v", form, c.w, c.h, img.At(w/8, h/8), img.At(w*7/8, h/8), img.At(w/8, h*7/8), img.At(w*7/8, h*7/8))
				}
			}
		}
	}
}

// A telephone writes how it was held beside the picture, and everything else, too.
func TestAPortraitStandsUprightAndSaysNothingElse(t *testing.T) {
	// The quarter in each corner, clockwise from the upper left, as EXIF 2.3 has them.
	red, green, blue, yellow := [3]int{203, 43, 43}, [3]int{43, 203, 43}, [3]int{43, 43, 203}, [3]int{223, 223, 63}
	for turn, want := range map[uint16][4][3]int{
		1: {red, green, yellow, blue}, 2: {green, red, blue, yellow}, 3: {yellow, blue, red, green}, 4: {blue, yellow, green, red},
		5: {red, blue, yellow, green}, 6: {blue, red, green, yellow}, 7: {yellow, green, red, blue}, 8: {green, yellow, blue, red},
		9: {red, green, yellow, blue},
	} {
		for mark, order := range map[string]endian.AppendByteOrder{"II": endian.LittleEndian, "MM": endian.BigEndian} {
			b := with(asJPEG(t, painting(96, 96), 90), exif(order, mark, turn))
			out, err := shrink(b)
			if err != nil {
				t.Fatal(err)
			}
			img, err := jpeg.Decode(bytes.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			w, h := img.Bounds().Dx(), img.Bounds().Dy()
			for i, at := range []image.Point{{w / 8, h / 8}, {w * 7 / 8, h / 8}, {w * 7 / 8, h * 7 / 8}, {w / 8, h * 7 / 8}} {
				if c := want[i]; !near(img.At(at.X, at.Y), c[0], c[1], c[2]) {
					t.Errorf("turn %d (%s): corner %d is %v", turn, mark, i, img.At(at.X, at.Y))
				}
			}
			if bytes.Contains(out, []byte("Exif")) || bytes.Contains(out, []byte("canary")) || !bytes.Contains(b, []byte("canary")) {
				t.Error("what the telephone noted is still in it")
			}
		}
	}
}

// pngs are pictures of every kind of dots there is.
func pngs(t testing.TB) map[string]image.Image {
	src := painting(60, 80)
	all := map[string]image.Image{"colours with alpha": src}
	put := func(name string, img draw.Image) {
		draw.Draw(img, img.Bounds(), src, image.Point{}, draw.Src)
		all[name] = img
	}
	r := src.Bounds()
	put("grey", image.NewGray(r))
	put("grey of 16 bits", image.NewGray16(r))
	put("colours", image.NewRGBA(r))
	put("colours of 16 bits", image.NewRGBA64(r))
	put("a palette of 256", image.NewPaletted(r, palette.Plan9))
	put("a palette of 16", image.NewPaletted(r, palette.Plan9[:16]))
	put("a palette of 4", image.NewPaletted(r, palette.Plan9[:4]))
	put("a palette of 2", image.NewPaletted(r, palette.Plan9[:2]))
	glass := image.NewNRGBA(r)
	deep := image.NewNRGBA64(r)
	for y := range 80 {
		for x := range 60 {
			glass.SetNRGBA(x, y, color.NRGBA{10, 200, 90, uint8(x * 4)})
			deep.SetNRGBA64(x, y, color.NRGBA64{2570, 51400, 23130, uint16(x * 1028)})
		}
	}
	all["glass"], all["glass of 16 bits"] = glass, deep
	clear := append(color.Palette{color.NRGBA{255, 0, 0, 0}, color.NRGBA{0, 0, 255, 128}}, palette.Plan9[:14]...)
	put("a palette with glass", image.NewPaletted(r, clear))
	return all
}

// One that is known to be right: image/png, and white behind it.
func TestEveryKindOfPNGIsReadAsTheLibraryReadsIt(t *testing.T) {
	for name, img := range pngs(t) {
		b := asPNG(t, img)
		s, err := measure(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mine, err := s.unpack(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sameDots(t, name, b, mine)
	}
}

func sameDots(t *testing.T, name string, b []byte, mine dots) {
	t.Helper()
	theirs, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for y := range theirs.Bounds().Dy() {
		for x := range theirs.Bounds().Dx() {
			c := color.NRGBAModel.Convert(theirs.At(x, y)).(color.NRGBA)
			a := int(c.A)
			r, g, bl := mine(x, y)
			for i, v := range [3][2]int{{int(r), int(c.R)}, {int(g), int(c.G)}, {int(bl), int(c.B)}} {
				if want := (v[1]*a + 255*(255-a)) / 255; v[0] > want+2 || v[0] < want-2 {
					t.Fatalf("%s: dot %d,%d part %d is %d, want %d", name, x, y, i, v[0], want)
				}
			}
		}
	}
}

func zipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// woven writes an interlaced PNG: no encoder in the library does.
func woven(t testing.TB, img *image.NRGBA) []byte {
	var raw bytes.Buffer
	for _, p := range adam7 {
		for y := p.y; y < img.Rect.Dy(); y += p.dy {
			if p.x < img.Rect.Dx() {
				raw.WriteByte(0)
			}
			for x := p.x; x < img.Rect.Dx(); x += p.dx {
				i := img.PixOffset(x, y)
				raw.Write(img.Pix[i : i+4])
			}
		}
	}
	plain := asPNG(t, img)
	var out bytes.Buffer
	out.WriteString(pngHead)
	chunk := func(name string, body []byte) {
		b := append([]byte(name), body...)
		out.Write(endian.BigEndian.AppendUint32(nil, uint32(len(body))))
		out.Write(b)
		out.Write(endian.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)))
	}
	head := append([]byte{}, plain[16:29]...)
	head[9], head[12] = 6, 1
	chunk("IHDR", head)
	packed := zipped(t, raw.Bytes())
	chunk("IDAT", packed[:len(packed)/2])
	chunk("IDAT", packed[len(packed)/2:])
	chunk("IEND", nil)
	return out.Bytes()
}

func TestAnInterlacedPNGIsRead(t *testing.T) {
	for _, n := range []image.Point{{33, 47}, {64, 64}, {100, 133}} {
		b := woven(t, painting(n.X, n.Y))
		s, err := measure(b)
		if err != nil {
			t.Fatal(err)
		}
		mine, err := s.unpack(b)
		if err != nil {
			t.Fatal(err)
		}
		sameDots(t, fmt.Sprint(n), b, mine)
	}
}

// headerOf is a picture whose header says another size than there is.
func headerOf(b []byte, w, h uint32) []byte {
	b = bytes.Clone(b)
	if bytes.HasPrefix(b, []byte(pngHead)) {
		endian.BigEndian.PutUint32(b[16:], w)
		endian.BigEndian.PutUint32(b[20:], h)
		endian.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
		return b
	}
	at := bytes.Index(b, []byte{0xFF, 0xC0})
	endian.BigEndian.PutUint16(b[at+5:], uint16(h))
	endian.BigEndian.PutUint16(b[at+7:], uint16(w))
	return b
}

func TestWhatIsNoPortraitIsRefusedBeforeItIsUnpacked(t *testing.T) {
	small, large := asPNG(t, painting(60, 80)), asJPEG(t, painting(600, 800), 90)
	nothing := append(make([]byte, 4), "IDAT\x35\xaf\x06\x1e"...) // a part without content, and its checksum
	parts := bytes.Index(small, []byte("IDAT")) - 4
	scan := bytes.Index(large, []byte{0xFF, 0xDA})
	for name, c := range map[string]struct {
		b     []byte
		words string
	}{
		"nothing":                    {nil, "no JPEG or PNG"},
		"a web page":                 {[]byte("<!DOCTYPE html><title>x</title>"), "no JPEG or PNG"},
		"a GIF":                      {[]byte("GIF89a\x40\x00\x40\x00\x00\x00\x00"), "no JPEG or PNG"},
		"a dot":                      {asPNG(t, painting(31, 80)), "31 × 80"},
		"a strip":                    {asPNG(t, painting(90, 41)), "30 × 41"},
		"too large a file":           {append(bytes.Clone(large), make([]byte, pictureMost)...), "12 MB"},
		"a PNG bomb":                 {headerOf(small, 65_000, 65_000), "too large"},
		"a JPEG bomb":                {headerOf(large, 65_000, 65_000), "too large"},
		"more dots than a PNG says":  {headerOf(asPNG(t, image.NewGray(image.Rect(0, 0, 600, 800))), 60, 80), "no JPEG or PNG"},
		"fewer dots than a PNG says": {headerOf(small, 600, 800), "no JPEG or PNG"},
		"half a JPEG":                {large[:len(large)/2], "no JPEG or PNG"},
		"half a PNG":                 {small[:len(small)/2], "no JPEG or PNG"},
		"a PNG of a million parts":   {slices.Concat(small[:parts], bytes.Repeat(nothing, 1_000_000), small[parts:len(small)-12]), "no JPEG or PNG"},
		"a JPEG of too many scans":   {slices.Concat(large[:len(large)-2], bytes.Repeat(large[scan:len(large)-2], pictureScans), large[len(large)-2:]), "no JPEG or PNG"},
		"a JPEG without a scan":      {large[:bytes.Index(large, []byte{0xFF, 0xDA})], "no JPEG or PNG"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := shrink(c.b)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > pictureMemory {
			t.Errorf("%s took %d bytes", name, took)
		}
		if c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
	for bit := 0; bit < 8*len(small); bit += 211 {
		b := bytes.Clone(small)
		b[bit/8] ^= 1 << (bit % 8)
		if out, err := shrink(b); err == nil && !bytes.HasPrefix(out, []byte("\xff\xd8")) {
			t.Fatalf("bit %d: %q", bit, out)
		} else if err == nil && bit/8 > 8 {
			t.Errorf("a PNG with bit %d turned over is taken for whole", bit)
		}
	}
}

// What measure promises of memory is what the library takes.
func TestAPictureTakesNoMoreMemoryThanItsHeaderTells(t *testing.T) {
	pictures := map[string][]byte{"baseline": asJPEG(t, painting(900, 1200), 90), "grey": asJPEG(t, pngs(t)["grey"], 90), "png": asPNG(t, painting(900, 1200)), "interlaced png": woven(t, painting(300, 400))}
	if tool, err := exec.LookPath("cjpeg"); err == nil { // of libjpeg: the forms that the library does not write
		var pnm bytes.Buffer
		fmt.Fprintf(&pnm, "P6 900 1200 255\n")
		img := painting(900, 1200)
		for i := 0; i < len(img.Pix); i += 4 {
			pnm.Write(img.Pix[i : i+3])
		}
		for name, args := range map[string][]string{"progressive": {"-progressive"}, "4:4:4": {"-sample", "1x1"}, "progressive 4:4:4": {"-progressive", "-sample", "1x1"}, "RGB": {"-rgb"}} {
			cmd := exec.Command(tool, args...)
			cmd.Stdin = bytes.NewReader(pnm.Bytes())
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			pictures[name] = out
		}
	} else {
		t.Run("progressive and RGB", func(t *testing.T) {
			t.Skip("nothing here makes such pictures; on Debian: apt-get install libjpeg-turbo-progs")
		})
	}
	for name, b := range pictures {
		s, err := measure(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = s.unpack(b)
		runtime.ReadMemStats(&after)
		took := int64(after.TotalAlloc - before.TotalAlloc)
		t.Logf("%s: %d × %d, %d bytes foretold, %d taken", name, s.w, s.h, s.memory, took)
		if err != nil || took > s.memory+256<<10 {
			t.Errorf("%s: %d bytes foretold, %d taken, %v", name, s.memory, took, err)
		}
	}
}

func FuzzPicture(f *testing.F) {
	for _, img := range pngs(f) {
		f.Add(asPNG(f, img))
	}
	b := asJPEG(f, painting(60, 80), 60)
	f.Add(b)
	f.Add(with(b, exif(endian.LittleEndian, "II", 6)))
	f.Add(asJPEG(f, pngs(f)["grey"], 60))
	f.Add(woven(f, painting(40, 50)))
	f.Add(headerOf(b, 65_000, 65_000))
	f.Add(b[:len(b)/2])
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := shrink(b)
		if err != nil {
			if len(out) > 0 {
				t.Fatal("an error and a picture")
			}
			return
		}
		img, err := jpeg.Decode(bytes.NewReader(out))
		if err != nil || len(out) > portraitMost || img.Bounds().Dx() > portraitWide || img.Bounds().Dy() > portraitHigh {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
		// 3:4 in whole dots may be one less when it is cut again.
		again, err := openPicture(out, portraitMemory)
		if err != nil || again.Rect.Dx() < img.Bounds().Dx()-1 || again.Rect.Dy() < img.Bounds().Dy()-1 {
			t.Fatalf("what is kept cannot be shown: %v", err)
		}
	})
}
