package web

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"punchclock/ui/text"
)

// The page for technicians and HR, below /admin. What it shows and does is cmd's: the
// page knows sections made of a few kinds of blocks, who may come in, and nothing of
// punches.
//
//	GET  /admin              the first section, or the way to the PIN
//	GET  /admin/login        asks for the PIN
//	POST /admin/login, /admin/logout
//	GET  /admin/SECTION      one section; its forms' fields may be in the query
//	POST /admin/SECTION      do=NAME and the fields of that form; answers with a redirect
//	                         to the section, which then shows what came of it
//	GET  /admin/SECTION/FILE what a section has to hand out
//
// # Who comes in
//
// Whoever knows the PIN, from the machine itself, or through TLS where AllowRemote lets
// others in: a request in the clear from elsewhere is sent to https on the same port.
// A session is a random number in a cookie that no script reads and no other site
// sends, known here by its hash; it ends with the program, after sessionIdle without
// use, after sessionMost whatever happens, and with a new PIN, but for the session that
// set it. What the page asks for by itself, to stay fresh, is no use.
//
// The first PIN is not set here, however near whoever asks is: any program on the machine
// could. It comes from the console, or on the card that sets the clock up.
//
// Every POST carries a token that belongs to its session; before there is one, to a
// cookie that only lives until then. A body is at most adminBody long. Host and Origin
// are looked at for all paths alike, see Server.

// Admin is what the page for technicians and HR is made of.
//
// To add a section, write a function that returns a Section, and name it in the list
// that cmd's implementation of Sections returns; nothing here has to change. Its words
// are rows of ui/text/office.go. What a section shows is drawn from Blocks: it writes
// no HTML, and needs no script.
type Admin interface {
	// Sections lists the sections in their order. It is asked once, when the server is
	// built.
	Sections() []Section

	// PINSet reports whether there is a PIN.
	PINSet() bool

	// CheckPIN returns nil for the right PIN. ErrWrongPIN, *TooManyTries and ErrLocked
	// are answers to the person; any other error is logged. It blocks for the medium,
	// and is slow on purpose.
	CheckPIN(pin string) error

	// Changed is how often the PIN was changed; sessions of another PIN are no more.
	Changed() uint64
}

// ErrLocked says that no PIN is looked at until somebody at the machine allows it.
var ErrLocked = errors.New("locked after too many wrong PINs: unlock it at the machine: punchclock admin unlock")

// PINRefused says why a text cannot be a PIN: Reason is short or simple.
type PINRefused struct{ Reason string }

func (e *PINRefused) Error() string { return "this cannot be the PIN: it is too " + e.Reason }

// Section is one part of the page, with a tab of its own.
type Section struct {
	Name  string // last part of its path; lower-case letters
	Title string // of its tab: a row of ui/text/office.go

	// Show returns what is to be seen. It is asked for every look at the section, and
	// again every Fresh, 0 for never, for the blocks that are Live.
	Show  func(ctx context.Context, ask Ask) ([]Block, error)
	Fresh time.Duration

	// Do has a function for each form of the section that changes something, by the
	// form's Do. It may take its time, up to Within, as for a card that is to be tapped;
	// ctx ends when nobody waits for it any more. An error is for the person, in words.
	Do     map[string]func(ctx context.Context, ask Ask) (Answer, error)
	Within time.Duration // 0: ten seconds

	// Files has what the section hands out, by the last part of the path. They only read.
	Files map[string]func(w http.ResponseWriter, r *http.Request, ask Ask)
}

// Ask is one request to a section.
type Ask struct {
	Say   text.Catalog // what to speak
	Form  url.Values   // the query, or the fields of a form
	Where string       // from where, for a log: an address
}

// Answer is what came of a form.
type Answer struct {
	Mark   string // of the words: ok, wait or stuck
	Words  string
	Blocks []Block    // shown once, above the section's own
	Query  url.Values // with which the section is shown then

	// Changed is, after a form that has set the PIN, how often it was changed by then: the
	// session goes on, all others are over. 0 for any other form.
	Changed uint64
}

// Block is one thing on a page: a title, words, and at most one each of the rest.
type Block struct {
	Title string
	Mark  string // ok, wait or stuck, with a symbol and colour of its own; "" for none
	Words []string
	Live  bool // drawn anew while one looks; never a form that is typed into
	Form  *Form
	Plot  *Plot
	Table *Table
}

// Table is rows below a head. Wide cells may be pushed from side to side.
type Table struct {
	Head  []string
	Rows  []Row
	Empty string // said in the place of no rows
}

// Row is one row of a table.
type Row struct {
	Mark  string // ok, wait or stuck; "" for none
	Cells []string
	Link  url.Values // not nil: the first cell leads to this section with this query
	Form  *Form      // not nil: its button stands at the row's end; hidden fields only
}

// Form is a form with one button. Without Do it is a search: its fields become the
// section's query.
type Form struct {
	Do     string
	Fields []Field
	Submit string
	Busy   string // said while it takes its time; "" for one that does not
	Ask    string // asked before it is done; "" for nothing
	Path   string // of one of the section's Files, which the form is for; "" for the section
}

// Field is one field of a form.
type Field struct {
	Name, Label, Value string
	Type               string      // text, date, hidden, search, current-password, new-password; select where there are Options
	Options            [][2]string // value and words
	Must               bool
}

// Plot is lines or bars over time, drawn beside its table.
type Plot struct {
	Unit   string
	From   time.Time     // of the first value
	Step   time.Duration // between two
	Bars   bool          // each value stands for the step that it begins
	Series []Series      // at most four, of equal length
	Words  string        // what is to be seen, for whoever cannot see it
}

// Series is one line; NaN where nothing is known.
type Series struct {
	Name   string
	Values []float64
}

const (
	adminPath   = "/admin"
	adminCookie = "punchclock-admin"
	loginCookie = "punchclock-login"
	adminBody   = 16 << 10 // bytes of a form
	doWithin    = 10 * time.Second
)

// admin is the page; Server owns it. say is made anew for each request.
type admin struct {
	Admin
	s        *Server
	tmpl     *template.Template
	sections map[string]Section
	order    []Section
	sessions sessions
	key      []byte // of the tokens before there is a session
}

func newAdmin(s *Server) (*admin, error) {
	a := &admin{Admin: s.cfg.Admin, s: s, sections: make(map[string]Section), order: s.cfg.Admin.Sections(), key: make([]byte, 32)}
	rand.Read(a.key) // never fails: see crypto/rand
	for _, x := range a.order {
		if _, twice := a.sections[x.Name]; twice || x.Name == "" || strings.Trim(x.Name, "abcdefghijklmnopqrstuvwxyz") != "" || x.Name == "login" || x.Name == "logout" || x.Show == nil {
			return nil, fmt.Errorf("section %q of the admin page: twice, or not a word of lower-case letters, or empty", x.Name)
		}
		a.sections[x.Name] = x
	}
	if len(a.order) == 0 {
		return nil, errors.New("the admin page has no section")
	}
	src, err := fs.ReadFile(embedded, "admin.html")
	if err != nil {
		return nil, err
	}
	a.tmpl, err = template.New("admin").Option("missingkey=error").Funcs(template.FuncMap{"plot": drawPlot, "in": inPage, "symbol": func(mark string) string { return marks[mark] }}).Parse(string(src))
	return a, err
}

// marks are the symbols beside the colours.
var marks = map[string]string{"ok": "●", "wait": "▲", "stuck": "■"}

func isAdminPath(p string) bool { return p == adminPath || strings.HasPrefix(p, adminPath+"/") }

// serve answers what lies below /admin. The Host and the Origin have been looked at.
func (a *admin) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'")
	h.Set("Referrer-Policy", "same-origin") // with no-referrer a browser's forms come with Origin: null
	// The body is all that a client may take its time with, and forms are short.
	r.Body = http.MaxBytesReader(w, r.Body, adminBody)
	if r.ContentLength > adminBody {
		h.Set("Connection", "close")
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", adminBody))
		return
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
		h.Set("Allow", "GET, POST")
		refuse(w, http.StatusMethodNotAllowed, "use GET or POST on this path")
		return
	case !isLocal(r) && !isSecure(r):
		if r.Method == http.MethodPost {
			refuse(w, http.StatusForbidden, "nothing is taken in the clear from another machine: use https")
			return
		}
		http.Redirect(w, r, "https://"+r.Host+adminPath, http.StatusFound)
		return
	}
	if r.Method == http.MethodPost {
		if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
			refuse(w, http.StatusUnsupportedMediaType, "send a form, with Content-Type: application/x-www-form-urlencoded")
			return
		}
		err := r.ParseForm()
		var big *http.MaxBytesError
		switch {
		case errors.As(err, &big):
			h.Set("Connection", "close")
			refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", adminBody))
			return
		case err != nil:
			refuse(w, http.StatusBadRequest, "the body did not arrive whole, or is no form")
			return
		}
	}
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, adminPath), "/")
	post := r.Method == http.MethodPost
	switch {
	case name == "login" && post:
		a.postLogin(w, r)
		return
	case name == "login":
		a.showLogin(w, r, http.StatusOK, "", "")
		return
	}
	fresh := r.Header.Get("X-Fresh") != ""
	v, in := a.sessions.find(r, a.Changed(), !fresh)
	switch {
	case !in && (post || fresh):
		refuse(w, http.StatusUnauthorized, "the session is over: give the PIN again")
		return
	case !in:
		http.Redirect(w, r, adminPath+"/login", http.StatusSeeOther)
		return
	case post && !hmac.Equal([]byte(r.PostForm.Get("csrf")), []byte(v.csrf)):
		refuse(w, http.StatusForbidden, "the form does not belong to this session: load the page again")
		return
	case name == "logout" && post:
		a.sessions.end(v)
		setCookie(w, r, adminCookie, "", adminPath)
		http.Redirect(w, r, adminPath+"/login", http.StatusSeeOther)
		return
	}
	name, file, isFile := strings.Cut(name, "/")
	if name == "" && !isFile {
		name = a.order[0].Name
	}
	x, ok := a.sections[name]
	serveFile := x.Files[file]
	switch {
	case !ok, isFile && serveFile == nil:
		refuse(w, http.StatusNotFound, "there is nothing at this path")
	case isFile && post:
		h.Set("Allow", http.MethodGet)
		refuse(w, http.StatusMethodNotAllowed, "use GET on this path")
	case isFile:
		serveFile(w, r, a.ask(r, v))
	case post:
		a.do(w, r, v, x)
	default:
		a.show(w, r, v, x)
	}
}

func (a *admin) ask(r *http.Request, v *session) Ask {
	ask := Ask{Say: text.For(v.language()), Form: r.URL.Query(), Where: r.RemoteAddr}
	if r.Method == http.MethodPost {
		ask.Form = r.PostForm
	}
	return ask
}

// do carries a form out and leaves what came of it for the next look at the section.
func (a *admin) do(w http.ResponseWriter, r *http.Request, v *session, x Section) {
	fn := x.Do[r.PostForm.Get("do")]
	if fn == nil {
		refuse(w, http.StatusBadRequest, "this section has no such form: load the page again")
		return
	}
	within := x.Within
	if within == 0 {
		within = doWithin
	}
	rc := http.NewResponseController(w)
	// The request has been read; its deadline would end the work. A recorder in a test
	// has none.
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Now().Add(within + writeTimeout))
	ctx, cancel := context.WithTimeout(r.Context(), within)
	defer cancel()
	ask := a.ask(r, v)
	out, err := fn(ctx, ask)
	if err != nil {
		out.Mark, out.Words = "stuck", err.Error()
	}
	if out.Changed != 0 {
		a.sessions.keep(v, out.Changed)
	}
	if r.Context().Err() != nil {
		return // whoever asked has gone, and would wonder at it on another page
	}
	v.leave(x.Name, out)
	to := adminPath + "/" + x.Name
	if q := out.Query.Encode(); q != "" {
		to += "?" + q
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// adminData is what admin.html is drawn from.
type adminData struct {
	Lang, Title, Name string
	Words             func(key string, args ...any) string
	Languages         []adminLink
	Sections          []adminLink
	Here              string // path of the section
	CSRF              string
	Fresh             int // seconds, 0 for never
	Mark, Notice      string
	Once, Blocks      []Block
	Login             *loginData
}

type adminLink struct {
	Path, Title, Lang string
	Current           bool
}

type loginData struct {
	None  bool // there is no PIN
	Token string
}

// inner is what the parts of admin.html are drawn from.
type inner struct {
	Block Block
	Form  Form
	Page  adminData
	ID    string
}

func inPage(x any, page adminData, id string, i int) inner {
	switch x := x.(type) {
	case Block:
		return inner{Block: x, Page: page, ID: fmt.Sprintf("%s-%d", id, i)}
	case *Form:
		return inner{Form: *x, Page: page, ID: id}
	}
	panic(fmt.Sprintf("web: a %T is no part of the admin page", x))
}

// Query is the link's, for a template.
func (r Row) Query() template.URL { return template.URL(r.Link.Encode()) }

// show draws a section.
func (a *admin) show(w http.ResponseWriter, r *http.Request, v *session, x Section) {
	fresh := r.Header.Get("X-Fresh") != ""
	if lang := r.URL.Query().Get("lang"); lang != "" && !fresh {
		v.speak(lang)
	}
	ask := a.ask(r, v)
	d := adminData{Here: adminPath + "/" + x.Name, CSRF: v.csrf, Fresh: int(x.Fresh / time.Second)}
	for _, s := range a.order {
		d.Sections = append(d.Sections, adminLink{Path: adminPath + "/" + s.Name, Title: ask.Say.Office(s.Title), Current: s.Name == x.Name})
	}
	if !fresh {
		once := v.take(x.Name)
		d.Mark, d.Notice, d.Once = once.Mark, once.Words, once.Blocks
	}
	var err error
	if d.Blocks, err = x.Show(r.Context(), ask); err != nil {
		a.s.cfg.Log.Error("a section of the admin page could not be shown", "section", x.Name, "err", err)
		d.Blocks = append(d.Blocks, Block{Mark: "stuck", Words: []string{ask.Say.Office("failed")}})
	}
	a.draw(w, http.StatusOK, ask.Say, d)
}

func (a *admin) draw(w http.ResponseWriter, code int, say text.Catalog, d adminData) {
	d.Lang, d.Name, d.Title, d.Words = say.Language(), a.s.cfg.Name, say.Office("admin"), say.Office
	for _, l := range text.OfficeLanguages() {
		d.Languages = append(d.Languages, adminLink{Path: "?lang=" + url.QueryEscape(l), Title: text.For(l).Say(text.LanguageName), Lang: l, Current: l == d.Lang})
	}
	var out bytes.Buffer
	if err := a.tmpl.Execute(&out, d); err != nil {
		a.s.cfg.Log.Error("the admin page could not be drawn", "err", err)
		refuse(w, http.StatusInternalServerError, "the page could not be drawn")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	// Whoever asked may have gone; there is nobody left to tell.
	_, _ = w.Write(out.Bytes())
}

// loginSay is the language of the page before anybody has come in.
func (a *admin) loginSay(r *http.Request) text.Catalog {
	if lang := r.FormValue("lang"); text.Known(lang) {
		return text.For(lang).InOffice()
	}
	return a.s.page.say.InOffice()
}

func (a *admin) showLogin(w http.ResponseWriter, r *http.Request, code int, mark, words string) {
	say := a.loginSay(r)
	d := adminData{Here: adminPath + "/login", Mark: mark, Notice: words, Login: &loginData{None: !a.PINSet()}}
	c := ""
	if old, err := r.Cookie(loginCookie); err == nil && len(old.Value) == len(rand.Text()) {
		c = old.Value
	} else {
		c = rand.Text()
		setCookie(w, r, loginCookie, c, adminPath)
	}
	d.Login.Token = a.token(c)
	a.draw(w, code, say, d)
}

// token belongs to the cookie of somebody who has not come in yet.
func (a *admin) token(cookie string) string {
	h := hmac.New(sha256.New, a.key)
	h.Write([]byte(cookie))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (a *admin) ownForm(w http.ResponseWriter, r *http.Request) bool {
	c, err := r.Cookie(loginCookie)
	if err == nil && hmac.Equal([]byte(r.PostForm.Get("csrf")), []byte(a.token(c.Value))) {
		return true
	}
	if err == nil && r.PostForm.Get("csrf") != "" { // a page of an earlier life of the program
		a.showLogin(w, r, http.StatusForbidden, "wait", a.loginSay(r).Office("login.again"))
		return false
	}
	refuse(w, http.StatusForbidden, "the form does not belong to this page: load it again")
	return false
}

func (a *admin) postLogin(w http.ResponseWriter, r *http.Request) {
	if !a.ownForm(w, r) {
		return
	}
	say := a.loginSay(r)
	changed := a.Changed()
	pin := r.PostForm.Get("pin")
	if pin == "" || len(pin) > PINMost {
		a.showLogin(w, r, http.StatusForbidden, "stuck", say.Office("login.wrong"))
		return
	}
	err := a.CheckPIN(pin)
	var tries *TooManyTries
	code, mark := http.StatusForbidden, "stuck"
	switch {
	case err == nil:
		a.s.cfg.Log.Info("somebody came into the admin page", "from", peer(r))
		a.enter(w, r, changed, say)
		return
	case errors.As(err, &tries):
		w.Header().Set("Retry-After", fmt.Sprint(int(math.Ceil(tries.Wait.Seconds()))))
		code, mark = http.StatusTooManyRequests, "wait"
	case errors.Is(err, ErrWrongPIN):
		a.s.cfg.Log.Warn("a wrong PIN for the admin page", "from", peer(r))
	case errors.Is(err, ErrLocked):
	default:
		a.s.cfg.Log.Error("a PIN for the admin page could not be looked at", "err", err)
		code = http.StatusServiceUnavailable
	}
	a.showLogin(w, r, code, mark, SayPIN(say, err))
}

// SayPIN says why a PIN was not taken: what CheckPIN or *PINRefused have to say, and for
// anything else that it could not be done.
func SayPIN(say text.Catalog, err error) string {
	var tries *TooManyTries
	var refused *PINRefused
	switch {
	case errors.As(err, &tries):
		return say.Office("login.wait", say.Duration(tries.Wait+time.Second-1))
	case errors.Is(err, ErrWrongPIN):
		return say.Office("login.wrong")
	case errors.Is(err, ErrLocked):
		return say.Office("login.locked")
	case errors.As(err, &refused):
		return say.Office("pin."+refused.Reason, PINLeast)
	}
	return say.Office("failed")
}

// How long a PIN of the admin page is, in bytes.
const (
	PINLeast = 6
	PINMost  = 64
)

// enter begins a session.
func (a *admin) enter(w http.ResponseWriter, r *http.Request, changed uint64, say text.Catalog) {
	secret := a.sessions.begin(changed, say.Language())
	setCookie(w, r, adminCookie, secret, adminPath)
	setCookie(w, r, loginCookie, "", adminPath)
	http.Redirect(w, r, adminPath, http.StatusSeeOther)
}

// setCookie sets a cookie that only this page sends and no script reads; an empty one
// is taken away.
func setCookie(w http.ResponseWriter, r *http.Request, name, value, path string) {
	c := &http.Cookie{Name: name, Value: value, Path: path, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: isSecure(r)}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// peer is the address of whoever asks, for the log.
func peer(r *http.Request) string {
	if p, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return p.Addr().Unmap().String()
	}
	return ""
}

// isLocal reports whether the machine itself asks.
func isLocal(r *http.Request) bool {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && p.Addr().Unmap().IsLoopback()
}
