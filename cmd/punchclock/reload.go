package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/token"
)

// A corrected configuration needs no restart where it is about a destination: that is
// what technicians correct, and the clock must not stop taking punches for it. The
// file is looked at every few seconds, with the certificates that it names, and at once
// on SIGHUP. A file that is wrong changes nothing; one that is right is taken over for
// the destinations whose settings differ, for all of them or for none. Readers, outbox
// and page stay as they are: what has changed there is named, and waits for a restart.

// worker is a destination. What delivers to it may be replaced, its name never is.
type worker struct {
	now    atomic.Pointer[delivery]
	secret atomic.Pointer[error] // why the secret, or the proxy's login, cannot be read
}

// delivery is a destination as it is configured, and what was built of that.
type delivery struct {
	*drain.Worker
	dest drain.Destination
	cfg  destinationConfig
	http *http.Client
	ca   fileSeen // the extra certificates, as they were read

	broken   error           // why it could not be built: it keeps every punch then
	life     context.Context // ends when another takes its place
	end      context.CancelFunc
	calls    sync.RWMutex  // held for reading while calls may be under way
	replaced chan struct{} // closed when another is in its place
}

func newDelivery(cfg destinationConfig, dest drain.Destination, engine *drain.Worker, client *http.Client) *delivery {
	d := &delivery{Worker: engine, dest: dest, cfg: cfg, http: client, ca: lookAt(cfg.CAFile), replaced: make(chan struct{})}
	d.life, d.end = context.WithCancel(context.Background())
	return d
}

// unbuilt stands in for a destination that could not be built, most likely because its
// certificates cannot be read. One destination's file must not keep the clock from
// taking punches; it is built as soon as the file is in order.
type unbuilt struct{ err error }

func (u unbuilt) Send(context.Context, []punch.Punch) ([]punch.Verdict, error) {
	return nil, &token.Denied{State: token.Misconfigured, Hint: "correct it; nothing needs a restart", Err: u.err}
}

var errReplaced = errors.New("the destination's configuration was changed meanwhile; ask again")

// during runs fn, which makes calls, until ctx or the delivery's life ends.
func (d *delivery) during(ctx context.Context, fn func(context.Context) error) error {
	d.calls.RLock()
	defer d.calls.RUnlock()
	if d.life.Err() != nil {
		return errReplaced
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	return fn(ctx)
}

const leaveMost = 2 * time.Second

// leave ends a session at the far side, where there are sessions. No call of the
// delivery is under way.
func (d *delivery) leave() {
	if s, ok := d.dest.(interface{ Logout(context.Context) }); ok {
		ctx, cancel := context.WithTimeout(context.Background(), leaveMost)
		defer cancel()
		s.Logout(ctx)
	}
	if d.http != nil {
		d.http.CloseIdleConnections()
	}
}

func (w *worker) cfg() destinationConfig { return w.now.Load().cfg }
func (w *worker) name() string           { return w.now.Load().cfg.Name }
func (w *worker) Kick()                  { w.now.Load().Kick() }
func (w *worker) Wake()                  { w.now.Load().Wake() }

// Run delivers until ctx is done, with whatever is in the worker's place.
func (w *worker) Run(ctx context.Context) error {
	for {
		d := w.now.Load()
		if err := d.during(ctx, d.Run); err != nil && !errors.Is(err, errReplaced) {
			return err
		}
		select {
		case <-ctx.Done():
			d.leave()
			return nil
		case <-d.replaced:
		}
	}
}

// settled is how long the far side may count calls of the old delivery against
// those of the new one.
const settled = time.Second + 10*time.Millisecond

// replace puts another delivery into the worker's place, once the old one's last call
// is answered or cut, and the second that it counts in is over.
func (w *worker) replace(ctx context.Context, d *delivery, outbox *queue.Outbox) {
	old := w.now.Load()
	old.end()
	old.calls.Lock()
	defer old.calls.Unlock()
	old.leave()
	select {
	case <-time.After(settled):
	case <-ctx.Done():
		return
	}
	outbox.Inherit(d.cfg.Name)
	w.now.Store(d)
	close(old.replaced)
}

// ledger returns the driver, and who reads the destination back; nil where that
// cannot be.
func (w *worker) ledger() (driver string, reader ledgerReader) {
	d := w.now.Load()
	if r, ok := d.dest.(ledgerReader); ok {
		reader = asked{d, r}
	}
	return d.cfg.Driver, reader
}

// asked reads a destination back for as long as it is configured so.
type asked struct {
	d *delivery
	r ledgerReader
}

func (a asked) Held(ctx context.Context, employees []string, from, to time.Time) (held []drain.Held, unasked []string, err error) {
	unasked = employees
	err = a.d.during(ctx, func(ctx context.Context) error {
		held, unasked, err = a.r.Held(ctx, employees, from, to)
		return err
	})
	if err != nil && ctx.Err() == nil && a.d.life.Err() != nil {
		err = errReplaced
	}
	return held, unasked, err
}

// reloadStatus is what has become of the file since the start. The zero value is a
// file that is in force.
type reloadStatus struct {
	Problem string   `json:"problem,omitempty"` // why the file as it is now was not taken over
	Restart []string `json:"restart,omitempty"` // what in it takes effect with a restart only
	TakenAt string   `json:"taken_at,omitempty"`
}

// reload is the file's state, as status tells it.
type reload struct {
	mu     sync.Mutex
	status reloadStatus
	said   string
}

func (r *reload) get() *reloadStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status.Problem == "" && r.status.Restart == nil && r.status.TakenAt == "" {
		return nil
	}
	s := r.status
	s.Restart = slices.Clone(s.Restart)
	return &s
}

// configuration is what status tells of the file, and of one that came by the card and is
// not in force.
func (h *clockwork) configuration() *reloadStatus {
	s := h.reloaded.get()
	if h.card == nil {
		return s
	}
	if s == nil {
		s = &reloadStatus{}
	}
	if s.Problem == "" {
		s.Problem = h.card.problem()
	}
	return s
}

// set changes the status and reports whether it says something new.
func (r *reload) set(problem string, restart []string, takenAt string) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Problem, r.status.Restart = problem, restart
	if takenAt != "" {
		r.status.TakenAt = takenAt
	}
	text := problem + "\n" + strings.Join(restart, "\n")
	news = text != r.said
	r.said = text
	return news
}

// fileSeen tells one state of a file from another.
type fileSeen struct {
	at   time.Time
	size int64
	node os.FileInfo
}

func lookAt(path string) (s fileSeen) {
	if st, err := os.Stat(path); err == nil {
		s = fileSeen{st.ModTime(), st.Size(), st}
	}
	return s
}

func (s fileSeen) same(o fileSeen) bool {
	return s.at.Equal(o.at) && s.size == o.size && (s.node == nil) == (o.node == nil) && (s.node == nil || os.SameFile(s.node, o.node))
}

const lookEvery = 5 * time.Second

// watchConfig takes the file over when it has changed and has then been the same for
// two looks: whoever writes it may be in the middle. A SIGHUP says that it is whole.
func (h *clockwork) watchConfig(ctx context.Context, hup <-chan os.Signal) error {
	known := h.lookAround()
	h.reload(ctx) // it may have changed while we started
	before := known
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			h.log.Info("told to read the configuration again")
			known = h.lookAround()
			h.reload(ctx)
		case <-time.After(lookEvery):
			now := h.lookAround()
			if !slices.EqualFunc(now, known, fileSeen.same) && slices.EqualFunc(now, before, fileSeen.same) {
				known = now
				h.reload(ctx)
			}
			before = now
		}
	}
}

// lookAround looks at the configuration file and the certificates that it names.
func (h *clockwork) lookAround() []fileSeen {
	seen := []fileSeen{lookAt(h.cfg.path)}
	for _, w := range h.workers {
		seen = append(seen, lookAt(w.cfg().CAFile))
	}
	return seen
}

// reload reads the file and takes over what can be without a restart.
func (h *clockwork) reload(ctx context.Context) {
	fresh, err := loadConfig(h.cfg.path, built())
	if err != nil {
		if h.reloaded.set(err.Error(), nil, "") {
			h.log.Error("the configuration was changed and is wrong: the old one stays in force", "err", err)
		}
		return
	}
	restart, meansAnother := h.cfg.differs(fresh)
	byName := map[string]destinationConfig{}
	for _, d := range fresh.withoutMarks().Destinations {
		byName[d.Name] = d
	}
	var change []*worker
	for _, w := range h.workers {
		d, there := byName[w.name()]
		switch {
		case !there:
			restart = append(restart, fmt.Sprintf("destination %q is gone: its punches are delivered until the restart", w.name()))
		case !reflect.DeepEqual(d, w.cfg().withoutMarks()), !w.now.Load().ca.same(lookAt(d.CAFile)):
			change = append(change, w)
		}
		delete(byName, w.name())
	}
	for _, d := range fresh.Destinations {
		if _, is := byName[d.Name]; is {
			restart = append(restart, fmt.Sprintf("destination %q is new", d.Name))
		}
	}
	if meansAnother && len(change) > 0 {
		restart = append(restart, "the destinations: the file speaks of another device, so nothing of it was taken over")
		change = nil
	}
	var built []*delivery
	for _, w := range change {
		d, err := h.newDelivery(fresh.destination(w.name()), 0)
		if err != nil {
			problem := fmt.Sprintf("%v; nothing of the changed configuration was taken over", err)
			if h.reloaded.set(problem, restart, "") {
				h.log.Error("the configuration was changed and cannot be used: the old one stays in force", "err", err)
			}
			return
		}
		built = append(built, d)
	}
	for i, w := range change {
		w.replace(ctx, built[i], h.outbox)
		w.lookAtSecret(h.cfg)
		h.log.Info("the destination's configuration was changed and is in force", "dest", w.name())
		// What it refused it may have refused for what was corrected just now.
		if n, err := retryParked(h.outbox, w.name()); err != nil {
			h.log.Error("parked punches: put back in the night", "dest", w.name(), "err", err)
		} else if n > 0 {
			h.log.Info("parked punches are offered again", "dest", w.name(), "punches", n)
		}
	}
	takenAt := ""
	if len(change) > 0 {
		takenAt = h.when(time.Now())
	}
	if h.reloaded.set("", restart, takenAt) && len(restart) > 0 {
		h.log.Warn("the configuration was changed; some of it takes effect with a restart only", "restart_for", strings.Join(restart, "; "))
	}
}

// destination is the one of that name; there is one.
func (c *config) destination(name string) destinationConfig {
	i := slices.IndexFunc(c.Destinations, func(d destinationConfig) bool { return d.Name == name })
	return c.Destinations[i]
}

// differs names the sections beside the destinations that another file has different
// values in that the clock uses. another is true where that file is one for another
// device.
func (c *config) differs(o *config) (sections []string, another bool) {
	mine, theirs := c.sections(), o.sections()
	for _, s := range slices.Concat(mine.order, theirs.order) {
		if s != "[[destination]]" && s != "[logs]" && s != "[support]" && mine.text[s] != theirs.text[s] && !slices.Contains(sections, s) {
			sections = append(sections, s)
		}
	}
	return sections, c.Device.ID != o.Device.ID || c.Device.StateDir != o.Device.StateDir
}

type shownSections struct {
	order []string
	text  map[string]string
}

// sections is the configuration in force, as config show prints it, by its headings.
func (c *config) sections() shownSections {
	out := shownSections{text: map[string]string{}}
	var b bytes.Buffer
	if err := c.show(&b); err != nil {
		panic(err) // into memory
	}
	head := ""
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "[") {
			head = strings.TrimSpace(line)
			if _, known := out.text[head]; !known {
				out.order = append(out.order, head)
			}
		}
		if head != "" {
			out.text[head] += line
		}
	}
	return out
}
