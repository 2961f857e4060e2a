// Package resume reads 104's résumé service (履歷傳輸服務, scope ehrweb_resume) as a
// source of the people who are about to start, so that a card can be enrolled before
// their first morning. [Client] makes the calls, [Walker] goes through the hours.
//
// # What is kept
//
// A résumé is a person's whole life. Of it a [Candidate] has the name, the résumé's id,
// and the link of the portrait; everything else is dropped while it is read and is in
// no value, error or log line of this package. Names are in no error or log line
// either. Portraits and attachments come only when they are asked for.
//
// # The calls
//
// A token comes from 104's OAuth2 endpoint (client credentials). Every call carries it,
// and the company's tax id:
//
//	GET /ehrweb_resume/1.0/resumes/queryList?date=2026-01-15&startTime=9&endTime=10
//	Authorization: Bearer …
//	104-Additional-Info: guiNum=01234567
//
// queryList answers with the ids of the résumés that were delivered in these hours of
// Taipei's clock, queryBatch with at most ten résumés, query with one. The last two
// repeat the hours that led to the id. files/headshot and files/attachment answer with
// bytes, under a link that expires.
//
// # The code decides
//
// An error is {"code","message"}, with an HTTP status that is not documented (500, it
// seems). So the code decides, and the status only where there is none:
//
//	895            link expired: the résumé is read again for a new one, twice
//	896 897 899 996  our own mistake: a person must act, and tell the maker
//	898            an id is wrong: the batch is halved until it stands alone
//	900            tax id missing, or not the token's company: a person must act
//	999            outage
//	HTTP 401       new token, once; then a person must act
//	HTTP 403 404 405  a person must act
//	HTTP 408 425 429  two seconds at least
//	anything else  outage
//
// # The limit
//
// More than three calls in any second trigger a limiter whose reply nobody has
// described. The client handed in holds the ceiling, token calls included
// ([DefaultCalls], at most [MostCalls]); one call is made at a time.
package resume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// The ceiling, in calls arriving in any rolling second, token calls included.
const (
	DefaultCalls = 2
	MostCalls    = 3
)

const (
	batchMost      = 10
	fileTries      = 2 // new links for one file
	defaultEarly   = 5 * time.Minute
	maxList        = 1 << 20  // bytes of a list's answer
	maxResumes     = 16 << 20 // of ten résumés
	maxPortrait    = 4 << 20
	maxAttachment  = 32 << 20
	limitLeast     = 2 * time.Second // after any sign of limiting
	additionalInfo = "104-Additional-Info"
)

// Taipei is the clock that all dates and hours of the service are told by.
var Taipei = time.FixedZone("Asia/Taipei", 8*60*60)

// Hour returns the beginning of the hour that t lies in.
func Hour(t time.Time) time.Time { return t.In(Taipei).Truncate(time.Hour) }

// AuthStyle is how the client id and secret travel to the token endpoint.
type AuthStyle string

// The two styles; the documentation has Body, Basic works as well.
const (
	Body  AuthStyle = "body"
	Basic AuthStyle = "basic"
)

// Flag chooses résumés by how they came; the zero value takes all.
type Flag int

// The flags.
const (
	Any     Flag = iota
	Matched      // 104 matched them
	Applied      // the person applied
	Saved        // HR saved them
)

// Config is what a Client is made of. All but Auth, Flag, Early and TokenObserve are
// required.
type Config struct {
	APIBase  string // https://apis.104api.com.tw/ehrweb_resume/1.0
	TokenURL string // https://apis.104api.com.tw/oauth2/token
	ClientID string
	// Secret reads the client secret afresh, for each token that is asked for.
	Secret  func() (string, error)
	Company string       // tax id (統一編號), up to eight digits
	HTTP    *http.Client // of drain.NewClient, with a Pace of at most MostCalls
	Log     *slog.Logger

	Auth         AuthStyle           // "" is Body
	Flag         Flag                // which résumés
	Early        time.Duration       // renew a token so long before its end; 0 is 5 minutes
	TokenObserve func(result string) // hears of every token call: ok, denied, error; may be nil
}

// Candidate is a person who may start.
type Candidate struct {
	ID   string    // the résumé's
	Name string    // up to 64 characters, on one line; may be ""
	Hour time.Time // that the résumé was delivered in, its beginning
	// Photo is the link of the portrait, "" for none. It expires.
	Photo string
}

// Client is one company's access. It may be used by several goroutines; one call is
// made at a time.
type Client struct {
	cfg    Config
	base   string
	gui    string
	tokens *token.Cache
	turn   chan struct{}

	mu    sync.Mutex
	short bool // a list that is shorter than its total was told of
}

// New returns a Client. It makes no call. The error says which setting is wrong and
// what to write instead.
func New(cfg Config) (*Client, error) {
	for _, u := range []struct{ name, value string }{{"api_base", cfg.APIBase}, {"token_url", cfg.TokenURL}} {
		p, err := url.Parse(u.value)
		if err != nil || p.Scheme != "https" && p.Scheme != "http" || p.Host == "" || p.RawQuery != "" || p.User != nil {
			return nil, fmt.Errorf("resume: %s is not a web address: write it like https://apis.104api.com.tw/…", u.name)
		}
	}
	switch {
	case cfg.ClientID == "":
		return nil, errors.New("resume: client_id is missing: write the id that 104 gave you")
	case cfg.Secret == nil || cfg.HTTP == nil || cfg.Log == nil:
		return nil, errors.New("resume: Secret, HTTP and Log are required")
	case cfg.Company == "" || len(cfg.Company) > 8 || strings.Trim(cfg.Company, "0123456789") != "":
		return nil, errors.New("resume: the company's tax id is missing or wrong: write its eight digits")
	case cfg.Auth != "" && cfg.Auth != Body && cfg.Auth != Basic:
		return nil, fmt.Errorf("resume: auth %q: use body or basic", cfg.Auth)
	case cfg.Flag < Any || cfg.Flag > Saved:
		return nil, fmt.Errorf("resume: flag %d: use Any, Matched, Applied or Saved", cfg.Flag)
	case cfg.Early < 0:
		return nil, fmt.Errorf("resume: a token cannot be renewed %v before its end: use 5m", cfg.Early)
	}
	if cfg.Early == 0 {
		cfg.Early = defaultEarly
	}
	c := &Client{cfg: cfg, base: strings.TrimRight(cfg.APIBase, "/"), gui: strings.Repeat("0", 8-len(cfg.Company)) + cfg.Company, turn: make(chan struct{}, 1)}
	c.tokens = token.NewCache(c.fetch, token.Options{Early: cfg.Early, Observe: cfg.TokenObserve})
	return c, nil
}

// Reset forgets the token and any refusal of it: the secret was changed, or a person
// wants to know now.
func (c *Client) Reset() { c.tokens.Reset() }

// span is the query that all three searches share.
func (c *Client) span(hour time.Time) url.Values {
	h := hour.In(Taipei)
	q := url.Values{"date": {h.Format(time.DateOnly)}, "startTime": {strconv.Itoa(h.Hour())}, "endTime": {strconv.Itoa(h.Hour() + 1)}}
	if c.cfg.Flag != Any {
		q.Set("flag", strconv.Itoa(int(c.cfg.Flag)-1))
	}
	return q
}

// List returns the ids of the résumés that were delivered in the hour that begins at
// hour, each once. The error is fit to be shown; *drain.Busy inside it says not before
// when, *token.Denied that a person must act, anything else is an outage.
func (c *Client) List(ctx context.Context, hour time.Time) ([]string, error) {
	a, err := c.get(ctx, "list résumés", "/resumes/queryList", c.span(hour), maxList)
	if err != nil {
		return nil, err
	}
	if err := a.err(); err != nil {
		return nil, err
	}
	ids, total, err := parseList(a.body)
	if err != nil {
		return nil, fmt.Errorf("resume: list résumés: %w", err)
	}
	c.mu.Lock()
	tell := total > len(ids) && !c.short
	c.short = c.short || tell
	c.mu.Unlock()
	if tell {
		c.cfg.Log.Warn("104 counts more résumés than it lists; said once", "total", total, "listed", len(ids))
	}
	return ids, nil
}

// Candidates returns the people behind ids of an hour, in that order, ten a call. gone
// are the ids that the service no longer answers for. The error is as List's; what was
// read before it is returned beside it.
func (c *Client) Candidates(ctx context.Context, hour time.Time, ids []string) (found []Candidate, gone []string, err error) {
	for len(ids) > 0 {
		part := ids[:min(len(ids), batchMost)]
		f, g, err := c.some(ctx, hour, part)
		if err != nil {
			return found, gone, err
		}
		found, gone = append(found, f...), append(gone, g...)
		ids = ids[len(part):]
	}
	return found, gone, nil
}

// some makes one call, and more where an id is wrong.
func (c *Client) some(ctx context.Context, hour time.Time, ids []string) (found []Candidate, gone []string, err error) {
	q, path := c.span(hour), "/resumes/queryBatch"
	if len(ids) == 1 {
		q.Set("idno", ids[0])
		path = "/resumes/query"
	} else {
		q.Set("idnos", strings.Join(ids, ","))
	}
	a, err := c.get(ctx, "read résumés", path, q, maxResumes)
	if err != nil {
		return nil, nil, err
	}
	if a.action == badID {
		if len(ids) == 1 {
			return nil, ids, nil
		}
		for _, half := range [][]string{ids[:len(ids)/2], ids[len(ids)/2:]} {
			f, g, err := c.some(ctx, hour, half)
			if err != nil {
				return nil, nil, err
			}
			found, gone = append(found, f...), append(gone, g...)
		}
		return found, gone, nil
	}
	if err := a.err(); err != nil {
		return nil, nil, err
	}
	people, err := parseResumes(a.body)
	if err != nil {
		return nil, nil, fmt.Errorf("resume: read résumés: %w", err)
	}
	for _, id := range ids {
		i := slices.IndexFunc(people, func(p Candidate) bool { return p.ID == id })
		if i < 0 {
			gone = append(gone, id)
			continue
		}
		people[i].Hour = Hour(hour)
		found = append(found, people[i])
	}
	return found, gone, nil
}

// ErrNoFile is a file that the service no longer has, or never had.
var ErrNoFile = errors.New("resume: the file is not there any more")

// ErrNoPicture is a portrait that is no picture of a size that is taken.
var ErrNoPicture = errors.New("resume: what came is no PNG or JPEG picture of 4 MiB at most")

// errBroken is an answer whose end did not come.
var errBroken = errors.New("broke off")

// Portrait returns a candidate's portrait, PNG or JPEG, of at most 4 MiB. A link that
// has expired, or is not known, is asked for anew, twice at most; whoever has none then, or
// is not found behind it (404), has no portrait: ErrNoFile. What is larger, is no picture,
// or breaks off three times is ErrNoPicture. Nobody has seen yet whether it can be
// unpacked. The error is as List's for the rest.
func (c *Client) Portrait(ctx context.Context, who Candidate) ([]byte, error) {
	link, broken := who.Photo, 0
	for tries := 0; ; {
		if link == "" {
			if tries++; tries > fileTries {
				return nil, ErrNoFile
			}
			again, _, err := c.some(ctx, who.Hour, []string{who.ID})
			if err != nil {
				return nil, err
			}
			if len(again) == 0 || again[0].Photo == "" {
				return nil, ErrNoFile
			}
			link = again[0].Photo
		}
		a, err := c.get(ctx, "read a portrait", "/files/headshot", url.Values{"fileId": {link}}, maxPortrait)
		switch {
		case errors.Is(err, drain.ErrTooLarge):
			return nil, ErrNoPicture
		case errors.Is(err, errBroken):
			if broken++; broken > fileTries {
				return nil, ErrNoPicture
			}
			continue
		case err != nil:
			return nil, err
		case a.status == http.StatusNotFound && a.code == 0:
			return nil, ErrNoFile // an address that is wrong as a whole stops the walk
		}
		if a.action == taken {
			if kind := http.DetectContentType(a.body); kind != "image/png" && kind != "image/jpeg" {
				return nil, ErrNoPicture
			}
			return a.body, nil
		}
		if a.action != expired {
			return nil, a.err()
		}
		link = ""
	}
}

// Attachment is a file that came with a résumé.
type Attachment struct {
	Title, FileName string
	file            string
}

// Attachments lists the files of one résumé. They are personal: for a person who asks
// for them, and kept by nobody.
func (c *Client) Attachments(ctx context.Context, who Candidate) ([]Attachment, error) {
	q := c.span(who.Hour)
	q.Set("idno", who.ID)
	a, err := c.get(ctx, "list attachments", "/resumes/query", q, maxResumes)
	if err != nil {
		return nil, err
	}
	if a.action == badID {
		return nil, ErrNoFile
	}
	if err := a.err(); err != nil {
		return nil, err
	}
	return parseAttachments(a.body, who.ID)
}

// Attachment reads a file that Attachments has listed, of at most 32 MiB. The error is
// ErrNoFile once its link has expired: list them again.
func (c *Client) Attachment(ctx context.Context, f Attachment) ([]byte, error) {
	if f.file == "" {
		return nil, ErrNoFile
	}
	a, err := c.get(ctx, "read an attachment", "/files/attachment", url.Values{"fileId": {f.file}}, maxAttachment)
	switch {
	case err != nil:
		return nil, err
	case a.action == expired:
		return nil, ErrNoFile
	}
	return a.body, a.err()
}

// answer is one call's answer and what it asks for.
type answer struct {
	ruling
	status int
	header http.Header
	body   []byte
	call   string
}

func (a *answer) err() error {
	if a.action == taken {
		return nil
	}
	where := fmt.Sprintf("HTTP %d", a.status)
	if a.code != 0 {
		where += fmt.Sprintf(", code %d", a.code)
	}
	err := fmt.Errorf("resume: %s: %s (%s)", a.call, a.what, where)
	switch a.action {
	case denied:
		return &token.Denied{State: a.state, Hint: a.hint, Err: err}
	case busy:
		return &drain.Busy{After: max(limitLeast, drain.RetryAfter(a.header, time.Now())), Err: err}
	}
	return err
}

// get makes a call with a token, twice if the token is refused. The error is of the
// network or the token; whatever the service said is in the answer.
func (c *Client) get(ctx context.Context, what, path string, query url.Values, most int64) (*answer, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("resume: %s: %w", what, ctx.Err())
	}
	for again := false; ; again = true {
		tok, err := c.tokens.Get(ctx)
		if err != nil {
			return nil, fmt.Errorf("resume: get a token: %w", err)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?"+query.Encode(), nil)
		if err != nil {
			return nil, fmt.Errorf("resume: %s: the address cannot be called; check api_base", what) // err quotes it
		}
		req.Header.Set("Authorization", "Bearer "+tok)
		req.Header.Set(additionalInfo, "guiNum="+c.gui)
		req.Header.Set("Accept", "application/json, image/*, */*;q=0.5")
		a, err := c.do(req, what, most)
		if err != nil {
			return nil, err
		}
		a.ruling = judge(a.status, a.body)
		if a.action != refusedToken {
			return a, nil
		}
		c.tokens.Forget(tok)
		if again {
			a.action, a.state = denied, token.AuthFailed
			a.hint = "ask 104 whether client_id may still read résumés for your company (scope ehrweb_resume)"
			return nil, a.err()
		}
	}
}

func (c *Client) do(req *http.Request, what string, most int64) (*answer, error) {
	resp, err := drain.Do(c.cfg.HTTP, req)
	if err != nil {
		return nil, fmt.Errorf("resume: %s: %w", what, err)
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, call: what}
	if a.body, err = drain.ReadBody(resp, most); err != nil {
		return nil, fmt.Errorf("resume: %s: the answer (HTTP %d) %w: %w", what, a.status, errBroken, err)
	}
	return a, nil
}

// fetch asks for a token; the cache calls it, one at a time.
func (c *Client) fetch(ctx context.Context) (token.Token, error) {
	secret, err := token.Secret(c.cfg.Secret, "resume", "client secret", "that 104 gave you", "client_secret_file")
	if err != nil {
		return token.Token{}, err
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"ehrweb_resume"}}
	if c.cfg.Auth != Basic {
		form.Set("client_id", c.cfg.ClientID)
		form.Set("client_secret", secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.TokenURL, bytes.NewReader([]byte(form.Encode())))
	if err != nil {
		return token.Token{}, errors.New("resume: token call: the address cannot be called; check token_url")
	}
	if c.cfg.Auth == Basic {
		req.SetBasicAuth(c.cfg.ClientID, secret)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	a, err := c.do(req, "token call", maxList)
	if err != nil {
		return token.Token{}, err
	}
	a.ruling = judgeToken(a.status)
	if err := a.err(); err != nil {
		return token.Token{}, err
	}
	t, err := parseToken(a.body)
	if err != nil {
		return token.Token{}, fmt.Errorf("resume: token call: %w", err)
	}
	return t, nil
}
