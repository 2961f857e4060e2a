package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// A punch by a card that nobody knew gets its person when the roster knows the card,
// once, and before it is sent anywhere: that is a link, see [Outbox.Relink]. A link that
// was wrong can be undone. As long as no far side can have the punch, it is then as if
// there had never been one. After that the archive says both: a record that supersedes
// the wrong one is nobody's again, and waits for the right person.

// ErrNotLinked: the punch has its person from the tap itself, or has none.
var ErrNotLinked = errors.New("the punch did not get its person afterwards")

// linkTimeKey is where the time of a link stands, beside the link.
func linkTimeKey(seq uint64) []byte { return append(seqKey(seq), 't') }

// linkTime is now in milliseconds, 0 where the clock is not set.
func (o *Outbox) linkTime() int64 {
	if o.opt.Now == nil {
		return time.Now().UnixMilli()
	}
	if s := o.opt.Now(); s.Clock != punch.Unset {
		return s.Wall.UnixMilli()
	}
	return 0
}

// hand remembers which linked punches a destination was given: from now on it may have
// sent them, whatever is taken back.
func (o *Outbox) hand(dest string, ps []punch.Punch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range ps {
		if ps[i].Outcome != punch.UnknownBadge || ps[i].Employee == "" {
			continue
		}
		if o.handed[dest] == nil {
			o.handed[dest] = map[uint64]bool{}
		}
		o.handed[dest][ps[i].Seq] = true
	}
}

// Linked lists the punches that got this person afterwards, oldest first.
func (o *Outbox) Linked(employee string) []punch.Punch {
	o.mu.RLock()
	var seqs []uint64
	for seq, e := range o.links {
		if e == employee {
			seqs = append(seqs, seq)
		}
	}
	o.mu.RUnlock()
	slices.Sort(seqs)
	var out []punch.Punch
	for _, seq := range seqs {
		p, err := o.one(seq)
		if err != nil {
			continue // damaged: nobody's
		}
		_ = o.complete(&p)
		out = append(out, p)
	}
	return out
}

// Unlink takes the person from a punch that got one afterwards. The card must not be
// that person's in the roster any more, or the next look gives the punch back to them.
//
// Where no destination can have the punch, it waits again as one by an unknown card,
// and by is nil. Where one has it, or may, the record stays as it is; by is a new record
// of the same tap that supersedes it and is nobody's. What was delivered stays at the
// far side under the wrong name: a person has to take it away there.
//
// Errors: ErrNotLinked, or the medium's.
func (o *Outbox) Unlink(id punch.ID) (by *punch.Punch, err error) {
	dev, seq, err := id.Seq()
	if err != nil {
		return nil, err
	}
	if dev != o.opt.Device {
		return nil, fmt.Errorf("punch %s is of device %q, this is %q", id, dev, o.opt.Device)
	}
	var e Entry
	err = o.Read(context.Background(), seq, func(x Entry) error { e = x; return errHeld })
	switch {
	case err != nil && !errors.Is(err, errHeld):
		return nil, fmt.Errorf("outbox: unlink: %w", err)
	case e.Seq != seq || e.Damaged != nil:
		return nil, fmt.Errorf("outbox: unlink: punch %s is not here, or damaged", id)
	}
	undone, err := o.unlink(e)
	if err != nil || undone {
		return nil, err
	}
	d := punch.Draft{Kind: e.Kind, Badge: e.Badge, Raw: e.Raw, Bits: e.Bits, Reader: e.Reader, Outcome: punch.UnknownBadge, Supersedes: seq, Stamp: e.Stamp}
	rand.Read(d.Tap[:]) // never fails: see crypto/rand
	p, err := o.Append(d)
	if err != nil {
		return nil, err
	}
	o.mu.RLock()
	at, decided := o.times[seq]
	o.mu.RUnlock()
	if decided { // what a person said of the tap's time holds for this record of it
		err = o.putTimes(map[uint64]decision{p.Seq: at})
	}
	return &p, err
}

// unlink undoes a link if no far side can have the punch.
func (o *Outbox) unlink(e Entry) (bool, error) {
	if err := o.begin(); err != nil {
		return false, fmt.Errorf("outbox: unlink: %w", err)
	}
	defer o.wmu.Unlock()
	wait := map[string]map[uint64]parkedEntry{} // parked as of a known person until now
	o.mu.RLock()
	linked := o.links[e.Seq] != ""
	away := false
	for dest, c := range o.cursors {
		old, parked := c.parked[e.Seq]
		switch {
		case parked:
			old.again, old.reason, old.message = false, punch.ReasonUnknownBadge, ""
			wait[dest] = map[uint64]parkedEntry{e.Seq: old}
		case c.pos.has(e.Seq): // skipped ones were never meant to go there
			away = away || e.Deliveries[dest].State != punch.Skipped
		}
		away = away || o.handed[dest][e.Seq] || o.offers.has(dest, e.Seq)
	}
	o.mu.RUnlock()
	if !linked {
		return false, fmt.Errorf("punch %s: %w", e.ID, ErrNotLinked)
	}
	if away {
		return false, nil
	}
	err := o.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bktLinks)
		if err := errorsOf(putSealed(b, seqKey(e.Seq), nil), b.Delete(linkTimeKey(e.Seq))); err != nil {
			return err
		}
		for dest, m := range wait {
			if err := putParked(tx, dest, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("outbox: unlink: %w", err)
	}
	o.mu.Lock()
	delete(o.links, e.Seq)
	delete(o.linked, e.Seq)
	for dest, m := range wait {
		c := o.cursors[dest]
		if c.parked[e.Seq].again {
			c.again--
		}
		maps.Copy(c.parked, m)
	}
	o.mu.Unlock()
	o.notify()
	return true, nil
}
