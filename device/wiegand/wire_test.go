package wiegand

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"punchclock/device"
)

// wire is a scripted pair of wires with the chip at its end. It behaves as the
// kernel does: edges keep their time however late they are read, at most 1024 wait,
// and of more the oldest are dropped, which shows in the numbering only. It works
// by the clock of its bubble, or by the real one.
type wire struct {
	mu    sync.Mutex
	edges []Edge    // to come, by time
	end   time.Time // of what is to come
	seq   uint32
	low   [2]bool
	out   bool          // the chip is out of its socket
	news  chan struct{} // closed, and made anew, with every change
	opens int
	reads int
}

func newWire() *wire { return &wire{news: make(chan struct{})} }

func (w *wire) change(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
	close(w.news)
	w.news = make(chan struct{})
}

// edge adds one edge at a time after the end of what was sent before, or from now.
func (w *wire) edge(line uint8, after time.Duration) {
	w.change(func() { w.add(line, after) })
}

func (w *wire) add(line uint8, after time.Duration) {
	if now := time.Now(); w.end.Before(now) {
		w.end = now
	}
	w.end = w.end.Add(after)
	w.seq++
	w.edges = append(w.edges, Edge{line, w.seq, w.end})
}

// lose lets the kernel count edges that nobody will read.
func (w *wire) lose(n int) { w.change(func() { w.seq += uint32(n) }) }

// frame sends bits a millisecond apart, 60 ms after what was sent before.
func (w *wire) frame(s string) { w.send(s, 60*time.Millisecond, time.Millisecond) }

// send sends bits after a pause, with a spacing. A dash is a pulse that the kernel
// saw and could not deliver, a dot one that nobody saw.
func (w *wire) send(s string, pause, spacing time.Duration) {
	w.change(func() {
		for i, c := range s {
			d := spacing
			if i == 0 {
				d = pause
			}
			if c == '.' {
				w.end = w.end.Add(d)
				continue
			}
			w.add(uint8(c-'0')&1, d)
			if c == '-' {
				w.edges = w.edges[:len(w.edges)-1]
			}
		}
	})
}

// pull holds a line down, or lets it go.
func (w *wire) pull(line int, low bool) {
	w.change(func() {
		if low && !w.low[line] {
			w.add(uint8(line), time.Millisecond)
		}
		w.low[line] = low
	})
}

func (w *wire) unplug() { w.change(func() { w.out, w.edges = true, nil }) }
func (w *wire) replug() { w.change(func() { w.out, w.seq = false, 0 }) }

// open is for Config.Open.
func (w *wire) open() (Edges, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opens++
	if w.out {
		return nil, &fs.PathError{Op: "open", Path: "/dev/gpiochip9", Err: fs.ErrNotExist}
	}
	w.edges, w.seq = nil, 0
	return &chip{w: w, stop: make(chan struct{})}, nil
}

// chip is what one opening gives.
type chip struct {
	w    *wire
	stop chan struct{}
	once sync.Once
}

func (c *chip) Interrupt()   { c.once.Do(func() { close(c.stop) }) }
func (c *chip) Close() error { return nil }

func (c *chip) Low() ([2]bool, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.w.low, nil
}

func (c *chip) Read(to []Edge, deadline time.Time) (int, error) {
	c.w.mu.Lock()
	c.w.reads++
	c.w.mu.Unlock()
	for {
		c.w.mu.Lock()
		news, next := c.w.news, deadline
		if c.w.out {
			c.w.mu.Unlock()
			return 0, errors.New("no such device")
		}
		now, n := time.Now(), 0
		due := 0
		for due < len(c.w.edges) && !c.w.edges[due].At.After(now) {
			due++
		}
		c.w.edges = slices.Delete(c.w.edges, 0, max(0, due-1024))
		for len(c.w.edges) > 0 && n < len(to) && !c.w.edges[0].At.After(now) {
			to[n], c.w.edges = c.w.edges[0], c.w.edges[1:]
			n++
		}
		if len(c.w.edges) > 0 && (next.IsZero() || c.w.edges[0].At.Before(next)) {
			next = c.w.edges[0].At
		}
		c.w.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if !deadline.IsZero() && !now.Before(deadline) {
			return 0, nil
		}
		var timer <-chan time.Time
		var t *time.Timer
		if !next.IsZero() {
			t = time.NewTimer(max(next.Sub(now), time.Nanosecond))
			timer = t.C
		}
		select {
		case <-timer:
		case <-news:
		case <-c.stop:
			return 0, os.ErrClosed
		}
		if t != nil {
			t.Stop()
		}
	}
}

// bench is a reader at work on a wire.
type bench struct {
	t    *testing.T
	w    *wire
	out  chan device.Event
	log  *logged
	stop func()
}

// logged keeps the messages of a log.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }
func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := r.Message
	r.Attrs(func(a slog.Attr) bool { s += " " + a.String(); return true })
	l.lines = append(l.lines, s)
	return nil
}

func (l *logged) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// start runs a reader on a wire; it is stopped when the test ends, at the latest.
func start(t *testing.T, w *wire, change func(*Config)) *bench {
	t.Helper()
	log := &logged{}
	cfg := Config{Name: "front", Open: w.open, Logger: slog.New(log)}
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &bench{t: t, w: w, out: make(chan device.Event, 1024), log: log}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, b.out) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return b
}
