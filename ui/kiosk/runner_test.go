package kiosk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/device"
	"punchclock/queue/punch"
	"punchclock/ui"
)

// medium is a Recorder in memory that takes its time.
type medium struct {
	mu      sync.Mutex
	takes   time.Duration
	fails   bool
	under   map[string]bool // badges being appended
	most    int             // at once
	overlap bool            // one badge twice at once
	punches []punch.Punch
}

func (m *medium) Append(d punch.Draft) (punch.Punch, error) {
	m.mu.Lock()
	if m.under == nil {
		m.under = map[string]bool{}
	}
	m.overlap = m.overlap || m.under[string(d.Badge)]
	m.under[string(d.Badge)] = true
	m.most = max(m.most, len(m.under))
	m.mu.Unlock()

	time.Sleep(m.takes)

	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.under, string(d.Badge))
	if m.fails {
		return punch.Punch{}, errMedium
	}
	for _, p := range m.punches {
		if p.Tap == d.Tap {
			return p, nil
		}
	}
	seq := uint64(len(m.punches) + 1)
	p := punch.Punch{ID: punch.NewID("test", seq), Seq: seq, Draft: d}
	m.punches = append(m.punches, p)
	return p, nil
}

func (m *medium) set(fails bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails = fails
}

// people is a Directory of numbers 000001 to 000999 with the cards em:1 to em:999;
// 000666 has left.
type people struct{}

func (people) ByBadge(b punch.Badge) (punch.Employee, bool) {
	number := "000" + b.Value()[7:]
	return punch.Employee{Number: number, Name: "王小明", Badges: []punch.Badge{b}, Active: number != "000666"}, number != "000000"
}

func (people) ByNumber(n string) (punch.Employee, bool) {
	if n == "000/1" {
		return punch.Employee{Number: n, Active: true}, true
	}
	return punch.Employee{Number: n, Name: "王小明", Badges: []punch.Badge{punch.Badge("em:0000" + n)}, Active: n != "000666"}, n != "000000"
}

// bubbleClock is the bubble's own clock; the machine booted a minute before.
type bubbleClock struct{ start time.Time }

func (c bubbleClock) Now() punch.Stamp {
	return punch.Stamp{Wall: time.Now(), BootID: [16]byte{1}, Uptime: time.Minute + time.Since(c.start), Clock: punch.Synced}
}

// notebook takes results, screens and cues.
type notebook struct {
	mu      sync.Mutex
	results []ui.Result
	screens []ui.Screen
	cues    []ui.Cue
	slow    time.Duration
}

func (n *notebook) result(r ui.Result) {
	time.Sleep(n.slow)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.results = append(n.results, r)
}

func (n *notebook) Show(s ui.Screen) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.screens = append(n.screens, s)
}

func (n *notebook) Play(c ui.Cue) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cues = append(n.cues, c)
}

// screen is what a display shows now.
func (n *notebook) screen() ui.Screen {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.screens[len(n.screens)-1]
}

func (n *notebook) outcomes() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var words []string
	for _, r := range n.results {
		words = append(words, r.Outcome+":"+r.Kind)
	}
	return strings.Join(words, " ")
}

type rig struct {
	*Kiosk
	*notebook
	*medium
	in   chan device.Event
	stop func() error
}

// start runs a kiosk in the bubble.
func start(t *testing.T, change func(*Config, *Parts)) *rig {
	r := &rig{notebook: &notebook{}, medium: &medium{}, in: make(chan device.Event, 64)}
	cfg := Config{Location: taipei, DuplicateWindow: time.Minute, KindTimeout: 10 * time.Second, Readers: []string{"front"}}
	parts := Parts{
		Recorder: r.medium, Directory: people{}, Clock: bubbleClock{time.Now()},
		Results: r.notebook.result, Displays: []ui.Display{r.notebook}, Sounders: []ui.Sounder{r.notebook},
	}
	if change != nil {
		change(&cfg, &parts)
	}
	r.Kiosk = New(cfg, parts)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, r.in) }()
	r.stop = func() error {
		cancel()
		return <-ended
	}
	return r
}

func card(n int) device.Event {
	return device.Event{Reader: "front", What: device.Card, Medium: "em", Value: fmt.Sprintf("%010d", n),
		Raw: []byte{0, 0, 0, 0, byte(n)}, Bits: 40, Last: time.Now()}
}

// settle lets time pass and everything that is due happen.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestTapIsStoredAnsweredShownAndHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took time.Duration
		r := start(t, func(_ *Config, p *Parts) { p.Observe = func(d time.Duration, _ ui.Result) { took = d } })
		r.takes = 7 * time.Millisecond
		r.in <- card(123)
		settle(6 * time.Millisecond)
		if got := r.outcomes(); got != "" {
			t.Fatalf("told %q before the commit", got)
		}
		settle(time.Second)
		if got := r.outcomes(); got != "stored:in" {
			t.Fatalf("told %q", got)
		}
		p := r.punches[0]
		if p.Badge != "em:0000000123" || p.Employee != "000123" || p.Reader != "front" || p.Bits != 40 || p.Raw[4] != 123 || p.Tap == (punch.Tap{}) {
			t.Errorf("stored %+v", p.Draft)
		}
		if s := r.screen(); s.Result == nil || s.Result.PunchID != string(p.ID) || r.cues[0] != ui.CueIn {
			t.Errorf("shown %+v, heard %v", s, r.cues)
		}
		if took != 7*time.Millisecond {
			t.Errorf("took %v", took)
		}
		settle(2 * time.Second)
		if s := r.screen(); s.Result != nil {
			t.Error("the answer stays on the screen")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestTimeOfATapIsItsLastByteHoweverLateItIsWorkedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		ev := card(123)
		at := time.Now()
		time.Sleep(1500 * time.Millisecond)
		r.in <- ev
		synctest.Wait()
		ev = card(124)
		ev.Last = ev.Last.Add(-time.Hour) // before the boot: says nothing
		now := time.Now()
		r.in <- ev
		synctest.Wait()
		if s := r.punches[0].Stamp; !s.Wall.Equal(at) || s.Uptime != time.Minute {
			t.Errorf("stamped %v up %v, tapped at %v", s.Wall, s.Uptime, at)
		}
		if s := r.punches[1].Stamp; !s.Wall.Equal(now) {
			t.Errorf("stamped %v, tapped at %v", s.Wall, now)
		}
		r.stop()
	})
}

// stuck is a display, sounder and taker of results that hangs until it is let go.
type stuck chan struct{}

func (s stuck) Show(ui.Screen)   { <-s }
func (s stuck) Play(ui.Cue)      { <-s }
func (s stuck) take(_ ui.Result) { <-s }

func TestWhoHangsDelaysNoTapAndNoShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(stuck)
		var log strings.Builder
		var slowest time.Duration
		r := start(t, func(_ *Config, p *Parts) {
			p.Displays = append(p.Displays, hangs)
			p.Sounders = append(p.Sounders, hangs)
			p.Results = hangs.take
			p.Observe = func(d time.Duration, _ ui.Result) { slowest = max(slowest, d) }
			p.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		r.takes = 3 * time.Millisecond
		for n := range 500 {
			r.in <- card(n + 1)
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if len(r.punches) != 500 || slowest != 3*time.Millisecond {
			t.Errorf("%d punches, the slowest in %v", len(r.punches), slowest)
		}
		if s := r.screen(); s.Result == nil || s.Result.Seq != 500 {
			t.Errorf("the display that works shows %+v", s)
		}
		begin := time.Now()
		r.stop()
		if d := time.Since(begin); d != stopGrace || !strings.Contains(log.String(), "left behind") {
			t.Errorf("stopped after %v, log %s", d, log.String())
		}
		close(hangs)
	})
}

func TestSlowTakerGetsEveryResultOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		r.slow = 30 * time.Millisecond
		for n := range 50 {
			r.in <- card(n + 1)
			time.Sleep(time.Millisecond)
		}
		r.stop() // waits for the taker: it is slow, not stuck
		if len(r.results) != 50 {
			t.Fatalf("%d results", len(r.results))
		}
		for i, res := range r.results {
			if res.Seq != uint64(i+1) {
				t.Fatalf("result %d is of punch %d", i, res.Seq)
			}
		}
	})
}

func TestSixteenPeopleAreAppendedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		r.takes = 40 * time.Millisecond
		for n := range 16 {
			r.in <- card(n + 1)
		}
		settle(40 * time.Millisecond)
		if len(r.results) != 16 || r.most != 16 {
			t.Errorf("%d answers after one commit, %d at once", len(r.results), r.most)
		}
		r.stop()
	})
}

func TestOnePersonsTapsAreAppendedOneAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		r.takes = 40 * time.Millisecond
		r.set(true)
		r.in <- card(7)
		time.Sleep(10 * time.Millisecond)
		r.in <- card(7)
		time.Sleep(10 * time.Millisecond)
		r.in <- card(7)
		settle(20 * time.Millisecond)
		r.set(false)
		settle(time.Second)
		if got := r.outcomes(); got != "not_stored:in stored:in duplicate:in" {
			t.Errorf("told %q", got)
		}
		if r.overlap || len(r.punches) != 2 {
			t.Errorf("overlap %v, %d punches", r.overlap, len(r.punches))
		}
		r.stop()
	})
}

func TestShutdownCompletesWhatWasTapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		r.takes = 40 * time.Millisecond
		for n := range 40 {
			r.in <- card(n%20 + 1) // everybody twice
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if len(r.punches) != 40 || len(r.results) != 40 {
			t.Errorf("%d punches, %d results of 40 taps", len(r.punches), len(r.results))
		}
		if err := r.ChooseKind(t.Context(), punch.In); !errors.Is(err, ErrStopped) {
			t.Errorf("choose after the end: %v", err)
		}
		if _, err := r.PIN(t.Context(), "000123"); !errors.Is(err, ErrStopped) {
			t.Errorf("punch after the end: %v", err)
		}
	})
}

func TestStuckMediumMakesTheReadersWaitAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(c *Config, _ *Parts) { c.KindTimeout = 3 * time.Hour })
		r.takes = time.Hour
		sent := 0
		go func() {
			for n := range 400 {
				r.in <- card(n + 1)
				sent = n + 1
			}
		}()
		settle(time.Minute)
		if want := maxTaps + cap(r.in); sent != want {
			t.Errorf("%d cards taken in, want %d", sent, want)
		}
		if err := r.ChooseKind(t.Context(), punch.GoOut); err != nil { // of a later person
			t.Fatal(err)
		}
		settle(24 * time.Hour)
		if len(r.results) != 400 || !strings.Contains(r.outcomes(), "go-out") {
			t.Errorf("%d answers", len(r.results))
		}
		for i, p := range r.punches {
			if p.Kind == punch.GoOut && i < maxTaps {
				t.Errorf("punch %d was tapped before the choice", i)
			}
		}
		r.stop()
	})
}

func TestKeysAndPageChooseTheKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		r.in <- device.Event{Reader: "front", What: device.Key, Key: "go-out", Last: time.Now()}
		settle(time.Second)
		r.in <- card(1)
		synctest.Wait()
		if err := r.ChooseKind(t.Context(), punch.Return); err != nil {
			t.Fatal(err)
		}
		r.in <- card(2)
		synctest.Wait()
		r.in <- device.Event{Reader: "front", What: device.Key, Key: "lunch", Last: time.Now()}
		r.in <- card(3)
		synctest.Wait()
		if got := r.outcomes(); got != "stored:go-out stored:return stored:in" {
			t.Errorf("told %q", got)
		}
		if err := r.ChooseKind(t.Context(), 0); err == nil {
			t.Error("chose nothing")
		}
		if err := r.ChooseKind(t.Context(), punch.Out); err != nil {
			t.Fatal(err)
		}
		settle(9999 * time.Millisecond)
		if s := r.screen(); s.Kind != "out" || s.Until.IsZero() {
			t.Errorf("shows %+v", s)
		}
		settle(2 * time.Millisecond)
		if s := r.screen(); s.Kind != "" {
			t.Errorf("shows %+v", s)
		}
		r.stop()
	})
}

func TestNumberOnThePagePunchesAndIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		r.takes = 5 * time.Millisecond
		res, err := r.PIN(t.Context(), "000123")
		if err != nil || res.Outcome != "stored" || res.Employee != "000123" || res.Reader != PageReader || res.Name != "王小明" {
			t.Fatalf("%+v %v", res, err)
		}
		if p := r.punches[0]; p.Badge != "key:000123" || p.Employee != "000123" {
			t.Errorf("stored %+v", p.Draft)
		}
		r.in <- card(123)
		settle(time.Second)
		if got := r.outcomes(); got != "stored:in duplicate:in" {
			t.Errorf("told %q", got)
		}
		if _, err := r.PIN(t.Context(), "000000"); !errors.Is(err, ErrUnknownEmployee) {
			t.Errorf("nobody: %v", err)
		}
		if _, err := r.PIN(t.Context(), "000/1"); err == nil {
			t.Error("a number that no badge can carry was taken")
		}
		if n := len(r.Readers()); n != 1 {
			t.Errorf("the page counts as a reader: %d", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := r.PIN(ctx, "000124"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("gave up: %v", err)
		}
		r.stop()
		if len(r.punches) != 3 {
			t.Errorf("%d punches", len(r.punches))
		}
	})
}

func TestMisreadAsksAgainAndNoiseSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		r.in <- device.Event{Reader: "front", What: device.Up}
		r.in <- device.Event{Reader: "front", What: device.Fault, Fault: device.FaultNoise}
		r.in <- device.Event{Reader: "front", What: device.Fault, Fault: device.FaultChecksum, Try: true, Last: time.Now()}
		bad := card(1)
		bad.Value = "not hexadecimal"
		r.in <- bad
		settle(time.Second)
		if got := r.outcomes(); got != "misread: misread:" || len(r.punches) != 0 {
			t.Errorf("told %q, %d punches", got, len(r.punches))
		}
		s := r.Readers()[0]
		if s.State != "ok" || s.Faults["noise"] != 1 || s.Faults["checksum"] != 1 || s.Faults["format"] != 1 || s.LastEvent.IsZero() {
			t.Errorf("reader is %+v", s)
		}
		r.in <- device.Event{Reader: "front", What: device.Down, Err: errors.New("unplugged")}
		synctest.Wait()
		if s := r.Readers()[0]; s.State != "down" {
			t.Errorf("reader is %+v", s)
		}
		close(r.in) // the readers have ended; the page has not
		if _, err := r.PIN(t.Context(), "000123"); err != nil {
			t.Error(err)
		}
		r.stop()
	})
}

func TestWhoLeftPunchesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		r.in <- card(666)
		settle(time.Second)
		if got := r.outcomes(); got != "unknown_badge:in" || r.punches[0].Employee != "" {
			t.Errorf("told %q, stored %+v", got, r.punches[0].Draft)
		}
		if _, err := r.PIN(t.Context(), "000666"); !errors.Is(err, ErrUnknownEmployee) {
			t.Errorf("by number: %v", err)
		}
		r.stop()
	})
}

func TestRawBitsBeyondWhatARecordHoldsDoNotLoseThePunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		ev := card(5)
		ev.Raw, ev.Bits = make([]byte, 100), 800
		r.in <- ev
		settle(0)
		ev.Raw[0] = 0xFF // the reader's buffer is the reader's
		if p := r.punches[0]; p.Raw[0] != 0 || len(p.Raw) != 32 || p.Bits != 255 {
			t.Errorf("stored %d bytes, %d bits", len(p.Raw), p.Bits)
		}
		r.stop()
	})
}

func TestIdleKioskWakesOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads int
		r := start(t, func(c *Config, p *Parts) {
			c.Schedule = []Slot{{From: 8 * 60, To: 9 * 60, Kind: punch.In}} // midnight UTC is 08:00 there
			p.Clock = countingClock{p.Clock, &reads}
		})
		settle(time.Hour + time.Second)
		if reads > 2*61+3 {
			t.Errorf("the clock was read %d times in an idle hour", reads)
		}
		var kinds []string
		for _, s := range r.screens {
			kinds = append(kinds, s.Kind)
		}
		if !slices.Equal(kinds, []string{"in", ""}) {
			t.Errorf("showed the kinds %q", kinds)
		}
		r.stop()
	})
}

type countingClock struct {
	Clock
	n *int
}

func (c countingClock) Now() punch.Stamp { *c.n++; return c.Clock.Now() }

func TestSeedBeforeRunKeepsTheWindowAcrossARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		r.in <- card(9)
		synctest.Wait()
		old := r.punches
		clock := r.parts.Clock
		r.stop()
		time.Sleep(20 * time.Second)

		m := &medium{punches: old}
		k := New(r.Kiosk.state.cfg, Parts{Recorder: m, Directory: people{}, Clock: clock})
		k.Seed(old)
		ctx, cancel := context.WithCancel(t.Context())
		in := make(chan device.Event, 1)
		in <- card(9)
		cancel()
		if err := k.Run(ctx, in); err != nil {
			t.Fatal(err)
		}
		if len(m.punches) != 2 || m.punches[1].Outcome != punch.Duplicate {
			t.Errorf("stored %+v", m.punches)
		}
	})
}

func TestLogHoldsNoNameAndNoBadge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		r := start(t, func(_ *Config, p *Parts) {
			p.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		r.set(true)
		r.in <- device.Event{Reader: "front", What: device.Up}
		r.in <- card(123)
		bad := card(1)
		bad.Value = "4711/4712"
		r.in <- bad
		r.in <- device.Event{Reader: "front", What: device.Key, Key: "lunch"}
		synctest.Wait()
		r.stop()
		for _, secret := range []string{"王小明", "0000000123", "4711"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log holds %q: %s", secret, log.String())
			}
		}
		if !strings.Contains(log.String(), "could not be stored") {
			t.Errorf("the log says nothing of the failure: %s", log.String())
		}
	})
}

func TestCardIsRefusedFromTheTapAfterItsBlockOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var blocked atomic.Bool
		r := start(t, func(_ *Config, p *Parts) { p.Blocked = func(punch.Badge) bool { return blocked.Load() } })
		r.in <- card(123)
		settle(time.Second)
		blocked.Store(true)
		r.in <- card(123)
		settle(100 * time.Millisecond)
		if got := r.outcomes(); got != "stored:in blocked_badge:in" {
			t.Error(got)
		}
		r.stop()
	})
}

// waver is a clock whose wall time and uptime are read one after another: every third
// reading of the wall is a little early.
type waver struct {
	bubbleClock
	n *atomic.Int32
}

func (w waver) Now() punch.Stamp {
	s := w.bubbleClock.Now()
	if w.n.Add(1)%3 == 0 {
		s.Wall = s.Wall.Add(-time.Microsecond)
	}
	return s
}

func TestOfTwoTapsInOneMillisecondTheSecondIsNotTheEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *Config, p *Parts) { p.Clock = waver{p.Clock.(bubbleClock), new(atomic.Int32)} })
		for i := range 40 {
			r.in <- card(i + 1)
		}
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		byNumber := map[string]punch.Stamp{}
		for _, p := range r.punches {
			byNumber[p.Employee] = p.Stamp
		}
		var before punch.Stamp
		for i := range 40 {
			s, ok := byNumber[fmt.Sprintf("000%03d", i+1)]
			if !ok || s.Wall.Before(before.Wall) || s.Uptime < before.Uptime {
				t.Fatalf("tap %d: %v, %v after %v, %v", i+1, s.Wall, s.Uptime, before.Wall, before.Uptime)
			}
			before = s
		}
	})
}
