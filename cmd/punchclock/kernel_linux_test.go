package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"punchclock/device/devicetest"
)

// itself makes commands of this very program, as the clock with that configuration.
func itself(config string) func(args ...string) *exec.Cmd {
	return func(args ...string) *exec.Cmd {
		c := exec.Command("/proc/self/exe", append(args, "--config", config)...)
		c.Args[0] = "punchclock" // which makes it the program, see TestMain
		return c
	}
}

// The whole clock on a kernel with a USB reader, lamps and a relay, as wired at a
// door: keys go in, and levels come out. This very program is the clock.
func TestKernelWholeClockWithKeysAndLamps(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"evdev", "uinput", "gpio-sim"}}, func(t *testing.T) {
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
		punchclock := itself(config)
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

// A door with all that can hang on it, and nobody comes: what that takes of a processor,
// with what the simulated buses take of it: they are processes, and a call waits for one
// of them three times, where a board's own driver is in the kernel.
func TestKernelWholeClockIdlesWithEveryReader(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"evdev", "uinput", "gpio-sim", "cuse"}, Fast: true, Within: time.Hour}, func(t *testing.T) {
		if err := errors.Join(os.MkdirAll("/dev/pts", 0o755), unix.Mount("devpts", "/dev/pts", "devpts", 0, "")); err != nil {
			t.Fatal(err)
		}
		var names []string
		for i := range 28 {
			names = append(names, fmt.Sprintf("GPIO%d", i))
		}
		wires := devicetest.NewGPIOSim(t, "wall", 28, names...)
		usb := devicetest.NewKeyboard(t, 0x08ff, 0x0009, "")
		serial, serialPath := devicetest.NewPTY(t)
		uart, uartPath := devicetest.NewPTY(t)
		nfc, onI2C, onSPI, blue := devicetest.NewPN532(), devicetest.NewPN532(), devicetest.NewPN532(), devicetest.NewMFRC522()
		go nfc.Serve(uart)
		irq := func(line int) func(low bool) {
			return func(low bool) {
				if err := wires.Pull(line, !low); err != nil {
					t.Error(err)
				}
			}
		}
		onI2C.IRQ, onSPI.IRQ = irq(4), irq(25)
		var drawn atomic.Int64
		chip := onI2C.I2C()
		var onWires atomic.Int64 // calls
		devicetest.NewI2CBus(t, 1, func(address uint16, w, r []byte) error {
			onWires.Add(1)
			if address == 0x3C { // the display
				drawn.Add(int64(len(w)))
				return nil
			}
			return chip.Tx(address, w, r)
		})
		accesses := 0
		devicetest.NewSPIDevice(t, 0, 0, func(w, r []byte) error {
			if accesses++; accesses%5 == 0 { // a look at an empty field is five in one call
				onWires.Add(1)
			}
			return blue.Tx(w, r)
		})
		devicetest.NewSPIDevice(t, 0, 1, func(w, r []byte) error {
			onWires.Add(1)
			return onSPI.SPI().Tx(w, r)
		})
		dir := t.TempDir()
		config := filepath.Join(dir, "punchclock.toml")
		err := os.WriteFile(config, []byte(`schema = 1
device.id = "door"
device.state_dir = "state"
clock.trust = "system"
kiosk.listen = ""
kiosk.duplicate_window = "0s"
[indicator]
green = "GPIO17"
red = "GPIO27"
relay = "GPIO22"
active_low = ["relay"]
[display]
driver = "ssd1306"
[[reader]]
name = "serial"
driver = "serial"
dialect = "rdm6300"
port = "`+serialPath+`"
[[reader]]
name = "wires"
driver = "wiegand"
chip = "wall"
d0 = "GPIO23"
d1 = "GPIO24"
[[reader]]
name = "pad"
driver = "keypad"
chip = "wall"
rows = ["GPIO5", "GPIO6", "GPIO13", "GPIO19"]
columns = ["GPIO12", "GPIO16", "GPIO20", "GPIO21"]
[[reader]]
name = "usb"
driver = "evdev"
usb = "08ff:0009"
digits = 10
[[reader]]
name = "nfc"
driver = "pn532"
port = "`+uartPath+`"
[[reader]]
name = "i2c"
driver = "pn532"
link = "i2c"
port = "/dev/i2c-1"
irq = "GPIO4"
[[reader]]
name = "spi"
driver = "pn532"
link = "spi"
port = "/dev/spidev0.1"
irq = "GPIO25"
[[reader]]
name = "blue"
driver = "mfrc522"
port = "/dev/spidev0.0"
`), 0o600)
		if err := errors.Join(err, os.Mkdir(filepath.Join(dir, "state"), 0o700)); err != nil {
			t.Fatal(err)
		}
		punchclock := itself(config)
		clock := punchclock("run")
		clock.Stderr = os.Stderr
		if err := clock.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { clock.Process.Kill(); clock.Wait() })
		allUp := func() {
			t.Helper()
			for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
				var s status
				out, err := punchclock("status", "--json").Output()
				up := 0
				if err == nil && json.Unmarshal(out, &s) == nil {
					for _, r := range s.Readers {
						if r.State == "ok" {
							up++
						}
					}
				}
				if up == 8 {
					return
				}
				if time.Since(began) > time.Minute {
					t.Fatalf("%d readers are up: %v %s", up, err, out)
				}
			}
		}
		allUp()
		time.Sleep(time.Minute) // what is done once after a start
		idle := 30 * time.Minute
		if devicetest.ShortForm() {
			idle = time.Minute
		}
		before, wokeBefore := spent(t, clock.Process.Pid)
		asked, drew := onWires.Load(), drawn.Load()
		time.Sleep(idle)
		used, woke := spent(t, clock.Process.Pid)
		used, woke, asked, drew = used-before, woke-wokeBefore, onWires.Load()-asked, drawn.Load()-drew
		perSecond := func(n int64) float64 { return float64(n) / idle.Seconds() }
		percent := func(d time.Duration) float64 { return 100 * d.Seconds() / idle.Seconds() }
		t.Logf("serial, Wiegand, matrix, USB, MFRC522 and PN532 on UART, I²C and SPI at one clock, with lamps and a display, %v without a tap: %.3f %% of a processor; %.1f calls of simulated buses and %.1f wake-ups a second; %d bytes to the display",
			idle, percent(used), perSecond(asked), perSecond(int64(woke)), drew)
		if share := percent(used); used == 0 || share > 0.5 {
			t.Errorf("%.3f %% of a processor", share)
		}
		// Ten looks of the MFRC522, and every two seconds six calls for each PN532.
		if most := 17.0; perSecond(asked) > most {
			t.Errorf("%.1f calls of buses a second, at most %.0f are due", perSecond(asked), most)
		}

		// It was no sleep of the dead: each of them still hears a card.
		allUp()
		if _, err := serial.Write(devicetest.RDM6300([5]byte{0x06, 0x00, 0x12, 0x59, 0xE3})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for _, bit := range devicetest.Wiegand("%08b%016b", 123, 45678) {
			for _, up := range []bool{false, true} {
				if err := wires.Pull(23+int(bit-'0'), up); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		for _, code := range []uint16{2, 3, 11, 3, 7, 6, 10, 28} { // 1202659, Enter
			usb.Type(2*time.Millisecond, code)
		}
		time.Sleep(2 * time.Second)
		a, b, c, d := devicetest.NewTag("04A1B2C3D4E580"), devicetest.NewTag("DEADBEEF"), devicetest.NewTag("01020304"), devicetest.NewTag("04A1B2C3D4E5801122AA")
		for _, hold := range []func(){
			func() { nfc.Do(func(p *devicetest.PN532) { p.Lay(a) }) }, func() { onI2C.Do(func(p *devicetest.PN532) { p.Lay(b) }) },
			func() { onSPI.Do(func(p *devicetest.PN532) { p.Lay(c) }) }, func() { blue.Do(func(p *devicetest.MFRC522) { p.Lay(d) }) },
		} {
			hold()
			time.Sleep(2 * time.Second)
		}
		out, err := punchclock("punches", "export").Output()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(out)) {
			var row exportRow
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			got = append(got, row.Reader+" "+row.Badge)
		}
		if want := "serial em:06001259E3, wires w26:123-45678, usb dec:0001202659, nfc uid:04A1B2C3D4E580, i2c uid:DEADBEEF, spi uid:01020304, blue uid:04A1B2C3D4E5801122AA"; strings.Join(got, ", ") != want {
			t.Errorf("heard %s, want %s", strings.Join(got, ", "), want)
		}
		if err := clock.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := clock.Wait(); err != nil {
			t.Errorf("the clock ended with %v", err)
		}
	})
}

// The whole clock on a Raspberry Pi 3 with the kernel's own drivers for its GPIO block,
// its I²C controller and a battery clock chip, which has set the time.
func TestKernelWholeClockOnARaspberryPi(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{
		RaspberryPi: true,
		Modules:     []string{"i2c-bcm2835", "i2c-dev"},
		I2C:         []string{"ds1338,address=0x68", "at24c-eeprom,address=0x3c,rom-size=256"},
	}, func(t *testing.T) {
		if err := unix.Mount("debugfs", "/sys/kernel/debug", "debugfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		unset := time.Now()
		if err := os.WriteFile("/sys/bus/i2c/devices/i2c-1/new_device", []byte("ds1338 0x68"), 0o200); err != nil {
			t.Fatal(err)
		}
		if now := time.Now(); unset.Year() > 2000 || now.Year() < 2026 {
			t.Fatalf("the chip set the time from %v to %v", unset, now)
		}
		dir := t.TempDir()
		config := filepath.Join(dir, "punchclock.toml")
		for name, text := range map[string]string{"people.csv": "employee_no,name,badges\n000123,王小明,dec:0001202659\n", "punchclock.toml": `schema = 1
device.id = "door"
device.state_dir = "state"
kiosk.listen = ""
[indicator]
green = "GPIO17"
relay = "GPIO4"
active_low = ["relay"]
relay_pulse = "2s"
[display]
driver = "ssd1306"
[[reader]]
name = "typed"
driver = "stdin"
[[reader]]
name = "wires"
driver = "wiegand"
d0 = "GPIO22"
d1 = "pin 16"
`} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
			t.Fatal(err)
		}
		punchclock := itself(config)
		if out, err := punchclock("roster", "import", filepath.Join(dir, "people.csv")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		clock := punchclock("run")
		var log strings.Builder
		clock.Stderr = &log
		typed, err := clock.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := clock.Start(); err != nil {
			t.Fatal(err)
		}
		within := func(d time.Duration, what string, ok func() bool) {
			t.Helper()
			for began := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
				if time.Since(began) > d {
					clock.Process.Kill()
					clock.Wait()
					t.Fatalf("not within %v: %s\n%s", d, what, log.String())
				}
			}
		}
		var s status
		within(2*time.Minute, "ready", func() bool {
			out, err := punchclock("status", "--json").Output()
			return err == nil && json.Unmarshal(out, &s) == nil && s.Readers[0].State == "ok"
		})
		// The lines by their numbers, whatever the kernel calls them.
		line := func(n int) string {
			b, err := os.ReadFile("/sys/kernel/debug/gpio")
			if err != nil {
				t.Fatal(err)
			}
			base := 0
			for l := range strings.Lines(string(b)) {
				if _, chip, ok := strings.Cut(l, "gpiochip"); ok && strings.Contains(l, "pinctrl-bcm2835") {
					_, from, _ := strings.Cut(chip, "GPIOs ")
					fmt.Sscan(strings.Replace(from, "-", " ", 1), &base)
				}
				if fields := strings.Fields(l); base > 0 && fields[0] == fmt.Sprintf("gpio-%d", base+n) && strings.Contains(l, "|punchclock") {
					_, how, _ := strings.Cut(l, ")")
					return strings.Join(strings.Fields(how), " ")
				}
			}
			return "not taken"
		}
		const green, relay, d0, d1 = 17, 4, 22, 23
		if g, r := line(green), line(relay); g != "out lo" || r != "out hi" {
			t.Errorf("before anybody came: green %s, relay %s", g, r)
		}
		if in0, in1 := line(d0), line(d1); !strings.HasPrefix(in0, "in ") || !strings.HasPrefix(in1, "in ") {
			t.Errorf("the wires of the reader: %s, %s", in0, in1)
		}
		if _, err := fmt.Fprintln(typed, "dec:0001202659"); err != nil {
			t.Fatal(err)
		}
		within(10*time.Second, "green, and the door is open", func() bool { return line(green) == "out hi" && line(relay) == "out lo" })
		within(10*time.Second, "both are off again", func() bool { return line(green) == "out lo" && line(relay) == "out hi" })
		out, err := punchclock("punches", "export").Output()
		if err != nil {
			t.Fatal(err)
		}
		var row exportRow
		if err := json.Unmarshal(out, &row); err != nil {
			t.Fatal(err)
		}
		if row.Employee != "000123" || row.Outcome != "stored" || row.Clock.State != "holdover" {
			t.Errorf("export: %s", out)
		}

		out, _ = punchclock("doctor", "--json").Output() // whatever else is wrong in here
		var report checkup
		if err := json.Unmarshal(out, &report); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		want := map[string]string{
			"machine.board":  "Raspberry Pi 3 Model B",
			"gpio.chip":      "pinctrl-bcm2835 (/dev/gpiochip0, 54 lines)",
			"display.device": "/dev/i2c-1",
			"clock.rtc":      "rtc-ds1307 1-0068 runs",
		}
		for _, c := range report.Checks {
			if text, ok := want[c.ID]; ok {
				if c.State != "ok" || !strings.Contains(c.Detail, text) {
					t.Errorf("%s is %s: %s", c.ID, c.State, c.Detail)
				}
				delete(want, c.ID)
			}
		}
		if len(want) > 0 {
			t.Errorf("doctor says nothing of %v", want)
		}
		if err := clock.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := clock.Wait(); err != nil {
			t.Errorf("the clock ended with %v", err)
		}
		for _, words := range []string{"display is on", "address=0x3C"} {
			if !strings.Contains(log.String(), words) {
				t.Errorf("it says nothing of %q:\n%s", words, log.String())
			}
		}
		if g, r := line(green), line(relay); g != "not taken" || r != "not taken" {
			t.Errorf("after the end: green %s, relay %s", g, r)
		}
	})
}
