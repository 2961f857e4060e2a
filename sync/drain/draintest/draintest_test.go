package draintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// office is a far side with a language of its own.
type office struct {
	mu      sync.Mutex
	tokens  map[string]bool
	issued  int
	limited int
	ledger  []string
}

const officeSecret = "office-secret-41a9"

type officeAnswer struct {
	Taken   []string `json:"taken"`
	Refused []string `json:"refused"`
}

func (o *office) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.URL.Path == "/token" {
		secret, _ := io.ReadAll(r.Body)
		if string(secret) != officeSecret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		o.issued++
		t := fmt.Sprintf("office-token-%d", o.issued)
		o.tokens[t] = true
		fmt.Fprintf(w, `{"token":%q}`, t)
		return
	}
	if !o.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if o.limited > 0 {
		o.limited--
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	var lines []string
	if json.NewDecoder(r.Body).Decode(&lines) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var a officeAnswer
	for _, l := range lines {
		id, who, _ := strings.Cut(l, " ")
		if who, _, _ = strings.Cut(who, " "); !slices.Contains(Roster, who) {
			a.Refused = append(a.Refused, id)
			continue
		}
		if !slices.Contains(o.ledger, id) {
			o.ledger = append(o.ledger, id)
		}
		a.Taken = append(a.Taken, id)
	}
	json.NewEncoder(w).Encode(a)
}

// clerk is a destination for the office, right unless told how to be wrong.
type clerk struct {
	client *http.Client
	cache  *token.Cache
	secret string
	wrong  string
}

func (c *clerk) Reset() { c.cache.Reset() }

func (c *clerk) ask(ctx context.Context, path, bearer string, body []byte) (int, []byte, http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, "POST", "https://office.invalid"+path+"?site=7", bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := drain.Do(c.client, r)
	if err != nil {
		return 0, nil, nil, err
	}
	most := int64(1 << 20)
	if c.wrong == "reads without end" {
		most = 1 << 30
	}
	b, err := drain.ReadBody(resp, most)
	return resp.StatusCode, b, resp.Header, err
}

func (c *clerk) fetch(ctx context.Context) (token.Token, error) {
	status, b, _, err := c.ask(ctx, "/token", "", []byte(c.secret))
	if err != nil {
		if c.wrong == "tells the secret" {
			err = fmt.Errorf("token for %s: %w", c.secret, err)
		}
		return token.Token{}, err
	}
	if status == http.StatusUnauthorized {
		if c.wrong == "takes a wrong secret for an outage" {
			return token.Token{}, errors.New("status 401")
		}
		return token.Token{}, &token.Denied{State: token.AuthFailed, Hint: "check the secret", Err: errors.New("status 401")}
	}
	var a struct{ Token string }
	if status != http.StatusOK || json.Unmarshal(b, &a) != nil {
		return token.Token{}, fmt.Errorf("token: status %d, not understood", status)
	}
	return token.Token{Value: a.Token, Life: time.Hour}, nil
}

func (c *clerk) Send(ctx context.Context, batch []punch.Punch) ([]punch.Verdict, error) {
	var lines []string
	for _, p := range batch {
		l := fmt.Sprintf("%s %s %s", p.ID, p.Employee, p.Time().UTC().Format(time.RFC3339Nano))
		if c.wrong == "writes the time of sending" {
			l += " " + time.Now().String()
		}
		lines = append(lines, l)
	}
	body, err := json.Marshal(lines)
	if err != nil {
		return nil, err
	}
	all := func(f punch.Fate, reason string) (vs []punch.Verdict) {
		for _, p := range batch {
			vs = append(vs, punch.Verdict{ID: p.ID, Fate: f, Reason: reason})
		}
		return vs
	}
	for range 2 {
		t, err := c.cache.Get(ctx)
		if err != nil {
			return nil, err
		}
		status, b, h, err := c.ask(ctx, "/punches", t, body)
		if err != nil {
			if c.wrong == "accepts what was not answered" {
				return all(punch.Accept, ""), nil
			}
			return nil, err
		}
		switch {
		case status == http.StatusUnauthorized && c.wrong == "keeps a refused token":
			return nil, errors.New("status 401")
		case status == http.StatusUnauthorized && c.wrong == "asks for tokens without end":
			c.cache.Reset()
			continue
		case status == http.StatusUnauthorized:
			c.cache.Forget(t)
			continue
		case status == http.StatusTooManyRequests && c.wrong == "does not hear that it is too fast":
			return nil, errors.New("status 429")
		case status == http.StatusTooManyRequests:
			return nil, &drain.Busy{After: drain.RetryAfter(h, time.Now()), Err: errors.New("status 429")}
		case status != http.StatusOK && c.wrong == "gives up at a server error":
			return all(punch.Refuse, "server"), nil
		case status == http.StatusOK && c.wrong == "trusts status 200":
			return all(punch.Accept, ""), nil
		case status != http.StatusOK:
			return nil, fmt.Errorf("status %d", status)
		}
		var a officeAnswer
		if err := json.Unmarshal(b, &a); err != nil {
			return nil, errors.New("the answer is not understood")
		}
		if c.wrong == "lets one bad record stop all" && len(a.Refused) > 0 {
			return nil, errors.New("refused")
		}
		var vs []punch.Verdict
		for _, p := range batch {
			switch {
			case slices.Contains(a.Taken, string(p.ID)):
				vs = append(vs, punch.Verdict{ID: p.ID, Fate: punch.Accept})
			case slices.Contains(a.Refused, string(p.ID)):
				vs = append(vs, punch.Verdict{ID: p.ID, Fate: punch.Refuse, Reason: "unknown_user"})
			}
		}
		return vs, nil
	}
	return nil, &token.Denied{State: token.AuthFailed, Hint: "check the permissions", Err: errors.New("status 401 with a fresh token")}
}

// inMemory calls a handler without a socket.
type inMemory struct{ http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	m.ServeHTTP(w, r)
	return w.Result(), nil
}

func officeHarness(wrong string) Harness {
	return Harness{New: func(t *testing.T) FarSide {
		o := &office{tokens: make(map[string]bool)}
		return FarSide{
			Wire: inMemory{o},
			Open: func(wire http.RoundTripper, secret string) (drain.Destination, error) {
				client, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(25), Transport: wire})
				if err != nil {
					return nil, err
				}
				if wrong == "follows redirects" {
					client.CheckRedirect = nil
				}
				c := &clerk{client: client, secret: secret, wrong: wrong}
				c.cache = token.NewCache(c.fetch, token.Options{Early: 5 * time.Minute})
				return c, nil
			},
			Secret: officeSecret,
			Ledger: func() []string {
				o.mu.Lock()
				defer o.mu.Unlock()
				return slices.Clone(o.ledger)
			},
			Key:   func(p punch.Punch) string { return string(p.ID) },
			Token: func(r *http.Request) bool { return r.URL.Path == "/token" },
			Revoke: func() {
				o.mu.Lock()
				defer o.mu.Unlock()
				clear(o.tokens)
			},
			Limit: func(n int) time.Duration {
				o.mu.Lock()
				defer o.mu.Unlock()
				o.limited = n
				return 7 * time.Second
			},
		}
	}}
}

func TestARightDestinationPassesTheSuite(t *testing.T) { Run(t, officeHarness("")) }

func TestTheSuiteFailsEveryWrongDestination(t *testing.T) {
	for wrong, want := range map[string]string{
		"tells the secret":                   "NothingIsLostByNoConnectionAtTheToken",
		"takes a wrong secret for an outage": "WrongSecretCallsAPersonAndKeepsEveryPunch",
		"writes the time of sending":         "NothingIsLostByADroppedAnswer",
		"accepts what was not answered":      "NothingIsLostByNoConnection",
		"keeps a refused token":              "RevokedTokenIsReplacedWithinTheSend",
		"asks for tokens without end":        "TokenRefusedForEverCallsAPersonAndAsksForOneAMinute",
		"does not hear that it is too fast":  "TooManyCallsMeansBusy",
		"gives up at a server error":         "NothingIsLostByAServerError",
		"trusts status 200":                  "NothingIsLostByAPortalsPage",
		"lets one bad record stop all":       "OneBadRecordIsRefusedAndTheOthersArrive",
		"follows redirects":                  "NothingIsLostByRedirect307",
		"reads without end":                  "NothingIsLostByAnEndlessAnswer",
	} {
		t.Run(wrong, func(t *testing.T) {
			i := slices.IndexFunc(cases(), func(c testcase) bool { return c.name == want })
			if i < 0 {
				t.Fatalf("no case %s", want)
			}
			synctest.Test(t, func(t *testing.T) {
				found := cases()[i].try(t, officeHarness(wrong))
				if len(found) == 0 {
					t.Errorf("a destination that %s passes %s", wrong, want)
				}
				t.Log(found)
			})
		})
	}
}
