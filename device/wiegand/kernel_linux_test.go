package wiegand

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// These tests run on a kernel of their own, with a simulated chip between the
// kernel's drivers and us: the interrupt, the event buffer, the numbering and the
// clock are the real ones. The reader is a process of its own, so that it can be
// put to sleep; the wires are driven by a thread that nothing but the kernel's own
// work comes before, as a reader on the wall is not slowed down by our load either.

var machine = func() devicetest.Machine {
	m := devicetest.Machine{Modules: []string{"gpio-sim"}, Within: 3 * time.Hour} // a busy machine emulates as fast as it is let
	if devicetest.ShortForm() {
		m.Within = 15 * time.Minute
	}
	return m
}()

const header4 = "pinctrl-bcm2711" // as on a Raspberry Pi 4

// The reader's process: it writes what it has to tell to its output, as lines,
// until it is killed.
func init() {
	formats := os.Getenv("WIEGAND_READER")
	switch formats {
	case "":
		return
	case "busy":
		for i := 0; ; i++ {
			runtime.KeepAlive(i)
		}
	}
	fail := func(err error) {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	if os.Getenv("WIEGAND_BUSY") != "" {
		go func() {
			for i := 0; ; i++ { // this process has more to do than read cards
				runtime.KeepAlive(i)
			}
		}()
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	r, err := New(Config{Name: "front", D0: "GPIO17", D1: "pin 12", Formats: strings.Split(formats, ","), Logger: log})
	if err != nil {
		fail(err)
	}
	out := make(chan device.Event)
	go func() {
		if err := r.Run(context.Background(), out); err != nil {
			fail(err)
		}
	}()
	for ev := range out {
		fmt.Printf("%s %d\n", brief(ev), ev.Last.Sub(ev.First).Microseconds())
	}
}

// process is the reader's process and what it has written.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	file string
}

func startProcess(t *testing.T, formats string, busy bool) *process {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "events")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &process{t: t, cmd: exec.Command("/proc/self/exe"), file: f.Name()}
	p.cmd.Env = []string{"WIEGAND_READER=" + formats}
	if busy {
		p.cmd.Env = append(p.cmd.Env, "WIEGAND_BUSY=1")
	}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func (p *process) signal(s unix.Signal) {
	if err := unix.Kill(p.cmd.Process.Pid, s); err != nil {
		p.t.Error(err)
	}
}

// lines returns what was written, each without the number at its end.
func (p *process) lines() (lines []string) {
	b, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		lines = append(lines, sc.Text())
	}
	return lines
}

// until waits for a line that begins so.
func (p *process) until(prefix string) {
	p.t.Helper()
	for range 600 {
		for _, line := range p.lines() {
			if strings.HasPrefix(line, prefix) {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.t.Fatalf("no %q in %q", prefix, p.lines())
}

// driver is what pulls the wires.
type driver struct {
	t   *testing.T
	sim *devicetest.GPIOSim
	now unix.Timespec
}

// drive runs fn on a thread that comes before all others but the kernel's own, and
// without a pause for the collection of garbage. So do the process's other threads:
// the Go runtime yields from one to another in places, which in front of threads of
// a lower rank would be for ever.
func drive(t *testing.T, sim *devicetest.GPIOSim, fn func(d *driver)) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	const other, fifo = 0, 1
	policy(t, fifo, 20)
	defer policy(t, other, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		d := &driver{t: t, sim: sim}
		d.now = d.read()
		fn(d)
	}()
	<-done
}

// policy sets how this process's threads are scheduled. The second time around it
// meets those that were made by one that was not set yet.
func policy(t *testing.T, policy, priority uint32) {
	t.Helper()
	for range 2 {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err == nil {
				err = unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}, 0)
			}
			if err != nil && err != unix.ESRCH { // it has ended meanwhile
				t.Error(err)
			}
		}
	}
}

// sleep until so long after the last time, or not at all if that has passed.
func (d *driver) sleep(after time.Duration) {
	d.now = unix.NsecToTimespec(d.now.Nano() + int64(after)) // so that being late does not add up
	for {                                                    // without the Go runtime, which takes a sleeping thread for an opportunity
		_, _, e := unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, uintptr(unsafe.Pointer(&d.now)), 0, 0, 0)
		if e == 0 {
			return
		}
		if e != unix.EINTR {
			d.t.Error(e)
			return
		}
	}
}

// read the clock.
func (d *driver) read() (now unix.Timespec) {
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		d.t.Error(err)
	}
	return now
}

// pulse sends one bit and returns when its edge was made.
func (d *driver) pulse(c byte) (at unix.Timespec) {
	line := 17 + int(c-'0')
	err := d.sim.Pull(line, false)
	at = d.read()
	if err = errors.Join(err, d.sim.Pull(line, true)); err != nil {
		d.t.Error(err)
	}
	return at
}

// frame sends one, and reports whether its pulses came at the pace that a reader
// sends them at. The kernel's own work comes before even this thread's, half a
// millisecond of it now and then, which delays the simulated wires as it would
// never delay those of a reader on the wall: a pulse that is late by half the
// spacing is what the reader must take for one that nobody saw. Such a frame is
// sent to its end all the same, as no part of it may pass for a shorter one.
func (d *driver) frame(bits string, pause, spacing time.Duration, before ...func(bit int)) (even bool) {
	even = true
	var last unix.Timespec
	for i := range len(bits) {
		for _, fn := range before {
			fn(i)
		}
		if i == 0 {
			d.sleep(pause)
			d.now = d.read()
		} else {
			d.sleep(spacing)
		}
		at := d.pulse(bits[i])
		if since := time.Duration(at.Nano() - last.Nano()); i > 0 && (since < spacing*3/5 || since > spacing*7/5) {
			even = false
			d.now = unix.NsecToTimespec(d.now.Nano() + int64(since-spacing)) // the others keep their distance from this one
		}
		last = at
	}
	return even
}

// draw makes a frame, and the event that it must become.
func draw(format string) (bits, want string) {
	var fac, num, medium = rand.IntN(65536), rand.IntN(65536), 34
	print := "%016b%016b"
	switch format {
	case "26":
		fac, medium, print = rand.IntN(256), 26, "%08b%016b"
	case "h10304":
		num, medium, print = rand.IntN(524288), 37, "%016b%019b"
	}
	return devicetest.Wiegand(print, fac, num), fmt.Sprintf("card w%d:%d-%d", medium, fac, num)
}

// sent is a frame that was sent.
type sent struct {
	event string // that it must become
	even  bool   // as a reader sends it: it must be read. Others may be refused
}

// count compares what came with what was sent.
type count struct {
	right, uneven, wrong int // frames that were read: as they should, those that need not be, those that must not be
	faults, pulses       int // pulses: that the kernel has lost
	slowest, fastest     int // frames of those that were right, microseconds
}

func compare(t *testing.T, want []sent, lines []string) (c count) {
	t.Helper()
	at := 0
	for _, line := range lines {
		if _, rest, ok := strings.Cut(line, "pulses="); ok {
			var n int
			fmt.Sscan(rest, &n)
			c.pulses += n
			continue
		}
		event, span := line, 0
		if i := strings.LastIndexByte(line, ' '); i >= 0 {
			event = line[:i]
			fmt.Sscan(line[i:], &span)
		}
		switch {
		case strings.HasPrefix(event, "card "):
			card, _, _ := strings.Cut(strings.TrimPrefix(event, "card "), " ")
			next := slices.IndexFunc(want[at:], func(s sent) bool { return s.event == "card "+card })
			if next < 0 {
				c.wrong++
				t.Errorf("%s was never sent, or not then", event)
				continue
			}
			at += next + 1
			if !want[at-1].even {
				c.uneven++
				continue
			}
			c.right++
			c.slowest = max(c.slowest, span)
			if c.fastest == 0 || span < c.fastest {
				c.fastest = span
			}
		case strings.HasPrefix(event, "fault"):
			c.faults++
		case event != "up" && !strings.HasPrefix(event, "level="):
			t.Errorf("the reader says %q", line)
		}
	}
	return c
}

func TestKernelGivesEveryFrameToAReaderUnderLoadAndAfterSleep(t *testing.T) {
	frames := func(t *testing.T, n int, how string) {
		sim := devicetest.NewGPIOSim(t, header4, 28)
		for _, format := range []string{"26", "34", "h10304"} {
			for _, spacing := range []time.Duration{time.Millisecond, 200 * time.Microsecond} {
				everyFrame(t, sim, how, format, spacing, n)
			}
		}
		sim.Remove()
	}
	if devicetest.ShortForm() {
		devicetest.InKernel(t, machine, func(t *testing.T) {
			frames(t, 50, "at leisure")
			frames(t, 10, "under full load")
			frames(t, 50, "asleep for 250 ms again and again")
		})
		return
	}
	for _, how := range []string{"at leisure", "asleep for 250 ms again and again", "under full load"} {
		t.Run(how, func(t *testing.T) {
			devicetest.InKernel(t, machine, func(t *testing.T) { frames(t, 10_000, how) })
		})
	}
}

func everyFrame(t *testing.T, sim *devicetest.GPIOSim, how, format string, spacing time.Duration, n int) {
	t.Helper()
	loaded := how == "under full load"
	p := startProcess(t, "26,34,h10304", loaded)
	if loaded { // and another one that does nothing else
		other := exec.Command("/proc/self/exe")
		other.Env = []string{"WIEGAND_READER=busy"}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			other.Process.Kill()
			other.Wait()
		}()
	}
	p.until("up")
	var want []sent
	var length, uneven, sleeps int
	drive(t, sim, func(d *driver) {
		asleep := int64(0) // since then
		for len(want)-uneven < n && uneven <= 20+n/5 {
			bits, card := draw(format)
			length = len(bits)
			stop := -1
			if strings.HasPrefix(how, "asleep") && len(want)%10 == 0 && asleep == 0 {
				stop = rand.IntN(length)
			}
			even := d.frame(bits, 35*time.Millisecond, spacing, func(bit int) {
				if bit == stop {
					p.signal(unix.SIGSTOP)
					asleep = d.now.Nano()
					sleeps++
				}
			})
			want = append(want, sent{card, even})
			if !even {
				uneven++
			}
			if asleep > 0 && d.now.Nano()-asleep >= int64(250*time.Millisecond) {
				p.signal(unix.SIGCONT)
				asleep = 0
			}
		}
		if asleep > 0 {
			p.signal(unix.SIGCONT)
		}
		d.sleep(time.Second)
	})
	time.Sleep(time.Second)
	p.kill()
	c := compare(t, want, p.lines())
	t.Logf("%s, %s, %v apart: %d frames sent, %d read, %d wrong, %d faults, %d pulses lost; put to sleep %d times; they took %d to %d µs; %d more were sent unevenly, and %d of those read",
		how, format, spacing, len(want)-uneven, c.right, c.wrong, c.faults, c.pulses, sleeps, c.fastest, c.slowest, uneven, c.uneven)
	if c.right != n || c.wrong > 0 || c.faults != uneven-c.uneven || c.pulses > 0 {
		t.Errorf("%s, %s, %v apart: of %d frames %d were read, %d wrong, %d faults: %q", how, format, spacing, n, c.right, c.wrong, c.faults, others(p.lines()))
	}
	if even := int(spacing.Microseconds()) * (length - 1); c.fastest < even*9/10 || c.slowest > even*11/10 {
		t.Errorf("the pulses were not %v apart: frames took %d to %d µs", spacing, c.fastest, c.slowest)
	}
}

// others returns what the reader said beside cards.
func others(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "card ") })
}

// A sleep that is longer than the buffer holds: what is lost is noticed by the
// kernel's numbering, and nothing is made of what is left.
func TestKernelBufferThatRunsOverMakesNoOtherCard(t *testing.T) {
	devicetest.InKernel(t, machine, func(t *testing.T) {
		sim := devicetest.NewGPIOSim(t, header4, 28)
		rounds := 100
		if devicetest.ShortForm() {
			rounds = 2
		}
		for _, format := range []string{"26", "34", "h10304"} {
			p := startProcess(t, "26,34,h10304", false)
			p.until("up")
			var want []sent
			var length, pulses int
			drive(t, sim, func(d *driver) {
				for i := range 60 * rounds {
					if i%60 == 5 {
						p.signal(unix.SIGSTOP)
					}
					bits, card := draw(format)
					length = len(bits)
					even := d.frame(bits, 35*time.Millisecond, 200*time.Microsecond, func(int) { pulses++ })
					want = append(want, sent{card, even})
					if i%60 == 55 { // 50 frames later
						d.sleep(rand.N(10 * time.Millisecond))
						p.signal(unix.SIGCONT)
					}
				}
				d.sleep(time.Second)
			})
			p.kill()
			c := compare(t, want, p.lines())
			t.Logf("%s, %d times asleep for 50 frames: %d frames sent, %d read, %d wrong, %d faults; of %d pulses %d were lost", format, rounds, len(want), c.right+c.uneven, c.wrong, c.faults, pulses, c.pulses)
			if c.wrong > 0 || c.faults < rounds*9/10 || c.pulses == 0 {
				t.Errorf("%s: %+v", format, c)
			}
			// All that was sent is accounted for: read, counted as lost, or part of a frame that was refused.
			if missing := pulses - c.pulses - (c.right+c.uneven)*length; missing < 0 || missing > c.faults*length {
				t.Errorf("%s: %d pulses are neither read nor counted", format, missing)
			}
		}
	})
}

func TestKernelReader(t *testing.T) {
	devicetest.InKernel(t, machine, func(t *testing.T) {
		t.Run("IsTheSuites", suite)
		t.Run("FindsChipsAndMissesThem", chips)
		t.Run("SeesAStuckWire", stuckWire)
		t.Run("ComesBackFiftyTimes", fiftyTimes)
		t.Run("ReadsTheFirstFrame", firstFrame)
		t.Run("LetsTheMachineSleep", idle)
	})
}

func firstFrame(t *testing.T) {
	rounds := 100
	if devicetest.ShortForm() {
		rounds = 3
	}
	sim := devicetest.NewGPIOSim(t, header4, 28)
	uneven := 0
	for i := range rounds {
		bits, card := draw([]string{"26", "34", "h10304"}[i%3])
		p := startProcess(t, "26,34,h10304", false)
		p.until("up")
		even := false
		drive(t, sim, func(d *driver) {
			even = d.frame(bits, time.Millisecond, 200*time.Microsecond)
			d.sleep(100 * time.Millisecond)
		})
		p.kill()
		if c := compare(t, []sent{{card, even}}, p.lines()); !even && c.wrong == 0 {
			uneven++
		} else if c.right != 1 || c.faults != 0 {
			t.Errorf("the first frame: %q", p.lines())
		}
	}
	for range rounds { // or it starts in the middle of one
		p := startProcess(t, "26,34,h10304", false)
		var want []sent
		must := 0 // be read
		drive(t, sim, func(d *driver) {
			for i := range 40 {
				pause := 35 * time.Millisecond // too short for the reader to begin
				if i == 30 {
					pause = 250 * time.Millisecond
				}
				bits, card := draw("34")
				even := d.frame(bits, pause, time.Millisecond)
				want = append(want, sent{card, even})
				switch {
				case !even:
					uneven++
				case i >= 30:
					must++
				}
			}
			d.sleep(100 * time.Millisecond)
		})
		p.kill()
		// For two seconds the wires were never quiet, and it may have said so.
		lines := slices.DeleteFunc(p.lines(), func(l string) bool { return strings.HasPrefix(l, "down reader front: the wires are never quiet") })
		if c := compare(t, want, lines); c.right < must {
			t.Errorf("started in the middle of a frame: %d of %d and more were read, %q", c.right, must, p.lines())
		}
	}
	if uneven > 2+rounds { // of 41 a round
		t.Errorf("the simulator sent %d frames unevenly", uneven)
	}
}

// tapper sends a frame at leisure, so slowly that what holds up the simulated wires,
// less than a millisecond, leaves it even: its fault would be one that no test here
// expects. Should it be uneven all the same it is sent again, and if the first was read
// the two are one tap.
func tapper(t *testing.T, sim **devicetest.GPIOSim, bits string) func() {
	return func() {
		t.Helper()
		for range 3 {
			even := false
			drive(t, *sim, func(d *driver) { even = d.frame(bits, 60*time.Millisecond, 4*time.Millisecond) })
			if even {
				return
			}
		}
		t.Error("the simulator sent three frames unevenly")
	}
}

// unplug deletes a chip's device file, as the kernel does when the chip goes; plug
// makes it again. To take the simulated chip itself away while it is in use damages
// the memory of kernels before 6.10, for which TestKernelChipIsPulledOut has a
// machine of its own.
func unplug(t *testing.T, sim *devicetest.GPIOSim) (plug func()) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(sim.Path, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(sim.Path); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := unix.Mknod(sim.Path, st.Mode, int(st.Rdev)); err != nil {
			t.Fatal(err)
		}
	}
}

func suite(t *testing.T) {
	devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
		sim := devicetest.NewGPIOSim(t, header4, 28)
		r, err := New(Config{Name: "front", D0: "GPIO17", D1: "GPIO18"})
		if err != nil {
			t.Fatal(err)
		}
		var plug func()
		return devicetest.Subject{
			Reader: r, Name: "front",
			Cards: [2]devicetest.Card{
				{Tap: tapper(t, &sim, alice), Medium: "w26", Value: "123-45678"},
				{Tap: tapper(t, &sim, bob), Medium: "w26", Value: "7-65534"},
			},
			Misread: tapper(t, &sim, alice[:20]),
			Unplug:  func() { plug = unplug(t, sim) },
			Replug:  func() { plug() },
		}
	})
}

// watched is a reader in this process.
type watched struct {
	t    *testing.T
	out  chan device.Event
	stop func()
}

func watch(t *testing.T, cfg Config) *watched {
	t.Helper()
	cfg.Name = "front"
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watched{t: t, out: make(chan device.Event, 100)}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, w.out) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return w
}

func (w *watched) want(s string) device.Event {
	w.t.Helper()
	select {
	case ev := <-w.out:
		if !strings.HasPrefix(brief(ev), s) {
			w.t.Fatalf("got %q, want %q", brief(ev), s)
		}
		return ev
	case <-time.After(10 * time.Second):
		w.t.Fatalf("got nothing, want %q", s)
		return device.Event{}
	}
}

func chips(t *testing.T) {
	missing := func(cfg Config, words ...string) {
		t.Helper()
		w := watch(t, cfg)
		defer w.stop()
		ev := w.want("down")
		if !errors.Is(ev.Err, device.ErrMissing) {
			t.Errorf("%v is not ErrMissing", ev.Err)
		}
		for _, word := range words {
			if !strings.Contains(ev.Err.Error(), word) {
				t.Errorf("%v does not say %q", ev.Err, word)
			}
		}
	}
	pins := Config{D0: "pin 11", D1: "pin 12"}
	with := func(chip string) Config { c := pins; c.Chip = chip; return c }
	missing(pins, "this machine has no GPIO")
	missing(with("door"), "this machine has no GPIO")
	missing(with("/dev/gpiochip0"), "/dev/gpiochip0")
	missing(with("/dev/gpio/door"), "/dev/gpio/door")

	other := devicetest.NewGPIOSim(t, "expander", 8, "A", "B")
	missing(pins, "Raspberry Pi", "expander (/dev/gpiochip0)")
	missing(with("door"), `"door"`, "expander")
	missing(with("expander"), "8 lines only")

	small := Config{Chip: "expander", D0: "GPIO4", D1: "GPIO5"}
	w := watch(t, small)
	w.want("up")
	second := watch(t, small)
	ev := second.want("down")
	if s := ev.Err.Error(); !strings.Contains(s, `GPIO4 is taken by "punchclock"`) || errors.Is(ev.Err, device.ErrMissing) {
		t.Error(s)
	}
	w.stop()
	second.want("up") // as soon as they are free
	second.stop()
	if err := os.Symlink(other.Path, "/tmp/door"); err != nil {
		t.Fatal(err)
	}
	w = watch(t, Config{Chip: "/tmp/door", D0: "GPIO0", D1: "GPIO1"})
	w.want("up")
	plug := unplug(t, other)
	w.want("down")
	plug()
	w.want("up")
	w.stop()
	other.Remove()

	for _, label := range []string{"pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835"} {
		sim := devicetest.NewGPIOSim(t, label, 54)
		w := watch(t, pins)
		w.want("up")
		tapper(t, &sim, alice)()
		w.want("card w26:123-45678")
		w.stop()
		sim.Remove()
	}
	if err := os.WriteFile("/tmp/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w = watch(t, with("/tmp/file"))
	w.want("down reader front: /tmp/file is no GPIO chip")
	w.stop()
}

func stuckWire(t *testing.T) {
	sim := devicetest.NewGPIOSim(t, header4, 28)
	w := watch(t, Config{D0: "GPIO17", D1: "GPIO18"})
	defer w.stop()
	w.want("up")
	for _, line := range []int{17, 18} {
		if err := sim.Pull(line, false); err != nil {
			t.Fatal(err)
		}
		w.want("fault noise")
		w.want(fmt.Sprintf("down reader front: D%d stays low", line-17))
		if err := sim.Pull(line, true); err != nil {
			t.Fatal(err)
		}
		w.want("up")
		tapper(t, &sim, bob)()
		w.want("card w26:7-65534")
		time.Sleep(time.Second) // or the next would be the same tap
	}
}

func fiftyTimes(t *testing.T) {
	sim := devicetest.NewGPIOSim(t, header4, 28)
	w := watch(t, Config{D0: "GPIO17", D1: "GPIO18"})
	w.want("up")
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	goroutines, files := runtime.NumGoroutine(), open()
	for range 50 {
		plug := unplug(t, sim)
		w.want("down reader front: the GPIO chip is gone")
		time.Sleep(rand.N(5 * time.Second))
		plug()
		plugged := time.Now()
		w.want("up")
		tapper(t, &sim, alice)()
		w.want("card w26:123-45678")
		if took := time.Since(plugged); took > 2*time.Second {
			t.Errorf("the first tap was read %v after it was plugged in", took)
		}
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if n := open(); n > files {
		t.Errorf("%d open files, %d before", n, files)
	}
	w.stop()
}

func idle(t *testing.T) {
	devicetest.NewGPIOSim(t, header4, 28)
	p := startProcess(t, "26", false)
	p.until("up")
	time.Sleep(time.Minute)
	ticks := func() int {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		var user, system int
		fmt.Sscan(f[11], &user)
		fmt.Sscan(f[12], &system)
		return user + system
	}
	before := ticks()
	time.Sleep(20 * time.Minute)
	used := ticks() - before // hundredths of a second
	t.Logf("%d ms of processor time in 20 idle minutes", used*10)
	if used > 120 { // 0.1 %
		t.Errorf("%d ms of processor time in 20 idle minutes", used*10)
	}
}

func TestKernelChipIsPulledOut(t *testing.T) {
	devicetest.InKernel(t, machine, func(t *testing.T) {
		sim := devicetest.NewGPIOSim(t, header4, 28)
		w := watch(t, Config{D0: "GPIO17", D1: "GPIO18"})
		w.want("up")
		sim.Remove()
		ev := w.want("down reader front: the GPIO chip is gone")
		if took := time.Since(ev.Last); took > time.Second {
			t.Errorf("told after %v", took)
		}
		w.stop()
	})
}
