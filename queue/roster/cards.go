package roster

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// register is what is remembered of cards, whoever has them. A register is never
// changed once it is part of a snapshot.
type register map[punch.Badge]card

// card is a record of the bucket "cards".
type card struct {
	Until   int64    `json:"until,omitempty"`   // it was last somebody's before this, ms since 1970; 0 for never, or for now
	Blocked int64    `json:"blocked,omitempty"` // since when it is refused; 0: it is not
	Master  bool     `json:"master,omitempty"`  // it opens enrolment, with the PIN below
	PINSalt []byte   `json:"pin_salt,omitempty"`
	PINHash []byte   `json:"pin_argon2id,omitempty"` // as a person's
	PINCost []uint32 `json:"pin_cost,omitempty"`
}

func (c card) empty() bool { return c.Until == 0 && c.Blocked == 0 && !c.Master }

// Errors of Give and Take that a caller decides on.
var (
	// ErrBlocked: the card is blocked; Unblock it first.
	ErrBlocked = errors.New("the card is blocked")
	// ErrTaken: the card is somebody else's, and was not to be moved.
	ErrTaken = errors.New("the card is somebody else's")
	// ErrMaster: the card opens enrolment and is nobody's.
	ErrMaster = errors.New("the card is a master card")
	// ErrNobody: no such employee, or nobody has the card.
	ErrNobody = errors.New("nobody of that description is in the roster")
)

// each calls fn for the records that are readings of a card, and reports whether there
// was any.
func (k register) each(c Cards, b punch.Badge, fn func(punch.Badge, card) bool) bool {
	for has, x := range k {
		if _, same := c.same(b, has); (same || has == b) && fn(has, x) {
			return true
		}
	}
	return false
}

func (k register) clone() register {
	if k == nil {
		return register{}
	}
	return maps.Clone(k)
}

func (k register) set(b punch.Badge, c card) {
	if c.empty() {
		delete(k, b)
	} else {
		k[b] = c
	}
}

// until returns when a card that is nobody's was last somebody's.
func (s *snapshot) until(b punch.Badge) (t time.Time, was bool) {
	if !s.noted.has(b) {
		return t, false
	}
	s.known.each(s.noted.cards, b, func(_ punch.Badge, x card) bool {
		if u := moment(x.Until); x.Until != 0 && u.After(t) {
			t, was = u, true
		}
		return false
	})
	return t, was
}

// leaving notes when cards that were somebody's in old are nobody's in s.
func (k register) leaving(old, s *snapshot, now time.Time, never []punch.Badge, rest *queue.Pace) register {
	out, cloned := k, false
	set := func(b punch.Badge, until int64) {
		x := out[b]
		if x.Until == until {
			return
		}
		if !cloned {
			out, cloned = k.clone(), true
		}
		x.Until = until
		out.set(b, x)
	}
	for i := range old.people {
		rest.Step(i)
		p := old.people[i]
		for j, b := range p.Badges {
			switch {
			case slices.Contains(never, b):
				var since int64 // as before it was theirs
				if p.since != nil {
					since = p.since[j]
				}
				set(b, since)
			case !s.badges.has(b):
				set(b, millis(now))
			case k[b].Until != 0:
				set(b, 0)
			}
		}
	}
	return out
}

// put writes what is different from old, everything where old is nil.
func (k register) put(tx *bolt.Tx, old *snapshot) error {
	var was register
	if old != nil {
		was = old.known
	} else if tx.Bucket(cardsBucket) != nil {
		if err := tx.DeleteBucket(cardsBucket); err != nil {
			return err
		}
	}
	if maps.EqualFunc(was, k, card.equal) {
		return nil
	}
	b, err := tx.CreateBucketIfNotExists(cardsBucket)
	if err != nil {
		return err
	}
	for badge := range was {
		if _, ok := k[badge]; !ok {
			if err := b.Delete([]byte(badge)); err != nil {
				return err
			}
		}
	}
	for badge, c := range k {
		if o, ok := was[badge]; !ok || !o.equal(c) {
			if err := b.Put([]byte(badge), seal([]byte(badge), c)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c card) equal(o card) bool {
	return c.Until == o.Until && c.Blocked == o.Blocked && c.Master == o.Master && slices.Equal(c.PINSalt, o.PINSalt) &&
		slices.Equal(c.PINHash, o.PINHash) && slices.Equal(c.PINCost, o.PINCost)
}

// remember makes k what is remembered of cards.
func (s *snapshot) remember(k register, cards Cards) {
	s.known, s.noted, s.blocked, s.masters = k, newIndex(cards, len(k)), newIndex(cards, 0), newIndex(cards, 0)
	n := int32(0)
	for b, c := range k {
		n++
		s.noted.add(n, b)
		if c.Blocked != 0 {
			s.blocked.add(n, b)
		}
		if c.Master {
			s.masters.add(n, b)
		}
	}
}

// Blocked reports whether a card is refused, in whichever reading. It reads memory only.
func (r *Roster) Blocked(b punch.Badge) bool { return r.now.Load().blocked.has(b) }

// Master reports whether a card opens enrolment. It reads memory only.
func (r *Roster) Master(b punch.Badge) bool { return r.now.Load().masters.has(b) }

// BlockedCards lists the cards that are refused, and since when.
func (r *Roster) BlockedCards() map[punch.Badge]time.Time {
	out := map[punch.Badge]time.Time{}
	for b, c := range r.now.Load().known {
		if c.Blocked != 0 {
			out[b] = moment(c.Blocked)
		}
	}
	return out
}

// Masters lists the cards that open enrolment, sorted.
func (r *Roster) Masters() (out []punch.Badge) {
	for b, c := range r.now.Load().known {
		if c.Master {
			out = append(out, b)
		}
	}
	slices.Sort(out)
	return out
}

// mark changes what is remembered of a card; fn reports whether it changed anything. It
// waits for one write, and not for an import that is under way: a lost card is refused
// from now on. The import takes over what was marked meanwhile; see follow.
func (r *Roster) mark(b punch.Badge, act punch.Act, by string, fn func(k register) bool) (bool, error) {
	marked := func(old *snapshot) *snapshot {
		k := old.known.clone()
		if !fn(k) {
			return nil
		}
		s := *old
		s.meta.Generation++
		s.remember(k, r.cards)
		holder := ""
		if i, ok := s.badges.find(b); ok {
			holder = s.people[i].Number
		}
		s.note(b, holder, punch.Audit{Act: act}, by)
		return &s
	}
	r.commit.Lock()
	readOnly, torn, old := r.db.IsReadOnly(), r.torn, r.now.Load()
	if readOnly || torn {
		r.commit.Unlock()
	}
	switch {
	case readOnly:
		return false, ErrReadOnly
	case torn: // the file is written anew, for which nobody else may be at it
		r.write.Lock()
		defer r.write.Unlock()
		old = r.now.Load()
		s := marked(old)
		if s == nil {
			return false, nil
		}
		return true, r.keep(s, old, nil)
	}
	s := marked(old)
	var err error
	if s != nil {
		err = r.change(s, old, nil, nil)
	}
	r.commit.Unlock()
	if s != nil && err == nil {
		r.wake()
	}
	return s != nil, err
}

// follow takes over what was marked and noted since s was begun with old, and reports
// whether there was anything; now is what is in force. Nobody else changes people
// meanwhile, who are s's. The caller holds commit.
func (s *snapshot) follow(old, now *snapshot, cards Cards) bool {
	if now == old {
		return false
	}
	k := s.known.clone()
	mark := func(b punch.Badge) {
		if x := now.known[b]; !x.equal(old.known[b]) {
			x.Until = k[b].Until // of whose it was, s knows more
			k.set(b, x)
		}
	}
	for b := range old.known {
		mark(b)
	}
	for b := range now.known {
		mark(b)
	}
	s.remember(k, cards)
	s.notes = slices.Concat(notIn(s.notes, notIn(old.notes, now.notes)), notIn(now.notes, old.notes))
	s.meta.Generation = max(s.meta.Generation, now.meta.Generation+1)
	return true
}

// Block refuses a card from now on, whoever has it and whatever an import says, in every
// reading that is the same card to the site. It waits for one write, also in the middle of
// an import. It may be repeated; changed is false where it was blocked already.
func (r *Roster) Block(b punch.Badge, by string) (changed bool, err error) {
	now, _ := r.clock()
	changed, err = r.mark(b, punch.ActBlock, by, func(k register) bool {
		if r.now.Load().blocked.has(b) {
			return false
		}
		c := k[b]
		c.Blocked = max(1, millis(now))
		k[b] = c
		return true
	})
	if err != nil {
		return false, fmt.Errorf("roster: block a card: %w", err)
	}
	return changed, nil
}

// Unblock takes a card that was found again. It may be repeated.
func (r *Roster) Unblock(b punch.Badge, by string) (changed bool, err error) {
	changed, err = r.mark(b, punch.ActUnblock, by, func(k register) bool {
		var was []punch.Badge
		k.each(r.cards, b, func(has punch.Badge, c card) bool {
			if c.Blocked != 0 {
				was = append(was, has)
			}
			return false
		})
		for _, has := range was {
			c := k[has]
			c.Blocked = 0
			k.set(has, c)
		}
		return len(was) > 0
	})
	if err != nil {
		return false, fmt.Errorf("roster: unblock a card: %w", err)
	}
	return changed, nil
}

// SetMaster makes a card that is nobody's one that opens enrolment at the door with this
// PIN, of 4 to 12 digits; with "" it no longer does. It takes the time of an argon2id.
func (r *Roster) SetMaster(b punch.Badge, pin, by string) error {
	if pin != "" && !pinForm.MatchString(pin) {
		return errors.New("the PIN is not 4 to 12 digits")
	}
	old := r.now.Load()
	if _, taken := old.badges.find(b); taken && pin != "" {
		return fmt.Errorf("a master card must be a card of its own: %w", ErrTaken)
	}
	var sealed sealedPIN
	if pin != "" {
		sealed = newPIN(old.meta.PINKey, pin)
		r.checking.Lock()
		sealed.hash, sealed.cost = nowCost.hash(sealed.mac, sealed.salt), nowCost
		r.checking.Unlock()
	}
	_, err := r.mark(b, punch.ActMaster, by, func(k register) bool {
		c := k[b]
		if pin == "" && !c.Master {
			return false
		}
		c.Master = pin != ""
		c.PINSalt, _, c.PINHash, c.PINCost = sealed.stored()
		k.set(b, c)
		return true
	})
	if err != nil {
		return fmt.Errorf("roster: master card: %w", err)
	}
	return nil
}

// CheckMaster reports whether this is the PIN of a master card. It is as slow as
// CheckPIN, and counts no wrong tries either.
func (r *Roster) CheckMaster(b punch.Badge, pin string) bool {
	r.checking.Lock()
	defer r.checking.Unlock()
	s := r.now.Load()
	want, valid := noPIN, false
	s.known.each(r.cards, b, func(_ punch.Badge, c card) bool {
		if !c.Master {
			return false
		}
		p, err := readPIN(stored{PINSalt: c.PINSalt, PINHash: c.PINHash, PINCost: c.PINCost})
		if err == nil && p.hash != nil {
			want, valid = p, true
		}
		return valid
	})
	mac := pinMAC(s.meta.PINKey, want.salt, pin)
	return hmac.Equal(want.hash, want.cost.hash(mac, want.salt)) && valid && pin != ""
}

// rows are the people as an import would give them, to be changed and handed to replace.
func (s *snapshot) rows() []*Row {
	rows := make([]*Row, len(s.people))
	for i, p := range s.people {
		rows[i] = &Row{Employee: p.Employee}
	}
	return rows
}

// Give makes a card an employee's, beside the cards that the employee has. from is whose
// it was, "" for nobody. A card that somebody else uses is taken from there only where
// move is true. Nothing changes where the card is the employee's already. It may be
// repeated.
//
// Errors: ErrNobody, ErrBlocked, ErrTaken, ErrMaster, one about cards that the site's
// readers cannot tell apart, or the medium's.
func (r *Roster) Give(b punch.Badge, number string, move bool, by string) (from string, changed bool, err error) {
	r.write.Lock()
	defer r.write.Unlock()
	s := r.now.Load()
	to, ok := s.numbers[number]
	at, held := s.badges.find(b)
	switch {
	case !ok:
		return "", false, fmt.Errorf("employee %s: %w", number, ErrNobody)
	case s.blocked.has(b):
		return "", false, ErrBlocked
	case s.masters.has(b):
		return "", false, ErrMaster
	case held && at == to:
		return number, false, nil
	case held && !move && s.people[at].works(r.clock()):
		return s.people[at].Number, false, fmt.Errorf("employee %s: %w", s.people[at].Number, ErrTaken)
	}
	rows := s.rows()
	if held {
		from = s.people[at].Number
		rows[at].Badges = r.without(rows[at].Badges, b)
	}
	rows[to].Badges = append(slices.Clone(rows[to].Badges), b)
	act := punch.ActGive
	if held {
		act = punch.ActMove
	}
	_, err = r.replace(rows, false, func(s *snapshot, _ *Diff) error {
		s.note(b, number, punch.Audit{Act: act, From: from}, by)
		return nil
	})
	return from, err == nil, err
}

// Add puts somebody new beside the others, as the next file of HR's will, who finds the
// cards as they were given here. Nothing changes where the number is somebody's, or a
// card is: the error says so.
func (r *Roster) Add(e punch.Employee, by string) error {
	r.write.Lock()
	defer r.write.Unlock()
	s := r.now.Load()
	if _, taken := s.numbers[e.Number]; taken {
		return fmt.Errorf("employee number %s is somebody's already; nothing was changed", e.Number)
	}
	for _, b := range e.Badges {
		switch {
		case s.blocked.has(b):
			return ErrBlocked
		case s.masters.has(b):
			return ErrMaster
		}
	}
	_, err := r.replace(append(s.rows(), &Row{Employee: e}), false, func(x *snapshot, d *Diff) error {
		x.noteImport(s, d, Source{By: by})
		return nil
	})
	return err
}

// Take takes a card from whoever has it. With never it was a mistake that it was ever
// theirs: what was tapped with it may be the next owner's. Errors: ErrNobody, or the
// medium's.
func (r *Roster) Take(b punch.Badge, never bool, by string) (from string, err error) {
	r.write.Lock()
	defer r.write.Unlock()
	s := r.now.Load()
	at, held := s.badges.find(b)
	if !held {
		return "", fmt.Errorf("card: %w", ErrNobody)
	}
	rows := s.rows()
	var undo []punch.Badge
	left := r.without(rows[at].Badges, b)
	if never {
		for _, has := range rows[at].Badges {
			if !slices.Contains(left, has) {
				undo = append(undo, has)
			}
		}
	}
	rows[at].Badges = left
	_, err = r.replace(rows, false, func(x *snapshot, _ *Diff) error {
		x.note(b, "", punch.Audit{Act: punch.ActTake, From: s.people[at].Number}, by)
		return nil
	}, undo...)
	return s.people[at].Number, err
}

// without is a list of cards less every reading of one.
func (r *Roster) without(all []punch.Badge, b punch.Badge) (rest []punch.Badge) {
	for _, has := range all {
		if _, same := r.cards.same(b, has); !same {
			rest = append(rest, has)
		}
	}
	return rest
}
