package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// room is a journal of its own: systemd's daemon, on a /run that nobody else sees.
type room struct {
	t   *testing.T
	pid int
}

func newRoom(t *testing.T) *room {
	t.Helper()
	const journald = "/lib/systemd/systemd-journald"
	if os.Geteuid() != 0 {
		t.Skip("a journal of one's own can be started by root only")
	}
	for _, tool := range []string{journald, "rsyslogd", "unshare", "nsenter", "systemd-cat", "journalctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed; on Debian: apt-get install systemd util-linux rsyslog", tool)
		}
	}
	if found, _ := filepath.Glob("/usr/lib/*/rsyslog/imrelp.so"); len(found) == 0 {
		t.Skip("rsyslog's RELP is not installed; on Debian: apt-get install rsyslog-relp")
	}
	if id, _ := os.ReadFile("/etc/machine-id"); len(id) < 32 {
		t.Skip("this machine has no /etc/machine-id, so its journal has no folder; systemd-machine-id-setup makes one")
	}
	cmd := exec.Command("unshare", "-m", "sh", "-ec", "mount --make-rprivate /; mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal /run/log/journal; mount -t tmpfs tmpfs /var/log; exec "+journald)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, pid: cmd.Process.Pid}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	for end := time.Now().Add(time.Minute); ; {
		if c, err := net.Dial("unixgram", r.path("/run/systemd/journal/socket")); err == nil {
			c.Close()
			// Not this machine's own: the folder is on the new /run.
			if found, _ := filepath.Glob(r.path("/run/log/journal/*/system.journal")); len(found) == 1 {
				return r
			}
		}
		select {
		case <-ended:
			t.Skipf("systemd's journal cannot be started here, in a mount namespace of its own: %v %s", cmd.ProcessState, said.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatal("a journal of one's own runs, and takes nothing")
		}
	}
}

// path is a file of the room, seen from outside.
func (r *room) path(p string) string { return fmt.Sprintf("/proc/%d/root%s", r.pid, p) }

// inside is how to start a program there; connected, with stderr in the journal as
// systemd connects it.
func (r *room) inside() []string {
	return []string{"nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", r.pid)}
}

func (r *room) connected() []string {
	return append(r.inside(), "systemd-cat", "sh", "-c", `JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) && export JOURNAL_STREAM && exec "$@"`, "sh")
}

// say writes numbered lines, from and up to but without to.
func (r *room) say(from, to int) {
	r.t.Helper()
	c, err := net.Dial("unixgram", r.path("/run/systemd/journal/socket"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	for n := from; n < to; n++ {
		if _, err := fmt.Fprintf(c, "MESSAGE=line %d \"%s\"\nPRIORITY=4\nSYSLOG_IDENTIFIER=test\nLINE=%d\n", n, strings.Repeat("北", n%7), n); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *room) sayLong(text string) {
	r.t.Helper()
	c, err := net.Dial("unixgram", r.path("/run/systemd/journal/socket"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "MESSAGE=%s\nPRIORITY=4\nSYSLOG_IDENTIFIER=an {odd} one\nLONG=yes\n", text); err != nil {
		r.t.Fatal(err)
	}
}

// lines returns what the journal holds, as journalctl tells it.
func (r *room) lines(filter ...string) []map[string]any {
	r.t.Helper()
	args := append(r.inside(), "journalctl", "--no-pager", "-o", "json", "-q")
	out, err := exec.Command("nsenter", append(args[1:], filter...)...).Output()
	if err != nil {
		r.t.Fatal(err)
	}
	return jsonLines(r.t, out)
}

func jsonLines(t *testing.T, b []byte) (out []map[string]any) {
	t.Helper()
	for line := range bytes.Lines(b) {
		m := map[string]any{}
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		out = append(out, m)
	}
	return out
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	from time.Time
	life time.Duration
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), from: time.Now().Add(-time.Hour), life: 25 * time.Hour}
	a.cert, a.key = a.sign("ca", nil)
	return a
}

// sign writes NAME.pem and NAME-key.pem.
func (a *authority) sign(name string, names []string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	number, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: number, Subject: pkix.Name{CommonName: name}, DNSNames: names, NotBefore: a.from, NotAfter: a.from.Add(a.life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
	parent, by := a.cert, a.key
	if parent == nil {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, "-key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.file(name+file), pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	c.Raw = der
	return c, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// rsyslog runs one with this configuration, and ends it with the signal.
func rsyslog(t *testing.T, within []string, conf string) (end func(syscall.Signal)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rsyslog.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(slices.Clone(within), "rsyslogd", "-n", "-iNONE", "-f", path)
	cmd := exec.Command(args[0], args[1:]...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func(s syscall.Signal) {
		if !ended {
			ended = true
			cmd.Process.Signal(s)
			cmd.Wait()
		}
	}
	t.Cleanup(func() {
		end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("rsyslogd said:\n%s", said.String())
		}
	})
	return end
}

// Everything that is real in the field is real here, on loopback: the clock, systemd's
// journal, rsyslog at both ends, RELP, and the certificates. An hour is what an hour
// says, not what it lasts.
func TestAnHourWithoutACollectorLosesNoLineAndDoublesNone(t *testing.T) {
	r := newRoom(t)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ours, foreign := newAuthority(t), newAuthority(t)
	for _, a := range []*authority{ours, foreign} {
		a.sign("clock", []string{"test-door"})
		a.sign("collector", []string{"localhost"})
	}
	ours.sign("other", []string{"elsewhere"})
	at := freeAddress(t)
	_, port, _ := net.SplitHostPort(at)
	logs := fmt.Sprintf("[logs]\nserver = %q\nca = %q\ncert = %q\nkey = %q\n", "localhost:"+port, ours.file("ca.pem"), ours.file("clock.pem"), ours.file("clock-key.pem"))
	h := newHouse(t, settings{people: 40, window: "0s", extra: logs})
	h.openClouds()

	// Both ends.
	state, store := t.TempDir(), filepath.Join(t.TempDir(), "store")
	out, code := h.run("logs", "config", "--config", h.config, "--state", state)
	if code != 0 || !strings.Contains(out, `resumeInterval="10" action.resumeIntervalMax="60"`) {
		t.Fatalf("%d\n%s", code, out)
	}
	senderText := strings.Replace(out, `resumeInterval="10" action.resumeIntervalMax="60"`, `resumeInterval="1" action.resumeIntervalMax="1"`, 1)
	sender := func() func(syscall.Signal) { return rsyslog(t, r.inside(), senderText) }
	collector := func(a *authority) func(syscall.Signal) {
		for from, to := range map[string]string{"collector.pem": "cert.pem", "collector-key.pem": "key.pem"} {
			b, err := os.ReadFile(a.file(from))
			if err = errors.Join(err, os.WriteFile(a.file(to), b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		var conf bytes.Buffer
		if err := writeCollector(&conf, a.dir, port, bin+" logs store "+store, []string{"test-door"}); err != nil {
			t.Fatal(err)
		}
		return rsyslog(t, nil, conf.String())
	}
	stored := func() map[int]int {
		b, err := os.ReadFile(filepath.Join(store, "test-door.jsonl"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		out := map[int]int{}
		for line := range bytes.Lines(b[:bytes.LastIndexByte(b, '\n')+1]) {
			var l struct{ LINE string }
			if err := json.Unmarshal(line, &l); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if n, err := strconv.Atoi(l.LINE); err == nil {
				out[n]++
			}
		}
		return out
	}
	// A line as long as the journal takes from a program, and a field.
	long := strings.Repeat("長", 40_000/3)
	said := 0
	say := func(n int) { r.say(said, said+n); said += n }
	next := 0
	tap := func() {
		t.Helper()
		if got := h.tap(h.people[next]); got.Outcome != "stored" {
			t.Errorf("tap: %+v", got)
		}
		next++
	}

	defer func() {
		if t.Failed() {
			for _, l := range r.lines("SYSLOG_IDENTIFIER=punchclock") {
				t.Log(l["_PID"], l["MESSAGE"])
			}
		}
		if have := stored(); len(have) < said {
			var missing []int
			for n := range said {
				if have[n] == 0 {
					missing = append(missing, n)
				}
			}
			t.Errorf("of %d lines these are missing: %v", said, missing)
		}
	}()
	endCollector := collector(ours)
	endSender := sender()
	h.start(r.connected()...)
	tap()
	r.sayLong(long)
	say(200)
	h.until(30*time.Second, "lines are collected", func() bool { return len(stored()) == said })

	// Away, in the middle of a sentence.
	say(100)
	endCollector(syscall.SIGKILL)
	for range 6 {
		say(300)
		tap()
	}
	spooled := func() bool { found, _ := filepath.Glob(filepath.Join(state, "lines.*")); return len(found) > 1 }
	h.until(30*time.Second, "lines wait on disk", spooled)
	endSender(syscall.SIGTERM)
	say(300)
	tap()
	endSender = sender()
	say(300)

	// Somebody else at its address, who has a certificate, but not ours; and a router
	// that takes the connection and lets nothing through.
	before := len(stored())
	endCollector = collector(foreign)
	h.until(30*time.Second, "the foreign certificate is refused", func() bool {
		for _, l := range r.lines("PUNCHCLOCK_EVENT=collector_away") {
			if strings.Contains(fmt.Sprint(l["PUNCHCLOCK_ERR"]), "unknown authority") {
				return true
			}
		}
		return false
	})
	tap()
	endCollector(syscall.SIGKILL)
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	swallowed, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	tap()
	say(100)
	swallowed.Close()
	l.Close()
	if n := len(stored()); n != before {
		t.Errorf("%d lines went to somebody else", n-before)
	}

	// Back, and gone, and back.
	for range 3 {
		endCollector = collector(ours)
		had := len(stored())
		h.until(60*time.Second, "lines are collected again", func() bool { return len(stored()) > min(had+100, said-1) })
		endCollector(syscall.SIGKILL)
	}
	endCollector = collector(ours)
	tap()
	say(50)
	h.until(90*time.Second, "all lines are collected", func() bool { return len(stored()) == said })
	h.stop()
	h.until(60*time.Second, "the clock's last line is collected", func() bool {
		b, err := os.ReadFile(filepath.Join(store, "test-door.jsonl"))
		return err == nil && bytes.Contains(b, []byte(`"PUNCHCLOCK_EVENT":"stopping"`))
	})

	// A clock that we do not know, and one that nobody knows.
	for name, a := range map[string]*authority{"other": ours, "clock": foreign} {
		v := logsConfig{Server: "localhost:" + port, CA: ours.file("ca.pem"), Cert: a.file(name + ".pem")}
		c, err := v.tlsConfig(a.file(name + "-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := dialRELP(v.Server, c)
		if err == nil {
			err = conn.command("syslog", "<4>1 - x x - - - {}")
		}
		if err == nil {
			t.Errorf("the collector takes lines with the certificate %s", a.file(name+".pem"))
		}
	}
	endSender(syscall.SIGTERM)
	endCollector(syscall.SIGTERM)

	for n, times := range stored() {
		if times != 1 {
			t.Errorf("line %d is there %d times", n, times)
		}
	}
	b, err := os.ReadFile(filepath.Join(store, "test-door.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(long); err != nil || bytes.Count(b, text) != 1 {
		t.Errorf("the long line is there %d times, %v", bytes.Count(b, text), err)
	}
	collected := map[string]int{}
	for _, l := range jsonLines(t, b) {
		if l["PUNCHCLOCK_EVENT"] != nil {
			collected[fmt.Sprint(l["PUNCHCLOCK_EVENT"], l["_SOURCE_REALTIME_TIMESTAMP"])]++
			if l["PUNCHCLOCK_DEVICE"] != "test-door" || l["MESSAGE_ID"] == nil || l["TIME"] == nil || l["SYSLOG_IDENTIFIER"] != "punchclock" {
				t.Errorf("%v", l)
			}
		}
	}
	own := r.lines("SYSLOG_IDENTIFIER=punchclock")
	for _, l := range own {
		if n := collected[fmt.Sprint(l["PUNCHCLOCK_EVENT"], l["_SOURCE_REALTIME_TIMESTAMP"])]; n != 1 {
			t.Errorf("%v: collected %d times", l["MESSAGE"], n)
		}
	}
	if len(own) < 6 {
		t.Errorf("the clock has said only %v", own)
	}
}

// A far side that takes the connection and then nothing.
func TestACollectorThatSwallowsAllIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var peers []net.Conn
		s := &sender{log: slog.New(slog.DiscardHandler), server: "x:1", dial: func() (*relp, error) {
			near, far := net.Pipe()
			peers = append(peers, far)
			go io.Copy(io.Discard, far)
			return openRELP(near, &tls.Config{ServerName: "x"})
		}}
		start := time.Now()
		if err := s.line("a line"); err == nil {
			t.Error("it went somewhere")
		}
		if took := time.Since(start); took != 2*relpDial {
			t.Errorf("%v until it was given up, want twice %v", took, relpDial)
		}
		for _, p := range peers {
			p.Close()
		}
	})
}

// relpSession answers as a collector does, with what it is told.
func relpSession(conn net.Conn, answer func(n uint64, command, data string) string) {
	in := bufio.NewReader(conn)
	for {
		n, command, data, err := readRELP(in)
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, answer(n, command, data)); err != nil {
			return
		}
	}
}

func TestOnlyAYesOfTheCollectorIsOne(t *testing.T) {
	for name, reply := range map[string]string{
		"refused": "%d rsp 9 500 error\n", "of another frame": "7%d rsp 6 200 OK\n", "closed": "0 serverclose 0\n", "no answer": "%d syslog 6 200 OK\n", "empty": "%d rsp 0\n", "garbage": "HTTP/1.1 200 OK\n",
	} {
		near, far := net.Pipe()
		go relpSession(far, func(n uint64, _, _ string) string {
			if strings.Contains(reply, "%d") {
				return fmt.Sprintf(reply, n)
			}
			return reply
		})
		r := &relp{conn: near, in: bufio.NewReader(near)}
		if err := r.command("syslog", "x"); err == nil {
			t.Errorf("%s: taken for a yes", name)
		}
		near.Close()
		far.Close()
	}
	near, far := net.Pipe()
	go relpSession(far, func(n uint64, command, data string) string {
		if command != "syslog" || data != "一行 with\nall in it" {
			t.Errorf("%q %q arrived", command, data)
		}
		return fmt.Sprintf("%d rsp 6 200 OK\n", n)
	})
	if err := (&relp{conn: near, in: bufio.NewReader(near)}).command("syslog", "一行 with\nall in it"); err != nil {
		t.Error(err)
	}
	near.Close()
	far.Close()
}

// rsyslog forgets what it has in its hands when it is stopped.
func TestALineThatNobodyHasTakenOutlivesRsyslog(t *testing.T) {
	for name, tc := range map[string]struct{ says, want string }{
		"taken": {"yes yes", ""}, "refused": {"yes no", "no"}, "taken at last": {"no yes", ""}, "still under way": {"yes never", "never"},
	} {
		dir := t.TempDir()
		s := &sender{first: []string{"from before"}}
		in, say := io.Pipe()
		answers, out := io.Pipe()
		var untaken []string
		var err error
		done := make(chan struct{})
		go func() {
			untaken, err = s.left(confirm(in, out, func(line string) error {
				switch line {
				case "no":
					return errors.New("the collector\nis away")
				case "never":
					select {}
				}
				return nil
			}))
			close(done)
		}()
		answer := bufio.NewReader(answers)
		if ready, _ := answer.ReadString('\n'); ready != "OK\n" {
			t.Errorf("ready: %q", ready)
		}
		for word := range strings.FieldsSeq(tc.says) {
			fmt.Fprintln(say, word)
			if word == "never" {
				break
			}
			want := map[string]string{"yes": "OK\n", "no": "Error: the collector is away\n"}[word]
			if got, err := answer.ReadString('\n'); got != want || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		io.WriteString(say, "half a li")
		say.Close()
		<-done
		if err = errors.Join(err, keepUnsent(dir, untaken)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, files, err := takeUnsent(dir)
		for _, f := range files {
			f.Close() // killed before it has sent them
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, files, err := takeUnsent(dir)
		if want := strings.Fields("before " + tc.want); err != nil || !slices.Equal(strings.Fields(strings.ReplaceAll(strings.Join(got, " "), "from ", "")), want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
		if again, _, err := takeUnsent(dir); err != nil || len(again) > 0 {
			t.Errorf("%s: taken over by two: %q, %v", name, again, err)
		}
		if err := (&sender{files: files}).forget(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again, _, err := takeUnsent(dir); err != nil || len(again) > 0 {
			t.Errorf("%s: taken over when they were sent: %q, %v", name, again, err)
		}
	}
}

func FuzzRELPFrame(f *testing.F) {
	for _, s := range []string{"1 rsp 6 200 OK\n", "2 rsp 0\n", "0 serverclose 0\n", "3 syslog 3 a\nb\n", "1 rsp 99999999999 x\n", "1 rsp 5 ab\n", " \n", "999999999 rsp 1 x\n", "1  1 x\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, command, data, err := readRELP(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		if n > relpMostNumber || command == "" || len(data) > relpMostAnswer {
			t.Errorf("%d %q %d", n, command, len(data))
		}
		again := fmt.Sprintf("%d %s %d %s\n", n, command, len(data), data)
		if n2, c2, d2, err := readRELP(bufio.NewReader(strings.NewReader(again))); err != nil || n2 != n || c2 != command || d2 != data {
			t.Errorf("%q: %d %q %q %v", again, n2, c2, d2, err)
		}
	})
}

func TestTheCollectorStoresALineOnce(t *testing.T) {
	dir := t.TempDir()
	line := func(device string, n int) string {
		return fmt.Sprintf(` @cee:{"PUNCHCLOCK_DEVICE":%q,"LINE":"%d"}`, device, n)
	}
	open := func() *logStore { return &logStore{dir: dir, clocks: map[string]*seenLines{}} }
	s := open()
	put := func(l string) {
		t.Helper()
		if err := s.line(l); err != nil {
			t.Error(err)
		}
	}
	for n := range rememberLines + 10 {
		put(line("a", n))
	}
	put(line("b", 5))
	put(line("a", rememberLines))
	put(line("../../etc/passwd", 1))
	put("nothing that we know")
	put(`an {odd} name - - - @cee:{"PUNCHCLOCK_DEVICE":"b","LINE":"x"}`)
	if f, err := os.OpenFile(filepath.Join(dir, "b.jsonl"), os.O_WRONLY|os.O_APPEND, 0); err != nil {
		t.Fatal(err)
	} else {
		io.WriteString(f, `{"PUNCHCLOCK_DEVICE":"b","LI`) // a power cut
		f.Close()
	}
	s = open() // a restart
	put(line("a", rememberLines+9))
	put(line("a", rememberLines+10))
	put(line("b", 5))
	put(line("b", 6))
	for name, want := range map[string]int{"a.jsonl": rememberLines + 11, "b.jsonl": 3, "other.jsonl": 2} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || bytes.Count(b, []byte("\n")) != want {
			t.Errorf("%s: %d lines, %v; want %d", name, bytes.Count(b, []byte("\n")), err, want)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*")); len(found) != 3 {
		t.Errorf("%v", found)
	}
}

func TestALineThatIsTooLongStaysJSON(t *testing.T) {
	most := 0
	for _, fields := range []map[string]string{{"MESSAGE": strings.Repeat("長", 200_000), "A": "b"}, {"MESSAGE": strings.Repeat("\x01", 500_000)}, {"MESSAGE": strings.Repeat("a", longestLine/2), "B": strings.Repeat("b", longestLine/2), "C": strings.Repeat("\"", longestLine/2)}} {
		b, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		got := shortened("<4>1 - x x - - - " + lineMark + string(b))
		most = max(most, len(got))
		head, text, _ := strings.Cut(got, lineMark)
		var back map[string]string
		if err := json.Unmarshal([]byte(text), &back); err != nil || len(back) != len(fields) || head != "<4>1 - x x - - - " || got != shortened(got) && len(got) > longestLine {
			t.Errorf("%v: %.100q", err, got)
		}
		for key, v := range back {
			if whole := fields[key]; v != whole && !strings.HasPrefix(whole, strings.TrimSuffix(v, "…")) {
				t.Errorf("%s is %.40q", key, v)
			}
		}
	}
	if most > longestLine || most < longestLine/4 {
		t.Errorf("shortened to %d", most)
	}
}

// The text of a cut connection has our own port in it.
func TestACollectorThatStaysAwayIsSaidOnce(t *testing.T) {
	var sent []sentLine
	b := journalBook(&sent)
	end := b.begin()
	n := 40_000
	s := &sender{log: b.logger(), server: "x:1", dial: func() (*relp, error) {
		n++
		return nil, &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: n}, Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}}
	for range 10 {
		if s.line("a line") == nil {
			t.Error("taken")
		}
	}
	end()
	if len(sent) != 1 || !strings.Contains(sent[0].message, "127.0.0.1") {
		t.Errorf("said %d times: %v", len(sent), sent)
	}
}
