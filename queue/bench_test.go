package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/queue/punch"
)

// The figures are printed as one table, measured against what is wanted, by
//
//	BENCH=full  go test -run '^TestFigures$' -v ./queue    (some ten minutes)
//	BENCH=quick go test -run '^TestFigures$' -v ./queue    (under two)
//
// BENCH_ONLY is a pattern for the part to measure. A figure that misses is marked,
// and fails nothing: this is a table, not a promise. Every latency stands beside
// the floor, the least that the medium can do: the bytes that a commit writes, at
// once, into a file that is already there, and synced. The two take turns, so that
// a busy machine slows both. A second floor is the record's few bytes alone, which
// no file that finds its records again could do with.
func TestFigures(t *testing.T) {
	mode := os.Getenv("BENCH")
	if mode == "" {
		t.Skip("make bench prints the figures")
	}
	f := &figures{T: t, quick: mode == "quick", stores: map[string]string{}}
	f.prepare()
	begin := time.Now()
	f.head()
	for _, part := range []struct {
		name string
		run  func()
	}{
		{"commit", f.commits}, {"device", f.devices}, {"settle", f.settles},
		{"cards", f.cards}, {"roll", f.rolls}, {"open", f.opens}, {"read", f.reads},
	} {
		if only := os.Getenv("BENCH_ONLY"); only == "" || strings.Contains(only, part.name) {
			part.run()
		}
	}
	fmt.Printf("\n%d of %d figures are as wanted; %s\n", f.good, f.all, time.Since(begin).Round(time.Second))
}

type figures struct {
	*testing.T
	quick     bool
	stores    map[string]string
	good, all int
}

// prepare looks at the ground, and sees to it that nothing stays on the disk when
// a person ends it early. Mounts and devices go by themselves, see card.
func (f *figures) prepare() {
	dir := f.TempDir()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		f.Fatal(err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < 6<<30 {
		f.Fatalf("%d MB free in %s, 6 GB wanted; set TMPDIR", free>>20, dir)
	}
	if st.Type == unix.TMPFS_MAGIC {
		fmt.Printf("%s lies in memory: nothing here is a figure of a disk; set TMPDIR\n", dir)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	f.Cleanup(func() { signal.Stop(stop) })
	go func() {
		<-stop
		os.RemoveAll(filepath.Dir(dir))
		os.Exit(130)
	}()
}

const rowForm = "| %-64s | %-54s | %-24s | %-2s |\n"

func (f *figures) head() {
	fmt.Printf("\n"+rowForm, "what", "measured", "wanted", "")
	fmt.Printf("|%s|%s|%s|----|\n", strings.Repeat("-", 66), strings.Repeat("-", 56), strings.Repeat("-", 26))
}

// row prints one line; a wanted value of 0 asks for nothing.
func (f *figures) row(what, measured, wanted string, ok bool) {
	mark := ""
	if wanted != "" {
		f.all++
		if mark = "no"; ok {
			mark = "ok"
			f.good++
		}
	}
	fmt.Printf(rowForm, what, measured, wanted, mark)
}

func (f *figures) cannot(what string, err error) {
	fmt.Printf("| %-64s | NOT MEASURED: %v |\n", what, err)
}

func must[T any](f *figures) func(T, error) T {
	return func(v T, err error) T {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
		return v
	}
}

func benchOptions(dir string) Options {
	return Options{Dir: dir, Device: "test-1", Destinations: []string{"104", "feishu"}}
}

// measureOptions are those for measuring a punch behind n others. A full file is
// the worst there is; the product would begin a new one at the first punch.
func measureOptions(dir string, n int) Options {
	o := benchOptions(dir)
	if n <= defaultSegmentRecords {
		o.SegmentRecords = 4 * defaultSegmentRecords
	}
	return o
}

func (f *figures) open(o Options) *Outbox {
	f.Helper()
	return must[*Outbox](f)(Open(o))
}

// store returns a folder with n punches in it, as the product would have filled
// it: a file for each month or 100,000. It is made once, without syncs.
func (f *figures) store(n int) string { return f.made(strconv.Itoa(n), n, 0) }

// delivered is store with all but the last few settled at both destinations, in batches of 50.
func (f *figures) delivered(n, left int) string {
	return f.made(fmt.Sprintf("%d-%d", n, left), n, n-left)
}

func (f *figures) made(name string, n, settled int) string {
	if dir := f.stores[name]; dir != "" {
		return dir
	}
	dir := filepath.Join(f.TempDir(), name)
	if settled > 0 && f.stores[strconv.Itoa(n)] != "" {
		copyDir(f, f.stores[strconv.Itoa(n)], dir)
	}
	o := benchOptions(dir)
	o.UnsafeNoSync = true
	box := f.open(o)
	var wg sync.WaitGroup
	for at := int(box.head); at < n; {
		next := min(at+1000, n)
		for lane := range 20 {
			wg.Go(func() {
				for i := at + lane; i < next; i += 20 {
					if _, err := box.Append(draft(i)); err != nil {
						panic(err)
					}
				}
			})
		}
		wg.Wait()
		if next < n { // the last file stays as full as it can be
			if err := box.Tidy(); err != nil {
				f.Fatal(err)
			}
		}
		at = next
	}
	for _, dest := range o.Destinations {
		for at := 0; at < settled; at += 50 {
			if err := box.Settle(dest, verdicts(at+1, min(at+50, settled), "")); err != nil {
				f.Fatal(err)
			}
		}
	}
	if err := box.Close(); err != nil {
		f.Fatal(err)
	}
	syscall.Sync()
	f.stores[name] = dir
	return dir
}

// verdicts accepts the punches from..to. An id is the far side's name for the
// first; the next ones follow it as a snowflake's do.
func verdicts(from, to int, id string) []punch.Verdict {
	out := make([]punch.Verdict, 0, to-from+1)
	for seq := from; seq <= to; seq++ {
		v := punch.Verdict{ID: punch.NewID("test-1", uint64(seq)), Fate: punch.Accept, Attempts: 1}
		if id != "" {
			n, _ := strconv.ParseUint(id, 10, 64)
			v.Receipt = strconv.FormatUint(n+uint64(seq)*7_340_033+uint64(seq)*2654435761%4096, 10)
		}
		out = append(out, v)
	}
	return out
}

func copyDir(f *figures, from, to string) {
	f.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		f.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		f.Fatal(err)
	}
	syscall.Sync()
}

// rawFloor is the file beside the outbox that is already written.
type rawFloor struct {
	f  *os.File
	at int64
}

func (f *figures) floor(dir, name string) *rawFloor {
	r := &rawFloor{f: must[*os.File](f)(os.OpenFile(filepath.Join(dir, "floor-"+name), os.O_RDWR|os.O_CREATE, 0o600))}
	if _, err := r.f.Write(make([]byte, 1<<20)); err != nil {
		f.Fatal(err)
	}
	r.f.Sync()
	return r
}

func (r *rawFloor) remove() {
	r.f.Close()
	os.Remove(r.f.Name())
}

func (r *rawFloor) once(rec []byte) (time.Duration, error) {
	begin := time.Now()
	if _, err := r.f.WriteAt(rec, r.at); err != nil {
		return 0, err
	}
	err := syscall.Fdatasync(int(r.f.Fd()))
	r.at = (r.at + int64(len(rec))) % (1<<20 - 2*PageSize)
	return time.Since(begin), err
}

// latency is how long n punches took, each in turn with both floors.
type latency struct{ commits, floors, records, pairs []time.Duration }

// latencies makes n punches as people do: what is done between punches is done
// between them. A commit is a page of records and the page that names it, as the
// device's counts show; that many bytes are the floor. At every fourth there are a
// record by itself, too, and pairs, which are two records one behind the other: what
// two syncs cost here where nothing is between them. Each begins as a tap does, by a
// goroutine whose turn it has just become: one that never gives way is interrupted every
// ten milliseconds by the runtime, at the price of 60,000 instructions.
func (f *figures) latencies(dir string, stored, n int) (l latency) {
	box := f.open(measureOptions(dir, stored))
	defer box.Close()
	pages, record := f.floor(dir, "pages"), f.floor(dir, "record")
	defer pages.remove()
	defer record.remove()
	at, same := int(box.head), make([]byte, 2*PageSize)
	for i := range n {
		d := draft(at + i)
		rec, _ := encodeRecord(uint64(at+i), [32]byte{}, &d)
		copy(same, rec)
		copy(same[PageSize:], rec)
		runtime.Gosched()
		l.floors = append(l.floors, must[time.Duration](f)(pages.once(same)))
		if i%4 == 0 {
			runtime.Gosched()
			l.records = append(l.records, must[time.Duration](f)(record.once(rec)))
			begin := time.Now()
			must[time.Duration](f)(record.once(rec))
			must[time.Duration](f)(record.once(rec))
			l.pairs = append(l.pairs, time.Since(begin))
		}
		runtime.Gosched()
		begin := time.Now()
		if _, err := box.Append(d); err != nil {
			f.Fatal(err)
		}
		l.commits = append(l.commits, time.Since(begin))
		f.between(box)
		if i%32 == 0 { // between punches too: a clock's other work makes more garbage than a punch does
			runtime.GC()
		}
	}
	for _, d := range [][]time.Duration{l.commits, l.floors, l.records, l.pairs} {
		slices.Sort(d)
	}
	return l
}

// between is what Run would do before the next person comes.
func (f *figures) between(box *Outbox) {
	select {
	case <-box.work:
		if err := box.Tidy(); err != nil {
			f.Fatal(err)
		}
	default:
	}
}

func quantile(d []time.Duration, q float64) time.Duration { return d[int(q*float64(len(d)-1))] }

func (f *figures) latencyRow(what, dir string, stored, n int, most50, most99 float64) {
	l := f.latencies(dir, stored, n)
	times := func(a, b []time.Duration, q float64) float64 {
		return float64(quantile(a, q)) / float64(quantile(b, q))
	}
	x50, x99 := times(l.commits, l.floors, .5), times(l.commits, l.floors, .99)
	wanted := fmt.Sprintf("p50 ≤ %.1f ×", most50)
	if most99 > 0 {
		wanted += fmt.Sprintf(", p99 ≤ %.1f ×", most99)
	}
	ms := func(d []time.Duration, q float64) string {
		return fmt.Sprintf("%.2f", float64(quantile(d, q).Microseconds())/1000)
	}
	f.row(what, fmt.Sprintf("p50 %.2f × (%s/%s ms), p99 %.2f × (%s/%s ms)", x50, ms(l.commits, .5), ms(l.floors, .5), x99, ms(l.commits, .99), ms(l.floors, .99)),
		wanted, x50 <= most50 && (most99 == 0 || x99 <= most99))
	f.row("  of the sync of a record alone", fmt.Sprintf("p50 %.2f ×, p99 %.2f ×; of two such syncs %.2f ×, %.2f ×",
		times(l.commits, l.records, .5), times(l.commits, l.records, .99), times(l.commits, l.pairs, .5), times(l.commits, l.pairs, .99)), "", true)
}

func (f *figures) sizes() []int {
	if f.quick {
		return []int{0, 100_000}
	}
	return []int{0, 10_000, 100_000, 1_000_000}
}

func (f *figures) pick(quick, full int) int {
	if f.quick {
		return quick
	}
	return full
}

// commits measures a punch on this disk.
func (f *figures) commits() {
	for _, n := range f.sizes() {
		dir := filepath.Join(f.TempDir(), "x")
		copyDir(f, f.store(n), dir)
		f.latencyRow(fmt.Sprintf("a punch, this disk, %d stored", n), dir, n, f.pick(300, 1000), 2.3, 0)
		os.RemoveAll(dir)
	}
}

// devices counts what a punch writes to a device.
func (f *figures) devices() {
	c, err := newCard(f, nil)
	if err != nil {
		f.cannot("device bytes a punch", err)
		return
	}
	type state struct {
		name, dir string
		stored, n int // n long enough to hold the zeros written ahead, once at least in 40,000
		most      float64
	}
	states := []state{{"0 stored", f.store(0), 0, f.pick(600, 5000), 14336}, {"100000 stored", f.store(100_000), 100_000, f.pick(600, 45_000), 13312}}
	if f.quick {
		states = append(states, state{"100000 delivered", f.delivered(100_000, 0), 100_000, 600, 14336})
	} else {
		states = append(states, state{"1000000 stored", f.store(1_000_000), 1_000_000, 5000, 14336},
			state{"a million delivered", f.delivered(1_000_000, 0), 1_000_000, 5000, 14336})
	}
	states = append(states, state{"10000 stored, much parked and learned", f.crowded(), 10_000, f.pick(600, 5000), 14336})
	for _, s := range states {
		dir := filepath.Join(c.dir, "x")
		copyDir(f, s.dir, dir)
		box := f.open(measureOptions(dir, s.stored))
		if err := box.Tidy(); err != nil { // what filling it has left undone
			f.Fatal(err)
		}
		at, n := int(box.head), s.n
		var own counts
		begin := c.counts(f)
		for i := range n {
			before := c.counts(f)
			if _, err := box.Append(draft(at + i)); err != nil {
				f.Fatal(err)
			}
			d := c.counts(f).since(before)
			own.bytes, own.flushes = own.bytes+d.bytes, own.flushes+d.flushes
			f.between(box)
		}
		d := c.counts(f).since(begin)
		per := func(v int64) float64 { return float64(v) / float64(n) }
		f.row("device bytes a punch, "+s.name, fmt.Sprintf("%.0f (own path %.0f)", per(d.bytes), per(own.bytes)),
			fmt.Sprintf("≤ %.0f", s.most), per(d.bytes) <= s.most)
		f.row("flushes a punch, "+s.name, fmt.Sprintf("%.2f (own path %.2f)", per(d.flushes), per(own.flushes)),
			"≤ 2.40 (own 2.00)", per(d.flushes) <= 2.4 && per(own.flushes) < 2.005)
		box.Close()
		os.RemoveAll(dir)
	}
	// The second copy is no part of a punch: it is synced within a second, here for
	// each punch by itself, as on a quiet day.
	dir := filepath.Join(c.dir, "x")
	copyDir(f, f.store(0), dir)
	o := measureOptions(dir, 0)
	o.Mirror = filepath.Join(dir, "mirror")
	box, n := f.open(o), f.pick(200, 1000)
	var own counts
	for i := range n {
		if _, err := box.Append(draft(i)); err != nil {
			f.Fatal(err)
		}
		before := c.counts(f)
		if err := box.copyMirror(context.Background()); err != nil {
			f.Fatal(err)
		}
		d := c.counts(f).since(before)
		own.bytes, own.flushes = own.bytes+d.bytes, own.flushes+d.flushes
	}
	f.row("the second copy of a lone punch, device bytes", fmt.Sprintf("%d (%.2f flushes)", own.bytes/int64(n), float64(own.flushes)/float64(n)), "", true)
	box.Close()
	os.RemoveAll(dir)
	c.close(f)
}

// crowded returns a folder with much beside the records: punches parked at both
// destinations and put back, people and times learned later, receipts of every kind.
func (f *figures) crowded() string {
	dir := filepath.Join(f.TempDir(), "crowded")
	copyDir(f, f.store(10_000), dir)
	o := benchOptions(dir)
	o.UnsafeNoSync = true
	box := f.open(o)
	found := map[uint64]string{}
	for i := range 40 {
		if err := box.SetBootTime([16]byte{byte(i)}, time.UnixMilli(int64(i))); err != nil {
			f.Fatal(err)
		}
		found[uint64(i+1)] = "000001"
	}
	if err := box.putLinks(found, nil); err != nil {
		f.Fatal(err)
	}
	for at := 0; at < 2000; at += 20 {
		for _, dest := range o.Destinations {
			vs := verdicts(at+1, at+20, map[string]string{"feishu": "7390000000000000000"}[dest])
			vs[3].Fate, vs[3].Receipt, vs[3].Reason, vs[3].Message = punch.Refuse, "", "emp_no_unknown", "員工編號不存在"
			if at >= 1900 {
				vs[7].Fate, vs[12].Fate = punch.Keep, punch.Keep
			}
			if err := box.Settle(dest, vs); err != nil {
				f.Fatal(err)
			}
		}
	}
	if _, err := box.Retry("104", punch.NewID("test-1", 4), punch.NewID("test-1", 24)); err != nil {
		f.Fatal(err)
	}
	if err := box.Close(); err != nil {
		f.Fatal(err)
	}
	return dir
}

// settles counts what marking deliveries writes.
func (f *figures) settles() {
	c, err := newCard(f, nil)
	if err != nil {
		f.cannot("marking deliveries", err)
		return
	}
	defer c.close(f)
	n := f.pick(100_000, 1_000_000)
	for _, s := range []struct {
		batch int
		id    string
		most  float64
	}{{50, "", 170}, {100, "", 85}, {500, "", 20}, {50, "7390000000000000000", 340}} {
		dir := filepath.Join(c.dir, "x")
		copyDir(f, f.store(n), dir)
		box := f.open(measureOptions(dir, n))
		do := n
		if s.id != "" {
			do = min(n, 200_000)
		}
		begin, from := time.Now(), c.counts(f)
		for at := 0; at < do; at += s.batch {
			if err := box.Settle("104", verdicts(at+1, at+s.batch, s.id)); err != nil {
				f.Fatal(err)
			}
			f.between(box)
		}
		d, took := c.counts(f).since(from), time.Since(begin)
		what := fmt.Sprintf("delivered, %d, batch %d", do, s.batch)
		if s.id != "" {
			what += ", record ids kept"
		}
		f.row(what+": bytes a record", fmt.Sprintf("%.1f (%.1f s)", float64(d.bytes)/float64(do), took.Seconds()),
			fmt.Sprintf("≤ %.0f", s.most), float64(d.bytes) <= s.most*float64(do))
		if s.batch == 50 && s.id == "" {
			most := int64(42_000) * int64(do) / 1_000_000
			f.row(what+": flushes", fmt.Sprint(d.flushes), fmt.Sprintf("≤ %d", most), d.flushes <= most)
		}
		box.Close()
		os.RemoveAll(dir)
	}
}

var cardModels = []cardModel{
	{"card 2 ms a write", 2 * time.Millisecond, 0, 5000, 0},
	{"card 6 ms a flush", 200 * time.Microsecond, 6 * time.Millisecond, 5000, 0},
}

// cards measures a punch, and many at once, on slow cards: in a virtual machine, where
// POWER_KERNEL names a kernel for it, else on this machine itself.
func (f *figures) cards() {
	if root := os.Getenv("POWER_KERNEL"); root != "" && os.Getpid() != 1 {
		f.inside(root)
		return
	}
	if os.Getpid() != 1 {
		f.row("the cards on this machine itself: what else it does is in their p99", "", "", true)
	}
	for _, m := range cardModels {
		c, err := newCard(f, &m)
		if err != nil {
			f.cannot(m.name, err)
			continue
		}
		for _, n := range f.sizes() {
			dir := filepath.Join(c.dir, "x")
			copyDir(f, f.store(n), dir)
			c.slow(true)
			f.latencyRow(fmt.Sprintf("a punch, %s, %d stored", m.name, n), dir, n, f.pick(150, m.samples), 2.1, 2)
			c.slow(false)
			os.RemoveAll(dir)
		}
		dir := filepath.Join(c.dir, "x")
		copyDir(f, f.store(100_000), dir)
		c.slow(true)
		one, _ := f.rate(dir, 1, f.pick(1, 3))
		many, group := f.rate(dir, 16, f.pick(1, 3))
		c.slow(false)
		f.row("16 readers at once, "+m.name, fmt.Sprintf("%.1f × one reader (%.0f/s, %.0f/s; %.1f a commit)", many/one, many, one, group), "≥ 8 ×", many >= 8*one)
		c.close(f)
	}
}

// inside measures the cards in a virtual machine with one processor and a kernel of its
// own, whose time is the number of instructions executed, at 1 ns each, about a
// Raspberry Pi 3's. This machine has other things to do: where they take the processor
// for milliseconds, they hit two syncs twice as often as one, and that is in the slowest
// hundredth. In there is nobody else.
func (f *figures) inside(root string) {
	m := &powerMachine{dir: f.TempDir(), clock: "shift=0,sleep=off"}
	if err := m.pack(root, "fuse"); err != nil {
		f.cannot("a punch on slow cards", err)
		return
	}
	stores := filepath.Join(m.dir, "stores")
	for _, n := range f.sizes() {
		copyDir(f, f.store(n), filepath.Join(stores, strconv.Itoa(n)))
	}
	disk := func(name string, options ...string) string {
		name = filepath.Join(m.dir, name)
		if err := makeDisk(name, cardBytes, append(options, "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0")...); err != nil {
			f.Fatal(err)
		}
		return "if=virtio,format=raw,readonly=on,file=" + name
	}
	begin, done := time.Now(), false
	err := m.run("POWER_GUEST=cards BENCH="+os.Getenv("BENCH"), 3072, []string{"-drive", disk("empty"), "-drive", disk("filled", "-d", stores)}, time.Hour,
		func(line string, cut func(time.Duration)) {
			switch {
			case strings.HasPrefix(line, "| "):
				fmt.Println(line)
				if strings.HasSuffix(line, "| ok |") {
					f.good++
					f.all++
				} else if strings.HasSuffix(line, "| no |") {
					f.all++
				}
			case line == "DONE":
				done = true
				cut(0)
			}
		})
	if err == nil && !done {
		err = errors.New("the virtual machine was stopped before it was done")
	}
	if err != nil {
		f.cannot("a punch on slow cards", err)
	}
	f.Logf("the cards took %v", time.Since(begin).Round(time.Second))
}

// TestCardsInside is what inside starts, as the first process of the machine.
func TestCardsInside(t *testing.T) {
	if os.Getpid() != 1 {
		t.Skip("a part of the figures: make bench runs it in a virtual machine")
	}
	runtime.MemProfileRate = 0 // as in the clock itself, which does not profile its memory: 60,000 instructions each half megabyte
	f := &figures{T: t, quick: os.Getenv("BENCH") == "quick", stores: map[string]string{}}
	for _, n := range f.sizes() {
		f.stores[strconv.Itoa(n)] = filepath.Join("/stores", strconv.Itoa(n))
	}
	f.cards()
	fmt.Println("\nDONE")
}

// rolls measures a tap while a new file is begun, on cards that take in no more
// than the least that is sold.
func (f *figures) rolls() {
	for _, m := range cardModels {
		m.perSecond = 10 << 20
		m.name += ", 10 MB/s"
		c, err := newCard(f, &m)
		if err != nil {
			f.cannot("a tap while a new file is begun, "+m.name, err)
			continue
		}
		f.rollRow(c, m.name)
		c.close(f)
	}
}

// rollRow measures the tap of a person who comes just as a new file is begun.
func (f *figures) rollRow(c *card, name string) {
	dir := filepath.Join(c.dir, "x")
	defer os.RemoveAll(dir)
	o := benchOptions(dir)
	o.SegmentRecords = 40
	box := f.open(o)
	defer box.Close()
	c.slow(true)
	defer c.slow(false)
	tap := func(n int) time.Duration {
		begin := time.Now()
		if _, err := box.Append(draft(n)); err != nil {
			f.Fatal(err)
		}
		return time.Since(begin)
	}
	var alone, meanwhile []time.Duration
	for n := 0; len(meanwhile) < f.pick(3, 15); {
		for range o.SegmentRecords {
			alone = append(alone, tap(n))
			n++
		}
		tidied := make(chan error, 1)
		go func() { tidied <- box.Tidy() }()
		for box.wmu.TryLock() { // until it is at work
			box.wmu.Unlock()
			time.Sleep(100 * time.Microsecond)
		}
		longest := time.Duration(0) // of the taps until all is done
		for done := false; !done; {
			longest = max(longest, tap(n))
			n++
			select {
			case err := <-tidied:
				if done = true; err != nil {
					f.Fatal(err)
				}
			default:
			}
		}
		meanwhile = append(meanwhile, longest)
	}
	slices.Sort(alone)
	slices.Sort(meanwhile)
	mid, most := quantile(meanwhile, .5), meanwhile[len(meanwhile)-1]
	f.row("the slowest tap while a new file is begun, "+name, fmt.Sprintf("%.1f ms, at most %.1f; else %.1f",
		float64(mid.Microseconds())/1000, float64(most.Microseconds())/1000, float64(quantile(alone, .5).Microseconds())/1000), "", true)
}

// rate is how many punches a second so many readers get through, with what Run does
// going on beside it, and how many share a commit.
func (f *figures) rate(dir string, readers, seconds int) (perSecond, group float64) {
	box := f.open(measureOptions(dir, 0))
	defer box.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { box.Run(ctx) })
	commits := 0
	box.OnCommit(func(time.Duration, int) { commits++ })
	from := int(box.head)
	begin := time.Now()
	var wg sync.WaitGroup
	for lane := range readers {
		wg.Go(func() {
			for i := from + lane; time.Since(begin) < time.Duration(seconds)*time.Second; i += readers {
				if _, err := box.Append(draft(i)); err != nil {
					panic(err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	cancel()
	run.Wait()
	n := float64(int(box.head) - from)
	return n / took.Seconds(), n / float64(commits)
}

// opens measures a start, in a process of its own.
func (f *figures) opens() {
	if !f.quick {
		dir := f.delivered(1_000_000, 100_000)
		o := benchOptions(dir)
		o.UnsafeNoSync, o.Mirror = true, filepath.Join(dir, "mirror")
		box := f.open(o)
		if err := errors.Join(box.copyMirror(context.Background()), box.Close()); err != nil {
			f.Fatal(err)
		}
		cold := f.start(dir, true)
		f.row("start cold, 1000000 stored and copied, 100000 undelivered", fmt.Sprintf("ready %s, first commit %s", cold.ready(), cold.first()), "ready ≤ 1 s", cold.Ready <= 1000)
		f.row("  resident then, at most", fmt.Sprintf("%.0f MB, peak %.0f MB", cold.RSS, cold.Peak), "≤ 64 MB", cold.Peak <= 64)
		warm := f.start(dir, false)
		f.row("start warm, 1000000 stored and copied", fmt.Sprintf("ready %s, first commit %s", warm.ready(), warm.first()), "", true)
	}
	dir := f.store(100_000)
	cold := f.start(dir, true)
	f.row("start cold, 100000 in one file", fmt.Sprintf("ready %s, first commit %s; peak %.0f MB", cold.ready(), cold.first(), cold.Peak), "≤ 500 ms", cold.Ready <= 500)
	warm := f.start(dir, false)
	f.row("start warm, 100000 in one file, to the first commit", fmt.Sprintf("ready %s, first commit %s", warm.ready(), warm.first()), "≤ 20 ms", warm.First <= 20)
}

// started is what a start took, in milliseconds and MB.
type started struct{ Ready, First, RSS, Peak float64 }

func (s started) ready() string { return fmt.Sprintf("%.1f ms", s.Ready) }
func (s started) first() string { return fmt.Sprintf("%.1f ms", s.First) }

// start starts five times, and returns the one in the middle.
func (f *figures) start(dir string, cold bool) started {
	var all []started
	for range f.pick(3, 5) {
		x := filepath.Join(f.TempDir(), "x")
		copyDir(f, dir, x)
		if cold {
			f.forget(x)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestStartServer$")
		cmd.Env = append(os.Environ(), "START_DIR="+x)
		out, err := cmd.Output()
		var s started
		if err == nil {
			err = json.Unmarshal(out, &s)
		}
		if err != nil {
			f.Fatalf("%v: %s", err, out)
		}
		all = append(all, s)
		os.RemoveAll(x)
	}
	slices.SortFunc(all, func(a, b started) int { return cmp.Compare(a.First, b.First) })
	return all[len(all)/2]
}

// forget drops a folder's files from the page cache.
func (f *figures) forget(dir string) {
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		h, err := os.Open(name)
		if err != nil {
			return err
		}
		defer h.Close()
		return unix.Fadvise(int(h.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
	if err != nil {
		f.Fatal(err)
	}
}

// TestStartServer is the process whose start is measured.
func TestStartServer(t *testing.T) {
	dir := os.Getenv("START_DIR")
	if dir == "" {
		t.Skip("a process of the figures: make bench starts it")
	}
	o := benchOptions(dir)
	if _, err := os.Stat(filepath.Join(dir, "mirror")); err == nil {
		o.Mirror = filepath.Join(dir, "mirror")
	}
	begin := time.Now()
	box, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s := started{Ready: float64(time.Since(begin).Microseconds()) / 1000}
	if _, err := box.Append(draft(1 << 22)); err != nil {
		t.Fatal(err)
	}
	s.First = float64(time.Since(begin).Microseconds()) / 1000
	s.RSS, s.Peak = statusMB("VmRSS"), statusMB("VmHWM")
	box.Close()
	json.NewEncoder(os.Stdout).Encode(s)
	os.Exit(0)
}

func statusMB(field string) float64 {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), field+":")
	kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseFloat(kb, 64)
	return n / 1024
}

// reads measures the long walks.
func (f *figures) reads() {
	n := f.pick(100_000, 1_000_000)
	box := f.open(benchOptions(f.delivered(n, 0)))
	defer box.Close()
	begin := time.Now()
	c, err := box.Verify(context.Background(), nil)
	if err != nil || len(c.Problems) > 0 || c.Records != uint64(n) {
		f.Fatal(err, c.Records, c.Problems)
	}
	took := time.Since(begin)
	f.row(fmt.Sprintf("verify, %d records", n), fmt.Sprintf("%.0f records/s, %.1f s", float64(n)/took.Seconds(), took.Seconds()), "", true)
	begin = time.Now()
	k := 0
	enc := json.NewEncoder(io.Discard)
	err = box.Read(context.Background(), 1, func(e Entry) error { k++; return enc.Encode(e) })
	if err != nil || k != n {
		f.Fatal(err, k)
	}
	took = time.Since(begin)
	f.row(fmt.Sprintf("export, %d records with their deliveries, as JSON", n), fmt.Sprintf("%.0f records/s, %.1f s", float64(n)/took.Seconds(), took.Seconds()), "", true)
}
