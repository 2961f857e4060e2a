package indicator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/host/v3/gpioioctl"
)

// Pin finds an output of this board by the name of its line, such as GPIO17,
// which holds for every Pi, or by chip and number, such as pinctrl-bcm2711:17,
// for kernels that give the lines no names. It takes nothing yet; the line is
// taken when it is first switched, low for a moment before it is set: an output
// that must not even blink when the program starts needs a resistor that holds it
// off.
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
	var labels []string
	for _, chip := range chips {
		labels = append(labels, chip.Label())
		if !byNumber {
			if line := chip.ByName(name); line != nil {
				return line, nil
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
		return chip.ByNumber(n), nil
	}
	slices.Sort(labels)
	return nil, fmt.Errorf("indicator: pin %s: no such line; write a name such as GPIO17, or chip and number, the chips being %s", name, strings.Join(labels, ", "))
}
