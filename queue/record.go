package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"punchclock/queue/punch"
)

// The stored form of a punch, version 1. The key is the sequence number, eight
// bytes, big-endian; the value is
//
//	version      1 byte, 1
//	outcome      1 byte: outcome in the high half, clock state in the low half
//	kind         text
//	wall         8 bytes, big-endian, signed: milliseconds since 1970 UTC as the clock said
//	boot id      16 bytes
//	uptime       uvarint, milliseconds
//	error bound  uvarint, milliseconds
//	tap          8 bytes
//	badge        text
//	raw          1 byte number of bits, then bytes as text
//	employee     text
//	reader       text
//	prev hash    32 bytes: hash of the record before
//	extensions   any number of: tag (1 byte, not 0), text
//	end          1 byte, 0
//	checksum     4 bytes, big-endian: CRC-32C of the key and all bytes before
//
// where text is one byte of length and that many bytes. A reader that meets an
// extension it does not know keeps the record and passes the extension over, so
// that a clock which was set back to an older version reads what a newer one
// wrote. The hash of a record is SHA-256 over key and value, checksum included.
//
// What is no punch of anybody's is stored with the outcome "duplicate" and an
// extension that says what it is: an older program keeps it as evidence and never
// sends it, which is what a newer one does too.
//
//	tag 2, blocked   empty: the card was blocked
//	tag 3, audit     act, from and by as texts, then a uvarint: see punch.Audit; then,
//	                 of an import only, a text, which an older program passes over
//
// What the chain holds of people and cards, from its first record on: every change of who
// has a card that takes it from somebody, and by hand every one, and of which cards are
// refused. A change made by one hand is a record of its own. An import is none where it
// only adds, and else one, however much it changes: counts, and in raw
// the SHA-256 of the file as it came, so that who keeps the file can show that it was this
// one; behind it up to a hundred records for single numbers and cards, those that took
// something from somebody first. The roster keeps what is to be noted in its own
// transaction until it stands here: a power cut between the two loses no record, and makes
// none twice. What files bring before the first record is how a clock is set up, and is
// not noted.
//
// A common record is about 125 bytes with its key. Six of up to 152 bytes fit
// into the bucket that bbolt keeps inside its root page.
const (
	recordVersion = 1
	extSupersedes = 1 // uvarint: sequence number of the punch that this one corrects
	extBlocked    = 2
	extAudit      = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged marks a record whose bytes are not what was written.
var errDamaged = errors.New("record is damaged")

// Limits of what a draft may hold; longer values cannot come from our own readers
// and roster, and are refused rather than cut.
const (
	maxText = 64
	maxRaw  = 64
)

// keyBytes is the length of a record's key.
const keyBytes = 8

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// encodeRecord returns the stored form of d as punch number seq.
func encodeRecord(seq uint64, prev [32]byte, d *punch.Draft) ([]byte, error) {
	b, err := keyAndRecord(seq, prev, d)
	return b[min(keyBytes, len(b)):], err
}

// keyAndRecord is encodeRecord with the key in front, as checksum and hash want it.
func keyAndRecord(seq uint64, prev [32]byte, d *punch.Draft) ([]byte, error) {
	outcome, kind := d.Outcome, d.Kind
	switch outcome {
	case punch.BlockedBadge:
		outcome = punch.Duplicate
	case punch.AuditEntry:
		outcome, kind = punch.Duplicate, punch.In // a kind is there, and stands for nothing
	}
	switch {
	case !kind.Valid():
		return nil, errors.New("the kind is missing")
	case outcome < punch.Stored || outcome > punch.Duplicate:
		return nil, fmt.Errorf("outcome %q is not one that is stored", d.Outcome)
	case (d.Outcome == punch.AuditEntry) != (d.Audit.Act != ""):
		return nil, errors.New("what was changed goes with an audit entry, and with nothing else")
	case len(d.Audit.Act) > maxText || len(d.Audit.From) > maxText || len(d.Audit.By) > punch.MaxAuditBy,
		len(d.Audit.Detail) > punch.MaxAuditDetail, d.Audit.Detail != "" && d.Audit.From != "":
		return nil, fmt.Errorf("a word of the audit entry is longer than %d bytes", maxText)
	case len(d.Badge) > punch.MaxBadge || len(d.Employee) > maxText || len(d.Reader) > maxText:
		return nil, fmt.Errorf("badge, employee number or reader name is longer than %d bytes", maxText)
	case len(d.Raw) > maxRaw || d.Bits < 0 || d.Bits > 8*maxRaw || d.Bits > 8*len(d.Raw):
		return nil, fmt.Errorf("%d raw bits in %d bytes: at most %d bytes are kept", d.Bits, len(d.Raw), maxRaw)
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 176), seq)
	b = append(b, recordVersion, byte(outcome)<<4|byte(d.Stamp.Clock)&0xf)
	b = appendText(b, kind.String())
	b = binary.BigEndian.AppendUint64(b, uint64(d.Stamp.Wall.UnixMilli()))
	b = append(b, d.Stamp.BootID[:]...)
	b = binary.AppendUvarint(b, uint64(max(0, d.Stamp.Uptime.Milliseconds())))
	b = binary.AppendUvarint(b, uint64(min(max(0, d.Stamp.ErrorBound), punch.MaxErrorBound).Milliseconds()))
	b = append(b, d.Tap[:]...)
	b = appendText(b, string(d.Badge))
	b = binary.AppendUvarint(b, uint64(d.Bits))
	b = appendText(b, string(d.Raw))
	b = appendText(b, d.Employee)
	b = appendText(b, d.Reader)
	b = append(b, prev[:]...)
	if d.Supersedes != 0 {
		b = append(b, extSupersedes)
		b = appendText(b, string(binary.AppendUvarint(nil, d.Supersedes)))
	}
	switch d.Outcome {
	case punch.BlockedBadge:
		b = appendText(append(b, extBlocked), "")
	case punch.AuditEntry:
		a := appendText(nil, string(d.Audit.Act))
		a = appendText(a, d.Audit.From)
		a = appendText(a, d.Audit.By)
		a = binary.AppendUvarint(a, d.Audit.Seq)
		if d.Audit.Detail != "" {
			a = appendText(a, d.Audit.Detail)
		}
		if len(a) > 255 {
			return nil, errors.New("the audit entry is longer than 255 bytes")
		}
		b = appendText(append(b, extAudit), string(a))
	}
	b = append(b, 0)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

// hashRecord is the chain's hash of one stored record.
func hashRecord(seq uint64, value []byte) [32]byte {
	return sha256.Sum256(append(binary.BigEndian.AppendUint64(make([]byte, 0, keyBytes+len(value)), seq), value...))
}

// decodeRecord reads the stored form back. Nothing of the result points into
// value. An error wraps errDamaged.
func decodeRecord(device string, seq uint64, value []byte) (punch.Punch, error) {
	p, err := parseRecord(device, seq, value)
	if err == nil {
		p.Hash = hashRecord(seq, value)
	}
	return p, err
}

// parseRecord is decodeRecord for who has the hash already or needs none: without sha-256
// in the processor it is the larger part of the work.
func parseRecord(device string, seq uint64, value []byte) (punch.Punch, error) {
	p := punch.Punch{ID: punch.NewID(device, seq), Seq: seq}
	if len(value) < 5 {
		return p, fmt.Errorf("punch %s: %d bytes: %w", p.ID, len(value), errDamaged)
	}
	body := value[:len(value)-4]
	if checksum(seqKey(seq), body) != binary.BigEndian.Uint32(value[len(value)-4:]) {
		return p, fmt.Errorf("punch %s: checksum: %w", p.ID, errDamaged)
	}
	if body[0] != recordVersion {
		return p, fmt.Errorf("punch %s: stored form %d is newer than this program knows: update it: %w", p.ID, body[0], errDamaged)
	}
	r := &scan{b: body[1:]}
	oc := r.byte()
	p.Outcome, p.Stamp.Clock = punch.Outcome(oc>>4), punch.ClockState(oc&0xf)
	kind, kerr := punch.ParseKind(r.text())
	p.Kind = kind
	p.Stamp.Wall = time.UnixMilli(int64(binary.BigEndian.Uint64(r.take(8)))).UTC()
	copy(p.Stamp.BootID[:], r.take(16))
	p.Stamp.Uptime = time.Duration(r.uvarint()) * time.Millisecond
	p.Stamp.ErrorBound = time.Duration(r.uvarint()) * time.Millisecond
	copy(p.Tap[:], r.take(8))
	p.Badge = punch.Badge(r.text())
	p.Bits = int(r.uvarint())
	if raw := r.text(); raw != "" {
		p.Raw = []byte(raw)
	}
	p.Employee = r.text()
	p.Reader = r.text()
	copy(p.PrevHash[:], r.take(32))
	var what punch.Outcome
	for !r.bad {
		tag := r.byte()
		if tag == 0 {
			break
		}
		v := r.text()
		switch tag {
		case extSupersedes:
			p.Supersedes, _ = binary.Uvarint([]byte(v))
		case extBlocked:
			what = punch.BlockedBadge
		case extAudit:
			what = punch.AuditEntry
			a := &scan{b: []byte(v)}
			p.Audit = punch.Audit{Act: punch.Act(a.text()), From: a.text(), By: a.text(), Seq: a.uvarint()}
			if len(a.b) > 0 {
				p.Audit.Detail = a.text()
			}
			r.bad = r.bad || a.bad || p.Audit.Act == ""
		}
	}
	if what != 0 && p.Outcome == punch.Duplicate {
		if p.Outcome = what; what == punch.AuditEntry {
			p.Kind = 0
		}
	} else if what != 0 {
		r.bad = true // nobody has ever written that
	}
	if r.bad || len(r.b) != 0 || kerr != nil || p.Outcome < punch.Stored || p.Outcome > punch.Duplicate && what == 0 || p.Stamp.Clock > punch.Synced {
		return p, fmt.Errorf("punch %s: fields: %w", p.ID, errDamaged)
	}
	return p, nil
}

// scan reads fields off a byte slice; after the first field that is not there it
// is bad and yields zeros.
type scan struct {
	b   []byte
	bad bool
}

var zeros [32]byte

// take returns the next n bytes, n at most 32 once the input has run out.
func (s *scan) take(n int) []byte {
	if s.bad || n > len(s.b) {
		s.bad, s.b = true, nil
		return zeros[:min(n, len(zeros))]
	}
	v := s.b[:n]
	s.b = s.b[n:]
	return v
}

func (s *scan) byte() byte { return s.take(1)[0] }

func (s *scan) text() string {
	n := int(s.byte())
	if s.bad || n > len(s.b) {
		s.bad, s.b = true, nil
		return ""
	}
	return string(s.take(n))
}

func (s *scan) uvarint() uint64 {
	v, n := binary.Uvarint(s.b)
	if s.bad || n <= 0 {
		s.bad, s.b = true, nil
		return 0
	}
	s.b = s.b[n:]
	return v
}

func (s *scan) varint() int64 {
	v := s.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}
