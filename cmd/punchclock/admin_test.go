package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue/punch"
	"punchclock/ui/web"
)

// strongroom is the admin page's PIN on a machine whose power and clock the test has in its
// hands.
type strongroom struct {
	*vault
	dir string
	pin *adminPIN
}

func newStrongroom(t *testing.T) *strongroom {
	g := &strongroom{vault: newVault(t), dir: t.TempDir()}
	g.open()
	return g
}

// open starts the program anew.
func (g *strongroom) open() {
	g.pin = newAdminPIN(g.dir, g.stamp, slog.New(slog.NewTextHandler(&g.log, nil)))
}

// cheap sets a PIN that costs nothing to look at, and that nobody has: thousands can be
// tried in a test.
func (g *strongroom) cheap(t *testing.T) {
	t.Helper()
	if err := g.pin.set("3092-kiosk"); err != nil {
		t.Fatal(err)
	}
	g.pin.file.PIN.Passes, g.pin.file.PIN.KiB = 1, 8
	if err := replaceJSON(adminPath(g.dir), g.pin.file); err != nil {
		t.Fatal(err)
	}
}

func TestTenThousandGuessesAtTheAdminPINWithRestartsAreThirtyADayAtMost(t *testing.T) {
	for name, meddle := range map[string]func(g *strongroom, i int){
		"restarts":   func(g *strongroom, _ int) { g.open() },
		"power cuts": func(g *strongroom, i int) { g.reboot(time.Second); g.open() },
		"power cuts without a clock": func(g *strongroom, i int) {
			g.clock, g.wrong = punch.Unset, time.Duration(i)*24*time.Hour
			g.reboot(time.Second)
			g.open()
		},
		"a technician who unlocks it twice": func(g *strongroom, i int) {
			g.open()
			if i == 3400 || i == 6800 {
				if err := g.pin.unlock(); err != nil {
					g.t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newStrongroom(t)
			g.cheap(t)
			looked := 0
			const n = 10_000
			for i := range n {
				g.past += 24 * time.Hour / n
				meddle(g, i)
				if err := g.pin.CheckPIN(fmt.Sprintf("%06d", i)); errors.Is(err, web.ErrWrongPIN) {
					looked++
				} else if err == nil {
					t.Fatal("a wrong PIN is taken for the right one")
				}
			}
			most := adminTries
			if strings.HasPrefix(name, "a technician") {
				most = 3 * adminTries
			}
			t.Logf("%d of %d looked at", looked, n)
			if looked > most || looked < triesFree {
				t.Errorf("%d looked at, want %d at most", looked, most)
			}
		})
	}
}

func TestAdminPageIsLockedAfterTenWrongPINsUntilSomebodyAtTheMachineUnlocksIt(t *testing.T) {
	g := newStrongroom(t)
	if err := g.pin.set("3092-kiosk"); err != nil {
		t.Fatal(err)
	}
	wrong := 0
	var waits []time.Duration
	for wrong < adminTries {
		err := g.pin.CheckPIN("guess-" + fmt.Sprint(wrong))
		var tries *web.TooManyTries
		switch {
		case errors.Is(err, web.ErrWrongPIN):
			wrong++
		case errors.As(err, &tries):
			waits = append(waits, tries.Wait)
			// The delay is there after a power cut, too.
			g.reboot(0)
			g.open()
			if err := g.pin.CheckPIN("3092-kiosk"); !errors.As(err, &tries) || tries.Wait > waits[len(waits)-1] || tries.Wait < waits[len(waits)-1]-5*time.Second {
				t.Fatalf("after a power cut: %v, %v before", err, waits)
			}
			g.past += tries.Wait
		default:
			t.Fatal(err)
		}
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 16} {
		if len(waits) != 5 || waits[i] != want*time.Minute {
			t.Fatalf("the delays are %v", waits)
		}
	}
	for _, later := range []time.Duration{0, time.Hour, 30 * 24 * time.Hour} {
		g.past += later
		g.open()
		if err := g.pin.CheckPIN("3092-kiosk"); !errors.Is(err, web.ErrLocked) {
			t.Errorf("the right PIN %v after: %v", later, err)
		}
	}
	if err := g.pin.unlock(); err != nil {
		t.Fatal(err)
	}
	if err := g.pin.CheckPIN("3092-kiosk"); err != nil {
		t.Errorf("unlocked: %v", err)
	}
	// A right one forgets the slips before it.
	for range 3 {
		for range triesFree - 1 {
			if err := g.pin.CheckPIN("slip-slip"); !errors.Is(err, web.ErrWrongPIN) {
				t.Fatal(err)
			}
		}
		if err := g.pin.CheckPIN("3092-kiosk"); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(g.log.String(), "3092") || strings.Contains(g.log.String(), "slip-slip") || strings.Contains(g.log.String(), "guess-") {
		t.Errorf("a PIN is in the log:\n%s", &g.log)
	}
}

func TestAdminPINIsStrongSealedAndEndsSessionsWhenChanged(t *testing.T) {
	g := newStrongroom(t)
	for pin, want := range map[string]string{"": "short", "47110": "short", strings.Repeat("7", 65): "short", "777777": "simple", "123456": "simple", "987654": "simple", "abcdefgh": "simple"} {
		var refused *web.PINRefused
		if err := g.pin.set(pin); !errors.As(err, &refused) || refused.Reason != want {
			t.Errorf("%q: %v", pin, err)
		}
	}
	if g.pin.PINSet() {
		t.Error("set")
	}
	if err := g.pin.CheckPIN(""); !errors.Is(err, web.ErrWrongPIN) {
		t.Errorf("no PIN, and none given: %v", err)
	}
	if err := g.pin.set("3092-kiosk"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(adminPath(g.dir))
	if err != nil || bytes.Contains(b, []byte("3092")) || !bytes.Contains(b, []byte(`"kib":7168`)) || !bytes.Contains(b, []byte(`"passes":5`)) {
		t.Errorf("on the medium: %s %v", b, err)
	}
	if st, _ := os.Stat(adminPath(g.dir)); st.Mode().Perm() != 0o600 {
		t.Errorf("%v", st.Mode())
	}
	if err := g.pin.CheckPIN("3092-kiosk"); err != nil {
		t.Error(err)
	}
	was := g.pin.Changed()
	if err := g.pin.set("4711-other"); err != nil || g.pin.Changed() == was {
		t.Errorf("sessions of the old PIN live on: %v", err)
	}
	if err := g.pin.CheckPIN("3092-kiosk"); !errors.Is(err, web.ErrWrongPIN) {
		t.Errorf("the old PIN: %v", err)
	}
	was = g.pin.Changed()
	if err := g.pin.unlock(); err != nil || g.pin.Changed() != was {
		t.Errorf("unlocking ends sessions: %v", err)
	}
	// A file that nobody wrote so locks the page.
	for _, text := range []string{"{", `{"pin":{"salt":"","hash":""}}`, `{"pin":{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","hash":"AA==","passes":4000000,"kib":8}}`} {
		if err := os.WriteFile(adminPath(g.dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g.open()
		if err := g.pin.CheckPIN("4711-other"); !errors.Is(err, web.ErrLocked) || !g.pin.PINSet() {
			t.Errorf("%s: %v", text, err)
		}
		if g.pin.unlock() == nil {
			t.Errorf("%s: opened without the machine", text)
		}
		if err := g.pin.set("new-one-1"); err != nil || g.pin.CheckPIN("new-one-1") != nil {
			t.Errorf("%s: a new PIN: %v", text, err)
		}
	}
}

func TestAPINIsChangedByWhoKnowsItWithTheSameDelaysAndLock(t *testing.T) {
	g := newStrongroom(t)
	if _, err := g.pin.change("", "3092-kiosk"); !errors.Is(err, web.ErrWrongPIN) || g.pin.PINSet() {
		t.Errorf("a first PIN by changing none: %v", err)
	}
	if err := g.pin.set("3092-kiosk"); err != nil {
		t.Fatal(err)
	}
	was := g.pin.Changed()
	var refused *web.PINRefused
	if _, err := g.pin.change("3092-kiosk", "123456"); !errors.As(err, &refused) || g.pin.Changed() != was {
		t.Errorf("a weak one: %v", err)
	}
	changed, err := g.pin.change("3092-kiosk", "4711-other")
	if err != nil || changed == was || changed != g.pin.Changed() || g.pin.CheckPIN("4711-other") != nil {
		t.Errorf("%d after %d: %v", changed, was, err)
	}
	// Guesses here are guesses at the door, and the other way round.
	var tries *web.TooManyTries
	for i := range 5 {
		if _, err := g.pin.change(fmt.Sprint("guess-", i), "new-one-1"); !errors.Is(err, web.ErrWrongPIN) {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	if _, err := g.pin.change("4711-other", "new-one-1"); !errors.As(err, &tries) {
		t.Errorf("the right one after five guesses: %v", err)
	}
	if err := g.pin.CheckPIN("4711-other"); !errors.As(err, &tries) {
		t.Errorf("at the door after five guesses: %v", err)
	}
	g.pin.file.Wrong = adminTries
	if _, err := g.pin.change("4711-other", "new-one-1"); !errors.Is(err, web.ErrLocked) {
		t.Errorf("locked: %v", err)
	}
}

func TestACardBringsThePINOnceAndALaterCardAnother(t *testing.T) {
	g := newStrongroom(t)
	file := filepath.Join(t.TempDir(), "admin-pin")
	bring := func(pin string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(pin+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		g.open() // a start of the program
		g.pin.takeCard(file)
	}
	g.pin.takeCard(file)
	if g.pin.PINSet() || g.log.Len() > 0 {
		t.Errorf("no card, and a PIN: %s", &g.log)
	}
	bring("123456")
	if g.pin.PINSet() {
		t.Error("a weak one is taken")
	}
	bring("3092-kiosk")
	if err := g.pin.CheckPIN("3092-kiosk"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.pin.change("3092-kiosk", "4711-other"); err != nil {
		t.Fatal(err)
	}
	bring("3092-kiosk") // it is still where the card put it
	if err := g.pin.CheckPIN("4711-other"); err != nil {
		t.Errorf("the card's PIN is back after a restart: %v", err)
	}
	// Forgotten, and locked: another card opens it.
	g.pin.file.Wrong = adminTries
	if err := g.pin.write(g.pin.file); err != nil {
		t.Fatal(err)
	}
	bring("by-a-new-card")
	if err := g.pin.CheckPIN("by-a-new-card"); err != nil {
		t.Errorf("the new card's: %v", err)
	}
	b, err := os.ReadFile(adminPath(g.dir))
	if err != nil || bytes.Contains(b, []byte("card-")) || strings.Contains(g.log.String(), "3092") || strings.Contains(g.log.String(), "by-a-new") {
		t.Errorf("%s\n%s %v", b, &g.log, err)
	}
}

func TestCountThatCannotBeWrittenLetsNoPINBeLookedAt(t *testing.T) {
	g := newStrongroom(t)
	g.cheap(t)
	g.pin.dir = filepath.Join(g.dir, "gone")
	if err := g.pin.CheckPIN("3092-kiosk"); err == nil || errors.Is(err, web.ErrWrongPIN) {
		t.Errorf("%v", err)
	}
}

func TestPINIsReadWithoutBeingShown(t *testing.T) {
	for in, want := range map[string]string{"3092-kiosk\nrest": "3092-kiosk", "ab\x7fc\x15x\x08yz\r": "yz", "3092\x03": "!", "309": "!", "\x04": "!"} {
		got, err := readHidden(strings.NewReader(in))
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestCertificateIsMadeHereAndRenewedBeforeItEnds(t *testing.T) {
	dir := t.TempDir()
	now := punch.Stamp{Wall: time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC), Clock: punch.Unset}
	var log bytes.Buffer
	open := func() *adminCert {
		return newAdminCert(dir, "tpe-1f-lobby", func() punch.Stamp { return now }, slog.New(slog.NewTextHandler(&log, nil)))
	}
	c := open()
	if _, err := c.get(); err == nil || c.fingerprint() != "" {
		t.Fatal("a certificate out of nothing")
	}
	sums := map[string]string{}
	step := func(what string, at time.Time, state punch.ClockState, renewed bool) *x509.Certificate {
		t.Helper()
		now.Wall, now.Clock = at, state
		was := c.fingerprint()
		if err := c.ensure(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := c.fingerprint(); (got != was) != renewed || !regexp.MustCompile(`^([0-9A-F]{2}:){31}[0-9A-F]{2}$`).MatchString(got) {
			t.Errorf("%s: %s, was %s", what, got, was)
		}
		sums[c.fingerprint()] = what
		c = open() // it is on the medium
		held, err := c.get()
		if err != nil {
			t.Fatal(err)
		}
		return held.Leaf
	}
	// No clock: one that holds whatever time it is at the phone.
	leaf := step("without a clock", now.Wall, punch.Unset, true)
	for _, at := range []int{2001, 2026, 2049} {
		if when := time.Date(at, 6, 1, 0, 0, 0, 0, time.UTC); when.Before(leaf.NotBefore) || when.After(leaf.NotAfter) {
			t.Errorf("it does not hold in %d", at)
		}
	}
	step("still without", now.Wall.Add(time.Hour), punch.Unset, false)
	today := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	leaf = step("the time is known", today, punch.Synced, true)
	if leaf.NotAfter.Sub(leaf.NotBefore) > 825*24*time.Hour || !leaf.NotBefore.Before(today.Add(-24*time.Hour)) || leaf.NotAfter.Before(today.AddDate(2, 0, 0)) {
		t.Errorf("from %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
	if leaf.PublicKeyAlgorithm != x509.ECDSA || leaf.VerifyHostname("tpe-1f-lobby") != nil || leaf.IsCA {
		t.Errorf("%v %v", leaf.PublicKeyAlgorithm, leaf.DNSNames)
	}
	step("a year later", today.AddDate(1, 0, 0), punch.Holdover, false)
	step("the clock forgotten", time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), punch.Unset, false)
	step("two months before its end", leaf.NotAfter.AddDate(0, -2, 0), punch.Synced, false)
	step("before its end", leaf.NotAfter.AddDate(0, 0, -29), punch.Synced, true)
	step("made in a future that was none", today, punch.Synced, true)
	if len(sums) != 4 {
		t.Errorf("%d certificates", len(sums))
	}
	if b, _ := os.ReadFile(certPath(dir)); strings.Contains(log.String(), "PRIVATE") || !bytes.Contains(b, []byte("PRIVATE")) {
		t.Error("the key is in the log, or not in the file")
	}
	if st, _ := os.Stat(certPath(dir)); st.Mode().Perm() != 0o600 {
		t.Errorf("%v", st.Mode())
	}
	if err := os.WriteFile(certPath(dir), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = open()
	step("a damaged file", today, punch.Synced, true)
}

func TestSamplesKeepADayAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSamples([]string{"104", "feishu"})
		now := time.Now()
		s.seed([]punch.Punch{
			{Draft: punch.Draft{Stamp: punch.Stamp{Wall: now.Add(-23 * time.Hour), Clock: punch.Synced}}},
			{Draft: punch.Draft{Stamp: punch.Stamp{Wall: now.Add(-25 * time.Hour), Clock: punch.Synced}}},
			{Draft: punch.Draft{Stamp: punch.Stamp{Wall: now.Add(-time.Minute), Clock: punch.Unset}}},
			{Draft: punch.Draft{Stamp: punch.Stamp{Wall: now.Add(time.Hour), Clock: punch.Synced}}},
		})
		sum := func(fn func(slot) int) (n int) {
			_, all := s.day()
			if len(all) != 288 {
				t.Fatalf("%d slots", len(all))
			}
			for _, x := range all {
				n += fn(x)
			}
			return n
		}
		punches := func(x slot) int { return x.punches }
		if n := sum(punches); n != 1 {
			t.Errorf("%d punches from before", n)
		}
		s.commit(3*time.Millisecond, 2)
		s.commit(9*time.Millisecond, 1)
		s.call("feishu", 80*time.Millisecond)
		s.call("nobody", time.Hour)
		_, all := s.day()
		if x := all[287]; x.punches != 3 || x.commits.n != 2 || x.commits.max != 9*time.Millisecond || x.commits.sum != 12*time.Millisecond || x.calls[1].max != 80*time.Millisecond || x.calls[0].n != 0 {
			t.Errorf("now: %+v", x)
		}
		time.Sleep(12 * time.Hour)
		if n := sum(punches); n != 3 {
			t.Errorf("after twelve hours: %d", n)
		}
		s.commit(time.Millisecond, 5)
		time.Sleep(12 * time.Hour)
		if n := sum(punches); n != 5 {
			t.Errorf("after a day: %d", n)
		}
		time.Sleep(100 * 24 * time.Hour)
		if n := sum(punches) + sum(func(x slot) int { return x.commits.n }); n != 0 {
			t.Errorf("after months: %d", n)
		}
		from, _ := s.day()
		if age := time.Since(from); age > 24*time.Hour || age < 24*time.Hour-slotLong {
			t.Errorf("the first slot is %v old", age)
		}
	})
}

// guest is a browser at the real program, as far as cookies and forms go.
type guest struct {
	*http.Client
	t  *testing.T
	at string
}

func (g guest) ask(method, path string, form url.Values) (int, string) {
	g.t.Helper()
	req, _ := http.NewRequest(method, g.at+path, strings.NewReader(form.Encode()))
	if method == "POST" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := g.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

var csrfValue = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// post sends a form that the page at path has.
func (g guest) post(path, to string, form url.Values) (int, string) {
	g.t.Helper()
	_, page := g.ask("GET", path, nil)
	m := csrfValue.FindStringSubmatch(page)
	if m == nil {
		g.t.Fatalf("no form at %s: %s", path, page)
	}
	form.Set("csrf", m[1])
	return g.ask("POST", to, form)
}

func TestAdminVerbsSetThePINUnlockAndShowTheCertificate(t *testing.T) {
	h := newHouse(t, settings{})
	verb := func(in string, args ...string) (string, int) {
		t.Helper()
		return h.runIn(in, append([]string{"admin", "--config", h.config}, args...)...)
	}
	// Without a daemon, on the files; then beside it.
	if out, code := verb("", "show"); code != 0 || !strings.Contains(out, "no PIN yet") {
		t.Errorf("%d %s", code, out)
	}
	if out, code := verb("12\n", "pin"); code != exitUsage || !strings.Contains(out, "short") {
		t.Errorf("a short PIN: %d %s", code, out)
	}
	if out, code := verb("3092-kiosk\n", "pin"); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	h.openClouds()
	h.start()
	jar, _ := cookiejar.New(nil)
	g := guest{&http.Client{Jar: jar}, t, "http://" + h.page}
	login := func(pin string) int {
		code, _ := g.post("/admin/login", "/admin/login", url.Values{"pin": {pin}})
		return code
	}
	if code := login("3092-kiosk"); code != 200 {
		t.Fatalf("the PIN of the verb: %d", code)
	}
	if code, page := g.ask("GET", "/admin/now", nil); code != 200 || !strings.Contains(page, "front") {
		t.Errorf("inside: %d", code)
	}
	if out, code := verb("4711-other\n", "pin", "--json"); code != 0 || !strings.Contains(out, `"set": true`) {
		t.Fatalf("%d %s", code, out)
	}
	if _, page := g.ask("GET", "/admin/now", nil); !strings.Contains(page, `name="pin"`) {
		t.Error("a session of the old PIN lives on")
	}
	for range triesFree {
		if code := login("wrong-wrong"); code != http.StatusForbidden {
			t.Errorf("a wrong PIN: %d", code)
		}
	}
	if code := login("4711-other"); code != http.StatusTooManyRequests {
		t.Errorf("after five wrong ones: %d", code)
	}
	var s adminStatus
	if out, _ := verb("", "show", "--json"); json.Unmarshal([]byte(out), &s) != nil || !s.PINSet || s.Locked || s.Wrong != 5 {
		t.Errorf("%s", out)
	}
	if out, code := verb("", "unlock"); code != 0 || !strings.Contains(out, "unlocked") {
		t.Errorf("%d %s", code, out)
	}
	if code := login("4711-other"); code != 200 {
		t.Errorf("unlocked: %d", code)
	}
	for _, secret := range []string{"3092", "4711-other", "wrong-wrong"} {
		if strings.Contains(h.logged(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	h.stop()
}

// From another machine the page is behind TLS, with a certificate of the device whose
// fingerprint the clock tells at the door. The other machine is an address of this one
// that is not loopback.
func TestAdminPageFromElsewhereNeedsTLSAndShowsWhoseItIs(t *testing.T) {
	ip := ""
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			ip = n.IP.String()
		}
	}
	if ip == "" {
		t.Skip("NOT RUN: this machine has no address but loopback")
	}
	h := newHouse(t, settings{})
	_, port, _ := net.SplitHostPort(h.page)
	b, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write("punchclock.toml", strings.NewReplacer("[kiosk]\n", "[kiosk]\nallow_remote = true\n", h.page, "0.0.0.0:"+port).Replace(string(b)))
	if out, code := h.runIn("3092-kiosk\n", "admin", "pin", "--config", h.config); code != 0 {
		t.Fatal(out)
	}
	h.openClouds()
	h.start()
	var s adminStatus
	h.until(10*time.Second, "there is a certificate", func() bool {
		out, _ := h.run("admin", "show", "--json", "--config", h.config)
		return json.Unmarshal([]byte(out), &s) == nil && s.Fingerprint != ""
	})
	jar, _ := cookiejar.New(nil)
	seen := ""
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(c tls.ConnectionState) error {
			seen = fingerprintOf(&tls.Certificate{Certificate: [][]byte{c.PeerCertificates[0].Raw}})
			return nil
		}}}}
	far := ip + ":" + port
	plain, secure := guest{client, t, "http://" + far}, guest{client, t, "https://" + far}
	resp, err := client.Get("http://" + far + "/admin")
	if err != nil || resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "https://"+far+"/admin" {
		t.Fatalf("in the clear: %v %v", resp, err)
	}
	resp.Body.Close()
	if code, _ := plain.ask("POST", "/admin/login", url.Values{"pin": {"3092-kiosk"}}); code != http.StatusForbidden {
		t.Errorf("a PIN in the clear: %d", code)
	}
	if code, _ := secure.post("/admin/login", "/admin/login", url.Values{"pin": {"3092-kiosk"}}); code != http.StatusSeeOther {
		t.Fatalf("login: %d", code)
	}
	if code, page := secure.ask("GET", "/admin/now", nil); code != 200 || !strings.Contains(page, s.Fingerprint) {
		t.Errorf("inside: %d", code)
	}
	if seen != s.Fingerprint {
		t.Errorf("the handshake shows %s, the verb %s", seen, s.Fingerprint)
	}
	// The cookie is for TLS only, and the kiosk page is there both ways.
	if code, _ := plain.ask("GET", "/admin/now", nil); code != http.StatusFound {
		t.Errorf("with the cookie in the clear: %d", code)
	}
	for _, g := range []guest{plain, secure} {
		if code, page := g.ask("GET", "/status", nil); code != 200 || !strings.Contains(page, s.Fingerprint) || !strings.Contains(page, "https://"+far+"/admin") {
			t.Errorf("%s/status: %d without the fingerprint", g.at, code)
		}
	}
	h.stop()
}

// runIn runs a verb that reads.
func (h *house) runIn(in string, args ...string) (string, int) {
	h.t.Helper()
	bin, err := binary()
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
