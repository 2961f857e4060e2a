package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"punchclock/device"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
)

// badgeAnswer is what there is to say of a card. Whole numbers go to whoever asks,
// never into the log.
type badgeAnswer struct {
	Badge    string         `json:"badge"`
	Readings []badgeReading `json:"readings"`
	Employee string         `json:"employee_no,omitempty"` // whose tap it would be
	Owners   []badgeOwner   `json:"owners"`                // everybody whose card it could be
	Doubt    string         `json:"doubt,omitempty"`       // why this may be no card's number
	Remedy   string         `json:"remedy,omitempty"`
}

type badgeReading struct {
	Badge string `json:"badge"`
	As    string `json:"as"`
	Rule  string `json:"rule,omitempty"`
	Same  bool   `json:"same_card"` // under the rules in force
}

type badgeOwner struct {
	Employee string `json:"employee_no"`
	Name     string `json:"name"`
	Active   bool   `json:"active"`
	Badge    string `json:"roster_badge"`
	Rule     string `json:"rule,omitempty"`
	Same     bool   `json:"same_card"`
}

// look says all about a badge.
func (a *archive) look(b punch.Badge) badgeAnswer {
	out := badgeAnswer{Badge: string(b), Readings: []badgeReading{}, Owners: []badgeOwner{}}
	inForce := func(r roster.Rule) bool { return r == "" || slices.Contains(a.cfg.Badge.SameCard, r) }
	for _, r := range roster.Readings(b) {
		out.Readings = append(out.Readings, badgeReading{string(r.Badge), r.As, string(r.Rule), inForce(r.Rule)})
	}
	out.Doubt = doubt(b)
	if a.roster == nil {
		out.Remedy = "no roster has been imported yet: punchclock roster import"
		return out
	}
	owners := a.roster.Owners(b, a.cfg.Badge.SameCard)
	same := len(owners)
	if same == 0 {
		owners = a.roster.Owners(b, roster.Rules)
	}
	for _, o := range owners {
		out.Owners = append(out.Owners, badgeOwner{o.Employee.Number, o.Employee.Name, o.Employee.Active, string(o.Badge), string(o.Rule), same > 0})
	}
	e, known := a.roster.ByBadge(b)
	switch {
	case known:
		out.Employee = e.Number
	case same > 1:
		out.Remedy = "the card could be any of these people's: give all but one of them another card, or take a rule out of badge.same_card"
	case same == 1 && !owners[0].Employee.Active:
		out.Remedy = "whoever had the card has left: write it beside its new owner in the roster, and take it from the old one"
	case same == 1:
		out.Remedy = "somebody else's card reads like it: see the clock's log at its start, or import the roster again"
	case len(owners) > 0:
		out.Remedy = fmt.Sprintf("to take it for this person's card, add %q to badge.same_card and restart the clock", owners[0].Rule)
	default:
		out.Remedy = "write any one of the readings beside its owner in the roster"
	}
	return out
}

// doubt looks at the first byte of a short UID, which says what kind of number it is
// (ISO 14443-3). A reader that reverses the bytes makes any number look so.
func doubt(b punch.Badge) string {
	if b.Medium() != "uid" || len(b.Value()) != 8 {
		return ""
	}
	switch b.Value()[:2] {
	case "08":
		return "a UID that begins with 08 is made up for each tap, as phones do: tap it again, and if it differs give the person a card"
	case "88":
		return "a UID that begins with 88 is the beginning of a longer one: cards may share it; set the reader to send all seven bytes"
	}
	return ""
}

func (a *archive) serveBadge(w http.ResponseWriter, r *http.Request) {
	b, err := roster.CardOf(r.URL.Query().Get("badge"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	writeJSON(w, a.look(b))
}

// learned is what a tap at a reader was.
type learned struct {
	Reader string `json:"reader"`
	Fault  string `json:"fault,omitempty"` // why it was no card
	Medium string `json:"medium,omitempty"`
	Raw    string `json:"raw,omitempty"` // in hexadecimal, most significant bit first
	Bits   int    `json:"bits,omitempty"`
	badgeAnswer
}

// learner lets a technician see what a card is. The next tap is shown; a card that
// the roster knows is a punch all the same, for its owner came to punch. One that it
// does not know is not: it would go out as a punch once the roster has it.
type learner struct {
	look func(punch.Badge) badgeAnswer
	lamp func(on bool) // tells whether somebody waits; never blocks

	mu     sync.Mutex
	reader string // "" for any
	answer chan learned
}

// hear takes every event on its way to the conversation, and never waits.
func (l *learner) hear(ev device.Event) device.Event {
	if ev.What != device.Card && !(ev.What == device.Fault && ev.Try) {
		return ev
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answer == nil || l.reader != "" && l.reader != ev.Reader {
		return ev
	}
	out := learned{Reader: ev.Reader, Fault: ev.Fault}
	out.Readings, out.Owners = []badgeReading{}, []badgeOwner{}
	if ev.What == device.Card {
		b, err := punch.NewBadge(ev.Medium, ev.Value)
		if err != nil {
			return ev // the conversation complains of the reader
		}
		out.Medium, out.Raw, out.Bits = ev.Medium, hex.EncodeToString(ev.Raw), ev.Bits
		out.badgeAnswer = l.look(b)
		if out.Employee == "" {
			ev = device.Event{Reader: ev.Reader, What: device.Fault, Fault: device.FaultLearned, Try: true, First: ev.First, Last: ev.Last}
		}
	}
	l.answer <- out // has room
	l.answer = nil
	return ev
}

var errLearning = errors.New("somebody else is reading a card in; wait for that, or end it")

// wait returns the next tap at a reader, "" being any.
func (l *learner) wait(ctx context.Context, reader string) (learned, error) {
	answer := make(chan learned, 1)
	l.mu.Lock()
	if l.answer != nil {
		l.mu.Unlock()
		return learned{}, errLearning
	}
	l.reader, l.answer = reader, answer
	l.lamp(true)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lamp(l.answer != nil) // the next may wait already
	}()
	select {
	case out := <-answer:
		return out, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answer == answer {
		l.answer = nil
	}
	select {
	case out := <-answer: // in the last moment: that tap is no punch, so somebody must hear of it
		return out, nil
	default:
	}
	return learned{}, errors.New("no card came; tap it within the time that --wait gives")
}

const learnMost = 10 * time.Minute

func (h *clockwork) serveLearn(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	reader := q.Get("reader")
	names := []string{}
	for _, c := range h.cfg.Readers {
		names = append(names, c.Name)
	}
	if reader != "" && !slices.Contains(names, reader) {
		refuse(w, http.StatusBadRequest, fmt.Errorf("no reader %q; there is %s", reader, quotedList(names)))
		return
	}
	ms, err := strconv.Atoi(q.Get("wait_ms"))
	if err != nil || ms <= 0 || time.Duration(ms)*time.Millisecond > learnMost {
		refuse(w, http.StatusBadRequest, fmt.Errorf("--wait: write a time up to %v, for example 30s", learnMost))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(ms)*time.Millisecond)
	defer cancel()
	out, err := h.learner.wait(ctx, reader)
	if err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	writeJSON(w, out)
}

func badgeCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "badge", Short: "What a card is, in every reading, and whose"}
	lookup := t.reporting(&cobra.Command{
		Use: "lookup BADGE", Short: "All readings of a card, and whose it is", Args: cobra.ExactArgs(1),
		Long: `All readings of a card, and whose it is. BADGE is as in the roster, em:06001259E3 or
w26:18-23011, or the digits that are printed on the card: 8, 10 or 13 of them, or
018,23011.`,
		RunE: func(c *cobra.Command, args []string) error {
			b, err := roster.CardOf(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			_, cl, err := t.open(false)
			if err != nil {
				return err
			}
			defer cl.close()
			var out badgeAnswer
			if err := cl.getJSON(c.Context(), "/badge?badge="+url.QueryEscape(string(b)), &out); err != nil {
				return err
			}
			if t.json {
				return t.printJSON(out)
			}
			return out.print(t.stdout)
		},
	})
	var reader string
	var wait time.Duration
	learn := t.reporting(&cobra.Command{
		Use: "learn", Short: "Tap a card at the running clock and see what it is", Args: cobra.NoArgs,
		Long: `Tap a card at a reader of the running clock and see what it is in every reading. A
card that the roster does not know is shown and not stored as a punch; one that it
knows is a punch as well.`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if wait <= 0 || wait > learnMost {
				return usage("--wait %v: write a time up to %v, for example 30s", wait, learnMost)
			}
			cl, err := dialControl(cfg)
			if errors.Is(err, errNoDaemon) {
				return &exitError{exitUnchecked, fmt.Errorf("%w; only a running clock reads cards", err)}
			} else if err != nil {
				return err
			}
			defer cl.close()
			fmt.Fprintf(t.stderr, "tap a card within %v\n", wait)
			q := url.Values{"reader": {reader}, "wait_ms": {strconv.FormatInt(wait.Milliseconds(), 10)}}
			body, err := cl.do(c.Context(), "POST", "/badge/learn", q, nil)
			if err != nil {
				return err
			}
			var out learned
			if err := readJSON(body, &out); err != nil {
				return err
			}
			if t.json {
				return t.printJSON(out)
			}
			return out.print(t.stdout)
		},
	})
	learn.Flags().StringVar(&reader, "reader", "", "only at the reader of this `name`")
	learn.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for the card")
	c.AddCommand(lookup, learn)
	c.AddCommand(cardVerbs(t)...)
	return c
}

// faultWords say to a technician why a tap was no card.
var faultWords = map[string]string{
	device.FaultChecksum: "its check is wrong: noise, or a card that was taken away too soon",
	device.FaultLength:   "its length is not that of a card: is the dialect or the format right?",
	device.FaultFormat:   "it holds what no card has: is the dialect or the format right?",
	device.FaultTimeout:  "it stopped in the middle",
	device.FaultNoise:    "noise on the line",
	device.FaultLost:     "some of it was lost",
	device.FaultRandom:   "a phone, or a card that makes up a new number with every tap: it can be nobody's",
	device.FaultTwo:      "two cards at once: hold one to the reader",
}

func (l learned) print(w io.Writer) error {
	if l.Fault != "" {
		words := faultWords[l.Fault]
		if words == "" {
			words = l.Fault
		}
		_, err := fmt.Fprintf(w, "reader %s read no card: %s\n", l.Reader, words)
		return err
	}
	if _, err := fmt.Fprintf(w, "reader %s: %s, %d bits, %s\n", l.Reader, l.Medium, l.Bits, l.Raw); err != nil {
		return err
	}
	return l.badgeAnswer.print(w)
}

func (b badgeAnswer) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, o := range b.Owners {
		words := []string{"the roster has " + o.Badge}
		if o.Rule != "" {
			words = append(words, "by the rule "+o.Rule)
		}
		if !o.Active {
			words = append(words, "has left")
		}
		head := "card of"
		if !o.Same || b.Employee == "" {
			head = "could be the card of"
		}
		fmt.Fprintf(w, "%s %s %s (%s)\n", head, o.Employee, dash(o.Name), strings.Join(words, ", "))
	}
	if len(b.Owners) == 0 {
		fmt.Fprintln(w, "nobody in the roster has this card")
	}
	fmt.Fprintln(w, "\nREADING\tAS\tSAME CARD")
	for _, r := range b.Readings {
		same := "yes"
		switch {
		case r.Rule != "" && r.Same:
			same = "yes, by " + r.Rule
		case r.Rule != "":
			same = "only with " + r.Rule
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Badge, r.As, same)
	}
	for _, words := range []string{b.Doubt, b.Remedy} {
		if words != "" {
			fmt.Fprintln(w, "\n"+words)
		}
	}
	return w.Flush()
}
