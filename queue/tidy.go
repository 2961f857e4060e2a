package queue

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

func (o *Outbox) wake() {
	select {
	case o.work <- struct{}{}:
	default:
	}
}

// Run does what can be done between punches: it empties the hot bucket, writes
// zeros ahead, raises the high-water mark, begins a new segment when it is time,
// lets go of what retention lets go, and keeps the mirror. It blocks until ctx is done. Without it everything still works, a little
// slower.
func (o *Outbox) Run(ctx context.Context) error {
	const quiet = 100 * time.Millisecond
	var mirror sync.WaitGroup
	defer mirror.Wait()
	if o.mir != nil {
		mirror.Go(func() { o.runMirror(ctx) })
	}
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
	if err := o.tidy(); err != nil {
		return err
	}
	return o.trim()
}

func (o *Outbox) tidy() error {
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
		if err := writeAhead(o.cur.path, max(PageSize, o.opt.ahead/4), o.opt.UnsafeNoSync); err != nil {
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
		o.broken = err // it may have its name by now: see which is the newest before anything is written
		return err
	}
	seg, err := openSegment(segmentPath(o.opt.Dir, next), false, o.opt.UnsafeNoSync)
	if err != nil {
		o.broken = err
		return err
	}
	was := o.setCurrent(seg)
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
	err := putFile(filepath.Join(o.opt.Dir, "high-water"), fmt.Sprintf("punchclock high-water %d\n", mark), o.opt.UnsafeNoSync)
	if err != nil {
		return fmt.Errorf("outbox: high-water mark: %w", err)
	}
	o.mark = mark
	return nil
}
