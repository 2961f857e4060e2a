package signin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/token"
)

// Reasons of a refused punch. They are the reason codes of the outbox.
const (
	reasonBlank       = "emp_no_blank"      // no employee number and no signin_id
	reasonInvalid     = "emp_no_invalid"    // an id that JSON text cannot carry unaltered
	reasonKind        = "bad_kind"          // none of the four statuses
	reasonTime        = "bad_time"          // a year that sign_date cannot carry
	reasonNotApproved = "user_not_approved" // the system does not know the person, or nobody has approved them
	reason400         = "http400"           // the system's validator refused the punch
	reasonOdd         = "odd_answer"        // answered five times with something that is neither yes nor no
)

// The codes of a 401 that are known.
const (
	codeNotApproved = "40101"
	codeUnknown     = "40102" // the gap between the two others; taken for the next one
	codeBadPassword = "40103"
)

// action is what one reply asks for.
type action uint8

const (
	outage    action = iota // nothing known: keep, wait, send the same bytes again
	taken                   // code "00"
	exists                  // 409: there already
	refused                 // 400: this punch will never be taken
	noToken                 // 401: log in again, once
	denied                  // a person must act
	busy                    // 429
	odd                     // the system has spoken, and said neither: an outage, five times
	badSecret               // login only: this account and password must not be tried again
)

// ruling is the whole decision.
type ruling struct {
	action action
	state  string // denied, badSecret
	hint   string // denied, badSecret: what to do next
	what   string // in the trade's words
}

// reply is what could be read of a body.
type reply struct {
	object  bool      // it is a JSON object
	ok      bool      // its code is "00", or the number 0
	code    string    // as text; "" where there is none
	at      time.Time // the server's clock; zero where there is none
	kind    string    // error: the status in words
	message string    // from message, or from data where that is a text
	data    json.RawMessage
}

// taiwan is the zone of everything that this system says about time. It is fixed:
// sign_date has no room for the minutes of another one, and the device's may be.
var taiwan = time.FixedZone("+08", 8*60*60)

// text takes a JSON string, a number as it is written, and "" for anything else.
type text string

// UnmarshalJSON never fails.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
	} else if strings.Trim(string(b), "-0123456789") == "" {
		*t = text(b)
	}
	return nil
}

// parseReply reads a reply of any call and any status; it cannot fail. With
// tolerant, a body that is no JSON is read once more without trailing commas.
func parseReply(body []byte, tolerant bool) reply {
	var w struct {
		Code     json.RawMessage `json:"code"`
		Datetime json.RawMessage `json:"datetime"`
		Error    text            `json:"error"`
		Message  text            `json:"message"`
		Data     json.RawMessage `json:"data"`
	}
	if b := bytes.TrimLeft(body, " \t\r\n"); len(b) == 0 || b[0] != '{' {
		return reply{}
	}
	if !json.Valid(body) && tolerant {
		body = stripCommas(body)
	}
	if json.Unmarshal(body, &w) != nil {
		return reply{}
	}
	r := reply{object: true, kind: string(w.Error), message: string(w.Message), data: w.Data}
	var s string
	var n json.Number
	switch {
	case len(w.Code) == 0:
	case w.Code[0] == '"' && json.Unmarshal(w.Code, &s) == nil:
		r.code, r.ok = s, s == "00"
	case json.Unmarshal(w.Code, &n) == nil:
		r.code, r.ok = n.String(), n == "0"
	}
	if r.message == "" && json.Unmarshal(w.Data, &s) == nil { // an earlier version's place for it
		r.message = s
	}
	var d struct {
		Date text `json:"tw_date"`
		Time text `json:"tw_time"`
	}
	if json.Unmarshal(w.Datetime, &d) == nil {
		if at, err := time.ParseInLocation("2006/01/02 15:04:05", string(d.Date)+" "+string(d.Time), taiwan); err == nil {
			r.at = at
		}
	}
	return r
}

// stripCommas takes away every comma that only white space parts from a closing
// bracket, outside of texts.
func stripCommas(body []byte) []byte {
	out := make([]byte, 0, len(body))
	inText, comma := false, -1 // comma: where in out the last one is that may go
	for i := 0; i < len(body); i++ {
		c := body[i]
		switch {
		case inText && c == '\\' && i+1 < len(body):
			out = append(out, c)
			i++
			c = body[i]
		case inText:
			inText = c != '"'
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		case c == ',':
			comma = len(out)
		default:
			if comma >= 0 && (c == '}' || c == ']') {
				out = append(out[:comma], out[comma+1:]...)
			}
			comma = -1
			inText = c == '"'
		}
		out = append(out, c)
	}
	return out
}

// The worker's status has room for so many words only: what to do comes before why. The
// password is not tried again by itself, since the directory may lock the account.
const loginHint = "put the current password into password_file, or correct user_id: it is tried again then, or by: punchclock queue retry --destination NAME"

// judgeLogin decides on the reply to a login. Whatever may mean that the system
// looked at the password and said no stops this account.
func (r *reply) judgeLogin(status int) ruling {
	switch {
	case r.object && r.code == codeNotApproved && status < 500:
		return ruling{action: badSecret, state: token.AuthFailed, what: "user_not_approved: the account itself",
			hint: "have user_id approved there, then: punchclock queue retry --destination NAME"}
	case r.object && (r.code == codeBadPassword || r.code == codeUnknown) && status < 500:
		return ruling{action: badSecret, state: token.AuthFailed, what: "bad_password", hint: loginHint}
	case status == http.StatusUnauthorized, r.object && status == http.StatusForbidden:
		return ruling{action: badSecret, state: token.AuthFailed, what: "login refused", hint: loginHint}
	case r.object && status == http.StatusBadRequest:
		return ruling{action: badSecret, state: token.Misconfigured, what: "the login's fields were refused",
			hint: "check user_id and the password in password_file, then: punchclock queue retry --destination NAME"}
	}
	v := r.judge(status, "login_path")
	if v.action == exists || v.action == odd {
		return ruling{action: outage, what: v.what}
	}
	return v
}

// judge decides on the reply to any other call; setting is where its path comes from.
func (r *reply) judge(status int, setting string) ruling {
	switch {
	case status >= 200 && status < 300:
		switch {
		case !r.object:
			return ruling{action: outage, what: "the answer is not the sign-in system's JSON; is a portal or proxy in between?"}
		case !r.ok:
			return ruling{action: odd, what: "answered with success, and without code 00"}
		}
		return ruling{action: taken}
	case status == http.StatusUnauthorized:
		return ruling{action: noToken, state: token.AuthFailed, what: "the token was refused",
			hint: "a token that was just given out is refused: check token_transport, and whether this account may punch for others"}
	case status == http.StatusForbidden && (setting == pathRecord || setting == pathToday):
		return ruling{action: denied, state: token.AuthFailed, what: "forbidden",
			hint: "ask the sign-in system's owner whether the account user_id may read others' punches; it need not for punches to be delivered"}
	case status == http.StatusForbidden:
		return ruling{action: denied, state: token.AuthFailed, what: "forbidden",
			hint: "ask the sign-in system's owner whether the account user_id may punch for others; if it may not, write mode = \"off\""}
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return ruling{action: denied, state: token.Misconfigured, what: "no such path",
			hint: "ask the sign-in system's owner for its paths and correct base_url or " + setting}
	case status == http.StatusTooManyRequests:
		return ruling{action: busy, what: "too many calls"}
	case status >= 500, status < 400, status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusProxyAuthRequired:
		return ruling{action: outage, what: "unexpected status"}
	case !r.object:
		// Somebody has refused the call, most likely not the system. It may be that
		// this one call is the reason, so it is not sent for ever.
		return ruling{action: odd, what: "refused, not in the sign-in system's words"}
	case status == http.StatusBadRequest:
		return ruling{action: refused, what: "a field was refused"}
	case status == http.StatusConflict:
		return ruling{action: exists, what: "already there"}
	}
	return ruling{action: odd, what: "unexpected status"}
}

// words are the system's own about a failure: code, error and message. They may
// repeat what the call held.
func (r *reply) words() string {
	return strings.Join(strings.Fields(r.code+" "+r.kind+" "+r.message), " ")
}

// err makes the error of a ruling; call names what was being done. The system's
// words are in it, so hide must take out what is secret.
func (v ruling) err(call string, status int, r *reply, hide func(string) string) error {
	where := fmt.Sprintf("HTTP %d", status)
	if w := punch.Words(hide(r.words())); w != "" {
		where += ", " + w
	}
	e := fmt.Errorf("signin: %s: %s (%s)", call, v.what, where)
	if v.action == denied || v.action == badSecret || v.action == noToken {
		return &token.Denied{State: v.state, Hint: v.hint, Err: e}
	}
	return e
}

// session is what a login gives.
type session struct {
	token token.Token
	group string
}

const (
	lifeDefault = 600 * time.Second // of a token that does not tell its life
	lifeMost    = 7 * 24 * time.Hour
	earlyMost   = 60 * time.Second
)

// parseLogin reads the data of a login that succeeded. It ignores login_day, which
// is there twice.
func parseLogin(data json.RawMessage) (session, bool) {
	var w struct {
		Token string `json:"token_key"`
		Group text   `json:"group_id"`
	}
	if json.Unmarshal(data, &w) != nil || w.Token == "" {
		return session{}, false
	}
	for i := range len(w.Token) {
		if b := w.Token[i]; b <= ' ' || b > '~' {
			return session{}, false
		}
	}
	life := tokenLife(w.Token)
	return session{token.Token{Value: w.Token, Life: life, Early: min(earlyMost, life/4)}, string(w.Group)}, true
}

// tokenLife is exp − iat of a JWT, 600 s where that cannot be told. The signature is
// the system's business; exp itself is never compared with this device's clock.
func tokenLife(t string) time.Duration {
	parts := strings.Split(t, ".")
	if len(parts) != 3 {
		return lifeDefault
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return lifeDefault
	}
	var c struct {
		Iat json.Number `json:"iat"`
		Exp json.Number `json:"exp"`
	}
	if json.Unmarshal(raw, &c) != nil {
		return lifeDefault
	}
	iat, err := strconv.ParseFloat(c.Iat.String(), 64) // whole in practice; the standard allows fractions
	exp, err2 := strconv.ParseFloat(c.Exp.String(), 64)
	if seconds := exp - iat; err == nil && err2 == nil && seconds > 0 {
		return time.Duration(min(seconds, lifeMost.Seconds()) * float64(time.Second))
	}
	return lifeDefault
}

// Today is one status of a person's day.
type Today struct {
	Status string // 上班, 下班, 外出 or 外歸
	First  string // HH:mm:ss, Taiwan
	Last   string // HH:mm:ss, Taiwan; "" where the system does not tell
}

// Record is one punch that the sign-in system holds.
type Record struct {
	UserID string
	Time   time.Time
	Kind   punch.Kind
}

func parseToday(data json.RawMessage) ([]Today, error) {
	var w []struct {
		Status text `json:"status"`
		First  text `json:"first_time"`
		Last   text `json:"last_time"`
	}
	if len(data) > 0 && json.Unmarshal(data, &w) != nil {
		return nil, fmt.Errorf("signin: today's punches: the answer's data is not a list of statuses")
	}
	var out []Today
	for _, d := range w {
		out = append(out, Today{string(d.Status), string(d.First), string(d.Last)})
	}
	return out, nil
}

const (
	signLayout = "2006-01-02 15:04:05-07" // PostgreSQL's text form
	dateLayout = time.DateOnly
)

func parseRecords(data json.RawMessage) ([]Record, error) {
	var w []struct {
		UserID text `json:"user_id"`
		Date   text `json:"sign_date"`
		Status text `json:"status"`
	}
	if len(data) > 0 && json.Unmarshal(data, &w) != nil {
		return nil, fmt.Errorf("signin: records: the answer's data is not a list of punches")
	}
	var out []Record
	for i, d := range w {
		at, err := time.Parse(signLayout, string(d.Date))
		if err != nil {
			return nil, fmt.Errorf("signin: records: sign_date of entry %d is not in the form 2022-10-19 10:23:54+08", i+1)
		}
		r := Record{UserID: string(d.UserID), Time: at.In(taiwan)}
		for _, k := range punch.Kinds {
			if string(d.Status) == k.Chinese() {
				r.Kind = k
			}
		}
		if !r.Kind.Valid() {
			return nil, fmt.Errorf("signin: records: status of entry %d is none of 上班, 下班, 外出 and 外歸", i+1)
		}
		out = append(out, r)
	}
	return out, nil
}
