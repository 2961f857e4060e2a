package lcd

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"punchclock/ui"
	"punchclock/ui/text"
)

var taipei = time.FixedZone("CST", 8*3600)

func face(t *testing.T, language string) *Face {
	f, err := New(Config{Driver: "ssd1306", Language: language, Location: taipei, Line: func(c text.Catalog) string { return c.Pending(3, 2*time.Minute) }})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// scenes are what a door goes through.
func scenes() map[string]ui.Screen {
	at := time.Date(2026, 11, 21, 8, 58, 3, 0, taipei)
	result := func(outcome string, change func(*ui.Result)) ui.Screen {
		r := &ui.Result{Outcome: outcome, Kind: "in", Employee: "000123", Name: "王小明", Time: at, Clock: "synced"}
		if change != nil {
			change(r)
		}
		return ui.Screen{Kind: "in", Result: r, Clock: r.Clock}
	}
	return map[string]ui.Screen{
		"idle":          {Kind: "in", Why: "schedule", Clock: "synced"},
		"idle-unset":    {Kind: "", Clock: "unset"},
		"idle-down":     {Kind: "out", Clock: "synced", Readers: []ui.Reader{{Name: "front", State: "down"}}},
		"stored":        result("stored", nil),
		"stored-out":    result("stored", func(r *ui.Result) { r.Kind = "out"; r.Name = "許功蓋" }),
		"stored-return": result("stored", func(r *ui.Result) { r.Kind = "return" }),
		"stored-unset":  result("stored", func(r *ui.Result) { r.Clock = "unset" }),
		"duplicate":     result("duplicate", nil),
		"unknown":       result("unknown_badge", func(r *ui.Result) { r.Employee, r.Name = "", "" }),
		"misread":       result("misread", func(r *ui.Result) { r.Employee, r.Name = "", "" }),
		"misread-two":   result("misread", func(r *ui.Result) { r.Employee, r.Name, r.Reason = "", "", "two" }),
		"misread-phone": result("misread", func(r *ui.Result) { r.Employee, r.Name, r.Reason = "", "", "random" }),
		"enrolled":      result("enrolment", func(r *ui.Result) { r.Employee, r.Name, r.Reason = "", "", "enrolled" }),
		"enrol-pin":     result("enrolment", func(r *ui.Result) { r.Employee, r.Name, r.Reason = "", "", "enrol-pin" }),
		"not-stored":    result("not_stored", nil),
		"strange-name":  result("stored", func(r *ui.Result) { r.Name = "สมชาย" }),
		"thai-person":   result("unknown_badge", func(r *ui.Result) { r.Language = "th" }),
	}
}

func (d *dots) image() *image.Paletted {
	img := image.NewPaletted(image.Rect(0, 0, wide, high), color.Palette{color.Black, color.White})
	for y := range high {
		for x := range wide {
			if d.at(x, y) {
				img.SetColorIndex(x, y, 1)
			}
		}
	}
	return img
}

func TestPicturesAreThoseThatWereLookedAt(t *testing.T) {
	for _, language := range []string{"zh-TW", "zh-CN", "en"} {
		f := face(t, language)
		for name, s := range scenes() {
			d := f.picture(s, time.Date(2026, 11, 21, 8, 58, 0, 0, taipei)).dots
			path := filepath.Join("testdata", language, name+".png")
			if *update {
				os.MkdirAll(filepath.Dir(path), 0o755)
				w, err := os.Create(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := png.Encode(w, d.image()); err != nil {
					t.Fatal(err)
				}
				w.Close()
				continue
			}
			r, err := os.Open(path)
			if err != nil {
				t.Errorf("%v; look at the new one: go test ./ui/lcd -update", err)
				continue
			}
			want, err := png.Decode(r)
			r.Close()
			if err != nil {
				t.Fatal(err)
			}
			off := 0
			for y := range high {
				for x := range wide {
					if v, _, _, _ := want.At(x, y).RGBA(); (v > 0) != d.at(x, y) {
						off++
					}
				}
			}
			if off > 0 {
				t.Errorf("%s: %d dots are different", path, off)
			}
		}
	}
}

func TestOutcomesAreToldApartWithoutWords(t *testing.T) {
	f := face(t, "zh-TW")
	seen := map[dots]string{}
	for outcome := range symbols {
		var d dots
		d.symbol(0, 0, 2, outcome)
		if other, twice := seen[d]; twice || d == (dots{}) {
			t.Errorf("%s looks like %q", outcome, other)
		}
		seen[d] = outcome
		rows := strings.Split(symbols[outcome], "/")
		if len(rows) != 16 {
			t.Errorf("%s has %d rows", outcome, len(rows))
		}
		for _, r := range rows {
			if len(r) != 16 {
				t.Errorf("%s: row %q", outcome, r)
			}
		}
	}
	// Not stored is the only one that is light all over.
	for name, s := range scenes() {
		d := f.picture(s, time.Now()).dots
		lit := 0
		for y := range high {
			for x := range wide {
				if d.at(x, y) {
					lit++
				}
			}
		}
		if dark := lit < wide*high/2; dark == (s.Result != nil && s.Result.Outcome == "not_stored") {
			t.Errorf("%s: %d of %d dots are lit", name, lit, wide*high)
		}
	}
}

func TestNoLineIsWiderThanTheDisplayAndNothingIsLost(t *testing.T) {
	f := face(t, "en")
	for _, tag := range text.Languages() {
		for k, s := range text.For(tag).Words() {
			if !f.font.has(s) {
				continue
			}
			all := f.font.wrap(s)
			for _, l := range all {
				if f.font.width(l) > wide {
					t.Errorf("%s %s: %q is %d dots wide", tag, k, l, f.font.width(l))
				}
			}
			if strings.ReplaceAll(strings.Join(all, ""), " ", "") != strings.ReplaceAll(s, " ", "") {
				t.Errorf("%s %s: %q became %q", tag, k, s, all)
			}
		}
	}
	if got := strings.Join(f.font.wrap("卡片未登錄，已記錄，請洽人資"), "|"); got != "卡片未登錄，已記|錄，請洽人資" {
		t.Errorf("%s", got)
	}
	if got := strings.Join(f.font.wrap("一二三四五六七八，九"), "|"); got != "一二三四五六七|八，九" { // no line begins with a mark
		t.Errorf("%s", got)
	}
}

// Whatever is said to a person is said to its end, or its last part is.
func TestNoAnswerIsCutOff(t *testing.T) {
	f := face(t, "en")
	for _, tag := range []string{"zh-TW", "zh-CN", "en"} {
		for k, s := range text.For(tag).Personal() {
			if !strings.HasPrefix(string(k), "outcome.") {
				continue
			}
			for len(f.font.wrap(s)) > 3 && shorter(s) != s {
				s = shorter(s)
			}
			if n := len(f.font.wrap(s)); n > 3 {
				t.Errorf("%s %s: %q takes %d lines", tag, k, s, n)
			}
		}
	}
}

func TestIdlePictureMovesSoThatNoDotIsLitForYears(t *testing.T) {
	f := face(t, "zh-TW")
	f.c.Line = nil
	seen := map[dots]bool{}
	for m := range 9 {
		now := time.Date(2026, 11, 21, 8, 0, 0, 0, taipei)
		d := f.draw(ui.Screen{Clock: "synced"}, now.Add(time.Duration(m)*time.Minute), func(text.Catalog) string { return "" })
		seen[d] = true
	}
	if len(seen) != 9 {
		t.Errorf("%d pictures in nine minutes", len(seen))
	}
}

func TestCharactersSayNumberTimeAndState(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 58, 3, 0, taipei)
	for name, want := range map[string]string{
		"idle":          "08:58         IN|3 waiting       ",
		"idle-unset":    "08:58?          |3 waiting       ",
		"idle-down":     "08:58        OUT|READER front DOW",
		"stored":        "OK IN   08:58:03|000123          ",
		"stored-return": "OK BACK 08:58:03|000123          ",
		"duplicate":     "ALREADY PUNCHED |000123          ",
		"unknown":       "? UNKNOWN CARD  |noted, ask HR   ",
		"misread":       "TRY AGAIN       |not read        ",
		"misread-phone": "TRY AGAIN       |use staff card  ",
		"enrolled":      "CARD SET-UP     |card registered ",
		"enrol-pin":     "CARD SET-UP     |number + PIN    ",
		"not-stored":    "!! NOT SAVED !! |tap again       ",
	} {
		if got := strings.Join(lines(scenes()[name], now, "3 waiting", 16, 2), "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	s := scenes()["stored"]
	s.Result.Name = "David Lee"
	if got := strings.Join(lines(s, now, "", 20, 4), "|"); got != "OK IN       08:58:03|David Lee           |                    |                    " {
		t.Errorf("%q", got)
	}
	if got := strings.Join(lines(scenes()["idle"], now, "", 20, 4), "|"); got != "08:58             IN|2026-11-21 Sat      |Tap your card       |Tap your card       " {
		t.Errorf("%q", got)
	}
}
