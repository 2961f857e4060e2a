package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"punchclock/ui/text"
)

// state is what the status page reads of /api/status: the fields that every caller
// outside relies on, and no others.
type state struct {
	Device struct{ ID, Name, Version string }
	Clock  struct {
		State      string
		ErrorBound int64 `json:"error_bound_ms"`
	}
	Outbox struct {
		LastSeq  uint64 `json:"last_seq"`
		LowSpace bool   `json:"low_space"`
		Incident string
	}
	Destinations []struct {
		Name, State string
		Pending     int
		Parked      int
		Oldest      float64 `json:"oldest_unsent_seconds"`
		LastError   string  `json:"last_error"`
		LastSuccess string  `json:"last_success"`
	}
	Readers []struct {
		Name, State string
		LastEvent   string `json:"last_event"`
	}
	// Configuration tells of a file that was changed and is not wholly in force.
	Configuration struct {
		Problem string
		Restart []string
	}
}

func (s *Server) state(ctx context.Context) (st state, err error) {
	b, err := json.Marshal(s.cfg.Backend.Status(ctx))
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(b, &st)
}

// mostWords is how many bytes of state a QR code holds that is still read from a
// hand's breadth off a small panel.
const mostWords = 160

// stateInWords is the device and its state in a few lines, for a phone that cannot
// come in. It is in English and without names of people.
func (s *Server) stateInWords(ctx context.Context) string {
	lines := []string{s.cfg.ID + " " + s.cfg.Version}
	if st, err := s.state(ctx); err == nil {
		lines = append(lines, fmt.Sprintf("clock %s, last %d", st.Clock.State, st.Outbox.LastSeq))
		for _, d := range st.Destinations {
			line := d.Name + " " + d.State
			if d.Pending > 0 {
				line += fmt.Sprintf(", %d waiting %s", d.Pending, text.For("en").Duration(seconds(d.Oldest)))
			}
			if d.Parked > 0 {
				line += fmt.Sprintf(", %d parked", d.Parked)
			}
			lines = append(lines, line)
		}
		for _, r := range st.Readers {
			if r.State != "ok" {
				lines = append(lines, "reader "+r.Name+" "+r.State)
			}
		}
	}
	if err := s.cfg.Backend.Ready(); err != nil {
		lines = append(lines, "NOT READY: "+err.Error())
	}
	all := strings.Join(lines, "\n")
	for len(all) > mostWords {
		_, n := utf8.DecodeLastRuneInString(all)
		all = all[:len(all)-n]
	}
	return all
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// statusRow is one line of the status page.
type statusRow struct {
	Mark  string // ok, wait or stuck: with a symbol of its own each
	Name  string
	State string
	Notes []string
	Link  string // "" for none
}

// statusData is what status.html is drawn from.
type statusData struct {
	Lang, Title, Name, ID, Version, Now string
	House, Destinations, Readers        []statusRow
}

// serveStatusPage answers with the state of the device for a technician's phone. It
// loads itself again every ten seconds and holds nothing about people.
func (s *Server) serveStatusPage(w http.ResponseWriter, r *http.Request) {
	st, err := s.state(r.Context())
	if err != nil {
		s.cfg.Log.Error("the status could not be read for its page", "err", err)
		refuse(w, http.StatusInternalServerError, "the status could not be read")
		return
	}
	say := s.page.say
	now := time.Now().In(s.cfg.Location)
	d := statusData{Lang: say.Language(), Title: say.Say(text.StatusTitle), Name: s.cfg.Name, ID: s.cfg.ID, Version: s.cfg.Version,
		Now: say.Date(now) + " " + now.Format(time.TimeOnly)}

	clock := statusRow{Mark: "wait", Name: say.Say(text.StatusClock), State: say.Clock(st.Clock.State)}
	if st.Clock.State == "synced" {
		clock.Mark = "ok"
	}
	clock.Notes = []string{fmt.Sprintf("± %d ms", st.Clock.ErrorBound)}
	store := statusRow{Mark: "ok", Name: say.Say(text.StatusStorage), State: say.Say(text.StatusReady)}
	if err := s.cfg.Backend.Ready(); err != nil {
		store.Mark, store.State, store.Notes = "stuck", say.Say(text.NotReady), []string{err.Error()}
	}
	if st.Outbox.LowSpace {
		store.Mark, store.Notes = "stuck", append(store.Notes, say.Say(text.SpaceLow))
	}
	if st.Outbox.Incident != "" {
		store.Mark, store.Notes = "stuck", append(store.Notes, say.Say(text.Mended), st.Outbox.Incident)
	}
	d.House = []statusRow{clock, store, {Mark: "ok", Name: say.Say(text.StatusPunches), State: fmt.Sprint(st.Outbox.LastSeq)}}
	if c := st.Configuration; c.Problem != "" {
		d.House = append(d.House, statusRow{Mark: "stuck", Name: "config", Notes: strings.Split(c.Problem, "\n")})
	} else if len(c.Restart) > 0 {
		d.House = append(d.House, statusRow{Mark: "wait", Name: "config", State: "restart", Notes: c.Restart})
	}

	if sum := s.fingerprint(); sum != "" && s.admin != nil {
		d.House = append(d.House, statusRow{Mark: "ok", Name: say.Office("admin"), Notes: []string{"SHA-256 " + sum}, Link: "https://" + r.Host + adminPath})
	}

	for _, x := range st.Destinations {
		row := statusRow{Mark: "ok", Name: x.Name, State: say.Destination(x.State), Notes: []string{say.Pending(x.Pending, seconds(x.Oldest))}}
		switch {
		case x.State != "ok" && x.State != "retrying", x.Parked > 0:
			row.Mark = "stuck"
		case x.State != "ok":
			row.Mark = "wait"
		}
		if x.Parked > 0 {
			row.Notes = append(row.Notes, say.Parked(x.Parked))
		}
		last := say.Say(text.StatusNever)
		if t, err := time.Parse(time.RFC3339, x.LastSuccess); err == nil {
			last = t.In(s.cfg.Location).Format(time.DateTime)
		}
		row.Notes = append(row.Notes, say.Say(text.StatusSuccess)+" "+last)
		if x.LastError != "" {
			row.Notes = append(row.Notes, x.LastError)
		}
		d.Destinations = append(d.Destinations, row)
	}
	for _, x := range st.Readers {
		row := statusRow{Mark: "ok", Name: x.Name, State: say.Reader(x.State)}
		if x.State != "ok" {
			row.Mark = "stuck"
		}
		if t, err := time.Parse(time.RFC3339, x.LastEvent); err == nil {
			row.Notes = []string{t.In(s.cfg.Location).Format(time.DateTime)}
		}
		d.Readers = append(d.Readers, row)
	}
	var out bytes.Buffer
	if err := s.page.status.Execute(&out, d); err != nil {
		s.cfg.Log.Error("the status page could not be drawn", "err", err)
		refuse(w, http.StatusInternalServerError, "the page could not be drawn")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// Whoever asked may have gone; there is nobody left to tell.
	_, _ = w.Write(out.Bytes())
}
