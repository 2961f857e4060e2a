package lcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/ui"
)

// wires is an I²C bus with one display on it, which may be pulled off.
type wires struct {
	mu     sync.Mutex
	at     uint16
	chip   interface{ write(b []byte) error }
	gone   bool
	writes int
	bytes  int
}

func (w *wires) Write(at uint16, b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || at != w.at {
		return errors.New("sysfs-i2c: remote I/O error")
	}
	w.writes++
	w.bytes += len(b)
	return w.chip.write(b)
}

func (w *wires) Close() error { return nil }

func (w *wires) count() (writes, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes, w.bytes
}

func (w *wires) pull(gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = gone
}

// glass is the registers and the memory of an OLED. Its memory holds noise until it is
// written.
type glass struct {
	sh1106   bool
	memory   [8][132]byte
	on       bool
	pump     bool
	contrast byte
	// ssd1306: a window in horizontal addressing; sh1106: a page and a column.
	x0, x1, p0, p1 int
	x, p           int
}

func newGlass(sh1106 bool) *glass {
	g := &glass{sh1106: sh1106, x1: 127, p1: 7}
	for p := range g.memory {
		for x := range g.memory[p] {
			g.memory[p][x] = byte(p*37 + x*101)
		}
	}
	return g
}

func (g *glass) write(b []byte) error {
	if len(b) < 2 {
		return errors.New("no control byte, or nothing behind it")
	}
	switch b[0] {
	case 0x40:
		for _, v := range b[1:] {
			if g.x >= 132 || g.p > 7 {
				return fmt.Errorf("written outside: page %d column %d", g.p, g.x)
			}
			g.memory[g.p][g.x] = v
			g.x++
			if !g.sh1106 && g.x > g.x1 {
				g.x = g.x0
				if g.p++; g.p > g.p1 {
					g.p = g.p0
				}
			}
		}
		return nil
	case 0x00:
		return g.commands(b[1:])
	}
	return fmt.Errorf("control byte %#x", b[0])
}

func (g *glass) commands(b []byte) error {
	for len(b) > 0 {
		c := b[0]
		n := 1
		switch {
		case c == 0xAE, c == 0xAF:
			g.on = c == 0xAF
		case c == 0x81:
			n, g.contrast = 2, b[1]
		case c == 0xD3, c == 0xDA, c == 0xD5, c == 0xD9, c == 0xDB, c == 0xA8:
			n = 2
		case c&0xC0 == 0x40, c == 0xA1, c == 0xC8, c == 0xA4, c == 0xA6:
		case g.sh1106 && c == 0xAD:
			n, g.pump = 2, b[1] == 0x8B
		case g.sh1106 && c&0xF0 == 0xB0:
			g.p = int(c & 7)
		case g.sh1106 && c&0xF0 == 0x10:
			g.x = g.x&0x0F | int(c&0x0F)<<4
		case g.sh1106 && c&0xF0 == 0x00:
			g.x = g.x&0xF0 | int(c&0x0F)
		case !g.sh1106 && c == 0x8D:
			n, g.pump = 2, b[1] == 0x14
		case !g.sh1106 && c == 0x2E:
		case !g.sh1106 && c == 0x20:
			if n = 2; b[1] != 0 {
				return errors.New("not horizontal addressing")
			}
		case !g.sh1106 && c == 0x21:
			n, g.x0, g.x1 = 3, int(b[1]), int(b[2])
			g.x = g.x0
		case !g.sh1106 && c == 0x22:
			n, g.p0, g.p1 = 3, int(b[1]), int(b[2])
			g.p = g.p0
		default:
			return fmt.Errorf("command %#x is none of this chip's", c)
		}
		if n > len(b) {
			return fmt.Errorf("command %#x is cut off", c)
		}
		b = b[n:]
	}
	return nil
}

// seen is what is on the glass.
func (w *wires) seen() (d dots) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.chip.(*glass)
	if !g.on || !g.pump {
		return dots{}
	}
	first := 0
	if g.sh1106 {
		first = 2
	}
	for p := range 8 {
		copy(d[p*wide:], g.memory[p][first:first+wide])
	}
	return d
}

// letters is an HD44780 behind a PCF8574: it takes half a byte when EN falls, and is
// busy for a while after each byte.
type letters struct {
	ram      [128]byte
	address  int
	en       bool
	four     bool // 4-bit
	half     int  // -1: none waits
	up       time.Time
	busy     time.Time
	on       bool
	light    bool
	tooEarly int
}

func newLetters() *letters {
	l := &letters{half: -1, up: time.Now()}
	for i := range l.ram {
		l.ram[i] = 0xFF
	}
	return l
}

func (l *letters) write(b []byte) error {
	for _, v := range b {
		l.light = v&pinBacklight != 0
		en := v&pinEN != 0
		if l.en && !en {
			l.take(v)
		}
		l.en = en
	}
	return nil
}

func (l *letters) take(v byte) {
	now := time.Now()
	if now.Sub(l.up) < 40*time.Millisecond || now.Before(l.busy) {
		l.tooEarly++
	}
	high := v & 0xF0
	if !l.four {
		l.busy = now.Add(4100 * time.Microsecond)
		l.four = high == 0x20
		return
	}
	if l.half < 0 {
		l.half = int(high)
		return
	}
	c := byte(l.half) | high>>4
	l.half = -1
	l.busy = now.Add(37 * time.Microsecond)
	switch {
	case v&pinRS != 0:
		l.ram[l.address%128] = c
		l.address++
	case c&0x80 != 0:
		l.address = int(c & 0x7F)
	case c == 0x01:
		for i := range l.ram {
			l.ram[i] = ' '
		}
		l.busy = now.Add(1520 * time.Microsecond)
	case c&0xF8 == 0x08:
		l.on = c&0x04 != 0
	}
}

func (w *wires) rows(columns int, starts ...int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.chip.(*letters)
	if !l.on {
		return "dark"
	}
	var rows []string
	for _, s := range starts {
		rows = append(rows, string(l.ram[s:s+columns]))
	}
	return strings.Join(rows, "|")
}

// hang runs a Face on a bus.
func hang(t *testing.T, c Config, w *wires) (f *Face, log *bytes.Buffer, stop func()) {
	t.Helper()
	log = &bytes.Buffer{}
	c.Bus, c.Location, c.Logger = "/dev/i2c-1", taipei, slog.New(slog.NewTextHandler(log, nil))
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	f.open = func() (bus, error) { return w, nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return f, log, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestOLEDShowsThePictureWhereverItAnswers(t *testing.T) {
	for _, c := range []struct {
		driver string
		at     uint16
	}{{"ssd1306", 0x3C}, {"ssd1306", 0x3D}, {"sh1106", 0x3C}} {
		synctest.Test(t, func(t *testing.T) {
			w := &wires{at: c.at, chip: newGlass(c.driver == "sh1106")}
			f, _, stop := hang(t, Config{Driver: c.driver, Language: "zh-TW"}, w)
			for name, s := range scenes() {
				f.Show(s)
				pass(time.Second)
				if got, want := w.seen(), f.picture(s, time.Now()).dots; got != want {
					t.Errorf("%s at %#x, %s: another picture", c.driver, c.at, name)
				}
			}
			stop()
			if w.seen() != (dots{}) {
				t.Error("after the end there is still a picture, as if somebody listened")
			}
		})
	}
}

func TestOnlyWhatChangedIsSentAndNothingBetweenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wires{at: 0x3C, chip: newGlass(false)}
		f, _, stop := hang(t, Config{Driver: "ssd1306", Language: "zh-TW"}, w)
		idle := scenes()["idle"]
		f.Show(idle)
		pass(5 * time.Minute)
		pass(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute + time.Second)))
		n, _ := w.count()
		pass(58 * time.Second)
		if m, _ := w.count(); m != n {
			t.Errorf("%d transfers within a minute in which nothing changes", m-n)
		}
		f.Show(idle) // the same again
		pass(0)
		_, before := w.count()
		f.Show(scenes()["stored"])
		pass(0)
		_, b := w.count()
		pass(time.Second)
		if b-before > wide*high/8+8*32 {
			t.Errorf("%d bytes for a whole new picture", b-before)
		}
		s := scenes()["stored"]
		s.Result.Time = s.Result.Time.Add(time.Second)
		_, before = w.count()
		f.Show(s)
		pass(0)
		if _, b = w.count(); b-before > 100 {
			t.Errorf("%d bytes for one digit", b-before)
		}
		stop()
	})
}

func TestADisplayIsDimmedWhenNobodyIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wires{at: 0x3C, chip: newGlass(false)}
		f, _, stop := hang(t, Config{Driver: "ssd1306", Language: "zh-TW"}, w)
		contrast := func() byte {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.chip.(*glass).contrast
		}
		f.Show(scenes()["idle"])
		pass(50 * time.Second)
		if contrast() != 0xFF {
			t.Error("dimmed within a minute")
		}
		pass(12 * time.Second)
		if contrast() == 0xFF {
			t.Error("bright after a minute alone")
		}
		f.Show(scenes()["stored"])
		pass(0)
		if contrast() != 0xFF {
			t.Error("dim when somebody taps")
		}
		stop()
	})
}

func TestAPulledPlugCostsAMinuteAtMostAndOneLineInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wires{at: 0x3C, chip: newGlass(false)}
		f, log, stop := hang(t, Config{Driver: "ssd1306", Language: "zh-TW"}, w)
		f.Show(scenes()["idle"])
		pass(10 * time.Minute)
		for range 20 {
			w.pull(true)
			f.Show(scenes()["stored"])
			f.Show(scenes()["idle"])
			pass(5 * time.Second)
			w.mu.Lock()
			w.chip = newGlass(false) // back with noise in it, and off
			w.mu.Unlock()
			w.pull(false)
			pass(time.Minute)
			if w.seen() != f.picture(scenes()["idle"], time.Now()).dots {
				t.Fatal("not back a minute after the plug")
			}
		}
		if n := strings.Count(log.String(), "does not work"); n > 20 {
			t.Errorf("said %d times", n)
		}
		for _, secret := range []string{"王", "000123"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log holds %s", secret)
			}
		}
		stop()
	})
}

func TestWithoutADisplayTheFaceWaitsQuietlyAndSaysWhatToCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wires{at: 0x70, chip: newGlass(false)}
		f, log, stop := hang(t, Config{Driver: "hd44780", Columns: 16, Rows: 2}, w)
		for range 1000 {
			f.Show(scenes()["stored"]) // never waits
		}
		pass(24 * time.Hour)
		if n := strings.Count(log.String(), "does not work"); n != 1 || !strings.Contains(log.String(), "check its four wires") {
			t.Errorf("said %d times:\n%s", n, log.String())
		}
		stop()
	})
}

func TestCharactersAppearAndTheChipIsNeverHurried(t *testing.T) {
	for _, c := range []struct {
		columns, rows int
		at            uint16
		starts        []int
		want          string
	}{
		{16, 2, 0x27, []int{0x00, 0x40}, "OK IN   08:58:03|000123          "},
		{16, 2, 0x3F, []int{0x00, 0x40}, "OK IN   08:58:03|000123          "},
		{20, 4, 0x27, []int{0x00, 0x40, 0x14, 0x54}, "OK IN       08:58:03|000123              |                    |                    "},
		{16, 4, 0x27, []int{0x00, 0x40, 0x10, 0x50}, "OK IN   08:58:03|000123          |                |                "},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &wires{at: c.at, chip: newLetters()}
			f, _, stop := hang(t, Config{Driver: "hd44780", Columns: c.columns, Rows: c.rows}, w)
			pass(time.Second)
			for range 3 {
				f.Show(scenes()["idle-down"])
				pass(time.Second)
				f.Show(scenes()["stored"])
				pass(time.Second)
				if got := w.rows(c.columns, c.starts...); got != c.want {
					t.Errorf("%d×%d: %q, want %q", c.columns, c.rows, got, c.want)
				}
			}
			if n := w.chip.(*letters).tooEarly; n > 0 {
				t.Errorf("%d half bytes came while the chip was busy", n)
			}
			stop()
			if got := w.rows(c.columns, c.starts...); strings.Trim(got, " |") != "" {
				t.Errorf("after the end: %q", got)
			}
		})
	}
}

func TestSettingsThatCannotBeAreRefused(t *testing.T) {
	for _, c := range []Config{{Driver: "tft"}, {Driver: "hd44780"}, {Driver: "hd44780", Columns: 40, Rows: 2}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v", c)
		}
	}
}

var _ ui.Display = (*Face)(nil)
