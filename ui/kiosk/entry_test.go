package kiosk

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/device"
	"punchclock/queue/punch"
)

// enter types a number and a PIN on the keypad; look says what came of it.
func (d *door) enter(kind punch.Kind) punch.Tap {
	e := event{what: evEntry, id: d.draw(), stamp: d.now(), reader: "pad", kind: kind, number: "000123", pin: "4711"}
	d.feed(e)
	return e.id
}

func (d *door) look(id punch.Tap, number, fault string) {
	e := event{what: evChecked, id: id, fault: fault}
	if fault == "" {
		e.badge = punch.Badge("key:" + number)
		for _, p := range d.people {
			if p.Number == number {
				e.who = personOf(p)
			}
		}
	}
	d.feed(e)
}

func (d *door) key(k punch.Kind) {
	d.feed(event{what: evChoose, stamp: d.now(), reader: "pad", kind: k})
}

func (d *door) takeBack(reader string) {
	d.feed(event{what: evTakeBack, stamp: d.now(), reader: reader})
}

func TestANumberOnTheKeypadIsAPunchOfTheMomentOfItsLastKey(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	id := d.enter(0)
	at := d.now()
	d.wait(3 * time.Second)
	d.look(id, "000123", "")
	d.want("stored", "in")
	if r, p := d.last(), d.medium[0]; r.Reader != "pad" || r.Employee != "000123" || p.Badge != "key:000123" || !p.Stamp.Wall.Equal(at.Wall) {
		t.Errorf("%+v stored %+v", r, p.Draft)
	}
	// The same person's card, and the pad again.
	d.tap(wang)
	d.want("duplicate", "in")
	d.look(d.enter(0), "000123", "")
	d.want("duplicate", "in")
	d.tap(li)
	d.want("stored", "in")
}

func TestAWrongPINIsToldAndStoresNothing(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	for _, fault := range []string{device.FaultPIN, device.FaultTries} {
		d.look(d.enter(0), "", fault)
		if r := d.last(); r.Outcome != "misread" || r.Reason != fault || r.Employee != "" || r.Name != "" || len(d.medium) != 0 {
			t.Errorf("%s: %+v, %d stored", fault, r, len(d.medium))
		}
	}
}

func TestAKindTypedWithANumberIsNobodyElses(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	// 外出 on the pad, then digits: taken back. Somebody taps before the PIN is whole.
	d.key(punch.GoOut)
	d.takeBack("pad")
	d.tap(li)
	d.want("stored", "in")
	id := d.enter(punch.GoOut)
	// Somebody chooses 外歸 on the page and taps while the PIN is looked at.
	d.choose(punch.Return)
	d.tap(li)
	d.want("stored", "return")
	d.look(id, "000123", "")
	d.want("stored", "go-out")
}

func TestWhoChoseOnThePageAndTypesOnThePadHasTheChoiceAtTheLastKey(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.choose(punch.GoOut)
	id := d.enter(0)
	d.tap(li) // before the PIN was looked at
	d.want("stored", "in")
	d.look(id, "000123", "")
	d.want("stored", "go-out")
	// A wrong PIN does not leave the choice for the next person.
	d.choose(punch.Return)
	d.look(d.enter(0), "", device.FaultPIN)
	d.wait(time.Second)
	d.tap("em:0000000009")
	d.want("unknown_badge", "in")
}

func TestOnlyThePadsOwnChoiceIsTakenBack(t *testing.T) {
	d := newDoor(t, "2026-11-21 09:00:00", nil)
	d.key(punch.GoOut)
	d.takeBack("other pad")
	d.tap(li)
	d.want("stored", "go-out")
	d.key(punch.GoOut)
	d.choose(punch.Return) // somebody else, on the page
	d.takeBack("pad")
	d.tap(wang)
	d.want("stored", "return")
}

func TestKeypadAndCardsThroughTheRunningConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		r := start(t, func(c *Config, p *Parts) {
			p.CheckPIN = func(number string, pin device.PIN) string {
				time.Sleep(400 * time.Millisecond) // as argon2id on a small board
				asked.Add(1)
				switch string(pin) {
				case "4711":
					return ""
				case "0000":
					return device.FaultTries
				}
				return device.FaultPIN
			}
		})
		entry := func(number string, pin device.PIN) {
			r.in <- device.Event{Reader: "front", What: device.Entry, Number: number, PIN: pin, First: time.Now(), Last: time.Now()}
		}
		entry("000123", "4711")
		began := time.Now()
		r.in <- card(2)
		for r.outcomes() == "" {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("a card waited %v for somebody's PIN", took)
		}
		settle(time.Second)
		entry("000123", "4712")
		settle(time.Second)
		entry("000124", "0000")
		settle(time.Second)
		entry("000666", "4711") // has left
		settle(time.Second)
		entry("000/1", "4711")
		settle(time.Second)
		if got := r.outcomes(); got != "stored:in stored:in misread: misread: misread: misread:" {
			t.Errorf("told %q", got)
		}
		if f := r.Readers()[0].Faults; f["pin"] != 2 || f["tries"] != 1 || f["format"] != 1 {
			t.Errorf("faults %v", f)
		}
		// What is being looked at when the clock stops is a punch all the same.
		entry("000125", "4711")
		r.stop()
		if n := len(r.punches); n != 3 || r.punches[n-1].Employee != "000125" || asked.Load() != 6 {
			t.Errorf("%d punches, %d PINs looked at", n, asked.Load())
		}
	})
}
