package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/ui"
	"punchclock/ui/web"
)

var taipei = time.FixedZone("CST", 8*3600)

// house is the rest of the program, as far as the page can see it.
type house struct {
	mu     sync.Mutex
	kinds  []string
	pins   []string
	refuse error // of ChooseKind
	pin    func(no, pin string) (ui.Result, error)
	fixes  []string
	fix    func(id, kind string) (ui.Result, error)
	ready  error
	asked  atomic.Int32 // times Status was asked for
	status any
}

func (h *house) Status(context.Context) any {
	n := h.asked.Add(1)
	if h.status != nil {
		return h.status
	}
	return map[string]any{"asked": n}
}

func (h *house) ChooseKind(kind string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds = append(h.kinds, kind)
	return h.refuse
}

func (h *house) PIN(_ context.Context, no, pin string) (ui.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pins = append(h.pins, no+"/"+pin)
	if h.pin == nil {
		return ui.Result{}, web.ErrWrongPIN
	}
	return h.pin(no, pin)
}

func (h *house) Correct(_ context.Context, id, kind string) (ui.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fixes = append(h.fixes, id+"/"+kind)
	if h.fix == nil {
		return ui.Result{}, web.ErrNotCorrectable
	}
	return h.fix(id, kind)
}

func (h *house) ReadyNow() error { return h.Ready() }

func (h *house) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready
}

func (h *house) chosen() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.kinds...)
}

func build(t testing.TB, change func(*web.Config)) (*web.Server, *house) {
	t.Helper()
	h := new(house)
	cfg := web.Config{
		ID: "tpe-1f-lobby", Name: "台北總部一樓", Version: "1.2.3", Language: "zh-TW", Location: taipei, Backend: h,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "punchclock_build_info 1\n")
		}),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := web.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, h
}

// local is a request from the device's own browser.
func local(method, path, body string) *http.Request {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, path, r)
	req.Host = "127.0.0.1:8080"
	req.RemoteAddr = "127.0.0.1:54321"
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func ask(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// errorOf returns the words of an {"error":"…"} body.
func errorOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var e struct{ Error string }
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error == "" {
		t.Errorf("status %d without an error in words: %q", w.Code, w.Body)
	}
	return e.Error
}

func stored(n int) ui.Result {
	return ui.Result{
		Outcome: "stored", PunchID: fmt.Sprintf("tpe-1f-lobby-%012d", n), Seq: uint64(n), Kind: "in",
		Employee: "000123", Name: "王小明", Time: time.Date(2026, 11, 21, 0, 58, 3, 123_999_999, time.UTC),
		Reader: "front", Clock: "synced", Language: "en",
	}
}

// line is the client's end of an event stream that lives in memory, so that it
// can be used under a virtual clock.
type line struct {
	mu       sync.Mutex
	buf      bytes.Buffer
	code     int
	header   http.Header
	stuck    bool      // the client has stopped reading
	deadline time.Time // as the handler set it
	done     chan struct{}
	hangUp   context.CancelFunc
}

func dial(h http.Handler, r *http.Request) *line {
	l := &line{header: make(http.Header), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(r.Context())
	l.hangUp = cancel
	go func() {
		defer close(l.done)
		h.ServeHTTP(l, r.WithContext(ctx))
	}()
	return l
}

func (l *line) Header() http.Header { return l.header }
func (l *line) WriteHeader(c int)   { l.code = c }
func (l *line) Flush()              {}

func (l *line) SetWriteDeadline(t time.Time) error { l.deadline = t; return nil }
func (l *line) SetReadDeadline(time.Time) error    { return nil }

func (l *line) Write(b []byte) (int, error) {
	l.mu.Lock()
	stuck := l.stuck
	l.mu.Unlock()
	if stuck {
		time.Sleep(time.Until(l.deadline))
		return 0, os.ErrDeadlineExceeded
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *line) stopReading() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stuck = true
}

// event is one message of a stream; a comment has the name ":".
type event struct{ id, name, data string }

// take returns what has come since the last call.
func (l *line) take() []event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []event
	for _, block := range strings.Split(l.buf.String(), "\n\n") {
		if e := parse(block); e != (event{}) {
			out = append(out, e)
		}
	}
	l.buf.Reset()
	return out
}

func parse(block string) event {
	var e event
	for _, l := range strings.Split(block, "\n") {
		name, value, _ := strings.Cut(l, ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "":
			if value != "" {
				e.name, e.data = ":", value
			}
		}
	}
	return e
}

func named(events []event, name string) []event {
	var out []event
	for _, e := range events {
		if e.name == name {
			out = append(out, e)
		}
	}
	return out
}

func TestEveryPathAnswersToItsOwnMethodOnly(t *testing.T) {
	s, _ := build(t, nil)
	h := s.Handler()
	for path, c := range map[string]struct{ method, body, mime, has string }{
		"/":                 {"GET", "", "text/html; charset=utf-8", "台北總部一樓"},
		"/static/kiosk.css": {"GET", "", "text/css; charset=utf-8", "#kinds"},
		"/static/kiosk.js":  {"GET", "", "text/javascript; charset=utf-8", "EventSource"},
		"/static/icon.svg":  {"GET", "", "image/svg+xml", "<svg"},
		"/api/status":       {"GET", "", "application/json", `"asked"`},
		"/healthz":          {"GET", "", "application/json", `"alive":true`},
		"/readyz":           {"GET", "", "application/json", `"ready":true`},
		"/metrics":          {"GET", "", "", "punchclock_build_info 1"},
		"/api/kind":         {"POST", `{"kind":"go-out"}`, "application/json", `{"kind":"go-out"}`},
	} {
		w := ask(h, local(c.method, path, c.body))
		if w.Code != 200 || !strings.Contains(w.Body.String(), c.has) || c.mime != "" && w.Header().Get("Content-Type") != c.mime {
			t.Errorf("%s %s: %d, %q, %.200s", c.method, path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		for _, other := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"} {
			if other == c.method || c.method == "GET" && other == "HEAD" {
				continue
			}
			w := ask(h, local(other, path, ""))
			if w.Code != 405 || w.Header().Get("Allow") != c.method {
				t.Errorf("%s %s: %d, Allow %q", other, path, w.Code, w.Header().Get("Allow"))
			}
			errorOf(t, w)
		}
	}
	if w := ask(h, local("HEAD", "/events", "")); w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD /events: %d %v", w.Code, w.Header())
	}
}

func TestEveryAnswerCarriesTheSecurityHeaders(t *testing.T) {
	s, _ := build(t, nil)
	foreign := local("GET", "/", "")
	foreign.Host = "evil.example"
	for _, r := range []*http.Request{local("GET", "/", ""), local("GET", "/api/status", ""), local("GET", "/nowhere", ""), foreign} {
		h := ask(s.Handler(), r).Header()
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: CSP %q", r.URL, csp)
		}
		for k, v := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
			if h.Get(k) != v {
				t.Errorf("%s: %s is %q, want %q", r.URL, k, h.Get(k), v)
			}
		}
	}
}

func TestForeignHostOriginOrMachineIsRefused(t *testing.T) {
	home, _ := build(t, nil)
	open, _ := build(t, func(c *web.Config) {
		c.AllowRemote = true
		c.Hosts = []string{"0.0.0.0:8080", "Clock.Example.com", "10.0.0.5:8080"}
	})
	for _, c := range []struct {
		name   string
		s      *web.Server
		host   string
		remote string
		header string // "Name: value"
		want   int
	}{
		{"localhost", home, "localhost:8080", "127.0.0.1:9", "", 200},
		{"localhost without port", home, "localhost", "127.0.0.1:9", "", 200},
		{"127.0.0.1", home, "127.0.0.1:1", "127.0.0.1:9", "", 200},
		{"::1", home, "[::1]:8080", "[::1]:9", "", 200},
		{"::1 without port", home, "[::1]", "[::1]:9", "", 200},
		{"v4 in v6", home, "LOCALHOST:8080", "[::ffff:127.0.0.1]:9", "", 200},
		{"rebound name", home, "evil.example:8080", "127.0.0.1:9", "", 403},
		{"name that begins well", home, "localhost.evil.example", "127.0.0.1:9", "", 403},
		{"name that begins well", home, "127.0.0.1.evil.example", "127.0.0.1:9", "", 403},
		{"no host", home, "", "127.0.0.1:9", "", 403},
		{"own address, not allowed", home, "10.0.0.5:8080", "127.0.0.1:9", "", 403},
		{"other machine says localhost", home, "localhost:8080", "192.168.1.7:9", "", 403},
		{"other machine, v6", home, "localhost:8080", "[fe80::1%eth0]:9", "", 403},
		{"no address", home, "localhost:8080", "@", "", 403},
		{"own origin", home, "localhost:8080", "127.0.0.1:9", "Origin: http://localhost:8080", 200},
		{"foreign origin", home, "localhost:8080", "127.0.0.1:9", "Origin: https://evil.example", 403},
		{"other port's origin", home, "localhost:8080", "127.0.0.1:9", "Origin: http://localhost:3000", 403},
		{"other loopback name's origin", home, "localhost:8080", "127.0.0.1:9", "Origin: http://127.0.0.1:8080", 403},
		{"null origin", home, "localhost:8080", "127.0.0.1:9", "Origin: null", 403},
		{"extension's origin", home, "localhost:8080", "127.0.0.1:9", "Origin: chrome-extension://localhost:8080", 403},
		{"picture on another site", home, "localhost:8080", "127.0.0.1:9", "Sec-Fetch-Site: cross-site", 403},
		{"page on another port", home, "localhost:8080", "127.0.0.1:9", "Sec-Fetch-Site: same-site", 403},
		{"own page", home, "localhost:8080", "127.0.0.1:9", "Sec-Fetch-Site: same-origin", 200},
		{"typed in", home, "localhost:8080", "127.0.0.1:9", "Sec-Fetch-Site: none", 200},
		{"configured name", open, "clock.example.com:8080", "192.168.1.7:9", "", 200},
		{"configured address", open, "10.0.0.5:8080", "192.168.1.7:9", "", 200},
		{"address it came in on", open, "10.0.0.77:8080", "192.168.1.7:9", "", 200},
		{"another address", open, "10.0.0.78:8080", "192.168.1.7:9", "", 403},
		{"rebound name, remote", open, "evil.example:8080", "192.168.1.7:9", "", 403},
		{"foreign origin, remote", open, "10.0.0.5:8080", "192.168.1.7:9", "Origin: http://evil.example", 403},
	} {
		r := local("GET", "/api/status", "")
		r.Host, r.RemoteAddr = c.host, c.remote
		at := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 77), Port: 8080}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, at))
		if k, v, ok := strings.Cut(c.header, ": "); ok {
			r.Header.Set(k, v)
		}
		w := ask(c.s.Handler(), r)
		if w.Code != c.want {
			t.Errorf("%s (Host %q from %s, %s): %d, want %d", c.name, c.host, c.remote, c.header, w.Code, c.want)
		}
		if w.Code == 403 {
			if strings.Contains(w.Body.String(), "asked") {
				t.Errorf("%s: refused, and answered all the same", c.name)
			}
			errorOf(t, w)
		}
	}
}

func TestLinkFromElsewhereMayOpenThePageButNothingElse(t *testing.T) {
	s, _ := build(t, nil)
	r := local("GET", "/", "")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if w := ask(s.Handler(), r); w.Code != 200 {
		t.Errorf("the page by a link: %d", w.Code)
	}
}

func TestForgedPostsChangeNothing(t *testing.T) {
	s, h := build(t, nil)
	for _, header := range []string{"Origin: http://evil.example", "Sec-Fetch-Site: cross-site"} {
		r := local("POST", "/api/kind", `{"kind":"out"}`)
		k, v, _ := strings.Cut(header, ": ")
		r.Header.Set(k, v)
		if w := ask(s.Handler(), r); w.Code != 403 {
			t.Errorf("%s: %d", header, w.Code)
		}
	}
	// What a plain form of another site can send without asking first.
	r := local("POST", "/api/kind", `{"kind":"out"}`)
	r.Header.Set("Content-Type", "text/plain")
	if w := ask(s.Handler(), r); w.Code != 415 {
		t.Errorf("text/plain: %d", w.Code)
	}
	// What its script can send without asking first, were it not for the Origin.
	for _, kind := range []string{"", "application/x-www-form-urlencoded"} {
		for _, header := range []string{"Origin: http://" + r.Host, "Sec-Fetch-Site: same-origin"} {
			r := local("POST", "/api/kind", `{"kind":"out"}`)
			r.Header.Set("Content-Type", kind)
			k, v, _ := strings.Cut(header, ": ")
			r.Header.Set(k, v)
			if w := ask(s.Handler(), r); w.Code != 415 {
				t.Errorf("%q of a browser: %d", kind, w.Code)
			}
		}
	}
	if got := h.chosen(); len(got) != 0 {
		t.Errorf("a kind was chosen: %v", got)
	}
}

func TestAScriptNeedNotNameTheTypeOfItsJSON(t *testing.T) {
	s, h := build(t, nil)
	for _, kind := range []string{"", "application/x-www-form-urlencoded", "application/json; charset=utf-8"} {
		r := local("POST", "/api/kind", `{"kind":"go-out"}`)
		r.Header.Del("Content-Type")
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		if w := ask(s.Handler(), r); w.Code != 200 {
			t.Errorf("%q: %d %s", kind, w.Code, w.Body)
		}
	}
	if got := h.chosen(); len(got) != 3 {
		t.Errorf("chosen: %v", got)
	}
}

func TestPathsOutsideTheTableDoNotExist(t *testing.T) {
	s, _ := build(t, nil)
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	for _, path := range []string{
		"/static/../../../../etc/passwd", "/static/..%2f..%2fetc/passwd", "/..", "//etc/passwd", "/static/", "/static",
		"/static/../page.html", "/static/page.html", "/page.html", "/api", "/api/", "/events/", "/index.html", "/%00", "/static/kiosk.js/",
	} {
		// Written by hand: a client would tidy the path up first.
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path)
		b, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 404 ")) {
			t.Errorf("%s: %.60q", path, b)
		}
	}
}

func TestKindIsChosenByItsWordOnly(t *testing.T) {
	s, h := build(t, nil)
	for _, k := range []string{"in", "out", "go-out", "return"} {
		if w := ask(s.Handler(), local("POST", "/api/kind", `{"kind":"`+k+`"}`)); w.Code != 200 {
			t.Errorf("%s: %d %s", k, w.Code, w.Body)
		}
	}
	if got := strings.Join(h.chosen(), " "); got != "in out go-out return" {
		t.Errorf("chosen: %s", got)
	}
	for body, words := range map[string]string{
		`{"kind":""}`:                     "in, out, go-out, return",
		`{"kind":"上班"}`:                   "in, out, go-out, return",
		`{"kind":"In"}`:                   "in, out, go-out, return",
		`{}`:                              "in, out, go-out, return",
		`{"kind":1}`:                      "kind is a text",
		`{"kind":"in","employee_no":"1"}`: `"employee_no"`,
		`{"kind":"in"} {"kind":"out"}`:    "goes on",
		`["in"]`:                          "object",
		`{"kind":"in"`:                    "middle",
		"":                                "empty",
		"kind=in":                         "JSON",
	} {
		w := ask(s.Handler(), local("POST", "/api/kind", body))
		if w.Code != 400 {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
		if got := errorOf(t, w); !strings.Contains(got, words) {
			t.Errorf("%s: %q does not say %q", body, got, words)
		}
	}
	if n := len(h.chosen()); n != 4 {
		t.Errorf("%d kinds chosen, want 4", n)
	}
	h.refuse = errors.New("the clock is shutting down")
	if w := ask(s.Handler(), local("POST", "/api/kind", `{"kind":"in"}`)); w.Code != 503 || errorOf(t, w) != "the clock is shutting down" {
		t.Errorf("a refused choice: %d %s", w.Code, w.Body)
	}
}

func TestBodiesOverFourKilobytesAreNotRead(t *testing.T) {
	s, h := build(t, nil)
	big := `{"kind":"in","x":"` + strings.Repeat("a", 5000) + `"}`
	if w := ask(s.Handler(), local("POST", "/api/kind", big)); w.Code != 413 {
		t.Errorf("5 KB: %d", w.Code)
	}
	// A body without a length that never ends.
	end := &endless{}
	r := local("POST", "/api/pin", "")
	r.Body, r.ContentLength = io.NopCloser(end), -1
	w := ask(s.Handler(), r)
	if w.Code != 413 {
		t.Errorf("an endless body: %d", w.Code)
	}
	errorOf(t, w)
	if end.n > 64<<10 {
		t.Errorf("%d bytes of it were read", end.n)
	}
	if len(h.chosen()) != 0 || len(h.pins) != 0 {
		t.Error("something was done")
	}
}

type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	e.n += len(b)
	return len(b), nil
}

func TestPINAnswersSayWhatHappened(t *testing.T) {
	s, h := build(t, nil)
	const body = `{"employee_no":"000123","pin":"4711"}`
	post := func(b string) *httptest.ResponseRecorder { return ask(s.Handler(), local("POST", "/api/pin", b)) }

	if w := post(body); w.Code != 403 {
		t.Errorf("wrong PIN: %d %s", w.Code, w.Body)
	}
	if h.pins[0] != "000123/4711" {
		t.Errorf("asked for %q", h.pins[0])
	}
	h.pin = func(string, string) (ui.Result, error) {
		return ui.Result{}, fmt.Errorf("door: %w", &web.TooManyTries{Wait: 90*time.Second + time.Millisecond})
	}
	if w := post(body); w.Code != 429 || w.Header().Get("Retry-After") != "91" {
		t.Errorf("too many tries: %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	h.pin = func(string, string) (ui.Result, error) { return ui.Result{}, errors.New("secret detail") }
	if w := post(body); w.Code != 503 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("unexpected error: %d %s", w.Code, w.Body)
	}
	h.pin = func(string, string) (ui.Result, error) {
		return ui.Result{Outcome: "not_stored", Kind: "in", Clock: "synced", Time: time.Unix(0, 0)}, nil
	}
	if w := post(body); w.Code != 503 || !strings.Contains(w.Body.String(), `"outcome":"not_stored"`) {
		t.Errorf("not stored: %d %s", w.Code, w.Body)
	}
	h.pin = func(no, _ string) (ui.Result, error) { r := stored(42); r.Employee = no; return r, nil }
	if w := post(body); w.Code != 200 || strings.TrimSpace(w.Body.String()) != golden {
		t.Errorf("stored: %d %s", w.Code, w.Body)
	}
	before := len(h.pins)
	for _, b := range []string{`{"employee_no":"000123"}`, `{"pin":"4711"}`, `{"employee_no":123,"pin":"4711"}`,
		`{"employee_no":"` + strings.Repeat("9", 65) + `","pin":"1"}`, `{"employee_no":"1","pin":"` + strings.Repeat("9", 65) + `"}`} {
		if w := post(b); w.Code != 400 {
			t.Errorf("%.60s: %d", b, w.Code)
		}
	}
	if len(h.pins) != before {
		t.Error("a PIN was looked at that could not be one")
	}
}

func TestReadyzTellsTheReason(t *testing.T) {
	s, h := build(t, nil)
	h.ready = errors.New("outbox: no space left on device")
	w := ask(s.Handler(), local("GET", "/readyz", ""))
	if w.Code != 503 || errorOf(t, w) != "outbox: no space left on device" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s.Handler(), local("GET", "/healthz", "")); w.Code != 200 {
		t.Errorf("alive: %d", w.Code)
	}
}

// golden is stored(42) on the wire, word for word.
const golden = `{"outcome":"stored","punch_id":"tpe-1f-lobby-000000000042","seq":42,"kind":"in","employee_no":"000123",` +
	`"name":"王小明","time":"2026-11-21T08:58:03.123+08:00","reader":"front","clock":"synced","language":"en"}`

func TestResultOnTheWireIsAsPromised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, nil)
		l := dial(s.Handler(), local("GET", "/events", ""))
		synctest.Wait()
		l.take()
		s.Result(stored(42))
		s.Result(ui.Result{Outcome: "misread", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Reader: "front", Clock: "unset"})
		s.Result(ui.Result{Outcome: "misread", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Reader: "front", Clock: "unset", Reason: "random"})
		synctest.Wait()
		got := named(l.take(), "result")
		if len(got) != 3 || got[0].data != golden {
			t.Fatalf("got  %v\nwant %s", got, golden)
		}
		if want := `{"outcome":"misread","time":"2026-01-02T11:04:05.000+08:00","reader":"front","clock":"unset"}`; got[1].data != want {
			t.Errorf("got  %s\nwant %s", got[1].data, want)
		}
		if want := `"clock":"unset","reason":"random"}`; !strings.HasSuffix(got[2].data, want) {
			t.Errorf("got  %s\nwant … %s", got[2].data, want)
		}
		l.hangUp()
		<-l.done
	})
}

func TestNewListenerGetsThePresentScreenAndNoOldResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, nil)
		s.Result(stored(1))
		until := time.Date(2026, 11, 21, 0, 58, 13, 0, time.UTC)
		r := stored(1)
		sc := ui.Screen{Kind: "go-out", Why: "chosen", Clock: "holdover", Until: until, Result: &r, Readers: []ui.Reader{{Name: "front", State: "down"}}}
		s.Show(sc)
		l := dial(s.Handler(), local("GET", "/events", ""))
		synctest.Wait()
		if ct := l.header.Get("Content-Type"); ct != "text/event-stream" || l.code != 200 {
			t.Errorf("%d %q", l.code, ct)
		}
		got := l.take()
		want := `{"kind":"go-out","why":"chosen","result":{"outcome":"stored","punch_id":"tpe-1f-lobby-000000000001","seq":1,"kind":"in",` +
			`"employee_no":"000123","name":"王小明","time":"2026-11-21T08:58:03.123+08:00","reader":"front","clock":"synced","language":"en"},` +
			`"clock":"holdover","until":"2026-11-21T08:58:13.000+08:00","readers":[{"name":"front","state":"down"}]}`
		if screens := named(got, "screen"); len(screens) != 1 || screens[0].data != want {
			t.Errorf("got  %v\nwant %s", screens, want)
		}
		if len(named(got, "result")) != 0 {
			t.Errorf("old results: %v", got)
		}
		if p := named(got, "pulse"); len(p) != 1 || !strings.Contains(p[0].data, `"now":"2000-01-01T08:00:00.000+08:00"`) || !strings.Contains(p[0].data, `"ready":true`) {
			t.Errorf("pulse: %v", p)
		}
		s.Show(sc) // the same again is no change
		synctest.Wait()
		if got := l.take(); len(got) != 0 {
			t.Errorf("nothing changed, and this came: %v", got)
		}
		sc.Result = nil
		s.Show(sc)
		synctest.Wait()
		if got := named(l.take(), "screen"); len(got) != 1 || !strings.Contains(got[0].data, `"result":null`) {
			t.Errorf("after a change: %v", got)
		}
		l.hangUp()
		<-l.done
	})
}

func TestListenerThatReconnectsMissesNoResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, nil)
		h := s.Handler()
		listen := func(header, query string) []event {
			r := local("GET", "/events"+query, "")
			if header != "" {
				r.Header.Set("Last-Event-ID", header)
			}
			l := dial(h, r)
			synctest.Wait()
			l.hangUp()
			<-l.done
			all := l.take()
			if len(named(all, "screen")) != 1 || all[len(all)-1].name != "screen" {
				t.Errorf("the screen is not last: %v", all)
			}
			return named(all, "result")
		}
		l := dial(h, local("GET", "/events", ""))
		synctest.Wait()
		for i := 1; i <= 3; i++ {
			s.Result(stored(i))
		}
		synctest.Wait()
		l.hangUp()
		<-l.done
		first := named(l.take(), "result")
		if len(first) != 3 || first[0].id == first[1].id || first[2].id == "" {
			t.Fatalf("results: %v", first)
		}
		if got := listen(first[0].id, ""); len(got) != 2 || got[0] != first[1] || got[1] != first[2] {
			t.Errorf("after the first: %v", got)
		}
		if got := listen("", "?last_event_id="+first[1].id); len(got) != 1 || got[0] != first[2] {
			t.Errorf("after the second, by query: %v", got)
		}
		if got := listen(first[2].id, ""); len(got) != 0 {
			t.Errorf("after the last: %v", got)
		}
		// An id of the daemon's earlier life, or nonsense: all of this life is news.
		for _, id := range []string{"zzzzzzzz-2", "17", "-", "zzzzzzzz-99999999999999999999999", first[0].id + "9999"} {
			if got := listen(id, ""); len(got) != 3 {
				t.Errorf("after %q: %v", id, got)
			}
		}
		// More was missed than is kept: the newest 256 come, in order.
		for i := 4; i <= 1000; i++ {
			s.Result(stored(i))
		}
		got := listen(first[2].id, "")
		if len(got) != 256 || !strings.Contains(got[0].data, "000000000745") || !strings.Contains(got[255].data, "000000001000") {
			t.Errorf("%d results, from %.80s", len(got), got[0].data)
		}
	})
}

func TestSlowListenerNeverHoldsUpATapAndIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, nil)
		h := s.Handler()
		slow, good := dial(h, local("GET", "/events", "")), dial(h, local("GET", "/events", ""))
		synctest.Wait()
		slow.stopReading()
		start := time.Now()
		for i := 1; i <= 10_000; i++ {
			s.Result(stored(i))
			s.Show(ui.Screen{Kind: "in", Clock: "synced", Until: start.Add(time.Duration(i) * time.Second)})
			s.Poke()
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("somebody waited %s", d)
		}
		synctest.Wait()
		if n := len(named(good.take(), "result")); n != 10_000 {
			t.Errorf("the other listener got %d results, want 10000", n)
		}
		<-slow.done
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("the slow one was dropped after %s, want 10s", d)
		}
		good.hangUp()
		<-good.done
	})
}

func TestStatusEventsComeOnceASecondAtMostAndTheLastPokeIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, house := build(t, nil)
		h := s.Handler()
		for range 100 {
			s.Poke()
		}
		time.Sleep(time.Minute)
		if n := house.asked.Load(); n != 0 {
			t.Errorf("nobody listens, and the status was asked for %d times", n)
		}
		var lines []*line
		for range 5 {
			lines = append(lines, dial(h, local("GET", "/events", "")))
		}
		synctest.Wait()
		for range 100 { // ten seconds of a poke every 100 ms
			s.Poke()
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		asked := int(house.asked.Load())
		if asked < 10 || asked > 11 {
			t.Errorf("5 listeners asked %d times in 10 s, want 10 or 11", asked)
		}
		for _, l := range lines {
			got := named(l.take(), "status")
			if len(got) != asked || got[len(got)-1].data != fmt.Sprintf(`{"asked":%d}`, asked) {
				t.Errorf("%d status events, the last %v", len(got), got[len(got)-1])
			}
		}
		time.Sleep(time.Hour)
		if n := int(house.asked.Load()); n != asked {
			t.Errorf("asked %d times more without a poke", n-asked)
		}
		for _, l := range lines {
			l.hangUp()
			<-l.done
		}
	})
}

func TestQuietStreamIsKeptAliveAndTellsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, house := build(t, nil)
		l := dial(s.Handler(), local("GET", "/events", ""))
		synctest.Wait()
		l.take()
		house.mu.Lock()
		house.ready = errors.New("disk full")
		house.mu.Unlock()
		time.Sleep(time.Minute + time.Second)
		got := l.take()
		if len(named(got, ":")) != 3 || len(got) != 6 {
			t.Errorf("in a minute: %v", got)
		}
		if p := named(got, "pulse"); len(p) != 3 || !strings.Contains(p[2].data, `"now":"2000-01-01T08:01:00.000+08:00"`) || !strings.Contains(p[2].data, `"ready":false`) {
			t.Errorf("pulses: %v", p)
		}
		l.hangUp()
		<-l.done
	})
}

func TestSixtyFifthListenerIsRefusedUntilOneLeaves(t *testing.T) {
	s, _ := build(t, nil)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = web.NewHTTPServer(s.Handler())
	srv.Start()
	defer srv.Close()
	var bodies []io.Closer
	defer func() {
		for _, b := range bodies {
			_ = b.Close()
		}
	}()
	get := func() *http.Response {
		resp, err := srv.Client().Get(srv.URL + "/events")
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for i := range 64 {
		resp := get()
		bodies = append(bodies, resp.Body)
		if resp.StatusCode != 200 {
			t.Fatalf("listener %d: %d", i+1, resp.StatusCode)
		}
	}
	resp := get()
	_ = resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("listener 65: %d", resp.StatusCode)
	}
	// Everything else goes on.
	if resp, err := srv.Client().Get(srv.URL + "/healthz"); err != nil || resp.StatusCode != 200 {
		t.Errorf("healthz: %v", err)
	} else {
		_ = resp.Body.Close()
	}
	_ = bodies[0].Close()
	for until := time.Now().Add(5 * time.Second); ; {
		resp := get()
		if resp.StatusCode == 200 {
			bodies = append(bodies, resp.Body)
			break
		}
		_ = resp.Body.Close()
		if time.Now().After(until) {
			t.Fatal("no place became free")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestShutdownEndsTheStreams(t *testing.T) {
	s, _ := build(t, nil)
	srv := web.NewHTTPServer(s.Handler())
	if srv.ReadHeaderTimeout != 5*time.Second || srv.WriteTimeout != 0 || srv.IdleTimeout == 0 || srv.ReadTimeout == 0 {
		t.Errorf("timeouts: %+v", srv)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	resp, err := http.Get("http://" + ln.Addr().String() + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != "retry: 1000" {
		t.Fatalf("first line %q", lines.Text())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Errorf("shutdown with a stream open: %v", err)
	}
	for lines.Scan() { // to the end, which comes
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream was torn, not ended: %v", err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func TestAssetsAreNotSentTwice(t *testing.T) {
	s, _ := build(t, nil)
	for _, path := range []string{"/static/kiosk.css", "/static/kiosk.js", "/static/icon.svg"} {
		w := ask(s.Handler(), local("GET", path, ""))
		tag := w.Header().Get("ETag")
		if tag == "" || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: ETag %q, %q", path, tag, w.Header().Get("Cache-Control"))
		}
		r := local("GET", path, "")
		r.Header.Set("If-None-Match", tag)
		if w := ask(s.Handler(), r); w.Code != 304 || w.Body.Len() != 0 {
			t.Errorf("%s again: %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
}

func TestPageIsDrawnInEveryLanguageAndStaysSmall(t *testing.T) {
	for lang, words := range map[string][]string{
		"zh-TW": {"上班", "下班", "外出", "外歸"},
		"zh-CN": {"上班", "下班", "外出", "外出返回"},
		"en":    {"In", "Out", "Going out", "Back in"},
		"vi":    {"Vào làm", "Tan làm"},
		"id":    {"Masuk", "Pulang"},
		"th":    {"เข้างาน", "เลิกงาน"},
		"fil":   {"Pasok", "Uwi"},
	} {
		s, _ := build(t, func(c *web.Config) { c.Language = lang })
		s.Show(ui.Screen{Kind: "out", Why: "schedule", Clock: "synced"})
		w := ask(s.Handler(), local("GET", "/", ""))
		page := w.Body.String()
		for _, word := range append(words, `lang="`+lang+`"`) {
			if !strings.Contains(page, word) {
				t.Errorf("%s: %q is not on the page", lang, word)
			}
		}
		if n := strings.Count(page, `aria-pressed="true"`); n != 1 || !strings.Contains(page, `data-kind="out" aria-pressed="true"`) {
			t.Errorf("%s: %d kinds are marked", lang, n)
		}
		size := len(page)
		for _, m := range regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1) {
			if !strings.HasPrefix(m[1], "/static/") && m[1] != "/qr.svg" {
				t.Errorf("%s: the page loads %s", lang, m[1])
			}
			size += ask(s.Handler(), local("GET", m[1], "")).Body.Len()
		}
		if t.Logf("%s: the page weighs %d bytes", lang, size); size > 100<<10 {
			t.Errorf("%s: that is too much", lang)
		}
		if bad := regexp.MustCompile(`style="|<style|\son[a-z]+="|javascript:`).FindString(page); bad != "" {
			t.Errorf("%s: %q, which the page's own policy forbids", lang, bad)
		}
		empty := regexp.MustCompile(`"[a-z._-]+":""`)
		if m := empty.FindString(regexp.MustCompile(`(?s)id="words".*?</script>`).FindString(page)); m != "" {
			t.Errorf("%s: a sentence is missing: %s", lang, m)
		}
	}
}

func TestEverySentenceThePageUsesExists(t *testing.T) {
	s, _ := build(t, nil)
	js := ask(s.Handler(), local("GET", "/static/kiosk.js", "")).Body.String()
	page := ask(s.Handler(), local("GET", "/", "")).Body.String()
	m := regexp.MustCompile(`(?s)id="words" type="application/json">(.*?)</script>`).FindStringSubmatch(page)
	var words map[string]string
	if m == nil || json.Unmarshal([]byte(m[1]), &words) != nil {
		t.Fatal("the page has no words")
	}
	for _, m := range regexp.MustCompile(`\bT\["([a-z._]+[a-z])"\]|\bsay\("([a-z._]+)"|\bT\.([a-z]+)\b`).FindAllStringSubmatch(js, -1) {
		if key := m[1] + m[2] + m[3]; words[key] == "" {
			t.Errorf("the script says %q, which has no words", key)
		}
	}
	for prefix, ends := range map[string][]string{
		"kind.":    {"in", "out", "go-out", "return"},
		"greet.":   {"in", "out", "go-out", "return"},
		"why.":     {"chosen", "schedule", "person"},
		"clock.":   {"unset", "holdover"},
		"outcome.": {"stored", "stored.unset", "duplicate", "unknown_badge", "blocked_badge", "misread", "misread.random", "misread.two", "misread.learned", "misread.pin", "misread.tries", "misread.enrol-no", "not_stored", "enrolment", "enrolment.enrol-pin", "enrolment.enrol-card"},
		"idle.":    {"pending.one", "pending.many", "parked.one", "parked.many"},
	} {
		for _, e := range ends {
			if words[prefix+e] == "" {
				t.Errorf("%s has no words", prefix+e)
			}
		}
	}
}

func TestNameOfAPersonCannotBecomeMarkup(t *testing.T) {
	s, _ := build(t, func(c *web.Config) { c.Name = `<img src=x>"'` })
	r := stored(1)
	r.Name = `</script><script>alert(1)</script>`
	s.Show(ui.Screen{Result: &r})
	page := ask(s.Handler(), local("GET", "/", "")).Body.String()
	if strings.Contains(page, "<script>alert") || strings.Contains(page, "<img src=x") {
		t.Error("markup came through")
	}
}

func TestPageKnowsThatTheProgramChanged(t *testing.T) {
	version := func(c func(*web.Config)) string {
		s, _ := build(t, c)
		return regexp.MustCompile(`data-version="([0-9a-f]+)"`).FindString(ask(s.Handler(), local("GET", "/", "")).Body.String())
	}
	a, b := version(nil), version(func(c *web.Config) { c.Version = "1.2.4" })
	if a == "" || a == b || a != version(nil) {
		t.Errorf("versions %q and %q", a, b)
	}
}

// The grounds and texts of the style sheet, by the formula of WCAG 2.
func TestTextsHaveAContrastOfSevenToOne(t *testing.T) {
	s, _ := build(t, nil)
	css := ask(s.Handler(), local("GET", "/static/kiosk.css", "")).Body.String()
	v := make(map[string]string)
	for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]+);`).FindAllStringSubmatch(css, -1) {
		v[m[1]] = m[2]
	}
	pairs := [][2]string{{v["text"], v["ground"]}, {v["soft"], v["ground"]}, {v["lit"], v["ground"]}, {v["text"], v["raised"]},
		{v["soft"], v["raised"]}, {v["on-lit"], v["lit"]}}
	blocks := regexp.MustCompile(`#result(?:\[data-outcome=\w+\]|\.unset)? \{[^}]*?background: (#[0-9a-f]+);(?:\s*color: (#[0-9a-f]+);)?`).FindAllStringSubmatch(css, -1)
	if len(blocks) != 8 {
		t.Fatalf("%d outcomes have a colour, want 8", len(blocks))
	}
	seen := make(map[string]bool)
	for _, m := range blocks {
		if m[2] == "" {
			m[2] = "#fff"
		}
		pairs = append(pairs, [2]string{m[2], m[1]})
		if seen[m[1]] {
			t.Errorf("two outcomes share %s", m[1])
		}
		seen[m[1]] = true
	}
	for _, p := range pairs {
		a, b := luminance(t, p[0]), luminance(t, p[1])
		if c := (max(a, b) + 0.05) / (min(a, b) + 0.05); c < 7 {
			t.Errorf("%s on %s: %.1f", p[0], p[1], c)
		}
	}
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	hex = strings.TrimPrefix(hex, "#")
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil || len(hex) != 6 {
		t.Fatalf("colour %q", hex)
	}
	lin := func(c uint64) float64 {
		f := float64(c&255) / 255
		if f <= 0.04045 {
			return f / 12.92
		}
		return math.Pow((f+0.055)/1.055, 2.4)
	}
	return 0.2126*lin(n>>16) + 0.7152*lin(n>>8) + 0.0722*lin(n)
}

func TestIncompleteConfigurationIsNamed(t *testing.T) {
	for want, cfg := range map[string]web.Config{
		"id":     {Location: taipei, Backend: new(house)},
		"zone":   {ID: "a", Backend: new(house)},
		"answer": {ID: "a", Location: taipei},
	} {
		if _, err := web.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzBodiesAreAnsweredOrRefusedNeverWorse(f *testing.F) {
	f.Add("/api/kind", `{"kind":"in"}`)
	f.Add("/api/pin", `{"employee_no":"000123","pin":"4711"}`)
	f.Add("/api/pin", `{"employee_no":null}`)
	f.Add("/api/kind", "\xff{")
	s, _ := build(f, nil)
	h := s.Handler()
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != "/api/kind" && path != "/api/pin" {
			path = "/api/kind"
		}
		w := ask(h, local("POST", path, body))
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: %d %s", path, body, w.Code, w.Body)
		}
	})
}

func FuzzLastEventIDNeverBreaksAStream(f *testing.F) {
	f.Add("abcdefgh-1")
	f.Add("-")
	f.Add("abcdefgh-18446744073709551615")
	s, _ := build(f, nil)
	for i := 1; i <= 300; i++ {
		s.Result(stored(i))
	}
	h := s.Handler()
	f.Fuzz(func(t *testing.T, id string) {
		r := local("GET", "/events", "")
		r.Header.Set("Last-Event-ID", id)
		ctx, cancel := context.WithCancel(r.Context())
		cancel() // one round
		w := ask(h, r.WithContext(ctx))
		if n := strings.Count(w.Body.String(), "event: result\n"); w.Code != 200 || n != 0 && n != 256 {
			t.Errorf("%q: %d, %d results", id, w.Code, n)
		}
	})
}
