package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/ui/text"
	"punchclock/ui/web"
)

// nowSection is what a technician looks at first: what a card at a reader is, readers,
// destinations, clock and storage.
func (r *adminRoom) nowSection() web.Section {
	return web.Section{Name: "now", Title: "now", Fresh: 3 * time.Second, Show: r.showNow, Within: tapWithin,
		Do: map[string]func(context.Context, web.Ask) (web.Answer, error){"tap": r.tapNow}}
}

// tapWithin is for how long a card is waited for.
const tapWithin = 30 * time.Second

// tapForm asks for the next card at a reader.
func (r *adminRoom) tapForm(say text.Catalog, do, submit string, more ...web.Field) *web.Form {
	f := &web.Form{Do: do, Submit: say.Office(submit), Busy: say.Office("tap.busy", int(tapWithin/time.Second)), Fields: more}
	if len(r.h.cfg.Readers) > 1 {
		at := web.Field{Name: "reader", Label: say.Office("reader"), Options: [][2]string{{"", say.Office("tap.any")}}}
		for _, c := range r.h.cfg.Readers {
			at.Options = append(at.Options, [2]string{c.Name, c.Name})
		}
		f.Fields = append(f.Fields, at)
	}
	return f
}

// nextCard waits for a card at the reader that the form names.
func (r *adminRoom) nextCard(ctx context.Context, ask web.Ask) (learned, error) {
	l, err := r.h.learner.wait(ctx, ask.Form.Get("reader"))
	switch {
	case errors.Is(err, errLearning):
		return l, errors.New(ask.Say.Office("tap.other"))
	case err != nil:
		return l, errors.New(ask.Say.Office("tap.none"))
	}
	return l, nil
}

func (r *adminRoom) tapNow(ctx context.Context, ask web.Ask) (web.Answer, error) {
	l, err := r.nextCard(ctx, ask)
	if err != nil {
		return web.Answer{}, err
	}
	return tapAnswer(ask.Say, l), nil
}

// tapAnswer tells all of a tap: what came off the line, what it is, and whose.
func tapAnswer(say text.Catalog, l learned) web.Answer {
	if l.Fault != "" {
		return web.Answer{Mark: "stuck", Words: say.Office("tap.fault", l.Reader, faultWord(say, l.Fault))}
	}
	mark, words := cardWords(say, l.badgeAnswer)
	facts := &web.Table{Head: []string{say.Office("reader"), say.Office("card"), say.Office("raw"), say.Office("bits")},
		Rows: []web.Row{{Mark: mark, Cells: []string{l.Reader, l.Badge, l.Raw, strconv.Itoa(l.Bits)}}}}
	ways := &web.Table{Head: []string{say.Office("card.way"), say.Office("card.same")}}
	for _, x := range l.Readings {
		same := say.Office("yes")
		switch {
		case x.Rule != "" && x.Same:
			same = say.Office("card.same.by", x.Rule)
		case x.Rule != "":
			same = say.Office("card.same.with", x.Rule)
		}
		ways.Rows = append(ways.Rows, web.Row{Cells: []string{x.Badge, same}})
	}
	return web.Answer{Mark: mark, Words: words[0], Blocks: []web.Block{
		{Title: say.Office("card"), Mark: mark, Words: words[1:], Table: facts},
		{Title: say.Office("card.ways"), Table: ways},
	}}
}

// cardWords says whose a card is, and what to do where that is not clear.
func cardWords(say text.Catalog, b badgeAnswer) (mark string, words []string) {
	var names []string
	active, same := false, false
	for _, o := range b.Owners {
		names = append(names, strings.TrimSpace(o.Employee+" "+o.Name))
		active, same = active || o.Active, same || o.Same
	}
	all := strings.Join(names, ", ")
	switch {
	case b.Employee != "":
		mark, words = "ok", []string{say.Office("card.of", all)}
	case same && len(names) > 1:
		mark, words = "stuck", []string{say.Office("card.many", all)}
	case same && !active:
		mark, words = "stuck", []string{say.Office("card.left", all)}
	case same:
		mark, words = "stuck", []string{say.Office("card.clash", all)}
	case len(names) > 0:
		mark, words = "wait", []string{say.Office("card.rule", all, b.Owners[0].Rule)}
	default:
		mark, words = "wait", []string{say.Office("card.nobody")}
	}
	switch doubt := b.Doubt; {
	case strings.Contains(doubt, "08"):
		words = append(words, say.Office("card.random"))
	case doubt != "":
		words = append(words, say.Office("card.begun"))
	}
	return mark, words
}

func (r *adminRoom) showNow(_ context.Context, ask web.Ask) ([]web.Block, error) {
	say, s := ask.Say, r.h.status()
	readers := &web.Table{Head: []string{say.Office("reader"), say.Office("driver"), say.Office("state"), say.Office("last.event"), say.Office("faults")}, Empty: say.Office("none")}
	for _, x := range s.Readers {
		mark := "ok"
		if x.State != "ok" {
			mark = "stuck"
		}
		readers.Rows = append(readers.Rows, web.Row{Mark: mark, Cells: []string{x.Name, x.Driver, say.Reader(x.State), dash(r.shownStamp(x.LastEvent)), faultCounts(say, x.Faults)}})
	}
	dests := &web.Table{Head: []string{say.Office("dest"), say.Office("state"), say.Office("pending"), say.Office("oldest"), say.Office("parked.n"), say.Office("last.success"), say.Office("last.error"), say.Office("remedy")}, Empty: say.Office("none")}
	for _, d := range s.Destinations {
		mark, remedy := "ok", "-"
		switch {
		case d.State == "retrying":
			mark, remedy = "wait", say.Office("remedy.retrying")
		case d.State != "ok":
			mark, remedy = "stuck", say.Office("remedy."+d.State)
		case d.Parked > 0:
			mark, remedy = "stuck", say.Office("remedy.parked")
		}
		oldest := "-"
		if d.Pending > 0 {
			oldest = say.Duration(time.Duration(d.OldestUnsentSeconds * float64(time.Second)))
		}
		last := say.Say(text.StatusNever)
		if d.LastSuccess != "" {
			last = r.shownStamp(d.LastSuccess)
		}
		dests.Rows = append(dests.Rows, web.Row{Mark: mark, Cells: []string{d.Name, say.Destination(d.State), strconv.FormatUint(d.Pending, 10), oldest, strconv.Itoa(d.Parked), last, above(say.Trouble(d.LastError), d.LastError), remedy}})
	}
	return []web.Block{
		{Title: say.Office("tap"), Words: []string{say.Office("tap.words")}, Form: r.tapForm(say, "tap", "tap.go")},
		{Title: say.Office("readers"), Live: true, Table: readers},
		{Title: say.Office("dests"), Live: true, Table: dests},
		{Title: say.Office("machine"), Live: true, Table: r.machineTable(say, s)},
	}, nil
}

// machineTable is clock, storage and roster, a line each.
func (r *adminRoom) machineTable(say text.Catalog, s status) *web.Table {
	t := &web.Table{Head: []string{say.Office("what"), say.Office("state"), say.Office("detail")}}
	add := func(mark, what, state, detail string) {
		t.Rows = append(t.Rows, web.Row{Mark: mark, Cells: []string{what, state, detail}})
	}
	mark := "wait"
	if s.Clock.State == "synced" {
		mark = "ok"
	}
	add(mark, say.Say(text.StatusClock), say.Clock(s.Clock.State), fmt.Sprintf("%s, ± %v", r.shown(time.Now()), time.Duration(s.Clock.ErrorBoundMS)*time.Millisecond))
	if x := s.Clock.ServerSkew; x != nil && time.Duration(*x*float64(time.Second)).Abs() > skewWorth {
		add("stuck", say.Say(text.StatusClock), say.Office("skew"), fmt.Sprintf("%+.0f s", *x))
	}
	mark, state := "ok", say.Say(text.StatusReady)
	detail := say.Office("storage", s.Outbox.LastSeq, float64(s.Outbox.Bytes)/1e6, float64(s.Outbox.FreeBytes)/1e9)
	switch {
	case !s.Outbox.Ready:
		mark, state, detail = "stuck", say.Say(text.NotReady), s.Outbox.Problem
	case s.Outbox.LowSpace:
		mark, state = "stuck", say.Say(text.SpaceLow)
	}
	add(mark, say.Say(text.StatusStorage), state, detail)
	if s.Outbox.Incident != "" {
		add("stuck", say.Say(text.StatusStorage), say.Say(text.Mended), s.Outbox.Incident)
	}
	if m := s.Outbox.Mirror; m.Error != "" {
		add("stuck", say.Office("mirror"), strconv.FormatUint(m.Behind, 10), m.Error)
	}
	people := r.h.roster.Counts()
	add("ok", say.Office("roster"), strconv.Itoa(people.People), "")
	if x := s.Roster; x != nil && x.Problem != "" {
		add("stuck", say.Office("roster"), say.Office("roster.old"), x.Problem)
	}
	if c := s.Configuration; c != nil && c.Problem != "" {
		add("stuck", say.Office("config"), say.Office("config.wrong"), c.Problem)
	} else if c != nil && len(c.Restart) > 0 {
		add("wait", say.Office("config"), say.Office("config.restart"), strings.Join(c.Restart, "\n"))
	}
	if sum := r.h.cert.fingerprint(); sum != "" && r.h.cfg.Kiosk.AllowRemote {
		add("ok", say.Office("cert"), "SHA-256", sum)
	}
	add("ok", say.Office("program"), r.h.cfg.Device.ID, version)
	return t
}

// faultCounts lists what a reader threw away, the most first.
func faultCounts(say text.Catalog, n map[string]uint64) string {
	keys := slices.SortedFunc(maps.Keys(n), func(a, b string) int { return cmp.Or(cmp.Compare(n[b], n[a]), strings.Compare(a, b)) })
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%s %d", faultWord(say, k), n[k])
	}
	return dash(strings.Join(keys, ", "))
}

// faultWord says why a tap was no card; a reader may have words of its own.
func faultWord(say text.Catalog, fault string) string {
	if words := say.Office("fault." + fault); words != "fault."+fault {
		return words
	}
	return fault
}

// parkedSection lists what waits for a person, and puts it back.
func (r *adminRoom) parkedSection() web.Section {
	return web.Section{Name: "parked", Title: "parked", Fresh: 10 * time.Second, Show: r.showParked,
		Do: map[string]func(context.Context, web.Ask) (web.Answer, error){"retry": r.retryNow}}
}

const parkedShown = 300

func (r *adminRoom) showParked(_ context.Context, ask web.Ask) ([]web.Block, error) {
	say := ask.Say
	rows, err := r.a.queueRows("", nil, "parked", say)
	if err != nil {
		return nil, err
	}
	t := &web.Table{Head: []string{say.Column("time"), say.Office("who"), say.Column("kind"), say.Column("destination"), say.Column("reason"), say.Column("message"), say.Column("tries"), say.Office("last.tried"), ""}, Empty: say.Office("parked.none")}
	count := map[string]int{}
	for _, x := range rows {
		if x.State == "parked" {
			count[x.Destination]++
		}
		if len(t.Rows) == parkedShown {
			continue
		}
		who := r.person(x.Employee)
		if x.Employee == "" {
			who = string(x.badge)
		}
		row := web.Row{Mark: "stuck", Cells: []string{r.shownStamp(x.Time), dash(who), say.Kind(x.Kind), x.Destination, x.ReasonWords, dash(x.Message), strconv.Itoa(x.Tries), r.shownStamp(x.LastTried)},
			Form: &web.Form{Do: "retry", Submit: say.Office("retry"), Fields: []web.Field{{Name: "destination", Type: "hidden", Value: x.Destination}, {Name: "punch", Type: "hidden", Value: x.ID}}}}
		if x.State != "parked" {
			row.Mark, row.Form = "wait", nil
			row.Cells[4] = say.Office("parked.again")
		}
		t.Rows = append(t.Rows, row)
	}
	list := web.Block{Title: say.Office("parked"), Live: true, Words: []string{say.Office("parked.words")}, Table: t}
	if len(rows) > len(t.Rows) {
		list.Words = append(list.Words, say.Office("more", len(t.Rows), len(rows)))
	}
	out := []web.Block{list}
	for _, d := range slices.Sorted(maps.Keys(count)) {
		out = append(out, web.Block{Form: &web.Form{Do: "retry", Submit: say.Office("retry.all", d, count[d]), Fields: []web.Field{{Name: "destination", Type: "hidden", Value: d}}}})
	}
	return out, nil
}

func (r *adminRoom) retryNow(_ context.Context, ask web.Ask) (web.Answer, error) {
	dest, id := ask.Form.Get("destination"), ask.Form.Get("punch")
	n, err := r.a.retry(dest, id)
	if err != nil {
		return web.Answer{}, err
	}
	r.h.log.Info("parked punches were put back on the admin page", "dest", dest, "punch", id, "punches", n)
	return web.Answer{Mark: "ok", Words: ask.Say.Office("retry.done", n)}, nil
}

// todaySection lists the day's punches, the newest first.
func (r *adminRoom) todaySection() web.Section {
	return web.Section{Name: "today", Title: "today", Fresh: 5 * time.Second, Show: r.showToday}
}

const (
	todayShown = 300
	todayRead  = 5000 // records that are looked at: two days of a large site
)

func (r *adminRoom) showToday(ctx context.Context, ask web.Ask) ([]web.Block, error) {
	say, loc := ask.Say, r.h.cfg.Device.Timezone
	y, m, d := time.Now().In(loc).Date()
	midnight := time.Date(y, m, d, 0, 0, 0, 0, loc)
	head := []string{say.Column("time"), say.Office("who"), say.Column("kind"), say.Office("outcome"), say.Office("reader")}
	for _, x := range r.h.cfg.Destinations {
		head = append(head, x.Name)
	}
	t := &web.Table{Head: head, Empty: say.Office("today.none")}
	day, err := r.since(ctx, midnight)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for _, e := range slices.Backward(day) {
		counts[e.Kind.String()]++
		if len(t.Rows) == todayShown {
			continue
		}
		who := r.person(e.Employee)
		if e.Employee == "" {
			who = string(e.Badge)
		}
		mark := "ok"
		cells := []string{e.Time().In(loc).Format(time.TimeOnly), who, dash(say.Kind(e.Kind.String())), outcomeWord(say, e.Outcome), e.Reader}
		for _, x := range r.h.cfg.Destinations {
			st := e.Deliveries[x.Name].State
			if st == punch.Parked {
				mark = "stuck"
			} else if st == punch.Pending && mark == "ok" {
				mark = "wait"
			}
			cells = append(cells, say.Say(text.Key("delivery."+st.String())))
		}
		t.Rows = append(t.Rows, web.Row{Mark: mark, Cells: cells})
	}
	words := say.Office("today.count", len(day))
	for _, k := range []string{"in", "out", "go-out", "return"} {
		if counts[k] > 0 {
			words += fmt.Sprintf(" · %s %d", say.Kind(k), counts[k])
		}
	}
	list := web.Block{Title: say.Office("today"), Live: true, Words: []string{words}, Table: t}
	if len(day) > len(t.Rows) {
		list.Words = append(list.Words, say.Office("more", len(t.Rows), len(day)))
	}
	return []web.Block{list}, nil
}

// since returns the records of a time and later, of the last todayRead, oldest first.
func (r *adminRoom) since(ctx context.Context, from time.Time) (out []queue.Entry, err error) {
	head := r.h.outbox.Stats().LastSeq
	for look := uint64(256); ; look = min(4*look, todayRead) {
		first, early := uint64(1), false
		if head > look {
			first = head - look + 1
		}
		out = out[:0]
		err := r.h.outbox.Read(ctx, first, func(e queue.Entry) error {
			switch {
			case e.Damaged != nil, e.Outcome == punch.AuditEntry: // no punch
			case e.Time().Before(from):
				early = true
			default:
				e.Record = nil
				out = append(out, e)
			}
			return nil
		})
		if err != nil || early || first == 1 || look == todayRead {
			return out, err
		}
	}
}

// outcomeWord is what became of a tap, in a word.
func outcomeWord(say text.Catalog, o punch.Outcome) string {
	return say.Office("outcome." + o.String())
}
