package main

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// post sends JSON to the page's interface as a script would.
func (h *house) post(path, body string) (int, string) {
	h.t.Helper()
	resp, err := http.Post("http://"+h.page+path, "application/json", strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestNumberAndPINPunchWithoutABadge(t *testing.T) {
	h := newHouse(t, settings{})
	h.write("roster.csv", "employee_no,name,badges,pin\n000001,員工1,"+h.people[0].badge()+",4711\n000002,員工2,,0815\n")
	if out, code := h.run("roster", "import", "--config", h.config, filepath.Join(h.dir, "roster.csv")); code != 0 {
		t.Fatal(out)
	}
	h.openClouds()
	h.start()
	if code, body := h.post("/api/kind", `{"kind":"go-out"}`); code/100 != 2 {
		t.Errorf("kind: %d %s", code, body)
	}
	code, body := h.post("/api/pin", `{"employee_no":"000002","pin":"0815"}`)
	var r result
	if err := json.Unmarshal([]byte(body), &r); err != nil || code != http.StatusOK || r.Outcome != "stored" || r.Kind != "go-out" || r.Employee != "000002" || r.PunchID == "" {
		t.Errorf("pin: %d %s", code, body)
	}
	if ev := h.answer(); ev.PunchID != r.PunchID {
		t.Errorf("the event says %+v", ev)
	}
	for i := range 5 {
		if code, body := h.post("/api/pin", `{"employee_no":"000001","pin":"0000"}`); code != http.StatusForbidden {
			t.Errorf("wrong PIN %d: %d %s", i, code, body)
		}
	}
	if code, _ := h.post("/api/pin", `{"employee_no":"000001","pin":"4711"}`); code != http.StatusTooManyRequests {
		t.Errorf("the right PIN after five wrong ones: %d", code)
	}
	h.stop()
	h.start()
	if code, _ := h.post("/api/pin", `{"employee_no":"000001","pin":"4711"}`); code != http.StatusTooManyRequests {
		t.Errorf("the right PIN after five wrong ones and a restart: %d", code)
	}
	// Another person is not locked out by it.
	if code, body := h.post("/api/pin", `{"employee_no":"000002","pin":"0815"}`); code != http.StatusOK || !strings.Contains(body, `"duplicate"`) {
		t.Errorf("the second tap of the first person: %d %s", code, body)
	}
	for path, body := range map[string]string{"/api/kind": `{"kind":"lunch"}`, "/api/pin": `{"employee_no":"000001"`, "/api/status": `{}`} {
		if code, _ := h.post(path, body); code < 400 {
			t.Errorf("POST %s %s: %d", path, body, code)
		}
	}
	req, _ := http.NewRequest("GET", "http://"+h.page+"/api/status", nil)
	req.Host = "evil.example"
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign Host: %v %v", resp, err)
	}
	h.delivered(1e10)
	if l := h.fs.Ledger(); len(l) != 1 || l[0].Flow.UserID != "000002" || l[0].Flow.Comment != "外出" {
		t.Errorf("Feishu: %+v", l)
	}
	h.stop()
}
