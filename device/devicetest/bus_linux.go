package devicetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Buses of the header, made in user space: the kernel's CUSE gives a device file
// whose calls come to the test. What a driver does with the bus goes through the very
// calls that it makes on a board, pointers and all; only the wires are not there. It
// needs /dev/cuse, that is root and the module cuse, as in [InKernel].

// NewI2CBus makes /dev/i2c-<n>. tx is one transfer to or from an address: w was
// written, or r is to be filled. It is called by one goroutine.
func NewI2CBus(t testing.TB, n int, tx func(addr uint16, w, r []byte) error) {
	t.Helper()
	const (
		funcs      = 0x705
		rdwr       = 0x707
		head, msg  = 16, 16 // bytes of i2c_rdwr_ioctl_data and of i2c_msg
		isRead     = 1
		plainI2C   = 1
		mostAtOnce = 42 // I2C_RDWR_IOCTL_MAX_MSGS
	)
	newCUSE(t, fmt.Sprintf("i2c-%d", n), func(c call) answer {
		switch c.cmd {
		case funcs:
			if c.out == 0 {
				return answer{askOut: []span{{c.arg, 8}}}
			}
			return answer{data: binary.NativeEndian.AppendUint64(nil, plainI2C)}
		case rdwr:
		default:
			return answer{errno: unix.ENOTTY}
		}
		if len(c.in) < head {
			return answer{askIn: []span{{c.arg, head}}}
		}
		msgs, count := binary.NativeEndian.Uint64(c.in), int(binary.NativeEndian.Uint32(c.in[8:]))
		if count > mostAtOnce {
			return answer{errno: unix.EINVAL}
		}
		all := head + count*msg
		if len(c.in) < all {
			return answer{askIn: []span{{c.arg, head}, {msgs, uint64(count * msg)}}}
		}
		in, out := []span{{c.arg, head}, {msgs, uint64(count * msg)}}, []span(nil)
		writes, reads := 0, 0
		for i := range count {
			m := c.in[head+i*msg:]
			size := int(binary.NativeEndian.Uint16(m[4:]))
			s := span{binary.NativeEndian.Uint64(m[8:]), uint64(size)}
			if binary.NativeEndian.Uint16(m[2:])&isRead != 0 {
				out, reads = append(out, s), reads+size
			} else {
				in, writes = append(in, s), writes+size
			}
		}
		if len(c.in) < all+writes || c.out < reads {
			return answer{askIn: in, askOut: out}
		}
		written, filled := c.in[all:], []byte(nil)
		for i := range count {
			m := c.in[head+i*msg:]
			size := int(binary.NativeEndian.Uint16(m[4:]))
			var w, r []byte
			if binary.NativeEndian.Uint16(m[2:])&isRead != 0 {
				r = make([]byte, size)
			} else {
				w, written = written[:size], written[size:]
			}
			if err := tx(binary.NativeEndian.Uint16(m), w, r); err != nil {
				return answer{errno: unix.EREMOTEIO} // no acknowledge, as the Pi's controller has it
			}
			filled = append(filled, r...)
		}
		return answer{result: int32(count), data: filled}
	})
}

// NewSPIDevice makes /dev/spidev<bus>.<device>. tx is one transfer, from chip select
// low to high: w was sent, r, of the same length, is to be filled. It is called by
// one goroutine.
func NewSPIDevice(t testing.TB, bus, device int, tx func(w, r []byte) error) {
	t.Helper()
	const (
		magic    = 'k'
		message  = 0
		transfer = 32 // bytes of spi_ioc_transfer
	)
	newCUSE(t, fmt.Sprintf("spidev%d.%d", bus, device), func(c call) answer {
		size := int(c.cmd >> 16 & 0x3FFF)
		switch {
		case c.cmd>>8&0xFF != magic:
			return answer{errno: unix.ENOTTY}
		case c.cmd&0xFF != message: // mode, speed, word size
			if len(c.in) < size {
				return answer{askIn: []span{{c.arg, uint64(size)}}}
			}
			return answer{}
		case size == 0 || size%transfer != 0:
			return answer{errno: unix.EINVAL}
		case len(c.in) < size:
			return answer{askIn: []span{{c.arg, uint64(size)}}}
		}
		in, out := []span{{c.arg, uint64(size)}}, []span(nil)
		writes, reads, total := 0, 0, 0
		for i := 0; i < size; i += transfer {
			m := c.in[i:]
			n := int(binary.NativeEndian.Uint32(m[16:]))
			total += n
			if p := binary.NativeEndian.Uint64(m); p != 0 {
				in, writes = append(in, span{p, uint64(n)}), writes+n
			}
			if p := binary.NativeEndian.Uint64(m[8:]); p != 0 {
				out, reads = append(out, span{p, uint64(n)}), reads+n
			}
		}
		if len(c.in) < size+writes || c.out < reads {
			return answer{askIn: in, askOut: out}
		}
		written, filled := c.in[size:], []byte(nil)
		for i := 0; i < size; i += transfer {
			m := c.in[i:]
			n := int(binary.NativeEndian.Uint32(m[16:]))
			w, r := make([]byte, n), make([]byte, n)
			if binary.NativeEndian.Uint64(m) != 0 {
				copy(w, written[:n])
				written = written[n:]
			}
			last := i+transfer == size
			if raised := m[27] != 0; raised == last {
				return answer{errno: unix.EINVAL} // chip select must go up after each transfer, and only then
			}
			if err := tx(w, r); err != nil {
				return answer{errno: unix.EIO}
			}
			if binary.NativeEndian.Uint64(m[8:]) != 0 {
				filled = append(filled, r...)
			}
		}
		return answer{result: int32(total), data: filled}
	})
}

// call is an ioctl: its number, its argument, and what was fetched for it so far.
type call struct {
	cmd uint32
	arg uint64
	in  []byte
	out int // room for an answer's bytes
}

// span is a piece of the caller's memory.
type span struct{ base, size uint64 }

// answer is what becomes of a call: bytes to fetch and room to ask for first, or a
// result.
type answer struct {
	askIn, askOut []span

	result int32
	data   []byte
	errno  unix.Errno
}

// Numbers of <linux/fuse.h>.
const (
	cuseInit         = 4096
	cuseUnrestricted = 1
	fuseOpen         = 14
	fuseRelease      = 18
	fuseFlush        = 25
	fuseInterrupt    = 36
	fuseIoctl        = 39
	fuseRetry        = 1 << 2

	fuseInHeader  = 40
	fuseOutHeader = 16
)

// newCUSE makes a device file that lives until the test ends.
func newCUSE(t testing.TB, name string, ioctl func(call) answer) {
	t.Helper()
	// The runtime asks a new file whether it can be waited for, with a call during
	// which it lends its processor to nobody: the answer must come from another one.
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	fd, err := unix.Open("/dev/cuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("a device of our own: open /dev/cuse: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		serveCUSE(fd, name, ioctl)
	}()
	t.Cleanup(func() {
		unix.Close(fd)
		<-ended
	})
	// The kernel shows the name before there is anything behind it: opening says when
	// there is.
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		dev, err := unix.Open("/dev/"+name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(dev)
			return
		}
		if time.Since(began) > 5*time.Second {
			t.Fatalf("the kernel made no /dev/%s: %v", name, err)
		}
	}
}

func serveCUSE(fd int, name string, ioctl func(call) answer) {
	le := binary.NativeEndian
	buf := make([]byte, 1<<17)
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) || fds[0].Revents&(unix.POLLNVAL|unix.POLLERR) != 0 {
			return // closed
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			continue
		}
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil || n < fuseInHeader {
			return
		}
		opcode, unique, body := le.Uint32(buf[4:]), le.Uint64(buf[8:]), buf[fuseInHeader:n]
		reply := func(errno unix.Errno, data []byte) {
			b := le.AppendUint32(nil, uint32(fuseOutHeader+len(data)))
			b = le.AppendUint32(b, uint32(-int32(errno)))
			b = append(le.AppendUint64(b, unique), data...)
			unix.Write(fd, b) // a caller that was killed has no use for it
		}
		switch opcode {
		case cuseInit:
			b := append([]byte(nil), body[:8]...) // its version is ours
			b = le.AppendUint32(b, 0)
			b = le.AppendUint32(b, cuseUnrestricted)
			b = le.AppendUint32(b, 1<<16)
			b = le.AppendUint32(b, 1<<16)
			b = append(b, make([]byte, 8+40)...) // any device number
			reply(0, append(b, "DEVNAME="+name+"\x00"...))
		case fuseOpen:
			reply(0, make([]byte, 16))
		case fuseRelease, fuseFlush:
			reply(0, nil)
		case fuseInterrupt: // wants no answer
		case fuseIoctl:
			a := ioctl(call{cmd: le.Uint32(body[12:]), arg: le.Uint64(body[16:]), in: body[32:], out: int(le.Uint32(body[28:]))})
			if a.errno != 0 {
				reply(a.errno, nil)
				continue
			}
			flags := uint32(0)
			if a.askIn != nil || a.askOut != nil {
				flags = fuseRetry
			}
			b := le.AppendUint32(nil, uint32(a.result))
			b = le.AppendUint32(b, flags)
			b = le.AppendUint32(b, uint32(len(a.askIn)))
			b = le.AppendUint32(b, uint32(len(a.askOut)))
			for _, s := range append(a.askIn, a.askOut...) {
				b = le.AppendUint64(le.AppendUint64(b, s.base), s.size)
			}
			reply(0, append(b, a.data...))
		default:
			reply(unix.ENOSYS, nil)
		}
	}
}
