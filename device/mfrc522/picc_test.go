package mfrc522

import (
	"context"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"punchclock/device"
)

func TestChecksAreThoseOfTheReference(t *testing.T) {
	for frame, want := range map[string]string{
		"5000": "57CD", "9370DEADBEEF22": "B99C", "93708804A1B29F": "AE4B", "9570C3D4E58072": "3BB1", "04": "DA17", "00": "FE51", "08": "B6DD",
	} {
		b, err := hex.DecodeString(frame)
		if err != nil {
			t.Fatal(err)
		}
		if low, high := crcA(b); fmt.Sprintf("%02X%02X", low, high) != want {
			t.Errorf("%s: %02X%02X, want %s", frame, low, high, want)
		}
	}
}

// air of answers that are given.
type answers struct {
	data []byte
	sent [][]byte
}

// exchange takes the next answer: a byte of length and kind, then its bytes.
func (a *answers) exchange(_ context.Context, send []byte, _, align int, _ time.Duration) (reply, error) {
	a.sent = append(a.sent, append([]byte(nil), send...))
	if len(a.data) == 0 {
		return reply{}, nil
	}
	head := a.data[0]
	n := min(int(head&7), len(a.data)-1)
	r := reply{data: a.data[1 : 1+n : 1+n]}
	a.data = a.data[1+n:]
	switch head >> 6 {
	case 1:
		return reply{}, &faultError{device.FaultChecksum}
	case 2:
		r.bits = int(head >> 3 & 7)
	case 3:
		if len(a.data) > 0 {
			r.coll, a.data = int(a.data[0]&31)+1, a.data[1:]
		}
	}
	return r, nil
}

// Whatever comes back: no hang, and a UID only where every check has held.
func FuzzReadUID(f *testing.F) {
	seed := func(parts ...string) {
		var b []byte
		for _, p := range parts {
			h, err := hex.DecodeString(p)
			if err != nil {
				f.Fatal(err)
			}
			b = append(append(b, byte(len(h))), h...)
		}
		f.Add(b)
	}
	seed("DEADBEEF22", "08B6DD")
	seed("8804A1B29F", "04DA17", "C3D4E58072", "00FE51")
	seed("8804A1B29F", "04DA17", "88C3D4E57A", "04DA17", "801122AA19", "00FE51")
	seed("8804A1B29F", "00FE51")
	f.Add([]byte{0xC5, 0xDE, 0xAD, 0, 0, 0, 9, 0xC5, 0xBE, 0xEF, 0, 0, 0, 20})
	f.Fuzz(func(t *testing.T, data []byte) {
		a := &answers{data: data}
		uid, many, err := readUID(t.Context(), a)
		if len(a.sent) > 3*33 {
			t.Fatalf("%d exchanges", len(a.sent))
		}
		if err != nil {
			if _, ok := faultOf(err); !ok || uid != nil {
				t.Fatalf("%X, %v", uid, err)
			}
			return
		}
		if n := len(uid); n != 4 && n != 7 && n != 10 || n == 4 && uid[0] == cascadeTag {
			t.Fatalf("%X", uid)
		}
		// The card has said yes to each level's four bytes, as they were sent to it.
		var chosen []byte
		for _, s := range a.sent {
			if s[1] != wholeUID {
				continue
			}
			if s[2]^s[3]^s[4]^s[5] != s[6] {
				t.Fatalf("selected % X", s)
			}
			part := s[2:6]
			if len(chosen)+4 < len(uid) {
				part = part[1:]
			}
			chosen = append(chosen, part...)
		}
		if string(chosen) != string(uid) {
			t.Fatalf("%X, selected %X, many %v", uid, chosen, many)
		}
	})
}
