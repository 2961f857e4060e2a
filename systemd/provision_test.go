package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The units beside the clock's own, of a card that is a computer's own and of the logs:
// systemd understands every line, and finds them shut in.
func TestUnitsBesideTheClocksAreUnderstoodAndShutIn(t *testing.T) {
	for _, name := range []string{"punchclock-provision.service", "punchclock-setup.service", "punchclock-sweep.service", "punchclock-logs.service"} {
		write := func(edit func(string) string) string {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(strings.NewReplacer("/usr/local/bin/punchclock", "/bin/true", "/usr/sbin/rsyslogd", "/bin/true").Replace(edit(read(t, name)))), 0o644); err != nil {
				t.Fatal(err)
			}
			return path
		}
		verify := func(edit func(string) string) error {
			out, err := exec.Command(tool(t, "systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", write(edit)).CombinedOutput()
			if err != nil || strings.Contains(string(out), name) {
				return fmt.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
			return nil
		}
		security := func(edit func(string) string) error {
			out, err := exec.Command(tool(t, "systemd-analyze"), "security", "--offline=yes", "--no-pager", fmt.Sprintf("--threshold=%d", worst), write(edit)).CombinedOutput()
			if err != nil {
				return fmt.Errorf("systemd-analyze security: %v\n%s", err, out)
			}
			return nil
		}
		same := func(s string) string { return s }
		if err := verify(same); err != nil {
			t.Error(err)
		}
		if err := security(same); err != nil {
			t.Error(err)
		}
		if verify(func(s string) string { return strings.Replace(s, "[Service]\n", "[Service]\nTypo=oneshot\n", 1) }) == nil {
			t.Errorf("%s: a line that does not exist went through: this test sees nothing", name)
		}
		if security(func(s string) string { return strings.ReplaceAll(s, "SystemCallFilter=", "# ") }) == nil &&
			security(func(s string) string {
				var kept strings.Builder
				for line := range strings.Lines(s) {
					if !strings.HasPrefix(line, "Protect") && !strings.HasPrefix(line, "Private") && !strings.HasPrefix(line, "SystemCall") {
						kept.WriteString(line)
					}
				}
				return kept.String()
			}) == nil {
			t.Errorf("%s: an open unit went through: this test sees nothing", name)
		}
	}
}

// What no tool can know: the card is taken in before anybody reads what it says, only
// where there is one, and whatever becomes of it the clock starts.
func TestCardIsTakenInBeforeTheClock(t *testing.T) {
	unit, setup := read(t, "punchclock-provision.service"), read(t, "punchclock-setup.service")
	for _, line := range []string{
		"ConditionPathExists=|/boot/firmware/punchclock.toml",
		"ConditionPathExists=|/boot/firmware/punchclock.toml.txt",
		"ConditionPathExists=|/var/lib/punchclock-provision/plan.json", // begun, and cut off
		"Before=punchclock.service punchclock-setup.service",
		"Before=network-pre.target systemd-networkd.service wpa_supplicant@wlan0.service",
		"Type=oneshot",
		"StateDirectory=punchclock-provision",
		"LimitCORE=0",
	} {
		if !strings.Contains(unit, line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
	if strings.Contains(unit, "RequiredBy=") || strings.Contains(read(t, "punchclock.service"), "provision") {
		t.Error("the clock hangs on its card's file")
	}
	if !strings.Contains(setup, "ConditionPathExists=!/etc/punchclock/punchclock.toml\n") || !strings.Contains(setup, "DynamicUser=yes\n") {
		t.Error("the page would stand in the clock's way, or could read what the clock can")
	}
}
