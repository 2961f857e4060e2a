package roster

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"punchclock/queue/punch"
)

// Rule is one way in which a reader may tell less of a card than another reader
// does, or tell it in another order.
type Rule string

// The rules. Last and first are the bytes as they are written in a badge.
const (
	Last4          Rule = "last4"          // 10 digits printed on a 125 kHz card, Wiegand 34
	Last3          Rule = "last3"          // 8 digits or 3,5 digits printed, Wiegand 26
	First4         Rule = "first4"         // of a UID only
	First3         Rule = "first3"         // of a UID only
	Reversed       Rule = "reversed"       // all bytes, in the other order
	Last4Reversed  Rule = "last4-reversed" // the last four, in the other order; and so on
	Last3Reversed  Rule = "last3-reversed"
	First4Reversed Rule = "first4-reversed"
	First3Reversed Rule = "first3-reversed"
)

// Rules lists every rule, the commonest first.
var Rules = []Rule{Last4, Last3, Reversed, Last4Reversed, Last3Reversed, First4, First3, First4Reversed, First3Reversed}

// Cards is how the site tells that two readings are one card. The zero value takes
// only the same number in another notation for the same card.
type Cards struct {
	Same []Rule // in force
	// Reads is how many bytes of a card the site's readers tell; nil is any number.
	// Two cards that only a reader of another sort would mix up may both be in the
	// roster.
	Reads []int
	// Any says that a reader of the site may send a medium of its own.
	Any bool
}

// media are the words before the colon that readers send.
var media = []string{"em", "uid", "w24", "w26", "w30", "w32", "w34", "w37", "dec", "key"}

// unread says why no reader ever sends a badge, "" where one may: such a badge in a file
// is a slip of the pen, and whoever has it would stand at the door as unknown.
func (c Cards) unread(b punch.Badge) string {
	switch m := b.Medium(); {
	case !slices.Contains(media, m):
		if c.Any {
			return ""
		}
		return fmt.Sprintf("no reader sends %q; write one of %s before the colon", m, strings.Join(media, ", "))
	case m == "w24" || m == "w26":
		if _, _, ok := numberOf(b); !ok {
			return "no card has this number; write facility and number, 0-0 to 255-65535"
		}
	case m == "w32" || m == "w34":
		if _, _, ok := numberOf(b); !ok {
			return "no card has this number; write facility and number, 0-0 to 65535-65535"
		}
	}
	return ""
}

// reads reports whether a reader of the site tells n bytes of a card.
func (c Cards) reads(n int) bool { return c.Reads == nil || slices.Contains(c.Reads, n) }

// number is a card's number as bytes, whatever the notation. The rest of b is zero.
type number struct {
	n uint8
	b [10]byte
}

// sort says what may be known of the plastic from the way it was read.
type plastic uint8

const (
	lf    plastic = 1 << iota // 125 kHz
	hf                        // 13.56 MHz
	other                     // a wire or a printed number does not tell
)

// mixes reports whether plastic read as p may be plastic noted as any of q.
func (p plastic) mixes(q plastic) bool {
	return p == other && q != 0 || q&(p|other) != 0
}

// numberOf reads the number out of a badge; ok is false for a badge that is the
// same only as itself: a typed number, a 30- or 37-bit frame, a decimal number of
// a length that says nothing of its size.
func numberOf(badge punch.Badge) (n number, p plastic, ok bool) {
	medium, value, _ := strings.Cut(string(badge), ":")
	switch medium {
	case "em", "uid":
		k := len(value) / 2
		if k > len(n.b) || len(value)%2 != 0 || medium == "em" && k != 5 || medium == "uid" && k != 4 && k != 7 && k != 10 {
			return n, 0, false
		}
		for i := range k {
			high, low := unhex(value[2*i]), unhex(value[2*i+1])
			if high < 0 || low < 0 {
				return n, 0, false
			}
			n.b[i] = byte(high<<4 | low)
		}
		n.n, p = uint8(k), hf
		if medium == "em" {
			p = lf
		}
		return n, p, true
	case "w24", "w26":
		n, ok = pair(value, '-', 1<<8-1, 3)
	case "w32", "w34":
		n, ok = pair(value, '-', 1<<16-1, 4)
	case "dec":
		comma := strings.IndexByte(value, ',')
		switch {
		case comma == 3 && len(value) == 9:
			n, ok = pair(value, ',', 1<<8-1, 3)
		case comma == 5 && len(value) == 11:
			n, ok = pair(value, ',', 1<<16-1, 4)
		case comma < 0 && len(value) == 8:
			n, ok = decimal(value, 3)
		case comma < 0 && len(value) == 10:
			n, ok = decimal(value, 4)
		case comma < 0 && (len(value) == 12 || len(value) == 13):
			n, ok = decimal(value, 5)
		}
	}
	return n, other, ok
}

// pair reads facility and number, the latter of 16 bits.
func pair(s string, sep byte, most uint64, bytes int) (number, bool) {
	i := strings.IndexByte(s, sep)
	if i < 0 {
		return number{}, false
	}
	facility, ok1 := digits(s[:i])
	low, ok2 := digits(s[i+1:])
	if !ok1 || !ok2 || facility > most || low > 1<<16-1 {
		return number{}, false
	}
	return numberFrom(facility<<16|low, bytes), true
}

func decimal(s string, bytes int) (number, bool) {
	v, ok := digits(s)
	if !ok || v>>(8*bytes) != 0 {
		return number{}, false
	}
	return numberFrom(v, bytes), true
}

// digits reads 1 to 18 decimal digits and allocates nothing, not even for an error.
func digits(s string) (v uint64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		v = 10*v + uint64(s[i]-'0')
	}
	return v, true
}

func numberFrom(v uint64, bytes int) (n number) {
	n.n = uint8(bytes)
	for i := range bytes {
		n.b[i] = byte(v >> (8 * (bytes - 1 - i)))
	}
	return n
}

func (n number) value() (v uint64) {
	for _, b := range n.b[:n.n] {
		v = v<<8 | uint64(b)
	}
	return v
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// of returns what a reader under this rule tells of a card; ok is false where it
// tells the whole number anyhow, or the rule does not speak of such cards.
func (r Rule) of(n number, p plastic) (out number, ok bool) {
	size := int(n.n)
	word, reversed := strings.CutSuffix(string(r), "-reversed")
	part := n.b[:size]
	switch word {
	case "reversed":
		reversed = true
	case "last4", "last3":
		k := int(word[4] - '0')
		if size < k || size == k && !reversed {
			return out, false
		}
		part = n.b[size-k : size]
	case "first4", "first3":
		// Cards of one box differ in their last bytes only; what a UID begins with
		// is as good as what it ends with.
		k := int(word[5] - '0')
		if p != hf || size < k || size == k && !reversed {
			return out, false
		}
		part = n.b[:k]
	default:
		return out, false
	}
	out.n = uint8(copy(out.b[:], part))
	if reversed {
		slices.Reverse(out.b[:out.n])
	}
	return out, out != n
}

// same reports whether two badges are readings of one card, and by which rule; ""
// where the number is the same.
func (c Cards) same(a, b punch.Badge) (Rule, bool) {
	x, px, ok1 := numberOf(a)
	y, py, ok2 := numberOf(b)
	if !ok1 || !ok2 {
		return "", a == b
	}
	if !px.mixes(py) {
		return "", false
	}
	if x == y {
		return "", true
	}
	for _, r := range c.Same {
		if n, ok := r.of(x, px); ok && n == y {
			return r, true
		}
		if n, ok := r.of(y, py); ok && n == x {
			return r, true
		}
	}
	return "", false
}

// One reports whether two readings are of one card, under the rules in force.
func (c Cards) One(a, b punch.Badge) bool {
	_, ok := c.same(a, b)
	return ok
}

// holder is whose card a number means.
type holder struct {
	person  int32   // index; nobody where two people's cards come to the same
	first   int32   // who came first with it
	told    bool    // that it is two people's
	exact   plastic // the number is a whole card in the roster
	derived plastic // a rule makes it of one
	badge   int32   // the first one's card, in index.badges
}

const nobody = -1

// index finds the person behind a reading.
type index struct {
	cards   Cards
	plain   map[punch.Badge]holder // badges that hold no number
	numbers map[number]holder      // without a pointer in it: the collector need not look through thousands
	badges  []punch.Badge
}

func newIndex(c Cards, people int) *index {
	return &index{cards: c, plain: map[punch.Badge]holder{}, numbers: make(map[number]holder, people*(1+len(c.Same))), badges: make([]punch.Badge, 0, people)}
}

// Clash is two people whose cards a reader of the site could not tell apart.
type Clash struct {
	A, B           int // rows, or people in the order of All; A is the earlier one
	BadgeA, BadgeB punch.Badge
	// Bytes is how much a reader tells of a card that mixes them up, 0 for the very
	// same badge.
	Bytes int
}

// add notes a person's badge, and reports a clash with an earlier one's. Both are
// nobody's then, as far as they are the same.
func (x *index) add(person int32, b punch.Badge) (clash Clash, bad bool) {
	n, p, ok := numberOf(b)
	if !ok {
		h, there := x.plain[b]
		if there && h.first != person {
			h.person = nobody
			x.plain[b] = h
			return Clash{A: int(h.first), B: int(person), BadgeA: b, BadgeB: b}, true
		}
		if !there {
			x.plain[b] = holder{person: person, first: person}
		}
		return Clash{}, false
	}
	at := int32(len(x.badges))
	x.badges = append(x.badges, b)
	put := func(n number, exact bool) {
		h, there := x.numbers[n]
		switch {
		case !there:
			h = holder{person: person, first: person, badge: at}
		case h.first != person:
			// A number that no reader sends, and that is no card of the roster, mixes
			// up nobody.
			if !h.told && (exact || h.exact != 0 || x.cards.reads(int(n.n))) {
				h.told = true
				if !bad {
					clash, bad = Clash{A: int(h.first), B: int(person), BadgeA: x.badges[h.badge], BadgeB: b, Bytes: int(n.n)}, true
				}
			}
			h.person = nobody
		}
		if exact {
			h.exact |= p
		} else {
			h.derived |= p
		}
		x.numbers[n] = h
	}
	put(n, true)
	for _, r := range x.cards.Same {
		if m, ok := r.of(n, p); ok {
			put(m, false)
		}
	}
	return clash, bad
}

// find returns the person whose card was read. Two rules that lead to two people
// lead to nobody: a card is never guessed.
func (x *index) find(b punch.Badge) (int32, bool) {
	n, p, ok := numberOf(b)
	if !ok {
		h, ok := x.plain[b]
		return h.person, ok && h.person != nobody
	}
	found := int32(nobody)
	if h, ok := x.numbers[n]; ok && p.mixes(h.exact|h.derived) {
		if h.person == nobody {
			return nobody, false
		}
		found = h.person
	}
	for _, r := range x.cards.Same {
		m, ok := r.of(n, p)
		if !ok {
			continue
		}
		h, ok := x.numbers[m]
		if !ok || !p.mixes(h.exact) {
			continue
		}
		if h.person == nobody || found != nobody && found != h.person {
			return nobody, false
		}
		found = h.person
	}
	return found, found != nobody
}

// has reports whether a reading is any of the cards, be it of two at once.
func (x *index) has(b punch.Badge) bool {
	n, p, ok := numberOf(b)
	if !ok {
		_, there := x.plain[b]
		return there
	}
	if h, there := x.numbers[n]; there && p.mixes(h.exact|h.derived) {
		return true
	}
	for _, r := range x.cards.Same {
		if m, ok := r.of(n, p); ok {
			if h, there := x.numbers[m]; there && p.mixes(h.exact) {
				return true
			}
		}
	}
	return false
}

// Reading is one way in which a card may be read or printed.
type Reading struct {
	Badge punch.Badge
	As    string // who reads or prints it so
	Rule  Rule   // "" where it tells as much as the badge asked about
}

// Readings lists the ways in which the card behind a badge may be read by other
// readers or be printed on it, as far as the badge tells: of a Wiegand 26 reading
// nobody can say the rest. The badge itself comes first.
func Readings(b punch.Badge) []Reading {
	list := []Reading{{Badge: b, As: "as it was given"}}
	n, p, ok := numberOf(b)
	if !ok {
		return list
	}
	note := func(n number, rule Rule) {
		for _, r := range notations(n, p) {
			if !slices.ContainsFunc(list, func(o Reading) bool { return o.Badge == r.Badge }) {
				r.Rule = rule
				list = append(list, r)
			}
		}
	}
	note(n, "")
	for _, r := range Rules {
		if m, ok := r.of(n, p); ok {
			note(m, r)
		}
	}
	return list
}

// notations writes a number in every way there is for its length.
func notations(n number, p plastic) []Reading {
	v := n.value()
	high, low := v>>16, v&0xFFFF
	hex := strings.ToUpper(hex.EncodeToString(n.b[:n.n]))
	reading := func(as, format string, args ...any) Reading {
		return Reading{Badge: punch.Badge(fmt.Sprintf(format, args...)), As: as}
	}
	uid := reading("13.56 MHz reader", "uid:%s", hex)
	switch n.n {
	case 3:
		return []Reading{
			reading("Wiegand 26", "w26:%d-%d", high, low),
			reading("8 digits", "dec:%08d", v),
			reading("3,5 digits", "dec:%03d,%05d", high, low),
		}
	case 4:
		list := []Reading{
			reading("Wiegand 34", "w34:%d-%d", high, low),
			reading("10 digits", "dec:%010d", v),
			reading("5,5 digits", "dec:%05d,%05d", high, low),
		}
		if p != lf {
			list = append(list, uid)
		}
		return list
	case 5:
		list := []Reading{reading("13 digits", "dec:%013d", v)}
		if p != hf {
			list = append(list, reading("125 kHz reader", "em:%s", hex))
		}
		return list
	}
	return []Reading{uid}
}

// Owner is what the roster knows of a card.
type Owner struct {
	Employee punch.Employee
	Badge    punch.Badge // as the roster has it
	Rule     Rule        // by which the two are one card, "" for the same number
}

// Owners lists everybody, active or not, whose card a reading could be under these
// rules; more than one means that ByBadge finds nobody. It looks at the whole
// roster: it is for a person who asks, not for a tap.
func (r *Roster) Owners(b punch.Badge, same []Rule) []Owner {
	c := Cards{Same: same}
	var owners []Owner
	for _, p := range r.now.Load().people {
		for _, has := range p.Badges {
			if rule, ok := c.same(b, has); ok {
				owners = append(owners, Owner{p.Employee, has, rule})
				break
			}
		}
	}
	return owners
}

// CardOf is the reading for a text as HR or a technician has it: a badge, or just
// the digits that are printed on the card (8, 10, 12 or 13, with or without a
// comma), or ten hexadecimal digits.
func CardOf(s string) (punch.Badge, error) {
	s = strings.TrimSpace(s)
	if strings.Contains(s, ":") {
		return punch.ParseBadge(s)
	}
	if _, _, ok := numberOf(punch.Badge("dec:" + s)); ok {
		return punch.ParseBadge("dec:" + s)
	}
	if _, err := strconv.ParseUint(s, 16, 64); err == nil && len(s) == 10 && strings.ContainsAny(s, "abcdefABCDEF") {
		return punch.ParseBadge("em:" + s)
	}
	return punch.ParseBadge(s) // says what is missing
}
