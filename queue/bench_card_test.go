package queue

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A card is a block device of our own with its own ext4: what the kernel writes
// to it is counted by the kernel, and it can be as slow as a memory card. It lies
// in the memory of a second process that serves one file over FUSE, a request at
// a time, each write and each flush taking its time; a loop device makes the file
// a disk. Or it lies in a file on this disk, for counting only.
//
// Every mount is detached as soon as it is open, and every loop device is told to
// go with its last user: after any end of the test nothing is left behind.
type card struct {
	dir   string // under /proc/self/fd: for this process only
	name  string // loopN
	root  *os.File
	speed io.WriteCloser // to the server: "slow\n" or "fast\n"
	wait  func() error
}

// cardModel is how long a card takes.
type cardModel struct {
	name         string
	write, flush time.Duration
	samples      int // of each size
	perSecond    int // bytes it takes in, beside the cost of a request; 0 for cardPerSecond
}

const (
	cardBytes     = 1 << 30
	cardPerSecond = 100 << 20
)

// newCard makes a card with the model's manners, or, without a model, one on this
// disk. It holds what the disk CARD_FROM holds, an empty file system, or is given one.
// The error says what is missing on this machine.
func newCard(t testing.TB, m *cardModel) (*card, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("not root: no loop device, no mount")
	}
	tmp := t.TempDir()
	c := &card{}
	file := filepath.Join(tmp, "disk")
	if m == nil {
		free, _, err := diskSpace(tmp)
		if err != nil {
			return nil, err
		}
		if free < 2*cardBytes {
			return nil, fmt.Errorf("%d MB free in %s, %d wanted", free>>20, tmp, 2*cardBytes>>20)
		}
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, cardBytes)); err != nil {
			return nil, err
		}
	} else {
		if err := os.WriteFile(file, nil, 0o600); err != nil { // a file to mount the file on
			return nil, err
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestCardServer$", "-test.timeout=0")
		cmd.Env = append(os.Environ(), "CARD_MOUNT="+file, "CARD_WRITE="+m.write.String(), "CARD_FLUSH="+m.flush.String(), fmt.Sprintf("CARD_SPEED=%d", cmp.Or(m.perSecond, cardPerSecond)))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		c.speed, c.wait = in, cmd.Wait
		b := make([]byte, 64)
		n, _ := out.Read(b)
		if said := string(b[:n]); said != "ready\n" {
			in.Close()
			cmd.Wait()
			return nil, fmt.Errorf("the card's server: %q", said)
		}
		go io.Copy(io.Discard, out)
	}
	t.Cleanup(func() { c.close(t) })
	dev, err := loopDevice(file)
	if m != nil {
		syscall.Unmount(file, syscall.MNT_DETACH) // the loop device holds it
	}
	os.Remove(file)
	if err != nil {
		return nil, err
	}
	defer dev.Close() // it goes with its last user
	c.name = filepath.Base(dev.Name())
	if os.Getenv("CARD_FROM") == "" {
		if out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", dev.Name()).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
		}
	}
	at := filepath.Join(tmp, "at")
	if err := errors.Join(os.Mkdir(at, 0o700), syscall.Mount(dev.Name(), at, "ext4", syscall.MS_NOATIME, "")); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	c.root, err = os.Open(at)
	syscall.Unmount(at, syscall.MNT_DETACH)
	if err != nil {
		return nil, err
	}
	c.dir = fmt.Sprintf("/proc/self/fd/%d", c.root.Fd())
	return c, nil
}

// loopDevice makes a disk of a file, with no cache of its own between the two. It is
// there until nobody has it open or mounted.
func loopDevice(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Stat(); err != nil { // else the kernel has not asked the server yet how large it is
		return nil, err
	}
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	for {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("a loop device: %w", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		conf := unix.LoopConfig{Fd: uint32(f.Fd())}
		conf.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
		if err = unix.IoctlLoopConfigure(int(dev.Fd()), &conf); err == nil {
			return dev, nil
		}
		dev.Close()
		if err != unix.EBUSY { // somebody else was faster
			return nil, fmt.Errorf("%s: %w", dev.Name(), err)
		}
	}
}

// slow makes the card take its time, or not.
func (c *card) slow(on bool) {
	if c.speed == nil {
		return
	}
	syscall.Sync() // nothing left over from before
	word := "fast\n"
	if on {
		word = "slow\n"
	}
	io.WriteString(c.speed, word)
	time.Sleep(50 * time.Millisecond)
}

func (c *card) close(t testing.TB) {
	if c.root != nil {
		c.slow(false)
		c.root.Close()
		c.root = nil
	}
	if c.speed != nil {
		c.speed.Close()
		if err := c.wait(); err != nil {
			t.Log("the card's server:", err)
		}
		c.speed = nil
	}
}

// counts is what the kernel has sent to a device.
type counts struct{ writes, bytes, flushes int64 }

// counts reads /sys/block/loopN/stat; the kernel's Documentation/block/stat.rst
// has the fields.
func (c *card) counts(t testing.TB) counts {
	b, err := os.ReadFile("/sys/block/" + c.name + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b))
	at := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n }
	return counts{at(4), at(6) * 512, at(15)}
}

func (a counts) since(b counts) counts {
	return counts{a.writes - b.writes, a.bytes - b.bytes, a.flushes - b.flushes}
}

// TestCardServer is the process that serves a card. The protocol is that of the
// kernel's include/uapi/linux/fuse.h, version 7.31, with one file as the root.
func TestCardServer(t *testing.T) {
	at := os.Getenv("CARD_MOUNT")
	if at == "" {
		t.Skip("a process of the figures: make bench starts it")
	}
	perWrite, _ := time.ParseDuration(os.Getenv("CARD_WRITE"))
	perFlush, _ := time.ParseDuration(os.Getenv("CARD_FLUSH"))
	perSecond, _ := strconv.Atoi(os.Getenv("CARD_SPEED"))
	if err := serveCard(at, perWrite, perFlush, perSecond); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// fill reads a disk into memory that is all zeros, of which as little as can be is used.
func fill(mem []byte, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	buf, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := 0; at < len(mem); at += len(buf) {
		if _, err := f.ReadAt(buf, int64(at)); err != nil {
			return err
		}
		if !bytes.Equal(buf, zeros) {
			copy(mem[at:], buf)
		}
	}
	return nil
}

func serveCard(at string, perWrite, perFlush time.Duration, perSecond int) error {
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/fuse: %w", err)
	}
	mem, err := unix.Mmap(-1, 0, cardBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	if from := os.Getenv("CARD_FROM"); from != "" {
		if err := fill(mem, from); err != nil {
			return err
		}
	}
	opt := fmt.Sprintf("fd=%d,rootmode=100000,user_id=0,group_id=0", fd)
	if err := syscall.Mount("card", at, "fuse", syscall.MS_NOSUID|syscall.MS_NODEV, opt); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	slow := make(chan bool, 1)
	go func() {
		b := make([]byte, 16)
		for {
			n, err := os.Stdin.Read(b)
			slow <- err == nil && strings.HasSuffix(string(b[:n]), "slow\n")
			if err != nil {
				return
			}
		}
	}()
	fmt.Println("ready")
	// A card's time is its own: it waits for no processor that others are using, and
	// its 0.2 ms are not the 1.1 that Go's sleep may make of them.
	runtime.LockOSThread()
	// It takes no processor from those it serves either, which the runtime's watching
	// over calls that take long would do: it is not told of them. Another thread
	// reads what the card is to be.
	runtime.GOMAXPROCS(2)
	first := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &first, 0); err != nil {
		fmt.Fprintln(os.Stderr, "the card has to share the processor with other programs:", err)
	}
	le := binary.LittleEndian
	const most = 1 << 20
	req, answer := make([]byte, most+8192), make([]byte, 0, most+8192)
	taking := false
	for {
		got, _, eno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&req[0])), uintptr(len(req)))
		switch eno {
		case 0:
		case syscall.EINTR, syscall.EAGAIN, syscall.ENOENT:
			continue
		case syscall.ENODEV: // unmounted
			return nil
		default:
			return eno
		}
		n := int(got)
		select {
		case taking = <-slow:
		default:
		}
		var begin unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &begin); err != nil {
			return err
		}
		takes := func(d time.Duration) {
			until := unix.NsecToTimespec(begin.Nano() + d.Nanoseconds())
			for eno := unix.EINTR; taking && eno == unix.EINTR; {
				_, _, eno = unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, uintptr(unsafe.Pointer(&until)), 0, 0, 0)
			}
		}
		in, body := req[:40], req[40:n]
		op := le.Uint32(in[4:])
		var out []byte
		errno := 0
		attr := make([]byte, 104) // attr valid 8+4+4, then fuse_attr
		a := attr[16:]
		le.PutUint64(a, 1)
		le.PutUint64(a[8:], cardBytes)
		le.PutUint64(a[16:], cardBytes/512)
		le.PutUint32(a[60:], syscall.S_IFREG|0o600)
		le.PutUint32(a[64:], 1)
		le.PutUint32(a[80:], 4096)
		switch op {
		case 26: // INIT
			out = make([]byte, 64)
			le.PutUint32(out, 7)
			le.PutUint32(out[4:], 31)
			le.PutUint32(out[8:], most)
			le.PutUint32(out[12:], 1|1<<5|1<<15|1<<22) // async read, big writes, async direct, max pages
			le.PutUint16(out[16:], 16)
			le.PutUint16(out[18:], 12)
			le.PutUint32(out[20:], most)
			le.PutUint32(out[24:], 1)
			le.PutUint16(out[28:], most/4096)
		case 3, 4: // GETATTR, SETATTR
			out = attr
		case 14: // OPEN, with FOPEN_DIRECT_IO
			out = make([]byte, 16)
			le.PutUint32(out[8:], 1)
		case 15: // READ
			from, size := le.Uint64(body[8:]), uint64(le.Uint32(body[16:]))
			out = mem[min(from, cardBytes):min(from+size, cardBytes)]
		case 16: // WRITE
			from, size := le.Uint64(body[8:]), uint64(le.Uint32(body[16:]))
			if from+size > cardBytes {
				errno = int(syscall.ENOSPC)
				break
			}
			takes(perWrite + time.Duration(size)*time.Second/time.Duration(perSecond))
			copy(mem[from:], body[40:40+size])
			out = make([]byte, 8)
			le.PutUint32(out, uint32(size))
		case 20: // FSYNC
			takes(perFlush)
		case 17: // STATFS
			out = make([]byte, 80)
		case 18, 25: // RELEASE, FLUSH
		case 2, 36, 42: // FORGET, INTERRUPT, BATCH_FORGET: no answer
			continue
		default:
			errno = int(syscall.ENOSYS)
		}
		answer := le.AppendUint32(answer[:0], uint32(16+len(out)))
		answer = le.AppendUint32(answer, uint32(-int32(errno)))
		answer = append(append(answer, in[8:16]...), out...)
		if _, _, eno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&answer[0])), uintptr(len(answer))); eno != 0 && eno != unix.ENOENT {
			return fmt.Errorf("answer to %d: %w", op, eno)
		}
	}
}
