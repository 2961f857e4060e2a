package roster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"punchclock/queue"
)

// fewChanges is how many people are written one by one, and not the whole roster anew.
const fewChanges = 500

// batch is how many people are put into a new file by one transaction.
const batch = 100

// piece is how many bytes of a new file go to the medium at a time, and flushAfter how
// many pieces until what is in the medium's own memory goes on from there: a tap's sync
// waits for what was handed over before it.
const (
	piece      = 32 << 10
	flushAfter = 8
	restMost   = 20 * time.Millisecond // between two pieces
)

// exchange writes s, which was made of old, into a new file, puts that in the place of the
// roster's, and publishes s. It is open, and locked, and on the medium before it has the
// name: a power cut leaves the one or the other. The caller holds write.
//
// It takes commit at the end only: a card that is blocked meanwhile is blocked at once,
// and is written into the new file before that takes its place.
//
// The whole file is made in the kernel's memory, and goes to the medium in pieces with
// rests between them. A sync after each transaction would be as many commits of the file
// system's journal, because the file grows, and a tap's own sync waits for each of those.
func (r *Roster) exchange(s, old *snapshot) (err error) {
	tmp := r.path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("roster: write anew: %w", err)
	}
	var f *os.File
	options := boltOptions(Options{})
	options.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		f, err = os.OpenFile(name, flag, mode)
		return f, err
	}
	db, err := bolt.Open(tmp, 0o600, options)
	if err != nil {
		return fmt.Errorf("roster: write anew: %w", err)
	}
	db.NoSync, db.NoGrowSync = true, true // until it is whole; nobody looks into it before
	err = guard(r.path, func() error { return s.write(db) })
	if err == nil {
		err = r.trickle(f)
	}
	r.commit.Lock()
	defer r.commit.Unlock()
	if err == nil && s.follow(old, r.now.Load(), r.cards) {
		err = guard(r.path, func() error { return db.Update(func(tx *bolt.Tx) error { return s.putRest(tx, nil) }) })
	}
	if err == nil {
		db.NoSync, db.NoGrowSync = false, false
		err = f.Sync() // the size too, which has grown without a sync
	}
	if err == nil {
		err = giveToOwner(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, r.path)
	}
	if err != nil {
		return fmt.Errorf("roster: write anew: %w", errors.Join(err, db.Close(), os.Remove(tmp)))
	}
	was := r.db
	r.db = db
	err = syncDir(r.path)
	r.torn = err != nil // the old one may be back after a power cut
	if err = errors.Join(err, was.Close()); err != nil {
		return fmt.Errorf("roster: write anew: %w", err)
	}
	r.now.Store(s)
	return nil
}

// write puts everything into a file that is empty, in small transactions, and rests often:
// the file is nobody's yet, and a tap must find the processor free.
func (s *snapshot) write(db *bolt.DB) error {
	var rest queue.Pace
	var seal sealer
	for from := 0; from == 0 || from < len(s.people); from += batch {
		seal.out = seal.out[:0] // the file has them
		err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(peopleBucket)
			if err != nil {
				return err
			}
			b.FillPercent = 1 // the keys come sorted
			for i := from; i < min(from+batch, len(s.people)); i++ {
				rest.Step(i)
				p := s.people[i]
				key := []byte(p.Number)
				if err := b.Put(key, seal.record(key, p)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return db.Update(func(tx *bolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists(metaBucket); err != nil {
			return err
		}
		return s.putRest(tx, nil)
	})
}

// trickle has the kernel write what it holds of f, piece by piece, and leaves the medium
// alone for longer than each has taken. It promises nothing: the sync does that, after it.
func (r *Roster) trickle(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	for n := int64(0); n*piece < st.Size(); n++ {
		began := time.Now()
		err := unix.SyncFileRange(int(f.Fd()), n*piece, piece, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		switch {
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
			return nil // a file system, or a kernel, that cannot: the sync writes all at once
		case err != nil: // the sync would not say so again
			return fmt.Errorf("%s: write: %w", f.Name(), err)
		}
		if n%flushAfter == flushAfter-1 {
			// Of the file that is in force, which has nothing to write: no more than the flush.
			if err := r.db.Sync(); err != nil {
				return err
			}
		}
		time.Sleep(min(max(2*time.Since(began), time.Millisecond), restMost))
	}
	return nil
}
