package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"punchclock/ui"
	"punchclock/ui/text"
)

const (
	kept       = 256              // results kept for replay
	maxStreams = 64               // event streams at one time
	maxRemote  = 48               // of these, from other machines: the page at the door keeps its place
	pulseEvery = 20 * time.Second // keeps the line alive, and the page's clock right
	statusRate = time.Second      // between two status events
)

// timeLayout is how an instant is written: always three digits of milliseconds,
// and the zone's offset as of that instant.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// The forms below are the wire's. They are apart from package ui's so that a
// field added there is not published by accident.

type wireResult struct {
	Outcome  string `json:"outcome"`
	PunchID  string `json:"punch_id,omitempty"`
	Seq      uint64 `json:"seq,omitempty"`
	Kind     string `json:"kind,omitempty"`
	Employee string `json:"employee_no,omitempty"`
	Name     string `json:"name,omitempty"`
	Time     string `json:"time"`
	Reader   string `json:"reader,omitempty"`
	Clock    string `json:"clock"`
	Reason   string `json:"reason,omitempty"`

	Supersedes string `json:"supersedes,omitempty"`
	Language   string `json:"language,omitempty"` // in which the person is spoken to, where it is not the page's
	Portrait   string `json:"portrait,omitempty"` // path of the person's picture, for some seconds
}

type wireScreen struct {
	Kind    string       `json:"kind"`
	Why     string       `json:"why"`
	Result  *wireResult  `json:"result"`
	Clock   string       `json:"clock"`
	Until   string       `json:"until,omitempty"`
	Readers []wireReader `json:"readers"`
	Mine    *wireMine    `json:"mine,omitempty"`
}

type wireMine struct {
	Employee string     `json:"employee_no"`
	Name     string     `json:"name"`
	Language string     `json:"language,omitempty"`
	Listed   bool       `json:"listed"`
	Punches  []wirePast `json:"punches"`
	Fix      string     `json:"fix,omitempty"`
	FixKind  string     `json:"fix_kind,omitempty"`
	FixUntil string     `json:"fix_until,omitempty"`
	Until    string     `json:"until"`
}

type wirePast struct {
	PunchID    string      `json:"punch_id"`
	Kind       string      `json:"kind"`
	Outcome    string      `json:"outcome"`
	Time       string      `json:"time"`
	Superseded bool        `json:"superseded,omitempty"`
	Places     []wirePlace `json:"places"`
}

type wirePlace struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

type wireReader struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

type wirePulse struct {
	Now   string    `json:"now"`
	Dates [2]string `json:"dates"` // today's and tomorrow's, in the page's language
	Page  string    `json:"page"`
	Ready bool      `json:"ready"`

	Night  bool `json:"night"`
	Volume int  `json:"volume"` // at this time of day, 0 to 100
}

func (s *Server) stamp(t time.Time) string { return t.In(s.cfg.Location).Format(timeLayout) }

func (s *Server) wire(r ui.Result) *wireResult {
	return &wireResult{r.Outcome, r.PunchID, r.Seq, r.Kind, r.Employee, r.Name, s.stamp(r.Time), r.Reader, r.Clock, r.Reason, r.Supersedes, s.language(r.Language), s.portraitOf(r)}
}

// language is the tag of the catalog that speaks to a person, "" for the page's own.
func (s *Server) language(tag string) string {
	if l := text.For(tag).Language(); text.Known(tag) && l != s.page.say.Language() {
		return l
	}
	return ""
}

func (s *Server) wireMine(m *ui.Mine) *wireMine {
	if m == nil {
		return nil
	}
	out := &wireMine{Employee: m.Employee, Name: m.Name, Language: s.language(m.Language), Listed: m.Listed, Punches: make([]wirePast, len(m.Punches)),
		Fix: m.Fix, FixKind: m.FixKind, Until: s.stamp(m.Until)}
	if !m.FixUntil.IsZero() {
		out.FixUntil = s.stamp(m.FixUntil)
	}
	for i, p := range m.Punches {
		places := make([]wirePlace, len(p.Places))
		for j, at := range p.Places {
			places[j] = wirePlace(at)
		}
		out.Punches[i] = wirePast{p.PunchID, p.Kind, p.Outcome, s.stamp(p.Time), p.Superseded, places}
	}
	return out
}

func (s *Server) encodeResult(r ui.Result) []byte { return encode(s.wire(r)) }

func (s *Server) encodeScreen(sc ui.Screen) []byte {
	out := wireScreen{Kind: sc.Kind, Why: sc.Why, Clock: sc.Clock, Readers: make([]wireReader, len(sc.Readers))}
	out.Mine = s.wireMine(sc.Mine)
	if sc.Result != nil {
		out.Result = s.wire(*sc.Result)
	}
	if !sc.Until.IsZero() {
		out.Until = s.stamp(sc.Until)
	}
	for i, r := range sc.Readers {
		out.Readers[i] = wireReader(r)
	}
	return encode(out)
}

// encode writes one of the forms above, all of which can be written.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("web: %T has no JSON form: %v", v, err))
	}
	return b
}

// hub holds what the streams send: the last results, the present screen, and how
// often the status was poked. Streams look into it, nobody writes to them.
type hub struct {
	mu       sync.Mutex
	life     string        // part of every id: which life of the daemon it belongs to
	changed  chan struct{} // closed, and replaced, when anything below changes
	last     uint64        // number of the newest result, 0 for none
	ring     [kept][]byte  // result n is at n % kept
	screen   []byte
	present  ui.Screen
	screenNo uint64
	pokes    uint64
	streams  int
	remote   int // of these, from other machines

	statusMu    sync.Mutex
	statusAt    time.Time
	statusPokes uint64 // the pokes that status follows
	status      []byte
}

func (h *hub) init() {
	h.life = strings.ToLower(rand.Text()[:8])
	h.changed = make(chan struct{})
	h.screen = encode(wireScreen{Clock: "unset", Readers: []wireReader{}})
	h.present = ui.Screen{Clock: "unset"}
	h.screenNo = 1
}

// wake tells the streams to look again. mu is held.
func (h *hub) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *hub) show(sc ui.Screen, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.present = sc
	if bytes.Equal(b, h.screen) {
		return
	}
	h.screen = b
	h.screenNo++
	h.wake()
}

func (h *hub) result(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	h.ring[h.last%kept] = b
	h.wake()
}

func (h *hub) poke() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pokes++
	if h.streams > 0 {
		h.wake()
	}
}

// enter takes a place for a stream, if there is one left.
func (h *hub) enter(local bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == maxStreams || !local && h.remote == maxRemote {
		return false
	}
	h.streams++
	if !local {
		h.remote++
	}
	return true
}

func (h *hub) leave(local bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams--
	if !local {
		h.remote--
	}
}

// seen is how far a stream has come.
type seen struct {
	result, screen, pokes uint64
}

// start returns the point at which a listener goes on that has everything up to
// lastID. One without an id is new and gets what happens from now on.
func (h *hub) start(lastID string) seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := seen{result: h.last, pokes: h.pokes}
	if lastID == "" {
		return at
	}
	at.result = 0 // another life's id: all of this life is news
	if life, n, ok := strings.Cut(lastID, "-"); ok && life == h.life {
		if n, err := strconv.ParseUint(n, 10, 64); err == nil && n <= h.last {
			at.result = n
		}
	}
	return at
}

// news is what a stream has not sent yet.
type news struct {
	first   uint64   // number of results[0]
	results [][]byte // never changed once they are here
	screen  []byte   // nil: as before
	poked   bool
	changed <-chan struct{}
}

// since returns what happened after at, and moves at there; the poke is left for
// the stream to take when it may.
func (h *hub) since(at *seen) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := news{first: at.result + 1, poked: h.pokes != at.pokes, changed: h.changed}
	if h.last >= kept {
		n.first = max(n.first, h.last-kept+1)
	}
	for i := n.first; i <= h.last; i++ {
		n.results = append(n.results, h.ring[i%kept])
	}
	at.result = h.last
	if at.screen != h.screenNo {
		at.screen, n.screen = h.screenNo, h.screen
	}
	return n
}

// freshStatus returns the status if it is newer than what a stream has sent, and
// how long to wait for a still newer one, 0 if there was no poke since. The
// status is asked for once in the status rate, however many streams there are.
// One listener asks for all, so ctx must outlive that listener.
func (s *Server) freshStatus(ctx context.Context, at *seen) (b []byte, wait time.Duration) {
	h := &s.hub
	h.statusMu.Lock()
	defer h.statusMu.Unlock()
	h.mu.Lock()
	pokes := h.pokes // before asking: a poke that comes meanwhile is news
	h.mu.Unlock()
	if h.statusPokes != pokes {
		if h.status != nil {
			wait = max(0, statusRate-time.Since(h.statusAt))
		}
		if wait == 0 {
			b, err := json.Marshal(s.cfg.Backend.Status(ctx))
			if err != nil {
				s.cfg.Log.Error("the status could not be written as JSON", "err", err)
				b = []byte("{}")
			}
			h.status, h.statusAt, h.statusPokes = b, time.Now(), pokes
		}
	}
	if at.pokes < h.statusPokes {
		at.pokes, b = h.statusPokes, h.status
	}
	return b, wait
}

func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if r.Method == http.MethodHead {
		h.Set("Content-Type", "text/event-stream")
		return
	}
	local := isLocal(r)
	if !s.hub.enter(local) {
		h.Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "there are too many listeners already")
		return
	}
	defer s.hub.leave(local)

	lastID := r.Header.Get("Last-Event-ID")
	if lastID == "" {
		lastID = r.URL.Query().Get("last_event_id")
	}
	at := s.hub.start(lastID)

	rc := http.NewResponseController(w)
	// The request has been read; its deadline would end the stream. A writer
	// without deadlines or flushing is a test's recorder and needs neither.
	_ = rc.SetReadDeadline(time.Time{})
	h.Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)

	stop, _ := r.Context().Value(stopping{}).(<-chan struct{})
	keepAlive := time.NewTicker(pulseEvery)
	defer keepAlive.Stop()
	// due is when the next status may go out; it runs only after a poke.
	due := time.NewTimer(0)
	due.Stop()
	defer due.Stop()

	var out bytes.Buffer
	out.WriteString("retry: 1000\n\n")
	for {
		n := s.hub.since(&at)
		for i, b := range n.results {
			fmt.Fprintf(&out, "id: %s-%d\nevent: result\ndata: %s\n\n", s.hub.life, n.first+uint64(i), b)
		}
		if n.screen != nil {
			s.writePulse(&out)
			fmt.Fprintf(&out, "event: screen\ndata: %s\n\n", n.screen)
		}
		if n.poked {
			b, wait := s.freshStatus(context.WithoutCancel(r.Context()), &at)
			if b != nil {
				fmt.Fprintf(&out, "event: status\ndata: %s\n\n", b)
			}
			if wait > 0 {
				due.Reset(wait)
			}
		}
		if out.Len() > 0 {
			_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := w.Write(out.Bytes()); err != nil {
				return // gone, or too slow: it comes back with its last id
			}
			if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return
			}
			out.Reset()
		}
		select {
		case <-n.changed:
		case <-due.C:
		case <-keepAlive.C:
			out.WriteString(": still here\n\n")
			s.writePulse(&out)
		case <-r.Context().Done():
			return
		case <-stop:
			return
		}
	}
}

// night reports whether it is night at a local time, by a clock that knows the time.
func (s *Server) night(now time.Time) bool {
	n := s.cfg.Night
	minute := now.Hour()*60 + now.Minute()
	s.hub.mu.Lock()
	set := s.hub.present.Clock != "unset"
	s.hub.mu.Unlock()
	switch {
	case !set || n.From == n.To:
		return false
	case n.From < n.To:
		return n.From <= minute && minute < n.To
	default:
		return minute >= n.From || minute < n.To
	}
}

func (s *Server) writePulse(out *bytes.Buffer) {
	now := time.Now().In(s.cfg.Location)
	p := wirePulse{
		Now:   s.stamp(now),
		Dates: [2]string{s.page.say.Date(now), s.page.say.Date(now.AddDate(0, 0, 1))},
		Page:  s.page.version,
		Ready: s.cfg.Backend.Ready() == nil,
		Night: s.night(now), Volume: s.cfg.Volume,
	}
	if p.Night {
		p.Volume /= 3
	}
	fmt.Fprintf(out, "event: pulse\ndata: %s\n\n", encode(p))
}
