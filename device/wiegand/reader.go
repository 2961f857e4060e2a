package wiegand

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"punchclock/device"
)

const (
	defaultGap = 30 * time.Millisecond
	minGap     = 22 * time.Millisecond // above the 20 ms that pulses may be apart
	maxGap     = 60 * time.Millisecond

	glitch       = 10 * time.Microsecond  // a second edge of one wire this soon is its ringing
	crosstalk    = 50 * time.Microsecond  // no two pulses are this close; by the standard they are 200 µs apart at least
	quiet        = 100 * time.Millisecond // before the first frame that is believed
	restless     = 2 * time.Second        // wires that are not quiet for this long are out of order
	recheck      = time.Second            // of a wire that is low
	presentation = 800 * time.Millisecond // silence after which an equal frame is another tap
	minBackoff   = 200 * time.Millisecond // before opening again
	maxBackoff   = time.Second

	cardLike = 8 // bits from which on a broken frame was a card and not noise
)

// Edge is one falling edge, the beginning of a pulse.
type Edge struct {
	Line uint8     // 0 is D0, 1 is D1
	Seq  uint32    // numbers the edges of both lines, from 1 since they were opened, as the kernel saw them; it wraps
	At   time.Time // by the kernel, with Go's monotonic reading; the wall's is that of opening and may be off
}

// Edges is where edges come from.
type Edges interface {
	// Read waits for an edge and returns as many as are there, in their order. It
	// returns 0 and no error only when there was none at some moment after the
	// deadline; the zero deadline never comes. Any error means that the chip is
	// gone, or that Interrupt was called.
	Read(to []Edge, deadline time.Time) (int, error)
	// Low reports which of D0 and D1 is low now.
	Low() ([2]bool, error)
	// Interrupt ends a Read that waits, and every later one. It may be called while
	// another goroutine is in Read, and after Close.
	Interrupt()
	Close() error
}

// Config says where the wires are and what comes over them.
type Config struct {
	Name string // in events and logs
	// Chip is a GPIO chip's label, or the path of its device; "" is the one that a
	// Raspberry Pi's header is wired to.
	Chip    string
	D0, D1  string        // see [device.ParsePin]
	Formats []string      // some of [Formats]; nil is [DefaultFormats]
	Keypad  string        // one of [Keypads], or "" for a reader without keys
	Enter   string        // the key that ends what is typed, "#" or "*"; the other one clears. "" is "#"
	Gap     time.Duration // silence that ends a frame, 22 to 60 ms; 0 is 30

	Open   func() (Edges, error) // replaces opening the chip: a test's wires
	Logger *slog.Logger          // nil logs nothing
}

// Reader is a Wiegand reader on two GPIO lines.
type Reader struct {
	cfg     Config
	log     *slog.Logger
	formats []*format
	keypad  *keypad // nil without keys
	typist  device.Typist
	up      bool // the event was sent
	down    device.Presence
	said    string // about the last frame that was thrown away

	src Edges
	seq uint32 // of the last edge
	f   frame

	// While settling, edges are thrown away.
	settling bool
	began    time.Time // when it began
	quiet    time.Time // since when the wires are quiet
	missed   int       // edges thrown away
	stuck    bool      // a wire is low: look again at began

	raw  bits // of the last card, for telling a repeat
	seen time.Time
}

// frame is what has come since the last silence.
type frame struct {
	bits
	line        uint8  // of the last edge
	lost        uint32 // pulses that belonged to it and are gone, or may have
	noise       bool
	since       [mostBits]time.Duration // before each bit
	first, last time.Time
}

var _ device.Reader = (*Reader)(nil)

// New checks the configuration and touches nothing. The errors say what may be
// written instead.
func New(cfg Config) (*Reader, error) {
	if cfg.Name == "" {
		return nil, errors.New("wiegand reader: it has no name")
	}
	wrong := func(err error) (*Reader, error) { return nil, fmt.Errorf("reader %s: %w", cfg.Name, err) }
	if cfg.Formats == nil {
		cfg.Formats = DefaultFormats()
	}
	if cfg.Gap == 0 {
		cfg.Gap = defaultGap
	}
	if cfg.Enter == "" {
		cfg.Enter = "#"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Reader{cfg: cfg, log: cfg.Logger.With("reader", cfg.Name)}
	var err error
	if r.formats, err = pickFormats(cfg.Formats); err != nil {
		return wrong(err)
	}
	if i := slices.Index(Keypads(), cfg.Keypad); i >= 0 {
		r.keypad = keypads[i]
	}
	switch {
	case r.keypad == nil && cfg.Keypad != "":
		return wrong(fmt.Errorf("keypad %q: use %s, or nothing", cfg.Keypad, strings.Join(Keypads(), ", ")))
	case cfg.Enter != "#" && cfg.Enter != "*":
		return wrong(fmt.Errorf(`enter %q: use "#" or "*"`, cfg.Enter))
	case cfg.Gap < minGap || cfg.Gap > maxGap:
		return wrong(fmt.Errorf("a frame cannot end after %v: use %v to %v", cfg.Gap, minGap, maxGap))
	}
	if cfg.Open == nil {
		d0, err := device.ParsePin(cfg.Chip, cfg.D0)
		if err != nil {
			return wrong(fmt.Errorf("d0: %w", err))
		}
		d1, err := device.ParsePin(cfg.Chip, cfg.D1)
		if err != nil {
			return wrong(fmt.Errorf("d1: %w", err))
		}
		if d0 == d1 {
			return wrong(errors.New("d0 and d1 are one line: give each wire its own"))
		}
		r.cfg.Open = func() (Edges, error) { return openGPIO(cfg.Chip, d0, d1) }
	}
	return r, nil
}

// Run reads until ctx is done, and returns nil at once then. A chip that is
// missing or goes away, a line that another program has, a wire that is stuck: all
// of it is told as Down and tried again; Run never gives up. It is called once at
// a time.
func (r *Reader) Run(ctx context.Context, out chan<- device.Event) error {
	r.up, r.down = false, device.Presence{}
	for backoff := minBackoff; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		err := r.session(ctx, out)
		if ctx.Err() != nil {
			break
		}
		if r.up {
			backoff = minBackoff
		}
		r.tellDown(ctx, out, err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
	return nil
}

// session opens the lines and reads until the chip is gone.
func (r *Reader) session(ctx context.Context, out chan<- device.Event) error {
	src, err := r.cfg.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	stop := context.AfterFunc(ctx, src.Interrupt)
	defer stop()

	tell := func(ev device.Event) {
		ev.Reader, ev.First, ev.Last = r.cfg.Name, fresh(ev.First), fresh(ev.Last)
		device.Send(ctx, out, ev)
	}
	r.src, r.seq, r.f, r.raw = src, 0, frame{}, bits{}
	r.typist.Clear()
	r.settle(time.Now())
	var edges [64]Edge
	for ctx.Err() == nil {
		due := r.due()
		n, err := src.Read(edges[:], due)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("the GPIO chip is gone: %w", err)
		case n == 0:
			if err := r.silence(due, tell); err != nil {
				r.tellDown(ctx, out, err)
			}
		}
		for _, e := range edges[:n] {
			if err := r.edge(e, tell); err != nil {
				r.tellDown(ctx, out, err)
			}
		}
	}
	return nil
}

// due is until when silence would mean nothing; zero if it never will.
func (r *Reader) due() (t time.Time) {
	earlier := func(d time.Time) {
		if t.IsZero() || d.Before(t) {
			t = d
		}
	}
	switch {
	case r.settling && r.stuck:
		earlier(r.began.Add(recheck))
	case r.settling:
		earlier(r.quiet.Add(quiet))
	case r.f.n > 0:
		earlier(r.f.last.Add(r.cfg.Gap))
	}
	if d := r.typist.Until(); !d.IsZero() {
		earlier(d)
	}
	return t
}

// settle throws away what comes until the wires have been quiet.
func (r *Reader) settle(at time.Time) {
	r.settling, r.stuck, r.began, r.quiet, r.missed = true, false, at, at, 0
}

// silence says that nothing came until at. An error is a reader that is down
// without its chip being gone.
func (r *Reader) silence(at time.Time, tell func(device.Event)) error {
	if ev, ok := r.typist.Idle(at); ok {
		tell(ev)
	}
	switch {
	case r.settling && (r.stuck || at.Sub(r.quiet) >= quiet):
		if err := r.lookForStuckWire(); err != nil {
			r.settle(at)
			r.stuck = true
			return err
		}
		r.calm(at, tell)
	case !r.settling && r.f.n > 0 && at.Sub(r.f.last) >= r.cfg.Gap:
		if r.endFrame(tell) {
			break
		}
		if err := r.lookForStuckWire(); err != nil {
			r.settle(at)
			r.stuck = true
			return err
		}
	}
	return nil
}

// calm ends settling. What was thrown away meanwhile may have been somebody's tap.
func (r *Reader) calm(at time.Time, tell func(device.Event)) {
	r.settling, r.stuck = false, false
	if r.up {
		return
	}
	r.up, r.down = true, device.Presence{}
	tell(device.Event{What: device.Up, First: at, Last: at})
	if r.missed >= cardLike && r.missed <= mostBits {
		tell(device.Event{What: device.Fault, Fault: device.FaultLost, Try: true, First: at, Last: at})
	}
}

// lookForStuckWire reads the levels of wires that are silent. A wire counts as low
// only if it is so three times in a row: a pulse may just have begun.
func (r *Reader) lookForStuckWire() error {
	low := [2]bool{true, true}
	for i := range 3 {
		if i > 0 {
			time.Sleep(3 * time.Millisecond) // longer than any pulse
		}
		now, err := r.src.Low()
		if err != nil {
			return fmt.Errorf("read the level of the wires: %w", err)
		}
		low[0], low[1] = low[0] && now[0], low[1] && now[1]
		if !low[0] && !low[1] {
			return nil
		}
	}
	which := "D0 and D1 stay"
	switch {
	case !low[1]:
		which = "D0 stays"
	case !low[0]:
		which = "D1 stays"
	}
	return fmt.Errorf("%s low: check the reader's supply, the ground between reader and board, and the level shifter", which)
}

// edge takes the next edge.
func (r *Reader) edge(e Edge, tell func(device.Event)) error {
	lost := e.Seq - r.seq - 1
	r.seq = e.Seq
	if lost > 0 && !r.settling {
		r.log.Warn("pulses were lost before they could be read; what they belong to is thrown away", "pulses", lost)
	}
	if r.settling {
		if r.stuck || lost > 0 || e.At.Sub(r.quiet) < quiet {
			r.quiet = e.At
			r.missed++
			r.stuck = false
			if e.At.Sub(r.began) < restless {
				return nil
			}
			return errors.New("the wires are never quiet: check the ground between reader and board, the shield, and that no wire is open")
		}
		r.calm(e.At, tell) // it was quiet, but we came late
	}
	f := &r.f
	since := e.At.Sub(f.last)
	if f.n > 0 {
		f.lost += lost // its end may be among them
	}
	if f.n > 0 && since >= r.cfg.Gap {
		r.endFrame(tell)
	}
	switch {
	case f.n == 0:
		f.first, f.lost = e.At, lost
	case since >= 0 && since < glitch && e.Line == f.line:
		f.last = e.At
		return nil
	case since < crosstalk:
		f.noise = true
	}
	if f.n < mostBits {
		f.since[f.n] = since
	}
	f.last, f.line = e.At, e.Line
	if f.push(e.Line == 1) {
		return nil
	}
	f.noise = true
	r.endFrame(tell)
	r.settle(e.At)
	return nil
}

// endFrame judges what has come. It reports whether it was good.
func (r *Reader) endFrame(tell func(device.Event)) bool {
	f := r.f
	r.f = frame{}
	ev := device.Event{First: f.first, Last: f.last}
	var c card
	var fault, why string
	switch {
	case f.lost > 0:
		fault, why = device.FaultLost, "part of a frame was lost"
	case f.noise && f.n == mostBits:
		fault, why = device.FaultNoise, "pulses without end: noise on the wires"
	case f.noise:
		fault, why = device.FaultNoise, "two pulses came at once: crosstalk between the wires, or noise"
	case r.keypad != nil && f.n == r.keypad.bits:
		if key := r.keypad.key(&f.bits); key != 0 {
			r.said = ""
			if ev, ok := r.typist.Press(r.meaning(key), f.last); ok {
				tell(ev)
			}
			return true
		}
		fault, why = device.FaultChecksum, fmt.Sprintf("a key of %d bits has a wrong check: is the keypad set to %s?", f.n, r.keypad.name)
	default:
		c, fault, why = decode(&f.bits, r.formats)
		if fault == "" && mayBeLonger(f.n, holes(f.since[1:f.n]), r.formats) {
			fault, why = device.FaultLost, fmt.Sprintf("a frame of %d bits has holes and may be part of a longer one; if this reader always pauses so, configure only the formats that it sends", f.n)
		}
	}
	if fault != "" {
		// A key may have been among it: whoever types begins anew, and is told.
		typing := !r.typist.Until().IsZero()
		r.typist.Clear()
		if why != r.said {
			r.said = why
			r.log.Warn("a frame was thrown away; others for the same reason are only counted", "fault", fault, "why", why)
		}
		ev.What, ev.Fault, ev.Try = device.Fault, fault, typing || f.n < mostBits && uint64(f.n)+uint64(f.lost) >= cardLike
		tell(ev)
		return false
	}
	r.said = ""
	r.typist.Clear()
	repeat := f.bits == r.raw && f.first.Sub(r.seen) < presentation
	r.raw, r.seen = f.bits, f.last
	if !repeat {
		ev.What, ev.Medium, ev.Value = device.Card, c.medium, c.value
		ev.Raw, ev.Bits = slices.Clone(f.b[:(f.n+7)/8]), f.n
		tell(ev)
	}
	return true
}

// meaning turns a key into what device.Typist expects of it.
func (r *Reader) meaning(key byte) byte {
	if r.cfg.Enter == "*" {
		switch key {
		case '*':
			return '#'
		case '#':
			return '*'
		}
	}
	return key
}

func (r *Reader) tellDown(ctx context.Context, out chan<- device.Event, err error) {
	r.up = false
	r.down.Down(ctx, out, r.cfg.Name, r.log, err)
}

// fresh gives a time the wall's reading of now, moved by how long it is ago.
func fresh(t time.Time) time.Time {
	now := time.Now()
	return now.Add(t.Sub(now))
}
