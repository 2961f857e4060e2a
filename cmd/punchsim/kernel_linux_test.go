package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
	"punchclock/device/evdev"
	"punchclock/device/keypad"
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
					return wiegand.New(wiegand.Config{Name: "front", Chip: "wall", D0: "GPIO17", D1: "GPIO18", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
				}},
			{"wires of a chip that is there", []string{"--wires", "wall"}, []string{"w26:7-65534"}, "w26:7-65534",
				func() (device.Reader, error) {
					return wiegand.New(wiegand.Config{Name: "front", Chip: "wall", D0: "GPIO17", D1: "GPIO18", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
				}},
			{"keys", []string{"--pad", "wall"}, []string{"keys:000123-4711-", "keys:5,86-9-", "keys:d"}, "000123#4711 86#9 return",
				func() (device.Reader, error) {
					return keypad.New(wallPad)
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
				heard := hear(t, r)
				var out bytes.Buffer
				args := append([]string{"tap", "--file", badges}, tc.args...)
				if tc.args[0] != "--usb" {
					// A process of its own, as at a desk: one that follows the columns of another,
					// or has not pulled these wires before.
					sim := exec.Command("/proc/self/exe", args...)
					sim.Env, sim.Stdout, sim.Stderr = append(os.Environ(), asPunchsim+"=1"), &out, &out
					if err := sim.Run(); err != nil {
						t.Errorf("%v: %s", err, out.String())
					}
				} else if code := run(t.Context(), args, std{os.Stdin, &out, &out}); code != 0 {
					t.Errorf("exit code %d: %s", code, out.String())
				}
				got := heard()
				if s := strings.Join(got, " "); s != tc.want {
					t.Errorf("read %s, want %s; punchsim says %s", s, tc.want, out.String())
				}
			})
		}
		t.Run("two keys at once", func(t *testing.T) {
			r, err := keypad.New(wallPad)
			if err != nil {
				t.Fatal(err)
			}
			p := &pad{label: "wall"}
			if err := p.plug(); err != nil {
				t.Fatal(err)
			}
			heard := hear(t, r)
			time.Sleep(time.Second)
			if err := p.send(append(garbage(overKeys, nil), 'A')); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(heard(), " "); got != "noise in" {
				t.Errorf("read %s", got)
			}
		})
	})
}

var wallPad = keypad.Config{Name: "front", Chip: "wall",
	Rows: []string{"GPIO5", "GPIO6", "GPIO13", "GPIO19"}, Columns: []string{"GPIO12", "GPIO16", "GPIO20", "GPIO21"}}

// hear runs a reader until heard is called, which returns what came.
func hear(t *testing.T, r device.Reader) (heard func() []string) {
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan device.Event, 64)
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, events) }()
	return func() (got []string) {
		time.Sleep(time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		close(events)
		for ev := range events {
			switch ev.What {
			case device.Card:
				got = append(got, ev.Medium+":"+ev.Value)
			case device.Key:
				got = append(got, ev.Key)
			case device.Entry:
				got = append(got, ev.Number+"#"+string(ev.PIN))
			case device.Fault:
				got = append(got, ev.Fault)
			}
		}
		return got
	}
}
