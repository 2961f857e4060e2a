package transfercard

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/sandbox"
)

// fleet is many clocks with one client id, each with a ceiling of its own, and 104's
// ceiling above them all.
type fleet struct {
	far   *sandbox.TransferCard
	logs  []*draintest.Log
	stop  func()
	tally func() (settled int)

	mu sync.Mutex
	at []time.Time // of every call
}

// RoundTrip is the network all clocks share.
func (f *fleet) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.at = append(f.at, time.Now())
	f.mu.Unlock()
	return sandbox.Transport(f.far).RoundTrip(r)
}

func newFleet(t *testing.T, clocks, each, rate, batch int, spread time.Duration) *fleet {
	var numbers []string
	for c := range clocks {
		for p := range 20 {
			numbers = append(numbers, fmt.Sprintf("%03d%03d", c, p))
		}
	}
	f := &fleet{far: sandbox.NewTransferCard(sandbox.TransferCardConfig{People: sandbox.People(numbers...)})}
	f.far.SetFaults(func(x *sandbox.TransferCardFaults) { x.RateLimit = 30 })
	id, secret := f.far.Credentials()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for c := range clocks {
		log := &draintest.Log{}
		ps := draintest.Punches(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), each)
		for i := range ps {
			ps[i].Employee = numbers[c*20+i%20]
		}
		log.Append(ps...)
		f.logs = append(f.logs, log)
		client, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(rate), Transport: f})
		if err != nil {
			t.Fatal(err)
		}
		dest, err := New(Config{APIBase: "https://far.invalid/prohrm/1.0", TokenURL: "https://far.invalid/oauth2/token", ClientID: id,
			Secret: func() (string, error) { return secret, nil }, HTTP: client, Log: slog.New(slog.DiscardHandler), Batch: batch})
		if err != nil {
			t.Fatal(err)
		}
		w := drain.NewWorker(drain.Config{Name: "104", Log: log, Dest: dest, Batch: batch, Lanes: drain.Lanes(rate), Spread: spread, Logger: slog.New(slog.DiscardHandler)})
		wg.Go(func() { w.Run(ctx) })
	}
	f.stop = func() { cancel(); wg.Wait() }
	f.tally = func() (n int) {
		for _, l := range f.logs {
			n += len(l.Verdicts("104"))
		}
		return n
	}
	return f
}

// load returns the mean of all seconds since begin that lie between the first call
// and the last, and the fullest of them, refused calls included.
func (f *fleet) load(begin time.Time) (calls int, mean float64, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	per := map[int]int{}
	first, last := math.MaxInt, 0
	for _, at := range f.at {
		if at.Before(begin) {
			continue
		}
		s := int(at.Sub(begin) / time.Second)
		first, last = min(first, s), max(last, s)
		calls++
		per[s]++
		most = max(most, per[s])
	}
	return calls, float64(calls) / float64(last-first+1), most
}

// Fifty clocks of one company get their power back at the same moment, or their
// network, each with a day's backlog and a call a second as its part of the ceiling.
func TestFiftyClocksThatComeBackTogetherSpreadTheirCalls(t *testing.T) {
	const clocks, each, batch = 50, 700, 10
	for _, c := range []struct {
		name   string
		outage time.Duration // of the network; 0: of the power
		spread time.Duration
	}{
		{"PowerIsBack", 0, 3 * time.Minute},
		{"NetworkIsBack", 2 * time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				back := time.Now().Add(c.outage)
				f := newFleet(t, clocks, each, 1, batch, c.spread)
				if c.outage > 0 {
					f.far.SetFaults(func(x *sandbox.TransferCardFaults) { x.Down = true })
					time.Sleep(c.outage)
					f.far.SetFaults(func(x *sandbox.TransferCardFaults) { x.Down = false })
				}
				for f.tally() < clocks*each && time.Since(back) < 12*time.Hour {
					time.Sleep(10 * time.Second)
				}
				f.stop()
				calls, mean, most := f.load(back)
				t.Logf("%d calls, %.1f a second, %d in the fullest", calls, mean, most)
				if n := f.tally(); n != clocks*each || len(f.far.Ledger()) != n || len(f.far.Repeats()) > 0 {
					t.Errorf("%d settled, 104 holds %d, %d sent twice; want %d", n, len(f.far.Ledger()), len(f.far.Repeats()), clocks*each)
				}
				if float64(most) > 3*mean {
					t.Errorf("the fullest second holds %d calls, more than three times the mean of %.1f", most, mean)
				}
			})
		})
	}
}

func TestManyUnderWayAndADeadTokenCostOneTokenCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, 400, 30, 1, 0)
		f.far.SetFaults(func(x *sandbox.TransferCardFaults) { x.RateLimit, x.DelayMS = 30, 2000 })
		for range 5 {
			time.Sleep(4 * time.Second)
			if n := f.far.Counters().TokenCalls; n != 1 {
				t.Fatalf("%d token calls before any token has died", n)
			}
		}
		f.far.Revoke()
		time.Sleep(10 * time.Minute)
		f.stop()
		c := f.far.Counters()
		refused := 0
		for _, call := range f.far.Calls() {
			if call.Status == 401 {
				refused++
			}
		}
		if c.TokenCalls != 2 || refused < 8 {
			t.Errorf("%d token calls; %d calls were refused, which is to be many", c.TokenCalls, refused)
		}
		if n := f.tally(); n != 400 || len(f.far.Ledger()) != 400 || c.WorstSecond > 30 {
			t.Errorf("%d settled, 104 holds %d, %d in the fullest second", n, len(f.far.Ledger()), c.WorstSecond)
		}
	})
}

func TestARefusedFreshTokenStopsEveryCallUntilTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, 400, 30, 1, 0)
		f.far.SetFaults(func(x *sandbox.TransferCardFaults) { x.RateLimit, x.DelayMS = 0, 500 })
		time.Sleep(5 * time.Second)
		before := f.far.Counters()
		f.far.SetFaults(func(x *sandbox.TransferCardFaults) { x.FailNext, x.FailStatus, x.FailOn = -1, 401, sandbox.OnBusiness })
		time.Sleep(10 * time.Second)
		soon := f.far.Counters()
		time.Sleep(4 * time.Minute)
		later := f.far.Counters()
		// What was under way comes back refused, each at most once more with the fresh
		// token; then nothing leaves.
		if n := soon.Calls - before.Calls; n > 3*30 || soon.TokenCalls-before.TokenCalls != 1 {
			t.Errorf("%d calls and %d token calls", n, soon.TokenCalls-before.TokenCalls)
		}
		if later.Calls != soon.Calls {
			t.Errorf("%d calls in the four minutes after it", later.Calls-soon.Calls)
		}
		f.far.SetFaults(func(x *sandbox.TransferCardFaults) { x.FailNext = 0 })
		time.Sleep(10 * time.Minute)
		f.stop()
		if n := f.tally(); n != 400 || len(f.far.Ledger()) != 400 {
			t.Errorf("%d settled, 104 holds %d", n, len(f.far.Ledger()))
		}
	})
}
