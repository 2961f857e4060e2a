package web

import (
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"

	"punchclock/ui"
)

// A portrait is asked for under a random word that the result of its tap carries, for a
// few seconds and by this machine alone. Nobody can ask for a number's or a punch's.

const (
	portraitPath = "/portrait/"
	portraitFor  = 15 * time.Second // an answer is on the page for 2.5
	portraitMost = 64               // at one time
)

// portraits are those that may be asked for now.
type portraits struct {
	mu  sync.Mutex
	all []portrait // the oldest first
}

type portrait struct {
	punch string
	word  string
	until time.Time
	load  func() []byte
}

// portraitOf is the path of the portrait that goes with a result, "" for none.
func (s *Server) portraitOf(r ui.Result) string {
	if s.cfg.Portrait == nil || r.Outcome != "stored" || r.PunchID == "" {
		return ""
	}
	p := &s.portraits
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tidy()
	for _, x := range p.all {
		if x.punch == r.PunchID {
			return portraitPath + x.word
		}
	}
	load := s.cfg.Portrait(r.Employee)
	if load == nil {
		return ""
	}
	if len(p.all) == portraitMost {
		p.all = append(p.all[:0], p.all[1:]...)
	}
	x := portrait{punch: r.PunchID, word: rand.Text(), until: time.Now().Add(portraitFor), load: load}
	p.all = append(p.all, x)
	return portraitPath + x.word
}

// tidy forgets those whose time is over. mu is held.
func (p *portraits) tidy() {
	n := 0
	for n < len(p.all) && !time.Now().Before(p.all[n].until) {
		n++
	}
	p.all = append(p.all[:0], p.all[n:]...)
}

func (s *Server) servePortrait(w http.ResponseWriter, r *http.Request) {
	if !isLocal(r) {
		refuse(w, http.StatusForbidden, "portraits are for the clock's own screen")
		return
	}
	word := strings.TrimPrefix(r.URL.Path, portraitPath)
	var load func() []byte
	p := &s.portraits
	p.mu.Lock()
	p.tidy()
	for _, x := range p.all {
		if x.word == word {
			load = x.load
		}
	}
	p.mu.Unlock()
	var b []byte
	if load != nil {
		b = load()
	}
	if len(b) == 0 {
		refuse(w, http.StatusNotFound, "there is nothing at this path")
		return
	}
	w.Header().Set("Content-Type", "image/jpeg")
	// Whoever asked may have gone; there is nobody left to tell.
	_, _ = w.Write(b)
}
