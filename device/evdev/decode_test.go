package evdev

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"punchclock/device"
)

// strokes of a keyboard in a test: what a reader types, and marks in angle brackets.
//
//	<enter> <kpenter> <tab> <shift> </shift> <ctrl> </ctrl> <numlock> <f1>
//	<kp:0601> digits of the keypad    <30ms> a pause    <quiet> 100 ms of which we are told
//	<dropped> what the kernel lost    <hold:1> a key that repeats
var named = map[string]uint16{"enter": 28, "kpenter": 96, "tab": 15, "shift": 42, "rshift": 54, "ctrl": 29, "alt": 100, "meta": 125, "numlock": 69, "f1": 59, "code": 700}

var keypad = map[byte]uint16{'7': 71, '8': 72, '9': 73, '4': 75, '5': 76, '6': 77, '1': 79, '2': 80, '3': 81, '0': 82}

func codeOf(c byte) uint16 {
	for code, x := range characters[:60] {
		if x != 0 && x == c {
			return uint16(code)
		}
	}
	return named["f1"]
}

// tape runs strokes through a decoder, one every 8 ms.
func tape(d *decoder, strokes string) string {
	var got []string
	at := time.Unix(1, 0)
	note := func(f frame, ok bool) {
		switch {
		case !ok:
		case f.Medium != "":
			got = append(got, fmt.Sprintf("%s:%s", f.Medium, f.Value))
		default:
			s := "fault " + f.fault
			if f.try {
				s += " try"
			}
			got = append(got, s)
		}
		if ok && (f.last.Before(f.first) || f.first.IsZero()) {
			got = append(got, fmt.Sprintf("from %v to %v", f.first, f.last))
		}
	}
	press := func(code uint16) {
		at = at.Add(4 * time.Millisecond)
		note(d.key(code, pressed, at))
		at = at.Add(4 * time.Millisecond)
		note(d.key(code, released, at))
	}
	for strokes != "" {
		c := strokes[0]
		strokes = strokes[1:]
		if c != '<' {
			press(codeOf(c))
			continue
		}
		word, rest, _ := strings.Cut(strokes, ">")
		strokes = rest
		kp, isKP := strings.CutPrefix(word, "kp:")
		hold, isHold := strings.CutPrefix(word, "hold:")
		up, isUp := strings.CutPrefix(word, "/")
		switch pause, err := time.ParseDuration(word); {
		case err == nil:
			at = at.Add(pause)
		case isKP:
			for _, c := range []byte(kp) {
				press(keypad[c])
			}
		case isHold:
			at = at.Add(4 * time.Millisecond)
			note(d.key(codeOf(hold[0]), pressed, at))
			for range 20 {
				note(d.key(codeOf(hold[0]), 2, at))
			}
			note(d.key(codeOf(hold[0]), released, at))
		case word == "quiet":
			at = at.Add(lineGap)
			note(d.silence())
		case word == "dropped":
			note(d.lost(at))
		case isUp:
			note(d.key(named[up], released, at))
		case strings.HasSuffix(word, "shift") || word == "ctrl" || word == "alt" || word == "meta":
			note(d.key(named[word], pressed, at))
		default:
			press(named[word])
		}
	}
	return strings.Join(got, ", ")
}

const (
	slowly = "0<150ms>0<150ms>0<150ms>1<150ms>2<150ms>0<150ms>2<150ms>6<150ms>5<150ms>9<150ms><enter>"
	fast   = "0<52ms>0<52ms>0<52ms>1<52ms>2<52ms>0<52ms>2<52ms>6<52ms>5<52ms>9<enter>" // 60 ms from key to key
)

func TestKeysBecomeACard(t *testing.T) {
	for _, tc := range []struct {
		form    string
		width   int
		strokes string
		want    string
	}{
		{"dec-line", 0, "0001202659<enter>", "dec:0001202659"},
		{"dec-line", 0, "0001202659<kpenter>", "dec:0001202659"},
		{"dec-line", 0, "0001202659<tab>", "dec:0001202659"},
		{"dec-line", 0, "0001202659<enter><tab><enter>", "dec:0001202659"},
		{"dec-line", 0, "<kp:0001202659><kpenter>", "dec:0001202659"},
		{"dec-line", 0, "<numlock><kp:0001202659><numlock><enter>", "dec:0001202659"},
		{"dec-line", 0, "018,23011<enter>", "dec:018,23011"},
		{"dec-line", 0, "0001202659<quiet>01202659<quiet>", "dec:0001202659, dec:01202659"},
		{"dec-line", 0, "0001202659<200ms>01202659<quiet>", "dec:0001202659, dec:01202659"}, // nobody told of the silence
		{"dec-line", 10, "1202659<enter>", "dec:0001202659"},
		{"dec-line", 10, "0001202659<enter>", "dec:0001202659"},
		{"dec-line", 10, "12<enter>", "fault length"},
		{"dec-line", 0, "1202659<enter>", "fault length"},
		{"hex-line", 0, "06001259e3<enter>", "em:06001259E3"},
		{"hex-line", 0, "06001259<shift>e</shift>3<enter>", "em:06001259E3"},
		{"hex-line", 0, "<rshift>deadbeef</rshift><enter>", "uid:DEADBEEF"},
		{"hex-line", 0, "04a1b2c3d4e580<enter>", "uid:04A1B2C3D4E580"},
		// Shift with a digit is another character, and a key with Ctrl none at all.
		{"hex-line", 0, "<shift>06001259e3</shift><enter>06001259e3<enter>", "fault format try, em:06001259E3"},
		{"dec-line", 0, "000<ctrl>1</ctrl>202659<enter>", "fault format try"},
		{"dec-line", 0, "000<alt>1</alt>202659<enter>", "fault format try"},
		{"dec-line", 0, "000120265x<enter>", "fault format try"},
		{"dec-line", 0, "0001<f1>02659<enter>", "fault format try"},
		{"dec-line", 0, "0001<code>02659<enter>", "fault format try"},
		{"hex-line", 0, "06001259g3<enter>", "fault format try"},
		{"dec-line", 0, "<hold:0>001202659<enter>", "dec:0001202659"},
		// What a person types.
		{"dec-line", 0, slowly, "fault length, fault length, fault length, fault length, fault length, fault length, fault length, fault length, fault length, fault length"},
		{"dec-line", 0, fast, "fault timeout try"},
		{"dec-line", 10, "4711<150ms>4711<enter>", "fault timeout, dec:0000004711"}, // any piece would be a card
		{"dec-line", 0, "0001202659<enter><200ms>00012026<200ms>59<enter>", "dec:0001202659, fault timeout try, fault length"},
		{"dec-line", 0, "0001202659<enter>00012026<quiet>59<enter>", "dec:0001202659, fault timeout try, fault length"},
		{"dec-line", 0, "00012<dropped>02659<enter>0001202659<enter>", "fault lost, dec:0001202659"},
		{"dec-line", 0, "0001202659<dropped><enter>0001202659<enter>", "fault lost try, dec:0001202659"},
		{"dec-line", 0, "<dropped><quiet>0001202659<enter>", "fault lost, dec:0001202659"},
		{"dec-line", 0, strings.Repeat("1", 500) + "<enter>0001202659<enter>", "fault length, dec:0001202659"},
		{"dec-line", 0, "<enter><enter><tab><quiet>", ""},
	} {
		d := &decoder{form: tc.form, width: tc.width}
		if got := tape(d, tc.strokes); got != tc.want {
			t.Errorf("%s %d %q:\n got %s\nwant %s", tc.form, tc.width, tc.strokes, got, tc.want)
		}
		if d.pending() && !strings.HasSuffix(tc.strokes, "<quiet>") && !strings.HasSuffix(tc.strokes, "<enter>") {
			t.Errorf("%q: something is left", tc.strokes)
		}
	}
}

func TestALineWhoseBeginningNobodySawIsNoCard(t *testing.T) {
	d := &decoder{form: "dec-line"}
	d.reset(time.Unix(1, 0))
	if got := tape(d, "01202659<enter>0001202659<enter>"); got != "dec:0001202659" {
		t.Errorf("got %s", got)
	}
}

func TestRecordsOf16And24Bytes(t *testing.T) {
	want := record{at: 1234*time.Second + 5678*time.Microsecond, typ: 1, code: 28, value: -1}
	long := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 1234), 5678)
	short := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 1234), 5678)
	tail := []byte{1, 0, 28, 0, 0xff, 0xff, 0xff, 0xff}
	for word, b := range map[int][]byte{8: append(long, tail...), 4: append(short, tail...)} {
		if got := parse(b, word); got != want || len(b) != recordSize(word) {
			t.Errorf("words of %d bytes: %+v, %d bytes", word, got, recordSize(word))
		}
	}
}

func TestNoiseNeverBecomesACard(t *testing.T) {
	for _, form := range device.LineForms {
		d := &decoder{form: form}
		noise := make([]byte, 1<<20)
		rand.NewChaCha8([32]byte{1}).Read(noise)
		at := time.Unix(1, 0)
		cards := 0
		allocs := testing.AllocsPerRun(1, func() {
			for b := noise; len(b) >= 8; b = b[8:] {
				r := record{typ: evKey, code: binary.LittleEndian.Uint16(b) % 768, value: int32(b[2] % 3)}
				at = at.Add(time.Millisecond)
				if f, ok := d.key(r.code, r.value, at); ok && f.Medium != "" {
					cards++
				}
			}
		})
		if cards > 0 || allocs > 0 {
			t.Errorf("%s: %d cards, %v allocations", form, cards, allocs)
		}
	}
}

// What a keyboard that is none types: every byte as a key, a megabyte of it.
func TestAKeyboardThatTypesShellAndSQLIsNoReader(t *testing.T) {
	d := &decoder{form: "hex-line"}
	for _, junk := range []string{"'; drop table punches; --", "$(reboot)", "\x1b[2j", strings.Repeat("\x00", 1<<20), strings.Repeat("\xff", 1<<20)} {
		if got := tape(d, strings.ReplaceAll(junk, "<", "")+"<enter>"); strings.Contains(got, ":") {
			t.Errorf("%.20q: %s", junk, got)
		}
	}
}

func FuzzKeys(f *testing.F) {
	stroke := func(codes ...uint16) (b []byte) {
		for _, c := range codes {
			b = append(b, 1, 0, byte(c), byte(c>>8), 1, 8)
		}
		return b
	}
	f.Add(true, stroke(11, 11, 11, 2, 3, 11, 3, 7, 6, 10, 28))
	f.Add(false, stroke(82, 82, 82, 79, 80, 82, 80, 77, 76, 73, 96))
	f.Add(true, stroke(42, 32, 18, 30, 32, 48, 18, 18, 33, 15))
	f.Add(true, append(stroke(11, 11), append([]byte{0, 0, 3, 0, 0, 0}, stroke(11, 28)...)...))
	f.Fuzz(func(t *testing.T, hex bool, b []byte) {
		d := &decoder{form: device.LineForms[1]}
		if hex {
			d.form = device.LineForms[0]
		}
		at := time.Unix(1, 0)
		var typed []byte
		judge := func(fr frame, ok bool) {
			if !ok {
				return
			}
			if fr.last.Before(fr.first) || fr.last.After(at) {
				t.Fatalf("from %v to %v at %v", fr.first, fr.last, at)
			}
			if (fr.fault == "") == (fr.Medium == "") {
				t.Fatalf("%+v", fr)
			}
			i := 0 // every character of a card was pressed
			for _, c := range bytes.ToUpper(typed) {
				if i < len(fr.Value) && c == fr.Value[i] {
					i++
				}
			}
			if i < len(fr.Value) {
				t.Fatalf("card %s of %q", fr.Value, typed)
			}
		}
		for ; len(b) >= 6; b = b[6:] {
			r := record{typ: uint16(b[0]), code: binary.LittleEndian.Uint16(b[2:]), value: int32(b[4])}
			at = at.Add(time.Duration(b[5]) * time.Millisecond)
			switch {
			case r.typ == evSyn && r.code == synDropped:
				judge(d.lost(at))
			case r.typ == evKey:
				if int(r.code) < len(characters) && characters[r.code] != 0 {
					typed = append(typed, characters[r.code])
				}
				judge(d.key(r.code, r.value, at))
			}
			if b[1]&1 == 0 && at.Sub(d.last) >= lineGap {
				judge(d.silence())
				if d.pending() {
					t.Fatal("pending after silence")
				}
			}
		}
	})
}
