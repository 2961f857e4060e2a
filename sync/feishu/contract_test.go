package feishu

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/sandbox"
)

// The tables of Feishu's contract, row by row, with the sandbox committing the fault
// and the engine before the client. The names are section, HTTP status, code, and the
// table's words. TestEveryCodeHasItsMeaning looks at the same codes without the engine.
func TestEveryRowOfFeishusTables(t *testing.T) { draintest.Rows(t, rowsFeishu) }

func rowsFeishu(t *testing.T) (draintest.RowDesk, []draintest.Row) {
	people := sandbox.People("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8")
	cloud := sandbox.NewFeishu(sandbox.FeishuConfig{AppSecret: "s3cret-of-feishu", People: people})
	id, right := cloud.Credentials()
	var secret atomic.Value
	secret.Store(right)
	var wrongPath, wrongID atomic.Bool
	wire := sandbox.Transport(cloud)
	hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(10), Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if wrongPath.Load() {
			r.URL.Path = "/feishu" + r.URL.Path
		}
		if wrongID.Load() && r.URL.Path == tokenPath {
			r.Body = io.NopCloser(strings.NewReader(`{"app_id":"x","app_secret":"s"}`))
		}
		return wire.RoundTrip(r)
	})})
	if err != nil {
		t.Fatal(err)
	}
	client, err := New(Config{BaseURL: "https://feishu.invalid", AppID: id, Location: "lobby", Secret: func() (string, error) { return secret.Load().(string), nil },
		HTTP: hc, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	type faults = sandbox.FeishuFaults
	mend := func() { cloud.SetFaults(func(f *faults) { *f = sandbox.DefaultFeishuFaults() }) }
	set := func(change func(*faults)) func() { return func() { cloud.SetFaults(change) } }
	var rows []draintest.Row
	add := func(name string, r draintest.Row) {
		r.Name = name
		if r.Mend == nil {
			r.Mend = mend
		}
		rows = append(rows, r)
	}
	answered := func(status, code int, msg string) func() {
		return set(func(f *faults) { f.AnswerNext, f.Answer = -1, sandbox.Refusal{Status: status, Code: code, Msg: msg} })
	}
	poisoned := func(status, code int, msg string) func() {
		return set(func(f *faults) { f.Poison = map[string]sandbox.Refusal{"P2": {Status: status, Code: code, Msg: msg}} })
	}
	failing := func(on string, status int) func() {
		return set(func(f *faults) { f.FailNext, f.FailStatus, f.FailOn = -1, status, on })
	}
	const probes, outage = 14, 200 // calls in an hour: 5, 10, then every 15 minutes; a second to five minutes

	// 2 the token call.
	add("2 and 7.1 HTTP 200 10014: a wrong secret", draintest.Row{Fault: func() { secret.Store("old-one") }, Mend: func() { secret.Store(right) },
		State: "auth_failed", Calls: probes, Words: "app_secret_file"})
	add("2 and 7.1 HTTP 200 10003: a malformed app id", draintest.Row{Fault: func() { wrongID.Store(true) }, Mend: func() { wrongID.Store(false) },
		State: "auth_failed", Calls: probes, Words: "compare app_id with the Feishu developer console"})
	add("2 a revoked token is replaced once", draintest.Row{Before: 1, Fault: cloud.Revoke, State: "ok", Calls: 3, Least: 3, While: "accept accept accept"})
	add("2 the same refused token again: no loop", draintest.Row{Before: 1, Fault: func() {
		cloud.SetFaults(func(f *faults) { f.KeepRevokedToken = true })
		cloud.Revoke()
	}, State: "auth_failed", Calls: 4 * probes})
	add("2 the token call is away", draintest.Row{Fault: set(func(f *faults) { f.Down = true }), State: "retrying", Calls: outage})
	add("2 the token call answers a portal's page", draintest.Row{Fault: set(func(f *faults) { f.HTMLNext, f.FailOn = -1, sandbox.OnToken }), State: "retrying", Calls: outage, Words: "portal"})

	add("2 expire is missing: taken for no token", draintest.Row{Fault: set(func(f *faults) { f.NoTokenLife = true }), State: "retrying", Calls: outage, Words: "expire"})
	add("2 asked again with less than half an hour left: another one", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.TokenClockAheadSeconds = 2*3600 + 1 }), State: "ok", Calls: 3, Least: 3, While: "accept accept accept"})
	add("2 and 5 99991400 at the token call", draintest.Row{Fault: set(func(f *faults) { f.LimitNext, f.RateReset = -1, 3600 }), State: "retrying", Calls: 8})

	// 5 rate limit and quota.
	for _, status := range []int{429, 400} {
		add(fmt.Sprintf("5 and 7.1 HTTP %d 99991400: rate limit, reset 3600", status), draintest.Row{Before: 1, Fault: set(func(f *faults) {
			f.LimitNext, f.RateStatus, f.RateReset = -1, status, 3600
		}), State: "retrying", Calls: 8}) // capped at ten minutes
		add(fmt.Sprintf("5 and 7.1 HTTP %d 99991400: rate limit, header absent", status), draintest.Row{Before: 1, Fault: set(func(f *faults) {
			f.LimitNext, f.RateStatus, f.RateNoHeader = -1, status, true
		}), State: "retrying", Calls: 40})
		add(fmt.Sprintf("5 and 7.1 HTTP %d 99991400: rate limit, reset is no number", status), draintest.Row{Before: 1, Fault: set(func(f *faults) {
			f.LimitNext, f.RateStatus, f.RateResetNaN = -1, status, true
		}), State: "retrying", Calls: 40})
	}
	add("5 and 7.1 99991403: quota used up, probed hourly", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.QuotaExceeded = true }), State: "misconfigured", Calls: 2, Words: "the first of the month"})

	// 7.1 the gateway.
	for _, c := range []struct {
		status, code int
		what         string
	}{{400, 99991661, "token missing"}, {400, 99991663, "tenant token invalid"}, {200, 99991663, "tenant token invalid"}, {400, 99991664, "app token invalid"},
		{400, 99991668, "user token invalid"}, {400, 99991671, "token in a wrong form"}} {
		add(fmt.Sprintf("7.1 HTTP %d %d: %s", c.status, c.code, c.what), draintest.Row{Before: 1, Fault: answered(c.status, c.code, c.what), State: "auth_failed", Calls: 4 * probes})
	}
	add("7.1 99991672: a scope is missing, and named", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.ScopeMissing = "attendance:task" }), State: "misconfigured", Calls: 2 * probes,
		Words: "give the app the permission attendance:task"})
	add("7.1 99991679: user authorisation missing", draintest.Row{Before: 1, Fault: answered(400, 99991679, "Unauthorized"), State: "auth_failed", Calls: 2 * probes})
	add("7.1 99991401: the IP allow-list, the token works", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.IPRefused = true }), State: "misconfigured", Calls: 2 * probes,
		Words: "add this site's public IPv4 to the app's IP allow-list"})
	add("7.1 HTTP 404 without a code: a wrong path", draintest.Row{Fault: func() { wrongPath.Store(true) }, Mend: func() { wrongPath.Store(false) }, State: "misconfigured", Calls: probes, Words: "set base_url to"})
	for _, status := range []int{500, 502, 503, 504} {
		add(fmt.Sprintf("7.1 HTTP %d: outage", status), draintest.Row{Before: 1, Fault: failing(sandbox.OnBusiness, status), State: "retrying", Calls: outage})
	}

	// 7.2 attendance codes.
	add("7.2 HTTP 400 1220001: parameter error", draintest.Row{Fault: poisoned(400, 1220001, "employee_type invalid"), State: "ok", Calls: 8, While: "accept refuse:bad_param accept"})
	add("7.2 HTTP 400 1220002: tenant unknown", draintest.Row{Before: 1, Fault: answered(400, 1220002, "tenant_id is empty"), State: "auth_failed", Calls: 4 * probes})
	add("7.2 HTTP 400 1220003: employee_type neither value", draintest.Row{Before: 1, Fault: answered(400, 1220003, "employee_type invalid"), State: "misconfigured", Calls: 2 * probes, Words: "set employee_type to"})
	add("7.2 HTTP 400 1220004: user does not exist", draintest.Row{Fault: func() {}, People: []string{"P1", "NOBODY", "P3"}, State: "ok", Calls: 8, While: "accept refuse:unknown_user accept"})
	add("7.2 HTTP 400 1220005: no permission", draintest.Row{Before: 1, Fault: answered(400, 1220005, "no permission"), State: "misconfigured", Calls: 2 * probes, Words: "data range"})
	for _, status := range []int{500, 400} {
		add(fmt.Sprintf("7.2 HTTP %d 1225000: system error for everybody", status), draintest.Row{Before: 1, Fault: answered(status, 1225000, "internal server error"), State: "retrying", Calls: 400})
		add(fmt.Sprintf("7.2 HTTP %d 1225000: system error of one record", status), draintest.Row{Fault: poisoned(status, 1225000, "internal server error"), State: "ok", Calls: 40,
			While: "accept refuse:system_error accept"})
	}
	for _, c := range []struct {
		code int
		what string
	}{{1225001, "partly written"}, {1226500, "punch service error"}, {1227500, "organisation service error"}, {1229999, "unknown, with 5xx"}} {
		add(fmt.Sprintf("7.2 HTTP 500 %d: %s", c.code, c.what), draintest.Row{Before: 1, Fault: answered(500, c.code, c.what), State: "retrying", Calls: outage})
	}
	add("7.2 HTTP 400 1229999: unknown", draintest.Row{Fault: poisoned(400, 1229999, "?"), State: "ok", Calls: 8, While: "accept refuse:rejected_by_feishu accept"})

	// 7.3 messages of 1220600.
	for _, c := range []struct{ msg, want string }{
		{"the object already exists", "accept"}, {"param invalid", "refuse:bad_param"}, {"time calculation failed", "refuse:bad_time"}, {"time is invalid", "refuse:bad_time"},
		{"name or employee_no invalid", "refuse:unknown_user"}, {"rule not exist", "refuse:no_attendance_group"}, {"rule does not exist", "refuse:rejected_by_feishu"},
		{"shift does not exist", "refuse:rejected_by_feishu"}, {"the attendance result has been sealed and can not modify", "refuse:period_sealed"},
		{"shift can not be del", "refuse:rejected_by_feishu"}, {"env count illegal", "refuse:rejected_by_feishu"},
		{"failed to upload an image. Please upload a clear and complete image", "refuse:rejected_by_feishu"}, {"the object in tos not found", "refuse:rejected_by_feishu"},
		{"archive_rule_id not exist", "refuse:rejected_by_feishu"}, {"the rule cannot arrange!", "refuse:rejected_by_feishu"},
	} {
		add("7.3 "+c.msg, draintest.Row{Fault: poisoned(400, 1220600, "  "+strings.ToUpper(c.msg[:1])+c.msg[1:]+". "), State: "ok", Calls: 8, While: "accept " + c.want + " accept"})
	}
	add("7.3 no row affected: five tries, then parked", draintest.Row{Fault: poisoned(400, 1220600, "no row affected"), State: "ok", Calls: 40, While: "accept refuse:no_row_affected accept"})
	add("7.3 operate too much flow: cut, never parked", draintest.Row{Fault: set(func(f *faults) {
		f.AnswerNext, f.Answer = 1, sandbox.Refusal{Code: 1220600, Msg: "operate too much flow"}
	}), State: "ok", Calls: 6, Least: 4, While: "accept accept accept"})
	add("7.3 auth no permission", draintest.Row{Before: 1, Fault: answered(400, 1220600, "auth no permission"), State: "misconfigured", Calls: 2 * probes, Words: "right to import records"})
	add("7.3 This API can only be accessed by Feishu People Enterprise Edition users", draintest.Row{Before: 1,
		Fault: answered(400, 1220600, "This API can only be accessed by Feishu People Enterprise Edition users."), State: "misconfigured", Calls: 2 * probes, Words: "People Enterprise"})

	// 3.2 and 6 the reply, and what comes twice.
	for _, how := range []string{sandbox.RecordIDsMissing, sandbox.RecordIDsEmpty, sandbox.RecordIDsNone} {
		add("3.2 record_id is not there: "+how, draintest.Row{Fault: set(func(f *faults) { f.RecordIDs = how }), State: "ok", Calls: 2, While: "accept accept accept"})
	}
	add("3.2 one bad of eight, the good part stored", draintest.Row{Fault: set(func(f *faults) { f.StoreGood, f.Duplicates = true, sandbox.DuplicatesExists }),
		People: []string{"P1", "P2", "P3", "P4", "NOBODY", "P6", "P7", "P8"}, State: "ok", Calls: 20, While: "accept accept accept accept refuse:unknown_user accept accept accept"})
	for _, how := range []string{sandbox.DuplicatesSameRecord, sandbox.DuplicatesExists} {
		add("6 accepted, cut, and sent again: duplicates are "+how, draintest.Row{Before: 1, Fault: set(func(f *faults) { f.CommitThenDrop, f.Duplicates = 1, how }),
			State: "ok", Calls: 12, Least: 2, While: "accept accept accept", Mend: func() {
				if n := len(cloud.Ledger()); n != 3 {
					t.Errorf("Feishu holds %d records of 3 punches", n)
				}
			}})
	}
	add("6 the answer comes too late", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.DelayMS = 90_000 }), State: "retrying", Calls: 60, Words: "no complete answer within 1m0s",
		Mend: func() {
			mend()
			time.Sleep(2 * time.Minute)
			if n := len(cloud.Ledger()); n != 3 {
				t.Errorf("Feishu holds %d records of 3 punches", n)
			}
		}})
	add("11 HTML 200", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.HTMLNext, f.FailOn = -1, sandbox.OnBusiness }), State: "retrying", Calls: outage, Words: "portal"})
	add("11 network error", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.Down = true }), State: "retrying", Calls: outage})
	add("11 each token is good for one call", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.RevokeAfter = 1 }), State: "ok", Calls: 8, Least: 3, While: "accept accept accept"})
	add("6 the answer breaks off", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.CutNext = 2 }), State: "ok", Calls: 12, Least: 3, While: "accept accept accept"})
	return draintest.RowDesk{Dest: client, Calls: func() int { return cloud.Counters().Calls }, Secrets: []string{"s3cret-of-feishu", "old-one", "t-", "Bearer", "flow_records"}}, rows
}
