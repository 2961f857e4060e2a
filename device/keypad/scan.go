package keypad

import (
	"math/bits"
	"time"
)

const (
	scanEvery = 5 * time.Millisecond // while a key is down
	stuckTime = 30 * time.Second     // held for this long: stuck
	enough    = 4                    // scans in a row that make it so
)

// matrix is which keys a scan saw: bit 4·row+column.
type matrix uint16

func bit(row, column int) matrix { return 1 << (4*row + column) }

// scanner decides which keys are pressed. It is pure: the time comes from its caller.
// The zero scanner has seen nothing.
type scanner struct {
	seen  matrix    // by the last scan
	same  int       // scans in a row that saw it
	since time.Time // the first of them

	now   matrix    // what is so
	held  time.Time // since when it is not nothing
	spent bool      // something was pressed, or refused: wait until all keys are free
	stuck bool
}

// seeing is what a scan came to.
type seeing struct {
	pressed int       // 4·row+column, -1 for none
	at      time.Time // when it was first seen
	refused bool      // more keys than can be told apart
}

// scan takes what a scan saw.
func (s *scanner) scan(m matrix, at time.Time) seeing {
	none := seeing{pressed: -1}
	if s.same == 0 || m != s.seen {
		s.seen, s.same, s.since = m, 0, at
	}
	s.same = min(s.same+1, enough)
	if s.same < enough {
		return none
	}
	if s.now == 0 && m != 0 {
		s.held = s.since
	}
	changed := m != s.now
	s.now = m
	s.stuck = m != 0 && at.Sub(s.held) >= stuckTime
	switch n := bits.OnesCount16(uint16(m)); {
	case n == 0:
		s.spent = false
	case s.spent && (n < 3 || !changed):
	case n == 1:
		s.spent = true
		return seeing{pressed: bits.TrailingZeros16(uint16(m)), at: s.since}
	default:
		s.spent = true
		return seeing{pressed: -1, at: s.since, refused: true}
	}
	return none
}

// idle reports whether no key is down, for sure: the next one comes with an edge.
func (s *scanner) idle() bool { return s.same == enough && s.seen == 0 }
