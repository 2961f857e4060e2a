package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// A punch made while nobody had set the clock gets its time from its boot's, once
// that is known: from the clock (SetBootTime), or from a later punch of the same
// boot whose clock was right. Where that boot never learned the time a person
// decides. What was decided lies beside the record, in the bucket times, under its
// number: a byte 1, eight bytes signed big-endian the time in ms, uvarint when it
// was decided in ms, who decided as text. It is given once and never changes, so
// that whatever is sent again is the same as before.
type decision struct {
	time, at time.Time
	by       string
}

func (d decision) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{1}, uint64(d.time.UnixMilli()))
	b = binary.AppendUvarint(b, uint64(max(0, d.at.UnixMilli())))
	return appendText(b, d.by)
}

func decodeDecision(b []byte) (decision, bool) {
	s := &scan{b: b}
	v := s.byte()
	d := decision{time: time.UnixMilli(int64(binary.BigEndian.Uint64(s.take(8)))).UTC()}
	d.at = time.UnixMilli(int64(s.uvarint())).UTC()
	d.by = s.text()
	return d, v == 1 && !s.bad && len(s.b) == 0
}

// Why a time is not settled.
var (
	// ErrTimeKnown: the punch has its time; there is nothing to decide.
	ErrTimeKnown = errors.New("its time is known")
	// ErrTimeSettled: somebody has decided otherwise, and it may have been sent so.
	ErrTimeSettled = errors.New("its time was decided before and never changes again")
	// ErrTimeBounds: the punches around it say that it cannot be.
	ErrTimeBounds = errors.New("it cannot have been made then")
)

// TimeDecision is a person's word on when a punch was made.
type TimeDecision struct {
	Time  time.Time // kept to the millisecond
	By    string    // who says so, at most 64 bytes
	Boot  bool      // the other punches of that boot that wait for their time follow, by uptime
	Force bool      // even where the punches around it say that it cannot be
}

// SettleTime gives a time to a punch whose own boot never learned it, and puts it
// back to be sent. The original stays, the decision lies beside it and never
// changes; the same one again does no harm. It returns how many punches have
// their time now. Errors: ErrTimeKnown, ErrTimeSettled, ErrTimeBounds, or the
// medium's.
func (o *Outbox) SettleTime(id punch.ID, d TimeDecision) (int, error) {
	dev, seq, err := id.Seq()
	if err != nil {
		return 0, err
	}
	if dev != o.opt.Device {
		return 0, fmt.Errorf("punch %s is of device %q, this is %q", id, dev, o.opt.Device)
	}
	if len(d.By) > maxText {
		return 0, fmt.Errorf("who decides: %d bytes, at most %d", len(d.By), maxText)
	}
	p, err := o.one(seq)
	if err != nil {
		return 0, err
	}
	at := d.Time.Truncate(time.Millisecond).UTC()
	held := o.complete(&p)
	if err := o.learn(&p); err != nil {
		return 0, err
	}
	switch {
	case held != nil:
		return 0, fmt.Errorf("punch %s: this boot may still learn the time, then it follows by itself: %w", id, ErrTimeKnown)
	case p.CorrectedBy != "" && !p.Corrected.Equal(at):
		return 0, fmt.Errorf("punch %s: %s: %w", id, p.Corrected.Format(time.RFC3339), ErrTimeSettled)
	case p.CorrectedBy == "" && !p.Uncertain:
		return 0, fmt.Errorf("punch %s: %w", id, ErrTimeKnown)
	}
	if b := o.bounds(p, &around{}); p.Uncertain && !d.Force && (!b.From.IsZero() && at.Before(b.From) || !b.To.IsZero() && at.After(b.To)) {
		return 0, fmt.Errorf("punch %s at %s: %w: %s", id, d.Time.Format(time.DateTime), ErrTimeBounds, b.Words(d.Time.Location()))
	}
	by := d.By
	if by == "" {
		by = "unknown"
	}
	now := time.Now()
	given := map[uint64]decision{seq: {time: at, at: now, by: by}}
	if d.Boot {
		all, err := o.Parked("")
		if err != nil {
			return 0, err
		}
		for _, q := range all {
			if q.Uncertain && q.Reason == punch.ReasonTimeUncertain && q.Stamp.BootID == p.Stamp.BootID && q.Seq != seq {
				given[q.Seq] = decision{time: at.Add(q.Stamp.Uptime - p.Stamp.Uptime), at: now, by: by}
			}
		}
	}
	return len(given), o.putTimes(given)
}

// putTimes stores decisions and puts back what waits for them, in one commit. A
// decision that is there already stays.
func (o *Outbox) putTimes(given map[uint64]decision) error {
	// Until memory knows it too, no new segment may be begun: it would not carry it.
	if err := o.begin(); err != nil {
		return fmt.Errorf("outbox: settle a time: %w", err)
	}
	defer o.wmu.Unlock()
	changed := map[string]map[uint64]parkedEntry{}
	o.mu.RLock()
	for dest, c := range o.cursors {
		changed[dest] = map[uint64]parkedEntry{}
		for seq := range given {
			if e, ok := c.parked[seq]; ok && !e.again && e.reason == punch.ReasonTimeUncertain {
				e.again = true
				changed[dest][seq] = e
			}
		}
	}
	o.mu.RUnlock()
	err := o.update(func(tx *bolt.Tx) error {
		b, err := ownPage(tx, bktTimes)
		if err != nil {
			return err
		}
		for seq, d := range given {
			if _, ok := getSealed(b, seqKey(seq)); ok {
				continue
			}
			if err := putSealed(b, seqKey(seq), d.encode()); err != nil {
				return err
			}
		}
		for dest, m := range changed {
			if len(m) == 0 {
				continue
			}
			if err := putParked(tx, dest, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("outbox: settle a time: %w", err)
	}
	o.mu.Lock()
	for seq, d := range given {
		if _, ok := o.times[seq]; !ok {
			d.time, d.at = d.time.Truncate(time.Millisecond), d.at.Truncate(time.Millisecond).UTC()
			o.times[seq] = d
		}
	}
	for dest, m := range changed {
		c := o.cursors[dest]
		for seq, e := range m {
			if old, ok := c.parked[seq]; ok && !old.again {
				c.again++
				c.parked[seq] = e
			}
		}
	}
	o.mu.Unlock()
	o.notify()
	return nil
}

// learn finds the time of a past boot in the log: a machine that was cut off right
// after its clock was set has perhaps no more to show for it than the next punch.
func (o *Outbox) learn(p *punch.Punch) error {
	boot := p.Stamp.BootID
	o.mu.RLock()
	head, never := o.head, o.timeless[boot]
	o.mu.RUnlock()
	if never || !p.Uncertain {
		return nil
	}
	var began time.Time
	err := o.each(p.Seq+1, head, func(seq uint64, v []byte) error {
		q, err := parseRecord(o.opt.Device, seq, v)
		switch {
		case err != nil:
			return nil
		case q.Stamp.BootID != boot:
			return errHeld
		case q.Stamp.Clock != punch.Unset:
			began = q.Stamp.Wall.Add(-q.Stamp.Uptime)
			return errHeld
		}
		return nil
	})
	if err != nil && !errors.Is(err, errHeld) {
		return nil // a file that cannot be read now may tell later: then a person puts the punch back
	}
	if began.IsZero() { // and never will: that boot is over
		o.mu.Lock()
		o.timeless[boot] = true
		o.mu.Unlock()
		return nil
	}
	if err := o.SetBootTime(boot, began); err != nil {
		return err
	}
	p.Uncertain = false
	return o.complete(p)
}

// Bounds is what the punches around one say about its time.
type Bounds struct {
	After, Before Neighbour // the nearest whose time is certain; zero where there is none
	From, To      time.Time // it was made neither before nor after; zero where nobody knows
}

// Neighbour is a moment that is certain.
type Neighbour struct {
	ID   punch.ID  // the punch that shows it; "" for the boot that is running
	Time time.Time // of that punch, or at which its boot began
	Boot bool      // which of the two
}

// Words says it for a person, with times at loc.
func (b Bounds) Words(loc *time.Location) string {
	say := func(word string, n Neighbour) string {
		what := ""
		switch {
		case n.ID == "":
			what = "this boot"
		case n.Boot:
			what = "the boot of punch " + string(n.ID)
		default:
			what = "punch " + string(n.ID)
		}
		return fmt.Sprintf("%s %s (%s)", word, what, n.Time.In(loc).Format(time.DateTime))
	}
	switch {
	case b.After.Time.IsZero() && b.Before.Time.IsZero():
		return "no punch around it has a time that is certain"
	case b.After.Time.IsZero():
		return say("before", b.Before)
	case b.Before.Time.IsZero():
		return say("after", b.After)
	}
	return say("after", b.After) + ", " + say("before", b.Before)
}

// around remembers the certain neighbours of a run of punches whose time is not.
type around struct {
	low, high     uint64 // the run lies between; low 0 where none is known yet
	after, before *punch.Punch
}

// bounds finds out what is known about the time of p.
func (o *Outbox) bounds(p punch.Punch, a *around) (b Bounds) {
	if a.high == 0 || p.Seq <= a.low || p.Seq >= a.high {
		*a = o.around(p.Seq)
	}
	slack := func(q *punch.Punch) time.Duration {
		if q.Stamp.Clock == punch.Unset {
			return 0
		}
		return q.Stamp.ErrorBound
	}
	if q := a.after; q != nil {
		b.After = Neighbour{ID: q.ID, Time: q.Time()}
		if b.From = q.Time().Add(-slack(q)); q.Stamp.BootID != p.Stamp.BootID {
			b.From = b.From.Add(p.Stamp.Uptime) // its boot came later
		}
	}
	if q := a.before; q != nil {
		b.Before = Neighbour{ID: q.ID, Time: q.Time()}
		if q.CorrectedBy == "" && q.Stamp.BootID != p.Stamp.BootID {
			b.Before.Time, b.Before.Boot = q.Time().Add(-q.Stamp.Uptime), true
		}
		b.To = b.Before.Time.Add(slack(q))
	} else {
		o.mu.RLock()
		ms, ok := o.boots[o.opt.BootID]
		o.mu.RUnlock()
		if ok && p.Stamp.BootID != o.opt.BootID {
			b.Before = Neighbour{Time: time.UnixMilli(ms).UTC(), Boot: true}
			b.To = b.Before.Time
		}
	}
	return b
}

// around looks for the nearest punches on both sides whose time is certain.
func (o *Outbox) around(seq uint64) (a around) {
	o.mu.RLock()
	first, head := o.firsts[0], o.head
	o.mu.RUnlock()
	certain := func(p *punch.Punch) bool {
		return o.complete(p) == nil && !p.Uncertain
	}
	a.low, a.high = first-1, head+1
	for s := seq - 1; s >= first && s > 0; s-- {
		if p, err := o.one(s); err == nil && certain(&p) {
			a.low, a.after = s, &p
			break
		}
	}
	o.each(seq+1, head, func(s uint64, v []byte) error { // what cannot be read says nothing
		if p, err := parseRecord(o.opt.Device, s, v); err == nil && certain(&p) {
			a.high, a.before = s, &p
			return errHeld
		}
		return nil
	})
	return a
}
