package screen

import (
	"fmt"
	"image"
	"strings"
	"time"

	"punchclock/ui"
	"punchclock/ui/text"
)

// The colours are the page's: every pair of text and ground has a contrast of 7:1 or
// more, which a test holds.
const (
	ground    rgb = 0x0B1220
	raised    rgb = 0x1A2640
	pushed    rgb = 0x2B3A5E
	edge      rgb = 0x7F95BD
	white     rgb = 0xFFFFFF
	soft      rgb = 0xC6D2E8
	lit       rgb = 0xFFD84D
	onLit     rgb = 0x14110A
	fine      rgb = 0x6FE08F
	bad       rgb = 0xFFB3A7
	ownRaised rgb = 0x0A2F5C
	ownEdge   rgb = 0xA9C6EE
	ownRule   rgb = 0x2B5A94
	field     rgb = 0xFFFFFF
	onField   rgb = 0x111111
)

// answers are the grounds of the answers, and what is written on them.
var answers = map[string]struct{ ground, on rgb }{
	"stored":        {0x0A5A2C, white},
	"unset":         {0x0A4F5E, white},
	"duplicate":     {0x0B3F78, white},
	"unknown_badge": {0xFFC533, onLit},
	"blocked_badge": {0x5D1038, white},
	"misread":       {0x55267D, white},
	"enrolment":     {0x1D4B57, white},
	"not_stored":    {0x930000, white},
}

var kinds = []string{"in", "out", "go-out", "return"}

// view is all that a picture is made of.
type view struct {
	screen ui.Screen
	result *ui.Result // drawn full screen while not nil; with screen.Mine, in a band above that
	now    time.Time  // in the device's zone
	words  text.Catalog
	name   string // of the device
	status Status
	rows   []Row  // of the sheet about the state, nil while it is not open
	code   string // what the QR code holds, "" for none
	notice string // a passing one
	late   bool   // what was asked for a correction was refused
	pad    *pad   // number and PIN, nil while they are not open
	push   string // what a finger is on
	sign   *Sign  // in place of everything else, nil for none
	face   bool   // there is a portrait beside the result
	photo  string // its name, "" until it is there
}

// target is what a finger can hit.
type target struct {
	id string
	r  image.Rectangle
}

// scene is a picture before it is drawn.
type scene struct {
	ops     []op
	targets []target
	ground  rgb
}

// drawing lays a scene out.
type drawing struct {
	*painter
	scene
	v            view
	size         image.Rectangle
	upright      bool
	gap, base    int // between things; the size of usual text
	touch        int // least height of what is touched
	hans         bool
	cutSentences []string // that did not fit, for the tests
}

// layout turns a view into a scene of a size.
func (p *painter) layout(v view, w, h int) *drawing {
	d := &drawing{painter: p, v: v, size: image.Rect(0, 0, w, h), upright: h > w}
	d.gap = clamp(min(w, h)*17/1000, 8, 24)
	d.base = max(h*42/1000, 18)
	d.touch = max(104, h*195/1000)
	if d.upright {
		d.base, d.touch = max(w*43/1000, 18), max(104, h*13/100)
	}
	d.speak(v.words)
	switch {
	case v.sign != nil:
		d.sign()
	case v.result != nil && v.screen.Mine != nil:
		d.mine()
	case v.result != nil:
		d.answer()
	case v.pad != nil:
		d.numberAndPIN()
	case v.rows != nil:
		d.sheet()
	default:
		d.idle()
	}
	return d
}

func clamp(n, least, most int) int { return max(least, min(n, most)) }

// speak says which catalog the words are in, for the forms of Chinese characters.
func (d *drawing) speak(c text.Catalog) { d.hans = c.Language() == "zh-CN" }

func (d *drawing) on(colour rgb) {
	d.ground = colour
	d.ops = append(d.ops, op{what: fill, r: d.size, colour: colour})
}

func (d *drawing) target(id string, r image.Rectangle) {
	d.targets = append(d.targets, target{id, r})
}

// look is how a text is set.
type look struct {
	colour      rgb
	most, least int // size
	lines       int // 0 is 1
	bold        bool
	align       uint8
	top         bool // from the upper edge; else in the middle
	clauses     bool
	through     bool
	free        bool // may be cut: a name, a remedy
}

// text writes a text into a box as large as it fits, and returns the height it takes.
func (d *drawing) text(r image.Rectangle, s string, l look) int {
	if s == "" || r.Empty() {
		return 0
	}
	l.lines = max(l.lines, 1)
	if l.least == 0 {
		l.least = max(14, l.most/3)
	}
	f := d.fit(fitKey{s: s, w: r.Dx(), h: r.Dy(), most: max(l.most, l.least), least: min(l.least, max(l.most, 1)), lines: l.lines, st: style{bold: l.bold, hans: d.hans}, clauses: l.clauses})
	if f.cut && !l.free {
		d.cutSentences = append(d.cutSentences, s)
	}
	lh := f.px * lead(s) / 100
	y := r.Min.Y
	if !l.top {
		y += (r.Dy() - lh*len(f.lines)) / 2
	}
	for i, line := range f.lines {
		d.ops = append(d.ops, op{what: write, r: image.Rect(r.Min.X, y+i*lh, r.Max.X, y+(i+1)*lh).Intersect(r), colour: l.colour,
			n: f.px, s: line, bold: l.bold, hans: d.hans, align: l.align, through: l.through})
	}
	return lh * len(f.lines)
}

// mark draws an icon in the middle of a box.
func (d *drawing) mark(r image.Rectangle, name string, colour rgb) {
	n := min(r.Dx(), r.Dy())
	at := image.Rect(0, 0, n, n).Add(r.Min).Add(image.Pt((r.Dx()-n)/2, (r.Dy()-n)/2))
	d.ops = append(d.ops, op{what: symbol, r: at, colour: colour, s: name})
}

func (d *drawing) box(r image.Rectangle, colour, border rgb, radius int) {
	d.ops = append(d.ops, op{what: fill, r: r, colour: colour, border: border, n: radius})
}

func cutTop(r *image.Rectangle, n int) image.Rectangle {
	out := *r
	out.Max.Y = min(r.Min.Y+n, r.Max.Y)
	r.Min.Y = out.Max.Y
	return out
}

func cutBottom(r *image.Rectangle, n int) image.Rectangle {
	out := *r
	out.Min.Y = max(r.Max.Y-n, r.Min.Y)
	r.Max.Y = out.Min.Y
	return out
}

func cutLeft(r *image.Rectangle, n int) image.Rectangle {
	out := *r
	out.Max.X = min(r.Min.X+n, r.Max.X)
	r.Min.X = out.Max.X
	return out
}

func cutRight(r *image.Rectangle, n int) image.Rectangle {
	out := *r
	out.Min.X = max(r.Max.X-n, r.Min.X)
	r.Max.X = out.Min.X
	return out
}

// cells divides a box into columns and rows with gaps, row by row.
func (d *drawing) cells(r image.Rectangle, columns, rows int) (all []image.Rectangle) {
	for y := range rows {
		for x := range columns {
			all = append(all, image.Rect(
				r.Min.X+(r.Dx()+d.gap)*x/columns, r.Min.Y+(r.Dy()+d.gap)*y/rows,
				r.Min.X+(r.Dx()+d.gap)*(x+1)/columns-d.gap, r.Min.Y+(r.Dy()+d.gap)*(y+1)/rows-d.gap))
		}
	}
	return all
}

// button draws something that can be touched, and returns what is left for its words.
func (d *drawing) button(id string, r image.Rectangle, colour, border rgb) image.Rectangle {
	if d.v.push == id && colour != lit {
		colour = pushed
	}
	d.box(r, colour, border, 18)
	d.target(id, r)
	return r.Inset(6)
}

// side is the width of the column at the right.
func (d *drawing) side() int { return max(124, d.size.Dx()*175/1000) }

// idle is what stands there while nobody punches.
func (d *drawing) idle() {
	d.on(ground)
	c, v := d.v.words, &d.v
	r := d.size.Inset(d.gap * 12 / 10)
	r.Min.X, r.Max.X = d.size.Min.X+d.gap*3/2, d.size.Max.X-d.gap*3/2

	name := look{colour: white, most: d.base * 115 / 100, least: d.base * 3 / 4, bold: true, free: true}
	date := look{colour: soft, most: d.base * 11 / 10, least: d.base * 3 / 4, align: right}
	head := cutTop(&r, d.base*16/10)
	if d.upright {
		date.align = left
		d.text(head, v.name, name)
		d.text(cutTop(&r, d.base*15/10), c.Date(v.now), date)
	} else {
		at := cutRight(&head, head.Dx()*54/100)
		d.text(at, c.Date(v.now), date)
		head.Max.X -= d.gap
		d.text(head, v.name, name)
	}

	// Below, from the bottom: kinds, number and PIN, state.
	var pin, state image.Rectangle
	var buttons []image.Rectangle
	if d.upright {
		low := cutBottom(&r, d.touch)
		state = cutRight(&low, max(116, d.size.Dx()*26/100))
		low.Max.X -= d.gap
		pin = low
		cutBottom(&r, d.gap)
		buttons = d.cells(cutBottom(&r, 2*d.touch+d.gap), 2, 2)
	} else {
		low := cutBottom(&r, d.touch)
		pin = cutRight(&low, d.side())
		low.Max.X -= d.gap
		buttons = d.cells(low, 4, 1)
	}
	d.kindButtons("kind:", buttons)
	d.pinButton(pin)
	cutBottom(&r, d.gap)
	lineBox := cutBottom(&r, d.base*19/10)
	if d.upright {
		lineBox.Min.Y -= d.base * 13 / 10
		r.Max.Y = lineBox.Min.Y
	}
	d.calmLine(lineBox)
	if !d.upright {
		state = cutRight(&r, d.side())
		n := min(state.Dy(), state.Dx()*12/10)
		state = image.Rect(state.Min.X, (state.Min.Y+state.Max.Y-n)/2, state.Max.X, (state.Min.Y+state.Max.Y+n)/2)
		r.Max.X -= d.gap
	}
	d.stateButton(state)

	// The clock, what is doubtful about it, and what to do.
	align := left
	if d.upright {
		align = centre
	}
	doubt := ""
	if v.screen.Clock != "synced" && v.screen.Clock != "" {
		doubt = c.Clock(v.screen.Clock)
	}
	sayHeight := d.base * 23 / 10
	doubtHeight := d.base * 15 / 10
	px := min(d.size.Dy()*38/100, d.size.Dx()*21/100)
	if d.upright {
		px, sayHeight, doubtHeight = min(d.size.Dx()*28/100, d.size.Dy()*24/100), d.base*34/10, d.base*26/10
	}
	px = min(px, (r.Dy()-sayHeight-doubtHeight)*100/92)
	slack := max(r.Dy()-px*92/100-sayHeight-doubtHeight, 0)
	cutTop(&r, slack/2)
	d.clock(cutTop(&r, px*92/100), px, align)
	if doubt != "" {
		at := cutTop(&r, doubtHeight)
		d.text(at, "⚠ "+doubt, look{colour: lit, most: d.base * 11 / 10, least: d.base * 3 / 4, bold: true, align: align, lines: 2})
	} else {
		cutTop(&r, doubtHeight)
	}
	say := cutTop(&r, sayHeight)
	if notice := d.notice(); notice != "" {
		l := look{colour: onLit, most: d.base * 12 / 10, least: 14, bold: true, align: centre, lines: 2}
		f := d.fit(fitKey{s: notice, w: say.Dx() - 2*d.gap, h: say.Dy() - 4, most: l.most, least: l.least, lines: 2, st: style{bold: true, hans: d.hans}})
		wide := 0
		for _, s := range f.lines {
			wide = max(wide, d.width(s, style{f.px, true, d.hans}))
		}
		wide += 2 * d.gap
		x := say.Min.X
		if align == centre {
			x += (say.Dx() - wide) / 2
		}
		at := image.Rect(x, say.Min.Y, x+wide, say.Max.Y)
		d.box(at, lit, 0, 12)
		d.text(at.Inset(2), notice, l)
		return
	}
	prompt := c.Say(text.IdleTap)
	if why := c.Why(v.screen.Why); v.screen.Kind == "" && why != "" {
		prompt += " · " + why
	}
	d.text(say, prompt, look{colour: white, most: d.base * 3 / 2, least: d.base * 3 / 4, bold: true, align: align, lines: 2})
}

// notice is what a person at the door must know before they tap, "" for nothing.
func (d *drawing) notice() string {
	v, c := &d.v, d.v.words
	if !v.status.Ready {
		return c.Say(text.NotReady)
	}
	if v.notice != "" {
		return v.notice
	}
	var down []string
	for _, r := range v.screen.Readers {
		if r.State == "down" {
			down = append(down, r.Name)
		}
	}
	if len(down) > 0 {
		return c.Say(text.ReaderDown, strings.Join(down, ", "))
	}
	return ""
}

// clock writes the time. Nothing else moves when the seconds do.
func (d *drawing) clock(r image.Rectangle, px int, align uint8) {
	hours, seconds := d.v.now.Format("15:04"), d.v.now.Format(":05")
	big, small := style{px: px, bold: true}, style{px: px * 46 / 100}
	w, ws := d.width(hours, big), d.width(seconds, small)
	x := r.Min.X
	if align == centre {
		x += (r.Dx() - w - px/16 - ws) / 2
	}
	d.ops = append(d.ops, op{what: write, r: image.Rect(x, r.Min.Y, x+w, r.Max.Y), colour: white, n: px, s: hours, bold: true})
	// The seconds stand on the line that the hours stand on.
	foot := baseline(r, px, hours)
	h := small.px * 8 / 10
	middle := foot - small.px*36/100
	x += w + px/16
	d.ops = append(d.ops, op{what: write, r: image.Rect(x, middle-h/2, x+ws, middle+h/2), colour: soft, n: small.px, s: seconds})
}

func (d *drawing) kindButtons(prefix string, at []image.Rectangle) {
	c, v := d.v.words, &d.v
	words := 0
	for _, k := range kinds { // one size for all four
		r := at[0].Inset(6)
		f := d.fit(fitKey{s: c.Kind(k), w: r.Dx() - 4, h: r.Dy() * 55 / 100, most: max(r.Dy()*43/100, 22), least: 14, lines: 1, st: style{bold: true, hans: d.hans}})
		if words == 0 || f.px < words {
			words = f.px
		}
	}
	for i, k := range kinds {
		colour, border, on := raised, edge, white
		if v.screen.Kind == k {
			colour, border, on = lit, lit, onLit
		}
		r := d.button(prefix+k, at[i], colour, border)
		foot := cutBottom(&r, min(d.base*12/10, r.Dy()/4))
		if v.screen.Kind == k {
			d.text(foot, d.why(), look{colour: on, most: d.base * 8 / 10, least: 12, bold: true, align: centre})
		} else {
			d.text(foot, fmt.Sprint(i+1), look{colour: soft, most: d.base * 8 / 10, least: 12, align: centre})
		}
		word := cutBottom(&r, words*lead(c.Kind(k))/100)
		d.text(word, c.Kind(k), look{colour: on, most: words, least: 12, bold: true, align: centre})
		d.mark(r, k, on)
	}
}

// why is where the kind comes from, and for how long.
func (d *drawing) why() string {
	s := d.v.screen
	why := d.v.words.Why(s.Why)
	if s.Why == "chosen" && !s.Until.IsZero() {
		if left := int(s.Until.Sub(d.v.now).Seconds() + .999); left > 0 && left < 600 {
			why = d.v.words.Say(text.ChosenFor, left)
		}
	}
	if why == "" {
		return ""
	}
	return "▶ " + why
}

func (d *drawing) pinButton(r image.Rectangle) {
	r = d.button("pin", r, ground, edge)
	l := look{colour: white, most: d.base, least: 12, bold: true, align: centre, lines: 2}
	if d.upright {
		d.mark(cutLeft(&r, min(r.Dy(), r.Dx()/3)).Inset(r.Dy()/4), "keypad", white)
		d.text(r, d.v.words.Say(text.PINTitle), l)
		return
	}
	d.text(cutBottom(&r, r.Dy()*45/100), d.v.words.Say(text.PINTitle), l)
	d.mark(r.Inset(r.Dy()/8), "keypad", white)
}

// stateButton is a QR code for the technician, and opens the state.
func (d *drawing) stateButton(r image.Rectangle) {
	d.target("state", r)
	label := cutBottom(&r, d.base*21/10)
	at := image.Rect(0, 0, r.Dx(), r.Dy())
	n := min(at.Dx(), at.Dy())
	at = image.Rect(0, 0, n, n).Add(r.Min).Add(image.Pt((r.Dx()-n)/2, r.Dy()-n))
	if q := d.qr(d.v.code); d.v.code != "" && q != nil && q.Size+2*quiet <= n/2 {
		d.ops = append(d.ops, op{what: code, r: at, s: d.v.code})
	} else {
		d.mark(at.Inset(n/6), "info", soft)
	}
	d.text(label, d.v.words.Say(text.StatusTitle), look{colour: soft, most: d.base * 85 / 100, least: 12, align: centre, lines: 2, top: true})
}

// calmLine says what waits to be delivered, and what a person must look at.
func (d *drawing) calmLine(r image.Rectangle) {
	c, s := d.v.words, d.v.status
	var parts []string
	if s.Card != "" {
		parts = append(parts, s.Card)
	}
	if s.Mended {
		parts = append(parts, c.Say(text.Mended))
	}
	if s.SpaceLow {
		parts = append(parts, c.Say(text.SpaceLow))
	}
	if s.Parked > 0 {
		parts = append(parts, c.Parked(s.Parked))
	}
	stuck := s.Stuck || len(parts) > 0
	if s.Destinations > 0 {
		line := c.Say(text.Online)
		if s.Offline {
			line = c.Say(text.Offline)
		} else if s.Unwell != "" {
			line = s.Unwell
		}
		parts = append([]string{line, c.Pending(s.Pending, s.Oldest)}, parts...)
	}
	if len(parts) == 0 {
		return
	}
	m, colour := "●", fine
	switch {
	case stuck:
		m, colour = "■", bad
	case s.Offline || s.Pending > 0:
		m, colour = "▲", lit
	}
	d.text(cutLeft(&r, d.base*15/10), m, look{colour: colour, most: d.base, least: d.base})
	lines := 2
	if d.upright {
		lines = 3
	}
	d.text(r, strings.Join(parts, " · "), look{colour: soft, most: d.base, least: 13, lines: lines, free: true})
}

// said is what the answer to a tap says.
type said struct {
	icon, head, name, note, at string
	ground, on                 rgb
}

func (d *drawing) said(r *ui.Result) said {
	c := d.v.words
	if r.Language != "" {
		c = text.For(r.Language)
	}
	d.speak(c)
	word := c.Kind(r.Kind)
	stored := r.Outcome == "stored"
	sentence := c.Answer(r.Outcome, r.Clock, r.Reason)
	icon := r.Outcome
	switch {
	case stored && r.Clock == "unset":
		icon = "unset"
	case stored && r.Supersedes != "":
		icon, sentence = "corrected", c.Say(text.Corrected)
	}
	s := said{icon: icon, head: sentence, name: r.Name}
	if s.name == "" {
		s.name = r.Employee
	}
	tone := icon
	if tone == "corrected" {
		tone = "stored"
	}
	s.ground, s.on = answers[tone].ground, answers[tone].on
	clock := r.Time.In(d.v.now.Location()).Format("15:04:05")
	switch {
	case stored:
		s.head, s.note, s.at = word, sentence, clock
		if icon == "stored" {
			s.note += " · " + c.Greeting(r.Kind)
		}
	case r.Outcome == "not_stored":
		s.at = clock
	case r.Outcome != "misread" && r.Outcome != "enrolment":
		s.at = strings.TrimSpace(word + " " + clock)
	}
	return s
}

// answer is the answer to a tap, over everything.
func (d *drawing) answer() {
	s := d.said(d.v.result)
	d.on(s.ground)
	d.target("result", d.size)
	w, h := d.size.Dx(), d.size.Dy()
	r := d.size.Inset(min(w, h) * 5 / 100)
	align := left
	if d.upright {
		n := min(w*48/100, h*30/100)
		words := h * 50 / 100
		cutTop(&r, max((r.Dy()-n-words)/2, 0))
		d.emblem(cutTop(&r, n), s)
		cutTop(&r, h*4/100)
		align = centre
	} else {
		n := min(h*46/100, w*30/100)
		d.emblem(cutLeft(&r, n), s)
		cutLeft(&r, min(w, h)*6/100)
	}
	// One column of words, in the middle: what, who, a sentence, when.
	head := look{colour: s.on, most: min(h*30/100, w*20/100), least: 20, bold: true, align: align, top: true}
	if s.head != d.kindOf() {
		head = look{colour: s.on, most: min(h*16/100, w*9/100), least: 18, lines: 4, bold: true, align: align, top: true, clauses: true}
	}
	name := look{colour: s.on, most: min(h*13/100, w*85/1000), least: 18, bold: true, align: align, top: true, lines: 2, free: true}
	note := look{colour: s.on, most: min(h*7/100, w*46/1000), least: 15, align: align, top: true, lines: 3}
	at := look{colour: s.on, most: min(h*11/100, w*75/1000), least: 18, bold: true, align: align, top: true}
	if d.upright {
		head.most, name.most, note.most, at.most = min(head.most, w*21/100), w*11/100, w*6/100, w*10/100
	}
	parts := []struct {
		s     string
		l     look
		share int // of the height, at most
	}{{s.head, head, 46}, {s.name, name, 26}, {s.note, note, 22}, {s.at, at, 18}}
	// Measured first, then set in the middle of what is left.
	total, heights := 0, make([]int, len(parts))
	for i, p := range parts {
		if p.s == "" {
			continue
		}
		f := d.fit(fitKey{s: p.s, w: r.Dx(), h: r.Dy() * p.share / 100, most: p.l.most, least: p.l.least, lines: max(p.l.lines, 1), st: style{bold: p.l.bold, hans: d.hans}, clauses: p.l.clauses})
		heights[i] = f.px * lead(p.s) / 100 * len(f.lines)
		total += heights[i]
	}
	space := clamp((r.Dy()-total)/8, 0, h*3/100)
	if !d.upright {
		total += space * 3
		cutTop(&r, max((r.Dy()-total)/2, 0))
	}
	whole := d.size.Dy() - 2*(min(w, h)*5/100)
	if d.upright {
		whole = r.Dy()
	}
	for i, p := range parts {
		if p.s == "" {
			continue
		}
		b := r
		b.Max.Y = b.Min.Y + whole*p.share/100
		d.text(b, p.s, p.l)
		cutTop(&r, heights[i]+space)
	}
}

// emblem is the symbol of an answer. Where there is a portrait, that stands in the symbol's
// place, and the symbol small at its corner: nothing else moves.
func (d *drawing) emblem(r image.Rectangle, s said) {
	if !d.v.face {
		d.mark(r, s.icon, s.on)
		return
	}
	n := min(r.Dx(), r.Dy())
	at := image.Rect(0, 0, n*3/4, n).Add(r.Min).Add(image.Pt((r.Dx()-n*3/4)/2, (r.Dy()-n)/2))
	d.ops = append(d.ops, op{what: photo, r: at, colour: blend(s.ground, s.on, 40), n: n * 6 / 100, s: d.v.photo})
	small := n * 42 / 100
	disc := image.Rect(at.Max.X-small*7/10, at.Max.Y-small, at.Max.X+small*3/10, at.Max.Y)
	d.box(disc, s.ground, 0, small/2)
	d.mark(disc.Inset(small/10), s.icon, s.on)
}

// kindOf is the word of the result's kind in its person's language.
func (d *drawing) kindOf() string {
	if d.v.result.Outcome != "stored" {
		return ""
	}
	c := d.v.words
	if l := d.v.result.Language; l != "" {
		c = text.For(l)
	}
	return c.Kind(d.v.result.Kind)
}

// mine is the answer in a band, and the person's own punches below it.
func (d *drawing) mine() {
	v, m := &d.v, d.v.screen.Mine
	s := d.said(v.result)
	c := v.words
	if m.Language != "" {
		c = text.For(m.Language)
	}
	d.on(s.ground)
	w, h := d.size.Dx(), d.size.Dy()
	r := d.size.Inset(d.gap)
	r.Min.X, r.Max.X = d.size.Min.X+d.gap*3/2, d.size.Max.X-d.gap*3/2

	band := cutTop(&r, h*17/100)
	if d.upright {
		band.Max.Y = band.Min.Y + w*22/100
		r.Min.Y = band.Max.Y
	}
	d.mark(cutLeft(&band, band.Dy()*85/100), s.icon, s.on)
	cutLeft(&band, d.gap*3/2)
	d.text(cutTop(&band, band.Dy()*54/100), s.head, look{colour: s.on, most: min(h*76/1000, w*6/100), least: 15, bold: true})
	d.text(cutRight(&band, band.Dx()*55/100), s.at, look{colour: s.on, most: min(h*6/100, w*45/1000), least: 15, bold: true, align: right})
	band.Max.X -= d.gap
	d.text(band, s.name, look{colour: s.on, most: min(h*6/100, w*45/1000), least: 15, bold: true, free: true})

	cutTop(&r, d.gap/2)
	var buttons []image.Rectangle
	var closing image.Rectangle
	if d.upright {
		closing = cutBottom(&r, d.touch)
		cutBottom(&r, d.gap)
		buttons = d.cells(cutBottom(&r, 2*d.touch+d.gap), 2, 2)
	} else {
		low := cutBottom(&r, d.touch)
		closing = cutRight(&low, d.side())
		low.Max.X -= d.gap
		buttons = d.cells(low, 4, 1)
	}
	at := d.button("close", closing, ownRaised, ownEdge)
	d.text(at, c.Say(text.Close), look{colour: white, most: d.base * 11 / 10, least: 14, bold: true, align: centre})
	cutBottom(&r, d.gap/2)
	ask := cutBottom(&r, d.base*14/10)
	cutBottom(&r, d.gap/2)
	if m.Fix != "" && m.FixUntil.After(v.now) {
		say := c.Say(text.FixAsk)
		if v.late {
			say = c.Say(text.FixLate)
		}
		d.text(ask, say, look{colour: white, most: d.base * 11 / 10, least: 13, bold: true})
		words := 1 << 10
		for _, k := range kinds {
			f := d.fit(fitKey{s: c.Kind(k), w: buttons[0].Dx() - 16, h: buttons[0].Dy() / 2, most: max(h*7/100, 22), least: 14, lines: 1, st: style{bold: true, hans: d.hans}})
			words = min(words, f.px)
		}
		for i, k := range kinds {
			b := buttons[i]
			if k == m.FixKind { // this is what it is
				b = b.Inset(6)
			} else {
				b = d.button("fix:"+k, b, ownRaised, ownEdge)
			}
			d.text(cutBottom(&b, b.Dy()/2), c.Kind(k), look{colour: white, most: words, least: 12, bold: k != m.FixKind, align: centre})
			d.mark(b.Inset(b.Dy()/10), k, white)
		}
	} else {
		// Room that nobody needs goes to the list.
		r.Max.Y = buttons[0].Min.Y - d.gap
		if !d.upright {
			r.Max.Y = closing.Min.Y - d.gap
		}
	}
	d.box(r, ownRaised, 0, 18)
	r = r.Inset(4)
	r.Min.X, r.Max.X = r.Min.X+14, r.Max.X-14
	if !m.Listed {
		d.text(r, c.Say(text.MineWait), look{colour: white, most: d.base, align: centre})
		return
	}
	const most = 5
	row := r.Dy() / most
	today := v.now.Format(time.DateOnly)
	for i, p := range m.Punches[:min(len(m.Punches), most)] {
		at := cutTop(&r, row)
		if i > 0 {
			d.box(image.Rect(at.Min.X, at.Min.Y, at.Max.X, at.Min.Y+1), ownRule, 0, 0)
		}
		t := p.Time.In(v.now.Location())
		when := t.Format("01/02 15:04:05")
		if t.Format(time.DateOnly) == today {
			when = c.Say(text.MineToday) + " " + t.Format("15:04:05")
		}
		px := min(d.base*95/100, row*7/10)
		if d.upright {
			high := cutTop(&at, at.Dy()*53/100)
			d.text(cutLeft(&high, high.Dx()*62/100), when, look{colour: white, most: px, least: 12})
			d.text(high, d.kindWord(c, p), look{colour: white, most: px, least: 12, bold: !p.Superseded, through: p.Superseded})
			d.text(at, where(c, p), look{colour: white, most: px * 9 / 10, least: 12, free: true})
			continue
		}
		d.text(cutLeft(&at, r.Dx()*27/100), when, look{colour: white, most: px, least: 12})
		d.text(cutLeft(&at, r.Dx()*17/100), d.kindWord(c, p), look{colour: white, most: px, least: 12, bold: !p.Superseded, through: p.Superseded})
		d.text(at, where(c, p), look{colour: white, most: px * 9 / 10, least: 12, lines: 2, free: true})
	}
}

func (d *drawing) kindWord(c text.Catalog, p ui.Past) string {
	if s := c.Kind(p.Kind); s != "" {
		return s
	}
	return p.Kind
}

// where says where a punch has arrived.
func where(c text.Catalog, p ui.Past) string {
	switch {
	case p.Superseded:
		return c.Say(text.MineSuperseded)
	case p.Outcome == "duplicate":
		return c.Say(text.Duplicate)
	}
	var parts []string
	for _, s := range []struct {
		state, mark string
		key         text.Key
	}{{"delivered", "✓ ", text.DeliveryDelivered}, {"pending", "… ", text.DeliveryPending}, {"parked", "! ", text.DeliveryParked}, {"skipped", "– ", text.DeliverySkipped}} {
		var names []string
		for _, at := range p.Places {
			if at.State == s.state {
				names = append(names, at.Name)
			}
		}
		if len(names) > 0 {
			parts = append(parts, s.mark+strings.Join(names, ", ")+" "+c.Say(s.key))
		}
	}
	return strings.Join(parts, " · ")
}

// pad is a number and a PIN while they are typed.
type pad struct {
	number string
	pin    int  // how many characters
	second bool // the PIN is typed now
	page   int  // of keys
	choose bool // the languages are shown instead of keys
	words  text.Catalog
	err    string
	busy   bool
}

// pages are the keys there are: digits, and letters for numbers that have some.
var pages = []string{"123456789", "ABCDEFGHI", "JKLMNOPQR", "STUVWXYZ-"}

func (d *drawing) numberAndPIN() {
	d.on(ground)
	p := d.v.pad
	c := p.words
	d.speak(c)
	r := d.size.Inset(d.gap)
	r.Min.X, r.Max.X = d.size.Min.X+d.gap*3/2, d.size.Max.X-d.gap*3/2
	keys := cutRight(&r, r.Dx()*52/100)
	r.Max.X -= 2 * d.gap
	if d.upright {
		keys = d.size.Inset(d.gap)
		r = cutTop(&keys, keys.Dy()*28/100)
		side := cutBottom(&keys, d.touch)
		cutBottom(&keys, d.gap)
		d.padSide(side)
	} else {
		d.padSide(cutBottom(&r, max(104, d.touch)))
		cutBottom(&r, d.gap)
	}
	line := r.Dy() * 13 / 100
	title, what := look{colour: white, most: d.base * 12 / 10, least: 12, bold: true, lines: 2}, c.Say(text.PINTitle)
	if p.err != "" {
		what, title.colour, title.most = "⚠ "+p.err, lit, d.base
	}
	d.text(cutTop(&r, line*2), what, title)
	for i, f := range []struct {
		id, label, value string
		on               bool
	}{{"field:number", c.Say(text.PINNumber), p.number, !p.second}, {"field:pin", c.Say(text.PINPassword), strings.Repeat("●", min(p.pin, 12)), p.second}} {
		if i > 0 {
			cutTop(&r, d.gap/2)
		}
		whole := r
		d.text(cutTop(&r, line), f.label, look{colour: soft, most: d.base * 9 / 10, least: 12})
		at := cutTop(&r, line*2)
		border := edge
		if f.on {
			border = lit
		}
		d.box(at, border, 0, 14)
		d.box(at.Inset(4), field, 0, 10)
		whole.Max.Y = at.Max.Y
		d.target(f.id, whole)
		in := at.Inset(4)
		in.Min.X, in.Max.X = in.Min.X+12, in.Max.X-12
		value := f.value
		st := style{px: min(in.Dy()*8/10, d.base*16/10), bold: true}
		for len(value) > 0 && d.width(value, st) > in.Dx()-6 { // the end is what is typed now
			_, value = cutRune(value)
		}
		if value != "" {
			d.ops = append(d.ops, op{what: write, r: in, colour: onField, n: st.px, s: value, bold: true})
		}
		if f.on {
			x := in.Min.X + d.width(value, st) + 2
			d.box(image.Rect(x, in.Min.Y+6, x+3, in.Max.Y-6), onField, 0, 0)
		}
	}
	if p.choose {
		tags := text.Languages()
		at := d.cells(keys, 2, (len(tags)+1)/2)
		for i, tag := range tags {
			colour, border, on := raised, edge, white
			if tag == c.Language() {
				colour, border, on = lit, lit, onLit
			}
			b := d.button("lang:"+tag, at[i], colour, border)
			own := text.For(tag)
			d.speak(own)
			d.text(b, own.Say(text.LanguageName), look{colour: on, most: d.base * 11 / 10, least: 14, bold: true, align: centre})
		}
		d.speak(c)
		return
	}
	at := d.cells(keys, 3, 4)
	key := look{colour: white, most: d.base * 18 / 10, least: 16, bold: true, align: centre}
	for i, k := range pages[p.page] {
		d.text(d.button("key:"+string(k), at[i], raised, edge), string(k), key)
	}
	word := look{colour: white, most: d.base * 12 / 10, least: 13, bold: true, align: centre, lines: 2}
	d.text(d.button("clear", at[9], raised, edge), c.Say(text.PINClear), word)
	d.text(d.button("key:0", at[10], raised, edge), "0", key)
	word.colour = onLit
	d.text(d.button("ok", at[11], lit, lit), c.Say(text.PINConfirm), word)
}

func (d *drawing) padSide(r image.Rectangle) {
	p := d.v.pad
	at := d.cells(r, 3, 1)
	word := look{colour: white, most: d.base * 95 / 100, least: 12, bold: true, align: centre, lines: 2}
	d.text(d.button("cancel", at[0], raised, edge), p.words.Say(text.PINCancel), word)
	d.text(d.button("letters", at[1], raised, edge), pages[(p.page+1)%len(pages)][:3], word)
	b := d.button("language", at[2], raised, edge)
	d.text(cutBottom(&b, b.Dy()*45/100), p.words.Say(text.PINLanguage), word)
	d.mark(b.Inset(b.Dy()/10), "globe", white)
}

func cutRune(s string) (string, string) {
	for i := range s {
		if i > 0 {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// sheet is the state, for a technician.
func (d *drawing) sheet() {
	d.on(ground)
	c := d.v.words
	r := d.size.Inset(d.gap)
	r.Min.X, r.Max.X = d.size.Min.X+d.gap*3/2, d.size.Max.X-d.gap*3/2
	d.text(cutTop(&r, d.base*17/10), c.Say(text.StatusTitle), look{colour: white, most: d.base * 12 / 10, least: 14, bold: true})
	if d.v.code != "" {
		var fig image.Rectangle
		if d.upright {
			fig = cutTop(&r, r.Dy()*42/100)
			cutTop(&r, d.gap)
		} else {
			fig = cutLeft(&r, r.Dx()*45/100)
			cutLeft(&r, 2*d.gap)
		}
		caption := cutBottom(&fig, d.base*16/10)
		n := min(fig.Dx(), fig.Dy())
		d.ops = append(d.ops, op{what: code, r: image.Rect(0, 0, n, n).Add(fig.Min).Add(image.Pt((fig.Dx()-n)/2, (fig.Dy()-n)/2)), s: d.v.code})
		d.text(caption, c.Say(text.StatusScan), look{colour: soft, most: d.base * 9 / 10, least: 12, align: centre})
	}
	b := d.button("close", cutBottom(&r, max(104, d.touch)), raised, edge)
	d.text(b, c.Say(text.Close), look{colour: white, most: d.base * 11 / 10, least: 14, bold: true, align: centre})
	cutBottom(&r, d.gap)
	if len(d.v.rows) == 0 {
		return
	}
	each := min(r.Dy()/len(d.v.rows), d.base*32/10)
	for _, row := range d.v.rows {
		at := cutTop(&r, each)
		m, colour := "●", fine
		switch row.Mark {
		case "wait":
			m, colour = "▲", lit
		case "stuck":
			m, colour = "■", bad
		}
		px := min(d.base, each*7/10)
		d.text(cutLeft(&at, d.base*16/10), m, look{colour: colour, most: px, least: min(px, 12)})
		high := at
		if row.Note != "" {
			high = cutTop(&at, at.Dy()*55/100)
			d.text(at, row.Note, look{colour: soft, most: px * 85 / 100, least: min(px, 12), free: true})
		}
		d.text(high, row.Name+"  "+row.State, look{colour: white, most: px, least: min(px, 12), bold: true, lines: 2, free: true})
	}
}
