package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/device"
	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/ui/kiosk"
)

// What the punches themselves say of readers and of the card: a reader that is up and
// silent in an hour that was busy in the weeks before is as good as down; one card
// again and again is one that lies on the reader, or somebody who tries.

// traffic is what the newest punches say.
type traffic struct {
	readers map[string]readerTraffic
	perDay  float64 // punches, of the last two weeks or since the first; 0: not known yet
}

// readerTraffic is a reader's. The names are the outside's.
type readerTraffic struct {
	Hour    int    `json:"hour_punches"`          // of the last whole hour
	Usual   int    `json:"usual_hour_punches"`    // the fewest in that hour of that weekday, in the four weeks before; 0 before there are two
	OneCard int    `json:"one_card_hour_punches"` // the most by one card in that hour
	Faults  uint64 `json:"hour_faults"`           // frames thrown away in the last 60 minutes
}

// From here on a person should look. The alert rules have the same numbers.
const (
	silentFrom  = 5  // punches that an hour had at least in the weeks before
	oneCardMost = 20 // punches of one card in an hour
	faultsMost  = 30 // in an hour
)

// look says what a person should look at, each with what to do.
func (r readerTraffic) look() (out []sight) {
	if r.Hour == 0 && r.Usual >= silentFrom {
		out = append(out, warn("a holiday, or tap a card there: if nothing is shown, plug, cable and supply",
			"nobody punched in the last whole hour, which had never fewer than %d punches in the weeks before", r.Usual))
	}
	if r.OneCard > oneCardMost {
		out = append(out, warn("take away the card that lies on the reader, or ask whose it is: punchclock punches export",
			"one card %d times in the last whole hour", r.OneCard))
	}
	if r.Faults > faultsMost {
		out = append(out, warn("look at cable, plug, supply and dialect", "%d frames thrown away in the last 60 minutes", r.Faults))
	}
	return out
}

const (
	trafficRecords = 1 << 15 // that are looked at when the clock starts: four weeks of 1,100 a day
	trafficWeeks   = 4
	trafficEvery   = 5 * time.Minute
	trafficAtOnce  = 1024 // records that are read without a pause, for a tap goes first
	trafficPause   = 50 * time.Millisecond
)

// trafficCount is what was counted of the log, by hours.
type trafficCount struct {
	zone   *time.Location
	next   uint64    // the first number that was not counted
	whole  bool      // nothing is older than what was counted
	oldest time.Time // of what was counted

	hours map[hourOf]int
	cards map[hourOf]map[punch.Badge]int // of the newest hours
}

// hourOf is an hour at a reader, by the time it began at.
type hourOf struct {
	reader string
	began  int64
}

func newTrafficCount(zone *time.Location) *trafficCount {
	return &trafficCount{zone: zone, hours: map[hourOf]int{}, cards: map[hourOf]map[punch.Badge]int{}}
}

// wholeHour is when the hour of a moment began.
func wholeHour(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), 0, 0, 0, t.Location())
}

// add counts a punch. One whose time nobody knows tells nothing.
func (c *trafficCount) add(p punch.Punch, now time.Time) {
	at := p.Time().In(c.zone)
	if p.Decided().IsZero() || at.After(now.Add(time.Hour)) {
		return
	}
	if c.oldest.IsZero() || at.Before(c.oldest) {
		c.oldest = at
	}
	h := hourOf{p.Reader, wholeHour(at).Unix()}
	c.hours[h]++
	if at.After(now.Add(-3 * time.Hour)) {
		if c.cards[h] == nil {
			c.cards[h] = map[punch.Badge]int{}
		}
		c.cards[h][p.Badge]++
	}
}

// judge says what the counts tell, and forgets those that are too old to.
func (c *trafficCount) judge(now time.Time, readers []string) traffic {
	now = now.In(c.zone)
	out := traffic{readers: map[string]readerTraffic{}}
	maps.DeleteFunc(c.hours, func(h hourOf, _ int) bool { return h.began < now.AddDate(0, 0, -7*trafficWeeks-1).Unix() })
	maps.DeleteFunc(c.cards, func(h hourOf, _ map[punch.Badge]int) bool { return h.began < now.Add(-3*time.Hour).Unix() })
	if c.oldest.IsZero() {
		return out
	}
	began := wholeHour(now).Add(-time.Hour)
	for _, name := range readers {
		h := hourOf{name, began.Unix()}
		r := readerTraffic{Hour: c.hours[h]}
		for _, n := range c.cards[h] {
			r.OneCard = max(r.OneCard, n)
		}
		weeks := 0
		for w := 1; w <= trafficWeeks; w++ {
			then := began.AddDate(0, 0, -7*w)
			if c.oldest.After(then) {
				break
			}
			n := c.hours[hourOf{name, then.Unix()}]
			if weeks++; weeks == 1 || n < r.Usual {
				r.Usual = n
			}
		}
		if weeks < 2 {
			r.Usual = 0
		}
		out.readers[name] = r
	}
	since := now.AddDate(0, 0, -14)
	if c.oldest.After(since) {
		since = c.oldest
	}
	days := now.Sub(since).Hours() / 24
	if days < 1 && c.whole || days <= 0 {
		return out // too young to tell
	}
	n := 0
	for h, k := range c.hours {
		if h.began >= wholeHour(since).Unix() {
			n += k
		}
	}
	out.perDay = float64(n) / days
	return out
}

// watchTraffic counts, and says what it tells, until ctx is done.
func (h *clockwork) watchTraffic(ctx context.Context) error {
	c := newTrafficCount(h.cfg.Device.Timezone)
	var names []string
	for _, r := range h.cfg.Readers {
		names = append(names, r.Name)
	}
	var faults faultHour
	for {
		err := c.follow(ctx, h.outbox, h.clock.Now().Wall)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil { // else the outbox says itself what is wrong with it
			t := c.judge(h.clock.Now().Wall, names)
			for name, n := range faults.add(h.kiosk.Readers()) {
				r := t.readers[name]
				r.Faults = n
				t.readers[name] = r
			}
			h.traffic.Store(&t)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(trafficEvery):
		}
	}
}

// follow counts what has come since the last time.
func (c *trafficCount) follow(ctx context.Context, o *queue.Outbox, now time.Time) error {
	last := o.Stats().LastSeq
	if c.next == 0 {
		c.next = 1
		if c.whole = last <= trafficRecords; !c.whole {
			c.next = last - trafficRecords + 1
		}
	}
	if c.next > last {
		return nil
	}
	n := 0
	return o.Read(ctx, c.next, func(e queue.Entry) error {
		if e.Damaged == nil {
			c.add(e.Punch, now)
		}
		c.next = e.Seq + 1
		if n++; n%trafficAtOnce == 0 {
			time.Sleep(trafficPause)
		}
		return nil
	})
}

// faultHour remembers the faults of all readers for an hour.
type faultHour struct {
	seen [time.Hour / trafficEvery]map[string]uint64
	at   int
}

// add takes the counts since the start, and returns those of the last hour.
func (f *faultHour) add(readers []kiosk.ReaderStatus) map[string]uint64 {
	total, out := map[string]uint64{}, map[string]uint64{}
	for _, r := range readers {
		for word, n := range r.Faults {
			if isFault(word) {
				total[r.Name] += n
			}
		}
		out[r.Name] = total[r.Name] - f.seen[f.at][r.Name] // nothing, where that was before the start
	}
	f.seen[f.at] = total
	f.at = (f.at + 1) % len(f.seen)
	return out
}

// isFault tells a frame that could not be read from a tap that was read well, and
// answered with something else than a punch.
func isFault(word string) bool {
	switch word {
	case device.FaultRandom, device.FaultTwo, device.FaultLearned, device.FaultPIN, device.FaultTries,
		device.FaultEnrolled, device.FaultEnrolNo, device.FaultEnrolPIN, device.FaultEnrolCard:
		return false
	}
	return true
}

// What a punch takes.
const (
	bytesEach   = 600    // record, pages, second copy and receipts; where there are too few to go by
	enoughToSay = 10_000 // punches, above which the files tell it better
	fewDays     = 60     // of space: somebody should make room. The alert rule has the same number
)

// runwayDays is for how many days there is space at this site's rate: punches so far,
// the bytes that they take, the file system's free ones, and those of them that are
// kept in reserve. False where the rate is not known.
func runwayDays(perDay float64, punches uint64, bytes int64, free, reserve uint64) (float64, bool) {
	if perDay <= 0 {
		return 0, false
	}
	each := float64(bytesEach)
	if punches > enoughToSay {
		each = max(each, float64(bytes)/float64(punches))
	}
	return float64(free-min(reserve, free)) / (each * perDay), true
}

// deviceOf is the number of the device that dir is on, as the kernel writes it; "" where
// dir is not there.
func deviceOf(dir string) string {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
}

// diskWritten is how many bytes went to the disk or card of a device since the start of
// the machine, by the kernel's count; false where there is none. root is /.
func diskWritten(root, device string) (float64, bool) {
	if device == "" {
		return 0, false
	}
	disk, err := filepath.EvalSymlinks(filepath.Join(root, "sys/dev/block", device))
	if err != nil {
		return 0, false
	}
	if _, err := os.Stat(filepath.Join(disk, "partition")); err == nil {
		disk = filepath.Dir(disk) // the card wears out as one
	}
	b, err := os.ReadFile(filepath.Join(disk, "stat"))
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

// wearMost is what a day may write: a card of 32 GB that is filled once in a week wears
// out in a few years. The alert rule has the same number.
const wearMost = 5e9

// writtenPerDay is diskWritten by the day, since the start of the machine; false before
// that was a day ago.
func writtenPerDay(root, device string) (float64, bool) {
	written, known := diskWritten(root, device)
	up, err := os.ReadFile(filepath.Join(root, "proc/uptime"))
	if !known || err != nil {
		return 0, false
	}
	word, _, _ := strings.Cut(string(up), " ")
	seconds, err := strconv.ParseFloat(word, 64)
	if days := seconds / 86400; err == nil && days >= 1 {
		return written / days, true
	}
	return 0, false
}
