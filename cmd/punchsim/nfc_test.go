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
	next := func(w device.What) device.Event {
		t.Helper()
		for {
			select {
			case ev := <-out:
				if ev.What == device.Fault && !ev.Try && w != device.Fault {
					continue
				}
				if ev.What != w || w == device.Fault && !ev.Try {
					if ev.What == device.Fault {
						continue
					}
					t.Fatalf("%+v, want %v", ev, w)
				}
				return ev
			case <-time.After(5 * time.Second):
				t.Fatalf("no %v", w)
			}
		}
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
	if _, _, err := desk.key('g'); err != nil {
		t.Error(err)
	}
	if ev := next(device.Fault); ev.Fault != device.FaultChecksum {
		t.Errorf("%+v", ev)
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
