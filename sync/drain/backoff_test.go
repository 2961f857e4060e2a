package drain

import (
	"testing"
	"time"
)

func TestWaitsDoubleFromASecondToFiveMinutesWithFullJitter(t *testing.T) {
	most := []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300}
	seen := make([]time.Duration, len(most))
	least := time.Hour
	for range 2000 {
		var b Backoff
		for i := range most {
			d := b.Next()
			if d < 100*time.Millisecond || d > most[i]*time.Second {
				t.Fatalf("wait %d is %v, want 100 ms to %v", i+1, d, most[i]*time.Second)
			}
			seen[i] = max(seen[i], d)
			least = min(least, d)
		}
	}
	for i := range most {
		if seen[i] < most[i]*time.Second*9/10 {
			t.Errorf("wait %d was never longer than %v, its range goes to %v", i+1, seen[i], most[i]*time.Second)
		}
	}
	if least > 200*time.Millisecond {
		t.Errorf("the jitter is not full: never below %v", least)
	}
}

func TestTriesHaveNoEnd(t *testing.T) {
	var b Backoff
	for range 100_000 {
		if d := b.Next(); d < waitLeast || d > waitMost {
			t.Fatal(d)
		}
	}
	if d := b.Busy(0); d < waitMost || d > busyMost {
		t.Errorf("busy after a long outage: %v", d)
	}
}

func TestOneSuccessBeginsAnew(t *testing.T) {
	var b Backoff
	for range 20 {
		b.Busy(time.Minute)
	}
	b.Reset()
	if d := b.Next(); d > time.Second {
		t.Errorf("first wait after a success: %v", d)
	}
	b.Reset()
	if d := b.Busy(0); d > 2*time.Second {
		t.Errorf("first wait after a success: %v", d)
	}
}

func TestASecondRefusalWaitsLonger(t *testing.T) {
	for _, told := range []time.Duration{0, time.Second, time.Minute, 9 * time.Minute} {
		var b Backoff
		last := time.Duration(0)
		for range 8 {
			d := b.Busy(told)
			if d < told || d <= last && d != busyMost || d > busyMost {
				t.Fatalf("told %v: %v after %v", told, d, last)
			}
			last = d
		}
	}
	var b Backoff
	if d := b.Busy(time.Hour); d != 10*time.Minute {
		t.Errorf("told an hour: %v, want the cap", d)
	}
}
