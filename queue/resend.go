package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// reasonResend is why a delivered punch is pending again, until it is settled.
const reasonResend = "resend"

// Resend opens the given punches again at dest where they count as delivered: the
// far side does not show them. They are sent in their old place under their old id,
// and survive a restart as parked punches that were put back do. The receipts of
// before stay on the medium; the next one is marked as resent, because the far side
// may hold the punch after all. What is pending, parked or skipped stays as it is.
// It returns how many were opened, and may be repeated.
func (o *Outbox) Resend(dest string, ids ...punch.ID) (int, error) {
	var seqs []uint64
	o.mu.RLock()
	_, ok := o.cursors[dest]
	head := o.head
	o.mu.RUnlock()
	if !ok {
		return 0, fmt.Errorf("outbox: %q: %w", dest, ErrNoDestination)
	}
	for _, id := range ids {
		_, seq, err := id.Seq()
		if err != nil || seq == 0 || seq > head || id != punch.NewID(o.opt.Device, seq) {
			return 0, fmt.Errorf("outbox: resend to %s: punch %q is not one of ours", dest, id)
		}
		seqs = append(seqs, seq)
	}
	if len(seqs) == 0 {
		return 0, nil
	}
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	open := map[uint64]parkedEntry{}
	err := o.Read(context.Background(), seqs[0], func(e Entry) error {
		if len(seqs) == 0 {
			return errHeld
		}
		if e.Seq < seqs[0] {
			return nil
		}
		if e.Seq > seqs[0] {
			return fmt.Errorf("punch number %d is not here", seqs[0])
		}
		seqs = seqs[1:]
		if r := e.Deliveries[dest]; e.Damaged == nil && r.State == punch.Delivered {
			open[e.Seq] = parkedEntry{again: true, resent: true, first: r.At, last: r.At, tries: r.Attempts, reason: reasonResend}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errHeld) {
		return 0, fmt.Errorf("outbox: resend to %s: %w", dest, err)
	}
	if len(open) == 0 {
		return 0, nil
	}
	// Until memory knows it too, no new segment may be begun: it would not carry it.
	if err := o.begin(); err != nil {
		return 0, fmt.Errorf("outbox: resend to %s: %w", dest, err)
	}
	defer o.wmu.Unlock()
	if err := o.update(func(tx *bolt.Tx) error { return putParked(tx, dest, open) }); err != nil {
		return 0, fmt.Errorf("outbox: resend to %s: %w", dest, err)
	}
	n := 0
	o.mu.Lock()
	c := o.cursors[dest]
	for seq, e := range open {
		if _, there := c.parked[seq]; !there { // two may have asked at once
			c.parked[seq] = e
			c.again++
			n++
		}
	}
	o.mu.Unlock()
	o.notify()
	return n, nil
}
