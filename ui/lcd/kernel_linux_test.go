package lcd

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/device/devicetest"
	"punchclock/ui"
)

// memory is what an EEPROM holds to which everything is written that a display is
// sent: the first byte of a write is where the others go.
type memory [256]byte

func (m *memory) write(b []byte) {
	for i, v := range b[1:] {
		m[(int(b[0])+i)%len(m)] = v
	}
}

// heard keeps what is sent to a bus, and sends it.
type heard struct {
	bus
	mu     sync.Mutex
	memory memory
	bytes  int
	most   int // in one write
}

func (h *heard) Write(address uint16, b []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.bus.Write(address, b); err != nil {
		return err
	}
	h.memory.write(b)
	h.bytes, h.most = h.bytes+len(b), max(h.most, len(b))
	return nil
}

// The controller is the board's own, with the kernel's driver for it. Where a display
// would be is an EEPROM, which takes what it is sent and can be read again.
func TestKernelDisplayOnTheI2CControllerOfARaspberryPi(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{
		RaspberryPi: true,
		Modules:     []string{"i2c-bcm2835", "i2c-dev"},
		I2C:         []string{"at24c-eeprom,address=0x3d,rom-size=256", "at24c-eeprom,address=0x3f,rom-size=256"},
	}, func(t *testing.T) {
		if model, err := os.ReadFile("/proc/device-tree/model"); err != nil || !strings.HasPrefix(string(model), "Raspberry Pi 3") {
			t.Fatalf("this is a %q: %v", model, err)
		}
		for _, tc := range []struct {
			driver  string
			address uint16
		}{{"ssd1306", 0x3D}, {"sh1106", 0x3D}, {"hd44780", 0x3F}} { // nobody answers at the address before it
			t.Run(tc.driver, func(t *testing.T) {
				opened, err := openBus("/dev/i2c-1")
				if err != nil {
					t.Fatal(err)
				}
				defer opened.Close()
				b := opened.(wireBus).bus
				if err := b.Tx(tc.address, make([]byte, 1+len(memory{})), nil); err != nil { // wipe it
					t.Fatal(err)
				}
				var log bytes.Buffer
				f, err := New(Config{Driver: tc.driver, Bus: "/dev/i2c-1", Columns: 16, Rows: 2, Language: "zh-TW", Logger: slog.New(slog.NewTextHandler(&log, nil))})
				if err != nil {
					t.Fatal(err)
				}
				var h *heard
				open := f.open
				f.open = func() (bus, error) {
					b, err := open()
					h = &heard{bus: b}
					return h, err
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- f.Run(ctx) }()
				f.Show(ui.Screen{Kind: "in", Why: "schedule"})
				time.Sleep(2 * time.Second)
				f.Show(ui.Screen{Kind: "in", Why: "schedule", Result: &ui.Result{Outcome: "stored", Kind: "in", Name: "王小明", Employee: "000123", Time: time.Now()}})
				time.Sleep(2 * time.Second)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "display is on") {
					t.Errorf("it says %s", said)
				}
				var got memory
				if err := b.Tx(tc.address, []byte{0}, got[:]); err != nil {
					t.Fatal(err)
				}
				if got != h.memory {
					t.Errorf("what has arrived is not what was sent:\n%x\n%x", got, h.memory)
				}
				t.Logf("%d bytes, %d at once at most, arrived as they were sent", h.bytes, h.most)
				if h.bytes < 200 {
					t.Error("that is no picture")
				}
			})
		}
		if _, err := openBus("/dev/i2c-9"); err == nil || !strings.Contains(err.Error(), "dtparam") {
			t.Errorf("a bus that is not there: %v", err)
		}
		b, err := openBus("/dev/i2c-1")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if err := b.Write(0x3C, []byte{0, 0}); err == nil {
			t.Error("nobody is there, and yet somebody answered")
		}
	})
}
