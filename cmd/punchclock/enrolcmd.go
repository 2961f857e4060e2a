package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue/punch"
	"punchclock/queue/roster"
)

// byVerb is who did it where nobody says so.
const byVerb = "command line"

// cardAsked is the card that a call is about, and who asks.
func cardAsked(r *http.Request) (b punch.Badge, by string, err error) {
	q := r.URL.Query()
	b, err = roster.CardOf(q.Get("badge"))
	return b, cmp.Or(q.Get("by"), byVerb), err
}

// refuseCard answers with what a person can do about it.
func refuseCard(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, roster.ErrTaken):
		err = fmt.Errorf("%w; to take it from there: --move", err)
	case errors.Is(err, roster.ErrBlocked):
		err = fmt.Errorf("%w; if it was found: punchclock badge unblock", err)
	case errors.Is(err, roster.ErrNobody), errors.Is(err, roster.ErrMaster), errors.Is(err, errEnrolling), errors.Is(err, errEnrolLate):
	default:
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	refuse(w, http.StatusConflict, err)
}

func (a *archive) serveGive(w http.ResponseWriter, r *http.Request) {
	b, by, err := cardAsked(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	q := r.URL.Query()
	out, err := a.giveCard(b, q.Get("employee_no"), q.Get("move") != "", by)
	if err != nil {
		refuseCard(w, err)
		return
	}
	a.kick("")
	writeJSON(w, out)
}

func (a *archive) serveTake(w http.ResponseWriter, r *http.Request) {
	b, by, err := cardAsked(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	from, err := a.takeCard(b, by)
	if err != nil {
		refuseCard(w, err)
		return
	}
	writeJSON(w, map[string]string{"badge": string(b), "from": from})
}

func (a *archive) serveUnlink(w http.ResponseWriter, r *http.Request) {
	b, by, err := cardAsked(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	out, err := a.unlinkCard(b, by)
	if err != nil {
		refuseCard(w, err)
		return
	}
	a.kick("")
	writeJSON(w, out)
}

func (a *archive) serveBlock(change func(punch.Badge, string) (bool, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, by, err := cardAsked(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		changed, err := change(b, by)
		if err != nil {
			refuseCard(w, err)
			return
		}
		writeJSON(w, map[string]any{"badge": string(b), "changed": changed})
	}
}

func (a *archive) serveStrangers(w http.ResponseWriter, _ *http.Request) {
	all, err := a.strangers()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	writeJSON(w, all)
}

// personFound is one line of a search.
type personFound struct {
	Number string `json:"employee_no"`
	Name   string `json:"name"`
	Badges int    `json:"badges"`
	Active bool   `json:"active"`
}

func (a *archive) serveFind(w http.ResponseWriter, r *http.Request) {
	out := []personFound{}
	for _, e := range a.findPeople(r.URL.Query().Get("q"), 50) {
		out = append(out, personFound{e.Number, e.Name, len(e.Badges), e.Active})
	}
	writeJSON(w, out)
}

func (a *archive) serveMasters(w http.ResponseWriter, _ *http.Request) {
	out := []string{}
	if a.roster != nil {
		for _, b := range a.roster.Masters() {
			out = append(out, string(b))
		}
	}
	writeJSON(w, out)
}

func (a *archive) serveSetMaster(w http.ResponseWriter, r *http.Request) {
	b, by, err := cardAsked(r)
	if err == nil {
		var pin []byte
		if pin, err = io.ReadAll(http.MaxBytesReader(w, r.Body, 64)); err == nil && r.URL.Query().Get("off") == "" && len(pin) == 0 {
			err = errors.New("a master card needs a PIN of 4 to 12 digits")
		}
		if err == nil {
			err = a.roster.SetMaster(b, string(pin), by)
		}
	}
	if err == nil {
		err = a.audited()
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	writeJSON(w, map[string]bool{"set": true})
}

// serveEnrol opens enrolment and answers when the card was tapped.
func (a *archive) serveEnrol(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	ms, err := strconv.Atoi(q.Get("wait_ms"))
	wait := time.Duration(ms) * time.Millisecond
	if err != nil || wait <= 0 || wait > enrolMost {
		refuse(w, http.StatusBadRequest, fmt.Errorf("--wait: write a time up to %v, for example 60s", enrolMost))
		return
	}
	if name := q.Get("reader"); name != "" {
		known := false
		for _, c := range a.cfg.Readers {
			known = known || c.Name == name
		}
		if !known {
			refuse(w, http.StatusBadRequest, fmt.Errorf("no reader %q in the configuration", name))
			return
		}
	}
	out, err := a.enrol.tap(r.Context(), q.Get("employee_no"), q.Get("reader"), q.Get("move") != "", cmp.Or(q.Get("by"), byVerb), wait)
	if err != nil {
		refuseCard(w, err)
		return
	}
	a.kick("")
	writeJSON(w, out)
}

// cardCall makes one call that changes something about a card, and prints what came of it.
func (t *tool) cardCall(ctx context.Context, path string, q url.Values, in io.Reader, daemon bool, v any, print func(io.Writer)) error {
	cfg, err := loadConfig(t.configPath, built())
	if err != nil {
		return &exitError{exitUsage, err}
	}
	var cl *controlClient
	if daemon {
		if cl, err = dialControl(cfg); errors.Is(err, errNoDaemon) {
			return &exitError{exitUnchecked, fmt.Errorf("%w; only a running clock reads cards", err)}
		}
	} else {
		cl, err = control(cfg, true)
	}
	if err != nil {
		return err
	}
	defer cl.close()
	body, err := cl.do(ctx, "POST", path, q, in)
	if err != nil {
		return err
	}
	if err := readJSON(body, v); err != nil {
		return err
	}
	if t.json {
		return t.printJSON(v)
	}
	print(t.stdout)
	return nil
}

func (g given) print(w io.Writer) {
	switch {
	case !g.Changed:
		fmt.Fprintf(w, "%s is %s's card already (%s)\n", g.Badge, g.Employee, dash(g.Name))
	case g.From != "":
		fmt.Fprintf(w, "%s is %s's card now (%s), and was %s's\n", g.Badge, g.Employee, dash(g.Name), g.From)
	default:
		fmt.Fprintf(w, "%s is %s's card now (%s)\n", g.Badge, g.Employee, dash(g.Name))
	}
	if g.Linked > 0 {
		fmt.Fprintf(w, "%d punches were made with it before anybody knew it: they are delivered now, with their own times\n", g.Linked)
	}
}

func enrolCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "enrol", Short: "Give people their cards"}
	var employee, reader, by string
	var wait time.Duration
	var move bool
	open := t.reporting(&cobra.Command{
		Use: "open", Short: "The next card tapped at the running clock is this employee's", Args: cobra.NoArgs,
		Long: `Wait for a card at a reader of the running clock and make it the employee's. The tap
is no punch. It is over after one card, or when the time is up.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if employee == "" {
				return usage("enrol open: say whose the card will be: --employee 000123; to look for somebody: punchclock enrol find WORD")
			}
			fmt.Fprintf(t.stderr, "tap the new card within %v\n", wait)
			q := url.Values{"employee_no": {employee}, "reader": {reader}, "by": {by}, "wait_ms": {strconv.FormatInt(wait.Milliseconds(), 10)}}
			if move {
				q.Set("move", "1")
			}
			var out given
			return t.cardCall(c.Context(), "/enrol", q, nil, true, &out, func(w io.Writer) { out.print(w) })
		},
	})
	open.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait for the card")
	open.Flags().StringVar(&reader, "reader", "", "only at the reader of this `name`")
	card := t.reporting(&cobra.Command{
		Use: "card BADGE", Short: "Make a card an employee's whose number is known, for example from `enrol seen`", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if employee == "" {
				return usage("enrol card: say whose the card will be: --employee 000123")
			}
			q := url.Values{"badge": {args[0]}, "employee_no": {employee}, "by": {by}}
			if move {
				q.Set("move", "1")
			}
			var out given
			return t.cardCall(c.Context(), "/badge/give", q, nil, false, &out, func(w io.Writer) { out.print(w) })
		},
	})
	for _, cmd := range []*cobra.Command{open, card} {
		cmd.Flags().StringVar(&employee, "employee", "", "whose card it will be: the employee `number`")
		cmd.Flags().BoolVar(&move, "move", false, "also if it is somebody else's card now")
		cmd.Flags().StringVar(&by, "by", "", "who does it, for the audit chain")
	}
	seen := t.reporting(&cobra.Command{
		Use: "seen", Short: "List cards that nobody knows and that were tapped lately", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, cl, err := t.open(false)
			if err != nil {
				return err
			}
			defer cl.close()
			var all []stranger
			if err := cl.getJSON(c.Context(), "/badge/strangers", &all); err != nil || t.json {
				return errors.Join(err, t.jsonIf(err == nil, all))
			}
			w := tabwriter.NewWriter(t.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "BADGE\tTAPS\tLAST\tREADER")
			for _, s := range all {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", s.Badge, s.Times, s.Last.Format("2006-01-02 15:04:05"), strings.Join(s.Readers, ", "))
			}
			return w.Flush()
		},
	})
	find := t.reporting(&cobra.Command{
		Use: "find WORD", Short: "Look for a person by number or name", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			_, cl, err := t.open(false)
			if err != nil {
				return err
			}
			defer cl.close()
			var all []personFound
			if err := cl.getJSON(c.Context(), "/people?q="+url.QueryEscape(args[0]), &all); err != nil || t.json {
				return errors.Join(err, t.jsonIf(err == nil, all))
			}
			w := tabwriter.NewWriter(t.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "EMPLOYEE\tNAME\tCARDS\tACTIVE")
			for _, p := range all {
				fmt.Fprintf(w, "%s\t%s\t%d\t%v\n", p.Number, dash(p.Name), p.Badges, p.Active)
			}
			return w.Flush()
		},
	})
	var off bool
	master := t.reporting(&cobra.Command{
		Use: "master [BADGE]", Short: "Set the PIN of a card that opens enrolment at the door; without a card, list them", Args: cobra.MaximumNArgs(1),
		Long: `A master card opens enrolment at the door: tap it, type the employee number and this
PIN on a keypad or the page, and tap the new card within a minute. The PIN has 4 to 12
digits; it is asked for on a terminal, and else read from the first line of stdin.`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, cl, err := t.open(false)
				if err != nil {
					return err
				}
				defer cl.close()
				var all []string
				if err := cl.getJSON(c.Context(), "/enrol/master", &all); err != nil || t.json {
					return errors.Join(err, t.jsonIf(err == nil, all))
				}
				for _, b := range all {
					fmt.Fprintln(t.stdout, b)
				}
				return nil
			}
			q, in, done := url.Values{"badge": {args[0]}, "by": {by}}, io.Reader(nil), "the card opens enrolment with that PIN"
			if off {
				q.Set("off", "1")
				done = "the card opens nothing any more"
			} else {
				pin, err := t.newPIN()
				if err != nil {
					return err
				}
				in = pin
			}
			var v map[string]bool
			return t.cardCall(c.Context(), "/enrol/master", q, in, false, &v, func(w io.Writer) { fmt.Fprintln(w, done) })
		},
	})
	master.Flags().BoolVar(&off, "off", false, "it opens nothing any more")
	master.Flags().StringVar(&by, "by", "", "who does it, for the audit chain")
	c.AddCommand(open, card, seen, find, master)
	return c
}

// jsonIf prints v as JSON on a condition.
func (t *tool) jsonIf(when bool, v any) error {
	if !when {
		return nil
	}
	return t.printJSON(v)
}

// cardVerbs are the verbs of `badge` that change something.
func cardVerbs(t *tool) []*cobra.Command {
	var by string
	verb := func(use, short, long, path string, v any, print func(io.Writer)) *cobra.Command {
		c := t.reporting(&cobra.Command{Use: use + " BADGE", Short: short, Long: long, Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				return t.cardCall(c.Context(), path, url.Values{"badge": {args[0]}, "by": {by}}, nil, false, v, print)
			}})
		c.Flags().StringVar(&by, "by", "", "who does it, for the audit chain")
		return c
	}
	var changed struct {
		Badge   string `json:"badge"`
		Changed bool   `json:"changed"`
	}
	var taken struct {
		Badge string `json:"badge"`
		From  string `json:"from"`
	}
	var un unlinked
	return []*cobra.Command{
		verb("block", "Refuse a lost card from now on, whoever has it", "", "/badge/block", &changed, func(w io.Writer) {
			fmt.Fprintf(w, "%s is blocked; to take it again: punchclock badge unblock\n", changed.Badge)
		}),
		verb("unblock", "Take a card again that was found", "", "/badge/unblock", &changed, func(w io.Writer) {
			fmt.Fprintf(w, "%s is not blocked\n", changed.Badge)
		}),
		verb("take", "Take a card back from whoever has it", "", "/badge/take", &taken, func(w io.Writer) {
			fmt.Fprintf(w, "%s is nobody's card now, and was %s's\n", taken.Badge, taken.From)
		}),
		verb("unlink", "Say that a card was never that person's: what it got them is undone",
			`The card was written beside the wrong person. It is nobody's now, and the punches that
were made with it before anybody knew it wait for the right one: punchclock enrol card.
Those that a destination has under the wrong person are superseded by new records; take
them away at the destination by hand.`, "/badge/unlink", &un, func(w io.Writer) {
				fmt.Fprintf(w, "it was %s's; %d punches wait for the right person\n", un.From, len(un.Undone)+len(un.Superseded))
				for _, id := range un.Superseded {
					fmt.Fprintf(w, "%s may be at a destination under %s: correct it there\n", id, un.From)
				}
			}),
	}
}
