package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Paths of 104's résumé service. The API's base, as a client configures it, is
// ResumeBase; the token call is 104's.
const (
	ResumeBase           = "/ehrweb_resume/1.0"
	ResumeTokenPath      = TransferCardTokenPath
	ResumeListPath       = ResumeBase + "/resumes/queryList"
	ResumeQueryPath      = ResumeBase + "/resumes/query"
	ResumeBatchPath      = ResumeBase + "/resumes/queryBatch"
	ResumeHeadshotPath   = ResumeBase + "/files/headshot"
	ResumeAttachmentPath = ResumeBase + "/files/attachment"
)

// Codes of the résumé service.
const (
	CodeFileExpired  = 895
	CodeBadFlag      = 896
	CodeBadHours     = 897
	CodeBadIDNo      = 898
	CodeAbnormal     = 899
	CodeBadCompany   = 900
	CodeBadDate      = 996
	CodeResumeSystem = 999
)

// Resume is one résumé, with fields that a reader has no business with.
type Resume struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Date  string `json:"date"`  // yyyy-MM-dd, Taipei
	Hour  int    `json:"hour"`  // 0 to 23: delivered within this hour
	Flag  int    `json:"flag"`  // 0 matched, 1 applied, 2 saved
	Photo bool   `json:"photo"` // it has a portrait
}

// ResumeConfig is what a résumé sandbox is made of.
type ResumeConfig struct {
	ClientID, ClientSecret string // made up at random where empty; see Credentials
	Company                string // tax id; "" is 12345678
	Resumes                []Resume
	// KnownDays adds the three days on which the vendor's own sandbox holds data:
	// 2025-04-25 at 12 (applied), every hour of 2025-08-22 (matched), 2025-11-05 at 16
	// (saved).
	KnownDays bool
}

// ResumeFaults are the switches of the résumé sandbox.
type ResumeFaults struct {
	Wire

	TokenLifeSeconds int  `json:"token_life_seconds"`
	RefuseTokens     bool `json:"refuse_tokens"` // every business call is answered 401, a fresh token too
	// ErrorStatus is the HTTP status of every answer with a code. The real one is not
	// documented; the schema's names suggest 500.
	ErrorStatus     int      `json:"error_status"`
	FileLifeSeconds int      `json:"file_life_seconds"` // of the links in a résumé
	FileGone        bool     `json:"file_gone"`         // every link has expired, a fresh one too
	AnswerNext      int      `json:"answer_next"`       // this many business calls get Answer; -1 all
	Answer          Refusal  `json:"answer"`
	BadIDs          []string `json:"bad_ids"`      // ids that refuse the whole call with 898
	Unlisted        []string `json:"unlisted"`     // ids that the batch call leaves out
	LimitStatus     int      `json:"limit_status"` // what a call over the limit gets; the real reply is not described
	// Headshot is what a portrait's link leads to: "" a picture, else huge (5 MiB), bomb
	// (65,000 × 65,000 dots, by its header), lie (more dots in it than its header says),
	// truncated, html, or missing (404 without a code).
	Headshot string `json:"headshot"`
}

// DefaultResumeFaults is the service without a fault: 3 calls a second, 500 for every
// answer with a code, links of ten minutes.
func DefaultResumeFaults() ResumeFaults {
	return ResumeFaults{
		Wire:             Wire{RateLimit: 3, FailStatus: http.StatusServiceUnavailable, FailOn: OnAny},
		TokenLifeSeconds: 3600, ErrorStatus: http.StatusInternalServerError, FileLifeSeconds: 600,
		Answer: Refusal{Code: CodeResumeSystem, Msg: "system error"}, LimitStatus: http.StatusTooManyRequests,
	}
}

func (f *ResumeFaults) check() error {
	if err := f.Wire.check(); err != nil {
		return err
	}
	if f.ErrorStatus < 200 || f.ErrorStatus > 599 || f.LimitStatus < 400 || f.LimitStatus > 599 {
		return fmt.Errorf("error_status %d, limit_status %d: use 200 to 599, and 400 to 599", f.ErrorStatus, f.LimitStatus)
	}
	for name, v := range map[string]int{"token_life_seconds": f.TokenLifeSeconds, "file_life_seconds": f.FileLifeSeconds} {
		if err := atLeast(name, v, 1); err != nil {
			return err
		}
	}
	if !slices.Contains([]string{"", "huge", "bomb", "lie", "truncated", "html", "missing"}, f.Headshot) {
		return fmt.Errorf("headshot %q: use huge, bomb, lie, truncated, html, missing or nothing", f.Headshot)
	}
	return atLeast("answer_next", f.AnswerNext, -1)
}

// Resumes is 104's résumé service on a desk. Its tokens come from a 104 of its own.
type Resumes struct {
	id, secret, company string
	core
	resumes []Resume
	faults  ResumeFaults
	tokens  map[string]*cardToken
	files   map[string]resumeFile
	hours   map[string]int // queryList calls that were answered, by "yyyy-MM-dd HH"
}

type resumeFile struct {
	resume     string
	attachment bool
	ends       time.Time
}

// NewResumes returns a résumé service without a fault.
func NewResumes(cfg ResumeConfig) *Resumes {
	s := &Resumes{id: cfg.ClientID, secret: cfg.ClientSecret, company: cfg.Company, resumes: slices.Clone(cfg.Resumes), faults: DefaultResumeFaults()}
	if s.id == "" {
		s.id = "sandbox-" + random(4)
	}
	if s.secret == "" {
		s.secret = "not-a-secret-" + random(12)
	}
	if s.company == "" {
		s.company = "12345678"
	}
	if cfg.KnownDays {
		s.resumes = append(s.resumes, knownResumes()...)
	}
	s.clear()
	return s
}

func knownResumes() []Resume {
	list := []Resume{
		{ID: "1000000001", Name: "測試 一號", Date: "2025-04-25", Hour: 12, Flag: 1, Photo: true},
		{ID: "1000000002", Name: "測試 二號", Date: "2025-04-25", Hour: 12, Flag: 1},
		{ID: "1000000003", Name: "測試 三號", Date: "2025-11-05", Hour: 16, Flag: 2, Photo: true},
	}
	for h := range 24 {
		list = append(list, Resume{ID: fmt.Sprint(2000000000 + h), Name: fmt.Sprintf("配對 %d號", h), Date: "2025-08-22", Hour: h, Photo: h%2 == 0})
	}
	return list
}

// Credentials returns the client id and secret that the token call takes.
func (s *Resumes) Credentials() (id, secret string) { return s.id, s.secret }

// Company returns the tax id that the calls must name.
func (s *Resumes) Company() string { return s.company }

// Add delivers résumés.
func (s *Resumes) Add(r ...Resume) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumes = append(s.resumes, r...)
}

// Faults returns a copy of the switches.
func (s *Resumes) Faults() ResumeFaults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clone(s.faults)
}

// SetFaults changes the switches in place. It panics on an impossible value, leaving
// the switches as they were.
func (s *Resumes) SetFaults(change func(*ResumeFaults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := clone(s.faults)
	change(&f)
	if err := f.check(); err != nil {
		panic("sandbox: " + err.Error())
	}
	s.faults = f
}

// Revoke ends every token that was issued.
func (s *Resumes) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = map[string]*cardToken{}
}

// Reset forgets calls, counters, tokens and links and sets the faults to their
// defaults. Résumés and credentials stay.
func (s *Resumes) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.faults = DefaultResumeFaults()
}

func (s *Resumes) clear() {
	s.core.reset()
	s.tokens, s.files, s.hours = map[string]*cardToken{}, map[string]resumeFile{}, map[string]int{}
}

// Calls returns the last MaxCalls calls, oldest first.
func (s *Resumes) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.callList()
}

// Counters returns what has been counted.
func (s *Resumes) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters
}

// Hours returns how often each hour's list was answered, by "2025-04-25 12".
func (s *Resumes) Hours() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clone(s.hours)
}

// ServeHTTP serves the calls as the package comment says.
func (s *Resumes) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handle(w, r, s) }

func (s *Resumes) wire() *Wire              { return &s.faults.Wire }
func (s *Resumes) isToken(path string) bool { return path == ResumeTokenPath }
func (s *Resumes) tooFast() answer {
	return answer{status: s.faults.LimitStatus, ctype: "text/plain; charset=utf-8", body: []byte("limited")}
}
func (s *Resumes) failed(status int) answer {
	return answer{status: status, ctype: "text/plain; charset=utf-8", body: []byte(http.StatusText(status))}
}

func (s *Resumes) refuse(code int, msg string) answer {
	return jsonAnswer(s.faults.ErrorStatus, code, map[string]any{"code": code, "message": msg})
}

func (s *Resumes) serve(call *Call, r *http.Request, body []byte) answer {
	paths := []string{ResumeListPath, ResumeQueryPath, ResumeBatchPath, ResumeHeadshotPath, ResumeAttachmentPath}
	switch {
	case r.URL.Path == ResumeTokenPath && r.Method == http.MethodPost:
		return s.token(r, body)
	case r.URL.Path == ResumeTokenPath, slices.Contains(paths, r.URL.Path) && r.Method != http.MethodGet:
		return s.failed(http.StatusMethodNotAllowed)
	case !slices.Contains(paths, r.URL.Path):
		return s.failed(http.StatusNotFound)
	}
	if !s.authorised(r) {
		s.counters.Refused++
		return answer{status: http.StatusUnauthorized, ctype: "application/json", body: []byte(`{"message":"Unauthorized"}`)}
	}
	if take(&s.faults.AnswerNext) {
		call.Note = "answer_next"
		a := s.faults.Answer
		out := s.refuse(a.Code, a.Msg)
		if a.Status != 0 {
			out.status = a.Status
		}
		return out
	}
	if r.Header.Get("104-Additional-Info") != "guiNum="+s.company {
		return s.refuse(CodeBadCompany, "guiNum is missing or not the token's company")
	}
	q := r.URL.Query()
	switch r.URL.Path {
	case ResumeHeadshotPath:
		return s.file(q, false)
	case ResumeAttachmentPath:
		return s.file(q, true)
	}
	span, refused := s.span(q)
	if refused != nil {
		return *refused
	}
	switch r.URL.Path {
	case ResumeListPath:
		ids := []string{}
		for _, v := range span {
			ids = append(ids, v.ID)
		}
		s.hours[fmt.Sprintf("%s %02s", q.Get("date"), q.Get("startTime"))]++
		return jsonAnswer(200, 0, map[string]any{"data": map[string]any{"total": len(ids), "queryDate": q.Get("date") + "T00:00:00.000Z", "idList": ids}})
	case ResumeQueryPath:
		if q.Get("idno") == "" {
			return s.refuse(CodeBadIDNo, "idno")
		}
		return s.show(span, []string{q.Get("idno")})
	}
	ids := strings.Split(q.Get("idnos"), ",")
	if q.Get("idnos") == "" || len(ids) > 10 {
		return s.refuse(CodeBadIDNo, "idnos: 1 to 10")
	}
	return s.show(span, ids)
}

func (s *Resumes) token(r *http.Request, body []byte) answer {
	refuse := func(status int, code string) answer { return jsonAnswer(status, 0, map[string]string{"error": code}) }
	form, err := url.ParseQuery(string(body))
	if err != nil || mediaType(r) != "application/x-www-form-urlencoded" {
		return refuse(400, "invalid_request")
	}
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	switch {
	case id != s.id || secret != s.secret:
		return refuse(401, "invalid_client")
	case form.Get("grant_type") != "client_credentials":
		return refuse(400, "unsupported_grant_type")
	case form.Get("scope") != "ehrweb_resume":
		return refuse(400, "invalid_scope")
	}
	t := "at-" + random(16)
	s.tokens[t] = &cardToken{ends: time.Now().Add(time.Duration(s.faults.TokenLifeSeconds) * time.Second)}
	s.counters.TokensIssued++
	return jsonAnswer(200, 0, map[string]any{"access_token": t, "token_type": "Bearer", "expires_in": s.faults.TokenLifeSeconds})
}

func (s *Resumes) authorised(r *http.Request) bool {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	t := s.tokens[name]
	if !ok || t == nil || s.faults.RefuseTokens || !time.Now().Before(t.ends) {
		return false
	}
	t.uses++
	if s.faults.RevokeAfter > 0 && t.uses > s.faults.RevokeAfter {
		delete(s.tokens, name)
		return false
	}
	return true
}

// span checks the fields that all three queries have and returns the hours' résumés.
func (s *Resumes) span(q url.Values) ([]Resume, *answer) {
	no := func(code int, msg string) ([]Resume, *answer) { a := s.refuse(code, msg); return nil, &a }
	if d := q.Get("date"); d == "" {
		return no(CodeBadHours, "date is missing")
	} else if t, err := time.Parse(time.DateOnly, d); err != nil || t.Format(time.DateOnly) != d {
		return no(CodeBadDate, "date: use yyyy-MM-dd")
	}
	from, err := strconv.Atoi(q.Get("startTime"))
	to, err2 := strconv.Atoi(q.Get("endTime"))
	if err != nil || err2 != nil || from < 0 || to > 24 || from >= to {
		return no(CodeBadHours, "startTime and endTime: 0 to 24")
	}
	flag := -1
	if f := q.Get("flag"); f != "" {
		if flag, err = strconv.Atoi(f); err != nil || flag < 0 || flag > 2 {
			return no(CodeBadFlag, "flag: 0, 1 or 2")
		}
	}
	for key := range q {
		if !slices.Contains([]string{"date", "startTime", "endTime", "flag", "jobNo", "idno", "idnos"}, key) {
			return no(CodeAbnormal, key)
		}
	}
	var out []Resume
	for _, r := range s.resumes {
		if r.Date == q.Get("date") && r.Hour >= from && r.Hour < to && (flag < 0 || r.Flag == flag) {
			out = append(out, r)
		}
	}
	return out, nil
}

// show answers with whole résumés: far more than a reader of names may keep.
func (s *Resumes) show(span []Resume, ids []string) answer {
	list := []map[string]any{}
	for _, id := range ids {
		i := slices.IndexFunc(span, func(r Resume) bool { return r.ID == id })
		if i < 0 || slices.Contains(s.faults.BadIDs, id) {
			return s.refuse(CodeBadIDNo, "no such id in these hours")
		}
		if slices.Contains(s.faults.Unlisted, id) {
			continue
		}
		r := span[i]
		v := map[string]any{"resumeId": r.ID, "fullName": r.Name, "gender": "canary-gender", "email": "canary@example.com", "cellPhone": "0900-canary",
			"birthday": "1990-01-01", "address": "canary-road 1", "applyJob": []map[string]any{{"name": "canary-job", "jobNo": 1}},
			"attachFiles": []map[string]any{{"type": 1, "title": "canary-title", "fileName": "canary.pdf", "resourceLink": s.link(r.ID, true)}}}
		if r.Photo {
			v["headshotUrl"] = s.link(r.ID, false)
		}
		list = append(list, v)
	}
	return jsonAnswer(200, 0, map[string]any{"data": map[string]any{"list": list}})
}

func (s *Resumes) link(resume string, attachment bool) string {
	f := "f-" + random(12)
	s.files[f] = resumeFile{resume, attachment, time.Now().Add(time.Duration(s.faults.FileLifeSeconds) * time.Second)}
	return "https://apis.104api.com.tw" + ResumeBase + "/files/x?fileId=" + f
}

func (s *Resumes) file(q url.Values, attachment bool) answer {
	f, ok := s.files[q.Get("fileId")]
	if !ok || f.attachment != attachment || !time.Now().Before(f.ends) || s.faults.FileGone {
		return s.refuse(CodeFileExpired, "file expired or not available")
	}
	if attachment {
		return answer{status: 200, ctype: "application/pdf", body: []byte("%PDF-1.4\n% " + f.resume + "\n%%EOF\n")}
	}
	b := headshot(f.resume, 300, 400)
	switch s.faults.Headshot {
	case "huge":
		b = append(b, make([]byte, 5<<20)...)
	case "bomb":
		b = headerSays(b, 65_000, 65_000)
	case "lie":
		b = headerSays(headshot(f.resume, 3000, 4000), 300, 400)
	case "truncated":
		b = b[:len(b)*2/3]
	case "html":
		return answer{status: 200, ctype: "text/html; charset=utf-8", body: []byte("<!DOCTYPE html><title>Not here</title>\n")}
	case "missing":
		return s.failed(http.StatusNotFound)
	}
	return answer{status: 200, ctype: "image/png", body: b}
}

// headshot draws somebody: shoulders, a head, a colour that is the résumé's own, and a
// note of where it was taken, as telephones leave one.
func headshot(resume string, w, h int) []byte {
	own := crc32.ChecksumIEEE([]byte(resume))
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	within := func(x, y, cx, cy, rx, ry int) bool {
		dx, dy := (x-cx)*1000/rx, (y-cy)*1000/ry
		return dx*dx+dy*dy < 1_000_000
	}
	for y := range h {
		for x := range w {
			c := color.RGBA{uint8(own)/2 + 120, uint8(own>>8)/2 + 120, uint8(own>>16)/2 + 120, 255}
			switch {
			case within(x, y, w/2, h*43/100, w*22/100, h*22/100) && y > h*31/100:
				c = color.RGBA{234, 192, 160, 255} // the face
			case within(x, y, w/2, h*38/100, w*25/100, h*22/100):
				c = color.RGBA{40, 30, 28, 255} // the hair
			case within(x, y, w/2, h*105/100, w*45/100, h*40/100):
				c = color.RGBA{uint8(own >> 24), 60, 110, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err) // our own picture
	}
	const note = "tEXtComment\x00canary-place 25.0330N 121.5654E"
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(note)-4))
	chunk = append(chunk, note...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE([]byte(note)))
	return slices.Insert(b.Bytes(), 33, chunk...) // behind IHDR
}

// headerSays writes another size into a PNG's header.
func headerSays(b []byte, w, h uint32) []byte {
	b = slices.Clone(b)
	binary.BigEndian.PutUint32(b[16:], w)
	binary.BigEndian.PutUint32(b[20:], h)
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
	return b
}

var (
	_ http.Handler = (*Resumes)(nil)
	_ service      = (*Resumes)(nil)
)
