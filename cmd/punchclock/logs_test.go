package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"punchclock/queue/punch"
)

// writtenLines finds what the source logs: the words of each call of Info, Warn, Error
// or Log on something that is called log or logger, with … for what is not constant.
func writtenLines(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{} // text → where
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		if strings.Contains(path, "cmd/punchsim") || strings.Contains(path, "sandbox") || strings.Contains(path, "devicetest") {
			return nil // not in the program
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			method, is := call.Fun.(*ast.SelectorExpr)
			if !is {
				return true
			}
			arg := map[string]int{"Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1, "Log": 2, "LogAttrs": 2}
			at, logs := arg[method.Sel.Name]
			if !logs || len(call.Args) <= at {
				return true
			}
			whose := ""
			switch x := method.X.(type) {
			case *ast.Ident:
				whose = x.Name
			case *ast.SelectorExpr:
				whose = x.Sel.Name
			case *ast.CallExpr:
				if s, is := x.Fun.(*ast.SelectorExpr); is {
					whose = s.Sel.Name
				}
			}
			if !slices.Contains([]string{"log", "logger", "with"}, strings.ToLower(whose)) {
				return true
			}
			found[constantPart(call.Args[at])] = set.Position(call.Pos()).String()
			return true
		})
		return nil
	})
	if err != nil || len(found) < 80 {
		t.Fatalf("%d lines found, %v: this test sees nothing", len(found), err)
	}
	return found
}

func constantPart(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(x.Value); err == nil {
			return s
		}
	case *ast.BinaryExpr:
		return strings.TrimSuffix(constantPart(x.X), "…") + "…"
	}
	return "…"
}

func TestEveryLineOfTheLogHasAnEvent(t *testing.T) {
	written := writtenLines(t)
	names, ids := map[string]bool{}, map[string]bool{}
	form := regexp.MustCompile(`^[a-z0-9_]{4,32}$`)
	for _, e := range logEvents {
		if written[e.text] == "" {
			t.Errorf("event %s: nothing writes %q any more; a new wording is written into logEvents, with the old name", e.name, e.text)
		}
		if names[e.name] || ids[messageID(e.name)] || !form.MatchString(e.name) {
			t.Errorf("event %q is there twice, or no name", e.name)
		}
		names[e.name], ids[messageID(e.name)] = true, true
		if got, known := eventOf(strings.Replace(e.text, "…", "something", 1)); !known || got != e.name {
			t.Errorf("%q is taken for %q", e.text, got)
		}
	}
	for text, where := range written {
		if _, known := eventOf(text); !known {
			t.Errorf("%s: %q is no event; write it into logEvents with a name that stays", where, text)
		}
	}
	if got := messageID("reader_down"); got != "841b2cb8c6b65e5597a7e8b33cb56030" {
		t.Errorf("the id of reader_down has become %s: whoever looks for it finds nothing any more", got)
	}
}

// sentLine is what the journal was given.
type sentLine struct {
	message  string
	priority journal.Priority
	fields   map[string]string
}

// journalBook is a logbook whose journal is sent.
func journalBook(sent *[]sentLine) *logbook {
	b := newLogbook(&bytes.Buffer{}, "test-door")
	b.send = func(message string, p journal.Priority, fields map[string]string) error {
		*sent = append(*sent, sentLine{message, p, fields})
		return nil
	}
	return b
}

func TestTheJournalGetsAFieldForEverything(t *testing.T) {
	var sent []sentLine
	b := journalBook(&sent)
	end := b.begin()
	log := b.logger().With("dest", "104").WithGroup("x")
	b.logger().Warn("punch refused and parked", "punch", "test-door-000000000001", "reason", "emp no", "badge", punch.Badge("em:0A1B2C3D4E"))
	log.Error("outbox: whatever", "err", errors.New("it = \"so\""), slog.Group("g", "kind", punch.GoOut, "took", 3*time.Second), "who", punch.Employee{Number: "000123", Name: "王小明"})
	log.Debug("nobody wants to know")
	b.logger().Info("something new", "Odd-Key", "")
	end()
	want := []sentLine{
		{"punch refused and parked punch=test-door-000000000001 reason=\"emp no\" badge=em:…D4E", journal.PriWarning, map[string]string{
			"PUNCHCLOCK_EVENT": "punch_refused", "MESSAGE_ID": messageID("punch_refused"), "PUNCHCLOCK_PUNCH": "test-door-000000000001",
			"PUNCHCLOCK_REASON": "emp no", "PUNCHCLOCK_BADGE": "em:…D4E"}},
		{"outbox: whatever dest=104 x.err=\"it = \\\"so\\\"\" x.g.kind=go-out x.g.took=3s x.who=000123", journal.PriErr, map[string]string{
			"PUNCHCLOCK_EVENT": "outbox_mended", "MESSAGE_ID": messageID("outbox_mended"), "PUNCHCLOCK_DEST": "104",
			"PUNCHCLOCK_X_ERR": `it = "so"`, "PUNCHCLOCK_X_G_KIND": "go-out", "PUNCHCLOCK_X_G_TOOK": "3s", "PUNCHCLOCK_X_WHO": "000123"}},
		{"something new Odd-Key=\"\"", journal.PriInfo, map[string]string{"PUNCHCLOCK_ODD_KEY": ""}},
	}
	for _, w := range want {
		w.fields["SYSLOG_IDENTIFIER"], w.fields["PUNCHCLOCK_DEVICE"] = "punchclock", "test-door"
	}
	if fmt.Sprint(sent) != fmt.Sprint(want) {
		t.Errorf("%v\nwant\n%v", sent, want)
	}
}

// A disk that stands still below the journal, and a clock that has more to say than
// may wait.
func TestNobodyWaitsForTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []sentLine
		b := journalBook(&sent)
		write, stuck := b.send, make(chan struct{})
		b.send = func(message string, p journal.Priority, fields map[string]string) error {
			<-stuck
			return write(message, p, fields)
		}
		end := b.begin()
		start := time.Now()
		for range logWaiting + 500 {
			b.logger().Info("reader is up", "reader", "front")
		}
		if time.Since(start) > 0 {
			t.Errorf("whoever logs waited for %v", time.Since(start))
		}
		close(stuck)
		synctest.Wait()
		end()
		lost := 0
		for _, l := range sent {
			if l.fields["PUNCHCLOCK_EVENT"] == "log_lines_lost" {
				fmt.Sscan(l.fields["PUNCHCLOCK_LINES"], &lost)
			}
		}
		if len(sent)-1+lost != logWaiting+500 || lost < 400 {
			t.Errorf("%d lines written, %d said to be lost", len(sent), lost)
		}

		stuck = make(chan struct{})
		start = time.Now()
		end = b.begin()
		b.logger().Info("stopping")
		end()
		if took := time.Since(start); took != logGrace {
			t.Errorf("the stop waited %v for a journal that stands still", took)
		}
		close(stuck)
	})
}

func TestAJournalThatRefusesLeavesTheLineOnStderr(t *testing.T) {
	var plain bytes.Buffer
	b := newLogbook(&plain, "test-door")
	b.send = func(string, journal.Priority, map[string]string) error { return errors.New("no journal") }
	end := b.begin()
	b.logger().Warn("reader is down; it comes back by itself when it is there", "reader", "front")
	end()
	if got, want := plain.String(), "level=WARN reader is down; it comes back by itself when it is there reader=front\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Whoever reads the log, a journal or a pipe, may die before the clock does.
func TestTheClockOutlivesTheReaderOfItsLog(t *testing.T) {
	h := newHouse(t, settings{})
	h.start("bash", "-c", `exec "$@" 2> >(exec head -n 1 >&2)`, "bash") // gone after the first line
	h.unplug()
	h.until(15*time.Second, "a reader that is away is told", func() bool { return h.status().Readers[0].State == "down" })
	h.plug()
	h.until(15*time.Second, "the reader is back", func() bool { return h.status().Readers[0].State == "ok" })
	if r := h.tap(h.people[0]); r.Outcome != "stored" {
		t.Errorf("tap without anybody to log to: %+v", r)
	}
	h.stop()
	if n := strings.Count(h.logged(), "\n"); n != 1 {
		t.Errorf("%d lines were read, so somebody still listened:\n%s", n, h.logged())
	}
}
