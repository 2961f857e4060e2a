package screen

import "math"

// stroke is a line through points, on a square of 100, with round ends.
type stroke struct {
	width  float64
	points []float64 // x, y, x, y …
}

func line(width float64, points ...float64) stroke { return stroke{width, points} }

// arc is a part of a circle, from an angle to another in degrees, clockwise from three
// o'clock.
func arc(width, cx, cy, r, from, to float64) stroke {
	s := stroke{width: width}
	n := max(int(math.Abs(to-from)/3), 1)
	for i := range n + 1 {
		a := (from + (to-from)*float64(i)/float64(n)) * math.Pi / 180
		s.points = append(s.points, cx+r*math.Cos(a), cy+r*math.Sin(a))
	}
	return s
}

// icons are the same as the page's. They tell outcomes and kinds apart without words
// and without colour.
var icons = map[string][]stroke{
	"stored":        {arc(9, 50, 50, 44, 0, 360), line(9, 27, 52, 43, 68, 74, 34)},
	"unset":         {line(9, 8, 50, 27, 70, 62, 26), arc(8, 73, 70, 22, 0, 360), line(6, 73, 57, 73, 71, 82, 77)},
	"corrected":     {line(9, 16, 84, 20, 64, 68, 16, 84, 32, 36, 80, 16, 84), line(9, 56, 28, 72, 44)},
	"duplicate":     {line(9, 6, 54, 24, 72, 56, 32), line(9, 42, 66, 48, 72, 92, 28)},
	"unknown_badge": {arc(9, 50, 50, 44, 0, 360), arc(9, 50.5, 39, 14.5, -180, 50), line(9, 59.8, 50.1, 50, 62), line(9, 50, 75, 50, 77)},
	"blocked_badge": {arc(10, 50, 50, 43, 0, 360), line(10, 19.6, 80.4, 80.4, 19.6)},
	"misread":       {line(9, 50, 10, 93, 88, 7, 88, 50, 10), line(9, 50, 38, 50, 62), line(9, 50, 74, 50, 76)},
	"enrolment":     {line(8, 60, 78, 8, 78, 8, 22, 88, 22, 88, 44), line(8, 8, 38, 88, 38), line(8, 20, 60, 40, 60), line(9, 62, 72, 74, 84, 95, 58)},
	"not_stored":    {line(11, 18, 18, 82, 82), line(11, 82, 18, 18, 82)},
	"in":            {line(8, 58, 17, 81, 17, 81, 83, 58, 83), line(8, 15, 50, 60, 50), line(8, 44, 31, 63, 50, 44, 69)},
	"out":           {line(8, 42, 17, 19, 17, 19, 83, 42, 83), line(8, 37, 50, 85, 50), line(8, 69, 31, 88, 50, 69, 69)},
	"go-out":        {line(8, 15, 35, 85, 35, 85, 81, 15, 81, 15, 35), line(8, 35, 35, 35, 21, 65, 21, 65, 35), line(8, 15, 56, 85, 56)},
	"return":        {line(8, 37, 19, 17, 40, 37, 60), line(8, 17, 40, 58, 40), arc(8, 58, 60.5, 20.5, -90, 90), line(8, 58, 81, 39, 81)},
	"keypad": {line(16, 25, 21, 25, 21), line(16, 50, 21, 50, 21), line(16, 75, 21, 75, 21), line(16, 25, 50, 25, 50), line(16, 50, 50, 50, 50),
		line(16, 75, 50, 75, 50), line(16, 25, 79, 25, 79), line(16, 50, 79, 50, 79), line(16, 75, 79, 75, 79)},
	"globe": {arc(7, 50, 50, 38, 0, 360), line(7, 12, 50, 88, 50), arc(7, 90, 50, 55, 137, 223), arc(7, 10, 50, 55, -43, 43)},
	"info":  {arc(8, 50, 50, 40, 0, 360), line(9, 50, 47, 50, 70), line(9, 50, 30, 50, 31)},
}

// icon returns the mask of an icon.
func (p *painter) icon(name string, px int) *mask {
	k := maskKey{icon: name, px: px}
	if m := p.masks[k]; m != nil {
		return m
	}
	m := &mask{w: px, h: px}
	s := float64(px) / 100
	p.raster.reset(px, px)
	for _, st := range icons[name] {
		r := st.width / 2 * s
		for i := 0; i+3 < len(st.points); i += 2 {
			p.capsule(st.points[i]*s, st.points[i+1]*s, st.points[i+2]*s, st.points[i+3]*s, r)
		}
	}
	m.a = p.raster.mask()
	return p.keep(k, m)
}

// capsule draws a piece of a line with round ends. All of them turn the same way, so
// that two that overlap are one.
func (p *painter) capsule(x0, y0, x1, y1, r float64) {
	a := math.Atan2(y1-y0, x1-x0)
	const steps = 12
	for i := range 2*steps + 2 {
		x, y, t := x1, y1, a-math.Pi/2+math.Pi*float64(i)/steps
		if i > steps {
			x, y, t = x0, y0, t-math.Pi/steps
		}
		px, py := float32(x+r*math.Cos(t)), float32(y+r*math.Sin(t))
		if i == 0 {
			p.raster.moveTo(px, py)
		} else {
			p.raster.lineTo(px, py)
		}
	}
}
