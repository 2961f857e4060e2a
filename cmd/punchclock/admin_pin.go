package main

import (
	"context"
	"errors"

	"punchclock/ui/web"
)

// pinSection changes the PIN of the page itself.
func (r *adminRoom) pinSection() web.Section {
	return web.Section{Name: "pin", Title: "pin", Show: r.showPIN,
		Do: map[string]func(context.Context, web.Ask) (web.Answer, error){"change": r.changePIN}}
}

func (r *adminRoom) showPIN(_ context.Context, ask web.Ask) ([]web.Block, error) {
	say := ask.Say
	field := func(name, kind string) web.Field {
		return web.Field{Name: name, Label: say.Office("pin." + name), Type: kind, Must: true}
	}
	return []web.Block{{Title: say.Office("pin"), Words: []string{say.Office("pin.words", web.PINLeast)},
		Form: &web.Form{Do: "change", Submit: say.Office("pin.go"),
			Fields: []web.Field{field("old", "current-password"), field("new", "new-password"), field("again", "new-password")}}}}, nil
}

// changePIN asks for the PIN that there is, with the same delays and the same lock as at
// the door of the page: a page left open is no way to another PIN.
func (r *adminRoom) changePIN(_ context.Context, ask web.Ask) (web.Answer, error) {
	say := ask.Say
	if ask.Form.Get("new") != ask.Form.Get("again") {
		return web.Answer{}, errors.New(say.Office("pin.differ"))
	}
	changed, err := r.change(ask.Form.Get("old"), ask.Form.Get("new"))
	var refused *web.PINRefused
	var tries *web.TooManyTries
	switch {
	case err == nil:
		r.h.log.Info("the PIN of the admin page was changed on it", "from", ask.Where)
		return web.Answer{Mark: "ok", Words: say.Office("pin.done"), Changed: changed}, nil
	case errors.Is(err, web.ErrWrongPIN):
		r.h.log.Warn("a wrong PIN for the admin page", "from", ask.Where)
	case errors.As(err, &refused), errors.As(err, &tries), errors.Is(err, web.ErrLocked):
	default:
		r.h.log.Error("the PIN of the admin page could not be set", "err", err)
	}
	return web.Answer{}, errors.New(web.SayPIN(say, err))
}
