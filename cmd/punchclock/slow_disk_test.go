package main

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// slowSync is how much longer than usual the medium takes for each sync.
const slowSync = 800 * time.Millisecond

// tapTimes taps n times, one person after the other, and returns how long each
// waited for the first sign of success after the last byte of the card.
func tapTimes(h *house, n int) []time.Duration {
	h.t.Helper()
	var out []time.Duration
	var last uint64
	for i := range n {
		for len(h.results) > 0 { // the last result of the life before, shown again to who comes
			last = max(last, (<-h.results).Seq)
		}
		p := h.people[i%len(h.people)]
		begin := time.Now()
		r := h.tap(p)
		if r.Outcome != "stored" || r.Employee != p.number || r.Seq <= last {
			h.t.Fatalf("tap %d of %s, after number %d: %+v", i, p.number, last, r)
		}
		last = r.Seq
		out = append(out, r.at.Sub(begin))
	}
	return out
}

// earliest returns the shortest, and how many came before the medium can have had it.
func earliest(waits []time.Duration) (least time.Duration, early int) {
	least = waits[0]
	for _, w := range waits {
		least = min(least, w)
		if w < slowSync {
			early++
		}
	}
	return least, early
}

// With every fdatasync of the real program 800 ms late, nobody hears the OK tone
// earlier than that: the sign follows the medium, not the program.
func TestNoSignOfSuccessBeforeASlowMediumHasThePunch(t *testing.T) {
	n := 5
	if v := os.Getenv("SLOW_TAPS"); v != "" {
		n, _ = strconv.Atoi(v)
	} else if testing.Short() {
		t.Skip("left out of the short tests: it takes some seconds")
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("this test needs strace: apt-get install strace")
	}
	h := newHouse(t, settings{people: n, window: "0s"})
	// The negative control: on the disk as it is the signs come earlier.
	h.start()
	least, early := earliest(tapTimes(h, 5))
	t.Logf("the control, without the delay: %d of 5 taps showed success within %v, the earliest after %v", early, slowSync, least)
	if early == 0 {
		t.Errorf("even without the delay no sign came before %v: the test proves nothing", slowSync)
	}
	h.kill()

	// -D: the clock itself is the process that is started, and killed.
	h.start(strace, "-D", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none",
		"-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter="+strconv.FormatInt(slowSync.Microseconds(), 10))
	waits := tapTimes(h, n)
	least, early = earliest(waits)
	t.Logf("every sync %v late: %d of %d taps showed success before, the earliest after %v", slowSync, early, n, least.Round(time.Millisecond))
	if early > 0 || len(waits) != n {
		t.Errorf("%d of %d signs of success came before the medium had the punch: %v", early, n, waits)
	}
}
