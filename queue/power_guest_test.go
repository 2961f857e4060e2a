package queue

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/queue/punch"
)

// The half of the power cut test that runs as the first process of a virtual
// machine, under a kernel of its own; power_test.go is the other half. The kernel
// hands what stands on its command line to us as environment.
func init() {
	what := os.Getenv("POWER_GUEST")
	if os.Getpid() != 1 || what == "" {
		return
	}
	err := powerSetup()
	if what == "cards" && err == nil { // it goes on as a test
		if err = powerStores(); err == nil {
			return
		}
	}
	time.AfterFunc(10*time.Minute, powerOff) // whatever becomes of who started us
	if err == nil {
		switch what {
		case "punch":
			err = powerPunch()
		case "look":
			err = powerLook()
		}
	}
	if err != nil {
		fmt.Printf("\nFATAL %v\n", err)
	}
	time.Sleep(200 * time.Millisecond) // for the console
	powerOff()
}

func powerOff() {
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func powerSetup() error {
	for _, m := range []struct{ what, where string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}} {
		os.MkdirAll(m.where, 0o755)
		if err := unix.Mount(m.what, m.where, m.what, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.where, err)
		}
	}
	mods, _ := filepath.Glob("/mod/*") // numbered in the order in which they need each other
	for _, name := range mods {
		b, err := os.ReadFile(name)
		if err == nil {
			err = unix.InitModule(b, "")
		}
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	for range 500 {
		if _, err := os.Stat("/dev/vda"); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("there is no disk")
}

// powerStores makes the test of the cards what this program does next: its first disk is
// what a card holds, its second has outboxes to begin with.
func powerStores() error {
	os.Args = []string{os.Args[0], "-test.run=^TestCardsInside$", "-test.timeout=0"}
	return errorsOf(os.Setenv("CARD_FROM", "/dev/vda"), os.Mkdir("/stores", 0o755),
		unix.Mount("/dev/vdb", "/stores", "ext4", unix.MS_RDONLY, ""))
}

// powerMark is a promise, noted on the disk itself, in a sector behind the file
// system. It is written without a flush and so makes nothing durable; but in the
// log of the disk's writes it stands exactly where the promise was made.
type powerMark struct {
	mu   sync.Mutex
	disk *os.File
	buf  []byte
}

const (
	powerMagic = "punchclock mark\n"
	// powerTail lies behind the file system, for marks.
	powerTail = 1 << 20

	markAcked   = 'a' // the person has heard the tone
	markOffered = 'o' // handed to the destination, which may have it from now on
	markSettled = 's' // settled, never to be handed out again
)

func (m *powerMark) note(kind byte, taps ...int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.buf)
	b := append(append(m.buf[:0], powerMagic...), kind, byte(len(taps)))
	for _, n := range taps {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	end, err := m.disk.Seek(0, 2)
	if err == nil {
		_, err = m.disk.WriteAt(m.buf, end-powerTail)
	}
	return err
}

// readMark is note the other way round.
func readPowerMark(b []byte) (kind byte, taps []int, ok bool) {
	if len(b) < 512 || string(b[:len(powerMagic)]) != powerMagic {
		return 0, nil, false
	}
	b = b[len(powerMagic):]
	for i := range int(b[1]) {
		taps = append(taps, int(binary.BigEndian.Uint32(b[2+4*i:])))
	}
	return b[0], taps, true
}

// tapOf is the number that draft was given.
func tapOf(p punch.Punch) int {
	n, _ := strconv.ParseInt(strings.TrimPrefix(string(p.Badge), "em:0A"), 16, 64)
	return int(n)
}

func tapsOf(ps []punch.Punch) (taps []int) {
	for _, p := range ps {
		taps = append(taps, tapOf(p))
	}
	return taps
}

// powerOptions are those of the outbox in a folder, with the second copy or
// without: lost punches must not be lost for want of it, nor it be in the way.
func powerOptions(dir string, mirror bool) Options {
	o := Options{Dir: filepath.Join(dir, "outbox"), Device: "power", Destinations: []string{"104"}, SegmentRecords: 150, ahead: 1 << 18}
	if mirror {
		o.Mirror = filepath.Join(dir, "mirror")
	}
	return o
}

// powerPunch punches until the power is cut.
func powerPunch() error {
	// The kernel writes back early, and its journal commits every second: more
	// happens between two syncs than the outbox asked for.
	for name, v := range map[string]string{"dirty_writeback_centisecs": "10", "dirty_expire_centisecs": "20"} {
		if err := os.WriteFile("/proc/sys/vm/"+name, []byte(v), 0); err != nil {
			return err
		}
	}
	if b, err := os.ReadFile("/sys/block/vda/queue/write_cache"); err != nil || strings.TrimSpace(string(b)) != "write back" {
		return fmt.Errorf("the disk does not ask for flushes, so no sync would be seen: %q, %v", b, err)
	}
	raw, err := os.OpenFile("/dev/vda", os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	m := &powerMark{disk: raw}
	if m.buf, err = unix.Mmap(-1, 0, 512, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		return err
	}
	if err := os.Mkdir("/data", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/dev/vda", "/data", "ext4", unix.MS_NOATIME, "commit=1"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	o := powerOptions("/data", os.Getenv("POWER_MIRROR") != "")
	o.UnsafeNoSync = os.Getenv("POWER_NOSYNC") != ""
	early := os.Getenv("POWER_EARLY") != ""
	b, err := Open(o)
	if err != nil {
		return err
	}
	from, _ := strconv.Atoi(os.Getenv("POWER_FROM"))
	failed := make(chan error)
	go func() { failed <- b.Run(context.Background()) }()
	go func() { // a destination that settles what it finds
		for {
			c := b.Changed()
			ps, err := b.Next("104", 7)
			if err == nil && len(ps) == 0 {
				<-c
				continue
			}
			if err = errorsOf(err, m.note(markOffered, tapsOf(ps)...), b.Settle("104", accept(ps)), m.note(markSettled, tapsOf(ps)...)); err != nil {
				failed <- err
			}
		}
	}()
	const lanes = 3
	for lane := range lanes {
		go func() {
			for i := from + lane; ; i += lanes {
				if early { // a negative control: promised before it is kept
					failed <- m.note(markAcked, i)
				}
				if _, err := b.Append(draft(i)); err != nil {
					failed <- err
				}
				if !early {
					if err := m.note(markAcked, i); err != nil {
						failed <- err
					}
				}
				fmt.Printf("\nTONE %d\n", i)
			}
		}()
	}
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// powerLook opens the outbox after each of the cuts that it was given on its disk.
func powerLook() error {
	f, err := os.Open("/dev/vda")
	if err != nil {
		return err
	}
	dec := gob.NewDecoder(bufio.NewReaderSize(f, 1<<20))
	var jobs int
	if err := dec.Decode(&jobs); err != nil {
		return err
	}
	if err := os.Mkdir("/data", 0o755); err != nil {
		return err
	}
	for range jobs {
		var j powerJob
		if err := dec.Decode(&j); err != nil {
			return err
		}
		promised := j.Before.clone()
		disk, at := powerDisk{}, 0
		for _, w := range j.Base {
			disk.write(w.Off, w.Data)
		}
		for noted, i := 0, 0; i < len(j.Cuts); i++ {
			cut := j.Cuts[i]
			for ; noted < cut.At; noted++ {
				promised.note(j.Log[noted].Data)
			}
			r := powerResult{Job: j.Name, Cut: cut}
			begin := time.Now()
			window := j.window(cut)
			for ; at < window; at++ {
				disk.apply(j.Log[at])
			}
			r.Pending = cut.At - window
			err := powerMounted(j.Size, func(img *os.File) error {
				if err := disk.store(img); err != nil {
					return err
				}
				return j.loose(cut, window, func(off int64, data []byte) error {
					_, err := img.WriteAt(data, off)
					return err
				})
			}, func() { r.look(powerOptions("/data", j.Mirror), promised) })
			if err != nil {
				r.Fault = err.Error()
			}
			r.Millis = time.Since(begin).Milliseconds()
			b, err := json.Marshal(r)
			if err != nil {
				return err
			}
			fmt.Printf("\nCUT %s\n", b)
		}
	}
	fmt.Printf("\nDONE\n")
	return nil
}

// powerMounted fills a disk image, mounts it as a clock does that comes back, which
// recovers the file system, and calls fn.
func powerMounted(size int64, fill func(*os.File) error, fn func()) error {
	img, err := os.OpenFile("/tmp/img", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove("/tmp/img")
	defer img.Close()
	if err := errorsOf(img.Truncate(size), fill(img)); err != nil {
		return err
	}
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer ctl.Close()
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("/dev/loop%d", n)
	loop, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer loop.Close()
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(img.Fd())); err != nil {
		return err
	}
	defer unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0)
	if err := unix.Mount(name, "/data", "ext4", unix.MS_NOATIME, ""); err != nil {
		said := make([]byte, 1<<16)
		n, _ := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, said)
		return fmt.Errorf("mount: %w; the kernel said: %s", err, said[max(0, n-300):max(0, n)])
	}
	fn()
	if err := unix.Unmount("/data", 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return nil
}

// look is what is asked of an outbox whose power was cut.
func (r *powerResult) look(o Options, p powerPromises) {
	ctx := context.Background()
	r.Acked = len(p.Acked)
	fail := func(format string, args ...any) {
		if r.Fault == "" {
			r.Fault = fmt.Sprintf(format, args...)
		}
	}
	defer func() {
		if v := recover(); v != nil {
			fail("panic: %v", v)
		}
	}()
	begin := time.Now()
	b, err := Open(o)
	if err != nil {
		fail("the clock does not start: %v", err)
		r.Lost = len(p.Acked)
		return
	}
	defer b.Close()
	r.OpenMillis = time.Since(begin).Milliseconds()
	r.Incident = b.Incident()
	c, err := b.Verify(ctx, nil)
	if err != nil {
		fail("verify: %v", err)
	}
	for _, pr := range c.Problems {
		fail("chain: %s: %s", pr.ID, pr.What)
	}
	there, ids := map[int]uint64{}, map[punch.ID]bool{}
	err = b.Read(ctx, 1, func(e Entry) error {
		n := tapOf(e.Punch)
		if _, ok := there[n]; ok || ids[e.ID] {
			r.Twice++
		}
		there[n], ids[e.ID] = e.Seq, true
		if want := draft(n); e.Damaged != nil || e.Employee != want.Employee || e.Kind != want.Kind ||
			!e.Stamp.Wall.Equal(want.Stamp.Wall) || !bytes.Equal(e.Raw, want.Raw) {
			r.Wrong++
		}
		return nil
	})
	if err != nil {
		fail("read: %v", err)
	}
	r.Stored = len(there)
	for n := range p.Acked {
		if _, ok := there[n]; !ok {
			r.Lost++
		}
	}
	waiting := map[int]bool{}
	ps, err := b.Next("104", 1<<20)
	if err != nil {
		fail("next: %v", err)
	}
	for _, n := range tapsOf(ps) {
		waiting[n] = true
		if p.Settled[n] {
			r.Again++
		}
	}
	for n := range p.Acked {
		if _, ok := there[n]; ok && !waiting[n] && !p.Offered[n] {
			r.Unsent++
		}
	}
	// The person whose tap went under in the cut taps again, and so does the one
	// who heard the tone, which must not make a second punch; then a new one comes.
	next := 0
	for n := range there {
		next = max(next, n)
	}
	for _, n := range []int{next, next + 1} {
		was, known := there[n]
		got, err := b.Append(draft(n))
		if err != nil {
			fail("a new punch: %v", err)
			return
		}
		if known && got.Seq != was {
			r.Twice++
		}
		if !known && ids[got.ID] {
			fail("id %s was given out twice", got.ID)
		}
	}
}

// powerDisk holds the blocks of a disk that were ever written.
type powerDisk map[int64][]byte

const powerBlock = 4096

func (d powerDisk) write(off int64, data []byte) {
	for len(data) > 0 {
		at := off % powerBlock
		b := d[off-at]
		if b == nil {
			b = make([]byte, powerBlock)
			d[off-at] = b
		}
		n := copy(b[at:], data)
		off, data = off+int64(n), data[n:]
	}
}

func (d powerDisk) apply(w powerWrite) {
	if _, _, mark := readPowerMark(w.Data); !mark {
		d.write(w.Off, w.Data)
	}
}

func (d powerDisk) store(f *os.File) error {
	for off, b := range d {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
	}
	return nil
}

// window returns how many of the log's writes are on the medium for certain at
// a cut: those up to the last flush.
func (j *powerJob) window(cut powerCut) int {
	for i := cut.At; i > 0; i-- {
		if j.Log[i-1].Flush {
			return i
		}
	}
	return 0
}

// loose writes what of the rest has happened to reach the medium: each write, or
// not, or some of its sectors of 512 bytes. Only what ext4 itself cannot do
// without arrives by whole blocks of 4096: its superblock, and the journal's own
// blocks (a commit block in parts is, to the kernel, a file system to be repaired).
func (j *powerJob) loose(cut powerCut, window int, write func(off int64, data []byte) error) error {
	const sector = 512
	rng := rand.New(rand.NewPCG(cut.Seed, 1))
	for _, w := range j.Log[window:cut.At] {
		if _, _, mark := readPowerMark(w.Data); mark {
			continue
		}
		sectors := len(w.Data) / sector
		keep := make([]bool, sectors)
		how, n := rng.IntN(8), rng.IntN(sectors+1)
		for i := range keep {
			switch {
			case cut.Whole || w.FUA || how < 3:
				keep[i] = true
			case how < 5: // not at all
			case how < 7: // torn in two
				keep[i] = i < n
			default: // torn to pieces
				keep[i] = rng.IntN(2) == 0
			}
		}
		for i := range keep {
			first := i / (powerBlock / sector) * (powerBlock / sector)
			b := w.Data[first*sector:]
			if w.Off+int64(first*sector) == 0 || len(b) >= powerBlock && binary.BigEndian.Uint32(b) == 0xC03B3998 { // JBD2_MAGIC_NUMBER
				keep[i] = keep[first]
			}
			if !keep[i] {
				continue
			}
			if err := write(w.Off+int64(i*sector), w.Data[i*sector:(i+1)*sector]); err != nil {
				return err
			}
		}
	}
	return nil
}
