package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"punchclock/queue"
	"punchclock/ui/web"
)

// exportSection hands out the archive, and says how far it is.
func (r *adminRoom) exportSection() web.Section {
	return web.Section{Name: "export", Title: "export", Show: r.showExport,
		Files: map[string]func(http.ResponseWriter, *http.Request, web.Ask){"punches": r.serveExport, "progress": r.serveProgress}}
}

// exportState is how far the last export is; another one takes its place.
type exportState struct {
	running atomic.Int32
	at, of  atomic.Uint64 // records looked at, and all of them
	rows    atomic.Uint64 // of these, handed out
}

func (r *adminRoom) showExport(_ context.Context, ask web.Ask) ([]web.Block, error) {
	say, loc := ask.Say, r.h.cfg.Device.Timezone
	now := time.Now().In(loc)
	return []web.Block{{Title: say.Office("export"), Words: []string{say.Office("export.words")}, Form: &web.Form{Path: "punches", Submit: say.Office("export.go"), Fields: []web.Field{
		{Name: "since", Type: "date", Label: say.Office("export.since"), Value: now.AddDate(0, 0, 1-now.Day()).Format(time.DateOnly)},
		{Name: "until", Type: "date", Label: say.Office("export.until"), Value: now.Format(time.DateOnly)},
		{Name: "employee", Label: say.Office("export.who")},
		{Name: "format", Label: say.Office("export.format"), Options: [][2]string{{"csv", say.Office("export.csv")}, {"jsonl", "JSONL"}}},
	}}}}, nil
}

// exportPart is how much is written between two looks at whether it still gets away.
const exportPart = 64 << 10

// serveExport streams the punches. A stream that fails is broken off, so that the
// browser shows the file as not whole.
func (r *adminRoom) serveExport(w http.ResponseWriter, req *http.Request, ask web.Ask) {
	wanted, err := r.a.selection(ask.Form)
	format := ask.Form.Get("format")
	if err != nil || format != "csv" && format != "jsonl" {
		refuse(w, http.StatusBadRequest, fmt.Errorf("format csv or jsonl, since and until as 2026-11-21: %v", err))
		return
	}
	x := &r.export
	x.running.Add(1)
	defer x.running.Add(-1)
	last := r.h.outbox.Stats().LastSeq
	x.of.Store(last)
	x.at.Store(0)
	x.rows.Store(0)

	h := w.Header()
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%s.%s"`, r.h.cfg.Device.ID, time.Now().In(r.h.cfg.Device.Timezone).Format("20060102-1504"), format))
	h.Set("Content-Type", map[string]string{"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}[format])
	out := bufio.NewWriterSize(unhurried{w, http.NewResponseController(w)}, exportPart)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	table := &csvTable{w: csv.NewWriter(out)}
	if format == "csv" {
		io.WriteString(out, "\uFEFF") // into memory; Excel takes it for UTF-8 then
	}
	err = r.h.outbox.Read(req.Context(), 1, func(e queue.Entry) error {
		x.at.Store(e.Seq)
		if !wanted(e) {
			return nil
		}
		x.rows.Add(1)
		row := rowOf(e, r.h.cfg.Device.ID, r.h.cfg.Device.Timezone)
		if format == "csv" {
			return table.add(row)
		}
		return enc.Encode(row)
	})
	if err == nil && format == "csv" {
		err = table.end()
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		if req.Context().Err() == nil {
			r.h.log.Error("an export from the admin page was broken off", "err", err)
		}
		panic(http.ErrAbortHandler)
	}
	r.h.log.Info("punches were exported on the admin page", "punches", x.rows.Load(), "format", format)
}

// unhurried gives each write its own time.
type unhurried struct {
	io.Writer
	rc *http.ResponseController
}

func (p unhurried) Write(b []byte) (int, error) {
	// A recorder in a test has no deadline.
	_ = p.rc.SetWriteDeadline(time.Now().Add(30 * time.Second))
	return p.Writer.Write(b)
}

func (r *adminRoom) serveProgress(w http.ResponseWriter, _ *http.Request, ask web.Ask) {
	x := &r.export
	running := x.running.Load() > 0
	words := ask.Say.Office("export.done", x.rows.Load())
	if running {
		words = ask.Say.Office("export.at", x.at.Load(), x.of.Load(), x.rows.Load())
	}
	writeJSON(w, map[string]any{"running": running, "at": x.at.Load(), "of": x.of.Load(), "words": words})
}
