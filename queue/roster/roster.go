// Package roster knows who a badge belongs to.
//
// The roster is a bbolt file of its own (roster.db), apart from the outbox: it
// comes from outside and can be imported again, while a punch cannot. It is read
// once, by [Open]; every lookup is answered from memory, allocates nothing and
// never waits, so that nothing between badge and tone touches a disk. [Roster.Replace]
// puts a whole new roster in the place of the old one, in one transaction: a power
// cut leaves the one or the other, never a mixture, and whoever looks up during it
// gets the old one until the new one is on the medium.
//
// What is asked in which way:
//
//	a badge was read             ByBadge      active people only
//	... before it was known      ByBadgeAt    whoever had the card then
//	a number was typed           CheckPIN     active people with a PIN only
//	a number needs a name        ByNumber     everybody, people who left included
//	a punch needs its person     ByNumberAt   whoever had the number then
//	a card is given, moved,      Give, Take,  one change, and nobody else's row
//	taken, lost or found         Block, ...   is touched
//	a file from HR               ReadCSV, then Replace
//	a file for HR                All, then WriteCSV
//
// Somebody who left keeps the row, so that old punches keep their name, and the
// badge finds nobody: the tap is recorded as of an unknown badge.
//
// # One number, one person at a time
//
// Numbers and cards are used again, and the past never goes with them. Everybody has
// the number for a time (From, To); whoever had it before is kept as a former holder,
// with the name and the ids that the punches of that time are delivered with. A former
// holder comes about when somebody is no longer in an import, or when a row is plainly
// another person's: it begins (valid_from) when the other has ended, or the name differs
// and neither a card nor an id is the same. A name alone that differs, with the card or
// an id the same, is a person renamed. Somebody who is in an import again under the same
// name is the same person again, and nothing was lost meanwhile.
//
// A card that was somebody's is the next one's from the moment on which it was given on
// (or from valid_from, where that comes after the other's end): what was tapped with it
// before, by whomever, never becomes the next one's. The file remembers when a card was
// last somebody's, and which cards are blocked, whoever has them in an import.
//
// A card that was given or moved here, by Give, stays so when a file is imported that
// says of it what the file before said. A file that gives it to somebody new decides.
//
// # One card, one person
//
// Readers tell the same card in different ways: a 125 kHz number as five bytes, as
// ten or eight printed digits, as a Wiegand frame of 34 or 26 bits; a UID in either
// order. The roster may hold any one of them. A badge that is a number is compared
// as a number, so that the notation never matters: w26:18-23011, dec:01202659 and
// dec:018,23011 are one card. Whether a shorter or a reversed reading is the same
// card as a longer one is for the site to say ([Cards]): "last4" makes
// dec:0001202659 the card em:06001259E3.
//
// Two numbers that both tell more than they share are never one card, nor are a
// 125 kHz number and a UID. A reading that could be two people's is nobody's, and
// is recorded as an unknown badge: a card is not guessed. Such pairs are found when
// a file is read, for every reading that the site's readers send, and the import
// is refused with both people and both lines; where the rules were changed after
// it, [Roster.Clashes] names them. A punch keeps what was read; only the person is
// found here.
//
// # The file
//
// Bucket "meta" holds one record under "roster", bucket "people" one record for
// each employee under the number, bucket "former" those who had a number before, under
// the number, a zero byte and two bytes that count, and bucket "cards" what is to be
// remembered of a card whoever has it, under the badge. The last two come about with
// their first record. A record is
//
//	1 byte   form, 1
//	4 bytes  CRC-32C, big-endian, over key, a zero byte, and what follows
//	JSON     the fields; a field that is empty is absent
//
// The checksum is there because bbolt keeps none for its data: one changed byte in
// a badge would go through its check, and a punch would be sent as somebody
// else's. The meta record carries the number of people, so that a lost page is
// noticed, a generation, and the device's PIN key. A file with anything wrong in it
// is not used in part: Open returns [Damaged], the caller moves the file away
// with [Quarantine], goes on with an empty roster and raises the alarm. Taps are
// then recorded as of unknown badges and go out when the roster is imported again.
// A file of a newer form is not damaged, and is left alone ([ErrNewer]).
//
// # PINs
//
// A PIN is kept as argon2id, with a salt of the person's own, of an HMAC of the PIN
// that is keyed with 32 random bytes of the device. Nobody who sees the file's records
// alone, or an export, learns a PIN, and equal PINs do not look equal. The key lies
// in the same file: whoever takes the whole file can try PINs, each at the price of
// an argon2id, and a PIN of four digits is one of ten thousand. That is no worse than
// what the same thief can do with the card, and it is not the final word; a key in a
// secure element would be. What an import brings is kept as the HMAC until
// [Roster.SealPINs] comes to it. PINs are in no export, log or error.
package roster

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// Errors of Open that a caller decides on. Damage is a [*Damaged].
var (
	// ErrInUse: another process has the file open; ask that one.
	ErrInUse = errors.New("the roster is in use by another process")
	// ErrNewer: a later punchclock wrote the file, which this one leaves alone.
	ErrNewer = errors.New("the roster was written by a newer punchclock")
)

// ErrReadOnly is Replace's answer where the file was opened for reading.
var ErrReadOnly = errors.New("the roster was opened for reading only")

// Damaged says that the file is not what was written. Nothing of it is used.
type Damaged struct {
	Path string
	Err  error // what is wrong; holds no name, no badge
}

func (d *Damaged) Error() string {
	return fmt.Sprintf("roster: %s is damaged: %v; move it away and import the roster again", d.Path, d.Err)
}

// Unwrap returns what is wrong.
func (d *Damaged) Unwrap() error { return d.Err }

// Options of Open. The zero value is for the daemon.
type Options struct {
	// Timeout is how long to wait for another process to let go of the file; 0
	// is two seconds.
	Timeout time.Duration
	// ReadOnly opens an existing file beside other readers and changes nothing; a
	// file that is absent is fs.ErrNotExist.
	ReadOnly bool
	// Cards says which readings are one card.
	Cards Cards
	// Now reads the clock; set is false while nobody has set it, and then nobody is kept
	// out for a day that the clock cannot know. Nil is the machine's, and always set.
	Now func() (now time.Time, set bool)
}

// Row is one employee as imported.
type Row struct {
	punch.Employee
	// PIN is what the person types, in clear; "" for none. It counts only where
	// SetPIN is true. Otherwise the person keeps the PIN that is stored, which
	// makes export, edit and import harmless.
	PIN    string
	SetPIN bool
	// Line of the file it came from, 0 for none.
	Line int
}

// Diff is what a Replace changed: employee numbers, sorted.
type Diff struct {
	Added     []string `json:"added"`
	Changed   []string `json:"changed"`
	Removed   []string `json:"removed"`
	Unchanged int      `json:"unchanged"`
	// Columns says for each of Changed what is different: columns of the file. A PIN
	// counts as different where nobody can say, without the time that checking takes,
	// that it is the same.
	Columns map[string][]string `json:"columns"`
	// Passed are those of Added and Changed whose number was somebody else's before: the
	// punches of that time stay that person's.
	Passed []string `json:"passed_on,omitempty"`
	// Cards are those that are another's than before.
	Cards []CardChange `json:"cards,omitempty"`
}

// Empty reports whether nothing changed.
func (d Diff) Empty() bool { return len(d.Added)+len(d.Changed)+len(d.Removed) == 0 }

// Roster is an open roster. Its methods may be called by any number of goroutines
// at the same time.
type Roster struct {
	path  string
	cards Cards
	clock func() (time.Time, bool)
	db    *bolt.DB
	now   atomic.Pointer[snapshot]

	write    sync.Mutex // one change of people at a time; held by Import from its beginning to its end
	commit   sync.Mutex // guards db, torn and what now points to; held for one write, and taken after write by whoever wants both
	torn     bool       // a write failed: the file may hold either state
	checking sync.Mutex // one argon2id at a time: each takes megabytes
	mu       sync.Mutex // guards changed
	changed  chan struct{}
}

// snapshot is one whole roster, never changed once it is published.
type snapshot struct {
	meta    meta
	people  []*person // sorted by number; those that nothing has changed are the same ones as in the snapshot before
	badges  *index
	numbers map[string]int32
	clashes []Clash
	ending  []int32  // people whose time has an end, the last end first
	former  []person // who had a number before; sorted by number, then From
	notes   []Note   // what the audit chain has not been told
	known   register
	noted   *index // the cards of known
	blocked *index // those that are refused
	masters *index // those that open enrolment
}

type person struct {
	punch.Employee
	pin   sealedPIN
	given []punch.Badge // of Badges, those that were given here, and that no file has had
	taken []punch.Badge // cards that the last file gives to this person, and that were taken or moved here since
	since []int64       // of each badge that was somebody else's: from when it is this person's, in ms; else 0. nil: none was
}

// meta is the record "roster" of the bucket "meta".
type meta struct {
	Generation uint64 `json:"generation"`
	People     int    `json:"people"`
	PINKey     []byte `json:"pin_key"`
}

// stored is a record of the bucket "people"; the number is its key.
type stored struct {
	Name     string        `json:"name,omitempty"`
	Badges   []punch.Badge `json:"badges,omitempty"`
	FeishuID string        `json:"feishu_id,omitempty"`
	SigninID string        `json:"signin_id,omitempty"`
	Language string        `json:"language,omitempty"`
	Active   bool          `json:"active"`
	PINSalt  []byte        `json:"pin_salt,omitempty"`
	PINMAC   []byte        `json:"pin_mac,omitempty"`      // until it is sealed
	PINHash  []byte        `json:"pin_argon2id,omitempty"` // of the MAC
	PINCost  []uint32      `json:"pin_cost,omitempty"`     // passes, KiB of memory
	From     int64         `json:"from,omitempty"`         // ms since 1970
	To       int64         `json:"to,omitempty"`
	Since    []int64       `json:"since,omitempty"` // beside Badges
	Given    []punch.Badge `json:"given,omitempty"`
	Taken    []punch.Badge `json:"taken,omitempty"`
}

// Format is the form in which the roster is written; see [ErrNewer].
const Format = form

const form = 1

var (
	metaBucket   = []byte("meta")
	metaKey      = []byte("roster")
	notesKey     = []byte("notes")
	peopleBucket = []byte("people")
	formerBucket = []byte("former")
	cardsBucket  = []byte("cards")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Open reads the roster at path into memory and keeps the file open and locked
// until Close. A file that is absent is created, durably, and is empty.
//
// Errors: *Damaged, ErrInUse, ErrNewer, and those of the file system. It never
// ends the process over what is in the file.
func Open(path string, o Options) (*Roster, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !o.ReadOnly {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("roster: create: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("roster: open: %w", err)
	}
	if err := queue.CheckFile(path); err != nil {
		var d *queue.Damage
		if errors.As(err, &d) {
			return nil, &Damaged{path, err}
		}
		return nil, fmt.Errorf("roster: open: %w", err)
	}
	r := &Roster{path: path, cards: o.Cards, clock: o.Now, changed: make(chan struct{})}
	if r.clock == nil {
		r.clock = func() (time.Time, bool) { return time.Now(), true }
	}
	var f *os.File
	options := boltOptions(o)
	options.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		f, err = os.OpenFile(name, flag, mode)
		return f, err
	}
	err := guard(path, func() error {
		var err error
		if r.db, err = bolt.Open(path, 0o600, options); err != nil {
			switch {
			case errors.Is(err, bolterrors.ErrTimeout):
				return fmt.Errorf("roster: %s: %w", path, ErrInUse)
			case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
				return &Damaged{path, err}
			}
			return fmt.Errorf("roster: open: %w", err)
		}
		s, err := load(path, r.db, r.cards)
		if err != nil {
			return errors.Join(err, r.db.Close())
		}
		r.now.Store(s)
		return nil
	})
	if err != nil {
		if f != nil {
			// Closed already, unless bbolt panicked. Then its mapping, which nobody
			// can reach any more, would keep the lock for the life of the process.
			syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
			f.Close()
		}
		return nil, err
	}
	return r, nil
}

func boltOptions(o Options) *bolt.Options {
	return &bolt.Options{
		Timeout:      cmp.Or(o.Timeout, 2*time.Second),
		ReadOnly:     o.ReadOnly,
		FreelistType: bolt.FreelistMapType,
		PageSize:     queue.PageSize,
		// The freelist is stored. Without it bbolt walks the file at Open in a
		// goroutine of its own, where its panic over a damaged page ends the
		// process and guard cannot help.
		NoFreelistSync: false,
	}
}

// guard runs f and turns a panic or a fault on the mapped file into Damaged:
// bbolt trusts its pages.
func guard(path string, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = &Damaged{path, fmt.Errorf("reading it went wrong: %v", p)}
		}
	}()
	return f()
}

// create makes an empty roster beside path and renames it into place: bbolt's weak
// moment is its very first write, and a file under the final name is a whole one.
func create(path string) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(tmp, 0o600, boltOptions(Options{}))
	if err != nil {
		return err
	}
	m := meta{PINKey: make([]byte, 32)}
	rand.Read(m.PINKey) // never fails: see crypto/rand
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if err := b.Put(metaKey, seal(metaKey, m)); err != nil {
			return err
		}
		_, err = tx.CreateBucket(peopleBucket)
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := giveToOwner(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(path)
}

// giveToOwner lets the daemon's user have a file that root makes in its
// directory, so that an import run with sudo does not lock the daemon out.
func giveToOwner(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	owner, ok := dir.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}

func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Quarantine moves the file at path aside, under a name with today's date, and
// returns that name. It must not be open.
func Quarantine(path string) (string, error) {
	base := path + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	moved := base
	for n := 2; ; n++ {
		if _, err := os.Lstat(moved); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", fmt.Errorf("roster: quarantine: %w", err)
		}
		moved = fmt.Sprintf("%s-%d", base, n)
	}
	if err := os.Rename(path, moved); err != nil {
		return "", fmt.Errorf("roster: quarantine: %w", err)
	}
	if err := syncDir(path); err != nil {
		return "", fmt.Errorf("roster: quarantine: %w", err)
	}
	return moved, nil
}

// seal makes a stored record.
func seal(key []byte, v any) []byte {
	var s sealer
	return s.seal(key, v)
}

// sealer makes stored records, one after the other, in the same memory.
type sealer struct {
	person stored
	body   bytes.Buffer
	out    []byte // the records; whoever needs none of them any more may cut it to nothing
}

func (s *sealer) seal(key []byte, v any) []byte {
	s.body.Reset()
	if err := json.NewEncoder(&s.body).Encode(v); err != nil {
		panic(fmt.Sprintf("roster: a record of our own does not encode: %v", err))
	}
	body := bytes.TrimSuffix(s.body.Bytes(), []byte{'\n'})
	from := len(s.out)
	s.out = append(s.out, form)
	s.out = binary.BigEndian.AppendUint32(s.out, checksum(key, body))
	s.out = append(s.out, body...)
	return slices.Clip(s.out[from:])
}

// unseal reads a stored record; v never keeps a byte of the transaction's memory.
func unseal(key, record []byte, v any) error {
	switch {
	case len(record) < 5 || record[0] == 0:
		return errors.New("a record is too short")
	case record[0] > form:
		return ErrNewer
	case binary.BigEndian.Uint32(record[1:]) != checksum(key, record[5:]):
		return errors.New("a record does not match its checksum")
	}
	return json.Unmarshal(record[5:], v)
}

func checksum(key, body []byte) uint32 {
	c := crc32.Update(0, castagnoli, key)
	c = crc32.Update(c, castagnoli, []byte{0})
	return crc32.Update(c, castagnoli, body)
}

// load reads the whole file.
func load(path string, db *bolt.DB, cards Cards) (*snapshot, error) {
	var m meta
	var people []*person
	var former []person
	var notes []Note
	known := register{}
	err := db.View(func(tx *bolt.Tx) error {
		b, p := tx.Bucket(metaBucket), tx.Bucket(peopleBucket)
		if b == nil || p == nil {
			return errors.New("a bucket is missing")
		}
		if err := unseal(metaKey, b.Get(metaKey), &m); err != nil {
			return err
		}
		var err error
		if notes, err = readNotes(tx); err != nil {
			return err
		}
		err = p.ForEach(func(k, v []byte) error {
			p, err := readPerson(k, v, string(k))
			people = append(people, &p)
			return err
		})
		if b := tx.Bucket(formerBucket); b != nil && err == nil {
			err = b.ForEach(func(k, v []byte) error {
				number, _, _ := bytes.Cut(k, []byte{0})
				p, err := readPerson(k, v, string(number))
				former = append(former, p)
				return err
			})
		}
		if b := tx.Bucket(cardsBucket); b != nil && err == nil {
			err = b.ForEach(func(k, v []byte) error {
				var c card
				err := unseal(k, v, &c)
				known[punch.Badge(k)] = c
				return err
			})
		}
		return err
	})
	if errors.Is(err, ErrNewer) {
		return nil, fmt.Errorf("roster: %s: %w", path, ErrNewer)
	}
	if err == nil && len(people) != m.People {
		err = fmt.Errorf("it holds %d people and was written with %d", len(people), m.People)
	}
	if err == nil && len(m.PINKey) != 32 {
		err = errors.New("the PIN key is missing")
	}
	if err != nil {
		return nil, &Damaged{path, err}
	}
	s, err := newSnapshot(m, people, cards, nil)
	if err != nil {
		return nil, &Damaged{path, err}
	}
	s.former, s.notes = former, notes
	s.remember(known, cards)
	return s, nil
}

func readPerson(k, v []byte, number string) (person, error) {
	var e stored
	if err := unseal(k, v, &e); err != nil {
		return person{}, err
	}
	if e.Since != nil && len(e.Since) != len(e.Badges) {
		return person{}, errors.New("a person's cards do not match their times")
	}
	pin, err := readPIN(e)
	return person{
		punch.Employee{Number: number, Name: e.Name, Badges: e.Badges, FeishuID: e.FeishuID,
			SigninID: e.SigninID, Language: e.Language, Active: e.Active, From: moment(e.From), To: moment(e.To)},
		pin, e.Given, e.Taken, e.Since,
	}, err
}

// newSnapshot indexes people, who come sorted by number. It refuses a number or a badge
// that is there twice, and notes cards that the site's readers would mix up.
func newSnapshot(m meta, people []*person, cards Cards, rest *queue.Pace) (*snapshot, error) {
	s := &snapshot{meta: m, people: people, badges: newIndex(cards, len(people)), numbers: make(map[string]int32, len(people))}
	for i := range people {
		rest.Step(i)
		p := people[i]
		if p.Number == "" {
			return nil, errors.New("a person has no employee number")
		}
		if i > 0 && people[i-1].Number >= p.Number {
			return nil, fmt.Errorf("employee %s is there twice, or in the wrong place", p.Number)
		}
		s.numbers[p.Number] = int32(i)
		if !p.To.IsZero() {
			s.ending = append(s.ending, int32(i))
			continue
		}
		for _, b := range p.Badges {
			clash, bad := s.badges.add(int32(i), b)
			if bad && clash.BadgeA == clash.BadgeB {
				return nil, fmt.Errorf("badge %s belongs to both %s and %s", b.Masked(), people[clash.A].Number, p.Number)
			}
			if bad {
				s.clashes = append(s.clashes, clash)
			}
		}
	}
	// Whoever leaves has a card for as long as nobody else has it after them.
	slices.SortStableFunc(s.ending, func(a, b int32) int { return people[b].To.Compare(people[a].To) })
	for _, i := range s.ending {
		for _, b := range people[i].Badges {
			if !s.badges.has(b) {
				s.badges.add(i, b)
			}
		}
	}
	return s, nil
}

func (s *snapshot) clashError(c Clash) error {
	return fmt.Errorf("badge %s of %s and badge %s of %s are one card to a reader that tells %d bytes of it; give one of them another card, or take a rule out of badge.same_card",
		c.BadgeA.Masked(), s.people[c.A].Number, c.BadgeB.Masked(), s.people[c.B].Number, c.Bytes)
}

// Clashes says which people's cards the readers of the site cannot tell apart, each
// as an error for a person to read. Such cards find nobody. An import with any is
// refused; they come of rules that were changed after it.
func (r *Roster) Clashes() (errs []error) {
	s := r.now.Load()
	for _, c := range s.clashes {
		errs = append(errs, s.clashError(c))
	}
	return errs
}

// ByBadge finds the active employee whose card was read, in whichever reading; see
// [Cards]. It reads memory only and allocates nothing. The employee's Badges must
// not be changed.
func (r *Roster) ByBadge(b punch.Badge) (punch.Employee, bool) {
	s := r.now.Load()
	i, ok := s.badges.find(b)
	if !ok {
		return punch.Employee{}, false
	}
	now, set := r.clock()
	if s.people[i].works(now, set) {
		return s.people[i].Employee, true
	}
	if set && now.Before(s.people[i].From) { // the next owner's, and still another's
		for _, i := range s.ending {
			if p := s.people[i]; p.works(now, set) && p.holds(r.cards, b) {
				return p.Employee, true
			}
		}
	}
	return punch.Employee{}, false
}

// ByNumber finds who has a number, active or not; where nobody has it now, who had it
// last. Active is as of now. It reads memory only and allocates nothing. The employee's
// Badges must not be changed.
func (r *Roster) ByNumber(number string) (punch.Employee, bool) {
	s := r.now.Load()
	i, ok := s.numbers[number]
	if !ok {
		if f := s.formerOf(number); len(f) > 0 {
			return f[len(f)-1].Employee, true
		}
		return punch.Employee{}, false
	}
	e := s.people[i].Employee
	e.Active = s.people[i].works(r.clock())
	return e, true
}

// All returns everybody, sorted by number (as text). The slice is the caller's,
// the Badges in it must not be changed.
func (r *Roster) All() []punch.Employee {
	s := r.now.Load()
	all := make([]punch.Employee, len(s.people))
	for i, p := range s.people {
		all[i] = p.Employee
	}
	return all
}

// Len returns how many people there are, those who left included.
func (r *Roster) Len() int { return len(r.now.Load().people) }

// Counts is how the people of a roster can be told apart.
type Counts struct {
	People, Active int
	NoBadge        int // active people without a badge
	NoMeans        int // ... and without a PIN: they cannot punch
	Clashes        int // pairs of people whose cards are one to a reader of the site
	Languages      []string
}

// Counts counts. Languages are those of active people, sorted, each once.
func (r *Roster) Counts() Counts {
	s := r.now.Load()
	c := Counts{People: len(s.people), Clashes: len(s.clashes)}
	now, set := r.clock()
	for _, p := range s.people {
		if !p.works(now, set) {
			continue
		}
		c.Active++
		if len(p.Badges) == 0 {
			c.NoBadge++
			if !p.pin.given() {
				c.NoMeans++
			}
		}
		if p.Language != "" && !slices.Contains(c.Languages, p.Language) {
			c.Languages = append(c.Languages, p.Language)
		}
	}
	slices.Sort(c.Languages)
	return c
}

// Generation counts the replacements of this file's life; it grows with each one
// that changed something, and only means something within one file.
func (r *Roster) Generation() uint64 { return r.now.Load().meta.Generation }

// Changed returns a channel that is closed when the roster is next replaced. Take
// it before looking something up. A wake-up is a hint.
func (r *Roster) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Replace puts rows in the place of the whole roster, in one transaction, and
// says what that changed; everybody who is not in rows is gone afterwards. Rows
// equal to what is stored write nothing and wake nobody. It blocks for the medium
// (about a second for 20,000 people on a slow card) and may be repeated.
//
// After an error the roster in memory is the old one. Where the error came from the
// medium, the file may hold the old one or the new one; another Replace settles
// it. Rows in which a number or a badge occurs twice are refused as a whole.
func (r *Roster) Replace(rows []*Row) (Diff, error) { return r.Import(rows, Source{}) }

// Import is Replace by a file that came from somewhere, which the audit chain is told;
// see [Roster.Notes].
func (r *Roster) Import(rows []*Row, from Source) (Diff, error) {
	r.write.Lock()
	defer r.write.Unlock()
	return r.replace(rows, true, func(s *snapshot, d *Diff) error {
		if from.May != nil {
			if err := from.May(*d); err != nil {
				return err
			}
		}
		// A file that only adds people, and gives them cards that were nobody's, changes
		// nothing that stands: the punches that it links say so by themselves.
		if len(d.Passed) > 0 || slices.ContainsFunc(d.Cards, func(c CardChange) bool { return c.From != "" }) {
			s.noteImport(r.now.Load(), d, from)
		}
		return nil
	})
}

// replace is Import for whoever holds write; file says that the rows are a file's, which
// knows nothing of what was done to cards here. note is called where anything is
// different, before it is, to tell the chain; its error is replace's. The cards of never
// are taken from their people as if they had never been theirs.
func (r *Roster) replace(rows []*Row, file bool, note func(*snapshot, *Diff) error, never ...punch.Badge) (Diff, error) {
	if r.db.IsReadOnly() {
		return Diff{}, fmt.Errorf("roster: replace: %w", ErrReadOnly)
	}
	old := r.now.Load()
	s, d, err := r.after(old, rows, file, never...)
	if err != nil {
		return Diff{}, fmt.Errorf("roster: replace: %w; nothing was changed", err)
	}
	if d.Empty() {
		return d, nil
	}
	if err := note(s, &d); err != nil {
		return Diff{}, err
	}
	var rest *queue.Pace
	if file {
		rest = new(queue.Pace)
	}
	if err := r.keep(s, old, rest); err != nil {
		return Diff{}, fmt.Errorf("roster: replace: %w; import the file again", err)
	}
	return d, nil
}

// keep makes s, which was made of old, the roster, first on the medium and then in memory,
// and wakes whoever waits for a change. The caller holds write.
func (r *Roster) keep(s, old *snapshot, rest *queue.Pace) error {
	put, gone := s.differs(old, rest)
	r.commit.Lock()
	few := !r.torn && len(put)+len(gone) <= fewChanges
	var err error
	if few {
		now := r.now.Load()
		s.follow(old, now, r.cards)
		err = r.change(s, now, put, gone)
	}
	r.commit.Unlock()
	if !few {
		err = r.exchange(s, old)
	}
	if err == nil {
		r.wake()
	}
	return err
}

// change writes s over now, which the file holds, and publishes it. The caller holds
// commit.
func (r *Roster) change(s, now *snapshot, put []*person, gone []string) error {
	err := guard(r.path, func() error {
		return r.db.Update(func(tx *bolt.Tx) error { return errors.Join(s.putFew(tx, put, gone), s.putRest(tx, now)) })
	})
	if r.torn = err != nil; !r.torn {
		r.now.Store(s)
	}
	return err
}

func (r *Roster) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
}

// Preview says what Replace would change, and changes nothing. Its errors are those
// of Replace that the rows are to blame for.
func (r *Roster) Preview(rows []*Row) (Diff, error) {
	_, d, err := r.after(r.now.Load(), rows, true)
	if err != nil {
		return Diff{}, fmt.Errorf("roster: %w", err)
	}
	return d, nil
}

// putRest writes everything but the people, as far as it is different from old, what the
// file holds.
func (s *snapshot) putRest(tx *bolt.Tx, old *snapshot) error {
	if old == nil || !sameFormer(old.former, s.former) {
		if err := putFormer(tx, s.former); err != nil {
			return err
		}
	}
	if err := s.known.put(tx, old); err != nil {
		return err
	}
	if err := putNotes(tx, s.notes); err != nil {
		return err
	}
	return tx.Bucket(metaBucket).Put(metaKey, seal(metaKey, s.meta))
}

// record is the stored form of a person, under this key.
func (s *sealer) record(key []byte, p *person) []byte {
	e := &s.person
	*e = stored{Name: p.Name, Badges: p.Badges, FeishuID: p.FeishuID, SigninID: p.SigninID, Language: p.Language, Active: p.Active,
		From: millis(p.From), To: millis(p.To), Since: p.since, Given: p.given, Taken: p.taken}
	e.PINSalt, e.PINMAC, e.PINHash, e.PINCost = p.pin.stored()
	return s.seal(key, e)
}

// difference walks two sorted rosters side by side.
func difference(old, new *snapshot, rest *queue.Pace) Diff {
	d := Diff{Added: []string{}, Changed: []string{}, Removed: []string{}, Columns: map[string][]string{}}
	i, j := 0, 0
	for i < len(old.people) || j < len(new.people) {
		rest.Step(i + j)
		switch {
		case j == len(new.people) || i < len(old.people) && old.people[i].Number < new.people[j].Number:
			d.Removed = append(d.Removed, old.people[i].Number)
			i++
		case i == len(old.people) || new.people[j].Number < old.people[i].Number:
			d.Added = append(d.Added, new.people[j].Number)
			j++
		default:
			if different := compare(old.people[i], new.people[j]); different == nil {
				d.Unchanged++
			} else {
				d.Changed = append(d.Changed, new.people[j].Number)
				d.Columns[new.people[j].Number] = different
			}
			i++
			j++
		}
	}
	return d
}

// compare returns the columns in which two records of one number differ.
func compare(a, b *person) (different []string) {
	if a == b {
		return nil
	}
	for i, same := range []bool{true, a.Name == b.Name, slices.Equal(a.Badges, b.Badges), a.pin.equal(&b.pin),
		a.FeishuID == b.FeishuID, a.SigninID == b.SigninID, a.Language == b.Language, a.Active == b.Active, a.From.Equal(b.From), a.To.Equal(b.To)} {
		if !same {
			different = append(different, columns[i])
		}
	}
	return different
}

// Close lets go of the file. Lookups go on from memory.
func (r *Roster) Close() error {
	r.write.Lock()
	defer r.write.Unlock()
	r.commit.Lock()
	defer r.commit.Unlock()
	if err := r.db.Close(); err != nil {
		return fmt.Errorf("roster: close: %w", err)
	}
	return nil
}
