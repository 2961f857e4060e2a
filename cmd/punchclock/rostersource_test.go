package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/text/encoding/traditionalchinese"

	"punchclock/queue/roster"
)

// hrServer is where HR keeps the roster.
type hrServer struct {
	*httptest.Server
	mu     sync.Mutex // guards the rest
	body   string
	etag   string
	token  string
	status int
	gets   int
	whole  int // answers with a body
}

func newHRServer(t *testing.T) *hrServer {
	s := &hrServer{etag: `"1"`, status: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gets++
		switch {
		case s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token:
			w.WriteHeader(http.StatusUnauthorized)
		case s.status == http.StatusFound:
			http.Redirect(w, r, "https://elsewhere.example/login?key=xyz", s.status)
		case s.status != 200:
			w.WriteHeader(s.status)
		case r.Header.Get("If-None-Match") == s.etag:
			w.WriteHeader(http.StatusNotModified)
		default:
			s.whole++
			w.Header().Set("ETag", s.etag)
			fmt.Fprint(w, s.body)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// desk is a source on a state directory of its own.
type desk struct {
	t   *testing.T
	cfg *config
	r   *roster.Roster
	s   *rosterSource
	log bytes.Buffer
}

func newDesk(t *testing.T, c rosterConfig) *desk {
	d := &desk{t: t, cfg: defaultConfig()}
	dir := t.TempDir()
	d.cfg.path, d.cfg.Device.StateDir, d.cfg.Device.Timezone, d.cfg.Roster = filepath.Join(dir, "c.toml"), dir, time.UTC, c
	if d.cfg.Roster.Encoding == "" {
		d.cfg.Roster.Encoding = "utf-8"
	}
	d.cfg.Roster.Every = time.Minute
	d.open()
	t.Cleanup(func() { d.r.Close() })
	return d
}

func (d *desk) open() {
	d.t.Helper()
	if d.r != nil {
		d.r.Close()
	}
	log := slog.New(slog.NewTextHandler(&d.log, nil))
	var err error
	if d.r, err = openRoster(d.cfg, log, nil); err != nil {
		d.t.Fatal(err)
	}
	if d.s, err = newRosterSource(d.cfg, log, d.r, func() error { return nil }); err != nil {
		d.t.Fatal(err)
	}
}

// look looks once; problem is what status says then.
func (d *desk) look() (problem string) {
	d.s.look(d.t.Context())
	return d.s.get(&clockwork{cfg: d.cfg}).Problem
}

func (d *desk) names() (all string) {
	for _, e := range d.r.All() {
		all += e.Number + e.Name + " "
	}
	return strings.TrimSpace(all)
}

func TestRosterFollowsItsSourceAndKeepsTheLastGoodOne(t *testing.T) {
	hr := newHRServer(t)
	hr.body = "employee_no,name,pin\n1,王,1234\n2,李,\n"
	d := newDesk(t, rosterConfig{Source: hr.URL + "/roster.csv?key=geheim"})
	if p := d.look(); p != "" || d.names() != "1王 2李" {
		t.Fatalf("%q, %s", p, d.names())
	}
	// The same again: not even sent.
	for range 3 {
		if p := d.look(); p != "" || hr.whole != 1 {
			t.Fatalf("%q, %d whole answers", p, hr.whole)
		}
	}
	// A restart imports nothing again, or every PIN would have to be sealed again.
	generation := d.r.Generation()
	d.open()
	if p := d.look(); p != "" || d.r.Generation() != generation || hr.whole != 1 {
		t.Errorf("after a restart: %q, generation %d, was %d", p, d.r.Generation(), generation)
	}
	// What is wrong changes nothing, and is said once, with its line.
	hr.body, hr.etag = "employee_no,name\n1,王\n1,李\n", `"2"`
	for range 2 {
		if p := d.look(); !strings.Contains(p, "roster.csv:3:1: employee number 1 is on line 2 and on line 3") || d.names() != "1王 2李" {
			t.Fatalf("%q, %s", p, d.names())
		}
	}
	if n := strings.Count(d.log.String(), "the roster stays as it is"); n != 1 {
		t.Errorf("said %d times:\n%s", n, d.log.String())
	}
	hr.body, hr.etag = "employee_no,name\n1,王\n3,陳\n", `"3"`
	if p := d.look(); p != "" || d.names() != "1王 3陳" {
		t.Errorf("%q, %s", p, d.names())
	}
	for _, s := range []string{"geheim", "王", "陳"} {
		if strings.Contains(d.log.String(), s) {
			t.Errorf("the log holds %s:\n%s", s, d.log.String())
		}
	}
}

func TestHalfAFileDoesNotEmptyTheRoster(t *testing.T) {
	hr := newHRServer(t)
	list := func(n int) string {
		b := "employee_no\n"
		for i := range n {
			b += fmt.Sprintf("%d\n", i)
		}
		return b
	}
	hr.body = list(100)
	d := newDesk(t, rosterConfig{Source: hr.URL})
	if p := d.look(); p != "" || d.r.Len() != 100 {
		t.Fatal(p, d.r.Len())
	}
	hr.body, hr.etag = list(49), `"2"`
	if p := d.look(); !strings.Contains(p, "would remove 51 of 100 people") || d.r.Len() != 100 {
		t.Errorf("%q, %d people", p, d.r.Len())
	}
	hr.body, hr.etag = list(50), `"3"`
	if p := d.look(); p != "" || d.r.Len() != 50 {
		t.Errorf("%q, %d people", p, d.r.Len())
	}
}

func TestAnImportByHandStaysUntilTheSourceChanges(t *testing.T) {
	hr := newHRServer(t)
	hr.body = "employee_no\n1\n"
	d := newDesk(t, rosterConfig{Source: hr.URL})
	d.look()
	rows, err := roster.ReadCSV("hand", []byte("employee_no\n1\n7\n"), roster.Cards{}, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.r.Replace(rows); err != nil {
		t.Fatal(err)
	}
	hr.etag = `"1b"` // sent again, but the same
	if p := d.look(); p != "" || d.r.Len() != 2 || hr.whole != 2 {
		t.Errorf("%q, %d people", p, d.r.Len())
	}
	hr.body, hr.etag = "employee_no\n1\n8\n", `"2"`
	if p := d.look(); p != "" || d.names() != "1 8" {
		t.Errorf("%q, %s", p, d.names())
	}
}

func TestEveryAnswerThatIsNoRosterIsNamed(t *testing.T) {
	hr := newHRServer(t)
	hr.body = "employee_no\n1\n"
	d := newDesk(t, rosterConfig{Source: hr.URL + "/r.csv"})
	for status, want := range map[int]string{500: "HTTP 500", 404: "HTTP 404", 403: "check what is in roster.token_file", 302: "sends us elsewhere (elsewhere.example)", 204: "HTTP 204"} {
		hr.status = status
		if p := d.look(); !strings.Contains(p, want) || strings.Contains(p, "xyz") || d.r.Len() != 0 {
			t.Errorf("HTTP %d: %q", status, p)
		}
	}
	hr.status, hr.body = 200, "<html>please log in</html>"
	if p := d.look(); !strings.Contains(p, "r.csv:1:1: column") {
		t.Errorf("a portal: %q", p)
	}
	hr.body = "employee_no\n" + strings.Repeat("x", 33<<20)
	if p := d.look(); !strings.Contains(p, "too large") {
		t.Errorf("%q", p)
	}
	hr.Close()
	if p := d.look(); !strings.Contains(p, "connection refused") {
		t.Errorf("%q", p)
	}
}

func TestATokenForTheSourceIsReadFromItsFileEachTime(t *testing.T) {
	hr := newHRServer(t)
	hr.body, hr.token = "employee_no\n1\n", "tok-1"
	d := newDesk(t, rosterConfig{Source: hr.URL, TokenFile: "roster-token"})
	if p := d.look(); !strings.Contains(p, "roster-token") {
		t.Errorf("no file: %q", p)
	}
	for _, token := range []string{"wrong", "tok-1"} {
		if err := os.WriteFile(filepath.Join(d.cfg.Device.StateDir, "roster-token"), []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := d.look()
		if ok := token == "tok-1"; ok != (p == "") || ok != (d.r.Len() == 1) || strings.Contains(d.log.String(), token) {
			t.Errorf("with token %s: %q, %d people\n%s", token, p, d.r.Len(), d.log.String())
		}
	}
}

func TestAFileIsReadWhenNobodyWritesToItAnyMore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "名冊.csv")
	d := newDesk(t, rosterConfig{Source: path, Encoding: "big5"})
	if p := d.look(); !strings.Contains(p, "no such file") {
		t.Errorf("%q", p)
	}
	b, err := traditionalchinese.Big5.NewEncoder().Bytes([]byte("employee_no;name\n000123;許功蓋\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if d.s.look(ctx); d.r.Len() != 0 {
		t.Error("half a file was imported")
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if p := d.look(); p != "" || d.names() != "000123許功蓋" {
		t.Errorf("%q, %s", p, d.names())
	}
}

// A new clock starts before its network does.
func TestASourceThatCouldNotBeReadIsLookedAtAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "roster.csv")
		d := newDesk(t, rosterConfig{Source: file})
		d.cfg.Roster.Every = time.Hour
		began := time.Now()
		var run sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		run.Go(func() { d.s.run(ctx) })
		defer func() { stop(); run.Wait() }()

		seen := func(within time.Duration, names string) {
			t.Helper()
			for d.names() != names {
				if time.Since(began) > within {
					t.Fatalf("%q after %v, want %q", d.names(), time.Since(began), names)
				}
				time.Sleep(time.Second)
				synctest.Wait()
			}
		}
		time.Sleep(5 * time.Second)
		if err := os.WriteFile(file, []byte("employee_no,name\n1,王\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		seen(12*time.Second, "1王")

		// What can be read is not read more often than it should be; what cannot for long
		// is not asked for all the time.
		if err := os.WriteFile(file, []byte("employee_no,name\n1,王\n2,李\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Minute)
		if n := d.names(); n != "1王" {
			t.Errorf("%s after %v", n, time.Since(began))
		}
		seen(67*time.Minute, "1王 2李")
	})
}

// The whole house with HR's server beside it: what it has is sent once and taken over
// once, and whatever it says later the last good roster stays.
func TestTheClockFollowsHRsServerAndKeepsTheLastGoodRoster(t *testing.T) {
	hr := newHRServer(t)
	h := newHouse(t, settings{window: "0s", extra: fmt.Sprintf("[roster]\nsource = \"%s/people.csv\"\nevery = \"24h\"\n", hr.URL)})
	line := func(p person) string { return fmt.Sprintf("%s,%s,%s\n", p.number, p.name, p.badge()) }
	set := func(body, etag string, status int) {
		hr.mu.Lock()
		defer hr.mu.Unlock()
		hr.body, hr.etag, hr.status = "employee_no,name,badges\n"+body, etag, status
	}
	set(line(h.people[0])+line(h.people[1]), `"1"`, http.StatusOK)
	h.start()
	asked := func() (gets, whole int) {
		hr.mu.Lock()
		defer hr.mu.Unlock()
		return hr.gets, hr.whole
	}
	taps := func(p person, outcome string) {
		t.Helper()
		if r := h.tap(p); r.Outcome != outcome {
			t.Errorf("%s: %+v, want %s", p.number, r, outcome)
		}
	}
	refresh := func(want int, words ...string) {
		t.Helper()
		out, code := h.run("roster", "refresh", "--config", h.config)
		for _, w := range words {
			if code != want || !strings.Contains(out, w) {
				t.Errorf("refresh: %d, want %d and %q\n%s", code, want, w, out)
			}
		}
	}
	h.until(20*time.Second, "the server's roster is taken over", func() bool {
		return strings.Contains(h.must("roster", "ls"), "000002") && !strings.Contains(h.must("roster", "ls"), "000003")
	})
	// 304: asked again, not sent again.
	refresh(0, "0 added, 0 changed, 0 removed, 2 unchanged")
	if gets, whole := asked(); gets != 2 || whole != 1 {
		t.Errorf("asked %d times, sent %d times", gets, whole)
	}
	taps(h.people[0], "stored")
	taps(h.people[2], "unknown_badge")
	// 500, and then rubbish: said with its reason, and nothing is different.
	set("", `"2"`, http.StatusInternalServerError)
	refresh(1, "HTTP 500", "the roster stays as it is")
	set("000001,員工1,uiid:0A00\n", `"2"`, http.StatusOK)
	refresh(1, `people.csv:2:12`, `no reader sends "uiid"`, "the roster stays as it is")
	if r := h.must("status"); !strings.Contains(r, "uiid") {
		t.Errorf("status says nothing of it:\n%s", r)
	}
	taps(h.people[1], "stored")
	// Neither a kill nor a server that is away takes anything back.
	set("", `"2"`, http.StatusServiceUnavailable)
	h.kill()
	h.start()
	taps(h.people[0], "stored")
	// Well again: the new one, and its tag is kept over the next start.
	set(line(h.people[0])+line(h.people[1])+line(h.people[2]), `"3"`, http.StatusOK)
	refresh(0, " unchanged") // what is new may have come by the look at the start
	taps(h.people[2], "stored")
	_, whole := asked()
	h.stop()
	h.start()
	refresh(0, "3 unchanged")
	if _, again := asked(); again != whole {
		t.Errorf("sent %d times again after a restart", again-whole)
	}
	h.stop()
}
