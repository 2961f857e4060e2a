package screen

import (
	"encoding/binary"
	"image"
	"math"
	"slices"
	"unicode"

	"rsc.io/qr"
)

// rgb is a colour as displays take it: 0x00RRGGBB.
type rgb uint32

// What an op draws.
type what uint8

const (
	fill   what = iota // n: radius of the corners; border: colour of an edge two dots wide, 0 for none
	write              // s in one line, in the middle of r's height; n: size
	symbol             // s: name of an icon, as large as r
	code               // s as a QR code, black on white
	photo              // the picture that painter.photo has under s, with round corners; without one r in a colour
)

const (
	left uint8 = iota
	centre
	right
)

// op is one thing to draw. Ops are values: two that are equal look alike.
type op struct {
	what    what
	r       image.Rectangle
	colour  rgb
	border  rgb
	n       int
	s       string
	bold    bool
	hans    bool
	align   uint8
	through bool // struck through
}

// reach is where an op draws: within r, but for the hooks and marks of letters.
func (o *op) reach() image.Rectangle {
	if o.what != write {
		return o.r
	}
	return image.Rect(o.r.Min.X-o.n/8-1, o.r.Min.Y-o.n/16-1, o.r.Max.X+o.n/8+1, o.r.Max.Y+o.n/16+1)
}

// canvas is a picture, one word a dot, from the upper left.
type canvas struct {
	w, h int
	pix  []rgb
}

func newCanvas(w, h int) *canvas { return &canvas{w: w, h: h, pix: make([]rgb, w*h)} }

func (c *canvas) bounds() image.Rectangle { return image.Rect(0, 0, c.w, c.h) }

// blend lays a colour over another, a of 255 parts.
func blend(under, over rgb, a uint32) rgb {
	switch a {
	case 0:
		return under
	case 255:
		return over
	}
	a += a >> 7 // of 256 parts
	rb := (uint32(under)&0xFF00FF*(256-a) + uint32(over)&0xFF00FF*a) >> 8 & 0xFF00FF
	g := (uint32(under)&0x00FF00*(256-a) + uint32(over)&0x00FF00*a) >> 8 & 0x00FF00
	return rgb(rb | g)
}

// mask is how much of each dot something covers.
type mask struct {
	w, h      int
	left, top int // of its corner, from the pen, y downwards
	a         []byte
}

// maskKey names a mask.
type maskKey struct {
	r    rune   // of a glyph
	icon string // of an icon
	px   int
	bold bool
	hans bool
	dots bool
}

// mostMasks is how many bytes of masks are kept. All that stands on a screen of
// 1024×600 at the same time takes a tenth of it.
const mostMasks = 6 << 20

// painter draws ops. It is used by one goroutine at a time.
type painter struct {
	*fonts
	masks  map[maskKey]*mask
	bytes  int // of masks
	raster raster
	line   []placed
	fits   map[fitKey]fitted
	codes  map[string]*qr.Code
	photo  portrait
}

// portrait is a picture under a name of its own, which ops know it by.
type portrait struct {
	name string
	img  *image.RGBA
}

func newPainter(f *fonts) *painter {
	return &painter{fonts: f, masks: map[maskKey]*mask{}, fits: map[fitKey]fitted{}, codes: map[string]*qr.Code{}}
}

// paint draws all that lies within clip.
func (p *painter) paint(c *canvas, ops []op, clip image.Rectangle) {
	clip = clip.Intersect(c.bounds())
	for i := range ops {
		o := &ops[i]
		at := o.reach().Intersect(clip)
		if at.Empty() {
			continue
		}
		switch o.what {
		case fill:
			p.fill(c, o, at)
		case write:
			p.write(c, o, at)
		case symbol:
			p.lay(c, p.icon(o.s, o.r.Dx()), o.r.Min.X, o.r.Min.Y, o.colour, at)
		case code:
			p.code(c, o, at)
		case photo:
			p.picture(c, o, at)
		}
	}
}

// picture draws the portrait as large as its box, with round corners.
func (p *painter) picture(c *canvas, o *op, clip image.Rectangle) {
	img := p.photo.img
	if o.s == "" || o.s != p.photo.name || img.Rect.Empty() {
		p.fill(c, o, clip)
		return
	}
	w, h := img.Rect.Dx(), img.Rect.Dy()
	// Where a dot of the screen lies in the picture, in 256ths, and between which two.
	between := func(at, from, size, n int) (i, j int, part uint32) {
		v := min(max((2*(at-from)+1)*n*128/size-128, 0), (n-1)*256)
		return v >> 8, min(v>>8+1, n-1), uint32(v & 255)
	}
	for y := clip.Min.Y; y < clip.Max.Y; y++ {
		row := c.pix[y*c.w : (y+1)*c.w]
		i, j, down := between(y, o.r.Min.Y, o.r.Dy(), h)
		upper, lower := img.Pix[i*img.Stride:], img.Pix[j*img.Stride:]
		corner := y < o.r.Min.Y+o.n || y >= o.r.Max.Y-o.n
		for x := clip.Min.X; x < clip.Max.X; x++ {
			k, l, right := between(x, o.r.Min.X, o.r.Dx(), w)
			var dot rgb
			for part := range 3 {
				a := uint32(upper[4*k+part])*(256-right) + uint32(upper[4*l+part])*right
				b := uint32(lower[4*k+part])*(256-right) + uint32(lower[4*l+part])*right
				dot = dot<<8 | rgb((a*(256-down)+b*down)>>16)
			}
			if corner {
				dot = blend(row[x], dot, cover(o.r, o.n, x, y))
			}
			row[x] = dot
		}
	}
}

// warm makes the masks that ops need.
func (p *painter) warm(ops []op) {
	for i := range ops {
		switch o := &ops[i]; o.what {
		case write:
			p.glyphs(o, func(*mask, int, int) {})
		case symbol:
			p.icon(o.s, o.r.Dx())
		}
	}
}

// fill draws a rectangle with round corners.
func (p *painter) fill(c *canvas, o *op, clip image.Rectangle) {
	inner := o.r.Inset(2)
	for y := clip.Min.Y; y < clip.Max.Y; y++ {
		row := c.pix[y*c.w : (y+1)*c.w]
		if o.n == 0 && o.border == 0 {
			for x := clip.Min.X; x < clip.Max.X; x++ {
				row[x] = o.colour
			}
			continue
		}
		corner := y < o.r.Min.Y+o.n || y >= o.r.Max.Y-o.n
		for x := clip.Min.X; x < clip.Max.X; x++ {
			if !corner && x >= inner.Min.X && x < inner.Max.X && y >= inner.Min.Y && y < inner.Max.Y {
				row[x] = o.colour
				continue
			}
			a := cover(o.r, o.n, x, y)
			if o.border == 0 {
				row[x] = blend(row[x], o.colour, a)
				continue
			}
			edge := blend(o.border, o.colour, cover(inner, max(o.n-2, 0), x, y))
			row[x] = blend(row[x], edge, a)
		}
	}
}

// cover is how much of a dot a rectangle with round corners covers, of 255.
func cover(r image.Rectangle, radius, x, y int) uint32 {
	if !(image.Point{X: x, Y: y}).In(r) {
		return 0
	}
	n := float64(radius)
	dx := max(float64(r.Min.X)+n-float64(x)-.5, float64(x)+.5-float64(r.Max.X)+n)
	dy := max(float64(r.Min.Y)+n-float64(y)-.5, float64(y)+.5-float64(r.Max.Y)+n)
	if dx <= 0 || dy <= 0 {
		return 255
	}
	return uint32(255 * min(max(n+.5-math.Hypot(dx, dy), 0), 1))
}

// lay draws a mask in a colour, its pen at x, y.
func (p *painter) lay(c *canvas, m *mask, x, y int, colour rgb, clip image.Rectangle) {
	x, y = x+m.left, y+m.top
	at := image.Rect(x, y, x+m.w, y+m.h).Intersect(clip)
	for row := at.Min.Y; row < at.Max.Y; row++ {
		a := m.a[(row-y)*m.w : (row-y+1)*m.w]
		to := c.pix[row*c.w : (row+1)*c.w]
		for col := at.Min.X; col < at.Max.X; col++ {
			if v := uint32(a[col-x]); v != 0 {
				to[col] = blend(to[col], colour, v)
			}
		}
	}
}

// baseline is where the glyphs of a text stand so that it has equal room above and below.
func baseline(r image.Rectangle, px int, s string) int {
	if lead(s) > 120 {
		return (r.Min.Y+r.Max.Y)/2 + px*40/100
	}
	return (r.Min.Y+r.Max.Y)/2 + px*36/100
}

// start is where a line that is w wide begins.
func start(o *op, w int) int {
	switch o.align {
	case centre:
		return o.r.Min.X + (o.r.Dx()-w)/2
	case right:
		return o.r.Max.X - w
	}
	return o.r.Min.X
}

func (o *op) style() style { return style{o.n, o.bold, o.hans} }

// glyphs hands out the masks of a line and where their pens are.
func (p *painter) glyphs(o *op, each func(m *mask, x, y int)) (from, to int) {
	var w int
	p.line, w = p.shape(o.s, o.style(), p.line[:0])
	px := float32(o.n) / em
	w = (w*o.n + em - 1) / em
	x, y := start(o, w), baseline(o.r, o.n, o.s)
	for _, g := range p.line {
		if m := p.glyph(maskKey{r: g.r, px: o.n, bold: o.bold, hans: o.hans, dots: g.dots}); m.w > 0 {
			each(m, x+int(math.Round(float64(g.dx*px))), y-int(math.Round(float64(g.dy*px))))
		}
	}
	return x, x + w
}

func (p *painter) write(c *canvas, o *op, clip image.Rectangle) {
	from, to := p.glyphs(o, func(m *mask, x, y int) { p.lay(c, m, x, y, o.colour, clip) })
	if o.through {
		y := baseline(o.r, o.n, o.s) - o.n*34/100
		thick := max(o.n/14, 2)
		p.fill(c, &op{colour: o.colour, r: image.Rect(from, y, to, y+thick)}, image.Rect(from, y, to, y+thick).Intersect(clip))
	}
}

// code draws a QR code with the white margin that it must have, as large as whole dots
// allow, in the middle.
func (p *painter) code(c *canvas, o *op, clip image.Rectangle) {
	q := p.qr(o.s)
	if q == nil {
		return
	}
	size, times := codeSize(q, o.r.Dx())
	r := image.Rect(0, 0, size, size).Add(o.r.Min).Add(image.Pt((o.r.Dx()-size)/2, (o.r.Dy()-size)/2))
	for y := max(r.Min.Y, clip.Min.Y); y < min(r.Max.Y, clip.Max.Y); y++ {
		for x := max(r.Min.X, clip.Min.X); x < min(r.Max.X, clip.Max.X); x++ {
			to := &c.pix[y*c.w+x]
			if *to = 0xFFFFFF; q.Black((x-r.Min.X)/times-quiet, (y-r.Min.Y)/times-quiet) {
				*to = 0
			}
		}
	}
}

// quiet is the width of the white margin of a QR code, in modules.
const quiet = 4

// codeSize is how large a code is within so many dots, and how many dots a module has.
func codeSize(q *qr.Code, within int) (size, times int) {
	n := q.Size + 2*quiet
	times = max(within/n, 1)
	return n * times, times
}

// qr encodes a text; nil for one that is too long.
func (p *painter) qr(s string) *qr.Code {
	q, ok := p.codes[s]
	if !ok {
		q, _ = qr.Encode(s, qr.L) // nil is drawn as nothing
		if len(p.codes) >= 4 {
			clear(p.codes)
		}
		p.codes[s] = q
	}
	return q
}

func (p *painter) keep(k maskKey, m *mask) *mask {
	if p.bytes += len(m.a); p.bytes > mostMasks {
		clear(p.masks)
		p.bytes = len(m.a)
	}
	p.masks[k] = m
	return m
}

// glyph returns the mask of a character. One that nothing can draw is an empty box.
func (p *painter) glyph(k maskKey) *mask {
	if m := p.masks[k]; m != nil {
		return m
	}
	o, ok := p.find(k.r, k.bold, k.hans)
	if k.dots {
		if d := p.dotsOf(k.r); d.dots != nil {
			o = d
		}
	}
	switch {
	case !ok && unicode.IsPrint(k.r) && k.r != ' ':
		o = outline{path: box}
	case o.dots != nil:
		return p.keep(k, dotted(o, k.px, k.bold))
	}
	s := float32(k.px) / em
	x0, y0, x1, y1 := 1<<20, 1<<20, -1<<20, -1<<20
	o.walk(func(op byte, pt [3][2]int) {
		for _, q := range pt[:pointsOf(op)] {
			x0, y0, x1, y1 = min(x0, q[0]), min(y0, q[1]), max(x1, q[0]), max(y1, q[1])
		}
	})
	if x1 <= x0 || y1 <= y0 {
		return p.keep(k, &mask{})
	}
	m := &mask{left: int(math.Floor(float64(float32(x0) * s))), top: int(math.Floor(float64(float32(-y1) * s)))}
	m.w, m.h = int(math.Ceil(float64(float32(x1)*s)))-m.left, int(math.Ceil(float64(float32(-y0)*s)))-m.top
	p.raster.reset(m.w, m.h)
	at := func(q [2]int) (x, y float32) {
		return float32(q[0])*s - float32(m.left), -float32(q[1])*s - float32(m.top)
	}
	o.walk(func(op byte, pt [3][2]int) {
		ax, ay := at(pt[0])
		bx, by := at(pt[1])
		cx, cy := at(pt[2])
		switch op {
		case 0:
			p.raster.moveTo(ax, ay)
		case 1:
			p.raster.lineTo(ax, ay)
		case 2:
			p.raster.quadTo(ax, ay, bx, by)
		case 3:
			p.raster.cubeTo(ax, ay, bx, by, cx, cy)
		}
	})
	m.a = p.raster.mask()
	return p.keep(k, m)
}

// dotted enlarges a picture of 16 rows of dots, with the corners smoothed.
func dotted(o outline, px int, bold bool) *mask {
	w := (o.advance*px + em - 1) / em
	m := &mask{w: w, h: px, top: -px * 88 / 100, a: make([]byte, w*px)}
	dot := func(x, y int) float64 {
		if x < 0 || y < 0 || x > 15 || y > 15 || (uint16(o.dots[2*y])<<8|uint16(o.dots[2*y+1]))&(0x8000>>x) == 0 {
			return 0
		}
		return 1
	}
	step := 16 / float64(px)
	edge := .5 // how much of the dots around makes ink
	if bold {
		edge = .38
	}
	soft := 2 * min(step, edge) // how far ink fades; in small letters not as far as the next dot
	for y := range px {
		fy := (float64(y)+.5)*step - .5
		iy := int(math.Floor(fy))
		fy -= float64(iy)
		for x := range w {
			fx := (float64(x)+.5)*step - .5
			ix := int(math.Floor(fx))
			fx -= float64(ix)
			v := (dot(ix, iy)*(1-fx)+dot(ix+1, iy)*fx)*(1-fy) + (dot(ix, iy+1)*(1-fx)+dot(ix+1, iy+1)*fx)*fy
			m.a[y*w+x] = byte(255 * min(max((v-edge)/soft+.5, 0), 1))
		}
	}
	return m
}

// changed returns where two scenes differ, in as few rectangles as they have groups of
// ops that differ; whole where they are not alike at all.
func changed(was, is []op, whole image.Rectangle) []image.Rectangle {
	if len(was) != len(is) || len(is) > 0 && was[0] != is[0] {
		return []image.Rectangle{whole}
	}
	var dirty []image.Rectangle
	for i := range is {
		if was[i] == is[i] {
			continue
		}
		r := was[i].reach().Union(is[i].reach())
		for j := 0; j < len(dirty); j++ { // grow until nothing overlaps
			if dirty[j].Overlaps(r) {
				r = r.Union(dirty[j])
				dirty = slices.Delete(dirty, j, j+1)
				j = -1
			}
		}
		dirty = append(dirty, r)
	}
	return dirty
}

// box is drawn for a character that nothing here can draw.
var box = func() (path []byte) {
	for _, ring := range [][]int{{80, -80, 740, 0, 0, 880, -740, 0, 0, -880}, {60, 60, 0, 760, 620, 0, 0, -760, -620, 0}} {
		for i := 0; i < len(ring); i += 2 {
			op := byte(1)
			if i == 0 {
				op = 0
			}
			path = append(path, op)
			path = binary.AppendVarint(path, int64(ring[i]))
			path = binary.AppendVarint(path, int64(ring[i+1]))
		}
	}
	return path
}()
