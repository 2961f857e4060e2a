package screen

import "math"

// raster turns outlines into masks. It keeps, for each dot, by how much the covering
// changes from the dot at its left, so that a line costs the dots that it crosses, and one
// pass at the end adds them up. The way is that of Raph Levien's font-rs. What turns the
// same way twice covers once.
type raster struct {
	w, h         int
	a            []float32 // rows of w+2
	x, y         float32   // the pen
	fromX, fromY float32   // where the outline began
}

func (r *raster) reset(w, h int) {
	r.w, r.h = w, h
	if n := (w + 2) * h; n <= cap(r.a) {
		r.a = r.a[:n]
		clear(r.a)
	} else {
		r.a = make([]float32, n)
	}
	r.x, r.y, r.fromX, r.fromY = 0, 0, 0, 0
}

// moveTo closes the outline and begins another.
func (r *raster) moveTo(x, y float32) {
	r.lineTo(r.fromX, r.fromY)
	r.x, r.y, r.fromX, r.fromY = x, y, x, y
}

func (r *raster) lineTo(x, y float32) {
	r.edge(r.x, r.y, x, y)
	r.x, r.y = x, y
}

func (r *raster) quadTo(x1, y1, x2, y2 float32) {
	x0, y0 := r.x, r.y
	n := pieces(x0-2*x1+x2, y0-2*y1+y2)
	for i := 1; i <= n; i++ {
		t := float32(i) / float32(n)
		u := 1 - t
		r.lineTo(u*u*x0+2*u*t*x1+t*t*x2, u*u*y0+2*u*t*y1+t*t*y2)
	}
}

func (r *raster) cubeTo(x1, y1, x2, y2, x3, y3 float32) {
	x0, y0 := r.x, r.y
	n := max(pieces(x0-2*x1+x2, y0-2*y1+y2), pieces(x1-2*x2+x3, y1-2*y2+y3))
	for i := 1; i <= n; i++ {
		t := float32(i) / float32(n)
		u := 1 - t
		a, b, c, d := u*u*u, 3*u*u*t, 3*u*t*t, t*t*t
		r.lineTo(a*x0+b*x1+c*x2+d*x3, a*y0+b*y1+c*y2+d*y3)
	}
}

// pieces is how many lines stand for a curve that bends so much, to a tenth of a dot.
func pieces(x, y float32) int {
	return 1 + int(math.Sqrt(1.5*math.Hypot(float64(x), float64(y))))
}

// edge adds a line from one point to another.
func (r *raster) edge(x0, y0, x1, y1 float32) {
	if y0 == y1 {
		return
	}
	sign := float32(1)
	if y0 > y1 {
		x0, y0, x1, y1, sign = x1, y1, x0, y0, -1
	}
	slope := (x1 - x0) / (y1 - y0)
	x := x0
	if y0 < 0 {
		x -= y0 * slope
	}
	most := float32(r.w)
	for y := int(max(y0, 0)); y < r.h && float32(y) < y1; y++ {
		row := r.a[y*(r.w+2) : (y+1)*(r.w+2)]
		dy := min(float32(y+1), y1) - max(float32(y), y0)
		next := x + slope*dy
		d := dy * sign
		l, rt := min(max(min(x, next), 0), most), min(max(max(x, next), 0), most)
		x = next
		li, ri := int(l), int(math.Ceil(float64(rt)))
		if ri <= li+1 {
			m := (l+rt)/2 - float32(li)
			row[li] += d - d*m
			row[li+1] += d * m
			continue
		}
		s := 1 / (rt - l)
		lf, rf := l-float32(li), rt-float32(ri)+1
		first, last := s*(1-lf)*(1-lf)/2, s*rf*rf/2
		row[li] += d * first
		if ri == li+2 {
			row[li+1] += d * (1 - first - last)
		} else {
			second := s * (1.5 - lf)
			row[li+1] += d * (second - first)
			for i := li + 2; i < ri-1; i++ {
				row[i] += d * s
			}
			row[ri-1] += d * (1 - second - float32(ri-li-3)*s - last)
		}
		row[ri] += d * last
	}
}

// mask closes the outline and returns what it covers.
func (r *raster) mask() []byte {
	r.lineTo(r.fromX, r.fromY)
	out := make([]byte, r.w*r.h)
	for y := range r.h {
		sum := float32(0)
		row := r.a[y*(r.w+2):]
		for x := range r.w {
			sum += row[x]
			out[y*r.w+x] = byte(min(max(sum, -sum), 1)*255 + .5)
		}
	}
	return out
}
