package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"punchclock/device/devicetest"
	"punchclock/sync/feishu"
	"punchclock/sync/signin"
	"punchclock/sync/transfercard"
)

// doctor runs the real binary's doctor in all three forms and returns the report and
// all that was said.
func (h *house) doctor() (r checkup, said string) {
	h.t.Helper()
	bin, err := binary()
	if err != nil {
		h.t.Fatal(err)
	}
	sheet := filepath.Join(h.t.TempDir(), "job.html")
	cmd := exec.Command(bin, "doctor", "--config", h.config, "--html", sheet)
	text, _ := cmd.CombinedOutput()
	cmd = exec.Command(bin, "doctor", "--json", "--config", h.config)
	out, err := cmd.Output()
	if jerr := json.Unmarshal(out, &r); jerr != nil {
		h.t.Fatalf("%v, %v\n%s", err, jerr, out)
	}
	if code := cmd.ProcessState.ExitCode(); code != r.Exit {
		h.t.Errorf("exit code %d, and the report says %d", code, r.Exit)
	}
	page, err := os.ReadFile(sheet)
	if err != nil {
		h.t.Fatal(err)
	}
	return r, string(text) + string(out) + string(page)
}

// states wants checks to have come to these states; others may be as this machine is.
func (h *house) states(r checkup, want map[string]verdict) {
	h.t.Helper()
	for id, state := range want {
		if c, _ := r.find(id); c.State != state {
			h.t.Errorf("%s is %q (%s), want %s", id, c.State, c.Detail, state)
		}
	}
}

func (h *house) keepsSecrets(said string) {
	h.t.Helper()
	_, secret104 := h.tc.Credentials()
	_, secretFS := h.fs.Credentials()
	no := []string{secret104, secretFS}
	for _, p := range h.people {
		no = append(no, p.name, fmt.Sprintf("%X", p.card), fmt.Sprintf("%x", p.card))
	}
	for _, s := range no {
		if strings.Contains(said, s) {
			h.t.Errorf("doctor told %q", s)
		}
	}
}

func TestDoctorBesideARunningClock(t *testing.T) {
	h := newHouse(t, settings{})
	h.openClouds()
	h.start()
	for _, p := range h.people {
		h.tap(p)
	}
	h.send(devicetest.RDM6300([5]byte{0x0B, 0xAD, 0xCA, 0xFE, 0x01})) // nobody's card
	h.answer()
	h.delivered(20 * time.Second)
	calls := h.tc.Counters().Calls
	r, said := h.doctor()
	h.states(r, map[string]verdict{
		"config.valid": isOK, "config.secrets": isOK, "daemon": isOK, "state.dir": isOK, "outbox.open": isOK, "outbox.ready": isOK, "outbox.mirror": isOK, "outbox.chain": isOK,
		"clock.time": isOK, "roster.people": isOK, "roster.badges": isOK, "dest.104.name": isOK, "dest.104.certificate": isOK, "dest.104.delivery": isOK,
		"dest.feishu.delivery": isOK, "dest.feishu.parked": isWarning, "dest.104.token": isAbsent, "reader.front.device": isOK, "reader.front.access": isOK, "reader.front.listening": isOK, "page.answers": isOK,
	})
	if c, _ := r.find("outbox.chain"); c.Detail != "4 records, numbers 1 to 4, are what was written" {
		t.Errorf("%s", c.Detail)
	}
	// What is wrong then is this machine's, such as a folder for tests that is a tmpfs.
	for _, c := range r.Checks {
		if word, _, _ := strings.Cut(c.ID, "."); c.State == isFailed && word != "state" && word != "machine" && word != "page" {
			t.Errorf("%+v", c)
		}
	}
	if n := h.tc.Counters().Calls; n != calls {
		t.Errorf("doctor made %d calls beside the clock, which keeps their ceiling", n-calls)
	}
	h.keepsSecrets(said)
	for _, no := range []string{"0BADCAFE01", "0badcafe01"} {
		if strings.Contains(said, no) {
			t.Errorf("doctor told a stranger's badge")
		}
	}
	// The clock has noticed nothing.
	if r := h.tap(person{"000001", "", h.people[0].card}); r.Outcome != "duplicate" {
		t.Errorf("%+v", r)
	}

	// What goes wrong while it runs is told in its own words.
	h.unplug()
	h.closeClouds()
	h.until(10*time.Second, "the reader is down", func() bool { return h.status().Readers[0].State == "down" })
	r, _ = h.doctor()
	h.states(r, map[string]verdict{"reader.front.device": isFailed, "reader.front.listening": isUnknown, "dest.104.certificate": isFailed, "daemon": isOK})
	if r.Exit != exitMissing {
		t.Errorf("exit %d", r.Exit)
	}
	h.plug()
	h.stop()
}

func TestDoctorWhereNoClockRuns(t *testing.T) {
	h := newHouse(t, settings{})
	h.openClouds()
	h.backlog(20, 24*time.Hour)
	r, said := h.doctor()
	h.states(r, map[string]verdict{
		"config.valid": isOK, "daemon": isUnknown, "state.dir": isOK, "outbox.open": isOK, "outbox.chain": isOK, "outbox.ready": isAbsent, "roster.people": isOK,
		"dest.104.token": isOK, "dest.feishu.token": isOK, "dest.104.delivery": isOK, "reader.front.device": isOK, "page.answers": isOK,
	})
	for id, want := range map[string]string{"dest.104.delivery": "20 punches wait", "state.space": "at this site's rate, 20 punches a day", "outbox.chain": "20 records"} {
		if c, _ := r.find(id); !strings.Contains(c.Detail, want) {
			t.Errorf("%s: %q, want %q", id, c.Detail, want)
		}
	}
	if r.Exit != exitUnchecked && r.Exit != exitFailed { // failed: of this machine's, see above
		t.Errorf("exit %d", r.Exit)
	}
	h.keepsSecrets(said)
	h.write("104-secret", "wrong\n")
	r, _ = h.doctor()
	h.states(r, map[string]verdict{"dest.104.token": isFailed, "dest.feishu.token": isOK})

	// It has left the files as they were: the clock starts, and brings what waited.
	_, secret := h.tc.Credentials()
	h.write("104-secret", secret)
	h.start()
	h.delivered(20 * time.Second)
	h.stop()
	if left, _ := filepath.Glob(filepath.Join(h.dir, "state", ".doctor*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDoctorFindsADamagedRecord(t *testing.T) {
	h := newHouse(t, settings{})
	h.backlog(300, 24*time.Hour)
	path := filepath.Join(h.dir, "state", "outbox", "000000000001.db")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	badge := []byte(h.people[1].badge())
	i := strings.Index(string(b), string(badge))
	if i < 0 {
		t.Fatal("the stored form no longer holds the badge as text: damage another part of the record")
	}
	b[i+4] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, said := h.doctor()
	h.states(r, map[string]verdict{"outbox.chain": isFailed})
	if r.Exit != exitFailed && r.Exit != exitMissing {
		t.Errorf("exit %d", r.Exit)
	}
	h.keepsSecrets(said)
}

// Doctor asks each far side by its own client.
type tokenAsker interface{ Check(context.Context) error }

var (
	_ tokenAsker = (*transfercard.Client)(nil)
	_ tokenAsker = (*feishu.Client)(nil)
	_ tokenAsker = (*signin.Client)(nil)
)
