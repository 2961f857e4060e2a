package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/sync/sandbox"
)

// A hire's résumé arrives, is listed once, hired, and does not come back; whoever is not
// hired is forgotten; a restart goes on where it was.
func TestResumesBecomeCandidatesOnceAndAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // from 08:00 on in Taipei, 2000-01-01
		far := sandbox.NewResumes(sandbox.ResumeConfig{Resumes: []sandbox.Resume{
			{ID: "1", Name: "王新人", Date: "2000-01-01", Hour: 9}, {ID: "2", Name: "李新人", Date: "2000-01-01", Hour: 9},
			{ID: "1", Name: "王新人", Date: "2000-01-02", Hour: 3}, // the same one again
			{ID: "3", Name: "陳新人", Date: "2000-01-02", Hour: 4},
		}})
		id, secret := far.Credentials()
		dir := t.TempDir()
		cfg := defaultConfig()
		cfg.path, cfg.Device.StateDir, cfg.Device.Timezone = filepath.Join(dir, "c.toml"), dir, time.FixedZone("CST", 8*3600)
		cfg.Candidates.ClientID, cfg.Candidates.SecretFile, cfg.Candidates.Company = id, "resume-secret", far.Company()
		if err := os.WriteFile(filepath.Join(dir, "resume-secret"), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		h := &clockwork{cfg: cfg, log: slog.New(slog.NewTextHandler(&log, nil)), network: sandbox.Transport(far)}
		set := false // the clock
		var stop func()
		start := func() {
			var err error
			h.candidates = newCandidates(cfg)
			if h.walk, err = h.newCandidateWalk(func() bool { return !set }); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- h.walk.Run(ctx) }()
			stop = func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		waiting := func() (ids string) {
			all, _, err := h.candidates.list()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range all {
				ids += p.ID + p.Name + " "
			}
			return strings.TrimSpace(ids)
		}
		start()
		time.Sleep(3 * time.Hour)
		if n := len(far.Calls()); n != 0 {
			t.Fatalf("%d calls before anybody has set the clock", n)
		}
		stop()
		set = true
		start()
		time.Sleep(2 * time.Hour) // it begins, at 11:00, with the last hour that was complete five minutes ago: 9
		if waiting() != "1王新人 2李新人" {
			t.Errorf("%s", waiting())
		}
		a := &archive{cfg: cfg, candidates: h.candidates, portraits: newPortraits(cfg), stamp: func() punch.Stamp { return punch.Stamp{Wall: time.Now(), BootID: [16]byte{1}, Clock: punch.Synced} }}
		var err error
		if a.outbox, err = queue.Open(queue.Options{Dir: filepath.Join(cfg.Device.StateDir, "outbox"), Device: "t", BootID: [16]byte{1}, UnsafeNoSync: true}); err != nil {
			t.Fatal(err)
		}
		defer a.outbox.Close()
		if a.roster, err = openRoster(cfg, h.log, nil); err != nil {
			t.Fatal(err)
		}
		defer a.roster.Close()
		if e, err := a.hire("1", "000777", ""); err != nil || e.Name != "王新人" {
			t.Errorf("%+v, %v", e, err)
		}
		if e, ok := a.roster.ByNumber("000777"); !ok || e.Name != "王新人" || !e.Active {
			t.Errorf("%+v", e)
		}
		stop()
		start() // a restart in between
		time.Sleep(20 * time.Hour)
		if waiting() != "2李新人 3陳新人" {
			t.Errorf("%s", waiting())
		}
		if s := h.candidatesStatus(); s.State != "ok" || s.Pending != 2 || s.Problem != "" || !strings.HasPrefix(s.NextHour, "2000-01-02T") {
			t.Errorf("%+v", s)
		}
		time.Sleep(29*24*time.Hour + 3*time.Hour)
		if waiting() != "3陳新人" {
			t.Errorf("after a month: %s", waiting())
		}
		time.Sleep(24 * time.Hour)
		if b, err := os.ReadFile(h.candidates.path); err != nil || bytes.Contains(b, []byte("新人")) {
			t.Errorf("who was not hired is still in the file: %s %v", b, err)
		}
		for hour, n := range far.Hours() {
			if n != 1 {
				t.Errorf("hour %s was asked for %d times", hour, n)
			}
		}
		stop()
		if strings.Contains(log.String(), "新人") || strings.Contains(log.String(), secret) {
			t.Errorf("the log holds a name or the secret:\n%s", log.String())
		}
		if w := far.Counters().WorstSecond; w > 2 {
			t.Errorf("%d calls in a second", w)
		}
	})
}

func TestADamagedListOfCandidatesIsNamedAndNotOverwritten(t *testing.T) {
	cfg := defaultConfig()
	cfg.Device.StateDir = t.TempDir()
	c := newCandidates(cfg)
	if err := os.WriteFile(c.path, []byte(`{"schema":1,"pend`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.list(); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("%v", err)
	}
	if err := c.Complete(time.Now(), nil); err == nil {
		t.Error("overwritten")
	}
	if b, _ := os.ReadFile(c.path); string(b) != `{"schema":1,"pend` {
		t.Errorf("%s", b)
	}
}
