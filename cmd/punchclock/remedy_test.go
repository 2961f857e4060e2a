package main

import (
	"html"
	"strings"
	"testing"
	"time"

	"punchclock/sync/sandbox"
)

// A state that waits for a person names what the person does, wherever they look: the
// status, the page for a technician's phone, and the verb.
func TestEachStateThatCallsAPersonNamesItsRemedyWhereverTheyLook(t *testing.T) {
	h := newHouse(t, settings{people: 10, window: "0s"})
	secret := func(name, text string) func() { return func() { h.write(name, text) } }
	_, right104 := h.tc.Credentials()
	_, rightFS := h.fs.Credentials()
	h.openClouds()
	h.start()
	feishu := func(change func(*sandbox.FeishuFaults)) func() { return func() { h.fs.SetFaults(change) } }
	card := func(change func(*sandbox.TransferCardFaults)) func() { return func() { h.tc.SetFaults(change) } }
	for i, c := range []struct {
		name, dest   string
		fault, mend  func()
		state, words string
	}{
		{"a wrong secret", "104", func() { h.write("104-secret", "old\n"); h.tc.Revoke() }, secret("104-secret", right104), "auth_failed", "put the current secret into client_secret_file; it is read again by itself"},
		{"a company that has not paid", "104", card(func(f *sandbox.TransferCardFaults) {
			f.Poison = map[string]sandbox.Refusal{"000002": {Code: 490}}
		}), card(func(f *sandbox.TransferCardFaults) { f.Poison = nil }), "auth_failed", "have HR settle it with 104"},
		{"a wrong address", "104", card(func(f *sandbox.TransferCardFaults) { f.FailNext, f.FailStatus, f.FailOn = -1, 404, sandbox.OnBusiness }),
			card(func(f *sandbox.TransferCardFaults) { f.FailNext = 0 }), "misconfigured", "set api_base to https://apis.104api.com.tw/prohrm/1.0"},
		{"IP not allowed", "feishu", feishu(func(f *sandbox.FeishuFaults) { f.IPRefused = true }), feishu(func(f *sandbox.FeishuFaults) { f.IPRefused = false }),
			"misconfigured", "token works, imports refused: add this site's public IPv4 to the app's IP allow-list"},
		{"a missing scope", "feishu", feishu(func(f *sandbox.FeishuFaults) { f.ScopeMissing = "attendance:task" }), feishu(func(f *sandbox.FeishuFaults) { f.ScopeMissing = "" }),
			"misconfigured", "give the app the permission attendance:task"},
		{"a secret that is gone", "feishu", func() { h.write("feishu-secret", ""); h.fs.Revoke() }, secret("feishu-secret", rightFS), "misconfigured", "put the app secret of the Feishu developer console into app_secret_file"},
		{"the quota", "feishu", feishu(func(f *sandbox.FeishuFaults) { f.QuotaExceeded = true }), nil, "misconfigured", "buy more calls or wait for the first of the month"},
	} {
		c.fault()
		h.tap(h.people[i])
		at := map[string]int{"104": 0, "feishu": 1}[c.dest]
		h.until(10*time.Second, c.name+" is seen", func() bool {
			d := h.status().Destinations[at]
			return d.State == c.state && strings.Contains(d.LastError, c.words)
		})
		if d := h.status().Destinations[at]; d.Pending != 1 || d.Parked != 0 || !strings.HasSuffix(d.LastError, ")") {
			t.Errorf("%s: %+v", c.name, d)
		}
		if out, code := h.run("status", "--config", h.config); code != 0 || !strings.Contains(out, c.words) {
			t.Errorf("%s: the verb says\n%s", c.name, out)
		}
		if page := html.UnescapeString(string(h.get("/status"))); !strings.Contains(page, c.words) {
			t.Errorf("%s: the page says\n%s", c.name, page)
		}
		if c.mend == nil {
			break
		}
		c.mend()
		if out, code := h.run("queue", "retry", "--destination", c.dest, "--config", h.config); code != 0 {
			t.Fatal(out)
		}
		h.delivered(15 * time.Second)
	}
	h.write("punchclock.toml", "schema = 1\n[devise]\n")
	h.hup()
	h.until(5*time.Second, "the page tells of the wrong file", func() bool {
		return strings.Contains(html.UnescapeString(string(h.get("/status"))), `:2:2: unknown section [devise]; did you mean "device"?`)
	})
	h.stop()
}
