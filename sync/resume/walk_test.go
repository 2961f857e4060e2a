package resume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/sync/drain"
	"punchclock/sync/sandbox"
)

// shelf is a Store in memory.
type shelf struct {
	mu       sync.Mutex
	next     time.Time
	complete []time.Time
	found    map[string][]Candidate // by hour
	fail     error
	at       []time.Time // when each hour was completed
}

func (s *shelf) Next() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next, s.fail
}

func (s *shelf) Complete(hour time.Time, found []Candidate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if s.found == nil {
		s.found = map[string][]Candidate{}
	}
	s.next = hour.Add(time.Hour)
	s.complete = append(s.complete, hour)
	s.at = append(s.at, time.Now())
	if len(found) > 0 {
		s.found[hour.Format("2006-01-02 15")] = found
	}
	return nil
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.complete)
}

// walked checks that hours follow each other without a gap or a repeat.
func (s *shelf) walked(t *testing.T, first, last string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	want := hourOf(first)
	for _, h := range s.complete {
		if !h.Equal(want) {
			t.Fatalf("%s came where %s was next", h.Format("2006-01-02 15"), want.Format("2006-01-02 15"))
		}
		want = want.Add(time.Hour)
	}
	if !want.Equal(hourOf(last).Add(time.Hour)) {
		t.Errorf("the last was %s, want %s", want.Add(-time.Hour).Format("2006-01-02 15"), last)
	}
}

// walk runs a walker for a while, and ends it.
func (d *desk) walk(s *shelf, change func(*WalkerConfig), during func(*Walker)) {
	d.t.Helper()
	c := WalkerConfig{Client: d.client, Store: s, Log: slog.New(slog.NewTextHandler(&d.logs, nil))}
	if change != nil {
		change(&c)
	}
	w := NewWalker(c)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	during(w)
	stop()
	if err := <-done; err != nil {
		d.t.Error(err)
	}
}

func until(s string) time.Duration {
	t, err := time.ParseInLocation("2006-01-02 15:04", s, Taipei)
	if err != nil {
		panic(err)
	}
	return time.Until(t)
}

func TestEachHourIsAskedForFiveMinutesAfterItsEnd(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) { // 09:20
		d.cloud.Add(sandbox.Resume{ID: "7", Name: "測試", Date: "2026-11-20", Hour: 23, Photo: true}, sandbox.Resume{ID: "8", Name: "測試", Date: "2026-11-21", Hour: 9})
		s := &shelf{}
		d.walk(s, nil, func(w *Walker) {
			time.Sleep(time.Minute)
			s.walked(t, "2026-11-21 08", "2026-11-21 08")
			time.Sleep(until("2026-11-21 10:04"))
			s.walked(t, "2026-11-21 08", "2026-11-21 08")
			time.Sleep(until("2026-11-21 10:06"))
			s.walked(t, "2026-11-21 08", "2026-11-21 09")
			if f := s.found["2026-11-21 09"]; len(f) != 1 || f[0].ID != "8" || f[0].Name != "測試" {
				t.Errorf("%+v", f)
			}
			time.Sleep(until("2026-11-22 00:06"))
			s.walked(t, "2026-11-21 08", "2026-11-21 23")
			if at := s.at[len(s.at)-1].In(Taipei).Format("2006-01-02 15:04"); at != "2026-11-22 00:05" {
				t.Errorf("the last hour of the day at %s", at)
			}
			if st := w.Status(); st.State != drain.OK || st.LastSuccess.IsZero() {
				t.Errorf("%+v", st)
			}
		})
		for hour, n := range d.cloud.Hours() {
			if n != 1 {
				t.Errorf("%s was asked for %d times", hour, n)
			}
		}
	})
}

func TestAnOutageOfThreeDaysWalksEveryHourExactlyOnce(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		for h := range 24 * 4 {
			at := hourOf("2026-11-21 00").Add(time.Duration(h) * time.Hour)
			for i := range 12 { // more than a batch
				d.cloud.Add(sandbox.Resume{ID: fmt.Sprintf("%d-%d", h, i), Name: "測試", Date: at.Format(time.DateOnly), Hour: at.Hour()})
			}
		}
		s := &shelf{}
		d.walk(s, nil, func(w *Walker) {
			time.Sleep(time.Hour)
			d.faults(func(f *sandbox.ResumeFaults) { f.Down = true })
			time.Sleep(36 * time.Hour)
			if st := w.Status(); st.State != drain.Retrying || st.LastError == "" {
				t.Errorf("%+v", st)
			}
		})
		n := s.count()
		d.walk(s, nil, func(w *Walker) { // a restart in the middle of it
			time.Sleep(36 * time.Hour)
			if s.count() != n {
				t.Errorf("an hour was completed in the outage")
			}
			// It comes back slowly: every third answer is an error.
			d.faults(func(f *sandbox.ResumeFaults) { f.Down, f.AnswerNext = false, 1 })
			for range 30 {
				time.Sleep(5 * time.Second)
				d.faults(func(f *sandbox.ResumeFaults) { f.AnswerNext = 1 })
			}
			time.Sleep(time.Until(hourOf("2026-11-24 11").Add(30 * time.Minute)))
		})
		s.walked(t, "2026-11-21 08", "2026-11-24 10")
		people := 0
		for _, f := range s.found {
			people += len(f)
		}
		if want := s.count() * 12; people != want {
			t.Errorf("%d candidates, want %d", people, want)
		}
		for hour, n := range d.cloud.Hours() {
			if n != 1 {
				t.Errorf("%s was listed %d times", hour, n)
			}
		}
		if c := d.cloud.Counters(); c.WorstSecond > MostCalls || c.RateLimited > 0 {
			t.Errorf("%d calls in a second, %d of them limited", c.WorstSecond, c.RateLimited)
		}
	})
}

func TestAStateThatCallsAPersonIsProbedSlowlyAndAKickEndsIt(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		right := d.secret
		d.secret = "old"
		s := &shelf{}
		d.walk(s, nil, func(w *Walker) {
			time.Sleep(time.Hour)
			if st := w.Status(); st.State != "auth_failed" || !strings.Contains(st.LastError, "client_secret_file") {
				t.Errorf("%+v", st)
			}
			if n := len(d.asked); n > 8 {
				t.Errorf("%d calls in an hour", n)
			}
			d.secret = right
			w.Kick()
			time.Sleep(30 * time.Second)
			if s.count() == 0 || w.Status().State != drain.OK {
				t.Errorf("%+v", w.Status())
			}
		})
		if n := strings.Count(d.logs.String(), "the résumé service fails"); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}

func TestNoHourIsAskedForWhileNobodyHasSetTheClock(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		var mu sync.Mutex
		ready := false
		s := &shelf{}
		d.walk(s, func(c *WalkerConfig) {
			c.Ready = func() bool { mu.Lock(); defer mu.Unlock(); return ready }
			c.Back = 5 * time.Hour
		}, func(w *Walker) {
			time.Sleep(30 * time.Minute) // 09:50
			if len(d.asked) > 0 {
				t.Errorf("%s", paths(d.asked))
			}
			mu.Lock()
			ready = true
			mu.Unlock()
			time.Sleep(12 * time.Minute) // 10:02
			s.walked(t, "2026-11-21 03", "2026-11-21 08")
		})
		// A wrong clock wrote a position in ten years; a small step back repeats nothing.
		s.next = hourOf("2036-11-21 08")
		d.walk(s, nil, func(w *Walker) { time.Sleep(time.Minute) })
		if last := s.complete[len(s.complete)-1]; !last.Equal(hourOf("2026-11-21 08")) {
			t.Errorf("%v", last)
		}
		n := s.count()
		s.next = hourOf("2026-11-21 12")
		d.walk(s, nil, func(w *Walker) { time.Sleep(2 * time.Hour) }) // 12:03
		if s.count() != n {
			t.Errorf("%v", s.complete[n:])
		}
	})
}

func TestAMediumThatFailsLosesNoHour(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		s := &shelf{}
		d.walk(s, nil, func(w *Walker) {
			time.Sleep(time.Minute)
			s.mu.Lock()
			s.fail = errors.New("no space left on the card")
			s.mu.Unlock()
			time.Sleep(3 * time.Hour)
			if st := w.Status(); st.State != drain.Retrying || !strings.Contains(st.LastError, "no space left") {
				t.Errorf("%+v", st)
			}
			s.mu.Lock()
			s.fail = nil
			s.mu.Unlock()
			time.Sleep(10 * time.Minute)
		})
		s.walked(t, "2026-11-21 08", "2026-11-21 11")
	})
}
