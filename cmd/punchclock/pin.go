package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"punchclock/queue/punch"
)

// pinGuard limits guesses of PINs. A try is counted, on the medium, before its PIN
// is looked at, so that neither many at once nor a pulled plug gives any for
// nothing; one that turns out right is taken off again, together with the person's
// own slips just before it.
//
//	a number    after 5 tries closed for a minute, after each one more twice as
//	            long, after 10 until they are a day old
//	the clock   30 tries a day for all numbers together, those nobody has included
//
// Right PINs never count, so that a site where everybody mistypes now and then is
// never closed, and somebody who tries numbers one after another soon is.
//
// The tries lie in a file of their own. The roster's database is written anew by an
// import, and its look-ups never write; the outbox holds punches, one commit each,
// and a try is none. The file holds no number, only keyed hashes of them.
//
// # A day
//
// is a day of the guard's own time, which runs with the machine's uptime: setting
// the clock does not move it. Between two boots it goes on by what the wall clock
// says has passed, less both error bounds, if that clock was known to be right both
// times; otherwise it stands still while the machine is off. So it is never fast,
// and a clock without network and battery forgets tries late rather than early.
type pinGuard struct {
	path string
	now  func() punch.Stamp
	log  *slog.Logger

	mu   sync.Mutex
	file guardFile
}

const (
	triesEach   = 10             // in a day, of one number
	triesFree   = 5              // of these, without waiting
	triesAll    = 30             // in a day
	triesDay    = 24 * time.Hour // how long a try counts
	closedFirst = time.Minute
	closedMost  = time.Hour
	slipTime    = 10 * time.Minute // tries this long before a right one were slips of its owner
	slipsMost   = 4                // forgiven with a right one; the free ones but for the right one
)

// guardFile is what lies in the file. Times are the guard's, in milliseconds.
type guardFile struct {
	Salt  []byte     `json:"salt"`
	Last  pinMoment  `json:"last"`            // when it was written
	Known *pinMoment `json:"known,omitempty"` // the latest moment whose wall time was right
	Tries []pinTry   `json:"tries"`           // oldest first
	dirty bool       // tries were taken off that are still in the file
}

// pinMoment ties the guard's time to the machine's.
type pinMoment struct {
	AtMS     int64  `json:"at_ms"`
	Boot     string `json:"boot"`
	UptimeMS int64  `json:"uptime_ms"`
	WallMS   int64  `json:"wall_ms"`
	BoundMS  int64  `json:"bound_ms"`
}

type pinTry struct {
	Who  string `json:"who"`
	AtMS int64  `json:"at_ms"`
}

// newPINGuard reads the file at path. One that is absent is an empty one. One that
// cannot be understood counts as full: it may have been full.
func newPINGuard(path string, now func() punch.Stamp, log *slog.Logger) *pinGuard {
	g := &pinGuard{path: path, now: now, log: log}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		g.file.Salt = newSalt()
		return g
	}
	if err == nil {
		err = json.Unmarshal(b, &g.file)
	}
	if err == nil {
		err = g.file.check()
	}
	if err == nil {
		return g
	}
	log.Error("the count of wrong PINs cannot be read: no PIN is taken for a day; badges are. To take them sooner stop the clock and remove the file", "file", path, "err", err)
	g.file = guardFile{Salt: newSalt()}
	at := g.file.at(now())
	for range triesAll {
		g.file.Tries = append(g.file.Tries, pinTry{AtMS: at.Milliseconds()})
	}
	return g
}

func newSalt() []byte {
	salt := make([]byte, 32)
	rand.Read(salt) // never fails: see crypto/rand
	return salt
}

// check says what is in the file that nobody wrote.
func (f *guardFile) check() error {
	const most = 1 << 43 // ms, 278 years
	good := func(m pinMoment) bool {
		return m.AtMS >= 0 && m.AtMS < most && m.UptimeMS >= 0 && m.UptimeMS < most && m.BoundMS >= 0 && m.WallMS < most && m.WallMS > -most
	}
	switch {
	case len(f.Salt) < 16:
		return errors.New("the salt is missing")
	case len(f.Tries) > triesAll:
		return errors.New("it holds more tries than are ever taken")
	case !good(f.Last), f.Known != nil && !good(*f.Known):
		return errors.New("it is of an impossible time")
	}
	for _, t := range f.Tries {
		if t.AtMS < 0 || t.AtMS > f.Last.AtMS {
			return errors.New("a try is of an impossible time")
		}
	}
	return nil
}

// at is the guard's time at a moment.
func (f *guardFile) at(now punch.Stamp) time.Duration {
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	boot := punch.BootIDString(now.BootID)
	at := ms(f.Last.AtMS) + now.Uptime
	if f.Last.Boot == boot {
		at -= ms(f.Last.UptimeMS)
	}
	if k := f.Known; k != nil && k.Boot != boot && now.Clock != punch.Unset {
		away := now.Wall.Sub(time.UnixMilli(k.WallMS)) - ms(k.BoundMS) - now.ErrorBound
		at = max(at, ms(k.AtMS)+away)
	}
	return max(at, ms(f.Last.AtMS))
}

// take counts a try for a number and returns 0; then the PIN may be looked at. If
// none is looked at now it returns for how long. An error means that the try could
// not be written down: the PIN must not be looked at either. It blocks for the
// medium.
func (g *pinGuard) take(number string) (wait time.Duration, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	at := g.file.at(now)
	old := func(t pinTry) bool { return at-time.Duration(t.AtMS)*time.Millisecond >= triesDay }
	tries := slices.DeleteFunc(slices.Clone(g.file.Tries), old)
	who := g.who(number)
	if wait := closed(tries, who, at); wait > 0 {
		return wait, nil
	}
	file := g.file
	file.Tries = append(tries, pinTry{who, at.Milliseconds()})
	if err := g.write(file, now, at); err != nil {
		return 0, fmt.Errorf("count a PIN: %w", err)
	}
	return 0, nil
}

// closed returns how long no PIN of a number is looked at.
func closed(tries []pinTry, who string, at time.Duration) (wait time.Duration) {
	var own []pinTry
	for _, t := range tries {
		if t.Who == who {
			own = append(own, t)
		}
	}
	since := func(t pinTry) time.Duration { return at - time.Duration(t.AtMS)*time.Millisecond }
	if n := len(own); n >= triesFree {
		wait = min(closedFirst<<(n-triesFree), closedMost) - since(own[n-1])
	}
	if n := len(own); n >= triesEach {
		wait = max(wait, triesDay-since(own[n-triesEach]))
	}
	if n := len(tries); n >= triesAll {
		wait = max(wait, triesDay-since(tries[n-triesAll]))
	}
	return max(wait, 0)
}

// right takes the last try of a number off, and its owner's slips before it. Of a
// single try the file learns with the next one, or by keep: to lose that to a power
// cut costs the owner a free try, no more.
func (g *pinGuard) right(number string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	at, who := g.file.at(now), g.who(number)
	forgiven := 0
	for i := len(g.file.Tries) - 1; i >= 0; i-- {
		t := g.file.Tries[i]
		if t.Who == who && forgiven <= slipsMost && at-time.Duration(t.AtMS)*time.Millisecond < slipTime {
			g.file.Tries = slices.Delete(g.file.Tries, i, i+1)
			forgiven++
			g.file.dirty = true
		}
	}
	if forgiven > 1 {
		g.keepAt(now, at)
	}
}

// keep writes down what the file does not know yet. It is for the end.
func (g *pinGuard) keep() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.file.dirty && len(g.file.Tries) == 0 {
		return
	}
	now := g.now()
	g.keepAt(now, g.file.at(now))
}

func (g *pinGuard) keepAt(now punch.Stamp, at time.Duration) {
	if err := g.write(g.file, now, at); err != nil {
		g.log.Warn("the count of wrong PINs is the one of the last try", "err", err)
	}
}

func (g *pinGuard) who(number string) string {
	h := hmac.New(sha256.New, g.file.Salt)
	h.Write([]byte(number))
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// write replaces the file as a whole; it is on the medium when it returns. Memory
// changes only then.
func (g *pinGuard) write(file guardFile, now punch.Stamp, at time.Duration) error {
	file.Last = pinMoment{AtMS: at.Milliseconds(), Boot: punch.BootIDString(now.BootID), UptimeMS: now.Uptime.Milliseconds(),
		WallMS: now.Wall.UnixMilli(), BoundMS: now.ErrorBound.Milliseconds()}
	if now.Clock != punch.Unset {
		known := file.Last
		file.Known = &known
	}
	file.dirty = false
	if err := replaceJSON(g.path, file); err != nil {
		return err
	}
	g.file = file
	return nil
}
