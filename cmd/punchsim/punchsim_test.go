package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/queue/punch"
	"punchclock/sync/sandbox"
)

// safeBuffer is written by a run and read by its test.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs punchsim in the background; wait ends it and returns its exit code.
func start(t *testing.T, args ...string) (out *safeBuffer, wait func() int) {
	t.Helper()
	devNull, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out = &safeBuffer{}
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, std{devNull, out, out}) }()
	ended := -1
	wait = func() int {
		cancel()
		if ended < 0 {
			ended = <-code
			devNull.Close()
		}
		return ended
	}
	t.Cleanup(func() { wait() })
	return out, wait
}

// until waits for something that another process or goroutine brings about.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func TestFramesAreThoseOfTheDataSheets(t *testing.T) {
	for _, tc := range []struct{ dialect, badge, want string }{
		{"rdm6300", "em:06001259E3", "0230363030313235394533414503"},
		{"id12la", "em:06001259E3", "02303630303132353945334145" + "0d0a03"},
		{"rdm6300", "em:62E3086CED", "02" + hex.EncodeToString([]byte("62E3086CED08")) + "03"},
		{"idteck", "em:06001259E3", "02303630303132353945" + "33037e"},
		{"parallax", "em:06001259E3", "0a303630303132353945330d"},
		{"raw4", "uid:DEADBEEF", "deadbeef"},
		{"pn532", "uid:DEADBEEF", "0000ff0cf4d54b010100040804deadbeef9600"},
		{"pn532", "uid:04A1B2C3D4E580", "0000ff0ff1d54b01010044000704a1b2c3d4e5804000"},
		{"hex-line", "em:06001259E3", hex.EncodeToString([]byte("06001259E3\r\n"))},
		{"dec-line", "em:06001259E3", hex.EncodeToString([]byte("0001202659\r\n"))},
		{"dec-line", "em:01026F6C3A", hex.EncodeToString([]byte("0040856634\r\n"))},
		{overKeys, "keys:000123-4711-", hex.EncodeToString([]byte("000123#4711#"))},
		{overKeys, "keys:5,d", hex.EncodeToString([]byte("5*D"))},
		{"dec-line", "dec:018,23011", hex.EncodeToString([]byte("018,23011\r\n"))},
	} {
		got, err := frame(tc.dialect, punch.Badge(tc.badge))
		if err != nil || hex.EncodeToString(got) != tc.want {
			t.Errorf("%s %s: %x %v, want %s", tc.dialect, tc.badge, got, err, tc.want)
		}
	}
	for _, tc := range [][2]string{{"rdm6300", "uid:04A1B2C3"}, {"id12la", "dec:123"}, {"hex-line", "dec:1,2"}, {"dec-line", "uid:0A1B2C3D"}, {"raw4", "uid:04A1B2C3D4E580"}, {"pn532", "em:06001259E3"}, {"morse", "em:06001259E3"}, {overKeys, "keys:12E"}, {overKeys, "em:0600125903"}} {
		if b, err := frame(tc[0], punch.Badge(tc[1])); err == nil {
			t.Errorf("%s %s: %x", tc[0], tc[1], b)
		}
	}
}

func TestWiegandFrames(t *testing.T) {
	for badge, want := range map[punch.Badge]string{
		"w26:123-45678":   "10111101110110010011011101",
		"em:06007BB26E":   "10111101110110010011011101", // of which a reader with wires sends the low 24 bits
		"w34:1-2":         "1000000000000000100000000000000100",
		"w37:65535-1":     "",
		"w26:256-1":       "no",
		"w26:1":           "no",
		"uid:DEADBEEF":    "no",
		"w37:65536-1":     "no",
		"em:06007BB26E00": "no",
	} {
		b, err := frame(overWires, badge)
		if (err != nil) != (want == "no") || want != "" && err == nil && string(b) != want {
			t.Errorf("%s: %s %v, want %s", badge, b, err, want)
		}
		if err != nil {
			continue
		}
		half := (len(b) + 1) / 2
		if strings.Count(string(b[:half]), "1")%2 != 0 || strings.Count(string(b[len(b)-half:]), "1")%2 != 1 {
			t.Errorf("%s: the parities of %s", badge, b)
		}
	}
}

func TestGarbageIsNoBadge(t *testing.T) {
	for _, d := range append([]string{overWires}, dialects...) {
		good, err := frame(d, (&reader{dialect: d}).unknown())
		if err != nil {
			t.Fatal(err)
		}
		bad := garbage(d, good)
		if bytes.Equal(good, bad) || len(good) != len(bad) && d != "raw4" {
			t.Errorf("%s: %q", d, bad)
		}
	}
}

func TestMistakesInTheCallAreNamed(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := filepath.Join(dir, "reader")
	taken := file("taken", "precious")
	clock := file("clock", "")
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"clods", 2, "clods"},
		{"clouds --lisen x", 2, "lisen"},
		{"clouds now", 2, `no argument, got "now"`},
		{"clouds --listen 0.0.0.0:0 --dir " + dir, 2, "not loopback"},
		{"clouds --listen 192.0.2.1:80 --dir " + dir, 2, "not loopback"},
		{"clouds --listen 8080 --dir " + dir, 2, "write host:port"},
		{"clouds --listen 127.0.0.1:0 --dir " + dir + " --roster " + dir + "/none.csv", 1, "none.csv"},
		{"clouds --listen 127.0.0.1:0 --dir " + dir + " --roster " + file("r1.csv", "name\nx\n"), 1, "no employee_no"},
		{"clouds --listen 127.0.0.1:0 --dir " + dir + " --roster " + file("r2.csv", "employee_no,badges\n1,em:12\n"), 1, "line 2"},
		{"tap", 2, "--port is missing"},
		{"tap --pad wall --wires wall --every 1s", 2, "one cable"},
		{"tap --pad wall --every 1s", 2, "keys:123-4711-"},
		{"tap --pad Wall/../x --every 1s --badge keys:1-2-", 2, "small letters"},
		{"tap --pad wall --every 1s --badge em:0A1B2C3D01", 1, "keypad has digits"},
		{"tap --port " + link, 2, "no terminal"},
		{"tap --port " + link + " --dialect morse --every 1s", 2, "rdm6300, id12la, idteck, parallax, raw4, hex-line, dec-line, pn532"},
		{"tap --port " + link + " --every 1s --file x", 2, "not both"},
		{"tap --port " + link + " --badge em:0A1B2C3D01", 2, "--every"},
		{"tap --port " + link + " --every -1s", 2, "above zero"},
		{"tap --port " + link + " --every 1s --badge em:12", 2, "five bytes"},
		{"tap --port " + link + " --every 1s --badge uid:0A1B2C3D", 1, "em badges only"},
		{"tap --port " + taken + " --every 1s", 1, "is not a link"},
		{"tap --port " + link + " --file " + file("b1", "# nothing\n"), 1, "holds no badge"},
		{"tap --port " + link + " --file " + file("b2", "em:0A1B2C3D01\nem:0A1B2C3D02 soon\n"), 1, "b2:2"},
		{"tap --port " + link + " --file " + file("b3", "em:0A1B2C3D01 1s 2s\n"), 1, "b3:1"},
		{"demo --clock " + dir + "/no-clock --dir " + dir, 1, "make build"},
		{"demo --listen 0.0.0.0:8080 --clock " + clock + " --dir " + dir, 2, "not loopback"},
		{"demo --clouds 10.0.0.1:1 --clock " + clock + " --dir " + dir, 2, "not loopback"},
	} {
		out, wait := start(t, strings.Fields(tc.args)...)
		until(t, tc.args, func() bool { return out.String() != "" })
		if code := wait(); code != tc.code || !strings.Contains(out.String(), tc.want) {
			t.Errorf("punchsim %s: exit %d, %q; want %d and %q", tc.args, code, out.String(), tc.code, tc.want)
		}
	}
	if b, err := os.ReadFile(taken); err != nil || string(b) != "precious" {
		t.Error("a file was replaced by a link")
	}
	if _, err := os.Lstat(link); err == nil {
		t.Error("a link stayed behind")
	}
}

func TestCloudsServeBothAndTheControlPageOnOnePort(t *testing.T) {
	dir := t.TempDir()
	out, wait := start(t, "clouds", "--listen", "127.0.0.1:0", "--dir", dir, "--json")
	until(t, "the clouds", func() bool { return strings.Contains(out.String(), "\n") })
	var at struct {
		URL, Control string
		TC           map[string]string `json:"104"`
		Feishu       map[string]string `json:"feishu"`
		Signin       map[string]string `json:"signin"`
	}
	if err := json.Unmarshal([]byte(out.String()), &at); err != nil {
		t.Fatalf("%q: %v", out.String(), err)
	}
	info, err := os.Stat(at.TC["client_secret_file"])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("secret file: %v %v", info, err)
	}
	secret, err := os.ReadFile(at.TC["client_secret_file"])
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.PostForm(at.TC["token_url"], url.Values{"grant_type": {"client_credentials"}, "scope": {"prohrm"},
		"client_id": {at.TC["client_id"]}, "client_secret": {strings.TrimSpace(string(secret))}})
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("104's token: %v %v", resp, err)
	}
	resp.Body.Close()
	for path, want := range map[string]string{
		at.URL + "/open-apis/nothing":  "404 page not found",
		at.URL + "/nothing":            `"code":404`,
		at.URL + "/":                   "<!DOCTYPE html>",
		at.Control:                     "<!DOCTYPE html>",
		at.Control + "state":           `"worst_second"`,
		at.Control + "faults":          `"lock_after"`,
		at.TC["api_base"] + "/nothing": `"code":404`,
	} {
		resp, err := http.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %q %v, want %q", path, b, err, want)
		}
	}
	password, err := os.ReadFile(at.Signin["password_file"])
	if err != nil {
		t.Fatal(err)
	}
	resp, err = http.Post(at.Signin["base_url"]+"/api/public/user/login", "application/json",
		strings.NewReader(fmt.Sprintf(`{"user_id":%q,"password":%q}`, at.Signin["user_id"], strings.TrimSpace(string(password)))))
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("the sign-in system's login: %v %v", resp, err)
	}
	resp.Body.Close()
	if code := wait(); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if strings.Contains(out.String(), strings.TrimSpace(string(secret))) {
		t.Error("the secret was printed")
	}
	// The clouds know their clients again after a restart.
	out, _ = start(t, "clouds", "--listen", "127.0.0.1:0", "--dir", dir)
	until(t, "the clouds again", func() bool { return strings.Contains(out.String(), "control page") })
	if again, err := os.ReadFile(at.TC["client_secret_file"]); err != nil || !bytes.Equal(again, secret) {
		t.Error("the secret changed")
	}
	if !strings.Contains(out.String(), "[[destination]]") || !strings.Contains(out.String(), `driver             = "transfercard"`) {
		t.Errorf("no configuration in %s", out)
	}
}

func TestCloudsRefuseATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, wait := start(t, "clouds", "--listen", l.Addr().String(), "--dir", t.TempDir())
	until(t, "the message", func() bool { return out.String() != "" })
	if code := wait(); code != 1 || !strings.Contains(out.String(), "another port") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// openSlave opens a port as a program on the device does.
func openSlave(t *testing.T, link string) *os.File {
	t.Helper()
	f, err := os.OpenFile(link, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func read(t *testing.T, f *os.File, n int) string {
	t.Helper()
	if err := f.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatalf("read %d bytes: %v, got %q", n, err, b)
	}
	return string(b)
}

func runLine(t *testing.T) *line {
	t.Helper()
	l, err := plugLine(filepath.Join(t.TempDir(), "reader"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, l.unplug()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestBadgeComesOutOfThePortByteForByteAt9600Baud(t *testing.T) {
	l := runLine(t)
	r := &reader{line: l, dialect: "rdm6300", people: []person{{number: "000123", name: "王小明", badge: "em:06001259E3"}}}
	if _, err := r.tap("em:06001259E3"); !errors.Is(err, errNobody) {
		t.Errorf("a badge that nobody listens to: %v", err)
	}
	f := openSlave(t, l.link)
	if !l.listening() {
		t.Error("the listener was not noticed")
	}
	start := time.Now()
	said, quit, err := r.key('1')
	if err != nil || quit || said != "tapped 000123 王小明" {
		t.Errorf("%q %v %v", said, quit, err)
	}
	if took := time.Since(start); took < 14*time.Second*10/9600 {
		t.Errorf("14 bytes in %v: faster than 9600 baud", took)
	}
	if got := read(t, f, 14); got != "\x0206001259E3AE\x03" {
		t.Errorf("%q", got)
	}
	if _, _, err := r.key('0'); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f, 14); !strings.Contains(got, unknownBadge.Value()) {
		t.Errorf("key 0: %q", got)
	}
	if _, _, err := r.key('g'); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f, 14); !strings.HasPrefix(got, "\x02") || strings.Contains(got, unknownBadge.Value()) {
		t.Errorf("key g: %q", got)
	}
	if said, _, err := r.key('9'); err != nil || !strings.Contains(said, "nobody") {
		t.Errorf("key 9: %q %v", said, err)
	}
	if _, quit, _ := r.key('q'); !quit {
		t.Error("q does not quit")
	}
}

func TestNothingIsEchoedAndControlBytesPass(t *testing.T) {
	l := runLine(t)
	f := openSlave(t, l.link)
	if _, err := f.Write([]byte("hello\n")); err != nil { // a program that talks to its reader is not answered
		t.Fatal(err)
	}
	all := "\x03\x04\x11\x13\x1a\r\n\x7f"
	if err := l.send([]byte(all)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f, len(all)); got != all {
		t.Errorf("%q", got)
	}
}

func TestUnplugHangsUpAndReplugComesBackUnderTheSameName(t *testing.T) {
	l := runLine(t)
	r := &reader{line: l, dialect: "rdm6300"}
	f := openSlave(t, l.link)
	if said, _, err := r.key('u'); err != nil || !strings.Contains(said, "unplugged") {
		t.Fatalf("%q %v", said, err)
	}
	if _, err := os.Lstat(l.link); !os.IsNotExist(err) {
		t.Errorf("the port is still there: %v", err)
	}
	if err := f.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("the listener was not hung up: %d %v", n, err)
	}
	if _, _, err := r.key('0'); !errors.Is(err, errNobody) {
		t.Errorf("tap while unplugged: %v", err)
	}
	if said, _, err := r.key('u'); err != nil || said != "plugged in" {
		t.Fatalf("%q %v", said, err)
	}
	f2 := openSlave(t, l.link)
	if _, _, err := r.key('0'); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f2, 14); !strings.Contains(got, unknownBadge.Value()) {
		t.Errorf("%q", got)
	}
}

func TestListenerMayCloseAndOpenAsOftenAsItLikes(t *testing.T) {
	l := runLine(t)
	for i := range 5 {
		before, err := os.Readlink(l.link)
		if err != nil {
			t.Fatal(err)
		}
		f := openSlave(t, l.link)
		if err := unix.IoctlSetInt(int(f.Fd()), unix.TIOCEXCL, 0); err != nil { // as a careful listener does
			t.Fatal(err)
		}
		until(t, "the listener to be noticed", l.listening)
		if err := l.send([]byte("x")); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		f.Close() // with a byte unread: it must not come out of the next open
		until(t, "a fresh line", func() bool {
			now, err := os.Readlink(l.link)
			return err == nil && now != before
		})
	}
	f := openSlave(t, l.link)
	if err := l.send([]byte("new")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f, 3); got != "new" {
		t.Errorf("%q", got)
	}
}

func TestTapFromAFileWaitsForTheListenerAndEnds(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "reader"), filepath.Join(dir, "badges")
	if err := os.WriteFile(file, []byte("# two people\nem:06001259E3\n\nem:0A1B2C3D01 50ms # and a pause\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, wait := start(t, "tap", "--port", link, "--file", file, "--dialect", "id12la")
	until(t, "the port", func() bool { _, err := os.Stat(link); return err == nil })
	time.Sleep(100 * time.Millisecond)
	if out.String() != "" {
		t.Fatalf("tapped before anybody listened: %s", out)
	}
	f := openSlave(t, link)
	if got := read(t, f, 32); got != "\x0206001259E3AE\r\n\x03\x020A1B2C3D01"+"01"+"\r\n\x03" {
		t.Errorf("%q", got)
	}
	until(t, "the end", func() bool { _, err := os.Lstat(link); return os.IsNotExist(err) })
	if code := wait(); code != 0 || out.String() != "tapped a badge of nobody\ntapped 000123 王小明\n" {
		t.Errorf("exit %d: %q", code, out)
	}
}

func TestTapOnAScheduleTakesTurns(t *testing.T) {
	link := filepath.Join(t.TempDir(), "reader")
	out, wait := start(t, "tap", "--port", link, "--every", "30ms", "--badge", "em:06001259E3", "--badge", "em:0A1B2C3D02")
	until(t, "the port", func() bool { _, err := os.Stat(link); return err == nil })
	f := openSlave(t, link)
	got := read(t, f, 14*3)
	if strings.Count(got, "06001259E3") != 2 || strings.Count(got, "0A1B2C3D02") != 1 {
		t.Errorf("%q", got)
	}
	if code := wait(); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Error("the link stayed behind")
	}
}

func TestDemoRosterIsOfNinePeopleWithTheirLeadingZeros(t *testing.T) {
	people, err := readPeople("")
	if err != nil || len(people) != 9 || people[0].number != "000123" || people[8].badge != "em:0A1B2C3D09" {
		t.Errorf("%+v %v", people, err)
	}
	if known(people)[0] != (sandbox.Person{Number: "000123"}) {
		t.Errorf("%+v", known(people)[0])
	}
	for _, p := range people {
		if p.badge == unknownBadge {
			t.Error("somebody has the badge of nobody")
		}
	}
}

// keyboard is a terminal at whose keys the test sits.
func keyboard(t *testing.T) (press func(string), stdin *os.File) {
	t.Helper()
	master, slave, err := openPTY()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err = os.OpenFile(slave, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); master.Close() })
	return func(keys string) {
		if _, err := master.Write([]byte(keys)); err != nil {
			t.Error(err)
		}
	}, stdin
}

func TestTapByKeyOnATerminal(t *testing.T) {
	press, stdin := keyboard(t)
	link := filepath.Join(t.TempDir(), "reader")
	out, code := &safeBuffer{}, make(chan int, 1)
	go func() { code <- run(t.Context(), []string{"tap", "--port", link}, std{stdin, out, out}) }()
	until(t, "the help", func() bool { return strings.Contains(out.String(), "q  quit") })
	press("1")
	until(t, "the answer", func() bool { return strings.Contains(out.String(), "nobody listens") })
	f := openSlave(t, link)
	press("2x")
	if got := read(t, f, 14); !strings.Contains(got, "0A1B2C3D02") {
		t.Errorf("%q", got)
	}
	press("uu")
	until(t, "the replug", func() bool { return strings.Contains(out.String(), "plugged in\n") })
	press("q")
	if c := <-code; c != 0 {
		t.Errorf("exit %d: %s", c, out)
	}
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Error("the link stayed behind")
	}
}

func TestBadgesOfAFileWaitForAListenerThatLeft(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "reader"), filepath.Join(dir, "badges")
	if err := os.WriteFile(file, []byte("em:06001259E3\nem:0A1B2C3D01 100ms\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, wait := start(t, "tap", "--port", link, "--file", file, "--stay")
	until(t, "the port", func() bool { _, err := os.Stat(link); return err == nil })
	first := openSlave(t, link)
	if got := read(t, first, 14); !strings.Contains(got, "06001259E3") {
		t.Errorf("%q", got)
	}
	was, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	until(t, "a fresh line", func() bool { now, err := os.Readlink(link); return err == nil && now != was })
	time.Sleep(200 * time.Millisecond) // past the second badge's turn
	second := openSlave(t, link)
	opened := time.Now()
	if got := read(t, second, 14); !strings.Contains(got, "0A1B2C3D01") || time.Since(opened) < settleTime {
		t.Errorf("%q after %v", got, time.Since(opened))
	}
	if code := wait(); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
}
