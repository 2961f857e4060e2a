// Package clock answers how far the wall clock can be believed, and gives what it
// takes to correct a time that was written down while it could not: the boot id
// and the uptime.
//
// A Pi without a battery clock starts at the time of its image or of its last
// shutdown. Its wall clock is right when something has set it in this boot, and
// from then on as right as what has set it and the time since. Hence three
// states, and a bound for the error in each:
//
//	synced    the kernel says that a time server keeps the clock (adjtimex, which
//	          needs no privilege: STA_UNSYNC is not set). The bound is the
//	          kernel's maximum error and what is still to be slewed. The kernel
//	          takes the mark away only when its maximum error, growing by 500
//	          µs/s, has reached 16 s, 8.9 hours after the last answer: the bound
//	          tells more than the state.
//	holdover  it was set in this boot and runs on its own since. The bound grows
//	          on by 500 ppm, the kernel's own figure for a free clock, and by
//	          every step somebody makes meanwhile. Or a battery clock has set it
//	          at boot (/sys/class/rtc/rtc*/hctosys is 1, which the kernel writes
//	          only after a read the chip stood for) and what it says can be: then
//	          the bound begins at one second and what the chip drifted since it
//	          was last set: 3.5 ppm with a DS3231, 100 ppm with any other. When it
//	          was set is taken from the state file, or a year is assumed. It cannot
//	          be before 2024 nor after 2099, not before the last sync that the state
//	          file knows of, nor more than three years after it.
//	unset     nobody has set it in this boot. The bound is [Unknown]. Or it was
//	          set, lost its time server, and then was moved by more than a minute
//	          and more than it could have been off: what it says now is known to be
//	          false, the boot's epoch still holds, and the bound is the move.
//
// Setting the clock by hand makes no difference to the state; a site that does
// so says trust = "system", and the clock is then synced always, with the
// kernel's bound where it has one and one second where not.
//
// Wall time minus uptime changes only when the clock is stepped, not when it is
// slewed, because the kernel slews both alike. So the wall time at uptime zero,
// the boot's epoch, is what is remembered: it shows steps, and corrects times.
//
// # The state file
//
// A restart of the program must not forget that this boot's clock was set. The
// state file (JSON, some hundred bytes) holds the boot id, the epoch, the uptime
// at which it was last known to be right, its bound then, and when the clock was
// last synced in any boot. It is written when the clock becomes synced, stops
// being so or is stepped, at most once a day besides, and when the program stops;
// never by [Clock.Now]. Without it, or with a damaged one, a clock that lost its
// time server before the program started is unset until the server answers again.
package clock

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// State says how far the wall clock can be believed.
type State uint8

const (
	Unset    State = iota // nobody has set this boot's clock
	Holdover              // it was set, and runs on its own since
	Synced                // a time server keeps it
)

// String returns unset, holdover or synced.
func (s State) String() string {
	switch s {
	case Synced:
		return "synced"
	case Holdover:
		return "holdover"
	}
	return "unset"
}

// Unknown is the error bound of a clock nobody has set, and the largest bound
// there is: what fits into 31 bits of milliseconds, nearly 25 days.
const Unknown = (1<<31 - 1) * time.Millisecond

// Reading is the time with all it takes to correct it later.
type Reading struct {
	Wall       time.Time // without a monotonic reading
	BootID     [16]byte
	Uptime     time.Duration // since boot, suspend included (CLOCK_BOOTTIME)
	State      State
	ErrorBound time.Duration // how far Wall could be off, either way; 1 ms to Unknown
}

// How the clock is judged.
const (
	Auto   = "auto"   // by what the kernel and the battery clock say
	System = "system" // somebody else answers for it
)

// Config is what a clock needs to know.
type Config struct {
	Trust     string       // Auto or System; "" is Auto
	StateFile string       // its directory must exist; "" remembers nothing over a restart
	Logger    *slog.Logger // nil logs nothing
	// Machine takes the place of this computer in tests.
	Machine *Machine
}

const (
	drift       = 500               // ppm, of a clock nobody disciplines (the kernel's MAXFREQ)
	goodChip    = 3500              // parts in 10⁹, DS3231 at −40…85 °C
	anyChip     = 100_000           // parts in 10⁹
	chipStep    = time.Second       // what a battery clock can tell
	chipAge     = 365 * 24 * 3600e9 // since a battery clock was set, when nobody knows
	handBound   = time.Second       // of a clock somebody answers for
	leastBound  = time.Millisecond
	firstYear   = 2024                  // before this program existed
	lastYear    = 2099                  // what a chip with two digits can say
	handStep    = time.Minute           // somebody who moves a free clock by more than it can be off is not believed
	mostAge     = 3 * 365 * 24 * 3600e9 // between two syncs: a battery clock that says more is broken, or lies
	stepSize    = 100 * time.Millisecond
	recheck     = 30 * time.Second
	afterStep   = time.Second // the mark of being synced may come after the step
	saveEvery   = 24 * time.Hour
	readAgainAt = time.Millisecond
)

// Machine is the computer: the kernel's clocks and marks.
type Machine struct {
	BootID [16]byte
	Wall   func() time.Time
	Uptime func() time.Duration // since boot, suspend included
	Kernel func() (Kernel, error)
	// Chip returns the name of the battery clock that set the time at boot.
	Chip func() (name string, ok bool)
	// Steps sends to wake, without blocking, whenever the wall clock is stepped,
	// until ctx is done.
	Steps func(ctx context.Context, wake chan<- struct{}) error
}

// Kernel is what adjtimex says.
type Kernel struct {
	Synced bool          // STA_UNSYNC is not set
	Bound  time.Duration // the maximum error and what is still to be slewed
}

// anchor is a moment of this boot at which the time was known.
type anchor struct {
	ok     bool
	epoch  time.Time // wall time at uptime zero
	uptime time.Duration
	bound  time.Duration // then
}

// Clock judges the wall clock. Its methods may be called at the same time.
type Clock struct {
	src   Machine
	trust string
	file  string
	log   *slog.Logger

	mu     sync.Mutex
	anchor anchor
	synced time.Time // wall time when the clock was last seen synced, in any boot; zero if never

	saved   anchor // what is in the state file, of Watch alone
	saveErr string
}

// New reads the state file and judges the clock for the first time. It returns an
// error for an unknown trust or a machine without a boot id. A kernel that may not
// be asked is logged, and taken for one whose clock nobody has set.
func New(cfg Config) (*Clock, error) {
	if cfg.Machine == nil {
		m, err := system()
		if err != nil {
			return nil, fmt.Errorf("clock: %w", err)
		}
		cfg.Machine = &m
	}
	c := &Clock{src: *cfg.Machine, trust: cfg.Trust, file: cfg.StateFile, log: cfg.Logger}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	switch c.trust {
	case "":
		c.trust = Auto
	case Auto, System:
	default:
		return nil, fmt.Errorf("clock: trust %q: use auto or system", cfg.Trust)
	}
	if _, err := c.src.Kernel(); err != nil && c.trust == Auto {
		// Punches are taken all the same, and held: that loses nothing.
		c.log.Error("the kernel does not say whether the clock is right; punches are held: allow the call (in a systemd unit: no ProtectClock, and adjtimex in SystemCallFilter), or set trust = \"system\"", "err", err)
	}
	c.load()
	c.askChip()
	c.Now()
	return c, nil
}

// Now returns the time and how far it can be believed. It asks the kernel only,
// touches no file and never blocks.
func (c *Clock) Now() Reading {
	k, err := c.src.Kernel()
	if err != nil { // New has seen it work: an unknown state is an unsynced one
		k = Kernel{}
	}
	wall, up := c.pair()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Reading{Wall: wall, BootID: c.src.BootID, Uptime: up, State: Unset, ErrorBound: Unknown}
	epoch := wall.Add(-up)
	switch {
	case k.Synced:
		r.State, r.ErrorBound = Synced, k.Bound
		if c.trust == Auto {
			c.anchor = anchor{ok: true, epoch: epoch, uptime: up, bound: bounded(k.Bound)}
			c.synced = wall
		}
	case c.trust == System:
		r.State, r.ErrorBound = Synced, handBound
	case c.anchor.ok:
		bound, off := c.anchor.at(up), epoch.Sub(c.anchor.epoch).Abs()
		if off <= max(bound, handStep) {
			r.State = Holdover
		}
		r.ErrorBound = min(bound, Unknown) + min(off, Unknown)
	}
	r.ErrorBound = bounded(r.ErrorBound)
	return r
}

// BootEpoch returns the wall time at uptime zero of this boot, and how far it
// could be off. A time of this boot that was written down while the clock was
// unset is the epoch plus its uptime. It reports false while nobody knows.
func (c *Clock) BootEpoch() (epoch time.Time, bound time.Duration, ok bool) {
	r := c.Now()
	if r.State == Synced {
		return r.Wall.Add(-r.Uptime), r.ErrorBound, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.anchor.ok {
		return time.Time{}, Unknown, false
	}
	// In holdover the anchor's epoch stands, whatever the wall was stepped to.
	return c.anchor.epoch, bounded(c.anchor.at(r.Uptime)), true
}

// Watch calls fn with the time now, and again whenever the state changes or the
// clock is stepped by 0.1 s or more, until ctx is done; then it returns nil. A
// step is seen at once, anything else within 30 s. It keeps the state file; a
// file that cannot be written is logged, once for each different error.
func (c *Clock) Watch(ctx context.Context, fn func(Reading)) error {
	wake := make(chan struct{}, 1)
	steps := make(chan error, 1)
	go func() { steps <- c.src.Steps(ctx, wake) }()
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	soon := time.NewTimer(afterStep)
	defer soon.Stop()

	var told Reading
	for first := true; ; first = false {
		c.askChip()
		r := c.Now()
		stepped := r.Wall.Add(-r.Uptime).Sub(told.Wall.Add(-told.Uptime)).Abs() >= stepSize
		changed := first || stepped || r.State != told.State
		c.keep(changed)
		if changed {
			if !first {
				c.log.Info("clock", "state", r.State.String(), "error_bound", r.ErrorBound, "was", told.State.String(), "stepped", stepped)
			}
			told = r
			fn(r)
		}
		select {
		case <-ctx.Done():
			if steps != nil {
				<-steps
			}
			c.Now()
			c.keep(true)
			return nil
		case err := <-steps:
			steps = nil
			if ctx.Err() == nil {
				c.log.Warn("clock: steps are seen only every half minute", "err", err)
			}
		case <-wake:
			soon.Reset(afterStep)
		case <-soon.C:
		case <-tick.C:
		}
	}
}

// pair reads both clocks at the same moment. A program that was not scheduled in
// between would see a step that is none.
func (c *Clock) pair() (wall time.Time, up time.Duration) {
	for range 4 {
		before := c.src.Uptime()
		wall = c.src.Wall().Round(0)
		up = c.src.Uptime()
		if up-before < readAgainAt {
			break
		}
	}
	return wall, up
}

// askChip takes the battery clock's word while there is no better one. The chip's
// driver may be loaded after the program started.
func (c *Clock) askChip() {
	c.mu.Lock()
	have, synced := c.anchor.ok, c.synced
	c.mu.Unlock()
	if have || c.trust != Auto {
		return
	}
	if k, err := c.src.Kernel(); err == nil && k.Synced {
		return
	}
	name, ok := c.src.Chip()
	wall, up := c.pair()
	if !ok || wall.Year() < firstYear || wall.Year() > lastYear {
		return
	}
	age := time.Duration(chipAge)
	if !synced.IsZero() {
		if age = wall.Sub(synced); age < 0 || age > mostAge {
			return
		}
	}
	rate := time.Duration(anyChip)
	if strings.Contains(name, "ds3231") {
		rate = goodChip
	}
	a := anchor{ok: true, epoch: wall.Add(-up), uptime: up, bound: bounded(chipStep + age/1e9*rate)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.anchor.ok {
		c.anchor = a
	}
}

// at returns the bound at an uptime, earlier or later.
func (a anchor) at(up time.Duration) time.Duration {
	return a.bound + (up-a.uptime).Abs()/1e6*drift
}

func bounded(d time.Duration) time.Duration { return min(max(d, leastBound), Unknown) }

// state is the state file.
type state struct {
	BootID   string `json:"boot_id"`
	EpochMS  int64  `json:"epoch_ms"`  // wall time at uptime zero
	UptimeMS int64  `json:"uptime_ms"` // when the epoch was known to be right
	BoundMS  int64  `json:"bound_ms"`  // its error then
	SyncedMS int64  `json:"synced_ms"` // wall time of the last sync in any boot, 0 if none
}

// load reads the state file. A damaged one is as good as none.
func (c *Clock) load() {
	if c.file == "" || c.trust != Auto {
		return
	}
	b, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	a, synced, err := parse(b, err, c.src.BootID)
	if err != nil {
		c.log.Warn("clock: the state file is of no use, it is written anew", "file", c.file, "err", err)
		return
	}
	if a.uptime > c.src.Uptime() { // not of this boot, whatever it says
		a = anchor{}
	}
	c.anchor, c.saved, c.synced = a, a, synced
}

// parse reads a state file's bytes. The anchor is zero if they are another boot's.
func parse(b []byte, err error, boot [16]byte) (a anchor, synced time.Time, _ error) {
	var s state
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err == nil && (s.UptimeMS < 0 || s.BoundMS < 0 || s.EpochMS < 0 || s.SyncedMS < 0 ||
		s.BoundMS > Unknown.Milliseconds() || max(s.UptimeMS, s.EpochMS, s.SyncedMS) > 1<<43) {
		err = errors.New("a number in it is out of range")
	}
	if err != nil {
		return anchor{}, time.Time{}, err
	}
	if s.SyncedMS > 0 {
		synced = time.UnixMilli(s.SyncedMS)
	}
	if id, err := parseBoot(s.BootID); err != nil || id != boot {
		return anchor{}, synced, nil
	}
	return anchor{ok: true, epoch: time.UnixMilli(s.EpochMS), uptime: time.Duration(s.UptimeMS) * time.Millisecond, bound: time.Duration(s.BoundMS) * time.Millisecond}, synced, nil
}

// keep writes the state file if it has to be.
func (c *Clock) keep(changed bool) {
	c.mu.Lock()
	a, synced := c.anchor, c.synced
	c.mu.Unlock()
	if c.file == "" || !a.ok || a == c.saved {
		return
	}
	if c.saved.ok && !changed && a.uptime-c.saved.uptime < saveEvery {
		return
	}
	s := state{
		BootID:   bootString(c.src.BootID),
		EpochMS:  a.epoch.UnixMilli(),
		UptimeMS: a.uptime.Milliseconds(),
		BoundMS:  (a.bound + time.Millisecond - 1).Milliseconds(),
	}
	if !synced.IsZero() {
		s.SyncedMS = synced.UnixMilli()
	}
	if err := write(c.file, s); err != nil {
		if err.Error() != c.saveErr {
			c.log.Warn("clock: after a restart the clock may be unset until a time server answers", "err", err)
		}
		c.saveErr = err.Error()
		return
	}
	c.saved, c.saveErr = a, ""
}

// write replaces the file as a whole. There is one writer, so the new one's name
// can be the same every time, and nothing is left behind after a power cut.
func write(path string, s state) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the clock's state: %w", err)
		}
	}()
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// parseBoot reads a boot id as the kernel writes it.
func parseBoot(s string) (id [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), "-", ""))
	if err != nil || len(b) != len(id) {
		return id, errors.New("the boot id is not 16 bytes in hexadecimal")
	}
	return [16]byte(b), nil
}

func bootString(b [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
