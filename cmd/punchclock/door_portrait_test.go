package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// HR hands in the largest picture that is taken, and people tap until it has been made small.
func TestPeoplePunchWhileAPortraitIsMadeSmall(t *testing.T) {
	h := newHouse(t, settings{people: 200, window: "0s", kiosk: "portraits = true"})
	h.start()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for name, picture := range map[string][]byte{"photo.jpg": asJPEG(t, painting(3000, 2200), 90), "scan.png": asPNG(t, painting(1600, 1600))} {
		file := filepath.Join(h.dir, name)
		if err := os.WriteFile(file, picture, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(bin, "people", "portrait", "000002", "--set", file, "--config", h.config)
		ended := make(chan error, 1)
		began := time.Now()
		go func() {
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			ended <- err
		}()
		taps, slowest := 0, time.Duration(0)
		for more := true; more; taps++ {
			select {
			case <-ended:
				more = false
			default:
			}
			p, at := h.people[taps%len(h.people)], time.Now()
			if r := h.tap(p); r.Outcome != "stored" || r.Employee != p.number {
				t.Fatalf("%s: tap %d: %+v", name, taps, r)
			}
			slowest = max(slowest, time.Since(at))
		}
		t.Logf("%s, %d KB: %v, %d taps meanwhile, the slowest %v", name, len(picture)>>10, time.Since(began), taps, slowest)
		h.must("people", "portrait", "000002", "--delete")
	}
	h.stop()
}
