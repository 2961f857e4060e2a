package roster

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/crypto/argon2"
)

// pinCost is what one argon2id costs. It is stored with each PIN, so that a later
// program can ask for more.
type pinCost struct {
	passes uint32
	kib    uint32 // memory
}

// nowCost is the least of the settings that OWASP's Password Storage Cheat Sheet
// holds equally strong, the one with the least memory: 7 MiB and five passes. It
// takes 20 ms of a server's core; a board with 512 MB has the memory to spare.
var nowCost = pinCost{passes: 5, kib: 7 << 10}

// A person's PIN is stored in one of two ways. hash is
//
//	argon2id(mac, salt), mac = HMAC-SHA-256(device's key, salt ‖ PIN)
//
// and mac stands for it until [Roster.SealPINs] has made the hash. Since the hash is
// one of the mac, and not of the PIN, rosters from the time when only the mac was
// kept are sealed without anybody's help.
type sealedPIN struct {
	salt []byte
	mac  []byte // on the medium only while hash is nil; in memory as long as it is known
	hash []byte
	cost pinCost
}

const saltBytes = 16

// newPIN is a PIN that was just told, not sealed yet.
func newPIN(key []byte, pin string) sealedPIN {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails: see crypto/rand
	return sealedPIN{salt: salt, mac: pinMAC(key, salt, pin)}
}

func pinMAC(key, salt []byte, pin string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(salt)
	h.Write([]byte(pin))
	return h.Sum(nil)
}

// given reports whether there is a PIN at all.
func (p sealedPIN) given() bool { return p.mac != nil || p.hash != nil }

// is reports whether the PIN is known to be this one, without asking argon2id:
// after a restart it is not known of a sealed one.
func (p sealedPIN) is(key []byte, pin string) bool {
	return p.mac != nil && hmac.Equal(p.mac, pinMAC(key, p.salt, pin))
}

func (p *sealedPIN) equal(o *sealedPIN) bool {
	return bytes.Equal(p.salt, o.salt) && bytes.Equal(p.mac, o.mac) && bytes.Equal(p.hash, o.hash) && p.cost == o.cost
}

// stored returns the fields of the record.
func (p sealedPIN) stored() (salt, mac, hash []byte, cost []uint32) {
	if p.hash == nil {
		return p.salt, p.mac, nil, nil
	}
	return p.salt, nil, p.hash, []uint32{p.cost.passes, p.cost.kib}
}

// readPIN makes a PIN of the fields of a record. Costs that nobody wrote are an
// error: a wrong one would make each check take for ever.
func readPIN(e stored) (sealedPIN, error) {
	p := sealedPIN{salt: e.PINSalt, mac: e.PINMAC, hash: e.PINHash}
	if p.hash == nil {
		return p, nil
	}
	if len(e.PINCost) != 2 || e.PINCost[0] < 1 || e.PINCost[0] > 64 || e.PINCost[1] < 8 || e.PINCost[1] > 64<<10 {
		return sealedPIN{}, errors.New("a PIN has a cost that nobody would set")
	}
	p.cost = pinCost{e.PINCost[0], e.PINCost[1]}
	return p, nil
}

func (c pinCost) hash(mac, salt []byte) []byte {
	return argon2.IDKey(mac, salt, c.passes, c.kib, 1, sha256.Size)
}

// noPIN stands in for an employee who is not there, so that an answer takes as
// long for an unknown number as for a wrong PIN.
var noPIN = sealedPIN{salt: make([]byte, saltBytes), hash: make([]byte, sha256.Size), cost: nowCost}

// CheckPIN reports whether the active employee of that number has that PIN. It is
// meant to be slow: 20 ms on a server, a good part of a second on a small board,
// and whoever asks at the same time waits, so that it never takes the memory of
// more than one check. It takes the same time whatever is wrong. It does not count
// wrong tries: the caller limits them.
func (r *Roster) CheckPIN(number, pin string) bool {
	r.checking.Lock()
	defer r.checking.Unlock()
	s := r.now.Load()
	want, valid := noPIN, false
	if i, ok := s.numbers[number]; ok && s.people[i].works(r.clock()) && s.people[i].pin.given() {
		want, valid = s.people[i].pin, true
	}
	mac := pinMAC(s.meta.PINKey, want.salt, pin)
	right := false
	if want.hash != nil {
		right = hmac.Equal(want.hash, want.cost.hash(mac, want.salt))
	} else {
		nowCost.hash(mac, want.salt) // for the time it takes
		right = hmac.Equal(want.mac, mac)
	}
	return right && valid && pin != ""
}

const (
	sealShare = 4                // for each second of work, so many of rest: a fifth of one core
	sealEvery = 30 * time.Second // between two writes while there is work
	sealAgain = time.Minute      // after the medium refused
)

// SealPINs turns what is kept of PINs into argon2id hashes until ctx is done: all
// that an import brought, and all of a roster from before. It takes a fifth of one
// core while there is something to do, and nothing otherwise. An import does not
// wait for it, since thousands of PINs take hours on a small board; until it comes
// to a PIN, that one lies on the medium as its HMAC. When the last one is sealed,
// the file is written anew, because bbolt leaves old records in pages it no longer
// uses. What goes wrong is logged, and tried again.
func (r *Roster) SealPINs(ctx context.Context, log *slog.Logger) {
	stale := false // the file holds pages from before
	for ctx.Err() == nil {
		changed := r.Changed()
		var again <-chan time.Time
		n, err := r.sealAll(ctx)
		stale = stale || n > 0
		if err == nil && ctx.Err() == nil && stale {
			err = r.rewrite()
			stale = err != nil
		}
		if err != nil && ctx.Err() == nil {
			log.Error("PINs could not be sealed; tried again in a minute", "err", err)
			again = time.After(sealAgain)
		} else if n > 0 {
			log.Info("PINs are sealed", "people", n)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		}
	}
}

// sealAll seals what is open now and returns how many there were.
func (r *Roster) sealAll(ctx context.Context) (n int, err error) {
	sealed := map[string]sealedPIN{}
	kept := time.Now()
	for _, p := range r.now.Load().people {
		if p.pin.hash != nil || p.pin.mac == nil {
			continue
		}
		began := time.Now()
		pin := p.pin
		r.checking.Lock()
		pin.hash, pin.cost = nowCost.hash(pin.mac, pin.salt), nowCost
		r.checking.Unlock()
		sealed[p.Number] = pin
		if time.Since(kept) >= sealEvery {
			if err := r.keepSealed(sealed); err != nil {
				return n, err
			}
			n += len(sealed)
			clear(sealed)
			kept = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(sealShare * time.Since(began)):
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := r.keepSealed(sealed); err != nil {
		return n, err
	}
	return n + len(sealed), nil
}

// keepSealed puts hashes in the place of the macs they were made of. Whoever got
// another PIN meanwhile keeps that one. Nobody is told of a change: nothing that
// anybody can look up has changed.
func (r *Roster) keepSealed(sealed map[string]sealedPIN) error {
	if len(sealed) == 0 {
		return nil
	}
	r.write.Lock()
	defer r.write.Unlock()
	r.commit.Lock()
	defer r.commit.Unlock()
	old := r.now.Load()
	s := *old
	s.people = slices.Clone(old.people)
	var changed []int32
	for number, pin := range sealed {
		i, ok := s.numbers[number]
		if ok && slices.Equal(s.people[i].pin.salt, pin.salt) {
			p := *s.people[i]
			p.pin = pin
			s.people[i] = &p
			changed = append(changed, i)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	err := guard(r.path, func() error {
		return r.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(peopleBucket)
			var seal sealer
			for _, i := range changed {
				key := []byte(s.people[i].Number)
				if err := b.Put(key, seal.record(key, s.people[i])); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("roster: seal PINs: %w", err)
	}
	r.now.Store(&s)
	return nil
}

// rewrite copies the file without the pages that are not used any more, and puts
// the copy in its place.
func (r *Roster) rewrite() error {
	r.write.Lock()
	defer r.write.Unlock()
	r.commit.Lock()
	torn, old := r.torn, r.now.Load()
	r.commit.Unlock()
	if torn {
		return errors.New("roster: write anew: the last change did not reach the medium; import the roster again")
	}
	s := *old
	return r.exchange(&s, old)
}
