package queue

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"punchclock/queue/punch"
)

// underWay lists what Next says was offered before.
func underWay(t *testing.T, o *Outbox, dest string) (seqs []uint64) {
	t.Helper()
	ps, err := o.Next(dest, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.Offered {
			seqs = append(seqs, p.Seq)
		}
	}
	return seqs
}

func TestWhatWasOnItsWayAtAKillIsKnownAfterwardsUntilItHasAVerdict(t *testing.T) {
	opt := Options{Dir: t.TempDir(), Device: "door-1", Destinations: []string{"104", "a \"b\" 7"}}
	open := func() *Outbox {
		o, err := Open(opt)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	id := func(seqs ...uint64) (ids []punch.ID) {
		for _, s := range seqs {
			ids = append(ids, punch.NewID("door-1", s))
		}
		return ids
	}
	o := open()
	for i := range 20 {
		if _, err := o.Append(draft(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Offer("104", id(1, 2, 3, 9), false); err != nil {
		t.Fatal(err)
	}
	if err := o.Offer("104", id(2, 3, 4, 7), false); err != nil { // in place of the first
		t.Fatal(err)
	}
	if err := o.Offer("a \"b\" 7", id(20), true); err != nil {
		t.Fatal(err)
	}
	if got := underWay(t, o, "104"); len(got) != 0 {
		t.Errorf("offered by this very process: %v", got)
	}
	o.Close() // which has nothing to say about offers: as a kill leaves it
	o = open()
	if got := underWay(t, o, "104"); !slices.Equal(got, []uint64{2, 3, 4, 7}) {
		t.Errorf("after a kill: %v", got)
	}
	if got := underWay(t, o, "a \"b\" 7"); !slices.Equal(got, []uint64{20}) {
		t.Errorf("after a kill: %v", got)
	}
	// A second kill, when only some of them had their turn, and one its verdict.
	if err := o.Settle("104", []punch.Verdict{{ID: id(3)[0], Fate: punch.Accept}}); err != nil {
		t.Fatal(err)
	}
	if err := o.Offer("104", id(2, 5), false); err != nil {
		t.Fatal(err)
	}
	o.Close()
	o = open()
	defer o.Close()
	if got := underWay(t, o, "104"); !slices.Equal(got, []uint64{2, 4, 5, 7}) {
		t.Errorf("after a second kill: %v", got)
	}
	if got := underWay(t, o, "a \"b\" 7"); !slices.Equal(got, []uint64{20}) {
		t.Errorf("after a second kill, at a destination that had no turn in between: %v", got)
	}
}

func TestAnOffersFileThatIsNotWhatWasWrittenMeansNothingIsKnownAndStopsNothing(t *testing.T) {
	whole := formatOffers(map[string][]uint64{"104": {1, 2, 3, 17}})
	for name, b := range map[string][]byte{
		"Empty": nil, "Zeros": make([]byte, 4096), "Torn": whole[:len(whole)-3], "OtherForm": []byte("punchclock offers 2 3 00000000\nxyz"),
		"Flipped": bytes.Replace(whole, []byte("17"), []byte("16"), 1),
		"Endless": formatOffers(map[string][]uint64{})[:10], "Huge": []byte("punchclock offers 1 999999999999 00000000\n"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "offers"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			o, err := Open(Options{Dir: dir, Device: "door-1", Destinations: []string{"104"}})
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			p, err := o.Append(draft(1))
			if err != nil {
				t.Fatal(err)
			}
			if got := underWay(t, o, "104"); len(got) != 0 {
				t.Errorf("offered %v", got)
			}
			if err := o.Offer("104", []punch.ID{p.ID}, false); err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzOffersFile(f *testing.F) {
	_, body, _ := bytes.Cut(formatOffers(map[string][]uint64{"104": {1, 2, 3, 17}, "x y": {9}}), []byte("\n"))
	f.Add(body)
	f.Add([]byte("\"a\" 9-7\n"))
	f.Add([]byte("\"a 1\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		parseOffers(body)
		m, err := parseOffers(fmt.Appendf(nil, "punchclock offers 1 %d %08x\n%s", len(body), crc32.Checksum(body, castagnoli), body))
		if err != nil {
			return
		}
		again := map[string][]uint64{}
		for dest, seqs := range m {
			again[dest] = slices.Sorted(maps.Keys(seqs))
		}
		back, err := parseOffers(formatOffers(again))
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%v (%v), was %v", back, err, m)
		}
	})
}
