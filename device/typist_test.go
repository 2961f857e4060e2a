package device

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// typed runs keys, one every 200 ms, through a pad; a space is TypingPause of
// nothing, of which the pad is told, a dot one of which it is not.
func typed(p *Typist, keys string) string {
	var got []string
	at := time.Unix(1, 0)
	note := func(ev Event, ok bool) {
		switch {
		case !ok:
			return
		case ev.Last.Before(ev.First) || ev.First.IsZero():
			got = append(got, fmt.Sprintf("from %v to %v", ev.First, ev.Last))
		}
		switch ev.What {
		case Key:
			got = append(got, "key "+ev.Key)
		case Entry:
			got = append(got, strings.TrimSpace(fmt.Sprintf("entry %s/%s %s", ev.Number, string(ev.PIN), ev.Key)))
		default:
			got = append(got, fmt.Sprintf("%v %s %v", ev.What, ev.Fault, ev.Try))
		}
	}
	for _, k := range []byte(keys) {
		switch k {
		case ' ':
			at = at.Add(TypingPause)
			note(p.Idle(at))
		case '.':
			at = at.Add(TypingPause)
		default:
			at = at.Add(200 * time.Millisecond)
			note(p.Press(k, at))
			note(p.Idle(at))
		}
	}
	return strings.Join(got, ", ")
}

func TestKeysBecomeWhatThePersonMeans(t *testing.T) {
	for keys, want := range map[string]string{
		"000123#4711#":             "entry 000123/4711",
		"000123#4711#000124#0815#": "entry 000123/4711, entry 000124/0815",
		"A":                        "key in",
		"B C":                      "key out, key go-out",
		"D000123#4711#":            "key return, key , entry 000123/4711 return",
		"0001C23#4711#":            "entry 000123/4711 go-out",
		"000123#47C11#":            "entry 000123/4711 go-out",
		"C00D0123#4711#":           "key go-out, key , entry 000123/4711 return",
		"C*":                       "key go-out, key ",
		"C 000123#4711#":           "key go-out, entry 000123/4711", // too late to be meant for it
		"12*000123#4711#":          "entry 000123/4711",
		"12#34*000123#4711#":       "entry 000123/4711",
		"12 000123#4711#":          "fault timeout false, entry 000123/4711",
		"12.000123#4711#":          "entry 000123/4711",
		"000123#47 11#":            "fault timeout false", // and 11# is a number that waits for its PIN
		"#":                        "",
		"##*#**":                   "",
		"000123##":                 "fault length true",
		strings.Repeat("1", 20) + "#" + strings.Repeat("2", 12) + "#": "entry " + strings.Repeat("1", 20) + "/" + strings.Repeat("2", 12),
		strings.Repeat("1", 21) + "#1234#":                            "fault length true", // and 1234# is a number
		"1#" + strings.Repeat("2", 13) + "#":                          "fault length true",
		"xyz\x00\xff'; DROP000123#4711#":                              "key return, key , entry 000123/4711 return", // no pad has these; D is one of its keys
	} {
		keys = strings.ReplaceAll(keys, "; DROP", ";D")
		if got := typed(&Typist{}, keys); got != want {
			t.Errorf("%q: %s, want %s", keys, got, want)
		}
	}
}

func TestAnEntryTellsWhenItsKeysWerePressed(t *testing.T) {
	var p Typist
	at := time.Unix(9, 0)
	p.Press('#', at.Add(-time.Minute))
	for i, k := range []byte("12#34#") {
		ev, ok := p.Press(k, at.Add(time.Duration(i)*time.Second))
		if ok && (!ev.First.Equal(at) || !ev.Last.Equal(at.Add(5*time.Second)) || ev.What != Entry) {
			t.Errorf("%v from %v to %v", ev.What, ev.First, ev.Last)
		}
		if until := p.Until(); ok != until.IsZero() || !ok && !until.Equal(at.Add(time.Duration(i)*time.Second+TypingPause)) {
			t.Errorf("key %d: forgotten at %v", i, until)
		}
	}
}

func TestAPINIsNeverPrinted(t *testing.T) {
	ev := Event{What: Entry, Number: "000123", PIN: "838383838383"}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "pin", ev.PIN, "event", ev)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "pin", ev.PIN, "event", ev)
	j, err := json.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{log.String(), string(j), fmt.Sprint(ev), fmt.Sprintf("%+v %#v %v %s %q %x", ev, ev, ev.PIN, ev.PIN, ev.PIN, ev.PIN)} {
		if strings.Contains(s, "8383") || strings.Contains(s, "33383338") {
			t.Errorf("the PIN is in %s", s)
		}
	}
}

func FuzzTypist(f *testing.F) {
	f.Add("000123#4711#")
	f.Add("C0 1*#1#2#")
	f.Fuzz(func(t *testing.T, keys string) {
		var p Typist
		got := typed(&p, keys)
		if len(p.number) > mostNumber || len(p.pin) > mostPIN {
			t.Errorf("%q: %d and %d digits are kept", keys, len(p.number), len(p.pin))
		}
		if n := strings.Count(got, "entry "); n > strings.Count(keys, "#")/2 {
			t.Errorf("%q: %s", keys, got)
		}
	})
}
