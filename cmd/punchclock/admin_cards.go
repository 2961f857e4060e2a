package main

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/ui/text"
	"punchclock/ui/web"
)

// byPage is who did it in the audit chain: the page knows one PIN, and no people.
const byPage = "admin page"

// cardsSection is about cards whoever has them: those that nobody knows and that were
// tapped lately, and those that are lost.
func (r *adminRoom) cardsSection() web.Section {
	return web.Section{Name: "cards", Title: "cards", Show: r.showCards,
		Do: map[string]func(context.Context, web.Ask) (web.Answer, error){"give": r.handCard, "block": r.lostCard, "unblock": r.foundCard}}
}

func (r *adminRoom) showCards(_ context.Context, ask web.Ask) ([]web.Block, error) {
	say := ask.Say
	var blocks []web.Block
	if b, err := roster.CardOf(ask.Form.Get("badge")); err == nil {
		blocks = append(blocks, web.Block{Title: say.Office("hand", string(b)), Form: &web.Form{Do: "give", Submit: say.Office("hand.go"), Fields: []web.Field{
			{Name: "badge", Type: "hidden", Value: string(b)}, {Name: "who", Type: "text", Label: say.Column("employee_no"), Must: true},
			{Name: "move", Label: say.Office("hand.move"), Options: [][2]string{{"", say.Office("no")}, {"1", say.Office("yes")}}}}}})
	}
	all, err := r.a.strangers()
	if err != nil {
		return nil, err
	}
	seen := &web.Table{Head: []string{say.Office("card"), say.Office("seen.times"), say.Office("seen.last"), say.Office("reader")}, Empty: say.Office("none")}
	for _, s := range all[:min(len(all), peopleShown)] {
		seen.Rows = append(seen.Rows, web.Row{Mark: "wait", Link: url.Values{"badge": {s.Badge}},
			Cells: []string{s.Badge, strconv.Itoa(s.Times), r.shown(s.Last), strings.Join(s.Readers, ", ")}})
	}
	blocked := r.a.roster.BlockedCards()
	lost := &web.Table{Head: []string{say.Office("card"), say.Office("lost.since"), say.Column("employee_no")}, Empty: say.Office("none")}
	for b := range blocked {
		lost.Rows = append(lost.Rows, web.Row{Mark: "stuck", Cells: []string{string(b), r.shown(blocked[b]), dash(r.a.holder(b))},
			Form: &web.Form{Do: "unblock", Submit: say.Office("lost.found"), Ask: say.Office("lost.found.ask"), Fields: []web.Field{{Name: "badge", Type: "hidden", Value: string(b)}}}})
	}
	slices.SortFunc(lost.Rows, func(x, y web.Row) int { return strings.Compare(x.Cells[0], y.Cells[0]) })
	return append(blocks,
		web.Block{Title: say.Office("seen"), Words: []string{say.Office("seen.words")}, Table: seen},
		web.Block{Title: say.Office("lost"), Words: []string{say.Office("lost.words")}, Table: lost, Form: &web.Form{Do: "block", Submit: say.Office("lost.go"), Ask: say.Office("lost.ask"),
			Fields: []web.Field{{Name: "badge", Type: "text", Label: say.Office("card"), Value: ask.Form.Get("lost"), Must: true}}}}), nil
}

// cardIn is the card that a form is about.
func cardIn(ask web.Ask) (punch.Badge, error) {
	b, err := roster.CardOf(ask.Form.Get("badge"))
	if err != nil {
		return "", errors.New(ask.Say.Office("card.form"))
	}
	return b, nil
}

func (r *adminRoom) handCard(_ context.Context, ask web.Ask) (web.Answer, error) {
	out := web.Answer{Query: url.Values{"badge": {ask.Form.Get("badge")}}}
	b, err := cardIn(ask)
	if err != nil {
		return out, err
	}
	g, err := r.a.giveCard(b, strings.TrimSpace(ask.Form.Get("who")), ask.Form.Get("move") != "", byPage)
	if err != nil {
		return out, r.giveWords(ask.Say, err, g.From)
	}
	r.a.kick("")
	r.h.log.Info("a card was given on the admin page", "employee", g.Employee, "badge", b)
	return web.Answer{Mark: "ok", Words: givenWords(ask.Say, r.person(g.Employee), g.Linked)}, nil
}

func givenWords(say text.Catalog, who string, linked int) string {
	if linked == 0 {
		return say.Office("give.done", who)
	}
	return say.Office("give.done", who) + say.Office("give.linked", linked)
}

func (r *adminRoom) lostCard(_ context.Context, ask web.Ask) (web.Answer, error) {
	b, err := cardIn(ask)
	if err != nil {
		return web.Answer{}, err
	}
	if _, err := r.a.blockCard(b, byPage); err != nil {
		return web.Answer{}, err
	}
	r.h.log.Info("a card was blocked on the admin page", "badge", b)
	return web.Answer{Mark: "ok", Words: ask.Say.Office("lost.done", string(b))}, nil
}

func (r *adminRoom) foundCard(_ context.Context, ask web.Ask) (web.Answer, error) {
	b, err := cardIn(ask)
	if err != nil {
		return web.Answer{}, err
	}
	if _, err := r.a.unblockCard(b, byPage); err != nil {
		return web.Answer{}, err
	}
	r.h.log.Info("a card is taken again, on the admin page", "badge", b)
	return web.Answer{Mark: "ok", Words: ask.Say.Office("lost.again", string(b))}, nil
}
