package mfrc522

import (
	"errors"
	"fmt"
	"strings"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/host/v3/sysfs"
)

// openPort opens an SPI device. It is the only door to it.
func openPort(path string) (spi.Conn, func() error, error) {
	var bus, device int
	if n, err := fmt.Sscanf(path, "/dev/spidev%d.%d", &bus, &device); err != nil || n != 2 {
		return nil, nil, errors.New("this is no SPI device; write for example /dev/spidev0.0")
	}
	p, err := sysfs.NewSPI(bus, device)
	if err != nil {
		// The library keeps no error to ask; its words are the kernel's.
		switch {
		case strings.Contains(err.Error(), "no such file"):
			err = fmt.Errorf("%w; switch the bus on with dtparam=spi=on in /boot/firmware/config.txt, and restart", err)
		case strings.Contains(err.Error(), "permission denied"):
			err = fmt.Errorf("%w; the program's user must be in the group spi", err)
		}
		return nil, nil, err
	}
	c, err := p.Connect(4*physic.MegaHertz, spi.Mode0, 8)
	if err != nil {
		return nil, nil, errors.Join(err, p.Close())
	}
	return c, p.Close, nil
}
