package stdin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
)

func TestALineIsABadgeOrAKey(t *testing.T) {
	for line, want := range map[string]string{
		"em:0A1B2C3D4E":                  "card em:0A1B2C3D4E 0A1B2C3D4E/40",
		" EM:0a1b2c3d4e \r\n":            "card em:0A1B2C3D4E 0A1B2C3D4E/40",
		"0a1b2c3d4e":                     "card em:0A1B2C3D4E 0A1B2C3D4E/40",
		"uid:04A1B2C3D4E580":             "card uid:04A1B2C3D4E580 04A1B2C3D4E580/56",
		"w26:123-45678":                  "card w26:123-45678 3132332D3435363738/72",
		"dec:0001202659":                 "card dec:0001202659 30303031323032363539/80",
		"kind go-out":                    "key go-out",
		"kind  in\n":                     "key in",
		"kind lunch":                     "fault format",
		"pin 000123 4711":                "entry 000123/4711",
		"pin 000123":                     "fault format",
		"pin 000123 4711 1":              "fault format",
		"em:0A1B2C3D":                    "fault length",
		"em:0A1B2C3D4":                   "fault format",
		"uid:0A1B2C3D4E":                 "fault length",
		"0a1b2c3d4":                      "fault format",
		"0a1b2c3d4g":                     "fault format",
		"hello":                          "fault format",
		":1":                             "fault format",
		"em:":                            "fault format",
		"dec:1\x002":                     "fault format",
		"dec:" + strings.Repeat("1", 40): "fault length",
		tooLong:                          "fault length",
		"# a note":                       "",
		"\r\n":                           "",
	} {
		ev, ok := parse(line)
		got := ""
		switch {
		case !ok:
		case ev.What == device.Card:
			got = fmt.Sprintf("card %s:%s %X/%d", ev.Medium, ev.Value, ev.Raw, ev.Bits)
		case ev.What == device.Key:
			got = "key " + ev.Key
		case ev.What == device.Entry:
			got = fmt.Sprintf("entry %s/%s", ev.Number, string(ev.PIN))
		default:
			got = fmt.Sprintf("%v %s", ev.What, ev.Fault)
			if !ev.Try {
				t.Errorf("%q does not ask to try again", line)
			}
		}
		if got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("em:0A1B2C3D4E")
	f.Add("kind go-out")
	f.Add("dec:018,23011")
	f.Fuzz(func(t *testing.T, s string) {
		ev, ok := parse(s)
		if !ok || ev.What != device.Card {
			return
		}
		if ev.Medium == "" || ev.Value == "" || len(ev.Raw) > maxRaw || ev.Bits != 8*len(ev.Raw) || ev.Bits > 255 {
			t.Errorf("%q: %+v", s, ev)
		}
	})
}

func TestAMegabyteOfNoiseIsBoundedAndNoPunch(t *testing.T) {
	for _, piece := range []string{"\x00", "\xff", "\xff\x00\n", "\x1b[2J\x1b]0;x\x07\n", "'; DROP TABLE punches; --\r\n", "$(reboot)\n", "em:\x1b[2J\n", "em:$(reboot)\n", "uid:'; DROP\n", "level=ERROR msg=forged\n"} {
		noise := strings.Repeat(piece, (1<<20)/len(piece))
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan device.Event)
		done := make(chan error, 1)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		go func() {
			done <- New("desk", io.MultiReader(strings.NewReader(noise), strings.NewReader("\nem:0A1B2C3D4E\n"))).Run(ctx, out)
		}()
		for card := false; !card; {
			ev := <-out
			switch {
			case ev.What == device.Card && ev.Value == "0A1B2C3D4E":
				card = true
			case ev.What != device.Up && ev.What != device.Fault:
				t.Fatalf("%q became %v %s:%s", piece, ev.What, ev.Medium, ev.Value)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 256<<10 {
			t.Errorf("%q: %d bytes more are held", piece, grown)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func subject(t *testing.T, r io.Reader, w io.Writer) devicetest.Subject {
	say := func(s string) func() {
		return func() {
			go func() { // an in-memory pipe waits until it is read
				if _, err := io.WriteString(w, s); err != nil {
					t.Error(err)
				}
			}()
			time.Sleep(20 * time.Millisecond)
		}
	}
	return devicetest.Subject{
		Reader: New("desk", r), Name: "desk",
		Cards: [2]devicetest.Card{
			{Tap: say("em:0A1B2C3D4E\n"), Medium: "em", Value: "0A1B2C3D4E"},
			{Tap: say("0102030405\n"), Medium: "em", Value: "0102030405"},
		},
		Misread: say("what\n"),
	}
}

func TestTypedBadgesKeepTheReadersContract(t *testing.T) {
	devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return subject(t, r, w)
	})
}

func TestRunEndsThoughAReadThatCannotBeInterruptedGoesOn(t *testing.T) {
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan device.Event, 8)
	done := make(chan error, 1)
	go func() { done <- New("desk", r).Run(ctx, out) }()
	if ev := <-out; ev.What != device.Up {
		t.Fatalf("first event %v", ev.What)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run did not return")
	}
	w.Close() // and now the goroutine ends, too
}

func TestEndOfInputIsDownAndEndsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan device.Event, 8)
	done := make(chan error, 1)
	long := strings.Repeat("1", 10*maxLine)
	go func() {
		done <- New("desk", bufio.NewReader(strings.NewReader(long+"\nkind out\n0102030405"))).Run(ctx, out)
	}()
	for _, want := range []device.What{device.Up, device.Fault, device.Key, device.Card, device.Down} {
		if ev := <-out; ev.What != want || ev.Reader != "desk" {
			t.Errorf("%v, want %v", ev.What, want)
		}
	}
	select {
	case err := <-done:
		t.Errorf("Run ended by itself: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
