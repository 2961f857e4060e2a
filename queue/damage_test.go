package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// filled makes an outbox of n punches, the first half settled for 104, and closes it.
func filled(t *testing.T, n int) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	b := open(t, Options{Dir: dir, ahead: 1 << 16})
	appendN(t, b, 0, n-1)
	ps, err := b.Next("104", n/2)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Settle("104", accept(ps)); err != nil {
		t.Fatal(err)
	}
	if err := b.Tidy(); err != nil {
		t.Fatal(err)
	}
	appendN(t, b, n-1, 1) // the last commit is a punch
	b.Close()
	return dir, segmentPath(dir, 1)
}

func usedBytes(t *testing.T, file string) int64 {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := openPages(file, f)
	if err != nil {
		t.Fatal(err)
	}
	return int64(p.pages) * 4096
}

// afterwards opens a damaged outbox as the clock does: it must open, hold nothing
// that was not written, take a punch under a fresh number, and keep the bad file.
func afterwards(t *testing.T, dir string, written int) (kept int) {
	t.Helper()
	b, err := Open(Options{Dir: dir, Device: "test-1", Destinations: []string{"104", "feishu"}, ahead: 1 << 16})
	if err != nil {
		t.Fatalf("does not open: %v", err)
	}
	defer b.Close()
	whole := map[uint64]bool{}
	err = b.Read(context.Background(), 1, func(e Entry) error {
		if e.Damaged != nil {
			return nil
		}
		whole[e.Seq] = true
		want := draft(int(e.Seq) - 1)
		if e.Badge != want.Badge || e.Employee != want.Employee || !e.Stamp.Wall.Equal(want.Stamp.Wall) || e.Kind != want.Kind {
			t.Errorf("punch %d came back as %+v", e.Seq, e.Punch)
		}
		kept++
		return nil
	})
	if err != nil {
		t.Errorf("read: %v", err)
	}
	for dest, settled := range map[string]int{"104": written / 2, "feishu": 0} {
		offered := map[uint64]bool{}
		for {
			ps, err := b.Next(dest, 100)
			if err != nil {
				t.Fatalf("next: %v", err)
			}
			for _, p := range ps {
				offered[p.Seq] = true
			}
			if len(ps) == 0 {
				break
			}
			for _, p := range ps {
				if want := draft(int(p.Seq) - 1); p.Badge != want.Badge || p.Employee != want.Employee || p.Kind != want.Kind {
					t.Errorf("%s would be sent as %+v", p.ID, p)
				}
			}
			if err := b.Settle(dest, accept(ps)); err != nil {
				t.Fatal(err)
			}
		}
		for seq := range whole {
			if seq > uint64(settled) && !offered[seq] {
				t.Errorf("%s: punch %d is there, was never sent, and is not offered (%s)", dest, seq, b.Incident())
			}
		}
	}
	p, err := b.Append(draft(500_000))
	if err != nil {
		t.Fatalf("no punch can be stored: %v", err)
	}
	if p.Seq <= uint64(written) {
		t.Errorf("number %d was given before", p.Seq)
	}
	return kept
}

func TestClockStartsWhateverHappenedToTheFile(t *testing.T) {
	const n = 60
	cases := map[string]struct {
		do   func(t *testing.T, dir, file string)
		kept int // at least
	}{
		"cut short":       {func(t *testing.T, _, file string) { os.Truncate(file, usedBytes(t, file)-4096) }, 6},
		"cut to one page": {func(t *testing.T, _, file string) { os.Truncate(file, 4096) }, 0},
		"emptied":         {func(t *testing.T, _, file string) { os.Truncate(file, 0) }, 0},
		"removed":         {func(t *testing.T, _, file string) { os.Remove(file) }, 0},
		"all zeros": {func(t *testing.T, _, file string) {
			os.WriteFile(file, make([]byte, 64<<10), 0o600)
		}, 0},
		"both meta pages torn": {func(t *testing.T, _, file string) {
			overwrite(t, file, 0, make([]byte, 8192))
		}, n - hotMax},
		"newest meta page torn": {func(t *testing.T, _, file string) { overwrite(t, file, newestMeta(t, file)+60, []byte{0xff}) }, n},
		"a page of zeros in the middle": {func(t *testing.T, _, file string) {
			overwrite(t, file, usedPage(t, file)*4096, make([]byte, 4096))
		}, n / 2},
		"written by a newer program": {func(t *testing.T, _, file string) {
			db, err := bolt.Open(file, 0o600, boltOptions(false, false))
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(func(tx *bolt.Tx) error { return putSealed(tx.Bucket(bktMeta), keyFormat, []byte{9}) })
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		}, n},
		"high-water mark garbled": {func(t *testing.T, dir, _ string) {
			os.WriteFile(filepath.Join(dir, "high-water"), []byte{0, 1, 2}, 0o600)
		}, n},
		"first start cut before the file had its name": {func(t *testing.T, dir, file string) {
			os.Rename(file, file+".new")
			os.Remove(filepath.Join(dir, "high-water"))
			os.Truncate(file+".new", 5000)
		}, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir, file := filled(t, n)
			c.do(t, dir, file)
			written := n
			if strings.HasPrefix(name, "first start") {
				written = 0
			}
			if kept := afterwards(t, dir, written); kept < c.kept {
				t.Errorf("%d of %d punches kept, want at least %d", kept, n, c.kept)
			}
			q, _ := filepath.Glob(filepath.Join(dir, "quarantine", "*"))
			switch name {
			case "removed", "high-water mark garbled", "newest meta page torn", "first start cut before the file had its name":
			default:
				if len(q) != 1 {
					t.Errorf("the damaged file was not set aside: %v", q)
				}
			}
		})
	}
}

// usedPage returns a page that holds records and is reached from the root.
func usedPage(t *testing.T, file string) int64 {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := openPages(file, f)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.walk(p.root, nil, span{}, 0, nil); err != nil {
		t.Fatal(err)
	}
	best, most := int64(0), uint16(0)
	for id, in := range p.seen {
		if !in {
			continue
		}
		b := make([]byte, 4096)
		f.ReadAt(b, int64(id)*4096)
		if n := binary.LittleEndian.Uint16(b[10:]); binary.LittleEndian.Uint16(b[8:]) == leafFlag && n > most && uint64(id) != p.root {
			best, most = int64(id), n
		}
	}
	return best
}

// newestMeta returns the offset of the meta page of the last commit.
func newestMeta(t *testing.T, file string) int64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if binary.LittleEndian.Uint64(b[64:]) > binary.LittleEndian.Uint64(b[4096+64:]) {
		return 0
	}
	return 4096
}

func overwrite(t *testing.T, file string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNoFlippedBitIsEverDelivered(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	rounds := 60
	if v := os.Getenv("FLIPS"); v != "" {
		rounds, _ = strconv.Atoi(v)
	}
	const n = 40
	_, file := filled(t, n)
	whole, _ := os.ReadFile(file)
	mark, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "high-water"))
	used := usedBytes(t, file)
	base := t.TempDir()
	for range rounds {
		dir := filepath.Join(base, "outbox")
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
		b := append([]byte(nil), whole...)
		at := rng.Int64N(used * 8)
		b[at/8] ^= 1 << (at % 8)
		if err := errors.Join(os.WriteFile(segmentPath(dir, 1), b, 0o600), os.WriteFile(filepath.Join(dir, "high-water"), mark, 0o600)); err != nil {
			t.Fatal(err)
		}
		kept := afterwards(t, dir, n)
		if kept < n-hotMax-26 { // at worst one whole page of records hangs on the bit
			t.Errorf("bit %d of page %d: %d of %d kept", at%(8*4096), at/8/4096, kept, n)
		}
	}
}

func TestDamagedOlderSegmentKeepsItsNeighbours(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, SegmentRecords: 20}
	b := open(t, o)
	for i := range 65 {
		b.Append(draft(i))
		if i%5 == 4 {
			b.Tidy()
		}
	}
	b.Close()
	firsts, _ := listSegments(dir)
	overwrite(t, segmentPath(dir, firsts[1]), 0, make([]byte, 8192))
	b, err := Open(Options{Dir: dir, Device: "test-1", Destinations: []string{"104", "feishu"}, SegmentRecords: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	seen := map[uint64]bool{}
	if err := b.Read(context.Background(), 1, func(e Entry) error { seen[e.Seq] = e.Damaged == nil; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(seen) < 58 || !seen[1] || !seen[65] {
		t.Errorf("%d records are left", len(seen))
	}
	if b.Incident() == "" {
		t.Error("nobody is told")
	}
	if p, err := b.Append(draft(65)); err != nil || p.Seq != 66 {
		t.Errorf("%v %v", p.Seq, err)
	}
}

func TestAlteredDeletedReorderedAndInsertedRecordsAreNamed(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir()})
	appendN(t, b, 0, 30)
	var values [][]byte
	b.Read(context.Background(), 1, func(e Entry) error { values = append(values, e.Record); return nil })
	walk := func(edit func(seq *[]uint64, v *[][]byte)) []Problem {
		var ns []uint64
		for i := range values {
			ns = append(ns, uint64(i+1))
		}
		vs := append([][]byte(nil), values...)
		edit(&ns, &vs)
		c := Chain{Device: "test-1"}
		for i := range ns {
			c.Add(ns[i], vs[i])
		}
		return c.Problems
	}
	forge := func(seq uint64, prev [32]byte, n int) []byte {
		d := draft(n)
		v, _ := encodeRecord(seq, prev, &d)
		return v
	}
	p11, _ := decodeRecord("test-1", 11, values[10])
	for name, c := range map[string]struct {
		edit func(*[]uint64, *[][]byte)
		want uint64
	}{
		"nothing": {func(*[]uint64, *[][]byte) {}, 0},
		"altered, checksum made right": {func(_ *[]uint64, v *[][]byte) {
			d := p11.Draft
			d.Employee = "000666"
			(*v)[10], _ = encodeRecord(11, p11.PrevHash, &d)
		}, 12},
		"one bit": {func(_ *[]uint64, v *[][]byte) {
			w := append([]byte(nil), (*v)[10]...)
			w[30] ^= 1
			(*v)[10] = w
		}, 11},
		"deleted": {func(n *[]uint64, v *[][]byte) {
			*n = append((*n)[:10], (*n)[11:]...)
			*v = append((*v)[:10], (*v)[11:]...)
		}, 12},
		"reordered": {func(n *[]uint64, v *[][]byte) {
			(*n)[10], (*n)[11] = (*n)[11], (*n)[10]
			(*v)[10], (*v)[11] = (*v)[11], (*v)[10]
		}, 12},
		"inserted": {func(n *[]uint64, v *[][]byte) {
			*v = append((*v)[:10:10], append([][]byte{forge(11, p11.PrevHash, 77)}, (*v)[10:]...)...)
			*n = append(*n, uint64(len(*n)+1))
		}, 12},
		"first one forged": {func(_ *[]uint64, v *[][]byte) { (*v)[0] = forge(1, genesis("other"), 0) }, 1},
	} {
		got := walk(c.edit)
		if c.want == 0 && len(got) == 0 {
			continue
		}
		if len(got) == 0 || got[0].Seq != c.want {
			t.Errorf("%s: %v, want number %d named first", name, got, c.want)
		}
	}
}

// An independent reading of chain.go's text: twenty lines that share no code with it.
func TestChainIsWhatItsDescriptionSays(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir()})
	appendN(t, b, 0, 12)
	prev := sha(append([]byte("punchclock chain 1\n"), "test-1"...))
	b.Read(context.Background(), 1, func(e Entry) error {
		raw := e.Record
		// prev hash: 37 bytes before the end (hash, end of extensions, checksum)
		at := len(raw) - 37
		if fmt.Sprintf("%x", raw[at:at+32]) != prev {
			t.Errorf("record %d does not hold the hash of the one before", e.Seq)
		}
		prev = sha(append(binary.BigEndian.AppendUint64(nil, e.Seq), raw...))
		return nil
	})
}

func TestEmployeeNumberStaysText(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir()})
	d := draft(1)
	d.Employee = "000"
	p, err := b.Append(d)
	if err != nil || p.Employee != "000" {
		t.Errorf("%q %v", p.Employee, err)
	}
	d = draft(2)
	d.Employee = strings.Repeat("9", 65)
	if _, err := b.Append(d); err == nil {
		t.Error("a number that does not fit was stored")
	}
	d = draft(3)
	d.Outcome = punch.NotStored
	if _, err := b.Append(d); err == nil {
		t.Error("an outcome that is no record was stored")
	}
}

// A page in use that is taken for a free one would be written over by a later punch.
func TestListOfFreePagesIsHeldAgainstTheTree(t *testing.T) {
	for what, change := range map[string]func(list []byte, used, pages uint64){
		"a page in use":     func(l []byte, used, _ uint64) { binary.LittleEndian.PutUint64(l[pageHeader:], used) },
		"beyond the file":   func(l []byte, _, pages uint64) { binary.LittleEndian.PutUint64(l[pageHeader:], pages) },
		"a meta page":       func(l []byte, _, _ uint64) { binary.LittleEndian.PutUint64(l[pageHeader:], 1) },
		"the same twice":    func(l []byte, _, _ uint64) { copy(l[pageHeader+8:], l[pageHeader:pageHeader+8]) },
		"more than fit":     func(l []byte, _, _ uint64) { binary.LittleEndian.PutUint16(l[10:], 600) },
		"far more than fit": func(l []byte, _, _ uint64) { l[10], l[11], l[pageHeader+7] = 0xFF, 0xFF, 0xFF },
		"no such list":      func(l []byte, _, _ uint64) { l[8] = leafFlag },
	} {
		dir, file := filled(t, 60)
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, err := openPages(file, f)
		if err != nil || p.freelist == noFreelist {
			t.Fatalf("no list of free pages after a stop: %v", err)
		}
		list := make([]byte, PageSize)
		if _, err := f.ReadAt(list, int64(p.freelist)*PageSize); err != nil || binary.LittleEndian.Uint16(list[10:]) < 2 {
			t.Fatalf("%v, %d pages are free", err, binary.LittleEndian.Uint16(list[10:]))
		}
		change(list, p.root, p.pages)
		if _, err := f.WriteAt(list, int64(p.freelist)*PageSize); err != nil {
			t.Fatal(err)
		}
		if err := CheckFile(file); !isDamage(err) {
			t.Errorf("%s: %v", what, err)
		}
		b, err := Open(Options{Dir: dir, Device: "test-1", Destinations: []string{"104", "feishu"}, ahead: 1 << 16})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		n := 0
		if err := b.Read(t.Context(), 1, func(e Entry) error { n++; return e.Damaged }); err != nil || n != 60 || b.Incident() == "" {
			t.Errorf("%s: %d of 60 punches, %v, incident %q", what, n, err, b.Incident())
		}
		b.Close()
	}
}
