package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// doctor looks at everything that a punch needs, from the board to the far sides,
// and says of each what was seen and what to do next. It changes nothing, and may be
// run at any time beside the clock: what the clock has in its hands, it is asked
// for; no call is made to a far side whose ceiling the clock keeps.
//
// The checks are a tree. A check below one that failed is not run: ten faults that
// are one fault would hide it. What does not apply to a machine is left out, so that
// a desk without hardware can be in order too.

// verdict is what a check came to.
type verdict string

const (
	isOK      verdict = "ok"
	isWarning verdict = "warn"
	isFailed  verdict = "fail"
	isUnknown verdict = "unknown" // could not be checked
	isAbsent  verdict = ""        // does not apply here: left out, with all below it
)

// sight is what a check saw.
type sight struct {
	state  verdict
	detail string // what was seen, with units; no secret, badge or name
	remedy string // what to do next, on one line; "" where nothing
	// What the exit code is made of, beside the state.
	missing bool // hardware that is configured is not there
	config  bool // the configuration is at fault
}

func ok(format string, args ...any) sight {
	return sight{state: isOK, detail: fmt.Sprintf(format, args...)}
}

func warn(remedy, format string, args ...any) sight {
	return sight{state: isWarning, detail: fmt.Sprintf(format, args...), remedy: remedy}
}

func fail(remedy, format string, args ...any) sight {
	return sight{state: isFailed, detail: fmt.Sprintf(format, args...), remedy: remedy}
}

func unknown(remedy, format string, args ...any) sight {
	return sight{state: isUnknown, detail: fmt.Sprintf(format, args...), remedy: remedy}
}

// check is one question. Its id never changes: scripts look for it.
type check struct {
	id, parent, title string
	limit             time.Duration // 0 is checkLimit
	medium            bool          // it keeps the medium busy: one at a time
	run               func(ctx context.Context) sight
}

const (
	checkLimit  = 10 * time.Second
	doctorLimit = 60 * time.Second
	afterLimit  = 500 * time.Millisecond // what a check may need to notice that its time is over
)

// checked is a check that was made; a line of the report.
type checked struct {
	ID     string  `json:"id"`
	Parent string  `json:"parent"` // "" for none
	Title  string  `json:"title"`
	State  verdict `json:"state"`
	Detail string  `json:"detail"`
	Remedy string  `json:"remedy"`

	missing, config bool
}

// checkup is the whole of it, and what --json prints.
type checkup struct {
	Schema  int            `json:"schema"`
	Device  string         `json:"device"` // "" where the configuration cannot be read
	Version string         `json:"version"`
	At      string         `json:"at"` // RFC 3339, by this machine's clock
	Checks  []checked      `json:"checks"`
	Summary checkupSummary `json:"summary"`
	Exit    int            `json:"exit"`
}

type checkupSummary struct {
	OK      int `json:"ok"`
	Warn    int `json:"warn"`
	Fail    int `json:"fail"`
	Unknown int `json:"unknown"`
}

const doctorSchema = 1

// examine runs the checks, those that do not hang on each other at the same time,
// and returns what they came to, in their order. A parent stands before its
// children. progress hears, from one goroutine, how many are done.
func examine(ctx context.Context, checks []check, progress func(done int)) []checked {
	type outcome struct {
		done chan struct{} // closed when the rest stands
		sight
	}
	all := make(map[string]*outcome, len(checks))
	finished := make(chan struct{}, len(checks))
	medium := make(chan struct{}, 1)
	for _, c := range checks {
		o := &outcome{done: make(chan struct{})}
		parent := all[c.parent]
		all[c.id] = o
		go func() {
			defer func() { close(o.done); finished <- struct{}{} }()
			if parent != nil {
				<-parent.done
				switch {
				case parent.state == isAbsent:
					return
				case parent.state == isFailed:
					o.sight = unknown("", "not run: %s failed", c.parent)
					return
				case parent.state == isUnknown:
					o.sight = unknown("", "not run: it needs %s", c.parent)
					return
				}
			}
			if c.medium {
				select {
				case medium <- struct{}{}:
					defer func() { <-medium }()
				case <-ctx.Done():
				}
			}
			o.sight = c.within(ctx)
		}()
	}
	for n := range checks {
		<-finished
		progress(n + 1)
	}
	out := []checked{}
	for _, c := range checks {
		if f := all[c.id].sight; f.state != isAbsent {
			out = append(out, checked{c.id, c.parent, c.title, f.state, f.detail, f.remedy, f.missing, f.config})
		}
	}
	return out
}

// within runs one check in its time. One that hangs in the kernel, on a device or a
// file system that does not answer, cannot be ended: it is left behind, and the
// process soon ends.
func (c check) within(ctx context.Context) sight {
	limit := c.limit
	if limit == 0 {
		limit = checkLimit
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer := make(chan sight, 1)
	go func() { answer <- c.run(ctx) }()
	select {
	case f := <-answer:
		return f
	case <-ctx.Done():
	}
	select {
	case f := <-answer:
		return f
	case <-time.After(afterLimit):
	}
	switch {
	case errors.Is(asked.Err(), context.Canceled):
		return unknown("", "not run: interrupted")
	case asked.Err() != nil:
		return unknown("look at what else failed, then run doctor again", "not run: all together may take %v", doctorLimit)
	}
	return unknown("look in the kernel's log: dmesg --level=err,warn", "no answer within %v", limit)
}

// sum counts the states and settles the exit code.
func (r *checkup) sum() {
	missing, config := false, false
	for _, c := range r.Checks {
		switch c.State {
		case isOK:
			r.Summary.OK++
		case isWarning:
			r.Summary.Warn++
		case isFailed:
			r.Summary.Fail++
			missing, config = missing || c.missing, config || c.config
		case isUnknown:
			r.Summary.Unknown++
		}
	}
	switch {
	case config:
		r.Exit = exitUsage
	case missing:
		r.Exit = exitMissing
	case r.Summary.Fail > 0:
		r.Exit = exitFailed
	case r.Summary.Unknown > 0:
		r.Exit = exitUnchecked
	default:
		r.Exit = 0
	}
}

// err is what the process ends with; nil where all is in order.
func (r *checkup) err() error {
	if r.Exit == 0 {
		return nil
	}
	want := isFailed
	if r.Summary.Fail == 0 {
		want = isUnknown
	}
	var ids []string
	for _, c := range r.Checks {
		if c.State == want && !strings.HasPrefix(c.Detail, "not run") {
			ids = append(ids, c.ID)
		}
	}
	what := "failed"
	if want == isUnknown {
		what = "could not be checked"
	}
	return &exitError{r.Exit, fmt.Errorf("doctor: %s: %s", what, strings.Join(ids, ", "))}
}

func doctorCommand(t *tool) *cobra.Command {
	var page string
	c := t.reporting(&cobra.Command{
		Use: "doctor", Short: "Check everything that a punch needs, and say what to do next", Args: cobra.NoArgs,
		Long: "Check everything that a punch needs: board, card, clock, network, far sides, roster, readers.\n" +
			"Nothing is changed, and the clock may be running. As root, all of it can be checked.\n\n" +
			"Exit codes: 0 in order (warnings included), 1 something failed, 2 the configuration is wrong,\n" +
			"3 something could not be checked, 4 hardware that is configured is missing.",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), doctorLimit)
			defer cancel()
			r := t.doctor(ctx, thisMachine())
			if page != "" {
				if err := t.toOutput(page, r.html); err != nil {
					return fmt.Errorf("doctor: the page: %w", err)
				}
			}
			var err error
			if t.json {
				err = t.printJSON(r)
			} else {
				err = r.print(t.stdout, terminal(t.stdout) && os.Getenv("NO_COLOR") == "")
			}
			if err != nil {
				return err
			}
			return r.err()
		},
	})
	c.Flags().StringVar(&page, "html", "", "also write a page for the job sheet to this `file`")
	return c
}

// doctor examines a machine.
func (t *tool) doctor(ctx context.Context, m *machine) *checkup {
	p := &patient{machine: m, path: t.configPath}
	p.ask(ctx)
	r := &checkup{Schema: doctorSchema, Version: version, At: m.now().Format(milliLayout)}
	if p.cfg != nil {
		r.Device = p.cfg.Device.ID
		r.At = m.now().In(p.cfg.Device.Timezone).Format(milliLayout)
	}
	checks := p.checks()
	bar := t.progress("checks made", uint64(len(checks)))
	r.Checks = examine(ctx, checks, func(n int) { bar.at(uint64(n)) })
	bar.end()
	r.sum()
	return r
}

// terminal reports whether a person reads along.
func terminal(w any) bool {
	f, isFile := w.(*os.File)
	if !isFile {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// How a state is told: a mark, a word, and on a terminal a colour.
var verdictMarks = map[verdict]struct{ mark, word, colour string }{
	isOK:      {"+", "ok", "\033[32m"},
	isWarning: {"!", "warn", "\033[33m"},
	isFailed:  {"x", "FAIL", "\033[1;31m"},
	isUnknown: {"?", "unknown", "\033[36m"},
}

// print writes the report for a person: a line for each check, in groups by the
// first word of the id, the remedy below it.
func (r *checkup) print(out io.Writer, colour bool) error {
	var b strings.Builder
	device := r.Device
	if device == "" {
		device = "(no configuration)"
	}
	fmt.Fprintf(&b, "%s   punchclock %s   %s\n", device, r.Version, r.At)
	width := 0
	for _, c := range r.Checks {
		width = max(width, len([]rune(c.Title)))
	}
	for _, g := range r.groups() {
		fmt.Fprintf(&b, "\n%s\n", g.Title)
		for _, c := range g.Checks {
			v := verdictMarks[c.State]
			word := fmt.Sprintf("%s %-7s", v.mark, v.word)
			if colour {
				word = v.colour + word + "\033[0m"
			}
			indent := strings.Repeat(" ", 2+len("x unknown")+2+width+2)
			pad := strings.Repeat(" ", width-len([]rune(c.Title)))
			fmt.Fprintf(&b, "  %s  %s%s  %s\n", word, c.Title, pad, strings.ReplaceAll(c.Detail, "\n", "\n"+indent))
			if c.Remedy != "" {
				fmt.Fprintf(&b, "%s-> %s\n", indent, c.Remedy)
			}
		}
	}
	s := r.Summary
	fmt.Fprintf(&b, "\n%d ok, %d warnings, %d failed, %d could not be checked\n", s.OK, s.Warn, s.Fail, s.Unknown)
	_, err := io.WriteString(out, b.String())
	return err
}

// group is what stands together in a report.
type group struct {
	Title  string
	Checks []checked
}

// groups splits the checks where the first word of the id changes.
func (r *checkup) groups() (out []group) {
	last := ""
	for _, c := range r.Checks {
		word, rest, _ := strings.Cut(c.ID, ".")
		if word == "dest" || word == "reader" {
			name, _, _ := strings.Cut(rest, ".")
			word += " " + name
		}
		if word != last {
			title := word
			if t, known := groupTitles[word]; known {
				title = t
			} else if name, isDest := strings.CutPrefix(word, "dest "); isDest {
				title = "destination " + name
			}
			out = append(out, group{Title: title})
			last = word
		}
		g := &out[len(out)-1]
		g.Checks = append(g.Checks, c)
	}
	return out
}

var groupTitles = map[string]string{
	"program": "punchclock", "daemon": "the clock", "config": "configuration", "state": "state directory", "gpio": "GPIO", "page": "page and screen",
}

//go:embed doctor.html
var doctorPage string

// html writes the report as one page for the job sheet. It needs nothing from
// anywhere else.
func (r *checkup) html(w io.Writer) error {
	page, err := template.New("doctor").Funcs(template.FuncMap{"mark": func(v verdict) string { return verdictMarks[v].mark + " " + verdictMarks[v].word }}).Parse(doctorPage)
	if err != nil {
		return err
	}
	return page.Execute(w, struct {
		*checkup
		Groups []group
	}{r, r.groups()})
}
