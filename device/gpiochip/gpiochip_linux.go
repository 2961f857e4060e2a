// Package gpiochip is the way to the lines of a GPIO chip: which chip a configuration
// means, which of its lines, who has them, and taking them. Wires, keys and lamps are
// configured alike because all of them come through here.
//
// A chip is found by its label or the path of its device file, and that of a Raspberry
// Pi's header by having none named: its number differs from board to board and from
// kernel to kernel, its label does not. Its line n is GPIOn on every Pi, whatever name
// the kernel gives that line. Lines are taken by the kernel's GPIO character device,
// version 2 (Linux 5.10), in the name of "punchclock".
package gpiochip

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"

	"punchclock/device"
)

// headers are the labels of the chips behind the header: Raspberry Pi 5, 4, and all
// before it.
var headers = []string{"pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835"}

// The kernel's structure has this size on every machine.
var _ [592]byte = [unsafe.Sizeof(uapi.LineRequest{})]byte{}

// Chip is an open chip. Closing it leaves the lines that were taken.
type Chip struct {
	Name  string // of its device file, whatever link led there: gpiochip0
	Label string
	lines int
	file  *os.File
}

// Open opens a chip by its label or, if that begins with "/", its path; "" is that of
// a Raspberry Pi's header. Where it is not there the error holds [device.ErrMissing].
func Open(want string) (*Chip, error) {
	if strings.HasPrefix(want, "/") {
		return open(want)
	}
	paths, err := filepath.Glob("/dev/gpiochip*")
	if err != nil {
		return nil, fmt.Errorf("look for GPIO chips: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("this machine has no GPIO: %w; it takes a Raspberry Pi, or a chip of another make named by chip", device.ErrMissing)
	}
	labels := headers
	if want != "" {
		labels = []string{want}
	}
	var seen []string
	var refused error
	for _, path := range paths {
		c, err := open(path)
		if err != nil {
			refused = err
			continue
		}
		if slices.Contains(labels, c.Label) {
			return c, nil
		}
		c.Close()
		seen = append(seen, fmt.Sprintf("%s (%s)", c.Label, path))
	}
	switch {
	case refused != nil:
		return nil, refused
	case want == "":
		return nil, fmt.Errorf("this machine has no Raspberry Pi's header: %w; name another chip by chip, there is %s", device.ErrMissing, strings.Join(seen, ", "))
	}
	return nil, fmt.Errorf("no GPIO chip is labelled %q: %w; there is %s", want, device.ErrMissing, strings.Join(seen, ", "))
}

func open(path string) (*Chip, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w; the program's user must be in the device's group, usually gpio", err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%w: %w", device.ErrMissing, err)
	case err != nil:
		return nil, err
	}
	info, err := uapi.GetChipInfo(f.Fd())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is no GPIO chip: %w", path, err)
	}
	return &Chip{Name: uapi.BytesToString(info.Name[:]), Label: uapi.BytesToString(info.Label[:]), lines: int(info.Lines), file: f}, nil
}

// Close closes the chip.
func (c *Chip) Close() error { return c.file.Close() }

// Take takes lines in one request, with room for so many edges in the kernel, 0 for
// its own choice. The caller closes the file descriptor, which gives the lines back.
func (c *Chip) Take(config uapi.LineConfig, edges int, lines ...int) (fd int, err error) {
	names := make([]string, len(lines))
	req := uapi.LineRequest{Lines: uint32(len(lines)), Config: config, EventBufferSize: uint32(edges)}
	copy(req.Consumer[:], "punchclock")
	for i, line := range lines {
		if line >= c.lines {
			return -1, fmt.Errorf("GPIO%d: the chip %q has %d lines only: %w", line, c.Label, c.lines, device.ErrMissing)
		}
		names[i], req.Offsets[i] = fmt.Sprintf("GPIO%d", line), uint32(line)
	}
	if err = uapi.GetLine(c.file.Fd(), &req); err == nil {
		return int(req.Fd), nil
	}
	err = fmt.Errorf("request of %s: %w", strings.Join(names, ", "), err)
	switch {
	case errors.Is(err, unix.EBUSY):
		var taken []string
		for i, line := range lines {
			if info, err := uapi.GetLineInfoV2(c.file.Fd(), line); err == nil && info.Flags.IsUsed() {
				taken = append(taken, fmt.Sprintf("%s is taken by %q", names[i], uapi.BytesToString(info.Consumer[:])))
			}
		}
		return -1, fmt.Errorf("%w; %s: take it away from there (an overlay in config.txt, another program), or use other pins", err, strings.Join(taken, ", "))
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL):
		return -1, fmt.Errorf("%w; it needs Linux 5.10 or newer", err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.EOPNOTSUPP):
		return -1, fmt.Errorf("%w; this chip cannot tell of edges: use another one", err)
	}
	return -1, err
}

// Info is what there is to know of a chip without taking any of its lines.
type Info struct {
	Path  string // /dev/gpiochip0
	Label string // pinctrl-bcm2711
	Lines []Line // a line's place is its number
}

// Line is one line of a chip.
type Line struct {
	Name string // GPIO17; "" where the kernel gives none
	Used bool
	User string // who has it, "" where it did not say
}

// Header reports whether the chip is that of a Raspberry Pi's header.
func (i Info) Header() bool { return slices.Contains(headers, i.Label) }

// Chips looks at every GPIO chip of this machine, sorted by path. It takes no line and
// changes nothing, so it may be used beside whoever has the lines. Where there is no
// chip the error holds [device.ErrMissing]. A chip that may not be opened is an error
// that says what to do, and comes with the others.
func Chips() (chips []Info, err error) {
	paths, err := filepath.Glob("/dev/gpiochip*")
	if err != nil {
		return nil, fmt.Errorf("look for GPIO chips: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("this machine has no GPIO: %w", device.ErrMissing)
	}
	for _, path := range paths {
		real, lerr := filepath.EvalSymlinks(path) // a Pi 5 has a second name for its chip
		if lerr == nil && slices.ContainsFunc(chips, func(i Info) bool { return i.Path == real }) {
			continue
		}
		i := Info{Path: real}
		if lerr == nil {
			lerr = i.look()
		}
		if lerr != nil {
			err = lerr
			continue
		}
		chips = append(chips, i)
	}
	slices.SortFunc(chips, func(a, b Info) int { return cmp.Compare(a.Path, b.Path) })
	return chips, err
}

func (i *Info) look() error {
	c, err := open(i.Path)
	if err != nil {
		return err
	}
	defer c.Close()
	i.Label = c.Label
	for n := range c.lines {
		l, err := uapi.GetLineInfoV2(c.file.Fd(), n)
		if err != nil {
			return fmt.Errorf("ask %s about line %d: %w; it needs Linux 5.10 or newer", i.Path, n, err)
		}
		i.Lines = append(i.Lines, Line{Name: uapi.BytesToString(l.Name[:]), Used: l.Flags.IsUsed(), User: uapi.BytesToString(l.Consumer[:])})
	}
	return nil
}

// Find tells which line a name means, among these chips. Of a chip that is named, by
// label or path, it is what [device.ParsePin] says. Without one it is the header's
// where there is a header; or pinctrl-bcm2711:17, chip and number; or else the line
// that the kernel gives that name.
func Find(chips []Info, chip, name string) (Info, int, error) {
	label, number, both := strings.Cut(name, ":")
	line, err := device.ParsePin(chip, name)
	if chip == "" && both {
		chip = label
		if line, err = strconv.Atoi(number); err != nil {
			return Info{}, 0, fmt.Errorf("%q: %q is no line's number", name, number)
		}
	}
	if strings.HasPrefix(chip, "/") { // else it is a label
		if real, err := filepath.EvalSymlinks(chip); err == nil {
			chip = real
		}
	}
	var labels []string
	for _, i := range chips {
		labels = append(labels, i.Label)
		if chip == "" && !i.Header() || chip != "" && chip != i.Label && chip != i.Path && chip != filepath.Base(i.Path) || err != nil {
			continue
		}
		if line < 0 || line >= len(i.Lines) {
			return Info{}, 0, fmt.Errorf("%s: the lines of %s are 0 to %d", name, i.Label, len(i.Lines)-1)
		}
		return i, line, nil
	}
	for _, i := range chips {
		if line := slices.IndexFunc(i.Lines, func(l Line) bool { return l.Name == name }); chip == "" && line >= 0 {
			return i, line, nil
		}
	}
	slices.Sort(labels)
	return Info{}, 0, fmt.Errorf("no such line as %s; write a name such as GPIO17, or chip and number, the chips being %s", name, strings.Join(labels, ", "))
}
