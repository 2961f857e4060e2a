package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// chunk is how many records one read transaction copies at most. Readers stay
// short, so that pages in use are given back and a long export is in nobody's way.
const chunk = 256

// errHeld ends a walk at the first punch whose time is not known yet.
var errHeld = errors.New("held until the clock is right")

// Next returns the oldest punches that dest has not settled, at most max, in
// order of sequence; see drain.Log. A punch that was made while the clock was
// unset is held, with all behind it, until this boot's time is known; one of an
// earlier boot that never learned it comes with Uncertain set. A record whose
// bytes are damaged is parked here and never handed out; its neighbours are.
func (o *Outbox) Next(dest string, max int) ([]punch.Punch, error) {
	for {
		out, bad, err := o.next(dest, max)
		if err != nil || len(bad) == 0 {
			return out, err
		}
		if err := o.Settle(dest, bad); err != nil {
			return nil, err
		}
	}
}

func (o *Outbox) next(dest string, max int) (out []punch.Punch, bad []punch.Verdict, err error) {
	o.mu.RLock()
	c, ok := o.cursors[dest]
	if !ok {
		o.mu.RUnlock()
		return nil, nil, fmt.Errorf("outbox: %q: %w", dest, ErrNoDestination)
	}
	pos, head := c.pos.clone(), o.head
	// Those put back: before the position, in an order of their own; behind it, met on the way.
	var again []uint64
	back := map[uint64]bool{}
	if c.again > 0 {
		for seq, e := range c.parked {
			if e.again && seq <= pos.seq {
				again = append(again, seq)
			} else if e.again {
				back[seq] = true
			}
		}
	}
	o.mu.RUnlock()
	slices.Sort(again)
	add := func(seq uint64, value []byte) error {
		if len(out) >= max {
			return errHeld
		}
		p, err := decodeRecord(o.opt.Device, seq, value)
		if err != nil {
			bad = append(bad, punch.Verdict{ID: p.ID, Fate: punch.Refuse, Reason: "damaged", Message: err.Error()})
			return nil
		}
		if err := o.complete(&p); err != nil {
			return err
		}
		p.Offered = o.offers.has(dest, seq)
		out = append(out, p)
		return nil
	}
	for _, seq := range again {
		if len(out) >= max {
			break
		}
		if h, ok := o.hole(seq); ok && h.first <= seq {
			continue // its file is being put back
		}
		err := o.view(o.segmentOf(seq), func(tx *bolt.Tx) error {
			v := getRecord(tx, seq)
			if v == nil {
				bad = append(bad, punch.Verdict{ID: punch.NewID(o.opt.Device, seq), Fate: punch.Refuse, Reason: "missing",
					Message: "the record is not in the outbox"})
				return nil
			}
			return add(seq, v)
		})
		if err != nil && !errors.Is(err, errHeld) {
			return nil, nil, err
		}
	}
	for from := pos.seq + 1; from <= head && len(out) < max && err == nil; {
		for _, r := range pos.runs { // jump over what is settled beyond
			if len(back) == 0 && from >= r.first && from <= r.last {
				from = r.last + 1
			}
		}
		if from > head {
			break
		}
		limit := head
		if h, ok := o.hole(from); ok && h.first <= from {
			from = h.last + 1
			continue
		} else if ok && h.first <= head {
			limit = h.first - 1
		}
		n := 0
		var last uint64
		last, err = o.records(from, limit, max-len(out)+chunk, func(seq uint64, v []byte) error {
			n++
			if pos.has(seq) && !back[seq] {
				return nil
			}
			return add(seq, v)
		})
		if n == 0 && err == nil { // a gap that damage left: nothing there to settle one by one
			bad = append(bad, o.gap(from, last)...)
		}
		from = last + 1
	}
	if err != nil && !errors.Is(err, errHeld) {
		return nil, nil, err
	}
	if err := o.link(out); err != nil {
		return nil, nil, err
	}
	o.hand(dest, out)
	if err := o.corrected(out); err != nil {
		return nil, nil, err
	}
	for i := range out {
		if err := o.learn(&out[i]); err != nil {
			return nil, nil, err
		}
	}
	return out, bad, nil
}

// gap settles numbers that no record stands for.
func (o *Outbox) gap(from, to uint64) []punch.Verdict {
	var out []punch.Verdict
	for seq := from; seq <= to && len(out) < 4*markBlock; seq++ {
		out = append(out, punch.Verdict{ID: punch.NewID(o.opt.Device, seq), Fate: punch.Skip, Reason: "no_record"})
	}
	return out
}

// complete adds what was learned after the tap: the person, the right time.
func (o *Outbox) complete(p *punch.Punch) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if p.Employee == "" {
		p.Employee = o.links[p.Seq]
		if ms, ok := o.linked[p.Seq]; ok && p.Employee != "" {
			p.Linked = time.UnixMilli(ms).UTC()
		}
	}
	if p.Stamp.Clock == punch.Unset {
		if d, ok := o.times[p.Seq]; ok {
			p.Corrected, p.CorrectedBy, p.CorrectedAt = d.time, d.by, d.at
		} else if ms, ok := o.boots[p.Stamp.BootID]; ok {
			p.Corrected = time.UnixMilli(ms).UTC().Add(p.Stamp.Uptime)
		} else if p.Stamp.BootID == o.opt.BootID {
			return errHeld
		} else {
			p.Uncertain = true
		}
	}
	return nil
}

// Parked is a punch that waits for a person.
type Parked struct {
	punch.Punch
	Destination string
	Reason      string
	Message     string
	FirstSeen   time.Time
	LastTried   time.Time
	Tries       int
	Again       bool   // put back, about to be sent
	Bounds      Bounds // of a punch that waits for its time: what is known about it
}

// Parked lists what waits at dest ("" for all), oldest first.
func (o *Outbox) Parked(dest string) ([]Parked, error) {
	o.mu.RLock()
	var out []Parked
	for name, c := range o.cursors {
		if dest != "" && name != dest {
			continue
		}
		for seq, e := range c.parked {
			out = append(out, Parked{Punch: punch.Punch{Seq: seq, ID: punch.NewID(o.opt.Device, seq)}, Destination: name, Reason: e.reason,
				Message: e.message, FirstSeen: e.first, LastTried: e.last, Tries: e.tries, Again: e.again})
		}
	}
	o.mu.RUnlock()
	sort.Slice(out, func(i, j int) bool {
		if out[i].Seq != out[j].Seq {
			return out[i].Seq < out[j].Seq
		}
		return out[i].Destination < out[j].Destination
	})
	var a around
	for i := range out {
		p, err := o.one(out[i].Seq)
		if err != nil {
			continue // a damaged one is listed without its fields
		}
		_ = o.complete(&p)
		out[i].Punch = p
		if out[i].Reason == punch.ReasonTimeUncertain {
			out[i].Bounds = o.bounds(p, &a)
		}
	}
	return out, nil
}

// Pending lists the punches that dest has still to settle, oldest first, at most max.
func (o *Outbox) Pending(dest string, max int) ([]punch.Punch, error) {
	o.mu.RLock()
	c, ok := o.cursors[dest]
	if !ok {
		o.mu.RUnlock()
		return nil, fmt.Errorf("outbox: %q: %w", dest, ErrNoDestination)
	}
	pos, head := c.pos.clone(), o.head
	o.mu.RUnlock()
	var out []punch.Punch
	err := o.each(pos.seq+1, head, func(seq uint64, v []byte) error {
		if len(out) >= max {
			return errHeld
		}
		if pos.has(seq) {
			return nil
		}
		p, err := decodeRecord(o.opt.Device, seq, v)
		if err != nil {
			return nil
		}
		_ = o.complete(&p)
		out = append(out, p)
		return nil
	})
	if errors.Is(err, errHeld) {
		err = nil
	}
	return out, err
}

// records calls fn for at most max records of one segment, from seq on, up to
// head, in one short transaction. It returns the last number that it has dealt
// with: where nothing is stored in between, the last of the gap.
func (o *Outbox) records(from, head uint64, max int, fn func(seq uint64, v []byte) error) (last uint64, err error) {
	first := o.segmentOf(from)
	o.mu.RLock()
	end := head
	for _, f := range o.firsts {
		if f > from {
			end = min(end, f-1)
			break
		}
	}
	o.mu.RUnlock()
	last = end
	err = o.view(first, func(tx *bolt.Tx) error {
		n := 0
		var ferr error
		eachRecord(tx, from, func(seq uint64, v []byte) bool {
			if seq > end {
				return false
			}
			if n == 0 && seq > from {
				last = seq - 1 // a gap first
				return false
			}
			if n >= max || seq != from+uint64(n) {
				last = from + uint64(n) - 1
				return false
			}
			n++
			if ferr = fn(seq, v); ferr != nil {
				last = seq
				return false
			}
			return true
		})
		return ferr
	})
	if errors.Is(err, errLetGo) {
		err = nil
	}
	return last, err
}

// each walks records from..to in short transactions.
func (o *Outbox) each(from, to uint64, fn func(seq uint64, v []byte) error) error {
	for from <= to {
		// Copied out, so that fn may take its time, or write.
		type rec struct {
			seq uint64
			v   []byte
		}
		var recs []rec
		last, err := o.records(from, to, chunk, func(seq uint64, v []byte) error {
			recs = append(recs, rec{seq, append([]byte(nil), v...)})
			return nil
		})
		if err != nil {
			return err
		}
		for _, r := range recs {
			if err := fn(r.seq, r.v); err != nil {
				return err
			}
		}
		from = last + 1
	}
	return nil
}

// Entry is one record of the archive with what became of it.
type Entry struct {
	punch.Punch
	Record     []byte // as stored; empty never
	Damaged    error  // the record cannot be read; only Seq, ID and Record hold
	Deliveries map[string]punch.Receipt
}

// Read calls fn for every record from number from on, oldest first, up to the
// newest at the time of the call. It holds no lock while fn runs and keeps a
// bounded number of records in memory. An error of fn ends it and is returned.
func (o *Outbox) Read(ctx context.Context, from uint64, fn func(Entry) error) error {
	o.mu.RLock()
	head := o.head
	from = max(from, o.firsts[0])
	dests := slices.Sorted(maps.Keys(o.cursors))
	o.mu.RUnlock()
	rs := make([]*receiptReader, len(dests))
	for i, d := range dests {
		rs[i] = &receiptReader{o: o, dest: d, from: from}
	}
	return o.each(from, head, func(seq uint64, v []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := Entry{Record: v, Deliveries: make(map[string]punch.Receipt, len(dests))}
		p, err := decodeRecord(o.opt.Device, seq, v)
		if err != nil {
			e.Damaged = err
		} else {
			_ = o.complete(&p)
		}
		e.Punch = p
		for i, d := range dests {
			r, err := rs[i].of(seq)
			if err != nil {
				return err
			}
			e.Deliveries[d] = r
		}
		return fn(e)
	})
}

// Tail returns the newest n punches, oldest first. Damaged ones are left out.
func (o *Outbox) Tail(n int) ([]punch.Punch, error) {
	o.mu.RLock()
	head, first := o.head, o.firsts[0]
	o.mu.RUnlock()
	from := first
	if head >= uint64(n) {
		from = max(first, head-uint64(n)+1)
	}
	var out []punch.Punch
	err := o.each(from, head, func(seq uint64, v []byte) error {
		if p, err := decodeRecord(o.opt.Device, seq, v); err == nil {
			_ = o.complete(&p)
			out = append(out, p)
		}
		return nil
	})
	return out, err
}

// Verify walks the whole chain from the first record on the medium. progress, if
// not nil, hears the number of records read and of all.
func (o *Outbox) Verify(ctx context.Context, progress func(done, all uint64)) (Chain, error) {
	c := Chain{Device: o.opt.Device}
	o.mu.RLock()
	first, head, hash, letGo := o.firsts[0], o.head, o.headHash, o.letGo
	o.mu.RUnlock()
	if low := max(1, letGo); first > low && head >= first {
		c.problem(first, "punches %d to %d before it are missing: a file was removed", low, first-1)
	} else if first > 1 {
		c.Note = fmt.Sprintf("starts at %d: earlier ones were let go by retention", first)
	}
	err := o.each(first, head, func(seq uint64, v []byte) error {
		c.Add(seq, v)
		if progress != nil && c.Records%1024 == 0 {
			progress(c.Records, head-first+1)
		}
		return ctx.Err()
	})
	if err != nil {
		return c, err
	}
	switch {
	case c.Records > 0 && c.Last == head && c.Head != hash:
		c.problem(head, "is not the record that the head remembers")
	case head >= first && c.Last < head:
		c.problem(head, "punches %d to %d are missing at the end", max(c.Last+1, first), head)
	}
	if progress != nil {
		progress(c.Records, c.Records)
	}
	return c, nil
}

// Stats is a picture of the outbox.
type Stats struct {
	LastSeq      uint64
	LastHash     [32]byte
	Bytes        int64 // of all files
	Free, Total  uint64
	Destinations map[string]DestStats
	Mirror       MirrorStats
}

// DestStats is a picture of one destination's position.
type DestStats struct {
	Pending uint64        // punches still to be settled; includes those that will be skipped
	Parked  int           // punches that wait for a person
	Oldest  time.Duration // age of the oldest pending one, by wall clock; 0 where none
}

// Stats reads the picture. It reads one record per destination that has any pending.
func (o *Outbox) Stats() Stats {
	o.mu.RLock()
	s := Stats{LastSeq: o.head, LastHash: o.headHash, Destinations: map[string]DestStats{}}
	firsts := slices.Clone(o.firsts)
	oldest := map[string]uint64{}
	for name, c := range o.cursors {
		d := DestStats{Pending: o.head - min(o.head, c.pos.seq) - c.pos.beyond() + uint64(c.again), Parked: len(c.parked) - c.again}
		s.Destinations[name] = d
		low := uint64(0)
		if o.head-min(o.head, c.pos.seq)-c.pos.beyond() > 0 {
			low = c.pos.seq + 1
		}
		if c.again > 0 {
			for seq, e := range c.parked {
				if e.again && (low == 0 || seq < low) {
					low = seq
				}
			}
		}
		oldest[name] = low
	}
	o.mu.RUnlock()
	for _, f := range firsts {
		s.Bytes += fileSize(segmentPath(o.opt.Dir, f))
	}
	s.Free, s.Total, _ = diskSpace(o.opt.Dir)
	s.Mirror = o.mirrorStats(s.LastSeq)
	for name, seq := range oldest {
		if seq == 0 {
			continue
		}
		if p, err := o.one(seq); err == nil {
			_ = o.complete(&p)
			d := s.Destinations[name]
			d.Oldest = max(0, time.Since(p.Time()))
			s.Destinations[name] = d
		}
	}
	return s
}
