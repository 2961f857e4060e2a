package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"punchclock/ui"
	"punchclock/ui/web"
)

// value evaluates JavaScript in the page.
func value[T any](t testing.TB, ctx context.Context, js string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js))
	if err != nil {
		t.Fatalf("%s: %v", js, err)
	}
	return v
}

// before runs a script in every page that is opened, ahead of its own.
func before(t testing.TB, ctx context.Context, js string) {
	t.Helper()
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: js}); err != nil {
		t.Fatal(err)
	}
}

func typeKeys(t testing.TB, ctx context.Context, keys string, opts ...chromedp.KeyOption) {
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.KeyEvent(keys, opts...)); err != nil {
		t.Fatal(err)
	}
}

// atDoor is a page with a house behind it that lets kinds be corrected.
func atDoor(t *testing.T) (context.Context, *web.Server, *door) {
	ctx := browser(t)
	d := new(door)
	s, _ := build(t, func(c *web.Config) { c.Backend, c.Volume = d, 50 })
	d.s = s
	d.status = map[string]any{"destinations": []any{map[string]any{"name": "104", "state": "ok"}}, "readers": []any{map[string]any{"name": "front", "state": "ok"}}}
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"})
	return ctx, s, d
}

// A destination that refuses our login is not "connected", though the network is well.
func TestBrowserNamesTheDestinationThatDoesNotTakePunches(t *testing.T) {
	ctx, s, d := atDoor(t)
	d.status = map[string]any{"destinations": []any{map[string]any{"name": "104", "state": "auth_failed", "pending": 12034, "parked": 2, "oldest_unsent_seconds": 999999},
		map[string]any{"name": "feishu", "state": "retrying"}, map[string]any{"name": "signin", "state": "ok"}}}
	serve(t, ctx, s)
	until(t, ctx, `/^104 認證失敗 · feishu 重試中 · /.test(document.getElementById("line").textContent) && document.getElementById("line").dataset.state === "stuck"`)
}

// faces puts every face of the page on the screen, one after another.
func faces(t *testing.T, ctx context.Context, s *web.Server, look func(name string)) {
	t.Helper()
	until(t, ctx, `document.getElementById("line").textContent !== "" && document.getElementById("notice").textContent === ""`)
	look("idle")
	s.Show(ui.Screen{Why: "person", Clock: "unset", Readers: []ui.Reader{{Name: "front", State: "down"}}})
	until(t, ctx, `document.getElementById("doubt").textContent !== ""`)
	look("trouble")
	still(t, ctx)
	for i, r := range []ui.Result{
		{Outcome: "stored", Kind: "in", Name: "王小明", Clock: "synced"},
		{Outcome: "stored", Kind: "in", Name: "王小明", Clock: "unset"},
		{Outcome: "unknown_badge", Kind: "in", Clock: "synced"},
		{Outcome: "blocked_badge", Kind: "in", Clock: "synced"},
		{Outcome: "misread", Clock: "synced"},
		{Outcome: "not_stored", Kind: "in", Name: "王小明", Clock: "synced"},
		{Outcome: "duplicate", Kind: "in", Clock: "synced"},
	} {
		r.PunchID, r.Time = fmt.Sprint("face", i), time.Now()
		s.Result(r)
		until(t, ctx, fmt.Sprintf(`document.getElementById("result").dataset.n === "%s"`, r.PunchID))
		look(r.Outcome + " " + r.Clock)
	}
	s.Result(ui.Result{Outcome: "duplicate", PunchID: "mine", Kind: "go-out", Employee: "000123", Name: "王小明", Clock: "synced", Time: time.Now()})
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced", Mine: ownPunches("")})
	until(t, ctx, `document.querySelectorAll("#own-list li").length === 5`)
	look("mine")
	typeKeys(t, ctx, kb.Escape)
	until(t, ctx, hidden)
	press(t, ctx, "#pin-open")
	look("pin")
	press(t, ctx, "#pin-language")
	look("languages")
	press(t, ctx, "#pin-cancel", "#state-open")
	until(t, ctx, `document.getElementById("state").open`)
	look("state")
	press(t, ctx, "#state-close")
}

// contrast walks over everything that is written on the screen and returns what is
// less than 7:1 against the ground that it stands on.
const contrast = `(() => {
	const luminance = (c) => c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const colour = (text) => (text.match(/[\d.]+/g) || []).map(Number);
	const result = document.getElementById("result"), bad = [];
	const top = document.querySelector("dialog[open]") || (result.hidden ? document.getElementById("idle") : result);
	let n = 0;
	for (const e of top.querySelectorAll("*")) {
		const written = [...e.childNodes].some((c) => c.nodeType === 3 && c.data.trim()) || e.tagName === "INPUT" || e.tagName === "svg";
		if (!written || !e.checkVisibility({ visibilityProperty: true }) || e.classList.contains("away")) continue;
		let ground = e;
		while (ground && (colour(getComputedStyle(ground).backgroundColor)[3] === 0)) ground = ground.parentElement;
		const a = luminance(colour(getComputedStyle(e).color)), b = luminance(colour(getComputedStyle(ground || document.body).backgroundColor));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		n++;
		if (ratio < 7) bad.push((e.id || e.className.baseVal || e.className || e.tagName) + " " + e.textContent.trim() + " " + ratio.toFixed(1));
	}
	return n + "\n" + bad.join("\n");
})()`

func TestBrowserWritesEverythingInSevenToOneAndNamesEveryControl(t *testing.T) {
	ctx, s, _ := atDoor(t)
	serve(t, ctx, s)
	live := map[string]bool{}
	faces(t, ctx, s, func(name string) {
		found := strings.Split(value[string](t, ctx, contrast), "\n")
		if len(found) < 2 || found[0] == "0" {
			t.Errorf("%s: nothing is written there", name)
		}
		for _, b := range found[1:] {
			if b != "" {
				t.Errorf("%s: %s", name, b)
			}
		}
		tree, err := chromedp.Call(ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			t.Fatal(err)
		}
		text := func(v *accessibility.Value) (s string) {
			if v != nil {
				_ = json.Unmarshal(v.Value, &s)
			}
			return s
		}
		controls := 0
		for _, n := range tree.Nodes {
			role := text(n.Role)
			if n.Ignored {
				continue
			}
			switch role {
			case "button", "textbox", "dialog", "timer", "group", "region":
				if controls++; role != "timer" && text(n.Name) == "" {
					t.Errorf("%s: a %s has no name", name, role)
				}
			case "alert", "status", "log":
				live[role] = true
			}
		}
		if controls == 0 && !strings.Contains(name, "sync") && !strings.Contains(name, "unset") {
			t.Errorf("%s: no control in the tree of %d nodes", name, len(tree.Nodes))
		}
	})
	if !live["alert"] || !live["status"] {
		t.Errorf("live regions: %v", live)
	}
}

func TestBrowserIsUsedByKeysAlone(t *testing.T) {
	ctx, s, d := atDoor(t)
	serve(t, ctx, s)
	until(t, ctx, `document.getElementById("line").textContent !== ""`)
	// To the keypad, number, PIN, done.
	d.pin = func(no, pin string) (ui.Result, error) {
		r := ui.Result{Outcome: "stored", PunchID: "by-key", Kind: "in", Employee: no, Name: "王小明", Time: time.Now(), Clock: "synced"}
		if no != "A0123" || pin != "4711" {
			return ui.Result{}, web.ErrWrongPIN
		}
		s.Result(r)
		return r, nil
	}
	for range 8 {
		if value[string](t, ctx, `document.activeElement.id`) == "pin-open" {
			break
		}
		typeKeys(t, ctx, kb.Tab)
	}
	typeKeys(t, ctx, kb.Enter)
	until(t, ctx, `document.getElementById("pin").open`)
	typeKeys(t, ctx, "A0123"+kb.Enter+"4711"+kb.Enter)
	until(t, ctx, shownIs+`"stored"`)
	typeKeys(t, ctx, kb.Escape)
	until(t, ctx, hidden)
	// Tapped again: the kind is corrected.
	d.fix = func(id, kind string) (ui.Result, error) {
		r := ui.Result{Outcome: "stored", PunchID: "fixed", Supersedes: id, Kind: kind, Employee: "000123", Time: time.Now(), Clock: "synced"}
		s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"})
		s.Result(r)
		return r, nil
	}
	m := ownPunches("")
	s.Result(ui.Result{Outcome: "duplicate", PunchID: "again", Kind: "go-out", Employee: "000123", Time: time.Now(), Clock: "synced"})
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced", Mine: m})
	until(t, ctx, `document.querySelectorAll("#own-list li").length === 5`)
	for range 12 {
		if value[string](t, ctx, `document.activeElement.closest("#own-kinds") ? document.activeElement.dataset.kind : ""`) == "out" {
			break
		}
		typeKeys(t, ctx, kb.Tab)
	}
	typeKeys(t, ctx, kb.Enter)
	until(t, ctx, shownIs+`"stored" && /更正/.test(document.getElementById("spoken").textContent)`)
	d.mu.Lock()
	if len(d.fixes) != 1 || d.fixes[0] != m.Fix+"/out" {
		t.Errorf("corrected: %v", d.fixes)
	}
	d.mu.Unlock()
	// The kind that it is already is not to be pressed; a late one is told so.
	d.fix = nil
	s.Result(ui.Result{Outcome: "duplicate", PunchID: "again2", Kind: "go-out", Employee: "000123", Time: time.Now(), Clock: "synced"})
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced", Mine: m})
	until(t, ctx, `document.querySelector("#own-kinds [data-kind=go-out]").getAttribute("aria-disabled") === "true" && document.getElementById("result").classList.contains("mine")`)
	press(t, ctx, "#own-kinds [data-kind=go-out]", "#own-kinds [data-kind=in]")
	until(t, ctx, `/人資/.test(document.getElementById("own-ask").textContent)`)
	d.mu.Lock()
	if len(d.fixes) != 2 {
		t.Errorf("corrected: %v", d.fixes)
	}
	d.mu.Unlock()
	// Gone with the daemon's word, or when the next person taps.
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"})
	until(t, ctx, hidden)
	s.Result(ui.Result{Outcome: "duplicate", PunchID: "again3", Kind: "go-out", Employee: "000123", Time: time.Now(), Clock: "synced"})
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced", Mine: m})
	until(t, ctx, `document.querySelectorAll("#own-list li").length === 5`)
	s.Result(ui.Result{Outcome: "stored", PunchID: "next", Kind: "in", Employee: "000456", Name: "李華", Time: time.Now(), Clock: "synced"})
	until(t, ctx, shownIs+`"stored" && !/王小明/.test(document.getElementById("result").innerText) && document.getElementById("own").hidden`)
}

func TestBrowserHasNoWayOut(t *testing.T) {
	ctx, s, d := atDoor(t)
	srv := serve(t, ctx, s)
	until(t, ctx, `document.getElementById("line").textContent !== ""`)
	script(t, ctx, `window.mark = 1; history.pushState(null, "", "/"); window.gone = 0; addEventListener("pagehide", () => { window.gone++; })`)
	if n := value[int](t, ctx, `document.querySelectorAll("a, area, iframe, object, embed, form:not([method=dialog])").length`); n != 0 {
		t.Errorf("%d ways out on the page", n)
	}
	// Keys of browsers: each is a key event that the page takes away from the browser.
	keys := []string{`{key: "F5"}`, `{key: "F1", altKey: true}`, `{key: "ArrowLeft", altKey: true}`, `{key: "Home", altKey: true}`, `{key: "r", ctrlKey: true}`, `{key: "w", ctrlKey: true}`,
		`{key: "n", ctrlKey: true}`, `{key: "p", ctrlKey: true}`, `{key: "F11"}`, `{key: "F12"}`, `{key: "BrowserBack"}`, `{key: "GoBack"}`, `{key: "LaunchMail"}`, `{key: "l", metaKey: true}`}
	for _, k := range keys {
		if !value[bool](t, ctx, `!dispatchEvent(new KeyboardEvent("keydown", Object.assign({cancelable: true, bubbles: true}, `+k+`)))`) {
			t.Errorf("%s goes to the browser", k)
		}
	}
	for _, e := range []string{`new MouseEvent("contextmenu", {cancelable: true})`, `new DragEvent("drop", {cancelable: true})`, `new DragEvent("dragover", {cancelable: true})`, `new WheelEvent("wheel", {cancelable: true, ctrlKey: true})`} {
		if !value[bool](t, ctx, `!dispatchEvent(`+e+`)`) {
			t.Errorf("%s goes to the browser", e)
		}
	}
	// Every control, touched; and Enter in every field.
	faces(t, ctx, s, func(string) {})
	press(t, ctx, "#pin-open")
	typeKeys(t, ctx, "1"+kb.Enter+kb.Enter+kb.Escape)
	d.mu.Lock()
	d.kinds = nil
	d.mu.Unlock()
	if at := value[string](t, ctx, `location.href + " " + window.mark + " " + window.gone`); at != srv.URL+"/ 1 0" {
		t.Errorf("the page is at %s", at)
	}
	if css := value[string](t, ctx, `getComputedStyle(document.body).overscrollBehaviorY + " " + getComputedStyle(document.body).touchAction + " " + getComputedStyle(document.body).overflow`); css != "none none hidden" {
		t.Errorf("gestures: %s", css)
	}
}

func TestBrowserShiftsNothingAndKeepsStillForThoseWhoWishIt(t *testing.T) {
	ctx, s, _ := atDoor(t)
	before(t, ctx, `window.shifts = []; new PerformanceObserver((list) => {
		for (const e of list.getEntries()) shifts.push(e.value.toFixed(4) + " " + e.sources.map((x) => x.node && (x.node.id || x.node.className || x.node.nodeName)).join(","));
	}).observe({type: "layout-shift", buffered: true});`)
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}}}); err != nil {
		t.Fatal(err)
	}
	serve(t, ctx, s)
	moving := 0
	faces(t, ctx, s, func(string) {
		moving += value[int](t, ctx, `document.getAnimations().length`)
		time.Sleep(50 * time.Millisecond)
	})
	if moving != 0 {
		t.Errorf("%d animations for somebody who wants none", moving)
	}
	if n := value[string](t, ctx, `shifts.join("; ")`); n != "" {
		t.Errorf("shifted: %s", n)
	}
}

func TestBrowserShowsEveryAnswerInOrderHoweverFastTheyCome(t *testing.T) {
	const taps, every = 60, 40 * time.Millisecond // five times as fast as a busy door
	ctx, s, _ := atDoor(t)
	serve(t, ctx, s)
	until(t, ctx, `document.getElementById("line").textContent !== ""`)
	script(t, ctx, `window.seen = []; window.got = [];
		new MutationObserver(() => {
			const n = document.querySelector("#result .name").textContent;
			if (n && seen[seen.length - 1] !== n) seen.push(n);
		}).observe(document.getElementById("result"), {subtree: true, childList: true, characterData: true, attributes: true});
		window.other = new EventSource("/events");
		other.addEventListener("result", (e) => got.push(JSON.parse(e.data).seq));
		other.onopen = () => { window.opened = true; }`)
	until(t, ctx, `window.opened`)
	time.Sleep(100 * time.Millisecond)
	for i := range taps {
		r := ui.Result{Outcome: []string{"stored", "unknown_badge", "not_stored"}[i%3], PunchID: fmt.Sprint(i + 1), Seq: uint64(i + 1), Kind: "in", Name: fmt.Sprintf("person %d", i+1), Time: time.Now(), Clock: "synced"}
		s.Result(r)
		s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced", Result: &r})
		time.Sleep(every)
	}
	until(t, ctx, fmt.Sprintf(`document.querySelector("#result .name").textContent === "person %d" && got.length === %d`, taps, taps))
	var seen []string
	if err := json.Unmarshal([]byte(value[string](t, ctx, `JSON.stringify(seen)`)), &seen); err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, name := range seen {
		var n int
		if _, err := fmt.Sscanf(name, "person %d", &n); err != nil || n <= last {
			t.Fatalf("shown out of order: %v", seen)
		}
		last = n
	}
	if len(seen) < taps*9/10 {
		t.Errorf("%d of %d were on the screen", len(seen), taps)
	}
	until(t, ctx, hidden)
}

func TestBrowserDimsAtNightAndWakesForATap(t *testing.T) {
	ctx := browser(t)
	now := time.Now().In(taipei)
	from := now.Hour()*60 + now.Minute()
	s, _ := build(t, func(c *web.Config) {
		c.Volume = 90
		c.Night.From, c.Night.To = from, (from+10)%1440
	})
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"})
	// Waiting is done by the monotonic clock, which is moved on.
	before(t, ctx, `window.skip = 0; const real = performance.now.bind(performance); performance.now = () => real() + window.skip;`)
	serve(t, ctx, s)
	light := func(want string) {
		t.Helper()
		until(t, ctx, `(document.documentElement.dataset.light || "on") === "`+want+`"`)
	}
	until(t, ctx, `document.getElementById("line") && document.getElementById("notice").textContent === ""`)
	light("on")
	script(t, ctx, `window.skip += 61000`)
	light("dim")
	script(t, ctx, `window.skip += 600000`)
	light("off")
	s.Result(stored(1))
	light("on")
	until(t, ctx, shownIs+`"stored"`)
	until(t, ctx, hidden)
	script(t, ctx, `window.skip += 61000`)
	light("dim")
	press(t, ctx, "#shade") // a touch in the dark presses nothing
	light("on")
	if open := value[bool](t, ctx, `document.getElementById("pin").open || document.getElementById("state").open`); open {
		t.Error("the touch that woke the page did something")
	}
	// No night where the time is not known.
	s.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "unset"})
	until(t, ctx, `document.getElementById("doubt").textContent !== ""`)
	script(t, ctx, `window.skip += 700000`)
	time.Sleep(1500 * time.Millisecond)
	light("on")
}

// TestBrowserSpeaksThePersonsLanguageOnTheKeypad chooses one there, and letters.
func TestBrowserSpeaksThePersonsLanguageOnTheKeypad(t *testing.T) {
	ctx, s, d := atDoor(t)
	serve(t, ctx, s)
	until(t, ctx, `document.getElementById("line").textContent !== ""`)
	var tried []string
	var mu sync.Mutex
	d.pin = func(no, pin string) (ui.Result, error) {
		mu.Lock()
		defer mu.Unlock()
		tried = append(tried, no+"/"+pin)
		return ui.Result{}, &web.TooManyTries{Wait: 90 * time.Second}
	}
	press(t, ctx, "#pin-open", "#pin-language", "#pin-languages [lang=vi]")
	until(t, ctx, `/Mã nhân viên/.test(document.getElementById("pin").innerText) && !/員編/.test(document.getElementById("pin").innerText)`)
	press(t, ctx, "#pin-letters", ".pad .digit:nth-child(1)", "#pin-letters", "#pin-letters", "#pin-letters", ".pad .digit:nth-child(2)", ".pad .digit:nth-child(3)", "#pin-ok", ".pad .digit:nth-child(9)", "#pin-ok")
	until(t, ctx, `/90 giây/.test(document.getElementById("pin-error").textContent)`)
	mu.Lock()
	if len(tried) != 1 || tried[0] != "A23/9" {
		t.Errorf("tried %v", tried)
	}
	mu.Unlock()
	if masked := value[string](t, ctx, `document.getElementById("pin-pin").type`); masked != "password" {
		t.Errorf("the PIN is shown: %s", masked)
	}
	press(t, ctx, "#pin-cancel", "#pin-open")
	until(t, ctx, `/員編/.test(document.getElementById("pin").innerText)`)
}

// listener stands in for the sound device and writes down what is played.
const listener = `window.played = []; window.said = [];
	window.AudioContext = class {
		constructor() { this.state = "running"; this.currentTime = 0; this.destination = {}; }
		resume() { return Promise.resolve(); }
		createOscillator() {
			const tone = { frequency: {}, connect: (to) => to, start: (t) => { tone.from = t; }, stop: (t) => {
				played.push([tone.frequency.value, Math.round(tone.from * 1000), Math.round((t - tone.from) * 1000), loudest]);
			} };
			return tone;
		}
		decodeAudioData(bytes) { return Promise.resolve(new TextDecoder().decode(bytes)); }
		createBufferSource() {
			const word = { connect: (to) => to, stop: () => said.push("stop"), start: (t) => said.push(word.buffer + " after " + Math.round(t * 1000)) };
			return word;
		}
		createGain() { return { gain: { setValueAtTime: () => {}, linearRampToValueAtTime: (v) => { if (v) loudest = v; } }, connect: (to) => to, disconnect: () => {} }; }
	};
	let loudest = 0;`

func TestBrowserSoundsEachOutcomeInARhythmOfItsOwn(t *testing.T) {
	ctx, s, _ := atDoor(t)
	before(t, ctx, listener)
	serve(t, ctx, s)
	until(t, ctx, `document.getElementById("line").textContent !== ""`)
	rhythms := map[string]string{}
	for i, r := range []ui.Result{
		{Outcome: "stored", Kind: "in"}, {Outcome: "stored", Kind: "out"}, {Outcome: "stored", Kind: "go-out"}, {Outcome: "stored", Kind: "return"},
		{Outcome: "duplicate", Kind: "in"}, {Outcome: "unknown_badge", Kind: "in"}, {Outcome: "blocked_badge", Kind: "in"}, {Outcome: "misread"}, {Outcome: "enrolment", Reason: "enrolled"}, {Outcome: "enrolment", Reason: "enrol-pin"}, {Outcome: "not_stored", Kind: "in"},
	} {
		script(t, ctx, `played.length = 0`)
		r.PunchID, r.Time, r.Clock = fmt.Sprint("tone", i), time.Now(), "synced"
		s.Result(r)
		until(t, ctx, `played.length > 0`)
		var notes [][4]float64
		if err := json.Unmarshal([]byte(value[string](t, ctx, `JSON.stringify(played)`)), &notes); err != nil {
			t.Fatal(err)
		}
		rhythm := ""
		for _, n := range notes {
			rhythm += fmt.Sprintf("%.0f+%.0f ", n[1], n[2])
			if n[3] != 0.5 {
				t.Errorf("%s %s: as loud as %v, want half", r.Outcome, r.Kind, n[3])
			}
		}
		if other, ok := rhythms[rhythm]; ok {
			t.Errorf("%s %s sounds like %s", r.Outcome, r.Kind, other)
		}
		rhythms[rhythm] = r.Outcome + " " + r.Kind
	}
}

func TestBrowserSaysWhatTheSiteHasRecordedInThePersonsLanguage(t *testing.T) {
	ctx := browser(t)
	dir := recordings(t, map[string]string{"zh-TW/in.ogg": "早安", "vi/in.mp3": "chào", "zh-TW/not_stored.wav": "未儲存"})
	s, _ := build(t, func(c *web.Config) { c.Volume, c.Voices = 50, dir })
	s.Show(ui.Screen{Clock: "synced"})
	before(t, ctx, listener)
	serve(t, ctx, s)
	until(t, ctx, `document.getElementById("notice").textContent === "" && document.getElementById("date").textContent !== ""`)
	time.Sleep(200 * time.Millisecond) // the stream is live
	n := 0
	say := func(r ui.Result, want string) {
		t.Helper()
		script(t, ctx, `said.length = 0; played.length = 0`)
		n++
		r.PunchID, r.Time, r.Clock = fmt.Sprint("word", n), time.Now(), "synced"
		s.Result(r)
		until(t, ctx, `played.length > 0`)
		if want == "" {
			time.Sleep(100 * time.Millisecond)
			if got := value[string](t, ctx, `said.filter((x) => x !== "stop").join()`); got != "" {
				t.Errorf("%+v: said %s", r, got)
			}
			return
		}
		until(t, ctx, `said.includes("`+want+`")`)
	}
	say(ui.Result{Outcome: "stored", Kind: "in"}, "早安 after 360")
	say(ui.Result{Outcome: "stored", Kind: "in", Language: "vi"}, "chào after 360")
	say(ui.Result{Outcome: "stored", Kind: "out"}, "")
	say(ui.Result{Outcome: "stored", Kind: "in", Language: "th"}, "")
	say(ui.Result{Outcome: "not_stored", Kind: "in"}, "未儲存 after 1320")
}
