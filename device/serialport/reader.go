package serialport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"punchclock/device"
)

const (
	readTimeout  = 500 * time.Millisecond // of an idle read; also what stopping may take
	idleTimeout  = time.Minute            // of an idle read that can be interrupted
	byteGap      = 50 * time.Millisecond  // silence that ends a partial frame; a whole one takes about 15 ms
	settle       = 200 * time.Millisecond // what comes this soon after opening is discarded
	presentation = 800 * time.Millisecond // silence after which an equal frame is another tap
	faultPause   = 100 * time.Millisecond // at most one fault of a sort in this time
	minBackoff   = 200 * time.Millisecond // before opening again
	maxBackoff   = time.Second
	maxEarly     = 3 // ends of file in a row that came too soon to be silence
)

// bauds are the speeds badge readers use and every kernel knows.
var bauds = []int{1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400}

// Config says which reader it is and how it speaks.
type Config struct {
	Name    string // in events and logs
	Port    string // path of the device or of a link to it
	Baud    int    // 1200 to 230400; 0 is 9600
	Dialect string // one of [Dialects]

	// Open replaces opening Port: a test's line, or another library's port. Its
	// Read must return within about half a second, with io.EOF when nothing came.
	// If it also has SetReadTimeout(time.Duration) error, that is used to notice
	// silence inside a frame as soon as it is 50 ms long. If it has Interrupt() too,
	// which ends a Read and every later one, an idle Read is given a minute.
	Open func() (io.ReadCloser, error)

	Logger *slog.Logger // nil logs nothing
}

// Reader is a badge reader on a serial line.
type Reader struct {
	cfg  Config
	log  *slog.Logger
	dec  decoder
	down device.Presence

	value   []byte    // of the last card, for telling a repeat
	seen    time.Time // its last byte
	faulted time.Time // last fault that only the technician needs
	asked   time.Time // last fault that asked the person to try again
}

var _ device.Reader = (*Reader)(nil)

// New checks the configuration and touches nothing. The errors say what may be
// written instead.
func New(cfg Config) (*Reader, error) {
	if cfg.Baud == 0 {
		cfg.Baud = 9600
	}
	i := slices.IndexFunc(dialects, func(d *dialect) bool { return d.name == cfg.Dialect })
	switch {
	case cfg.Name == "":
		return nil, errors.New("serial reader: it has no name")
	case i < 0:
		return nil, fmt.Errorf("reader %s: dialect %q: use %s", cfg.Name, cfg.Dialect, strings.Join(Dialects(), ", "))
	case cfg.Port == "" && cfg.Open == nil:
		return nil, fmt.Errorf("reader %s: port is missing: write the device's path, best one below /dev/serial/by-id", cfg.Name)
	case !slices.Contains(bauds, cfg.Baud):
		return nil, fmt.Errorf("reader %s: baud %d: use one of %v", cfg.Name, cfg.Baud, bauds)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Open == nil {
		cfg.Open = func() (io.ReadCloser, error) { return openPort(cfg.Port, cfg.Baud) }
	}
	return &Reader{
		cfg: cfg,
		log: cfg.Logger.With("reader", cfg.Name),
		dec: decoder{dialect: dialects[i]},
	}, nil
}

// Run reads until ctx is done, and returns nil within 0.6 s of it. A port that is
// missing or goes away is told as Down and opened again; Run never gives up. It
// is called once at a time.
func (r *Reader) Run(ctx context.Context, out chan<- device.Event) error {
	r.down = device.Presence{}
	for backoff := minBackoff; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		up, err := r.session(ctx, out)
		if ctx.Err() != nil {
			break
		}
		if up {
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

// session opens the port and reads until it is gone. It reports whether the
// reader was up in between.
func (r *Reader) session(ctx context.Context, out chan<- device.Event) (up bool, err error) {
	src, err := r.cfg.Open()
	if err != nil {
		return false, err
	}
	// Close before opening again: a USB adapter that comes back while its old
	// handle is open gets another name.
	defer src.Close()

	l := line{src: src, timeout: readTimeout}
	l.timed, _ = src.(timeouter)
	idle := readTimeout
	if i, ok := src.(interrupter); ok && l.timed != nil {
		idle = idleTimeout
		defer context.AfterFunc(ctx, i.Interrupt)()
	}
	opened := time.Now()
	r.dec.reset(opened)
	r.value = r.value[:0]
	var buf [frameBuffer]byte
	for ctx.Err() == nil {
		want := idle
		switch {
		case !up:
			want = max(settle-time.Since(opened), time.Millisecond)
		case r.dec.pending():
			want = byteGap
		}
		n, err := l.read(buf[:], want)
		if err != nil {
			return up, err
		}
		at := time.Now()
		if !up {
			if at.Sub(opened) < settle {
				if n > 0 {
					r.dec.reset(at)
				}
				continue
			}
			up = true
			r.down.Up(ctx, out, r.cfg.Name, at)
		}
		// Only a read that came back empty proves silence: bytes may have waited
		// for us longer than they waited for each other. A port without a settable
		// timeout gives no better evidence than the time between two reads.
		if quiet := at.Sub(r.dec.last); quiet >= byteGap && (n == 0 || l.timed == nil) {
			if f, ok := r.dec.silence(); ok {
				r.tell(ctx, out, f)
			}
		}
		for _, b := range buf[:n] {
			if f, ok := r.dec.push(b, at); ok {
				r.tell(ctx, out, f)
			}
		}
	}
	return up, nil
}

// timeouter is what a port may have besides Read and Close.
type timeouter interface {
	SetReadTimeout(time.Duration) error
}

// interrupter is what a port may have besides those.
type interrupter interface {
	Interrupt()
}

// line tells silence from a device that is gone.
type line struct {
	src     io.Reader
	timed   timeouter // nil if its timeout cannot be set
	timeout time.Duration
	early   int // ends of file in a row that came too soon
}

// read returns 0, nil when nothing came for about want, and an error when the
// device is gone.
func (l *line) read(b []byte, want time.Duration) (int, error) {
	if l.timed != nil && want != l.timeout {
		if err := l.timed.SetReadTimeout(want); err != nil {
			return 0, fmt.Errorf("set the read timeout: %w", err)
		}
		l.timeout = want
	}
	for {
		start := time.Now()
		n, err := l.src.Read(b)
		switch {
		case n > 0: // an error that came with it will come again
			l.early = 0
			return n, nil
		case err != nil && !errors.Is(err, io.EOF):
			return 0, fmt.Errorf("the device is gone: %w", err)
		case time.Since(start) >= l.timeout*8/10:
			l.early = 0
			return 0, nil
		}
		if l.early++; l.early == maxEarly {
			return 0, errors.New("the device is gone: it answers with an end of file at once")
		}
	}
}

// tell sends what the decoder found, unless it is a repeat.
func (r *Reader) tell(ctx context.Context, out chan<- device.Event, f frame) {
	ev := device.Event{Reader: r.cfg.Name, First: f.first, Last: f.last}
	if f.medium == "" {
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
	repeat := string(r.value) == string(f.value) && f.first.Sub(r.seen) < presentation
	r.value, r.seen = append(r.value[:0], f.value...), f.last
	if repeat {
		return
	}
	ev.What, ev.Medium, ev.Value, ev.Raw, ev.Bits = device.Card, f.medium, string(f.value), slices.Clone(f.raw), f.bits
	device.Send(ctx, out, ev)
}

func (r *Reader) tellDown(ctx context.Context, out chan<- device.Event, err error) {
	if r.cfg.Port != "" {
		err = fmt.Errorf("%s: %w", r.cfg.Port, err)
	}
	r.down.Down(ctx, out, r.cfg.Name, r.log, err)
}
