package wiegand

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/warthog618/go-gpiocdev/uapi"

	"punchclock/device"
)

// Chip is one GPIO chip and who has its lines.
type Chip struct {
	Path  string // /dev/gpiochip0
	Label string // pinctrl-bcm2711
	Lines []ChipLine
}

// ChipLine is one line; its number is its place in Chip.Lines.
type ChipLine struct {
	Name string // GPIO17; "" where the kernel gives none
	Used bool
	User string // who has it, "" where it did not say
}

// Header reports whether the chip is that of a Raspberry Pi's header.
func (c Chip) Header() bool { return slices.Contains(headerChips, c.Label) }

// Chips looks at every GPIO chip of this machine, sorted by path. It takes no line
// and changes nothing, so it may be used beside whoever has the lines. Where there is
// none the error holds [device.ErrMissing]; a chip that may not be opened is an error
// that says what to do.
func Chips() ([]Chip, error) {
	paths, err := filepath.Glob("/dev/gpiochip*")
	if err != nil {
		return nil, fmt.Errorf("look for GPIO chips: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("this machine has no GPIO: %w", device.ErrMissing)
	}
	var chips []Chip
	for _, path := range paths {
		real, err := filepath.EvalSymlinks(path) // a Pi 5 has a second name for its chip
		if err != nil {
			return nil, openError(err)
		}
		if slices.ContainsFunc(chips, func(c Chip) bool { return c.Path == real }) {
			continue
		}
		c, err := lookAt(real)
		if err != nil {
			return nil, err
		}
		chips = append(chips, c)
	}
	slices.SortFunc(chips, func(a, b Chip) int { return cmp.Compare(a.Path, b.Path) })
	return chips, nil
}

func lookAt(path string) (Chip, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return Chip{}, openError(err)
	}
	defer f.Close()
	info, err := uapi.GetChipInfo(f.Fd())
	if err != nil {
		return Chip{}, fmt.Errorf("%s is no GPIO chip: %w", path, err)
	}
	c := Chip{Path: path, Label: uapi.BytesToString(info.Label[:])}
	for n := range int(info.Lines) {
		l, err := uapi.GetLineInfoV2(f.Fd(), n)
		if err != nil {
			return Chip{}, fmt.Errorf("ask %s about line %d: %w; it needs Linux 5.10 or newer", path, n, err)
		}
		c.Lines = append(c.Lines, ChipLine{Name: uapi.BytesToString(l.Name[:]), Used: l.Flags.IsUsed(), User: uapi.BytesToString(l.Consumer[:])})
	}
	return c, nil
}
