package clock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// machine is a computer whose clocks run on the bubble's.
type machine struct {
	mu      sync.Mutex
	boot    [16]byte
	booted  time.Time     // in the bubble's time
	ahead   time.Duration // wall time before the bubble's
	k       Kernel
	kErr    error
	chip    string
	hasChip bool
	asked   int
	wake    chan<- struct{}
}

func (m *machine) source() *Machine {
	return &Machine{
		BootID: m.boot,
		Wall:   func() time.Time { m.mu.Lock(); defer m.mu.Unlock(); return time.Now().Add(m.ahead) },
		Uptime: func() time.Duration { m.mu.Lock(); defer m.mu.Unlock(); return time.Since(m.booted) },
		Kernel: func() (Kernel, error) { m.mu.Lock(); defer m.mu.Unlock(); m.asked++; return m.k, m.kErr },
		Chip:   func() (string, bool) { m.mu.Lock(); defer m.mu.Unlock(); return m.chip, m.hasChip },
		Steps: func(ctx context.Context, wake chan<- struct{}) error {
			m.mu.Lock()
			m.wake = wake
			m.mu.Unlock()
			<-ctx.Done()
			return nil
		},
	}
}

// bootAt boots a machine at a wall time.
func bootAt(wall time.Time) *machine {
	return &machine{boot: [16]byte{1}, booted: time.Now(), ahead: wall.Sub(time.Now())}
}

// step sets the wall clock.
func (m *machine) step(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ahead += d
	if m.wake != nil {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

func (m *machine) set(k Kernel) { m.mu.Lock(); defer m.mu.Unlock(); m.k = k }

func mustOpen(t *testing.T, m *machine, cfg Config) *Clock {
	t.Helper()
	cfg.Machine = m.source()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func want(t *testing.T, r Reading, s State, bound time.Duration) {
	t.Helper()
	if r.State != s || r.ErrorBound != bound {
		t.Errorf("clock is %v ± %v, want %v ± %v", r.State, r.ErrorBound, s, bound)
	}
}

var (
	right = time.Date(2026, 11, 21, 8, 58, 0, 0, time.UTC)
	image = time.Date(2025, 5, 13, 0, 0, 0, 0, time.UTC)
	ntp   = Kernel{Synced: true, Bound: 20 * time.Millisecond}
	loose = Kernel{Bound: 16 * time.Second}
)

func TestClockThatNobodySetIsUnset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bootAt(image)
		c := mustOpen(t, m, Config{})
		time.Sleep(time.Hour)
		r := c.Now()
		want(t, r, Unset, Unknown)
		if r.Uptime != time.Hour || r.BootID != m.boot || !r.Wall.Equal(image.Add(time.Hour)) {
			t.Errorf("reading %+v", r)
		}
		if _, _, ok := c.BootEpoch(); ok {
			t.Error("an unset clock claims to know when it booted")
		}
		// Setting it by hand is not a source.
		m.step(right.Sub(image))
		want(t, c.Now(), Unset, Unknown)
	})
}

func TestTimeServerSetsTheClockAndCorrectsWhatWasBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bootAt(image)
		c := mustOpen(t, m, Config{})
		time.Sleep(10 * time.Minute)
		early := c.Now()
		m.step(right.Sub(image))
		m.set(ntp)
		want(t, c.Now(), Synced, 20*time.Millisecond)
		epoch, bound, ok := c.BootEpoch()
		if !ok || bound != 20*time.Millisecond || !epoch.Equal(right) || !epoch.Add(early.Uptime).Equal(right.Add(10*time.Minute)) {
			t.Errorf("epoch %v ± %v, %v", epoch, bound, ok)
		}
	})
}

func TestClockThatLostItsServerIsOffByMoreAndMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bootAt(right)
		m.set(ntp)
		c := mustOpen(t, m, Config{})
		m.set(loose)
		time.Sleep(1000 * time.Second)
		want(t, c.Now(), Holdover, 520*time.Millisecond)
		// Somebody moves it: it is off by that, too, and the epoch stays.
		m.step(-time.Minute)
		want(t, c.Now(), Holdover, 60*time.Second+520*time.Millisecond)
		if epoch, bound, ok := c.BootEpoch(); !ok || !epoch.Equal(right) || bound != 520*time.Millisecond {
			t.Errorf("epoch %v ± %v, %v", epoch, bound, ok)
		}
		// By more than a minute, and more than it could be off: what it says is false.
		m.step(-3 * time.Hour)
		want(t, c.Now(), Unset, 3*time.Hour+60*time.Second+520*time.Millisecond)
		if epoch, bound, ok := c.BootEpoch(); !ok || !epoch.Equal(right) || bound != 520*time.Millisecond {
			t.Errorf("epoch %v ± %v, %v", epoch, bound, ok)
		}
		m.step(3 * time.Hour)
		want(t, c.Now(), Holdover, 60*time.Second+520*time.Millisecond)
		time.Sleep(60000 * 24 * time.Hour)
		want(t, c.Now(), Holdover, Unknown)
		m.step(time.Minute)
		m.set(ntp)
		want(t, c.Now(), Synced, 20*time.Millisecond)
	})
}

func TestRestartDoesNotForgetThatTheClockWasSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "clock.json")
		m := bootAt(right)
		m.set(ntp)
		c := mustOpen(t, m, Config{StateFile: file})
		run(t, c, time.Minute, nil)
		m.set(loose)
		time.Sleep(1000 * time.Second)

		c = mustOpen(t, m, Config{StateFile: file})
		want(t, c.Now(), Holdover, 520*time.Millisecond)
		if epoch, _, ok := c.BootEpoch(); !ok || !epoch.Equal(right) {
			t.Errorf("epoch %v, %v", epoch, ok)
		}

		// Another boot begins unset.
		m = bootAt(right.Add(time.Hour))
		m.boot = [16]byte{2}
		want(t, mustOpen(t, m, Config{StateFile: file}).Now(), Unset, Unknown)
	})
}

func TestBatteryClockIsBelievedAsFarAsItsChipGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		last := filepath.Join(dir, "last.json")
		m := bootAt(right)
		m.set(ntp)
		run(t, mustOpen(t, m, Config{StateFile: last}), time.Second, nil)
		synced := right.Add(time.Second)

		for _, c := range []struct {
			name  string
			chip  string
			wall  time.Time
			file  string
			state State
			bound time.Duration
		}{
			{"DS3231, age unknown", "ds3231", right, "", Holdover, time.Second + 365*24*3600*3500},
			{"DS3231, a million seconds after the last sync", "ds3231", synced.Add(1e15), last, Holdover, 4500 * time.Millisecond},
			{"another chip, as long after", "rtc-pcf8523", synced.Add(1e15), last, Holdover, 101 * time.Second},
			{"set back before the last sync", "ds3231", synced.Add(-time.Hour), last, Unset, Unknown},
			{"ten years after the last sync", "ds3231", synced.AddDate(10, 0, 0), last, Unset, Unknown},
			{"registers full of ones", "ds3231", time.Date(2165, 1, 1, 0, 0, 0, 0, time.UTC), "", Unset, Unknown},
			{"a battery that is empty", "ds3231", time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), last, Unset, Unknown},
		} {
			m := bootAt(c.wall)
			m.boot = [16]byte{3}
			m.chip, m.hasChip = c.chip, true
			r := mustOpen(t, m, Config{StateFile: c.file}).Now()
			if r.State != c.state || r.ErrorBound != c.bound {
				t.Errorf("%s: %v ± %v, want %v ± %v", c.name, r.State, r.ErrorBound, c.state, c.bound)
			}
		}
	})
}

func TestATechnicianMayAnswerForTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bootAt(image)
		m.kErr = errors.New("operation not permitted")
		c := mustOpen(t, m, Config{Trust: System})
		want(t, c.Now(), Synced, time.Second)
		m.kErr, m.k = nil, ntp
		want(t, c.Now(), Synced, 20*time.Millisecond)
		if epoch, _, ok := c.BootEpoch(); !ok || !epoch.Equal(image) {
			t.Errorf("epoch %v, %v", epoch, ok)
		}
		m.set(Kernel{Synced: true})
		want(t, c.Now(), Synced, time.Millisecond)
	})
}

// run watches for a while and returns what was told, with the seconds since.
func run(t *testing.T, c *Clock, d time.Duration, meanwhile func()) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if meanwhile != nil {
		go meanwhile()
	}
	var got []string
	began := time.Now()
	if err := c.Watch(ctx, func(r Reading) {
		got = append(got, time.Since(began).String()+" "+r.State.String())
	}); err != nil {
		t.Errorf("Watch = %v", err)
	}
	return got
}

func TestChangesAreToldOnceAndStepsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "clock.json")
		m := bootAt(image)
		c := mustOpen(t, m, Config{StateFile: file})
		stateFile := func() int64 {
			var s state
			if b, err := os.ReadFile(file); err == nil {
				if err := json.Unmarshal(b, &s); err != nil {
					t.Error(err)
				}
			}
			return s.UptimeMS
		}
		got := run(t, c, time.Hour, func() {
			time.Sleep(100 * time.Second)
			m.step(right.Sub(image))           // the server answers,
			time.Sleep(500 * time.Millisecond) // and the daemon sets the mark a little later
			m.set(ntp)
			time.Sleep(time.Minute)
			if ms := stateFile(); ms != 101000 {
				t.Errorf("state file says synced at %d ms", ms)
			}
			time.Sleep(10 * time.Minute)
			if ms := stateFile(); ms != 101000 {
				t.Errorf("state file written without a change, at %d ms", ms)
			}
			m.set(loose)
		})
		if s := strings.Join(got, ", "); s != "0s unset, 1m40s unset, 1m41s synced, 13m0s holdover" {
			t.Errorf("told %s", s)
		}
		if ms := stateFile(); ms != 750000 {
			t.Errorf("the last good moment was not kept: %d ms", ms)
		}
		if m.asked > 2*3600/30+30 {
			t.Errorf("the kernel was asked %d times in an hour", m.asked)
		}
	})
}

func TestStateFileThatCannotBeWrittenIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := bootAt(right)
		m.set(ntp)
		c := mustOpen(t, m, Config{StateFile: filepath.Join(t.TempDir(), "missing", "clock.json"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		run(t, c, 10*time.Minute, nil)
		if n := strings.Count(log.String(), "WARN"); n != 1 {
			t.Errorf("%d warnings:\n%s", n, log.String())
		}
	})
}

func TestDamagedStateFileIsAsGoodAsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "clock.json")
		for _, s := range []string{"", "{", "null", `{"boot_id":"01000000-0000-0000-0000-000000000000","epoch_ms":-1}`, `{"boot_id":"01000000-0000-0000-0000-000000000000","epoch_ms":1,"uptime_ms":99999999999}`} {
			if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
			want(t, mustOpen(t, bootAt(image), Config{StateFile: file}).Now(), Unset, Unknown)
		}
	})
}

func TestAMachineThatWillNotAnswerHasAClockThatNobodySet(t *testing.T) {
	m := bootAt(image)
	if _, err := New(Config{Trust: "ntp", Machine: m.source()}); err == nil || !strings.Contains(err.Error(), "use auto or system") {
		t.Errorf("unknown trust: %v", err)
	}
	m.kErr = errors.New("operation not permitted")
	var log strings.Builder
	c, err := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Machine: m.source()})
	if err != nil || c.Now().State != Unset || !strings.Contains(log.String(), "ProtectClock") {
		t.Errorf("no adjtimex: %v, log %s", err, log.String())
	}
}

func TestThisMachineHasABootAndAnUptime(t *testing.T) {
	id, err := Boot()
	if err != nil || id == [16]byte{} {
		t.Errorf("Boot = %x, %v", id, err)
	}
	up := Uptime()
	if up <= 0 || Uptime() < up {
		t.Errorf("uptime %v", up)
	}
	c, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Now(); r.BootID != id || r.Uptime < up || time.Since(r.Wall).Abs() > time.Minute {
		t.Errorf("reading %+v", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	told := 0
	if err := c.Watch(ctx, func(Reading) { told++ }); err != nil || told == 0 {
		t.Errorf("Watch = %v, told %d times", err, told)
	}
}

func TestTheKernelsMarkOnTheBatteryClockIsFound(t *testing.T) {
	dir := t.TempDir()
	put := func(path, s string) {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(s+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if name, ok := chip(dir); ok {
		t.Errorf("found %q in an empty directory", name)
	}
	put("rtc0/hctosys", "0")
	put("rtc0/name", "rtc-broken")
	if name, ok := chip(dir); ok {
		t.Errorf("found %q, which did not set the time", name)
	}
	put("rtc1/hctosys", "1")
	put("rtc1/name", "rtc-ds1307 1-0068")
	put("rtc1/device/name", "ds3231")
	if name, ok := chip(dir); !ok || name != "ds3231" {
		t.Errorf("found %q, %v", name, ok)
	}
}

func FuzzStateFile(f *testing.F) {
	f.Add([]byte(`{"boot_id":"01000000-0000-0000-0000-000000000000","epoch_ms":1764000000000,"uptime_ms":101000,"bound_ms":20,"synced_ms":1764000101000}`))
	f.Add([]byte(`{"boot_id":"02"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, synced, err := parse(b, nil, [16]byte{1})
		if err != nil && (a.ok || !synced.IsZero()) {
			t.Error("something was taken from a file that is in error")
		}
		if d := a.at(time.Hour); a.ok && (d < 0 || a.bound < 0 || a.bound > Unknown || a.uptime < 0) {
			t.Errorf("%+v", a)
		}
	})
}
