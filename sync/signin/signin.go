// Package signin delivers punches to an in-house web punch system (線上打卡系統).
// It is the only far side that is told the status the person chose.
//
// # The calls
//
// An account logs in with user_id and password and is given a token and a group_id.
// With the token each punch goes out in a call of its own, one at a time, in order:
//
//	POST /api/public/signin
//	{"user_id":"11542","group_id":"svc-clock","sign_date":"2022-10-19 10:23:54+08","status":"上班"}
//
// There is no batch and no key: offer few punches at a time, since those of a Send
// that a power cut interrupts go out again.
//
// user_id is the roster's signin_id, or the employee number of a person who has
// none. group_id is what the login returned. sign_date is the instant of the punch
// in Taiwan's fixed zone, whatever the device's is, for the form has no room for a
// zone's minutes; fractions of a second are dropped. status is one of 上班, 下班,
// 外出, 外歸. The same punch is the same bytes, whenever it is sent (but for a token in
// the body); that it arrives again should do no harm, since the system shows the first
// and the last time of a status and day.
//
// [Client.Today], [Client.Records] and [Client.Held] are for technicians and for
// comparing; delivery depends on none of them. [Client.Logout] is for when the clock
// stops or another account takes this one's place, so that no session is left behind.
// Whether it ends the sessions of other clocks with the same account is not known; if
// it does, each of them logs in again with its next call and sends the same bytes.
//
// A badge has no password. So the mode is off, or service_account: one account
// punches for everybody, if the system allows that. Off, nothing is sent, and every
// punch is skipped for good: what was skipped does not go out when the mode is
// changed later, because nobody promised those punches to this system.
//
// # A password is tried once
//
// The passwords are those of a directory that locks an account after a few bad ones.
// A login that the system refuses is therefore never repeated by itself: not by the
// slow probe, not when the worker begins anew, not when the file is written again
// with the same content. What was refused is remembered (as a keyed hash, in memory
// only), and every further attempt is answered from memory, without a call, until
// the secret reads otherwise or a person says so: see [Client.Insist]. That covers
// every 401, whatever its code, and a 400 or 403 in the system's own words.
//
// # Tokens
//
// A token's life is exp − iat of the JWT, counted on the monotonic clock; exp is
// never compared with this device's clock, and the signature is not our business. It
// is counted from when the login was sent, a round trip earlier than its receipt.
// What is no JWT lives 600 s. A new login is made when 60 s or a quarter of the life
// remain, whichever is less. There is no other way to refresh.
//
// # Answers
//
// Success is HTTP 2xx with code "00", a text; a failure's code is a number. The
// table is in reply.go. What is not obvious:
//
//   - 401 means the token: log in again once, send the same bytes once more, then
//     call a person. Except that 40101, "user unknown or not approved", may be about
//     the employee. Then today's punches of the account itself are asked for with the
//     same token: if that is answered, the token is good and the punch is refused as
//     user_not_approved, and those behind it go on.
//   - 200 without code "00" comes from an exception over there: an outage, but after
//     five such answers about one punch it is parked, and those behind it go on.
//   - Two keys of the page's samples are twice in an object, and some samples have
//     commas before a closing bracket. The first is read and ignored. The second is
//     an outage, unless Tolerant says to strip them.
//
// Every answer carries the system's time, which Config.Clock hears of: whoever owns
// this device's clock compares.
package signin

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// Mode says who logs in.
type Mode string

// The modes.
const (
	Off            Mode = "off"             // nothing is sent, every punch is skipped
	ServiceAccount Mode = "service_account" // one account punches for everybody
)

// GroupID says what goes out as group_id, whose meaning is not known.
type GroupID string

// The choices.
const (
	GroupOfLogin GroupID = "login" // what the login returned, the account's user_id if it returned none
	GroupOfUser  GroupID = "user"  // the same as user_id
)

// Paths are the operations' paths below BaseURL. An empty one is the default.
type Paths struct {
	Login   string // /api/public/user/login
	Logout  string // /api/public/user/logout
	Punch   string // /api/public/signin
	Today   string // /api/public/signin
	Records string // /api/public/signinDetail
}

// DefaultPaths are those of an earlier version of the system.
func DefaultPaths() Paths {
	return Paths{Login: "/api/public/user/login", Logout: "/api/public/user/logout",
		Punch: "/api/public/signin", Today: "/api/public/signin", Records: "/api/public/signinDetail"}
}

// Config is what a Client is made of. Where Mode is Off nothing else is needed;
// else BaseURL, UserID, Secret, HTTP and Log are required.
type Config struct {
	Mode    Mode // "" is Off
	BaseURL string
	Paths   Paths
	UserID  string // the account that logs in
	// Secret reads the account's password afresh, for each login that may be made;
	// white space around it is cut off.
	Secret func() (string, error)
	HTTP   *http.Client // of drain.NewClient; it must not follow redirects
	Log    *slog.Logger

	// TokenTransport is how a call carries the token: bearer, header:<Name>,
	// body:token_key (in the query of a GET) or none, where the account logs in all
	// the same; "" is bearer.
	TokenTransport string
	GroupID        GroupID // "" is GroupOfLogin
	Tolerant       bool    // read answers with commas before closing brackets
	// People finds who had an employee number at a moment, for the SigninID; nil is nobody.
	People       func(number string, at time.Time) (punch.Employee, bool)
	TokenObserve func(result string) // hears of every login that was made: ok, denied, error; may be nil
	// Clock hears the system's time, whole seconds, from every answer that tells it;
	// may be nil. It comes from a time server or the database, not from the machine
	// that writes the Date header.
	Clock func(server time.Time)
}

const (
	bearer     = "bearer"
	inBody     = "body:token_key"
	inHeader   = "header:"
	noCarrier  = "none"
	oddTries   = 5
	maxReply   = 1 << 20 // bytes of an answer; the longest true one lists a period's punches
	yearMin    = 1
	yearMax    = 9999
	minHidden  = 4 // a shorter secret is not looked for in the system's words: it would be found everywhere
	pathPunch  = "punch_path"
	pathToday  = "today_path"
	pathRecord = "records_path"
)

// Client is one account of one sign-in system. Its methods may be called by several
// goroutines at once.
type Client struct {
	cfg    Config
	base   string
	header string // for the token, "" for none
	tokens *token.Cache
	key    [32]byte // of the hash of a refused password

	mu      sync.Mutex
	refused *refusal
	group   string           // of the last login
	hidden  []string         // password and token of the last login: what no text of ours may hold
	last    string           // the last login's token, "" once logged out
	odds    map[punch.ID]int // punches without a verdict that had odd answers, how many
}

// refusal is a login that must not be made again.
type refusal struct {
	hash [32]byte
	err  error
}

var (
	_ drain.Destination = (*Client)(nil)
	_ drain.Resetter    = (*Client)(nil)
	_ drain.Insister    = (*Client)(nil)
)

// CheckTransport says whether s can be a TokenTransport.
func CheckTransport(s string) error {
	name, ok := strings.CutPrefix(s, inHeader)
	switch {
	case s == bearer, s == inBody, s == noCarrier:
		return nil
	case !ok:
		return errors.New("use bearer, header:<Name>, body:token_key or none")
	case name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "":
		return errors.New("a header's name is letters, digits and dashes, for example header:X-Token")
	case slices.Contains([]string{"Content-Type", "Content-Length", "Host", "Connection", "Transfer-Encoding"}, textproto.CanonicalMIMEHeaderKey(name)):
		return errors.New("that header has a meaning of its own")
	}
	return nil
}

// New returns a Client. It makes no call. The error says which setting is wrong and
// what to write instead.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, odds: map[punch.ID]int{}}
	switch cfg.Mode {
	case "", Off:
		c.cfg.Mode = Off
		return c, nil
	case ServiceAccount:
	default:
		return nil, fmt.Errorf("signin: mode %q: use off or service_account", cfg.Mode)
	}
	if c.cfg.TokenTransport == "" {
		c.cfg.TokenTransport = bearer
	}
	if c.cfg.GroupID == "" {
		c.cfg.GroupID = GroupOfLogin
	}
	paths, defaults := &c.cfg.Paths, DefaultPaths()
	for _, p := range []struct {
		setting  string
		path     *string
		standard string
	}{{"login_path", &paths.Login, defaults.Login}, {"logout_path", &paths.Logout, defaults.Logout}, {pathPunch, &paths.Punch, defaults.Punch},
		{pathToday, &paths.Today, defaults.Today}, {pathRecord, &paths.Records, defaults.Records}} {
		if *p.path == "" {
			*p.path = p.standard
		}
		if err := CheckPath(*p.path); err != nil {
			return nil, fmt.Errorf("signin: %s: %w", p.setting, err)
		}
	}
	u, err := url.Parse(cfg.BaseURL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("signin: base_url is not a web address: write for example https://signin.example.com")
	case strings.TrimSpace(cfg.UserID) == "" || !utf8.ValidString(cfg.UserID):
		return nil, errors.New("signin: user_id is missing: write the account that logs in")
	case cfg.Secret == nil || cfg.HTTP == nil || cfg.Log == nil:
		return nil, errors.New("signin: Secret, HTTP and Log are required")
	case c.cfg.GroupID != GroupOfLogin && c.cfg.GroupID != GroupOfUser:
		return nil, fmt.Errorf("signin: group_id %q: use login or user", cfg.GroupID)
	}
	if err := CheckTransport(c.cfg.TokenTransport); err != nil {
		return nil, fmt.Errorf("signin: token_transport %q: %w", cfg.TokenTransport, err)
	}
	switch name, ok := strings.CutPrefix(c.cfg.TokenTransport, inHeader); {
	case ok:
		c.header = name
	case c.cfg.TokenTransport == bearer:
		c.header = "Authorization"
	}
	if c.cfg.TokenObserve == nil {
		c.cfg.TokenObserve = func(string) {}
	}
	if c.cfg.Clock == nil {
		c.cfg.Clock = func(time.Time) {}
	}
	c.base = strings.TrimRight(cfg.BaseURL, "/")
	rand.Read(c.key[:]) // never fails
	c.tokens = token.NewCache(c.login, token.Options{})
	return c, nil
}

// CheckPath says whether s can be one of the Paths.
func CheckPath(s string) error {
	if u, err := url.Parse(s); err != nil || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || u.RawQuery != "" || strings.ContainsAny(s, "?# ") {
		return fmt.Errorf("%q is not a path: write for example %s", s, DefaultPaths().Punch)
	}
	return nil
}

// Reset implements [drain.Resetter]: it forgets the token and any refusal of it. A
// refused password is not forgotten: it goes out again when the secret reads
// otherwise, or after Insist.
func (c *Client) Reset() {
	if c.cfg.Mode != Off {
		c.tokens.Reset()
	}
}

// Insist implements [drain.Insister]: a person wants it tried, so the next login is
// made, once, even with a password that was refused.
func (c *Client) Insist() {
	c.mu.Lock()
	c.refused = nil
	c.mu.Unlock()
	c.Reset()
}

// Check logs in, unless there is a token that is still good, and reports what Send
// would meet; nil where the mode is off. It sends no punch. A refused password counts
// as a try over there, and is not tried again by this Client; a new one does not know
// of it.
func (c *Client) Check(ctx context.Context) error {
	if c.cfg.Mode == Off {
		return nil
	}
	_, err := c.tokens.Get(ctx)
	return err
}

// login asks for a token; the cache calls it, one at a time.
func (c *Client) login(ctx context.Context) (token.Token, error) {
	secret, err := token.Secret(c.cfg.Secret, "signin", "password", "of the account user_id", "password_file")
	if err != nil {
		return token.Token{}, err
	}
	if !utf8.ValidString(secret) {
		return token.Token{}, &token.Denied{State: token.Misconfigured, Hint: "save password_file as UTF-8",
			Err: errors.New("signin: the password is not text in UTF-8")}
	}
	h := hmac.New(sha256.New, c.key[:])
	h.Write([]byte(secret))
	hash := [32]byte(h.Sum(nil))
	c.mu.Lock()
	known := c.refused
	c.hidden = []string{secret, c.last}
	c.mu.Unlock()
	if known != nil && known.hash == hash {
		return token.Token{}, known.err
	}

	body, err := encode(struct {
		UserID   string `json:"user_id"`
		Password string `json:"password"`
	}{c.cfg.UserID, secret})
	if err != nil {
		return token.Token{}, err
	}
	t, err := c.logIn(ctx, body, hash)
	var d *token.Denied
	switch {
	case err == nil:
		c.cfg.TokenObserve("ok")
	case errors.As(err, &d):
		c.cfg.TokenObserve("denied")
	default:
		c.cfg.TokenObserve("error")
	}
	return t, err
}

// logIn makes the call and remembers what came of it.
func (c *Client) logIn(ctx context.Context, body []byte, hash [32]byte) (token.Token, error) {
	a, err := c.call(ctx, "login", http.MethodPost, c.cfg.Paths.Login, nil, body, "")
	if err != nil {
		return token.Token{}, err
	}
	a.ruling = a.reply.judgeLogin(a.status)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch a.action {
	case badSecret:
		c.refused = &refusal{hash, a.errLocked()}
		return token.Token{}, c.refused.err
	case taken:
	default:
		return token.Token{}, a.errLocked()
	}
	s, ok := parseLogin(a.reply.data)
	if !ok {
		return token.Token{}, errors.New("signin: login: the answer holds no token_key that a call could carry")
	}
	c.refused = nil
	c.group, c.last = s.group, s.token.Value
	if c.group == "" || !utf8.ValidString(c.group) {
		c.group = c.cfg.UserID
	}
	c.hidden = append(c.hidden, s.token.Value)
	return s.token, nil
}

// record is one punch as it goes out.
type record struct {
	UserID   string `json:"user_id"`
	GroupID  string `json:"group_id"`
	SignDate string `json:"sign_date"`
	Status   string `json:"status"`
	TokenKey string `json:"token_key,omitempty"`
}

// record prepares a punch, or says why it cannot be sent.
func (c *Client) record(p *punch.Punch) (r record, reason, message string) {
	user := c.userID(p.Employee, p.Decided())
	at := p.Time().In(taiwan)
	switch {
	case strings.TrimSpace(user) == "":
		return r, reasonBlank, "the punch has no employee number; not sent"
	case !utf8.ValidString(user):
		return r, reasonInvalid, "the employee's id is not text in UTF-8; not sent"
	case !p.Kind.Valid():
		return r, reasonKind, "the punch is none of 上班, 下班, 外出 and 外歸; not sent"
	case at.Year() < yearMin || at.Year() > yearMax:
		return r, reasonTime, "the year of the punch has no four digits; not sent"
	}
	return record{UserID: user, SignDate: at.Format(signLayout), Status: p.Kind.Chinese()}, "", ""
}

// encode makes the body of a call; the same values make the same bytes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("signin: encode a call: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Send implements [drain.Destination]. Each punch is a call. Where it is cut in the
// middle it returns what is known beside the error.
func (c *Client) Send(ctx context.Context, batch []punch.Punch) ([]punch.Verdict, error) {
	verdicts := make([]punch.Verdict, 0, len(batch))
	for i := range batch {
		v := punch.Verdict{Fate: punch.Skip}
		if c.cfg.Mode != Off {
			var err error
			if v, err = c.send(ctx, &batch[i]); err != nil {
				return verdicts, err
			}
		}
		v.ID = batch[i].ID
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}

// send delivers one punch.
func (c *Client) send(ctx context.Context, p *punch.Punch) (punch.Verdict, error) {
	refuse := func(reason, message string) (punch.Verdict, error) {
		return punch.Verdict{Fate: punch.Refuse, Reason: reason, Message: message}, nil
	}
	r, reason, message := c.record(p)
	if reason != "" {
		return refuse(reason, message)
	}
	a, err := c.authorised(ctx, "add a punch", http.MethodPost, c.cfg.Paths.Punch, pathPunch, nil, func(tok, group string) any {
		if r.GroupID == "" { // the first login's also for a second one: the same bytes
			if r.GroupID = group; c.cfg.GroupID == GroupOfUser {
				r.GroupID = r.UserID
			}
		}
		r.TokenKey = tok
		return r
	})
	if err != nil {
		return punch.Verdict{}, err
	}
	switch a.action {
	case taken, exists:
		c.mu.Lock()
		delete(c.odds, p.ID)
		c.mu.Unlock()
		return punch.Verdict{Fate: punch.Accept}, nil
	case noToken: // a good one: it is about the person
		return refuse(reasonNotApproved, punch.Words(c.hide(a.reply.words())))
	case refused:
		return refuse(reason400, punch.Words(reason400+" "+c.hide(a.reply.words())))
	case odd:
		if c.oddEnough(p.ID) {
			return refuse(reasonOdd, punch.Words(fmt.Sprintf("HTTP %d %s", a.status, c.hide(a.reply.words()))))
		}
	}
	return punch.Verdict{}, a.err()
}

// oddEnough counts an odd answer about a punch and reports whether to give it up.
func (c *Client) oddEnough(id punch.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.odds[id]++; c.odds[id] < oddTries {
		return false
	}
	delete(c.odds, id)
	return true
}

// authorised makes a call that carries a token. A refused token is replaced once. An
// answer with noToken is about the person, not the token.
func (c *Client) authorised(ctx context.Context, what, method, path, setting string, query url.Values, body func(tok, group string) any) (*answer, error) {
	if c.cfg.Mode == Off {
		return nil, fmt.Errorf("signin: %s: the mode is off; write mode = \"service_account\"", what)
	}
	for again := false; ; again = true {
		tok, err := c.tokens.Get(ctx)
		if err != nil {
			return nil, fmt.Errorf("signin: log in: %w", err)
		}
		a, err := c.carry(ctx, what, method, path, query, body, tok)
		if err != nil {
			return nil, err
		}
		a.ruling = a.reply.judge(a.status, setting)
		if a.action != noToken {
			switch a.action {
			case denied, busy, outage:
				return nil, a.err()
			}
			return a, nil
		}
		if a.reply.code == codeNotApproved {
			good, err := c.isGood(ctx, tok)
			if err != nil {
				return nil, err
			}
			if good {
				return a, nil
			}
		}
		if !again || method == http.MethodPost { // reading that is not allowed must not stop the punches
			c.tokens.Forget(tok)
		}
		if again {
			return nil, a.err()
		}
	}
}

// isGood asks, with the account's own day, whether the system still takes a token.
func (c *Client) isGood(ctx context.Context, tok string) (bool, error) {
	a, err := c.carry(ctx, "check the token", http.MethodGet, c.cfg.Paths.Today, url.Values{"user_id": {c.cfg.UserID}}, nil, tok)
	if err != nil {
		return false, err
	}
	return a.reply.judge(a.status, pathToday).action == taken, nil
}

// carry makes a call with a token where the configuration wants it.
func (c *Client) carry(ctx context.Context, what, method, path string, query url.Values, body func(tok, group string) any, tok string) (*answer, error) {
	inside := ""
	if c.cfg.TokenTransport == inBody {
		inside = tok
	}
	var b []byte
	if body != nil {
		c.mu.Lock()
		group := c.group
		c.mu.Unlock()
		var err error
		if b, err = encode(body(inside, group)); err != nil {
			return nil, err
		}
	} else if inside != "" {
		with := url.Values{"token_key": {inside}}
		for k, v := range query {
			with[k] = v
		}
		query = with
	}
	return c.call(ctx, what, method, path, query, b, tok)
}

// answer is one call's answer and what it asks for.
type answer struct {
	ruling
	c      *Client
	status int
	header http.Header
	reply  reply
	call   string // what was being done
}

func (a *answer) err() error {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	return a.errLocked()
}

// errLocked is err for a caller that holds the client's lock.
func (a *answer) errLocked() error {
	err := a.ruling.err(a.call, a.status, &a.reply, a.c.hideLocked)
	if a.action == busy {
		return &drain.Busy{After: drain.RetryAfter(a.header, time.Now()), Err: err}
	}
	return err
}

// hide takes out of the system's words what it may have repeated of ours.
func (c *Client) hide(s string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hideLocked(s)
}

func (c *Client) hideLocked(s string) string {
	for _, secret := range c.hidden {
		if len(secret) >= minHidden {
			s = strings.ReplaceAll(s, secret, "…")
		}
	}
	return s
}

// call makes one call. The error is of the network: nothing is known of the outcome.
func (c *Client) call(ctx context.Context, what, method, path string, query url.Values, body []byte, tok string) (*answer, error) {
	to := c.base + path
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("signin: %s: the address cannot be called; check base_url and the paths", what) // err quotes it
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	if tok != "" && c.header != "" {
		value := tok
		if c.cfg.TokenTransport == bearer {
			value = "Bearer " + tok
		}
		req.Header.Set(c.header, value)
	}
	resp, err := drain.Do(c.cfg.HTTP, req)
	if err != nil {
		return nil, fmt.Errorf("signin: %s: %w", what, err)
	}
	a := &answer{c: c, status: resp.StatusCode, header: resp.Header, call: what}
	b, err := drain.ReadBody(resp, maxReply)
	if err != nil {
		// The status was read, but nobody knows who it came from: an outage as well.
		return nil, fmt.Errorf("signin: %s: the answer (HTTP %d) broke off: %w", what, resp.StatusCode, err)
	}
	a.reply = parseReply(b, c.cfg.Tolerant)
	if !a.reply.at.IsZero() {
		c.cfg.Clock(a.reply.at)
	}
	return a, nil
}

// Today returns the statuses of a person's day in Taiwan, by the system's user id.
// A status without a punch is absent.
func (c *Client) Today(ctx context.Context, userID string) ([]Today, error) {
	data, err := c.read(ctx, "today's punches", c.cfg.Paths.Today, pathToday, url.Values{"user_id": {userID}})
	if err != nil {
		return nil, err
	}
	return parseToday(data)
}

// Records returns a person's punches of the Taiwan days from that of the first
// instant to that of the last, both included, in the order the system gives them. The
// answer's form is not in the system's page: it may turn out different.
func (c *Client) Records(ctx context.Context, userID string, first, last time.Time) ([]Record, error) {
	data, err := c.read(ctx, "records", c.cfg.Paths.Records, pathRecord, url.Values{"user_id": {userID},
		"started_date": {first.In(taiwan).Format(dateLayout)}, "ended_date": {last.In(taiwan).Format(dateLayout)}})
	if err != nil {
		return nil, err
	}
	return parseRecords(data)
}

var errStranger = errors.New("the sign-in system does not know this user, or has not approved them")

// Held reads back the punches that the system holds of these people, by employee
// number, from the second of from on and before that of to: a call for each person,
// beside a Send if need be, under the same ceiling and with the same token. It rests on
// Records, see there.
//
// unasked are the people that the answers say nothing about, because the system does
// not know them, or because the reading ended early; then err says why, like that of
// Send, and held is what was read before.
func (c *Client) Held(ctx context.Context, numbers []string, from, to time.Time) (held []drain.Held, unasked []string, err error) {
	asked := map[string]bool{}
	for i, n := range numbers {
		id := c.userID(n, from)
		if asked[id] || strings.TrimSpace(id) == "" || !utf8.ValidString(id) {
			unasked = append(unasked, n)
			continue
		}
		asked[id] = true
		records, err := c.Records(ctx, id, from, to.Add(-1))
		switch {
		case errors.Is(err, errStranger):
			unasked = append(unasked, n)
			continue
		case err != nil:
			return held, append(unasked, numbers[i:]...), err
		}
		for _, r := range records {
			if (r.UserID == "" || r.UserID == id) && r.Time.Unix() >= from.Unix() && r.Time.Unix() < to.Unix() {
				held = append(held, drain.Held{Employee: n, Kind: r.Kind, Time: r.Time.UTC()})
			}
		}
	}
	return held, unasked, nil
}

// userID is what the system calls an employee.
func (c *Client) userID(number string, at time.Time) string {
	if c.cfg.People != nil {
		if e, ok := c.cfg.People(number, at); ok && strings.TrimSpace(e.SigninID) != "" {
			return e.SigninID
		}
	}
	return number
}

// read makes a GET and returns the data of its success.
func (c *Client) read(ctx context.Context, what, path, setting string, query url.Values) (json.RawMessage, error) {
	a, err := c.authorised(ctx, what, http.MethodGet, path, setting, query, nil)
	if err != nil {
		return nil, err
	}
	switch a.action {
	case taken:
		return a.reply.data, nil
	case noToken:
		return nil, fmt.Errorf("signin: %s: %w", what, errStranger)
	}
	return nil, a.err()
}

// Logout ends the session of the last login, if there was one; the next call logs in
// again. Whether it came through is of no importance: the token dies by itself.
func (c *Client) Logout(ctx context.Context) {
	c.mu.Lock()
	tok := c.last
	c.last = ""
	c.mu.Unlock()
	if tok == "" {
		return
	}
	// The answer decides nothing, so it is not looked at.
	c.carry(ctx, "logout", http.MethodPost, c.cfg.Paths.Logout, nil, func(inside, _ string) any {
		return struct {
			UserID   string `json:"user_id"`
			TokenKey string `json:"token_key,omitempty"`
		}{c.cfg.UserID, inside}
	}, tok)
	c.tokens.Reset()
}
