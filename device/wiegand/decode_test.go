package wiegand

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// of makes a frame of '0' and '1'.
func of(s string) *bits {
	v := &bits{}
	for _, c := range s {
		v.push(c == '1')
	}
	return v
}

func pick(t testing.TB, names ...string) []*format {
	t.Helper()
	fs, err := pickFormats(names)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func (c card) String() string { return c.medium + ":" + c.value }

// Vectors of data sheets and of cards that were read; the printed numbers are
// those on the cards.
func TestFramesOfDataSheetsAndOfRealCards(t *testing.T) {
	for _, tc := range []struct{ bits, format, badge string }{
		{"10111101110110010011011101", "26", "w26:123-45678"},
		{"10000000100000000000000010", "26", "w26:1-1"},
		{"00000000000000000000000001", "26", "w26:0-0"},
		{"01111111111111111111111111", "26", "w26:255-65535"},
		{fmt.Sprintf("%026b", 51615453), "26", "w26:137-52078"}, // printed 0009030510
		{fmt.Sprintf("%026b", 18975243), "26", "w26:144-50437"}, // printed 0009487621
		{fmt.Sprintf("%026b", 18472134), "26", "w26:140-61027"}, // printed 0009236067
		{fmt.Sprintf("%026b", 18656590), "26", "w26:142-22183"}, // printed 0009328295
		{"1000001001101001011011101110101010", "34", "w34:1234-56789"},
		{"1011000001111011110101010011011001", "34", "w34:24823-43628"}, // the card 0x60F7AA6C
		{"0000000111110100000111100010010000001", "h10304", "w37:1000-123456"},
		{"1000010010011001011000000010110100101", "h10302", "w37:1234567890"},
		{devicetest.Wiegand("%028b", 0x1234567), "30", "w30:19088743"},
		{devicetest.Wiegand("%028b", 1), "30", "w30:1"},
		{fmt.Sprintf("%08b%016b", 123, 45678), "24", "w24:123-45678"},
		{fmt.Sprintf("%016b%016b", 0x60F7, 0xAA6C), "32", "w32:24823-43628"},
		{devicetest.Wiegand("%035b", uint64(1<<35-1)), "h10302", "w37:34359738367"},
		{devicetest.Wiegand("%016b%019b", 65535, 524287), "h10304", "w37:65535-524287"},
	} {
		c, fault, why := decode(of(tc.bits), pick(t, tc.format))
		if c.String() != tc.badge || fault != "" {
			t.Errorf("%s as %s: %v %s %s, want %s", tc.bits, tc.format, c, fault, why, tc.badge)
		}
	}
}

func TestFramesThatAreNoCard(t *testing.T) {
	all := DefaultFormats()
	for _, tc := range []struct {
		bits, fault, why string
	}{
		{"11001111011110101010011011001", device.FaultLength, "29 bits"}, // a 34-bit card's first reading after start
		{"0011110101001", device.FaultLength, "13 bits"},
		{"1", device.FaultNoise, "noise"},
		{"0101011", device.FaultNoise, "noise"},
		{strings.Repeat("0", 26), device.FaultNoise, "on D1"},
		{strings.Repeat("1", 26), device.FaultNoise, "on D0"},
		{strings.Repeat("1", 34), device.FaultNoise, "on D0"},
		{strings.Repeat("0", 32), device.FaultNoise, "on D1"},
		{"10111101110110010011011100", device.FaultChecksum, `format "26"`},
		{"00111101110110010011011101", device.FaultChecksum, "parity"},
		{devicetest.Wiegand("%016b%019b", 1000, 123456), device.FaultLength, `add "h10304" to its formats; if all its cards are so, add "h10302"`},
		{fmt.Sprintf("%024b", 123456), device.FaultLength, `add "24"`},
		{strings.Repeat("01", 64), device.FaultLength, "128 bits"},
	} {
		c, fault, why := decode(of(tc.bits), pick(t, all...))
		if c != (card{}) || fault != tc.fault || !strings.Contains(why, tc.why) {
			t.Errorf("%s: %v %s %q, want %s and %q", tc.bits, c, fault, why, tc.fault, tc.why)
		}
	}
	for _, only := range []string{"24", "32"} { // which have no check to catch a broken wire
		for _, bit := range []string{"0", "1"} {
			if c, fault, _ := decode(of(strings.Repeat(bit, pick(t, only)[0].bits)), pick(t, only)); fault != device.FaultNoise {
				t.Errorf("%s bits of %s are %v %s", only, bit, c, fault)
			}
		}
	}
}

func TestFormatsThatOneReaderCannotHave(t *testing.T) {
	for _, names := range [][]string{{}, {"27"}, {"26", "26"}, {"h10302", "h10304"}, {"24", "26"}, {"34", "26", "32"}} {
		if err := CheckFormats(names); err == nil {
			t.Errorf("%q is accepted", names)
		}
	}
	for _, names := range [][]string{DefaultFormats(), {"24", "32"}, {"24", "34"}, {"26", "30", "34", "h10302"}} {
		if err := CheckFormats(names); err != nil {
			t.Errorf("%q: %v", names, err)
		}
	}
	lengths := map[int]string{}
	for _, f := range formats {
		for _, d := range []int{-1, 1} {
			if other := lengths[f.bits+d]; other != "" {
				t.Errorf("a lost bit makes a %s of a %s", f.name, other)
			}
		}
		lengths[f.bits] = f.name
	}
}

// anyFrame draws a valid frame of a format, and the badge it must become.
func anyFrame(t *rapid.T, f *format) (string, string) {
	switch f.name {
	case "26", "24":
		fac, num := rapid.IntRange(0, 255).Draw(t, "facility"), rapid.IntRange(0, 65535).Draw(t, "number")
		if f.name == "24" {
			return fmt.Sprintf("%08b%016b", fac, num), fmt.Sprintf("w24:%d-%d", fac, num)
		}
		return devicetest.Wiegand("%08b%016b", fac, num), fmt.Sprintf("w26:%d-%d", fac, num)
	case "34", "32":
		fac, num := rapid.IntRange(0, 65535).Draw(t, "facility"), rapid.IntRange(0, 65535).Draw(t, "number")
		if f.name == "32" {
			return fmt.Sprintf("%016b%016b", fac, num), fmt.Sprintf("w32:%d-%d", fac, num)
		}
		return devicetest.Wiegand("%016b%016b", fac, num), fmt.Sprintf("w34:%d-%d", fac, num)
	case "h10304":
		fac, num := rapid.IntRange(0, 65535).Draw(t, "facility"), rapid.IntRange(0, 524287).Draw(t, "number")
		return devicetest.Wiegand("%016b%019b", fac, num), fmt.Sprintf("w37:%d-%d", fac, num)
	case "h10302":
		num := rapid.Uint64Range(0, 1<<35-1).Draw(t, "number")
		return devicetest.Wiegand("%035b", num), fmt.Sprintf("w37:%d", num)
	}
	num := rapid.IntRange(0, 1<<28-1).Draw(t, "number")
	return devicetest.Wiegand("%028b", num), fmt.Sprintf("w30:%d", num)
}

func TestEveryFrameIsReadAndNoneWithABitFlippedOrLost(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				s, want := anyFrame(t, f)
				// The widest set of formats that one reader can have with this one.
				among := []*format{f}
				for _, other := range formats {
					if CheckFormats([]string{f.name, other.name}) == nil {
						if names := append(namesOf(among), other.name); CheckFormats(names) == nil {
							among = append(among, other)
						}
					}
				}
				alike := strings.Trim(s, "0") == "" || strings.Trim(s, "1") == ""
				if c, fault, _ := decode(of(s), among); c.String() != want && !alike || alike != (fault != "") {
					t.Fatalf("%s is %v %s, want %s", s, c, fault, want)
				}
				for i := range s {
					if c, fault, _ := decode(of(s[:i]+s[i+1:]), among); fault == "" {
						t.Fatalf("%s without bit %d is %v", s, i+1, c)
					}
					for _, more := range "01" {
						if c, fault, _ := decode(of(s[:i]+string(more)+s[i:]), among); fault == "" {
							t.Fatalf("%s with a %c before bit %d is %v", s, more, i+1, c)
						}
					}
					if f.even.from == 0 {
						continue // these have no check for it
					}
					flipped := s[:i] + string('0'+'1'-s[i]) + s[i+1:]
					if c, fault, _ := decode(of(flipped), among); fault == "" {
						t.Fatalf("%s with bit %d flipped is %v", s, i+1, c)
					}
				}
			})
		})
	}
}

func namesOf(fs []*format) (names []string) {
	for _, f := range fs {
		names = append(names, f.name)
	}
	return names
}

func TestKeysOfDataSheets(t *testing.T) {
	six := strings.Fields("000001 000010 000100 000111 101001 101010 101100 101111 110001 110010 110100 110111")
	eight := []byte{0xF0, 0xE1, 0xD2, 0xC3, 0xB4, 0xA5, 0x96, 0x87, 0x78, 0x69, 0x5A, 0x4B}
	for i, key := range []byte(keys) {
		for j, s := range []string{fmt.Sprintf("%04b", i), six[i], fmt.Sprintf("%08b", eight[i])} {
			if got := keypads[j].key(of(s)); got != key {
				t.Errorf("%s: %s is %q, want %q", keypads[j].name, s, got, key)
			}
		}
	}
	for n := range 16 {
		if s := fmt.Sprintf("%04b", n); n > 11 && keypads[0].key(of(s)) != 0 {
			t.Errorf("%s is a key", s)
		}
	}
	good := map[string]bool{}
	for _, s := range six {
		good[s] = true
	}
	for n := range 64 {
		if s := fmt.Sprintf("%06b", n); keypads[1].key(of(s)) != 0 && !good[s] {
			t.Errorf("%s is a key", s)
		}
	}
	for n := range 256 {
		if keypads[2].key(of(fmt.Sprintf("%08b", n))) != 0 && !strings.Contains(string(eight), string([]byte{byte(n)})) {
			t.Errorf("%08b is a key", n)
		}
	}
	if keypads[2].key(of("10001111")) != 0 { // as a maker's leaflet prints the 7
		t.Error("a misprint is a key")
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"10111101110110010011011101", "00000000000000000000000001", "11001111011110101010011011001",
		"1000001001101001011011101110101010", "0000000111110100000111100010010000001", "101111", "11110000", "0101", ""} {
		v := of(s)
		f.Add(v.b[:], v.n)
	}
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		v := &bits{}
		for i := range max(0, min(n, 8*len(b), mostBits)) {
			v.push(b[i/8]&(0x80>>(i%8)) != 0)
		}
		for _, names := range [][]string{{"26", "30", "34", "h10302"}, {"h10304", "24", "32"}} {
			among := pick(t, names...)
			c, fault, why := decode(v, among)
			if (c == card{}) != (fault != "") || (why != "") != (fault != "") {
				t.Fatalf("%v %q %q", c, fault, why)
			}
			if fault != "" {
				continue
			}
			// The bits come out of the badge again, and out of no other.
			var s string
			for i := range v.n {
				s += fmt.Sprint(v.at(i + 1))
			}
			if again := encode(t, c, names); again != s {
				t.Fatalf("%s is %v, which is %s", s, c, again)
			}
		}
		for _, k := range keypads {
			if v.n == k.bits {
				if key := k.key(v); key != 0 && !strings.Contains(keys, string(key)) {
					t.Fatalf("key %q", key)
				}
			}
		}
	})
}

// encode writes a badge's frame.
func encode(t *testing.T, c card, among []string) string {
	var fac, num uint64
	n, _ := fmt.Sscanf(c.value, "%d-%d", &fac, &num)
	if n == 1 {
		num = fac
	}
	switch {
	case c.medium == "w26" && n == 2:
		return devicetest.Wiegand("%08b%016b", fac, num)
	case c.medium == "w24" && n == 2:
		return fmt.Sprintf("%08b%016b", fac, num)
	case c.medium == "w34" && n == 2:
		return devicetest.Wiegand("%016b%016b", fac, num)
	case c.medium == "w32" && n == 2:
		return fmt.Sprintf("%016b%016b", fac, num)
	case c.medium == "w37" && n == 2:
		return devicetest.Wiegand("%016b%019b", fac, num)
	case c.medium == "w37":
		return devicetest.Wiegand("%035b", num)
	case c.medium == "w30" && n == 1:
		return devicetest.Wiegand("%028b", num)
	}
	t.Fatalf("%v of %q", c, among)
	return ""
}

func BenchmarkDecode(b *testing.B) {
	v, among := of(devicetest.Wiegand("%016b%016b", rand.IntN(65536), rand.IntN(65536))), pick(b, DefaultFormats()...)
	for b.Loop() {
		if _, fault, _ := decode(v, among); fault != "" {
			b.Fatal(fault)
		}
	}
}
