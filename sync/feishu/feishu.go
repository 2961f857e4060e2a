// Package feishu delivers punches to Feishu attendance (飞书考勤), or Lark outside
// mainland China, by importing them as flows. Feishu computes the attendance.
//
// # The calls
//
// A tenant token comes from tenant_access_token/internal with app id and secret.
// Asked while half an hour or more of its life remains, Feishu hands out the same
// token again, so it is renewed later than that. Flows go to
// user_flows/batch_create, at most 50 a call, as
//
//	{"flow_records":[{"user_id":"A0123","creator_id":"A0123","location_name":"Door 1",
//	 "check_time":"1766448000","comment":"上班",
//	 "external_id":"door-1-000000000042","idempotent_id":"door-1-000000000042"}]}
//
// check_time is the instant of the punch in whole seconds since 1970, ten digits as
// text, rounded down. The kind the person chose is only in comment; Feishu derives
// in and out from the shift. idempotent_id is the punch's id: without it Feishu
// stores a resent punch twice. The same punch is the same bytes, whenever it is sent.
//
// What Feishu holds is read back with user_flows/query, fifty people a call, to
// compare it with the log; see [Client.Held].
//
// # The code decides
//
// Replies are JSON with a code, and the code decides, whatever the HTTP status: a
// refused token is HTTP 400, a wrong secret HTTP 200. Code 0 with a 2xx is the only
// success. The status counts only where there is no code, and then nobody at Feishu
// has spoken, except for the text page of a wrong path. The tables are in reply.go.
//
//   - A refused token is replaced and the same bytes are sent again, once. If the
//     same token comes back, or the new one is refused, a person must act.
//   - A permanent error means that at least one record is bad, and no list says
//     which: the call is split in two and sent again, until the bad one stands
//     alone. Only that one is refused.
//   - "the object already exists" for a single record is delivered: it was stored by
//     an earlier call whose answer was lost.
//   - "no row affected" may pass: after five tries the call is split, and a single
//     record is parked.
//   - The system error 1225000 may be Feishu's own trouble or one record that makes
//     it fall over. After three tries the call is split. A single record that fails
//     is parked once Feishu has taken another one since: while it takes nothing at
//     all, this is an outage, and an outage never costs a punch.
//   - The rate limit's waiting time stops the whole destination.
//   - A used-up monthly quota is probed once an hour, whoever asks.
//
// # Why not the official SDK
//
// It sends a refused token again without fetching another, ignores the rate limit's
// waiting time, shares its token cache between base addresses, and its root package
// does not build for 32-bit boards. Two calls are less work than its workarounds.
package feishu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// EmployeeType says by which id Feishu knows a person.
type EmployeeType string

// The two kinds of id.
const (
	EmployeeNo EmployeeType = "employee_no" // 工号, the number on the badge list
	EmployeeID EmployeeType = "employee_id" // the user id of the admin console, the roster's feishu_id
)

// Config is what a Client is made of. BaseURL, AppID, Secret, HTTP, Log and Location
// are required, and People where EmployeeType is EmployeeID.
type Config struct {
	BaseURL string // https://open.feishu.cn, or https://open.larksuite.com
	AppID   string
	// Secret reads the app secret afresh. It is called for each token that is asked
	// for; white space around the secret is cut off.
	Secret   func() (string, error)
	HTTP     *http.Client // of drain.NewClient; it must not follow redirects
	Log      *slog.Logger
	Location string // location_name: the device's name

	EmployeeType EmployeeType // "" is EmployeeNo
	// People finds who had an employee number at a moment, for the FeishuID.
	People       func(number string, at time.Time) (punch.Employee, bool)
	CreatorID    string              // creator_id, in the kind of EmployeeType; "" is the person who punched
	FieldOut     bool                // send is_field (outside the office) with 外出
	Early        time.Duration       // renew a token so long before its end, below 30 minutes; 0 is 10 minutes
	Batch        int                 // most records in a call, 1 to 50; 0 is 50
	TokenObserve func(result string) // hears of every token call: ok, denied, error; may be nil
}

const (
	tokenPath  = "/open-apis/auth/v3/tenant_access_token/internal"
	importPath = "/open-apis/attendance/v1/user_flows/batch_create"

	maxBatch     = 50
	defaultEarly = 10 * time.Minute
	sameToken    = 30 * time.Minute // with this much life left Feishu hands out the same token

	minCheckTime = 1640966400 // seconds: 2022-01-01 +08:00, the first that may be imported
	maxCheckTime = 9999999999 // seconds: ten digits

	noRowTries  = 5
	systemTries = 3
	systemRow   = 10        // system errors in a row, nothing taken in between, after which a Send gives up
	triesKept   = 1024      // punches whose tries are remembered
	quotaProbe  = time.Hour // between calls while the quota is used up
	busyMost    = 10 * time.Minute
	minToken    = 8       // bytes of a token that is hidden
	maxReply    = 1 << 20 // bytes of an answer; the longest true one repeats 50 records
)

// Client is one Feishu app. Its methods may be called by several goroutines at once;
// what one Send learns of Feishu the others know.
type Client struct {
	cfg    Config
	url    string
	tokens *token.Cache

	mu     sync.Mutex
	size   int // records per call
	tries  map[punch.ID]tries
	takes  uint64 // calls in which Feishu took something
	quota  error  // the denial that is repeated until quiet
	quiet  time.Time
	logged int64 // code whose log_id was logged last
}

// tries are the answers about one punch that are counted.
type tries struct {
	noRow, system uint8
	takes         uint64 // Client.takes at the first system error
}

var (
	_ drain.Destination = (*Client)(nil)
	_ drain.Resetter    = (*Client)(nil)
)

// New returns a Client. It makes no call. The error says which setting is wrong and
// what to write instead.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("feishu: base_url is not a web address: use https://open.feishu.cn or https://open.larksuite.com")
	}
	if cfg.EmployeeType == "" {
		cfg.EmployeeType = EmployeeNo
	}
	if cfg.Early == 0 {
		cfg.Early = defaultEarly
	}
	if cfg.Batch == 0 {
		cfg.Batch = maxBatch
	}
	switch {
	case cfg.AppID == "":
		return nil, errors.New("feishu: app_id is missing: write the App ID of the custom app, it begins with cli_")
	case cfg.Secret == nil || cfg.HTTP == nil || cfg.Log == nil:
		return nil, errors.New("feishu: Secret, HTTP and Log are required")
	case strings.TrimSpace(cfg.Location) == "" || !utf8.ValidString(cfg.Location):
		return nil, errors.New("feishu: the device has no name that Feishu could show as the place: set name in [device]")
	case cfg.EmployeeType != EmployeeNo && cfg.EmployeeType != EmployeeID:
		return nil, fmt.Errorf("feishu: employee_type %q: use employee_no or employee_id", cfg.EmployeeType)
	case cfg.EmployeeType == EmployeeID && cfg.People == nil:
		return nil, errors.New("feishu: People is required with employee_type employee_id")
	case !utf8.ValidString(cfg.CreatorID):
		return nil, errors.New("feishu: creator_id is not text in UTF-8")
	case cfg.Batch < 0 || cfg.Batch > maxBatch:
		return nil, fmt.Errorf("feishu: batch %d: use 1 to %d", cfg.Batch, maxBatch)
	case cfg.Early < 0 || cfg.Early >= sameToken:
		return nil, fmt.Errorf("feishu: a token cannot be renewed %v before its end: use less than 30m, Feishu would hand out the same one", cfg.Early)
	}
	c := &Client{
		cfg: cfg, size: cfg.Batch, tries: map[punch.ID]tries{},
		url: strings.TrimRight(cfg.BaseURL, "/") + importPath + "?employee_type=" + string(cfg.EmployeeType),
	}
	c.tokens = token.NewCache(c.fetch, token.Options{Early: cfg.Early, Observe: cfg.TokenObserve})
	return c, nil
}

// Reset implements [drain.Resetter]: it forgets the token and any refusal of it, and
// the next Send reads the secret and asks for a token at once. A used-up quota is
// not forgotten: trying more often does not bring it back.
func (c *Client) Reset() { c.tokens.Reset() }

// Check asks Feishu for a token, unless there is one that is still good, and reports
// what Send would meet. It sends no punch. It is a call like any other: it waits for
// the ceiling, and a person must act on a *token.Denied in its error.
func (c *Client) Check(ctx context.Context) error {
	_, err := c.tokens.Get(ctx)
	return err
}

// record is one punch as it goes out.
type record struct {
	id           punch.ID
	UserID       string `json:"user_id"`
	CreatorID    string `json:"creator_id"`
	LocationName string `json:"location_name"`
	CheckTime    string `json:"check_time"`
	Comment      string `json:"comment"`
	IsField      bool   `json:"is_field,omitempty"`
	ExternalID   string `json:"external_id"`
	IdempotentID string `json:"idempotent_id"`
}

// record prepares a punch, or says why it cannot be sent.
func (c *Client) record(p *punch.Punch) (r record, reason, message string) {
	user := p.Employee
	if strings.TrimSpace(user) == "" {
		return r, reasonBlank, "the punch has no employee number; not sent"
	}
	if c.cfg.EmployeeType == EmployeeID {
		e, ok := c.cfg.People(p.Employee, p.Decided())
		if !ok || strings.TrimSpace(e.FeishuID) == "" {
			return r, reasonNoID, "the roster has no feishu_id for this employee; add it and put the punch back; not sent"
		}
		user = e.FeishuID
	}
	if !utf8.ValidString(user) {
		return r, reasonInvalid, "the employee's id is not text in UTF-8; not sent"
	}
	ms := p.Time().UnixMilli()
	if ms < minCheckTime*1000 || ms/1000 > maxCheckTime {
		return r, reasonTime, "the time of the punch is not after 2022-01-01, the first that Feishu takes; not sent"
	}
	r = record{
		id: p.ID, UserID: user, CreatorID: user, LocationName: c.cfg.Location,
		CheckTime: strconv.FormatInt(ms/1000, 10), Comment: p.Kind.Chinese(),
		IsField:    c.cfg.FieldOut && p.Kind == punch.GoOut,
		ExternalID: string(p.ID), IdempotentID: string(p.ID),
	}
	if c.cfg.CreatorID != "" {
		r.CreatorID = c.cfg.CreatorID
	}
	if r.Comment == "" {
		r.Comment = "打卡" // Feishu wants a remark; a punch without a kind is still a punch
	}
	return r, "", ""
}

// encode makes the body of a call; the same records make the same bytes.
func encode(rs []record) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		FlowRecords []record `json:"flow_records"`
	}{rs})
	if err != nil {
		return nil, fmt.Errorf("feishu: encode punches: %w", err)
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
		r, reason, message := c.record(&batch[i])
		if reason != "" {
			s.verdicts = append(s.verdicts, punch.Verdict{
				ID: batch[i].ID, Fate: punch.Refuse, Reason: reason, Message: message})
			continue
		}
		rs = append(rs, r)
	}
	err := s.offer(rs)
	s.park()
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
	later    error    // of records that stay, while the others go on
	alone    []single // records that made a system error by themselves
	row      int      // system errors in a row
}

type single struct {
	record
	message string
	err     error
}

func (s *sending) settle(r record, v punch.Verdict) {
	s.c.mu.Lock()
	delete(s.c.tries, r.id)
	s.c.mu.Unlock()
	v.ID = r.id
	s.verdicts = append(s.verdicts, v)
}

func (s *sending) refuse(r record, reason, message string) {
	s.settle(r, punch.Verdict{Fate: punch.Refuse, Reason: reason, Message: message})
}

// offer sends records in order, in calls no larger than Feishu takes. An error ends
// the Send.
func (s *sending) offer(rs []record) error {
	for len(rs) > 0 {
		part := rs[:min(len(rs), s.c.most())]
		if err := s.one(part); err != nil {
			return err
		}
		rs = rs[len(part):]
	}
	return nil
}

func (s *sending) split(rs []record) error {
	if err := s.offer(rs[:len(rs)/2]); err != nil {
		return err
	}
	return s.offer(rs[len(rs)/2:])
}

// one makes one call with all of rs and acts on the answer.
func (s *sending) one(rs []record) error {
	a, err := s.c.call(s.ctx, rs)
	if err != nil {
		return err
	}
	message := punch.Words(strconv.FormatInt(a.reply.code, 10) + " " + a.reply.msg)
	if a.action == taken || a.action == exists && len(rs) == 1 {
		s.c.took()
		s.row = 0
	}
	switch a.action {
	case taken:
		receipts := a.reply.receipts(rs)
		for i, r := range rs {
			s.settle(r, punch.Verdict{Fate: punch.Accept, Receipt: receipts[i]})
		}
		return nil
	case exists:
		if len(rs) > 1 {
			return s.split(rs)
		}
		s.settle(rs[0], punch.Verdict{Fate: punch.Accept})
		return nil
	case permanent:
		if len(rs) > 1 {
			return s.split(rs)
		}
		s.refuse(rs[0], a.reason, message)
		return nil
	case tooMany:
		if len(rs) == 1 {
			return a.err()
		}
		s.c.shrink(len(rs) / 2)
		return s.offer(rs)
	case noRow:
		n := s.c.count(rs, func(t *tries) uint8 { t.noRow = inc(t.noRow); return t.noRow })
		switch {
		case n < noRowTries:
			s.later = a.err()
			return nil
		case len(rs) > 1:
			return s.split(rs)
		}
		s.refuse(rs[0], reasonNoRow, message)
		return nil
	case system:
		n := s.c.count(rs, func(t *tries) uint8 {
			if t.system == 0 {
				t.takes = s.c.takes
			}
			t.system = inc(t.system)
			return t.system
		})
		s.row++
		switch {
		case s.row >= systemRow:
			return a.err()
		case n < systemTries:
			s.maybe(rs...)
			s.later = a.err()
			return nil
		case len(rs) > 1:
			return s.split(rs)
		}
		s.alone = append(s.alone, single{rs[0], message, a.err()})
		return nil
	}
	return a.err()
}

// park decides on the records that made a system error by themselves: Feishu has
// taken another one since, so it is the record; or it has not, so it is Feishu.
func (s *sending) park() {
	for _, r := range s.alone {
		if s.c.tookSince(r.id) {
			s.refuse(r.record, reasonSystem, r.message)
		} else {
			s.maybe(r.record)
			s.later = r.err
		}
	}
}

// maybe keeps records that Feishu may have taken.
func (s *sending) maybe(rs ...record) {
	for _, r := range rs {
		s.verdicts = append(s.verdicts, punch.Verdict{ID: r.id, Resent: true})
	}
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
		c.cfg.Log.Warn("feishu finds the calls too large, sending smaller ones", "records", n)
	}
}

// took counts a call in which Feishu took something.
func (c *Client) took() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takes++
}

// tookSince reports whether Feishu took anything since the punch's first system error.
func (c *Client) tookSince(id punch.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.takes > c.tries[id].takes
}

// count adds to the tries of every record and returns the most that any of them has.
func (c *Client) count(rs []record, add func(*tries) uint8) (most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tries) > triesKept {
		clear(c.tries) // punches that were settled elsewhere; the others start anew
	}
	for _, r := range rs {
		t := c.tries[r.id]
		most = max(most, int(add(&t)))
		c.tries[r.id] = t
	}
	return most
}

func inc(n uint8) uint8 { return min(n, 254) + 1 }

// receipts finds each record's id at Feishu, "" where the reply holds none: that is
// no failure.
func (r *reply) receipts(rs []record) []string {
	out := make([]string, len(rs))
	by := map[text]string{}
	keyed := false
	for _, f := range r.flows {
		for _, k := range []text{f.IdempotentID, f.ExternalID} {
			if k != "" {
				by[k], keyed = punch.Words(string(f.RecordID)), true
			}
		}
	}
	for i := range rs {
		if keyed {
			out[i] = by[text(rs[i].id)]
		} else if len(r.flows) == len(rs) {
			out[i] = punch.Words(string(r.flows[i].RecordID))
		}
	}
	return out
}

// answer is one call's answer and what it asks for.
type answer struct {
	ruling
	status int
	header http.Header
	reply  reply
	body   []byte
	cut    error  // the body did not come to its end
	call   string // what was being done
}

func (a *answer) err() error {
	err := a.ruling.err(a.call, a.status, &a.reply)
	if a.cut != nil {
		err = fmt.Errorf("feishu: %s: the answer (HTTP %d) broke off: %w", a.call, a.status, a.cut)
	}
	if a.action == busy {
		return &drain.Busy{After: a.wait(), Err: err}
	}
	return err
}

// wait is what the rate limit's headers ask for, 0 where they are missing or no
// numbers; the waiting side adds its own.
func (a *answer) wait() time.Duration {
	after := drain.RetryAfter(a.header, time.Now())
	if n, err := strconv.ParseUint(strings.TrimSpace(a.header.Get("x-ogw-ratelimit-reset")), 10, 64); err == nil {
		after = max(after, time.Duration(min(n, uint64(busyMost/time.Second)))*time.Second)
	}
	return after
}

// call imports records. The error is fit to be returned by Send; without one the
// answer's action is about the records.
func (c *Client) call(ctx context.Context, rs []record) (*answer, error) {
	body, err := encode(rs)
	if err != nil {
		return nil, err
	}
	return c.exchange(ctx, "import punches", c.url, body, maxReply)
}

// exchange makes one call with a token, twice if the token is refused. An error says
// that nothing was learned; without one the answer's action is about the content.
func (c *Client) exchange(ctx context.Context, what, to string, body []byte, most int64) (*answer, error) {
	if err := c.usedUp(); err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		tok, err := c.tokens.Get(ctx)
		if err != nil {
			return nil, fmt.Errorf("feishu: get a token: %w", err)
		}
		a, err := c.post(ctx, what, to, tok, body, most)
		if err != nil {
			return nil, err
		}
		a.ruling = a.reply.judge(a.status)
		c.tell(a)
		switch a.action {
		case refusedToken:
			c.tokens.Forget(tok)
			if again {
				a.action, a.state = denied, token.AuthFailed
				a.hint = "Feishu refuses a token that it has just given out: check in the developer console that the app is enabled, published and approved for this company"
				return nil, a.err()
			}
		case denied:
			err := a.err()
			if a.reply.code == codeQuota {
				c.mu.Lock()
				c.quota, c.quiet = err, time.Now().Add(quotaProbe)
				c.mu.Unlock()
			}
			return nil, err
		case busy, outage:
			return nil, a.err()
		default:
			return a, nil
		}
	}
}

// usedUp is the denial of a quota that was used up less than an hour ago.
func (c *Client) usedUp() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quota != nil && time.Now().Before(c.quiet) {
		return c.quota
	}
	return nil
}

// tell logs Feishu's own name for a refused call, which their support asks for, once
// per kind of refusal.
func (c *Client) tell(a *answer) {
	c.mu.Lock()
	known := a.reply.code == c.logged
	c.logged = a.reply.code
	c.mu.Unlock()
	if known {
		return
	}
	if a.reply.logID != "" {
		c.cfg.Log.Info("feishu refused a call", "code", a.reply.code, "http", a.status, "log_id", a.reply.logID)
	}
}

// post makes one call. The error is of the network: nothing is known of the outcome.
func (c *Client) post(ctx context.Context, call, to, tok string, body []byte, most int64) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("feishu: %s: %w", call, err)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if tok != "" {
		req.Header.Set("Authorization", "Bearer "+tok)
	}
	resp, err := drain.Do(c.cfg.HTTP, req)
	if err != nil {
		return nil, fmt.Errorf("feishu: %s: %w", call, err)
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, call: call}
	a.body, a.cut = drain.ReadBody(resp, most)
	// An answer that repeats it must not carry it into a message. A shorter one than any
	// that is given out could be part of the answer's own words.
	if len(tok) >= minToken {
		a.body = bytes.ReplaceAll(a.body, []byte(tok), []byte("…"))
	}
	if a.cut == nil {
		a.reply = parseReply(a.body)
	}
	return a, nil
}

// fetch asks for a token; the cache calls it, one at a time.
func (c *Client) fetch(ctx context.Context) (token.Token, error) {
	secret, err := token.Secret(c.cfg.Secret, "feishu", "app secret", "of the Feishu developer console", "app_secret_file")
	if err != nil {
		return token.Token{}, err
	}
	body, err := json.Marshal(struct {
		ID     string `json:"app_id"`
		Secret string `json:"app_secret"`
	}{c.cfg.AppID, secret})
	if err != nil {
		return token.Token{}, fmt.Errorf("feishu: get a token: %w", err)
	}
	a, err := c.post(ctx, "token call", strings.TrimRight(c.cfg.BaseURL, "/")+tokenPath, "", body, maxReply)
	if err != nil {
		return token.Token{}, err
	}
	a.ruling = a.reply.judgeToken(a.status)
	if a.action != taken {
		return token.Token{}, a.err()
	}
	t, err := parseToken(a.body)
	if err != nil {
		return token.Token{}, fmt.Errorf("feishu: token call: %w", err)
	}
	return token.Token{Value: t.value, Life: time.Duration(t.seconds) * time.Second}, nil
}
