package devicetest

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// NewPTY makes a pseudo-terminal in raw mode, with neither echo nor translation.
// What the test writes to master arrives at the serial port path; closing master
// unplugs it. The kernel may give the same path to the next one once both ends
// are closed.
func NewPTY(t testing.TB) (master *os.File, path string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("open a pseudo-terminal: %v", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { master.Close() }) // an error means that the test has unplugged it
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatalf("unlock the pseudo-terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatalf("number of the pseudo-terminal: %v", err)
	}
	tio, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatalf("settings of the pseudo-terminal: %v", err)
	}
	tio.Iflag, tio.Oflag, tio.Lflag = 0, 0, 0
	tio.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B9600
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, tio); err != nil {
		t.Fatalf("settings of the pseudo-terminal: %v", err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", n)
}
