package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/drain"
	"punchclock/sync/feishu"
)

// Feishu ids for the roster. HR knows mobile numbers and e-mail addresses; a
// destination with employee_type employee_id needs Feishu's own ids. The running clock
// asks, under its ceiling and with its token; what comes of it is a roster file to
// look at and import, and nothing is changed before that. Numbers and addresses pass
// through the control socket and are kept nowhere: not in the log, not in the report,
// not in the file.

// idFinder is a destination that knows people's ids by their contacts.
type idFinder interface {
	LookUp(ctx context.Context, contacts []feishu.Contact) ([]feishu.Found, error)
}

var _ idFinder = (*feishu.Client)(nil)

const contactsAtOnce = 50

// serveFeishuIDs answers for one lot of contacts.
func (h *clockwork) serveFeishuIDs(w http.ResponseWriter, r *http.Request) {
	var contacts []feishu.Contact
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&contacts); err != nil || len(contacts) > contactsAtOnce {
		refuse(w, http.StatusBadRequest, errors.New("not a list of contacts"))
		return
	}
	name := r.URL.Query().Get("destination")
	i := slices.IndexFunc(h.workers, func(w *worker) bool { return w.name() == name })
	if i < 0 {
		refuse(w, http.StatusBadRequest, fmt.Errorf("the running clock has no destination %q", name))
		return
	}
	d := h.workers[i].now.Load()
	finder, ok := d.dest.(idFinder)
	if !ok {
		refuse(w, http.StatusBadRequest, fmt.Errorf("destination %q knows no ids: name one with driver = \"feishu\"", name))
		return
	}
	var found []feishu.Found
	err := d.during(r.Context(), func(ctx context.Context) (err error) {
		found, err = patiently(ctx, func() ([]feishu.Found, error) { return finder.LookUp(ctx, contacts) })
		return err
	})
	if err != nil {
		refuse(w, http.StatusBadGateway, err)
		return
	}
	writeJSON(w, found)
}

// patiently asks again, a few times, where the far side wants quiet first.
func patiently[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	var wait drain.Backoff
	for tries := 0; ; tries++ {
		got, err := ask()
		var busy *drain.Busy
		if err == nil || tries >= reconcileBusy || !errors.As(err, &busy) {
			return got, err
		}
		select {
		case <-time.After(wait.Busy(busy.After)):
		case <-ctx.Done():
			return got, ctx.Err()
		}
	}
}

// contactRow is one line of HR's file.
type contactRow struct {
	number  string
	contact feishu.Contact
}

var (
	mobileForm = regexp.MustCompile(`^\+?[0-9]{6,15}$`)
	emailForm  = regexp.MustCompile(`^[^@\s]{1,64}@[^@\s]{1,190}$`)
)

// readContacts reads a CSV with a header: employee_no, and mobile or email or both.
// Other columns are not looked at. Split by commas, semicolons or tabs; what is wrong
// is told by line and column, and never quoted.
func readContacts(name string, data []byte) ([]contactRow, error) {
	data = bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))
	c := csv.NewReader(bytes.NewReader(data))
	first, _, _ := bytes.Cut(data, []byte{'\n'})
	for _, comma := range ";\t" {
		if !bytes.ContainsRune(first, ',') && bytes.ContainsRune(first, comma) {
			c.Comma = comma
		}
	}
	bad := func(line, col int, format string, args ...any) error {
		return fmt.Errorf("%s:%d:%d: %s", name, line, col, fmt.Sprintf(format, args...))
	}
	next := func() ([]string, error) {
		rec, err := c.Read()
		if pe, ok := errors.AsType[*csv.ParseError](err); ok {
			return nil, bad(pe.Line, pe.Column, "%v", pe.Err)
		}
		return rec, err
	}
	head, err := next()
	if errors.Is(err, io.EOF) {
		return nil, bad(1, 1, "the file is empty; its first line names the columns: employee_no,mobile,email")
	}
	if err != nil {
		return nil, err
	}
	where := map[string]int{}
	for i, h := range head {
		where[strings.ToLower(strings.TrimSpace(h))] = i
	}
	number, hasNumber := where["employee_no"]
	mobile, hasMobile := where["mobile"]
	email, hasEmail := where["email"]
	if !hasNumber || !hasMobile && !hasEmail {
		return nil, bad(1, 1, "the columns employee_no, and mobile or email or both, are needed")
	}
	var rows []contactRow
	var wrong []error
	seen := map[string]int{}
	for {
		rec, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		r := contactRow{number: strings.TrimSpace(rec[number])}
		complain := func(column int, format string, args ...any) {
			line, col := c.FieldPos(column)
			if len(wrong) < 20 {
				wrong = append(wrong, bad(line, col, format, args...))
			}
		}
		line, _ := c.FieldPos(0)
		if hasMobile {
			r.contact.Mobile = strings.Map(func(x rune) rune {
				if strings.ContainsRune(" -()\u00A0", x) {
					return -1
				}
				return x
			}, rec[mobile])
			if m := r.contact.Mobile; m != "" && !mobileForm.MatchString(m) {
				complain(mobile, "the mobile number is not 6 to 15 digits; outside mainland China it begins with + and the country's code; in a spreadsheet, format the column as text")
			}
		}
		if hasEmail {
			r.contact.Email = strings.TrimSpace(rec[email])
			if e := r.contact.Email; e != "" && !emailForm.MatchString(e) {
				complain(email, "this is not an e-mail address")
			}
		}
		switch first := seen[r.number]; {
		case r.number == "" && r.contact == feishu.Contact{}:
			continue // a spreadsheet's empty line
		case r.number == "":
			complain(number, "the employee number is empty")
		case first > 0:
			complain(number, "employee number %q is on line %d and on line %d", r.number, first, line)
		}
		seen[r.number] = line
		rows = append(rows, r)
	}
	return rows, errors.Join(wrong...)
}

// idsReport is what came of the asking, by employee number.
type idsReport struct {
	Finished    bool     `json:"finished"`
	Problem     string   `json:"problem,omitempty"` // why not
	Left        int      `json:"left"`              // people that are still to be asked for
	Asked       int      `json:"asked"`
	Already     int      `json:"already"` // had an id before
	Found       []string `json:"found"`
	Unknown     []string `json:"unknown"`       // Feishu knows nobody by these contacts
	Resigned    []string `json:"resigned"`      // it is somebody who has left
	Conflict    []string `json:"conflict"`      // mobile and e-mail are two people's
	SameID      []string `json:"same_id"`       // two people would have one id, as 000123=000124: neither gets it
	NoContact   []string `json:"no_contact"`    // neither mobile nor e-mail in the file
	NotInRoster []string `json:"not_in_roster"` // in the file only
}

func (r idsReport) print(to io.Writer) {
	fmt.Fprintf(to, "%d asked for, %d found, %d had an id already, %d still to be asked for\n", r.Asked, len(r.Found), r.Already, r.Left)
	for _, l := range []struct {
		what string
		who  []string
	}{
		{"unknown at Feishu: check mobile and e-mail there", r.Unknown}, {"somebody who has left Feishu", r.Resigned},
		{"mobile and e-mail are two people's at Feishu", r.Conflict}, {"two people would have one id, correct their contacts", r.SameID},
		{"neither mobile nor e-mail in the file", r.NoContact}, {"not in the roster", r.NotInRoster},
	} {
		if len(l.who) > 0 {
			fmt.Fprintf(to, "%s: %s\n", l.what, strings.Join(l.who, " "))
		}
	}
	if r.Asked > 1 && len(r.Unknown) == r.Asked {
		fmt.Fprintln(to, "nobody at all was found: most likely the app may not read user ids; in the Feishu developer console give it contact:user.employee_id:readonly")
	}
}

func feishuIDsCommand(t *tool) *cobra.Command {
	var dest, output string
	c := t.reporting(&cobra.Command{
		Use: "feishu-ids CONTACTS.csv", Short: "Look Feishu ids up by mobile or e-mail and write a roster with them", Args: cobra.ExactArgs(1),
		Long: `Look Feishu ids up by mobile number or e-mail address, for people whose feishu_id the
roster lacks, and write the roster with the ids filled in. CONTACTS.csv has a header and
the columns employee_no, and mobile or email or both; other columns are not looked at.
Nothing is changed: look at what was written, then: punchclock roster import.
With --output the ids in that file count as known, and it is written as they come: what
was broken off goes on where it ended. Only the running clock can ask: it has the token
and keeps the pace.`,
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if dest, err = feishuDestination(cfg, dest); err != nil {
				return &exitError{exitUsage, err}
			}
			data, name, err := t.input(args[0])
			if err != nil {
				return err
			}
			contacts, err := readContacts(name, data)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("nobody was asked for:\n%w", err)}
			}
			if t.json && output == "" {
				return usage("with --json, say where the roster goes: --output FILE.csv")
			}
			cl, err := dialControl(cfg)
			if err != nil {
				return &exitError{exitUnchecked, fmt.Errorf("feishu-ids: %w; only the running clock can ask, start it with: systemctl start punchclock", err)}
			}
			defer cl.close()
			var rows []rosterRow
			if err := cl.getJSON(c.Context(), "/roster", &rows); err != nil {
				return err
			}
			w := idWork{rows: rows, save: func(rows []rosterRow) error { return nil }}
			if output != "" {
				if err := w.takeOver(output, cfg.cards(), cfg.Device.Timezone); err != nil {
					return err
				}
				w.save = func(rows []rosterRow) error {
					return t.toOutput(output, func(to io.Writer) error { return writeRoster(to, rows, cfg.Device.Timezone) })
				}
			}
			bar := t.progress("people asked for", 0)
			w.step = bar.at
			report, err := w.run(contacts, func(lot []feishu.Contact) (found []feishu.Found, err error) {
				b, err := json.Marshal(lot)
				if err != nil {
					return nil, err
				}
				body, err := cl.do(c.Context(), "POST", "/roster/feishu-ids", url.Values{"destination": {dest}}, bytes.NewReader(b))
				if err != nil {
					return nil, err
				}
				return found, readJSON(body, &found)
			})
			bar.end()
			if err != nil {
				return err
			}
			switch {
			case t.json:
				err = t.printJSON(report)
			case output == "":
				report.print(t.stderr)
				err = t.toOutput("", func(to io.Writer) error { return writeRoster(to, w.rows, cfg.Device.Timezone) })
			default:
				report.print(t.stdout)
			}
			if err == nil && !report.Finished {
				err = &exitError{exitUnchecked, fmt.Errorf("feishu-ids: %d people were not asked for: %s", report.Left, report.Problem)}
			}
			return err
		},
	})
	c.Flags().StringVar(&dest, "destination", "", "the `name` of the Feishu destination, where there are several")
	c.Flags().StringVar(&output, "output", "", "write the roster to this `file`, and go on from what it holds already")
	return c
}

// feishuDestination is the one that was named, or the only one there is.
func feishuDestination(cfg *config, name string) (string, error) {
	var names []string
	for _, d := range cfg.Destinations {
		if d.Driver == "feishu" {
			names = append(names, d.Name)
		}
	}
	switch {
	case name != "" && slices.Contains(names, name):
		return name, nil
	case name != "":
		return "", fmt.Errorf("destination %q is not one with driver = \"feishu\"; there is %q", name, names)
	case len(names) == 1:
		return names[0], nil
	case len(names) == 0:
		return "", errors.New("the configuration has no destination with driver = \"feishu\"")
	}
	return "", fmt.Errorf("say which of %q: --destination NAME", names)
}

// input reads a file, or standard input for -.
func (t *tool) input(path string) (data []byte, name string, err error) {
	in, name := t.stdin, "stdin"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, "", &exitError{exitUsage, err}
		}
		defer f.Close()
		in, name = f, filepath.Base(path)
	}
	data, err = io.ReadAll(io.LimitReader(in, rosterMost+1))
	if err == nil && len(data) > rosterMost {
		err = usage("%s is larger than 32 MiB", name)
	}
	return data, name, err
}

func (r rosterRow) employee() punch.Employee {
	e := punch.Employee{Number: r.Number, Name: r.Name, FeishuID: r.FeishuID, SigninID: r.SigninID, Language: r.Language, Active: r.Active, From: r.From, To: r.Until}
	for _, b := range r.Badges {
		e.Badges = append(e.Badges, punch.Badge(b))
	}
	return e
}

func writeRoster(to io.Writer, rows []rosterRow, loc *time.Location) error {
	people := make([]punch.Employee, len(rows))
	for i, r := range rows {
		people[i] = r.employee()
	}
	return roster.WriteCSV(to, people, loc)
}

// idWork fills ids into the roster's rows.
type idWork struct {
	rows []rosterRow
	save func([]rosterRow) error // after every lot
	step func(uint64)
}

// takeOver counts the ids as known that an earlier, broken off run has written.
func (w *idWork) takeOver(path string, cards roster.Cards, loc *time.Location) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	had, err := roster.ReadCSV(filepath.Base(path), data, cards, loc)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("%s is there and is no roster; name another --output:\n%w", path, err)}
	}
	ids := map[string]string{}
	for _, r := range had {
		ids[r.Number] = r.FeishuID
	}
	for i := range w.rows {
		if w.rows[i].FeishuID == "" {
			w.rows[i].FeishuID = ids[w.rows[i].Number]
		}
	}
	return nil
}

// run asks lot by lot. A lot that fails ends the work with what is known; an error is
// of the file that is written.
func (w *idWork) run(contacts []contactRow, ask func([]feishu.Contact) ([]feishu.Found, error)) (*idsReport, error) {
	r := &idsReport{Finished: true, Found: []string{}, Unknown: []string{}, Resigned: []string{}, Conflict: []string{}, SameID: []string{}, NoContact: []string{}, NotInRoster: []string{}}
	at := map[string]int{}    // number → row
	taken := map[string]int{} // id → row
	for i, row := range w.rows {
		at[row.Number] = i
		if row.FeishuID != "" {
			taken[row.FeishuID] = i
		}
	}
	var open []contactRow
	for _, c := range contacts {
		i, known := at[c.number]
		switch {
		case !known:
			r.NotInRoster = append(r.NotInRoster, c.number)
		case w.rows[i].FeishuID != "":
			r.Already++
		case c.contact == feishu.Contact{}:
			r.NoContact = append(r.NoContact, c.number)
		default:
			open = append(open, c)
		}
	}
	for len(open) > 0 {
		lot := open[:min(len(open), contactsAtOnce)]
		asked := make([]feishu.Contact, len(lot))
		for i, c := range lot {
			asked[i] = c.contact
		}
		found, err := ask(asked)
		if err == nil && len(found) != len(lot) {
			err = errors.New("the clock's answer is not whole")
		}
		if err != nil {
			r.Finished, r.Problem, r.Left = false, err.Error(), len(open)
			break
		}
		for i, f := range found {
			n := lot[i].number
			other, same := taken[f.ID]
			switch {
			case f.Conflict:
				r.Conflict = append(r.Conflict, n)
			case f.ID == "":
				r.Unknown = append(r.Unknown, n)
			case f.Resigned:
				r.Resigned = append(r.Resigned, n)
			case same:
				// Which of the two is right nobody knows: neither gets it.
				o := w.rows[other].Number
				if i := slices.Index(r.Found, o); i >= 0 {
					r.Found = slices.Delete(r.Found, i, i+1)
					w.rows[other].FeishuID = ""
				}
				r.SameID = append(r.SameID, n+"="+o)
			default:
				w.rows[at[n]].FeishuID, taken[f.ID] = f.ID, at[n]
				r.Found = append(r.Found, n)
			}
		}
		r.Asked += len(lot)
		open = open[len(lot):]
		if err := w.save(w.rows); err != nil {
			return nil, err
		}
		if w.step != nil {
			w.step(uint64(r.Asked))
		}
	}
	return r, nil
}
