package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

func (o *Outbox) say(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	o.log.Warn("outbox: " + s)
	o.imu.Lock()
	defer o.imu.Unlock()
	if o.incident != "" {
		s = o.incident + "; " + s
	}
	o.incident = s
}

// mend sets a damaged segment aside and builds a new one of what is whole in it.
func (o *Outbox) mend(path string, why error, newest bool) error {
	first, _ := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), segmentSuffix), 10, 64)
	s, err := salvage(path, o.opt.Device)
	if err != nil {
		return fmt.Errorf("outbox: salvage %s: %w", path, err)
	}
	to, err := quarantine(path, time.Now())
	if err != nil {
		return fmt.Errorf("outbox: set %s aside: %w", path, err)
	}
	for seq := range s.records {
		if seq < first {
			delete(s.records, seq)
		}
	}
	taken, end := len(s.records), ^uint64(0)
	if !newest {
		end = o.before(first)
	}
	fromMirror := 0
	if o.mir != nil {
		copied, err := o.copied(first, end)
		if err != nil {
			o.log.Error("outbox: a part of the second copy could not be read", "dir", o.mir.dir, "err", err)
		}
		for seq, v := range copied {
			if old, ok := s.records[seq]; !ok || s.loose[seq] && !bytes.Equal(old, v) {
				s.records[seq] = v
				fromMirror++
				o.takenOver(map[uint64][]byte{seq: v})
			}
		}
	}
	c := carry{device: o.opt.Device, prev: s.startOf(o.opt.Device, first), pos: s.pos, parked: s.parked,
		records: s.records, links: s.links, linked: s.linked, boots: s.boots, times: s.times}
	if !newest {
		c.end = end
	}
	for _, dest := range o.opt.Destinations {
		if _, ok := c.pos[dest]; !ok {
			if newest {
				c.pos[dest] = o.earlier(dest)
			}
		}
	}
	if err := createSegment(o.opt.Dir, first, c, o.opt); err != nil {
		return err
	}
	also := ""
	if fromMirror > 0 {
		also = fmt.Sprintf(", %d more from the second copy", fromMirror)
	}
	o.say("%v; set aside as %s, %d punches taken over from it%s", why, filepath.Join("quarantine", filepath.Base(to)), taken, also)
	if !newest {
		return nil
	}
	var last uint64 = first - 1
	for seq := range s.records {
		last = max(last, seq)
	}
	next := max(last+1, o.mark)
	if next == last+1 { // nothing can have been lost behind it: the chain goes on
		return nil
	}
	seg, err := openSegment(path, false, o.opt.UnsafeNoSync)
	if err != nil {
		return err
	}
	err = o.jump(seg, next)
	if cerr := seg.db.Close(); err == nil {
		err = cerr
	}
	return err
}

// rollForward takes over the records that lie behind the head in pages of their
// own, as far as the chain leads to them: where a meta page is torn, bbolt shows
// the state before a commit that may have been acknowledged.
func (o *Outbox) rollForward(path string) error {
	s, err := salvage(path, o.opt.Device)
	if err != nil {
		return fmt.Errorf("outbox: %s: %w", path, err)
	}
	more := map[uint64][]byte{}
	for head, hash := o.head, o.headHash; ; {
		v, ok := s.records[head+1]
		if !ok {
			break
		}
		p, err := decodeRecord(o.opt.Device, head+1, v)
		if err != nil || p.PrevHash != hash {
			break
		}
		head, hash = head+1, p.Hash
		more[head] = v
	}
	o.say("%s: a meta page was torn; %d punches found behind the last whole state", filepath.Base(path), len(more))
	err = o.cur.db.Update(func(tx *bolt.Tx) error {
		if err := moveHot(tx); err != nil {
			return err
		}
		return putRecords(tx, more)
	})
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return o.load()
}

// jump moves the head of seg, the newest, so that the next record gets the number next.
func (o *Outbox) jump(seg *segment, next uint64) error {
	h := afterDamage(o.opt.Device, next)
	err := seg.db.Update(func(tx *bolt.Tx) error {
		return putSealed(tx.Bucket(bktMeta), keyHead, encodeHead(next-1, h))
	})
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	o.mu.Lock()
	o.head, o.headHash = next-1, h
	o.mu.Unlock()
	return nil
}

// earlier returns a position that a destination had for certain: the one that the
// segment before was left with. Better sent twice than not at all.
func (o *Outbox) earlier(dest string) (p position) {
	firsts, err := listSegments(o.opt.Dir)
	if err != nil || len(firsts) == 0 {
		return position{}
	}
	p.seq = firsts[0] - 1
	for i := len(firsts) - 1; i >= 0; i-- {
		if o.cur != nil && firsts[i] >= o.cur.first {
			continue
		}
		seg, err := openSegment(segmentPath(o.opt.Dir, firsts[i]), true, false)
		if err != nil {
			continue
		}
		found := false
		seg.db.View(func(tx *bolt.Tx) error {
			if b := tx.Bucket(bktPos); b != nil {
				if v, ok := getSealed(b, []byte(dest)); ok {
					if q, err := decodePosition(v); err == nil {
						p, found = q, true
					}
				}
			}
			return nil
		})
		seg.db.Close()
		if found {
			break
		}
	}
	return p
}

// Incident says in words what happened to the files since Open, "" if nothing.
func (o *Outbox) Incident() string {
	o.imu.Lock()
	defer o.imu.Unlock()
	return o.incident
}

// quarantine renames a damaged file to a dated name beside it, never deletes it,
// and returns the new name.
func quarantine(path string, now time.Time) (string, error) {
	dir := filepath.Join(filepath.Dir(path), "quarantine")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for i := 0; ; i++ {
		to := filepath.Join(dir, fmt.Sprintf("%s.%s.%d", filepath.Base(path), now.UTC().Format("20060102T150405Z"), i))
		if _, err := os.Lstat(to); err == nil {
			continue
		} else if !os.IsNotExist(err) {
			return "", err
		}
		if err := os.Rename(path, to); err != nil {
			return "", err
		}
		return to, errorsOf(syncDir(dir, false), syncDir(filepath.Dir(path), false))
	}
}

// salvaged is what a damaged segment still held.
type salvaged struct {
	records map[uint64][]byte
	loose   map[uint64]bool // of records: found in a page that the tree does not lead to
	pos     map[string]position
	parked  map[string]map[uint64][]byte
	links   map[uint64]string
	linked  map[uint64]int64
	times   map[uint64]decision
	boots   map[[16]byte]int64
	prev    [32]byte
	hasPrev bool
	device  string
}

// salvage reads whatever is whole in a damaged segment: first along the tree as
// far as it goes, then every page of the file that looks like a leaf. Records are
// taken only with their checksum right. Where two whole records claim one number
// (a page of a commit that failed is still lying about), the one that the chain
// leads to is taken.
func salvage(path, device string) (*salvaged, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &salvaged{records: map[uint64][]byte{}, loose: map[uint64]bool{}, pos: map[string]position{}, parked: map[string]map[uint64][]byte{},
		links: map[uint64]string{}, linked: map[uint64]int64{}, boots: map[[16]byte]int64{}, times: map[uint64]decision{}}
	others := map[uint64][][]byte{} // every whole version of a record
	tree := true                    // what the tree leads to was committed; a page by itself may be stale
	take := func(bucket, k, v []byte) error {
		name := string(bucket)
		raw := v
		v, sealed := unseal(k, v)
		switch {
		case len(k) == 8 && len(raw) > 60 && raw[0] == recordVersion && !strings.HasPrefix(name, "p/"):
			seq := binary.BigEndian.Uint64(k)
			if _, err := parseRecord(device, seq, raw); err == nil {
				cp := append([]byte(nil), raw...)
				if tree {
					s.records[seq] = cp
				}
				others[seq] = append(others[seq], cp)
			}
		case !tree, !sealed:
		case name == string(bktPos):
			if p, err := decodePosition(v); err == nil {
				s.pos[string(k)] = p
			}
		case strings.HasPrefix(name, "p/") && len(k) == 8:
			if _, err := decodeParked(v); err == nil {
				m := s.parked[name[2:]]
				if m == nil {
					m = map[uint64][]byte{}
					s.parked[name[2:]] = m
				}
				m[binary.BigEndian.Uint64(k)] = append([]byte(nil), v...)
			}
		case name == string(bktLinks) && len(k) == 8 && len(v) <= maxText:
			s.links[binary.BigEndian.Uint64(k)] = string(v)
		case name == string(bktLinks) && len(k) == 9 && len(v) == 8:
			s.linked[binary.BigEndian.Uint64(k)] = int64(binary.BigEndian.Uint64(v))
		case name == string(bktTimes) && len(k) == 8:
			if d, ok := decodeDecision(v); ok {
				s.times[binary.BigEndian.Uint64(k)] = d
			}
		case name == string(bktBoots) && len(k) == 16 && len(v) == 8:
			s.boots[[16]byte(k)] = int64(binary.BigEndian.Uint64(v))
		case name == string(bktMeta) && string(k) == string(keyPrev) && len(v) == 32:
			s.prev, s.hasPrev = [32]byte(v), true
		case name == string(bktMeta) && string(k) == string(keyDevice):
			s.device = string(v)
		}
		return nil
	}
	if p, err := openPages(path, f); err == nil {
		p.salvageTree(p.root, nil, 0, take)
	}
	tree = false
	salvageLeaves(path, f, take)
	for seq, vs := range others {
		if _, ok := s.records[seq]; ok {
			continue
		}
		s.records[seq], s.loose[seq] = vs[0], true
		if len(vs) == 1 {
			continue
		}
		for _, next := range others[seq+1] {
			np, err := parseRecord(device, seq+1, next)
			if err != nil {
				continue
			}
			for _, v := range vs {
				if hashRecord(seq, v) == np.PrevHash {
					s.records[seq] = v
				}
			}
		}
	}
	return s, nil
}

// salvageTree walks like walk, but goes on behind what is broken.
func (p *pageFile) salvageTree(id uint64, bucket []byte, depth int, fn visitor) {
	if depth > maxDepth {
		return
	}
	b, err := p.page(id)
	if err != nil {
		return
	}
	p.salvagePage(b, bucket, depth, fn)
}

func (p *pageFile) salvagePage(b, bucket []byte, depth int, fn visitor) {
	if len(b) < pageHeader {
		return
	}
	le := binary.LittleEndian
	flags, count := le.Uint16(b[8:]), int(le.Uint16(b[10:]))
	for i := 0; i < count && pageHeader+(i+1)*elemSize <= len(b); i++ {
		at := pageHeader + i*elemSize
		e := b[at:]
		switch flags {
		case branchFlag:
			p.salvageTree(le.Uint64(e[8:]), bucket, depth+1, fn)
		case leafFlag:
			from, ks, vs := uint64(at)+uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
			if from+ks+vs > uint64(len(b)) {
				continue
			}
			k, v := b[from:from+ks], b[from+ks:from+ks+vs]
			if le.Uint32(e) != bucketFlag {
				fn(bucket, k, v)
				continue
			}
			if len(v) < pageHeader {
				continue
			}
			if root := le.Uint64(v); root != 0 {
				p.salvageTree(root, k, depth+1, fn)
			} else {
				p.salvagePage(v[16:], k, depth+1, fn)
			}
		}
	}
}

// salvageLeaves looks at every page of the file on its own, whatever the tree says.
func salvageLeaves(path string, f *os.File, fn visitor) {
	p := &pageFile{path: path, f: f, pageSize: PageSize}
	b := make([]byte, PageSize)
	for at := int64(0); ; at += PageSize {
		if _, err := f.ReadAt(b, at); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			if at > fileSize(path) {
				return
			}
			continue // one that cannot be read must not hide its neighbours
		}
		if binary.LittleEndian.Uint16(b[8:]) != leafFlag {
			continue
		}
		p.pages = 0 // follow nothing out of this page
		p.salvagePage(b, nil, 0, fn)
	}
}

// startOf is how a salvaged segment's chain begins.
func (s *salvaged) startOf(device string, first uint64) [32]byte {
	switch {
	case s.hasPrev:
		return s.prev
	case first == 1:
		return genesis(device)
	}
	return afterDamage(device, first)
}
