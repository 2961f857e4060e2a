package keypad

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// sees runs scans, one every 5 ms, through a scanner. A scan is the keys that are
// down, as on the usual pad; "-" is none.
func sees(s *scanner, scans string) string {
	var got []string
	at := time.Unix(1, 0)
	for keys := range strings.FieldsSeq(scans) {
		n := 1
		if times, rest, ok := strings.Cut(keys, "x"); ok {
			fmt.Sscan(times, &n)
			keys = rest
		}
		var m matrix
		for _, k := range []byte(strings.ReplaceAll(keys, "-", "")) {
			m |= 1 << strings.IndexByte(defaultKeys, k)
		}
		for range n {
			at = at.Add(scanEvery)
			r := s.scan(m, at)
			if r.pressed >= 0 {
				got = append(got, string(defaultKeys[r.pressed]))
			}
			if r.refused {
				got = append(got, "!")
			}
			if (r.pressed >= 0 || r.refused) && (at.Sub(r.at) != 3*scanEvery) {
				got = append(got, fmt.Sprintf("seen %v before", at.Sub(r.at)))
			}
		}
	}
	return strings.Join(got, "")
}

func TestOneKeyIsOnePress(t *testing.T) {
	for scans, want := range map[string]string{
		"4x5 4x-":                      "5",
		"4x5 4x- 4x5 4x-":              "55",
		"200x5 4x-":                    "5", // however long
		"3x5 4x-":                      "",  // too short
		"5 - 5 - 5 5 - 4x5 - 5 - 4x-":  "5", // bouncing at both ends
		"4x5 3x- 4x5 4x-":              "5", // a release that was too short
		"4x1 4x12 4x1 4x-":             "1", // a finger that slipped
		"4x1 4x12 4x2 4x- 4x2 4x-":     "12",
		"4x12 4x1 4x- 4x1 4x-":         "!1", // at once: none, until all are free
		"4x125 4x- 4x7 4x-":            "!7", // ghosts
		"4x1 4x12 4x1245 4x1 4x- 4xD":  "1!D",
		"4x123A456B789C*0#D 4x- 4x0":   "!0",
		"4x1 4x2 4x-":                  "1", // from one to the next without letting go
		"4xA 4x- 4xB 4x- 4xC 4x- 4xD":  "ABCD",
		"2x1 2x2 2x1 2x2 2x1 2x2 4x-":  "",
		"4x1 1x- 1x1 1x- 1x1 4x- 4x1 ": "11",
	} {
		if got := sees(&scanner{}, scans); got != want {
			t.Errorf("%s: %q, want %q", scans, got, want)
		}
	}
}

func TestAKeyThatIsHeldForHalfAMinuteIsStuck(t *testing.T) {
	var s scanner
	sees(&s, "5998x5")
	if s.stuck {
		t.Error("stuck too soon")
	}
	at := time.Unix(1, 0).Add(31 * time.Second)
	if s.scan(1<<5, at); !s.stuck {
		t.Error("not stuck")
	}
	for range enough {
		s.scan(0, at)
	}
	if s.stuck || !s.idle() {
		t.Error("stuck after it was let go")
	}
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte{1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{3, 0, 3, 0, 3, 0, 3, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s scanner
		at := time.Unix(1, 0)
		var last [enough]matrix
		free := true // all keys have been free since the last press
		for i := 0; i+1 < len(b); i += 2 {
			m := matrix(b[i]) | matrix(b[i+1])<<8
			copy(last[:], last[1:])
			last[enough-1] = m
			at = at.Add(scanEvery)
			r := s.scan(m, at)
			steady := i/2 >= enough-1 && last[0] == m && last[1] == m && last[2] == m
			if steady && m == 0 {
				free = true
			}
			if r.pressed < 0 {
				continue
			}
			if !steady || bits.OnesCount16(uint16(m)) != 1 || m != 1<<r.pressed || !free {
				t.Fatalf("scan %d: pressed %d, seen %v, free %v", i/2, r.pressed, last, free)
			}
			free = false
		}
	})
}

// fingers is a pad whose keys a test presses, on the virtual clock or the real one.
type fingers struct {
	mu      sync.Mutex
	held    matrix
	changed chan struct{} // closed when held changes, or the pad goes away
	gone    bool
	rest    bool
	scans   int
	opened  int
	stop    chan struct{}
	once    sync.Once
}

func newFingers() *fingers { return &fingers{changed: make(chan struct{}), stop: make(chan struct{})} }

func (f *fingers) looked() int { f.mu.Lock(); defer f.mu.Unlock(); return f.scans }
func (f *fingers) rests() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.rest }

// set changes what is held, and wakes whoever waits.
func (f *fingers) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fingers) hold(keys string) {
	f.set(func() {
		f.held = 0
		for _, k := range []byte(keys) {
			f.held |= 1 << strings.IndexByte(defaultKeys, k)
		}
	})
}

// press presses and releases keys, one after another, bouncing as contacts do.
func (f *fingers) press(keys string) {
	for _, k := range keys {
		for _, d := range []time.Duration{2, 1, 3, 1} {
			f.hold(string(k))
			time.Sleep(d * time.Millisecond)
			f.hold("")
			time.Sleep(time.Millisecond)
		}
		f.hold(string(k))
		time.Sleep(80 * time.Millisecond)
		f.hold("")
		time.Sleep(80 * time.Millisecond)
	}
}

func (f *fingers) open() (Pad, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return nil, fs.ErrNotExist
	}
	f.opened++
	f.stop, f.once = make(chan struct{}), sync.Once{}
	return f, nil
}

func (f *fingers) Rest() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest = true
	if f.gone {
		return false, errGone
	}
	return f.held != 0, nil
}

func (f *fingers) Wait(deadline time.Time) error {
	f.mu.Lock()
	changed, stop, gone := f.changed, f.stop, f.gone
	f.mu.Unlock()
	if gone {
		return errGone
	}
	var timer <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(max(time.Until(deadline), time.Nanosecond))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.gone {
			return errGone
		}
		return nil
	case <-stop:
		return os.ErrClosed
	case <-timer:
		return os.ErrDeadlineExceeded
	}
}

// Scan shows what a matrix without diodes shows: any three corners of a rectangle
// are four.
func (f *fingers) Scan() (matrix, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest = false
	f.scans++
	if f.gone {
		return 0, errGone
	}
	m := f.held
	for again := true; again; {
		again = false
		for row := range 4 {
			for other := range 4 {
				a, b := m>>(4*row)&15, m>>(4*other)&15
				if a&b != 0 && a|b != a {
					m |= (a | b) << (4 * row)
					again = true
				}
			}
		}
	}
	return m, nil
}

func (f *fingers) Interrupt()   { f.once.Do(func() { close(f.stop) }) }
func (f *fingers) Close() error { return nil }

var errGone = errors.New("no such device")

func (f *fingers) unplug() { f.set(func() { f.gone = true }) }
func (f *fingers) replug() { f.set(func() { f.gone, f.held = false, 0 }) }

// start runs a keypad in a bubble.
func start(t *testing.T, f *fingers) (out chan device.Event, stop func()) {
	t.Helper()
	r, err := New(Config{Name: "pad", Open: f.open})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out = make(chan device.Event, 4096)
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, out) }()
	return out, func() {
		cancel()
		began := time.Now()
		if err := <-done; err != nil || time.Since(began) > 10*time.Millisecond {
			t.Errorf("Run = %v after %v", err, time.Since(began))
		}
	}
}

// take returns what came, in words.
func take(out chan device.Event) string {
	synctest.Wait()
	var got []string
	for {
		select {
		case ev := <-out:
			switch ev.What {
			case device.Entry:
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s/%s %s", ev.Number, string(ev.PIN), ev.Key)))
			case device.Key:
				got = append(got, "key "+ev.Key)
			case device.Fault:
				got = append(got, ev.Fault)
			default:
				got = append(got, ev.What.String())
			}
		default:
			return strings.Join(got, ", ")
		}
	}
}

func TestNumberAndPINOnTheKeypadAreAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFingers()
		out, stop := start(t, f)
		time.Sleep(time.Second)
		f.press("000123#4711#")
		f.press("C")
		f.press("000124#0815#")
		f.press("12")
		time.Sleep(6 * time.Second) // somebody has walked away
		f.press("000123*000125#9999#")
		if got := take(out); got != "up, 000123/4711, key go-out, key , 000124/0815 go-out, timeout, 000125/9999" {
			t.Errorf("got %s", got)
		}
		stop()
	})
}

func TestGhostsAndFatFingersAreNoDigits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFingers()
		out, stop := start(t, f)
		time.Sleep(time.Second)
		f.press("1")
		for _, three := range []string{"125", "79*", "AB1"} { // each shows a fourth
			f.hold(three)
			time.Sleep(100 * time.Millisecond)
			f.hold("")
			time.Sleep(100 * time.Millisecond)
		}
		f.hold("2") // and 3 slips
		time.Sleep(100 * time.Millisecond)
		f.hold("23")
		time.Sleep(100 * time.Millisecond)
		f.hold("3")
		time.Sleep(100 * time.Millisecond)
		f.hold("")
		time.Sleep(100 * time.Millisecond)
		f.press("#34#")
		if got := take(out); got != "up, noise, noise, noise, 12/34" {
			t.Errorf("got %s", got)
		}
		stop()
	})
}

func TestNothingIsPolledWhileNoKeyIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFingers()
		out, stop := start(t, f)
		time.Sleep(time.Second)
		scans := f.looked()
		time.Sleep(24 * time.Hour)
		f.mu.Lock()
		if f.scans != scans || !f.rest {
			t.Errorf("%d scans in a day without a key", f.scans-scans)
		}
		f.mu.Unlock()
		f.press("5")
		time.Sleep(time.Second)
		f.mu.Lock()
		if n := f.scans - scans; n < 8 || n > 40 || !f.rest {
			t.Errorf("%d scans for one key, at rest: %v", n, f.rest)
		}
		f.mu.Unlock()
		take(out)
		stop()
	})
}

func TestAStuckKeyIsToldAndFreedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFingers()
		out, stop := start(t, f)
		time.Sleep(time.Second)
		f.hold("5")
		time.Sleep(29 * time.Second)
		if got := take(out); got != "up, timeout" { // a digit nobody went on with
			t.Errorf("before half a minute: %s", got)
		}
		time.Sleep(2 * time.Second)
		ev := <-out
		if ev.What != device.Down || !strings.Contains(ev.Err.Error(), "key 5") {
			t.Fatalf("%v %v", ev.What, ev.Err)
		}
		scans := f.looked()
		time.Sleep(time.Hour)
		if got := take(out); got != "" {
			t.Errorf("told again: %s", got)
		}
		if n := f.looked() - scans; n > 3600*2*enough {
			t.Errorf("%d scans in an hour", n)
		}
		f.hold("")
		time.Sleep(3 * time.Second)
		f.press("000123#4711#")
		if got := take(out); got != "up, 000123/4711" {
			t.Errorf("after it was freed: %s", got)
		}
		stop()
	})
}

// Somebody leans on the pad with both hands for as long as there is a bubble.
func TestRandomPressesNeverMakeMoreThanTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFingers()
		out, stop := start(t, f)
		rnd := rand.New(rand.NewPCG(5, 6))
		for range 20_000 {
			f.set(func() { f.held = matrix(rnd.Uint32() & rnd.Uint32() & rnd.Uint32()) })
			time.Sleep(time.Duration(rnd.IntN(40)) * time.Millisecond)
		}
		for range len(out) {
			if ev := <-out; ev.What == device.Entry && (ev.Number == "" || ev.PIN == "") {
				t.Errorf("an entry with nothing in it: %+v", ev)
			}
		}
		f.hold("")
		time.Sleep(10 * time.Second)
		take(out)
		f.press("000123#4711#")
		if got := take(out); got != "000123/4711" {
			t.Errorf("afterwards: %s", got)
		}
		stop()
	})
}

func TestKeypadKeepsTheReadersContract(t *testing.T) {
	// A keypad has no cards; what the suite taps is a kind key, which it is told of
	// as the card of its own that the wrapper makes.
	devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
		f := newFingers()
		r, err := New(Config{Name: "pad", Open: f.open})
		if err != nil {
			t.Fatal(err)
		}
		press := func(k string) func() {
			return func() { // for as many scans as it takes, however busy the machine is
				for _, k := range []string{k, ""} {
					f.hold(k)
					for began, before := time.Now(), f.looked(); f.looked() < before+2*enough && time.Since(began) < time.Second; {
						time.Sleep(time.Millisecond)
						if k == "" && f.rests() {
							break
						}
					}
				}
			}
		}
		return devicetest.Subject{
			Reader: asCards{r}, Name: "pad",
			Cards: [2]devicetest.Card{
				{Tap: press("A"), Medium: "key", Value: "in"},
				{Tap: press("D"), Medium: "key", Value: "return"},
			},
			Misread: press("12"),
			Unplug:  f.unplug, Replug: f.replug,
			Stop: 100 * time.Millisecond,
		}
	})
}

// asCards tells keys as cards.
type asCards struct{ *Reader }

func (a asCards) Run(ctx context.Context, out chan<- device.Event) error {
	in := make(chan device.Event)
	done := make(chan error, 1)
	go func() { done <- a.Reader.Run(ctx, in); close(in) }()
	for ev := range in {
		if ev.What == device.Key {
			ev.What, ev.Medium, ev.Value, ev.Raw, ev.Bits = device.Card, "key", ev.Key, []byte(ev.Key), 8*len(ev.Key)
		}
		device.Send(ctx, out, ev)
	}
	return <-done
}

func TestSettingsAreRefusedWithAWayOut(t *testing.T) {
	rows, columns := []string{"GPIO5", "GPIO6", "GPIO13", "GPIO19"}, []string{"GPIO12", "GPIO16", "GPIO20", "GPIO21"}
	for _, tc := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { c.Columns = columns[:3] }, ""},
		{func(c *Config) { c.Keys = "123A456B789C#0*D" }, ""}, // * enters
		{func(c *Config) { c.Columns, c.Keys = columns[:3], "147258369*0#" }, ""},
		{func(c *Config) { c.Rows[0] = "pin 29" }, ""},
		{func(c *Config) { c.Name = "" }, "no name"},
		{func(c *Config) { c.Rows = rows[:3] }, "3 rows"},
		{func(c *Config) { c.Columns = columns[:2] }, "2 columns"},
		{func(c *Config) { c.Rows = []string{"GPIO5", "GPIO6", "GPIO13", "GPIO12"} }, "there twice"},
		{func(c *Config) { c.Rows = []string{"GPIO5", "GPIO6", "GPIO13", "GPIO99"} }, "not on the header"},
		{func(c *Config) { c.Keys = "123A456B789C*0#" }, "15 keys"},
		{func(c *Config) { c.Keys = "123A456B789C*0##" }, "each of"},
		{func(c *Config) { c.Columns, c.Keys = columns[:3], "123A456B789C*0#D" }, "16 keys"},
	} {
		cfg := Config{Name: "pad", Rows: append([]string{}, rows...), Columns: columns}
		tc.change(&cfg)
		_, err := New(cfg)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", cfg, err, tc.want)
		}
	}
}

func TestAMachineWithoutTheChipIsToldSo(t *testing.T) {
	if chips, _ := fs.Glob(os.DirFS("/dev"), "gpiochip*"); len(chips) > 0 {
		t.Skip("this machine has GPIO, and this is about one that has none")
	}
	for _, chip := range []string{"", "pinctrl-rp1", "/dev/gpiochip77"} {
		if _, err := openPad(chip, []int{1, 2, 3, 4}, []int{5, 6, 7, 8}); !errors.Is(err, device.ErrMissing) {
			t.Errorf("chip %q: %v", chip, err)
		}
	}
}
