package main

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/ui/text"
	"punchclock/ui/web"
)

// peopleSection finds people of the roster and learns their cards.
func (r *adminRoom) peopleSection() web.Section {
	return web.Section{Name: "people", Title: "people", Show: r.showPeople, Within: tapWithin,
		Do: map[string]func(context.Context, web.Ask) (web.Answer, error){"learn": r.learnCard, "give": r.giveCard, "portrait": r.dropPortrait}}
}

const peopleShown = 50

func (r *adminRoom) showPeople(_ context.Context, ask web.Ask) ([]web.Block, error) {
	say := ask.Say
	q := strings.TrimSpace(ask.Form.Get("q"))
	search := web.Block{Title: say.Office("people"), Form: &web.Form{Submit: say.Office("search"), Fields: []web.Field{{Name: "q", Type: "search", Label: say.Office("search.what"), Value: q}}}}
	if e, ok := r.h.roster.ByNumber(ask.Form.Get("who")); ok {
		blocks := []web.Block{r.personBlock(say, e)}
		if _, ok := r.a.portraits.has(e); ok {
			blocks = append(blocks, web.Block{Title: say.Office("portrait"), Form: &web.Form{Do: "portrait", Submit: say.Office("portrait.drop"), Ask: say.Office("portrait.ask"),
				Fields: []web.Field{{Name: "who", Type: "hidden", Value: e.Number}}}})
		}
		return append(blocks, search), nil
	}
	if q == "" {
		search.Words = []string{say.Office("people.count", r.h.roster.Len())}
		return []web.Block{search}, nil
	}
	t := &web.Table{Head: personHead(say), Empty: say.Office("people.none")}
	found := 0
	for _, e := range r.h.roster.All() {
		if !fits(e, q) {
			continue
		}
		if found++; found <= peopleShown {
			t.Rows = append(t.Rows, personRow(say, e))
		}
	}
	search.Table = t
	if found > peopleShown {
		search.Words = []string{say.Office("more", peopleShown, found)}
	}
	return []web.Block{search}, nil
}

// fits reports whether a person is looked for: a part of number or name, or a card.
func fits(e punch.Employee, q string) bool {
	low := strings.ToLower(q)
	if strings.Contains(strings.ToLower(e.Number), low) || strings.Contains(strings.ToLower(e.Name), low) {
		return true
	}
	card, err := roster.CardOf(q)
	for _, b := range e.Badges {
		if err == nil && b == card || len(low) > 3 && strings.Contains(strings.ToLower(string(b)), low) {
			return true
		}
	}
	return false
}

func personHead(say text.Catalog) []string {
	return []string{say.Column("employee_no"), say.Office("name"), say.Office("cards"), say.Office("state")}
}

func personRow(say text.Catalog, e punch.Employee) web.Row {
	cards := make([]string, len(e.Badges))
	for i, b := range e.Badges {
		cards[i] = string(b)
	}
	mark, state := "ok", say.Office("active")
	if !e.Active {
		mark, state = "wait", say.Office("left")
	}
	return web.Row{Mark: mark, Cells: []string{e.Number, dash(e.Name), dash(strings.Join(cards, ", ")), state}, Link: url.Values{"who": {e.Number}}}
}

func (r *adminRoom) personBlock(say text.Catalog, e punch.Employee) web.Block {
	return web.Block{Title: strings.TrimSpace(e.Number + " " + e.Name), Words: []string{say.Office("learn.words")},
		Table: &web.Table{Head: personHead(say), Rows: []web.Row{personRow(say, e)}},
		Form:  r.tapForm(say, "learn", "learn", web.Field{Name: "who", Type: "hidden", Value: e.Number})}
}

// dropPortrait deletes a person's portrait.
func (r *adminRoom) dropPortrait(_ context.Context, ask web.Ask) (web.Answer, error) {
	who := ask.Form.Get("who")
	out := web.Answer{Query: url.Values{"who": {who}}}
	if _, err := r.a.removePortrait(who); err != nil {
		return out, err
	}
	r.h.log.Info("a portrait was deleted on the admin page", "employee", who)
	out.Mark, out.Words = "ok", ask.Say.Office("portrait.gone")
	return out, nil
}

// learnCard reads the next card for a person, and asks before it changes anything.
func (r *adminRoom) learnCard(ctx context.Context, ask web.Ask) (web.Answer, error) {
	say := ask.Say
	who := ask.Form.Get("who")
	e, ok := r.h.roster.ByNumber(who)
	if !ok {
		return web.Answer{}, errors.New(say.Office("people.none"))
	}
	l, err := r.nextCard(ctx, ask)
	if err != nil {
		return web.Answer{Query: url.Values{"who": {who}}}, err
	}
	out := tapAnswer(say, l)
	out.Query = url.Values{"who": {who}}
	if l.Fault != "" || l.Employee != "" || len(l.Owners) > 0 && l.Owners[0].Same {
		return out, nil // nothing to give: it is no card, or somebody's
	}
	offer := web.Block{Mark: "wait", Title: say.Office("give", r.person(e.Number)), Form: &web.Form{Do: "give", Submit: say.Office("give.go", l.Badge),
		Fields: []web.Field{{Name: "who", Type: "hidden", Value: who}, {Name: "badge", Type: "hidden", Value: l.Badge}}}}
	if r.h.source != nil {
		offer.Words = []string{say.Office("give.source")}
	}
	out.Blocks = append([]web.Block{offer}, out.Blocks...)
	return out, nil
}

// giveCard puts a card beside a person in the roster.
func (r *adminRoom) giveCard(_ context.Context, ask web.Ask) (web.Answer, error) {
	who := ask.Form.Get("who")
	out := web.Answer{Query: url.Values{"who": {who}}}
	b, err := punch.ParseBadge(ask.Form.Get("badge"))
	if err != nil {
		return out, err
	}
	g, err := r.a.giveCard(b, who, false, byPage)
	if err != nil {
		return out, r.giveWords(ask.Say, err, g.From)
	}
	r.a.kick("")
	r.h.log.Info("a card was given on the admin page", "employee", who, "badge", b)
	out.Mark, out.Words = "ok", givenWords(ask.Say, r.person(who), g.Linked)
	return out, nil
}

// giveWords says why a card was not given.
func (r *adminRoom) giveWords(say text.Catalog, err error, from string) error {
	switch {
	case errors.Is(err, roster.ErrTaken):
		return errors.New(say.Office("card.of", r.person(from)))
	case errors.Is(err, roster.ErrBlocked):
		return errors.New(say.Office("card.blocked"))
	case errors.Is(err, roster.ErrMaster):
		return errors.New(say.Office("card.master"))
	case errors.Is(err, roster.ErrNobody):
		return errors.New(say.Office("people.none"))
	}
	return err // the words of an import
}
