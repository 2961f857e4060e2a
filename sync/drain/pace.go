package drain

import (
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// rest is how long a permit stays at home: a second, and a millisecond on top for
// clocks that run at different speeds. Linux slews its monotonic clock by at most
// 500 ppm (adjtimex(2)), and a crystal is off by far less than another 500.
const rest = time.Second + time.Millisecond

// Pace is the ceiling of one destination: never more than n calls arrive at the
// far side in any rolling second, token calls and retries included.
//
// It holds n permits. A call takes one, and the permit comes home when the answer
// was read, or when the call failed and its connection was closed; a second after
// that it may leave again. Why this holds without any assumption about network or
// clocks: a call that arrives in [T, T+1s) was started before T+1s, and answered
// after it arrived, so its permit was out or resting just before T+1s. There are
// only n. The cost is that n permits make n/(1 + round trip) calls a second.
//
// A call that is given up without an answer is the one soft spot: its connection is
// cut, so that nothing of it leaves this machine any more, but what is already in a
// stalled network may arrive later than a second after. The waits of a [Worker]
// after an outage keep that to a call or two.
//
// Permits that come home together, as all do at the start, do not leave together:
// between two calls there is at least three quarters of what n calls a second leave
// between them. So a burst is spread, few calls are under way when the power goes,
// and yet jitter of a fifth of a second costs less than two calls in a hundred.
//
// A new Pace begins with every permit just come home: the calls of the process
// before this one may have arrived a moment ago. Only the monotonic clock is
// read, so steps of the wall clock change nothing. Callers are served in the order
// in which they came, so that a token call is not starved by others.
type Pace struct {
	n    int
	mu   sync.Mutex
	home []time.Time     // when each permit that is not out came home, oldest first
	line []chan struct{} // callers that wait, oldest first; the first one's channel is closed
	back chan struct{}   // holds one hint that a permit came home
	gap  time.Duration   // least time between two calls
	last time.Time       // when the last one left
}

// NewPace returns a ceiling of n calls a second; n below 1 counts as 1.
func NewPace(n int) *Pace {
	n = max(n, 1)
	p := &Pace{n: n, back: make(chan struct{}, 1), gap: 3 * rest / time.Duration(4*n)}
	for range n {
		p.home = append(p.home, time.Now())
	}
	return p
}

// Lanes is how many Sends at once use a ceiling of n fully, however long answers take:
// with every permit out, there are still some waiting for the next one to come home,
// while the answers before are being settled. A [Worker] has no more of them out than
// the answers' delay asks for.
func Lanes(n int) int { return n + n/3 + 1 }

// Transport returns a RoundTripper that takes a permit before each call of next.
// The caller must read the answer's body to its end or close it, or the permit
// never comes home. Waiting ends with the request's context.
//
// Every call must be one call of next: a next that repeats or redirects on its
// own breaks the ceiling.
func (p *Pace) Transport(next http.RoundTripper) http.RoundTripper { return &paced{p, next} }

type paced struct {
	pace *Pace
	next http.RoundTripper
}

func (t *paced) RoundTrip(r *http.Request) (*http.Response, error) {
	flight, _ := r.Context().Value(controlKey{}).(control)
	if err := t.pace.take(r.Context(), flight.brake); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, &callError{code: "error", text: "given up before the call left", unsent: true, err: err}
	}
	if flight.leave != nil {
		flight.leave()
	}
	left := time.Now()
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		t.pace.release()
		return nil, err
	}
	resp.Body = atEnd(resp.Body, func(error) {
		t.pace.release()
		if flight.back != nil {
			flight.back(time.Since(left).Seconds() * float64(t.pace.n))
		}
	})
	return resp, nil
}

// CloseIdleConnections is what http.Client.CloseIdleConnections looks for.
func (t *paced) CloseIdleConnections() { closeIdle(t.next) }

func closeIdle(t http.RoundTripper) {
	if c, ok := t.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// take waits for a permit that has rested, in the order of the callers. It returns
// ctx's error, errBraked once brake (which may be nil) is closed, or nil with one
// permit out.
func (p *Pace) take(ctx context.Context, brake <-chan struct{}) error {
	turn := make(chan struct{})
	p.mu.Lock()
	p.line = append(p.line, turn)
	if len(p.line) == 1 {
		close(turn)
	}
	p.mu.Unlock()
	defer p.leave(turn)
	select {
	case <-turn:
	case <-brake:
	case <-ctx.Done():
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case <-brake:
			return errBraked
		default:
		}
		var rested <-chan time.Time
		p.mu.Lock()
		if len(p.home) > 0 {
			d := max(rest-time.Since(p.home[0]), p.gap-time.Since(p.last))
			if d <= 0 {
				p.home = slices.Delete(p.home, 0, 1)
				p.last = time.Now()
				p.mu.Unlock()
				return nil
			}
			rested = time.After(d)
		}
		p.mu.Unlock()
		select {
		case <-rested:
		case <-p.back:
		case <-brake:
		case <-ctx.Done():
		}
	}
}

// leave takes a caller out of the line and lets the next one step forward.
func (p *Pace) leave(turn chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.line, turn)
	p.line = slices.Delete(p.line, i, i+1)
	if i == 0 && len(p.line) > 0 {
		close(p.line[0])
	}
}

// release brings a permit home.
func (p *Pace) release() {
	p.mu.Lock()
	p.home = append(p.home, time.Now())
	p.mu.Unlock()
	select {
	case p.back <- struct{}{}:
	default:
	}
}

// atEnd wraps an answer's body so that end is called exactly once: at its end
// (nil), at a broken connection (the error), or when it is closed (nil).
func atEnd(body io.ReadCloser, end func(error)) io.ReadCloser {
	if body == nil || body == http.NoBody {
		end(nil)
		return http.NoBody
	}
	return &watchedBody{ReadCloser: body, end: end}
}

type watchedBody struct {
	io.ReadCloser
	once sync.Once
	end  func(error)
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.once.Do(func() { b.end(nil) })
	} else if err != nil {
		b.once.Do(func() { b.end(err) })
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() { b.end(nil) })
	return err
}
