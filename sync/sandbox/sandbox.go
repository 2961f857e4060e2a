// Package sandbox is the remote systems on a desk: 104's transferCard, Feishu's
// attendance calls and the in-house sign-in system (線上打卡系統), as http.Handlers
// with every fault the real ones, or the network in front of them, can show. Tests call them in memory through
// [Transport]; punchsim serves them on loopback beside a [NewControl] page.
//
// # Which one do I want
//
// [NewTransferCard] serves the token call, transferCard and transferTpCard.
// [NewFeishu] serves the tenant token, import, query, get and delete of flows, and
// the id lookup. [NewSignin] serves login, logout, add punch, today's punches and
// the records of a period; it locks an account after five bad passwords. All answer
// the way the real systems do, and those differ: 104 hides refused records inside
// HTTP 200, Feishu refuses a token with HTTP 400 and a code in the body, the sign-in
// system's code is a text on success and a number on failure.
//
// [NewResumes] is 104's résumé service, which nothing is delivered to: token, list,
// query, batch, portraits and attachments, the vendor's three days of test data, and
// the limiter of three calls a second. The control page does not know it.
//
// # How a call is handled
//
// One order, for all clouds, so that a test can say what must happen:
//
//  1. the call arrives: it gets the next number and is counted in the rolling
//     second, whatever becomes of it, token calls included;
//  2. [Wire].Down drops it unread; otherwise the body is read;
//  3. over [Wire].RateLimit, it is refused; then FailNext, then HTMLNext answer
//     instead of the service;
//  4. the service checks it and stores what it accepts: from here on the ledger
//     has the records;
//  5. the answer is delayed, slowed, cut or dropped. DelayMS therefore delays an
//     answer to records that are already stored: a client that gives up waiting
//     does not know.
//
// A second is rolling and half open: a call at T and one at T+1s do not share it.
// [Counters].WorstSecond is the largest number of calls that ever arrived in any
// such second, so a test asserts a ceiling by reading one number.
//
// # Dropping a connection
//
// A dropped answer is panic(http.ErrAbortHandler) after the commit. Under a real
// http.Server that closes the connection with nothing sent; under [Transport] it
// becomes an error that wraps io.ErrUnexpectedEOF. A cut answer is sent with its
// full Content-Length, half of its body, and then the same panic.
//
// # Faults
//
// Faults are plain structs. Their zero value is not their default (a rate limit
// of 0 is no limit); a new cloud starts with the defaults, and SetFaults changes
// them in place. Fields named ...Next count down with every call they hit; -1
// stays until it is set back. The JSON names are those of the control page.
//
// The clouds are safe for concurrent use, read time from time.Now only and start
// no goroutine, so they work inside a testing/synctest bubble.
package sandbox

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Person is somebody the clouds know.
type Person struct {
	Number   string `json:"employee_no"`         // 104's empNo, Feishu's employee_no; text, leading zeros live
	FeishuID string `json:"feishu_id,omitempty"` // Feishu's employee_id; "" where that kind is not used
	SigninID string `json:"signin_id,omitempty"` // the sign-in system's user_id; "" is Number
	Mobile   string `json:"mobile,omitempty"`    // for Feishu's id lookup
	Email    string `json:"email,omitempty"`     // for Feishu's id lookup
	Resigned bool   `json:"resigned,omitempty"`  // left: found by the id lookup only when asked for
}

func (p Person) signinID() string {
	if p.SigninID != "" {
		return p.SigninID
	}
	return p.Number
}

// People makes persons of bare employee numbers.
func People(numbers ...string) []Person {
	p := make([]Person, len(numbers))
	for i, n := range numbers {
		p[i] = Person{Number: n}
	}
	return p
}

// Wire holds the faults that any server, or the network before it, can show.
type Wire struct {
	// RateLimit is how many calls may arrive in any rolling second, all paths
	// together, token calls included; 0 is no limit. A refused call counts too.
	RateLimit int `json:"rate_limit"`

	Down bool `json:"down"` // every call is dropped unread: an outage

	FailNext   int    `json:"fail_next"`   // this many calls are answered FailStatus and store nothing; -1 all
	FailStatus int    `json:"fail_status"` // 300 to 599
	FailOn     string `json:"fail_on"`     // any, token or business: which calls FailNext and HTMLNext hit
	RetryAfter string `json:"retry_after"` // Retry-After of the calls FailNext hits, as it is; "" sends none

	HTMLNext int `json:"html_next"` // this many calls are answered HTTP 200 with a web page, as a captive portal does; -1 all

	CommitThenDrop int `json:"commit_then_drop"` // this many calls that store records are stored and never answered; -1 all
	CutNext        int `json:"cut_next"`         // this many calls that store records are stored, and the answer breaks off in its middle; -1 all
	DelayMS        int `json:"delay_ms"`         // the answer waits this long; what was accepted is already stored
	SlowBodyMS     int `json:"slow_body_ms"`     // the answer's body takes this long, in eight pieces

	RevokeAfter int `json:"revoke_after"` // a token is refused after this many business calls; 0 never
}

// Which calls FailNext and HTMLNext hit: the values of [Wire].FailOn.
const (
	OnAny      = "any"
	OnToken    = "token"
	OnBusiness = "business"
)

func (w *Wire) check() error {
	if err := oneOf("fail_on", w.FailOn, OnAny, OnToken, OnBusiness); err != nil {
		return err
	}
	if w.FailStatus < 300 || w.FailStatus > 599 {
		return fmt.Errorf("fail_status %d: use 300 to 599", w.FailStatus)
	}
	for _, f := range []struct {
		name string
		v    int
		min  int
	}{
		{"rate_limit", w.RateLimit, 0}, {"fail_next", w.FailNext, -1}, {"html_next", w.HTMLNext, -1},
		{"commit_then_drop", w.CommitThenDrop, -1}, {"cut_next", w.CutNext, -1},
		{"delay_ms", w.DelayMS, 0}, {"slow_body_ms", w.SlowBodyMS, 0}, {"revoke_after", w.RevokeAfter, 0},
	} {
		if err := atLeast(f.name, f.v, f.min); err != nil {
			return err
		}
	}
	return nil
}

func atLeast(name string, v, min int) error {
	if v < min {
		return fmt.Errorf("%s %d: use %d or more", name, v, min)
	}
	return nil
}

func oneOf(name, v string, words ...string) error {
	for _, w := range words {
		if v == w {
			return nil
		}
	}
	return fmt.Errorf("%s %q: use one of %q", name, v, words)
}

// Refusal is what a whole call is answered with.
type Refusal struct {
	Status int    `json:"status"` // HTTP; 0 is 400
	Code   int    `json:"code"`
	Msg    string `json:"msg"`
}

// Call is one call that arrived.
type Call struct {
	Number   int       `json:"number"` // from 1, in order of arrival
	At       time.Time `json:"at"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Status   int       `json:"status"`             // HTTP; 0 where no answer was sent
	Code     int       `json:"code,omitempty"`     // code in the answer's body, where it has one
	Bytes    int       `json:"bytes"`              // of the body
	BodyHash string    `json:"body_sha256"`        // of the body as it came
	Second   int       `json:"second"`             // calls in the rolling second that ends with this one
	Accepted int       `json:"accepted,omitempty"` // records stored by it, repeats not counted
	Note     string    `json:"note,omitempty"`     // the fault that hit it
}

// MaxCalls is how many calls are kept; older ones only count.
const MaxCalls = 10000

// Counters add up since the start or the last Reset.
type Counters struct {
	Calls        int `json:"calls"`
	TokenCalls   int `json:"token_calls"`
	TokensIssued int `json:"tokens_issued"` // new ones; the same one handed out again does not count
	Refused      int `json:"refused_tokens"`
	RateLimited  int `json:"rate_limited"`
	WorstSecond  int `json:"worst_second"` // most calls that ever arrived in one rolling second
	Accepted     int `json:"accepted"`     // records in the ledger
	Repeats      int `json:"repeats"`      // records that were in the ledger already
	Ignored      int `json:"ignored"`      // 104: records answered in ignoreDetail
	Rejected     int `json:"rejected"`     // records refused
	Dropped      int `json:"dropped"`      // calls that were not answered, or not to the end
}

// core is what the clouds share: arrivals, calls, and how answers go out. Its
// lock guards the whole cloud.
type core struct {
	mu       sync.Mutex
	arrivals []time.Time // of the last second
	calls    []Call      // a ring once it is full
	first    int         // index of the oldest in calls
	counters Counters
}

func (c *core) reset() {
	c.arrivals, c.calls, c.first, c.counters = nil, nil, 0, Counters{}
}

// arrive counts a call and returns the beginnings of its entry. The lock is held.
func (c *core) arrive(r *http.Request) Call {
	now := time.Now()
	old := 0
	for old < len(c.arrivals) && now.Sub(c.arrivals[old]) >= time.Second {
		old++
	}
	c.arrivals = append(c.arrivals[old:], now)
	c.counters.Calls++
	c.counters.WorstSecond = max(c.counters.WorstSecond, len(c.arrivals))
	return Call{Number: c.counters.Calls, At: now, Method: r.Method, Path: r.URL.Path, Second: len(c.arrivals)}
}

// keep files a finished call. The lock is held.
func (c *core) keep(call Call) {
	if len(c.calls) < MaxCalls {
		c.calls = append(c.calls, call)
		return
	}
	c.calls[c.first] = call
	c.first = (c.first + 1) % MaxCalls
}

// callList returns the kept calls, oldest first. The lock is held.
func (c *core) callList() []Call {
	return append(append(make([]Call, 0, len(c.calls)), c.calls[c.first:]...), c.calls[:c.first]...)
}

// answer is what goes back, before the wire's faults.
type answer struct {
	status int
	header http.Header // beyond Content-Type
	ctype  string
	body   []byte
	code   int
	stored bool // the call wrote records: CommitThenDrop and CutNext hit it
	accept int
}

// service is one cloud behind the shared front.
type service interface {
	wire() *Wire
	isToken(path string) bool
	serve(call *Call, r *http.Request, body []byte) answer
	tooFast() answer
	failed(status int) answer
}

const maxBody = 8 << 20

// handle does what the package comment promises, in that order.
func (c *core) handle(w http.ResponseWriter, r *http.Request, s service) {
	c.mu.Lock()
	call := c.arrive(r)
	if s.isToken(r.URL.Path) {
		c.counters.TokenCalls++
	}
	down := s.wire().Down
	if down {
		call.Note = "down"
		c.counters.Dropped++
		c.keep(call)
	}
	c.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}

	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var big *http.MaxBytesError
	if err != nil && !errors.As(err, &big) {
		c.mu.Lock()
		call.Note = "the client broke off"
		c.keep(call)
		c.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	sum := sha256.Sum256(body)
	call.Bytes, call.BodyHash = len(body), hex.EncodeToString(sum[:])

	c.mu.Lock()
	a, plan := c.decide(&call, r, body, big != nil, s)
	c.mu.Unlock()
	plan.send(w, r, a)
}

// decide chooses answer and fate of a call under the lock.
func (c *core) decide(call *Call, r *http.Request, body []byte, tooBig bool, s service) (answer, plan) {
	wire := s.wire()
	hit := wire.FailOn == OnAny || (wire.FailOn == OnToken) == s.isToken(r.URL.Path)
	var a answer
	switch {
	case wire.RateLimit > 0 && call.Second > wire.RateLimit:
		c.counters.RateLimited++
		call.Note = "rate limit"
		a = s.tooFast()
	case hit && take(&wire.FailNext):
		call.Note = "fail_next"
		a = s.failed(wire.FailStatus)
		if wire.RetryAfter != "" {
			a.set("Retry-After", wire.RetryAfter)
		}
		if wire.FailStatus < 400 {
			a.set("Location", "/portal")
		}
	case hit && take(&wire.HTMLNext):
		call.Note = "html_next"
		a = answer{status: http.StatusOK, ctype: "text/html; charset=utf-8",
			body: []byte("<!DOCTYPE html><title>Welcome</title><p>Please sign in to use this network.\n")}
	case tooBig:
		a = s.failed(http.StatusRequestEntityTooLarge)
	default:
		a = s.serve(call, r, body)
	}
	call.Status, call.Code, call.Accepted = a.status, a.code, a.accept
	c.counters.Accepted += a.accept

	p := plan{delay: time.Duration(wire.DelayMS) * time.Millisecond, slow: time.Duration(wire.SlowBodyMS) * time.Millisecond}
	if a.stored {
		switch {
		case take(&wire.CommitThenDrop):
			p.drop, call.Status, call.Note = true, 0, "commit_then_drop"
			c.counters.Dropped++
		case take(&wire.CutNext):
			p.cut, call.Note = true, "cut_next"
			c.counters.Dropped++
		}
	}
	c.keep(*call)
	return a, p
}

// take uses up one of a counter; -1 is never used up.
func take(n *int) bool {
	if *n > 0 {
		*n--
		return true
	}
	return *n < 0
}

func (a *answer) set(k, v string) {
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set(k, v)
}

// plan is how an answer goes out.
type plan struct {
	delay, slow time.Duration
	drop, cut   bool
}

func (p plan) send(w http.ResponseWriter, r *http.Request, a answer) {
	wait(r, p.delay)
	if p.drop {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	for k, v := range a.header {
		h[k] = v
	}
	h.Set("Content-Type", a.ctype)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	body := a.body
	if p.cut {
		body = body[:len(body)/2]
	}
	if p.slow > 0 {
		flush(w)
		const pieces = 8
		for i := range pieces {
			wait(r, p.slow/pieces)
			w.Write(body[len(body)*i/pieces : len(body)*(i+1)/pieces])
			flush(w)
		}
	} else {
		w.Write(body)
	}
	if p.cut {
		flush(w)
		panic(http.ErrAbortHandler)
	}
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// wait lets d pass; a client that leaves ends the call.
func wait(r *http.Request, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// random returns n bytes of fresh hexadecimal, for tokens, secrets and ids.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
