package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/device"
	"punchclock/device/devicetest"
	"punchclock/queue/punch"
)

func TestATechnicianReadsACardInAndItIsNoPunch(t *testing.T) {
	h := newHouse(t, settings{})
	h.start()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	learn := func(tap func(), args ...string) learned {
		t.Helper()
		cmd := exec.Command(bin, append([]string{"badge", "learn", "--config", h.config, "--json"}, args...)...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		said, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := said.Read(make([]byte, 64)); err != nil { // tap a card …
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		tap()
		var l learned
		if err := json.NewDecoder(out).Decode(&l); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		return l
	}
	fresh := [5]byte{0x06, 0x00, 0x12, 0x59, 0xE3}
	l := learn(func() { h.send(devicetest.RDM6300(fresh)) }, "--reader", "front")
	if l.Reader != "front" || l.Badge != "em:06001259E3" || l.Raw != "06001259e3" || l.Bits != 40 || l.Employee != "" || len(l.Readings) < 8 {
		t.Errorf("%+v", l)
	}
	if r := h.answer(); r.Outcome != "misread" || r.PunchID != "" {
		t.Errorf("the tap of a card that is read in is answered %+v", r)
	}
	// Somebody comes to punch meanwhile: a punch like any other.
	l = learn(func() { h.send(devicetest.RDM6300(h.people[1].card)) })
	if r := h.answer(); r.Outcome != "stored" || r.Seq != 1 || r.Employee != "000002" || l.Employee != "000002" || l.Owners[0].Name != "員工2" {
		t.Errorf("%+v, learned %+v", r, l)
	}
	// A damaged frame is told to both.
	l = learn(func() { h.send([]byte("\x0206001259E3AF\x03")) })
	if r := h.answer(); r.Outcome != "misread" || l.Fault != device.FaultChecksum || l.Badge != "" {
		t.Errorf("%+v, learned %+v", r, l)
	}
	// Afterwards it is a punch of an unknown card again.
	if r := h.tap(person{card: fresh}); r.Outcome != "unknown_badge" || r.Seq != 2 {
		t.Errorf("%+v", r)
	}
	if out, code := h.run("badge", "learn", "--config", h.config, "--wait", "50ms"); code != 1 || !strings.Contains(out, "no card came") {
		t.Errorf("%d %s", code, out)
	}
	if out, code := h.run("badge", "learn", "--config", h.config, "--reader", "back"); code != 2 || !strings.Contains(out, `no reader "back"; there is "front"`) {
		t.Errorf("%d %s", code, out)
	}
	h.stop()
	if strings.Contains(h.logged(), "1259E3") || strings.Contains(h.logged(), "員工") {
		t.Errorf("the log holds a whole number or a name:\n%s", h.logged())
	}
}

// The roster has what is printed on the card. What is stored is what was read.
func TestThePrintedNumberFindsItsOwnerAndThePunchKeepsWhatWasRead(t *testing.T) {
	h := newHouse(t, settings{})
	h.write("roster.csv", "employee_no,name,badges\n000777,周,dec:0001202659\n")
	if out, code := h.run("roster", "import", "--config", h.config, h.dir+"/roster.csv"); code != 0 {
		t.Fatal(out)
	}
	h.start()
	if r := h.tap(person{card: [5]byte{0x06, 0x00, 0x12, 0x59, 0xE3}}); r.Outcome != "stored" || r.Employee != "000777" {
		t.Errorf("%+v", r)
	}
	h.stop()
	out, _ := h.run("punches", "export", "--config", h.config)
	if !strings.Contains(out, `"badge":"em:06001259E3"`) || strings.Contains(out, "0001202659") {
		t.Errorf("export: %s", out)
	}
}

func TestOneCardIsReadInAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var blue []bool
		l := &learner{lamp: func(on bool) { blue = append(blue, on) }, look: func(b punch.Badge) badgeAnswer {
			out := badgeAnswer{Badge: string(b)}
			if b == "em:0000000001" {
				out.Employee = "1"
			}
			return out
		}}
		card := func(reader, value string) device.Event {
			return device.Event{Reader: reader, What: device.Card, Medium: "em", Value: value, Raw: []byte{1}, Bits: 8}
		}
		same := func(ev device.Event) {
			t.Helper()
			if got := l.hear(ev); got.What != ev.What || got.Value != ev.Value || got.Fault != ev.Fault {
				t.Errorf("%+v became %+v", ev, got)
			}
		}
		same(card("front", "0000000002")) // nobody asks
		answers := make(chan learned, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			out, err := l.wait(ctx, "front")
			if err != nil {
				t.Error(err)
			}
			answers <- out
		}()
		synctest.Wait()
		if _, err := l.wait(t.Context(), ""); err != errLearning {
			t.Errorf("%v", err)
		}
		same(card("back", "0000000002"))                                                        // another reader's
		same(device.Event{Reader: "front", What: device.Fault, Fault: device.FaultNoise})       // only the technician's
		same(device.Event{Reader: "front", What: device.Card, Medium: "em", Value: "not hexa"}) // the conversation complains of it
		if ev := l.hear(card("front", "0000000002")); ev.What != device.Fault || ev.Fault != device.FaultLearned || !ev.Try || ev.Value != "" {
			t.Errorf("%+v", ev)
		}
		if out := <-answers; out.Badge != "em:0000000002" {
			t.Errorf("%+v", out)
		}
		same(card("front", "0000000002")) // only one tap
		if _, err := l.wait(ctx, ""); err == nil {
			t.Error("waited for ever")
		}
		same(card("front", "0000000002"))
		if want := []bool{true, false, true, false}; !slices.Equal(blue, want) {
			t.Errorf("the blue lamp was told %v, want %v", blue, want)
		}
	})
}
