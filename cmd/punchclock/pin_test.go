package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/queue/punch"
)

// vault is a clock that somebody guesses PINs at, on a machine whose power and wall
// clock the test has in its hands.
type vault struct {
	t      *testing.T
	path   string
	past   time.Duration
	booted time.Duration // past at the last boot
	boot   byte
	wrong  time.Duration // how far the wall clock is ahead
	clock  punch.ClockState
	log    bytes.Buffer
	*pinGuard
}

func newVault(t *testing.T) *vault {
	v := &vault{t: t, path: filepath.Join(t.TempDir(), "wrong-pins.json"), clock: punch.Synced}
	v.restart()
	return v
}

func (v *vault) stamp() punch.Stamp {
	return punch.Stamp{Wall: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC).Add(v.past + v.wrong), BootID: [16]byte{v.boot},
		Uptime: v.past - v.booted, Clock: v.clock, ErrorBound: time.Second}
}

// restart starts the program anew, as after a kill; reboot the machine.
func (v *vault) restart() {
	v.pinGuard = newPINGuard(v.path, v.stamp, slog.New(slog.NewTextHandler(&v.log, nil)))
}

func (v *vault) reboot(off time.Duration) {
	v.past += off
	v.booted = v.past
	v.boot++
	v.restart()
}

// guess reports whether a PIN would be looked at, and for how long none is.
func (v *vault) guess(number string) (bool, time.Duration) {
	v.t.Helper()
	wait, err := v.take(number)
	if err != nil {
		v.t.Fatal(err)
	}
	return wait == 0, wait
}

func TestTenThousandGuessesWithRestartsAreThirtyADayAtMost(t *testing.T) {
	for _, attack := range []struct {
		name    string
		numbers int
		meddle  func(v *vault, i int)
	}{
		{"one number", 1, func(*vault, int) {}},
		{"every number", 500, func(*vault, int) {}},
		{"restarts", 500, func(v *vault, _ int) { v.restart() }},
		{"power cuts", 500, func(v *vault, i int) {
			if i%3 == 0 {
				v.reboot(5 * time.Second)
			}
		}},
		{"power cuts without a clock", 500, func(v *vault, i int) {
			v.clock = punch.Unset
			v.wrong = -50 * 365 * 24 * time.Hour
			if i%3 == 0 {
				v.reboot(5 * time.Second)
			}
		}},
		{"the wall clock forth and back", 500, func(v *vault, i int) { v.wrong = time.Duration(i%7-3) * 400 * 24 * time.Hour }},
		{"the wall clock while it is off, and nobody says it is right", 500, func(v *vault, i int) {
			v.clock, v.wrong = punch.Unset, time.Duration(i)*24*time.Hour
			v.reboot(time.Second)
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			v := newVault(t)
			rnd := rand.New(rand.NewPCG(1, 2))
			const n = 10_000
			var looked []time.Duration
			for i := range n { // over two days
				v.past += 48 * time.Hour / n
				attack.meddle(v, i)
				if ok, _ := v.guess(fmt.Sprintf("%06d", rnd.IntN(attack.numbers))); ok {
					looked = append(looked, v.past)
				}
			}
			worst := 0
			for i := range looked {
				in := 0
				for _, at := range looked[i:] {
					if at-looked[i] < 24*time.Hour {
						in++
					}
				}
				worst = max(worst, in)
			}
			t.Logf("%d of %d looked at, %d in the worst 24 hours", len(looked), n, worst)
			most := 30
			if attack.numbers == 1 {
				most = triesEach
			}
			if worst > most || len(looked) < most {
				t.Errorf("%d in 24 hours, want %d", worst, most)
			}
		})
	}
}

func TestManyGuessesAtOnceAreNoMoreThanOneAfterAnother(t *testing.T) {
	v := newVault(t)
	var mu sync.Mutex
	looked := 0
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if wait, err := v.take(fmt.Sprint(i)); wait == 0 && err == nil {
				mu.Lock()
				defer mu.Unlock()
				looked++
			}
		})
	}
	wg.Wait()
	if looked != triesAll {
		t.Errorf("%d looked at", looked)
	}
}

func TestASiteWhereEverybodyMistypesIsNeverClosed(t *testing.T) {
	v := newVault(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 200 * 4 * 3 { // 200 people, four punches a day, three days
		v.past += 72 * time.Hour / (200 * 4 * 3)
		number := fmt.Sprintf("%06d", i%200)
		for slips := rnd.IntN(4); slips > 0; slips-- { // up to three slips before it is right
			if ok, wait := v.guess(number); !ok {
				t.Fatalf("punch %d: closed for %v after a slip", i, wait)
			}
			v.past += 5 * time.Second
		}
		if ok, wait := v.guess(number); !ok {
			t.Fatalf("punch %d: closed for %v", i, wait)
		}
		v.right(number)
		if i%51 == 0 {
			v.restart() // whoever was right last may be counted once more
		}
	}
	v.keep()
	v.restart()
	if n := len(v.file.Tries); n > 200*4*3/51+1 {
		t.Errorf("%d tries are left", n)
	}
}

func TestANumberIsClosedTwiceAsLongEachTime(t *testing.T) {
	v := newVault(t)
	var got []string
	for range 5 {
		v.guess("000123")
	}
	for range 6 {
		ok, wait := v.guess("000123")
		if ok {
			t.Fatal("not closed")
		}
		got = append(got, wait.String())
		if ok, _ := v.guess("000124"); !ok {
			t.Error("somebody else is closed, too")
		}
		v.right("000124")
		v.past += wait - time.Second
		if ok, left := v.guess("000123"); ok || left != time.Second {
			t.Errorf("a second early: %v %v", ok, left)
		}
		v.past += time.Second
		if ok, _ := v.guess("000123"); !ok {
			t.Fatal("still closed")
		}
		if len(got) == 5 {
			break
		}
	}
	if s := strings.Join(got, " "); s != "1m0s 2m0s 4m0s 8m0s 16m0s" {
		t.Errorf("closed for %s", s)
	}
	if ok, wait := v.guess("000123"); ok || wait != 24*time.Hour-31*time.Minute {
		t.Errorf("after ten: %v", wait)
	}
	// The right PIN would have been the eleventh.
	v.reboot(23 * time.Hour)
	if ok, _ := v.guess("000123"); ok {
		t.Error("open too soon after a night without power")
	}
	v.past += time.Hour
	if ok, wait := v.guess("000123"); !ok {
		t.Errorf("a day later still closed for %v", wait)
	}
}

func TestOldTriesAreForgottenBySomebodyWhoseClockIsNotKnown(t *testing.T) {
	v := newVault(t)
	v.clock = punch.Unset
	for i := range triesAll {
		v.guess(fmt.Sprint(i))
	}
	v.reboot(30 * time.Hour)
	if ok, _ := v.guess("x"); ok {
		t.Error("a night without a clock counts")
	}
	v.past += 24 * time.Hour
	if ok, wait := v.guess("x"); !ok {
		t.Errorf("after a day of uptime still closed for %v", wait)
	}
}

func TestATryThatCannotBeWrittenDownIsNotLookedAt(t *testing.T) {
	v := newVault(t)
	v.guess("1")
	if err := os.Mkdir(v.path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if wait, err := v.take("1"); err == nil {
		t.Errorf("taken, wait %v", wait)
	}
	if err := os.Remove(v.path + ".new"); err != nil {
		t.Fatal(err)
	}
	if ok, _ := v.guess("1"); !ok || len(v.file.Tries) != 2 {
		t.Errorf("%v, %d tries", ok, len(v.file.Tries))
	}
}

func TestAFileThatCannotBeReadIsAFullOne(t *testing.T) {
	good := func() string {
		v := newVault(t)
		v.past = time.Minute
		v.guess("000123")
		b, err := os.ReadFile(v.path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "000123") {
			t.Error("the file holds a number")
		}
		return string(b)
	}()
	for name, text := range map[string]string{
		"empty": "", "half": good[:len(good)/2], "null": "null", "noise": "\x00\xff\x1b[2J", "no salt": `{"tries":[]}`,
		"negative":          strings.Replace(good, `"at_ms":`, `"at_ms":-`, 1),
		"a try of tomorrow": strings.Replace(good, `"tries":[{`, `"tries":[{"who":"x","at_ms":99999999999},{`, 1),
		"huge":              strings.Replace(good, `"uptime_ms":`, `"uptime_ms":9223372036854775`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t)
			if err := os.WriteFile(v.path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			v.restart()
			if ok, wait := v.guess("1"); ok || wait > triesDay {
				t.Errorf("open: %v, wait %v", ok, wait)
			}
			if !strings.Contains(v.log.String(), "remove the file") {
				t.Errorf("log: %s", v.log.String())
			}
			v.past += triesDay
			if ok, _ := v.guess("1"); !ok {
				t.Error("closed for ever")
			}
		})
	}
	v := newVault(t)
	if err := os.WriteFile(v.path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	v.restart()
	if len(v.file.Tries) != 1 || v.log.Len() > 0 {
		t.Errorf("%+v\n%s", v.file, v.log.String())
	}
}

func FuzzPINFile(f *testing.F) {
	f.Add([]byte(`{"salt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAA","last":{"at_ms":5,"boot":"b","uptime_ms":5,"wall_ms":5,"bound_ms":0},"tries":[{"who":"a","at_ms":3}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var file guardFile
		if json.Unmarshal(b, &file) != nil || file.check() != nil {
			return
		}
		at := file.at(punch.Stamp{Uptime: time.Hour})
		if at < 0 {
			t.Fatalf("at %v", at)
		}
		looked := 0
		for i := range 2 * triesAll {
			who := fmt.Sprint(i)
			wait := closed(file.Tries, who, at)
			if wait < 0 || wait > triesDay {
				t.Fatalf("wait %v", wait)
			}
			if wait == 0 {
				looked++
				file.Tries = append(file.Tries, pinTry{who, at.Milliseconds()})
			}
		}
		if looked > triesAll {
			t.Fatalf("%d looked at", looked)
		}
	})
}
