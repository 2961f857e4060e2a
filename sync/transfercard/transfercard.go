// Package transfercard delivers punches to 104 企業大師 (Pro HRM, a cloud HR system
// in Taiwan) by its transferCard call, or by transferTpCard for a clock vendor's
// account that serves several companies. It is not for 104 HR Max, another product
// with another contract.
//
// # The call
//
// A token comes from an OAuth2 token endpoint (client credentials, scope prohrm).
// Punches go out as a JSON array of
//
//	{"empNo":"000123","cardTime":1766448000000}
//
// empNo is the employee number as HR registered it, text with its leading zeros.
// cardTime is the instant of the punch in milliseconds since 1970, UTC, thirteen
// digits. There is no direction, no place and no id: 104 derives 上班 and 下班 from
// the shift and the order of the day's punches, and recognises a resend only by
// equal number and time. So the same punch is the same bytes, whenever it is sent.
//
// # HTTP 200 does not mean taken
//
// The reply counts success, ignore and fail and names the ignored and failed
// records by an idx of which the vendor does not say whether it starts at 0 or 1,
// and of which fewer may be named than counted. The rule is: do not guess. An idx
// of 0 proves base 0, an idx equal to the number of records proves base 1, and what
// is proven is remembered. Wherever the base is unknown, details are missing, or
// counts do not add up, the records are sent again one by one, and each single
// reply is the truth. A reply that is not JSON or has no whole number in success
// comes from a portal or a proxy: an outage.
//
// Record results are texts. 重複 (a duplicate) in any of them is delivered:
// 104 has the punch. Any other is a refusal of that one record.
//
// # What a reply to the call means
//
//	200                 read as above
//	400                 split in two and sent again, until the bad record stands alone
//	400, code 490, 491  company closed, or has not agreed: a person must act
//	401                 new token, sent again once; then a person must act
//	403, 404, 405       a person must act
//	408, 425, 429       told to wait, with Retry-After where it is given
//	413                 calls of half the size from now on
//	other               outage; after a broken connection the result is unknown
//	                    and the identical records are sent again
//
// A 400 whose body is a web page is not 104's answer (104's carries code and msg)
// and counts as an outage, lest a portal park a day of punches. transferTpCard's
// code 492 (no data) cannot come, because empty calls are not made; if it does,
// nothing is dropped and a person must look. A single record whose counts say
// nothing clear, five times, is parked so that the ones behind it go on.
package transfercard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// AuthStyle is how the client id and secret travel to the token endpoint.
type AuthStyle string

// The two styles in real use.
const (
	Basic AuthStyle = "basic" // in the Authorization header
	Body  AuthStyle = "body"  // as form fields
)

// Config is what a Client is made of. APIBase, TokenURL, ClientID, Secret, HTTP and
// Log are required.
type Config struct {
	APIBase  string // https://apis.104api.com.tw/prohrm/1.0
	TokenURL string // https://apis.104api.com.tw/oauth2/token
	ClientID string
	// Secret reads the client secret afresh. It is called for each token that is
	// asked for; white space around the secret is cut off.
	Secret func() (string, error)
	HTTP   *http.Client // of drain.NewClient; it must not follow redirects
	Log    *slog.Logger

	Auth         AuthStyle           // "" is Basic
	Early        time.Duration       // renew a token so long before its end; 0 is 5 minutes
	Batch        int                 // most records in a call, 1 to 500; 0 is 50
	IdxBase      IdxBase             // "" is Auto
	EmpNoPad     int                 // left-pad numbers of digits with zeros to this width; 0 sends them untouched
	UNO          string              // tax id of the company, up to 8 digits: use transferTpCard; "" is transferCard
	UNOText      bool                // send the tax id as a string; else a number, unless it begins with 0
	TokenObserve func(result string) // hears of every token call: ok, denied, error; may be nil
}

const (
	defaultBatch = 50
	maxBatch     = 500
	defaultEarly = 5 * time.Minute

	minCardTime = 1_500_000_000_000 // milliseconds; below it somebody sent seconds, or the clock was not set
	maxCardTime = 9_999_999_999_999 // thirteen digits

	unclearLimit = 5    // unclear answers about a single record before it is parked
	unclearKept  = 1024 // records with such answers that are remembered
)

// Client is one 104 account. Its methods may be called by several goroutines at
// once; what one Send learns of the far side the others know.
type Client struct {
	cfg     Config
	url     string
	tokens  *token.Cache
	uno     json.RawMessage // as it goes out, nil for transferCard
	unoText string          // eight digits

	mu      sync.Mutex
	size    int              // records per call, halved by 413
	base    int64            // of idx, unproven until proven or configured
	unclear map[punch.ID]int // single records with unclear answers, how many
	told    bool             // one by one was logged
}

var (
	_ drain.Destination = (*Client)(nil)
	_ drain.Resetter    = (*Client)(nil)
)

// New returns a Client. It makes no call. The error says which setting is wrong and
// what to write instead.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, base: unproven, unclear: map[punch.ID]int{}}
	for _, u := range []struct{ name, value string }{{"api_base", cfg.APIBase}, {"token_url", cfg.TokenURL}} {
		p, err := url.Parse(u.value)
		if err != nil || p.Scheme != "https" && p.Scheme != "http" || p.Host == "" || p.RawQuery != "" || p.User != nil {
			return nil, fmt.Errorf("transfercard: %s is not a web address: write it like https://apis.104api.com.tw/…", u.name)
		}
	}
	switch {
	case cfg.ClientID == "":
		return nil, errors.New("transfercard: client_id is missing: write the id that 104 gave you")
	case cfg.Secret == nil || cfg.HTTP == nil || cfg.Log == nil:
		return nil, errors.New("transfercard: Secret, HTTP and Log are required")
	case cfg.Batch < 0 || cfg.Batch > maxBatch:
		return nil, fmt.Errorf("transfercard: batch %d: use 1 to %d", cfg.Batch, maxBatch)
	case cfg.EmpNoPad < 0 || cfg.EmpNoPad > 32:
		return nil, fmt.Errorf("transfercard: emp_no_pad %d: use 0 (off) to 32", cfg.EmpNoPad)
	case cfg.Early < 0:
		return nil, fmt.Errorf("transfercard: a token cannot be renewed %v before its end: use 5m", cfg.Early)
	}
	if c.size = cfg.Batch; c.size == 0 {
		c.size = defaultBatch
	}
	if c.cfg.Early == 0 {
		c.cfg.Early = defaultEarly
	}
	switch c.cfg.Auth {
	case "":
		c.cfg.Auth = Basic
	case Basic, Body:
	default:
		return nil, fmt.Errorf("transfercard: auth %q: use basic or body", cfg.Auth)
	}
	switch cfg.IdxBase {
	case "", Auto:
	case Zero:
		c.base = 0
	case One:
		c.base = 1
	default:
		return nil, fmt.Errorf("transfercard: idx_base %q: use auto, 0 or 1", cfg.IdxBase)
	}
	c.url = strings.TrimRight(cfg.APIBase, "/") + "/hrmapi/external/transferCard"
	if cfg.UNO != "" {
		if len(cfg.UNO) > 8 || strings.Trim(cfg.UNO, "0123456789") != "" {
			return nil, errors.New("transfercard: uno is not a tax id: write its eight digits")
		}
		c.url = strings.TrimRight(cfg.APIBase, "/") + "/hrmapi/external/transferTpCard"
		c.unoText = padUNO(cfg.UNO)
		// A JSON number cannot begin with 0.
		if cfg.UNOText || c.unoText[0] == '0' {
			c.uno = json.RawMessage(`"` + c.unoText + `"`)
		} else {
			c.uno = json.RawMessage(c.unoText)
		}
	}
	c.tokens = token.NewCache(c.fetch, token.Options{Early: c.cfg.Early, Observe: cfg.TokenObserve})
	return c, nil
}

// Reset implements [drain.Resetter]: it forgets the token and any refusal of it, and
// the next Send reads the secret and asks for a token at once.
func (c *Client) Reset() { c.tokens.Reset() }

// Check asks 104 for a token, unless there is one that is still good, and reports
// what Send would meet. It sends no punch. It is a call like any other: it waits for
// the ceiling, and a person must act on a *token.Denied in its error.
func (c *Client) Check(ctx context.Context) error {
	_, err := c.tokens.Get(ctx)
	return err
}

// record is one punch as it goes out.
type record struct {
	id       punch.ID
	EmpNo    string `json:"empNo"`
	CardTime int64  `json:"cardTime"`
}

// record prepares a punch, or gives the verdict that needs no call.
func (c *Client) record(p *punch.Punch) (record, *punch.Verdict) {
	no := func(r result) (record, *punch.Verdict) {
		return record{}, &punch.Verdict{ID: p.ID, Fate: r.fate, Reason: r.reason, Message: r.message}
	}
	r := record{id: p.ID, EmpNo: p.Employee, CardTime: p.Time().UnixMilli()}
	switch {
	case strings.TrimSpace(r.EmpNo) == "":
		return no(refuse(reasonBlank, "the punch has no employee number; not sent"))
	case !utf8.ValidString(r.EmpNo):
		return no(refuse(reasonInvalid, "the employee number is not text in UTF-8; not sent"))
	case r.CardTime < minCardTime || r.CardTime > maxCardTime:
		return no(refuse(reasonTime, "the time of the punch is not thirteen digits of milliseconds after July 2017; not sent"))
	}
	if n := c.cfg.EmpNoPad - len(r.EmpNo); n > 0 && strings.Trim(r.EmpNo, "0123456789") == "" {
		r.EmpNo = strings.Repeat("0", n) + r.EmpNo
	}
	return r, nil
}

// encode makes the body of a call; the same records make the same bytes.
func (c *Client) encode(rs []record) ([]byte, error) {
	var v any = rs
	if c.uno != nil {
		v = []struct {
			UNO      json.RawMessage `json:"uno"`
			CardData []record        `json:"cardData"`
		}{{c.uno, rs}}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("transfercard: encode punches: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Send implements [drain.Destination]. One Send makes as many calls as it takes to
// learn each punch's fate; where it is cut in the middle it returns what is known
// beside the error.
func (c *Client) Send(ctx context.Context, batch []punch.Punch) ([]punch.Verdict, error) {
	s := sending{c: c, ctx: ctx}
	rs := make([]record, 0, len(batch))
	for i := range batch {
		r, v := c.record(&batch[i])
		if v != nil {
			s.verdicts = append(s.verdicts, *v)
			continue
		}
		rs = append(rs, r)
	}
	err := s.offer(rs)
	if err == nil {
		err = s.later
	}
	return s.verdicts, err
}

// sending is one Send.
type sending struct {
	c        *Client
	ctx      context.Context
	verdicts []punch.Verdict
	later    error // of records that stay, while the others went on
}

func (s *sending) settle(r record, res result, resent bool) {
	s.c.mu.Lock()
	delete(s.c.unclear, r.id)
	s.c.mu.Unlock()
	s.verdicts = append(s.verdicts, punch.Verdict{
		ID: r.id, Fate: res.fate, Reason: res.reason, Message: res.message, Resent: resent,
	})
}

// maybe keeps records that 104 may have taken.
func (s *sending) maybe(rs ...record) {
	for _, r := range rs {
		s.verdicts = append(s.verdicts, punch.Verdict{ID: r.id, Resent: true})
	}
}

// offer sends records in order, in calls no larger than 104 takes. An error ends
// the Send.
func (s *sending) offer(rs []record) error {
	for len(rs) > 0 {
		part := rs[:min(len(rs), s.c.most())]
		err := s.one(part)
		if errors.Is(err, errTooLarge) && len(part) > 1 {
			s.c.shrink(len(part) / 2)
			continue
		}
		if err != nil {
			return err
		}
		rs = rs[len(part):]
	}
	return nil
}

// one makes one call with all of rs and acts on the answer.
func (s *sending) one(rs []record) error {
	got, err := s.c.call(s.ctx, rs)
	var bad *badRequest
	switch {
	case errors.As(err, &bad) && len(rs) > 1:
		if err := s.offer(rs[:len(rs)/2]); err != nil {
			return err
		}
		return s.offer(rs[len(rs)/2:])
	case errors.As(err, &bad):
		s.settle(rs[0], refuse(reason400, bad.code+" "+bad.msg), false)
		return nil
	case err != nil:
		return err
	}
	return s.read(rs, got)
}

// read applies a reply with counts.
func (s *sending) read(rs []record, got counts) error {
	base := s.c.learn(&got, len(rs))
	if got.all(len(rs)) {
		for _, r := range rs {
			s.settle(r, result{fate: punch.Accept}, false)
		}
		return nil
	}
	if len(rs) == 1 {
		s.single(rs[0], got, false)
		return nil
	}
	if base != unproven {
		if results, ok := got.attribute(len(rs), base); ok {
			for i, r := range rs {
				s.settle(r, results[i], false)
			}
			return nil
		}
	}
	// Which record is meant is not known: each one's own reply is the truth.
	s.c.tellOneByOne(len(rs))
	for i := range rs {
		got, err := s.c.call(s.ctx, rs[i:i+1])
		var bad *badRequest
		switch {
		case errors.As(err, &bad):
			s.settle(rs[i], refuse(reason400, bad.code+" "+bad.msg), true)
		case err != nil:
			s.maybe(rs[i:]...) // the call with all of them was answered
			return err
		default:
			s.c.learn(&got, 1)
			s.single(rs[i], got, true)
		}
	}
	return nil
}

// single applies the reply to a call with one record.
func (s *sending) single(r record, got counts, resent bool) {
	if res, ok := got.single(); ok {
		s.settle(r, res, resent)
		return
	}
	const what = "the counts of a call with one punch do not add up to one"
	if s.c.stillUnclear(r.id) {
		s.maybe(r)
		s.later = errors.New("transfercard: " + what)
		return
	}
	s.settle(r, refuse(reasonUnclear, what), resent)
}

// most is how many records go into one call.
func (c *Client) most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// shrink remembers that calls must be smaller.
func (c *Client) shrink(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < c.size {
		c.size = n
		c.cfg.Log.Warn("104 finds the calls too large, sending smaller ones", "records", n)
	}
}

// learn returns the base of idx after this reply to n records, unproven if nobody
// knows. A reply that proves the other base than the one that was proven before
// unsettles it: nothing is known then, until the next proof.
func (c *Client) learn(got *counts, n int) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg.IdxBase == Zero || c.cfg.IdxBase == One {
		return c.base
	}
	p := got.proof(n)
	switch {
	case p == unproven || p == c.base:
	case c.base != unproven:
		c.cfg.Log.Warn("104 counts records from another number than before", "was", c.base)
		c.base = unproven
	default:
		c.base = p
		c.cfg.Log.Info("learned from which number 104 counts records", "idx_base", p)
	}
	return c.base
}

func (c *Client) tellOneByOne(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.told {
		c.told = true
		c.cfg.Log.Info("104's answer does not say which records are meant, sending them one by one; said once", "records", n)
	}
}

// stillUnclear counts an unclear answer and reports whether to try again.
func (c *Client) stillUnclear(id punch.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unclear) >= unclearKept {
		clear(c.unclear)
	}
	c.unclear[id]++
	return c.unclear[id] < unclearLimit
}
