package roster

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// moment and millis are the stored form of a time: 0 is none.
func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// beforeAll is earlier than anybody was hired: a clock that says so has not been set.
var beforeAll = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// covers reports whether a moment is within the time in which the number is p's.
func (p *person) covers(t time.Time) bool {
	return (p.From.IsZero() || !t.Before(p.From)) && (p.To.IsZero() || t.Before(p.To))
}

// works reports whether p may punch.
func (p *person) works(now time.Time, set bool) bool { return p.Active && (!set || p.covers(now)) }

// sinceOf returns from when on a card is p's, 0 for always.
func (p *person) sinceOf(c Cards, b punch.Badge) int64 {
	if p.since == nil {
		return 0
	}
	if i := slices.Index(p.Badges, b); i >= 0 {
		return p.since[i]
	}
	for i, has := range p.Badges {
		if _, ok := c.same(b, has); ok {
			return p.since[i]
		}
	}
	return 0
}

func (p *person) equal(o *person) bool {
	return p == o || compare(p, o) == nil && p.Number == o.Number && slices.Equal(p.since, o.since) && slices.Equal(p.given, o.given) && slices.Equal(p.taken, o.taken) &&
		p.pin.equal(&o.pin)
}

func sameFormer(a, b []person) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].equal(&b[i]) {
			return false
		}
	}
	return true
}

// formerOf returns those who had a number before, the earliest first.
func (s *snapshot) formerOf(number string) []person {
	i, j := sort.Find(len(s.former), func(i int) int { return cmp.Compare(number, s.former[i].Number) })
	if !j {
		return nil
	}
	end := i
	for end < len(s.former) && s.former[end].Number == number {
		end++
	}
	return s.former[i:end]
}

// ByNumberAt finds whose number it was at a moment: the zero moment is one that nobody
// knows. Where only one person has ever had the number, it is that one. Active is as of
// the tap's own time and means nothing. It reads memory only.
func (r *Roster) ByNumberAt(number string, at time.Time) (punch.Employee, bool) {
	s := r.now.Load()
	former := s.formerOf(number)
	i, has := s.numbers[number]
	switch {
	case has && len(former) == 0:
		return s.people[i].Employee, true
	case !has && len(former) == 1:
		return former[0].Employee, true
	case at.IsZero():
		return punch.Employee{}, false
	case has && s.people[i].covers(at):
		return s.people[i].Employee, true
	}
	for i := range former {
		if former[i].covers(at) {
			return former[i].Employee, true
		}
	}
	return punch.Employee{}, false
}

// ByBadgeAt finds the person to whom a tap belongs that was made before the roster knew
// the card: whoever has the card now, if it was not somebody else's at that moment, and
// the person was here. The zero moment is one that nobody knows. It reads memory only.
func (r *Roster) ByBadgeAt(b punch.Badge, at time.Time) (punch.Employee, bool) {
	s := r.now.Load()
	i, ok := s.badges.find(b)
	if !ok {
		return punch.Employee{}, false
	}
	p := s.people[i]
	since := p.sinceOf(r.cards, b)
	switch {
	case at.IsZero():
		ok = p.works(r.clock()) && since == 0 && p.From.IsZero()
	case p.To.IsZero():
		ok = p.Active && p.covers(at) && at.UnixMilli() >= since
	default: // somebody who left, and was here then
		ok = p.covers(at) && at.UnixMilli() >= since
	}
	if !ok {
		return punch.Employee{}, false
	}
	return p.Employee, true
}

// Former returns everybody who had a number before, sorted by number and time. The slice
// is the caller's, the Badges in it must not be changed.
func (r *Roster) Former() []punch.Employee {
	s := r.now.Load()
	all := make([]punch.Employee, len(s.former))
	for i, p := range s.former {
		all[i] = p.Employee
	}
	return all
}

// samePerson reports whether a row goes on with p, who has the number or had it last.
func samePerson(p *person, row *Row) bool {
	switch {
	case !row.From.IsZero() && row.From.Equal(p.From):
		return true
	case !row.From.IsZero() && !p.To.IsZero() && !row.From.Before(p.To):
		return false // begins when this one has ended
	case row.Name == p.Name, row.Name == "", p.Name == "" && !p.forgotten():
		return true
	case !row.From.IsZero() && !p.From.IsZero(): // another name, another beginning
		return false
	}
	return row.FeishuID != "" && row.FeishuID == p.FeishuID || row.SigninID != "" && row.SigninID == p.SigninID ||
		slices.ContainsFunc(row.Badges, func(b punch.Badge) bool { return slices.Contains(p.Badges, b) })
}

// forgotten reports whether nothing but a number and its time is left.
func (p *person) forgotten() bool {
	return p.Name == "" && p.Badges == nil && p.FeishuID == "" && p.SigninID == "" && !p.To.IsZero() && !p.Active
}

// after is the roster that rows make of old, and what is different in it.
func (r *Roster) after(old *snapshot, rows []*Row, file bool, never ...punch.Badge) (*snapshot, Diff, error) {
	now, _ := r.clock()
	now = now.Truncate(time.Millisecond).UTC()
	var rest *queue.Pace
	if file { // nobody waits for it
		rest = new(queue.Pace)
	}
	latest, earlier, err := byNumber(rows, rest)
	if err != nil {
		return nil, Diff{}, err
	}
	former := map[string][]person{} // of numbers that are touched
	formerOf := func(number string) []person {
		if f, ok := former[number]; ok {
			return f
		}
		return slices.Clone(old.formerOf(number))
	}
	var passed []string
	people := make([]*person, 0, len(latest))
	type origin struct {
		prev *person
		same bool
		has  bool // prev has the number now
	}
	origins := make([]origin, 0, len(latest))
	listed := newIndex(r.cards, 0) // cards that a file gives to somebody; made where anybody has one of ours
	for i, row := range latest {
		rest.Step(i)
		row.From, row.To = row.From.UTC(), row.To.UTC()
		var prev *person
		if i, has := old.numbers[row.Number]; has {
			prev = old.people[i]
		}
		has := prev != nil
		f := formerOf(row.Number)
		if !has && len(f) > 0 {
			prev = &f[len(f)-1]
		}
		same := prev != nil && samePerson(prev, row)
		p := person{Employee: row.Employee}
		switch {
		case same && row.From.IsZero():
			p.From = prev.From
		case prev != nil && !same:
			passed = append(passed, row.Number)
			if row.From.IsZero() {
				if now.Before(beforeAll) {
					return nil, Diff{}, fmt.Errorf("employee number %s is another person's now, and the clock is not set: give the day in valid_from, or set the clock", row.Number)
				}
				p.From = now
			}
		}
		switch {
		case same && !row.SetPIN:
			p.pin = prev.pin
		case row.PIN == "" || !row.SetPIN: // no PIN, or none any more
		case same && prev.pin.is(old.meta.PINKey, row.PIN):
			p.pin = prev.pin // the same one: a repeated import changes nothing
		default:
			p.pin = newPIN(old.meta.PINKey, row.PIN)
		}
		switch {
		case has && !same:
			gone := *prev
			gone.end(p.From)
			f = append(f, gone)
		case !has && same: // back again
			f = f[:len(f)-1]
		}
		for i := range f {
			if !p.From.IsZero() && f[i].To.After(p.From) {
				f[i].To = p.From
			}
		}
		if prev != nil && !(has && same) || len(f) > 0 {
			former[row.Number] = f
		}
		origins = append(origins, origin{prev, same, has})
		if same && has && prev.given == nil && prev.taken == nil && compare(&p, prev) == nil {
			people = append(people, prev) // neither compared nor collected again, and the file's text is let go
			continue
		}
		if same {
			p.hands(r.cards, prev, file)
		} else if !file {
			p.given = slices.Clone(p.Badges)
		}
		fresh := p
		people = append(people, &fresh)
	}
	if file && slices.ContainsFunc(origins, func(o origin) bool { return o.same && o.prev.given != nil }) {
		for i := range people {
			rest.Step(i)
			for _, b := range people[i].Badges {
				listed.add(int32(i), b)
			}
		}
	}
	for i := range people {
		rest.Step(i)
		p, o := people[i], origins[i]
		if p == o.prev {
			continue
		}
		if file && o.same {
			for _, b := range o.prev.given {
				if !listed.has(b) {
					p.given = append(p.given, b)
					p.Badges = append(slices.Clip(p.Badges), b) // the rows keep theirs
				}
			}
		}
		p.since = r.sinces(old, p, latest[i], o.prev, o.same, now)
		if o.same && o.has && p.equal(o.prev) {
			people[i] = o.prev
		}
	}
	there := 0 // both are sorted
	for i := range old.people {
		rest.Step(i)
		for there < len(latest) && latest[there].Number < old.people[i].Number {
			there++
		}
		if there == len(latest) || latest[there].Number != old.people[i].Number {
			p := *old.people[i]
			p.end(now)
			former[p.Number] = append(formerOf(p.Number), p)
		}
	}
	for _, row := range earlier {
		former[row.Number] = putEarlier(formerOf(row.Number), row)
	}
	m := meta{Generation: old.meta.Generation + 1, People: len(people), PINKey: old.meta.PINKey}
	s, err := newSnapshot(m, people, r.cards, rest)
	if err == nil && len(s.clashes) > 0 {
		err = s.clashError(s.clashes[0])
	}
	if err != nil {
		return nil, Diff{}, err
	}
	s.former, s.notes = old.former, old.notes
	if len(former) > 0 {
		s.former = mergeFormer(old.former, former)
	}
	s.known, s.noted, s.blocked, s.masters = old.known, old.noted, old.blocked, old.masters
	if k := old.known.leaving(old, s, now, never, rest); !maps.EqualFunc(k, old.known, card.equal) {
		s.remember(k, r.cards)
	}
	d := difference(old, s, rest)
	d.Passed = passed
	slices.Sort(d.Passed)
	d.Cards = s.cardsOf(old, passed, rest)
	for _, row := range earlier { // what is told of the past only
		n := row.Number
		if !sameFormer(old.formerOf(n), s.formerOf(n)) && !slices.Contains(d.Added, n) && d.Columns[n] == nil {
			d.Changed = append(d.Changed, n)
			d.Columns[n] = []string{"valid_to"}
			d.Unchanged--
			slices.Sort(d.Changed)
		}
	}
	return s, d, nil
}

// hands finds out which of the cards of p, who was prev until now, are not as a file has
// them. What a file says of a card that was taken here is what it said before, and passed
// over; the cards that were given here are for the caller to add.
func (p *person) hands(c Cards, prev *person, file bool) {
	if file {
		if prev.taken == nil {
			return
		}
		gone := person{Employee: punch.Employee{Badges: prev.taken}}
		p.Badges = slices.DeleteFunc(slices.Clone(p.Badges), func(b punch.Badge) bool {
			taken := gone.holds(c, b)
			if taken {
				p.taken = append(p.taken, b)
			}
			return taken
		})
		return
	}
	ours := person{Employee: punch.Employee{Badges: prev.given}}
	for _, b := range p.Badges {
		if ours.holds(c, b) || !prev.holds(c, b) {
			p.given = append(p.given, b)
		}
	}
	for _, b := range slices.Concat(prev.taken, prev.Badges) {
		if !p.holds(c, b) && !ours.holds(c, b) {
			p.taken = append(p.taken, b)
		}
	}
}

// byNumber gives each number's row, and apart from it the rows of those who had the
// number before.
func byNumber(rows []*Row, rest *queue.Pace) (latest, earlier []*Row, err error) {
	order := slices.Clone(rows)
	n := 0
	slices.SortStableFunc(order, func(a, b *Row) int {
		n++
		rest.Step(n)
		return cmp.Or(cmp.Compare(a.Number, b.Number), a.From.Compare(b.From))
	})
	latest = make([]*Row, 0, len(rows))
	for i, row := range order {
		switch {
		case row.Number == "":
			return nil, nil, errors.New("a person has no employee number")
		case i+1 < len(order) && order[i+1].Number == row.Number:
			if next := order[i+1]; row.To.IsZero() || next.From.IsZero() || next.From.Before(row.To) {
				return nil, nil, fmt.Errorf("employee %s is there twice", row.Number)
			}
			earlier = append(earlier, row)
		default:
			latest = append(latest, row)
		}
	}
	return latest, earlier, nil
}

// end makes p somebody who had the number until t, or until an earlier end.
func (p *person) end(t time.Time) {
	if p.To.IsZero() || p.To.After(t) {
		p.To = t
	}
	p.Active = false
}

// sinces finds out from when on the cards of p are p's.
func (r *Roster) sinces(old *snapshot, p *person, row *Row, prev *person, same bool, now time.Time) []int64 {
	var out []int64
	for i, b := range p.Badges {
		var since int64
		at, held := old.badges.find(b)
		switch {
		case same && prev.holds(r.cards, b):
			since = prev.sinceOf(r.cards, b)
		case held && old.people[at].Number == p.Number: // the card went with the number
			since = millis(p.From)
		case held:
			since = givenOn(row, old.people[at].To, now)
		default:
			if until, was := old.until(b); was {
				since = givenOn(row, until, now)
			}
		}
		if since != 0 && out == nil {
			out = make([]int64, len(p.Badges))
		}
		if out != nil {
			out[i] = since
		}
	}
	return out
}

// givenOn is the moment from which a card is its new owner's that was another's until
// then: what HR says, where that comes after the other's end, or now.
func givenOn(row *Row, until, now time.Time) int64 {
	if !row.From.IsZero() && !until.IsZero() && !row.From.Before(until) {
		return millis(row.From)
	}
	return millis(now)
}

func (p *person) holds(c Cards, b punch.Badge) bool {
	if slices.Contains(p.Badges, b) {
		return true
	}
	for _, has := range p.Badges {
		if _, ok := c.same(b, has); ok {
			return true
		}
	}
	return false
}

// putEarlier takes what an import says of somebody who had a number before.
func putEarlier(f []person, row *Row) []person {
	p := person{Employee: row.Employee}
	p.From, p.To, p.Active = row.From.UTC(), row.To.UTC(), false
	i := slices.IndexFunc(f, func(o person) bool { return o.From.Equal(p.From) || o.Name == p.Name && o.Name != "" })
	if i < 0 {
		return append(f, p)
	}
	if len(p.Badges) == len(f[i].Badges) {
		p.since = f[i].since
	}
	f[i] = p
	return f
}

// mergeFormer puts the numbers of changed in the place of what they were.
func mergeFormer(old []person, changed map[string][]person) []person {
	out := make([]person, 0, len(old)+len(changed))
	for _, p := range old {
		if _, ok := changed[p.Number]; !ok {
			out = append(out, p)
		}
	}
	for _, f := range changed {
		out = append(out, f...)
	}
	slices.SortStableFunc(out, func(a, b person) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), a.From.Compare(b.From), a.To.Compare(b.To))
	})
	return out
}

// putFew writes the people that are different from what the file holds.
func (s *snapshot) putFew(tx *bolt.Tx, put []*person, gone []string) error {
	b := tx.Bucket(peopleBucket)
	for _, number := range gone {
		if err := b.Delete([]byte(number)); err != nil {
			return err
		}
	}
	var seal sealer
	for _, p := range put {
		key := []byte(p.Number)
		if err := b.Put(key, seal.record(key, p)); err != nil {
			return err
		}
	}
	return nil
}

// differs lists the people of s that old has not or has otherwise, and the numbers that
// s has not.
func (s *snapshot) differs(old *snapshot, rest *queue.Pace) (put []*person, gone []string) {
	for i := range s.people {
		rest.Step(i)
		p := s.people[i]
		if j, ok := old.numbers[p.Number]; !ok || !p.equal(old.people[j]) {
			put = append(put, p)
		}
	}
	for i := range old.people {
		if _, ok := s.numbers[old.people[i].Number]; !ok {
			gone = append(gone, old.people[i].Number)
		}
	}
	return put, gone
}

// putFormer writes those who had a number before; the caller knows that they changed.
func putFormer(tx *bolt.Tx, former []person) error {
	if tx.Bucket(formerBucket) != nil {
		if err := tx.DeleteBucket(formerBucket); err != nil {
			return err
		}
	}
	if len(former) == 0 {
		return nil
	}
	b, err := tx.CreateBucket(formerBucket)
	if err != nil {
		return err
	}
	var seal sealer
	for i, n := 0, 0; i < len(former); i++ {
		if n++; i == 0 || former[i-1].Number != former[i].Number {
			n = 0
		}
		key := append([]byte(former[i].Number), 0, byte(n>>8), byte(n))
		if err := b.Put(key, seal.record(key, &former[i])); err != nil {
			return err
		}
	}
	return nil
}

// Forget deletes what is known of a person: name, cards, ids, language and PIN. That
// there was somebody with this number, and from when to when, stays, so that the punches
// of that time never become the next one's. It is whoever has the number at that moment;
// the zero moment is whoever has it now, or had it last. It blocks for the medium, also
// to take the old bytes out of the file. It may be repeated. Errors: ErrNobody, or the
// medium's.
//
// A file that still has the person brings the person back.
func (r *Roster) Forget(number string, at time.Time, by string) (punch.Employee, error) {
	was, err := r.forget(number, at, by)
	if err == nil {
		err = r.rewrite()
	}
	if err != nil {
		return punch.Employee{}, fmt.Errorf("roster: forget: %w", err)
	}
	return was, nil
}

func (r *Roster) forget(number string, at time.Time, by string) (punch.Employee, error) {
	r.write.Lock()
	defer r.write.Unlock()
	if r.db.IsReadOnly() {
		return punch.Employee{}, ErrReadOnly
	}
	old := r.now.Load()
	i, has := old.numbers[number]
	s := old
	if has && (at.IsZero() || old.people[i].covers(at)) {
		rows := old.rows()
		var err error
		if s, _, err = r.after(old, slices.Delete(rows, int(i), int(i)+1), false); err != nil {
			return punch.Employee{}, err
		}
		at = time.Time{} // it is the last of the former ones now
	}
	former := s.formerOf(number)
	n := slices.IndexFunc(former, func(p person) bool { return !at.IsZero() && p.covers(at) })
	if n < 0 && at.IsZero() {
		n = len(former) - 1
	}
	if n < 0 {
		return punch.Employee{}, fmt.Errorf("employee %s: %w", number, ErrNobody)
	}
	was := former[n].Employee
	changed := slices.Clone(former)
	changed[n] = person{Employee: punch.Employee{Number: number, From: was.From, To: was.To}}
	next := *s
	next.meta.Generation = old.meta.Generation + 1
	next.former = mergeFormer(s.former, map[string][]person{number: changed})
	next.note("", number, punch.Audit{Act: punch.ActForget}, by)
	return was, r.keep(&next, old, nil)
}
