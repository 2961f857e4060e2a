package pn532

import (
	"context"
	"slices"
	"time"

	"punchclock/device/devicetest"
)

type (
	sim = devicetest.PN532
	tag = devicetest.Tag
)

// simIRQ is the line: low while something is said.
type simIRQ struct {
	*sim
	waits *int
}

func (l simIRQ) wait(ctx context.Context, d time.Duration) bool {
	*l.waits++
	return l.WaitIRQ(ctx, d)
}

func (l simIRQ) close() error { return nil }

// onEachLink makes a reader for each way to wire the chip.
func onEachLink(s *sim) map[string]*Reader {
	hsuReader, err := New(Config{Name: "front", Link: "hsu", Serial: func() (Serial, error) {
		var err error
		s.Do(func(s *sim) {
			if s.Gone {
				err = devicetest.ErrUnplugged
			}
		})
		if err != nil {
			return nil, err
		}
		return s.UART(), nil
	}})
	if err != nil {
		panic(err)
	}
	wired := func(how string, open func() wire, irq interrupt) *Reader {
		cfg := Config{Name: "front", Link: how, Port: "/dev/simulated"}
		if irq != nil {
			cfg.IRQ = "GPIO4"
		}
		r, err := New(cfg)
		if err != nil {
			panic(err)
		}
		r.open = func() (link, error) { return &polled{wire: open(), irq: irq}, nil }
		return r
	}
	return map[string]*Reader{
		"hsu":     hsuReader,
		"i2c":     wired("i2c", func() wire { return &i2cWire{bus: s.I2C()} }, nil),
		"i2c+irq": wired("i2c", func() wire { return &i2cWire{bus: s.I2C()} }, simIRQ{s, new(int)}),
		"spi":     wired("spi", func() wire { return &spiWire{conn: s.SPI(), closer: func() error { return nil }} }, nil),
	}
}

var links = func() []string {
	var names []string
	for name := range onEachLink(devicetest.NewPN532()) {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}()
