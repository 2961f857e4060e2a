package main

import (
	"bytes"
	"context"
	"errors"
	"image/jpeg"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/sandbox"
	"punchclock/ui/text"
	"punchclock/ui/web"
)

// gallery is what of a clock has to do with portraits, beside a résumé service in memory.
type gallery struct {
	t   *testing.T
	far *sandbox.Resumes
	h   *clockwork
	a   *archive
	log bytes.Buffer

	outbox *queue.Outbox
	stop   func()
}

// inGallery runs a test from 08:00 on in Taipei, 2000-01-01. wanted is kiosk.portraits.
func inGallery(t *testing.T, wanted bool, resumes []sandbox.Resume, test func(t *testing.T, g *gallery)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &gallery{t: t, far: sandbox.NewResumes(sandbox.ResumeConfig{Resumes: resumes})}
		id, secret := g.far.Credentials()
		dir := t.TempDir()
		cfg := defaultConfig()
		cfg.path, cfg.Device.StateDir, cfg.Device.Timezone = filepath.Join(dir, "c.toml"), dir, time.FixedZone("CST", 8*3600)
		cfg.Candidates.ClientID, cfg.Candidates.SecretFile, cfg.Candidates.Company = id, "resume-secret", g.far.Company()
		cfg.Kiosk.Portraits = wanted
		if err := os.WriteFile(filepath.Join(dir, "resume-secret"), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		g.h = &clockwork{cfg: cfg, log: slog.New(slog.NewTextHandler(&g.log, nil)), network: sandbox.Transport(g.far)}
		var err error
		if g.h.roster, err = openRoster(cfg, g.h.log, nil); err != nil {
			t.Fatal(err)
		}
		defer g.h.roster.Close()
		if g.outbox, err = queue.Open(queue.Options{Dir: filepath.Join(dir, "outbox"), Device: "t", BootID: [16]byte{1}, UnsafeNoSync: true}); err != nil {
			t.Fatal(err)
		}
		defer g.outbox.Close()
		g.start()
		test(t, g)
		g.stop()
		if n := g.far.Counters().WorstSecond; n > 2 {
			t.Errorf("%d calls in a second", n)
		}
		for _, bad := range []string{"新人", "7730", secret, "fileId"} {
			if strings.Contains(g.log.String(), bad) {
				t.Errorf("the log holds %q:\n%s", bad, g.log.String())
			}
		}
	})
}

func (g *gallery) start() {
	h := g.h
	h.candidates, h.portraits = newCandidates(h.cfg), newPortraits(h.cfg)
	never := func() bool { return false }
	var err error
	if h.walk, err = h.newCandidateWalk(never); err != nil {
		g.t.Fatal(err)
	}
	photos := h.newPortraitFetch(never)
	if (photos != nil) != h.cfg.Kiosk.Portraits {
		g.t.Fatal("portraits are fetched where nobody wants them, or not where somebody does")
	}
	g.a = &archive{cfg: h.cfg, outbox: g.outbox, roster: h.roster, candidates: h.candidates, portraits: h.portraits,
		stamp: func() punch.Stamp { return punch.Stamp{Wall: time.Now(), BootID: [16]byte{1}, Clock: punch.Synced} }}
	ctx, cancel := context.WithCancel(g.t.Context())
	done := make(chan error, 2)
	go func() { done <- h.walk.Run(ctx) }()
	go func() {
		if photos == nil {
			done <- nil
			return
		}
		done <- photos.run(ctx)
	}()
	g.stop = func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			g.t.Error(err)
		}
	}
}

// sweep is what watchPortraits does.
func (g *gallery) sweep() {
	g.t.Helper()
	_, err := g.h.portraits.sweep(g.h.roster, func() ([]candidate, error) {
		all, _, err := g.h.candidates.list()
		return all, err
	}, time.Now())
	if err != nil {
		g.t.Error(err)
	}
}

// has checks which files there are, by what they begin with.
func (g *gallery) has(want ...string) {
	g.t.Helper()
	var got []string
	entries, err := os.ReadDir(g.h.portraits.dir)
	if err != nil && len(want) > 0 {
		g.t.Error(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			g.t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
		name := strings.TrimSuffix(e.Name(), ".jpg")
		if parts := strings.Split(name, "+"); len(parts) == 4 {
			name = strings.Join(parts[:2], "+")
		}
		got = append(got, name)
	}
	if !slices.Equal(got, want) {
		g.t.Errorf("portraits: %q, want %q\n%s", got, want, g.log.String())
	}
}

func (g *gallery) calls(path string) (n int) {
	for _, c := range g.far.Calls() {
		if strings.HasSuffix(c.Path, path) {
			n++
		}
	}
	return n
}

// replace imports a roster.
func (g *gallery) replace(rows ...*roster.Row) {
	g.t.Helper()
	if _, err := g.h.roster.Replace(rows); err != nil {
		g.t.Fatal(err)
	}
	g.sweep()
}

func row(number, name string, from time.Time) *roster.Row {
	return &roster.Row{Employee: punch.Employee{Number: number, Name: name, Active: true, From: from}}
}

var newcomers = []sandbox.Resume{
	{ID: "77301", Name: "王新人", Date: "2000-01-01", Hour: 7, Photo: true}, {ID: "77302", Name: "李新人", Date: "2000-01-01", Hour: 7, Photo: true},
	{ID: "77303", Name: "陳新人", Date: "2000-01-01", Hour: 7},
}

func TestAPortraitComesWithTheCandidateAndGoesWithThePerson(t *testing.T) {
	inGallery(t, true, newcomers, func(t *testing.T, g *gallery) {
		time.Sleep(30 * time.Minute)
		g.has("c+77301", "c+77302")
		if n := g.calls("headshot"); n != 2 {
			t.Errorf("%d portraits asked for", n)
		}
		e, err := g.a.hire("77301", "000777", "")
		if err != nil {
			t.Fatal(err)
		}
		g.has("c+77302", "e+000777")
		b := g.h.portraitFor("000777")()
		img, err := jpeg.Decode(bytes.NewReader(b))
		if err != nil || img.Bounds().Dx() != portraitWide || img.Bounds().Dy() != portraitHigh || bytes.Contains(b, []byte("canary")) {
			t.Errorf("%v %v", img.Bounds(), err)
		}
		if d := g.h.portraitDots("000777")(); d == nil || d.Bounds() != img.Bounds() {
			t.Errorf("%v", d)
		}
		if g.h.portraitFor("000778") != nil || g.h.portraitFor("77302") != nil {
			t.Error("somebody else has a portrait")
		}

		// The same person, whose first day was corrected by HR's file.
		g.stop()
		g.start()
		g.replace(row("000777", e.Name, time.Now().Add(-72*time.Hour)))
		if g.has("c+77302", "e+000777"); g.h.portraitFor("000777") == nil {
			t.Error("a corrected first day has lost the portrait")
		}
		// Renamed, with the first day as before: still the same.
		now, _ := g.h.roster.ByNumber("000777")
		g.replace(row("000777", "王改名", now.From))
		if g.h.portraitFor("000777") == nil {
			t.Error("another name has lost the portrait")
		}
		// The number is another person's: before anything has looked, and afterwards.
		time.Sleep(time.Minute)
		if _, err := g.h.roster.Replace([]*roster.Row{row("000777", "林後來", time.Time{})}); err != nil {
			t.Fatal(err)
		}
		if g.h.portraitFor("000777") != nil {
			t.Error("whoever got the number got the portrait")
		}
		g.sweep()
		g.has("c+77302")
		// Nor does the first one's come back with a third.
		g.replace(row("000777", "王改名", time.Now().Add(-time.Second)))
		if g.has("c+77302"); g.h.portraitFor("000777") != nil {
			t.Error("a portrait came back")
		}

		if err := g.a.removeCandidate("77302"); err != nil {
			t.Fatal(err)
		}
		g.has()
		time.Sleep(24 * time.Hour)
		if n := g.calls("headshot"); n != 2 {
			t.Errorf("%d portraits asked for in a day", n)
		}
	})
}

func TestAPortraitIsDeletedWithWhoeverHasLeftOrWasNeverHired(t *testing.T) {
	inGallery(t, true, newcomers, func(t *testing.T, g *gallery) {
		time.Sleep(30 * time.Minute)
		picture, err := shrink(asPNG(t, painting(60, 80)))
		if err != nil {
			t.Fatal(err)
		}
		give := func(number string) {
			t.Helper()
			if err := g.h.portraits.put(picture, func() (portraitFile, error) {
				e, err := g.a.employeeAsked(number)
				return portraitOf(e), err
			}); err != nil {
				t.Fatal(err)
			}
		}
		soon, late := row("000005", "未來", time.Now().Add(48*time.Hour)), row("000006", "到期", time.Time{})
		late.To = time.Now().Add(time.Hour)
		left := row("000004", "離職", time.Time{})
		g.replace(row("000001", "甲", time.Time{}), row("000002", "乙", time.Time{}), left, soon, late)
		for _, n := range []string{"000001", "000002", "000004", "000005", "000006"} {
			give(n)
		}
		give("000001") // again: one picture each
		g.has("c+77301", "c+77302", "e+000001", "e+000002", "e+000004", "e+000005", "e+000006")
		if err := g.h.portraits.put(picture, func() (portraitFile, error) { e, err := g.a.employeeAsked("000009"); return portraitOf(e), err }); !errors.Is(err, roster.ErrNobody) {
			t.Errorf("a portrait of nobody's: %v", err)
		}
		left.Active = false
		g.replace(row("000001", "甲", time.Time{}), left, soon, late)
		g.has("c+77301", "c+77302", "e+000001", "e+000005", "e+000006")
		time.Sleep(2 * time.Hour)
		g.sweep()
		g.has("c+77301", "c+77302", "e+000001", "e+000005")
		room := &adminRoom{h: g.h, a: g.a}
		ask := web.Ask{Say: text.For("en"), Form: url.Values{"who": {"000001"}}}
		if blocks, err := room.showPeople(t.Context(), ask); err != nil || !slices.ContainsFunc(blocks, func(b web.Block) bool { return b.Title == "Portrait" && b.Form.Do == "portrait" }) {
			t.Errorf("%+v %v", blocks, err)
		}
		if out, err := room.dropPortrait(t.Context(), ask); err != nil || out.Words != "The portrait is deleted." {
			t.Errorf("%+v %v", out, err)
		}
		g.has("c+77301", "c+77302", "e+000005")
		if blocks, err := room.showPeople(t.Context(), ask); err != nil || slices.ContainsFunc(blocks, func(b web.Block) bool { return b.Title == "Portrait" }) {
			t.Errorf("%+v %v", blocks, err)
		}
		// What a power cut has left of a write, and what is no portrait.
		for _, name := range []string{"e+000005+1+x.jpg.new", "x.jpg", "e++0+0.jpg"} {
			if err := os.WriteFile(filepath.Join(g.h.portraits.dir, name), picture, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(31 * 24 * time.Hour)
		g.sweep()
		g.has("e+000005")
		// The folder may vanish.
		if err := os.RemoveAll(g.h.portraits.dir); err != nil {
			t.Fatal(err)
		}
		if b := g.h.portraitFor("000005")(); b != nil {
			t.Errorf("%d bytes of nothing", len(b))
		}
		if d := g.h.portraitDots("000005")(); d != nil {
			t.Error("dots of nothing")
		}
		g.sweep()
		give("000005")
		g.has("e+000005")
		g.h.portraits.reserve = 1 << 62
		if err := g.h.portraits.put(picture, func() (portraitFile, error) { return portraitFile{resume: "1"}, nil }); err == nil || !strings.Contains(err.Error(), "too little space") {
			t.Errorf("no room: %v", err)
		}
	})
}

func TestNoPortraitIsFetchedOrKeptWhereNobodyWantsThem(t *testing.T) {
	inGallery(t, false, newcomers, func(t *testing.T, g *gallery) {
		time.Sleep(3 * time.Hour)
		if n := g.calls("headshot"); n != 0 {
			t.Errorf("%d portraits asked for", n)
		}
		if _, err := os.Stat(g.h.portraits.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is a folder: %v", err)
		}
		if err := g.h.portraits.put([]byte("x"), func() (portraitFile, error) { return portraitFile{resume: "1"}, nil }); !errors.Is(err, errPortraitsOff) {
			t.Errorf("one was taken: %v", err)
		}
		if all, _, err := g.h.candidates.list(); err != nil || len(all) != 3 || slices.ContainsFunc(all, func(c candidate) bool { return c.Due }) {
			t.Errorf("%+v %v", all, err)
		}
	})
	inGallery(t, true, newcomers, func(t *testing.T, g *gallery) { // switched off later
		time.Sleep(30 * time.Minute)
		g.has("c+77301", "c+77302")
		g.stop()
		g.h.cfg.Kiosk.Portraits = false
		g.start()
		if err := errors.Join(g.h.portraits.clear(), g.h.candidates.noPortraits()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(g.h.portraits.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("they are still there: %v", err)
		}
	})
}

// Whatever comes in a portrait's place ends in none, with one line, and is not asked for
// again; what is wrong with the service is waited for, also over a restart.
func TestWhatIsWrongWithAPortraitIsNobodyElsesTrouble(t *testing.T) {
	for _, fault := range []string{"huge", "bomb", "lie", "truncated", "html", "missing", "gone"} {
		inGallery(t, true, newcomers[:1], func(t *testing.T, g *gallery) {
			g.far.SetFaults(func(f *sandbox.ResumeFaults) {
				if f.FileGone = fault == "gone"; !f.FileGone {
					f.Headshot = fault
				}
			})
			time.Sleep(48 * time.Hour)
			g.has()
			want := 1
			if fault == "gone" {
				want = 3 // two new links
			}
			if n := g.calls("headshot"); n != want {
				t.Errorf("%s: asked for %d times", fault, n)
			}
			if n := strings.Count(g.log.String(), "has no portrait"); n != 1 || strings.Contains(g.log.String(), "cannot be fetched") {
				t.Errorf("%s: said %d times:\n%s", fault, n, g.log.String())
			}
			if all, _, err := g.h.candidates.list(); err != nil || len(all) != 1 {
				t.Errorf("the candidate is gone, too: %v %v", all, err)
			}
		})
	}
	inGallery(t, true, newcomers, func(t *testing.T, g *gallery) {
		time.Sleep(4 * time.Minute)
		g.far.SetFaults(func(f *sandbox.ResumeFaults) { f.FileLifeSeconds = 1 })
		time.Sleep(time.Minute + time.Second)                                // the list is read
		g.far.SetFaults(func(f *sandbox.ResumeFaults) { f.AnswerNext = -1 }) // 999
		time.Sleep(3 * time.Hour)
		before := g.calls("headshot") + g.calls("query")
		if n := strings.Count(g.log.String(), "portraits cannot be fetched now"); n > 1 || before > 150 {
			t.Errorf("said %d times, %d calls", n, before)
		}
		g.stop()
		g.start() // the links are not known any more
		g.far.SetFaults(func(f *sandbox.ResumeFaults) { f.AnswerNext, f.FileLifeSeconds = 0, 600 })
		time.Sleep(2 * time.Hour)
		g.has("c+77301", "c+77302")
	})
}

func TestAPortraitsFileIsNamedAfterOnePerson(t *testing.T) {
	at := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for _, f := range []portraitFile{{resume: "1234567890"}, portraitOf(punch.Employee{Number: "A-1_2.3", Name: "王", From: at}), portraitOf(punch.Employee{Number: "000123"})} {
		if got, ok := parsePortraitFile(f.String()); !ok || got != f {
			t.Errorf("%s is read as %+v, %v", f, got, ok)
		}
	}
	for _, name := range []string{"", ".jpg", "c+.jpg", "c+1", "e+1+2.jpg", "e+1+x+y.jpg", "e++1+x.jpg", "e+1+01+x.jpg", "roster.db", "c+1.jpg.new"} {
		if f, ok := parsePortraitFile(name); ok {
			t.Errorf("%q is taken for %+v", name, f)
		}
	}
}
