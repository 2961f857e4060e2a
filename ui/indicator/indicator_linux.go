package indicator

import (
	"errors"
	"fmt"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"

	"punchclock/device/gpiochip"
)

// Pin finds an output of this board: GPIO17, or pin 11, is a line of the header, on
// every Pi; pinctrl-bcm2711:17 is chip and number; anything else is the line that the
// kernel gives that name. It takes nothing yet. The line is taken when it is first
// switched, and has that level from the first moment on.
func Pin(name string) (gpio.PinOut, error) {
	chips, err := gpiochip.Chips()
	if len(chips) == 0 {
		return nil, fmt.Errorf("indicator: pin %s: %w", name, err)
	}
	chip, offset, ferr := gpiochip.Find(chips, "", name)
	if ferr != nil {
		return nil, fmt.Errorf("indicator: %w", errors.Join(ferr, err))
	}
	return &line{name: name, chip: chip.Path, offset: offset, fd: -1}, nil
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
	c, err := gpiochip.Open(l.chip)
	if err != nil {
		return err
	}
	defer c.Close()
	output := uapi.LineConfig{Flags: uapi.LineFlagV2Output}
	output.AddAttribute(uapi.LineConfigAttribute{Attr: uapi.OutputValues(bits).Encode(), Mask: 1})
	fd, err := c.Take(output, 0, l.offset)
	if err != nil {
		return err
	}
	l.fd = fd
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
