package screen

import (
	"image"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var refusal = Sign{
	Heads: []string{"設定檔有誤，沒有採用：第 6 行第 1 字", "Refused, nothing was changed: line 6, column 1"},
	Texts: []string{
		"1. punchclock.toml 第 6 行第 1 字：[device] 裡沒有「timezoen」這個鍵；是不是「timezone」？\n" +
			"打卡鐘的設定沒有改變。請改好這張卡上的 punchclock.toml，再放回打卡鐘開機。\n為了安全，檔案裡的密碼已從卡上清除。\n打卡鐘已留下（可以空白不填）：104-secret, feishu-secret, wifi-psk\n",
		"1. punchclock.toml line 6, column 1: unknown key \"timezoen\" in [device]\nWhat to do: did you mean \"timezone\"?\n" +
			"Nothing in the clock was changed. Correct punchclock.toml on this card, put the card back and start the clock.\nFor safety every secret was removed from the file on the card.\nThe clock keeps these, so they may stay empty: 104-secret, feishu-secret, wifi-psk\n",
	},
}

func TestASignIsReadToItsLastLineOnEveryScreen(t *testing.T) {
	for _, size := range sizes {
		d := worker(t).layout(view{sign: &refusal}, size.X, size.Y)
		if d.ground != ground || len(d.cutSentences) > 0 {
			t.Errorf("%v: %q is missing", size, d.cutSentences)
		}
		var all strings.Builder
		for i, o := range d.ops {
			if o.what != write {
				continue
			}
			all.WriteString(o.s)
			if !o.r.In(image.Rectangle{Max: size}) || o.n < leastSign {
				t.Errorf("%v: %q in %v, %d high", size, o.s, o.r, o.n)
			}
			for _, other := range d.ops[:i] {
				if other.what == write && other.r.Overlaps(o.r) {
					t.Errorf("%v: %q lies on %q", size, o.s, other.s)
				}
			}
		}
		for _, text := range append(refusal.Heads, refusal.Texts...) {
			bare := func(s string) string { return strings.NewReplacer(" ", "", "\n", "").Replace(s) }
			if !strings.Contains(bare(all.String()), bare(text)) {
				t.Errorf("%v: there is not all of %q", size, text)
			}
		}
	}
	if d := worker(t).layout(view{sign: &Sign{Texts: []string{strings.Repeat("too long ", 3000)}}}, 800, 480); len(d.cutSentences) == 0 {
		t.Error("what does not fit is not noticed: this test sees nothing")
	}
}

// A clock without a configuration has no conversation; its sign changes by itself, and
// goes when there is nothing to say any more.
func TestASignStandsInPlaceOfTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shown atomic.Pointer[Sign]
		shown.Store(&refusal)
		d := atDoor(t, func(c *Config) { c.Sign = shown.Load })
		defer d.stop()
		corner := func() uint32 {
			c, _ := d.panel.now()
			return c
		}
		synctest.Wait()
		if got := corner(); got != uint32(answers["not_stored"].ground) {
			t.Errorf("the corner is %06x", got)
		}
		shown.Store(&Sign{Heads: []string{"這台打卡鐘還沒有設定"}, Calm: true})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := corner(); got != uint32(answers["duplicate"].ground) {
			t.Errorf("the corner is %06x", got)
		}
		shown.Store(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := corner(); got != uint32(ground) {
			t.Errorf("the corner is %06x", got)
		}
	})
}

func TestCoarseLettersHaveNoHazeAroundThem(t *testing.T) {
	one := outline{advance: em, dots: make([]byte, 32)}
	one.dots[16] = 0x01 // the dot in the middle
	for px := 12; px < 64; px++ {
		for _, bold := range []bool{false, true} {
			m, inked := dotted(one, px, bold), 0
			for i, a := range m.a {
				if x, y := (i%m.w)*16/px, i/m.w*16/px; a != 0 && (x < 5 || x > 9 || y < 6 || y > 10) {
					t.Fatalf("%d high, bold %v: ink of %d at %d, %d, where there is none", px, bold, a, x, y)
				} else if a != 0 {
					inked++
				}
			}
			if inked == 0 {
				t.Errorf("%d high, bold %v: the dot is gone", px, bold)
			}
		}
	}
}
