package feishu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"punchclock/sync/token"
)

// Reasons of a refused punch. They are the reason codes of the outbox.
const (
	reasonBlank      = "emp_no_blank"        // no employee number
	reasonInvalid    = "emp_no_invalid"      // an id that JSON text cannot carry unaltered
	reasonNoID       = "no_feishu_id"        // employee_type is employee_id and the roster has none for this person
	reasonTime       = "bad_time"            // Feishu takes no time before 2022, or refused this one
	reasonParam      = "bad_param"           // parameter error
	reasonUnknown    = "unknown_user"        // Feishu does not know the person, or the app may not see them
	reasonGroup      = "no_attendance_group" // the person is in no attendance group
	reasonSealed     = "period_sealed"       // HR has closed that period
	reasonRejected   = "rejected_by_feishu"  // any other permanent error
	reasonNoRow      = "no_row_affected"     // retryable by its name, five times in vain
	reasonSystem     = "system_error"        // this record alone makes Feishu's system error, three times
	maxWord          = 128                   // bytes of a far side's id or scope name in an error or a log line
	minCode, maxCode = 1200000, 1299999      // attendance codes
)

// action is what one reply to n records asks for.
type action uint8

const (
	outage       action = iota // nothing known: keep, wait, send the same bytes again
	taken                      // every record is there
	refusedToken               // fetch a new token and resend, once
	denied                     // a person must act
	busy                       // the far side asked for quiet
	permanent                  // one record at least will never be taken: split until it stands alone
	exists                     // a single record is there already; a batch is split
	noRow                      // retryable, with a limit
	system                     // Feishu's fault, or one record that makes it fall over
	tooMany                    // more records than one call may hold
)

// ruling is the whole decision.
type ruling struct {
	action action
	reason string // permanent: for the outbox
	state  string // denied
	hint   string // denied: what to do next
	what   string // in the trade's words, no body and no secret
}

// codes are the gateway's and the attendance service's codes.
var codes = map[int64]ruling{
	99991661: {action: refusedToken, what: "token missing"},
	99991663: {action: refusedToken, what: "tenant token refused"},
	99991664: {action: refusedToken, what: "app token refused"},
	99991668: {action: refusedToken, what: "token refused as a user token"},
	99991671: {action: refusedToken, what: "token refused"},
	1220002:  {action: refusedToken, what: "tenant unknown"},

	codeScope: {action: denied, state: token.Misconfigured, what: "the app lacks a scope",
		hint: "in the Feishu developer console give the app the permission attendance:task (打卡), publish a version and have it approved"},
	99991679: {action: denied, state: token.AuthFailed, what: "user authorisation missing: the call was taken for a user's, not the app's",
		hint: "check in the Feishu developer console that app_id belongs to a custom app of this company, and that the attendance permission is an application permission"},
	99991401: {action: denied, state: token.Misconfigured, what: "ip_not_allowed",
		hint: "token works, imports refused: add this site's public IPv4 to the app's IP allow-list (developer console, security settings; single IPv4 addresses only)"},
	codeQuota: {action: denied, state: token.Misconfigured, what: "the company's monthly call quota is used up",
		hint: "buy more calls or wait for the first of the month; look in the Feishu admin console which custom app uses them; nothing is lost, it is tried every hour and after a restart"},
	1220003: {action: denied, state: token.Misconfigured, what: "employee_type refused",
		hint: "set employee_type to employee_no or employee_id"},
	1220005: {action: denied, state: token.Misconfigured, what: "no permission for the attendance data",
		hint: "in the Feishu attendance console let the app's data range cover these employees"},

	99991400: {action: busy, what: "rate limit"},

	1220001: {action: permanent, reason: reasonParam, what: "parameter error"},
	1220004: {action: permanent, reason: reasonUnknown, what: "user does not exist or no right"},
	1225000: {action: system, what: "system error"},
	1225001: {action: outage, what: "partly written"},
	1226500: {action: outage, what: "punch service error"},
	1227500: {action: outage, what: "organisation service error"},
}

const (
	codeGeneral = 1220600  // its meaning is in its message
	codeScope   = 99991672 // its meaning is in error.permission_violations
	codeQuota   = 99991403
)

// messages are the texts of code 1220600, lower case, looked for anywhere in the
// trimmed message. Beware of the near twins "rule not exist" and "rule does not
// exist".
var messages = []struct {
	text string
	ruling
}{
	{"no row affected", ruling{action: noRow}},
	{"the object already exists", ruling{action: exists}},
	{"operate too much flow", ruling{action: tooMany}},
	{"param invalid", ruling{action: permanent, reason: reasonParam}},
	{"time calculation failed", ruling{action: permanent, reason: reasonTime}},
	{"time is invalid", ruling{action: permanent, reason: reasonTime}},
	{"name or employee_no invalid", ruling{action: permanent, reason: reasonUnknown}},
	{"rule not exist", ruling{action: permanent, reason: reasonGroup}},
	{"rule does not exist", ruling{action: permanent, reason: reasonRejected}},
	{"shift does not exist", ruling{action: permanent, reason: reasonRejected}},
	{"the attendance result has been sealed and can not modify", ruling{action: permanent, reason: reasonSealed}},
	{"auth no permission", ruling{action: denied, state: token.Misconfigured,
		hint: "in the Feishu attendance console give the app, or the employee named by creator_id, the right to import records"}},
	{"this api can only be accessed by feishu people enterprise edition users", ruling{action: denied, state: token.Misconfigured,
		hint: "this company's Feishu plan does not include the attendance import: ask Feishu for the People Enterprise edition"}},
	{"shift can not be del", ruling{action: permanent, reason: reasonRejected}},
	{"env count illegal", ruling{action: permanent, reason: reasonRejected}},
	{"failed to upload an image. please upload a clear and complete image", ruling{action: permanent, reason: reasonRejected}},
	{"the object in tos not found", ruling{action: permanent, reason: reasonRejected}},
	{"archive_rule_id not exist", ruling{action: permanent, reason: reasonRejected}},
	{"the rule cannot arrange!", ruling{action: permanent, reason: reasonRejected}},
}

// reply is what could be read of a body.
type reply struct {
	coded   bool // there is a JSON object with a whole number in code
	code    int64
	msg     string
	logID   string
	subject string // 99991672: the scope that is missing
	flows   []flow
}

// flow is one record of a reply: what tells whose receipt it is.
type flow struct {
	RecordID     text `json:"record_id"`
	ExternalID   text `json:"external_id"`
	IdempotentID text `json:"idempotent_id"`
}

// text takes a JSON string, and "" for anything else: a receipt of an unexpected
// type must not turn a stored batch into an error.
type text string

// UnmarshalJSON never fails.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
	}
	return nil
}

// parseReply reads a reply of any call and any status. It cannot fail: what is not
// there is not coded.
func parseReply(body []byte) reply {
	var w struct {
		Code  json.RawMessage `json:"code"`
		Msg   text            `json:"msg"`
		Data  json.RawMessage `json:"data"`
		Error json.RawMessage `json:"error"`
	}
	if b := bytes.TrimLeft(body, " \t\r\n"); len(b) == 0 || b[0] != '{' || json.Unmarshal(body, &w) != nil {
		return reply{}
	}
	code, err := strconv.ParseInt(string(w.Code), 10, 64)
	if err != nil {
		return reply{}
	}
	r := reply{coded: true, code: code, msg: string(w.Msg)}
	var e struct {
		LogID      text `json:"log_id"`
		Violations []struct {
			Subject text `json:"subject"`
		} `json:"permission_violations"`
	}
	if len(w.Error) > 0 && json.Unmarshal(w.Error, &e) == nil {
		r.logID = word(string(e.LogID))
		for _, v := range e.Violations {
			if s := word(string(v.Subject)); s != "" {
				r.subject = s
				break
			}
		}
	}
	var d struct {
		Flows []flow `json:"flow_records"`
	}
	if len(w.Data) > 0 && json.Unmarshal(w.Data, &d) == nil {
		r.flows = d.Flows
	}
	return r
}

// judge decides on a reply by its code first, whatever the HTTP status; the status
// counts only where there is no code, or where no row of the tables says.
func (r *reply) judge(status int) ruling {
	if !r.coded {
		return judgeStatus(status)
	}
	if r.code == 0 {
		if status >= 200 && status < 300 {
			return ruling{action: taken}
		}
		return ruling{action: outage, what: "code 0 with a status that is no success"}
	}
	if v, ok := codes[r.code]; ok {
		if r.code == codeScope && r.subject != "" {
			v.what += " " + r.subject
			v.hint = "in the Feishu developer console give the app the permission " + r.subject + ", publish a version and have it approved"
		}
		return v
	}
	if r.code == codeGeneral {
		msg := strings.ToLower(strings.TrimSpace(r.msg))
		for _, m := range messages {
			if strings.Contains(msg, m.text) {
				m.what = m.text
				return m.ruling
			}
		}
	}
	if r.code >= minCode && r.code <= maxCode && status < 500 {
		return ruling{action: permanent, reason: reasonRejected, what: "attendance error"}
	}
	return ruling{action: outage, what: "unexpected error"}
}

// judgeStatus decides on a reply without a JSON code: Feishu's own text page for a
// wrong path, or something between us and Feishu.
func judgeStatus(status int) ruling {
	switch {
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		return ruling{action: denied, state: token.Misconfigured, what: "no such path",
			hint: "set base_url to https://open.feishu.cn (mainland) or https://open.larksuite.com (Lark), with nothing behind the host"}
	case status == http.StatusTooManyRequests:
		return ruling{action: busy, what: "rate limit"}
	case status == http.StatusRequestEntityTooLarge:
		return ruling{action: tooMany, what: "too large"}
	default:
		return ruling{action: outage, what: "the answer is not Feishu's JSON with a code; is a portal or proxy in between?"}
	}
}

// judgeToken decides on the reply to a token call. Feishu says 10003 for a malformed
// app id and 10014 for a wrong secret, with HTTP 200; whatever else it says is
// taken for an outage, unless the tables know the code as a person's business.
func (r *reply) judgeToken(status int) ruling {
	if r.coded && (r.code == 10003 || r.code == 10014) {
		return ruling{action: denied, state: token.AuthFailed, what: "app id or secret refused",
			hint: "compare app_id with the Feishu developer console and put the current app secret into app_secret_file; it is read again by itself"}
	}
	v := r.judge(status)
	if v.action == taken || v.action == denied || v.action == busy {
		return v
	}
	return ruling{action: outage, what: v.what}
}

// tokenReply is a token and its remaining life.
type tokenReply struct {
	value   string
	seconds int64
}

// errNoToken is a reply with code 0 that holds no usable token.
var errNoToken = errors.New("the answer holds no tenant_access_token with a life in expire")

// parseToken reads the token of a reply with code 0. Missing or non-positive life:
// failed, as Feishu always tells it.
func parseToken(body []byte) (tokenReply, error) {
	var w struct {
		Token  string          `json:"tenant_access_token"`
		Expire json.RawMessage `json:"expire"`
	}
	if json.Unmarshal(body, &w) != nil || w.Token == "" {
		return tokenReply{}, errNoToken
	}
	for i := range len(w.Token) {
		if b := w.Token[i]; b <= ' ' || b > '~' {
			return tokenReply{}, errNoToken
		}
	}
	n, err := strconv.ParseInt(string(w.Expire), 10, 64)
	if err != nil || n <= 0 {
		return tokenReply{}, errNoToken
	}
	return tokenReply{value: w.Token, seconds: min(n, maxLife)}, nil
}

const maxLife = 7 * 86400 // seconds: Feishu gives at most 7200, and it must fit a duration

// err makes the error of a ruling; call names what was being done.
func (v ruling) err(call string, status int, r *reply) error {
	where := fmt.Sprintf("HTTP %d", status)
	if r.coded {
		where += fmt.Sprintf(", code %d", r.code)
	}
	e := fmt.Errorf("feishu: %s: %s (%s)", call, v.what, where)
	if v.action == denied {
		return &token.Denied{State: v.state, Hint: v.hint, Err: e}
	}
	return e
}

// word lets through what an id or a scope name is made of, "" for anything else.
func word(s string) string {
	for _, r := range s {
		if !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune(":._-", r)) {
			return ""
		}
	}
	if len(s) > maxWord {
		return ""
	}
	return s
}
