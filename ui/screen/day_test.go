package screen

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/ui"
)

// A day at the screen: its seconds, 1,200 people of different names and languages, own
// punches, number and PIN, the state. At each quarter of the day it holds no more than at
// the one before. The short form is 80 people, close behind each other.
func TestTheScreenDoesNotGrowOverADay(t *testing.T) {
	hours, people, pause := 4, 20, time.Second
	if os.Getenv("PUNCHCLOCK_DAY") != "" {
		hours, people, pause = 24, 50, 57*time.Second
	}
	synctest.Test(t, func(t *testing.T) {
		drawn := 0
		d := atDoor(t, func(c *Config) {
			c.Drawn = func(time.Duration) { drawn++ }
			c.Rows = func() []Row { return []Row{{Mark: "ok", Name: "104", State: "ok"}} }
		})
		defer d.stop()
		family, given := []rune("王李張劉陳楊黃趙吳周徐孫馬朱胡郭何高林羅"), []rune("小明華英文正美玲志偉俊傑怡君淑芬雅婷家豪")
		languages := []string{"", "vi", "id", "th", "fil", "en", "zh-CN"}
		n := 0
		hour := func() {
			for range people {
				n++
				s := answerOf([]string{"stored", "stored", "stored", "unknown_badge", "duplicate", "misread", "not_stored"}[n%7])
				s.Result.Kind, s.Result.Language = kinds[n%4], languages[n%len(languages)]
				s.Result.Name = string(family[n%len(family)]) + string(given[n/3%len(given)]) + string(given[n/50%len(given)]) + fmt.Sprint(n)
				if s.Result.Outcome == "duplicate" {
					s.Mine = &ui.Mine{Employee: s.Result.Employee, Name: s.Result.Name, Language: s.Result.Language, Listed: true, Until: time.Now().Add(10 * time.Second),
						Punches: []ui.Past{{PunchID: fmt.Sprint(n), Kind: "in", Outcome: "stored", Time: time.Now()}}}
				}
				d.Show(s)
				time.Sleep(3 * time.Second)
				d.Show(ui.Screen{Kind: kinds[n%4], Why: "schedule", Clock: "synced"})
				time.Sleep(12 * time.Second)
				if n%5 == 0 {
					for _, id := range []string{"pin", "language", "lang:" + languages[1+n/5%6], "letters", "key:A", "cancel", "state", "close"} {
						d.tap(id)
					}
				}
				time.Sleep(pause)
			}
			d.panel.mu.Lock()
			d.panel.sent, d.panel.grounds = nil, nil
			d.panel.mu.Unlock()
			d.heard()
		}
		held := func() uint64 {
			synctest.Wait()
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc >> 10
		}
		var kb []uint64
		for h := range hours {
			if h%(hours/4) == 0 {
				kb = append(kb, held())
			}
			hour()
		}
		kb = append(kb, held())
		t.Logf("%d people, %d answers drawn in %d hours; KB at each quarter of them: %v", n, drawn, hours, kb)
		if drawn < n {
			t.Errorf("%d answers drawn for %d people", drawn, n)
		}
		if kb[4] > kb[2]+512 {
			t.Errorf("it grows: %v KB", kb)
		}
	})
}
