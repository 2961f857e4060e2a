package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/feishu"
	"punchclock/sync/signin"
)

// Reconciliation compares the log with what the destinations hold, per day. One that
// can be read back is asked; of the others there are only their own answers, as they
// lie in the receipts. It changes nothing, unless it is told to send again what a
// destination does not show.
//
// Only people who punched here on a day are asked for: a company's quota of calls is
// not for guessing. So records of theirs that came from elsewhere, a phone or another
// clock, are seen and listed apart, and those of others are not.

// ledgerReader is a destination that can be asked what it holds.
type ledgerReader interface {
	// Held returns the records of these employees, by number, from the second of
	// from on and before that of to, of whatever origin. It may be called during a
	// Send, makes its calls under the destination's own ceiling, and blocks until
	// they are answered. unasked are the employees that the answer says nothing
	// about: unknown there, or not reached because of err; held is true of all
	// others even beside an error. *drain.Busy inside err asks for quiet.
	Held(ctx context.Context, employees []string, from, to time.Time) (held []drain.Held, unasked []string, err error)
}

var (
	_ ledgerReader = (*feishu.Client)(nil)
	_ ledgerReader = (*signin.Client)(nil)
)

const (
	reconcileSchema = 1
	reconcileMost   = 31 // days in one go
	reconcileBusy   = 3  // times that a destination may ask for quiet before it is left alone
)

// reconciliation is the report. Names are in none of it.
type reconciliation struct {
	Schema       int          `json:"schema"`
	Device       string       `json:"device"`
	Timezone     string       `json:"timezone"`
	Since        string       `json:"since"` // first day
	Until        string       `json:"until"` // last day
	At           string       `json:"at"`
	Destinations []reconciled `json:"destinations"`
}

// reconciled is one destination's part.
type reconciled struct {
	Name     string          `json:"name"`
	Driver   string          `json:"driver"`
	ReadBack bool            `json:"read_back"` // it was asked what it holds; else the counts are those of its answers
	Finished bool            `json:"finished"`  // false: unchecked punches remain, problem says why
	Problem  string          `json:"problem"`
	Counts   reconcileCounts `json:"counts"`
	Days     []reconciledDay `json:"days"`
	Findings []finding       `json:"findings"`
	PutBack  int             `json:"put_back"` // how many are sent again
}

type reconciledDay struct {
	Day string `json:"day"`
	reconcileCounts
}

// reconcileCounts counts punches of the log by what became of them, and what the
// destination holds beside them.
type reconcileCounts struct {
	Delivered int `json:"delivered"` // by the receipts
	Resent    int `json:"resent"`    // of these: sent again after an unknown result
	Parked    int `json:"parked"`
	Pending   int `json:"pending"`
	Checked   int `json:"checked"`   // delivered, and the destination was asked
	Unchecked int `json:"unchecked"` // delivered, and it could not be asked
	Missing   int `json:"missing"`   // delivered, and not shown
	Doubled   int `json:"doubled"`   // held more than once: each copy beyond the first
	Altered   int `json:"altered"`   // held under our id with another time or person
	Unsettled int `json:"unsettled"` // held, though pending or parked here
	Extra     int `json:"extra"`     // held, and not ours
}

func (c *reconcileCounts) add(d reconcileCounts) {
	c.Delivered += d.Delivered
	c.Resent += d.Resent
	c.Parked += d.Parked
	c.Pending += d.Pending
	c.Checked += d.Checked
	c.Unchecked += d.Unchecked
	c.Missing += d.Missing
	c.Doubled += d.Doubled
	c.Altered += d.Altered
	c.Unsettled += d.Unsettled
	c.Extra += d.Extra
}

// The findings.
const (
	foundMissing   = "missing"
	foundDoubled   = "doubled"
	foundAltered   = "altered"
	foundUnsettled = "unsettled"
	foundUnchecked = "unchecked"
	foundResent    = "resent"
	foundParked    = "parked"
	foundExtra     = "extra"
)

type finding struct {
	Finding  string `json:"finding"`
	Day      string `json:"day"`
	Employee string `json:"employee_no"`
	Time     string `json:"time"`
	PunchID  string `json:"punch_id"` // "" for an extra without one
	Receipt  string `json:"receipt"`  // the far side's own id
	Detail   string `json:"detail"`
}

// entry is a punch of the log with its state at one destination.
type entry struct {
	id       punch.ID
	seq      uint64
	employee string
	kind     punch.Kind
	at       time.Time
	state    punch.DeliveryState
	resent   bool
	receipt  string
	reason   string // parked: the reason, and the far side's words
	seen     bool   // the destination shows it
}

// span is whole days in the device's zone.
type span struct {
	days []time.Time // the midnights that they begin with
	end  time.Time   // the midnight after the last
}

// daySpan reads the days that were asked for: one, or from one to another. None
// means yesterday and today.
func daySpan(day, since, until string, loc *time.Location, now time.Time) (span, error) {
	parse := func(s string) (time.Time, error) {
		t, err := time.ParseInLocation(time.DateOnly, s, loc)
		if err != nil {
			return t, fmt.Errorf("day %q: write it as 2026-11-21", s)
		}
		return t, nil
	}
	if day != "" && (since != "" || until != "") {
		return span{}, errors.New("use --day, or --since and --until")
	}
	today := midnight(now.In(loc), 0)
	first, last := midnight(today, -1), today
	var err error
	switch {
	case day != "":
		if first, err = parse(day); err != nil {
			return span{}, err
		}
		last = first
	case since != "" || until != "":
		if until != "" {
			if last, err = parse(until); err != nil {
				return span{}, err
			}
			first = last
		}
		if since != "" {
			if first, err = parse(since); err != nil {
				return span{}, err
			}
		}
	}
	if last.Before(first) {
		return span{}, fmt.Errorf("no day lies from %s to %s: the first must not be after the last", first.Format(time.DateOnly), last.Format(time.DateOnly))
	}
	var s span
	for d := first; !d.After(last); d = midnight(d, 1) {
		if len(s.days) == reconcileMost {
			return span{}, fmt.Errorf("%s to %s is more than %d days: take a month at a time", first.Format(time.DateOnly), last.Format(time.DateOnly), reconcileMost)
		}
		s.days = append(s.days, d)
	}
	s.end = midnight(last, 1)
	return s, nil
}

// midnight is the beginning of t's day, or of one some days away.
func midnight(t time.Time, days int) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d+days, 0, 0, 0, 0, t.Location())
}

// of returns the index of the day that t falls on, or -1.
func (s span) of(t time.Time) int {
	if t.Before(s.days[0]) || !t.Before(s.end) {
		return -1
	}
	i, found := slices.BinarySearchFunc(s.days, t, time.Time.Compare)
	if !found {
		i--
	}
	return i
}

func (s span) first() string { return s.days[0].Format(time.DateOnly) }
func (s span) last() string  { return s.days[len(s.days)-1].Format(time.DateOnly) }

// reconciler makes the reports, one at a time, and remembers the last result.
type reconciler struct {
	cfg    *config
	log    *slog.Logger
	outbox *queue.Outbox
	dests  []reconcileDest
	turn   chan struct{} // holds one value while a report is made
	since  time.Time     // of whoever has the turn: no punch below from is of this time or later
	from   uint64

	mu   sync.Mutex
	last map[string]*reconcileStatus
}

type reconcileDest struct {
	name   string
	worker *worker

	// As configured when a report is begun.
	driver string
	reader ledgerReader // nil for one that cannot be read back
}

// reconcileStatus is the last result at one destination.
type reconcileStatus struct {
	Since    string `json:"since"` // first day
	Day      string `json:"day"`   // last day
	ReadBack bool   `json:"read_back"`
	Checked  int    `json:"checked"`
	Missing  int    `json:"missing"`
	Doubled  int    `json:"doubled"`
	Resent   int    `json:"resent"`
	At       string `json:"at"`                // when it was finished, RFC 3339; "" for never
	Problem  string `json:"problem,omitempty"` // why a later one could not be finished
}

func newReconciler(cfg *config, log *slog.Logger, outbox *queue.Outbox, workers []*worker) *reconciler {
	r := &reconciler{cfg: cfg, log: log, outbox: outbox, turn: make(chan struct{}, 1), last: map[string]*reconcileStatus{}}
	for _, w := range workers {
		r.dests = append(r.dests, reconcileDest{name: w.name(), worker: w})
	}
	return r
}

// status returns the last result, nil for none.
func (r *reconciler) status(dest string) *reconcileStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.last[dest]; s != nil {
		c := *s
		return &c
	}
	return nil
}

// run makes a report about these days: of one destination, or of all if dest is "".
// With resend, what is missing is put back. It waits for the one that is being made.
// An error is of the log or of ctx; that of a destination is in the report.
func (r *reconciler) run(ctx context.Context, s span, dest string, resend bool) (*reconciliation, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var dests []reconcileDest
	for _, d := range r.dests {
		if dest == "" || d.name == dest {
			d.driver, d.reader = d.worker.ledger()
			dests = append(dests, d)
		}
	}
	log, head, err := r.entries(ctx, s, dests)
	if err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	loc := r.cfg.Device.Timezone
	out := &reconciliation{Schema: reconcileSchema, Device: r.cfg.Device.ID, Timezone: loc.String(), Since: s.first(), Until: s.last(), Destinations: []reconciled{}}
	for _, d := range dests {
		part, err := r.destination(ctx, d, s, log[d.name], head)
		if err != nil {
			return nil, fmt.Errorf("reconcile: %s: %w", d.name, err)
		}
		if resend {
			var ids []punch.ID
			for _, f := range part.Findings {
				if f.Finding == foundMissing {
					ids = append(ids, punch.ID(f.PunchID))
				}
			}
			if part.PutBack, err = r.outbox.Resend(d.name, ids...); err != nil {
				return nil, fmt.Errorf("reconcile: %w", err)
			}
		}
		out.Destinations = append(out.Destinations, *part)
	}
	now := time.Now()
	out.At = now.In(loc).Format(milliLayout)
	r.remember(out)
	return out, nil
}

func (r *reconciler) remember(out *reconciliation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range out.Destinations {
		c := d.Counts
		if !d.Finished {
			s := reconcileStatus{ReadBack: d.ReadBack}
			if old := r.last[d.Name]; old != nil {
				s = *old
			}
			s.Problem = d.Problem
			r.last[d.Name] = &s
			r.log.Warn("reconciliation could not be finished", "dest", d.Name, "since", out.Since, "day", out.Until, "checked", c.Checked, "unchecked", c.Unchecked, "err", d.Problem)
			continue
		}
		r.last[d.Name] = &reconcileStatus{Since: out.Since, Day: out.Until, ReadBack: d.ReadBack, Checked: c.Checked, Missing: c.Missing, Doubled: c.Doubled, Resent: c.Resent, At: out.At}
		level := slog.LevelInfo
		if c.Missing+c.Doubled+c.Altered > 0 {
			level = slog.LevelWarn
		}
		r.log.Log(context.Background(), level, "reconciled", "dest", d.Name, "since", out.Since, "day", out.Until, "checked", c.Checked, "missing", c.Missing,
			"doubled", c.Doubled, "altered", c.Altered, "resent", c.Resent, "put_back", d.PutBack)
	}
}

// entries reads the log once: per destination and day, in order of sequence. The log
// is in order of time but for wrong clocks, so a month before the first day is looked
// through as well, and where that begins is remembered: the next night need not read
// the years before.
func (r *reconciler) entries(ctx context.Context, s span, dests []reconcileDest) (log map[string][][]*entry, head uint64, err error) {
	log = map[string][][]*entry{}
	for _, d := range dests {
		log[d.name] = make([][]*entry, len(s.days))
	}
	from := uint64(1)
	if !r.since.IsZero() && !s.days[0].Before(r.since) {
		from = r.from
	}
	since, first := midnight(s.days[0], -reconcileMost), uint64(0)
	err = r.outbox.Read(ctx, from, func(e queue.Entry) error {
		head = e.Seq
		if first == 0 && e.Damaged == nil && !e.Time().Before(since) {
			first = e.Seq
		}
		if e.Damaged != nil {
			return nil // verify names it
		}
		day := s.of(e.Time())
		if day < 0 {
			return nil
		}
		for _, d := range dests {
			v := e.Deliveries[d.name]
			if v.State == punch.Skipped {
				continue
			}
			x := &entry{id: e.ID, seq: e.Seq, employee: e.Employee, kind: e.Kind, at: e.Time(), state: v.State, resent: v.Resent, receipt: v.Receipt}
			if v.State == punch.Parked {
				x.reason = strings.TrimSpace(v.Reason + " " + v.Message)
			}
			log[d.name][day] = append(log[d.name][day], x)
		}
		return nil
	})
	if err == nil && first > 0 {
		r.since, r.from = since, first
	}
	return log, head, err
}

// destination makes one destination's part, day by day. It stops asking at the first
// error.
func (r *reconciler) destination(ctx context.Context, d reconcileDest, s span, log [][]*entry, head uint64) (*reconciled, error) {
	part := &reconciled{Name: d.name, Driver: d.driver, ReadBack: d.reader != nil, Finished: true, Findings: []finding{}}
	for i, midnight := range s.days {
		end := s.end
		if i+1 < len(s.days) {
			end = s.days[i+1]
		}
		var held []drain.Held
		unasked := map[string]bool{}
		if who := askedFor(log[i]); d.reader != nil && len(who) > 0 {
			left := who
			if part.Finished {
				var err error
				if held, left, err = ask(ctx, d.reader, who, midnight, end); err != nil {
					if ctx.Err() != nil {
						return nil, ctx.Err()
					}
					part.Finished, part.Problem = false, err.Error()
				}
			}
			for _, n := range left {
				unasked[n] = true
			}
			if err := r.lookAgain(ctx, d.name, log[i], held); err != nil {
				return nil, err
			}
		}
		c := comparison{day: midnight.Format(time.DateOnly), loc: r.cfg.Device.Timezone, device: r.cfg.Device.ID, head: head, readBack: d.reader != nil}
		c.compare(log[i], held, unasked)
		part.Counts.add(c.counts)
		part.Days = append(part.Days, reconciledDay{c.day, c.counts})
		part.Findings = append(part.Findings, c.findings...)
	}
	return part, nil
}

// askedFor is everybody who punched.
func askedFor(log []*entry) []string {
	who := map[string]bool{}
	for _, e := range log {
		if e.employee != "" {
			who[e.employee] = true
		}
	}
	return slices.Sorted(maps.Keys(who))
}

// ask reads a destination back, and waits a few times when it asks for quiet.
func ask(ctx context.Context, reader ledgerReader, who []string, from, to time.Time) (held []drain.Held, left []string, err error) {
	var wait drain.Backoff
	left = who
	for tries := 0; ; tries++ {
		var got []drain.Held
		got, left, err = reader.Held(ctx, left, from, to)
		held = append(held, got...)
		var busy *drain.Busy
		if err == nil || tries >= reconcileBusy || !errors.As(err, &busy) {
			return held, left, err
		}
		select {
		case <-time.After(wait.Busy(busy.After)):
		case <-ctx.Done():
			return held, left, ctx.Err()
		}
	}
}

// lookAgain takes note of punches that were delivered after the log was read and
// before the destination was.
func (r *reconciler) lookAgain(ctx context.Context, dest string, log []*entry, held []drain.Held) error {
	open := map[uint64]*entry{}
	keys := map[punch.ID]bool{}
	for _, h := range held {
		keys[punch.ID(h.Key)] = true
	}
	for _, e := range log {
		if e.state != punch.Delivered && keys[e.id] {
			open[e.seq] = e
		}
	}
	if len(open) == 0 {
		return nil
	}
	seqs := slices.Sorted(maps.Keys(open))
	done := errors.New("done")
	err := r.outbox.Read(ctx, seqs[0], func(x queue.Entry) error {
		if e := open[x.Seq]; e != nil {
			v := x.Deliveries[dest]
			e.state, e.resent, e.receipt = v.State, v.Resent, v.Receipt
		}
		if x.Seq >= seqs[len(seqs)-1] {
			return done
		}
		return nil
	})
	if err != nil && !errors.Is(err, done) {
		return err
	}
	return nil
}

// comparison is one day at one destination.
type comparison struct {
	day      string
	loc      *time.Location
	device   string
	head     uint64 // the newest punch when the log was read
	readBack bool

	counts   reconcileCounts
	findings []finding
}

func (c *comparison) found(what string, e *entry, detail string) {
	c.findings = append(c.findings, finding{Finding: what, Day: c.day, Employee: e.employee, Time: e.at.In(c.loc).Format(milliLayout),
		PunchID: string(e.id), Receipt: e.receipt, Detail: detail})
}

func (c *comparison) foundThere(what string, h drain.Held, detail string) {
	c.findings = append(c.findings, finding{Finding: what, Day: c.day, Employee: h.Employee, Time: h.Time.In(c.loc).Format(time.RFC3339),
		PunchID: h.Key, Receipt: h.Receipt, Detail: detail})
}

// alters counts a record that is not what was sent.
func (c *comparison) alters(e *entry, h drain.Held) {
	c.counts.Altered++
	kind := ""
	if e.otherKind(h) {
		kind = fmt.Sprintf(", %s and not %s", e.kind.Chinese(), h.Kind.Chinese())
	}
	c.foundThere(foundAltered, h, fmt.Sprintf("the log says %s, employee %s%s", e.at.In(c.loc).Format(milliLayout), e.employee, kind))
}

// otherKind reports whether the far side keeps a kind, and another one.
func (e *entry) otherKind(h drain.Held) bool { return h.Kind.Valid() && h.Kind != e.kind }

type moment struct {
	employee string
	second   int64
}

// compare sets the log's punches against what is held: by the id that was sent with
// them, and where none comes back by person and second.
func (c *comparison) compare(log []*entry, held []drain.Held, unasked map[string]bool) {
	byID := map[string]*entry{}
	byMoment := map[moment][]*entry{}
	for _, e := range log {
		byID[string(e.id)] = e
		m := moment{e.employee, e.at.Unix()}
		byMoment[m] = append(byMoment[m], e)
	}
	extra := []drain.Held{}
	nameless := []drain.Held{}
	for _, h := range held {
		e := byID[h.Key]
		switch {
		case h.Key == "":
			nameless = append(nameless, h)
		case e == nil:
			extra = append(extra, h)
		case e.seen:
			c.counts.Doubled++
			c.foundThere(foundDoubled, h, "stored more than once under this id: delete this copy there")
		default:
			e.seen = true
			if h.Employee != e.employee || h.Time.Unix() != e.at.Unix() || e.otherKind(h) {
				c.alters(e, h)
			}
		}
	}
	for _, h := range nameless {
		same := byMoment[moment{h.Employee, h.Time.Unix()}]
		i := slices.IndexFunc(same, func(e *entry) bool { return !e.seen && !e.otherKind(h) })
		if i < 0 {
			i = slices.IndexFunc(same, func(e *entry) bool { return !e.seen })
		}
		switch {
		case i >= 0:
			same[i].seen = true
			if same[i].otherKind(h) {
				c.alters(same[i], h)
			}
		case len(same) > 0:
			c.counts.Doubled++
			c.foundThere(foundDoubled, h, "more records of this person and second than punches: delete this copy there")
		default:
			extra = append(extra, h)
		}
	}
	for _, e := range log {
		c.own(e, unasked[e.employee])
	}
	for _, h := range extra {
		origin := "no punch of a clock: from a phone, a correction or another system"
		if dev, seq, err := punch.ID(h.Key).Seq(); err == nil && dev == c.device {
			if seq > c.head {
				continue // made while we were reading
			}
			origin = "under an id of this clock, whose log has no such punch of this day"
		} else if err == nil {
			origin = "of clock " + dev
		} else if h.Key != "" {
			origin = "imported by another system"
		}
		c.counts.Extra++
		c.foundThere(foundExtra, h, origin)
	}
}

// own counts a punch of the log.
func (c *comparison) own(e *entry, unasked bool) {
	switch e.state {
	case punch.Pending:
		c.counts.Pending++
	case punch.Parked:
		c.counts.Parked++
		c.found(foundParked, e, "waits for a person: "+e.reason)
	case punch.Delivered:
		c.counts.Delivered++
		if e.resent {
			c.counts.Resent++
		}
	}
	switch {
	case !c.readBack:
		if e.state == punch.Delivered && e.resent {
			c.found(foundResent, e, "sent again because an answer was lost or unclear: may be stored twice")
		}
	case e.state != punch.Delivered && e.seen:
		c.counts.Unsettled++
		c.found(foundUnsettled, e, "is there already, though "+e.state.String()+" here")
	case e.state != punch.Delivered:
	case e.seen:
		c.counts.Checked++
	case unasked:
		c.counts.Unchecked++
		c.found(foundUnchecked, e, "could not be asked for")
	default:
		c.counts.Checked++
		c.counts.Missing++
		c.found(foundMissing, e, "taken, but not shown: only valid records are shown, so it may wait for approval, be invalid, or be lost")
	}
}

// serveReconcile makes a report.
func (h *clockwork) serveReconcile(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s, err := daySpan("", q.Get("since"), q.Get("until"), h.cfg.Device.Timezone, time.Now())
	if err == nil {
		_, err = (&archive{cfg: h.cfg}).destinations(q.Get("destination"))
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	out, err := h.reconciler.run(r.Context(), s, q.Get("destination"), q.Get("resend") == "true")
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	writeJSON(w, out)
}

func reconcileCommand(t *tool) *cobra.Command {
	var day, since, until, dest string
	var asCSV, resend bool
	c := t.reporting(&cobra.Command{
		Use: "reconcile", Short: "Compare the log with what the destinations hold, day by day", Args: cobra.NoArgs,
		Long: `Compare the log with what the destinations hold, day by day: of a destination that
can be read back, what it does not show, holds twice, or holds beside our punches;
of the others, what their own answers said. Without days: yesterday and today.
Only the running clock can ask: it has the tokens and keeps the pace.`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			s, err := daySpan(day, since, until, cfg.Device.Timezone, time.Now())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if t.json && asCSV {
				return usage("use --json or --csv")
			}
			if _, err := (&archive{cfg: cfg}).destinations(dest); err != nil {
				return &exitError{exitUsage, err}
			}
			cl, err := dialControl(cfg)
			if err != nil {
				return &exitError{exitUnchecked, fmt.Errorf("reconcile: %w; only the running clock can ask the destinations, start it with: systemctl start punchclock", err)}
			}
			defer cl.close()
			body, err := cl.do(c.Context(), "POST", "/reconcile", url.Values{"since": {s.first()}, "until": {s.last()}, "destination": {dest},
				"resend": {strconv.FormatBool(resend)}}, nil)
			if err != nil {
				return err
			}
			defer body.Close()
			var out reconciliation
			if err := json.NewDecoder(body).Decode(&out); err != nil {
				return fmt.Errorf("reconcile: the answer was cut off: %w", err)
			}
			switch {
			case t.json:
				err = t.printJSON(out)
			case asCSV:
				err = out.writeCSV(t.stdout)
			default:
				err = out.print(t.stdout, resend)
			}
			if err != nil {
				return err
			}
			for _, d := range out.Destinations {
				if !d.Finished {
					return &exitError{exitUnchecked, fmt.Errorf("reconcile: %s: %d of %d punches could not be checked: %s", d.Name, d.Counts.Unchecked, d.Counts.Delivered, d.Problem)}
				}
			}
			return nil
		},
	})
	f := c.Flags()
	f.StringVar(&day, "day", "", "only this `day`, for example 2026-11-21")
	f.StringVar(&since, "since", "", "from this `day` on")
	f.StringVar(&until, "until", "", "up to and with this `day`")
	f.StringVar(&dest, "destination", "", "only this `name`")
	f.BoolVar(&asCSV, "csv", false, "answer in CSV, for a spreadsheet")
	f.BoolVar(&resend, "resend", false, "send again what a destination does not show, under the old ids")
	return c
}

// foundWords are the findings as a person reads them.
var foundWords = map[string]string{foundMissing: "not shown", foundDoubled: "twice", foundAltered: "altered", foundUnsettled: "early",
	foundUnchecked: "unchecked", foundResent: "sent twice", foundParked: "parked", foundExtra: "not ours"}

func (out *reconciliation) print(to io.Writer, resend bool) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "DESTINATION\tDAY\tDELIVERED\tCHECKED\tNOT SHOWN\tTWICE\tNOT OURS\tSENT TWICE\tPARKED\tPENDING")
	for _, d := range out.Destinations {
		for _, x := range d.Days {
			there := func(n int) string {
				if !d.ReadBack {
					return "-"
				}
				return strconv.Itoa(n)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%d\t%d\t%d\n", d.Name, x.Day, x.Delivered, there(x.Checked), there(x.Missing), there(x.Doubled), there(x.Extra),
				x.Resent, x.Parked, x.Pending)
		}
	}
	w.Flush()
	for _, d := range out.Destinations {
		fmt.Fprintln(&b)
		switch {
		case !d.Finished:
			fmt.Fprintf(&b, "%s: NOT FINISHED, %d punches could not be checked: %s\n", d.Name, d.Counts.Unchecked, d.Problem)
		case d.ReadBack:
			fmt.Fprintf(&b, "%s was read back: %d of %d delivered punches are shown\n", d.Name, d.Counts.Checked-d.Counts.Missing, d.Counts.Delivered)
		default:
			fmt.Fprintf(&b, "%s cannot be read back: these are the counts of its own answers\n", d.Name)
		}
		for _, f := range d.Findings {
			if f.Finding == foundUnchecked && !d.Finished {
				continue // said above
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", foundWords[f.Finding], f.Time, dash(f.Employee), dash(f.PunchID), f.Detail)
		}
		w.Flush()
		switch {
		case d.PutBack > 0:
			fmt.Fprintf(&b, "%d put back, to be sent again under their old ids\n", d.PutBack)
		case d.Counts.Missing > 0 && !resend:
			fmt.Fprintf(&b, "to send again what is not shown: punchclock reconcile --since %s --until %s --destination %s --resend\n", out.Since, out.Until, d.Name)
		}
	}
	_, err := to.Write(b.Bytes())
	return err
}

// writeCSV writes the counts, a line each, and then a line for each finding.
func (out *reconciliation) writeCSV(to io.Writer) error {
	if _, err := io.WriteString(to, "\uFEFF"); err != nil { // Excel takes it for UTF-8 then
		return err
	}
	w := csv.NewWriter(to)
	w.Write([]string{"destination", "day", "what", "count", "employee_no", "time", "punch_id", "receipt", "detail"})
	for _, d := range out.Destinations {
		for _, x := range d.Days {
			for _, n := range []struct {
				what string
				n    int
			}{{"delivered", x.Delivered}, {"checked", x.Checked}, {foundMissing, x.Missing}, {foundDoubled, x.Doubled}, {foundAltered, x.Altered}, {foundExtra, x.Extra},
				{foundUnsettled, x.Unsettled}, {foundUnchecked, x.Unchecked}, {foundResent, x.Resent}, {foundParked, x.Parked}, {"pending", x.Pending}} {
				w.Write([]string{d.Name, x.Day, n.what, strconv.Itoa(n.n), "", "", "", "", ""})
			}
		}
	}
	for _, d := range out.Destinations {
		for _, f := range d.Findings {
			w.Write([]string{d.Name, f.Day, f.Finding, "", f.Employee, f.Time, noFormula(f.PunchID), noFormula(f.Receipt), noFormula(f.Detail)})
		}
	}
	w.Flush()
	return w.Error()
}

// noFormula keeps a spreadsheet from computing what a far side wrote.
func noFormula(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t", rune(s[0])) {
		return "'" + s
	}
	return s
}
