package kiosk

import (
	"bytes"
	"context"
	"crypto/rand"
	"sync"
	"time"

	"punchclock/device"
	"punchclock/queue/punch"
	"punchclock/ui"
)

type choiceRequest struct {
	kind punch.Kind
	done chan struct{}
}

type pinRequest struct {
	who   person
	badge punch.Badge
	at    time.Time
	reply chan ui.Result // room for one
}

type fixRequest struct {
	id    punch.ID
	kind  punch.Kind
	at    time.Time
	reply chan ui.Result // room for one; closed when there is nothing to correct
}

// origin is what a tap's answer needs that its decision does not.
type origin struct {
	last  time.Time        // last byte or edge
	reply chan<- ui.Result // nil for a card
}

// inLine is a tap that has its place among the punches, and waits to be stored.
type inLine struct {
	id     punch.Tap
	stored func() (punch.Punch, error)
}

// run is one Run: the state's surroundings.
type run struct {
	*Kiosk
	origins  map[punch.Tap]origin
	appended chan event
	line     chan inLine // what an Enqueuer was handed, in order
	latest   punch.Stamp // of the tap or choice before
	results  *queue
	screens  []mailbox[ui.Screen]
	cues     []mailbox[ui.Cue]
	recalls  mailbox[actRecall]
	recalled chan event
	checked  chan event
}

// Run takes the readers' events from in, and choices and numbers from the page,
// until ctx is done. Then it takes what is already in the channel's buffer, waits
// until each tap is appended and answered, and returns nil; stop the readers before.
// It waits two seconds at most for displays, sounders and the taker of results to
// finish; whichever hangs is left behind and named in the log. A closed in is a reader
// that has nothing more to say. Call Run once.
//
// While 256 taps wait for a medium that does not answer, in is not read, so that the
// readers wait too and no tap is thrown away.
func (k *Kiosk) Run(ctx context.Context, in <-chan device.Event) error {
	r := &run{Kiosk: k, origins: map[punch.Tap]origin{}, appended: make(chan event), line: make(chan inLine, maxAppends), results: newQueue(), recalled: make(chan event), checked: make(chan event)}
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	settled := r.open(reading)
	r.feed(event{what: evTick, at: k.parts.Clock.Now()})

	timer := time.NewTimer(k.state.wake(k.parts.Clock.Now()))
	defer timer.Stop()
	for ctx.Err() == nil {
		cards, pins, fixes := in, k.pins, k.fixes
		if len(k.state.taps)+len(k.state.entries) >= maxTaps {
			cards, pins, fixes = nil, nil, nil
		}
		select {
		case <-ctx.Done():
		case ev, ok := <-cards:
			if ok {
				r.device(ev)
			} else {
				in = nil
			}
		case p := <-pins:
			r.pin(p)
		case f := <-fixes:
			r.fix(f)
		case c := <-k.choices:
			now, then := r.stamp(time.Now())
			r.feed(event{what: evChoose, at: now, stamp: then, kind: c.kind})
			close(c.done)
		case e := <-r.appended:
			r.done(e)
		case e := <-r.checked:
			r.entered(e)
		case e := <-r.recalled:
			e.at = k.parts.Clock.Now()
			r.feed(e)
		case <-timer.C:
			r.feed(event{what: evTick, at: k.parts.Clock.Now()})
		}
		timer.Reset(k.state.wake(k.parts.Clock.Now()))
	}

	close(k.stopping)
	for more := true; more; {
		select {
		case ev, ok := <-in:
			if more = ok; ok {
				r.device(ev)
			}
		default:
			more = false
		}
	}
	for len(k.state.taps)+len(k.state.entries) > 0 {
		select {
		case e := <-r.appended:
			r.done(e)
		case e := <-r.checked:
			r.entered(e)
		}
	}
	r.close()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-settled:
	case <-grace.C:
		k.log.Warn("a display, a sounder or the taker of results did not finish in time and is left behind", "waited", stopGrace)
	}
	return nil
}

// open starts a goroutine for each that shows, and returns a channel that is closed
// when all of them have ended.
func (r *run) open(ctx context.Context) <-chan struct{} {
	var wg sync.WaitGroup
	if r.parts.History != nil {
		r.recalls = newMailbox[actRecall]()
		wg.Go(func() { r.recalls.run(func(a actRecall) { r.recall(ctx, a) }) })
	}
	if take := r.parts.Results; take != nil {
		wg.Go(func() { r.results.run(take) })
	}
	for _, d := range r.parts.Displays {
		box := newMailbox[ui.Screen]()
		r.screens = append(r.screens, box)
		wg.Go(func() { box.run(d.Show) })
	}
	for _, s := range r.parts.Sounders {
		box := newMailbox[ui.Cue]()
		r.cues = append(r.cues, box)
		wg.Go(func() { box.run(s.Play) })
	}
	wg.Go(func() {
		for a := range r.line {
			p, err := a.stored()
			r.appended <- event{what: evDone, id: a.id, punch: p, err: err}
		}
	})
	settled := make(chan struct{})
	go func() {
		wg.Wait()
		close(settled)
	}()
	return settled
}

func (r *run) close() {
	close(r.line)
	r.results.close()
	if r.recalls != nil {
		close(r.recalls)
	}
	for _, box := range r.screens {
		close(box)
	}
	for _, box := range r.cues {
		close(box)
	}
}

// feed gives step one event and does what it says. Nothing here blocks.
func (r *run) feed(e event) {
	var acts []action
	r.state, acts = step(r.state, e)
	for _, a := range acts {
		switch a := a.(type) {
		case actAppend:
			if line, ok := r.parts.Recorder.(Enqueuer); ok {
				r.line <- inLine{a.id, line.Enqueue(a.draft)} // has room for maxAppends
				continue
			}
			go func() {
				p, err := r.parts.Recorder.Append(a.draft)
				r.appended <- event{what: evDone, id: a.id, punch: p, err: err}
			}()
		case actAnswer:
			r.answer(a)
		case actShow:
			for _, box := range r.screens {
				box.put(a.screen)
			}
		case actRecall:
			if r.recalls != nil {
				r.recalls.put(a)
			}
		case actCheck:
			go func() { r.checked <- r.check(a) }()
		case actDeny:
			close(r.origins[a.id].reply)
			delete(r.origins, a.id)
		case actPlay:
			for _, box := range r.cues {
				box.put(a.cue)
			}
		}
	}
}

// recall reads somebody's last punches for the screen. Nobody waits for it.
func (r *run) recall(ctx context.Context, a actRecall) {
	past, err := r.parts.History.Recent(ctx, a.employee, mineMost)
	if err != nil {
		if ctx.Err() == nil {
			r.log.Warn("a person's last punches could not be read for the screen", "err", err)
		}
		return
	}
	select {
	case r.recalled <- event{what: evRecalled, id: a.id, past: past}:
	case <-ctx.Done():
	}
}

func (r *run) answer(a actAnswer) {
	o := r.origins[a.id]
	delete(r.origins, a.id)
	if r.parts.Results != nil {
		r.results.put(a.result)
	}
	if o.reply != nil {
		o.reply <- a.result
	}
	if r.parts.Observe != nil {
		r.parts.Observe(time.Since(o.last), a.result)
	}
}

func (r *run) done(e event) {
	e.at = r.parts.Clock.Now()
	if e.err != nil {
		r.log.Error("a punch could not be stored; the person was told to tap again", "err", e.err)
	}
	r.feed(e)
}

// device turns a reader's event into one for step.
func (r *run) device(ev device.Event) {
	e := event{what: evReader, reader: ev.Reader, sign: ev.What, fault: ev.Fault}
	e.at, e.stamp = r.stamp(ev.Last)
	switch ev.What {
	case device.Card:
		badge, err := punch.NewBadge(ev.Medium, ev.Value)
		if err != nil { // the reader is at fault, and the person waits
			r.log.Warn("a card came in a form that is no badge; check the reader's dialect",
				"reader", ev.Reader, "medium", ev.Medium, "bits", ev.Bits)
			e.sign, e.fault = device.Fault, device.FaultFormat
			r.misread(e, ev.Last)
			return
		}
		e.what, e.badge = evTap, badge
		e.raw = bytes.Clone(ev.Raw[:min(len(ev.Raw), maxRaw)]) // the reader may use its buffer again
		e.bits = min(max(ev.Bits, 0), 8*len(e.raw), maxBits)
		e.blocked = r.parts.Blocked != nil && r.parts.Blocked(badge)
		if p, ok := r.parts.Directory.ByBadge(badge); ok && p.Active && !e.blocked {
			e.who = personOf(p)
		}
		e.id = r.begin(ev.Last, nil)
	case device.Entry:
		e.what, e.number, e.pin = evEntry, ev.Number, ev.PIN
		if kind, err := punch.ParseKind(ev.Key); err == nil {
			e.kind = kind
		}
		e.id = r.begin(ev.Last, nil)
	case device.Key:
		if ev.Key == "" {
			e.what = evTakeBack
			break
		}
		kind, err := punch.ParseKind(ev.Key)
		if err != nil {
			r.log.Warn("a key gave no kind; check the reader's key map", "reader", ev.Reader, "err", err)
			break
		}
		e.what, e.kind = evChoose, kind
	case device.Fault:
		if ev.Try {
			r.misread(e, ev.Last)
			return
		}
	case device.Up:
		r.log.Info("reader is up", "reader", ev.Reader)
	case device.Down:
		r.log.Warn("reader is down; it comes back by itself when it is there", "reader", ev.Reader, "err", ev.Err)
	}
	r.tell(e)
}

// The most a draft can carry of what came off the line.
const (
	maxRaw  = 32
	maxBits = 255
)

func (r *run) misread(e event, last time.Time) {
	e.what = evMisread
	e.id = r.begin(last, nil)
	r.tell(e)
}

// check finds out who has typed a number and a PIN.
func (r *run) check(a actCheck) event {
	e := event{what: evChecked, id: a.id, fault: device.FaultPIN}
	if r.parts.CheckPIN == nil {
		return e
	}
	if fault := r.parts.CheckPIN(a.number, a.pin); fault != "" {
		e.fault = fault
		return e
	}
	p, ok := r.parts.Directory.ByNumber(a.number)
	if !ok || !p.Active || p.Number == "" {
		return e
	}
	badge, err := punch.NewBadge(typedMedium, p.Number)
	if err != nil {
		r.log.Warn("somebody's employee number holds characters that no badge can carry; correct it in the roster")
		e.fault = device.FaultFormat
		return e
	}
	e.who, e.badge, e.fault = personOf(p), badge, ""
	return e
}

// entered feeds what became of an entry.
func (r *run) entered(e event) {
	e.at = r.parts.Clock.Now()
	r.tell(e)
}

// tell feeds an event that a reader sent.
func (r *run) tell(e event) {
	r.feed(e)
	r.status.set(r.state.readers)
}

func (r *run) pin(p pinRequest) {
	now, then := r.stamp(p.at)
	r.feed(event{
		what: evTap, at: now, stamp: then, reader: PageReader,
		who: p.who, badge: p.badge, id: r.begin(p.at, p.reply),
	})
}

func (r *run) fix(f fixRequest) {
	now, _ := r.stamp(f.at)
	id := r.begin(f.at, f.reply)
	r.feed(event{what: evCorrect, at: now, id: id, fix: f.id, kind: f.kind})
}

// begin draws the identity of a tap.
func (r *run) begin(last time.Time, reply chan<- ui.Result) (id punch.Tap) {
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	if last.IsZero() {
		last = time.Now()
	}
	r.origins[id] = origin{last: last, reply: reply}
	return id
}

// stamp reads the clock, for now and for when something happened: the reading is
// taken back by its age, to the millisecond. The age is measured first, so that a
// moment lost in between makes the punch later, never earlier than the tap. A time
// before the boot is none: it lacks Go's monotonic reading, and the wall clock was
// set since.
func (r *run) stamp(last time.Time) (now, then punch.Stamp) {
	ago := time.Since(last)
	now = r.parts.Clock.Now()
	then = now
	if ago > 0 && ago <= now.Uptime {
		then.Wall = then.Wall.Add(-ago)
		then.Uptime -= ago
	}
	then.Wall = then.Wall.Truncate(time.Millisecond)
	then.Uptime = then.Uptime.Truncate(time.Millisecond)
	// Three clocks were asked one after another: of two taps in one millisecond the second
	// must not look like the earlier one.
	wall, up := r.latest.Wall.Sub(then.Wall), r.latest.Uptime-then.Uptime
	if then.BootID == r.latest.BootID && min(wall, up) >= 0 && max(wall, up) <= time.Millisecond {
		then.Wall, then.Uptime = r.latest.Wall, r.latest.Uptime
	}
	r.latest = then
	return now, then
}
