package pn532

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/host/v3/gpioioctl"
	"periph.io/x/host/v3/sysfs"
)

// openWire opens the bus that Config names, and the line IRQ. It is the only door to
// both.
func openWire(cfg Config) (w wire, irq interrupt, err error) {
	var bus, select_ int
	switch cfg.Link {
	case "i2c":
		if _, err := fmt.Sscanf(cfg.Port, "/dev/i2c-%d", &bus); err != nil {
			return nil, nil, fmt.Errorf("port %s is no I²C bus; write for example /dev/i2c-1", cfg.Port)
		}
		b, err := sysfs.NewI2C(bus)
		if err != nil {
			return nil, nil, hint(err, "dtparam=i2c_arm=on", "i2c")
		}
		w = &i2cWire{bus: b}
	default:
		if _, err := fmt.Sscanf(cfg.Port, "/dev/spidev%d.%d", &bus, &select_); err != nil {
			return nil, nil, fmt.Errorf("port %s is no SPI device; write for example /dev/spidev0.0", cfg.Port)
		}
		p, err := sysfs.NewSPI(bus, select_)
		if err != nil {
			return nil, nil, hint(err, "dtparam=spi=on", "spi")
		}
		c, err := p.Connect(physic.MegaHertz, spi.Mode0, 8)
		if err != nil {
			return nil, nil, errors.Join(err, p.Close())
		}
		w = &spiWire{conn: c, closer: p.Close}
	}
	if cfg.IRQ == "" {
		return w, nil, nil
	}
	line, err := takeLine(cfg.IRQ)
	if err != nil {
		return nil, nil, errors.Join(err, w.close())
	}
	return w, line, nil
}

// hint says what a person can do about an error of opening.
func hint(err error, overlay, group string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), strings.Contains(err.Error(), "no such file"):
		return fmt.Errorf("%w; switch the bus on with %s in /boot/firmware/config.txt, and restart", err, overlay)
	case errors.Is(err, fs.ErrPermission), strings.Contains(err.Error(), "permission denied"):
		return fmt.Errorf("%w; the program's user must be in the group %s", err, group)
	}
	return err
}

// irqLine is a line of the header as an input.
type irqLine struct{ pin *gpioioctl.GPIOLine }

func takeLine(name string) (interrupt, error) {
	if _, err := driverreg.Init(); err != nil {
		return nil, fmt.Errorf("look for GPIO chips: %w", err)
	}
	for _, chip := range gpioioctl.Chips {
		if pin := chip.ByName(name); pin != nil {
			if err := pin.In(gpio.PullUp, gpio.FallingEdge); err != nil {
				return nil, fmt.Errorf("take %s for irq: %w", name, err)
			}
			return &irqLine{pin}, nil
		}
	}
	return nil, fmt.Errorf("irq %s: this machine has no such line; leave irq out, and the chip is asked", name)
}

// wait is a hint: whether there is something the chip is asked.
func (l *irqLine) wait(d time.Duration) {
	if l.pin.Read() == gpio.High {
		l.pin.WaitForEdge(max(d, time.Millisecond))
	}
}

func (l *irqLine) close() error { return l.pin.Halt() }
