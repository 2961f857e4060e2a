package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// shown is what the tests read of a screen event.
type shown struct {
	Mine *struct {
		Employee string `json:"employee_no"`
		Listed   bool
		Punches  []struct {
			PunchID    string `json:"punch_id"`
			Kind       string
			Superseded bool
			Places     []struct{ Name, State string }
		}
		Fix     string
		FixKind string `json:"fix_kind"`
	}
}

// screens hears the screen events of the page.
func (h *house) screens() <-chan shown {
	h.t.Helper()
	resp, err := http.Get("http://" + h.page + "/events")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { resp.Body.Close() })
	out := make(chan shown, 1000)
	go func() {
		screen := false
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && screen {
				var s shown
				if json.Unmarshal([]byte(data), &s) == nil {
					out <- s
				}
			}
			screen = lines.Text() == "event: screen" || screen && lines.Text() != ""
		}
	}()
	return out
}

// again taps a second time and returns what the person then sees of their own.
func (h *house) again(p person, screens <-chan shown) shown {
	h.t.Helper()
	h.send([]byte("\x02")) // the line was silent between: a new presentation
	time.Sleep(900 * time.Millisecond)
	if r := h.tap(p); r.Outcome != "duplicate" {
		h.t.Fatalf("second tap %+v", r)
	}
	for end := time.After(5 * time.Second); ; {
		select {
		case s := <-screens:
			if s.Mine != nil && s.Mine.Listed {
				return s
			}
		case <-end:
			h.t.Fatal("the person's own punches were never shown")
		}
	}
}

func TestWrongKindIsCorrectedAndEachDestinationGetsTheCorrectionOnce(t *testing.T) {
	h := newHouse(t, settings{})
	h.start() // no clouds yet: nothing leaves
	screens := h.screens()
	p, q := h.people[0], h.people[1]
	h.post("/api/kind", `{"kind":"out"}`)
	wrong := h.tap(p)
	other := h.tap(q)
	if code, _ := h.post("/api/correct", `{"punch_id":"`+other.PunchID+`","kind":"in"}`); code != http.StatusConflict {
		t.Errorf("a correction that nobody at the door asked for: %d", code)
	}
	m := h.again(p, screens).Mine
	if m.Employee != p.number || len(m.Punches) != 1 || m.Fix != wrong.PunchID || m.FixKind != "out" || m.Punches[0].PunchID != wrong.PunchID ||
		len(m.Punches[0].Places) != 2 || m.Punches[0].Places[0].Name != "104" || m.Punches[0].Places[0].State != "pending" {
		t.Fatalf("own punches: %+v", m)
	}
	code, body := h.post("/api/correct", `{"punch_id":"`+m.Fix+`","kind":"go-out"}`)
	var fixed struct {
		result
		Supersedes string
	}
	if err := json.Unmarshal([]byte(body), &fixed); err != nil || code != http.StatusOK || fixed.Outcome != "stored" || fixed.Kind != "go-out" || fixed.Supersedes != wrong.PunchID || fixed.Time != wrong.Time {
		t.Fatalf("%d %s", code, body)
	}
	if ev := h.answer(); ev.PunchID != fixed.PunchID {
		t.Errorf("the event says %+v", ev)
	}
	h.openClouds()
	h.delivered(20 * time.Second)
	// Never left as it was: the correction went in its place, with the time of the tap.
	if l := h.fs.Ledger(); len(l) != 2 || l[0].Flow.IdempotentID != other.PunchID || l[1].Flow.IdempotentID != fixed.PunchID || l[1].Flow.Comment != "外出" {
		t.Errorf("Feishu: %+v", l)
	}
	if l := h.tc.Ledger(); len(l) != 2 {
		t.Errorf("104: %+v", l)
	}

	// The other one has left: its correction is a punch of its own, and the export tells.
	m = h.again(q, screens).Mine
	if m.Fix != other.PunchID || m.Punches[0].Places[1].State != "delivered" {
		t.Fatalf("own punches: %+v", m)
	}
	if code, body := h.post("/api/correct", `{"punch_id":"`+m.Fix+`","kind":"return"}`); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	late := h.answer()
	h.delivered(20 * time.Second)
	if l := h.fs.Ledger(); len(l) != 3 || l[2].Flow.IdempotentID != late.PunchID || l[2].Flow.CheckTime != l[0].Flow.CheckTime {
		t.Errorf("Feishu: %+v", l)
	}
	out, code := h.run("punches", "export", "--config", h.config)
	if code != 0 {
		t.Fatal(out)
	}
	rows := map[string]exportRow{}
	for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
		var r exportRow
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		rows[r.ID] = r
	}
	if r := rows[wrong.PunchID]; r.Kind != "out" || r.Deliveries["104"].State != "skipped" || r.Deliveries["104"].Reason != "superseded" {
		t.Errorf("the corrected one: %+v", r)
	}
	if r := rows[fixed.PunchID]; r.Supersedes != wrong.Seq || r.Deliveries["104"].State != "delivered" {
		t.Errorf("its correction: %+v", r)
	}
	if r, s := rows[other.PunchID], rows[late.PunchID]; r.Deliveries["feishu"].State != "delivered" || s.Supersedes != other.Seq || s.Deliveries["feishu"].State != "delivered" {
		t.Errorf("the one that had left: %+v %+v", r, s)
	}
	if m := h.again(p, screens).Mine; len(m.Punches) != 2 || m.Punches[0].PunchID != fixed.PunchID || m.Punches[0].Superseded || !m.Punches[1].Superseded {
		t.Errorf("own punches: %+v", m)
	}
	if out, code := h.run("verify", "--config", h.config); code != 0 {
		t.Errorf("verify: %s", out)
	}
	h.stop()
}
