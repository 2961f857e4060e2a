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
	evTick     what = iota // time passed
	evTap                  // a card, or a number on the page
	evMisread              // a person's card could not be read
	evChoose               // a kind was chosen
	evReader               // a reader came, went, or threw something away
	evDone                 // an append came back
	evCorrect              // a kind was wrong
	evRecalled             // somebody's last punches were read
	evTakeBack             // a reader's choice was not meant for whoever is next
	evEntry                // a number and a PIN were typed on a keypad
	evChecked              // they were looked at
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

	blocked bool // of a tap: the card was reported lost, whoever has it

	kind punch.Kind // of a choice, a correction; of an entry: typed with it, 0 for none
	fix  punch.ID   // of a correction: the punch that was wrong
	past []ui.Past  // of what was read, for the tap with this id

	number string     // of an entry
	pin    device.PIN // of an entry

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
	actShow   struct{ screen ui.Screen }
	actPlay   struct{ cue ui.Cue }
	actRecall struct { // read the person's last punches, then send an evRecalled with this id
		id       punch.Tap
		employee string
	}
	actDeny  struct{ id punch.Tap } // nothing to correct: tell whoever waits for this id
	actCheck struct {               // see whether the two belong together, then send an evChecked with this id
		id     punch.Tap
		number string
		pin    device.PIN
	}
)

func (actAppend) isAction() {}
func (actAnswer) isAction() {}
func (actShow) isAction()   {}
func (actPlay) isAction()   {}
func (actRecall) isAction() {}
func (actDeny) isAction()   {}
func (actCheck) isAction()  {}

// tap is one physical tap, from its arrival to its answer.
type tap struct {
	id      punch.Tap
	who     person
	badge   punch.Badge
	raw     []byte
	bits    int
	blocked bool
	reader  string
	stamp   punch.Stamp
	chosen  punch.Kind // 0 for none
	running bool       // its draft is being appended
	passed  bool       // failed, and the person has had another answer since: only a choice tries it again
	draft   punch.Draft
	fix     *fresh // the punch that this is the correction of; nil for a tap
}

// entry is a number and a PIN that are being looked at. The choice is the person's
// from the moment of the last key: whoever taps meanwhile has another.
type entry struct {
	id     punch.Tap
	reader string
	stamp  punch.Stamp
	chosen punch.Kind
}

// fresh is a punch whose kind can still be corrected.
type fresh struct {
	punch.Punch
	answered time.Duration                   // uptime of the answer to the tap, within its boot
	tries    [len(punch.Kinds) + 1]punch.Tap // identities drawn for a correction to each kind
}

// mine is the person whose own punches are shown.
type mine struct {
	id  punch.Tap // of the second tap
	who person
	end time.Duration
	ui  *ui.Mine // replaced, never written
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
	chosenBy string // reader, "" for the page

	taps    []tap   // unanswered, in order of arrival
	entries []entry // not looked at yet
	failed  []tap   // answered not_stored, by latest attempt; stamp is that attempt's

	readers   []ReaderStatus
	lamps     []ui.Reader // readers as shown; replaced, never written
	result    *ui.Result
	resultEnd time.Duration
	mine      *mine
	fresh     []*fresh // by time of answer
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
		s.mine = nil
		s.taps = append(s.taps, tap{
			id: e.id, who: e.who, badge: e.badge, raw: e.raw, bits: e.bits, blocked: e.blocked,
			reader: e.reader, stamp: e.stamp, chosen: s.takeChoice(e.stamp),
		})
		s.sign(e)
		acts = s.start(acts)
	case evMisread:
		s.mine = nil
		s.sign(e)
		acts = s.answer(acts, e.at, e.id, ui.Result{
			Outcome:  outcomeOf(e.fault).String(),
			Time:     e.stamp.Wall.In(s.cfg.Location),
			Reader:   e.reader,
			Clock:    e.stamp.Clock.String(),
			Reason:   e.fault,
			Language: s.cfg.DefaultLanguage,
		})
	case evChoose:
		s.chosen, s.chosenAt, s.chosenBy = e.kind, e.stamp, e.reader
		s.result, s.mine = nil, nil // whoever chooses is the next person
		s.sign(e)
	case evTakeBack:
		if s.chosenBy == e.reader {
			s.chosen = 0
		}
		s.sign(e)
	case evReader:
		s.sign(e)
	case evEntry:
		s.mine = nil
		n := entry{id: e.id, reader: e.reader, stamp: e.stamp, chosen: e.kind}
		if n.chosen == 0 {
			n.chosen = s.takeChoice(e.stamp)
		}
		s.entries = append(s.entries, n)
		s.sign(e)
		acts = append(acts, actCheck{e.id, e.number, e.pin})
	case evChecked:
		acts = s.checked(acts, e)
	case evDone:
		acts = s.done(acts, e)
		acts = s.start(acts)
	case evCorrect:
		if acts = s.correct(acts, e); len(acts) == 0 {
			acts = s.start(acts)
		}
	case evRecalled:
		if s.mine != nil && s.mine.id == e.id {
			m := *s.mine.ui
			m.Listed, m.Punches = true, e.past
			s.mine.ui = &m
		}
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
	if s.mine != nil {
		d = min(d, s.mine.end-now.Uptime)
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
	if t.fix != nil {
		return t.draft
	}
	outcome := punch.Stored
	switch {
	case t.blocked:
		outcome = punch.BlockedBadge
	case t.who.number == "":
		outcome = punch.UnknownBadge
	}
	if f := s.retried(t); f != nil {
		d := f.draft
		d.Employee = t.who.number
		if d.Outcome != punch.Duplicate || t.blocked {
			d.Outcome = outcome
		}
		return d
	}
	d := punch.Draft{
		Tap: t.id, Kind: t.chosen, Badge: t.badge, Raw: t.raw, Bits: t.bits,
		Employee: t.who.number, Reader: t.reader, Outcome: outcome, Stamp: t.stamp,
	}
	l := s.last(t)
	if t.blocked {
		l = nil // whoever taps it is not known to be its person
	}
	if l != nil && l.boot == t.stamp.BootID && within(s.cfg.DuplicateWindow, l.answered, t.stamp.Uptime) &&
		(t.chosen == 0 || t.chosen == l.kind) {
		d.Kind, d.Outcome = l.kind, punch.Duplicate
		return d
	}
	if l != nil && l.boot == d.Stamp.BootID && d.Stamp.Uptime <= l.uptime && l.uptime-d.Stamp.Uptime < time.Second {
		// Frames that waited in a buffer while the machine stood still come at one moment.
		// A far side that knows a punch by person and time would take two for one.
		later := l.uptime + time.Millisecond - d.Stamp.Uptime
		d.Stamp.Wall, d.Stamp.Uptime = d.Stamp.Wall.Add(later), d.Stamp.Uptime+later
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
	if !typed(t.badge) {
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
	if !typed(p.Badge) {
		keys = append(keys, "b:"+string(p.Badge))
	}
	if p.Supersedes != 0 { // a correction counts only where it corrects the last word
		for _, k := range keys {
			if l := s.people[k]; l != nil && l.seq == p.Supersedes {
				l.kind, l.seq = p.Kind, p.Seq
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
	if len(s.taps)+len(s.entries) > 0 {
		return
	}
	s.failed = slices.DeleteFunc(s.failed, func(f tap) bool {
		return at.Uptime-f.stamp.Uptime >= s.retryWindow()
	})
	s.fresh = slices.DeleteFunc(s.fresh, func(f *fresh) bool { return !f.correctable(at) })
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
	if t.fix != nil {
		r.Supersedes = string(t.fix.ID)
	}
	if e.err != nil && t.fix == nil {
		s.failed = slices.DeleteFunc(s.failed, func(f tap) bool { return f.draft.Tap == d.Tap })
		if len(s.failed) >= maxFailed {
			s.failed = slices.Delete(s.failed, 0, 1)
		}
		s.failed = append(s.failed, t)
	} else if e.err == nil {
		d = e.punch.Draft // what the medium has: after a second try, perhaps what the first one said
		answered := t.stamp.Uptime
		if t.fix != nil {
			answered = t.fix.answered
			s.mine = nil
		} else {
			s.passed(&t, d)
		}
		s.remember(e.punch, answered)
		s.freshen(e.punch, answered)
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
	if d.Outcome == punch.Duplicate && e.err == nil && d.Employee != "" && d.Employee == t.who.number && len(s.taps) == 0 {
		acts = s.showMine(acts, e.at, &t, r)
	}
	return s.answer(acts, e.at, t.id, r)
}

// checked makes a tap of an entry whose number and PIN belong together, and tells
// the person otherwise. A choice is used up either way: it would be the next one's.
func (s *state) checked(acts []action, e event) []action {
	i := slices.IndexFunc(s.entries, func(n entry) bool { return n.id == e.id })
	n := s.entries[i]
	s.entries = slices.Delete(s.entries, i, i+1)
	if e.fault != "" {
		s.reader(n.reader).Faults[e.fault]++
		return s.answer(acts, e.at, n.id, ui.Result{
			Outcome:  punch.Misread.String(),
			Time:     n.stamp.Wall.In(s.cfg.Location),
			Reader:   n.reader,
			Clock:    n.stamp.Clock.String(),
			Reason:   e.fault,
			Language: s.cfg.DefaultLanguage,
		})
	}
	s.taps = append(s.taps, tap{id: n.id, who: e.who, badge: e.badge, reader: n.reader, stamp: n.stamp, chosen: n.chosen})
	return s.start(acts)
}

// showMine shows the person of t, who tapped again, their own punches.
func (s *state) showMine(acts []action, at punch.Stamp, t *tap, r ui.Result) []action {
	m := &ui.Mine{Employee: r.Employee, Name: r.Name, Language: r.Language, Until: at.Wall.Add(mineFor).In(s.cfg.Location)}
	if l := s.last(t); l != nil {
		for _, f := range s.fresh {
			if f.Seq == l.seq && f.Employee == t.who.number && f.correctable(at) {
				m.Fix, m.FixKind = string(f.ID), f.Kind.String()
				m.FixUntil = at.Wall.Add(f.answered + fixFor - at.Uptime).In(s.cfg.Location)
			}
		}
	}
	s.mine = &mine{id: t.id, who: t.who, end: at.Uptime + mineFor, ui: m}
	return append(acts, actRecall{id: t.id, employee: t.who.number})
}

// freshen remembers a stored punch as one that can be corrected, in the place of the
// one that it corrects itself.
func (s *state) freshen(p punch.Punch, answered time.Duration) {
	if p.Supersedes != 0 {
		s.fresh = slices.DeleteFunc(s.fresh, func(f *fresh) bool { return f.Seq == p.Supersedes })
	}
	if p.Outcome != punch.Stored || p.Employee == "" {
		return
	}
	if len(s.fresh) >= maxFresh {
		s.fresh = slices.Delete(s.fresh, 0, 1)
	}
	s.fresh = append(s.fresh, &fresh{Punch: p, answered: max(answered, p.Stamp.Uptime)})
}

func (f *fresh) correctable(at punch.Stamp) bool {
	return f.Stamp.BootID == at.BootID && within(fixFor, f.answered, at.Uptime)
}

// correct sends the correction on its way that the person whose punches are shown has
// asked for, and says no to anything else.
func (s *state) correct(acts []action, e event) []action {
	m := s.mine
	i := slices.IndexFunc(s.fresh, func(f *fresh) bool {
		return m != nil && m.ui.Fix == string(e.fix) && f.ID == e.fix && f.correctable(e.at) && f.Kind != e.kind
	})
	busy := slices.ContainsFunc(s.taps, func(t tap) bool { return t.fix != nil && t.fix.ID == e.fix })
	if i < 0 || busy {
		return append(acts, actDeny{id: e.id})
	}
	f := s.fresh[i]
	if f.tries[e.kind] == (punch.Tap{}) {
		f.tries[e.kind] = e.id
	}
	s.taps = append(s.taps, tap{
		id: e.id, who: m.who, badge: f.Badge, reader: f.Reader, stamp: f.Stamp, chosen: e.kind, fix: f,
		draft: punch.Draft{
			Tap: f.tries[e.kind], Kind: e.kind, Badge: f.Badge, Employee: f.Employee, Reader: f.Reader,
			Outcome: punch.Stored, Supersedes: f.Seq, Stamp: f.Stamp,
		},
	})
	return acts
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

// outcomeOf is what the tap of a fault came to. What went well in enrolment is told in
// another way than what did not: whoever hears it must not try again.
func outcomeOf(fault string) punch.Outcome {
	switch fault {
	case device.FaultEnrolled, device.FaultEnrolPIN, device.FaultEnrolCard:
		return punch.Enrolment
	}
	return punch.Misread
}

// Enrolling is the answer to a number and a PIN on the page that were a step of
// enrolment.
func Enrolling(fault string, now time.Time, clock punch.ClockState) ui.Result {
	return ui.Result{Outcome: outcomeOf(fault).String(), Reason: fault, Reader: PageReader, Time: now, Clock: clock.String()}
}

func cueOf(r ui.Result) ui.Cue {
	switch r.Outcome {
	case punch.Stored.String():
		c := ui.Cue(r.Kind) // the cues of the four kinds are their words
		if r.Clock == punch.Unset.String() {
			c = c.Unset()
		}
		if r.Supersedes != "" {
			c = c.Corrected()
		}
		return c
	case punch.Duplicate.String():
		return ui.CueDuplicate
	case punch.UnknownBadge.String(), punch.BlockedBadge.String():
		return ui.CueUnknown
	case punch.Misread.String():
		return ui.CueMisread
	case punch.Enrolment.String():
		if r.Reason == device.FaultEnrolled {
			return ui.CueEnrolled
		}
		return ui.CueEnrolNext
	default:
		return ui.CueNotStored
	}
}

// show adds the screen where it is another one than before.
func (s *state) show(acts []action, now punch.Stamp) (state, []action) {
	if s.result != nil && now.Uptime >= s.resultEnd {
		s.result = nil
	}
	if s.mine != nil && now.Uptime >= s.mine.end {
		s.mine = nil
	}
	screen := ui.Screen{Why: "person", Result: s.result, Clock: now.Clock.String(), Readers: s.lamps}
	if s.mine != nil {
		screen.Mine = s.mine.ui
	}
	if s.choosing(now) {
		screen.Kind, screen.Why = s.chosen.String(), "chosen"
		screen.Until = s.chosenAt.Wall.Add(s.cfg.KindTimeout).In(s.cfg.Location)
	} else if kind := s.cfg.scheduled(now); kind != 0 {
		screen.Kind, screen.Why = kind.String(), "schedule"
	}
	o := s.shown
	if screen.Kind == o.Kind && screen.Why == o.Why && screen.Result == o.Result && screen.Mine == o.Mine && screen.Clock == o.Clock &&
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
