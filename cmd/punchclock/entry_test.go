package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The house with a reader on whose keys somebody types.
func TestNumberAndPINOnAKeypadPunchThroughTheWholeHouse(t *testing.T) {
	h := newHouse(t, settings{extra: "[[reader]]\nname = \"pad\"\ndriver = \"stdin\"\n"})
	h.write("roster.csv", "employee_no,name,badges,pin\n000001,員工1,"+h.people[0].badge()+",83940271\n000002,員工2,,60413829\n")
	if out, code := h.run("roster", "import", "--config", h.config, filepath.Join(h.dir, "roster.csv")); code != 0 {
		t.Fatal(out)
	}
	h.openClouds()
	fifo := filepath.Join(h.dir, "keys")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	h.start("sh", "-c", `exec "$@" < `+fifo, "sh")
	typed := func(line string) result {
		t.Helper()
		fmt.Fprintln(keys, line)
		return h.answer()
	}
	fmt.Fprintln(keys, "kind go-out")
	if r := typed("pin 000002 60413829"); r.Outcome != "stored" || r.Kind != "go-out" || r.Employee != "000002" || r.Reader != "pad" {
		t.Errorf("%+v", r)
	}
	if r := h.tap(h.people[0]); r.Outcome != "stored" || r.Kind != "in" {
		t.Errorf("somebody's card after it: %+v", r)
	}
	for i := range 5 {
		if r := typed("pin 000001 0000"); r.Outcome != "misread" || r.PunchID != "" || r.Reader != "pad" {
			t.Errorf("wrong PIN %d: %+v", i, r)
		}
	}
	if r := typed("pin 000001 83940271"); r.Outcome != "misread" {
		t.Errorf("the right PIN after five wrong ones: %+v", r)
	}
	// After a kill as before it, and the page is the same door.
	h.kill()
	h.start("sh", "-c", `exec "$@" < `+fifo, "sh")
	if r := typed("pin 000001 83940271"); r.Outcome != "misread" {
		t.Errorf("the right PIN after a kill: %+v", r)
	}
	if r := typed("pin 000002 60413829"); r.Outcome != "duplicate" || r.Employee != "000002" {
		t.Errorf("somebody else's PIN, who was here a moment ago: %+v", r)
	}
	if code, _ := h.post("/api/pin", `{"employee_no":"000001","pin":"83940271"}`); code != http.StatusTooManyRequests {
		t.Errorf("on the page: %d", code)
	}
	h.delivered(20 * time.Second)
	out, code := h.run("punches", "export", "--config", h.config)
	var row exportRow
	if err := json.Unmarshal([]byte(strings.Split(out, "\n")[0]), &row); err != nil || code != 0 || row.Badge != "key:000002" || row.Reader != "pad" {
		t.Errorf("export: %d %v\n%s", code, err, out)
	}
	for _, secret := range []string{"83940271", "60413829"} {
		if strings.Contains(h.logged(), secret) || strings.Contains(string(h.get("/metrics")), secret) {
			t.Errorf("%s is in log or metrics", secret)
		}
	}
	if m := string(h.get("/metrics")); !strings.Contains(m, `punchclock_reader_up{reader="pad"}`) {
		t.Error("no metric of the pad")
	}
	h.stop()
}
