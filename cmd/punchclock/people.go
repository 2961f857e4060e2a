package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
)

// holderAsked is the person that a call is about: who has the number, or had it on a day.
func (a *archive) holderAsked(q url.Values) (punch.Employee, time.Time, error) {
	number := q.Get("employee_no")
	on, err := parseDay(q.Get("on"), a.cfg.Device.Timezone, false)
	if err != nil {
		return punch.Employee{}, on, err
	}
	if a.roster != nil && on.IsZero() {
		if e, ok := a.roster.ByNumber(number); ok {
			return e, on, nil
		}
	} else if a.roster != nil {
		if e, ok := a.roster.ByNumberAt(number, on); ok {
			return e, on, nil
		}
	}
	return punch.Employee{Number: number}, on, fmt.Errorf("employee %s: %w", number, roster.ErrNobody)
}

// servePerson tells whom a copy is for, and how the chain ends.
func (a *archive) servePerson(w http.ResponseWriter, r *http.Request) {
	e, _, err := a.holderAsked(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	out := personCopy{Employee: e.Number, Name: e.Name, Language: cmp.Or(e.Language, a.cfg.Kiosk.Language), From: e.From, Until: e.To,
		Device: a.cfg.Device.ID, Place: a.cfg.Device.Name, KeepYears: a.cfg.Outbox.KeepYears}
	if a.outbox != nil {
		s := a.outbox.Stats()
		out.LastSeq, out.LastHash = s.LastSeq, fmt.Sprintf("%x", s.LastHash)
	}
	writeJSON(w, out)
}

// exportCopy writes a person's own copy as a PDF.
func (t *tool) exportCopy(ctx context.Context, cfg *config, cl *controlClient, employee, on string, punches io.Reader, w io.Writer) error {
	var who personCopy
	if err := cl.getJSON(ctx, "/person?"+url.Values{"employee_no": {employee}, "on": {on}}.Encode(), &who); err != nil {
		return err
	}
	var rows []exportRow
	var records bytes.Buffer
	lines := bufio.NewReaderSize(punches, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		var row struct {
			exportRow
			Error string `json:"error"`
		}
		if err == nil {
			err = json.Unmarshal(line, &row)
		}
		if err == nil && row.Error != "" {
			err = errors.New(row.Error)
		}
		if err != nil {
			return fmt.Errorf("the export was cut off: %w", err)
		}
		if who.holds(&row.exportRow) {
			rows = append(rows, row.exportRow)
			records.Write(line)
		}
	}
	whole, err := writeCopy(w, who, rows, records.Bytes(), time.Now().In(cfg.Device.Timezone))
	if err == nil && !whole {
		fmt.Fprintln(t.stderr, "this machine has no font for some letters of the copy, and the copy says so: apt-get install fonts-noto-core fonts-noto-cjk, and make it again")
	}
	return err
}

// forgotten is what came of forgetting somebody: what is gone, and what is not, and why.
type forgotten struct {
	Employee string   `json:"employee_no"`
	Cards    int      `json:"cards"`    // taken from the roster
	Portrait bool     `json:"portrait"` // there was one
	Punches  int      `json:"punches"`  // that stay
	First    string   `json:"first,omitempty"`
	Last     string   `json:"last,omitempty"`
	Until    string   `json:"kept_until,omitempty"` // the day after which the last of them may go
	Unsent   int      `json:"unsent"`
	Remains  []string `json:"remains"`
}

var errStillHere = errors.New("this person still works here by the roster, and could not punch any more")

// forget deletes a person from everything but the punches that the law keeps.
func (a *archive) forget(ctx context.Context, e punch.Employee, on time.Time, force bool, by string) (forgotten, error) {
	out := forgotten{Employee: e.Number, Cards: len(e.Badges), Remains: []string{}}
	if e.Active && !force {
		return out, errStillHere
	}
	who := personCopy{Employee: e.Number, From: e.From, Until: e.To}
	var last time.Time
	err := a.outbox.Read(ctx, 1, func(x queue.Entry) error {
		if x.Damaged != nil || x.Employee != e.Number || !x.Outcome.Sent() && x.Outcome != punch.Duplicate {
			return nil
		}
		row := rowOf(x, a.cfg.Device.ID, a.cfg.Device.Timezone)
		if !who.holds(&row) {
			return nil
		}
		day := x.Time().In(a.cfg.Device.Timezone).Format(time.DateOnly)
		out.First = cmp.Or(out.First, day)
		out.Last, last = day, x.Time()
		out.Punches++
		for _, d := range x.Deliveries {
			if d.State == punch.Pending || d.State == punch.Parked {
				out.Unsent++
				break
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return out, err
	case out.Unsent > 0 && !force:
		return out, fmt.Errorf("%d of this person's punches are not delivered yet, and a destination may need the ids: punchclock queue ls", out.Unsent)
	}
	theirs := portraitOf(e)
	kept, _, err := a.portraits.list()
	if err != nil {
		return out, err
	}
	out.Portrait = slices.ContainsFunc(kept, theirs.same) // a running clock may be quicker than the drop below
	if _, err := a.roster.Forget(e.Number, on, by); err != nil {
		return out, err
	}
	errs := []error{a.audited()}
	waited := map[string]bool{} // résumés of this name
	if e.Name != "" {
		errs = append(errs, a.candidates.change(func(f *candidateFile) error {
			kept := f.Pending[:0]
			for _, p := range f.Pending {
				if p.Name == e.Name {
					f.Done[p.ID] = time.Now().UTC()
					waited[p.ID] = true
				} else {
					kept = append(kept, p)
				}
			}
			f.Pending = kept
			return nil
		}))
	}
	n, err := a.portraits.drop(func(f portraitFile) bool { return f.same(theirs) || waited[f.resume] })
	out.Portrait = out.Portrait || n > 0
	errs = append(errs, err)
	if out.Punches > 0 {
		keep := fmt.Sprintf("%d punches, %s to %s, with employee number and card number, in the audit chain and its second copy", out.Punches, out.First, out.Last)
		if a.cfg.Outbox.KeepYears > 0 {
			out.Until = last.In(a.cfg.Device.Timezone).AddDate(a.cfg.Outbox.KeepYears, 0, 0).Format(time.DateOnly)
			keep += fmt.Sprintf(": attendance records have to be kept (outbox.keep_years = %d), the last of these until %s, and then go by themselves", a.cfg.Outbox.KeepYears, out.Until)
		}
		out.Remains = append(out.Remains, keep)
	}
	out.Remains = append(out.Remains,
		"the number, and from when to when it was this person's: nobody who has it later inherits the punches",
		"the numbers of the cards, without a person: blocked ones stay blocked, and whoever gets one does not get what was tapped with it before",
		"whatever the destinations hold: ask for it there")
	if a.cfg.Roster.Source != "" {
		out.Remains = append(out.Remains, "HR's own file, which the roster is read from: take the person out there, or the next change brings the person back")
	}
	for _, pattern := range []string{"roster.db.damaged-*", filepath.Join("outbox", "quarantine", "*")} {
		found, err := filepath.Glob(filepath.Join(a.cfg.Device.StateDir, pattern))
		errs = append(errs, err)
		for _, f := range found {
			out.Remains = append(out.Remains, "a file that was set aside as damaged and may hold the person; look at it, or remove it: "+f)
		}
	}
	return out, errors.Join(errs...)
}

func (a *archive) serveForget(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	e, on, err := a.holderAsked(q)
	if err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	out, err := a.forget(r.Context(), e, on, q.Get("force") != "", cmp.Or(q.Get("by"), byVerb))
	if err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	writeJSON(w, out)
}

func peopleCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "people", Short: "What the clock knows of a person"}
	var on, by string
	var force bool
	forget := t.reporting(&cobra.Command{
		Use: "forget EMPLOYEE", Short: "Delete a person from everything but the punches that the law keeps", Args: cobra.ExactArgs(1),
		Long: `Delete name, cards, ids, PIN and portrait of a person who has left, and say what remains and why.
It is noted in the audit chain, without the name. Make the person's own copy first:
punchclock punches export --employee N --format pdf`,
		RunE: func(c *cobra.Command, args []string) error {
			q := url.Values{"employee_no": {args[0]}, "on": {on}, "by": {by}}
			if force {
				q.Set("force", "1")
			}
			var out forgotten
			return t.cardCall(c.Context(), "/people/forget", q, nil, false, &out, func(w io.Writer) {
				portrait := "there was no portrait"
				if out.Portrait {
					portrait = "so is the portrait"
				}
				fmt.Fprintf(w, "%s is forgotten: name, ids, PIN and %d cards are deleted here; %s\n", out.Employee, out.Cards, portrait)
				fmt.Fprintf(w, "what remains:\n- %s\n", strings.Join(out.Remains, "\n- "))
			})
		},
	})
	forget.Flags().StringVar(&on, "on", "", "whoever had the number on this `day`")
	forget.Flags().BoolVar(&force, "force", false, "also somebody who works here, or whose punches are not delivered yet")
	forget.Flags().StringVar(&by, "by", "", "who does it, for the audit chain")
	c.AddCommand(forget, portraitCommand(t))
	return c
}
