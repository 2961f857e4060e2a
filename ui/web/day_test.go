package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/memory"
	heap "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"punchclock/ui"
	"punchclock/ui/web"
)

// longDay reports whether a day's test may take minutes: make test-ui says so.
func longDay() bool { return os.Getenv("PUNCHCLOCK_DAY") != "" }

// The page lives through a day of a large site, its timers running fast: its seconds, 1,200
// taps of people in all languages, own punches, number and PIN, the state, another
// language there, and the daemon begun anew. At each quarter of the day it holds no more
// than at the one before.
func TestBrowserDoesNotGrowOverADay(t *testing.T) {
	const taps, quarters, restarts = 1200, 4, 12
	speed := 2400 // of the page's timers: a day in 36 seconds
	if longDay() {
		speed = 240
	}
	ctx, first, d := atDoor(t)
	var now atomic.Pointer[web.Server]
	now.Store(first)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = web.NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().Handler().ServeHTTP(w, r) }))
	srv.Start()
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	before(t, ctx, fmt.Sprintf(`{
		const set = window.setTimeout;
		window.ticks = 0;
		window.setTimeout = (f, ms, ...more) => {
			if (ms > 0 && ms < 1010) window.ticks++; // the page's clock
			return set(f, (ms || 0) / %d, ...more);
		};
	}`, speed))
	if err := chromedp.Do(ctx, chromedp.Navigate(srv.URL)); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, `document.getElementById("line").textContent !== ""`)
	d.fix = func(id, kind string) (ui.Result, error) {
		return ui.Result{Outcome: "stored", PunchID: "f" + id, Supersedes: id, Kind: kind, Employee: "000123", Time: time.Now(), Clock: "synced"}, nil
	}
	people := []struct{ name, lang string }{{"王小明", ""}, {"Nguyễn Thị Minh Khai", "vi"}, {"Siti Rahayu", "id"}, {"สมชาย ใจดี", "th"}, {"Juan dela Cruz", "fil"}, {"Alexandra Montgomery", "en"}, {"张伟", "zh-CN"}}
	outcomes := []string{"stored", "stored", "stored", "stored", "unknown_badge", "duplicate", "misread", "not_stored", "blocked_badge"}
	show := func(sc ui.Screen) { now.Load().Show(sc) }
	pause := 24 * time.Hour / taps / 4 / time.Duration(speed)
	n := 0
	live := func(count int) {
		for range count {
			n++
			who := people[n%len(people)]
			r := ui.Result{Outcome: outcomes[n%len(outcomes)], PunchID: fmt.Sprint(n), Seq: uint64(n), Kind: []string{"in", "out", "go-out", "return"}[n%4], Employee: "000123", Name: who.name, Language: who.lang, Time: time.Now(), Clock: []string{"synced", "synced", "unset"}[n%3]}
			now.Load().Result(r)
			sc := ui.Screen{Kind: "in", Why: "schedule", Clock: "synced", Result: &r}
			if r.Outcome == "duplicate" {
				sc.Mine = ownPunches(who.lang)
				sc.Mine.Punches[0].PunchID = r.PunchID
			}
			show(sc)
			for i := range 4 {
				time.Sleep(pause)
				show(ui.Screen{Kind: []string{"in", "out"}[i%2], Why: []string{"schedule", "person"}[n%2], Clock: "synced", Readers: []ui.Reader{{Name: "front", State: []string{"ok", "down"}[n/10%2]}}})
			}
			now.Load().Poke()
			switch {
			case n%(taps/restarts) == 0: // the daemon is begun anew: it knows nothing of what was
				next, _ := build(t, func(c *web.Config) { c.Backend, c.Volume = d, 50 })
				next.Show(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"})
				d.mu.Lock()
				d.s = next
				d.mu.Unlock()
				now.Store(next)
				srv.CloseClientConnections()
				until(t, ctx, `document.getElementById("notice").textContent === ""`)
			case n%10 == 0: // number and PIN, in another language
				script(t, ctx, fmt.Sprintf(`const click = (id) => document.getElementById(id).click();
					click("pin-open"); click("pin-language"); document.getElementById("pin-languages").children[%d].click();
					document.querySelector(".digit").click(); click("pin-letters"); click("pin-cancel")`, n/10%7))
			case n%25 == 0:
				script(t, ctx, `document.getElementById("state-open").click()`)
				until(t, ctx, `document.getElementById("state").open || document.getElementById("state-list").children.length > 0`)
				script(t, ctx, `document.getElementById("state-close").click()`)
			}
		}
	}
	type held struct {
		heap             float64
		nodes, listeners int64
	}
	look := func() held {
		until(t, ctx, hidden)
		d.mu.Lock()
		d.pins, d.kinds, d.fixes = nil, nil, nil
		d.mu.Unlock()
		for range 2 {
			if _, err := chromedp.Call(ctx, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
				t.Fatal(err)
			}
		}
		use, err := chromedp.Call(ctx, heap.GetHeapUsage, cdp.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		dom, err := chromedp.Call(ctx, memory.GetDOMCounters, cdp.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		return held{use.UsedSize, int64(dom.Nodes), int64(dom.JsEventListeners)}
	}
	live(taps / 24) // an hour, in which everything has been there once
	began := look()
	all := []held{began}
	for range quarters {
		live(taps / quarters)
		all = append(all, look())
	}
	last, marks := all[quarters], ""
	for i, h := range all {
		marks += fmt.Sprintf("; %d h %.0f KB, %d nodes, %d listeners", i*24/quarters, h.heap/1024, h.nodes, h.listeners)
	}
	t.Logf("%d taps, the clock ticked %d times%s", n, value[int](t, ctx, `window.ticks`), marks)
	// What is there after the second quarter may be there for the first time. What grows
	// with each of 1,200 taps is 300 times as much a quarter later.
	if last.heap > all[1].heap+128<<10 || last.nodes > all[1].nodes+50 || last.listeners > all[1].listeners+50 {
		t.Errorf("it grows%s", marks)
	}
}

// gone is a browser that takes what comes, and may be closed.
type gone struct {
	head http.Header
	n    atomic.Int64
}

func (g *gone) Header() http.Header              { return g.head }
func (g *gone) WriteHeader(int)                  {}
func (g *gone) Flush()                           {}
func (g *gone) SetWriteDeadline(time.Time) error { return nil }
func (g *gone) Write(b []byte) (int, error)      { g.n.Add(int64(len(b))); return len(b), nil }

// The other end of those lines: a day of results and browsers that come and go.
func TestEventStreamsDoNotGrowOverADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, nil)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var open sync.WaitGroup
		var sent atomic.Int64
		listen := func(ctx context.Context) {
			open.Go(func() {
				g := &gone{head: http.Header{}}
				s.Handler().ServeHTTP(g, local(http.MethodGet, "/events", "").WithContext(ctx))
				sent.Add(g.n.Load())
			})
		}
		listen(ctx) // the page at the door
		held := func() (bytes uint64, routines int) {
			synctest.Wait()
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc, runtime.NumGoroutine()
		}
		var bytes [5]uint64
		var routines [5]int
		n := 0
		for quarter := range 5 {
			hours := 6
			if quarter == 0 {
				hours = 1
			}
			for range hours * 50 {
				n++
				visit, leave := context.WithCancel(ctx)
				listen(visit)
				r := ui.Result{Outcome: "stored", PunchID: fmt.Sprint(n), Seq: uint64(n), Kind: "in", Employee: fmt.Sprint(n), Name: fmt.Sprint("person ", n), Time: time.Now(), Clock: "synced"}
				s.Result(r)
				s.Show(ui.Screen{Kind: "in", Result: &r, Clock: "synced"})
				time.Sleep(3 * time.Second)
				s.Show(ui.Screen{Kind: []string{"in", "out"}[n%2], Clock: "synced"})
				s.Poke()
				time.Sleep(69 * time.Second)
				leave()
			}
			bytes[quarter], routines[quarter] = held()
		}
		t.Logf("%d results; KB after 1, 7, 13, 19 and 25 hours: %v", n, [5]uint64{bytes[0] >> 10, bytes[1] >> 10, bytes[2] >> 10, bytes[3] >> 10, bytes[4] >> 10})
		if bytes[4] > bytes[1]+64<<10 || routines[4] > routines[1] {
			t.Errorf("it grows: %v bytes, %v goroutines", bytes, routines)
		}
		stop()
		open.Wait()
		if sent.Load() < 1e6 {
			t.Errorf("only %d bytes were sent", sent.Load())
		}
	})
}
