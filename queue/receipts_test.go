package queue

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"punchclock/queue/punch"
)

func TestReceiptsComeBackAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []receiptGroup
		at := time.UnixMilli(1_790_000_000_000).UTC()
		for range rapid.IntRange(1, 8).Draw(t, "batches") {
			at = at.Add(time.Duration(rapid.IntRange(-5000, 5000).Draw(t, "ms")) * time.Millisecond)
			seq := rapid.Uint64Range(1, 1<<40).Draw(t, "first")
			for range rapid.IntRange(1, 6).Draw(t, "groups") {
				g := receiptGroup{first: seq, last: seq, Receipt: punch.Receipt{At: at, State: punch.Delivered,
					Attempts: rapid.IntRange(0, 3).Draw(t, "attempts"), Resent: rapid.Bool().Draw(t, "resent")}}
				switch rapid.IntRange(0, 3).Draw(t, "kind") {
				case 0:
					g.last += uint64(rapid.IntRange(0, 600).Draw(t, "length"))
				case 1:
					g.Receipt.Receipt = fmt.Sprint(rapid.Uint64().Draw(t, "number"))
				case 2:
					g.Receipt.Receipt = rapid.SampledFrom([]string{"007", "+7", "abc", "18446744073709551616", ""}).Draw(t, "words")
					g.Reason = rapid.SampledFrom([]string{"", "gone"}).Draw(t, "reason")
				case 3:
					g.State, g.Receipt.Receipt, g.Message = punch.Parked, "5", "員工"
				}
				in = append(in, g)
				seq = g.last + uint64(rapid.IntRange(1, 3).Draw(t, "gap"))
			}
		}
		out, err := decodeReceipts(encodeReceipts(in))
		if err != nil || !slices.Equal(in, out) {
			t.Fatalf("%v\n%+v\n%+v", err, in, out)
		}
	})
}

// Receipts move from the root page to their own bucket as they come. Whatever has
// moved, each punch keeps its own.
func TestEveryPunchKeepsItsReceiptWhileReceiptsMove(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir()})
	const n = 1200
	appendN(t, b, 0, n)
	id := func(seq uint64) string { return fmt.Sprint(7390000000000000000 + seq*7340033) }
	for at := 0; at < n; at += 25 {
		var named, plain []punch.Verdict
		for seq := at + 1; seq <= at+25; seq++ {
			v := punch.Verdict{ID: punch.NewID("test-1", uint64(seq)), Fate: punch.Accept, Attempts: 1 + at%3}
			plain = append(plain, v)
			v.Receipt = id(uint64(seq))
			named = append(named, v)
		}
		if err := b.Settle("104", plain); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(named)
		if err := b.Settle("feishu", named); err != nil {
			t.Fatal(err)
		}
	}
	seen := uint64(0)
	if err := b.Read(context.Background(), 1, func(e Entry) error {
		seen++
		one, two := e.Deliveries["104"], e.Deliveries["feishu"]
		if one.State != punch.Delivered || one.Receipt != "" || two.State != punch.Delivered || two.Receipt != id(e.Seq) || two.Attempts != 1+int(e.Seq-1)/25*25%3 {
			t.Errorf("%d: %+v %+v", e.Seq, one, two)
		}
		return nil
	}); err != nil || seen != n {
		t.Fatal(err, seen)
	}
}

// Whatever is small lies beside the root page, which must stay one page.
func TestRootStaysOnePage(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir, Who: func(punch.Badge, time.Time) (string, bool) { return "000001", true }})
	for i := range 500 {
		d := draft(i)
		d.Raw = make([]byte, 7)
		d.Employee, d.Outcome = "", punch.UnknownBadge
		if _, err := b.Append(d); err != nil {
			t.Fatal(err)
		}
		if i%6 == 5 {
			b.Tidy()
		}
		if i%3 == 0 {
			b.SetBootTime([16]byte{byte(i), byte(i >> 8)}, time.UnixMilli(1))
		}
		if i%10 == 9 {
			for _, dest := range []string{"104", "feishu"} {
				ps, err := b.Next(dest, 10)
				if err != nil {
					t.Fatal(err)
				}
				vs := accept(ps)
				vs[3].Fate, vs[3].Message, vs[7].Fate, vs[7].Message = punch.Refuse, "nobody", punch.Keep, ""
				if err := b.Settle(dest, vs); err != nil {
					t.Fatal(err)
				}
			}
		}
		if i%20 == 0 {
			f := mustPages(t, b.cur.path)
			page, err := f.page(f.root)
			if err != nil {
				t.Fatal(err)
			}
			if page[8] != leafFlag || len(page) != PageSize {
				t.Fatalf("after %d punches the root is %d bytes, flags %d", i+1, len(page), page[8])
			}
		}
	}
}

func mustPages(t *testing.T, path string) *pageFile {
	t.Helper()
	h, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	f, err := openPages(path, h)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
