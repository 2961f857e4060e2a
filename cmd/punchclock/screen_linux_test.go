package main

import (
	"bytes"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"punchclock/device/devicetest"
)

// The whole clock with its own screen, on a kernel with a display and a USB reader: how
// soon the first picture is there, how soon an answer is, and how much memory all takes.
func TestKernelWholeClockWithItsScreen(t *testing.T) {
	guest := devicetest.Machine{Modules: []string{"virtio-pci", "virtio-gpu", "evdev", "uinput"}, Screen: "800x480"}
	guest.Picture = func(t *testing.T, name string, data []byte) {
		img, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			t.Error(err)
			return
		}
		r, g, b, _ := img.At(2, 2).RGBA()
		got := [3]uint32{r >> 8, g >> 8, b >> 8}
		if want := map[string][3]uint32{"idle": {0x0B, 0x12, 0x20}, "stored": {0x0A, 0x5A, 0x2C}}[name]; got != want {
			t.Errorf("%s: the ground is %x, want %x", name, got, want)
		}
	}
	devicetest.InKernel(t, guest, func(t *testing.T) {
		usb := devicetest.NewKeyboard(t, 0x08ff, 0x0009, "")
		dir := t.TempDir()
		write := func(name, text string) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		config := write("punchclock.toml", `schema = 1
device.id = "door"
device.state_dir = "state"
clock.trust = "system"
kiosk.listen = ""
kiosk.duplicate_window = "0s"
kiosk.night = ""
outbox.reserve_mb = 8
screen.device = "auto"
[[reader]]
name = "usb"
driver = "evdev"
usb = "08ff:0009"
digits = 10
`)
		program := itself(config)
		if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
			t.Fatal(err)
		}
		if out, err := program("roster", "import", write("people.csv", "employee_no,name,badges\n000123,王小明,dec:0001202659\n")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		clock := program("run")
		logs, err := os.Create(filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		clock.Stderr = logs
		began := time.Now()
		if err := clock.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { clock.Process.Kill(); clock.Wait() })
		said := func(what string) (line string) {
			t.Helper()
			for time.Since(began) < time.Minute {
				b, err := os.ReadFile(logs.Name())
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(string(b)) {
					if strings.Contains(line, what) {
						return line
					}
				}
				time.Sleep(5 * time.Millisecond)
			}
			b, _ := os.ReadFile(logs.Name())
			t.Fatalf("%s was not said:\n%s", what, b)
			return ""
		}
		said("screen is on")
		t.Logf("first picture %v after the start of the process", time.Since(began).Round(time.Millisecond))
		said("reader is up")
		time.Sleep(time.Second)
		devicetest.TakePicture(t, "idle")
		digits := map[rune]uint16{'0': 11, '1': 2, '2': 3, '3': 4, '4': 5, '5': 6, '6': 7, '7': 8, '8': 9, '9': 10, '\n': 28}
		for range 30 {
			for _, c := range "1202659\n" {
				usb.Type(2*time.Millisecond, digits[c])
			}
			time.Sleep(1200 * time.Millisecond)
		}
		devicetest.TakePicture(t, "stored")
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", clock.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var kb int
		for line := range strings.Lines(string(b)) {
			if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
				break
			}
		}
		t.Logf("the whole clock with its screen takes %d MB", kb>>10)
		if kb == 0 || kb > 64<<10 {
			t.Errorf("%d kB are resident", kb)
		}
	})
}
