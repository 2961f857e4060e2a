package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"punchclock/device/devicetest"
	"punchclock/queue/punch"
	"punchclock/systemd"
)

func TestASilentReaderIsToldFromAQuietHour(t *testing.T) {
	zone, err := time.LoadLocation("Asia/Taipei")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 9, 20, 0, 0, zone) // a Monday; the hour from 8 to 9 is over
	var ps []punch.Punch
	tap := func(at time.Time, reader, badge string) {
		ps = append(ps, punch.Punch{Draft: punch.Draft{Reader: reader, Badge: punch.Badge(badge), Stamp: punch.Stamp{Wall: at}}})
	}
	tap(now.AddDate(0, 0, -30), "front", "em:0000000001")
	for w := 4; w >= 1; w-- {
		for n := range 10 + w {
			tap(now.AddDate(0, 0, -7*w).Add(-time.Duration(21+n)*time.Minute), "front", fmt.Sprintf("em:%010d", n))
		}
		tap(now.AddDate(0, 0, -7*w), "front", "em:0000000001") // in the hour after
	}
	for n := range 25 {
		tap(now.Add(-time.Duration(50-n)*time.Minute), "back", "em:0000000001")
	}
	got := judgeTraffic(ps, true, now, []string{"front", "back"})
	if want := (readerTraffic{hour: 0, usual: 11}); got.readers["front"] != want {
		t.Errorf("front: %+v, want %+v", got.readers["front"], want)
	}
	if want := (readerTraffic{hour: 25, usual: 0, oneCard: 25}); got.readers["back"] != want {
		t.Errorf("back: %+v, want %+v", got.readers["back"], want)
	}
	// Two weeks hold 12 + 11 + 1 + 1 + 25, the hour of two weeks ago partly.
	if got.perDay < 2 || got.perDay > 4 {
		t.Errorf("%v a day", got.perDay)
	}
	if young := judgeTraffic(ps[len(ps)-25:], true, now, []string{"back"}); young.perDay != 0 || young.readers["back"].usual != 0 {
		t.Errorf("a clock of an hour knows what is usual: %+v", young)
	}
	if none := judgeTraffic(nil, true, now, []string{"front"}); none.perDay != 0 || len(none.readers) != 0 {
		t.Errorf("%+v", none)
	}

	o := outboxStatus{LastSeq: 1000, Bytes: 200_000, FreeBytes: 64<<20 + 200*3*100}
	if days, known := (traffic{perDay: 3}).runwayDays(o, 64<<20); !known || days != 100 {
		t.Errorf("%v days, want 100", days)
	}
	o.FreeBytes = 1 << 20
	if days, known := (traffic{perDay: 3}).runwayDays(o, 64<<20); !known || days != 0 {
		t.Errorf("%v days below the reserve", days)
	}
	if _, known := (traffic{}).runwayDays(o, 0); known {
		t.Error("a clock without punches knows how long its space lasts")
	}
	if n, known := sectorsWritten(" 1 2 3 4 5 6 1000 8 9 10 11"); !known || n != 512_000 {
		t.Errorf("%v bytes written", n)
	}
	if _, known := sectorsWritten("1 2 3"); known {
		t.Error("half a line was taken")
	}
}

// promised are the outside's metrics; where there is nothing to tell yet, they are
// made to have something.
var promised = []string{"punches_total", "commit_seconds", "tap_seconds", "outbox_pending", "outbox_parked", "outbox_oldest_seconds", "destination_calls_total", "destination_seconds",
	"token_refresh_total", "reader_up", "reader_faults_total", "clock_error_bound_seconds", "build_info"}

func TestEveryMetricOfTheAlertsAndTheDashboardIsThere(t *testing.T) {
	h := newHouse(t, settings{window: "0s"})
	h.openClouds()
	h.start()
	for _, p := range h.people {
		h.tap(p)
	}
	bad := devicetest.RDM6300(h.people[0].card)
	bad[3] ^= 1
	h.send(bad) // its check is wrong
	h.until(30*time.Second, "all is delivered", func() bool {
		d := h.status().Destinations
		return d[0].Pending+d[1].Pending == 0
	})
	var text string
	h.until(15*time.Second, "the fault is counted", func() bool {
		text = string(h.get("/metrics"))
		return strings.Contains(text, "punchclock_reader_faults_total{")
	})
	for _, name := range promised {
		if !regexp.MustCompile(`(?m)^punchclock_` + name + `(_bucket)?(\{[^}]*\})? [0-9]`).MatchString(text) {
			t.Errorf("/metrics lacks punchclock_%s", name)
		}
	}
	// Those that need what a test has not, described all the same.
	described := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (punchclock_\w+)`).FindAllStringSubmatch(text, -1) {
		described[m[1]] = true
	}
	for _, d := range pictureDescs {
		described[regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	files := systemd.Files()
	named := regexp.MustCompile(`punchclock_[a-z_]+`)
	for _, file := range []string{"punchclock-alerts.yml", "punchclock-dashboard.json"} {
		b, err := fs.ReadFile(files, file)
		if err != nil {
			t.Fatal(err)
		}
		found := named.FindAllString(string(b), -1)
		if len(found) < 15 {
			t.Errorf("%s names only %v", file, found)
		}
		for _, name := range found {
			if !described[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}

	// The rules, line by line: what Prometheus would refuse.
	rules, err := fs.ReadFile(files, "punchclock-alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(rules), "      - alert: ")[1:]
	var names []string
	for _, block := range blocks {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		names = append(names, lines[0])
		keys := []string{}
		for _, line := range lines[1:] {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			keys = append(keys, key)
			if key == "expr" && (strings.Count(value, "(") != strings.Count(value, ")") || strings.Count(value, `"`)%2 != 0 || strings.Contains(value, ": ") || strings.Contains(value, " #")) {
				t.Errorf("%s: %s", lines[0], value)
			}
			if key == "for" {
				if _, err := time.ParseDuration(value); err != nil {
					t.Errorf("%s: for %s", lines[0], value)
				}
			}
		}
		if want := []string{"expr", "labels", "annotations"}; !slices.Equal(slices.DeleteFunc(keys, func(k string) bool { return k == "for" }), want) {
			t.Errorf("%s has %v", lines[0], keys)
		}
	}
	slices.Sort(names)
	if len(names) < 10 || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("%v", names)
	}
	var board struct {
		UID    string
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	b, err := fs.ReadFile(files, "punchclock-dashboard.json")
	if err == nil {
		err = json.Unmarshal(b, &board)
	}
	if err != nil || board.UID != "punchclock" || len(board.Panels) < 10 {
		t.Fatalf("%v %+v", err, board)
	}
	for i, p := range board.Panels {
		if p.ID != i+1 || p.Title == "" || len(p.Targets) != 1 || strings.Count(p.Targets[0].Expr, "(") != strings.Count(p.Targets[0].Expr, ")") {
			t.Errorf("%+v", p)
		}
	}
}
