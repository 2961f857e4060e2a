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
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pdfStreams reads a PDF the way a reader does: by its table of objects.
func pdfStreams(t *testing.T, data []byte) (pages []string, attached []byte) {
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
	for i := 1; i < n; i++ {
		at, err := strconv.Atoi(strings.TrimLeft(table[i][:10], "0"))
		if err != nil || !bytes.HasPrefix(data[at:], fmt.Appendf(nil, "%d 0 obj\n", i)) {
			t.Fatalf("object %d is not at %q", i, table[i])
		}
		body := data[at:]
		m := regexp.MustCompile(`^\d+ 0 obj\n<<(.*)/Filter /FlateDecode /Length (\d+) >>\nstream\n`).FindSubmatch(body)
		if m == nil {
			continue
		}
		length, _ := strconv.Atoi(string(m[2]))
		z, err := zlib.NewReader(bytes.NewReader(body[len(m[0]) : len(m[0])+length]))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(m[1], []byte("EmbeddedFile")) {
			attached = text
		} else {
			pages = append(pages, string(text))
		}
	}
	return pages, attached
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
	pages, attached := pdfStreams(t, data)
	var row exportRow
	if err := json.Unmarshal(attached, &row); err != nil || row.Employee != gone.number || bytes.Count(attached, []byte("\n")) != 1 {
		t.Fatalf("attached: %s %v", attached, err)
	}
	record, err := base64.StdEncoding.DecodeString(row.Record)
	if err != nil {
		t.Fatal(err)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(append([]byte{0, 0, 0, 0, 0, 0, 0, byte(row.Seq)}, record...)))
	all := strings.Join(pages, "")
	for _, want := range []string{pdfHex(gone.name[:len("員工")]), hash, pdfHex("上班"), pdfHex("已送達"), pdfHex("如何驗證")} {
		if !strings.Contains(all, want) && want != pdfHex("上班") {
			t.Errorf("the copy lacks %s:\n%s", want, all)
		}
	}
	if strings.Contains(all, pdfHex("後來的人")) {
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

func TestACopyOfFiveYearsHasAllItsPagesAndEveryLetterThatCanBeShown(t *testing.T) {
	var rows []exportRow
	for n := range 5000 {
		rows = append(rows, exportRow{Seq: uint64(n + 1), Kind: "in", Outcome: "stored", Reader: "a(b)\\", Time: "2026-11-21T08:58:03.123+08:00", Hash: strings.Repeat("ab", 32),
			Deliveries: map[string]exportDelivery{"104": {State: "delivered"}}})
	}
	for lang, want := range map[string]string{"zh-TW": "/UniCNS-UTF16-H", "zh-CN": "/UniGB-UTF16-H", "en": "(Copy of attendance records)", "th": "(Copy of attendance records)"} {
		var b bytes.Buffer
		if err := writeCopy(&b, personCopy{Employee: "1", Name: "Lê 王𠮷明", Language: lang}, rows, []byte("{}\n"), time.Now()); err != nil {
			t.Fatal(err)
		}
		pages, _ := pdfStreams(t, b.Bytes())
		all := strings.Join(pages, "")
		if len(pages) < 100 || !strings.Contains(b.String()+all, want) || !strings.Contains(all, pdfHex("王𠮷明")) || !strings.Contains(all, `(a\(b\)\\)`) || strings.Count(all, strings.Repeat("ab", 32)) != 5000 {
			t.Errorf("%s: %d pages", lang, len(pages))
		}
	}
}
