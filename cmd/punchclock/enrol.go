package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"punchclock/device"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/ui"
	"punchclock/ui/kiosk"
	"punchclock/ui/web"
)

// enroller gives cards to people at the door. Somebody opens it for one person: a
// technician by a verb, HR on the admin page, or whoever has a master card and its PIN:
// tap the master card, type the employee number and that PIN, tap the new card. The next
// card at the reader is then the person's, and no punch; the door says so. It is open for
// one card and closes by itself.
//
// hear takes every event on its way to the conversation, and never waits: what takes
// time is done by run, and what the person is to be told goes the way of a reader's word.
type enroller struct {
	a    *archive
	log  *slog.Logger
	pins *pinGuard // of master PINs, under a number that no employee can have

	jobs chan enrolJob // one at a time

	mu     sync.Mutex
	open   *enrolment
	master punch.Badge // tapped, its PIN comes next; "" for none
	until  time.Time   // of master
	busy   bool        // a job is on its way or at work
	giving *enrolment  // whose card that job is about, nil for a master card's PIN
	over   bool        // run has ended
}

// enrolment is one that is open.
type enrolment struct {
	employee string
	reader   string // "" for any
	move     bool   // a card that is somebody else's is taken from there
	by       string
	until    time.Time
	done     chan enrolled // has room
}

// enrolled is what came of it.
type enrolled struct {
	given
	err error
}

// enrolJob is a card that was tapped while it was open, or a number and a master PIN.
type enrolJob struct {
	reader string
	at     time.Time
	card   punch.Badge
	open   *enrolment

	master punch.Badge
	number string
	pin    string
}

const (
	masterName = "master card" // its number at the guard
	masterFor  = time.Minute   // from a master card to its PIN, and from that to the card
	enrolMost  = 10 * time.Minute
)

var (
	errEnrolling = errors.New("somebody else is giving out a card; wait for that, or end it")
	errEnrolOver = errors.New("the clock is stopping; nothing was changed")
	errEnrolLate = errors.New("no card came; open it again, and tap the card within the time")
)

func newEnroller(a *archive, pins *pinGuard, log *slog.Logger) *enroller {
	return &enroller{a: a, pins: pins, log: log, jobs: make(chan enrolJob, 1)}
}

// begin opens enrolment for a person.
//
// ours is that it is asked for by the job that is at work.
func (e *enroller) begin(employee, reader string, move bool, by string, wait time.Duration, ours bool) (*enrolment, error) {
	if p, ok := e.a.roster.ByNumber(employee); !ok || !p.Active {
		return nil, fmt.Errorf("employee %s: %w", employee, roster.ErrNobody)
	}
	o := &enrolment{employee: employee, reader: reader, move: move, by: by, until: time.Now().Add(wait), done: make(chan enrolled, 1)}
	e.mu.Lock()
	if e.busy && !ours || e.open != nil && time.Now().Before(e.open.until) {
		e.mu.Unlock()
		return nil, errEnrolling
	}
	e.open = o
	e.mu.Unlock()
	if err := e.a.audit("", employee, punch.Audit{Act: punch.ActOpen, By: by}); err != nil {
		e.end(o)
		return nil, err
	}
	return o, nil
}

// end closes it, unless a card is being given at this moment; then that is what ends it.
func (e *enroller) end(o *enrolment) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == o {
		e.open = nil
	}
}

// tap waits for the card that is to be an employee's.
func (e *enroller) tap(ctx context.Context, employee, reader string, move bool, by string, wait time.Duration) (given, error) {
	o, err := e.begin(employee, reader, move, by, wait, false)
	if err != nil {
		return given{}, err
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case out := <-o.done:
		return out.given, out.err
	case <-ctx.Done():
	case <-late.C:
	}
	e.end(o)
	e.mu.Lock()
	giving := e.giving == o
	e.mu.Unlock()
	if giving { // tapped in the last moment: somebody must hear of it
		out := <-o.done
		return out.given, out.err
	}
	select {
	case out := <-o.done:
		return out.given, out.err
	default:
		return given{}, errEnrolLate
	}
}

// hear takes every event on its way to the conversation.
func (e *enroller) hear(ev device.Event) device.Event {
	switch ev.What {
	case device.Card:
		b, err := punch.NewBadge(ev.Medium, ev.Value)
		if err != nil {
			return ev // the conversation complains of the reader
		}
		return e.card(ev, b)
	case device.Entry:
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.master == "" || time.Now().After(e.until) {
			return ev
		}
		if !e.start(enrolJob{reader: ev.Reader, at: ev.Last, master: e.master, number: ev.Number, pin: string(ev.PIN)}) {
			return told(ev.Reader, device.FaultEnrolNo, ev.Last)
		}
		e.master = ""
		return sign(ev)
	}
	return ev
}

func (e *enroller) card(ev device.Event, b punch.Badge) device.Event {
	master := e.a.roster.Master(b) && !e.a.roster.Blocked(b)
	e.mu.Lock()
	defer e.mu.Unlock()
	if master {
		e.open = nil // whoever waits for a card waits in vain: the time runs out
		e.master, e.until = b, time.Now().Add(masterFor)
		return told(ev.Reader, device.FaultEnrolPIN, ev.Last)
	}
	o := e.open
	if o == nil || o.reader != "" && o.reader != ev.Reader {
		return ev
	}
	if time.Now().After(o.until) {
		e.open = nil
		return ev
	}
	if !e.start(enrolJob{reader: ev.Reader, at: ev.Last, card: b, open: o}) {
		return ev
	}
	e.open = nil
	return sign(ev)
}

// start hands a job to run; the caller holds mu.
func (e *enroller) start(j enrolJob) bool {
	if e.busy || e.over {
		return false
	}
	e.busy, e.giving = true, j.open
	e.jobs <- j // has room: there is one at a time
	return true
}

// told is what a reader would say to the person.
func told(reader, fault string, at time.Time) device.Event {
	return device.Event{Reader: reader, What: device.Fault, Fault: fault, Try: true, Last: at}
}

// sign is a sign of life of the reader whose event was taken.
func sign(ev device.Event) device.Event { return device.Event{Reader: ev.Reader, Last: ev.Last} }

// run does what was asked for until ctx is done, and says to out what came of it.
func (e *enroller) run(ctx context.Context, out chan<- device.Event) error {
	for {
		select {
		case <-ctx.Done():
			e.mu.Lock()
			defer e.mu.Unlock()
			e.over = true
			select {
			case j := <-e.jobs:
				if j.open != nil {
					j.open.done <- enrolled{err: errEnrolOver}
				}
			default:
			}
			return nil
		case j := <-e.jobs:
			fault := e.work(j)
			e.mu.Lock()
			e.busy, e.giving = false, nil
			e.mu.Unlock()
			select {
			case out <- told(j.reader, fault, j.at):
			case <-ctx.Done():
			}
		}
	}
}

func (e *enroller) work(j enrolJob) (fault string) {
	if j.open == nil {
		return e.opened(j.master, j.number, j.pin, true)
	}
	o := j.open
	out, err := e.a.giveCard(j.card, o.employee, o.move, o.by)
	o.done <- enrolled{out, err}
	switch {
	case err != nil && out.Changed: // given, and not noted yet: the card opens the door all the same
		e.log.Warn("a card was given", "employee", o.employee, "card", j.card, "err", err)
		return device.FaultEnrolled
	case err != nil:
		e.log.Warn("a card was not given", "employee", o.employee, "card", j.card, "err", err)
		return device.FaultEnrolNo
	}
	e.log.Info("a card was given", "employee", o.employee, "card", j.card)
	return device.FaultEnrolled
}

// opened opens enrolment for whoever has a master card and knows its PIN.
func (e *enroller) opened(master punch.Badge, number, pin string, ours bool) (fault string) {
	wait, err := e.pins.take(masterName)
	switch {
	case err != nil:
		e.log.Error("a PIN could not be looked at", "err", err)
		return device.FaultTries
	case wait > 0:
		return device.FaultTries
	case !e.a.roster.CheckMaster(master, pin):
		return device.FaultPIN
	}
	e.pins.right(masterName)
	if _, err := e.begin(number, "", false, "master card "+master.Masked(), masterFor, ours); err != nil {
		e.log.Warn("enrolment was not opened", "err", err)
		return device.FaultEnrolNo
	}
	return device.FaultEnrolCard
}

// page is what a number and a PIN on the page come to while a master card waits for its
// PIN; ok is false where none does.
func (e *enroller) page(number, pin string, now time.Time) (r ui.Result, err error, ok bool) {
	if e == nil { // no clock is running
		return r, nil, false
	}
	e.mu.Lock()
	master := e.master
	if master == "" || time.Now().After(e.until) || e.busy {
		e.mu.Unlock()
		return r, nil, false
	}
	e.master = ""
	e.mu.Unlock()
	switch fault := e.opened(master, number, pin, false); fault {
	case device.FaultPIN:
		return r, web.ErrWrongPIN, true
	case device.FaultTries:
		return r, &web.TooManyTries{Wait: time.Minute}, true
	default:
		return kiosk.Enrolling(fault, now, e.a.stamp().Clock), nil, true
	}
}
