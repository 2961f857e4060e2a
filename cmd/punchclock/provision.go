package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue"
)

// A clock gets its configuration from its own card: punchclock.toml on the partition
// that every computer can read, written with whatever editor is there. At the start
// of the machine, before the clock, provision takes it in:
//
//  1. it is checked, by the configuration's own decoder and beyond; each secret that
//     it names must be found;
//  2. everything that is to be installed is written beside its place, on the medium;
//  3. plan.json is put into its place: from here on it will be done, whatever happens;
//  4. renames; then the card's copy is overwritten and removed; then the receipt;
//  5. when the clock runs, which has no need to wait for it: what is free on the card
//     is overwritten, where editors leave older forms.
//
// A power cut before 3 changes nothing, one after it is finished at the next start. A
// file that is refused goes the same way, with nothing to install: its secrets are
// kept for the corrected one, and what stays on the card holds none.
//
// Overwriting is what a file system can do: the files, to the end of their clusters,
// and what is free. The chip in a card writes
// elsewhere and frees the old place later, so a person who takes it apart may find
// what was there; the receipt says so.

// provisioner knows the places.
type provisioner struct {
	boot        string // the card's partition
	config      string // the configuration to be
	credentials string // folder of the secrets
	network     string // folder of systemd-networkd's files
	wifi        string // wpa_supplicant's file
	state       string // plan, receipt, secrets of a refused file
	now         string // folder for the receipt of a file that is not in force, until the machine is switched off; "" for none

	have  inBuild
	disk  disk
	lasts func(dir string) bool // what is put there outlives a power cut
}

func provisionCommand(t *tool) *cobra.Command {
	p := &provisioner{have: built(), now: os.Getenv("RUNTIME_DIRECTORY"), lasts: func(dir string) bool { return !onMemory(dir) }}
	var dry string
	c := t.reporting(&cobra.Command{
		Use: "provision", Short: "Take in the punchclock.toml that lies on the card", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			debug.SetGCPercent(gcStart) // the clock waits for it
			p.config = t.configPath
			if dry != "" {
				return t.tell(p.dryRun(dry))
			}
			return t.tell(p.run())
		},
	})
	c.Flags().StringVar(&dry, "dry-run", "", "only check this `file`, and the secrets beside it, as the clock would")
	c.PersistentFlags().StringVar(&p.boot, "card", "/boot/firmware", "the `folder` in which the card's own partition is mounted")
	c.Flags().StringVar(&p.credentials, "credentials", "/etc/credstore", "the `folder` that secrets are handed to the clock from")
	c.Flags().StringVar(&p.network, "network", "/etc/systemd/network", "the `folder` of systemd-networkd's files")
	c.Flags().StringVar(&p.wifi, "wifi", "/etc/wpa_supplicant/wpa_supplicant-wlan0.conf", "wpa_supplicant's `file`")
	c.PersistentFlags().StringVar(&p.state, "state", "/var/lib/punchclock-provision", "the `folder` of the last receipt")
	var listen, display string
	page := &cobra.Command{
		Use: "page", Short: "Show on the screen of a clock without a configuration what became of its card", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if display != "" {
				return p.show(c.Context(), display, slog.New(slog.NewTextHandler(t.stderr, nil)))
			}
			if loopback, err := listenAddress(listen); err != nil || !loopback {
				return usage("--listen %s: write 127.0.0.1 and a port: the page is for this machine's own screen", listen)
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("page: %w; where a clock runs it has a page of its own", err)
			}
			return serve(c.Context(), &http.Server{Handler: p.page(), ReadHeaderTimeout: 10 * time.Second}, l)
		},
	}
	page.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "the `address` of the page")
	page.Flags().StringVar(&display, "screen", "", "without a page and a browser: draw on this `display`, auto or as [screen] device has it")
	c.AddCommand(page, &cobra.Command{
		Use: "sweep", Short: "Overwrite what is free on the card, once after a file was taken in from it", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.sweep() },
	})
	return c
}

// tell prints what became of a card.
func (t *tool) tell(r *receipt, err error) error {
	if err != nil {
		return err
	}
	if t.json {
		if err := t.printJSON(r); err != nil {
			return err
		}
	}
	if len(r.Problems) > 0 {
		return &exitError{exitUsage, r.problems()}
	}
	if !t.json {
		fmt.Fprint(t.stdout, r.words())
	}
	return nil
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// run takes in what is on the card. A receipt with problems is a file that was
// refused; an error is something that a file cannot be blamed for.
func (p *provisioner) run() (*receipt, error) {
	r, err := p.take()
	if err != nil {
		// What could not be done is for the screen, too; where even that cannot be
		// written, the journal has it.
		failed := &receipt{Outcome: failedOutcome, Failed: err.Error(), Left: p.lastReceipt().Left}
		if p.planned() {
			failed.Outcome = unfinishedOutcome
		}
		err = errors.Join(err, p.disk.putJSON(filepath.Join(p.state, receiptJSON), failed, 0o644))
		return r, errors.Join(err, p.tellClock(failed))
	}
	return r, p.tellClock(r)
}

// tellClock leaves word for the clock that is about to start: it shows a file that is
// not in force, at each start at which that still lies on the card.
func (p *provisioner) tellClock(r *receipt) error {
	if p.now == "" || !r.trouble() {
		return nil
	}
	return p.disk.putJSON(filepath.Join(p.now, receiptJSON), r, 0o644)
}

// cardTrouble is where the clock finds that word.
const cardTrouble = "/run/punchclock-provision/" + receiptJSON

// readCardTrouble returns what became of the card's file at this start, nil where it is
// in force or there was none.
func readCardTrouble(path string) *receipt {
	b, err := os.ReadFile(path)
	r := &receipt{}
	if err != nil || json.Unmarshal(b, r) != nil || !r.trouble() || r.Outcome == refusedOutcome && len(r.Problems) == 0 {
		return nil
	}
	return r
}

func (p *provisioner) take() (*receipt, error) {
	if err := p.disk.mkdir(p.state, 0o755); err != nil {
		return nil, fmt.Errorf("provision: %w; the clock's own part of the card cannot be written: write a new card", err)
	}
	for _, dir := range []string{p.state, filepath.Dir(p.config), p.credentials} {
		if !p.lasts(dir) && p.lasts(p.boot) { // a card in memory is a trial, and loses nothing
			return nil, fmt.Errorf("provision: %s is only in memory, nothing put there would be kept: the clock's own part of the card is missing or damaged; write a new card", dir)
		}
	}
	var begun plan
	switch b, err := os.ReadFile(filepath.Join(p.state, planName)); {
	case err == nil:
		if err := json.Unmarshal(b, &begun); err != nil {
			return nil, fmt.Errorf("provision: %s: %w; remove that file and put punchclock.toml on the card again", planName, err)
		}
		if err := p.carry(&begun); err != nil {
			return nil, fmt.Errorf("provision: %w; start the machine again to go on where this ended", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("provision: %w", err)
	}
	last := p.lastReceipt()
	fresh, left, err := p.find(last)
	if err != nil {
		return nil, fmt.Errorf("provision: the card: %w", err)
	}
	if len(fresh) == 0 {
		return last, nil
	}
	for _, name := range slices.Concat(fresh, left) { // neither read nor half done where it could not be wiped
		f, err := os.OpenFile(filepath.Join(p.boot, name), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("provision: %s cannot be wiped from the card, so nothing was taken in and its secrets are still there: %w; "+
				"have a computer check and repair the card, or write a new one", name, err)
		}
		f.Close()
	}
	pl, texts, err := p.decide(fresh, left)
	if err == nil {
		err = p.prepare(pl, texts)
	}
	if err != nil && !p.planned() {
		return nil, fmt.Errorf("provision: %w; nothing was changed", err)
	}
	if err == nil {
		err = p.carry(pl)
	}
	if err != nil {
		return nil, fmt.Errorf("provision: %w; start the machine again to go on where this ended", err)
	}
	return &pl.Done, nil
}

// planned reports whether something is under way.
func (p *provisioner) planned() bool {
	_, err := os.Stat(filepath.Join(p.state, planName))
	return err == nil
}

func (p *provisioner) lastReceipt() *receipt {
	r := &receipt{Outcome: nothingOutcome}
	if b, err := os.ReadFile(filepath.Join(p.state, receiptJSON)); err == nil {
		var known receipt
		if json.Unmarshal(b, &known) == nil && known.Outcome != "" {
			r = &known
		}
	}
	return r
}

// find lists the card's files that are to be taken in, and those that are as the last
// refusal has left them.
func (p *provisioner) find(last *receipt) (fresh, left []string, err error) {
	entries, err := os.ReadDir(p.boot)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		// Notepad adds .txt, and Windows does not show it.
		if name := strings.ToLower(e.Name()); !e.Type().IsRegular() || name != "punchclock.toml" && name != "punchclock.toml.txt" {
			continue
		}
		b, err := readSmall(filepath.Join(p.boot, e.Name()))
		if err != nil {
			return nil, nil, err
		}
		if sum(b) == last.Left {
			left = append(left, e.Name())
		} else {
			fresh = append(fresh, e.Name())
		}
	}
	return fresh, left, nil
}

// readSmall reads a file of the card, and of a large one the beginning.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, mostConfigBytes+1))
}

// onCard finds the files below a folder that are named like secrets, wherever they
// were put.
func onCard(dir string) (paths map[string][]string, err error) {
	names := secretNames()
	paths = map[string][]string{}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(strings.ToLower(e.Name()), ".txt")
		if e.Type().IsRegular() && slices.Contains(names, name) {
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			paths[name] = append(paths[name], rel)
		}
		return nil
	})
	return paths, err
}

// fromFiles reads secrets from those files.
func fromFiles(dir string, paths map[string][]string) source {
	return func(name string) (secret, where string, err error) {
		for _, path := range paths[name] {
			b, err := readSmall(filepath.Join(dir, path))
			if err != nil {
				return "", "", err
			}
			s, err := trimSecret(path, strings.TrimSuffix(string(plainText(b)), "\n"))
			if err != nil {
				return "", "", err
			}
			if where != "" && s != secret {
				return "", "", fmt.Errorf("the secret %s is in %s and another one in %s: remove one", name, where, path)
			}
			secret, where = s, path
		}
		return secret, where, nil
	}
}

// pending is where the secrets of a refused file wait for the corrected one.
func (p *provisioner) pending(name string) string {
	return filepath.Join(p.state, "pending", name)
}

// inClock finds a secret that came with an earlier file.
func (p *provisioner) inClock(name string) (secret, where string, err error) {
	for _, path := range []string{p.pending(name), filepath.Join(p.credentials, name)} {
		if s, err := readSecret(path); err == nil {
			return s, path, nil
		}
	}
	return "", "", nil
}

// install is a file that is to be installed.
type install struct {
	path string
	data []byte
	mode fs.FileMode
}

// decide checks what is on the card and says what is to be done with it.
func (p *provisioner) decide(fresh, left []string) (*plan, []install, error) {
	paths, err := onCard(p.boot)
	if err != nil {
		return nil, nil, fmt.Errorf("the card: %w", err)
	}
	pl := &plan{}
	for _, name := range slices.Concat(fresh, left) {
		b, err := readSmall(filepath.Join(p.boot, name))
		if err != nil {
			return nil, nil, err
		}
		pl.Card = append(pl.Card, cardPart{Name: name, SHA: sum(b)})
	}
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		for _, path := range paths[name] {
			b, err := readSmall(filepath.Join(p.boot, path))
			if err != nil {
				return nil, nil, err
			}
			pl.Card = append(pl.Card, cardPart{Name: path, SHA: sum(b)})
		}
	}
	name := fresh[0]
	raw, err := readSmall(filepath.Join(p.boot, name))
	if err != nil {
		return nil, nil, err
	}
	var f *cardFile
	var asides []move
	if len(fresh) > 1 {
		err = problems{{name, 1, 1, fmt.Sprintf("the card holds both %s and %s", fresh[0], fresh[1]), "keep the right one, as punchclock.toml"}}
	} else {
		f, err = p.check(name, plainText(raw), fromFiles(p.boot, paths), p.inClock, p.boot, &asides)
	}
	var ps problems
	switch {
	case errors.As(err, &ps):
		return p.refuse(pl, ps, len(fresh), paths)
	case err != nil:
		return nil, nil, err
	}
	pl.Aside = asides
	return p.accept(pl, f)
}

// check reads a card's file as it will be read at its place, and calls it by its name.
func (p *provisioner) check(name string, body []byte, card, clock source, dir string, asides *[]move) (*cardFile, error) {
	hasFile := func(name string) bool {
		for _, dir := range []string{dir, filepath.Dir(p.config), cmp.Or(p.credentials, dir)} {
			if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode().IsRegular() {
				return true
			}
		}
		return false
	}
	f, err := readCard(p.config, body, p.have, card, clock, hasFile, func(c *config, setAside bool) (msg, fix string) {
		if asides == nil {
			return "", ""
		}
		msg, fix, *asides = p.otherDevice(c, setAside)
		return msg, fix
	})
	var ps problems
	if errors.As(err, &ps) {
		for i := range ps {
			ps[i].file = name
		}
		return nil, ps
	}
	return f, err
}

// otherDevice looks for punches of a clock with another id, here or where the
// configuration in force keeps them. Punches that a destination still waits for are
// put aside only where a person says so.
func (p *provisioner) otherDevice(c *config, setAside bool) (msg, fix string, asides []move) {
	now, _ := loadConfig(p.config, p.have) // nil at the first visit, and where it is damaged
	dirs := []string{c.Device.StateDir}
	if now != nil && now.Device.StateDir != c.Device.StateDir {
		dirs = append(dirs, now.Device.StateDir)
	}
	for i, dir := range dirs {
		dir = filepath.Join(dir, "outbox")
		old, unsent := "", 0
		o, err := queue.Open(queue.Options{Dir: dir, ReadOnly: true})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil:
			old = o.Device()
			for _, d := range o.Stats().Destinations {
				unsent = max(unsent, int(d.Pending)+d.Parked)
			}
			o.Close()
		case now == nil || now.Device.ID == c.Device.ID && i == 0:
			continue // in use or damaged, and no other clock's: the clock itself sees to it
		default:
			return fmt.Sprintf("the punches of %q cannot be counted: %v", now.Device.ID, err), "stop the clock first: systemctl stop punchclock; or keep id and state_dir as they are", nil
		}
		if old == c.Device.ID && i == 0 {
			continue
		}
		if unsent > 0 && !setAside {
			return fmt.Sprintf("this clock was %q and holds %d punches that are not delivered yet", old, unsent),
				fmt.Sprintf(`write id = %q and the old state_dir until they are; or, if they may stay unsent, write set_aside_punches = true under [provision]`, old), nil
		}
		if i == 0 {
			to := dir + "-of-" + old
			for n := 2; ; n++ {
				if _, err := os.Lstat(to); err != nil {
					break
				}
				to = fmt.Sprintf("%s-of-%s-%d", dir, old, n)
			}
			asides = append(asides, move{dir, to, old})
		}
	}
	return "", "", asides
}

// refuse keeps the secrets, and leaves the rest on the card to be corrected.
func (p *provisioner) refuse(pl *plan, ps problems, fresh int, paths map[string][]string) (*plan, []install, error) {
	pl.Done = receipt{Outcome: refusedOutcome, Left: pl.Card[0].SHA}
	kept := map[string]string{}
	for i := range fresh {
		raw, err := readSmall(filepath.Join(p.boot, pl.Card[i].Name))
		if err != nil {
			return nil, nil, err
		}
		left, found := withoutSecrets(plainText(raw))
		left = asItWas(raw, left)
		if len(raw) > mostConfigBytes {
			left = nil // no configuration at all
		}
		for name, s := range found {
			if _, err := trimSecret(name, s); err == nil && slices.Contains(secretNames(), name) {
				kept[name] = s
			}
		}
		pl.Card[i].Left = string(left)
		if i == 0 {
			pl.Done.Left = sum(left)
		}
	}
	for name := range paths {
		if s, _, err := fromFiles(p.boot, paths)(name); err == nil {
			kept[name] = s
		}
	}
	for _, problem := range ps {
		pl.Done.Problems = append(pl.Done.Problems, mistake{problem.file, problem.line, problem.col, problem.msg, problem.fix})
	}
	var texts []install
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		texts = append(texts, install{p.pending(name), []byte(kept[name] + "\n"), 0o600})
		pl.Done.Secrets = append(pl.Done.Secrets, name)
	}
	return pl, texts, nil
}

// accept says what is installed where: the configuration last, because with it there
// the clock can start.
func (p *provisioner) accept(pl *plan, f *cardFile) (*plan, []install, error) {
	pl.Done = receipt{Outcome: installedOutcome, Device: f.cfg.Device.ID, Name: f.cfg.Device.Name, Fingerprint: fingerprint(f.installed), Network: f.network.words()}
	var texts []install
	for _, name := range slices.Sorted(maps.Keys(f.secrets)) {
		pl.Done.Secrets = append(pl.Done.Secrets, name)
		texts = append(texts, install{filepath.Join(p.credentials, name), []byte(f.secrets[name] + "\n"), 0o600})
	}
	for _, w := range f.authorities {
		b, err := readSmall(filepath.Join(p.boot, w.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it came with an earlier file
		} else if err != nil {
			return nil, nil, fmt.Errorf("the card: %w", err)
		}
		to := install{filepath.Join(filepath.Dir(p.config), w.name), b, 0o644}
		if w.key == logsKey {
			to = install{filepath.Join(p.credentials, w.name), b, 0o600}
		}
		texts = append(texts, to)
		pl.Card = append(pl.Card, cardPart{Name: w.name, SHA: sum(b)})
	}
	gone := []string{}
	if n := f.network; n != nil {
		texts = append(texts, install{filepath.Join(p.network, "10-punchclock-wired.network"), n.wiredFile(), 0o644})
		radio := filepath.Join(p.network, "10-punchclock-wifi.network")
		if n.WiFi != nil {
			texts = append(texts, install{radio, n.radioFile(), 0o644}, install{p.wifi, n.WiFi.file(f.secrets[wifiSecret]), 0o600})
		} else {
			gone = append(gone, radio, p.wifi, filepath.Join(p.credentials, wifiSecret))
		}
	}
	texts = append(texts, install{p.config, f.installed, 0o644})
	for _, name := range handedOver() {
		if _, wanted := f.secrets[name]; !wanted {
			gone = append(gone, filepath.Join(p.credentials, name))
		}
		gone = append(gone, p.pending(name))
	}
	for _, path := range append(gone, p.pending(wifiSecret)) {
		if _, err := os.Lstat(path); err == nil {
			pl.Remove = append(pl.Remove, path)
		}
	}
	for _, m := range pl.Aside {
		pl.Done.Aside = append(pl.Done.Aside, m.To)
	}
	return pl, texts, nil
}

// prepare writes everything beside its place and then the plan. What it has written
// is removed again where it cannot be finished, unless the plan may be in its place.
func (p *provisioner) prepare(pl *plan, texts []install) (err error) {
	path := filepath.Join(p.state, planName)
	begun := []string{path + ".new"}
	dirs := []string{p.state}
	defer func() {
		if err == nil || p.disk.remove(path) != nil {
			return
		}
		for _, path := range begun {
			if p.disk.wipe(path) != nil {
				_ = p.disk.remove(path) // the error that counts is the first
			}
		}
	}()
	for _, t := range texts {
		mode := fs.FileMode(0o755)
		if t.mode == 0o600 {
			mode = 0o700
		}
		if err := p.disk.mkdir(filepath.Dir(t.path), mode); err != nil {
			return err
		}
		begun = append(begun, t.path+".new")
		if err := p.disk.lay(t.path+".new", t.data, t.mode); err != nil {
			return err
		}
		dirs = append(dirs, filepath.Dir(t.path))
		pl.Files = append(pl.Files, t.path)
	}
	text, err := jsonText(pl)
	if err != nil {
		return err
	}
	if err := p.disk.lay(path+".new", text, 0o600); err != nil {
		return err
	}
	if err := p.disk.settle(dirs...); err != nil {
		return err
	}
	return p.disk.rename(path+".new", path)
}

// dryRun checks a file on any machine. What only the clock knows is not looked at:
// which secrets it has already, and whose punches.
func (p *provisioner) dryRun(path string) (*receipt, error) {
	raw, err := readSmall(path)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("provision: %w; name the file that is to go on the card", err)}
	}
	dir := filepath.Dir(path)
	f, err := p.check(path, plainText(raw), beside(dir), func(string) (string, string, error) { return "", "", nil }, dir, nil)
	if err != nil {
		return nil, err
	}
	r := &receipt{Outcome: checkedOutcome, Device: f.cfg.Device.ID, Name: f.cfg.Device.Name, Fingerprint: fingerprint(f.installed), Network: f.network.words()}
	r.Secrets = slices.Sorted(maps.Keys(f.secrets))
	return r, nil
}

// beside reads secrets from files beside the one that is checked.
func beside(dir string) source {
	return func(name string) (string, string, error) {
		paths := map[string][]string{}
		for _, file := range []string{name, name + ".txt"} {
			if st, err := os.Stat(filepath.Join(dir, file)); err == nil && st.Mode().IsRegular() {
				paths[name] = append(paths[name], file)
			}
		}
		return fromFiles(dir, paths)(name)
	}
}
