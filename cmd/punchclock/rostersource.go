package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue/roster"
	"punchclock/sync/drain"
)

// A roster that keeps itself up to date: the file at roster.source, on this machine
// or at a web address, is looked at every so often, and imported when it is another
// one than the last. An import is whole or not at all, so the last good one stays
// whatever comes. One that would take away more than half of the people is left to a
// person: half a file is likelier than that.
//
// What a person imports by hand stays until the source itself changes.

const (
	sourceTimeout = time.Minute
	sourceAgain   = 10 * time.Second // after a look that failed, and twice as long after each further one
	fewPeople     = 10               // so many may always go
)

// rosterSource is the source at work. Its file in the state directory remembers what
// was imported last; without it that is imported once more.
type rosterSource struct {
	cfg    *config
	log    *slog.Logger
	roster *roster.Roster
	http   *http.Client // nil for a file
	audit  func() error // tells the audit chain what was changed
	path   string
	turn   sync.Mutex // one look at a time

	mu      sync.Mutex
	looked  time.Time
	problem string
	seen    sourceSeen
}

// rosterStatus is how the source fares.
type rosterStatus struct {
	Source   string `json:"source"`            // the path, or the address without what follows its ?
	Imported string `json:"imported_at"`       // RFC 3339, "" for never
	LookedAt string `json:"looked_at"`         // when it could last be read
	Problem  string `json:"problem,omitempty"` // why what is there now was not imported
}

// sourceSeen is the file.
type sourceSeen struct {
	Schema   int       `json:"schema"`
	Source   string    `json:"source"`
	Sum      string    `json:"sha256"` // of what was imported last
	ETag     string    `json:"etag"`
	Modified string    `json:"last_modified"`
	Imported time.Time `json:"imported_at"`
}

// newRosterSource returns nil where none is configured.
func newRosterSource(cfg *config, log *slog.Logger, r *roster.Roster, audit func() error) (*rosterSource, error) {
	c := cfg.Roster
	if c.Source == "" {
		return nil, nil
	}
	s := &rosterSource{cfg: cfg, log: log.With("source", shownSource(c.Source)), roster: r, audit: audit, path: filepath.Join(cfg.Device.StateDir, "roster-source.json")}
	if webAddress(c.Source) {
		client, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(1), CAFile: c.CAFile, Timeout: sourceTimeout})
		if err != nil {
			return nil, fmt.Errorf("roster source: %w", err)
		}
		s.http = client
	}
	b, err := os.ReadFile(s.path)
	if err == nil {
		err = json.Unmarshal(b, &s.seen)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("what was imported last is not known, it is imported once more", "err", err)
	}
	if s.seen.Schema != 1 || s.seen.Source != c.Source {
		s.seen = sourceSeen{Schema: 1, Source: c.Source}
	}
	return s, nil
}

func webAddress(s string) bool {
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

// shownSource is fit for a log: an address may carry a key behind its question mark.
func shownSource(s string) string {
	if !webAddress(s) {
		return s
	}
	s, _, _ = strings.Cut(s, "?")
	return s
}

// get returns the status, nil where no source is configured.
func (s *rosterSource) get(h *clockwork) *rosterStatus {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &rosterStatus{Source: shownSource(s.cfg.Roster.Source), Imported: h.when(s.seen.Imported), LookedAt: h.when(s.looked), Problem: s.problem}
}

// run looks until ctx is done. A look that failed is repeated sooner: a new clock has its
// network a moment after its start, and knows nobody until then.
func (s *rosterSource) run(ctx context.Context) error {
	again := sourceAgain
	for {
		every := s.cfg.Roster.Every
		if _, err := s.look(ctx); err != nil {
			every = min(again, every)
			again = every * 2
		} else {
			again = sourceAgain
		}
		select {
		case <-ctx.Done():
			return nil
		// Clocks that were set up together do not ask together for long.
		case <-time.After(every - every/10 + rand.N(every/5+1)):
		}
	}
}

// look looks once and remembers how it went. The difference is nil where nothing was
// imported.
func (s *rosterSource) look(ctx context.Context) (*roster.Diff, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	d, err := s.update(ctx)
	if ctx.Err() != nil {
		return d, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	} else {
		s.looked = time.Now()
	}
	if text != s.problem {
		s.problem = text
		if err != nil {
			s.log.Error("the roster's source was not taken over, the roster stays as it is", "err", text)
		} else {
			s.log.Info("the roster's source can be read again")
		}
	}
	if d != nil && !d.Empty() {
		s.log.Info("the roster was brought up to date", "added", len(d.Added), "changed", len(d.Changed), "removed", len(d.Removed))
	}
	return d, err
}

// serveRosterRefresh looks at the source now.
func (h *clockwork) serveRosterRefresh(w http.ResponseWriter, r *http.Request) {
	if h.source == nil {
		refuse(w, http.StatusConflict, errors.New("the roster has no source: set roster.source, or import a file: punchclock roster import"))
		return
	}
	d, err := h.source.look(r.Context())
	if err != nil {
		refuse(w, http.StatusConflict, fmt.Errorf("%w; the roster stays as it is", err))
		return
	}
	if d == nil {
		d = &roster.Diff{Unchanged: h.roster.Len()}
	}
	writeJSON(w, d)
}

func refreshCommand(t *tool) *cobra.Command {
	return t.reporting(&cobra.Command{
		Use: "refresh", Short: "Have the running clock look at roster.source now", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var d roster.Diff
			return t.cardCall(c.Context(), "/roster/refresh", nil, nil, true, &d, func(w io.Writer) {
				fmt.Fprintf(w, "%d added, %d changed, %d removed, %d unchanged\n", len(d.Added), len(d.Changed), len(d.Removed), d.Unchanged)
			})
		},
	})
}

// update reads the source and imports it, if it is another one than the last. The
// difference is nil where nothing was imported.
func (s *rosterSource) update(ctx context.Context) (*roster.Diff, error) {
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()
	data, err := s.read(ctx, &seen)
	if err != nil || data == nil {
		return nil, err
	}
	sum := sumOf(data)
	fresh := hex.EncodeToString(sum)
	if fresh == seen.Sum {
		return nil, nil
	}
	defer collectLate()()
	name := filepath.Base(shownSource(s.cfg.Roster.Source))
	text, err := roster.Decode(name, s.cfg.Roster.Encoding, data)
	if err != nil {
		return nil, err
	}
	rows, err := roster.ReadCSV(name, text, s.cfg.cards(), s.cfg.Device.Timezone)
	if err != nil {
		return nil, err
	}
	d, err := s.roster.Import(rows, roster.Source{By: "roster source", Sum: sum, May: func(d roster.Diff) error {
		if n := len(d.Removed); n > fewPeople && 2*n > s.roster.Len() {
			return fmt.Errorf("%s would remove %d of %d people: if that is right, import it by hand: punchclock roster import", name, n, s.roster.Len())
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	if err := s.audit(); err != nil {
		s.log.Error("roster source", "err", err)
	}
	seen.Sum, seen.Imported = fresh, time.Now().UTC()
	if err := replaceJSON(s.path, seen); err != nil {
		s.log.Warn("what was imported is not remembered over a restart", "err", err)
	}
	s.mu.Lock()
	s.seen = seen
	s.mu.Unlock()
	return &d, nil
}

// read returns what is at the source, nil if that is what was imported last.
func (s *rosterSource) read(ctx context.Context, seen *sourceSeen) ([]byte, error) {
	c := s.cfg.Roster
	if s.http == nil {
		return readSettled(ctx, c.Source)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Source, nil)
	if err != nil {
		return nil, errors.New("roster source: the address cannot be called; check roster.source")
	}
	if c.TokenFile != "" {
		token, err := readSecret(s.cfg.secretPath(c.TokenFile))
		if err != nil {
			return nil, fmt.Errorf("roster source: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if seen.Sum != "" {
		for header, v := range map[string]string{"If-None-Match": seen.ETag, "If-Modified-Since": seen.Modified} {
			if v != "" {
				req.Header.Set(header, v)
			}
		}
	}
	resp, err := drain.Do(s.http, req)
	if err != nil {
		return nil, fmt.Errorf("roster source: %w", err)
	}
	b, err := drain.ReadBody(resp, rosterMost)
	switch {
	case resp.StatusCode == http.StatusNotModified && seen.Sum != "":
		return nil, nil
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("roster source: HTTP %d: check what is in roster.token_file", resp.StatusCode)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, fmt.Errorf("roster source: HTTP %d sends us elsewhere%s: write that address into roster.source", resp.StatusCode, elsewhere(resp))
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("roster source: HTTP %d", resp.StatusCode)
	case err != nil:
		return nil, fmt.Errorf("roster source: %w", err)
	}
	seen.ETag, seen.Modified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	return b, nil
}

// settleFile is how long a file must lie untouched before it is read.
const settleFile = 5 * time.Second

// readSettled reads a file that nobody is writing to just now, and waits for that.
func readSettled(ctx context.Context, path string) ([]byte, error) {
	for {
		st, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, fmt.Errorf("roster source: %w", err)
		case !st.Mode().IsRegular():
			return nil, fmt.Errorf("roster source: %s is no file", path)
		case st.Size() > rosterMost:
			return nil, fmt.Errorf("roster source: %s is larger than 32 MiB: this is not a roster", path)
		}
		if age := time.Since(st.ModTime()); age < 0 || age >= settleFile { // a time to come says nothing
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("roster source: %w", err)
			}
			if after, err := os.Stat(path); err == nil && after.ModTime().Equal(st.ModTime()) && int(after.Size()) == len(b) {
				return b, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(settleFile):
		}
	}
}

// elsewhere names the host of a redirect, and nothing that might be a key.
func elsewhere(resp *http.Response) string {
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || u.Host == "" {
		return ""
	}
	return " (" + u.Host + ")"
}
