package indicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpiotest"

	"punchclock/ui"
)

// board records when each of its pins is switched, in milliseconds.
type board struct {
	began time.Time
	mu    sync.Mutex
	tape  []string
}

type pin struct {
	gpiotest.Pin
	b   *board
	err error
}

func (p *pin) Out(l gpio.Level) error {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.b.tape = append(p.b.tape, fmt.Sprintf("%d %s %v", time.Since(p.b.began).Milliseconds(), p.N, l))
	return errors.Join(p.err, p.Pin.Out(l))
}

func (p *pin) fail(err error) { p.b.mu.Lock(); defer p.b.mu.Unlock(); p.err = err }

func (b *board) pin(name string) *pin { return &pin{Pin: gpiotest.Pin{N: name}, b: b} }

// of returns what one pin did since the last call of cut.
func (b *board) of(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var got []string
	for _, s := range b.tape {
		if f := strings.Fields(s); f[1] == name {
			got = append(got, f[0]+" "+f[2])
		}
	}
	return strings.Join(got, ", ")
}

// from returns all that was switched but for the first n.
func (b *board) from(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.tape[n:], "|")
}

func (b *board) cut() { b.mu.Lock(); defer b.mu.Unlock(); b.tape = nil; b.began = time.Now() }

func (b *board) config() Config {
	o := func(name string) Output { return Output{Pin: b.pin(name)} }
	return Config{Green: o("green"), Red: o("red"), Amber: o("amber"), Blue: o("blue"), Buzzer: o("buzzer"), Relay: o("relay")}
}

// run runs an indicator on the virtual clock while do plays on it.
func run(t *testing.T, b *board, change func(*Config), do func(*Indicator)) {
	t.Helper()
	b.began = time.Now()
	cfg := b.config()
	if change != nil {
		change(&cfg)
	}
	i, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	synctest.Wait()
	b.cut()
	do(i)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

var cues = []ui.Cue{ui.CueIn, ui.CueOut, ui.CueGoOut, ui.CueReturn,
	ui.CueIn.Unset(), ui.CueOut.Unset(), ui.CueGoOut.Unset(), ui.CueReturn.Unset(), ui.CueDuplicate, ui.CueUnknown, ui.CueMisread, ui.CueNotStored, ui.CueEnrolled, ui.CueEnrolNext}

func TestEveryCueHasItsPattern(t *testing.T) {
	for cue, want := range map[ui.Cue][]string{ // buzzer, green, red, amber
		ui.CueIn:             {"0 High, 80 Low, 130 High, 330 Low", "0 High, 2000 Low", "", ""},
		ui.CueOut:            {"0 High, 200 Low, 250 High, 330 Low", "0 High, 2000 Low", "", ""},
		ui.CueGoOut:          {"0 High, 600 Low, 800 High, 900 Low", "0 High, 2000 Low", "", ""},
		ui.CueReturn:         {"0 High, 100 Low, 300 High, 900 Low", "0 High, 2000 Low", "", ""},
		ui.CueIn.Unset():     {"0 High, 80 Low, 130 High, 330 Low, 580 High, 630 Low, 680 High, 730 Low", "0 High, 2000 Low", "", "0 High, 2000 Low"},
		ui.CueOut.Unset():    {"0 High, 200 Low, 250 High, 330 Low, 580 High, 630 Low, 680 High, 730 Low", "0 High, 2000 Low", "", "0 High, 2000 Low"},
		ui.CueGoOut.Unset():  {"0 High, 600 Low, 800 High, 900 Low, 1150 High, 1200 Low, 1250 High, 1300 Low", "0 High, 2000 Low", "", "0 High, 2000 Low"},
		ui.CueReturn.Unset(): {"0 High, 100 Low, 300 High, 900 Low, 1150 High, 1200 Low, 1250 High, 1300 Low", "0 High, 2000 Low", "", "0 High, 2000 Low"},
		ui.CueDuplicate:      {"0 High, 200 Low, 400 High, 600 Low", "", "", "0 High, 200 Low, 400 High, 600 Low"},
		ui.CueUnknown:        {"0 High, 100 Low, 200 High, 300 Low, 400 High, 500 Low", "", "", "0 High, 2000 Low"},
		ui.CueMisread:        {"0 High, 50 Low, 100 High, 150 Low, 200 High, 250 Low, 300 High, 350 Low, 400 High, 450 Low", "", "0 High, 250 Low, 500 High, 750 Low", ""},
		ui.CueNotStored:      {"0 High, 1500 Low", "", "0 High, 3000 Low", ""},
		ui.CueEnrolled:       {"0 High, 100 Low, 200 High, 300 Low, 500 High, 1000 Low", "0 High, 600 Low, 900 High, 1500 Low", "", ""},
		ui.CueEnrolNext:      {"0 High, 80 Low", "", "", "0 High, 400 Low"},
		"unheard of":         {"", "", "", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b board
			run(t, &b, nil, func(i *Indicator) {
				i.Play(cue)
				time.Sleep(10 * time.Second)
				for n, name := range []string{"buzzer", "green", "red", "amber"} {
					if got := b.of(name); got != want[n] {
						t.Errorf("%s, %s: %s, want %s", cue, name, got, want[n])
					}
				}
			})
		})
	}
}

// By ear and without a pitch: another number of notes, or one note or pause that
// is at least twice as long.
func TestNoTwoPatternsSoundAlike(t *testing.T) {
	for n, a := range cues {
		if len(patterns[a].beats) == 0 {
			t.Errorf("%s is silent", a)
		}
		for _, b := range cues[:n] {
			p, q := patterns[a].beats, patterns[b].beats
			differ := len(p) != len(q)
			for k := 0; !differ && k < len(p); k++ {
				differ = p[k] >= 2*q[k] || q[k] >= 2*p[k]
			}
			if !differ {
				t.Errorf("%s and %s sound alike: %v, %v", a, b, p, q)
			}
		}
	}
	if len(patterns) != len(cues)+8 { // and a correction of each that is stored
		t.Errorf("%d patterns for %d cues", len(patterns), len(cues))
	}
}

func TestCorrectionOfTheKindIsHeardAndSeenAndOpensNoDoor(t *testing.T) {
	for _, cue := range cues[:8] {
		synctest.Test(t, func(t *testing.T) {
			var b board
			run(t, &b, nil, func(i *Indicator) {
				played := func(c ui.Cue) (heard string) {
					b.cut()
					i.Play(c)
					time.Sleep(10 * time.Second)
					for _, name := range []string{"buzzer", "green", "amber"} {
						heard += name + " " + b.of(name) + "; "
					}
					return heard
				}
				stored, opened := played(cue), b.of("relay")
				if corrected := played(cue.Corrected()); corrected != stored {
					t.Errorf("%s corrected: %s, want %s", cue, corrected, stored)
				}
				if got := b.of("relay"); got != "" || opened != "0 High, 1000 Low" {
					t.Errorf("%s: relay %s; corrected: %s", cue, opened, got)
				}
			})
		})
	}
}

// Any flash, of one lamp or of two in turns, counts: what came on within a second.
func TestNothingFlashesMoreThanThreeTimesASecondHoweverFastPeopleTap(t *testing.T) {
	const most = 3
	reached := false
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		b := board{began: time.Now()}
		i, err := New(b.config())
		if err != nil {
			t.Fatal(err)
		}
		i.Offline(seed%2 == 1)
		start := time.Now()
		now, tap := start, start
		was := i.level
		var flashes []time.Duration
		for now.Sub(start) < time.Minute {
			if !now.Before(tap) {
				i.Play(cues[random.IntN(len(cues))])
				tap = now.Add(time.Duration(20+random.IntN(1+int(seed)*10)) * time.Millisecond)
			}
			next := i.step(now)
			for _, lamp := range []int{green, red, amber, blue} {
				at := now.Sub(start)
				if i.level[lamp] && !was[lamp] && (len(flashes) == 0 || flashes[len(flashes)-1] != at) {
					flashes = append(flashes, at)
				}
			}
			was = i.level
			if due := now.Add(next); next > 0 && due.Before(tap) {
				now = due
			} else {
				now = tap
			}
		}
		for n := most; n < len(flashes); n++ {
			if flashes[n]-flashes[n-most] < time.Second {
				t.Fatalf("seed %d: flashes at %v", seed, flashes[n-most:n+1])
			}
		}
		for n := most - 1; n < len(flashes); n++ {
			reached = reached || flashes[n]-flashes[n-most+1] < time.Second
		}
	}
	if !reached {
		t.Error("nobody tapped fast enough for three flashes in a second")
	}
}

func TestOnlyTheNewestOfTheWaitingCuesIsPlayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b board
		run(t, &b, nil, func(i *Indicator) {
			i.Play(ui.CueNotStored)
			time.Sleep(100 * time.Millisecond)
			i.Play(ui.CueDuplicate)
			i.Play(ui.CueUnknown)
			i.Play(ui.CueIn)
			time.Sleep(10 * time.Second)
			if got := b.of("buzzer"); got != "0 High, 1500 Low, 1800 High, 1880 Low, 1930 High, 2130 Low" {
				t.Errorf("buzzer %s", got)
			}
			if got := b.of("red"); got != "0 High, 1800 Low" {
				t.Errorf("red %s", got)
			}
			if got := b.of("amber"); got != "" {
				t.Errorf("amber %s", got)
			}
		})
	})
}

func TestALampThatIsStillLitDoesNotHoldUpTheNextTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b board
		run(t, &b, nil, func(i *Indicator) {
			i.Play(ui.CueIn)
			time.Sleep(time.Second)
			i.Play(ui.CueUnknown)
			time.Sleep(10 * time.Second)
			if got := b.of("green"); got != "0 High, 1000 Low" {
				t.Errorf("green %s", got)
			}
			if got := b.of("buzzer"); !strings.HasSuffix(got, "330 Low, 1000 High, 1100 Low, 1200 High, 1300 Low, 1400 High, 1500 Low") {
				t.Errorf("buzzer %s", got)
			}
		})
	})
}

func TestDoorOpensForStoredPunchesOnlyAndNeverLongerThanItsPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b board
		run(t, &b, func(c *Config) { c.RelayPulse = 3 * time.Second }, func(i *Indicator) {
			for _, c := range []ui.Cue{ui.CueDuplicate, ui.CueUnknown, ui.CueMisread, ui.CueNotStored, ui.CueEnrolled, ui.CueEnrolNext} {
				i.Play(c)
				time.Sleep(5 * time.Second)
			}
			if got := b.of("relay"); got != "" {
				t.Errorf("relay %s", got)
			}
			b.cut()
			for range 4 { // a queue of people
				i.Play(ui.CueIn)
				time.Sleep(1100 * time.Millisecond)
			}
			time.Sleep(10 * time.Second)
			if got := b.of("relay"); got != "0 High, 3000 Low, 3300 High, 6300 Low" {
				t.Errorf("relay %s", got)
			}
		})
	})
}

func TestEverythingIsOffBeforeAndAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := board{began: time.Now()}
		cfg := b.config()
		cfg.Relay.ActiveLow, cfg.Red.ActiveLow = true, true
		i, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		off := "0 green Low|0 red High|0 amber Low|0 blue Low|0 buzzer Low|0 relay High"
		if got := b.from(0); got != off {
			t.Errorf("after New: %s", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- i.Run(ctx) }()
		i.Technician(true)
		i.Play(ui.CueOut)
		time.Sleep(20 * time.Millisecond)
		if got := b.from(6); got != "0 green High|0 blue High|0 buzzer High|0 relay Low" {
			t.Errorf("in the middle: %s", got)
		}
		b.cut()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := b.from(0); got != off {
			t.Errorf("after Run: %s", got)
		}
	})
}

func TestAmberIsLitWhileOfflineAndBlueForTheTechnician(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b board
		run(t, &b, nil, func(i *Indicator) {
			i.Offline(true)
			time.Sleep(time.Second)
			i.Play(ui.CueIn)
			time.Sleep(5 * time.Second)
			i.Play(ui.CueDuplicate)
			time.Sleep(4 * time.Second)
			i.Offline(false)
			i.Technician(true)
			time.Sleep(time.Second)
			i.Technician(false)
			time.Sleep(time.Second)
			if got := b.of("amber"); got != "0 High, 6200 Low, 6400 High, 10000 Low" {
				t.Errorf("amber %s", got)
			}
			if got := b.of("blue"); got != "10000 High, 11000 Low" {
				t.Errorf("blue %s", got)
			}
		})
	})
}

func TestAnIdleIndicatorIsNeverWoken(t *testing.T) {
	b := board{began: time.Now()}
	i, err := New(b.config())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, c := range cues {
		i.Play(c)
		looks, next := 0, time.Nanosecond
		for ; next > 0 && looks < 100; looks++ {
			next = i.step(now)
			now = now.Add(next)
		}
		if next != 0 || looks > 15 {
			t.Errorf("%s: after %d looks the next one is due in %v", c, looks, next)
		}
		now = now.Add(time.Second)
	}
}

func TestOutputThatFailsIsSaidOnceAndTheOthersPlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b board
		var log bytes.Buffer
		bad := b.pin("buzzer")
		run(t, &b, func(c *Config) {
			c.Buzzer.Pin = bad
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c.Blue = Output{}
		}, func(i *Indicator) {
			bad.fail(errors.New("input/output error"))
			i.Technician(true)
			for range 3 {
				i.Play(ui.CueIn)
				time.Sleep(5 * time.Second)
			}
			bad.fail(nil)
			if got := b.of("green"); strings.Count(got, "High") != 3 {
				t.Errorf("green %s", got)
			}
		})
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("log:\n%s", log.String())
		}
	})
}

func TestWrongSettingsAreRefused(t *testing.T) {
	var b board
	cfg := b.config()
	cfg.RelayPulse = time.Minute
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "200ms to 10s") {
		t.Errorf("a minute's pulse: %v", err)
	}
	bad := b.pin("GPIO5")
	bad.err = errors.New("device or resource busy")
	cfg = b.config()
	cfg.Relay.Pin = bad
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "relay off (pin GPIO5") {
		t.Errorf("a pin that is taken: %v", err)
	}
}
