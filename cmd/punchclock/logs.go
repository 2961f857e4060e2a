package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/journal"
)

// logbook is where the running clock's lines go: to the journal with a field for
// everything in them where systemd has connected stderr to it, else to stderr as
// text. Nobody who logs waits for either: a line is handed to one goroutine that
// writes, and where that does not get on, because the disk below the journal stands
// still, further ones are counted and thrown away. A tap is worth more than a line.
//
// In the journal a line has, beside the text and its priority: SYSLOG_IDENTIFIER
// punchclock, PUNCHCLOCK_DEVICE, and each attribute as PUNCHCLOCK_<KEY>; and for each
// kind of line, listed in logEvents, PUNCHCLOCK_EVENT and MESSAGE_ID. These names are
// what scripts look for: a new wording keeps its event.
type logbook struct {
	device string
	plain  io.Writer
	// send writes to the journal; nil is no journal.
	send  func(message string, p journal.Priority, fields map[string]string) error
	lines chan logLine
	lost  atomic.Int64
}

// logLine is a finished line: its text for stderr, or what the journal wants.
type logLine struct {
	text    []byte
	message string
	level   slog.Level
	fields  map[string]string
}

const (
	logWaiting = 1024            // lines that may wait for a medium that stands still
	logGrace   = 2 * time.Second // what the last lines may take when the clock stops
)

// newLogbook makes a logbook for a process whose stderr is plain. It writes nothing
// before begin.
func newLogbook(plain io.Writer, device string) *logbook {
	b := &logbook{device: device, plain: plain, lines: make(chan logLine, logWaiting)}
	if f, is := plain.(*os.File); is && f == os.Stderr {
		if connected, err := journal.StderrIsJournalStream(); err == nil && connected {
			b.send = journal.Send
		}
	}
	return b
}

// begin starts the writing. The function it returns writes what still waits, for
// logGrace at most, and ends it.
func (b *logbook) begin() (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case l := <-b.lines:
				b.write(l)
			case <-stop:
				for len(b.lines) > 0 {
					b.write(<-b.lines)
				}
				return
			}
		}
	}()
	return func() {
		close(stop)
		select {
		case <-done:
		case <-time.After(logGrace):
		}
	}
}

func (b *logbook) write(l logLine) {
	if n := b.lost.Swap(0); n > 0 {
		// As an ordinary line, so that it looks like one; there is room for it, this
		// goroutine has just made some.
		b.logger().Warn("lines of the log were thrown away, because it took no more", "lines", n)
	}
	if b.send != nil {
		if b.send(l.message, journalPriority(l.level), l.fields) == nil {
			return
		}
		l.text = fmt.Appendf(nil, "level=%s %s\n", l.level, l.message)
	}
	b.plain.Write(l.text) // whoever has closed stderr reads no lines
}

// put hands a line over, or throws it away. It never waits.
func (b *logbook) put(l logLine) {
	select {
	case b.lines <- l:
	default:
		b.lost.Add(1)
	}
}

// Write takes a line of text.
func (b *logbook) Write(text []byte) (int, error) {
	b.put(logLine{text: bytes.Clone(text)})
	return len(text), nil
}

func (b *logbook) logger() *slog.Logger {
	if b.send != nil {
		return slog.New(journalHandler{book: b})
	}
	return newLogger(b)
}

// newLogger writes lines of text, without the time where systemd adds it.
func newLogger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{}
	if os.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// journalHandler turns records into fields. What has no business in a log hides
// itself, by its type, before it gets here.
type journalHandler struct {
	book   *logbook
	prefix string // of groups, with a dot behind each
	with   []slog.Attr
}

func (h journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := h.with[:len(h.with):len(h.with)]
	for _, a := range attrs {
		a.Key = h.prefix + a.Key
		with = append(with, a)
	}
	h.with = with
	return h
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.prefix += name + "."
	}
	return h
}

func (h journalHandler) Handle(_ context.Context, r slog.Record) error {
	var text strings.Builder
	text.WriteString(r.Message)
	fields := map[string]string{"SYSLOG_IDENTIFIER": "punchclock", "PUNCHCLOCK_DEVICE": h.book.device}
	if e, known := eventOf(r.Message); known {
		fields["PUNCHCLOCK_EVENT"], fields["MESSAGE_ID"] = e, messageID(e)
	}
	for _, a := range h.with {
		addField(&text, fields, "", a)
	}
	r.Attrs(func(a slog.Attr) bool { addField(&text, fields, h.prefix, a); return true })
	h.book.put(logLine{message: text.String(), level: r.Level, fields: fields})
	return nil
}

// addField writes an attribute into the text as slog does, and as a field.
func addField(text *strings.Builder, fields map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, in := range v.Group() {
			addField(text, fields, prefix, in)
		}
		return
	}
	if a.Key == "" {
		return
	}
	s := v.String()
	if v.Kind() == slog.KindAny {
		if m, is := v.Any().(encoding.TextMarshaler); is {
			if b, err := m.MarshalText(); err == nil {
				s = string(b)
			}
		}
	}
	shown := s
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '"' || r == '=' || !unicode.IsPrint(r) }) {
		shown = strconv.Quote(s)
	}
	fmt.Fprintf(text, " %s%s=%s", prefix, a.Key, shown)
	fields["PUNCHCLOCK_"+fieldName(prefix+a.Key)] = s
}

// fieldName is a key as the journal takes it: capitals, digits and underscores.
func fieldName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// journalPriority is syslog's word for a level: info, warning or error.
func journalPriority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	}
	return journal.PriInfo
}

// messageID is an event's MESSAGE_ID: the first half of the hash of its name.
func messageID(event string) string {
	sum := sha256.Sum256([]byte("punchclock " + event))
	return fmt.Sprintf("%x", sum[:16])
}

// eventOf finds the event of a line, by its wording.
func eventOf(message string) (string, bool) {
	if e, known := eventsByText[message]; known {
		return e, true
	}
	for _, e := range logEvents {
		if start, open := strings.CutSuffix(e.text, "…"); open && strings.HasPrefix(message, start) {
			return e.name, true
		}
	}
	return "", false
}

var eventsByText = maps.Collect(func(yield func(string, string) bool) {
	for _, e := range logEvents {
		if !yield(e.text, e.name) {
			return
		}
	}
})
