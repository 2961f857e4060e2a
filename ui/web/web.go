// Package web is the kiosk page and the local HTTP interface behind it: the page
// itself, the event stream that scripts and the page listen to, a handful of
// JSON calls, and the three paths that machines ask (/healthz, /readyz,
// /metrics). Everything is embedded; the page loads nothing from anywhere else.
//
// # Paths
//
//	GET  /             the page, drawn on the server with the present state
//	GET  /static/*     its style sheet, script and icon, with ETags
//	GET  /status       the state of the device for a technician's phone; no names
//	GET  /voice/*      the site's recordings of what is said after a tone
//	GET  /portrait/*   the picture beside the present answer, under the random word that
//	                   its result carries: for seconds, and for this machine alone
//	GET  /qr.svg       the code on the page: the address of /status, or the state in words
//	GET  /events       server-sent events, below
//	POST /api/kind     {"kind":"go-out"} chooses the kind of the next tap
//	POST /api/pin      {"employee_no":"000123","pin":"4711"} punches without a badge
//	POST /api/correct  {"punch_id":"…-000000000042","kind":"out"} corrects the kind of a
//	                   punch, while the screen shows it to its person (Screen.Mine)
//	GET  /api/status   what Backend.Status returns, as JSON
//	GET  /healthz      200 while the process answers
//	GET  /readyz       200 while a punch could be stored now, else 503 with the reason
//	GET  /metrics      Config.Metrics
//	     /admin/*      the page for technicians and HR: see Admin
//
// Errors are {"error":"…"} with a status that fits: 400 for what cannot be read,
// 403 for a foreign Host or Origin and for a wrong PIN, 405, 409 for a punch that
// cannot be corrected now, 413 over 4 KB, 415,
// 429 with Retry-After for too many PINs, 503 where nothing can be done now.
//
// # The event stream
//
//	event: result   once per tap, after the commit; carries an id
//	event: screen   what the page shows, when it changes; on connecting, the present one
//	event: status   the body of /api/status, after a Poke, at most once a second
//	event: pulse    the device's time and date, the page's version, and whether a punch
//	                could be stored; on connecting, before every screen, every 20 seconds
//
// Only results have ids, because only results happen once: of everything else the
// newest is enough. The last 256 results are kept in memory. A listener that
// reconnects with Last-Event-ID (or ?last_event_id=, for a page that has to open
// a new EventSource) first gets what it missed, then the present screen, so the
// first screen event after connecting marks the end of the replay. Ids hold a
// mark of the daemon's life; an id of an earlier life means that every result of
// this life is new to the listener.
//
// Nothing here is ever waited for by a tap. Show, Result and Poke put a value
// into memory under a lock that is never held during a write to the network, and
// return. Each stream reads from there at its own speed; one that does not take
// what is written to it for 10 seconds is dropped, and one that fell more than
// 256 results behind goes on with the oldest that is left. There are at most 64
// streams, 48 of them from other machines; the next one gets 503.
//
// # Who may ask
//
// The page shows names, so it is for the machine itself unless the configuration
// says otherwise. Without AllowRemote a request from another machine is refused
// whatever it claims to be. The Host must be a loopback name or, with
// AllowRemote, a configured name or the very address the connection came in on:
// that stops a foreign web page which has its own name pointed at this machine
// (DNS rebinding). An Origin must be the Host's own, and a browser that says
// (Sec-Fetch-Site) that another site caused the request gets nothing but the
// pages: that stops forged calls, and streams used up from afar.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"punchclock/ui"
)

// Backend is what the page needs from the rest of the program.
type Backend interface {
	// Status returns a value whose JSON is the body of /api/status. It answers
	// from memory: an event stream stands still while it works.
	Status(ctx context.Context) any

	// ChooseKind chooses the kind of the next tap: in, out, go-out or return,
	// nothing else is passed. The new screen comes by Show. An error means that
	// the choice was not taken; its words go to the caller.
	ChooseKind(kind string) error

	// PIN punches for a person without a badge and returns what the tap came to,
	// after the commit. It also hands the result to Server.Result, as for any
	// other tap. ErrWrongPIN and *TooManyTries are answers to the person; any
	// other error is logged and told as "could not be done".
	PIN(ctx context.Context, employeeNo, pin string) (ui.Result, error)

	// Correct says that a punch should have been of another kind and returns what that
	// came to, after the commit. It also hands the result to Server.Result.
	// ErrNotCorrectable is an answer to the person.
	Correct(ctx context.Context, punchID, kind string) (ui.Result, error)

	// Ready returns nil while a punch could be stored now, else why not. It
	// answers from memory: an event stream stands still while it works.
	Ready() error

	// ReadyNow is Ready, looked at anew unless somebody did within the last second. It
	// waits for a commit that is under way, some seconds at most.
	ReadyNow() error
}

// ErrWrongPIN says that number and PIN do not belong together. It does not say
// which of the two is wrong.
var ErrWrongPIN = errors.New("employee number and PIN do not belong together")

// ErrNotCorrectable says that a punch cannot be corrected, or not any more.
var ErrNotCorrectable = errors.New("this punch cannot be corrected now")

// TooManyTries says that PINs are not looked at for some time.
type TooManyTries struct {
	Wait time.Duration
}

func (e *TooManyTries) Error() string {
	return fmt.Sprintf("too many wrong PINs: try again in %s", e.Wait.Round(time.Second))
}

// Config is what a Server is built from.
type Config struct {
	ID       string         // the device's id, required
	Name     string         // on the page; default ID
	Version  string         // of the program
	Language string         // of the page, as package text knows it
	Location *time.Location // the device's zone, required

	// AllowRemote lets other machines in. Hosts are then the names, with or
	// without port, by which they may call this one: the listen address, the
	// machine's name. The address a connection came in on is always allowed.
	AllowRemote bool
	Hosts       []string
	Listen      string // the address listened on, host:port: where a phone is sent

	// Volume is how loud the page's tones are, 0 to 100. Within Night, minutes of the
	// local day, From before or after To, they have a third of it, and a page that
	// nobody uses dims after a minute and is dark after ten. Equal ones: no night.
	// Voices is a folder of recordings that are played after the tone, by language
	// and word: zh-TW/in.ogg; "" for none.
	Volume int
	Voices string
	Night  struct{ From, To int }

	Backend Backend // required
	Admin   Admin   // of the page for technicians and HR; nil: there is none
	// Fingerprint is the SHA-256 of the certificate with which this machine answers
	// other machines, "" while it has none; nil: it answers them in the clear only.
	Fingerprint func() string

	// Portrait finds the picture of whoever has an employee number, a JPEG; nil for none.
	// It answers from memory; what it returns may read the medium, and returns nil for a
	// picture that is not there any more. nil: there are no portraits.
	Portrait func(employeeNo string) (load func() []byte)

	Metrics http.Handler // answers /metrics; nil: 404
	Log     *slog.Logger // nil: silent

	address func() string // of this machine in its network
}

// Server is the page and its interface. It starts no goroutine of its own: the
// work is done by the goroutines of the requests.
type Server struct {
	cfg   Config
	hosts map[string]bool
	files map[string]file
	page  pageMaker
	admin *admin // nil: none

	voices map[string]voice             // by path
	spoken map[string]map[string]string // their paths, by language and word
	hub    hub

	portraits portraits
}

var _ ui.Display = (*Server)(nil)

// New checks the configuration and builds a Server. It starts nothing.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.ID == "":
		return nil, errors.New("kiosk page: the device's id is missing")
	case cfg.Location == nil:
		return nil, errors.New("kiosk page: the device's time zone is missing")
	case cfg.Backend == nil:
		return nil, errors.New("kiosk page: nothing to answer from")
	}
	if cfg.Name == "" {
		cfg.Name = cfg.ID
	}
	cfg.address = ownAddress
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, hosts: make(map[string]bool)}
	for _, h := range cfg.Hosts {
		if name := hostName(h); name != "" {
			s.hosts[name] = true
		}
	}
	var err error
	if s.files, err = loadFiles(); err != nil {
		return nil, fmt.Errorf("kiosk page: %w", err)
	}
	if s.voices, s.spoken, err = loadVoices(cfg.Voices); err != nil {
		cfg.Log.Error("the page says less than was recorded", "err", err) // and shows all the same
	}
	if s.page, err = newPageMaker(cfg, s.files); err != nil {
		return nil, fmt.Errorf("kiosk page: %w", err)
	}
	if cfg.Admin != nil {
		if s.admin, err = newAdmin(s); err != nil {
			return nil, fmt.Errorf("kiosk page: %w", err)
		}
	}
	s.hub.init()
	return s, nil
}

// Show makes sc the present screen. It returns at once and may be called from
// several goroutines; the newest call wins.
func (s *Server) Show(sc ui.Screen) { s.hub.show(sc, s.encodeScreen(sc)) }

// Result sends the answer to one tap to everybody who listens, and keeps it for
// those who reconnect. It returns at once.
func (s *Server) Result(r ui.Result) { s.hub.result(s.encodeResult(r)) }

// Poke says that /api/status may have changed. Whoever listens gets the new one,
// at most once a second; nobody listening costs nothing. It returns at once.
func (s *Server) Poke() { s.hub.poke() }

// route is one path: how it is asked, and who answers.
type route struct {
	method string
	serve  http.HandlerFunc
}

// Handler returns the handler of all paths, refusals included.
func (s *Server) Handler() http.Handler {
	routes := map[string]route{
		"/":            {http.MethodGet, s.servePage},
		"/events":      {http.MethodGet, s.serveEvents},
		"/status":      {http.MethodGet, s.serveStatusPage},
		"/qr.svg":      {http.MethodGet, s.serveQR},
		"/api/status":  {http.MethodGet, s.serveStatus},
		"/api/kind":    {http.MethodPost, s.serveKind},
		"/api/pin":     {http.MethodPost, s.servePIN},
		"/api/correct": {http.MethodPost, s.serveCorrect},
		"/healthz":     {http.MethodGet, s.serveHealth},
		"/readyz":      {http.MethodGet, s.serveReady},
	}
	if s.cfg.Metrics != nil {
		routes["/metrics"] = route{http.MethodGet, s.cfg.Metrics.ServeHTTP}
	}
	for name, v := range s.voices {
		routes[name] = route{http.MethodGet, v.serve}
	}
	for name, f := range s.files {
		routes[name] = route{http.MethodGet, f.serve}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'")
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		// Streams set their own, from write to write. A writer without deadlines
		// (a recorder in a test) has nothing to be protected from.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))

		if why := s.foreign(r); why != "" {
			refuse(w, http.StatusForbidden, why)
			return
		}
		if s.admin != nil && isAdminPath(r.URL.Path) {
			s.admin.serve(w, r)
			return
		}
		// Paths are looked up as they came, in a table: there is no file system
		// behind them to climb about in.
		rt, ok := routes[r.URL.Path]
		if s.cfg.Portrait != nil && strings.HasPrefix(r.URL.Path, portraitPath) {
			rt, ok = route{http.MethodGet, s.servePortrait}, true
		}
		switch {
		case !ok:
			refuse(w, http.StatusNotFound, "there is nothing at this path")
		case r.Method != rt.method && (rt.method != http.MethodGet || r.Method != http.MethodHead):
			h.Set("Allow", rt.method)
			refuse(w, http.StatusMethodNotAllowed, "use "+rt.method+" on this path")
		default:
			rt.serve(w, r)
		}
	})
}

// foreign returns why a request is not answered at all, "" if it is.
func (s *Server) foreign(r *http.Request) string {
	if !s.cfg.AllowRemote {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !peer.Addr().Unmap().IsLoopback() {
			return "only the device itself may ask; set kiosk.allow_remote to change that"
		}
	}
	if !s.ownHost(r) {
		return "this is not a name of the device: ask for localhost, or for an address it listens on"
	}
	for _, o := range r.Header["Origin"] {
		host, ok := strings.CutPrefix(o, "http://")
		if !ok {
			host, ok = strings.CutPrefix(o, "https://")
		}
		if !ok || !strings.EqualFold(host, r.Host) {
			return "the request comes from the page of another site"
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); (site == "cross-site" || site == "same-site") && r.URL.Path != "/" && r.URL.Path != "/status" && r.URL.Path != adminPath {
		return "the request was caused by the page of another site"
	}
	return ""
}

// ownHost reports whether the Host asked for is this device.
func (s *Server) ownHost(r *http.Request) bool {
	name := hostName(r.Host)
	ip, err := netip.ParseAddr(name)
	if name == "localhost" || err == nil && ip.IsLoopback() {
		return true
	}
	if !s.cfg.AllowRemote {
		return false
	}
	if s.hosts[name] {
		return true
	}
	if err != nil {
		return false
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	return err == nil && at.Addr().Unmap() == ip.Unmap()
}

// hostName returns the name or address in a Host, without port and brackets, in
// lower case; "" for none.
func hostName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else if h, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(h, "]")
	}
	return strings.ToLower(host)
}
