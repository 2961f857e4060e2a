package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// office hands out tokens.
type office struct {
	mu    sync.Mutex
	slow  time.Duration
	life  time.Duration
	err   error
	same  string // hand out this one always
	calls []time.Time
	ended int // requests that ended, answered or called off
}

func (o *office) fetch(ctx context.Context) (Token, error) {
	o.mu.Lock()
	o.calls = append(o.calls, time.Now())
	n, slow := len(o.calls), o.slow
	o.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended++
	if ctx.Err() != nil {
		return Token{}, ctx.Err()
	}
	if o.err != nil {
		return Token{}, o.err
	}
	if o.same != "" {
		return Token{Value: o.same, Life: o.life}, nil
	}
	return Token{Value: fmt.Sprintf("token-%d", n), Life: o.life}, nil
}

func (o *office) asked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.calls)
}

func (o *office) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// test runs f with an office whose tokens live two hours and are renewed ten
// minutes early.
func test(t *testing.T, f func(t *testing.T, o *office, c *Cache)) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: 2 * time.Hour}
		f(t, o, NewCache(o.fetch, Options{Early: 10 * time.Minute}))
	})
}

func get(t *testing.T, c *Cache, want string) {
	t.Helper()
	if got, err := c.Get(t.Context()); got != want || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func denied(t *testing.T, c *Cache) *Denied {
	t.Helper()
	got, err := c.Get(t.Context())
	var d *Denied
	if !errors.As(err, &d) || got != "" || d.Hint == "" || d.State != AuthFailed {
		t.Errorf("got %q, %v; want a Denied with a hint", got, err)
	}
	return d
}

func asked(t *testing.T, o *office, want int) {
	t.Helper()
	if n := o.asked(); n != want {
		t.Errorf("%d requests, want %d", n, want)
	}
}

func TestOneTokenServesUntilTenMinutesBeforeItsEnd(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		get(t, c, "token-1")
		time.Sleep(110*time.Minute - time.Millisecond)
		get(t, c, "token-1")
		asked(t, o, 1)
		time.Sleep(time.Millisecond)
		get(t, c, "token-2")
		asked(t, o, 2)
	})
}

func TestLifeCountsFromTheRequestNotFromTheAnswer(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		o.slow = 30 * time.Second
		get(t, c, "token-1")
		time.Sleep(110*time.Minute - 30*time.Second)
		get(t, c, "token-2")
	})
}

func TestAShortLivedTokenIsUsedForHalfItsLife(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		o.life = time.Minute
		for range 60 {
			if _, err := c.Get(t.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Second)
		}
		asked(t, o, 20)
	})
}

func TestEightCallersWithAnExpiredTokenMakeOneRequest(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		get(t, c, "token-1")
		time.Sleep(3 * time.Hour)
		o.slow = time.Second
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { get(t, c, "token-2") })
		}
		wg.Wait()
		asked(t, o, 2)
	})
}

func TestEightCallersThatWereRefusedTogetherMakeOneRequest(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		get(t, c, "token-1")
		o.slow = time.Second
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 300 * time.Millisecond) // some hear of it after the new one is there
				c.Forget("token-1")
				get(t, c, "token-2")
			})
		}
		wg.Wait()
		asked(t, o, 2)
	})
}

func TestACallerThatGivesUpDoesNotTakeTheAnswerFromTheOthers(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		o.slow = 10 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { // the one that began the request
			begin := time.Now()
			if _, err := c.Get(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
				t.Errorf("gave up after %v with %v", time.Since(begin), err)
			}
		})
		synctest.Wait()
		wg.Go(func() { get(t, c, "token-1") })
		wg.Wait()
		asked(t, o, 1)
	})
}

func TestARequestThatNobodyWaitsForIsCalledOffAndWaitedFor(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		o.slow = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		o.set(func() { o.slow = 0 })
		if o.ended != 1 {
			t.Error("the request is still running")
		}
		get(t, c, "token-2") // and nobody joins the dead one
		if _, err := c.Get(ctx); err == nil {
			t.Error("a context that is done got a token")
		}
	})
}

func TestNobodyJoinsARequestThatIsBeingCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		c := NewCache(func(ctx context.Context) (Token, error) {
			if n.Add(1) == 1 {
				<-ctx.Done()
				time.Sleep(5 * time.Second) // slow to let go
				return Token{}, ctx.Err()
			}
			return Token{Value: "token-2", Life: time.Hour}, nil
		}, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { c.Get(ctx) })
		time.Sleep(2 * time.Second)
		get(t, c, "token-2")
		wg.Wait()
		get(t, c, "token-2")
	})
}

func TestADeniedThatIsKnownToLastIsRememberedAsLong(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		o.err = &Denied{State: AuthFailed, Hint: "next month", Err: errors.New("quota"), Probe: time.Hour}
		for range 59 {
			denied(t, c)
			time.Sleep(time.Minute)
		}
		asked(t, o, 1)
	})
}

func TestAnEmptyTokenOrOneWithoutALifeIsNeverReturned(t *testing.T) {
	for _, tok := range []Token{{Life: time.Hour}, {Value: "token"}, {Value: "token", Life: -time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			c := NewCache(func(context.Context) (Token, error) { return tok, nil }, Options{})
			got, err := c.Get(t.Context())
			var d *Denied
			if got != "" || err == nil || errors.As(err, &d) {
				t.Errorf("%+v: got %q, %v; want an outage", tok, got, err)
			}
		})
	}
}

func TestAGoodTokenIsUsedWhileItsRenewalFails(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		get(t, c, "token-1")
		o.set(func() { o.err = errors.New("no connection") })
		time.Sleep(110 * time.Minute)
		for range 599 { // ten minutes of calls, one a second
			get(t, c, "token-1")
			time.Sleep(time.Second)
		}
		if n := o.asked(); n < 15 || n > 21 {
			t.Errorf("%d tries to renew in ten minutes, want one every half minute", n-1)
		}
		time.Sleep(time.Second)
		if got, err := c.Get(t.Context()); err == nil {
			t.Errorf("got %q after its end", got)
		}
		o.set(func() { o.err = nil })
		if _, err := c.Get(t.Context()); err != nil {
			t.Errorf("an outage is over: %v", err)
		}
	})
}

func TestARefusedTokenIsReplacedAtOnce(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		get(t, c, "token-1")
		c.Forget("something-else")
		c.Forget("")
		get(t, c, "token-1")
		c.Forget("token-1")
		get(t, c, "token-2")
		c.Forget("token-1") // somebody late
		get(t, c, "token-2")
		asked(t, o, 2)
	})
}

func TestUnauthorisedForEverCostsOneRequestAMinute(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		for range 3600 {
			if v, err := c.Get(t.Context()); err == nil {
				c.Forget(v)
			} else if d := new(Denied); !errors.As(err, &d) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := o.asked(); n < 55 || n > 62 {
			t.Errorf("%d requests in an hour", n)
		}
		for i := 2; i < len(o.calls); i++ {
			if d := o.calls[i].Sub(o.calls[i-1]); d < time.Minute {
				t.Errorf("request %d came %v after the one before", i+1, d)
			}
		}
	})
}

// Tokens that are revoked now and then are none of the above.
func TestATokenRevokedEveryHourIsReplacedAtOnceEveryTime(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		for i := range 10 {
			want := fmt.Sprintf("token-%d", i+1)
			get(t, c, want)
			time.Sleep(time.Hour)
			get(t, c, want)
			c.Forget(want)
		}
		asked(t, o, 10)
	})
}

func TestAnOutageBetweenRefusalAndReplacementHoldsNothingBack(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		get(t, c, "token-1")
		c.Forget("token-1")
		o.set(func() { o.err = errors.New("no connection") })
		for range 3 {
			_, err := c.Get(t.Context())
			if d := new(Denied); err == nil || errors.As(err, &d) {
				t.Errorf("error %v, want the outage", err)
			}
		}
		o.set(func() { o.err = nil })
		get(t, c, "token-5")
	})
}

func TestTheSameTokenAgainAfterARefusalIsDenied(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		o.same = "stuck"
		get(t, c, "stuck")
		c.Forget("stuck")
		for range 10 {
			denied(t, c)
			time.Sleep(20 * time.Second)
		}
		asked(t, o, 2)
		time.Sleep(5 * time.Minute)
		denied(t, c)
		asked(t, o, 3)
		c.Reset() // perhaps the far side thinks better of it
		get(t, c, "stuck")
		asked(t, o, 4)
		c.Forget("stuck")
		o.set(func() { o.same = "" })
		get(t, c, "token-5")
	})
}

func TestADeniedIsRememberedForFiveThenTenThenFifteenMinutes(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		o.err = fmt.Errorf("token: %w", &Denied{State: AuthFailed, Hint: "check the secret", Err: errors.New("status 401")})
		for range 3600 {
			denied(t, c)
			time.Sleep(time.Second)
		}
		var minutes []int
		for i := 1; i < len(o.calls); i++ {
			minutes = append(minutes, int(o.calls[i].Sub(o.calls[i-1]).Minutes()))
		}
		if want := []int{5, 10, 15, 15}; !slices.Equal(minutes, want) {
			t.Errorf("minutes between requests: %v, want %v", minutes, want)
		}
		o.set(func() { o.err = nil })
		n := o.asked()
		c.Reset()
		get(t, c, fmt.Sprintf("token-%d", n+1))
	})
}

// A secret that the far side no longer takes ends its token as well.
func TestADeniedAtRenewalIsNotHiddenByTheOldToken(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		get(t, c, "token-1")
		o.set(func() { o.err = &Denied{State: AuthFailed, Hint: "check the secret", Err: errors.New("status 401")} })
		time.Sleep(111 * time.Minute)
		denied(t, c)
		denied(t, c)
		asked(t, o, 2)
		o.set(func() { o.err = errors.New("no connection") })
		time.Sleep(5 * time.Minute) // four minutes before the old token's end
		if got, err := c.Get(t.Context()); err == nil {
			t.Errorf("got %q after it was denied", got)
		}
	})
}

func TestAnAnswerFromBeforeAResetIsNotRemembered(t *testing.T) {
	test(t, func(t *testing.T, o *office, c *Cache) {
		o.slow = 10 * time.Second
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "token-1") }) // asked with the old secret
		time.Sleep(time.Second)
		c.Reset()
		get(t, c, "token-2")
		wg.Wait()
		get(t, c, "token-2")
		asked(t, o, 2)
	})
}

func TestEveryRequestIsObservedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: time.Hour}
		var heard []string
		c := NewCache(o.fetch, Options{Observe: func(s string) { heard = append(heard, s) }})
		get(t, c, "token-1")
		get(t, c, "token-1")
		c.Reset()
		o.err = errors.New("no connection")
		c.Get(t.Context())
		o.err = &Denied{State: AuthFailed, Err: errors.New("no")}
		c.Get(t.Context())
		c.Get(t.Context())
		if want := []string{"ok", "error", "denied"}; !slices.Equal(heard, want) {
			t.Errorf("heard %v, want %v", heard, want)
		}
	})
}

func TestATokenMayBringItsOwnMargin(t *testing.T) {
	for _, c := range []struct {
		life, early, asked time.Duration // asked: how long before its end the next one is asked for
	}{{600 * time.Second, 60 * time.Second, 60 * time.Second}, {60 * time.Second, 15 * time.Second, 15 * time.Second}, {60 * time.Second, 0, 20 * time.Second}, {60 * time.Second, 59 * time.Second, 30 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			cache := NewCache(func(context.Context) (Token, error) {
				n++
				return Token{Value: strconv.Itoa(n), Life: c.life, Early: c.early}, nil
			}, Options{Early: 20 * time.Second})
			for _, step := range []struct {
				pass time.Duration
				want string
			}{{0, "1"}, {c.life - c.asked - time.Second, "1"}, {time.Second, "2"}} {
				time.Sleep(step.pass)
				if got, err := cache.Get(t.Context()); got != step.want || err != nil {
					t.Errorf("%+v: got %q, %v, want %q", c, got, err, step.want)
				}
			}
		})
	}
}
