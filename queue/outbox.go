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
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

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
	// Who looks a badge up in the roster, for punches made before it was known.
	// Nil means nobody is known.
	Who func(punch.Badge) (employee string, ok bool)
	// Reserve is how many bytes must stay free on the file system: an append that
	// finds less is refused with ErrFull while there is still room to work.
	Reserve int64
	// SegmentRecords is how many records a segment holds, 0 for 100,000.
	SegmentRecords int
	// UnsafeNoSync leaves out every sync. For tests that show what syncing is for.
	UnsafeNoSync bool
	// ReadOnly opens beside nobody else and changes nothing on the medium.
	ReadOnly bool
	Logger   *slog.Logger // nil discards

	ahead int // zeros written ahead, 0 for growBy; tests with many files want fewer
}

// Outbox is open until Close. All methods may be called from any goroutine.
type Outbox struct {
	opt  Options
	log  *slog.Logger
	lock *os.File

	qmu   sync.Mutex // guards waiting
	queue []*request

	wmu    sync.Mutex // the writer: one transaction at a time
	broken error      // the last commit's outcome is unknown: reopen before the next
	mark   uint64     // high-water mark on the medium: every number below it may be in use
	recent map[punch.Tap]uint64
	taps   []punch.Tap // the same, in order, to forget the oldest

	dbmu sync.RWMutex // guards cur and old against being replaced under a reader
	cur  *segment
	old  *segment // one older segment, open for reading

	mu       sync.RWMutex // guards all below
	firsts   []uint64     // of all segments, ascending; the last is cur
	head     uint64
	headHash [32]byte
	hot      int
	hotBytes int
	month    int
	cursors  map[string]*cursor
	links    map[uint64]string
	boots    map[[16]byte]int64
	changed  chan struct{}
	closed   bool

	imu      sync.Mutex
	incident string // what happened to the files, for screen and status

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
	done  chan struct{}
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
// high-water mark; Incident says so. Errors: ErrInUse, ErrOtherDevice, or the
// file system's.
func Open(o Options) (*Outbox, error) {
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
		o.Who = func(punch.Badge) (string, bool) { return "", false }
	}
	b := &Outbox{opt: o, log: o.Logger, changed: make(chan struct{}), work: make(chan struct{}, 1),
		recent: map[punch.Tap]uint64{}, links: map[uint64]string{}, boots: map[[16]byte]int64{}}
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

// takeLock keeps a second process out, at once and with a clear word.
func (o *Outbox) takeLock() error {
	flags, how := os.O_RDWR|os.O_CREATE, syscall.LOCK_EX
	if o.opt.ReadOnly {
		flags, how = os.O_RDONLY, syscall.LOCK_SH
	}
	f, err := os.OpenFile(filepath.Join(o.opt.Dir, "lock"), flags, 0o600)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
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
	if o.mark, err = readMark(dir); err != nil {
		o.say("the high-water mark could not be read (%v)", err)
	}
	if !o.opt.ReadOnly {
		if err := removeLeftovers(dir); err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
	}
	for mends := 0; ; mends++ {
		if mends > 4 {
			return fmt.Errorf("outbox: what was mended is damaged again: %s", o.Incident())
		}
		firsts, err := listSegments(dir)
		if err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		if len(firsts) == 0 {
			if o.opt.ReadOnly {
				return fmt.Errorf("outbox: %s holds no punches yet", dir)
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
		for _, first := range firsts[:len(firsts)-1] {
			if err := o.view(first, func(tx *bolt.Tx) error { o.loadLinks(tx); return nil }); err != nil {
				o.say("older file %s could not be read: %v", segmentPath("", first), err)
			}
		}
		// A newest segment that is gone altogether leaves an older one behind.
		if !o.opt.ReadOnly && o.mark > o.head+1+2*markBlock {
			o.say("punches %d to %d at most are missing: a file was removed; numbering goes on at %d", o.head+1, o.mark-1, o.mark)
			if err := o.jump(o.mark); err != nil {
				return err
			}
		}
		break
	}
	if o.opt.ReadOnly {
		return nil
	}
	return o.raiseMark()
}

func (o *Outbox) say(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	o.log.Warn("outbox: " + s)
	o.imu.Lock()
	defer o.imu.Unlock()
	if o.incident != "" {
		s = o.incident + "; " + s
	}
	o.incident = s
}

// mend sets a damaged segment aside and builds a new one of what is whole in it.
func (o *Outbox) mend(path string, why error, newest bool) error {
	first, _ := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), segmentSuffix), 10, 64)
	s, err := salvage(path, o.opt.Device)
	if err != nil {
		return fmt.Errorf("outbox: salvage %s: %w", path, err)
	}
	to, err := quarantine(path, time.Now())
	if err != nil {
		return fmt.Errorf("outbox: set %s aside: %w", path, err)
	}
	for seq := range s.records {
		if seq < first {
			delete(s.records, seq)
		}
	}
	c := carry{device: o.opt.Device, prev: s.startOf(o.opt.Device, first), pos: s.pos, parked: s.parked,
		records: s.records, links: s.links, boots: s.boots}
	for _, dest := range o.opt.Destinations {
		if _, ok := c.pos[dest]; !ok {
			if newest {
				c.pos[dest] = o.earlier(dest)
			}
		}
	}
	if err := createSegment(o.opt.Dir, first, c, o.opt); err != nil {
		return err
	}
	o.say("%v; set aside as %s, %d punches taken over from it", why, filepath.Join("quarantine", filepath.Base(to)), len(s.records))
	if !newest {
		return nil
	}
	var last uint64 = first - 1
	for seq := range s.records {
		last = max(last, seq)
	}
	next := max(last+1, o.mark)
	seg, err := openSegment(path, false, o.opt.UnsafeNoSync)
	if err != nil {
		return err
	}
	o.cur = seg
	err = o.jump(next)
	o.cur = nil
	if cerr := seg.db.Close(); err == nil {
		err = cerr
	}
	return err
}

// rollForward takes over the records that lie behind the head in pages of their
// own, as far as the chain leads to them: where a meta page is torn, bbolt shows
// the state before a commit that may have been acknowledged.
func (o *Outbox) rollForward(path string) error {
	s, err := salvage(path, o.opt.Device)
	if err != nil {
		return fmt.Errorf("outbox: %s: %w", path, err)
	}
	more := map[uint64][]byte{}
	for head, hash := o.head, o.headHash; ; {
		v, ok := s.records[head+1]
		if !ok {
			break
		}
		p, err := decodeRecord(o.opt.Device, head+1, v)
		if err != nil || p.PrevHash != hash {
			break
		}
		head, hash = head+1, p.Hash
		more[head] = v
	}
	o.say("%s: a meta page was torn; %d punches found behind the last whole state", filepath.Base(path), len(more))
	err = o.cur.db.Update(func(tx *bolt.Tx) error {
		if err := moveHot(tx); err != nil {
			return err
		}
		return putRecords(tx, more)
	})
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return o.load()
}

// jump moves the head so that the next record gets the number next.
func (o *Outbox) jump(next uint64) error {
	h := afterDamage(o.opt.Device, next)
	err := o.cur.db.Update(func(tx *bolt.Tx) error {
		return putSealed(tx.Bucket(bktMeta), keyHead, encodeHead(next-1, h))
	})
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	o.head, o.headHash = next-1, h
	return nil
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
			} else if whole && tx.Bucket(bktPos).Get([]byte(dest)) == nil && tx.Bucket(bktReceipts(dest)) == nil {
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
		clear(o.recent)
		o.taps = o.taps[:0]
		from := uint64(1)
		if last > recentTaps {
			from = last - recentTaps
		}
		eachRecord(tx, from, func(seq uint64, v []byte) bool {
			if p, err := decodeRecord(o.opt.Device, seq, v); err == nil {
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

// earlier returns a position that a destination had for certain: the one that the
// segment before was left with. Better sent twice than not at all.
func (o *Outbox) earlier(dest string) (p position) {
	firsts, err := listSegments(o.opt.Dir)
	if err != nil || len(firsts) == 0 {
		return position{}
	}
	p.seq = firsts[0] - 1
	for i := len(firsts) - 1; i >= 0; i-- {
		if o.cur != nil && firsts[i] >= o.cur.first {
			continue
		}
		seg, err := openSegment(segmentPath(o.opt.Dir, firsts[i]), true, false)
		if err != nil {
			continue
		}
		found := false
		seg.db.View(func(tx *bolt.Tx) error {
			if b := tx.Bucket(bktPos); b != nil {
				if v, ok := getSealed(b, []byte(dest)); ok {
					if q, err := decodePosition(v); err == nil {
						p, found = q, true
					}
				}
			}
			return nil
		})
		seg.db.Close()
		if found {
			break
		}
	}
	return p
}

// loadLinks reads what one segment knows of people and boots beside its records.
func (o *Outbox) loadLinks(tx *bolt.Tx) {
	if b := tx.Bucket(bktLinks); b != nil {
		b.ForEach(func(k, v []byte) error {
			if v, ok := unseal(k, v); ok && len(k) == 8 {
				o.links[binary.BigEndian.Uint64(k)] = string(v)
			}
			return nil
		})
	}
	if b := tx.Bucket(bktBoots); b != nil {
		b.ForEach(func(k, v []byte) error {
			if v, ok := unseal(k, v); ok && len(k) == 16 && len(v) == 8 {
				o.boots[[16]byte(k)] = int64(binary.BigEndian.Uint64(v))
			}
			return nil
		})
	}
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

// view runs fn in a read transaction of the segment that begins at first.
func (o *Outbox) view(first uint64, fn func(tx *bolt.Tx) error) error {
	o.dbmu.RLock()
	if o.cur == nil {
		o.dbmu.RUnlock()
		return fmt.Errorf("outbox: %w", o.why())
	}
	if o.cur.first == first {
		defer o.dbmu.RUnlock()
		return o.cur.db.View(fn)
	}
	if o.old != nil && o.old.first == first {
		defer o.dbmu.RUnlock()
		return o.old.db.View(fn)
	}
	o.dbmu.RUnlock()
	o.dbmu.Lock()
	defer o.dbmu.Unlock()
	if o.cur == nil {
		return fmt.Errorf("outbox: %w", o.why())
	}
	if o.old == nil || o.old.first != first {
		path := segmentPath(o.opt.Dir, first)
		seg, err := openSegment(path, true, false)
		if isDamage(err) && !o.opt.ReadOnly {
			if err := o.mend(path, err, false); err != nil {
				return err
			}
			seg, err = openSegment(path, true, false)
		}
		if err != nil {
			return err
		}
		if o.old != nil {
			o.old.db.Close()
		}
		o.old = seg
	}
	return o.old.db.View(fn)
}

func (o *Outbox) why() error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return ErrClosed
	}
	return errors.New("the medium gave an error; it is tried again with the next punch")
}

// Append stores a punch and returns it with its number, id and hash once it is on
// the medium. It blocks for the commit, two syncs of the medium; appends made at
// the same time share one. After an error the outcome is unknown: appending the
// same Tap again is always safe, and yields the record that is there or makes it.
func (o *Outbox) Append(d punch.Draft) (punch.Punch, error) {
	r := &request{draft: d, done: make(chan struct{})}
	o.qmu.Lock()
	o.queue = append(o.queue, r)
	o.qmu.Unlock()

	o.wmu.Lock()
	for {
		select {
		case <-r.done:
			o.wmu.Unlock()
			return r.punch, r.err
		default:
		}
		o.qmu.Lock()
		n := min(len(o.queue), maxGroup)
		group := o.queue[:n:n]
		o.queue = o.queue[n:]
		if len(o.queue) == 0 {
			o.queue = nil
		}
		o.qmu.Unlock()
		o.commit(group)
	}
}

// commit stores a group in one transaction. The caller holds wmu.
func (o *Outbox) commit(group []*request) {
	begin := time.Now()
	var fresh []*request
	err := o.ready()
	seen := map[punch.Tap]*request{}
	var twins []*request
	for _, r := range group {
		if err != nil {
			break
		}
		if seq, ok := o.recent[r.draft.Tap]; ok {
			r.punch, r.err = o.one(seq)
			close(r.done)
			continue
		}
		if r.draft.Tap != (punch.Tap{}) {
			if seen[r.draft.Tap] != nil {
				twins = append(twins, r)
				continue
			}
			seen[r.draft.Tap] = r
		}
		fresh = append(fresh, r)
	}
	if err != nil {
		for _, r := range group {
			r.err = fmt.Errorf("outbox: append: %w", err)
			close(r.done)
		}
		return
	}
	o.mu.RLock()
	seq, prev := o.head, o.headHash
	hot, hotBytes := o.hot, o.hotBytes
	o.mu.RUnlock()

	type item struct {
		r     *request
		seq   uint64
		value []byte
	}
	var items []item
	bytes := 0
	for _, r := range fresh {
		v, err := encodeRecord(seq+1, prev, &r.draft)
		if err != nil {
			r.err = fmt.Errorf("outbox: append: %w", err)
			close(r.done)
			continue
		}
		seq++
		prev = hashRecord(seq, v)
		items = append(items, item{r, seq, v})
		bytes += 16 + 8 + len(v)
	}
	if len(items) > 0 {
		move := hot+len(items) > hotMax || 16+hotBytes+bytes > inlineMax
		toLog := len(items) > hotMax || 16+bytes > inlineMax
		err = o.update(func(tx *bolt.Tx) error {
			if move && hot > 0 {
				if err := moveHot(tx); err != nil {
					return err
				}
			}
			b := tx.Bucket(bktHot)
			if toLog {
				b = tx.Bucket(bktLog)
				b.FillPercent = 1
			}
			for _, it := range items {
				if err := b.Put(seqKey(it.seq), it.value); err != nil {
					return err
				}
			}
			return putSealed(tx.Bucket(bktMeta), keyHead, encodeHead(seq, prev))
		})
		if err == nil {
			if move {
				hot, hotBytes = 0, 0
			}
			if !toLog {
				hot, hotBytes = hot+len(items), hotBytes+bytes
			}
			o.mu.Lock()
			o.head, o.headHash, o.hot, o.hotBytes = seq, prev, hot, hotBytes
			o.mu.Unlock()
		}
	}
	for _, it := range items {
		if err != nil {
			it.r.err = fmt.Errorf("outbox: append: the outcome is unknown: %w", err)
		} else {
			it.r.punch, it.r.err = decodeRecord(o.opt.Device, it.seq, it.value)
			o.remember(it.r.draft.Tap, it.seq)
		}
		close(it.r.done)
	}
	for _, r := range twins {
		first := seen[r.draft.Tap]
		r.punch, r.err = first.punch, first.err
		close(r.done)
	}
	if err == nil && len(items) > 0 {
		if fn := o.commits.Load(); fn != nil {
			(*fn)(time.Since(begin), len(items))
		}
		o.notify()
		if hot >= hotMax || seq+markBlock/4 >= o.mark {
			o.wake()
		}
	}
}

// OnCommit sets a function that hears how long each commit took and how many
// punches it held. For metrics; it must not block.
func (o *Outbox) OnCommit(fn func(took time.Duration, punches int)) { o.commits.Store(&fn) }

// ready reopens after an unknown outcome, and sees to space and numbers. The
// caller holds wmu.
func (o *Outbox) ready() error {
	o.mu.RLock()
	closed := o.closed
	o.mu.RUnlock()
	switch {
	case closed:
		return ErrClosed
	case o.opt.ReadOnly:
		return errors.New("opened for reading only")
	}
	if err := o.space(); err != nil {
		return err
	}
	if o.broken != nil {
		if err := o.reopen(); err != nil {
			return fmt.Errorf("the medium is still in trouble: %w", err)
		}
	}
	o.mu.RLock()
	head := o.head
	o.mu.RUnlock()
	if head+2+maxGroup >= o.mark {
		return o.raiseMark()
	}
	return nil
}

// space refuses in good time, while there is still room to work in.
func (o *Outbox) space() error {
	if o.opt.Reserve <= 0 {
		return nil
	}
	free, _, err := diskSpace(o.opt.Dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", o.opt.Dir, err)
	}
	if free < uint64(o.opt.Reserve) {
		return fmt.Errorf("%w: %d MB free on the file system of %s, %d MB are kept in reserve: make room", ErrFull, free>>20, o.opt.Dir, o.opt.Reserve>>20)
	}
	return nil
}

func diskSpace(dir string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// update runs fn in a write transaction. A failure of the commit itself leaves an
// unknown outcome: nothing more is written until the file was read anew. The
// caller holds wmu.
func (o *Outbox) update(fn func(tx *bolt.Tx) error) (err error) {
	var ours error
	o.dbmu.RLock()
	defer o.dbmu.RUnlock()
	if o.cur == nil {
		return o.broken
	}
	defer func() {
		if r := recover(); r != nil { // bbolt panics where a page is not what it should be
			err = fmt.Errorf("the outbox file is damaged: %v", r)
		}
		if err != nil && ours == nil {
			o.broken = err
		}
	}()
	return o.cur.db.Update(func(tx *bolt.Tx) error {
		ours = fn(tx)
		return ours
	})
}

// write is update for what is not an append: it takes the writer's lock.
func (o *Outbox) write(fn func(tx *bolt.Tx) error) error {
	o.wmu.Lock()
	defer o.wmu.Unlock()
	if err := o.ready(); err != nil && !errors.Is(err, ErrFull) { // a receipt needs no room that a punch would
		return err
	}
	return o.update(fn)
}

// reopen reads the file anew after a commit whose outcome is unknown. Pages that
// a failed sync has left in memory only are written again first, data before meta
// pages, so that what we then read is what the medium holds.
func (o *Outbox) reopen() error {
	o.dbmu.Lock()
	defer o.dbmu.Unlock()
	if o.cur != nil {
		o.cur.db.Close()
		o.cur = nil
	}
	path := segmentPath(o.opt.Dir, o.firsts[len(o.firsts)-1]) // only the writer changes firsts
	if err := rewrite(path); err != nil {
		return err
	}
	seg, err := openSegment(path, false, o.opt.UnsafeNoSync)
	if isDamage(err) {
		if err = o.mend(path, err, true); err == nil {
			seg, err = openSegment(path, false, o.opt.UnsafeNoSync)
		}
	}
	if err != nil {
		return err
	}
	o.cur = seg
	o.mu.Lock()
	err = o.load()
	o.mu.Unlock()
	if err != nil {
		o.cur.db.Close()
		o.cur = nil
		if isDamage(err) { // the next punch comes this way again, and finds it mended
			err = errors.Join(err, o.mend(path, err, true))
		}
		return err
	}
	was := o.broken
	o.broken = nil
	o.log.Info("outbox: recovered", "after", was)
	o.notify()
	return nil
}

// rewrite writes every page of a file again, the meta pages last, and syncs.
// After a failed sync the kernel takes the pages for clean although the medium
// never got them.
func rewrite(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := openPages(path, f)
	if err != nil {
		if isDamage(err) {
			return nil // openSegment will say so, and mend it
		}
		return err
	}
	buf := make([]byte, 1<<20)
	end := int64(p.pages) * p.pageSize
	copyRange := func(from, to int64) error {
		for from < to {
			n := min(int64(len(buf)), to-from)
			if _, err := f.ReadAt(buf[:n], from); err != nil {
				return err
			}
			if _, err := f.WriteAt(buf[:n], from); err != nil {
				return err
			}
			from += n
		}
		return f.Sync()
	}
	if err := copyRange(2*p.pageSize, end); err != nil {
		return fmt.Errorf("%s: write again: %w", path, err)
	}
	return copyRange(0, 2*p.pageSize)
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

func (o *Outbox) wake() {
	select {
	case o.work <- struct{}{}:
	default:
	}
}

// Run does what can be done between punches: it empties the hot bucket, writes
// zeros ahead, raises the high-water mark, and begins a new segment when it is
// time. It blocks until ctx is done. Without it everything still works, a little
// slower.
func (o *Outbox) Run(ctx context.Context) error {
	const quiet = 100 * time.Millisecond
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.work:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(quiet):
		}
		if err := o.Tidy(); err != nil {
			o.log.Warn("outbox: between punches", "err", err)
		}
	}
}

// Tidy is one round of what Run does. It may be repeated.
func (o *Outbox) Tidy() error {
	o.wmu.Lock()
	defer o.wmu.Unlock()
	if err := o.ready(); err != nil {
		return err
	}
	o.mu.RLock()
	hot, head, month := o.hot, o.head, o.month
	first := o.cur.first
	o.mu.RUnlock()
	if hot >= hotMax {
		if err := o.update(moveHot); err != nil {
			return err
		}
		o.mu.Lock()
		o.hot, o.hotBytes = 0, 0
		o.mu.Unlock()
	}
	if head+markBlock/2 >= o.mark {
		if err := o.raiseMark(); err != nil {
			return err
		}
	}
	used := int64(0)
	if err := o.cur.db.View(func(tx *bolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		return err
	}
	if size := fileSize(o.cur.path); size-used < int64(o.opt.ahead/4) {
		if err := writeAhead(o.cur.path, o.opt.ahead, o.opt.UnsafeNoSync); err != nil {
			return fmt.Errorf("outbox: write ahead: %w", err)
		}
	}
	now := 0
	if head >= first {
		if p, err := o.one(head); err == nil && p.Stamp.Clock != punch.Unset {
			now = monthOf(p.Stamp.Wall)
		}
	}
	switch {
	case head+1-first >= uint64(o.opt.SegmentRecords) && head >= first:
		return o.roll(now)
	case now == 0 || head < first:
	case month == 0: // the first record that knows the month names the segment's
		if err := o.update(func(tx *bolt.Tx) error {
			return putSealed(tx.Bucket(bktMeta), keyMonth, binary.AppendUvarint(nil, uint64(now)))
		}); err != nil {
			return err
		}
		o.mu.Lock()
		o.month = now
		o.mu.Unlock()
	case now > month:
		return o.roll(now)
	}
	return nil
}

func monthOf(t time.Time) int { return t.Year()*12 + int(t.Month()) - 1 }

// roll begins a new segment behind the head. The caller holds wmu.
func (o *Outbox) roll(month int) error {
	o.mu.RLock()
	c := carry{device: o.opt.Device, prev: o.headHash, month: month, pos: map[string]position{}, parked: map[string]map[uint64][]byte{}}
	next := o.head + 1
	for dest, cur := range o.cursors {
		c.pos[dest] = cur.pos.clone()
		c.parked[dest] = map[uint64][]byte{}
		for seq, e := range cur.parked {
			c.parked[dest][seq] = e.encode()
		}
	}
	o.mu.RUnlock()
	// What a destination that is not configured today has left is carried too.
	err := o.cur.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bktPos).ForEach(func(k, v []byte) error {
			dest := string(k)
			if _, ok := c.pos[dest]; ok {
				return nil
			}
			v, ok := unseal(k, v)
			p, err := decodePosition(v)
			if !ok || err != nil {
				return nil
			}
			c.pos[dest], c.parked[dest] = p, map[uint64][]byte{}
			if b := tx.Bucket(bktParked(dest)); b != nil {
				return b.ForEach(func(k, v []byte) error {
					if v, ok := unseal(k, v); ok && len(k) == 8 {
						c.parked[dest][binary.BigEndian.Uint64(k)] = append([]byte(nil), v...)
					}
					return nil
				})
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if err := createSegment(o.opt.Dir, next, c, o.opt); err != nil {
		return err
	}
	seg, err := openSegment(segmentPath(o.opt.Dir, next), false, o.opt.UnsafeNoSync)
	if err != nil {
		return err
	}
	o.dbmu.Lock()
	was := o.cur
	o.cur = seg
	o.dbmu.Unlock()
	o.mu.Lock()
	o.firsts = append(o.firsts, next)
	o.hot, o.hotBytes, o.month = 0, 0, month
	o.mu.Unlock()
	o.log.Info("outbox: new segment", "first", next)
	return was.db.Close()
}

// The high-water mark: every sequence number below it may have been given out. It
// lives in a file of its own, so that a lost or emptied database never makes the
// clock give a number twice: a punch under a used id would be taken by the far
// side for one that it has already.
func readMark(dir string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(dir, "high-water"))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var n uint64
	if _, err := fmt.Sscanf(string(b), "punchclock high-water %d\n", &n); err != nil {
		return 0, fmt.Errorf("high-water: not what was written: %q", b[:min(len(b), 40)])
	}
	return n, nil
}

// raiseMark reserves the next block of numbers.
func (o *Outbox) raiseMark() error {
	o.mu.RLock()
	head := o.head
	o.mu.RUnlock()
	if o.mark > head+1+markBlock/2 {
		return nil
	}
	mark := (head + 2*markBlock) / markBlock * markBlock
	name := filepath.Join(o.opt.Dir, "high-water")
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "punchclock high-water %d\n", mark)
		if err == nil && !o.opt.UnsafeNoSync {
			err = f.Sync()
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err == nil {
		err = syncDir(o.opt.Dir, o.opt.UnsafeNoSync)
	}
	if err != nil {
		return fmt.Errorf("outbox: high-water mark: %w", err)
	}
	o.mark = mark
	return nil
}

// Writable reports whether an append would succeed now: the writer is not stuck,
// the file system has room and can be written to, and the last commit's outcome
// is known. It writes nothing unless a commit has failed before; then it tries
// the medium. It waits for a commit that is under way, at most until ctx is done.
func (o *Outbox) Writable(ctx context.Context) error {
	got := make(chan error, 1)
	go func() {
		o.wmu.Lock()
		defer o.wmu.Unlock()
		got <- o.writable()
	}()
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		return fmt.Errorf("outbox: a commit has not come back: %w", ctx.Err())
	}
}

func (o *Outbox) writable() error {
	was := o.broken
	if err := o.ready(); err != nil {
		return err
	}
	if was != nil { // reopened just now: show that a commit works again
		return o.update(func(tx *bolt.Tx) error {
			o.mu.RLock()
			defer o.mu.RUnlock()
			return putSealed(tx.Bucket(bktMeta), keyHead, encodeHead(o.head, o.headHash))
		})
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(o.opt.Dir, &st); err != nil {
		return err
	}
	if st.Flags&1 != 0 { // ST_RDONLY
		return fmt.Errorf("outbox: the file system of %s is read-only", o.opt.Dir)
	}
	return nil
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

// Incident says in words what happened to the files since Open, "" if nothing.
func (o *Outbox) Incident() string {
	o.imu.Lock()
	defer o.imu.Unlock()
	return o.incident
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
	o.dbmu.Lock()
	defer o.dbmu.Unlock()
	var errs []error
	for _, s := range []*segment{o.cur, o.old} {
		if s != nil {
			errs = append(errs, s.db.Close())
		}
	}
	o.cur, o.old = nil, nil
	if o.lock != nil {
		errs = append(errs, o.lock.Close())
	}
	return errors.Join(errs...)
}

var _ io.Closer = (*Outbox)(nil)
