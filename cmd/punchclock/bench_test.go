package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/device/devicetest"
)

// BenchmarkTap measures what a person waits for: from the last byte of a frame on
// the line to the result event, through the real binary, beside the least that
// this disk can do: one record written into a file that is already there, and
// synced. The two take turns, so that a busy machine slows both.
func BenchmarkTap(b *testing.B) {
	h := newHouse(b, settings{people: 200, window: "0s"})
	h.start()
	floor, err := newFloor(h.dir)
	if err != nil {
		b.Fatal(err)
	}
	defer floor.f.Close()
	const n = 1000
	var taps, floors []time.Duration
	for range b.N {
		for i := range n {
			frame := devicetest.RDM6300(h.people[i%len(h.people)].card)
			h.send(frame[:len(frame)-1])
			time.Sleep(2 * time.Millisecond)
			begin := time.Now()
			h.send(frame[len(frame)-1:])
			r := h.answer()
			taps = append(taps, r.at.Sub(begin))
			d, err := floor.once()
			if err != nil {
				b.Fatal(err)
			}
			floors = append(floors, d)
		}
	}
	report(b, "tap", taps)
	report(b, "floor", floors)
	b.ReportMetric(0, "ns/op")
	h.stop()
}

// floor is the raw file beside the outbox.
type floor struct {
	f   *os.File
	rec []byte
	at  int64
}

func newFloor(dir string) (*floor, error) {
	f, err := os.OpenFile(filepath.Join(dir, "floor"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, 4<<20)); err != nil {
		return nil, err
	}
	rec := make([]byte, 125) // a common record
	for i := range rec {
		rec[i] = byte(i)
	}
	return &floor{f: f, rec: rec}, f.Sync()
}

func (f *floor) once() (time.Duration, error) {
	begin := time.Now()
	if _, err := f.f.WriteAt(f.rec, f.at); err != nil {
		return 0, err
	}
	if err := unix.Fdatasync(int(f.f.Fd())); err != nil {
		return 0, err
	}
	f.at = (f.at + int64(len(f.rec))) % (4<<20 - 4096)
	return time.Since(begin), nil
}

func report(b *testing.B, what string, d []time.Duration) {
	slices.Sort(d)
	at := func(q float64) float64 { return float64(d[min(len(d)-1, int(q*float64(len(d))))].Microseconds()) }
	b.ReportMetric(at(0.5), what+"-p50-µs")
	b.ReportMetric(at(0.99), what+"-p99-µs")
}

// BenchmarkIdle measures what the clock costs while nobody is there: with 10,000
// punches in the outbox, a page looking on, and both destinations answering.
func BenchmarkIdle(b *testing.B) {
	h := newHouse(b, settings{people: 500, window: "0s"})
	h.openClouds()
	h.start()
	for i := range 10_000 {
		h.tap(h.people[i%len(h.people)])
	}
	h.delivered(3 * time.Minute)
	h.stop()
	h.start()
	time.Sleep(5 * time.Second)
	const watch = 30 * time.Second
	pid := h.cmd.Process.Pid
	for range b.N {
		cpu, wakes := spent(b, pid)
		time.Sleep(watch)
		cpu2, wakes2 := spent(b, pid)
		b.ReportMetric(100*(cpu2-cpu).Seconds()/watch.Seconds(), "%cpu")
		b.ReportMetric(float64(wakes2-wakes)/watch.Seconds(), "wakeups/s")
		b.ReportMetric(float64(procStatus(b, pid, "VmRSS")), "rss-kB")
		b.ReportMetric(float64(procStatus(b, pid, "RssAnon")), "anon-kB")
	}
	b.ReportMetric(0, "ns/op")
	h.stop()
}

// spent sums processor time and voluntary switches, the wake-ups, over all threads.
func spent(b testing.TB, pid int) (cpu time.Duration, wakes int) {
	b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		b.Fatal("no such process", err)
	}
	for _, t := range tasks {
		s, _ := os.ReadFile(t + "/status")
		for _, l := range strings.Split(string(s), "\n") {
			if v, ok := strings.CutPrefix(l, "voluntary_ctxt_switches:"); ok {
				n, _ := strconv.Atoi(strings.TrimSpace(v))
				wakes += n
			}
		}
		s, _ = os.ReadFile(t + "/schedstat") // nanoseconds on a processor, first field
		if f := strings.Fields(string(s)); len(f) > 0 {
			n, _ := strconv.ParseInt(f[0], 10, 64)
			cpu += time.Duration(n)
		}
	}
	return cpu, wakes
}

func procStatus(b testing.TB, pid int, field string) int {
	b.Helper()
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, l := range strings.Split(string(s), "\n") {
		if v, ok := strings.CutPrefix(l, field+":"); ok {
			n, _ := strconv.Atoi(strings.Fields(v)[0])
			return n
		}
	}
	return 0
}
