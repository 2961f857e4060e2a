package keypad

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"punchclock/device"
)

const (
	mostRows    = 4
	defaultKeys = "123A456B789C*0#D"
	smallKeys   = "123456789*0#" // of a pad with three columns
)

// Config says where the wires are.
type Config struct {
	Name string // in events and logs
	// Chip is a GPIO chip's label, or the path of its device; "" is the one that a
	// Raspberry Pi's header is wired to.
	Chip string
	// Rows and Columns are lines, see [device.ParsePin]: four rows, and four or three
	// columns.
	Rows, Columns []string
	// Keys is what is printed on the keys, row by row: 0 to 9, * and #, and A to D
	// where there are four columns. "" is the usual one. Exchange * and # for a pad
	// on which * enters.
	Keys string

	Open   func() (Pad, error) // replaces opening the lines: a test's
	Logger *slog.Logger        // nil logs nothing
}

// Pad is the wires of a keypad.
type Pad interface {
	// Rest makes all columns low, so that any key is seen by Wait, and reports
	// whether one is down already.
	Rest() (down bool, err error)
	// Wait waits for a row to change; the zero deadline never comes. It returns
	// os.ErrDeadlineExceeded after the deadline; any other error means that the
	// chip is gone, or that Interrupt was called. It may return without a reason.
	Wait(deadline time.Time) error
	// Scan looks at each key. Afterwards the columns are not at rest.
	Scan() (matrix, error)
	// Interrupt ends a Wait, and every later one. It may be called while another
	// goroutine is in Wait, and after Close.
	Interrupt()
	Close() error
}

// Reader is a matrix keypad.
type Reader struct {
	cfg    Config
	log    *slog.Logger
	keys   [16]byte // by bit of a matrix; 0 is no key
	scan   scanner
	typist device.Typist
	stuck  bool // a key was held for too long, and has not been seen free since
}

var _ device.Reader = (*Reader)(nil)

// CheckKeys returns an error if keys do not fit a pad with that many columns.
func CheckKeys(keys string, columns int) error {
	want := defaultKeys
	if columns == 3 {
		want = smallKeys
	}
	if len(keys) != len(want) {
		return fmt.Errorf("%d keys are named and the pad has %d: write them row by row, as %q", len(keys), len(want), want)
	}
	for _, k := range want {
		if strings.Count(keys, string(k)) != 1 {
			return fmt.Errorf("each of %s must be there once: write them row by row, as %q", want, want)
		}
	}
	return nil
}

// New checks the configuration and touches nothing. The errors say what may be
// written instead.
func New(cfg Config) (*Reader, error) {
	if cfg.Name == "" {
		return nil, errors.New("keypad: it has no name")
	}
	wrong := func(format string, args ...any) (*Reader, error) {
		return nil, fmt.Errorf("reader "+cfg.Name+": "+format, args...)
	}
	columns := len(cfg.Columns)
	if cfg.Open != nil && columns == 0 {
		columns = 4
	}
	if columns != 3 && columns != 4 {
		return wrong("%d columns: a keypad has 4, or 3 without the letters", columns)
	}
	if cfg.Keys == "" {
		if cfg.Keys = defaultKeys; columns == 3 {
			cfg.Keys = smallKeys
		}
	}
	if err := CheckKeys(cfg.Keys, columns); err != nil {
		return wrong("keys %q: %w", cfg.Keys, err)
	}
	r := &Reader{cfg: cfg, log: cfg.Logger}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for i, k := range []byte(cfg.Keys) {
		r.keys[4*(i/columns)+i%columns] = k
	}
	if cfg.Open == nil {
		if len(cfg.Rows) != mostRows {
			return wrong("%d rows: a keypad has %d", len(cfg.Rows), mostRows)
		}
		var lines []int
		for _, name := range append(append([]string{}, cfg.Rows...), cfg.Columns...) {
			line, err := device.ParsePin(cfg.Chip, name)
			if err != nil {
				return wrong("%w", err)
			}
			for _, other := range lines {
				if other == line {
					return wrong("%s is there twice: give each wire a line of its own", name)
				}
			}
			lines = append(lines, line)
		}
		r.cfg.Open = func() (Pad, error) { return openPad(cfg.Chip, lines[:mostRows], lines[mostRows:]) }
	}
	return r, nil
}

// Run reads until ctx is done, and returns nil at once then. A chip that is missing,
// lines that another program has and a key that is stuck are told as Down and tried
// again; Run never gives up. It is called once at a time.
func (r *Reader) Run(ctx context.Context, out chan<- device.Event) error {
	device.Keep(ctx, r.cfg.Name, r.log, out, func(ctx context.Context, up func()) error {
		return r.session(ctx, up, out)
	})
	return nil
}

// session opens the lines and reads keys until the chip is gone.
func (r *Reader) session(ctx context.Context, up func(), out chan<- device.Event) error {
	pad, err := r.cfg.Open()
	if err != nil {
		return err
	}
	defer pad.Close()
	stop := context.AfterFunc(ctx, pad.Interrupt)
	defer stop()
	r.scan = scanner{spent: true} // a key that is down already was not pressed for us
	r.typist.Clear()
	tell := func(ev device.Event, ok bool) {
		if ok {
			ev.Reader = r.cfg.Name
			device.Send(ctx, out, ev)
		}
	}
	for told := false; ctx.Err() == nil; {
		m, err := pad.Scan()
		if err != nil {
			return fmt.Errorf("look at the keys: %w", err)
		}
		now := time.Now()
		s := r.scan.scan(m, now)
		switch {
		case r.scan.same < enough: // nothing is so yet
		case r.scan.stuck, r.stuck && r.scan.now != 0:
			r.stuck = true
			return fmt.Errorf("the key %s was held for more than %v: free it, or look for a short circuit", r.names(r.scan.now), stuckTime)
		default:
			r.stuck = false
		}
		if !told && r.scan.same == enough {
			told = true
			up()
		}
		switch {
		case s.refused:
			tell(device.Event{What: device.Fault, Fault: device.FaultNoise, First: s.at, Last: now}, true)
		case s.pressed >= 0 && r.keys[s.pressed] != 0:
			tell(r.typist.Press(r.keys[s.pressed], now))
		}
		tell(r.typist.Idle(now))
		if !r.scan.idle() {
			device.Sleep(ctx, scanEvery)
			continue
		}
		if err := r.rest(ctx, pad, tell); err != nil {
			return err
		}
	}
	return nil
}

// rest waits for a key, without looking at any.
func (r *Reader) rest(ctx context.Context, pad Pad, tell func(device.Event, bool)) error {
	if down, err := pad.Rest(); err != nil || down {
		if err != nil {
			err = fmt.Errorf("wait for a key: %w", err)
		}
		return err
	}
	for {
		err := pad.Wait(r.typist.Until())
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the GPIO chip is gone: %w", err)
		}
		tell(r.typist.Idle(time.Now()))
	}
}

// names lists keys for a person to look at.
func (r *Reader) names(m matrix) string {
	var names []string
	for i, k := range r.keys {
		if m&(1<<i) != 0 {
			names = append(names, string(k))
		}
	}
	return strings.Join(names, " and ")
}
