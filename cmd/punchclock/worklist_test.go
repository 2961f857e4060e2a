package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"punchclock/sync/sandbox"
	"punchclock/ui/text"
)

// reasonCodes reads every reason of a refusal from the sources that define them.
func reasonCodes(t *testing.T) (codes []string) {
	t.Helper()
	files, err := filepath.Glob("../../sync/*/reply.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../../queue/punch/punch.go") {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != len(v.Names) {
				return true
			}
			for i, name := range v.Names {
				l, isText := v.Values[i].(*ast.BasicLit)
				if isText && l.Kind == token.STRING && strings.HasPrefix(strings.ToLower(name.Name), "reason") {
					s, _ := strconv.Unquote(l.Value)
					codes = append(codes, s)
				}
			}
			return true
		})
	}
	return codes
}

func TestEveryReasonToParkAPunchHasWordsForHR(t *testing.T) {
	codes := reasonCodes(t)
	if len(codes) < 25 || !slices.Contains(codes, "period_sealed") || !slices.Contains(codes, "unknown_badge") {
		t.Fatalf("found only %q", codes)
	}
	for _, tag := range text.Languages() {
		for _, code := range codes {
			if text.For(tag).Reason(code) == code {
				t.Errorf("%s has no words for %s", tag, code)
			}
		}
	}
}

func TestTheWorkListOpensInASpreadsheetAndReadsAsWords(t *testing.T) {
	h := newHouse(t, settings{window: "0s"})
	h.tc.SetFaults(func(f *sandbox.TransferCardFaults) {
		f.FailText = map[string]string{h.people[0].number: "=HYPERLINK(\"http://x\",\"員工編號不存在\")", h.people[1].number: "員工編號不存在"}
	})
	h.openClouds()
	h.start()
	h.tap(h.people[0])
	h.tap(h.people[1])
	h.tap(person{card: [5]byte{1, 2, 3, 4, 5}}) // nobody's
	h.until(20*time.Second, "everything is delivered or parked", func() bool {
		d := h.status().Destinations
		return d[0].Pending+d[1].Pending == 0 && d[0].Parked == 3 && d[1].Parked == 1
	})
	out, code := h.run("queue", "ls", "--state", "parked", "--format", "csv", "--config", h.config)
	if code != 0 || !strings.HasPrefix(out, "\uFEFF") {
		t.Fatalf("%d\n%q", code, out)
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(out, "\uFEFF"))).ReadAll()
	if err != nil || len(rows) != 5 {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := []string{"打卡編號", "打卡時間", "員工編號", "類別", "送往", "狀態", "原因", "對方訊息", "首次發生", "嘗試次數"}; !slices.Equal(rows[0], want) {
		t.Errorf("headings %q", rows[0])
	}
	for _, r := range rows[1:] {
		if _, err := time.Parse(time.DateTime, r[1]); err != nil || r[5] != "待人工處理" || r[3] != "上班" && r[3] != "下班" {
			t.Errorf("%q", r)
		}
		if _, err := time.Parse(time.DateTime, r[8]); err != nil {
			t.Errorf("first seen %q", r)
		}
		for _, cell := range r {
			if strings.HasPrefix(cell, "=") {
				t.Errorf("a spreadsheet would compute %q", cell)
			}
		}
	}
	if r := rows[2]; r[0] != "test-door-000000000002" || r[2] != h.people[1].number || r[4] != "104" || !strings.Contains(r[6], "沒有這個員工編號") || r[7] != "員工編號不存在" || r[9] != "1" {
		t.Errorf("%q", r)
	}
	if r := rows[3]; r[2] != "" || !strings.Contains(r[6], "登錄這張卡") {
		t.Errorf("the unknown badge: %q", r)
	}
	var list []queueRow
	out, code = h.run("queue", "ls", "--state", "parked", "--destination", "104", "--json", "--config", h.config)
	if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil || len(list) != 3 || list[1].Reason != "emp_no_unknown" || !strings.Contains(list[1].ReasonWords, "沒有這個員工編號") {
		t.Errorf("%d, %v, %+v", code, err, list)
	}
	h.stop()
	// Also from the files alone, and in the language that is configured.
	cfg, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write("punchclock.toml", strings.Replace(string(cfg), "[kiosk]\n", "[kiosk]\nlanguage = \"en\"\n", 1))
	if out, code = h.run("queue", "ls", "--state", "parked", "--format", "csv", "--config", h.config); code != 0 || !strings.Contains(out, "does not have this employee number") || !strings.Contains(out, "Employee number") {
		t.Errorf("%d\n%s", code, out)
	}
}

// Excel needs the mark, and csv.DictReader takes it for a part of the first name.
func TestAnExportInCSVHasAMarkInAFileAndNoneAtAPipe(t *testing.T) {
	h := newHouse(t, settings{})
	verb := []string{"punches", "export", "--format", "csv", "--config", h.config}
	if out, code := h.run(verb...); code != 0 || !strings.HasPrefix(out, "id,seq,device,") {
		t.Errorf("at a pipe: %d %q", code, out)
	}
	named, into := filepath.Join(h.dir, "named.csv"), filepath.Join(h.dir, "into.csv")
	if out, code := h.run(append(verb, "--output", named)...); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	f, err := os.Create(into)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, verb...)
	cmd.Stdout = f
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{named, into} {
		if b, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(b), "\uFEFFid,seq,device,") {
			t.Errorf("%s: %q %v", path, b, err)
		}
	}
}

func TestAnExportInCSVHoldsTheFarSidesWords(t *testing.T) {
	var b strings.Builder
	table := &csvTable{w: csv.NewWriter(&b)}
	row := exportRow{Deliveries: map[string]exportDelivery{"104": {State: "parked", Reason: "emp_no_unknown", Message: "=員工編號不存在", Receipt: "=1+1"}}}
	if err := errors.Join(table.add(row), table.end()); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatalf("%q %v", rows, err)
	}
	for column, want := range map[string]string{"104_message": "'=員工編號不存在", "104_receipt": "'=1+1"} {
		if i := slices.Index(rows[0], column); i < 0 || rows[1][i] != want {
			t.Errorf("%s: %q", column, rows)
		}
	}
}

func TestAnExportCanBeVerified(t *testing.T) {
	h := newHouse(t, settings{})
	h.start()
	var punches []result
	for _, p := range h.people {
		punches = append(punches, h.tap(p))
	}
	h.stop()
	file := filepath.Join(h.dir, "export.csv")
	if out, code := h.run("punches", "export", "--format", "csv", "--output", file, "--config", h.config); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n") // a header, three punches, nothing
	second := punches[1].PunchID
	for _, tt := range []struct {
		name, text string
		code       int
		says       string
	}{
		{"as written", string(whole), 0, "3 records"},
		{"without the mark", strings.TrimPrefix(string(whole), "\uFEFF"), 0, "3 records"},
		{"somebody else's", lines[0] + lines[1] + strings.Replace(lines[2], ",000002,", ",000003,", 1) + lines[3], 1, second + ": employee_no"},
		{"one hour later", lines[0] + lines[1] + strings.Replace(lines[2], "+08:00", "+07:00", 1) + lines[3], 1, second + ": time"},
		{"one is missing", lines[0] + lines[1] + lines[3], 1, punches[2].PunchID},
		{"a number is none", lines[0] + strings.Replace(lines[1], ",1,", ",one,", 1) + lines[2], 3, "line 2 is not one of an export: seq"},
		{"a column is missing", strings.Replace(lines[0], ",hash", ",hush", 1) + lines[1], 3, "no column hash"},
		{"cut in the middle", lines[0] + lines[1] + lines[2][:90] + "\n", 1, second + ": is not what was written: line 3"},
		{"a later number is none", lines[0] + lines[1] + strings.Replace(lines[2], ",2,", ",two,", 1) + lines[3], 1, second + ": is not what was written: line 3"},
		{"the record is something else", lines[0] + lines[1] + lines[2][:len(lines[2])-9] + "!!!!\n" + lines[3], 1, second + ": not what was written"},
		{"nobody's", lines[0], 3, "empty"},
	} {
		if out, code := h.run("verify", h.write("try.csv", tt.text)); code != tt.code || !strings.Contains(out, tt.says) {
			t.Errorf("%s: %d\n%s", tt.name, code, out)
		}
	}

	// And in JSON lines: whatever was done to a line, it is named.
	out, code := h.run("punches", "export", "--output", file, "--config", h.config)
	if code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	if whole, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	lines = strings.SplitAfter(string(whole), "\n")
	for _, tt := range []struct {
		name, text string
		code       int
		says       string
	}{
		{"as written", string(whole), 0, "3 records"},
		{"no JSON any more", lines[0] + strings.Replace(lines[1], `"kind":`, `"kind";`, 1) + lines[2], 1, second + ": is not what was written: line 2"},
		{"cut off", lines[0] + lines[1][:200], 1, second + ": is not what was written: line 2"},
		{"the record is something else", lines[0] + strings.Replace(lines[1], `"record":"`, `"record":"!`, 1) + lines[2], 1, second + ": not what was written"},
		{"the first one's, too", strings.Replace(lines[0], `"record":"`, `"record":"!`, 1) + lines[1] + lines[2], 1, punches[0].PunchID + ": not what was written"},
		{"no export at all", "hello\n" + lines[0], 3, "line 1 is not one of an export"},
	} {
		if out, code := h.run("verify", h.write("try.jsonl", tt.text)); code != tt.code || !strings.Contains(out, tt.says) {
			t.Errorf("%s: %d\n%s", tt.name, code, out)
		}
	}
}
