package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func logStoreCommand(t *tool) *cobra.Command {
	return &cobra.Command{
		Use: "store DIR", Short: "Store lines on the collecting machine, each once: rsyslog starts this", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s := &logStore{dir: args[0], clocks: map[string]*seenLines{}}
			if err := os.MkdirAll(s.dir, 0o750); err != nil {
				return err
			}
			var untaken *errUntaken
			if err := confirm(t.stdin, t.stdout, s.line); !errors.As(err, &untaken) {
				return err
			}
			return nil // the clock has no answer and says it again
		},
	}
}

// logStore has a file for each clock. A line is on the medium before its clock hears so:
// then the clock forgets it. A line is sent again when its answer was lost,
// and shortly after the first time: so those of before are remembered, as hashes.
// Every line holds its time to the microsecond, so two equal ones are one.
type logStore struct {
	dir    string
	clocks map[string]*seenLines
}

const (
	rememberLines = 10_000  // of each clock
	rememberBytes = 8 << 20 // of a file's end, read at the first line of its clock
)

// seenLines are the last lines of a clock.
type seenLines struct {
	set  map[[16]byte]bool
	ring [][16]byte // in order, the oldest at next once it is full
	next int
}

func (s *seenLines) add(h [16]byte) {
	s.set[h] = true
	if len(s.ring) < rememberLines {
		s.ring = append(s.ring, h)
		return
	}
	delete(s.set, s.ring[s.next])
	s.ring[s.next] = h
	s.next = (s.next + 1) % rememberLines
}

func lineHash(line string) [16]byte {
	sum := sha256.Sum256([]byte(line))
	return [16]byte(sum[:16])
}

// lineMark stands before the JSON of a line, see senderConf.
const lineMark = "@cee:"

// line stores the JSON of a line, and returns nil when it is in the file, or was.
func (s *logStore) line(line string) error {
	clock := "other"
	if _, text, marked := strings.Cut(line, lineMark); marked {
		var head struct {
			Device string `json:"PUNCHCLOCK_DEVICE"`
		}
		line = text
		if json.Unmarshal([]byte(line), &head) == nil && idForm.MatchString(head.Device) {
			clock = head.Device
		}
	}
	path := filepath.Join(s.dir, clock+".jsonl")
	seen := s.clocks[clock]
	if seen == nil {
		var err error
		if seen, err = linesOf(path); err != nil {
			return err
		}
		s.clocks[clock] = seen
	}
	h := lineHash(line)
	if seen.set[h] {
		return nil
	}
	// Opened for each line: whoever rotates the files need tell nobody.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	n, err := io.WriteString(f, line+"\n")
	if err == nil {
		err = f.Sync()
	}
	if err != nil && n > 0 { // half a line is none, and neither is one that may go away
		if at, serr := f.Seek(0, io.SeekEnd); serr == nil {
			err = errors.Join(err, f.Truncate(at-int64(n)))
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("store a line of %s: %w", clock, err)
	}
	seen.add(h)
	return nil
}

// linesOf remembers the end of a file, and takes away a last line that a power cut has
// left without its end.
func linesOf(path string) (*seenLines, error) {
	seen := &seenLines{set: map[[16]byte]bool{}}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return seen, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	from := max(0, size-rememberBytes)
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	whole := bytes.LastIndexByte(b, '\n') + 1
	if whole < len(b) {
		if err := f.Truncate(from + int64(whole)); err != nil {
			return nil, err
		}
	}
	first := true
	for line := range bytes.Lines(b[:whole]) {
		if first && from > 0 {
			first = false
			continue // begins somewhere
		}
		first = false
		seen.add(lineHash(string(bytes.TrimSuffix(line, []byte("\n")))))
	}
	return seen, nil
}
