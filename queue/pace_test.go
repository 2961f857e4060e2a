package queue

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLongWorkRestsTwiceAsLongAsItWorkedAndNeverForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pace
		work := func(i int, d time.Duration) (rested time.Duration) {
			time.Sleep(d)
			began := time.Now()
			p.Step(i)
			return time.Since(began)
		}
		for _, c := range []struct {
			i              int
			worked, rested time.Duration
		}{
			{0, time.Hour, 0}, // what was before the first step is no work of ours
			{16, 100 * time.Microsecond, 0},
			{32, 250 * time.Microsecond, 700 * time.Microsecond}, // both together
			{33, time.Second, 0},                                 // the time is looked at with each sixteenth
			{48, 0, 2 * time.Millisecond},
			{64, 400 * time.Microsecond, 800 * time.Microsecond},
			{80, 0, 0},
		} {
			if got := work(c.i, c.worked); got != c.rested {
				t.Errorf("step %d after %v: rested %v, want %v", c.i, c.worked, got, c.rested)
			}
		}
		var none *Pace
		began := time.Now()
		none.Step(0)
		time.Sleep(time.Hour)
		none.Step(16)
		if d := time.Since(began); d != time.Hour {
			t.Errorf("work that somebody waits for rested: %v", d-time.Hour)
		}
	})
}
