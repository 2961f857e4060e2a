package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"punchclock/queue/punch"
)

func sha(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }

// twin is the outbox as a child would write it.
type twin struct {
	punches []punch.Draft
	settled map[string]map[int]punch.Fate // by index
	again   map[string]map[int]bool
}

func (w *twin) next(dest string, n int) (out []int) {
	for i := range w.punches {
		f, ok := w.settled[dest][i]
		if (!ok || f == punch.Refuse && w.again[dest][i]) && len(out) < n {
			out = append(out, i)
		}
	}
	return out
}

// Random operations, and after each the outbox agrees with its naive twin.
func TestOutboxAgreesWithANaiveTwin(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(base, "o")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		dests := []string{"104", "feishu"}
		o := Options{Dir: dir, Device: "twin", Destinations: dests, SegmentRecords: rapid.IntRange(3, 30).Draw(rt, "segment"), UnsafeNoSync: true, ahead: 1 << 16}
		b, err := Open(o)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { b.Close() }()
		w := &twin{settled: map[string]map[int]punch.Fate{}, again: map[string]map[int]bool{}}
		for _, d := range dests {
			w.settled[d], w.again[d] = map[int]punch.Fate{}, map[int]bool{}
		}
		n := 0
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				for range rapid.IntRange(1, 9).Draw(rt, "n") {
					d := draft(n)
					n++
					if _, err := b.Append(d); err != nil {
						rt.Fatal(err)
					}
					w.punches = append(w.punches, d)
				}
			},
			"settle": func(rt *rapid.T) {
				dest := rapid.SampledFrom(dests).Draw(rt, "dest")
				ps, err := b.Next(dest, rapid.IntRange(1, 20).Draw(rt, "max"))
				if err != nil {
					rt.Fatal(err)
				}
				var vs []punch.Verdict
				for _, p := range ps {
					f := rapid.SampledFrom([]punch.Fate{punch.Keep, punch.Accept, punch.Accept, punch.Refuse, punch.Skip}).Draw(rt, "fate")
					vs = append(vs, punch.Verdict{ID: p.ID, Fate: f, Attempts: 1, Reason: "r"})
					if f != punch.Keep {
						w.settled[dest][int(p.Seq-1)] = f
						delete(w.again[dest], int(p.Seq-1))
					}
				}
				if err := b.Settle(dest, vs); err != nil {
					rt.Fatal(err)
				}
			},
			"retry": func(rt *rapid.T) {
				dest := rapid.SampledFrom(dests).Draw(rt, "dest")
				if _, err := b.Retry(dest); err != nil {
					rt.Fatal(err)
				}
				for i, f := range w.settled[dest] {
					if f == punch.Refuse {
						w.again[dest][i] = true
					}
				}
			},
			"tidy": func(rt *rapid.T) {
				if err := b.Tidy(); err != nil {
					rt.Fatal(err)
				}
			},
			"reopen": func(rt *rapid.T) {
				if err := b.Close(); err != nil {
					rt.Fatal(err)
				}
				if b, err = Open(o); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				st := b.Stats()
				for _, dest := range dests {
					ps, err := b.Next(dest, 15)
					if err != nil {
						rt.Fatal(err)
					}
					var got []int
					for _, p := range ps {
						got = append(got, int(p.Seq-1))
						if want := w.punches[p.Seq-1]; want.Badge != p.Badge || want.Tap != p.Tap || want.Kind != p.Kind {
							rt.Fatalf("punch %d is %+v", p.Seq, p)
						}
					}
					if want := w.next(dest, 15); !slices.Equal(got, want) {
						rt.Fatalf("%s: next %v, want %v", dest, got, want)
					}
					if all := w.next(dest, 1<<30); uint64(len(all)) != st.Destinations[dest].Pending {
						rt.Fatalf("%s: pending %d, want %d", dest, st.Destinations[dest].Pending, len(all))
					}
				}
				if st.LastSeq != uint64(len(w.punches)) {
					rt.Fatalf("last %d, want %d", st.LastSeq, len(w.punches))
				}
				c, err := b.Verify(t.Context(), nil)
				if err != nil || len(c.Problems) > 0 {
					rt.Fatal(fmt.Sprint(err, c.Problems))
				}
			},
		})
	})
}
