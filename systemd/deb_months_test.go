package systemd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"punchclock/sync/sandbox"
)

// booted is a Debian whose first process is systemd; its network is this machine's, so
// that what stands in for the far sides is on loopback.
type booted struct {
	*chroot
	pid int
}

func (c *chroot) boot() *booted {
	c.t.Helper()
	nspawn, err := exec.LookPath("systemd-nspawn")
	if err != nil {
		c.t.Skip("systemd-nspawn is not installed; on Debian: apt-get install systemd-container")
	}
	// script, because nspawn -b wants a terminal.
	cmd := exec.Command("script", "-qfec", nspawn+" -q -b --register=no --keep-unit -D "+c.root, filepath.Join(c.t.TempDir(), "console"))
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	b := &booted{chroot: c}
	c.t.Cleanup(func() {
		if b.pid > 0 {
			syscall.Kill(b.pid, syscall.SIGKILL) // with all that is in it
		} else {
			cmd.Process.Kill()
		}
		cmd.Wait()
		if c.t.Failed() {
			c.t.Logf("%s", console.String())
		}
	})
	b.until(2*time.Minute, "the machine is up", func() bool {
		if b.pid == 0 {
			b.pid = initOf(cmd.Process.Pid)
		}
		if b.pid == 0 {
			return false
		}
		out, _ := b.try("systemctl", "is-system-running")
		return strings.Contains(out, "running") || strings.Contains(out, "degraded")
	})
	return b
}

// initOf finds the first process of the machine that was started below a process.
func initOf(from int) int {
	for _, dir := range glob("/proc/[0-9]*") {
		text, _ := os.ReadFile(dir + "/status")
		if !strings.Contains(string(text), "\nNSpid:\t"+filepath.Base(dir)+"\t1\n") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		for up := pid; up > 1; {
			if up == from {
				return pid
			}
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", up))
			_, rest, _ := strings.Cut(string(stat), ") ")
			next := 0
			fmt.Sscanf(rest, "%1s %d", new(string), &next)
			up = next
		}
	}
	return 0
}

func glob(pattern string) []string {
	found, _ := filepath.Glob(pattern) // the patterns are sound
	return found
}

// inside is a command in the running machine.
func (b *booted) inside(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.t.Context(), "nsenter", append([]string{"-t", strconv.Itoa(b.pid), "-m", "-u", "-i", "-p", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

func (b *booted) try(args ...string) (string, error) {
	out, err := b.inside(args...).CombinedOutput()
	return string(out), err
}

func (b *booted) run(args ...string) string {
	b.t.Helper()
	out, err := b.try(args...)
	if err != nil {
		b.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

func (b *booted) until(most time.Duration, what string, done func() bool) {
	b.t.Helper()
	for end := time.Now().Add(most); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("not within %v: %s", most, what)
		}
	}
}

// say has a program in the machine write numbered lines, from and up to but without to.
func (b *booted) say(from, to int) {
	b.t.Helper()
	b.run("sh", "-c", fmt.Sprintf("seq -f 'line %%g.' %d %d | systemd-cat -t probe", from, to-1))
}

// clockState is what the test looks at of the clock's status.
type clockState struct {
	Device       struct{ Version string }
	Destinations []struct {
		State   string
		Pending int
	}
}

func (b *booted) status() (s clockState) {
	out, err := b.inside("punchclock", "status", "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil || len(s.Destinations) != 1 {
		return clockState{Destinations: []struct {
			State   string
			Pending int
		}{{State: "no answer", Pending: -1}}}
	}
	return s
}

// collected counts the probe's lines at the collector.
func (b *booted) collected() map[string]int {
	text, err := os.ReadFile(b.path("/var/log/punchclock/door.jsonl"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	out := map[string]int{}
	for line := range bytes.Lines(text[:bytes.LastIndexByte(text, '\n')+1]) {
		var l struct {
			MESSAGE string
			SYSLOG  string `json:"SYSLOG_IDENTIFIER"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			b.t.Fatalf("%v: %s", err, line)
		}
		if l.SYSLOG == "probe" {
			out[l.MESSAGE]++
		}
	}
	return out
}

// testMonths is what happens to a machine at a door in its first months, with all that is
// real about it but its readers: the packages, systemd, apt, rsyslog at both ends.
func testMonths(t *testing.T, c *chroot, source, one, two string) {
	c = c.of(t)
	port := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, p, _ := net.SplitHostPort(l.Addr().String())
		return p
	}
	page, collector := port(), port()
	far := sandbox.NewTransferCard(sandbox.TransferCardConfig{AcceptAny: true})
	cloud := httptest.NewServer(far)
	defer cloud.Close()
	id, secret := far.Credentials()

	// What IT hands out: a repository's key, and certificates.
	keys := t.TempDir()
	sh(t, keys, []string{"GNUPGHOME=" + keys}, "bash", "-ec", `chmod 700 .
		gpg --batch --quiet --passphrase "" --quick-gen-key ours ed25519 sign never; gpg --batch --armor --export-secret-keys >repo.asc; gpgconf --kill all
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=ca -keyout ca-key.pem -out ca.pem 2>/dev/null
		for name in door localhost; do
			openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name -keyout $name-key.pem -out $name.csr 2>/dev/null
			openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 30 -extfile <(echo subjectAltName=DNS:$name) -out $name.pem 2>/dev/null
		done`)
	put := func(from, to string, mode fs.FileMode) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(keys, from))
		if err != nil {
			t.Fatal(err)
		}
		c.write(to, string(text), mode)
	}
	put("ca.pem", "/etc/punchclock/logs-ca.pem", 0o644)
	put("door.pem", "/etc/punchclock/logs-cert.pem", 0o644)
	put("door-key.pem", "/etc/credstore/logs-key.pem", 0o600)
	put("ca.pem", "/etc/punchclock-collector/ca.pem", 0o644)
	put("localhost.pem", "/etc/punchclock-collector/cert.pem", 0o644)
	put("localhost-key.pem", "/etc/punchclock-collector/key.pem", 0o600)
	c.write("/etc/credstore/104-secret", secret, 0o600)
	c.write("/etc/hosts", "127.0.0.1 localhost\n", 0o644)
	c.write("/root/people.csv", "employee_no,name,pin\n000123,王小明,4711\n", 0o600)
	repo := httptest.NewServer(http.FileServer(http.Dir(c.path("/repo"))))
	defer repo.Close()
	debs := t.TempDir()
	sh(t, ".", nil, "cp", one, two, debs)
	sh(t, source, []string{"KEY=" + filepath.Join(keys, "repo.asc"), "URL=" + repo.URL + "/", "PACKAGES=" + debs, "REPO=" + c.path("/repo"), "SOURCE_DATE_EPOCH=" + fmt.Sprint(time.Now().Unix())}, "systemd/deb/repo")
	sh(t, ".", nil, "cp", c.path("/repo/punchclock.sources"), c.path("/etc/punchclock/update.sources"))
	c.write("/etc/punchclock/punchclock.toml", fmt.Sprintf(`schema = 1
[device]
id = "door"
[kiosk]
listen = "127.0.0.1:%s"
duplicate_window = "0s"
[clock]
trust = "system"
[[destination]]
name = "104"
driver = "transfercard"
api_base = %q
token_url = %q
client_id = %q
client_secret_file = "104-secret"
[logs]
server = "localhost:%s"
ca = "logs-ca.pem"
cert = "logs-cert.pem"
key = "logs-key.pem"
`, page, cloud.URL+sandbox.TransferCardBase, cloud.URL+sandbox.TransferCardTokenPath, id, collector), 0o644)
	c.put(one)

	b := c.boot()
	b.run("dpkg", "-i", "/srv/"+filepath.Base(one))
	answers := func() bool { return b.status().Destinations[0].State == "ok" }
	b.until(time.Minute, "the clock answers", answers)
	b.run("punchclock", "roster", "import", "/root/people.csv")
	taps := 0
	tap := func() {
		t.Helper()
		b.until(time.Minute, "a tap is stored", func() bool {
			resp, err := http.Post("http://127.0.0.1:"+page+"/api/pin", "application/json", strings.NewReader(`{"employee_no":"000123","pin":"4711"}`))
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == 200
		})
		taps++
	}
	delivered := func() bool { return b.status().Destinations[0].Pending == 0 }

	// The repository's version is taken up by the program itself, and goes on trial.
	version := func() string { return strings.TrimSpace(b.run("dpkg-query", "-W", "-f", "${Version}", "punchclock")) }
	out := b.run("punchclock", "update", "--json")
	wantWords(t, out, `"begun"`, `"1.1.0"`)
	begun := time.Now()
	b.until(3*time.Minute, "the new version runs", func() bool { return b.status().Device.Version == "1.1.0" })
	tap()
	b.until(time.Minute, "its punch is delivered", delivered)

	t.Run("the logs, while their collector goes and comes", func(t *testing.T) {
		b := &booted{c.of(t), b.pid}
		c := b.chroot
		b.run("sh", "-ec", "mkdir -p /var/log/punchclock; punchclock logs collector --port "+collector+" door >/etc/rsyslog.d/punchclock.conf; systemctl restart rsyslog; systemctl restart punchclock-logs")
		if got := strings.TrimSpace(b.run("systemctl", "is-active", "punchclock-logs")); got != "active" {
			t.Fatalf("punchclock-logs is %s\n%s", got, b.run("journalctl", "-u", "punchclock-logs", "--no-pager"))
		}
		said := 0
		say := func(n int) { b.say(said, said+n); said += n }
		all := func() bool { return len(b.collected()) == said }
		defer func() {
			if t.Failed() {
				got, missing := b.collected(), []int{}
				for n := range said {
					if got[fmt.Sprintf("line %d.", n)] == 0 {
						missing = append(missing, n)
					}
				}
				t.Logf("%d of %d lines collected, not %v\n%s", len(got), said, missing, b.run("journalctl", "--no-pager", "-n", "60", "-u", "punchclock-logs", "-u", "rsyslog", "-t", "punchclock"))
			}
		}()
		say(200)
		b.until(time.Minute, "lines are collected", all)
		b.run("systemctl", "stop", "syslog.socket", "rsyslog")
		say(300)
		b.until(time.Minute, "lines wait on disk", func() bool { return len(glob(c.path("/var/lib/private/punchclock-logs/lines.*"))) > 0 })
		b.run("systemctl", "restart", "punchclock-logs")
		say(200)
		wantWords(t, b.run("sh", "-c", "punchclock doctor || :"), "lines wait on disk, punches do not wait")
		b.run("systemctl", "start", "rsyslog")
		b.until(3*time.Minute, "all lines are collected", all)
		for range 3 {
			say(100)
			b.run("systemctl", "restart", "rsyslog")
			say(100)
			b.run("systemctl", "restart", "punchclock-logs")
		}
		b.until(3*time.Minute, "all lines are collected after restarts of both", all)
		for line, n := range b.collected() {
			if n != 1 {
				t.Errorf("%q is there %d times", line, n)
			}
		}
		// The key is root's; the sender is nobody in particular, and has a copy.
		main := strings.TrimSpace(b.run("systemctl", "show", "-P", "MainPID", "punchclock-logs"))
		if who := strings.TrimSpace(b.run("stat", "-c", "%u", "/proc/"+main)); who == "0" {
			t.Error("the sender runs as root")
		}
		b.run("test", "-s", "/run/credentials/punchclock-logs.service/logs-key.pem")
		out := b.run("sh", "-c", "punchclock doctor --json || :")
		var r struct {
			Checks []struct{ ID, State, Detail string }
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, c := range r.Checks {
			if strings.HasPrefix(c.ID, "logs.") {
				seen++
				if c.State != "ok" {
					t.Errorf("%+v", c)
				}
			}
		}
		if seen != 4 {
			t.Errorf("doctor looked at %d parts of the logs' way", seen)
		}
	})

	t.Run("ten healthy minutes make the new version the one that stays", func(t *testing.T) {
		b := &booted{c.of(t), b.pid}
		var st struct {
			Phase string
			Last  *struct{ Result, To, Why string }
		}
		b.until(15*time.Minute, "the trial ends", func() bool {
			text, err := os.ReadFile(b.path("/var/lib/punchclock-update/state.json"))
			return err == nil && json.Unmarshal(text, &st) == nil && st.Phase == "" && st.Last != nil
		})
		if st.Last.Result != "good" || st.Last.To != "1.1.0" || version() != "1.1.0" || b.status().Device.Version != "1.1.0" {
			t.Errorf("%+v, installed %s\n%s", st.Last, version(), b.run("journalctl", "--no-pager", "-u", "punchclock-trial"))
		}
		took := time.Since(begun)
		if took < 10*time.Minute {
			t.Errorf("after %v", took)
		}
		t.Logf("good after %v", took.Round(time.Second))
		b.until(time.Minute, "the judge is gone", func() bool { return !b.exists("/var/lib/punchclock-update/guard") })
		wantWords(t, b.run("punchclock", "update", "status"), "1.1.0")
	})

	t.Run("a corrected secret needs no visit and no restart by hand", func(t *testing.T) {
		b := &booted{c.of(t), b.pid}
		b.run("sh", "-c", "umask 077; echo wrong >/etc/credstore/104-secret")
		b.until(time.Minute, "the wrong one is handed over", func() bool {
			out, _ := b.try("cat", "/run/credentials/punchclock.service/104-secret")
			return out == "wrong\n"
		})
		b.until(time.Minute, "the clock answers", func() bool { return b.status().Destinations[0].State != "no answer" })
		far.Revoke()
		tap()
		b.until(time.Minute, "it is refused", func() bool { return b.status().Destinations[0].State == "auth_failed" })
		wantWords(t, b.run("sh", "-c", "punchclock doctor || :"), "write the right one into /etc/credstore/104-secret, then: systemctl restart punchclock")
		pid := b.run("systemctl", "show", "-P", "MainPID", "punchclock-logs")
		b.run("sh", "-c", "umask 077; echo "+secret+" >/etc/credstore/104-secret")
		b.until(time.Minute, "it is delivered", func() bool { return delivered() && answers() })
		if now := b.run("systemctl", "show", "-P", "MainPID", "punchclock-logs"); now != pid {
			t.Error("the sender of logs was restarted for a secret that it does not have")
		}
	})
	if got := len(far.Ledger()); got != taps {
		t.Errorf("%d of %d punches arrived", got, taps)
	}
}
