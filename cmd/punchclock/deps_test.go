package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The house's walls, as a test: who may import whom, and why. A rule is the first
// one whose folder fits the package; what it does not list is forbidden. The
// standard library is always allowed. Tests may use more, by testMay and testOnly.

type rule struct {
	folder string   // a package, or with /... all below it
	may    []string // folders of this module, modules of others; all for everything
	why    string
}

const all = "*"

var rules = []rule{
	{"cmd/...", []string{all}, "only the programs know everybody"},

	{"device", nil, "the vocabulary of the wall must not pull anything in"},
	{"ui", nil, "the vocabulary of what is shown must not pull anything in"},
	{"queue/punch", nil, "domain values outlive every library"},

	{"device/serialport", []string{"device", "golang.org/x/sys"}, "the only door to tarm/serial, which is unsafe without its wrapper"},
	{"device/gpiochip", []string{"device", "golang.org/x/sys", "github.com/warthog618/go-gpiocdev/uapi"}, "the way to a line knows nobody who takes one"},
	{"device/...", []string{"device", "device/gpiochip", "golang.org/x/sys", "periph.io/x/conn"}, "readers know neither people nor each other"},

	{"queue/roster", []string{"queue", "queue/punch", "go.etcd.io/bbolt", "golang.org/x/text/unicode/norm", "golang.org/x/crypto/argon2", "golang.org/x/sys"}, "a file of its own, checked like the outbox's before bbolt touches it, and written piece by piece; names are compared in one Unicode form, and read as spreadsheets save them; PINs are hashed"},
	{"queue", []string{"queue/punch", "go.etcd.io/bbolt", "golang.org/x/sys"}, "the outbox does not know who drains it"},

	{"sync/drain/draintest", []string{"sync/drain", "sync/token", "queue/punch"}, "the suite knows what a destination knows"},
	{"sync/drain", []string{"sync/token", "queue/punch", "golang.org/x/sync"}, "the engine does not know bbolt, nor any destination"},
	{"sync/token", []string{"golang.org/x/sync"}, "a credential is nobody's in particular"},
	{"sync/sandbox", nil, "a double that shares code with the client shares its mistakes"},
	{"sync/...", []string{"sync/drain", "sync/token", "queue/punch"}, "destinations do not know each other"},

	{"ui/text", nil, "sentences need nothing"},
	{"ui/indicator", []string{"ui", "device/gpiochip", "periph.io/x/conn", "golang.org/x/sys"}, "lamps know cues, not punches; pins come through a door"},
	{"ui/kiosk", []string{"device", "ui", "queue/punch"}, "the conversation is pure"},
	{"ui/screen", []string{"ui", "ui/text", "rsc.io/qr", "golang.org/x/image", "golang.org/x/sys"}, "the door's screen knows screens, not punches; displays and touch come through its doors"},
	{"ui/web", []string{"ui", "ui/text", "rsc.io/qr"}, "the page knows screens, not punches"},
	{"ui/...", []string{"ui", "ui/text"}, "whoever shows knows screens, not punches"},

	{"systemd", []string{"queue"}, "it is files; the test of an update reads the outbox that went through it"},
}

// doors are libraries of chips, pins and lines, which only files for Linux in device
// and ui may import: the rest of such a package is tested without hardware.
// periph.io/x/conn is not one of them: it is vocabulary. Of go-gpiocdev only uapi,
// because the rest cannot ask for an event buffer that is large enough.
var doors = []string{"periph.io/x/host", "periph.io/x/conn/v3/driver", "github.com/tarm/serial", "github.com/warthog618/go-gpiocdev/uapi", "github.com/holoplot/go-evdev"}

// libraries have one place each, whatever a rule says.
var libraries = map[string][]string{
	"go.etcd.io/bbolt":                    {"queue", "queue/roster"},
	"github.com/tarm/serial":              {"device/serialport"},
	"github.com/pelletier/go-toml":        {"cmd/punchclock"},
	"github.com/spf13/cobra":              {"cmd/punchclock", "cmd/punchsim"},
	"github.com/prometheus/client_golang": {"cmd/punchclock"},
	"filippo.io/age":                      {"cmd/punchclock"},
	"github.com/coreos/go-systemd":        {"cmd/punchclock"},
	"github.com/creack/pty":               {"cmd/punchsim"},
	"rsc.io/qr":                           {"ui/screen", "ui/web"},
	"golang.org/x/oauth2":                 {},               // compares expiry by the wall clock
	"github.com/larksuite/oapi-sdk-go":    {},               // resends a refused token, does not build for 32-bit ARM
	"golang.org/x/time":                   {},               // its bucket lets twice the ceiling through in one second
	"log":                                 {"cmd/punchsim"}, // log/slog, handed in; the sandbox silences a server with it
	"net/http/pprof":                      {},               // opens a door on the default mux
	"math/rand":                           {},               // math/rand/v2
}

// testMay are libraries and folders that tests may use everywhere.
var testMay = []string{
	"pgregory.net/rapid", "github.com/creack/pty", "github.com/rogpeppe/go-internal", "github.com/chromedp", "golang.org/x/sys",
	"go.bug.st/serial", "go.etcd.io/bbolt", "periph.io/x/conn", "golang.org/x/sync",
	"golang.org/x/image", "golang.org/x/text",
	"device/devicetest", "sync/drain/draintest", "sync/sandbox", "queue/punch", "device", "ui", "ui/text",
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath, Dir, Name                                  string
	GoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles     []string
	Module                                                 *struct{ Path, Dir string }
	CgoFiles, CFiles, SFiles, HFiles, SysoFiles, SwigFiles []string
}

// packages lists this module's packages and its directory.
func packages(t *testing.T) (root string, list []pkg) {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Name,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Module,CgoFiles,CFiles,SFiles", "punchclock/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 || list[0].Module == nil {
		t.Fatalf("go list found %d packages", len(list))
	}
	return list[0].Module.Dir, list
}

// local cuts the module's name off an import path; ok is false for others.
func local(importPath string) (string, bool) { return strings.CutPrefix(importPath, "punchclock/") }

// within reports whether a path is the folder or below it.
func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	_, ours := local(importPath)
	return !ours && !strings.Contains(first, ".")
}

func ruleOf(folder string) (rule, bool) {
	for _, r := range rules {
		if base, below := strings.CutSuffix(r.folder, "/..."); below && strings.HasPrefix(folder, base+"/") || r.folder == folder {
			return r, true
		}
	}
	return rule{}, false
}

// imports returns the import paths of a file.
func imports(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, s := range f.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

func TestEveryPackageImportsOnlyWhatItMay(t *testing.T) {
	_, list := packages(t)
	for _, p := range list {
		folder, _ := local(p.ImportPath)
		r, ok := ruleOf(folder)
		if !ok {
			t.Errorf("%s has no rule: say in deps_test.go what it may import, and why", folder)
			continue
		}
		check := func(file string, test bool) {
			for _, path := range imports(t, filepath.Join(p.Dir, file)) {
				if why := forbidden(folder, file, path, r, test); why != "" {
					t.Errorf("%s/%s imports %s: %s", folder, file, path, why)
				}
			}
		}
		for _, f := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			check(f, strings.HasSuffix(f, "_test.go"))
		}
		for _, f := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			check(f, true)
		}
		if len(p.CgoFiles)+len(p.CFiles)+len(p.SFiles) > 0 {
			t.Errorf("%s has C or assembler: every binary is built with CGO_ENABLED=0, for four targets", folder)
		}
	}
}

// forbidden says why a file may not import a path, "" if it may.
func forbidden(folder, file, path string, r rule, test bool) string {
	ours, isOurs := local(path)
	if isOurs {
		path = ours
	}
	if isOurs && within(path, "cmd") {
		return "nobody imports a program"
	}
	if !test {
		for library, places := range libraries {
			if within(path, library) && !slices.Contains(places, folder) && !(standard(path) && path != library) {
				if len(places) == 0 {
					return "nobody may; see deps_test.go"
				}
				return "its door is " + strings.Join(places, " and ")
			}
		}
	}
	if standard(path) && !isOurs {
		return ""
	}
	for _, d := range doors {
		switch {
		case !within(path, d) || test:
		case !strings.HasSuffix(file, "_linux.go"):
			return "libraries of chips and lines only in a file that ends in _linux.go"
		case within(folder, "device") || within(folder, "ui"):
			return ""
		}
	}
	if test {
		if isOurs && path == folder {
			return ""
		}
		for _, m := range testMay {
			if within(path, m) {
				return ""
			}
		}
	}
	for _, m := range r.may {
		// A folder of ours is itself, a module all that is in it.
		if m == all || m == path || !isOurs && within(path, m) {
			return ""
		}
	}
	return r.why
}

func TestRulesRefuse(t *testing.T) {
	for _, tc := range []struct {
		folder, file, path string
		test, refused      bool
	}{
		{"device", "device.go", "time", false, false},
		{"device", "device.go", "golang.org/x/sys/unix", false, true},
		{"device/serialport", "port_linux.go", "github.com/tarm/serial", false, false},
		{"device/serialport", "frame.go", "github.com/tarm/serial", false, true},
		{"device/wiegand", "gpio_linux.go", "github.com/warthog618/go-gpiocdev", false, true},
		{"sync/feishu", "x_linux.go", "periph.io/x/host/v3/gpioioctl", false, true},
		{"device/keypad", "port.go", "github.com/tarm/serial", false, true},
		{"device/keypad", "run.go", "punchclock/device/serialport", false, true},
		{"device/wiegand", "reader.go", "github.com/warthog618/go-gpiocdev/uapi", false, true},
		{"device/wiegand", "gpio_linux.go", "github.com/warthog618/go-gpiocdev/uapi", false, false},
		{"device/wiegand", "decode.go", "punchclock/queue/punch", false, true},
		{"queue/punch", "punch.go", "punchclock/device", false, true},
		{"queue", "outbox.go", "go.etcd.io/bbolt", false, false},
		{"queue", "outbox.go", "punchclock/sync/drain", false, true},
		{"sync/drain", "worker.go", "go.etcd.io/bbolt", false, true},
		{"sync/drain", "worker.go", "punchclock/sync/feishu", false, true},
		{"sync/feishu", "client.go", "punchclock/sync/transfercard", false, true},
		{"sync/feishu", "client_test.go", "punchclock/sync/sandbox", true, false},
		{"sync/feishu", "client.go", "punchclock/sync/sandbox", false, true},
		{"ui/kiosk", "step.go", "punchclock/queue", false, true},
		{"ui/kiosk", "step.go", "log", false, true},
		{"ui/kiosk", "step.go", "log/slog", false, false},
		{"cmd/punchclock", "run.go", "punchclock/queue", false, false},
		{"cmd/punchclock", "run.go", "golang.org/x/time/rate", false, true},
		{"cmd/punchsim", "main.go", "punchclock/cmd/punchclock", false, true},
	} {
		r, ok := ruleOf(tc.folder)
		if !ok {
			t.Errorf("%s has no rule", tc.folder)
		}
		if why := forbidden(tc.folder, tc.file, tc.path, r, tc.test); (why != "") != tc.refused {
			t.Errorf("%s/%s imports %s: %q", tc.folder, tc.file, tc.path, why)
		}
	}
}

func TestExactlyOnePackageCommentPerPackage(t *testing.T) {
	_, list := packages(t)
	for _, p := range list {
		folder, _ := local(p.ImportPath)
		var with []string
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc == nil {
				continue
			}
			with = append(with, name)
			want := "Package " + p.Name + " "
			if p.Name == "main" {
				want = "Command " + path.Base(folder) + " "
				if !strings.HasPrefix(f.Doc.Text(), want) {
					want = strings.ToUpper(path.Base(folder)[:1]) + path.Base(folder)[1:] + " "
				}
			}
			if !strings.HasPrefix(f.Doc.Text(), want) {
				t.Errorf("%s/%s: the package comment does not begin with %q", folder, name, want)
			}
		}
		if len(p.GoFiles) > 0 && len(with) != 1 {
			t.Errorf("%s has %d package comments %v: exactly one says what it is for", folder, len(with), with)
		}
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil && !constraint.IsGoBuild(f.Doc.List[0].Text) {
				t.Errorf("%s/%s: a test has a package comment, which go doc would show", folder, name)
			}
		}
	}
}

func TestTopLevelIsTheSixFolders(t *testing.T) {
	root, list := packages(t)
	want := []string{"cmd", "device", "queue", "sync", "systemd", "ui", "go.mod", "go.sum", "Makefile", "README.md"}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		// bin is where make puts the programs; git does not know it.
		if name := e.Name(); !strings.HasPrefix(name, ".") && name != "bin" && !slices.Contains(want, name) {
			t.Errorf("%s is at the top: put it into %s", name, strings.Join(want[:6], ", "))
		}
	}
	for _, name := range want {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Errorf("%s is missing at the top", name)
		}
	}
	for _, p := range list {
		folder, _ := local(p.ImportPath)
		for part := range strings.SplitSeq(folder, "/") {
			if slices.Contains([]string{"internal", "pkg", "util", "utils", "common", "helpers"}, part) {
				t.Errorf("%s: name a folder for what is in it", folder)
			}
		}
		if folder == "sync" || p.ImportPath == "punchclock" {
			t.Errorf("%s has Go files: it is a district, not a package", p.ImportPath)
		}
	}
}

// A binary that pulls one of these in has grown a second way of doing something.
func TestTheProgramDoesNotContainTestLibraries(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "punchclock/cmd/punchclock").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		for _, no := range []string{"testing", "pgregory.net", "github.com/chromedp", "github.com/creack/pty", "go.bug.st", "github.com/rogpeppe",
			"punchclock/sync/sandbox", "punchclock/device/devicetest", "punchclock/sync/drain/draintest", "golang.org/x/oauth2"} {
			if within(dep, no) {
				t.Errorf("the program contains %s, which is for tests", dep)
			}
		}
	}
}
