// Package indicator says with lamps, a buzzer and a door relay what became of a
// tap. It knows pins only by the interface of periph.io's conn; the pins of a
// board are found by [Pin].
//
// # What is heard
//
// The buzzer is an active one: it sounds at its own pitch while its pin is on, so
// the patterns differ in rhythm alone. Times are milliseconds, sound first, then
// pause, and so on:
//
//	in          80 50 200            short, long: rises
//	out         200 50 80            long, short: falls
//	go-out      600 200 100          a very long one, then a short one
//	return      100 200 600          the other way round
//	…-unset     … 250 50 50 50       the same, and two ticks: stored, but nobody has set
//	                                 the clock, and the time may have to be corrected
//	duplicate   200 200 200          two equal ones, slow
//	unknown     100 100 100 100 100  three short ones
//	misread     50 50 …              five, as a flutter
//	enrolled    100 100 100 200 500  two short ones, and a long one
//	enrol       80                   a tick: go on
//	not-stored  1500                 one that nobody can mistake
//
// # What is seen
//
//	stored      green, two seconds; amber with it where the time is uncertain
//	duplicate   amber, twice 200 ms
//	unknown     amber, two seconds
//	misread     red, twice 250 ms
//	enrolled    green, twice 600 ms
//	enrol       amber, 400 ms
//	not-stored  red, three seconds
//
// Amber is steadily lit while the clock is offline, and blue while a technician reads
// cards in. Lamps never say anything that the screen does not say in words, and no
// lamp, nor all of them together, comes on more than three times in any second,
// however fast people tap: quicker flashes can bring on a seizure (WCAG 2.3.1).
//
// # The relay
//
// A relay, say of a door strike, is switched on when a punch is stored, for the
// pulse that is configured, 0.2 to 10 s. It is off again by its own deadline,
// whatever is played meanwhile; punches stored during a pulse do not lengthen it. A
// correction of the kind is heard and seen as any punch, and leaves the relay alone.
//
// # Safe levels
//
// Everything is off after [New] and when [Indicator.Run] ends, and off is the
// high level for an output that is active low, as many relay boards are. [Pin] takes
// a line with that level from the first moment on. A program that is killed gives
// its lines back, and what the kernel makes of a line nobody has differs from board
// to board: some leave the level as it is. So whoever starts the program switches
// everything off when it has ended, however that was, by calling New again; and what
// must never be on by itself needs a resistor that holds it off. No level is ever read
// back: the library turns an output that is read into an input.
package indicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"

	"punchclock/ui"
)

// Output is one pin, and which of its levels means on.
type Output struct {
	Pin       gpio.PinOut // nil: not fitted
	ActiveLow bool
}

// Config says what is fitted.
type Config struct {
	Green, Red, Amber, Blue Output
	Buzzer                  Output // active: sounds while it is on
	Relay                   Output
	RelayPulse              time.Duration // 200 ms to 10 s; 0 is one second

	Logger *slog.Logger // nil logs nothing
}

const (
	leastPulse = 200 * time.Millisecond
	mostPulse  = 10 * time.Second
)

// The outputs, and sets of them.
const (
	green = iota
	red
	amber
	blue
	buzzer
	relay
	outputs
)

var names = [outputs]string{"green lamp", "red lamp", "amber lamp", "blue lamp", "buzzer", "relay"}

// pattern is how one cue sounds and looks.
type pattern struct {
	beats  []time.Duration // sound, pause, sound …
	lamp   int
	lit    []time.Duration // how long the lamp is lit, dark, lit …
	unset  bool            // amber is lit as well
	stored bool            // the relay is switched on
}

func beats(ms ...int) []time.Duration {
	d := make([]time.Duration, len(ms))
	for i, n := range ms {
		d[i] = time.Duration(n) * time.Millisecond
	}
	return d
}

const (
	rest = 300 * time.Millisecond // between two patterns, or they would sound as one
)

// patterns is never written to.
var patterns = withVariants(map[ui.Cue]pattern{
	ui.CueIn:        {beats: beats(80, 50, 200), lamp: green, lit: beats(2000), stored: true},
	ui.CueOut:       {beats: beats(200, 50, 80), lamp: green, lit: beats(2000), stored: true},
	ui.CueGoOut:     {beats: beats(600, 200, 100), lamp: green, lit: beats(2000), stored: true},
	ui.CueReturn:    {beats: beats(100, 200, 600), lamp: green, lit: beats(2000), stored: true},
	ui.CueDuplicate: {beats: beats(200, 200, 200), lamp: amber, lit: beats(200, 200, 200)},
	ui.CueUnknown:   {beats: beats(100, 100, 100, 100, 100), lamp: amber, lit: beats(2000)},
	ui.CueMisread:   {beats: beats(50, 50, 50, 50, 50, 50, 50, 50, 50), lamp: red, lit: beats(250, 250, 250)},
	ui.CueEnrolled:  {beats: beats(100, 100, 100, 200, 500), lamp: green, lit: beats(600, 300, 600)},
	ui.CueEnrolNext: {beats: beats(80), lamp: amber, lit: beats(400)},
	ui.CueNotStored: {beats: beats(1500), lamp: red, lit: beats(3000)},
})

// withVariants adds the patterns of what is stored with an uncertain time, and of what
// is a correction.
func withVariants(of map[ui.Cue]pattern) map[ui.Cue]pattern {
	for _, c := range []ui.Cue{ui.CueIn, ui.CueOut, ui.CueGoOut, ui.CueReturn} {
		unset := of[c]
		unset.beats = slices.Concat(unset.beats, beats(250, 50, 50, 50))
		unset.unset = true
		of[c.Unset()] = unset
		for _, c := range []ui.Cue{c, c.Unset()} {
			p := of[c]
			p.stored = false
			of[c.Corrected()] = p
		}
	}
	return of
}

// Indicator plays cues on the outputs. Play, Offline and Technician may be called
// by any goroutine and never wait.
type Indicator struct {
	out   [outputs]Output
	pulse time.Duration
	log   *slog.Logger
	wake  chan struct{} // of size one

	mu         sync.Mutex
	next       ui.Cue // waiting; "" for none
	offline    bool
	technician bool

	// Of Run alone.
	level   [outputs]bool
	failed  [outputs]string // error that was logged last
	play    pattern
	began   time.Time // of play
	playing bool      // play still sounds or lights a lamp
	open    time.Time // when the relay was switched on; zero if it is off
}

var _ ui.Sounder = (*Indicator)(nil)

// New switches everything off. It returns an error when a person must act: a
// pulse out of range, or a pin that cannot be an output.
func New(cfg Config) (*Indicator, error) {
	if cfg.RelayPulse == 0 {
		cfg.RelayPulse = time.Second
	}
	if cfg.RelayPulse < leastPulse || cfg.RelayPulse > mostPulse {
		return nil, fmt.Errorf("indicator: a relay pulse of %v: use %v to %v", cfg.RelayPulse, leastPulse, mostPulse)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	i := &Indicator{
		out:   [outputs]Output{cfg.Green, cfg.Red, cfg.Amber, cfg.Blue, cfg.Buzzer, cfg.Relay},
		pulse: cfg.RelayPulse,
		log:   cfg.Logger,
		wake:  make(chan struct{}, 1),
	}
	if err := i.off(); err != nil {
		return nil, err
	}
	return i, nil
}

// off switches everything off, and tries all of them whatever fails.
func (i *Indicator) off() error {
	var errs []error
	for n, o := range i.out {
		i.level[n] = false
		if o.Pin == nil {
			continue
		}
		if err := o.set(false); err != nil {
			errs = append(errs, fmt.Errorf("indicator: switch the %s off (pin %s): %w", names[n], o.Pin, err))
		}
	}
	return errors.Join(errs...)
}

func (o Output) set(on bool) error { return o.Pin.Out(gpio.Level(on != o.ActiveLow)) }

// Play plays a cue after the one that is being played; of those that wait, only
// the newest stays. A cue it does not know is silent.
func (i *Indicator) Play(c ui.Cue) {
	i.mu.Lock()
	i.next = c
	i.mu.Unlock()
	i.nudge()
}

// Offline lights the amber lamp while punches cannot be delivered.
func (i *Indicator) Offline(on bool) {
	i.mu.Lock()
	i.offline = on
	i.mu.Unlock()
	i.nudge()
}

// Technician lights the blue lamp while a technician reads cards in.
func (i *Indicator) Technician(on bool) {
	i.mu.Lock()
	i.technician = on
	i.mu.Unlock()
	i.nudge()
}

func (i *Indicator) nudge() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// Run plays until ctx is done, then switches everything off and returns nil, or
// what could not be switched off. A pin that fails is logged, once for each
// different error, and played on. Nothing wakes it while nothing is played.
func (i *Indicator) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		next := i.step(time.Now())
		if next > 0 {
			timer.Reset(next)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
		case <-i.wake:
		case <-timer.C:
		}
	}
	return i.off()
}

// step sets the levels of this moment and returns how long they last; 0 for ever.
func (i *Indicator) step(now time.Time) time.Duration {
	i.mu.Lock()
	offline, technician, waiting := i.offline, i.technician, i.next != ""
	busy := total(i.play.beats) + rest - now.Sub(i.began)
	if waiting && busy <= 0 {
		i.play, i.began, i.playing = patterns[i.next], now, true
		i.next, waiting = "", false
		if i.play.stored && (i.open.IsZero() || now.Sub(i.open) >= i.pulse) {
			i.open = now
		}
	}
	i.mu.Unlock()

	var on [outputs]bool
	var wait time.Duration
	until := func(d time.Duration) {
		if wait == 0 || d < wait {
			wait = d
		}
	}
	if waiting {
		until(busy)
	}
	if i.playing {
		var sounds, shows time.Duration
		on[buzzer], sounds = at(i.play.beats, now.Sub(i.began))
		on[i.play.lamp], shows = at(i.play.lit, now.Sub(i.began))
		on[amber] = on[amber] || i.play.unset && on[i.play.lamp]
		for _, left := range []time.Duration{sounds, shows} {
			if left > 0 {
				until(left)
			}
		}
		i.playing = sounds > 0 || shows > 0
	}
	if !i.open.IsZero() {
		if left := i.pulse - now.Sub(i.open); left > 0 {
			on[relay] = true
			until(left)
		} else {
			i.open = time.Time{}
		}
	}
	// While amber says something with its rhythm, being offline can wait.
	if offline && (!i.playing || i.play.lamp != amber) {
		on[amber] = true
	}
	on[blue] = technician
	for n := range on {
		if on[n] != i.level[n] {
			i.level[n] = on[n]
			i.set(n, on[n])
		}
	}
	return wait
}

func (i *Indicator) set(n int, on bool) {
	o := i.out[n]
	if o.Pin == nil {
		return
	}
	msg := ""
	if err := o.set(on); err != nil {
		msg = err.Error()
		if msg != i.failed[n] {
			i.log.Warn("indicator: an output does not switch", "output", names[n], "pin", o.Pin.String(), "err", err)
		}
	}
	i.failed[n] = msg
}

// total is how long a rhythm takes.
func total(rhythm []time.Duration) (d time.Duration) {
	for _, b := range rhythm {
		d += b
	}
	return d
}

// at reports whether a rhythm is on at a time since its beginning, and for how long
// this stays; 0 when it is over.
func at(rhythm []time.Duration, since time.Duration) (on bool, left time.Duration) {
	for n, b := range rhythm {
		if since < b {
			return n%2 == 0, b - since
		}
		since -= b
	}
	return false, 0
}
