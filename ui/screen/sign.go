package screen

import "strings"

// Sign is a text that fills the screen in place of all that a clock at work shows: of a
// board that is no clock yet, why not, and what to do.
type Sign struct {
	Heads []string // a line each
	Texts []string // of lines; side by side on a screen that lies, else one below the other
	Calm  bool     // nothing is wrong
}

// leastSign is the least size of a sign's text: below it nobody reads it on a wall.
const leastSign = 16

// sign draws the texts all in one size, the largest in which they fit. What does not fit
// in the least one is left out at the end.
func (d *drawing) sign() {
	d.on(ground)
	s, r := d.v.sign, d.size
	colours := answers["not_stored"]
	if s.Calm {
		colours = answers["duplicate"]
	}
	if len(s.Heads) > 0 {
		head := cutTop(&r, len(s.Heads)*d.base*19/10+d.gap)
		d.box(head, colours.ground, 0, 0)
		head = head.Inset(d.gap / 2)
		head.Min.X += d.gap
		for i, at := range d.cells(head, 1, len(s.Heads)) {
			d.text(at, s.Heads[i], look{colour: colours.on, most: d.base * 14 / 10, least: leastSign, bold: true, free: true})
		}
	}
	r = r.Inset(d.gap * 3 / 2)
	columns, rows := len(s.Texts), 1
	if d.upright {
		columns, rows = rows, columns
	}
	var lines [][]string
	var px int
	cells := d.cells(r, columns, rows)
	for px = d.base; ; px-- {
		fits := true
		lines = lines[:0]
		for i, text := range s.Texts {
			of := d.lines(text, cells[i].Dx(), style{px: px})
			lines = append(lines, of)
			fits = fits && len(of)*px*130/100 <= cells[i].Dy()
		}
		if fits || px <= leastSign {
			break
		}
	}
	for i, of := range lines {
		at := cells[i]
		for _, line := range of {
			if at.Dy() < px*130/100 {
				d.cutSentences = append(d.cutSentences, line)
				break
			}
			d.ops = append(d.ops, op{what: write, r: cutTop(&at, px*130/100), colour: soft, n: px, s: line})
		}
	}
}

// lines wraps each line of a text by itself.
func (d *drawing) lines(text string, w int, st style) (all []string) {
	for line := range strings.Lines(text) {
		of, _ := d.wrap(strings.TrimSpace(line), w, st)
		all = append(all, of...)
	}
	return all
}
