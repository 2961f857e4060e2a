package screen

import "image"

// frame is the memory of a display: 32 bits a dot as 0x00RRGGBB, or as 0x00BBGGRR where
// blueFirst is, as a Raspberry Pi's firmware may have it; or 16 as 5 red, 6 green and 5
// blue. One of wide and narrow is nil.
type frame struct {
	w, h      int
	pitch     int // dots of a row, those included that are not seen
	wide      []uint32
	narrow    []uint16
	blueFirst bool
}

// put copies a part of the canvas, turned, and darker where wanted, and returns where it
// went.
func (f *frame) put(c *canvas, r image.Rectangle, turn int, dim bool) image.Rectangle {
	r = r.Intersect(c.bounds())
	var at image.Rectangle
	var dx, dy int // of the panel, for a step to the right on the canvas
	switch turn {
	case 90:
		at, dy = image.Rect(c.h-r.Max.Y, r.Min.X, c.h-r.Min.Y, r.Max.X), 1
	case 180:
		at, dx = image.Rect(c.w-r.Max.X, c.h-r.Max.Y, c.w-r.Min.X, c.h-r.Min.Y), -1
	case 270:
		at, dy = image.Rect(r.Min.Y, c.w-r.Max.X, r.Max.Y, c.w-r.Min.X), -1
	default:
		at, dx = r, 1
	}
	at = at.Intersect(image.Rect(0, 0, f.w, f.h))
	step := dy*f.pitch + dx
	for y := r.Min.Y; y < r.Max.Y; y++ {
		x0, y0 := r.Min.X, y
		switch turn {
		case 90:
			x0, y0 = c.h-1-y, r.Min.X
		case 180:
			x0, y0 = c.w-1-r.Min.X, c.h-1-y
		case 270:
			x0, y0 = y, c.w-1-r.Min.X
		}
		if x0 < 0 || y0 < 0 || x0 >= f.w || y0 >= f.h {
			continue
		}
		to := y0*f.pitch + x0
		row := c.pix[y*c.w+r.Min.X : y*c.w+r.Max.X]
		for _, p := range row {
			v := uint32(p)
			if dim {
				v = v>>2&0x3F3F3F + v>>4&0x0F0F0F
			}
			switch {
			case f.blueFirst:
				f.wide[to] = v>>16 | v&0xFF00 | v&0xFF<<16
			case f.wide != nil:
				f.wide[to] = v
			default:
				f.narrow[to] = uint16(v>>8&0xF800 | v>>5&0x07E0 | v>>3&0x001F)
			}
			to += step
		}
	}
	return at
}
