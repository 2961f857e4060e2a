package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"punchclock/sync/drain"
	"punchclock/ui/lcd"
	"punchclock/ui/screen"
	"punchclock/ui/text"
	"punchclock/ui/web"
)

// newDoorScreen builds the screen that is drawn without a browser, nil where there is
// none. face may be nil: the screen has no QR code then.
func (h *clockwork) newDoorScreen(face *web.Server) (*screen.Face, error) {
	s := h.cfg.Screen
	if s.Device == "" {
		return nil, nil
	}
	c := screen.Config{Device: s.Device, Turn: s.Turn, Name: h.cfg.Device.Name, Language: h.cfg.Kiosk.Language, Location: h.cfg.Device.Timezone,
		Backend: doorBackend{backend{h}}, Status: h.doorStatus, Rows: h.doorRows, Drawn: h.metrics.drawn, Logger: h.log}
	if h.portraits.on {
		c.Portrait = h.portraitDots
	}
	if s.Device == "auto" {
		c.Device = ""
	}
	c.Night.From, c.Night.To = h.cfg.Kiosk.Night[0], h.cfg.Kiosk.Night[1]
	if face != nil {
		c.Code = func() string { return face.Code(context.Background()) }
	}
	c.Dots = coarseDots(h.log)
	return screen.New(c)
}

// coarseDots finds pictures of characters that no outline is there for. They are read
// when the first such character comes.
func coarseDots(log *slog.Logger) func(rune) ([]byte, int, bool) {
	find := sync.OnceValue(func() func(rune) ([]byte, int, bool) {
		find, err := lcd.Dots()
		if err != nil {
			log.Error("some characters of names are boxes on the screen", "err", err)
			return func(rune) ([]byte, int, bool) { return nil, 0, false }
		}
		return find
	})
	return func(r rune) ([]byte, int, bool) { return find()(r) }
}

// show draws the last receipt on a display, until ctx is done.
func (p *provisioner) show(ctx context.Context, display string, log *slog.Logger) error {
	c := screen.Config{Language: "zh-TW", Dots: coarseDots(log), Logger: log, Sign: func() *screen.Sign { return p.outcome().sign() }}
	if display != "auto" {
		c.Device = display
	}
	face, err := screen.New(c)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	return face.Run(ctx)
}

// doorBackend answers fingers on the screen as backend answers the page.
type doorBackend struct{ backend }

func (b doorBackend) PIN(ctx context.Context, number, pin string) (refused bool, wait time.Duration, err error) {
	_, err = b.backend.PIN(ctx, number, pin)
	var tries *web.TooManyTries
	switch {
	case errors.Is(err, web.ErrWrongPIN):
		return true, 0, nil
	case errors.As(err, &tries):
		return false, tries.Wait, nil
	}
	return false, 0, err
}

func (b doorBackend) Correct(ctx context.Context, id, kind string) (late bool, err error) {
	_, err = b.backend.Correct(ctx, id, kind)
	if errors.Is(err, web.ErrNotCorrectable) {
		return true, nil
	}
	return false, err
}

// doorStatus is the line at the foot of the screen: the destination that is furthest
// behind tells how many punches have not arrived everywhere, or wait for a person.
func (h *clockwork) doorStatus() screen.Status {
	b := h.outbox.Stats()
	s := screen.Status{Ready: h.lastReady() == nil, Destinations: len(h.workers), Mended: h.outbox.Incident() != "", SpaceLow: b.Free < b.Total/5}
	away := 0
	for _, w := range h.workers {
		d := b.Destinations[w.cfg().Name]
		s.Pending, s.Oldest = max(s.Pending, int(d.Pending)), max(s.Oldest, d.Oldest)
		s.Parked = max(s.Parked, d.Parked)
		state := w.status().State
		switch state {
		case drain.OK:
			continue
		case drain.Retrying:
			away++
		default:
			s.Stuck = true
		}
		if s.Unwell != "" {
			s.Unwell += " · "
		}
		s.Unwell += w.cfg().Name + " " + text.For(h.cfg.Kiosk.Language).Destination(state)
	}
	s.Offline = away > 0 && away == len(h.workers)
	if h.card != nil {
		s.Card = h.card.headIn(h.cfg.Kiosk.Language)
	}
	return s
}

// doorRows is the state for a technician who stands at the screen.
func (h *clockwork) doorRows() []screen.Row {
	c, s := text.For(h.cfg.Kiosk.Language), h.status()
	mark := func(fine, waits bool) string {
		switch {
		case fine:
			return "ok"
		case waits:
			return "wait"
		}
		return "stuck"
	}
	store := screen.Row{Mark: mark(s.Outbox.Ready && s.Outbox.Incident == "" && !s.Outbox.LowSpace, false), Name: c.Say(text.StatusStorage), State: c.Say(text.StatusReady)}
	switch {
	case !s.Outbox.Ready:
		store.State, store.Note = c.Say(text.NotReady), s.Outbox.Problem
	case s.Outbox.Incident != "":
		store.State, store.Note = c.Say(text.Mended), s.Outbox.Incident
	case s.Outbox.LowSpace:
		store.State = c.Say(text.SpaceLow)
	}
	rows := []screen.Row{}
	if h.card != nil {
		rows = append(rows, screen.Row{Mark: "stuck", Name: "punchclock.toml", State: h.card.headIn(h.cfg.Kiosk.Language), Note: h.card.noteIn(h.cfg.Kiosk.Language)})
	}
	rows = append(rows, screen.Row{Mark: mark(s.Clock.State == "synced", true), Name: c.Say(text.StatusClock), State: c.Clock(s.Clock.State)}, store)
	for _, d := range s.Destinations {
		row := screen.Row{Mark: mark(d.State == drain.OK && d.Parked == 0, d.State == drain.Retrying && d.Parked == 0), Name: d.Name, State: c.Destination(d.State),
			Note: c.Pending(int(d.Pending), time.Duration(d.OldestUnsentSeconds*float64(time.Second)))}
		if d.Parked > 0 {
			row.Note += " · " + c.Parked(d.Parked)
		}
		rows = append(rows, row)
	}
	for _, r := range s.Readers {
		rows = append(rows, screen.Row{Mark: mark(r.State == "ok", false), Name: r.Name, State: c.Reader(r.State)})
	}
	return rows
}
