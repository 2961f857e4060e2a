// Package stdin is a reader for desks without hardware: badges are typed, or piped
// in, one to a line.
//
//	em:0A1B2C3D4E    a badge as the roster writes it, any medium
//	0a1b2c3d4e       ten hexadecimal digits: a 125 kHz number
//	kind go-out      the key of a kind: in, out, go-out or return
//	pin 000123 4711  a number and its PIN, as typed on a keypad
//
// Empty lines and lines beginning with # mean nothing. Anything else is a fault
// that asks to try again. The raw form of a medium in hexadecimal (em, uid) is its
// bytes, of any other its text. What else a badge may hold is for the house to
// say; here a line is checked for whole bytes, strange characters, and a length
// that can be kept.
package stdin

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"punchclock/device"
)

const (
	maxLine = 128 // bytes; a longer line is a fault
	maxRaw  = 31  // bytes of a card; the house counts its bits in one byte
)

var tooLong = strings.Repeat("x", maxLine+1)

// Reader reads badges from lines of text.
type Reader struct {
	name string
	r    io.Reader
}

var _ device.Reader = (*Reader)(nil)

// New returns a reader of the lines of r, usually os.Stdin. It reads nothing yet.
func New(name string, r io.Reader) *Reader { return &Reader{name: name, r: r} }

// Run reads until ctx is done. At the end of the input it says Down and waits for
// ctx, because other readers go on. A read that is under way is interrupted where
// the input is a file with deadlines, such as a pipe the program made itself.
// Where it is not, as with most standard inputs, Run returns all the same and the
// read's goroutine is left until a line or the end comes, or the process ends. Run
// is called once.
func (r *Reader) Run(ctx context.Context, out chan<- device.Event) error {
	tell := func(ev device.Event, at time.Time) {
		ev.Reader, ev.First, ev.Last = r.name, at, at
		select {
		case out <- ev:
		case <-ctx.Done():
		}
	}
	tell(device.Event{What: device.Up}, time.Now())

	lines := make(chan line)
	go r.read(ctx, lines)
	timed := false
	if f, ok := r.r.(*os.File); ok && f.SetReadDeadline(time.Time{}) == nil {
		timed = true
		stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	for {
		select {
		case l := <-lines:
			if l.err != nil {
				tell(device.Event{What: device.Down, Err: fmt.Errorf("reader %s: the input has ended: %w", r.name, l.err)}, l.at)
				<-ctx.Done()
				return nil
			}
			if ev, ok := parse(l.text); ok {
				tell(ev, l.at)
			}
		case <-ctx.Done():
			if timed {
				for range lines { // the deadline ends it
				}
			}
			return nil
		}
	}
}

type line struct {
	text string
	at   time.Time
	err  error // the input has ended
}

// read sends the lines, at last why there are no more, and closes the channel.
func (r *Reader) read(ctx context.Context, lines chan<- line) {
	defer close(lines)
	send := func(l line) {
		l.at = time.Now()
		select {
		case lines <- l:
		case <-ctx.Done():
		}
	}
	br := bufio.NewReaderSize(r.r, maxLine)
	for ctx.Err() == nil {
		b, err := br.ReadSlice('\n')
		text := string(b)
		for errors.Is(err, bufio.ErrBufferFull) { // discard the rest of it
			text = tooLong
			_, err = br.ReadSlice('\n')
		}
		if text != "" {
			send(line{text: text})
		}
		if err != nil {
			send(line{err: err})
			return
		}
	}
}

// parse reads one line; it reports false for one that means nothing.
func parse(s string) (device.Event, bool) {
	fault := func(word string) (device.Event, bool) {
		return device.Event{What: device.Fault, Fault: word, Try: true}, true
	}
	if len(s) > maxLine {
		return fault(device.FaultLength)
	}
	s = strings.TrimSpace(s)
	if s == "" || s[0] == '#' {
		return device.Event{}, false
	}
	if kind, ok := strings.CutPrefix(s, "kind "); ok {
		switch kind = strings.TrimSpace(kind); kind {
		case "in", "out", "go-out", "return":
			return device.Event{What: device.Key, Key: kind}, true
		}
		return fault(device.FaultFormat)
	}
	if typed, ok := strings.CutPrefix(s, "pin "); ok {
		words := strings.Fields(typed)
		if len(words) != 2 {
			return fault(device.FaultFormat)
		}
		return device.Event{What: device.Entry, Number: words[0], PIN: device.PIN(words[1])}, true
	}
	medium, value, ok := strings.Cut(s, ":")
	if !ok && len(s) == 10 {
		medium, value, ok = "em", s, true
	}
	medium = strings.ToLower(medium)
	strange := func(c rune) bool { return c <= ' ' || c > '~' }
	if !ok || medium == "" || value == "" || strings.ContainsFunc(s, strange) {
		return fault(device.FaultFormat)
	}
	raw := []byte(value)
	if medium == "em" || medium == "uid" {
		value = strings.ToUpper(value)
		b, err := hex.DecodeString(value)
		if err != nil {
			return fault(device.FaultFormat)
		}
		if n := len(b); medium == "em" && n != 5 || medium == "uid" && n != 4 && n != 7 && n != 10 {
			return fault(device.FaultLength)
		}
		raw = b
	}
	if len(raw) > maxRaw {
		return fault(device.FaultLength)
	}
	return device.Event{What: device.Card, Medium: medium, Value: value, Raw: raw, Bits: 8 * len(raw)}, true
}
