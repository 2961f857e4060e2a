package screen

import (
	"bytes"
	"context"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"punchclock/device/devicetest"
)

// A display that has no DRM driver, or is to be used without: /dev/fb0, with 32 bits a dot
// and with 16, and with lines that are longer than the picture is wide. The kernel's
// console, which has it at first, stays out of the picture.
func TestKernelShowsTheDoorsScreenOnAFrameBuffer(t *testing.T) {
	for _, tc := range []struct {
		name       string
		guest      devicetest.Machine
		device     string // "" is what is found
		w, h, bits int    // bits of red
		line       uint32 // dots of a line in the memory
		long       bool   // not in the short form
	}{
		{name: "of a DRM driver", guest: devicetest.Machine{Modules: []string{"virtio-pci", "virtio-gpu"}, Screen: "800x480"}, device: "/dev/fb0", w: 800, h: 480, bits: 8, line: 800},
		{name: "with 16 bits and longer lines", guest: devicetest.Machine{Modules: []string{"cirrusfb mode_option=800x600-16@60"}, Screen: "cirrus-vga"}, w: 800, h: 600, bits: 5, line: 1024},
		{name: "of the BIOS with 16 bits", guest: devicetest.Machine{Screen: "VGA", Boot: "vga=0x314"}, w: 800, h: 600, bits: 5, line: 800, long: true},
		{name: "of the BIOS with 32 bits", guest: devicetest.Machine{Screen: "VGA", Boot: "vga=0x343"}, w: 800, h: 600, bits: 8, line: 800, long: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.long && devicetest.ShortForm() {
				t.Skip("the two others have its lines and its bits; make test-kernel has it in its full form")
			}
			tc.guest.Picture = func(t *testing.T, name string, data []byte) {
				if name == "off" && tc.device != "" {
					isOff(t, data)
					return
				}
				compare(t, name, data, tc.w, tc.h, tc.bits)
			}
			devicetest.InKernel(t, tc.guest, func(t *testing.T) {
				bytes := uint32(4)
				if tc.bits == 5 {
					bytes = 2
				}
				if got := lineOfFrameBuffer(t, tc.line); got != tc.line*bytes {
					t.Fatalf("a line has %d bytes", got)
				}
				drawOnFrameBuffer(t, tc.device, tc.line == uint32(tc.w))
			})
		})
	}
}

// lineOfFrameBuffer asks for lines of so many dots, and returns how many bytes they have.
func lineOfFrameBuffer(t *testing.T, dots uint32) uint32 {
	const setVar = 0x4601
	file, err := os.OpenFile("/dev/fb0", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var v fbVar
	var fix fbFix
	if err := ioctl(file, fbGetVar, unsafe.Pointer(&v)); err != nil {
		t.Fatal(err)
	}
	if v.xVirtual != dots {
		v.xVirtual = dots
		if err := ioctl(file, setVar, unsafe.Pointer(&v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ioctl(file, fbGetFix, unsafe.Pointer(&fix)); err != nil {
		t.Fatal(err)
	}
	return fix.line
}

// drawOnFrameBuffer draws. back is whether the console can have the display back: the kernel
// does not give it to one that has replaced a PC's text mode.
func drawOnFrameBuffer(t *testing.T, device string, back bool) {
	// consoleDraws is what the files say of the console on frame buffers.
	consoleDraws := func() string {
		names, _ := filepath.Glob("/sys/class/vtconsole/vtcon*/name")
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), "frame buffer") {
				on, err := os.ReadFile(filepath.Join(filepath.Dir(name), "bind"))
				if err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(string(on))
			}
		}
		t.Fatalf("this kernel has no console on frame buffers: %v", names)
		return ""
	}

	if consoleDraws() != "1" {
		t.Fatal("the console has not got the display at first")
	}
	all := pictures()
	now := all["idle"].now
	var said bytes.Buffer
	var mu sync.Mutex
	c := Config{Device: device, Name: "lobby", Language: "zh-TW", Location: taipei, Backend: &fakeHouse{}, Status: func() Status { return all["idle"].status }, Logger: slog.New(slog.NewTextHandler(&said, nil))}
	c.Night.To = 24 * 60 // always
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	f.c.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	later := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	look := func(name string) {
		t.Helper()
		time.Sleep(2 * time.Second) // of the guest's time
		devicetest.TakePicture(t, name)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })

	f.Show(all["idle"].screen)
	look("idle")
	tty, err := os.OpenFile("/dev/tty1", os.O_WRONLY, 0)
	if err == nil {
		_, err = tty.WriteString("\n\nlobby login: [  OK  ] Started what the console tells of.\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	look("idle")
	f.Show(all["stored"].screen)
	look("stored")

	// It gets late: darker, off, and lit by a tap.
	f.Show(all["idle"].screen)
	time.Sleep(time.Second)
	later(2 * time.Minute)
	look("dimmed")
	later(10 * time.Minute)
	look("off")
	again := all["stored"].screen
	r := *again.Result // the next person
	again.Result = &r
	f.Show(again)
	look("stored")

	stop()
	running.Wait()
	if consoleDraws() != "1" && back {
		t.Error("the console has not got the display back")
	}
	if s := said.String(); !strings.Contains(s, "display=/dev/fb0") || strings.Contains(s, "level=WARN") || strings.Contains(s, "level=ERROR") {
		t.Error(s)
	}
}

// isOff wants the emulated card's own notice that it gets no picture. The others have no
// switch, and are black.
func isOff(t *testing.T, data []byte) {
	got, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Error(err)
		return
	}
	b := got.Bounds()
	lit := 0
	for y := range b.Dy() {
		for x := range b.Dx() {
			if r, g, b, _ := got.At(x, y).RGBA(); r|g|b != 0 {
				lit++
			}
		}
	}
	if lit == 0 || lit > 2000 {
		t.Errorf("%d dots are lit: the display is not off", lit)
	}
}
