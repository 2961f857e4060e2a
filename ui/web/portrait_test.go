package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromedp/chromedp"

	"punchclock/ui"
	"punchclock/ui/web"
)

// somebody is a picture of a person, as far as anybody can tell.
func somebody(t testing.TB) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 240, 320))
	within := func(x, y, cx, cy, rx, ry int) bool {
		dx, dy := (x-cx)*1000/rx, (y-cy)*1000/ry
		return dx*dx+dy*dy < 1_000_000
	}
	for y := range 320 {
		for x := range 240 {
			c := color.RGBA{150, 190, 220, 255}
			switch {
			case within(x, y, 120, 138, 58, 74) && y > 99:
				c = color.RGBA{234, 192, 160, 255}
			case within(x, y, 120, 122, 67, 77):
				c = color.RGBA{40, 30, 28, 255}
			case within(x, y, 120, 346, 115, 134):
				c = color.RGBA{60, 60, 110, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// gallery has a portrait of 000123, and had one of 000124.
func gallery(picture []byte) func(string) func() []byte {
	return func(number string) func() []byte {
		switch number {
		case "000123":
			return func() []byte { return picture }
		case "000124":
			return func() []byte { return nil }
		}
		return nil
	}
}

func TestAPortraitIsForTheClocksOwnScreenAndForSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		picture := somebody(t)
		s, h := build(t, func(c *web.Config) {
			c.Portrait, c.AllowRemote, c.Hosts = gallery(picture), true, []string{"clock.corp"}
		})
		get := func(path, from, host string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("GET", path, nil)
			r.RemoteAddr, r.Host = from, host
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			return w
		}
		const here, there = "127.0.0.1:5555", "192.0.2.7:5555"
		var r ui.Result
		h.pin = func(string, string) (ui.Result, error) { return r, nil }
		path := func(x ui.Result) string {
			t.Helper()
			r = x
			req := httptest.NewRequest("POST", "/api/pin", strings.NewReader(`{"employee_no":"1","pin":"1"}`))
			req.Header.Set("Content-Type", "application/json")
			req.RemoteAddr, req.Host = here, "localhost"
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, req)
			var out struct{ Portrait string }
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
				t.Fatal(err)
			}
			return out.Portrait
		}
		tap := ui.Result{Outcome: "stored", PunchID: "tpe-1f-lobby-000000000042", Employee: "000123", Clock: "synced", Time: time.Now()}
		p := path(tap)
		if len(p) < len("/portrait/")+26 || strings.Contains(p, "000") || p != path(tap) {
			t.Fatalf("%q, then %q", p, path(tap))
		}
		w := get(p, here, "localhost")
		if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), picture) || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "image/jpeg" ||
			!strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'self';") {
			t.Errorf("%d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
		}
		if w := get(p, there, "clock.corp"); w.Code != 403 || bytes.Contains(w.Body.Bytes(), picture[:64]) {
			t.Errorf("another machine: %d", w.Code)
		}
		for _, guess := range []string{"000123", "tpe-1f-lobby-000000000042", "", "../portrait", p[len("/portrait/") : len(p)-1]} {
			if w := get("/portrait/"+guess, here, "localhost"); w.Code != 404 {
				t.Errorf("%q: %d", guess, w.Code)
			}
		}
		other := tap
		other.PunchID = "tpe-1f-lobby-000000000043"
		if q := path(other); q == p || q == "" {
			t.Errorf("the next punch has %q", q)
		}
		for name, change := range map[string]func(*ui.Result){
			"nobody's": func(r *ui.Result) { r.Employee = "000125" }, "not stored": func(r *ui.Result) { r.Outcome = "not_stored" },
			"a second tap": func(r *ui.Result) { r.Outcome = "duplicate" }, "unknown": func(r *ui.Result) { r.Outcome, r.Employee = "unknown_badge", "" },
		} {
			x := tap
			x.PunchID += name
			if change(&x); path(x) != "" {
				t.Errorf("%s has a portrait", name)
			}
		}
		gone := tap
		gone.PunchID, gone.Employee = "gone", "000124"
		if w := get(path(gone), here, "localhost"); w.Code != 404 {
			t.Errorf("one that is not there any more: %d", w.Code)
		}
		time.Sleep(15 * time.Second)
		if w := get(p, here, "localhost"); w.Code != 404 {
			t.Errorf("after its time: %d", w.Code)
		}
		for i := range 200 { // a crowd
			tap.PunchID = fmt.Sprint("crowd", i)
			p = path(tap)
		}
		if w := get(p, here, "localhost"); w.Code != 200 {
			t.Errorf("in a crowd: %d", w.Code)
		}
	})
	s, _ := build(t, nil)
	req := httptest.NewRequest("GET", "/portrait/x", nil)
	req.RemoteAddr, req.Host = "127.0.0.1:1", "localhost"
	w := httptest.NewRecorder()
	if s.Handler().ServeHTTP(w, req); w.Code != http.StatusNotFound {
		t.Errorf("without portraits: %d", w.Code)
	}
}

func TestBrowserShowsAPortraitAndMovesNothing(t *testing.T) {
	ctx := browser(t)
	picture := somebody(t)
	var slow atomic.Bool
	s, _ := build(t, func(c *web.Config) {
		c.Portrait = func(number string) func() []byte {
			load := gallery(picture)(number)
			if load == nil {
				return nil
			}
			return func() []byte {
				for slow.Load() {
					time.Sleep(10 * time.Millisecond)
				}
				return load()
			}
		}
	})
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"})
	before(t, ctx, `window.shifts = []; new PerformanceObserver((list) => {
		for (const e of list.getEntries()) if (e.sources.some((x) => x.node && document.getElementById("result").contains(x.node))) shifts.push(e.value.toFixed(4));
	}).observe({type: "layout-shift", buffered: true});`)
	serve(t, ctx, s)
	still(t, ctx)
	n := 0
	show := func(number, clock string) {
		t.Helper()
		n++
		s.Result(ui.Result{Outcome: "stored", Kind: "in", PunchID: fmt.Sprint("p", n), Employee: number, Name: "王小明", Clock: clock, Time: time.Now()})
		until(t, ctx, fmt.Sprintf(`document.getElementById("result").dataset.n === "p%d"`, n))
	}
	const words = `JSON.stringify([...document.querySelectorAll("#result .sign, #result .words, #result .words p")].map((e) => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; }))`
	const symbol = `Math.round(document.querySelector("#result .symbol").getBoundingClientRect().width)`
	const there = `(() => { const i = document.querySelector("#result .face"); return i.complete && i.naturalWidth === 240 && i.getBoundingClientRect().width > 100; })()`
	shots := os.Getenv("PUNCHCLOCK_SHOTS")
	shoot := func(name string) {
		if shots == "" {
			return
		}
		png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		if err == nil {
			err = os.WriteFile(filepath.Join(shots, "portrait-"+name+".png"), png, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var moved []string
	for _, size := range [][2]int64{{800, 480}, {480, 800}} {
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(size[0], size[1])); err != nil {
			t.Fatal(err)
		}
		at := fmt.Sprintf("%dx%d", size[0], size[1])
		show("000125", "synced")
		time.Sleep(200 * time.Millisecond)
		script(t, ctx, `shifts.length = 0`) // the screen was turned
		plain, large := value[string](t, ctx, words), value[int](t, ctx, symbol)
		shoot(at + "-none")
		slow.Store(true)
		show("000123", "synced")
		if got := value[string](t, ctx, words); got != plain {
			t.Errorf("%s: before the portrait is there: %s, without one %s", at, got, plain)
		}
		shoot(at + "-due")
		slow.Store(false)
		until(t, ctx, there)
		if got, small := value[string](t, ctx, words), value[int](t, ctx, symbol); got != plain || small >= large/2 || small < large/3 {
			t.Errorf("%s: with the portrait: %s, without one %s; the symbol is %d of %d wide", at, got, plain, small, large)
		}
		shoot(at)
		show("000123", "unset")
		until(t, ctx, there)
		shoot(at + "-unset")
		time.Sleep(200 * time.Millisecond) // a shift is told of after the frame
		moved = append(moved, value[[]string](t, ctx, `shifts`)...)
		show("000124", "synced") // it was deleted a moment ago
		until(t, ctx, `!document.getElementById("result").classList.contains("faced")`)
		until(t, ctx, fmt.Sprintf(`%s === %d`, symbol, large)) // it grows in
		if got := value[string](t, ctx, words); got != plain {
			t.Errorf("%s: a portrait that is gone leaves a trace: %s, without one %s", at, got, plain)
		}
	}
	show("000123", "synced")
	until(t, ctx, there)
	script(t, ctx, `document.getElementById("result").click()`)
	until(t, ctx, `document.getElementById("result").hidden`)
	if value[bool](t, ctx, `document.querySelector("#result .face").hasAttribute("src")`) {
		t.Error("the portrait is still in the page when the answer is gone")
	}
	if len(moved) > 0 {
		t.Errorf("shifted: %s", moved)
	}
}
