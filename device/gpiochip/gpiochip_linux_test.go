package gpiochip

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"

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
		header, err := Open("")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := header.Take(uapi.LineConfig{Flags: uapi.LineFlagV2Input}, 0, 17, 18)
		if err != nil {
			t.Fatal(err)
		}
		if err := header.Close(); err != nil {
			t.Fatal(err)
		}
		for _, held := range []bool{true, false} {
			if !held {
				if err := unix.Close(fd); err != nil {
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
					want := Line{}
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

func TestEveryNameOfALineMeansOneLine(t *testing.T) {
	link := filepath.Join(t.TempDir(), "door")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	// As Debian names them on a Pi 3: what has another use on the header has its name.
	header := Info{Path: "/dev/gpiochip0", Label: "pinctrl-bcm2835", Lines: make([]Line, 54)}
	header.Lines[7].Name, header.Lines[17].Name, header.Lines[40].Name = "SPI_CE1_N", "GPIO17", "STATUS_LED"
	wall := Info{Path: "/dev/null", Label: "wall", Lines: []Line{{}, {Name: "RELAY"}, {Name: "GPIO17"}}}
	both, only := []Info{header, wall}, []Info{wall}
	for _, tc := range []struct {
		chips      []Info
		chip, name string
		want       string // chip, or what the error says
		line       int
	}{
		{both, "", "GPIO17", "/dev/gpiochip0", 17},
		{both, "", "pin 11", "/dev/gpiochip0", 17},
		{both, "", "GPIO7", "/dev/gpiochip0", 7},
		{both, "", "pin 26", "/dev/gpiochip0", 7},
		{both, "", "STATUS_LED", "/dev/gpiochip0", 40},
		{both, "", "RELAY", "/dev/null", 1},
		{both, "", "wall:2", "/dev/null", 2},
		{both, "", "gpiochip0:53", "/dev/gpiochip0", 53},
		{both, "wall", "GPIO2", "/dev/null", 2},
		{both, "/dev/null", "GPIO0", "/dev/null", 0},
		{both, link, "GPIO0", "/dev/null", 0},
		{only, "", "GPIO17", "/dev/null", 2},
		{only, "", "pin 11", "no such line as pin 11", 0},
		{only, "", "GPIO1", "the chips being wall", 0},
		{both, "", "GPIO40", "no such line as GPIO40", 0},
		{both, "", "wall:3", "the lines of wall are 0 to 2", 0},
		{both, "", "wall:-1", "the lines of wall are 0 to 2", 0},
		{both, "", "wall:x", `"x" is no line's number`, 0},
		{both, "", "door:1", "the chips being pinctrl-bcm2835, wall", 0},
		{both, "wall", "RELAY", "no such line as RELAY", 0},
		{both, "door", "GPIO1", "no such line as GPIO1", 0},
		{nil, "", "GPIO1", "no such line", 0},
	} {
		got, line, err := Find(tc.chips, tc.chip, tc.name)
		if strings.HasPrefix(tc.want, "/") {
			if err != nil || got.Path != tc.want || line != tc.line {
				t.Errorf("%q %q: %s, %d, %v", tc.chip, tc.name, got.Path, line, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q %q: %s, %d, %v; want %q", tc.chip, tc.name, got.Path, line, err, tc.want)
		}
	}
}
