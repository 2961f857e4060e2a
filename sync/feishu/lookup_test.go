package feishu

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/sync/drain/draintest"
	"punchclock/sync/sandbox"
)

// withContacts gives the desk's people numbers and addresses: P1 +886900000001 …
func withContacts(d *desk) {
	var people []sandbox.Person
	for i, n := range []string{"P1", "P2", "P3", "P4"} {
		people = append(people, sandbox.Person{Number: n, FeishuID: "ou-" + n, Mobile: fmt.Sprintf("+88690000000%d", i+1), Email: strings.ToLower(n) + "@example.com"})
	}
	people[3].Resigned = true
	people = append(people, sandbox.Person{Number: "P5", FeishuID: "ou-P5", Mobile: "13800000005"})
	d.cloud.SetPeople(people, false)
}

func TestIDsAreFoundByMobileAndByEmail(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		withContacts(d)
		found, err := d.client.LookUp(d.t.Context(), []Contact{
			{Mobile: "+886900000001"}, {Email: "P2@Example.com"} /* answered for the last one's */, {Mobile: "+886900000003", Email: "p3@example.com"},
			{Mobile: "+886900000009"}, {Mobile: "+886900000009", Email: "p1@example.com"}, {}, {Mobile: "+886900000001", Email: "p2@example.com"},
			{Mobile: "+886900000004"}, {Mobile: "13800000005"},
		})
		want := []Found{{ID: "ou-P1"}, {ID: "ou-P2"}, {ID: "ou-P3"}, {}, {ID: "ou-P1"}, {}, {Conflict: true}, {}, {ID: "ou-P5"}}
		if !slices.Equal(found, want) || err != nil {
			t.Errorf("%+v, %v; want %+v", found, err, want)
		}
		if d.calls() != 1 || !strings.HasSuffix(d.urls[0], "/open-apis/contact/v3/users/batch_get_id?user_id_type=user_id") {
			t.Errorf("%q", d.urls)
		}
	})
}

func TestThousandContactsAreFiftyACallUnderTheCeiling(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		var people []sandbox.Person
		var contacts []Contact
		for i := range 1020 {
			m := fmt.Sprintf("+8869%08d", i)
			people = append(people, sandbox.Person{Number: fmt.Sprint(i), FeishuID: fmt.Sprint("ou-", i), Mobile: m})
			contacts = append(contacts, Contact{Mobile: m, Email: fmt.Sprintf("x%d@example.com", i)})
		}
		d.cloud.SetPeople(people, false)
		found, err := d.client.LookUp(d.t.Context(), contacts)
		if err != nil || len(found) != len(contacts) || d.calls() != 21 {
			t.Fatalf("%d found in %d calls, %v", len(found), d.calls(), err)
		}
		for i, f := range found {
			if f.ID != fmt.Sprint("ou-", i) {
				t.Fatalf("%d: %+v", i, f)
			}
		}
		if n := d.cloud.Counters().WorstSecond; n > 10 {
			t.Errorf("%d calls in one second", n)
		}
	})
}

// The rows of the gateway's table, for this call.
func TestALookUpThatIsRefusedTellsWhyAndWhatWasFoundBefore(t *testing.T) {
	var contacts []Contact
	for i := range 60 {
		contacts = append(contacts, Contact{Mobile: fmt.Sprintf("+8869%08d", i+1), Email: "p1@example.com"})
	}
	for _, c := range []struct {
		name  string
		fault func(*sandbox.FeishuFaults)
		want  string
		words string
	}{
		{"99991672 scope", func(f *sandbox.FeishuFaults) { f.ScopeMissing = "contact:user.id:readonly" }, "denied:misconfigured", "contact:user.id:readonly"},
		{"99991401 ip", func(f *sandbox.FeishuFaults) { f.IPRefused = true }, "denied:misconfigured", "ip_not_allowed"},
		{"99991403 quota", func(f *sandbox.FeishuFaults) { f.QuotaExceeded = true }, "denied:misconfigured", "quota"},
		{"99991400 limit", func(f *sandbox.FeishuFaults) { f.LimitNext, f.RateReset = -1, 7 }, "busy:7s", ""},
		{"404 path", func(f *sandbox.FeishuFaults) { f.FailNext, f.FailStatus = -1, 404 }, "denied:misconfigured", "base_url"},
		{"500", func(f *sandbox.FeishuFaults) { f.FailNext, f.FailStatus = -1, 500 }, "outage", ""},
		{"portal", func(f *sandbox.FeishuFaults) { f.HTMLNext = -1 }, "outage", ""},
		{"1225000 system error", func(f *sandbox.FeishuFaults) {
			f.AnswerNext, f.Answer = -1, sandbox.Refusal{Status: 500, Code: 1225000}
		}, "outage", "system error"},
		{"down", func(f *sandbox.FeishuFaults) { f.Down = true }, "outage", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			onDesk(t, nil, func(d *desk) {
				withContacts(d)
				if _, err := d.client.LookUp(d.t.Context(), contacts[:1]); err != nil { // a token is there
					t.Fatal(err)
				}
				d.faults(c.fault)
				found, err := d.client.LookUp(d.t.Context(), contacts)
				if len(found) != 0 || draintest.KindOf(err) != c.want || !strings.Contains(err.Error(), c.words) {
					t.Errorf("%v, %v", found, err)
				}
				if err != nil && (strings.Contains(err.Error(), "+886") || strings.Contains(err.Error(), "@")) || strings.Contains(d.logs.String(), "+886") || strings.Contains(d.logs.String(), "@") {
					t.Errorf("somebody's number or address: %v\n%s", err, d.logs.String())
				}
			})
		})
	}
	// The second call fails: the first fifty are known.
	onDesk(t, nil, func(d *desk) {
		withContacts(d)
		d.faults(func(f *sandbox.FeishuFaults) { f.RevokeAfter = 1 })
		if found, err := d.client.LookUp(d.t.Context(), contacts); err != nil || len(found) != 60 || d.calls() != 3 {
			t.Errorf("a refused token is replaced once: %d, %v, %d calls", len(found), err, d.calls())
		}
		d.faults(func(f *sandbox.FeishuFaults) { f.RevokeAfter = 0 })
		ctx, cancel := context.WithCancel(d.t.Context())
		old := d.client.cfg.HTTP.Transport
		n := 0
		d.client.cfg.HTTP.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if n++; n == 2 {
				cancel()
			}
			return old.RoundTrip(r)
		})
		if found, err := d.client.LookUp(ctx, contacts); err == nil || len(found) != 50 || found[0].ID != "ou-P1" {
			t.Errorf("%d, %v", len(found), err)
		}
	})
}

func TestOneWrongAddressDoesNotHideTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t, secret: "s"}
		d.client = d.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			switch {
			case r.URL.Path == tokenPath:
				io.WriteString(w, `{"code":0,"tenant_access_token":"t-1","expire":7200}`)
			case strings.Contains(string(b), "company-mailbox"):
				w.WriteHeader(400)
				io.WriteString(w, `{"code":1220001,"msg":"param invalid"}`)
			default:
				io.WriteString(w, `{"code":0,"data":{"user_list":[{"email":"P1@example.com","user_id":"ou-P1"},{"email":"p3@example.com","user_id":"ou-P3","status":{"is_resigned":true}},{"email":"p4@example.com"}]}}`)
			}
		}), nil)
		time.Sleep(2 * time.Second)
		found, err := d.client.LookUp(d.t.Context(), []Contact{{Email: "p1@example.com"}, {Email: "company-mailbox@example.com"}, {Email: "p3@example.com"}, {Email: "p4@example.com"}})
		if want := []Found{{ID: "ou-P1"}, {}, {ID: "ou-P3", Resigned: true}, {}}; !slices.Equal(found, want) || err != nil {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

func FuzzIDs(f *testing.F) {
	f.Add([]byte(`{"code":0,"data":{"user_list":[{"user_id":"ou-1","mobile":"+886900000001","email":"a@b.c","status":{"is_resigned":false}}]}}`))
	f.Add([]byte(`{"data":{"user_list":null}}`))
	f.Add([]byte(`{"data":{"user_list":[{"user_id":5,"mobile":[]}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseIDs(b)
		for _, m := range []map[string]Found{got.mobile, got.email} {
			for k, v := range m {
				if err != nil || k == "" && v.ID == "" || v.ID == "" || v.ID != word(v.ID) {
					t.Errorf("%q: %+v", k, v)
				}
			}
		}
	})
}
