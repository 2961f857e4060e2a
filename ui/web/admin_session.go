package web

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"punchclock/ui/text"
)

const (
	sessionIdle = 15 * time.Minute // without use
	sessionMost = 12 * time.Hour
	sessionsMax = 16 // at one time; the one that was idle longest gives way
)

// sessions are those who have given the PIN. They live in memory: whoever restarts the
// program gives it again.
type sessions struct {
	mu  sync.Mutex
	all map[[32]byte]*session // by the hash of the cookie
}

// session is one of them.
type session struct {
	id      [32]byte
	csrf    string
	changed uint64 // of its PIN, see Admin.Changed; under sessions.mu
	began   time.Time

	mu   sync.Mutex
	used time.Time
	lang string
	once Answer // what the last form came to, not shown yet
	at   string // the section it is of
}

// begin makes a session and returns its cookie.
func (s *sessions) begin(changed uint64, lang string) (secret string) {
	secret = rand.Text()
	now := time.Now()
	v := &session{id: sha256.Sum256([]byte(secret)), csrf: rand.Text(), changed: changed, began: now, used: now, lang: lang}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[[32]byte]*session)
	}
	s.all[v.id] = v
	for len(s.all) > sessionsMax {
		oldest := v
		for _, o := range s.all {
			if o.lastUse().Before(oldest.lastUse()) {
				oldest = o
			}
		}
		delete(s.all, oldest.id)
	}
	return secret
}

// find returns the session of a request, if it has one that is not over. used says
// that somebody is there, and not only a page left open.
func (s *sessions) find(r *http.Request, changed uint64, used bool) (*session, bool) {
	c, err := r.Cookie(adminCookie)
	if err != nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.all[sha256.Sum256([]byte(c.Value))]
	if v == nil {
		return nil, false
	}
	now := time.Now()
	if v.changed != changed || now.Sub(v.began) > sessionMost || now.Sub(v.lastUse()) > sessionIdle {
		delete(s.all, v.id)
		return nil, false
	}
	if used {
		v.mu.Lock()
		v.used = now
		v.mu.Unlock()
	}
	return v, true
}

// keep has a session go on with a PIN that was set in it.
func (s *sessions) keep(v *session, changed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.changed = changed
}

func (s *sessions) end(v *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, v.id)
}

func (v *session) lastUse() time.Time { v.mu.Lock(); defer v.mu.Unlock(); return v.used }
func (v *session) language() string   { v.mu.Lock(); defer v.mu.Unlock(); return v.lang }

// leave keeps what a section's form came to until that section is looked at.
func (v *session) leave(section string, a Answer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.once, v.at = a, section
}

// take takes it; a look at another section lets it go.
func (v *session) take(section string) (a Answer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.at == section {
		a = v.once
	}
	v.once, v.at = Answer{}, ""
	return a
}

// speak changes the language, if it is one.
func (v *session) speak(lang string) {
	if !text.Known(lang) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lang = text.For(lang).InOffice().Language()
}
