package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A segment is one bbolt file, named for the first sequence number it may hold.
// Its buckets:
//
//	meta       format, device, prev (hash before the first record), month, head (seq, hash)
//	hot        the newest few records, small enough that bbolt keeps the bucket inside its root page
//	log        the records before them
//	pos        per destination: how far everything is settled, and what is settled beyond
//	fresh      per destination: its newest receipts
//	r/<dest>   the receipts before them
//	p/<dest>   parked punches
//	links      sequence number of a punch by an unknown badge → employee number, once the roster knew,
//	           empty where that was undone; the same and a "t" → when, milliseconds since 1970
//	times      sequence number of a punch whose boot never learned the time → what a person decided (time.go)
//	boots      boot id → wall time at uptime zero, for boots that began without the time
//
// Only the newest segment is written to. When it is full (100,000 records) or a
// month has gone by, an empty file is prepared beside it while punches go on; then,
// with the writer's lock held for about as long as two commits take, it is given
// the positions and the parked punches, synced, and renamed; the old one stays as
// it is, the archive. A file that was prepared and not used is removed at the next start. Links, boots, times and receipts are read from all segments, so
// they are never carried.
var (
	bktMeta  = []byte("meta")
	bktHot   = []byte("hot")
	bktLog   = []byte("log")
	bktPos   = []byte("pos")
	bktLinks = []byte("links")
	bktBoots = []byte("boots")
	bktTimes = []byte("times") // made when the first is given

	keyOwnPage = []byte("own page") // an empty bucket, see ownPage

	keyFormat = []byte("format") // uvarint: segmentFormat
	keyDevice = []byte("device")
	keyPrev   = []byte("prev")
	keyMonth  = []byte("month")
	keyHead   = []byte("head")
)

func bktReceipts(dest string) []byte { return []byte("r/" + dest) }
func bktParked(dest string) []byte   { return []byte("p/" + dest) }

// PageSize of all our bbolt files, in bytes. The kernel's own would be 16384 on a
// Pi 5, and twelve more kilobytes written with each page.
const PageSize = 4096

// Format is the form in which the outbox is written. It grows when an older program
// could not work with what is written, and such a program refuses the outbox then.
const Format = 1

const (
	segmentFormat = Format
	segmentSuffix = ".db"
	// hotMax records are kept in the hot bucket, and moved to the log between punches.
	hotMax = 6
	// inlineMax is bbolt's limit for a bucket inside its parent's page: a quarter of a page.
	inlineMax = 1024
	// growBy is how many zeros are written ahead, so that a commit never waits for
	// the file system to find and journal new space: about 20,000 punches. When half
	// of them are left the others are written again. They come in steps of stepAhead,
	// each synced, because a tap may wait behind one: on a slow card 20 ms.
	growBy    = 4 << 20
	stepAhead = 128 << 10
	// growLeast is what a commit adds by itself when none were written.
	growLeast = 256 << 10
	// mapSize is mapped from the start, beyond the end of the file, so that a long
	// read never stands in the way of a commit that needs more pages. A full
	// segment is some 40 MB.
	mapSize = 64 << 20
)

type segment struct {
	path  string
	first uint64
	db    *bolt.DB
}

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%012d%s", first, segmentSuffix))
}

// listSegments returns the first sequence numbers of the segments in dir, ascending.
func listSegments(dir string) ([]uint64, error) {
	ents, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, e := range ents {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok || e.IsDir() {
			continue
		}
		if n, err := strconv.ParseUint(name, 10, 64); err == nil && len(name) >= 12 {
			out = append(out, n)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out, nil
}

func boltOptions(readOnly, noSync bool) *bolt.Options {
	return &bolt.Options{
		Timeout:         2 * time.Second, // without one, a second opener waits for ever
		ReadOnly:        readOnly,
		NoSync:          noSync,
		NoFreelistSync:  true,
		FreelistType:    bolt.FreelistArrayType,
		InitialMmapSize: mapSize,
		PageSize:        PageSize,
		NoStatistics:    true,
	}
}

// openSegment checks a segment's pages and opens it. Damage is an error of type
// *Damage, and bbolt has not touched the file then.
func openSegment(path string, readOnly, noSync bool) (_ *segment, err error) {
	first, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), segmentSuffix), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("outbox: %s: not the name of a segment", path)
	}
	if err := checkPatiently(path); err != nil {
		return nil, err
	}
	kept := keptFreelist(path)
	defer func() {
		if r := recover(); r != nil { // bbolt panics on some torn files; the check above is meant to find them first
			err = &Damage{path, fmt.Sprintf("cannot be opened: %v", r)}
		}
	}()
	db, err := bolt.Open(path, 0o600, boltOptions(readOnly, noSync))
	if err != nil {
		return nil, fmt.Errorf("outbox: open %s: %w", path, err)
	}
	db.AllocSize = growLeast
	if !readOnly && !noSync {
		// What a process that was killed has written and not synced is there to be read,
		// and gone after a power cut: nothing is made of it before it is on the medium.
		// And where it was a sync that failed, the next one does not write what that one
		// should have: the meta page is then what is in doubt, and a commit, even of
		// nothing, puts a new one in its place.
		if kept {
			err = db.Sync()
		} else {
			err = db.Update(func(*bolt.Tx) error { return nil })
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("outbox: open %s: %w", path, err), db.Close())
		}
	}
	return &segment{path: path, first: first, db: db}, nil
}

// keepFreelist stores the list of free pages, before a file is closed: the next
// start need not walk through all of the file a second time to find them, and knows
// that nobody was killed. While the file is in use none is kept, which spares each
// punch a page.
func (s *segment) keepFreelist() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %v", s.path, r)
		}
	}()
	s.db.NoFreelistSync = false
	return s.db.Update(func(*bolt.Tx) error { return nil })
}

// checkPatiently is CheckFile on a medium that may be shaky. A read that fails once
// says nothing about the file; a part that cannot be read again and again is lost,
// and the clock has to go on without it.
func checkPatiently(path string) error {
	err := CheckFile(path)
	for range 2 {
		if !errors.Is(err, syscall.EIO) {
			return err
		}
		time.Sleep(300 * time.Millisecond)
		err = CheckFile(path)
	}
	if errors.Is(err, syscall.EIO) {
		return &Damage{path, fmt.Sprintf("a part of it cannot be read: %v", err)}
	}
	return err
}

// carry is what a new segment starts with.
type carry struct {
	device string
	prev   [32]byte
	month  int // of time.Time.Month and year, year*12+month
	pos    map[string]position
	parked map[string]map[uint64][]byte // encoded
	// records to start with, by sequence number; only salvage has any
	records map[uint64][]byte
	end     uint64 // the last number that is this segment's, where that is known
	links   map[uint64]string
	linked  map[uint64]int64
	boots   map[[16]byte]int64
	times   map[uint64]decision
}

// createSegment makes a new segment under a temporary name and renames it once
// it is whole on the medium. Repeating it after a cut is safe.
func createSegment(dir string, first uint64, c carry, opt Options) error {
	tmp := segmentPath(dir, first) + ".new"
	if err := makeEmpty(tmp, opt, func() error { return nil }); err != nil {
		return fmt.Errorf("outbox: create %s: %w", tmp, err)
	}
	return fillSegment(dir, tmp, first, c, opt)
}

// makeEmpty makes a file for a segment, with zeros written ahead and no buckets in
// it, and syncs it. It is a leftover until it is filled and renamed. Between two
// steps it asks whether to go on.
func makeEmpty(tmp string, opt Options, goOn func() error) (err error) {
	if err := os.Remove(tmp); err != nil && !os.IsNotExist(err) {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	db, err := bolt.Open(tmp, 0o600, boltOptions(false, true))
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	for left := opt.ahead; left > 0; left -= stepAhead {
		if err := errorsOf(goOn(), writeAhead(tmp, min(left, stepAhead), opt.UnsafeNoSync)); err != nil {
			return err
		}
	}
	return nil
}

// fillSegment makes a segment of what makeEmpty has made: a few pages, and as many
// syncs as two commits have.
func fillSegment(dir, tmp string, first uint64, c carry, opt Options) error {
	path := segmentPath(dir, first)
	noSync := opt.UnsafeNoSync
	db, err := bolt.Open(tmp, 0o600, boltOptions(false, true))
	if err != nil {
		return fmt.Errorf("outbox: create %s: %w", tmp, err)
	}
	db.AllocSize = PageSize   // what bbolt adds is a hole, not written zeros
	db.NoFreelistSync = false // see keepFreelist
	err = db.Update(func(tx *bolt.Tx) error {
		for _, n := range [][]byte{bktMeta, bktHot, bktLog, bktPos, bktFresh} {
			if _, err := tx.CreateBucket(n); err != nil {
				return err
			}
		}
		for _, n := range [][]byte{bktLinks, bktBoots} {
			if _, err := ownPage(tx, n); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bktMeta)
		if err := errorsOf(
			putSealed(meta, keyFormat, binary.AppendUvarint(nil, segmentFormat)),
			putSealed(meta, keyDevice, []byte(c.device)),
			putSealed(meta, keyPrev, c.prev[:]),
			putSealed(meta, keyMonth, binary.AppendUvarint(nil, uint64(c.month))),
			putSealed(meta, keyHead, encodeHead(first-1, c.prev)),
		); err != nil {
			return err
		}
		for dest, p := range c.pos {
			if err := putSealed(tx.Bucket(bktPos), []byte(dest), p.encode()); err != nil {
				return err
			}
		}
		for dest, m := range c.parked {
			b, err := ownPage(tx, bktParked(dest))
			if err != nil {
				return err
			}
			for seq, v := range m {
				if err := putSealed(b, seqKey(seq), v); err != nil {
					return err
				}
			}
		}
		for seq, e := range c.links {
			if err := putSealed(tx.Bucket(bktLinks), seqKey(seq), []byte(e)); err != nil {
				return err
			}
		}
		for seq, ms := range c.linked {
			if err := putSealed(tx.Bucket(bktLinks), linkTimeKey(seq), binary.BigEndian.AppendUint64(nil, uint64(ms))); err != nil {
				return err
			}
		}
		if len(c.times) > 0 {
			b, err := ownPage(tx, bktTimes)
			if err != nil {
				return err
			}
			for seq, d := range c.times {
				if err := putSealed(b, seqKey(seq), d.encode()); err != nil {
					return err
				}
			}
		}
		for id, ms := range c.boots {
			if err := putSealed(tx.Bucket(bktBoots), id[:], binary.BigEndian.AppendUint64(nil, uint64(ms))); err != nil {
				return err
			}
		}
		if err := putRecords(tx, c.records); err != nil || c.end == 0 || c.records[c.end] != nil {
			return err
		}
		return putSealed(meta, keyHead, encodeHead(c.end, afterDamage(c.device, c.end+1)))
	})
	if err == nil && !noSync {
		err = db.Sync()
	}
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(dir, noSync)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("outbox: create %s: %w", path, err)
	}
	return nil
}

// putRecords stores salvaged records and moves the head behind the last.
func putRecords(tx *bolt.Tx, records map[uint64][]byte) error {
	seqs := make([]uint64, 0, len(records))
	for s := range records {
		seqs = append(seqs, s)
	}
	sort.Slice(seqs, func(i, j int) bool { return seqs[i] < seqs[j] })
	log := tx.Bucket(bktLog)
	log.FillPercent = 1
	for _, s := range seqs {
		if err := log.Put(seqKey(s), records[s]); err != nil {
			return err
		}
	}
	if n := len(seqs); n > 0 {
		last := seqs[n-1]
		return putSealed(tx.Bucket(bktMeta), keyHead, encodeHead(last, hashRecord(last, records[last])))
	}
	return nil
}

// ownPage returns a bucket, made if it is missing, that bbolt never puts inside its
// root page: one that holds another bucket, an empty one, stays out. Were all that
// is small kept there, the root page could become two pages and a branch, for good,
// and every punch pay for both.
func ownPage(tx *bolt.Tx, name []byte) (*bolt.Bucket, error) {
	b, err := tx.CreateBucketIfNotExists(name)
	if err != nil {
		return nil, err
	}
	if _, err := b.CreateBucketIfNotExists(keyOwnPage); err != nil {
		return nil, err
	}
	return b, nil
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// All that is stored beside records carries a checksum too, over its key and its
// value: a position with one bit flipped would pass over punches that nobody sent.
func putSealed(b *bolt.Bucket, k, v []byte) error {
	return b.Put(k, binary.BigEndian.AppendUint32(append(make([]byte, 0, len(v)+4), v...), checksum(k, v)))
}

// unseal returns the value without its checksum; ok is false where it is damaged
// or absent.
func unseal(k, v []byte) (_ []byte, ok bool) {
	if len(v) < 4 {
		return nil, false
	}
	body := v[:len(v)-4]
	return body, checksum(k, body) == binary.BigEndian.Uint32(v[len(v)-4:])
}

// getSealed is Get and unseal in one.
func getSealed(b *bolt.Bucket, k []byte) (_ []byte, ok bool) { return unseal(k, b.Get(k)) }

func encodeHead(seq uint64, hash [32]byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(hash)), seq), hash[:]...)
}

// writeAhead appends n written zeros to a file and makes them durable.
func writeAhead(path string, n int, noSync bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	zero := make([]byte, 256<<10)
	for n > 0 && err == nil {
		k := min(n, len(zero))
		_, err = f.Write(zero[:k])
		n -= k
	}
	if err == nil && !noSync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func syncDir(dir string, noSync bool) error {
	if noSync {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// get returns the stored bytes of a record, valid inside tx only.
func getRecord(tx *bolt.Tx, seq uint64) []byte {
	k := seqKey(seq)
	if v := tx.Bucket(bktHot).Get(k); v != nil {
		return v
	}
	return tx.Bucket(bktLog).Get(k)
}

// eachRecord calls fn for the records from seq on, ascending, until it returns
// false. The bytes are valid inside tx only.
func eachRecord(tx *bolt.Tx, from uint64, fn func(seq uint64, value []byte) bool) {
	k := seqKey(from)
	for _, name := range [][]byte{bktLog, bktHot} { // all of hot lies behind all of log
		c := tx.Bucket(name).Cursor()
		for key, v := c.Seek(k); key != nil; key, v = c.Next() {
			if len(key) != 8 {
				continue
			}
			if !fn(binary.BigEndian.Uint64(key), v) {
				return
			}
		}
	}
}

// lastSeq returns the newest record's number, or first-1 for an empty segment.
func (s *segment) lastSeq(tx *bolt.Tx) (seq uint64, value []byte) {
	for _, name := range [][]byte{bktHot, bktLog} {
		if k, v := tx.Bucket(name).Cursor().Last(); len(k) == 8 {
			return binary.BigEndian.Uint64(k), v
		}
	}
	return s.first - 1, nil
}

// moveHot empties the hot bucket into the log.
func moveHot(tx *bolt.Tx) error {
	log := tx.Bucket(bktLog)
	log.FillPercent = 1
	c := tx.Bucket(bktHot).Cursor()
	for k, v := c.First(); k != nil; k, v = c.First() {
		if err := log.Put(k, append([]byte(nil), v...)); err != nil {
			return err
		}
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

func removeLeftovers(dir string) error {
	return fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || (d.IsDir() && name != ".") {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if strings.HasSuffix(name, segmentSuffix+".new") || strings.HasSuffix(name, segmentSuffix+goneSuffix) {
			return os.Remove(filepath.Join(dir, name))
		}
		return nil
	})
}
