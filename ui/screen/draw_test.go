package screen

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"punchclock/ui"
	"punchclock/ui/text"
)

// each hands out every state in every language and size.
func each(t *testing.T, do func(t *testing.T, p *painter, name string, d *drawing)) {
	for _, tag := range text.Languages() {
		t.Run(tag, func(t *testing.T) {
			p := worker(t)
			all := scenes(tag)
			for _, name := range slices.Sorted(maps.Keys(all)) {
				for _, size := range sizes {
					do(t, p, fmt.Sprintf("%s at %v", name, size), p.layout(all[name], size.X, size.Y))
				}
			}
		})
	}
}

func TestEveryTextFitsItsBoxInEveryLanguageAndSize(t *testing.T) {
	each(t, func(t *testing.T, p *painter, name string, d *drawing) {
		for _, s := range d.cutSentences {
			t.Errorf("%s: the end is missing: %q", name, s)
		}
		for i := range d.ops {
			o := &d.ops[i]
			if !o.r.In(d.size) {
				t.Errorf("%s: %q lies at %v, outside of the screen", name, o.s, o.r)
			}
			if o.what != write {
				continue
			}
			if o.n < 12 {
				t.Errorf("%s: %q is written in %d dots", name, o.s, o.n)
			}
			ink := image.Rectangle{}
			p.glyphs(o, func(m *mask, x, y int) {
				ink = ink.Union(image.Rect(0, 0, m.w, m.h).Add(image.Pt(x+m.left, y+m.top)))
			})
			if !ink.In(o.reach()) {
				t.Errorf("%s: %q in %d dots has ink at %v, and room at %v", name, o.s, o.n, ink, o.reach())
			}
			for _, r := range o.s {
				if _, ok := p.find(r, o.bold, o.hans); !ok {
					t.Errorf("%s: there is no %c in the program's font", name, r)
				}
			}
		}
	})
}

func TestTextsDoNotLieOnEachOther(t *testing.T) {
	each(t, func(t *testing.T, _ *painter, name string, d *drawing) {
		for i, a := range d.ops {
			for _, b := range d.ops[i+1:] {
				if a.what != fill && b.what != fill && a.what != photo && a.r.Overlaps(b.r) { // the symbol lies on the portrait
					t.Errorf("%s: %q at %v and %q at %v", name, a.s, a.r, b.s, b.r)
				}
			}
		}
	})
}

// luminance is as WCAG 2 counts it.
func luminance(c rgb) float64 {
	part := func(v rgb) float64 {
		x := float64(v&0xFF) / 255
		if x <= .04045 {
			return x / 12.92
		}
		return math.Pow((x+.055)/1.055, 2.4)
	}
	return .2126*part(c>>16) + .7152*part(c>>8) + .0722*part(c)
}

func TestEveryTextAndSymbolHasAContrastOfSevenToOne(t *testing.T) {
	each(t, func(t *testing.T, _ *painter, name string, d *drawing) {
		for i, o := range d.ops {
			if o.what != write && o.what != symbol {
				continue
			}
			under := rgb(0)
			for _, f := range d.ops[:i] {
				if f.what == fill && o.r.Inset(o.r.Dy()/3).In(f.r) {
					under = f.colour
				}
			}
			a, b := luminance(o.colour), luminance(under)
			if ratio := (max(a, b) + .05) / (min(a, b) + .05); ratio < 7 {
				t.Errorf("%s: %q has a contrast of %.1f", name, o.s, ratio)
			}
		}
	})
}

func TestWhatIsTouchedIsTwentyMillimetresHigh(t *testing.T) {
	each(t, func(t *testing.T, _ *painter, name string, d *drawing) {
		for i, a := range d.targets {
			if !a.r.In(d.size) || a.id != "state" && !strings.HasPrefix(a.id, "field:") && (a.r.Dy() < 104 || a.r.Dx() < 104) {
				t.Errorf("%s: %s is %v large", name, a.id, a.r.Size())
			}
			for _, b := range d.targets[i+1:] {
				if a.r.Overlaps(b.r) {
					t.Errorf("%s: %s and %s lie on each other", name, a.id, b.id)
				}
			}
		}
	})
}

// Every answer is told by its symbol and its ground, and no two by the same pair.
func TestAnswersAreToldBySymbolAndGroundToo(t *testing.T) {
	seen := map[string]string{}
	all := scenes("en")
	for _, name := range []string{"stored", "stored-unset", "corrected", "duplicate", "unknown", "blocked", "misread", "not-stored"} {
		d := worker(t).layout(all[name], 800, 480)
		for _, o := range d.ops {
			if o.what == symbol {
				if other, twice := seen[o.s]; twice || icons[o.s] == nil {
					t.Errorf("%s and %s have the symbol %q", name, other, o.s)
				}
				seen[o.s] = name
			}
		}
	}
}

// A destination that refuses our login is not "connected", though the network is well.
func TestTheFootNamesTheDestinationThatDoesNotTakePunches(t *testing.T) {
	for _, tag := range text.Languages() {
		c := text.For(tag)
		v := scenes(tag)["idle"]
		foot := func(s Status) string {
			v.status = s
			var all []string
			for _, o := range worker(t).layout(v, 800, 480).ops {
				all = append(all, o.s)
			}
			return strings.Join(all, "\n")
		}
		for state, said := range map[string]Status{
			c.Say(text.Online):                    {Ready: true, Destinations: 2},
			c.Say(text.Offline):                   {Ready: true, Destinations: 1, Offline: true, Unwell: "104 x"},
			"104 " + c.Destination("auth_failed"): {Ready: true, Destinations: 2, Stuck: true, Unwell: "104 " + c.Destination("auth_failed")},
		} {
			first, _, _ := strings.Cut(state, ",")
			if got := foot(said); !strings.Contains(got, first) || said.Unwell != "" && strings.Contains(got, c.Say(text.Online)) {
				t.Errorf("%s: %+v is shown as %q, want %q", tag, said, got, state)
			}
		}
	}
}

// What is painted of a picture over the one before is what all of it would be.
func TestPaintingWhatHasChangedIsEnough(t *testing.T) {
	p := worker(t)
	for _, tag := range []string{"zh-TW", "th"} {
		all := scenes(tag)
		later := all["idle"]
		later.now = later.now.Add(time.Second)
		all["idle-later"] = later
		pushed := all["idle"]
		pushed.push = "kind:out"
		all["idle-pushed"] = pushed
		names := slices.Sorted(maps.Keys(all))
		c, whole := newCanvas(800, 480), newCanvas(800, 480)
		var was []op
		for i := range 3 * len(names) {
			name := names[i*7%len(names)]
			ops := p.layout(all[name], 800, 480).ops
			for _, r := range changed(was, ops, c.bounds()) {
				p.paint(c, ops, r)
			}
			was = ops
			p.paint(whole, ops, whole.bounds())
			if !slices.Equal(c.pix, whole.pix) {
				t.Fatalf("%s %s: the picture depends on the one before", tag, name)
			}
		}
		dirty := changed(p.layout(all["idle"], 800, 480).ops, p.layout(later, 800, 480).ops, c.bounds())
		if len(dirty) != 1 || dirty[0].Dx()*dirty[0].Dy() > 800*480/20 {
			t.Errorf("%s: a second draws %v anew", tag, dirty)
		}
		if dirty := changed(was, was, c.bounds()); len(dirty) != 0 {
			t.Errorf("nothing draws %v anew", dirty)
		}
	}
}

// goldens are few, because they are kept for ever; of the others there is a sum of what is
// where.
var goldens = []struct {
	name, tag string
	size      image.Point
}{
	{"idle", "zh-TW", sizes[0]}, {"stored", "zh-TW", sizes[0]}, {"unknown", "zh-CN", sizes[1]}, {"mine", "th", sizes[0]},
	{"stored-portrait", "zh-TW", sizes[0]}, {"stored-out", "vi", sizes[2]}, {"pin-secret", "en", sizes[2]}, {"state", "id", sizes[0]}, {"not-stored", "fil", sizes[0]},
}

func TestPicturesAreTheGoldenOnes(t *testing.T) {
	for _, g := range goldens {
		p := worker(t)
		c := newCanvas(g.size.X, g.size.Y)
		p.paint(c, p.layout(scenes(g.tag)[g.name], g.size.X, g.size.Y).ops, c.bounds())
		path := filepath.Join("testdata", fmt.Sprintf("%s_%s_%dx%d.png", g.name, g.tag, g.size.X, g.size.Y))
		if *update {
			writeGolden(t, path, c)
		}
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := png.Decode(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if want.Bounds() != c.bounds() {
			t.Fatalf("%s is of %v", path, want.Bounds())
		}
		got, wrong := c.image(), 0
		for y := range c.h {
			for x := range c.w {
				r, gr, b, _ := want.At(x, y).RGBA()
				s := got.RGBAAt(x, y)
				for _, d := range []int{int(r>>8) - int(s.R), int(gr>>8) - int(s.G), int(b>>8) - int(s.B)} {
					if d > 24 || d < -24 { // the golden ones have sixty-four colours; processors round differently
						wrong++
						break
					}
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d dots differ; look at it, then go test ./ui/screen -update", path, wrong)
		}
	}
}

// writeGolden writes a picture with the sixty-four colours that it has most.
func writeGolden(t *testing.T, path string, c *canvas) {
	count := map[rgb]int{}
	for _, p := range c.pix {
		count[p]++
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b rgb) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return int(a) - int(b)
	})
	var palette color.Palette
	for _, c := range colours {
		at := color.RGBA{byte(c >> 16), byte(c >> 8), byte(c), 255}
		near := false
		for _, p := range palette {
			q := p.(color.RGBA)
			near = near || max(q.R, at.R)-min(q.R, at.R) < 12 && max(q.G, at.G)-min(q.G, at.G) < 12 && max(q.B, at.B)-min(q.B, at.B) < 12
		}
		if !near && len(palette) < 256 {
			palette = append(palette, at)
		}
	}
	img := image.NewPaletted(c.bounds(), palette)
	for i, p := range c.pix {
		img.Pix[i] = byte(palette.Index(color.RGBA{byte(p >> 16), byte(p >> 8), byte(p), 255}))
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What is where, in every state, language and size, is what somebody has looked at.
func TestLayoutsAreTheOnesThatWereLookedAt(t *testing.T) {
	var b strings.Builder
	for _, tag := range text.Languages() {
		p := worker(t)
		all := scenes(tag)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			fmt.Fprintf(&b, "%s %s", tag, name)
			for _, size := range sizes {
				h := fnv.New32a()
				d := p.layout(all[name], size.X, size.Y)
				fmt.Fprintf(h, "%v %v", d.ops, d.targets)
				fmt.Fprintf(&b, " %08x", h.Sum32())
			}
			b.WriteByte('\n')
		}
	}
	const path = "testdata/layouts.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	now := slices.Collect(strings.Lines(b.String()))
	for i, line := range slices.Collect(strings.Lines(string(want))) {
		if i >= len(now) || line != now[i] {
			t.Fatalf("%q is not as it was; look at the pictures (PUNCHCLOCK_SHOTS=folder), then go test ./ui/screen -update", line)
		}
	}
}

// With PUNCHCLOCK_SHOTS, a picture of every state, language and size, to look at.
func TestPicturesToLookAt(t *testing.T) {
	dir := os.Getenv("PUNCHCLOCK_SHOTS")
	if dir == "" {
		t.Skip("no pictures wanted: make test-ui makes them")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tag := range text.Languages() {
		p := worker(t)
		if err := p.openSystem(tag == "zh-CN"); err != nil {
			t.Fatal(err)
		}
		for name, v := range scenes(tag) {
			for _, size := range sizes[:3] {
				c := newCanvas(size.X, size.Y)
				p.paint(c, p.layout(v, size.X, size.Y).ops, c.bounds())
				f, err := os.Create(filepath.Join(dir, fmt.Sprintf("screen_%s_%s_%dx%d.png", name, tag, size.X, size.Y)))
				if err != nil {
					t.Fatal(err)
				}
				if err := png.Encode(f, c.image()); err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
		}
	}
}

// A character that no font has is a box, and one that there are only dots of is made of
// them; both take room.
func TestNoCharacterOfANameIsInvisible(t *testing.T) {
	p := worker(t)
	ink := func(s string) (n int) {
		c := newCanvas(200, 120)
		p.paint(c, []op{{what: fill, r: c.bounds()}, {what: write, r: c.bounds(), colour: white, n: 100, s: s, bold: true}}, c.bounds())
		for _, v := range c.pix {
			if v&0xFF > 0x80 {
				n++
			}
		}
		return n
	}
	if n := ink("龘"); n < 500 || n > 5000 || p.width("龘", style{px: 100}) < 80 {
		t.Errorf("a box has %d dots of ink", n)
	}
	p = worker(t)
	rows := make([]byte, 32)
	for y := range 16 {
		rows[2*y] = 0xFF // the left half
	}
	p.dots = func(r rune) ([]byte, int, bool) { return rows, 16, r == '龘' }
	if n := ink("龘"); n < 4500 || n > 6500 {
		t.Errorf("half a square of a hundred has %d dots of ink", n)
	}
	if !p.has("龘") || p.has("龘靐") {
		t.Error("it is not known what can be drawn")
	}
}

func TestAToneStandsAboveTheVowelAndBesideATallLetter(t *testing.T) {
	p := worker(t)
	top := func(s string) (least int) {
		o := op{what: write, r: image.Rect(0, 0, 400, 400), n: 100, s: s}
		least = 400
		p.glyphs(&o, func(m *mask, _, y int) { least = min(least, y+m.top) })
		return least
	}
	low, high := top("ก่"), top("กี่")
	if high > low-15 {
		t.Errorf("the tone is %d dots above the vowel", low-high)
	}
	if water := top("น้ำ"); water > low-15 {
		t.Errorf("น้ำ has its tone at %d", water)
	}
	line, _ := p.shape("ปี", style{px: 100}, nil)
	plain, _ := p.shape("กี", style{px: 100}, nil)
	tall, _ := p.find('ป', false, false)
	short, _ := p.find('ก', false, false)
	if line[1].dx-float32(tall.advance) >= plain[1].dx-float32(short.advance) {
		t.Error("the vowel lies on the stem of ป")
	}
}

// Of the machine's own font only what is needed is read, and any common name is there.
func TestNamesAreReadFromTheMachinesFont(t *testing.T) {
	if FontFile() == "" {
		t.Skip("this machine has no Chinese font (Debian: fonts-noto-cjk)")
	}
	for _, hans := range []bool{false, true} {
		p := worker(t)
		if err := p.openSystem(hans); err != nil {
			t.Fatal(err)
		}
		if !p.has("陳林黃王李吳劉蔡楊許鄭謝郭洪邱曾廖賴徐周葉蘇莊呂江何蕭羅高潘簡朱鍾游彭詹胡施沈余盧梁趙顏柯翁魏孫戴范方宋鄧杜侯曹薛傅丁溫紀蔣歐藍連唐馬董石卓程姚康馮古姜湯汪白田涂鄒巫尤龔嚴韓袁黎金童凃峯喆堃") {
			t.Error("a name cannot be drawn")
		}
	}
}

func TestFittingNeverCutsWhereItCanShrink(t *testing.T) {
	p := worker(t)
	f := p.fit(fitKey{s: "Maria Consolacion Dela Cruz-Villanueva", w: 200, h: 60, most: 60, least: 10, lines: 2})
	if f.cut || len(f.lines) != 2 || f.px < 14 {
		t.Errorf("%+v", f)
	}
	f = p.fit(fitKey{s: strings.Repeat("W", 200), w: 200, h: 30, most: 30, least: 14, lines: 1})
	if !f.cut || !strings.HasSuffix(f.lines[0], "…") || p.width(f.lines[0], style{px: f.px}) > 200 {
		t.Errorf("%+v", f)
	}
	for s, want := range map[string]string{
		"卡片未登錄，已記錄，請洽人資":              "卡片未登錄，|已記錄，|請洽人資",
		"Not saved. Please tap again": "Not saved.|Please tap again",
	} {
		f := p.fit(fitKey{s: s, w: 600, h: 400, most: 50, least: 20, lines: 4, clauses: true})
		if got := strings.Join(f.lines, "|"); got != want {
			t.Errorf("%s", got)
		}
	}
	if lines, _ := p.wrap("一二三四五，六七「八九」", 5*50, style{px: 50}); strings.Join(lines, "|") != "一二三四|五，六七|「八九」" {
		t.Errorf("%q", lines) // no line begins with a mark, none ends with a bracket that opens
	}
}

func TestAMillionNamesDoNotFillTheMemory(t *testing.T) {
	p := worker(t)
	c := newCanvas(800, 480)
	v := scenes("zh-TW")["stored"]
	for i := range 3000 {
		r := *v.result
		r.Name = string([]rune{0x4E00 + rune(i*3), 0x4E01 + rune(i*3), 0x4E02 + rune(i*3)})
		v.result = &r
		p.warm(p.layout(v, 800, 480).ops)
	}
	n := 0
	for _, m := range p.masks {
		n += len(m.a)
	}
	if n > mostMasks || n != p.bytes || len(p.fits) > 1024 || len(p.learned) > 2048 {
		t.Errorf("%d bytes of masks, counted as %d; %d fits, %d characters", n, p.bytes, len(p.fits), len(p.learned))
	}
	p.paint(c, p.layout(v, 800, 480).ops, c.bounds())
}

// How long a picture takes that is drawn anew as a whole, and the seconds alone.
func BenchmarkDraw(b *testing.B) {
	p := worker(b)
	all := scenes("zh-TW")
	c := newCanvas(800, 480)
	fr := frame{w: 800, h: 480, pitch: 800, wide: make([]uint32, 800*480)}
	later := all["idle"]
	later.now = later.now.Add(time.Second)
	for _, x := range []struct {
		name     string
		from, to view
	}{{"answer", all["idle"], all["stored"]}, {"seconds", all["idle"], later}} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				from, to := x.from, x.to
				if i%2 == 1 {
					from, to = to, from
				}
				was := p.layout(from, 800, 480).ops
				is := p.layout(to, 800, 480).ops
				for _, r := range changed(was, is, c.bounds()) {
					p.paint(c, is, r)
					fr.put(c, r, 0, false)
				}
			}
		})
	}
}

func FuzzFontFile(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 65, 2, 0, 0, 0, 0, 9, 0, 2, 4, 1, 6, 8, 3, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		fonts, err := parseFonts(b)
		if err != nil {
			return
		}
		p := newPainter(fonts)
		for _, k := range fonts.keys {
			if o, ok := fonts.own(k); ok && len(o.path) < 1000 {
				o.walk(func(op byte, _ [3][2]int) { pointsOf(op) })
			}
		}
		c := newCanvas(40, 40)
		p.paint(c, []op{{what: write, r: c.bounds(), n: 20, s: "A"}}, c.bounds())
	})
}

// Names come from a roster, and may be anything.
func FuzzNames(f *testing.F) {
	f.Add("張文正", "th")
	f.Add("\u0e48\u0e33\u0e31", "vi")
	f.Add(strings.Repeat("W", 300), "en")
	f.Add("\x00\xff\u202e", "zh-CN")
	p := worker(f)
	c := newCanvas(480, 800)
	f.Fuzz(func(t *testing.T, name, tag string) {
		v := scenes("en")["stored"]
		v.name = name
		v.result = &ui.Result{Outcome: "stored", Kind: "in", Name: name, Language: tag, Time: v.now}
		for _, size := range []image.Point{{X: 480, Y: 800}, {X: 800, Y: 480}} {
			d := p.layout(v, size.X, size.Y)
			p.paint(c, d.ops, c.bounds())
			v.result = nil
			p.paint(c, p.layout(v, size.X, size.Y).ops, c.bounds())
			v.result = &ui.Result{Outcome: "duplicate", Kind: "in", Name: name, Employee: name, Language: tag, Time: v.now}
		}
	})
}

// A display of any size is drawn on, if need be with words that are cut: nobody waits for
// a drawing that never ends, and the clock does not die of one.
func TestNoDisplayIsTooSmallToBeDrawnOn(t *testing.T) {
	p := worker(t)
	all := scenes("en")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, size := range []image.Point{{1, 1}, {1, 480}, {480, 1}, {64, 32}, {240, 320}, {480, 320}} {
			c := newCanvas(size.X, size.Y)
			p.paint(c, p.layout(all[name], size.X, size.Y).ops, c.bounds())
		}
	}
}
