package pn532

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"punchclock/device"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCommandsAreFramedAsInTheManual(t *testing.T) {
	for _, c := range []struct{ command, frame string }{
		{"02", "00 00 FF 02 FE D4 02 2A 00"},
		{"14 01 14 01", "00 00 FF 05 FB D4 14 01 14 01 02 00"},
		{"14 01 00 00", "00 00 FF 05 FB D4 14 01 00 00 17 00"},
		{"32 05 FF 01 10", "00 00 FF 06 FA D4 32 05 FF 01 10 E5 00"},
		{"4A 01 00", "00 00 FF 04 FC D4 4A 01 00 E1 00"},
	} {
		if got := encode(unhex(t, c.command)...); !bytes.Equal(got, unhex(t, c.frame)) {
			t.Errorf("%s: % X, want %s", c.command, got, c.frame)
		}
	}
}

// tape runs bytes through a decoder and says what came of them.
func tape(d *decoder, b []byte) (got []string) {
	for _, c := range b {
		switch f := d.push(c); f.kind {
		case ack:
			got = append(got, "ack")
		case nack:
			got = append(got, "nack")
		case refused:
			got = append(got, "refused")
		case answer:
			got = append(got, fmt.Sprintf("%X", f.data))
		case bad:
			got = append(got, "bad "+f.fault)
		}
	}
	return got
}

const (
	four  = "00 00 FF 0C F4 D5 4B 01 01 00 04 08 04 DE AD BE EF 96 00"
	seven = "00 00 FF 0F F1 D5 4B 01 01 00 44 00 07 04 A1 B2 C3 D4 E5 80 40 00"
	none  = "00 00 FF 03 FD D5 4B 00 E0 00"
)

func TestFramesOfTheChipAreRead(t *testing.T) {
	long := append(unhex(t, "00 00 FF FF FF 01 09 F6 D5"), bytes.Repeat([]byte{0x01}, 264)...)
	long = append(long, 0x23, 0x00) // D5 + 264 + 23 = 512
	for _, c := range []struct {
		name, bytes string
		want        string
	}{
		{"ACK", "00 00 FF 00 FF 00", "ack"},
		{"NACK", "00 00 FF FF 00 00", "nack"},
		{"error", "00 00 FF 01 FF 7F 81 00", "refused"},
		{"ACK and answer in one", "00 00 FF 00 FF 00 " + four, "ack 4B0101000408" + "04DEADBEEF"},
		{"two answers", four + seven, "4B010100040804DEADBEEF 4B0101004400" + "0704A1B2C3D4E580"},
		{"no target", none, "4B00"},
		{"a long preamble", "00 00 00 00 00" + none, "4B00"},
		{"after noise", "FF 55 00 12 FF 7F 00" + none, "4B00"},
		{"a wrong sum", "00 00 FF 03 FD D5 4B 00 E1 00" + none, "bad checksum 4B00"},
		{"a wrong sum of the length", "00 00 FF 03 FC D5 4B 00 E0 00" + none, "bad checksum 4B00"},
		{"no length", "00 00 FF 00 00" + none, "bad length 4B00"},
		{"our own echo", "00 00 FF 02 FE D4 02 2A 00" + none, "bad format 4B00"},
		{"a sender and nothing else", "00 00 FF 01 FF D5 2B 00" + none, "bad format 4B00"},
		{"too long", "00 00 FF FF FF 01 0A F5" + none, "bad length 4B00"},
		{"a wrong sum of a long length", "00 00 FF FF FF 01 09 F5" + none, "bad checksum 4B00"},
	} {
		if got := strings.Join(tape(&decoder{}, unhex(t, c.bytes)), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := tape(&decoder{}, long); len(got) != 1 || len(got[0]) != 2*264 {
		t.Errorf("the longest frame: %.80v", got)
	}
}

func TestAMegabyteOfNoiseIsNoAnswer(t *testing.T) {
	size := 1 << 20
	if testing.Short() { // as other processors' code
		size /= 20
	}
	random := make([]byte, size)
	for r, i := rand.New(rand.NewPCG(1, 2)), 0; i < len(random); i++ {
		random[i] = byte(r.Uint32())
	}
	pieces := [][]byte{random}
	for _, p := range []string{"\x00", "\xff", "\x00\x00\xff", "\x00\x00\xff\xff\xff\x01\x09\xf6\xd5", "\x1b[2J\x1b]0;x\x07", "'; DROP TABLE punches; --\r\n", "$(reboot)\n", "\nlevel=ERROR msg=forged\n"} {
		pieces = append(pieces, bytes.Repeat([]byte(p), size/len(p)))
	}
	for _, noise := range pieces {
		var d decoder
		for _, got := range tape(&d, noise) {
			if !strings.HasPrefix(got, "bad") && got != "ack" && got != "nack" && got != "refused" {
				t.Errorf("%.20q… became %s", noise, got)
			}
		}
		d.reset() // as the reader does before each command
		if got := tape(&d, unhex(t, four)); len(got) != 1 || strings.HasPrefix(got[0], "bad") {
			t.Errorf("the answer after %.20q… became %q", noise, got)
		}
	}
}

func TestNoSingleFlippedBitMakesAnotherAnswer(t *testing.T) {
	for _, golden := range []string{four, seven} {
		whole := unhex(t, golden)
		for bit := range 8 * len(whole) {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			for _, got := range tape(&decoder{}, b) {
				// The first and the last byte are padding.
				if !strings.HasPrefix(got, "bad") && bit/8 != 0 && bit/8 != len(whole)-1 && got != "ack" && got != "nack" {
					t.Errorf("bit %d flipped: %s", bit, got)
				}
			}
		}
	}
}

func TestCardsAreReadFromTheChipsAnswer(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"four bytes", "01 01 00 04 08 04 DE AD BE EF", "DEADBEEF"},
		{"seven bytes", "01 01 00 44 00 07 04 A1 B2 C3 D4 E5 80", "04A1B2C3D4E580"},
		{"ten bytes", "01 01 00 44 00 0A 04 A1 B2 C3 D4 E5 80 11 22 AA", "04A1B2C3D4E5801122AA"},
		{"with an ATS", "01 01 03 44 20 07 04 A1 B2 C3 D4 E5 80 06 75 77 81 02 80", "04A1B2C3D4E580"},
		{"two", "02 01 00 04 08 04 DE AD BE EF 02 00 44 00 07 04 A1 B2 C3 D4 E5 80", "DEADBEEF 04A1B2C3D4E580"},
		{"two with an ATS", "02 01 03 44 20 04 DE AD BE EF 05 78 80 70 02 02 00 04 08 04 11 22 33 44", "DEADBEEF 11223344"},
		{"none", "00", ""},
		{"nothing", "", device.FaultLength},
		{"three", "03", device.FaultFormat},
		{"cut short", "01 01 00 04 08 04 DE AD BE", device.FaultLength},
		{"cut in its head", "01 01 00 04", device.FaultLength},
		{"five bytes", "01 01 00 04 08 05 DE AD BE EF 11", device.FaultLength},
		{"the wrong place", "01 02 00 04 08 04 DE AD BE EF", device.FaultFormat},
		{"the tag of a longer one", "01 01 00 04 04 04 88 04 A1 B2", device.FaultFormat},
		{"something behind it", "01 01 00 04 08 04 DE AD BE EF 00", device.FaultLength},
		{"an ATS of no length", "01 01 00 04 20 04 DE AD BE EF 00", device.FaultLength},
		{"an ATS cut short", "01 01 00 04 20 04 DE AD BE EF 06 75", device.FaultLength},
	} {
		uids, fault := targets(unhex(t, c.data))
		got := fault
		for i, u := range uids {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("%X", u)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	for _, s := range []string{four, seven, none, "00 00 FF 00 FF 00", "00 00 FF FF 00 00", "00 00 FF 01 FF 7F 81 00", "00 00 FF FF FF 01 09 F6 D5", "00 00 FF FF FF 00 03 FD D5 4B 00 E0 00"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d decoder
		for i, b := range data {
			fr := d.push(b)
			switch fr.kind {
			case nothing, ack, nack, refused:
			case bad:
				switch fr.fault {
				case device.FaultChecksum, device.FaultLength, device.FaultFormat:
				default:
					t.Fatalf("fault %q", fr.fault)
				}
			case answer:
				if len(fr.data) == 0 || len(fr.data) > mostData {
					t.Fatalf("%d bytes", len(fr.data))
				}
				// All of it was on the wire just now, with a sum that fits.
				sum := byte(toHost)
				for _, c := range fr.data {
					sum += c
				}
				if !bytes.HasSuffix(data[:i+1], append(append([]byte{toHost}, fr.data...), -sum)) {
					t.Fatalf("% X out of % X", fr.data, data[:i+1])
				}
			default:
				t.Fatalf("kind %d", fr.kind)
			}
		}
		d.reset()
		if got := tape(&d, unhex(t, none)); len(got) != 1 || got[0] != "4B00" {
			t.Fatalf("afterwards: %v", got)
		}
	})
}

func FuzzTargets(f *testing.F) {
	for _, s := range []string{"01 01 00 04 08 04 DE AD BE EF", "02 01 03 44 20 04 DE AD BE EF 05 78 80 70 02 02 00 04 08 04 11 22 33 44", "00"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		uids, fault := targets(data)
		if fault != "" && uids != nil || len(uids) > 2 {
			t.Fatalf("%v, %q", uids, fault)
		}
		for _, u := range uids {
			if n := len(u); n != 4 && n != 7 && n != 10 || !bytes.Contains(data, u) || n == 4 && u[0] == 0x88 {
				t.Fatalf("% X out of % X", u, data)
			}
		}
	})
}
