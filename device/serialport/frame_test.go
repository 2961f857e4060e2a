package serialport

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// The frames of tag 06 001259E3 (XOR AE) and of the leaflets' examples, byte by
// byte as they are on the wire.
const (
	rdm    = "\x02\x30\x36\x30\x30\x31\x32\x35\x39\x45\x33\x41\x45\x03"
	id12   = "\x02\x30\x36\x30\x30\x31\x32\x35\x39\x45\x33\x41\x45\x0D\x0A\x03"
	idteck = "\x02\x30\x36\x30\x30\x31\x32\x35\x39\x45\x33\x03\x7E"
	prlx   = "\x0A\x30\x36\x30\x30\x31\x32\x35\x39\x45\x33\x0D"
	seeed  = "\x0262E3086CED08\x03"      // Seeed 113020002
	id12ex = "\x020C000621A58E\r\n\x03"  // ID-12LA, section 4
	tag    = "card em:06001259E3/40"     // what the first four are
	other  = "\x020102030405" + "01\x03" // another tag, XOR 01
	otherT = "card em:0102030405/40"     //
)

func newDecoder(t testing.TB, dialect string) *decoder {
	t.Helper()
	r, err := New(Config{Name: "front", Port: "/dev/null", Dialect: dialect})
	if err != nil {
		t.Fatal(err)
	}
	return &r.dec
}

// tape runs bytes through a decoder; a pause in the list is silence.
type pause struct{}

func tape(d *decoder, parts ...any) []string {
	var got []string
	at := time.Unix(1, 0)
	note := func(f frame, ok bool) {
		switch {
		case !ok:
		case f.medium != "":
			got = append(got, fmt.Sprintf("card %s:%s/%d", f.medium, f.value, f.bits))
		default:
			s := "fault " + f.fault
			if f.try {
				s += " try"
			}
			got = append(got, s)
		}
	}
	for _, p := range parts {
		switch p := p.(type) {
		case pause:
			note(d.silence())
		case string:
			for _, b := range []byte(p) {
				at = at.Add(time.Millisecond)
				note(d.push(b, at))
			}
		}
	}
	return got
}

func check(t *testing.T, d *decoder, want []string, parts ...any) {
	t.Helper()
	if got := tape(d, parts...); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %q\n got %v\nwant %v", d.name, parts, got, want)
	}
}

func TestEveryDialectReadsItsCards(t *testing.T) {
	for _, c := range []struct {
		dialect string
		bytes   string
		want    string
	}{
		{"rdm6300", rdm, tag},
		{"rdm6300", "\x0206001259e3ae\x03", tag},
		{"rdm6300", seeed, "card em:62E3086CED/40"},
		{"rdm6300", string(devicetest.RDM6300([5]byte{6, 0, 0x12, 0x59, 0xE3})), tag},
		{"id12la", id12, tag},
		{"id12la", id12ex, "card em:0C000621A5/40"},
		{"idteck", idteck, tag},
		{"parallax", prlx, tag},
		{"hex-line", "06001259E3\r\n", tag},
		{"hex-line", "06001259e3\r", tag},
		{"hex-line", "\x0206001259E3\x03", tag},
		{"hex-line", "\x0206001259E3\r\n\x03", tag},
		{"hex-line", "DEADBEEF\n", "card uid:DEADBEEF/32"},
		{"hex-line", "04a1b2c3d4e580\n", "card uid:04A1B2C3D4E580/56"},
		{"hex-line", "04A1B2C3D4E580112233\n", "card uid:04A1B2C3D4E580112233/80"},
		{"dec-line", "0001202659\r\n", "card dec:0001202659/80"},
		{"dec-line", "01202659\n", "card dec:01202659/64"},
		{"dec-line", "0025771006435\r", "card dec:0025771006435/104"},
		{"dec-line", "018,23011\r\n", "card dec:018,23011/72"},
		{"dec-line", "00018,23011\x03", "card dec:00018,23011/88"},
		{"dec-line", "\x020001202659\x03", "card dec:0001202659/80"},
	} {
		check(t, newDecoder(t, c.dialect), []string{c.want}, c.bytes)
		check(t, newDecoder(t, c.dialect), []string{c.want, c.want}, c.bytes+c.bytes) // glued
		d := newDecoder(t, c.dialect)
		check(t, d, []string{c.want}, "", pause{}, c.bytes, pause{}, pause{})
	}
}

func TestLinesWithoutATerminatorEndBySilence(t *testing.T) {
	check(t, newDecoder(t, "dec-line"), []string{"card dec:0001202659/80", "card dec:01202659/64"},
		"0001202659", pause{}, "01202659", pause{})
	check(t, newDecoder(t, "hex-line"), []string{tag}, "06001259E3", pause{})
	check(t, newDecoder(t, "hex-line"), []string{"fault length try"}, "06001259E", pause{})
}

func TestFourBareBytesAreACardOnlyBetweenTwoSilences(t *testing.T) {
	check(t, newDecoder(t, "raw4"), []string{"card uid:DEADBEEF/32", "card uid:02030D0A/32"},
		"\xDE\xAD\xBE\xEF", pause{}, "\x02\x03", "\x0D\x0A", pause{}, pause{})
	check(t, newDecoder(t, "raw4"), []string{"fault length", "fault length", "fault noise", "fault noise", "card uid:DEADBEEF/32"},
		"\xDE\xAD\xBE", pause{}, "\xDE\xAD\xBE\xEF\xDE\xAD\xBE\xEF", pause{}, "\x00\x00\x00\x00", pause{}, "\xFF\xFF\xFF\xFF", pause{}, "\xDE\xAD\xBE\xEF", pause{})
	d := newDecoder(t, "raw4")
	d.reset(time.Unix(1, 0)) // half of it had come before
	check(t, d, []string{"card uid:01020304/32"}, "\xAD\xBE\xEF\x00", pause{}, "\x01\x02\x03\x04", pause{})
}

func TestAStalledLineNeverBecomesAShorterCard(t *testing.T) {
	check(t, newDecoder(t, "dec-line"), []string{"card dec:0001202659/80", "fault timeout try", "fault length"},
		"0001202659\r\n", pause{}, "00012026", pause{}, "59\r\n")
}

func TestFaultsAreTold(t *testing.T) {
	for _, c := range []struct {
		dialect string
		parts   []any
		want    []string
	}{
		{"rdm6300", []any{"\x0206001259E3AF\x03"}, []string{"fault checksum try"}},
		{"rdm6300", []any{"\x0206001259E3AE0\x03", rdm}, []string{"fault length try", tag}},
		{"rdm6300", []any{"\x0206001259\x03", rdm}, []string{"fault length try", tag}},
		{"rdm6300", []any{"\x020600\x03", rdm}, []string{"fault length", tag}},
		{"rdm6300", []any{"\x020600x259E3AE\x03", rdm}, []string{"fault format", tag}},
		{"rdm6300", []any{"\x0206001259", rdm}, []string{"fault format try", tag}},
		{"rdm6300", []any{"\x0206001259", pause{}, rdm}, []string{"fault timeout try", tag}},
		{"rdm6300", []any{"\x02060", pause{}, "01259E3AE\x03"}, []string{"fault timeout", "fault noise"}},
		{"rdm6300", []any{"xyz", rdm, "xyz"}, []string{"fault noise", tag, "fault noise"}},
		{"rdm6300", []any{"\x02\x02\x02" + rdm}, []string{"fault format", "fault format", "fault format", tag}},
		{"id12la", []any{rdm, pause{}, id12}, []string{"fault format try", tag}},
		{"idteck", []any{idteck[:12] + "\x7F"}, []string{"fault checksum try"}},
		{"idteck", []any{"\x02001259E3\x03\x02", idteck}, []string{"fault length try", "fault format", tag}},
		{"parallax", []any{"\n06001259E31\r", prlx}, []string{"fault length try", tag}},
		{"hex-line", []any{"06001259E3G\r\n06001259E3\r\n"}, []string{"fault format try", tag}},
		{"hex-line", []any{"\xff\x0006001259E3\r\n06001259E3\r\n"}, []string{"fault noise", tag}},
		{"hex-line", []any{"060\x0206001259E3\r\n06001259E3\r\n"}, []string{"fault format", tag}},
		{"dec-line", []any{"000120265\r\n"}, []string{"fault length try"}},
		{"dec-line", []any{"12\r\n"}, []string{"fault length"}},
		{"dec-line", []any{"018,23,011\r\n"}, []string{"fault format try"}},
		{"dec-line", []any{",01823011\r\n", "01823011,\r\n", ",\r\n"}, []string{"fault format try", "fault format try", "fault format"}},
		{"dec-line", []any{string(bytes.Repeat([]byte{'1'}, 500)) + "\r\n0001202659\r\n"}, []string{"fault length", "card dec:0001202659/80"}},
		{"dec-line", []any{"\r\n\r\n\n\x03\x02\r"}, nil},
	} {
		check(t, newDecoder(t, c.dialect), c.want, c.parts...)
	}
}

// The LRC of this card is 02 and of that one 03: both begin or end a frame elsewhere.
func TestAnLRCThatLooksLikeAStartIsCounted(t *testing.T) {
	for _, lrc := range []byte{stx, etx} {
		var frame string
		for i := range 1 << 16 {
			f := fmt.Appendf(nil, "\x02000000%04X\x03", i)
			var sum byte
			for _, b := range f {
				sum ^= b
			}
			if sum == lrc {
				frame = string(append(f, sum))
				break
			}
		}
		if frame == "" {
			t.Fatalf("no card has the LRC %02X", lrc)
		}
		want := "card em:" + frame[1:11] + "/40"
		check(t, newDecoder(t, "idteck"), []string{want, tag, want}, frame+idteck+frame)
	}
}

func TestNoSingleFlippedBitMakesAnotherCard(t *testing.T) {
	for dialect, whole := range map[string]string{"rdm6300": rdm, "id12la": id12, "idteck": idteck} {
		for bit := range 8 * len(whole) {
			b := []byte(whole)
			b[bit/8] ^= 1 << (bit % 8)
			for _, got := range tape(newDecoder(t, dialect), string(b), pause{}) {
				// Upper and lower case of a digit differ in one bit and mean the same.
				if got[:4] == "card" && (got != tag || !bytes.EqualFold(b, []byte(whole))) {
					t.Errorf("%s, bit %d flipped: %s", dialect, bit, got)
				}
			}
		}
	}
}

// A megabyte of each.
func TestNoiseNeverBecomesACard(t *testing.T) {
	random := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(random)
	for name, piece := range map[string]string{
		"random": string(random), "NUL": "\x00", "ones": "\xFF", "escapes": "\x1b[2J\x1b[31m\x1b]0;x\x07\r\n", "starts": "\x02", "ends": "\x03",
		"SQL": "'; DROP TABLE punches; --\r\n", "shell": "$(reboot)`reboot`;reboot\n", "forged": "\nlevel=ERROR msg=forged\n", "digits": "1",
	} {
		noise := bytes.Repeat([]byte(piece), 1<<20/len(piece))
		t.Run(name, func(t *testing.T) { eachDialectOn(t, noise) })
	}
}

func eachDialectOn(t *testing.T, noise []byte) {
	for _, dialect := range Dialects() {
		t.Run(dialect, func(t *testing.T) {
			d := newDecoder(t, dialect)
			at := time.Unix(1, 0)
			cards := 0
			allocs := testing.AllocsPerRun(1, func() {
				for _, b := range noise {
					if f, ok := d.push(b, at); ok && f.medium != "" {
						cards++
					}
				}
			})
			if cards > 0 || allocs > 3 { // the runtime may have some of its own
				t.Errorf("a megabyte of noise: %d cards, %v allocations", cards, allocs)
			}
			// The next card is read all the same.
			if dialect == "rdm6300" {
				tape(d, pause{})
				check(t, d, []string{tag}, rdm)
			}
		})
	}
}

// One frame in two reads is what USB adapters deliver.
func TestFirstAndLastByteHaveTheirOwnTimes(t *testing.T) {
	d := newDecoder(t, "rdm6300")
	t1, t2 := time.Unix(1, 0), time.Unix(1, 16e6)
	d.push(stx, time.Unix(0, 0))
	d.silence()
	for i, b := range []byte(rdm) {
		at := t1
		if i >= 5 {
			at = t2
		}
		if f, ok := d.push(b, at); ok && (!f.first.Equal(t1) || !f.last.Equal(t2)) {
			t.Errorf("from %v to %v, want %v to %v", f.first, f.last, t1, t2)
		} else if ok != (i == len(rdm)-1) {
			t.Errorf("byte %d: told %v", i, ok)
		}
	}
}

func TestAFrameThatBeginsAnewHasTheTimeOfItsOwnStart(t *testing.T) {
	d := newDecoder(t, "rdm6300")
	at := time.Unix(1, 0)
	for i, b := range []byte(other[:10] + rdm) {
		at = at.Add(time.Millisecond)
		f, ok := d.push(b, at)
		switch {
		case i == 10: // the fault is about the ten bytes before
			if !ok || f.last.Sub(f.first) != 9*time.Millisecond {
				t.Errorf("told %v, from %v to %v", ok, f.first, f.last)
			}
		case ok && f.last.Sub(f.first) != time.Duration(len(rdm)-1)*time.Millisecond:
			t.Errorf("card from %v to %v", f.first, f.last)
		}
	}
}

// fuzz: whatever comes, a card obeys the rules of badges, the buffers hold, and
// no fault word is made up.
func fuzz(f *testing.F, dialect string, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s), uint16(0))
		f.Add([]byte(s), uint16(5))
	}
	f.Fuzz(func(t *testing.T, data []byte, every uint16) {
		d := newDecoder(t, dialect)
		var glued []byte // the bytes since the last card, fault or silence
		judge := func(fr frame, ok bool) {
			if !ok {
				return
			}
			if fr.last.Before(fr.first) {
				t.Fatalf("from %v to %v", fr.first, fr.last)
			}
			if fr.medium == "" {
				switch fr.fault {
				case device.FaultChecksum, device.FaultLength, device.FaultFormat, device.FaultTimeout, device.FaultNoise:
				default:
					t.Fatalf("fault %q", fr.fault)
				}
				return
			}
			if fr.bits != 8*len(fr.raw) || len(fr.raw) > 32 {
				t.Fatalf("%d bits in %d bytes", fr.bits, len(fr.raw))
			}
			// Every character of a card was on the wire.
			i := 0
			wire := bytes.ToUpper(glued)
			if dialect == "raw4" {
				wire = fmt.Appendf(nil, "%X", glued)
			}
			for _, b := range wire {
				if i < len(fr.value) && b == fr.value[i] {
					i++
				}
			}
			if i < len(fr.value) {
				t.Fatalf("card %s out of %q", fr.value, glued)
			}
			switch {
			case fr.medium == "em" && len(fr.value) == 10, fr.medium == "uid" && (len(fr.value) == 8 || len(fr.value) == 14 || len(fr.value) == 20):
				if s := fmt.Sprintf("%X", fr.raw); s != string(fr.value) {
					t.Fatalf("value %s, raw %s", fr.value, s)
				}
			case fr.medium == "dec" && bytes.Equal(fr.value, fr.raw) && len(fr.value) <= 14:
			default:
				t.Fatalf("card %s:%s", fr.medium, fr.value)
			}
			glued = glued[:0]
		}
		at := time.Unix(1, 0)
		for i, b := range data {
			if every > 0 && i%int(every) == 0 {
				judge(d.silence())
				if d.pending() {
					t.Fatal("pending after silence")
				}
				glued = glued[:0]
			}
			at = at.Add(time.Millisecond)
			glued = append(glued, b)
			judge(d.push(b, at))
		}
		judge(d.silence())
	})
}

func FuzzRDM6300(f *testing.F)  { fuzz(f, "rdm6300", rdm, seeed, rdm[:5]+rdm) }
func FuzzID12LA(f *testing.F)   { fuzz(f, "id12la", id12, id12ex, rdm) }
func FuzzIDTECK(f *testing.F)   { fuzz(f, "idteck", idteck, idteck[:12]+"\x02") }
func FuzzParallax(f *testing.F) { fuzz(f, "parallax", prlx, prlx+prlx) }
func FuzzRaw4(f *testing.F)     { fuzz(f, "raw4", "\xDE\xAD\xBE\xEF", "\xDE\xAD\xBE\xEF\x00") }
func FuzzHexLine(f *testing.F) {
	fuzz(f, "hex-line", "06001259E3\r\n", "\x02DEADBEEF\x03", "04A1B2C3D4E580")
}
func FuzzDecLine(f *testing.F) {
	fuzz(f, "dec-line", "0001202659\r\n", "018,23011", "\x020025771006435\x03")
}
