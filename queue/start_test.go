package queue

import (
	"context"
	"testing"
	"time"

	"punchclock/queue/punch"
)

// A start reads of the archive only what it must know; damage among old records
// is found, and mended, when they are read.
func TestStartLeavesTheArchiveAloneUntilItIsRead(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, SegmentRecords: 200}
	b := open(t, o)
	appendN(t, b, 0, 60)
	late := [16]byte{9}
	if err := b.SetBootTime(late, time.UnixMilli(1_790_000_000_000)); err != nil {
		t.Fatal(err)
	}
	if err := b.putLinks(map[uint64]string{7: "000042"}, nil); err != nil {
		t.Fatal(err)
	}
	for n := 60; n < 700; n += 20 {
		appendN(t, b, n, 20)
		if err := b.Tidy(); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	firsts, _ := listSegments(dir)
	if len(firsts) < 4 {
		t.Fatal(firsts)
	}
	old := segmentPath(dir, firsts[0])
	overwrite(t, old, usedPage(t, old)*PageSize, make([]byte, PageSize))
	b, err := Open(Options{Dir: dir, Device: "test-1", Destinations: []string{"104", "feishu"}, SegmentRecords: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.links[7] != "000042" || b.boots[late] != 1_790_000_000_000 {
		t.Errorf("what was learned in the first file is lost: %q %d", b.links[7], b.boots[late])
	}
	if was := b.Incident(); was != "" {
		t.Errorf("the start has read the archive: %s", was)
	}
	if p, err := b.Append(draft(700)); err != nil || p.Seq != 701 {
		t.Errorf("%v %v", p.Seq, err)
	}
	var got []punch.ID
	if err := b.Read(context.Background(), 1, func(e Entry) error {
		if e.Damaged == nil {
			got = append(got, e.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) < 701-40 || b.Incident() == "" {
		t.Errorf("%d of 701 are left, incident %q", len(got), b.Incident())
	}
}
