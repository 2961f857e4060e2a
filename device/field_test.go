package device

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A script of looks: the time in milliseconds, and the cards that were found.
func TestACardIsOneTapHoweverLongItStays(t *testing.T) {
	for _, c := range []struct {
		name  string
		looks string
		want  string
	}{
		{"a tap", "0 A, 100 A, 200 A", "0 A"},
		{"a card left there for an hour", "0 A, 700 A, 1400 A, 2100 A, 2899 A", "0 A"},
		{"a weak moment", "0 A, 100, 200, 799 A", "0 A"},
		{"taken away and tapped again", "0 A, 100, 900 A", "0 A, 900 A"},
		{"the next person soon after", "0 A, 200 B, 400 A", "0 A, 200 B"},
		{"two at once", "0 A B, 200 A, 400 B, 600 A B", "0 two"},
		{"one of the two at a time, as some chips tell them", "0 A B, 200 A, 400, 600 B A, 1500 A", "0 two, 1500 A"},
		{"a purse that comes nearer", "0 A, 100 A B, 200 A B", "0 A, 100 two"},
		{"a tap beside a card that was left there", "0 A, 500 A, 1000 A, 1100 A B", "0 A, 1100 B"},
		{"a phone", "0 8, 100 8, 200 9, 300 8", "0 random"},
		{"a phone that comes back", "0 8, 900 9", "0 random, 900 random"},
		{"a phone with a card in its case", "0 8 A", "0 two"},
		{"the same card told twice", "0 A A", "0 A"},
		{"three", "0 A B C", "0 two"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f Field
			var got []string
			for look := range strings.SplitSeq(c.looks, ", ") {
				words := strings.Fields(look)
				var ms int
				fmt.Sscan(words[0], &ms)
				var uids [][]byte
				for _, w := range words[1:] {
					switch w {
					case "8", "9":
						uids = append(uids, []byte{0x08, w[0], 1, 2})
					default:
						uids = append(uids, []byte(strings.Repeat(w, 7)))
					}
				}
				card, fault := f.See(time.Unix(1, 0).Add(time.Duration(ms)*time.Millisecond), uids...)
				if card != nil {
					got = append(got, fmt.Sprintf("%d %c", ms, card[0]))
				}
				if fault != "" {
					got = append(got, fmt.Sprintf("%d %s", ms, fault))
				}
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("%s\n got %s\nwant %s", c.looks, s, c.want)
			}
		})
	}
}

func TestAFieldRemembersWhatMayStillBeThere(t *testing.T) {
	var f Field
	at := time.Unix(1, 0)
	f.See(at, []byte{1, 2, 3, 4})
	f.See(at.Add(Apart/2), []byte{5, 6, 7, 8}, []byte{8, 1, 1, 1})
	if r := f.Resting(at.Add(Apart / 2)); len(r) != 2 {
		t.Errorf("%v", r)
	}
	if r := f.Resting(at.Add(Apart)); len(r) != 1 || r[0][0] != 5 {
		t.Errorf("%v", r)
	}
	f.Empty()
	if card, _ := f.See(at.Add(Apart), []byte{5, 6, 7, 8}); card == nil {
		t.Error("a reader that was gone knows nothing of before")
	}
	if Random([]byte{8, 1, 2, 3, 4, 5, 6}) || !Random([]byte{8, 1, 2, 3}) {
		t.Error("only a number of four bytes is random")
	}
}
