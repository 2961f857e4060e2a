package sandbox

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// Paths of the sign-in system (線上打卡系統).
const (
	SigninLoginPath   = "/api/public/user/login"
	SigninLogoutPath  = "/api/public/user/logout"
	SigninPunchPath   = "/api/public/signin"
	SigninRecordsPath = "/api/public/signinDetail"
)

// SigninConfig is what a sign-in sandbox is made of.
type SigninConfig struct {
	UserID, Password string // the account that may log in; made up at random where empty
	// People may be punched for, under their SigninID, or their Number without one.
	// The account is one of them without being named.
	People    []Person
	AcceptAny bool // every user id is known, People or not
}

// SigninFaults are the switches of the sign-in sandbox.
type SigninFaults struct {
	Wire

	TokenLifeSeconds int    `json:"token_life_seconds"` // exp - iat of tokens issued from now on
	TokenNotJWT      bool   `json:"token_not_jwt"`      // tokens are random text; they live as long
	TokenTransport   string `json:"token_transport"`    // bearer, header:<Name>, body:token_key (token_key in the query of a GET) or none
	TokenCode        int    `json:"token_code"`         // code of the 401 for a missing, expired or refused token
	KeepAtLogout     bool   `json:"keep_at_logout"`     // a logout leaves the token alive

	EnforceSelf bool     `json:"enforce_self"` // 403 unless the token's employee is the punch's user_id
	NotApproved []string `json:"not_approved"` // user ids that are answered 40101, at the login and, by StrangerStatus, for their punches
	LockAfter   int      `json:"lock_after"`   // bad passwords in a row that lock an account; 0 never. A locked one is answered 40103

	// StrangerStatus is how a punch by somebody unknown or not approved is refused:
	// 401 with 40101, or 400 with 40001.
	StrangerStatus int    `json:"stranger_status"`
	Duplicates     string `json:"duplicates"` // store_once, store_twice or conflict: what a punch with known user, time and status gets

	LoginDayTwice bool `json:"login_day_twice"` // the login's answer has the key login_day twice, as in the system's own page
	TrailingComma bool `json:"trailing_comma"`  // answers have commas before closing brackets, as in the system's own page
	ErrorInData   bool `json:"error_in_data"`   // the words of a refusal are in data, not in message
	ClockAhead    int  `json:"clock_ahead_seconds"`

	ExceptionNext int     `json:"exception_next"` // this many calls are answered HTTP 200 {"status":-1,"message":…} and store nothing; -1 all
	LoseNext      int     `json:"lose_next"`      // this many punches are answered as stored, and are not; -1 all
	AnswerNext    int     `json:"answer_next"`    // this many calls get Answer and store nothing; -1 all
	AnswerOn      string  `json:"answer_on"`      // any, token or business: which calls ExceptionNext and AnswerNext hit
	Answer        Refusal `json:"answer"`
	// Poison refuses the punches of a user id with that answer.
	Poison map[string]Refusal `json:"poison"`
}

// Values of [SigninFaults].Duplicates, beside DuplicatesStoreTwice.
const (
	DuplicatesStoreOnce = "store_once" // success, stored once
	DuplicatesConflict  = "conflict"   // HTTP 409, stored once
)

// The sign-in system's codes, and its words for them.
const (
	CodeNotApproved = 40101
	CodeBadPassword = 40103
	MsgNotApproved  = "使用者不存在，未經核可，無法使用打卡系統"
	MsgBadPassword  = "登入失敗; AD帳號或密碼輸入錯誤"

	codeField = 40001 // the validator's; the real one is not known
)

// DefaultSigninFaults is a sign-in system without a fault. It has no known rate
// limit. What its page leaves open is as the client believes it to be.
func DefaultSigninFaults() SigninFaults {
	return SigninFaults{
		Wire:             Wire{FailStatus: http.StatusServiceUnavailable, FailOn: OnAny},
		TokenLifeSeconds: 600, TokenTransport: "bearer", TokenCode: 40100, LockAfter: 5,
		StrangerStatus: http.StatusUnauthorized, Duplicates: DuplicatesStoreOnce, LoginDayTwice: true,
		AnswerOn: OnBusiness, Answer: Refusal{Status: http.StatusBadRequest, Code: codeField, Msg: "validation failed"},
	}
}

func (f *SigninFaults) check() error {
	if err := f.Wire.check(); err != nil {
		return err
	}
	if f.TokenLifeSeconds < 1 || f.TokenLifeSeconds > 86400 {
		return fmt.Errorf("token_life_seconds %d: use 1 to 86400", f.TokenLifeSeconds)
	}
	if name, ok := strings.CutPrefix(f.TokenTransport, "header:"); !ok || name == "" {
		if err := oneOf("token_transport", f.TokenTransport, "bearer", "header:<Name>", "body:token_key", "none"); err != nil {
			return err
		}
	}
	if f.StrangerStatus != 400 && f.StrangerStatus != 401 {
		return fmt.Errorf("stranger_status %d: use 400 or 401", f.StrangerStatus)
	}
	for _, v := range []struct {
		name string
		v    int
		min  int
	}{{"lock_after", f.LockAfter, 0}, {"exception_next", f.ExceptionNext, -1}, {"lose_next", f.LoseNext, -1}, {"answer_next", f.AnswerNext, -1}} {
		if err := atLeast(v.name, v.v, v.min); err != nil {
			return err
		}
	}
	if err := oneOf("answer_on", f.AnswerOn, OnAny, OnToken, OnBusiness); err != nil {
		return err
	}
	return oneOf("duplicates", f.Duplicates, DuplicatesStoreOnce, DuplicatesStoreTwice, DuplicatesConflict)
}

// SigninRecord is one punch that the sign-in system accepted.
type SigninRecord struct {
	Order    int       `json:"order"` // from 1, in order of acceptance
	Call     int       `json:"call"`  // number of the call that brought it
	At       time.Time `json:"at"`
	UserID   string    `json:"user_id"`
	GroupID  string    `json:"group_id"`
	SignDate string    `json:"sign_date"`
	Status   string    `json:"status"`
	Raw      string    `json:"raw"`              // the body as it came
	Repeat   int       `json:"repeat,omitempty"` // Order of the first with the same user, time and status

	time time.Time
}

// Signin is the sign-in system on a desk. It has one account with a password and
// punches for everybody it knows.
type Signin struct {
	user, password string
	core
	people    []Person
	acceptAny bool
	faults    SigninFaults
	keys      map[string][]byte // of each user's tokens; a new one ends them all
	plain     map[string]signinToken
	uses      map[string]int // of a token
	bad       int            // wrong passwords in a row
	locked    bool
	logins    int // that asked for the account's password to be checked
	ledger    []SigninRecord
	repeats   []SigninRecord
}

// signinToken is a token that is no JWT.
type signinToken struct {
	user string
	ends time.Time
}

// NewSignin returns a sign-in system without a fault.
func NewSignin(cfg SigninConfig) *Signin {
	s := &Signin{user: cfg.UserID, password: cfg.Password, faults: DefaultSigninFaults()}
	if s.user == "" {
		s.user = "svc-" + random(4)
	}
	if s.password == "" {
		s.password = "not-a-secret-" + random(12)
	}
	s.SetPeople(cfg.People, cfg.AcceptAny)
	s.clear()
	return s
}

// Credentials returns the account that may log in.
func (s *Signin) Credentials() (user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user, s.password
}

// SetPassword changes the account's password, as its owner would in the directory;
// a lock stays.
func (s *Signin) SetPassword(p string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password = p
}

// SetPeople replaces the users that can be punched for; with acceptAny everybody can.
func (s *Signin) SetPeople(people []Person, acceptAny bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.people, s.acceptAny = slices.Clone(people), acceptAny
}

// Faults returns a copy of the switches.
func (s *Signin) Faults() SigninFaults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clone(s.faults)
}

// SetFaults changes the switches in place. It panics on a value that the control
// page would refuse, leaving the switches as they were.
func (s *Signin) SetFaults(change func(*SigninFaults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := clone(s.faults)
	change(&v)
	if err := v.check(); err != nil {
		panic("sandbox: " + err.Error())
	}
	s.faults = v
}

// patchFaults changes the switches named in a JSON object.
func (s *Signin) patchFaults(object []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := clone(s.faults)
	if err := decodeStrict(object, &v); err != nil {
		return err
	}
	if err := v.check(); err != nil {
		return err
	}
	s.faults = v
	return nil
}

// Revoke ends every token that was issued.
func (s *Signin) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endTokens()
}

func (s *Signin) endTokens() {
	s.keys, s.plain, s.uses = map[string][]byte{}, map[string]signinToken{}, map[string]int{}
}

// Reset forgets ledger, calls, counters, tokens and the lock, and sets the faults
// to their defaults. People and credentials stay.
func (s *Signin) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.faults = DefaultSigninFaults()
}

func (s *Signin) clear() {
	s.core.reset()
	s.endTokens()
	s.ledger, s.repeats, s.bad, s.locked, s.logins = nil, nil, 0, false, 0
}

// Ledger returns every accepted punch in order of arrival.
func (s *Signin) Ledger() []SigninRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]SigninRecord(nil), s.ledger...)
}

// Calls returns the last MaxCalls calls, oldest first.
func (s *Signin) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.callList()
}

// Counters returns what has been counted.
func (s *Signin) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters
}

// Locked reports whether the account is locked, and how many logins had its
// password checked: each is one that the directory saw.
func (s *Signin) Locked() (locked bool, logins int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locked, s.logins
}

// ServeHTTP serves the calls as the package comment says.
func (s *Signin) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handle(w, r, s) }

func (s *Signin) wire() *Wire              { return &s.faults.Wire }
func (s *Signin) isToken(path string) bool { return path == SigninLoginPath }
func (s *Signin) tooFast() answer {
	return s.refuse(http.StatusTooManyRequests, http.StatusTooManyRequests, "too many requests")
}
func (s *Signin) failed(status int) answer { return s.refuse(status, status, http.StatusText(status)) }

// Everything that the system says about time is in Taiwan's.
var taiwan = time.FixedZone("", 8*60*60)

func (s *Signin) datetime() string {
	now := time.Now().Add(time.Duration(s.faults.ClockAhead) * time.Second).In(taiwan)
	return fmt.Sprintf(`{"tw_date":%q,"tw_time":%q,"tw_day":%q%s}`,
		now.Format("2006/01/02"), now.Format(time.TimeOnly), signinDay(now), s.comma())
}

func signinDay(t time.Time) string {
	return "(" + string([]rune("日一二三四五六")[t.Weekday()]) + ")"
}

func (s *Signin) comma() string {
	if s.faults.TrailingComma {
		return ","
	}
	return ""
}

func (s *Signin) refuse(status, code int, msg string) answer {
	where := "message"
	if s.faults.ErrorInData {
		where = "data"
	}
	if status == 0 {
		status = http.StatusBadRequest
	}
	body := fmt.Sprintf(`{"statusCode":%d,"code":%d,"datetime":%s,"error":%q,%q:%s%s}`,
		status, code, s.datetime(), http.StatusText(status), where, quoteJSON(msg), s.comma())
	return answer{status: status, code: code, ctype: "application/json; charset=utf-8", body: []byte(body)}
}

// ok answers with data, the text of a JSON value; "" for none.
func (s *Signin) ok(data string) answer {
	if data != "" {
		data = `,"data":` + data
	}
	body := fmt.Sprintf(`{"code":"00","datetime":%s%s%s}`, s.datetime(), data, s.comma())
	return answer{status: http.StatusOK, ctype: "application/json; charset=utf-8", body: []byte(body)}
}

// quoteJSON writes a text as JSON, Chinese and all.
func quoteJSON(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic(err) // a text
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (s *Signin) serve(call *Call, r *http.Request, body []byte) answer {
	post := r.Method == http.MethodPost
	get := r.Method == http.MethodGet
	var does func() answer
	switch {
	case r.URL.Path == SigninLoginPath && post:
		does = func() answer { return s.login(call, body) }
	case r.URL.Path == SigninLogoutPath && post:
		does = func() answer { return s.logout(body) }
	case r.URL.Path == SigninPunchPath && post:
		does = func() answer { return s.punch(call, r, body) }
	case r.URL.Path == SigninPunchPath && get:
		does = func() answer { return s.today(r) }
	case r.URL.Path == SigninRecordsPath && get:
		does = func() answer { return s.records(r) }
	case r.URL.Path == SigninLoginPath, r.URL.Path == SigninLogoutPath, r.URL.Path == SigninPunchPath, r.URL.Path == SigninRecordsPath:
		return answer{status: http.StatusMethodNotAllowed, ctype: "text/plain; charset=utf-8", body: []byte("Method Not Allowed")}
	default:
		return answer{status: http.StatusNotFound, ctype: "text/plain; charset=utf-8", body: []byte("Not Found")}
	}
	if on := s.faults.AnswerOn; on == OnAny || (on == OnToken) == s.isToken(r.URL.Path) {
		if take(&s.faults.ExceptionNext) {
			call.Note = "exception_next"
			return jsonAnswer(http.StatusOK, 0, map[string]any{"status": -1, "message": "relation \"signin\" does not exist"})
		}
		if take(&s.faults.AnswerNext) {
			call.Note = "answer_next"
			a := s.faults.Answer
			return s.refuse(a.Status, a.Code, a.Msg)
		}
	}
	if post && mediaType(r) != "application/json" {
		return s.refuse(http.StatusBadRequest, codeField, "Content-Type must be application/json")
	}
	if r.URL.Path != SigninLoginPath && s.faults.TokenTransport != "none" {
		if user := s.authorise(r, body); user == "" {
			s.counters.Refused++
			return s.refuse(http.StatusUnauthorized, s.faults.TokenCode, "token missing, expired or refused")
		}
	}
	return does()
}

// fields reads an object of strings, all of them required.
func fields(body []byte, into map[string]*string) error {
	var m map[string]json.RawMessage
	if !isJSON(body, '{') || json.Unmarshal(body, &m) != nil {
		return fmt.Errorf("the body is not a JSON object")
	}
	for name, v := range into {
		raw, ok := m[name]
		if !ok || isNull(raw) || json.Unmarshal(raw, v) != nil || *v == "" {
			return fmt.Errorf("%s is required and must be a string", name)
		}
	}
	return nil
}

func (s *Signin) knows(user string) bool {
	if slices.Contains(s.faults.NotApproved, user) {
		return false
	}
	return s.acceptAny || user == s.user || slices.ContainsFunc(s.people, func(p Person) bool { return p.signinID() == user })
}

func (s *Signin) login(call *Call, body []byte) answer {
	var user, password string
	if err := fields(body, map[string]*string{"user_id": &user, "password": &password}); err != nil {
		return s.refuse(http.StatusBadRequest, codeField, err.Error())
	}
	if !s.knows(user) {
		return s.refuse(http.StatusUnauthorized, CodeNotApproved, MsgNotApproved)
	}
	if user != s.user { // the others' passwords are not known here
		return s.refuse(http.StatusUnauthorized, CodeBadPassword, MsgBadPassword)
	}
	s.logins++
	if password != s.password {
		s.bad++
		s.locked = s.locked || s.faults.LockAfter > 0 && s.bad >= s.faults.LockAfter
	}
	if s.locked {
		call.Note = "account locked"
	}
	if s.locked || password != s.password {
		return s.refuse(http.StatusUnauthorized, CodeBadPassword, MsgBadPassword)
	}
	s.bad = 0
	now := time.Now().Add(time.Duration(s.faults.ClockAhead) * time.Second)
	tw := now.In(taiwan)
	s.counters.TokensIssued++
	day := fmt.Sprintf(`"login_day":%q,`, tw.Format("2006/01/02"))
	again := ""
	if s.faults.LoginDayTwice {
		again = fmt.Sprintf(`"login_day":%q,`, signinDay(tw))
	}
	return s.ok(fmt.Sprintf(`{"user_id":%[1]s,"user_name":"王小明","group_id":%[1]s,%s"login_time":%q,%s"token_key":%q%s}`,
		quoteJSON(user), day, tw.Format(time.TimeOnly), again, s.issue(user, now), s.comma()))
}

// issue makes a token: HS256 with the three claims that the real one has. Two of
// one second are the same text, as the real ones are.
func (s *Signin) issue(user string, now time.Time) string {
	ends := now.Add(time.Duration(s.faults.TokenLifeSeconds) * time.Second)
	if s.faults.TokenNotJWT {
		t := "opaque-" + random(16)
		s.plain[t] = signinToken{user, ends}
		return t
	}
	if s.keys[user] == nil {
		s.keys[user] = []byte(random(16))
	}
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		enc(fmt.Appendf(nil, `{"employee_id":%s,"iat":%d,"exp":%d}`, quoteJSON(user), now.Unix(), ends.Unix()))
	return text + "." + enc(sign(s.keys[user], text))
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// authorise returns whose token a call carries, "" for nobody's.
func (s *Signin) authorise(r *http.Request, body []byte) string {
	var t string
	if name, ok := strings.CutPrefix(s.faults.TokenTransport, "header:"); ok {
		t = r.Header.Get(textproto.CanonicalMIMEHeaderKey(name))
	} else if s.faults.TokenTransport == "bearer" {
		t, ok = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return ""
		}
	} else if r.Method == http.MethodGet {
		t = r.URL.Query().Get("token_key")
	} else {
		var in struct {
			Token string `json:"token_key"`
		}
		json.Unmarshal(body, &in) // what is no JSON has no token
		t = in.Token
	}
	user := s.owner(t)
	if user == "" {
		return ""
	}
	if s.uses[t]++; s.faults.RevokeAfter > 0 && s.uses[t] > s.faults.RevokeAfter {
		delete(s.keys, user)
		delete(s.plain, t)
		return ""
	}
	return user
}

func (s *Signin) owner(t string) string {
	now := time.Now().Add(time.Duration(s.faults.ClockAhead) * time.Second)
	if p, ok := s.plain[t]; ok && now.Before(p.ends) {
		return p.user
	}
	i := strings.LastIndexByte(t, '.')
	if i < 0 {
		return ""
	}
	_, claims, _ := strings.Cut(t[:i], ".")
	raw, err := base64.RawURLEncoding.DecodeString(claims)
	mac, err2 := base64.RawURLEncoding.DecodeString(t[i+1:])
	var c struct {
		Employee string `json:"employee_id"`
		Exp      int64  `json:"exp"`
	}
	if err != nil || err2 != nil || json.Unmarshal(raw, &c) != nil {
		return ""
	}
	if key := s.keys[c.Employee]; key == nil || !hmac.Equal(mac, sign(key, t[:i])) || now.Unix() >= c.Exp {
		return ""
	}
	return c.Employee
}

func (s *Signin) logout(body []byte) answer {
	var user string
	if err := fields(body, map[string]*string{"user_id": &user}); err != nil {
		return s.refuse(http.StatusBadRequest, codeField, err.Error())
	}
	if !s.faults.KeepAtLogout {
		delete(s.keys, user)
		for t, p := range s.plain {
			if p.user == user {
				delete(s.plain, t)
			}
		}
	}
	return s.ok("")
}

const signinLayout = "2006-01-02 15:04:05-07"

var signinStatuses = []string{"上班", "下班", "外出", "外歸"}

func (s *Signin) punch(call *Call, r *http.Request, body []byte) answer {
	rec := SigninRecord{Raw: string(body)}
	bad := func(why string) answer {
		s.counters.Rejected++
		return s.refuse(http.StatusBadRequest, codeField, why)
	}
	if err := fields(body, map[string]*string{"user_id": &rec.UserID, "group_id": &rec.GroupID, "sign_date": &rec.SignDate, "status": &rec.Status}); err != nil {
		return bad(err.Error())
	}
	var err error
	// Parse takes a fraction of a second that the layout does not have; the round trip does not.
	if rec.time, err = time.Parse(signinLayout, rec.SignDate); err != nil || rec.time.Format(signinLayout) != rec.SignDate {
		return bad("sign_date must be yyyy-MM-dd HH:mm:ss+hh")
	}
	if !slices.Contains(signinStatuses, rec.Status) {
		return bad("status must be one of 上班 下班 外出 外歸")
	}
	if p, ok := s.faults.Poison[rec.UserID]; ok {
		s.counters.Rejected++
		return s.refuse(p.Status, p.Code, p.Msg)
	}
	if s.faults.EnforceSelf && s.authorise(r, body) != rec.UserID {
		s.counters.Rejected++
		return s.refuse(http.StatusForbidden, 40301, "the token belongs to somebody else")
	}
	if !s.knows(rec.UserID) {
		if s.faults.StrangerStatus == http.StatusBadRequest {
			return bad("user_id does not exist")
		}
		s.counters.Rejected++
		return s.refuse(http.StatusUnauthorized, CodeNotApproved, MsgNotApproved)
	}
	if take(&s.faults.LoseNext) {
		call.Note = "lose_next"
		return s.ok(s.day(rec.UserID, rec.Status, rec.time))
	}
	rec.Call, rec.At = call.Number, call.At
	for _, old := range s.ledger {
		if old.UserID == rec.UserID && old.time.Equal(rec.time) && old.Status == rec.Status {
			rec.Repeat = old.Order
			break
		}
	}
	accepted := 0
	if rec.Repeat > 0 {
		s.counters.Repeats++
		s.repeats = append(s.repeats, rec)
		if s.faults.Duplicates == DuplicatesConflict {
			return s.refuse(http.StatusConflict, 40901, "the record already exists")
		}
	}
	if rec.Repeat == 0 || s.faults.Duplicates == DuplicatesStoreTwice {
		rec.Order = len(s.ledger) + 1
		s.ledger = append(s.ledger, rec)
		accepted = 1
	}
	a := s.ok(s.day(rec.UserID, rec.Status, rec.time))
	a.stored, a.accept = true, accepted
	return a
}

// day is first and last punch of a status on the Taiwan day of t, as JSON; "" for none.
func (s *Signin) day(user, status string, t time.Time) string {
	day := t.In(taiwan).Format(time.DateOnly)
	var first, last time.Time
	for _, rec := range s.ledger {
		if at := rec.time.In(taiwan); rec.UserID == user && rec.Status == status && at.Format(time.DateOnly) == day {
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
	}
	if first.IsZero() {
		return ""
	}
	end := ""
	if status == "上班" || status == "下班" {
		end = fmt.Sprintf(`,"last_time":%q`, last.Format(time.TimeOnly))
	}
	return fmt.Sprintf(`{"status":%q,"first_time":%q%s%s}`, status, first.Format(time.TimeOnly), end, s.comma())
}

func (s *Signin) today(r *http.Request) answer {
	user := r.URL.Query().Get("user_id")
	if user == "" {
		return s.refuse(http.StatusBadRequest, codeField, "user_id is required")
	}
	if !s.knows(user) {
		return s.refuse(http.StatusUnauthorized, CodeNotApproved, MsgNotApproved)
	}
	now := time.Now().Add(time.Duration(s.faults.ClockAhead) * time.Second)
	var list []string
	for _, status := range signinStatuses {
		if d := s.day(user, status, now); d != "" {
			list = append(list, d)
		}
	}
	return s.list(list)
}

func (s *Signin) list(items []string) answer {
	comma := s.comma()
	if len(items) == 0 {
		comma = ""
	}
	return s.ok("[" + strings.Join(items, ",") + comma + "]")
}

func (s *Signin) records(r *http.Request) answer {
	q := r.URL.Query()
	user := q.Get("user_id")
	from, err := time.ParseInLocation(time.DateOnly, q.Get("started_date"), taiwan)
	to, err2 := time.ParseInLocation(time.DateOnly, q.Get("ended_date"), taiwan)
	if user == "" || err != nil || err2 != nil {
		return s.refuse(http.StatusBadRequest, codeField, "user_id, started_date and ended_date (yyyy-MM-dd) are required")
	}
	if !s.knows(user) {
		return s.refuse(http.StatusUnauthorized, CodeNotApproved, MsgNotApproved)
	}
	var found []SigninRecord
	for _, rec := range s.ledger {
		if rec.UserID == user && !rec.time.Before(from) && rec.time.Before(to.AddDate(0, 0, 1)) {
			found = append(found, rec)
		}
	}
	slices.SortStableFunc(found, func(a, b SigninRecord) int { return a.time.Compare(b.time) })
	var list []string
	for _, rec := range found {
		list = append(list, fmt.Sprintf(`{"user_id":%s,"sign_date":%q,"status":%q%s}`, quoteJSON(rec.UserID), rec.SignDate, rec.Status, s.comma()))
	}
	return s.list(list)
}

var (
	_ http.Handler = (*Signin)(nil)
	_ service      = (*Signin)(nil)
)
