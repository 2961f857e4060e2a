package roster

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"punchclock/queue/punch"
)

func holderOf(t testing.TB, r *Roster, b punch.Badge) string {
	t.Helper()
	e, ok := r.ByBadge(b)
	if !ok {
		return ""
	}
	return e.Number
}

// openWith opens a roster in which the people 1, 2, … hold these badges.
func openWith(t testing.TB, c Cards, badges ...punch.Badge) *Roster {
	t.Helper()
	r, err := Open(filepath.Join(t.TempDir(), "roster.db"), Options{Cards: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	var rows []*Row
	for i, b := range badges {
		rows = append(rows, &Row{Employee: punch.Employee{Number: fmt.Sprint(i + 1), Badges: []punch.Badge{b}, Active: true}})
	}
	replace(t, r, rows...)
	return r
}

// The forms in which sellers print and readers send two tags, and a UID.
func TestOneCardIsOnePersonHoweverItIsRead(t *testing.T) {
	for _, c := range []struct {
		rules    []Rule
		readings string // all of them one card
	}{
		{nil, "em:06001259E3 dec:0025771006435 dec:025771006435"},
		{nil, "em:01026F6C3A dec:004335823930 dec:0004335823930"},
		{nil, "w34:18-23011 dec:0001202659 dec:00018,23011 uid:001259E3 w32:18-23011 w34:00018-23011"},
		{nil, "w26:18-23011 dec:01202659 dec:018,23011 w24:18-23011 w26:018-23011"},
		{[]Rule{Last4, Last3}, "em:06001259E3 dec:0025771006435"},
		{[]Rule{Last4}, "em:01026F6C3A"},
		{nil, "uid:DEADBEEF dec:3735928559"},
		{[]Rule{Reversed}, "uid:DEADBEEF uid:EFBEADDE"},
		{[]Rule{Reversed}, "uid:04A1B2C3D4E580 uid:80E5D4C3B2A104"},
	} {
		all := strings.Fields(c.readings)
		for _, has := range all {
			r := openWith(t, Cards{Same: c.rules}, punch.Badge(has), "em:0A0B0C0D0E")
			for _, reads := range all {
				if holderOf(t, r, punch.Badge(reads)) != "1" {
					t.Errorf("%v: the roster has %s, read as %s: nobody", c.rules, has, reads)
				}
			}
		}
	}
	for _, c := range []struct {
		rule       Rule
		has, reads punch.Badge
	}{
		{Last4, "em:01026F6C3A", "dec:0040856634"},
		{Last4, "em:01026F6C3A", "dec:00623,27706"},
		{Last4, "em:01026F6C3A", "w34:623-27706"},
		{Last3, "em:01026F6C3A", "dec:07302202"}, // 6H→8D of 6F6C3A
		{Last3, "em:01026F6C3A", "dec:111,27706"},
		{Last3, "em:01026F6C3A", "w26:111-27706"},
		{Last3, "w34:623-27706", "w26:111-27706"},
		{Last3, "dec:0040856634", "w26:111-27706"},
		{Last4, "em:06001259E3", "dec:0001202659"},
		{Last3, "em:06001259E3", "w26:18-23011"},
		{Reversed, "uid:DEADBEEF", "dec:4022250974"},
		{First3, "uid:DEADBEEF", "dec:14593470"},
		{Last3, "uid:DEADBEEF", "dec:11386607"},
		{First4, "uid:04A1B2C3D4E580", "uid:04A1B2C3"},
		{Last4, "uid:04A1B2C3D4E580", "w34:50132-58752"},
		{First4Reversed, "uid:04A1B2C3D4E580", "uid:C3B2A104"},
		{Last4Reversed, "uid:04A1B2C3D4E580", "uid:80E5D4C3"},
		{First3Reversed, "uid:DEADBEEF", "w26:190-44510"},
		{Last3Reversed, "uid:DEADBEEF", "w26:239-48813"},
		{Last4Reversed, "em:06001259E3", "w34:58201-4608"},
	} {
		for _, way := range [][2]punch.Badge{{c.has, c.reads}, {c.reads, c.has}} {
			r := openWith(t, Cards{Same: []Rule{c.rule}}, way[0])
			if holderOf(t, r, way[1]) != "1" {
				t.Errorf("%s: the roster has %s, read as %s: nobody", c.rule, way[0], way[1])
			}
			if o := r.Owners(way[1], []Rule{c.rule}); len(o) != 1 || o[0].Rule != c.rule || o[0].Badge != way[0] {
				t.Errorf("%s: owners of %s: %+v", c.rule, way[1], o)
			}
			// Without its rule it is another card.
			if r = openWith(t, Cards{}, way[0]); holderOf(t, r, way[1]) != "" {
				t.Errorf("without a rule the roster's %s is read as %s", way[0], way[1])
			}
		}
	}
}

func TestOtherCardsStayOtherCards(t *testing.T) {
	every := Cards{Same: Rules}
	for _, c := range [][2]punch.Badge{
		{"em:06001259E3", "em:07001259E3"},             // both say more than they share
		{"em:06DEADBEEF", "uid:DEADBEEF"},              // 125 kHz and 13.56 MHz are never one plastic
		{"uid:001259E3", "em:06001259E3"},              //
		{"uid:04A1B2C3D4E580", "uid:05A1B2C3D4E580"},   //
		{"w26:18-23011", "w26:18-23012"},               //
		{"w37:18-23011", "w26:18-23011"},               // a 37-bit card is itself only
		{"dec:99999999", "w26:255-65535"},              // eight digits, yet more than 24 bits
		{"dec:4294967296", "uid:00000000"},             // ten digits, yet more than 32 bits
		{"key:000123", "dec:000123"},                   //
		{"dec:0001202659", "dec:0001202658"},           //
		{"uid:04A1B2C3D4E580", "uid:88" + "04A1B2"},    // the cascade tag and three bytes is no number of a card
		{"w26:256-0", "w34:1-0"},                       // facility out of range
		{"w26:1-65536", "w26:2-0"},                     //
		{"uid:04A1B2C3D4E5801122AA", "w26:4354-43690"}, //
	} {
		r := openWith(t, every, c[0])
		if holderOf(t, r, c[1]) != "" {
			t.Errorf("the roster's %s is found by %s", c[0], c[1])
		}
	}
}

// A reading that two rules lead to two people is nobody's.
func TestACardThatCouldBeTwoPeoplesIsNobodys(t *testing.T) {
	r := openWith(t, Cards{Same: []Rule{First3, Last3}}, "w26:222-44478", "w26:173-48879") // DEADBE and ADBEEF
	if got := holderOf(t, r, "uid:DEADBEEF"); got != "" {
		t.Errorf("guessed %s", got)
	}
	if o := r.Owners("uid:DEADBEEF", []Rule{First3, Last3}); len(o) != 2 {
		t.Errorf("owners %+v", o)
	}
}

const mixed = "em:06001259E3 and em:07001259E3 are one card to a Wiegand 34 reader"

func TestAnImportNamesBothPeopleWhoseCardsAReaderWouldMixUp(t *testing.T) {
	file := func(a, b string) string {
		return "employee_no,badges\n000123,uid:11223344\n000124," + a + "\n000125," + b + "\n"
	}
	for _, c := range []struct {
		name   string
		cards  Cards
		a, b   string
		refuse string // part of the message, "" for a good file
	}{
		{"two notations of one number", Cards{}, "em:06001259E3", "dec:0025771006435", "badge em:…9E3 on line 3 (employee 000124) and badge dec:…435 on line 4 (employee 000125)"},
		{"a narrow reading of the other's card", Cards{Same: []Rule{Last3}, Reads: []int{5}}, "em:06001259E3", "w26:18-23011", "a reader that tells 3 bytes"},
		{"the same, the other way round", Cards{Same: []Rule{Last3}, Reads: []int{5}}, "w26:18-23011", "em:06001259E3", "on line 3 (employee 000124)"},
		{mixed, Cards{Same: []Rule{Last4}, Reads: []int{4, 5}}, "em:06001259E3", "em:07001259E3", "a reader that tells 4 bytes"},
		{"the same where no such reader is", Cards{Same: []Rule{Last4}, Reads: []int{5}}, "em:06001259E3", "em:07001259E3", ""},
		{"the same without the rule", Cards{}, "em:06001259E3", "em:07001259E3", ""},
		{"byte orders", Cards{Same: []Rule{Reversed}}, "uid:DEADBEEF", "dec:4022250974", "a reader that tells 4 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, err := ReadCSV("r", []byte(file(c.a, c.b)), c.cards, time.UTC)
			if c.refuse == "" && (err != nil || len(rows) != 3) {
				t.Errorf("refused: %v", err)
			}
			if c.refuse != "" && (err == nil || !strings.Contains(err.Error(), c.refuse) || !strings.HasPrefix(err.Error(), "r:4:8: ")) {
				t.Errorf("%v, want r:4:8: … %q", err, c.refuse)
			}
			if err != nil && strings.Contains(err.Error(), "1259E3") {
				t.Errorf("a whole number: %v", err)
			}
			// A caller that reads no file is refused as well.
			r := openWith(t, c.cards, "em:0A0B0C0D0E")
			_, err = r.Replace([]*Row{
				{Employee: punch.Employee{Number: "000124", Badges: []punch.Badge{punch.Badge(c.a)}, Active: true}},
				{Employee: punch.Employee{Number: "000125", Badges: []punch.Badge{punch.Badge(c.b)}, Active: true}},
			})
			if (err != nil) != (c.refuse != "") {
				t.Errorf("Replace = %v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), "000124") || !strings.Contains(err.Error(), "000125") || holderOf(t, r, "em:0A0B0C0D0E") != "1") {
				t.Errorf("Replace = %v", err)
			}
		})
	}
}

// A third card that is narrow is found though two wide ones had already hidden
// behind each other without harm.
func TestAHarmlessLikenessDoesNotHideAHarmfulOne(t *testing.T) {
	c := Cards{Same: []Rule{Last4}, Reads: []int{5}}
	_, err := ReadCSV("r", []byte("employee_no,badges\n1,em:06001259E3\n2,em:07001259E3\n3,dec:0001202659\n"), c, time.UTC)
	if err == nil || !strings.Contains(err.Error(), "r:4:") {
		t.Errorf("%v", err)
	}
}

func TestRulesThatChangeAfterAnImportAreToldAndNeverGuess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	r, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	replace(t, r,
		&Row{Employee: punch.Employee{Number: "1", Badges: []punch.Badge{"em:06001259E3"}, Active: true}},
		&Row{Employee: punch.Employee{Number: "2", Badges: []punch.Badge{"w26:18-23011"}, Active: true}},
		&Row{Employee: punch.Employee{Number: "3", Badges: []punch.Badge{"em:0102030405"}, Active: true}})
	if len(r.Clashes()) != 0 {
		t.Errorf("%v", r.Clashes())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r, err = Open(path, Options{Cards: Cards{Same: []Rule{Last3}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if c := r.Clashes(); len(c) != 1 || !strings.Contains(c[0].Error(), "of 1 and badge w26:…11 of 2") {
		t.Errorf("%v", c)
	}
	if holderOf(t, r, "w26:18-23011") != "" || holderOf(t, r, "w26:3-1029") != "3" || holderOf(t, r, "em:0102030405") != "3" {
		t.Errorf("%q %q %q", holderOf(t, r, "w26:18-23011"), holderOf(t, r, "w26:3-1029"), holderOf(t, r, "em:0102030405"))
	}
}

func TestACardOfSomebodyWhoLeftIsNobodysInAnyReading(t *testing.T) {
	r := openWith(t, Cards{Same: []Rule{Last4, Last3}})
	replace(t, r, &Row{Employee: punch.Employee{Number: "9", Badges: []punch.Badge{"em:06001259E3"}}})
	for _, b := range []punch.Badge{"em:06001259E3", "w34:18-23011", "w26:18-23011", "dec:01202659"} {
		if got := holderOf(t, r, b); got != "" {
			t.Errorf("%s is %s", b, got)
		}
	}
}

// anyBadge draws readings that are close to each other.
func anyBadge(t *rapid.T, label string) punch.Badge {
	number := number{n: rapid.SampledFrom([]uint8{3, 4, 5, 7}).Draw(t, label+" size")}
	for i := range number.n {
		number.b[i] = rapid.SampledFrom([]byte{0, 1}).Draw(t, label)
	}
	p := rapid.SampledFrom([]plastic{lf, hf, other}).Draw(t, label+" plastic")
	return rapid.SampledFrom(notations(number, p)).Draw(t, label+" notation").Badge
}

// The index answers as walking through everybody does.
func TestLookupAgreesWithLookingAtEverybody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Cards{Same: rapid.SliceOfNDistinct(rapid.SampledFrom(Rules), 0, 4, func(r Rule) Rule { return r }).Draw(t, "rules")}
		badges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) punch.Badge { return anyBadge(t, "badge") }), 1, 6).Draw(t, "badges")
		x := newIndex(c, len(badges))
		clashed := false
		for i, b := range badges {
			_, bad := x.add(int32(i), b)
			clashed = clashed || bad
		}
		read := anyBadge(t, "read")
		var owners []int
		for i, b := range badges {
			if _, ok := c.same(read, b); ok {
				owners = append(owners, i)
			}
		}
		got, ok := x.find(read)
		switch {
		case len(owners) == 0 && ok:
			t.Fatalf("%s is nobody's and found %d", read, got)
		case len(owners) == 1 && !clashed && (!ok || int(got) != owners[0]):
			t.Fatalf("%s is %d's and found %d, %v", read, owners[0], got, ok)
		case len(owners) > 1 && ok:
			t.Fatalf("%s could be any of %v's and found %d", read, owners, got)
		case ok && !slices.Contains(owners, int(got)):
			t.Fatalf("%s is %v's and found %d", read, owners, got)
		}
	})
}

func TestEveryReadingOfACardIsListedWithItsRule(t *testing.T) {
	var got []string
	for _, r := range Readings("em:06001259E3") {
		if strings.HasSuffix(string(r.Rule), "reversed") {
			continue
		}
		got = append(got, strings.TrimSpace(string(r.Badge)+" "+string(r.Rule)))
	}
	want := "em:06001259E3, dec:0025771006435, w34:18-23011 last4, dec:0001202659 last4, dec:00018,23011 last4, " +
		"w26:18-23011 last3, dec:01202659 last3, dec:018,23011 last3"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	for _, b := range []punch.Badge{"w37:1000-123456", "key:000123"} {
		if r := Readings(b); len(r) != 1 || r[0].Badge != b {
			t.Errorf("%s: %v", b, r)
		}
	}
	// What is listed is what the rule makes one card.
	for _, b := range []punch.Badge{"em:06001259E3", "uid:DEADBEEF", "uid:04A1B2C3D4E580", "uid:04A1B2C3D4E5801122AA", "w34:1234-56789", "w26:1-1"} {
		for _, r := range Readings(b) {
			if rule, ok := (Cards{Same: []Rule{r.Rule}}).same(b, r.Badge); !ok || rule != r.Rule {
				t.Errorf("%s and %s by %q: %q, %v", b, r.Badge, r.Rule, rule, ok)
			}
			if _, err := punch.ParseBadge(string(r.Badge)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestWhatIsPrintedOnACardCanBeAskedFor(t *testing.T) {
	for s, want := range map[string]punch.Badge{
		"0001202659": "dec:0001202659", "018,23011": "dec:018,23011", "06001259e3": "", "0A001259E3": "em:0A001259E3",
		" uid:deadbeef ": "uid:DEADBEEF", "1202659": "", "": "", "hello": "",
	} {
		if got, err := CardOf(s); got != want && !(s == "06001259e3" && got == "em:06001259E3") || (err == nil) != (got != "") {
			t.Errorf("%q is %q, %v", s, got, err)
		}
	}
}

func TestLookupUnderEveryRuleIsQuickAndAllocatesNothing(t *testing.T) {
	c := Cards{Same: []Rule{Last4, Last4Reversed, Reversed, First4}, Reads: []int{5}}
	r, err := Open(filepath.Join(t.TempDir(), "roster.db"), Options{Cards: c})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	replace(t, r, crowd(20_000)...)
	reads := []punch.Badge{"em:0000001234", "w34:0-4660", "dec:0000004660", "dec:0000000004660", "uid:DEADBEEF", "w26:1-1", "key:000123", "uid:04A1B2C3D4E580"}
	n := testing.AllocsPerRun(100, func() {
		for _, b := range reads {
			r.ByBadge(b)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	for _, b := range reads[:4] {
		if holderOf(t, r, b) == "" {
			t.Errorf("%s is nobody's", b)
		}
	}
	start := time.Now()
	for range 100 {
		for _, b := range reads {
			r.ByBadge(b)
		}
	}
	if per := time.Since(start) / time.Duration(100*len(reads)); per > time.Millisecond {
		t.Errorf("a lookup took %v", per)
	} else {
		t.Log(per)
	}
}

func FuzzNumberOf(f *testing.F) {
	for _, s := range []string{"em:06001259E3", "uid:04A1B2C3D4E580", "dec:018,23011", "dec:0001202659", "w26:1-1", "w34:1234-56789", "key:1", "dec:,", "w26:-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := punch.Badge(s)
		n, p, ok := numberOf(b)
		if !ok {
			return
		}
		if n.n < 3 || n.n > 10 || p == 0 {
			t.Fatalf("%q: %+v", s, n)
		}
		for _, r := range notations(n, p) {
			m, q, ok := numberOf(r.Badge)
			if !ok || m != n || !p.mixes(q) {
				t.Fatalf("%q written as %s is %+v", s, r.Badge, m)
			}
		}
		for _, r := range Rules {
			if m, ok := r.of(n, p); ok && (m.n > n.n || m == n) {
				t.Fatalf("%q by %s is %+v", s, r, m)
			}
		}
	})
}
