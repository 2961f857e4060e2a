package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/ui/web"
)

// adminPIN is the PIN of the page for technicians and HR. It lies in two files of the
// state directory: admin.json has its hash and the wrong tries since the last right
// one, admin-tries.json the guard's delays, see pinGuard. A try is counted on the
// medium in both before its PIN is looked at.
//
// After adminTries wrong ones in a row no PIN is looked at, for ever: somebody who may
// write to the state directory says `punchclock admin unlock`, or sets a new one. Who
// may do that may do everything, so the verbs ask for no PIN.
type adminPIN struct {
	dir   string
	log   *slog.Logger
	now   func() punch.Stamp // nil: only for the verbs, where no daemon runs; no PIN is looked at
	guard *pinGuard

	mu      sync.Mutex // held while a PIN is looked at: the memory of one check at a time
	file    adminFile
	err     error  // why the file cannot be understood: as if it were locked
	changed uint64 // times that the PIN was set since the start
}

type adminFile struct {
	PIN   *roster.PINHash `json:"pin"`
	Wrong int             `json:"wrong"`          // since the last right one
	Card  *roster.PINHash `json:"card,omitempty"` // the last that a card has brought
}

// adminSecret is the name of that one among the secrets.
const adminSecret = "admin-pin"

const (
	adminTries = 10
	adminName  = "admin" // its number at the guard
)

func adminPath(dir string) string      { return filepath.Join(dir, "admin.json") }
func adminTriesPath(dir string) string { return filepath.Join(dir, "admin-tries.json") }

// newAdminPIN reads what there is. A file that cannot be understood locks the page
// until a new PIN is set at the machine.
func newAdminPIN(dir string, now func() punch.Stamp, log *slog.Logger) *adminPIN {
	p := &adminPIN{dir: dir, now: now, log: log}
	err := readJSONFile(adminPath(dir), &p.file)
	for _, hash := range []*roster.PINHash{p.file.PIN, p.file.Card} {
		if err == nil && hash != nil {
			err = hash.Check()
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.err = err
		log.Error("the admin page is locked: its PIN cannot be read; set a new one with: punchclock admin pin", "file", adminPath(dir), "err", err)
	}
	if now != nil {
		p.guard = newPINGuard(adminTriesPath(dir), now, log)
	}
	return p
}

// PINSet reports whether there is a PIN, or was one.
func (p *adminPIN) PINSet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file.PIN != nil || p.err != nil
}

// Changed is how often the PIN was set.
func (p *adminPIN) Changed() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// CheckPIN is web.Admin's.
func (p *adminPIN) CheckPIN(pin string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.check(pin)
}

func (p *adminPIN) check(pin string) error {
	switch {
	case p.err != nil, p.file.Wrong >= adminTries:
		return web.ErrLocked
	case p.file.PIN == nil:
		return web.ErrWrongPIN
	}
	wait, err := p.guard.take(adminName)
	switch {
	case err != nil:
		return err
	case wait > 0:
		return &web.TooManyTries{Wait: wait}
	}
	next := p.file
	next.Wrong++
	if err := replaceJSON(adminPath(p.dir), next); err != nil {
		return fmt.Errorf("count a PIN: %w", err)
	}
	p.file = next
	if !p.file.PIN.Is(pin) {
		if p.file.Wrong >= adminTries {
			p.log.Error("the admin page is locked after too many wrong PINs; unlock it with: punchclock admin unlock", "tries", p.file.Wrong)
		}
		return web.ErrWrongPIN
	}
	p.guard.right(adminName)
	next.Wrong = 0
	if err := replaceJSON(adminPath(p.dir), next); err != nil {
		p.log.Warn("the wrong PINs of the admin page are still counted", "err", err)
	}
	p.file = next
	return nil
}

// set makes pin the PIN, ends all sessions, and forgets the wrong tries.
func (p *adminPIN) set(pin string) error {
	if reason := weakPIN(pin); reason != "" {
		return &web.PINRefused{Reason: reason}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	hash := roster.HashPIN(pin)
	return p.write(adminFile{PIN: &hash, Card: p.file.Card})
}

// change sets another PIN for somebody who knows the one that there is. changed is how
// often it was by then.
func (p *adminPIN) change(old, pin string) (changed uint64, err error) {
	if reason := weakPIN(pin); reason != "" { // before a try is spent
		return 0, &web.PINRefused{Reason: reason}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.check(old); err != nil {
		return 0, err
	}
	hash := roster.HashPIN(pin)
	if err := p.write(adminFile{PIN: &hash, Card: p.file.Card}); err != nil {
		return 0, err
	}
	return p.changed, nil
}

// takeCard makes the PIN that a card has brought, a secret in the file path, the one that
// counts; once, for it may be changed afterwards. A clock that nobody can log into has its
// PIN, and a forgotten one's successor, from there.
func (p *adminPIN) takeCard(path string) {
	pin, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if reason := weakPIN(pin); err == nil && reason != "" {
		err = &web.PINRefused{Reason: reason}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && p.err == nil && p.file.Card != nil && p.file.Card.Is(pin) {
		return
	}
	if err == nil {
		hash := roster.HashPIN(pin)
		err = p.write(adminFile{PIN: &hash, Card: &hash})
	}
	if err != nil {
		p.log.Error("the PIN of the admin page could not be set", "file", path, "err", err)
		return
	}
	p.log.Info("the admin page has a PIN now", "file", path)
}

// unlock forgets the wrong tries. Nothing was set, nothing is unlocked.
func (p *adminPIN) unlock() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return fmt.Errorf("the PIN cannot be read: %w; set a new one with: punchclock admin pin", p.err)
	}
	return p.write(adminFile{PIN: p.file.PIN, Card: p.file.Card})
}

func (p *adminPIN) write(next adminFile) error {
	if err := replaceJSON(adminPath(p.dir), next); err != nil {
		return err
	}
	if err := os.Remove(adminTriesPath(p.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the wrong PINs: %w", err)
	}
	if p.now != nil {
		p.guard = newPINGuard(adminTriesPath(p.dir), p.now, p.log)
	}
	if next.PIN != p.file.PIN {
		p.changed++
	}
	p.file, p.err = next, nil
	return nil
}

// keep writes down what the guard's file does not know yet. It is for the end.
func (p *adminPIN) keep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guard.keep()
}

// weakPIN says why a text cannot be the PIN, "" if it can: of a few tries those of one
// character, and of one after the other, are the first.
func weakPIN(pin string) string {
	if len(pin) < web.PINLeast || len(pin) > web.PINMost {
		return "short"
	}
	for _, step := range []int{0, 1, -1} {
		simple := true
		for i := 1; i < len(pin); i++ {
			simple = simple && int(pin[i])-int(pin[i-1]) == step
		}
		if simple {
			return "simple"
		}
	}
	return ""
}

// adminStatus is what `punchclock admin show` tells.
type adminStatus struct {
	PINSet      bool   `json:"pin_set"`
	Locked      bool   `json:"locked"`
	Wrong       int    `json:"wrong"`                 // tries since the last right one
	Fingerprint string `json:"fingerprint,omitempty"` // SHA-256 of the certificate, where there is one
}

func (a *archive) serveAdmin(w http.ResponseWriter, _ *http.Request) {
	p := a.admin
	p.mu.Lock()
	s := adminStatus{PINSet: p.file.PIN != nil || p.err != nil, Locked: p.err != nil || p.file.Wrong >= adminTries, Wrong: p.file.Wrong}
	p.mu.Unlock()
	s.Fingerprint = a.fingerprint()
	writeJSON(w, s)
}

func (a *archive) serveSetPIN(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, web.PINMost+1))
	if err == nil {
		err = a.admin.set(string(b))
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	writeJSON(w, map[string]bool{"set": true})
}

func (a *archive) serveUnlock(w http.ResponseWriter, _ *http.Request) {
	if err := a.admin.unlock(); err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	writeJSON(w, map[string]bool{"unlocked": true})
}

func adminCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "admin", Short: "The page for technicians and HR: its PIN and its lock"}
	change := func(use, short, long, path, done string, body func() (io.Reader, error)) *cobra.Command {
		return t.reporting(&cobra.Command{Use: use, Short: short, Long: long, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				in, err := body()
				if err != nil {
					return err
				}
				_, cl, err := t.open(true)
				if err != nil {
					return err
				}
				defer cl.close()
				out, err := cl.do(c.Context(), "POST", path, nil, in)
				if err != nil {
					return err
				}
				var v map[string]bool
				if err := readJSON(out, &v); err != nil {
					return err
				}
				if t.json {
					return t.printJSON(v)
				}
				_, err = fmt.Fprintln(t.stdout, done)
				return err
			}})
	}
	pin := change("pin", "Set the PIN of the page; also unlocks it, and ends all sessions",
		"Set the PIN of the page, at least 6 characters. It is asked for on a terminal, and else\nread from the first line of stdin.", "/admin/pin", "the PIN is set", t.newPIN)
	unlock := change("unlock", "Look at PINs again after ten wrong ones", "", "/admin/unlock", "unlocked", func() (io.Reader, error) { return nil, nil })
	show := t.reporting(&cobra.Command{Use: "show", Short: "Whether there is a PIN, whether it is locked, and the certificate's fingerprint", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, cl, err := t.open(false)
			if err != nil {
				return err
			}
			defer cl.close()
			var s adminStatus
			if err := cl.getJSON(c.Context(), "/admin", &s); err != nil {
				return err
			}
			if t.json {
				return t.printJSON(s)
			}
			switch {
			case !s.PINSet:
				fmt.Fprintln(t.stdout, "no PIN yet, and nobody can come in; set it with: punchclock admin pin")
			case s.Locked:
				fmt.Fprintf(t.stdout, "locked after %d wrong PINs; unlock it with: punchclock admin unlock\n", s.Wrong)
			default:
				fmt.Fprintf(t.stdout, "PIN set, %d wrong since the last right one\n", s.Wrong)
			}
			if s.Fingerprint != "" {
				fmt.Fprintln(t.stdout, "certificate, SHA-256:", s.Fingerprint)
			}
			return nil
		}})
	c.AddCommand(pin, unlock, show)
	return c
}

// newPIN reads a new PIN: twice without showing it from a terminal, else one line.
func (t *tool) newPIN() (io.Reader, error) {
	if terminal(t.stdin) {
		first, err := t.hidden("new PIN: ")
		if err != nil {
			return nil, err
		}
		again, err := t.hidden("the same again: ")
		if err != nil {
			return nil, err
		}
		if first != again {
			return nil, usage("the two are not the same; nothing was changed")
		}
		return strings.NewReader(first), nil
	}
	line, err := bufio.NewReader(io.LimitReader(t.stdin, web.PINMost+2)).ReadString('\n')
	if err != nil && err != io.EOF {
		return nil, err
	}
	return strings.NewReader(strings.TrimRight(line, "\r\n")), nil
}

// hidden reads a line from the terminal, which does not show it meanwhile.
func (t *tool) hidden(prompt string) (string, error) {
	fd := int(t.stdin.(*os.File).Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", err
	}
	quiet := *was
	quiet.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG // Ctrl-C comes as a key: else it would leave the terminal like this
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &quiet); err != nil {
		return "", err
	}
	fmt.Fprint(t.stderr, prompt)
	line, err := readHidden(t.stdin)
	fmt.Fprintln(t.stderr)
	return line, errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, was))
}

// readHidden reads keys up to Enter.
func readHidden(in io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) <= web.PINMost; {
		if n, err := in.Read(b); n == 0 {
			return "", fmt.Errorf("nothing was changed: %w", cmp.Or(err, io.ErrNoProgress))
		}
		switch b[0] {
		case '\r', '\n':
			return string(line), nil
		case 3, 4: // Ctrl-C, Ctrl-D
			return "", errors.New("nothing was changed")
		case 8, 127: // backspace
			line = line[:max(0, len(line)-1)]
		case 21: // Ctrl-U
			line = nil
		default:
			line = append(line, b[0])
		}
	}
	return string(line), nil
}
