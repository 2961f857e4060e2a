// Package systemd holds the files that make a board start the punch clock: the
// service unit, its user, and a rule for GPIO lines; and, for a screen that is a
// browser, a unit for that, its user and its policy; and, for a card that is a computer's
// own, units that take its configuration in, show what is wrong with it, and sweep the card;
// and, for the logs, a unit that sends them to a collector; and, for whoever watches many clocks, rules
// for Prometheus and a dashboard for Grafana. They are in the binary, so
// that what is installed fits the program: punchclock units prints them. Each file says at
// its top where it goes, and beside each line why; of the policy, which is JSON, its
// unit says so.
package systemd

import (
	"embed"
	"io/fs"
)

//go:embed punchclock.service punchclock.sysusers 60-punchclock.rules
//go:embed punchclock-provision.service punchclock-setup.service punchclock-sweep.service
//go:embed punchclock-logs.service punchclock-alerts.yml punchclock-dashboard.json
//go:embed punchclock-kiosk.service punchclock-kiosk.sysusers punchclock-kiosk.json
var files embed.FS

// Files returns the files by name, all in one directory.
func Files() fs.FS { return files }
