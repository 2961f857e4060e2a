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
	NameSignin = "signin"
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

// SigninState is everything the control page tells about the sign-in system.
type SigninState struct {
	Counters Counters       `json:"counters"`
	Faults   SigninFaults   `json:"faults"`
	Locked   bool           `json:"locked"` // the account, after too many bad passwords
	Logins   int            `json:"logins"` // that had the account's password checked
	Ledger   []SigninRecord `json:"ledger"`
	Repeats  []SigninRecord `json:"repeats"`
	Calls    []Call         `json:"calls"`
}

// State is the answer of the control page's state.
type State struct {
	TransferCard CardState   `json:"104"`
	Feishu       FlowState   `json:"feishu"`
	Signin       SigninState `json:"signin"`
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

// State returns all there is to tell, at one instant.
func (s *Signin) State() SigninState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SigninState{s.counters, clone(s.faults), s.locked, s.logins, append([]SigninRecord{}, s.ledger...), append([]SigninRecord{}, s.repeats...), s.callList()}
}

// NewControl returns the control page of the clouds. It serves these paths,
// so mount it below a prefix with http.StripPrefix:
//
//	GET  /          a page that shows the clouds live, with buttons for the common faults
//	GET  /state     [State] as JSON; ?last=N keeps the last N of each list
//	POST /faults    {"104":{…},"feishu":{…},"signin":{…}}: changes the switches named, and only those; answers all
//	PATCH /faults   the same
//	POST /people    {"104":{"accept_any":false,"people":[{"employee_no":"000123"}]}}: replaces whom a cloud knows
//	POST /revoke    {"cloud":"104"}: ends its tokens; an empty body ends every cloud's
//	POST /reset     {"cloud":"104"}: ledger, calls, counters, tokens and faults as at the start
//
// Bodies are strict: an unknown key or an impossible value is HTTP 400 with
// {"error": …} naming it, and nothing is changed at any cloud.
func NewControl(tc *TransferCard, fs *Feishu, si *Signin) http.Handler {
	c := &control{tc, fs, si}
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
	mux.HandleFunc("POST /revoke", c.each((*TransferCard).Revoke, (*Feishu).Revoke, (*Signin).Revoke))
	mux.HandleFunc("POST /reset", c.each((*TransferCard).Reset, (*Feishu).Reset, (*Signin).Reset))
	return mux
}

type control struct {
	tc *TransferCard
	fs *Feishu
	si *Signin
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
	s := State{c.tc.State(), c.fs.State(), c.si.State()}
	if last := r.URL.Query().Get("last"); last != "" {
		n, err := strconv.Atoi(last)
		if err != nil || n < 0 {
			refuse(w, fmt.Errorf("last=%q: use a number of entries", last))
			return
		}
		t, f, i := &s.TransferCard, &s.Feishu, &s.Signin
		t.Ledger, t.Repeats, t.Calls = tail(t.Ledger, n), tail(t.Repeats, n), tail(t.Calls, n)
		f.Ledger, f.Repeats, f.Calls = tail(f.Ledger, n), tail(f.Repeats, n), tail(f.Calls, n)
		i.Ledger, i.Repeats, i.Calls = tail(i.Ledger, n), tail(i.Repeats, n), tail(i.Calls, n)
	}
	reply(w, s)
}

type allFaults struct {
	TransferCard TransferCardFaults `json:"104"`
	Feishu       FeishuFaults       `json:"feishu"`
	Signin       SigninFaults       `json:"signin"`
}

func (c *control) faults() allFaults { return allFaults{c.tc.Faults(), c.fs.Faults(), c.si.Faults()} }

func (c *control) patch(w http.ResponseWriter, r *http.Request) {
	var in struct {
		TransferCard json.RawMessage `json:"104"`
		Feishu       json.RawMessage `json:"feishu"`
		Signin       json.RawMessage `json:"signin"`
	}
	err := bodyOf(w, r, &in)
	if err == nil && in.TransferCard == nil && in.Feishu == nil && in.Signin == nil {
		err = errors.New(`nothing to change: write {"104":{…}}, {"feishu":{…}} or {"signin":{…}}`)
	}
	// Try all on copies first: a mistake in one changes none.
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
	if err == nil && in.Signin != nil {
		s := c.si.Faults()
		if err = decodeStrict(in.Signin, &s); err == nil {
			err = s.check()
		}
		if err != nil {
			err = fmt.Errorf("signin: %w", err)
		}
	}
	if err == nil && in.TransferCard != nil {
		err = c.tc.patchFaults(in.TransferCard)
	}
	if err == nil && in.Feishu != nil {
		err = c.fs.patchFaults(in.Feishu)
	}
	if err == nil && in.Signin != nil {
		err = c.si.patchFaults(in.Signin)
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
		Signin       *known `json:"signin"`
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
	if in.Signin != nil {
		c.si.SetPeople(in.Signin.People, in.Signin.AcceptAny)
	}
	w.WriteHeader(http.StatusNoContent)
}

// each does something to the cloud that the body names, or to all.
func (c *control) each(card func(*TransferCard), flow func(*Feishu), sign func(*Signin)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Cloud string `json:"cloud"`
		}
		err := bodyOf(w, r, &in)
		if err == nil && !slices.Contains([]string{"", Name104, NameFeishu, NameSignin}, in.Cloud) {
			err = oneOf("cloud", in.Cloud, Name104, NameFeishu, NameSignin)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		if in.Cloud == "" || in.Cloud == Name104 {
			card(c.tc)
		}
		if in.Cloud == "" || in.Cloud == NameFeishu {
			flow(c.fs)
		}
		if in.Cloud == "" || in.Cloud == NameSignin {
			sign(c.si)
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
