package roster

import (
	"crypto/hmac"
	"crypto/rand"
	"errors"
)

// PINHash is a PIN that belongs to no row of the roster, sealed as those are. Its JSON
// is what is stored of it.
type PINHash struct {
	Salt   []byte `json:"salt"`
	Hash   []byte `json:"hash"`
	Passes uint32 `json:"passes"`
	KiB    uint32 `json:"kib"`
}

// HashPIN seals a PIN at what one costs today. It takes as long as a check.
func HashPIN(pin string) PINHash {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails: see crypto/rand
	return PINHash{salt, nowCost.hash([]byte(pin), salt), nowCost.passes, nowCost.kib}
}

// Check says what is in a stored hash that nobody wrote: it would be no PIN, or take
// for ever.
func (p PINHash) Check() error {
	if len(p.Salt) != saltBytes || len(p.Hash) == 0 {
		return errors.New("the PIN's hash is not whole")
	}
	_, err := readPIN(stored{PINSalt: p.Salt, PINHash: p.Hash, PINCost: []uint32{p.Passes, p.KiB}})
	return err
}

// Is reports whether this is the PIN. It is as slow as [Roster.CheckPIN], and takes
// the memory of one check; the caller lets one in at a time, and counts.
func (p PINHash) Is(pin string) bool {
	return hmac.Equal(p.Hash, pinCost{p.Passes, p.KiB}.hash([]byte(pin), p.Salt)) && pin != ""
}
