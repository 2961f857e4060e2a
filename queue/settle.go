package queue

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// Settle makes the verdicts of one batch durable in one commit: receipts, parked
// punches and the position. It may be repeated; what is settled already stays.
// Keep changes nothing.
func (o *Outbox) Settle(dest string, verdicts []punch.Verdict) error {
	if err := o.begin(); err != nil {
		return fmt.Errorf("outbox: settle %s: %w", dest, err)
	}
	defer o.wmu.Unlock()
	now := time.Now()
	o.mu.RLock()
	c, ok := o.cursors[dest]
	if !ok {
		o.mu.RUnlock()
		return fmt.Errorf("outbox: %q: %w", dest, ErrNoDestination)
	}
	pos, head := c.pos.clone(), o.head
	park := map[uint64]parkedEntry{}
	var unpark []uint64
	var groups []receiptGroup
	done := map[uint64]bool{}
	for _, v := range verdicts {
		_, seq, err := v.ID.Seq()
		if err != nil || seq == 0 || seq > head || v.ID != punch.NewID(o.opt.Device, seq) {
			o.mu.RUnlock()
			return fmt.Errorf("outbox: settle %s: punch %q is not one of ours", dest, v.ID)
		}
		old, parked := c.parked[seq]
		if v.Fate == punch.Keep || done[seq] || (pos.has(seq) && !(parked && old.again)) {
			continue
		}
		if _, decided := o.times[seq]; decided && v.Fate == punch.Refuse && v.Reason == punch.ReasonTimeUncertain {
			continue // a person was quicker than this verdict
		}
		done[seq] = true
		g := receiptGroup{first: seq, last: seq, Receipt: punch.Receipt{Attempts: v.Attempts + old.tries, Resent: v.Resent || old.resent,
			Receipt: v.Receipt, Reason: v.Reason, Message: v.Message, At: now}}
		switch v.Fate {
		case punch.Accept:
			g.State = punch.Delivered
		case punch.Skip:
			g.State = punch.Skipped
		case punch.Refuse:
			g.State = punch.Parked
			e := parkedEntry{first: now, last: now, tries: g.Attempts, resent: g.Resent, reason: v.Reason, message: v.Message}
			if parked {
				e.first = old.first
			}
			park[seq] = e
		}
		if parked && v.Fate != punch.Refuse {
			unpark = append(unpark, seq)
		}
		pos.settle(seq)
		groups = append(groups, g)
	}
	o.mu.RUnlock()
	if len(groups) == 0 {
		return nil
	}
	groups = joinGroups(groups)
	err := o.update(func(tx *bolt.Tx) error {
		if err := putSealed(tx.Bucket(bktPos), []byte(dest), pos.encode()); err != nil {
			return err
		}
		if len(park) > 0 {
			if err := putParked(tx, dest, park); err != nil {
				return err
			}
		}
		if b := tx.Bucket(bktParked(dest)); b != nil {
			for _, seq := range unpark {
				if err := b.Delete(seqKey(seq)); err != nil {
					return err
				}
			}
		}
		return putReceipts(tx, dest, groups)
	})
	if err != nil {
		return fmt.Errorf("outbox: settle %s: %w", dest, err)
	}
	o.mu.Lock()
	for _, g := range groups {
		for seq := g.first; seq <= g.last; seq++ {
			c.pos.settle(seq)
			o.offers.settled(dest, seq)
			delete(o.handed[dest], seq)
		}
	}
	for _, seq := range unpark {
		if c.parked[seq].again {
			c.again--
		}
		delete(c.parked, seq)
	}
	for seq, e := range park {
		if c.parked[seq].again {
			c.again--
		}
		c.parked[seq] = e
	}
	o.mu.Unlock()
	o.notify()
	return nil
}

// Retry puts parked punches back, to be sent again in their old place: those of
// dest, or of every destination if dest is ""; the given ones, or all. It returns
// how many were put back.
func (o *Outbox) Retry(dest string, ids ...punch.ID) (int, error) {
	want := map[uint64]bool{}
	for _, id := range ids {
		dev, seq, err := id.Seq()
		if err != nil {
			return 0, err
		}
		if dev != o.opt.Device {
			return 0, fmt.Errorf("punch %s is of device %q, this is %q", id, dev, o.opt.Device)
		}
		want[seq] = true
	}
	again := map[string][]uint64{}
	n := 0
	o.mu.RLock()
	if _, ok := o.cursors[dest]; !ok && dest != "" {
		names := slices.Sorted(maps.Keys(o.cursors))
		o.mu.RUnlock()
		return 0, fmt.Errorf("%q: %w: there is %q", dest, ErrNoDestination, names)
	}
	for name, c := range o.cursors {
		if dest != "" && name != dest {
			continue
		}
		for seq, e := range c.parked {
			if !e.again && (len(ids) == 0 || want[seq]) {
				again[name] = append(again[name], seq)
				n++
			}
		}
	}
	o.mu.RUnlock()
	if n == 0 {
		return 0, nil
	}
	return n, o.putLinks(nil, again)
}

// link finds the person behind an unknown badge that the roster knows by now, and
// makes the finding durable before it is sent anywhere: it never changes after.
func (o *Outbox) link(ps []punch.Punch) error {
	found := map[uint64]string{}
	for i := range ps {
		p := &ps[i]
		if p.Employee == "" && p.Badge != "" && p.Outcome == punch.UnknownBadge {
			if e, ok := o.opt.Who(p.Badge, p.Decided()); ok {
				found[p.Seq] = e
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	if err := o.putLinks(found, nil); err != nil {
		return err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	for i := range ps {
		if e := o.links[ps[i].Seq]; ps[i].Employee == "" && e != "" {
			ps[i].Employee = e
			if ms, ok := o.linked[ps[i].Seq]; ok {
				ps[i].Linked = time.UnixMilli(ms).UTC()
			}
		}
	}
	return nil
}

// putLinks stores links, and puts the given parked punches back, in one commit.
// A link that is there already stays.
func (o *Outbox) putLinks(found map[uint64]string, again map[string][]uint64) error {
	if err := o.begin(); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	defer o.wmu.Unlock()
	changed := map[string]map[uint64]parkedEntry{}
	now := o.linkTime()
	o.mu.RLock()
	for dest, seqs := range again {
		changed[dest] = map[uint64]parkedEntry{}
		for _, seq := range seqs {
			if e, ok := o.cursors[dest].parked[seq]; ok && !e.again {
				e.again = true
				changed[dest][seq] = e
			}
		}
	}
	o.mu.RUnlock()
	err := o.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bktLinks)
		for seq, e := range found {
			if v, ok := getSealed(b, seqKey(seq)); ok && len(v) > 0 {
				continue
			}
			if err := putSealed(b, seqKey(seq), []byte(e)); err != nil {
				return err
			}
			if now != 0 {
				if err := putSealed(b, linkTimeKey(seq), binary.BigEndian.AppendUint64(nil, uint64(now))); err != nil {
					return err
				}
			}
		}
		for dest, m := range changed {
			if err := putParked(tx, dest, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	o.mu.Lock()
	for seq, e := range found {
		if _, ok := o.links[seq]; !ok {
			o.links[seq] = e
			if now != 0 {
				o.linked[seq] = now
			}
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

func putParked(tx *bolt.Tx, dest string, m map[uint64]parkedEntry) error {
	b, err := ownPage(tx, bktParked(dest))
	if err != nil {
		return err
	}
	for seq, e := range m {
		if err := putSealed(b, seqKey(seq), e.encode()); err != nil {
			return err
		}
	}
	return nil
}

// Relink looks at every punch that is parked for an unknown badge, and puts back
// those whose badge the roster knows by now. Call it when the roster has changed.
// It returns how many punches got a person.
func (o *Outbox) Relink() (int, error) {
	o.mu.RLock()
	ask := map[uint64]bool{}
	again := map[string][]uint64{}
	for _, c := range o.cursors {
		for seq, e := range c.parked {
			if e.reason == punch.ReasonUnknownBadge && !e.again {
				ask[seq] = true
			}
		}
	}
	o.mu.RUnlock()
	if len(ask) == 0 {
		return 0, nil
	}
	found := map[uint64]string{}
	for seq := range ask {
		p, err := o.one(seq)
		if err != nil {
			continue
		}
		_ = o.complete(&p) // a person, if it is linked; and when it was
		e, ok := p.Employee, p.Employee != ""
		if !ok {
			e, ok = o.opt.Who(p.Badge, p.Decided())
		}
		if ok {
			found[seq] = e
		}
	}
	if len(found) == 0 {
		return 0, nil
	}
	o.mu.RLock()
	for dest, c := range o.cursors {
		for seq := range found {
			if e, ok := c.parked[seq]; ok && e.reason == punch.ReasonUnknownBadge {
				again[dest] = append(again[dest], seq)
			}
		}
	}
	o.mu.RUnlock()
	return len(found), o.putLinks(found, again)
}
