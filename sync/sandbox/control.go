package sandbox

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
)

//go:embed control.html
var controlPage []byte

// Names of the clouds on the control page.
const (
	Name104    = "104"
	NameFeishu = "feishu"
)

// CardState is everything the control page tells about 104.
type CardState struct {
	Counters Counters           `json:"counters"`
	Faults   TransferCardFaults `json:"faults"`
	Ledger   []CardRecord       `json:"ledger"`
	Repeats  []CardRecord       `json:"repeats"`
	Calls    []Call             `json:"calls"`
}

// FlowState is everything the control page tells about Feishu.
type FlowState struct {
	Counters Counters     `json:"counters"`
	Faults   FeishuFaults `json:"faults"`
	Ledger   []FlowRecord `json:"ledger"`
	Repeats  []FlowRecord `json:"repeats"`
	Calls    []Call       `json:"calls"`
}

// State is the answer of the control page's state.
type State struct {
	TransferCard CardState `json:"104"`
	Feishu       FlowState `json:"feishu"`
}

// State returns all there is to tell, at one instant.
func (c *TransferCard) State() CardState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CardState{c.counters, clone(c.faults), append([]CardRecord{}, c.ledger...), append([]CardRecord{}, c.repeats...), c.callList()}
}

// State returns all there is to tell, at one instant.
func (f *Feishu) State() FlowState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return FlowState{f.counters, clone(f.faults), append([]FlowRecord{}, f.ledger...), append([]FlowRecord{}, f.repeats...), f.callList()}
}

// NewControl returns the control page of the two clouds. It serves these paths,
// so mount it below a prefix with http.StripPrefix:
//
//	GET  /          a page that shows both clouds live, with buttons for the common faults
//	GET  /state     [State] as JSON; ?last=N keeps the last N of each list
//	POST /faults    {"104":{…},"feishu":{…}}: changes the switches named, and only those; answers both
//	PATCH /faults   the same
//	POST /people    {"104":{"accept_any":false,"people":[{"employee_no":"000123"}]}}: replaces whom a cloud knows
//	POST /revoke    {"cloud":"104"}: ends its tokens; an empty body ends both clouds'
//	POST /reset     {"cloud":"104"}: ledger, calls, counters, tokens and faults as at the start
//
// Bodies are strict: an unknown key or an impossible value is HTTP 400 with
// {"error": …} naming it, and nothing is changed at either cloud.
func NewControl(tc *TransferCard, fs *Feishu) http.Handler {
	c := &control{tc, fs}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
		w.Write(controlPage)
	})
	mux.HandleFunc("GET /state", c.state)
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, r *http.Request) { reply(w, c.faults()) })
	mux.HandleFunc("POST /faults", c.patch)
	mux.HandleFunc("PATCH /faults", c.patch)
	mux.HandleFunc("POST /people", c.people)
	mux.HandleFunc("POST /revoke", c.each((*TransferCard).Revoke, (*Feishu).Revoke))
	mux.HandleFunc("POST /reset", c.each((*TransferCard).Reset, (*Feishu).Reset))
	return mux
}

type control struct {
	tc *TransferCard
	fs *Feishu
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(v) // a client that left is not our concern
}

func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusBadRequest)
	json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// bodyOf reads a strict JSON object; an empty body leaves *v as it is.
func bodyOf(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	if len(b) == 0 {
		return nil
	}
	return decodeStrict(b, v)
}

func tail[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }

func (c *control) state(w http.ResponseWriter, r *http.Request) {
	s := State{c.tc.State(), c.fs.State()}
	if last := r.URL.Query().Get("last"); last != "" {
		n, err := strconv.Atoi(last)
		if err != nil || n < 0 {
			refuse(w, fmt.Errorf("last=%q: use a number of entries", last))
			return
		}
		t, f := &s.TransferCard, &s.Feishu
		t.Ledger, t.Repeats, t.Calls = tail(t.Ledger, n), tail(t.Repeats, n), tail(t.Calls, n)
		f.Ledger, f.Repeats, f.Calls = tail(f.Ledger, n), tail(f.Repeats, n), tail(f.Calls, n)
	}
	reply(w, s)
}

type bothFaults struct {
	TransferCard TransferCardFaults `json:"104"`
	Feishu       FeishuFaults       `json:"feishu"`
}

func (c *control) faults() bothFaults { return bothFaults{c.tc.Faults(), c.fs.Faults()} }

func (c *control) patch(w http.ResponseWriter, r *http.Request) {
	var in struct {
		TransferCard json.RawMessage `json:"104"`
		Feishu       json.RawMessage `json:"feishu"`
	}
	err := bodyOf(w, r, &in)
	if err == nil && in.TransferCard == nil && in.Feishu == nil {
		err = errors.New(`nothing to change: write {"104":{…}} or {"feishu":{…}}`)
	}
	// Try both on copies first: a mistake in one changes neither.
	if err == nil && in.TransferCard != nil {
		t := c.tc.Faults()
		if err = decodeStrict(in.TransferCard, &t); err == nil {
			err = t.check()
		}
		if err != nil {
			err = fmt.Errorf("104: %w", err)
		}
	}
	if err == nil && in.Feishu != nil {
		f := c.fs.Faults()
		if err = decodeStrict(in.Feishu, &f); err == nil {
			err = f.check()
		}
		if err != nil {
			err = fmt.Errorf("feishu: %w", err)
		}
	}
	if err == nil && in.TransferCard != nil {
		err = c.tc.patchFaults(in.TransferCard)
	}
	if err == nil && in.Feishu != nil {
		err = c.fs.patchFaults(in.Feishu)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, c.faults())
}

type known struct {
	AcceptAny bool     `json:"accept_any"`
	People    []Person `json:"people"`
}

func (c *control) people(w http.ResponseWriter, r *http.Request) {
	var in struct {
		TransferCard *known `json:"104"`
		Feishu       *known `json:"feishu"`
	}
	if err := bodyOf(w, r, &in); err != nil {
		refuse(w, err)
		return
	}
	if in.TransferCard != nil {
		c.tc.SetPeople(in.TransferCard.People, in.TransferCard.AcceptAny)
	}
	if in.Feishu != nil {
		c.fs.SetPeople(in.Feishu.People, in.Feishu.AcceptAny)
	}
	w.WriteHeader(http.StatusNoContent)
}

// each does something to the cloud that the body names, or to both.
func (c *control) each(card func(*TransferCard), flow func(*Feishu)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Cloud string `json:"cloud"`
		}
		err := bodyOf(w, r, &in)
		if err == nil && !slices.Contains([]string{"", Name104, NameFeishu}, in.Cloud) {
			err = oneOf("cloud", in.Cloud, Name104, NameFeishu)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		if in.Cloud != NameFeishu {
			card(c.tc)
		}
		if in.Cloud != Name104 {
			flow(c.fs)
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
