package feishu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
)

const (
	queryPath  = "/open-apis/attendance/v1/user_flows/query"
	queryUsers = 50      // most people in a call
	maxHeld    = 8 << 20 // bytes of an answer: fifty people's month of punches, and room
)

// Held reads back the flows that Feishu holds of these people, by employee number,
// from the second of from on and before that of to. It makes a call for every fifty,
// beside a Send if need be, under the same ceiling and with the same token.
//
// Feishu returns valid flows only: one that waits for approval or was made invalid
// is absent without being lost. Flows of every origin come back, those of phones and
// other clocks too. People who have left are asked for as well.
//
// unasked are the people that the answer says nothing about, because Feishu has no
// id for them or refuses to speak of them, or because the reading ended early; then
// err says why, like that of Send, and held is what was read before.
func (c *Client) Held(ctx context.Context, numbers []string, from, to time.Time) (held []drain.Held, unasked []string, err error) {
	who := make(map[string]string, len(numbers)) // Feishu's id → employee number
	var users []string
	for _, n := range numbers {
		id := n
		if c.cfg.EmployeeType == EmployeeID {
			e, _ := c.cfg.People(n, from)
			id = e.FeishuID
		}
		if _, twice := who[id]; twice || strings.TrimSpace(id) == "" || !utf8.ValidString(id) {
			unasked = append(unasked, n)
			continue
		}
		who[id] = n
		users = append(users, id)
	}
	for len(users) > 0 {
		part := users[:min(len(users), queryUsers)]
		flows, refused, err := c.query(ctx, part, from, to)
		if err != nil {
			for _, id := range users {
				unasked = append(unasked, who[id])
			}
			return held, unasked, err
		}
		for _, id := range refused {
			unasked = append(unasked, who[id])
		}
		for _, f := range flows {
			n, ours := who[f.user]
			if !ours {
				continue // nobody asked
			}
			held = append(held, drain.Held{Employee: n, Key: f.key, Receipt: f.record, Time: time.Unix(f.seconds, 0).UTC()})
		}
		users = users[len(part):]
	}
	return held, unasked, nil
}

// query makes one call, and more where Feishu does not know somebody: that refuses
// the whole call, so it is split until the unknown one stands alone.
func (c *Client) query(ctx context.Context, users []string, from, to time.Time) (flows []heldFlow, refused []string, err error) {
	body, err := json.Marshal(struct {
		Users []string `json:"user_ids"`
		From  string   `json:"check_time_from"`
		To    string   `json:"check_time_to"`
	}{users, strconv.FormatInt(from.Unix(), 10), strconv.FormatInt(to.Unix(), 10)})
	if err != nil {
		return nil, nil, fmt.Errorf("feishu: encode a query: %w", err)
	}
	address := strings.TrimRight(c.cfg.BaseURL, "/") + queryPath + "?employee_type=" + string(c.cfg.EmployeeType) + "&include_terminated_user=true"
	a, err := c.exchange(ctx, "read punches back", address, body, maxHeld)
	switch {
	case err != nil:
		return nil, nil, err
	case a.action == taken:
		flows, err = parseFlows(a.body)
		if err != nil {
			return nil, nil, fmt.Errorf("feishu: read punches back: %w", err)
		}
		return flows, nil, nil
	case a.action == permanent && a.reason == reasonUnknown:
		if len(users) == 1 {
			return nil, users, nil
		}
		for _, half := range [][]string{users[:len(users)/2], users[len(users)/2:]} {
			f, r, err := c.query(ctx, half, from, to)
			if err != nil {
				return nil, nil, err
			}
			flows, refused = append(flows, f...), append(refused, r...)
		}
		return flows, refused, nil
	}
	return nil, nil, a.err()
}

// heldFlow is one record of a query's reply.
type heldFlow struct {
	user, key, record string
	seconds           int64
}

// Errors of a reply with code 0 that cannot be used. Nothing may be concluded from
// half a list: what is not in it would be taken for lost.
var (
	errNoFlows = errors.New("the answer holds no list user_flow_results")
	errBadFlow = errors.New("the answer holds a record without user_id or check_time")
)

// parseFlows reads the reply to a query with code 0.
func parseFlows(body []byte) ([]heldFlow, error) {
	var w struct {
		Data struct {
			Flows json.RawMessage `json:"user_flow_results"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &w); err != nil || len(w.Data.Flows) == 0 {
		return nil, errNoFlows
	}
	var list []struct {
		UserID       text            `json:"user_id"`
		CheckTime    json.RawMessage `json:"check_time"`
		RecordID     text            `json:"record_id"`
		ExternalID   text            `json:"external_id"`
		IdempotentID text            `json:"idempotent_id"`
	}
	if err := json.Unmarshal(w.Data.Flows, &list); err != nil { // null is an empty list
		return nil, errNoFlows
	}
	out := make([]heldFlow, 0, len(list))
	for _, f := range list {
		// Documented as text; a number says the same.
		seconds, err := strconv.ParseInt(strings.Trim(string(f.CheckTime), `"`), 10, 64)
		if err != nil || seconds < 0 || seconds > maxCheckTime || f.UserID == "" {
			return nil, errBadFlow
		}
		key := f.IdempotentID
		if key == "" {
			key = f.ExternalID
		}
		out = append(out, heldFlow{user: string(f.UserID), key: punch.Words(string(key)), record: punch.Words(string(f.RecordID)), seconds: seconds})
	}
	return out, nil
}
