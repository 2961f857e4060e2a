package wiegand

import (
	"errors"
	"testing"

	"punchclock/device"
	"punchclock/device/devicetest"
)

func TestKernelTellsWhoHasALine(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"gpio-sim"}}, func(t *testing.T) {
		if chips, err := Chips(); !errors.Is(err, device.ErrMissing) {
			t.Errorf("no chip at all: %v, %v", chips, err)
		}
		devicetest.NewGPIOSim(t, "pinctrl-bcm2711", 28, "ID_SDA", "ID_SCL", "GPIO2")
		devicetest.NewGPIOSim(t, "wall", 4)
		g, err := openGPIO("", 17, 18)
		if err != nil {
			t.Fatal(err)
		}
		for _, held := range []bool{true, false} {
			if !held {
				if err := g.Close(); err != nil {
					t.Fatal(err)
				}
			}
			chips, err := Chips()
			if err != nil || len(chips) != 2 {
				t.Fatalf("%v, %v", chips, err)
			}
			for _, c := range chips {
				if c.Header() != (c.Label == "pinctrl-bcm2711") || len(c.Lines) != map[string]int{"pinctrl-bcm2711": 28, "wall": 4}[c.Label] {
					t.Errorf("%s %s, %d lines", c.Path, c.Label, len(c.Lines))
				}
				for n, l := range c.Lines {
					want := ChipLine{}
					if c.Header() && n < 3 {
						want.Name = []string{"ID_SDA", "ID_SCL", "GPIO2"}[n]
					}
					if c.Header() && (n == 17 || n == 18) && held {
						want.Used, want.User = true, "punchclock"
					}
					if l != want {
						t.Errorf("%s, line %d: %+v, want %+v", c.Label, n, l, want)
					}
				}
			}
		}
	})
}
