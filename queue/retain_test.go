package queue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"punchclock/queue/punch"
)

// wall is a clock on the wall that a test sets.
type wall struct{ punch.Stamp }

func (w *wall) now() punch.Stamp { return w.Stamp }

func aged(n int, at time.Time, c punch.ClockState) punch.Draft {
	d := draft(n)
	d.Stamp.Wall, d.Stamp.Clock = at, c
	return d
}

// tidyAgain is a round of a later day.
func tidyAgain(t interface {
	Helper()
	Fatal(...any)
}, b *Outbox) {
	t.Helper()
	b.mu.Lock()
	b.trimmed = time.Time{}
	b.mu.Unlock()
	if err := b.Tidy(); err != nil {
		t.Fatal(err)
	}
}

var longAgo = time.Date(2020, 1, 15, 8, 0, 0, 0, time.UTC)

// archive makes an outbox with one segment of ten punches a month for six years and
// a half, and a mirror of it.
func archive(t *testing.T, w *wall) (*Outbox, Options) {
	t.Helper()
	dir := t.TempDir()
	o := Options{Dir: dir, Device: "test-1", Destinations: []string{"104", "feishu"}, Mirror: filepath.Join(dir, "mirror"), KeepYears: 5, Now: w.now, UnsafeNoSync: true, ahead: 1 << 14}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	for m := range 78 {
		for i := range 10 {
			if _, err := b.Append(aged(m*10+i, longAgo.AddDate(0, m, i%5), punch.Synced)); err != nil {
				t.Fatal(err)
			}
			if err := b.Tidy(); err != nil {
				t.Fatal(err)
			}
		}
	}
	copyNow(t, b)
	return b, o
}

func TestSettledPunchesAreKeptForFiveYears(t *testing.T) {
	w := &wall{}
	b, o := archive(t, w)
	offered(t, b, "104")
	w.Stamp = punch.Stamp{Wall: time.Date(2026, 6, 20, 0, 0, 0, 0, time.UTC), Clock: punch.Synced}
	tidyAgain(t, b)
	if b.firsts[0] != 1 {
		t.Fatalf("punches that feishu has not settled were let go, up to %d", b.firsts[0])
	}
	offered(t, b, "feishu")
	w.Stamp.Clock = punch.Unset
	tidyAgain(t, b)
	if b.firsts[0] != 1 {
		t.Fatalf("punches were let go by a clock that does not know the time, up to %d", b.firsts[0])
	}
	w.Stamp.Clock = punch.Holdover
	tidyAgain(t, b)
	var oldest time.Time
	n := 0
	if err := b.Read(t.Context(), 1, func(e Entry) error {
		if n++; n == 1 {
			oldest = e.Stamp.Wall
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// A segment goes whole: the oldest that is left may hold a month more.
	if limit := w.Stamp.Wall.AddDate(-5, 0, 0); oldest.Before(limit.AddDate(0, -1, 0)) || oldest.After(limit) || n == 0 {
		t.Errorf("the oldest of %d is of %v, the limit is %v", n, oldest, limit)
	}
	first := b.firsts[0]
	for range 2 {
		c, err := b.Verify(t.Context(), nil)
		if err != nil || len(c.Problems) > 0 || c.Note != fmt.Sprintf("starts at %d: earlier ones were let go by retention", first) || c.First != first {
			t.Errorf("%v %+v", err, c)
		}
		if s := b.Incident(); s != "" {
			t.Errorf("retention is no incident: %s", s)
		}
		if got := offered(t, b, "104"); len(got) > 0 {
			t.Errorf("offered again: %v", got)
		}
		b.Close()
		if b, err = Open(o); err != nil { // what was let go is not put back from the mirror
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
	}
	files, _ := filepath.Glob(filepath.Join(o.Mirror, "*"))
	for _, f := range files {
		if name := filepath.Base(f); name < "2021-05.txt" {
			t.Errorf("the mirror still has %s", name)
		}
	}
	if len(files) < 60 {
		t.Errorf("the mirror has %d months, want five years", len(files))
	}
	if left, _ := filepath.Glob(filepath.Join(o.Dir, "*"+goneSuffix)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// The beginning taken away by hand is not the same.
	b.Close()
	os.Remove(segmentPath(o.Dir, b.firsts[0]))
	for _, f := range files {
		os.Remove(f)
	}
	if b, err := Open(o); err != nil {
		t.Fatal(err)
	} else {
		defer b.Close()
		c, err := b.Verify(t.Context(), nil)
		if err != nil || len(c.Problems) == 0 || !strings.Contains(c.Problems[0].What, fmt.Sprintf("%d to", first)) {
			t.Errorf("%v %+v", err, c)
		}
	}
}

func TestParkedPunchIsNeverLetGo(t *testing.T) {
	for _, again := range []bool{false, true} {
		w := &wall{Stamp: punch.Stamp{Wall: longAgo, Clock: punch.Synced}}
		b, _ := archive(t, w)
		offered(t, b, "104")
		ps, err := b.Next("feishu", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		vs := accept(ps)
		vs[34].Fate, vs[34].Reason = punch.Refuse, "unknown_badge" // number 35, in the fourth month
		if err := b.Settle("feishu", vs); err != nil {
			t.Fatal(err)
		}
		if again {
			if n, err := b.Retry("feishu"); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		w.Wall = longAgo.AddDate(30, 0, 0)
		tidyAgain(t, b)
		if b.firsts[0] > 35 || b.firsts[0] == 1 {
			t.Errorf("the log begins at %d; number 35 waits for a person", b.firsts[0])
		}
		if p, err := b.one(35); err != nil || p.Seq != 35 {
			t.Errorf("the parked punch is gone: %v", err)
		}
	}
}

func TestDestinationThatIsNotConfiguredTodayKeepsItsPunches(t *testing.T) {
	w := &wall{Stamp: punch.Stamp{Wall: longAgo, Clock: punch.Synced}}
	b, o := archive(t, w)
	offered(t, b, "104")
	b.Close()
	o.Destinations = []string{"104"}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	w.Wall = longAgo.AddDate(30, 0, 0)
	tidyAgain(t, b)
	if b.firsts[0] != 1 {
		t.Errorf("punches that feishu never got were let go up to %d", b.firsts[0])
	}
}

func TestPunchesOfAnUnsetClockAreNeverLetGo(t *testing.T) {
	w := &wall{Stamp: punch.Stamp{Wall: longAgo.AddDate(30, 0, 0), Clock: punch.Synced}}
	dir := t.TempDir()
	b, err := Open(Options{Dir: dir, Device: "test-1", Destinations: []string{"104"}, KeepYears: 1, Now: w.now, SegmentRecords: 5, UnsafeNoSync: true, ahead: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for i := range 20 {
		c := punch.Synced
		if i == 9 { // the last of the second segment
			c = punch.Unset
		}
		if _, err := b.Append(aged(i, longAgo, c)); err != nil {
			t.Fatal(err)
		}
		if err := b.Tidy(); err != nil {
			t.Fatal(err)
		}
	}
	offered(t, b, "104")
	tidyAgain(t, b)
	if b.firsts[0] != 6 {
		t.Errorf("the log begins at %d, want 6: nobody knows when number 10 was made", b.firsts[0])
	}
}

// A cut at any point of letting go leaves a whole log.
func TestRetentionSurvivesACutAtEveryStep(t *testing.T) {
	for step := range 3 {
		w := &wall{Stamp: punch.Stamp{Wall: longAgo, Clock: punch.Synced}}
		b, o := archive(t, w)
		offered(t, b, "104")
		offered(t, b, "feishu")
		first, second := b.firsts[0], b.firsts[1]
		b.Close()
		path := segmentPath(o.Dir, first)
		if err := putFile(filepath.Join(o.Dir, "let-go"), fmt.Sprintf("punchclock let go below %d\n", second), true); err != nil {
			t.Fatal(err)
		}
		switch step {
		case 1:
			os.Rename(path, path+goneSuffix)
		case 2:
			os.Remove(path)
		}
		b, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		c, err := b.Verify(context.Background(), nil)
		if err != nil || len(c.Problems) > 0 || b.Incident() != "" || (step > 0) != (c.First == second) {
			t.Errorf("cut at step %d: %v %+v %s", step, err, c, b.Incident())
		}
		if left, _ := filepath.Glob(filepath.Join(o.Dir, "*"+goneSuffix)); len(left) > 0 {
			t.Errorf("cut at step %d: left behind: %v", step, left)
		}
		w.Wall = longAgo.AddDate(30, 0, 0)
		tidyAgain(t, b)
		if len(b.firsts) != 1 {
			t.Errorf("cut at step %d: %d segments left after thirty years", step, len(b.firsts))
		}
	}
}

// Random punches, answers, clocks and days: nothing that is unsettled, parked, young
// or in doubt is ever gone, by the word of a naive twin that knows every punch.
func TestRetentionNeverLetsGoOfWhatANaiveTwinKeeps(t *testing.T) {
	base, err := os.MkdirTemp("/dev/shm", "retention") // hundreds of new files, each synced by bbolt
	if err != nil {
		base = t.TempDir()
	}
	defer os.RemoveAll(base)
	trimmed := 0
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(base, "r")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		dests := []string{"104", "feishu"}
		w := &wall{Stamp: punch.Stamp{Wall: longAgo, Clock: punch.Synced}}
		years := rapid.IntRange(1, 3).Draw(rt, "years")
		o := Options{Dir: dir, Device: "test-1", Destinations: dests, SegmentRecords: rapid.IntRange(2, 9).Draw(rt, "segment"), Mirror: filepath.Join(dir, "mirror"),
			KeepYears: years, Now: w.now, UnsafeNoSync: true, ahead: 1 << 13}
		b, err := Open(o)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { b.Close() }()
		made := []punch.Stamp{}
		state := map[string]map[uint64]punch.Fate{"104": {}, "feishu": {}}
		tidy := func(rt *rapid.T) {
			before := b.firsts[0]
			tidyAgain(rt, b)
			for seq := before; seq < b.firsts[0]; seq++ {
				trimmed++
				s := made[seq-1]
				if w.Clock == punch.Unset {
					rt.Fatalf("punch %d was let go by a clock that does not know the time", seq)
				}
				if s.Clock != punch.Unset && s.Wall.AddDate(years, 0, 0).After(w.Wall) {
					rt.Fatalf("punch %d of %v was let go on %v", seq, s.Wall, w.Wall)
				}
				for _, d := range dests {
					if f := state[d][seq]; f != punch.Accept && f != punch.Skip {
						rt.Fatalf("punch %d was let go; for %s it is %v", seq, d, f)
					}
				}
			}
			if b.firsts[0] > 1 && made[b.firsts[0]-2].Clock == punch.Unset && b.firsts[0] != before {
				rt.Fatalf("number %d was the last of its file, and nobody knows when it was made", b.firsts[0]-1)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				for range rapid.IntRange(1, 12).Draw(rt, "n") {
					w.Wall = w.Wall.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "days")) * 24 * time.Hour)
					d := aged(len(made), w.Wall, w.Clock)
					if _, err := b.Append(d); err != nil {
						rt.Fatal(err)
					}
					made = append(made, d.Stamp)
					if err := b.tidy(t.Context()); err != nil {
						rt.Fatal(err)
					}
				}
			},
			"settle": func(rt *rapid.T) {
				dest := rapid.SampledFrom(dests).Draw(rt, "dest")
				ps, err := b.Next(dest, rapid.IntRange(1, 100).Draw(rt, "max"))
				if err != nil {
					rt.Fatal(err)
				}
				var vs []punch.Verdict
				odd := rapid.IntRange(0, 4).Draw(rt, "odd") == 0 // most batches go well
				for _, p := range ps {
					f := punch.Accept
					if odd {
						f = rapid.SampledFrom([]punch.Fate{punch.Keep, punch.Accept, punch.Accept, punch.Accept, punch.Refuse, punch.Skip}).Draw(rt, "fate")
					}
					vs = append(vs, punch.Verdict{ID: p.ID, Fate: f, Attempts: 1, Reason: "r"})
					if f != punch.Keep {
						state[dest][p.Seq] = f
					}
				}
				if err := b.Settle(dest, vs); err != nil {
					rt.Fatal(err)
				}
			},
			"retry": func(rt *rapid.T) {
				if _, err := b.Retry(rapid.SampledFrom(dests).Draw(rt, "dest")); err != nil {
					rt.Fatal(err)
				}
			},
			"years go by": func(rt *rapid.T) { w.Wall = w.Wall.AddDate(rapid.IntRange(0, 3).Draw(rt, "years"), 0, 0) },
			"clock": func(rt *rapid.T) {
				w.Clock = rapid.SampledFrom([]punch.ClockState{punch.Synced, punch.Synced, punch.Synced, punch.Holdover, punch.Unset}).Draw(rt, "clock")
			},
			"mirror": func(rt *rapid.T) { b.copyMirror(context.Background()) },
			"reopen": func(rt *rapid.T) {
				if err := b.Close(); err != nil {
					rt.Fatal(err)
				}
				if b, err = Open(o); err != nil {
					rt.Fatal(err)
				}
				if s := b.Incident(); s != "" {
					rt.Fatalf("after a restart: %s", s)
				}
			},
			"tidy": func(rt *rapid.T) {
				tidy(rt)
				c, err := b.Verify(context.Background(), nil)
				if err != nil || len(c.Problems) > 0 {
					rt.Fatal(fmt.Sprint(err, c.Problems))
				}
				if want := uint64(len(made)) + 1 - b.firsts[0]; c.Records != want {
					rt.Fatalf("%d records from %d on, want %d", c.Records, b.firsts[0], want)
				}
			},
		})
	})
	if trimmed == 0 {
		t.Error("nothing was ever let go: the test proves nothing")
	}
	t.Logf("%d punches were let go", trimmed)
}
