package feishu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	lookUpPath = "/open-apis/contact/v3/users/batch_get_id"
	lookUpMost = 50 // mobiles in a call, and as many e-mail addresses
)

// Contact is how a person may be found at Feishu: by one of the two, or by both.
type Contact struct {
	Mobile string // outside mainland China with + and country code; "" for none
	Email  string // not that of a company mailbox, which Feishu does not take; "" for none
}

// Found is what Feishu says of one Contact.
type Found struct {
	ID       string // the user id of the admin console: the roster's feishu_id; "" where Feishu knows nobody
	Resigned bool   // it is somebody who has left
	Conflict bool   // mobile and e-mail are two people's: ID is "" then
}

// LookUp asks Feishu for the ids behind contacts, by mobile number and e-mail address:
// a call for every fifty, under the ceiling and with the token of the punches. The
// app needs the permission contact:user.id:readonly, and to be told the user id
// contact:user.employee_id:readonly; without the second Feishu answers as if it
// knew nobody.
//
// found has an entry for each contact that was asked for, in order; where err ends
// the asking it is as long as what was answered before. err is like that of Send, and
// like everything here holds no number and no address.
func (c *Client) LookUp(ctx context.Context, contacts []Contact) (found []Found, err error) {
	for len(contacts) > 0 {
		part := contacts[:min(len(contacts), lookUpMost)]
		f, err := c.lookUp(ctx, part)
		if err != nil {
			return found, err
		}
		found = append(found, f...)
		contacts = contacts[len(part):]
	}
	return found, nil
}

// lookUp makes one call, and more where Feishu finds a contact wrong: that refuses the
// whole call, so it is split until the wrong one stands alone, which nobody has.
func (c *Client) lookUp(ctx context.Context, contacts []Contact) ([]Found, error) {
	var in struct {
		Emails  []string `json:"emails,omitempty"`
		Mobiles []string `json:"mobiles,omitempty"`
	}
	for _, p := range contacts {
		if p.Email != "" && utf8.ValidString(p.Email) {
			in.Emails = append(in.Emails, p.Email)
		}
		if p.Mobile != "" && utf8.ValidString(p.Mobile) {
			in.Mobiles = append(in.Mobiles, p.Mobile)
		}
	}
	if len(in.Emails)+len(in.Mobiles) == 0 {
		return make([]Found, len(contacts)), nil
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, errors.New("feishu: encode a look-up of ids") // err might quote
	}
	a, err := c.exchange(ctx, "look ids up", strings.TrimRight(c.cfg.BaseURL, "/")+lookUpPath+"?user_id_type=user_id", body, maxReply)
	switch {
	case err != nil:
		return nil, err
	case a.action == taken:
		ids, err := parseIDs(a.body)
		if err != nil {
			return nil, fmt.Errorf("feishu: look ids up: %w", err)
		}
		found := make([]Found, len(contacts))
		for i, p := range contacts {
			found[i] = ids.of(p)
		}
		return found, nil
	case a.action == permanent && len(contacts) == 1:
		return []Found{{}}, nil
	case a.action == permanent:
		var found []Found
		for _, half := range [][]Contact{contacts[:len(contacts)/2], contacts[len(contacts)/2:]} {
			f, err := c.lookUp(ctx, half)
			if err != nil {
				return nil, err
			}
			found = append(found, f...)
		}
		return found, nil
	}
	return nil, a.err()
}

// ids are the people of one answer, by what they were asked for.
type ids struct{ mobile, email map[string]Found }

func (l ids) of(p Contact) Found {
	a, b := l.mobile[mobileKey(p.Mobile)], l.email[emailKey(p.Email)]
	switch {
	case a.ID == "":
		return b
	case b.ID != "" && b.ID != a.ID:
		return Found{Conflict: true}
	}
	return a
}

// mobileKey and emailKey make what was asked and what is answered comparable.
func mobileKey(s string) string { return strings.TrimPrefix(s, "+86") }
func emailKey(s string) string  { return strings.ToLower(s) }

var errNoUsers = errors.New("the answer holds no list user_list")

// parseIDs reads the reply to a look-up with code 0. An id that could not be one, and
// a person without any, is nobody.
func parseIDs(body []byte) (ids, error) {
	var w struct {
		Data struct {
			Users json.RawMessage `json:"user_list"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &w); err != nil || len(w.Data.Users) == 0 {
		return ids{}, errNoUsers
	}
	var list []struct {
		UserID text `json:"user_id"`
		Mobile text `json:"mobile"`
		Email  text `json:"email"`
		Status struct {
			Resigned bool `json:"is_resigned"`
		} `json:"status"`
	}
	if err := json.Unmarshal(w.Data.Users, &list); err != nil { // null is an empty list
		return ids{}, errNoUsers
	}
	out := ids{map[string]Found{}, map[string]Found{}}
	for _, u := range list {
		id := word(string(u.UserID))
		if id == "" {
			continue
		}
		f := Found{ID: id, Resigned: u.Status.Resigned}
		if u.Mobile != "" {
			out.mobile[mobileKey(string(u.Mobile))] = f
		}
		if u.Email != "" {
			out.email[emailKey(string(u.Email))] = f
		}
	}
	return out, nil
}
