package systemd

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := fs.ReadFile(Files(), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSystemdUnderstandsTheScreensUnit(t *testing.T) {
	verify := func(edit func(string) string) error {
		path := filepath.Join(t.TempDir(), "punchclock-kiosk.service")
		text := strings.ReplaceAll(edit(read(t, "punchclock-kiosk.service")), "/usr/bin/cage", "/bin/true") // not installed here
		text = strings.ReplaceAll(text, "Wants=punchclock.service\n", "")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool(t, "systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
		if err != nil || strings.Contains(string(out), "punchclock-kiosk.service") {
			return fmt.Errorf("systemd-analyze verify: %v\n%s", err, out)
		}
		return nil
	}
	if err := verify(func(s string) string { return s }); err != nil {
		t.Error(err)
	}
	if verify(func(s string) string { return strings.Replace(s, "[Service]\n", "[Service]\nTTYRests=yes\n", 1) }) == nil {
		t.Error("a line that does not exist went through: this test sees nothing")
	}
}

// The browser shows one page, reaches nothing else, and leaves nobody a console.
func TestScreenHasNoWayOutToAShell(t *testing.T) {
	unit := read(t, "punchclock-kiosk.service")
	for line, why := range map[string]string{
		"User=punchclock-screen":                 "not the clock's user, which may read names and secrets",
		"Conflicts=getty@tty1.service":           "no login prompt on the console",
		"IPAddressDeny=any":                      "nothing but this machine",
		"IPAddressAllow=localhost":               "the page",
		"Restart=always":                         "a window that was closed comes back",
		"OOMScoreAdjust=500":                     "the browser goes before the clock",
		"RuntimeDirectoryMode=0700":              "the profile is nobody else's",
		"StartLimitIntervalSec=0":                "it never gives up",
		"  http://127.0.0.1:8080/":               "the page",
		"Wants=punchclock.service":               "a screen without a clock is none",
		"Environment=HOME=/run/punchclock-kiosk": "nothing is written to the card",
	} {
		if !strings.Contains("\n"+unit, "\n"+line+"\n") {
			t.Errorf("the unit lacks %q: %s", line, why)
		}
	}
	if strings.Contains(unit, "cage -s") || strings.Contains(unit, "--no-sandbox") || strings.Contains(unit, "--remote-debugging") {
		t.Error("the unit opens a way out")
	}
	var policy struct {
		URLBlocklist, URLAllowlist                 []string
		DeveloperToolsAvailability, BrowserSignin  int
		DownloadRestrictions                       int
		PrintingEnabled, AllowFileSelectionDialogs *bool
	}
	if err := json.Unmarshal([]byte(read(t, "punchclock-kiosk.json")), &policy); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(policy.URLBlocklist, []string{"*"}) || !slices.Equal(policy.URLAllowlist, []string{"http://127.0.0.1:8080"}) ||
		policy.DeveloperToolsAvailability != 2 || policy.DownloadRestrictions != 3 || policy.PrintingEnabled == nil || *policy.PrintingEnabled ||
		policy.AllowFileSelectionDialogs == nil || *policy.AllowFileSelectionDialogs {
		t.Errorf("%+v", policy)
	}
	user := read(t, "punchclock-kiosk.sysusers")
	if fields := strings.Fields(user[strings.LastIndex(strings.TrimSpace(user), "\n")+1:]); fields[0] != "u" || fields[1] != "punchclock-screen" || strings.Contains(user, "/bin/") || strings.Contains(user, "\nm ") {
		t.Errorf("the user has more than it needs: %s", user)
	}
}
