package transfercard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"punchclock/queue/punch"
)

// Reasons of a refused punch. They are the reason codes of the outbox.
const (
	reasonBlank    = "emp_no_blank"     // no employee number
	reasonInvalid  = "emp_no_invalid"   // an employee number that JSON text cannot carry unaltered
	reasonUnknown  = "emp_no_unknown"   // 員工編號不存在: HR has not added this person
	reasonTime     = "bad_time"         // not a 13-digit time in milliseconds
	reasonIgnored  = "ignored_by_104"   // in ignoreDetail with a text this program does not know
	reasonRejected = "rejected_by_104"  // in failDetail with a text this program does not know
	reason400      = "http400"          // a call with this one punch was answered with HTTP 400
	reasonUnclear  = "unclear_from_104" // 104 counted this one punch neither as taken nor as refused, five times
)

// counts is one reply about one company's records.
type counts struct {
	success, ignore, fail int64
	ignored, failed       []detail
	loose                 bool // a detail could not be read: nothing may be attributed by idx
}

type detail struct {
	idx  int64
	text string
}

// errNotOurs is a reply with status 200 that is not 104's: a captive portal, a
// proxy, a cut body, wrong JSON types. Nothing is known about any record.
var errNotOurs = errors.New("the answer is not 104's JSON with a whole number in success; is a portal or proxy in between?")

// wireCounts keeps every member raw: which of them must be what is decided one
// by one, because a bad detail is less than a bad success.
type wireCounts struct {
	UNO          json.RawMessage `json:"uno"`
	Code         json.RawMessage `json:"code"`
	Success      json.RawMessage `json:"success"`
	Ignore       json.RawMessage `json:"ignore"`
	IgnoreDetail json.RawMessage `json:"ignoreDetail"`
	Fail         json.RawMessage `json:"fail"`
	FailDetail   json.RawMessage `json:"failDetail"`
}

// parseCounts reads the 200 reply of transferCard.
func parseCounts(body []byte) (counts, error) {
	var w wireCounts
	if !isObject(body) || json.Unmarshal(body, &w) != nil {
		return counts{}, errNotOurs
	}
	return w.counts()
}

func (w *wireCounts) counts() (counts, error) {
	var c counts
	var ok bool
	if c.success, ok = integer(w.Success); !ok {
		return counts{}, errNotOurs
	}
	// Absent or null counts are zero; whether the sums fit is looked at later.
	for _, m := range []struct {
		raw json.RawMessage
		to  *int64
	}{{w.Ignore, &c.ignore}, {w.Fail, &c.fail}} {
		if absent(m.raw) {
			continue
		}
		if *m.to, ok = integer(m.raw); !ok {
			return counts{}, errNotOurs
		}
	}
	c.ignored = c.details(w.IgnoreDetail)
	c.failed = c.details(w.FailDetail)
	return c, nil
}

// details accepts a missing list, null and []. An entry that cannot be read
// makes the reply loose and keeps its text if there is one.
func (c *counts) details(raw json.RawMessage) []detail {
	if absent(raw) {
		return nil
	}
	var entries []struct {
		Idx      json.RawMessage `json:"idx"`
		ErrorMsg json.RawMessage `json:"errorMsg"`
	}
	if json.Unmarshal(raw, &entries) != nil {
		c.loose = true
		return nil
	}
	out := make([]detail, 0, len(entries))
	for _, e := range entries {
		var d detail
		var ok bool
		if d.idx, ok = integer(e.Idx); !ok {
			d.idx, c.loose = -1, true
		}
		if json.Unmarshal(e.ErrorMsg, &d.text) != nil {
			d.text = ""
		}
		out = append(out, d)
	}
	return out
}

// all reports rule 2: every one of n records was taken, and none is named as refused.
func (c *counts) all(n int) bool {
	return c.success == int64(n) && c.ignore == 0 && c.fail == 0 && len(c.ignored)+len(c.failed) == 0
}

// whole reports whether counts and details fit together and n records.
func (c *counts) whole(n int) bool {
	limit := int64(n)
	for _, v := range []int64{c.success, c.ignore, c.fail} {
		if v < 0 || v > limit {
			return false
		}
	}
	return !c.loose && c.success+c.ignore+c.fail == limit &&
		int64(len(c.ignored)) == c.ignore && int64(len(c.failed)) == c.fail
}

// IdxBase says from which number 104 counts the records in its details.
type IdxBase string

// The three settings of idx_base. The vendor does not say which of Zero and One
// is true, and its example proves nothing.
const (
	Auto IdxBase = "auto" // learn it from the replies, never guess
	Zero IdxBase = "0"
	One  IdxBase = "1"
)

const unproven = -1

// proof returns the base that the reply to n records proves, unproven where it
// proves none: an idx of 0 proves 0, an idx of n proves 1. A reply to one record
// with any detail proves it outright. Both in one reply prove nothing.
func (c *counts) proof(n int) int64 {
	zero, one := false, false
	for _, l := range [][]detail{c.ignored, c.failed} {
		for _, d := range l {
			zero = zero || d.idx == 0
			one = one || d.idx == int64(n)
		}
	}
	switch {
	case c.loose || zero == one:
		return unproven
	case zero:
		return 0
	default:
		return 1
	}
}

// result is what one record's part of a reply says.
type result struct {
	fate    punch.Fate
	reason  string
	message string
}

// attribute names the result of each of n records, with a base. It reports false
// where anything does not fit: then nothing of the reply may be believed about a
// particular record.
func (c *counts) attribute(n int, base int64) ([]result, bool) {
	if !c.whole(n) {
		return nil, false
	}
	out := make([]result, n)
	for i := range out {
		out[i].fate = punch.Accept
	}
	named := make([]bool, n)
	for _, l := range []struct {
		list []detail
		read func(string) result
	}{{c.ignored, ignored}, {c.failed, failed}} {
		for _, d := range l.list {
			i := d.idx - base
			if i < 0 || i >= int64(n) || named[i] {
				return nil, false
			}
			named[i] = true
			out[i] = l.read(d.text)
		}
	}
	return out, true
}

// single reads the reply to a call with one record, where no idx is needed. It
// reports false where the counts do not say exactly one thing.
func (c *counts) single() (result, bool) {
	text := func(l []detail) string {
		if len(l) == 0 {
			return ""
		}
		return l[0].text
	}
	switch [3]int64{c.success, c.ignore, c.fail} {
	case [3]int64{1, 0, 0}:
		return result{fate: punch.Accept}, c.all(1)
	case [3]int64{0, 1, 0}:
		return ignored(text(c.ignored)), true
	case [3]int64{0, 0, 1}:
		return failed(text(c.failed)), true
	}
	return result{}, false
}

// ignored reads a text of ignoreDetail. There are texts only, no codes.
func ignored(text string) result {
	switch t := strings.TrimSpace(text); {
	case strings.Contains(t, "員工編號空白"):
		return refuse(reasonBlank, t)
	case strings.Contains(t, "重複"):
		return result{fate: punch.Accept}
	default:
		return refuse(reasonIgnored, t)
	}
}

// failed reads a text of failDetail.
func failed(text string) result {
	switch t := strings.TrimSpace(text); {
	case strings.Contains(t, "員工編號不存在"):
		return refuse(reasonUnknown, t)
	case strings.Contains(t, "重複"):
		return result{fate: punch.Accept}
	default:
		return refuse(reasonRejected, t)
	}
}

func refuse(reason, message string) result {
	return result{fate: punch.Refuse, reason: reason, message: punch.Words(message)}
}

// tpReply is the element of one company in a transferTpCard reply.
type tpReply struct {
	code   string
	counts counts
	err    error // of the counts; they are there only when code is 200
}

// parseTp finds our company in the 200 reply of transferTpCard. code and uno
// come as strings or as numbers; a number has lost its leading zeros.
func parseTp(body []byte, uno string) (tpReply, error) {
	var list []wireCounts
	if json.Unmarshal(body, &list) != nil {
		return tpReply{}, errNotOurs
	}
	for i := range list {
		w := &list[i]
		u, ok := scalar(w.UNO)
		if !ok || padUNO(u) != uno {
			continue
		}
		code, ok := scalar(w.Code)
		if !ok {
			return tpReply{}, errNotOurs
		}
		r := tpReply{code: code}
		if code == "200" {
			r.counts, r.err = w.counts()
		}
		return r, nil
	}
	return tpReply{}, fmt.Errorf("the answer names no company with our tax id: %w", errNotOurs)
}

func padUNO(s string) string {
	if len(s) < 8 {
		s = strings.Repeat("0", 8-len(s)) + s
	}
	return s
}

// parseProblem reads the {code, msg} of a 400 or 401; both are "" where it holds none.
func parseProblem(body []byte) (code, msg string) {
	var p struct {
		Code json.RawMessage `json:"code"`
		Msg  json.RawMessage `json:"msg"`
	}
	if !isObject(body) || json.Unmarshal(body, &p) != nil {
		return "", ""
	}
	code, _ = scalar(p.Code)
	if json.Unmarshal(p.Msg, &msg) != nil {
		msg = ""
	}
	return code, msg
}

// tokenReply is a token endpoint's 200.
type tokenReply struct {
	value   string
	seconds int64
}

// parseToken reads a token. A missing, unreadable or non-positive life is an hour.
func parseToken(body []byte) (tokenReply, error) {
	var w struct {
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if !isObject(body) || json.Unmarshal(body, &w) != nil {
		return tokenReply{}, errors.New("the answer is not JSON with an access_token; is a portal or proxy in between?")
	}
	if w.AccessToken == "" {
		return tokenReply{}, errors.New("the answer holds no access_token")
	}
	for i := range len(w.AccessToken) {
		if b := w.AccessToken[i]; b <= ' ' || b > '~' {
			return tokenReply{}, errors.New("the answer's access_token holds characters no token has")
		}
	}
	r := tokenReply{value: w.AccessToken, seconds: defaultLife}
	if s, ok := scalar(w.ExpiresIn); ok {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
			r.seconds = min(n, maxLife)
		}
	}
	return r, nil
}

const (
	defaultLife = 3600      // seconds, the life the vendor documents
	maxLife     = 7 * 86400 // seconds: nothing sensible is longer, and it must fit a duration
	maxWord     = 64        // bytes of a far side's code word in an error
)

// oauthError returns the RFC 6749 error word of a refused token call, "" if there is none.
func oauthError(body []byte) string {
	var w struct {
		Error json.RawMessage `json:"error"`
	}
	if !isObject(body) || json.Unmarshal(body, &w) != nil {
		return ""
	}
	s, _ := scalar(w.Error)
	if len(s) > maxWord || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return s
}

func isObject(body []byte) bool {
	b := bytes.TrimLeft(body, " \t\r\n")
	return len(b) > 0 && b[0] == '{'
}

func absent(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(raw, []byte("null"))
}

// integer reads a JSON whole number, and nothing that only looks like one.
func integer(raw json.RawMessage) (int64, bool) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil && len(raw) > 0 && raw[0] != '+'
}

// scalar reads a JSON string or number as text.
func scalar(raw json.RawMessage) (string, bool) {
	if absent(raw) {
		return "", false
	}
	if raw[0] == '"' {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return "", false
		}
		return strings.TrimSpace(s), true
	}
	if raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' {
		return string(raw), true
	}
	return "", false
}
