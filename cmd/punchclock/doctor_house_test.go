package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
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
	other := bytes.Clone(badge)
	other[4] ^= 1
	if !bytes.Contains(b, badge) {
		t.Fatal("the stored form no longer holds the badge as text: damage another part of the record")
	}
	b = bytes.ReplaceAll(b, badge, other) // each, for any of them may lie in a page that is not in use any more
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

func TestDoctorFollowsTheLogsToTheirCollector(t *testing.T) {
	const day = 24 * time.Hour
	now := newBench(t, "").now
	ours := newAuthority(t)
	keys := map[string]string{}
	for name, from := range map[string]time.Time{"good": now.Add(-day), "other": now.Add(-day), "over": now.Add(-100 * day), "soon": now.Add(-85 * day), "future": now.Add(day)} {
		ours.from, ours.life = from, 90*day
		ours.sign(name, []string{"tpe-1f-lobby"})
		b, err := os.ReadFile(ours.file(name + "-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = string(b)
	}
	logs := fmt.Sprintf("[logs]\nserver = \"logs.example:20514\"\nca = %q\ncert = %q\nkey = \"logs-key.pem\"\n", ours.file("ca.pem"), ours.file("good.pem"))
	const kept, copied = "/etc/credstore/logs-key.pem", "/run/credentials/punchclock-logs.service/logs-key.pem"
	use := func(name string) func(b *bench) {
		return func(b *bench) {
			b.cfg.Logs.Cert = ours.file(name + ".pem")
			b.sys(kept, keys[name])
			b.sys(copied, keys[name])
		}
	}
	for _, tc := range []struct {
		name           string
		breaks         func(b *bench)
		id             string
		state          verdict
		detail, remedy string
		exit           int
	}{
		{"in order", use("good"), "logs.collector", isOK, "logs.example:20514 answers", "", 0},
		{"in order", use("good"), "logs.certificates", isOK, "good.pem, 2026-11-21 to 2027-02-19", "", 0},
		{"in order", use("good"), "logs.service", isOK, "runs", "", 0},
		{"in order", use("good"), "logs.waiting", isOK, "0 MB", "", 0},
		{"no collector", func(b *bench) { b.cfg.Logs.Server = "" }, "logs.collector", isAbsent, "", "", 0},
		{"no rsyslog", func(b *bench) { b.gone("/usr/sbin/rsyslogd") }, "logs.service", isFailed, "not installed", "apt-get install rsyslog", 1},
		{"not started", func(b *bench) { b.gone("/run/punchclock-logs") }, "logs.service", isFailed, "does not run", "systemctl enable", 1},
		{"no key", func(b *bench) { b.gone(kept); b.gone(copied) }, "logs.certificates", isFailed, "logs-key.pem", "/etc/credstore/logs-key.pem", 2},
		{"no key, no connection", func(b *bench) { b.gone(kept); b.gone(copied) }, "logs.collector", isUnknown, "not run: logs.certificates failed", "", 2},
		{"another's key", func(b *bench) { b.sys(copied, keys["other"]) }, "logs.certificates", isFailed, "private key does not match", "the key that belongs to it", 2},
		{"a key that was changed", func(b *bench) { b.sys(kept, keys["other"]) }, "logs.certificates", isWarning, "changed since", "restart punchclock-logs", 0},
		{"a certificate that is over", use("over"), "logs.certificates", isFailed, "it is over", "new one signed", 1},
		{"a certificate of tomorrow", use("future"), "logs.certificates", isFailed, "not valid yet", "clock.time", 1},
		{"a certificate that ends soon", use("soon"), "logs.certificates", isWarning, "5 days left", "new one signed", 0},
		{"a collector that is away", func(b *bench) {
			b.greet = func(string, *tls.Config) error { return errors.New("connection refused") }
		}, "logs.collector", isFailed, "connection refused", "punches do not wait", 1},
		{"somebody else's collector", func(b *bench) {
			b.greet = func(string, *tls.Config) error {
				return fmt.Errorf("x: %w", &tls.CertificateVerificationError{Err: errors.New("signed by unknown authority")})
			}
		}, "logs.collector", isFailed, "unknown authority", "compare both", 1},
		{"lines that wait", func(b *bench) {
			b.sys("/var/lib/punchclock-logs/lines.00000001", "")
			if err := os.Truncate(b.machine.path("/var/lib/punchclock-logs/lines.00000001"), 40<<20); err != nil {
				t.Fatal(err)
			}
		}, "logs.waiting", isWarning, "42 MB of lines wait", "bring the collector back", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, logs)
			b.sys("/usr/sbin/rsyslogd", "")
			b.sys("/run/punchclock-logs/rsyslog.conf", "")
			b.sys("/var/lib/punchclock-logs/journal.state", "")
			use("good")(b)
			tc.breaks(b)
			r := b.examine()
			got, found := r.find(tc.id)
			if found != (tc.state != isAbsent) || got.State != tc.state || !strings.Contains(got.Detail, tc.detail) || !strings.Contains(got.Remedy, tc.remedy) || (tc.remedy == "") != (got.Remedy == "") || r.Exit != tc.exit {
				t.Errorf("exit %d, %+v", r.Exit, got)
			}
		})
	}
}
