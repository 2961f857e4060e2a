package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Span is a run of sequence numbers, both ends included.
type Span struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Recovery tells what Recover did.
type Recovery struct {
	Taken   uint64 // records taken over from copies that the outbox did not have
	Again   uint64 // of those: are offered to every destination although their number had been passed
	Records uint64 // in the outbox now
	First   uint64 // number of the oldest, 0 for none
	Last    uint64 // number of the newest
	Next    uint64 // number of the next punch
	Missing []Span // numbers without a record, of those that may have been given out
	Bad     int    // lines of copies that are torn or damaged
	Notes   []string
}

// extraCopies are what a technician gave beside the mirror.
type extraCopies struct {
	dirs    []string          // with files of a mirror
	records map[uint64][]byte // of database files
	last    uint64
	bad     int
	notes   []string
	taken   map[uint64]bool // what was taken over since
	again   map[uint64]bool // of those: had been settled somewhere
}

// Recover brings back into an outbox that nobody has open what its copies hold:
// its mirror, and what lies at the paths in from: folders with files of a mirror or
// with database files (a folder quarantine, another card's outbox), or such
// files. What is whole in the outbox stays as it is. A damaged file is set aside
// under a dated name, never deleted, and made anew; a missing one is made; a
// missing record is put in its place. Records count only if they are what was
// written. What is taken over here is offered to every destination again, because
// nobody can know whether they have it: better twice than not at all. It may be
// repeated, also after a cut. Errors: ErrInUse, ErrOtherDevice, or the file
// system's; a path in from that holds nothing of this device is one too.
func Recover(ctx context.Context, o Options, from []string) (r Recovery, err error) {
	extra := &extraCopies{records: map[uint64][]byte{}, taken: map[uint64]bool{}, again: map[uint64]bool{}}
	for _, path := range from {
		n, err := extra.add(path, o.Device)
		if err != nil {
			return r, err
		}
		if n == 0 {
			return r, fmt.Errorf("%s holds no punch of device %s, neither in files like 2026-11.txt nor in database files", path, o.Device)
		}
	}
	if r.Bad, err = extra.countBad(o.Mirror, o.Device); err != nil {
		return r, err
	}
	b, err := openWith(o, extra)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for b.hasHoles() && ctx.Err() == nil {
		b.healStep()
	}
	if len(b.lost) > 0 {
		return r, fmt.Errorf("outbox: not everything could be put back: %s", b.Incident())
	}
	if err := b.fillGaps(ctx); err != nil {
		return r, err
	}
	if err := b.offerAgain(extra.taken); err != nil {
		return r, err
	}
	r.Again = uint64(len(extra.again))
	low := max(1, b.letGo)
	err = b.each(low, b.head, func(seq uint64, v []byte) error {
		if seq > low {
			r.Missing = append(r.Missing, Span{low, seq - 1})
		}
		if r.Records++; r.First == 0 {
			r.First = seq
		}
		r.Last, low = seq, seq+1
		return ctx.Err()
	})
	if err != nil {
		return r, err
	}
	if low <= b.head {
		r.Missing = append(r.Missing, Span{low, b.head})
	}
	r.Taken, r.Next = uint64(len(extra.taken)), b.head+1
	r.Bad += extra.bad
	if s := b.Incident(); s != "" {
		r.Notes = append(extra.notes, s)
	}
	return r, b.copyMirror(ctx)
}

// add takes a file or a folder in and returns how many punches it holds.
func (x *extraCopies) add(path, device string) (n int, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	files := []string{path}
	if st.IsDir() {
		ents, err := os.ReadDir(path)
		if err != nil {
			return 0, err
		}
		files = files[:0]
		for _, e := range ents {
			if !e.IsDir() {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		months, err := listMirror(path, device)
		if err != nil {
			return 0, err
		}
		for _, m := range months {
			if m.last > 0 {
				n++
				x.last = max(x.last, m.last)
			}
		}
		x.dirs = append(x.dirs, path)
		bad, err := x.countBad(path, device)
		if err != nil {
			return 0, err
		}
		x.bad += bad
	}
	for _, f := range files {
		switch name := filepath.Base(f); {
		case strings.Contains(name, segmentSuffix) && !strings.HasSuffix(name, ".new"):
			s, err := salvage(f, device)
			if err != nil {
				return n, err
			}
			if s.device != "" && s.device != device {
				return n, fmt.Errorf("%s holds the punches of device %q, this is %q: %w", f, s.device, device, ErrOtherDevice)
			}
			for seq, v := range s.records {
				if _, ok := x.records[seq]; !ok {
					x.records[seq] = v
				}
				x.last = max(x.last, seq)
			}
			n += len(s.records)
			x.notes = append(x.notes, fmt.Sprintf("%s: %d punches", f, len(s.records)))
		case !st.IsDir(): // a month by itself, under whatever name
			f, err := os.Open(f)
			if err != nil {
				return n, err
			}
			bad, err := readMirror(f, device, func(seq uint64, v []byte) error {
				x.records[seq], x.last = v, max(x.last, seq)
				n++
				return nil
			})
			f.Close()
			if err != nil {
				return n, err
			}
			x.bad += bad
		}
	}
	return n, nil
}

// fill adds what recs has not.
func (x *extraCopies) fill(recs map[uint64][]byte, device string, from, to uint64) (err error) {
	for _, dir := range x.dirs {
		more, cerr := collectMirror(dir, device, from, to)
		err = errors.Join(err, cerr)
		for seq, v := range more {
			if _, ok := recs[seq]; !ok {
				recs[seq] = v
			}
		}
	}
	for seq, v := range x.records {
		if _, ok := recs[seq]; !ok && seq >= from && seq <= to {
			recs[seq] = v
		}
	}
	return err
}

func (x *extraCopies) countBad(dir, device string) (bad int, err error) {
	files, err := listMirror(dir, device)
	if err != nil {
		return 0, err
	}
	for _, m := range files {
		f, err := os.Open(m.path)
		if err != nil {
			return bad, err
		}
		n, err := readMirror(f, device, func(uint64, []byte) error { return nil })
		f.Close()
		if err != nil {
			return bad, err
		}
		bad += n
	}
	return bad, nil
}

// takenOver notes what came from a copy, while recovering.
func (o *Outbox) takenOver(recs map[uint64][]byte) {
	if o.extra == nil {
		return
	}
	for seq := range recs {
		o.extra.taken[seq] = true
	}
}

// fillGaps puts records that a copy holds into the places where they are missing.
func (o *Outbox) fillGaps(ctx context.Context) error {
	for i, first := range o.firsts {
		end := o.head
		if i+1 < len(o.firsts) {
			end = o.firsts[i+1] - 1
		}
		var gaps []run
		next := max(first, o.letGo)
		err := o.each(next, end, func(seq uint64, v []byte) error {
			if _, err := parseRecord(o.opt.Device, seq, v); err != nil {
				return nil // damaged: as good as missing
			}
			if seq > next {
				gaps = append(gaps, run{next, seq - 1})
			}
			next = seq + 1
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		if next <= end {
			gaps = append(gaps, run{next, end})
		}
		if len(gaps) == 0 {
			continue
		}
		recs, err := o.copied(gaps[0].first, gaps[len(gaps)-1].last)
		if err != nil {
			return err
		}
		for seq := range recs {
			if !slices.ContainsFunc(gaps, func(g run) bool { return seq >= g.first && seq <= g.last }) {
				delete(recs, seq)
			}
		}
		if len(recs) == 0 {
			continue
		}
		insert := func(tx *bolt.Tx) error {
			if err := moveHot(tx); err != nil {
				return err
			}
			log := tx.Bucket(bktLog)
			for seq, v := range recs {
				if err := log.Put(seqKey(seq), v); err != nil {
					return err
				}
			}
			return nil
		}
		// The numbers are put back for the destinations first: a cut in between leaves
		// gaps that are passed over again, not punches that nobody sends.
		o.takenOver(recs)
		if err := o.offerAgain(o.extra.taken); err != nil {
			return err
		}
		if first == o.cur.first {
			err = o.write(insert)
		} else {
			err = o.writeOld(first, insert)
		}
		if err != nil {
			return err
		}
	}
	return o.load()
}

// writeOld changes an old segment, which nobody else has open.
func (o *Outbox) writeOld(first uint64, fn func(tx *bolt.Tx) error) error {
	if o.old != nil {
		if err := o.old.db.Close(); err != nil {
			return err
		}
		o.old = nil
	}
	seg, err := openSegment(segmentPath(o.opt.Dir, first), false, o.opt.UnsafeNoSync)
	if err != nil {
		return err
	}
	return errors.Join(seg.db.Update(fn), seg.db.Close())
}

// offerAgain takes numbers back out of what the destinations have settled, and puts
// back what was parked because its record could not be read.
func (o *Outbox) offerAgain(taken map[uint64]bool) error {
	var seqs []uint64
	for seq := range taken {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	was := map[uint64]bool{}
	err := o.write(func(tx *bolt.Tx) error {
		pos := map[string]position{}
		err := tx.Bucket(bktPos).ForEach(func(k, v []byte) error {
			body, ok := unseal(k, v)
			if p, err := decodePosition(body); ok && err == nil {
				pos[string(k)] = p
			}
			return nil
		})
		if err != nil {
			return err
		}
		for dest, p := range pos {
			again := map[uint64]parkedEntry{}
			if b := tx.Bucket(bktParked(dest)); b != nil {
				for _, seq := range seqs {
					v, ok := getSealed(b, seqKey(seq))
					if !ok {
						continue
					}
					if e, err := decodeParked(v); err == nil {
						e.again = true
						again[seq] = e
					}
				}
			}
			var open []uint64
			for _, seq := range seqs {
				if _, ok := again[seq]; ok || p.has(seq) {
					was[seq] = true
				}
				if _, ok := again[seq]; !ok && p.has(seq) {
					open = append(open, seq)
				}
			}
			if len(again) > 0 {
				if err := putParked(tx, dest, again); err != nil {
					return err
				}
			}
			q := p.without(open)
			if err := putSealed(tx.Bucket(bktPos), []byte(dest), q.encode()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	maps.Copy(o.extra.again, was)
	return o.load()
}

// without returns the position with the given numbers, ascending, not settled.
func (p position) without(open []uint64) position {
	runs := append([]run{{0, p.seq}}, p.runs...)
	var out []run
	for _, r := range runs {
		for len(open) > 0 && open[0] <= r.last {
			if open[0] < r.first {
				open = open[1:]
				continue
			}
			if open[0] > r.first {
				out = append(out, run{r.first, open[0] - 1})
			}
			r.first, open = open[0]+1, open[1:]
		}
		if r.first <= r.last {
			out = append(out, r)
		}
	}
	return position{seq: out[0].last, runs: out[1:]}
}
