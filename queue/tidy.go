package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
// lets go of what retention lets go, and keeps the mirror. It blocks until ctx is
// done. Without it everything still works, a little slower.
func (o *Outbox) Run(ctx context.Context) error {
	var mirror sync.WaitGroup
	defer mirror.Wait()
	if o.mir != nil {
		mirror.Go(func() { o.runMirror(ctx) })
		mirror.Go(func() { o.heal(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.work:
		}
		// In a burst the next person would only wait behind it.
		for since := time.Now(); ; {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(quiet):
			}
			if time.Since(o.opened)-time.Duration(o.lastCommit.Load()) >= quiet || time.Since(since) >= quietAtMost {
				break
			}
		}
		err := o.tidy(ctx)
		if err == nil {
			err = o.trim()
		}
		if err != nil {
			o.log.Warn("outbox: between punches", "err", err)
		}
	}
}

const (
	quiet       = 100 * time.Millisecond // without a punch, before anything is done between them
	quietAtMost = 2 * time.Second        // is waited for that
)

// Tidy is one round of what Run does. It may be repeated.
func (o *Outbox) Tidy() error {
	if err := o.tidy(context.Background()); err != nil {
		return err
	}
	return o.trim()
}

// tidy is Tidy without retention. It stops between two steps when ctx is done.
func (o *Outbox) tidy(ctx context.Context) error {
	o.tmu.Lock()
	defer o.tmu.Unlock()
	if err := o.step(o.emptyHot); err != nil {
		return err
	}
	if err := o.rollWhenDue(ctx); err != nil {
		return err
	}
	for again := true; again && ctx.Err() == nil; {
		if err := o.step(func() (err error) { again, err = o.aheadStep(); return err }); err != nil {
			return err
		}
	}
	return nil
}

// step runs a step as the writer, behind the punches that wait. It is short: a
// commit's time, or that of a few.
func (o *Outbox) step(fn func() error) error {
	o.letTapsGo()
	o.wmu.Lock()
	defer o.wmu.Unlock()
	if err := o.ready(); err != nil {
		return err
	}
	return fn()
}

// letTapsGo waits a moment while punches are being stored.
func (o *Outbox) letTapsGo() {
	for range 50 {
		o.qmu.Lock()
		busy := o.leading
		o.qmu.Unlock()
		if !busy {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// emptyHot moves the hot bucket into the log, and raises the high-water mark.
func (o *Outbox) emptyHot() error {
	o.mu.RLock()
	hot, head := o.hot, o.head
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
		return o.raiseMark()
	}
	return nil
}

// rollWhenDue begins a new segment when the present one is full or its month over.
func (o *Outbox) rollWhenDue(ctx context.Context) error {
	due := false
	if err := o.step(func() (err error) { _, due, err = o.rollDue(); return err }); err != nil || !due {
		return err
	}
	// What takes long is done while punches go on.
	next := filepath.Join(o.opt.Dir, "next"+segmentSuffix+".new")
	err := makeEmpty(next, o.opt, func() error { o.letTapsGo(); return ctx.Err() })
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("outbox: prepare the next file: %w", err)
	}
	err = o.step(func() error {
		month, due, err := o.rollDue()
		if err != nil || !due {
			return errors.Join(err, os.Remove(next))
		}
		return o.roll(next, month)
	})
	if err != nil {
		os.Remove(next)
		return err
	}
	return o.step(o.raiseMark)
}

// rollDue reports whether it is time for a new segment, and of which month it is,
// 0 where nobody knows. The caller holds wmu.
func (o *Outbox) rollDue() (now int, due bool, err error) {
	o.mu.RLock()
	head, month, first := o.head, o.month, o.cur.first
	o.mu.RUnlock()
	if head < first {
		return 0, false, nil
	}
	if p, err := o.one(head); err == nil && p.Stamp.Clock != punch.Unset {
		now = monthOf(p.Stamp.Wall)
	}
	if head+1-first >= uint64(o.opt.SegmentRecords) {
		return now, true, nil
	}
	if now == 0 || month != 0 {
		return now, now > month, nil
	}
	// The first record that knows the month names the segment's.
	if err := o.update(func(tx *bolt.Tx) error {
		return putSealed(tx.Bucket(bktMeta), keyMonth, binary.AppendUvarint(nil, uint64(now)))
	}); err != nil {
		return 0, false, err
	}
	o.mu.Lock()
	o.month = now
	o.mu.Unlock()
	return now, false, nil
}

// aheadStep writes zeros behind the newest segment, a little at a time, once half
// of them are used up and until all are there again.
func (o *Outbox) aheadStep() (again bool, err error) {
	used := int64(0)
	if err := o.cur.db.View(func(tx *bolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		return false, err
	}
	left, want := fileSize(o.cur.path)-used, int64(o.opt.ahead)
	if o.filling = left < want && (o.filling || left < want/2); !o.filling {
		return false, nil
	}
	if err := writeAhead(o.cur.path, min(stepAhead, max(PageSize, o.opt.ahead/4)), o.opt.UnsafeNoSync); err != nil {
		return false, fmt.Errorf("outbox: write ahead: %w", err)
	}
	return true, nil
}

func monthOf(t time.Time) int { return t.Year()*12 + int(t.Month()) - 1 }

// roll makes a new segment behind the head of the empty file next. The caller
// holds wmu.
func (o *Outbox) roll(next string, month int) error {
	o.mu.RLock()
	c := carry{device: o.opt.Device, prev: o.headHash, month: month, pos: map[string]position{}, parked: map[string]map[uint64][]byte{}}
	first := o.head + 1
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
	if err := fillSegment(o.opt.Dir, next, first, c, o.opt); err != nil {
		o.broken = err // it may have its name by now: see which is the newest before anything is written
		return err
	}
	seg, err := openSegment(segmentPath(o.opt.Dir, first), false, o.opt.UnsafeNoSync)
	if err != nil {
		o.broken = err
		return err
	}
	was := o.setCurrent(seg)
	o.mu.Lock()
	o.firsts = append(o.firsts, first)
	o.hot, o.hotBytes, o.month = 0, 0, month
	o.mu.Unlock()
	o.log.Info("outbox: new segment", "first", first)
	return was.db.Close()
}

// The high-water mark: every sequence number below it may have been given out. It
// lives in a file of its own, so that a lost or emptied database never makes the
// clock give a number twice: a punch under a used id would be taken by the far
// side for one that it has already. Beside it stands the first number of the newest
// segment, so that one which is taken away is missed, however few punches it held:
//
//	punchclock high-water 2048
//	newest file 1001
func readMark(dir string) (mark, newest uint64, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "high-water"))
	if os.IsNotExist(err) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscanf(string(b), "punchclock high-water %d\n", &mark); err != nil {
		return 0, 0, fmt.Errorf("high-water: not what was written: %q", b[:min(len(b), 40)])
	}
	_, rest, _ := strings.Cut(string(b), "\n") // an older punchclock wrote no more
	fmt.Sscanf(rest, "newest file %d\n", &newest)
	return mark, newest, nil
}

// raiseMark reserves the next block of numbers, and notes which segment is the newest.
func (o *Outbox) raiseMark() error {
	o.mu.RLock()
	head, newest := o.head, o.firsts[len(o.firsts)-1]
	o.mu.RUnlock()
	if o.mark > head+1+markBlock/2 && o.newest == newest {
		return nil
	}
	mark := max(o.mark, (head+2*markBlock)/markBlock*markBlock)
	text := fmt.Sprintf("punchclock high-water %d\nnewest file %d\n", mark, newest)
	if err := putFile(filepath.Join(o.opt.Dir, "high-water"), text, o.opt.UnsafeNoSync); err != nil {
		return fmt.Errorf("outbox: high-water mark: %w", err)
	}
	o.mark, o.newest = mark, newest
	return nil
}
