package sandbox

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Paths of Feishu.
const (
	FeishuTokenPath  = "/open-apis/auth/v3/tenant_access_token/internal"
	FeishuImportPath = "/open-apis/attendance/v1/user_flows/batch_create"
	FeishuQueryPath  = "/open-apis/attendance/v1/user_flows/query"
	FeishuDeletePath = "/open-apis/attendance/v1/user_flows/batch_del"
	FeishuGetPath    = "/open-apis/attendance/v1/user_flows/" // and the record id
	FeishuIDPath     = "/open-apis/contact/v3/users/batch_get_id"
)

// FeishuConfig is what a Feishu sandbox is made of.
type FeishuConfig struct {
	AppID, AppSecret string // made up at random where empty; see Credentials
	People           []Person
	AcceptAny        bool // every user id is known, People or not
}

// FeishuFaults are the switches of the Feishu sandbox. Start from
// DefaultFeishuFaults or change them in place with SetFaults.
type FeishuFaults struct {
	Wire

	TokenLifeSeconds       int  `json:"token_life_seconds"`        // of tokens issued from now on
	TokenClockAheadSeconds int  `json:"token_clock_ahead_seconds"` // Feishu's clock for tokens runs ahead by this much: tokens age without waiting
	NoTokenLife            bool `json:"no_token_life"`             // the token call's answer lacks expire; the token lives as long
	KeepRevokedToken       bool `json:"keep_revoked_token"`        // the token call hands out a revoked token again
	TokenRefusalStatus     int  `json:"token_refusal_status"`      // 400 or 200: HTTP status of a token refusal

	LimitNext    int  `json:"limit_next"`     // this many calls, token calls included, are refused with 99991400; -1 all
	RateStatus   int  `json:"rate_status"`    // 429 or 400: HTTP status of 99991400
	RateReset    int  `json:"rate_reset"`     // seconds in x-ogw-ratelimit-reset
	RateNoHeader bool `json:"rate_no_header"` // both x-ogw-ratelimit headers are absent
	RateResetNaN bool `json:"rate_reset_nan"` // x-ogw-ratelimit-reset is "soon", which is no number

	Duplicates string `json:"duplicates"` // same_record, exists or store_twice: what a repeated idempotent_id gets
	RecordIDs  string `json:"record_ids"` // full, missing, empty, or none: no flow_records in the answer at all
	StoreGood  bool   `json:"store_good"` // a call refused for one record stores the others nevertheless

	// AnswerNext business calls get Answer and store nothing; -1 all.
	AnswerNext int     `json:"answer_next"`
	Answer     Refusal `json:"answer"`
	// Poison refuses calls for the records of a user id, with that answer.
	Poison map[string]Refusal `json:"poison"`

	QuotaExceeded bool   `json:"quota_exceeded"` // 99991403 to business calls
	IPRefused     bool   `json:"ip_refused"`     // 99991401 to business calls; the token call still works
	ScopeMissing  string `json:"scope_missing"`  // a scope's name: 99991672 naming it, to business calls
}

// Values of [FeishuFaults].Duplicates, beside DuplicatesStoreTwice. A record
// without idempotent_id is always new.
const (
	DuplicatesSameRecord = "same_record" // success with the record_id of the first, stored once
	DuplicatesExists     = "exists"      // 1220600 "the object already exists"
)

// Values of RecordIDs.
const (
	RecordIDsFull    = "full"
	RecordIDsMissing = "missing"
	RecordIDsEmpty   = "empty"
	RecordIDsNone    = "none"
)

// Feishu's codes.
const (
	CodeNoToken      = 99991661
	CodeBadToken     = 99991663
	CodeBadUserToken = 99991668 // any refused token that begins with eyJ
	CodeNoScope      = 99991672
	CodeRateLimit    = 99991400
	CodeIP           = 99991401
	CodeQuota        = 99991403
	CodeBadAppID     = 10003
	CodeBadSecret    = 10014
	CodeParam        = 1220001
	CodeEmployeeType = 1220003
	CodeUnknownUser  = 1220004
	CodeGeneral      = 1220600 // read the message
	CodeSystem       = 1225000
)

// MsgExists is the message of 1220600 for a repeated idempotent_id.
const MsgExists = "the object already exists"

// MinCheckTime is the first second that may be imported: 2022-01-01 +08:00.
const MinCheckTime = 1640966400

const (
	maxFlows      = 50
	sameTokenLeft = 30 * time.Minute // with this much left, the same token is handed out again
)

// DefaultFeishuFaults is a Feishu without a fault: 50 calls a second, tokens of
// two hours, repeated keys answered with the first record. Feishu counts its 50
// for each API; one count over all paths is the stricter reading.
func DefaultFeishuFaults() FeishuFaults {
	return FeishuFaults{
		Wire:               Wire{RateLimit: 50, FailStatus: http.StatusServiceUnavailable, FailOn: OnAny},
		TokenLifeSeconds:   7200,
		TokenRefusalStatus: http.StatusBadRequest,
		RateStatus:         http.StatusTooManyRequests,
		RateReset:          1,
		Duplicates:         DuplicatesSameRecord,
		RecordIDs:          RecordIDsFull,
		Answer:             Refusal{Status: http.StatusInternalServerError, Code: CodeSystem, Msg: "internal server error"},
	}
}

func (f *FeishuFaults) check() error {
	if err := f.Wire.check(); err != nil {
		return err
	}
	if f.TokenRefusalStatus != 400 && f.TokenRefusalStatus != 200 {
		return fmt.Errorf("token_refusal_status %d: use 400 or 200", f.TokenRefusalStatus)
	}
	if f.RateStatus != 429 && f.RateStatus != 400 {
		return fmt.Errorf("rate_status %d: use 429 or 400", f.RateStatus)
	}
	if f.TokenLifeSeconds < 1 || f.TokenLifeSeconds > 7200 {
		return fmt.Errorf("token_life_seconds %d: use 1 to 7200", f.TokenLifeSeconds)
	}
	for _, v := range []struct {
		name string
		v    int
		min  int
	}{
		{"token_clock_ahead_seconds", f.TokenClockAheadSeconds, 0}, {"limit_next", f.LimitNext, -1},
		{"rate_reset", f.RateReset, 0}, {"answer_next", f.AnswerNext, -1},
	} {
		if err := atLeast(v.name, v.v, v.min); err != nil {
			return err
		}
	}
	if err := oneOf("duplicates", f.Duplicates, DuplicatesSameRecord, DuplicatesExists, DuplicatesStoreTwice); err != nil {
		return err
	}
	return oneOf("record_ids", f.RecordIDs, RecordIDsFull, RecordIDsMissing, RecordIDsEmpty, RecordIDsNone)
}

// Flow is one punch in Feishu's words, as imports send and queries return it.
type Flow struct {
	UserID       string  `json:"user_id"`
	CreatorID    string  `json:"creator_id"`
	LocationName string  `json:"location_name"`
	CheckTime    string  `json:"check_time"` // Unix seconds
	Comment      string  `json:"comment"`
	RecordID     *string `json:"record_id,omitempty"`
	IsField      bool    `json:"is_field,omitempty"`
	IsWifi       bool    `json:"is_wifi,omitempty"`
	SSID         string  `json:"ssid,omitempty"`
	BSSID        string  `json:"bssid,omitempty"`
	Type         int     `json:"type"`
	ExternalID   string  `json:"external_id,omitempty"`
	IdempotentID string  `json:"idempotent_id,omitempty"`
}

// FlowRecord is one flow that Feishu accepted.
type FlowRecord struct {
	Order        int       `json:"order"` // from 1, in order of acceptance
	Call         int       `json:"call"`  // number of the call that brought it
	At           time.Time `json:"at"`
	RecordID     string    `json:"record_id"`
	EmployeeType string    `json:"employee_type"` // what kind of id Flow.UserID is
	Flow         Flow      `json:"flow"`
	Raw          string    `json:"raw"`              // the record's bytes as they came
	Repeat       int       `json:"repeat,omitempty"` // Order of the first with the same idempotent_id
	Deleted      bool      `json:"deleted,omitempty"`

	seconds int64
	person  int // index in people, -1 if not in it
}

// Feishu is Feishu's attendance on a desk.
type Feishu struct {
	id, secret string
	core
	people    []Person
	acceptAny bool
	faults    FeishuFaults
	tokens    []*feishuToken // the last one is the current one
	ledger    []FlowRecord
	repeats   []FlowRecord
	byKey     map[string]int // idempotent_id → Order of the first
	nextID    int64
}

type feishuToken struct {
	name    string
	ends    time.Time
	uses    int
	revoked bool
}

// NewFeishu returns a Feishu without a fault.
func NewFeishu(cfg FeishuConfig) *Feishu {
	f := &Feishu{id: cfg.AppID, secret: cfg.AppSecret, faults: DefaultFeishuFaults(), nextID: 6709359313699356941}
	if f.id == "" {
		f.id = "cli_sandbox" + random(4)
	}
	if f.secret == "" {
		f.secret = "not-a-secret-" + random(12)
	}
	f.SetPeople(cfg.People, cfg.AcceptAny)
	f.clear()
	return f
}

// Credentials returns the app id and secret that the token call takes.
func (f *Feishu) Credentials() (id, secret string) { return f.id, f.secret }

// SetPeople replaces the employees Feishu knows; with acceptAny it knows
// everybody. Flows of people who are no
// longer in the list stay findable by the id they came with.
func (f *Feishu) SetPeople(people []Person, acceptAny bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acceptAny = acceptAny
	f.people = slices.Clone(people)
	for i := range f.ledger {
		f.ledger[i].person = f.find(f.ledger[i].EmployeeType, f.ledger[i].Flow.UserID)
	}
}

// Faults returns a copy of the switches.
func (f *Feishu) Faults() FeishuFaults {
	f.mu.Lock()
	defer f.mu.Unlock()
	return clone(f.faults)
}

// SetFaults changes the switches in place. It panics on a value that the control
// page would refuse, leaving the switches as they were.
func (f *Feishu) SetFaults(change func(*FeishuFaults)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := clone(f.faults)
	change(&v)
	if err := v.check(); err != nil {
		panic("sandbox: " + err.Error())
	}
	f.faults = v
}

// patchFaults changes the switches named in a JSON object.
func (f *Feishu) patchFaults(object []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := clone(f.faults)
	if err := decodeStrict(object, &v); err != nil {
		return err
	}
	if err := v.check(); err != nil {
		return err
	}
	f.faults = v
	return nil
}

// Revoke ends every token that was issued. The next token call gets a new one,
// or, with KeepRevokedToken, the same one.
func (f *Feishu) Revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tokens {
		t.revoked = true
	}
}

// Reset forgets ledger, calls, counters and tokens and sets the faults to their
// defaults. People and credentials stay.
func (f *Feishu) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clear()
	f.faults = DefaultFeishuFaults()
}

func (f *Feishu) clear() {
	f.core.reset()
	f.tokens, f.ledger, f.repeats, f.byKey = nil, nil, nil, map[string]int{}
}

// Ledger returns every accepted flow in order of arrival, deleted ones too.
func (f *Feishu) Ledger() []FlowRecord {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]FlowRecord(nil), f.ledger...)
}

// Repeats returns every flow whose idempotent_id was in the ledger already when
// it came, whatever it was answered.
func (f *Feishu) Repeats() []FlowRecord {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]FlowRecord(nil), f.repeats...)
}

// Calls returns the last MaxCalls calls, oldest first.
func (f *Feishu) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.callList()
}

// Counters returns the counts since the start or the last Reset.
func (f *Feishu) Counters() Counters {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counters
}

// ServeHTTP answers as Feishu does. It may panic with http.ErrAbortHandler.
func (f *Feishu) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.handle(w, r, f) }

func (f *Feishu) wire() *Wire              { return &f.faults.Wire }
func (f *Feishu) isToken(path string) bool { return path == FeishuTokenPath }

func (f *Feishu) tooFast() answer {
	a := f.refuse(Refusal{Status: f.faults.RateStatus, Code: CodeRateLimit, Msg: "request trigger frequency limit"}, nil)
	if !f.faults.RateNoHeader {
		a.set("x-ogw-ratelimit-limit", strconv.Itoa(f.faults.RateLimit))
		a.set("x-ogw-ratelimit-reset", strconv.Itoa(f.faults.RateReset))
		if f.faults.RateResetNaN {
			a.set("x-ogw-ratelimit-reset", "soon")
		}
	}
	return a
}

func (f *Feishu) failed(status int) answer {
	return answer{status: status, ctype: "text/plain; charset=utf-8", body: []byte(http.StatusText(status) + "\n")}
}

// refuse writes the body of every error beyond the token call's.
func (f *Feishu) refuse(r Refusal, more map[string]any) answer {
	if r.Status == 0 {
		r.Status = http.StatusBadRequest
	}
	logID := time.Now().UTC().Format("20060102150405") + strings.ToUpper(random(9))
	e := map[string]any{"log_id": logID, "troubleshooter": "https://open.feishu.cn/search?log_id=" + logID}
	for k, v := range more {
		e[k] = v
	}
	a := jsonAnswer(r.Status, r.Code, map[string]any{"code": r.Code, "msg": r.Msg, "error": e})
	a.set("X-Tt-Logid", logID)
	return a
}

func (f *Feishu) ok(data any) answer {
	return jsonAnswer(http.StatusOK, 0, map[string]any{"code": 0, "msg": "success", "data": data})
}

func (f *Feishu) serve(call *Call, r *http.Request, body []byte) answer {
	flowID, oneFlow := strings.CutPrefix(r.URL.Path, FeishuGetPath)
	switch {
	case r.Method == http.MethodPost && (r.URL.Path == FeishuTokenPath || r.URL.Path == FeishuImportPath ||
		r.URL.Path == FeishuQueryPath || r.URL.Path == FeishuDeletePath || r.URL.Path == FeishuIDPath):
	case r.Method == http.MethodGet && oneFlow && flowID != "" && !strings.Contains(flowID, "/"):
	default:
		return answer{status: http.StatusNotFound, ctype: "text/plain", body: []byte("404 page not found")}
	}
	if take(&f.faults.LimitNext) {
		f.counters.RateLimited++
		call.Note = "limit_next"
		return f.tooFast()
	}
	if r.URL.Path == FeishuTokenPath {
		return f.token(r, body)
	}
	if f.faults.IPRefused {
		call.Note = "ip_refused"
		return f.refuse(Refusal{Code: CodeIP, Msg: "ip not in the allow list of the app"}, nil)
	}
	if refused := f.authorise(r); refused != nil {
		f.counters.Refused++
		return *refused
	}
	if f.faults.QuotaExceeded {
		call.Note = "quota_exceeded"
		return f.refuse(Refusal{Code: CodeQuota, Msg: "this month's api call quota has been exceeded"}, nil)
	}
	if scope := f.faults.ScopeMissing; scope != "" {
		call.Note = "scope_missing"
		return f.refuse(Refusal{Code: CodeNoScope, Msg: "Access denied. One of the following scopes is required: [" + scope + "]"},
			map[string]any{"permission_violations": []map[string]string{{"type": "action_scope_required", "subject": scope}}})
	}
	if take(&f.faults.AnswerNext) {
		call.Note = "answer_next"
		return f.refuse(f.faults.Answer, nil)
	}
	if r.Method == http.MethodPost && !isFeishuJSON(r) {
		return f.param("Content-Type must be application/json; charset=utf-8")
	}
	if r.URL.Path == FeishuIDPath {
		return f.lookUp(r, body)
	}
	if r.URL.Path == FeishuDeletePath {
		return f.delete(body)
	}
	kind := r.URL.Query().Get("employee_type")
	if kind != "employee_no" && kind != "employee_id" {
		return f.refuse(Refusal{Code: CodeEmployeeType, Msg: "employee_type invalid"}, nil)
	}
	switch {
	case r.Method == http.MethodGet:
		return f.get(kind, flowID)
	case r.URL.Path == FeishuQueryPath:
		return f.query(kind, body)
	}
	return f.imports(call, kind, body)
}

func (f *Feishu) param(why string) answer {
	return f.refuse(Refusal{Code: CodeParam, Msg: "param invalid: " + why}, nil)
}

// isFeishuJSON wants application/json; charset=utf-8.
func isFeishuJSON(r *http.Request) bool {
	t, p, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && t == "application/json" && strings.EqualFold(p["charset"], "utf-8")
}

func (f *Feishu) now() time.Time {
	return time.Now().Add(time.Duration(f.faults.TokenClockAheadSeconds) * time.Second)
}

// token refuses with HTTP 200 and a code, as Feishu does.
func (f *Feishu) token(r *http.Request, body []byte) answer {
	var in struct {
		ID     string `json:"app_id"`
		Secret string `json:"app_secret"`
	}
	if !isFeishuJSON(r) || json.Unmarshal(body, &in) != nil || !strings.HasPrefix(in.ID, "cli_") || in.Secret == "" {
		return jsonAnswer(http.StatusOK, CodeBadAppID, map[string]any{"code": CodeBadAppID, "data": struct{}{}, "msg": "invalid param"})
	}
	if in.ID != f.id || in.Secret != f.secret {
		msg := "app secret invalid"
		if in.ID != f.id {
			msg = "app id not exists"
		}
		return jsonAnswer(http.StatusOK, CodeBadSecret, map[string]any{"code": CodeBadSecret, "msg": msg})
	}
	now := f.now()
	f.tokens = slices.DeleteFunc(f.tokens, func(t *feishuToken) bool { return !now.Before(t.ends) })
	var t *feishuToken
	if n := len(f.tokens); n > 0 {
		t = f.tokens[n-1]
	}
	if t == nil || t.ends.Sub(now) < sameTokenLeft || t.revoked {
		if t == nil || !t.revoked || !f.faults.KeepRevokedToken {
			t = &feishuToken{name: "t-" + random(20), ends: now.Add(time.Duration(f.faults.TokenLifeSeconds) * time.Second)}
			f.tokens = append(f.tokens, t)
			f.counters.TokensIssued++
		}
	}
	said := map[string]any{"code": 0, "msg": "ok", "tenant_access_token": t.name, "expire": int(t.ends.Sub(now) / time.Second)}
	if f.faults.NoTokenLife {
		delete(said, "expire")
	}
	return jsonAnswer(http.StatusOK, 0, said)
}

func (f *Feishu) authorise(r *http.Request) *answer {
	refuse := func(code int, msg string) *answer {
		a := f.refuse(Refusal{Status: f.faults.TokenRefusalStatus, Code: code, Msg: msg}, nil)
		return &a
	}
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || name == "" {
		return refuse(CodeNoToken, "Missing access token for authorization. Please make a request with token attached.")
	}
	now := f.now()
	for _, t := range f.tokens {
		if t.name != name || !now.Before(t.ends) {
			continue
		}
		t.uses++
		if f.faults.RevokeAfter > 0 && t.uses > f.faults.RevokeAfter {
			t.revoked = true
		}
		if !t.revoked {
			return nil
		}
	}
	code := CodeBadToken
	if strings.HasPrefix(name, "eyJ") {
		code = CodeBadUserToken
	}
	return refuse(code, "Invalid access token for authorization. Please make a request with token attached.")
}

// find returns the index of the person with an id of that kind, -1 for nobody.
func (f *Feishu) find(kind, id string) int {
	return slices.IndexFunc(f.people, func(p Person) bool { return id != "" && idOf(p, kind) == id })
}

func idOf(p Person, kind string) string {
	if kind == "employee_id" {
		return p.FeishuID
	}
	return p.Number
}

func (f *Feishu) imports(call *Call, kind string, body []byte) answer {
	var in struct {
		Records []json.RawMessage `json:"flow_records"`
	}
	if json.Unmarshal(body, &in) != nil {
		return f.param("the body is not a JSON object with flow_records")
	}
	if len(in.Records) == 0 {
		return f.param("flow_records is empty")
	}
	if len(in.Records) > maxFlows {
		return f.refuse(Refusal{Code: CodeGeneral, Msg: "operate too much flow"}, nil)
	}
	// Judge all, then store all or, with StoreGood, the good part.
	var refused *answer
	records := make([]*FlowRecord, len(in.Records))
	inCall := map[string]bool{}
	for i, raw := range in.Records {
		rec, no := f.judge(kind, raw)
		if no == nil && f.faults.Duplicates == DuplicatesExists && rec.Flow.IdempotentID != "" {
			if first := f.byKey[rec.Flow.IdempotentID]; first > 0 || inCall[rec.Flow.IdempotentID] {
				no = &Refusal{Code: CodeGeneral, Msg: MsgExists}
				if first > 0 {
					rec.Call, rec.At, rec.Repeat = call.Number, call.At, first
					f.repeats = append(f.repeats, *rec)
					f.counters.Repeats++
				}
			}
			inCall[rec.Flow.IdempotentID] = true
		}
		if no != nil {
			f.counters.Rejected++
			if refused == nil {
				a := f.refuse(*no, nil)
				refused = &a
			}
			continue
		}
		records[i] = rec
	}
	out, accepted := []Flow{}, 0
	for _, rec := range records {
		if rec == nil || refused != nil && !f.faults.StoreGood {
			continue
		}
		rec.Call, rec.At = call.Number, call.At
		id, stored := f.store(rec)
		if stored {
			accepted++
		}
		flow := rec.Flow
		switch f.faults.RecordIDs {
		case RecordIDsFull:
			flow.RecordID = &id
		case RecordIDsEmpty:
			flow.RecordID = new(string)
		}
		out = append(out, flow)
	}
	if refused != nil {
		refused.stored, refused.accept = accepted > 0, accepted
		return *refused
	}
	if f.faults.RecordIDs == RecordIDsNone {
		out = out[:0]
	}
	a := f.ok(map[string]any{"flow_records": out})
	a.stored, a.accept = true, accepted
	return a
}

// judge reads one record and says why it is refused, or nil.
func (f *Feishu) judge(kind string, raw json.RawMessage) (*FlowRecord, *Refusal) {
	bad := func(msg string) (*FlowRecord, *Refusal) {
		return nil, &Refusal{Code: CodeParam, Msg: "param invalid: " + msg}
	}
	var m map[string]json.RawMessage
	if !isJSON(raw, '{') || json.Unmarshal(raw, &m) != nil {
		return bad("a record is not a JSON object")
	}
	rec := &FlowRecord{EmployeeType: kind, Raw: string(raw)}
	for _, field := range []struct {
		name     string
		into     any
		required bool
	}{
		{"user_id", &rec.Flow.UserID, true}, {"creator_id", &rec.Flow.CreatorID, true},
		{"location_name", &rec.Flow.LocationName, true}, {"check_time", &rec.Flow.CheckTime, true},
		{"comment", &rec.Flow.Comment, true},
		{"is_field", &rec.Flow.IsField, false}, {"is_wifi", &rec.Flow.IsWifi, false},
		{"ssid", &rec.Flow.SSID, false}, {"bssid", &rec.Flow.BSSID, false}, {"type", &rec.Flow.Type, false},
		{"external_id", &rec.Flow.ExternalID, false}, {"idempotent_id", &rec.Flow.IdempotentID, false},
	} {
		v, there := m[field.name]
		if there && (isNull(v) || json.Unmarshal(v, field.into) != nil) {
			return bad(field.name + " has the wrong type")
		}
		if s, ok := field.into.(*string); ok && field.required && *s == "" {
			return bad(field.name + " is required")
		}
	}
	if rec.Flow.Type < 0 || rec.Flow.Type > 7 {
		return bad("type")
	}
	n, err := strconv.ParseInt(rec.Flow.CheckTime, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != rec.Flow.CheckTime || len(rec.Flow.CheckTime) != 10 || n < MinCheckTime {
		return nil, &Refusal{Code: CodeGeneral, Msg: "time is invalid"}
	}
	rec.seconds = n
	if p, ok := f.faults.Poison[rec.Flow.UserID]; ok {
		return nil, &p
	}
	rec.person = f.find(kind, rec.Flow.UserID)
	if !f.acceptAny && (rec.person < 0 || f.find(kind, rec.Flow.CreatorID) < 0) {
		return nil, &Refusal{Code: CodeUnknownUser, Msg: "user_id is not exist or does not have permission"}
	}
	return rec, nil
}

// store files a record unless its key is known, and returns its record id.
func (f *Feishu) store(rec *FlowRecord) (id string, stored bool) {
	key := rec.Flow.IdempotentID
	if first := f.byKey[key]; key != "" && first > 0 {
		rec.Repeat = first
		f.counters.Repeats++
		f.repeats = append(f.repeats, *rec)
		if f.faults.Duplicates == DuplicatesSameRecord {
			return f.ledger[first-1].RecordID, false
		}
	}
	rec.Order = len(f.ledger) + 1
	rec.RecordID = strconv.FormatInt(f.nextID, 10)
	f.nextID++
	if key != "" && rec.Repeat == 0 {
		f.byKey[key] = rec.Order
	}
	f.ledger = append(f.ledger, *rec)
	return rec.RecordID, true
}

// shown is a stored record in the words of one kind of id.
func (f *Feishu) shown(rec *FlowRecord, kind string) Flow {
	flow := rec.Flow
	flow.RecordID = &rec.RecordID
	if kind != rec.EmployeeType {
		if rec.person >= 0 {
			flow.UserID = idOf(f.people[rec.person], kind)
		}
		if i := f.find(rec.EmployeeType, rec.Flow.CreatorID); i >= 0 {
			flow.CreatorID = idOf(f.people[i], kind)
		}
	}
	return flow
}

func (f *Feishu) query(kind string, body []byte) answer {
	var in struct {
		Users []string `json:"user_ids"`
		From  string   `json:"check_time_from"`
		To    string   `json:"check_time_to"`
	}
	if json.Unmarshal(body, &in) != nil || len(in.Users) == 0 || len(in.Users) > 50 {
		return f.param("user_ids must be 1 to 50 strings")
	}
	from, err1 := strconv.ParseInt(in.From, 10, 64)
	to, err2 := strconv.ParseInt(in.To, 10, 64)
	if err1 != nil || err2 != nil {
		return f.param("check_time_from and check_time_to must be seconds in strings")
	}
	out := []Flow{}
	for i := range f.ledger {
		rec := &f.ledger[i]
		if flow := f.shown(rec, kind); !rec.Deleted && rec.seconds >= from && rec.seconds < to && slices.Contains(in.Users, flow.UserID) {
			out = append(out, flow)
		}
	}
	return f.ok(map[string]any{"user_flow_results": out})
}

// flow returns the stored record with that id that was not deleted, or nil.
func (f *Feishu) flow(id string) *FlowRecord {
	i := slices.IndexFunc(f.ledger, func(r FlowRecord) bool { return r.RecordID == id && !r.Deleted })
	if i < 0 {
		return nil
	}
	return &f.ledger[i]
}

func (f *Feishu) get(kind, id string) answer {
	rec := f.flow(id)
	if rec == nil {
		return f.refuse(Refusal{Code: CodeGeneral, Msg: "rule does not exist"}, nil)
	}
	return f.ok(f.shown(rec, kind))
}

func (f *Feishu) delete(body []byte) answer {
	var in struct {
		IDs []string `json:"record_ids"`
	}
	if json.Unmarshal(body, &in) != nil || len(in.IDs) == 0 {
		return f.param("record_ids must be strings")
	}
	done, left, why := []string{}, []string{}, map[string]string{}
	for _, id := range in.IDs {
		if rec := f.flow(id); rec != nil {
			rec.Deleted = true
			done = append(done, id)
		} else {
			left = append(left, id)
			why[id] = "rule does not exist"
		}
	}
	msg := "success"
	if len(left) > 0 {
		b, err := json.Marshal(why)
		if err != nil {
			panic(err) // a map of strings
		}
		msg = string(b)
	}
	return jsonAnswer(http.StatusOK, 0, map[string]any{"code": 0, "msg": msg,
		"data": map[string]any{"success_record_ids": done, "fail_record_ids": left}})
}

func (f *Feishu) lookUp(r *http.Request, body []byte) answer {
	var in struct {
		Emails   []string `json:"emails"`
		Mobiles  []string `json:"mobiles"`
		Resigned bool     `json:"include_resigned"`
	}
	if json.Unmarshal(body, &in) != nil || len(in.Emails) > 50 || len(in.Mobiles) > 50 || len(in.Emails)+len(in.Mobiles) == 0 {
		return f.param("emails and mobiles must be strings, at most 50 of each")
	}
	kind := r.URL.Query().Get("user_id_type")
	if kind == "" {
		kind = "open_id"
	}
	if !slices.Contains([]string{"open_id", "union_id", "user_id"}, kind) {
		return f.param("user_id_type")
	}
	type status struct {
		Frozen    bool `json:"is_frozen"`
		Resigned  bool `json:"is_resigned"`
		Activated bool `json:"is_activated"`
		Exited    bool `json:"is_exited"`
		Unjoined  bool `json:"is_unjoin"`
	}
	type user struct {
		UserID string  `json:"user_id,omitempty"`
		Mobile string  `json:"mobile,omitempty"`
		Email  string  `json:"email,omitempty"`
		Status *status `json:"status,omitempty"`
	}
	list := []user{}
	add := func(u user, is func(Person) bool) {
		if i := slices.IndexFunc(f.people, func(p Person) bool { return is(p) && (in.Resigned || !p.Resigned) }); i >= 0 {
			u.UserID = contactID(f.people[i], kind)
			u.Status = &status{Resigned: f.people[i].Resigned, Activated: !f.people[i].Resigned}
		}
		list = append(list, u)
	}
	for _, v := range in.Mobiles {
		add(user{Mobile: v}, func(p Person) bool { return v != "" && p.Mobile == v })
	}
	for _, v := range in.Emails {
		add(user{Email: v}, func(p Person) bool { return v != "" && p.Email == v })
	}
	return f.ok(map[string]any{"user_list": list})
}

// contactID is a person's id of the contact calls; user_id is what attendance
// calls employee_id.
func contactID(p Person, kind string) string {
	if kind == "user_id" {
		return p.FeishuID
	}
	sum := sha256.Sum256([]byte(kind + " " + p.Number))
	prefix := "ou_"
	if kind == "union_id" {
		prefix = "on_"
	}
	return fmt.Sprintf("%s%x", prefix, sum[:16])
}

var (
	_ http.Handler = (*Feishu)(nil)
	_ service      = (*Feishu)(nil)
)
