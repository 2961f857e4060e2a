package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"punchclock/ui"
	"punchclock/ui/text"
	"punchclock/ui/web"
)

// browser starts a Chromium without a window, or skips the test where there is none.
func browser(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser is left out of the short tests")
	}
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium on this machine; on Debian: apt-get install chromium fonts-noto-cjk")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("autoplay-policy", "no-user-gesture-required"))
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	t.Cleanup(cancel)
	ctx, stopAll := chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(stopAll)
	ctx, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(800, 480)); err != nil {
		t.Fatalf("%s does not start: %v", path, err)
	}
	return ctx
}

// serve opens the page of s in the browser and waits until it listens.
func serve(t *testing.T, ctx context.Context, s *web.Server) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = web.NewHTTPServer(s.Handler())
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	if err := chromedp.Do(ctx, chromedp.Navigate(srv.URL)); err != nil {
		t.Fatal(err)
	}
	return srv
}

// until waits until a JavaScript condition holds.
func until(t *testing.T, ctx context.Context, condition string) {
	t.Helper()
	end := time.Now().Add(8 * time.Second)
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		if err != nil {
			t.Fatalf("%s: %v", condition, err)
		}
		if ok {
			return
		}
		if time.Now().After(end) {
			text, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
			t.Fatalf("never came true: %s\non the page: %s", condition, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func press(t *testing.T, ctx context.Context, css ...string) {
	t.Helper()
	for _, c := range css {
		if err := chromedp.Do(ctx, chromedp.Tap(chromedp.CSS(c))); err != nil {
			t.Fatalf("touching %s: %v", c, err)
		}
	}
}

const (
	hidden  = `document.getElementById("result").hidden`
	shownIs = `!document.getElementById("result").hidden && document.getElementById("result").dataset.outcome === `
)

// door is a house that answers as the real one does: what is chosen is shown,
// and a punch by PIN comes over the stream as well.
type door struct {
	house
	s *web.Server
}

func (d *door) ChooseKind(kind string) error {
	err := d.house.ChooseKind(kind)
	d.s.Show(ui.Screen{Kind: kind, Why: "chosen", Clock: "synced", Until: time.Now().Add(10 * time.Second)})
	return err
}

func TestBrowserShowsATapAndGoesBackToTheClock(t *testing.T) {
	ctx := browser(t)
	d := new(door)
	s, _ := build(t, func(c *web.Config) { c.Backend = d })
	d.s = s
	d.status = map[string]any{"destinations": []any{map[string]any{"state": "retrying", "pending": 3, "oldest_unsent_seconds": 130}}}
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"})
	srv := serve(t, ctx, s)
	until(t, ctx, `document.querySelector("[data-kind=in]").getAttribute("aria-pressed") === "true"`)
	until(t, ctx, `/\b3\b.*\b2\b/.test(document.getElementById("line").textContent)`)
	until(t, ctx, hidden)

	// A kind by touch, by key, by number.
	press(t, ctx, "[data-kind=go-out]")
	until(t, ctx, `document.querySelector("[data-kind=go-out]").getAttribute("aria-pressed") === "true"`)
	for key, kind := range map[string]string{"F2": "out", "4": "return"} {
		js := fmt.Sprintf(`dispatchEvent(new KeyboardEvent("keydown", {key: %q, cancelable: true}))`, key)
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](js)); err != nil {
			t.Fatal(err)
		}
		until(t, ctx, fmt.Sprintf(`document.querySelector("[data-kind=%s]").getAttribute("aria-pressed") === "true"`, kind))
	}

	// A tap, and the next person's at once.
	r := stored(42)
	r.Time, r.Language = time.Now(), "vi-VN" // a person who reads Vietnamese, at a Chinese door
	s.Result(r)
	until(t, ctx, shownIs+`"stored"`)
	until(t, ctx, `/王小明/.test(document.getElementById("result").innerText) && /Vào làm/.test(document.getElementById("spoken").textContent) &&
		document.getElementById("result").lang === "vi" && /上班/.test(document.querySelector("[data-kind=in]").textContent)`)
	r = ui.Result{Outcome: "unknown_badge", PunchID: "x-43", Kind: "in", Time: time.Now(), Clock: "synced"}
	s.Result(r)
	start := time.Now()
	until(t, ctx, shownIs+`"unknown_badge" && !/王小明/.test(document.body.innerText)`)
	until(t, ctx, hidden)
	if d := time.Since(start); d < 2*time.Second || d > 6*time.Second {
		t.Errorf("the result stood for %s, want 2.5s", d)
	}

	// Number and PIN by touch.
	d.pin = func(no, pin string) (ui.Result, error) {
		if no != "0123" || pin != "4711" {
			return ui.Result{}, web.ErrWrongPIN
		}
		r := stored(44)
		r.Time, r.Kind = time.Now(), "return"
		s.Result(r)
		return r, nil
	}
	pad := func(digits string) (css []string) {
		for _, c := range digits {
			n := int(c - '0')
			if n == 0 {
				n = 11
			}
			css = append(css, fmt.Sprintf(".pad button:nth-child(%d)", n))
		}
		return css
	}
	press(t, ctx, "#pin-open")
	press(t, ctx, pad("98")...)
	press(t, ctx, "#pin-clear")
	press(t, ctx, pad("0123")...)
	press(t, ctx, "#pin-ok") // on to the PIN
	press(t, ctx, pad("47")...)
	press(t, ctx, "#pin-ok")
	until(t, ctx, `document.getElementById("pin-error").textContent !== "" && document.getElementById("pin").open`)
	press(t, ctx, pad("4711")...)
	press(t, ctx, "#pin-ok")
	until(t, ctx, shownIs+`"stored" && !document.getElementById("pin").open`)
	until(t, ctx, hidden)
	if leaked, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.getElementById("pin-number").value + document.getElementById("pin-pin").value`)); leaked != "" {
		t.Errorf("%q stayed in the fields", leaked)
	}

	// The line breaks and comes back; what was shown is not shown again.
	srv.CloseClientConnections()
	until(t, ctx, `document.getElementById("notice").textContent !== ""`)
	until(t, ctx, `document.getElementById("notice").textContent === ""`)
	if ok, _ := chromedp.Run(ctx, chromedp.Evaluate[bool](hidden)); !ok {
		t.Error("an old result came back after reconnecting")
	}
	d.mu.Lock()
	d.ready = errors.New("disk full")
	d.mu.Unlock()
	s.Show(ui.Screen{Clock: "unset", Readers: []ui.Reader{{Name: "front", State: "down"}}})
	until(t, ctx, `document.getElementById("notice").textContent !== "" && document.getElementById("doubt").textContent !== ""`)
}

// measure lists what a person would find wrong with the screen as it is: what stands
// out of it, out of its box, or on something else, and what is too small to touch.
const measure = `((least) => {
	const bad = [], result = document.getElementById("result");
	const top = document.querySelector("dialog[open]") || (result.hidden ? document.getElementById("idle") : result);
	const boxes = [...top.querySelectorAll("h1,h2,p,button,input,label,li,li span,figcaption,img,.symbol,.word,.why")]
		.filter((e) => !e.classList.contains("away") && e.checkVisibility({ visibilityProperty: true }))
		.filter((e) => !e.closest("#state-list")); // which can be pushed up and down
	for (const e of boxes) {
		const r = e.getBoundingClientRect(), who = (e.id || e.className.baseVal || e.className || e.tagName) + " «" + e.textContent.trim() + "»";
		if (r.left < -0.5 || r.top < -0.5 || r.right > innerWidth + 0.5 || r.bottom > innerHeight + 0.5) bad.push(who + " is off the screen");
		if (e.clientWidth && e.tagName !== "INPUT" && (e.scrollWidth > e.clientWidth + 1 || getComputedStyle(e).overflowY !== "visible" && e.scrollHeight > e.clientHeight + 2)) bad.push(who + " is too big for its box");
		if (e.tagName === "BUTTON" && (r.width < least - 0.5 || r.height < least - 0.5)) bad.push(who + " is too small to touch: " + r.width + " by " + r.height);
		if (e.closest("li") && e.tagName === "SPAN" && r.bottom > e.closest("ul").getBoundingClientRect().bottom + 1) bad.push(who + " is cut off");
	}
	const leaves = boxes.filter((e) => !boxes.some((o) => o !== e && e.contains(o)) && e.textContent + (e.tagName === "IMG" ? "x" : ""));
	for (const a of leaves) for (const b of leaves) {
		const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
		if (a !== b && p.width && q.width && p.left < q.right - 2 && q.left < p.right - 2 && p.top < q.bottom - 4 && q.top < p.bottom - 4)
			bad.push((a.id || a.className || a.tagName) + " covers " + (b.id || b.className || b.tagName));
	}
	return JSON.stringify([...new Set(bad)]);
})`

// doors are the screens there are: 7 and 10 inches, both also upright, a technician's
// phone, and one that is smaller than any; with the least that a finger is offered.
var doors = []struct{ w, h, least int64 }{{800, 480, 104}, {1024, 600, 104}, {480, 800, 104}, {600, 1024, 104}, {390, 844, 104}, {360, 640, 60}}

// TestBrowserFitsEverySentenceOnEveryDoor draws every screen in every language and
// size and measures it. With PUNCHCLOCK_SHOTS naming a directory it leaves a picture
// of each.
func TestBrowserFitsEverySentenceOnEveryDoor(t *testing.T) {
	ctx := browser(t)
	shots := os.Getenv("PUNCHCLOCK_SHOTS")
	if lang := "th"; !haveFont(lang) {
		t.Skipf("NOT RUN: no font for %s on this machine; on Debian: apt-get install fonts-noto-core fonts-noto-cjk", lang)
	}
	for _, lang := range text.Languages() {
		t.Run(lang, func(t *testing.T) { fits(t, ctx, lang, shots) })
	}
}

func fits(t *testing.T, ctx context.Context, lang, shots string) {
	n := 0
	house := new(house)
	house.status = map[string]any{
		"destinations": []any{
			map[string]any{"name": "104", "state": "retrying", "pending": 12034, "parked": 12, "oldest_unsent_seconds": 999999},
			map[string]any{"name": "feishu", "state": "retrying", "pending": 1},
		},
		"readers": []any{map[string]any{"name": "front", "state": "ok"}, map[string]any{"name": "back", "state": "down"}},
	}
	s, _ := build(t, func(c *web.Config) { c.Language, c.Backend = lang, house })
	s.Show(ui.Screen{Kind: "go-out", Why: "schedule", Clock: "synced"})
	serve(t, ctx, s)
	look := func(state string) {
		t.Helper()
		for _, d := range doors {
			if err := chromedp.Do(ctx, chromedp.EmulateViewport(d.w, d.h)); err != nil {
				t.Fatal(err)
			}
			found, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf("(async () => (await new Promise(requestAnimationFrame), %s(%d)))()", measure, d.least), chromedp.EvalAwaitPromise))
			if err != nil {
				t.Fatal(err)
			}
			var bad []string
			if err := json.Unmarshal([]byte(found), &bad); err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("%s-%dx%d-%s", lang, d.w, d.h, state)
			for _, b := range bad {
				t.Errorf("%s: %s", name, b)
			}
			if shots != "" {
				png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
				if err == nil {
					err = os.WriteFile(filepath.Join(shots, name+".png"), png, 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	until(t, ctx, `document.getElementById("line").textContent !== "" && document.getElementById("notice").textContent === ""`)
	look("idle")
	s.Show(ui.Screen{Why: "person", Clock: "unset", Readers: []ui.Reader{{Name: "front-door-left", State: "down"}}})
	until(t, ctx, `document.getElementById("doubt").textContent !== ""`)
	look("trouble")
	s.Show(ui.Screen{Kind: "return", Why: "chosen", Clock: "holdover", Until: time.Now().Add(10 * time.Second)})
	until(t, ctx, `document.querySelector("[data-kind=return]").getAttribute("aria-pressed") === "true"`)
	look("chosen")
	// The answers hold still: 2.5 seconds are too short for so many pictures.
	still(t, ctx)
	var results []ui.Result
	for _, kind := range []string{"in", "out", "go-out", "return"} {
		results = append(results, ui.Result{Outcome: "stored", Kind: kind, Name: "王小明", Clock: "synced"})
	}
	results = append(results,
		ui.Result{Outcome: "stored", Kind: "return", Name: "Alexandra Montgomery-Featherstone", Clock: "unset"},
		ui.Result{Outcome: "stored", Kind: "out", Name: "Nguyễn Thị Minh Khai", Clock: "synced", Supersedes: "x"},
		ui.Result{Outcome: "duplicate", Kind: "return", Clock: "synced"},
		ui.Result{Outcome: "unknown_badge", Kind: "in", Clock: "synced"},
		ui.Result{Outcome: "misread", Clock: "synced"},
		ui.Result{Outcome: "misread", Clock: "synced", Reason: "random"},
		ui.Result{Outcome: "misread", Clock: "synced", Reason: "two"},
		ui.Result{Outcome: "misread", Clock: "synced", Reason: "learned"},
		ui.Result{Outcome: "enrolment", Clock: "synced", Reason: "enrolled"},
		ui.Result{Outcome: "enrolment", Clock: "synced", Reason: "enrol-pin"},
		ui.Result{Outcome: "not_stored", Kind: "in", Name: "王小明", Clock: "synced"})
	for _, r := range results {
		n++
		r.PunchID, r.Time, r.Language = fmt.Sprint(n), time.Now(), lang
		s.Result(r)
		until(t, ctx, fmt.Sprintf(`!document.getElementById("result").hidden && document.getElementById("result").dataset.n === "%d"`, n))
		name := strings.Join(strings.FieldsFunc(r.Outcome+"-"+r.Kind+"-"+r.Clock+"-"+r.Reason, func(c rune) bool { return c == '-' }), "-")
		if r.Supersedes != "" {
			name = "corrected"
		}
		look(name)
	}
	s.Result(ui.Result{Outcome: "duplicate", PunchID: fmt.Sprint("mine", lang), Kind: "go-out", Employee: "000123", Name: "王小明", Clock: "synced", Time: time.Now(), Language: lang})
	until(t, ctx, `document.getElementById("result").classList.contains("mine")`)
	look("mine-reading")
	s.Show(ui.Screen{Kind: "go-out", Why: "schedule", Clock: "synced", Mine: ownPunches(lang)})
	until(t, ctx, `document.querySelectorAll("#own-list li").length === 5`)
	look("mine")
	script(t, ctx, `document.getElementById("result").hidden = true`)
	press(t, ctx, "#pin-open")
	look("pin")
	script(t, ctx, `document.getElementById("pin-number").value = "000123"; document.getElementById("pin-pin").value = "4711";
		const T = JSON.parse(document.getElementById("words").textContent);
		document.getElementById("pin-error").textContent = T["pin.wait"].replace("%s", T["for.minutes"].replace("%d", "119"))`)
	look("pin-wait")
	press(t, ctx, "#pin-language")
	look("pin-languages")
	press(t, ctx, "#pin-cancel", "#state-open")
	until(t, ctx, `document.getElementById("state").open && document.getElementById("qr-large").complete`)
	look("state")
}

// script runs JavaScript in the page.
func script(t *testing.T, ctx context.Context, js string) {
	t.Helper()
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("(() => {"+js+"; return true; })()")); err != nil {
		t.Fatalf("%s: %v", js, err)
	}
}

// still keeps answers on the screen and marks each with its punch.
func still(t *testing.T, ctx context.Context) {
	t.Helper()
	script(t, ctx, `
		const set = window.setTimeout;
		window.setTimeout = (f, ms, ...more) => set(f, ms === 2500 || ms > 9000 && ms < 60001 ? 1e6 : ms, ...more);
		new EventSource("/events").addEventListener("result", (e) => set(() => {
			document.getElementById("result").dataset.n = JSON.parse(e.data).punch_id;
		}, 30))`)
	time.Sleep(300 * time.Millisecond) // that stream is open
}

func ownPunches(lang string) *ui.Mine {
	at := time.Now()
	m := &ui.Mine{Employee: "000123", Name: "王小明", Language: lang, Listed: true, Fix: "x-9", FixKind: "go-out", FixUntil: at.Add(50 * time.Second), Until: at.Add(10 * time.Second)}
	places := func(a, b, c string) []ui.Place {
		return []ui.Place{{Name: "104", State: a}, {Name: "feishu", State: b}, {Name: "signin", State: c}}
	}
	m.Punches = []ui.Past{
		{PunchID: "x-9", Kind: "go-out", Outcome: "stored", Time: at, Places: places("pending", "pending", "pending")},
		{PunchID: "x-7", Kind: "out", Outcome: "stored", Time: at.Add(-time.Minute), Superseded: true, Places: places("delivered", "delivered", "skipped")},
		{PunchID: "x-6", Kind: "in", Outcome: "stored", Time: at.Add(-4 * time.Hour), Places: places("delivered", "parked", "pending")},
		{PunchID: "x-4", Kind: "return", Outcome: "stored", Time: at.Add(-26 * time.Hour), Places: places("delivered", "delivered", "delivered")},
		{PunchID: "x-2", Kind: "in", Outcome: "duplicate", Time: at.Add(-30 * time.Hour), Places: places("skipped", "skipped", "skipped")},
	}
	return m
}

// haveFont reports whether some font of this machine draws a language.
func haveFont(lang string) bool {
	out, err := exec.Command("fc-list", ":lang="+lang).Output()
	return err == nil && len(out) > 0
}
