package lcd

import (
	"strings"
	"time"
	"unicode"

	"punchclock/ui"
	"punchclock/ui/text"
)

const (
	wide = 128
	high = 64
)

// dots is a picture as an OLED keeps it: eight pages of eight rows, a byte for each
// column of a page, the uppermost dot in the lowest bit.
type dots [wide * high / 8]byte

func (d *dots) set(x, y int) {
	if x >= 0 && x < wide && y >= 0 && y < high {
		d[y/8*wide+x] |= 1 << (y % 8)
	}
}

func (d *dots) at(x, y int) bool { return d[y/8*wide+x]&(1<<(y%8)) != 0 }

// invert turns light into dark.
func (d *dots) invert() {
	for i := range d {
		d[i] = ^d[i]
	}
}

// shift moves the picture; what leaves is lost.
func (d *dots) shift(dx, dy int) {
	var out dots
	for y := range high {
		for x := range wide {
			if d.at(x, y) {
				out.set(x+dx, y+dy)
			}
		}
	}
	*d = out
}

// write puts a text with its upper left corner at x, y, each dot as a square of so
// many, and returns where it ends. Characters that the font has not are left out.
func (d *dots) write(f *font, x, y, times int, s string) int {
	for _, r := range s {
		rows, w, ok := f.glyph(r)
		if !ok {
			continue
		}
		for gy := range glyphHeight {
			row := uint16(rows[2*gy])<<8 | uint16(rows[2*gy+1])
			for gx := range w {
				if row&(0x8000>>gx) == 0 {
					continue
				}
				for i := range times * times {
					d.set(x+gx*times+i%times, y+gy*times+i/times)
				}
			}
		}
		x += w * times
	}
	return x
}

// middle writes a line in the middle.
func (d *dots) middle(f *font, y int, s string) { d.write(f, max(0, (wide-f.width(s))/2), y, 1, s) }

// symbols are 16×16 dots, doubled when drawn; X is a dot. They tell the outcomes apart
// without words and without colour.
var symbols = map[string]string{
	"stored":        "...............X/..............XX/.............XXX/............XXX./...........XXX../..........XXX.../X........XXX..../XX......XXX...../XXX....XXX....../.XXX..XXX......./..XXXXXX......../...XXXX........./....XX........../................/................/................",
	"duplicate":     "................/................/................/.XXXXXXXXXXXXXX./.XXXXXXXXXXXXXX./.XXXXXXXXXXXXXX./................/................/................/.XXXXXXXXXXXXXX./.XXXXXXXXXXXXXX./.XXXXXXXXXXXXXX./................/................/................/................",
	"unknown_badge": "....XXXXXXX...../...XXXXXXXXX..../..XXX.....XXX.../..XX.......XX.../...........XX.../..........XXX.../.........XXX..../.......XXXX...../......XXX......./......XX......../......XX......../................/......XX......../......XX......../................/................",
	"blocked_badge": "......XXXX....../....XXXXXXXX..../..XXXXX..XXXXX../..XXX......XXX../.XXX......XXXXX./.XX......XXX.XX./XXX.....XXX..XXX/XX.....XXX....XX/XX....XXX.....XX/XXX..XXX.....XXX/.XX.XXX......XX./.XXXXX......XXX./..XXX......XXX../..XXXXX..XXXXX../....XXXXXXXX..../......XXXX......",
	"misread":       "....XX....XX..../...XX....XX...../..XX....XX....../.XX....XX......./XX....XX......../.XX....XX......./..XX....XX....../...XX....XX...../....XX....XX..../...XX....XX...../..XX....XX....../.XX....XX......./XX....XX......../................/................/................",
	"enrolment":     "................/................/XXXXXXXXXXXX..../X..........X..../X..........X..../XXXXXXXXXXXX..../XXXXXXXXXXXX..../X..........X..../X..........X.XX./X.XXXXX....XXX.X/X..........XX.../XXXXXXXXX.XXX.../......XX.XX...../.......XXX....../................/................",
	"not_stored":    "XX............XX/XXX..........XXX/.XXX........XXX./..XXX......XXX../...XXX....XXX.../....XXX..XXX..../.....XXXXXX...../......XXXX....../......XXXX....../.....XXXXXX...../....XXX..XXX..../...XXX....XXX.../..XXX......XXX../.XXX........XXX./XXX..........XXX/XX............XX",
}

func (d *dots) symbol(x, y, times int, outcome string) {
	for gy, row := range strings.Split(symbols[outcome], "/") {
		for gx, c := range row {
			if c != 'X' {
				continue
			}
			for i := range times * times {
				d.set(x+gx*times+i%times, y+gy*times+i/times)
			}
		}
	}
}

// wrap breaks a sentence into lines that fit: at spaces, else anywhere, but never so
// that a line begins with a mark that belongs to the word before.
func (f *font) wrap(s string) (lines []string) {
	line := ""
	flush := func() {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
		line = ""
	}
	for _, word := range words(s) {
		if f.width(line+strings.TrimRight(word, " ")) > wide {
			flush()
		}
		for f.width(strings.TrimRight(word, " ")) > wide { // one word alone is too long
			cut := 0
			for i := range word {
				if f.width(word[:i]) > wide {
					break
				}
				cut = i
			}
			lines = append(lines, word[:cut])
			word = word[cut:]
		}
		line += word
	}
	flush()
	return lines
}

// words splits a sentence where a line may end: behind a space, and around each
// Chinese character, with the marks that follow it.
func words(s string) (out []string) {
	word := ""
	for _, r := range s {
		mark := unicode.IsPunct(r) && r > 0xFF
		if word != "" && !mark && (unicode.Is(unicode.Han, r) || unicode.Is(unicode.Han, last(word)) || last(word) > 0xFF && unicode.IsPunct(last(word))) {
			out = append(out, word)
			word = ""
		}
		word += string(r)
		if r == ' ' {
			out = append(out, word)
			word = ""
		}
	}
	if word != "" {
		out = append(out, word)
	}
	return out
}

func last(s string) (r rune) {
	for _, r = range s {
	}
	return r
}

// say returns the catalog in which all of these sentences can be drawn: the wanted
// one, or the English one.
func (f *Face) say(language string, sentences func(text.Catalog) []string) (text.Catalog, []string) {
	c := f.words
	if language != "" {
		c = text.For(language)
	}
	said := sentences(c)
	for _, s := range said {
		if !f.font.has(s) {
			c = text.For("en")
			return c, sentences(c)
		}
	}
	return c, said
}

// draw draws a screen.
func (f *Face) draw(s ui.Screen, now time.Time, line func(text.Catalog) string) (d dots) {
	if s.Result != nil {
		return f.drawResult(s.Result)
	}
	_, said := f.say("", func(c text.Catalog) []string {
		all := []string{c.Kind(s.Kind)}
		for _, r := range s.Readers {
			if r.State == "down" {
				all = append(all, c.Say(text.ReaderDown, r.Name))
			}
		}
		if s.Clock == "unset" {
			all = append(all, c.Clock(s.Clock))
		}
		return append(all, c.Say(text.IdleTap), line(c))
	})
	x := d.write(f.font, 0, 0, 2, now.Format("15:04"))
	if s.Clock == "unset" {
		d.write(f.font, x, 0, 1, "?")
	}
	if w := f.font.width(said[0]); s.Kind != "" {
		d.write(f.font, wide-w, 16, 1, said[0])
	}
	// Two lines for what matters most; what does not fit whole is left out.
	var low []string
	for _, sentence := range said[1:] {
		if all := f.font.wrap(sentence); len(low)+len(all) <= 2 || len(low) == 0 {
			low = append(low, all...)
		} else if part := f.font.wrap(clause(sentence)); len(low)+len(part) <= 2 {
			low = append(low, part...)
		}
	}
	for i, l := range low[:min(len(low), 2)] {
		d.middle(f.font, 32+16*i, l)
	}
	// A dot or two every minute, so that no dot is lit for years.
	m := now.Minute()
	d.shift(m%3-1, m/3%3-1)
	return d
}

// clause is a sentence up to its first comma.
func clause(s string) string {
	if i := strings.IndexAny(s, "，,"); i > 0 {
		return s[:i]
	}
	return s
}

// shorter is a sentence without what comes before the last full stop: what to do is
// said last. It returns s where there is none.
func shorter(s string) string {
	if i := strings.Index(s, ". "); i > 0 {
		return s[i+2:]
	}
	return s
}

// drawResult draws the answer to a tap.
func (f *Face) drawResult(r *ui.Result) (d dots) {
	at := r.Time.In(f.c.Location)
	name := r.Name
	if name == "" || !f.font.has(name) {
		name = r.Employee
	}
	if r.Outcome == "stored" {
		_, said := f.say(r.Language, func(c text.Catalog) []string {
			last := at.Format("15:04:05")
			if said := c.Clock(r.Clock); r.Clock != "unset" {
			} else if f.font.width(said) <= wide {
				last = said
			} else {
				last += " ?"
			}
			return []string{c.Kind(r.Kind), last}
		})
		d.symbol(0, 0, 2, r.Outcome)
		if times := 2; f.font.width(said[0])*times <= wide-36 {
			d.write(f.font, 40, 0, times, said[0])
		} else {
			d.write(f.font, 40, 8, 1, said[0])
		}
		d.middle(f.font, 32, name)
		d.middle(f.font, 48, said[1])
		return d
	}
	_, said := f.say(r.Language, func(c text.Catalog) []string {
		return []string{c.Answer(r.Outcome, r.Clock, r.Reason)}
	})
	all := f.font.wrap(said[0])
	for len(all) > 3 && shorter(said[0]) != said[0] {
		said[0] = shorter(said[0])
		all = f.font.wrap(said[0])
	}
	if r.Outcome == "duplicate" && len(all) < 2 && name != "" {
		all = append(all, name)
	}
	if len(all) <= 2 {
		d.symbol(0, 0, 2, r.Outcome)
		d.write(f.font, 44, 0, 2, at.Format("15:04"))
		for i, l := range all {
			d.middle(f.font, 32+16*i, l)
		}
	} else {
		d.symbol(0, 0, 1, r.Outcome)
		d.write(f.font, 32, 0, 1, at.Format("15:04:05"))
		for i, l := range all[:min(len(all), 3)] {
			d.middle(f.font, 16+16*i, l)
		}
	}
	if r.Outcome == "not_stored" {
		d.invert() // nobody takes it for the other
	}
	return d
}
