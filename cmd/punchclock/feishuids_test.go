package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"punchclock/sync/feishu"
	"punchclock/sync/sandbox"
)

func TestFeishuIDsAreFilledInFromMobilesAndAddressesAndNothingElseIsChanged(t *testing.T) {
	h := newHouse(t, settings{people: 60})
	var known []sandbox.Person
	contacts := "employee_no;dept;mobile;email\n" // as Excel saves it in many countries
	for i, p := range h.people {
		s := sandbox.Person{Number: p.number, FeishuID: "fs" + p.number, Mobile: fmt.Sprintf("+8869000%05d", i), Email: fmt.Sprintf("canary%d@example.com", i)}
		switch i {
		case 3: // Feishu does not know this one
		default:
			known = append(known, s)
		}
		switch i {
		case 4:
			contacts += p.number + ";R&D;;\n" // nothing to ask with
		case 5:
			contacts += p.number + ";R&D;+886 9000-00005;canary6@example.com\n" // two people's
		case 7:
			contacts += p.number + ";R&D;;canary8@example.com\n" // somebody else's
		default:
			contacts += fmt.Sprintf("%s;R&D;%s;%s\n", p.number, s.Mobile, s.Email)
		}
	}
	contacts += "999999;R&D;+886900099999;\n"
	h.fs.SetPeople(known, false)
	file := h.write("contacts.csv", "\uFEFF"+strings.ReplaceAll(contacts, "\n", "\r\n"))
	if out, code := h.run("roster", "feishu-ids", "--config", h.config, file); code != 3 || !strings.Contains(out, "only the running clock can ask") {
		t.Errorf("without a clock: %d\n%s", code, out)
	}
	h.openClouds()
	h.start()
	out := filepath.Join(h.dir, "with-ids.csv")
	ask := func(want int) (r idsReport) {
		t.Helper()
		text, code := h.run("roster", "feishu-ids", "--config", h.config, "--output", out, "--json", file)
		if code != want {
			t.Fatalf("%d\n%s", code, text)
		}
		if err := json.NewDecoder(strings.NewReader(text)).Decode(&r); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if strings.Contains(text, "@") || strings.Contains(text, "+886") {
			t.Errorf("the report holds a number or an address:\n%s", text)
		}
		return r
	}
	// The app may not look: said with the permission, and the clock's deliveries go on.
	h.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.ScopeMissing = "contact:user.id:readonly" })
	if r := ask(3); r.Finished || r.Left != 59 || !strings.Contains(r.Problem, "give the app the permission contact:user.id:readonly") {
		t.Errorf("%+v", r)
	}
	// What an earlier, broken off run has written is not asked for again.
	h.fs.SetFaults(func(f *sandbox.FeishuFaults) { f.ScopeMissing = "" })
	whole := file
	file = h.write("part.csv", strings.Join(strings.SplitAfter(contacts, "\n")[:31], ""))
	if r := ask(0); !r.Finished || r.Asked != 29 || len(r.Found) != 25 {
		t.Errorf("the first thirty: %+v", r)
	}
	file = whole
	r := ask(0)
	if !r.Finished || r.Already != 25 || r.Asked != 34 {
		t.Errorf("%+v", r)
	}
	if fmt.Sprint(r.NoContact, r.NotInRoster) != "[000005] [999999]" {
		t.Errorf("%+v", r)
	}
	// Those that are not settled are asked again each time, the others never.
	r = ask(0)
	if r.Already != 55 || r.Asked != 4 || fmt.Sprint(r.Unknown, r.Conflict, r.SameID) != "[000004] [000006] [000009=000008]" {
		t.Errorf("asked again: %+v", r)
	}
	if code := func() int {
		_, code := h.run("roster", "import", "--config", h.config, out)
		return code
	}(); code != 0 {
		t.Fatal(code)
	}
	var rows []rosterRow
	text, _ := h.run("roster", "ls", "--json", "--config", h.config)
	if err := json.Unmarshal([]byte(text), &rows); err != nil || len(rows) != 60 {
		t.Fatalf("%v %d", err, len(rows))
	}
	for i, row := range rows {
		want := "fs" + row.Number
		if i == 3 || i == 4 || i == 5 || i == 7 || i == 8 {
			want = ""
		}
		if row.FeishuID != want || row.Name != h.people[i].name || len(row.Badges) != 1 {
			t.Errorf("%+v, want id %q", row, want)
		}
	}
	written, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"log": h.logged(), "file": string(written)} {
		if strings.Contains(text, "canary") || strings.Contains(text, "+8869") {
			t.Errorf("the %s holds a number or an address", what)
		}
	}
	h.stop()
}

func TestContactsAreReadStrictlyAndNeverQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"":                                          "f:1:1: the file is empty",
		"employee_no,name\n1,x\n":                   "f:1:1: the columns employee_no, and mobile or email or both",
		"employee_no,mobile\n1,9.12E+11\n":          "f:2:3: the mobile number is not 6 to 15 digits",
		"employee_no,email\n1,canary\n":             "f:2:3: this is not an e-mail address",
		"employee_no,email\n,canary@x.com\n":        "f:2:1: the employee number is empty",
		"employee_no,email\n1,a@x.com\n1,b@x.com\n": `f:3:1: employee number "1" is on line 2 and on line 3`,
		"employee_no,email\n1\n":                    "f:2:1: wrong number of fields",
	} {
		_, err := readContacts("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "9.12") {
			t.Errorf("%q: %v", text, err)
		}
	}
	rows, err := readContacts("f", []byte("\uFEFFEMail,x, employee_no ,Mobile\n a@b.co ,1,000123,+886 912-345-678\n,,,\n"))
	if want := (contactRow{"000123", feishu.Contact{Mobile: "+886912345678", Email: "a@b.co"}}); err != nil || len(rows) != 1 || rows[0] != want {
		t.Errorf("%+v, %v", rows, err)
	}
}

func TestALotThatFailsKeepsTheLotsBefore(t *testing.T) {
	var rows []rosterRow
	var contacts []contactRow
	for i := range 120 {
		n := fmt.Sprintf("%06d", i)
		rows = append(rows, rosterRow{Number: n})
		contacts = append(contacts, contactRow{n, feishu.Contact{Email: n + "@x.com"}})
	}
	saved := 0
	w := idWork{rows: rows, save: func([]rosterRow) error { saved++; return nil }}
	lots := 0
	ask := func(lot []feishu.Contact) ([]feishu.Found, error) {
		if lots++; lots == 2 {
			return nil, errors.New("the line is cut")
		}
		found := make([]feishu.Found, len(lot))
		for i, c := range lot {
			found[i].ID = "id-" + c.Email[:6]
		}
		return found, nil
	}
	r, err := w.run(contacts, ask)
	if err != nil || r.Finished || r.Left != 70 || len(r.Found) != 50 || saved != 1 || r.Problem != "the line is cut" {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = w.run(contacts, ask)
	if err != nil || !r.Finished || r.Already != 50 || len(r.Found) != 70 || w.rows[119].FeishuID != "id-000119" {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzContacts(f *testing.F) {
	f.Add([]byte("employee_no,mobile,email\n1,+886912345678,a@b.c\n"))
	f.Add([]byte("\xEF\xBB\xBFemployee_no;email\r\n\"1\";a@b.c\r\n"))
	f.Add([]byte("employee_no\tmobile\n1\t\"x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := readContacts("f", b)
		if err != nil {
			return
		}
		for _, r := range rows {
			if r.number == "" || r.contact.Mobile != "" && !mobileForm.MatchString(r.contact.Mobile) || r.contact.Email != "" && !emailForm.MatchString(r.contact.Email) {
				t.Errorf("%+v", r)
			}
		}
	})
}

// More people than one call may ask for, with the real program.
func TestMoreThanFiftyPeopleAreAskedForInCallsOfFiftyAtMost(t *testing.T) {
	const n, strangers = 130, 7
	h := newHouse(t, settings{people: n})
	var known []sandbox.Person
	contacts := "employee_no,mobile,email\n"
	for i, p := range h.people {
		s := sandbox.Person{Number: p.number, FeishuID: "fs" + p.number, Mobile: fmt.Sprintf("+8869000%05d", i)}
		if i%20 != 7 {
			known = append(known, s)
		}
		contacts += fmt.Sprintf("%s,%s,\n", p.number, s.Mobile)
	}
	h.fs.SetPeople(known, false)
	h.openClouds()
	h.start()
	out := filepath.Join(h.dir, "with-ids.csv")
	text, code := h.run("roster", "feishu-ids", "--config", h.config, "--json", "--output", out, h.write("contacts.csv", contacts))
	var r idsReport
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&r); err != nil || code != 0 {
		t.Fatalf("%d %v\n%s", code, err, text)
	}
	if !r.Finished || r.Asked != n || len(r.Found) != n-strangers || len(r.Unknown) != strangers || r.Unknown[1] != "000028" {
		t.Errorf("%+v", r)
	}
	lots := 0
	for _, c := range h.fs.Calls() { // one of more than fifty is refused there
		if c.Path == sandbox.FeishuIDPath {
			lots++
		}
	}
	if lots != 3 {
		t.Errorf("asked in %d calls", lots)
	}
	h.stop()
}
