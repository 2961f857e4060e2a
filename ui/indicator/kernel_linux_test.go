package indicator

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"periph.io/x/conn/v3/gpio"

	"punchclock/device/devicetest"
	"punchclock/ui"
)

// wires are the outputs of a board whose relay is on at the low level.
var wires = []string{"GREEN", "RED", "AMBER", "BLUE", "BUZZER", "RELAY"}

func wired(t *testing.T) Config {
	t.Helper()
	var o [6]Output
	for i, name := range wires {
		p, err := Pin(name)
		if err != nil {
			t.Fatal(err)
		}
		o[i] = Output{Pin: p, ActiveLow: name == "RELAY"}
	}
	return Config{Green: o[0], Red: o[1], Amber: o[2], Blue: o[3], Buzzer: o[4], Relay: o[5]}
}

// A guest of this test has killed itself with everything on where this is set.
const dieOn = "PUNCHCLOCK_DIE_WITH_EVERYTHING_ON"

func TestKernelLampsBuzzerAndRelay(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"gpio-sim"}}, func(t *testing.T) {
		if os.Getenv(dieOn) != "" {
			for _, o := range []Output{wired(t).Relay, wired(t).Green} {
				if err := o.set(true); err != nil {
					t.Fatal(err)
				}
			}
			fmt.Println("everything is on")
			select {} // until it is killed
		}
		sim := devicetest.NewGPIOSim(t, "wall", 8, wires...)
		levels := func() string {
			var s strings.Builder
			for i := range wires {
				up, err := sim.Level(i)
				if err != nil {
					t.Fatal(err)
				}
				s.WriteString(map[bool]string{true: "1", false: "0"}[up])
			}
			return s.String()
		}
		const off = "000001" // the relay's off is high

		// The levels of a line that is taken are those it is switched to, at once: a
		// relay that is on at the low level never sees a low one.
		relay := wired(t).Relay
		var mu sync.Mutex
		var low int
		stop := make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if up, err := sim.Level(5); err == nil && !up {
					mu.Lock()
					low++
					mu.Unlock()
				}
			}
		})
		for range 200 {
			if err := relay.set(false); err != nil {
				t.Fatal(err)
			}
			if err := relay.Pin.Halt(); err != nil {
				t.Fatal(err)
			}
		}
		close(stop)
		watch.Wait()
		if low > 0 {
			t.Errorf("the relay was on %d times while it was taken", low)
		}

		cfg := wired(t)
		i, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := levels(); got != off {
			t.Errorf("after New: %s", got)
		}
		if _, err := New(wired(t)); err == nil || !strings.Contains(err.Error(), `taken by "punchclock"`) {
			t.Errorf("taken twice: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- i.Run(ctx) }()
		for _, tc := range []struct {
			cue    ui.Cue
			levels string // 20 ms later
		}{
			{ui.CueIn, "100010"}, {ui.CueOut.Unset(), "101010"}, {ui.CueDuplicate, "001011"}, {ui.CueUnknown, "001011"}, {ui.CueMisread, "010011"}, {ui.CueNotStored, "010011"},
		} {
			i.Play(tc.cue)
			time.Sleep(20 * time.Millisecond)
			if got := levels(); got != tc.levels {
				t.Errorf("%s: %s, want %s", tc.cue, got, tc.levels)
			}
			time.Sleep(5 * time.Second)
			if got := levels(); got != off {
				t.Errorf("after %s: %s", tc.cue, got)
			}
		}
		i.Technician(true)
		i.Play(ui.CueIn)
		time.Sleep(20 * time.Millisecond)
		if got := levels(); got != "100110" {
			t.Errorf("in the middle: %s", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := levels(); got != off {
			t.Errorf("after Run: %s", got)
		}
		for _, o := range []Output{cfg.Green, cfg.Red, cfg.Amber, cfg.Blue, cfg.Buzzer, cfg.Relay} {
			if err := o.Pin.(gpio.PinOut).Halt(); err != nil {
				t.Error(err)
			}
		}

		// Killed with the relay on: the kernel takes the lines back, and whoever comes
		// next switches everything off.
		c := exec.Command("/proc/self/exe", "-test.run", "^TestKernelLampsBuzzerAndRelay$", "-test.v")
		c.Env = append(os.Environ(), dieOn+"=1")
		said, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 4096)
		for n := 0; !strings.Contains(string(text[:n]), "everything is on"); {
			m, err := said.Read(text[n:])
			if err != nil {
				t.Fatalf("%v after %q", err, text[:n])
			}
			n += m
		}
		if got := levels(); got[5] != '0' { // the lines nobody has are pulled up
			t.Errorf("before the kill: %s", got)
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		c.Wait() // it was killed, and says so
		t.Logf("after the kill, before anybody comes: %s", levels())
		if i, err = New(wired(t)); err != nil {
			t.Fatal(err)
		}
		if got := levels(); got != off {
			t.Errorf("after the next New: %s", got)
		}
	})
}
