package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/drain"
	"punchclock/sync/resume"
)

// People who are about to start, read from 104's résumé service hour by hour. They wait
// in a list of their own until HR makes an employee of one, or the days are over; of a
// résumé only its id and the name are kept, and the portrait where the site wants those.
// Nobody in that list can punch.

// candidate is one line of the list.
type candidate struct {
	ID    string    `json:"id"` // the résumé's
	Name  string    `json:"name"`
	Hour  time.Time `json:"delivered"` // the hour in which 104 delivered the résumé
	Found time.Time `json:"found"`
	// Due is that there is a portrait which has not been looked at.
	Due bool `json:"portrait_due,omitempty"`
	// Portrait is that there is one, in a list for a person; the file has its own folder.
	Portrait bool `json:"portrait,omitempty"`
}

// candidateFile is the list, and how far the walk through the hours has come: one
// file, so that an hour and what was found in it are durable together.
type candidateFile struct {
	Schema  int         `json:"schema"`
	Next    time.Time   `json:"next_hour"`
	Pending []candidate `json:"pending"`
	// Done are résumés that were hired or removed, until the days are over: the same one
	// may be delivered again in another hour.
	Done map[string]time.Time `json:"done"`
}

// candidates is the list at work. It is the Store of a resume.Walker.
type candidates struct {
	path      string
	keep      time.Duration
	portraits bool          // they are wanted
	news      chan struct{} // holds one hint: somebody's portrait is due

	mu    sync.Mutex
	file  candidateFile
	read  bool
	links map[string]string // of portraits that are due, by résumé; they expire, and are not kept
}

func newCandidates(cfg *config) *candidates {
	return &candidates{path: filepath.Join(cfg.Device.StateDir, "candidates.json"), keep: time.Duration(cfg.Candidates.KeepDays) * 24 * time.Hour,
		portraits: cfg.Kiosk.Portraits, news: make(chan struct{}, 1), links: map[string]string{}}
}

// load reads the file once. The caller holds mu.
func (c *candidates) load() error {
	if c.read {
		return nil
	}
	b, err := os.ReadFile(c.path)
	if err == nil {
		err = json.Unmarshal(b, &c.file)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("candidates: %s: %w; if it is damaged, remove it: the walk begins anew at this hour", c.path, err)
	}
	if c.file.Done == nil {
		c.file.Done = map[string]time.Time{}
	}
	c.read = true
	return nil
}

// change makes a change durable, or none. Whoever has waited too long is left out.
func (c *candidates) change(fn func(f *candidateFile) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(); err != nil {
		return err
	}
	next := candidateFile{Schema: 1, Next: c.file.Next, Pending: slices.Clone(c.file.Pending), Done: map[string]time.Time{}}
	old := time.Now().Add(-c.keep)
	for id, at := range c.file.Done {
		if at.After(old) {
			next.Done[id] = at
		}
	}
	if err := fn(&next); err != nil {
		return err
	}
	next.Pending = slices.DeleteFunc(next.Pending, func(p candidate) bool { return p.Found.Before(old) })
	if err := replaceJSON(c.path, next); err != nil {
		return fmt.Errorf("candidates: %w", err)
	}
	c.file = next
	return nil
}

// Next implements resume.Store.
func (c *candidates) Next() (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.load()
	return c.file.Next, err
}

// Complete implements resume.Store.
func (c *candidates) Complete(hour time.Time, found []resume.Candidate) error {
	links := map[string]string{}
	err := c.change(func(f *candidateFile) error {
		for _, p := range found {
			if _, done := f.Done[p.ID]; done || slices.ContainsFunc(f.Pending, func(o candidate) bool { return o.ID == p.ID }) {
				continue
			}
			f.Pending = append(f.Pending, candidate{ID: p.ID, Name: p.Name, Hour: p.Hour, Found: time.Now().UTC(), Due: c.portraits && p.Photo != ""})
			links[p.ID] = p.Photo
		}
		f.Next = hour.Add(time.Hour)
		return nil
	})
	if err != nil || !c.portraits {
		return err
	}
	c.mu.Lock()
	maps.Copy(c.links, links)
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
	return nil
}

// nextPortrait is whose portrait is due, behind the one whose turn it was, and its link,
// "" where that is not known any more.
func (c *candidates) nextPortrait(last string) (who candidate, link string, ok bool) {
	all, _, err := c.list()
	if err != nil {
		return who, "", false // the walk says so
	}
	passed := false
	for _, p := range all {
		if p.Due && (!ok || passed) {
			who, ok = p, true
			if passed {
				break
			}
		}
		passed = passed || p.ID == last
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return who, c.links[who.ID], ok
}

// portraitSeen notes that somebody's portrait is not due any more.
func (c *candidates) portraitSeen(id string) error {
	err := c.change(func(f *candidateFile) error {
		for i := range f.Pending {
			if f.Pending[i].ID == id {
				f.Pending[i].Due = false
			}
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, id)
	return err
}

// noPortraits forgets that any is due.
func (c *candidates) noPortraits() error {
	all, _, err := c.list()
	if err != nil || !slices.ContainsFunc(all, func(p candidate) bool { return p.Due }) {
		return err
	}
	return c.change(func(f *candidateFile) error {
		for i := range f.Pending {
			f.Pending[i].Due = false
		}
		return nil
	})
}

// list returns the people who wait, oldest first, and the hour that is next.
func (c *candidates) list() ([]candidate, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(); err != nil {
		return nil, time.Time{}, err
	}
	old := time.Now().Add(-c.keep)
	return slices.DeleteFunc(slices.Clone(c.file.Pending), func(p candidate) bool { return p.Found.Before(old) }), c.file.Next, nil
}

// find returns one who waits.
func (c *candidates) find(id string) (candidate, error) {
	all, _, err := c.list()
	if err != nil {
		return candidate{}, err
	}
	for _, p := range all {
		if p.ID == id {
			return p, nil
		}
	}
	return candidate{}, &exitError{exitUsage, fmt.Errorf("nobody with résumé %q waits; see: punchclock candidates ls", id)}
}

// remove takes one off the list; the same résumé does not come back.
func (c *candidates) remove(id string) error {
	return c.change(func(f *candidateFile) error {
		f.Pending = slices.DeleteFunc(f.Pending, func(p candidate) bool { return p.ID == id })
		f.Done[id] = time.Now().UTC()
		return nil
	})
}

// newCandidateWalk builds the walk through the hours, nil where none is configured.
func (h *clockwork) newCandidateWalk(unset func() bool) (*resume.Walker, error) {
	c := h.cfg.Candidates
	if c.ClientID == "" {
		return nil, nil
	}
	log := h.log.With("source", "candidates")
	client, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(c.CallsPerSecond), CAFile: c.CAFile, Transport: h.network})
	if err != nil {
		return nil, fmt.Errorf("candidates: %w", err)
	}
	path := h.cfg.secretPath(c.SecretFile)
	r, err := resume.New(resume.Config{APIBase: c.APIBase, TokenURL: c.TokenURL, ClientID: c.ClientID, Company: c.Company,
		Secret: func() (string, error) { return readSecret(path) }, HTTP: client, Log: log, Flag: resumeFlags[c.Flag]})
	if err != nil {
		return nil, fmt.Errorf("candidates: %w", err)
	}
	h.resumes = r
	return resume.NewWalker(resume.WalkerConfig{Client: r, Store: h.candidates, Log: log, Ready: func() bool { return !unset() }}), nil
}

// resumeFlags are the words for which résumés are read.
var resumeFlags = map[string]resume.Flag{"any": resume.Any, "matched": resume.Matched, "applied": resume.Applied, "saved": resume.Saved}

// candidatesStatus is how the walk fares.
type candidatesStatus struct {
	State    string `json:"state"` // as a destination's
	Pending  int    `json:"pending"`
	NextHour string `json:"next_hour"` // the first that is not read, RFC 3339
	Problem  string `json:"problem,omitempty"`
}

func (h *clockwork) candidatesStatus() *candidatesStatus {
	if h.walk == nil {
		return nil
	}
	st := h.walk.Status()
	s := &candidatesStatus{State: st.State, Problem: st.LastError}
	all, next, err := h.candidates.list()
	if err != nil {
		s.Problem = err.Error()
	}
	s.Pending, s.NextHour = len(all), h.when(next)
	return s
}

// candidateList is what the verb prints.
type candidateList struct {
	Pending  []candidate `json:"pending"`
	NextHour time.Time   `json:"next_hour"`
}

func (a *archive) serveCandidates(w http.ResponseWriter, _ *http.Request) {
	all, next, err := a.candidates.list()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	if all == nil {
		all = []candidate{}
	}
	kept, _, err := a.portraits.list()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	for i := range all {
		all[i].Portrait = slices.Contains(kept, portraitFile{resume: all[i].ID})
	}
	writeJSON(w, candidateList{all, next})
}

// serveHire makes an employee of one who waits: in the roster first, then off the list.
func (a *archive) serveHire(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	e, err := a.hire(q.Get("id"), q.Get("employee_no"), q.Get("badge"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	writeJSON(w, map[string]any{"employee_no": e.Number, "name": e.Name, "badges": e.Badges})
}

func (a *archive) hire(id, number, badge string) (punch.Employee, error) {
	p, err := a.candidates.find(id)
	if err != nil {
		return punch.Employee{}, err
	}
	if _, taken := a.roster.ByNumber(number); taken {
		return punch.Employee{}, fmt.Errorf("employee number %s is somebody's already; nothing was changed", number)
	}
	e := punch.Employee{Number: number, Name: p.Name, Active: true}
	if badge != "" {
		b, err := roster.CardOf(badge)
		if err != nil {
			return punch.Employee{}, fmt.Errorf("%w; nothing was changed", err)
		}
		e.Badges = []punch.Badge{b}
	}
	// Through the form of the file, so that a number is refused as an import would.
	var line strings.Builder
	if err := roster.WriteCSV(&line, []punch.Employee{e}, a.cfg.Device.Timezone); err != nil {
		return punch.Employee{}, err
	}
	rows, err := roster.ReadCSV("roster", []byte(line.String()), a.cfg.cards(), a.cfg.Device.Timezone)
	if err != nil {
		return punch.Employee{}, fmt.Errorf("nothing was changed:\n%w", err)
	}
	if err := a.roster.Add(rows[0].Employee, "candidates hire"); err != nil {
		return punch.Employee{}, err
	}
	if now, ok := a.roster.ByNumber(number); ok {
		e = now
	}
	return e, errors.Join(a.audited(), a.portraits.hired(id, e), a.removeCandidate(id))
}

// removeCandidate takes one off the list, and the portrait with it.
func (a *archive) removeCandidate(id string) error {
	if err := a.candidates.remove(id); err != nil {
		return err
	}
	_, err := a.portraits.drop(func(f portraitFile) bool { return f.resume == id })
	return err
}

func (a *archive) serveRemoveCandidate(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	_, err := a.candidates.find(id)
	if err == nil {
		err = a.removeCandidate(id)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	writeJSON(w, map[string]string{"id": id})
}

func candidatesCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "candidates", Short: "People who are about to start, from 104's résumé service"}
	ls := t.reporting(&cobra.Command{
		Use: "ls", Short: "List who waits to be made an employee", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, cl, err := t.open(false)
			if err != nil {
				return err
			}
			defer cl.close()
			var list candidateList
			if err := cl.getJSON(c.Context(), "/candidates", &list); err != nil {
				return err
			}
			if t.json {
				return t.printJSON(list)
			}
			w := tabwriter.NewWriter(t.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "RESUME\tNAME\tDELIVERED\tPORTRAIT")
			for _, p := range list.Pending {
				portrait := ""
				if p.Portrait {
					portrait = "yes"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.ID, dash(p.Name), p.Hour.In(cfg.Device.Timezone).Format("2006-01-02 15:04"), dash(portrait))
			}
			return w.Flush()
		},
	})
	var number, badge string
	hire := t.reporting(&cobra.Command{
		Use: "hire RESUME", Short: "Make an employee of one: number, and card if there is one already", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if number == "" {
				return usage("candidates hire: give the employee number: --employee-no 000123")
			}
			return t.candidate(c.Context(), "POST", "/candidates/hire", url.Values{"id": {args[0]}, "employee_no": {number}, "badge": {badge}},
				fmt.Sprintf("%s is in the roster; add the line to HR's own file, too, if the roster has a source", number))
		},
	})
	hire.Flags().StringVar(&number, "employee-no", "", "the employee `number`")
	hire.Flags().StringVar(&badge, "badge", "", "the `card`, as in the roster or as printed on it")
	rm := t.reporting(&cobra.Command{
		Use: "rm RESUME", Short: "Take one off the list", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.candidate(c.Context(), "DELETE", "/candidates", url.Values{"id": {args[0]}}, "removed")
		},
	})
	c.AddCommand(ls, hire, rm)
	return c
}

// candidate makes one change to the list.
func (t *tool) candidate(ctx context.Context, method, path string, query url.Values, done string) error {
	_, cl, err := t.open(true)
	if err != nil {
		return err
	}
	defer cl.close()
	body, err := cl.do(ctx, method, path, query, nil)
	if err != nil {
		return err
	}
	var v map[string]any
	if err := readJSON(body, &v); err != nil {
		return err
	}
	if t.json {
		return t.printJSON(v)
	}
	_, err = fmt.Fprintln(t.stdout, done)
	return err
}
