package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt trusts its file: opening one that was cut short ends the process with
// SIGBUS, a bad page can panic in a goroutine of its own, and an empty file is
// quietly taken for a new database. So every file is read here first, page by
// page, with bounds checked and without mapping it. The same reader salvages
// what a damaged file still holds.
//
// The layout (bbolt's format version 2, little-endian as on every machine we
// build for; our page size is always 4096, also where the kernel's is 16384, so
// that a card may move from one board to another): a page is id u64, flags u16, count u16, overflow u32, then elements
// of 16 bytes; a branch element is pos u32, ksize u32, pgid u64, a leaf element
// flags u32, pos u32, ksize u32, vsize u32, pos counting from the element itself.
// A bucket's value is root u64, sequence u64, and where root is 0 a page follows
// in place. A meta page holds magic u32, version u32, page size u32, flags u32,
// root bucket, freelist u64, high-water page u64, transaction u64 and the FNV-1a
// of all that. The freelist is a page, or all ones where none is kept; after the
// header it holds the free pages, ascending, u64 each, and where count is 65535
// their number before them.
const (
	pageHeader  = 16
	elemSize    = 16
	branchFlag  = 0x01
	leafFlag    = 0x02
	freeFlag    = 0x10
	bucketFlag  = 0x01
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	maxDepth    = 32
	noFreelist  = ^uint64(0)
)

// Damage says that a file is not what bbolt wrote. The file must not be opened.
type Damage struct {
	Path string
	What string
}

func (d *Damage) Error() string { return d.Path + ": " + d.What }

type pageFile struct {
	path     string
	f        io.ReaderAt
	size     int64
	pageSize int64
	root     uint64
	freelist uint64
	pages    uint64 // high-water page of the newest meta
	torn     bool   // the other meta page is not whole
	seen     []bool // by page
	window   []byte // of the file, from the page windowAt on
	windowAt uint64
	only     func(bucket []byte) bool // nil, or which buckets to walk into
}

// windowPages are read at once: a log's pages lie mostly one behind the other.
const windowPages = 64

func (p *pageFile) damage(format string, args ...any) error {
	return &Damage{p.path, fmt.Sprintf(format, args...)}
}

// openPages reads the meta pages. A file without a usable one is Damage.
func openPages(path string, f *os.File) (*pageFile, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p := &pageFile{path: path, f: f, size: st.Size()}
	if p.size == 0 {
		return nil, p.damage("the file is empty")
	}
	var newest uint64
	found := false
	for _, at := range []int64{0, PageSize} {
		b := make([]byte, 80)
		if _, err := f.ReadAt(b, at); errors.Is(err, io.EOF) {
			continue
		} else if err != nil { // not damage yet: the next read may go well
			return nil, fmt.Errorf("%s: meta page: %w", path, err)
		}
		m := b[pageHeader:]
		h := fnv.New64a()
		h.Write(m[:56])
		le := binary.LittleEndian
		if le.Uint32(m) != metaMagic || le.Uint32(m[4:]) != metaVersion || h.Sum64() != le.Uint64(m[56:]) {
			p.torn = true
			continue
		}
		if ps := le.Uint32(m[8:]); ps != PageSize {
			return nil, p.damage("page size %d: this program writes %d", ps, PageSize)
		}
		if tx := le.Uint64(m[48:]); !found || tx > newest {
			found, newest = true, tx
			p.root, p.freelist, p.pages = le.Uint64(m[16:]), le.Uint64(m[32:]), le.Uint64(m[40:])
		}
	}
	if !found {
		return nil, p.damage("neither meta page is whole")
	}
	p.pageSize = PageSize
	if p.pages > uint64(p.size)/PageSize {
		return nil, p.damage("%d bytes long, %d expected: the file was cut short", p.size, p.pages*PageSize)
	}
	p.seen = make([]bool, p.pages)
	return p, nil
}

// CheckFile reads every page of a bbolt file that an Open would reach, and returns
// *Damage for the first thing that is wrong. Nobody may be writing to the file.
// The roster's file is checked by it too.
func CheckFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := openPages(path, f)
	if err != nil {
		return err
	}
	if err := p.walk(p.root, nil, span{}, 0, nil); err != nil {
		return err
	}
	return p.checkFreelist()
}

// checkFreelist holds the list of free pages, where one is kept, against what the
// tree has led to: a page that is in use and were taken for free would be
// overwritten. All of the tree must have been walked.
func (p *pageFile) checkFreelist() error {
	if p.freelist == noFreelist {
		return nil
	}
	b, err := p.page(p.freelist)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint16(b[8:]) != freeFlag {
		return p.damage("page %d is not the list of free pages", p.freelist)
	}
	count, list := uint64(le.Uint16(b[10:])), b[pageHeader:]
	if count == 0xFFFF {
		count, list = le.Uint64(list), list[8:]
	}
	if count > uint64(len(list))/8 {
		return p.damage("page %d: %d free pages do not fit", p.freelist, count)
	}
	last := uint64(1)
	for i := range count {
		id := le.Uint64(list[i*8:])
		if id <= last || id >= p.pages || p.seen[id] {
			return p.damage("page %d says that page %d is free", p.freelist, id)
		}
		last = id
	}
	return nil
}

// glance visits what a segment holds beside its records, its receipts and its
// parked punches, and reads the pages of that alone.
func glance(path string, fn visitor) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := openPages(path, f)
	if err != nil {
		return err
	}
	p.window = make([]byte, 0, 4*PageSize)
	p.only = func(bucket []byte) bool {
		switch string(bucket) {
		case string(bktMeta), string(bktLinks), string(bktBoots), string(bktTimes):
			return true
		}
		return false
	}
	return p.walk(p.root, nil, span{}, 0, fn)
}

// tornMeta reports whether one of the two meta pages is damaged, so that bbolt
// falls back to the state before the last commit.
func tornMeta(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	p, err := openPages(path, f)
	return err == nil && p.torn
}

// keptFreelist reports whether the last commit of a file was that of an orderly stop.
func keptFreelist(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	p, err := openPages(path, f)
	return err == nil && !p.torn && p.freelist != noFreelist
}

// page returns page id with its overflow, checked against header and file.
// Where it leads to no other page, its bytes hold until the next call.
func (p *pageFile) page(id uint64) ([]byte, error) {
	if id < 2 || id >= p.pages {
		return nil, p.damage("page %d is outside the file", id)
	}
	if p.seen[id] {
		return nil, p.damage("page %d is used twice", id)
	}
	p.seen[id] = true
	b, err := p.raw(id)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if got := le.Uint64(b); got != id {
		return nil, p.damage("page %d says it is page %d", id, got)
	}
	over := uint64(le.Uint32(b[12:]))
	if over > 0 {
		if over >= p.pages || id+over >= p.pages {
			return nil, p.damage("page %d runs over the end", id)
		}
		b = make([]byte, int64(over+1)*p.pageSize)
		if _, err := p.f.ReadAt(b, int64(id)*p.pageSize); err != nil {
			return nil, fmt.Errorf("%s: page %d: %w", p.path, id, err)
		}
		for i := id + 1; i <= id+over; i++ {
			p.seen[i] = true
		}
	}
	if !plainLeaf(b) {
		b = bytes.Clone(b)
	}
	return b, nil
}

// raw returns the bytes of page id, which lies inside the file.
func (p *pageFile) raw(id uint64) ([]byte, error) {
	if at := id - p.windowAt; id >= p.windowAt && at < uint64(len(p.window))/PageSize {
		return p.window[at*PageSize:][:PageSize], nil
	}
	if p.window == nil {
		p.window = make([]byte, windowPages*PageSize)
	}
	n := min(uint64(cap(p.window)), (p.pages-id)*PageSize)
	p.windowAt, p.window = id, p.window[:n]
	if _, err := p.f.ReadAt(p.window, int64(id)*PageSize); err == nil {
		return p.window[:PageSize], nil
	}
	p.window = p.window[:PageSize] // one that cannot be read must not hide its neighbours
	if _, err := p.f.ReadAt(p.window, int64(id)*PageSize); err != nil {
		p.window = p.window[:0]
		return nil, fmt.Errorf("%s: page %d: %w", p.path, id, err)
	}
	return p.window, nil
}

// plainLeaf reports whether page b leads to no other page.
func plainLeaf(b []byte) bool {
	le := binary.LittleEndian
	if le.Uint16(b[8:]) != leafFlag {
		return false
	}
	for at := pageHeader; at < pageHeader+int(le.Uint16(b[10:]))*elemSize && at+4 <= len(b); at += elemSize {
		if le.Uint32(b[at:]) != 0 {
			return false
		}
	}
	return true
}

// visitor is called for each pair that is no bucket. Bucket is nil for the root.
// An error ends the walk.
type visitor func(bucket, k, v []byte) error

// span bounds the keys of a subtree: at least from, below to; nil is no bound.
// bbolt's own walk at Open hangs over a key that lies outside.
type span struct{ from, to []byte }

// walk visits a tree of pages.
func (p *pageFile) walk(id uint64, bucket []byte, keys span, depth int, fn visitor) error {
	if depth > maxDepth {
		return p.damage("pages nest deeper than %d", maxDepth)
	}
	b, err := p.page(id)
	if err != nil {
		return err
	}
	return p.elements(b, id, bucket, keys, depth, fn)
}

// elements visits one page, which may be one inside a bucket's value.
func (p *pageFile) elements(b []byte, id uint64, bucket []byte, keys span, depth int, fn visitor) error {
	if len(b) < pageHeader {
		return p.damage("page %d: a bucket kept inside is too short", id)
	}
	le := binary.LittleEndian
	flags, count := le.Uint16(b[8:]), int(le.Uint16(b[10:]))
	if flags != branchFlag && flags != leafFlag {
		return p.damage("page %d is neither branch nor leaf", id)
	}
	if pageHeader+count*elemSize > len(b) {
		return p.damage("page %d: %d elements do not fit", id, count)
	}
	if flags == branchFlag && count == 0 {
		return p.damage("page %d: a branch without elements", id)
	}
	var last []byte
	var child uint64 // of the branch element before: its span ends where the next begins
	for i := range count {
		at := pageHeader + i*elemSize
		e := b[at:]
		var pos, ks, vs uint64
		if flags == branchFlag {
			pos, ks = uint64(le.Uint32(e)), uint64(le.Uint32(e[4:]))
		} else {
			pos, ks, vs = uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
		}
		from := uint64(at) + pos
		if from < uint64(pageHeader+count*elemSize) && ks+vs > 0 || from+ks+vs > uint64(len(b)) {
			return p.damage("page %d: element %d lies outside", id, i)
		}
		k, v := b[from:from+ks], b[from+ks:from+ks+vs]
		if i > 0 && string(last) >= string(k) || i == 0 && keys.from != nil && string(keys.from) > string(k) || keys.to != nil && string(k) >= string(keys.to) {
			return p.damage("page %d: element %d is out of order", id, i)
		}
		if flags == branchFlag {
			if i > 0 {
				if err := p.walk(child, bucket, span{last, k}, depth+1, fn); err != nil {
					return err
				}
			}
			child = le.Uint64(e[8:])
			if i == count-1 {
				if err := p.walk(child, bucket, span{k, keys.to}, depth+1, fn); err != nil {
					return err
				}
			}
			last = k
			continue
		}
		last = k
		switch ef := le.Uint32(e); {
		case ef == bucketFlag:
			if len(v) < pageHeader {
				return p.damage("page %d: bucket %q is too short", id, k)
			}
			if bucket == nil && p.only != nil && !p.only(k) {
				continue
			}
			var err error
			if root := le.Uint64(v); root != 0 {
				err = p.walk(root, k, span{}, depth+1, fn)
			} else {
				err = p.elements(v[16:], id, k, span{}, depth+1, fn)
			}
			if err != nil {
				return err
			}
		case ef != 0:
			return p.damage("page %d: element %d has unknown flags %#x", id, i, ef)
		case fn != nil:
			if err := fn(bucket, k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// isDamage reports whether err says that a file is damaged, as against one that
// could not be read just now.
func isDamage(err error) bool {
	var d *Damage
	return errors.As(err, &d)
}
