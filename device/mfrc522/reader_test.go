package mfrc522

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/conntest"
	"periph.io/x/conn/v3/spi"

	"punchclock/device"
	"punchclock/device/devicetest"
)

var card = devicetest.NewTag

const a, b, c10 = "DEADBEEF", "04A1B2C3D4E580", "04A1B2C3D4E5801122AA"

func at(ms int, do func(*sim)) devicetest.At[*sim] { return devicetest.At[*sim]{MS: ms, Do: do} }

func lay(c ...*tag) func(*sim) { return func(s *sim) { s.Lay(c...) } }

// play runs a reader of the simulator on the virtual clock and returns what it told.
func play(t *testing.T, s *sim, run time.Duration, script ...devicetest.At[*sim]) (got []string, logged string) {
	t.Helper()
	r := readerOf(s)
	var log bytes.Buffer
	r.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	return devicetest.Play(t, r, s, run, script...), log.String()
}

var want = devicetest.Told

func TestCardsOfAllLengthsAreReadWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := devicetest.NewMFRC522()
		got, _ := play(t, s, 20*time.Second, at(1000, lay(card(a))), at(1500, lay()), at(3000, lay(card(b))), at(3500, lay()),
			at(5000, lay(card(c10))), at(5300, lay()), at(5500, lay(card(a))), at(5900, lay()))
		want(t, got, "up", a, b, c10, a)
		// As the reference has them.
		for _, golden := range []string{"26", "9320", "9370DEADBEEF22B99C", "500057CD", "93708804A1B29FAE4B", "9520", "9570C3D4E580723BB1"} {
			if !slices.ContainsFunc(s.Sent, func(f []byte) bool { return strings.EqualFold(hex.EncodeToString(f), golden) }) {
				t.Errorf("never sent %s", golden)
			}
		}
	})
}

func TestACardThatStaysIsOneTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := card(b)
		script := []devicetest.At[*sim]{at(1000, lay(c))}
		for i := range 20 { // it loses its power for a moment, now and then
			script = append(script, at(5000+i*1000, func(*sim) { c.Unpower() }))
		}
		script = append(script, at(30_000, lay()), at(30_500, lay(c)), at(32_000, lay()), at(33_000, lay(c)))
		got, _ := play(t, devicetest.NewMFRC522(), time.Minute, script...)
		want(t, got, "up", b, b)
	})
}

func TestTwoCardsAtOnceAreNone(t *testing.T) {
	for _, pair := range [][2]string{{a, b}, {a, "DEADBEEE"}, {b, "04A1B2C3D4E581"}, {b, "04A1B3C3D4E580"}, {c10, b}, {"01020304", "FFFFFFFF"}, {"00000080", "00000000"}} {
		synctest.Test(t, func(t *testing.T) {
			got, _ := play(t, devicetest.NewMFRC522(), 20*time.Second, at(1000, lay(card(pair[0]), card(pair[1]))), at(5000, lay()), at(6000, lay(card(pair[1]))))
			want(t, got, "up", "two try", pair[1])
		})
	}
	synctest.Test(t, func(t *testing.T) {
		got, _ := play(t, devicetest.NewMFRC522(), 20*time.Second, at(1000, lay(card(a), card(b), card(c10))), at(5000, lay()), at(6000, lay(card(b))))
		want(t, got, "up", "two try", b)
	})
	// A card lies there, forgotten; the others punch beside it.
	synctest.Test(t, func(t *testing.T) {
		forgotten, other := card(a), card(b)
		got, _ := play(t, devicetest.NewMFRC522(), 20*time.Second, at(1000, lay(forgotten)), at(5000, lay(forgotten, other)), at(5500, lay(forgotten)),
			at(8000, lay(forgotten, other)), at(8300, lay(forgotten)), at(15000, lay()), at(16000, lay(forgotten)))
		want(t, got, "up", a, b, b, a)
	})
}

func TestOfTwoCardsOfWhichOneCannotBeReadNoneIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weak := card(b)
		weak.BadCRC = true
		other := card(a)
		got, _ := play(t, devicetest.NewMFRC522(), 20*time.Second, at(1000, lay(other, weak)), at(3000, lay()), at(5000, lay(other)))
		want(t, got, "up", "checksum", "checksum try", a)
	})
}

func TestAPhoneIsRefusedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, _ := play(t, devicetest.NewMFRC522(), 10*time.Second, at(1000, lay(card("08112233"))), at(1400, lay()), at(1500, lay(card("08998877"))), at(4000, lay()), at(5000, lay(card(a))))
		want(t, got, "up", "random try", a)
	})
}

func TestATapIsReadWithinATenthOfASecond(t *testing.T) {
	for name, stray := range map[string]func(n int, s *sim){
		"nothing else":     func(int, *sim) {},
		"bytes picked up":  func(_ int, s *sim) { s.Stray(false) },
		"frames picked up": func(_ int, s *sim) { s.Stray(true) },
		"both":             func(n int, s *sim) { s.Stray(n%2 == 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := devicetest.NewMFRC522()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				out := make(chan device.Event)
				done := make(chan error, 1)
				go func() { done <- readerOf(s).Run(ctx, out) }()
				go func() {
					for n := 0; ctx.Err() == nil; n++ {
						s.Do(func(s *sim) { stray(n, s) })
						device.Sleep(ctx, 37*time.Millisecond)
					}
				}()
				<-out
				for i := range 50 {
					time.Sleep(2*time.Second + time.Duration(i)*7*time.Millisecond)
					tapped := time.Now()
					s.Do(lay(card(c10)))
					select {
					case ev := <-out:
						if took := ev.Last.Sub(tapped); took > 150*time.Millisecond || ev.Value != c10 {
							t.Errorf("%v after %v", ev.Value, took)
						}
					case <-time.After(time.Second):
						t.Fatal("a tap was not heard")
					}
					s.Do(lay())
				}
				cancel()
				<-done
			})
		})
	}
}

func TestABadAnswerNeverMakesACard(t *testing.T) {
	for name, spoil := range map[string]func(*tag){
		"check of the four bytes": func(c *tag) { c.BadBCC = true },
		"check of the SAK":        func(c *tag) { c.BadCRC = true },
		"an answer cut short":     func(c *tag) { c.Short = true },
		// The cascade tag and three bytes are no UID, whatever the SAK says.
		"a UID that ends too soon": func(c *tag) { c.NoMore = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := card(b)
				spoil(c)
				got, _ := play(t, devicetest.NewMFRC522(), 10*time.Second, at(1000, lay(c)), at(3000, lay()), at(4000, lay(card(a))))
				if len(got) != 4 || got[0] != "up" || !strings.HasSuffix(got[2], " try") || strings.TrimSuffix(got[2], " try") != got[1] || got[3] != a {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

func TestAMegabyteOfNoiseOnTheWireIsNoPunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := devicetest.NewMFRC522()
		s.Wild = rand.New(rand.NewPCG(1, 2))
		run, noise := 40*time.Hour, 1<<20
		if testing.Short() { // as other processors' code
			run, noise = run/40, noise/40
		}
		got, logged := play(t, s, run, at(int(run/time.Millisecond)-60_000, func(s *sim) { s.Wild = nil; s.Lay(card(b)) }))
		if s.Noisy < noise {
			t.Errorf("%d bytes of noise", s.Noisy)
		}
		cards := 0
		for _, what := range got {
			if what == b {
				cards++
			} else if what != "up" && what != "fault" && !strings.HasPrefix(what, "down") && !slices.Contains([]string{device.FaultChecksum, device.FaultNoise, device.FaultLength, device.FaultTwo + " try", device.FaultRandom + " try"}, strings.TrimSuffix(what, " try")) {
				t.Errorf("noise became %q", what)
			}
		}
		if cards != 1 {
			t.Errorf("the card after the noise was read %d times", cards)
		}
		if n := strings.Count(logged, "\n"); n > int(run/time.Minute) {
			t.Errorf("%d lines in the log", n)
		}
	})
}

func TestAWeakMomentIsNotToldToThePerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, _ := play(t, devicetest.NewMFRC522(), 5*time.Second, at(1000, func(s *sim) { s.Noise = 4; s.Lay(card(b)) }))
		want(t, got, "up", "checksum", b)
	})
}

func TestAChipThatIsNotThereIsToldOnceAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*sim)
		want string
	}{
		{"no wires", func(s *sim) { s.Gone = true }, "check SDA, SCK, MOSI, MISO, GND and 3.3 V, and that RST is tied to 3.3 V"},
		{"shorted", func(s *sim) { s.Zero = true }, "version 00"},
		{"another chip", func(s *sim) { s.Version = 0x12 }, "no MFRC522 (version 12)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := devicetest.NewMFRC522()
				c.do(s)
				got, logged := play(t, s, 5*time.Minute)
				if len(got) != 1 || !strings.Contains(got[0], c.want) || logged != "" {
					t.Errorf("%q, log %q", got, logged)
				}
			})
		})
	}
}

func TestAChipThatGoesComesBack(t *testing.T) {
	for name, c := range map[string][2]func(*sim){
		"the wires":   {func(s *sim) { s.Gone = true }, func(s *sim) { s.Gone = false }},
		"the bus":     {func(s *sim) { s.Zero = true }, func(s *sim) { s.Zero = false }},
		"its store":   {func(s *sim) { s.Over = true; s.Lay(card(b)) }, func(s *sim) { s.Over = false; s.Lay() }},
		"its version": {func(s *sim) { s.Version = 0x80 }, func(s *sim) { s.Version = 0x91 }},
		"its power":   {func(s *sim) { s.Reset() }, func(*sim) {}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := devicetest.NewMFRC522()
				got, _ := play(t, s, 30*time.Second, at(1000, lay(card(a))), at(1500, lay()), at(5000, c[0]), at(5150, c[1]), at(8000, lay(card(b))))
				if len(got) != 5 || !strings.HasPrefix(got[2], "down: reader front: /dev/spidev0.0: ") {
					t.Fatalf("%q", got)
				}
				got[2] = "down"
				want(t, got, "up", a, "down", "up", b)
			})
		})
	}
}

// The clones answer too.
func TestEveryVersionOfTheChipIsTaken(t *testing.T) {
	for version := range versions {
		synctest.Test(t, func(t *testing.T) {
			s := devicetest.NewMFRC522()
			s.Version = version
			got, _ := play(t, s, 3*time.Second, at(1000, lay(card(b))))
			want(t, got, "up", b)
		})
	}
}

func TestMFRC522KeepsTheReadersContract(t *testing.T) {
	devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
		s := devicetest.NewMFRC522()
		return subjectOf(s, readerOf(s))
	})
}

func TestFiftyUnplugsLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := devicetest.NewMFRC522()
		gone := func(gone bool) func() { return func() { s.Do(func(s *sim) { s.Gone = gone }) } }
		devicetest.Unplugs(t, readerOf(s), 50, gone(true), gone(false), func() { s.Do(lay(card(a))) }, func() { s.Do(lay()) })
	})
}

// A bus that runs faster than it was asked to, up to the 10 MHz of the chip, brings the
// question for an answer before there is one.
func TestABusThatIsTooFastLosesNoTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := devicetest.NewMFRC522()
		s.Hertz = 10_000_000
		got, _ := play(t, s, 20*time.Second, at(1000, lay(card(a))), at(1500, lay()), at(3000, lay(card(b))), at(3500, lay()), at(5000, lay(card(c10))))
		want(t, got, "up", a, b, c10)
	})
}

// An hour of an empty field: one call of the kernel, of five transfers, and one wake-up
// for each look, and what this program itself takes.
func TestAnEmptyFieldCostsLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN with -short: figures are for the machine itself")
	}
	s := devicetest.NewMFRC522()
	share := devicetest.EmptyHour(t, func() device.Reader { return readerOf(s) })
	t.Logf("%.4f %% of a core, simulator included; %.1f calls and %.1f transfers a second", 100*share, float64(s.Calls)/3600, float64(s.Transfers)/3600)
	if s.Calls > 36_100 || s.Transfers > 5*36_100 {
		t.Errorf("%d calls and %d transfers in an hour", s.Calls, s.Transfers)
	}
}

// recorded replays what went over a bus, access by access, and wants the same again.
type recorded struct{ *conntest.Playback }

func (r recorded) TxPackets(ps []spi.Packet) error {
	for _, p := range ps {
		if err := r.Tx(p.W, p.R); err != nil {
			return err
		}
	}
	return nil
}

// A card of seven bytes as it was recorded, each line an access: what was written,
// what came back.
func TestARecordedSessionPlaysBack(t *testing.T) {
	text, err := os.ReadFile("testdata/seven-bytes.txt")
	if err != nil {
		t.Fatal(err)
	}
	tape := &conntest.Playback{DontPanic: true}
	for line := range strings.Lines(string(text)) {
		if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) == "" {
			continue
		}
		// EE*250. is a byte 250 times.
		line = regexp.MustCompile(`(..)\*(\d+)\.`).ReplaceAllStringFunc(line, func(s string) string {
			n, err := strconv.Atoi(s[3 : len(s)-1])
			if err != nil {
				t.Fatal(err)
			}
			return strings.Repeat(s[:2], n)
		})
		w, r, _ := strings.Cut(strings.TrimSpace(line), " ")
		wb, err1 := hex.DecodeString(w)
		rb, err2 := hex.DecodeString(r)
		if err1 != nil || err2 != nil {
			t.Fatal(line)
		}
		tape.Ops = append(tape.Ops, conntest.IO{W: wb, R: rb})
	}
	synctest.Test(t, func(t *testing.T) {
		c := &chip{conn: recorded{tape}}
		if err := c.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		there, err := request(t.Context(), c, reqA)
		if !there || err != nil {
			t.Fatalf("%v, %v", there, err)
		}
		uid, many, err := readUID(t.Context(), c)
		if fmt.Sprintf("%X", uid) != b || many || err != nil {
			t.Errorf("%X, %v, %v", uid, many, err)
		}
		if err := halt(t.Context(), c); err != nil {
			t.Error(err)
		}
		if err := tape.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestABadSettingIsRefusedWithWhatToWriteInstead(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{{Config{Port: "/dev/spidev0.0"}, "no name"}, {Config{Name: "front"}, "/dev/spidev0.0"}} {
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
	if _, _, err := openPort("/dev/ttyUSB0"); err == nil || !strings.Contains(err.Error(), "/dev/spidev0.0") {
		t.Errorf("%v", err)
	}
	if _, _, err := openPort("/dev/spidev77.7"); err == nil || !strings.Contains(err.Error(), "dtparam=spi=on") {
		t.Errorf("%v", err)
	}
}
