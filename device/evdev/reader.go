package evdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"punchclock/device"
)

const (
	presentation = 800 * time.Millisecond // silence after which an equal line is another tap
	faultPause   = 100 * time.Millisecond // at most one fault of a sort in this time
	minBackoff   = 50 * time.Millisecond  // before opening again what has just appeared
	maxBackoff   = 800 * time.Millisecond
	tries        = 6 // openings after something appeared: two seconds of them
)

// Config says which device it is and what it types.
type Config struct {
	Name string // in events and logs

	// Port is the path of the device or of a link to it, USB its vendor and product
	// as four hex digits each, "08ff:0009". One of them is needed; with both, both
	// must fit. Serial and Phys narrow USB down: the serial number, and where the
	// device is plugged in, as /proc/bus/input/devices tells them ("Uniq", "Phys").
	Port, USB, Serial, Phys string

	Dialect string // one of [Dialects]
	// Digits is for decimal readers that leave leading zeros out: how many digits
	// their cards have, 8, 10 or 13; 0 takes lines as they come.
	Digits int

	// Open replaces finding and opening the device: a test's. What it opens delivers
	// records of the kernel, with times of CLOCK_MONOTONIC.
	Open func() (Device, error)

	Logger *slog.Logger // nil logs nothing
}

// Keypad is the dialect of a number pad for people.
const Keypad = "keypad"

// Dialects returns the names that [Config].Dialect accepts: the forms of a line, and
// [Keypad].
func Dialects() []string { return append(slices.Clone(device.LineForms[:]), Keypad) }

// Device is an input device that is open and taken, or another file without blocking
// that delivers whole records. Read waits for them until the deadline, and then returns
// os.ErrDeadlineExceeded.
type Device interface {
	io.ReadCloser
	syscall.Conn
	SetReadDeadline(time.Time) error
}

// Reader is a badge reader that acts as a keyboard.
type Reader struct {
	cfg  Config
	log  *slog.Logger
	dec  decoder
	pad  pad // of the dialect Keypad, instead of dec
	down device.Presence

	value   string    // of the last card, for telling a repeat
	seen    time.Time // its last key
	faulted time.Time // last fault that only the technician needs
	asked   time.Time // last fault that asked the person to try again
}

var (
	_ device.Reader = (*Reader)(nil)
	_ Device        = (*os.File)(nil)
)

var usbForm = regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{4}$`)

// CheckUSB returns an error if s is no vendor and product as Config wants them.
func CheckUSB(s string) error {
	if !usbForm.MatchString(s) {
		return errors.New("it is not vendor:product, four hexadecimal digits each in small letters")
	}
	return nil
}

// New checks the configuration and touches nothing. The errors say what may be
// written instead.
func New(cfg Config) (*Reader, error) {
	switch {
	case cfg.Name == "":
		return nil, errors.New("USB keyboard reader: it has no name")
	case !slices.Contains(Dialects(), cfg.Dialect):
		return nil, fmt.Errorf("reader %s: dialect %q: use %s", cfg.Name, cfg.Dialect, strings.Join(Dialects(), ", "))
	case cfg.Digits != 0 && (cfg.Dialect != "dec-line" || cfg.Digits != 8 && cfg.Digits != 10 && cfg.Digits != 13):
		return nil, fmt.Errorf("reader %s: digits %d: use 8, 10 or 13 with dec-line, else 0", cfg.Name, cfg.Digits)
	case cfg.Port == "" && cfg.USB == "" && cfg.Open == nil:
		return nil, fmt.Errorf("reader %s: which device is it? Write its port, best one below /dev/input/by-id, or its usb vendor:product", cfg.Name)
	case cfg.USB == "" && cfg.Serial+cfg.Phys != "":
		return nil, fmt.Errorf("reader %s: serial and phys narrow usb down: write usb, too", cfg.Name)
	}
	if cfg.USB != "" {
		if err := CheckUSB(cfg.USB); err != nil {
			return nil, fmt.Errorf("reader %s: usb %q: %w, for example 08ff:0009", cfg.Name, cfg.USB, err)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reader{cfg: cfg, log: cfg.Logger.With("reader", cfg.Name), dec: decoder{form: cfg.Dialect, width: cfg.Digits}}, nil
}

// Run reads until ctx is done, and returns nil at once then. A device that is
// missing or goes away is told as Down and opened again when it comes; Run never
// gives up. It is called once at a time.
func (r *Reader) Run(ctx context.Context, out chan<- device.Event) error {
	r.down = device.Presence{}
	open, watch := r.cfg.Open, newTimer
	if open == nil {
		open = func() (Device, error) { return find(r.cfg) }
		watch = func() watcher { return watchInputs(r.cfg.Port) }
	}
	var w watcher // while the device is away
	defer func() {
		if w != nil {
			w.Close()
		}
	}()
	backoff, left := minBackoff, tries
	for ctx.Err() == nil {
		if w == nil {
			w = watch() // before looking, so that nothing that comes meanwhile is missed
		}
		dev, err := open()
		if err == nil {
			w.Close()
			w = nil
			began := time.Now()
			err = r.session(ctx, dev, out)
			backoff, left = minBackoff, tries
			if time.Since(began) < lineGap { // gone at once, and perhaps there again at once
				device.Sleep(ctx, lineGap)
			}
		}
		if ctx.Err() != nil {
			break
		}
		r.down.Down(ctx, out, r.cfg.Name, r.log, err)
		if w == nil {
			continue // it may be there again already
		}
		if left--; left > 0 {
			device.Sleep(ctx, backoff)
			backoff = min(2*backoff, maxBackoff)
		} else {
			w.wait(ctx)
			backoff, left = minBackoff, tries
		}
	}
	return nil
}

// watcher waits until something has happened that makes opening worth another try.
type watcher interface {
	wait(ctx context.Context)
	Close() error
}

// timer is a watcher that knows nothing.
type timer struct{}

func newTimer() watcher                { return timer{} }
func (timer) wait(ctx context.Context) { device.Sleep(ctx, maxBackoff) }
func (timer) Close() error             { return nil }

// session reads an open device until it is gone, and closes it.
func (r *Reader) session(ctx context.Context, dev Device, out chan<- device.Event) error {
	defer dev.Close()
	stop := context.AfterFunc(ctx, func() { dev.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	opened, base := clocks()
	r.dec.reset(opened)
	r.pad = pad{}
	r.value = ""
	up := false
	size := recordSize(wordSize)
	buf := make([]byte, 64*size)
	for {
		var until time.Time
		if r.dec.pending() {
			until = r.dec.last.Add(lineGap)
		} else {
			until = r.pad.Until()
		}
		if err := dev.SetReadDeadline(until); err != nil {
			return fmt.Errorf("set the read's deadline: %w", err)
		}
		if ctx.Err() != nil { // what AfterFunc set may have been overwritten
			return nil
		}
		n, err := dev.Read(buf)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			// The deadline wins against records that are there: keys may have waited for us
			// longer than they waited for each other. Only a look proves silence.
			if n, err = readNow(dev, buf); err == nil && n == 0 {
				err = os.ErrDeadlineExceeded
			}
		}
		now := time.Now()
		for b := buf[:n]; len(b) >= size; b = b[size:] {
			ev := parse(b, wordSize)
			at := opened.Add(ev.at - base)
			if at.After(now) {
				at = now
			}
			switch {
			case ev.typ == evKey && r.cfg.Dialect == Keypad && up:
				if p, ok := r.pad.key(ev.code, ev.value, at); ok {
					p.Reader = r.cfg.Name
					device.Send(ctx, out, p)
				}
			case ev.typ == evKey && r.cfg.Dialect != Keypad:
				if f, ok := r.dec.key(ev.code, ev.value, at); ok {
					r.tell(ctx, out, f)
				}
			case ev.typ == evSyn && ev.code == synDropped:
				r.pad = pad{}
				if f, ok := r.dec.lost(at); ok {
					r.tell(ctx, out, f)
				}
			}
		}
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the device is gone: %w", err)
		case ctx.Err() != nil:
			return nil
		case !now.Before(until):
			if f, ok := r.dec.silence(); ok {
				r.tell(ctx, out, f)
			}
			if p, ok := r.pad.Idle(now); ok {
				p.Reader = r.cfg.Name
				device.Send(ctx, out, p)
			}
		}
		if !up && now.Sub(opened) >= lineGap {
			up = true
			r.down.Up(ctx, out, r.cfg.Name, now)
		}
	}
}

// tell sends what the decoder found, unless it is a repeat.
func (r *Reader) tell(ctx context.Context, out chan<- device.Event, f frame) {
	ev := device.Event{Reader: r.cfg.Name, First: f.first, Last: f.last}
	if f.Medium == "" {
		last := &r.faulted
		if f.try {
			last = &r.asked
		}
		if !last.IsZero() && f.last.Sub(*last) < faultPause {
			return
		}
		*last = f.last
		ev.What, ev.Fault, ev.Try = device.Fault, f.fault, f.try
		device.Send(ctx, out, ev)
		return
	}
	repeat := r.value == f.Value && f.first.Sub(r.seen) < presentation
	r.value, r.seen = f.Value, f.last
	if repeat {
		return
	}
	ev.What, ev.Medium, ev.Value, ev.Raw, ev.Bits = device.Card, f.Medium, f.Value, f.Raw, 8*len(f.Raw)
	device.Send(ctx, out, ev)
}
