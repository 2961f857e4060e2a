package main

import (
	"time"

	"punchclock/ui/web"
)

// adminRoom is the page for technicians and HR, as package web asks for it: the PIN and
// the sections, each in a file of its own beside this one, admin_*.go.
type adminRoom struct {
	*adminPIN
	h *clockwork
	a *archive

	export exportState
	check  checkState
}

func (h *clockwork) newAdminRoom() *adminRoom {
	return &adminRoom{adminPIN: h.admin, h: h, a: h.archive()}
}

// Sections lists the tabs. A new section is one more line here.
func (r *adminRoom) Sections() []web.Section {
	return []web.Section{
		r.nowSection(),
		r.parkedSection(),
		r.peopleSection(),
		r.cardsSection(),
		r.todaySection(),
		r.plotsSection(),
		r.exportSection(),
		r.checkSection(),
		r.pinSection(),
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
