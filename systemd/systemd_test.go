package systemd

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// worst is the exposure that systemd-analyze security may find, in tenths. 0.6 of
// it is adjtimex (counted under three heads), 0.9 the network and the sockets, 0.3
// the devices.
const worst = 17

// tool returns the path of one of systemd's tools.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed; on Debian: apt-get install systemd", name)
	}
	return path
}

// unit writes the service's unit, changed by edit, where the tools can see it.
func unit(t *testing.T, edit func(string) string) string {
	t.Helper()
	b, err := fs.ReadFile(Files(), "punchclock.service")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "punchclock.service")
	if err := os.WriteFile(path, []byte(edit(string(b))), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// verify runs systemd-analyze verify, with a program in the place of ours, which
// is not installed here.
func verify(t *testing.T, edit func(string) string) error {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := unit(t, func(s string) string {
		return edit(strings.ReplaceAll(s, "/usr/local/bin/punchclock", self))
	})
	out, err := exec.Command(tool(t, "systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
	// It ends well over a key that it does not know, and says so.
	if err != nil || strings.Contains(string(out), "punchclock.service") {
		return fmt.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	return nil
}

func TestSystemdUnderstandsEveryLine(t *testing.T) {
	if err := verify(t, func(s string) string { return s }); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{"WatchdogSecs=30", "WatchdogSec=soon", "DeviceAllow=ttyUSB", "SystemCallFilter=adjtimexx"} {
		if verify(t, func(s string) string { return strings.Replace(s, "[Service]\n", "[Service]\n"+wrong+"\n", 1) }) == nil {
			t.Errorf("%s went through: this test sees nothing", wrong)
		}
	}
}

func TestServiceIsShutIn(t *testing.T) {
	security := func(path string) (string, error) {
		out, err := exec.Command(tool(t, "systemd-analyze"), "security", "--offline=yes", "--no-pager", fmt.Sprintf("--threshold=%d", worst), path).CombinedOutput()
		return string(out), err
	}
	if out, err := security(unit(t, func(s string) string { return s })); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	if _, err := security(unit(t, func(s string) string { return strings.Replace(s, "CapabilityBoundingSet=\n", "", 1) })); err == nil {
		t.Error("a unit with every capability went through: this test sees nothing")
	}
}

// What the promise hangs on, and no tool can know.
func TestUnitKeepsThePromise(t *testing.T) {
	b, err := fs.ReadFile(Files(), "punchclock.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		lines[strings.TrimSpace(line)] = true
	}
	for line, why := range map[string]string{
		"Type=notify":                "start is done when a punch can be stored",
		"NotifyAccess=main":          "nobody else feeds the watchdog",
		"WatchdogSec=30":             "a clock that cannot store is started again",
		"Restart=always":             "it comes back whatever ended it",
		"RestartPreventExitStatus=2": "a configuration error needs a person",
		"StartLimitIntervalSec=0":    "it never gives up",
		"StateDirectory=punchclock":  "/var/lib/punchclock is the default state_dir",
		"StateDirectoryMode=0700":    "the state holds names and badges",
		"LoadCredential=104-secret":  "without a path, so that an absent secret does not stop the clock",
		"SystemCallFilter=adjtimex clock_adjtime clock_adjtime64": "the clock's error bound is read with it",
	} {
		if !lines[line] {
			t.Errorf("the unit lacks %s: %s", line, why)
		}
	}
	// Nothing to wait for but drivers, without which their devices would be forbidden.
	drivers := "After=modprobe@usbserial.service modprobe@cdc_acm.service modprobe@i2c_dev.service"
	if !lines[drivers] {
		t.Errorf("the unit lacks %s: a reader that is plugged in later would be forbidden", drivers)
	}
	for line := range lines {
		if strings.HasPrefix(line, "After=") && line != drivers || strings.HasPrefix(line, "ProtectClock=yes") || strings.HasPrefix(line, "ProcSubset=pid") {
			t.Errorf("the unit has %s", line)
		}
	}
}

// What rsyslog under the unit of the logs hangs on: without either it runs, and sends
// nothing. make test-deb FORM=full sees it send.
func TestUnitOfTheLogsLetsThemOut(t *testing.T) {
	b, err := fs.ReadFile(Files(), "punchclock-logs.service")
	if err != nil {
		t.Fatal(err)
	}
	for line, why := range map[string]string{
		"ExecCondition=/usr/bin/env CREDENTIALS_DIRECTORY=%d /usr/local/bin/punchclock logs config ": "the key is not found",
		"\nSystemCallFilter=sched_setscheduler\n":                                                    "rsyslog starts none of its threads",
	} {
		if !strings.Contains(string(b), line) {
			t.Errorf("the unit lacks %s: %s", strings.TrimSpace(line), why)
		}
	}
}

func TestSysusersMakesTheUserAndEveryGroupOfTheUnit(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := fs.ReadFile(Files(), "punchclock.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "punchclock.conf")
	if err := os.WriteFile(conf, b, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "systemd-sysusers"), "--root="+root, "--replace=/etc/sysusers.d/punchclock.conf", "-")
	cmd.Stdin = strings.NewReader(string(b))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	group, err := os.ReadFile(filepath.Join(root, "etc", "group"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(group)) {
		name, _, _ := strings.Cut(line, ":")
		if members := line[strings.LastIndexByte(line, ':')+1:]; name != "punchclock" && strings.TrimSpace(members) != "punchclock" {
			t.Errorf("the clock's user is not in the group %s", name)
		}
	}
	for file, names := range map[string][]string{"passwd": {"punchclock"}, "group": {"punchclock", "dialout", "gpio", "i2c", "input", "spi", "video"}} {
		got, err := os.ReadFile(filepath.Join(root, "etc", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.Contains("\n"+string(got), "\n"+name+":") {
				t.Errorf("%s lacks %s:\n%s", file, name, got)
			}
		}
	}
}

func TestEveryFileSaysWhereItGoes(t *testing.T) {
	entries, err := fs.ReadDir(Files(), ".")
	if err != nil || len(entries) != 12 {
		t.Fatalf("%v %v", entries, err)
	}
	for _, e := range entries {
		b, err := fs.ReadFile(Files(), e.Name())
		if strings.HasSuffix(e.Name(), ".json") {
			continue // has no comments: its unit says it
		}
		if err != nil || !strings.HasPrefix(string(b), "# Goes to /etc/") {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
}

// Whoever gets the program gets the licences of what is linked into it.
func TestLicencesOfAllThatIsLinkedGoWithTheProgram(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "./licences").Output()
	if err != nil {
		t.Fatal(err)
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "../cmd/punchclock")
	list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	modules, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := slices.Compact(slices.Sorted(strings.Lines(string(modules))))
	parts := strings.Split(string(out), strings.Repeat("=", 72)+"\n")
	if want := 1 + 1 + len(linked) + 1; len(parts) != want || len(linked) < 10 { // a heading, Go and the letters
		t.Fatalf("%d parts for %d modules", len(parts), len(linked))
	}
	for i, name := range slices.Concat([]string{"Go, its runtime and library\n"}, linked, []string{"Noto Sans"}) {
		if part := parts[1+i]; !strings.HasPrefix(part, name) || !strings.Contains(part, "opyright") || len(part) < 500 {
			t.Errorf("%q is not followed by its licence:\n%.300s", name, part)
		}
	}
}
