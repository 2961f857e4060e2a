package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody is the longest request body that is read, in bytes.
const maxBody = 4 << 10

// kinds are the four words, in the order in which they are shown.
var kinds = [...]string{"in", "out", "go-out", "return"}

func isKind(word string) bool {
	for _, k := range kinds {
		if k == word {
			return true
		}
	}
	return false
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]bool{"alive": true})
}

func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := s.cfg.Backend.ReadyNow(); err != nil {
		answer(w, http.StatusServiceUnavailable, struct {
			Ready bool   `json:"ready"`
			Error string `json:"error"`
		}{false, err.Error()})
		return
	}
	answer(w, http.StatusOK, map[string]bool{"ready": true})
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, s.cfg.Backend.Status(r.Context()))
}

func (s *Server) serveKind(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Kind string `json:"kind"`
	}
	if !readJSON(w, r, &ask) {
		return
	}
	if !isKind(ask.Kind) {
		refuse(w, http.StatusBadRequest, "kind is one of in, out, go-out, return")
		return
	}
	if err := s.cfg.Backend.ChooseKind(ask.Kind); err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, http.StatusOK, ask)
}

func (s *Server) servePIN(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Employee string `json:"employee_no"`
		PIN      string `json:"pin"`
	}
	if !readJSON(w, r, &ask) {
		return
	}
	switch {
	case ask.Employee == "" || len(ask.Employee) > 64:
		refuse(w, http.StatusBadRequest, "employee_no is a text of 1 to 64 bytes")
		return
	case ask.PIN == "" || len(ask.PIN) > 64:
		refuse(w, http.StatusBadRequest, "pin is a text of 1 to 64 bytes")
		return
	}
	res, err := s.cfg.Backend.PIN(r.Context(), ask.Employee, ask.PIN)
	var tries *TooManyTries
	switch {
	case errors.As(err, &tries):
		seconds := max(1, int((tries.Wait+time.Second-1)/time.Second))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		refuse(w, http.StatusTooManyRequests, tries.Error())
	case errors.Is(err, ErrWrongPIN):
		refuse(w, http.StatusForbidden, ErrWrongPIN.Error())
	case err != nil:
		s.cfg.Log.Error("a punch by PIN could not be made", "err", err)
		refuse(w, http.StatusServiceUnavailable, "the punch could not be made; try again, or use a badge")
	case res.Outcome == "not_stored":
		// Not a success for a caller that looks at nothing but the status.
		answerBytes(w, http.StatusServiceUnavailable, s.encodeResult(res))
	default:
		answerBytes(w, http.StatusOK, s.encodeResult(res))
	}
}

func (s *Server) serveCorrect(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		PunchID string `json:"punch_id"`
		Kind    string `json:"kind"`
	}
	if !readJSON(w, r, &ask) {
		return
	}
	switch {
	case ask.PunchID == "" || len(ask.PunchID) > 64:
		refuse(w, http.StatusBadRequest, "punch_id is a text of 1 to 64 bytes")
		return
	case !isKind(ask.Kind):
		refuse(w, http.StatusBadRequest, "kind is one of in, out, go-out, return")
		return
	}
	res, err := s.cfg.Backend.Correct(r.Context(), ask.PunchID, ask.Kind)
	switch {
	case errors.Is(err, ErrNotCorrectable):
		refuse(w, http.StatusConflict, ErrNotCorrectable.Error())
	case err != nil:
		s.cfg.Log.Error("a punch could not be corrected", "punch", ask.PunchID, "err", err)
		refuse(w, http.StatusServiceUnavailable, "the correction could not be made; try again")
	case res.Outcome == "not_stored":
		answerBytes(w, http.StatusServiceUnavailable, s.encodeResult(res))
	default:
		answerBytes(w, http.StatusOK, s.encodeResult(res))
	}
}

// saysJSON reports whether a request means its body to be JSON. A script that says
// nothing, or curl's word for every body, is believed where no browser has had a hand in
// it: one tells an Origin with every POST, and its forms of that type cannot spell JSON.
func saysJSON(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	switch {
	case err == nil && t == "application/json":
		return true
	case h.Get("Content-Type") == "", err == nil && t == "application/x-www-form-urlencoded":
		return len(h["Origin"]) == 0 && h.Get("Sec-Fetch-Site") == ""
	}
	return false
}

// readJSON reads the one JSON object of a request into v. If it returns false
// the request has been answered.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	if !saysJSON(r.Header) {
		refuse(w, http.StatusUnsupportedMediaType, "send JSON, with Content-Type: application/json")
		return false
	}
	tooBig := func() bool {
		w.Header().Set("Connection", "close")
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", maxBody))
		return false
	}
	if r.ContentLength > maxBody {
		return tooBig()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return tooBig()
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "the body did not arrive whole")
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		refuse(w, http.StatusBadRequest, "the body is not the JSON expected here: "+explain(err))
		return false
	}
	if _, err := dec.Token(); err != io.EOF {
		refuse(w, http.StatusBadRequest, "the body goes on after its JSON object")
		return false
	}
	return true
}

// explain puts a decoding error into words that need no knowledge of Go.
func explain(err error) string {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Sprintf("%s is a text, not a %s", kind.Field, kind.Value)
	case errors.As(err, &kind):
		return fmt.Sprintf("an object is wanted, not a %s", kind.Value)
	case errors.Is(err, io.EOF):
		return "it is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends in the middle"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

func refuse(w http.ResponseWriter, code int, why string) {
	answer(w, code, map[string]string{"error": why})
}

func answer(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		code, b = http.StatusInternalServerError, []byte(`{"error":"the answer could not be written as JSON"}`)
	}
	answerBytes(w, code, b)
}

func answerBytes(w http.ResponseWriter, code int, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// Whoever asked may have gone; there is nobody left to tell.
	_, _ = w.Write(append(b, '\n'))
}
