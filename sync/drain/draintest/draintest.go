// Package draintest is what every drain.Destination must survive, as one suite,
// and an outbox in memory to test the engine with.
//
// A destination's test fills in a [Harness] and calls [Run]. The suite stands on
// the wire between the destination and its far side, a sandbox in memory, and
// commits there every fault that needs no knowledge of the far side's language:
// no connection, an answer dropped after the commit, half an answer, a portal's
// page with status 200, JSON that says nothing, a server error, an endless answer,
// no answer, a redirect. What needs that knowledge the Harness offers: ending the
// tokens, too many calls, a wrong secret, a person nobody knows.
//
// What it holds the destination to:
//
//   - nothing is accepted that the far side's ledger does not hold;
//   - no fault of the network or the token ever refuses or skips a punch;
//   - a resend is byte for byte the same, after a restart as well;
//   - after the fault everything is delivered, once;
//   - no error holds the secret or a token;
//   - no redirect is followed, no endless answer read to the end;
//   - a refused token is replaced once, within the same Send; when it is refused
//     for ever a person is called, and no more than one token a minute is asked for;
//   - one bad record is refused with a reason, and all others arrive;
//   - Send returns soon after it was called off.
//
// Each case runs in a testing/synctest bubble of its own with a fresh far side.
package draintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// Roster lists the employee numbers that a far side of the suite must know.
var Roster = []string{"000123", "A0001", "119008"}

// Stranger is an employee number that it must not know.
const Stranger = "NOBODY9"

// Harness plugs a destination into the suite.
type Harness struct {
	// New builds a far side that knows the Roster, holds nothing and has no fault.
	// It is called inside a bubble, once per case.
	New func(t *testing.T) FarSide
	// AtLeastOnce says that the far side has no way to recognise a repeat: it may
	// hold a punch more than once after an answer was lost. It must hold it under
	// one key all the same.
	AtLeastOnce bool
}

// FarSide is one sandbox with what the suite needs to know of it.
type FarSide struct {
	// Wire calls the sandbox in memory.
	Wire http.RoundTripper
	// Open builds the destination under test on a wire of the suite's, with a
	// client of drain.NewClient, as the daemon would, with this secret.
	Open func(wire http.RoundTripper, secret string) (drain.Destination, error)
	// Secret is the right one. The suite also opens with a wrong one.
	Secret string
	// Ledger returns the key of every record that the sandbox holds, in the order
	// of arrival, repeats included if it stored them.
	Ledger func() []string
	// Key returns the key under which the ledger must hold a punch.
	Key func(punch.Punch) string
	// Token tells a call for a token from one with punches. nil: no tokens.
	Token func(*http.Request) bool
	// Revoke ends every token that was handed out. nil: no tokens.
	Revoke func()
	// Limit has the sandbox refuse the next n calls with punches as too many, in
	// its own words, and returns how long it tells to wait (0 if it does not say).
	Limit func(n int) time.Duration
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, f := range c.try(t, h) {
					t.Error(f)
				}
			})
		})
	}
}

// testcase is one case; it returns what was wrong.
type testcase struct {
	name string
	run  func(*bench)
}

func (c testcase) try(t *testing.T, h Harness) []string {
	b := &bench{h: h, far: h.New(t)}
	b.wire = &wire{bench: b}
	b.dest = b.open(b.far.Secret)
	if b.dest != nil {
		c.run(b)
	}
	return b.wrong
}

func cases() []testcase {
	cs := []testcase{
		{"EveryPunchArrivesOnceInOrder", func(b *bench) {
			batch := b.punches(7)
			b.deliver(batch)
			var want []string
			for _, p := range batch {
				want = append(want, b.far.Key(p))
			}
			if got := b.far.Ledger(); !slices.Equal(got, want) {
				b.errorf("ledger holds %q, want %q", got, want)
			}
		}},
		{"OnePunchArrives", func(b *bench) { b.deliver(b.punches(1)) }},
		{"SendingAgainChangesNothing", func(b *bench) {
			batch := b.punches(4)
			b.deliver(batch)
			for range 3 {
				b.deliver(batch)
			}
			b.arrived(batch)
		}},
		{"OneBadRecordIsRefusedAndTheOthersArrive", func(b *bench) {
			for _, bad := range []int{0, 3, 6} {
				batch := b.punches(7)
				for i := range batch {
					// The far side must not take them for those of the round before.
					batch[i].Seq += uint64(bad) * 100
					batch[i].ID = punch.NewID("test", batch[i].Seq)
					batch[i].Stamp.Wall = batch[i].Stamp.Wall.Add(time.Duration(bad) * time.Hour)
				}
				batch[bad].Employee = Stranger
				fates := b.deliver(batch)
				for i, p := range batch {
					v := fates[p.ID]
					switch {
					case i == bad && v.Fate != punch.Refuse:
						b.errorf("the bad record is %v, want refuse", v.Fate)
					case i == bad && v.Reason == "":
						b.errorf("the bad record is refused without a reason")
					case i != bad && v.Fate != punch.Accept:
						b.errorf("a good record beside a bad one is %v (%s), want accept", v.Fate, v.Reason)
					}
				}
				if slices.Contains(b.far.Ledger(), b.far.Key(batch[bad])) {
					b.errorf("the sandbox took the stranger: this case proves nothing")
				}
				b.arrived(slices.Delete(slices.Clone(batch), bad, bad+1))
			}
		}},
		{"OneBadRecordAloneIsRefused", func(b *bench) {
			batch := b.punches(1)
			batch[0].Employee = Stranger
			if v := b.deliver(batch)[batch[0].ID]; v.Fate != punch.Refuse || v.Reason == "" {
				b.errorf("a bad record alone is %v with reason %q, want refuse with a reason", v.Fate, v.Reason)
			}
		}},
		{"TooManyCallsMeansBusy", func(b *bench) {
			batch := b.punches(5)
			told := b.far.Limit(1)
			verdicts, err := b.send(context.Background(), batch)
			b.honest(batch, verdicts, true)
			var busy *drain.Busy
			switch {
			case !errors.As(err, &busy):
				b.errorf("refused as too many: error %v, want *drain.Busy inside", err)
			case busy.After < told:
				b.errorf("told to wait %v, Busy says %v", told, busy.After)
			}
			b.deliver(batch)
			b.arrived(batch)
		}},
		{"WrongSecretCallsAPersonAndKeepsEveryPunch", func(b *bench) {
			if b.far.Token == nil {
				return
			}
			d := b.open("wrong-secret-7d1f")
			if d == nil {
				return
			}
			right := b.dest
			b.dest = d
			batch := b.punches(3)
			for range 3 {
				verdicts, err := b.send(context.Background(), batch)
				b.honest(batch, verdicts, true)
				b.denied(err)
				time.Sleep(20 * time.Minute)
			}
			if n := len(b.far.Ledger()); n != 0 {
				b.errorf("%d records arrived with a wrong secret", n)
			}
			if n := len(b.wire.asked(false)); n != 0 {
				b.errorf("%d calls with punches were made without a token", n)
			}
			b.dest = right
			b.deliver(batch)
			b.arrived(batch)
		}},
		{"RevokedTokenIsReplacedWithinTheSend", func(b *bench) {
			if b.far.Revoke == nil {
				return
			}
			batch := b.punches(6)
			b.deliver(batch[:3])
			before := len(b.wire.asked(true))
			b.far.Revoke()
			verdicts, err := b.send(context.Background(), batch[3:])
			b.honest(batch[3:], verdicts, true)
			if err != nil || len(verdicts) != 3 {
				b.errorf("after the token was revoked: %d verdicts of 3, error %v", len(verdicts), err)
			}
			if n := len(b.wire.asked(true)) - before; n != 1 {
				b.errorf("after the token was revoked: %d token calls, want 1", n)
			}
			b.deliver(batch)
			b.arrived(batch)
		}},
		{"TokenRefusedForEverCallsAPersonAndAsksForOneAMinute", func(b *bench) {
			if b.far.Revoke == nil {
				return
			}
			batch := b.punches(3)
			b.wire.before = func(token bool) {
				if !token {
					b.far.Revoke()
				}
			}
			const minutes = 30
			for range minutes * 6 {
				verdicts, err := b.send(context.Background(), batch)
				b.honest(batch, verdicts, true)
				b.denied(err)
				time.Sleep(10 * time.Second)
			}
			// The first one, its replacement at once, and one a minute.
			if n := len(b.wire.asked(true)); n > minutes+2 {
				b.errorf("%d token calls in %d minutes, want one a minute at most", n, minutes)
			}
			b.wire.before = nil
			if r, ok := b.dest.(drain.Resetter); ok {
				r.Reset()
			}
			b.deliver(batch)
			b.arrived(batch)
		}},
		{"CalledOffSendReturnsAndNothingIsLost", func(b *bench) {
			batch := b.punches(3)
			b.deliver(b.punches(1)) // there is a token now
			b.wire.fault = hang(false)
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			start := time.Now()
			verdicts, err := b.send(ctx, batch)
			b.honest(batch, verdicts, true)
			if took := time.Since(start); took > 5*time.Second {
				b.errorf("called off after 3 s, Send returned after %v", took)
			}
			if err == nil {
				b.errorf("called off, and Send returned no error")
			}
			b.wire.fault = nil
			b.deliver(batch)
			b.arrived(batch)
		}},
	}
	for _, f := range faults() {
		cs = append(cs, testcase{"NothingIsLostBy" + f.name, func(b *bench) { b.survive(f) }})
	}
	return cs
}

// survive holds the destination to the promise through one fault of the network.
func (b *bench) survive(f fault) {
	if f.token && b.far.Token == nil {
		return
	}
	batch := b.punches(5)
	if !f.token {
		b.deliver(b.punches(1)) // there is a token now: the fault is the only trouble
	}
	b.wire.fault = f.commit
	from := len(b.wire.asked(false))
	var first []call
	for i := range 3 {
		start := len(b.wire.asked(false))
		verdicts, err := b.send(context.Background(), batch)
		b.honest(batch, verdicts, true)
		var denied *token.Denied
		if errors.As(err, &denied) && !f.person {
			b.errorf("%s: error %v calls a person; it heals by itself", f.name, err)
		}
		if err == nil && len(verdicts) > 0 && !f.token {
			for _, v := range verdicts {
				if v.Fate != punch.Keep {
					b.errorf("%s: punch %s is %v, nothing was said about it", f.name, v.ID, v.Fate)
				}
			}
		}
		if calls := b.wire.asked(false)[start:]; len(calls) > 0 {
			first = append(first, calls[0])
		}
		time.Sleep(20 * time.Minute)
		if i == 1 {
			b.dest = b.open(b.far.Secret) // a restart
			if b.dest == nil {
				return
			}
		}
	}
	if !f.token && f.reaches && len(b.wire.asked(false)) == from {
		b.errorf("%s: no call with punches was made", f.name)
	}
	for _, c := range first[min(1, len(first)):] {
		if c.method != first[0].method || c.url != first[0].url || !bytes.Equal(c.body, first[0].body) {
			b.errorf("a resend differs:\n%s %s\n%s\n%s %s\n%s", first[0].method, first[0].url, first[0].body, c.method, c.url, c.body)
		}
	}
	b.wire.fault = nil
	b.deliver(batch)
	b.arrived(batch)
}

// bench is the table a case works at.
type bench struct {
	h     Harness
	far   FarSide
	wire  *wire
	dest  drain.Destination
	mu    sync.Mutex
	wrong []string
}

func (b *bench) errorf(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.wrong) < 20 {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
}

func (b *bench) open(secret string) drain.Destination {
	b.wire.learn(secret)
	d, err := b.far.Open(b.wire, secret)
	if err != nil {
		b.errorf("opening the destination: %v", err)
		return nil
	}
	return d
}

// punches returns n punches, always the same, by the people of the roster in turn.
func (b *bench) punches(n int) []punch.Punch {
	return Punches(time.Date(2026, 11, 21, 0, 58, 3, 123e6, time.UTC), n)
}

// Punches returns n punches by the people of the [Roster] in turn, seven minutes
// apart from begin on, of all four kinds, numbered from 1.
func Punches(begin time.Time, n int) []punch.Punch {
	var ps []punch.Punch
	for i := range n {
		p := punch.Punch{Seq: uint64(i + 1), ID: punch.NewID("test", uint64(i+1))}
		p.Draft = punch.Draft{
			Kind:     punch.Kinds[i%len(punch.Kinds)],
			Badge:    punch.Badge(fmt.Sprintf("em:%010X", i%len(Roster))),
			Employee: Roster[i%len(Roster)],
			Reader:   "front",
			Outcome:  punch.Stored,
			Stamp:    punch.Stamp{Wall: begin.Add(time.Duration(i) * 7 * time.Minute), Clock: punch.Synced},
		}
		ps = append(ps, p)
	}
	return ps
}

// send is Send, with what must hold of every error.
func (b *bench) send(ctx context.Context, batch []punch.Punch) ([]punch.Verdict, error) {
	verdicts, err := b.dest.Send(ctx, slices.Clone(batch))
	if err != nil {
		for _, s := range b.wire.secrets() {
			if strings.Contains(err.Error(), s) {
				b.errorf("an error holds a secret or a token: %v", err)
			}
		}
	}
	for _, v := range verdicts {
		for _, s := range b.wire.secrets() {
			if strings.Contains(v.Message+v.Reason+v.Receipt, s) {
				b.errorf("a verdict holds a secret or a token: %+v", v)
			}
		}
	}
	return verdicts, err
}

// honest checks verdicts against the ledger; kind also that none gives up a punch.
func (b *bench) honest(batch []punch.Punch, verdicts []punch.Verdict, kind bool) {
	held := b.far.Ledger()
	seen := make(map[punch.ID]bool)
	for _, v := range verdicts {
		i := slices.IndexFunc(batch, func(p punch.Punch) bool { return p.ID == v.ID })
		switch {
		case i < 0:
			b.errorf("a verdict about %s, which was not offered", v.ID)
			continue
		case seen[v.ID]:
			b.errorf("two verdicts about %s", v.ID)
		case v.Fate == punch.Accept && !slices.Contains(held, b.far.Key(batch[i])):
			b.errorf("punch %s is accepted, the ledger does not hold it", v.ID)
		case kind && (v.Fate == punch.Refuse || v.Fate == punch.Skip):
			b.errorf("punch %s is %v (%s) for a fault that is not its own", v.ID, v.Fate, v.Reason)
		}
		seen[v.ID] = true
	}
}

// denied checks that a person is called for the credentials.
func (b *bench) denied(err error) {
	var d *token.Denied
	switch {
	case !errors.As(err, &d):
		b.errorf("error %v, want *token.Denied inside", err)
	case d.State != token.AuthFailed:
		b.errorf("state %q, want %q", d.State, token.AuthFailed)
	case d.Hint == "":
		b.errorf("the error does not say what to do: %v", err)
	}
}

// deliver sends until every punch has a verdict, waiting between, and returns them.
func (b *bench) deliver(batch []punch.Punch) map[punch.ID]punch.Verdict {
	fates := make(map[punch.ID]punch.Verdict)
	left := slices.Clone(batch)
	var last error
	for range 20 {
		verdicts, err := b.send(context.Background(), left)
		b.honest(left, verdicts, false)
		for _, v := range verdicts {
			if v.Fate != punch.Keep {
				fates[v.ID] = v
			}
		}
		left = slices.DeleteFunc(left, func(p punch.Punch) bool { _, ok := fates[p.ID]; return ok })
		if len(left) == 0 {
			return fates
		}
		last = err
		time.Sleep(16 * time.Minute)
	}
	b.errorf("%d punches of %d were never delivered: %v", len(left), len(batch), last)
	return fates
}

// arrived checks that the ledger holds each of the batch, once.
func (b *bench) arrived(batch []punch.Punch) {
	held := b.far.Ledger()
	for _, p := range batch {
		n := 0
		for _, k := range held {
			if k == b.far.Key(p) {
				n++
			}
		}
		if n == 0 || n > 1 && !b.h.AtLeastOnce {
			b.errorf("punch %s is %d times in the ledger, want once", p.ID, n)
		}
	}
}

// wire is what the destination believes to be the network.
type wire struct {
	*bench
	fault  func(w *wire, token bool, r *http.Request) (*http.Response, error) // nil: none
	before func(token bool)                                                   // before a call is passed on

	mu    sync.Mutex
	calls []call
	known []string
}

// call is what was asked for.
type call struct {
	token       bool
	method, url string
	body        []byte
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if strings.HasSuffix(r.URL.Hostname(), "elsewhere.invalid") {
		w.errorf("a redirect was followed to %s", r.URL.Host)
		return answer(r, 404, "text/plain", "no"), nil
	}
	isToken := w.far.Token != nil && w.far.Token(r)
	w.mu.Lock()
	w.calls = append(w.calls, call{isToken, r.Method, r.URL.String(), body})
	w.mu.Unlock()
	if f := strings.Fields(r.Header.Get("Authorization")); len(f) > 0 {
		w.learn(f[len(f)-1])
		if len(f) == 1 && !isToken {
			w.errorf("a call with punches carries an empty token")
		}
	}
	if w.before != nil {
		w.before(isToken)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if w.fault != nil {
		if resp, err := w.fault(w, isToken, r); resp != nil || err != nil {
			return resp, err
		}
	}
	return w.far.Wire.RoundTrip(r)
}

// asked returns the calls so far, those for tokens or those with punches.
func (w *wire) asked(token bool) []call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.calls), func(c call) bool { return c.token != token })
}

// learn adds a text that no error may hold.
func (w *wire) learn(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(s) >= 4 && !slices.Contains(w.known, s) {
		w.known = append(w.known, s)
	}
}

func (w *wire) secrets() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.known)
}

// fault is one thing that a network does.
type fault struct {
	name    string
	token   bool // it hits the token calls, not those with punches
	reaches bool // calls with punches are made in spite of it
	person  bool // the destination may call a person for it
	commit  func(w *wire, token bool, r *http.Request) (*http.Response, error)
}

// page is what a portal shows to everybody.
const page = "<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in to the guest network. success ok 200</body></html>"

func faults() []fault {
	html, json := "text/html; charset=utf-8", "application/json"
	var fs []fault
	for _, tok := range []bool{false, true} {
		add := func(name string, person bool, commit func(w *wire, token bool, r *http.Request) (*http.Response, error)) {
			if tok {
				name += "AtTheToken"
			}
			fs = append(fs, fault{name, tok, !tok, person, commit})
		}
		add("NoConnection", false, hit(tok, func(w *wire, r *http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}))
		add("ADroppedAnswer", false, hit(tok, func(w *wire, r *http.Request) (*http.Response, error) {
			if resp, err := w.far.Wire.RoundTrip(r); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			return nil, fmt.Errorf("read tcp: %w", syscall.ECONNRESET)
		}))
		add("HalfAnAnswer", false, hit(tok, func(w *wire, r *http.Request) (*http.Response, error) {
			resp, err := w.far.Wire.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(b[:len(b)/2]), broken{}))
			return resp, nil
		}))
		for _, a := range []struct {
			name   string
			status int
			kind   string
			body   string
		}{
			{"APortalsPage", 200, html, page},
			{"APortalsPageThatClaimsToBeJSON", 200, json, page},
			{"AnEmptyAnswer", 200, json, ""},
			{"AnEmptyObject", 200, json, "{}"},
			{"Null", 200, json, "null"},
			{"AnEmptyList", 200, json, "[]"},
			{"ANumber", 200, json, "0"},
			{"AServerError", 503, html, "<html>temporarily unavailable</html>"},
			{"AServerErrorInJSON", 500, json, `{"error":"internal"}`},
			{"ABadGateway", 502, "text/plain", "bad gateway"},
		} {
			add(a.name, false, hit(tok, func(w *wire, r *http.Request) (*http.Response, error) {
				return answer(r, a.status, a.kind, a.body), nil
			}))
		}
		for _, status := range []int{301, 302, 303, 307, 308} {
			add(fmt.Sprintf("Redirect%d", status), true, hit(tok, func(w *wire, r *http.Request) (*http.Response, error) {
				resp := answer(r, status, html, page)
				resp.Header.Set("Location", "https://portal.elsewhere.invalid/login?from=clock")
				return resp, nil
			}))
		}
		add("AnEndlessAnswer", false, hit(tok, func(w *wire, r *http.Request) (*http.Response, error) {
			resp := answer(r, 200, json, "")
			resp.ContentLength = -1
			resp.Body = io.NopCloser(&endless{w: w})
			return resp, nil
		}))
		add("NoAnswer", false, hang(tok))
	}
	return fs
}

// hit lets a fault hit only one sort of call.
func hit(token bool, f func(w *wire, r *http.Request) (*http.Response, error)) func(*wire, bool, *http.Request) (*http.Response, error) {
	return func(w *wire, isToken bool, r *http.Request) (*http.Response, error) {
		if isToken != token {
			return nil, nil
		}
		return f(w, r)
	}
}

// hang passes a call on, and the answer never comes.
func hang(token bool) func(*wire, bool, *http.Request) (*http.Response, error) {
	return hit(token, func(w *wire, r *http.Request) (*http.Response, error) {
		if resp, err := w.far.Wire.RoundTrip(r.WithContext(context.WithoutCancel(r.Context()))); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		select {
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-time.After(24 * time.Hour):
			w.errorf("a call without an answer was waited for through a whole day")
			return nil, errors.New("a day went by")
		}
	})
}

func answer(r *http.Request, status int, kind, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {kind}},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       r,
	}
}

// broken is a connection that goes down in the middle of an answer.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// endless is an answer without an end.
type endless struct {
	w *wire
	n int
}

// endlessMost is more than any answer may need.
const endlessMost = 8 << 20

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	if e.n += len(p); e.n > endlessMost {
		e.w.errorf("an endless answer was read beyond %d bytes", endlessMost)
		return 0, io.EOF
	}
	return len(p), nil
}
