package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/device/clock"
	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
)

// The control socket is HTTP over a Unix socket in the state directory, for this
// user and root only. The verbs speak to it; where no daemon runs they serve the
// same calls to themselves, in memory, from the files. So a verb is written once.

// archive is what a verb works on: the daemon's own, or the files opened for it.
type archive struct {
	cfg    *config
	outbox *queue.Outbox
	roster *roster.Roster
	kick   func(dest string)
	tries  func(dest string, id punch.ID) int // see tried; nil where no daemon runs

	candidates *candidates
	portraits  *portraits
	stamp      func() punch.Stamp // the time, for what is noted in the audit chain
	enrol      *enroller          // nil where no daemon runs

	admin       *adminPIN
	fingerprint func() string // of the page's certificate
}

// archive is what the running clock's own calls work on.
func (h *clockwork) archive() *archive {
	return &archive{cfg: h.cfg, outbox: h.outbox, roster: h.roster, candidates: h.candidates, portraits: h.portraits, stamp: stamps{h.clock}.Now, enrol: h.enrol, admin: h.admin, fingerprint: h.cert.fingerprint, tries: h.tries, kick: func(dest string) {
		for _, w := range h.workers {
			switch dest {
			case w.name():
				w.Kick()
			case "": // a word about punches, not about this destination's password
				w.Wake()
			}
		}
	}}
}

func (h *clockwork) tries(dest string, id punch.ID) int {
	for _, w := range h.workers {
		if w.name() == dest {
			return w.now.Load().Tries(id)
		}
	}
	return 0
}

func newControl(h *clockwork) *http.Server {
	a := h.archive()
	mux := a.routes()
	mux.HandleFunc("POST /enrol", a.serveEnrol)
	mux.HandleFunc("GET /status", h.serveStatus)
	mux.Handle("GET /metrics", h.metrics.handler())
	mux.HandleFunc("POST /reconcile", h.serveReconcile)
	mux.HandleFunc("POST /roster/feishu-ids", h.serveFeishuIDs)
	mux.HandleFunc("POST /roster/refresh", h.serveRosterRefresh)
	mux.HandleFunc("POST /badge/learn", h.serveLearn)
	return &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelWarn)}
}

func (a *archive) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /punches", a.servePunches)
	mux.HandleFunc("GET /queue", a.serveQueue)
	mux.HandleFunc("POST /queue/retry", a.serveRetry)
	mux.HandleFunc("POST /queue/time", a.serveSettleTime)
	mux.HandleFunc("GET /queue/pending", a.servePending)
	mux.HandleFunc("GET /verify", a.serveVerify)
	mux.HandleFunc("GET /roster", a.serveRoster)
	mux.HandleFunc("POST /roster", a.serveImport)
	mux.HandleFunc("GET /badge", a.serveBadge)
	mux.HandleFunc("GET /badge/strangers", a.serveStrangers)
	mux.HandleFunc("POST /badge/give", a.serveGive)
	mux.HandleFunc("POST /badge/take", a.serveTake)
	mux.HandleFunc("POST /badge/unlink", a.serveUnlink)
	mux.HandleFunc("POST /badge/block", a.serveBlock(a.blockCard))
	mux.HandleFunc("POST /badge/unblock", a.serveBlock(a.unblockCard))
	mux.HandleFunc("GET /people", a.serveFind)
	mux.HandleFunc("GET /person", a.servePerson)
	mux.HandleFunc("POST /people/forget", a.serveForget)
	mux.HandleFunc("GET /people/portrait", a.servePortrait)
	mux.HandleFunc("POST /people/portrait", a.serveSetPortrait)
	mux.HandleFunc("DELETE /people/portrait", a.serveRemovePortrait)
	mux.HandleFunc("GET /enrol/master", a.serveMasters)
	mux.HandleFunc("POST /enrol/master", a.serveSetMaster)
	mux.HandleFunc("GET /candidates", a.serveCandidates)
	mux.HandleFunc("DELETE /candidates", a.serveRemoveCandidate)
	mux.HandleFunc("POST /candidates/hire", a.serveHire)
	mux.HandleFunc("GET /doctor", a.serveDoctor)
	mux.HandleFunc("GET /admin", a.serveAdmin)
	mux.HandleFunc("POST /admin/pin", a.serveSetPIN)
	mux.HandleFunc("POST /admin/unlock", a.serveUnlock)
	mux.HandleFunc("GET /taps", a.serveTaps)
	return mux
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(w).Encode(v)
}

// refuse answers with words for the person at the command line.
func refuse(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprintln(w, err)
}

const socketName = "control.sock"

// socketAt calls fn with a path to the socket that the kernel takes: a Unix
// socket's is 107 bytes at most, a state directory may lie deeper.
func socketAt(dir string, fn func(path string) error) error {
	path := filepath.Join(dir, socketName)
	if len(path) <= 100 {
		return fn(path)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return fn(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName))
}

// listenControl opens the socket. One that a killed daemon has left behind is
// replaced: the outbox's lock has already shown that no other runs.
func listenControl(cfg *config) (l net.Listener, err error) {
	err = socketAt(cfg.Device.StateDir, func(path string) error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		old := unix.Umask(0o177)
		defer unix.Umask(old)
		l, err = net.Listen("unix", path)
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(len(path) <= 100) // the /proc path is no more by then
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// controlClient speaks to a daemon, or to the files.
type controlClient struct {
	http  *http.Client
	close func()
}

var errNoDaemon = errors.New("no punchclock runs on this state directory")

// dialControl finds the daemon; errNoDaemon where none runs.
func dialControl(cfg *config) (*controlClient, error) {
	dial := func(ctx context.Context, _, _ string) (c net.Conn, err error) {
		err = socketAt(cfg.Device.StateDir, func(path string) error {
			c, err = (&net.Dialer{}).DialContext(ctx, "unix", path)
			return err
		})
		return c, err
	}
	c, err := dial(context.Background(), "", "")
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("control socket: %w; use the account the clock runs under, or root", err)
		}
		return nil, fmt.Errorf("%w: %s", errNoDaemon, cfg.Device.StateDir)
	}
	c.Close()
	t := &http.Transport{DialContext: dial}
	return &controlClient{http: &http.Client{Transport: t}, close: t.CloseIdleConnections}, nil
}

// control reaches the daemon or, where none runs, opens the files: for reading,
// or also for writing.
func control(cfg *config, write bool) (*controlClient, error) {
	cl, err := dialControl(cfg)
	if err == nil || !errors.Is(err, errNoDaemon) {
		return cl, err
	}
	a := &archive{cfg: cfg, kick: func(string) {}, candidates: newCandidates(cfg), portraits: newPortraits(cfg)}
	if write {
		if err := becomeOwner(cfg.Device.StateDir); err != nil {
			return nil, err
		}
		if err := makeStateDir(cfg.Device.StateDir); err != nil {
			return nil, usage("state directory: %w", err)
		}
	}
	silent := slog.New(slog.DiscardHandler) // show says what there is
	here, err := clock.New(clock.Config{Trust: cfg.Clock.Trust, StateFile: filepath.Join(cfg.Device.StateDir, "clock.json"), Logger: silent})
	if err != nil {
		return nil, err
	}
	a.stamp = stamps{here}.Now
	a.admin = newAdminPIN(cfg.Device.StateDir, nil, silent)
	a.fingerprint = newAdminCert(cfg.Device.StateDir, cfg.Device.ID, nil, silent).fingerprint
	people := &directory{}
	done := func() {
		if a.roster != nil {
			a.roster.Close()
		}
		if a.outbox != nil {
			a.outbox.Close()
		}
	}
	o := queue.Options{Dir: outboxDir(cfg), Device: cfg.Device.ID, ReadOnly: !write, Who: people.who, Now: a.stamp}
	if o.BootID, err = clock.Boot(); err != nil {
		return nil, err
	}
	if write {
		o.Destinations, o.Mirror = cfg.destinationNames(), mirrorDir(cfg)
	}
	if a.outbox, err = queue.Open(o); err != nil && (write || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	a.roster, err = roster.Open(filepath.Join(cfg.Device.StateDir, "roster.db"), roster.Options{ReadOnly: !write, Cards: cfg.cards(), Now: wallOf(here)})
	if err != nil && (write || !errors.Is(err, fs.ErrNotExist)) {
		done()
		return nil, err
	}
	if a.roster != nil {
		people.set(a.roster)
	}
	mux := a.routes()
	return &controlClient{http: &http.Client{Transport: inMemory{mux}}, close: done}, nil
}

// becomeOwner gives up root for the account that the state directory belongs to:
// a file that root left in it could not be opened by the clock.
func becomeOwner(dir string) error {
	var st unix.Stat_t
	if os.Geteuid() != 0 || unix.Stat(dir, &st) != nil || st.Uid == 0 {
		return nil
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(int(st.Gid)), syscall.Setuid(int(st.Uid))); err != nil {
		return fmt.Errorf("act as the owner of %s: %w", dir, err)
	}
	return nil
}

// inMemory serves a request without a network, the answer as a stream.
type inMemory struct{ h http.Handler }

func (t inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	pr, pw := io.Pipe()
	w := &pipeWriter{pw: pw, header: http.Header{}, ready: make(chan struct{})}
	go func() {
		t.h.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		pw.Close()
	}()
	<-w.ready
	return &http.Response{StatusCode: w.code, Status: http.StatusText(w.code), Header: w.header, Body: pr, Request: r, Trailer: w.header}, nil
}

type pipeWriter struct {
	pw     *io.PipeWriter
	header http.Header
	code   int
	ready  chan struct{}
}

func (w *pipeWriter) Header() http.Header { return w.header }
func (w *pipeWriter) Flush()              {}
func (w *pipeWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
		close(w.ready)
	}
}
func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pw.Write(b)
}

// do makes one call and returns the answer's body. An answer other than 200 is an
// error with the other side's words.
func (c *controlClient) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (io.ReadCloser, error) {
	u := "http://punchclock" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the running punchclock: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	err = errors.New(strings.TrimSpace(string(b)))
	if resp.StatusCode == http.StatusBadRequest {
		return nil, &exitError{exitUsage, err}
	}
	return nil, err
}

func (c *controlClient) getJSON(ctx context.Context, path string, v any) error {
	body, err := c.do(ctx, "GET", path, nil, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(v)
}

// open is loadConfig and control in one, as most verbs begin.
func (t *tool) open(write bool) (*config, *controlClient, error) {
	cfg, err := loadConfig(t.configPath, built())
	if err != nil {
		return nil, nil, &exitError{exitUsage, err}
	}
	cl, err := control(cfg, write)
	return cfg, cl, err
}

func (t *tool) printJSON(v any) error {
	e := json.NewEncoder(t.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func goVersion() string { return runtime.Version() }
func platform() string  { return runtime.GOOS + "/" + runtime.GOARCH }
