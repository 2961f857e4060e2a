package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"time"

	"punchclock/ui/text"
)

//go:embed static page.html status.html admin.html
var embedded embed.FS

// file is one embedded asset.
type file struct {
	body []byte
	mime string
	etag string
}

var mimeTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// loadFiles reads the assets, by the path under which they are served.
func loadFiles() (map[string]file, error) {
	entries, err := fs.ReadDir(embedded, "static")
	if err != nil {
		return nil, err
	}
	files := make(map[string]file, len(entries))
	for _, e := range entries {
		b, err := fs.ReadFile(embedded, "static/"+e.Name())
		if err != nil {
			return nil, err
		}
		mime, ok := mimeTypes[path.Ext(e.Name())]
		if !ok {
			return nil, fmt.Errorf("asset %s: no MIME type for it", e.Name())
		}
		files["/static/"+e.Name()] = file{b, mime, `"` + digest(b) + `"`}
	}
	return files, nil
}

func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // keep it, but ask: a new program has a new page
	h.Set("Content-Type", f.mime)
	h.Set("ETag", f.etag)
	// The zero time leaves Last-Modified out; ETag and If-None-Match do the work.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}

// pageMaker draws the page. version changes with everything that the page is
// made of, so that a page left open by an older program knows to load itself again.
type pageMaker struct {
	tmpl    *template.Template
	status  *template.Template
	say     text.Catalog
	words   map[string]string            // all of say's, for the script
	people  map[string]map[string]string // by language: what is said to a person who speaks it
	version string
}

func newPageMaker(cfg Config, files map[string]file) (pageMaker, error) {
	src, err := fs.ReadFile(embedded, "page.html")
	if err != nil {
		return pageMaker{}, err
	}
	all, err := template.New("").Option("missingkey=error").ParseFS(embedded, "page.html", "status.html")
	if err != nil {
		return pageMaker{}, err
	}
	p := pageMaker{tmpl: all.Lookup("page.html"), status: all.Lookup("status.html"), say: text.For(cfg.Language),
		words: plain(text.For(cfg.Language).Words()), people: make(map[string]map[string]string)}
	for _, l := range text.Languages() {
		if l != p.say.Language() {
			p.people[l] = plain(text.For(l).Personal())
		}
	}
	parts := [][]byte{src, []byte(cfg.ID + "\x00" + cfg.Name + "\x00" + cfg.Version + "\x00" + p.say.Language())}
	for _, name := range []string{"/static/kiosk.css", "/static/kiosk.js"} {
		f, ok := files[name]
		if !ok {
			return pageMaker{}, fmt.Errorf("%s is not embedded", name)
		}
		parts = append(parts, f.body)
	}
	p.version = digest(parts...)
	return p, nil
}

// plain is the words by text, as a template and the script want them.
func plain(words map[text.Key]string) map[string]string {
	out := make(map[string]string, len(words))
	for k, w := range words {
		out[string(k)] = w
	}
	return out
}

// pageData is what page.html is drawn from.
type pageData struct {
	Lang    string
	Version string
	Name    string
	T       map[string]string
	People  map[string]map[string]string
	Voices  map[string]map[string]string
	Now     string // the device's time in the form of the wire
	Clock   string // the clock as it stands on the page, before the script runs
	Seconds string
	Date    string
	Doubt   string // why the time is not to be trusted, "" for no reason
	Prompt  string
	Screen  template.JS // the present screen, as in a screen event
	Kinds   []kindButton
	Why     string
}

type kindButton struct {
	Kind    string
	Word    string
	Key     int
	Current bool
}

func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	s.hub.mu.Lock()
	sc, screen := s.hub.present, s.hub.screen
	s.hub.mu.Unlock()

	now := time.Now().In(s.cfg.Location)
	d := pageData{
		Lang:    s.page.say.Language(),
		Version: s.page.version,
		Name:    s.cfg.Name,
		T:       s.page.words,
		People:  s.page.people,
		Voices:  s.spoken,
		Now:     s.stamp(now),
		Clock:   now.Format("15:04"),
		Seconds: now.Format(":05"),
		Date:    s.page.say.Date(now),
		Why:     s.page.say.Why(sc.Why),
		Screen:  template.JS(screen), // our own JSON, with <, > and & escaped by encoding/json
	}
	if sc.Clock != "synced" {
		d.Doubt = s.page.say.Clock(sc.Clock)
	}
	d.Prompt = s.page.say.Say(text.IdleTap)
	if sc.Kind == "" && d.Why != "" {
		d.Prompt += " · " + d.Why
	}
	for i, k := range kinds {
		d.Kinds = append(d.Kinds, kindButton{k, s.page.say.Kind(k), i + 1, k == sc.Kind})
	}
	var out bytes.Buffer
	if err := s.page.tmpl.Execute(&out, d); err != nil {
		s.cfg.Log.Error("the kiosk page could not be drawn", "err", err)
		refuse(w, http.StatusInternalServerError, "the page could not be drawn")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// Whoever asked may have gone; there is nobody left to tell.
	_, _ = w.Write(out.Bytes())
}
