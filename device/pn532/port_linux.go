package pn532

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/host/v3/sysfs"

	"punchclock/device/gpiochip"
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
type irqLine struct {
	file *os.File // edges come out of it
	buf  [1024]byte
}

func takeLine(name string) (interrupt, error) {
	line, err := irqOf(name)
	if err != nil {
		return nil, fmt.Errorf("irq: %w; leave irq out, and the chip is asked", err)
	}
	return line, nil
}

func irqOf(name string) (*irqLine, error) {
	chips, err := gpiochip.Chips()
	if len(chips) == 0 {
		return nil, err
	}
	chip, line, ferr := gpiochip.Find(chips, "", name)
	if ferr != nil {
		return nil, errors.Join(ferr, err)
	}
	c, err := gpiochip.Open(chip.Path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	fd, err := c.Take(uapi.LineConfig{Flags: uapi.LineFlagV2Input | uapi.LineFlagV2EdgeFalling | uapi.LineFlagV2BiasPullUp}, 0, line)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &irqLine{file: os.NewFile(uintptr(fd), "irq")}, nil
}

// wait looks at the level: edges only wake it, and old ones may be among them.
func (l *irqLine) wait(ctx context.Context, d time.Duration) bool {
	if l.file.SetReadDeadline(time.Now().Add(d)) != nil {
		return false
	}
	defer context.AfterFunc(ctx, func() { l.file.SetReadDeadline(time.Unix(1, 0)) })()
	conn, err := l.file.SyscallConn()
	if err != nil {
		return false
	}
	for {
		v := uapi.LineValues{Mask: 1}
		if cerr := conn.Control(func(fd uintptr) { err = uapi.GetLineValuesV2(fd, &v) }); cerr != nil || err != nil {
			return false
		}
		if v.Bits == 0 {
			return true
		}
		if _, err := l.file.Read(l.buf[:]); err != nil { // the deadline, or ctx is done
			return false
		}
	}
}

func (l *irqLine) close() error { return l.file.Close() }
