package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/device/devicetest"
	"punchclock/sync/sandbox"
)

// What a machine tells of itself is read by people who have no business with who works
// here, who is about to, or how new cards are let in.
func TestNoResumeAndNoMasterPINIsInLogsMetricsOrBundle(t *testing.T) {
	var resumes []sandbox.Resume
	now := time.Now().In(defaultConfig().Device.Timezone)
	for back := range 3 { // the walk begins with the last whole hour, whichever that is here
		at := now.Add(time.Duration(-back) * time.Hour)
		resumes = append(resumes, sandbox.Resume{ID: fmt.Sprintf("77300%d", back), Name: fmt.Sprintf("金絲雀%d", back), Date: at.Format(time.DateOnly), Hour: at.Hour(), Photo: true})
	}
	far := sandbox.NewResumes(sandbox.ResumeConfig{Resumes: resumes})
	id, secret := far.Credentials()
	var mu sync.Mutex
	var sent []string // what the far side said about people
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		far.ServeHTTP(rec, r)
		mu.Lock()
		sent = append(sent, rec.Body.String())
		mu.Unlock()
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
	}))
	defer srv.Close()
	h := newHouse(t, settings{kiosk: "portraits = true", extra: fmt.Sprintf(`[candidates]
client_id = %q
client_secret_file = "resume-secret"
company = %q
api_base = %q
token_url = %q
`, id, far.Company(), srv.URL+sandbox.ResumeBase, srv.URL+"/oauth2/token")})
	h.write("resume-secret", secret+"\n")
	h.openClouds()
	h.start()
	var list candidateList
	h.until(60*time.Second, "somebody is about to start, with a portrait", func() bool {
		out := h.must("candidates", "ls", "--json")
		return json.Unmarshal([]byte(out), &list) == nil && len(list.Pending) > 0 && list.Pending[0].Portrait
	})
	hired := list.Pending[0]
	h.must("candidates", "hire", hired.ID, "--employee-no", "000777", "--badge", "em:77AA55CC33")

	const pin = "90731846"
	master, fresh := person{card: [5]byte{0x77, 0xAA, 0x55, 0xCC, 0x44}}, person{card: [5]byte{0x77, 0xAA, 0x55, 0xCC, 0x55}}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"12x" + pin, pin} { // one that is refused, with an answer in words
		cmd := exec.Command(bin, "enrol", "master", master.badge(), "--config", h.config)
		cmd.Stdin = strings.NewReader(p + "\n")
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), pin) || (err == nil) != (p == pin) {
			t.Fatalf("enrol master: %v, %s", err, out)
		}
	}
	folder := filepath.Join(h.dir, "state", portraitFolder)
	files, err := filepath.Glob(filepath.Join(folder, "e+000777+*.jpg"))
	if err != nil || len(files) != 1 {
		t.Fatalf("portraits: %q %v", files, err)
	}
	portrait, err := os.ReadFile(files[0])
	if err != nil || len(portrait) < 1000 {
		t.Fatalf("%d bytes, %v", len(portrait), err)
	}
	first := h.tap(person{card: [5]byte{0x77, 0xAA, 0x55, 0xCC, 0x33}}) // the new one's first day
	if first.Outcome != "stored" || !strings.HasPrefix(first.Portrait, "/portrait/") || !bytes.Equal(h.get(first.Portrait), portrait) {
		t.Errorf("the portrait is not shown with %+v", first)
	}
	if r := h.tap(h.people[0]); r.Portrait != "" {
		t.Errorf("somebody without one has the portrait %q", r.Portrait)
	}
	own := filepath.Join(h.dir, "own.png")
	h.write("own.png", string(asPNG(t, painting(300, 400))))
	for _, verb := range []struct{ args, want string }{
		{"--set " + own, "there is a portrait"}, {"", "there is a portrait"}, {"--delete", "there is no portrait"}, {"", "there is no portrait"}, {"--set " + own, "there is a portrait"},
	} {
		if out := h.must(append([]string{"people", "portrait", h.people[0].number}, strings.Fields(verb.args)...)...); !strings.Contains(out, verb.want) {
			t.Errorf("people portrait %s: %s", verb.args, out)
		}
	}
	if out, code := h.run("people", "portrait", h.people[0].number, "--set", h.config, "--config", h.config); code == 0 || !strings.Contains(out, "no JPEG or PNG") {
		t.Errorf("a configuration as portrait: %d %s", code, out)
	}
	h.tap(master)
	if code, body := h.post("/api/pin", fmt.Sprintf(`{"employee_no":"000777","pin":%q}`, pin)); strings.Contains(body, pin) {
		t.Errorf("the page repeats the PIN: %d %s", code, body)
	}
	h.send(devicetest.RDM6300(fresh.card))
	h.until(10*time.Second, "the master card and its PIN have let a card in", func() bool {
		return strings.Contains(h.must("roster", "ls"), fresh.badge())
	})

	secrets := []string{pin, hired.Name, "canary-gender", "canary@example.com", "0900-canary", "canary-road", "canary-job", "canary-title", "canary.pdf", "77AA55CC", "77aa55cc"}
	// Of the picture, as it is and as text may carry it.
	middle := portrait[len(portrait)/2:][:60]
	picture := []string{string(middle[:20]), "canary-place", hex.EncodeToString(middle[:16])}
	for i := range 3 { // base64 has three ways to begin
		picture = append(picture, base64.StdEncoding.EncodeToString(middle[i:])[:40])
	}
	secrets = append(secrets, picture...)
	mu.Lock()
	said := strings.Join(sent, "")
	mu.Unlock()
	if !strings.Contains(said, "0900-canary") || !strings.Contains(said, "canary@example.com") || !strings.Contains(hired.Name, "金絲雀") {
		t.Fatalf("no résumé was read: this test proves nothing: %+v", hired)
	}
	looked := 0
	look := func(where, text string) {
		looked++
		for _, s := range append(secrets, hired.ID) {
			if strings.Contains(text, s) {
				t.Errorf("%q is in %s", s, where)
			}
		}
	}
	bundle := filepath.Join(h.dir, "bundle.tar.gz")
	for _, verb := range [][]string{{"doctor", "--json"}, {"status", "--json"}, {"support-bundle", "--plain", "--output", bundle}, {"verify"}, {"queue", "ls"}} {
		out, _ := h.run(append(verb, "--config", h.config)...)
		look("punchclock "+strings.Join(verb, " "), out)
	}
	for _, path := range []string{"/metrics", "/api/status", "/status"} {
		look(path, string(h.get(path)))
	}
	for name, text := range opened(t, bundle, nil) {
		look("the bundle's "+name, text)
	}
	export := h.must("punches", "export")
	for _, s := range append(picture, "/portrait", hired.Name) {
		if strings.Contains(export, s) {
			t.Errorf("%q is in the export", s)
		}
	}
	err = filepath.WalkDir(filepath.Join(h.dir, "state"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Dir(path) == folder {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, middle) || bytes.Contains(b, []byte("canary-place")) {
			t.Errorf("the portrait is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	h.delivered(20 * time.Second)
	if out := h.must("people", "forget", "000777", "--force"); !strings.Contains(out, "so is the portrait") {
		t.Errorf("forget: %s", out)
	}
	if left, err := filepath.Glob(filepath.Join(folder, "e+*")); err != nil || len(left) != 1 || !strings.Contains(left[0], h.people[0].number) {
		t.Errorf("after that there are %q %v", left, err)
	}
	h.stop()
	look("the log", h.logged())
	if !strings.Contains(h.logged(), "résumés read") || looked < 12 {
		t.Errorf("%d places, and the log is\n%s", looked, h.logged())
	}
}
