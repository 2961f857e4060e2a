package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"punchclock/device/devicetest"
)

// The whole clock on a kernel with a USB reader, lamps and a relay, as wired at a
// door: keys go in, and levels come out. This very program is the clock.
func TestKernelWholeClockWithKeysAndLamps(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"evdev", "uinput", "gpio-sim"}, Within: 6 * time.Minute}, func(t *testing.T) {
		var names []string
		for i := range 28 {
			names = append(names, fmt.Sprintf("GPIO%d", i))
		}
		wires := devicetest.NewGPIOSim(t, "wall", 28, names...)
		const green, red, amber, relay = 17, 27, 23, 22
		usb := devicetest.NewKeyboard(t, 0x08ff, 0x0009, "")
		office := devicetest.NewKeyboard(t, 0x046d, 0xc31c, "")
		dir := t.TempDir()
		config := filepath.Join(dir, "punchclock.toml")
		write := func(name, text string) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		write("punchclock.toml", `schema = 1
device.id = "door"
device.state_dir = "state"
clock.trust = "system"
kiosk.listen = ""
[indicator]
green = "GPIO17"
red = "GPIO27"
amber = "GPIO23"
relay = "GPIO22"
active_low = ["relay"]
relay_pulse = "500ms"
[[reader]]
name = "usb"
driver = "evdev"
usb = "08ff:0009"
digits = 10
[[reader]]
name = "pad"
driver = "keypad"
chip = "wall"
rows = ["GPIO5", "GPIO6", "GPIO13", "GPIO19"]
columns = ["GPIO12", "GPIO16", "GPIO20", "GPIO21"]
`)
		punchclock := func(args ...string) *exec.Cmd {
			c := exec.Command("/proc/self/exe", append(args, "--config", config)...)
			c.Args[0] = "punchclock" // which makes it the program, see TestMain
			return c
		}
		run := func(args ...string) string {
			t.Helper()
			out, err := punchclock(args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
			return string(out)
		}
		if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
			t.Fatal(err)
		}
		run("roster", "import", write("people.csv", "employee_no,name,badges\n000123,王小明,dec:0001202659\n"))
		start := func() *exec.Cmd {
			t.Helper()
			c := punchclock("run")
			c.Stderr = os.Stderr
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
				var s status
				out, err := punchclock("status", "--json").Output()
				if err == nil && json.Unmarshal(out, &s) == nil && s.Readers[0].State == "ok" && s.Readers[1].State == "ok" {
					return c
				}
				if time.Since(began) > time.Minute {
					t.Fatalf("not ready: %v %s", err, out)
				}
			}
		}
		clock := start()
		lit := func(line int) bool {
			t.Helper()
			up, err := wires.Level(line)
			if err != nil {
				t.Fatal(err)
			}
			return up
		}
		within := func(d time.Duration, what string, ok func() bool) {
			t.Helper()
			for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
				if time.Since(began) > d {
					t.Fatalf("not within %v: %s", d, what)
				}
			}
		}
		if lit(green) || lit(red) || lit(amber) || !lit(relay) {
			t.Error("something is on before anybody came")
		}
		var digits = map[rune]uint16{'0': 11, '1': 2, '2': 3, '3': 4, '4': 5, '5': 6, '6': 7, '7': 8, '8': 9, '9': 10, '\n': 28}
		types := func(k *devicetest.Keyboard, pause time.Duration, line string) {
			for _, c := range line {
				k.Type(pause, digits[c])
			}
		}
		// A card, with its leading zeros left out; and who it was, in the export.
		types(usb, 2*time.Millisecond, "1202659\n")
		within(2*time.Second, "green, and the door is open", func() bool { return lit(green) && !lit(relay) })
		within(2*time.Second, "the door is shut again", func() bool { return lit(relay) })
		within(5*time.Second, "green is off", func() bool { return !lit(green) })
		// What is typed on other keys, and what a person types on these, is no punch.
		types(office, 2*time.Millisecond, "1202659\n")
		types(usb, 70*time.Millisecond, "1202659\n")
		time.Sleep(3 * time.Second)
		if !lit(relay) || lit(green) {
			t.Error("a person at a keyboard opened the door")
		}
		// A card nobody knows: amber, and no door.
		types(usb, 2*time.Millisecond, "40856634\n")
		within(2*time.Second, "amber", func() bool { return lit(amber) })
		time.Sleep(3 * time.Second)
		if lit(green) || lit(red) || !lit(relay) {
			t.Error("something is on after an unknown card")
		}
		lines := strings.Split(strings.TrimSpace(run("punches", "export")), "\n")
		if len(lines) != 2 {
			t.Fatalf("export: %q", lines)
		}
		for i, want := range []string{"dec:0001202659 000123 usb stored", "dec:0040856634  usb unknown_badge"} {
			var row exportRow
			if err := json.Unmarshal([]byte(lines[i]), &row); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join([]string{row.Badge, row.Employee, row.Reader, row.Outcome}, " "); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		// Pulled out and in again, then killed with the door open.
		usb.Unplug()
		time.Sleep(time.Second)
		usb = devicetest.NewKeyboard(t, 0x08ff, 0x0009, "")
		time.Sleep(time.Second)
		types(usb, 2*time.Millisecond, "40856635\n")
		within(2*time.Second, "amber for the first tap after plugging in", func() bool { return lit(amber) })
		if out, err := punchclock("indicator", "off").CombinedOutput(); err == nil || !strings.Contains(string(out), "taken by") {
			t.Errorf("switched off under a running clock: %s", out)
		}
		if err := clock.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		clock.Wait() // it was killed, and says so
		run("indicator", "off")
		clock = start()
		types(usb, 2*time.Millisecond, "1202659\n")
		within(2*time.Second, "an answer after the restart", func() bool { return lit(green) || lit(amber) })
		if err := clock.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := clock.Wait(); err != nil {
			t.Errorf("the clock ended with %v", err)
		}
		run("verify")
	})
}
