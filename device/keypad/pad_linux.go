package keypad

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"

	"punchclock/device/gpiochip"
)

// settle is what the wires get before a row is read; long ones need 10 µs.
const settle = 20 * time.Microsecond

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
	c, err := gpiochip.Open(chip)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	p := &pad{inputs: len(rows), outputs: len(columns), settle: settle}
	if p.rows, err = request(c, rows, uapi.LineFlagV2Input|uapi.LineFlagV2EdgeFalling|uapi.LineFlagV2BiasPullUp); err != nil {
		return nil, err
	}
	if p.columns, err = request(c, columns, uapi.LineFlagV2Output); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// request takes lines. Outputs are low at first.
func request(c *gpiochip.Chip, lines []int, flags uapi.LineFlagV2) (*os.File, error) {
	fd, err := c.Take(uapi.LineConfig{Flags: flags}, 0, lines...)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "keypad"), nil
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
