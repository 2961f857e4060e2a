// Package queue is the outbox: the one place where a punch is made durable, and
// the archive, audit chain and export of all punches. It is the only door to
// bbolt (with its neighbour, the roster).
//
// The invariant: when Append returns without an error, the punch is on the medium
// and comes out again after any stop, kill, power cut or full disk, unaltered,
// under the same id. When it returns an error, the outcome is unknown, because a
// sync that failed may still have stored the record; the same tap appended again
// (it carries its own id) then yields the record that is there, or makes the one
// that is missing, and never two.
//
// There is one log, and a position per destination. A punch is written once,
// however many destinations there are; a delivery moves a position and leaves a
// receipt. Nothing is deleted on the way of a punch.
//
// How it lies on the card: a commit writes two pages and syncs twice, the least
// that bbolt's format allows, because the newest few records live in a bucket
// that bbolt keeps inside its root page ("hot") beside head and positions, and
// are moved to the log between punches. The file is written ahead with zeros, so
// that no commit waits for the file system to find space. Punches that arrive
// together are committed together: whoever holds the writer's lock takes all that
// wait, without a timer, and a punch alone pays nothing for it. See segment.go
// for the buckets, record.go for the stored form, chain.go for the audit chain.
//
// What we turned down: a queue that deletes what was sent (after a long outage a
// punch then costs 300 KB of writing), an index beside the log (two more pages a
// punch), and bbolt's Batch (it waits 10 ms and may run twice).
package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"punchclock/queue/punch"
)

// Errors that a caller decides on.
var (
	// ErrInUse: another process has this outbox open.
	ErrInUse = errors.New("the outbox is in use by another punchclock")
	// ErrOtherDevice: the folder belongs to a clock of another id.
	ErrOtherDevice = errors.New("the outbox belongs to another device")
	// ErrFull: the space kept in reserve is reached. Nothing was stored.
	ErrFull = errors.New("no space left for punches")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("the outbox is closed")
	// ErrNoDestination: the name is not one that the outbox was opened with.
	ErrNoDestination = errors.New("no such destination")
)

// Options say where the outbox lies and for whom.
type Options struct {
	Dir          string   // the folder; made if missing
	Device       string   // device id, part of every punch id
	Destinations []string // names; a new one starts at the next punch to come
	BootID       [16]byte // this boot, whose unset punches are held until SetBootTime
	// Who looks a badge up in the roster, for punches made before it was known: whose it
	// was when it was tapped, zero where nobody knows when that was. Nil means nobody is
	// known.
	Who func(b punch.Badge, tapped time.Time) (employee string, ok bool)
	// Reserve is how many bytes must stay free on the file system: an append that
	// finds less is refused with ErrFull while there is still room to work.
	Reserve int64
	// SegmentRecords is how many records a segment holds, 0 for 100,000.
	SegmentRecords int
	// UnsafeNoSync leaves out every sync. For tests that show what syncing is for.
	UnsafeNoSync bool
	// ReadOnly opens beside nobody else and changes nothing on the medium.
	ReadOnly bool
	// Mirror is the folder of the second, plain copy, "" for none. It may lie on
	// another medium. It is written by Run, and read where a file is damaged or missing.
	Mirror string
	// KeepYears is how long punches are kept that every destination has settled; 0
	// is for ever.
	KeepYears int
	// Now reads the clock, to know what is older than KeepYears. Without it, and
	// while it says that the clock is unset, nothing is let go.
	Now    func() punch.Stamp
	Logger *slog.Logger // nil discards

	ahead int // zeros written ahead, 0 for growBy; tests with many files want fewer
}

// Outbox is open until Close. All methods may be called from any goroutine.
type Outbox struct {
	opt  Options
	log  *slog.Logger
	lock *os.File

	qmu     sync.Mutex // guards waiting
	queue   []*request
	leading bool // one of those who wait has the lead, see Append

	tmu     sync.Mutex // one tidies at a time
	wmu     sync.Mutex // the writer: one transaction at a time
	broken  error      // the last commit's outcome is unknown: reopen before the next
	mark    uint64     // high-water mark on the medium: every number below it may be in use
	newest  uint64     // first number of the newest segment, as the medium has it beside the mark
	company bool       // the last commit held more than one punch
	filling bool       // zeros are being written ahead
	recent  map[punch.Tap]uint64
	taps    []punch.Tap // the same, in order, to forget the oldest

	dbmu  sync.RWMutex // guards the two pointers; held for moments. Only the writer changes cur
	oldmu sync.Mutex   // one opens an old segment at a time
	cur   *segment
	old   *segment // one older segment, open for reading

	mu       sync.RWMutex // guards all below
	firsts   []uint64     // of all segments, ascending; the last is cur
	head     uint64
	headHash [32]byte
	hot      int
	hotBytes int
	month    int
	cursors  map[string]*cursor
	links    map[uint64]string
	linked   map[uint64]int64           // when, in milliseconds, of those in links
	handed   map[string]map[uint64]bool // by destination: linked punches that Next gave out, without a verdict
	boots    map[[16]byte]int64
	times    map[uint64]decision
	timeless map[[16]byte]bool // past boots whose time is nowhere in the log
	changed  chan struct{}
	closed   bool
	letGo    uint64 // retention has let go of the numbers below it
	holes    []run  // numbers whose file is missing, to be put back from the mirror
	lost     []run  // those that could not be put back now
	trimmed  time.Time

	offers offers        // what may be at a far side without a verdict
	fixes  corrections   // what of that is to be sent was corrected meanwhile
	mir    *mirror       // nil for none
	copies chan struct{} // something for the mirror
	extra  *extraCopies  // while recovering; nil otherwise

	imu      sync.Mutex
	incident string // what happened to the files, for screen and status

	opened     time.Time
	lastCommit atomic.Int64 // since opened, in nanoseconds

	work    chan struct{} // something for Run to do
	commits atomic.Pointer[func(time.Duration, int)]
}

// cursor is a destination's position in memory.
type cursor struct {
	pos    position
	parked map[uint64]parkedEntry
	again  int // how many of parked are to be sent again
}

type request struct {
	draft punch.Draft
	punch punch.Punch
	err   error
	turn  chan struct{} // holds one when it is on this one to commit what waits; closed when punch and err stand
}

const (
	defaultSegmentRecords = 100_000
	markBlock             = 1024 // how many numbers a high-water mark reserves
	recentTaps            = 512
	maxGroup              = 64 // taps committed together at most
)

// Open checks the files, mends what is broken and opens the outbox. Damage never
// keeps it from opening: the file is set aside under a dated name in the folder
// quarantine, what is whole in it is taken over, and numbering goes on above the
// high-water mark; Incident says so. It waits up to half a minute for those who only
// read. Errors: ErrInUse, ErrOtherDevice, or the file system's.
func Open(o Options) (*Outbox, error) { return openWith(o, nil) }

func openWith(o Options, extra *extraCopies) (*Outbox, error) {
	if o.SegmentRecords <= 0 {
		o.SegmentRecords = defaultSegmentRecords
	}
	if o.ahead <= 0 {
		o.ahead = growBy
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Who == nil {
		o.Who = func(punch.Badge, time.Time) (string, bool) { return "", false }
	}
	b := &Outbox{opt: o, log: o.Logger, opened: time.Now(), changed: make(chan struct{}), work: make(chan struct{}, 1), copies: make(chan struct{}, 1), extra: extra,
		recent: map[punch.Tap]uint64{}, links: map[uint64]string{}, linked: map[uint64]int64{}, handed: map[string]map[uint64]bool{}, boots: map[[16]byte]int64{}, times: map[uint64]decision{}, timeless: map[[16]byte]bool{}}
	if !o.ReadOnly {
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("outbox: %w", err)
		}
	}
	if err := b.takeLock(); err != nil {
		return nil, err
	}
	if err := b.openFiles(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// readersMost is how long a writer waits for those who only read: an export of some
// millions of punches is done by then.
const readersMost = 30 * time.Second

// takeLock keeps a second writer out, at once and with a clear word. Those who read
// beside it are waited for: a clock must not fail to start because somebody exports.
func (o *Outbox) takeLock() error {
	flags, how := os.O_RDWR|os.O_CREATE, syscall.LOCK_EX
	if o.opt.ReadOnly {
		flags, how = os.O_RDONLY, syscall.LOCK_SH
	}
	f, err := os.OpenFile(filepath.Join(o.opt.Dir, "lock"), flags, 0o600)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	for until := time.Now().Add(readersMost); errors.Is(err, syscall.EWOULDBLOCK) && how == syscall.LOCK_EX && time.Now().Before(until); {
		// Beside readers there is room for one more of them; beside a writer there is none.
		if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil {
			break
		}
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err == nil {
			time.Sleep(20 * time.Millisecond)
			err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		}
	}
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("outbox: %s: %w", o.opt.Dir, ErrInUse)
		}
		return fmt.Errorf("outbox: lock %s: %w", o.opt.Dir, err)
	}
	o.lock = f
	return nil
}

// openFiles finds or makes the newest segment and reads the state.
func (o *Outbox) openFiles() error {
	dir := o.opt.Dir
	var err error
	if o.mark, o.newest, err = readMark(dir); err != nil {
		o.say("the high-water mark could not be read (%v)", err)
	}
	if !o.opt.ReadOnly {
		if err := removeLeftovers(dir); err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		// A process that was killed may have left names that are not on the medium yet.
		if err := syncDir(dir, o.opt.UnsafeNoSync); err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		if o.opt.Mirror != "" {
			o.mir = &mirror{dir: o.opt.Mirror, device: o.opt.Device, noSync: o.opt.UnsafeNoSync}
			if err := o.mir.lookUp(); err != nil {
				o.mir.note(err)
				o.log.Error("outbox: the second copy cannot be read", "dir", o.opt.Mirror, "err", err)
			}
		}
	}
	if err := o.offers.open(dir); err != nil {
		o.log.Warn("outbox: what was under way cannot be read; a double may go unmarked", "file", offersPath(dir), "err", err)
	}
	if o.letGo, err = readLetGo(dir); err != nil {
		o.say("what retention has let go could not be read (%v)", err)
	}
	rebuilt := false
	for mends := 0; ; mends++ {
		if mends > 4 {
			return fmt.Errorf("outbox: what was mended is damaged again: %s", o.Incident())
		}
		firsts, err := listSegments(dir)
		if err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		if len(firsts) == 0 {
			if o.opt.ReadOnly && o.mark > 1 {
				return fmt.Errorf("outbox: %s: the file with the punches is missing; they come back from the second copy when the clock starts, or by: punchclock recover", dir)
			} else if o.opt.ReadOnly {
				return fmt.Errorf("outbox: %s holds no punches yet", dir)
			}
			// A folder that is not known to the one above it is gone after a cut, with all that was promised in it.
			if err := syncDir(filepath.Dir(dir), o.opt.UnsafeNoSync); err != nil {
				return fmt.Errorf("outbox: the folder of %s: %w", dir, err)
			}
			if rebuilt, err = o.rebuild(); err != nil {
				return err
			} else if rebuilt {
				continue
			}
			first, prev := uint64(1), genesis(o.opt.Device)
			if o.mark > 1 {
				first = o.mark
				prev = afterDamage(o.opt.Device, first)
				o.say("the outbox was missing; numbering goes on at %d, above all that was ever given out", first)
			}
			if err := createSegment(dir, first, carry{device: o.opt.Device, prev: prev}, o.opt); err != nil {
				return err
			}
			continue
		}
		path := segmentPath(dir, firsts[len(firsts)-1])
		torn := tornMeta(path)
		seg, err := openSegment(path, o.opt.ReadOnly, o.opt.UnsafeNoSync)
		if isDamage(err) && !o.opt.ReadOnly {
			if err := o.mend(path, err, true); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		o.cur = seg
		o.firsts = firsts
		if err := o.load(); err != nil {
			if !isDamage(err) || o.opt.ReadOnly {
				return err
			}
			o.cur = nil
			if err := errors.Join(seg.db.Close(), o.mend(path, err, true)); err != nil {
				return err
			}
			continue
		}
		if torn && !o.opt.ReadOnly {
			if err := o.rollForward(path); err != nil {
				return err
			}
		}
		if rebuilt {
			err = o.above(o.lastCopy())
		} else if o.mir != nil && o.lastCopy() > o.head {
			err = o.takeOver()
		}
		if err != nil {
			return err
		}
		ends := map[uint64]uint64{}
		for _, first := range firsts[:len(firsts)-1] {
			if first != firsts[len(firsts)-2] {
				if end, ok := o.glance(first); ok {
					ends[first] = end
					continue
				} // else a closer look, which mends it
			}
			err := o.view(first, func(tx *bolt.Tx) error {
				o.loadLinks(tx)
				ends[first] = endOf(tx, first)
				if first == firsts[len(firsts)-2] {
					o.rememberBefore(tx, firsts[len(firsts)-1])
				}
				return nil
			})
			if err != nil {
				o.say("older file %s could not be read: %v", segmentPath("", first), err)
			}
		}
		// A newest segment that is gone altogether leaves an older one behind.
		newest := o.newest
		if newest <= firsts[len(firsts)-1] || newest <= o.head { // none is, or it was brought back from the second copy
			newest = 0
		}
		if !o.opt.ReadOnly && (newest > 0 || o.mark > o.head+1+2*markBlock) {
			next := max(o.mark, o.head+1)
			o.say("punches %d to %d at most are missing: a file was removed; numbering goes on at %d", o.head+1, next-1, next)
			if err := o.jump(o.cur, next); err != nil {
				return err
			}
		}
		if len(firsts) > 1 { // a link that was undone is in an older file as it was
			if err := o.cur.db.View(func(tx *bolt.Tx) error { o.loadLinks(tx); return nil }); err != nil {
				return fmt.Errorf("outbox: %w", err)
			}
		}
		o.findHoles(ends)
		break
	}
	// What the last life had not copied yet comes first: whatever a start takes, it is not
	// to lie in one place only for longer. Run tries again, and tells of an error.
	if s := o.mirrorStats(o.head); s.On && s.Behind <= mirrorBurst {
		o.mir.note(o.copyMirror(context.Background()))
	}
	for begin := time.Now(); o.hasHoles() && time.Since(begin) < healAtOnce; { // the rest is Run's
		o.healStep()
	}
	if o.opt.ReadOnly {
		return nil
	}
	o.wake() // what the last life has left undone between its punches
	return o.raiseMark()
}

// load reads the state of the newest segment. The caller sees to dbmu and mu.
func (o *Outbox) load() error {
	err := o.cur.db.View(func(tx *bolt.Tx) error {
		for _, n := range [][]byte{bktMeta, bktHot, bktLog, bktPos, bktLinks, bktBoots} {
			if tx.Bucket(n) == nil {
				return &Damage{o.cur.path, fmt.Sprintf("bucket %s is missing", n)}
			}
		}
		meta := tx.Bucket(bktMeta)
		if b, ok := getSealed(meta, keyFormat); ok {
			if n, _ := binary.Uvarint(b); n > segmentFormat {
				return &Damage{o.cur.path, fmt.Sprintf("written by a newer punchclock (format %d, this one knows %d): install that one again", n, segmentFormat)}
			}
		}
		if b, ok := getSealed(meta, keyDevice); ok && string(b) != o.opt.Device {
			d := string(b)
			if o.opt.Device != "" {
				return fmt.Errorf("outbox: %s holds the punches of device %q, the configuration says %q: "+
					"give this device its own state_dir, or put the id back: %w", o.opt.Dir, d, o.opt.Device, ErrOtherDevice)
			}
			o.opt.Device = d
		}
		o.month = 0
		if b, ok := getSealed(meta, keyMonth); ok {
			m, _ := binary.Uvarint(b)
			o.month = int(m)
		}
		last, value := o.cur.lastSeq(tx)
		o.head = last
		if value != nil {
			o.headHash = hashRecord(last, value)
		} else if p, ok := getSealed(meta, keyPrev); ok && len(p) == 32 {
			o.headHash = [32]byte(p)
		}
		if h, ok := getSealed(meta, keyHead); ok && len(h) == 40 {
			if seq := binary.BigEndian.Uint64(h); seq >= last {
				o.head, o.headHash = seq, [32]byte(h[8:])
			}
		}
		o.hot, o.hotBytes = 0, 0
		tx.Bucket(bktHot).ForEach(func(k, v []byte) error {
			o.hot++
			o.hotBytes += 16 + len(k) + len(v)
			return nil
		})
		o.cursors = map[string]*cursor{}
		names := slices.Clone(o.opt.Destinations)
		if o.opt.ReadOnly && len(names) == 0 {
			tx.Bucket(bktPos).ForEach(func(k, _ []byte) error { names = append(names, string(k)); return nil })
		}
		whole := true // nothing among the positions is damaged, not even a name
		tx.Bucket(bktPos).ForEach(func(k, v []byte) error {
			if _, ok := unseal(k, v); !ok {
				whole = false
			}
			return nil
		})
		for _, dest := range names {
			c := &cursor{parked: map[uint64]parkedEntry{}}
			o.cursors[dest] = c
			v, ok := getSealed(tx.Bucket(bktPos), []byte(dest))
			if p, err := decodePosition(v); ok && err == nil {
				c.pos = p
			} else if whole && tx.Bucket(bktPos).Get([]byte(dest)) == nil && !hasReceipts(tx, dest) {
				c.pos = position{seq: o.head} // never here before
			} else {
				c.pos = o.earlier(dest)
				o.say("the position of destination %s is damaged: what was stored after number %d is offered again", dest, c.pos.seq)
			}
			if b := tx.Bucket(bktParked(dest)); b != nil {
				b.ForEach(func(k, v []byte) error {
					if len(k) != 8 {
						return nil
					}
					seq := binary.BigEndian.Uint64(k)
					body, ok := unseal(k, v)
					e, err := decodeParked(body)
					if !ok || err != nil { // whatever it was parked for: ask again
						if seq == 0 || seq > o.head {
							return nil
						}
						e = parkedEntry{again: true, first: time.Now(), last: time.Now()}
					}
					c.parked[seq] = e
					if e.again {
						c.again++
					}
					return nil
				})
			}
		}
		// The taps of the segment before stay known; those of this one are read anew.
		o.taps = slices.DeleteFunc(o.taps, func(t punch.Tap) bool {
			again := o.recent[t] >= o.cur.first
			if again {
				delete(o.recent, t)
			}
			return again
		})
		from := uint64(1)
		if last > recentTaps {
			from = last - recentTaps
		}
		eachRecord(tx, from, func(seq uint64, v []byte) bool {
			if p, err := parseRecord(o.opt.Device, seq, v); err == nil {
				o.remember(p.Tap, seq)
			}
			return true
		})
		o.loadLinks(tx)
		return nil
	})
	if err != nil {
		return err
	}
	// A destination that was never here before starts at the next punch: its
	// position must stand on the medium before that punch does.
	if o.opt.ReadOnly {
		return nil
	}
	var fresh []string
	o.cur.db.View(func(tx *bolt.Tx) error {
		for dest := range o.cursors {
			if _, ok := getSealed(tx.Bucket(bktPos), []byte(dest)); !ok {
				fresh = append(fresh, dest)
			}
		}
		return nil
	})
	if len(fresh) == 0 {
		return nil
	}
	err = o.cur.db.Update(func(tx *bolt.Tx) error {
		for _, dest := range fresh {
			if err := putSealed(tx.Bucket(bktPos), []byte(dest), o.cursors[dest].pos.encode()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// loadLinks reads what one segment knows of people and boots beside its records.
func (o *Outbox) loadLinks(tx *bolt.Tx) {
	for _, name := range [][]byte{bktLinks, bktBoots, bktTimes} {
		if b := tx.Bucket(name); b != nil {
			b.ForEach(func(k, v []byte) error { o.loadLink(name, k, v); return nil })
		}
	}
}

func (o *Outbox) loadLink(bucket, k, v []byte) {
	v, ok := unseal(k, v)
	if !ok {
		return
	}
	switch string(bucket) {
	case string(bktLinks):
		switch {
		case len(k) == 8 && len(v) == 0: // undone
			delete(o.links, binary.BigEndian.Uint64(k))
			delete(o.linked, binary.BigEndian.Uint64(k))
		case len(k) == 8:
			o.links[binary.BigEndian.Uint64(k)] = string(v)
		case len(k) == 9 && len(v) == 8:
			o.linked[binary.BigEndian.Uint64(k)] = int64(binary.BigEndian.Uint64(v))
		}
	case string(bktBoots):
		if len(k) == 16 && len(v) == 8 {
			o.boots[[16]byte(k)] = int64(binary.BigEndian.Uint64(v))
		}
	case string(bktTimes):
		if d, whole := decodeDecision(v); whole && len(k) == 8 {
			o.times[binary.BigEndian.Uint64(k)] = d
		}
	}
}

// glance is loadLinks and endOf of an old segment without reading its records:
// those are checked when somebody wants them, and a start is not longer with the
// years. It is not ok where anything that it needs is damaged.
func (o *Outbox) glance(first uint64) (end uint64, ok bool) {
	err := glance(segmentPath(o.opt.Dir, first), func(bucket, k, v []byte) error {
		if string(bucket) != string(bktMeta) {
			o.loadLink(bucket, k, v)
		} else if h, whole := unseal(k, v); whole && string(k) == string(keyHead) && len(h) == 40 {
			end = binary.BigEndian.Uint64(h)
		}
		return nil
	})
	return end, err == nil && end >= first-1 && end > 0
}

func (o *Outbox) remember(t punch.Tap, seq uint64) {
	if t == (punch.Tap{}) {
		return
	}
	if len(o.taps) >= recentTaps {
		delete(o.recent, o.taps[0])
		o.taps = o.taps[1:]
	}
	o.recent[t] = seq
	o.taps = append(o.taps, t)
}

// rememberBefore adds the taps before number seq, as far as there is room: a tap
// may come again after a segment has begun behind it.
func (o *Outbox) rememberBefore(tx *bolt.Tx, seq uint64) {
	later := o.taps
	o.taps = nil
	eachRecord(tx, seq-min(seq, uint64(recentTaps-len(later))), func(seq uint64, v []byte) bool {
		if p, err := parseRecord(o.opt.Device, seq, v); err == nil {
			o.remember(p.Tap, seq)
		}
		return true
	})
	o.taps = append(o.taps, later...)
}

// view runs fn in a read transaction of the segment that begins at first.
func (o *Outbox) view(first uint64, fn func(tx *bolt.Tx) error) error {
	for {
		seg, err := o.reading(first)
		if err != nil {
			return err
		}
		// Closed between the two: another reader wanted another old segment, or a
		// new one was begun. It is opened again.
		if err = seg.db.View(fn); !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			return err
		}
	}
}

// reading returns the segment that begins at first, opened for reading at least.
// Opening an old one reads all of it; nobody who stores a punch waits for that.
func (o *Outbox) reading(first uint64) (*segment, error) {
	o.dbmu.RLock()
	cur, old := o.cur, o.old
	o.dbmu.RUnlock()
	switch {
	case cur == nil:
		return nil, fmt.Errorf("outbox: %w", o.why())
	case cur.first == first:
		return cur, nil
	case old != nil && old.first == first:
		return old, nil
	}
	o.oldmu.Lock()
	defer o.oldmu.Unlock()
	o.dbmu.RLock()
	cur, old = o.cur, o.old
	o.dbmu.RUnlock()
	if cur == nil {
		return nil, fmt.Errorf("outbox: %w", o.why())
	}
	if old != nil && old.first == first {
		return old, nil
	}
	path := segmentPath(o.opt.Dir, first)
	seg, err := openSegment(path, true, false)
	if isDamage(err) && !o.opt.ReadOnly {
		if err := o.mend(path, err, false); err != nil {
			return nil, err
		}
		seg, err = openSegment(path, true, false)
	}
	o.mu.RLock()
	if errors.Is(err, fs.ErrNotExist) && first < o.letGo {
		err = errLetGo
	}
	o.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	o.dbmu.Lock()
	o.old = seg
	o.dbmu.Unlock()
	if old != nil {
		old.db.Close() // waits for those who read in it
	}
	return seg, nil
}

func (o *Outbox) why() error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return ErrClosed
	}
	return errors.New("the medium gave an error; it is tried again with the next punch")
}

// one reads a single punch.
func (o *Outbox) one(seq uint64) (p punch.Punch, err error) {
	err = o.view(o.segmentOf(seq), func(tx *bolt.Tx) error {
		v := getRecord(tx, seq)
		if v == nil {
			return fmt.Errorf("outbox: punch number %d is not here", seq)
		}
		p, err = decodeRecord(o.opt.Device, seq, v)
		return err
	})
	return p, err
}

// segmentOf returns the segment that holds seq, by its first number.
func (o *Outbox) segmentOf(seq uint64) uint64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	i, ok := slices.BinarySearch(o.firsts, seq)
	if !ok && i > 0 {
		i--
	}
	return o.firsts[min(i, len(o.firsts)-1)]
}

// Changed returns a channel that is closed when anything has changed: a punch
// came, something was settled, parked or put back. A hint only; take it before
// looking.
func (o *Outbox) Changed() <-chan struct{} {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.changed
}

func (o *Outbox) notify() {
	o.mu.Lock()
	close(o.changed)
	o.changed = make(chan struct{})
	o.mu.Unlock()
}

// SetBootTime tells at which wall time this boot began, once the clock can be
// believed. Punches of the boot that were made while the clock was unset are
// delivered with the time that follows from their uptime; their original stays.
// The first word counts: what may have been sent already is never changed.
func (o *Outbox) SetBootTime(boot [16]byte, began time.Time) error {
	o.mu.RLock()
	_, known := o.boots[boot]
	o.mu.RUnlock()
	if known {
		return nil
	}
	ms := began.UnixMilli()
	err := o.write(func(tx *bolt.Tx) error {
		if tx.Bucket(bktBoots).Get(boot[:]) != nil {
			return nil
		}
		return putSealed(tx.Bucket(bktBoots), boot[:], binary.BigEndian.AppendUint64(nil, uint64(ms)))
	})
	if err != nil {
		return fmt.Errorf("outbox: boot time: %w", err)
	}
	o.mu.Lock()
	if _, ok := o.boots[boot]; !ok {
		o.boots[boot] = ms
	}
	o.mu.Unlock()
	o.notify()
	return nil
}

// Device returns the device id.
func (o *Outbox) Device() string { return o.opt.Device }

// Close waits for the commit under way and closes the files. It may be repeated.
func (o *Outbox) Close() error {
	o.wmu.Lock()
	defer o.wmu.Unlock()
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil
	}
	o.closed = true
	o.mu.Unlock()
	errs := []error{o.offers.close()}
	if o.mir != nil {
		o.mir.mu.Lock()
		errs = append(errs, o.mir.close())
		o.mir.mu.Unlock()
	}
	o.oldmu.Lock()
	defer o.oldmu.Unlock()
	o.dbmu.Lock()
	cur, old := o.cur, o.old
	o.cur, o.old = nil, nil
	o.dbmu.Unlock()
	if cur != nil && !o.opt.ReadOnly && o.broken == nil {
		if err := cur.keepFreelist(); err != nil {
			o.log.Warn("outbox: the next start takes a little longer", "err", err)
		}
	}
	for _, s := range []*segment{cur, old} {
		if s != nil {
			errs = append(errs, s.db.Close())
		}
	}
	if o.lock != nil {
		errs = append(errs, o.lock.Close())
	}
	return errors.Join(errs...)
}

var _ io.Closer = (*Outbox)(nil)
