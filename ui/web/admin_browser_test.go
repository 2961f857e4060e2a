package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"punchclock/ui/web"
)

// contrasts lists every text on the page that stands out less than 7:1 from what is
// behind it, and every control without a name or too small for a finger.
const contrasts = `(() => {
	const bad = [];
	const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
	const lum = ([r, g, b]) => { const f = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
	const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; (n = walk.nextNode());) {
		const e = n.parentElement;
		if (!n.textContent.trim() || !e.checkVisibility()) continue;
		const style = getComputedStyle(e);
		const a = lum(parse(e.closest("svg") ? style.fill : style.color)), b = lum(ground(e));
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < 7) bad.push("«" + n.textContent.trim() + "» " + ratio.toFixed(2));
	}
	for (const e of document.querySelectorAll("button, input:not([type=hidden]), select, .tabs a, .languages a")) {
		if (!e.checkVisibility()) continue;
		const r = e.getBoundingClientRect();
		if (r.height < 40) bad.push(e.outerHTML.slice(0, 80) + " is " + r.height + " high");
		if (!(e.tagName !== "SELECT" && e.innerText || "").trim() && !(e.labels && e.labels.length && e.labels[0].innerText.trim())) bad.push(e.outerHTML.slice(0, 80) + " has no name");
	}
	if (document.documentElement.scrollWidth > innerWidth + 1) bad.push("the page is " + document.documentElement.scrollWidth + " wide on " + innerWidth);
	return JSON.stringify(bad);
})()`

// The admin page in a real browser: in with the PIN, a form in place, what is alive
// fresh, contrast and names, by keyboard alone, on a desk and on a phone.
func TestBrowserLetsTheAdminPageBeReadAndUsed(t *testing.T) {
	ctx := browser(t)
	o := &office{pin: "4711-0815"}
	s, _ := build(t, func(c *web.Config) { c.Admin = o })
	srv := serve(t, ctx, s)
	shots := os.Getenv("PUNCHCLOCK_SHOTS")
	look := func(name string) {
		t.Helper()
		for _, d := range []struct{ w, h int64 }{{1280, 800}, {390, 844}} {
			if err := chromedp.Do(ctx, chromedp.EmulateViewport(d.w, d.h)); err != nil {
				t.Fatal(err)
			}
			found, err := chromedp.Run(ctx, chromedp.Evaluate[string](contrasts))
			if err != nil {
				t.Fatal(err)
			}
			var bad []string
			if err := json.Unmarshal([]byte(found), &bad); err != nil {
				t.Fatal(err)
			}
			for _, b := range bad {
				t.Errorf("%s at %d: %s", name, d.w, b)
			}
			if shots != "" {
				png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
				if err == nil {
					err = os.WriteFile(filepath.Join(shots, fmt.Sprintf("admin-%s-%d.png", name, d.w)), png, 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(srv.URL+"/admin")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.activeElement.name === "pin"`)
	look("door")
	// By keyboard alone: the field has the focus, Enter sends it.
	if err := chromedp.Do(ctx, chromedp.KeyEvent("wrong-one\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector("#notice [data-mark=stuck]")`)
	look("door-wrong")
	if err := chromedp.Do(ctx, chromedp.KeyEvent("4711-0815\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.querySelector(".tabs [aria-current=page]")`)
	look("section")

	// A form that takes its time says so, is put in place, and can be ended.
	began, end := make(chan bool, 1), make(chan bool, 1)
	o.slow = func(ctx context.Context) (web.Answer, error) {
		began <- true
		select {
		case <-end:
			return web.Answer{Mark: "ok", Words: "the card of somebody"}, nil
		case <-ctx.Done():
			end <- false
			return web.Answer{}, ctx.Err()
		}
	}
	script(t, ctx, `document.querySelector("form[data-busy] button").click()`)
	<-began
	until(t, ctx, `!document.getElementById("busy").hidden && document.getElementById("busy").innerText.includes("tap a card")`)
	look("busy")
	end <- true
	until(t, ctx, `document.getElementById("notice").innerText.includes("the card of somebody") && document.getElementById("busy").hidden && document.activeElement.id === "main"`)
	script(t, ctx, `document.querySelector("form[data-busy] button").click()`)
	<-began
	until(t, ctx, `!document.getElementById("busy").hidden`)
	script(t, ctx, `document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true}))`)
	until(t, ctx, `document.getElementById("busy").hidden`)
	if <-end {
		t.Error("the form goes on after the browser has left")
	}

	// What is alive is drawn anew, what somebody types stays.
	script(t, ctx, `document.querySelector("[name=q]").value = "typed"; window.old = document.querySelector("[data-live]"); window.old.querySelector("p").textContent = "stale"`)
	until(t, ctx, `!window.old.isConnected && !document.querySelector("[data-live] p").textContent.includes("stale") && document.querySelector("[name=q]").value === "typed"`)

	// The session ends elsewhere: the page asks for the PIN by itself.
	o.mu.Lock()
	o.changed++
	o.mu.Unlock()
	until(t, ctx, `location.pathname === "/admin/login"`)
}
