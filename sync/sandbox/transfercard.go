package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Paths of 104. The API's base, as a client configures it, is TransferCardBase.
const (
	TransferCardBase      = "/prohrm/1.0"
	TransferCardTokenPath = "/oauth2/token"
	TransferCardPath      = TransferCardBase + "/hrmapi/external/transferCard"
	TransferTpCardPath    = TransferCardBase + "/hrmapi/external/transferTpCard"
)

// TransferCardConfig is what a 104 sandbox is made of.
type TransferCardConfig struct {
	ClientID, ClientSecret string // made up at random where empty; see Credentials
	People                 []Person
	AcceptAny              bool     // every employee number is known, People or not
	Companies              []string // tax ids that transferTpCard serves; none means all
}

// TransferCardFaults are the switches of the 104 sandbox. Start from
// DefaultTransferCardFaults or change them in place with SetFaults.
type TransferCardFaults struct {
	Wire

	TokenLifeSeconds int  `json:"token_life_seconds"` // expires_in of tokens issued from now on
	NoTokenLife      bool `json:"no_token_life"`      // the token call's answer lacks expires_in; the token lives as long
	EmptyToken       bool `json:"empty_token"`        // the token call is answered with an empty access_token
	RefuseTokens     bool `json:"refuse_tokens"`      // every business call is answered 401, a fresh token too

	// TokenError is how the token call refuses this client, with its right secret: one of
	// RFC 6749's words, invalid_scope for example, with HTTP 400; "" does not.
	TokenError string `json:"token_error"`

	IdxBase      int    `json:"idx_base"`      // 0 or 1: what the first record is called in the details
	Duplicates   string `json:"duplicates"`    // success, ignore, fail or store_twice: what an equal number and time gets
	Details      string `json:"details"`       // full, or one: only the first entry of each list
	EmptyDetails string `json:"empty_details"` // list, null or missing: a list with nothing in it
	Miscount     int    `json:"miscount"`      // this many are missing from the success count
	WrongTypes   bool   `json:"wrong_types"`   // counts are strings: "success":"30"

	MaxBatch       int `json:"max_batch"`        // most records in a call; 0 is no limit
	MaxBatchStatus int `json:"max_batch_status"` // 400 or 413: what more gets

	// By employee number. Poison refuses the whole call that carries such a
	// record; FailText and IgnoreText name the record in failDetail and
	// ignoreDetail with that text.
	Poison     map[string]Refusal `json:"poison"`
	FailText   map[string]string  `json:"fail_text"`
	IgnoreText map[string]string  `json:"ignore_text"`

	TpCodes      map[string]string `json:"tp_codes"`       // by tax id: 490, 491, 492 or 493 instead of 200
	TpCodeNumber bool              `json:"tp_code_number"` // code is a number, not a string
}

// Values of [TransferCardFaults].Duplicates.
const (
	DuplicatesSuccess    = "success"     // counted as success, stored once
	DuplicatesIgnore     = "ignore"      // counted in ignore, with 打卡資料重複
	DuplicatesFail       = "fail"        // counted in fail, with 打卡資料重複
	DuplicatesStoreTwice = "store_twice" // both clouds: stored again
)

// Values of Details and EmptyDetails.
const (
	DetailsFull  = "full"
	DetailsOne   = "one"
	EmptyList    = "list"
	EmptyNull    = "null"
	EmptyMissing = "missing"
)

// Texts of 104's record results.
const (
	TextBlank     = "員工編號空白"
	TextUnknown   = "員工編號不存在"
	TextDuplicate = "打卡資料重複"
	TextTime      = "打卡時間錯誤" // not a time in milliseconds; the sandbox's own words
)

// DefaultTransferCardFaults is a 104 without a fault: 30 calls a second, tokens
// of an hour, idx from 0, equal records counted as success and stored once.
func DefaultTransferCardFaults() TransferCardFaults {
	return TransferCardFaults{
		Wire:             Wire{RateLimit: 30, FailStatus: http.StatusServiceUnavailable, FailOn: OnAny},
		TokenLifeSeconds: 3600,
		Duplicates:       DuplicatesSuccess,
		Details:          DetailsFull,
		EmptyDetails:     EmptyList,
		MaxBatchStatus:   http.StatusBadRequest,
	}
}

func (f *TransferCardFaults) check() error {
	if err := f.Wire.check(); err != nil {
		return err
	}
	if f.IdxBase != 0 && f.IdxBase != 1 {
		return fmt.Errorf("idx_base %d: use 0 or 1", f.IdxBase)
	}
	if f.MaxBatchStatus != 400 && f.MaxBatchStatus != 413 {
		return fmt.Errorf("max_batch_status %d: use 400 or 413", f.MaxBatchStatus)
	}
	if err := atLeast("token_life_seconds", f.TokenLifeSeconds, 1); err != nil {
		return err
	}
	if err := atLeast("max_batch", f.MaxBatch, 0); err != nil {
		return err
	}
	if err := atLeast("miscount", f.Miscount, 0); err != nil {
		return err
	}
	if err := oneOf("token_error", f.TokenError, "", "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"); err != nil {
		return err
	}
	if err := oneOf("duplicates", f.Duplicates, DuplicatesSuccess, DuplicatesIgnore, DuplicatesFail, DuplicatesStoreTwice); err != nil {
		return err
	}
	if err := oneOf("details", f.Details, DetailsFull, DetailsOne); err != nil {
		return err
	}
	for uno, code := range f.TpCodes {
		if err := oneOf("tp_codes "+uno, code, "200", "490", "491", "492", "493"); err != nil {
			return err
		}
	}
	return oneOf("empty_details", f.EmptyDetails, EmptyList, EmptyNull, EmptyMissing)
}

// CardRecord is one punch that 104 accepted.
type CardRecord struct {
	Order    int       `json:"order"` // from 1, in order of acceptance
	Call     int       `json:"call"`  // number of the call that brought it
	At       time.Time `json:"at"`
	Company  string    `json:"company,omitempty"` // tax id, transferTpCard only
	EmpNo    string    `json:"emp_no"`
	CardTime int64     `json:"card_time"` // milliseconds
	Raw      string    `json:"raw"`       // the record's bytes as they came
	Repeat   int       `json:"repeat,omitempty"`
}

// TransferCard is 104 on a desk: the token call, transferCard, transferTpCard.
type TransferCard struct {
	id, secret string
	core
	people    map[string]bool
	acceptAny bool
	companies map[string]bool
	faults    TransferCardFaults
	tokens    map[string]*cardToken
	ledger    []CardRecord
	repeats   []CardRecord
	seen      map[cardKey]int // Order in ledger
}

type cardToken struct {
	ends time.Time
	uses int
}

type cardKey struct {
	company, empNo string
	cardTime       int64
}

// NewTransferCard returns a 104 without a fault.
func NewTransferCard(cfg TransferCardConfig) *TransferCard {
	c := &TransferCard{id: cfg.ClientID, secret: cfg.ClientSecret, faults: DefaultTransferCardFaults()}
	if c.id == "" {
		c.id = "sandbox-" + random(4)
	}
	if c.secret == "" {
		c.secret = "not-a-secret-" + random(12)
	}
	if len(cfg.Companies) > 0 {
		c.companies = map[string]bool{}
		for _, uno := range cfg.Companies {
			c.companies[taxID(uno)] = true
		}
	}
	c.SetPeople(cfg.People, cfg.AcceptAny)
	c.clear()
	return c
}

// Credentials returns the client id and secret that the token call takes.
func (c *TransferCard) Credentials() (id, secret string) { return c.id, c.secret }

// SetPeople replaces the employees 104 knows; with acceptAny it knows everybody.
func (c *TransferCard) SetPeople(people []Person, acceptAny bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acceptAny = acceptAny
	c.people = map[string]bool{}
	for _, p := range people {
		c.people[p.Number] = true
	}
}

// Faults returns a copy of the switches.
func (c *TransferCard) Faults() TransferCardFaults {
	c.mu.Lock()
	defer c.mu.Unlock()
	return clone(c.faults)
}

// SetFaults changes the switches in place. It panics on a value that the control
// page would refuse, leaving the switches as they were.
func (c *TransferCard) SetFaults(change func(*TransferCardFaults)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := clone(c.faults)
	change(&f)
	if err := f.check(); err != nil {
		panic("sandbox: " + err.Error())
	}
	c.faults = f
}

// patchFaults changes the switches named in a JSON object.
func (c *TransferCard) patchFaults(object []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := clone(c.faults)
	if err := decodeStrict(object, &f); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	c.faults = f
	return nil
}

// Revoke ends every token that was issued. The next token call gets a new one.
func (c *TransferCard) Revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens = map[string]*cardToken{}
}

// Reset forgets ledger, calls, counters and tokens and sets the faults to their
// defaults. People and credentials stay.
func (c *TransferCard) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	c.faults = DefaultTransferCardFaults()
}

func (c *TransferCard) clear() {
	c.core.reset()
	c.tokens, c.ledger, c.repeats, c.seen = map[string]*cardToken{}, nil, nil, map[cardKey]int{}
}

// Ledger returns every accepted record in order of arrival.
func (c *TransferCard) Ledger() []CardRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]CardRecord(nil), c.ledger...)
}

// Repeats returns every record that came again after it was accepted, whatever
// it was answered; Repeat is the Order of the one in the ledger.
func (c *TransferCard) Repeats() []CardRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]CardRecord(nil), c.repeats...)
}

// Calls returns the last MaxCalls calls, oldest first.
func (c *TransferCard) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.callList()
}

// Counters returns the counts since the start or the last Reset.
func (c *TransferCard) Counters() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counters
}

// ServeHTTP answers as 104 does. It may panic with http.ErrAbortHandler.
func (c *TransferCard) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handle(w, r, c) }

func (c *TransferCard) wire() *Wire              { return &c.faults.Wire }
func (c *TransferCard) isToken(path string) bool { return path == TransferCardTokenPath }

func (c *TransferCard) tooFast() answer {
	a := cardError(http.StatusTooManyRequests, "too many requests")
	a.set("Retry-After", "1")
	return a
}

func (c *TransferCard) failed(status int) answer {
	return cardError(status, http.StatusText(status))
}

func jsonAnswer(status, code int, v any) answer {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own values
	}
	return answer{status: status, code: code, ctype: "application/json; charset=utf-8", body: b}
}

func cardError(status int, msg string) answer {
	return cardRefusal(Refusal{Status: status, Code: status, Msg: msg})
}

func cardRefusal(r Refusal) answer {
	if r.Status == 0 {
		r.Status = http.StatusBadRequest
	}
	return jsonAnswer(r.Status, r.Code, map[string]any{"code": r.Code, "msg": r.Msg})
}

func (c *TransferCard) serve(call *Call, r *http.Request, body []byte) answer {
	switch r.URL.Path {
	case TransferCardTokenPath, TransferCardPath, TransferTpCardPath:
	default:
		return cardError(http.StatusNotFound, "not found")
	}
	if r.Method != http.MethodPost {
		a := cardError(http.StatusMethodNotAllowed, "method not allowed")
		a.set("Allow", http.MethodPost)
		return a
	}
	if r.URL.Path == TransferCardTokenPath {
		return c.token(r, body)
	}
	if !c.authorised(r) {
		c.counters.Refused++
		return cardError(http.StatusUnauthorized, "unauthorized")
	}
	if mediaType(r) != "application/json" {
		return cardError(http.StatusBadRequest, "Content-Type must be application/json")
	}
	if r.URL.Path == TransferCardPath {
		return c.transferCard(call, body)
	}
	return c.transferTpCard(call, body)
}

func mediaType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// token takes both styles of credentials, one of them at a time (RFC 6749, 2.3).
func (c *TransferCard) token(r *http.Request, body []byte) answer {
	refuse := func(status int, code, why string) answer {
		a := jsonAnswer(status, 0, map[string]string{"error": code, "error_description": why})
		if status == http.StatusUnauthorized {
			a.set("WWW-Authenticate", `Basic realm="oauth2"`)
		}
		return a
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || mediaType(r) != "application/x-www-form-urlencoded" {
		return refuse(400, "invalid_request", "the body is not form-encoded")
	}
	id, secret, basic := r.BasicAuth()
	inBody := form.Has("client_id") || form.Has("client_secret")
	switch {
	case basic && form.Has("client_secret"):
		return refuse(400, "invalid_request", "credentials came twice")
	case basic:
		// RFC 6749 encodes both before joining them, most clients do not.
		if u, err := url.QueryUnescape(id); err == nil && u == c.id {
			id = u
		}
		if u, err := url.QueryUnescape(secret); err == nil && u == c.secret {
			secret = u
		}
	case inBody:
		id, secret = form.Get("client_id"), form.Get("client_secret")
	default:
		return refuse(401, "invalid_client", "no credentials")
	}
	switch {
	case id != c.id || secret != c.secret:
		return refuse(401, "invalid_client", "unknown client or wrong secret")
	case form.Get("grant_type") == "":
		return refuse(400, "invalid_request", "grant_type is missing")
	case form.Get("grant_type") != "client_credentials":
		return refuse(400, "unsupported_grant_type", "use client_credentials")
	case form.Get("scope") != "prohrm":
		return refuse(400, "invalid_scope", "use prohrm")
	case c.faults.TokenError != "":
		return refuse(400, c.faults.TokenError, "as switched")
	}
	now := time.Now()
	for t, v := range c.tokens {
		if !now.Before(v.ends) {
			delete(c.tokens, t)
		}
	}
	if c.faults.EmptyToken {
		return jsonAnswer(200, 0, map[string]any{"access_token": "", "token_type": "Bearer", "expires_in": c.faults.TokenLifeSeconds})
	}
	t := "at-" + random(16)
	life := time.Duration(c.faults.TokenLifeSeconds) * time.Second
	c.tokens[t] = &cardToken{ends: now.Add(life)}
	c.counters.TokensIssued++
	said := map[string]any{"access_token": t, "token_type": "Bearer", "expires_in": c.faults.TokenLifeSeconds, "scope": "prohrm"}
	if c.faults.NoTokenLife {
		delete(said, "expires_in")
	}
	return jsonAnswer(200, 0, said)
}

func (c *TransferCard) authorised(r *http.Request) bool {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	t := c.tokens[name]
	if !ok || t == nil || c.faults.RefuseTokens || !time.Now().Before(t.ends) {
		return false
	}
	t.uses++
	if c.faults.RevokeAfter > 0 && t.uses > c.faults.RevokeAfter {
		delete(c.tokens, name)
		return false
	}
	return true
}

// card is a record as it came.
type card struct {
	empNo    string
	cardTime int64
	timed    bool
	raw      string
}

// parseCards reads an array of records; the answer is set where the whole call
// is refused.
func parseCards(raw json.RawMessage) ([]card, *answer) {
	refuse := func(msg string) ([]card, *answer) {
		a := cardError(http.StatusBadRequest, msg)
		return nil, &a
	}
	var list []json.RawMessage
	if !isJSON(raw, '[') || json.Unmarshal(raw, &list) != nil {
		return refuse("the body is not a JSON array")
	}
	cards := make([]card, len(list))
	for i, rec := range list {
		var f map[string]json.RawMessage // a struct would take any case of the names
		if !isJSON(rec, '{') || json.Unmarshal(rec, &f) != nil {
			return refuse(fmt.Sprintf("record %d is not a JSON object", i))
		}
		cards[i].raw = string(rec)
		if v := f["empNo"]; v != nil && !isNull(v) {
			if json.Unmarshal(v, &cards[i].empNo) != nil {
				return refuse(fmt.Sprintf("record %d: empNo is not a string", i))
			}
		}
		if v := f["cardTime"]; v != nil && !isNull(v) {
			n, err := strconv.ParseInt(string(v), 10, 64)
			if err != nil {
				return refuse(fmt.Sprintf("record %d: cardTime is not an integer", i))
			}
			cards[i].cardTime, cards[i].timed = n, true
		}
	}
	return cards, nil
}

func isJSON(b []byte, first byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && b[0] == first
}

func isNull(b []byte) bool { return string(b) == "null" }

// admit looks for what refuses a whole call before anything of it is stored.
func (c *TransferCard) admit(cards []card) *answer {
	if c.faults.MaxBatch > 0 && len(cards) > c.faults.MaxBatch {
		a := cardError(c.faults.MaxBatchStatus, "too many records")
		return &a
	}
	for _, rec := range cards {
		if p, ok := c.faults.Poison[rec.empNo]; ok {
			a := cardRefusal(p)
			return &a
		}
	}
	return nil
}

func (c *TransferCard) transferCard(call *Call, body []byte) answer {
	cards, refused := parseCards(body)
	if refused == nil && len(cards) == 0 {
		a := cardError(http.StatusBadRequest, "no punch data")
		refused = &a
	}
	if refused == nil {
		refused = c.admit(cards)
	}
	if refused != nil {
		return *refused
	}
	result, accepted := c.store(call, "", cards)
	a := jsonAnswer(http.StatusOK, 0, result)
	a.stored, a.accept = true, accepted
	return a
}

func (c *TransferCard) transferTpCard(call *Call, body []byte) answer {
	var list []struct {
		Uno      json.RawMessage `json:"uno"`
		CardData json.RawMessage `json:"cardData"`
	}
	if !isJSON(body, '[') || json.Unmarshal(body, &list) != nil {
		return cardError(http.StatusBadRequest, "the body is not a JSON array")
	}
	if len(list) == 0 {
		return cardError(http.StatusBadRequest, "no punch data")
	}
	unos := make([]string, len(list))
	cards := make([][]card, len(list))
	total := 0
	for i, company := range list {
		var s string
		if json.Unmarshal(company.Uno, &s) != nil || s == "" {
			n, err := strconv.ParseUint(string(company.Uno), 10, 64)
			if err != nil {
				return cardError(http.StatusBadRequest, fmt.Sprintf("company %d: uno is neither a number nor a string", i))
			}
			s = strconv.FormatUint(n, 10)
		}
		unos[i] = taxID(s)
		if company.CardData == nil || isNull(company.CardData) {
			continue
		}
		var refused *answer
		if cards[i], refused = parseCards(company.CardData); refused != nil {
			return *refused
		}
		total += len(cards[i])
	}
	all := make([]card, 0, total)
	for _, cs := range cards {
		all = append(all, cs...)
	}
	if refused := c.admit(all); refused != nil {
		return *refused
	}
	out, accepted := make([]map[string]any, len(list)), 0
	for i := range list {
		code := "200"
		if forced := c.tpCode(unos[i]); forced != "" {
			code = forced
		} else if c.companies != nil && !c.companies[unos[i]] {
			code = "491"
		} else if len(cards[i]) == 0 {
			code = "492"
		}
		var result map[string]any
		if code == "200" {
			var n int
			result, n = c.store(call, unos[i], cards[i])
			accepted += n
		} else {
			result = c.result(0, nil, nil)
		}
		result["uno"] = list[i].Uno
		result["msg"] = tpMessages[code]
		result["code"] = code
		if c.faults.TpCodeNumber {
			result["code"] = json.Number(code)
		}
		out[i] = result
	}
	a := jsonAnswer(http.StatusOK, 0, out)
	a.stored, a.accept = true, accepted
	return a
}

func (c *TransferCard) tpCode(uno string) string {
	for k, code := range c.faults.TpCodes {
		if taxID(k) == uno {
			return code
		}
	}
	return ""
}

var tpMessages = map[string]string{
	"200": "正常",
	"490": "公司已關閉或超過時間未繳費",
	"491": "該公司未同意使用",
	"492": "無資料",
	"493": "未預期錯誤",
}

// taxID pads a tax id to its eight digits.
func taxID(s string) string {
	if len(s) < 8 {
		s = strings.Repeat("0", 8-len(s)) + s
	}
	return s
}

type detail struct {
	Idx      int    `json:"idx"`
	ErrorMsg string `json:"errorMsg"`
}

// store takes the good records of one list and says what became of each.
func (c *TransferCard) store(call *Call, company string, cards []card) (result map[string]any, accepted int) {
	success := 0
	var ignored, failed []detail
	for i, rec := range cards {
		idx := i + c.faults.IdxBase
		fail := func(text string) { failed = append(failed, detail{idx, text}) }
		ignore := func(text string) { ignored = append(ignored, detail{idx, text}) }
		if text, ok := c.faults.IgnoreText[rec.empNo]; ok {
			ignore(text)
			continue
		}
		if text, ok := c.faults.FailText[rec.empNo]; ok {
			fail(text)
			continue
		}
		switch {
		case strings.TrimSpace(rec.empNo) == "":
			ignore(TextBlank)
			continue
		case !c.acceptAny && !c.people[rec.empNo]:
			fail(TextUnknown)
			continue
		case !rec.timed || rec.cardTime < 1_500_000_000_000 || rec.cardTime > 9_999_999_999_999:
			fail(TextTime)
			continue
		}
		key := cardKey{company, rec.empNo, rec.cardTime}
		entry := CardRecord{Call: call.Number, At: call.At, Company: company, EmpNo: rec.empNo, CardTime: rec.cardTime, Raw: rec.raw}
		if first, again := c.seen[key]; again {
			c.counters.Repeats++
			entry.Repeat = first
			c.repeats = append(c.repeats, entry)
			switch c.faults.Duplicates {
			case DuplicatesIgnore:
				ignore(TextDuplicate)
				continue
			case DuplicatesFail:
				fail(TextDuplicate)
				continue
			case DuplicatesSuccess:
				success++
				continue
			}
		}
		entry.Order = len(c.ledger) + 1
		c.ledger = append(c.ledger, entry)
		if entry.Repeat == 0 {
			c.seen[key] = entry.Order
		}
		success++
		accepted++
	}
	c.counters.Ignored += len(ignored)
	c.counters.Rejected += len(failed)
	return c.result(success, ignored, failed), accepted
}

// result writes counts and details the way the switches want them.
func (c *TransferCard) result(success int, ignored, failed []detail) map[string]any {
	m := map[string]any{}
	count := func(name string, n int) {
		if c.faults.WrongTypes {
			m[name] = strconv.Itoa(n)
		} else {
			m[name] = n
		}
	}
	list := func(name string, d []detail) {
		switch {
		case len(d) > 1 && c.faults.Details == DetailsOne:
			m[name] = d[:1]
		case len(d) > 0:
			m[name] = d
		case c.faults.EmptyDetails == EmptyNull:
			m[name] = nil
		case c.faults.EmptyDetails == EmptyList:
			m[name] = []detail{}
		}
	}
	count("success", max(0, success-c.faults.Miscount))
	count("ignore", len(ignored))
	count("fail", len(failed))
	list("ignoreDetail", ignored)
	list("failDetail", failed)
	return m
}

// clone copies a struct of switches, maps and all.
func clone[T any](v T) T {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own values
	}
	var c T
	if err := json.Unmarshal(b, &c); err != nil {
		panic(err)
	}
	return c
}

// decodeStrict reads one JSON object over *v; an unknown key is an error that names it.
func decodeStrict(object []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the JSON object")
	}
	return nil
}

var (
	_ http.Handler = (*TransferCard)(nil)
	_ service      = (*TransferCard)(nil)
)
