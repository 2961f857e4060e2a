package keypad

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"

	"punchclock/device"
)

// settle is what the wires get before a row is read; long ones need 10 µs.
const settle = 20 * time.Microsecond

// headerChips are the labels of the chips behind the header: Raspberry Pi 5, 4,
// and all before it.
var headerChips = []string{"pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835"}

// The kernel's structure has this size on every machine.
var _ [592]byte = [unsafe.Sizeof(uapi.LineRequest{})]byte{}

// pad is the only door to the chip.
type pad struct {
	rows    *os.File // edges come out of it
	columns *os.File
	inputs  int // how many rows
	outputs int // how many columns
	settle  time.Duration
	stopped atomic.Bool
	buf     [4096]byte
}

var _ Pad = (*pad)(nil)

func openPad(chip string, rows, columns []int) (*pad, error) {
	f, err := findChip(chip)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &pad{inputs: len(rows), outputs: len(columns), settle: settle}
	if p.rows, err = request(f, rows, uapi.LineFlagV2Input|uapi.LineFlagV2EdgeFalling|uapi.LineFlagV2BiasPullUp); err != nil {
		return nil, err
	}
	if p.columns, err = request(f, columns, uapi.LineFlagV2Output); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// request takes lines. Outputs are low at first.
func request(f *os.File, lines []int, flags uapi.LineFlagV2) (*os.File, error) {
	req := uapi.LineRequest{Lines: uint32(len(lines))}
	for i, line := range lines {
		req.Offsets[i] = uint32(line)
	}
	copy(req.Consumer[:], "punchclock")
	req.Config.Flags = flags
	if err := uapi.GetLine(f.Fd(), &req); err != nil {
		return nil, requestError(f, lines, err)
	}
	if err := unix.SetNonblock(int(req.Fd), true); err != nil {
		return nil, errors.Join(err, unix.Close(int(req.Fd)))
	}
	return os.NewFile(uintptr(req.Fd), "keypad"), nil
}

// requestError says what a person can do about lines that were not given.
func requestError(f *os.File, lines []int, err error) error {
	names := make([]string, len(lines))
	for i, line := range lines {
		names[i] = fmt.Sprintf("GPIO%d", line)
		if info, err := uapi.GetLineInfoV2(f.Fd(), line); err == nil && info.Flags.IsUsed() {
			names[i] += fmt.Sprintf(" (taken by %q)", uapi.BytesToString(info.Consumer[:]))
		}
	}
	err = fmt.Errorf("request of %s: %w", strings.Join(names, ", "), err)
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w; take it away from there (an overlay in config.txt, another program), or use other pins", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("%w; that chip has no such line, or this kernel is older than Linux 5.10", err)
	}
	return err
}

// findChip opens a chip by its label or path, "" is that of a Raspberry Pi's header.
func findChip(want string) (*os.File, error) {
	paths, labels := []string{want}, headerChips
	if !strings.HasPrefix(want, "/") {
		var err error
		if paths, err = filepath.Glob("/dev/gpiochip*"); err != nil {
			return nil, fmt.Errorf("look for GPIO chips: %w", err)
		}
		if want != "" {
			labels = []string{want}
		}
	}
	var seen []string
	var refused error
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			refused = openError(err)
			continue
		}
		info, err := uapi.GetChipInfo(f.Fd())
		label := uapi.BytesToString(info.Label[:])
		if err == nil && (want == path || slices.Contains(labels, label)) {
			return f, nil
		}
		f.Close()
		if err != nil {
			refused = fmt.Errorf("%s is no GPIO chip: %w", path, err)
			continue
		}
		seen = append(seen, label)
	}
	switch {
	case refused != nil:
		return nil, refused
	case len(seen) == 0:
		return nil, fmt.Errorf("this machine has no GPIO: %w; a keypad needs a Raspberry Pi, or a chip of another make named by chip", device.ErrMissing)
	}
	return nil, fmt.Errorf("no GPIO chip is %s: %w; there is %s", strings.Join(labels, " or "), device.ErrMissing, strings.Join(seen, ", "))
}

// openError says what a person can do about a chip that cannot be opened.
func openError(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; the program's user must be in the device's group, usually gpio", err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: %w", device.ErrMissing, err)
	}
	return err
}

// control runs f on a file descriptor.
func control(file *os.File, f func(fd uintptr) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) { err = f(fd) })
	return errors.Join(cerr, err)
}

// low drives these columns, which are then low, and no other.
func (p *pad) low(columns uapi.LineBitmap) error {
	c := uapi.LineConfig{Flags: uapi.LineFlagV2Input}
	c.AddAttribute(uapi.LineConfigAttribute{Attr: uapi.LineFlagV2Output.Encode(), Mask: columns})
	c.AddAttribute(uapi.LineConfigAttribute{Attr: uapi.OutputValues(0).Encode(), Mask: columns})
	return control(p.columns, func(fd uintptr) error { return uapi.SetLineConfigV2(fd, &c) })
}

// down reads which rows are low.
func (p *pad) down() (matrix, error) {
	v := uapi.LineValues{Mask: uapi.NewLineBitMask(p.inputs)}
	if err := control(p.rows, func(fd uintptr) error { return uapi.GetLineValuesV2(fd, &v) }); err != nil {
		return 0, err
	}
	return matrix(^v.Bits & v.Mask), nil
}

// Scan lets one column after another be low. See [Pad].
func (p *pad) Scan() (matrix, error) {
	var m matrix
	for column := range p.outputs {
		if err := p.low(uapi.NewLineBits(column)); err != nil {
			return 0, err
		}
		time.Sleep(p.settle)
		rows, err := p.down()
		if err != nil {
			return 0, err
		}
		for row := range p.inputs {
			if rows&(1<<row) != 0 {
				m |= bit(row, column)
			}
		}
	}
	return m, nil
}

// Rest lets any key be seen. See [Pad].
func (p *pad) Rest() (bool, error) {
	if err := p.low(uapi.NewLineBitMask(p.outputs)); err != nil {
		return false, err
	}
	time.Sleep(p.settle)
	// Edges of before, when the columns were moved.
	for {
		err := control(p.rows, func(fd uintptr) error {
			_, err := unix.Read(int(fd), p.buf[:])
			return err
		})
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
	}
	m, err := p.down()
	return m != 0, err
}

// Wait waits for an edge. See [Pad].
func (p *pad) Wait(deadline time.Time) error {
	if err := p.rows.SetReadDeadline(deadline); err != nil {
		return err
	}
	if p.stopped.Load() { // Interrupt comes after this, or its deadline after ours
		return os.ErrClosed
	}
	_, err := p.rows.Read(p.buf[:])
	if err != nil && p.stopped.Load() {
		return os.ErrClosed
	}
	return err
}

// Interrupt ends a Wait. See [Pad].
func (p *pad) Interrupt() {
	p.stopped.Store(true)
	_ = p.rows.SetReadDeadline(time.Unix(1, 0)) // it fails on one that is closed
}

// Close gives the lines back.
func (p *pad) Close() error {
	err := p.rows.Close()
	if p.columns != nil {
		err = errors.Join(err, p.columns.Close())
	}
	return err
}
