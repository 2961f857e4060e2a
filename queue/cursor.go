package queue

import (
	"encoding/binary"
	"slices"
	"time"

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
