package main

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"punchclock/ui/web"
)

// adminRoom is the page for technicians and HR, as package web asks for it: the PIN and
// the sections, each in a file of its own beside this one, admin_*.go.
type adminRoom struct {
	*adminPIN
	h *clockwork
	a *archive
}

func (h *clockwork) newAdminRoom() *adminRoom {
	return &adminRoom{adminPIN: h.admin, h: h, a: h.archive()}
}

// Sections lists the tabs. A new section is one more line here.
func (r *adminRoom) Sections() []web.Section {
	return []web.Section{
		r.nowSection(),
	}
}

var _ web.Admin = (*adminRoom)(nil)

// shown writes a moment for a table, "" for none.
func (r *adminRoom) shown(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(r.h.cfg.Device.Timezone).Format(time.DateTime)
}

// shownStamp is shown for a moment in the form of the status.
func (r *adminRoom) shownStamp(s string) string {
	t, err := time.Parse(milliLayout, s)
	if err != nil {
		return s
	}
	return r.shown(t)
}

// person is a number with the name that the roster has for it.
func (r *adminRoom) person(number string) string {
	if e, ok := r.h.roster.ByNumber(number); ok && e.Name != "" {
		return number + " " + e.Name
	}
	return number
}

// nowSection is what a technician looks at first: readers, destinations, clock, and
// what a card at the door is.
func (r *adminRoom) nowSection() web.Section {
	return web.Section{Name: "now", Title: "now", Fresh: 3 * time.Second, Show: r.showNow}
}

func (r *adminRoom) showNow(_ context.Context, ask web.Ask) ([]web.Block, error) {
	say, s := ask.Say, r.h.status()
	readers := &web.Table{Head: []string{say.Office("reader"), say.Office("driver"), say.Office("state"), say.Office("last.event"), say.Office("faults")}, Empty: say.Office("none")}
	for _, x := range s.Readers {
		mark := "ok"
		if x.State != "ok" {
			mark = "stuck"
		}
		readers.Rows = append(readers.Rows, web.Row{Mark: mark, Cells: []string{x.Name, x.Driver, say.Reader(x.State), dash(r.shownStamp(x.LastEvent)), faultCounts(x.Faults)}})
	}
	return []web.Block{{Title: say.Office("readers"), Live: true, Table: readers}}, nil
}

// faultCounts lists what a reader threw away, by name.
func faultCounts(n map[string]uint64) string {
	if len(n) == 0 {
		return "-"
	}
	out := ""
	for _, k := range slices.Sorted(maps.Keys(n)) {
		if out != "" {
			out += ", "
		}
		out += k + " " + strconv.FormatUint(n[k], 10)
	}
	return out
}
