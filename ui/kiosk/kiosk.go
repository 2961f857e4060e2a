// Package kiosk is the conversation at the door: a person taps, and is answered.
// It decides which kind a tap is, whether it is a second tap of the same person,
// and what the person sees and hears; it has each tap stored before it says so.
//
// There are two halves. step is a pure function from a state and an event to the
// next state and a list of actions: it reads no clock, opens nothing, waits for
// nothing, and everything below is decided there. [Kiosk.Run] feeds it, carries
// the actions out, and decides nothing.
//
// # Which kind
//
// The first of these that says something:
//
//  1. The kind that was chosen, by a key, on the page, within Config.KindTimeout
//     of monotonic time before the tap. One tap uses a choice up, also the tap of a
//     badge that nobody knows; a misread does not, for that person taps again. A
//     choice made after a tap never reaches back to it, however late it is worked on.
//     A kind typed with a number goes with that number, and with nothing else.
//  2. The schedule, by local time; the first slot that matches. A clock that nobody
//     has set ([punch.Unset]) cannot say what time of day it is, so then the
//     schedule is passed over.
//  3. The person's own last punch on this device that local day: none or out → in;
//     in or return → out; go-out → return. Within one boot the day of the earlier
//     punch is found by uptime, so that a clock which is set in between does not
//     make a morning look like 1970.
//
// # Second taps
//
// The same person again inside Config.DuplicateWindow, measured by uptime within
// one boot, is a duplicate: recorded as such with the kind of the first, answered,
// never sent. It does not lengthen the window. Only another kind chosen for this
// very tap makes it a punch. A slot that ends between the two taps, or midnight,
// changes nothing: nothing but a choice turns 上班 into 下班 within the window.
//
// The same person is the same employee number, whichever card; where the number
// is not known, the same card. A card that the roster learns or forgets between two
// taps is still the same person's, unless it now belongs to somebody else.
//
// # Unknown cards
//
// They are stored like any other punch and shown as unknown. A card of somebody
// who has left (not active) is treated so too: HR sees it, and it is never sent as
// that person's.
//
// # Blocked cards
//
// A card that was reported lost is stored as just that, and nobody's: whoever taps it
// hears that it is blocked, and not whose it was. It is no second tap of anybody, and
// nothing follows from it for the next kind.
//
// # Whoever taps again sees their own
//
// With the answer to a duplicate come the person's own last punches, and where each
// has arrived, read from the [History] beside the path of any tap. They are gone after
// ten seconds, when anybody taps, and when anybody chooses a kind.
//
// While they are shown, and for a minute after the person was told of the punch, its
// kind can be corrected ([Kiosk.Correct]): the badge has just shown who is there. The
// correction is a record of its own, of the same person, card, reader and time, with
// the other kind, and Supersedes names the record that it replaces. That one stays as
// it is. A correction can be corrected in turn, within the minute of the first. It is
// answered like a tap, and so is its failure; asked for again, it is the same draft.
//
// # When the medium refuses
//
// After a failed append nobody knows whether the record is there. So the answer is
// not_stored, and the person's next tap hands in the very same draft, same tap
// identity, same time, same kind, which the [Recorder] stores once at most. That
// holds for the duplicate window, and for a minute at least, counted from the latest
// attempt, unless another kind was chosen. Only the employee is looked up again. Taps
// of one person are worked on strictly one after another, so a quick second tap is
// never taken for the duplicate of a first that was not stored; taps of different
// people are appended at the same time, so that the outbox can commit them together,
// and are numbered and answered in the order in which they came ([Enqueuer]).
//
// # Numbers and PINs
//
// Who has no card today types the employee number and the PIN, on the page or on a
// keypad. Whether they belong together is not decided here, and takes its time; it is
// found out beside everything else, and the punch has the time of the last key and
// the kind that was chosen then, whoever taps meanwhile. A wrong PIN is a misread that
// says so.
//
// # Who is waited for
//
// The Recorder, and nobody else. Displays and sounders have a mailbox each in which
// the newest stays; results have a queue of their own, each delivered once, in the
// order of the answers.
package kiosk

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"punchclock/device"
	"punchclock/queue/punch"
	"punchclock/ui"
)

// PageReader is the reader name of a punch made by employee number on the page. No
// configured reader may have it.
const PageReader = "page"

const (
	resultFor  = 2500 * time.Millisecond // how long an answer stays on the screen
	retryFor   = time.Minute             // the least time in which a tap after not_stored is the same tap
	stopGrace  = 2 * time.Second         // how long Run waits for displays at the end
	maxAppends = 64                      // appends under way at once
	maxTaps    = 256                     // taps unanswered at once; then the readers wait
	maxMemory  = 65536                   // people and cards remembered; 20,000 people with two keys each and room
	maxFailed  = 1024                    // taps remembered that could not be stored
	mineFor    = 10 * time.Second        // how long a person's own punches stay on the screen
	fixFor     = time.Minute             // how long after the answer a kind can be corrected
	maxFresh   = 1024                    // punches remembered that can be corrected
	mineMost   = 5                       // punches listed
)

// Slot is an entry of the schedule: within From ≤ minute of the local day < To the
// kind is Kind. Minutes run from 0 to 1440. A To before From goes past midnight; equal
// ones mean the whole day.
type Slot struct {
	From, To int
	Kind     punch.Kind
}

// Config is how this clock talks to people. Location must not be nil and
// KindTimeout must be positive; the rest may be zero.
type Config struct {
	Schedule        []Slot // the first that matches wins
	Location        *time.Location
	DuplicateWindow time.Duration // 0 turns duplicates off
	KindTimeout     time.Duration // how long a chosen kind waits for its tap
	MaskNames       bool          // 王○明 instead of 王小明, everywhere a Result goes
	DefaultLanguage string        // of a Result whose person has none
	Readers         []string      // configured names, in the order in which they are shown
}

// Recorder puts a punch on the medium.
//
// Append returns after the medium has it. It is safe for concurrent use, and
// repeatable by Draft.Tap: the same tap again returns the punch that was made first
// and makes no second. An error means that nobody knows whether it was stored.
type Recorder interface {
	Append(punch.Draft) (punch.Punch, error)
}

// Enqueuer is a Recorder that says in which order it stores what is handed in at the same
// time: in that in which Enqueue was called, which does not block. The function that it
// returns is Append's other half; it is called, and in that order.
type Enqueuer interface {
	Enqueue(punch.Draft) func() (punch.Punch, error)
}

// Directory knows the people. Both methods answer from memory, never block, and
// are safe for concurrent use.
type Directory interface {
	ByBadge(punch.Badge) (punch.Employee, bool)
	ByNumber(string) (punch.Employee, bool)
}

// History reads what became of earlier punches.
//
// Recent returns the newest punches of an employee, newest first, at most max, those
// superseded by a correction included. It may read the medium and take its time; it is
// never called on the path of a tap, and never twice at the same time.
type History interface {
	Recent(ctx context.Context, employee string, max int) ([]ui.Past, error)
}

// Clock reads the time of this moment: wall, boot, uptime, and how far off. It never
// blocks. Uptime never runs backwards within a boot.
type Clock interface {
	Now() punch.Stamp
}

// Parts is what a kiosk works with. The first three are required.
type Parts struct {
	Recorder  Recorder
	Directory Directory
	Clock     Clock

	// CheckPIN says whether a number and a PIN that were typed on a keypad belong
	// together: "", or the word of a device.Fault. It may take its time, and is called
	// by several goroutines. nil: they never do.
	CheckPIN func(number string, pin device.PIN) (fault string)
	// Blocked says whether a card was reported lost. It answers from memory. nil: none is.
	Blocked func(punch.Badge) bool
	// History lists a person's own punches; nil: whoever taps twice sees the answer only.
	History History
	// Results gets every answer once, in order, from a goroutine of its own. It may
	// be slow; what it has not taken waits in memory.
	Results func(ui.Result)
	// Displays and Sounders each have a goroutine and a mailbox of their own.
	Displays []ui.Display
	Sounders []ui.Sounder
	// Observe is told how long each answer took, from the last byte or edge of the
	// card. It is called on the path of the tap and must return at once.
	Observe func(time.Duration, ui.Result)
	Log     *slog.Logger
}

// ReaderStatus is how a reader fares.
type ReaderStatus struct {
	Name      string
	State     string            // ok or down; down until its first sign of life
	LastEvent time.Time         // wall time of anything it had to tell; zero for never
	Faults    map[string]uint64 // by the fault words of package device, since the start
}

// Errors that a caller decides on.
var (
	// ErrStopped: Run has ended or is ending; nothing was stored.
	ErrStopped = errors.New("kiosk: the clock is shutting down; punch again when it is back")
	// ErrUnknownEmployee: no active employee has this number; nothing was stored.
	ErrUnknownEmployee = errors.New("kiosk: no active employee has this number; check the roster")
	// ErrNotCorrectable: nobody who may correct this punch is at the door; nothing was stored.
	ErrNotCorrectable = errors.New("kiosk: this punch cannot be corrected now; tap again, and correct it within a minute of the punch")
)

// Kiosk is one conversation. Its methods are safe for concurrent use.
type Kiosk struct {
	parts Parts
	log   *slog.Logger
	state state // owned by New and Seed, then by Run

	choices  chan choiceRequest
	pins     chan pinRequest
	fixes    chan fixRequest
	stopping chan struct{} // closed when Run takes no more
	status   statusBoard
}

// New builds a kiosk and starts nothing.
func New(cfg Config, parts Parts) *Kiosk {
	if parts.Log == nil {
		parts.Log = slog.New(slog.DiscardHandler)
	}
	k := &Kiosk{
		parts:    parts,
		log:      parts.Log,
		state:    newState(cfg),
		choices:  make(chan choiceRequest),
		pins:     make(chan pinRequest),
		fixes:    make(chan fixRequest),
		stopping: make(chan struct{}),
	}
	k.status.set(k.state.readers)
	return k
}

// Seed tells the kiosk what was stored before it started, oldest first, so that
// last punches and duplicate windows outlive a restart. Call it before Run; the
// punches since yesterday's midnight are enough.
func (k *Kiosk) Seed(punches []punch.Punch) {
	for _, p := range punches {
		k.state.remember(p, p.Stamp.Uptime)
		k.state.freshen(p, p.Stamp.Uptime)
	}
}

// Readers returns how each reader fares, in configured order.
func (k *Kiosk) Readers() []ReaderStatus { return k.status.get() }

// ChooseKind chooses the kind of the next tap, like a press of its key. It returns
// once the choice holds. The error is ErrStopped or ctx's.
func (k *Kiosk) ChooseKind(ctx context.Context, kind punch.Kind) error {
	if !kind.Valid() {
		return errors.New("kiosk: choose a kind: use in, out, go-out or return")
	}
	r := choiceRequest{kind: kind, done: make(chan struct{})}
	select {
	case k.choices <- r:
		<-r.done
		return nil
	case <-k.stopping:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PIN punches for an employee who has already shown who they are, without a badge,
// and returns the answer, which goes to everybody else as well. It blocks until the
// punch is on the medium or refused. The error is ErrUnknownEmployee, ErrStopped, one
// about a number that no badge can carry, or ctx's; after ctx's the punch may have
// been made all the same.
func (k *Kiosk) PIN(ctx context.Context, number string) (ui.Result, error) {
	e, ok := k.parts.Directory.ByNumber(number)
	if !ok || !e.Active || e.Number == "" {
		return ui.Result{}, ErrUnknownEmployee
	}
	badge, err := punch.NewBadge(typedMedium, e.Number)
	if err != nil {
		return ui.Result{}, errors.New("kiosk: punch by number: the number holds characters other than letters, digits, dot, dash and comma; correct it in the roster")
	}
	r := pinRequest{who: personOf(e), badge: badge, at: time.Now(), reply: make(chan ui.Result, 1)}
	select {
	case k.pins <- r:
	case <-k.stopping:
		return ui.Result{}, ErrStopped
	case <-ctx.Done():
		return ui.Result{}, ctx.Err()
	}
	select {
	case res := <-r.reply:
		return res, nil
	case <-ctx.Done():
		return ui.Result{}, ctx.Err()
	}
}

// Correct says that the kind of a punch should have been another one, and returns the
// answer to that, which goes to everybody else as well. It is taken while the screen
// shows that person's own punches with this one to correct. It blocks until the
// correction is on the medium or refused. The error is ErrNotCorrectable, ErrStopped or
// ctx's; after ctx's the correction may have been made all the same.
func (k *Kiosk) Correct(ctx context.Context, id punch.ID, kind punch.Kind) (ui.Result, error) {
	if !kind.Valid() {
		return ui.Result{}, errors.New("kiosk: correct a kind: use in, out, go-out or return")
	}
	r := fixRequest{id: id, kind: kind, at: time.Now(), reply: make(chan ui.Result, 1)}
	select {
	case k.fixes <- r:
	case <-k.stopping:
		return ui.Result{}, ErrStopped
	case <-ctx.Done():
		return ui.Result{}, ctx.Err()
	}
	select {
	case res, ok := <-r.reply:
		if !ok {
			return ui.Result{}, ErrNotCorrectable
		}
		return res, nil
	case <-ctx.Done():
		return ui.Result{}, ctx.Err()
	}
}
