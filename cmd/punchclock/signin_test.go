package main

import (
	"fmt"
	"net/http/httptest"
	"os"
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
