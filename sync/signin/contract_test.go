package signin

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/sandbox"
)

// The tables of the sign-in system's contract, row by row, with the sandbox committing
// the fault and the engine before the client. The names are section, HTTP status,
// code, and the table's words.
func TestEveryRowOfTheSigninTables(t *testing.T) { draintest.Rows(t, rowsSignin) }

func rowsSignin(t *testing.T) (draintest.RowDesk, []draintest.Row) {
	cloud := sandbox.NewSignin(sandbox.SigninConfig{UserID: account, Password: password, People: sandbox.People("P1", "P2", "P3")})
	var secret atomic.Value
	secret.Store(password)
	hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(5), Transport: sandbox.Transport(cloud)})
	if err != nil {
		t.Fatal(err)
	}
	client, err := New(Config{Mode: ServiceAccount, BaseURL: "https://signin.invalid", UserID: account, Secret: func() (string, error) { return secret.Load().(string), nil },
		HTTP: hc, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	type faults = sandbox.SigninFaults
	mend := func() { cloud.SetFaults(func(f *faults) { *f = sandbox.DefaultSigninFaults() }) }
	set := func(change func(*faults)) func() { return func() { cloud.SetFaults(change) } }
	var rows []draintest.Row
	add := func(name string, r draintest.Row) {
		r.Name = name
		if r.Mend == nil {
			r.Mend = mend
		}
		rows = append(rows, r)
	}
	answered := func(on string, status, code int, msg string) func() {
		return set(func(f *faults) {
			f.AnswerNext, f.AnswerOn, f.Answer = -1, on, sandbox.Refusal{Status: status, Code: code, Msg: msg}
		})
	}
	// insisted is a person's word after the fault was mended.
	insisted := func() { mend(); secret.Store(password); client.Insist() }
	const probes, outage = 14, 200 // calls in an hour: 5, 10, then every 15 minutes; a second to five minutes

	// 3 and 9 the login: a password that is refused is tried once.
	add("9 HTTP 401 40103: a bad password is tried once", draintest.Row{Fault: func() { secret.Store("old-one") }, Mend: func() { secret.Store(password) },
		State: "auth_failed", Calls: 1, Words: "bad_password"})
	add("9 HTTP 401 40101: the account is not approved", draintest.Row{Fault: set(func(f *faults) { f.NotApproved = []string{account} }), Mend: insisted,
		State: "auth_failed", Calls: 1, Words: "user_not_approved"})
	add("9 HTTP 401 40102: the gap is as a bad password", draintest.Row{Fault: answered(sandbox.OnToken, 401, 40102, "?"), Mend: insisted, State: "auth_failed", Calls: 1, Words: "password_file"})
	add("9 HTTP 400 at the login", draintest.Row{Fault: answered(sandbox.OnToken, 400, 40001, "user_id"), Mend: insisted, State: "misconfigured", Calls: 1, Words: "check user_id"})
	add("9 HTTP 403 at the login", draintest.Row{Fault: answered(sandbox.OnToken, 403, 40301, "no"), Mend: insisted, State: "auth_failed", Calls: 1, Words: "password_file"})
	for _, status := range []int{404, 405} {
		add(fmt.Sprintf("9 HTTP %d at the login: a wrong path", status), draintest.Row{Fault: answered(sandbox.OnToken, status, status, "?"), State: "misconfigured", Calls: probes, Words: "login_path"})
	}
	for _, status := range []int{429, 500, 503} {
		add(fmt.Sprintf("9 HTTP %d at the login", status), draintest.Row{Fault: answered(sandbox.OnToken, status, status, "?"), State: "retrying", Calls: outage})
	}
	add("9 the login answers a portal's page", draintest.Row{Fault: set(func(f *faults) { f.HTMLNext, f.FailOn = -1, sandbox.OnToken }), State: "retrying", Calls: outage, Words: "portal"})
	add("9 the system is away", draintest.Row{Fault: set(func(f *faults) { f.Down = true }), State: "retrying", Calls: outage})
	add("3 login_day is there once", draintest.Row{Fault: set(func(f *faults) { f.LoginDayTwice = false }), State: "ok", Calls: 4, While: "accept accept accept"})
	add("3 a token that is no JWT", draintest.Row{Fault: set(func(f *faults) { f.TokenNotJWT = true }), State: "ok", Calls: 4, While: "accept accept accept"})
	add("3 a token of a minute", draintest.Row{Fault: set(func(f *faults) { f.TokenLifeSeconds = 60 }), State: "ok", Calls: 4, While: "accept accept accept"})
	add("2 trailing commas are an outage", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.TrailingComma = true }), State: "retrying", Calls: outage})

	// 9 a punch.
	poisoned := func(status, code int, msg string) func() {
		return set(func(f *faults) { f.Poison = map[string]sandbox.Refusal{"P2": {Status: status, Code: code, Msg: msg}} })
	}
	add("9 HTTP 401 40101 on a punch: the person is not approved", draintest.Row{Fault: set(func(f *faults) { f.NotApproved = []string{"P2"} }), State: "ok", Calls: 5,
		While: "accept refuse:user_not_approved accept"})
	add("9 HTTP 401 on a punch: log in again once", draintest.Row{Before: 1, Fault: cloud.Revoke, State: "ok", Calls: 4, Least: 4, While: "accept accept accept"})
	add("9 HTTP 401 on every punch, with a fresh token", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.TokenTransport, f.DelayMS = "header:X-Other", 1000 }), State: "auth_failed", Calls: 4 * probes,
		Words: "check token_transport"})
	add("9 HTTP 400: a bad field", draintest.Row{Fault: poisoned(400, 40001, "sign_date"), State: "ok", Calls: 4, While: "accept refuse:http400 accept"})
	add("9 HTTP 403: may not punch for others", draintest.Row{Fault: set(func(f *faults) { f.EnforceSelf = true }), State: "auth_failed", Calls: 2 * probes, Words: "may punch for others"})
	for _, status := range []int{404, 405} {
		add(fmt.Sprintf("9 HTTP %d on a punch: a wrong path", status), draintest.Row{Before: 1, Fault: answered(sandbox.OnBusiness, status, status, "?"), State: "misconfigured", Calls: 2 * probes, Words: "punch_path"})
	}
	add("9 HTTP 409: already there", draintest.Row{Fault: poisoned(409, 40901, "exists"), State: "ok", Calls: 4, While: "accept accept accept"})
	for _, status := range []int{429, 500, 502, 503, 504} {
		add(fmt.Sprintf("9 HTTP %d on a punch", status), draintest.Row{Before: 1, Fault: answered(sandbox.OnBusiness, status, status, "?"), State: "retrying", Calls: outage})
	}
	add("9 network error", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.Down = true }), State: "retrying", Calls: outage})
	add("9 timeout", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.DelayMS = 90_000 }), State: "retrying", Calls: 60, Words: "no complete answer within 1m0s"})
	add("9 HTML", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.HTMLNext = -1 }), State: "retrying", Calls: outage})
	add("9 the answer breaks off", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.CutNext = 2 }), State: "ok", Calls: 12, Least: 4, While: "accept accept accept"})
	add("9 HTTP 200 with another code than 00: five tries, then parked", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.ExceptionNext = 5 }), State: "ok", Calls: 10,
		While: "accept refuse:odd_answer accept"})
	add("9 the words of a refusal in data", draintest.Row{Fault: set(func(f *faults) {
		f.ErrorInData, f.Poison = true, map[string]sandbox.Refusal{"P2": {Code: 40001, Msg: "x"}}
	}), State: "ok", Calls: 4, While: "accept refuse:http400 accept"})

	// 10 duplicates.
	for _, how := range []string{sandbox.DuplicatesStoreOnce, sandbox.DuplicatesStoreTwice, sandbox.DuplicatesConflict} {
		add("10 accepted, cut, and sent again: duplicates are "+how, draintest.Row{Before: 1, Fault: set(func(f *faults) { f.CommitThenDrop, f.Duplicates = 2, how }), State: "ok", Calls: 12, Least: 3,
			While: "accept accept accept"})
	}
	return draintest.RowDesk{Dest: client, Calls: func() int { return cloud.Counters().Calls }, Secrets: []string{password, "old-one", "eyJ", "Bearer"}}, rows
}
