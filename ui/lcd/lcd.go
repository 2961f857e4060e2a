// Package lcd is the whole face of a clock without a screen: a small OLED, or a
// character display, on the I²C bus. It shows the time and the kind of the next tap,
// the answer to a tap, and one calm line about what waits.
//
// Which display do I have? One of 128×64 dots with an SSD1306 or an SH1106 writes
// Chinese, 16×16 dots a character, eight in a row, and doubled for the time and the
// kind. One with an HD44780, usually behind a PCF8574 on a small board soldered to its
// back, knows no Chinese: it gets number, time and English words.
//
// # What holds
//
//   - A display may be slow, absent or dead, and is never waited for: [Face.Show]
//     leaves the newest screen in a mailbox, and [Face.Run] draws it. What goes wrong is
//     logged once, and tried again with the display set up anew, so that a plug that was
//     pulled and put back costs a minute at most.
//   - Only what has changed is sent: at 100 kHz a whole picture takes a tenth of a
//     second. Once a minute everything is, for a display whose power has failed for a
//     moment does not say so. In between nothing wakes the program.
//   - The picture is a pure function of screen, time and line: golden pictures in the
//     tests need no display.
//   - An OLED burns in: while nobody is there it is dimmed after a minute, and the
//     picture moves by a dot or two every minute.
//   - A sentence with a letter that the font does not have is said in English.
//
// # The font
//
// glyphs.gz holds one-bit pictures of 16 dots' height of Noto Sans Mono CJK TC, which
// is free under the SIL Open Font License 1.1: every character of the sentences, and
// the commonest 6,763 Chinese ones (Big5 level 1, GB 2312 level 1) for names. A test
// makes it anew from Debian's package fonts-noto-cjk (go test ./ui/lcd -update).
package lcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"punchclock/ui"
	"punchclock/ui/text"
)

// Config says what hangs on the bus.
type Config struct {
	Driver  string // ssd1306, sh1106 or hd44780
	Bus     string // for example /dev/i2c-1
	Address uint16 // 7 bits; 0 looks at the usual ones
	Columns int    // of an hd44780: 16 or 20
	Rows    int    // of an hd44780: 2 or 4

	Language string           // of the device: zh-TW, zh-CN, en …
	Location *time.Location   // of the time shown
	Now      func() time.Time // nil is time.Now
	// Line is the line about what waits to be delivered, "" for none. It is asked at
	// each drawing, in Run's goroutine. nil: no line.
	Line   func(text.Catalog) string
	Logger *slog.Logger // required
}

// The drivers, and the addresses that such displays usually have: the OLED's two, and
// those of PCF8574 and PCF8574A, the commonest first.
var addresses = map[string][]uint16{
	"ssd1306": {0x3C, 0x3D},
	"sh1106":  {0x3C, 0x3D},
	"hd44780": {0x27, 0x3F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E},
}

// Drivers lists what Config.Driver may be.
func Drivers() []string { return []string{"ssd1306", "sh1106", "hd44780"} }

const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	dimAfter   = time.Minute
)

// bus writes to a device on the I²C bus. An error means that nobody answered there, or
// that the bus is in trouble.
type bus interface {
	Write(address uint16, b []byte) error
	Close() error
}

// panel is a display that was found.
type panel interface {
	// start sets the display up, as after power-up.
	start() error
	// refresh sets it up again without a flicker, and has the next draw send
	// everything: its power may have failed for a moment without anybody's noticing.
	refresh() error
	// draw brings the display to a picture, sending what is different.
	draw(p picture) error
	// bright is whether somebody is there.
	bright(on bool) error
}

// picture is what is to be seen: dots for an OLED, lines for a character display.
type picture struct {
	dots  dots
	lines []string
}

// Face is a display at work.
type Face struct {
	c     Config
	open  func() (bus, error)
	words text.Catalog
	font  *font // nil for a character display

	mu     sync.Mutex
	screen ui.Screen
	news   chan struct{} // holds one hint
}

// New returns a Face that does nothing until Run. The error says which setting is wrong.
func New(c Config) (*Face, error) {
	if addresses[c.Driver] == nil {
		return nil, fmt.Errorf("display: driver %q: use ssd1306, sh1106 or hd44780", c.Driver)
	}
	f := &Face{c: c, words: text.For(c.Language), news: make(chan struct{}, 1)}
	f.open = func() (bus, error) { return openBus(c.Bus) }
	if f.c.Now == nil {
		f.c.Now = time.Now
	}
	if f.c.Location == nil {
		f.c.Location = time.UTC
	}
	if c.Driver == "hd44780" {
		if (c.Columns != 16 && c.Columns != 20) || (c.Rows != 2 && c.Rows != 4) {
			return nil, fmt.Errorf("display: %d×%d: an hd44780 has 16 or 20 columns and 2 or 4 rows", c.Columns, c.Rows)
		}
		return f, nil
	}
	var err error
	if f.font, err = loadFont(); err != nil {
		return nil, err
	}
	return f, nil
}

// Show implements ui.Display. It never blocks.
func (f *Face) Show(s ui.Screen) {
	f.mu.Lock()
	f.screen = s
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// Run draws until ctx is done, then leaves the display dark, and returns nil.
func (f *Face) Run(ctx context.Context) error {
	wait := retryFirst
	for said := false; ; {
		began := f.c.Now()
		err := f.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if f.c.Now().Sub(began) > retryMost { // it has worked meanwhile
			wait, said = retryFirst, false
		}
		if !said {
			said = true
			f.c.Logger.Error("the display does not work; the clock goes on without it, and tries again", "driver", f.c.Driver, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMost)
	}
}

// session finds the display and draws until something goes wrong.
func (f *Face) session(ctx context.Context) (err error) {
	b, err := f.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	p, at, err := f.find(b)
	if err != nil {
		return err
	}
	f.c.Logger.Info("display is on", "driver", f.c.Driver, "bus", f.c.Bus, "address", fmt.Sprintf("0x%02X", at))
	bright, since := true, f.c.Now()
	for {
		f.mu.Lock()
		s := f.screen
		f.mu.Unlock()
		now := f.c.Now()
		if s.Result != nil || !s.Until.IsZero() {
			since = now
		}
		if on := now.Sub(since) < dimAfter; on != bright {
			if err := p.bright(on); err != nil {
				return err
			}
			bright = on
		}
		if err := p.draw(f.picture(s, now)); err != nil {
			return err
		}
		next := now.Truncate(time.Minute).Add(time.Minute).Sub(now)
		if bright {
			next = min(next, max(dimAfter-now.Sub(since), time.Second))
		}
		t := time.NewTimer(next)
		select {
		case <-f.news:
		case <-t.C:
			if err := p.refresh(); err != nil {
				return err
			}
		case <-ctx.Done():
			t.Stop()
			return p.draw(picture{lines: make([]string, f.c.Rows)}) // an old picture would say that somebody listens
		}
		t.Stop()
	}
}

// find looks for the display and sets it up.
func (f *Face) find(b bus) (panel, uint16, error) {
	at := addresses[f.c.Driver]
	if f.c.Address != 0 {
		at = []uint16{f.c.Address}
	}
	var first error
	for _, a := range at {
		var p panel
		switch f.c.Driver {
		case "hd44780":
			p = &characters{bus: b, at: a, columns: f.c.Columns, rows: f.c.Rows}
		default:
			p = &oled{bus: b, at: a, sh1106: f.c.Driver == "sh1106"}
		}
		err := p.start()
		if err == nil {
			return p, a, nil
		}
		if first == nil {
			first = fmt.Errorf("display at address 0x%02X of %s: %w", a, f.c.Bus, err)
		}
	}
	if len(at) > 1 {
		return nil, 0, fmt.Errorf("no display answers on %s: %w; check its four wires and its address", f.c.Bus, first)
	}
	return nil, 0, fmt.Errorf("%w; check its four wires and its address", first)
}

// picture draws a screen.
func (f *Face) picture(s ui.Screen, now time.Time) picture {
	line := func(c text.Catalog) string {
		if f.c.Line == nil {
			return ""
		}
		return f.c.Line(c)
	}
	now = now.In(f.c.Location)
	if f.font == nil {
		return picture{lines: lines(s, now, line(text.For("en")), f.c.Columns, f.c.Rows)}
	}
	return picture{dots: f.draw(s, now, line)}
}
