package transfercard

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/sandbox"
)

// The tables of 104's contract, row by row, for both calls, with the sandbox
// committing the fault and the engine before the client. The names are section, status
// or code, and the table's words.
func TestEveryRowOf104sTables(t *testing.T) {
	for _, call := range []struct{ name, uno string }{{"transferCard", ""}, {"transferTpCard", "12345678"}} {
		t.Run(call.name, func(t *testing.T) {
			draintest.Rows(t, func(t *testing.T) (draintest.RowDesk, []draintest.Row) { return rows104(t, call.uno) })
		})
	}
}

func rows104(t *testing.T, uno string) (draintest.RowDesk, []draintest.Row) {
	cloud := sandbox.NewTransferCard(sandbox.TransferCardConfig{ClientSecret: "s3cret-of-104", People: sandbox.People("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8")})
	id, right := cloud.Credentials()
	var secret atomic.Value
	secret.Store(right)
	hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(25), Transport: sandbox.Transport(cloud)})
	if err != nil {
		t.Fatal(err)
	}
	client, err := New(Config{APIBase: "https://104.invalid" + sandbox.TransferCardBase, TokenURL: "https://104.invalid" + sandbox.TransferCardTokenPath,
		ClientID: id, Secret: func() (string, error) { return secret.Load().(string), nil }, HTTP: hc, Log: slog.New(slog.DiscardHandler), UNO: uno})
	if err != nil {
		t.Fatal(err)
	}
	type faults = sandbox.TransferCardFaults
	mend := func() { cloud.SetFaults(func(f *faults) { *f = sandbox.DefaultTransferCardFaults() }) }
	set := func(change func(*faults)) func() { return func() { cloud.SetFaults(change) } }
	var rows []draintest.Row
	add := func(name string, r draintest.Row) {
		r.Name = name
		if r.Mend == nil {
			r.Mend = mend
		}
		rows = append(rows, r)
	}
	failing := func(on string, status int) func() {
		return set(func(f *faults) { f.FailNext, f.FailStatus, f.FailOn = -1, status, on })
	}
	const probes, outage = 14, 200 // calls in an hour: 5, 10, then every 15 minutes; a second to five minutes

	// 3.3 the token endpoint. A wrong secret is never a punch's fault.
	add("3.3 HTTP 401 invalid_client: a wrong secret", draintest.Row{Fault: func() { secret.Store("old-one") }, Mend: func() { secret.Store(right) },
		State: "auth_failed", Calls: probes, Words: "client_secret_file"})
	for _, status := range []int{400, 403} {
		add(fmt.Sprintf("3.3 HTTP %d from the token endpoint", status), draintest.Row{Fault: failing(sandbox.OnToken, status), State: "auth_failed", Calls: probes, Words: "client_secret_file"})
	}
	for _, status := range []int{404, 405} {
		add(fmt.Sprintf("3.3 HTTP %d: a wrong token_url", status), draintest.Row{Fault: failing(sandbox.OnToken, status), State: "misconfigured", Calls: probes, Words: "set token_url to"})
	}
	for _, status := range []int{429, 500, 503} {
		add(fmt.Sprintf("3.3 HTTP %d from the token endpoint", status), draintest.Row{Fault: failing(sandbox.OnToken, status), State: "retrying", Calls: outage})
	}
	add("3.3 the token endpoint answers no JSON", draintest.Row{Fault: set(func(f *faults) { f.HTMLNext, f.FailOn = -1, sandbox.OnToken }), State: "retrying", Calls: outage, Words: "portal"})
	for _, c := range []struct{ word, words string }{{"invalid_scope", "open the scope prohrm"}, {"unsupported_grant_type", "open client credentials"}, {"unauthorized_client", "open client credentials"},
		{"invalid_request", "auth_style"}, {"invalid_client", "client_secret_file"}} {
		add("3.3 HTTP 400 "+c.word, draintest.Row{Fault: set(func(f *faults) { f.TokenError = c.word }), State: "auth_failed", Calls: probes, Words: c.words})
	}
	add("3.2 a token without expires_in", draintest.Row{Fault: set(func(f *faults) { f.NoTokenLife = true }), State: "ok", Calls: 2, While: "accept accept accept"})
	add("3.2 a token of two seconds", draintest.Row{Before: 1, Fault: func() {
		cloud.SetFaults(func(f *faults) { f.TokenLifeSeconds = 2 })
		cloud.Revoke()
	}, State: "ok", Calls: 6, Least: 3, While: "accept accept accept"})
	add("3.3 HTTP 200 without access_token", draintest.Row{Fault: set(func(f *faults) { f.EmptyToken = true }), State: "retrying", Calls: outage, Words: "no access_token"})
	add("3.3 the token endpoint is away", draintest.Row{Fault: set(func(f *faults) { f.Down = true }), State: "retrying", Calls: outage})

	// 4.3 how a 200 is read.
	add("4.3 rule 1: HTML 200", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.HTMLNext, f.FailOn = -1, sandbox.OnBusiness }), State: "retrying", Calls: outage, Words: "portal"})
	add("4.3 rule 1: wrong JSON types", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.WrongTypes = true }), State: "retrying", Calls: outage})
	add("4.3 rule 2: all were taken", draintest.Row{Fault: func() {}, State: "ok", Calls: 2, While: "accept accept accept"})
	for base := range 2 {
		add(fmt.Sprintf("4.3 rule 3: idx base %d learned", base), draintest.Row{Fault: set(func(f *faults) { f.IdxBase = base }), People: []string{"P1", "X", "P3", "P4"},
			State: "ok", Calls: 6, While: "accept refuse:emp_no_unknown accept accept"})
		add(fmt.Sprintf("4.3 rule 3: truncated details, base %d", base), draintest.Row{Fault: set(func(f *faults) { f.IdxBase, f.Details = base, sandbox.DetailsOne }),
			People: []string{"X", "P1", "Y", "P2"}, State: "ok", Calls: 6, While: "refuse:emp_no_unknown accept refuse:emp_no_unknown accept"})
	}
	add("4.3 rule 3: counts that never add up", draintest.Row{Fault: set(func(f *faults) { f.Miscount = 1 }), State: "ok", Calls: 40,
		While: "refuse:unclear_from_104 refuse:unclear_from_104 refuse:unclear_from_104"})
	for _, how := range []string{sandbox.EmptyNull, sandbox.EmptyMissing} {
		add("4.2 empty details are "+how, draintest.Row{Fault: set(func(f *faults) { f.EmptyDetails = how }), People: []string{"P1", "P2", "X"}, State: "ok", Calls: 5,
			While: "accept accept refuse:emp_no_unknown"})
	}

	// 6 record-level results: one bad of three.
	for _, c := range []struct{ list, text, want string }{
		{"ignoreDetail", "員工編號空白", "refuse:emp_no_blank"}, {"failDetail", "員工編號不存在", "refuse:emp_no_unknown"},
		{"ignoreDetail", "打卡資料重複", "accept"}, {"failDetail", "打卡資料重複", "accept"},
		{"ignoreDetail", "any other text", "refuse:ignored_by_104"}, {"failDetail", "any other text", "refuse:rejected_by_104"},
	} {
		add("6 "+c.list+" "+c.text, draintest.Row{Fault: set(func(f *faults) {
			f.IdxBase = 1
			if c.list == "failDetail" {
				f.FailText = map[string]string{"P2": c.text}
			} else {
				f.IgnoreText = map[string]string{"P2": c.text}
			}
		}), State: "ok", Calls: 5, While: "accept " + c.want + " accept"})
	}
	add("6 員工編號空白 is never sent", draintest.Row{Fault: func() {}, People: []string{"P1", " "}, State: "ok", Calls: 2, While: "accept refuse:emp_no_blank"})

	// 7 HTTP-level results.
	add("7 HTTP 400: split until the bad record stands alone", draintest.Row{Fault: set(func(f *faults) { f.Poison = map[string]sandbox.Refusal{"P6": {Code: 412, Msg: "x"}} }),
		People: []string{"P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8"}, State: "ok", Calls: 12, While: "accept accept accept accept accept refuse:http400 accept accept"})
	add("7 HTTP 400: too many records", draintest.Row{Fault: set(func(f *faults) { f.MaxBatch = 2 }), State: "ok", Calls: 6, Least: 4, While: "accept accept accept"})
	for _, c := range []struct {
		code  int
		words string
	}{{490, "payment"}, {491, "have HR agree"}} {
		add(fmt.Sprintf("7 HTTP 400 with code %d", c.code), draintest.Row{Fault: set(func(f *faults) { f.Poison = map[string]sandbox.Refusal{"P1": {Code: c.code}} }),
			State: "auth_failed", Calls: 2 * probes, Words: c.words})
	}
	add("7 HTTP 401: a revoked token is replaced, the call sent again once", draintest.Row{Before: 1, Fault: cloud.Revoke, State: "ok", Calls: 3, Least: 3, While: "accept accept accept"})
	add("7 HTTP 401 again with a fresh token", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.RefuseTokens = true }), State: "auth_failed", Calls: 3 * probes, Words: "ask 104 whether client_id may still write"})
	add("7 HTTP 403", draintest.Row{Fault: failing(sandbox.OnBusiness, 403), State: "auth_failed", Calls: 2 * probes, Words: "right to write punches"})
	for _, status := range []int{404, 405} {
		add(fmt.Sprintf("7 HTTP %d: a wrong base URL", status), draintest.Row{Fault: failing(sandbox.OnBusiness, status), State: "misconfigured", Calls: 2 * probes, Words: "set api_base to"})
	}
	for _, status := range []int{408, 425, 429} {
		add(fmt.Sprintf("7 HTTP %d: slow down", status), draintest.Row{Fault: failing(sandbox.OnBusiness, status), State: "retrying", Calls: 40})
		add(fmt.Sprintf("7 HTTP %d with Retry-After", status), draintest.Row{Fault: set(func(f *faults) {
			f.FailNext, f.FailStatus, f.FailOn, f.RetryAfter = -1, status, sandbox.OnBusiness, "3600"
		}), State: "retrying", Calls: 8}) // capped at ten minutes
	}
	add("7 HTTP 413: half the size, remembered", draintest.Row{Fault: set(func(f *faults) { f.MaxBatch, f.MaxBatchStatus = 1, 413 }), State: "ok", Calls: 8, Least: 4, While: "accept accept accept"})
	for _, status := range []int{500, 501, 502, 503, 504} {
		add(fmt.Sprintf("7 HTTP %d: outage", status), draintest.Row{Fault: failing(sandbox.OnBusiness, status), State: "retrying", Calls: outage})
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		add(fmt.Sprintf("7 HTTP %d: a redirect is not followed", status), draintest.Row{Fault: failing(sandbox.OnBusiness, status), State: "retrying", Calls: outage})
	}
	add("7 network error", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.Down = true }), State: "retrying", Calls: outage})
	add("7 timeout: the answer comes too late", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.DelayMS = 90_000 }), State: "retrying", Calls: 60, Words: "no complete answer within 1m0s"})
	add("7 timeout: the answer trickles", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.SlowBodyMS = 300_000 }), State: "retrying", Calls: 60, Words: "no complete answer within 1m0s"})
	add("7 truncated body", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.CutNext = -1 }), State: "retrying", Calls: outage, Words: "broke off"})
	add("7 accepted, then cut", draintest.Row{Before: 1, Fault: set(func(f *faults) { f.CommitThenDrop = 1 }), State: "ok", Calls: 3, Least: 2, While: "accept accept accept"})

	// 11 tokens that end by themselves.
	add("11 each token is good for one call", draintest.Row{Fault: set(func(f *faults) { f.RevokeAfter, f.MaxBatch, f.MaxBatchStatus = 1, 2, 413 }), State: "ok", Calls: 12, Least: 5, While: "accept accept accept"})

	// 8 duplicates: a resend is delivered, whatever 104 does with an equal number and time.
	for _, how := range []string{sandbox.DuplicatesSuccess, sandbox.DuplicatesIgnore, sandbox.DuplicatesFail, sandbox.DuplicatesStoreTwice} {
		add("8 accepted, cut, and sent again: duplicates are "+how, draintest.Row{Before: 1, Fault: set(func(f *faults) { f.CutNext, f.Duplicates, f.IdxBase = 2, how, 1 }),
			State: "ok", Calls: 12, Least: 3, While: "accept accept accept"})
	}
	add("8 the rate limit of 104 itself", draintest.Row{Fault: set(func(f *faults) { f.RateLimit = 1 }), State: "ok", Calls: 12, Least: 3, While: "accept accept accept"})

	// 5 transferTpCard's own codes.
	if uno != "" {
		for _, asNumber := range []bool{false, true} {
			for _, c := range []struct {
				code, state, words string
				calls              int
			}{{"490", "auth_failed", "payment", 2 * probes}, {"491", "auth_failed", "have HR agree", 2 * probes}, {"492", "misconfigured", "report this to the maker", 2 * probes}, {"493", "retrying", "code 493", outage}} {
				add(fmt.Sprintf("5 code %s, a number: %v", c.code, asNumber), draintest.Row{Fault: set(func(f *faults) { f.TpCodes, f.TpCodeNumber = map[string]string{uno: c.code}, asNumber }),
					State: c.state, Calls: c.calls, Words: c.words})
			}
		}
	}
	return draintest.RowDesk{Dest: client, Calls: func() int { return cloud.Counters().Calls }, Secrets: []string{"s3cret-of-104", "old-one", "at-", "Bearer"}}, rows
}
