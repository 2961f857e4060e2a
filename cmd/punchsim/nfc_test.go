package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"punchclock/device"
	driver "punchclock/device/pn532"
	"punchclock/device/serialport"
)

// The real driver at the other end of the line.
func TestTheSimulatedPN532IsReadByTheDriver(t *testing.T) {
	link := filepath.Join(t.TempDir(), "nfc")
	l, err := plugLine(link)
	if err != nil {
		t.Fatal(err)
	}
	l.chip = &nfc{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- l.run(ctx) }()
	r, err := driver.New(driver.Config{Name: "front", Link: "hsu", Serial: func() (driver.Serial, error) { return serialport.Open(link, driver.Baud) }})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan device.Event, 8)
	go func() { ended <- r.Run(ctx, out) }()
	heard := func(w device.What, within time.Duration) (device.Event, bool) {
		t.Helper()
		for late := time.After(within); ; {
			select {
			case ev := <-out:
				switch {
				case ev.What == w && (w != device.Fault || ev.Try):
					return ev, true
				case ev.What != device.Fault:
					t.Fatalf("%+v, want %v", ev, w)
				}
			case <-late:
				return device.Event{}, false
			}
		}
	}
	next := func(w device.What) device.Event {
		t.Helper()
		ev, ok := heard(w, 10*time.Second)
		if !ok {
			t.Fatalf("no %v", w)
		}
		return ev
	}
	next(device.Up)
	desk := &reader{line: l, dialect: pn532, people: []person{{number: "1", name: "a", badge: "uid:04A1B2C3D4E580"}}}
	if said, _, err := desk.key('1'); err != nil || said != "tapped 1 a" {
		t.Errorf("%q, %v", said, err)
	}
	if ev := next(device.Card); ev.Value != "04A1B2C3D4E580" {
		t.Errorf("%+v", ev)
	}
	time.Sleep(time.Second)
	// The person is asked to try again after three looks in a row, which on a busy
	// machine are not all within the moment that a card stays.
	for tries := 0; ; tries++ {
		if _, _, err := desk.key('g'); err != nil {
			t.Error(err)
		}
		if ev, ok := heard(device.Fault, 2*time.Second); ok && ev.Fault == device.FaultChecksum {
			break
		} else if ok || tries == 10 {
			t.Fatalf("after %d spoilt cards: %+v", tries+1, ev)
		}
	}
	time.Sleep(time.Second)
	if _, _, err := desk.key('u'); err != nil {
		t.Error(err)
	}
	next(device.Down)
	if _, _, err := desk.key('u'); err != nil {
		t.Error(err)
	}
	next(device.Up)
	if _, _, err := desk.key('0'); err != nil {
		t.Error(err)
	}
	if ev := next(device.Card); ev.Value != "FEEDC0DE" {
		t.Errorf("%+v", ev)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := l.unplug(); err != nil {
		t.Error(err)
	}
}
