package kiosk

import (
	"maps"
	"slices"
	"time"

	"punchclock/device"
	"punchclock/queue/punch"
	"punchclock/ui"
)

// what says which kind of event this is.
type what uint8

const (
	evTick    what = iota // time passed
	evTap                 // a card, or a number on the page
	evMisread             // a person's card could not be read
	evChoose              // a kind was chosen
	evReader              // a reader came, went, or threw something away
	evDone                // an append came back
)

// event is one thing that happened. It brings all that step may know of it.
type event struct {
	what what
	at   punch.Stamp // now

	id     punch.Tap   // of a tap, misread: drawn for it; of a done: the tap it answers
	stamp  punch.Stamp // of a tap, misread, choice: when the person did it, never after at
	reader string

	who   person // of a tap
	badge punch.Badge
	raw   []byte
	bits  int

	kind punch.Kind // of a choice

	sign  device.What // of a reader: Up, Down, Fault; anything else is just a sign of life
	fault string

	punch punch.Punch // of a done
	err   error
}

// action is one thing to be done.
type action interface{ isAction() }

type (
	actAppend struct { // store the draft, then send an evDone with this id
		id    punch.Tap
		draft punch.Draft
	}
	actAnswer struct { // tell everybody, and whoever waits for this id
		id     punch.Tap
		result ui.Result
	}
	actShow struct{ screen ui.Screen }
	actPlay struct{ cue ui.Cue }
)

func (actAppend) isAction() {}
func (actAnswer) isAction() {}
func (actShow) isAction()   {}
func (actPlay) isAction()   {}

// tap is one physical tap, from its arrival to its answer.
type tap struct {
	id      punch.Tap
	who     person
	badge   punch.Badge
	raw     []byte
	bits    int
	reader  string
	stamp   punch.Stamp
	chosen  punch.Kind // 0 for none
	running bool       // its draft is being appended
	passed  bool       // failed, and the person has had another answer since: only a choice tries it again
	draft   punch.Draft
}

// state is all that the conversation remembers. It belongs to the one call of step
// that it is handed to: the maps and slices in it are written in place.
type state struct {
	cfg    Config
	people map[string]*last // by "e:"+number and "b:"+badge
	told   uint64           // how many punches were remembered
	day    int              // on which people was last pruned

	chosen   punch.Kind // 0 for none
	chosenAt punch.Stamp

	taps   []tap // unanswered, in order of arrival
	failed []tap // answered not_stored, by latest attempt; stamp is that attempt's

	readers   []ReaderStatus
	lamps     []ui.Reader // readers as shown; replaced, never written
	result    *ui.Result
	resultEnd time.Duration
	shown     ui.Screen
}

func newState(cfg Config) state {
	s := state{cfg: cfg, people: map[string]*last{}}
	for _, name := range cfg.Readers {
		s.reader(name)
	}
	return s
}

// step is the conversation. It is pure: equal states and events give equal ends.
func step(s state, e event) (state, []action) {
	var acts []action
	switch e.what {
	case evTap:
		s.taps = append(s.taps, tap{
			id: e.id, who: e.who, badge: e.badge, raw: e.raw, bits: e.bits,
			reader: e.reader, stamp: e.stamp, chosen: s.takeChoice(e.stamp),
		})
		s.sign(e)
		acts = s.start(acts)
	case evMisread:
		s.sign(e)
		acts = s.answer(acts, e.at, e.id, ui.Result{
			Outcome:  punch.Misread.String(),
			Time:     e.stamp.Wall.In(s.cfg.Location),
			Reader:   e.reader,
			Clock:    e.stamp.Clock.String(),
			Reason:   e.fault,
			Language: s.cfg.DefaultLanguage,
		})
	case evChoose:
		s.chosen, s.chosenAt = e.kind, e.stamp
		s.result = nil // whoever chooses is the next person
		s.sign(e)
	case evReader:
		s.sign(e)
	case evDone:
		acts = s.done(acts, e)
		acts = s.start(acts)
	}
	s.prune(e.at)
	return s.show(acts, e.at)
}

// wake is how long nothing changes by itself after now: until a choice or an
// answer ends, but no longer than to the next minute of the wall clock, when a slot
// or a day may end and when the clock itself is looked at again.
func (s *state) wake(now punch.Stamp) time.Duration {
	d := now.Wall.Truncate(time.Minute).Add(time.Minute).Sub(now.Wall)
	if s.choosing(now) {
		d = min(d, s.chosenAt.Uptime+s.cfg.KindTimeout-now.Uptime)
	}
	if s.result != nil {
		d = min(d, s.resultEnd-now.Uptime)
	}
	return max(d, time.Millisecond)
}

// choosing reports whether a chosen kind holds at a moment.
func (s *state) choosing(at punch.Stamp) bool {
	d := at.Uptime - s.chosenAt.Uptime
	return s.chosen != 0 && d >= 0 && d < s.cfg.KindTimeout
}

// takeChoice uses the choice up for a tap; a tap from before the choice leaves it.
func (s *state) takeChoice(at punch.Stamp) punch.Kind {
	if at.Uptime < s.chosenAt.Uptime {
		return 0
	}
	var kind punch.Kind
	if s.choosing(at) {
		kind = s.chosen
	}
	s.chosen = 0
	return kind
}

// start sends every tap on its way that nothing holds back: no earlier tap of the
// same person, and not too many appends already.
func (s *state) start(acts []action) []action {
	running := 0
	for i := range s.taps {
		if s.taps[i].running {
			running++
		}
	}
	for i := range s.taps {
		t := &s.taps[i]
		if t.running || slices.ContainsFunc(s.taps[:i], func(o tap) bool { return same(&o, t) }) {
			continue
		}
		if running >= maxAppends {
			break
		}
		running++
		t.running = true
		t.draft = s.draft(t)
		acts = append(acts, actAppend{id: t.id, draft: t.draft})
	}
	return acts
}

// draft decides what a tap is.
func (s *state) draft(t *tap) punch.Draft {
	outcome := punch.Stored
	if t.who.number == "" {
		outcome = punch.UnknownBadge
	}
	if f := s.retried(t); f != nil {
		d := f.draft
		d.Employee = t.who.number
		if d.Outcome != punch.Duplicate {
			d.Outcome = outcome
		}
		return d
	}
	d := punch.Draft{
		Tap: t.id, Kind: t.chosen, Badge: t.badge, Raw: t.raw, Bits: t.bits,
		Employee: t.who.number, Reader: t.reader, Outcome: outcome, Stamp: t.stamp,
	}
	l := s.last(t)
	if l != nil && l.boot == t.stamp.BootID && within(s.cfg.DuplicateWindow, l.answered, t.stamp.Uptime) &&
		(t.chosen == 0 || t.chosen == l.kind) {
		d.Kind, d.Outcome = l.kind, punch.Duplicate
		return d
	}
	if d.Kind == 0 {
		d.Kind = s.cfg.scheduled(t.stamp)
	}
	if d.Kind == 0 {
		var before punch.Kind
		if l != nil && sameDay(l.when(t.stamp), t.stamp.Wall, s.cfg.Location) {
			before = l.kind
		}
		d.Kind = next(before)
	}
	return d
}

// retried returns the tap that t tries again, nil for none.
func (s *state) retried(t *tap) *tap {
	for i := len(s.failed) - 1; i >= 0; i-- {
		f := &s.failed[i]
		if same(f, t) && within(s.retryWindow(), f.stamp.Uptime, t.stamp.Uptime) &&
			(t.chosen == f.draft.Kind || t.chosen == 0 && !f.passed) {
			return f
		}
	}
	return nil
}

func (s *state) retryWindow() time.Duration { return max(retryFor, s.cfg.DuplicateWindow) }

// last returns the latest punch of a tap's person, nil for none.
func (s *state) last(t *tap) *last {
	var found *last
	look := func(key string) {
		l := s.people[key]
		if l == nil || found != nil && found.told >= l.told {
			return
		}
		if l.employee != "" && t.who.number != "" && l.employee != t.who.number {
			return // the card has changed hands
		}
		found = l
	}
	if t.who.number != "" {
		look("e:" + t.who.number)
	}
	if t.reader != PageReader {
		look("b:" + string(t.badge))
	}
	for _, b := range t.who.badges {
		look("b:" + string(b))
	}
	return found
}

// remember keeps a stored punch. answered is the uptime at which its person was
// told, in the punch's own boot.
func (s *state) remember(p punch.Punch, answered time.Duration) {
	if p.Outcome != punch.Stored && p.Outcome != punch.UnknownBadge {
		return
	}
	var keys []string
	if p.Employee != "" {
		keys = append(keys, "e:"+p.Employee)
	}
	if p.Reader != PageReader {
		keys = append(keys, "b:"+string(p.Badge))
	}
	if p.Supersedes != 0 { // a correction counts only where it corrects the last word
		for _, k := range keys {
			if l := s.people[k]; l != nil && l.seq == p.Supersedes {
				l.kind = p.Kind
			}
		}
		return
	}
	s.told++
	l := &last{
		told: s.told, seq: p.Seq, kind: p.Kind, employee: p.Employee, boot: p.Stamp.BootID,
		uptime: p.Stamp.Uptime, answered: max(answered, p.Stamp.Uptime), wall: p.Time(),
	}
	for _, k := range keys {
		s.people[k] = l
	}
	if len(s.people) > maxMemory {
		s.forgetHalf()
	}
}

// forgetHalf drops the older half of the memory.
func (s *state) forgetHalf() {
	order := make([]uint64, 0, len(s.people))
	for _, l := range s.people {
		order = append(order, l.told)
	}
	slices.Sort(order)
	middle := order[len(order)/2]
	maps.DeleteFunc(s.people, func(_ string, l *last) bool { return l.told < middle })
}

// prune forgets what no rule can ask for any more: other days' punches outside the
// duplicate window, on the first event of a day; and failed taps that are too old to
// be tried again. A clock that nobody has set does not know the day; and a tap that
// waits is of an earlier moment than at.
func (s *state) prune(at punch.Stamp) {
	if len(s.taps) > 0 {
		return
	}
	s.failed = slices.DeleteFunc(s.failed, func(f tap) bool {
		return at.Uptime-f.stamp.Uptime >= s.retryWindow()
	})
	today := date(at.Wall, s.cfg.Location)
	if at.Clock == punch.Unset || today == s.day {
		return
	}
	s.day = today
	maps.DeleteFunc(s.people, func(_ string, l *last) bool {
		recent := l.boot == at.BootID && within(s.cfg.DuplicateWindow, l.answered, at.Uptime)
		return !recent && date(l.when(at), s.cfg.Location) != today
	})
}

// done answers the tap whose append came back.
func (s *state) done(acts []action, e event) []action {
	i := slices.IndexFunc(s.taps, func(t tap) bool { return t.id == e.id })
	t := s.taps[i]
	s.taps = slices.Delete(s.taps, i, i+1)

	d := t.draft
	r := ui.Result{Outcome: punch.NotStored.String(), Language: s.cfg.DefaultLanguage}
	if e.err != nil {
		s.failed = slices.DeleteFunc(s.failed, func(f tap) bool { return f.draft.Tap == d.Tap })
		if len(s.failed) >= maxFailed {
			s.failed = slices.Delete(s.failed, 0, 1)
		}
		s.failed = append(s.failed, t)
	} else {
		d = e.punch.Draft // what the medium has: after a second try, perhaps what the first one said
		s.passed(&t, d)
		s.remember(e.punch, t.stamp.Uptime)
		r.Outcome, r.PunchID, r.Seq = d.Outcome.String(), string(e.punch.ID), e.punch.Seq
	}
	r.Kind = d.Kind.String()
	r.Employee = d.Employee
	r.Time = d.Stamp.Wall.In(s.cfg.Location)
	r.Reader = d.Reader
	r.Clock = d.Stamp.Clock.String()
	if d.Employee != "" && d.Employee == t.who.number {
		r.Name = t.who.name
		if s.cfg.MaskNames {
			r.Name = mask(r.Name)
		}
		if t.who.language != "" {
			r.Language = t.who.language
		}
	}
	return s.answer(acts, e.at, t.id, r)
}

// passed settles what failed before for the person of t, who now has d stored. A
// punch makes an end of the older ones. A newer one, of another kind, may yet be on
// the medium (d was a second try, or the duplicate of an older punch): only choosing
// that kind again means it.
func (s *state) passed(t *tap, d punch.Draft) {
	s.failed = slices.DeleteFunc(s.failed, func(f tap) bool {
		return f.draft.Tap == d.Tap ||
			same(&f, t) && d.Outcome != punch.Duplicate && f.draft.Stamp.Uptime < d.Stamp.Uptime
	})
	for i := range s.failed {
		if same(&s.failed[i], t) {
			s.failed[i].passed = true
		}
	}
}

func (s *state) answer(acts []action, at punch.Stamp, id punch.Tap, r ui.Result) []action {
	s.result, s.resultEnd = &r, at.Uptime+resultFor
	return append(acts, actAnswer{id: id, result: r}, actPlay{cue: cueOf(r)})
}

func cueOf(r ui.Result) ui.Cue {
	switch r.Outcome {
	case punch.Stored.String():
		return ui.Cue(r.Kind) // the cues of the four kinds are their words
	case punch.Duplicate.String():
		return ui.CueDuplicate
	case punch.UnknownBadge.String():
		return ui.CueUnknown
	case punch.Misread.String():
		return ui.CueMisread
	default:
		return ui.CueNotStored
	}
}

// show adds the screen where it is another one than before.
func (s *state) show(acts []action, now punch.Stamp) (state, []action) {
	if s.result != nil && now.Uptime >= s.resultEnd {
		s.result = nil
	}
	screen := ui.Screen{Why: "person", Result: s.result, Clock: now.Clock.String(), Readers: s.lamps}
	if s.choosing(now) {
		screen.Kind, screen.Why = s.chosen.String(), "chosen"
		screen.Until = s.chosenAt.Wall.Add(s.cfg.KindTimeout).In(s.cfg.Location)
	} else if kind := s.cfg.scheduled(now); kind != 0 {
		screen.Kind, screen.Why = kind.String(), "schedule"
	}
	o := s.shown
	if screen.Kind == o.Kind && screen.Why == o.Why && screen.Result == o.Result && screen.Clock == o.Clock &&
		screen.Until.Equal(o.Until) && slices.Equal(screen.Readers, o.Readers) {
		return *s, acts
	}
	s.shown = screen
	return *s, append(acts, actShow{screen: screen})
}

// reader returns the place of a reader, adding it where it is new.
func (s *state) reader(name string) *ReaderStatus {
	i := slices.IndexFunc(s.readers, func(r ReaderStatus) bool { return r.Name == name })
	if i < 0 {
		i = len(s.readers)
		s.readers = append(s.readers, ReaderStatus{Name: name, State: "down", Faults: map[string]uint64{}})
		s.light()
	}
	return &s.readers[i]
}

// sign notes a sign of life, or of the lack of it.
func (s *state) sign(e event) {
	if e.reader == "" || e.reader == PageReader {
		return
	}
	r := s.reader(e.reader)
	r.LastEvent = e.at.Wall.In(s.cfg.Location)
	before := r.State
	switch e.sign {
	case device.Down:
		r.State = "down"
	case device.Fault:
		r.Faults[e.fault]++
	default: // Up; and who reads a card or a key is there
		r.State = "ok"
	}
	if r.State != before {
		s.light()
	}
}

// light makes the readers' lamps anew: the old ones may be on a display.
func (s *state) light() {
	s.lamps = make([]ui.Reader, len(s.readers))
	for i, r := range s.readers {
		s.lamps[i] = ui.Reader{Name: r.Name, State: r.State}
	}
}
