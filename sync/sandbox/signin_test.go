package sandbox

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// signinClient is the sign-in system with a client.
type signinClient struct {
	t *testing.T
	*Signin
	tok string
}

func newSignin(t *testing.T) *signinClient {
	return &signinClient{t: t, Signin: NewSignin(SigninConfig{UserID: "11542", Password: "right", People: append(People("A0001"), Person{Number: "000123", SigninID: "s123"})})}
}

func (s *signinClient) do(method, path, body string) replyOf {
	s.t.Helper()
	h := map[string]string{"Content-Type": "application/json; charset=utf-8"}
	if s.tok != "" {
		h["Authorization"] = "Bearer " + s.tok
	}
	return call(s.t.Context(), s, method, path, h, body)
}

func (s *signinClient) login(user, password string) replyOf {
	s.t.Helper()
	return s.do("POST", SigninLoginPath, fmt.Sprintf(`{"user_id":%q,"password":%q}`, user, password))
}

// enter logs in as the account.
func (s *signinClient) enter() map[string]any {
	s.t.Helper()
	r := s.login("11542", "right")
	if r.err != nil || r.status != 200 {
		s.t.Fatalf("login: %d %s %v", r.status, r.body, r.err)
	}
	data := r.json(s.t)["data"].(map[string]any)
	s.tok = data["token_key"].(string)
	return data
}

func signinPunch(user, date, status string) string {
	return fmt.Sprintf(`{"user_id":%q,"group_id":"g","sign_date":%q,"status":%q}`, user, date, status)
}

func (s *signinClient) punchIn(body string) replyOf {
	s.t.Helper()
	if s.tok == "" {
		s.enter()
	}
	return s.do("POST", SigninPunchPath, body)
}

// The samples of the system's own page, byte for byte but for time, name and token.
func TestSigninAnswersAsItsPageShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Unix(1670220425, 0))) // 2022-12-05 14:07:05 +08:00
		s := newSignin(t)
		r := s.login("11542", "right")
		tok := r.json(t)["data"].(map[string]any)["token_key"].(string)
		want := `{"code":"00","datetime":{"tw_date":"2022/12/05","tw_time":"14:07:05","tw_day":"(一)"},"data":{"user_id":"11542","user_name":"王小明","group_id":"11542","login_day":"2022/12/05","login_time":"14:07:05","login_day":"(一)","token_key":"` + tok + `"}}`
		if string(r.body) != want {
			t.Errorf("login\n%s, want\n%s", r.body, want)
		}
		claims, err := base64.RawURLEncoding.DecodeString(strings.Split(tok, ".")[1])
		if string(claims) != `{"employee_id":"11542","iat":1670220425,"exp":1670221025}` || err != nil {
			t.Errorf("claims %s", claims)
		}
		if head, _ := base64.RawURLEncoding.DecodeString(strings.Split(tok, ".")[0]); string(head) != `{"alg":"HS256","typ":"JWT"}` {
			t.Errorf("%s", head)
		}
		r = s.login("nobody", "x")
		want = `{"statusCode":401,"code":40101,"datetime":{"tw_date":"2022/12/05","tw_time":"14:07:05","tw_day":"(一)"},"error":"Unauthorized","message":"使用者不存在，未經核可，無法使用打卡系統"}`
		if r.status != 401 || string(r.body) != want {
			t.Errorf("%d\n%s, want\n%s", r.status, r.body, want)
		}
		if r = s.login("11542", "wrong"); r.status != 401 || r.code(t) != 40103 || r.json(t)["message"] != "登入失敗; AD帳號或密碼輸入錯誤" {
			t.Errorf("%d %s", r.status, r.body)
		}
		s.tok = tok
		if r = s.do("POST", SigninLogoutPath, `{"user_id":"11542"}`); r.status != 200 || string(r.body) != `{"code":"00","datetime":{"tw_date":"2022/12/05","tw_time":"14:07:05","tw_day":"(一)"}}` {
			t.Errorf("logout: %d %s", r.status, r.body)
		}
		if r = s.punchIn(signinPunch("A0001", "2022-10-19 10:23:54+08", "上班")); r.status != 401 {
			t.Errorf("after the logout: %d", r.status)
		}
	})
}

func TestSigninIsStrictAboutDateAndStatus(t *testing.T) {
	s := newSignin(t)
	for body, status := range map[string]int{
		signinPunch("A0001", "2022-10-19 10:23:54+08", "上班"):                                  200,
		signinPunch("s123", "2022-10-19 10:23:54+08", "外歸"):                                   200,
		signinPunch("11542", "2022-10-19 02:23:54+00", "下班"):                                  200,
		signinPunch("A0001", "2022-10-19 10:23:54-07", "外出"):                                  200,
		signinPunch("A0001", "2022-10-19 10:23:54.000+08", "上班"):                              400,
		signinPunch("A0001", "2022-10-19 10:23:54+0800", "上班"):                                400,
		signinPunch("A0001", "2022-10-19 10:23:54+08:00", "上班"):                               400,
		signinPunch("A0001", "2022-10-19T10:23:54+08", "上班"):                                  400,
		signinPunch("A0001", "2022-10-19 9:23:54+08", "上班"):                                   400,
		signinPunch("A0001", "2022-02-30 10:23:54+08", "上班"):                                  400,
		signinPunch("A0001", "", "上班"):                                                        400,
		signinPunch("A0001", "2022-10-19 10:23:54+08", "in"):                                  400,
		signinPunch("A0001", "2022-10-19 10:23:54+08", "上班 "):                                 400,
		signinPunch("000123", "2022-10-19 10:23:54+08", "上班"):                                 401, // not by the number
		signinPunch("", "2022-10-19 10:23:54+08", "上班"):                                       400,
		`{"user_id":11542,"group_id":"g","sign_date":"2022-10-19 10:23:54+08","status":"上班"}`: 400,
		`{"user_id":"A0001","sign_date":"2022-10-19 10:23:54+08","status":"上班"}`:              400,
		`[]`: 400, ``: 400, `null`: 400,
	} {
		if r := s.punchIn(body); r.status != status {
			t.Errorf("%s: %d %s, want %d", body, r.status, r.body, status)
		}
	}
	if n := len(s.Ledger()); n != 4 || s.Counters().Accepted != 4 {
		t.Errorf("%d stored", n)
	}
	for _, c := range []struct {
		method, path string
		status       int
	}{{"GET", SigninLoginPath, 405}, {"PUT", SigninPunchPath, 405}, {"POST", SigninRecordsPath, 405}, {"POST", "/api/public/nothing", 404}} {
		if r := s.do(c.method, c.path, ""); r.status != c.status || json.Valid(r.body) {
			t.Errorf("%+v: %d %s", c, r.status, r.body)
		}
	}
	if r := call(t.Context(), s, "POST", SigninLoginPath, map[string]string{"Content-Type": "text/plain"}, `{"user_id":"11542","password":"right"}`); r.status != 400 {
		t.Errorf("text/plain: %d", r.status)
	}
}

func TestSigninKeepsFirstAndLastOfTheTaiwanDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // today is 2000-01-01
		s := newSignin(t)
		for _, c := range []struct{ date, status, want string }{
			{"2000-01-01 08:00:00+08", "上班", `{"status":"上班","first_time":"08:00:00","last_time":"08:00:00"}`},
			{"2000-01-01 08:05:00+08", "上班", `{"status":"上班","first_time":"08:00:00","last_time":"08:05:00"}`},
			{"1999-12-31 16:00:00+00", "上班", `{"status":"上班","first_time":"00:00:00","last_time":"08:05:00"}`},
			{"1999-12-31 15:59:59+00", "上班", `{"status":"上班","first_time":"23:59:59","last_time":"23:59:59"}`},
			{"2000-01-01 12:00:00+08", "外出", `{"status":"外出","first_time":"12:00:00"}`},
		} {
			r := s.punchIn(signinPunch("A0001", c.date, c.status))
			if !strings.Contains(string(r.body), `"data":`+c.want+"}") {
				t.Errorf("%s: %s, want %s", c.date, r.body, c.want)
			}
		}
		r := s.do("GET", SigninPunchPath+"?user_id=A0001", "")
		if want := `"data":[{"status":"上班","first_time":"00:00:00","last_time":"08:05:00"},{"status":"外出","first_time":"12:00:00"}]`; !strings.Contains(string(r.body), want) {
			t.Errorf("%s", r.body)
		}
		r = s.do("GET", SigninRecordsPath+"?user_id=A0001&started_date=1999-12-31&ended_date=1999-12-31", "")
		if want := `"data":[{"user_id":"A0001","sign_date":"1999-12-31 15:59:59+00","status":"上班"}]`; !strings.Contains(string(r.body), want) {
			t.Errorf("%s", r.body)
		}
		for query, status := range map[string]int{"": 400, "?user_id=NOBODY": 401, "?user_id=A0001": 200} {
			if r := s.do("GET", SigninPunchPath+query, ""); r.status != status {
				t.Errorf("today%s: %d", query, r.status)
			}
			q := query + "&started_date=2000-01-01&ended_date=2000-01-02"
			if r := s.do("GET", SigninRecordsPath+strings.Replace(q, "?&", "?", 1), ""); query != "" && r.status != status {
				t.Errorf("records%s: %d", query, r.status)
			}
		}
		if r := s.do("GET", SigninRecordsPath+"?user_id=A0001&started_date=2000/01/01&ended_date=x", ""); r.status != 400 {
			t.Errorf("%d", r.status)
		}
	})
}

func TestSigninLocksAnAccountAfterFiveBadPasswords(t *testing.T) {
	s := newSignin(t)
	for range 4 {
		s.login("11542", "wrong")
	}
	s.enter() // a right one begins anew
	for i := range 5 {
		if locked, _ := s.Locked(); locked {
			t.Fatalf("locked after %d", i)
		}
		s.login("11542", "wrong")
	}
	if locked, n := s.Locked(); !locked || n != 10 {
		t.Errorf("locked: %v after %d", locked, n)
	}
	if r := s.login("11542", "right"); r.status != 401 || r.code(t) != CodeBadPassword {
		t.Errorf("%d %s", r.status, r.body)
	}
	s.SetFaults(func(f *SigninFaults) { f.LockAfter = 0 })
	s.Signin.Reset()
	s.SetFaults(func(f *SigninFaults) { f.LockAfter = 0 })
	for range 9 {
		s.login("11542", "wrong")
	}
	s.SetPassword("new")
	if r := s.login("11542", "new"); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := s.login("A0001", "right"); r.status != 401 || r.code(t) != CodeBadPassword {
		t.Errorf("somebody else: %d %s", r.status, r.body)
	}
}

func TestSigninsTokensEndAndTravelAsSwitched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := signinPunch("A0001", "2022-10-19 10:23:54+08", "上班")
		for _, plain := range []bool{false, true} {
			s := newSignin(t)
			s.SetFaults(func(f *SigninFaults) { f.TokenNotJWT, f.TokenLifeSeconds = plain, 20 })
			s.enter()
			time.Sleep(19 * time.Second)
			if r := s.punchIn(good); r.status != 200 {
				t.Errorf("before its end: %d", r.status)
			}
			time.Sleep(time.Second)
			if r := s.punchIn(good); r.status != 401 || s.Counters().Refused != 1 {
				t.Errorf("after its end: %d", r.status)
			}
			s.enter()
			s.Revoke()
			if r := s.punchIn(good); r.status != 401 {
				t.Errorf("revoked: %d", r.status)
			}
			if old := s.tok; s.enter()["token_key"] == old {
				t.Error("the revoked token came back")
			}
			s.SetFaults(func(f *SigninFaults) { f.KeepAtLogout, f.RevokeAfter = true, 2 })
			s.do("POST", SigninLogoutPath, `{"user_id":"11542"}`)
			if a, b := s.punchIn(good), s.punchIn(good); a.status != 200 || b.status != 401 {
				t.Errorf("the second use is %d, the third %d", a.status, b.status)
			}
		}
		s := newSignin(t)
		s.enter()
		tok := s.tok
		forged := tok[:strings.LastIndexByte(tok, '.')] + ".AAAA"
		for _, c := range []struct {
			transport     string
			header, value string
			path, body    string
			status        int
		}{
			{"bearer", "Authorization", "Bearer " + tok, SigninPunchPath, good, 200},
			{"bearer", "Authorization", tok, SigninPunchPath, good, 401},
			{"bearer", "Authorization", "Bearer " + forged, SigninPunchPath, good, 401},
			{"bearer", "X-Token", tok, SigninPunchPath, good, 401},
			{"header:X-Token", "x-token", tok, SigninPunchPath, good, 200},
			{"header:X-Token", "Authorization", "Bearer " + tok, SigninPunchPath, good, 401},
			{"body:token_key", "", "", SigninPunchPath, strings.Replace(good, "{", `{"token_key":"`+tok+`",`, 1), 200},
			{"body:token_key", "", "", SigninPunchPath, good, 401},
			{"none", "", "", SigninPunchPath, good, 200},
		} {
			s.SetFaults(func(f *SigninFaults) { f.TokenTransport = c.transport })
			h := map[string]string{"Content-Type": "application/json"}
			if c.header != "" {
				h[c.header] = c.value
			}
			if r := call(t.Context(), s, "POST", c.path, h, c.body); r.status != c.status {
				t.Errorf("%s with %s: %d, want %d", c.transport, c.header, r.status, c.status)
			}
		}
		s.SetFaults(func(f *SigninFaults) { f.TokenTransport = "body:token_key" })
		if r := call(t.Context(), s, "GET", SigninPunchPath+"?user_id=A0001&token_key="+url.QueryEscape(tok), nil, ""); r.status != 200 {
			t.Errorf("GET: %d", r.status)
		}
	})
}

func TestSigninsFaults(t *testing.T) {
	good := signinPunch("A0001", "2022-10-19 10:23:54+08", "上班")
	for name, c := range map[string]struct {
		set    func(*SigninFaults)
		status int
		has    string
		stored int
	}{
		"self only":      {func(f *SigninFaults) { f.EnforceSelf = true }, 403, `"code":40301`, 0},
		"not approved":   {func(f *SigninFaults) { f.NotApproved = []string{"A0001"} }, 401, MsgNotApproved, 0},
		"stranger 400":   {func(f *SigninFaults) { f.NotApproved, f.StrangerStatus = []string{"A0001"}, 400 }, 400, `"code":40001`, 0},
		"exception":      {func(f *SigninFaults) { f.ExceptionNext = 1 }, 200, `"status":-1`, 0},
		"an answer":      {func(f *SigninFaults) { f.AnswerNext = 1 }, 400, `validation failed`, 0},
		"words in data":  {func(f *SigninFaults) { f.AnswerNext, f.ErrorInData = 1, true }, 400, `"data":"validation failed"`, 0},
		"poison":         {func(f *SigninFaults) { f.Poison = map[string]Refusal{"A0001": {Code: 7, Msg: "x"}} }, 400, `"code":7`, 0},
		"trailing comma": {func(f *SigninFaults) { f.TrailingComma = true }, 200, `"last_time":"10:23:54",},}`, 1},
		"503":            {func(f *SigninFaults) { f.FailNext = 1 }, 503, `"code":503`, 0},
		"too many":       {func(f *SigninFaults) { f.RateLimit = 1 }, 429, `"code":429`, 0},
		"a portal":       {func(f *SigninFaults) { f.HTMLNext = 1 }, 200, `<!DOCTYPE html>`, 0},
	} {
		s := newSignin(t)
		s.enter()
		s.SetFaults(c.set)
		if r := s.punchIn(good); r.status != c.status || !strings.Contains(string(r.body), c.has) || len(s.Ledger()) != c.stored {
			t.Errorf("%s: %d %s, %d stored", name, r.status, r.body, len(s.Ledger()))
		}
	}
	for how, want := range map[string]struct{ status, stored, repeats int }{
		DuplicatesStoreOnce: {200, 1, 1}, DuplicatesStoreTwice: {200, 2, 1}, DuplicatesConflict: {409, 1, 1},
	} {
		s := newSignin(t)
		s.SetFaults(func(f *SigninFaults) { f.Duplicates = how })
		s.punchIn(good)
		if r := s.punchIn(good); r.status != want.status || len(s.Ledger()) != want.stored || s.Counters().Repeats != want.repeats {
			t.Errorf("%s: %d, %d stored, %+v", how, r.status, len(s.Ledger()), s.Counters())
		}
		if r := s.punchIn(strings.Replace(good, "上班", "下班", 1)); r.status != 200 {
			t.Errorf("%s: another status: %d", how, r.status)
		}
	}
	s := newSignin(t)
	s.enter()
	s.SetFaults(func(f *SigninFaults) { f.CommitThenDrop = 1 })
	if r := s.punchIn(good); r.err == nil || len(s.Ledger()) != 1 {
		t.Errorf("%+v", r)
	}
	s.SetFaults(func(f *SigninFaults) { f.LoginDayTwice = false })
	if r := s.login("11542", "right"); bytes.Count(r.body, []byte("login_day")) != 1 {
		t.Errorf("%s", r.body)
	}
}

func TestSwitchLoseNext(t *testing.T) {
	s := NewSignin(SigninConfig{UserID: "svc", Password: "p", AcceptAny: true})
	s.SetFaults(func(f *SigninFaults) { f.LoseNext, f.TokenTransport = 1, "none" })
	punch := func(at string) int {
		r := httptest.NewRequest("POST", SigninPunchPath, strings.NewReader(`{"user_id":"1","group_id":"1","sign_date":"2022-10-19 10:23:`+at+`+08","status":"上班"}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code
	}
	if a, b := punch("54"), punch("55"); a != 200 || b != 200 || len(s.Ledger()) != 1 || s.Ledger()[0].SignDate != "2022-10-19 10:23:55+08" {
		t.Errorf("%d, %d, %+v", a, b, s.Ledger())
	}
}

func TestSigninOverTheControlPage(t *testing.T) {
	s := newSignin(t)
	h := NewControl(new104(t).TransferCard, newFeishu(t).Feishu, s.Signin)
	do := func(path, body string, want int) replyOf {
		t.Helper()
		r := call(t.Context(), h, "POST", path, nil, body)
		if r.status != want {
			t.Errorf("%s %s: %d %s", path, body, r.status, r.body)
		}
		return r
	}
	do("/faults", `{"signin":{"lock_after":2,"not_approved":["A0001"]}}`, 200)
	for _, bad := range []string{`{"signin":{"lock_afte":2}}`, `{"signin":{"token_life_seconds":0}}`, `{"signin":{"token_transport":"header:"}}`,
		`{"signin":{"token_transport":"cookie"}}`, `{"signin":{"duplicates":"x"}}`, `{"signin":{"stranger_status":404}}`, `{"signin":{"answer_on":"x"}}`,
		`{"signin":{"lock_after":-1}}`, `{"104":{"down":true},"signin":{"fail_status":200}}`} {
		if r := do("/faults", bad, 400); !strings.Contains(string(r.body), "signin: ") {
			t.Errorf("%s: %s", bad, r.body)
		}
	}
	s.login("11542", "x")
	s.login("11542", "x")
	var st State
	if r := call(t.Context(), h, "GET", "/state?last=1", nil, ""); json.Unmarshal(r.body, &st) != nil || !st.Signin.Locked || st.Signin.Logins != 2 || len(st.Signin.Calls) != 1 || st.Signin.Faults.LockAfter != 2 {
		t.Errorf("%s", r.body)
	}
	do("/reset", `{"cloud":"signin"}`, 204)
	do("/people", `{"signin":{"people":[{"employee_no":"7","signin_id":"seven"}]}}`, 204)
	if r := s.punchIn(signinPunch("seven", "2022-10-19 10:23:54+08", "上班")); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	do("/revoke", `{"cloud":"104"}`, 204)
	if r := s.punchIn(signinPunch("seven", "2022-10-19 10:23:54+08", "上班")); r.status != 200 {
		t.Errorf("%d", r.status)
	}
	do("/revoke", `{"cloud":"signin"}`, 204)
	if r := s.punchIn(signinPunch("seven", "2022-10-19 10:23:54+08", "上班")); r.status != 401 {
		t.Errorf("%d", r.status)
	}
}

// Whatever comes, the answer is JSON with a code, and what is refused is not stored.
func FuzzSigninBody(f *testing.F) {
	for _, s := range []string{signinPunch("A0001", "2022-10-19 10:23:54+08", "上班"), `{"user_id":"11542","password":"right"}`, `{}`, `[]`, `{"user_id":null}`, "\xff", ``} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		s := newSignin(t)
		s.enter()
		for _, path := range []string{SigninPunchPath, SigninLogoutPath, SigninLoginPath} {
			s.enter()
			r := s.do("POST", path, body)
			if r.err != nil || !json.Valid(r.body) || r.json(t)["code"] == nil {
				t.Fatalf("%s: %d %s %v", path, r.status, r.body, r.err)
			}
			if ok := r.json(t)["code"] == "00"; ok != (r.status == 200) || path == SigninPunchPath && ok != (len(s.Ledger()) == 1) {
				t.Fatalf("%s: %d %s, %d stored", path, r.status, r.body, len(s.Ledger()))
			}
		}
	})
}
