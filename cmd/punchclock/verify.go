package main

import (
	"bufio"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// verifyReport is what a walk along the chain found.
type verifyReport struct {
	OK       bool            `json:"ok"`
	Records  uint64          `json:"records"`
	First    uint64          `json:"first"`
	Last     uint64          `json:"last"`
	Head     string          `json:"head"` // hash of the last record
	Problems []queue.Problem `json:"problems"`
	Note     string          `json:"note,omitempty"`
}

func reportOf(c queue.Chain) verifyReport {
	r := verifyReport{OK: len(c.Problems) == 0, Records: c.Records, First: c.First, Last: c.Last, Head: fmt.Sprintf("%x", c.Head), Problems: c.Problems, Note: c.Note}
	if r.Problems == nil {
		r.Problems = []queue.Problem{}
	}
	return r
}

// verifyLine is one line of the stream of GET /verify: how far it is, at last the report.
type verifyLine struct {
	Done   uint64        `json:"done,omitempty"`
	All    uint64        `json:"all,omitempty"`
	Error  string        `json:"error,omitempty"`
	Report *verifyReport `json:"report,omitempty"`
}

func (a *archive) serveVerify(w http.ResponseWriter, r *http.Request) {
	enc := json.NewEncoder(w)
	if a.outbox == nil {
		enc.Encode(verifyLine{Report: &verifyReport{OK: true, Problems: []queue.Problem{}}})
		return
	}
	flush := http.NewResponseController(w)
	c, err := a.outbox.Verify(r.Context(), func(done, all uint64) {
		if done%(64*1024) == 0 {
			enc.Encode(verifyLine{Done: done, All: all})
			flush.Flush()
		}
	})
	if err != nil {
		enc.Encode(verifyLine{Error: err.Error()})
		return
	}
	rep := reportOf(c)
	enc.Encode(verifyLine{Report: &rep})
}

func verifyCommand(t *tool) *cobra.Command {
	return t.reporting(&cobra.Command{
		Use: "verify [FILE]", Short: "Walk the hash chain of the outbox, or of an export in JSON lines or CSV (- for stdin)", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var rep verifyReport
			if len(args) == 1 {
				in := t.stdin
				if args[0] != "-" {
					f, err := os.Open(args[0])
					if err != nil {
						return &exitError{exitUnchecked, err}
					}
					defer f.Close()
					in = f
				}
				bar := t.progress("records checked", 0)
				chain, err := verifyExport(in, bar.at)
				bar.end()
				if err != nil {
					return &exitError{exitUnchecked, fmt.Errorf("%s: %w", args[0], err)}
				}
				rep = reportOf(chain)
			} else {
				_, cl, err := t.open(false)
				if err != nil {
					return err
				}
				defer cl.close()
				body, err := cl.do(c.Context(), "GET", "/verify", nil, nil)
				if err != nil {
					return &exitError{exitUnchecked, err}
				}
				defer body.Close()
				bar := t.progress("records checked", 0)
				for d := json.NewDecoder(body); ; {
					var l verifyLine
					if err := d.Decode(&l); err != nil {
						return &exitError{exitUnchecked, fmt.Errorf("the walk was cut off: %w", err)}
					}
					if l.Error != "" {
						return &exitError{exitUnchecked, errors.New(l.Error)}
					}
					if l.Report != nil {
						rep = *l.Report
						break
					}
					bar.all = l.All
					bar.at(l.Done)
				}
				bar.end()
			}
			if t.json {
				if err := t.printJSON(rep); err != nil {
					return err
				}
			} else if rep.OK {
				fmt.Fprintf(t.stdout, "%d records, numbers %d to %d, are what was written\nlast hash %s\n", rep.Records, rep.First, rep.Last, rep.Head)
			} else {
				for _, p := range rep.Problems {
					fmt.Fprintf(t.stdout, "%s: %s\n", p.ID, p.What)
				}
			}
			if rep.Note != "" && !t.json {
				fmt.Fprintln(t.stdout, rep.Note)
			}
			if !rep.OK {
				return fmt.Errorf("verify: punch %s %s", rep.Problems[0].ID, rep.Problems[0].What)
			}
			return nil
		},
	})
}

// verifyExport walks the chain of an export: every record must be whole, follow the one
// before it, and say the same as the fields beside it.
func verifyExport(r io.Reader, progress func(uint64)) (queue.Chain, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	next := jsonRows(in)
	head, _ := in.Peek(len("\uFEFFid,"))
	table := strings.HasPrefix(strings.TrimPrefix(string(head), "\uFEFF"), "id,")
	if table {
		next = csvRows(in)
	}
	var c queue.Chain
	for n := uint64(1); ; n++ {
		row, line, err := next()
		var bad *lineError
		switch {
		case err == io.EOF && n == 1:
			return c, errors.New("the file is empty")
		case err == io.EOF:
			return c, nil
		case errors.As(err, &bad) && n > 1:
			// The lines before it are an export's: this one has been altered, or cut off.
			c.Problems = append(c.Problems, queue.Problem{Seq: c.Last + 1, ID: string(punch.NewID(c.Device, c.Last+1)), What: fmt.Sprintf("is not what was written: %v", bad)})
			return c, nil
		case err != nil:
			return c, err
		case row.Record == "" || row.Device == "":
			return c, fmt.Errorf("line %d holds no stored record; export it anew with: punchclock punches export", line)
		}
		if c.Device == "" {
			c.Device = row.Device
		}
		record, err := base64.StdEncoding.DecodeString(row.Record)
		if err != nil {
			record = nil // no record: not what was written
		}
		p, ok := c.Add(row.Seq, record)
		if ok {
			if table { // which has no columns for them
				raw := rowOf(queue.Entry{Punch: p}, c.Device, time.UTC)
				row.Raw, row.RawBits = raw.Raw, raw.RawBits
			}
			if what := differs(row, p, c.Device); what != "" && len(c.Problems) < queue.MaxProblems {
				c.Problems = append(c.Problems, queue.Problem{Seq: row.Seq, ID: string(p.ID), What: what + " is not what was written"})
			}
		}
		progress(n)
	}
}

// lineError is a line that cannot be read as one of an export.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string {
	return fmt.Sprintf("line %d is not one of an export: %v", e.line, e.err)
}

// jsonRows reads an export in JSON lines. What it returns hands out the next row and the
// number of its line, at last io.EOF.
func jsonRows(lines *bufio.Reader) func() (exportRow, int, error) {
	n := 0
	return func() (row exportRow, _ int, err error) {
		n++
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(strings.TrimSpace(string(line))) == 0 || err != nil && err != io.EOF {
			return row, n, err
		}
		if err := json.Unmarshal(line, &row); err != nil {
			return row, n, &lineError{n, err}
		}
		return row, n, nil
	}
}

// csvRows reads an export in CSV, as jsonRows does. Columns that the record does not
// speak of are passed over.
func csvRows(lines *bufio.Reader) func() (exportRow, int, error) {
	r := csv.NewReader(lines)
	r.ReuseRecord = true
	var at map[string]int
	return func() (row exportRow, line int, err error) {
		rec, err := r.Read()
		if err == nil && at == nil {
			at = map[string]int{}
			for i, name := range rec {
				at[strings.TrimPrefix(name, "\uFEFF")] = i
			}
			for _, name := range append(slices.Clone(csvColumns), "record") {
				if _, ok := at[name]; !ok {
					return row, 1, fmt.Errorf("line 1 has no column %s; export it anew with: punchclock punches export", name)
				}
			}
			rec, err = r.Read()
		}
		if err == io.EOF {
			return row, 0, err
		} else if err != nil {
			var place *csv.ParseError
			if errors.As(err, &place) {
				line = place.Line
			}
			return row, line, &lineError{line, err}
		}
		line, _ = r.FieldPos(0)
		text := func(name string) string { return rec[at[name]] }
		number := func(name string) int64 {
			v, bad := strconv.ParseInt(text(name), 10, 64)
			if bad != nil && err == nil {
				err = &lineError{line, fmt.Errorf("%s is not a whole number", name)}
			}
			return v
		}
		row = exportRow{ID: text("id"), Seq: uint64(number("seq")), Device: text("device"), Kind: text("kind"), Badge: text("badge"), Employee: text("employee_no"),
			Reader: text("reader"), Outcome: text("outcome"), Time: text("time"), TimeMS: number("time_ms"), BootID: text("boot_id"), UptimeMS: number("uptime_ms"),
			PrevHash: text("prev_hash"), Hash: text("hash"), Record: text("record")}
		row.Clock.State, row.Clock.ErrorBoundMS = text("clock_state"), number("clock_error_bound_ms")
		return row, line, err
	}
}

// differs names the first field of a row that its record does not bear out.
func differs(row exportRow, p punch.Punch, device string) string {
	want := rowOf(queue.Entry{Punch: p}, device, time.UTC)
	at, err := time.Parse(milliLayout, row.Time)
	switch {
	case row.ID != want.ID, row.Device != device:
		return "id"
	case row.Kind != want.Kind:
		return "kind"
	case row.Badge != want.Badge, row.Raw != want.Raw, row.RawBits != want.RawBits:
		return "badge"
	case row.Employee != want.Employee && want.Employee != "": // a stranger's badge may have found its person since
		return "employee_no"
	case row.Reader != want.Reader:
		return "reader"
	case row.Outcome != want.Outcome:
		return "outcome"
	case row.TimeMS != want.TimeMS, err != nil, at.UnixMilli() != want.TimeMS:
		return "time"
	case row.BootID != want.BootID, row.UptimeMS != want.UptimeMS, row.Clock != want.Clock:
		return "boot, uptime or clock"
	case row.PrevHash != want.PrevHash, row.Hash != want.Hash:
		return "hash"
	}
	return ""
}
