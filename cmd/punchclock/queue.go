package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/ui/text"
)

// queueRow is one punch that a destination has not taken.
type queueRow struct {
	ID          string `json:"id"`
	Destination string `json:"destination"`
	State       string `json:"state"` // pending or parked
	Employee    string `json:"employee_no"`
	Kind        string `json:"kind"`
	Time        string `json:"time"`
	Reason      string `json:"reason"`
	ReasonWords string `json:"reason_text,omitempty"` // in the page's language
	Message     string `json:"message"`               // the far side's own words
	Tries       int    `json:"tries"`
	FirstSeen   string `json:"first_seen"`
	LastTried   string `json:"last_tried"`
	NotBefore   string `json:"not_before,omitempty"` // of one whose time nobody knows: what the punches around it say
	NotAfter    string `json:"not_after,omitempty"`

	badge punch.Badge // for the admin page; never for a list that leaves the clock
}

const queueMost = 10_000 // rows of one answer, for each destination

// serveQueue lists what is pending and what is parked.
func (a *archive) serveQueue(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	dest := q.Get("destination")
	names, err := a.destinations(dest)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	rows, err := a.queueRows(dest, names, q.Get("state"), text.For(a.cfg.Kiosk.Language))
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	writeJSON(w, rows)
}

// queueRows lists what is pending and what is parked at a destination, or at all names.
func (a *archive) queueRows(dest string, names []string, state string, words text.Catalog) ([]queueRow, error) {
	rows := []queueRow{}
	if a.outbox == nil {
		return rows, nil
	}
	loc := a.cfg.Device.Timezone
	row := func(p punch.Punch, dest, state string) queueRow {
		return queueRow{ID: string(p.ID), Destination: dest, State: state, Employee: p.Employee, Kind: p.Kind.String(), badge: p.Badge, Time: p.Time().In(loc).Format(milliLayout)}
	}
	if state != "pending" {
		parked, err := a.outbox.Parked(dest)
		if err != nil {
			return nil, err
		}
		for _, p := range parked {
			x := row(p.Punch, p.Destination, "parked")
			x.Reason, x.ReasonWords, x.Message, x.Tries = p.Reason, words.Reason(p.Reason), p.Message, p.Tries
			if p.Again {
				x.State = "pending"
				x.Tries += a.tried(p.Destination, p.ID)
			}
			if p.Uncertain && p.Reason == punch.ReasonTimeUncertain {
				x.Message = p.Bounds.Words(loc) + "; " + x.Message
				x.NotBefore, x.NotAfter = optional(p.Bounds.From, loc), optional(p.Bounds.To, loc)
			}
			x.FirstSeen, x.LastTried = p.FirstSeen.In(loc).Format(milliLayout), p.LastTried.In(loc).Format(milliLayout)
			rows = append(rows, x)
		}
	}
	if state != "parked" {
		for _, name := range names {
			ps, err := a.outbox.Pending(name, queueMost)
			if err != nil {
				return nil, err
			}
			for _, p := range ps {
				x := row(p, name, "pending")
				x.Tries = a.tried(name, p.ID)
				rows = append(rows, x)
			}
		}
	}
	return rows, nil
}

// tried is how often a punch that is pending was sent since the start, and since it was
// put back; 0 where no daemon runs, which alone knows.
func (a *archive) tried(dest string, id punch.ID) int {
	if a.tries == nil {
		return 0
	}
	return a.tries(dest, id)
}

func optional(t time.Time, loc *time.Location) string {
	if t.IsZero() {
		return ""
	}
	return t.In(loc).Format(milliLayout)
}

// destinations returns the configured names, or the one that was asked for.
func (a *archive) destinations(want string) ([]string, error) {
	var names []string
	for _, d := range a.cfg.Destinations {
		names = append(names, d.Name)
	}
	if want == "" {
		return names, nil
	}
	if !slices.Contains(names, want) {
		return nil, fmt.Errorf("no destination %q in the configuration; there is %q", want, names)
	}
	return []string{want}, nil
}

// serveRetry puts parked punches back and wakes the destinations.
func (a *archive) serveRetry(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	dest := q.Get("destination")
	n, err := a.retry(dest, q.Get("punch"))
	var wrong *exitError
	switch {
	case errors.As(err, &wrong):
		refuse(w, http.StatusBadRequest, err)
	case err != nil:
		refuse(w, http.StatusInternalServerError, err)
	case n == 0 && q.Get("punch") != "":
		refuse(w, http.StatusNotFound, fmt.Errorf("punch %s is not parked, nothing was put back; see: punchclock queue ls", q.Get("punch")))
	default:
		writeJSON(w, map[string]int{"put_back": n})
	}
}

// retry puts a parked punch back, or all with "", and wakes the destination, or all.
func (a *archive) retry(dest, id string) (int, error) {
	if _, err := a.destinations(dest); err != nil {
		return 0, usage("%w", err)
	}
	var ids []punch.ID
	if id != "" {
		if _, _, err := punch.ID(id).Seq(); err != nil {
			return 0, usage("%w", err)
		}
		ids = append(ids, punch.ID(id))
	}
	n, err := a.outbox.Retry(dest, ids...)
	if errors.Is(err, queue.ErrNoDestination) {
		return 0, usage("%w", err)
	} else if err != nil {
		return 0, err
	}
	a.kick(dest)
	return n, nil
}

// serveSettleTime stores a person's word on when a punch was made.
func (a *archive) serveSettleTime(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	at, err := parseMoment(q.Get("time"), a.cfg.Device.Timezone)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	id := punch.ID(q.Get("punch"))
	if _, _, err := id.Seq(); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	n, err := a.outbox.SettleTime(id, queue.TimeDecision{Time: at.In(a.cfg.Device.Timezone), By: q.Get("by"),
		Boot: q.Get("boot") != "", Force: q.Get("force") != ""})
	switch {
	case errors.Is(err, queue.ErrTimeBounds):
		err = fmt.Errorf("%w; correct the time, or insist with --force", err)
		fallthrough
	case errors.Is(err, queue.ErrTimeKnown), errors.Is(err, queue.ErrTimeSettled):
		refuse(w, http.StatusBadRequest, err)
		return
	case err != nil:
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	a.kick("")
	writeJSON(w, map[string]int{"settled": n})
}

// parseMoment reads a moment, never a whole day.
func parseMoment(s string, loc *time.Location) (time.Time, error) {
	_, day := time.Parse(time.DateOnly, s)
	t, err := parseDay(s, loc, false)
	if s == "" || day == nil || err != nil {
		return time.Time{}, fmt.Errorf("time %q: write a moment as 2026-11-21T08:30, by the clock on the wall of this device, or with its zone", s)
	}
	return t, nil
}

// servePending counts what is pending and parked, for those who wait.
func (a *archive) servePending(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, a.outbox.Stats().Destinations)
}

func queueCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "queue", Short: "Punches that a destination has not taken yet"}
	var dest, state, format, id string
	var wait bool
	ls := t.reporting(&cobra.Command{
		Use: "ls", Short: "List punches that are pending or parked", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if state != "" && state != "pending" && state != "parked" {
				return usage("state %q: use pending or parked", state)
			}
			if format != "table" && format != "csv" {
				return usage("format %q: use table or csv, or --json", format)
			}
			if t.json && c.Flags().Changed("format") {
				return usage("use --json or --format")
			}
			cfg, cl, err := t.open(false)
			if err != nil {
				return err
			}
			defer cl.close()
			var rows []queueRow
			if err := cl.getJSON(c.Context(), "/queue?"+url.Values{"destination": {dest}, "state": {state}}.Encode(), &rows); err != nil {
				return err
			}
			if t.json {
				return t.printJSON(rows)
			}
			if format == "csv" {
				return writeWorkList(t.stdout, rows, text.For(cfg.Kiosk.Language))
			}
			return printQueue(t.stdout, rows)
		},
	})
	ls.Flags().StringVar(&dest, "destination", "", "only this `name`")
	ls.Flags().StringVar(&state, "state", "", "pending or parked")
	ls.Flags().StringVar(&format, "format", "table", "table, or csv: a work list for HR, in the page's language, for a spreadsheet")
	retry := t.reporting(&cobra.Command{
		Use: "retry", Short: "Put parked punches back, to be sent again with their original times", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, cl, err := t.open(true)
			if err != nil {
				return err
			}
			defer cl.close()
			body, err := cl.do(c.Context(), "POST", "/queue/retry", url.Values{"destination": {dest}, "punch": {id}}, nil)
			if err != nil {
				return err
			}
			var got struct {
				PutBack int `json:"put_back"`
			}
			if err := readJSON(body, &got); err != nil {
				return err
			}
			if wait {
				if err := t.waitDrained(c.Context(), cl, dest); err != nil {
					return err
				}
			}
			if t.json {
				return t.printJSON(got)
			}
			_, err = fmt.Fprintf(t.stdout, "%d put back\n", got.PutBack)
			return err
		},
	})
	retry.Flags().StringVar(&dest, "destination", "", "only this `name`")
	retry.Flags().StringVar(&id, "punch", "", "only this punch `id`")
	retry.Flags().BoolVar(&wait, "wait", false, "wait until nothing is pending")
	count := &cobra.Command{
		Use: "count", Short: "Print how many deliveries are still due, all destinations together", Args: cobra.NoArgs,
		Long: "Print how many deliveries are still due: punches that are pending or parked, at each destination.\n" +
			"Where there is no destination, no punch has been delivered anywhere, and all of them are counted.",
		RunE: func(c *cobra.Command, _ []string) error {
			_, cl, err := t.open(false)
			if err != nil {
				return err
			}
			defer cl.close()
			var h holdings
			if err := cl.getJSON(c.Context(), "/doctor", &h); err != nil {
				return err
			}
			n := h.Punches
			if len(h.Destinations) > 0 {
				n = 0
			}
			for _, d := range h.Destinations {
				n += d.Pending + uint64(d.Parked)
			}
			_, err = fmt.Fprintln(t.stdout, n)
			return err
		},
	}
	c.AddCommand(ls, count, retry, settleTimeCommand(t))
	return c
}

func settleTimeCommand(t *tool) *cobra.Command {
	var id, at, by string
	var boot, force bool
	c := t.reporting(&cobra.Command{
		Use: "settle-time", Short: "Say when a punch was made whose clock was never set, and send it", Args: cobra.NoArgs,
		Long: "A punch that was made before the clock was set, by a boot that never learned the time, is parked as time_uncertain:\n" +
			"queue ls shows between which others it was made. This stores your word beside the original, once and for ever,\n" +
			"and the punch is delivered with that time.",
		RunE: func(c *cobra.Command, _ []string) error {
			if id == "" || at == "" {
				return usage("say which punch and when: --punch ID --time 2026-11-21T08:30; see: punchclock queue ls --state parked")
			}
			_, cl, err := t.open(true)
			if err != nil {
				return err
			}
			defer cl.close()
			q := url.Values{"punch": {id}, "time": {at}, "by": {by}}
			if boot {
				q.Set("boot", "1")
			}
			if force {
				q.Set("force", "1")
			}
			body, err := cl.do(c.Context(), "POST", "/queue/time", q, nil)
			if err != nil {
				return err
			}
			var got struct {
				Settled int `json:"settled"`
			}
			if err := readJSON(body, &got); err != nil {
				return err
			}
			if t.json {
				return t.printJSON(got)
			}
			_, err = fmt.Fprintf(t.stdout, "%d settled\n", got.Settled)
			return err
		},
	})
	c.Flags().StringVar(&id, "punch", "", "the punch `id`")
	c.Flags().StringVar(&at, "time", "", "the `moment` it was made, as 2026-11-21T08:30")
	c.Flags().StringVar(&by, "by", account(), "who says so: kept with it, and exported")
	c.Flags().BoolVar(&boot, "boot", false, "the other punches of that boot that wait for their time follow from this one")
	c.Flags().BoolVar(&force, "force", false, "even where the punches around it say that it cannot be")
	return c
}

// account names whoever is at the command line.
func account() string {
	if who := os.Getenv("SUDO_USER"); who != "" {
		return who
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

func printQueue(out io.Writer, rows []queueRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, "nothing is pending, nothing is parked")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PUNCH\tDESTINATION\tSTATE\tEMPLOYEE\tKIND\tTIME\tTRIES\tREASON\tMESSAGE")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.ID, r.Destination, r.State, dash(r.Employee), r.Kind, r.Time, r.Tries, dash(r.Reason), dash(r.Message))
	}
	return w.Flush()
}

// writeWorkList writes what HR works through: plain words, times as a spreadsheet
// takes them.
func writeWorkList(to io.Writer, rows []queueRow, words text.Catalog) error {
	if _, err := io.WriteString(to, "\uFEFF"); err != nil { // Excel takes it for UTF-8 then
		return err
	}
	when := func(s string) string {
		if t, err := time.Parse(milliLayout, s); err == nil {
			return t.Format(time.DateTime)
		}
		return s
	}
	w := csv.NewWriter(to)
	w.UseCRLF = true
	var head []string
	for _, name := range []string{"punch_id", "time", "employee_no", "kind", "destination", "state", "reason", "message", "first_seen", "tries"} {
		head = append(head, words.Column(name))
	}
	w.Write(head)
	for _, r := range rows {
		w.Write([]string{r.ID, when(r.Time), noFormula(r.Employee), words.Kind(r.Kind), r.Destination, words.Column(r.State),
			r.ReasonWords, noFormula(r.Message), when(r.FirstSeen), strconv.Itoa(r.Tries)})
	}
	w.Flush()
	return w.Error()
}

// waitDrained shows the queue shrink until nothing is pending.
func (t *tool) waitDrained(ctx context.Context, cl *controlClient, dest string) error {
	first := uint64(0)
	bar := t.progress("delivered", 0)
	defer bar.end()
	for {
		var s map[string]queue.DestStats
		if err := cl.getJSON(ctx, "/queue/pending", &s); err != nil {
			return err
		}
		n := uint64(0)
		for name, d := range s {
			if dest == "" || name == dest {
				n += d.Pending
			}
		}
		first = max(first, n)
		bar.all = first
		bar.at(first - n)
		if n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d still pending: %w", n, ctx.Err())
		case <-time.After(300 * time.Millisecond):
		}
	}
}
