package device

import "testing"

func TestPinsOfTheHeader(t *testing.T) {
	for s, want := range map[string]int{"GPIO0": 0, "GPIO17": 17, "GPIO27": 27, "pin 11": 17, "pin 3": 2, "pin 40": 21, "pin 7": 4, "pin 28": 1} {
		if got, err := ParsePin("", s); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "17", "gpio17", "GPIO", "GPIO017", "GPIO+1", "GPIO-1", "GPIO28", "GPIO1024", "pin", "pin 0", "pin 1", "pin 6", "pin 41", "pin x", "PIN 11"} {
		if got, err := ParsePin("", s); err == nil {
			t.Errorf("%q is line %d", s, got)
		}
	}
	if got, err := ParsePin("/dev/gpiochip3", "GPIO200"); err != nil || got != 200 {
		t.Errorf("GPIO200 of another chip is %d, %v", got, err)
	}
	used := map[int]bool{}
	for _, line := range header {
		if used[line] || line >= headerLines {
			t.Errorf("GPIO%d is on two pins, or not on the header", line)
		}
		used[line] = true
	}
	if len(used) != headerLines {
		t.Errorf("%d lines on the header", len(used))
	}
}
