package sandbox

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestControlPageTellsEverything(t *testing.T) {
	c, f := new104(t), newFeishu(t)
	h := NewControl(c.TransferCard, f.Feishu, NewSignin(SigninConfig{}))
	c.post(punches("A0001", someTime, 3))
	c.post(punches("A0001", someTime, 1))
	f.imports(flow("A0123", "k1"), flow("A0123", "k2"))

	state := func(query string) (s State) {
		t.Helper()
		r := call(t.Context(), h, "GET", "/state"+query, nil, "")
		if r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		if err := json.Unmarshal(r.body, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := state("")
	if len(s.TransferCard.Ledger) != 3 || len(s.TransferCard.Repeats) != 1 || len(s.TransferCard.Calls) != 3 || s.TransferCard.Counters.Accepted != 3 {
		t.Errorf("104: %+v", s.TransferCard)
	}
	if len(s.Feishu.Ledger) != 2 || s.Feishu.Ledger[1].Flow.IdempotentID != "k2" || s.Feishu.Faults.RateLimit != 50 {
		t.Errorf("feishu: %+v", s.Feishu)
	}
	if s := state("?last=1"); len(s.TransferCard.Ledger) != 1 || s.TransferCard.Ledger[0].Order != 3 || len(s.Feishu.Calls) != 1 {
		t.Errorf("last: %+v", s)
	}
	if r := call(t.Context(), h, "GET", "/state?last=x", nil, ""); r.status != 400 {
		t.Errorf("last=x: %d", r.status)
	}
	r := call(t.Context(), h, "GET", "/", nil, "")
	if r.status != 200 || !strings.Contains(string(r.body), "<!DOCTYPE html>") || strings.Contains(string(r.body), "https://") || strings.Contains(string(r.body), "http://") {
		t.Errorf("page: %d", r.status)
	}
}

func TestFaultsAreSetByNameAndStrictly(t *testing.T) {
	for _, method := range []string{"POST", "PATCH"} {
		c, f := new104(t), newFeishu(t)
		h := NewControl(c.TransferCard, f.Feishu, NewSignin(SigninConfig{}))
		r := call(t.Context(), h, method, "/faults", nil, `{"104":{"idx_base":1,"poison":{"X":{"code":490}}},"feishu":{"ip_refused":true}}`)
		v := c.Faults()
		if r.status != 200 || v.IdxBase != 1 || v.Poison["X"].Code != 490 || v.Details != DetailsFull || !f.Faults().IPRefused {
			t.Errorf("%d %s", r.status, r.body)
		}
		for body, want := range map[string]string{
			`{"104":{"idx_bose":1,"down":true}}`:                    "idx_bose",
			`{"feishu":{"idx_base":1}}`:                             "idx_base",
			`{"lark":{}}`:                                           "lark",
			`{"104":{"idx_base":7,"down":true}}`:                    "idx_base 7",
			`{"104":{"details":"none"}}`:                            "details",
			`{"104":{"down":"yes"}}`:                                "down",
			`{"104":{"down":true},"feishu":{"rate_status":500}}`:    "rate_status",
			`{"feishu":{"token_life_seconds":7201}}`:                "token_life_seconds",
			`{"104":{"fail_status":200}}`:                           "fail_status",
			`{"104":{"delay_ms":-1}}`:                               "delay_ms",
			`{"104":{"tp_codes":{"1":"500"}}}`:                      "tp_codes",
			`{}`:                                                    "nothing to change",
			`{"104":{"down":true}} {}`:                              "follows",
			`{"104":{"down":true}`:                                  "unexpected EOF",
			`{"feishu":{"answer":{"status":400,"message":"typo"}}}`: "message",
		} {
			r := call(t.Context(), h, method, "/faults", nil, body)
			if r.status != 400 || !strings.Contains(string(r.body), want) {
				t.Errorf("%s: %d %s, want %q", body, r.status, r.body, want)
			}
		}
		if c.Faults().Down {
			t.Error("half of a refused change was made")
		}
	}
}

func TestRevokeResetAndPeopleOverTheControlPage(t *testing.T) {
	c, f := new104(t), newFeishu(t)
	h := NewControl(c.TransferCard, f.Feishu, NewSignin(SigninConfig{}))
	do := func(path, body string, want int) {
		t.Helper()
		if r := call(t.Context(), h, "POST", path, nil, body); r.status != want {
			t.Errorf("%s %s: %d %s", path, body, r.status, r.body)
		}
	}
	c.login()
	f.login()
	do("/revoke", `{"cloud":"104"}`, 204)
	if r := c.post(punches("A0001", someTime, 1)); r.status != 401 {
		t.Errorf("104: %d", r.status)
	}
	if r := f.imports(flow("A0123", "k")); r.status != 200 {
		t.Errorf("feishu lost its token too")
	}
	do("/revoke", ``, 204)
	if r := f.imports(flow("A0123", "k")); r.status != 400 {
		t.Errorf("feishu: %d", r.status)
	}
	do("/people", `{"104":{"people":[{"employee_no":"NEW"}]},"feishu":{"accept_any":true}}`, 204)
	c.login()
	f.login()
	if r := c.post(punches("NEW", someTime, 1)); r.json(t)["success"] != 1.0 {
		t.Errorf("%s", r.body)
	}
	if r := f.imports(flow("anybody", "k9")); r.status != 200 {
		t.Errorf("%s", r.body)
	}
	do("/reset", `{"cloud":"feishu"}`, 204)
	if len(f.Ledger()) != 0 || len(c.Ledger()) != 1 {
		t.Error("reset the wrong one")
	}
	do("/reset", ``, 204)
	if len(c.Ledger()) != 0 {
		t.Error("104 was not reset")
	}
	do("/reset", `{"cloud":"lark"}`, 400)
	do("/revoke", `{"clod":"104"}`, 400)
	do("/people", `{"104":{"person":[]}}`, 400)
	if r := call(t.Context(), h, "GET", "/revoke", nil, ""); r.status != http.StatusMethodNotAllowed {
		t.Errorf("GET /revoke: %d", r.status)
	}
}

// Every call is one of a crowd's: for the race detector, and for lost updates.
func TestCloudsServeManyAtOnce(t *testing.T) {
	c, f := new104(t), newFeishu(t)
	c.SetFaults(func(v *TransferCardFaults) { v.RateLimit = 0 })
	f.SetFaults(func(v *FeishuFaults) { v.RateLimit = 0 })
	h := NewControl(c.TransferCard, f.Feishu, NewSignin(SigninConfig{}))
	c.login()
	f.login()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			c.postTo(TransferCardPath, punches("A0001", someTime+int64(i), 1))
			f.imports(flow("A0123", strconv.Itoa(i)))
			call(t.Context(), h, "GET", "/state?last=3", nil, "")
			call(t.Context(), h, "POST", "/faults", nil, `{"104":{"idx_base":1}}`)
		})
	}
	wg.Wait()
	if len(c.Ledger()) != 40 || len(f.Ledger()) != 40 || c.Counters().WorstSecond > 41 {
		t.Errorf("%d and %d stored", len(c.Ledger()), len(f.Ledger()))
	}
}
