package wiegand

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"punchclock/device"
	"punchclock/device/devicetest"
)

const ms = time.Millisecond

var (
	alice = devicetest.Wiegand("%08b%016b", 123, 45678)
	bob   = devicetest.Wiegand("%08b%016b", 7, 65534)
)

// on runs fn on a virtual clock, with a reader that is up.
func on(t *testing.T, change func(*Config), fn func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, newWire(), change)
		defer b.stop()
		b.want("up")
		fn(b)
		b.wantNothing(time.Minute)
	})
}

// brief writes an event as the tests compare it.
func brief(ev device.Event) string {
	s := ev.What.String()
	switch ev.What {
	case device.Card:
		s += fmt.Sprintf(" %s:%s %x/%d", ev.Medium, ev.Value, ev.Raw, ev.Bits)
	case device.Fault:
		if s += " " + ev.Fault; ev.Try {
			s += ", try again"
		}
	case device.Down:
		s += " " + ev.Err.Error()
	case device.Entry:
		s += " " + ev.Number + " " + string(ev.PIN)
	}
	return s
}

// want takes the next event.
func (b *bench) want(s string) device.Event {
	b.t.Helper()
	select {
	case ev := <-b.out:
		if got := brief(ev); !strings.HasPrefix(got, s) {
			b.t.Fatalf("got %q, want %q", got, s)
		}
		if ev.Reader != "front" {
			b.t.Errorf("reader %q", ev.Reader)
		}
		return ev
	case <-time.After(30 * time.Second):
		b.t.Fatalf("got nothing, want %q", s)
		return device.Event{}
	}
}

func (b *bench) wantNothing(d time.Duration) {
	b.t.Helper()
	select {
	case ev := <-b.out:
		b.t.Fatalf("got %q, want nothing", brief(ev))
	case <-time.After(d):
	}
}

func TestATapIsACardWithItsBitsAndItsTime(t *testing.T) {
	on(t, nil, func(b *bench) {
		from := time.Now()
		b.w.frame(alice)
		ev := b.want("card w26:123-45678 bdd93740/26")
		if first, last := ev.First.Sub(from), ev.Last.Sub(from); first != 60*ms || last != 85*ms {
			t.Errorf("first bit after %v, last after %v", first, last)
		}
		if took := time.Since(ev.Last); took != 30*ms {
			t.Errorf("told %v after the last bit", took)
		}
		b.w.frame(bob)
		b.want("card w26:7-65534")
	})
}

func TestEverySpacingThatReadersHave(t *testing.T) {
	for _, spacing := range []time.Duration{200 * time.Microsecond, 880 * time.Microsecond, 2 * ms, 20 * ms} {
		on(t, nil, func(b *bench) {
			for i := range 20 {
				b.w.send(devicetest.Wiegand("%016b%016b", i, 100+i), 200*ms, spacing)
				b.want(fmt.Sprintf("card w34:%d-%d", i, 100+i))
			}
		})
	}
	on(t, func(c *Config) { c.Formats = []string{"26"} }, func(b *bench) { // a hand-made one
		for range 20 {
			b.w.change(func() {
				for i, c := range alice {
					d := 200*time.Microsecond + rand.N(19*ms)
					if i == 0 {
						d = time.Second
					}
					b.w.add(uint8(c-'0'), d)
				}
			})
			b.want("card w26:123-45678")
		}
	})
}

func TestJitterAndPausesOfReaders(t *testing.T) {
	on(t, nil, func(b *bench) {
		for i := range 1000 { // by a fifth of the pace, and more now and then, as from an interrupt that comes late
			want := fmt.Sprintf("%d-%d", i%256, i)
			b.w.change(func() {
				late := time.Duration(0)
				for j, c := range devicetest.Wiegand("%08b%016b", i%256, i) {
					now := rand.N(40 * time.Microsecond)
					if j%9 == 8 {
						now = 130 * time.Microsecond
					}
					d := 200*time.Microsecond + now - late
					if late = now; j == 0 {
						d += 60 * ms
					}
					b.w.add(uint8(c-'0'), d)
				}
			})
			b.want("card w26:" + want)
		}
	})
	paused := func(b *bench) { // after each byte
		b.w.change(func() {
			for i, c := range alice {
				d := ms
				if i%8 == 0 {
					d = 2 * ms
				}
				if i == 0 {
					d = time.Second
				}
				b.w.add(uint8(c-'0'), d)
			}
		})
	}
	on(t, nil, func(b *bench) {
		paused(b)
		b.want("fault lost, try again")
	})
	on(t, func(c *Config) { c.Formats = []string{"26"} }, func(b *bench) {
		paused(b)
		b.want("card w26:123-45678")
	})
}

func TestTheFirstFrameAfterOpeningMayBeShortAndIsNobodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		b := start(t, w, nil)
		defer b.stop()
		synctest.Wait()
		w.send(alice[5:], ms, ms) // we opened in the middle of it
		b.want("up")
		b.want("fault lost, try again")
		w.frame(alice)
		b.want("card w26:123-45678")
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		b := start(t, w, nil)
		defer b.stop()
		synctest.Wait()
		w.send("01", ms, ms) // the reader was switched on with us
		w.send(bob, 101*ms, ms)
		b.want("up")
		b.want("card w26:7-65534")
	})
}

func TestLostBitsAreNoCard(t *testing.T) {
	on(t, nil, func(b *bench) {
		for _, s := range []string{"-" + alice[1:], alice[:13] + "--" + alice[15:], alice[:25] + "-"} {
			b.w.frame(s)
			if strings.HasSuffix(s, "-") {
				b.w.frame(bob) // tells of the gap before it: neither is whole for sure
				b.want("fault length, try again")
			}
			b.want("fault lost, try again")
			b.w.frame(bob)
			b.want("card w26:7-65534")
			b.wantNothing(time.Second)
		}
		b.w.frame(strings.Repeat("-", 24) + alice[24:])
		b.want("fault lost, try again") // two bits came, and a person waits
	})
}

// With the reader's task asleep the usual buffer of 32 edges makes of 34 bits the
// last 32 of them: another card.
func TestTheRestOfAFrameIsNotAnotherCard(t *testing.T) {
	on(t, func(c *Config) { c.Formats = []string{"26", "32"} }, func(b *bench) {
		b.w.frame("--" + devicetest.Wiegand("%016b%016b", 1234, 56789)[2:])
		b.want("fault lost, try again")
	})
	on(t, func(c *Config) { c.Formats = []string{"32"} }, func(b *bench) {
		b.w.frame(devicetest.Wiegand("%016b%016b", 1234, 56789))
		b.want("fault length, try again")
	})
}

func TestALongSleepLosesOnlyWhatTheBufferCannotHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		r, err := New(Config{Name: "front", Open: w.open})
		if err != nil {
			t.Fatal(err)
		}
		out := make(chan device.Event) // nobody takes anything for a while: Run stands still
		done := make(chan error, 1)
		go func() { done <- r.Run(t.Context(), out) }()
		<-out
		for i := range 100 { // 2600 edges, of which 1024 wait
			w.frame(devicetest.Wiegand("%08b%016b", 1, i))
		}
		time.Sleep(20 * time.Second)
		next, lost := 0, 0
		for {
			var ev device.Event
			select {
			case ev = <-out:
			case <-time.After(time.Second):
				if next != 100 || lost == 0 || lost > 3 {
					t.Errorf("up to %d, %d faults", next, lost)
				}
				return
			}
			if ev.What == device.Fault {
				lost++
				continue
			}
			var n int
			fmt.Sscanf(ev.Value, "1-%d", &n)
			if n < next {
				t.Errorf("%d after %d", n, next)
			}
			next = n + 1
		}
	})
}

func TestCrosstalkAndNoiseAreNoCards(t *testing.T) {
	on(t, nil, func(b *bench) {
		at := func(i int, line uint8, after time.Duration) { // one more edge before bit i
			b.w.change(func() {
				for j, c := range alice {
					d := ms
					if j == 0 {
						d = 60 * ms
					}
					if j == i {
						b.w.add(line, d)
						d = after
					}
					b.w.add(uint8(c-'0'), d)
				}
			})
		}
		at(5, 1-(alice[5]-'0'), 20*time.Microsecond)
		b.want("fault noise, try again")
		at(5, alice[5]-'0', 30*time.Microsecond)
		b.want("fault noise, try again")
		at(9, 1-(alice[9]-'0'), 0)
		b.want("fault noise, try again")
		at(0, alice[0]-'0', 5*time.Microsecond) // the wire rings
		b.want("card w26:123-45678")
		at(3, 0, 500*time.Microsecond) // a glitch that looks like a bit
		b.want("fault length, try again")
		b.w.send("0", 100*ms, ms)
		b.want("fault noise")
		b.w.send("0110", 100*ms, ms)
		b.want("fault noise")
		b.w.frame(bob)
		b.want("card w26:7-65534")
	})
}

func TestABrokenWireIsNamed(t *testing.T) {
	on(t, nil, func(b *bench) {
		b.w.frame(strings.Repeat("0", 26))
		b.want("fault noise, try again")
		b.w.frame(strings.Repeat("0", 26))
		b.want("fault noise, try again")
		if lines := b.log.all(); len(lines) != 1 || !strings.Contains(lines[0], "D1") {
			t.Errorf("said: %q", lines)
		}
	})
}

func TestAStuckWireTakesTheReaderDownUntilItIsFree(t *testing.T) {
	on(t, nil, func(b *bench) {
		b.w.pull(1, true)
		b.want("fault noise")
		b.want("down reader front: D1 stays low: check")
		b.wantNothing(10 * time.Minute)
		b.w.pull(1, false)
		b.want("up")
		b.w.frame(alice)
		b.want("card w26:123-45678")
		b.w.pull(0, true)
		b.w.pull(1, true)
		b.want("fault noise")
		b.want("down reader front: D0 and D1 stay low")
		b.w.pull(0, false)
		b.w.frame(alice) // a card in the meantime is not believed
		b.wantNothing(time.Minute)
		b.w.pull(1, false)
		b.want("up")
		b.w.frame(bob)
		b.want("card w26:7-65534")
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.low[0] = true // as when the level shifter has no supply
		b := start(t, w, nil)
		defer b.stop()
		b.want("down reader front: D0 stays low")
		w.pull(0, false)
		b.want("up")
		w.frame(bob)
		b.want("card w26:7-65534")
	})
}

func TestWiresThatAreNeverQuietTakeTheReaderDown(t *testing.T) {
	on(t, nil, func(b *bench) {
		hum := func(n int) {
			b.w.change(func() {
				for i := range n {
					b.w.add(uint8(i&1), 10*ms) // mains
				}
			})
		}
		hum(500)
		b.want("fault noise")
		b.want("down reader front: the wires are never quiet")
		b.want("up")
		b.w.frame(alice)
		b.want("card w26:123-45678")
		hum(200)
		b.want("fault noise") // it stopped before long
		b.w.frame(bob)
		b.wantNothing(time.Second) // not quiet long enough yet
		b.w.frame(bob)
		b.want("card w26:7-65534")
	})
}

func TestAMegabyteOfNoiseIsNoPunch(t *testing.T) {
	on(t, func(c *Config) { c.Keypad = "4-bit" }, func(b *bench) {
		cards, faults, n := 0, 0, 100
		if testing.Short() {
			n = 3
		}
		for range n {
			b.w.change(func() {
				for range 10_000 {
					b.w.add(uint8(rand.IntN(2)), rand.N(400*time.Microsecond))
				}
			})
			for {
				var ev device.Event
				select {
				case ev = <-b.out:
				case <-time.After(5 * time.Second):
				}
				if ev.What == device.Card || ev.What == device.Entry {
					cards++
				}
				if ev.What == 0 {
					break
				}
				faults++
			}
		}
		if cards > 0 || faults > 5*n {
			t.Errorf("%d cards, %d other events", cards, faults)
		}
		if lines := len(b.log.all()); lines > 3*n {
			t.Errorf("%d lines in the log", lines)
		}
	})
}

func TestAReaderThatRepeatsIsOneTap(t *testing.T) {
	on(t, nil, func(b *bench) {
		for range 10 {
			b.w.send(alice, 300*ms, ms)
		}
		b.want("card w26:123-45678")
		b.wantNothing(5 * time.Second)
		b.w.frame(alice)
		b.want("card w26:123-45678")
		b.w.frame(bob)
		b.want("card w26:7-65534")
		b.w.frame(alice) // it was not the last one
		b.want("card w26:123-45678")
	})
}

func TestASecondTapTooSoonAfterTheFirstIsNotMixedWithIt(t *testing.T) {
	on(t, nil, func(b *bench) {
		b.w.frame(alice)
		b.w.send(bob, 35*ms, ms)
		b.want("card w26:123-45678")
		b.want("card w26:7-65534")
		b.w.frame(alice)
		b.w.send(bob, 25*ms, ms)
		b.want("fault length, try again")
	})
}

func TestKeysOfAWiegandKeypad(t *testing.T) {
	burst := map[string][]string{"4-bit": nil, "8-bit": nil, "6-bit": strings.Fields("000001 000010 000100 000111 101001 101010 101100 101111 110001 110010 110100 110111")}
	for i := range 12 {
		burst["4-bit"] = append(burst["4-bit"], fmt.Sprintf("%04b", i))
		burst["8-bit"] = append(burst["8-bit"], fmt.Sprintf("%04b%04b", 15-i, i))
	}
	for mode, keyBits := range burst {
		type_ := func(b *bench, s string) {
			for _, c := range s {
				b.w.send(keyBits[strings.IndexRune(keys, c)], 150*ms, 2*ms)
			}
		}
		on(t, func(c *Config) { c.Keypad = mode }, func(b *bench) {
			type_(b, "000123#4711#")
			b.want("entry 000123 4711")
			type_(b, "99*123#4*123#22#")
			b.want("entry 123 22")
			b.w.frame(alice)
			b.want("card w26:123-45678")

			type_(b, "123#47") // and a card is held there: whose PIN was that?
			b.w.frame(bob)
			b.want("card w26:7-65534")
			type_(b, "11#")
			b.wantNothing(time.Second)
			type_(b, "0*")

			type_(b, "123#4") // then the person walks away
			b.want("fault timeout")
			type_(b, "11#")
			b.wantNothing(2 * time.Second)
			type_(b, "*")

			type_(b, "123#4")
			b.w.send("-"+keyBits[7][1:], 150*ms, 2*ms) // a key whose beginning is lost
			b.want("fault lost, try again")
			type_(b, "11#")
			b.wantNothing(time.Second)
			type_(b, "*")
			for _, line := range b.log.all() {
				if strings.Contains(line, "4711") || strings.Contains(line, "123") {
					t.Errorf("the log holds what was typed: %s", line)
				}
			}
		})
	}
	on(t, func(c *Config) { c.Keypad, c.Enter = "4-bit", "*" }, func(b *bench) {
		for _, c := range "99#123*4711*" {
			b.w.send(burst["4-bit"][strings.IndexRune(keys, c)], 150*ms, 2*ms)
		}
		b.want("entry 123 4711")
	})
	on(t, func(c *Config) { c.Keypad = "8-bit" }, func(b *bench) {
		b.w.send("11110000", 150*ms, 2*ms)
		b.w.send("11110001", 150*ms, 2*ms)
		b.want("fault checksum, try again")
	})
	on(t, nil, func(b *bench) { // keys that nobody has configured
		b.w.send("11110000", 150*ms, 2*ms)
		b.want("fault length, try again")
	})
}

func TestTheChipComesBack(t *testing.T) {
	on(t, nil, func(b *bench) {
		for range 50 {
			b.w.unplug()
			b.want("down reader front: the GPIO chip is gone")
			b.wantNothing(10 * time.Second)
			b.w.replug()
			from := time.Now()
			b.want("up")
			if took := time.Since(from); took > 2*time.Second {
				t.Errorf("up after %v", took)
			}
			b.w.frame(alice)
			b.want("card w26:123-45678")
		}
		b.w.send(alice[:9], 60*ms, ms)
		time.Sleep(75 * ms)
		b.w.unplug() // in the middle of a frame
		b.want("down")
		b.w.replug()
		b.want("up")
		b.w.frame(bob)
		b.want("card w26:7-65534")
	})
}

func TestAnIdleReaderDoesNotWakeTheMachine(t *testing.T) {
	on(t, func(c *Config) { c.Keypad = "4-bit" }, func(b *bench) {
		b.w.frame(alice)
		b.want("card w26:123-45678")
		time.Sleep(time.Second)
		b.w.mu.Lock()
		before := b.w.reads
		b.w.mu.Unlock()
		time.Sleep(24 * time.Hour)
		b.w.mu.Lock()
		defer b.w.mu.Unlock()
		if n := b.w.reads - before; n != 0 {
			t.Errorf("%d reads in a day", n)
		}
	})
}

// What a wire may do to frames, at random: whatever comes out was put in.
func TestNoLostEdgeMakesAnotherCard(t *testing.T) {
	for _, tc := range []struct {
		format, print string
		most          [2]int
	}{
		{"26", "%08b%016b", [2]int{255, 65535}},
		{"34", "%016b%016b", [2]int{65535, 65535}},
		{"h10304", "%016b%019b", [2]int{65535, 524287}},
	} {
		t.Run(tc.format, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				fac, num := rapid.IntRange(0, tc.most[0]).Draw(rt, "facility"), rapid.IntRange(0, tc.most[1]).Draw(rt, "number")
				s := devicetest.Wiegand(tc.print, fac, num)
				i := rapid.IntRange(0, len(s)-1).Draw(rt, "lost")
				mark := rapid.SampledFrom([]string{".", "-"}).Draw(rt, "how")
				synctest.Test(t, func(t *testing.T) {
					b := start(t, newWire(), func(c *Config) { c.Formats = []string{"26", "30", "34", "h10304"} })
					defer b.stop()
					b.want("up")
					b.w.frame(s[:i] + mark + s[i+1:])
					ev := b.want("fault")
					if !ev.Try {
						t.Error("the person is not told")
					}
					b.w.frame(s)
					if ev := <-b.out; ev.What == device.Fault && mark == "-" && i == len(s)-1 {
						b.w.frame(s) // the gap showed only now
					} else if ev.What != device.Card || ev.Value != fmt.Sprintf("%d-%d", fac, num) {
						t.Errorf("got %q", brief(ev))
					}
				})
			})
		})
	}
}

func TestTenThousandFramesOnABadWire(t *testing.T) {
	for _, tc := range []struct {
		format, print string
		most          [2]int
	}{
		{"26", "%08b%016b", [2]int{256, 65536}},
		{"34", "%016b%016b", [2]int{65536, 65536}},
		{"h10304", "%016b%019b", [2]int{65536, 524288}},
	} {
		on(t, func(c *Config) { c.Formats = []string{"26", "30", "34", "h10304"} }, func(b *bench) {
			rnd := rand.New(rand.NewPCG(104, 37)) // where all that is lost is at an end nothing shows it: once in a million frames
			whole, accepted, faults, n := 0, 0, 0, 10_000
			if testing.Short() {
				n = 300
			}
			for range n {
				fac, num := rnd.IntN(tc.most[0]), rnd.IntN(tc.most[1])
				s := []byte(devicetest.Wiegand(tc.print, fac, num))
				damaged := false
				for i := range s {
					if rnd.IntN(100) == 0 { // half of the losses are the kernel's
						s[i], damaged = ".-"[rnd.IntN(2)], true
					}
				}
				if !damaged {
					whole++
				}
				want := fmt.Sprintf("%d-%d", fac, num)
				b.w.send(string(s), 50*ms, 200*time.Microsecond)
				time.Sleep(90 * ms)
				for len(b.out) > 0 {
					switch ev := <-b.out; ev.What {
					case device.Card:
						if accepted++; ev.Value != want || damaged {
							t.Fatalf("%s became %s", want, ev.Value)
						}
					case device.Fault:
						faults++
					default:
						t.Fatal(brief(ev))
					}
				}
			}
			// A gap in the numbering at the end of one frame costs the next one too.
			if accepted > whole || accepted < whole-n/30 || accepted+faults < n {
				t.Errorf("%s: of %d whole frames %d were accepted, %d faults", tc.format, whole, accepted, faults)
			}
			t.Logf("%s: %d of %d frames whole, %d accepted, %d faults, none wrong", tc.format, whole, n, accepted, faults)
		})
	}
}

func TestAClockStepInTheMiddleOfAFrameChangesNothing(t *testing.T) {
	// Edges carry the kernel's monotonic time; the wall reading is that of the
	// moment the event is told.
	at := time.Now().Add(-time.Hour)
	if d := time.Until(fresh(at)); d > -59*time.Minute || d < -61*time.Minute {
		t.Errorf("%v", d)
	}
	if got := fresh(at); time.Since(got.Round(0)) > 61*time.Minute || !strings.Contains(got.String(), " m=") {
		t.Errorf("%v", got)
	}
}

func TestWhatCannotBeConfigured(t *testing.T) {
	good := Config{Name: "front", D0: "GPIO17", D1: "pin 12"}
	for want, change := range map[string]func(*Config){
		"name":       func(c *Config) { c.Name = "" },
		"d0:":        func(c *Config) { c.D0 = "pin 6" },
		"d1:":        func(c *Config) { c.D1 = "" },
		"one line":   func(c *Config) { c.D1 = "pin 11" },
		"keypad":     func(c *Config) { c.Keypad = "26-bit" },
		"enter":      func(c *Config) { c.Enter = "A" },
		"22ms":       func(c *Config) { c.Gap = 5 * ms },
		"60ms":       func(c *Config) { c.Gap = time.Second },
		`"h10302"`:   func(c *Config) { c.Formats = []string{"37"} },
		"have the s": func(c *Config) { c.Formats = []string{"h10302", "h10304"} },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want something with %q", err, want)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}

func TestTheSuite(t *testing.T) {
	devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
		w := newWire()
		r, err := New(Config{Name: "front", Open: w.open})
		if err != nil {
			t.Fatal(err)
		}
		return devicetest.Subject{
			Reader: r, Name: "front",
			Cards: [2]devicetest.Card{
				{Tap: func() { w.frame(alice) }, Medium: "w26", Value: "123-45678"},
				{Tap: func() { w.frame(bob) }, Medium: "w26", Value: "7-65534"},
			},
			Misread: func() { w.frame(alice[:20]) },
			Unplug:  w.unplug, Replug: w.replug,
		}
	})
}

func TestFiftyReplugsLeaveNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, newWire(), nil)
		b.want("up")
		for range 50 {
			b.w.unplug()
			b.want("down")
			b.w.replug()
			b.want("up")
		}
		b.stop()
	})
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	if !slices.Contains(Formats(), "h10302") || !slices.Contains(Keypads(), "8-bit") {
		t.Error("a format or a keypad has gone")
	}
}
