package web

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"punchclock/ui/text"
)

// Spoken words are recordings that a site makes itself: <language>/<word>.<ending> in a
// folder, where word is a kind (of a stored punch), another outcome, or enrolled, for a card that
// is somebody's from now on. They are said after the tone, in the person's language, and nobody waits for them. What is not
// there is not said.

// words are what can be said.
var words = [...]string{"in", "out", "go-out", "return", "duplicate", "unknown_badge", "blocked_badge", "misread", "not_stored", "enrolled"}

// endings are the forms of sound that every browser reads, and their types.
var endings = map[string]string{".ogg": "audio/ogg", ".mp3": "audio/mpeg", ".wav": "audio/wav", ".m4a": "audio/mp4"}

// mostVoice is the longest recording, in bytes.
const mostVoice = 1 << 20

// voice is one recording.
type voice struct{ file, mime string }

// loadVoices finds the recordings in a folder: by the path under which they are
// served, and as the page is told of them, by language and word. A folder that is not
// there holds none; what is in the wrong form is an error.
func loadVoices(dir string) (byPath map[string]voice, byWord map[string]map[string]string, err error) {
	byPath, byWord = map[string]voice{}, map[string]map[string]string{}
	if dir == "" {
		return byPath, byWord, nil
	}
	for _, lang := range text.Languages() {
		entries, err := os.ReadDir(filepath.Join(dir, lang))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return byPath, byWord, fmt.Errorf("recordings: %w", err)
		}
		for _, e := range entries {
			ending := strings.ToLower(path.Ext(e.Name()))
			word := strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
			mime, known := endings[ending]
			if !known || !canSay(word) {
				continue
			}
			if info, err := os.Stat(filepath.Join(dir, lang, e.Name())); err != nil || !info.Mode().IsRegular() || info.Size() > mostVoice {
				return byPath, byWord, fmt.Errorf("recordings: %s/%s is not a file of at most %d KB; make it shorter", lang, e.Name(), mostVoice>>10)
			}
			at := "/voice/" + lang + "/" + word + ending
			byPath[at] = voice{filepath.Join(dir, lang, e.Name()), mime}
			if byWord[lang] == nil {
				byWord[lang] = map[string]string{}
			}
			byWord[lang][word] = at
		}
	}
	return byPath, byWord, nil
}

func canSay(word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

func (v voice) serve(w http.ResponseWriter, r *http.Request) {
	f, err := os.Open(v.file)
	if err != nil {
		refuse(w, http.StatusNotFound, "the recording is gone")
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", v.mime)
	http.ServeContent(w, r, "", time.Time{}, f)
}
