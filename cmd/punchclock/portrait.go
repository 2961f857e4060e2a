package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/drain"
	"punchclock/sync/resume"
	"punchclock/sync/token"
)

// Portraits are shown beside the answer to a tap where the site wants that
// (kiosk.portraits); nobody's is fetched, taken or kept where it does not. There is one
// small picture for each person, in a folder of its own beside the outbox, and nowhere
// else: no record, export, log, metric or bundle holds one. The folder may vanish at any
// time; then there are no portraits.
//
// A picture is a person's and not a number's. Its file is named after the number, after
// the moment from which the number is that person's, and after a hash of the name:
//
//	e+000123+1769904000000+9f86d081884c7d65.jpg
//
// so that whoever gets the number later never gets the picture. Where only the first day
// was corrected, name and number lead to the same person, and the file is renamed. A
// candidate's is named after the résumé, c+1234567890.jpg, until that one is hired.
//
// The rule of what may be there is one function, sweep, and runs at the start, when the
// roster changes, and every hour: whatever belongs to nobody who works here or is about
// to is deleted then, whichever way that person went.

const portraitFolder = "portraits"

// portraitFile is whose picture a file is.
type portraitFile struct {
	resume string // a candidate's; else
	number string
	from   int64  // ms since 1970, 0 for ever
	name   string // hash
}

func portraitOf(e punch.Employee) portraitFile {
	f := portraitFile{number: e.Number, name: nameHash(e.Name)}
	if !e.From.IsZero() {
		f.from = e.From.UnixMilli()
	}
	return f
}

func nameHash(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:16] }

// same reports whether two are one person's; the name may have changed since.
func (f portraitFile) same(o portraitFile) bool {
	return f.resume == o.resume && f.number == o.number && f.from == o.from
}

func (f portraitFile) String() string {
	if f.resume != "" {
		return "c+" + f.resume + ".jpg"
	}
	return "e+" + f.number + "+" + strconv.FormatInt(f.from, 10) + "+" + f.name + ".jpg"
}

// parsePortraitFile reads what String has written.
func parsePortraitFile(name string) (f portraitFile, ok bool) {
	parts := strings.Split(strings.TrimSuffix(name, ".jpg"), "+")
	switch {
	case len(parts) == 2 && parts[0] == "c":
		f.resume = parts[1]
	case len(parts) == 4 && parts[0] == "e":
		from, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil {
			return f, false
		}
		f = portraitFile{number: parts[1], from: from, name: parts[3]}
	}
	return f, name == f.String() && (f.resume != "" || f.number != "")
}

// portraits is the folder.
type portraits struct {
	dir     string
	on      bool
	reserve int64 // bytes that have to stay free on the medium

	files sync.Mutex // held while a file is written, renamed or removed
	mu    sync.Mutex
	known map[string]portraitFile // employees', by number; nil: nobody has looked
}

func newPortraits(cfg *config) *portraits {
	return &portraits{dir: filepath.Join(cfg.Device.StateDir, portraitFolder), on: cfg.Kiosk.Portraits, reserve: int64(2*cfg.Outbox.ReserveMB) << 20}
}

// clear deletes all there are: the site does not want them, or not any more.
func (p *portraits) clear() error {
	p.files.Lock()
	defer p.files.Unlock()
	p.look(nil)
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("portraits: delete %s: %w", p.dir, err)
	}
	return nil
}

// look notes whose pictures there are.
func (p *portraits) look(all []portraitFile) {
	known := map[string]portraitFile{}
	for _, f := range all {
		if f.number != "" {
			known[f.number] = f
		}
	}
	p.mu.Lock()
	p.known = known
	p.mu.Unlock()
}

// list reads the folder; what is no portrait's name is in other.
func (p *portraits) list() (all []portraitFile, other []string, err error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("portraits: %w", err)
	}
	for _, e := range entries {
		if f, ok := parsePortraitFile(e.Name()); ok {
			all = append(all, f)
		} else {
			other = append(other, e.Name())
		}
	}
	return all, other, nil
}

// has finds the portrait of whoever has a number, from memory.
func (p *portraits) has(e punch.Employee) (portraitFile, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.known[e.Number]
	return f, ok && p.on && f.same(portraitOf(e))
}

// read returns a picture, nil for one that is not there any more.
func (p *portraits) read(f portraitFile) []byte {
	b, err := os.ReadFile(filepath.Join(p.dir, f.String()))
	if err != nil || len(b) > portraitMost {
		return nil
	}
	return b
}

var errPortraitsOff = errors.New("this clock shows no portraits: set kiosk.portraits = true")

// put keeps a picture that shrink has made, in the place of an older one. whose is asked
// once nothing else can change, and says in an error why it is nobody's any more.
func (p *portraits) put(picture []byte, whose func() (portraitFile, error)) error {
	if !p.on {
		return errPortraitsOff
	}
	p.files.Lock()
	defer p.files.Unlock()
	f, err := whose()
	if err != nil {
		return err
	}
	all, _, err := p.list()
	if err != nil {
		return err
	}
	var st syscall.Statfs_t
	if syscall.Statfs(filepath.Dir(p.dir), &st) == nil && int64(st.Bavail)*int64(st.Bsize) < p.reserve {
		return errors.New("portraits: there is too little space left: it is kept for punches; make room on the medium")
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("portraits: %w", err)
	}
	if err := replaceFile(filepath.Join(p.dir, f.String()), picture); err != nil {
		return fmt.Errorf("portraits: %w", err)
	}
	kept := []portraitFile{f}
	var errs []error
	for _, o := range all {
		switch {
		case o == f:
		case f.number != "" && o.number == f.number:
			errs = append(errs, p.remove(o.String()))
		default:
			kept = append(kept, o)
		}
	}
	p.look(kept)
	return errors.Join(errs...)
}

func (p *portraits) remove(name string) error {
	if err := os.Remove(filepath.Join(p.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("portraits: %w", err)
	}
	return nil
}

// drop deletes those that which says, and says how many there were.
func (p *portraits) drop(which func(portraitFile) bool) (n int, err error) {
	p.files.Lock()
	defer p.files.Unlock()
	all, _, err := p.list()
	if err != nil {
		return 0, err
	}
	var kept []portraitFile
	var errs []error
	for _, f := range all {
		if !which(f) {
			kept = append(kept, f)
			continue
		}
		n++
		errs = append(errs, p.remove(f.String()))
	}
	p.look(kept)
	return n, errors.Join(errs...)
}

// hired gives a candidate's picture to the employee that has become of that one.
func (p *portraits) hired(resume string, e punch.Employee) error {
	p.files.Lock()
	defer p.files.Unlock()
	f := portraitOf(e)
	err := os.Rename(filepath.Join(p.dir, portraitFile{resume: resume}.String()), filepath.Join(p.dir, f.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there was none
	}
	if err != nil {
		return fmt.Errorf("portraits: %w", err)
	}
	all, _, err := p.list()
	p.look(all)
	return err
}

// holders is what sweep needs to know of a roster.
type holders interface {
	ByNumber(string) (punch.Employee, bool)
	Former() []punch.Employee
}

// sweep deletes what belongs to nobody who works here or is about to, and says how many
// that were.
func (p *portraits) sweep(r holders, pending func() ([]candidate, error), now time.Time) (n int, err error) {
	p.files.Lock()
	defer p.files.Unlock()
	all, other, err := p.list()
	if err != nil {
		return 0, err
	}
	waiting := map[string]bool{}
	list, err := pending()
	if err != nil { // who waits is not known: nobody's is deleted for that
		for _, f := range all {
			waiting[f.resume] = true
		}
	}
	for _, c := range list {
		waiting[c.ID] = true
	}
	var former map[portraitFile]bool // by number and beginning
	var kept []portraitFile
	var errs []error
	for _, f := range all {
		keep := f
		if f.resume != "" {
			if !waiting[f.resume] {
				keep = portraitFile{}
			}
		} else if e, ok := r.ByNumber(f.number); !ok || !e.Active && !now.Before(e.From) {
			keep = portraitFile{}
		} else if keep = portraitOf(e); !keep.same(f) {
			if former == nil {
				former = map[portraitFile]bool{}
				for _, e := range r.Former() {
					f := portraitOf(e)
					former[portraitFile{number: f.number, from: f.from}] = true
				}
			}
			if keep.name != f.name || former[portraitFile{number: f.number, from: f.from}] {
				keep = portraitFile{} // another person's number now
			}
		}
		switch {
		case keep == portraitFile{}:
			n++
			errs = append(errs, p.remove(f.String()))
			continue
		case keep != f:
			if err := os.Rename(filepath.Join(p.dir, f.String()), filepath.Join(p.dir, keep.String())); err != nil {
				errs = append(errs, fmt.Errorf("portraits: %w", err))
				continue
			}
		}
		kept = append(kept, keep)
	}
	for _, name := range other { // of a write that a power cut has ended
		errs = append(errs, p.remove(name))
	}
	p.look(kept)
	return n, errors.Join(errs...)
}

// watchPortraits sweeps until ctx is done.
func (h *clockwork) watchPortraits(ctx context.Context) error {
	for said := ""; ; {
		changed := h.roster.Changed()
		n, err := h.portraits.sweep(h.roster, func() ([]candidate, error) {
			all, _, err := h.candidates.list()
			return all, err
		}, h.clock.Now().Wall)
		if n > 0 {
			h.log.Info("portraits of people who are not here any more were deleted", "portraits", n)
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said && text != "" {
			h.log.Error("portraits could not be deleted; tried again every hour", "err", err)
		}
		said = text
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(time.Hour):
		}
	}
}

// portraitFor finds the picture that is shown with an answer to whoever has this number
// now, nil for none. It answers from memory; what it returns reads the medium.
func (h *clockwork) portraitFor(number string) func() []byte {
	e, ok := h.roster.ByNumber(number)
	if !ok {
		return nil
	}
	f, ok := h.portraits.has(e)
	if !ok {
		return nil
	}
	return func() []byte { return h.portraits.read(f) }
}

// portraitDots is portraitFor for a screen that draws dots.
func (h *clockwork) portraitDots(number string) func() *image.RGBA {
	read := h.portraitFor(number)
	if read == nil {
		return nil
	}
	return func() *image.RGBA {
		img, err := openPicture(read(), portraitMemory)
		if err != nil {
			return nil
		}
		return img
	}
}

// portraitFetch brings the candidates' portraits in, one after another, beside the walk
// through the hours and under the same ceiling of calls.
type portraitFetch struct {
	client     *resume.Client
	candidates *candidates
	portraits  *portraits
	log        *slog.Logger
	ready      func() bool // the clock is set
	works      func() bool // the service answers the walk

	// Of run only.
	wait  drain.Backoff
	said  string
	last  string         // whose turn it was
	tries map[string]int // of those that come to nothing while the service works
}

const (
	portraitDenied = 15 * time.Minute // after a Denied: the walk asks sooner, and says so
	portraitUnset  = time.Minute      // between two looks at a clock that nobody has set
	portraitTries  = 60               // some hours of them
)

// newPortraitFetch is nil where no résumés are read, or no portraits are wanted.
func (h *clockwork) newPortraitFetch(unset func() bool) *portraitFetch {
	if h.walk == nil || !h.portraits.on {
		return nil
	}
	return &portraitFetch{client: h.resumes, candidates: h.candidates, portraits: h.portraits, log: h.log.With("source", "candidates"), tries: map[string]int{},
		ready: func() bool { return !unset() }, works: func() bool { return h.walk.Status().State == drain.OK }}
}

// run fetches until ctx is done. Whatever is wrong with one picture ends in that person
// having none; what is wrong with the service is waited for.
func (f *portraitFetch) run(ctx context.Context) error {
	for {
		wait := time.Hour
		who, link, ok := f.candidates.nextPortrait(f.last)
		switch {
		case !ok:
		case !f.ready():
			wait = portraitUnset
		default:
			f.last = who.ID
			wait = f.fetch(ctx, resume.Candidate{ID: who.ID, Hour: who.Hour, Photo: link})
		}
		if ctx.Err() != nil {
			return nil
		}
		if wait == 0 {
			continue
		}
		t := time.NewTimer(wait)
		news := f.candidates.news
		if ok {
			news = nil // the wait is a pause, whoever else has come meanwhile
		}
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-news:
		case <-t.C:
		}
		t.Stop()
	}
}

// fetch brings one in, and returns how long to wait before the next.
func (f *portraitFetch) fetch(ctx context.Context, who resume.Candidate) (wait time.Duration) {
	b, err := f.client.Portrait(ctx, who)
	if f.works() {
		f.tries[who.ID]++
	}
	var denied *token.Denied
	var told *drain.Busy
	switch {
	case err == nil, errors.Is(err, resume.ErrNoFile), errors.Is(err, resume.ErrNoPicture), f.tries[who.ID] >= portraitTries:
		f.wait.Reset()
		if f.said != "" {
			f.said = ""
			f.log.Info("portraits can be fetched again")
		}
	case ctx.Err() != nil:
		return 0
	default:
		wait = portraitDenied
		switch {
		case errors.As(err, &denied):
		case errors.As(err, &told):
			wait = f.wait.Busy(told.After)
		default:
			wait = f.wait.Next()
		}
		if text := err.Error(); text != f.said {
			f.said = text
			f.log.Warn("portraits cannot be fetched now; tried again", "err", text)
		}
		return wait
	}
	delete(f.tries, who.ID)
	var picture []byte
	if err == nil {
		picture, err = shrink(b)
	}
	if err == nil {
		err = f.portraits.put(picture, func() (portraitFile, error) {
			if _, err := f.candidates.find(who.ID); err != nil {
				return portraitFile{}, errGone
			}
			return portraitFile{resume: who.ID}, nil
		})
	}
	if err != nil && !errors.Is(err, errGone) {
		f.log.Warn("a candidate has no portrait", "err", err)
	}
	if err := f.candidates.portraitSeen(who.ID); err != nil {
		f.log.Error("that a portrait was fetched could not be kept; it is fetched once more", "err", err)
		return f.wait.Next()
	}
	return 0
}

// errGone is a candidate who was removed while the portrait was on its way.
var errGone = errors.New("this candidate was removed meanwhile")

// portraitKept is what the verb prints.
type portraitKept struct {
	Employee string `json:"employee_no"`
	Portrait bool   `json:"portrait"`
}

// employeeAsked is who has the number that a call is about, and works here.
func (a *archive) employeeAsked(number string) (punch.Employee, error) {
	if a.roster != nil {
		if e, ok := a.roster.ByNumber(number); ok && (e.Active || a.stamp().Wall.Before(e.From)) {
			return e, nil
		}
	}
	return punch.Employee{}, fmt.Errorf("employee %s: %w", number, roster.ErrNobody)
}

func (a *archive) servePortrait(w http.ResponseWriter, r *http.Request) {
	number := r.URL.Query().Get("employee_no")
	e, err := a.employeeAsked(number)
	if err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	all, _, err := a.portraits.list()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	out := portraitKept{Employee: number}
	for _, f := range all {
		out.Portrait = out.Portrait || f.same(portraitOf(e))
	}
	writeJSON(w, out)
}

// serveSetPortrait takes the picture that is the body.
func (a *archive) serveSetPortrait(w http.ResponseWriter, r *http.Request) {
	number := r.URL.Query().Get("employee_no")
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, pictureMost))
	if err == nil {
		b, err = shrink(b)
	}
	if err == nil {
		err = a.portraits.put(b, func() (portraitFile, error) {
			e, err := a.employeeAsked(number)
			return portraitOf(e), err
		})
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("%w; nothing was changed", err))
		return
	}
	writeJSON(w, portraitKept{number, true})
}

func (a *archive) serveRemovePortrait(w http.ResponseWriter, r *http.Request) {
	number := r.URL.Query().Get("employee_no")
	if _, err := a.removePortrait(number); err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	writeJSON(w, portraitKept{number, false})
}

// removePortrait deletes whatever pictures there are under a number.
func (a *archive) removePortrait(number string) (int, error) {
	return a.portraits.drop(func(f portraitFile) bool { return f.resume == "" && f.number == number })
}

func portraitCommand(t *tool) *cobra.Command {
	var set string
	var remove bool
	c := t.reporting(&cobra.Command{
		Use: "portrait EMPLOYEE", Short: "Say whether there is a portrait of a person; set it, or delete it", Args: cobra.ExactArgs(1),
		Long: `A portrait is shown beside the answer to a tap where kiosk.portraits = true. It is cut to 3:4
and kept as 240×320 dots at most, without whatever else the file says of place and camera.`,
		RunE: func(c *cobra.Command, args []string) error {
			q := url.Values{"employee_no": {args[0]}}
			method, body := "GET", io.Reader(nil)
			switch {
			case set != "" && remove:
				return usage("people portrait: either --set or --delete")
			case remove:
				method = "DELETE"
			case set != "":
				f, err := os.Open(set)
				if err != nil {
					return usage("people portrait: %w", err)
				}
				defer f.Close()
				// Made small here: the running clock has better things to do.
				b, err := io.ReadAll(io.LimitReader(f, pictureMost+1))
				if err == nil {
					b, err = shrink(b)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", set, err)
				}
				method, body = "POST", bytes.NewReader(b)
			}
			_, cl, err := t.open(method != "GET")
			if err != nil {
				return err
			}
			defer cl.close()
			answer, err := cl.do(c.Context(), method, "/people/portrait", q, body)
			if err != nil {
				return err
			}
			var out portraitKept
			if err := readJSON(answer, &out); err != nil {
				return err
			}
			if t.json {
				return t.printJSON(out)
			}
			_, err = fmt.Fprintf(t.stdout, "%s: %s\n", out.Employee, map[bool]string{true: "there is a portrait", false: "there is no portrait"}[out.Portrait])
			return err
		},
	})
	c.Flags().StringVar(&set, "set", "", "the picture in this `file`, JPEG or PNG, becomes the portrait")
	c.Flags().BoolVar(&remove, "delete", false, "delete the portrait")
	return c
}
