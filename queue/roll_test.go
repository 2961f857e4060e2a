package queue

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asking is a context that calls fn whenever somebody asks whether it is done.
type asking struct {
	context.Context
	fn func() error
}

func (a asking) Err() error { return a.fn() }

func TestPeopleTapWhileTheNextFileIsPrepared(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir, SegmentRecords: 10, ahead: 8 * stepAhead})
	appendN(t, b, 0, 10)
	n := 10
	ctx := asking{t.Context(), func() error {
		if _, err := os.Stat(filepath.Join(dir, "next.db.new")); err == nil {
			appendN(t, b, n, 1) // would hang if the writer's lock were held
			n++
		}
		return nil
	}}
	if err := b.tidy(ctx); err != nil {
		t.Fatal(err)
	}
	if n < 10+8 || len(b.firsts) != 2 || b.firsts[1] != uint64(n)+1 {
		t.Errorf("%d punches, files begin at %v", n, b.firsts)
	}
	if left := fileSize(b.cur.path); left < 8*stepAhead {
		t.Errorf("the new file has %d bytes", left)
	}
	appendN(t, b, n, 5)
	if c, err := b.Verify(t.Context(), nil); err != nil || len(c.Problems) > 0 || c.Last != uint64(n)+5 {
		t.Errorf("%v %+v", err, c)
	}
}

// A stop while it is prepared leaves a file that says nothing.
func TestPreparedFileThatWasNotUsedIsHarmless(t *testing.T) {
	for name, left := range map[string]func(path string, o Options) error{
		"whole": func(path string, o Options) error { return makeEmpty(path, o, func() error { return nil }) },
		"torn":  func(path string, _ Options) error { return os.WriteFile(path, make([]byte, 5000), 0o600) },
		"empty": func(path string, _ Options) error { return os.WriteFile(path, nil, 0o600) },
	} {
		dir := t.TempDir()
		o := Options{Dir: dir, SegmentRecords: 10, ahead: 1 << 16}
		b := open(t, o)
		appendN(t, b, 0, 12)
		b.Close()
		path := filepath.Join(dir, "next.db.new")
		if err := left(path, Options{ahead: 1 << 16}); err != nil {
			t.Fatal(err)
		}
		b = open(t, o)
		if _, err := os.Stat(path); !os.IsNotExist(err) || b.Incident() != "" || b.Stats().LastSeq != 12 {
			t.Errorf("%s: %v, incident %q, last %d", name, err, b.Incident(), b.Stats().LastSeq)
		}
		if err := b.Tidy(); err != nil || len(b.firsts) != 2 {
			t.Errorf("%s: %v, files %v", name, err, b.firsts)
		}
		appendN(t, b, 12, 1)
	}
}

// A stop is not held up by zeros.
func TestStopEndsThePreparation(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir, SegmentRecords: 10, ahead: 8 * stepAhead})
	appendN(t, b, 0, 10)
	ctx, cancel := context.WithCancel(t.Context())
	asks := asking{ctx, func() error {
		if _, err := os.Stat(filepath.Join(dir, "next.db.new")); err == nil {
			cancel()
		}
		return ctx.Err()
	}}
	if err := b.tidy(asks); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "next.db.new")); !os.IsNotExist(err) || len(b.firsts) != 1 {
		t.Errorf("%v, files %v", err, b.firsts)
	}
}

// The newest file holds few punches on the first of a month: that it was taken away
// is noticed all the same, without a second copy, and no number is given twice.
func TestANewestFileThatWasTakenAwayIsMissed(t *testing.T) {
	for _, more := range []int{0, 1, 3} { // punches in it
		dir := t.TempDir()
		o := Options{Dir: dir, SegmentRecords: 10, ahead: 1 << 16}
		b := open(t, o)
		appendN(t, b, 0, 10)
		if err := b.Tidy(); err != nil {
			t.Fatal(err)
		}
		appendN(t, b, 10, more)
		b.Close()
		if err := os.Remove(segmentPath(dir, 11)); err != nil {
			t.Fatal(err)
		}
		o.Device, o.Destinations = "test-1", []string{"104", "feishu"}
		b, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if s := b.Incident(); !strings.Contains(s, "punches 11 to") || !strings.Contains(s, "removed") {
			t.Errorf("%d punches taken away, incident %q", more, s)
		}
		p, err := b.Append(draft(100))
		if err != nil || p.Seq <= uint64(10+more) {
			t.Errorf("%d punches taken away, the next is number %d, %v", more, p.Seq, err)
		}
		if c, err := b.Verify(t.Context(), nil); err != nil || len(c.Problems) != 1 || !strings.Contains(c.Problems[0].What, "11 to") {
			t.Errorf("%d punches taken away: %v %+v", more, err, c.Problems)
		}
		b.Close()
		if b, err = Open(o); err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if s := b.Incident(); s != "" {
			t.Errorf("at the next start again: %s", s)
		}
	}
}
