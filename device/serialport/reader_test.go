package serialport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// script runs a reader over what open gives, on the virtual clock, and returns
// what it told: the time since its start, in milliseconds, and the event.
func script(t *testing.T, cfg Config, run time.Duration) (got []string, logged string) {
	t.Helper()
	var log bytes.Buffer
	cfg.Name = "front"
	if cfg.Dialect == "" {
		cfg.Dialect = "rdm6300"
	}
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), run)
	defer cancel()
	out := make(chan device.Event)
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- r.Run(ctx, out) }()
	for {
		select {
		case ev := <-out:
			s := fmt.Sprintf("%d %v", time.Since(began).Milliseconds(), ev.What)
			switch ev.What {
			case device.Card:
				s += fmt.Sprintf(" %s:%s/%d", ev.Medium, ev.Value, ev.Bits)
			case device.Fault:
				s += " " + ev.Fault
				if ev.Try {
					s += " try"
				}
			}
			got = append(got, s)
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v", err)
			}
			if late := time.Since(began) - run; late > 600*time.Millisecond {
				t.Errorf("Run ended %v after its context", late)
			}
			return got, log.String()
		}
	}
}

func wantScript(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const ms = time.Millisecond

func TestAFrameIsReadHoweverItIsSplit(t *testing.T) {
	for dialect, whole := range map[string]string{"rdm6300": rdm, "id12la": id12, "idteck": idteck, "parallax": prlx, "hex-line": "06001259E3\r\n"} {
		for i := 1; i < len(whole); i++ {
			synctest.Test(t, func(t *testing.T) {
				p := devicetest.NewPort(
					devicetest.Step{After: time.Second, Data: whole[:i]},
					devicetest.Step{After: 16 * ms, Data: whole[i:]})
				got, _ := script(t, Config{Open: devicetest.Openings(p), Dialect: dialect}, 3*time.Second)
				at := "1016"
				if i > strings.LastIndexAny(whole, "3\r") && dialect == "hex-line" {
					at = "1000" // the CR had come
				}
				wantScript(t, got, "200 up", at+" card em:06001259E3/40")
			})
		}
	}
}

func TestSilenceInsideAFrameIsToldWithoutWaitingForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := devicetest.NewPort(
			devicetest.Step{After: time.Second, Data: rdm[:9]},
			devicetest.Step{After: 60 * ms, Data: rdm[9:]},
			devicetest.Step{After: time.Second, Data: rdm})
		got, _ := script(t, Config{Open: devicetest.Openings(p)}, 4*time.Second)
		wantScript(t, got, "200 up", "1050 fault timeout try", "1060 fault noise", "2060 card em:06001259E3/40")
	})
}

func TestAPortWithoutASettableTimeoutStillNoticesSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := devicetest.NewPort(
			devicetest.Step{After: time.Second, Data: rdm[:9]},
			devicetest.Step{After: 60 * ms, Data: rdm},
			devicetest.Step{After: 2 * time.Second, Data: rdm[:9]},
			devicetest.Step{After: 40 * ms, Data: rdm[9:]})
		got, _ := script(t, Config{Open: devicetest.Openings(devicetest.Untimed(p))}, 5*time.Second)
		wantScript(t, got, "500 up", "1060 fault timeout try", "1060 card em:06001259E3/40", "3100 card em:06001259E3/40")
	})
}

func TestALineWithoutTerminatorIsATapFiftyMillisecondsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := devicetest.NewPort(
			devicetest.Step{After: time.Second, Data: "00012"},
			devicetest.Step{After: 20 * ms, Data: "02659"},
			devicetest.Step{After: 2 * time.Second, Data: "01202659"})
		got, _ := script(t, Config{Open: devicetest.Openings(p), Dialect: "dec-line"}, 4*time.Second)
		wantScript(t, got, "200 up", "1070 card dec:0001202659/80", "3070 card dec:01202659/64")
	})
}

func TestACardHeldToTheReaderIsOneTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps := []devicetest.Step{{After: time.Second, Data: rdm}}
		for range 50 { // three seconds in the field
			steps = append(steps, devicetest.Step{After: 65 * ms, Data: rdm})
		}
		steps = append(steps,
			devicetest.Step{After: 700 * ms, Data: rdm},   // a weak moment
			devicetest.Step{After: 800 * ms, Data: rdm},   // taken away and held to it again
			devicetest.Step{After: 100 * ms, Data: other}, // the next person
			devicetest.Step{After: 100 * ms, Data: rdm})   // and the first one once more
		got, _ := script(t, Config{Open: devicetest.Openings(devicetest.NewPort(steps...))}, 8*time.Second)
		wantScript(t, got, "200 up", "1000 card em:06001259E3/40", "5750 card em:06001259E3/40",
			"5850 card em:0102030405/40", "5950 card em:06001259E3/40")
	})
}

func TestWhatArrivesRightAfterOpeningIsDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := devicetest.NewPort(
			devicetest.Step{After: 100 * ms, Data: rdm},
			devicetest.Step{After: 85 * ms, Data: "0001"}, // begun before, ended after: its tail has eight digits
			devicetest.Step{After: 20 * ms, Data: "20265912\r\n"},
			devicetest.Step{After: 20 * ms, Data: "0001202659\r\n"})
		got, _ := script(t, Config{Open: devicetest.Openings(p), Dialect: "dec-line"}, time.Second)
		wantScript(t, got, "200 up", "225 card dec:0001202659/80")
	})
}

func TestNoiseCannotFloodTheHouse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var steps []devicetest.Step
		for range 1000 { // ten seconds of it
			steps = append(steps, devicetest.Step{After: 10 * ms, Data: "\x02!\x00\xffgarbage\x02\x02123456789AB\x03"})
		}
		got, _ := script(t, Config{Open: devicetest.Openings(devicetest.NewPort(steps...))}, 12*time.Second)
		if n := len(got); n > 1+2*100 || n < 100 {
			t.Errorf("%d events in ten seconds of noise, want about a hundred of each sort", n)
		}
		for _, s := range got {
			if strings.Contains(s, "card") {
				t.Error(s)
			}
		}
	})
}

func TestNoiseBeforeABadFrameDoesNotHideItFromThePerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := devicetest.NewPort(devicetest.Step{After: time.Second, Data: "\x00\x0206001259E3AF\x03"})
		got, _ := script(t, Config{Open: devicetest.Openings(p)}, 2*time.Second)
		wantScript(t, got, "200 up", "1000 fault noise", "1000 fault checksum try")
	})
}

func TestUnpluggedReaderComesBackByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := devicetest.NewPort(
			devicetest.Step{After: time.Second, Data: rdm},
			devicetest.Step{After: time.Second, Data: rdm[:6]},
			devicetest.Step{After: 5 * ms, Err: syscall.EIO})
		second := devicetest.NewPort(devicetest.Step{After: 300 * ms, Data: rdm[6:] + rdm})
		missing := &fs.PathError{Op: "open", Path: "/dev/x", Err: fs.ErrNotExist}
		got, logged := script(t, Config{Open: devicetest.Openings(first, missing, missing, missing, missing, second)}, 8*time.Second)
		// Waits of 0.2, 0.4, 0.8, 1 and 1 s, then the settling time.
		wantScript(t, got, "200 up", "1000 card em:06001259E3/40", "2005 down", "5605 up",
			"5705 fault noise", "5705 card em:06001259E3/40")
		if !first.Closed() {
			t.Error("the port that is gone was not closed before it was opened again")
		}
		if n := strings.Count(logged, "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want one, for the message that is not in the event:\n%s", n, logged)
		}
		if strings.Contains(logged, "1259E3") {
			t.Errorf("log:\n%s", logged)
		}
	})
}

func TestMissingPortIsToldOnceAndTriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opens := 0
		open := func() (io.ReadCloser, error) { opens++; return nil, fs.ErrNotExist }
		got, logged := script(t, Config{Open: open}, time.Hour)
		wantScript(t, got, "0 down")
		if opens < 3600 || opens > 3605 {
			t.Errorf("opened %d times in an hour, want about once a second", opens)
		}
		if logged != "" { // the event has said it
			t.Errorf("log:\n%s", logged)
		}
	})
}

func TestEndOfFileAtOnceIsAnUnpluggedDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := devicetest.NewPort(devicetest.Step{After: time.Second, Err: io.EOF})
		got, _ := script(t, Config{Open: devicetest.Openings(p)}, 5*time.Second)
		wantScript(t, got, "200 up", "1000 down")
	})
}

func TestSilenceIsNotAnUnpluggedDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := devicetest.NewPort(devicetest.Step{After: 12 * time.Hour, Data: rdm})
		got, _ := script(t, Config{Open: devicetest.Openings(p)}, 13*time.Hour)
		wantScript(t, got, "200 up", "43200000 card em:06001259E3/40")
		if per := float64(p.Reads()) / (13 * 3600); per > 2.1 {
			t.Errorf("%.2f reads a second while idle, want 2", per)
		}
	})
}

// A machine so busy that the program gets the second half of a frame late, though
// it came in time.
type busy struct{ *devicetest.Port }

func (b busy) Read(p []byte) (int, error) {
	n, err := b.Port.Read(p)
	if n > 0 {
		time.Sleep(80 * ms)
	}
	return n, err
}

func TestABusyMachineDoesNotTearAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := devicetest.NewPort(
			devicetest.Step{After: time.Second, Data: rdm[:5]},
			devicetest.Step{After: 16 * ms, Data: rdm[5:10]},
			devicetest.Step{After: 80 * ms, Data: rdm[10:]})
		got, _ := script(t, Config{Open: devicetest.Openings(busy{p})}, 3*time.Second)
		wantScript(t, got, "200 up", "1240 card em:06001259E3/40")
	})
}

func TestATapAfterReplugIsNotTakenForARepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := devicetest.NewPort(devicetest.Step{After: time.Second, Data: rdm}, devicetest.Step{After: ms, Err: syscall.ENODEV})
		second := devicetest.NewPort(devicetest.Step{After: 250 * ms, Data: rdm})
		got, _ := script(t, Config{Open: devicetest.Openings(first, second)}, 2*time.Second)
		wantScript(t, got, "200 up", "1000 card em:06001259E3/40", "1001 down", "1401 up", "1451 card em:06001259E3/40")
	})
}

func TestTheRawFormBelongsToItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(Config{Name: "front", Dialect: "rdm6300",
			Open: devicetest.Openings(devicetest.NewPort(devicetest.Step{After: time.Second, Data: rdm + other}))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		out := make(chan device.Event, 8)
		if err := r.Run(ctx, out); err != nil {
			t.Fatal(err)
		}
		<-out // up
		for _, want := range []string{"06001259E3", "0102030405"} {
			if ev := <-out; fmt.Sprintf("%X", ev.Raw) != want || ev.Value != want {
				t.Errorf("card %s, raw %X, want %s", ev.Value, ev.Raw, want)
			}
		}
	})
}

func TestTwoEarlyEndsOfFileAreForgiven(t *testing.T) {
	l := line{src: &replies{{0, io.EOF}, {0, nil}, {1, nil}, {0, io.EOF}, {0, io.EOF}, {1, nil}, {0, io.EOF}, {0, io.EOF}, {0, io.EOF}}, timeout: readTimeout}
	for range 2 {
		if n, err := l.read(make([]byte, 1), readTimeout); n != 1 || err != nil {
			t.Fatalf("read = %d, %v", n, err)
		}
	}
	if _, err := l.read(make([]byte, 1), readTimeout); err == nil {
		t.Error("three ends of file at once are not told")
	}
	l = line{src: &replies{{0, syscall.EIO}}, timeout: readTimeout}
	if _, err := l.read(make([]byte, 1), readTimeout); !errors.Is(err, syscall.EIO) {
		t.Errorf("read = %v", err)
	}
}

type replies []struct {
	n   int
	err error
}

func (r *replies) Read([]byte) (int, error) {
	v := (*r)[0]
	*r = (*r)[1:]
	return v.n, v.err
}

func TestABadSettingIsRefusedWithWhatToWriteInstead(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Port: "/dev/x", Dialect: "rdm6300"}, "no name"},
		{Config{Name: "front", Port: "/dev/x", Dialect: "rdm630"}, "use rdm6300, id12la, idteck, parallax, raw4, hex-line, dec-line"},
		{Config{Name: "front", Dialect: "rdm6300"}, "/dev/serial/by-id"},
		{Config{Name: "front", Port: "/dev/x", Dialect: "rdm6300", Baud: 9601}, "9600"},
	} {
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want something with %q", c.cfg, err, c.want)
		}
	}
}
