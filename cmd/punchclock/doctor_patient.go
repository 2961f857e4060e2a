package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
)

// patient is one clock: a machine, a configuration, and the daemon or its files.
type patient struct {
	*machine
	path string // of the configuration

	cfg    *config // nil where it is wrong
	cfgErr error

	unit     string // text of the installed unit with what was added to it, "" for none
	unitPath string

	heard
}

// heard is what the daemon says, or the files where none runs.
type heard struct {
	daemonErr error   // errNoDaemon where none runs; nil where one answers
	running   *status // nil where none answers

	outboxErr error     // of the files; fs.ErrNotExist before the first start
	rosterErr error     // the same
	holds     *holdings // nil where nobody could say
	holdsErr  error

	// walk asks for a walk along the chain, see GET /verify; nil where nobody can be
	// asked. done ends it.
	walk func(ctx context.Context) (body io.ReadCloser, done func(), err error)
}

const (
	askLimit  = 5 * time.Second  // for the daemon
	openLimit = 15 * time.Second // for files of years on a slow card
)

// ask reads the configuration and asks the daemon, or looks at the files, once for
// all checks. Nothing stays open: a clock that starts while doctor still waits for a
// far side finds its files free.
func (p *patient) ask(ctx context.Context) {
	p.findUnit()
	if p.cfg, p.cfgErr = loadConfig(p.path, built()); p.cfgErr != nil {
		p.cfg = nil
		return
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	answer := make(chan heard, 1)
	go func() { answer <- listenTo(ctx, p.cfg) }() // a medium that does not answer must not keep us
	select {
	case p.heard = <-answer:
	case <-ctx.Done():
		err := fmt.Errorf("no answer from %s within %v", p.cfg.Device.StateDir, openLimit)
		p.heard = heard{daemonErr: err, outboxErr: err, rosterErr: err, holdsErr: err}
	}
}

func listenTo(ctx context.Context, cfg *config) (h heard) {
	var cl *controlClient
	if cl, h.daemonErr = dialControl(cfg); h.daemonErr == nil {
		short, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		var s status
		if h.daemonErr = cl.getJSON(short, "/status", &s); h.daemonErr != nil {
			return h
		}
		h.running = &s
		h.walk = func(ctx context.Context) (io.ReadCloser, func(), error) {
			body, err := cl.do(ctx, "GET", "/verify", nil, nil)
			return body, func() {}, err
		}
	} else if errors.Is(h.daemonErr, errNoDaemon) {
		cl, h.outboxErr, h.rosterErr = openFiles(cfg)
		defer cl.close()
		if h.outboxErr == nil {
			h.walk = func(ctx context.Context) (io.ReadCloser, func(), error) {
				cl, err, _ := openFiles(cfg)
				if err != nil {
					cl.close()
					return nil, nil, err
				}
				body, err := cl.do(ctx, "GET", "/verify", nil, nil)
				return body, cl.close, err
			}
		}
	} else {
		return h
	}
	var holds holdings
	if h.holdsErr = cl.getJSON(ctx, "/doctor", &holds); h.holdsErr == nil {
		h.holds = &holds
	}
	return h
}

// openFiles opens outbox and roster for reading, each for itself: one that is damaged
// says nothing of the other.
func openFiles(cfg *config) (cl *controlClient, outboxErr, rosterErr error) {
	a := &archive{cfg: cfg, kick: func(string) {}}
	people := &directory{}
	a.outbox, outboxErr = queue.Open(queue.Options{Dir: outboxDir(cfg), Device: cfg.Device.ID, ReadOnly: true, Who: people.who})
	a.roster, rosterErr = roster.Open(filepath.Join(cfg.Device.StateDir, "roster.db"), roster.Options{ReadOnly: true, Cards: cfg.cards()})
	if a.roster != nil {
		people.set(a.roster)
	}
	return &controlClient{http: &http.Client{Transport: inMemory{a.routes()}}, close: func() {
		if a.roster != nil {
			a.roster.Close()
		}
		if a.outbox != nil {
			a.outbox.Close()
		}
	}}, outboxErr, rosterErr
}

// alone reports whether it is certain that no clock runs on the state directory.
func (p *patient) alone() bool {
	return errors.Is(p.daemonErr, errNoDaemon) && !errors.Is(p.outboxErr, queue.ErrInUse)
}

// unitFolders are where a unit may lie; the first one that has it counts.
var unitFolders = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

const unitName = "punchclock.service"

// findUnit reads the installed unit and what was added to it.
func (p *patient) findUnit() {
	for _, dir := range unitFolders {
		text, found := p.read(filepath.Join(dir, unitName))
		if !found {
			continue
		}
		p.unit, p.unitPath = text, p.machine.path(filepath.Join(dir, unitName))
		break
	}
	if p.unit == "" {
		return
	}
	for _, dir := range unitFolders {
		for _, file := range p.glob(filepath.Join(dir, unitName+".d", "*.conf")) {
			text, _ := p.read(file)
			p.unit += "\n" + text
		}
	}
}

// unitValues returns what the unit sets a key to, each time it does.
func (p *patient) unitValues(key string) (values []string) {
	for line := range strings.Lines(p.unit) {
		if v, is := strings.CutPrefix(strings.TrimSpace(line), key+"="); is {
			values = append(values, v)
		}
	}
	return values
}

// user is whose program the clock is: whom the unit names, or else the state
// directory's owner. Groups that the unit adds are among his.
func (p *patient) user() login {
	who := p.account(p.uid)
	if n, err := p.node(p.cfg.Device.StateDir); err == nil {
		who = p.account(n.uid)
	}
	if names := p.unitValues("User"); len(names) > 0 {
		if named, known := p.named(names[len(names)-1]); known {
			who = named
		}
	}
	for _, v := range p.unitValues("SupplementaryGroups") {
		who.more = append(who.more, strings.Fields(v)...)
	}
	return who
}

// The secrets' places, beside those that the program itself looks at: where systemd
// takes them from, and where it has put them for the running clock.
var credentialFolders = []string{"/etc/credstore", "/run/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore"}

// secretPlace is where a secret lies.
type secretPlace struct {
	path   string
	handed bool // systemd has to hand it over
	sealed bool // only systemd can open it
	closed bool // it may lie where this account may not look
	stale  bool // another one was written since the clock was handed its copy
}

// remedy is where to write a right one, and what makes it count.
func (f secretPlace) remedy(name string) string {
	if f.handed {
		return "write the right one into /etc/credstore/" + name + ", then: systemctl restart punchclock"
	}
	return "write the right one into " + f.path + "; no restart is needed"
}

// secret finds the file of a secret as the clock sees it.
func (p *patient) secret(name string) secretPlace { return p.secretOf(unitName, name) }

func (p *patient) secretOf(unit, name string) (f secretPlace) {
	f.path = p.cfg.secretPath(name)
	if _, err := os.Stat(f.path); err == nil || !errors.Is(err, fs.ErrNotExist) || filepath.IsAbs(name) {
		return f
	}
	copied := p.machine.path(filepath.Join("/run/credentials", unit, name))
	_, err := p.node(copied)
	running := err == nil
	f.closed = errors.Is(err, fs.ErrPermission)
	for _, dir := range credentialFolders {
		for _, ending := range []string{"", ".encrypted"} {
			path := p.machine.path(filepath.Join(dir+ending, name))
			switch _, err := p.node(path); {
			case err == nil && running:
				return secretPlace{path: copied, handed: true, stale: ending == "" && !sameBytes(path, copied)}
			case err == nil:
				return secretPlace{path: path, handed: true, sealed: ending != ""}
			case errors.Is(err, fs.ErrPermission):
				f.closed = true
			}
		}
	}
	if running {
		return secretPlace{path: copied, handed: true}
	}
	return f
}

// sameBytes reports whether two small files hold the same; those that cannot be read do.
func sameBytes(a, b string) bool {
	one, err := os.ReadFile(a)
	two, err2 := os.ReadFile(b)
	return err != nil || err2 != nil || bytes.Equal(one, two)
}

// holdings is what the outbox and the roster have to tell doctor: numbers only.
type holdings struct {
	Punches  uint64     `json:"punches"`
	Bytes    int64      `json:"bytes"`
	PerDay   float64    `json:"per_day"`   // over Days; 0 while there is nothing to go by
	OverDays float64    `json:"over_days"` // how long PerDay was looked at
	Roster   *headcount `json:"roster,omitempty"`

	Destinations map[string]waits `json:"destinations"`
}

// waits is what a destination still has to get.
type waits struct {
	Pending       uint64  `json:"pending"`
	Parked        int     `json:"parked"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

type headcount struct {
	roster.Counts
	Changed time.Time `json:"changed"` // when the file was last written
}

const (
	rateTail = 5000 // punches that the rate is taken from
	rateDays = 28
)

// serveDoctor answers for the daemon, or for the files.
func (a *archive) serveDoctor(w http.ResponseWriter, r *http.Request) {
	h := holdings{Destinations: map[string]waits{}}
	if a.outbox != nil {
		s := a.outbox.Stats()
		h.Punches, h.Bytes = s.LastSeq, s.Bytes
		for name, d := range s.Destinations {
			h.Destinations[name] = waits{d.Pending, d.Parked, d.Oldest.Seconds()}
		}
		tail, err := a.outbox.Tail(rateTail)
		if err != nil {
			refuse(w, http.StatusInternalServerError, fmt.Errorf("read the last punches: %w", err))
			return
		}
		h.PerDay, h.OverDays = rate(tail, time.Now())
	}
	if a.roster != nil {
		h.Roster = &headcount{Counts: a.roster.Counts()}
		if st, err := os.Stat(filepath.Join(a.cfg.Device.StateDir, "roster.db")); err == nil {
			h.Roster.Changed = st.ModTime()
		}
	}
	writeJSON(w, h)
}

// rate is how many punches a day there were lately, and over how many days that is.
func rate(tail []punch.Punch, now time.Time) (perDay, days float64) {
	since := now.AddDate(0, 0, -rateDays)
	n := 0
	var first time.Time
	for i := range tail {
		at := tail[i].Time()
		if at.Before(since) || at.After(now) {
			continue
		}
		if n++; first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if n == 0 {
		return 0, 0
	}
	days = max(1, now.Sub(first).Hours()/24)
	return float64(n) / days, days
}
