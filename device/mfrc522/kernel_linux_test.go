package mfrc522

import (
	"testing"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// The simulated chip behind a device file of the kernel: what the driver does goes
// through the calls that it makes on a board.
func TestMFRC522OnAKernelKeepsTheReadersContract(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"cuse"}}, func(t *testing.T) {
		devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
			s := newSim()
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
	tap := func(uid string) func() {
		var last time.Time
		return func() {
			// The same card again is another tap once it was away.
			time.Sleep(time.Until(last.Add(device.Apart + 600*time.Millisecond)))
			last = time.Now()
			s.do(func(s *sim) { s.queue = append(s.queue, tapped{card: card(uid)}) })
		}
	}
	weak := card(b)
	weak.badBCC = true
	return devicetest.Subject{
		Reader: r, Name: "front",
		Cards:   [2]devicetest.Card{{Tap: tap(a), Medium: "uid", Value: a}, {Tap: tap(b), Medium: "uid", Value: b}},
		Misread: func() { s.do(func(s *sim) { s.queue = append(s.queue, tapped{card: weak}) }) },
		Unplug:  func() { s.do(func(s *sim) { s.gone = true }) },
		Replug:  func() { s.do(func(s *sim) { s.gone = false }) },
	}
}
