package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAMachineWithoutGPIOSaysSoAndServesTheOtherReaders(t *testing.T) {
	if chips, _ := filepath.Glob("/dev/gpiochip*"); len(chips) > 0 {
		t.Skip("this machine has GPIO, and this is about one that has none")
	}
	h := newHouse(t, settings{extra: "[[reader]]\nname = \"gate\"\ndriver = \"wiegand\"\nd0 = \"GPIO17\"\nd1 = \"pin 12\"\n"})
	h.start()
	if got := h.tap(h.people[0]); got.Outcome != "stored" || got.Reader != "front" {
		t.Errorf("%+v", got)
	}
	h.until(10*time.Second, "the gate is shown as down", func() bool {
		for _, r := range h.status().Readers {
			if r.Name == "gate" {
				return r.State == "down" && r.Driver == "wiegand"
			}
		}
		return false
	})
	h.until(10*time.Second, "the log says so", func() bool {
		return strings.Contains(h.logged(), "this machine has no GPIO") && strings.Contains(h.logged(), "reader=gate")
	})
	time.Sleep(2 * time.Second) // while it is tried again
	if n := strings.Count(h.logged(), "this machine has no GPIO"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	if out, code := h.run("doctor", "--config", h.config); code != exitMissing || !strings.Contains(out, "no GPIO") {
		t.Errorf("doctor: %d\n%s", code, out)
	}
	h.stop()
}
