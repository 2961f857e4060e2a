package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// An update changes the program that holds the promise, so it is done in steps that
// each end with a line on the medium, and any of them may be the last before a power
// cut. What is offered must be proven to be ours, whole, for this machine and newer; the moment
// must be a quiet one and the medium sound; the way back must be open before the
// way on is taken. Then the new version is on trial: it is good after ten healthy
// minutes in which it has stored a punch and delivered one, and otherwise the
// version before it comes back by itself. Where nobody taps it stays on trial, over
// nights and holidays without power too: that is no fault of it, and ten healthy minutes
// of a boot make up for the boot.
//
// One that went back is not tried again, but for this: it was well and delivered nothing.
// It may have broken the network, hence the way back; or the line was down, or the
// far side. So it is tried again when the version before has delivered something, which
// shows that there is a way; when it has come back like this three times it is its own fault.
//
//	(none) ── begin ──> installing ──> starting ──> trial ──> proven ──> (none), good
//	                        └─────────────┴───────────┴──> back ──> (none), went back
//
// punchclock update looks, decides and writes "installing"; all the rest is done by
// punchclock update resume, which a unit starts, after a power cut too. What runs
// there is a copy of the old version, proven at this very door, and not the one that
// is on trial: a program that cannot start cannot take itself back.
//
// How a version is fetched, put in place and taken back depends on what the machine
// was installed with. That is behind installation; a machine has one.

// installation is how this machine gets another version. Its methods may be called
// again after a power cut in their middle. A refusal is a *refusal; any other error is
// one of the machine or the network, and may pass.
type installation interface {
	// Kind names it: "apt", "rauc".
	Kind() string

	// Running returns the version that a start of the clock would give now, as the
	// clock's own status tells it; "" where a change was broken off in its middle and
	// there is none to rely on.
	Running(ctx context.Context) (string, error)

	// Offer returns the newest version that is offered, "" for none. One that is newer than
	// running has been fetched when it returns, and proven to be signed by the key this
	// machine trusts, whole, and for this machine; it lies where Install finds it
	// after a power cut. Fetching again what is there already costs nothing.
	Offer(ctx context.Context, running string) (version string, err error)

	// Keep sees to it that Back works without a network from now on, whatever becomes
	// of Install.
	Keep(ctx context.Context, running string) error

	// Install puts the offered version in place. The old one may go on running.
	Install(ctx context.Context, version string) error

	// Start has the installed version run. Where that takes a restart of the machine it
	// does not return before the machine goes down.
	Start(ctx context.Context, version string) error

	// Hold has the machine go on starting the version that is on trial, which was well for
	// ten minutes in this boot. It is not the one that stays yet.
	Hold(ctx context.Context, version string) error

	// Good makes the running version the one that stays.
	Good(ctx context.Context, version string) error

	// Back has the previous version in place and running again, as Start.
	Back(ctx context.Context, previous string) error
}

// installations are the kinds there are; the first that a machine is counts.
var installations = []func(dir string) (in installation, here bool){
	raucInstallation,
	aptInstallation,
}

// updateDir is root's own: the clock's account must not be able to change what root
// runs and installs. Others may look; there is no secret in it.
const updateDir = "/var/lib/punchclock-update"

// refusal says why what is offered is not installed.
type refusal struct {
	Reason string // for scripts; it never changes
	Detail string
	Remedy string
}

func (r *refusal) Error() string { return r.Detail + "; " + r.Remedy }

// Reasons of the gate itself. Those of what is offered are the installation's, and
// are the same for all kinds where they mean the same.
const (
	refusedLower    = "lower"           // than what runs
	refusedFailed   = "failed-before"   // it went back already
	refusedMachine  = "wrong-machine"   // another architecture or board
	refusedUnsigned = "unsigned"        // no signature
	refusedKey      = "wrong-signature" // of another key, or not over this
	refusedCut      = "cut"             // shorter or longer than what was signed
	refusedAltered  = "altered"         // other bytes than what was signed
	refusedPayload  = "wrong-payload"   // signed, and not what it says it is
	refusedNoBack   = "no-way-back"     // the running version could not be had again
	refusedUnsent   = "undelivered"     // it went back with nothing delivered, and nothing has been since
	refusedPeak     = "peak"            // people are at the door
	refusedDisk     = "disk"            // the medium or its store is in trouble
	refusedClock    = "clock"           // nobody has set the time
	refusedConfig   = "configuration"   // without one there is no clock to judge by
)

// How far an update has come, as its file tells it.
const (
	phaseInstalling = "installing"
	phaseStarting   = "starting"
	phaseTrial      = "trial"
	phaseProven     = "proven"
	phaseBack       = "back"
)

// updateState is the file. It is replaced as a whole.
type updateState struct {
	Schema int    `json:"schema"`
	Phase  string `json:"phase"` // "" where no update is under way
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Boot   string `json:"boot,omitempty"` // the boot in which the phase began
	Boots  int    `json:"boots,omitempty"`
	Before pulse  `json:"before,omitzero"`  // how the clock was before
	Why    string `json:"why,omitempty"`    // of going back
	Unsent bool   `json:"unsent,omitempty"` // nothing else than that it delivered nothing

	Last   *updateResult     `json:"last,omitempty"`
	Failed map[string]string `json:"failed,omitempty"` // versions that went back, and why
}

// updateResult is how the last update ended.
type updateResult struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Result string `json:"result"` // good, went-back
	Why    string `json:"why,omitempty"`
	At     string `json:"at"`               // RFC 3339
	Unsent int    `json:"unsent,omitempty"` // how many times on end it went back only because it delivered nothing
}

// excused reports whether a version that went back is tried again by itself.
func (l *updateResult) excused() bool { return l.Unsent > 0 && l.Unsent < trialExcused }

const updateSchema = 1

// gate is one machine's updates.
type gate struct {
	in   installation
	dir  string
	log  *slog.Logger
	boot string // this boot's id

	pulse func(context.Context) (pulse, error) // how the clock fares
	fit   func(context.Context) error          // why not now; nil for now
	judge func(path string) error              // leaves a copy of this program there
}

const (
	updateStateName = "state.json"
	updateStateFile = updateDir + "/" + updateStateName
)

func (g *gate) path() string { return filepath.Join(g.dir, updateStateName) }

// guardName is the copy of the version that judges the next one; it is there while an
// update is under way.
const guardName = "guard"

func (g *gate) load() (st updateState, err error) {
	b, err := os.ReadFile(g.path())
	if errors.Is(err, fs.ErrNotExist) {
		return updateState{Schema: updateSchema}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err == nil && st.Schema != updateSchema {
		err = fmt.Errorf("schema %d, this program knows %d", st.Schema, updateSchema)
	}
	if err != nil {
		return st, fmt.Errorf("%s: %w; it says how far an update has come: see that the clock runs, then remove it", g.path(), err)
	}
	return st, nil
}

// save writes the next phase down; an error means that the one before holds.
func (g *gate) save(st *updateState, phase string) error {
	next := *st
	next.Phase, next.Boot = phase, g.boot
	if err := errors.Join(replaceJSON(g.path(), next), os.Chmod(g.path(), 0o644)); err != nil { // the clock tells of it
		return fmt.Errorf("write down how far the update has come: %w", err)
	}
	*st = next
	g.log.Info("update", "phase", cmp.Or(phase, "none"), "from", st.From, "to", st.To)
	return nil
}

// lock keeps a second update out until release is called.
func (g *gate) lock() (release func(), err error) {
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("update: %w; it must be run as root", err)
	}
	f, err := os.OpenFile(filepath.Join(g.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("update: %w; it must be run as root", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, errUnderWay
	}
	return func() { f.Close() }, nil
}

var errUnderWay = errors.New("an update is under way; see: punchclock update status")

// look finds out what is offered and whether it may be installed now. version is ""
// where nothing newer is offered. again takes one that went back once more.
func (g *gate) look(ctx context.Context, again bool) (running, version string, err error) {
	if running, err = g.in.Running(ctx); err != nil {
		return "", "", err
	}
	if running == "" {
		return "", "", errors.New("what is installed was broken off in its middle; finish it first: dpkg --configure -a")
	}
	if version, err = g.in.Offer(ctx, running); err != nil {
		return running, "", err
	}
	if version == "" || version == running {
		return running, "", nil
	}
	if compareVersions(version, running) < 0 {
		return running, "", &refusal{refusedLower, fmt.Sprintf("version %s is offered, and %s runs: an update never goes down", version, running),
			"publish a higher version, or go down by hand with apt-get install punchclock=" + version}
	}
	st, err := g.load()
	if err != nil {
		return running, "", err
	}
	if why, failed := st.Failed[version]; failed && !again {
		return running, "", &refusal{refusedFailed, fmt.Sprintf("version %s was tried and went back: %s", version, why),
			barredRemedy}
	}
	if l := st.Last; l != nil && l.To == version && l.excused() && !again {
		if p, err := g.pulse(ctx); err == nil && p.Delivers && !p.Delivered { // where it does not answer, fit says what is wrong
			return running, "", &refusal{refusedUnsent, fmt.Sprintf("version %s was tried and went back: %s; %s has delivered none since then either", version, l.Why, running), unsentRemedy}
		}
	}
	return running, version, g.fit(ctx)
}

// begin opens the way back and writes down that the version is to be installed. From
// then on resume carries it on.
func (g *gate) begin(ctx context.Context, running, version string) error {
	st, err := g.load()
	if err != nil {
		return err
	}
	if st.Phase != "" {
		return errUnderWay
	}
	if err := g.in.Keep(ctx, running); err != nil {
		return err
	}
	if err := g.judge(filepath.Join(g.dir, guardName)); err != nil {
		return fmt.Errorf("keep the running version as judge of the new one: %w", err)
	}
	st.From, st.To, st.Why, st.Unsent, st.Boots = running, version, "", false, 0
	// A clock that does not answer has nothing to compare with: an update may be what
	// mends it.
	if st.Before, err = g.pulse(ctx); err != nil {
		st.Before = pulse{}
	}
	return g.save(&st, phaseInstalling)
}

// copyProgram writes the running program to path, whole or not at all.
func copyProgram(path string) (err error) {
	in, err := os.Open("/proc/self/exe") // also where the file has been replaced meanwhile
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return os.Rename(path+".new", path) // replaceJSON syncs the folder afterwards
}

// compareVersions is negative where a is lower than b, by Debian's rules (policy 5.6.12):
// digits as numbers, "~" before everything, even the end.
func compareVersions(a, b string) int {
	split := func(v string) (epoch, upstream, revision string) {
		epoch, rest, has := strings.Cut(v, ":")
		if !has {
			epoch, rest = "0", v
		}
		if i := strings.LastIndexByte(rest, '-'); i >= 0 {
			return epoch, rest[:i], rest[i+1:]
		}
		return epoch, rest, "0"
	}
	ae, au, ar := split(a)
	be, bu, br := split(b)
	return cmp.Or(comparePart(ae, be), comparePart(au, bu), comparePart(ar, br))
}

func comparePart(a, b string) int {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	weight := func(s string, i int) int {
		switch {
		case i >= len(s) || digit(s[i]):
			return 0
		case s[i] == '~':
			return -1
		case s[i] >= 'A' && s[i] <= 'Z', s[i] >= 'a' && s[i] <= 'z':
			return int(s[i])
		}
		return int(s[i]) + 256
	}
	for a != "" || b != "" {
		for (a != "" && !digit(a[0])) || (b != "" && !digit(b[0])) {
			if c := cmp.Compare(weight(a, 0), weight(b, 0)); c != 0 {
				return c
			}
			a, b = a[min(1, len(a)):], b[min(1, len(b)):]
		}
		number := func(s string) (string, string) {
			n := 0
			for n < len(s) && digit(s[n]) {
				n++
			}
			return strings.TrimLeft(s[:n], "0"), s[n:]
		}
		var x, y string
		x, a = number(a)
		y, b = number(b)
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
			return c
		}
	}
	return 0
}

// The command line.

// openGate is the gate of this machine, locked until release is called; errUnderWay
// where another has it.
func (t *tool) openGate() (g *gate, release func(), err error) {
	in, err := thisInstallation()
	if err != nil {
		return nil, nil, err
	}
	boot, err := bootText()
	if err != nil {
		return nil, nil, err
	}
	g = &gate{in: in, dir: updateDir, log: newLogger(t.stderr), boot: boot, pulse: t.takePulse, fit: t.fitForUpdate, judge: copyProgram}
	release, err = g.lock()
	return g, release, err
}

func thisInstallation() (installation, error) {
	for _, kind := range installations {
		if in, here := kind(updateDir); here {
			return in, nil
		}
	}
	return nil, usage("update: this punchclock came neither with a package nor with an image, so nothing is known to update it from; replace the program by hand and restart the clock")
}

// updateAnswer is what --json prints.
type updateAnswer struct {
	Result  string `json:"result"` // current, offered, begun, under-way, later, refused
	Running string `json:"running"`
	Version string `json:"version,omitempty"` // offered
	Reason  string `json:"reason,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
}

func updateCommand(t *tool) *cobra.Command {
	var check, again bool
	c := t.reporting(&cobra.Command{
		Use: "update", Short: "Install a newer version where one is offered, on trial", Args: cobra.NoArgs,
		Long: "Look for a newer version, prove that it is signed, whole and for this machine, and install it at\n" +
			"a quiet moment. It is on trial then: good after ten healthy minutes with a punch stored and one\n" +
			"delivered; otherwise the version before comes back by itself. As root.",
		RunE: func(c *cobra.Command, _ []string) error {
			g, release, err := t.openGate()
			if errors.Is(err, errUnderWay) {
				return t.printUpdate(updateAnswer{Result: "under-way"})
			}
			if err != nil {
				return err
			}
			defer release()
			a, err := g.update(c.Context(), check, again)
			if a.Result != "" {
				if perr := t.printUpdate(a); perr != nil {
					return perr
				}
			}
			if err != nil || check || a.Result != "begun" && a.Result != "under-way" {
				return err
			}
			release() // the unit takes it over, or over again
			return carryOn(c.Context(), t.stderr)
		},
	})
	c.Flags().BoolVar(&check, "check", false, "say what would be done, and change nothing")
	c.Flags().BoolVar(&again, "again", false, "also a version that went back before")
	status := t.reporting(&cobra.Command{
		Use: "status", Short: "Show how far an update has come, and how the last one ended", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			g := &gate{dir: updateDir}
			st, err := g.load()
			if errors.Is(err, fs.ErrPermission) {
				return &exitError{exitUnchecked, fmt.Errorf("%w; ask as root", err)}
			}
			if err != nil {
				return err
			}
			if t.json {
				return t.printJSON(st)
			}
			return st.print(t.stdout)
		},
	})
	resume := &cobra.Command{
		Use: "resume", Short: "Carry an update on that has been begun; for its unit, and after a power cut", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			g, release, err := t.openGate()
			if err != nil {
				return err
			}
			defer release()
			return g.resume(c.Context())
		},
	}
	c.AddCommand(status, resume)
	return c
}

// update looks, and begins where there is something to begin.
func (g *gate) update(ctx context.Context, check, again bool) (a updateAnswer, err error) {
	st, err := g.load()
	if err != nil {
		return a, err
	}
	if st.Phase != "" {
		a.Result = "under-way"
		return a, nil
	}
	a.Running, a.Version, err = g.look(ctx, again)
	var no *refusal
	switch {
	case errors.As(err, &no):
		a.Result, a.Reason, a.Detail, a.Remedy = "refused", no.Reason, no.Detail, no.Remedy
		if no.Reason == refusedPeak || no.Reason == refusedUnsent { // it is no fault, and the next hour may do
			a.Result = "later"
			return a, nil
		}
		g.log.Error("update refused", "reason", no.Reason, "version", a.Version, "err", no)
		return a, &exitError{exitFailed, fmt.Errorf("update refused (%s)", no.Reason)}
	case err != nil:
		return updateAnswer{}, fmt.Errorf("update: %w", err)
	case a.Version == "":
		a.Result = "current"
		return a, nil
	case check:
		a.Result = "offered"
		return a, nil
	}
	err = g.begin(ctx, a.Running, a.Version)
	if errors.As(err, &no) {
		a.Result, a.Reason, a.Detail, a.Remedy = "refused", no.Reason, no.Detail, no.Remedy
		return a, &exitError{exitFailed, fmt.Errorf("update refused (%s)", no.Reason)}
	}
	if err != nil {
		return updateAnswer{}, fmt.Errorf("update: %w", err)
	}
	a.Result = "begun"
	return a, nil
}

func (t *tool) printUpdate(a updateAnswer) error {
	if t.json {
		return t.printJSON(a)
	}
	var err error
	switch a.Result {
	case "current":
		_, err = fmt.Fprintf(t.stdout, "%s runs, and nothing newer is offered\n", a.Running)
	case "offered":
		_, err = fmt.Fprintf(t.stdout, "%s runs; %s is offered, and could be installed now\n", a.Running, a.Version)
	case "begun":
		_, err = fmt.Fprintf(t.stdout, "%s is being installed in place of %s, on trial; see: punchclock update status\n", a.Version, a.Running)
	case "under-way":
		_, err = fmt.Fprintln(t.stdout, "an update is under way; see: punchclock update status")
	case "later":
		_, err = fmt.Fprintf(t.stdout, "not now: %s\n  -> %s\n", a.Detail, a.Remedy)
	case "refused":
		_, err = fmt.Fprintf(t.stdout, "refused (%s): %s\n  -> %s\n", a.Reason, a.Detail, a.Remedy)
	}
	return err
}

func (st *updateState) print(w io.Writer) error {
	words, last, remedy := st.words()
	_, err := fmt.Fprintln(w, words)
	if last != "" && err == nil {
		_, err = fmt.Fprintln(w, last)
	}
	if remedy != "" && err == nil {
		_, err = fmt.Fprintf(w, "  -> %s\n", remedy)
	}
	return err
}

// words say how far an update has come, how the last one ended, and what a person does
// now; "" where there is nothing to say.
func (st *updateState) words() (now, last, remedy string) {
	switch st.Phase {
	case "":
		now = "no update is under way"
	case phaseInstalling:
		now = st.To + " is being installed in place of " + st.From
	case phaseStarting:
		now = st.To + " is installed and is being started"
	case phaseTrial:
		now = st.To + " is on trial: good after ten healthy minutes with a punch stored and one delivered; else " + st.From + " comes back"
		remedy = "it waits for a tap: hold a card to the reader"
	case phaseProven:
		now = st.To + " has proven itself and is being made the one that stays"
	case phaseBack:
		now = "going back from " + st.To + " to " + st.From + ": " + st.Why
	}
	if l := st.Last; l != nil {
		last = "the last one, " + l.From + " to " + l.To + ", "
		switch {
		case l.Result == "good":
			last += "was found good at " + l.At
		case l.excused():
			last += "went back at " + l.At + ", and " + l.To + " is tried again once " + l.From + " has delivered something: " + l.Why
			if st.Phase == "" {
				remedy = unsentRemedy
			}
		default:
			last += "went back at " + l.At + ", and " + l.To + " is not tried again by itself: " + l.Why
		}
	}
	if st.barred() {
		remedy = barredRemedy
	}
	return now, last, remedy
}

// barred reports whether what was tried last went back, so that it is not tried again by
// itself.
func (st *updateState) barred() bool {
	return st.Phase == "" && st.Last != nil && st.Last.Result != "good" && !st.Last.excused()
}

const unsentRemedy = "see to the network and the destinations, punchclock doctor tells; then it goes on by itself"

const barredRemedy = "mend what it says, then: punchclock update --again; or publish a higher version"

// trialUnit carries a begun update on; see the unit.
const trialUnit = "punchclock-trial.service"

// carryOn starts the unit, where systemd runs.
func carryOn(ctx context.Context, stderr io.Writer) error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		fmt.Fprintln(stderr, "systemd does not run here: carry on with: punchclock update resume")
		return nil
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "start", "--no-block", trialUnit).CombinedOutput(); err != nil {
		return fmt.Errorf("update: start %s: %w: %s; carry on with: punchclock update resume", trialUnit, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// now of a result, as it is written down.
func updateTime() string { return time.Now().Format(time.RFC3339) }
