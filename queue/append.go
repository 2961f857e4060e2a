package queue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// Append stores a punch and returns it with its number, id and hash once it is on
// the medium. It blocks for the commit, two syncs of the medium; appends made at
// the same time share one. After an error the outcome is unknown: appending the
// same Tap again is always safe, and yields the record that is there or makes it.
func (o *Outbox) Append(d punch.Draft) (punch.Punch, error) { return o.Enqueue(d)() }

// Enqueue is the first half of Append: at once the draft has its place behind those that
// were handed in before, and its number will be above theirs. The function that it
// returns is the other half. It must be called, once, from any goroutine: those behind
// this one may have to wait for it.
func (o *Outbox) Enqueue(d punch.Draft) func() (punch.Punch, error) {
	r := &request{draft: d, turn: make(chan struct{}, 1)}
	o.qmu.Lock()
	o.queue = append(o.queue, r)
	if !o.leading {
		o.leading = true
		r.turn <- struct{}{}
	}
	o.qmu.Unlock()
	return func() (punch.Punch, error) {
		o.await(r)
		return r.punch, r.err
	}
}

// AppendAll stores several, in order, with as few commits as it takes; taps that come
// meanwhile share them. It blocks for these, and may be repeated as Append may. After an
// error any of them may be stored.
func (o *Outbox) AppendAll(ds []punch.Draft) error {
	all := make([]*request, len(ds))
	for i, d := range ds {
		all[i] = &request{draft: d, turn: make(chan struct{}, 1)}
	}
	if len(all) == 0 {
		return nil
	}
	o.qmu.Lock()
	o.queue = append(o.queue, all...)
	if !o.leading {
		o.leading = true
		all[0].turn <- struct{}{}
	}
	o.qmu.Unlock()
	var errs []error
	for _, r := range all { // the lead comes to the first that is not stored
		o.await(r)
		if r.err != nil && (errs == nil || errs[len(errs)-1].Error() != r.err.Error()) {
			errs = append(errs, r.err)
		}
	}
	return errors.Join(errs...)
}

// await returns when the request is done, by another's commit or by one of its own.
func (o *Outbox) await(r *request) {
	if _, lead := <-r.turn; lead {
		o.lead()
	}
}

// lead commits the first of the queue, the caller's own punch among them, and
// hands the lead on to whoever is the first then.
func (o *Outbox) lead() {
	o.wmu.Lock()
	if o.company {
		o.gather()
	}
	o.qmu.Lock()
	n := min(len(o.queue), maxGroup)
	group := o.queue[:n:n]
	o.queue = o.queue[n:]
	o.qmu.Unlock()
	o.company = n > 1
	o.commit(group)
	o.wmu.Unlock()

	o.qmu.Lock()
	defer o.qmu.Unlock()
	if o.leading = len(o.queue) > 0; o.leading {
		o.queue[0].turn <- struct{}{}
	} else {
		o.queue = nil
	}
}

// gather lets those come who are on their way. Where several shared the last
// commit, the next taps of the same readers are a few instructions away when it
// ends; a commit that began without them would leave them waiting for all of it.
// It yields the processor while anybody comes, and waits for nothing.
func (o *Outbox) gather() {
	for n, same := 0, 0; same < 16; {
		runtime.Gosched()
		o.qmu.Lock()
		now := len(o.queue)
		o.qmu.Unlock()
		if same++; now != n {
			n, same = now, 0
		}
	}
}

// commit stores a group in one transaction. The caller holds wmu.
func (o *Outbox) commit(group []*request) {
	begin := time.Now()
	err := o.ready()
	var seen map[punch.Tap]*request
	if len(group) > 1 {
		seen = make(map[punch.Tap]*request, len(group))
	}
	fresh := make([]*request, 0, len(group))
	var twins []*request
	for _, r := range group {
		if err != nil {
			break
		}
		if seq, ok := o.recent[r.draft.Tap]; ok {
			r.punch, r.err = o.one(seq)
			close(r.turn)
			continue
		}
		if seen != nil && r.draft.Tap != (punch.Tap{}) {
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
			close(r.turn)
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
		keyed []byte
		hash  [32]byte
	}
	items := make([]item, 0, len(fresh))
	bytes := 0
	for _, r := range fresh {
		b, err := keyAndRecord(seq+1, prev, &r.draft)
		if err != nil {
			r.err = fmt.Errorf("outbox: append: %w", err)
			close(r.turn)
			continue
		}
		seq++
		prev = sha256.Sum256(b)
		items = append(items, item{r, seq, b, prev})
		bytes += 16 + len(b)
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
				if err := b.Put(it.keyed[:keyBytes], it.keyed[keyBytes:]); err != nil {
					return err
				}
			}
			last := &items[len(items)-1]
			return putSealed(tx.Bucket(bktMeta), keyHead, encodeHead(last.seq, last.hash))
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
			it.r.punch, it.r.err = parseRecord(o.opt.Device, it.seq, it.keyed[keyBytes:])
			it.r.punch.Hash = it.hash
			o.remember(it.r.draft.Tap, it.seq)
		}
		close(it.r.turn)
	}
	for _, r := range twins {
		first := seen[r.draft.Tap]
		r.punch, r.err = first.punch, first.err
		close(r.turn)
	}
	if err == nil && len(items) > 0 {
		o.lastCommit.Store(int64(time.Since(o.opened)))
		if fn := o.commits.Load(); fn != nil {
			(*fn)(time.Since(begin), len(items))
		}
		o.notify()
		if o.mir != nil {
			select {
			case o.copies <- struct{}{}:
			default:
			}
		}
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
	if o.broken != nil {
		if err := o.reopen(); err != nil {
			return fmt.Errorf("the medium is still in trouble: %w", err)
		}
	}
	if err := o.space(); err != nil {
		return err
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

// begin takes the writer's lock for what is not an append, and leaves it taken
// unless it returns an error. Positions and parked punches are looked at after it
// and changed in memory before the lock is given back: where a commit has failed,
// they are read anew here.
func (o *Outbox) begin() error {
	o.wmu.Lock()
	if err := o.ready(); err != nil && !errors.Is(err, ErrFull) { // a receipt needs no room that a punch would
		o.wmu.Unlock()
		return err
	}
	return nil
}

// write is update for what is not an append and looks at nothing but the medium.
func (o *Outbox) write(fn func(tx *bolt.Tx) error) error {
	if err := o.begin(); err != nil {
		return err
	}
	defer o.wmu.Unlock()
	return o.update(fn)
}

// reopen reads the file anew after a commit whose outcome is unknown. Pages that
// a failed sync has left in memory only are written again first, data before meta
// pages, so that what we then read is what the medium holds.
func (o *Outbox) reopen() error {
	if was := o.setCurrent(nil); was != nil {
		was.db.Close()
	}
	// A new segment whose making went wrong at the end may be there or not: nothing
	// is written to the one before it until that is certain.
	if err := syncDir(o.opt.Dir, o.opt.UnsafeNoSync); err != nil {
		return err
	}
	firsts, err := listSegments(o.opt.Dir)
	if err != nil {
		return err
	}
	if len(firsts) == 0 {
		return fmt.Errorf("the segments of %s are gone: start the clock again", o.opt.Dir)
	}
	path := segmentPath(o.opt.Dir, firsts[len(firsts)-1])
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
	o.setCurrent(seg)
	o.mu.Lock()
	o.firsts = firsts
	err = o.load()
	o.mu.Unlock()
	if err != nil {
		o.setCurrent(nil)
		seg.db.Close()
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
	// One that the kernel has stopped writing to after an error says so to a sync only.
	if !o.opt.UnsafeNoSync {
		if err := syscall.Fdatasync(int(o.lock.Fd())); err != nil {
			return fmt.Errorf("outbox: the file system of %s takes nothing: %w", o.opt.Dir, err)
		}
	}
	return nil
}

// setCurrent exchanges the newest segment and returns the one before. The caller
// holds wmu, and closes what it gets outside of all locks that a tap may want.
func (o *Outbox) setCurrent(s *segment) (was *segment) {
	o.dbmu.Lock()
	defer o.dbmu.Unlock()
	was, o.cur = o.cur, s
	return was
}
