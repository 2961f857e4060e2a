package signin

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"punchclock/sync/token"
)

func TestSuccessIsTheTextOrTheNumberZero(t *testing.T) {
	for body, want := range map[string]bool{
		`{"code":"00"}`: true, `{"code":0}`: true, ` {"code":"00","datetime":5,"data":7,"message":[]}`: true,
		`{"code":"0"}`: false, `{"code":00}`: false, `{"code":"000"}`: false, `{"code":1}`: false, `{"code":null}`: false, `{}`: false,
		`{"code":true}`: false, `{"code":0.5}`: false, `{"code":["00"]}`: false, `[]`: false, `"00"`: false, ``: false, `<html>`: false, `{"code":"00"`: false,
		`{"code":"00"} x`: false, `{"code":"00",}`: false,
	} {
		if r := parseReply([]byte(body), false); r.ok != want || r.ok && !r.object {
			t.Errorf("%s is read as %+v", body, r)
		}
	}
}

func TestTheCodesAreReadAsTextAndAsNumber(t *testing.T) {
	for body, want := range map[string]string{`{"code":40103}`: "40103", `{"code":"40103"}`: "40103", `{"code":-1}`: "-1", `{"status":-1}`: ""} {
		if r := parseReply([]byte(body), false); r.code != want || !r.object {
			t.Errorf("%s is read as %+v", body, r)
		}
	}
}

func TestTheServersTimeIsTaiwans(t *testing.T) {
	r := parseReply([]byte(`{"code":"00","datetime":{"tw_date":"2022/12/05","tw_time":"14:07:05","tw_day":"(一)"}}`), false)
	if r.at.Unix() != 1670220425 {
		t.Errorf("%v", r.at)
	}
	for _, odd := range []string{`{}`, `null`, `[]`, `{"tw_date":"2022-12-05","tw_time":"14:07:05"}`, `{"tw_date":"2022/12/05"}`} {
		if r := parseReply([]byte(`{"code":"00","datetime":`+odd+`}`), false); !r.ok || !r.at.IsZero() {
			t.Errorf("%s is read as %+v", odd, r)
		}
	}
}

func TestCommasBeforeABracketAreStrippedOutsideOfTexts(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,}`: `{"a":1}`, "{\"a\":[1,2 , \n],\t}": "{\"a\":[1,2  \n]\t}", `{"a":",}"}`: `{"a":",}"}`, `{"a":"\",}",}`: `{"a":"\",}"}`,
		`[,]`: `[]`, `{"a":1,,}`: `{"a":1,}`, `"\`: `"\`, `,`: `,`,
	} {
		if got := string(stripCommas([]byte(in))); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}

func jwt(claims string) string {
	return "eyJh." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestATokensLifeIsTheDifferenceOfItsTimes(t *testing.T) {
	for tok, want := range map[string]time.Duration{
		jwt(`{"employee_id":"11542","iat":1670220425,"exp":1670221025}`): 600 * time.Second,
		jwt(`{"EmployeeID":"11542","iat":1670220425,"exp":1670220485}`):  60 * time.Second,
		jwt(`{"iat":1670220425.5,"exp":1670220427}`):                     1500 * time.Millisecond,
		jwt(`{"iat":1,"exp":1e30}`):                                      lifeMost,
		jwt(`{"iat":5,"exp":5}`):                                         lifeDefault,
		jwt(`{"iat":5,"exp":4}`):                                         lifeDefault,
		jwt(`{"exp":1670221025}`):                                        lifeDefault,
		jwt(`{"iat":"x","exp":1}`):                                       lifeDefault,
		jwt(`[]`):                                                        lifeDefault,
		"a.b.c":                                                          lifeDefault,
		"opaque":                                                         lifeDefault,
		"eyJh." + base64.URLEncoding.EncodeToString([]byte(`{"iat":10,"exp":310}`)) + ".": 300 * time.Second,
	} {
		if got := tokenLife(tok); got != want {
			t.Errorf("%s lives %v, want %v", tok, got, want)
		}
	}
	for life, want := range map[int]time.Duration{600: time.Minute, 240: time.Minute, 60: 15 * time.Second, 4: time.Second} {
		s, ok := parseLogin(json.RawMessage(fmt.Sprintf(`{"token_key":%q}`, jwt(fmt.Sprintf(`{"iat":0,"exp":%d}`, life)))))
		if !ok || s.token.Early != want {
			t.Errorf("%d s: %+v", life, s)
		}
	}
}

func TestWhatDoesNotReadAsRecordsIsAnError(t *testing.T) {
	for _, ok := range []string{``, `null`, `[]`} {
		a, err := parseRecords([]byte(ok))
		b, err2 := parseToday([]byte(ok))
		if len(a)+len(b) > 0 || err != nil || err2 != nil {
			t.Errorf("%q: %v %v", ok, err, err2)
		}
	}
	for body, want := range map[string]string{
		`{}`: "list", `[5]`: "list", `[{"sign_date":"2022-10-19T10:23:54+08:00","status":"上班"}]`: "entry 1",
		`[{"sign_date":"2022-10-19 10:23:54+08","status":"上班","x":1},{"sign_date":"2022-10-19 10:23:54+08","status":"in"}]`: "entry 2",
	} {
		if _, err := parseRecords([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Whatever comes: a success is code 00 with 2xx, a denial says what to do, and a
// login that was refused is never taken for an outage.
func FuzzReply(f *testing.F) {
	for _, s := range []string{
		`{"code":"00","datetime":{"tw_date":"2022/12/05","tw_time":"14:07:05","tw_day":"(一)"},"data":{"user_id":"11542","login_day":"2022/12/05","login_day":"(三)","token_key":"` + jwt(`{"iat":1670220425,"exp":1670221025}`) + `"}}`,
		`{"statusCode":401,"code":40101,"error":"Unauthorized","message":"使用者不存在，未經核可，無法使用打卡系統"}`,
		`{"code":"00","data":[{"status":"上班","first_time":"08:00:00","last_time":"08:05:00"},]}`,
		`{"code":"00","data":[{"user_id":"11542","sign_date":"2022-10-19 10:23:54+08","status":"上班"}]}`,
		`{"status":-1,"message":"x"}`, `{"code":40103,"data":"x"}`, `<html>`, ``,
	} {
		f.Add([]byte(s), uint16(200), true)
		f.Add([]byte(s), uint16(401), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, status uint16, tolerant bool) {
		r := parseReply(body, tolerant)
		if r.ok && !r.object {
			t.Fatalf("%+v", r)
		}
		if strict := parseReply(body, false); strict.object && fmt.Sprint(strict) != fmt.Sprint(r) {
			t.Fatalf("tolerance changes what is read: %+v and %+v", strict, r)
		}
		same := func(s string) string { return s }
		for _, v := range []ruling{r.judge(int(status), "punch_path"), r.judgeLogin(int(status))} {
			if (v.action == taken) != (r.ok && status >= 200 && status < 300) {
				t.Fatalf("%+v of %+v with status %d", v, r, status)
			}
			err := v.err("test", int(status), &r, same)
			if _, is := err.(*token.Denied); is && (v.hint == "" || v.state == "" || v.what == "") {
				t.Fatalf("a denial without words: %+v", v)
			}
			if v.what == "" && v.action != taken {
				t.Fatalf("no words: %+v", v)
			}
		}
		if v := r.judgeLogin(int(status)); (status == 401) != (v.action == badSecret) && status == 401 {
			t.Fatalf("a refused login is %+v", v)
		}
		if v := r.judge(int(status), ""); (v.action == refused || v.action == exists) && !r.object {
			t.Fatalf("%+v on nobody's word", v)
		}
		if s, ok := parseLogin(r.data); ok && (s.token.Value == "" || s.token.Life <= 0 || s.token.Life > lifeMost || s.token.Early > s.token.Life/4 || strings.ContainsAny(s.token.Value, "\r\n ")) {
			t.Fatalf("%+v", s)
		}
		parseToday(r.data)
		if list, err := parseRecords(r.data); err == nil {
			for _, rec := range list {
				if !rec.Kind.Valid() || rec.Time.IsZero() && rec.Time.Year() != 1 {
					t.Fatalf("%+v", rec)
				}
			}
		}
	})
}

// Stripping takes commas away and nothing else, and leaves good JSON as it is.
func FuzzStripCommas(f *testing.F) {
	for _, s := range []string{`{"a":1,}`, `[1,]`, `{"a":",]"}`, `"\"`, `,,`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out := stripCommas(in)
		if json.Valid(in) && string(out) != string(in) {
			t.Fatalf("%q became %q", in, out)
		}
		if strings.ReplaceAll(string(out), ",", "") != strings.ReplaceAll(string(in), ",", "") {
			t.Fatalf("%q became %q", in, out)
		}
	})
}
