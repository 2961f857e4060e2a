package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
)

// exportRow is one line of `punches export`. Field names and order are the
// outside's; raw, raw_bits, supersedes and record are additions: record is the
// stored form in base64, which prev_hash and hash can be recomputed from.
type exportRow struct {
	ID            string                    `json:"id"`
	Seq           uint64                    `json:"seq"`
	Device        string                    `json:"device"`
	Kind          string                    `json:"kind"`
	Badge         string                    `json:"badge"`
	Employee      string                    `json:"employee_no"`
	Reader        string                    `json:"reader"`
	Outcome       string                    `json:"outcome"`
	Time          string                    `json:"time"`
	TimeMS        int64                     `json:"time_ms"`
	BootID        string                    `json:"boot_id"`
	UptimeMS      int64                     `json:"uptime_ms"`
	Clock         clockStatus               `json:"clock"`
	CorrectedMS   *int64                    `json:"corrected_time_ms"`
	PrevHash      string                    `json:"prev_hash"`
	Hash          string                    `json:"hash"`
	Deliveries    map[string]exportDelivery `json:"deliveries"`
	Raw           string                    `json:"raw"` // hexadecimal
	RawBits       int                       `json:"raw_bits"`
	Supersedes    uint64                    `json:"supersedes,omitempty"`
	Linked        string                    `json:"linked_at,omitempty"` // when the roster's word made it employee_no's, of an unknown badge
	Audit         *exportAudit              `json:"audit,omitempty"`     // of outcome audit: no punch, a change of people or cards
	TimeUncertain bool                      `json:"time_uncertain,omitempty"`
	CorrectedBy   string                    `json:"corrected_by,omitempty"` // the person who decided corrected_time_ms, and when
	CorrectedAt   string                    `json:"corrected_at,omitempty"`
	Record        string                    `json:"record"`
	Damaged       string                    `json:"damaged,omitempty"`
}

// exportAudit is what was changed; badge and employee_no of its row are what it is about.
type exportAudit struct {
	Act   string `json:"act"`
	From  string `json:"from,omitempty"` // employee number of whoever had the card before
	By    string `json:"by"`
	Punch string `json:"punch,omitempty"` // id of the punch that it is about
	// Detail counts what an import changed; raw is the SHA-256 of its file.
	Detail string `json:"detail,omitempty"`
}

type exportDelivery struct {
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	Receipt  string `json:"receipt"`
	Reason   string `json:"reason"`
	Message  string `json:"message,omitempty"`
	Resent   bool   `json:"resent,omitempty"`
	At       string `json:"at"`
}

func rowOf(e queue.Entry, device string, loc *time.Location) exportRow {
	r := exportRow{ID: string(e.ID), Seq: e.Seq, Device: device, Record: base64.StdEncoding.EncodeToString(e.Record), Deliveries: map[string]exportDelivery{}}
	for dest, d := range e.Deliveries {
		x := exportDelivery{State: d.State.String(), Attempts: d.Attempts, Receipt: d.Receipt, Reason: d.Reason, Message: d.Message, Resent: d.Resent}
		if !d.At.IsZero() {
			x.At = d.At.In(loc).Format(milliLayout)
		}
		r.Deliveries[dest] = x
	}
	if e.Damaged != nil {
		r.Damaged = e.Damaged.Error()
		return r
	}
	p := e.Punch
	r.Kind, r.Badge, r.Employee, r.Reader, r.Outcome = p.Kind.String(), string(p.Badge), p.Employee, p.Reader, p.Outcome.String()
	r.Time, r.TimeMS = p.Stamp.Wall.In(loc).Format(milliLayout), p.Stamp.Wall.UnixMilli()
	r.BootID, r.UptimeMS = punch.BootIDString(p.Stamp.BootID), p.Stamp.Uptime.Milliseconds()
	r.Clock = clockStatus{p.Stamp.Clock.String(), p.Stamp.ErrorBound.Milliseconds()}
	if !p.Corrected.IsZero() {
		ms := p.Corrected.UnixMilli()
		r.CorrectedMS = &ms
	}
	if p.CorrectedBy != "" {
		r.CorrectedBy, r.CorrectedAt = p.CorrectedBy, p.CorrectedAt.In(loc).Format(milliLayout)
	}
	if !p.Linked.IsZero() {
		r.Linked = p.Linked.In(loc).Format(milliLayout)
	}
	if x := p.Audit; x.Act != "" {
		r.Audit = &exportAudit{Act: string(x.Act), From: x.From, By: x.By, Detail: x.Detail}
		if x.Seq != 0 {
			r.Audit.Punch = string(punch.NewID(device, x.Seq))
		}
	}
	r.PrevHash, r.Hash = fmt.Sprintf("%x", p.PrevHash), fmt.Sprintf("%x", p.Hash)
	r.Raw, r.RawBits, r.Supersedes, r.TimeUncertain = fmt.Sprintf("%X", p.Raw), p.Bits, p.Supersedes, p.Uncertain
	return r
}

// servePunches streams the archive as JSON lines. A stream that ended early says
// so by its last line.
func (a *archive) servePunches(w http.ResponseWriter, r *http.Request) {
	wanted, err := a.selection(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if a.outbox == nil {
		return
	}
	out := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	err = a.outbox.Read(r.Context(), 1, func(e queue.Entry) error {
		if !wanted(e) {
			return nil
		}
		row := rowOf(e, a.cfg.Device.ID, a.cfg.Device.Timezone)
		for dest, d := range row.Deliveries {
			if e.Deliveries[dest].State == punch.Pending {
				d.Attempts += a.tried(dest, e.ID)
				row.Deliveries[dest] = d
			}
		}
		return enc.Encode(row)
	})
	if err != nil {
		enc.Encode(map[string]string{"error": err.Error()})
	}
	out.Flush()
}

// selection reads which punches are asked for: since, until, employee. A number's are
// those of whoever has it now, or had it on the day `on`: no other person's who has or
// had the same number. Of a number that nobody has now, all are asked for.
func (a *archive) selection(q url.Values) (wanted func(queue.Entry) bool, err error) {
	since, err := parseDay(q.Get("since"), a.cfg.Device.Timezone, false)
	if err != nil {
		return nil, err
	}
	until, err := parseDay(q.Get("until"), a.cfg.Device.Timezone, true)
	if err != nil {
		return nil, err
	}
	employee := q.Get("employee")
	who := personCopy{Employee: employee}
	if employee != "" {
		e, _, err := a.holderAsked(url.Values{"employee_no": {employee}, "on": {q.Get("on")}})
		if err != nil && (q.Get("on") != "" || !errors.Is(err, roster.ErrNobody)) {
			return nil, err
		}
		who.From, who.Until = e.From, e.To
	}
	return func(e queue.Entry) bool {
		t := e.Time()
		switch {
		case e.Damaged != nil: // shown in every selection: it could be anybody's
		case !since.IsZero() && t.Before(since), !until.IsZero() && !t.Before(until), employee != "" && e.Employee != employee:
			return false
		case employee != "":
			row := rowOf(e, a.cfg.Device.ID, a.cfg.Device.Timezone)
			return who.holds(&row)
		}
		return true
	}, nil
}

// parseDay reads a day or a moment. A day as the end of a span counts whole.
func parseDay(s string, loc *time.Location, end bool) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, loc); err == nil {
		if end {
			t = t.AddDate(0, 0, 1)
		}
		return t, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: write a day as 2026-11-21, or a moment as 2026-11-21T08:30", s)
}

func punchesCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "punches", Short: "The archive of punches"}
	var format, since, until, employee, on, output string
	export := &cobra.Command{
		Use: "export", Short: "Write punches with their hashes and deliveries, oldest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case format != "jsonl" && format != "csv" && format != "pdf":
				return usage("format %q: use jsonl, csv or pdf", format)
			case format == "pdf" && employee == "":
				return usage("a PDF is one person's own copy: say whose with --employee 000123")
			case on != "" && employee == "":
				return usage("--on says which person with a number is meant: add --employee 000123")
			}
			cfg, cl, err := t.open(false)
			if err != nil {
				return err
			}
			defer cl.close()
			q := url.Values{}
			for k, v := range map[string]string{"since": since, "until": until, "employee": employee, "on": on} {
				if v != "" {
					q.Set(k, v)
				}
			}
			body, err := cl.do(c.Context(), "GET", "/punches", q, nil)
			if err != nil {
				return err
			}
			defer body.Close()
			return t.toOutput(output, func(w io.Writer) error {
				if format == "pdf" {
					return t.exportCopy(c.Context(), cfg, cl, employee, on, body, w)
				}
				if format == "csv" && (output != "" || isFile(t.stdout)) {
					io.WriteString(w, "\uFEFF") // Excel takes it for UTF-8 then; a program at a pipe would take it for a letter
				}
				return t.export(c.Context(), body, format, w)
			})
		},
	}
	export.Flags().StringVar(&format, "format", "jsonl", "jsonl, csv, or pdf: one person's own copy")
	export.Flags().StringVar(&since, "since", "", "from this `day` or moment on")
	export.Flags().StringVar(&until, "until", "", "up to and with this `day`, or before this moment")
	export.Flags().StringVar(&employee, "employee", "", "only whoever has this employee `number`; of one that nobody has now, all of it")
	export.Flags().StringVar(&on, "on", "", "whoever had the number on this `day`")
	export.Flags().StringVar(&output, "output", "", "write to this `file`, which appears when it is whole")
	t.reporting(export) // JSON is what it writes anyway
	c.AddCommand(export)
	return c
}

// toOutput runs fn on stdout or on a file that gets its name when it is whole.
func (t *tool) toOutput(path string, fn func(io.Writer) error) error {
	if path == "" {
		w := bufio.NewWriter(t.stdout)
		return errors.Join(fn(w), w.Flush())
	}
	f, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err = errors.Join(fn(w), w.Flush(), f.Sync(), f.Close()); err != nil {
		os.Remove(path + ".part")
		return err
	}
	return os.Rename(path+".part", path)
}

// isFile reports whether what is written to w stays in a file.
func isFile(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// export copies the stream, as it is or as CSV, and counts on a terminal.
func (t *tool) export(ctx context.Context, body io.Reader, format string, w io.Writer) error {
	lines := bufio.NewReaderSize(body, 64<<10)
	bar := t.progress("punches exported", 0)
	defer bar.end()
	var table *csvTable
	if format == "csv" {
		table = &csvTable{w: csv.NewWriter(w)}
	}
	for n := uint64(1); ; n++ {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			if table != nil {
				return table.end()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("the export was cut off: %w", err)
		}
		var row struct {
			exportRow
			Error string `json:"error"`
		}
		if err := json.Unmarshal(line, &row); err != nil {
			return fmt.Errorf("the export was cut off: %w", err)
		}
		if row.Error != "" {
			return fmt.Errorf("the export was cut off: %s", row.Error)
		}
		if table != nil {
			err = table.add(row.exportRow)
		} else {
			_, err = w.Write(line)
		}
		if err != nil {
			return err
		}
		bar.at(n)
	}
}

// csvTable writes rows with a group of columns for each destination.
type csvTable struct {
	w     *csv.Writer
	dests []string
	begun bool
}

var csvColumns = []string{"id", "seq", "device", "kind", "badge", "employee_no", "reader", "outcome", "time", "time_ms", "boot_id", "uptime_ms",
	"clock_state", "clock_error_bound_ms", "corrected_time_ms", "prev_hash", "hash"}

func (c *csvTable) add(r exportRow) error {
	if !c.begun {
		c.begun = true
		c.dests = slices.Sorted(maps.Keys(r.Deliveries))
		head := slices.Clone(csvColumns)
		for _, d := range c.dests {
			head = append(head, d+"_state", d+"_attempts", d+"_receipt", d+"_reason", d+"_at", d+"_resent", d+"_message")
		}
		if err := c.w.Write(append(head, "record")); err != nil {
			return err
		}
	}
	corrected := ""
	if r.CorrectedMS != nil {
		corrected = strconv.FormatInt(*r.CorrectedMS, 10)
	}
	rec := []string{r.ID, strconv.FormatUint(r.Seq, 10), r.Device, r.Kind, r.Badge, r.Employee, r.Reader, r.Outcome, r.Time, strconv.FormatInt(r.TimeMS, 10),
		r.BootID, strconv.FormatInt(r.UptimeMS, 10), r.Clock.State, strconv.FormatInt(r.Clock.ErrorBoundMS, 10), corrected, r.PrevHash, r.Hash}
	for _, d := range c.dests {
		x := r.Deliveries[d]
		rec = append(rec, x.State, strconv.Itoa(x.Attempts), noFormula(x.Receipt), x.Reason, x.At, strconv.FormatBool(x.Resent), noFormula(x.Message))
	}
	return c.w.Write(append(rec, r.Record))
}

func (c *csvTable) end() error {
	if !c.begun {
		c.w.Write(append(slices.Clone(csvColumns), "record"))
	}
	c.w.Flush()
	return c.w.Error()
}
