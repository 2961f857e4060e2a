package queue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// punchDays has somebody punch on n days from at on.
func punchDays(t interface {
	Helper()
	Fatal(...any)
}, b *Outbox, at time.Time, n int) {
	t.Helper()
	for i := range n {
		if _, err := b.Append(aged(1_000_000+int(b.head), at.AddDate(0, 0, i), punch.Synced)); err != nil {
			t.Fatal(err)
		}
		if err := b.Tidy(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSettledPunchesAreKeptForFiveYears(t *testing.T) {
	w := &wall{}
	b, o := archive(t, w)
	punchDays(t, b, time.Date(2026, 6, 6, 0, 0, 0, 0, time.UTC), trustDays)
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
	// A segment goes whole, and only when the one behind it is old too.
	if limit := w.Stamp.Wall.AddDate(-5, 0, 0); oldest.Before(limit.AddDate(0, -2, 0)) || oldest.After(limit) || n == 0 {
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
		punchDays(t, b, w.Wall, trustDays)
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
	punchDays(t, b, w.Wall, trustDays)
	tidyAgain(t, b)
	if b.firsts[0] != 1 {
		t.Errorf("punches that feishu never got were let go up to %d", b.firsts[0])
	}
}

// Whoever punched before another is older than he is, whatever the clocks said.
func TestPunchOfAnUnsetClockGoesWithTheFirstCertainOneBehindIt(t *testing.T) {
	for _, c := range []struct {
		what   string
		behind func(i int) (time.Time, punch.ClockState) // of number 11 on
		first  uint64                                    // the log begins there afterwards
	}{
		{"old", func(int) (time.Time, punch.ClockState) { return longAgo, punch.Synced }, 16},
		{"young", func(int) (time.Time, punch.ClockState) { return longAgo.AddDate(29, 6, 0), punch.Synced }, 6},
		{"unknown, then old", func(i int) (time.Time, punch.ClockState) {
			if i < 17 {
				return longAgo.AddDate(-50, 0, 0), punch.Unset
			}
			return longAgo, punch.Synced
		}, 16},
		{"unknown, then young", func(i int) (time.Time, punch.ClockState) {
			if i < 17 {
				return longAgo.AddDate(-50, 0, 0), punch.Unset
			}
			return longAgo.AddDate(29, 6, 0), punch.Synced
		}, 6},
		{"far back, then young", func(i int) (time.Time, punch.ClockState) {
			if i < 15 {
				return longAgo.AddDate(-10, 0, 0), punch.Synced
			}
			return longAgo.AddDate(29, 6, 0), punch.Synced
		}, 11},
	} {
		w := &wall{Stamp: punch.Stamp{Wall: longAgo.AddDate(30, 0, 0), Clock: punch.Synced}}
		b, err := Open(Options{Dir: t.TempDir(), Device: "test-1", Destinations: []string{"104"}, KeepYears: 1, SegmentRecords: 5, UnsafeNoSync: true, ahead: 1 << 14})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for i := range 20 {
			at, state := longAgo, punch.Synced
			if i >= 10 {
				at, state = c.behind(i)
			} else if i == 9 { // the last of the second segment
				at, state = longAgo.AddDate(-50, 0, 0), punch.Unset
			}
			d := aged(i, at, state)
			d.Stamp.BootID[0] = byte(i) // that never learned it
			if _, err := b.Append(d); err != nil {
				t.Fatal(err)
			}
			if err := b.Tidy(); err != nil {
				t.Fatal(err)
			}
		}
		// Where a month was over, the files are not all of five.
		punchDays(t, b, w.Wall.AddDate(0, 0, -trustDays), trustDays)
		offered(t, b, "104")
		for seq := range uint64(20) { // those that wait for their time would hold all
			if e, ok := b.cursors["104"].parked[seq+1]; ok && e.reason == punch.ReasonTimeUncertain {
				t.Fatal("parked", seq)
			}
		}
		b.opt.Now = w.now
		tidyAgain(t, b)
		if got := b.firsts[0]; got != c.first {
			t.Errorf("%s: the log begins at %d, want %d; files at %v", c.what, got, c.first, b.firsts)
		}
	}
}

// A time server that is years ahead, for as long as a site may take to notice, costs
// no punch; neither does a restart meanwhile.
func TestAClockYearsAheadLetsNothingGo(t *testing.T) {
	w := &wall{}
	b, o := archive(t, w)
	defer func() { b.Close() }()
	day := time.Date(2026, 6, 20, 8, 0, 0, 0, time.UTC)
	w.Stamp = punch.Stamp{Wall: day, Clock: punch.Synced}
	punchDays(t, b, day.AddDate(0, 0, -trustDays), trustDays)
	offered(t, b, "104")
	offered(t, b, "feishu")
	tidyAgain(t, b)
	first := b.firsts[0]
	if first == 1 {
		t.Fatal("nothing was let go by a right clock: the test proves nothing")
	}
	const fiveYears = 172 // the first number that is younger than that in June 2026
	ahead := time.Date(2038, 1, 19, 8, 0, 0, 0, time.UTC)
	for i := range trustDays - 1 {
		w.Stamp = punch.Stamp{Wall: ahead.AddDate(0, 0, i), Clock: punch.Synced}
		for range 3 {
			punchDays(t, b, w.Stamp.Wall, 1)
		}
		tidyAgain(t, b)
		if i%5 == 2 {
			b.Close()
			var err error
			if b, err = Open(o); err != nil {
				t.Fatal(err)
			}
			tidyAgain(t, b)
		}
		if b.firsts[0] > fiveYears {
			t.Fatalf("the clock is years ahead for %d days: the log begins at %d, was %d", i+1, b.firsts[0], first)
		}
	}
	// It is put right, and retention goes on as before.
	w.Stamp.Wall = day.AddDate(0, 3, 0)
	punchDays(t, b, w.Stamp.Wall.AddDate(0, 0, -trustDays), trustDays)
	tidyAgain(t, b)
	if got := b.firsts[0]; got == first || got > fiveYears+30 {
		t.Errorf("three months later the log begins at %d, was %d", got, first)
	}
	// And if it says so for good, it is believed in the end.
	first = b.firsts[0]
	w.Stamp.Wall = ahead
	punchDays(t, b, ahead.AddDate(0, 0, -trustDays), trustDays)
	tidyAgain(t, b)
	if b.firsts[0] == first {
		t.Error("years have gone by, and nothing is let go")
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
		punchDays(t, b, w.Wall, trustDays)
		tidyAgain(t, b)
		if len(b.firsts) != 2 { // the first punch after those years still lies in the file before
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
		truth, real := []time.Time{}, longAgo
		add := func(rt *rapid.T) {
			d := aged(len(made), w.Wall, w.Clock)
			if w.Clock == punch.Unset { // a boot that never learns the time
				d.Stamp.Wall, d.Stamp.BootID = longAgo.AddDate(-20, 0, 0), [16]byte{1, byte(len(made))}
			}
			if _, err := b.Append(d); err != nil {
				rt.Fatal(err)
			}
			made, truth = append(made, d.Stamp), append(truth, real)
			if err := b.tidy(t.Context()); err != nil {
				rt.Fatal(err)
			}
		}
		state := map[string]map[uint64]punch.Fate{"104": {}, "feishu": {}}
		tidy := func(rt *rapid.T) {
			before := b.firsts[0]
			tidyAgain(rt, b)
			days := map[string]bool{}
			believed := w.Wall // the earliest of the last days on which somebody punched
			for _, s := range slices.Backward(made) {
				if s.Clock == punch.Unset || len(days) == trustDays {
					continue
				}
				if days[s.Wall.Format(time.DateOnly)] = true; s.Wall.Before(believed) {
					believed = s.Wall
				}
			}
			for seq := before; seq < b.firsts[0]; seq++ {
				trimmed++
				s := made[seq-1]
				if w.Clock == punch.Unset {
					rt.Fatalf("punch %d was let go by a clock that does not know the time", seq)
				}
				if len(days) < trustDays {
					rt.Fatalf("punch %d was let go after %d days", seq, len(days))
				}
				behind := slices.IndexFunc(made[seq-1:], func(s punch.Stamp) bool { return s.Clock != punch.Unset })
				if behind < 0 {
					rt.Fatalf("punch %d was let go, and nobody knows when it was made", seq)
				}
				for _, at := range []time.Time{truth[seq-1], made[seq-1:][behind].Wall} {
					if at.AddDate(years, 0, 0).After(believed) || at.AddDate(years, 0, 0).After(real) {
						rt.Fatalf("punch %d of %v was let go on %v", seq, s.Wall, real)
					}
				}
				for _, d := range dests {
					if f := state[d][seq]; f != punch.Accept && f != punch.Skip {
						rt.Fatalf("punch %d was let go; for %s it is %v", seq, d, f)
					}
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				for range rapid.IntRange(1, 12).Draw(rt, "n") {
					real = real.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "days")) * 24 * time.Hour)
					w.Wall = real
					add(rt)
				}
			},
			"a wrong clock": func(rt *rapid.T) {
				was := w.Clock
				w.Clock, w.Wall = punch.Synced, real.AddDate(rapid.IntRange(1, 20).Draw(rt, "ahead"), 0, 0)
				for range rapid.IntRange(1, trustDays-1).Draw(rt, "n") {
					w.Wall = w.Wall.AddDate(0, 0, 1)
					add(rt)
				}
				tidy(rt)
				w.Wall = real
				add(rt)
				w.Clock = was
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
			"years go by": func(rt *rapid.T) { real = real.AddDate(rapid.IntRange(0, 3).Draw(rt, "years"), 0, 0); w.Wall = real },
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
	if trimmed == 0 && !testing.Short() { // a few runs may well have no quiet fortnight among them
		t.Error("nothing was ever let go: the test proves nothing")
	}
	t.Logf("%d punches were let go", trimmed)
}
