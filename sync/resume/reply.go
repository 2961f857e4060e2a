package resume

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"punchclock/sync/token"
)

// action is what one reply asks for.
type action uint8

const (
	outage       action = iota // nothing known: wait and ask again
	taken                      // what was asked for
	refusedToken               // a new one, once
	denied                     // a person must act
	busy                       // any sign of limiting
	badID                      // an id is wrong: the others may not be
	expired                    // a file's link
)

// ruling is the whole decision.
type ruling struct {
	action action
	code   int
	state  string // denied
	hint   string // denied: what to do next
	what   string // in the trade's words, no body
}

const ourBug = "nothing is lost; report this to the maker of this program, with the code and the time"

// codes are the service's; they decide, whatever the HTTP status.
var codes = map[int]ruling{
	895: {action: expired, what: "file expired, or not available for now"},
	896: {action: denied, state: token.Misconfigured, what: "the flag is wrong", hint: ourBug},
	897: {action: denied, state: token.Misconfigured, what: "the fields of the query's date are wrong", hint: ourBug},
	898: {action: badID, what: "an id is wrong"},
	899: {action: denied, state: token.Misconfigured, what: "104 finds the request abnormal", hint: ourBug},
	900: {action: denied, state: token.Misconfigured, what: "the company's tax id is missing, or not that of client_id",
		hint: "compare the company's tax id (統一編號) in the configuration with the company that client_id was given to"},
	996: {action: denied, state: token.Misconfigured, what: "the form of the date is wrong", hint: ourBug},
	999: {action: outage, what: "system error"},
}

// judge decides on the reply to any call but that for a token.
func judge(status int, body []byte) ruling {
	code, hasData := envelope(body)
	if v, ok := codes[code]; ok {
		v.code = code
		return v
	}
	switch {
	case status == http.StatusUnauthorized:
		return ruling{action: refusedToken, code: code, what: "the token was refused"}
	case status == http.StatusForbidden:
		return ruling{action: denied, code: code, state: token.AuthFailed, what: "no permission",
			hint: "ask 104 to give client_id the right to read résumés (scope ehrweb_resume)"}
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return ruling{action: denied, code: code, state: token.Misconfigured, what: "no such address",
			hint: "set api_base to https://apis.104api.com.tw/ehrweb_resume/1.0, with nothing behind it"}
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return ruling{action: busy, code: code, what: "told to slow down"}
	case status >= 200 && status < 300 && (code == 0 || hasData):
		return ruling{action: taken}
	case code != 0:
		return ruling{action: outage, code: code, what: "an error that this program does not know"}
	}
	return ruling{action: outage, what: "not the answer that was asked for"}
}

// envelope reads the code of an error, and whether there is data as well.
func envelope(body []byte) (code int, hasData bool) {
	if b := bytes.TrimLeft(body, " \t\r\n"); len(b) == 0 || b[0] != '{' {
		return 0, false
	}
	var w struct {
		Code json.RawMessage `json:"code"`
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(body, &w) != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.Trim(string(w.Code), `"`))
	if err != nil {
		n = 0
	}
	return n, len(w.Data) > 0 && w.Data[0] == '{'
}

// judgeToken decides on the reply to a token call by its status.
func judgeToken(status int) ruling {
	switch status {
	case http.StatusOK:
		return ruling{action: taken}
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return ruling{action: denied, state: token.AuthFailed, what: "refused",
			hint: "compare client_id with what 104 gave you, put the current secret into client_secret_file, and ask 104 whether the scope ehrweb_resume is open"}
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return ruling{action: denied, state: token.Misconfigured, what: "no such address", hint: "set token_url to https://apis.104api.com.tw/oauth2/token"}
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return ruling{action: busy, what: "told to slow down"}
	}
	return ruling{action: outage, what: "no token"}
}

// Errors of a 2xx that holds not what was asked for: a portal, most likely.
var (
	errNoList    = errors.New("the answer holds no data.idList; is a portal or proxy in between?")
	errNoResumes = errors.New("the answer holds no data.list; is a portal or proxy in between?")
	errNoToken   = errors.New("the answer holds no access_token; is a portal or proxy in between?")
)

// text takes a JSON string, a whole number as it is written, and "" for anything else.
type text string

// UnmarshalJSON never fails.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
	} else if strings.Trim(string(b), "0123456789") == "" {
		*t = text(b)
	}
	return nil
}

const idMost = 64

// plainID lets through what an id is made of, "" for anything else.
func plainID(s string) string {
	for _, r := range s {
		if !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-' || r == '_') {
			return ""
		}
	}
	if len(s) > idMost {
		return ""
	}
	return s
}

// parseList reads a list's ids, each once; total is what 104 counts.
func parseList(body []byte) (ids []string, total int, err error) {
	var w struct {
		Data struct {
			Total int             `json:"total"`
			IDs   json.RawMessage `json:"idList"`
		} `json:"data"`
	}
	var list []text
	if json.Unmarshal(body, &w) != nil || len(w.Data.IDs) == 0 || json.Unmarshal(w.Data.IDs, &list) != nil {
		return nil, 0, errNoList
	}
	seen := map[string]bool{}
	for _, v := range list {
		if id := plainID(string(v)); id != "" && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids, w.Data.Total, nil
}

// parseResumes keeps id, name and the portrait's link, and drops the rest.
func parseResumes(body []byte) ([]Candidate, error) {
	var w struct {
		Data struct {
			List json.RawMessage `json:"list"`
		} `json:"data"`
	}
	var list []struct {
		ID    text `json:"resumeId"`
		Name  text `json:"fullName"`
		Photo text `json:"headshotUrl"`
	}
	if json.Unmarshal(body, &w) != nil || len(w.Data.List) == 0 || json.Unmarshal(w.Data.List, &list) != nil {
		return nil, errNoResumes
	}
	var out []Candidate
	for _, r := range list {
		if id := plainID(string(r.ID)); id != "" {
			out = append(out, Candidate{ID: id, Name: plainName(string(r.Name)), Photo: fileID(string(r.Photo))})
		}
	}
	return out, nil
}

const nameMost = 64 // characters, as in the roster

// plainName makes a name fit for one line of a list.
func plainName(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, ""), func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }), " ")
	if utf8.RuneCountInString(s) > nameMost {
		s = string([]rune(s)[:nameMost])
	}
	return s
}

// fileID is the token inside a link.
func fileID(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return ""
	}
	id := u.Query().Get("fileId")
	if len(id) > 4096 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return id
}

func parseAttachments(body []byte, resume string) ([]Attachment, error) {
	var w struct {
		Data struct {
			List []struct {
				ID    text `json:"resumeId"`
				Files []struct {
					Title    text `json:"title"`
					FileName text `json:"fileName"`
					Link     text `json:"resourceLink"`
				} `json:"attachFiles"`
			} `json:"list"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &w) != nil {
		return nil, errNoResumes
	}
	var out []Attachment
	for _, r := range w.Data.List {
		if string(r.ID) != resume {
			continue
		}
		for _, f := range r.Files {
			out = append(out, Attachment{Title: plainName(string(f.Title)), FileName: plainName(string(f.FileName)), file: fileID(string(f.Link))})
		}
	}
	return out, nil
}

const (
	defaultLife = time.Hour
	maxLife     = 7 * 24 * time.Hour
)

// parseToken reads a token. A missing, unreadable or non-positive life is an hour.
func parseToken(body []byte) (token.Token, error) {
	var w struct {
		Token   string          `json:"access_token"`
		Expires json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(body, &w) != nil || w.Token == "" {
		return token.Token{}, errNoToken
	}
	for i := range len(w.Token) {
		if b := w.Token[i]; b <= ' ' || b > '~' {
			return token.Token{}, errNoToken
		}
	}
	t := token.Token{Value: w.Token, Life: defaultLife}
	if n, err := strconv.ParseInt(strings.Trim(string(w.Expires), `"`), 10, 64); err == nil && n > 0 {
		t.Life = min(time.Duration(min(n, int64(maxLife/time.Second)))*time.Second, maxLife)
	}
	return t, nil
}
