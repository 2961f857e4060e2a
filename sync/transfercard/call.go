package transfercard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// maxReply is the longest answer that is read, in bytes. The longest true one names
// 500 records with a text each.
const maxReply = 1 << 20

const minToken = 8 // bytes of a token that is hidden

// errTooLarge is a 413 to more than one record.
var errTooLarge = errors.New("transfercard: 104 finds the call too large")

// badRequest is a 400 in 104's own words.
type badRequest struct{ code, msg string }

func (b *badRequest) Error() string { return "transfercard: 104 refused the call (HTTP 400)" }

// call posts records and returns what 104 counted. The error is a *badRequest,
// errTooLarge, or fit to be returned by Send.
func (c *Client) call(ctx context.Context, rs []record) (counts, error) {
	body, err := c.encode(rs)
	if err != nil {
		return counts{}, err
	}
	a, err := c.authorised(ctx, body)
	if err != nil {
		return counts{}, err
	}
	switch a.status {
	case http.StatusOK:
		return c.counted(a, len(rs))
	case http.StatusBadRequest:
		if a.cut != nil {
			return counts{}, a.outage()
		}
		if b := bytes.TrimLeft(a.body, " \t\r\n"); len(b) > 0 && b[0] == '<' {
			return counts{}, errors.New("transfercard: post punches: a web page with HTTP 400 is not 104's answer; is a portal or proxy in between?")
		}
		code, msg := parseProblem(a.body)
		if d := companyDenied(code); d != nil {
			return counts{}, d
		}
		return counts{}, &badRequest{code: code, msg: msg}
	case http.StatusForbidden:
		return counts{}, &token.Denied{State: token.AuthFailed,
			Hint: "ask 104 to give this client the right to write punches (transferCard) for your company",
			Err:  errors.New("transfercard: post punches: no permission (HTTP 403)")}
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return counts{}, &token.Denied{State: token.Misconfigured,
			Hint: "set api_base to https://apis.104api.com.tw/prohrm/1.0, with nothing behind it",
			Err:  fmt.Errorf("transfercard: post punches: no such address (HTTP %d)", a.status)}
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return counts{}, a.busy("post punches")
	case http.StatusRequestEntityTooLarge:
		if len(rs) > 1 {
			return counts{}, errTooLarge
		}
		return counts{}, &token.Denied{State: token.Misconfigured,
			Hint: "a single punch is a hundred bytes: look for a proxy between this clock and 104 that limits uploads",
			Err:  errors.New("transfercard: post punches: one punch is called too large (HTTP 413)")}
	}
	return counts{}, a.outage()
}

// counted reads a 200.
func (c *Client) counted(a *answer, n int) (counts, error) {
	if a.cut != nil {
		return counts{}, a.outage()
	}
	if c.uno == nil {
		got, err := parseCounts(a.body)
		if err != nil {
			return counts{}, fmt.Errorf("transfercard: post punches: %w", err)
		}
		return got, nil
	}
	r, err := parseTp(a.body, c.unoText)
	if err != nil {
		return counts{}, fmt.Errorf("transfercard: post punches: %w", err)
	}
	switch r.code {
	case "200":
		if r.err != nil {
			return counts{}, fmt.Errorf("transfercard: post punches: %w", r.err)
		}
		return r.counts, nil
	case "490", "491":
		return counts{}, companyDenied(r.code)
	case "492":
		return counts{}, &token.Denied{State: token.Misconfigured,
			Hint: "nothing is lost; report this to the maker of this program, with the time of this message",
			Err:  fmt.Errorf("transfercard: post punches: 104 found no data in a call with %d punches (code 492)", n)}
	case "493":
		return counts{}, errors.New("transfercard: post punches: 104 had an unexpected error (code 493)")
	}
	return counts{}, errors.New("transfercard: post punches: 104 answered for our company with a code this program does not know")
}

// companyDenied returns the denial of code 490 or 491, nil for any other code.
func companyDenied(code string) error {
	switch code {
	case "490":
		return &token.Denied{State: token.AuthFailed,
			Hint: "104 says that the company's account is closed or its payment overdue: have HR settle it with 104",
			Err:  errors.New("transfercard: post punches: company closed or payment overdue (code 490)")}
	case "491":
		return &token.Denied{State: token.AuthFailed,
			Hint: "have HR agree, in the company's 104 console, to the use of this clock",
			Err:  errors.New("transfercard: post punches: the company has not agreed to the use (code 491)")}
	}
	return nil
}

// authorised posts with a token; a refused token is replaced and the same bytes are
// sent again, once.
func (c *Client) authorised(ctx context.Context, body []byte) (*answer, error) {
	for again := false; ; again = true {
		tok, err := c.tokens.Get(ctx)
		if err != nil {
			return nil, fmt.Errorf("transfercard: get a token: %w", err)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("transfercard: post punches: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+tok)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json")
		a, err := c.do(req)
		if err != nil {
			return nil, fmt.Errorf("transfercard: post punches: %w", err)
		}
		// An answer that repeats the token must not carry it into a message. A shorter one
		// than any that is given out could be part of the answer's own words.
		if len(tok) >= minToken {
			a.body = bytes.ReplaceAll(a.body, []byte(tok), []byte("…"))
		}
		if a.status != http.StatusUnauthorized {
			return a, nil
		}
		c.tokens.Forget(tok)
		if again {
			return nil, &token.Denied{State: token.AuthFailed,
				Hint: "ask 104 whether client_id may still write punches for your company (scope prohrm)",
				Err:  errors.New("transfercard: post punches: 104 refuses a token that it has just given out (HTTP 401)")}
		}
	}
}

// answer is a reply whose head has come; cut is set where its body did not.
type answer struct {
	status int
	header http.Header
	body   []byte
	cut    error
}

// do makes one call. The error is of the network: nothing is known of the outcome.
func (c *Client) do(req *http.Request) (*answer, error) {
	resp, err := drain.Do(c.cfg.HTTP, req)
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, header: resp.Header}
	a.body, a.cut = drain.ReadBody(resp, maxReply)
	return a, nil
}

func (a *answer) outage() error {
	if a.cut != nil {
		return fmt.Errorf("transfercard: post punches: the answer (HTTP %d) broke off: %w", a.status, a.cut)
	}
	return fmt.Errorf("transfercard: post punches: HTTP %d", a.status)
}

func (a *answer) busy(what string) error {
	return &drain.Busy{After: drain.RetryAfter(a.header, time.Now()), Err: fmt.Errorf("transfercard: %s: HTTP %d", what, a.status)}
}

// fetch asks for a token; the cache calls it, one at a time.
func (c *Client) fetch(ctx context.Context) (token.Token, error) {
	secret, err := token.Secret(c.cfg.Secret, "transfercard", "client secret", "that 104 gave you", "client_secret_file")
	if err != nil {
		return token.Token{}, err
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"prohrm"}}
	if c.cfg.Auth == Body {
		form.Set("client_id", c.cfg.ClientID)
		form.Set("client_secret", secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return token.Token{}, fmt.Errorf("transfercard: token call: %w", err)
	}
	if c.cfg.Auth == Basic {
		req.SetBasicAuth(c.cfg.ClientID, secret)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	a, err := c.do(req)
	if err != nil {
		return token.Token{}, fmt.Errorf("transfercard: token call: %w", err)
	}
	switch a.status {
	case http.StatusOK:
		if a.cut != nil {
			return token.Token{}, fmt.Errorf("transfercard: token call: the answer broke off: %w", a.cut)
		}
		t, err := parseToken(a.body)
		if err != nil {
			return token.Token{}, fmt.Errorf("transfercard: token call: %w", err)
		}
		return token.Token{Value: t.value, Life: time.Duration(t.seconds) * time.Second}, nil
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		word := oauthError(a.body)
		return token.Token{}, &token.Denied{State: token.AuthFailed, Hint: tokenHint(word),
			Err: fmt.Errorf("transfercard: token call: refused (HTTP %d %s)", a.status, word)}
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return token.Token{}, &token.Denied{State: token.Misconfigured,
			Hint: "set token_url to https://apis.104api.com.tw/oauth2/token",
			Err:  fmt.Errorf("transfercard: token call: no such address (HTTP %d)", a.status)}
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return token.Token{}, a.busy("token call")
	}
	return token.Token{}, fmt.Errorf("transfercard: token call: HTTP %d", a.status)
}

// tokenHint says what to do about an RFC 6749 error word.
func tokenHint(word string) string {
	switch word {
	case "invalid_scope":
		return "ask 104 to open the scope prohrm (企業大師) for this client_id"
	case "unsupported_grant_type", "unauthorized_client":
		return "ask 104 to open client credentials for this client_id"
	case "invalid_request":
		return "set auth_style to the other one of basic and body; 104 did not understand how the client id and secret were sent"
	}
	return "compare client_id with what 104 gave you and put the current secret into client_secret_file; it is read again by itself"
}
