package roster

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// Note is what the audit chain has to hold of a change. It is kept in the file, by the
// transaction that makes the change, until whoever keeps the chain says that it stands
// there: see [Roster.Notes].
type Note struct {
	Tap      punch.Tap   `json:"tap"` // of the chain's record: one that is appended twice is there once
	Badge    punch.Badge `json:"badge,omitempty"`
	Employee string      `json:"employee,omitempty"`
	Audit    punch.Audit `json:"audit"`
	Sum      []byte      `json:"sum,omitempty"`  // of an import: SHA-256 of the file as it came
	File     bool        `json:"file,omitempty"` // a file did it, and no hand
}

// Source is where a change comes from.
type Source struct {
	By  string // who, or what: at most [punch.MaxAuditBy] bytes are kept
	Sum []byte // SHA-256 of the file, of an import
	// May is asked before anything is changed, with what would be; nil is yes. Its error
	// is the import's.
	May func(Diff) error
}

// NotesOfImport is how many cards and numbers of one import stand in the chain by
// themselves. The rest is counted in the import's own record, and is what the file says
// whose sum that record holds.
const NotesOfImport = 100

// CardChange is a card that is another's than before; From and To are employee numbers,
// "" for nobody.
type CardChange struct {
	Badge punch.Badge `json:"badge"`
	From  string      `json:"from,omitempty"`
	To    string      `json:"to,omitempty"`
}

// Notes returns what the audit chain has to be told still, the oldest first. It may be
// after a start too: the power may have gone between a change and its record.
func (r *Roster) Notes() []Note { return slices.Clone(r.now.Load().notes) }

// Noted says that these stand in the chain. It blocks for the medium.
func (r *Roster) Noted(told []Note) error {
	if len(told) == 0 {
		return nil
	}
	r.commit.Lock()
	defer r.commit.Unlock()
	s := *r.now.Load()
	s.notes = notIn(s.notes, told)
	err := guard(r.path, func() error {
		return r.db.Update(func(tx *bolt.Tx) error { return putNotes(tx, s.notes) })
	})
	if err != nil {
		return fmt.Errorf("roster: notes for the audit chain: %w", err)
	}
	r.now.Store(&s)
	return nil
}

// notIn is a copy of notes without those of others.
func notIn(notes, others []Note) []Note {
	return slices.DeleteFunc(slices.Clone(notes), func(n Note) bool {
		return slices.ContainsFunc(others, func(o Note) bool { return o.Tap == n.Tap })
	})
}

// note adds one. The caller holds write, and puts s in the place of the roster.
func (s *snapshot) note(b punch.Badge, employee string, x punch.Audit, by string) {
	s.noteAll(Note{Badge: b, Employee: employee, Audit: x}, by)
}

func (s *snapshot) noteAll(n Note, by string) {
	s.notes = append(slices.Clip(s.notes), n.by(by))
}

// by gives a note its own tap, and says who did it.
func (n Note) by(who string) Note {
	n.Audit.By = punch.Cut(who, punch.MaxAuditBy)
	rand.Read(n.Tap[:]) // never fails: see crypto/rand
	return n
}

// putNotes writes what is to be told.
func putNotes(tx *bolt.Tx, notes []Note) error {
	b := tx.Bucket(metaBucket)
	if len(notes) == 0 {
		return b.Delete(notesKey)
	}
	return b.Put(notesKey, seal(notesKey, notes))
}

func readNotes(tx *bolt.Tx) (notes []Note, err error) {
	if v := tx.Bucket(metaBucket).Get(notesKey); v != nil {
		err = unseal(notesKey, v, &notes)
	}
	return notes, err
}

// cardsOf lists whose cards are another's in s than in old: of two readings of one card
// that the site's readers take for one, it is one card.
func (s *snapshot) cardsOf(old *snapshot, passed []string, rest *queue.Pace) (out []CardChange) {
	holder := func(in *snapshot, b punch.Badge) string {
		if i, ok := in.badges.find(b); ok {
			return in.people[i].Number
		}
		return ""
	}
	another := make(map[string]bool, len(passed)) // the number is the same, and the person is not
	for _, n := range passed {
		another[n] = true
	}
	// Whoever has the same cards for the same time as before needs no look at each.
	kept := func(p *person, in *snapshot) bool {
		i, ok := in.numbers[p.Number]
		return ok && !another[p.Number] && slices.Equal(p.Badges, in.people[i].Badges) && p.To.Equal(in.people[i].To)
	}
	for i := range old.people {
		rest.Step(i)
		if kept(old.people[i], s) {
			continue
		}
		for _, b := range old.people[i].Badges {
			from, to := holder(old, b), holder(s, b)
			if from != "" && (from != to || another[to]) {
				out = append(out, CardChange{b, from, to})
			}
		}
	}
	for i := range s.people {
		rest.Step(i)
		if kept(s.people[i], old) {
			continue
		}
		for _, b := range s.people[i].Badges {
			if holder(old, b) == "" && holder(s, b) != "" {
				out = append(out, CardChange{b, "", s.people[i].Number})
			}
		}
	}
	return out
}

// noteImport notes what a file has changed: what stands for all of it, then what is about
// one number or one card, as far as there is room; what takes something from somebody
// comes first.
func (s *snapshot) noteImport(old *snapshot, d *Diff, from Source) {
	var kinds [3]int
	rank := func(c CardChange) int {
		switch {
		case c.From != "" && c.To != "":
			return 0
		case c.To == "":
			return 1
		}
		return 2
	}
	for _, c := range d.Cards {
		kinds[rank(c)]++
	}
	notes := make([]Note, len(s.notes), len(s.notes)+1+NotesOfImport)
	copy(notes, s.notes)
	note := func(n Note) {
		n.File = true
		notes = append(notes, n.by(from.By))
	}
	note(Note{Sum: from.Sum, Audit: punch.Audit{Act: punch.ActImport, Detail: fmt.Sprintf("people %d new, %d changed, %d gone, %d numbers passed on; cards %d moved, %d taken, %d given",
		len(d.Added), len(d.Changed), len(d.Removed), len(d.Passed), kinds[0], kinds[1], kinds[2])}})
	room := NotesOfImport
	for _, n := range d.Passed[:min(len(d.Passed), room)] {
		note(Note{Employee: n, Audit: punch.Audit{Act: punch.ActHand}})
		room--
	}
	cards := slices.Clone(d.Cards)
	slices.SortStableFunc(cards, func(a, b CardChange) int { return cmp.Compare(rank(a), rank(b)) })
	for _, c := range cards[:min(len(cards), room)] {
		act := [3]punch.Act{punch.ActMove, punch.ActTake, punch.ActGive}[rank(c)]
		note(Note{Badge: c.Badge, Employee: c.To, Audit: punch.Audit{Act: act, From: c.From}})
	}
	s.notes = notes
}
