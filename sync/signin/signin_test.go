package signin

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
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/sandbox"
	"punchclock/sync/token"
)

const (
	account  = "svc-clock"
	password = "pa55w0rd-of-the-account"
)

// desk is a client and a sign-in system on one desk, without a network.
type desk struct {
	t       *testing.T
	cloud   *sandbox.Signin
	client  *Client
	secret  string
	secrets error
	logs    bytes.Buffer
	logins  []string // what TokenObserve heard
	calls   []call
}

type call struct {
	method, url, body string
	head              http.Header
}

// onDesk runs a test in a bubble. change may be nil.
func onDesk(t *testing.T, change func(*Config), test func(*desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		people := sandbox.People("A0001", "000123", "119008", "P1", "P2", "P3", "P4", "P5")
		people = append(people, sandbox.Person{Number: "P6", SigninID: "11542"})
		d := &desk{t: t, secret: password, cloud: sandbox.NewSignin(sandbox.SigninConfig{UserID: account, Password: password, People: people})}
		d.client = d.open(d.cloud, change)
		time.Sleep(2 * time.Second) // a new ceiling holds the first call for one
		test(d)
	})
}

func (d *desk) open(h http.Handler, change func(*Config)) *Client {
	d.t.Helper()
	hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(30), Transport: tap{d, sandbox.Transport(h)}})
	if err != nil {
		d.t.Fatal(err)
	}
	cfg := Config{
		Mode: ServiceAccount, BaseURL: "https://signin.invalid/", UserID: account,
		Secret: func() (string, error) { return d.secret, d.secrets },
		HTTP:   hc, Log: slog.New(slog.NewTextHandler(&d.logs, nil)),
		TokenObserve: func(r string) { d.logins = append(d.logins, r) },
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// tap keeps what goes over the wire.
type tap struct {
	d    *desk
	next http.RoundTripper
}

func (t tap) RoundTrip(r *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body.Close()
	r.Body = io.NopCloser(bytes.NewReader(b))
	t.d.calls = append(t.d.calls, call{r.Method, r.URL.String(), string(b), r.Header})
	return t.next.RoundTrip(r)
}

func (d *desk) faults(f func(*sandbox.SigninFaults)) { d.cloud.SetFaults(f) }

// made lists the calls so far, in one letter each: L, O, S, G, D.
func (d *desk) made() string {
	var b strings.Builder
	for _, c := range d.calls {
		switch {
		case strings.Contains(c.url, "/user/login"):
			b.WriteString("L")
		case strings.Contains(c.url, "/user/logout"):
			b.WriteString("O")
		case strings.Contains(c.url, "Detail"):
			b.WriteString("D")
		case c.method == "GET":
			b.WriteString("G")
		default:
			b.WriteString("S")
		}
	}
	return b.String()
}

// punches lists the bodies of the punches that went out.
func (d *desk) punches() (out []string) {
	for i, c := range d.made() {
		if c == 'S' {
			out = append(out, d.calls[i].body)
		}
	}
	return out
}

var begin = time.Date(2025, 12, 23, 8, 0, 0, 987_654_321, time.FixedZone("", 5*3600+1800))

// send offers a batch and writes what came of it as "accept refuse:reason -".
func (d *desk) send(ps []punch.Punch) (string, error) {
	d.t.Helper()
	vs, err := d.client.Send(context.Background(), ps)
	if err != nil {
		d.holdsNothing(err.Error())
	}
	for _, v := range vs {
		d.holdsNothing(v.Message)
	}
	return draintest.Fates(d.t, ps, vs), err
}

// holdsNothing checks a text that may be logged or shown.
func (d *desk) holdsNothing(s string) {
	d.t.Helper()
	for _, bad := range []string{password, d.secret, "eyJ", "opaque-", "Bearer", "王小明"} {
		if bad != "" && strings.Contains(s, bad) {
			d.t.Errorf("%q holds %q", s, bad)
		}
	}
}

func (d *desk) want(ps []punch.Punch, want string) {
	d.t.Helper()
	if got, err := d.send(ps); got != want || err != nil {
		d.t.Fatalf("got %q, %v; want %q without an error", got, err, want)
	}
}

// wantErr wants no verdict and an error of a kind: denied:state, busy:wait, outage.
func (d *desk) wantErr(ps []punch.Punch, want string) error {
	d.t.Helper()
	got, err := d.send(ps)
	if strings.Trim(got, "- ") != "" || draintest.KindOf(err) != want {
		d.t.Fatalf("got %q, %v; want %s", got, err, want)
	}
	return err
}

func (d *desk) ledger() string {
	var out []string
	for _, r := range d.cloud.Ledger() {
		out = append(out, r.UserID)
	}
	return strings.Join(out, " ")
}

func TestAPunchGoesOutWithItsStatusInTaiwansTime(t *testing.T) {
	people := map[string]punch.Employee{"P6": {Number: "P6", SigninID: "11542"}, "000123": {Number: "000123"}}
	onDesk(t, func(c *Config) {
		c.People = func(n string, _ time.Time) (punch.Employee, bool) { e, ok := people[n]; return e, ok }
	}, func(d *desk) {
		ps := draintest.Numbered(begin, "P6", "000123", "A0001", "P1")
		ps[0].Stamp.Wall = time.Unix(1666146234, 999_999_999).UTC()
		ps[1].Corrected = time.Date(2025, 12, 31, 23, 59, 59, 500e6, taiwan)
		d.want(ps, "accept accept accept accept")
		want := []string{
			`{"user_id":"11542","group_id":"svc-clock","sign_date":"2022-10-19 10:23:54+08","status":"上班"}`,
			`{"user_id":"000123","group_id":"svc-clock","sign_date":"2025-12-31 23:59:59+08","status":"下班"}`,
			`{"user_id":"A0001","group_id":"svc-clock","sign_date":"2025-12-23 10:32:00+08","status":"外出"}`,
			`{"user_id":"P1","group_id":"svc-clock","sign_date":"2025-12-23 10:33:00+08","status":"外歸"}`,
		}
		if got := d.punches(); !slices.Equal(got, want) {
			t.Errorf("bodies\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if d.made() != "LSSSS" || d.calls[0].body != `{"user_id":"svc-clock","password":"`+password+`"}` ||
			d.calls[0].url != "https://signin.invalid/api/public/user/login" || d.calls[1].url != "https://signin.invalid/api/public/signin" {
			t.Errorf("%s, %+v", d.made(), d.calls[:2])
		}
		for i, c := range d.calls {
			if c.head.Get("Content-Type") != "application/json; charset=utf-8" || strings.HasPrefix(c.head.Get("Authorization"), "Bearer eyJ") != (i > 0) {
				t.Errorf("call %d has the headers %v", i, c.head)
			}
		}
		if !slices.Equal(d.logins, []string{"ok"}) {
			t.Errorf("logins %q", d.logins)
		}
	})
}

func TestWhatCannotBeSentIsRefusedBeforeSending(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "", " ", "P\xff1", "P1", "P2")
		ps[3].Kind = 0
		ps[4].Stamp.Wall = time.Date(10000, 1, 1, 0, 0, 0, 0, taiwan)
		d.want(ps, "refuse:emp_no_blank refuse:emp_no_blank refuse:emp_no_invalid refuse:bad_kind refuse:bad_time")
		if len(d.calls) != 0 {
			t.Errorf("%s for nothing", d.made())
		}
	})
}

func TestOffSendsNothingAndSkips(t *testing.T) {
	for _, mode := range []Mode{"", Off} {
		c, err := New(Config{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		ps := draintest.Numbered(begin, "P1", "")
		vs, err := c.Send(context.Background(), ps)
		if got := draintest.Fates(t, ps, vs); got != "skip skip" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		c.Reset()
		c.Insist()
		c.Logout(context.Background())
		if _, err := c.Today(context.Background(), "P1"); err == nil || !strings.Contains(err.Error(), "service_account") {
			t.Errorf("today: %v", err)
		}
	}
}

func TestAResendIsByteForByteTheSame(t *testing.T) {
	for _, dup := range []string{sandbox.DuplicatesStoreOnce, sandbox.DuplicatesConflict} {
		onDesk(t, nil, func(d *desk) {
			ps := draintest.Numbered(begin, "A0001", "000123", "119008")
			d.faults(func(f *sandbox.SigninFaults) { f.Duplicates = dup })
			d.want(ps[:1], "accept")
			d.faults(func(f *sandbox.SigninFaults) { f.CommitThenDrop = 1 })
			d.wantErr(ps[1:], "outage")
			d.want(ps[1:], "accept accept")
			if b := d.punches(); b[1] != b[2] || d.ledger() != "A0001 000123 119008" {
				t.Errorf("%s: resends differ: %q, ledger %q", dup, b, d.ledger())
			}
		})
	}
}

// Section 9, one row after the other, for a punch.
func TestEveryAnswerToAPunchHasItsMeaning(t *testing.T) {
	for _, c := range []struct {
		status, code int
		msg          string
		want         string // a fate, or the kind of the error
		message      string // of a refusal
		made         string
	}{
		{200, 0, "number 0", "accept", "", "LS"},
		{400, 40001, "bad sign_date", "refuse:http400", "http400 40001 Bad Request bad sign_date", "LS"},
		{400, 0, "", "refuse:http400", "http400 0 Bad Request", "LS"},
		{401, 40100, "token expired", "denied:auth_failed", "", "LSLS"},
		{401, 40103, sandbox.MsgBadPassword, "denied:auth_failed", "", "LSLS"},
		{401, 40101, sandbox.MsgNotApproved, "refuse:user_not_approved", "40101 Unauthorized " + sandbox.MsgNotApproved, "LSG"},
		{403, 40301, "no", "denied:auth_failed", "", "LS"},
		{404, 40400, "no", "denied:misconfigured", "", "LS"},
		{405, 40500, "no", "denied:misconfigured", "", "LS"},
		{409, 40900, "there already", "accept", "", "LS"},
		{429, 42900, "slow down", "busy:0s", "", "LS"},
		{500, 50000, "exception", "outage", "", "LS"},
		{503, 50300, "gone", "outage", "", "LS"},
		{422, 42200, "?", "outage", "", "LS"},
		{302, 0, "", "outage", "", "LS"},
		{200, 50000, "code without success", "outage", "", "LS"},
	} {
		t.Run(fmt.Sprint(c.status, " ", c.code), func(t *testing.T) {
			onDesk(t, nil, func(d *desk) {
				d.faults(func(f *sandbox.SigninFaults) {
					f.Poison = map[string]sandbox.Refusal{"P2": {Status: c.status, Code: c.code, Msg: c.msg}}
					f.DelayMS = 1000 // two tokens of one second are the same text
				})
				ps := draintest.Numbered(begin, "P2")
				vs, err := d.client.Send(context.Background(), ps)
				got := draintest.Fates(t, ps, vs)
				if err != nil {
					got = draintest.KindOf(err)
					d.holdsNothing(err.Error())
				}
				if got != c.want || d.made() != c.made {
					t.Errorf("%q, %v after %s; want %q after %s", got, err, d.made(), c.want, c.made)
				}
				if len(vs) == 1 && vs[0].Fate == punch.Refuse && vs[0].Message != c.message {
					t.Errorf("message %q, want %q", vs[0].Message, c.message)
				}
				if err != nil {
					if got, _ := d.send(draintest.Numbered(begin, "P1", "P2", "P3")); got != "accept - -" && draintest.KindOf(err) != "denied:auth_failed" {
						t.Errorf("in the middle of a batch: %q", got)
					}
					return
				}
				d.want(draintest.Numbered(begin, "P1", "P2", "P3"), "accept "+c.want+" accept")
			})
		})
	}
}

func TestWhatIsNotJSONIsAnOutageWithoutALimit(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.faults(func(f *sandbox.SigninFaults) { f.HTMLNext = -1 })
		for range 20 {
			d.wantErr(draintest.Numbered(begin, "P2"), "outage")
		}
		d.faults(func(f *sandbox.SigninFaults) { f.HTMLNext, f.FailNext, f.FailStatus = 0, -1, 503 })
		for range 20 {
			d.wantErr(draintest.Numbered(begin, "P2"), "outage")
		}
		d.faults(func(f *sandbox.SigninFaults) { f.FailNext, f.Down = 0, true })
		for range 20 {
			d.wantErr(draintest.Numbered(begin, "P2"), "outage")
		}
		d.faults(func(f *sandbox.SigninFaults) { f.Down = false })
		d.want(draintest.Numbered(begin, "P2"), "accept")
	})
}

func TestAnExceptionWith200IsTriedFiveTimesAndThenParked(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "P1", "P2", "P3")
		d.want(ps[:1], "accept")
		d.faults(func(f *sandbox.SigninFaults) { f.ExceptionNext = 5 })
		for range 4 {
			d.wantErr(ps[1:], "outage")
		}
		d.want(ps[1:], "refuse:odd_answer accept")
		// Put back by a person, it has its five tries again.
		d.faults(func(f *sandbox.SigninFaults) { f.ExceptionNext = 1 })
		d.wantErr(ps[1:2], "outage")
		d.want(ps[1:2], "accept")
		b := d.punches()
		for _, s := range b[2:6] {
			if s != b[1] {
				t.Errorf("resends differ: %q", b)
			}
		}
	})
}

func TestFourExceptionsCostNothing(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.SigninFaults) { f.ExceptionNext = 4 })
		for range 4 {
			d.wantErr(draintest.Numbered(begin, "P1"), "outage")
		}
		d.want(draintest.Numbered(begin, "P1"), "accept")
	})
}

func TestSomebodyWhoIsNotApprovedHoldsUpNobody(t *testing.T) {
	for status, reason := range map[int]string{401: "user_not_approved", 400: "http400"} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.SigninFaults) { f.StrangerStatus = status })
			d.want(draintest.Numbered(begin, "NOBODY", "P1", "NOBODY", "P2"), "refuse:"+reason+" accept refuse:"+reason+" accept")
			if n := len(d.logins); n != 1 {
				t.Errorf("%d logins", n)
			}
			d.faults(func(f *sandbox.SigninFaults) { f.NotApproved = []string{"P3"} })
			d.want(draintest.Numbered(begin, "P3", "P4"), "refuse:"+reason+" accept")
		})
	}
}

func TestATokenThatDiedIsReplacedEvenWhenTheAnswerSpeaksOfThePerson(t *testing.T) {
	for _, code := range []int{40100, 40101} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.SigninFaults) { f.TokenCode = code })
			d.want(draintest.Numbered(begin, "P1"), "accept")
			d.cloud.Revoke()
			d.want(draintest.Numbered(begin, "P2", "P3"), "accept accept")
			b := d.punches()
			if b[1] != b[2] || len(d.logins) != 2 {
				t.Errorf("%d: %s, %q", code, d.made(), b)
			}
		})
	}
}

func TestATokenThatIsRefusedForEverCallsAPerson(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		time.Sleep(time.Second) // two tokens of one second are the same text
		d.faults(func(f *sandbox.SigninFaults) { f.TokenTransport = "header:X-Other" })
		err := d.wantErr(draintest.Numbered(begin, "P2", "P3"), "denied:auth_failed")
		if d.made() != "LSSLS" || !strings.Contains(err.Error(), "token_transport") {
			t.Errorf("%s, %v", d.made(), err)
		}
		for range 5 {
			d.wantErr(draintest.Numbered(begin, "P2"), "denied:auth_failed")
		}
		if len(d.logins) != 2 {
			t.Errorf("%d logins within a minute", len(d.logins))
		}
	})
}

func TestOwnPunchesOnlyCallsAPerson(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.SigninFaults) { f.EnforceSelf = true })
		d.want(draintest.Numbered(begin, account), "accept")
		if err := d.wantErr(draintest.Numbered(begin, "P1"), "denied:auth_failed"); !strings.Contains(err.Error(), "may punch for others") {
			t.Error(err)
		}
	})
}

func TestTheTokenTravelsAsConfigured(t *testing.T) {
	for transport, check := range map[string]func(call) bool{
		"bearer": func(c call) bool { return strings.HasPrefix(c.head.Get("Authorization"), "Bearer eyJ") },
		"header:X-Token": func(c call) bool {
			return strings.HasPrefix(c.head.Get("X-Token"), "eyJ") && c.head.Get("Authorization") == ""
		},
		"body:token_key": func(c call) bool {
			return (strings.Contains(c.body, `,"token_key":"eyJ`) || strings.Contains(c.url, "token_key=eyJ")) && c.head.Get("Authorization") == ""
		},
		"none": func(c call) bool {
			return !strings.Contains(c.body+c.url, "token_key") && c.head.Get("Authorization") == ""
		},
	} {
		onDesk(t, func(c *Config) { c.TokenTransport = transport }, func(d *desk) {
			d.faults(func(f *sandbox.SigninFaults) { f.TokenTransport = transport })
			d.want(draintest.Numbered(begin, "P1", "NOBODY"), "accept refuse:user_not_approved")
			if _, err := d.client.Today(context.Background(), "P1"); err != nil {
				t.Error(err)
			}
			d.client.Logout(context.Background())
			if d.made() != "LSSGGO" {
				t.Errorf("%s: %s", transport, d.made())
			}
			for _, c := range d.calls[1:] {
				if !check(c) {
					t.Errorf("%s: %+v", transport, c)
				}
			}
		})
	}
}

func TestGroupIDIsTheLoginsOrTheUsers(t *testing.T) {
	onDesk(t, func(c *Config) { c.GroupID = GroupOfUser }, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		if r := d.cloud.Ledger()[0]; r.GroupID != "P1" {
			t.Errorf("%+v", r)
		}
	})
	for body, want := range map[string]string{`"group_id":"g7",`: "g7", `"group_id":7,`: "7", ``: account, `"group_id":null,`: account} {
		synctest.Test(t, func(t *testing.T) {
			d := &desk{t: t, secret: password}
			d.client = d.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, `{"code":"00","data":{%s"token_key":"x"}}`, body)
			}), nil)
			d.want(draintest.Numbered(begin, "P1"), "accept")
			if !strings.Contains(d.calls[1].body, `"group_id":"`+want+`"`) {
				t.Errorf("%s: %s", body, d.calls[1].body)
			}
		})
	}
}

func TestALoginIsMadeAnewShortlyBeforeTheTokensEnd(t *testing.T) {
	for _, c := range []struct {
		life  int
		jwt   bool
		early time.Duration
	}{{600, true, 60 * time.Second}, {60, true, 15 * time.Second}, {7200, true, 60 * time.Second}, {600, false, 60 * time.Second}} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.SigninFaults) { f.TokenLifeSeconds, f.TokenNotJWT = c.life, !c.jwt })
			d.want(draintest.Numbered(begin, "P1"), "accept")
			time.Sleep(time.Duration(c.life)*time.Second - c.early - time.Second)
			d.want(draintest.Numbered(begin, "P2"), "accept")
			if len(d.logins) != 1 {
				t.Errorf("%+v: %d logins before there was need", c, len(d.logins))
			}
			time.Sleep(2 * time.Second)
			d.want(draintest.Numbered(begin, "P3"), "accept")
			if d.made() != "LSSLS" {
				t.Errorf("%+v: %s", c, d.made())
			}
		})
	}
}

func TestTheTokensLifeDoesNotHangOnAnyWallClock(t *testing.T) {
	for _, ahead := range []int{-86400 * 365, 86400 * 365} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.SigninFaults) { f.ClockAhead = ahead })
			d.want(draintest.Numbered(begin, "P1"), "accept")
			time.Sleep(8 * time.Minute)
			d.want(draintest.Numbered(begin, "P2"), "accept")
			time.Sleep(2 * time.Minute)
			d.want(draintest.Numbered(begin, "P3"), "accept")
			if d.made() != "LSSLS" {
				t.Error(d.made())
			}
		})
	}
}

func TestTheSystemsTimeIsHandedOn(t *testing.T) {
	var heard []time.Duration
	onDesk(t, func(c *Config) {
		c.Clock = func(at time.Time) { heard = append(heard, time.Until(at).Round(time.Second)) }
	}, func(d *desk) {
		for _, ahead := range []int{0, 90, -3600} {
			d.faults(func(f *sandbox.SigninFaults) { f.ClockAhead = ahead })
			d.want(draintest.Numbered(begin, "P1"), "accept")
		}
		d.faults(func(f *sandbox.SigninFaults) { f.HTMLNext = 1 })
		d.wantErr(draintest.Numbered(begin, "P2"), "outage")
		want := []time.Duration{0, 0, 90 * time.Second, -time.Hour}
		if !slices.Equal(heard, want) {
			t.Errorf("heard %v, want %v", heard, want)
		}
	})
}

func TestWhatTheSystemHoldsIsReadBackByEmployee(t *testing.T) {
	onDesk(t, func(c *Config) {
		c.People = func(n string, _ time.Time) (punch.Employee, bool) {
			return punch.Employee{SigninID: map[string]string{"P6": "11542", "P7": "P1"}[n]}, true
		}
	}, func(d *desk) {
		ps := draintest.Numbered(begin, "P1", "P6", "P1")
		ps[2].Stamp.Wall = begin.AddDate(0, 0, 1)
		d.want(ps, "accept accept accept")
		held, unasked, err := d.client.Held(context.Background(), []string{"P1", "NOBODY", "P6", "P7", ""}, begin, begin.Add(24*time.Hour))
		want := []drain.Held{{Employee: "P1", Kind: ps[0].Kind, Time: begin.Truncate(time.Second).UTC()}, {Employee: "P6", Kind: ps[1].Kind, Time: begin.Add(time.Minute).Truncate(time.Second).UTC()}}
		if !slices.Equal(held, want) || !slices.Equal(unasked, []string{"NOBODY", "P7", ""}) || err != nil {
			t.Errorf("%v, %q, %v; want %v", held, unasked, err, want)
		}
		n := 0
		old := d.client.cfg.HTTP.Transport
		d.client.cfg.HTTP.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if n++; n == 2 {
				d.faults(func(f *sandbox.SigninFaults) { f.FailNext, f.FailStatus, f.RetryAfter = 1, 429, "9" })
			}
			return old.RoundTrip(r)
		})
		held, unasked, err = d.client.Held(context.Background(), []string{"P1", "P6", "P2"}, begin, begin.Add(24*time.Hour))
		if !slices.Equal(held, want[:1]) || !slices.Equal(unasked, []string{"P6", "P2"}) || draintest.KindOf(err) != "busy:9s" {
			t.Errorf("%v, %q, %v", held, unasked, err)
		}
	})
}

func TestReadingThatIsNotAllowedDoesNotStopThePunches(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		time.Sleep(time.Second)
		d.faults(func(f *sandbox.SigninFaults) { f.AnswerNext, f.Answer = 2, sandbox.Refusal{Status: 401, Code: 40100} })
		if _, err := d.client.Today(context.Background(), "P1"); draintest.KindOf(err) != "denied:auth_failed" {
			t.Error(err)
		}
		d.want(draintest.Numbered(begin, "P2"), "accept")
		if d.made() != "LSGLGS" {
			t.Error(d.made())
		}
	})
}

// What a login may be answered with, and whether that may be tried again by itself.
func TestTheLoginsAnswers(t *testing.T) {
	reply := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name  string
		reply http.HandlerFunc
		want  string
		hint  string
		once  bool // never again with the same password
	}{
		{"not approved", reply(401, `{"statusCode":401,"code":40101,"error":"Unauthorized","message":"使用者不存在，未經核可，無法使用打卡系統"}`), "denied:auth_failed", "approved", true},
		{"bad password", reply(401, `{"statusCode":401,"code":40103,"error":"Unauthorized","message":"登入失敗; AD帳號或密碼輸入錯誤"}`), "denied:auth_failed", "password_file", true},
		{"the gap", reply(401, `{"code":40102}`), "denied:auth_failed", "password_file", true},
		{"code as text", reply(401, `{"code":"40103"}`), "denied:auth_failed", "password_file", true},
		{"further code", reply(401, `{"code":40199}`), "denied:auth_failed", "password_file", true},
		{"401 of somebody", reply(401, `<html>`), "denied:auth_failed", "password_file", true},
		{"bad password with 200", reply(200, `{"code":40103}`), "denied:auth_failed", "password_file", true},
		{"words in data", reply(401, `{"code":40103,"data":"登入失敗"}`), "denied:auth_failed", "password_file", true},
		{"400", reply(400, `{"code":40001,"message":"x"}`), "denied:misconfigured", "user_id", true},
		{"403", reply(403, `{"code":40301}`), "denied:auth_failed", "password_file", true},
		{"403 of a portal", reply(403, `<html>`), "denied:auth_failed", "", false},
		{"404", reply(404, `Not Found`), "denied:misconfigured", "login_path", false},
		{"405", reply(405, ``), "denied:misconfigured", "login_path", false},
		{"429", reply(429, ``), "busy:0s", "", false},
		{"500", reply(500, `{"code":40103}`), "outage", "", false},
		{"409", reply(409, `{"code":1}`), "outage", "", false},
		{"html", reply(200, `<html>`), "outage", "", false},
		{"exception", reply(200, `{"status":-1,"message":"x"}`), "outage", "", false},
		{"no data", reply(200, `{"code":"00"}`), "outage", "", false},
		{"no token", reply(200, `{"code":"00","data":{"user_id":"x"}}`), "outage", "", false},
		{"token of another type", reply(200, `{"code":"00","data":{"token_key":5}}`), "outage", "", false},
		{"token breaks the header", reply(200, `{"code":"00","data":{"token_key":"x\r\nY: z"}}`), "outage", "", false},
		{"trailing comma", reply(200, `{"code":"00","data":{"token_key":"x",}}`), "outage", "", false},
		{"network", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "outage", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &desk{t: t, secret: password}
				d.client = d.open(c.reply, nil)
				err := d.wantErr(draintest.Numbered(begin, "P1"), c.want)
				var denied *token.Denied
				if errors.As(err, &denied) && !strings.Contains(denied.Hint, c.hint) {
					t.Errorf("hint %q does not speak of %q", denied.Hint, c.hint)
				}
				for range 10 { // the engine's probes
					time.Sleep(15 * time.Minute)
					d.client.Reset()
					d.wantErr(draintest.Numbered(begin, "P1"), c.want)
				}
				if once := d.made() == "L"; once != c.once || strings.Contains(d.made(), "S") {
					t.Errorf("%s", d.made())
				}
			})
		})
	}
}

func TestABadPasswordIsTriedOnceWhateverHappensAndTheAccountIsNotLocked(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		right := d.secret
		d.secret = "an-old-password"
		log := &draintest.Log{}
		log.Append(draintest.Numbered(begin, "P1", "P2")...)
		w := drain.NewWorker(drain.Config{Name: "signin", Log: log, Dest: d.client, Logger: slog.New(slog.NewTextHandler(&d.logs, nil))})
		run := func(d time.Duration) {
			ctx, cancel := context.WithTimeout(context.Background(), d)
			defer cancel()
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		}
		once := func(want int, when string) {
			t.Helper()
			if locked, n := d.cloud.Locked(); n != want || locked || len(d.logins) != want {
				t.Fatalf("%s: the directory saw %d passwords (%v heard of), locked: %v; want %d", when, n, d.logins, locked, want)
			}
		}
		run(48 * time.Hour) // the engine's probes
		once(1, "after two days of probes")
		if s := w.Status(); s.State != token.AuthFailed || !strings.Contains(s.LastError, "bad_password") || !strings.Contains(s.LastError, "AD帳號或密碼輸入錯誤") {
			t.Errorf("status %+v", s)
		}
		for range 10 { // the worker's loop begins anew
			run(time.Hour)
		}
		once(1, "after ten new beginnings")
		for range 10 { // the file is touched, with the same content
			w.Wake()
			run(time.Minute)
		}
		once(1, "after the file was touched")
		w.Kick() // a person wants to know
		run(24 * time.Hour)
		once(2, "after a person's word")
		d.secret = "another-old-one"
		run(24 * time.Hour) // nobody says so: the slow probe reads the file
		once(3, "after another bad one")
		w.Kick()
		w.Kick()
		run(time.Minute)
		once(4, "after two kicks at once")
		d.secret = right
		w.Wake()
		run(time.Minute)
		once(5, "after the right one")
		if d.ledger() != "P1 P2" || w.Status().State != drain.OK {
			t.Errorf("ledger %q, %+v", d.ledger(), w.Status())
		}
		d.holdsNothing(d.logs.String())
		if n := strings.Count(d.logs.String(), "destination fails"); n != 1 {
			t.Errorf("told %d times:\n%s", n, d.logs.String())
		}
	})
}

// The sandbox must be able to fail the test above.
func TestFiveBadPasswordsDoLockTheAccount(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		right := d.secret
		d.secret = "wrong"
		for range 5 {
			d.client.Insist()
			d.wantErr(draintest.Numbered(begin, "P1"), "denied:auth_failed")
		}
		d.secret = right
		d.client.Insist()
		d.wantErr(draintest.Numbered(begin, "P1"), "denied:auth_failed")
		if locked, n := d.cloud.Locked(); !locked || n != 6 {
			t.Errorf("locked: %v after %d", locked, n)
		}
	})
}

func TestAPasswordThatWasChangedOverThereStopsAtOnce(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.cloud.SetPassword("a-new-one-of-the-owner")
		time.Sleep(20 * time.Minute)
		for range 5 {
			d.wantErr(draintest.Numbered(begin, "P2"), "denied:auth_failed")
			d.client.Reset()
		}
		if d.made() != "LSL" {
			t.Error(d.made())
		}
		d.secret = "a-new-one-of-the-owner\n"
		d.client.Reset()
		d.want(draintest.Numbered(begin, "P2"), "accept")
	})
}

func TestAPasswordThatCannotBeReadIsAMisconfiguration(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		for _, c := range []struct {
			secret string
			err    error
		}{{"", errors.New("open signin-password: no such file")}, {" \n", nil}, {"x\xff", nil}} {
			d.secret, d.secrets = c.secret, c.err
			d.client.Reset()
			if _, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P1")); draintest.KindOf(err) != "denied:misconfigured" || !strings.Contains(err.Error(), "password_file") {
				t.Errorf("%q: %v", c.secret, err)
			}
		}
		if d.made() != "" || len(d.logins) != 0 {
			t.Errorf("%s without a password", d.made())
		}
	})
}

func TestTheSystemsWordsCannotGiveSecretsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t, secret: password}
		d.client = d.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			switch {
			case strings.HasSuffix(r.URL.Path, "login") && len(d.calls) == 1:
				io.WriteString(w, `{"code":"00","data":{"token_key":"eyJtoken-that-is-secret"}}`)
			case strings.HasSuffix(r.URL.Path, "login"):
				w.WriteHeader(401)
				fmt.Fprintf(w, `{"code":40103,"message":%q}`, strings.Repeat("x", 230)+string(b))
			default:
				w.WriteHeader(400)
				fmt.Fprintf(w, `{"code":1,"message":%q}`, r.Header.Get("Authorization")[len("Bearer "):]+" 一\r\n "+strings.Repeat("拒", 200))
			}
		}), nil)
		d.want(draintest.Numbered(begin, "P1"), "refuse:http400")
		time.Sleep(time.Hour)
		d.wantErr(draintest.Numbered(begin, "P2"), "denied:auth_failed")
	})
}

func TestTheLastKeyOfTheLoginsDoubleAndTheCommasOfThePage(t *testing.T) {
	for _, tolerant := range []bool{false, true} {
		for _, twice := range []bool{false, true} {
			onDesk(t, func(c *Config) { c.Tolerant = tolerant }, func(d *desk) {
				d.faults(func(f *sandbox.SigninFaults) { f.LoginDayTwice = twice })
				d.want(draintest.Numbered(begin, "P1"), "accept")
				d.faults(func(f *sandbox.SigninFaults) { f.TrailingComma = true })
				if !tolerant {
					d.wantErr(draintest.Numbered(begin, "P2"), "outage")
					return
				}
				d.want(draintest.Numbered(begin, "P2", "NOBODY"), "accept refuse:user_not_approved")
				if days, err := d.client.Today(context.Background(), "P1"); err != nil || len(days) != 0 {
					t.Errorf("%v, %v", days, err)
				}
			})
		}
	}
}

func TestTodayAndRecordsTellWhatTheSystemHolds(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		now := time.Now().In(taiwan) // 2000-01-01 08:00
		ps := draintest.Numbered(begin, "P1", "P1", "P1", "P1", "P1")
		for i, at := range []time.Time{now.Add(time.Hour), now.Add(9 * time.Hour), now.Add(2 * time.Hour), now.Add(3 * time.Hour), now.Add(24 * time.Hour)} {
			ps[i].Stamp.Wall = at
		}
		d.want(ps, "accept accept accept accept accept")
		ps[0].Stamp.Wall, ps[0].ID = now.Add(5*time.Minute), "lobby-000000000009"
		d.want(ps[:1], "accept")
		got, err := d.client.Today(context.Background(), "P1")
		want := "[{上班 08:05:02 09:00:02} {下班 17:00:02 17:00:02} {外出 10:00:02 } {外歸 11:00:02 }]"
		if fmt.Sprint(got) != want || err != nil {
			t.Errorf("%v, %v; want %s", got, err, want)
		}
		records, err := d.client.Records(context.Background(), "P1", now, now)
		if err != nil || len(records) != 5 || records[0].Kind != punch.In || !records[0].Time.Equal(now.Add(5*time.Minute)) || records[4].Kind != punch.Out {
			t.Errorf("%v, %v", records, err)
		}
		if records, err = d.client.Records(context.Background(), "P1", now, now.AddDate(0, 0, 1)); err != nil || len(records) != 6 {
			t.Errorf("%v, %v", records, err)
		}
		last := d.calls[len(d.calls)-1]
		if last.url != "https://signin.invalid/api/public/signinDetail?ended_date=2000-01-02&started_date=2000-01-01&user_id=P1" {
			t.Error(last.url)
		}
		// A question about a stranger spoils nobody's token.
		if _, err := d.client.Today(context.Background(), "NOBODY"); err == nil || draintest.KindOf(err) != "outage" || !strings.Contains(err.Error(), "does not know") {
			t.Error(err)
		}
		d.want(ps[:1], "accept")
		d.faults(func(f *sandbox.SigninFaults) { f.AnswerNext, f.Answer = 1, sandbox.Refusal{Status: 404} })
		if _, err := d.client.Records(context.Background(), "P1", now, now); draintest.KindOf(err) != "denied:misconfigured" || !strings.Contains(err.Error(), "records_path") {
			t.Error(err)
		}
		d.cloud.Revoke()
		if _, err := d.client.Records(context.Background(), "P1", now, now); err != nil || len(d.logins) != 2 {
			t.Errorf("%v after %d logins", err, len(d.logins))
		}
	})
}

func TestALogoutIsFollowedByALoginAndItsFailureIsNothing(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.client.Logout(context.Background())
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.client.Logout(context.Background())
		d.client.Logout(context.Background())
		d.want(draintest.Numbered(begin, "P2"), "accept")
		if d.made() != "LSOLS" || d.calls[2].body != `{"user_id":"svc-clock"}` {
			t.Errorf("%s %+v", d.made(), d.calls)
		}
		d.faults(func(f *sandbox.SigninFaults) { f.AnswerNext = 1 })
		d.client.Logout(context.Background())
		d.faults(func(f *sandbox.SigninFaults) { f.Down = true })
		d.client.Logout(context.Background())
		d.faults(func(f *sandbox.SigninFaults) { f.Down = false })
		d.want(draintest.Numbered(begin, "P3"), "accept")
		if d.logs.Len() > 0 {
			t.Error(d.logs.String())
		}
	})
}

func TestAnOutageInTheMiddleKeepsWhatIsKnown(t *testing.T) {
	for fault, want := range map[string]string{"down": "outage", "429": "busy:9s", "cut": "outage"} {
		onDesk(t, nil, func(d *desk) {
			n := 0
			old := d.client.cfg.HTTP.Transport
			d.client.cfg.HTTP.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				if n++; n == 5 { // login, stranger, is the token good, P1, P2
					d.faults(func(f *sandbox.SigninFaults) {
						switch fault {
						case "down":
							f.Down = true
						case "429":
							f.FailNext, f.FailStatus, f.RetryAfter = 1, 429, "9"
						case "cut":
							f.CutNext = 1
						}
					})
				}
				return old.RoundTrip(r)
			})
			if got, err := d.send(draintest.Numbered(begin, "NOBODY", "P1", "P2", "P3")); got != "refuse:user_not_approved accept - -" || draintest.KindOf(err) != want {
				t.Errorf("%s: %q, %v", fault, got, err)
			}
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestASlowAnswerEndsWithTheContext(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.faults(func(f *sandbox.SigninFaults) { f.SlowBodyMS = 3_600_000 })
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		start := time.Now()
		vs, err := d.client.Send(ctx, draintest.Numbered(begin, "P2"))
		if len(vs) != 0 || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 6*time.Second {
			t.Errorf("%v, %v after %v", vs, err, time.Since(start))
		}
	})
}

func TestSettingsAreChecked(t *testing.T) {
	good := Config{
		Mode: ServiceAccount, BaseURL: "https://signin.example.com/app/", UserID: "svc",
		Secret: func() (string, error) { return "", nil }, HTTP: &http.Client{}, Log: slog.New(slog.DiscardHandler),
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"keypad_login":               func(c *Config) { c.Mode = "keypad_login" },
		"base_url":                   func(c *Config) { c.BaseURL = "signin.example.com" },
		"user_id":                    func(c *Config) { c.UserID = " " },
		"required":                   func(c *Config) { c.Log = nil },
		"group_id":                   func(c *Config) { c.GroupID = "x" },
		"use bearer":                 func(c *Config) { c.TokenTransport = "cookie" },
		"letters":                    func(c *Config) { c.TokenTransport = "header:X Token" },
		"a meaning":                  func(c *Config) { c.TokenTransport = "header:content-type" },
		`records_path: "x"`:          func(c *Config) { c.Paths.Records = "x" },
		`login_path: "//host/login"`: func(c *Config) { c.Paths.Login = "//host/login" },
		`punch_path: "/a?b=c"`:       func(c *Config) { c.Paths.Punch = "/a?b=c" },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %q", err, want)
		}
	}
}

func TestSigninSurvivesEverythingADestinationMust(t *testing.T) {
	for name, set := range map[string]func(*sandbox.SigninFaults, *Config){
		"as it comes":  func(*sandbox.SigninFaults, *Config) {},
		"conflict":     func(f *sandbox.SigninFaults, _ *Config) { f.Duplicates = sandbox.DuplicatesConflict },
		"stranger 400": func(f *sandbox.SigninFaults, _ *Config) { f.StrangerStatus = 400 },
		"tokens 40101": func(f *sandbox.SigninFaults, _ *Config) { f.TokenCode = 40101 },
		"no JWT":       func(f *sandbox.SigninFaults, _ *Config) { f.TokenNotJWT = true },
		"raw header": func(f *sandbox.SigninFaults, c *Config) {
			f.TokenTransport, c.TokenTransport = "header:X-Token", "header:X-Token"
		},
		"tolerant":     func(f *sandbox.SigninFaults, c *Config) { f.TrailingComma, c.Tolerant = true, true },
		"stored twice": func(f *sandbox.SigninFaults, _ *Config) { f.Duplicates = sandbox.DuplicatesStoreTwice },
	} {
		t.Run(name, func(t *testing.T) {
			draintest.Run(t, draintest.Harness{AtLeastOnce: name == "stored twice", New: func(t *testing.T) draintest.FarSide {
				cloud := sandbox.NewSignin(sandbox.SigninConfig{People: sandbox.People(draintest.Roster...)})
				var extra Config
				cloud.SetFaults(func(f *sandbox.SigninFaults) { set(f, &extra) })
				user, secret := cloud.Credentials()
				key := func(user, date, status string) string { return user + " " + date + " " + status }
				return draintest.FarSide{
					Wire: sandbox.Transport(cloud), Secret: secret,
					Open: func(wire http.RoundTripper, secret string) (drain.Destination, error) {
						hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(5), Transport: wire})
						if err != nil {
							return nil, err
						}
						return New(Config{
							Mode: ServiceAccount, BaseURL: "https://signin.invalid", UserID: user,
							Secret: func() (string, error) { return secret, nil },
							HTTP:   hc, Log: slog.New(slog.DiscardHandler),
							TokenTransport: extra.TokenTransport, Tolerant: extra.Tolerant,
						})
					},
					Ledger: func() (keys []string) {
						for _, r := range cloud.Ledger() {
							keys = append(keys, key(r.UserID, r.SignDate, r.Status))
						}
						return keys
					},
					Key: func(p punch.Punch) string {
						return key(p.Employee, p.Time().In(taiwan).Format(signLayout), p.Kind.Chinese())
					},
					Token:  func(r *http.Request) bool { return r.URL.Path == sandbox.SigninLoginPath },
					Revoke: cloud.Revoke,
					Limit: func(n int) time.Duration {
						cloud.SetFaults(func(f *sandbox.SigninFaults) {
							f.FailNext, f.FailStatus, f.FailOn, f.RetryAfter = n, 429, sandbox.OnBusiness, "7"
						})
						return 7 * time.Second
					},
				}
			}})
		})
	}
}

func TestACheckLogsInOnceAndPunchesForNobody(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		for range 2 { // the second time there is a token
			if err := d.client.Check(d.t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := d.made(); got != "L" {
			t.Errorf("calls %q", got)
		}
		d.client.Reset()
		d.secret = "another"
		for range 2 { // the second time it is not tried
			var denied *token.Denied
			if err := d.client.Check(d.t.Context()); !errors.As(err, &denied) || denied.State != token.AuthFailed || strings.Contains(err.Error(), d.secret) {
				t.Errorf("a wrong password: %v", err)
			}
		}
		if got := d.made(); got != "LL" {
			t.Errorf("calls %q: a refused password is tried once", got)
		}
		off, err := New(Config{})
		if err != nil || off.Check(d.t.Context()) != nil {
			t.Errorf("off: %v", err)
		}
	})
}
