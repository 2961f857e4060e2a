package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	"punchclock/device/devicetest"
	"punchclock/sync/sandbox"
)

// technician is somebody at the admin page, in a real browser.
type technician struct {
	t     *testing.T
	ctx   context.Context
	at    string
	shots string
	files string // where downloads go
}

func newTechnician(t *testing.T, h *house) *technician {
	t.Helper()
	w := &technician{t: t, ctx: h.chromium(), at: "http://" + h.page, shots: os.Getenv("PUNCHCLOCK_SHOTS"), files: t.TempDir()}
	if err := chromedp.Do(w.ctx, chromedp.EmulateViewport(1280, 900)); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(w.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: w.files}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *technician) open(path string) {
	w.t.Helper()
	if err := chromedp.Do(w.ctx, chromedp.Navigate(w.at+path)); err != nil {
		w.t.Fatal(err)
	}
}

// until waits until a JavaScript condition holds.
func (w *technician) until(condition string) {
	w.t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if ok, err := chromedp.Run(w.ctx, chromedp.Evaluate[bool]("Boolean("+condition+")")); err == nil && ok {
			return
		} else if time.Now().After(end) {
			words, _ := chromedp.Run(w.ctx, chromedp.Evaluate[string]("location.href + document.body.innerText"))
			w.shot("failed")
			w.t.Fatalf("never came true: %s (%v)\non the page: %s", condition, err, words)
		}
	}
}

// says waits for words on the page.
func (w *technician) says(words string) {
	w.t.Helper()
	w.until(fmt.Sprintf("document.body.innerText.includes(%q)", words))
}

// readyToTap waits until the clock waits for a card. The page says so when the form is
// sent, which is a moment before that has arrived.
func (w *technician) readyToTap() {
	w.t.Helper()
	w.says("請在 30 秒內刷卡")
	time.Sleep(time.Second)
}

// press presses the button of these words, once the page's script runs.
func (w *technician) press(words string) {
	w.t.Helper()
	w.until(fmt.Sprintf(`document.readyState === "complete" && (() => { const b = [...document.querySelectorAll("button, .tabs a, td a, th a")].find((b) => b.innerText.trim() === %q && b.checkVisibility()); if (b) b.click(); return b; })()`, words))
}

// fill puts text into a field.
func (w *technician) fill(name, text string) {
	w.t.Helper()
	w.until(fmt.Sprintf(`(() => { const f = document.querySelector('[name=%s]:not([type=hidden])'); if (f) f.value = %q; return f; })()`, name, text))
}

// shot looks at the page as it is, on a phone and on a desk: nothing may stand out of
// it. With PUNCHCLOCK_SHOTS naming a directory it leaves a picture of each.
func (w *technician) shot(name string) {
	w.t.Helper()
	for _, wide := range []int64{390, 1280} {
		if err := chromedp.Do(w.ctx, chromedp.EmulateViewport(wide, 900)); err != nil {
			w.t.Fatal(err)
		}
		if over, err := chromedp.Run(w.ctx, chromedp.Evaluate[float64]("document.documentElement.scrollWidth - innerWidth")); err != nil || over > 1 {
			w.t.Errorf("%s stands out of a page %d wide by %v (%v)", name, wide, over, err)
		}
		if w.shots == "" {
			continue
		}
		png, err := chromedp.Run(w.ctx, chromedp.CaptureScreenshot())
		if err == nil {
			err = os.WriteFile(filepath.Join(w.shots, fmt.Sprintf("admin-%s-%d.png", name, wide)), png, 0o644)
		}
		if err != nil {
			w.t.Error(err)
		}
	}
}

// A technician's hour, in a real browser against the real program: the PIN, tap
// now, a card for a newcomer, what was parked, export, self-test, another PIN.
func TestTechnicianAndHRDoTheirWorkOnTheAdminPage(t *testing.T) {
	h := newHouse(t, settings{people: 5, extra: "[[reader]]\nname = \"back\"\ndriver = \"serial\"\nport = \"/dev/no-such-reader\"\ndialect = \"rdm6300\"\n"})
	h.openClouds()
	h.write("admin-pin", "3092-kiosk\n")
	h.start()
	h.tap(h.people[0])
	stranger := person{card: [5]byte{0x0A, 0x1B, 0x2C, 0x3D, 0x4E}}
	if r := h.tap(stranger); r.Outcome != "unknown_badge" {
		t.Fatalf("%+v", r)
	}
	w := newTechnician(t, h)

	// The first PIN, which a card has brought.
	h.until(10*time.Second, "there is a PIN", func() bool {
		out, _ := h.run("admin", "show", "--config", h.config)
		return strings.Contains(out, "PIN set")
	})
	w.open("/admin")
	w.until(`location.pathname === "/admin/login"`)
	w.fill("pin", "3092-kiosk")
	w.press("登入")
	w.says("刷卡測試")
	w.until(`[...document.querySelectorAll("tbody tr")].some((r) => r.dataset.mark === "stuck" && r.innerText.includes("back"))`)
	w.shot("now")

	// Out, and in again.
	w.press("登出")
	w.says("請輸入管理 PIN")
	w.shot("login")
	w.fill("pin", "wrong-one")
	w.press("登入")
	w.says("PIN 不正確")
	w.fill("pin", "3092-kiosk")
	w.press("登入")
	w.says("刷卡測試")

	// Tap now: somebody's card, and a broken frame.
	w.press("刷卡")
	w.readyToTap()
	w.shot("tap-waiting")
	if r := h.tap(h.people[1]); r.Outcome != "stored" { // a punch all the same
		t.Errorf("%+v", r)
	}
	w.says("這是 000002 員工2 的卡片")
	w.says(h.people[1].badge())
	w.says("0a0000015e")
	w.shot("tap-card")
	w.press("刷卡")
	w.readyToTap()
	frame := devicetest.RDM6300(h.people[1].card)
	frame[5] ^= 1
	h.send(frame)
	h.answer()
	w.says("沒有讀到卡片：檢查碼不符")
	// Waiting can be ended, and then a card is a punch again.
	w.press("刷卡")
	w.says("請在 30 秒內刷卡")
	w.press("取消")
	w.until(`document.getElementById("busy").hidden`)

	// The stranger's punch is parked; HR gives the card to a newcomer, and it goes out.
	w.press("待處理")
	w.says("卡片不屬於任何人")
	w.shot("parked")
	w.press("人員")
	w.fill("q", "員工5")
	w.press("搜尋")
	w.press("000005")
	w.says("要給這個人一張卡")
	w.press("讀入卡片")
	w.readyToTap()
	if r := h.tap(stranger); r.Outcome != "misread" || r.Reason != "learned" {
		t.Errorf("a card that is read in: %+v", r)
	}
	w.says("把這張卡登錄給 000005 員工5")
	w.shot("learn")
	w.press("登錄 " + stranger.badge())
	w.says("已登錄給 000005 員工5")
	w.shot("given")
	h.until(15*time.Second, "the newcomer's punch is delivered", func() bool { return len(h.tc.Ledger()) == 3 && len(h.fs.Ledger()) == 3 })

	// A punch that the far side refuses is tried again by hand, when it knows the person.
	var known []sandbox.Person
	for _, p := range h.people {
		known = append(known, sandbox.People(p.number)...)
	}
	h.tc.SetPeople(known[:2], false)
	h.tap(h.people[2])
	h.until(15*time.Second, "it is parked", func() bool { return h.status().Destinations[0].Parked == 1 })
	w.press("待處理")
	w.says("對方沒有這個員工編號")
	h.tc.SetPeople(known, false)
	w.press("再送")
	w.says("已放回 1 筆")
	w.says("沒有待處理的打卡")
	h.until(15*time.Second, "104 has it", func() bool { return len(h.tc.Ledger()) == 4 })

	w.press("今日打卡")
	w.says("共 4 筆")
	w.says("員工3")
	w.shot("today")
	w.press("圖表")
	w.until(`document.querySelectorAll("figure svg.plot").length === 5 && document.querySelectorAll(".beside table").length >= 4`)
	w.until(`document.querySelector(".bar").getAttribute("d").includes("V")`)
	w.shot("plots")

	// The export lands as a file, and says how far it is.
	w.press("匯出")
	w.fill("since", "")
	w.press("下載")
	w.says("已匯出 5 筆") // four punches, and that a card was given
	w.shot("export")
	var rows [][]string
	h.until(10*time.Second, "the file is there", func() bool {
		found, _ := filepath.Glob(filepath.Join(w.files, "test-door-*.csv"))
		if len(found) != 1 {
			return false
		}
		f, err := os.Open(found[0])
		if err != nil {
			return false
		}
		defer f.Close()
		rows, err = csv.NewReader(f).ReadAll()
		return err == nil && len(rows) == 6
	})
	if !strings.Contains(strings.Join(rows[2], " "), stranger.badge()) {
		t.Errorf("the export's second punch: %v", rows[2])
	}

	w.press("自我檢測")
	w.press("開始檢測")
	h.until(80*time.Second, "the self-test is done", func() bool {
		ok, _ := chromedp.Run(w.ctx, chromedp.Evaluate[bool](`/\d+ 項失敗/.test(document.getElementById("notice").innerText)`))
		return ok
	})
	w.says("no-such-reader")
	w.says("沒有接上或名稱不對")
	w.shot("check")

	// Another PIN; the old one is asked for, and nobody is sent away.
	w.press("管理 PIN")
	w.says("目前的 PIN")
	w.fill("old", "wrong-one")
	w.fill("new", "4711-other")
	w.fill("again", "4711-other")
	w.press("更改")
	w.says("PIN 不正確")
	w.fill("old", "3092-kiosk")
	w.fill("new", "123456")
	w.fill("again", "123456")
	w.press("更改")
	w.says("太容易猜了")
	w.fill("old", "3092-kiosk")
	w.fill("new", "4711-other")
	w.fill("again", "4711-other")
	w.press("更改")
	w.says("PIN 已更改")
	w.shot("pin")

	// Nothing of all that is in the log.
	for _, secret := range []string{"3092", "4711-", "kiosk-", "wrong-one", stranger.badge(), "0A1B2C3D4E", "員工", "csrf"} {
		if strings.Contains(h.logged(), secret) {
			t.Errorf("%q is in the log:\n%s", secret, h.logged())
		}
	}
	h.stop()
	// The PIN outlives the program; a session does not.
	h.start()
	w.open("/admin/today")
	w.until(`location.pathname === "/admin/login"`)
	w.fill("pin", "4711-other")
	w.press("登入")
	w.says("刷卡測試")
	h.stop()
}
