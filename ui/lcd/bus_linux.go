package lcd

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"periph.io/x/host/v3/sysfs"
)

// wireBus is the kernel's I²C device.
type wireBus struct{ bus *sysfs.I2C }

// openBus opens an I²C bus such as /dev/i2c-1. It is the only door to it.
func openBus(path string) (bus, error) {
	var n int
	if _, err := fmt.Sscanf(path, "/dev/i2c-%d", &n); err != nil {
		return nil, fmt.Errorf("display: bus %s is no I²C bus; write for example /dev/i2c-1", path)
	}
	b, err := sysfs.NewI2C(n)
	switch {
	case err == nil:
		return wireBus{b}, nil
	case errors.Is(err, fs.ErrNotExist), strings.Contains(err.Error(), "no such file"):
		err = fmt.Errorf("%w; switch the bus on with dtparam=i2c_arm=on,i2c_arm_baudrate=400000 in /boot/firmware/config.txt, and restart", err)
	case errors.Is(err, fs.ErrPermission), strings.Contains(err.Error(), "permission denied"):
		err = fmt.Errorf("%w; the program's user must be in the group i2c", err)
	}
	return nil, fmt.Errorf("display: %w", err)
}

func (w wireBus) Write(address uint16, b []byte) error { return w.bus.Tx(address, b, nil) }
func (w wireBus) Close() error                         { return w.bus.Close() }
