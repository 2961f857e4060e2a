package sandbox

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFeishuTokenIsRefusedInsideHTTP200(t *testing.T) {
	f := newFeishu(t)
	id, secret := f.Credentials()
	for _, tc := range []struct {
		name, ctype, body string
		code              int
		msg               string
	}{
		{"good", feishuJSON, fmt.Sprintf(`{"app_id":%q,"app_secret":%q}`, id, secret), 0, "ok"},
		{"wrong secret", feishuJSON, fmt.Sprintf(`{"app_id":%q,"app_secret":"x"}`, id), 10014, "app secret invalid"},
		{"unknown app", feishuJSON, fmt.Sprintf(`{"app_id":"cli_x","app_secret":%q}`, secret), 10014, "app id not exists"},
		{"malformed app", feishuJSON, fmt.Sprintf(`{"app_id":"x","app_secret":%q}`, secret), 10003, "invalid param"},
		{"not JSON", feishuJSON, `app_id=x`, 10003, "invalid param"},
		{"no charset", "application/json", fmt.Sprintf(`{"app_id":%q,"app_secret":%q}`, id, secret), 10003, "invalid param"},
	} {
		r := call(t.Context(), f, "POST", FeishuTokenPath, map[string]string{"Content-Type": tc.ctype}, tc.body)
		if r.status != 200 || r.code(t) != tc.code || r.json(t)["msg"] != tc.msg {
			t.Errorf("%s: %d %s", tc.name, r.status, r.body)
		}
		if ct := r.header.Get("Content-Type"); ct != feishuJSON {
			t.Errorf("%s: Content-Type %q", tc.name, ct)
		}
	}
}

func TestFeishuHandsOutTheSameTokenUntilThirtyMinutesAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeishu(t)
		first := f.login()
		time.Sleep(90 * time.Minute)
		if got := f.login(); got != first {
			t.Error("with exactly 30 min left, another token came")
		}
		if r := f.askToken(); r.json(t)["expire"] != 1800.0 {
			t.Errorf("expire: %s", r.body)
		}
		time.Sleep(time.Second)
		second := f.login()
		if second == first {
			t.Error("with less than 30 min left, the same token came")
		}
		for _, name := range []string{first, second} { // both live until their ends
			f.bearer = "Bearer " + name
			if r := f.imports(flow("A0123", name)); r.status != 200 {
				t.Errorf("token: %d %s", r.status, r.body)
			}
		}
		time.Sleep(30*time.Minute - time.Second)
		f.bearer = "Bearer " + first
		if r := f.imports(flow("A0123", "k")); r.code(t) != CodeBadToken {
			t.Errorf("the first token outlived its end: %s", r.body)
		}
		if n := f.Counters().TokensIssued; n != 2 {
			t.Errorf("%d issued", n)
		}
	})
}

func TestSwitchTokenClockAhead(t *testing.T) {
	f := newFeishu(t)
	first := f.login()
	f.SetFaults(func(v *FeishuFaults) { v.TokenClockAheadSeconds = 5401 })
	if f.login() == first {
		t.Error("the same token with less than 30 min left")
	}
	f.SetFaults(func(v *FeishuFaults) { v.TokenLifeSeconds = 600; v.TokenClockAheadSeconds = 20000 })
	if r := f.askToken(); r.json(t)["expire"] != 600.0 {
		t.Errorf("%s", r.body)
	}
}

func TestFeishuRefusesATokenWithHTTP400AndACode(t *testing.T) {
	f := newFeishu(t)
	name := f.login()
	for auth, code := range map[string]int{
		"":                CodeNoToken,
		name:              CodeNoToken, // no Bearer
		"Bearer ":         CodeNoToken,
		"Bearer t-000000": CodeBadToken,
		"Bearer eyJ0eXAi": CodeBadUserToken,
	} {
		r := call(t.Context(), f, "POST", FeishuImportPath+"?employee_type=employee_no",
			map[string]string{"Content-Type": feishuJSON, "Authorization": auth}, `{"flow_records":[`+flow("A0123", "k")+`]}`)
		if r.status != 400 || r.code(t) != code || r.header.Get("Content-Type") != feishuJSON {
			t.Errorf("%q: %d %s", auth, r.status, r.body)
		}
		e, ok := r.json(t)["error"].(map[string]any)
		if !ok || e["log_id"] == "" || e["log_id"] == nil {
			t.Errorf("%q: no log_id in %s", auth, r.body)
		}
	}
	if len(f.Ledger()) != 0 {
		t.Error("something was stored")
	}
}

func TestSwitchTokenRefusalStatus(t *testing.T) {
	f := newFeishu(t)
	f.SetFaults(func(v *FeishuFaults) { v.TokenRefusalStatus = 200 })
	f.bearer = "Bearer t-0"
	if r := f.imports(flow("A0123", "k")); r.status != 200 || r.code(t) != CodeBadToken {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestRevokedFeishuTokenIsReplaced(t *testing.T) {
	f := newFeishu(t)
	first := f.login()
	f.Revoke()
	if r := f.imports(flow("A0123", "k")); r.code(t) != CodeBadToken {
		t.Errorf("%s", r.body)
	}
	if f.login() == first {
		t.Error("the revoked token came back")
	}
	if r := f.imports(flow("A0123", "k")); r.code(t) != 0 {
		t.Errorf("%s", r.body)
	}
}

func TestSwitchKeepRevokedToken(t *testing.T) {
	f := newFeishu(t)
	first := f.login()
	f.SetFaults(func(v *FeishuFaults) { v.KeepRevokedToken = true })
	f.Revoke()
	if f.login() != first {
		t.Error("another token came")
	}
	if r := f.imports(flow("A0123", "k")); r.code(t) != CodeBadToken {
		t.Errorf("%s", r.body)
	}
}

func TestFeishuSwitchRevokeAfter(t *testing.T) {
	f := newFeishu(t)
	f.SetFaults(func(v *FeishuFaults) { v.RevokeAfter = 1 })
	for i, want := range []int{0, CodeBadToken} {
		if r := f.imports(flow("A0123", "k")); r.code(t) != want {
			t.Errorf("call %d: %s", i, r.body)
		}
	}
	f.login()
	if r := f.imports(flow("A0123", "k")); r.code(t) != 0 {
		t.Errorf("a fresh token: %s", r.body)
	}
}

func TestUnknownFeishuPathIsATextPage(t *testing.T) {
	f := newFeishu(t)
	for _, c := range [][2]string{
		{"POST", "/open-apis/attendance/v2/user_flows/batch_create"}, {"GET", FeishuImportPath + "/x"},
		{"GET", FeishuTokenPath}, {"PUT", FeishuImportPath}, {"GET", "/"},
	} {
		r := f.do(c[0], c[1], "")
		if r.status != 404 || string(r.body) != "404 page not found" || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %s", c, r.status, r.body)
		}
	}
}

func TestImportAnswersAsItsContractSays(t *testing.T) {
	with := func(old, new string) string {
		s := strings.Replace(flow("A0123", "k"), old, new, 1)
		if s == flow("A0123", "k") {
			t.Fatalf("no %s in a flow", old)
		}
		return s
	}
	many := strings.Repeat(","+flow("A0123", ""), 51)[1:]
	for _, tc := range []struct {
		name, record string
		code         int
		msg          string
	}{
		{"good", flow("A0123", "k"), 0, "success"},
		{"leading zeros live", flow("000123", "k"), 0, "success"},
		{"no key", flow("A0123", ""), 0, "success"},
		{"leading zeros missing", flow("123", "k"), CodeUnknownUser, "user_id is not exist"},
		{"unknown creator", with(`"creator_id":"A0123"`, `"creator_id":"boss"`), CodeUnknownUser, "user_id is not exist"},
		{"no creator", with(`"creator_id":"A0123",`, ``), CodeParam, "creator_id is required"},
		{"empty comment", with(`上班`, ``), CodeParam, "comment is required"},
		{"comment null", with(`"上班"`, `null`), CodeParam, "comment has the wrong type"},
		{"no place", with(`"location_name":"Door 1",`, ``), CodeParam, "location_name is required"},
		{"time as a number", with(`"1766448000"`, `1766448000`), CodeParam, "check_time has the wrong type"},
		{"milliseconds", with(`1766448000`, `1766448000000`), CodeGeneral, "time is invalid"},
		{"before 2022", with(`1766448000`, `1640966399`), CodeGeneral, "time is invalid"},
		{"first second of 2022", with(`1766448000`, `1640966400`), 0, "success"},
		{"words for a time", with(`1766448000`, `yesterday!`), CodeGeneral, "time is invalid"},
		{"user as a number", with(`"user_id":"A0123"`, `"user_id":123`), CodeParam, "user_id has the wrong type"},
		{"type 8", with(`"comment"`, `"type":8,"comment"`), CodeParam, "type"},
		{"field punch", with(`"comment"`, `"is_field":true,"type":5,"comment"`), 0, "success"},
		{"field punch as text", with(`"comment"`, `"is_field":"yes","comment"`), CodeParam, "is_field"},
		{"no record", ``, CodeParam, "flow_records is empty"},
		{"51 records", many, CodeGeneral, "operate too much flow"},
		{"not an object", `"x"`, CodeParam, "not a JSON object"},
		{"not JSON", `{`, CodeParam, "not a JSON object"},
	} {
		f := newFeishu(t)
		r := f.imports(tc.record)
		status, stored := 400, 0
		if tc.code == 0 {
			status, stored = 200, 1
		}
		if r.status != status || r.code(t) != tc.code || !strings.Contains(r.json(t)["msg"].(string), tc.msg) || len(f.Ledger()) != stored {
			t.Errorf("%s: %d %s, %d stored", tc.name, r.status, r.body, len(f.Ledger()))
		}
	}
}

func TestImportWantsAnEmployeeTypeAndUTF8JSON(t *testing.T) {
	f := newFeishu(t)
	body := `{"flow_records":[` + flow("A0123", "k") + `]}`
	for _, q := range []string{"", "?employee_type=", "?employee_type=open_id"} {
		if r := f.do("POST", FeishuImportPath+q, body); r.status != 400 || r.code(t) != CodeEmployeeType {
			t.Errorf("%q: %d %s", q, r.status, r.body)
		}
	}
	r := call(t.Context(), f, "POST", FeishuImportPath+"?employee_type=employee_no",
		map[string]string{"Content-Type": "application/json", "Authorization": f.bearer}, body)
	if r.code(t) != CodeParam {
		t.Errorf("no charset: %s", r.body)
	}
	// With the other kind, the same person has another id.
	if r := f.do("POST", FeishuImportPath+"?employee_type=employee_id", body); r.code(t) != CodeUnknownUser {
		t.Errorf("%s", r.body)
	}
	if r := f.do("POST", FeishuImportPath+"?employee_type=employee_id", `{"flow_records":[`+flow("fs1", "k")+`]}`); r.code(t) != 0 {
		t.Errorf("%s", r.body)
	}
}

func TestImportReturnsWhatItStored(t *testing.T) {
	f := newFeishu(t)
	r := f.imports(flow("A0123", "demo-000000000001"))
	list := r.json(t)["data"].(map[string]any)["flow_records"].([]any)
	got := list[0].(map[string]any)
	l := f.Ledger()
	if len(l) != 1 || got["record_id"] != l[0].RecordID || got["idempotent_id"] != "demo-000000000001" || got["comment"] != "上班" || got["type"] != 0.0 {
		t.Errorf("%s; ledger %+v", r.body, l)
	}
	if l[0].Raw != flow("A0123", "demo-000000000001") || l[0].Order != 1 || l[0].Call != 2 {
		t.Errorf("ledger %+v", l[0])
	}
}

func TestFeishuSwitchDuplicates(t *testing.T) {
	for _, tc := range []struct {
		mode   string
		code   int
		stored int
	}{
		{DuplicatesSameRecord, 0, 1}, {DuplicatesExists, CodeGeneral, 1}, {DuplicatesStoreTwice, 0, 2},
	} {
		f := newFeishu(t)
		f.SetFaults(func(v *FeishuFaults) { v.Duplicates = tc.mode })
		first := f.imports(flow("A0123", "k"))
		again := f.imports(flow("A0123", "k"))
		if again.code(t) != tc.code || len(f.Ledger()) != tc.stored || len(f.Repeats()) != 1 || f.Repeats()[0].Repeat != 1 {
			t.Errorf("%s: %s, %d stored, repeats %+v", tc.mode, again.body, len(f.Ledger()), f.Repeats())
		}
		if tc.mode == DuplicatesSameRecord && string(first.body) != string(again.body) {
			t.Errorf("another record: %s", again.body)
		}
		if tc.mode == DuplicatesExists && again.json(t)["msg"] != MsgExists {
			t.Errorf("%s", again.body)
		}
	}
	f := newFeishu(t) // without a key there is nothing to recognise
	f.imports(flow("A0123", ""))
	f.imports(flow("A0123", ""))
	if len(f.Ledger()) != 2 || len(f.Repeats()) != 0 {
		t.Errorf("without a key: %d stored", len(f.Ledger()))
	}
}

func TestSwitchRecordIDs(t *testing.T) {
	for mode, want := range map[string]string{
		RecordIDsFull:    `"record_id":"6709359313699356941"`,
		RecordIDsMissing: `"comment":"上班","type":0`,
		RecordIDsEmpty:   `"record_id":""`,
		RecordIDsNone:    `"flow_records":[]`,
	} {
		f := newFeishu(t)
		f.SetFaults(func(v *FeishuFaults) { v.RecordIDs = mode })
		if r := f.imports(flow("A0123", "k")); r.code(t) != 0 || !strings.Contains(string(r.body), want) || len(f.Ledger()) != 1 {
			t.Errorf("%s: %s", mode, r.body)
		}
	}
}

func TestSwitchStoreGoodAndPoison(t *testing.T) {
	for _, good := range []bool{false, true} {
		f := newFeishu(t)
		f.SetFaults(func(v *FeishuFaults) {
			v.StoreGood = good
			v.Poison = map[string]Refusal{"000123": {Code: CodeGeneral, Msg: "rule not exist"}}
		})
		r := f.imports(flow("A0123", "k1"), flow("000123", "k2"), flow("A0123", "k3"))
		if r.status != 400 || r.code(t) != CodeGeneral || r.json(t)["msg"] != "rule not exist" {
			t.Errorf("%d %s", r.status, r.body)
		}
		want := 0
		if good {
			want = 2
		}
		if n := f.Counters(); len(f.Ledger()) != want || n.Accepted != want || n.Rejected != 1 {
			t.Errorf("store_good %v: %+v", good, n)
		}
	}
}

func TestSwitchAnswerNext(t *testing.T) {
	for _, a := range []Refusal{
		{500, CodeSystem, "internal server error"}, {400, CodeSystem, "system error"},
		{400, CodeGeneral, "the attendance result has been sealed and can not modify"}, {0, CodeGeneral, "no row affected"},
	} {
		f := newFeishu(t)
		f.SetFaults(func(v *FeishuFaults) { v.AnswerNext, v.Answer = 1, a })
		r := f.imports(flow("A0123", "k"))
		want := max(a.Status, 400)
		if r.status != want || r.code(t) != a.Code || r.json(t)["msg"] != a.Msg || len(f.Ledger()) != 0 {
			t.Errorf("%+v: %d %s", a, r.status, r.body)
		}
		if r := f.imports(flow("A0123", "k")); r.code(t) != 0 {
			t.Errorf("the next call: %s", r.body)
		}
	}
}

func TestSwitchNoTokenLifeOfFeishu(t *testing.T) {
	f := newFeishu(t)
	f.SetFaults(func(v *FeishuFaults) { v.NoTokenLife = true })
	r := f.askToken()
	if _, told := r.json(t)["expire"]; r.code(t) != 0 || told || r.json(t)["tenant_access_token"] == "" {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestSwitchesOfTheFrequencyLimit(t *testing.T) {
	f := newFeishu(t)
	f.login()
	f.SetFaults(func(v *FeishuFaults) { v.LimitNext, v.RateReset = 2, 9 })
	r := f.askToken()
	if r.status != 429 || r.code(t) != CodeRateLimit || r.header.Get("x-ogw-ratelimit-reset") != "9" || r.header.Get("x-ogw-ratelimit-limit") != "50" {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	f.SetFaults(func(v *FeishuFaults) { v.LimitNext, v.RateResetNaN = 2, true })
	if r := f.askToken(); r.status != 429 || r.header.Get("x-ogw-ratelimit-reset") != "soon" {
		t.Errorf("%d %v", r.status, r.header)
	}
	f.SetFaults(func(v *FeishuFaults) { v.RateStatus, v.RateNoHeader = 400, true })
	r = f.imports(flow("A0123", "k"))
	if r.status != 400 || r.code(t) != CodeRateLimit || r.header.Get("x-ogw-ratelimit-reset") != "" {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	if r := f.imports(flow("A0123", "k")); r.code(t) != 0 {
		t.Errorf("%s", r.body)
	}
}

func TestFeishuSwitchRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeishu(t)
		f.SetFaults(func(v *FeishuFaults) { v.RateLimit = 2 })
		f.login()
		f.imports(flow("A0123", "1"))
		if r := f.imports(flow("A0123", "2")); r.status != 429 {
			t.Errorf("%d", r.status)
		}
		time.Sleep(time.Second)
		if r := f.imports(flow("A0123", "2")); r.status != 200 {
			t.Errorf("%d", r.status)
		}
		if n := f.Counters(); n.WorstSecond != 3 || n.RateLimited != 1 {
			t.Errorf("%+v", n)
		}
	})
}

func TestSwitchesOfTheGateway(t *testing.T) {
	for _, tc := range []struct {
		set  func(*FeishuFaults)
		code int
		msg  string
	}{
		{func(v *FeishuFaults) { v.QuotaExceeded = true }, CodeQuota, ""},
		{func(v *FeishuFaults) { v.IPRefused = true }, CodeIP, ""},
		{func(v *FeishuFaults) { v.ScopeMissing = "attendance:task" }, CodeNoScope, `"subject":"attendance:task"`},
	} {
		f := newFeishu(t)
		f.SetFaults(tc.set)
		f.login() // the token call is spared
		if r := f.imports(flow("A0123", "k")); r.status != 400 || r.code(t) != tc.code || !strings.Contains(string(r.body), tc.msg) || len(f.Ledger()) != 0 {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
}

func TestFeishuSwitchesOfTheWire(t *testing.T) {
	f := newFeishu(t)
	f.login()
	f.SetFaults(func(v *FeishuFaults) { v.CommitThenDrop = 1 })
	if r := f.imports(flow("A0123", "k")); !errors.Is(r.err, io.ErrUnexpectedEOF) || len(f.Ledger()) != 1 {
		t.Errorf("commit, then drop: %+v, %d stored", r, len(f.Ledger()))
	}
	f.SetFaults(func(v *FeishuFaults) { v.HTMLNext = 1 })
	if r := f.imports(flow("A0123", "k2")); r.status != 200 || !strings.Contains(string(r.body), "<title>") || len(f.Ledger()) != 1 {
		t.Errorf("web page: %s", r.body)
	}
	f.SetFaults(func(v *FeishuFaults) { v.FailNext = 1 })
	if r := f.imports(flow("A0123", "k2")); r.status != 503 || len(f.Ledger()) != 1 {
		t.Errorf("503: %d", r.status)
	}
	f.SetFaults(func(v *FeishuFaults) { v.Down = true })
	if r := f.imports(flow("A0123", "k2")); r.err == nil || len(f.Ledger()) != 1 {
		t.Errorf("down: %d", r.status)
	}
}

func TestQueryIsHalfOpenAndSpeaksBothKindsOfIDs(t *testing.T) {
	f := newFeishu(t)
	f.imports(flow("A0123", "k1"), strings.Replace(flow("A0123", "k2"), "1766448000", "1766448060", 1), flow("000123", "k3"))
	query := func(kind, users, from, to string) []any {
		t.Helper()
		r := f.do("POST", FeishuQueryPath+"?employee_type="+kind, fmt.Sprintf(`{"user_ids":[%s],"check_time_from":%q,"check_time_to":%q}`, users, from, to))
		if r.code(t) != 0 {
			t.Fatalf("%s", r.body)
		}
		return r.json(t)["data"].(map[string]any)["user_flow_results"].([]any)
	}
	if got := query("employee_no", `"A0123"`, "1766448000", "1766448060"); len(got) != 1 || got[0].(map[string]any)["external_id"] != "k1" {
		t.Errorf("half open: %v", got)
	}
	if got := query("employee_no", `"A0123","000123"`, "1766448000", "1766448061"); len(got) != 3 {
		t.Errorf("all: %v", got)
	}
	if got := query("employee_id", `"fs1"`, "1766448000", "1766448001"); len(got) != 1 || got[0].(map[string]any)["user_id"] != "fs1" {
		t.Errorf("other kind: %v", got)
	}
	for _, bad := range []string{`{}`, `{"user_ids":["A0123"],"check_time_from":1,"check_time_to":"2"}`, `{"user_ids":["A0123"]}`} {
		if r := f.do("POST", FeishuQueryPath+"?employee_type=employee_no", bad); r.code(t) != CodeParam {
			t.Errorf("%s: %s", bad, r.body)
		}
	}
}

func TestGetAndDelete(t *testing.T) {
	f := newFeishu(t)
	f.imports(flow("A0123", "k1"))
	id := f.Ledger()[0].RecordID
	if r := f.do("GET", FeishuGetPath+id+"?employee_type=employee_no", ""); r.code(t) != 0 || r.json(t)["data"].(map[string]any)["record_id"] != id {
		t.Errorf("get: %s", r.body)
	}
	r := f.do("POST", FeishuDeletePath, fmt.Sprintf(`{"record_ids":[%q,"1"]}`, id))
	data := r.json(t)["data"].(map[string]any)
	if r.code(t) != 0 || data["success_record_ids"].([]any)[0] != id || data["fail_record_ids"].([]any)[0] != "1" || !strings.Contains(r.json(t)["msg"].(string), `"1":`) {
		t.Errorf("delete: %s", r.body)
	}
	if r := f.do("GET", FeishuGetPath+id+"?employee_type=employee_no", ""); r.code(t) != CodeGeneral {
		t.Errorf("get a deleted flow: %s", r.body)
	}
	if !f.Ledger()[0].Deleted {
		t.Error("the ledger does not say that it was deleted")
	}
}

func TestIDLookup(t *testing.T) {
	f := newFeishu(t)
	look := func(query, body string) []any {
		t.Helper()
		r := f.do("POST", FeishuIDPath+query, body)
		if r.code(t) != 0 {
			t.Fatalf("%s", r.body)
		}
		return r.json(t)["data"].(map[string]any)["user_list"].([]any)
	}
	id := func(v any) any { return v.(map[string]any)["user_id"] }
	got := look("?user_id_type=user_id", `{"emails":["a@example.com","b@example.com"],"mobiles":["+886912345678","+886900000002"]}`)
	if len(got) != 4 || id(got[0]) != "fs1" || id(got[1]) != nil || id(got[2]) != "fs1" || id(got[3]) != nil {
		t.Errorf("%v", got)
	}
	if got := look("?user_id_type=user_id", `{"mobiles":["+886900000002"],"include_resigned":true}`); id(got[0]) != "fs2" {
		t.Errorf("resigned: %v", got)
	}
	if got := look("", `{"mobiles":["+886912345678"]}`); !strings.HasPrefix(id(got[0]).(string), "ou_") {
		t.Errorf("default kind: %v", got)
	}
	if r := f.do("POST", FeishuIDPath, `{}`); r.code(t) != CodeParam {
		t.Errorf("%s", r.body)
	}
}
