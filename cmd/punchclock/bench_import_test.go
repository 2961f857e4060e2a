package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"punchclock/device/devicetest"
)

// twoRosters writes two files of 20,000 people of whom 2,000 have another name in the
// one than in the other, 100 another card, and 100 are in one of them only.
func twoRosters(h *house, n int) [2]string {
	var out [2]string
	for v := range out {
		b := bytes.NewBufferString("employee_no,name,badges,feishu_id\n")
		for i, p := range people(n) {
			name := p.name
			if i%10 == 9 {
				name += [2]string{"甲", "乙"}[v]
			}
			if i%200 == 150 {
				p.card[0] = byte(0x10 + v)
			}
			if i%200 != 50+v {
				fmt.Fprintf(b, "%s,%s,%s,u%d\n", p.number, name, p.badge(), i)
			}
		}
		out[v] = h.write(fmt.Sprintf("people-%d.csv", v), b.String())
	}
	return out
}

// BenchmarkTapsDuringAnImport measures what a person waits for while HR imports 20,000
// people and changes some: by the verb, and by the file that the clock looks after itself.
// Taps follow each other from the beginning of an import to its end, so that no part of it
// is passed over. Blocks of as many taps with nobody importing take turns with them, so
// that a busy machine slows all. rss is what the clock's process takes before its first
// import, and at most.
func BenchmarkTapsDuringAnImport(b *testing.B) {
	h := newHouse(b, settings{people: 20_000, window: "0s"})
	files := twoRosters(h, 20_000)
	source := filepath.Join(h.dir, "hr.csv")
	data, err := os.ReadFile(files[1]) // once: this process has taps to time
	if err != nil {
		b.Fatal(err)
	}
	put := func(n int) { // always the one, with lines at the end that say nothing: it is another file each time
		err := os.WriteFile(source+".new", append(slices.Clip(data), bytes.Repeat([]byte("\n"), n)...), 0o600)
		old := time.Now().Add(-time.Minute) // it has lain there long enough to be whole
		if err == nil {
			err = os.Chtimes(source+".new", old, old)
		}
		if err == nil {
			err = os.Rename(source+".new", source)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	put(0)
	h.start() // a clock that has not imported anything yet
	time.Sleep(3 * time.Second)
	before := procStatus(b, h.cmd.Process.Pid, "VmRSS")
	h.stop()
	config, err := os.ReadFile(h.config)
	if err != nil {
		b.Fatal(err)
	}
	h.write("punchclock.toml", string(config)+fmt.Sprintf("[roster]\nsource = %q\nevery = \"24h\"\n", source))
	h.start()
	pid := h.cmd.Process.Pid
	looks := 0
	var took [2]time.Duration // at most, by the verb and from the source
	timed := func(way int, args ...string) {
		begun := time.Now()
		out, code := h.run(append(append([]string{"roster"}, args...), "--config", h.config)...)
		took[way] = max(took[way], time.Since(begun))
		if code != 0 {
			b.Errorf("import: %d\n%s", code, out)
		}
		if !strings.Contains(out, "100 added, 2100 changed, 100 removed") {
			b.Errorf("another import than was meant: %s", out)
		}
	}
	verb := func() { timed(0, "import", files[0]) }
	look := func() { timed(1, "refresh") }
	n, torn := 0, 0
	most := 300 // taps of a block with nobody importing; as many as the last import took
	block := func(work func()) (taps []time.Duration) {
		var stop atomic.Bool
		done := make(chan struct{})
		go func() {
			defer close(done)
			if work != nil {
				work()
				stop.Store(true)
			}
		}()
		for !stop.Load() && (work != nil || len(taps) < most) {
			for n++; n%10 == 9 || n%200 == 150 || n%200 == 50 || n%200 == 51; n++ {
			}
			p := h.people[n%len(h.people)]
			frame := devicetest.RDM6300(p.card)
			h.send(frame[:len(frame)-1])
			time.Sleep(2 * time.Millisecond)
			begin := time.Now()
			h.send(frame[len(frame)-1:])
			r := h.answer()
			switch {
			case r.Outcome == "misread": // this process slept within the frame: no tap at all
				torn++
				continue
			case r.Employee != p.number:
				b.Fatalf("a tap of %s was taken for %+v", p.number, r)
			}
			taps = append(taps, r.at.Sub(begin))
		}
		<-done
		most = len(taps)
		return taps
	}
	h.run("roster", "refresh", "--config", h.config) // waits for the look of the start
	time.Sleep(3 * time.Second)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		b.Fatal(err) // the peak begins anew
	}
	var idle, byVerb, bySource []time.Duration
	for range b.N {
		for range 10 {
			idle = append(idle, block(nil)...)
			byVerb = append(byVerb, block(verb)...)
			looks++
			put(looks) // long before anybody reads it: the clock does not touch a file that has just been written
			time.Sleep(100 * time.Millisecond)
			bySource = append(bySource, block(look)...)
		}
	}
	report(b, "idle", idle)
	report(b, "verb", byVerb)
	report(b, "source", bySource)
	b.ReportMetric(float64(len(idle)), "idle-taps")
	b.ReportMetric(float64(len(byVerb)), "verb-taps")
	b.ReportMetric(float64(len(bySource)), "source-taps")
	b.ReportMetric(float64(before), "rss-before-kB")
	b.ReportMetric(float64(procStatus(b, pid, "VmHWM")), "rss-peak-kB")
	b.ReportMetric(float64(took[0].Milliseconds()), "verb-most-ms")
	b.ReportMetric(float64(took[1].Milliseconds()), "source-most-ms")
	b.ReportMetric(float64(torn), "torn-frames")
	b.ReportMetric(0, "ns/op")
	h.stop()
}
