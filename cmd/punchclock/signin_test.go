package main

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"punchclock/sync/sandbox"
)

func TestABadSigninPasswordIsTriedOnceUntilSomebodyActs(t *testing.T) {
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
[[destination]]
name = "signin-off"
driver = "signin"
`, far.URL)})
	password := h.write("signin-password", "a-wrong-one\n")
	h.openClouds()
	h.start()
	state := func(i int) string { return h.status().Destinations[i].State }
	tried := func(want int, when string) {
		t.Helper()
		if locked, n := si.Locked(); n != want || locked {
			t.Fatalf("%s: %d tries, locked %v; want %d", when, n, locked, want)
		}
	}
	h.tap(h.people[0])
	h.until(10*time.Second, "a person must act", func() bool { return state(2) == "auth_failed" })
	h.until(10*time.Second, "one that is off skips", func() bool { d := h.status().Destinations[3]; return d.State == "ok" && d.Pending == 0 })

	now := time.Now().Add(time.Hour)
	if err := os.Chtimes(password, now, now); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second) // the file is looked at every five
	for range 6 {
		if out, code := h.run("queue", "retry", "--config", h.config); code != 0 {
			t.Fatalf("%d\n%s", code, out)
		}
	}
	time.Sleep(time.Second)
	tried(1, "after the file was touched, and people put punches back")

	if out, code := h.run("queue", "retry", "--destination", "signin", "--config", h.config); code != 0 {
		t.Fatalf("%d\n%s", code, out)
	}
	h.until(5*time.Second, "the technician's try", func() bool { _, n := si.Locked(); return n == 2 })
	h.write("signin-password", "the-right-one\n")
	h.until(15*time.Second, "the punch is there", func() bool { return len(si.Ledger()) == 1 && state(2) == "ok" })
	tried(3, "at the end")
	if r := si.Ledger()[0]; r.UserID != h.people[0].number || r.Status != "上班" && r.Status != "下班" {
		t.Errorf("%+v", r)
	}
}

// What the sign-in system lost, doubled, or keeps under another status is found, and
// what it lost is sent again.
func TestReconcilingTheSigninSystem(t *testing.T) {
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
	si.SetFaults(func(f *sandbox.SigninFaults) { f.LoseNext = 1 })
	lost := h.tap(h.people[0])
	h.delivered(15 * time.Second)
	si.SetFaults(func(f *sandbox.SigninFaults) { f.CommitThenDrop, f.Duplicates = 1, sandbox.DuplicatesStoreTwice })
	h.tap(h.people[1])
	h.delivered(30 * time.Second)
	h.tap(h.people[2])
	h.delivered(15 * time.Second)
	ask := func(more ...string) (reconciled, int) {
		t.Helper()
		out, code := h.run(append([]string{"reconcile", "--config", h.config, "--destination", "signin", "--json"}, more...)...)
		var v reconciliation
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&v); err != nil || len(v.Destinations) != 1 {
			t.Fatalf("%d %v\n%s", code, err, out)
		}
		return v.Destinations[0], code
	}
	d, code := ask()
	if want := (reconcileCounts{Delivered: 3, Resent: 1, Checked: 3, Missing: 1, Doubled: 1}); code != 0 || !d.ReadBack || !d.Finished || d.Counts != want {
		t.Errorf("%d %+v", code, d.Counts)
	}
	if want := "doubled 000002 \nmissing 000001 " + lost.PunchID; found(d) != want {
		t.Errorf("found\n%s\nwant\n%s", found(d), want)
	}
	if out, code := h.run("reconcile", "--config", h.config, "--destination", "signin", "--csv"); code != 0 || !strings.Contains(out, ",missing,,000001,") {
		t.Errorf("%d\n%s", code, out)
	}
	if d, code = ask("--resend"); code != 0 || d.PutBack != 1 {
		t.Errorf("%d %+v", code, d)
	}
	h.until(15*time.Second, "what was lost is there", func() bool { return len(si.Ledger()) == 4 })
	h.delivered(15 * time.Second)
	if d, _ = ask(); d.Counts.Missing != 0 || d.Counts.Doubled != 1 || d.Counts.Checked != 3 {
		t.Errorf("%+v", d.Counts)
	}
	// The account may not read: nothing is called missing, nothing is sent again.
	si.SetFaults(func(f *sandbox.SigninFaults) { f.AnswerNext, f.Answer = -1, sandbox.Refusal{Status: 403, Code: 40301} })
	if d, code = ask("--resend"); code != exitUnchecked || d.Finished || d.Counts.Missing != 0 || d.PutBack != 0 || d.Counts.Unchecked != 3 {
		t.Errorf("%d %+v", code, d)
	}
	h.stop()
}
