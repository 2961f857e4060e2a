package evdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	input "github.com/holoplot/go-evdev"
	"golang.org/x/sys/unix"

	"punchclock/device"
)

const (
	sysInputs = "/sys/class/input"
	devInputs = "/dev/input"

	// From linux/input.h; the same on every machine that we build for.
	eviocsGrab    = 0x40044590
	eviocsClockID = 0x400445a0

	// Bits of a keyboard's keys 1 to 0 and Enter, as in capabilities/key. They are in
	// its last word, whatever the size of a word is.
	keyboardBits = 0x3ff<<2 | 1<<keyEnter
)

// find opens the one device that the configuration means, and takes it.
func find(cfg Config) (Device, error) {
	path := cfg.Port
	if path == "" {
		var err error
		if path, err = search(sysInputs, devInputs, cfg); err != nil {
			return nil, err
		}
	}
	// The link is followed once: both handles below are of one device.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, hint(err)
	}
	// Not blocking, so that a read can be given a deadline: the library's own handle
	// waits for ever, even when it is closed.
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, hint(err)
	}
	if err := take(f, cfg); err != nil {
		return nil, errors.Join(hint(fmt.Errorf("%s: %w", path, err)), f.Close())
	}
	return f, nil
}

// Find names the one device that the configuration means, as a path, and opens none.
// The error says what to look for where there is none, or more than one.
func Find(cfg Config) (path string, err error) {
	if cfg.Port == "" {
		return search(sysInputs, devInputs, cfg)
	}
	if _, err := os.Stat(cfg.Port); err != nil {
		return "", hint(err)
	}
	return cfg.Port, nil
}

// take makes sure that f is the device that is meant, and that nobody else hears it.
func take(f *os.File, cfg Config) error {
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Mode()&fs.ModeCharDevice == 0 {
		return errNotKeyboard
	}
	d, err := input.OpenWithFlags(f.Name(), os.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return errNotKeyboard
	}
	defer d.Close()
	keys := d.CapableEvents(input.EV_KEY)
	has := func(key input.EvCode) bool { return slices.Contains(keys, key) }
	if cfg.Dialect == Keypad && !has(input.KEY_1) && !has(input.KEY_KP1) && !has(input.KEY_NUMERIC_1) ||
		cfg.Dialect != Keypad && (!has(input.KEY_1) || !has(input.KEY_ENTER)) {
		return errNotKeyboard
	}
	if cfg.USB != "" {
		id, err := d.InputID()
		if err != nil {
			return fmt.Errorf("ask which device it is: %w", err)
		}
		if is := fmt.Sprintf("%04x:%04x", id.Vendor, id.Product); is != cfg.USB {
			return fmt.Errorf("that is %s and not %s: correct port or usb", is, cfg.USB)
		}
		// A device without them answers with an error, which is as good as nothing.
		if uniq, _ := d.UniqueID(); cfg.Serial != "" && uniq != cfg.Serial {
			return fmt.Errorf("its serial number is %q and not %q: correct port or serial", uniq, cfg.Serial)
		}
		if phys, _ := d.PhysicalLocation(); cfg.Phys != "" && phys != cfg.Phys {
			return fmt.Errorf("it is plugged in at %q and not %q: correct port or phys", phys, cfg.Phys)
		}
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), eviocsClockID, unix.CLOCK_MONOTONIC); err != nil {
			err = fmt.Errorf("choose the monotonic clock: %w", err)
			return
		}
		if err = unix.IoctlSetInt(int(fd), eviocsGrab, 1); err != nil {
			err = fmt.Errorf("take it for this program alone: %w", err)
		}
	})
	return errors.Join(cerr, err)
}

var errNotKeyboard = errors.New("not a keyboard: write the path of the reader's event device, best one below /dev/input/by-id that ends in event-kbd")

// hint says what a person can do about an error of opening.
func hint(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; check that the reader is plugged in and that the path is right", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; the program's user must be in the device's group, usually input", err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w; another program has it: stop that one", err)
	}
	return err
}

// search looks through /sys/class/input for the keyboard with the configured
// identity, and opens none. Two that fit are one too many.
func search(sys, dev string, cfg Config) (path string, err error) {
	entries, err := os.ReadDir(sys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for input devices: %w", err)
	}
	var found []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "event") {
			continue
		}
		// What cannot be read has just gone.
		read := func(name string) string {
			b, _ := os.ReadFile(filepath.Join(sys, e.Name(), "device", name))
			return strings.TrimRight(string(b), "\n")
		}
		words := strings.Fields(read("capabilities/key"))
		if len(words) == 0 {
			continue
		}
		last, err := strconv.ParseUint(words[len(words)-1], 16, 64)
		if err != nil || last&keyboardBits != keyboardBits || read("id/vendor")+":"+read("id/product") != cfg.USB ||
			cfg.Serial != "" && read("uniq") != cfg.Serial || cfg.Phys != "" && read("phys") != cfg.Phys {
			continue
		}
		found = append(found, filepath.Join(dev, e.Name()))
	}
	what := "no keyboard is " + cfg.USB
	if cfg.Serial+cfg.Phys != "" {
		what += fmt.Sprintf(" with serial %q and phys %q", cfg.Serial, cfg.Phys)
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%s; check that the reader is plugged in, and what it is, in /proc/bus/input/devices", what)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%s are all %s; write serial, phys or the port of the one that is meant", strings.Join(found, ", "), cfg.USB)
}

// readNow reads what is there; 0 and no error if there is nothing.
func readNow(dev Device, b []byte) (n int, err error) {
	raw, err := dev.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) {
		for {
			if n, err = unix.Read(int(fd), b); err != unix.EINTR {
				return
			}
		}
	})
	switch {
	case cerr != nil:
		return 0, cerr
	case err == unix.EAGAIN:
		return 0, nil
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return max(n, 0), err
}

// monotonic reads the clock that the devices' records are told to use, and that
// Go's monotonic readings are of.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("this kernel has no monotonic clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// clocks reads both clocks at one moment, unless we were interrupted just there.
func clocks() (now time.Time, base time.Duration) {
	best := time.Duration(1<<63 - 1)
	for range 5 {
		before := monotonic()
		at := time.Now()
		if d := monotonic() - before; d < best {
			best, now, base = d, at, before
		}
	}
	return now, base
}

// inotify is woken by what appears in the folders of a device.
type inotify struct{ *os.File }

// watchInputs watches for a device at path, or for any where it is "".
func watchInputs(path string) watcher {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return newTimer() // no more watches: look every now and then
	}
	w := inotify{os.NewFile(uintptr(fd), "inotify")}
	// A folder that is not there is seen coming in the one above it, and what comes
	// into it comes at the same moment: by-id appears with its first link.
	watch := func(dir string) error {
		_, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB)
		for ; errors.Is(err, unix.ENOENT) && dir != "/"; _, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE) {
			dir = filepath.Dir(dir)
		}
		return err
	}
	err = watch(devInputs)
	if path != "" && err == nil {
		err = watch(filepath.Dir(path))
	}
	if err != nil {
		w.Close()
		return newTimer()
	}
	return w
}

// wait returns when something has appeared, or when ctx is done.
func (w inotify) wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { w.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	if _, err := w.Read(buf); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		device.Sleep(ctx, maxBackoff)
	}
}
