package drain_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/token"
)

// far is a destination that does as told and remembers.
type far struct {
	mu     sync.Mutex
	answer func(call int, batch []punch.Punch) ([]punch.Verdict, error) // nil: accepts all
	hang   bool                                                         // until called off
	calls  []time.Time
	got    []punch.ID // accepted, in order
	resets int
}

func (f *far) Send(ctx context.Context, batch []punch.Punch) ([]punch.Verdict, error) {
	f.mu.Lock()
	f.calls = append(f.calls, time.Now())
	n, hang, answer := len(f.calls), f.hang, f.answer
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	vs, err := accept(batch), error(nil)
	if answer != nil {
		vs, err = answer(n, batch)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range vs {
		if v.Fate == punch.Accept {
			f.got = append(f.got, v.ID)
		}
	}
	return vs, err
}

func (f *far) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resets++
}

func (f *far) forgot() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.resets
}

func (f *far) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

// took returns what was accepted, in order.
func (f *far) took() []punch.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// times returns when each call came.
func (f *far) times() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func accept(batch []punch.Punch) (vs []punch.Verdict) {
	for _, p := range batch {
		vs = append(vs, punch.Verdict{ID: p.ID, Fate: punch.Accept})
	}
	return vs
}

// room is a worker at work.
type room struct {
	*drain.Worker
	log   *draintest.Log
	far   *far
	lines *lines
	stop  func()
}

// lines is what was logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func start(t *testing.T, f *far, log *draintest.Log, change func(*drain.Config)) *room {
	r := &room{log: log, far: f, lines: new(lines)}
	c := drain.Config{Name: "104", Log: r.log, Dest: f, Batch: 10, Logger: slog.New(slog.NewTextHandler(r.lines, nil))}
	if change != nil {
		change(&c)
	}
	r.Worker = drain.NewWorker(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func punches(from, n int) []punch.Punch {
	return draintest.Punches(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), from+n-1)[from-1:]
}

func ids(ps []punch.Punch) (is []punch.ID) {
	for _, p := range ps {
		is = append(is, p.ID)
	}
	return is
}

// pass lets time go by, and what it brings happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var errOutage = errors.New("the far side is down")

func TestPunchesAreDeliveredInOrderAndAnEmptyQueueIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &far{}, &draintest.Log{}, nil)
		r.log.Append(punches(1, 37)...)
		synctest.Wait()
		if got := r.far.took(); !slices.Equal(got, ids(punches(1, 37))) {
			t.Errorf("delivered %v", got)
		}
		if n := r.far.count(); n != 4 {
			t.Errorf("%d calls for 37 punches in batches of 10", n)
		}
		pass(24 * time.Hour) // nobody polls, or this takes for ever
		if n := r.far.count(); n != 4 {
			t.Errorf("%d calls after a quiet day", n)
		}
		r.log.Append(punches(38, 1)...)
		synctest.Wait()
		v := r.log.Verdicts("104")
		if len(v) != 38 || v["test-000000000038"].Attempts != 1 || v["test-000000000038"].Resent {
			t.Errorf("%d settled, the last one %+v", len(v), v["test-000000000038"])
		}
		if s := r.Status(); s.State != drain.OK || s.LastError != "" || s.LastSuccess.IsZero() || !s.NextTry.IsZero() {
			t.Errorf("status %+v", s)
		}
	})
}

func TestADayOfOutageLosesNothingAndIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{}
		begin := time.Now()
		f.answer = func(_ int, batch []punch.Punch) ([]punch.Verdict, error) {
			if time.Since(begin) < 24*time.Hour {
				return nil, errOutage
			}
			return accept(batch), nil
		}
		r := start(t, f, &draintest.Log{}, nil)
		for i := range 1000 {
			r.log.Append(punches(i+1, 1)...)
			pass(time.Minute)
		}
		s := r.Status()
		if s.State != drain.Retrying || s.LastError != errOutage.Error() || !s.LastSuccess.IsZero() || s.NextTry.IsZero() {
			t.Errorf("status during the outage: %+v", s)
		}
		// A mean wait of 2.5 minutes: about 576 a day.
		if n := f.count(); n < 200 || n > 1000 {
			t.Errorf("%d tries in %v", n, time.Since(begin))
		}
		pass(24*time.Hour - time.Since(begin) + 6*time.Minute)
		if got := r.far.took(); !slices.Equal(got, ids(punches(1, 1000))) {
			t.Errorf("%d delivered of 1000, or not in order", len(got))
		}
		first := r.log.Verdicts("104")["test-000000000001"]
		if first.Attempts < 200 || !first.Resent {
			t.Errorf("the first punch: %+v", first)
		}
		if n := r.lines.count("destination fails"); n != 1 {
			t.Errorf("the outage was logged %d times", n)
		}
		if n := r.lines.count("destination works again"); n != 1 || r.lines.count("down=24h") != 1 {
			t.Errorf("recovery was logged %d times:\n%s", n, r.lines.b.String())
		}
		if s := r.Status(); s.State != drain.OK || s.LastError != "" {
			t.Errorf("status after it: %+v", s)
		}
	})
}

func TestASuccessBeginsTheWaitsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		away.Store(true)
		f := &far{answer: func(_ int, batch []punch.Punch) ([]punch.Verdict, error) {
			if away.Load() {
				return nil, errOutage
			}
			return accept(batch), nil
		}}
		r := start(t, f, &draintest.Log{}, nil)
		for i := range 20 {
			away.Store(true)
			r.log.Append(punches(i+1, 1)...)
			pass(2 * time.Hour) // far into the long waits
			away.Store(false)
			r.Kick()
			synctest.Wait()
			away.Store(true)
			r.log.Append(punches(100+i, 1)...)
			synctest.Wait()
			n := f.count()
			pass(time.Second)
			if f.count() == n {
				t.Fatalf("no second try within a second of a fresh outage")
			}
			away.Store(false)
			r.Kick()
			synctest.Wait()
		}
	})
}

func TestEveryDifferentMessageOfAnOutageIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(n int, _ []punch.Punch) ([]punch.Verdict, error) {
			return nil, fmt.Errorf("trouble number %d", n%3)
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 1)...)
		pass(3 * time.Hour)
		if n := r.lines.count("destination fails"); n != 3 || f.count() < 10 {
			t.Errorf("logged %d times in %d tries, want 3", n, f.count())
		}
	})
}

func TestAPoisonedRecordDoesNotBlockTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(_ int, batch []punch.Punch) ([]punch.Verdict, error) {
			vs := accept(batch)
			for i := range vs {
				if vs[i].ID == "test-000000000003" {
					vs[i] = punch.Verdict{ID: vs[i].ID, Fate: punch.Refuse, Reason: "emp_no_unknown", Message: "員工編號不存在"}
				}
			}
			return vs, nil
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 25)...)
		synctest.Wait()
		v := r.log.Verdicts("104")
		if len(v) != 25 || len(f.took()) != 24 {
			t.Errorf("%d settled, %d accepted", len(v), len(f.took()))
		}
		want := punch.Verdict{ID: "test-000000000003", Fate: punch.Refuse, Reason: "emp_no_unknown", Message: "員工編號不存在", Attempts: 1}
		if v[want.ID] != want {
			t.Errorf("parked as %+v", v[want.ID])
		}
		if r.lines.count("punch=test-000000000003 reason=emp_no_unknown") != 1 {
			t.Errorf("log:\n%s", r.lines.b.String())
		}
		if s := r.Status(); s.State != drain.OK {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAPunchWithoutAVerdictIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(n int, batch []punch.Punch) ([]punch.Verdict, error) {
			if n <= 2 {
				return accept(batch[1:]), nil
			}
			return accept(batch), nil
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 3)...)
		pass(time.Minute)
		v := r.log.Verdicts("104")
		if len(v) != 3 || v["test-000000000001"].Attempts != 3 || v["test-000000000001"].Resent || v["test-000000000002"].Attempts != 1 {
			t.Errorf("%+v", v)
		}
	})
}

func TestNothingButKeepIsAnOutageAndNeverAHotLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(_ int, batch []punch.Punch) ([]punch.Verdict, error) {
			return []punch.Verdict{{ID: batch[0].ID}}, nil
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 3)...)
		pass(time.Hour)
		if n := f.count(); n < 5 || n > 120 {
			t.Errorf("%d calls in an hour", n)
		}
		if s := r.Status(); s.State != drain.Retrying || s.LastError == "" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestVerdictsThatCameWithAnErrorCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(n int, batch []punch.Punch) ([]punch.Verdict, error) {
			if n == 1 {
				return accept(batch[:2]), errOutage
			}
			return accept(batch), nil
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 4)...)
		synctest.Wait()
		if v := r.log.Verdicts("104"); len(v) != 2 || r.Status().State != drain.Retrying {
			t.Errorf("%d settled with the error, status %+v", len(v), r.Status())
		}
		pass(2 * time.Second)
		v := r.log.Verdicts("104")
		if !slices.Equal(f.took(), ids(punches(1, 4))) || v["test-000000000002"].Resent || !v["test-000000000003"].Resent {
			t.Errorf("delivered %v, verdicts %+v", f.took(), v)
		}
	})
}

func TestForeignAndContradictoryVerdictsSettleNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(n int, batch []punch.Punch) ([]punch.Verdict, error) {
			vs := accept(batch)
			if n == 1 {
				vs = append(vs, punch.Verdict{ID: "other-000000000009", Fate: punch.Accept},
					punch.Verdict{ID: batch[0].ID, Fate: punch.Refuse, Reason: "both"})
			}
			return vs, nil
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 2)...)
		synctest.Wait()
		v := r.log.Verdicts("104")
		if len(v) != 2 || v["test-000000000001"].Fate != punch.Accept || v["test-000000000001"].Attempts != 2 || f.count() != 2 {
			t.Errorf("%d calls, %+v", f.count(), v)
		}
	})
}

func TestKindsThatAreNotSentAndDuplicatesAreSkippedUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(_ int, batch []punch.Punch) ([]punch.Verdict, error) {
			for _, p := range batch {
				if p.Kind == punch.GoOut || p.Kind == punch.Return || p.Outcome == punch.Duplicate {
					t.Errorf("sent %s, %s", p.Kind, p.Outcome)
				}
			}
			return accept(batch), nil
		}}
		r := start(t, f, &draintest.Log{}, func(c *drain.Config) { c.Kinds = []punch.Kind{punch.In, punch.Out} })
		ps := punches(1, 24)
		ps[0].Outcome = punch.Duplicate
		ps[0].Employee = "" // a duplicate is never parked
		r.log.Append(ps...)
		synctest.Wait()
		v := r.log.Verdicts("104")
		fates := make(map[punch.Fate]int)
		for _, x := range v {
			fates[x.Fate]++
		}
		if fates[punch.Accept] != 11 || fates[punch.Skip] != 13 {
			t.Errorf("fates %v", fates)
		}
		// Nothing at all to send: no call.
		n := f.count()
		only := punches(25, 4)[2:]
		r.log.Append(only...)
		synctest.Wait()
		if f.count() != n || len(r.log.Verdicts("104")) != 26 {
			t.Errorf("%d calls more for kinds that are not sent", f.count()-n)
		}
	})
}

func TestAnUnknownBadgeIsParkedUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &far{}, &draintest.Log{}, nil)
		ps := punches(1, 3)
		ps[1].Employee, ps[1].Outcome = "", punch.UnknownBadge
		ps[1].Badge = "em:0A1B2C3D4E"
		r.log.Append(ps...)
		synctest.Wait()
		want := punch.Verdict{ID: ps[1].ID, Fate: punch.Refuse, Reason: punch.ReasonUnknownBadge}
		if v := r.log.Verdicts("104"); v[ps[1].ID] != want || len(v) != 3 || len(r.far.took()) != 2 {
			t.Errorf("%+v", v)
		}
		if r.lines.count("0A1B2C3D4E") != 0 {
			t.Error("the log holds a full badge number")
		}
	})
}

func TestAPunchWhoseTimeWasNeverLearnedIsParkedUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &far{}, &draintest.Log{}, nil)
		ps := punches(1, 3)
		ps[1].Uncertain = true
		r.log.Append(ps...)
		synctest.Wait()
		if v := r.log.Verdicts("104"); v[ps[1].ID].Reason != punch.ReasonTimeUncertain || v[ps[1].ID].Fate != punch.Refuse || len(r.far.took()) != 2 {
			t.Errorf("%+v", v)
		}
	})
}

func TestSkippedAndParkedPunchesAreSettledDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(int, []punch.Punch) ([]punch.Verdict, error) { return nil, errOutage }}
		r := start(t, f, &draintest.Log{}, nil)
		ps := punches(1, 2)
		ps[0].Employee = ""
		r.log.Append(ps...)
		synctest.Wait()
		if v := r.log.Verdicts("104"); len(v) != 1 {
			t.Errorf("%+v", v)
		}
	})
}

func TestDeniedProbesSlowlyAndAKickEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var secret sync.Mutex
		right := false
		f := &far{answer: func(_ int, batch []punch.Punch) ([]punch.Verdict, error) {
			secret.Lock()
			defer secret.Unlock()
			if !right {
				return nil, fmt.Errorf("104: %w", &token.Denied{State: token.AuthFailed, Hint: "check the secret", Err: errors.New("status 401")})
			}
			return accept(batch), nil
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 5)...)
		for i := range 300 { // five hours, in which people go on badging
			pass(time.Minute)
			r.log.Append(punches(6+i, 1)...)
		}
		for i := 1; i < len(f.times()); i++ {
			want := min(time.Duration(i)*5*time.Minute, 15*time.Minute)
			if d := f.times()[i].Sub(f.times()[i-1]); d < want || d > want*11/10 {
				t.Errorf("probe %d came after %v, want %v and a little", i, d, want)
			}
		}
		if s := r.Status(); s.State != token.AuthFailed || !strings.Contains(s.LastError, "check the secret") {
			t.Errorf("status %+v", s)
		}
		if n := r.lines.count("destination fails"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		if len(r.log.Verdicts("104")) != 0 {
			t.Error("a punch was given up")
		}
		before, resets := f.count(), f.forgot()
		r.Kick() // still wrong
		synctest.Wait()
		if f.count() != before+1 || f.forgot() == resets {
			t.Errorf("%d probes after a kick, %d resets", f.count()-before, f.forgot()-resets)
		}
		pass(5*time.Minute + 31*time.Second) // a kick begins anew at five minutes
		if f.count() != before+2 {
			t.Errorf("%d probes after a kick and five minutes", f.count()-before)
		}
		secret.Lock()
		right = true
		secret.Unlock()
		r.Kick()
		synctest.Wait()
		if v := r.log.Verdicts("104"); len(v) != 305 || v["test-000000000001"].Resent {
			t.Errorf("%d delivered of 305; the first one %+v", len(v), v["test-000000000001"])
		}
		if s := r.Status(); s.State != drain.OK {
			t.Errorf("status %+v", s)
		}
	})
}

func TestADeniedThatIsKnownToLastIsProbedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(int, []punch.Punch) ([]punch.Verdict, error) {
			return nil, &token.Denied{State: token.Misconfigured, Hint: "the monthly quota is used up", Err: errOutage, Probe: time.Hour}
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 1)...)
		pass(5 * time.Hour)
		if n := f.count(); n != 5 {
			t.Errorf("%d probes in five hours", n)
		}
	})
}

func TestMisconfiguredIsAStateOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(int, []punch.Punch) ([]punch.Verdict, error) {
			return nil, &token.Denied{State: token.Misconfigured, Hint: "check api_base", Err: errors.New("status 404")}
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 1)...)
		synctest.Wait()
		if s := r.Status(); s.State != token.Misconfigured {
			t.Errorf("status %+v", s)
		}
	})
}

func TestBusyWaitsAsToldAndLongerTheSecondTimeWhateverComesOrKicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(n int, batch []punch.Punch) ([]punch.Verdict, error) {
			if n <= 3 {
				return nil, fmt.Errorf("104: %w", &drain.Busy{After: 20 * time.Second, Err: errors.New("status 429")})
			}
			return accept(batch), nil
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 5)...)
		for i := range 90 {
			pass(time.Second)
			r.log.Append(punches(6+i, 1)...)
			r.Kick()
		}
		synctest.Wait()
		if f.count() < 4 {
			t.Fatalf("%d calls", f.count())
		}
		last := time.Duration(0)
		for i := 1; i <= 3; i++ {
			d := f.times()[i].Sub(f.times()[i-1])
			if d < 20*time.Second || d <= last {
				t.Errorf("wait %d was %v after %v, told 20 s", i, d, last)
			}
			last = d
		}
		if v := r.log.Verdicts("104"); len(v) != 95 || v["test-000000000001"].Resent {
			t.Errorf("%d settled, the first %+v", len(v), v["test-000000000001"])
		}
	})
}

func TestNothingIsSentWhileReceiptsCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var tries atomic.Int32
		log := &draintest.Log{Failing: func(what string) error {
			if what == "settle" && time.Since(begin) < time.Hour {
				tries.Add(1)
				return errors.New("no space left on device")
			}
			return nil
		}}
		r := start(t, &far{}, log, nil)
		log.Append(punches(1, 25)...)
		pass(30 * time.Minute)
		if n := r.far.count(); n != 1 {
			t.Errorf("%d calls while nothing could be remembered, want 1", n)
		}
		if s := r.Status(); s.State != drain.Retrying || !strings.Contains(s.LastError, "no space left") {
			t.Errorf("status %+v", s)
		}
		if n := r.lines.count("destination fails"); n != 1 || tries.Load() < 5 || tries.Load() > 200 {
			t.Errorf("logged %d times, %d tries", n, tries.Load())
		}
		pass(time.Hour)
		if got := r.far.took(); !slices.Equal(got, ids(punches(1, 25))) || r.far.count() != 3 {
			t.Errorf("%d calls, delivered %v", r.far.count(), got)
		}
		if s := r.Status(); s.State != drain.OK {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAnOutboxThatCannotBeReadIsReportedAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		log := &draintest.Log{Failing: func(what string) error {
			if what == "next" && time.Since(begin) < time.Minute {
				return errors.New("input/output error")
			}
			return nil
		}}
		r := start(t, &far{}, log, nil)
		pass(30 * time.Second)
		if s := r.Status(); s.State != drain.Retrying || !strings.Contains(s.LastError, "reading the outbox") {
			t.Errorf("status %+v", s)
		}
		pass(10 * time.Minute) // nothing was queued: it heals by reading alone
		if s := r.Status(); s.State != drain.OK || r.lines.count("works again") != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAStopDuringASendKeepsThePunchesForTheNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{hang: true}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 3)...)
		synctest.Wait()
		begin := time.Now()
		r.stop()
		if d := time.Since(begin); d != 0 {
			t.Errorf("stopped after %v", d)
		}
		if len(r.log.Verdicts("104")) != 0 || r.lines.count("fails") != 0 {
			t.Errorf("a stop is no trouble:\n%s", r.lines.b.String())
		}
		next := start(t, &far{}, r.log, nil)
		synctest.Wait()
		if got := next.far.took(); !slices.Equal(got, ids(punches(1, 3))) {
			t.Errorf("delivered after the restart: %v", got)
		}
	})
}

func TestAStopEndsEveryWait(t *testing.T) {
	for name, err := range map[string]error{
		"outage": errOutage,
		"denied": &token.Denied{State: token.AuthFailed, Err: errOutage},
		"busy":   &drain.Busy{After: time.Minute, Err: errOutage},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &far{answer: func(int, []punch.Punch) ([]punch.Verdict, error) { return nil, err }}
				r := start(t, f, &draintest.Log{}, nil)
				r.log.Append(punches(1, 1)...)
				synctest.Wait()
				begin := time.Now()
				r.stop()
				if d := time.Since(begin); d != 0 {
					t.Errorf("stopped after %v", d)
				}
			})
		})
	}
}

// What was answered before the stop is worth writing down.
func TestVerdictsOfASendThatTheStopInterruptedAreSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{}
		var r *room
		stopping := make(chan struct{})
		f.answer = func(_ int, batch []punch.Punch) ([]punch.Verdict, error) {
			close(stopping)
			time.Sleep(time.Second)
			return accept(batch[:1]), context.Canceled
		}
		r = start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 3)...)
		<-stopping
		r.stop()
		if v := r.log.Verdicts("104"); len(v) != 1 {
			t.Errorf("settled %+v", v)
		}
	})
}

// Nobody knows what became of a call that was lost; of one that never left all do.
func TestResentIsSaidOnlyWhereTheFarSideMayHoldIt(t *testing.T) {
	for name, tt := range map[string]struct {
		err    error
		resent bool
	}{
		"nothing listens": {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, false},
		"no name":         {&net.DNSError{Name: "far.invalid", IsNotFound: true}, false},
		"reset":           {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(5), Transport: broken{tt.err}})
				if err != nil {
					t.Fatal(err)
				}
				f := &far{answer: func(n int, batch []punch.Punch) ([]punch.Verdict, error) {
					if n > 1 {
						return accept(batch), nil
					}
					r, _ := http.NewRequest("POST", "http://far.invalid/", nil)
					_, err := drain.Do(client, r)
					return nil, fmt.Errorf("104: %w", err)
				}}
				r := start(t, f, &draintest.Log{}, nil)
				r.log.Append(punches(1, 1)...)
				pass(10 * time.Second)
				if v := r.log.Verdicts("104")["test-000000000001"]; v.Attempts != 2 || v.Resent != tt.resent {
					t.Errorf("%+v", v)
				}
			})
		})
	}
}

// A Send of several calls knows more than its error: the first was answered, and of the
// second the far side took nothing.
func TestAPunchThatADestinationMayHoldIsMarkedWhateverEndedTheSend(t *testing.T) {
	for name, err := range map[string]error{"busy": &drain.Busy{Err: errOutage}, "denied": &token.Denied{Err: errOutage}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &far{answer: func(n int, batch []punch.Punch) ([]punch.Verdict, error) {
					if n > 1 {
						return accept(batch), nil
					}
					return []punch.Verdict{{ID: batch[0].ID, Resent: true}}, err
				}}
				r := start(t, f, &draintest.Log{}, nil)
				r.log.Append(punches(1, 2)...)
				pass(time.Second / 2)
				if n := r.Tries("test-000000000001"); n != 1 {
					t.Errorf("tried %d times so far", n)
				}
				pass(10 * time.Minute)
				v := r.log.Verdicts("104")
				if !v["test-000000000001"].Resent || v["test-000000000002"].Resent || r.Tries("test-000000000001") != 0 {
					t.Errorf("%+v", v)
				}
			})
		})
	}
}

type broken struct{ err error }

func (b broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, b.err }

func TestLastErrorIsOneShortLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(int, []punch.Punch) ([]punch.Verdict, error) {
			return nil, errors.New("first line\nsecond\x1b[31m line \xff " + strings.Repeat("員", 300))
		}}
		r := start(t, f, &draintest.Log{}, nil)
		r.log.Append(punches(1, 1)...)
		synctest.Wait()
		s := r.Status().LastError
		if len(s) > 300 || strings.ContainsAny(s, "\n\x1b\uFFFD") || !strings.HasPrefix(s, "first line second") || !strings.HasSuffix(s, "員…") {
			t.Errorf("%d bytes: %q", len(s), s)
		}
	})
}

// A far side that fails at random, an outbox that fails at random, restarts: each
// punch is settled, and the ones of each person were first taken in their order.
func TestNothingIsLostOrReorderedByAnyMixOfTrouble(t *testing.T) {
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			log := &draintest.Log{Failing: func(string) error {
				if rand.N(20) == 0 {
					return errors.New("input/output error")
				}
				return nil
			}}
			var held []punch.ID // what the far side took, first time only
			f := &far{answer: func(_ int, batch []punch.Punch) ([]punch.Verdict, error) {
				some := batch[:rand.N(len(batch)+1)]
				switch rand.N(6) {
				case 0:
					some = nil
				case 1, 2:
					some = batch
				}
				for _, p := range some {
					if !slices.Contains(held, p.ID) {
						held = append(held, p.ID)
					}
				}
				switch rand.N(7) {
				case 0:
					return nil, errOutage // the answer was lost
				case 1:
					return accept(some), &drain.Busy{After: time.Second, Err: errOutage}
				case 2:
					return accept(some), &token.Denied{State: token.AuthFailed, Err: errOutage}
				case 3:
					return accept(some), errOutage
				}
				return accept(some), nil
			}}
			for i := range 10 {
				r := start(t, f, log, nil)
				log.Append(punches(i*20+1, 20)...)
				pass(rand.N(20 * time.Minute))
				r.stop()
			}
			r := start(t, f, log, nil)
			pass(200 * time.Hour)
			r.stop()
			if n := len(log.Verdicts("104")); n != 200 || !slices.Equal(held, ids(punches(1, 200))) {
				t.Errorf("%d settled of 200; the far side holds %d: %v", n, len(held), held)
			}
		})
	}
}

// insister keeps a refusal through every reset until a person has spoken.
type insister struct {
	*far
	spoken atomic.Int32
}

func (i *insister) Insist() { i.spoken.Add(1) }

func TestOnlyAPersonsWordIsInsisted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{answer: func(int, []punch.Punch) ([]punch.Verdict, error) {
			return nil, &token.Denied{State: token.AuthFailed, Hint: "look", Err: errors.New("bad password")}
		}}
		d := &insister{far: f}
		log := &draintest.Log{}
		log.Append(punches(1, 1)...)
		w := drain.NewWorker(drain.Config{Name: "104", Log: log, Dest: d, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		pass(time.Hour)
		before := f.count()
		if before < 4 || d.spoken.Load() != 0 || f.forgot() == 0 {
			t.Errorf("%d probes, %d words of a person, %d resets", before, d.spoken.Load(), f.forgot())
		}
		w.Wake() // a file was touched
		synctest.Wait()
		if f.count() != before+1 || d.spoken.Load() != 0 {
			t.Errorf("a wake made %d probes and %d words of a person", f.count()-before, d.spoken.Load())
		}
		w.Kick()
		synctest.Wait()
		if f.count() != before+2 || d.spoken.Load() != 1 {
			t.Errorf("a kick made %d probes and %d words of a person", f.count()-before-1, d.spoken.Load())
		}
		cancel()
		<-done
	})
}
