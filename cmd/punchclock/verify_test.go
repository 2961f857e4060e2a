package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// exports are n punches as both forms of an export have them.
func exports(t testing.TB, n int) (lines, table []byte) {
	t.Helper()
	o, err := queue.Open(queue.Options{Dir: t.TempDir(), Device: "door", Destinations: []string{"104"}, UnsafeNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for i := range n {
		if _, err := o.Append(punch.Draft{Kind: punch.In, Badge: "em:0A1B2C3D4E", Employee: fmt.Sprintf("%06d", i), Reader: "front", Outcome: punch.Stored, Raw: []byte{1, 2}, Bits: 16,
			Stamp: punch.Stamp{Wall: time.UnixMilli(1795360629780 + int64(i)), Uptime: time.Duration(i) * time.Second, Clock: punch.Synced}}); err != nil {
			t.Fatal(err)
		}
	}
	var jsonl, sheet bytes.Buffer
	c := &csvTable{w: csv.NewWriter(&sheet)}
	enc := json.NewEncoder(&jsonl)
	if err := o.Read(context.Background(), 1, func(e queue.Entry) error {
		row := rowOf(e, "door", time.UTC)
		return errors.Join(enc.Encode(row), c.add(row))
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	return jsonl.Bytes(), sheet.Bytes()
}

// An export with a million lines that somebody has changed does not fill the memory of a
// small board.
func TestVerifyNamesTheFirstHundredOfManyAlteredPunches(t *testing.T) {
	lines, _ := exports(t, 250)
	c, err := verifyExport(strings.NewReader(strings.ReplaceAll(string(lines), `"reader":"front"`, `"reader":"back"`)), func(uint64) {})
	if err != nil || len(c.Problems) != queue.MaxProblems || c.Problems[0].ID != "door-000000000001" || c.Records != 250 {
		t.Errorf("%d problems of %d records, %v", len(c.Problems), c.Records, err)
	}
}

// Whatever is done to an export, verify ends, and what it finds in order says the same as
// the records that it holds.
func FuzzVerifyExport(f *testing.F) {
	lines, table := exports(f, 3)
	f.Add(lines)
	f.Add(table)
	f.Add(append([]byte("\uFEFF"), table...))
	f.Add(bytes.Replace(lines, []byte(`"kind":"in"`), []byte(`"kind":"out"`), 1))
	f.Add(bytes.Replace(table, []byte(",2,"), []byte(",9223372036854775808,"), 1))
	f.Add(lines[:len(lines)/2])
	f.Add([]byte(`{"record":"AA==","device":"door","seq":18446744073709551615}`))
	whole := map[string]bool{}
	for line := range strings.Lines(string(lines)) {
		var row exportRow
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			f.Fatal(err)
		}
		whole[row.Hash] = true
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := verifyExport(bytes.NewReader(b), func(uint64) {})
		if len(c.Problems) > queue.MaxProblems+1 {
			t.Errorf("%d problems", len(c.Problems))
		}
		if err == nil && c.Records == 0 && len(c.Problems) == 0 {
			t.Error("nothing was looked at, and all is well")
		}
		if err == nil && len(c.Problems) == 0 && c.Device == "door" && c.First == 1 && !whole[fmt.Sprintf("%x", c.Head)] {
			t.Errorf("another chain than the one that was written is in order: %q", b)
		}
	})
}
