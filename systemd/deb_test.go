package systemd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What the tests of the package need: a Debian to install it in. make test-deb makes it.
func debian(t *testing.T) string {
	t.Helper()
	base := os.Getenv("DEB_BASE")
	if base == "" {
		t.Skip("a Debian to install packages in is made by make test-deb, which runs this")
	}
	if os.Geteuid() != 0 {
		t.Fatal("installing a package takes root")
	}
	return base
}

func sh(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// source copies what git knows of the source to a folder.
func source(t *testing.T, to string) {
	t.Helper()
	top := strings.TrimSpace(sh(t, ".", nil, "git", "rev-parse", "--show-toplevel"))
	sh(t, top, nil, "bash", "-c", `mkdir -p "$1" && git ls-files -z -co --exclude-standard | xargs -0 cp --parents -t "$1"`, "-", to)
}

const firstVersion = "1.0.0"

// build builds the packages of one architecture, or all, from a folder, at another
// time than the last, and returns the sums of what it has made, by file.
func build(t *testing.T, dir string, env []string, arch ...string) map[string]string {
	t.Helper()
	env = append(env, "DEB_VERSION="+firstVersion, "SOURCE_DATE_EPOCH=1767225600")
	sh(t, dir, env, "systemd/deb/build", arch...)
	sums := map[string]string{}
	found, err := filepath.Glob(filepath.Join(dir, "bin/deb/*.deb"))
	if err != nil || len(found) < 2 {
		t.Fatalf("%v: %q", err, found)
	}
	for _, f := range found {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sums[filepath.Base(f)] = fmt.Sprintf("%x", sha256.Sum256(b))
		if strings.Contains(f, "kiosk") {
			continue
		}
		for _, part := range []string{"/usr/bin/punchclock"} {
			out, err := exec.Command("bash", "-c", `dpkg-deb --fsys-tarfile "$1" | tar xO ".$2" | sha256sum`, "-", f, part).Output()
			if err != nil {
				t.Fatal(err)
			}
			sums[filepath.Base(f)+part] = string(out[:64])
		}
	}
	return sums
}

// chroot is a Debian of its own, thrown away after the test.
type chroot struct {
	t    *testing.T
	root string
}

func newChroot(t *testing.T, base string) *chroot {
	t.Helper()
	c := &chroot{t, filepath.Join(t.TempDir(), "root")}
	if err := os.Mkdir(c.root, 0o755); err != nil {
		t.Fatal(err)
	}
	sh(t, ".", nil, "tar", "xf", base, "-C", c.root)
	return c
}

// of is the same, for a part of the test.
func (c *chroot) of(t *testing.T) *chroot { return &chroot{t, c.root} }

func (c *chroot) cmd(ctx context.Context, args ...string) *exec.Cmd {
	// Its own processes, which end with it: the shell stays the first of them, because
	// one that becomes another user does not hear of its parent's end.
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c",
		`root=$1; shift; mount -t proc proc "$root/proc" && chroot "$root" "$@"; exit $?`, "-", c.root}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// try runs a command in it and returns all it says.
func (c *chroot) try(args ...string) (string, error) {
	out, err := c.cmd(c.t.Context(), args...).CombinedOutput()
	return string(out), err
}

func (c *chroot) run(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

func (c *chroot) path(p string) string { return filepath.Join(c.root, p) }

func (c *chroot) write(p, text string, mode fs.FileMode) {
	c.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(c.path(p)), 0o755), os.WriteFile(c.path(p), []byte(text), mode), os.Chmod(c.path(p), mode)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chroot) exists(p string) bool { _, err := os.Lstat(c.path(p)); return err == nil }

func (c *chroot) installed() string {
	out, _ := c.try("dpkg-query", "-W", "-f", "${Status} ${Version}", "punchclock")
	return out
}

// put copies a package into it, to where a start does not empty it.
func (c *chroot) put(file string) string {
	c.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write("/srv/"+filepath.Base(file), string(b), 0o644)
	return "/srv/" + filepath.Base(file)
}

// repack makes another package of one: its control file, its scripts or its files
// changed by a shell command, and built again.
func repack(t *testing.T, from, to, change string) string {
	t.Helper()
	dir := t.TempDir()
	sh(t, dir, nil, "bash", "-ec", `dpkg-deb -R "$1" p; cd p; eval "$3"; cd ..; dpkg-deb -Zgzip -z1 --root-owner-group -b p "$2"`, "-", from, to, change)
	return to
}

func version(v string) string { return `sed -i "s/^Version: .*/Version: ` + v + `/" DEBIAN/control` }

const debConfig = `schema = 1
[device]
id = "door"
state_dir = "/var/lib/punchclock"
[kiosk]
listen = ""
duplicate_window = "0s"
[clock]
trust = "system"
[[reader]]
name = "front"
driver = "stdin"
`

const debDestination = `[[destination]]
name = "104"
driver = "transfercard"
api_base = "http://127.0.0.1:9/prohrm/1.0"
token_url = "http://127.0.0.1:9/oauth2/token"
client_id = "x"
client_secret_file = "104-secret"
`

// taps has the clock run for as long as it takes to store some taps, as its own user.
func (c *chroot) taps(n int) {
	c.t.Helper()
	c.run("install", "-d", "-m", "0700", "-o", "punchclock", "-g", "punchclock", "/var/lib/punchclock") // systemd would
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := c.cmd(ctx, "setpriv", "--reuid=punchclock", "--regid=punchclock", "--init-groups", "punchclock", "run")
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	before := c.punches() // while nobody keeps it from looking
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	for i := range n {
		fmt.Fprintf(in, "uid:04A1B2C3D4E5%02X\n", i)
	}
	for ctx.Err() == nil && (c.punches() < before+n || !c.exists("/var/lib/punchclock/outbox/000000000001.db")) {
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	cmd.Wait() // killed, as by a power cut
	if got := c.punches(); got != before+n {
		c.t.Fatalf("%d punches instead of %d:\n%s", got, before+n, log.String())
	}
}

// punches counts what the outbox holds, by the installed program.
func (c *chroot) punches() int {
	out, err := c.cmd(c.t.Context(), "punchclock", "punches", "export").Output()
	if err != nil {
		return 0
	}
	return strings.Count(string(out), `"id":"door-`)
}

func wantWords(t *testing.T, said string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("not said: %s\nbut: %s", w, said)
		}
	}
}

// The whole life of a package on a machine, from the first installation to the purge,
// and its updates from a signed repository; in one Debian, because making one takes
// longer than all of it.
func TestPackageFromFirstInstallationToPurge(t *testing.T) {
	base := debian(t)
	work := t.TempDir()
	here, there := filepath.Join(work, "here"), filepath.Join(work, "a", "longer", "way", "there")
	source(t, here)
	source(t, there)
	full := os.Getenv("DEB_FORM") == "full"
	arch := []string{"amd64"}
	var fresh []string
	if full {
		arch = []string{"amd64", "arm64", "armhf"}
		fresh = []string{"GOCACHE=" + filepath.Join(work, "cache")}
	}
	made := build(t, here, nil, arch...)
	t.Run("two builds from two folders are the same", func(t *testing.T) {
		again := build(t, there, fresh, arch...)
		for file, sum := range made {
			if again[file] != sum {
				t.Errorf("%s: %s in one folder, %s in the other", file, sum, again[file])
			}
		}
		if len(made) != len(again) || len(made) != 2*len(arch)+1 {
			t.Errorf("%d and %d files", len(made), len(again))
		}
	})
	t.Run("the packages hold what they should, for their architecture", func(t *testing.T) { testArchitectures(t, here, arch) })
	t.Run("the package for ARM is installed, runs and is purged there", func(t *testing.T) {
		if !full {
			t.Skip("takes a Debian for ARM: make test-deb FORM=full")
		}
		testARM(t, filepath.Join(here, "bin/deb/punchclock_"+firstVersion+"_arm64.deb"))
	})
	deb := func(v string) string { return filepath.Join(here, "bin/deb/punchclock_"+v+"_amd64.deb") }
	one := deb(firstVersion)
	two := repack(t, one, deb("1.1.0"), version("1.1.0")+`; echo "# a new line" >>etc/punchclock/punchclock.toml.example`)
	c := newChroot(t, base)

	t.Run("a first installation says what to do and starts nothing", func(t *testing.T) {
		c := c.of(t)
		said := c.run("apt-get", "-q", "-y", "--no-install-recommends", "install", c.put(one))
		wantWords(t, said, "it has no configuration", "punchclock config check", "/etc/credstore")
		for _, p := range []string{"/usr/bin/punchclock", "/etc/punchclock/punchclock.toml.example", "/etc/systemd/system/multi-user.target.wants/punchclock.service",
			"/etc/systemd/system/timers.target.wants/punchclock-update.timer", "/usr/lib/udev/rules.d/60-punchclock.rules", "/etc/credstore", "/var/lib/punchclock-update"} {
			if !c.exists(p) {
				t.Errorf("%s is missing", p)
			}
		}
		for _, p := range []string{"/etc/punchclock/punchclock.toml", "/var/lib/punchclock/outbox", "/etc/chromium", "/usr/lib/systemd/system/punchclock-kiosk.service"} {
			if c.exists(p) {
				t.Errorf("%s is there", p)
			}
		}
		wantWords(t, c.run("id", "punchclock"), "(punchclock)", "(dialout)", "(gpio)", "(input)")
		wantWords(t, c.run("punchclock", "version"), "punchclock "+firstVersion)
		out, err := c.try("punchclock", "run")
		var e *exec.ExitError
		if !errors.As(err, &e) || e.ExitCode() != 2 {
			t.Errorf("without a configuration it ended with %v", err)
		}
		wantWords(t, out, "punchclock config example")
		c.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "/usr/lib/systemd/system/punchclock.service",
			"/usr/lib/systemd/system/punchclock-logs.service",
			"/usr/lib/systemd/system/punchclock-update.timer", "/usr/lib/systemd/system/punchclock-update.service", "/usr/lib/systemd/system/punchclock-secrets.path", "/usr/lib/systemd/system/punchclock-secrets.service")
		b, err := os.ReadFile(c.path("/etc/punchclock/punchclock.toml.example"))
		if err != nil || !bytes.Contains(b, []byte("[[reader]]")) {
			t.Errorf("the example: %v", err)
		}
		c.write("/etc/punchclock/punchclock.toml", debConfig, 0o644)
		c.run("punchclock", "config", "check")
	})

	t.Run("a kiosk on a desktop is not put on its screen", func(t *testing.T) {
		c := c.of(t)
		k := filepath.Join(here, "bin/deb/punchclock-kiosk_"+firstVersion+"_all.deb")
		licences := func(deb, name string) string {
			return sh(t, ".", nil, "bash", "-c", `set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar xO "./usr/share/doc/$2/copyright"`, "-", deb, name)
		}
		if of := licences(k, "punchclock-kiosk"); of != licences(one, "punchclock") || !strings.Contains(of, "Noto Sans") {
			t.Errorf("it comes with other licences than the clock: %.300q", of)
		}
		c.write("/etc/systemd/system/display-manager.service", "", 0o644)
		wantWords(t, c.run("dpkg", "--force-depends", "-i", c.put(k)), "this machine has a desktop")
		if c.exists("/etc/systemd/system/multi-user.target.wants/punchclock-kiosk.service") || c.exists("/etc/chromium/policies/managed/punchclock.json") {
			t.Error("the desktop was touched")
		}
		c.run("dpkg", "--force-depends", "-P", "punchclock-kiosk")
		if err := os.Remove(c.path("/etc/systemd/system/display-manager.service")); err != nil {
			t.Fatal(err)
		}
		wantWords(t, c.run("dpkg", "--force-depends", "-i", c.put(k)), "next start of the machine")
		if !c.exists("/etc/systemd/system/multi-user.target.wants/punchclock-kiosk.service") || !c.exists("/etc/chromium/policies/managed/punchclock.json") {
			t.Error("the board's screen shows nothing after its next start")
		}
		c.run("dpkg", "--force-depends", "-P", "punchclock-kiosk")
		if c.exists("/etc/chromium/policies/managed/punchclock.json") || c.exists("/etc/systemd/system/multi-user.target.wants/punchclock-kiosk.service") {
			t.Error("it left something behind")
		}
	})

	t.Run("updates", func(t *testing.T) { testUpdates(t, c.of(t), here, one, two) })

	t.Run("an upgrade keeps what a technician has changed, and the punches", func(t *testing.T) {
		c := c.of(t)
		c.write("/etc/punchclock/punchclock.toml", debConfig+debDestination, 0o644)
		c.taps(3)
		c.write("/etc/punchclock/punchclock.toml.example", "# mine\n", 0o644)
		c.run("dpkg", "--force-confold", "-i", c.put(two))
		if b, err := os.ReadFile(c.path("/etc/punchclock/punchclock.toml.example")); err != nil || string(b) != "# mine\n" {
			t.Errorf("the changed file: %q %v", b, err)
		}
		if got := c.punches(); got != 3 || !strings.Contains(c.installed(), "1.1.0") {
			t.Errorf("%d punches, %s", got, c.installed())
		}
		c.taps(2)
	})
	t.Run("a downgrade reads what the newer one has written", func(t *testing.T) {
		c := c.of(t)
		c.run("dpkg", "--force-confold", "-i", c.put(one))
		c.taps(1)
		if got := c.punches(); got != 6 || !strings.Contains(c.installed(), firstVersion) {
			t.Errorf("%d punches, %s", got, c.installed())
		}
		wantWords(t, c.run("punchclock", "queue", "count"), "6\n")
	})
	t.Run("a downgrade below the form of the outbox is refused with words", func(t *testing.T) {
		c := c.of(t)
		far := repack(t, one, deb("2.0.0"), version("2.0.0")+`; mv usr/bin/punchclock usr/bin/punchclock.real
			printf '#!/bin/sh\n[ "$1" = version ] && exec echo "{ \\"outbox_format\\": 2, \\"roster_format\\": 1 }"\nexec /usr/bin/punchclock.real "$@"\n' >usr/bin/punchclock; chmod 755 usr/bin/punchclock`)
		c.run("dpkg", "--force-confold", "-i", c.put(far))
		out, err := c.try("dpkg", "--force-confold", "-i", c.put(one))
		if err == nil || !strings.Contains(c.installed(), "install ok installed 2.0.0") {
			t.Errorf("%v, %s\n%s", err, c.installed(), out)
		}
		wantWords(t, out, "refused: version 1.0.0 reads the outbox up to form 1, and the installed version 2.0.0 writes form 2", "nothing was changed")
		if got := c.punches(); got != 6 {
			t.Errorf("%d punches", got)
		}
		near := repack(t, one, deb("2.0.1"), version("2.0.1")+`; sed -i "s/outbox:1/outbox:2/" DEBIAN/preinst`)
		c.run("dpkg", "--force-confold", "-i", c.put(near))
	})
	t.Run("a purge keeps punches that were not delivered, until told twice", func(t *testing.T) {
		c := c.of(t)
		c.write("/etc/credstore/104-secret", "s", 0o600)
		said := c.run("apt-get", "-q", "-y", "purge", "punchclock")
		wantWords(t, said, "6 deliveries of punches are still due", "kept: /var/lib/punchclock", "rm -r /var/lib/punchclock")
		if !c.exists("/var/lib/punchclock/outbox") || !c.exists("/etc/punchclock/punchclock.toml") || !c.exists("/etc/credstore/104-secret") || c.exists("/usr/bin/punchclock") {
			t.Error("not kept, or not removed")
		}
		c.run("dpkg", "-i", c.put(one)) // changed their mind: it goes on
		if got := c.punches(); got != 6 {
			t.Errorf("%d punches after installing again", got)
		}
		// A program that cannot count leaves them too.
		c.write("/usr/bin/punchclock", "#!/bin/sh\nexit 1\n", 0o755)
		wantWords(t, c.run("dpkg", "-P", "punchclock"), "nobody could say")
		if !c.exists("/var/lib/punchclock/outbox") {
			t.Fatal("not kept")
		}
		c.run("dpkg", "-i", c.put(one))
		c.write("/etc/punchclock/delete-unsent-punches", "", 0o644)
		c.run("dpkg", "-P", "punchclock")
		for _, p := range []string{"/var/lib/punchclock", "/var/lib/punchclock-update", "/etc/punchclock", "/etc/credstore/104-secret", "/etc/systemd/system/multi-user.target.wants/punchclock.service"} {
			if c.exists(p) {
				t.Errorf("%s is still there", p)
			}
		}
	})
	t.Run("under a systemd that runs", func(t *testing.T) {
		if !full {
			t.Skip("boots a machine: make test-deb FORM=full")
		}
		testRunning(t, newChroot(t, base), one, two)
	})
	t.Run("months of a machine: an update on trial, a collector that is away, a corrected secret", func(t *testing.T) {
		if !full {
			t.Skip("takes the ten minutes of a trial: make test-deb FORM=full")
		}
		const newer = "1.1.0"
		sh(t, here, []string{"DEB_VERSION=" + newer, "SOURCE_DATE_EPOCH=1767225600"}, "systemd/deb/build", "amd64")
		testMonths(t, newChroot(t, base), here, one, deb(newer))
	})
	t.Run("a purge of a clock that owes nothing leaves nothing", func(t *testing.T) {
		c := c.of(t)
		c.run("dpkg", "-i", c.put(one))
		c.write("/etc/punchclock/punchclock.toml", debConfig, 0o644)
		c.taps(0)
		c.run("dpkg", "-P", "punchclock")
		if c.exists("/var/lib/punchclock") || c.exists("/etc/punchclock") {
			t.Error("something was left")
		}
	})
}

// probeUnit runs the script below once the machine is up.
const probeUnit = `[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /root/probe.sh
StandardOutput=file:/root/said
StandardError=file:/root/said
[Install]
WantedBy=multi-user.target
`

const probeScript = `export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
is() { systemctl is-active punchclock; }
dpkg -i /srv/punchclock_1.0.0_amd64.deb
echo "without a configuration: $(is)"
mv /root/punchclock.toml /etc/punchclock/
systemctl restart punchclock
first=$(systemctl show -p MainPID --value punchclock)
echo "with one: $(is)"
dpkg -i /srv/punchclock_1.1.0_amd64.deb
second=$(systemctl show -p MainPID --value punchclock)
[ "$first" = "$second" ] || echo "upgraded: another process, $(is)"
systemctl stop punchclock
dpkg -i /srv/punchclock_1.0.0_amd64.deb
echo "stopped by hand: $(is)"
systemctl start punchclock
dpkg -P punchclock
echo "purged: $(is)"
systemctl poweroff --force
`

// testRunning boots the Debian, with systemd as its first process, and has a script
// install, upgrade, downgrade and purge there.
func testRunning(t *testing.T, c *chroot, one, two string) {
	nspawn, err := exec.LookPath("systemd-nspawn")
	if err != nil {
		t.Skip("systemd-nspawn is not installed; on Debian: apt-get install systemd-container")
	}
	c.put(one)
	c.put(two)
	c.write("/root/punchclock.toml", strings.Replace(debConfig, `driver = "stdin"`, "driver = \"serial\"\nport = \"/dev/ttyUSB0\"", 1), 0o644)
	c.write("/root/probe.sh", probeScript, 0o755)
	c.write("/etc/systemd/system/probe.service", probeUnit, 0o644)
	c.run("systemctl", "enable", "probe.service")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	// script, because nspawn -b wants a terminal.
	cmd := exec.CommandContext(ctx, "script", "-qfec", nspawn+" -q -b --register=no --keep-unit --private-network -D "+c.root, filepath.Join(t.TempDir(), "console"))
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	console, err := cmd.CombinedOutput()
	said, serr := os.ReadFile(c.path("/root/said"))
	if err != nil || serr != nil {
		t.Fatalf("%v, %v\n%s", err, serr, console)
	}
	wantWords(t, string(said), "without a configuration: inactive", "it has no configuration", "with one: active", "upgraded: another process, active", "stopped by hand: inactive", "purged: inactive")
	if c.exists("/var/lib/punchclock") {
		t.Error("the purge has left the state of a clock that owed nothing")
	}
}

// answer is what punchclock update --json says.
type answer struct{ Result, Running, Version, Reason, Detail, Remedy string }

// testUpdates publishes bad packages, each in its way, and good ones, and has the
// installed clock look at them with the machine's own apt.
func testUpdates(t *testing.T, c *chroot, source, one, two string) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	key := func(name string) string {
		home := filepath.Join(keys, name)
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(keys, name+".asc")
		sh(t, ".", []string{"GNUPGHOME=" + home}, "bash", "-ec", `gpg --batch --quiet --passphrase "" --quick-gen-key "$1" ed25519 sign never
			gpg --batch --armor --export-secret-keys >"$2"; gpgconf --kill all`, "-", name, file)
		return file
	}
	ours, strange := key("ours"), key("strange")

	server := httptest.NewServer(http.FileServer(http.Dir(c.path("/repo"))))
	defer server.Close()
	// publish puts a repository of these packages where the clock finds it.
	publish := func(t *testing.T, signedBy string, debs ...string) {
		t.Helper()
		dir := t.TempDir()
		for _, d := range debs {
			sh(t, ".", nil, "cp", d, dir)
		}
		if err := os.RemoveAll(c.path("/repo")); err != nil {
			t.Fatal(err)
		}
		sh(t, source, []string{"KEY=" + signedBy, "URL=" + server.URL + "/", "PACKAGES=" + dir, "REPO=" + c.path("/repo"), "SOURCE_DATE_EPOCH=" + fmt.Sprint(time.Now().Unix())}, "systemd/deb/repo")
		if err := os.RemoveAll(c.path("/var/lib/punchclock-update/lists")); err != nil { // each is the first it sees
			t.Fatal(err)
		}
	}
	update := func(t *testing.T, args ...string) (a answer, said string) {
		t.Helper()
		cmd := c.cmd(t.Context(), append([]string{"punchclock", "update", "--json"}, args...)...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if out.Len() > 0 {
			if jerr := json.Unmarshal(out.Bytes(), &a); jerr != nil {
				t.Fatalf("%v: %s", jerr, out.String())
			}
		}
		return a, fmt.Sprint(out.String(), errs.String(), err)
	}
	sameBytes := func(file, script string) func(t *testing.T) {
		return func(t *testing.T) {
			sh(t, c.path("/repo"), nil, "bash", "-ec", script, "-", file)
		}
	}
	publish(t, ours, one)
	sh(t, ".", nil, "cp", c.path("/repo/punchclock.sources"), c.path("/etc/punchclock/update.sources"))
	if a, said := update(t); a.Result != "current" || a.Running != firstVersion {
		t.Fatalf("with nothing newer: %s", said)
	}

	dir := filepath.Dir(one)
	pack := func(name, change string) string { return repack(t, one, filepath.Join(dir, name), change) }
	bad := []struct {
		name   string
		by     string
		debs   []string
		spoil  func(t *testing.T)
		reason string
	}{
		{"a lower version", ours, []string{pack("low.deb", version("0.9"))}, nil, "lower"},
		{"of another architecture", ours, []string{pack("arm.deb", version("1.5")+`; sed -i "s/^Architecture: .*/Architecture: arm64/" DEBIAN/control`)}, nil, "wrong-machine"},
		{"not signed", ours, []string{two}, sameBytes("", `rm dists/stable/InRelease`), "unsigned"},
		{"signed by a stranger", strange, []string{two}, nil, "wrong-signature"},
		{"changed after it was signed", ours, []string{two}, sameBytes("", `sed -i "s/^Origin: .*/Origin: punchcl0ck/" dists/stable/InRelease`), "wrong-signature"},
		{"an index changed after it was signed", ours, []string{two}, sameBytes("", `for f in dists/stable/main/*/Packages; do sed -i "s/^Priority: optional/Priority: required/" $f; gzip -9nkf $f; done`), "altered or cut"},
		{"a package cut short", ours, []string{two}, sameBytes("", `truncate -s -1000 pool/*.deb`), "cut"},
		{"a package with one byte changed", ours, []string{two}, sameBytes("", `printf X | dd of=$(ls pool/*.deb) bs=1 seek=100000 conv=notrunc status=none`), "altered"},
		{"signed, and cannot be unpacked", ours, []string{func() string {
			d := t.TempDir()
			to := filepath.Join(dir, "torn.deb")
			sh(t, d, nil, "bash", "-ec", `dpkg-deb -R "$1" p; `+"cd p; "+version("1.6")+`; cd ..; dpkg-deb -Zgzip -z1 --root-owner-group -b p p.deb; ar x p.deb; truncate -s 100000 data.tar.gz; ar rc "$2" debian-binary control.tar.gz data.tar.gz`, "-", one, to)
			return to
		}()}, nil, "wrong-payload"},
	}
	words := map[string]string{}
	for _, b := range bad {
		t.Run("refused: "+b.name, func(t *testing.T) {
			publish(t, b.by, b.debs...)
			if b.spoil != nil {
				b.spoil(t)
			}
			a, said := update(t)
			if a.Result != "refused" || a.Reason == "" || !strings.Contains(b.reason, a.Reason) {
				t.Errorf("%s", said)
			}
			if a.Detail == "" || a.Remedy == "" || words[a.Detail] != "" {
				t.Errorf("words: %+v, the same as of %s", a, words[a.Detail])
			}
			words[a.Detail] = b.name
			if got := c.installed(); got != "install ok installed "+firstVersion {
				t.Errorf("afterwards: %s", got)
			}
			t.Logf("%s: %s", a.Reason, a.Detail)
		})
	}

	state := func(t *testing.T) (st struct {
		Phase string
		Last  *struct{ From, To, Result, Why string }
	}) {
		t.Helper()
		b, err := os.ReadFile(c.path("/var/lib/punchclock-update/state.json"))
		if err == nil {
			err = json.Unmarshal(b, &st)
		}
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	guard := "/var/lib/punchclock-update/guard"
	t.Run("without a way back nothing is begun", func(t *testing.T) {
		publish(t, ours, two)
		if a, said := update(t); a.Reason != "no-way-back" {
			t.Error(said)
		}
	})
	t.Run("one that breaks while it is installed goes back by itself", func(t *testing.T) {
		c := c.of(t)
		broken := pack("broken.deb", version("1.7")+`; sed -i "1a exit 1" DEBIAN/postinst`)
		publish(t, ours, one, broken)
		if a, said := update(t); a.Result != "begun" || a.Version != "1.7" {
			t.Fatal(said)
		}
		out := c.run(guard, "update", "resume")
		st := state(t)
		if st.Phase != "" || st.Last == nil || st.Last.Result != "went-back" || c.installed() != "install ok installed "+firstVersion || c.exists(guard) {
			t.Errorf("%+v, %s\n%s", st, c.installed(), out)
		}
		wantWords(t, c.run("punchclock", "update", "status"), "1.0.0 to 1.7, went back", "could not be installed")
		if a, said := update(t); a.Reason != "failed-before" {
			t.Error(said)
		}
	})
	t.Run("the power goes while it is installed, again and again", func(t *testing.T) {
		c := c.of(t)
		publish(t, ours, one, two)
		if a, said := update(t, "--check"); a.Result != "offered" || a.Version != "1.1.0" {
			t.Fatal(said)
		}
		if a, said := update(t); a.Result != "begun" {
			t.Fatal(said)
		}
		// SIGKILL to all of it at growing moments, until it gets as far as the trial.
		cuts, more := 0, 10
		if os.Getenv("DEB_FORM") == "full" {
			more = 1
		}
		for after := 500 * time.Millisecond; after < 5*time.Minute && state(t).Phase != "trial"; after += after * time.Duration(more) / 10 {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			c.cmd(ctx, guard, "update", "resume").Run()
			cancel()
			cuts++
			if out, err := c.try("punchclock", "version"); err != nil {
				t.Fatalf("killed after %v: the program does not start: %v %s", after, err, out)
			}
		}
		t.Logf("%d cuts", cuts)
		if st := state(t); st.Phase != "trial" || c.installed() != "install ok installed 1.1.0" {
			t.Fatalf("%+v, %s", st, c.installed())
		}
		if a, said := update(t); a.Result != "under-way" {
			t.Error(said)
		}
	})
	t.Run("one on trial that does not answer goes back by itself", func(t *testing.T) {
		c := c.of(t)
		if os.Getenv("DEB_FORM") != "full" {
			t.Skip("takes the three minutes that a clock is given to start: make test-deb FORM=full")
		}
		out := c.run(guard, "update", "resume")
		if st := state(t); st.Phase != "" || st.Last.Result != "went-back" || !strings.Contains(st.Last.Why, "does not answer") || c.installed() != "install ok installed "+firstVersion {
			t.Errorf("%+v, %s\n%s", st, c.installed(), out)
		}
	})
	t.Run("people at the door come first", func(t *testing.T) {
		c := c.of(t)
		if err := os.RemoveAll(c.path("/var/lib/punchclock-update")); err != nil {
			t.Fatal(err)
		}
		c.run("dpkg", "--force-confold", "-i", c.put(one))
		c.taps(1)
		if a, said := update(t); a.Result != "later" || a.Reason != "peak" || !strings.Contains(a.Detail, "a moment ago") {
			t.Error(said)
		}
		if err := os.RemoveAll(c.path("/var/lib/punchclock")); err != nil {
			t.Fatal(err)
		}
	})
}

// What only the package has: units of updates, and scripts that must hold together.
func TestUnitsOfThePackageAreUnderstood(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var paths []string
	for _, name := range []string{"punchclock-update.service", "punchclock-update.timer", "punchclock-trial.service", "punchclock-secrets.path", "punchclock-secrets.service"} {
		b, err := os.ReadFile(filepath.Join("deb", name))
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`ExecStart=\S+`).ReplaceAllString(string(b), "ExecStart="+self)
		paths = append(paths, filepath.Join(dir, name))
		if err := os.WriteFile(paths[len(paths)-1], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(tool(t, "systemd-analyze"), append([]string{"verify", "--man=no", "--recursive-errors=no"}, paths...)...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "punchclock-") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	scripts, err := filepath.Glob("deb/*rm")
	more, err2 := filepath.Glob("deb/*inst")
	if err = errors.Join(err, err2); err != nil || len(scripts)+len(more) != 7 {
		t.Fatalf("%v: %q %q", err, scripts, more)
	}
	for _, s := range append(scripts, more...) {
		if out, err := exec.Command("sh", "-n", s).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", s, err, out)
		}
	}
}
