package roster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"punchclock/queue/punch"
)

// open opens a roster that is checked and closed when the test ends.
func open(t testing.TB, path string) *Roster {
	t.Helper()
	r, err := Open(path, Options{Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		check(t, path)
	})
	return r
}

// Whom a file does not change is neither made nor collected again: taps wait for both.
func TestAnImportLeavesInPlaceWhomItDoesNotChange(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	file := func(second string) []*Row {
		return []*Row{row("1", "王小明", "em:0000000001"), row("2", second, "em:0000000002"), row("3", "林小華")}
	}
	replace(t, r, file("陳大文")...)
	if _, _, err := r.Give("em:0000000003", "3", false, "HR"); err != nil {
		t.Fatal(err)
	}
	before := r.now.Load().people
	replace(t, r, file("陳大同")...)
	after := r.now.Load().people
	if after[0] != before[0] || after[1] == before[1] || after[2] != before[2] {
		t.Error("an import has made anew whom it does not change, or has changed whom others look at")
	}
	if before[1].Name != "陳大文" || after[1].Name != "陳大同" || len(after[2].Badges) != 1 {
		t.Errorf("%+v, %+v, %+v", before[1].Employee, after[1].Employee, after[2].Employee)
	}
}

func check(t testing.TB, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func replace(t testing.TB, r *Roster, rows ...*Row) Diff {
	t.Helper()
	d, err := r.Replace(rows)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func row(number, name string, badges ...punch.Badge) *Row {
	return &Row{Employee: punch.Employee{Number: number, Name: name, Badges: badges, Active: true}}
}

func withPIN(r *Row, pin string) *Row { c := *r; c.PIN, c.SetPIN = pin, true; return &c }

func left(r *Row) *Row { c := *r; c.Active = false; return &c }

func TestBadgeFindsItsPersonAlsoAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	wang := row("000123", "王小明", "em:0A1B2C3D4E", "w26:123-45678")
	wang.FeishuID, wang.SigninID, wang.Language = "ou_1", "s1", "zh-TW"
	func() {
		r, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, ok := r.ByBadge("em:0A1B2C3D4E"); ok || r.Len() != 0 {
			t.Fatal("a new roster knows somebody")
		}
		replace(t, r, wang, left(row("9", "李", "em:0000000001")), row("123", "other"))
	}()
	r := open(t, path)
	for _, b := range wang.Badges {
		if e, ok := r.ByBadge(b); !ok || !reflect.DeepEqual(e, wang.Employee) {
			t.Errorf("%s: %+v %v", b, e, ok)
		}
	}
	if e, ok := r.ByNumber("000123"); !ok || e.Name != "王小明" {
		t.Errorf("%+v %v", e, ok)
	}
	if _, ok := r.ByNumber("0123"); ok {
		t.Error("leading zeros do not count")
	}
	if got := r.All(); len(got) != 3 || got[0].Number != "000123" || got[1].Number != "123" || got[2].Number != "9" {
		t.Errorf("%v", got)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
}

func TestWhoLeftKeepsTheNameAndNoLongerPunches(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	replace(t, r, withPIN(left(row("1", "王", "em:0A1B2C3D4E")), "4711"))
	if e, ok := r.ByBadge("em:0A1B2C3D4E"); ok {
		t.Errorf("the badge finds %v", e)
	}
	if r.CheckPIN("1", "4711") {
		t.Error("the PIN opens")
	}
	if e, ok := r.ByNumber("1"); !ok || e.Name != "王" {
		t.Error("the name is gone")
	}
}

func TestReplaceTellsWhatItChangedAndARepeatedOneChangesNothing(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	wake := r.Changed()
	d := replace(t, r, row("3", "c"), withPIN(row("1", "a"), "1111"), row("2", "b", "em:0000000001"))
	if want := (Diff{[]string{"1", "2", "3"}, []string{}, []string{}, 0, map[string][]string{}, nil, []CardChange{{"em:0000000001", "", "2"}}}); !reflect.DeepEqual(d, want) || r.Generation() != 1 {
		t.Errorf("%+v, generation %d", d, r.Generation())
	}
	select {
	case <-wake:
	default:
		t.Error("nobody was woken")
	}
	wake = r.Changed()
	again := []*Row{row("2", "b", "em:0000000001"), withPIN(row("1", "a"), "1111"), row("3", "c")}
	if d = replace(t, r, again...); !d.Empty() || d.Unchanged != 3 || r.Generation() != 1 {
		t.Errorf("%+v, generation %d", d, r.Generation())
	}
	select {
	case <-wake:
		t.Error("woken for nothing")
	default:
	}
	d = replace(t, r, row("4", "d"), withPIN(row("1", "a"), "2222"), row("2", "b", "em:0000000002"))
	if want := (Diff{[]string{"4"}, []string{"1", "2"}, []string{"3"}, 0, map[string][]string{"1": {"pin"}, "2": {"badges"}}, nil, []CardChange{{"em:0000000001", "2", ""}, {"em:0000000002", "", "2"}}}); !reflect.DeepEqual(d, want) || r.Generation() != 2 {
		t.Errorf("%+v, generation %d", d, r.Generation())
	}
	if _, ok := r.ByBadge("em:0000000001"); ok {
		t.Error("the old badge still opens")
	}
}

func TestOneBadgeForTwoPeopleChangesNothing(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	replace(t, r, row("1", "a", "em:0000000001"))
	for _, rows := range [][]*Row{
		{row("1", "a", "em:0000000002"), row("2", "b", "em:0000000002")},
		{row("1", "a"), row("1", "b")},
		{row("", "a")},
	} {
		if _, err := r.Replace(rows); err == nil || strings.Contains(err.Error(), "0000000002") {
			t.Errorf("%v", err)
		}
	}
	if e, ok := r.ByBadge("em:0000000001"); !ok || e.Number != "1" || r.Len() != 1 || r.Generation() != 1 {
		t.Error("the roster changed")
	}
}

func TestFailedReplaceLeavesTheOldRoster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	r := open(t, path)
	replace(t, r, row("1", "a", "em:0000000001"))
	wake := r.Changed()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Replace([]*Row{row("2", "b")}); err == nil {
		t.Fatal("written into a closed file")
	}
	if _, ok := r.ByBadge("em:0000000001"); !ok || r.Len() != 1 {
		t.Error("the roster in memory changed")
	}
	select {
	case <-wake:
		t.Error("woken for nothing")
	default:
	}
}

func TestPINOpensOnlyForItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	r := open(t, path)
	replace(t, r, withPIN(row("1", "a"), "4711"), withPIN(row("2", "b"), "4711"), row("3", "c"))
	for _, tc := range []struct {
		number, pin string
		want        bool
	}{
		{"1", "4711", true}, {"2", "4711", true}, {"1", "4712", false}, {"1", "", false}, {"3", "", false}, {"3", "4711", false},
		{"nobody", "4711", false}, {"", "", false}, {"01", "4711", false},
	} {
		if got := r.CheckPIN(tc.number, tc.pin); got != tc.want {
			t.Errorf("%q %q: %v", tc.number, tc.pin, got)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("4711")) {
		t.Error("the PIN is in the file")
	}
	if a, b := r.now.Load().people[0].pin, r.now.Load().people[1].pin; bytes.Equal(a.mac, b.mac) {
		t.Error("equal PINs look equal")
	}
}

func TestExportEditImportKeepsPINs(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	replace(t, r, withPIN(row("1", "a", "em:0000000001"), "4711"), withPIN(row("2", "b"), "4712"))
	var b bytes.Buffer
	if err := WriteCSV(&b, r.All(), time.UTC); err != nil {
		t.Fatal(err)
	}
	rows, err := ReadCSV("r", []byte(strings.Replace(b.String(), "1,a", "1,Anna", 1)), Cards{}, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	if d := replace(t, r, rows...); len(d.Changed) != 1 || !r.CheckPIN("1", "4711") || !r.CheckPIN("2", "4712") {
		t.Errorf("%+v", d)
	}
	// A file with the column decides: empty is none.
	rows, err = ReadCSV("r", []byte("employee_no,name,pin\n1,Anna,\n2,b,4712\n"), Cards{}, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	if d := replace(t, r, rows...); len(d.Changed) != 1 || r.CheckPIN("1", "4711") || !r.CheckPIN("2", "4712") {
		t.Errorf("%+v", d)
	}
}

// golden makes the records of the stored form from fixed salts and keys.
func golden() (metaRecord, personRecord []byte) {
	key := bytes.Repeat([]byte{7}, 32)
	salt := bytes.Repeat([]byte{9}, 16)
	return seal(metaKey, meta{Generation: 3, People: 1, PINKey: key}),
		seal([]byte("000123"), stored{Name: "王小明", Badges: []punch.Badge{"em:0A1B2C3D4E"}, FeishuID: "ou_1", SigninID: "s1", Language: "zh-TW", Active: true,
			PINSalt: salt, PINMAC: pinMAC(key, salt, "4711")})
}

func TestStoredFormStaysReadable(t *testing.T) {
	const wantMeta = `01f6676bbf{"generation":3,"people":1,"pin_key":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}`
	const wantPerson = `0173175580{"name":"王小明","badges":["em:0A1B2C3D4E"],"feishu_id":"ou_1","signin_id":"s1","language":"zh-TW","active":true,"pin_salt":"CQkJCQkJCQkJCQkJCQkJCQ==","pin_mac":"5+E7DGc8knJhA/hP3NDcFG291G+SqwKVX6QcSkw+RRA="}`
	m, p := golden()
	if got := hex.EncodeToString(m[:5]) + string(m[5:]); got != wantMeta {
		t.Errorf("meta:\n%s", got)
	}
	if got := hex.EncodeToString(p[:5]) + string(p[5:]); got != wantPerson {
		t.Errorf("person:\n%s", got)
	}
	// A file with these records in it, written by hand, is a roster.
	path := filepath.Join(t.TempDir(), "roster.db")
	put(t, path, m, p)
	r := open(t, path)
	e, ok := r.ByBadge("em:0A1B2C3D4E")
	want := punch.Employee{Number: "000123", Name: "王小明", Badges: []punch.Badge{"em:0A1B2C3D4E"}, FeishuID: "ou_1", SigninID: "s1", Language: "zh-TW", Active: true}
	if !ok || !reflect.DeepEqual(e, want) || !r.CheckPIN("000123", "4711") || r.Generation() != 3 {
		t.Errorf("%+v %v", e, ok)
	}
}

// put writes records into a file as they are.
func put(t *testing.T, path string, metaRecord, personRecord []byte) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		p, err := tx.CreateBucketIfNotExists(peopleBucket)
		if err != nil {
			return err
		}
		return errors.Join(b.Put(metaKey, metaRecord), p.Put([]byte("000123"), personRecord))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamagedFileIsMovedAwayAndTheClockGoesOn(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "roster.db")
	func() {
		r, err := Open(whole, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		rows := make([]*Row, 500)
		for i := range rows {
			rows[i] = row(fmt.Sprintf("%06d", i), "somebody", punch.Badge(fmt.Sprintf("em:%010X", i)))
		}
		replace(t, r, rows...)
	}()
	good, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	m, p := golden()
	for name, damage := range map[string]func(path string){
		"no length": func(path string) { write(t, path, nil) },
		"one byte":  func(path string) { write(t, path, []byte{0}) },
		"text":      func(path string) { write(t, path, bytes.Repeat([]byte("roster\n"), 5000)) },
		"zeros":     func(path string) { write(t, path, make([]byte, len(good))) },
		"cut off":   func(path string) { write(t, path, good[:len(good)/4&^4095]) },
		"badge byte": func(path string) {
			write(t, path, bytes.Replace(good, []byte("em:0000000100"), []byte("em:0000000101"), 1))
		},
		"number byte": func(path string) { write(t, path, bytes.Replace(good, []byte("000256"), []byte("000255"), 1)) },
		"pages zeroed": func(path string) {
			write(t, path, append(append([]byte{}, good[:8192]...), make([]byte, len(good)-8192)...))
		},
		"pages of noise": func(path string) {
			write(t, path, append(append([]byte{}, good[:8192]...), bytes.Repeat([]byte{0xFF}, len(good)-8192)...))
		},
		"nobody in it":    func(path string) { put(t, path, seal(metaKey, meta{People: 2, PINKey: make([]byte, 32)}), p) },
		"no key":          func(path string) { put(t, path, seal(metaKey, meta{People: 1}), p) },
		"short record":    func(path string) { put(t, path, m, p[:3]) },
		"empty database":  func(path string) { emptyBolt(t, path) },
		"another product": func(path string) { put(t, path, []byte("{}"), []byte("{}")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "roster.db")
			damage(path)
			_, err := Open(path, Options{})
			d, ok := errors.AsType[*Damaged](err)
			if !ok || d.Path != path || strings.Contains(err.Error(), "somebody") {
				t.Fatalf("%T %v", err, err)
			}
			moved, err := Quarantine(path)
			if err != nil || !strings.HasPrefix(moved, path+".damaged-2") {
				t.Fatalf("%q %v", moved, err)
			}
			if _, err := os.Stat(moved); err != nil {
				t.Error(err)
			}
			r := open(t, path)
			replace(t, r, row("1", "a"))
		})
	}
}

func emptyBolt(t *testing.T, path string) {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTwoQuarantinesInOneSecondKeepBothFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	names := map[string]bool{}
	for range 3 {
		write(t, path, nil)
		moved, err := Quarantine(path)
		if err != nil {
			t.Fatal(err)
		}
		names[moved] = true
	}
	if len(names) != 3 {
		t.Error(names)
	}
}

// Every byte of a small file is changed once: whatever Open says, it comes back,
// and it never gives a badge to somebody else.
func TestNoChangedByteGivesABadgeToSomebodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	func() {
		r, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		replace(t, r, row("1", "a", "em:0000000001"), row("2", "b", "em:0000000002"))
	}()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "roster.db")
	for at := range good {
		// Zeros between the records are many and alike.
		if good[at] == 0 && at%97 != 0 {
			continue
		}
		data := bytes.Clone(good)
		data[at] ^= 1
		write(t, bad, data)
		r, err := Open(bad, Options{})
		if err != nil {
			if errors.Is(err, ErrInUse) {
				t.Fatalf("byte %d: the try before still holds the file", at)
			}
			continue
		}
		for badge, number := range map[punch.Badge]string{"em:0000000001": "1", "em:0000000002": "2"} {
			if e, ok := r.ByBadge(badge); ok && e.Number != number {
				t.Errorf("byte %d: %s finds %s", at, badge, e.Number)
			}
		}
		for _, badge := range []punch.Badge{"em:0000000000", "em:0000000003"} {
			if e, ok := r.ByBadge(badge); ok {
				t.Errorf("byte %d: %s finds %s", at, badge, e.Number)
			}
		}
		if err := r.Close(); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
	}
}

func TestNewerFormIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	m, p := golden()
	m[0] = 2
	put(t, path, m, p)
	_, err := Open(path, Options{})
	if _, damaged := errors.AsType[*Damaged](err); damaged || !errors.Is(err, ErrNewer) {
		t.Error(err)
	}
}

func TestSecondProcessIsToldAndDoesNotWaitForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	open(t, path)
	start := time.Now()
	if _, err := Open(path, Options{Timeout: 50 * time.Millisecond}); !errors.Is(err, ErrInUse) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestReadOnlyNeitherMakesNorChangesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	if _, err := Open(path, Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made")
	}
	func() {
		r, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		replace(t, r, row("1", "a", "em:0000000001"))
	}()
	for range 2 { // beside each other
		r, err := Open(path, Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, ok := r.ByBadge("em:0000000001"); !ok {
			t.Error("not there")
		}
		if _, err := r.Replace(nil); !errors.Is(err, ErrReadOnly) {
			t.Error(err)
		}
	}
}

func TestFileMadeByRootBelongsToTheDirectorysOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file for somebody else")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 4711, 4712); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "roster.db")
	open(t, path)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if uid, gid := owner(st); uid != 4711 || gid != 4712 {
		t.Errorf("owner %d:%d", uid, gid)
	}
}

// rosterOf is one of two rosters that share no row.
func rosterOf(which int) []*Row {
	rows := make([]*Row, 400)
	for i := range rows {
		rows[i] = row(fmt.Sprintf("%06d", i), fmt.Sprintf("roster %d", which), punch.Badge(fmt.Sprintf("em:%02X%08X", which, i)))
	}
	return rows
}

func TestKillDuringReplaceLeavesTheOneOrTheOther(t *testing.T) {
	if path := os.Getenv("ROSTER_KILL_PATH"); path != "" { // the child
		r, err := Open(path, Options{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		for i := 0; ; i++ {
			if _, err := r.Replace(rosterOf(i % 2)); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}
	if testing.Short() {
		t.Skip("under emulation the child cannot be started")
	}
	path := filepath.Join(t.TempDir(), "roster.db")
	seen := map[string]int{}
	for n := range 12 {
		child := exec.Command(os.Args[0], "-test.run=^TestKillDuringReplaceLeavesTheOneOrTheOther$")
		child.Env = append(os.Environ(), "ROSTER_KILL_PATH="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ready := make([]byte, 6)
		if _, err := out.Read(ready); err != nil || string(ready) != "ready\n" {
			t.Fatalf("%q %v", ready, err)
		}
		time.Sleep(time.Duration(5+7*n) * time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		child.Wait()
		r, err := Open(path, Options{Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		all := r.All()
		if len(all) != 0 && len(all) != 400 {
			t.Errorf("%d people", len(all))
		}
		for _, e := range all {
			if e.Name != all[0].Name {
				t.Fatalf("a mixture: %s is of %s, %s of %s", e.Number, e.Name, all[0].Number, all[0].Name)
			}
		}
		if len(all) > 0 {
			seen[all[0].Name]++
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		check(t, path)
	}
	if len(seen) == 0 {
		t.Error("no child got as far as a replacement: nothing was tested")
	}
}

func crowd(n int) []*Row {
	rows := make([]*Row, n)
	for i := range rows {
		rows[i] = row(fmt.Sprintf("%06d", i), "王小明", punch.Badge(fmt.Sprintf("em:%010X", i)), punch.Badge(fmt.Sprintf("w26:%d-%d", i/65536, i%65536)))
	}
	return rows
}

func TestTwentyThousandPeopleAreImportedInTwoSeconds(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("employee_no,name,badges,pin\n")
	for i := range 20_000 {
		fmt.Fprintf(&b, "%06d,王小明,em:%010X;w26:%d-%d,%06d\n", i, i, i/65536, i%65536, i)
	}
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	start := worked(t)
	rows, err := ReadCSV("r", b.Bytes(), Cards{}, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	if d := replace(t, r, rows...); len(d.Added) != 20_000 {
		t.Errorf("%d", len(d.Added))
	}
	// Of the processor, for others may be using it too; the race detector and emulation
	// make it many times slower.
	if took := worked(t) - start; took > 2*time.Second && !raceEnabled && !testing.Short() {
		t.Errorf("took %v", took)
	} else {
		t.Log(took)
	}
}

// worked is how much time of processors this process has used.
func worked(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestLookupAllocatesNothing(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	replace(t, r, crowd(100)...)
	n := testing.AllocsPerRun(100, func() {
		if _, ok := r.ByBadge("em:000000000A"); !ok {
			t.Fatal("not there")
		}
		if _, ok := r.ByNumber("000010"); !ok {
			t.Fatal("not there")
		}
		r.ByBadge("em:FFFFFFFFFF")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestLookupsGoOnDuringReplace(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	replace(t, r, rosterOf(0)...)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, a := r.ByBadge("em:0000000001")
			_, b := r.ByBadge("em:0100000001")
			if e, ok := r.ByNumber("000001"); !ok || len(e.Badges) != 1 {
				t.Error("somebody is missing in between")
				return
			}
			_, _, _ = a, b, r.CheckPIN("000001", "1")
		}
	}()
	for i := range 20 {
		replace(t, r, rosterOf(i%2)...)
	}
	close(stop)
	<-done
}

func BenchmarkByBadge(b *testing.B) {
	r := open(b, filepath.Join(b.TempDir(), "roster.db"))
	replace(b, r, crowd(20_000)...)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.ByBadge("em:0000001234"); !ok {
			b.Fatal("not there")
		}
	}
}

func BenchmarkReplace20000(b *testing.B) {
	r := open(b, filepath.Join(b.TempDir(), "roster.db"))
	rows := [2][]*Row{crowd(20_000), crowd(20_000)}
	rows[1][0].Name = "other"
	for i := 0; b.Loop(); i++ {
		replace(b, r, rows[i%2]...)
	}
}

func BenchmarkOpen20000(b *testing.B) {
	path := filepath.Join(b.TempDir(), "roster.db")
	r, err := Open(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	replace(b, r, crowd(20_000)...)
	r.Close()
	for b.Loop() {
		r, err := Open(path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

func TestAPreviewSaysWhatAnImportWouldDoAndDoesNothing(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	replace(t, r, row("1", "a", "em:0000000001"), row("2", "b"))
	rows := []*Row{row("1", "a", "em:0000000009"), row("3", "c")}
	rows[0].Language = "en"
	d, err := r.Preview(rows)
	want := Diff{[]string{"3"}, []string{"1"}, []string{"2"}, 0, map[string][]string{"1": {"badges", "language"}}, nil, []CardChange{{"em:0000000001", "1", ""}, {"em:0000000009", "", "1"}}}
	if err != nil || !reflect.DeepEqual(d, want) {
		t.Errorf("%+v, %v", d, err)
	}
	if e, _ := r.ByNumber("1"); e.Name != "a" || r.Len() != 2 || r.Generation() != 1 {
		t.Error("something was changed")
	}
	if _, err := r.Preview([]*Row{row("1", "a", "em:0000000001"), row("2", "b", "em:0000000001")}); err == nil {
		t.Error("two people with one card")
	}
}

func TestEveryFieldOfAPersonIsAColumn(t *testing.T) {
	// compare names them one by one: whoever adds a field must add it there.
	if n := reflect.TypeFor[punch.Employee]().NumField(); n != len(columns)-1 { // the PIN is no field
		t.Errorf("%d fields, %d columns", n, len(columns))
	}
}

func TestCountsTellWhoCannotPunchAndNameNobody(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "roster.db"))
	if c := r.Counts(); c.People != 0 || c.Active != 0 {
		t.Errorf("%+v", c)
	}
	thai, other := row("3", "C"), row("5", "E", "em:0000000005")
	thai.Language, other.Language = "th", "en"
	replace(t, r, row("1", "A", "em:0000000001"), withPIN(row("2", "B"), "4711"), thai, left(row("4", "D")), other)
	if c := fmt.Sprintf("%+v", r.Counts()); c != "{People:5 Active:4 NoBadge:2 NoMeans:1 Clashes:0 Languages:[en th]}" {
		t.Errorf("%s", c)
	}
}
