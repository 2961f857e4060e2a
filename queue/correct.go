package queue

import (
	"encoding/binary"
	"sync"

	"punchclock/queue/punch"
)

// A correction is a record of its own that names the one it supersedes, see
// extSupersedes. The other way round is written nowhere: who hands out a punch to be
// sent looks at the records behind it, each of them once. Only what is still to be sent
// is looked at, so that opening an archive costs nothing.
type corrections struct {
	mu       sync.Mutex
	from, to uint64            // the records looked at; none while to is 0
	by       map[uint64]uint64 // what they supersede, by the newest
}

// lookAhead is how many records behind a parked punch are looked at. A kind is
// corrected within a minute or two, in which nobody can make so many.
const lookAhead = 4096

// corrected sets SupersededBy where a later record corrects a punch.
func (o *Outbox) corrected(out []punch.Punch) error {
	if len(out) == 0 {
		return nil
	}
	o.mu.RLock()
	head := o.head
	o.mu.RUnlock()
	c := &o.fixes
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[uint64]uint64{}
	}
	// Punches that were put back come first, and may be years old.
	newest := out[len(out)-1].Seq
	for i := range out {
		p := &out[i]
		switch {
		case c.to != 0 && p.Seq >= c.from: // known, up to c.to
		case p.Seq+lookAhead < newest || c.to != 0 && p.Seq+lookAhead < c.from:
			var by uint64
			err := o.each(p.Seq+1, min(head, p.Seq+lookAhead), func(seq uint64, v []byte) error {
				if o.correction(seq, v) == p.Seq {
					by = seq
				}
				return nil
			})
			if err != nil {
				return err
			}
			p.SupersededBy = by
			continue
		case c.to == 0:
			c.from, c.to = p.Seq, p.Seq
		default: // a little before: join it
			if err := c.look(o, p.Seq, c.from-1); err != nil {
				return err
			}
			c.from = p.Seq
		}
		if c.to < head {
			if err := c.look(o, c.to+1, head); err != nil {
				return err
			}
			c.to = head
		}
		p.SupersededBy = c.by[p.Seq]
	}
	return nil
}

// look notes what the records from..to supersede.
func (c *corrections) look(o *Outbox, from, to uint64) error {
	return o.each(from, to, func(seq uint64, v []byte) error {
		if old := o.correction(seq, v); old != 0 {
			c.by[old] = max(c.by[old], seq)
		}
		return nil
	})
}

// correction returns the number of the record that a whole one corrects, 0 for none. A
// damaged one corrects nothing: it would keep another punch from being sent.
func (o *Outbox) correction(seq uint64, value []byte) uint64 {
	old := supersedes(value)
	if old == 0 || old >= seq {
		return 0
	}
	if _, err := parseRecord(o.opt.Device, seq, value); err != nil {
		return 0
	}
	return old
}

// supersedes returns the number of the record that a stored one seems to correct, 0
// for none. It is quick, and checks no checksum.
func supersedes(value []byte) uint64 {
	if len(value) < 5 || value[0] != recordVersion {
		return 0
	}
	r := &scan{b: value[2 : len(value)-4]}
	r.text()   // kind
	r.take(8)  // wall
	r.take(16) // boot id
	r.uvarint()
	r.uvarint()
	r.take(8) // tap
	r.text()  // badge
	r.uvarint()
	for range 3 { // raw, employee, reader
		r.text()
	}
	r.take(32) // previous hash
	for !r.bad {
		tag := r.byte()
		if tag == 0 {
			break
		}
		v := r.text()
		if tag == extSupersedes && !r.bad {
			old, _ := binary.Uvarint([]byte(v))
			return old
		}
	}
	return 0
}
