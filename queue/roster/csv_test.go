package roster

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"

	"punchclock/queue/punch"
)

func TestRosterIsReadAsHRWroteIt(t *testing.T) {
	const file = "employee_no,name,badges,pin,feishu_id,signin_id,language,active\n" +
		"000123,王小明,em:0a1b2c3d4e; W26:123-45678 ;em:0A1B2C3D4E,4711,ou_1,s1,zh-TW,\n" +
		"A-1,\"Lee, \"\"Jo\"\"\",,,,,en,no\n" +
		",,,,,,,\n" +
		"7,  Ame\u0301lie  ,uid:04A1B2C3D4E5F6,,,,,YES\n"
	want := []*Row{
		{Employee: punch.Employee{Number: "000123", Name: "王小明", Badges: []punch.Badge{"em:0A1B2C3D4E", "w26:123-45678"},
			FeishuID: "ou_1", SigninID: "s1", Language: "zh-TW", Active: true}, PIN: "4711", SetPIN: true, Line: 2},
		{Employee: punch.Employee{Number: "A-1", Name: `Lee, "Jo"`, Language: "en"}, SetPIN: true, Line: 3},
		{Employee: punch.Employee{Number: "7", Name: "Am\u00e9lie", Badges: []punch.Badge{"uid:04A1B2C3D4E5F6"}, Active: true}, SetPIN: true, Line: 5},
	}
	for name, text := range map[string]string{
		"plain": file, "notepad": "\uFEFF" + strings.ReplaceAll(file, "\n", "\r\n"), "macintosh": strings.ReplaceAll(file, "\n", "\r"),
		"no last line end": strings.TrimSuffix(file, "\n"), "a PIN as its punches have it": strings.Replace(file, ",4711,", ",key:4711,", 1),
	} {
		rows, err := ReadCSV("r.csv", []byte(text), Cards{}, time.UTC)
		if err != nil || !reflect.DeepEqual(rows, want) {
			t.Errorf("%s: %+v\n%v", name, rows, err)
		}
	}
}

func TestColumnsComeInAnyOrderAndOnlyTheNumberIsRequired(t *testing.T) {
	rows, err := ReadCSV("r.csv", []byte(" Badges ,EMPLOYEE_NO\nem:0A1B2C3D4E,0007\n"), Cards{}, time.UTC)
	want := []*Row{{Employee: punch.Employee{Number: "0007", Badges: []punch.Badge{"em:0A1B2C3D4E"}, Active: true}, Line: 2}}
	if err != nil || !reflect.DeepEqual(rows, want) {
		t.Errorf("%+v, %v", rows, err)
	}
	if rows, err = ReadCSV("r.csv", []byte("employee_no\n1\n"), Cards{}, time.UTC); err != nil || len(rows) != 1 {
		t.Errorf("%+v, %v", rows, err)
	}
}

func TestBadRosterIsRefusedWithItsPlaces(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", []string{"r:1:1: the file is empty; the first line names the columns: employee_no,name,badges,pin,feishu_id,signin_id,language,active,valid_from,valid_to"}},
		{"header only", "employee_no,name\n", []string{"r:2:1: there is nobody in this file; an import would remove everybody"}},
		{"unknown column", "employee_no,姓名,badge\n1,a,b\n", []string{
			`r:1:13: column "姓名" is not known; the columns are employee_no, name, badges, pin, feishu_id, signin_id, language, active, valid_from, valid_to`,
			`r:1:16: column "badge" is not known; the columns are employee_no, name, badges, pin, feishu_id, signin_id, language, active, valid_from, valid_to`,
		}},
		{"column twice", "employee_no,name,name\n1,a,b\n", []string{"r:1:18: column name is there twice"}},
		{"no number column", "name,badges\n王,\n", []string{"r:1:1: column employee_no is missing"}},
		{"nameless column", "employee_no,\n1,\n", []string{"r:1:13: a column has no name; the columns are employee_no, name, badges, pin, feishu_id, signin_id, language, active, valid_from, valid_to"}},
		{"UTF-16", "\xFF\xFEe\x00", []string{`r:1:1: the file is UTF-16; save it as "CSV UTF-8"`}},
		{"workbook", "PK\x03\x04\x14", []string{`r:1:1: the file is a workbook, not CSV; save it as "CSV UTF-8"`}},
		{"Big5", "employee_no,name\n1,\xA4\xFD\n", []string{`r:2:1: the text is not UTF-8; save the file as "CSV UTF-8", or say in which encoding it is: big5, gbk, utf-8`}},
		{"open quote", "employee_no,name\n1,\"a\n2,b\n", []string{
			`r:3:5: extraneous or missing " in quoted-field, in the row that begins on line 2; a value in quotes ends with a quote, and a quote inside it is written twice`}},
		{"one value too many", "employee_no,name\n1,Lee, Jo\n2,b\n", []string{
			"r:2:1: this line has 3 values, the header 2; a value that holds what splits the columns must be in quotes"}},
		{"same person twice", "employee_no,name\n0001,a\n1,b\n0001,c\n", []string{"r:4:1: employee number 0001 is on line 2 and on line 4; if they are two people, one after the other, say when in valid_from and valid_to"}},
		{"two people with one badge", "name,employee_no,badges\n王,1,em:0A1B2C3D4E\n李,2,w26:1-2;em:0a1b2c3d4e\n", []string{
			"r:3:5: badge em:…D4E is on line 2 and on line 3 (employees 1 and 2); a badge belongs to one person: take it from whoever gave it back"}},
		{"a badge of somebody who left", "employee_no,badges,active\n1,em:0A1B2C3D4E,0\n2,em:0A1B2C3D4E,1\n", []string{
			"r:3:3: badge em:…D4E is on line 2 and on line 3 (employees 1 and 2); a badge belongs to one person: take it from whoever gave it back"}},
		{"spreadsheet", "employee_no,badges\n1.23E+05,4.335E+09\n1.2,12345\n", []string{
			`r:2:1: employee number "1.23E+05" was changed by a spreadsheet; format the column as text and write the number again`,
			"r:2:10: a badge was changed by a spreadsheet; format the column as text and write <medium>:<value>, for example em:0A1B2C3D4E",
			`r:3:5: badge "?:…5": the medium is missing; write <medium>:<value>, for example em:0A1B2C3D4E`,
		}},
		{"every column", "employee_no,name,badges,pin,feishu_id,signin_id,language,active\n" +
			"王 小明,a\u200bb,em:1,12 34,o u,\"s\n1\",Chinese,maybe\n", []string{
			"r:2:1: the employee number is not 1 to 32 letters, digits, dots, dashes and underscores",
			"r:2:6: the name holds an invisible character or a line break; type it again",
			`r:2:10: badge "em:…": a 125 kHz number is five bytes, ten hexadecimal digits; write <medium>:<value>, for example em:0A1B2C3D4E`,
			"r:2:15: the PIN is not 4 to 12 digits",
			"r:2:21: feishu_id is not 1 to 64 plain characters without spaces",
			"r:2:25: signin_id is not 1 to 64 plain characters without spaces",
			"r:3:4: the language is not a code such as zh-TW, zh-CN or en",
			"r:3:12: active is neither true nor false (1, 0, yes, no)",
		}},
		{"badges that no reader sends", "employee_no,badges\n1,em:0A1B2C3D4E;uiid:04A1B2C3\n2,w26:256-1\n3,w34:123456;w26:123-45678;key:3\n", []string{
			`r:2:3: badge uiid:…C3: no reader sends "uiid"; write one of em, uid, w24, w26, w30, w32, w34, w37, dec, key before the colon`,
			"r:3:3: badge w26:…1: no card has this number; write facility and number, 0-0 to 255-65535",
			"r:4:3: badge w34:…56: no card has this number; write facility and number, 0-0 to 65535-65535",
		}},
		{"no number", "employee_no,name\n,王\n1,\n", []string{"r:2:1: the employee number is empty"}},
		{"long name", "employee_no,name\n1," + strings.Repeat("名", 65) + "\n", []string{"r:2:3: the name is longer than 64 characters"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows, err := ReadCSV("r", []byte(tc.text), Cards{}, time.UTC)
			if rows != nil || err == nil {
				t.Fatalf("read as %+v", rows)
			}
			if got, want := err.Error(), strings.Join(tc.want, "\n"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			notepad := "\uFEFF" + strings.ReplaceAll(tc.text, "\n", "\r\n")
			if strings.HasPrefix(tc.text, "\xFF") || strings.HasPrefix(tc.text, "PK") || tc.text == "" {
				return
			}
			if _, err2 := ReadCSV("r", []byte(notepad), Cards{}, time.UTC); err2 == nil || err2.Error() != err.Error() {
				t.Errorf("with BOM and CRLF:\n%v", err2)
			}
		})
	}
}

func TestOnlyTheFirstTwentyMistakesAreListed(t *testing.T) {
	_, err := ReadCSV("r", []byte("employee_no\n"+strings.Repeat("a b\n", 25)), Cards{}, time.UTC)
	all, ok := errors.AsType[*CSVErrors](err)
	if !ok || len(all.Errors) != 20 || all.More != 5 || !strings.HasSuffix(err.Error(), "\nand 5 more") {
		t.Error(err)
	}
}

func TestExportNeverHoldsAPIN(t *testing.T) {
	rows, err := ReadCSV("r", []byte("employee_no,name,pin\n1,\"a,b\",987654\n"), Cards{}, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WriteCSV(&b, []punch.Employee{rows[0].Employee}, time.UTC); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "employee_no,name,badges,feishu_id,signin_id,language,active\n1,\"a,b\",,,,,true\n"; got != want {
		t.Errorf("%q", got)
	}
	if got := fmt.Sprintf("%v", rows[0].LogValue()); got != "1" {
		t.Errorf("a log would hold %q", got)
	}
}

func FuzzReadCSV(f *testing.F) {
	f.Add([]byte("employee_no,name,badges,pin,feishu_id,signin_id,language,active\n000123,王小明,em:0a1b2c3d4e;w26:1-2,4711,ou,s,zh-TW,yes\n"))
	f.Add([]byte("\xEF\xBB\xBFbadges,employee_no\r\n\"em:0A1B2C3D4E\r\n\",1\r\n"))
	f.Add([]byte("employee_no\r1\r1\r"))
	f.Add([]byte("employee_no,name\n1,\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := ReadCSV("r", data, Cards{}, time.UTC)
		if err != nil {
			all, ok := errors.AsType[*CSVErrors](err)
			if !ok || len(all.Errors) == 0 || len(all.Errors) > 20 || rows != nil {
				t.Fatalf("%v, %v", rows, err)
			}
			for _, e := range all.Errors {
				if e.Line < 1 || e.Col < 1 || e.Msg == "" || !utf8.ValidString(e.Msg) {
					t.Fatalf("%+v", e)
				}
			}
			return
		}
		employees := make([]punch.Employee, len(rows))
		numbers, badges := map[string]bool{}, map[punch.Badge]bool{}
		for i, r := range rows {
			employees[i] = r.Employee
			if numbers[r.Number] || r.Number == "" {
				t.Fatalf("number %q twice", r.Number)
			}
			numbers[r.Number] = true
			for _, b := range r.Badges {
				if badges[b] {
					t.Fatalf("badge %q twice", b)
				}
				badges[b] = true
			}
		}
		var b bytes.Buffer
		if err := WriteCSV(&b, employees, time.UTC); err != nil {
			t.Fatal(err)
		}
		again, err := ReadCSV("r", b.Bytes(), Cards{}, time.UTC)
		if err != nil || len(again) != len(rows) {
			t.Fatalf("does not read back: %v", err)
		}
		for i := range again {
			if !reflect.DeepEqual(again[i].Employee, rows[i].Employee) {
				t.Fatalf("%+v became %+v", rows[i].Employee, again[i].Employee)
			}
		}
	})
}

func TestAFileAsASpreadsheetOfAnotherCountrySavesIt(t *testing.T) {
	want := []*Row{
		{Employee: punch.Employee{Number: "000123", Name: "王小明", Badges: []punch.Badge{"em:0A1B2C3D4E", "w26:123-45678"}, Active: true}, Line: 2},
		{Employee: punch.Employee{Number: "000124", Name: "許功蓋, 副理", Active: true}, Line: 3}, // characters whose second byte is a backslash
	}
	for name, text := range map[string]string{
		"semicolons": "employee_no;name;badges\r\n000123;王小明;\"em:0A1B2C3D4E;w26:123-45678\"\r\n000124;許功蓋, 副理;\r\n",
		"tabs":       "employee_no\tname\tbadges\n000123\t王小明\tem:0A1B2C3D4E;w26:123-45678\n000124\t許功蓋, 副理\t\n",
		"commas":     "\xEF\xBB\xBFemployee_no,name,badges\n000123,王小明,em:0A1B2C3D4E;w26:123-45678\n000124,\"許功蓋, 副理\",\n",
	} {
		got, err := ReadCSV("r", []byte(text), Cards{}, time.UTC)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	utf8 := "employee_no,name\n000124,許功蓋\n"
	for _, e := range []encoding.Encoding{traditionalchinese.Big5, simplifiedchinese.GBK} {
		b, err := e.NewEncoder().Bytes([]byte(utf8))
		if err != nil {
			t.Fatal(err)
		}
		word := "big5"
		if e == simplifiedchinese.GBK {
			word = "gbk"
		}
		if out, err := Decode("r", word, b); err != nil || string(out) != utf8 {
			t.Errorf("%s: %q, %v", word, out, err)
		}
		if _, err := ReadCSV("r", b, Cards{}, time.UTC); err == nil || !strings.Contains(err.Error(), "r:2:1: the text is not UTF-8") {
			t.Errorf("%s taken for UTF-8: %v", word, err)
		}
	}
	if _, err := Decode("r", "big5", []byte("employee_no,name\n1,\xFF\xFF\n")); err == nil || !strings.Contains(err.Error(), "r:2:1: the text is not big5") {
		t.Errorf("what no encoding has: %v", err)
	}
	if _, err := Decode("r", "latin", nil); err == nil || !strings.Contains(err.Error(), "use big5, gbk, utf-8") {
		t.Errorf("%v", err)
	}
}
