package device

import (
	"bytes"
	"slices"
	"time"
)

// Apart is how long a contactless card must not have been seen for its next sight
// to be another tap.
const Apart = 800 * time.Millisecond

// together is how soon after a first card a second one beside it belongs to the
// same hand: a purse with two cards, rather than somebody's tap beside a card that
// was left on the reader.
const together = time.Second

// Field is what lies on a contactless reader that looks for 13.56 MHz cards again
// and again. It tells one tap from the next: a card that stays, however long, is one
// tap. The zero value is an empty field.
//
// Two cards that come at once are none: which of them was meant is not for a clock
// to guess. Neither is a UID of four bytes beginning with 08, which a phone makes up
// anew each time (ISO 14443-3: a random number).
type Field struct {
	cards []sight
}

type sight struct {
	uid         []byte
	first, last time.Time
}

// key is what a UID is known by: all random ones of a phone are one.
func key(uid []byte) []byte {
	if Random(uid) {
		return uid[:1]
	}
	return uid
}

// Random reports whether a UID is one that its card makes up for each tap.
func Random(uid []byte) bool { return len(uid) == 4 && uid[0] == 0x08 }

// See takes all cards that one look at the field has found; it keeps none of the
// slices. Where a tap came of it, card is its UID, or fault is the word for why it
// is refused. Time must not run backwards (use Go's monotonic readings).
func (f *Field) See(at time.Time, uids ...[]byte) (card []byte, fault string) {
	f.cards = slices.DeleteFunc(f.cards, func(s sight) bool { return at.Sub(s.last) >= Apart })
	var fresh, company int
	for i, uid := range uids {
		k := key(uid)
		at0 := slices.IndexFunc(f.cards, func(s sight) bool { return bytes.Equal(s.uid, k) })
		switch {
		case at0 < 0:
			f.cards = append(f.cards, sight{bytes.Clone(k), at, at})
			card = uids[i]
			fresh++
		case f.cards[at0].first.Equal(at): // told twice in one look
		default:
			if at.Sub(f.cards[at0].first) < together {
				company++
			}
			f.cards[at0].last = at
		}
	}
	switch {
	case fresh == 0:
		return nil, ""
	case fresh+company > 1:
		return nil, FaultTwo
	case Random(card):
		return nil, FaultRandom
	}
	return card, ""
}

// Resting returns the cards that were seen less than Apart ago and may still be
// there. The slices must not be changed and are good until the next See.
func (f *Field) Resting(at time.Time) (uids [][]byte) {
	for _, s := range f.cards {
		if at.Sub(s.last) < Apart && len(s.uid) > 1 {
			uids = append(uids, s.uid)
		}
	}
	return uids
}

// Empty forgets what lies there: the reader was gone.
func (f *Field) Empty() { f.cards = f.cards[:0] }
