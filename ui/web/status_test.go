package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/ui"
	"punchclock/ui/web"
)

var sick = map[string]any{
	"device": map[string]any{"id": "tpe-1f-lobby"}, "clock": map[string]any{"state": "holdover", "error_bound_ms": 1250},
	"outbox": map[string]any{"last_seq": 4711, "low_space": true, "incident": "set aside <b>x.db</b>"},
	"destinations": []any{
		map[string]any{"name": "104", "state": "retrying", "pending": 3, "oldest_unsent_seconds": 130, "last_error": "no route to host", "last_success": "2026-11-21T01:02:03Z"},
		map[string]any{"name": "feishu", "state": "auth_failed", "parked": 2},
	},
	"readers": []any{map[string]any{"name": "front", "state": "down", "last_event": ""}},
}

func TestStatusPageTellsATechnicianWhatIsWrongAndNothingAboutPeople(t *testing.T) {
	for lang, words := range map[string][]string{
		"zh-TW": {"裝置狀態", "3 筆待上傳，最舊 2 分鐘", "重試中", "認證失敗", "2 筆需人工處理", "讀卡機", "啟動後尚無", "未連線", "剩餘儲存空間不到20%"},
		"en":    {"Device status", "3 punches to upload, oldest waiting 2 min", "Login refused", "2 punches need attention"},
	} {
		s, h := build(t, func(c *web.Config) { c.Language = lang })
		h.status = sick
		r := stored(1)
		s.Show(ui.Screen{Clock: "holdover", Result: &r})
		w := ask(s.Handler(), local("GET", "/status", ""))
		page := w.Body.String()
		if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
			t.Fatalf("%d %v", w.Code, w.Header())
		}
		for _, x := range append(words, "no route to host", "2026-11-21 09:02:03", "4711", "± 1250 ms", "1.2.3", `lang="`+lang+`"`) {
			if x != "讀卡機" && !strings.Contains(page, x) {
				t.Errorf("%s: %q is not on the page", lang, x)
			}
		}
		if strings.Contains(page, "王小明") || strings.Contains(page, "<b>x.db") || strings.Contains(page, "ZgotmplZ") {
			t.Errorf("%s: names or markup on the page", lang)
		}
		if bad := regexp.MustCompile(`style="|<style|<script|\son[a-z]+="`).FindString(page); bad != "" {
			t.Errorf("%s: %q, which the page's own policy forbids", lang, bad)
		}
		for _, state := range []string{`data-mark="wait"`, `data-mark="stuck"`, `data-mark="ok"`} {
			if !strings.Contains(page, state) {
				t.Errorf("%s: nothing has %s", lang, state)
			}
		}
		h.ready = errors.New("disk full")
		if page := ask(s.Handler(), local("GET", "/status", "")).Body.String(); !strings.Contains(page, "disk full") {
			t.Errorf("%s: it does not say that no punch can be stored", lang)
		}
	}
}

func TestCodeLeadsAPhoneToTheStatusPageWhereOneMayComeIn(t *testing.T) {
	code := func(change func(*web.Config), address string) string {
		s, h := build(t, change)
		h.status = sick
		s.SetAddress(address)
		w := ask(s.Handler(), local("GET", "/qr.svg", ""))
		if w.Code != 200 || w.Header().Get("Content-Type") != "image/svg+xml" || strings.Contains(w.Body.String(), "style=") {
			t.Fatalf("%d %v", w.Code, w.Header())
		}
		return w.Body.String()
	}
	remote := func(listen string) func(*web.Config) {
		return func(c *web.Config) { c.AllowRemote, c.Listen = true, listen }
	}
	for listen, want := range map[string]string{
		"0.0.0.0:8080": "http://192.168.1.23:8080/status", ":80": "http://192.168.1.23:80/status", "[::]:8080": "http://192.168.1.23:8080/status",
		"10.0.0.7:8080": "http://10.0.0.7:8080/status", "[fd00::7]:8080": "http://[fd00::7]:8080/status", "door.local:8080": "http://door.local:8080/status",
	} {
		if code(remote(listen), "192.168.1.23") != web.QR(want) {
			t.Errorf("%s: another code than %s", listen, want)
		}
	}
	// No way in: the code tells the state itself, and fits.
	words := "tpe-1f-lobby 1.2.3\nclock holdover, last 4711\n104 retrying, 3 waiting 2 min\nfeishu auth_failed, 2 parked\nreader front down"
	for what, got := range map[string]string{
		"loopback only": code(func(c *web.Config) { c.Listen = "127.0.0.1:8080" }, "192.168.1.23"),
		"no network":    code(remote("0.0.0.0:8080"), ""),
		"own address":   code(remote("127.0.0.1:8080"), "192.168.1.23"),
		"no listener":   code(remote(""), "192.168.1.23"),
	} {
		if got != web.QR(words) {
			t.Errorf("%s: not the state in words", what)
		}
	}
	s, h := build(t, nil)
	h.ready = errors.New(strings.Repeat("磁碟已滿", 100))
	if w := ask(s.Handler(), local("GET", "/qr.svg", "")); w.Code != 200 || w.Body.Len() > 40<<10 {
		t.Errorf("a long state: %d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestCorrectionAnswersSayWhatHappened(t *testing.T) {
	s, h := build(t, nil)
	for name, c := range map[string]struct {
		body string
		fix  func(id, kind string) (ui.Result, error)
		code int
		has  string
	}{
		"stored": {`{"punch_id":"a-000000000042","kind":"out"}`, func(id, kind string) (ui.Result, error) {
			r := stored(43)
			r.Supersedes, r.Kind = id, kind
			return r, nil
		}, 200, `"supersedes":"a-000000000042"`},
		"not stored": {`{"punch_id":"x","kind":"out"}`, func(string, string) (ui.Result, error) {
			return ui.Result{Outcome: "not_stored", Kind: "out"}, nil
		}, 503, `"not_stored"`},
		"too late":   {`{"punch_id":"x","kind":"out"}`, nil, 409, "cannot be corrected"},
		"trouble":    {`{"punch_id":"x","kind":"out"}`, func(string, string) (ui.Result, error) { return ui.Result{}, errors.New("secret detail") }, 503, "try again"},
		"no punch":   {`{"kind":"out"}`, nil, 400, "punch_id"},
		"no kind":    {`{"punch_id":"x","kind":"lunch"}`, nil, 400, "go-out"},
		"more":       {`{"punch_id":"x","kind":"out","seq":1}`, nil, 400, "seq"},
		"long punch": {`{"punch_id":"` + strings.Repeat("x", 65) + `","kind":"out"}`, nil, 400, "64"},
	} {
		h.fix = c.fix
		w := ask(s.Handler(), local("POST", "/api/correct", c.body))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.has) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	h.fixes = nil
	for _, header := range []string{"Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Content-Type: text/plain"} {
		for path, body := range map[string]string{"/api/correct": `{"punch_id":"x","kind":"out"}`, "/api/pin": `{"employee_no":"1","pin":"1"}`} {
			r := local("POST", path, body)
			k, v, _ := strings.Cut(header, ": ")
			r.Header.Set(k, v)
			if w := ask(s.Handler(), r); w.Code != 403 && w.Code != 415 {
				t.Errorf("%s to %s: %d", header, path, w.Code)
			}
		}
	}
	if len(h.fixes)+len(h.pins) != 0 {
		t.Errorf("forged: %v %v", h.fixes, h.pins)
	}
}

func TestOwnPunchesOnTheWire(t *testing.T) {
	s, _ := build(t, nil)
	m := ownPunches("th-TH")
	at := time.Date(2026, 11, 21, 0, 58, 3, 0, time.UTC)
	m.Until, m.FixUntil = at, at
	m.Punches = m.Punches[:1]
	m.Punches[0].Time = at
	s.Show(ui.Screen{Clock: "synced", Mine: m})
	page := ask(s.Handler(), local("GET", "/", "")).Body.String()
	first := regexp.MustCompile(`(?s)id="first" type="application/json">(.*?)</script>`).FindStringSubmatch(page)
	want := `"mine":{"employee_no":"000123","name":"王小明","language":"th","listed":true,"punches":[{"punch_id":"x-9","kind":"go-out","outcome":"stored",` +
		`"time":"2026-11-21T08:58:03.000+08:00","places":[{"name":"104","state":"pending"},{"name":"feishu","state":"pending"},{"name":"signin","state":"pending"}]}],` +
		`"fix":"x-9","fix_kind":"go-out","fix_until":"2026-11-21T08:58:03.000+08:00","until":"2026-11-21T08:58:03.000+08:00"}`
	if first == nil || !strings.Contains(first[1], want) {
		t.Errorf("got  %s\nwant %s", first, want)
	}
}

func TestPulseTellsNightAndHowLoudToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, func(c *web.Config) { c.Volume, c.Night.From, c.Night.To = 60, 22*60, 5*60 })
		s.Show(ui.Screen{Clock: "synced"})
		l := dial(s.Handler(), local("GET", "/events", ""))
		pulse := func() (p struct {
			Night  bool
			Volume int
		}) {
			t.Helper()
			time.Sleep(20 * time.Second)
			synctest.Wait()
			all := named(l.take(), "pulse")
			if len(all) == 0 || json.Unmarshal([]byte(all[len(all)-1].data), &p) != nil {
				t.Fatal("no pulse")
			}
			return p
		}
		if p := pulse(); p.Night || p.Volume != 60 { // 08:00 in Taipei
			t.Errorf("by day: %+v", p)
		}
		time.Sleep(14 * time.Hour)
		if p := pulse(); !p.Night || p.Volume != 20 {
			t.Errorf("at 22:00: %+v", p)
		}
		s.Show(ui.Screen{Clock: "unset"})
		if p := pulse(); p.Night || p.Volume != 60 {
			t.Errorf("without the time: %+v", p)
		}
		s.Show(ui.Screen{Clock: "synced"})
		time.Sleep(7 * time.Hour)
		if p := pulse(); p.Night {
			t.Errorf("at 05:00: %+v", p)
		}
		l.hangUp()
		<-l.done
	})
}

func TestThousandListenersAreBoundedAndTheRestGoesOn(t *testing.T) {
	s, h := build(t, nil)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = web.NewHTTPServer(s.Handler())
	srv.Start()
	defer srv.Close()
	defer srv.CloseClientConnections()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	var mu sync.Mutex
	codes := map[int]int{}
	var all sync.WaitGroup
	var open []io.Closer
	for range 1000 {
		all.Go(func() {
			resp, err := client.Get(srv.URL + "/events")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				codes[0]++
				return
			}
			codes[resp.StatusCode]++
			if resp.StatusCode == 200 {
				open = append(open, resp.Body)
			} else {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	all.Wait()
	if codes[200] != 64 || codes[200]+codes[503] != 1000 {
		t.Errorf("answers: %v", codes)
	}
	begin := time.Now()
	for i := range 100 {
		s.Result(stored(i))
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("100 results took %v", d)
	}
	resp, err := client.Post(srv.URL+"/api/kind", "application/json", strings.NewReader(`{"kind":"out"}`))
	if err != nil || resp.StatusCode != 200 || fmt.Sprint(h.chosen()) != "[out]" {
		t.Errorf("%v %v", resp, err)
	}
	for _, c := range open {
		c.Close()
	}
}

// endlessly large bodies are tested where they are refused; this one comes over a
// real connection, and is not taken in.
func TestHundredMegabytesAreRefusedUnread(t *testing.T) {
	s, _ := build(t, nil)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = web.NewHTTPServer(s.Handler())
	srv.Start()
	defer srv.Close()
	for _, path := range []string{"/api/kind", "/api/pin", "/api/correct"} {
		body := &counter{left: 100 << 20}
		req, err := http.NewRequest(http.MethodPost, srv.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
		}
		if n := body.read.Load(); n > 8<<20 {
			t.Errorf("%s: %d bytes went over the line", path, n)
		}
	}
}

type counter struct {
	left int
	read atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), c.left)
	for i := range b[:n] {
		b[i] = ' '
	}
	c.left -= n
	c.read.Add(int64(n))
	return n, nil
}

// recordings writes a folder of them.
func recordings(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRecordingsAreServedByNameAndNothingBesideThem(t *testing.T) {
	dir := recordings(t, map[string]string{"zh-TW/in.ogg": "早安", "en/OUT.ogg": "x", "en/out.MP3": "bye", "en/secret.txt": "x", "en/lunch.ogg": "x", "xx/in.ogg": "x", "in.ogg": "x"})
	s, _ := build(t, func(c *web.Config) { c.Voices = dir })
	for path, want := range map[string]string{"/voice/zh-TW/in.ogg": "audio/ogg", "/voice/en/out.mp3": "audio/mpeg"} {
		if w := ask(s.Handler(), local("GET", path, "")); w.Code != 200 || w.Header().Get("Content-Type") != want || w.Body.Len() == 0 {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
	for _, path := range []string{"/voice/en/secret.txt", "/voice/en/lunch.ogg", "/voice/xx/in.ogg", "/voice/in.ogg", "/voice/", "/voice/en/../en/out.mp3", "/voice/en/OUT.ogg", "/voice/en/..%2f..%2fetc%2fpasswd"} {
		if w := ask(s.Handler(), local("GET", path, "")); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	page := ask(s.Handler(), local("GET", "/", "")).Body.String()
	if !strings.Contains(page, `{"en":{"out":"/voice/en/out.mp3"},"zh-TW":{"in":"/voice/zh-TW/in.ogg"}}`) {
		t.Errorf("the page is told of other recordings: %s", regexp.MustCompile(`id="voices".*`).FindString(page))
	}
	// One that is too long is named in the log, and the page is there all the same.
	recordings := recordings(t, map[string]string{"en/in.wav": strings.Repeat("x", 1<<20+1)})
	var log strings.Builder
	s, _ = build(t, func(c *web.Config) { c.Voices, c.Log = recordings, slog.New(slog.NewTextHandler(&log, nil)) })
	if w := ask(s.Handler(), local("GET", "/", "")); w.Code != 200 || !strings.Contains(log.String(), "en/in.wav") {
		t.Errorf("%d, log %s", w.Code, log.String())
	}
	s, _ = build(t, func(c *web.Config) { c.Voices = dir })
	if err := os.Remove(filepath.Join(dir, "zh-TW", "in.ogg")); err != nil {
		t.Fatal(err)
	}
	if w := ask(s.Handler(), local("GET", "/voice/zh-TW/in.ogg", "")); w.Code != 404 {
		t.Errorf("a recording that was taken away: %d", w.Code)
	}
	s, _ = build(t, func(c *web.Config) { c.Voices = filepath.Join(dir, "nowhere") })
	if page := ask(s.Handler(), local("GET", "/", "")).Body.String(); !strings.Contains(page, `id="voices" type="application/json">{}<`) {
		t.Error("a folder that is not there holds something")
	}
}
