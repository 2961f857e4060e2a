package devicetest

import (
	"os"
	"testing"
	"time"
)

func TestTheGuestHasAKernelOfItsOwn(t *testing.T) {
	InKernel(t, Machine{Modules: []string{"gpio-sim"}}, func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Error("not root")
		}
		s := NewGPIOSim(t, "wall", 4, "D0", "D1")
		if err := s.Pull(1, false); err != nil {
			t.Fatal(err)
		}
		for line, want := range []bool{true, false, true, true} {
			if up, err := s.Level(line); err != nil || up != want {
				t.Errorf("line %d is up: %v, %v", line, up, err)
			}
		}
		if _, err := os.Stat(s.Path); err != nil {
			t.Error(err)
		}
		s.Remove()
		if _, err := os.Stat(s.Path); err == nil {
			t.Errorf("%s is there after the chip was removed", s.Path)
		}
		for range 3 { // an hour of sleep costs nothing
			time.Sleep(20 * time.Minute)
		}
	})
}
