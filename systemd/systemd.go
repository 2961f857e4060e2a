// Package systemd holds the files that make a board start the punch clock: the
// service unit, its user, and a rule for GPIO lines. They are in the binary, so
// that what is installed fits the program: punchclock units prints them. Each
// file says at its top where it goes, and beside each line why.
package systemd

import (
	"embed"
	"io/fs"
)

//go:embed punchclock.service punchclock.sysusers 60-punchclock.rules
var files embed.FS

// Files returns the files by name, all in one directory.
func Files() fs.FS { return files }
