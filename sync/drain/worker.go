package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"punchclock/queue/punch"
	"punchclock/sync/token"
)

// The states of a destination, beside token.AuthFailed and token.Misconfigured.
const (
	OK       = "ok"       // the last call went well, or none was needed yet
	Retrying = "retrying" // an outage, or told to wait: it heals by itself
)

const (
	batchDefault = 50
	probeFirst   = 5 * time.Minute // after a Denied; 5, 10, then always 15 min
	probeMost    = 15 * time.Minute
	errorMost    = 300 // bytes of Status.LastError
	rememberMost = 16  // different messages of one outage that are logged
	airMost      = 500 // punches under way at once, unless one batch is larger
	lookPast     = 100 // punches looked at beyond those, for people with none under way

	// After an outage that others had as well, Sends leave a second apart at first,
	// and closer together until, two minutes later, only the ceiling holds them.
	longOutage  = time.Minute
	gentleTime  = 2 * time.Minute
	gentleFirst = time.Second
)

// Config is what a [Worker] is made of.
type Config struct {
	Name  string      // the destination's configured name: in the log, and its key in Log
	Log   Log         // the outbox
	Dest  Destination // the remote system
	Batch int         // most punches in one Send; 0 is 50
	// Lanes is how many Sends may be under way at once, 0 for one. With [Lanes]
	// a ceiling is used fully, however long an answer takes.
	Lanes int
	// Spread, if positive, has a backlog that is there at the start wait for a random
	// part of it: clocks that share a far side got their power back together.
	Spread time.Duration
	Kinds  []punch.Kind // the kinds that are sent, the others are skipped; none means all four
	Logger *slog.Logger // required
}

// Worker delivers the outbox to one destination.
type Worker struct {
	c     Config
	log   *slog.Logger
	kick  chan struct{}      // holds one Kick
	sends map[punch.ID]sends // written by Run alone, with mu held
	notes notes
	trips trips

	mu     sync.Mutex
	status Status

	// Of Run only.
	air    air
	held   bool      // nothing leaves yet, see Config.Spread
	gentle time.Time // a long outage ended then, zero for none
	asked  bool      // somebody wanted to know during the trouble that is on
	gate   time.Time // no Send before
	gated  bool      // one would have left before that
	proven bool      // a Send went well since the start, or since the last trouble
	wait   Backoff
	denied int             // Denied in a row
	since  time.Time       // begin of the trouble that is on, zero for none
	said   map[string]bool // messages logged in this trouble
	ours   bool            // the outbox fails, not the far side
}

// sends is what is remembered of a punch that has no verdict yet. Of this the log
// keeps over a restart only that there was something; the counts are for people,
// nothing is decided by them.
type sends struct {
	tries     int
	uncertain bool // one of them ended without anybody knowing how
}

// Status is how a destination fares.
type Status struct {
	State       string    // ok, retrying, auth_failed or misconfigured
	LastError   string    // why it is not ok, at most 300 bytes, fit to be shown; "" when ok
	LastSuccess time.Time // when the far side last took or refused a punch; zero for not since the start
	NextTry     time.Time // end of the wait that is on; zero for none
}

// NewWorker returns a worker that does nothing until Run.
func NewWorker(c Config) *Worker {
	if c.Batch <= 0 {
		c.Batch = batchDefault
	}
	c.Lanes = max(1, min(c.Lanes, airMost/c.Batch))
	return &Worker{
		c:      c,
		log:    c.Logger.With("dest", c.Name),
		kick:   make(chan struct{}, 1),
		sends:  make(map[punch.ID]sends),
		status: Status{State: OK},
		said:   make(map[string]bool),
		notes:  notes{out: make(map[punch.ID]bool)},
		air:    newAir(c.Lanes),
	}
}

// Status may be called at any time.
func (w *Worker) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Tries is how often this worker has sent a punch that has no verdict yet. It may be
// called at any time.
func (w *Worker) Tries(id punch.ID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sends[id].tries
}

// Kick ends a wait after an outage or a Denied and has the destination forget its
// refusals, those of an [Insister] too: a technician wants to know now. A wait that
// the far side asked for goes on. It does not block, and several count as one.
func (w *Worker) Kick() {
	if i, ok := w.c.Dest.(Insister); ok {
		i.Insist()
	} else {
		w.reset()
	}
	w.knock()
}

// Wake is a Kick that nobody's word is behind: a secret's file was touched. An
// [Insister] sees for itself whether there is anything new to try.
func (w *Worker) Wake() {
	w.reset()
	w.knock()
}

func (w *Worker) knock() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *Worker) reset() {
	if r, ok := w.c.Dest.(Resetter); ok {
		r.Reset()
	}
}

// Run delivers until ctx is done, and returns nil then, when its last Send has
// ended. A Send that ctx interrupts leaves its punches for the next start.
func (w *Worker) Run(ctx context.Context) error {
	held := w.spread()
	for ctx.Err() == nil {
		if w.full() {
			w.land(ctx, nil, nil)
			continue
		}
		changed := w.c.Log.Changed()
		ps, err := w.c.Log.Next(w.c.Name, w.look())
		if err != nil {
			w.landAll(ctx)
			w.outbox(ctx, fmt.Errorf("reading the outbox: %w", err))
			continue
		}
		w.outboxWell()
		w.gated = false
		w.load(ctx, ps)
		var open <-chan time.Time
		if w.gated {
			open = time.After(max(time.Until(w.gate), time.Millisecond))
		}
		switch {
		case len(w.air.out) > 0:
			w.land(ctx, changed, open)
		case len(w.air.decided) > 0:
			w.settleDecided(ctx)
		default:
			select {
			case <-changed:
			case <-open:
			case <-held:
				w.hold(false)
				w.gentle = time.Now()
			case <-w.kick:
				w.hold(false)
				w.gentle, w.gate = time.Time{}, time.Time{}
			case <-ctx.Done():
			}
		}
	}
	w.landAll(ctx)
	return nil
}

// spread holds a backlog that is there at the start back for a while. It returns when
// that ends, nil for at once.
func (w *Worker) spread() <-chan time.Time {
	if w.c.Spread <= 0 {
		return nil
	}
	if ps, err := w.c.Log.Next(w.c.Name, 1); err == nil && len(ps) == 0 {
		return nil
	}
	w.hold(true)
	d := rand.N(w.c.Spread)
	w.next(time.Now().Add(d))
	return time.After(d + 1)
}

func (w *Worker) hold(on bool) {
	if w.held = on; !on {
		w.next(time.Time{})
	}
}

// decide gives the verdict on a punch that no far side is to see, if it is one.
func (w *Worker) decide(p *punch.Punch) (punch.Verdict, bool) {
	switch {
	case p.SupersededBy != 0: // never sent: the correction goes in its place
		return punch.Verdict{ID: p.ID, Fate: punch.Skip, Reason: punch.ReasonSuperseded, Resent: w.sends[p.ID].uncertain || p.Offered}, true
	case !p.Outcome.Sent(), len(w.c.Kinds) > 0 && !slices.Contains(w.c.Kinds, p.Kind):
		return punch.Verdict{ID: p.ID, Fate: punch.Skip}, true
	case p.Employee == "":
		w.log.Info("punch parked, nobody has its badge yet", "punch", p.ID)
		return punch.Verdict{ID: p.ID, Fate: punch.Refuse, Reason: punch.ReasonUnknownBadge}, true
	case p.Uncertain:
		w.log.Warn("punch parked, its time was never learned: a person must decide", "punch", p.ID)
		return punch.Verdict{ID: p.ID, Fate: punch.Refuse, Reason: punch.ReasonTimeUncertain,
			Message: fmt.Sprintf("the clock was not set: it said %s, %s after that boot", p.Stamp.Wall.UTC().Format(time.DateTime), p.Stamp.Uptime.Round(time.Second))}, true
	}
	return punch.Verdict{}, false
}

// judge keeps the verdicts that decide something, one per punch that was offered,
// in the order of the batch, with their counts. Two that contradict each other are
// no verdict.
func (w *Worker) judge(offer []punch.Punch, answer []punch.Verdict, err error) []punch.Verdict {
	var busy *Busy
	var denied *token.Denied
	// A refusal to talk is an answer: the far side took nothing of what has no verdict.
	uncertain := err != nil && !errors.As(err, &busy) && !errors.As(err, &denied) && !neverLeft(err)

	by := make(map[punch.ID]punch.Verdict, len(answer))
	for _, v := range answer {
		if old, ok := by[v.ID]; ok && old.Fate != v.Fate {
			v = punch.Verdict{ID: v.ID}
		}
		by[v.ID] = v
	}
	var known []punch.Verdict
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range offer {
		s, ok := w.sends[p.ID]
		if p.Offered && !ok {
			s = sends{tries: 1, uncertain: true}
		}
		v := by[p.ID]
		if v.Fate == punch.Keep && !v.Resent && errors.Is(err, errBraked) {
			w.sends[p.ID] = s // it came back before it left
			continue
		}
		s.tries++
		if v.Fate == punch.Keep {
			s.uncertain = s.uncertain || uncertain || v.Resent
			w.sends[p.ID] = s
			continue
		}
		delete(w.sends, p.ID)
		v.Attempts, v.Resent = s.tries, v.Resent || s.uncertain
		if v.Fate == punch.Refuse {
			w.log.Warn("punch refused and parked", "punch", p.ID, "reason", v.Reason, "attempt", v.Attempts)
		}
		known = append(known, v)
	}
	return known
}

// settle makes verdicts durable, trying until it is done. It reports false when
// ctx ended before that: then the far side is asked again after the next start.
// Nothing leaves meanwhile.
func (w *Worker) settle(ctx context.Context, v []punch.Verdict) bool {
	for {
		err := w.c.Log.Settle(w.c.Name, v)
		if err == nil {
			w.outboxWell()
			return true
		}
		w.air.stop()
		if ctx.Err() != nil || !w.outbox(ctx, fmt.Errorf("writing receipts to the outbox: %w", err)) {
			return false
		}
	}
}

// outbox takes note of trouble in our own house and waits. It reports false when
// ctx ended.
func (w *Worker) outbox(ctx context.Context, err error) bool {
	w.ours = true
	w.fails(Retrying, err, slog.LevelError)
	return w.pause(ctx, w.wait.Next(), w.kick) != stopped
}

// outboxWell ends that trouble. It says nothing about the far side: if that fails
// as well, the next round tells.
func (w *Worker) outboxWell() {
	if w.ours {
		w.ours = false
		w.well(w.Status().LastSuccess)
	}
}

// trouble takes note of a round that failed and waits as it deserves.
func (w *Worker) trouble(ctx context.Context, err error) {
	var denied *token.Denied
	var busy *Busy
	switch {
	case errors.As(err, &denied):
		state := denied.State
		if state != token.AuthFailed {
			state = token.Misconfigured
		}
		w.fails(state, err, slog.LevelError)
		w.denied++
		d := max(min(time.Duration(w.denied)*probeFirst, probeMost), denied.Probe)
		// Later by chance, never sooner: a token.Cache below has the same patience.
		if w.pause(ctx, d+rand.N(d/10), w.kick) == kicked {
			w.denied = 0
		}
		w.reset()
	case errors.As(err, &busy):
		w.fails(Retrying, err, slog.LevelWarn)
		w.pause(ctx, w.wait.Busy(busy.After), nil)
	default:
		w.fails(Retrying, err, slog.LevelWarn)
		w.pause(ctx, w.wait.Next(), w.kick)
	}
}

// fails sets the state, and says it once.
func (w *Worker) fails(state string, err error, level slog.Level) {
	text := plain(err.Error())
	w.mu.Lock()
	w.status.State, w.status.LastError = state, text
	w.mu.Unlock()
	if w.since.IsZero() {
		w.since = time.Now()
	}
	if w.said[text] || len(w.said) >= rememberMost {
		return
	}
	w.said[text] = true
	w.log.Log(context.Background(), level, "destination fails, punches are kept", "state", state, "err", text)
}

// well ends whatever trouble was on.
func (w *Worker) well(success time.Time) {
	w.mu.Lock()
	w.status = Status{State: OK, LastSuccess: success}
	w.mu.Unlock()
	w.wait.Reset()
	w.denied = 0
	if !w.since.IsZero() {
		w.log.Info("destination works again", "down", time.Since(w.since).Round(time.Millisecond))
		if time.Since(w.since) >= longOutage && !w.asked {
			w.gentle = time.Now()
		}
		w.asked = false
		w.since = time.Time{}
		clear(w.said)
	}
}

// How a wait ended.
type ending uint8

const (
	over    ending = iota // it was waited out
	kicked                // somebody wants to know now
	stopped               // ctx is done
)

// pause waits; sooner, which may be nil, ends it early.
func (w *Worker) pause(ctx context.Context, d time.Duration, sooner <-chan struct{}) ending {
	w.next(time.Now().Add(d))
	defer w.next(time.Time{})
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return over
	case <-sooner:
		w.asked = true
		return kicked
	case <-ctx.Done():
		return stopped
	}
}

func (w *Worker) next(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.NextTry = t
}

// plain makes a text fit for one line of a log and a status page.
func plain(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= errorMost {
		return s
	}
	cut := errorMost - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
