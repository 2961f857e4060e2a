package queue

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// The mirror is a second, plain copy of every punch, for the day when a database
// file is gone: text files that need no program of ours to be read. It is written
// behind the tap's back, within a second of the commit, with one append and one
// fdatasync for all punches of a burst, and whatever goes wrong with it is no
// tap's concern: it is said once and tried again.
//
// A file is named for a month, YYYY-MM.txt, of the punch's own wall time in UTC; a
// punch made while the clock was unset goes into the file in use. A file is synced
// before the next one is written to, so numbers ascend in each file, and the
// newest number of all files is how far the mirror has come. A line is
//
//	id  time  clock  kind  employee  badge  reader  outcome  record  checksum
//
// separated by tabs and ended by a newline: the punch's id; what the wall clock
// said, RFC 3339 with milliseconds, in UTC; the clock's state; words as in an
// export; the stored bytes (record.go) in base64; and in eight hexadecimal digits
// the CRC-32C of all that stands before the last tab. An empty field is "-"; one
// with blanks or unprintable characters is quoted like a Go string. Only the id,
// the record and the checksum are read back, from the first and the last two
// fields; the rest is for people.
//
// A line counts only if its newline is there, its checksum is right and the
// record in it is whole. What stands behind the last such line of a file is torn:
// it is cut off before the file is written to again, and the punches come anew.
type mirror struct {
	dir, device string
	noSync      bool

	last atomic.Uint64 // everything up to this number is in the mirror

	mu   sync.Mutex // one copier at a time; nobody takes it while holding a lock of the outbox
	name string     // file in use, "" if not known
	f    *os.File   // open for appending; nil after an error
	end  int64      // its length when it was last synced
	// redo is set after an error: what lies behind end may be in memory only,
	// although it looks well.
	redo bool

	emu sync.Mutex
	err error // of the last try
}

const (
	mirrorSuffix = ".txt"
	// mirrorGather is how long punches are gathered for one append.
	mirrorGather = 500 * time.Millisecond
	mirrorRetry  = 5 * time.Second
	// mirrorBurst is how many numbers one append holds at most, some 300 bytes each.
	mirrorBurst = 4096
	// mirrorMaxLine is longer than any line: a record has six texts of 255 bytes at
	// most, each may be quoted, and its base64 is a third longer than it.
	mirrorMaxLine = 16 << 10
	// healAtOnce is how long an Open may put back what is missing; Run does the rest.
	healAtOnce = 2 * time.Second
)

// appendMirrorLine appends the line of a record to b.
func appendMirrorLine(b []byte, p *punch.Punch, value []byte) []byte {
	from := len(b)
	b = append(b, p.ID...)
	for _, s := range []string{p.Stamp.Wall.UTC().Format("2006-01-02T15:04:05.000Z"), p.Stamp.Clock.String(), p.Kind.String(), p.Employee,
		string(p.Badge), p.Reader, p.Outcome.String()} {
		b = appendMirrorField(append(b, '\t'), s)
	}
	b = base64.StdEncoding.AppendEncode(append(b, '\t'), value)
	return fmt.Appendf(b, "\t%08x\n", crc32.Checksum(b[from:], castagnoli))
}

func appendMirrorField(b []byte, s string) []byte {
	switch {
	case s == "":
		return append(b, '-')
	case s == "-", s[0] == '"', !utf8.ValidString(s), strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }):
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

var errMirrorLine = errors.New("not a whole line of the mirror")

// parseMirrorLine reads a line without its newline back. The record is checked
// too; whose it is, is the caller's question.
func parseMirrorLine(line []byte) (device string, seq uint64, value []byte, err error) {
	end := bytes.LastIndexByte(line, '\t')
	if end < 0 || len(line)-end-1 != 8 {
		return "", 0, nil, errMirrorLine
	}
	sum, err := strconv.ParseUint(string(line[end+1:]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[:end], castagnoli) {
		return "", 0, nil, errMirrorLine
	}
	body := line[:end]
	id, _, _ := bytes.Cut(body, []byte{'\t'})
	dash := bytes.LastIndexByte(id, '-')
	at := bytes.LastIndexByte(body, '\t')
	if dash <= 0 || at < 0 || len(id)-dash-1 < 12 {
		return "", 0, nil, errMirrorLine
	}
	if seq, err = strconv.ParseUint(string(id[dash+1:]), 10, 64); err != nil || seq == 0 {
		return "", 0, nil, errMirrorLine
	}
	if value, err = base64.StdEncoding.AppendDecode(nil, body[at+1:]); err != nil {
		return "", 0, nil, errMirrorLine
	}
	device = string(id[:dash])
	if _, err := parseRecord(device, seq, value); err != nil {
		return "", 0, nil, err
	}
	return device, seq, value, nil
}

// mirrorFile is what a look at a file's two ends tells.
type mirrorFile struct {
	path        string
	first, last uint64 // numbers of the first and the last whole line of the device, 0 for none
	end         int64  // where the last whole line ends
	size        int64
}

// listMirror looks at all files of a mirror, by name. A folder that is not there
// holds none.
func listMirror(dir, device string) ([]mirrorFile, error) {
	ents, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var out []mirrorFile
	for _, e := range ents {
		if _, err := time.Parse("2006-01", strings.TrimSuffix(e.Name(), mirrorSuffix)); err != nil || !strings.HasSuffix(e.Name(), mirrorSuffix) {
			continue
		}
		m, err := lookAtMirror(filepath.Join(dir, e.Name()), device)
		if err != nil {
			return out, err
		}
		out = append(out, m)
	}
	return out, nil
}

func lookAtMirror(path, device string) (m mirrorFile, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	m.path = path
	if m.last, m.end, m.size, err = mirrorTail(f, device); err != nil || m.last == 0 {
		return m, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return m, err
	}
	errFound := errors.New("found")
	_, err = readMirror(f, device, func(seq uint64, _ []byte) error { m.first = seq; return errFound })
	if errors.Is(err, errFound) {
		err = nil
	}
	return m, err
}

// mirrorTail finds the last whole line of a file from its end: its number if it
// is the device's (else that of the device's last one), and where it ends.
func mirrorTail(f io.ReadSeeker, device string) (last uint64, end, size int64, err error) {
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return 0, 0, 0, err
	}
	buf := make([]byte, 0, 2*mirrorMaxLine)
	for to := size; to > 0; {
		from := max(0, to-mirrorMaxLine)
		buf = buf[:to-from]
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return 0, 0, 0, err
		}
		if _, err := io.ReadFull(f, buf); err != nil {
			return 0, 0, 0, err
		}
		b := buf
		for {
			nl := bytes.LastIndexByte(b, '\n')
			if nl < 0 {
				break
			}
			start := bytes.LastIndexByte(b[:nl], '\n') + 1
			if start == 0 && from > 0 {
				b = b[:nl+1] // this line begins before what was read
				break
			}
			if dev, seq, _, err := parseMirrorLine(b[start:nl]); err == nil {
				if end == 0 {
					end = from + int64(nl) + 1
				}
				if dev == device {
					return seq, end, size, nil
				}
			}
			b = b[:start]
		}
		if from == 0 {
			break
		}
		// Go on before what was dealt with, at least half a step back.
		to = min(from+int64(len(b)), to-mirrorMaxLine/2)
		if nl := bytes.LastIndexByte(b, '\n'); nl < 0 {
			to = min(to, from) // no line of ours is that long
		}
	}
	return 0, end, size, nil
}

// readMirror calls fn for each whole line of the device, in the order of the
// file, and counts the other lines. An error of fn ends it.
func readMirror(r io.Reader, device string, fn func(seq uint64, value []byte) error) (bad int, err error) {
	lines := bufio.NewReaderSize(r, mirrorMaxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = lines.ReadSlice('\n')
			}
			line = nil
		}
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return bad, nil
		case errors.Is(err, io.EOF): // torn
			return bad + 1, nil
		case err != nil:
			return bad, err
		}
		if line == nil {
			bad++
			continue
		}
		dev, seq, value, perr := parseMirrorLine(line[:len(line)-1])
		if perr != nil || dev != device {
			bad++
			continue
		}
		if err := fn(seq, value); err != nil {
			return bad, err
		}
	}
}

// collectMirror returns the records from..to that a mirror holds. It takes no
// lock: a line that is being written meanwhile does not count yet.
func collectMirror(dir, device string, from, to uint64) (map[uint64][]byte, error) {
	out := map[uint64][]byte{}
	files, err := listMirror(dir, device)
	for _, m := range files {
		if m.last == 0 || m.last < from || m.first > to {
			continue
		}
		f, ferr := os.Open(m.path)
		if ferr == nil {
			_, ferr = readMirror(f, device, func(seq uint64, v []byte) error {
				if seq >= from && seq <= to {
					out[seq] = v
				}
				return nil
			})
			f.Close()
		}
		err = errors.Join(err, ferr) // what the others hold is no worse for it
	}
	return out, err
}

// copied returns the records from..to of all copies, the mirror's first.
func (o *Outbox) copied(from, to uint64) (map[uint64][]byte, error) {
	recs, err := collectMirror(o.mir.dir, o.opt.Device, from, to)
	if o.extra != nil {
		err = errors.Join(err, o.extra.fill(recs, o.opt.Device, from, to))
	}
	return recs, err
}

// lastCopy is the newest number of all copies.
func (o *Outbox) lastCopy() uint64 {
	last := o.mir.last.Load()
	if o.extra != nil {
		last = max(last, o.extra.last)
	}
	return last
}

// lookUp finds out how far the mirror has come, after a start.
func (m *mirror) lookUp() error {
	files, err := listMirror(m.dir, m.device)
	for _, f := range files {
		if f.last > m.last.Load() {
			m.last.Store(f.last)
			m.name = filepath.Base(f.path)
		}
	}
	return err
}

// fileOf names the file of a stamp.
func (m *mirror) fileOf(name string, s punch.Stamp) string {
	if y := s.Wall.Year(); name != "" && (s.Clock == punch.Unset || y < 1 || y > 9999) {
		return name
	}
	return s.Wall.UTC().Format("2006-01") + mirrorSuffix
}

// write appends lines to a file and makes them durable.
func (m *mirror) write(name string, lines []byte) (err error) {
	if m.f == nil || m.name != name {
		if err := m.open(name); err != nil {
			return err
		}
	}
	if _, err = m.f.Write(lines); err == nil {
		err = m.sync()
	}
	if err != nil {
		m.redo = true
		return errors.Join(err, m.close())
	}
	m.end += int64(len(lines))
	return nil
}

func (m *mirror) sync() error {
	if m.noSync {
		return nil
	}
	return syscall.Fdatasync(int(m.f.Fd()))
}

func (m *mirror) close() error {
	if m.f == nil {
		return nil
	}
	err := m.f.Close()
	m.f = nil
	return err
}

// open opens a file for appending and cuts off what is torn at its end.
func (m *mirror) open(name string) error {
	if err := m.close(); err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(m.dir, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, end, size, err := mirrorTail(f, m.device)
	if m.redo && m.name == name {
		end = min(end, m.end) // never synced, however well it looks
	}
	if err == nil && end < size {
		err = f.Truncate(end)
	}
	if err == nil && !m.noSync {
		if size == 0 {
			err = syncDir(m.dir, false)
		} else {
			err = f.Sync() // what a killed clock has left was perhaps never synced
		}
	}
	if err != nil {
		f.Close()
		return err
	}
	m.f, m.name, m.end, m.redo = f, name, end, false
	return nil
}

// copyMirror brings the mirror up to the newest punch. It stops in between when
// ctx is done.
func (o *Outbox) copyMirror(ctx context.Context) error {
	m := o.mir
	m.mu.Lock()
	defer m.mu.Unlock()
	o.mu.RLock()
	head, first := o.head, o.firsts[0]
	o.mu.RUnlock()
	var buf []byte
	for from := max(m.last.Load()+1, first); from <= head; {
		to := min(head, from+mirrorBurst-1)
		name, at := m.name, uint64(0)
		flush := func() error {
			if len(buf) == 0 {
				return nil
			}
			if err := m.write(name, buf); err != nil {
				return err
			}
			m.last.Store(at)
			buf = buf[:0]
			return nil
		}
		err := o.each(from, to, func(seq uint64, v []byte) error {
			p, err := parseRecord(o.opt.Device, seq, v)
			if err != nil {
				return nil // damaged: the mirror may have it from before, and learns nothing from this
			}
			if file := m.fileOf(name, p.Stamp); file != name {
				if err := flush(); err != nil {
					return err
				}
				name = file
			}
			buf, at = appendMirrorLine(buf, &p, v), seq
			return nil
		})
		if err == nil {
			err = flush()
		}
		if err != nil {
			return err
		}
		m.last.Store(to)
		from = to + 1
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// heal puts back what was lost, block by block. It goes on beside the copying: a block
// takes seconds on a slow card, and what people tap meanwhile is to be copied within one.
func (o *Outbox) heal(ctx context.Context) {
	for o.hasHoles() && ctx.Err() == nil {
		o.healStep()
	}
}

// runMirror copies behind the taps until ctx is done.
func (o *Outbox) runMirror(ctx context.Context) {
	wait := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	var said bool
	for {
		err := o.copyMirror(ctx)
		o.mir.note(err)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !said:
			said = true
			o.log.Error("outbox: the second copy cannot be written; punches are stored all the same, it is tried again", "dir", o.mir.dir, "err", err)
		case err == nil && said:
			said = false
			o.log.Info("outbox: the second copy is written again")
		}
		if err != nil {
			wait(mirrorRetry)
			continue
		}
		select {
		case <-ctx.Done():
		case <-o.copies:
			wait(mirrorGather) // at the end, what was gathered is written at once
		}
	}
}

func (m *mirror) note(err error) {
	m.emu.Lock()
	m.err = err
	m.emu.Unlock()
}

// MirrorStats tells how the second copy fares.
type MirrorStats struct {
	On     bool
	Behind uint64 // punches that are not in it yet
	Err    error  // why not, nil if the last try went well
}

func (o *Outbox) mirrorStats(head uint64) (s MirrorStats) {
	if o.mir == nil {
		return s
	}
	o.mir.emu.Lock()
	defer o.mir.emu.Unlock()
	return MirrorStats{On: true, Behind: head - min(head, o.mir.last.Load()), Err: o.mir.err}
}

// A hole is a span of numbers that no segment covers although they were not let
// go: a file is missing. What the mirror holds of it is put back in blocks, each a
// segment of its own, while the clock already runs. Until a hole is dealt with,
// nothing in it is taken for settled.

// findHoles compares the segments' names with where the one before ended.
func (o *Outbox) findHoles(ends map[uint64]uint64) {
	if o.mir == nil {
		return
	}
	low := max(1, o.letGo)
	for i, first := range o.firsts {
		if first > low {
			o.holes = append(o.holes, run{low, first - 1})
		}
		if i+1 < len(o.firsts) {
			low = o.firsts[i+1] // not readable: its end is where the next begins
			if end, ok := ends[first]; ok {
				low = end + 1
			}
		}
	}
	files, err := listMirror(o.mir.dir, o.opt.Device)
	if err != nil || o.extra != nil {
		return // healStep will look, and meet it too
	}
	o.holes = slices.DeleteFunc(o.holes, func(h run) bool {
		return !slices.ContainsFunc(files, func(m mirrorFile) bool { return m.last >= h.first && m.last > 0 && m.first <= h.last })
	})
}

func (o *Outbox) hasHoles() bool { o.mu.RLock(); defer o.mu.RUnlock(); return len(o.holes) > 0 }

// hole returns the lowest hole that does not end before seq.
func (o *Outbox) hole(seq uint64) (low run, ok bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, hs := range [][]run{o.holes, o.lost} {
		for _, h := range hs {
			if h.last >= seq && (!ok || h.first < low.first) {
				low, ok = h, true
			}
		}
	}
	return low, ok
}

// endOf returns the last number that was given out in a segment.
func endOf(tx *bolt.Tx, first uint64) uint64 {
	end := first - 1
	for _, name := range [][]byte{bktLog, bktHot} {
		if k, _ := tx.Bucket(name).Cursor().Last(); len(k) == 8 {
			end = binary.BigEndian.Uint64(k)
		}
	}
	if h, ok := getSealed(tx.Bucket(bktMeta), keyHead); ok && len(h) == 40 {
		end = max(end, binary.BigEndian.Uint64(h))
	}
	return end
}

// before returns the last number that the segment which begins at first can hold.
func (o *Outbox) before(first uint64) uint64 {
	firsts, _ := listSegments(o.opt.Dir)
	for _, f := range firsts {
		if f > first {
			return f - 1
		}
	}
	return first
}

// putBack adds records to the newest segment.
func (o *Outbox) putBack(recs map[uint64][]byte) error {
	err := o.cur.db.Update(func(tx *bolt.Tx) error {
		if err := moveHot(tx); err != nil {
			return err
		}
		return putRecords(tx, recs)
	})
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// healStep puts one block back. What cannot be written now is left to a later start.
func (o *Outbox) healStep() {
	o.mu.RLock()
	if len(o.holes) == 0 {
		o.mu.RUnlock()
		return
	}
	h := o.holes[0]
	o.mu.RUnlock()
	to := min(h.last, h.first+uint64(o.opt.SegmentRecords)-1)
	recs, err := o.copied(h.first, to)
	if err == nil || len(recs) > 0 {
		if err != nil {
			o.say("a part of the second copy could not be read: %v", err)
		}
		err = o.restore(h.first, to, recs)
	}
	if err == nil {
		o.takenOver(recs)
		if n := len(recs); n > 0 {
			o.say("a file with punches %d to %d was missing; %d taken over from the second copy", h.first, to, n)
		}
	} else {
		o.say("punches %d to %d could not be put back from the second copy: %v", h.first, h.last, err)
		to = h.last
	}
	o.wmu.Lock() // the writer reads the list without the other lock
	o.mu.Lock()
	if err == nil && len(recs) > 0 {
		i, _ := slices.BinarySearch(o.firsts, h.first)
		o.firsts = slices.Insert(slices.Clone(o.firsts), i, h.first)
	}
	if err != nil {
		o.lost = append(o.lost, h) // still not settled by anybody's word
	}
	if o.holes[0].first = to + 1; o.holes[0].first > o.holes[0].last {
		o.holes = o.holes[1:]
	}
	o.mu.Unlock()
	o.wmu.Unlock()
	o.notify()
}

// restore makes a segment of records from..to that lies before the newest one.
func (o *Outbox) restore(from, to uint64, recs map[uint64][]byte) error {
	if len(recs) == 0 {
		return nil
	}
	opt := o.opt
	opt.ahead = 0 // it is never written to
	return createSegment(o.opt.Dir, from, carry{device: o.opt.Device, prev: startOf(o.opt.Device, from, recs), records: recs, end: to}, opt)
}

// startOf is the hash that a segment of these records begins with.
func startOf(device string, first uint64, recs map[uint64][]byte) [32]byte {
	if v, ok := recs[first]; ok {
		if p, err := parseRecord(device, first, v); err == nil {
			return p.PrevHash
		}
	}
	if first == 1 {
		return genesis(device)
	}
	return afterDamage(device, first)
}

// rebuild makes the newest segment of what the mirror holds, where there is no
// segment at all. Older blocks are holes then.
func (o *Outbox) rebuild() (ok bool, err error) {
	if o.mir == nil || o.lastCopy() == 0 {
		return false, nil
	}
	low, last := max(1, o.letGo), o.lastCopy()
	from := low
	if n := uint64(o.opt.SegmentRecords); last >= low+n {
		from = last - n + 1
	}
	recs, rerr := o.copied(from, last)
	if rerr != nil {
		o.say("a part of the second copy could not be read: %v", rerr)
	}
	if len(recs) == 0 {
		return false, nil
	}
	c := carry{device: o.opt.Device, prev: startOf(o.opt.Device, from, recs), records: recs, pos: map[string]position{}}
	for _, dest := range o.opt.Destinations {
		c.pos[dest] = position{seq: low - 1}
	}
	if err := createSegment(o.opt.Dir, from, c, o.opt); err != nil {
		return false, err
	}
	o.takenOver(recs)
	o.say("the outbox was missing; %d punches taken over from the second copy, and offered to every destination again", len(recs))
	return true, nil
}

// takeOver adds what the mirror holds behind the head: the newest file was
// removed, or a card has forgotten what it had promised to keep. The numbers go
// on above all that can have been given out.
func (o *Outbox) takeOver() error {
	last := o.lastCopy()
	was, n := o.head, 0
	for from := o.head + 1; from <= last; from += uint64(o.opt.SegmentRecords) {
		recs, err := o.copied(from, min(last, from+uint64(o.opt.SegmentRecords)-1))
		if err != nil {
			o.say("a part of the second copy could not be read: %v", err)
		}
		n += len(recs)
		o.takenOver(recs)
		if err := o.putBack(recs); err != nil {
			return err
		}
	}
	if err := o.load(); err != nil {
		return err
	}
	o.say("punches behind number %d were missing; %d taken over from the second copy", was, n)
	return o.above(last)
}

// above makes numbering go on above last and above the high-water mark.
func (o *Outbox) above(last uint64) error {
	next := max(o.mark, last+1)
	if o.mark == 0 { // lost as well: the mirror may have been a second behind
		next = last + 1 + markBlock
	}
	if next <= o.head+1 {
		return nil
	}
	return o.jump(o.cur, next)
}
