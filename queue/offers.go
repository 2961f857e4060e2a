package queue

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"punchclock/queue/punch"
)

// offersPage is what the file of offers is written in multiples of: a write inside a
// page that is there needs no new room, so it goes through on a full medium as well.
const offersPage = 4096

// offers is which punches a destination may hold without a verdict of ours: those
// whose call had left when the process before this one ended. It is no part of the
// promise. It tells people where to look for a double at a far side that cannot
// recognise one.
//
// It is a file of its own beside the outbox, overwritten in place and not synced, for
// a kill does not lose what a file was given, and a sync for each call would wear the
// card more than it tells anybody. Its form:
//
//	punchclock offers 1 <bytes of what follows> <CRC-32C of it in hex>
//	"104" 17 40-42
//	"feishu" 43
//
// and line feeds up to the end. What cannot be read means nothing is known.
type offers struct {
	mu     sync.Mutex
	file   *os.File
	before map[string]map[uint64]bool // by the processes before this one, not settled since
	now    map[string][]uint64
}

func offersPath(dir string) string { return filepath.Join(dir, "offers") }

// open reads what the process before left behind.
func (f *offers) open(dir string) error {
	f.before, f.now = map[string]map[uint64]bool{}, map[string][]uint64{}
	b, err := os.ReadFile(offersPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f.before, err = parseOffers(b)
	return err
}

func parseOffers(b []byte) (map[string]map[uint64]bool, error) {
	damaged := errors.New("not what was written")
	out := map[string]map[uint64]bool{}
	head, body, _ := bytes.Cut(b, []byte("\n"))
	var n int
	var sum uint32
	if _, err := fmt.Sscanf(string(head), "punchclock offers 1 %d %x", &n, &sum); err != nil || n < 0 || n > len(body) {
		return out, damaged
	}
	if body = body[:n]; crc32.Checksum(body, castagnoli) != sum {
		return out, damaged
	}
	for line := range strings.Lines(string(body)) {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return out, damaged
		}
		dest, _ := strconv.Unquote(quoted)
		out[dest] = map[uint64]bool{}
		for _, part := range strings.Fields(line[len(quoted):]) {
			from, to, many := strings.Cut(part, "-")
			first, err := strconv.ParseUint(from, 10, 64)
			last := first
			if err == nil && many {
				last, err = strconv.ParseUint(to, 10, 64)
			}
			if err != nil || last < first || last-first > 1<<16 {
				return out, damaged
			}
			for seq := first; seq <= last; seq++ {
				out[dest][seq] = true
			}
		}
	}
	return out, nil
}

func formatOffers(m map[string][]uint64) []byte {
	var body bytes.Buffer
	for _, dest := range slices.Sorted(maps.Keys(m)) {
		seqs := m[dest]
		fmt.Fprintf(&body, "%q", dest)
		for i := 0; i < len(seqs); {
			j := i
			for j+1 < len(seqs) && seqs[j+1] == seqs[j]+1 {
				j++
			}
			if fmt.Fprintf(&body, " %d", seqs[i]); j > i {
				fmt.Fprintf(&body, "-%d", seqs[j])
			}
			i = j + 1
		}
		body.WriteByte('\n')
	}
	return fmt.Appendf(nil, "punchclock offers 1 %d %08x\n%s", body.Len(), crc32.Checksum(body.Bytes(), castagnoli), body.Bytes())
}

// has reports whether an earlier process offered seq and no verdict came since.
func (f *offers) has(dest string, seq uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.before[dest][seq]
}

// settled forgets seq.
func (f *offers) settled(dest string, seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.before[dest], seq)
}

func (f *offers) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// Offer remembers which punches dest may hold without a verdict, in place of those it
// was told of before; see drain.Log. It costs one write into the file system's memory,
// and waits for the medium only where sync is true.
func (o *Outbox) Offer(dest string, ids []punch.ID, sync bool) error {
	seqs := make([]uint64, 0, len(ids))
	for _, id := range ids {
		_, seq, err := id.Seq()
		if err != nil || id != punch.NewID(o.opt.Device, seq) {
			return fmt.Errorf("outbox: offer to %s: punch %q is not one of ours", dest, id)
		}
		seqs = append(seqs, seq)
	}
	f := &o.offers
	f.mu.Lock()
	defer f.mu.Unlock()
	for seq := range f.before[dest] { // theirs stay until there is a verdict
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	f.now[dest] = slices.Compact(seqs)
	if err := f.write(o.opt.Dir, sync && !o.opt.UnsafeNoSync); err != nil {
		return fmt.Errorf("outbox: note what is offered to %s: %w", dest, err)
	}
	return nil
}

// Inherit says that another worker delivers to dest from now on, in the same process:
// what the one before had offered without a verdict may be at the far side, as after a
// restart.
func (o *Outbox) Inherit(dest string) {
	f := &o.offers
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before[dest] == nil {
		f.before[dest] = map[uint64]bool{}
	}
	for _, seq := range f.now[dest] {
		f.before[dest][seq] = true
	}
}

func (f *offers) write(dir string, sync bool) error {
	if f.file == nil {
		file, err := os.OpenFile(offersPath(dir), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		f.file = file
	}
	all := maps.Clone(f.now)
	for dest, seqs := range f.before { // of those that nothing was offered to since the start
		if _, ok := all[dest]; !ok && len(seqs) > 0 {
			all[dest] = slices.Sorted(maps.Keys(seqs))
		}
	}
	b := formatOffers(all)
	size := (len(b) + offersPage - 1) / offersPage * offersPage
	b = append(b, bytes.Repeat([]byte("\n"), size-len(b))...)
	if _, err := f.file.WriteAt(b, 0); err != nil {
		return err
	}
	if sync {
		return f.file.Sync()
	}
	return nil
}
