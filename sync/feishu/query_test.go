package feishu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/sandbox"
	"punchclock/sync/token"
)

// day is the one that punches made with begin fall on, in Taipei.
var day = time.Date(2025, 12, 23, 0, 0, 0, 0, begin.Location())

func numbers(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%06d", i+1))
	}
	return out
}

func (d *desk) held(who []string) []drain.Held {
	d.t.Helper()
	held, unasked, err := d.client.Held(d.t.Context(), who, day, day.AddDate(0, 0, 1))
	if err != nil || len(unasked) > 0 {
		d.t.Fatalf("unasked %q, %v", unasked, err)
	}
	return held
}

func TestWhatWasDeliveredIsReadBackWithItsIDAndSecond(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "A0001", "000123")
		d.want(ps, "accept accept")
		held := d.held([]string{"A0001", "000123", "119008"})
		if len(held) != 2 {
			t.Fatalf("%+v", held)
		}
		for i, h := range held {
			if h.Employee != ps[i].Employee || h.Key != string(ps[i].ID) || h.Receipt == "" || !h.Time.Equal(ps[i].Time().Truncate(time.Second)) {
				t.Errorf("%+v", h)
			}
		}
		if u := d.urls[len(d.urls)-1]; !strings.HasSuffix(u, "/user_flows/query?employee_type=employee_no&include_terminated_user=true") {
			t.Error(u)
		}
		if len(d.tokens) != 1 {
			t.Errorf("token calls: %q", d.tokens)
		}
	})
}

func TestReadingBackAsksForFiftyPeopleACall(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.cloud.SetPeople(nil, true)
		who := numbers(120)
		ps := draintest.Numbered(begin, who...)
		for len(ps) > 0 {
			d.want(ps[:40], strings.TrimSpace(strings.Repeat("accept ", 40)))
			ps = ps[40:]
		}
		before := d.calls()
		if held := d.held(who); len(held) != 120 {
			t.Errorf("%d held", len(held))
		}
		var sizes []int
		for _, b := range d.bodies[before:] {
			var q struct {
				Users []string `json:"user_ids"`
			}
			if err := json.Unmarshal(b, &q); err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, len(q.Users))
		}
		if !slices.Equal(sizes, []int{50, 50, 20}) {
			t.Errorf("asked for %v", sizes)
		}
	})
}

func TestADayReadBackIsHalfOpenAndInSecondsAsText(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "A0001", "A0001", "A0001", "A0001")
		for i, at := range []time.Time{day.Add(-time.Millisecond), day, day.AddDate(0, 0, 1).Add(-time.Millisecond), day.AddDate(0, 0, 1)} {
			ps[i].Stamp.Wall = at
		}
		d.want(ps, "accept accept accept accept")
		held := d.held([]string{"A0001"})
		if len(held) != 2 || held[0].Key != string(ps[1].ID) || held[1].Key != string(ps[2].ID) {
			t.Errorf("%+v", held)
		}
		want := `{"user_ids":["A0001"],"check_time_from":"1766419200","check_time_to":"1766505600"}`
		if got := string(d.bodies[len(d.bodies)-1]); got != want {
			t.Errorf("asked %s", got)
		}
	})
}

func TestReadingBackSpeaksOfEmployeeNumbersWhateverIDFeishuHas(t *testing.T) {
	onDesk(t, func(c *Config) {
		c.EmployeeType = EmployeeID
		c.People = func(n string, _ time.Time) (punch.Employee, bool) {
			if n != "A0001" {
				return punch.Employee{}, false
			}
			return punch.Employee{FeishuID: "ou-" + n}, true
		}
	}, func(d *desk) {
		d.want(draintest.Numbered(begin, "A0001"), "accept")
		held, unasked, err := d.client.Held(d.t.Context(), []string{"A0001", "stranger"}, day, day.AddDate(0, 0, 1))
		if err != nil || len(held) != 1 || held[0].Employee != "A0001" || !slices.Equal(unasked, []string{"stranger"}) {
			t.Errorf("%+v, unasked %q, %v", held, unasked, err)
		}
	})
}

// doctor answers queries in Feishu's place.
type doctor struct {
	next  http.Handler
	mu    sync.Mutex
	query func(users []string) string // "" lets Feishu answer
}

func (h *doctor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == queryPath {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		var q struct {
			Users []string `json:"user_ids"`
		}
		json.Unmarshal(b, &q)
		h.mu.Lock()
		answer := h.query(q.Users)
		h.mu.Unlock()
		if answer != "" {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			if strings.HasPrefix(answer, `{"code":1`) {
				w.WriteHeader(http.StatusBadRequest)
			}
			io.WriteString(w, answer)
			return
		}
	}
	h.next.ServeHTTP(w, r)
}

func TestSomebodyFeishuDoesNotKnowHidesNobodyElse(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1", "P2", "P3", "P4"), "accept accept accept accept")
		d.client = d.open(&doctor{next: d.cloud, query: func(users []string) string {
			if slices.Contains(users, "P3") {
				return `{"code":1220004,"msg":"user_id is not exist or does not have permission"}`
			}
			return ""
		}}, nil)
		held, unasked, err := d.client.Held(d.t.Context(), []string{"P1", "P2", "P3", "P4"}, day, day.AddDate(0, 0, 1))
		if err != nil || len(held) != 3 || !slices.Equal(unasked, []string{"P3"}) {
			t.Errorf("%+v, unasked %q, %v", held, unasked, err)
		}
	})
}

// An answer that cannot be read must never be taken for an empty one: everybody's
// punches would look lost.
func TestABrokenListIsAnErrorAndNotAnEmptyDay(t *testing.T) {
	for _, answer := range []string{
		`{"code":0,"msg":"success"}`,
		`{"code":0,"msg":"success","data":{}}`,
		`{"code":0,"msg":"success","data":{"user_flow_results":{}}}`,
		`{"code":0,"msg":"success","data":{"user_flow_results":[{"user_id":"P1"}]}}`,
		`{"code":0,"msg":"success","data":{"user_flow_results":[{"user_id":7,"check_time":"1766448000"}]}}`,
		`{"code":0,"msg":"success","data":{"user_flow_results":[{"user_id":"P1","check_time":"soon"}]}}`,
		`<html>welcome to the portal</html>`,
		`{"code":1220001,"msg":"param is invalid"}`,
	} {
		onDesk(t, nil, func(d *desk) {
			d.client = d.open(&doctor{next: d.cloud, query: func([]string) string { return answer }}, nil)
			held, unasked, err := d.client.Held(d.t.Context(), []string{"P1", "P2"}, day, day.AddDate(0, 0, 1))
			if err == nil || len(held) > 0 || len(unasked) != 2 {
				t.Errorf("%s: %+v, unasked %q, %v", answer, held, unasked, err)
			}
			if n := len(d.bodies); n != 1 {
				t.Errorf("%s: %d calls", answer, n)
			}
		})
	}
	if flows, err := parseFlows([]byte(`{"data":{"user_flow_results":null}}`)); err != nil || len(flows) > 0 {
		t.Errorf("null: %v, %v", flows, err)
	}
}

func TestAUsedUpQuotaStopsTheReadingAndTheSendingForAnHour(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.faults(func(f *sandbox.FeishuFaults) { f.QuotaExceeded = true })
		var denied *token.Denied
		held, unasked, err := d.client.Held(d.t.Context(), numbers(120), day, day.AddDate(0, 0, 1))
		if !errors.As(err, &denied) || len(held) > 0 || len(unasked) != 120 {
			t.Fatalf("%d held, %d unasked, %v", len(held), len(unasked), err)
		}
		if _, err := d.client.Send(d.t.Context(), draintest.Numbered(begin, "P2")); !errors.As(err, &denied) {
			t.Errorf("sending: %v", err)
		}
		if n := d.calls(); n != 2 {
			t.Errorf("%d calls, want the import and one query", n)
		}
		d.faults(func(f *sandbox.FeishuFaults) { f.QuotaExceeded = false })
		time.Sleep(quotaProbe + time.Second)
		if held := d.held([]string{"P1"}); len(held) != 1 {
			t.Errorf("%+v", held)
		}
	})
}

func TestReadingBackTellsHowLongFeishuWantsQuietAndWhatWasReadBefore(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.cloud.SetPeople(nil, true)
		who := numbers(60)
		d.want(draintest.Numbered(begin, who[0]), "accept")
		n := 0
		d.client = d.open(&doctor{next: d.cloud, query: func([]string) string {
			if n++; n == 2 {
				d.faults(func(f *sandbox.FeishuFaults) { f.LimitNext, f.RateReset = 1, 7 })
			}
			return ""
		}}, nil)
		var busy *drain.Busy
		held, unasked, err := d.client.Held(d.t.Context(), who, day, day.AddDate(0, 0, 1))
		if !errors.As(err, &busy) || busy.After != 7*time.Second || len(held) != 1 || len(unasked) != 10 {
			t.Errorf("%+v, unasked %d, %v", held, len(unasked), err)
		}
	})
}

func TestReadingBackReplacesARefusedTokenOnce(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.cloud.Revoke()
		if held := d.held([]string{"P1"}); len(held) != 1 {
			t.Errorf("%+v", held)
		}
		if !slices.Equal(d.tokens, []string{"ok", "ok"}) {
			t.Errorf("token calls: %q", d.tokens)
		}
	})
}

func TestReadingAndSendingAtOnce(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.client = d.open(d.cloud, func(c *Config) { // without the desk's books, which are for one goroutine
			c.HTTP = &http.Client{Transport: sandbox.Transport(d.cloud)}
			c.TokenObserve = nil
		})
		d.faults(func(f *sandbox.FeishuFaults) { f.RateLimit = 0 })
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 20 {
				d.client.Held(d.t.Context(), []string{"P1"}, day, day.AddDate(0, 0, 1))
			}
		})
		for range 20 {
			d.client.Send(d.t.Context(), draintest.Numbered(begin, "P1"))
		}
		wg.Wait()
		if n := len(d.cloud.Ledger()); n != 1 {
			t.Errorf("%d in the ledger", n)
		}
	})
}

func FuzzFlows(f *testing.F) {
	f.Add([]byte(`{"code":0,"data":{"user_flow_results":[{"user_id":"A0123","check_time":"1766448000","record_id":"67","external_id":"x","idempotent_id":"x"}]}}`))
	f.Add([]byte(`{"data":{"user_flow_results":null}}`))
	f.Add([]byte(`{"data":{"user_flow_results":[{"user_id":"A","check_time":1766448000}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		flows, err := parseFlows(b)
		if err != nil && len(flows) > 0 {
			t.Error("flows beside an error")
		}
		for _, v := range flows {
			if v.user == "" || v.seconds < 0 || v.seconds > maxCheckTime {
				t.Errorf("%+v", v)
			}
		}
	})
}
