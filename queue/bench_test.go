package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCommit measures one punch made durable, beside the least that this
// disk can do: the same bytes written into a file that is already there, and
// synced. The two take turns, so that a busy machine slows both.
func BenchmarkCommit(b *testing.B) {
	for _, stored := range []int{0, 10_000, 100_000} {
		b.Run(fmt.Sprintf("stored=%d", stored), func(b *testing.B) {
			dir := b.TempDir()
			fill(b, dir, stored)
			box := open(b, Options{Dir: dir, SegmentRecords: 2 * defaultSegmentRecords})
			f, err := os.OpenFile(filepath.Join(dir, "floor"), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			if _, err := f.Write(make([]byte, 4<<20)); err != nil {
				b.Fatal(err)
			}
			f.Sync()
			const n = 700
			var commits, floors []time.Duration
			for range b.N {
				for i := range n {
					d := draft(stored + i)
					rec, _ := encodeRecord(uint64(i), [32]byte{}, &d)
					begin := time.Now()
					f.WriteAt(rec, int64(i*len(rec)))
					if err := syscall.Fdatasync(int(f.Fd())); err != nil {
						b.Fatal(err)
					}
					floors = append(floors, time.Since(begin))
					begin = time.Now()
					if _, err := box.Append(d); err != nil {
						b.Fatal(err)
					}
					commits = append(commits, time.Since(begin))
					if i%hotMax == 0 { // between punches
						if err := box.Tidy(); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			slices.Sort(commits)
			slices.Sort(floors)
			us := func(d []time.Duration, q float64) float64 { return float64(d[int(q*float64(len(d)-1))].Microseconds()) }
			b.ReportMetric(us(commits, .5), "commit-p50-µs")
			b.ReportMetric(us(floors, .5), "floor-p50-µs")
			b.ReportMetric(us(commits, .99), "commit-p99-µs")
			b.ReportMetric(us(floors, .99), "floor-p99-µs")
			b.ReportMetric(us(commits, .5)/us(floors, .5), "×floor")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// fill stores n punches fast, without syncs, as a clock of some months holds them.
func fill(b *testing.B, dir string, n int) {
	b.Helper()
	box, err := Open(Options{Dir: dir, Device: "test-1", Destinations: []string{"104", "feishu"}, UnsafeNoSync: true, SegmentRecords: 2 * defaultSegmentRecords})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if _, err := box.Append(draft(i)); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 999 {
			if err := box.Tidy(); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := box.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen measures a start with 100,000 punches in the file.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	fill(b, dir, 100_000)
	for b.Loop() {
		box, err := Open(Options{Dir: dir, Device: "test-1", Destinations: []string{"104", "feishu"}})
		if err != nil {
			b.Fatal(err)
		}
		box.Close()
	}
}
