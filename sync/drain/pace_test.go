package drain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// farSide counts the calls that arrive in every rolling second. It is a network
// as well: a call is on its way for a while, and may be held up by a stall.
type farSide struct {
	up    func() time.Duration // how long a call is on its way
	down  time.Duration        // how long the answer takes
	every time.Duration        // a stall begins each time this went by ...
	stall time.Duration        // ... and lasts this long; 0 for none

	begin time.Time
	mu    sync.Mutex
	at    []time.Time
}

func (f *farSide) RoundTrip(r *http.Request) (*http.Response, error) {
	wait := f.up()
	if f.stall > 0 {
		// Whatever would arrive during a stall arrives at its end, all at once.
		in := (time.Since(f.begin) + wait) % f.every
		if since := time.Since(f.begin) + wait; since > f.every && in < f.stall {
			wait += f.stall - in
		}
	}
	if err := sleep(r.Context(), wait); err != nil {
		return nil, err // given up: the connection is cut, the call never arrives
	}
	f.mu.Lock()
	f.at = append(f.at, time.Now())
	f.mu.Unlock()
	if err := sleep(r.Context(), f.down); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("{}"))}, nil
}

// sleep makes no timer that is due at once. Go 1.26 runs such a one in the caller's
// thread with the race context that the bubble's other timers are using just then
// (runtime, timer.unlockAndRun), and the race detector crashes now and then.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
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

// worst returns the most calls that arrived in any [T, T+1s).
func worst(at []time.Time) int {
	at = slices.Clone(at)
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

// drive makes calls from many callers until the time is over; some give up early.
func drive(t http.RoundTripper, callers int, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				call, cancel := ctx, context.CancelFunc(func() {})
				if rand.N(10) == 0 {
					call, cancel = context.WithTimeout(ctx, rand.N(500*time.Millisecond))
				}
				r, _ := http.NewRequestWithContext(call, "POST", "http://far.invalid/", nil)
				resp, err := t.RoundTrip(r)
				if err == nil {
					if rand.N(2) == 0 {
						io.Copy(io.Discard, resp.Body)
					}
					resp.Body.Close()
				}
				cancel()
				if rand.N(50) == 0 {
					sleep(ctx, 3*time.Second) // an idle spell
				}
			}
		})
	}
	wg.Wait()
}

func networks() map[string]func() *farSide {
	flat := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	jitter := func(mean time.Duration) func() time.Duration {
		return func() time.Duration { return time.Duration(rand.ExpFloat64() * float64(mean)) }
	}
	return map[string]func() *farSide{
		"near":   func() *farSide { return &farSide{up: flat(0), down: time.Millisecond} },
		"far":    func() *farSide { return &farSide{up: flat(150 * time.Millisecond), down: 150 * time.Millisecond} },
		"jitter": func() *farSide { return &farSide{up: jitter(200 * time.Millisecond), down: 5 * time.Millisecond} },
		"stall": func() *farSide {
			return &farSide{up: jitter(20 * time.Millisecond), down: 5 * time.Millisecond, every: 7 * time.Second, stall: 3 * time.Second}
		},
	}
}

func TestNoRollingSecondEverHoldsMoreCallsThanTheCeiling(t *testing.T) {
	const n = 30
	for name, network := range networks() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := network()
				f.begin = time.Now()
				drive(NewPace(n).Transport(f), 60, 60*time.Second)
				if w := worst(f.at); w > n {
					t.Errorf("%d calls in one second, the ceiling is %d", w, n)
				}
				if len(f.at) < 100 {
					t.Errorf("only %d calls in a minute", len(f.at))
				}
				t.Logf("%d calls, worst second %d", len(f.at), worst(f.at))
			})
		})
	}
}

func TestNoRollingSecondHoldsMoreAcrossRestarts(t *testing.T) {
	const n = 25
	synctest.Test(t, func(t *testing.T) {
		f := &farSide{up: func() time.Duration { return 10 * time.Millisecond }, down: time.Millisecond, begin: time.Now()}
		for range 12 {
			drive(NewPace(n).Transport(f), 40, 1100*time.Millisecond+rand.N(time.Second))
		}
		if w := worst(f.at); w > n {
			t.Errorf("%d calls in one second, the ceiling is %d", w, n)
		}
		if len(f.at) < 12*n/2 {
			t.Errorf("only %d calls", len(f.at))
		}
	})
}

// tokenBucket is what the ceiling is not: n a second on average, n at once.
type tokenBucket struct {
	next http.RoundTripper
	n    float64
	mu   sync.Mutex
	have float64
	at   time.Time
}

func (b *tokenBucket) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	now := time.Now()
	b.have = min(b.n, b.have+now.Sub(b.at).Seconds()*b.n) - 1
	b.at = now
	short := time.Duration(-b.have / b.n * float64(time.Second))
	b.mu.Unlock()
	if err := sleep(r.Context(), max(short, 0)); err != nil {
		return nil, err
	}
	return b.next.RoundTrip(r)
}

// The test above must be able to fail.
func TestATokenBucketBreaksTheCeiling(t *testing.T) {
	const n = 30
	for name, network := range networks() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := network()
				f.begin = time.Now()
				drive(&tokenBucket{next: f, n: n, have: n, at: time.Now()}, 60, 60*time.Second)
				if w := worst(f.at); w <= n {
					t.Errorf("worst second %d: this network does not tell a bucket from a ceiling", w)
				}
			})
		})
	}
}

func TestNothingLeavesInTheFirstSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farSide{up: func() time.Duration { return 0 }}
		start := time.Now()
		drive(NewPace(5).Transport(f), 20, 1500*time.Millisecond)
		if len(f.at) == 0 || f.at[0].Sub(start) < time.Second {
			t.Fatalf("first call after %v, want a second or more", f.at[0].Sub(start))
		}
	})
}

func TestAPermitComesHomeExactlyOnce(t *testing.T) {
	ends := map[string]func(*testing.T, http.RoundTripper){
		"read to the end, then closed twice": func(t *testing.T, rt http.RoundTripper) {
			resp := get(t, rt)
			io.ReadAll(resp.Body)
			resp.Body.Close()
			resp.Body.Close()
		},
		"closed unread": func(t *testing.T, rt http.RoundTripper) { get(t, rt).Body.Close() },
		"broken while read": func(t *testing.T, rt http.RoundTripper) {
			resp := get(t, rt)
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Error("no error")
			}
			resp.Body.Close()
		},
		"no body":   func(t *testing.T, rt http.RoundTripper) { get(t, rt).Body.Close() },
		"no answer": func(t *testing.T, rt http.RoundTripper) { rt.RoundTrip(httptest.NewRequest("GET", "http://x/", nil)) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPace(3)
				end(t, p.Transport(roundTrip(func(r *http.Request) (*http.Response, error) {
					switch name {
					case "no answer":
						return nil, io.EOF
					case "no body":
						return &http.Response{StatusCode: 204}, nil
					case "broken while read":
						return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(strings.NewReader("{"), failing{}))}, nil
					}
					return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("{}"))}, nil
				})))
				if len(p.home) != 3 {
					t.Errorf("%d permits at home, want 3", len(p.home))
				}
			})
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func get(t *testing.T, rt http.RoundTripper) *http.Response {
	t.Helper()
	r, _ := http.NewRequest("GET", "http://far.invalid/", nil)
	resp, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestAPermitIsOutUntilTheAnswerWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := NewPace(1).Transport(&farSide{up: func() time.Duration { return 0 }})
		first := get(t, rt)
		time.AfterFunc(10*time.Second, func() { first.Body.Close() })
		start := time.Now()
		get(t, rt).Body.Close()
		if d := time.Since(start); d < 11*time.Second {
			t.Errorf("the next call left after %v, want a second after the answer was read at 10 s", d)
		}
	})
}

// A token call that waits in the line is not overtaken for ever by others.
func TestCallersAreServedInTheOrderInWhichTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPace(2)
		var order []int
		var wg sync.WaitGroup
		for i := range 9 {
			wg.Go(func() {
				if p.take(t.Context(), nil) == nil {
					order = append(order, i)
					p.release()
				}
			})
			synctest.Wait() // the next one comes after this one stands in line
		}
		wg.Wait()
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8}; fmt.Sprint(order) != fmt.Sprint(want) {
			t.Errorf("served in order %v", order)
		}
	})
}

func TestACallerThatGivesUpCostsNoPermitAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPace(1)
		var wg sync.WaitGroup
		var gaveUp atomic.Int32
		for range 20 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if err := p.take(ctx, nil); errors.Is(err, context.DeadlineExceeded) {
					gaveUp.Add(1)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		if err := p.take(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 1100*time.Millisecond {
			t.Errorf("waited %v behind callers that gave up", d)
		}
		wg.Wait()
		if gaveUp.Load() != 20 || len(p.home) != 0 || len(p.line) != 0 {
			t.Errorf("%d gave up, %d permits at home, %d in line", gaveUp.Load(), len(p.home), len(p.line))
		}
	})
}

func TestTheCeilingHoldsOnARealSocket(t *testing.T) {
	const n = 12
	var mu sync.Mutex
	var at []time.Time
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		at = append(at, time.Now())
		mu.Unlock()
		time.Sleep(rand.N(20 * time.Millisecond))
		io.WriteString(w, "{}")
	}))
	defer srv.Close()
	c, err := NewClient(ClientOptions{Pace: NewPace(n)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r, _ := http.NewRequestWithContext(ctx, "POST", srv.URL, strings.NewReader("[]"))
				if resp, err := Do(c, r); err == nil {
					ReadBody(resp, 100)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock() // a call that was given up may still be with the server
	defer mu.Unlock()
	if w := worst(at); w > n || len(at) < 2*n {
		t.Errorf("%d calls, worst second %d, the ceiling is %d", len(at), w, n)
	}
}
