package feishu

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"punchclock/queue/punch"
)

func TestWhatHasNoCode(t *testing.T) {
	for _, body := range []string{
		``, ` `, `null`, `0`, `[]`, `{}`, `"x"`, `<html>`, `404 page not found`, `{"code":null}`, `{"code":"0"}`, `{"code":0.0}`,
		`{"code":true}`, `{"code":0`, `{"code":0} {}`, `{"msg":"success"}`,
	} {
		if r := parseReply([]byte(body)); r.coded {
			t.Errorf("%s is read as %+v", body, r)
		}
	}
}

func TestOddPartsDoNotSpoilTheCode(t *testing.T) {
	for _, body := range []string{
		`{"code":0,"msg":5,"data":"x","error":[]}`, `{"code":0,"data":{"flow_records":{}}}`, `{"code":0,"data":{"flow_records":[5]}}`,
		`{"code":0,"data":{"flow_records":[{"record_id":670935931369935}]}}`, `{"code":0,"data":null,"error":{"log_id":7}}`,
	} {
		if r := parseReply([]byte(body)); !r.coded || r.judge(200).action != taken {
			t.Errorf("%s is read as %+v", body, r)
		}
	}
}

func TestReceiptsFindTheirRecords(t *testing.T) {
	rs := []record{{id: "a"}, {id: "b"}, {id: "c"}}
	for body, want := range map[string]string{
		`{"code":0,"data":{"flow_records":[{"record_id":"3","idempotent_id":"c"},{"record_id":"1","external_id":"a"}]}}`: "[1  3]",
		`{"code":0,"data":{"flow_records":[{"record_id":"1"},{"record_id":"2"},{"record_id":"3"}]}}`:                     "[1 2 3]",
		`{"code":0,"data":{"flow_records":[{"record_id":"1"},{"record_id":"2"}]}}`:                                       "[  ]",
		`{"code":0,"data":{"flow_records":[]}}`:                                                                          "[  ]",
		`{"code":0}`:                                                                                                     "[  ]",
	} {
		r := parseReply([]byte(body))
		if got := fmt.Sprint(r.receipts(rs)); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestOnlyPlainWordsOfTheFarSideReachALog(t *testing.T) {
	r := parseReply([]byte(`{"code":99991672,"error":{"log_id":"2026 x","permission_violations":[{"subject":"a\nb"},{"subject":"attendance:task"}]}}`))
	if r.logID != "" || r.subject != "attendance:task" {
		t.Errorf("log_id %q, scope %q", r.logID, r.subject)
	}
	if word(strings.Repeat("a", maxWord+1)) != "" {
		t.Error("an endless word reaches a log")
	}
}

// FuzzReply holds that no reply makes the reader panic or is a success without a
// code of 0 and a 2xx, that a denial always says what to do, and that kept words are
// short and valid.
func FuzzReply(f *testing.F) {
	for _, s := range []string{
		`{"code":0,"msg":"success","data":{"flow_records":[{"user_id":"A0123","record_id":"6709359313699356941","external_id":"01JFQ3N4Q2","idempotent_id":"01JFQ3N4Q2"}]}}`,
		`{"code":0,"msg":"ok","tenant_access_token":"t-5f0e","expire":7200}`,
		`{"code":10003,"data":{},"msg":"invalid param"}`,
		`{"code":99991663,"msg":"Invalid access token","error":{"log_id":"2026112100","troubleshooter":"https://open.feishu.cn"}}`,
		`{"code":99991672,"msg":"x","error":{"permission_violations":[{"type":"t","subject":"attendance:task"}]}}`,
		`{"code":1220600,"msg":" No Row Affected "}`, `{"code":1220600,"msg":"the object already exists"}`,
		`{"code":1229999,"msg":"飞书"}`, `404 page not found`, `{"code":"0"}`, ``,
	} {
		f.Add([]byte(s), uint16(200))
		f.Add([]byte(s), uint16(400))
	}
	f.Fuzz(func(t *testing.T, body []byte, status uint16) {
		r := parseReply(body)
		for _, v := range []ruling{r.judge(int(status)), r.judgeToken(int(status))} {
			ok := r.coded && r.code == 0 && status >= 200 && status < 300
			if (v.action == taken) != ok {
				t.Fatalf("%+v of %+v with status %d", v, r, status)
			}
			if v.action == denied && (v.hint == "" || v.state == "" || v.what == "") {
				t.Fatalf("a denial without words: %+v", v)
			}
			if v.action == permanent && v.reason == "" {
				t.Fatalf("a refusal without a reason: %+v", v)
			}
			if v.action != taken && v.err("call", int(status), &r).Error() == "" {
				t.Fatal("an error without words")
			}
		}
		for _, m := range append(r.receipts([]record{{id: "01JFQ3N4Q2"}, {id: punch.ID(r.msg)}}), punch.Words(r.msg)) {
			if len(m) > punch.MaxWords || !utf8.ValidString(m) {
				t.Fatalf("kept words %q", m)
			}
		}
		if tok, err := parseToken(body); err == nil && (tok.value == "" || tok.seconds <= 0) {
			t.Fatalf("token %+v", tok)
		}
	})
}
