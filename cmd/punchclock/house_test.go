package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"punchclock/device/devicetest"
	"punchclock/sync/sandbox"
)

// The whole house, as a customer gets it: the real binary, badge bytes on a
// pseudo-terminal, the clouds as servers on loopback, and nothing in between.

// binary is built once for all tests of this package.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "punchclock-test")
	if err != nil {
		return "", err
	}
	cleanup = append(cleanup, func() { os.RemoveAll(dir) })
	bin := filepath.Join(dir, "punchclock")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=test", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

var cleanup []func()

// person is one line of the tests' roster.
type person struct {
	number, name string
	card         [5]byte
}

func (p person) badge() string { return fmt.Sprintf("em:%X", p.card) }

// people makes n of them; their numbers begin with zeros.
func people(n int) []person {
	out := make([]person, n)
	for i := range out {
		out[i] = person{fmt.Sprintf("%06d", i+1), fmt.Sprintf("員工%d", i+1), [5]byte{0x0A, 0, byte(i >> 8), byte(i), 0x5E}}
	}
	return out
}

type house struct {
	t       testing.TB
	dir     string
	config  string
	people  []person
	tc      *sandbox.TransferCard
	fs      *sandbox.Feishu
	clouds  *http.Server
	cloudAt string
	page    string
	port    string // link to the pty
	line    *os.File
	cmd     *exec.Cmd
	exited  chan struct{}
	log     *bytes.Buffer
	logMu   sync.Mutex
	results chan result
	stopSSE context.CancelFunc
}

// result is the event as the outside sees it.
type result struct {
	Outcome  string `json:"outcome"`
	PunchID  string `json:"punch_id"`
	Seq      uint64 `json:"seq"`
	Kind     string `json:"kind"`
	Employee string `json:"employee_no"`
	Name     string `json:"name"`
	Time     string `json:"time"`
	Reader   string `json:"reader"`
	Clock    string `json:"clock"`
	Reason   string `json:"reason"`
	Portrait string `json:"portrait"`
	at       time.Time
}

// settings are what a test wants other than usual.
type settings struct {
	people int
	window string // duplicate_window
	rate   int
	batch  int
	extra  string // more of the configuration file
	kiosk  string // more of its section [kiosk]
}

// newHouse writes the configuration, makes the reader's line and the clouds, and
// imports the roster. Nothing runs yet.
func newHouse(t testing.TB, s settings) *house {
	t.Helper()
	if s.people == 0 {
		s.people = 3
	}
	if s.window == "" {
		s.window = "60s"
	}
	if s.rate == 0 {
		s.rate = 25
	}
	if s.batch == 0 {
		s.batch = 50
	}
	h := &house{t: t, dir: t.TempDir(), people: people(s.people), log: &bytes.Buffer{}, results: make(chan result, 4096)}
	var known []sandbox.Person
	csv := "employee_no,name,badges\n"
	for _, p := range h.people {
		known = append(known, sandbox.People(p.number)...)
		csv += fmt.Sprintf("%s,%s,%s\n", p.number, p.name, p.badge())
	}
	h.tc = sandbox.NewTransferCard(sandbox.TransferCardConfig{People: known})
	h.fs = sandbox.NewFeishu(sandbox.FeishuConfig{People: known})
	h.cloudAt, h.page = freeAddress(t), freeAddress(t)
	id104, secret104 := h.tc.Credentials()
	idFS, secretFS := h.fs.Credentials()
	h.write("104-secret", secret104+"\n")
	h.write("feishu-secret", secretFS+"\n")
	h.write("roster.csv", csv)
	h.port = filepath.Join(h.dir, "reader")
	h.plug()
	h.config = h.write("punchclock.toml", fmt.Sprintf(`schema = 1
[device]
id = "test-door"
name = "測試門"
state_dir = %q
[kiosk]
listen = %q
duplicate_window = %q
%s
[clock]
trust = "system"
[[reader]]
name = "front"
driver = "serial"
port = %q
[[destination]]
name = "104"
driver = "transfercard"
api_base = "http://%s/104/prohrm/1.0"
token_url = "http://%s/104/oauth2/token"
client_id = %q
client_secret_file = "104-secret"
calls_per_second = %d
batch = %d
[[destination]]
name = "feishu"
driver = "feishu"
base_url = "http://%s"
app_id = %q
app_secret_file = "feishu-secret"
%s`, filepath.Join(h.dir, "state"), h.page, s.window, s.kiosk, h.port, h.cloudAt, h.cloudAt, id104, s.rate, s.batch, h.cloudAt, idFS, s.extra))
	if out, code := h.run("roster", "import", "--config", h.config, filepath.Join(h.dir, "roster.csv")); code != 0 {
		t.Fatalf("roster import: %d\n%s", code, out)
	}
	t.Cleanup(h.close)
	return h
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (h *house) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// plug gives the reader's link a new line, unplug takes it away.
func (h *house) plug() {
	h.t.Helper()
	master, path := devicetest.NewPTY(h.t)
	os.Remove(h.port)
	if err := os.Symlink(path, h.port); err != nil {
		h.t.Fatal(err)
	}
	h.line = master
}

func (h *house) unplug() { h.line.Close(); os.Remove(h.port) }

// openClouds lets the clouds answer; closeClouds cuts the network.
func (h *house) openClouds() {
	h.t.Helper()
	l, err := net.Listen("tcp", h.cloudAt)
	if err != nil {
		h.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/104/", http.StripPrefix("/104", h.tc))
	mux.Handle("/", h.fs)
	h.clouds = &http.Server{Handler: mux}
	go h.clouds.Serve(l)
}

func (h *house) closeClouds() {
	if h.clouds != nil {
		h.clouds.Close()
		h.clouds = nil
	}
}

// start runs the daemon and waits until it takes punches.
func (h *house) start(wrap ...string) {
	h.t.Helper()
	bin, err := binary()
	if err != nil {
		h.t.Fatal(err)
	}
	args := append(wrap, bin, "run", "--config", h.config)
	h.cmd = exec.Command(args[0], args[1:]...)
	h.cmd.Stderr = lockedWriter{h}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.exited = make(chan struct{})
	go func(c *exec.Cmd, done chan struct{}) { c.Wait(); close(done) }(h.cmd, h.exited)
	h.until(15*time.Second, "the clock is ready", func() bool {
		select {
		case <-h.exited:
			h.t.Fatalf("the clock ended: %v\n%s", h.cmd.ProcessState, h.logged())
		default:
		}
		resp, err := http.Get("http://" + h.page + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	ctx, cancel := context.WithCancel(context.Background())
	h.stopSSE = cancel
	connected := make(chan struct{})
	go h.listen(ctx, connected)
	select {
	case <-connected:
	case <-time.After(10 * time.Second):
		h.t.Fatal("no event stream")
	}
	h.until(15*time.Second, "the reader is up", func() bool { return h.status().Readers[0].State == "ok" })
}

type lockedWriter struct{ h *house }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.h.logMu.Lock()
	defer w.h.logMu.Unlock()
	return w.h.log.Write(b)
}

func (h *house) logged() string {
	h.logMu.Lock()
	defer h.logMu.Unlock()
	return h.log.String()
}

// listen passes result events on.
func (h *house) listen(ctx context.Context, connected chan struct{}) {
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+h.page+"/events", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	close(connected)
	event := ""
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		line := sc.Text()
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			event = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok && event == "result" {
			r := result{at: time.Now()}
			if err := json.Unmarshal([]byte(v), &r); err != nil {
				h.t.Errorf("result %s: %v", v, err)
			}
			h.results <- r
		}
	}
}

// tap sends a card's frame and returns the answer.
func (h *house) tap(p person) result {
	h.t.Helper()
	h.send(devicetest.RDM6300(p.card))
	return h.answer()
}

func (h *house) send(b []byte) {
	h.t.Helper()
	if _, err := h.line.Write(b); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) answer() result {
	h.t.Helper()
	select {
	case r := <-h.results:
		return r
	case <-time.After(10 * time.Second):
		h.t.Fatalf("no answer to a tap\n%s", h.logged())
		return result{}
	}
}

// kill is a power cut as far as a process can have one.
func (h *house) kill() {
	h.stopSSE()
	h.cmd.Process.Kill()
	<-h.exited
}

// stop ends the daemon as systemd does.
func (h *house) stop() {
	h.t.Helper()
	h.stopSSE()
	h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-h.exited:
	case <-time.After(10 * time.Second):
		h.cmd.Process.Kill()
		h.t.Fatalf("the clock does not stop\n%s", h.logged())
	}
	if c := h.cmd.ProcessState.ExitCode(); c != 0 {
		h.t.Errorf("exit code %d\n%s", c, h.logged())
	}
}

func (h *house) close() {
	if h.exited != nil {
		h.stopSSE()
		h.cmd.Process.Kill()
		<-h.exited
	}
	h.closeClouds()
	if h.t.Failed() {
		h.t.Logf("log of the clock:\n%s", h.logged())
	}
}

// run runs a verb and returns what it said.
func (h *house) run(args ...string) (string, int) {
	h.t.Helper()
	bin, err := binary()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := exec.Command(bin, args...).CombinedOutput()
	var e *exec.ExitError
	if errors.As(err, &e) {
		return string(out), e.ExitCode()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return string(out), 0
}

func (h *house) get(path string) []byte {
	h.t.Helper()
	resp, err := http.Get("http://" + h.page + path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func (h *house) status() status {
	h.t.Helper()
	var s status
	if err := json.Unmarshal(h.get("/api/status"), &s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) until(most time.Duration, what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(most); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("not within %v: %s\n%s", most, what, h.logged())
		}
	}
}

// delivered waits until nothing is pending anywhere.
func (h *house) delivered(most time.Duration) {
	h.t.Helper()
	h.until(most, "everything is delivered", func() bool {
		for _, d := range h.status().Destinations {
			if d.Pending > 0 {
				return false
			}
		}
		return true
	})
}
