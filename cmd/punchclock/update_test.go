package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue/punch"
)

// bench is a machine that is updated: what is on its medium, a power switch, and a
// clock that fares as the version on it does.
type updateBench struct {
	slots     bool // it changes versions by starting the machine anew
	tries     int  // starts of the offered version that its loader still makes, where it counts; see counted
	counted   bool
	deaf      bool   // what is installed is not started
	installed string // "" while a change is broken off in its middle
	runs      string
	kept      string // what Back can put in place without a network
	offered   string
	good      string // what was made the one that stays
	offerErr  error
	installs  error

	fares map[string]func(up time.Duration) (pulse, error) // by version
	began time.Time                                        // when what runs was started
	seq   uint64                                           // punches that the outbox held when what runs was started
	last  uint64                                           // ... and when it was last asked

	boots  int
	steps  int // that may be done before the power is cut; negative for any number
	called []string
}

type powerCut struct{}

// at is a place where the power may go.
func (b *updateBench) at(name string) {
	if b.steps == 0 {
		panic(powerCut{})
	}
	b.steps--
	b.called = append(b.called, name)
}

func (b *updateBench) start(version string) {
	b.runs, b.began, b.seq = version, time.Now(), max(b.seq, b.last)
}

func (b *updateBench) Kind() string { return "bench" }
func (b *updateBench) Running(context.Context) (string, error) {
	b.at("running")
	if b.slots {
		return b.runs, nil
	}
	return b.installed, nil
}
func (b *updateBench) Offer(context.Context, string) (string, error) {
	b.at("offer")
	return b.offered, b.offerErr
}
func (b *updateBench) Keep(_ context.Context, running string) error {
	b.at("keep")
	b.kept = running
	b.at("kept")
	return nil
}
func (b *updateBench) Install(_ context.Context, version string) error {
	b.at("install")
	if b.kept == "" || b.kept == version {
		panic("the way back is not open")
	}
	if b.slots && b.runs == version {
		panic("it is written over the version to go back to") // the slot that does not run
	}
	b.installed = ""
	b.at("half installed")
	if b.installs != nil {
		return b.installs
	}
	b.installed = version
	b.at("installed")
	return nil
}
func (b *updateBench) Start(_ context.Context, version string) error {
	b.at("start")
	if b.slots {
		panic(powerCut{}) // the machine goes down, and what is installed comes up
	}
	if !b.deaf {
		b.start(version)
	}
	b.at("started")
	return nil
}
func (b *updateBench) Hold(context.Context, string) error {
	b.at("hold")
	b.tries = 3
	b.at("held")
	return nil
}
func (b *updateBench) Good(_ context.Context, version string) error {
	b.at("good")
	b.good = version
	b.at("made good")
	return nil
}
func (b *updateBench) Back(_ context.Context, previous string) error {
	b.at("back")
	if b.kept != previous {
		return fmt.Errorf("%s is not kept", previous)
	}
	b.installed = ""
	b.at("half back")
	b.installed = previous
	b.at("put back")
	if b.slots && b.runs != previous {
		panic(powerCut{})
	}
	b.start(previous)
	return nil
}

// on gives the machine power: it starts what is installed, or the version before
// where that is broken and the machine can tell.
func (b *updateBench) on() {
	b.boots++
	version := b.installed
	if version == "" && b.slots {
		version = b.kept
	}
	if b.counted && version == b.offered {
		if b.tries == 0 {
			b.installed, version = b.kept, b.kept
		}
		b.tries--
	}
	b.start(version)
}

func (b *updateBench) take(context.Context) (pulse, error) {
	b.at("pulse")
	how := b.fares[b.runs]
	if how == nil {
		return pulse{}, errNoDaemon
	}
	up := time.Since(b.began)
	p, err := how(up)
	p.Version, p.Uptime = b.runs, up
	p.LastSeq += b.seq
	b.last = max(b.last, p.LastSeq)
	return p, err
}

// well is a version that does all it should: a tap comes after a while, and is
// delivered.
func well(tap time.Duration) func(time.Duration) (pulse, error) {
	return func(up time.Duration) (pulse, error) {
		p := pulse{Ready: true, Delivers: true, Readers: map[string]string{"front": "ok"}, Destinations: map[string]string{"104": "ok"}}
		if up >= tap {
			p.LastSeq, p.Delivered = 1, true
		}
		return p, nil
	}
}

func newUpdateBench() *updateBench {
	b := &updateBench{installed: "1.0", offered: "1.1", steps: -1, seq: 41, fares: map[string]func(time.Duration) (pulse, error){"1.0": well(1000 * time.Hour), "1.1": well(25 * time.Minute)}}
	b.on()
	return b
}

func (b *updateBench) gate(dir string) *gate {
	return &gate{in: b, dir: dir, log: slog.New(slog.DiscardHandler), boot: fmt.Sprintf("boot-%d", b.boots), pulse: b.take, fit: func(context.Context) error { return nil },
		judge: func(path string) error { b.at("judge"); return os.WriteFile(path, nil, 0o700) }}
}

// powered runs fn until it ends or the power goes, and says which.
func powered(fn func() error) (cut bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, isCut := r.(powerCut); !isCut {
				panic(r)
			}
			cut = true
		}
	}()
	return false, fn()
}

// through updates the machine, the power being cut after so many steps, once or
// after every so many; and then says how it ended.
func (b *updateBench) through(t *testing.T, after int, everyTime bool) updateState {
	t.Helper()
	dir := t.TempDir()
	b.steps = after
	cut, err := powered(func() error {
		g := b.gate(dir)
		running, version, err := g.look(t.Context(), false)
		if err != nil {
			return err
		}
		if err := g.begin(t.Context(), running, version); err != nil {
			return err
		}
		return g.resume(t.Context())
	})
	for n := 0; cut; n++ {
		if n > 2000 {
			t.Fatal("it never ends")
		}
		if b.installed == "" && b.kept == "" {
			t.Fatal("neither a version nor a way back")
		}
		b.steps = -1
		if everyTime {
			b.steps = after
		}
		b.on()
		cut, err = powered(func() error { return b.gate(dir).resume(t.Context()) })
	}
	if err != nil {
		t.Fatalf("%v (%v)", err, b.called)
	}
	st, err := b.gate(dir).load()
	if err != nil {
		t.Fatal(err)
	}
	if st.Phase != "" {
		t.Fatalf("ended in phase %s", st.Phase)
	}
	if _, err := os.Stat(filepath.Join(dir, guardName)); err == nil && st.Last != nil {
		t.Error("the judge is still there: its unit would start at every boot")
	}
	return st
}

// What the versions that must not stay are like, and the words they go back with.
var unfit = map[string]struct {
	fares func(time.Duration) (pulse, error)
	why   string
}{
	"does not start": {nil, "does not answer"},
	"cannot store":   {func(time.Duration) (pulse, error) { return pulse{Problem: "read-only"}, nil }, "no punch can be stored: read-only"},
	"loses its reader": {func(up time.Duration) (pulse, error) {
		p, err := well(0)(up)
		p.Readers["front"] = "down"
		return p, err
	}, "reader front"},
	"loses its secret": {func(up time.Duration) (pulse, error) {
		p, err := well(0)(up)
		p.Destinations["104"] = "auth_failed"
		return p, err
	}, "destination 104"},
	"sick now and then": {func(up time.Duration) (pulse, error) {
		p, err := well(0)(up)
		p.Ready = up%(8*time.Minute) >= 20*time.Second
		return p, err
	}, "ten minutes on end"},
}

func TestAVersionIsGoodAfterTenHealthyMinutesWithAPunchStoredAndOneDelivered(t *testing.T) {
	for _, tap := range []time.Duration{time.Minute, 9 * time.Minute, 25 * time.Minute, 60 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := newUpdateBench()
			b.fares["1.1"] = well(tap)
			begin := time.Now()
			st := b.through(t, -1, false)
			if st.Last == nil || st.Last.Result != "good" || b.runs != "1.1" || b.good != "1.1" {
				t.Fatalf("%+v, %s runs", st.Last, b.runs)
			}
			took := time.Since(begin)
			if want := max(tap, trialHealthy); took < want || took > want+2*trialEvery {
				t.Errorf("tap after %v: good after %v", tap, took)
			}
		})
	}
}

func TestAClockWithNowhereToDeliverIsGoodWithAStoredPunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newUpdateBench()
		b.fares["1.1"] = func(up time.Duration) (pulse, error) {
			p, err := well(time.Minute)(up)
			p.Delivers, p.Delivered = false, false
			return p, err
		}
		if st := b.through(t, -1, false); st.Last.Result != "good" {
			t.Errorf("%+v", st.Last)
		}
	})
}

// Nobody taps from Friday to Monday, or over a holiday, and the building's power is off
// at night. U-Boot counts starts; that they were good ones it is told, and not only at
// the first tap.
func TestAQuietWeekWithoutPowerAtNightIsNoFault(t *testing.T) {
	for _, slots := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newUpdateBench()
			b.slots, b.counted, b.tries = slots, slots, 3
			tap := time.Now().Add(9*24*time.Hour + 2*time.Hour)
			b.fares["1.1"] = func(up time.Duration) (pulse, error) {
				return well(up + time.Until(tap))(up)
			}
			dir := t.TempDir()
			if err := b.gate(dir).begin(t.Context(), "1.0", "1.1"); err != nil {
				t.Fatal(err)
			}
			var st updateState
			for day := 0; day < 12; day++ {
				_, err := powered(func() error {
					night, cancel := context.WithTimeout(t.Context(), 12*time.Hour)
					defer cancel()
					for {
						cut, err := powered(func() error { return b.gate(dir).resume(night) })
						if !cut { // the machine is started anew for the update itself
							return err
						}
						b.on()
					}
				})
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				if st, err = b.gate(dir).load(); err != nil {
					t.Fatal(err)
				}
				if st.Phase == "" {
					break
				}
				if b.good != "" || b.runs != "1.1" {
					t.Fatalf("day %d: %s runs, %q is called good without a tap", day, b.runs, b.good)
				}
				time.Sleep(12 * time.Hour)
				b.on()
			}
			if st.Phase != "" || st.Last == nil || st.Last.Result != "good" || b.good != "1.1" || b.runs != "1.1" || time.Now().Before(tap) {
				t.Errorf("%s, %+v, %s runs", st.Phase, st.Last, b.runs)
			}
		})
	}
}

// One that comes up and never stays well has its tries, and no more of them.
func TestAVersionThatIsNeverWellUsesUpItsTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newUpdateBench()
		b.slots, b.counted, b.tries = true, true, 3
		dir := t.TempDir()
		if err := b.gate(dir).begin(t.Context(), "1.0", "1.1"); err != nil {
			t.Fatal(err)
		}
		b.fares["1.1"] = func(up time.Duration) (pulse, error) {
			if up > 8*time.Minute {
				panic(powerCut{})
			}
			return well(1000 * time.Hour)(up)
		}
		for starts := 0; ; starts++ {
			cut, err := powered(func() error { return b.gate(dir).resume(t.Context()) })
			if err != nil {
				t.Fatal(err)
			}
			if !cut {
				if starts != 4 { // its installation's and three of its own
					t.Errorf("%d starts", starts)
				}
				break
			}
			b.on()
		}
		if st, err := b.gate(dir).load(); err != nil || st.Last == nil || st.Last.Result != "went-back" || b.runs != "1.0" {
			t.Errorf("%+v, %s runs, %v", st.Last, b.runs, err)
		}
	})
}

// Who asks is told that a version is not tried again by itself, and what to do.
func TestAVersionThatWentBackIsToldWithTheRemedy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newUpdateBench()
		root := t.TempDir()
		dir := filepath.Join(root, updateDir)
		p := &patient{machine: &machine{root: root}}
		if len(p.programChecks()) != 1 {
			t.Error("doctor looks at updates where there never was one")
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		g := b.gate(dir)
		b.fares["1.1"] = well(1000 * time.Hour)
		told := func(wantState verdict, words ...string) {
			t.Helper()
			st, err := g.load()
			if err != nil {
				t.Fatal(err)
			}
			var said strings.Builder
			if err := st.print(&said); err != nil {
				t.Fatal(err)
			}
			var fares strings.Builder
			if err := (&status{Update: updateTold(dir)}).print(&fares); err != nil {
				t.Fatal(err)
			}
			saw := p.update(t.Context())
			for _, w := range words {
				if !strings.Contains(said.String(), w) || !strings.Contains(fares.String(), w) || wantState == isWarning && !strings.Contains(saw.detail+saw.remedy, w) {
					t.Errorf("without %q:\n%s\n%s\n%+v", w, said.String(), fares.String(), saw)
				}
			}
			if saw.state != wantState {
				t.Errorf("doctor: %+v", saw)
			}
		}
		if err := g.begin(t.Context(), "1.0", "1.1"); err != nil {
			t.Fatal(err)
		}
		day, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if err := g.resume(day); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		told(isOK, "1.1 is on trial", "hold a card to the reader")
		b.fares["1.1"] = nil
		if err := g.resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		told(isWarning, "1.1 is not tried again by itself", "does not answer", "punchclock update --again", "publish a higher version")
		if st, err := os.Stat(g.path()); err != nil || st.Mode().Perm() != 0o644 {
			t.Errorf("the clock's own account cannot read it: %v %v", st, err)
		}
		// It is told no more once another is good.
		b.offered, b.fares["1.2"] = "1.2", well(time.Minute)
		if err := g.begin(t.Context(), "1.0", "1.2"); err != nil {
			t.Fatal(err)
		}
		if err := g.resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		if u, saw := updateTold(dir), p.update(t.Context()); u != "" || saw.state != isOK {
			t.Errorf("%q %+v", u, saw)
		}
	})
}

func TestAVersionThatIsNotWellGoesBackByItself(t *testing.T) {
	for name, u := range unfit {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newUpdateBench()
				b.fares["1.1"] = u.fares
				st := b.through(t, -1, false)
				if st.Last == nil || st.Last.Result != "went-back" || b.installed != "1.0" || b.runs != "1.0" || b.good != "" {
					t.Fatalf("%+v, %s runs", st.Last, b.runs)
				}
				if !strings.Contains(st.Last.Why, u.why) {
					t.Errorf("why: %s", st.Last.Why)
				}
				// The next night it is not tried again, unless a person says so.
				g := b.gate(t.TempDir())
				if err := replaceJSON(g.path(), st); err != nil {
					t.Fatal(err)
				}
				_, _, err := g.look(t.Context(), false)
				var no *refusal
				if !errors.As(err, &no) || no.Reason != refusedFailed {
					t.Errorf("the next time: %v", err)
				}
				if _, v, err := g.look(t.Context(), true); err != nil || v != "1.1" {
					t.Errorf("--again: %s %v", v, err)
				}
			})
		})
	}
}

// The line is down during a trial, for hours or for a night: the version is not called
// good, nor bad. The one before comes back, for it may be the new one that has no network,
// and the new one is tried again when there is a way.
func TestALineThatIsDownDuringATrialBarsNoVersion(t *testing.T) {
	for _, slots := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newUpdateBench()
			b.slots = slots
			dir := t.TempDir()
			up := time.Now().Add(9 * time.Hour)
			begun := []time.Duration{}
			from := time.Now()
			for _, v := range []string{"1.0", "1.1"} {
				b.fares[v] = func(ran time.Duration) (pulse, error) {
					p, err := well(20 * time.Minute)(ran)
					p.Delivered = ran >= 20*time.Minute && time.Now().After(up)
					return p, err
				}
			}
			for st := (updateState{}); st.Last == nil || st.Last.Result != "good"; time.Sleep(time.Hour) { // the timer
				if time.Since(from) > 48*time.Hour {
					t.Fatalf("%+v after two days", st.Last)
				}
				a, err := b.gate(dir).update(t.Context(), false, false)
				if err != nil {
					t.Fatal(err)
				}
				if a.Result == "later" {
					if a.Reason != refusedUnsent || !time.Now().Before(up) || b.runs != "1.0" || !strings.Contains(a.Detail, "1.0 has delivered none") {
						t.Errorf("%v after the begin: %+v, %s runs", time.Since(from), a, b.runs)
					}
					if st.barred() {
						t.Error("it is called bad")
					}
					var said strings.Builder
					if err := st.print(&said); err != nil || !strings.Contains(said.String(), "1.1 is tried again once 1.0 has delivered something") || strings.Contains(said.String(), "--again") {
						t.Errorf("update status: %s %v", said.String(), err)
					}
					continue
				}
				if a.Result != "begun" {
					t.Fatalf("%+v", a)
				}
				begun = append(begun, time.Since(from))
				for cut := true; cut; {
					if cut, err = powered(func() error { return b.gate(dir).resume(t.Context()) }); cut { // the machine is started anew for the update
						b.on()
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				if st, err = b.gate(dir).load(); err != nil {
					t.Fatal(err)
				}
				if !time.Now().After(up) && (b.runs != "1.0" || b.good != "" || len(st.Failed) > 0) {
					t.Errorf("the line is still down: %s runs, %q is good, %v failed", b.runs, b.good, st.Failed)
				}
			}
			if b.runs != "1.1" || b.good != "1.1" || len(begun) != 2 || begun[1] < 9*time.Hour {
				t.Errorf("%s runs, %q is good; it was begun after %v", b.runs, b.good, begun)
			}
		})
	}
}

// One that does not deliver where the version before does is at fault, though it takes
// three trials to be sure.
func TestAVersionThatNeverDeliversIsBarredAfterItsThirdTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newUpdateBench()
		b.fares["1.0"] = well(time.Minute)
		b.fares["1.1"] = func(up time.Duration) (pulse, error) {
			p, err := well(20 * time.Minute)(up)
			p.Delivered = false
			return p, err
		}
		dir := t.TempDir()
		again := false
		for trial, barred := range []bool{false, false, true, true} {
			time.Sleep(time.Hour)
			begin := time.Now()
			if a, err := b.gate(dir).update(t.Context(), false, again); err != nil || a.Result != "begun" {
				t.Fatalf("trial %d: %+v %v", trial, a, err)
			}
			if err := b.gate(dir).resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			st, err := b.gate(dir).load()
			if err != nil || st.Last.Result != "went-back" || !strings.Contains(st.Last.Why, "delivered none") || b.runs != "1.0" || st.barred() != barred {
				t.Errorf("trial %d: %+v, barred %v, %s runs, %v", trial, st.Last, st.barred(), b.runs, err)
			}
			if took, want := time.Since(begin), 20*time.Minute+trialUnsent; took < want || took > want+2*trialEvery {
				t.Errorf("trial %d took %v", trial, took)
			}
			if again = barred; barred {
				var no *refusal
				if _, _, err := b.gate(dir).look(t.Context(), false); !errors.As(err, &no) || no.Reason != refusedFailed {
					t.Errorf("the next time: %v", err)
				}
			}
		}
		// Something else that is wrong with it is its own fault at once, also after a line that was down.
		b.offered, b.fares["1.2"] = "1.2", b.fares["1.1"]
		for _, how := range []func(time.Duration) (pulse, error){b.fares["1.1"], nil} {
			time.Sleep(time.Hour)
			b.fares["1.2"] = how
			if a, err := b.gate(dir).update(t.Context(), false, false); err != nil || a.Result != "begun" {
				t.Fatalf("%+v %v", a, err)
			}
			if err := b.gate(dir).resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st, err := b.gate(dir).load(); err != nil || st.barred() != (how == nil) {
				t.Errorf("%+v, %v", st.Last, err)
			}
		}
	})
}

func TestAVersionThatWasInstalledAndNeverStartedGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newUpdateBench()
		b.deaf = true
		st := b.through(t, -1, false)
		if st.Last.Result != "went-back" || !strings.Contains(st.Last.Why, "version 1.0 runs") {
			t.Errorf("%+v", st.Last)
		}
	})
}

// U-Boot had counted the last try of a version that proved itself; before it was given
// others the power went, and the one before came up.
func TestAProvenVersionWhoseTriesWereUpIsInstalledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newUpdateBench()
		b.slots, b.kept = true, "1.0"
		dir := t.TempDir()
		if err := b.gate(dir).save(&updateState{Schema: updateSchema, From: "1.0", To: "1.1"}, phaseProven); err != nil {
			t.Fatal(err)
		}
		b.on()
		cut, err := powered(func() error { return b.gate(dir).resume(t.Context()) })
		if !cut || err != nil || b.good != "" || b.installed != "1.1" {
			t.Fatalf("restarted %v, %v; %q is called good, %q is installed", cut, err, b.good, b.installed)
		}
		b.on()
		if err := b.gate(dir).resume(t.Context()); err != nil || b.good != "1.1" {
			t.Errorf("%v; %q is good", err, b.good)
		}
	})
}

func TestAnOutboxThatHasLostPunchesGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newUpdateBench()
		b.fares["1.1"] = func(up time.Duration) (pulse, error) {
			b.seq = 40
			return well(0)(0)
		}
		b.fares["1.0"] = func(time.Duration) (pulse, error) { p, err := well(0)(0); p.LastSeq++; return p, err }
		st := b.through(t, -1, false)
		if st.Last.Result != "went-back" || !strings.Contains(st.Last.Why, "ends with punch 41, and held 43") {
			t.Errorf("%+v", st.Last)
		}
	})
}

func TestAVersionThatKeepsDyingGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newUpdateBench()
		begin := time.Now()
		b.fares["1.1"] = func(time.Duration) (pulse, error) { // restarted by systemd within two seconds, each nine minutes
			b.began = time.Now().Add(-time.Since(begin) % (9 * time.Minute))
			return well(0)(0)
		}
		st := b.through(t, -1, false)
		if st.Last.Result != "went-back" || !strings.Contains(st.Last.Why, "anew") {
			t.Errorf("%+v", st.Last)
		}
	})
}

// The power goes at every single step, once; and then again and again after so many
// steps. Whatever the version is like, the machine ends with one that works.
func TestAPowerCutAtAnyStepOfAnUpdateEndsInAWorkingClock(t *testing.T) {
	type fate struct {
		name  string
		fares func(time.Duration) (pulse, error)
		fails error
		want  string
	}
	fates := []fate{{"good", well(30 * time.Second), nil, "1.1"}, {"broken", nil, nil, "1.0"}, {"cannot be installed", nil, errors.New("no space left on device"), "1.0"}}
	cuts := 0
	for _, slots := range []bool{false, true} {
		for _, f := range fates {
			for after := 0; ; after++ {
				done := false
				synctest.Test(t, func(t *testing.T) {
					b := newUpdateBench()
					b.slots = slots
					b.fares["1.1"] = f.fares
					b.installs = f.fails
					st := b.through(t, after, false)
					if st.Last == nil { // cut before anything was begun
						if b.installed != "1.0" {
							t.Errorf("%s, cut after %d steps: %q installed, nothing begun", f.name, after, b.installed)
						}
						return
					}
					if b.installed != f.want || b.runs != f.want {
						t.Errorf("slots %v, %s, cut after %d steps: %q installed, %q runs, %+v", slots, f.name, after, b.installed, b.runs, st.Last)
					}
					if (st.Last.Result == "good") != (f.want == "1.1") {
						t.Errorf("%s, cut after %d steps: %+v", f.name, after, st.Last)
					}
					done = b.boots == 1 || slots && b.boots <= 3 && after > 90
				})
				cuts++
				if t.Failed() || done {
					break
				}
			}
		}
	}
	if cuts < 100 {
		t.Errorf("%d cuts only: this test sees nothing", cuts)
	}
	t.Logf("%d cuts", cuts)
}

func TestAMachineWhosePowerGoesAgainAndAgainEndsInAWorkingClock(t *testing.T) {
	for _, after := range []int{6, 9, 20, 61} {
		synctest.Test(t, func(t *testing.T) {
			b := newUpdateBench()
			b.fares["1.1"] = well(30 * time.Second)
			st := b.through(t, after, true)
			if st.Last == nil || b.installed == "" || b.runs != b.installed {
				t.Fatalf("power for %d steps at a time: %q installed, %q runs, %+v", after, b.installed, b.runs, st.Last)
			}
		})
	}
}

func TestAMachineThatStartsWithTheOldSlotHasGoneBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newUpdateBench()
		b.slots = true
		dir := t.TempDir()
		g := b.gate(dir)
		if err := g.begin(t.Context(), "1.0", "1.1"); err != nil {
			t.Fatal(err)
		}
		if cut, err := powered(func() error { return g.resume(t.Context()) }); !cut {
			t.Fatal(err)
		}
		b.installed = "1.0" // its loader has tried the other three times
		b.on()
		if err := b.gate(dir).resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		st, err := g.load()
		if err != nil || st.Last == nil || st.Last.Result != "went-back" || !strings.Contains(st.Last.Why, "did not come up") {
			t.Errorf("%+v %v", st.Last, err)
		}
	})
}

func TestAnUpdateNeverGoesDown(t *testing.T) {
	b := newUpdateBench()
	b.offered = "1.0~rc1"
	_, _, err := b.gate(t.TempDir()).look(t.Context(), false)
	var no *refusal
	if !errors.As(err, &no) || no.Reason != refusedLower || !strings.Contains(err.Error(), "never goes down") {
		t.Error(err)
	}
	b.offered = "1.0"
	if _, v, err := b.gate(t.TempDir()).look(t.Context(), false); v != "" || err != nil {
		t.Errorf("%q %v", v, err)
	}
}

func TestNothingIsBegunWhileThereIsAReasonNotTo(t *testing.T) {
	b := newUpdateBench()
	g := b.gate(t.TempDir())
	g.fit = func(context.Context) error { return &refusal{refusedPeak, "people come", "later"} }
	a, err := g.update(t.Context(), false, false)
	if err != nil || a.Result != "later" || a.Reason != refusedPeak {
		t.Errorf("%+v %v", a, err)
	}
	g.fit = func(context.Context) error { return &refusal{refusedDisk, "the card is failing", "change it"} }
	a, err = g.update(t.Context(), false, false)
	var e *exitError
	if !errors.As(err, &e) || e.code != exitFailed || a.Result != "refused" || a.Reason != refusedDisk {
		t.Errorf("%+v %v", a, err)
	}
	if b.kept != "" {
		t.Error("something was done all the same")
	}
}

func TestASecondUpdateIsKeptOut(t *testing.T) {
	b := newUpdateBench()
	dir := t.TempDir()
	release, err := b.gate(dir).lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.gate(dir).lock(); !errors.Is(err, errUnderWay) {
		t.Error(err)
	}
	release()
	if release, err = b.gate(dir).lock(); err != nil {
		t.Error(err)
	}
	release()
	g := b.gate(dir)
	if err := g.begin(t.Context(), "1.0", "1.1"); err != nil {
		t.Fatal(err)
	}
	if a, err := g.update(t.Context(), false, false); err != nil || a.Result != "under-way" {
		t.Errorf("%+v %v", a, err)
	}
}

func TestVersionsAreComparedAsDebianDoes(t *testing.T) {
	ordered := []string{"0~12.gabc", "0.9", "1.0~rc1", "1.0~rc2", "1.0", "1.0-1", "1.0+3.gabc", "1.0.1", "1.2", "1.10", "1.10a", "2", "1:0.1"}
	dpkg, err := exec.LookPath("dpkg")
	for i, a := range ordered {
		for j, b := range ordered {
			got := compareVersions(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
			if err == nil && (exec.Command(dpkg, "--compare-versions", a, "lt", b).Run() == nil) != (got < 0) {
				t.Errorf("%s and %s: dpkg says otherwise", a, b)
			}
		}
	}
}

func FuzzVersionsHaveAnOrder(f *testing.F) {
	f.Add("1.0", "1.0~rc1")
	f.Add("1:1-1", "0001.00a")
	f.Fuzz(func(t *testing.T, a, b string) {
		if compareVersions(a, b) != -compareVersions(b, a) || compareVersions(a, a) != 0 {
			t.Errorf("%q and %q", a, b)
		}
	})
}

func TestNoUpdateWhilePeopleComeAsOnTheLastDays(t *testing.T) {
	taipei := time.FixedZone("UTC+8", 8*3600)
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, taipei)
	var taps []time.Time
	for d := 1; d <= 14; d++ {
		day := time.Date(2026, 11, 20-d, 0, 0, 0, 0, taipei)
		for i := range 30 { // 08:30 to 09:00, and 18:00 to 18:30
			taps = append(taps, day.Add(8*time.Hour+30*time.Minute+time.Duration(i)*time.Minute).UTC(), day.Add(18*time.Hour+time.Duration(i)*time.Minute).UTC())
		}
		taps = append(taps, day.Add(13*time.Hour), day.Add(13*time.Hour+time.Minute)) // two who go out for lunch
	}
	for at, want := range map[string]bool{"07:30": false, "07:45": false, "08:00": true, "08:30": true, "08:59": true, "09:15": false, "12:30": false, "17:20": true, "18:30": true, "18:50": false, "03:00": false} {
		clock, err := time.ParseInLocation("15:04", at, taipei)
		if err != nil {
			t.Fatal(err)
		}
		when := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, taipei)
		if why := peak(taps, nil, when); (why != "") != want {
			t.Errorf("at %s: %q", at, why)
		}
	}
	if why := peak(append(taps, now.Add(-time.Minute)), nil, now); !strings.Contains(why, "a moment ago") {
		t.Errorf("with somebody at the door: %q", why)
	}
	// A house in which people come round the clock has no peak.
	taps = nil
	for h := range 14 * 24 {
		for i := range 10 {
			taps = append(taps, now.Add(-time.Duration(h)*time.Hour-time.Duration(i+3)*time.Minute))
		}
	}
	if why := peak(taps, nil, now); why != "" {
		t.Errorf("round the clock: %q", why)
	}
}

func TestWithoutPunchesTheScheduleSaysWhenPeopleCome(t *testing.T) {
	schedule := []scheduleConfig{{5 * 60, 11 * 60, punch.In}, {11 * 60, 13 * 60, punch.GoOut}, {22 * 60, 60, punch.Out}}
	for hour, want := range map[int]bool{3: false, 4: true, 8: true, 11: false, 14: false, 21: true, 23: true, 0: true, 1: false} {
		now := time.Date(2026, 11, 20, hour, 30, 0, 0, time.UTC)
		if why := peak(nil, schedule, now); (why != "") != want {
			t.Errorf("%02d:30: %q", hour, why)
		}
	}
	all := []scheduleConfig{{0, 12 * 60, punch.In}, {12 * 60, 24 * 60, punch.Out}}
	if why := peak(nil, all, time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)); why != "" {
		t.Errorf("a schedule that names the whole day: %q", why)
	}
}

// What Debian's apt said of each, with sqv (trixie) and with gpgv (bookworm).
func TestWhatAptSaysIsARefusalWithItsOwnReason(t *testing.T) {
	for _, c := range []struct{ reason, detail, said string }{
		{refusedKey, "another key", "W: OpenPGP signature verification failed: http://x stable InRelease: Sub-process /usr/bin/sqv returned an error code (1), error message is: Missing key 7C8786D4, which is needed to verify signature.\nE: The repository 'http://x stable InRelease' is not signed."},
		{refusedKey, "another key", "W: GPG error: http://x stable InRelease: The following signatures couldn't be verified because the public key is not available: NO_PUBKEY F167BAA8FE17AFD4\nE: The repository 'http://x stable InRelease' is not signed."},
		{refusedKey, "changed or cut", "W: OpenPGP signature verification failed: http://x stable InRelease: Sub-process /usr/bin/sqv returned an error code (1), error message is: Verifying signature:            Message has been manipulated\nE: The repository 'http://x stable InRelease' is not signed."},
		{refusedKey, "changed or cut", "W: GPG error: http://x stable InRelease: The following signatures were invalid: BADSIG F167BAA8FE17AFD4 punchclock\nE: The repository 'http://x stable InRelease' is not signed."},
		{refusedKey, "changed or cut", "W: OpenPGP signature verification failed: http://x stable InRelease: Splitting up /var/lib/x_InRelease into data and signature failed\nE: The repository 'http://x stable InRelease' is not signed."},
		{refusedUnsigned, "not signed", "E: The repository 'http://x stable Release' is not signed."},
		{refusedCut, ": p.deb)", "E: Failed to fetch http://x/pool/p.deb  File has unexpected size (6996728 != 6997728). Mirror sync in progress? [IP: 127.0.0.1 80]"},
		{refusedAltered, "checksum", "E: Failed to fetch http://x/pool/p.deb  Hash Sum mismatch\n   Hashes of expected file:"},
	} {
		var no *refusal
		if err := judgeApt(c.said, errors.New("exit status 100")); !errors.As(err, &no) || no.Reason != c.reason || !strings.Contains(no.Detail, c.detail) || no.Remedy == "" {
			t.Errorf("%s: %v", c.said, err)
		}
	}
	plain := errors.New("exit status 100")
	if err := judgeApt("E: The repository 'http://x stable Release' does not have a Release file.\n  404  File not found", plain); err != plain {
		t.Errorf("a server without a repository: %v", err)
	}
}
