package drain_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/token"
)

// wire is a destination that makes one call with each batch, through the client of
// the product, and a far side some way off. What has arrived stays there, whatever
// becomes of the answer.
type wire struct {
	client *http.Client
	up     func() time.Duration                              // how long a call is on its way
	down   time.Duration                                     // and its answer
	fault  func(batch []punch.Punch) (taken bool, err error) // nil: takes everything
	began  time.Time
	stall  time.Duration // every 20 s nothing arrives for so long

	mu       sync.Mutex
	arrived  []time.Time
	held     []punch.ID        // in order of arrival, repeats included
	person   map[string]uint64 // the newest of each person
	overtook []string
	out, max int
}

func newWire(ceiling int, up func() time.Duration, down time.Duration) *wire {
	w := &wire{up: up, down: down, began: time.Now(), person: map[string]uint64{}}
	client, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(ceiling), Transport: w})
	if err != nil {
		panic(err)
	}
	w.client = client
	return w
}

type batchKey struct{}

func (w *wire) Send(ctx context.Context, batch []punch.Punch) ([]punch.Verdict, error) {
	r, _ := http.NewRequestWithContext(context.WithValue(ctx, batchKey{}, batch), "POST", "http://far.invalid/", strings.NewReader("{}"))
	resp, err := drain.Do(w.client, r)
	if err != nil {
		return nil, err
	}
	if _, err := drain.ReadBody(resp, 1<<10); err != nil {
		return nil, err
	}
	if resp.StatusCode == 429 {
		return nil, &drain.Busy{After: 30 * time.Second, Err: errors.New("429")}
	}
	return accept(batch), nil
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	batch := r.Context().Value(batchKey{}).([]punch.Punch)
	w.mu.Lock()
	w.out++
	w.max = max(w.max, w.out)
	w.mu.Unlock()
	defer func() { w.mu.Lock(); w.out--; w.mu.Unlock() }()
	d := w.up()
	if in := (time.Since(w.began) + d) % (20 * time.Second); w.stall > 0 && in < w.stall {
		d += w.stall - in
	}
	if err := wait(r.Context(), d); err != nil {
		return nil, err
	}
	taken, err := true, error(nil)
	w.mu.Lock()
	w.arrived = append(w.arrived, time.Now())
	if w.fault != nil {
		taken, err = w.fault(batch)
	}
	if taken {
		for _, p := range batch {
			if !slices.Contains(w.held, p.ID) && p.Seq < w.person[p.Employee] {
				w.overtook = append(w.overtook, fmt.Sprintf("%s after %d", p.ID, w.person[p.Employee]))
			}
			w.person[p.Employee] = max(w.person[p.Employee], p.Seq)
			w.held = append(w.held, p.ID)
		}
	}
	w.mu.Unlock()
	if werr := wait(r.Context(), w.down); werr != nil {
		return nil, werr
	}
	if errors.Is(err, errBusy) {
		return &http.Response{StatusCode: 429, Body: io.NopCloser(strings.NewReader("{}"))}, nil
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("{}"))}, nil
}

var errBusy = errors.New("too many calls")

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 { // see sleep in pace_test.go
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// crowd returns punches of many people, in the order of their taps.
func crowd(n, people int) []punch.Punch {
	ps := punches(1, n)
	for i := range ps {
		ps[i].Employee = fmt.Sprintf("%06d", rand.N(people))
	}
	return ps
}

// worst returns the most calls that arrived in any [T, T+1s).
func worst(at []time.Time) int {
	slices.SortFunc(at, time.Time.Compare)
	most, lo := 0, 0
	for hi := range at {
		for at[hi].Sub(at[lo]) >= time.Second {
			lo++
		}
		most = max(most, hi-lo+1)
	}
	return most
}

func fly(t *testing.T, w *wire, log *draintest.Log, change func(*drain.Config)) *room {
	t.Helper()
	r := start(t, &far{}, log, func(c *drain.Config) {
		c.Dest, c.Batch, c.Lanes = w, 1, drain.Lanes(30)
		if change != nil {
			change(c)
		}
	})
	return r
}

func TestTheCeilingIsNeverBrokenAndUsedFullyHoweverFarTheOtherSide(t *testing.T) {
	const ceiling, n = 30, 5000
	flat := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	for _, c := range []struct {
		name  string
		up    func() time.Duration
		down  time.Duration
		trip  time.Duration // mean, for what can be had
		stall time.Duration
	}{
		{"5ms", flat(2 * time.Millisecond), 3 * time.Millisecond, 5 * time.Millisecond, 0},
		{"200ms", flat(100 * time.Millisecond), 100 * time.Millisecond, 200 * time.Millisecond, 0},
		{"Jitter", func() time.Duration { return rand.N(200 * time.Millisecond) }, 5 * time.Millisecond, 105 * time.Millisecond, 0},
		{"JitterAndStall", func() time.Duration { return rand.N(200 * time.Millisecond) }, 5 * time.Millisecond, 0, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(ceiling, c.up, c.down)
				w.stall = c.stall
				log := &draintest.Log{}
				log.Append(crowd(n, 400)...)
				r := fly(t, w, log, nil)
				for len(log.Verdicts("104")) < n && time.Since(w.began) < time.Hour {
					pass(10 * time.Second)
				}
				r.stop()
				if got := len(log.Verdicts("104")); got != n || len(w.held) != n || len(w.overtook) > 0 {
					t.Fatalf("%d settled, %d at the far side, overtaken: %v", got, len(w.held), w.overtook)
				}
				if most := worst(w.arrived); most > ceiling {
					t.Errorf("%d calls in one second, the ceiling is %d", most, ceiling)
				}
				took := w.arrived[n-1].Sub(w.arrived[100])
				rate := float64(n-100) / took.Seconds()
				if c.trip > 0 {
					can := ceiling / (1 + c.trip.Seconds())
					t.Logf("%.2f calls a second of %.2f, %d at once", rate, can, w.max)
					if rate < 0.98*can {
						t.Errorf("%.2f calls a second, %.2f are to be had", rate, can)
					}
				}
			})
		})
	}
}

func TestNoMoreIsUnderWayThanTheDelayOfTheAnswersAsksFor(t *testing.T) {
	for _, c := range []struct {
		trip        time.Duration
		least, most int
	}{
		{5 * time.Millisecond, 1, 1}, // one call at a time uses the ceiling: a kill costs one resend at most
		{100 * time.Millisecond, 3, 4},
		{time.Second, 15, 30},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWire(30, func() time.Duration { return c.trip }, 0)
			log := &draintest.Log{}
			log.Append(crowd(1000, 1000)...)
			r := fly(t, w, log, nil)
			pass(40 * time.Second)
			r.stop()
			if w.max < c.least || w.max > c.most {
				t.Errorf("with answers after %v there were %d calls under way at once, want %d to %d", c.trip, w.max, c.least, c.most)
			}
		})
	}
}

func TestAnAnswerThatIsLateHoldsNobodyElseUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		w := newWire(30, func() time.Duration {
			if n.Add(1) == 20 {
				return 20 * time.Second
			}
			return time.Millisecond
		}, 0)
		log := &draintest.Log{}
		ps := punches(1, 300)
		for i := range ps {
			ps[i].Employee = fmt.Sprint(i)
		}
		log.Append(ps...)
		r := fly(t, w, log, nil)
		pass(15 * time.Second)
		if got := len(log.Verdicts("104")); got != 299 {
			t.Errorf("%d delivered while one answer is late", got)
		}
		pass(10 * time.Second)
		r.stop()
		if got := len(log.Verdicts("104")); got != 300 {
			t.Errorf("%d delivered", got)
		}
	})
}

func TestNobodysPunchesOvertakeEachOtherUnderAnyTrouble(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			log := &draintest.Log{Failing: func(string) error {
				if rand.N(40) == 0 {
					return errors.New("input/output error")
				}
				return nil
			}}
			var w *wire
			ps := crowd(600, 12)
			for i := range 6 {
				w2 := newWire(30, func() time.Duration { return rand.N(300 * time.Millisecond) }, rand.N(100*time.Millisecond))
				if w != nil {
					w2.held, w2.person, w2.overtook = w.held, w.person, w.overtook
				}
				w = w2
				w.fault = func([]punch.Punch) (bool, error) {
					switch rand.N(30) {
					case 0:
						return true, errOutage // the answer is lost
					case 1:
						return false, errOutage
					case 2:
						return false, errBusy
					}
					return true, nil
				}
				batch := 1 + rand.N(8)
				r := fly(t, w, log, func(c *drain.Config) { c.Batch = batch })
				log.Append(ps[i*100 : i*100+100]...)
				pass(rand.N(2 * time.Minute))
				if i == 5 {
					pass(50 * time.Hour)
				}
				r.stop()
			}
			once := slices.Clone(w.held)
			slices.Sort(once)
			if once = slices.Compact(once); len(once) != 600 || len(log.Verdicts("104")) != 600 || len(w.overtook) > 0 {
				t.Errorf("%d at the far side, %d settled, overtaken: %v", len(once), len(log.Verdicts("104")), w.overtook)
			}
		})
	}
}

func TestAFarSideThatIsDownIsAskedOnceNotThirtyTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		w := newWire(30, func() time.Duration { return 100 * time.Millisecond }, 0)
		w.fault = func([]punch.Punch) (bool, error) {
			if down {
				return false, errOutage
			}
			return true, nil
		}
		log := &draintest.Log{}
		log.Append(crowd(300, 300)...)
		r := fly(t, w, log, nil)
		pass(time.Hour)
		calls, most := len(w.arrived), w.max
		if most != 1 || calls > 40 {
			t.Errorf("%d calls in an hour of outage, %d at once", calls, most)
		}
		w.mu.Lock()
		down = false
		w.mu.Unlock()
		begin := time.Now()
		for len(log.Verdicts("104")) == 0 {
			pass(time.Second)
		}
		pass(30 * time.Second)
		// Others came back as well: no more than a call a second, and some.
		if got := len(log.Verdicts("104")); got < 20 || got > 45 {
			t.Errorf("%d delivered half a minute after it", got)
		}
		pass(4 * time.Minute)
		if got := len(log.Verdicts("104")); got != 300 {
			t.Errorf("%d delivered %v after it", got, time.Since(begin))
		}
		r.stop()
	})
}

func TestToldToWaitEvenWhatStoodInLineStaysHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(30, func() time.Duration { return 100 * time.Millisecond }, 0)
		var told time.Time
		w.fault = func([]punch.Punch) (bool, error) {
			if len(w.arrived) == 100 {
				told = time.Now()
				return false, errBusy
			}
			return true, nil
		}
		log := &draintest.Log{}
		log.Append(crowd(300, 300)...)
		r := fly(t, w, log, nil)
		pass(10 * time.Minute)
		r.stop()
		for _, at := range w.arrived {
			if d := at.Sub(told); d > 100*time.Millisecond && d < 30*time.Second {
				t.Errorf("a call arrived %v after being told to wait for 30s", d)
			}
		}
		v := log.Verdicts("104")
		if len(v) != 300 || len(w.held) != 300 {
			t.Errorf("%d settled, %d at the far side", len(v), len(w.held))
		}
		for id, v := range v {
			if v.Resent {
				t.Errorf("%s is called resent; the far side took nothing of it before", id)
			}
		}
	})
}

func TestWithManyUnderWayNothingLeavesWhileReceiptsCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(30, func() time.Duration { return 50 * time.Millisecond }, 0)
		var broken atomic.Bool
		log := &draintest.Log{}
		log.Failing = func(what string) error {
			if what == "settle" && broken.Load() {
				return errors.New("no space left on device")
			}
			return nil
		}
		log.Append(crowd(500, 500)...)
		r := fly(t, w, log, nil)
		pass(5 * time.Second)
		broken.Store(true)
		pass(2 * time.Second)
		w.mu.Lock()
		n := len(w.arrived)
		w.mu.Unlock()
		pass(time.Hour)
		w.mu.Lock()
		if len(w.arrived) != n {
			t.Errorf("%d calls while nothing could be remembered", len(w.arrived)-n)
		}
		w.mu.Unlock()
		broken.Store(false)
		pass(time.Hour)
		if got := len(log.Verdicts("104")); got != 500 || len(w.held) != 500 {
			t.Errorf("%d settled, the far side holds %d of 500", got, len(w.held))
		}
		r.stop()
	})
}

func TestOnePersonsPunchesGoOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(30, func() time.Duration { return 100 * time.Millisecond }, 100*time.Millisecond)
		log := &draintest.Log{}
		log.Append(crowd(50, 1)...)
		r := fly(t, w, log, nil)
		pass(time.Minute)
		r.stop()
		if len(w.held) != 50 || w.max != 1 {
			t.Errorf("%d delivered, %d at once", len(w.held), w.max)
		}
	})
}

func TestAPunchThatLeftBeforeAKillIsMarkedResentAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &draintest.Log{}
		log.Append(crowd(60, 60)...)
		w := newWire(5, func() time.Duration { return 100 * time.Millisecond }, 2*time.Hour) // answers never come
		w.fault = nil
		first := newWire(5, func() time.Duration { return 20 * time.Millisecond }, 0)
		r := fly(t, first, log, func(c *drain.Config) { c.Lanes = 8 })
		pass(2 * time.Second)
		r.stop()
		done := len(log.Verdicts("104"))
		r = fly(t, w, log, func(c *drain.Config) { c.Lanes = 8 })
		pass(5 * time.Second)
		log.Killed() // as a kill leaves it: no word to the log any more
		held := slices.Clone(w.held)
		r.stop()
		if done == 0 || len(held) == 0 || done+len(held) >= 60 {
			t.Fatalf("%d settled, %d under way: this test proves nothing", done, len(held))
		}
		r = fly(t, newWire(5, func() time.Duration { return 20 * time.Millisecond }, 0), log, func(c *drain.Config) { c.Lanes = 8 })
		pass(time.Minute)
		r.stop()
		v := log.Verdicts("104")
		for id, v := range v {
			if want := slices.Contains(held, id); v.Resent != want || v.Attempts != map[bool]int{false: 1, true: 2}[want] {
				t.Errorf("%s: resent %v after %d tries, it had left before the kill: %v", id, v.Resent, v.Attempts, want)
			}
		}
		if len(v) != 60 {
			t.Errorf("%d settled", len(v))
		}
	})
}

func TestABacklogAtTheStartWaitsForARandomPartOfTheSpread(t *testing.T) {
	var sum time.Duration
	for range 40 {
		synctest.Test(t, func(t *testing.T) {
			f, log, begin := &far{}, &draintest.Log{}, time.Now()
			log.Append(punches(1, 1)...)
			r := start(t, f, log, func(c *drain.Config) { c.Spread = time.Minute })
			pass(time.Minute)
			r.stop()
			if len(f.times()) != 1 {
				t.Fatalf("%d calls", len(f.times()))
			}
			sum += f.times()[0].Sub(begin)
		})
	}
	if mean := sum / 40; mean < 15*time.Second || mean > 45*time.Second {
		t.Errorf("a mean wait of %v within a minute", mean)
	}
	synctest.Test(t, func(t *testing.T) {
		f, log := &far{}, &draintest.Log{}
		r := start(t, f, log, func(c *drain.Config) { c.Spread = time.Minute })
		pass(time.Second)
		log.Append(punches(1, 1)...)
		synctest.Wait()
		if len(f.times()) != 1 {
			t.Error("without a backlog the first tap after the start waits")
		}
		r.stop()
	})
}

func TestTheTroubleThatAsksForMostPatienceIsTheOneThatCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		w := newWire(30, func() time.Duration { return 100 * time.Millisecond }, 0)
		var mu sync.Mutex
		dest := sendFunc(func(ctx context.Context, batch []punch.Punch) ([]punch.Verdict, error) {
			mu.Lock()
			n++
			i := n
			mu.Unlock()
			switch {
			case i <= 3: // so far off that several are to be under way
				return w.Send(ctx, batch)
			case i == 4:
				wait(ctx, time.Millisecond)
				return nil, errOutage
			case i == 5:
				wait(ctx, time.Second)
				return nil, &token.Denied{State: token.AuthFailed, Err: errOutage}
			default:
				wait(ctx, 2*time.Second)
				return nil, &drain.Busy{Err: errOutage}
			}
		})
		log := &draintest.Log{}
		log.Append(crowd(40, 40)...)
		r := start(t, &far{}, log, func(c *drain.Config) { c.Dest, c.Batch, c.Lanes = dest, 1, 4 })
		pass(10 * time.Second)
		if s := r.Status(); s.State != token.AuthFailed {
			t.Errorf("status %+v", s)
		}
		if mu.Lock(); n != 7 {
			t.Errorf("%d Sends", n)
		}
		mu.Unlock()
		r.stop()
	})
}

type sendFunc func(context.Context, []punch.Punch) ([]punch.Verdict, error)

func (f sendFunc) Send(ctx context.Context, b []punch.Punch) ([]punch.Verdict, error) {
	return f(ctx, b)
}
