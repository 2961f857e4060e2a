package screen

import (
	"bytes"
	"context"
	"errors"
	"image"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/ui"
	"punchclock/ui/text"
)

// panel is a display in memory.
type panel struct {
	f       frame
	mu      sync.Mutex
	sent    []image.Rectangle
	grounds []sight  // of the upper left corner, when they changed
	corner  uint32   // what is there now
	shown   []uint32 // all that was sent
	off     bool
	gone    error
	closed  bool
	socket  bool // no panel of the board's own
}

type sight struct {
	at time.Time
	c  uint32
}

func newPanel(w, h int) *panel {
	n := (w + 16) * h
	return &panel{f: frame{w: w, h: h, pitch: w + 16, wide: make([]uint32, n)}, shown: make([]uint32, n)}
}

func (p *panel) frame() *frame { return &p.f }
func (p *panel) name() string  { return "panel" }
func (p *panel) own() bool     { return !p.socket }
func (p *panel) Close() error  { p.closed = true; return nil }

func (p *panel) flush(r image.Rectangle) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, r)
	p.corner = p.f.wide[0]
	for y := r.Min.Y; y < r.Max.Y; y++ {
		from, to := y*p.f.pitch+r.Min.X, y*p.f.pitch+r.Max.X
		copy(p.shown[from:to], p.f.wide[from:to])
	}
	if c := p.corner; len(p.grounds) == 0 || p.grounds[len(p.grounds)-1].c != c {
		p.grounds = append(p.grounds, sight{time.Now(), c})
	}
	return p.gone
}

func (p *panel) blank(off bool) error { p.mu.Lock(); defer p.mu.Unlock(); p.off = off; return nil }
func (p *panel) there() error         { p.mu.Lock(); defer p.mu.Unlock(); return p.gone }

// now is what is in the upper left corner, and whether the panel is off.
func (p *panel) now() (corner uint32, off bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.corner, p.off
}

func (p *panel) take() (sent []image.Rectangle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent, p.sent = p.sent, nil
	return sent
}

// finger is a touch screen in memory.
type finger struct {
	all  chan contact
	over chan struct{}
}

func (f finger) path() string { return "finger" }
func (f finger) Close() error { close(f.over); return nil }
func (f finger) read() ([]contact, error) {
	select {
	case c := <-f.all:
		return []contact{c}, nil
	case <-f.over:
		return nil, errors.New("gone")
	}
}

// door is a face at work in a bubble, with a finger.
type door struct {
	*Face
	t      *testing.T
	panel  *panel
	finger finger
	house  *fakeHouse
	said   *bytes.Buffer
	stop   func()
}

func atDoor(t *testing.T, change func(*Config)) *door {
	d := &door{t: t, panel: newPanel(800, 480), finger: finger{make(chan contact), make(chan struct{})}, house: &fakeHouse{}, said: &bytes.Buffer{}}
	c := Config{Name: "lobby", Language: "zh-TW", Location: taipei, Backend: d.house, Status: func() Status { return Status{Ready: true} },
		Logger: slog.New(slog.NewTextHandler(d.said, nil)), lamps: t.TempDir()}
	c.out = func() (output, error) { return d.panel, nil }
	c.touches = func(have map[string]bool) ([]touchDevice, error) {
		if have["finger"] {
			return nil, nil
		}
		return []touchDevice{d.finger}, nil
	}
	if change != nil {
		change(&c)
	}
	var err error
	if d.Face, err = New(c); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	d.stop = func() { stop(); running.Wait() }
	d.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"})
	synctest.Wait()
	return d
}

// tap touches what has an id.
func (d *door) tap(id string) {
	d.t.Helper()
	synctest.Wait()
	for _, x := range d.targets {
		if x.id == id {
			at := contact{x: float64(x.r.Min.X+x.r.Max.X) / 2 / 800, y: float64(x.r.Min.Y+x.r.Max.Y) / 2 / 480, down: true}
			d.finger.all <- at
			synctest.Wait()
			at.down = false
			d.finger.all <- at
			synctest.Wait()
			return
		}
	}
	d.t.Fatalf("there is no %s among %v", id, d.targets)
}

func (d *door) has(id string) bool {
	synctest.Wait()
	return slices.ContainsFunc(d.targets, func(x target) bool { return x.id == id })
}

func (d *door) heard() string {
	synctest.Wait()
	d.house.mu.Lock()
	defer d.house.mu.Unlock()
	s := strings.Join(d.house.heard, ", ")
	d.house.heard = nil
	return s
}

func answerOf(outcome string) ui.Screen {
	return ui.Screen{Kind: "in", Why: "schedule", Clock: "synced", Result: &ui.Result{Outcome: outcome, Kind: "in", Employee: "000123", Name: "張文正", Time: time.Now(), Clock: "synced"}}
}

func TestNothingFlashesMoreThanThreeTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := atDoor(t, nil)
		defer d.stop()
		outcomes := []string{"stored", "unknown_badge", "blocked_badge", "misread", "enrolment", "not_stored", "duplicate", ""}
		last := ""
		for i := range 300 { // ten seconds, thirty screens a second
			last = outcomes[i*5%len(outcomes)]
			if last == "" {
				d.Show(ui.Screen{Kind: "in", Clock: "synced"})
			} else {
				d.Show(answerOf(last))
			}
			time.Sleep(33 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		g := d.panel.grounds
		for i := range g {
			n := 0
			for _, other := range g[i:] {
				if other.at.Sub(g[i].at) < time.Second {
					n++
				}
			}
			if n > 6 { // a flash is there and back
				t.Fatalf("%d changes of the ground within a second of %v", n, g[i].at)
			}
		}
		if len(g) < 30 {
			t.Errorf("only %d changes in ten seconds", len(g))
		}
		if want := ground; last == "" && rgb(g[len(g)-1].c) != want {
			t.Errorf("the last screen is not on the display")
		}
	})
}

// Answers on the same ground need not wait for each other.
func TestFivePeopleASecondAreAllAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		d := atDoor(t, func(c *Config) { c.Drawn = func(d time.Duration) { took = append(took, d) } })
		defer d.stop()
		for range 50 {
			d.Show(answerOf("stored"))
			time.Sleep(200 * time.Millisecond)
		}
		synctest.Wait()
		if len(took) != 50 || slices.Max(took) > 0 { // of the bubble's time: nothing was waited for
			t.Errorf("%d answers drawn, the slowest after %v", len(took), slices.Max(took))
		}
	})
}

func TestOnlyTheSecondsAreDrawnWhileNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := atDoor(t, nil)
		defer d.stop()
		time.Sleep(1500 * time.Millisecond)
		d.panel.take()
		time.Sleep(10 * time.Second)
		sent := d.panel.take()
		if len(sent) != 10 {
			t.Errorf("%d parts sent in ten seconds", len(sent))
		}
		for _, r := range sent {
			if r.Dx()*r.Dy() > 800*480/20 {
				t.Errorf("%v sent for a second", r)
			}
		}
	})
}

func TestNightDimsThenSwitchesOffAndATouchOnlyWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble begins at 08:00 in Taipei
		d := atDoor(t, func(c *Config) { c.Night.From, c.Night.To = 7*60, 12*60 })
		defer d.stop()
		bright, _ := d.panel.now()
		time.Sleep(70 * time.Second)
		synctest.Wait()
		if dimmed, off := d.panel.now(); dimmed >= bright || off {
			t.Errorf("after a minute the ground is %x, and was %x", dimmed, bright)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if c, off := d.panel.now(); !off || c != 0 {
			t.Error("after eleven minutes it is on")
		}
		d.panel.take()
		time.Sleep(30 * time.Minute)
		if sent := d.panel.take(); len(sent) > 0 {
			t.Errorf("%d pictures drawn while it is off", len(sent))
		}
		d.tap("kind:out")
		if _, off := d.panel.now(); off || d.heard() != "" {
			t.Error("the touch that wakes it did not wake it, or did more")
		}
		d.tap("kind:out")
		if got := d.heard(); got != "kind out" {
			t.Errorf("heard %q", got)
		}
		time.Sleep(20 * time.Minute)
		d.Show(answerOf("stored"))
		synctest.Wait()
		if c, off := d.panel.now(); off || rgb(c) != answers["stored"].ground {
			t.Error("a tap does not light it")
		}
		d.Show(ui.Screen{Kind: "in", Clock: "synced"})
		time.Sleep(5 * time.Hour) // noon
		synctest.Wait()
		if c, off := d.panel.now(); off || c != bright {
			t.Error("it is not bright by day")
		}
	})
}

// lampOf makes the files of a lamp, as the kernel has them.
func lampOf(t *testing.T, now string) (dir string, shines func() string) {
	dir = t.TempDir()
	at := filepath.Join(dir, "10-0045")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"max_brightness": "255", "brightness": now} {
		if err := os.WriteFile(filepath.Join(at, file), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, func() string {
		b, err := os.ReadFile(filepath.Join(at, "brightness"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
}

func TestThePanelsOwnLampIsDimmedAndNotThePicture(t *testing.T) {
	for was, full := range map[string]string{"200": "200", "31": "255"} { // left dim by one that was killed
		synctest.Test(t, func(t *testing.T) { // the bubble begins at 08:00 in Taipei
			dir, shines := lampOf(t, was)
			d := atDoor(t, func(c *Config) { c.Night.From, c.Night.To, c.lamps = 7*60, 12*60, dir })
			bright, _ := d.panel.now()
			if shines() != full {
				t.Errorf("by day it shines with %s of 255", shines())
			}
			time.Sleep(70 * time.Second)
			synctest.Wait()
			if c, _ := d.panel.now(); c != bright || shines() != "31" {
				t.Errorf("after a minute the ground is %x and was %x, the lamp shines with %s", c, bright, shines())
			}
			d.Show(answerOf("stored"))
			synctest.Wait()
			if c, _ := d.panel.now(); rgb(c) != answers["stored"].ground || shines() != full {
				t.Errorf("a tap is answered on %x with %s", c, shines())
			}
			time.Sleep(11 * time.Minute)
			synctest.Wait()
			if _, off := d.panel.now(); !off {
				t.Error("after eleven minutes it is on")
			}
			d.Show(answerOf("stored"))
			synctest.Wait()
			if _, off := d.panel.now(); off || shines() != full {
				t.Errorf("a tap does not light it: %s", shines())
			}
			time.Sleep(70 * time.Second)
			d.stop()
			if shines() != full {
				t.Errorf("it is left with %s", shines())
			}
		})
	}
}

func TestALampThatMayNotBeSetHasThePictureDimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, _ := lampOf(t, "200")
		file := filepath.Join(dir, "10-0045", "brightness")
		d := atDoor(t, func(c *Config) { c.Night.From, c.Night.To, c.lamps = 7*60, 12*60, dir })
		defer d.stop()
		bright, _ := d.panel.now()
		if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o755)); err != nil { // which nobody can write to, not even root
			t.Fatal(err)
		}
		time.Sleep(70 * time.Second)
		synctest.Wait()
		if c, _ := d.panel.now(); c >= bright {
			t.Errorf("the ground is %x, and was %x", c, bright)
		}
		if n := strings.Count(d.said.String(), "lamp is not dimmed"); n != 1 {
			t.Errorf("said %d times: %s", n, d.said)
		}
	})
}

func TestAMonitorsLampIsNotThePanels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, shines := lampOf(t, "200")
		monitor := newPanel(800, 480)
		monitor.socket = true
		d := atDoor(t, func(c *Config) {
			c.Night.From, c.Night.To, c.lamps = 7*60, 12*60, dir
			c.out = func() (output, error) { return monitor, nil }
		})
		defer d.stop()
		bright, _ := monitor.now()
		time.Sleep(70 * time.Second)
		synctest.Wait()
		if c, _ := monitor.now(); c >= bright || shines() != "200" {
			t.Errorf("the ground is %x, and was %x; the other display's lamp shines with %s", c, bright, shines())
		}
	})
}

func TestAnAnswerGoesAwayWhenItIsTouchedAndTheNextOneComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := atDoor(t, nil)
		defer d.stop()
		d.Show(answerOf("stored"))
		d.tap("result")
		if !d.has("kind:in") {
			t.Error("it is still there")
		}
		d.Show(answerOf("unknown_badge"))
		if !d.has("result") || d.heard() != "" {
			t.Error("the next one is not shown")
		}
	})
}

func TestAFingerThatSlidesOffMeansNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := atDoor(t, nil)
		defer d.stop()
		for _, c := range []contact{{x: .1, y: .9, down: true}, {x: .9, y: .1, down: true}, {x: .1, y: .9, down: true}, {x: .1, y: .9}} {
			d.finger.all <- c
			synctest.Wait()
		}
		d.finger.all <- contact{x: .1, y: .9, down: true}
		d.finger.all <- contact{lost: true}
		d.finger.all <- contact{x: .1, y: .9}
		if got := d.heard(); got != "" {
			t.Errorf("heard %q", got)
		}
		d.tap("kind:in")
		if got := d.heard(); got != "kind in" {
			t.Errorf("heard %q", got)
		}
	})
}

func TestANumberAndAPINAreTypedOnTheScreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := atDoor(t, nil)
		defer d.stop()
		d.tap("pin")
		for _, k := range []string{"ok", "letters", "key:A", "letters", "letters", "letters", "key:0", "key:0", "key:7", "ok", "key:4", "clear", "key:4", "key:7", "key:1", "key:1"} {
			d.tap(k)
		}
		d.house.refused = true
		d.tap("ok")
		if got := d.heard(); got != "pin A007 4711" {
			t.Errorf("heard %q", got)
		}
		if d.pad == nil || d.pad.pin != 0 || d.pad.err != text.For("zh-TW").Say(text.PINWrong) || !d.pad.second {
			t.Errorf("after a wrong PIN: %+v", d.pad)
		}
		d.house.refused, d.house.wait = false, 61*time.Second
		d.tap("language")
		d.tap("lang:vi")
		d.tap("key:1")
		d.tap("ok")
		if want := text.For("vi").Say(text.PINWait, "61 giây"); d.pad.err != want {
			t.Errorf("%q, want %q", d.pad.err, want)
		}
		d.house.wait = 0
		d.heard()
		d.tap("key:4")
		d.tap("ok")
		if got := d.heard(); got != "pin A007 4" || d.pad != nil || d.has("cancel") {
			t.Errorf("heard %q; the keys are still there: %v", got, d.pad)
		}
		// Left alone, it is gone, and the next person does not see the number.
		d.tap("pin")
		d.tap("key:1")
		time.Sleep(padFor + 2*time.Second)
		if d.has("cancel") {
			t.Error("number and PIN are open for ever")
		}
		d.tap("pin")
		if d.pad.number != "" || len(d.secret) != 0 {
			t.Error("the last person's number is there")
		}
		d.Show(answerOf("stored")) // somebody taps meanwhile
		d.Show(ui.Screen{Kind: "in", Clock: "synced"})
		synctest.Wait()
		if d.pad != nil && d.has("cancel") && d.kept != nil {
			t.Error("the keys stand where an answer was")
		}
		if s := d.said.String(); strings.Contains(s, "A007") || strings.Contains(s, "4711") {
			t.Errorf("the log holds number or PIN: %s", s)
		}
	})
}

func TestTheWrongKindIsCorrectedOnTheScreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := atDoor(t, nil)
		defer d.stop()
		s := answerOf("duplicate")
		now := time.Now()
		s.Mine = &ui.Mine{Employee: "000123", Name: "張文正", Until: now.Add(10 * time.Second)}
		d.Show(s)
		if !d.has("close") || d.has("fix:out") {
			t.Error("before the list is there, nothing can be corrected")
		}
		full := *s.Mine
		full.Listed, full.Fix, full.FixKind, full.FixUntil = true, "x-42", "in", now.Add(time.Minute)
		full.Punches = []ui.Past{{PunchID: "x-42", Kind: "in", Outcome: "stored", Time: now}}
		s.Mine = &full
		s.Result = nil // gone after 2.5 s, while the list stays
		d.Show(s)
		if d.has("fix:in") || !d.has("fix:out") {
			t.Error("it can be corrected to what it is, or to nothing else")
		}
		d.house.late = true
		d.tap("fix:out")
		if got := d.heard(); got != "correct x-42 out" || d.late != "x-42" {
			t.Errorf("heard %q, late %q", got, d.late)
		}
		d.tap("close")
		if d.has("close") || !d.has("kind:in") {
			t.Error("it cannot be closed")
		}
	})
}

func TestTheClockGoesOnWithoutADisplayAndSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Pointer[panel]
		d := atDoor(t, func(c *Config) {
			c.out = func() (output, error) {
				if p := there.Load(); p != nil {
					return p, nil
				}
				return nil, errors.New("no display is connected")
			}
		})
		defer d.stop()
		time.Sleep(10 * time.Minute)
		d.Show(answerOf("stored"))
		synctest.Wait()
		if n := strings.Count(d.said.String(), "no screen"); n != 1 {
			t.Errorf("said %d times: %s", n, d.said)
		}
		first := newPanel(1024, 600)
		there.Store(first)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if rgb(first.f.wide[0]) != answers["stored"].ground {
			t.Error("it is not taken up")
		}
		time.Sleep(time.Minute)
		first.mu.Lock()
		first.gone = errors.New("the display was unplugged")
		first.mu.Unlock()
		there.Store(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(d.said.String(), "no screen"); n != 3 || !first.closed {
			t.Errorf("said %d times: %s", n, d.said)
		}
		second := newPanel(800, 480)
		there.Store(second)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if rgb(second.f.wide[0]) != answers["stored"].ground {
			t.Error("it is not taken up again")
		}
	})
}

func TestAFingerOnADeadScreenMeansNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		d := atDoor(t, func(c *Config) {
			open := c.out
			c.out = func() (output, error) {
				if dead.Load() {
					return nil, errors.New("no display is connected")
				}
				return open()
			}
		})
		defer d.stop()
		gone := func(err error) {
			dead.Store(err != nil)
			d.panel.mu.Lock()
			d.panel.gone = err
			d.panel.mu.Unlock()
			time.Sleep(5 * time.Second)
		}
		gone(errors.New("the display was unplugged"))
		for range 5 {
			d.tap("kind:go-out")
		}
		gone(nil)
		if said := d.heard(); said != "" {
			t.Errorf("what nobody saw was done: %s", said)
		}
		d.tap("kind:go-out")
		if said := d.heard(); said == "" {
			t.Error("and now it is not done")
		}
	})
}

func TestTheScreenIsBlackAfterTheEnd(t *testing.T) {
	for _, turn := range []int{0, 90, 180, 270} {
		synctest.Test(t, func(t *testing.T) {
			d := atDoor(t, func(c *Config) { c.Turn = turn })
			if c, _ := d.panel.now(); c == 0 {
				t.Error("there was no picture")
			}
			d.stop()
			for _, p := range d.panel.f.wide {
				if p != 0 {
					t.Fatalf("turned by %d: an old picture says that somebody listens", turn)
				}
			}
		})
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for want, c := range map[string]Config{"turn 45": {Turn: 45}, "device card0": {Device: "card0"}} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

// A picture turned is the picture, and a finger on it is where it is seen.
func TestATurnedPictureIsTouchedWhereItIsSeen(t *testing.T) {
	for _, turn := range []int{0, 90, 180, 270} {
		c := newCanvas(6, 4)
		fr := frame{w: 6, h: 4, pitch: 8}
		if turn%180 == 90 {
			fr.w, fr.h = 4, 6
		}
		fr.wide = make([]uint32, fr.pitch*fr.h)
		for i := range c.pix {
			c.pix[i] = rgb(i + 1)
		}
		all := image.Rectangle{}
		for _, r := range []image.Rectangle{image.Rect(0, 0, 3, 2), image.Rect(3, 0, 6, 4), image.Rect(0, 2, 3, 9)} {
			all = all.Union(fr.put(c, r, turn, false))
		}
		if all != image.Rect(0, 0, fr.w, fr.h) {
			t.Errorf("turned by %d: put to %v", turn, all)
		}
		for y := range fr.h {
			for x := range fr.w {
				ux, uy := upright((float64(x)+.5)/float64(fr.w), (float64(y)+.5)/float64(fr.h), turn)
				at := int(ux*6) + int(uy*4)*6
				if got := fr.wide[y*fr.pitch+x]; got != uint32(at+1) {
					t.Fatalf("turned by %d: dot %d,%d is %d, and touched %d", turn, x, y, got, at+1)
				}
			}
		}
	}
}

func TestSixteenBitsAndDimming(t *testing.T) {
	c := newCanvas(1, 1)
	c.pix[0] = 0xFF8040
	fr := frame{w: 1, h: 1, pitch: 1, narrow: make([]uint16, 1)}
	fr.put(c, c.bounds(), 0, false)
	if fr.narrow[0] != 0x1F<<11|0x20<<5|0x08 {
		t.Errorf("%04x", fr.narrow[0])
	}
	fr = frame{w: 1, h: 1, pitch: 1, wide: make([]uint32, 1), blueFirst: true}
	fr.put(c, c.bounds(), 0, false)
	if fr.wide[0] != 0x4080FF {
		t.Errorf("%06x", fr.wide[0])
	}
	fr = frame{w: 1, h: 1, pitch: 1, wide: make([]uint32, 1)}
	fr.put(c, c.bounds(), 0, true)
	if fr.wide[0] != 0x4E2814 {
		t.Errorf("%06x", fr.wide[0])
	}
}

func TestFingersAreReadFromTheKernelsEvents(t *testing.T) {
	const x, y = 0, 1
	type ev [3]int32
	syn, dropped := ev{evSyn, synReport, 0}, ev{evSyn, synDropped, 0}
	for _, tc := range []struct {
		name   string
		slots  bool
		events []ev
		want   []contact
	}{
		{"one finger", false, []ev{{evAbs, x, 50}, {evAbs, y, 25}, {evKey, btnTouch, 1}, syn, syn, {evAbs, x, 60}, syn, {evKey, btnTouch, 0}, syn},
			[]contact{{x: .5, y: .25, down: true}, {x: .6, y: .25, down: true}, {x: .6, y: .25}}},
		{"slots", true, []ev{{evAbs, mtTracking, 7}, {evAbs, mtX, 50}, {evAbs, mtY, 25}, syn, {evAbs, mtTracking, -1}, syn},
			[]contact{{x: .5, y: .25, down: true}, {x: .5, y: .25}}},
		{"a second finger does nothing", true, []ev{{evAbs, mtTracking, 7}, {evAbs, mtX, 50}, {evAbs, mtY, 25}, syn,
			{evAbs, mtSlot, 1}, {evAbs, mtTracking, 8}, {evAbs, mtX, 90}, {evAbs, mtY, 90}, syn, {evAbs, mtTracking, -1}, syn,
			{evAbs, mtSlot, 0}, {evAbs, mtTracking, -1}, syn},
			[]contact{{x: .5, y: .25, down: true}, {x: .5, y: .25}}},
		{"lost while down", true, []ev{{evAbs, mtTracking, 7}, {evAbs, mtX, 50}, {evAbs, mtY, 25}, syn, dropped, {evAbs, mtX, 90}, syn, {evAbs, mtTracking, -1}, syn,
			{evAbs, mtTracking, 9}, {evAbs, mtX, 10}, {evAbs, mtY, 10}, syn, {evAbs, mtSlot, 0}, {evAbs, mtTracking, -1}, syn},
			[]contact{{x: .5, y: .25, down: true}, {lost: true}, {x: .1, y: .1, down: true}, {x: .1, y: .1}}},
		{"beyond its edges", false, []ev{{evAbs, x, -9}, {evAbs, y, 900}, {evKey, btnTouch, 1}, syn}, []contact{{x: 0, y: .9999, down: true}}},
		{"keys of a slotted panel", true, []ev{{evKey, btnTouch, 1}, {evAbs, x, 5}, syn}, nil},
	} {
		f := fingers{x: span{0, 100}, y: span{0, 100}, slots: tc.slots}
		var got []contact
		for _, e := range tc.events {
			if c, ok := f.event(uint16(e[0]), uint16(e[1]), e[2]); ok {
				got = append(got, c)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// look is all that the panel shows.
func (p *panel) look() []uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.shown)
}

// The answer is there at once; the picture comes into its place when it is unpacked, and
// one that is not there leaves the answer as everybody's.
func TestAPortraitComesAfterTheAnswerAndMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := atDoor(t, func(c *Config) {
			c.Portrait = func(number string) func() *image.RGBA {
				switch number {
				case "000123":
					return func() *image.RGBA { time.Sleep(900 * time.Millisecond); return somebody(240, 320) }
				case "000124":
					return func() *image.RGBA { time.Sleep(100 * time.Millisecond); return nil }
				}
				return nil
			}
		})
		defer d.stop()
		at := time.Now()
		show := func(number string) {
			r := &ui.Result{Outcome: "stored", Kind: "in", Employee: number, Name: "張文正", Clock: "synced", Time: at}
			d.panel.take()
			d.Show(ui.Screen{Kind: "in", Clock: "synced", Result: r})
			synctest.Wait()
		}
		show("000123")
		due := d.panel.look()
		if sent := d.panel.take(); len(sent) != 1 || sent[0] != image.Rect(0, 0, 800, 480) {
			t.Errorf("the answer: %v", sent)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		sent := d.panel.take()
		if len(sent) != 1 || sent[0].Max.X > 800*3/10+40 {
			t.Errorf("the portrait: %v", sent)
		}
		full := d.panel.look()
		if slices.Equal(due, full) {
			t.Error("there is no portrait")
		}
		show("000125")
		plain := d.panel.look()
		show("000124")
		if slices.Equal(plain, d.panel.look()) {
			t.Error("no place is kept for a portrait")
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if !slices.Equal(plain, d.panel.look()) {
			t.Error("a portrait that is not there leaves a trace")
		}
		// The next person taps before it is there.
		show("000123")
		show("000125")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !slices.Equal(plain, d.panel.look()) {
			t.Error("a portrait of the one before is shown")
		}
		d.Show(ui.Screen{Kind: "in", Clock: "synced"})
		synctest.Wait()
		if d.paint.photo.img != nil {
			t.Error("a portrait is kept in memory")
		}
	})
}
