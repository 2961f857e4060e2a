package queue

import (
	"crypto/sha256"
	"fmt"

	"punchclock/queue/punch"
)

// The audit chain. Each record holds the hash of the record before it:
//
//	hash(n)      = SHA-256( n as eight bytes, big-endian || stored bytes of record n )
//	prev hash(n) = hash(n-1)
//	prev hash(1) = SHA-256( "punchclock chain 1\n" || device id )
//
// so that altering, deleting, inserting or reordering a record breaks the link of
// the record behind it, and whoever knows the hash of the newest record (it is on
// every status page and in every export) knows them all. The stored bytes are the
// field "record" of an export, in base64; its prev hash stands in its last 37
// bytes before the extensions, and in the export's prev_hash.
//
// Where damage took records away for good, the record after the gap starts anew
// from
//
//	SHA-256( "punchclock chain 1 after damage\n" || device id || "\n" || n as decimal text )
//
// which Verify reports as a gap, by name: a chain that was mended is never shown
// as one that was whole.

// genesis is the prev hash of a device's first record.
func genesis(device string) [32]byte {
	return sha256.Sum256([]byte("punchclock chain 1\n" + device))
}

// afterDamage is the prev hash of record seq where the ones before it are lost.
func afterDamage(device string, seq uint64) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "punchclock chain 1 after damage\n%s\n%d", device, seq))
}

// Problem is one thing that a walk along the chain found.
type Problem struct {
	Seq  uint64 `json:"seq"`
	ID   string `json:"id"`
	What string `json:"what"`
}

// Chain checks records one after the other. The zero value accepts any first
// record; give it the device to have the first one checked too.
type Chain struct {
	Device   string
	Records  uint64
	First    uint64
	Last     uint64
	Head     [32]byte // hash of the last record
	Problems []Problem
	Note     string // what is worth knowing and no problem
}

// MaxProblems bounds how many problems a chain remembers; the first is the one
// that matters.
const MaxProblems = 100

func (c *Chain) problem(seq uint64, format string, args ...any) {
	if len(c.Problems) < MaxProblems {
		c.Problems = append(c.Problems, Problem{Seq: seq, ID: string(punch.NewID(c.Device, seq)), What: fmt.Sprintf(format, args...)})
	}
}

// Add checks the next record: its bytes, its place, and its link to the one
// before. It returns the punch as stored; ok is false where the bytes cannot be
// read at all. A partial export may start anywhere; its first link is then taken
// as it is.
func (c *Chain) Add(seq uint64, value []byte) (p punch.Punch, ok bool) {
	p, err := decodeRecord(c.Device, seq, value)
	if err != nil {
		p.Hash = hashRecord(seq, value)
	}
	defer func() {
		if c.Records == 0 {
			c.First = seq
		}
		c.Records++
		c.Last = max(c.Last, seq)
		c.Head = p.Hash
	}()
	switch {
	case err != nil:
		c.problem(seq, "not what was written: %v", err)
		return p, false
	case c.Records == 0 && seq == 1:
		if p.PrevHash != genesis(c.Device) {
			c.problem(seq, "does not start the chain of device %s", c.Device)
		}
	case c.Records == 0:
	case seq <= c.Last:
		c.problem(seq, "out of order: it comes after punch number %d", c.Last)
	case p.PrevHash == c.Head && seq == c.Last+1:
	case p.PrevHash == afterDamage(c.Device, seq):
		c.problem(seq, "starts anew after damage: punches %d to %d are not here", c.Last+1, seq-1)
	case seq > c.Last+1:
		c.problem(seq, "punches %d to %d before it are missing", c.Last+1, seq-1)
	default:
		c.problem(seq, "does not follow punch number %d: one of the two was altered or exchanged", c.Last)
	}
	return p, true
}
