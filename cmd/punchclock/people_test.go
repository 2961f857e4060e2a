package main

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf16"

	"punchclock/ui/text"
)

// pdfSeen is what a reader finds in a PDF, by its table of objects.
type pdfSeen struct {
	pages    []string // the text of each, a line a line
	attached []byte
	readers  bool // a font is the reader's own
	letters  int
}

// readPDF reads a PDF of ours the way a reader does, and complains of what a reader would
// trip over: an object that is not where the table says, a letter without a procedure, a
// width or a meaning.
func readPDF(t *testing.T, data []byte) (seen pdfSeen) {
	t.Helper()
	tail := regexp.MustCompile(`startxref\n(\d+)\n%%EOF\n$`).FindSubmatch(data)
	if tail == nil {
		t.Fatal("no end")
	}
	start, _ := strconv.Atoi(string(tail[1]))
	var n int
	if _, err := fmt.Sscanf(string(data[start:]), "xref\n0 %d\n", &n); err != nil {
		t.Fatal(err)
	}
	table := strings.Split(string(data[start:]), "\n")[2:]
	objects, streams := make([]string, n), make([]string, n)
	for i := 1; i < n; i++ {
		at, err := strconv.Atoi(strings.TrimLeft(table[i][:10], "0"))
		if err != nil || !bytes.HasPrefix(data[at:], fmt.Appendf(nil, "%d 0 obj\n", i)) {
			t.Fatalf("object %d is not at %q", i, table[i])
		}
		head, rest, _ := bytes.Cut(data[at:], []byte("\nstream\n"))
		m := regexp.MustCompile(`^\d+ 0 obj\n<<.*/Filter /FlateDecode /Length (\d+) >>$`).FindSubmatch(head)
		if m == nil {
			whole, _, _ := bytes.Cut(data[at:], []byte("\nendobj\n"))
			objects[i] = string(whole)
			continue
		}
		objects[i] = string(head)
		length, _ := strconv.Atoi(string(m[1]))
		z, err := zlib.NewReader(bytes.NewReader(rest[:length]))
		if err != nil || !bytes.HasPrefix(rest[length:], []byte("\nendstream\nendobj\n")) {
			t.Fatalf("object %d: %v, or its length is wrong", i, err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		streams[i] = string(text)
		if strings.Contains(objects[i], "/EmbeddedFile") {
			seen.attached = text
		}
	}
	one := func(in, what string) []string {
		m := regexp.MustCompile(what).FindStringSubmatch(in)
		if m == nil {
			t.Fatalf("no %s in %.300s", what, in)
		}
		return m
	}
	number := func(s string) int {
		v, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	pages := objects[number(one(objects[number(one(string(data[start:]), `/Root (\d+) 0 R`)[1])], `/Pages (\d+) 0 R`)[1])]
	fonts := map[string]map[string]string{} // nil for one of the reader's own
	for _, m := range regexp.MustCompile(`/(F\d+) (\d+) 0 R`).FindAllStringSubmatch(one(pages, `/Font << (.*?)>>`)[1], -1) {
		font := objects[number(m[2])]
		if !strings.Contains(font, "/Subtype /Type3") {
			if !strings.Contains(font, "/Subtype /Type0") || m[1] != "F1" {
				t.Errorf("a font that is not in the file: %s", font)
			}
			fonts[m[1]], seen.readers = nil, true
			continue
		}
		means := map[string]string{}
		for _, m := range regexp.MustCompile(`<(..)> <([0-9A-F]+)>\n`).FindAllStringSubmatch(streams[number(one(font, `/ToUnicode (\d+) 0 R`)[1])], -1) {
			if m[1] != "00" {
				means[m[1]] = m[2]
			}
		}
		procs := regexp.MustCompile(`/g(\d+) (\d+) 0 R`).FindAllStringSubmatch(font, -1)
		widths := strings.Fields(one(font, `/Widths \[(.*?)\]`)[1])
		for _, p := range procs {
			if d := streams[number(p[2])]; !regexp.MustCompile(`^\d+ 0 -?\d+ -?\d+ -?\d+ -?\d+ d1 (?:.*h f)?$`).MatchString(d) || !strings.HasPrefix(d, widths[number(p[1])-1]+" ") {
				t.Errorf("letter %s is %q", p[1], d)
			}
		}
		if len(procs) != len(means) || len(procs) != len(widths) || !strings.Contains(font, fmt.Sprintf("/FirstChar 1 /LastChar %d ", len(procs))) {
			t.Errorf("%d letters, %d meanings, %d widths", len(procs), len(means), len(widths))
		}
		seen.letters += len(procs)
		fonts[m[1]] = means
	}
	for _, m := range regexp.MustCompile(`(\d+) 0 R`).FindAllStringSubmatch(one(pages, `/Kids \[(.*?)\]`)[1], -1) {
		var page strings.Builder
		font := ""
		for _, w := range regexp.MustCompile(`/(F\d+) [\d.]+ Tf|<([0-9A-F]+)> Tj|ET`).FindAllStringSubmatch(streams[number(one(objects[number(m[1])], `/Contents (\d+) 0 R`)[1])], -1) {
			switch {
			case w[0] == "ET":
				page.WriteString("\n")
				continue
			case w[1] != "":
				font = w[1]
				continue
			}
			means, known := fonts[font]
			units := w[2]
			if means != nil {
				units = ""
				for i := 0; i < len(w[2]); i += 2 {
					u, ok := means[w[2][i:i+2]]
					if !ok {
						t.Fatalf("code %s of %s means nothing", w[2][i:i+2], font)
					}
					units += u
				}
			}
			if !known || len(units)%4 != 0 {
				t.Fatalf("%q in font %s", units, font)
			}
			var text []uint16
			for i := 0; i < len(units); i += 4 {
				u, _ := strconv.ParseUint(units[i:i+4], 16, 16)
				text = append(text, uint16(u))
			}
			page.WriteString(string(utf16.Decode(text)))
		}
		seen.pages = append(seen.pages, page.String())
	}
	return seen
}

// What the law grants: the copy in writing, and then that one is forgotten. The number
// has been passed on meanwhile.
func TestWhoLeftGetsTheirOwnCopyAndIsForgotten(t *testing.T) {
	h := newHouse(t, settings{})
	h.openClouds()
	h.start()
	gone := h.people[0]
	theirs := h.tap(gone)
	if theirs.Outcome != "stored" {
		t.Fatalf("%+v", theirs)
	}
	h.tap(h.people[1])
	h.delivered(20 * time.Second)
	h.write("next.csv", fmt.Sprintf("employee_no,name,badges\n%s,後來的人,em:00000000FF\n%s,%s,%s\n%s,%s,%s\n", gone.number,
		h.people[1].number, h.people[1].name, h.people[1].badge(), h.people[2].number, h.people[2].name, h.people[2].badge()))
	if out := h.must("roster", "import", "--dry-run", filepath.Join(h.dir, "next.csv")); !strings.Contains(out, "another person") {
		t.Errorf("dry run: %s", out)
	}
	today := time.Now().Add(-time.Second)
	h.must("roster", "import", filepath.Join(h.dir, "next.csv"))
	on := today.Format(time.RFC3339)

	for _, format := range []string{"jsonl", "csv"} {
		if out := h.must("punches", "export", "--employee", gone.number, "--format", format); strings.Contains(out, theirs.PunchID) {
			t.Errorf("%s of whoever has the number now holds another's punch: %s", format, out)
		}
		if out := h.must("punches", "export", "--employee", gone.number, "--on", on, "--format", format); !strings.Contains(out, theirs.PunchID) {
			t.Errorf("%s of whoever had the number lacks the punch: %s", format, out)
		}
	}
	if out, code := h.run("punches", "export", "--config", h.config, "--on", on); code != 2 {
		t.Errorf("--on without a number: %d %s", code, out)
	}

	pdf := filepath.Join(h.dir, "copy.pdf")
	h.must("punches", "export", "--employee", gone.number, "--on", on, "--format", "pdf", "--output", pdf)
	data, err := os.ReadFile(pdf)
	if err != nil {
		t.Fatal(err)
	}
	seen := readPDF(t, data)
	var row exportRow
	if err := json.Unmarshal(seen.attached, &row); err != nil || row.Employee != gone.number || bytes.Count(seen.attached, []byte("\n")) != 1 {
		t.Fatalf("attached: %s %v", seen.attached, err)
	}
	record, err := base64.StdEncoding.DecodeString(row.Record)
	if err != nil {
		t.Fatal(err)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(append([]byte{0, 0, 0, 0, 0, 0, 0, byte(row.Seq)}, record...)))
	all := strings.Join(seen.pages, "")
	for _, want := range []string{"員工：" + gone.number + " " + gone.name, hash, "已送達", "如何驗證"} {
		if !strings.Contains(all, want) {
			t.Errorf("the copy lacks %s:\n%s", want, all)
		}
	}
	if strings.Contains(all, "後來的人") {
		t.Error("the copy names whoever has the number now")
	}
	if out, code := h.run("punches", "export", "--config", h.config, "--format", "pdf"); code != 2 {
		t.Errorf("a copy of nobody's: %d %s", code, out)
	}

	if out, code := h.run("people", "forget", h.people[1].number, "--config", h.config); code == 0 || !strings.Contains(out, "still works here") {
		t.Errorf("somebody who works here: %d %s", code, out)
	}
	if out := h.must("people", "forget", gone.number, "--on", on); !strings.Contains(out, "1 punches, ") || !strings.Contains(out, "keep_years = 5") {
		t.Errorf("forget: %s", out)
	}
	h.stop()
	state := filepath.Join(h.dir, "state")
	err = filepath.Walk(state, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(gone.name)) {
			t.Errorf("%s still holds the name", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if rows := h.must("punches", "export"); strings.Count(rows, `"act":"forgotten"`) != 1 || strings.Count(rows, `"act":"number-passed"`) != 1 || strings.Contains(rows, gone.name) {
		t.Errorf("the chain: %s", rows)
	}
	if strings.Contains(h.logged(), "員工") || strings.Contains(h.logged(), "後來") {
		t.Errorf("the log holds a name:\n%s", h.logged())
	}
}

// aCopy is one of n punches.
func aCopy(t *testing.T, n int, name, language string) (file []byte, whole bool) {
	t.Helper()
	var rows []exportRow
	for i := range n {
		rows = append(rows, exportRow{Seq: uint64(i + 1), Kind: []string{"in", "out", "go-out", "return"}[i%4], Outcome: []string{"stored", "duplicate", "unknown_badge", "blocked_badge"}[i%7%4],
			Badge: []string{"em:0A00000001", "key:1"}[i%5/4], Reader: `a(b)\`, Time: "2026-11-21T08:58:03.123+08:00", Hash: strings.Repeat("ab", 32), Supersedes: uint64(i % 11 / 10),
			Deliveries: map[string]exportDelivery{"104": {State: []string{"delivered", "pending", "parked", "skipped"}[i%4]}, "feishu": {State: "delivered"}}})
	}
	var b bytes.Buffer
	whole, err := writeCopy(&b, personCopy{Employee: "000123", Name: name, Language: language, Device: "tpe-1f", Place: "台北總部一樓", KeepYears: 5, LastSeq: 9, LastHash: strings.Repeat("cd", 32)}, rows, []byte("{}\n"),
		time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), whole
}

// theirCopy is a name and a word that a copy in each language must have.
var theirCopy = map[string][2]string{"zh-TW": {"王小明", "出勤紀錄副本"}, "zh-CN": {"王小明", "考勤记录副本"}, "en": {"Zoë O'Brien", "Copy of attendance records"},
	"vi": {"Nguyễn Thị Hằng", "Bản sao dữ liệu chấm công"}, "id": {"Sri Wahyuni", "Salinan catatan kehadiran"}, "th": {"ปรีชา กุ้งน้ำปลา", "สำเนาบันทึกเวลาทำงาน"}, "fil": {"José Rizál", "Kopya ng tala ng pagpasok"}}

func TestACopyIsInThePersonsLanguageWithEveryLetterInTheFile(t *testing.T) {
	for lang, want := range theirCopy {
		file, whole := aCopy(t, 30, want[0], lang)
		seen := readPDF(t, file)
		all := strings.Join(seen.pages, "")
		if !whole { // without Debian's fonts the Chinese of names is the reader's own
			t.Logf("%s: this machine lacks fonts for %s", lang, want[0])
		}
		if seen.readers == whole || strings.Contains(all, "?") {
			t.Errorf("%s: whole %v, and the reader's own fonts %v\n%s", lang, whole, seen.readers, all)
		}
		flat := strings.Join(strings.Fields(all), "")
		for _, s := range []string{want[0], want[1], text.For(lang).Copy("proof"), text.For(lang).Copy("check"), text.For(lang).Copy("state_parked"), text.For(lang).Kind("go-out"), "台北總部一樓"} {
			if !strings.Contains(flat, strings.Join(strings.Fields(s), "")) {
				t.Errorf("%s: the copy lacks %q:\n%s", lang, s, all)
			}
		}
		if !bytes.Contains(file, []byte("/Lang ("+lang+")")) {
			t.Errorf("%s: the document does not say its language", lang)
		}
	}
}

func TestACopyOfFiveYearsHasAllItsPagesAndSaysWhichLettersItLacks(t *testing.T) {
	file, whole := aCopy(t, 5000, "Lê 王𠮷明 \u13a0", "en") // nobody has a font of ours for Cherokee
	seen := readPDF(t, file)
	all := strings.Join(seen.pages, "")
	if len(seen.pages) < 100 || strings.Count(all, strings.Repeat("ab", 32)) != 5000 || !strings.Contains(all, `a(b)\`) {
		t.Errorf("%d pages", len(seen.pages))
	}
	if whole || !strings.Contains(all, "Lê 王𠮷明 ?") || !strings.Contains(strings.ReplaceAll(all, "\n", " "), "has no font for some characters") {
		t.Errorf("whole %v:\n%.300s", whole, all)
	}
	if len(file) > 2<<20 {
		t.Errorf("%d bytes", len(file))
	}
}

// The readers that Debian has: Poppler, which most desktops show a PDF with, and MuPDF.
// With PUNCHCLOCK_SHOTS the pages are there to be looked at.
func TestACopyIsReadByOtherPeoplesReaders(t *testing.T) {
	for _, tool := range []string{"pdftotext", "pdffonts", "pdfdetach", "mutool", "qpdf"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("not read by other readers: %s is missing (Debian: poppler-utils, mupdf-tools, qpdf)", tool)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		var complaints bytes.Buffer
		cmd := exec.Command(name, args...)
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if said := strings.ReplaceAll(complaints.String(), "warning: ICC support is not available\n", ""); err != nil || said != "" { // MuPDF's, as Debian compiles it
			t.Errorf("%s %v: %v\n%s", name, args, err, said)
		}
		return string(out)
	}
	flat := func(s string) string {
		return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '\f' }), "")
	}
	dir := t.TempDir()
	for lang, want := range theirCopy {
		file, whole := aCopy(t, 34, want[0], lang)
		if !whole {
			t.Skip("this machine has no Chinese font: Debian's fonts-noto-cjk")
		}
		path := filepath.Join(dir, lang+".pdf")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		if out := run("qpdf", "--check", path); !strings.Contains(out, "No syntax or stream encoding errors found") {
			t.Errorf("%s: %s", lang, out)
		}
		for line := range strings.Lines(strings.SplitN(run("pdffonts", path), "\n", 3)[2]) {
			// name, "Type 3", encoding, embedded, subset, unicode, and two numbers of the object
			if f := strings.Fields(line); len(f) < 8 || !strings.Contains(line, "Type 3") || f[len(f)-5] != "yes" || f[len(f)-3] != "yes" {
				t.Errorf("%s: a font that is not in the file: %s", lang, line)
			}
		}
		popplers, mupdfs := flat(run("pdftotext", "-layout", path, "-")), flat(run("mutool", "draw", "-q", "-F", "txt", path))
		for _, s := range []string{want[0], want[1], text.For(lang).Kind("go-out"), strings.Repeat("ab", 32)} {
			if !strings.Contains(popplers, flat(s)) {
				t.Errorf("%s: Poppler does not find %q", lang, s)
			}
			if !strings.Contains(mupdfs, flat(s)) {
				t.Errorf("%s: MuPDF does not find %q", lang, s)
			}
		}
		run("pdfdetach", "-saveall", "-o", dir, path)
		if b, err := os.ReadFile(filepath.Join(dir, "punches-000123.jsonl")); err != nil || string(b) != "{}\n" {
			t.Errorf("%s: attached: %q %v", lang, b, err)
		}
		if shots := os.Getenv("PUNCHCLOCK_SHOTS"); shots != "" {
			run("pdftoppm", "-png", "-r", "110", path, filepath.Join(shots, "copy-"+lang))
		}
	}
}
