package queue

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// Receipts are kept like records. The newest lie in the bucket "fresh", one value
// for each destination, that bbolt keeps inside its root page: a batch that was
// answered costs the root page and the meta page, no more. When fresh is full, the
// longest value of it moves to r/<dest> in the same commit, some hundred batches
// in one entry.
//
// An entry holds groups of punches that fared alike. In r/<dest> its key is
// (lowest sequence number, running number of the entry), both big-endian. It is a
// byte 1, then for each group
//
//	distance   varint: first number, from the last number of the group before (from 0)
//	length     uvarint: how many punches, minus one
//	state      1 byte: state | 8 resent | 16 texts | 32 numbers | 64 time
//	time       with 64: varint, milliseconds since the group before (since 1970)
//	attempts   uvarint
//	texts      with 16, length is one: receipt, reason and message
//	numbers    with 32: for each punch a varint, the receipt, a decimal number below
//	           2^64, less the number before in this entry
//
// Fifty punches that went well are seven bytes; with a far side's record numbers
// some five more for each.
type receiptGroup struct {
	first, last uint64
	punch.Receipt
}

const (
	receiptResent  = 8
	receiptTexts   = 16
	receiptNumbers = 32
	receiptTime    = 64
)

var bktFresh = []byte("fresh")

// number returns the receipt as a number, where nothing else is to be kept of it.
func (g *receiptGroup) number() (n uint64, ok bool) {
	r := g.Receipt.Receipt
	if r == "" || g.first != g.last || g.Reason != "" || g.Message != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(r, 10, 64)
	return n, err == nil && strconv.FormatUint(n, 10) == r
}

func encodeReceipts(groups []receiptGroup) []byte {
	b := []byte{1}
	var prev, number uint64
	var at int64
	for i := 0; i < len(groups); {
		g := groups[i]
		run := groups[i : i+1] // those that go into one group with g
		_, numbers := g.number()
		for numbers && i+len(run) < len(groups) {
			n, l := &groups[i+len(run)], run[len(run)-1]
			if _, ok := n.number(); !ok || n.first != l.last+1 || n.State != g.State || n.Attempts != g.Attempts || n.Resent != g.Resent || !n.At.Equal(g.At) {
				break
			}
			run = groups[i : i+len(run)+1]
		}
		last := run[len(run)-1].last
		b = binary.AppendVarint(b, int64(g.first-prev))
		b = binary.AppendUvarint(b, last-g.first)
		prev = last
		state := byte(g.State)
		if g.Resent {
			state |= receiptResent
		}
		switch {
		case numbers:
			state |= receiptNumbers
		case g.Receipt.Receipt != "" || g.Reason != "" || g.Message != "":
			state |= receiptTexts
		}
		ms := max(0, g.At.UnixMilli())
		if ms != at {
			b = append(b, state|receiptTime)
			b = binary.AppendVarint(b, ms-at)
			at = ms
		} else {
			b = append(b, state)
		}
		b = binary.AppendUvarint(b, uint64(max(0, g.Attempts)))
		if state&receiptTexts != 0 {
			b = appendText(b, punch.Words(g.Receipt.Receipt))
			b = appendText(b, punch.Words(g.Reason))
			b = appendText(b, punch.Words(g.Message))
		}
		if numbers {
			for _, r := range run {
				n, _ := r.number()
				b = binary.AppendVarint(b, int64(n-number))
				number = n
			}
		}
		i += len(run)
	}
	return b
}

var errReceipts = errors.New("receipts entry is damaged")

func decodeReceipts(b []byte) ([]receiptGroup, error) {
	s := &scan{b: b}
	if s.byte() != 1 {
		return nil, errReceipts
	}
	var out []receiptGroup
	var prev, number uint64
	var at int64
	for !s.bad && len(s.b) > 0 {
		g := receiptGroup{first: prev + uint64(s.varint())}
		g.last = g.first + s.uvarint()
		state := s.byte()
		g.State, g.Resent = punch.DeliveryState(state&7), state&receiptResent != 0
		if state&receiptTime != 0 {
			at += s.varint()
		}
		g.At = time.UnixMilli(at).UTC()
		g.Attempts = int(s.uvarint())
		if state&receiptTexts != 0 {
			g.Receipt.Receipt, g.Reason, g.Message = s.text(), s.text(), s.text()
		}
		if s.bad || g.first == 0 || g.last < g.first || g.State > punch.Skipped {
			return nil, errReceipts
		}
		prev = g.last
		if state&receiptNumbers == 0 {
			out = append(out, g)
			continue
		}
		for seq, last := g.first, g.last; !s.bad; seq++ {
			number += uint64(s.varint())
			g.first, g.last, g.Receipt.Receipt = seq, seq, strconv.FormatUint(number, 10)
			out = append(out, g)
			if seq == last {
				break
			}
		}
	}
	if s.bad {
		return nil, errReceipts
	}
	return out, nil
}

// joinGroups sorts, and joins neighbours that fared alike and have nothing of their own to say.
func joinGroups(gs []receiptGroup) []receiptGroup {
	slices.SortFunc(gs, func(a, b receiptGroup) int { return cmp.Compare(a.first, b.first) })
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

// putReceipts adds groups to what is fresh of dest, and makes room there.
func putReceipts(tx *bolt.Tx, dest string, groups []receiptGroup) error {
	fresh, err := tx.CreateBucketIfNotExists(bktFresh)
	if err != nil {
		return err
	}
	if v, ok := getSealed(fresh, []byte(dest)); ok {
		if before, err := decodeReceipts(v); err == nil {
			groups = append(before, groups...)
		}
	}
	value := encodeReceipts(groups)
	size := pageHeader + elemSize + len(dest) + len(value) + 4
	longest, most := dest, len(value)
	fresh.ForEach(func(k, v []byte) error {
		if string(k) != dest {
			size += elemSize + len(k) + len(v)
			if len(v) > most {
				longest, most = string(k), len(v)
			}
		}
		return nil
	})
	if size <= inlineMax {
		return putSealed(fresh, []byte(dest), value)
	}
	if longest != dest {
		if err := putSealed(fresh, []byte(dest), value); err != nil {
			return err
		}
		v, ok := getSealed(fresh, []byte(longest))
		if groups, err = decodeReceipts(v); !ok || err != nil {
			return fresh.Delete([]byte(longest)) // nobody could read it
		}
		value = slices.Clone(v)
	}
	if err := fresh.Delete([]byte(longest)); err != nil {
		return err
	}
	r, err := ownPage(tx, bktReceipts(longest))
	if err != nil {
		return err
	}
	r.FillPercent = 1
	n, err := r.NextSequence()
	if err != nil {
		return err
	}
	low := groups[0].first
	for _, g := range groups {
		low = min(low, g.first)
	}
	return putSealed(r, append(seqKey(low), seqKey(n)...), value)
}

// hasReceipts reports whether anything was ever settled for dest in this segment.
func hasReceipts(tx *bolt.Tx, dest string) bool {
	fresh := tx.Bucket(bktFresh)
	return tx.Bucket(bktReceipts(dest)) != nil || fresh != nil && fresh.Get([]byte(dest)) != nil
}

// receiptReader yields one destination's receipts for ascending numbers.
type receiptReader struct {
	o      *Outbox
	dest   string
	from   uint64
	known  position       // what was settled when the reading began: all of it has a receipt by now
	groups []receiptGroup // that speak of numbers still to come, ascending by their first
	segs   []*receiptCursor
	ready  bool
}

type receiptCursor struct {
	first uint64
	begun bool
	next  []byte // key to go on from
	done  bool
	ahead uint64 // lowest number of the entry at next
}

// of returns the state of seq, which must not be lower than the one asked before.
func (r *receiptReader) of(seq uint64) (punch.Receipt, error) {
	if !r.ready {
		r.ready = true
		r.o.mu.RLock()
		r.known = r.o.cursors[r.dest].pos.clone()
		for i, f := range r.o.firsts {
			// A receipt lies in the segment of its record or in a later one.
			if i+1 == len(r.o.firsts) || r.o.firsts[i+1] > r.from {
				r.segs = append(r.segs, &receiptCursor{first: f})
			}
		}
		r.o.mu.RUnlock()
	}
	more := false
	for _, s := range r.segs {
		if !s.done && s.ahead <= seq {
			more = true
			if err := r.fill(s, seq); err != nil {
				return punch.Receipt{}, err
			}
		}
	}
	if more {
		slices.SortStableFunc(r.groups, func(a, b receiptGroup) int { return cmp.Compare(a.first, b.first) })
	}
	var got punch.Receipt
	ok := false
	for _, g := range r.groups {
		if g.first > seq {
			break
		}
		if g.last >= seq && (!ok || !g.At.Before(got.At)) {
			got, ok = g.Receipt, true
		}
	}
	for len(r.groups) > 0 && r.groups[0].last <= seq {
		r.groups = r.groups[1:]
	}
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
	if !ok && r.known.has(seq) {
		// From before this destination was set up, or its receipt was lost to damage.
		return punch.Receipt{State: punch.Skipped, Reason: "no_receipt"}, nil
	}
	return got, nil
}

// fill reads all entries that may speak of seq.
func (r *receiptReader) fill(s *receiptCursor, seq uint64) error {
	for !s.done && s.ahead <= seq {
		err := r.o.view(s.first, func(tx *bolt.Tx) error {
			// In one transaction with the first entries: what moves from fresh later is here already.
			if f := tx.Bucket(bktFresh); f != nil && !s.begun {
				r.take([]byte(r.dest), f.Get([]byte(r.dest)))
			}
			s.begun = true
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
				r.take(k, v)
			}
		})
		if errors.Is(err, errLetGo) {
			s.done, err = true, nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take keeps what an entry says of the numbers to come.
func (r *receiptReader) take(k, v []byte) {
	body, ok := unseal(k, v)
	gs, err := decodeReceipts(body)
	if !ok || err != nil {
		return // the records are what counts; this one's state falls back
	}
	for _, g := range gs {
		if g.last >= r.from {
			r.groups = append(r.groups, g)
		}
	}
}
