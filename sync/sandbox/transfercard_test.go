package sandbox

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTokenCallTakesBothStylesOfCredentials(t *testing.T) {
	c := new104(t)
	id, secret := c.Credentials()
	basic := func(id, secret string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
	}
	form := "application/x-www-form-urlencoded"
	for _, tc := range []struct {
		name, auth, ctype, body string
		status                  int
		error                   string
	}{
		{"basic", basic(id, secret), form, tokenForm, 200, ""},
		{"body", "", form, tokenForm + "&client_id=" + id + "&client_secret=" + secret, 200, ""},
		{"neither", "", form, tokenForm, 401, "invalid_client"},
		{"both", basic(id, secret), form, tokenForm + "&client_secret=" + secret, 400, "invalid_request"},
		{"wrong secret", basic(id, "x"), form, tokenForm, 401, "invalid_client"},
		{"unknown id", basic("x", secret), form, tokenForm, 401, "invalid_client"},
		{"no grant", basic(id, secret), form, "scope=prohrm", 400, "invalid_request"},
		{"other grant", basic(id, secret), form, "scope=prohrm&grant_type=password", 400, "unsupported_grant_type"},
		{"other scope", basic(id, secret), form, "scope=hrm&grant_type=client_credentials", 400, "invalid_scope"},
		{"not a form", basic(id, secret), "application/json", `{}`, 400, "invalid_request"},
	} {
		r := call(t.Context(), c, "POST", TransferCardTokenPath, map[string]string{"Authorization": tc.auth, "Content-Type": tc.ctype}, tc.body)
		if r.status != tc.status {
			t.Errorf("%s: status %d, want %d: %s", tc.name, r.status, tc.status, r.body)
			continue
		}
		m := r.json(t)
		if tc.status == 200 {
			if m["expires_in"] != 3600.0 || m["token_type"] != "Bearer" || m["scope"] != "prohrm" || m["access_token"] == "" {
				t.Errorf("%s: %s", tc.name, r.body)
			}
		} else if m["error"] != tc.error {
			t.Errorf("%s: error %v, want %s", tc.name, m["error"], tc.error)
		}
	}
	if n := c.Counters().TokensIssued; n != 2 {
		t.Errorf("%d tokens issued, want 2", n)
	}
}

func TestTransferCardAnswersAsItsContractSays(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		status     int
		answer     string // what it holds
		stored     int
	}{
		{"one good", `[{"empNo":"A0001","cardTime":1566349095938}]`, 200, `"success":1`, 1},
		{"leading zeros live", `[{"empNo":"000123","cardTime":1566349095938}]`, 200, `"success":1`, 1},
		{"leading zeros missing", `[{"empNo":"123","cardTime":1566349095938}]`, 200, `"failDetail":[{"idx":0,"errorMsg":"員工編號不存在"}]`, 0},
		{"blank is ignored", `[{"empNo":" ","cardTime":1566349095938}]`, 200, `"ignoreDetail":[{"idx":0,"errorMsg":"員工編號空白"}]`, 0},
		{"missing number is blank", `[{"cardTime":1566349095938}]`, 200, `"ignore":1`, 0},
		{"wrong case of a name is missing", `[{"empno":"A0001","cardTime":1566349095938}]`, 200, `"ignore":1`, 0},
		{"good and bad", `[{"empNo":"A0001","cardTime":1566349095938},{"empNo":"X","cardTime":1566349095938}]`, 200, `"idx":1`, 1},
		{"seconds", `[{"empNo":"A0001","cardTime":1566349095}]`, 200, TextTime, 0},
		{"no time", `[{"empNo":"A0001"}]`, 200, TextTime, 0},
		{"number is not a string", `[{"empNo":123,"cardTime":1566349095938}]`, 400, "empNo is not a string", 0},
		{"time is a string", `[{"empNo":"A0001","cardTime":"1566349095938"}]`, 400, "cardTime is not an integer", 0},
		{"time is a fraction", `[{"empNo":"A0001","cardTime":1566349095938.5}]`, 400, "cardTime is not an integer", 0},
		{"a bad record spares none", `[{"empNo":"A0001","cardTime":1566349095938},{"empNo":1,"cardTime":1}]`, 400, "record 1", 0},
		{"object", `{"empNo":"A0001","cardTime":1566349095938}`, 400, "not a JSON array", 0},
		{"empty array", `[]`, 400, `"code":400`, 0},
		{"array of strings", `["A0001"]`, 400, "not a JSON object", 0},
		{"not JSON", `[{`, 400, "not a JSON array", 0},
		{"nothing", ``, 400, "not a JSON array", 0},
	} {
		c := new104(t)
		r := c.post(tc.body)
		if r.status != tc.status || !strings.Contains(string(r.body), tc.answer) {
			t.Errorf("%s: %d %s, want %d and %s", tc.name, r.status, r.body, tc.status, tc.answer)
		}
		if n := len(c.Ledger()); n != tc.stored {
			t.Errorf("%s: %d records stored, want %d", tc.name, n, tc.stored)
		}
	}
}

func TestLedgerKeepsTheBytesOfEachRecordInOrder(t *testing.T) {
	c := new104(t)
	c.post(`[ {"cardTime": 1566349095938,  "empNo":"A0001"} ,{"empNo":"000123","cardTime":1566349095939}]`)
	c.post(`[{"empNo":"A0001","cardTime":1566349095940}]`)
	l := c.Ledger()
	if len(l) != 3 || l[0].Raw != `{"cardTime": 1566349095938,  "empNo":"A0001"}` || l[1].EmpNo != "000123" {
		t.Fatalf("ledger %+v", l)
	}
	for i, want := range []int{2, 2, 3} { // call 1 was the token
		if l[i].Order != i+1 || l[i].Call != want || l[i].At.IsZero() {
			t.Errorf("record %d: %+v, want call %d", i, l[i], want)
		}
	}
	calls := c.Calls()
	if len(calls) != 3 || calls[1].Path != TransferCardPath || calls[1].Status != 200 || len(calls[1].BodyHash) != 64 || calls[1].Accepted != 2 {
		t.Errorf("calls %+v", calls)
	}
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	c := new104(t)
	c.login()
	if r := c.postTo("/prohrm/2.0/hrmapi/external/transferCard", `[]`); r.status != 404 {
		t.Errorf("unknown path: %d", r.status)
	}
	for _, path := range []string{TransferCardTokenPath, TransferCardPath, TransferTpCardPath} {
		if r := call(t.Context(), c, "GET", path, nil, ""); r.status != 405 {
			t.Errorf("GET %s: %d", path, r.status)
		}
	}
}

func TestPunchWithoutAGoodTokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new104(t)
		c.login()
		good := c.bearer
		for _, b := range []string{"", "Bearer ", "Bearer at-0000", strings.TrimPrefix(good, "Bearer ")} {
			c.bearer = b
			if r := c.postTo(TransferCardPath, punches("A0001", someTime, 1)); r.status != 401 || r.code(t) != 401 {
				t.Errorf("Authorization %q: %d %s", b, r.status, r.body)
			}
		}
		c.bearer = good
		time.Sleep(time.Hour - time.Millisecond)
		if r := c.post(punches("A0001", someTime, 1)); r.status != 200 {
			t.Errorf("a token was refused before its end: %d", r.status)
		}
		time.Sleep(time.Millisecond)
		if r := c.post(punches("A0001", someTime, 1)); r.status != 401 {
			t.Errorf("a token was taken at its end: %d", r.status)
		}
		if n := c.Counters().Refused; n != 5 {
			t.Errorf("%d refused tokens counted, want 5", n)
		}
	})
}

func TestRevokeEndsEveryToken(t *testing.T) {
	c := new104(t)
	c.login()
	c.Revoke()
	if r := c.post(punches("A0001", someTime, 1)); r.status != 401 {
		t.Errorf("status %d", r.status)
	}
	c.login()
	if r := c.post(punches("A0001", someTime, 1)); r.status != 200 {
		t.Errorf("a fresh token: %d", r.status)
	}
}

// Every switch of transferCard, one by one.

func TestSwitchIdxBase(t *testing.T) {
	for base := range 2 {
		c := new104(t)
		c.SetFaults(func(f *TransferCardFaults) { f.IdxBase = base })
		r := c.post(`[{"empNo":"A0001","cardTime":1566349095938},{"empNo":"X","cardTime":1566349095938}]`)
		if want := fmt.Sprintf(`"failDetail":[{"idx":%d,`, 1+base); !strings.Contains(string(r.body), want) {
			t.Errorf("base %d: %s", base, r.body)
		}
	}
}

func TestSwitchDuplicates(t *testing.T) {
	for _, tc := range []struct {
		mode, answer string
		stored       int
	}{
		{DuplicatesSuccess, `"success":1`, 1},
		{DuplicatesIgnore, `"ignoreDetail":[{"idx":0,"errorMsg":"打卡資料重複"}]`, 1},
		{DuplicatesFail, `"failDetail":[{"idx":0,"errorMsg":"打卡資料重複"}]`, 1},
		{DuplicatesStoreTwice, `"success":1`, 2},
	} {
		c := new104(t)
		c.SetFaults(func(f *TransferCardFaults) { f.Duplicates = tc.mode })
		c.post(punches("A0001", someTime, 1))
		r := c.post(punches("A0001", someTime, 1))
		if !strings.Contains(string(r.body), tc.answer) || len(c.Ledger()) != tc.stored {
			t.Errorf("%s: %s, %d stored", tc.mode, r.body, len(c.Ledger()))
		}
		again := c.Repeats()
		if len(again) != 1 || again[0].Repeat != 1 || again[0].Call != 3 || again[0].Raw != c.Ledger()[0].Raw {
			t.Errorf("%s: repeats %+v", tc.mode, again)
		}
	}
}

func TestSwitchDetails(t *testing.T) {
	c := new104(t)
	c.SetFaults(func(f *TransferCardFaults) { f.Details = DetailsOne })
	r := c.post(`[{"empNo":"X","cardTime":1566349095938},{"empNo":"Y","cardTime":1566349095938},{"empNo":"A0001","cardTime":1566349095938}]`)
	m := r.json(t)
	if m["fail"] != 2.0 || len(m["failDetail"].([]any)) != 1 {
		t.Errorf("%s", r.body)
	}
}

func TestSwitchEmptyDetails(t *testing.T) {
	for mode, want := range map[string]string{
		EmptyList:    `{"fail":0,"failDetail":[],"ignore":0,"ignoreDetail":[],"success":1}`,
		EmptyNull:    `{"fail":0,"failDetail":null,"ignore":0,"ignoreDetail":null,"success":1}`,
		EmptyMissing: `{"fail":0,"ignore":0,"success":1}`,
	} {
		c := new104(t)
		c.SetFaults(func(f *TransferCardFaults) { f.EmptyDetails = mode })
		if r := c.post(punches("A0001", someTime, 1)); string(r.body) != want {
			t.Errorf("%s: %s", mode, r.body)
		}
	}
}

func TestSwitchMiscount(t *testing.T) {
	c := new104(t)
	c.SetFaults(func(f *TransferCardFaults) { f.Miscount = 1 })
	if r := c.post(punches("A0001", someTime, 3)); r.json(t)["success"] != 2.0 || len(c.Ledger()) != 3 {
		t.Errorf("%s", r.body)
	}
}

func TestSwitchWrongTypes(t *testing.T) {
	c := new104(t)
	c.SetFaults(func(f *TransferCardFaults) { f.WrongTypes = true })
	if r := c.post(punches("A0001", someTime, 3)); !strings.Contains(string(r.body), `"success":"3"`) {
		t.Errorf("%s", r.body)
	}
}

func TestSwitchMaxBatch(t *testing.T) {
	for _, status := range []int{400, 413} {
		c := new104(t)
		c.SetFaults(func(f *TransferCardFaults) { f.MaxBatch, f.MaxBatchStatus = 2, status })
		if r := c.post(punches("A0001", someTime, 3)); r.status != status || len(c.Ledger()) != 0 {
			t.Errorf("three: %d, want %d", r.status, status)
		}
		if r := c.post(punches("A0001", someTime, 2)); r.status != 200 {
			t.Errorf("two: %d", r.status)
		}
	}
}

func TestSwitchRateLimitCountsEveryArrivalInARollingSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new104(t)
		c.SetFaults(func(f *TransferCardFaults) { f.RateLimit = 3 })
		c.login() // at 0 ms, and it counts
		step := func(after time.Duration, want int) {
			t.Helper()
			time.Sleep(after)
			r := c.post(punches("A0001", someTime, 1))
			if r.status != want {
				t.Errorf("after %v: %d, want %d: %s", after, r.status, want, r.body)
			}
			if want == 429 && (r.header.Get("Retry-After") != "1" || string(r.body) != `{"code":429,"msg":"too many requests"}`) {
				t.Errorf("%v %s", r.header, r.body)
			}
		}
		step(400*time.Millisecond, 200) // 400
		step(400*time.Millisecond, 200) // 800
		step(199*time.Millisecond, 429) // 999: the fourth since 0
		step(1*time.Millisecond, 429)   // 1000: the token call has left, the refused one counts
		step(1000*time.Millisecond, 200)
		n := c.Counters()
		if n.WorstSecond != 4 || n.RateLimited != 2 || n.Calls != 6 || n.TokenCalls != 1 {
			t.Errorf("counters %+v", n)
		}
		c.SetFaults(func(f *TransferCardFaults) { f.RateLimit = 0 })
		for range 50 {
			step(0, 200)
		}
		if n := c.Counters().WorstSecond; n != 51 { // with the one of the last step before
			t.Errorf("worst second %d, want 51", n)
		}
	})
}

func TestSwitchFailNext(t *testing.T) {
	c := new104(t)
	c.login()
	c.SetFaults(func(f *TransferCardFaults) {
		f.FailNext, f.FailStatus, f.FailOn, f.RetryAfter = 2, 503, OnBusiness, "7"
	})
	if r := c.askToken(); r.status != 200 {
		t.Errorf("the token call failed too: %d", r.status)
	}
	for i, want := range []int{503, 503, 200} {
		r := c.post(punches("A0001", someTime, 1))
		if r.status != want || want == 503 && r.header.Get("Retry-After") != "7" {
			t.Errorf("call %d: %d %v", i, r.status, r.header)
		}
	}
	c.SetFaults(func(f *TransferCardFaults) { f.FailNext, f.FailStatus, f.FailOn = -1, 302, OnToken })
	for range 3 {
		if r := c.askToken(); r.status != 302 || r.header.Get("Location") == "" {
			t.Errorf("redirect: %d", r.status)
		}
	}
	if len(c.Ledger()) != 1 {
		t.Errorf("%d stored", len(c.Ledger()))
	}
}

func TestSwitchDown(t *testing.T) {
	c := new104(t)
	c.login()
	c.SetFaults(func(f *TransferCardFaults) { f.Down = true })
	if r := c.post(punches("A0001", someTime, 1)); !errors.Is(r.err, io.ErrUnexpectedEOF) {
		t.Errorf("answered %d %v", r.status, r.err)
	}
	if n := c.Counters(); len(c.Ledger()) != 0 || n.Calls != 2 || n.Dropped != 1 {
		t.Errorf("%+v", n)
	}
}

func TestSwitchCommitThenDrop(t *testing.T) {
	c := new104(t)
	c.login()
	c.SetFaults(func(f *TransferCardFaults) { f.CommitThenDrop = 1 })
	if r := c.askToken(); r.status != 200 {
		t.Errorf("a token call was dropped")
	}
	if r := c.post(punches("A0001", someTime, 2)); !errors.Is(r.err, io.ErrUnexpectedEOF) {
		t.Errorf("answered %d %v", r.status, r.err)
	}
	if len(c.Ledger()) != 2 {
		t.Errorf("%d stored, want 2", len(c.Ledger()))
	}
	if r := c.post(punches("A0001", someTime, 2)); r.status != 200 || len(c.Ledger()) != 2 || len(c.Repeats()) != 2 {
		t.Errorf("the resend: %d", r.status)
	}
	if last := c.Calls()[2]; last.Status != 0 || last.Accepted != 2 {
		t.Errorf("call %+v", last)
	}
}

func TestSwitchCutNext(t *testing.T) {
	c := new104(t)
	c.SetFaults(func(f *TransferCardFaults) { f.CutNext = 1 })
	r := c.post(punches("A0001", someTime, 1))
	if r.status != 200 || !errors.Is(r.err, io.ErrUnexpectedEOF) || len(r.body) == 0 || len(c.Ledger()) != 1 {
		t.Errorf("%d %q %v", r.status, r.body, r.err)
	}
}

func TestSwitchHTMLNext(t *testing.T) {
	c := new104(t)
	c.login()
	c.SetFaults(func(f *TransferCardFaults) { f.HTMLNext = 1 })
	r := c.post(punches("A0001", someTime, 1))
	if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") || !strings.Contains(string(r.body), "<title>") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if len(c.Ledger()) != 0 {
		t.Error("a portal stored a punch")
	}
}

func TestSwitchDelayHoldsTheAnswerNotTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new104(t)
		c.login()
		c.SetFaults(func(f *TransferCardFaults) { f.DelayMS = 3000 })
		start := time.Now()
		done := make(chan replyOf)
		go func() { done <- c.post(punches("A0001", someTime, 1)) }()
		synctest.Wait()
		if len(c.Ledger()) != 1 {
			t.Error("nothing stored while the answer waits")
		}
		if r := <-done; r.status != 200 || time.Since(start) != 3*time.Second {
			t.Errorf("%d after %v", r.status, time.Since(start))
		}
	})
}

func TestSwitchSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new104(t)
		c.login()
		c.SetFaults(func(f *TransferCardFaults) { f.SlowBodyMS = 8000 })
		start := time.Now()
		if r := c.post(punches("A0001", someTime, 1)); r.json(t)["success"] != 1.0 || time.Since(start) != 8*time.Second {
			t.Errorf("%s after %v", r.body, time.Since(start))
		}
	})
}

func TestSwitchRevokeAfter(t *testing.T) {
	c := new104(t)
	c.SetFaults(func(f *TransferCardFaults) { f.RevokeAfter = 2 })
	for i, want := range []int{200, 200, 401, 401} {
		if r := c.post(punches("A0001", someTime, 1)); r.status != want {
			t.Errorf("call %d: %d, want %d", i, r.status, want)
		}
	}
	c.login()
	if r := c.post(punches("A0001", someTime, 1)); r.status != 200 {
		t.Errorf("a fresh token: %d", r.status)
	}
}

func TestSwitchTokenLifeAndRefuseTokens(t *testing.T) {
	c := new104(t)
	c.SetFaults(func(f *TransferCardFaults) { f.TokenLifeSeconds = 90; f.RefuseTokens = true })
	if r := c.askToken(); r.json(t)["expires_in"] != 90.0 {
		t.Errorf("%s", r.body)
	}
	if r := c.post(punches("A0001", someTime, 1)); r.status != 401 {
		t.Errorf("status %d", r.status)
	}
}

func TestSwitchEmptyToken(t *testing.T) {
	d := new104(t)
	d.SetFaults(func(f *TransferCardFaults) { f.EmptyToken = true })
	if r := d.askToken(); r.status != 200 || !strings.Contains(string(r.body), `"access_token":""`) || d.Counters().TokensIssued != 0 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestSwitchesOfTheTokenCall(t *testing.T) {
	d := new104(t)
	d.SetFaults(func(f *TransferCardFaults) { f.NoTokenLife = true })
	r := d.askToken()
	token, _ := r.json(t)["access_token"].(string)
	if _, told := r.json(t)["expires_in"]; r.status != 200 || token == "" || told {
		t.Errorf("%d %s", r.status, r.body)
	}
	d.SetFaults(func(f *TransferCardFaults) { f.TokenError = "invalid_scope" })
	if r := d.askToken(); r.status != 400 || r.json(t)["error"] != "invalid_scope" || d.Counters().TokensIssued != 1 {
		t.Errorf("%d %s, %d issued", r.status, r.body, d.Counters().TokensIssued)
	}
	if err := d.patchFaults([]byte(`{"token_error":"tired"}`)); err == nil {
		t.Error("a word that is not RFC 6749's was taken")
	}
}

func TestSwitchesPerEmployee(t *testing.T) {
	c := new104(t, "A", "B", "C", "D")
	c.SetFaults(func(f *TransferCardFaults) {
		f.Poison = map[string]Refusal{"B": {Code: 490, Msg: "公司已關閉"}}
		f.FailText = map[string]string{"C": "離職"}
		f.IgnoreText = map[string]string{"D": "免刷卡"}
	})
	r := c.post(`[{"empNo":"A","cardTime":1566349095938},{"empNo":"B","cardTime":1566349095938}]`)
	if r.status != 400 || r.code(t) != 490 || len(c.Ledger()) != 0 {
		t.Errorf("poison: %d %s", r.status, r.body)
	}
	r = c.post(`[{"empNo":"A","cardTime":1566349095938},{"empNo":"C","cardTime":1566349095938},{"empNo":"D","cardTime":1566349095938}]`)
	want := `{"fail":1,"failDetail":[{"idx":1,"errorMsg":"離職"}],"ignore":1,"ignoreDetail":[{"idx":2,"errorMsg":"免刷卡"}],"success":1}`
	if string(r.body) != want {
		t.Errorf("%s", r.body)
	}
}

func TestThirdPartyVendorCall(t *testing.T) {
	c := new104(t)
	c.TransferCard = NewTransferCard(TransferCardConfig{People: People("A0001"), Companies: []string{"12345678", "01234567"}})
	c.login()
	good := punches("A0001", someTime, 1)
	for _, tc := range []struct{ name, body, answer string }{
		{"number", `[{"uno":12345678,"cardData":` + good + `}]`, `"code":"200"`},
		{"string", `[{"uno":"01234567","cardData":` + good + `}]`, `"uno":"01234567"`},
		{"short number is padded", `[{"uno":1234567,"cardData":` + good + `}]`, `"success":1`},
		{"other company", `[{"uno":87654321,"cardData":` + good + `}]`, `"code":"491"`},
		{"nothing in it", `[{"uno":12345678,"cardData":[]}]`, `"code":"492"`},
	} {
		if r := c.postTo(TransferTpCardPath, tc.body); r.status != 200 || !strings.Contains(string(r.body), tc.answer) {
			t.Errorf("%s: %d %s", tc.name, r.status, r.body)
		}
	}
	for _, bad := range []string{`[]`, `{}`, `[{"uno":[],"cardData":[]}]`, `[{"uno":12345678,"cardData":[{"empNo":1}]}]`} {
		if r := c.postTo(TransferTpCardPath, bad); r.status != 400 {
			t.Errorf("%s: %d %s", bad, r.status, r.body)
		}
	}
	before := len(c.Ledger())
	c.SetFaults(func(f *TransferCardFaults) { f.TpCodes = map[string]string{"12345678": "493"}; f.TpCodeNumber = true })
	r := c.postTo(TransferTpCardPath, `[{"uno":12345678,"cardData":`+punches("A0001", someTime+5, 1)+`}]`)
	if !strings.Contains(string(r.body), `"code":493`) || len(c.Ledger()) != before {
		t.Errorf("%s", r.body)
	}
}

func TestAnybodyIsKnownOnRequestAndNewPeopleAtOnce(t *testing.T) {
	c := new104(t)
	c.SetPeople(nil, true)
	if r := c.post(punches("Z", someTime, 1)); r.json(t)["success"] != 1.0 {
		t.Errorf("%s", r.body)
	}
	c.SetPeople(People("Y"), false)
	if r := c.post(punches("Z", someTime+1, 1)); r.json(t)["fail"] != 1.0 {
		t.Errorf("%s", r.body)
	}
	if r := c.post(punches("Y", someTime+1, 1)); r.json(t)["success"] != 1.0 {
		t.Errorf("%s", r.body)
	}
}

func TestResetLeavesACloudWithoutAFault(t *testing.T) {
	c := new104(t)
	c.SetFaults(func(f *TransferCardFaults) { f.WrongTypes = true })
	c.post(punches("A0001", someTime, 1))
	c.Reset()
	if len(c.Ledger()) != 0 || len(c.Calls()) != 0 || c.Counters() != (Counters{}) || c.Faults().WrongTypes {
		t.Error("something stayed")
	}
	if r := c.post(punches("A0001", someTime, 1)); r.status != 401 {
		t.Errorf("a token from before: %d", r.status)
	}
}

func TestImpossibleSwitchIsRefusedAndChangesNothing(t *testing.T) {
	c := new104(t)
	func() {
		defer func() {
			if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "idx_base 2") {
				t.Errorf("panic %v", p)
			}
		}()
		c.SetFaults(func(f *TransferCardFaults) { f.IdxBase, f.Down = 2, true })
	}()
	if c.Faults().Down {
		t.Error("the other switch was set")
	}
}

func TestOnlyTheLastCallsAreKept(t *testing.T) {
	c := new104(t)
	c.SetFaults(func(f *TransferCardFaults) { f.RateLimit = 0 })
	for range MaxCalls + 5 {
		c.core.mu.Lock()
		c.core.counters.Calls++
		c.core.keep(Call{Number: c.core.counters.Calls})
		c.core.mu.Unlock()
	}
	calls := c.Calls()
	if len(calls) != MaxCalls || calls[0].Number != 6 || calls[MaxCalls-1].Number != MaxCalls+5 {
		t.Errorf("%d calls, from %d to %d", len(calls), calls[0].Number, calls[len(calls)-1].Number)
	}
}
