package wiegand

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"punchclock/device"
)

// mostBits is how many bits of a frame are kept; the longest format has 37.
const mostBits = 128

// bits is what came off the wires, in order; the first one is the highest of b[0].
type bits struct {
	b [mostBits / 8]byte
	n int
}

// push adds a bit; it reports false when there is no room.
func (v *bits) push(one bool) bool {
	if v.n == mostBits {
		return false
	}
	if one {
		v.b[v.n/8] |= 0x80 >> (v.n % 8)
	}
	v.n++
	return true
}

// at returns the bit at a place, counted from 1.
func (v *bits) at(i int) uint64 { return uint64(v.b[(i-1)/8]>>(7-(i-1)%8)) & 1 }

// field returns the number between two places, at most 64 of them.
func (v *bits) field(p span) (n uint64) {
	for i := p.from; i <= p.to; i++ {
		n = n<<1 | v.at(i)
	}
	return n
}

// ones counts.
func (v *bits) ones(p span) (n int) {
	for i := p.from; i <= p.to; i++ {
		n += int(v.at(i))
	}
	return n
}

// span is places of a frame, counted from 1 as data sheets do; from 0 is none.
type span struct{ from, to int }

type format struct {
	name, medium     string
	bits             int
	facility, number span
	even, odd        span
}

var formats = []*format{
	{"26", "w26", 26, span{2, 9}, span{10, 25}, span{1, 13}, span{14, 26}},
	{"30", "w30", 30, span{}, span{2, 29}, span{1, 15}, span{16, 30}},
	{"34", "w34", 34, span{2, 17}, span{18, 33}, span{1, 17}, span{18, 34}},
	{"h10304", "w37", 37, span{2, 17}, span{18, 36}, span{1, 19}, span{19, 37}},
	{"h10302", "w37", 37, span{}, span{2, 36}, span{1, 19}, span{19, 37}},
	{"24", "w24", 24, span{1, 8}, span{9, 24}, span{}, span{}},
	{"32", "w32", 32, span{1, 16}, span{17, 32}, span{}, span{}},
}

// Formats returns the names that [Config].Formats accepts.
func Formats() []string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.name
	}
	return names
}

// DefaultFormats returns those that are read unless others are configured.
func DefaultFormats() []string { return []string{"26", "30", "34"} }

// CheckFormats says why these formats cannot be read by one reader, and what to
// write instead.
func CheckFormats(names []string) error {
	_, err := pickFormats(names)
	return err
}

func list() string { return `"` + strings.Join(Formats(), `", "`) + `"` }

func pickFormats(names []string) (picked []*format, err error) {
	have := map[string]bool{}
	for _, name := range names {
		var found *format
		for _, f := range formats {
			if f.name == name {
				found = f
			}
		}
		switch {
		case found == nil:
			return nil, fmt.Errorf("format %q is not known: use %s", name, list())
		case have[name]:
			return nil, fmt.Errorf("format %q is there twice: write it once", name)
		}
		have[name] = true
		picked = append(picked, found)
	}
	switch {
	case len(picked) == 0:
		return nil, fmt.Errorf("no format: use some of %s", list())
	case have["h10302"] && have["h10304"]:
		return nil, fmt.Errorf(`"h10302" and "h10304" have the same bits: write the one that the cards were ordered as`)
	case have["24"] && have["26"], have["32"] && have["34"]:
		return nil, fmt.Errorf(`"24" and "32" are "26" and "34" without their checks: two lost bits would make another card; write what this reader sends`)
	}
	return picked, nil
}

// card is a credential that passed its checks.
type card struct{ medium, value string }

// decode judges a frame. Where it is no card, fault is one of device's words and
// why says it to the technician, with nothing of the card's number in it.
func decode(v *bits, among []*format) (c card, fault, why string) {
	if v.n < cardLike {
		return card{}, device.FaultNoise, fmt.Sprintf("%d pulses are no card: noise on the wires", v.n)
	}
	if n := v.ones(span{1, v.n}); n == 0 || n == v.n {
		silent := "D1"
		if n > 0 {
			silent = "D0"
		}
		return card{}, device.FaultNoise, fmt.Sprintf("%d bits and not one of them on %s: look at that wire", v.n, silent)
	}
	for _, f := range among {
		if f.bits != v.n {
			continue
		}
		if f.even.from > 0 && v.ones(f.even)%2 != 0 || f.odd.from > 0 && v.ones(f.odd)%2 != 1 {
			return card{}, device.FaultChecksum, fmt.Sprintf("a frame of %d bits has a wrong parity: a damaged one, or not of format %q", v.n, f.name)
		}
		value := strconv.FormatUint(v.field(f.number), 10)
		if f.facility.from > 0 {
			value = strconv.FormatUint(v.field(f.facility), 10) + "-" + value
		}
		return card{f.medium, value}, "", ""
	}
	why = fmt.Sprintf("a frame of %d bits is no format of this reader", v.n)
	for _, f := range formats {
		if f.bits == v.n {
			why += fmt.Sprintf("; if all its cards are so, add %q to its formats", f.name)
		}
	}
	return card{}, device.FaultLength, why
}

// holes counts the pulses that are missing between others, from the time before
// each but the first. Readers send at an even pace: a time of two paces is one
// pulse that nobody saw. Only where the next pulse comes early was this one seen
// late.
func holes(since []time.Duration) (n int) {
	if len(since) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(since))
	pace := max(sorted[len(sorted)/2], time.Microsecond)
	for i, d := range since {
		if paces := (d + pace/2) / pace; paces > 1 && (i+1 == len(since) || since[i+1] >= pace*3/4) {
			n += int(paces) - 1
		}
	}
	return n
}

// mayBeLonger reports whether a frame of n bits, with some missing in between, may
// be one of a longer format: then its parity is no proof, because half of all
// frames pass each.
func mayBeLonger(n, missing int, among []*format) bool {
	return missing > 0 && slices.ContainsFunc(among, func(f *format) bool { return f.bits >= n+missing })
}

// keypad is a way of sending one key as a frame.
type keypad struct {
	name string
	bits int
}

var keypads = []*keypad{{"4-bit", 4}, {"6-bit", 6}, {"8-bit", 8}}

// Keypads returns the names that [Config].Keypad accepts, beside "" for none.
func Keypads() []string {
	names := make([]string, len(keypads))
	for i, k := range keypads {
		names[i] = k.name
	}
	return names
}

// key returns the key of a frame of k's length; 0 if its check is wrong or there
// is no such key.
func (k *keypad) key(v *bits) byte {
	n := v.field(span{1, k.bits})
	switch k.bits {
	case 6:
		if v.ones(span{1, 3})%2 != 0 || v.ones(span{4, 6})%2 != 1 {
			return 0
		}
		n = v.field(span{2, 5})
	case 8:
		if n>>4^n&15 != 15 {
			return 0
		}
		n &= 15
	}
	if n >= uint64(len(keys)) {
		return 0
	}
	return keys[n]
}

const keys = "0123456789*#"
