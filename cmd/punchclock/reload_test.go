package main

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"punchclock/sync/sandbox"
)

// text is the configuration file as it is.
func (h *house) text() string {
	h.t.Helper()
	b, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

func (h *house) hup() {
	h.t.Helper()
	if err := h.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		h.t.Fatal(err)
	}
}

func TestACorrectedConfigurationDeliversWithoutARestart(t *testing.T) {
	h := newHouse(t, settings{window: "0s"})
	right := h.text()
	id, _ := h.tc.Credentials()
	wrongID := strings.Replace(right, id, "another-company", 1)
	wrongPath := strings.Replace(right, "/104/prohrm/1.0", "/104/prohrm/9.9", 1)
	h.write("punchclock.toml", wrongID)
	h.openClouds()
	h.start()
	h.tap(h.people[0])
	h.until(10*time.Second, "104 refuses the client id", func() bool { return h.status().Destinations[0].State == "auth_failed" })
	if e := h.status().Destinations[0].LastError; !strings.Contains(e, "compare client_id with what 104 gave you") {
		t.Errorf("no remedy in %q", e)
	}
	// The next mistake, found by the clock itself: nobody tells it.
	h.write("punchclock.toml", wrongPath)
	h.until(30*time.Second, "104 has no such path", func() bool { return h.status().Destinations[0].State == "misconfigured" })
	if e := h.status().Destinations[0].LastError; !strings.Contains(e, "set api_base to") {
		t.Errorf("no remedy in %q", e)
	}
	pid := h.cmd.Process.Pid
	h.write("punchclock.toml", right)
	h.hup()
	h.delivered(10 * time.Second)
	s := h.status()
	if s.Destinations[0].State != "ok" || len(h.tc.Ledger()) != 1 || len(h.fs.Ledger()) != 1 || h.cmd.Process.Pid != pid {
		t.Errorf("%+v", s.Destinations)
	}
	if s.Configuration == nil || s.Configuration.Problem != "" || len(s.Configuration.Restart) != 0 || s.Configuration.TakenAt == "" {
		t.Errorf("%+v", s.Configuration)
	}
	if r := h.tap(h.people[1]); r.Outcome != "stored" {
		t.Errorf("%+v", r)
	}
	h.delivered(10 * time.Second)
	if n := len(h.tc.Ledger()); n != 2 {
		t.Errorf("%d", n)
	}
	if n := strings.Count(h.logged(), "was changed and is in force"); n != 2 || strings.Contains(h.logged(), "dest=feishu") && strings.Contains(h.logged(), "is in force\" dest=feishu") {
		t.Errorf("taken over %d times", n)
	}
	h.stop()
}

func TestAFileThatIsWrongOrHalfWrittenChangesNothing(t *testing.T) {
	h := newHouse(t, settings{people: 5, window: "0s"})
	right := h.text()
	h.openClouds()
	h.start()
	problem := func() string {
		if c := h.status().Configuration; c != nil {
			return c.Problem
		}
		return ""
	}
	who := 0
	for name, c := range map[string]struct{ text, want string }{
		"half written":   {right[:strings.Index(right, "client_secret_file")+3], ":22:3: this is not TOML"},
		"a mistake":      {strings.Replace(right, "calls_per_second = 25", "calls_per_second = 99", 1), ":23:20: destination.calls_per_second = 99 is out of range"},
		"two at once":    {strings.NewReplacer("calls_per_second = 25", "calls_per_second = 7", "batch = 50", "batsh = 50").Replace(right), `:24:1: unknown key "batsh"`},
		"empty":          {"", ":1:1: schema is missing"},
		"no certificate": {strings.Replace(right, "batch = 50", "ca_file = \"nowhere.pem\"", 1), "nowhere.pem"},
	} {
		h.write("punchclock.toml", c.text)
		h.hup()
		h.until(5*time.Second, name+" is told", func() bool { return strings.Contains(problem(), c.want) })
		h.tap(h.people[who])
		who++
		h.delivered(10 * time.Second)
		if c := h.status().Configuration; c.TakenAt != "" {
			t.Errorf("%s: something was taken over: %+v", name, c)
		}
	}
	h.write("punchclock.toml", "schema = 1\n[devise]\n")
	h.hup()
	h.until(5*time.Second, "a wrong section is told", func() bool { return strings.Contains(problem(), "devise") })
	if out, code := h.run("status", "--config", h.config); code != 2 || !strings.Contains(out, ":2:2: unknown section [devise]") {
		t.Errorf("a verb with the wrong file: %d\n%s", code, out)
	}
	h.write("other.toml", right)
	if out, code := h.run("status", "--config", h.dir+"/other.toml"); code != 0 || !strings.Contains(out, "WARNING: changed and wrong, the old one is in force") {
		t.Errorf("%d\n%s", code, out)
	}
	// Somebody writes slowly: the file is right at every stop, and is not whole. The
	// clock looks every five seconds and believes what it has seen twice.
	h.write("punchclock.toml", strings.Replace(right, "calls_per_second = 25", "calls_per_second = 1", 1))
	time.Sleep(3 * time.Second)
	h.write("punchclock.toml", right)
	h.until(20*time.Second, "the file is in order again", func() bool { return problem() == "" })
	if c := h.status().Configuration; c != nil {
		t.Errorf("what was there for a moment was taken over: %+v", c)
	}
	h.stop()
}

func TestWhatNeedsARestartIsSaidAndTheRestIsTakenOver(t *testing.T) {
	h := newHouse(t, settings{window: "0s"})
	right := h.text()
	h.openClouds()
	h.start()
	restart := func() string {
		if c := h.status().Configuration; c != nil {
			return strings.Join(c.Restart, "\n")
		}
		return ""
	}
	change := func(want string, pairs ...string) {
		t.Helper()
		h.write("punchclock.toml", strings.NewReplacer(pairs...).Replace(right))
		h.hup()
		h.until(10*time.Second, want, func() bool { return restart() == want })
	}
	change("[kiosk]\n[[reader]]", "[kiosk]\n", "[kiosk]\nmask_names = true\n", "name = \"front\"", "name = \"back\"", "statuses", "")
	if c := h.status().Configuration; c.TakenAt != "" {
		t.Errorf("a destination was rebuilt for nothing: %+v", c)
	}
	change("[[schedule]]\ndestination \"104\" is gone: its punches are delivered until the restart\ndestination \"one-hundred-four\" is new",
		"[[reader]]", "[[schedule]]\nfrom = \"05:00\"\nto = \"11:00\"\nkind = \"in\"\n[[reader]]", "name = \"104\"", "name = \"one-hundred-four\"")
	h.tap(h.people[0])
	h.delivered(10 * time.Second)
	if len(h.tc.Ledger()) != 1 || len(h.status().Destinations) != 2 {
		t.Errorf("%d", len(h.tc.Ledger()))
	}
	// A file of another device is not for this one, not even its destinations.
	change("[device]\nthe destinations: the file speaks of another device, so nothing of it was taken over", `id = "test-door"`, `id = "other-door"`, "calls_per_second = 25", "calls_per_second = 7")
	if c := h.status().Configuration; c.TakenAt != "" {
		t.Errorf("%+v", c)
	}
	// What can be is taken over beside what cannot.
	change("[kiosk]", "[kiosk]\n", "[kiosk]\nmask_names = true\n", "batch = 50", "batch = 50\nstatuses = [\"go-out\"]")
	h.until(5*time.Second, "the statuses are taken over", func() bool { return h.status().Configuration.TakenAt != "" })
	if out, code := h.run("status", "--config", h.config); code != 0 || !strings.Contains(out, "WARNING: needs a restart: [kiosk]") {
		t.Errorf("%d\n%s", code, out)
	}
	h.tap(h.people[1])
	h.delivered(10 * time.Second)
	if len(h.tc.Ledger()) != 1 || len(h.fs.Ledger()) != 2 {
		t.Errorf("104 has %d, Feishu %d", len(h.tc.Ledger()), len(h.fs.Ledger()))
	}
	if n := strings.Count(h.logged(), "takes effect with a restart only"); n != 4 {
		t.Errorf("told %d times", n)
	}
	h.stop()
}

func TestTheCeilingHoldsWhileADestinationIsReplaced(t *testing.T) {
	h := newHouse(t, settings{people: 40, window: "0s", rate: 5, batch: 1})
	right := h.text()
	h.start()
	for _, p := range h.people {
		h.tap(p)
	}
	h.tc.SetFaults(func(f *sandbox.TransferCardFaults) { f.DelayMS = 30 })
	h.openClouds()
	for i := range 4 {
		time.Sleep(1500 * time.Millisecond)
		h.write("punchclock.toml", strings.Replace(right, "batch = 1\n", fmt.Sprintf("batch = 1\nemp_no_pad = %d\n", i+1), 1))
		h.hup()
	}
	h.delivered(60 * time.Second)
	if n := h.tc.Counters().WorstSecond; n > 5 {
		t.Errorf("%d calls in one second", n)
	}
	if n := len(h.tc.Ledger()); n != 40 || h.status().Configuration == nil {
		t.Errorf("%d punches, %+v", n, h.status().Configuration)
	}
	h.stop()
}

// What was refused because of a setting goes out when the setting is corrected.
func TestPunchesThatAWrongSettingParkedAreOfferedAgainWhenItIsCorrected(t *testing.T) {
	h := newHouse(t, settings{})
	right := h.text()
	h.write("punchclock.toml", strings.Replace(right, "batch = 50", "batch = 50\nemp_no_pad = 12", 1)) // 104 knows six digits
	h.openClouds()
	h.start()
	h.tap(h.people[0])
	h.until(10*time.Second, "104 knows nobody of twelve digits", func() bool { return h.status().Destinations[0].Parked == 1 })
	h.write("punchclock.toml", right)
	h.hup()
	h.until(15*time.Second, "the number is right", func() bool { return len(h.tc.Ledger()) == 1 && h.status().Destinations[0].Parked == 0 })
	h.stop()
}

// One destination's file keeps no clock from taking punches, and no other destination
// waiting; when the file is in order its punches go.
func TestCertificatesThatCannotBeReadKeepNobodyFromPunching(t *testing.T) {
	h := newHouse(t, settings{})
	h.write("punchclock.toml", strings.Replace(h.text(), "batch = 50", "batch = 50\nca_file = \"corp.pem\"", 1))
	h.openClouds()
	h.start()
	if d := h.status().Destinations[0]; d.State != "misconfigured" || !strings.Contains(d.LastError, "corp.pem") {
		t.Errorf("before the first punch: %+v", d)
	}
	h.tap(h.people[0])
	h.until(10*time.Second, "Feishu has it and 104 waits", func() bool {
		d := h.status().Destinations
		return d[1].Pending == 0 && d[0].Pending == 1 && d[0].State == "misconfigured" && strings.Contains(d[0].LastError, "corp.pem")
	})
	far := httptest.NewTLSServer(nil)
	defer far.Close()
	h.write("corp.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: far.Certificate().Raw})))
	h.delivered(30 * time.Second) // nobody tells it
	if n := len(h.tc.Ledger()); n != 1 || h.status().Destinations[0].State != "ok" {
		t.Errorf("%d, %+v", n, h.status().Destinations[0])
	}
	h.write("corp.pem", "no certificate any more")
	h.hup()
	h.until(10*time.Second, "the broken file is told", func() bool { c := h.status().Configuration; return c != nil && strings.Contains(c.Problem, "corp.pem") })
	h.tap(h.people[1])
	h.delivered(10 * time.Second) // with the certificates that it has
	h.stop()
}

// A call that the replacement cuts is one whose end nobody knows: to 104, which cannot
// recognise a repeat, the punch is marked as sent again.
func TestAPunchWhoseCallWasCutByAReplacementIsMarkedAsSentAgain(t *testing.T) {
	h := newHouse(t, settings{window: "0s"})
	right := h.text()
	h.openClouds()
	h.start()
	h.tap(h.people[0]) // there is a token
	h.delivered(10 * time.Second)
	h.tc.SetFaults(func(f *sandbox.TransferCardFaults) { f.DelayMS = 20_000 })
	h.tap(h.people[1])
	h.until(10*time.Second, "104 has it and has not answered", func() bool { return len(h.tc.Ledger()) == 2 })
	h.tc.SetFaults(func(f *sandbox.TransferCardFaults) { f.DelayMS = 0 })
	h.write("punchclock.toml", strings.Replace(right, "batch = 50", "batch = 49", 1))
	h.hup()
	h.delivered(15 * time.Second)
	out, _ := h.run("punches", "export", "--config", h.config)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 || strings.Contains(lines[0], `"resent":true`) || strings.Count(lines[1], `"resent":true`) != 1 || len(h.tc.Repeats()) != 1 {
		t.Errorf("%d repeats\n%s", len(h.tc.Repeats()), out)
	}
	h.stop()
}

func TestASessionEndsWithItsAccount(t *testing.T) {
	si := sandbox.NewSignin(sandbox.SigninConfig{UserID: "svc", Password: "the-right-one", AcceptAny: true})
	far := httptest.NewServer(si)
	defer far.Close()
	h := newHouse(t, settings{extra: fmt.Sprintf(`[[destination]]
name = "signin"
driver = "signin"
mode = "service_account"
base_url = %q
user_id = "svc"
password_file = "signin-password"
`, far.URL)})
	h.write("signin-password", "the-right-one\n")
	h.openClouds()
	h.start()
	logouts := func() (n int) {
		for _, c := range si.Calls() {
			if c.Path == sandbox.SigninLogoutPath && c.Status == 200 {
				n++
			}
		}
		return n
	}
	h.tap(h.people[0])
	h.delivered(15 * time.Second)
	h.write("punchclock.toml", strings.Replace(h.text(), "user_id = \"svc\"", "user_id = \"svc\"\ngroup_id = \"user\"", 1))
	h.hup()
	h.until(10*time.Second, "a logout", func() bool { return logouts() == 1 })
	h.until(10*time.Second, "the new one is in its place", func() bool { c := h.status().Configuration; return c != nil && c.TakenAt != "" })
	h.tap(h.people[1])
	h.delivered(15 * time.Second)
	h.stop()
	if n := logouts(); n != 2 || len(si.Ledger()) != 2 {
		t.Errorf("%d logouts, %d punches", n, len(si.Ledger()))
	}
	// A far side that is away keeps no clock from stopping.
	si.SetFaults(func(f *sandbox.SigninFaults) { f.DelayMS = 60_000 })
	h.start()
	h.tap(h.people[2])
	begin := time.Now()
	h.stop()
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("stopped after %v", d)
	}
}
