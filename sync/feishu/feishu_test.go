package feishu

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

// desk is a client and a Feishu on one desk, without a network.
type desk struct {
	t       *testing.T
	cloud   *sandbox.Feishu
	client  *Client
	secret  string
	secrets error
	logs    bytes.Buffer
	tokens  []string // what TokenObserve heard
	bodies  [][]byte // of the imports
	urls    []string
	heads   []http.Header
	tokenRq []string // bodies of the token calls
}

// onDesk runs a test in a bubble. change may be nil.
func onDesk(t *testing.T, change func(*Config), test func(*desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		people := sandbox.People("A0001", "000123", "119008", "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "boss")
		for i := range people {
			people[i].FeishuID = "ou-" + people[i].Number
		}
		d := &desk{t: t, cloud: sandbox.NewFeishu(sandbox.FeishuConfig{
			AppID: "cli_demo01", AppSecret: "s3cret-of-feishu", People: people,
		})}
		_, d.secret = d.cloud.Credentials()
		d.client = d.open(d.cloud, change)
		time.Sleep(2 * time.Second) // a new ceiling holds the first call for one
		test(d)
	})
}

func (d *desk) open(h http.Handler, change func(*Config)) *Client {
	d.t.Helper()
	hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(10), Transport: tap{d, sandbox.Transport(h)}})
	if err != nil {
		d.t.Fatal(err)
	}
	cfg := Config{
		BaseURL: "https://feishu.invalid", AppID: "cli_demo01", Location: "台北總部一樓",
		Secret: func() (string, error) { return d.secret, d.secrets },
		HTTP:   hc, Log: slog.New(slog.NewTextHandler(&d.logs, nil)),
		TokenObserve: func(r string) { d.tokens = append(d.tokens, r) },
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
	if r.URL.Path == tokenPath {
		t.d.tokenRq = append(t.d.tokenRq, string(b))
	} else {
		t.d.bodies = append(t.d.bodies, b)
		t.d.heads = append(t.d.heads, r.Header)
		t.d.urls = append(t.d.urls, r.URL.String())
	}
	return t.next.RoundTrip(r)
}

func (d *desk) faults(f func(*sandbox.FeishuFaults)) { d.cloud.SetFaults(f) }

// calls counts the imports.
func (d *desk) calls() int { return len(d.bodies) }

var begin = time.Date(2025, 12, 23, 8, 0, 0, 987_654_321, time.FixedZone("", 8*3600))

// send offers a batch and writes what came of it as "accept accept refuse:reason -",
// a dash for a punch without a verdict.
func (d *desk) send(ps []punch.Punch) (string, error) {
	d.t.Helper()
	vs, err := d.client.Send(context.Background(), ps)
	if err != nil {
		for _, bad := range []string{d.secret, "t-", "Bearer", "flow_records"} {
			if strings.Contains(err.Error(), bad) {
				d.t.Errorf("an error holds %q: %v", bad, err)
			}
		}
	}
	return draintest.Fates(d.t, ps, vs), err
}

func (d *desk) want(ps []punch.Punch, want string) {
	d.t.Helper()
	got, err := d.send(ps)
	if got != want || err != nil {
		d.t.Fatalf("got %q, %v; want %q without an error", got, err, want)
	}
}

func (d *desk) ledger() string {
	var out []string
	for _, r := range d.cloud.Ledger() {
		out = append(out, r.Flow.UserID)
	}
	return strings.Join(out, " ")
}

func TestAPunchGoesOutAsAFlow(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "A0001", "000123")
		ps[1].Stamp.Wall = time.UnixMilli(1766448000000 + 999)
		d.want(ps, "accept accept")
		const want = `{"flow_records":[` +
			`{"user_id":"A0001","creator_id":"A0001","location_name":"台北總部一樓","check_time":"1766448000","comment":"上班","external_id":"lobby-000000000001","idempotent_id":"lobby-000000000001"},` +
			`{"user_id":"000123","creator_id":"000123","location_name":"台北總部一樓","check_time":"1766448000","comment":"下班","external_id":"lobby-000000000002","idempotent_id":"lobby-000000000002"}]}`
		if got := string(d.bodies[0]); got != want {
			t.Errorf("body\n%s, want\n%s", got, want)
		}
		if want := "https://feishu.invalid/open-apis/attendance/v1/user_flows/batch_create?employee_type=employee_no"; d.urls[0] != want {
			t.Errorf("URL %s, want %s", d.urls[0], want)
		}
		if h := d.heads[0]; h.Get("Content-Type") != "application/json; charset=utf-8" || !strings.HasPrefix(h.Get("Authorization"), "Bearer t-") {
			t.Errorf("headers %v", h)
		}
		if want := `{"app_id":"cli_demo01","app_secret":"s3cret-of-feishu"}`; !slices.Equal(d.tokenRq, []string{want}) {
			t.Errorf("token calls %q, want %q", d.tokenRq, want)
		}
		if !slices.Equal(d.tokens, []string{"ok"}) {
			t.Errorf("token refreshes %q, want one ok", d.tokens)
		}
	})
}

func TestTheFourKindsAreInTheComment(t *testing.T) {
	onDesk(t, func(c *Config) { c.FieldOut = true }, func(d *desk) {
		ps := draintest.Numbered(begin, "P1", "P2", "P3", "P4", "P5")
		ps[4].Kind = 0
		d.want(ps, "accept accept accept accept accept")
		for i, want := range []string{"上班", "下班", "外出", "外歸", "打卡"} {
			f := d.cloud.Ledger()[i].Flow
			if f.Comment != want || f.IsField != (want == "外出") {
				t.Errorf("comment %q, is_field %v; want %q", f.Comment, f.IsField, want)
			}
		}
	})
}

func TestTheRostersFeishuIDWhereConfigured(t *testing.T) {
	people := map[string]punch.Employee{
		"P1": {Number: "P1", FeishuID: "ou-P1"}, "P2": {Number: "P2"}, "P3": {Number: "P3", FeishuID: "x\xff"},
	}
	onDesk(t, func(c *Config) {
		c.EmployeeType, c.CreatorID = EmployeeID, "ou-boss"
		c.People = func(n string, _ time.Time) (punch.Employee, bool) { e, ok := people[n]; return e, ok }
	}, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1", "P2", "P3", "P4"), "accept refuse:no_feishu_id refuse:emp_no_invalid refuse:no_feishu_id")
		if f := d.cloud.Ledger()[0]; f.EmployeeType != "employee_id" || f.Flow.UserID != "ou-P1" || f.Flow.CreatorID != "ou-boss" {
			t.Errorf("%+v", f)
		}
	})
}

func TestWhatCannotBeSentIsRefusedBeforeSending(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "", " ", "P\xff1", "P1", "P2", "P3")
		ps[3].Stamp.Wall = time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC)
		ps[4].Stamp.Wall = time.Unix(1640966399, 999e6)
		ps[5].Stamp.Wall = time.Unix(10_000_000_000, 0)
		d.want(ps, "refuse:emp_no_blank refuse:emp_no_blank refuse:emp_no_invalid refuse:bad_time refuse:bad_time refuse:bad_time")
		if n := len(d.cloud.Calls()); n != 0 {
			t.Errorf("%d calls for nothing", n)
		}
		p := draintest.Numbered(begin, "P1")
		p[0].Stamp.Wall = time.Unix(1640966400, 0)
		d.want(p, "accept")
	})
}

func TestAResendIsByteForByteTheSameAndStoredOnce(t *testing.T) {
	for _, dup := range []string{sandbox.DuplicatesSameRecord, sandbox.DuplicatesExists} {
		onDesk(t, nil, func(d *desk) {
			ps := draintest.Numbered(begin, "A0001", "000123", "119008")
			d.faults(func(f *sandbox.FeishuFaults) { f.CommitThenDrop, f.Duplicates = 1, dup })
			if got, err := d.send(ps); got != "- - -" || draintest.KindOf(err) != "outage" {
				t.Fatalf("lost answer: %q, %v", got, err)
			}
			d.want(ps, "accept accept accept")
			if !bytes.Equal(d.bodies[0], d.bodies[1]) {
				t.Errorf("resends differ: %q", d.bodies[:2])
			}
			if d.ledger() != "A0001 000123 119008" {
				t.Errorf("ledger %q", d.ledger())
			}
		})
	}
}

func TestTheRecordIDIsTheReceiptAndMayBeMissing(t *testing.T) {
	for how, want := range map[string]string{
		sandbox.RecordIDsFull: "6709359313699356942", sandbox.RecordIDsMissing: "", sandbox.RecordIDsEmpty: "", sandbox.RecordIDsNone: "",
	} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.FeishuFaults) { f.RecordIDs = how })
			vs, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P1", "P2"))
			if err != nil || len(vs) != 2 || vs[1].Fate != punch.Accept || vs[1].Receipt != want {
				t.Errorf("%s: %+v, %v; want the receipt %q", how, vs, err, want)
			}
		})
	}
}

// Sections 7.1 to 7.3: one row per code and message, alone and in the middle of a
// batch. poison marks an answer that one record makes; the others are everybody's.
func TestEveryCodeHasItsMeaning(t *testing.T) {
	const poison, all = true, false
	for _, c := range []struct {
		status, code int
		msg          string
		poison       bool
		want         string // of a single record: a fate, or the kind of the error
		calls        int    // for the single record, at most
	}{
		{400, 99991661, "Missing access token", all, "denied:auth_failed", 2},
		{400, 99991663, "Invalid access token", all, "denied:auth_failed", 2},
		{200, 99991663, "Invalid access token", all, "denied:auth_failed", 2},
		{400, 99991664, "app token invalid", all, "denied:auth_failed", 2},
		{400, 99991668, "user token invalid", all, "denied:auth_failed", 2},
		{400, 99991671, "token invalid", all, "denied:auth_failed", 2},
		{403, 99991672, "Access denied", all, "denied:misconfigured", 1},
		{400, 99991679, "Unauthorized", all, "denied:auth_failed", 1},
		{400, 99991401, "ip", all, "denied:misconfigured", 1},
		{400, 99991403, "quota", all, "denied:misconfigured", 1},
		{429, 99991400, "request trigger frequency limit", all, "busy:0s", 1},
		{400, 99991400, "request trigger frequency limit", all, "busy:0s", 1},
		{500, 99991999, "gateway trouble", all, "outage", 1},
		{400, 99991999, "unknown to us", all, "outage", 1},
		{200, 40003, "internal error", all, "outage", 1},
		{500, 0, "code 0 without success", all, "outage", 1},

		{400, 1220001, "employee_type invalid", poison, "refuse:bad_param", 1},
		{400, 1220002, "tenant_id is empty", all, "denied:auth_failed", 2},
		{400, 1220003, "employee_type invalid", all, "denied:misconfigured", 1},
		{400, 1220004, "user_id is not exist or does not have permission", poison, "refuse:unknown_user", 1},
		{200, 1220004, "user_id is not exist or does not have permission", poison, "refuse:unknown_user", 1},
		{400, 1220005, "no permission", all, "denied:misconfigured", 1},
		{500, 1225000, "internal server error", all, "outage", 1},
		{400, 1225000, "internal server error", all, "outage", 1},
		{500, 1225001, "partly written", all, "outage", 1},
		{500, 1226500, "punch service error", all, "outage", 1},
		{400, 1227500, "organisation service error", all, "outage", 1},
		{500, 1229999, "never heard of", all, "outage", 1},
		{400, 1229999, "never heard of", poison, "refuse:rejected_by_feishu", 1},
		{200, 1229999, "never heard of", poison, "refuse:rejected_by_feishu", 1},

		{400, 1220600, "no row affected", all, "outage", 1},
		{400, 1220600, "  No Row Affected. ", all, "outage", 1},
		{400, 1220600, "the object already exists", poison, "accept", 1},
		{500, 1220600, "error: The Object already exists", poison, "accept", 1},
		{400, 1220600, "operate too much flow", all, "outage", 1},
		{400, 1220600, "param invalid", poison, "refuse:bad_param", 1},
		{400, 1220600, "time calculation failed", poison, "refuse:bad_time", 1},
		{400, 1220600, "time is invalid", poison, "refuse:bad_time", 1},
		{400, 1220600, "name or employee_no invalid", poison, "refuse:unknown_user", 1},
		{400, 1220600, "rule not exist", poison, "refuse:no_attendance_group", 1},
		{400, 1220600, "rule does not exist", poison, "refuse:rejected_by_feishu", 1},
		{400, 1220600, "shift does not exist", poison, "refuse:rejected_by_feishu", 1},
		{400, 1220600, "the attendance result has been sealed and can not modify", poison, "refuse:period_sealed", 1},
		{400, 1220600, "auth no permission", all, "denied:misconfigured", 1},
		{400, 1220600, "This API can only be accessed by Feishu People Enterprise Edition users.", all, "denied:misconfigured", 1},
		{400, 1220600, "shift can not be del", poison, "refuse:rejected_by_feishu", 1},
		{400, 1220600, "env count illegal", poison, "refuse:rejected_by_feishu", 1},
		{400, 1220600, "failed to upload an image. Please upload a clear and complete image", poison, "refuse:rejected_by_feishu", 1},
		{400, 1220600, "the object in tos not found", poison, "refuse:rejected_by_feishu", 1},
		{400, 1220600, "archive_rule_id not exist", poison, "refuse:rejected_by_feishu", 1},
		{400, 1220600, "the rule cannot arrange!", poison, "refuse:rejected_by_feishu", 1},
		{400, 1220600, "a message of next year", poison, "refuse:rejected_by_feishu", 1},
		{500, 1220600, "a message of next year", all, "outage", 1},
	} {
		t.Run(fmt.Sprint(c.status, " ", c.code, " ", c.msg), func(t *testing.T) {
			onDesk(t, nil, func(d *desk) {
				answer := sandbox.Refusal{Status: c.status, Code: c.code, Msg: c.msg}
				d.faults(func(f *sandbox.FeishuFaults) {
					if c.poison {
						f.Poison = map[string]sandbox.Refusal{"P2": answer}
					} else {
						f.AnswerNext, f.Answer = -1, answer
					}
				})
				vs, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P2"))
				got := draintest.Fates(t, draintest.Numbered(begin, "P2"), vs)
				if kind := draintest.KindOf(err); kind != "" {
					if got != "-" {
						t.Errorf("%q beside the error %v", got, err)
					}
					got = kind
				}
				if got != c.want || d.calls() > c.calls {
					t.Errorf("%q, %v after %d calls; want %q after %d", got, err, d.calls(), c.want, c.calls)
				}
				if len(vs) == 1 && vs[0].Fate == punch.Refuse && vs[0].Message != fmt.Sprint(c.code, " ", c.msg) {
					t.Errorf("message %q", vs[0].Message)
				}
				if c.poison {
					d.want(draintest.Numbered(begin, "P1", "P2", "P3", "P4"), "accept "+c.want+" accept accept")
					return
				}
				if got, err := d.send(draintest.Numbered(begin, "P1", "P2", "P3", "P4")); strings.Trim(got, "- ") != "" || draintest.KindOf(err) == "" {
					t.Errorf("a batch: %q, %v; want every punch kept", got, err)
				}
				// Nothing was lost by it.
				d.cloud.Reset()
				d.client.Reset()
				time.Sleep(2 * time.Hour)
				for range 9 {
					if got, _ = d.send(draintest.Numbered(begin, "P1", "P2", "P3", "P4")); got == "accept accept accept accept" {
						return
					}
				}
				t.Errorf("afterwards %q", got)
			})
		})
	}
}

// Section 7.1 and 7, where there is no code: the status decides.
func TestWithoutACodeTheStatusDecides(t *testing.T) {
	for _, c := range []struct {
		status int
		want   string
	}{
		{404, "denied:misconfigured"}, {405, "denied:misconfigured"},
		{429, "busy:5s"}, {413, "outage"}, {400, "outage"}, {401, "outage"}, {403, "outage"}, {407, "outage"},
		{500, "outage"}, {502, "outage"}, {503, "outage"}, {504, "outage"},
		{301, "outage"}, {302, "outage"}, {307, "outage"}, {308, "outage"},
	} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.FeishuFaults) {
				f.FailNext, f.FailStatus, f.FailOn, f.RetryAfter = -1, c.status, sandbox.OnBusiness, "5"
			})
			if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != c.want {
				t.Errorf("%d: %q, %v; want %s", c.status, got, err, c.want)
			}
		})
	}
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.HTMLNext, f.FailOn = -1, sandbox.OnBusiness })
		if got, err := d.send(draintest.Numbered(begin, "P1", "P2")); got != "- -" || draintest.KindOf(err) != "outage" {
			t.Errorf("a portal's page: %q, %v", got, err)
		}
	})
	onDesk(t, func(c *Config) { c.BaseURL = "https://feishu.invalid/feishu" }, func(d *desk) {
		if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "denied:misconfigured" || !strings.Contains(err.Error(), "base_url") {
			t.Errorf("a wrong path: %q, %v", got, err)
		}
	})
}

func TestOneBadRecordIsFoundBySplitting(t *testing.T) {
	for _, storeGood := range []bool{false, true} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.FeishuFaults) { f.StoreGood, f.Duplicates = storeGood, sandbox.DuplicatesExists })
			d.want(draintest.Numbered(begin, "P1", "P2", "P3", "NOBODY", "P5", "P6", "P7", "P8"), "accept accept accept refuse:unknown_user accept accept accept accept")
			if len(d.cloud.Ledger()) != 7 {
				t.Errorf("ledger %q", d.ledger())
			}
		})
	}
}

func TestNoRowAffectedIsTriedFiveTimesThenParked(t *testing.T) {
	answer := sandbox.Refusal{Code: 1220600, Msg: "no row affected"}
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.Poison = map[string]sandbox.Refusal{"P2": answer} })
		for range 4 {
			if got, err := d.send(draintest.Numbered(begin, "P2")); got != "-" || draintest.KindOf(err) != "outage" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		d.want(draintest.Numbered(begin, "P2"), "refuse:no_row_affected")
		if len(d.client.tries) != 0 {
			t.Error("the tries of a settled punch are remembered")
		}
	})
	// In a batch: the others go on at the fifth.
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.Poison = map[string]sandbox.Refusal{"P2": answer} })
		for range 4 {
			if got, err := d.send(draintest.Numbered(begin, "P1", "P2", "P3")); got != "- - -" || draintest.KindOf(err) != "outage" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		d.want(draintest.Numbered(begin, "P1", "P2", "P3"), "accept refuse:no_row_affected accept")
	})
	// It passes by itself: nothing is counted against the punch later.
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.AnswerNext, f.Answer = 4, answer })
		for range 4 {
			d.send(draintest.Numbered(begin, "P1"))
		}
		d.want(draintest.Numbered(begin, "P1"), "accept")
	})
	// Other answers in between are not counted.
	onDesk(t, nil, func(d *desk) {
		for range 20 {
			d.faults(func(f *sandbox.FeishuFaults) { f.Down = true })
			d.send(draintest.Numbered(begin, "P1"))
		}
		d.faults(func(f *sandbox.FeishuFaults) { f.Down, f.AnswerNext, f.Answer = false, -1, answer })
		if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "outage" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestOneRecordThatMakesSystemErrorsIsParkedAndOthersGoOn(t *testing.T) {
	for _, status := range []int{500, 400} {
		answer := sandbox.Refusal{Status: status, Code: 1225000, Msg: "internal server error"}
		for bad := range 8 {
			onDesk(t, nil, func(d *desk) {
				ps := draintest.Numbered(begin, "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8")
				d.faults(func(f *sandbox.FeishuFaults) { f.Poison = map[string]sandbox.Refusal{ps[bad].Employee: answer} })
				for range 2 {
					if got, err := d.send(ps); got != "- - - - - - - -" || draintest.KindOf(err) != "outage" {
						t.Fatalf("%q, %v", got, err)
					}
				}
				want := strings.Fields(strings.Repeat("accept ", 8))
				want[bad] = "refuse:system_error"
				d.want(ps, strings.Join(want, " "))
			})
		}
	}
}

func TestASystemErrorOfFeishuItselfParksNothing(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.AnswerNext = -1 })
		var ps []punch.Punch
		for range 50 {
			ps = append(ps, draintest.Numbered(begin, "P1")[0])
		}
		for i := range ps {
			ps[i].ID = punch.NewID("lobby", uint64(i+1))
		}
		for i := range 20 {
			if vs, err := d.client.Send(context.Background(), ps); !kept(vs) || draintest.KindOf(err) != "outage" {
				t.Fatalf("round %d: %v, %v", i, vs, err)
			}
			// A single one as well, however often.
			if vs, err := d.client.Send(context.Background(), ps[:1]); !kept(vs) || draintest.KindOf(err) != "outage" {
				t.Fatalf("round %d: %v, %v", i, vs, err)
			}
		}
		if d.calls() > 20*(systemRow+1) {
			t.Errorf("%d calls in 20 rounds of an outage", d.calls())
		}
		d.faults(func(f *sandbox.FeishuFaults) { f.AnswerNext = 0 })
		vs, err := d.client.Send(context.Background(), ps)
		if len(vs) != 50 || err != nil {
			t.Errorf("after the outage: %d verdicts, %v", len(vs), err)
		}
		if len(d.client.tries) != 0 {
			t.Errorf("%d tries are remembered", len(d.client.tries))
		}
	})
	// A record that failed alone is parked as soon as Feishu takes another.
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) {
			f.Poison = map[string]sandbox.Refusal{"P1": {Status: 500, Code: 1225000, Msg: "x"}}
		})
		for range 5 {
			if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "outage" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		d.want(draintest.Numbered(begin, "P1", "P2"), "refuse:system_error accept")
	})
}

// kept reports whether nothing was decided, and that Feishu may have each of them.
func kept(vs []punch.Verdict) bool {
	return !slices.ContainsFunc(vs, func(v punch.Verdict) bool { return v.Fate != punch.Keep || !v.Resent })
}

func TestManyRecordsThatMakeSystemErrorsAreParkedAmongOthers(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		var ps []punch.Punch
		var want []string
		for i := range 50 {
			n, fate := "P1", "accept"
			if i%9 == 0 {
				n, fate = "P2", "refuse:system_error"
			}
			p := draintest.Numbered(begin, n)[0]
			p.ID = punch.NewID("lobby", uint64(i+1))
			ps, want = append(ps, p), append(want, fate)
		}
		d.faults(func(f *sandbox.FeishuFaults) {
			f.Poison = map[string]sandbox.Refusal{"P2": {Status: 500, Code: 1225000, Msg: "x"}}
		})
		d.send(ps)
		d.send(ps)
		d.want(ps, strings.Join(want, " "))
	})
	// That Feishu has a record already shows as well that it works.
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "P1", "P2")
		d.want(ps[1:], "accept")
		d.faults(func(f *sandbox.FeishuFaults) {
			f.Duplicates = sandbox.DuplicatesExists
			f.Poison = map[string]sandbox.Refusal{"P1": {Status: 500, Code: 1225000, Msg: "x"}}
		})
		d.send(ps)
		d.send(ps)
		d.want(ps, "refuse:system_error accept")
	})
}

func TestTheTriesOfForgottenPunchesAreBounded(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.AnswerNext = -1 })
		p := draintest.Numbered(begin, "P1")
		for i := range 2 * triesKept {
			p[0].ID = punch.NewID("lobby", uint64(i))
			d.client.Send(context.Background(), p)
		}
		if n := len(d.client.tries); n > triesKept+maxBatch {
			t.Errorf("%d punches are remembered", n)
		}
	})
}

func TestTooMuchFlowMakesSmallerCallsAndRefusesNothing(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) {
			f.AnswerNext, f.Answer = 2, sandbox.Refusal{Code: 1220600, Msg: "operate too much flow"}
		})
		d.want(draintest.Numbered(begin, "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8"), "accept accept accept accept accept accept accept accept")
		if d.calls() != 2+4 || d.client.size != 2 {
			t.Errorf("%d calls, size %d", d.calls(), d.client.size)
		}
	})
	onDesk(t, nil, func(d *desk) {
		var ps []punch.Punch
		for i := range 120 {
			p := draintest.Numbered(begin, "P1")[0]
			p.ID = punch.NewID("lobby", uint64(i+1))
			ps = append(ps, p)
		}
		if vs, err := d.client.Send(context.Background(), ps); len(vs) != 120 || err != nil || d.calls() != 3 {
			t.Errorf("%d verdicts, %v, %d calls; want at most 50 a call", len(vs), err, d.calls())
		}
	})
}

// Section 5.
func TestTheRateLimitIsObeyed(t *testing.T) {
	for _, c := range []struct {
		status, reset int
		noHeader      bool
		want          string
	}{
		{429, 7, false, "busy:7s"},
		{400, 7, false, "busy:7s"},
		{429, 86400, false, "busy:10m0s"},
		{429, 0, false, "busy:0s"},
		{429, 7, true, "busy:0s"},
	} {
		onDesk(t, nil, func(d *desk) {
			d.want(draintest.Numbered(begin, "A0001"), "accept")
			d.faults(func(f *sandbox.FeishuFaults) {
				f.LimitNext, f.RateStatus, f.RateReset, f.RateNoHeader = 1, c.status, c.reset, c.noHeader
			})
			if got, err := d.send(draintest.Numbered(begin, "P1", "P2")); got != "- -" || draintest.KindOf(err) != c.want {
				t.Errorf("%+v: %q, %v", c, got, err)
			}
			d.want(draintest.Numbered(begin, "P1", "P2"), "accept accept")
		})
	}
	a := answer{header: http.Header{}}
	a.header.Set("Retry-After", "20")
	a.header.Set("X-Ogw-Ratelimit-Reset", "soon")
	if got := a.wait(); got != 20*time.Second {
		t.Errorf("wait %v, want the Retry-After", got)
	}
	a.header.Set("X-Ogw-Ratelimit-Reset", "99999999999999999999")
	if got := a.wait(); got != 20*time.Second {
		t.Errorf("wait %v for a reset that is no number", got)
	}
	a.header.Set("X-Ogw-Ratelimit-Reset", "30")
	if got := a.wait(); got != 30*time.Second {
		t.Errorf("wait %v, want the longer one", got)
	}
}

func TestTheTokenCallIsLimitedToo(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.LimitNext, f.RateReset = 1, 9 })
		if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "busy:9s" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestAUsedUpQuotaIsProbedOnceAnHour(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "A0001"), "accept")
		d.faults(func(f *sandbox.FeishuFaults) { f.QuotaExceeded = true })
		for range 24 { // two hours and a bit
			if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "denied:misconfigured" || !strings.Contains(err.Error(), "quota") {
				t.Fatalf("%q, %v", got, err)
			}
			d.client.Reset() // as the worker does before each probe
			time.Sleep(5*time.Minute + time.Second)
		}
		if d.calls() != 1+2 {
			t.Errorf("%d calls in two hours, want 2", d.calls()-1)
		}
		d.faults(func(f *sandbox.FeishuFaults) { f.QuotaExceeded = false })
		time.Sleep(time.Hour)
		d.want(draintest.Numbered(begin, "P1"), "accept")
	})
}

func TestARefusedAddressTellsWhatToDo(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.IPRefused = true })
		_, err := d.send(draintest.Numbered(begin, "P1"))
		var denied *token.Denied
		if !errors.As(err, &denied) || !strings.Contains(denied.Hint, "token works, imports refused: add this site's public IPv4 to the app's IP allow-list") ||
			!strings.Contains(err.Error(), "ip_not_allowed") {
			t.Errorf("%v", err)
		}
	})
}

func TestAMissingScopeIsNamed(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.ScopeMissing = "attendance:task:write" })
		_, err := d.send(draintest.Numbered(begin, "P1"))
		var denied *token.Denied
		if !errors.As(err, &denied) || !strings.Contains(denied.Hint, "attendance:task:write") {
			t.Errorf("%v", err)
		}
	})
}

// Section 2 and 7.1.
func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	for _, status := range []int{400, 200} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.FeishuFaults) { f.TokenRefusalStatus = status })
			d.want(draintest.Numbered(begin, "P1"), "accept")
			d.cloud.Revoke()
			d.want(draintest.Numbered(begin, "P2", "P3"), "accept accept")
			if d.calls() != 3 || len(d.tokenRq) != 2 || !bytes.Equal(d.bodies[1], d.bodies[2]) {
				t.Errorf("%d calls, %d token calls", d.calls(), len(d.tokenRq))
			}
		})
	}
}

func TestTheSameTokenAgainDoesNotLoop(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.faults(func(f *sandbox.FeishuFaults) { f.KeepRevokedToken = true })
		d.cloud.Revoke()
		for range 10 {
			if got, err := d.send(draintest.Numbered(begin, "P2")); got != "-" || draintest.KindOf(err) != "denied:auth_failed" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if d.calls() != 2 || len(d.tokenRq) != 2 {
			t.Errorf("%d imports and %d token calls, want one refused import and one new token", d.calls()-1, len(d.tokenRq)-1)
		}
		d.faults(func(f *sandbox.FeishuFaults) { f.KeepRevokedToken = false })
		d.client.Reset()
		d.want(draintest.Numbered(begin, "P2"), "accept")
	})
}

func TestATokenIsRenewedWhereFeishuGivesANewOne(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		time.Sleep(2*time.Hour - 10*time.Minute - time.Second)
		d.want(draintest.Numbered(begin, "P2"), "accept")
		if len(d.tokenRq) != 1 {
			t.Errorf("%d token calls more than 10 minutes before the end", len(d.tokenRq))
		}
		time.Sleep(2 * time.Second)
		d.want(draintest.Numbered(begin, "P3"), "accept")
		if len(d.tokenRq) != 2 || d.cloud.Counters().TokensIssued != 2 {
			t.Errorf("%d token calls, %d tokens", len(d.tokenRq), d.cloud.Counters().TokensIssued)
		}
	})
}

func TestTheTokenCallsAnswers(t *testing.T) {
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
	}{
		{"bad app id", reply(200, `{"code":10003,"data":{},"msg":"invalid param"}`), "denied:auth_failed", "app_id"},
		{"bad secret", reply(200, `{"code":10014,"msg":"app secret invalid"}`), "denied:auth_failed", "app_secret_file"},
		{"bad secret with 400", reply(400, `{"code":10014,"msg":"app id not exists"}`), "denied:auth_failed", "app_secret_file"},
		{"other code", reply(200, `{"code":10012,"msg":"?"}`), "outage", ""},
		{"permanent code of attendance", reply(200, `{"code":1220001,"msg":"?"}`), "outage", ""},
		{"404", reply(404, `404 page not found`), "denied:misconfigured", "base_url"},
		{"429", reply(429, ``), "busy:0s", ""},
		{"500", reply(500, ``), "outage", ""},
		{"500 with code 0", reply(500, `{"code":0,"tenant_access_token":"t-1","expire":7200}`), "outage", ""},
		{"html", reply(200, `<html>`), "outage", ""},
		{"no code", reply(200, `{"tenant_access_token":"t-1","expire":7200}`), "outage", ""},
		{"code of the wrong type", reply(200, `{"code":"0","tenant_access_token":"t-1","expire":7200}`), "outage", ""},
		{"no token", reply(200, `{"code":0,"expire":7200}`), "outage", ""},
		{"no life", reply(200, `{"code":0,"tenant_access_token":"t-1"}`), "outage", ""},
		{"life of 0", reply(200, `{"code":0,"tenant_access_token":"t-1","expire":0}`), "outage", ""},
		{"life below 0", reply(200, `{"code":0,"tenant_access_token":"t-1","expire":-1}`), "outage", ""},
		{"token breaks the header", reply(200, `{"code":0,"tenant_access_token":"t-1\r\nX: y","expire":7200}`), "outage", ""},
		{"network", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "outage", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &desk{t: t, secret: "s3cret-of-feishu"}
				d.client = d.open(c.reply, nil)
				got, err := d.send(draintest.Numbered(begin, "P1"))
				if got != "-" || draintest.KindOf(err) != c.want {
					t.Errorf("%q, %v; want %s", got, err, c.want)
				}
				var denied *token.Denied
				if errors.As(err, &denied) && !strings.Contains(denied.Hint, c.hint) {
					t.Errorf("hint %q does not speak of %q", denied.Hint, c.hint)
				}
				if d.calls() != 0 {
					t.Errorf("%d imports went out without a token", d.calls())
				}
			})
		})
	}
}

func TestALongTokenFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t, secret: "s"}
		long := "eyJ" + strings.Repeat("a.B-_9", 4096/6)
		d.client = d.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == tokenPath {
				fmt.Fprintf(w, `{"code":0,"tenant_access_token":%q,"expire":7200}`, long)
				return
			}
			if r.Header.Get("Authorization") != "Bearer "+long {
				t.Error("the token was cut")
			}
			io.WriteString(w, `{"code":0}`)
		}), nil)
		d.want(draintest.Numbered(begin, "P1"), "accept")
	})
}

func TestACorrectedSecretIsUsedWithoutARestart(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		right := d.secret
		d.secret = "old-secret"
		if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "denied:auth_failed" {
			t.Fatalf("%q, %v", got, err)
		}
		d.secret = right + "\n"
		if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "denied:auth_failed" || len(d.tokenRq) != 1 {
			t.Fatalf("the far side is hammered: %q, %v, %d token calls", got, err, len(d.tokenRq))
		}
		d.client.Reset()
		d.want(draintest.Numbered(begin, "P1"), "accept")
		if !slices.Equal(d.tokens, []string{"denied", "ok"}) {
			t.Errorf("token refreshes %q", d.tokens)
		}
	})
	// Nobody resets: the slow probe finds it.
	onDesk(t, nil, func(d *desk) {
		right := d.secret
		d.secret = "old-secret"
		d.send(draintest.Numbered(begin, "P1"))
		d.secret = right
		time.Sleep(5*time.Minute + time.Second)
		d.want(draintest.Numbered(begin, "P1"), "accept")
	})
}

func TestASecretThatCannotBeReadIsAMisconfiguration(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.secrets = errors.New("open feishu-secret: no such file")
		got, err := d.send(draintest.Numbered(begin, "P1"))
		if got != "-" || draintest.KindOf(err) != "denied:misconfigured" || !strings.Contains(err.Error(), "app_secret_file") {
			t.Errorf("%q, %v", got, err)
		}
		d.secrets, d.secret = nil, " \n"
		d.client.Reset()
		if got, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P1")); len(got) != 0 || draintest.KindOf(err) != "denied:misconfigured" {
			t.Errorf("empty secret: %v, %v", got, err)
		}
		d.secrets = &token.Denied{State: token.Misconfigured, Hint: "own words", Err: errors.New("x")}
		d.client.Reset()
		if _, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P1")); !strings.Contains(err.Error(), "own words") {
			t.Errorf("the hint of the secret's reader is lost: %v", err)
		}
		if len(d.tokenRq) != 0 {
			t.Errorf("%d token calls without a secret", len(d.tokenRq))
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAnOutageInTheMiddleKeepsWhatIsKnown(t *testing.T) {
	for fault, want := range map[string]string{"down": "outage", "limit": "busy:9s"} {
		onDesk(t, nil, func(d *desk) {
			d.want(draintest.Numbered(begin, "A0001"), "accept")
			n := 0
			old := d.client.cfg.HTTP.Transport
			d.client.cfg.HTTP.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				if n++; n == 5 { // 8, the first 4, the stranger's 2, the stranger
					d.faults(func(f *sandbox.FeishuFaults) {
						if f.Down = fault == "down"; !f.Down {
							f.LimitNext, f.RateReset = 1, 9
						}
					})
				}
				return old.RoundTrip(r)
			})
			ps := draintest.Numbered(begin, "NOBODY", "P2", "P3", "P4", "P5", "P6", "P7", "P8")
			if got, err := d.send(ps); got != "refuse:unknown_user - - - - - - -" || draintest.KindOf(err) != want {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestASlowAnswerEndsWithTheContext(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.faults(func(f *sandbox.FeishuFaults) { f.SlowBodyMS = 3_600_000 })
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		start := time.Now()
		vs, err := d.client.Send(ctx, draintest.Numbered(begin, "P2"))
		if len(vs) != 0 || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 6*time.Second {
			t.Errorf("%v, %v after %v", vs, err, time.Since(start))
		}
	})
}

func TestAnAnswerCutInTheMiddleIsNotASuccess(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.CutNext = 1 })
		if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "outage" || !strings.Contains(err.Error(), "broke off") {
			t.Errorf("%q, %v", got, err)
		}
		d.want(draintest.Numbered(begin, "P1"), "accept")
	})
}

// broken answers in full, and then the connection breaks before the promised end.
func broken(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Length", fmt.Sprint(len(body)+10))
	io.WriteString(w, body)
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestAnAnswerThatBreaksOffIsNoAnswerHoweverCompleteItLooks(t *testing.T) {
	for _, at := range []string{"token", "import"} {
		synctest.Test(t, func(t *testing.T) {
			d := &desk{t: t, secret: "s3cret-of-feishu"}
			d.client = d.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				const tok = `{"code":0,"tenant_access_token":"t-x","expire":7200}`
				switch {
				case r.URL.Path == tokenPath && at == "token":
					broken(w, tok)
				case r.URL.Path == tokenPath:
					io.WriteString(w, tok)
				case at == "import":
					broken(w, `{"code":0}`)
				default:
					io.WriteString(w, `{"code":0}`)
				}
			}), nil)
			if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "outage" || !strings.Contains(err.Error(), "broke off") {
				t.Errorf("%s: %q, %v", at, got, err)
			}
		})
	}
}

func TestAKickAfterTheSecretWasCorrectedDeliversAtOnce(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		right := d.secret
		d.secret = "old-secret"
		log := &draintest.Log{}
		log.Append(draintest.Numbered(begin, "P1", "NOBODY", "P2")...)
		w := drain.NewWorker(drain.Config{Name: "feishu", Log: log, Dest: d.client, Logger: slog.New(slog.NewTextHandler(&d.logs, nil))})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(time.Minute)
		if s := w.Status(); s.State != token.AuthFailed || !strings.Contains(s.LastError, "app_secret_file") {
			t.Errorf("status %+v", s)
		}
		d.secret = right
		w.Kick()
		time.Sleep(10 * time.Second)
		if s := w.Status(); s.State != drain.OK || d.ledger() != "P1 P2" {
			t.Errorf("status %+v, ledger %q", s, d.ledger())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestFeishusLogIDIsLoggedOncePerKindOfRefusal(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) { f.AnswerNext = 2 })
		d.send(draintest.Numbered(begin, "P1"))
		d.send(draintest.Numbered(begin, "P1"))
		if n := strings.Count(d.logs.String(), "log_id="); n != 1 {
			t.Errorf("log_id is logged %d times:\n%s", n, d.logs.String())
		}
		for _, bad := range []string{d.secret, "t-", "P1", "台北"} {
			if strings.Contains(strings.ReplaceAll(d.logs.String(), "log_id=", ""), bad) {
				t.Errorf("the log holds %q:\n%s", bad, d.logs.String())
			}
		}
	})
}

func TestTheFarSidesWordsAreKeptShortAndWhole(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.FeishuFaults) {
			f.Poison = map[string]sandbox.Refusal{"P1": {Code: 1229999, Msg: "一\r\n" + strings.Repeat("拒", 200)}}
		})
		vs, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P1"))
		if err != nil || len(vs) != 1 || vs[0].Message != "1229999 一  "+strings.Repeat("拒", 80) {
			t.Errorf("%+v, %v", vs, err)
		}
	})
}

func TestSettingsAreChecked(t *testing.T) {
	good := Config{
		BaseURL: "https://open.feishu.cn/", AppID: "cli_x", Location: "x",
		Secret: func() (string, error) { return "", nil }, HTTP: &http.Client{}, Log: slog.New(slog.DiscardHandler),
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"base_url":      func(c *Config) { c.BaseURL = "open.feishu.cn" },
		"app_id":        func(c *Config) { c.AppID = "" },
		"required":      func(c *Config) { c.Log = nil },
		"name":          func(c *Config) { c.Location = " " },
		"employee_type": func(c *Config) { c.EmployeeType = "open_id" },
		"People":        func(c *Config) { c.EmployeeType = EmployeeID },
		"creator_id":    func(c *Config) { c.CreatorID = "\xff" },
		"batch 51":      func(c *Config) { c.Batch = 51 },
		"30m":           func(c *Config) { c.Early = 30 * time.Minute },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %q", err, want)
		}
	}
}

func TestFeishuSurvivesEverythingADestinationMust(t *testing.T) {
	for _, dup := range []string{sandbox.DuplicatesSameRecord, sandbox.DuplicatesExists} {
		t.Run(dup, func(t *testing.T) {
			draintest.Run(t, draintest.Harness{New: func(t *testing.T) draintest.FarSide {
				cloud := sandbox.NewFeishu(sandbox.FeishuConfig{People: sandbox.People(draintest.Roster...)})
				cloud.SetFaults(func(f *sandbox.FeishuFaults) { f.Duplicates = dup })
				id, secret := cloud.Credentials()
				return draintest.FarSide{
					Wire: sandbox.Transport(cloud), Secret: secret,
					Open: func(wire http.RoundTripper, secret string) (drain.Destination, error) {
						hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(10), Transport: wire})
						if err != nil {
							return nil, err
						}
						return New(Config{
							BaseURL: "https://feishu.invalid", AppID: id, Location: "lobby",
							Secret: func() (string, error) { return secret, nil },
							HTTP:   hc, Log: slog.New(slog.DiscardHandler),
						})
					},
					Ledger: func() (keys []string) {
						for _, r := range cloud.Ledger() {
							keys = append(keys, r.Flow.IdempotentID)
						}
						return keys
					},
					Key:    func(p punch.Punch) string { return string(p.ID) },
					Token:  func(r *http.Request) bool { return r.URL.Path == sandbox.FeishuTokenPath },
					Revoke: cloud.Revoke,
					Limit: func(n int) time.Duration {
						cloud.SetFaults(func(f *sandbox.FeishuFaults) { f.LimitNext, f.RateReset = n, 7 })
						return 7 * time.Second
					},
				}
			}})
		})
	}
}

func TestACheckAsksForATokenAndSendsNoPunch(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		for range 2 { // the second time there is one
			if err := d.client.Check(d.t.Context()); err != nil {
				t.Error(err)
			}
		}
		if len(d.tokenRq) != 1 || d.calls() != 0 {
			t.Errorf("%d token calls, %d with punches", len(d.tokenRq), d.calls())
		}
		d.client.Reset()
		d.secret = "another"
		var denied *token.Denied
		if err := d.client.Check(d.t.Context()); !errors.As(err, &denied) || denied.State != token.AuthFailed || strings.Contains(err.Error(), d.secret) {
			t.Errorf("a wrong secret: %v", err)
		}
	})
}
