package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
	"punchclock/device/evdev"
	"punchclock/device/wiegand"
)

// What punchsim plays is what the clock's own readers read, through the kernel.
func TestKernelReadersHearWhatIsTapped(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"evdev", "uinput", "gpio-sim"}}, func(t *testing.T) {
		badges := filepath.Join(t.TempDir(), "badges")
		for _, tc := range []struct {
			name       string
			args, taps []string
			want       string
			reader     func() (device.Reader, error)
		}{
			{"hex-line", []string{"--usb", "08ff:0009"}, []string{"em:06001259E3", "uid:04A1B2C3D4E580"}, "em:06001259E3 uid:04A1B2C3D4E580",
				func() (device.Reader, error) {
					return evdev.New(evdev.Config{Name: "front", Dialect: "hex-line", USB: "08ff:0009"})
				}},
			{"dec-line", []string{"--usb", "ffff:0035", "--dialect", "dec-line"}, []string{"em:06001259E3"}, "dec:0001202659",
				func() (device.Reader, error) {
					return evdev.New(evdev.Config{Name: "front", Dialect: "dec-line", USB: "ffff:0035"})
				}},
			{"wires", []string{"--wires", "wall"}, []string{"w26:123-45678", "w34:1-2", "em:06007BB26E"}, "w26:123-45678 w34:1-2 w26:123-45678",
				func() (device.Reader, error) {
					return wiegand.New(wiegand.Config{Name: "front", Chip: "wall", D0: "GPIO17", D1: "GPIO18"})
				}},
			{"wires of a chip that is there", []string{"--wires", "wall"}, []string{"w26:7-65534"}, "w26:7-65534",
				func() (device.Reader, error) {
					return wiegand.New(wiegand.Config{Name: "front", Chip: "wall", D0: "GPIO17", D1: "GPIO18"})
				}},
		} {
			t.Run(tc.name, func(t *testing.T) {
				if err := os.WriteFile(badges, []byte(strings.Join(tc.taps, " 2s\n")+" 2s\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				r, err := tc.reader()
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				events := make(chan device.Event, 64)
				done := make(chan error, 1)
				go func() { done <- r.Run(ctx, events) }()
				var out, errs bytes.Buffer
				if code := run(t.Context(), append([]string{"tap", "--file", badges}, tc.args...), std{os.Stdin, &out, &errs}); code != 0 {
					t.Errorf("exit code %d: %s", code, errs.String())
				}
				time.Sleep(time.Second)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				var got []string
				for close(events); ; {
					ev, ok := <-events
					if !ok {
						break
					}
					if ev.What == device.Card {
						got = append(got, ev.Medium+":"+ev.Value)
					} else if ev.What == device.Fault {
						t.Errorf("fault %s", ev.Fault)
					}
				}
				if s := strings.Join(got, " "); s != tc.want {
					t.Errorf("read %s, want %s; punchsim says %s", s, tc.want, out.String())
				}
			})
		}
	})
}
