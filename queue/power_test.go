package queue

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The power cut test. A virtual machine with Debian's own kernel and an ext4 file
// system punches as fast as it can through the real outbox, until it is killed.
// Every write and flush that its disk was asked for is recorded, with a mark
// where each punch was promised. From the record the disk is laid out as a cut at
// any moment may leave it: what was written before the last flush is there; of
// each later write all, nothing, or some of its sectors. A second virtual machine
// mounts each of these disks, which recovers the file system, and opens the
// outbox with the real code. The next round goes on with one of the disks; every
// other one keeps the second copy too.
//
// A write that ends while a flush is under way counts as written before it, which
// is a little kinder than a disk must be.
//
// It needs POWER=<number of cuts> and POWER_KERNEL=<folder of an unpacked kernel
// package>, qemu-system-x86_64 and mkfs.ext4: see make durability-power.

// powerWrite is one entry of a disk's log.
type powerWrite struct {
	Off   int64
	Data  []byte
	Flush bool // all writes before it are on the medium
	FUA   bool // this write is
}

// powerCut is a moment, and what the disk does with what it has not written yet.
type powerCut struct {
	At    int // entries of the log that the disk was sent
	Seed  uint64
	Whole bool // it still writes all: the machine stopped, the disk did not
}

// powerJob is a recorded run and the moments to look at.
type powerJob struct {
	Name   string
	Size   int64
	Mirror bool         // with the second copy
	Base   []powerWrite // the disk before the run
	Before powerPromises
	Log    []powerWrite
	Cuts   []powerCut // ascending
}

// powerPromises are numbers of taps.
type powerPromises struct{ Acked, Offered, Settled map[int]bool }

func (p powerPromises) clone() powerPromises {
	c := func(m map[int]bool) map[int]bool {
		if m == nil {
			return map[int]bool{}
		}
		return maps.Clone(m)
	}
	return powerPromises{c(p.Acked), c(p.Offered), c(p.Settled)}
}

func (p powerPromises) note(data []byte) {
	kind, taps, ok := readPowerMark(data)
	if !ok {
		return
	}
	m := map[byte]map[int]bool{markAcked: p.Acked, markOffered: p.Offered, markSettled: p.Settled}[kind]
	for _, n := range taps {
		m[n] = true
	}
}

// powerResult is what was found after one cut.
type powerResult struct {
	Job     string
	Cut     powerCut
	Pending int // writes after the last flush
	Acked   int // punches whose tone had sounded
	Stored  int // punches found
	Lost    int // tone, and not there
	Twice   int // one tap, two punches
	Wrong   int // not what was stored
	Unsent  int // there, never offered to the destination, and not waiting either
	Again   int // settled, and offered again
	// What kept the clock from starting or taking a punch, or broke the chain.
	Fault              string
	Incident           string // what the outbox said of its files
	Millis, OpenMillis int64
}

func (r powerResult) bad() bool {
	return r.Lost+r.Twice+r.Wrong+r.Unsent+r.Again > 0 || r.Fault != ""
}

// powerMachine is what the virtual machines are started with.
type powerMachine struct {
	dir, kernel, initrd string
	// Where it is not "", it has one processor only, whose instructions are its clock:
	// QEMU's -icount.
	clock string
}

func newPowerMachine(t *testing.T) (*powerMachine, int) {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("POWER"))
	if err != nil || n < 1 {
		t.Skip("the power is not cut here: make durability-power does it")
	}
	m := &powerMachine{dir: t.TempDir()}
	if err := m.pack(os.Getenv("POWER_KERNEL")); err != nil {
		t.Fatal(err)
	}
	return m, n
}

// pack takes the kernel of an unpacked package and makes the first file system of the
// guest: this very program, and modules, those that all need and more of them.
func (m *powerMachine) pack(root string, more ...string) error {
	kernels, _ := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if len(kernels) != 1 {
		return fmt.Errorf("POWER_KERNEL=%q is no unpacked kernel package: it holds %d kernels", root, len(kernels))
	}
	m.kernel, m.initrd = kernels[0], filepath.Join(m.dir, "initrd")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	e, err := elf.Open(self)
	if err != nil {
		return err
	}
	defer e.Close()
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("this test needs a program without shared libraries: set CGO_ENABLED=0")
		}
	}
	init, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	f, err := os.Create(m.initrd)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	inode := 0
	add := func(name string, mode, minor int, data []byte) { // the format "newc" of cpio
		inode++
		major := 0
		if minor > 0 {
			major = 5
		}
		n, _ := fmt.Fprintf(w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
		w.Write(make([]byte, -n&3))
		w.Write(data)
		w.Write(make([]byte, -len(data)&3))
	}
	add("dev", 0o040755, 0, nil)
	add("dev/console", 0o020600, 1, nil)
	add("init", 0o100755, 0, init)
	add("mod", 0o040755, 0, nil)
	mods, err := powerModules(root, append([]string{"virtio_pci", "virtio_blk", "loop", "ext4", "crc32c_generic"}, more...)...)
	if err != nil {
		return err
	}
	for i, b := range mods {
		add(fmt.Sprintf("mod/%02d", i), 0o100644, 0, b)
	}
	add("TRAILER!!!", 0, 0, nil)
	return w.Flush()
}

// powerModules returns modules and what they need, in the order of loading. One
// that is not there is part of the kernel itself.
func powerModules(root string, names ...string) (out [][]byte, err error) {
	paths := map[string]string{}
	err = filepath.WalkDir(filepath.Join(root, "lib", "modules"), func(path string, _ fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok {
			paths[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	done := map[string]bool{}
	var add func(string) error
	add = func(name string) error {
		path := paths[name]
		if path == "" || done[name] {
			return nil
		}
		done[name] = true
		b, err := os.ReadFile(path)
		if err == nil && strings.HasSuffix(path, ".xz") {
			b, err = exec.Command("xz", "-dc", path).Output()
		}
		if err != nil {
			return err
		}
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		info, err := f.Section(".modinfo").Data()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, line := range strings.Split(string(info), "\x00") {
			if deps, ok := strings.CutPrefix(line, "depends="); ok && deps != "" {
				for _, d := range strings.Split(deps, ",") {
					if err := add(strings.ReplaceAll(d, "-", "_")); err != nil {
						return err
					}
				}
			}
		}
		out = append(out, b)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// run boots a guest and hands every line of its console to fn. It returns once the
// guest is dead: when fn has said so, when cut has passed, or when it ended by itself.
func (m *powerMachine) run(what string, megabytes int, disk []string, within time.Duration, fn func(line string, cut func(after time.Duration))) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	processors := []string{"-smp", "2"}
	if m.clock != "" {
		processors = []string{"-smp", "1", "-icount", m.clock}
	}
	args := []string{"-machine", "pc,accel=tcg", "-m", strconv.Itoa(megabytes), "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", m.kernel, "-initrd", m.initrd, "-append", "console=ttyS0 loglevel=1 panic=-1 " + what}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", slices.Concat(args, processors, disk)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	var last []string
	killed := false
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" {
			continue
		}
		last = append(last, line)
		last = last[max(0, len(last)-20):]
		if strings.HasPrefix(line, "FATAL") {
			err = errors.New(line)
		}
		fn(line, func(after time.Duration) {
			if !killed {
				killed = true
				time.AfterFunc(after, cancel)
			}
		})
	}
	werr := cmd.Wait()
	switch {
	case err != nil:
		return fmt.Errorf("in the guest: %w", err)
	case killed:
		return nil
	}
	return fmt.Errorf("the guest ended before its time (%v) %s\n%s", werr, said.String(), strings.Join(last, "\n"))
}

// record punches on a disk for a while, cuts, and reads what was written.
func (m *powerMachine) record(disk, what string, from int, d time.Duration) (log []powerWrite, tones []int, err error) {
	name := filepath.Join(m.dir, "log")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return nil, nil, err
	}
	defer os.Remove(name)
	err = m.run(fmt.Sprintf("POWER_GUEST=punch POWER_FROM=%d %s", from, what), 256, []string{
		"-blockdev", "driver=blklogwrites,node-name=d,file.driver=file,file.filename=" + disk + ",log.driver=file,log.filename=" + name,
		"-device", "virtio-blk-pci,drive=d,discard=off,write-zeroes=off"}, time.Minute+d, func(line string, cut func(time.Duration)) {
		s, ok := strings.CutPrefix(line, "TONE ")
		if n, err := strconv.Atoi(s); ok && err == nil {
			tones = append(tones, n)
			cut(d)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	log, err = readPowerLog(name)
	return log, tones, err
}

// readPowerLog reads what QEMU's blklogwrites has recorded: the format of the
// kernel's dm-log-writes, each entry a sector of header and its data.
func readPowerLog(name string) (log []powerWrite, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if len(b) < 512 || le.Uint64(b) != 0x6a736677736872 {
		return nil, fmt.Errorf("%s: no log of a disk's writes", name)
	}
	size := int(le.Uint32(b[24:]))
	const flush, fua, discard = 1, 2, 4
	for b = b[size:]; len(b) >= size; {
		at, n, flags := le.Uint64(b), int(le.Uint64(b[8:])), le.Uint64(b[16:])
		if n == 0 && flags == 0 {
			break
		}
		b = b[size:]
		w := powerWrite{Off: int64(at) * int64(size), Flush: flags&flush != 0, FUA: flags&fua != 0}
		if flags&discard == 0 {
			if n*size > len(b) {
				break
			}
			w.Data, b = b[:n*size], b[n*size:]
		}
		log = append(log, w)
	}
	return log, nil
}

// image makes a file of the disk as the cut has left it.
func (j *powerJob) image(name string, cut powerCut) error {
	disk := powerDisk{}
	for _, w := range j.Base {
		disk.write(w.Off, w.Data)
	}
	window := j.window(cut)
	for _, w := range j.Log[:window] {
		disk.apply(w)
	}
	if err := j.loose(cut, window, func(off int64, data []byte) error { disk.write(off, data); return nil }); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return errorsOf(f.Truncate(j.Size), disk.store(f))
}

// differs counts the blocks in which a disk's file is not what the log leads to.
func (j *powerJob) differs(name string) (n int, err error) {
	disk := powerDisk{}
	for _, w := range append(j.Base[:len(j.Base):len(j.Base)], j.Log...) {
		disk.write(w.Off, w.Data)
	}
	is, err := powerBlocks(name)
	for _, w := range is {
		if !bytes.Equal(disk[w.Off], w.Data) {
			n++
		}
		delete(disk, w.Off)
	}
	for _, b := range disk {
		if !bytes.Equal(b, make([]byte, powerBlock)) {
			n++
		}
	}
	return n, err
}

// powerBlocks returns what is not zero in a disk's file.
func powerBlocks(name string) (base []powerWrite, err error) {
	b, err := os.ReadFile(name)
	zero := make([]byte, powerBlock)
	for off := 0; off+powerBlock <= len(b); off += powerBlock {
		if !bytes.Equal(b[off:off+powerBlock], zero) {
			base = append(base, powerWrite{Off: int64(off), Data: b[off : off+powerBlock]})
		}
	}
	return base, err
}

// look opens the outbox after every cut of the jobs.
func (m *powerMachine) look(jobs []*powerJob) (results []powerResult, err error) {
	name := filepath.Join(m.dir, "jobs")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer os.Remove(name)
	defer f.Close()
	enc := gob.NewEncoder(f)
	err = enc.Encode(len(jobs))
	cuts := 0
	for _, j := range jobs {
		err = errors.Join(err, enc.Encode(j))
		cuts += len(j.Cuts)
	}
	end, serr := f.Seek(0, io.SeekEnd)
	if err = errors.Join(err, serr, f.Truncate((end+4095)&^4095)); err != nil {
		return nil, err
	}
	err = m.run("POWER_GUEST=look", 1024, []string{"-drive", "if=virtio,format=raw,readonly=on,file=" + name}, time.Minute+time.Duration(cuts)*3*time.Second,
		func(line string, cut func(time.Duration)) {
			if s, ok := strings.CutPrefix(line, "CUT "); ok {
				var r powerResult
				if json.Unmarshal([]byte(s), &r) == nil {
					results = append(results, r)
				}
			}
			if line == "DONE" {
				cut(0)
			}
		})
	if err == nil && len(results) != cuts {
		err = fmt.Errorf("%d of %d cuts were looked at", len(results), cuts)
	}
	if err != nil && len(results) > 0 {
		err = fmt.Errorf("after %+v: %w", results[len(results)-1], err)
	}
	return results, err
}

// disk makes an empty disk: 64 MB of ext4, and room for marks behind it.
func (m *powerMachine) disk(name string) error {
	const size = 64 << 20
	return errorsOf(makeDisk(name, size), os.Truncate(name, size+powerTail))
}

// makeDisk makes a file that holds an ext4 file system.
func makeDisk(name string, size int64, options ...string) error {
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		mkfs = "/usr/sbin/mkfs.ext4"
	}
	if err := errorsOf(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
		return err
	}
	if out, err := exec.Command(mkfs, append(options, "-q", "-F", "-b", "4096", name)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", mkfs, err, out)
	}
	return nil
}

// recording makes a job of one run with cuts in it.
func (m *powerMachine) recording(t *testing.T, name, disk, what string, before powerPromises, cuts int, d time.Duration) *powerJob {
	t.Helper()
	base, err := powerBlocks(disk)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(disk)
	if err != nil {
		t.Fatal(err)
	}
	from := 0
	for _, p := range []map[int]bool{before.Acked, before.Offered} {
		for n := range p {
			from = max(from, n+10) // some may be there that were never promised
		}
	}
	begin := time.Now()
	log, tones, err := m.record(disk, what, from, d)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	j := &powerJob{Name: name, Size: st.Size(), Mirror: strings.Contains(what, "MIRROR"), Base: base, Before: before.clone(), Log: log}
	after := before.clone()
	if n, err := j.differs(disk); err != nil || n > 16 { // what was under way in the kill may differ
		t.Fatalf("%s: the record does not lead to the disk that the kill has left: %d blocks differ, %v", name, n, err)
	}
	flushes, size := 0, 0
	for _, w := range log {
		after.note(w.Data)
		size += len(w.Data)
		if w.Flush {
			flushes++
		}
	}
	for _, n := range tones {
		if !after.Acked[n] {
			t.Errorf("%s: tone %d sounded, and its mark is not on the disk: the record is not complete", name, n)
		}
	}
	for i := range cuts { // spread over the run, each at random in its part
		lo, hi := i*len(log)/cuts, (i+1)*len(log)/cuts
		at := lo + 1 + rand.IntN(max(1, hi-lo))
		for i%2 == 1 && at < hi && !log[at].Flush { // every other just before a flush, when most is on its way
			at++
		}
		j.Cuts = append(j.Cuts, powerCut{At: min(at, len(log)), Seed: rand.Uint64()})
	}
	last := &j.Cuts[cuts-1]
	*last = powerCut{At: len(log), Whole: true} // as the kill of the machine has left it
	t.Logf("%s: %d punches promised, %d writes, %d flushes, %d MB, in %v", name, len(after.Acked)-len(before.Acked), len(log), flushes, size>>20, time.Since(begin).Round(100*time.Millisecond))
	return j
}

// promised returns what was promised when the cut came.
func (j *powerJob) promised(cut powerCut) powerPromises {
	p := j.Before.clone()
	for _, w := range j.Log[:cut.At] {
		p.note(w.Data)
	}
	return p
}

// powerSum says what became of the cuts whose job is named so.
func powerSum(t *testing.T, results []powerResult, prefix string) (s powerResult, cuts, bad int) {
	t.Helper()
	var slowest int64
	incidents := map[string]int{}
	for _, r := range results {
		if !strings.HasPrefix(r.Job, prefix) {
			continue
		}
		cuts++
		s.Acked += r.Acked
		s.Lost += r.Lost
		s.Twice += r.Twice
		s.Wrong += r.Wrong
		s.Unsent += r.Unsent
		s.Again += r.Again
		s.Pending += r.Pending
		slowest = max(slowest, r.OpenMillis)
		if r.bad() {
			bad++
		}
		if r.Incident != "" {
			incidents[r.Incident]++
		}
	}
	t.Logf("%s: %d cuts with %d writes on their way, %d bad; %d promises looked for, %d lost, %d twice, %d altered, %d never sent, %d sent again; slowest start %d ms (emulated)",
		prefix, cuts, s.Pending, bad, s.Acked, s.Lost, s.Twice, s.Wrong, s.Unsent, s.Again, slowest)
	for _, k := range slices.Sorted(maps.Keys(incidents)) {
		t.Logf("%s: %d × %q", prefix, incidents[k], k)
	}
	return s, cuts, bad
}

func TestAcknowledgedPunchSurvivesAPowerCut(t *testing.T) {
	m, n := newPowerMachine(t)
	begin := time.Now()
	const (
		perRun   = 50 // cuts of one recorded run
		perChain = 4  // runs that go on from one another, before the disk is full
	)
	disk := filepath.Join(m.dir, "disk")
	var results []powerResult
	var jobs []*powerJob
	look := func() {
		t.Helper()
		rs, err := m.look(jobs)
		if err != nil {
			t.Fatal(err)
		}
		results, jobs = append(results, rs...), nil
	}
	var before powerPromises
	runs := 0
	for left := n; left > 0; left -= perRun {
		if runs%perChain == 0 {
			if runs > 0 {
				look()
			}
			if err := m.disk(disk); err != nil {
				t.Fatal(err)
			}
			before = powerPromises{}
		}
		runs++
		d := time.Duration(2000+rand.IntN(3000)) * time.Millisecond
		what := ""
		if runs%2 == 0 {
			what = "POWER_MIRROR=1"
		}
		j := m.recording(t, fmt.Sprintf("run %d", runs), disk, what, before, min(left, perRun), d)
		jobs = append(jobs, j)
		cut := j.Cuts[rand.IntN(len(j.Cuts))]
		before = j.promised(cut)
		if err := j.image(disk, cut); err != nil {
			t.Fatal(err)
		}
	}
	// Two clocks that do not keep the promise must be found out, or this proves
	// nothing: one that never syncs, and one that beeps before it commits.
	for _, c := range []struct{ name, what string }{{"no sync", "POWER_NOSYNC=1"}, {"early", "POWER_EARLY=1"}} {
		if err := m.disk(disk); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, m.recording(t, "control "+c.name, disk, c.what, powerPromises{}, 20, 3*time.Second))
	}
	look()
	shown := 0
	for _, r := range results {
		if strings.HasPrefix(r.Job, "run") && r.bad() && shown < 5 {
			shown++
			t.Errorf("%+v", r)
		}
	}
	s, cuts, bad := powerSum(t, results, "run")
	if cuts != n || s.Acked < n || n >= perRun && s.Pending == 0 {
		t.Errorf("%d cuts of %d, %d promises, %d writes on their way: too little to prove anything", cuts, n, s.Acked, s.Pending)
	}
	if bad > 0 {
		t.Errorf("%d of %d power cuts did harm", bad, n)
	}
	for _, c := range []string{"control no sync", "control early"} {
		if s, _, _ := powerSum(t, results, c); s.Lost == 0 {
			t.Errorf("%s: nothing was lost: the test does not find a clock that does not keep its promise", c)
		}
	}
	t.Logf("%d power cuts, of them %d by killing the machine, in %v", n, runs, time.Since(begin).Round(time.Second))
}
