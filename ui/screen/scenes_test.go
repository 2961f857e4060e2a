package screen

import (
	"image"
	"image/color"
	"testing"
	"time"

	"punchclock/ui"
	"punchclock/ui/text"
)

var taipei = time.FixedZone("CST", 8*3600)

var sizes = []image.Point{{X: 800, Y: 480}, {X: 1024, Y: 600}, {X: 480, Y: 800}, {X: 600, Y: 1024}, {X: 720, Y: 1280}, {X: 1280, Y: 720}}

// scenes are all states there are, said in a language.
func scenes(tag string) map[string]view {
	now := time.Date(2026, 11, 21, 8, 58, 3, 0, taipei)
	c := text.For(tag)
	readers := []ui.Reader{{Name: "front", State: "ok"}}
	up := Status{Ready: true, Destinations: 2}
	idle := func(s ui.Screen, st Status) view {
		if s.Readers == nil {
			s.Readers = readers
		}
		return view{screen: s, now: now, words: c, name: "員工管理", status: st, code: "http://192.168.1.20:8080/status"}
	}
	result := func(r ui.Result) view {
		r.Time, r.Language = now, tag
		v := idle(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced", Result: &r}, up)
		v.result = &r
		return v
	}
	all := map[string]view{
		"idle":          idle(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"}, up),
		"idle-person":   idle(ui.Screen{Why: "person", Clock: "synced"}, Status{Ready: true, Destinations: 2, Pending: 3, Oldest: 2 * time.Minute}),
		"idle-chosen":   idle(ui.Screen{Kind: "go-out", Why: "chosen", Until: now.Add(8 * time.Second), Clock: "synced"}, Status{Ready: true, Destinations: 2, Pending: 1, Offline: true, Oldest: 50 * time.Hour}),
		"idle-unset":    idle(ui.Screen{Why: "person", Clock: "unset"}, up),
		"idle-holdover": idle(ui.Screen{Kind: "out", Why: "schedule", Clock: "holdover"}, Status{Ready: true, Destinations: 1, Parked: 2, Stuck: true}),
		"idle-down": idle(ui.Screen{Kind: "in", Why: "schedule", Clock: "holdover", Readers: []ui.Reader{{Name: "front", State: "down"}}},
			Status{Ready: true, Destinations: 2, Pending: 4711, Oldest: 400 * time.Hour, Offline: true, Parked: 12, Mended: true, SpaceLow: true, Stuck: true}),
		"idle-not-ready": idle(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"}, Status{Destinations: 2}),
		"stored":         result(ui.Result{Outcome: "stored", Kind: "in", Employee: "000123", Name: "張文正", Clock: "synced"}),
		"stored-out":     result(ui.Result{Outcome: "stored", Kind: "out", Employee: "000123", Name: "Nguyễn Thị Phương", Clock: "synced"}),
		"stored-go-out":  result(ui.Result{Outcome: "stored", Kind: "go-out", Employee: "000123", Name: "สมชาย น้ำใส", Clock: "synced"}),
		"stored-return":  result(ui.Result{Outcome: "stored", Kind: "return", Employee: "000123", Name: "Maria Consolacion Dela Cruz-Villanueva", Clock: "synced"}),
		"stored-unset":   result(ui.Result{Outcome: "stored", Kind: "in", Employee: "000123", Name: "張文正", Clock: "unset"}),
		"corrected":      result(ui.Result{Outcome: "stored", Kind: "out", Employee: "000123", Name: "張○正", Clock: "synced", Supersedes: "x-000000000041"}),
		"duplicate":      result(ui.Result{Outcome: "duplicate", Kind: "in", Employee: "000123", Name: "張文正", Clock: "synced"}),
		"unknown":        result(ui.Result{Outcome: "unknown_badge", Kind: "in", Clock: "synced"}),
		"blocked":        result(ui.Result{Outcome: "blocked_badge", Kind: "in", Clock: "synced"}),
		"misread":        result(ui.Result{Outcome: "misread", Clock: "synced"}),
		"enrolled":       result(ui.Result{Outcome: "enrolment", Reason: "enrolled", Clock: "synced"}),
		"enrol-pin":      result(ui.Result{Outcome: "enrolment", Reason: "enrol-pin", Clock: "synced"}),
		"not-stored":     result(ui.Result{Outcome: "not_stored", Kind: "in", Employee: "000123", Name: "張文正", Clock: "synced"}),
	}
	face := result(ui.Result{Outcome: "stored", Kind: "in", Employee: "000123", Name: "張文正", Clock: "synced"})
	face.face = true
	all["stored-portrait-due"] = face
	face.photo = "somebody"
	all["stored-portrait"] = face
	unset := result(ui.Result{Outcome: "stored", Kind: "return", Employee: "000123", Name: "Maria Consolacion Dela Cruz-Villanueva", Clock: "unset"})
	unset.face, unset.photo = true, "somebody"
	all["stored-portrait-unset"] = unset
	for _, reason := range []string{"random", "two", "learned", "pin", "tries"} {
		all["misread-"+reason] = result(ui.Result{Outcome: "misread", Reason: reason, Clock: "synced"})
	}
	mine := result(ui.Result{Outcome: "duplicate", Kind: "in", Employee: "000123", Name: "張文正", Clock: "synced"})
	places := func(a, b string) []ui.Place { return []ui.Place{{Name: "104", State: a}, {Name: "feishu", State: b}} }
	m := &ui.Mine{Employee: "000123", Name: "張文正", Language: tag, Until: now.Add(9 * time.Second)}
	wait := *m
	mine.screen.Mine = &wait
	all["mine-wait"] = mine
	full := *m
	full.Listed, full.Fix, full.FixKind, full.FixUntil = true, "x-42", "in", now.Add(50*time.Second)
	full.Punches = []ui.Past{
		{PunchID: "x-42", Kind: "in", Outcome: "stored", Time: now.Add(-20 * time.Second), Places: places("pending", "pending")},
		{PunchID: "x-41", Kind: "go-out", Outcome: "stored", Time: now.Add(-40 * time.Second), Superseded: true, Places: places("delivered", "delivered")},
		{PunchID: "x-30", Kind: "out", Outcome: "stored", Time: now.Add(-15 * time.Hour), Places: places("delivered", "delivered")},
		{PunchID: "x-29", Kind: "return", Outcome: "stored", Time: now.Add(-20 * time.Hour), Places: places("delivered", "parked")},
		{PunchID: "x-28", Kind: "in", Outcome: "stored", Time: now.Add(-24 * time.Hour), Places: places("skipped", "delivered")},
	}
	mine.screen.Mine = &full
	all["mine"] = mine
	mine.late = true
	all["mine-late"] = mine
	late := full
	late.FixUntil = now
	mine.screen.Mine = &late
	all["mine-list"] = mine
	dialog := func(p pad) view {
		p.words = c
		v := idle(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"}, up)
		v.pad = &p
		return v
	}
	all["pin"] = dialog(pad{number: "000123"})
	all["pin-secret"] = dialog(pad{number: "A-000123", pin: 4, second: true, page: 0, err: c.WaitPIN(23 * time.Hour)})
	all["pin-letters"] = dialog(pad{page: 3, err: c.Say(text.PINWrong)})
	all["pin-failed"] = dialog(pad{number: "1", err: c.Say(text.PINFailed)})
	all["pin-language"] = dialog(pad{choose: true})
	sheet := idle(ui.Screen{Kind: "in", Why: "schedule", Clock: "synced"}, up)
	sheet.rows = []Row{
		{"ok", c.Say(text.StatusClock), c.Clock("synced"), ""}, {"stuck", c.Say(text.StatusStorage), c.Say(text.NotReady), ""},
		{"wait", "104", c.Destination("retrying"), c.Pending(3, 2*time.Minute)}, {"stuck", "feishu", c.Destination("auth_failed"), c.Pending(1, time.Hour) + " · " + c.Parked(3)},
		{"stuck", "front", c.Reader("down"), ""},
	}
	all["state"] = sheet
	return all
}

// worker is a painter with the fonts of the program alone.
func worker(t testing.TB) *painter {
	t.Helper()
	f, err := loadFonts()
	if err != nil {
		t.Fatal(err)
	}
	p := newPainter(f)
	p.photo = portrait{"somebody", somebody(240, 320)}
	return p
}

// somebody is a picture of a person, as far as anybody can tell.
func somebody(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	within := func(x, y, cx, cy, rx, ry int) bool {
		dx, dy := (x-cx)*1000/rx, (y-cy)*1000/ry
		return dx*dx+dy*dy < 1_000_000
	}
	for y := range h {
		for x := range w {
			c := color.RGBA{150, 190, 220, 255}
			switch {
			case within(x, y, w/2, h*43/100, w*24/100, h*23/100) && y > h*31/100:
				c = color.RGBA{234, 192, 160, 255}
			case within(x, y, w/2, h*38/100, w*28/100, h*24/100):
				c = color.RGBA{40, 30, 28, 255}
			case within(x, y, w/2, h*108/100, w*48/100, h*42/100):
				c = color.RGBA{60, 60, 110, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

func (c *canvas) image() *image.RGBA {
	img := image.NewRGBA(c.bounds())
	for i, p := range c.pix {
		img.SetRGBA(i%c.w, i/c.w, color.RGBA{byte(p >> 16), byte(p >> 8), byte(p), 255})
	}
	return img
}
