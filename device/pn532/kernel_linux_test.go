package pn532

import (
	"fmt"
	"testing"

	"punchclock/device/devicetest"
)

// The simulated chip behind device files of the kernel: what the driver does goes
// through the calls that it makes on a board, and its line IRQ is one of the kernel's.
func TestPN532OnAKernelKeepsTheReadersContract(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"cuse", "gpio-sim"}}, func(t *testing.T) {
		reader := func(t *testing.T, cfg Config) *Reader {
			cfg.Name = "front"
			r, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		names := make([]string, 8)
		for i := range names {
			names[i] = fmt.Sprintf("GPIO%d", i)
		}
		chip := devicetest.NewGPIOSim(t, "header", len(names), names...)
		t.Run("I2C", func(t *testing.T) {
			devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
				s := devicetest.NewPN532()
				s.IRQ = func(low bool) {
					if err := chip.Pull(4, !low); err != nil {
						t.Error(err)
					}
				}
				bus := s.I2C()
				devicetest.NewI2CBus(t, 1, bus.Tx)
				return subjectOf(s, reader(t, Config{Link: "i2c", Port: "/dev/i2c-1", IRQ: "GPIO4"}))
			})
		})
		t.Run("SPI", func(t *testing.T) {
			devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
				s := devicetest.NewPN532()
				devicetest.NewSPIDevice(t, 0, 1, s.SPI().Tx)
				return subjectOf(s, reader(t, Config{Link: "spi", Port: "/dev/spidev0.1"}))
			})
		})
	})
}
