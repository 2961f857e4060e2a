package pn532

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/conntest"
	"periph.io/x/conn/v3/i2c/i2ctest"
	"periph.io/x/conn/v3/spi"

	"punchclock/device"
	"punchclock/device/devicetest"
)

const a, b, c10 = "DEADBEEF", "04A1B2C3D4E580", "04A1B2C3D4E5801122AA"

var (
	cardA = devicetest.NewTag(a)
	cardB = devicetest.NewTag(b)
	cardC = devicetest.NewTag(c10)
	phone = devicetest.NewTag("08112233")
)

func init() {
	cardA.SAK, phone.SAK = 0x08, 0x20
	cardC.SAK, cardC.ATS = 0x20, []byte{0x05, 0x78, 0x80, 0x70, 0x02}
}

func at(ms int, do func(*sim)) devicetest.At[*sim] { return devicetest.At[*sim]{MS: ms, Do: do} }

func cards(c ...*tag) func(*sim) { return func(s *sim) { s.Lay(c...) } }

// play runs a reader of the simulator on the virtual clock and returns what it told.
func play(t *testing.T, how string, s *sim, run time.Duration, script ...devicetest.At[*sim]) (got []string, logged string) {
	t.Helper()
	r := onEachLink(s)[how]
	var log bytes.Buffer
	r.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	return devicetest.Play(t, r, s, run, script...), log.String()
}

func onEvery(t *testing.T, f func(t *testing.T, how string)) {
	for _, how := range links {
		t.Run(how, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, how) }) })
	}
}

var want = devicetest.Told

func TestCardsOfAllLengthsAreReadOnEveryWire(t *testing.T) {
	onEvery(t, func(t *testing.T, how string) {
		got, _ := play(t, how, devicetest.NewPN532(), 20*time.Second, at(3000, cards(cardA)), at(3500, cards()),
			at(5000, cards(cardB)), at(5500, cards()), at(7000, cards(cardC)), at(7300, cards()), at(7500, cards(cardA)), at(7900, cards()))
		want(t, got, "up", a, b, c10, a)
	})
}

func TestACardThatStaysIsOneTap(t *testing.T) {
	for _, shy := range []bool{false, true} {
		onEvery(t, func(t *testing.T, how string) {
			s := devicetest.NewPN532()
			s.Shy = shy
			minutes := 60
			if testing.Short() {
				minutes = 3
			}
			end := minutes * 60_000
			got, _ := play(t, how, s, time.Duration(end)*time.Millisecond, at(1000, cards(cardA)), at(end-5000, cards()), at(end-4000, cards(cardA)))
			want(t, got, "up", a, a)
		})
	}
}

func TestTwoCardsAtOnceAreNone(t *testing.T) {
	for _, shy := range []bool{false, true} {
		onEvery(t, func(t *testing.T, how string) {
			s := devicetest.NewPN532()
			s.Shy = shy
			got, _ := play(t, how, s, 20*time.Second, at(1000, cards(cardA, cardB)), at(5000, cards()), at(6000, cards(cardB)))
			want(t, got, "up", "two try", b)
		})
	}
}

func TestAPhoneIsRefusedByName(t *testing.T) {
	onEvery(t, func(t *testing.T, how string) {
		other := devicetest.NewTag("08998877")
		got, _ := play(t, how, devicetest.NewPN532(), 10*time.Second, at(1000, cards(phone)), at(1500, cards()), at(1600, cards(other)), at(2000, cards()), at(3000, cards(cardA)))
		want(t, got, "up", "random try", a)
	})
}

func TestATapIsAnsweredWithinATenthOfASecond(t *testing.T) {
	onEvery(t, func(t *testing.T, how string) {
		for _, ms := range []int{1000, 2001, 2333, 2777, 2990, 60_123} {
			s := devicetest.NewPN532()
			r := onEachLink(s)[how]
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			out := make(chan device.Event)
			done := make(chan error, 1)
			began := time.Now()
			go func() { done <- r.Run(ctx, out) }()
			<-out // up
			go func() {
				time.Sleep(time.Until(began.Add(time.Duration(ms) * time.Millisecond)))
				s.Do(cards(cardA))
			}()
			ev := <-out
			if took := time.Since(began) - time.Duration(ms)*time.Millisecond; took > 150*time.Millisecond || ev.Value != a {
				t.Errorf("tapped at %d ms: %v after %v", ms, ev.Value, took)
			}
			cancel()
			<-done
		}
	})
}

// Each fault of the wire, and what must come of it.
func TestFaultsOfTheWireNeverMakeAnotherCard(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*sim)
		want  []string
	}{
		"two commands without an ACK":   {func(s *sim) { s.Deaf = 2 }, []string{"up", a}},
		"an ACK that is lost":           {func(s *sim) { s.LostAck = 1 }, []string{"up", a}},
		"an answer with a wrong sum":    {func(s *sim) { s.BadSum = 1 }, []string{"up", a}}, // asked for again
		"an answer that ends early":     {func(s *sim) { s.Short = 1 }, []string{"up", a}},
		"three answers with wrong sums": {func(s *sim) { s.BadSum = 3 }, []string{"up", "checksum", a}},
		"nine answers with wrong sums":  {func(s *sim) { s.BadSum = 9 }, []string{"up", "checksum", "checksum try", a}},
		"thirty of them: started again": {func(s *sim) { s.BadSum = 31 }, []string{"up", "checksum", "checksum try", "down", "up", a}},
	} {
		t.Run(name, func(t *testing.T) {
			onEvery(t, func(t *testing.T, how string) {
				got, _ := play(t, how, devicetest.NewPN532(), 12*time.Second, at(1000, c.fault), at(1001, cards(cardA)))
				for i, s := range got {
					if strings.HasPrefix(s, "down") {
						got[i] = "down"
					}
				}
				// A piece of a frame is silence on a UART and a frame of zeros on a wire.
				got = slices.DeleteFunc(got, func(s string) bool { return s == "timeout" || s == "length" })
				want(t, got, c.want...)
			})
		})
	}
}

func TestAChipThatHangsOrGoesComesBack(t *testing.T) {
	for name, fault := range map[string]struct{ on, off func(*sim) }{
		"without power":              {func(s *sim) { s.Gone = true }, func(s *sim) { s.Gone = false; s.Reset() }},
		"hung":                       {func(s *sim) { s.Hung = true }, func(s *sim) { s.Hung = false; s.Reset() }},
		"without power for a moment": {func(s *sim) { s.Reset() }, func(*sim) {}},
	} {
		t.Run(name, func(t *testing.T) {
			onEvery(t, func(t *testing.T, how string) {
				got, _ := play(t, how, devicetest.NewPN532(), 30*time.Second, at(1000, cards(cardA)), at(1500, cards()),
					at(5000, fault.on), at(12000, fault.off), at(14000, cards(cardB)))
				if len(got) != 5 || !strings.HasPrefix(got[2], "down: reader front: ") {
					t.Fatalf("%q", got)
				}
				got[2] = "down"
				want(t, got, "up", a, "down", "up", b)
			})
		})
	}
}

func TestAMissingChipIsToldOnceAndWhatToDo(t *testing.T) {
	onEvery(t, func(t *testing.T, how string) {
		s := devicetest.NewPN532()
		s.Hung = true
		got, logged := play(t, how, s, 5*time.Minute)
		if len(got) != 1 || !strings.Contains(got[0], "check its power, its wires, and its switches") {
			t.Errorf("%q", got)
		}
		if logged != "" {
			t.Errorf("log:\n%s", logged)
		}
	})
}

func TestAnotherChipIsNotTakenForAPN532(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chip{link: &scripted{frames: []frame{{kind: nothing}, {kind: ack}, {kind: answer, data: []byte{0x15}}, {kind: ack}, {kind: answer, data: []byte{0x03, 0x07, 0x01, 0x06, 0x07}}}}}
		if err := c.start(t.Context(), false); err == nil || !strings.Contains(err.Error(), "no PN532") {
			t.Errorf("%v", err)
		}
		c = &chip{link: &scripted{frames: []frame{{kind: nothing}, {kind: ack}, {kind: refused}}}}
		if err := c.start(t.Context(), false); err == nil {
			t.Error("an error frame is no answer")
		}
	})
}

// scripted is a link that says what it is told to.
type scripted struct{ frames []frame }

func (s *scripted) wake(context.Context) error { return nil }
func (s *scripted) send([]byte) error          { return nil }
func (s *scripted) close() error               { return nil }
func (s *scripted) receive(_ context.Context, wait time.Duration) (frame, error) {
	if len(s.frames) == 0 || s.frames[0].kind == nothing {
		time.Sleep(max(wait, time.Millisecond))
		if len(s.frames) == 0 {
			return frame{}, nil
		}
	}
	f := s.frames[0]
	s.frames = s.frames[1:]
	return f, nil
}

func TestTheChipLooksForCardsAndNobodyElseWakesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := devicetest.NewPN532()
		play(t, "hsu", s, 10*time.Minute)
		lists := 0
		for _, c := range s.Commands {
			if c == "4A" {
				lists++
			}
		}
		if !s.Forever || lists > 310 || lists < 290 {
			t.Errorf("asked %d times in ten minutes, for ever: %v", lists, s.Forever)
		}
	})
	// With IRQ: of each command the line tells, and what is asked is whether the chip is
	// still there. Between two of those nothing happens at all.
	synctest.Test(t, func(t *testing.T) {
		s := devicetest.NewPN532()
		line, waits := &asked{PN532SPI: s.SPI()}, 0
		r := onEachLink(s)["spi"]
		r.open = func() (link, error) { return line.with(simIRQ{s, &waits}), nil }
		devicetest.Play(t, r, s, 10*time.Minute)
		if line.times > 300*6+20 || waits > 300*3+20 {
			t.Errorf("asked %d times and waited %d times in ten minutes", line.times, waits)
		}
		if len(s.Commands) < 290 || s.Commands[0] != "14" {
			t.Errorf("%d commands, %.10v", len(s.Commands), s.Commands)
		}
	})
}

// stuck is a line IRQ that is always low: it hangs on the wrong pin, or on ground.
type stuck struct{}

func (stuck) wait(context.Context, time.Duration) bool { return true }
func (stuck) close() error                             { return nil }

// asked counts how often a chip is asked.
type asked struct {
	devicetest.PN532SPI
	times int
}

func (a *asked) Tx(w, r []byte) error {
	a.times++
	return a.PN532SPI.Tx(w, r)
}

// with wires it so.
func (a *asked) with(irq interrupt) *polled {
	return &polled{wire: &spiWire{conn: a, closer: func() error { return nil }}, irq: irq}
}

// loose is a line IRQ that says nothing any more from some moment on.
type loose struct {
	simIRQ
	from time.Time
}

func (l loose) wait(ctx context.Context, d time.Duration) bool {
	if time.Now().Before(l.from) {
		return l.simIRQ.wait(ctx, d)
	}
	device.Sleep(ctx, d)
	return false
}

func TestALineThatSaysNothingLosesNoTap(t *testing.T) {
	for name, after := range map[string]time.Duration{"from the start": 0, "after a while": 5*time.Second + 300*time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := devicetest.NewPN532()
				line := &asked{PN532SPI: s.SPI()}
				r := onEachLink(s)["spi"]
				irq := loose{simIRQ{s, new(int)}, time.Now().Add(after)}
				r.open = func() (link, error) { return line.with(irq), nil }
				want(t, devicetest.Play(t, r, s, time.Minute, at(5500, cards(cardA)), at(8000, cards()), at(30_000, cards(cardB)), at(30_700, cards())), "up", a, b)
				if line.times > 60*10 {
					t.Errorf("asked %d times in a minute", line.times)
				}
			})
		})
	}
}

func TestALineThatIsStuckTakesNoProcessorAndLosesNoTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := devicetest.NewPN532()
		line := &asked{PN532SPI: s.SPI()}
		r := onEachLink(s)["spi"]
		r.open = func() (link, error) {
			return line.with(stuck{}), nil
		}
		want(t, devicetest.Play(t, r, s, time.Minute, at(30_000, cards(cardA))), "up", a)
		if line.times > 60*60 {
			t.Errorf("asked %d times in a minute", line.times)
		}
	})
}

func TestI2CLeavesTheChipItsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := devicetest.NewPN532()
		bus := s.I2C()
		bus.Naps = 2 // asleep: the first two are not acknowledged
		r := onEachLink(s)["i2c"]
		r.open = func() (link, error) { return &polled{wire: &i2cWire{bus: bus}}, nil }
		s.Do(cards(cardB))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		out := make(chan device.Event, 8)
		r.Run(ctx, out)
		if ev := <-out; ev.What != device.Up {
			t.Errorf("%+v", ev)
		}
		if ev := <-out; ev.Value != b {
			t.Errorf("%+v", ev)
		}
		if bus.Fast {
			t.Error("less than 5 ms between a stop and the next start")
		}
	})
}

// What goes over an I²C bus, written down from the manual: status bytes before each
// read, the frames of the reference.
func TestI2CPlaysTheManualsConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pad := func(s string) []byte { return append(unhex(t, s), make([]byte, 1+mostReply-len(unhex(t, s)))...) }
		write := func(s string) i2ctest.IO { return i2ctest.IO{Addr: 0x24, W: unhex(t, s)} }
		status := func(b byte) i2ctest.IO { return i2ctest.IO{Addr: 0x24, R: []byte{b}} }
		read := func(s string) i2ctest.IO { return i2ctest.IO{Addr: 0x24, R: pad(s)} }
		ackRead := read("01 00 00 FF 00 FF 00")
		bus := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{
			status(0),
			write("00 00 FF 00 FF 00"), status(0), status(0), status(0), status(0),
			write("00 00 FF 05 FB D4 14 01 00 00 17 00"), status(1), ackRead, status(1), read("01 00 00 FF 02 FE D5 15 16 00"),
			write("00 00 FF 02 FE D4 02 2A 00"), status(1), ackRead, status(1), read("01 00 00 FF 06 FA D5 03 32 01 06 07 E8 00"),
			write("00 00 FF 06 FA D4 32 05 FF 01 FF F6 00"), status(1), ackRead, status(1), read("01 00 00 FF 02 FE D5 33 F8 00"),
			write("00 00 FF 04 FC D4 4A 01 00 E1 00"), status(1), ackRead, status(0), status(1), read("01 " + four),
		}}
		c := &chip{link: &polled{wire: &i2cWire{bus: bus}}}
		if err := c.start(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		uids, err := c.list(t.Context(), time.Second, 1)
		if err != nil || len(uids) != 1 || fmt.Sprintf("%X", uids[0]) != a {
			t.Errorf("%X, %v", uids, err)
		}
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
}

// spiPlayback is a recording of an SPI bus, which is written down as the chip sees it.
type spiPlayback struct{ *conntest.Playback }

func (spiPlayback) TxPackets([]spi.Packet) error { return nil }

func TestSPIPlaysTheManualsConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turned := func(s string, n int) []byte {
			b := unhex(t, s)
			b = append(b, make([]byte, n-len(b))...)
			for i := range b {
				var v byte
				for j := range 8 {
					v |= b[i] >> j & 1 << (7 - j)
				}
				b[i] = v
			}
			return b
		}
		write := func(s string) conntest.IO {
			w := turned("01 "+s, 1+len(unhex(t, s)))
			return conntest.IO{W: w, R: make([]byte, len(w))}
		}
		status := func(s string) conntest.IO { return conntest.IO{W: turned("02", 2), R: turned(s, 2)} }
		read := func(s string) conntest.IO {
			return conntest.IO{W: turned("03", 1+mostReply), R: turned("00 "+s, 1+mostReply)}
		}
		line := &conntest.Playback{DontPanic: true, Ops: []conntest.IO{
			write("00 00 FF 04 FC D4 4A 01 00 E1 00"), status("00 00"), status("00 01"), read("00 00 FF 00 FF 00"),
			status("FF 00"), status("00 01"), read(seven),
		}}
		c := &chip{link: &polled{wire: &spiWire{conn: spiPlayback{line}}}}
		uids, err := c.list(t.Context(), time.Second, 1)
		if err != nil || len(uids) != 1 || fmt.Sprintf("%X", uids[0]) != b {
			t.Errorf("%X, %v", uids, err)
		}
		if err := line.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestPN532KeepsTheReadersContract(t *testing.T) {
	for _, how := range []string{"hsu", "i2c+irq", "spi"} {
		t.Run(how, func(t *testing.T) {
			devicetest.TestReader(t, func(t *testing.T) devicetest.Subject { return subject(how) })
		})
	}
}

func subject(how string) devicetest.Subject {
	s := devicetest.NewPN532()
	return subjectOf(s, onEachLink(s)[how])
}

func subjectOf(s *sim, r *Reader) devicetest.Subject {
	tap := func(c *tag) func() { return devicetest.Spaced(func() { s.Hold(c) }) }
	return devicetest.Subject{
		Reader:  r,
		Name:    "front",
		Cards:   [2]devicetest.Card{{Tap: tap(cardA), Medium: "uid", Value: a}, {Tap: tap(cardB), Medium: "uid", Value: b}},
		Misread: func() { s.Hold(devicetest.NewTag("8804A1B2")) },
		Unplug:  func() { s.Do(func(s *sim) { s.Gone = true }) },
		Replug:  func() { s.Do(func(s *sim) { s.Gone = false; s.Reset() }) },
	}
}

func TestFiftyUnplugsLeaveNothingBehind(t *testing.T) {
	cycles := 50
	if testing.Short() {
		cycles = 3
	}
	for _, how := range []string{"hsu", "i2c", "spi"} {
		synctest.Test(t, func(t *testing.T) {
			s := devicetest.NewPN532()
			sub := subjectOf(s, onEachLink(s)[how])
			devicetest.Unplugs(t, sub.Reader, cycles, sub.Unplug, sub.Replug, func() { s.Do(cards(cardA)) }, func() { s.Do(cards()) })
		})
	}
}

// An hour of an empty field, in this program's own time: what a wire costs comes on
// top, one small transfer each time.
func TestAnEmptyFieldCostsLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN with -short: figures are for the machine itself")
	}
	for _, how := range links {
		var s *sim
		share := devicetest.EmptyHour(t, func() device.Reader {
			s = devicetest.NewPN532()
			return onEachLink(s)[how]
		})
		t.Logf("%s: %.4f %% of a core, %d commands", how, 100*share, len(s.Commands))
	}
}

func TestABadSettingIsRefusedWithWhatToWriteInstead(t *testing.T) {
	open := func() (Serial, error) { return nil, nil }
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Link: "hsu", Serial: open}, "no name"},
		{Config{Name: "front", Link: "usb"}, "use hsu, i2c, spi"},
		{Config{Name: "front", Link: "hsu"}, "no serial port"},
		{Config{Name: "front", Link: "hsu", Serial: open, IRQ: "GPIO4"}, "leave irq out"},
		{Config{Name: "front", Link: "i2c"}, "/dev/i2c-1"},
	} {
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want something with %q", c.cfg, err, c.want)
		}
	}
}
