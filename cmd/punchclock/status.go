package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"punchclock/device"
	"punchclock/queue/punch"
	"punchclock/ui"
	"punchclock/ui/kiosk"
	"punchclock/ui/web"
)

// status is the body of /api/status and of `punchclock status --json`.
type status struct {
	Device       deviceStatus        `json:"device"`
	Clock        machineClock        `json:"clock"`
	Outbox       outboxStatus        `json:"outbox"`
	Destinations []destinationStatus `json:"destinations"`
	Readers      []readerStatus      `json:"readers"`
	// Roster is there where the roster has a source.
	Roster *rosterStatus `json:"roster,omitempty"`
	// Candidates is there where people who are about to start are read from 104.
	Candidates *candidatesStatus `json:"candidates,omitempty"`
	// Configuration is there once the file was changed while the clock ran.
	Configuration *reloadStatus `json:"configuration,omitempty"`
	// Update tells, as punchclock update status does, while one is under way and where
	// the last one went back; the remedy is its second line.
	Update string `json:"update,omitempty"`
}

// updateTold is what a person must know of updates here; "" for nothing, and where the
// file cannot be read, of which doctor tells.
func updateTold(dir string) string {
	st, err := (&gate{dir: dir}).load()
	now, last, remedy := st.words()
	if st.barred() {
		now = last
	} else if err != nil || st.Phase == "" {
		return ""
	}
	return now + "\n" + remedy
}

type deviceStatus struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version string `json:"version"`

	UptimeSeconds float64 `json:"uptime_seconds"` // of the program: it falls where the program was started anew
}

type clockStatus struct {
	State        string `json:"state"`
	ErrorBoundMS int64  `json:"error_bound_ms"`
}

// machineClock is the clock now.
type machineClock struct {
	clockStatus
	// ServerSkew is how far the far side's clock that differs most is ahead of this
	// one; absent while none has answered. Beyond 60 s one of the two is wrong.
	ServerSkew *float64 `json:"server_skew_seconds,omitempty"`
}

type outboxStatus struct {
	LastSeq   uint64       `json:"last_seq"`
	LastHash  string       `json:"last_hash"` // of the newest record: the end of the audit chain
	Bytes     int64        `json:"bytes"`
	FreeBytes uint64       `json:"free_bytes"`
	LowSpace  bool         `json:"low_space"`          // less than a fifth of the file system is free
	Ready     bool         `json:"ready"`              // a punch could be stored now
	Problem   string       `json:"problem,omitempty"`  // why not
	Incident  string       `json:"incident,omitempty"` // what was mended since the start
	Mirror    mirrorStatus `json:"mirror"`

	RunwayDays    *float64 `json:"runway_days,omitempty"`          // for how many days there is space at this site's rate, the reserve left alone; absent until that is known
	WrittenPerDay *float64 `json:"disk_written_per_day,omitempty"` // bytes written to the disk or card in a day, whoever wrote them; absent on a machine's first day
}

// mirrorStatus is how the second copy fares.
type mirrorStatus struct {
	Behind uint64 `json:"behind"` // punches that are not in it yet: those of the last second, if all is well
	Error  string `json:"error,omitempty"`
}

type destinationStatus struct {
	Name                string  `json:"name"`
	Driver              string  `json:"driver"`
	State               string  `json:"state"`
	Pending             uint64  `json:"pending"`
	Parked              int     `json:"parked"`
	OldestUnsentSeconds float64 `json:"oldest_unsent_seconds"`
	LastError           string  `json:"last_error"`
	LastSuccess         string  `json:"last_success"` // RFC 3339, "" for not since the start

	Reconcile *reconcileStatus `json:"reconcile,omitempty"` // the last comparison with what it holds
}

type readerStatus struct {
	Name      string            `json:"name"`
	Driver    string            `json:"driver"`
	State     string            `json:"state"`
	LastEvent string            `json:"last_event"` // RFC 3339, "" for never
	Faults    map[string]uint64 `json:"faults,omitempty"`
	Traffic   *readerTraffic    `json:"traffic,omitempty"` // absent until the log was read
}

const milliLayout = "2006-01-02T15:04:05.000Z07:00"

func (h *clockwork) when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(h.cfg.Device.Timezone).Format(milliLayout)
}

// status reads the picture of everything from memory.
func (h *clockwork) status() status {
	b := h.outbox.Stats()
	s := status{
		Device: deviceStatus{h.cfg.Device.ID, h.cfg.Device.Name, version, time.Since(h.started).Seconds()},
		Clock:  h.clockStatus(),
		Outbox: outboxStatus{LastSeq: b.LastSeq, LastHash: fmt.Sprintf("%x", b.LastHash), Bytes: b.Bytes, FreeBytes: b.Free, LowSpace: b.Free < b.Total/5, Ready: true, Incident: h.outbox.Incident()},
		// Never null: whoever reads this counts on lists.
		Destinations: []destinationStatus{}, Readers: []readerStatus{}, Roster: h.source.get(h), Candidates: h.candidatesStatus(), Configuration: h.configuration(),
	}
	if err := h.lastReady(); err != nil {
		s.Outbox.Ready, s.Outbox.Problem = false, err.Error()
	}
	s.Outbox.Mirror.Behind = b.Mirror.Behind
	if b.Mirror.Err != nil {
		s.Outbox.Mirror.Error = b.Mirror.Err.Error()
	}
	t := h.traffic.Load()
	if t != nil {
		if days, known := runwayDays(t.perDay, b.LastSeq, b.Bytes, b.Free, h.cfg.Outbox.reserve(b.Total)); known {
			s.Outbox.RunwayDays = &days
		}
	}
	if n, known := writtenPerDay("/", deviceOf(h.cfg.Device.StateDir)); known {
		s.Outbox.WrittenPerDay = &n
	}
	for _, w := range h.workers {
		c, st := w.cfg(), w.status()
		d := b.Destinations[c.Name]
		s.Destinations = append(s.Destinations, destinationStatus{Name: c.Name, Driver: c.Driver, State: st.State, Pending: d.Pending, Parked: d.Parked,
			OldestUnsentSeconds: d.Oldest.Round(time.Millisecond).Seconds(), LastError: st.LastError, LastSuccess: h.when(st.LastSuccess),
			Reconcile: h.reconciler.status(c.Name)})
	}
	for i, r := range h.kiosk.Readers() {
		rs := readerStatus{Name: r.Name, Driver: h.cfg.Readers[i].Driver, State: r.State, LastEvent: h.when(r.LastEvent), Faults: r.Faults}
		if t != nil {
			if rt, known := t.readers[r.Name]; known {
				rs.Traffic = &rt
			}
		}
		s.Readers = append(s.Readers, rs)
	}
	return s
}

func (h *clockwork) clockStatus() machineClock {
	now := h.clock.Now()
	c := machineClock{clockStatus: clockStatus{stampOf(now).Clock.String(), now.ErrorBound.Milliseconds()}}
	for _, d := range h.skew.all() {
		if x := d.Seconds(); c.ServerSkew == nil || math.Abs(x) > math.Abs(*c.ServerSkew) {
			c.ServerSkew = &x
		}
	}
	return c
}

func (h *clockwork) lastReady() error {
	if p := h.ready.Load(); p != nil {
		return *p
	}
	return nil
}

// backend is what the page asks of the house.
type backend struct{ h *clockwork }

func (b backend) Status(context.Context) any { return b.h.status() }
func (b backend) Ready() error               { return b.h.lastReady() }
func (b backend) ReadyNow() error            { return b.h.readyNow() }

func (b backend) ChooseKind(word string) error {
	k, err := punch.ParseKind(word)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return b.h.kiosk.ChooseKind(ctx, k)
}

func (b backend) PIN(ctx context.Context, number, pin string) (ui.Result, error) {
	number = strings.TrimSpace(number)
	if r, err, ok := b.h.enrol.page(number, pin, b.h.clock.Now().Wall.In(b.h.cfg.Device.Timezone)); ok {
		return r, err
	}
	if err := b.h.checkPIN(number, pin); err != nil {
		return ui.Result{}, err
	}
	r, err := b.h.kiosk.PIN(ctx, number)
	if errors.Is(err, kiosk.ErrUnknownEmployee) {
		return r, web.ErrWrongPIN
	}
	return r, err
}

// checkPIN says whether number and PIN belong together, if PINs are looked at now.
// The errors that are the person's business are web.ErrWrongPIN and
// *web.TooManyTries.
func (h *clockwork) checkPIN(number, pin string) error {
	wait, err := h.pins.take(number)
	switch {
	case err != nil:
		return err
	case wait > 0:
		return &web.TooManyTries{Wait: wait}
	case !h.roster.CheckPIN(number, pin):
		return web.ErrWrongPIN
	}
	h.pins.right(number)
	return nil
}

// checkEntry is checkPIN for what was typed on a keypad.
func (h *clockwork) checkEntry(number string, pin device.PIN) (fault string) {
	err := h.checkPIN(number, string(pin))
	var tries *web.TooManyTries
	switch {
	case err == nil:
		return ""
	case errors.Is(err, web.ErrWrongPIN):
		return device.FaultPIN
	case !errors.As(err, &tries):
		h.log.Error("a PIN could not be looked at", "err", err)
	}
	return device.FaultTries
}

func (b backend) Correct(ctx context.Context, id, word string) (ui.Result, error) {
	k, err := punch.ParseKind(word)
	if err != nil {
		return ui.Result{}, err
	}
	r, err := b.h.kiosk.Correct(ctx, punch.ID(id), k)
	if errors.Is(err, kiosk.ErrNotCorrectable) {
		return r, web.ErrNotCorrectable
	}
	return r, err
}

func statusCommand(t *tool) *cobra.Command {
	return t.reporting(&cobra.Command{
		Use: "status", Short: "Show how the running clock fares", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			cl, err := dialControl(cfg)
			if err != nil {
				return &exitError{exitUnchecked, fmt.Errorf("status: %w; start it with: systemctl start punchclock", err)}
			}
			var s status
			if err := cl.getJSON(c.Context(), "/status", &s); err != nil {
				return err
			}
			if t.json {
				return t.printJSON(s)
			}
			return s.print(t.stdout)
		},
	})
}

func (s status) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "device\t%s\t%s\tpunchclock %s\n", s.Device.ID, s.Device.Name, s.Device.Version)
	fmt.Fprintf(w, "clock\t%s\twithin %v\n", s.Clock.State, time.Duration(s.Clock.ErrorBoundMS)*time.Millisecond)
	if x := s.Clock.ServerSkew; x != nil && math.Abs(*x) > skewWorth.Seconds() {
		fmt.Fprintf(w, "\tWARNING\ta far side's clock is %v ahead of this one: check the time server, and the battery clock if there is one\n", time.Duration(*x)*time.Second)
	}
	ready := "punches are stored"
	if !s.Outbox.Ready {
		ready = "NO PUNCH CAN BE STORED: " + s.Outbox.Problem
	}
	fmt.Fprintf(w, "outbox\t%s\tlast number %d, %.1f MB, %.1f GB free\n", ready, s.Outbox.LastSeq, float64(s.Outbox.Bytes)/1e6, float64(s.Outbox.FreeBytes)/1e9)
	if s.Outbox.LowSpace {
		fmt.Fprintf(w, "warning\tless than 20 %% of the file system is free: make room\n")
	}
	if told, remedy, _ := strings.Cut(s.Update, "\n"); told != "" {
		fmt.Fprintf(w, "update\t%s\n\t%s\n", told, remedy)
	}
	if d := s.Outbox.RunwayDays; d != nil {
		fmt.Fprintf(w, "space\t%s\n", runwayWords(*d))
		if *d < fewDays {
			fmt.Fprintf(w, "\tWARNING\tmake room; punchclock doctor says how\n")
		}
	}
	if n := s.Outbox.WrittenPerDay; n != nil {
		fmt.Fprintf(w, "card\t%s written a day\n", size(uint64(*n)))
		if *n > wearMost {
			fmt.Fprintf(w, "\tWARNING\tit wears out early; punchclock doctor says what to do\n")
		}
	}
	if m := s.Outbox.Mirror; m.Error != "" {
		fmt.Fprintf(w, "second copy\t%d punches behind: %s\n", m.Behind, m.Error)
	}
	if s.Outbox.Incident != "" {
		fmt.Fprintf(w, "incident\t%s\n", s.Outbox.Incident)
	}
	if r := s.Roster; r != nil {
		fmt.Fprintf(w, "roster\t%s\timported %s, looked at %s\n", r.Source, dash(r.Imported), dash(r.LookedAt))
		if r.Problem != "" {
			fmt.Fprintf(w, "\tWARNING\tnot taken over, the last good one is in force: %s\n", r.Problem)
		}
	}
	if c := s.Candidates; c != nil {
		fmt.Fprintf(w, "candidates\t%s\t%d wait, read up to %s\n", c.State, c.Pending, dash(c.NextHour))
		if c.Problem != "" {
			fmt.Fprintf(w, "\tWARNING\t%s\n", c.Problem)
		}
	}
	if c := s.Configuration; c != nil {
		if c.Problem != "" {
			fmt.Fprintf(w, "configuration\tWARNING: changed and wrong, the old one is in force:\n%s\n", c.Problem)
		}
		for _, x := range c.Restart {
			fmt.Fprintf(w, "configuration\tWARNING: needs a restart: %s\n", x)
		}
	}
	fmt.Fprintf(w, "\nDESTINATION\tSTATE\tPENDING\tPARKED\tOLDEST\tLAST SUCCESS\tLAST ERROR\n")
	for _, d := range s.Destinations {
		oldest := time.Duration(d.OldestUnsentSeconds * float64(time.Second)).Round(time.Second)
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%v\t%s\t%s\n", d.Name, d.State, d.Pending, d.Parked, oldest, dash(d.LastSuccess), dash(d.LastError))
	}
	s.printReconciled(w)
	fmt.Fprintf(w, "\nREADER\tDRIVER\tSTATE\tLAST EVENT\tLAST HOUR\tUSUALLY\tONE CARD\tFAULTS\n")
	for _, r := range s.Readers {
		hour, usual, one := "-", "-", "-"
		if t := r.Traffic; t != nil {
			hour, one = strconv.Itoa(t.Hour), strconv.Itoa(t.OneCard)
			if t.Usual > 0 {
				usual = fmt.Sprintf("%d or more", t.Usual)
			}
		}
		faults := uint64(0) // since the start: whoever has just moved a wire looks here
		for _, n := range r.Faults {
			faults += n
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.Name, r.Driver, r.State, dash(r.LastEvent), hour, usual, one, faults)
		if r.Traffic != nil {
			for _, f := range r.Traffic.look() {
				fmt.Fprintf(w, "\tWARNING\t%s: %s\n", f.detail, f.remedy)
			}
		}
	}
	return w.Flush()
}

// printReconciled tells how the last comparisons ended, if there were any.
func (s status) printReconciled(w io.Writer) {
	head := "\nRECONCILED\tDAYS\tCHECKED\tNOT SHOWN\tTWICE\tAT\tPROBLEM\n"
	for _, d := range s.Destinations {
		r := d.Reconcile
		if r == nil {
			continue
		}
		checked, missing, doubled := strconv.Itoa(r.Checked), strconv.Itoa(r.Missing), strconv.Itoa(r.Doubled)
		if !r.ReadBack {
			checked, missing, doubled = "-", "-", fmt.Sprintf("%d sent twice", r.Resent)
		}
		days := r.Day
		if r.Since != r.Day {
			days = r.Since + " to " + r.Day
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\t%s\t%s\n", head, d.Name, dash(days), checked, missing, doubled, dash(r.At), dash(r.Problem))
		head = ""
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (h *clockwork) serveStatus(w http.ResponseWriter, _ *http.Request) {
	s := h.status()
	s.Update = updateTold(updateDir)
	writeJSON(w, s)
}
