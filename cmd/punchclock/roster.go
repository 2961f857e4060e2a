package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue"
	"punchclock/queue/roster"
)

type rosterRow struct {
	Number   string   `json:"employee_no"`
	Name     string   `json:"name"`
	Badges   []string `json:"badges"`
	FeishuID string   `json:"feishu_id,omitempty"`
	SigninID string   `json:"signin_id,omitempty"`
	Language string   `json:"language,omitempty"`
	Active   bool     `json:"active"`
	// The time in which the number is the person's, before Until; zero is without an end.
	From  time.Time `json:"valid_from,omitzero"`
	Until time.Time `json:"valid_until,omitzero"`
}

func (a *archive) serveRoster(w http.ResponseWriter, _ *http.Request) {
	rows := []rosterRow{}
	if a.roster != nil {
		for _, e := range a.roster.All() {
			r := rosterRow{Number: e.Number, Name: e.Name, FeishuID: e.FeishuID, SigninID: e.SigninID, Language: e.Language, Active: e.Active, From: e.From, Until: e.To, Badges: []string{}}
			for _, b := range e.Badges {
				r.Badges = append(r.Badges, string(b))
			}
			rows = append(rows, r)
		}
	}
	writeJSON(w, rows)
}

const rosterMost = 32 << 20 // bytes of an imported file

// sumOf is the SHA-256 of a file. A small board takes tens of milliseconds for it, and
// rests while somebody may be at the door.
func sumOf(data []byte) []byte {
	var rest queue.Pace
	h := sha256.New()
	for piece := range slices.Chunk(data, 4<<10) {
		rest.Step(0)
		h.Write(piece)
	}
	return h.Sum(nil)
}

// serveImport replaces the roster by the CSV file in the request, or not at all; with
// dry=1 it only says what that would change.
func (a *archive) serveImport(w http.ResponseWriter, r *http.Request) {
	defer collectLate()()
	q := r.URL.Query()
	var text bytes.Buffer
	if 0 < r.ContentLength && r.ContentLength <= rosterMost { // in one piece, without several smaller ones to collect
		text.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	_, err := text.ReadFrom(http.MaxBytesReader(w, r.Body, rosterMost+1))
	data := text.Bytes()
	sum := sumOf(data)
	var rows []*roster.Row
	if err == nil {
		data, err = roster.Decode(q.Get("name"), cmp.Or(q.Get("encoding"), "utf-8"), data)
	}
	if err == nil {
		rows, err = roster.ReadCSV(q.Get("name"), data, a.cfg.cards(), a.cfg.Device.Timezone)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	data, text = nil, bytes.Buffer{} // before the new roster takes its place beside the old one
	var diff roster.Diff
	if q.Get("dry") != "" {
		diff, err = a.roster.Preview(rows)
	} else if diff, err = a.roster.Import(rows, roster.Source{By: cmp.Or(q.Get("by"), "import"), Sum: sum}); err == nil {
		err = a.audited()
	}
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	writeJSON(w, diff)
}

func rosterCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "roster", Short: "Who the badges belong to", PersistentPreRun: func(*cobra.Command, []string) {
		standBack()
		debug.SetGCPercent(gcStart) // collecting takes more time than the work does
	}}
	var dry bool
	var encoding, by string
	imp := t.reporting(&cobra.Command{
		Use: "import FILE.csv", Short: "Replace the roster by a CSV file, whole or not at all (- for stdin)", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var in io.Reader = t.stdin
			name := "stdin"
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usage("roster: %w", err)
				}
				defer f.Close()
				in, name = f, filepath.Base(args[0])
			}
			// Read here first: a wrong file is refused without troubling the clock.
			b, err := io.ReadAll(io.LimitReader(in, rosterMost+1))
			if err != nil {
				return fmt.Errorf("roster: %s: %w", name, err)
			}
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			text, err := roster.Decode(name, encoding, b)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("nothing was imported:\n%w", err)}
			}
			if _, err := roster.ReadCSV(name, text, cfg.cards(), cfg.Device.Timezone); err != nil {
				return &exitError{exitUsage, fmt.Errorf("nothing was imported:\n%w", err)}
			}
			cl, err := control(cfg, true)
			if err != nil {
				return err
			}
			defer cl.close()
			query := url.Values{"name": {name}, "encoding": {encoding}, "by": {by}}
			if dry {
				query.Set("dry", "1")
			}
			body, err := cl.do(c.Context(), "POST", "/roster", query, bytes.NewReader(b))
			if err != nil {
				return err
			}
			var d roster.Diff
			if err := readJSON(body, &d); err != nil {
				return err
			}
			if t.json {
				return t.printJSON(d)
			}
			if dry {
				printDiff(t.stdout, d)
			}
			_, err = fmt.Fprintf(t.stdout, "%d added, %d changed, %d removed, %d unchanged\n", len(d.Added), len(d.Changed), len(d.Removed), d.Unchanged)
			return err
		},
	})
	imp.Flags().BoolVar(&dry, "dry-run", false, "only say what would change")
	imp.Flags().StringVar(&encoding, "encoding", "utf-8", "of the file: "+strings.Join(roster.Encodings(), ", "))
	imp.Flags().StringVar(&by, "by", "", "who does it, for the audit chain")
	fetch := func(c *cobra.Command) (cfg *config, rows []rosterRow, err error) {
		cfg, cl, err := t.open(false)
		if err != nil {
			return nil, nil, err
		}
		defer cl.close()
		return cfg, rows, cl.getJSON(c.Context(), "/roster", &rows)
	}
	ls := t.reporting(&cobra.Command{
		Use: "ls", Short: "List the people of the roster", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, rows, err := fetch(c)
			if err != nil {
				return err
			}
			if t.json {
				return t.printJSON(rows)
			}
			w := tabwriter.NewWriter(t.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "EMPLOYEE\tNAME\tBADGES\tACTIVE")
			for _, r := range rows {
				badges := ""
				for i, b := range r.Badges {
					if i > 0 {
						badges += " "
					}
					badges += b
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%v\n", r.Number, dash(r.Name), dash(badges), r.Active)
			}
			return w.Flush()
		},
	})
	var output string
	export := t.reporting(&cobra.Command{
		Use: "export", Short: "Write the roster as CSV, without PINs", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, rows, err := fetch(c)
			if err != nil {
				return err
			}
			return t.toOutput(output, func(w io.Writer) error {
				if t.json {
					return json.NewEncoder(w).Encode(rows)
				}
				return writeRoster(w, rows, cfg.Device.Timezone)
			})
		},
	})
	export.Flags().StringVar(&output, "output", "", "write to this `file`, which appears when it is whole")
	c.AddCommand(imp, ls, export, refreshCommand(t), feishuIDsCommand(t))
	return c
}

// printDiff lists what an import would change, a line for each person.
func printDiff(w io.Writer, d roster.Diff) {
	for _, n := range d.Added {
		fmt.Fprintf(w, "+ %s%s\n", n, passedOn(d, n))
	}
	for _, n := range d.Changed {
		fmt.Fprintf(w, "~ %s\t%s%s\n", n, strings.Join(d.Columns[n], ", "), passedOn(d, n))
	}
	for _, n := range d.Removed {
		fmt.Fprintf(w, "- %s\n", n)
	}
	for _, c := range d.Cards {
		if c.From != "" && c.To != "" {
			fmt.Fprintf(w, "> %s\tthe card of %s is %s's then\n", string(c.Badge), c.From, c.To)
		}
	}
}

// passedOn says that a number is another person's from now on.
func passedOn(d roster.Diff, number string) string {
	if !slices.Contains(d.Passed, number) {
		return ""
	}
	return "\tanother person: what the one before has punched stays that one's"
}

func readJSON(body io.ReadCloser, v any) error {
	err := json.NewDecoder(body).Decode(v)
	return errors.Join(err, body.Close())
}
