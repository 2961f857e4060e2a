package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// Retention lets go of the oldest segments, whole, and of the mirror's oldest
// months. A segment may go when all of this is true:
//
//   - it is not the newest, and nothing before it is still there or missing;
//   - every destination that the positions know of, configured today or not, has
//     settled everything in it;
//   - nothing in it is parked, or put back and awaited;
//   - every record in it can be read, and none is younger than the limit; nor is the
//     first one behind it whose time is certain, so that punches whose time nobody
//     ever learned, and those of a clock that was far back, are older than it too;
//   - the clock is right now, and has been for a while: the limit counts back from
//     the earliest of the last fourteen different days on which somebody punched,
//     if that is before what the clock says. A time server that is years ahead
//     would have to be so for fourteen such days, on the screen, before anything is
//     lost by it; a clock that comes out of a cupboard after years keeps all it has
//     until it has been in use again for as long. How far a clock could be off
//     counts for keeping.
//
// A month of the mirror may go when all its punches were let go and the month is
// over since the limit. What is in doubt stays.
//
// Before a file goes, the number up to which punches were let go is made durable
// in the file let-go, so that a log that begins later can be told from one whose
// beginning was taken away. The file is then renamed, the folder synced, and the
// file deleted: a cut at any point leaves a log that is whole, and a leftover that
// the next start removes.
const (
	goneSuffix = ".gone"
	trimEvery  = 24 * time.Hour
	trustDays  = 14 // with punches, before a date is believed enough to delete by it
)

// errLetGo: the segment went while somebody was on the way to it.
var errLetGo = errors.New("let go by retention")

func readLetGo(dir string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(dir, "let-go"))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var n uint64
	if _, err := fmt.Sscanf(string(b), "punchclock let go below %d\n", &n); err != nil {
		return 0, fmt.Errorf("let-go: not what was written: %q", b[:min(len(b), 40)])
	}
	return n, nil
}

// putFile replaces a small file, whole or not at all.
func putFile(path, text string, noSync bool) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil && !noSync {
		err = f.Sync()
	}
	if err = errorsOf(err, f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path), noSync)
}

// trim lets go of what may go, at most once a day. It scans outside the writer's
// lock and takes it for moments only.
func (o *Outbox) trim() error {
	if o.opt.KeepYears <= 0 || o.opt.Now == nil {
		return nil
	}
	now := o.opt.Now()
	if now.Clock == punch.Unset {
		return nil
	}
	o.mu.Lock()
	due := o.trimmed.IsZero() || time.Since(o.trimmed) >= trimEvery
	if due {
		o.trimmed = time.Now()
	}
	o.mu.Unlock()
	if !due {
		return nil
	}
	lived, ok, err := o.lived()
	if err != nil || !ok {
		return err
	}
	if at := now.Wall.Add(-now.ErrorBound); at.Before(lived) {
		lived = at
	}
	limit := lived.AddDate(-o.opt.KeepYears, 0, 0)
	for {
		o.mu.RLock()
		firsts := o.firsts
		o.mu.RUnlock()
		if len(firsts) < 2 {
			break
		}
		first, end := firsts[0], firsts[1]-1
		may, boots, err := o.mayGo(first, end, limit)
		if err == nil && may {
			may, err = o.drop(first, end, boots)
		}
		if err != nil {
			return fmt.Errorf("retention: %w", err)
		}
		if !may {
			break
		}
		o.log.Info("outbox: retention let go of an old file", "first", first, "last", end, "keep_years", o.opt.KeepYears)
	}
	if err := o.trimMirror(limit); err != nil {
		return fmt.Errorf("retention: mirror: %w", err)
	}
	return nil
}

// lived returns the earliest of the last trustDays different days, in UTC, on which
// somebody punched by a clock that was right; ok is false where there are fewer.
func (o *Outbox) lived() (earliest time.Time, ok bool, err error) {
	o.mu.RLock()
	first, head := o.firsts[0], o.head
	o.mu.RUnlock()
	const day = 24 * time.Hour
	seen := map[time.Time]bool{}
	for hi := head; hi >= first && hi > 0; {
		lo := hi - min(hi-first, 1023)
		var days []time.Time
		err := o.each(lo, hi, func(seq uint64, v []byte) error {
			p, err := parseRecord(o.opt.Device, seq, v)
			if err == nil && p.Stamp.Clock != punch.Unset && p.Stamp.ErrorBound < day {
				days = append(days, p.Stamp.Wall.Truncate(day))
			}
			return nil
		})
		if err != nil {
			return earliest, false, fmt.Errorf("retention: %w", err)
		}
		for _, d := range slices.Backward(days) {
			if seen[d] {
				continue
			}
			if seen[d] = true; len(seen) == 1 || d.Before(earliest) {
				earliest = d
			}
			if len(seen) == trustDays {
				return earliest, true, nil
			}
		}
		hi = lo - 1
	}
	return earliest, false, nil
}

// mayGo reports whether the records first..end are old enough and settled.
func (o *Outbox) mayGo(first, end uint64, limit time.Time) (may bool, boots map[[16]byte]int64, err error) {
	if may, err = o.settledTo(end); !may || err != nil {
		return false, nil, err
	}
	o.mu.RLock()
	head := o.head
	o.mu.RUnlock()
	errYoung, errOld := errors.New("young"), errors.New("old")
	err = o.each(first, head, func(seq uint64, v []byte) error {
		p, err := parseRecord(o.opt.Device, seq, v)
		if err == nil {
			err = o.complete(&p)
		}
		certain := err == nil && !p.Uncertain
		at := p.Time()
		if p.Stamp.Clock != punch.Unset {
			at = at.Add(p.Stamp.ErrorBound)
		}
		switch {
		case errors.Is(err, errDamaged) && seq <= end, certain && !at.Before(limit):
			return errYoung
		case certain && seq > end:
			return errOld
		}
		return nil
	})
	if errors.Is(err, errYoung) || err == nil { // nothing is certain behind it
		return false, nil, nil
	}
	if !errors.Is(err, errOld) {
		return false, nil, err
	}
	boots = map[[16]byte]int64{}
	err = o.view(first, func(tx *bolt.Tx) error {
		return tx.Bucket(bktBoots).ForEach(func(k, v []byte) error {
			if v, ok := unseal(k, v); ok && len(k) == 16 && len(v) == 8 {
				boots[[16]byte(k)] = int64(binary.BigEndian.Uint64(v))
			}
			return nil
		})
	})
	return err == nil, boots, err
}

// settledTo reports whether every destination has settled everything up to end,
// and nothing up to there waits for anybody.
func (o *Outbox) settledTo(end uint64) (bool, error) {
	if h, ok := o.hole(0); ok && h.first <= end {
		return false, nil
	}
	o.mu.RLock()
	newest := o.firsts[len(o.firsts)-1]
	ok := true
	for _, c := range o.cursors {
		for seq := range c.parked {
			ok = ok && seq > end
		}
		ok = ok && c.pos.seq >= end
	}
	o.mu.RUnlock()
	if !ok {
		return false, nil
	}
	err := o.view(newest, func(tx *bolt.Tx) error {
		err := tx.Bucket(bktPos).ForEach(func(k, v []byte) error {
			body, whole := unseal(k, v)
			p, err := decodePosition(body)
			ok = ok && whole && err == nil && p.seq >= end
			return nil
		})
		if err != nil {
			return err
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			if !strings.HasPrefix(string(name), "p/") {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				ok = ok && (v == nil || len(k) == 8 && binary.BigEndian.Uint64(k) > end)
				return nil
			})
		})
	})
	return ok && err == nil, err
}

// drop removes the oldest segment.
func (o *Outbox) drop(first, end uint64, boots map[[16]byte]int64) (bool, error) {
	path := segmentPath(o.opt.Dir, first)
	gone := path + goneSuffix
	done, err := func() (bool, error) {
		o.wmu.Lock()
		defer o.wmu.Unlock()
		if err := o.ready(); err != nil {
			return false, err
		}
		if ok, err := o.settledTo(end); !ok || err != nil { // a technician may have put one back meanwhile
			return false, err
		}
		// What was learned of a boot may be asked for by its later punches.
		if len(boots) > 0 {
			err := o.update(func(tx *bolt.Tx) error {
				b := tx.Bucket(bktBoots)
				for id, ms := range boots {
					if b.Get(id[:]) == nil {
						if err := putSealed(b, id[:], binary.BigEndian.AppendUint64(nil, uint64(ms))); err != nil {
							return err
						}
					}
				}
				return nil
			})
			if err != nil {
				return false, err
			}
		}
		if err := putFile(filepath.Join(o.opt.Dir, "let-go"), fmt.Sprintf("punchclock let go below %d\n", end+1), o.opt.UnsafeNoSync); err != nil {
			return false, err
		}
		if err := os.Rename(path, gone); err != nil {
			return false, err
		}
		o.mu.Lock()
		o.letGo = end + 1
		o.firsts = slices.Clone(o.firsts[1:])
		for seq := range o.links {
			if seq <= end {
				delete(o.links, seq)
				delete(o.linked, seq)
			}
		}
		o.mu.Unlock()
		return true, syncDir(o.opt.Dir, o.opt.UnsafeNoSync)
	}()
	if !done || err != nil {
		return done, err
	}
	o.oldmu.Lock()
	o.dbmu.Lock()
	old := o.old
	if old != nil && old.first == first {
		o.old = nil
	} else {
		old = nil
	}
	o.dbmu.Unlock()
	o.oldmu.Unlock()
	if old != nil {
		err = old.db.Close() // waits for those who read in it
	}
	return true, errorsOf(err, os.Remove(gone))
}

// trimMirror lets go of the mirror's months whose punches are all let go.
func (o *Outbox) trimMirror(limit time.Time) error {
	if o.mir == nil {
		return nil
	}
	o.mu.RLock()
	letGo := o.letGo
	o.mu.RUnlock()
	o.mir.mu.Lock()
	defer o.mir.mu.Unlock()
	files, err := listMirror(o.mir.dir, o.opt.Device)
	if err != nil {
		return err
	}
	for _, m := range files {
		name := filepath.Base(m.path)
		month, err := time.Parse("2006-01", strings.TrimSuffix(name, mirrorSuffix))
		if err != nil || m.last == 0 || m.last >= letGo || m.end != m.size || name == o.mir.name || month.AddDate(0, 1, 0).After(limit) {
			continue
		}
		gone := m.path + goneSuffix
		if err := errorsOf(os.Rename(m.path, gone), syncDir(o.mir.dir, o.opt.UnsafeNoSync), os.Remove(gone)); err != nil {
			return err
		}
		o.log.Info("outbox: retention let go of a month of the second copy", "month", name)
	}
	return nil
}
