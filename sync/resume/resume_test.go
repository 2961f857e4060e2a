package resume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/sandbox"
)

// desk is a client and a résumé service on one desk, without a network.
type desk struct {
	t      *testing.T
	cloud  *sandbox.Resumes
	client *Client
	secret string
	logs   bytes.Buffer
	breaks bool // files break off in their middle

	mu    sync.Mutex
	asked []*http.Request
}

// onDesk runs a test in a bubble at 09:20 on 21 November 2026 in Taipei.
func onDesk(t *testing.T, change func(*Config), test func(t *testing.T, d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 21, 9, 20, 0, 0, Taipei)))
		d := &desk{t: t, cloud: sandbox.NewResumes(sandbox.ResumeConfig{ClientID: "c", ClientSecret: "s3cret-of-104", Company: "01234567", KnownDays: true})}
		_, d.secret = d.cloud.Credentials()
		hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(DefaultCalls), Transport: d})
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{APIBase: "https://104.invalid" + sandbox.ResumeBase, TokenURL: "https://104.invalid" + sandbox.ResumeTokenPath, ClientID: "c", Company: "1234567",
			Secret: func() (string, error) { return d.secret, nil }, HTTP: hc, Log: slog.New(slog.NewTextHandler(&d.logs, nil))}
		if change != nil {
			change(&cfg)
		}
		if d.client, err = New(cfg); err != nil {
			t.Fatal(err)
		}
		test(t, d)
		d.clean(d.logs.String())
	})
}

func (d *desk) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	d.asked = append(d.asked, r)
	d.mu.Unlock()
	resp, err := sandbox.Transport(d.cloud).RoundTrip(r)
	if err == nil && d.breaks && strings.Contains(r.URL.Path, "/files/") {
		resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 1000), iotest.ErrReader(io.ErrUnexpectedEOF)))
	}
	return resp, err
}

// clean checks a text that may be read: no secret, and nothing of a person.
func (d *desk) clean(s string) {
	d.t.Helper()
	for _, bad := range []string{"s3cret", "at-", "Bearer", "canary", "測試", "配對", "f-", "guiNum", "100000000"} {
		if strings.Contains(s, bad) {
			d.t.Errorf("%q holds %q", s, bad)
		}
	}
}

func (d *desk) faults(f func(*sandbox.ResumeFaults)) { d.cloud.SetFaults(f) }

func hourOf(s string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15", s, Taipei)
	if err != nil {
		panic(err)
	}
	return t
}

func TestTheThreeKnownDays(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		for hour, names := range map[string]string{"2025-04-25 12": "測試 一號,測試 二號", "2025-11-05 16": "測試 三號", "2025-08-22 00": "配對 0號", "2025-08-22 23": "配對 23號", "2025-08-23 00": ""} {
			ids, err := d.client.List(d.t.Context(), hourOf(hour))
			if err != nil {
				t.Fatal(err)
			}
			found, gone, err := d.client.Candidates(t.Context(), hourOf(hour), ids)
			var got []string
			for _, c := range found {
				got = append(got, c.Name)
				if !c.Hour.Equal(hourOf(hour)) || c.ID == "" {
					t.Errorf("%+v", c)
				}
			}
			if err != nil || len(gone) > 0 || strings.Join(got, ",") != names {
				t.Errorf("%s: %q, %q, %v", hour, got, gone, err)
			}
		}
		r := d.asked[1] // after the token call
		if r.Method != "GET" || r.Header.Get("104-Additional-Info") != "guiNum=01234567" || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		if n := d.cloud.Counters().WorstSecond; n > DefaultCalls {
			t.Errorf("%d calls in a second", n)
		}
	})
	for flag, want := range map[Flag]int{Any: 2, Applied: 2, Matched: 0, Saved: 0} {
		onDesk(t, func(c *Config) { c.Flag, c.Auth = flag, Basic }, func(t *testing.T, d *desk) {
			ids, err := d.client.List(t.Context(), hourOf("2025-04-25 12"))
			if err != nil || len(ids) != want {
				t.Errorf("flag %d: %q, %v", flag, ids, err)
			}
			if q := d.asked[1].URL.Query(); q.Get("startTime") != "12" || q.Get("endTime") != "13" || q.Get("date") != "2025-04-25" || (flag == Any) != (q.Get("flag") == "") {
				t.Errorf("%v", q)
			}
		})
	}
}

func TestTheLastHourOfADayIs23To24OfThatDay(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		if _, err := d.client.List(t.Context(), hourOf("2026-11-20 23")); err != nil {
			t.Fatal(err)
		}
		if q := d.asked[1].URL.Query().Encode(); q != "date=2026-11-20&endTime=24&startTime=23" {
			t.Error(q)
		}
	})
}

func TestTenResumesACallAndAWrongIDHidesNoOther(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		var ids []string
		for i := range 23 {
			id := fmt.Sprintf("30000000%02d", i)
			d.cloud.Add(sandbox.Resume{ID: id, Name: "測試", Date: "2026-11-21", Hour: 8})
			ids = append(ids, id)
		}
		hour := hourOf("2026-11-21 08")
		found, gone, err := d.client.Candidates(t.Context(), hour, ids)
		if err != nil || len(found) != 23 || len(gone) != 0 || len(d.asked) != 1+3 {
			t.Errorf("%d found, %q gone, %v after %d calls", len(found), gone, err, len(d.asked))
		}
		d.faults(func(f *sandbox.ResumeFaults) { f.BadIDs, f.Unlisted = []string{ids[4]}, []string{ids[20]} })
		found, gone, err = d.client.Candidates(t.Context(), hour, ids)
		if err != nil || len(found) != 21 || !slices.Equal(gone, []string{ids[4], ids[20]}) {
			t.Errorf("%d found, %q gone, %v", len(found), gone, err)
		}
		for i, c := range found {
			if i > 0 && c.ID <= found[i-1].ID {
				t.Errorf("out of order: %s after %s", c.ID, found[i-1].ID)
			}
		}
	})
}

func TestAPortraitsLinkIsReplacedWhenItHasExpired(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		found, _, err := d.client.Candidates(t.Context(), hourOf("2025-04-25 12"), []string{"1000000001", "1000000002"})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := d.client.Portrait(t.Context(), found[0]); err != nil || !bytes.HasPrefix(b, []byte("\x89PNG")) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if _, err := d.client.Portrait(t.Context(), found[1]); !errors.Is(err, ErrNoFile) {
			t.Errorf("one without a portrait: %v", err)
		}
		time.Sleep(time.Hour) // and the token's life, nearly
		n := len(d.asked)
		if b, err := d.client.Portrait(t.Context(), found[0]); err != nil || len(b) == 0 {
			t.Errorf("after the link's end: %v", err)
		}
		if got := paths(d.asked[n:]); got != "token headshot query headshot" {
			t.Error(got)
		}
		d.faults(func(f *sandbox.ResumeFaults) { f.FileGone = true })
		n = len(d.asked)
		if _, err := d.client.Portrait(t.Context(), found[0]); !errors.Is(err, ErrNoFile) {
			t.Error(err)
		}
		if got := paths(d.asked[n:]); got != "headshot query headshot query headshot" {
			t.Errorf("895: %s", got)
		}
		d.faults(func(f *sandbox.ResumeFaults) { f.FileGone, f.HTMLNext = false, 1 })
		if _, err := d.client.Portrait(t.Context(), found[0]); !errors.Is(err, ErrNoPicture) {
			t.Errorf("a portal's page: %v", err)
		}
	})
}

// Whatever is wrong with a portrait is wrong with that one only: it is not asked for
// again and again, and nobody is called.
func TestAPortraitThatCannotBeHasAnEnd(t *testing.T) {
	for fault, want := range map[string]struct {
		err   error
		calls string
	}{
		"huge": {ErrNoPicture, "token headshot"}, "html": {ErrNoPicture, "token headshot"}, "missing": {ErrNoFile, "token headshot"},
		"": {nil, "token headshot"}, "bomb": {nil, "token headshot"}, "truncated": {nil, "token headshot"}, // bytes: who unpacks them has to look
		"broken": {ErrNoPicture, "token headshot headshot headshot"},
	} {
		onDesk(t, nil, func(t *testing.T, d *desk) {
			who := Candidate{ID: "1000000001", Hour: hourOf("2025-04-25 12")}
			found, _, err := d.client.Candidates(t.Context(), who.Hour, []string{who.ID})
			if err != nil {
				t.Fatal(err)
			}
			d.client.Reset()
			n := len(d.asked)
			d.breaks = fault == "broken"
			if !d.breaks {
				d.faults(func(f *sandbox.ResumeFaults) { f.Headshot = fault })
			}
			b, err := d.client.Portrait(t.Context(), found[0])
			if !errors.Is(err, want.err) || (err == nil) != (len(b) > 0) || paths(d.asked[n:]) != want.calls {
				t.Errorf("%q: %d bytes, %v, %s", fault, len(b), err, paths(d.asked[n:]))
			}
			if err != nil {
				d.clean(err.Error())
			}
			if n := d.cloud.Counters().WorstSecond; n > DefaultCalls {
				t.Errorf("%d calls in a second", n)
			}
		})
	}
}

func TestAPortraitWithoutALinkIsAskedForByItsResume(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		who := Candidate{ID: "1000000001", Hour: hourOf("2025-04-25 12")}
		if b, err := d.client.Portrait(t.Context(), who); err != nil || len(b) == 0 || paths(d.asked) != "token query headshot" {
			t.Errorf("%d bytes, %v, %s", len(b), err, paths(d.asked))
		}
		who.ID = "1999999999"
		if _, err := d.client.Portrait(t.Context(), who); !errors.Is(err, ErrNoFile) {
			t.Errorf("a résumé that is gone: %v", err)
		}
	})
}

func paths(rs []*http.Request) string {
	var out []string
	for _, r := range rs {
		out = append(out, r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
	}
	return strings.Join(out, " ")
}

func TestAttachmentsComeOnlyWhenTheyAreAskedFor(t *testing.T) {
	onDesk(t, nil, func(t *testing.T, d *desk) {
		who := Candidate{ID: "1000000001", Hour: hourOf("2025-04-25 12")}
		files, err := d.client.Attachments(t.Context(), who)
		if err != nil || len(files) != 1 || files[0].FileName != "canary.pdf" {
			t.Fatalf("%+v, %v", files, err)
		}
		if b, err := d.client.Attachment(t.Context(), files[0]); err != nil || !bytes.HasPrefix(b, []byte("%PDF")) {
			t.Errorf("%q, %v", b, err)
		}
		time.Sleep(11 * time.Minute)
		if _, err := d.client.Attachment(t.Context(), files[0]); !errors.Is(err, ErrNoFile) {
			t.Error(err)
		}
		if _, err := d.client.Attachments(t.Context(), Candidate{ID: "9", Hour: who.Hour}); !errors.Is(err, ErrNoFile) {
			t.Error(err)
		}
	})
}

// The error table, each row for each call it can come to, by code whatever the status.
func TestEveryRowOfTheResumeTable(t *testing.T) {
	hour := hourOf("2025-04-25 12")
	who := Candidate{ID: "1000000001", Hour: hour, Photo: "f-x"}
	calls := []struct {
		name string
		make func(context.Context, *Client) error
	}{
		{"L", func(ctx context.Context, c *Client) error { _, err := c.List(ctx, hour); return err }},
		{"Q", func(ctx context.Context, c *Client) error {
			_, _, err := c.Candidates(ctx, hour, []string{"1"})
			return err
		}},
		{"B", func(ctx context.Context, c *Client) error {
			_, _, err := c.Candidates(ctx, hour, []string{"1", "2"})
			return err
		}},
		{"H", func(ctx context.Context, c *Client) error { _, err := c.Portrait(ctx, who); return err }},
		{"F", func(ctx context.Context, c *Client) error {
			_, err := c.Attachment(ctx, Attachment{file: "f-x"})
			return err
		}},
	}
	type faults = sandbox.ResumeFaults
	code := func(n int) func(*faults) {
		return func(f *faults) { f.AnswerNext, f.Answer = -1, sandbox.Refusal{Code: n, Msg: "canary"} }
	}
	status := func(n int) func(*faults) {
		return func(f *faults) { f.FailNext, f.FailStatus, f.FailOn = -1, n, sandbox.OnBusiness }
	}
	for _, c := range []struct {
		name  string
		fault func(*faults)
		want  string // KindOf, or "gone" where the call says that there is nothing
		words string
		most  int // calls
	}{
		{"896 flag wrong", code(896), "denied:misconfigured", "report this to the maker", 1},
		{"897 query date fields wrong", code(897), "denied:misconfigured", "report this to the maker", 1},
		{"899 request abnormal", code(899), "denied:misconfigured", "report this to the maker", 1},
		{"900 tax id", code(900), "denied:misconfigured", "統一編號", 1},
		{"996 date format", code(996), "denied:misconfigured", "report this to the maker", 1},
		{"999 system error", code(999), "outage", "system error", 1},
		{"another code", code(1234), "outage", "code 1234", 1},
		{"HTTP 401 for ever", func(f *faults) { f.RefuseTokens = true }, "denied:auth_failed", "scope ehrweb_resume", 2},
		{"HTTP 403", status(403), "denied:auth_failed", "ask 104", 1},
		{"HTTP 404", status(404), "denied:misconfigured", "api_base", 1},
		{"HTTP 405", status(405), "denied:misconfigured", "api_base", 1},
		{"HTTP 408", status(408), "busy:2s", "", 1},
		{"HTTP 429", status(429), "busy:2s", "", 1},
		{"HTTP 429 with Retry-After", func(f *faults) {
			f.FailNext, f.FailStatus, f.FailOn, f.RetryAfter = -1, 429, sandbox.OnBusiness, "30"
		}, "busy:30s", "", 1},
		{"the limiter itself, with 429", func(f *faults) { f.RateLimit = 1 }, "busy:2s", "", 1},
		{"the limiter itself, with 503", func(f *faults) { f.RateLimit, f.LimitStatus = 1, 503 }, "outage", "", 1},
		{"HTTP 500 without JSON", status(500), "outage", "", 1},
		{"HTTP 503", status(503), "outage", "", 1},
		{"HTTP 302", status(302), "outage", "", 1},
		{"network", func(f *faults) { f.Down = true }, "outage", "", 1},
		{"timeout", func(f *faults) { f.DelayMS = 90_000 }, "outage", "no complete answer within 1m0s", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, k := range calls {
				statuses := []int{500}
				if strings.HasPrefix(c.name, "8") || strings.HasPrefix(c.name, "9") {
					statuses = []int{500, 200, 400}
				}
				for _, s := range statuses {
					onDesk(t, nil, func(t *testing.T, d *desk) {
						if _, err := d.client.List(t.Context(), hour); err != nil {
							t.Fatal(err)
						}
						n := len(d.asked)
						d.faults(func(f *faults) { f.ErrorStatus = s; c.fault(f) })
						err := k.make(t.Context(), d.client)
						if c.name == "HTTP 404" && k.name == "H" { // one person's, and no address that is wrong
							if !errors.Is(err, ErrNoFile) {
								t.Errorf("%s: %v", k.name, err)
							}
							return
						}
						if draintest.KindOf(err) != c.want || !strings.Contains(fmt.Sprint(err), c.words) {
							t.Errorf("%s, HTTP %d: %v (%s); want %s", k.name, s, err, draintest.KindOf(err), c.want)
						}
						var business int
						for _, r := range d.asked[n:] {
							if r.Method == "GET" {
								business++
							}
						}
						if business > c.most {
							t.Errorf("%s: %d calls", k.name, business)
						}
						if err != nil {
							d.clean(err.Error())
						}
					})
				}
			}
		})
	}
	once := func(name string, test func(t *testing.T, d *desk)) {
		t.Run(name, func(t *testing.T) { onDesk(t, nil, test) })
	}
	once("895 file expired: a new link, twice, then given up", func(t *testing.T, d *desk) {
		d.faults(func(f *faults) { f.FileGone = true })
		if _, err := d.client.Portrait(t.Context(), who); !errors.Is(err, ErrNoFile) || paths(d.asked) != "token headshot query headshot query headshot" {
			t.Errorf("%v, %s", err, paths(d.asked))
		}
		if _, err := d.client.Attachment(t.Context(), Attachment{file: "f-x"}); !errors.Is(err, ErrNoFile) {
			t.Error(err)
		}
	})
	once("898 id wrong: each one stands alone", func(t *testing.T, d *desk) {
		d.faults(code(898))
		found, gone, err := d.client.Candidates(t.Context(), hour, []string{"1", "2", "3"})
		if err != nil || len(found) != 0 || !slices.Equal(gone, []string{"1", "2", "3"}) {
			t.Errorf("%v, %q, %v", found, gone, err)
		}
	})
	once("HTTP 401 once: a new token", func(t *testing.T, d *desk) {
		if _, err := d.client.List(t.Context(), hour); err != nil {
			t.Fatal(err)
		}
		d.cloud.Revoke()
		if ids, err := d.client.List(t.Context(), hour); err != nil || len(ids) != 2 {
			t.Errorf("%q, %v", ids, err)
		}
	})
	once("HTTP 200 that is not 104", func(t *testing.T, d *desk) {
		d.faults(func(f *faults) { f.HTMLNext, f.FailOn = -1, sandbox.OnBusiness })
		if _, err := d.client.List(t.Context(), hour); draintest.KindOf(err) != "outage" || !strings.Contains(err.Error(), "portal") {
			t.Error(err)
		}
		if _, _, err := d.client.Candidates(t.Context(), hour, []string{"1", "2"}); draintest.KindOf(err) != "outage" || !strings.Contains(err.Error(), "portal") {
			t.Error(err)
		}
	})
}

func TestTheResumeServicesTokenEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*desk)
		want  string
		words string
	}{
		"a wrong secret": {func(d *desk) { d.secret = "old" }, "denied:auth_failed", "client_secret_file"},
		"no secret":      {func(d *desk) { d.secret = " " }, "denied:misconfigured", "client_secret_file"},
		"404": {func(d *desk) {
			d.faults(func(f *sandbox.ResumeFaults) { f.FailNext, f.FailStatus, f.FailOn = -1, 404, sandbox.OnToken })
		}, "denied:misconfigured", "token_url"},
		"429": {func(d *desk) {
			d.faults(func(f *sandbox.ResumeFaults) { f.FailNext, f.FailStatus, f.FailOn = -1, 429, sandbox.OnToken })
		}, "busy:2s", ""},
		"503": {func(d *desk) {
			d.faults(func(f *sandbox.ResumeFaults) { f.FailNext, f.FailStatus, f.FailOn = -1, 503, sandbox.OnToken })
		}, "outage", ""},
		"a portal": {func(d *desk) {
			d.faults(func(f *sandbox.ResumeFaults) { f.HTMLNext, f.FailOn = -1, sandbox.OnToken })
		}, "outage", "portal"},
	} {
		onDesk(t, nil, func(t *testing.T, d *desk) {
			c.fault(d)
			_, err := d.client.List(t.Context(), hourOf("2025-04-25 12"))
			if draintest.KindOf(err) != c.want || !strings.Contains(fmt.Sprint(err), c.words) {
				t.Errorf("%s: %v", name, err)
			}
			if got := paths(d.asked); strings.Contains(got, "query") {
				t.Errorf("%s: %s without a token", name, got)
			}
		})
	}
}

func TestSettingsAreChecked(t *testing.T) {
	good := Config{APIBase: "https://a.invalid/x", TokenURL: "https://a.invalid/y", ClientID: "c", Company: "12345678",
		Secret: func() (string, error) { return "", nil }, HTTP: &http.Client{}, Log: slog.New(slog.DiscardHandler)}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"api_base": func(c *Config) { c.APIBase = "x" }, "token_url": func(c *Config) { c.TokenURL = "https://u:p@a.invalid" }, "client_id": func(c *Config) { c.ClientID = "" },
		"required": func(c *Config) { c.Log = nil }, "tax id": func(c *Config) { c.Company = "12 45" }, "auth": func(c *Config) { c.Auth = "x" },
		"flag": func(c *Config) { c.Flag = 9 }, "5m": func(c *Config) { c.Early = -1 },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %q", err, want)
		}
	}
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte(`{"data":{"total":2,"queryDate":"2026-01-15T00:00:00.000Z","idList":["1234567890",1234567891]}}`), 200)
	f.Add([]byte(`{"data":{"list":[{"resumeId":"1","fullName":"測試 一號","headshotUrl":"https://x/?fileId=a%20b"}]}}`), 200)
	f.Add([]byte(`{"code":900,"message":"x"}`), 500)
	f.Add([]byte(`{"access_token":"at-1","expires_in":3600}`), 200)
	f.Add([]byte(`<html>`), 200)
	f.Fuzz(func(t *testing.T, b []byte, status int) {
		v := judge(status, b)
		if v.action == denied && (v.hint == "" || v.state == "") || v.action != taken && v.what == "" {
			t.Errorf("%+v", v)
		}
		ids, _, err := parseList(b)
		for _, id := range ids {
			if err != nil || id == "" || plainID(id) != id {
				t.Errorf("id %q", id)
			}
		}
		people, _ := parseResumes(b)
		for _, p := range people {
			if p.ID == "" || strings.ContainsAny(p.Name, "\n\r\t") || len([]rune(p.Name)) > nameMost || strings.ContainsAny(p.Photo, " \n") {
				t.Errorf("%+v", p)
			}
		}
		if tok, err := parseToken(b); err == nil && (tok.Value == "" || tok.Life <= 0) {
			t.Errorf("%+v", tok)
		}
		parseAttachments(b, "1")
	})
}
