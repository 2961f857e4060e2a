// Package punch holds the values everybody in the house speaks of: who punched
// what, where, and when, and what became of it. It imports the standard library
// only, and nothing in it does any work on a disk, a network or a device.
//
// Three rules run through all of it.
//
// Numbers are text. Employee numbers and badges keep their leading zeros from
// the reader to the far side; nothing here ever turns them into an integer.
//
// Wall time is evidence, not fact. A [Stamp] carries what the wall clock said,
// the boot it was said in, how long that boot had lasted, and how far the clock
// could have been off. The original is never overwritten; a correction stands
// beside it.
//
// Badge numbers and names are personal. However a [Badge] is printed, by fmt or by
// log/slog, it shows its medium and its last three characters only, and an [Employee]
// the number only; whoever needs all of it converts it to a string, or asks for the
// field. Only JSON has the whole of a badge: that is how the roster is stored.
package punch

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Kind is what the person said with the punch. The zero value is invalid.
// On disk and on the wire it is a word, never a number.
type Kind uint8

const (
	In     Kind = iota + 1 // 上班: work begins
	Out                    // 下班: work ends
	GoOut                  // 外出: out on business
	Return                 // 外歸: back from business
)

// Kinds lists the four kinds in the order in which they are shown.
var Kinds = [...]Kind{In, Out, GoOut, Return}

var kindWords = [...]string{"", "in", "out", "go-out", "return"}
var kindChinese = [...]string{"", "上班", "下班", "外出", "外歸"}

// String returns the word of the wire: in, out, go-out, return; "" for an invalid kind.
func (k Kind) String() string {
	if !k.Valid() {
		return ""
	}
	return kindWords[k]
}

// Chinese returns 上班, 下班, 外出 or 外歸, the words the remote systems carry.
func (k Kind) Chinese() string {
	if !k.Valid() {
		return ""
	}
	return kindChinese[k]
}

// Valid reports whether k is one of the four kinds.
func (k Kind) Valid() bool { return k >= In && k <= Return }

// ParseKind reads the word of the wire. The error names the four words.
func ParseKind(s string) (Kind, error) {
	for _, k := range Kinds {
		if s == kindWords[k] {
			return k, nil
		}
	}
	return 0, fmt.Errorf("kind %q: use in, out, go-out or return", s)
}

// MarshalText writes the word of the wire.
func (k Kind) MarshalText() ([]byte, error) {
	if !k.Valid() {
		return nil, errors.New("kind: the zero kind has no word")
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads the word of the wire.
func (k *Kind) UnmarshalText(b []byte) error {
	v, err := ParseKind(string(b))
	if err == nil {
		*k = v
	}
	return err
}

// Outcome is what a tap came to, or what else a record is. Misread, NotStored and
// Enrolment are never stored; see [Outcome.Sent] for what is delivered.
type Outcome uint8

const (
	Stored       Outcome = iota + 1 // a punch, to be delivered
	UnknownBadge                    // stored, delivered when the roster learns the badge
	Duplicate                       // stored as evidence, never delivered
	Misread                         // the reader could not read the card: nothing stored
	NotStored                       // the medium refused: nothing promised
	BlockedBadge                    // a card that was reported lost: stored as evidence, never delivered as anybody's
	AuditEntry                      // no punch at all: a change of people or cards, see Audit
	Enrolment                       // the tap was of enrolment, and went well: no punch, nothing stored
)

var outcomeWords = [...]string{"", "stored", "unknown_badge", "duplicate", "misread", "not_stored", "blocked_badge", "audit", "enrolment"}

// String returns the word of the wire, "" for an invalid outcome.
func (o Outcome) String() string {
	if o < Stored || o > Enrolment {
		return ""
	}
	return outcomeWords[o]
}

// Sent reports whether a record of this outcome is ever delivered.
func (o Outcome) Sent() bool { return o == Stored || o == UnknownBadge }

// ParseOutcome reads the word of the wire.
func ParseOutcome(s string) (Outcome, error) {
	for i := Stored; i <= Enrolment; i++ {
		if outcomeWords[i] == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("outcome %q is none of %s", s, strings.Join(outcomeWords[1:], ", "))
}

// MarshalText writes the word of the wire.
func (o Outcome) MarshalText() ([]byte, error) {
	if o.String() == "" {
		return nil, errors.New("outcome: the zero outcome has no word")
	}
	return []byte(o.String()), nil
}

// UnmarshalText reads the word of the wire.
func (o *Outcome) UnmarshalText(b []byte) error {
	v, err := ParseOutcome(string(b))
	if err == nil {
		*o = v
	}
	return err
}

// ClockState says how far the wall clock can be believed.
type ClockState uint8

const (
	Unset    ClockState = iota // nobody has set this boot's clock: the time may be 1970 or the last shutdown
	Holdover                   // it was set, and runs on its own since: the error bound grows
	Synced                     // it follows a time server or a battery clock now
)

var clockWords = [...]string{"unset", "holdover", "synced"}

// String returns synced, holdover or unset.
func (c ClockState) String() string {
	if int(c) >= len(clockWords) {
		return "unset"
	}
	return clockWords[c]
}

// MarshalText writes synced, holdover or unset.
func (c ClockState) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads synced, holdover or unset.
func (c *ClockState) UnmarshalText(b []byte) error {
	for i, w := range clockWords {
		if w == string(b) {
			*c = ClockState(i)
			return nil
		}
	}
	return fmt.Errorf("clock state %q: use synced, holdover or unset", b)
}

// Badge is the canonical text of what a reader read, medium and value:
// em:0A1B2C3D4E, w26:123-45678, uid:04A1B2C3D4E5F6, key:000123.
// Two badges are the same card if and only if they are equal strings.
type Badge string

// MaxBadge is the longest badge accepted, in bytes.
const MaxBadge = 64

// NewBadge builds a badge of a medium and a value; see [ParseBadge] for the rules.
func NewBadge(medium, value string) (Badge, error) { return ParseBadge(medium + ":" + value) }

// ParseBadge reads <medium>:<value>. The medium is folded to lower case. The
// value of a medium in hexadecimal (em, uid) is folded to upper case and must be
// whole bytes: five of them for em; 4, 7 or 10 for uid. Other values stay as they
// are, letters, digits, dot, dash and comma, 1 to 48 characters.
func ParseBadge(s string) (Badge, error) {
	bad := func(why string) (Badge, error) {
		return "", fmt.Errorf("badge %q: %s; write <medium>:<value>, for example em:0A1B2C3D4E", mask(s), why)
	}
	medium, value, ok := strings.Cut(strings.TrimSpace(s), ":")
	medium = strings.ToLower(medium)
	switch {
	case !ok || medium == "":
		return bad("the medium is missing")
	case len(medium) > 12 || strings.Trim(medium, "abcdefghijklmnopqrstuvwxyz0123456789") != "":
		return bad("the medium is not a short word of letters and digits")
	case value == "":
		return bad("the value is missing")
	case len(value) > 48:
		return bad("the value is longer than 48 characters")
	}
	if medium == "em" || medium == "uid" {
		value = strings.ToUpper(value)
		if strings.Trim(value, "0123456789ABCDEF") != "" {
			return bad("the value is not hexadecimal")
		}
		n := len(value)
		if medium == "em" && n != 10 {
			return bad("a 125 kHz number is five bytes, ten hexadecimal digits")
		}
		if medium == "uid" && n != 8 && n != 14 && n != 20 {
			return bad("a card's uid is 4, 7 or 10 bytes")
		}
	}
	for _, r := range value {
		if !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune(".,-", r)) {
			return bad("the value holds a character that no reader sends")
		}
	}
	return Badge(medium + ":" + value), nil
}

// Medium returns the part before the colon.
func (b Badge) Medium() string { m, _, _ := strings.Cut(string(b), ":"); return m }

// Value returns the part after the colon.
func (b Badge) Value() string { _, v, _ := strings.Cut(string(b), ":"); return v }

// Masked returns the medium and the last three characters: what a log may hold.
func (b Badge) Masked() string { return mask(string(b)) }

func mask(s string) string {
	medium, value, ok := strings.Cut(s, ":")
	if !ok {
		medium, value = "?", s
	}
	// Never more than a third of a short value.
	keep := min(3, len(value)/3)
	return medium + ":…" + value[len(value)-keep:]
}

// LogValue keeps full badge numbers out of logs.
func (b Badge) LogValue() slog.Value { return slog.StringValue(b.Masked()) }

// Format keeps them out of all that is printed, whatever the verb.
func (b Badge) Format(f fmt.State, _ rune) { io.WriteString(f, b.Masked()) }

// Employee is one person of the roster.
type Employee struct {
	Number   string  // as HR registered it, leading zeros and all
	Name     string  // for the screen; never for a log
	Badges   []Badge // every card of this person
	FeishuID string  // Feishu's user id, where the destination wants that instead of the number
	SigninID string  // user id at the in-house sign-in system
	Language string  // of the screen for this person; "" is the device's
	Active   bool    // a person who left keeps the row, and no longer punches
	// From and To are the time in which the number is this person's: from From on,
	// before To. Zero is without an end.
	From, To time.Time
}

// LogValue lets nothing but the employee number into a log.
func (e Employee) LogValue() slog.Value { return slog.StringValue(e.Number) }

// Format lets nothing but the employee number into what is printed.
func (e Employee) Format(f fmt.State, _ rune) { io.WriteString(f, e.Number) }

// Stamp is the time of a tap, with all it takes to correct it later.
type Stamp struct {
	Wall       time.Time     // what the wall clock said; kept to the millisecond
	BootID     [16]byte      // /proc/sys/kernel/random/boot_id: which life of the machine
	Uptime     time.Duration // since that boot, CLOCK_BOOTTIME; kept to the millisecond
	Clock      ClockState
	ErrorBound time.Duration // how far Wall could be off; kept to the millisecond, at most MaxErrorBound
}

// MaxErrorBound stands for "no idea": the largest error bound that is stored.
const MaxErrorBound = 1<<31*time.Millisecond - time.Millisecond

// BootIDString writes a boot id the way the kernel does.
func BootIDString(b [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// Tap is the identity of one physical tap, drawn at random when it happens. An
// append that is tried again carries the same Tap and makes no second punch.
type Tap [8]byte

// Draft is a punch before the outbox has given it a number.
type Draft struct {
	Tap        Tap
	Kind       Kind
	Badge      Badge
	Raw        []byte // what came off the line, most significant bit first; at most 32 bytes
	Bits       int    // how many bits of Raw count, 0 to 255
	Employee   string // number; "" for an unknown badge
	Reader     string // configured name of the reader
	Outcome    Outcome
	Supersedes uint64 // sequence number of the punch this one corrects, 0 for none
	Stamp      Stamp
	Audit      Audit // of an AuditEntry; zero for every punch
}

// LogValue keeps what came off the line, which is the card's number, out of logs.
func (d Draft) LogValue() slog.Value { return slog.StringValue(d.masked()) }

// Format keeps it out of all that is printed.
func (d Draft) Format(f fmt.State, _ rune) { io.WriteString(f, d.masked()) }

func (d Draft) masked() string {
	return fmt.Sprintf("%v of %s by %s at reader %s, %v", d.Kind, d.Employee, d.Badge.Masked(), d.Reader, d.Outcome)
}

// Audit says what was changed about people and cards, and by whom. The card and the
// employee number that it is about are the record's own Badge and Employee. It never
// holds a name.
type Audit struct {
	Act  Act
	From string // employee number of whoever had the card before; "" for nobody
	By   string // who did it: "door", "admin page", or what the verb was told; at most MaxAuditBy bytes
	Seq  uint64 // the punch that a link or its undoing is about, 0 for none
	// Detail counts what an import has changed; at most MaxAuditDetail bytes. The
	// record's Raw is the SHA-256 of the file then.
	Detail string
}

// MaxAuditBy is how many bytes say who did it, and MaxAuditDetail what an import did.
const (
	MaxAuditBy     = 64
	MaxAuditDetail = 128
)

// Cut shortens a text to so many bytes, between two characters.
func Cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

// Act is what was done, a word.
type Act string

// The acts.
const (
	ActOpen    Act = "enrol-open"   // enrolment was opened for Employee
	ActGive    Act = "card-given"   // the card is Employee's, and was nobody's
	ActMove    Act = "card-moved"   // the card is Employee's, and was From's
	ActTake    Act = "card-taken"   // the card is nobody's any more, and was From's
	ActBlock   Act = "card-blocked" // the card is refused from now on
	ActUnblock Act = "card-unblocked"
	ActMaster  Act = "master-card"     // the card opens enrolment at the door, or no longer does
	ActUnlink  Act = "punch-unlinked"  // punch Seq is not From's after all
	ActForget  Act = "forgotten"       // name, cards and portrait of Employee are deleted
	ActHand    Act = "number-passed"   // Employee is another person from now on
	ActImport  Act = "roster-imported" // a file has changed people or cards; what it did to single cards follows, up to a bound
)

// ID names a punch everywhere and for ever: <device>-<seq, 12 digits>. It is
// made once, when the punch is appended, and is the idempotency key of every
// destination.
type ID string

// NewID returns the id of a device's n-th punch.
func NewID(device string, seq uint64) ID {
	b := append(append(make([]byte, 0, len(device)+21), device...), '-')
	for n := uint64(100_000_000_000); n > max(seq, 1); n /= 10 { // twelve digits at least
		b = append(b, '0')
	}
	return ID(strconv.AppendUint(b, seq, 10))
}

// Seq returns the sequence number in the id, and the device.
func (id ID) Seq() (device string, seq uint64, err error) {
	i := strings.LastIndexByte(string(id), '-')
	if i <= 0 || len(id)-i-1 < 12 {
		return "", 0, fmt.Errorf("punch id %q: want <device>-<12 digits>", string(id))
	}
	if seq, err = strconv.ParseUint(string(id[i+1:]), 10, 64); err != nil {
		return "", 0, fmt.Errorf("punch id %q: want <device>-<12 digits>", string(id))
	}
	return string(id[:i]), seq, nil
}

// Punch is one record of the outbox.
type Punch struct {
	ID  ID
	Seq uint64
	Draft
	// Corrected is the true time where the wall clock was wrong at the tap and
	// the boot's time became known later; zero where Wall stands.
	Corrected time.Time
	// CorrectedBy is who decided what Corrected is, and CorrectedAt when; empty
	// where it follows from the boot's time.
	CorrectedBy string
	CorrectedAt time.Time
	// Linked is when the roster's word made the punch Employee's, by a card that nobody
	// knew at the tap; zero where Employee stands in the record.
	Linked time.Time
	// Uncertain says that the clock was unset at the tap and that boot never
	// learned the time: a person must decide, it is never sent by itself.
	Uncertain bool
	// Offered says that an earlier run of the program may have sent it to the
	// destination that it is now for, and ended without an answer.
	Offered bool
	// SupersededBy is the number of the newest record that corrects this one, 0 for
	// none. It is known of what is handed out to be sent; where it is set, and this
	// one has not left yet, that one is sent in its place.
	SupersededBy uint64
	PrevHash     [32]byte // Hash of the record before
	Hash         [32]byte // SHA-256 over sequence number and stored bytes
}

// LogValue lets the id and what the draft may show into a log.
func (p Punch) LogValue() slog.Value { return slog.StringValue(string(p.ID) + ": " + p.masked()) }

// Format lets nothing else into what is printed.
func (p Punch) Format(f fmt.State, _ rune) { io.WriteString(f, string(p.ID)+": "+p.masked()) }

// Time is the time to deliver: the corrected one where there is one.
func (p Punch) Time() time.Time {
	if !p.Corrected.IsZero() {
		return p.Corrected
	}
	return p.Stamp.Wall
}

// Decided is the moment at which it was settled whose punch this is: the tap, or the
// link of an unknown card. A number may have been given to somebody else since. It is
// zero where nobody knows.
func (p Punch) Decided() time.Time {
	switch {
	case !p.Linked.IsZero():
		return p.Linked
	case p.Uncertain, p.Stamp.Clock == Unset && p.Corrected.IsZero():
		return time.Time{}
	}
	return p.Time()
}

// Fate is what a destination made of a punch. The zero value is the safe one.
type Fate uint8

const (
	Keep   Fate = iota // nothing known: it stays, and is sent again
	Accept             // the far side has it
	Refuse             // the far side will never take it as it is: parked for a person
	Skip               // not meant for this destination (kind not sent there, duplicate tap)
)

// String returns keep, accept, refuse or skip.
func (f Fate) String() string {
	return [...]string{"keep", "accept", "refuse", "skip"}[f&3]
}

// Verdict is a destination's answer about one punch.
type Verdict struct {
	ID       ID
	Fate     Fate
	Receipt  string // Accept: the far side's own id for the record, "" if it gives none; at most 255 bytes are kept
	Reason   string // Refuse, and where there is more to say Skip: a short code for machines, e.g. emp_no_unknown
	Message  string // Refuse: the far side's own words; at most 255 bytes are kept
	Attempts int    // how many times it was sent, this time included
	Resent   bool   // a send before had an unknown result: the far side may hold it twice. Keep: this send had
}

// Reasons for which a punch waits for a person whatever the destination says.
const (
	ReasonUnknownBadge  = "unknown_badge"  // the roster knows nobody with this badge yet
	ReasonTimeUncertain = "time_uncertain" // the clock was unset, and that boot never learned the time
)

// ReasonSuperseded is why a punch is skipped that was corrected before it was sent.
const ReasonSuperseded = "superseded"

// MaxWords is how many bytes of somebody else's words are kept.
const MaxWords = 255

// Words makes a far side's text fit to keep and to show: valid UTF-8, on one
// line, without white space around it, at most MaxWords bytes, cut between two
// characters.
func Words(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")))
	if len(s) <= MaxWords {
		return s
	}
	end := MaxWords
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// Receipt is the state of one punch at one destination, as stored.
type Receipt struct {
	State    DeliveryState
	Attempts int
	Receipt  string
	Reason   string
	Message  string
	Resent   bool
	At       time.Time // of the last change of state; zero while pending
}

// DeliveryState is pending, delivered, parked or skipped.
type DeliveryState uint8

const (
	Pending DeliveryState = iota
	Delivered
	Parked
	Skipped
)

var deliveryWords = [...]string{"pending", "delivered", "parked", "skipped"}

// String returns the word of the export.
func (s DeliveryState) String() string { return deliveryWords[s&3] }

// MarshalText writes the word of the export.
func (s DeliveryState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word of the export.
func (s *DeliveryState) UnmarshalText(b []byte) error {
	for i, w := range deliveryWords {
		if w == string(b) {
			*s = DeliveryState(i)
			return nil
		}
	}
	return fmt.Errorf("delivery state %q is none of %s", b, strings.Join(deliveryWords[:], ", "))
}

var (
	_ slog.LogValuer = Badge("")
	_ slog.LogValuer = Employee{}
	_ slog.LogValuer = Draft{}
	_ slog.LogValuer = Punch{}
	_ fmt.Formatter  = Badge("")
	_ fmt.Formatter  = Employee{}
	_ fmt.Formatter  = Draft{}
	_ fmt.Formatter  = Punch{}
)
