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
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
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
	r.Time = time.Now()
	s.Result(r)
	until(t, ctx, shownIs+`"stored"`)
	until(t, ctx, `/王小明/.test(document.getElementById("result").innerText) && /上班/.test(document.getElementById("spoken").textContent)`)
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
	until(t, ctx, `document.getElementById("notice").textContent !== "" && !document.getElementById("doubt").hidden`)
}

// TestBrowserFitsEverythingOnEveryDoor measures what a person would see: nothing
// stands out of the screen, out of its box, or on top of something else. With
// PUNCHCLOCK_SHOTS naming a directory it leaves a picture of each.
func TestBrowserFitsEverythingOnEveryDoor(t *testing.T) {
	ctx := browser(t)
	shots := os.Getenv("PUNCHCLOCK_SHOTS")
	const measure = `(() => {
		const bad = [];
		const boxes = [...document.querySelectorAll("h1,p,button,input,label,h2,#result .symbol,.word,.why")]
			.filter((e) => e.id !== "spoken" && e.checkVisibility() && (document.getElementById("result").hidden || e.closest("#result")))
			.filter((e) => document.getElementById("pin").open === Boolean(e.closest("dialog")));
		for (const e of boxes) {
			const r = e.getBoundingClientRect(), who = (e.id || e.className || e.tagName) + " «" + e.textContent.trim() + "»";
			if (r.left < -0.5 || r.top < -0.5 || r.right > innerWidth + 0.5 || r.bottom > innerHeight + 0.5) bad.push(who + " is off the screen");
			if (e.tagName !== "H1" && e.scrollWidth > e.clientWidth + 1 && e.clientWidth) bad.push(who + " is too wide for its box");
			if (e.tagName === "BUTTON" && (r.width < 56 || r.height < 56)) bad.push(who + " is too small to touch");
		}
		const rows = [...document.querySelectorAll("#idle > *, main > *")].filter((e) => e.checkVisibility() && e.tagName !== "MAIN");
		for (const a of rows) for (const b of rows) {
			const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
			if (a !== b && !a.contains(b) && !b.contains(a) && p.height && q.height &&
				p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1)
				bad.push((a.id || a.tagName) + " covers " + (b.id || b.tagName));
		}
		return JSON.stringify([...new Set(bad)]);
	})()`
	sizes := [][2]int64{{800, 480}, {1024, 600}, {480, 800}, {360, 640}}
	n := 0
	for _, lang := range []string{"zh-TW", "zh-CN", "en"} {
		house := new(house)
		house.status = map[string]any{"destinations": []any{map[string]any{"state": "auth_failed", "pending": 12034, "parked": 12, "oldest_unsent_seconds": 999999}}}
		s, _ := build(t, func(c *web.Config) { c.Language, c.Backend = lang, house })
		s.Show(ui.Screen{Kind: "go-out", Why: "schedule", Clock: "synced"})
		serve(t, ctx, s)
		look := func(state string) {
			t.Helper()
			for _, size := range sizes {
				if err := chromedp.Do(ctx, chromedp.EmulateViewport(size[0], size[1])); err != nil {
					t.Fatal(err)
				}
				text, err := chromedp.Run(ctx, chromedp.Evaluate[string](measure))
				if err != nil {
					t.Fatal(err)
				}
				var bad []string
				if err := json.Unmarshal([]byte(text), &bad); err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprintf("%s-%dx%d-%s", lang, size[0], size[1], state)
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
		until(t, ctx, `!document.getElementById("doubt").hidden`)
		look("trouble")
		s.Show(ui.Screen{Kind: "return", Why: "chosen", Clock: "holdover", Until: time.Now().Add(10 * time.Second)})
		until(t, ctx, `document.querySelector("[data-kind=return]").getAttribute("aria-pressed") === "true"`)
		look("chosen")
		for _, r := range []ui.Result{
			{Outcome: "stored", Kind: "go-out", Name: "王小明", Clock: "synced"},
			{Outcome: "stored", Kind: "return", Name: "Alexandra Montgomery-Featherstone", Clock: "unset"},
			{Outcome: "duplicate", Kind: "return", Name: "王小明", Clock: "synced"},
			{Outcome: "unknown_badge", Kind: "in", Clock: "synced"},
			{Outcome: "misread", Clock: "synced"},
			{Outcome: "not_stored", Kind: "in", Name: "王小明", Clock: "synced"},
		} {
			n++
			r.PunchID, r.Time = fmt.Sprint(n), time.Now()
			s.Result(r)
			until(t, ctx, shownIs+`"`+r.Outcome+`"`)
			look(strings.Trim(r.Outcome+"-"+r.Clock, "-"))
		}
		until(t, ctx, hidden)
		press(t, ctx, "#pin-open")
		look("pin")
	}
}
