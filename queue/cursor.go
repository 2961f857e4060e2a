package queue

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// position is how far a destination has come. Everything up to seq is settled:
// delivered, skipped or parked. The runs are settled beyond it, ascending and
// apart. Its stored form is a byte 1, then uvarints: seq, and for each run its
// distance from what came before and its length.
type position struct {
	seq  uint64
	runs []run
}

type run struct{ first, last uint64 }

func (p position) encode() []byte {
	b := binary.AppendUvarint([]byte{1}, p.seq)
	at := p.seq
	for _, r := range p.runs {
		b = binary.AppendUvarint(b, r.first-at)
		b = binary.AppendUvarint(b, r.last-r.first)
		at = r.last
	}
	return b
}

func decodePosition(b []byte) (position, error) {
	s := &scan{b: b}
	if s.byte() != 1 {
		return position{}, errDamaged
	}
	p := position{seq: s.uvarint()}
	at := p.seq
	for !s.bad && len(s.b) > 0 {
		r := run{first: at + s.uvarint()}
		r.last = r.first + s.uvarint()
		if s.bad || r.first <= at || r.last < r.first {
			return position{}, errDamaged
		}
		p.runs = append(p.runs, r)
		at = r.last
	}
	if s.bad {
		return position{}, errDamaged
	}
	return p, nil
}

func (p *position) has(seq uint64) bool {
	if seq <= p.seq {
		return true
	}
	for _, r := range p.runs {
		if seq >= r.first && seq <= r.last {
			return true
		}
	}
	return false
}

// settle marks seq and closes the gaps that it fills.
func (p *position) settle(seq uint64) {
	if p.has(seq) {
		return
	}
	i, _ := slices.BinarySearchFunc(p.runs, seq, func(r run, s uint64) int {
		if r.first < s {
			return -1
		}
		return 1
	})
	p.runs = slices.Insert(p.runs, i, run{seq, seq})
	if i+1 < len(p.runs) && p.runs[i+1].first == seq+1 {
		p.runs[i].last = p.runs[i+1].last
		p.runs = slices.Delete(p.runs, i+1, i+2)
	}
	if i > 0 && p.runs[i-1].last+1 == seq {
		p.runs[i-1].last = p.runs[i].last
		p.runs = slices.Delete(p.runs, i, i+1)
	}
	if len(p.runs) > 0 && p.runs[0].first == p.seq+1 {
		p.seq = p.runs[0].last
		p.runs = slices.Delete(p.runs, 0, 1)
	}
}

func (p position) clone() position { p.runs = slices.Clone(p.runs); return p }

// beyond counts what is settled above seq.
func (p *position) beyond() (n uint64) {
	for _, r := range p.runs {
		n += r.last - r.first + 1
	}
	return n
}

// parkedEntry is one punch that waits for a person. Stored: a byte 1, a flag byte
// (1: put back, to be sent again; 2: an earlier send had an unknown result),
// uvarints first seen ms, last seen ms, tries; then reason and message as text.
type parkedEntry struct {
	again, resent   bool
	first, last     time.Time
	tries           int
	reason, message string
}

func (e parkedEntry) encode() []byte {
	var flags byte
	if e.again {
		flags |= 1
	}
	if e.resent {
		flags |= 2
	}
	b := []byte{1, flags}
	b = binary.AppendUvarint(b, uint64(max(0, e.first.UnixMilli())))
	b = binary.AppendUvarint(b, uint64(max(0, e.last.UnixMilli())))
	b = binary.AppendUvarint(b, uint64(max(0, e.tries)))
	b = appendText(b, punch.Words(e.reason))
	return appendText(b, punch.Words(e.message))
}

func decodeParked(b []byte) (parkedEntry, error) {
	s := &scan{b: b}
	var e parkedEntry
	if s.byte() != 1 {
		return e, errDamaged
	}
	flags := s.byte()
	e.again, e.resent = flags&1 != 0, flags&2 != 0
	e.first = time.UnixMilli(int64(s.uvarint())).UTC()
	e.last = time.UnixMilli(int64(s.uvarint())).UTC()
	e.tries = int(s.uvarint())
	e.reason = s.text()
	e.message = s.text()
	if s.bad {
		return e, errDamaged
	}
	return e, nil
}

// A receipts entry holds what one answered batch did, under the key (lowest
// sequence number, running number of the entry), both big-endian: a byte 1,
// uvarint at ms, then groups of punches with equal fate: uvarint distance from
// the last number of the group before (from 0 for the first, and the numbers may
// only grow), uvarint length minus one, a byte state | 8 if resent, uvarint
// attempts, then for a group of one receipt, reason and message as texts; longer
// groups have none. Fifty punches that went well are some twenty bytes.
type receiptGroup struct {
	first, last uint64
	punch.Receipt
}

func encodeReceipts(at time.Time, groups []receiptGroup) []byte {
	b := binary.AppendUvarint([]byte{1}, uint64(max(0, at.UnixMilli())))
	var prev uint64
	for _, g := range groups {
		b = binary.AppendUvarint(b, g.first-prev)
		b = binary.AppendUvarint(b, g.last-g.first)
		st := byte(g.State)
		if g.Resent {
			st |= 8
		}
		b = append(b, st)
		b = binary.AppendUvarint(b, uint64(max(0, g.Attempts)))
		if g.first == g.last {
			b = appendText(b, punch.Words(g.Receipt.Receipt))
			b = appendText(b, punch.Words(g.Reason))
			b = appendText(b, punch.Words(g.Message))
		}
		prev = g.last
	}
	return b
}

var errReceipts = errors.New("receipts entry is damaged")

func decodeReceipts(b []byte) ([]receiptGroup, error) {
	s := &scan{b: b}
	if s.byte() != 1 {
		return nil, errReceipts
	}
	at := time.UnixMilli(int64(s.uvarint())).UTC()
	var out []receiptGroup
	var prev uint64
	for !s.bad && len(s.b) > 0 {
		g := receiptGroup{first: prev + s.uvarint()}
		g.last = g.first + s.uvarint()
		st := s.byte()
		g.State, g.Resent = punch.DeliveryState(st&7), st&8 != 0
		g.Attempts = int(s.uvarint())
		g.At = at
		if g.first == g.last {
			g.Receipt.Receipt, g.Reason, g.Message = s.text(), s.text(), s.text()
		}
		if s.bad || g.last < g.first || g.State > punch.Skipped || (len(out) > 0 && g.first <= prev) {
			return nil, errReceipts
		}
		prev = g.last
		out = append(out, g)
	}
	if s.bad {
		return nil, errReceipts
	}
	return out, nil
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
