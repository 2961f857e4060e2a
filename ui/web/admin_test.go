package web_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/ui/web"
)

// office is the rest of the program as far as the admin page can see it.
type office struct {
	mu      sync.Mutex
	pin     string
	err     error // of CheckPIN
	changed uint64
	looked  int
	done    []string // forms that were carried out
	slow    func(ctx context.Context) (web.Answer, error)
}

func (o *office) PINSet() bool    { o.mu.Lock(); defer o.mu.Unlock(); return o.pin != "" }
func (o *office) Changed() uint64 { o.mu.Lock(); defer o.mu.Unlock(); return o.changed }

func (o *office) CheckPIN(pin string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looked++
	switch {
	case o.err != nil:
		return o.err
	case pin != o.pin:
		return web.ErrWrongPIN
	}
	return nil
}

// secretWords stand on the page and nowhere else.
const secretWords = "王小明 em:0A1B2C3D4E"

func (o *office) Sections() []web.Section {
	show := func(_ context.Context, ask web.Ask) ([]web.Block, error) {
		at := time.Date(2026, 11, 21, 5, 10, 0, 0, taipei)
		return []web.Block{
			{Title: "Readers", Live: true, Mark: "stuck", Words: []string{"<b>" + ask.Form.Get("q")},
				Table: &web.Table{Head: []string{"a", "b"}, Rows: []web.Row{
					{Mark: "stuck", Cells: []string{"000123", secretWords}, Link: url.Values{"who": {"000123"}}, Form: &web.Form{Do: "note", Submit: "Again", Fields: []web.Field{{Name: "id", Type: "hidden", Value: "7"}}}},
				}}},
			{Title: "Search", Form: &web.Form{Submit: "Search", Fields: []web.Field{{Name: "q", Label: "Name"}, {Name: "sort", Label: "Order", Options: [][2]string{{"a", "A"}, {"b", "B"}}, Value: "b"}}}},
			{Title: "Tap", Form: &web.Form{Do: "slow", Submit: "Tap now", Busy: "tap a card"}},
			{Title: "Plot", Plot: &web.Plot{Unit: "ms", From: at, Step: 5 * time.Minute, Words: "a plot", Series: []web.Series{{Name: "x<y", Values: []float64{1, math.NaN(), 30}}, {Name: "z", Values: []float64{0, 2, 4}}}},
				Table: &web.Table{Head: []string{"t"}, Rows: []web.Row{{Cells: []string{"05:10"}}}}},
		}, nil
	}
	change := func(context.Context, web.Ask) (web.Answer, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.changed++
		return web.Answer{Mark: "ok", Words: "changed", Changed: o.changed}, nil
	}
	note := func(_ context.Context, ask web.Ask) (web.Answer, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.done = append(o.done, ask.Form.Get("id"))
		if ask.Form.Get("id") == "bad" {
			return web.Answer{}, errors.New("no such punch")
		}
		return web.Answer{Mark: "ok", Words: "done with " + ask.Form.Get("id"), Query: url.Values{"q": {"x"}}, Blocks: []web.Block{{Title: "What came of it"}}}, nil
	}
	slow := func(ctx context.Context, _ web.Ask) (web.Answer, error) { return o.slow(ctx) }
	file := func(w http.ResponseWriter, _ *http.Request, _ web.Ask) { io.WriteString(w, secretWords) }
	return []web.Section{
		{Name: "one", Title: "now", Fresh: 2 * time.Second, Show: show, Do: map[string]func(context.Context, web.Ask) (web.Answer, error){"note": note, "slow": slow, "change": change}, Within: 30 * time.Second,
			Files: map[string]func(http.ResponseWriter, *http.Request, web.Ask){"all.csv": file}},
		{Name: "two", Title: "readers", Show: func(context.Context, web.Ask) ([]web.Block, error) { return nil, errors.New("disk on fire") }},
	}
}

// caller is a browser as far as cookies and forms go.
type caller struct {
	t       *testing.T
	h       http.Handler
	from    string
	cookies map[string]string
	secure  bool
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

func (c *caller) do(r *http.Request) *httptest.ResponseRecorder {
	c.t.Helper()
	if c.from != "" {
		r.RemoteAddr = c.from
	}
	for name, v := range c.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: v})
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	for _, k := range w.Result().Cookies() {
		if !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Path != "/admin" || k.Secure != (r.TLS != nil) {
			c.t.Errorf("the cookie %s is not closed enough: %v", k.Name, k)
		}
		if k.MaxAge < 0 {
			delete(c.cookies, k.Name)
		} else {
			c.cookies[k.Name] = k.Value
		}
	}
	return w
}

func (c *caller) get(path string) *httptest.ResponseRecorder {
	c.t.Helper()
	return c.do(local("GET", path, ""))
}

func (c *caller) form(path string, v url.Values) *http.Request {
	r := local("POST", path, v.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "http://"+r.Host)
	return r
}

// post sends a form as the page at from has it, token and all.
func (c *caller) post(from, path string, v url.Values) *httptest.ResponseRecorder {
	c.t.Helper()
	m := csrfField.FindStringSubmatch(c.get(from).Body.String())
	if m == nil {
		c.t.Fatalf("%s has no form", from)
	}
	v.Set("csrf", m[1])
	return c.do(c.form(path, v))
}

func (c *caller) login(pin string) *httptest.ResponseRecorder {
	c.t.Helper()
	return c.post("/admin/login", "/admin/login", url.Values{"pin": {pin}})
}

// adminPage builds a server with an admin page, and a browser at the machine itself.
func adminPage(t *testing.T, change func(*web.Config)) (*office, *caller, *bytes.Buffer) {
	t.Helper()
	o := &office{pin: "4711-0815"}
	var log bytes.Buffer
	s, _ := build(t, func(c *web.Config) {
		c.Admin, c.Log = o, slog.New(slog.NewTextHandler(&log, nil))
		if change != nil {
			change(c)
		}
	})
	return o, &caller{t: t, h: s.Handler(), cookies: map[string]string{}}, &log
}

func TestNothingOfTheAdminPageIsServedWithoutASession(t *testing.T) {
	o, c, log := adminPage(t, nil)
	for _, path := range []string{"/admin", "/admin/", "/admin/one", "/admin/one?q=x", "/admin/two", "/admin/one/all.csv", "/admin/nothing", "/admin/../admin/one"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
			r := local(method, path, "")
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := c.do(r)
			if w.Code < 300 || strings.Contains(w.Body.String(), "0A1B2C3D4E") || strings.Contains(w.Body.String(), "000123") {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
	for _, cookie := range []string{"", "x", strings.Repeat("A", 26)} {
		c.cookies["punchclock-admin"] = cookie
		if w := c.get("/admin/one"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/admin/login" {
			t.Errorf("with a made-up cookie: %d", w.Code)
		}
	}
	if w := c.login("wrong"); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "PIN 不正確") {
		t.Errorf("a wrong PIN: %d", w.Code)
	}
	if w := c.login("4711-0815"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/admin" {
		t.Fatalf("the right PIN: %d", w.Code)
	}
	secret := c.cookies["punchclock-admin"]
	w := c.get("/admin")
	if w.Code != 200 || !strings.Contains(w.Body.String(), secretWords) || w.Header().Get("Cache-Control") != "no-store" || strings.Contains(w.Header().Get("Content-Security-Policy"), "unsafe") {
		t.Errorf("inside: %d %v\n%s", w.Code, w.Header(), w.Body)
	}
	if strings.Contains(w.Body.String(), "<b>") || strings.Contains(w.Body.String(), "x<y") {
		t.Error("words are taken for HTML")
	}
	if w := c.get("/admin/one/all.csv"); w.Body.String() != secretWords {
		t.Errorf("a file: %d %s", w.Code, w.Body)
	}
	if w := c.get("/admin/two"); w.Code != 200 || !strings.Contains(log.String(), "disk on fire") || strings.Contains(w.Body.String(), "disk on fire") {
		t.Errorf("a section that fails: %d", w.Code)
	}
	if w := c.post("/admin", "/admin/logout", url.Values{}); w.Code != http.StatusSeeOther {
		t.Errorf("out: %d", w.Code)
	}
	c.cookies["punchclock-admin"] = secret
	if w := c.get("/admin/one"); w.Code != http.StatusSeeOther {
		t.Errorf("the cookie of a session that was ended: %d", w.Code)
	}
	for _, secret := range []string{"4711-0815", "wrong\"", secret, "0A1B2C3D4E", "王小明"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q is in the log:\n%s", secret, log)
		}
	}
	if o.looked != 2 {
		t.Errorf("%d PINs were looked at", o.looked)
	}
}

func TestAdminFormIsRefusedWithoutItsTokenAndFromElsewhere(t *testing.T) {
	o, c, _ := adminPage(t, nil)
	// Before anybody is in: the token belongs to the cookie.
	for name, change := range map[string]func(*http.Request, url.Values){
		"no token":         func(_ *http.Request, v url.Values) { v.Del("csrf") },
		"another token":    func(_ *http.Request, v url.Values) { v.Set("csrf", strings.Repeat("0", 32)) },
		"no cookie":        func(r *http.Request, _ url.Values) { delete(c.cookies, "punchclock-login") },
		"a foreign Origin": func(r *http.Request, _ url.Values) { r.Header.Set("Origin", "http://evil.example") },
		"a null Origin":    func(r *http.Request, _ url.Values) { r.Header.Set("Origin", "null") },
		"a foreign Host":   func(r *http.Request, _ url.Values) { r.Host = "evil.example" },
		"another site":     func(r *http.Request, _ url.Values) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"no form":          func(r *http.Request, _ url.Values) { r.Header.Set("Content-Type", "text/plain") },
	} {
		v := url.Values{"pin": {"4711-0815"}, "csrf": {csrfField.FindStringSubmatch(c.get("/admin/login").Body.String())[1]}}
		probe := c.form("/admin/login", v)
		change(probe, v)
		r := c.form("/admin/login", v)
		r.Header, r.Host = probe.Header, probe.Host
		if w := c.do(r); w.Code < 400 {
			t.Errorf("login with %s: %d", name, w.Code)
		}
	}
	if o.looked != 0 {
		t.Errorf("%d PINs were looked at", o.looked)
	}
	if w := c.login("4711-0815"); w.Code != http.StatusSeeOther {
		t.Fatal(w.Code)
	}
	token := csrfField.FindStringSubmatch(c.get("/admin").Body.String())[1]
	other := &caller{t: t, h: c.h, cookies: map[string]string{}}
	other.login("4711-0815")
	foreign := csrfField.FindStringSubmatch(other.get("/admin").Body.String())[1]
	if token == foreign {
		t.Fatal("two sessions have one token")
	}
	for name, change := range map[string]func(*http.Request){
		"no token":          func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("do=note&id=1")) },
		"another session's": func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("do=note&id=1&csrf=" + foreign)) },
		"in the query": func(r *http.Request) {
			r.URL.RawQuery = "csrf=" + token
			r.Body = io.NopCloser(strings.NewReader("do=note&id=1"))
		},
		"a foreign Origin": func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"a foreign Host":   func(r *http.Request) { r.Host = "evil.example" },
		"another site":     func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"JSON":             func(r *http.Request) { r.Header.Set("Content-Type", "application/json") },
	} {
		r := c.form("/admin/one", url.Values{"do": {"note"}, "id": {"1"}, "csrf": {token}})
		r.ContentLength = -1
		change(r)
		if w := c.do(r); w.Code < 400 || len(o.done) > 0 {
			t.Errorf("%s: %d, done %v", name, w.Code, o.done)
		}
	}
	w := c.do(c.form("/admin/one", url.Values{"do": {"note"}, "id": {"7"}, "csrf": {token}}))
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/admin/one?q=x" || len(o.done) != 1 {
		t.Fatalf("with its token: %d %v", w.Code, o.done)
	}
	if b := c.get("/admin/one?q=x").Body.String(); !strings.Contains(b, "done with 7") || !strings.Contains(b, "What came of it") {
		t.Error("what came of it is not shown")
	}
	if b := c.get("/admin/one?q=x").Body.String(); strings.Contains(b, "done with 7") {
		t.Error("what came of it is shown twice")
	}
	c.post("/admin/one", "/admin/one", url.Values{"do": {"note"}, "id": {"8"}})
	if b := c.get("/admin/two").Body.String() + c.get("/admin/one").Body.String(); strings.Contains(b, "done with 8") {
		t.Error("what came of it is shown on another page, or later")
	}
	// Whoever has gone away gets no word of it when they look again.
	o.slow = func(ctx context.Context) (web.Answer, error) {
		<-ctx.Done()
		return web.Answer{}, errors.New("no card came")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	c.do(c.form("/admin/one", url.Values{"do": {"slow"}, "csrf": {token}}).WithContext(gone))
	if b := c.get("/admin/one").Body.String(); strings.Contains(b, "no card came") {
		t.Error("what was broken off is told")
	}
	c.post("/admin/one", "/admin/one", url.Values{"do": {"note"}, "id": {"bad"}})
	if b := c.get("/admin/one").Body.String(); !strings.Contains(b, "no such punch") {
		t.Error("an error is not shown")
	}
	for _, do := range []string{"", "other"} {
		if w := c.post("/admin/one", "/admin/one", url.Values{"do": {do}}); w.Code != http.StatusBadRequest {
			t.Errorf("the form %q: %d", do, w.Code)
		}
	}
}

func TestAdminSessionEndsWhenNobodyIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, c, _ := adminPage(t, nil)
		in := func() bool { return c.get("/admin").Code == 200 }
		fresh := func() int {
			r := local("GET", "/admin/one", "")
			r.Header.Set("X-Fresh", "1")
			return c.do(r).Code
		}
		c.login("4711-0815")
		for range 4 {
			time.Sleep(14 * time.Minute)
			if !in() {
				t.Fatal("ended in use")
			}
		}
		// A page left open keeps asking; that is nobody.
		for range 14 {
			time.Sleep(time.Minute)
			if code := fresh(); code != 200 {
				t.Fatalf("%d", code)
			}
		}
		time.Sleep(90 * time.Second)
		if code := fresh(); code != http.StatusUnauthorized || in() {
			t.Errorf("after a quarter of an hour: %d", code)
		}
		// In use all day, it ends all the same.
		c.login("4711-0815")
		hours := 0.0
		for in() && hours < 24 {
			time.Sleep(10 * time.Minute)
			hours += 1.0 / 6
		}
		if hours < 11.9 || hours > 12.3 {
			t.Errorf("ended after %.1f hours", hours)
		}
		// A new PIN ends all.
		c.login("4711-0815")
		if !in() {
			t.Fatal("not in")
		}
		o.mu.Lock()
		o.changed++
		o.mu.Unlock()
		if in() {
			t.Error("a session of the old PIN lives on")
		}
		// So many can be there at one time; whoever was idle longest goes.
		c.login("4711-0815")
		for range 20 {
			time.Sleep(time.Second)
			other := &caller{t: t, h: c.h, cookies: map[string]string{}}
			other.login("4711-0815")
			if other.get("/admin").Code != 200 {
				t.Fatal("the newest is not in")
			}
		}
		if in() {
			t.Error("sessions pile up")
		}
	})
}

func TestAdminTellsWhyAPINIsNotTaken(t *testing.T) {
	o, c, log := adminPage(t, nil)
	for _, tc := range []struct {
		err   error
		code  int
		words string
	}{
		{&web.TooManyTries{Wait: 61 * time.Second}, http.StatusTooManyRequests, "61 秒後再試"},
		{web.ErrLocked, http.StatusForbidden, "punchclock admin unlock"},
		{errors.New("disk full"), http.StatusServiceUnavailable, "目前無法執行"},
	} {
		o.err = tc.err
		w := c.login("4711-0815")
		if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.words) || strings.Contains(w.Body.String(), "disk full") {
			t.Errorf("%v: %d %s", tc.err, w.Code, w.Body)
		}
		if tc.code == http.StatusTooManyRequests && w.Header().Get("Retry-After") != "61" {
			t.Errorf("retry after %s", w.Header().Get("Retry-After"))
		}
	}
	if !strings.Contains(log.String(), "disk full") {
		t.Error("the log does not say what went wrong")
	}
	n := o.looked
	for _, pin := range []string{"", strings.Repeat("1", 65)} {
		if w := c.login(pin); w.Code != http.StatusForbidden {
			t.Errorf("%d bytes: %d", len(pin), w.Code)
		}
	}
	if o.looked != n {
		t.Error("what cannot be the PIN is looked at")
	}
}

func TestNobodySetsTheFirstPINOnThePage(t *testing.T) {
	o, c, _ := adminPage(t, nil)
	o.pin = ""
	w := c.get("/admin/login")
	if body := w.Body.String(); !strings.Contains(body, "sudo punchclock admin pin") || strings.Contains(body, "type=\"password\"") {
		t.Errorf("at the machine itself: %s", w.Body)
	}
	if w := c.do(c.form("/admin/first", url.Values{"pin": {"4711-0815"}, "again": {"4711-0815"}})); w.Code != http.StatusUnauthorized || o.PINSet() {
		t.Errorf("a first PIN by the old path: %d", w.Code)
	}
}

func TestASessionThatChangesThePINGoesOnAndTheOthersEnd(t *testing.T) {
	o, c, _ := adminPage(t, nil)
	c.login("4711-0815")
	other := &caller{t: t, h: c.h, cookies: map[string]string{}}
	other.login("4711-0815")
	if w := other.get("/admin/one"); w.Code != 200 {
		t.Fatal(w.Code)
	}
	if w := c.post("/admin/one", "/admin/one", url.Values{"do": {"change"}}); w.Code != http.StatusSeeOther || o.Changed() != 1 {
		t.Fatalf("%d, changed %d times", w.Code, o.Changed())
	}
	if w := c.get("/admin/one"); w.Code != 200 {
		t.Errorf("who has changed it is out: %d", w.Code)
	}
	if w := other.get("/admin/one"); w.Code != http.StatusSeeOther {
		t.Errorf("who has not is in: %d", w.Code)
	}
}

func TestHugeBodiesAndOddPathsAreRefusedByTheAdminPage(t *testing.T) {
	o, c, _ := adminPage(t, nil)
	c.login("4711-0815")
	token := csrfField.FindStringSubmatch(c.get("/admin").Body.String())[1]
	read := 0
	for _, declared := range []int64{100 << 20, -1} {
		r := c.form("/admin/one", nil)
		r.ContentLength = declared
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader("csrf="+token+"&do=note&id="), counted{&read}))
		if w := c.do(r); w.Code != http.StatusRequestEntityTooLarge || len(o.done) > 0 {
			t.Errorf("100 MB declared as %d: %d", declared, w.Code)
		}
	}
	if read > 64<<10 {
		t.Errorf("%d bytes were read", read)
	}
	for _, path := range []string{"/admin/one/../../etc/passwd", "/admin/one/all.csv/..", "/admin/one/%2e%2e/x", "/admin/one/", "/admin//", "/admin/one//all.csv", "/admin/ONE", "/admin/one/all.csv/", "/admin/login/", "/admin/%00", "/admin/../static/admin.js"} {
		if w := c.get(path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := c.do(c.form("/admin/one/all.csv", url.Values{"csrf": {token}})); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST to a file: %d", w.Code)
	}
}

// counted is a body without end that counts what is read of it.
type counted struct{ n *int }

func (c counted) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'a'
	}
	*c.n += len(b)
	if *c.n > 100<<20 {
		return 0, io.EOF
	}
	return len(b), nil
}

func TestAdminPageIsSpokenInEveryLanguageOfTheOffice(t *testing.T) {
	for door, want := range map[string]string{"zh-TW": "登入", "zh-CN": "登录", "en": "Log in", "vi": "登入"} {
		_, c, _ := adminPage(t, func(c *web.Config) { c.Language = door })
		if b := c.get("/admin/login").Body.String(); !strings.Contains(b, ">"+want+"<") {
			t.Errorf("%s: no %q", door, want)
		}
	}
	_, c, _ := adminPage(t, nil)
	if b := c.get("/admin/login?lang=en").Body.String(); !strings.Contains(b, "Log in") || !strings.Contains(b, `<html lang="en"`) {
		t.Error("the language cannot be chosen before the login")
	}
	c.post("/admin/login?lang=en", "/admin/login", url.Values{"pin": {"4711-0815"}, "lang": {"en"}})
	if b := c.get("/admin").Body.String(); !strings.Contains(b, "Log out") {
		t.Error("the language of the login is forgotten")
	}
	c.get("/admin/one?lang=zh-CN")
	if b := c.get("/admin").Body.String(); !strings.Contains(b, "退出") {
		t.Error("the language cannot be changed")
	}
}

func TestAdminFormThatTakesItsTimeEndsWithTheBrowser(t *testing.T) {
	o, c, _ := adminPage(t, nil)
	c.login("4711-0815")
	o.slow = func(ctx context.Context) (web.Answer, error) {
		end, ok := ctx.Deadline()
		return web.Answer{Mark: "ok", Words: fmt.Sprintf("%v %v", ok, time.Until(end).Round(time.Second))}, nil
	}
	c.post("/admin/one", "/admin/one", url.Values{"do": {"slow"}})
	if b := c.get("/admin/one").Body.String(); !strings.Contains(b, "true 30s") {
		t.Errorf("no end: %s", b)
	}
}
