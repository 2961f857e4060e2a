// Package screen is the face of a clock with a display of its own and no browser: the
// same screens as the kiosk page's, drawn by this program straight to the display, and
// the finger on it. A board with 512 MB is a complete clock this way.
//
// # What holds
//
//   - Nobody waits for it: [Face.Show] leaves the newest screen where [Face.Run] finds it.
//     A clock whose display is missing, unplugged or dead goes on, and says so once; the
//     display is taken up again when it is there.
//   - A picture is a pure function of what is shown and of its size. Only what is different
//     from the picture before is drawn and sent: while nobody comes, the seconds. Nothing
//     is drawn while the screen is off.
//   - Every text is fitted into its box; every pair of colours has a contrast of 7:1 or
//     more; what can be touched is 20 mm high on a panel of 7 inches; no state is told by
//     colour alone.
//   - The ground of the whole screen changes at most five times in any second, however fast
//     people tap: nothing flashes more than three times a second. Answers of one kind
//     follow each other without delay, for their ground stays.
//   - A portrait comes into the place that is kept for it when it is unpacked, beside the
//     drawing; the answer is there before, and nothing moves. None stays in memory once its
//     answer is gone.
//   - Where the night is configured, a screen that nobody uses is dimmed after a minute and
//     off after ten. The touch that wakes it does nothing else; a tap needs no touch.
//
// # Where it is drawn
//
// On the first connected display of a DRM card (/dev/dri/card*), in a dumb buffer; else
// on /dev/fb0. The first program that opens a card is its master, which needs no
// privilege but the group video; the console comes back when the program ends. A frame
// buffer has no master: the kernel's console is taken off it by its file in
// /sys/class/vtconsole, or its cursor would blink in the picture. Off is the display's own.
// Dimming is done by the lamp behind a panel of the board's own (/sys/class/backlight), and
// where there is none, or it may not be written to, in the picture. A display that hangs
// upright or upside down is turned by Config.Turn.
//
// Touch screens are those of the kernel's input devices that tell places and are no
// touchpads, with and without slots (multi-touch protocol B). They are taken for this
// program alone. One finger counts, the first; what it touches is done when it is lifted
// from there again.
//
// # Fonts
//
// outlines.gz holds every letter of the sentences in all languages and of European,
// Vietnamese and Thai names, regular and bold: the outlines of Noto Sans, Noto Sans Thai
// and Noto Sans CJK, which are free under the SIL Open Font License 1.1. A test makes it
// anew from Debian's fonts-noto-core and fonts-noto-cjk. A name may hold any Chinese
// character, which would be thirty times as much; so those are read, when they are met,
// from the machine's own font file ([FontFile]), else enlarged from Config.Dots. A
// character that is nowhere is a box. Thai marks are put above each other and beside tall
// letters by rule ([fonts.shape]): the sentences and names need no more of the font's own
// tables than that.
//
// We turned down opening a subset of the font as a font: its tables are most of its size,
// and one form of glyph for both sources is one way of drawing.
package screen

import (
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"punchclock/ui"
	"punchclock/ui/text"
)

// Backend is what a finger can ask of the house. The calls may take their time; one is
// made at a time, in the order of the touches.
type Backend interface {
	// ChooseKind chooses the kind of the next tap: in, out, go-out or return.
	ChooseKind(kind string) error
	// PIN punches for a person without a badge. The answer comes by Show. refused is
	// whether number and PIN do not belong together; wait is for how long none are looked
	// at. err is anything else, and for the log.
	PIN(ctx context.Context, number, pin string) (refused bool, wait time.Duration, err error)
	// Correct says that a punch should have been of another kind. The answer comes by
	// Show; late is whether it cannot be corrected any more.
	Correct(ctx context.Context, punchID, kind string) (late bool, err error)
}

// Status is how the house fares, for the line at the foot and what people must know.
type Status struct {
	Ready        bool // a punch could be stored now
	Destinations int
	Pending      int // punches that have not arrived everywhere
	Oldest       time.Duration
	Parked       int    // punches that a person must look at
	Offline      bool   // no destination can be reached
	Stuck        bool   // a destination waits for a person
	Unwell       string // the destinations that do not take punches, each with how it fares, in the screen's language
	Mended       bool   // a damaged file was found and mended since the start
	SpaceLow     bool
	Card         string // why a configuration that came by the card is not in force, "" for none
}

// Row is a line of the sheet about the state.
type Row struct {
	Mark              string // ok, wait or stuck
	Name, State, Note string
}

// Config says what is drawn on, and who is asked.
type Config struct {
	Device string // /dev/dri/cardN or /dev/fbN; "" looks for one
	Turn   int    // how the picture is turned, clockwise: 0, 90, 180 or 270 degrees

	Name     string         // of the device, on the screen
	Language string         // of the device, as package text knows it
	Location *time.Location // of the time shown
	// Night is in minutes of the local day, To may be before From. Equal ones: no night.
	Night struct{ From, To int }

	Backend Backend       // required, but where there is always a Sign
	Status  func() Status // answers from memory; asked every other second, in Run's goroutine
	Rows    func() []Row  // the state, asked while somebody looks at it
	Code    func() string // what the QR code holds, asked once a minute; nil or "" for none
	Sign    func() *Sign  // what is shown in place of a clock at work, asked every other second; nil, or one that returns nil: nothing is
	// Dots draws characters that no font has: 16 rows of two bytes, and 8 or 16 dots
	// wide. nil: they are boxes.
	Dots func(rune) (rows []byte, width int, ok bool)
	// Portrait finds the picture of whoever has an employee number, nil for none. It
	// answers from memory; what it returns may take its time, and nil for a picture that
	// is not there any more. It is asked once for each stored punch. May be nil.
	Portrait func(number string) (load func() *image.RGBA)
	// Drawn is told, once for each answer, how long it took from Show until the display
	// had it. May be nil.
	Drawn  func(time.Duration)
	Logger *slog.Logger // required

	now func() time.Time
	out func() (output, error) // opens the display
	// touches looks for touch screens that are not in use yet.
	touches func(have map[string]bool) ([]touchDevice, error)
	lamps   string // where the kernel lists the lamps of panels
}

// output is a display that was found.
type output interface {
	frame() *frame
	// flush sends what has changed, in dots of the panel. An error means that the display
	// is gone.
	flush(image.Rectangle) error
	blank(off bool) error
	// there returns why the display is not there any more, nil while it is.
	there() error
	// own reports whether it may be a panel of the board's own, with a lamp that the
	// kernel sets.
	own() bool
	name() string
	Close() error
}

const (
	dimAfter  = time.Minute
	offAfter  = 10 * time.Minute
	padFor    = 30 * time.Second
	sheetFor  = time.Minute
	noticeFor = 4 * time.Second
	codeFor   = time.Minute
	lookFor   = 3 * time.Second // between two looks for displays and touch screens

	groundsMost = 5 // changes of the ground within a second

	none = rgb(1<<32 - 1) // no colour
)

// Face is a display at work.
type Face struct {
	c     Config
	words text.Catalog
	paint *painter // Run's

	mu     sync.Mutex
	screen ui.Screen
	since  time.Time     // when it was shown
	news   chan struct{} // holds one hint

	touched chan contact
	asked   chan job
	told    chan answer
	wanted  chan loading // the newest
	loaded  chan loading

	// Run's goroutine only.
	state
}

// state is what the screen knows by itself, beside what it is shown.
type state struct {
	kept     *ui.Result // the answer that stays while a person's own punches are shown
	hidden   *ui.Result // an answer that was touched away
	hidMine  string     // whose own punches were closed
	pad      *pad
	secret   []byte // the PIN
	padEnds  time.Time
	sheet    bool
	sheetEnd time.Time
	notice   string
	noticeTo time.Time
	late     string // the punch that cannot be corrected any more
	push     string
	pushed   bool // a finger is down
	used     time.Time
	light    light
	targets  []target

	status   Status
	sign     *Sign
	statusAt time.Time
	code     string
	codeAt   time.Time
	drawn    *ui.Result // the answer that Drawn was told of
	facing   *ui.Result // the answer that Portrait was asked for
	face     bool       // it has one
	faces    int        // how many were loaded: their names
}

// loading is a portrait on its way.
type loading struct {
	of   *ui.Result
	load func() *image.RGBA
	img  *image.RGBA
}

// light is how bright the screen is.
type light uint8

const (
	bright light = iota
	dim
	dark
)

// job is something to ask the Backend, answer what came of it.
type job struct {
	what         string // kind, pin, correct
	kind, id     string
	number, word string
}

type answer struct {
	job
	refused, late bool
	wait          time.Duration
	err           error
}

// New returns a Face that does nothing until Run. The error says which setting is wrong.
func New(c Config) (*Face, error) {
	switch {
	case c.Turn%90 != 0 || c.Turn < 0 || c.Turn > 270:
		return nil, fmt.Errorf("screen: turn %d: use 0, 90, 180 or 270", c.Turn)
	case c.Device != "" && !strings.HasPrefix(c.Device, "/dev/"):
		return nil, fmt.Errorf("screen: device %s: use /dev/dri/card0, /dev/fb0, or nothing to have one looked for", c.Device)
	}
	f := &Face{c: c, words: text.For(c.Language), news: make(chan struct{}, 1), touched: make(chan contact, 16), asked: make(chan job, 8), told: make(chan answer, 8),
		wanted: make(chan loading, 1), loaded: make(chan loading, 1)}
	if f.c.now == nil {
		f.c.now = time.Now
	}
	if f.c.Location == nil {
		f.c.Location = time.UTC
	}
	if f.c.out == nil {
		f.c.out = func() (output, error) {
			return openDisplay(c.Device, func(err error) { c.Logger.Warn("the console may write into the screen's picture", "err", err) })
		}
	}
	if f.c.lamps == "" {
		f.c.lamps = backlights
	}
	if f.c.touches == nil {
		f.c.touches = findTouch
	}
	fonts, err := loadFonts()
	if err != nil {
		return nil, err
	}
	fonts.dots = c.Dots
	f.paint = newPainter(fonts)
	return f, nil
}

// Show implements ui.Display. It never blocks.
func (f *Face) Show(s ui.Screen) {
	f.mu.Lock()
	f.screen, f.since = s, time.Now()
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// Run draws until ctx is done, then leaves the display dark, and returns nil. Call it
// once.
func (f *Face) Run(ctx context.Context) error {
	if err := f.paint.openSystem(f.words.Language() == "zh-CN"); err != nil {
		f.c.Logger.Warn("names are drawn with coarser letters", "err", err)
	}
	var helpers sync.WaitGroup
	defer helpers.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	helpers.Go(func() { f.ask(ctx) })
	helpers.Go(func() { f.feel(ctx) })
	helpers.Go(func() { f.load(ctx) })

	f.used = f.c.now()
	for said := ""; ; {
		began := time.Now()
		err := f.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > 2*lookFor { // it has worked meanwhile
			said = ""
		}
		if err.Error() != said {
			said = err.Error()
			f.c.Logger.Error("no screen; the clock goes on without it, and looks for one again", "err", err)
		}
		f.push, f.pushed = "", false
		for again := time.After(lookFor); again != nil; {
			select {
			case <-ctx.Done():
				return nil
			case <-again:
				again = nil
			case <-f.touched: // of a picture that nobody sees
			}
		}
	}
}

// ask carries out what fingers ask for.
func (f *Face) ask(ctx context.Context) {
	for {
		var j job
		select {
		case <-ctx.Done():
			return
		case j = <-f.asked:
		}
		a := answer{job: j}
		switch j.what {
		case "kind":
			a.err = f.c.Backend.ChooseKind(j.kind)
		case "pin":
			a.refused, a.wait, a.err = f.c.Backend.PIN(ctx, j.number, j.word)
			a.word = ""
		case "correct":
			a.late, a.err = f.c.Backend.Correct(ctx, j.id, j.kind)
		}
		select {
		case f.told <- a:
		case <-ctx.Done():
			return
		}
	}
}

// load unpacks portraits.
func (f *Face) load(ctx context.Context) {
	for {
		var l loading
		select {
		case <-ctx.Done():
			return
		case l = <-f.wanted:
		}
		l.img = l.load()
		select {
		case f.loaded <- l:
		case <-ctx.Done():
			return
		}
	}
}

// portrait sees to the portrait of an answer, nil for no answer.
func (f *Face) portrait(r *ui.Result) {
	if r == f.facing || f.c.Portrait == nil {
		return
	}
	f.facing, f.face, f.paint.photo = r, false, portrait{}
	if r == nil || r.Outcome != "stored" {
		return
	}
	if load := f.c.Portrait(r.Employee); load != nil {
		f.face = true
		select {
		case <-f.wanted: // the one before, if nobody has begun with it
		default:
		}
		f.wanted <- loading{of: r, load: load} // has room: nobody else writes
	}
}

// arrived takes a portrait that was loaded.
func (f *Face) arrived(l loading) {
	if l.of != f.facing {
		return
	}
	if f.face = l.img != nil; f.face {
		f.faces++
		f.paint.photo = portrait{fmt.Sprint(f.faces), l.img}
	}
}

// feel reads the touch screens there are, each by a goroutine of its own.
func (f *Face) feel(ctx context.Context) {
	var readers sync.WaitGroup
	defer readers.Wait()
	var mu sync.Mutex
	have := map[string]bool{}
	for said := ""; ; {
		mu.Lock()
		found, err := f.c.touches(have)
		for _, d := range found {
			have[d.path()] = true
		}
		mu.Unlock()
		if err != nil && err.Error() != said {
			said = err.Error()
			f.c.Logger.Error("a touch screen cannot be used", "err", err)
		}
		for _, d := range found {
			f.c.Logger.Info("touch screen is on", "device", d.path())
			readers.Go(func() {
				err := f.hear(ctx, d)
				mu.Lock()
				delete(have, d.path())
				mu.Unlock()
				if ctx.Err() == nil {
					f.c.Logger.Warn("touch screen is gone; it comes back by itself when it is there", "device", d.path(), "err", err)
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookFor):
		}
	}
}

// hear reads a touch screen until it is gone.
func (f *Face) hear(ctx context.Context, d touchDevice) error {
	stop := context.AfterFunc(ctx, func() { d.Close() })
	defer func() {
		if stop() {
			d.Close()
		}
	}()
	for {
		all, err := d.read()
		for _, c := range all {
			select {
			case f.touched <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			select {
			case f.touched <- contact{lost: true}:
			case <-ctx.Done():
			}
			return err
		}
	}
}

// session finds the display and draws until something goes wrong.
func (f *Face) session(ctx context.Context) (err error) {
	out, err := f.c.out()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	fr := out.frame()
	w, h := fr.w, fr.h
	if f.c.Turn%180 == 90 {
		w, h = h, w
	}
	c := newCanvas(w, h)
	var lamp *backlight
	unlit := func(err error) { // the picture is dimmed instead
		f.c.Logger.Warn("the display's lamp is not dimmed at night, its picture is", "err", err)
		lamp = nil
	}
	if out.own() {
		var lerr error
		if lamp, lerr = findLamp(f.c.lamps); lerr != nil {
			unlit(lerr)
		}
	}
	defer func() {
		if lamp != nil {
			err = errors.Join(err, lamp.set(lamp.full))
		}
	}()
	var was []op                       // what is on the display
	shown := light(255)                // nothing is
	under := none                      // the ground that is on the display
	var changes [groundsMost]time.Time // of it, oldest first
	looked := time.Now()               // when the display was last seen to be there
	cold := f.likely()
	for {
		f.mu.Lock()
		s, since := f.screen, f.since
		f.mu.Unlock()
		now, at := f.c.now(), time.Now()
		v := f.view(s, now)
		wait := now.Truncate(time.Second).Add(time.Second).Sub(now)
		if f.light == dark {
			wait = now.Truncate(time.Minute).Add(time.Minute).Sub(now)
			if shown != dark { // a display without a switch is black at least
				f.paint.paint(c, []op{{what: fill, r: c.bounds()}}, c.bounds())
				if err := errors.Join(out.flush(fr.put(c, c.bounds(), f.c.Turn, false)), out.blank(true)); err != nil {
					return err
				}
				was, shown = nil, dark
			}
		} else if d := f.paint.layout(v, w, h); d.ground != under && under != none && at.Before(changes[0].Add(time.Second)) {
			wait = min(wait, changes[0].Add(time.Second).Sub(at)) // it would flash
		} else {
			if d.ground != under {
				copy(changes[:], changes[1:])
				changes[groundsMost-1], under = at, d.ground
			}
			dirty := changed(was, d.ops, c.bounds())
			if shown != f.light {
				dirty = []image.Rectangle{c.bounds()}
				if lamp != nil {
					n := lamp.full
					if f.light == dim {
						n = lamp.low
					}
					if err := lamp.set(n); err != nil {
						unlit(err)
					}
				}
			}
			for _, r := range dirty {
				f.paint.paint(c, d.ops, r)
				if err := out.flush(fr.put(c, r, f.c.Turn, f.light == dim && lamp == nil)); err != nil {
					return err
				}
			}
			if shown == dark {
				if err := out.blank(false); err != nil {
					return err
				}
			}
			if was == nil && shown > dark {
				f.c.Logger.Info("screen is on", "display", out.name(), "size", fmt.Sprintf("%dx%d", w, h), "names_from", or(f.paint.from, "coarse dots"))
			}
			was, shown, f.targets = d.ops, f.light, d.targets
			if v.result != nil && v.result == s.Result && v.result != f.drawn {
				f.drawn = v.result
				if f.c.Drawn != nil {
					f.c.Drawn(time.Since(since))
				}
			}
		}
		if at.Sub(looked) >= lookFor {
			looked = at
			if err := out.there(); err != nil {
				return err
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-f.news:
		case <-t.C:
			if len(cold) > 0 && f.light != dark { // what the next tap needs is made while nobody waits
				f.paint.warm(f.paint.layout(cold[0], w, h).ops)
				cold = cold[1:]
			}
		case k := <-f.touched:
			f.touch(k, w, h)
		case a := <-f.told:
			f.take(a)
		case l := <-f.loaded:
			f.arrived(l)
		case <-ctx.Done():
			t.Stop()
			// An old picture would say that somebody listens.
			f.paint.paint(c, []op{{what: fill, r: c.bounds()}}, c.bounds())
			return out.flush(fr.put(c, c.bounds(), f.c.Turn, false))
		}
		t.Stop()
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// view brings what the screen knows by itself up to date, and puts together what is to
// be seen.
func (f *Face) view(s ui.Screen, now time.Time) view {
	local := now.In(f.c.Location)
	v := view{screen: s, now: local, words: f.words, name: f.c.Name, push: f.push}
	if s.Result != nil && s.Result != f.hidden {
		if s.Result != f.kept {
			f.used, f.late, f.hidMine = now, "", ""
			f.closeDialogs()
		}
		f.kept = s.Result
	}
	if m := s.Mine; m != nil && f.kept != nil && f.kept.Employee == m.Employee && f.hidMine != m.Employee && now.Before(m.Until.Add(time.Second)) {
		v.result, v.late = f.kept, f.late != "" && f.late == m.Fix
	} else {
		v.screen.Mine = nil
		if s.Result != nil && s.Result != f.hidden {
			v.result = s.Result
		}
	}
	if f.portrait(v.result); f.face && v.screen.Mine == nil {
		v.face, v.photo = true, f.paint.photo.name
	}
	if !s.Until.IsZero() && s.Why == "chosen" {
		f.used = now
	}
	if f.pad != nil && now.After(f.padEnds) && !f.pad.busy || f.sheet && now.After(f.sheetEnd) {
		f.closeDialogs()
	}
	if f.pad != nil {
		p := *f.pad
		v.pad = &p
	}
	if f.sheet && f.c.Rows != nil {
		if v.rows = f.c.Rows(); v.rows == nil {
			v.rows = []Row{}
		}
	}
	if now.Before(f.noticeTo) {
		v.notice = f.notice
	}
	if now.Sub(f.statusAt) >= 2*time.Second || f.statusAt.IsZero() {
		f.statusAt = now
		if f.c.Status != nil {
			f.status = f.c.Status()
		}
		if f.c.Sign != nil {
			f.sign = f.c.Sign()
		}
	}
	v.status, v.sign = f.status, f.sign
	if f.c.Status == nil {
		v.status.Ready = true
	}
	if f.c.Code != nil && (now.Sub(f.codeAt) >= codeFor || f.codeAt.IsZero()) {
		f.code, f.codeAt = f.c.Code(), now
	}
	v.code = f.code

	f.light = bright
	if f.night(local) {
		switch idle := now.Sub(f.used); {
		case idle >= offAfter:
			f.light = dark
		case idle >= dimAfter:
			f.light = dim
		}
	}
	return v
}

// night reports whether it is night.
func (f *Face) night(t time.Time) bool {
	from, to, at := f.c.Night.From, f.c.Night.To, t.Hour()*60+t.Minute()
	if from <= to {
		return from <= at && at < to
	}
	return at >= from || at < to
}

// likely are the answers that come most.
func (f *Face) likely() (all []view) {
	for _, kind := range kinds {
		r := &ui.Result{Outcome: "stored", Kind: kind, Clock: "synced", Time: f.c.now()}
		all = append(all, view{result: r, now: f.c.now().In(f.c.Location), words: f.words})
	}
	return all
}

func (f *Face) closeDialogs() {
	f.pad, f.sheet, f.push, f.pushed = nil, false, "", false
	clear(f.secret)
	f.secret = f.secret[:0]
}

// take looks at what the Backend answered.
func (f *Face) take(a answer) {
	now := f.c.now()
	f.statusAt = time.Time{}
	switch a.what {
	case "kind":
		if a.err != nil {
			f.notice, f.noticeTo = f.words.Say(text.NotReady), now.Add(noticeFor)
			f.c.Logger.Warn("a kind chosen on the screen was not taken", "err", a.err)
		}
	case "pin":
		p := f.pad
		if a.err != nil {
			f.c.Logger.Warn("a number and PIN typed on the screen could not be looked at", "err", a.err)
		}
		if p == nil {
			return
		}
		p.busy = false
		f.padEnds = now.Add(padFor)
		switch {
		case a.err != nil:
			p.err = p.words.Say(text.PINFailed)
		case a.wait > 0:
			p.err = p.words.WaitPIN(a.wait)
		case a.refused:
			p.err = p.words.Say(text.PINWrong)
		default: // Show brings the answer
			f.closeDialogs()
			return
		}
		clear(f.secret)
		f.secret, p.pin = f.secret[:0], 0
		p.second = p.number != ""
	case "correct":
		switch {
		case a.err != nil:
			f.c.Logger.Warn("a correction asked for on the screen could not be made", "err", a.err)
			f.late = a.id
		case a.late:
			f.late = a.id
		}
	}
}

// touch takes what a finger does. x and y are of the panel.
func (f *Face) touch(k contact, w, h int) {
	now := f.c.now()
	woken := f.light
	f.used = now
	if k.lost || !k.down && f.push == "" {
		f.push, f.pushed = "", k.down && !k.lost
		return
	}
	x, y := upright(k.x, k.y, f.c.Turn)
	at := image.Pt(int(x*float64(w)), int(y*float64(h)))
	id := ""
	for _, t := range slices.Backward(f.targets) { // the last that was drawn is on top
		if at.In(t.r) {
			id = t.id
			break
		}
	}
	switch {
	case k.down && !f.pushed:
		if f.pushed = true; woken == bright {
			f.push = id
		}
	case k.down:
		if f.push != id { // slid off: nothing is meant by it
			f.push = ""
		}
	default:
		push := f.push
		f.push, f.pushed = "", false
		if push == id {
			f.do(id, now)
		}
	}
}

// upright turns a place on the panel into one of the picture; both from 0 to 1.
func upright(x, y float64, turn int) (float64, float64) {
	switch turn {
	case 90:
		return y, 1 - x
	case 180:
		return 1 - x, 1 - y
	case 270:
		return 1 - y, x
	}
	return x, y
}

// want asks the Backend. A finger that is quicker than eight answers is not heard.
func (f *Face) want(j job) bool {
	select {
	case f.asked <- j:
		return true
	default:
		return false
	}
}

// do does what was touched.
func (f *Face) do(id string, now time.Time) {
	f.mu.Lock()
	s := f.screen
	f.mu.Unlock()
	what, arg, _ := strings.Cut(id, ":")
	if p := f.pad; p != nil {
		f.padEnds = now.Add(padFor)
		if !p.busy || what == "cancel" {
			f.typed(p, what, arg)
		}
		return
	}
	switch what {
	case "kind":
		f.want(job{what: "kind", kind: arg})
	case "pin":
		f.pad, f.padEnds = &pad{words: f.words}, now.Add(padFor)
	case "state":
		f.sheet, f.sheetEnd = true, now.Add(sheetFor)
	case "result":
		f.hidden = s.Result
	case "fix":
		if s.Mine != nil && s.Mine.Fix != "" {
			f.want(job{what: "correct", id: s.Mine.Fix, kind: arg})
		}
	case "close":
		if f.sheet = false; s.Mine != nil {
			f.hidMine, f.hidden = s.Mine.Employee, s.Result
		}
	}
}

// longest is how many characters a number or a PIN may have.
const longest = 64

// typed takes a touch while number and PIN are open.
func (f *Face) typed(p *pad, what, arg string) {
	switch what {
	case "cancel":
		f.closeDialogs()
	case "letters":
		p.choose, p.page = false, (p.page+1)%len(pages)
	case "language":
		p.choose = !p.choose
	case "lang":
		p.words, p.choose, p.err = text.For(arg), false, ""
	case "field":
		p.second, p.choose = arg == "pin", false
	case "key":
		switch {
		case p.second && len(f.secret) < longest:
			f.secret = append(f.secret, arg...)
			p.pin = len(f.secret)
		case !p.second && len(p.number) < longest:
			p.number += arg
		}
	case "clear":
		if p.second {
			clear(f.secret)
			f.secret, p.pin = f.secret[:0], 0
		} else {
			p.number = ""
		}
	case "ok":
		switch {
		case p.number == "":
			p.second = false
		case p.pin == 0:
			p.second, p.page = true, 0
		default:
			if f.want(job{what: "pin", number: p.number, word: string(f.secret)}) {
				p.busy, p.err = true, ""
			}
		}
	}
}
