package indicator

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/host/v3/gpioioctl"
)

// headerChips are the labels of the chips behind the header: Raspberry Pi 5, 4,
// and all before it. Their line n is GPIOn, whatever name the kernel gives it.
var headerChips = []string{"pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835"}

// Pin finds an output of this board: GPIO17 is a line of the header, on every Pi, or
// else a line that the kernel gives that name; pinctrl-bcm2711:17 is chip and number.
// It takes nothing yet. The line is taken when it is first switched, and has that
// level from the first moment on.
func Pin(name string) (gpio.PinOut, error) {
	// It is not an error to it that there is nothing: the chips must be looked at.
	if _, err := driverreg.Init(); err != nil {
		return nil, fmt.Errorf("indicator: look for GPIO chips: %w", err)
	}
	if len(gpioioctl.Chips) == 0 {
		return nil, fmt.Errorf("indicator: pin %s: this machine has no GPIO chip that the program may open; check /dev/gpiochip0 and that the program's user is in the group gpio", name)
	}
	return find(gpioioctl.Chips, name)
}

func find(chips []*gpioioctl.GPIOChip, name string) (gpio.PinOut, error) {
	label, number, byNumber := strings.Cut(name, ":")
	if n, ok := strings.CutPrefix(name, "GPIO"); ok {
		for _, chip := range chips {
			if slices.Contains(headerChips, chip.Label()) {
				label, number, byNumber = chip.Label(), n, true
			}
		}
	}
	var labels []string
	for _, chip := range chips {
		labels = append(labels, chip.Label())
		if !byNumber {
			if l := chip.ByName(name); l != nil {
				return &line{name: name, chip: chip.Path(), offset: l.Number(), fd: -1}, nil
			}
			continue
		}
		if label != chip.Label() && label != chip.Name() {
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n >= chip.LineCount() {
			return nil, fmt.Errorf("indicator: pin %s: that chip's lines are 0 to %d", name, chip.LineCount()-1)
		}
		return &line{name: name, chip: chip.Path(), offset: n, fd: -1}, nil
	}
	slices.Sort(labels)
	return nil, fmt.Errorf("indicator: pin %s: no such line; write a name such as GPIO17, or chip and number, the chips being %s", name, strings.Join(labels, ", "))
}

// line is an output. The library's own is low for a moment when it is taken, whatever
// it is set to: that is long enough for a relay that is on at the low level.
type line struct {
	name   string
	chip   string // path
	offset int
	fd     int // of the request; -1: not taken
}

var _ gpio.PinOut = (*line)(nil)

// Out sets the level, and takes the line with it the first time.
func (l *line) Out(level gpio.Level) error {
	var bits uapi.LineBitmap
	if level {
		bits = 1
	}
	if l.fd >= 0 {
		return uapi.SetLineValuesV2(uintptr(l.fd), uapi.LineValues{Mask: 1, Bits: bits})
	}
	f, err := os.OpenFile(l.chip, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	req := uapi.LineRequest{Lines: 1}
	req.Offsets[0] = uint32(l.offset)
	copy(req.Consumer[:], "punchclock")
	req.Config.Flags = uapi.LineFlagV2Output
	req.Config.AddAttribute(uapi.LineConfigAttribute{Attr: uapi.OutputValues(bits).Encode(), Mask: 1})
	if err := uapi.GetLine(f.Fd(), &req); err != nil {
		if info, ierr := uapi.GetLineInfoV2(f.Fd(), l.offset); ierr == nil && errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("%w: it is taken by %q; take it away from there, or use another pin", err, uapi.BytesToString(info.Consumer[:]))
		}
		return err
	}
	l.fd = int(req.Fd)
	return nil
}

// Halt gives the line back. What becomes of its level is the board's to say.
func (l *line) Halt() error {
	if l.fd < 0 {
		return nil
	}
	fd := l.fd
	l.fd = -1
	return unix.Close(fd)
}

func (l *line) String() string                        { return l.name }
func (l *line) Name() string                          { return l.name }
func (l *line) Number() int                           { return l.offset }
func (l *line) Function() string                      { return "Out" }
func (l *line) PWM(gpio.Duty, physic.Frequency) error { return errors.New("indicator: no PWM") }
