package roster

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"punchclock/queue"
)

// What spreadsheets write that were not asked for UTF-8: Big5 with Microsoft's
// additions (code page 950) in Taiwan, GBK (936) on the mainland. Both are ASCII, or two
// bytes of which the first is above 0x7F.
//
// encodings.gz, unpacked, is two tables, Big5 first: for each first byte from 0x81 to
// 0xFE, and each second one from 0x40 to 0xFE, the character as u16, 0 for none,
// big-endian. They are golang.org/x/text's, which is not linked: with its tables for
// writing, it would make the program a third of a megabyte larger. A test makes them
// anew (go test ./queue/roster -update).
//
//go:embed encodings.gz
var encodingTables []byte

const (
	firstLow, firstHigh   = 0x81, 0xFE
	secondLow, secondHigh = 0x40, 0xFE
	tableBytes            = 2 * (firstHigh - firstLow + 1) * (secondHigh - secondLow + 1)
)

// encodings are the tables' places; -1 is none.
var encodings = map[string]int{"utf-8": -1, "big5": 0, "gbk": 1}

// Encodings lists the words that Decode takes.
func Encodings() []string { return slices.Sorted(maps.Keys(encodings)) }

// Decode brings the bytes of a file of that name to UTF-8. The error names the first
// line that is not of the encoding.
func Decode(name, from string, data []byte) ([]byte, error) {
	at, ok := encodings[from]
	if !ok {
		return nil, fmt.Errorf("encoding %q is not known: use %s", from, strings.Join(Encodings(), ", "))
	}
	if at < 0 {
		return data, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(encodingTables))
	if err != nil {
		return nil, fmt.Errorf("the tables inside this program: %w", err)
	}
	tables, err := io.ReadAll(z)
	if err != nil || len(tables) != 2*tableBytes {
		return nil, fmt.Errorf("the tables inside this program are damaged: %v", err)
	}
	table := tables[at*tableBytes:][:tableBytes]
	out := make([]byte, 0, len(data)*3/2)
	line := 1
	var rest queue.Pace
	for i := 0; i < len(data); i++ {
		c := data[i]
		if c < 0x80 {
			if c == '\n' {
				rest.Step(line)
				line++
			}
			out = append(out, c)
			continue
		}
		r := rune(0)
		if i+1 < len(data) && c >= firstLow && c <= firstHigh && data[i+1] >= secondLow && data[i+1] <= secondHigh {
			r = rune(binary.BigEndian.Uint16(table[2*(int(c-firstLow)*(secondHigh-secondLow+1)+int(data[i+1]-secondLow)):]))
		}
		if r == 0 {
			return nil, &CSVErrors{Errors: []CSVError{{name, line, 1, "the text is not " + from + "; look in which encoding the file was saved"}}}
		}
		out = utf8.AppendRune(out, r)
		i++
	}
	return out, nil
}
