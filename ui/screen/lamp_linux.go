package screen

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// backlights is where the kernel lists the lamps behind panels of the board's own.
const backlights = "/sys/class/backlight"

// backlight is such a lamp.
type backlight struct {
	file      string
	full, low int // of what the file takes
}

// findLamp returns the lamp behind the panel, nil where there is none that is known of: a
// monitor's is its own. What it shines with now is full, unless that is dim already: a
// clock that was killed at night has left it so.
func findLamp(sys string) (*backlight, error) {
	found, _ := filepath.Glob(filepath.Join(sys, "*", "max_brightness"))
	if len(found) == 0 {
		return nil, nil
	}
	dir := filepath.Dir(found[0])
	b := &backlight{file: filepath.Join(dir, "brightness")}
	most, err := readNumber(found[0])
	now, nerr := readNumber(b.file)
	if err := errors.Join(err, nerr); err != nil {
		return nil, fmt.Errorf("read how bright the display is: %w", err)
	}
	b.full, b.low = now, max(most/8, 1)
	if now <= b.low {
		b.full = most
	}
	return b, b.set(b.full)
}

func readNumber(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func (b *backlight) set(n int) error {
	if err := os.WriteFile(b.file, []byte(strconv.Itoa(n)), 0); err != nil {
		return fmt.Errorf("set how bright the display is: %w; the program's user must be allowed to write there, see 60-punchclock.rules", err)
	}
	return nil
}
