// Package token keeps one credential per destination fresh: a tenant token, a
// bearer token, whatever the far side wants beside each call and lets expire.
//
// Use [NewCache] with a function that asks the far side for a token, [Cache.Get]
// before every call, and [Cache.Forget] when the far side refused the token that
// a call carried. [Denied] is the error that says a person must act; the delivery
// engine looks for it.
//
// # What holds
//
//   - One request at a time. However many callers find the token expired or
//     refused, one asks and all take its answer. A caller that gives up does not
//     take the answer away from the others; the request is called off when nobody
//     waits for it any more, and the last one to leave waits until it has ended.
//   - Early. A token is renewed a margin before its end. While the far side does
//     not answer, the one that is still good is used, and renewal is tried again
//     at most every half minute.
//   - Life is counted on the monotonic clock from the moment the request was sent:
//     the clock of the wall may step by decades when a board without a battery
//     finds its time server. Nothing is stored: after a restart nobody knows how
//     old a token is.
//   - An empty token, or one without a life, is never returned: an empty bearer
//     turns a wrong secret into a puzzling refusal elsewhere.
//   - A refused token is asked for anew at once, but only the first time. If the
//     new one is refused, too, the next request waits until a minute after it:
//     "unauthorised for ever" costs one token call a minute at most. If the far
//     side hands out the very string that it just refused, that is Denied.
//   - A Denied is remembered for a probe interval, 5 minutes growing to 15, so that
//     nobody hammers a far side that said no. [Cache.Reset] ends it: the secret
//     was changed, or a technician, or the engine's own slow probe, wants to know
//     now.
//
// # Why not golang.org/x/oauth2
//
// It compares the expiry with the wall clock, so that a clock step makes a dead
// token good or a good one dead. It has no way to say "this one was refused", so
// that many workers that are refused together fetch one after the other, or keep
// sending what was refused. And it knows one way of asking, where our far sides
// answer a wrong secret with HTTP 200. If it learns these things it may come back.
package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// The states of a destination that a [Denied] may set.
const (
	AuthFailed    = "auth_failed"   // secret, permission or allow-list: the far side knows us and says no
	Misconfigured = "misconfigured" // wrong address, wrong settings, wrong plan
)

// Denied is inside an error after which a person must act: nothing that waits
// helps. The worker stops calling, keeps every punch, raises the alarm and probes
// slowly.
type Denied struct {
	State string // auth_failed or misconfigured: the destination's state in status and metrics
	Hint  string // what the technician should do next, in plain words
	Err   error  // what was refused; holds no secret
	// Probe is the least time until the next probe, for a refusal that is known to
	// last, a monthly quota for example; 0 for the usual 5 to 15 minutes.
	Probe time.Duration
}

func (d *Denied) Error() string { return fmt.Sprintf("%s: %v (%s)", d.State, d.Err, d.Hint) }

// Unwrap returns what was refused.
func (d *Denied) Unwrap() error { return d.Err }

// Token is what the far side handed out.
type Token struct {
	Value string        // never empty
	Life  time.Duration // how long it is good, counted from when it was asked for; positive
	Early time.Duration // how long before its end this one is renewed, where that depends on its life; 0 for Options.Early
}

// LogValue keeps the token out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.masked()) }

// Format keeps it out of all that is printed.
func (t Token) Format(f fmt.State, _ rune) { io.WriteString(f, t.masked()) }

func (t Token) masked() string { return fmt.Sprintf("a token for %v", t.Life) }

const (
	probeDefault = 5 * time.Minute  // first wait after a Denied
	probeGrowth  = 3                // ... growing to this many times as much
	refetchEvery = time.Minute      // after a fresh token was refused
	earlyAgain   = 30 * time.Second // between tries to renew a token that is still good
)

// Options are the settings of a [Cache]. The zero value is good.
type Options struct {
	// Early is how long before its end a token is renewed. Half of a token's
	// life is used in any case, so that a short one is not asked for every time.
	Early time.Duration
	// Probe is how long a Denied is remembered the first time, 0 for 5 minutes;
	// each further one adds as much, up to three times.
	Probe time.Duration
	// Observe hears of every request: ok, denied or error. It may be nil; it must
	// not block and not call the Cache.
	Observe func(result string)
}

// Cache holds the current token. It is safe for concurrent use.
type Cache struct {
	fetch func(context.Context) (Token, error)
	o     Options

	mu     sync.Mutex
	value  string    // "" for none
	renew  time.Time // from when on it should be renewed
	until  time.Time // its end
	flight *flight   // the request on its way, nil for none

	again   time.Time // no early renewal before this: the last one failed
	refused string    // the token that was refused last, "" for none
	reask   bool      // the next request replaces a refused token
	reasked time.Time // when the last token that replaced a refused one was asked for
	denied  error     // what the far side said, with a *Denied inside
	quiet   time.Time // until when denied is repeated without asking
	said    int       // how many Denied in a row
}

// flight is one request and those who wait for it.
type flight struct {
	done    chan struct{} // closed when value and err are set
	cancel  context.CancelFunc
	waiters int
	value   string
	err     error
}

// NewCache returns an empty cache that asks with fetch.
//
// fetch is called by one goroutine at a time (by two only while one that was
// called off, or overtaken by a Reset, still ends). It must end when its context
// does. Its errors must hold no secret; one with a *Denied
// inside says that a person must act, any other is an outage.
func NewCache(fetch func(ctx context.Context) (Token, error), o Options) *Cache {
	if o.Probe <= 0 {
		o.Probe = probeDefault
	}
	if o.Observe == nil {
		o.Observe = func(string) {}
	}
	return &Cache{fetch: fetch, o: o}
}

// Get returns a token that is good as far as anybody here knows, asking the far
// side if need be; then it blocks until the answer or until ctx is done. The
// error is ctx's, that of the request, or a remembered one with *Denied inside.
func (c *Cache) Get(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	c.mu.Lock()
	now := time.Now()
	if c.value != "" && (now.Before(c.renew) || now.Before(c.until) && now.Before(c.again)) {
		defer c.mu.Unlock()
		return c.value, nil
	}
	if c.denied != nil && now.Before(c.quiet) {
		defer c.mu.Unlock()
		return "", c.denied
	}
	if c.reask && !c.reasked.IsZero() && now.Sub(c.reasked) < refetchEvery {
		defer c.mu.Unlock()
		return "", &Denied{
			State: AuthFailed,
			Hint:  "check the client id, its secret and its permissions at the far side",
			Err:   errors.New("a fresh token was refused, too; not asking for another within a minute"),
		}
	}
	f := c.flight
	if f == nil {
		f = c.start(ctx)
	}
	f.waiters++
	c.mu.Unlock()

	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last && c.flight == f {
		c.flight = nil // nobody may join a request that is called off
	}
	c.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
	return "", ctx.Err()
}

// start sends a request on its way. The caller holds c.mu.
func (c *Cache) start(ctx context.Context) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	c.flight = f
	go func() {
		defer close(f.done)
		defer cancel()
		sent := time.Now()
		t, err := c.fetch(ctx)
		switch {
		case err != nil:
		case t.Value == "":
			err = errors.New("the far side answered without a token")
		case t.Life <= 0:
			err = errors.New("the far side gave a token without a life")
		}
		c.answered(f, sent, t, err)
	}()
	return f
}

// answered takes what a request came to.
func (c *Cache) answered(f *flight, sent time.Time, t Token, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	current := c.flight == f // else a Reset came in between, or nobody waits: nothing is remembered
	if current {
		c.flight = nil
		if err == nil && c.refused == t.Value {
			c.reasked = sent
			err = &Denied{
				State: AuthFailed,
				Hint:  "check the permissions of this client at the far side; the token it gives out is one that it refuses",
				Err:   errors.New("asked for another token, the same token came back"),
			}
		}
	}
	now := time.Now()
	var d *Denied
	switch {
	case err == nil:
		c.o.Observe("ok")
		f.value = t.Value
		if current {
			c.value = t.Value
			c.until = sent.Add(t.Life)
			early := c.o.Early
			if t.Early > 0 {
				early = t.Early
			}
			c.renew = c.until.Add(-min(early, t.Life/2))
			if c.reask {
				c.reasked = sent
			}
			c.reask, c.refused, c.again = false, "", time.Time{}
			c.denied, c.said = nil, 0
		}
	case errors.As(err, &d):
		c.o.Observe("denied")
		f.err = err
		if current {
			c.value = ""
			c.said = min(c.said+1, probeGrowth)
			c.denied, c.quiet = err, now.Add(max(time.Duration(c.said)*c.o.Probe, d.Probe))
		}
	default:
		c.o.Observe("error")
		f.err = err
		if current && c.value != "" && now.Before(c.until) {
			f.value, f.err = c.value, nil
			c.again = now.Add(earlyAgain)
		}
	}
}

// Forget says that the far side refused value. It does nothing if another token
// has taken its place since.
func (c *Cache) Forget(value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if value == "" || value != c.value {
		return
	}
	c.value = ""
	c.refused = value
	c.reask = true
}

// Reset forgets everything, the token and every refusal: the next Get asks at
// once. It is for a changed secret, a technician's retry and a slow probe.
func (c *Cache) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = ""
	c.flight = nil // those who wait for it still get its answer; it is not remembered
	c.again, c.reasked, c.quiet = time.Time{}, time.Time{}, time.Time{}
	c.refused, c.reask = "", false
	c.denied, c.said = nil, 0
}

// Secret reads a secret for a fetch. What keeps it away is a *Denied that says
// what goes into which setting; who, such as feishu, and what, such as app secret,
// are for the words, and from says where the person gets it.
func Secret(read func() (string, error), who, what, from, setting string) (string, error) {
	hint := "put the " + what + " " + from + " into " + setting + ", readable for this program; no restart"
	secret, err := read()
	var d *Denied
	switch {
	case errors.As(err, &d):
		return "", err
	case err != nil:
		return "", &Denied{State: Misconfigured, Hint: hint, Err: fmt.Errorf("%s: read the %s: %w", who, what, err)}
	}
	if secret = strings.TrimSpace(secret); secret == "" {
		return "", &Denied{State: Misconfigured, Hint: hint, Err: fmt.Errorf("%s: the %s is empty", who, what)}
	}
	return secret, nil
}
