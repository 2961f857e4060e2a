package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/queue/punch"
)

// What the punches themselves say of readers and of the card: a reader that is up and
// silent in an hour that was busy in the weeks before is as good as down; one card
// again and again is one that lies on the reader, or somebody who tries.

// traffic is what the newest punches say.
type traffic struct {
	readers map[string]readerTraffic
	perDay  float64 // punches, of the last two weeks or since the first; 0: not known yet
}

type readerTraffic struct {
	hour    int // punches of the last whole hour
	usual   int // the fewest in that hour of that weekday, in the four weeks before; 0 before there are two
	oneCard int // the most by one card in that hour
}

const (
	trafficRecords = 8192 // that are looked at
	trafficWeeks   = 4
	trafficEvery   = 5 * time.Minute
)

// judgeTraffic reads it from punches, oldest first. whole says that there are none
// before them.
func judgeTraffic(ps []punch.Punch, whole bool, now time.Time, readers []string) traffic {
	out := traffic{readers: map[string]readerTraffic{}}
	if len(ps) == 0 {
		return out
	}
	oldest := ps[0].Time()
	end := time.Date(now.Year(), now.Month(), now.Day(), now.Hour(), 0, 0, 0, now.Location())
	count := func(reader string, end time.Time) (n, most int) {
		cards := map[punch.Badge]int{}
		for _, p := range ps {
			if at := p.Time(); p.Reader == reader && at.Before(end) && !at.Before(end.Add(-time.Hour)) {
				n++
				cards[p.Badge]++
				most = max(most, cards[p.Badge])
			}
		}
		return n, most
	}
	for _, name := range readers {
		var r readerTraffic
		r.hour, r.oneCard = count(name, end)
		weeks := 0
		for w := 1; w <= trafficWeeks; w++ {
			then := end.AddDate(0, 0, -7*w)
			if oldest.After(then.Add(-time.Hour)) {
				break
			}
			n, _ := count(name, then)
			if weeks++; weeks == 1 || n < r.usual {
				r.usual = n
			}
		}
		if weeks < 2 {
			r.usual = 0
		}
		out.readers[name] = r
	}
	since := now.AddDate(0, 0, -14)
	if oldest.After(since) {
		since = oldest
	}
	days := now.Sub(since).Hours() / 24
	if days < 1 && whole {
		return out // too young to tell
	}
	n := 0
	for _, p := range ps {
		if !p.Time().Before(since) {
			n++
		}
	}
	if days > 0 {
		out.perDay = float64(n) / days
	}
	return out
}

// trafficWatch looks at the log now and then, when somebody asks.
type trafficWatch struct {
	mu   sync.Mutex
	at   time.Time
	last traffic
}

func (w *trafficWatch) get(h *clockwork) traffic {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.at.IsZero() && time.Since(w.at) < trafficEvery {
		return w.last
	}
	ps, err := h.outbox.Tail(trafficRecords)
	if err != nil {
		return w.last // the outbox says itself what is wrong with it
	}
	var names []string
	for _, r := range h.cfg.Readers {
		names = append(names, r.Name)
	}
	w.at, w.last = time.Now(), judgeTraffic(ps, len(ps) < trafficRecords, h.clock.Now().Wall.In(h.cfg.Device.Timezone), names)
	return w.last
}

const runwayFrom = 100 // punches before which a punch's size on the card says nothing

// runwayDays is for how many days there is space at this site's rate, and false where
// that cannot be told yet.
func (t traffic) runwayDays(o outboxStatus, reserve int64) (float64, bool) {
	if t.perDay <= 0 || o.LastSeq < runwayFrom {
		return 0, false
	}
	each := float64(o.Bytes) / float64(o.LastSeq)
	return max(0, float64(int64(o.FreeBytes)-reserve)/(each*t.perDay)), true
}

// diskWritten is how many bytes went to the disk or card below dir since the start of
// the machine, by the kernel's count; false where there is none.
func diskWritten(dir string) (float64, bool) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0, false
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev))))
	if err != nil {
		return 0, false
	}
	return sectorsWritten(string(b))
}

// sectorsWritten is the seventh number of a block device's stat, in sectors of 512
// bytes whatever the device's own (kernel, Documentation/block/stat.rst).
func sectorsWritten(stat string) (float64, bool) {
	fields := strings.Fields(stat)
	if len(fields) < 7 {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[6], 10, 64)
	return float64(n) * 512, err == nil
}
