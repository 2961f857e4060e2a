package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
)

// What a technician or HR does with a card: it is given, moved, taken back, blocked. Each
// change stands in the audit chain beside the punches, with who made it; where the chain
// cannot take it, the change holds all the same and the person is told.

// audit appends an entry to the chain that is not about the roster.
func (a *archive) audit(b punch.Badge, employee string, x punch.Audit) error {
	x.By = punch.Cut(x.By, punch.MaxAuditBy)
	d := punch.Draft{Badge: b, Employee: employee, Outcome: punch.AuditEntry, Audit: x, Stamp: a.stamp()}
	rand.Read(d.Tap[:]) // never fails: see crypto/rand
	if _, err := a.outbox.Append(d); err != nil {
		return fmt.Errorf("it is done, and could not be noted in the audit chain: %w", err)
	}
	return nil
}

// audited tells the chain of what the roster has been changed by.
func (a *archive) audited() error { return audited(a.outbox, a.roster, a.stamp) }

// audited is for whoever changed the roster, and for the start: the power may have gone
// between a change and its record. What a file brings while the chain is empty is how the
// clock was set up, and no change of anything that anybody has done with a card; the chain
// begins with the first tap, or the first thing that a hand does.
func audited(o *queue.Outbox, r *roster.Roster, stamp func() punch.Stamp) error {
	notes := r.Notes()
	var drafts []punch.Draft
	begun := len(notes) > 0 && o.Stats().LastSeq > 0
	for _, n := range notes {
		if begun = begun || !n.File; !begun {
			continue
		}
		drafts = append(drafts, punch.Draft{Tap: n.Tap, Badge: n.Badge, Employee: n.Employee, Raw: n.Sum, Bits: 8 * len(n.Sum), Outcome: punch.AuditEntry, Audit: n.Audit, Stamp: stamp()})
	}
	err := o.AppendAll(drafts)
	if err == nil {
		err = r.Noted(notes)
	}
	if err != nil {
		return fmt.Errorf("it is done, and is noted in the audit chain at the next change or start, for it could not be now: %w", err)
	}
	return nil
}

// given is what came of a card that was given to somebody.
type given struct {
	Employee string `json:"employee_no"`
	Name     string `json:"name"`
	Badge    string `json:"badge"`
	From     string `json:"from,omitempty"` // whose it was
	Changed  bool   `json:"changed"`
	Linked   int    `json:"punches_linked"` // made with the card before anybody knew it
}

// giveCard makes a card an employee's. What was tapped with it before goes out then.
func (a *archive) giveCard(b punch.Badge, number string, move bool, by string) (given, error) {
	out := given{Employee: number, Badge: string(b)}
	from, changed, err := a.roster.Give(b, number, move, by)
	if err != nil {
		out.From = from
		return out, err
	}
	e, _ := a.roster.ByNumber(number)
	out.Name, out.Changed = e.Name, changed
	if !changed {
		return out, nil
	}
	out.From = from
	err = a.audited()
	_, rerr := a.outbox.Relink() // or whoever else has heard of the change
	out.Linked = a.linked(number, b)
	return out, errors.Join(err, rerr)
}

// linked counts the punches that somebody got afterwards for a card.
func (a *archive) linked(number string, b punch.Badge) (n int) {
	same := roster.Cards{Same: a.cfg.Badge.SameCard}
	for _, p := range a.outbox.Linked(number) {
		if same.One(b, p.Badge) {
			n++
		}
	}
	return n
}

// takeCard takes a card from whoever has it.
func (a *archive) takeCard(b punch.Badge, by string) (from string, err error) {
	if from, err = a.roster.Take(b, false, by); err != nil {
		return "", err
	}
	return from, a.audited()
}

// blockCard refuses a card from this moment on.
func (a *archive) blockCard(b punch.Badge, by string) (changed bool, err error) {
	if changed, err = a.roster.Block(b, by); err != nil || !changed {
		return changed, err
	}
	return true, a.audited()
}

// unblockCard takes one again that was found.
func (a *archive) unblockCard(b punch.Badge, by string) (changed bool, err error) {
	if changed, err = a.roster.Unblock(b, by); err != nil || !changed {
		return changed, err
	}
	return true, a.audited()
}

// holder is whose card it is, "" for nobody's.
func (a *archive) holder(b punch.Badge) string {
	if o := a.roster.Owners(b, a.cfg.Badge.SameCard); len(o) == 1 {
		return o[0].Employee.Number
	}
	return ""
}

// unlinked is what came of taking back that a card was ever somebody's.
type unlinked struct {
	From       string   `json:"from"`
	Undone     []string `json:"undone"`     // wait for the right person again
	Superseded []string `json:"superseded"` // some far side has them, or may, under the wrong name
}

// unlinkCard takes a card from its owner as a mistake: the punches that were made with
// it before anybody knew it are nobody's again. Those that a far side has are superseded.
func (a *archive) unlinkCard(b punch.Badge, by string) (unlinked, error) {
	out := unlinked{Undone: []string{}, Superseded: []string{}}
	from, err := a.roster.Take(b, true, by)
	if err != nil {
		return out, err
	}
	out.From = from
	errs := []error{a.audited()}
	same := roster.Cards{Same: a.cfg.Badge.SameCard}
	for _, p := range a.outbox.Linked(from) {
		if !same.One(b, p.Badge) {
			continue
		}
		correction, err := a.outbox.Unlink(p.ID)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case correction == nil:
			out.Undone = append(out.Undone, string(p.ID))
		default:
			out.Superseded = append(out.Superseded, string(p.ID))
		}
		errs = append(errs, a.audit(p.Badge, "", punch.Audit{Act: punch.ActUnlink, From: from, By: by, Seq: p.Seq}))
	}
	return out, errors.Join(errs...)
}

// stranger is a card that nobody knows and that was tapped lately.
type stranger struct {
	Badge   string    `json:"badge"`
	Times   int       `json:"times"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Readers []string  `json:"readers"`
}

// strangersLook is how many of the newest records are looked at for unknown cards.
const strangersLook = 4096

// strangers lists the unknown cards that were tapped lately, the latest first.
func (a *archive) strangers() ([]stranger, error) {
	all := []stranger{}
	if a.outbox == nil {
		return all, nil
	}
	recent, err := a.outbox.Tail(strangersLook)
	if err != nil {
		return nil, err
	}
	at := map[punch.Badge]int{}
	for _, p := range recent {
		if p.Outcome != punch.UnknownBadge || p.Employee != "" || p.Badge == "" {
			continue
		}
		if a.roster != nil {
			if len(a.roster.Owners(p.Badge, a.cfg.Badge.SameCard)) > 0 || a.roster.Blocked(p.Badge) || a.roster.Master(p.Badge) {
				continue
			}
		}
		i, known := at[p.Badge]
		if !known {
			i = len(all)
			at[p.Badge] = i
			all = append(all, stranger{Badge: string(p.Badge), First: p.Time().In(a.cfg.Device.Timezone)})
		}
		all[i].Times++
		all[i].Last = p.Time().In(a.cfg.Device.Timezone)
		if !slices.Contains(all[i].Readers, p.Reader) {
			all[i].Readers = append(all[i].Readers, p.Reader)
		}
	}
	slices.SortStableFunc(all, func(x, y stranger) int { return y.Last.Compare(x.Last) })
	return all, nil
}

// findPeople lists who has these words in number or name, those who work here first.
func (a *archive) findPeople(words string, most int) (found []punch.Employee) {
	words = strings.ToLower(strings.TrimSpace(words))
	if a.roster == nil || words == "" {
		return nil
	}
	var left []punch.Employee
	for _, e := range a.roster.All() {
		if !strings.Contains(strings.ToLower(e.Number), words) && !strings.Contains(strings.ToLower(e.Name), words) {
			continue
		}
		if e, _ = a.roster.ByNumber(e.Number); e.Active {
			found = append(found, e)
		} else {
			left = append(left, e)
		}
	}
	found = append(found, left...)
	return found[:min(len(found), most)]
}
