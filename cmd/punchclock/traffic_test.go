package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
	"punchclock/queue/punch"
	"punchclock/systemd"
	"punchclock/ui/kiosk"
)

func TestASilentReaderIsToldFromAQuietHour(t *testing.T) {
	zone, err := time.LoadLocation("Asia/Taipei")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 9, 20, 0, 0, zone) // a Monday; the hour from 8 to 9 is over
	var ps []punch.Punch
	tap := func(at time.Time, reader, badge string) {
		ps = append(ps, punch.Punch{Draft: punch.Draft{Reader: reader, Badge: punch.Badge(badge), Stamp: punch.Stamp{Wall: at, Clock: punch.Synced}}})
	}
	judge := func(ps []punch.Punch) traffic {
		c := newTrafficCount(zone)
		c.whole = true
		for _, p := range ps {
			c.add(p, now)
		}
		return c.judge(now, []string{"front", "back"})
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
	tap(now.AddDate(20, 0, 0), "front", "em:0000000001") // by a clock that was wrong
	ps = append(ps, punch.Punch{Draft: punch.Draft{Reader: "front", Stamp: punch.Stamp{Wall: time.Unix(100, 0), Clock: punch.Unset}}})
	got := judge(ps)
	if want := (readerTraffic{Hour: 0, Usual: 11}); got.readers["front"] != want {
		t.Errorf("front: %+v, want %+v", got.readers["front"], want)
	}
	if want := (readerTraffic{Hour: 25, Usual: 0, OneCard: 25}); got.readers["back"] != want {
		t.Errorf("back: %+v, want %+v", got.readers["back"], want)
	}
	// Two weeks hold 12 + 11 + 1 + 1 + 25, the hour of two weeks ago partly.
	if got.perDay < 2 || got.perDay > 4 {
		t.Errorf("%v a day", got.perDay)
	}
	if young := judge(ps[len(ps)-27:]); young.perDay != 0 || young.readers["back"].Usual != 0 {
		t.Errorf("a clock of an hour knows what is usual: %+v", young)
	}
	if none := judge(nil); none.perDay != 0 || len(none.readers) != 0 {
		t.Errorf("%+v", none)
	}
}

// A large site has thousands of punches a day, and a clock runs for years.
func TestTheTrafficOfALargeSiteIsFollowedInLittleMemory(t *testing.T) {
	zone := time.UTC
	c := newTrafficCount(zone)
	at := time.Date(2026, 9, 7, 8, 0, 0, 0, zone)
	var last traffic
	for range 50 {
		for n := range 4000 {
			c.add(punch.Punch{Draft: punch.Draft{Reader: "front", Badge: punch.Badge(fmt.Sprint("em:", n)), Stamp: punch.Stamp{Wall: at.Add(time.Duration(n) * 9 * time.Second), Clock: punch.Synced}}}, at.Add(11*time.Hour))
		}
		last = c.judge(at.Add(10*time.Hour+5*time.Minute), []string{"front"})
		at = at.AddDate(0, 0, 1)
	}
	if r := last.readers["front"]; r.Hour != 400 || r.Usual != 400 || r.OneCard != 1 || last.perDay < 3900 || last.perDay > 4100 {
		t.Errorf("%+v", last)
	}
	if len(c.hours) > 32*11 || len(c.cards) > 4 {
		t.Errorf("%d hours and the cards of %d are remembered", len(c.hours), len(c.cards))
	}
}

func TestFaultsAreThoseOfTheLastHour(t *testing.T) {
	var f faultHour
	readers := []kiosk.ReaderStatus{{Name: "front", Faults: map[string]uint64{}}, {Name: "back"}}
	for n := range 30 {
		if n < 6 || n == 20 {
			readers[0].Faults["noise"] += 10
			readers[0].Faults["pin"] += 100 // read well
		}
		want := map[int]uint64{0: 10, 5: 60, 11: 60, 12: 50, 13: 40, 17: 0, 19: 0, 20: 10, 29: 10}
		got := f.add(readers)
		if w, look := want[n]; look && (got["front"] != w || got["back"] != 0) {
			t.Errorf("after %v: %v, want %d", time.Duration(n)*trafficEvery, got, w)
		}
	}
}

func TestSpaceAndWearAreToldInDays(t *testing.T) {
	for _, tc := range []struct {
		perDay        float64
		punches       uint64
		bytes         int64
		free, reserve uint64
		want          float64
		known         bool
	}{
		{perDay: 3, punches: 1000, bytes: 4 << 20, free: 64<<20 + 600*3*100, reserve: 64 << 20, want: 100, known: true},
		{perDay: 3, punches: 20_000, bytes: 20_000_000, free: 1000 * 3 * 50, want: 50, known: true},
		{perDay: 3, punches: 20_000, bytes: 20_000, free: 600 * 3 * 50, want: 50, known: true}, // most were let go
		{perDay: 3, punches: 1000, free: 1 << 20, reserve: 64 << 20, want: 0, known: true},
		{free: 1 << 40},
	} {
		if days, known := runwayDays(tc.perDay, tc.punches, tc.bytes, tc.free, tc.reserve); days != tc.want || known != tc.known {
			t.Errorf("%+v: %v %v", tc, days, known)
		}
	}
	if n, known := sectorsWritten(" 1 2 3 4 5 6 1000 8 9 10 11"); !known || n != 512_000 {
		t.Errorf("%v bytes written", n)
	}
	if _, known := sectorsWritten("1 2 3"); known {
		t.Error("half a line was taken")
	}
	s := status{Readers: []readerStatus{{Name: "front", Driver: "serial", State: "ok", Traffic: &readerTraffic{Usual: 7, Faults: 2}}}}
	days, written := 12.4, 6e9
	s.Outbox.RunwayDays, s.Outbox.WrittenPerDay = &days, &written
	var said bytes.Buffer
	if err := s.print(&said); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"space for 12 more days at this site's rate", "make room", "6.0 GB written a day", "wears out early", "7 or more", "never fewer than 7 punches"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is not in\n%s", want, said.String())
		}
	}
}

// promised are the outside's metrics; where there is nothing to tell yet, they are
// made to have something.
var promised = []string{"punches_total", "commit_seconds", "tap_seconds", "outbox_pending", "outbox_parked", "outbox_oldest_seconds", "destination_calls_total", "destination_seconds",
	"token_refresh_total", "reader_hour_punches", "reader_usual_hour_punches", "reader_one_card_hour_punches", "disk_free_bytes", "reader_up", "reader_faults_total", "clock_error_bound_seconds", "build_info"}

func TestEveryMetricOfTheAlertsAndTheDashboardIsThere(t *testing.T) {
	h := newHouse(t, settings{window: "0s"})
	h.start()
	// A counter that comes with its first step has not grown, to an alert: it begins at 0.
	fresh := string(h.get("/metrics"))
	for _, want := range []string{`punchclock_token_refresh_total{destination="104",result="denied"} 0`, `punchclock_destination_calls_total{code="200",destination="feishu"} 0`,
		`punchclock_destination_seconds_count{destination="104"} 0`, `punchclock_reader_faults_total{fault="noise",reader="front"} 0`} {
		if !strings.Contains(fresh, want+"\n") {
			t.Errorf("at the start /metrics lacks %s", want)
		}
	}
	h.openClouds()
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
	h.until(15*time.Second, "the log was read", func() bool { return h.status().Readers[0].Traffic != nil })
	var text string
	h.until(15*time.Second, "the fault is counted", func() bool {
		text = string(h.get("/metrics"))
		return strings.Contains(text, `punchclock_reader_faults_total{fault="checksum",reader="front"} 1`)
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
	// The same numbers as the status and doctor have, and the same faults.
	for alert, want := range map[string]string{
		"PunchclockReaderSilent": fmt.Sprintf(">= %d and", silentFrom), "PunchclockOneCardTooOften": fmt.Sprintf("> %d", oneCardMost), "PunchclockReaderFaults": fmt.Sprintf("> %d", faultsMost),
		"PunchclockSpace": fmt.Sprintf("< %d", fewDays), "PunchclockCardWornFast": fmt.Sprintf("> %.0e", float64(wearMost)),
	} {
		i := slices.IndexFunc(blocks, func(b string) bool { return strings.HasPrefix(b, alert+"\n") })
		if i < 0 || !strings.Contains(strings.ReplaceAll(blocks[i], "5e9", "5e+09"), want) {
			t.Errorf("%s does not say %s", alert, want)
		}
	}
	spared := regexp.MustCompile(`fault!~"([^"]+)"`).FindStringSubmatch(string(rules))
	for _, word := range []string{device.FaultChecksum, device.FaultLength, device.FaultFormat, device.FaultTimeout, device.FaultNoise, device.FaultLost, device.FaultRandom, device.FaultTwo, device.FaultLearned,
		device.FaultPIN, device.FaultTries, device.FaultEnrolled, device.FaultEnrolNo, device.FaultEnrolPIN, device.FaultEnrolCard} {
		if regexp.MustCompile("^(?:"+spared[1]+")$").MatchString(word) == isFault(word) {
			t.Errorf("%s: the alert and the clock disagree whether it is a fault", word)
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
