package mfrc522

import (
	"testing"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// The simulated chip behind a device file of the kernel: what the driver does goes
// through the calls that it makes on a board.
func TestMFRC522OnAKernelKeepsTheReadersContract(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"cuse"}}, func(t *testing.T) {
		devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
			s := devicetest.NewMFRC522()
			devicetest.NewSPIDevice(t, 0, 0, s.Tx)
			r, err := New(Config{Name: "front", Port: "/dev/spidev0.0"})
			if err != nil {
				t.Fatal(err)
			}
			return subjectOf(s, r)
		})
	})
}

func subjectOf(s *sim, r device.Reader) devicetest.Subject {
	tap := func(uid string) func() { return devicetest.Spaced(func() { s.Hold(card(uid)) }) }
	weak := card(b)
	weak.BadBCC = true
	return devicetest.Subject{
		Reader: r, Name: "front",
		Cards:   [2]devicetest.Card{{Tap: tap(a), Medium: "uid", Value: a}, {Tap: tap(b), Medium: "uid", Value: b}},
		Misread: func() { s.Hold(weak) },
		Unplug:  func() { s.Do(func(s *sim) { s.Gone = true }) },
		Replug:  func() { s.Do(func(s *sim) { s.Gone = false }) },
	}
}
