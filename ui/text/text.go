// Package text holds every sentence that a person can see, in each language. It
// imports the standard library only.
//
// A sentence has a [Key]. A language is one literal in a file of its own, named in
// the table below; a test holds that none misses a key, has one that nobody knows, or
// asks for other arguments than the others do. Words that belong to a word of the wire
// (a kind, an outcome, a reader's state) have the wire's word in their key, so that
// whoever shows them needs no table of their own.
//
// zh-TW is written first and stands in wherever another language says nothing. Seven
// are complete: the two written Chineses and English for every page, Vietnamese,
// Indonesian, Thai and Filipino for the people at the door whose language they are.
package text

import (
	"fmt"
	"maps"
	"strings"
	"time"
)

// Key names a sentence.
type Key string

// The keys. Verbs in the comments are the arguments of [Catalog.Say].
const (
	KindIn     Key = "kind.in"
	KindOut    Key = "kind.out"
	KindGoOut  Key = "kind.go-out"
	KindReturn Key = "kind.return"

	GreetIn     Key = "greet.in" // said with a stored punch
	GreetOut    Key = "greet.out"
	GreetGoOut  Key = "greet.go-out"
	GreetReturn Key = "greet.return"

	Stored          Key = "outcome.stored"
	StoredUncertain Key = "outcome.stored.unset" // stored while nobody has set the clock
	Duplicate       Key = "outcome.duplicate"
	UnknownBadge    Key = "outcome.unknown_badge"
	Misread         Key = "outcome.misread"
	MisreadRandom   Key = "outcome.misread.random"       // a phone, or a card that changes its number
	MisreadTwo      Key = "outcome.misread.two"          // two cards at once
	MisreadLearned  Key = "outcome.misread.learned"      // a technician reads cards in
	MisreadPIN      Key = "outcome.misread.pin"          // number and PIN on a keypad do not belong together
	MisreadTries    Key = "outcome.misread.tries"        // too many wrong ones
	MisreadEnrolNo  Key = "outcome.misread.enrol-no"     // a card that cannot be anybody's
	Enrolled        Key = "outcome.enrolment"            // the card is this person's from now on
	EnrolPIN        Key = "outcome.enrolment.enrol-pin"  // a master card was tapped
	EnrolCard       Key = "outcome.enrolment.enrol-card" // enrolment is open for somebody
	BlockedBadge    Key = "outcome.blocked_badge"        // says not whose it was
	NotStored       Key = "outcome.not_stored"
	Corrected       Key = "outcome.corrected" // another kind was stored in the place of the wrong one

	WhyChosen   Key = "why.chosen" // where the kind of the next tap comes from
	WhySchedule Key = "why.schedule"
	WhyPerson   Key = "why.person"
	ChosenFor   Key = "chosen.for" // %d seconds left

	IdleTap     Key = "idle.tap" // what to do
	IdleSent    Key = "idle.sent"
	PendingOne  Key = "idle.pending.one" // %d punches, %s how long the oldest waits
	PendingMany Key = "idle.pending.many"
	ParkedOne   Key = "idle.parked.one" // %d punches that a person must look at
	ParkedMany  Key = "idle.parked.many"

	Online        Key = "online"
	Offline       Key = "offline"
	ClockSynced   Key = "clock.synced"
	ClockUnset    Key = "clock.unset"
	ClockHoldover Key = "clock.holdover"
	ReaderDown    Key = "reader.down"   // %s the reader's name
	PageLost      Key = "page.lost"     // the page cannot reach the clock
	NotReady      Key = "not.ready"     // no punch could be stored now
	Mended        Key = "outbox.mended" // a damaged file was found and mended since the start
	SpaceLow      Key = "space.low"     // less than a fifth of the card is free

	PINTitle     Key = "pin.title"
	PINNumber    Key = "pin.number"
	PINPassword  Key = "pin.password"
	PINConfirm   Key = "pin.confirm"
	PINClear     Key = "pin.clear"
	PINCancel    Key = "pin.cancel"
	PINWrong     Key = "pin.wrong" // says not which of the two
	PINWait      Key = "pin.wait"  // too many wrong ones: %s how long
	PINFailed    Key = "pin.failed"
	PINLanguage  Key = "pin.language"
	LanguageName Key = "language" // in the language itself

	MineTitle      Key = "mine.title" // a person's own last punches
	MineWait       Key = "mine.wait"  // they are being read
	MineToday      Key = "mine.today"
	MineSuperseded Key = "mine.superseded" // another punch says what this one should have said
	FixAsk         Key = "fix.ask"         // before the kinds that it can be corrected to
	FixLate        Key = "fix.late"        // it cannot be corrected any more
	Close          Key = "close"

	DeliveryPending   Key = "delivery.pending" // where a punch has arrived
	DeliveryDelivered Key = "delivery.delivered"
	DeliveryParked    Key = "delivery.parked"
	DeliverySkipped   Key = "delivery.skipped"

	StatusTitle   Key = "status.title"
	StatusScan    Key = "status.scan" // beside the QR code
	StatusClock   Key = "status.clock"
	StatusStorage Key = "status.storage"
	StatusReady   Key = "status.ready" // punches can be stored
	StatusPunches Key = "status.punches"
	StatusSuccess Key = "status.success" // when something was last delivered
	StatusNever   Key = "status.never"   // not since the start

	DestOK            Key = "dest.ok" // how a destination fares
	DestRetrying      Key = "dest.retrying"
	DestAuthFailed    Key = "dest.auth_failed"
	DestMisconfigured Key = "dest.misconfigured"
	ReaderStateOK     Key = "reader.state.ok"
	ReaderStateDown   Key = "reader.state.down"

	Seconds Key = "for.seconds" // %d
	Minutes Key = "for.minutes" // %d
	Hours   Key = "for.hours"   // %d
	Days    Key = "for.days"    // %d

	Sunday     Key = "weekday.0"
	Monday     Key = "weekday.1"
	Tuesday    Key = "weekday.2"
	Wednesday  Key = "weekday.3"
	Thursday   Key = "weekday.4"
	Friday     Key = "weekday.5"
	Saturday   Key = "weekday.6"
	DateLayout Key = "date.layout" // as for time.Format, digits only in languages other than English
	DateLine   Key = "date.line"   // %[1]s the date, %[2]s the weekday
)

var languages = []struct {
	tag   string
	words map[Key]string
}{
	{"zh-TW", zhTW},
	{"zh-CN", zhCN},
	{"en", en},
	{"vi", vi},
	{"id", id},
	{"th", th},
	{"fil", fil},
}

// Languages lists the tags there are, the standard one first.
func Languages() []string {
	tags := make([]string, len(languages))
	for i, l := range languages {
		tags[i] = l.tag
	}
	return tags
}

// Known reports whether a language has a catalog of its own, so that [For] need
// not put another in its place.
func Known(tag string) bool { _, ok := find(tag); return ok }

// Catalog is one language. The zero Catalog is zh-TW.
type Catalog struct{ at int }

// For returns the catalog of a language tag such as zh-TW, en or en-GB: the very
// one, else the one of its script or its language, else zh-TW. Case, and _ for -, do
// not matter.
func For(tag string) Catalog { at, _ := find(tag); return Catalog{at} }

func find(tag string) (int, bool) {
	tag = strings.ToLower(strings.ReplaceAll(tag, "_", "-"))
	switch base, rest, _ := strings.Cut(tag, "-"); {
	case base != "zh":
	case strings.HasPrefix(rest, "hans"), rest == "", rest == "cn", rest == "sg", rest == "my":
		tag = "zh-cn"
	default: // hant, tw, hk, mo
		tag = "zh-tw"
	}
	for {
		for i, l := range languages {
			if strings.ToLower(l.tag) == tag {
				return i, true
			}
		}
		i := strings.LastIndexByte(tag, '-')
		if i < 0 {
			return 0, false
		}
		tag = tag[:i]
	}
}

// Language returns the catalog's own tag.
func (c Catalog) Language() string { return languages[c.at].tag }

// Say returns a sentence, with its arguments where it has verbs. A key that is in no
// catalog comes back as it is.
func (c Catalog) Say(k Key, args ...any) string {
	s, ok := languages[c.at].words[k]
	if !ok {
		if s, ok = languages[0].words[k]; !ok {
			return string(k)
		}
	}
	if len(args) == 0 {
		return s
	}
	return fmt.Sprintf(s, args...)
}

// Personal returns the sentences that are said to one person, by key, verbs and all:
// the answer to a tap, their own punches, number and PIN. They are said in the
// person's language, whatever the language of the page. The map is the caller's.
func (c Catalog) Personal() map[Key]string {
	words := map[Key]string{}
	for k := range languages[0].words {
		group, _, _ := strings.Cut(string(k), ".")
		switch group {
		case "kind", "greet", "outcome", "pin", "mine", "fix", "delivery", "close", "language", "for":
			words[k] = c.Say(k)
		}
	}
	return words
}

// Words returns all sentences by key, verbs and all, for a page that fills them in
// itself. The map is the caller's.
func (c Catalog) Words() map[Key]string {
	all := maps.Clone(languages[0].words)
	maps.Copy(all, languages[c.at].words)
	return all
}

// Kind returns the word for in, out, go-out or return; "" for any other.
func (c Catalog) Kind(kind string) string { return c.word("kind.", kind) }

// Greeting returns what is said with a stored punch of a kind; "" for no kind.
func (c Catalog) Greeting(kind string) string { return c.word("greet.", kind) }

// Why returns where the next kind comes from: chosen, schedule or person.
func (c Catalog) Why(why string) string { return c.word("why.", why) }

// Clock returns what synced, holdover or unset means.
func (c Catalog) Clock(state string) string { return c.word("clock.", state) }

// Destination returns how a destination fares: ok, retrying, auth_failed or
// misconfigured.
func (c Catalog) Destination(state string) string { return c.word("dest.", state) }

// Reader returns how a reader fares: ok or down.
func (c Catalog) Reader(state string) string { return c.word("reader.state.", state) }

// Outcome returns the sentence of a result; clock is the result's clock state.
func (c Catalog) Outcome(outcome, clock string) string {
	if outcome == "stored" && clock == "unset" {
		return c.Say(StoredUncertain)
	}
	return c.word("outcome.", outcome)
}

// Answer returns the sentence for the answer to a tap; reason is the result's.
func (c Catalog) Answer(outcome, clock, reason string) string {
	if s := c.word("outcome."+outcome+".", reason); reason != "" && s != "" {
		return s
	}
	return c.Outcome(outcome, clock)
}

func (c Catalog) word(prefix, word string) string {
	k := Key(prefix + word)
	if _, ok := languages[0].words[k]; !ok {
		return ""
	}
	return c.Say(k)
}

// Pending returns the line about punches that wait to be delivered, and for how
// long the oldest has.
func (c Catalog) Pending(n int, oldest time.Duration) string {
	switch n {
	case 0:
		return c.Say(IdleSent)
	case 1:
		return c.Say(PendingOne, n, c.Duration(oldest))
	default:
		return c.Say(PendingMany, n, c.Duration(oldest))
	}
}

// Parked returns the line about punches that a person must look at, "" for none.
func (c Catalog) Parked(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return c.Say(ParkedOne, n)
	default:
		return c.Say(ParkedMany, n)
	}
}

// Duration returns a rough length of time, in the largest unit of which there are
// two, or one of the smallest; never less than nothing.
func (c Catalog) Duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d >= 48*time.Hour:
		return c.Say(Days, int(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return c.Say(Hours, int(d/time.Hour))
	case d >= 2*time.Minute:
		return c.Say(Minutes, int(d/time.Minute))
	default:
		return c.Say(Seconds, int(d/time.Second))
	}
}

// WaitPIN says for how long no number and PIN are looked at. It is rounded up, so that
// whoever waits that long has waited long enough.
func (c Catalog) WaitPIN(d time.Duration) string {
	unit := time.Second
	for _, u := range []time.Duration{time.Minute, time.Hour} {
		if d > 2*u {
			unit = u
		}
	}
	return c.Say(PINWait, c.Duration((d+unit-1)/unit*unit))
}

// Weekday returns the name of a day of the week.
func (c Catalog) Weekday(d time.Weekday) string {
	return c.Say(Key(fmt.Sprintf("weekday.%d", int(d))))
}

// Date returns the day of t, in t's own zone, with its weekday.
func (c Catalog) Date(t time.Time) string {
	return c.Say(DateLine, t.Format(c.Say(DateLayout)), c.Weekday(t.Weekday()))
}
