package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"punchclock/device"
	"punchclock/device/clock"
	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/drain"
	"punchclock/sync/resume"
	"punchclock/sync/token"
	"punchclock/ui"
	"punchclock/ui/indicator"
	"punchclock/ui/kiosk"
	"punchclock/ui/lcd"
	"punchclock/ui/screen"
	"punchclock/ui/text"
	"punchclock/ui/web"
)

func runCommand(t *tool) *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Be the clock: read badges, store punches, deliver them", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			debug.SetGCPercent(gcStart)
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return run(c.Context(), cfg, t)
		},
	}
}

// clockwork is the running clock: what status, metrics and the control socket look at.
type clockwork struct {
	cfg     *config
	log     *slog.Logger
	outbox  *queue.Outbox
	roster  *roster.Roster
	clock   *clock.Clock
	kiosk   *kiosk.Kiosk
	workers []*worker
	pins    *pinGuard
	admin   *adminPIN
	cert    *adminCert
	lamp    *indicator.Indicator // nil: none is wired
	metrics *metrics
	samples *samples
	skew    skew                    // of the far sides' clocks
	traffic atomic.Pointer[traffic] // nil until the log was read
	ready   atomic.Pointer[error]   // last answer of Writable, from memory
	looking sync.Mutex              // held while that is asked for
	looked  time.Time               // when it last was; guarded by looking
	doubt   chan struct{}           // holds one hint that the answer may be another now
	started time.Time

	bootTimeDue atomic.Bool // the outbox could not take this boot's time yet

	reconciler *reconciler
	source     *rosterSource // nil for none
	candidates *candidates
	walk       *resume.Walker // nil for none
	resumes    *resume.Client // walk's
	portraits  *portraits
	learner    learner
	enrol      *enroller
	reloaded   reload   // the configuration file, since the start
	card       *receipt // a configuration that came by the card and is not in force; nil for none

	network http.RoundTripper // nil is the real one; tests call the clouds in memory
	spread  time.Duration     // how far apart the clocks of a site begin with their backlogs
}

// A machine that has been up for less than powerBack may have got its power back
// together with all others of the site; they begin with their backlogs up to
// startSpread apart.
const (
	powerBack   = 5 * time.Minute
	startSpread = 3 * time.Minute
)

// run is the whole program in reading order: what is opened, what is built of it,
// what is started, and in which order all that stops.
func run(ctx context.Context, cfg *config, t *tool) error {
	// A panic would end with 2, which tells systemd that a person must correct the
	// configuration; so it ends with a signal, and the clock is started again.
	debug.SetTraceback("crash")
	// Go ends a program that writes to a stderr nobody reads. Whoever collects the log
	// may be killed, or fall over: that must not take the clock along.
	signal.Ignore(syscall.SIGPIPE)
	book := newLogbook(t.stderr, cfg.Device.ID)
	defer book.begin()()
	log := book.logger()
	log.Info("starting", "device", cfg.Device.ID, "version", version, "state_dir", cfg.Device.StateDir)

	// Open: state directory, clock, roster, outbox.
	if err := makeStateDir(cfg.Device.StateDir); err != nil {
		return usage("state directory: %w; make it writable for this user, or change device.state_dir", err)
	}
	h := &clockwork{cfg: cfg, log: log, metrics: newMetrics(), samples: newSamples(cfg.destinationNames()), started: time.Now(), doubt: make(chan struct{}, 1), card: readCardTrouble(cardTrouble)}
	if h.card != nil {
		log.Warn("the card's configuration was not taken in; the one before is in force", "why", h.card.headIn("en"))
	}
	var err error
	if h.clock, err = clock.New(clock.Config{Trust: cfg.Clock.Trust, StateFile: filepath.Join(cfg.Device.StateDir, "clock.json"), Logger: log}); err != nil {
		return err
	}
	if cfg.Clock.Trust != clock.System && h.clock.Now().Uptime < powerBack { // a desk is no fleet
		h.spread = startSpread
	}
	people := &directory{}
	if h.outbox, err = openOutbox(cfg, log, stamps{h.clock}.Now, people); err != nil { // its lock covers the roster too
		return err
	}
	defer h.outbox.Close()
	if h.roster, err = openRoster(cfg, log, wallOf(h.clock)); err != nil {
		return err
	}
	defer h.roster.Close()
	for _, err := range h.roster.Clashes() {
		log.Error("two people's cards cannot be told apart: their taps are stored as of unknown badges", "err", err)
	}
	people.set(h.roster)
	h.pins = newPINGuard(filepath.Join(cfg.Device.StateDir, "wrong-pins.json"), stamps{h.clock}.Now, log)
	defer h.pins.keep()
	h.admin = newAdminPIN(cfg.Device.StateDir, stamps{h.clock}.Now, log)
	defer h.admin.keep()
	h.cert = newAdminCert(cfg.Device.StateDir, cfg.Device.ID, stamps{h.clock}.Now, log)
	h.outbox.OnCommit(func(took time.Duration, punches int) {
		h.metrics.commit(took, punches)
		h.samples.commit(took, punches)
	})
	if err := audited(h.outbox, h.roster, stamps{h.clock}.Now); err != nil {
		log.Error("the audit chain lacks changes of the roster", "err", err)
	}
	if _, err := h.outbox.Relink(); err != nil { // the roster may have changed while we were not running
		log.Warn("unknown badges: look again at the next change of the roster", "err", err)
	}

	h.candidates, h.portraits = newCandidates(cfg), newPortraits(cfg)
	if !h.portraits.on {
		if err := errors.Join(h.portraits.clear(), h.candidates.noPortraits()); err != nil {
			log.Error("portraits are not wanted any more, and could not be deleted", "err", err)
		}
	}

	// Build: faces, conversation, destinations, readers. Nothing runs yet.
	face, err := h.newFace()
	if err != nil {
		return err
	}
	lamp, err := newIndicator(cfg, log)
	if err != nil {
		log.Error("no lamp and no tone", "err", err) // the clock is worth more than its lamp
		lamp = nil
	}
	h.lamp = lamp
	small, err := h.newSmallFace()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	door, err := h.newDoorScreen(face)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	h.kiosk = h.newKiosk(face, small, door, lamp)
	for _, d := range cfg.Destinations {
		h.workers = append(h.workers, h.newWorker(d))
	}
	h.reconciler = newReconciler(cfg, log, h.outbox, h.workers)
	night := newNightly(cfg, log, h.outbox, h.reconciler, func() bool { return h.clock.Now().State == clock.Unset })
	var readers []device.Reader
	for _, rc := range cfg.Readers {
		r, err := newReader(rc, readerParts{log: log, stdin: t.stdin})
		if err != nil {
			return &exitError{exitUsage, err}
		}
		readers = append(readers, r)
	}
	if h.source, err = newRosterSource(cfg, log, h.roster, func() error { return audited(h.outbox, h.roster, stamps{h.clock}.Now) }); err != nil {
		return &exitError{exitUsage, err}
	}
	unset := func() bool { return h.clock.Now().State == clock.Unset }
	if h.walk, err = h.newCandidateWalk(unset); err != nil {
		return &exitError{exitUsage, err}
	}
	photos := h.newPortraitFetch(unset)
	h.learner.look, h.learner.lamp = (&archive{cfg: cfg, roster: h.roster}).look, func(bool) {}
	if lamp != nil {
		h.learner.lamp = lamp.Technician
	}
	h.enrol = newEnroller(&archive{cfg: cfg, outbox: h.outbox, roster: h.roster, stamp: stamps{h.clock}.Now}, h.pins, log)
	h.metrics.watch(h)

	// Start, inputs last. Inputs stop when ctx ends, everything else after them.
	rest, stopRest := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRest()
	house, rest := errgroup.WithContext(rest)
	inputs, stopInputs := context.WithCancel(ctx)
	defer stopInputs()
	context.AfterFunc(rest, stopInputs) // a part that fails takes the house down in order

	control, err := listenControl(cfg)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	house.Go(func() error { return serve(rest, newControl(h), control) })
	house.Go(func() error { return h.outbox.Run(rest) })
	house.Go(func() error { return h.clock.Watch(rest, h.clockChanged) })
	house.Go(func() error { return h.watchRoster(rest) })
	house.Go(func() error { h.roster.SealPINs(rest, log); return nil })
	house.Go(func() error { h.admin.takeCard(cfg.secretPath(adminSecret)); return nil })
	if h.source != nil {
		house.Go(func() error { return h.source.run(rest) })
	}
	if h.walk != nil {
		house.Go(func() error { return h.walk.Run(rest) })
	}
	if photos != nil {
		house.Go(func() error { return photos.run(rest) })
	}
	if h.portraits.on {
		house.Go(func() error { return h.watchPortraits(rest) })
	}
	house.Go(func() error { return h.watchSecrets(rest) })
	house.Go(func() error { return h.watchConfig(rest, hup) })
	house.Go(func() error { return night.run(rest) })
	house.Go(func() error { return h.watchHealth(rest) })
	house.Go(func() error { return h.watchTraffic(rest) })
	if face != nil {
		house.Go(func() error { return h.serveFace(rest, face) })
		house.Go(func() error { return pokeOnChange(rest, h.outbox, face) })
		if cfg.Kiosk.AllowRemote {
			house.Go(func() error { return h.cert.run(rest) })
		}
	}
	house.Go(func() error {
		return h.samples.run(rest, func() map[string]queue.DestStats { return h.outbox.Stats().Destinations }, func() time.Duration { return h.clock.Now().ErrorBound })
	})
	if lamp != nil {
		house.Go(func() error { return lamp.Run(rest) })
	}
	if small != nil {
		house.Go(func() error { return small.Run(rest) })
	}
	if door != nil {
		house.Go(func() error { return door.Run(rest) })
	}
	for _, w := range h.workers {
		house.Go(func() error { return w.Run(rest) })
	}

	events := make(chan device.Event, 64)
	taps := make(chan device.Event) // as events, counted on the way
	var inner errgroup.Group
	talk, stopTalk := context.WithCancel(context.WithoutCancel(ctx)) // outlives the readers: what they have said is heard
	inner.Go(func() error {
		h.metrics.count(events, taps, func(ev device.Event) device.Event { return h.enrol.hear(h.learner.hear(ev)) })
		stopTalk()
		return nil
	})
	inner.Go(func() error { return h.kiosk.Run(talk, taps) })

	if err := h.outbox.Writable(ctx); err != nil && ctx.Err() == nil {
		log.Error("no punch can be stored now", "err", err)
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS=taking punches"); err != nil {
		log.Warn("systemd was not told that we are ready", "err", err)
	}
	log.Info("ready", "last_seq", h.outbox.Stats().LastSeq)
	debug.SetGCPercent(gcRun)
	debug.FreeOSMemory() // what reading the archive took is not needed again, and giving it back bit by bit wakes the machine
	var outer sync.WaitGroup
	outer.Go(func() { h.enrol.run(inputs, events) })
	for i, r := range readers {
		outer.Go(func() {
			if err := r.Run(inputs, events); err != nil {
				name := cfg.Readers[i].Name
				log.Error("reader needs a person; the clock goes on without it", "reader", name, "err", err)
				select {
				case events <- device.Event{Reader: name, What: device.Down, Err: err, Last: time.Now()}:
				case <-inputs.Done():
				}
			}
		})
	}

	// Stop: readers, then the conversation with what it has heard, then the rest.
	<-inputs.Done()
	daemon.SdNotify(false, daemon.SdNotifyStopping)
	log.Info("stopping")
	outer.Wait()
	close(events)
	err = inner.Wait()
	stopRest()
	return errors.Join(err, house.Wait())
}

func openRoster(cfg *config, log *slog.Logger, now func() (time.Time, bool)) (*roster.Roster, error) {
	path := filepath.Join(cfg.Device.StateDir, "roster.db")
	r, err := roster.Open(path, roster.Options{Cards: cfg.cards(), Now: now})
	var bad *roster.Damaged
	if errors.As(err, &bad) {
		moved, qerr := roster.Quarantine(path)
		if qerr != nil {
			return nil, qerr
		}
		log.Error("the roster was damaged and is empty now: import it again; until then every badge is stored as unknown", "err", err, "kept_as", moved)
		r, err = roster.Open(path, roster.Options{Cards: cfg.cards(), Now: now})
	}
	return r, err
}

// directory names the active employee behind a badge, once the roster is open.
type directory struct{ r atomic.Pointer[roster.Roster] }

func (d *directory) set(r *roster.Roster) { d.r.Store(r) }

func (d *directory) who(b punch.Badge, tapped time.Time) (string, bool) {
	r := d.r.Load()
	if r == nil {
		return "", false
	}
	e, ok := r.ByBadgeAt(b, tapped)
	return e.Number, ok
}

// wallOf is the clock as the roster wants it.
func wallOf(c *clock.Clock) func() (time.Time, bool) {
	return func() (time.Time, bool) {
		r := c.Now()
		return r.Wall, r.State != clock.Unset
	}
}

// reserve is how many bytes of a file system of total bytes are kept free. Of a small
// one it is an eighth: all of it would be reserve, and no punch could ever be stored.
func (c *outboxConfig) reserve(total uint64) uint64 { return min(uint64(c.ReserveMB)<<20, total/8) }

func openOutbox(cfg *config, log *slog.Logger, now func() punch.Stamp, people *directory) (*queue.Outbox, error) {
	reserve := uint64(cfg.Outbox.ReserveMB) << 20
	if s, err := spaceOf(cfg.Device.StateDir); err == nil {
		reserve = cfg.Outbox.reserve(s.total)
	}
	b, err := queue.Open(queue.Options{Dir: outboxDir(cfg), Device: cfg.Device.ID, Destinations: cfg.destinationNames(), BootID: now().BootID, Who: people.who,
		Reserve: int64(reserve), Mirror: mirrorDir(cfg), KeepYears: cfg.Outbox.KeepYears, Now: now, Logger: log})
	switch {
	case errors.Is(err, queue.ErrInUse):
		return nil, fmt.Errorf("another punchclock runs on %s: %w; stop it first, or look at it with: punchclock status", cfg.Device.StateDir, err)
	case errors.Is(err, queue.ErrOtherDevice):
		return nil, &exitError{exitUsage, err}
	}
	return b, err
}

func outboxDir(cfg *config) string { return filepath.Join(cfg.Device.StateDir, "outbox") }

// mirrorDir is where the outbox keeps its second, plain copy.
func mirrorDir(cfg *config) string { return filepath.Join(outboxDir(cfg), "mirror") }

func (c *config) destinationNames() (names []string) {
	for _, d := range c.Destinations {
		names = append(names, d.Name)
	}
	return names
}

func (h *clockwork) newKiosk(face *web.Server, small *lcd.Face, door *screen.Face, lamp *indicator.Indicator) *kiosk.Kiosk {
	c := kiosk.Config{Location: h.cfg.Device.Timezone, DuplicateWindow: h.cfg.Kiosk.DuplicateWindow, KindTimeout: h.cfg.Kiosk.KindTimeout,
		MaskNames: h.cfg.Kiosk.MaskNames, DefaultLanguage: h.cfg.Kiosk.Language}
	for _, s := range h.cfg.Schedule {
		c.Schedule = append(c.Schedule, kiosk.Slot{From: s.From, To: s.To, Kind: s.Kind})
	}
	for _, r := range h.cfg.Readers {
		c.Readers = append(c.Readers, r.Name)
	}
	p := kiosk.Parts{Recorder: h.outbox, Directory: h.roster, Clock: stamps{h.clock}, CheckPIN: h.checkEntry, Blocked: h.roster.Blocked, History: history{h.outbox, h.cfg},
		Observe: h.metrics.tap, Log: h.log}
	p.Results = func(r ui.Result) {
		h.metrics.result(r)
		h.doubts(r)
		if face != nil {
			face.Result(r)
		}
	}
	if face != nil {
		p.Displays = append(p.Displays, face)
	}
	if small != nil {
		p.Displays = append(p.Displays, small)
	}
	if door != nil {
		p.Displays = append(p.Displays, door)
	}
	if lamp != nil {
		p.Sounders = append(p.Sounders, lamp)
	}
	k := kiosk.New(c, p)
	recent, err := h.outbox.Tail(5000) // two days of a large site
	if err != nil {
		h.log.Warn("the last punches could not be read; kinds start afresh", "err", err)
	}
	k.Seed(recent)
	h.samples.seed(recent)
	return k
}

// history is the outbox as a person's own punches are looked up in it.
type history struct {
	log *queue.Outbox
	cfg *config
}

// mostRecent is how many records are looked at for one person's last punches: two
// days of a large site.
const mostRecent = 4096

// Recent looks through the newest records first, so that most lists cost a few pages.
func (s history) Recent(ctx context.Context, employee string, most int) ([]ui.Past, error) {
	head := s.log.Stats().LastSeq
	for look := uint64(256); ; look = min(4*look, mostRecent) {
		from := uint64(1)
		if head > look {
			from = head - look + 1
		}
		var found []ui.Past
		old := map[uint64]bool{} // superseded
		err := s.log.Read(ctx, from, func(e queue.Entry) error {
			if e.Damaged != nil || !e.Outcome.Sent() {
				return nil
			}
			if e.Supersedes != 0 { // also by a record that is nobody's any more, see Outbox.Unlink
				old[e.Supersedes] = true
			}
			if e.Employee != employee {
				return nil
			}
			p := ui.Past{PunchID: string(e.ID), Kind: e.Kind.String(), Outcome: e.Outcome.String(), Time: e.Time().In(s.cfg.Device.Timezone)}
			for _, d := range s.cfg.Destinations {
				p.Places = append(p.Places, ui.Place{Name: d.Name, State: e.Deliveries[d.Name].State.String()})
			}
			found = append(found, p)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(found) < most && from > 1 && look < mostRecent {
			continue
		}
		slices.Reverse(found)
		found = found[:min(len(found), most)]
		for i := range found {
			if _, seq, err := punch.ID(found[i].PunchID).Seq(); err == nil {
				found[i].Superseded = old[seq]
			}
		}
		return found, nil
	}
}

// stamps is the clock as the conversation wants it.
type stamps struct{ c *clock.Clock }

func (s stamps) Now() punch.Stamp { return stampOf(s.c.Now()) }

func stampOf(r clock.Reading) punch.Stamp {
	state := punch.Unset
	switch r.State {
	case clock.Synced:
		state = punch.Synced
	case clock.Holdover:
		state = punch.Holdover
	}
	return punch.Stamp{Wall: r.Wall, BootID: r.BootID, Uptime: r.Uptime, Clock: state, ErrorBound: r.ErrorBound}
}

func (h *clockwork) newWorker(d destinationConfig) *worker {
	first, err := h.newDelivery(d, h.spread)
	if err != nil {
		h.log.Error("a destination cannot be delivered to; its punches are kept", "dest", d.Name, "err", err)
		dest := unbuilt{err}
		first = newDelivery(d, dest, drain.NewWorker(drain.Config{Name: d.Name, Log: h.outbox, Dest: dest, Kinds: d.Statuses, Logger: h.log}), nil)
		first.broken = err
	}
	w := &worker{}
	w.now.Store(first)
	w.lookAtSecret(h.cfg)
	return w
}

// newDelivery builds what delivers to a destination, and begins with a backlog within
// spread. It makes no call.
func (h *clockwork) newDelivery(d destinationConfig, spread time.Duration) (*delivery, error) {
	log := h.log.With("dest", d.Name)
	var login func() (string, error)
	if d.ProxyLoginFile != "" {
		login = func() (string, error) { return readSecret(h.cfg.secretPath(d.ProxyLoginFile)) }
	}
	client, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(d.CallsPerSecond), CAFile: d.CAFile, Transport: h.network, Proxy: d.Proxy, ProxyLogin: login,
		Observe: func(code string, took time.Duration) {
			h.metrics.call(d.Name, code, took)
			h.samples.call(d.Name, took)
		},
		Date: func(server time.Time) { h.heardTime(d.Name, server) }})
	if err != nil {
		return nil, fmt.Errorf("destination %q: %w", d.Name, err)
	}
	path := h.cfg.secretPath(d.SecretFile)
	dest, err := destinationDrivers[d.Driver](d, destinationParts{
		secret: func() (string, error) { return readSecret(path) },
		http:   client, log: log, place: h.cfg.Device.Name, people: h.roster.ByNumberAt,
		tokens: func(result string) { h.metrics.token(d.Name, result) },
		clock:  func(server time.Time) { h.heardTime(d.Name+" (its own time)", server) },
	})
	if err != nil {
		return nil, fmt.Errorf("destination %q: %w", d.Name, err)
	}
	engine := drain.NewWorker(drain.Config{Name: d.Name, Log: h.outbox, Dest: dest, Batch: d.Batch,
		Lanes: drain.Lanes(d.CallsPerSecond), Spread: spread, Kinds: d.Statuses, Logger: h.log})
	return newDelivery(d, dest, engine, client), nil
}

// clockChanged hears of every change of the clock's state. When the time of this
// boot becomes known, the punches that were held for it can go.
func (h *clockwork) clockChanged(r clock.Reading) {
	h.log.Info("clock", "state", r.State, "error_bound", r.ErrorBound.Round(time.Millisecond))
	if err := h.keepBootTime(); err != nil {
		h.log.Error("punches made before the clock was set are held until their boot's time can be written down", "err", err)
	}
}

// keepBootTime writes down when this boot began, if that is known. It is asked
// again for as long as the medium refuses.
func (h *clockwork) keepBootTime() error {
	epoch, _, ok := h.clock.BootEpoch()
	if !ok {
		return nil
	}
	err := h.outbox.SetBootTime(h.clock.Now().BootID, epoch)
	h.bootTimeDue.Store(err != nil)
	return err
}

// skewWorth is a difference to a far side's clock that somebody should know of.
const skewWorth = time.Minute

// skew is what the far sides' clocks say of ours, by destination: how far they are
// ahead of it, and what was last said about that in the log.
type skew struct {
	mu          sync.Mutex
	heard, said map[string]time.Duration
}

// heardTime compares a far side's clock with ours. It warns, once for each change,
// and changes nothing: the far side may be the one that is wrong.
func (h *clockwork) heardTime(dest string, server time.Time) {
	if h.clock == nil { // a part of the house, in a test
		return
	}
	r := h.clock.Now()
	d := server.Sub(r.Wall).Round(time.Second)
	s := &h.skew
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard == nil {
		s.heard, s.said = map[string]time.Duration{}, map[string]time.Duration{}
	}
	s.heard[dest] = d
	switch was := s.said[dest]; {
	case d.Abs() <= skewWorth && was != 0:
		delete(s.said, dest)
		h.log.Info("the far side's clock and this one agree again", "dest", dest)
	case d.Abs() > skewWorth && (d-was).Abs() > skewWorth:
		s.said[dest] = d
		h.log.Warn("the far side's clock and this one differ: check the time server, and the battery clock if there is one",
			"dest", dest, "ahead_of_us", d, "clock", r.State.String(), "error_bound", r.ErrorBound.Round(time.Millisecond))
	}
}

// all returns what was last heard of each destination.
func (s *skew) all() map[string]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.heard)
}

// watchRoster gives punches by unknown badges to the people the roster now knows, and
// offers what was refused again: HR has most likely corrected the far side as well.
func (h *clockwork) watchRoster(ctx context.Context) error {
	for {
		changed := h.roster.Changed()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		n, err := retryParked(h.outbox, "")
		if err != nil {
			h.log.Error("parked punches: put back at the next change of the roster", "err", err)
		} else if n > 0 {
			h.log.Info("the roster has changed: parked punches are offered again", "punches", n)
		}
	}
}

// secretFiles are the paths of what the destination must be able to read.
func (v destinationConfig) secretFiles(cfg *config) (paths []string) {
	if v.secretWanted() {
		paths = append(paths, cfg.secretPath(v.SecretFile))
	}
	if v.ProxyLoginFile != "" {
		paths = append(paths, cfg.secretPath(v.ProxyLoginFile))
	}
	return paths
}

// lookAtSecret notes whether the secrets can be read, for status: a destination
// without one is misconfigured before the first punch shows it.
func (w *worker) lookAtSecret(cfg *config) {
	var err error
	for _, path := range w.cfg().secretFiles(cfg) {
		if _, err = readSecret(path); err != nil {
			break
		}
	}
	w.secret.Store(&err)
}

// status is the engine's, unless that has had nothing to do yet.
func (w *worker) status() drain.Status {
	d := w.now.Load()
	st := d.Status()
	if d.broken != nil && st.State == drain.OK {
		st.State, st.LastError = token.Misconfigured, d.broken.Error()+"; correct it, nothing needs a restart"
	}
	if err := *w.secret.Load(); err != nil && st.State == drain.OK {
		st.State, st.LastError = token.Misconfigured, err.Error()+"; put the secret there, nothing needs a restart"
	}
	return st
}

// watchSecrets wakes a destination that waits for a person when one of its secrets'
// files has changed. It looks at files only while one waits.
func (h *clockwork) watchSecrets(ctx context.Context) error {
	last := map[string]fileSeen{} // by path
	for _, w := range h.workers {
		for _, path := range w.cfg().secretFiles(h.cfg) {
			last[path] = lookAt(path)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
		seen := map[string]fileSeen{}
		for _, w := range h.workers {
			if st := w.status().State; st == drain.OK || st == drain.Retrying {
				continue
			}
			w.lookAtSecret(h.cfg)
			changed := false
			for _, path := range w.cfg().secretFiles(h.cfg) {
				seen[path] = lookAt(path)
				changed = changed || !seen[path].same(last[path])
			}
			if changed {
				h.log.Info("a secret's file has changed: trying again", "dest", w.name())
				w.Wake()
			}
		}
		maps.Copy(last, seen)
	}
}

// watchHealth asks every few seconds whether a punch could be stored, for
// /readyz and the screen, and feeds the watchdog only while it could.
func (h *clockwork) watchHealth(ctx context.Context) error {
	every := 10 * time.Second
	fed, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		h.log.Warn("the watchdog's interval makes no sense", "err", err)
	}
	if fed > 0 {
		every = min(every, fed/3)
	}
	was := ""
	for {
		err := h.checkReady(ctx)
		if h.lamp != nil {
			h.lamp.Offline(slices.ContainsFunc(h.workers, func(w *worker) bool { return w.status().State == drain.Retrying }))
		}
		if h.bootTimeDue.Load() && h.keepBootTime() == nil {
			h.log.Info("the boot's time is written down: nothing is held any more")
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if fed > 0 {
				daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			}
			if was != "" {
				h.log.Info("punches can be stored again")
			}
			was = ""
		case err.Error() != was:
			was = err.Error()
			h.log.Error("no punch can be stored now", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.doubt:
		case <-time.After(every):
		}
	}
}

// doubts has watchHealth look again at once where a tap's answer speaks against what
// it saw last.
func (h *clockwork) doubts(r ui.Result) {
	if (r.Outcome == punch.NotStored.String()) == (h.lastReady() != nil) {
		return
	}
	select {
	case h.doubt <- struct{}{}:
	default:
	}
}

// makeStateDir makes the state directory where it is missing, and sees to it that a
// power cut does not take its name away again, with all that is in it: each folder
// that was made is synced into the one above, and so is one that an earlier start
// may have made just before it was killed.
func makeStateDir(dir string) error {
	above := []string{filepath.Dir(dir)}
	for d := filepath.Dir(dir); d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		}
		above = append(above, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range above {
		f, err := os.Open(d)
		if errors.Is(err, fs.ErrPermission) {
			continue // then it is not we who made anything in it
		} else if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", d, err)
		}
	}
	return nil
}

func (h *clockwork) checkReady(ctx context.Context) error {
	h.looking.Lock()
	defer h.looking.Unlock()
	return h.lookReady(ctx)
}

// readyFresh is how long an answer of Writable counts as now. Each costs a sync.
const readyFresh = time.Second

// readyNow is for whoever asks from outside, as often as they like. Those who ask while
// somebody is looking wait for that answer.
func (h *clockwork) readyNow() error {
	h.looking.Lock()
	defer h.looking.Unlock()
	if time.Since(h.looked) < readyFresh {
		return h.lastReady()
	}
	return h.lookReady(context.Background())
}

// lookReady asks. Its caller holds looking.
func (h *clockwork) lookReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := h.outbox.Writable(ctx)
	h.ready.Store(&err)
	h.looked = time.Now()
	return err
}

// pokeOnChange tells the page that counts may have changed.
func pokeOnChange(ctx context.Context, b *queue.Outbox, face *web.Server) error {
	for {
		changed := b.Changed()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			face.Poke()
		}
	}
}

// newSmallFace builds the display on the I²C bus, nil where there is none.
func (h *clockwork) newSmallFace() (*lcd.Face, error) {
	c := h.cfg.Display
	if c.Driver == "" {
		return nil, nil
	}
	return lcd.New(lcd.Config{Driver: c.Driver, Bus: c.Bus, Address: uint16(c.Address), Columns: c.Columns, Rows: c.Rows,
		Language: h.cfg.Kiosk.Language, Location: h.cfg.Device.Timezone, Logger: h.log, Line: func(words text.Catalog) string {
			if h.card != nil {
				return h.card.headIn(words.Language())
			}
			var most uint64
			var oldest time.Duration
			for _, d := range h.outbox.Stats().Destinations {
				most, oldest = max(most, d.Pending), max(oldest, d.Oldest)
			}
			return words.Pending(int(most), oldest)
		}})
}

// newFace builds the kiosk page, nil where the configuration turns it off.
func (h *clockwork) newFace() (*web.Server, error) {
	k := h.cfg.Kiosk
	if k.Listen == "" {
		return nil, nil
	}
	host, _, _ := net.SplitHostPort(k.Listen)
	hosts := []string{host}
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name, name+".local")
	}
	c := web.Config{ID: h.cfg.Device.ID, Name: h.cfg.Device.Name, Version: version, Language: k.Language, Location: h.cfg.Device.Timezone,
		AllowRemote: k.AllowRemote, Hosts: hosts, Listen: k.Listen, Volume: k.Volume, Voices: k.Voices, Backend: backend{h}, Admin: h.newAdminRoom(), Metrics: h.metrics.handler(), Log: h.log}
	if k.AllowRemote {
		c.Fingerprint = h.cert.fingerprint
	}
	c.Night.From, c.Night.To = k.Night[0], k.Night[1]
	if h.portraits.on {
		c.Portrait = h.portraitFor
	}
	return web.New(c)
}

// serveFace serves the page. An address that is taken keeps nobody from
// punching: it is tried again until it is free.
func (h *clockwork) serveFace(ctx context.Context, face *web.Server) error {
	for said := ""; ; {
		l, err := net.Listen("tcp", h.cfg.Kiosk.Listen)
		if err == nil {
			h.log.Info("kiosk page", "url", "http://"+l.Addr().String()+"/")
			srv := web.NewHTTPServer(face.Handler())
			srv.ErrorLog = slog.NewLogLogger(h.log.Handler(), slog.LevelWarn)
			var cert func() (*tls.Certificate, error)
			if h.cfg.Kiosk.AllowRemote {
				cert = h.cert.get
			}
			return serve(ctx, srv, web.Listen(l, cert))
		}
		if err.Error() != said {
			said = err.Error()
			h.log.Error("no kiosk page yet; free the address or change kiosk.listen", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Second):
		}
	}
}

// serve runs an HTTP server until ctx is done and its last answers are out.
func serve(ctx context.Context, srv *http.Server, l net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serving %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if srv.Shutdown(end) != nil {
		srv.Close() // whoever is still reading has had time enough
	}
	<-done
	return nil
}
