package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"punchclock/queue/punch"
)

// When an update may be begun. Its restart takes the clock away for seconds, and
// should it go wrong for minutes: never while people come. When that is, the last
// fourteen days tell, and where there are too few punches, the schedule.

const (
	peakDays   = 14
	peakTail   = 20_000 // punches that are looked at: 1,000 a day for two weeks and more
	peakBefore = 10 * time.Minute
	peakAfter  = 50 * time.Minute // installing, ten minutes of trial, and a way back
	peakLeast  = 3                // taps within that hour on one day: fewer are no peak
	peakShare  = 10               // ... and this part of the busiest day's taps: one in ten
	peakEnough = 20               // punches in the fourteen days to judge by
	peakCalm   = 2 * time.Minute  // since the last tap
)

// peak says why people may be at the door now or within the hour; "" for not. taps
// are those of the last weeks in any order, now is local time.
func peak(taps []time.Time, schedule []scheduleConfig, now time.Time) string {
	n := 0
	perDay := map[string]int{}
	for _, at := range taps {
		switch ago := now.Sub(at); {
		case ago < 0 || ago > peakDays*24*time.Hour:
			continue
		case ago < peakCalm:
			return "somebody tapped a moment ago"
		}
		n++
		perDay[at.In(now.Location()).Format(time.DateOnly)]++
	}
	if n < peakEnough {
		return scheduled(schedule, now)
	}
	busiest := 0
	for _, k := range perDay {
		busiest = max(busiest, k)
	}
	most := 0
	for d := 1; d <= peakDays; d++ {
		day := now.AddDate(0, 0, -d)
		from, to := day.Add(-peakBefore), day.Add(peakAfter)
		k := 0
		for _, at := range taps {
			if !at.Before(from) && at.Before(to) {
				k++
			}
		}
		most = max(most, k)
	}
	if most < peakLeast || most*peakShare < busiest {
		return ""
	}
	return fmt.Sprintf("people come at this time: %d taps between %s and %s on one of the last %d days, of %d on the busiest",
		most, now.Add(-peakBefore).Format("15:04"), now.Add(peakAfter).Format("15:04"), peakDays, busiest)
}

// scheduled is peak for a clock that has too few punches: the hour from now on must
// touch no time at which people come or go by the schedule. One that names
// nearly the whole day tells nothing.
func scheduled(schedule []scheduleConfig, now time.Time) string {
	const day = 24 * 60
	var busy [day]bool
	for _, s := range schedule {
		if s.Kind != punch.In && s.Kind != punch.Out {
			continue
		}
		to := s.To
		if to <= s.From {
			to += day
		}
		for m := s.From; m < to; m++ {
			busy[m%day] = true
		}
	}
	quiet := 0
	for _, b := range busy {
		if !b {
			quiet++
		}
	}
	if quiet < 4*60 {
		return ""
	}
	at := now.Hour()*60 + now.Minute()
	for m := range int(peakAfter.Minutes()) {
		if busy[(at+m)%day] {
			return fmt.Sprintf("by the [[schedule]] people come or go between %s and %s, and there are too few punches yet to know better",
				now.Format("15:04"), now.Add(peakAfter).Format("15:04"))
		}
	}
	return ""
}

// serveTaps tells when the last punches were made, in milliseconds, and nothing else
// about them.
func (a *archive) serveTaps(w http.ResponseWriter, _ *http.Request) {
	at := []int64{}
	if a.outbox != nil {
		tail, err := a.outbox.Tail(peakTail)
		if err != nil {
			refuse(w, http.StatusInternalServerError, fmt.Errorf("read the last punches: %w", err))
			return
		}
		for i := range tail {
			at = append(at, tail[i].Time().UnixMilli())
		}
	}
	writeJSON(w, at)
}

// before an update these must not have failed: doctor's checks of the medium, of what
// lies on it, and of the power that a write needs.
func beforeUpdate(id string) bool {
	return id == "config.valid" || strings.HasPrefix(id, "state.") || id == "outbox.open" || id == "outbox.ready" || id == "machine.power"
}

// fitForUpdate says why not now: a *refusal, or nil.
func (t *tool) fitForUpdate(ctx context.Context) error {
	p := &patient{machine: thisMachine(), path: t.configPath}
	p.ask(ctx)
	var checks []check
	for _, c := range p.checks() {
		if beforeUpdate(c.id) {
			checks = append(checks, c)
		}
	}
	for _, c := range examine(ctx, checks, func(int) {}) {
		if c.State == isFailed {
			reason := refusedDisk
			if c.ID == "config.valid" {
				reason = refusedConfig
			}
			return &refusal{reason, fmt.Sprintf("doctor, %s: %s", c.ID, c.Detail), c.Remedy}
		}
	}
	if p.running != nil && p.running.Clock.State == punch.Unset.String() {
		return &refusal{refusedClock, "nobody has set the time in this boot, so nobody knows whether people are about to come", "see to the network's time server, or a battery clock"}
	}
	_, cl, err := t.open(false)
	if err != nil {
		return err
	}
	defer cl.close()
	var ms []int64
	if err := cl.getJSON(ctx, "/taps", &ms); err != nil {
		return err
	}
	taps := make([]time.Time, len(ms))
	for i, m := range ms {
		taps[i] = time.UnixMilli(m)
	}
	if why := peak(taps, p.cfg.Schedule, time.Now().In(p.cfg.Device.Timezone)); why != "" {
		return &refusal{refusedPeak, why, "the timer tries again every hour"}
	}
	return nil
}
