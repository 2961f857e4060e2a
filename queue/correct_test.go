package queue

import (
	"slices"
	"testing"

	"punchclock/queue/punch"
)

// correct appends a correction of a punch and returns its number.
func correct(t *testing.T, b *Outbox, n int, old uint64) uint64 {
	t.Helper()
	d := draft(n)
	d.Kind, d.Supersedes, d.Raw, d.Bits = punch.GoOut, old, nil, 0
	p, err := b.Append(d)
	if err != nil {
		t.Fatal(err)
	}
	return p.Seq
}

// superseded lists what Next says is corrected, by which.
func superseded(t *testing.T, b *Outbox, dest string, most int) map[uint64]uint64 {
	t.Helper()
	ps, err := b.Next(dest, most)
	if err != nil {
		t.Fatal(err)
	}
	m := map[uint64]uint64{}
	for _, p := range ps {
		if p.SupersededBy != 0 {
			m[p.Seq] = p.SupersededBy
		}
	}
	return m
}

func same(a, b map[uint64]uint64) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

func TestCorrectedPunchIsHandedOutWithTheNewestCorrection(t *testing.T) {
	opt := Options{Dir: t.TempDir(), SegmentRecords: 40}
	b := open(t, opt)
	appendN(t, b, 0, 10)
	if got := superseded(t, b, "104", 100); len(got) != 0 {
		t.Fatalf("%v", got)
	}
	correct(t, b, 10, 4) // is 11
	want := map[uint64]uint64{4: 11}
	if got := superseded(t, b, "104", 100); !same(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	appendN(t, b, 20, 100)                            // into other files
	last := correct(t, b, 200, correct(t, b, 201, 4)) // of the same one, and that one's own
	want = map[uint64]uint64{4: 112, 112: last}
	if got := superseded(t, b, "feishu", 1000); !same(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	// However few are asked for, and after a restart.
	if got := superseded(t, b, "104", 5); !same(got, map[uint64]uint64{4: 112}) {
		t.Errorf("%v", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, opt)
	if got := superseded(t, b, "104", 1000); !same(got, want) {
		t.Errorf("after a restart: %v, want %v", got, want)
	}
}

func TestPunchThatIsPutBackKnowsItsCorrection(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir()})
	appendN(t, b, 0, 3)
	correct(t, b, 3, 2)
	appendN(t, b, 10, lookAhead+500)
	var v []punch.Verdict
	for seq := uint64(1); seq <= 400; seq++ {
		v = append(v, punch.Verdict{ID: punch.NewID("test-1", seq), Fate: punch.Accept})
	}
	v[0].Fate, v[1].Fate = punch.Refuse, punch.Refuse
	if err := b.Settle("104", v); err != nil {
		t.Fatal(err)
	}
	if got := superseded(t, b, "104", 1000); len(got) != 0 {
		t.Errorf("%v", got)
	}
	for seq := uint64(401); seq <= b.Stats().LastSeq; seq++ {
		v = append(v, punch.Verdict{ID: punch.NewID("test-1", seq), Fate: punch.Accept})
	}
	for _, all := range []bool{false, true} { // far behind what is being sent, and alone
		if all {
			if err := b.Settle("104", v); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Retry("104"); err != nil {
			t.Fatal(err)
		}
		if got := superseded(t, b, "104", 1000); !same(got, map[uint64]uint64{2: 4}) {
			t.Errorf("put back, everything else settled %v: %v", all, got)
		}
	}
}

func TestADamagedCorrectionKeepsNobodysPunchBack(t *testing.T) {
	d := draft(7)
	d.Supersedes = 300
	v, err := encodeRecord(400, [32]byte{1}, &d)
	if err != nil {
		t.Fatal(err)
	}
	o := &Outbox{opt: Options{Device: "test-1"}}
	if got := o.correction(400, v); got != 300 {
		t.Fatalf("the whole one corrects %d", got)
	}
	hit := 0
	for bit := range 8 * len(v) {
		flipped := slices.Clone(v)
		flipped[bit/8] ^= 1 << (bit % 8)
		if supersedes(flipped) != 300 && supersedes(flipped) != 0 {
			hit++
		}
		if got := o.correction(400, flipped); got != 0 {
			t.Errorf("with bit %d flipped it corrects %d", bit, got)
		}
	}
	if hit == 0 {
		t.Error("no flipped bit names another punch: this test proves nothing")
	}
	if got := o.correction(299, v); got != 0 {
		t.Errorf("a record corrects %d, which is behind it", got)
	}
}

func FuzzSupersedesSaysWhatTheDecoderSays(f *testing.F) {
	for _, old := range []uint64{0, 1, 300, 1 << 40} {
		d := draft(7)
		d.Supersedes = old
		v, err := encodeRecord(9, [32]byte{1}, &d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(v)
		f.Add(v[:len(v)-7])
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		got := supersedes(v)
		if p, err := decodeRecord("test", 9, v); err == nil && p.Supersedes != got {
			t.Errorf("%d, the decoder says %d", got, p.Supersedes)
		}
	})
}
