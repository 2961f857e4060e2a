package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"punchclock/device/clock"
	"punchclock/queue/punch"
)

// pulse is how a clock fares, as it says itself.
type pulse struct {
	Version      string            `json:"version"`
	Uptime       time.Duration     `json:"uptime"`
	Ready        bool              `json:"ready"` // a punch could be stored
	Problem      string            `json:"problem,omitempty"`
	LastSeq      uint64            `json:"last_seq"`
	Delivers     bool              `json:"delivers"`  // there is somewhere to deliver to
	Delivered    bool              `json:"delivered"` // something, since its start
	Readers      map[string]string `json:"readers,omitempty"`
	Destinations map[string]string `json:"destinations,omitempty"`
}

// takePulse asks the running clock.
func (t *tool) takePulse(ctx context.Context) (p pulse, err error) {
	cfg, err := loadConfig(t.configPath, built())
	if err != nil {
		return p, err
	}
	cl, err := dialControl(cfg)
	if err != nil {
		return p, err
	}
	defer cl.close()
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var s status
	if err := cl.getJSON(ctx, "/status", &s); err != nil {
		return p, err
	}
	p = pulse{Version: s.Device.Version, Uptime: time.Duration(s.Device.UptimeSeconds * float64(time.Second)), Ready: s.Outbox.Ready, Problem: s.Outbox.Problem,
		LastSeq: s.Outbox.LastSeq, Readers: map[string]string{}, Destinations: map[string]string{}}
	for _, d := range cfg.Destinations {
		p.Delivers = p.Delivers || d.secretWanted() // the others are off
	}
	for _, d := range s.Destinations {
		p.Destinations[d.Name] = d.State
		p.Delivered = p.Delivered || d.LastSuccess != ""
	}
	for _, r := range s.Readers {
		p.Readers[r.Name] = r.State
	}
	return p, nil
}

func bootText() (string, error) {
	id, err := clock.Boot()
	return punch.BootIDString(id), err
}

// What a trial may take.
const (
	trialEvery     = 10 * time.Second
	trialHealthy   = 10 * time.Minute // without a break, to be good
	trialStart     = 3 * time.Minute  // to answer for the first time: a slow card may take two
	trialSick      = 3 * time.Minute  // without a healthy moment, to go back
	trialSettle    = time.Hour        // in which the ten minutes must have been had
	trialUnsent    = 2 * time.Hour    // from a punch that was stored until one is delivered
	trialExcused   = 3                // times that none was in which it is the version's fault and not the line's
	trialBoots     = 5                // restarts of the machine, since it was last well for ten minutes
	trialRestarts  = 3                // of the clock by itself
	trialBackAgain = time.Minute      // between tries to go back
)

// resume carries on what was begun until it has ended, one way or the other, or ctx
// is done; nothing begun is nothing to do. It waits as long as a trial takes, which
// is until the next tap at least.
func (g *gate) resume(ctx context.Context) error {
	st, err := g.load()
	if err != nil {
		return err
	}
	if st.Phase != "" && st.Boot != g.boot {
		st.Boots++
		phase := st.Phase
		if phase != phaseBack {
			running, err := g.in.Running(ctx)
			switch {
			case err != nil:
				return err
			case running == st.To && phase != phaseProven: // the machine's start was its start; it is not installed again, over the one to go back to
				phase = phaseTrial
			case running == st.From && phase == phaseProven: // it proved itself in its last try, and the power went before it got others
				phase = phaseInstalling
			case running == st.From && phase != phaseInstalling: // a machine with slots goes back on its own where the new one does not start
				phase, st.Why = phaseBack, fmt.Sprintf("the machine started with %s again: %s did not come up", st.From, st.To)
			}
		}
		if err := g.save(&st, phase); err != nil {
			return err
		}
	}
	for st.Phase != "" {
		if err := g.step(ctx, &st); err != nil {
			return err
		}
	}
	// The judge is not needed any more, and its unit not started at the next boot.
	if err := os.Remove(filepath.Join(g.dir, guardName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// step does one phase. An error means that the phase holds and is done once more by
// the next resume.
func (g *gate) step(ctx context.Context, st *updateState) error {
	back := func(why string) error {
		st.Why = why
		g.log.Error("the update is taken back", "from", st.To, "to", st.From, "err", why)
		return g.save(st, phaseBack)
	}
	switch st.Phase {
	case phaseInstalling:
		if err := g.in.Install(ctx, st.To); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			return back(fmt.Sprintf("it could not be installed: %v", err))
		}
		return g.save(st, phaseStarting)
	case phaseStarting:
		if err := g.in.Start(ctx, st.To); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			return back(fmt.Sprintf("it could not be started: %v", err))
		}
		return g.save(st, phaseTrial)
	case phaseTrial:
		why, err := g.watch(ctx, st)
		switch {
		case err != nil:
			return err
		case why != "":
			return back(why)
		}
		return g.save(st, phaseProven)
	case phaseProven:
		if err := g.in.Good(ctx, st.To); err != nil {
			return fmt.Errorf("%s has proven itself and could not be made the one that stays: %w; try again with: punchclock update resume", st.To, err)
		}
		st.Last = &updateResult{st.From, st.To, "good", "", updateTime(), 0}
		st.Before = pulse{}
		delete(st.Failed, st.To)
		return g.save(st, "")
	case phaseBack:
		if err := g.goBack(ctx, st); err != nil {
			return err
		}
		unsent := 0
		if st.Unsent {
			unsent = 1
			if l := st.Last; l != nil && l.To == st.To {
				unsent += l.Unsent
			}
		}
		st.Last = &updateResult{st.From, st.To, "went-back", st.Why, updateTime(), unsent}
		if !st.Last.excused() {
			if st.Failed == nil {
				st.Failed = map[string]string{}
			}
			st.Failed[st.To] = st.Why
		}
		st.Before = pulse{}
		return g.save(st, "")
	}
	return fmt.Errorf("%s: phase %q is not known; a newer punchclock wrote it: install that one again", g.path(), st.Phase)
}

// goBack tries until the version before is there: there is nothing better to do.
func (g *gate) goBack(ctx context.Context, st *updateState) error {
	for said := ""; ; {
		err := g.in.Back(ctx, st.From)
		if err == nil {
			var running string
			if running, err = g.in.Running(ctx); err == nil && running == st.From {
				return nil
			}
			err = errors.Join(err, fmt.Errorf("%q is there instead of %s", running, st.From))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err.Error() != said {
			said = err.Error()
			g.log.Error("going back did not work, it is tried again every minute", "to", st.From, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(trialBackAgain):
		}
	}
}

// watch judges the version that is on trial. why is "" where it is good, and otherwise
// says what it was weighed by and found wanting.
func (g *gate) watch(ctx context.Context, st *updateState) (why string, err error) {
	if st.Boots > trialBoots {
		return fmt.Sprintf("the machine was started %d times before the new version had proven itself", st.Boots), nil
	}
	begin := time.Now()
	lastWell := begin
	var healthySince time.Time // zero while it is not
	var stored time.Time       // when a punch of the new version was first seen
	var first, last pulse
	settled, held, seen, restarts, sick := false, false, false, 0, ""
	for {
		p, err := g.pulse(ctx)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		now := time.Now()
		restarted := err == nil && seen && p.Uptime < last.Uptime
		if restarted {
			restarts++
		}
		if problem := ailment(st, p, err); problem != "" {
			if problem != sick {
				sick = problem
				g.log.Warn("the version on trial is not well", "version", st.To, "err", problem)
			}
			healthySince = time.Time{}
		} else {
			if !seen {
				first, seen = p, true
			}
			if healthySince.IsZero() || restarted {
				healthySince = now
			}
			sick, lastWell = "", now
			if stored.IsZero() && p.LastSeq > first.LastSeq {
				stored = now
			}
		}
		if err == nil {
			last = p
		}
		enough := !healthySince.IsZero() && now.Sub(healthySince) >= trialHealthy
		settled = settled || enough
		patience := trialSick
		if !seen {
			patience = trialStart
		}
		switch {
		case enough && !stored.IsZero() && (last.Delivered || !last.Delivers):
			return "", nil
		case enough && !held: // and nobody has tapped yet
			if err := g.hold(ctx, st); err != nil {
				return "", err
			}
			held = true
		case now.Sub(lastWell) >= patience:
			return fmt.Sprintf("not well for %v: %s", patience, sick), nil
		case restarts > trialRestarts:
			return fmt.Sprintf("it was started anew %d times", restarts), nil
		case !settled && now.Sub(begin) >= trialSettle:
			return fmt.Sprintf("not well for ten minutes on end within %v", trialSettle), nil
		case !stored.IsZero() && last.Delivers && !last.Delivered && now.Sub(stored) >= trialUnsent:
			st.Unsent = true
			return fmt.Sprintf("it has stored punches and delivered none within %v", trialUnsent), nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(trialEvery):
		}
	}
}

// hold makes up for the boots there were: U-Boot's count and ours are of starts that came
// to nothing, and not of nights without power.
func (g *gate) hold(ctx context.Context, st *updateState) error {
	if err := g.in.Hold(ctx, st.To); err != nil {
		return fmt.Errorf("give %s its tries back: %w", st.To, err)
	}
	st.Boots = 0
	return g.save(st, phaseTrial)
}

// ailment says what is wrong with the version on trial, compared with the one before;
// "" for nothing. A network that is away is no fault of either.
func ailment(st *updateState, p pulse, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("it does not answer: %v", err)
	case p.Version != st.To:
		return fmt.Sprintf("version %s runs", p.Version)
	case !p.Ready:
		return "no punch can be stored: " + p.Problem
	case p.LastSeq < st.Before.LastSeq:
		return fmt.Sprintf("its outbox ends with punch %d, and held %d", p.LastSeq, st.Before.LastSeq)
	}
	for name, was := range st.Before.Readers {
		if is := p.Readers[name]; was == "ok" && is != "ok" {
			return fmt.Sprintf("reader %s worked and is %s now", name, dash(is))
		}
	}
	for name, was := range st.Before.Destinations {
		if is := p.Destinations[name]; was == "ok" && is != "ok" && is != "retrying" {
			return fmt.Sprintf("destination %s worked and is %s now", name, dash(is))
		}
	}
	return ""
}
