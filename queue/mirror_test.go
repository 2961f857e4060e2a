package queue

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue/punch"
)

// mirrored opens an outbox with a mirror, without its own check at the end: where a
// file is lost, the chain rightly has a gap.
func mirrored(t testing.TB, dir string, o Options) *Outbox {
	t.Helper()
	o.Dir, o.Mirror, o.ahead = dir, filepath.Join(dir, "mirror"), 1<<16
	if o.Device == "" {
		o.Device = "test-1"
	}
	if o.Destinations == nil {
		o.Destinations = []string{"104", "feishu"}
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func copyNow(t testing.TB, b *Outbox) {
	t.Helper()
	if err := b.copyMirror(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// numbers returns what the mirror holds, by number.
func inMirror(t testing.TB, dir string) map[uint64][]byte {
	t.Helper()
	recs, err := collectMirror(filepath.Join(dir, "mirror"), "test-1", 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

// copyHolds compares the outbox with the drafts 0 to n-1.
func copyHolds(t testing.TB, b *Outbox, n int) {
	t.Helper()
	got := 0
	err := b.Read(t.Context(), 1, func(e Entry) error {
		if e.Damaged != nil {
			return nil
		}
		if int(e.Seq) > n {
			return nil
		}
		got++
		if want := draft(int(e.Seq) - 1); e.Badge != want.Badge || e.Employee != want.Employee || e.Kind != want.Kind || !e.Stamp.Wall.Equal(want.Stamp.Wall) || e.Tap != want.Tap {
			t.Errorf("punch %d came back as %+v", e.Seq, e.Punch)
		}
		return nil
	})
	if err != nil || got != n {
		t.Errorf("%d of %d punches are there: %v (%s)", got, n, err, b.Incident())
	}
}

func removeDatabases(t testing.TB, dir string) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "*.db"))
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// offered returns the numbers that dest gets, in order, and settles them.
func offered(t testing.TB, b *Outbox, dest string) (out []uint64) {
	t.Helper()
	for {
		ps, err := b.Next(dest, 50)
		if err != nil {
			t.Fatal(err)
		}
		if len(ps) == 0 {
			return out
		}
		for _, p := range ps {
			out = append(out, p.Seq)
		}
		if err := b.Settle(dest, accept(ps)); err != nil {
			t.Fatal(err)
		}
	}
}

func upTo(from, to uint64) (out []uint64) {
	for ; from <= to; from++ {
		out = append(out, from)
	}
	return out
}

func TestMirrorLineIsTheDocumentedOne(t *testing.T) {
	d := draft(7)
	v, err := encodeRecord(8, genesis("tpe-1f-lobby"), &d)
	if err != nil {
		t.Fatal(err)
	}
	p, err := decodeRecord("tpe-1f-lobby", 8, v)
	if err != nil {
		t.Fatal(err)
	}
	line := string(appendMirrorLine(nil, &p, v))
	text := "tpe-1f-lobby-000000000008\t2026-09-21T14:13:27.000Z\tsynced\treturn\t000007\tem:0A00000007\tfront\tstored\t" + base64.StdEncoding.EncodeToString(v)
	if want := fmt.Sprintf("%s\t%08x\n", text, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))); line != want {
		t.Errorf("line\n%q, want\n%q", line, want)
	}
	// Whatever a reader or a roster may hold, a record stays one line.
	d.Reader, d.Employee, d.Badge = "front\tdoor\n", "", "uid:\xff \""
	v, _ = encodeRecord(9, hashRecord(8, v), &d)
	p, _ = decodeRecord("tpe-1f-lobby", 9, v)
	b := appendMirrorLine(nil, &p, v)
	if bytes.Count(b, []byte{'\n'}) != 1 || bytes.Count(b, []byte{'\t'}) != 9 {
		t.Errorf("not one line of ten fields: %q", b)
	}
	if dev, seq, got, err := parseMirrorLine(b[:len(b)-1]); err != nil || dev != "tpe-1f-lobby" || seq != 9 || !bytes.Equal(got, v) {
		t.Errorf("read back as %s %d %x %v", dev, seq, got, err)
	}
}

func FuzzMirrorLine(f *testing.F) {
	for i := range 3 {
		d := draft(i)
		v, _ := encodeRecord(uint64(i+1), genesis("a-b"), &d)
		p, _ := decodeRecord("a-b", uint64(i+1), v)
		f.Add(bytes.TrimSuffix(appendMirrorLine(nil, &p, v), []byte{'\n'}))
	}
	f.Add([]byte("a-000000000001\t\t00000000"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if i := bytes.LastIndexByte(line, '\t'); i >= 0 { // let the fuzzer behind the checksum
			fixed := fmt.Appendf(append([]byte(nil), line[:i]...), "\t%08x", crc32.Checksum(line[:i], castagnoli))
			if dev, seq, v, err := parseMirrorLine(fixed); err == nil {
				if _, err := decodeRecord(dev, seq, v); err != nil {
					t.Errorf("believed %q: %v", fixed, err)
				}
			}
		}
		dev, seq, v, err := parseMirrorLine(line)
		if err != nil {
			return
		}
		p, err := decodeRecord(dev, seq, v)
		if err != nil {
			t.Fatalf("believed %q: %v", line, err)
		}
		again := appendMirrorLine(nil, &p, v)
		if d, s, w, err := parseMirrorLine(again[:len(again)-1]); err != nil || d != dev || s != seq || !bytes.Equal(w, v) {
			t.Errorf("%q became %q: %v", line, again, err)
		}
		for _, tail := range []string{"", "\n", "\n\n", "\nx"} {
			last, end, size, err := mirrorTail(strings.NewReader(string(line)+tail), dev)
			if err != nil || end > size || tail != "" && !bytes.ContainsRune(line, '\n') && (last != seq || end != int64(len(line))+1) || tail == "" && !bytes.ContainsRune(line, '\n') && last != 0 {
				t.Errorf("tail of %q%q: %d %d %d %v", line, tail, last, end, size, err)
			}
		}
	})
}

func TestEveryFlippedBitOfAMirrorLineIsFound(t *testing.T) {
	d := draft(41)
	v, _ := encodeRecord(42, [32]byte{1}, &d)
	p, _ := decodeRecord("test-1", 42, v)
	line := appendMirrorLine(nil, &p, v)
	line = line[:len(line)-1]
	for i := range len(line) * 8 {
		line[i/8] ^= 1 << (i % 8)
		// Of the checksum itself a letter may become a capital: nothing is wrong then.
		if _, _, got, err := parseMirrorLine(line); err == nil && (i/8 < len(line)-8 || !bytes.Equal(got, v)) {
			t.Errorf("bit %d of %q is not missed", i, line)
		}
		line[i/8] ^= 1 << (i % 8)
	}
}

func TestMirrorIsSyncedWithinASecondAndOncePerBurst(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := mirrored(t, dir, Options{UnsafeNoSync: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		time.Sleep(time.Minute)
		appendN(t, b, 0, 30)
		if n := len(inMirror(t, dir)); n != 0 {
			t.Errorf("%d punches were copied in the tap's own time", n)
		}
		if s := b.Stats().Mirror; !s.On || s.Behind != 30 || s.Err != nil {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(inMirror(t, dir)); n != 30 || b.Stats().Mirror.Behind != 0 {
			t.Errorf("%d of 30 punches are in the mirror after a second", n)
		}
		appendN(t, b, 30, 2) // what is gathered when the clock stops is not left behind
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := len(inMirror(t, dir)); n != 32 {
			t.Errorf("%d of 32 punches are in the mirror after a stop", n)
		}
	})
}

func TestMirrorLiesInMonths(t *testing.T) {
	dir := t.TempDir()
	b := mirrored(t, dir, Options{})
	at := func(n int, when string, c punch.ClockState) {
		d := draft(n)
		d.Stamp.Wall, _ = time.Parse(time.RFC3339, when)
		d.Stamp.Clock = c
		if _, err := b.Append(d); err != nil {
			t.Fatal(err)
		}
	}
	at(0, "2026-10-31T23:59:59Z", punch.Synced)
	at(1, "2026-11-01T00:00:00Z", punch.Holdover)
	at(2, "1970-01-01T00:00:09Z", punch.Unset)
	at(3, "2026-10-31T23:00:00Z", punch.Synced) // the clock was put right, backwards
	at(4, "2026-12-01T08:00:00Z", punch.Synced)
	copyNow(t, b)
	for name, want := range map[string][2]uint64{"2026-10.txt": {1, 4}, "2026-11.txt": {2, 3}, "2026-12.txt": {5, 5}} {
		m, err := lookAtMirror(filepath.Join(dir, "mirror", name), "test-1")
		if err != nil || m.first != want[0] || m.last != want[1] {
			t.Errorf("%s: %+v %v, want %v", name, m, err, want)
		}
	}
	if ents, _ := os.ReadDir(filepath.Join(dir, "mirror")); len(ents) != 3 {
		t.Errorf("files %v", ents)
	}
	b.Close()
	b = mirrored(t, dir, Options{})
	if got := b.mir.last.Load(); got != 5 {
		t.Errorf("after a start the mirror is taken to have come to %d, want 5", got)
	}
	at(5, "2000-01-01T00:00:00Z", punch.Unset)
	copyNow(t, b)
	if n := len(inMirror(t, dir)); n != 6 {
		t.Errorf("%d of 6 in the mirror", n)
	}
}

// tail is how a program finds out where a file goes on.
type tail func(f io.ReadSeeker, device string) (last uint64, end, size int64, err error)

// tornTails cuts a file at every byte of its last two lines, then lets the given
// finder say how far it has come, and counts the cuts after which a punch would be
// missing or believed although it is not whole.
func tornTails(t *testing.T, find tail) (bad int) {
	t.Helper()
	var text []byte
	var ends []int
	prev := genesis("test-1")
	for i := range 4 {
		d := draft(i)
		v, err := encodeRecord(uint64(i+1), prev, &d)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := decodeRecord("test-1", uint64(i+1), v)
		text, prev = appendMirrorLine(text, &p, v), p.Hash
		ends = append(ends, len(text))
	}
	for cut := ends[1]; cut <= len(text); cut++ {
		for _, junk := range []string{"", "\x00\x00\x00\x00", "\n"} { // some file systems lengthen first and fill later
			whole := 0
			for whole < len(ends) && ends[whole] <= cut {
				whole++
			}
			last, end, _, err := find(bytes.NewReader([]byte(string(text[:cut])+junk)), "test-1")
			if junk == "\n" && whole < len(ends) && cut == ends[whole]-1 {
				whole++ // that was its newline
			}
			if err != nil || last != uint64(whole) || end != int64(ends[whole-1]) {
				bad++
			}
		}
	}
	return bad
}

func TestTornLineIsNeverTrusted(t *testing.T) {
	if bad := tornTails(t, mirrorTail); bad > 0 {
		t.Errorf("wrong after %d cuts", bad)
	}
}

// The negative control: a mirror that believes the number at the start of the last
// line, whole or not, passes over punches.
func TestTornTailTestFindsAMirrorThatTrusts(t *testing.T) {
	bad := tornTails(t, func(f io.ReadSeeker, device string) (uint64, int64, int64, error) {
		b, err := io.ReadAll(f)
		lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
		id, _, _ := strings.Cut(lines[len(lines)-1], "\t")
		_, seq, _ := punch.ID(id).Seq()
		return seq, int64(len(b)), int64(len(b)), err
	})
	if bad == 0 {
		t.Error("a mirror that trusts a torn line passes: the test above proves nothing")
	}
	t.Logf("wrong after %d cuts, as it should be", bad)
}

// The same with the real thing: cut at every byte of the last line, started again,
// and everything is in the mirror once, with nothing else.
func TestMirrorCatchesUpFromEveryCut(t *testing.T) {
	dir := t.TempDir()
	b := mirrored(t, dir, Options{})
	appendN(t, b, 0, 5)
	copyNow(t, b)
	b.Close()
	file := filepath.Join(dir, "mirror", draft(0).Stamp.Wall.Format("2006-01")+".txt")
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	from := bytes.LastIndexByte(want[:len(want)-1], '\n') + 1
	for cut := from; cut < len(want); cut++ {
		for _, junk := range []string{"", "\x00\x00\x00"} {
			if err := os.WriteFile(file, append(slices.Clone(want[:cut]), junk...), 0o600); err != nil {
				t.Fatal(err)
			}
			b := mirrored(t, dir, Options{UnsafeNoSync: true})
			copyNow(t, b)
			if s := b.Incident(); s != "" {
				t.Fatalf("cut at %d: a torn line of the mirror is no incident: %s", cut, s)
			}
			b.Close()
			if got, _ := os.ReadFile(file); !bytes.Equal(got, want) {
				t.Fatalf("cut at %d: the mirror is\n%q, want\n%q", cut, got, want)
			}
		}
	}
}

func TestMirrorBehindByThousandsCatchesUp(t *testing.T) {
	dir := t.TempDir()
	b := mirrored(t, dir, Options{SegmentRecords: 900, UnsafeNoSync: true})
	const n = mirrorBurst + 700
	for i := 0; i < n; i += 64 {
		done := make(chan error, 64)
		for j := i; j < min(n, i+64); j++ {
			go func() { _, err := b.Append(draft(j)); done <- err }()
		}
		for j := i; j < min(n, i+64); j++ {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Tidy(); err != nil {
			t.Fatal(err)
		}
	}
	copyNow(t, b)
	if got := len(inMirror(t, dir)); got != n || b.Stats().Mirror.Behind != 0 {
		t.Errorf("%d of %d in the mirror", got, n)
	}
	// Cut back to a third: only the rest is written.
	file := filepath.Join(dir, "mirror", draft(0).Stamp.Wall.Format("2006-01")+".txt")
	b.Close()
	os.Truncate(file, fileSize(file)/3)
	b = mirrored(t, dir, Options{SegmentRecords: 900, UnsafeNoSync: true})
	copyNow(t, b)
	if got := len(inMirror(t, dir)); got != n {
		t.Errorf("%d of %d in the mirror after a cut", got, n)
	}
}

func TestFullMirrorIsNoTapsConcern(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mirror", draft(0).Stamp.Wall.Format("2006-01")+".txt")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", file); err != nil { // every write: no space left on device
		t.Fatal(err)
	}
	b := mirrored(t, dir, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	appendN(t, b, 0, 8)
	deadline := time.Now().Add(10 * time.Second)
	for b.Stats().Mirror.Err == nil && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if s := b.Stats().Mirror; s.Err == nil || !strings.Contains(s.Err.Error(), "no space left") || s.Behind != 8 {
		t.Errorf("status %+v", s)
	}
	appendN(t, b, 8, 4)
	if err := b.Writable(ctx); err != nil {
		t.Errorf("the clock says it cannot take punches: %v", err)
	}
	cancel()
	<-done
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	copyNow(t, b) // room again
	if n := len(inMirror(t, dir)); n != 12 {
		t.Errorf("%d of 12 in the mirror", n)
	}
	copyHolds(t, b, 12)
}

// What an error has left in memory only must not be taken for written.
func TestMirrorWritesAgainWhatWasNeverSynced(t *testing.T) {
	dir := t.TempDir()
	b := mirrored(t, dir, Options{})
	appendN(t, b, 0, 3)
	copyNow(t, b)
	file := filepath.Join(dir, "mirror", b.mir.name)
	want, _ := os.ReadFile(file)
	appendN(t, b, 3, 2)
	// The append came to lie in the file, its sync failed.
	if err := b.each(4, 5, func(seq uint64, v []byte) error {
		p, err := decodeRecord("test-1", seq, v)
		b.mir.f.Write(appendMirrorLine(nil, &p, v))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.mir.f.Close() // the next write fails
	if err := b.copyMirror(t.Context()); err == nil {
		t.Fatal("written to a closed file")
	}
	if b.mir.last.Load() != 3 || !b.mir.redo || b.mir.end != int64(len(want)) {
		t.Errorf("the mirror takes itself to have come to %d", b.mir.last.Load())
	}
	copyNow(t, b)
	if got, _ := os.ReadFile(file); bytes.Count(got, []byte{'\n'}) != 5 || len(inMirror(t, dir)) != 5 {
		t.Errorf("lines twice or missing: %q", got)
	}
}

func TestPunchSurvivesTheDeletionOfTheDatabase(t *testing.T) {
	for name, segment := range map[string]int{"one file": 0, "many files": 12} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := Options{SegmentRecords: segment}
			b := mirrored(t, dir, o)
			const n = 60
			for i := range n {
				appendN(t, b, i, 1)
				if err := b.Tidy(); err != nil {
					t.Fatal(err)
				}
			}
			copyNow(t, b)
			b.Close()
			removeDatabases(t, dir)
			b = mirrored(t, dir, o)
			copyHolds(t, b, n)
			if b.Incident() == "" {
				t.Error("nothing is said about it")
			}
			c, err := b.Verify(t.Context(), nil)
			if err != nil || len(c.Problems) > 0 && c.Problems[0].Seq <= n {
				t.Errorf("the chain does not hold: %v %+v", err, c.Problems)
			}
			for _, dest := range []string{"104", "feishu"} {
				if got := offered(t, b, dest); !slices.Equal(got, upTo(1, n)) {
					t.Errorf("%s is offered %v", dest, got)
				}
			}
			p, err := b.Append(draft(n))
			if err != nil || p.Seq < 1024 {
				t.Errorf("the next number is %d, which may have been given before: %v", p.Seq, err)
			}
			if s, err := b.Append(draft(n - 1)); err != nil || s.Seq != n {
				t.Errorf("a tap that was stored before became number %d: %v", s.Seq, err)
			}
			b.Close()
			b = mirrored(t, dir, o) // and it is mended once
			if s := b.Incident(); s != "" {
				t.Errorf("again: %s", s)
			}
		})
	}
}

func TestNumbersGoOnAboveTheMirrorWithoutAHighWaterMark(t *testing.T) {
	dir := t.TempDir()
	b := mirrored(t, dir, Options{})
	appendN(t, b, 0, 10)
	copyNow(t, b)
	b.Close()
	removeDatabases(t, dir)
	os.Remove(filepath.Join(dir, "high-water"))
	b = mirrored(t, dir, Options{})
	if p, err := b.Append(draft(10)); err != nil || p.Seq < 11+markBlock {
		t.Errorf("number %d: the mirror may have been a second behind: %v", p.Seq, err)
	}
	copyNow(t, b)
	if n := len(inMirror(t, dir)); n != 11 {
		t.Errorf("%d of 11 in the mirror", n)
	}
}

func TestMissingFileIsPutBackFromTheMirror(t *testing.T) {
	for _, which := range []int{0, 1, 4} { // the oldest, one between, the newest
		dir := t.TempDir()
		o := Options{SegmentRecords: 10}
		b := mirrored(t, dir, o)
		for i := range 45 {
			appendN(t, b, i, 1)
			if err := b.Tidy(); err != nil {
				t.Fatal(err)
			}
		}
		if got := offered(t, b, "104"); len(got) != 45 {
			t.Fatalf("offered %v", got)
		}
		copyNow(t, b)
		gone := b.firsts[which]
		b.Close()
		if err := os.Remove(segmentPath(dir, gone)); err != nil {
			t.Fatal(err)
		}
		b = mirrored(t, dir, o)
		copyHolds(t, b, 45)
		c, err := b.Verify(t.Context(), nil)
		if err != nil || len(c.Problems) > 0 && (which < 4 || c.Problems[0].Seq <= 45) {
			t.Errorf("without file %d: %v %+v (%s)", gone, err, c.Problems, b.Incident())
		}
		if which < 4 {
			if got := offered(t, b, "104"); len(got) != 0 {
				t.Errorf("without file %d: what is known to be settled is offered again: %v", gone, got)
			}
		}
		if got := offered(t, b, "feishu"); !slices.Equal(got, upTo(1, 45)) {
			t.Errorf("without file %d: feishu is offered %v", gone, got)
		}
	}
}

// Without its mirror a hole is a hole: numbers are passed over, and Verify names them.
func TestMissingOldFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Device: "test-1", Destinations: []string{"104"}, SegmentRecords: 10, ahead: 1 << 16}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 25 {
		appendN(t, b, i, 1)
		b.Tidy()
	}
	b.Close()
	os.Remove(segmentPath(dir, 1))
	if b, err = Open(o); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c, err := b.Verify(t.Context(), nil)
	if err != nil || len(c.Problems) == 0 || !strings.Contains(c.Problems[0].What, "1 to 10") || c.Note != "" {
		t.Errorf("%v %+v", err, c)
	}
}

func TestNothingInAHoleIsTakenForSettled(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentRecords: 10}
	b := mirrored(t, dir, o)
	for i := range 25 {
		appendN(t, b, i, 1)
		b.Tidy()
	}
	copyNow(t, b)
	b.holes = []run{{8, 15}} // as if it were being put back just now
	for _, want := range [][]uint64{append(upTo(1, 7), upTo(16, 25)...)} {
		if got := offered(t, b, "104"); !slices.Equal(got, want) {
			t.Errorf("offered %v, want %v", got, want)
		}
	}
	b.holes = nil
	if got := offered(t, b, "104"); !slices.Equal(got, upTo(8, 15)) {
		t.Errorf("after it was put back %v is offered", got)
	}
}

func TestDamagedFileIsCompletedFromTheMirror(t *testing.T) {
	for name, do := range map[string]func(file string){
		"emptied":         func(file string) { os.Truncate(file, 0) },
		"cut to one page": func(file string) { os.Truncate(file, 4096) },
		"zeros":           func(file string) { os.WriteFile(file, make([]byte, 64<<10), 0o600) },
		"a page of zeros": func(file string) { overwrite(t, file, usedPage(t, file)*4096, make([]byte, 4096)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := mirrored(t, dir, Options{})
			appendN(t, b, 0, 60)
			b.Tidy()
			copyNow(t, b)
			b.Close()
			do(segmentPath(dir, 1))
			b = mirrored(t, dir, Options{})
			copyHolds(t, b, 60)
			if q, _ := filepath.Glob(filepath.Join(dir, "quarantine", "*")); len(q) != 1 {
				t.Errorf("set aside: %v", q)
			}
			if got := offered(t, b, "feishu"); !slices.Equal(got, upTo(1, 60)) {
				t.Errorf("offered %v (%s)", got, b.Incident())
			}
		})
	}
}

func TestMirrorOfAnotherDeviceIsNotTakenOver(t *testing.T) {
	dir := t.TempDir()
	b := mirrored(t, dir, Options{Device: "other"})
	appendN(t, b, 0, 5)
	copyNow(t, b)
	b.Close()
	removeDatabases(t, dir)
	os.Remove(filepath.Join(dir, "high-water"))
	b = mirrored(t, dir, Options{})
	if s := b.Stats(); s.LastSeq != 0 {
		t.Errorf("the punches of another device were taken over: %d (%s)", s.LastSeq, b.Incident())
	}
}

// A start may take seconds where a file is missing. What the last life had not copied is
// copied before that: a second copy a second behind the taps is no use if it waits.
func TestStartCopiesFirstWhatTheLastLifeHasLeft(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentRecords: 20}
	b := mirrored(t, dir, o)
	for i := range 50 {
		appendN(t, b, i, 1)
		b.Tidy()
	}
	copyNow(t, b)
	appendN(t, b, 50, 7)
	b.Close() // nobody ran it, so nothing was copied
	if err := os.Remove(segmentPath(dir, 1)); err != nil {
		t.Fatal(err)
	}
	b = mirrored(t, dir, o)
	if s := b.Stats(); s.LastSeq != 57 || s.Mirror.Behind != 0 {
		t.Errorf("after the start %d of %d punches are not in the second copy", s.Mirror.Behind, s.LastSeq)
	}
}

// The real kill: a process with a mirror is killed under taps, then the database is
// deleted. What was acknowledged a second before the last kill comes back.
func TestMirrorHoldsWhatWasAcknowledgedASecondBeforeTheKill(t *testing.T) {
	rounds := 4
	if v := os.Getenv("KILLS"); v != "" {
		n, _ := strconv.Atoi(v)
		rounds = max(rounds, n/25)
	}
	dir := t.TempDir()
	acked := map[int]time.Time{}
	var killed time.Time
	from, deleted := 0, 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "OUTBOX_CHILD="+dir, "OUTBOX_ACK=", "OUTBOX_FROM="+strconv.Itoa(from), "OUTBOX_MIRROR="+filepath.Join(dir, "mirror"))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(out)
		first := true
		for sc.Scan() {
			i, err := strconv.Atoi(sc.Text())
			if err != nil {
				t.Fatalf("child says %q", sc.Text())
			}
			acked[i] = time.Now()
			from = max(from, i+3)
			if first {
				first = false
				time.AfterFunc(time.Duration(rand.IntN(2500))*time.Millisecond, func() { killed = time.Now(); cmd.Process.Kill() })
			}
		}
		io.Copy(io.Discard, out)
		cmd.Wait()
		if first {
			t.Fatalf("round %d: the clock did not start: %s", round, errs.String())
		}
		if round%2 == 1 { // every other time the database is gone afterwards
			removeDatabases(t, dir)
			deleted++
			for i, at := range acked {
				if killed.Sub(at) < time.Second+200*time.Millisecond { // the pipe and this process are slow too
					delete(acked, i)
				}
			}
		}
	}
	b := mirrored(t, dir, Options{Device: "kill", Destinations: []string{"104"}, SegmentRecords: 150})
	for b.hasHoles() { // what an Open has left to Run
		b.healStep()
	}
	there := map[punch.Badge]int{}
	if err := b.Read(t.Context(), 1, func(e Entry) error { there[e.Badge]++; return nil }); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for i := range acked {
		if there[draft(i).Badge] == 0 {
			lost++
		}
	}
	t.Logf("%d kills, the database deleted after %d of them: %d punches acknowledged a second before, %d lost", rounds, deleted, len(acked), lost)
	if lost > 0 || len(acked) == 0 {
		t.Errorf("%d of %d acknowledged punches are lost (%s)", lost, len(acked), b.Incident())
	}
}

func TestRecoverBringsBackWhatCopiesHold(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentRecords: 20, Device: "test-1", Destinations: []string{"104", "feishu"}}
	b := mirrored(t, dir, o)
	for i := range 50 {
		appendN(t, b, i, 1)
		b.Tidy()
	}
	offered(t, b, "104")
	copyNow(t, b)
	b.Close()
	// An older clock, without a mirror, had its middle file damaged and mended: what was in it was passed over.
	away := filepath.Join(t.TempDir(), "copy")
	if err := os.Rename(filepath.Join(dir, "mirror"), away); err != nil {
		t.Fatal(err)
	}
	os.Truncate(segmentPath(dir, 21), 0)
	plain := o
	plain.Dir, plain.ahead = dir, 1<<16
	b, err := Open(plain)
	if err != nil {
		t.Fatal(err)
	}
	if got := offered(t, b, "feishu"); len(got) != 30 {
		t.Fatalf("offered %v", got)
	}
	next := b.head + 1
	o.Dir, o.Mirror, o.ahead = dir, filepath.Join(dir, "mirror"), 1<<16
	if _, err := Recover(t.Context(), o, []string{away}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("beside a running clock: %v", err)
	}
	b.Close()
	if _, err := Recover(t.Context(), o, []string{t.TempDir()}); err == nil {
		t.Error("an empty folder was taken for a copy")
	}
	for again := range 2 {
		r, err := Recover(t.Context(), o, []string{away})
		if err != nil {
			t.Fatal(err)
		}
		want := uint64(20)
		if again == 1 {
			want = 0 // it may be repeated
		}
		if r.Taken != want || r.Again != want || r.Records != 50 || r.First != 1 || r.Last != 50 || r.Next != next || len(r.Missing) != 0 {
			t.Errorf("%+v", r)
		}
	}
	b = mirrored(t, dir, Options{SegmentRecords: 20})
	copyHolds(t, b, 50)
	check(t, b)
	for _, dest := range []string{"104", "feishu"} {
		if got := offered(t, b, dest); !slices.Equal(got, upTo(21, 40)) {
			t.Errorf("%s is offered %v", dest, got)
		}
	}
}

func TestRecoverReadsQuarantinedFilesAndNamesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Device: "test-1", Destinations: []string{"104"}, ahead: 1 << 16}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, b, 0, 30)
	b.Close()
	q, err := quarantine(segmentPath(dir, 1), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o.Mirror = filepath.Join(dir, "mirror")
	r, err := Recover(t.Context(), o, []string{filepath.Dir(q)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Taken != 30 || r.Records != 30 || r.Next < 1024 || len(r.Missing) != 1 || r.Missing[0] != (Span{31, r.Next - 1}) {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(q); err != nil {
		t.Errorf("the quarantined file: %v", err)
	}
	b = mirrored(t, dir, Options{Destinations: []string{"104"}})
	copyHolds(t, b, 30)
	if got := offered(t, b, "104"); !slices.Equal(got, upTo(1, 30)) {
		t.Errorf("offered %v", got)
	}
}
