package roster

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"flag"
	"os"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

var update = flag.Bool("update", false, "make encodings.gz anew")

// libraries are where the tables come from.
var libraries = map[string]encoding.Encoding{"big5": traditionalchinese.Big5, "gbk": simplifiedchinese.GBK}

// decoded is what the library makes of two bytes: one character of the basic plane, or
// nothing.
func decoded(e encoding.Encoding, first, second byte) rune {
	s, err := e.NewDecoder().Bytes([]byte{first, second})
	r, n := utf8.DecodeRune(s)
	if err != nil || n != len(s) || r == utf8.RuneError || r > 0xFFFF {
		return 0
	}
	return r
}

func TestTablesAreTheLibrarys(t *testing.T) {
	if *update {
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		for _, name := range []string{"big5", "gbk"} {
			for first := firstLow; first <= firstHigh; first++ {
				for second := secondLow; second <= secondHigh; second++ {
					binary.Write(z, binary.BigEndian, uint16(decoded(libraries[name], byte(first), byte(second))))
				}
			}
		}
		z.Close()
		if err := os.WriteFile("encodings.gz", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		encodingTables = b.Bytes()
	}
	for name, e := range libraries {
		known := 0
		for first := 0x80; first <= 0xFF; first++ {
			// A row at once: what is in the table, and nothing else, is taken.
			var row []byte
			var want []rune
			for second := range 0x100 {
				if r := decoded(e, byte(first), byte(second)); r != 0 {
					row = append(row, byte(first), byte(second))
					want = append(want, r)
				} else if second%17 == 0 { // some of those that are not
					if out, err := Decode("r", name, []byte{byte(first), byte(second)}); err == nil {
						t.Errorf("%s: %02X %02X became %q", name, first, second, out)
					}
				}
			}
			known += len(want)
			if out, err := Decode("r", name, row); err != nil || string(out) != string(want) {
				t.Errorf("%s, row %02X: %v", name, first, err)
			}
		}
		if known < 13000 {
			t.Errorf("%s: %d characters", name, known)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("employee_no\n\xA4\xFD"), true)
	f.Add([]byte("\x81"), false)
	f.Fuzz(func(t *testing.T, b []byte, big5 bool) {
		name := "gbk"
		if big5 {
			name = "big5"
		}
		if out, err := Decode("r", name, b); err == nil && !utf8.Valid(out) {
			t.Errorf("%q became %q", b, out)
		}
	})
}
