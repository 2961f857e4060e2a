package queue

import (
	"context"
	"encoding/binary"
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
		out = append(out, p)
		return nil
	}
	for _, seq := range again {
		if len(out) >= max {
			break
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
		n := 0
		var last uint64
		last, err = o.records(from, head, max-len(out)+chunk, func(seq uint64, v []byte) error {
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
	}
	if p.Stamp.Clock == punch.Unset {
		if ms, ok := o.boots[p.Stamp.BootID]; ok {
			p.Corrected = time.UnixMilli(ms).UTC().Add(p.Stamp.Uptime)
		} else if p.Stamp.BootID == o.opt.BootID {
			return errHeld
		} else {
			p.Uncertain = true
		}
	}
	return nil
}

// link finds the person behind an unknown badge that the roster knows by now, and
// makes the finding durable before it is sent anywhere: it never changes after.
func (o *Outbox) link(ps []punch.Punch) error {
	found := map[uint64]string{}
	for i := range ps {
		p := &ps[i]
		if p.Employee == "" && p.Badge != "" && p.Outcome == punch.UnknownBadge {
			if e, ok := o.opt.Who(p.Badge); ok {
				found[p.Seq] = e
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	if err := o.putLinks(found, nil); err != nil {
		return err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	for i := range ps {
		if e := o.links[ps[i].Seq]; ps[i].Employee == "" && e != "" {
			ps[i].Employee = e
		}
	}
	return nil
}

// putLinks stores links, and puts the given parked punches back, in one commit.
// A link that is there already stays.
func (o *Outbox) putLinks(found map[uint64]string, again map[string][]uint64) error {
	changed := map[string]map[uint64]parkedEntry{}
	o.mu.RLock()
	for dest, seqs := range again {
		changed[dest] = map[uint64]parkedEntry{}
		for _, seq := range seqs {
			if e, ok := o.cursors[dest].parked[seq]; ok && !e.again {
				e.again = true
				changed[dest][seq] = e
			}
		}
	}
	o.mu.RUnlock()
	err := o.write(func(tx *bolt.Tx) error {
		b := tx.Bucket(bktLinks)
		for seq, e := range found {
			if _, ok := getSealed(b, seqKey(seq)); ok {
				continue
			}
			if err := putSealed(b, seqKey(seq), []byte(e)); err != nil {
				return err
			}
		}
		for dest, m := range changed {
			if err := putParked(tx, dest, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	o.mu.Lock()
	for seq, e := range found {
		if _, ok := o.links[seq]; !ok {
			o.links[seq] = e
		}
	}
	for dest, m := range changed {
		c := o.cursors[dest]
		for seq, e := range m {
			if old, ok := c.parked[seq]; ok && !old.again {
				c.again++
				c.parked[seq] = e
			}
		}
	}
	o.mu.Unlock()
	o.notify()
	return nil
}

func putParked(tx *bolt.Tx, dest string, m map[uint64]parkedEntry) error {
	b, err := tx.CreateBucketIfNotExists(bktParked(dest))
	if err != nil {
		return err
	}
	for seq, e := range m {
		if err := putSealed(b, seqKey(seq), e.encode()); err != nil {
			return err
		}
	}
	return nil
}

// Relink looks at every punch that is parked for an unknown badge, and puts back
// those whose badge the roster knows by now. Call it when the roster has changed.
// It returns how many punches got a person.
func (o *Outbox) Relink() (int, error) {
	o.mu.RLock()
	ask := map[uint64]bool{}
	again := map[string][]uint64{}
	for _, c := range o.cursors {
		for seq, e := range c.parked {
			if e.reason == punch.ReasonUnknownBadge && !e.again {
				ask[seq] = true
			}
		}
	}
	o.mu.RUnlock()
	if len(ask) == 0 {
		return 0, nil
	}
	found := map[uint64]string{}
	for seq := range ask {
		p, err := o.one(seq)
		if err != nil {
			continue
		}
		o.mu.RLock()
		e, ok := o.links[seq]
		o.mu.RUnlock()
		if !ok {
			e, ok = o.opt.Who(p.Badge)
		}
		if ok {
			found[seq] = e
		}
	}
	if len(found) == 0 {
		return 0, nil
	}
	o.mu.RLock()
	for dest, c := range o.cursors {
		for seq := range found {
			if e, ok := c.parked[seq]; ok && e.reason == punch.ReasonUnknownBadge {
				again[dest] = append(again[dest], seq)
			}
		}
	}
	o.mu.RUnlock()
	return len(found), o.putLinks(found, again)
}

// Settle makes the verdicts of one batch durable in one commit: receipts, parked
// punches and the position. It may be repeated; what is settled already stays.
// Keep changes nothing.
func (o *Outbox) Settle(dest string, verdicts []punch.Verdict) error {
	now := time.Now()
	o.mu.RLock()
	c, ok := o.cursors[dest]
	if !ok {
		o.mu.RUnlock()
		return fmt.Errorf("outbox: %q: %w", dest, ErrNoDestination)
	}
	pos, head := c.pos.clone(), o.head
	park := map[uint64]parkedEntry{}
	var unpark []uint64
	var groups []receiptGroup
	done := map[uint64]bool{}
	for _, v := range verdicts {
		_, seq, err := v.ID.Seq()
		if err != nil || seq == 0 || seq > head || v.ID != punch.NewID(o.opt.Device, seq) {
			o.mu.RUnlock()
			return fmt.Errorf("outbox: settle %s: punch %q is not one of ours", dest, v.ID)
		}
		old, parked := c.parked[seq]
		if v.Fate == punch.Keep || done[seq] || (pos.has(seq) && !(parked && old.again)) {
			continue
		}
		done[seq] = true
		g := receiptGroup{first: seq, last: seq, Receipt: punch.Receipt{Attempts: v.Attempts + old.tries, Resent: v.Resent || old.resent,
			Receipt: v.Receipt, Reason: v.Reason, Message: v.Message}}
		switch v.Fate {
		case punch.Accept:
			g.State = punch.Delivered
		case punch.Skip:
			g.State = punch.Skipped
		case punch.Refuse:
			g.State = punch.Parked
			e := parkedEntry{first: now, last: now, tries: g.Attempts, resent: g.Resent, reason: v.Reason, message: v.Message}
			if parked {
				e.first = old.first
			}
			park[seq] = e
		}
		if parked && v.Fate != punch.Refuse {
			unpark = append(unpark, seq)
		}
		pos.settle(seq)
		groups = append(groups, g)
	}
	o.mu.RUnlock()
	if len(groups) == 0 {
		return nil
	}
	groups = joinGroups(groups)
	err := o.write(func(tx *bolt.Tx) error {
		if err := putSealed(tx.Bucket(bktPos), []byte(dest), pos.encode()); err != nil {
			return err
		}
		if len(park) > 0 {
			if err := putParked(tx, dest, park); err != nil {
				return err
			}
		}
		if b := tx.Bucket(bktParked(dest)); b != nil {
			for _, seq := range unpark {
				if err := b.Delete(seqKey(seq)); err != nil {
					return err
				}
			}
		}
		r, err := tx.CreateBucketIfNotExists(bktReceipts(dest))
		if err != nil {
			return err
		}
		r.FillPercent = 1
		n, err := r.NextSequence()
		if err != nil {
			return err
		}
		return putSealed(r, append(seqKey(groups[0].first), seqKey(n)...), encodeReceipts(now, groups))
	})
	if err != nil {
		return fmt.Errorf("outbox: settle %s: %w", dest, err)
	}
	o.mu.Lock()
	// Only one worker settles a destination, but a technician may have put a
	// parked punch back meanwhile: work on what is there now.
	for _, g := range groups {
		for seq := g.first; seq <= g.last; seq++ {
			c.pos.settle(seq)
		}
	}
	for _, seq := range unpark {
		if c.parked[seq].again {
			c.again--
		}
		delete(c.parked, seq)
	}
	for seq, e := range park {
		if c.parked[seq].again {
			c.again--
		}
		c.parked[seq] = e
	}
	o.mu.Unlock()
	o.notify()
	return nil
}

// joinGroups sorts, and joins neighbours that fared alike and have nothing of their own to say.
func joinGroups(gs []receiptGroup) []receiptGroup {
	sort.Slice(gs, func(i, j int) bool { return gs[i].first < gs[j].first })
	out := gs[:1]
	for _, g := range gs[1:] {
		l := &out[len(out)-1]
		if g.first == l.last+1 && g.Receipt == l.Receipt && g.Receipt.Receipt == "" && g.Reason == "" && g.Message == "" {
			l.last = g.last
			continue
		}
		out = append(out, g)
	}
	return out
}

// Retry puts parked punches back, to be sent again in their old place: those of
// dest, or of every destination if dest is ""; the given ones, or all. It returns
// how many were put back.
func (o *Outbox) Retry(dest string, ids ...punch.ID) (int, error) {
	want := map[uint64]bool{}
	for _, id := range ids {
		dev, seq, err := id.Seq()
		if err != nil {
			return 0, err
		}
		if dev != o.opt.Device {
			return 0, fmt.Errorf("punch %s is of device %q, this is %q", id, dev, o.opt.Device)
		}
		want[seq] = true
	}
	again := map[string][]uint64{}
	n := 0
	o.mu.RLock()
	if _, ok := o.cursors[dest]; !ok && dest != "" {
		names := slices.Sorted(maps.Keys(o.cursors))
		o.mu.RUnlock()
		return 0, fmt.Errorf("%q: %w: there is %q", dest, ErrNoDestination, names)
	}
	for name, c := range o.cursors {
		if dest != "" && name != dest {
			continue
		}
		for seq, e := range c.parked {
			if !e.again && (len(ids) == 0 || want[seq]) {
				again[name] = append(again[name], seq)
				n++
			}
		}
	}
	o.mu.RUnlock()
	if n == 0 {
		return 0, nil
	}
	return n, o.putLinks(nil, again)
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
	Again       bool // put back, about to be sent
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
	for i := range out {
		p, err := o.one(out[i].Seq)
		if err != nil {
			continue // a damaged one is listed without its fields
		}
		_ = o.complete(&p)
		out[i].Punch = p
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
		rs[i] = &receiptReader{o: o, dest: d, found: map[uint64]punch.Receipt{}, from: from}
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

// receiptReader yields one destination's receipts for ascending numbers.
type receiptReader struct {
	o     *Outbox
	dest  string
	from  uint64
	found map[uint64]punch.Receipt
	segs  []*receiptCursor
	ready bool
}

type receiptCursor struct {
	first uint64
	next  []byte // key to go on from
	done  bool
	ahead uint64 // lowest number of the entry at next
}

// of returns the state of seq, which must not be lower than the one asked before.
func (r *receiptReader) of(seq uint64) (punch.Receipt, error) {
	if !r.ready {
		r.ready = true
		r.o.mu.RLock()
		for i, f := range r.o.firsts {
			// A receipt lies in the segment of its record or in a later one.
			if i+1 == len(r.o.firsts) || r.o.firsts[i+1] > r.from {
				r.segs = append(r.segs, &receiptCursor{first: f})
			}
		}
		r.o.mu.RUnlock()
	}
	for _, s := range r.segs {
		if err := r.fill(s, seq); err != nil {
			return punch.Receipt{}, err
		}
	}
	got, ok := r.found[seq]
	delete(r.found, seq)
	r.o.mu.RLock()
	defer r.o.mu.RUnlock()
	c := r.o.cursors[r.dest]
	if e, parked := c.parked[seq]; parked {
		got = punch.Receipt{State: punch.Parked, Attempts: e.tries, Reason: e.reason, Message: e.message, Resent: e.resent, At: e.last}
		if e.again {
			got.State = punch.Pending
		}
		return got, nil
	}
	if !ok && c.pos.has(seq) {
		// From before this destination was set up, or its receipt was lost to damage.
		return punch.Receipt{State: punch.Skipped, Reason: "no_receipt"}, nil
	}
	return got, nil
}

// fill reads all entries that may speak of seq.
func (r *receiptReader) fill(s *receiptCursor, seq uint64) error {
	for !s.done && s.ahead <= seq {
		err := r.o.view(s.first, func(tx *bolt.Tx) error {
			b := tx.Bucket(bktReceipts(r.dest))
			if b == nil {
				s.done = true
				return nil
			}
			c := b.Cursor()
			n := 0
			for k, v := c.Seek(s.next); ; k, v = c.Next() {
				if k == nil {
					s.done = true
					return nil
				}
				if len(k) != 16 {
					continue
				}
				first := binary.BigEndian.Uint64(k)
				if first > seq || n >= chunk {
					s.next, s.ahead = append([]byte(nil), k...), first
					return nil
				}
				n++
				body, ok := unseal(k, v)
				gs, err := decodeReceipts(body)
				if !ok || err != nil {
					continue // the records are what counts; this one's state falls back
				}
				for _, g := range gs {
					for q := max(g.first, r.from); q <= g.last; q++ {
						if old, ok := r.found[q]; !ok || !g.At.Before(old.At) {
							r.found[q] = g.Receipt
						}
					}
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
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
	first, head, hash := o.firsts[0], o.head, o.headHash
	o.mu.RUnlock()
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
