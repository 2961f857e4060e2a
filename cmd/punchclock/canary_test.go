package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"punchclock/device"
	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/sync/sandbox"
	"punchclock/sync/token"
	"punchclock/ui"
)

// earwig stands in front of a far side: it notes every secret that goes by, and has the
// far side repeat them in its own words when it is told to.
type earwig struct {
	far  http.Handler
	mu   sync.Mutex
	seen map[string]string // secret → what it is
	echo int               // answers that repeat all that was asked
}

var tokenField = regexp.MustCompile(`"(?:access_token|tenant_access_token|token_key)":"([^"]+)"`)

func (e *earwig) note(what, secret string) {
	if len(secret) > 3 {
		e.seen[secret] = what
	}
}

func (e *earwig) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	e.mu.Lock()
	auth := r.Header.Get("Authorization")
	_, bare, _ := strings.Cut(auth, " ")
	e.note("an Authorization header", bare)
	token := strings.Contains(r.URL.Path, "token") || strings.Contains(r.URL.Path, "login")
	echo := e.echo > 0 && !token
	if echo {
		e.echo--
	}
	e.mu.Unlock()
	if echo {
		b, _ := json.Marshal(fmt.Sprintf("with %s cannot take %s", bare, body))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(400)
		fmt.Fprintf(w, `{"code":1229999,"msg":%s,"message":%s}`, b, b)
		return
	}
	rec := httptest.NewRecorder()
	e.far.ServeHTTP(rec, r)
	e.mu.Lock()
	for _, m := range tokenField.FindAllStringSubmatch(rec.Body.String(), -1) {
		e.note("a token", m[1])
	}
	e.mu.Unlock()
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	w.Write(rec.Body.Bytes())
}

func (e *earwig) repeat(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.echo = n
}

// Everything that a person or a program can read of the clock, after every trouble that
// makes it speak, and with far sides that repeat what they were sent.
func TestNoSecretAndNoTokenIsAnywhereToBeRead(t *testing.T) {
	si := sandbox.NewSignin(sandbox.SigninConfig{UserID: "svc", Password: "canary-password", AcceptAny: true})
	signin := &earwig{far: si, seen: map[string]string{"canary-password": "the password", "canary-old-one": "an old secret", "bob:canary-proxy": "the proxy's login", "canary-proxy": "the proxy's password", "canary-logs-key": "the key of the logs"}}
	far := httptest.NewServer(signin)
	defer far.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) }))
	defer proxy.Close()
	ca := newAuthority(t)
	ca.sign("clock", []string{"test-door"})
	h := newHouse(t, settings{people: 12, window: "0s", extra: fmt.Sprintf(`[[destination]]
name = "signin"
driver = "signin"
mode = "service_account"
base_url = %q
user_id = "svc"
password_file = "signin-password"
[[destination]]
name = "proxied"
driver = "feishu"
app_id = "cli_x"
app_secret_file = "feishu-secret"
proxy = %q
proxy_login_file = "proxy-login"
[logs]
server = "127.0.0.1:9"
ca = %q
cert = %q
key = "logs-key.pem"
`, far.URL, proxy.URL, ca.file("ca.pem"), ca.file("clock.pem"))})
	h.write("logs-key.pem", "-----BEGIN PRIVATE KEY-----\ncanary-logs-key\n")
	clouds := &earwig{seen: map[string]string{}}
	mux := http.NewServeMux()
	mux.Handle("/104/", http.StripPrefix("/104", h.tc))
	mux.Handle("/", h.fs)
	clouds.far = mux
	_, s104 := h.tc.Credentials()
	_, sFS := h.fs.Credentials()
	clouds.seen[s104], clouds.seen[sFS] = "104's secret", "Feishu's secret"
	h.write("signin-password", "canary-old-one\n")
	h.write("104-secret", "canary-old-one\n")
	h.write("proxy-login", "bob:canary-proxy\n")
	l, err := net.Listen("tcp", h.cloudAt)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: clouds}
	go srv.Serve(l)
	defer srv.Close()
	h.start()
	state := func(i int) string { return h.status().Destinations[i].State }
	next := 0
	tap := func() { h.tap(h.people[next]); next++ }
	tap()
	h.until(15*time.Second, "wrong secrets are refused", func() bool {
		return state(0) == "auth_failed" && state(2) == "auth_failed" && state(3) == "misconfigured"
	})
	h.write("signin-password", "canary-password\n")
	h.write("104-secret", s104)
	quiet := func() bool {
		d := h.status().Destinations
		return d[0].Pending+d[1].Pending+d[2].Pending == 0
	}
	h.until(30*time.Second, "the right ones are taken", quiet)
	clouds.repeat(2)
	signin.repeat(1)
	tap()
	h.until(30*time.Second, "the far sides have repeated it all", quiet)
	if d := h.status().Destinations; d[0].Parked+d[1].Parked+d[2].Parked < 3 {
		t.Errorf("nothing was repeated: %+v", d)
	}
	h.tc.Revoke()
	h.fs.Revoke()
	si.Revoke()
	tap()
	h.until(30*time.Second, "new tokens", quiet)
	for name, set := range map[string]func(on bool){
		"401 for ever": func(on bool) { h.tc.SetFaults(func(f *sandbox.TransferCardFaults) { f.RefuseTokens = on }) },
		"a portal": func(on bool) {
			n := 0
			if on {
				n = 3
			}
			h.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.HTMLNext = n })
		},
		"500": func(on bool) {
			n := 0
			if on {
				n = 3
			}
			si.SetFaults(func(f *sandbox.SigninFaults) { f.FailNext = n })
		},
	} {
		set(true)
		tap()
		h.until(15*time.Second, name, func() bool { d := h.status().Destinations; return d[0].LastError+d[1].LastError+d[2].LastError != "" })
		set(false)
		h.run("queue", "retry", "--destination", "104", "--config", h.config)
		h.until(60*time.Second, name+" is over", quiet)
	}
	h.run("reconcile", "--config", h.config)
	h.hup()

	if len(clouds.seen) < 8 || len(signin.seen) < 6 {
		t.Fatalf("saw only %d and %d secrets: this test proves nothing", len(clouds.seen), len(signin.seen))
	}
	looked := 0
	look := func(where, text string) {
		looked++
		for _, e := range []*earwig{clouds, signin} {
			e.mu.Lock()
			for secret, what := range e.seen {
				if strings.Contains(text, secret) {
					t.Errorf("%s is in %s", what, where)
				}
			}
			e.mu.Unlock()
		}
	}
	// Cards and names too, where nobody has asked for them.
	personal := func(where, text string) {
		look(where, text)
		for _, p := range h.people {
			for _, s := range []string{p.name, p.badge(), fmt.Sprintf("%X", p.card), fmt.Sprintf("%x", p.card)} {
				if strings.Contains(text, s) {
					t.Errorf("%q is in %s", s, where)
				}
			}
		}
	}
	look("/", string(h.get("/"))) // shows the person who has just tapped
	for _, path := range []string{"/api/status", "/metrics", "/status"} {
		personal(path, string(h.get(path)))
	}
	bundle := filepath.Join(h.dir, "bundle.tar.gz")
	for _, verb := range [][]string{{"doctor"}, {"doctor", "--json"}, {"status", "--json"}, {"support-bundle", "--plain", "--output", bundle}, {"doctor", "--html", filepath.Join(h.dir, "page.html")}} {
		out, _ := h.run(append(verb, "--config", h.config)...)
		personal("punchclock "+strings.Join(verb, " "), out)
	}
	for name, text := range opened(t, bundle, nil) {
		personal("the bundle's "+name, text)
	}
	html, err := os.ReadFile(filepath.Join(h.dir, "page.html"))
	if err != nil {
		t.Fatal(err)
	}
	personal("doctor's page", string(html))
	for _, name := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", h.cmd.Process.Pid, name))
		if err != nil || len(b) < 10 {
			t.Fatalf("%s: %d bytes, %v", name, len(b), err)
		}
		personal("/proc/"+name, string(b))
	}
	for _, verb := range [][]string{{"status"}, {"status", "--json"}, {"queue", "ls"}, {"queue", "ls", "--format", "csv"}, {"queue", "ls", "--json"}, {"punches", "export"},
		{"reconcile", "--json"}, {"logs", "config"}, {"logs", "events"}, {"update", "status"}, {"version", "--json"}, {"config", "show"}, {"config", "check"}, {"verify"}} {
		out, _ := h.run(append(verb, "--config", h.config)...)
		look("punchclock "+strings.Join(verb, " "), out)
	}
	// SIGQUIT ends a Go program as a panic does, with all it has to say.
	h.stopSSE()
	h.cmd.Process.Signal(syscall.SIGQUIT)
	<-h.exited
	if !strings.Contains(h.logged(), "goroutine ") {
		t.Error("the clock has crashed without a word")
	}
	personal("the log, and what a crash says", h.logged())
	err = filepath.WalkDir(filepath.Join(h.dir, "state"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		look(filepath.Base(path), string(b))
		return err
	})
	if err != nil || looked < 18 {
		t.Errorf("%v after %d places", err, looked)
	}
}

// Whatever prints them, and however: a line of the log that somebody adds next year is
// written by somebody who has not read this.
func TestWhatHoldsACardANameOrASecretDoesNotPrintIt(t *testing.T) {
	const card, name, pin, bearer = "0A1B2C3D4E", "王小明", "83838383", "t-canary-bearer"
	raw := []byte{0x0A, 0x1B, 0x2C, 0x3D, 0x4E}
	b := punch.Badge("em:" + card)
	who := punch.Employee{Number: "000123", Name: name, Badges: []punch.Badge{b}}
	draft := punch.Draft{Kind: punch.In, Badge: b, Raw: raw, Bits: 40, Employee: "000123", Reader: "front", Outcome: punch.Stored}
	shown := ui.Result{Outcome: "stored", Name: name, Employee: "000123"}
	values := map[string]any{
		"badge": b, "badges": []punch.Badge{b}, "by badge": map[punch.Badge]int{b: 1}, "employee": who, "pointer": &who, "employees": []punch.Employee{who},
		"draft": draft, "punch": punch.Punch{ID: "x-000000000001", Draft: draft}, "entry": queue.Entry{Punch: punch.Punch{Draft: draft}},
		"card": device.Event{Reader: "front", What: device.Card, Medium: "em", Value: card, Raw: raw}, "typed": device.Event{What: device.Entry, Number: "000123", PIN: pin},
		"pin": device.PIN(pin), "token": token.Token{Value: bearer, Life: time.Hour}, "result": shown, "screen": ui.Screen{Result: &shown, Mine: &ui.Mine{Name: name}},
		"mine": ui.Mine{Name: name},
	}
	var said bytes.Buffer
	var sent []sentLine
	book := journalBook(&sent)
	end := book.begin()
	for what, v := range values {
		said.Reset()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x"} {
			fmt.Fprintf(&said, verb+"\n", v)
		}
		fmt.Fprintln(&said, fmt.Errorf("with %v", v))
		for _, log := range []*slog.Logger{newLogger(&said), book.logger()} {
			log.Info("x", "v", v)
			log.With("v", v).WithGroup("g").Info("x", slog.Group("h", "v", v))
		}
		for _, secret := range []string{card, name, pin, bearer, "10 27 44 61 78", "0x0a1b", "0a1b2c", strings.ToUpper(hex.EncodeToString([]byte(b))), hex.EncodeToString([]byte(b)),
			hex.EncodeToString([]byte(name)), hex.EncodeToString([]byte(pin)), hex.EncodeToString([]byte(bearer))} {
			if strings.Contains(said.String(), secret) {
				t.Errorf("%s: %q is in\n%s", what, secret, said.String())
			}
		}
	}
	end()
	if len(sent) != 2*len(values) {
		t.Fatalf("%d lines in the journal", len(sent))
	}
	for _, secret := range []string{card, name, pin, bearer} {
		if all := fmt.Sprint(sent); strings.Contains(all, secret) {
			t.Errorf("%q is in the journal: %s", secret, all)
		}
	}
	if whole := fmt.Sprint(string(b), who.Name, string(device.PIN(pin))); !strings.Contains(whole, card) || !strings.Contains(whole, name) || !strings.Contains(whole, pin) {
		t.Errorf("whoever asks for it does not get it: %s", whole)
	}
}
