package clock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Boot returns the id of this boot, /proc/sys/kernel/random/boot_id.
func Boot() (id [16]byte, err error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err == nil {
		id, err = parseBoot(string(b))
	}
	if err != nil {
		return id, fmt.Errorf("boot id: %w", err)
	}
	return id, nil
}

// Uptime returns the time since boot, suspend included (CLOCK_BOOTTIME, Linux 2.6.39).
func Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // no such clock: not a Linux that this program was built for
	}
	return time.Duration(ts.Nano())
}

func system() (Machine, error) {
	boot, err := Boot()
	if err != nil {
		return Machine{}, err
	}
	return Machine{
		BootID: boot, Wall: time.Now, Uptime: Uptime, Kernel: adjtimex, Steps: steps,
		Chip: func() (string, bool) { return chip("/sys/class/rtc") },
	}, nil
}

// adjtimex asks without setting anything. The fields are 32 bits wide on 32-bit ARM.
func adjtimex() (Kernel, error) {
	var tx unix.Timex
	status, err := unix.Adjtimex(&tx)
	if err != nil {
		return Kernel{}, fmt.Errorf("adjtimex: %w", err)
	}
	unit := time.Microsecond
	if tx.Status&unix.STA_NANO != 0 {
		unit = time.Nanosecond
	}
	return Kernel{
		Synced: status != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0,
		Bound:  time.Duration(tx.Maxerror)*time.Microsecond + (time.Duration(tx.Offset) * unit).Abs(),
	}, nil
}

// chip finds the battery clock that the kernel has set the time from at boot, and
// the name of its chip if there is one.
func chip(class string) (name string, ok bool) {
	marks, _ := filepath.Glob(filepath.Join(class, "rtc*", "hctosys")) // the pattern is sound
	for _, mark := range marks {
		if b, err := os.ReadFile(mark); err != nil || strings.TrimSpace(string(b)) != "1" {
			continue
		}
		for _, file := range []string{"device/name", "name"} {
			if b, err := os.ReadFile(filepath.Join(filepath.Dir(mark), file)); err == nil {
				return strings.TrimSpace(string(b)), true
			}
		}
		return "", true
	}
	return "", false
}

// steps waits on a timer that never expires and that the kernel cancels when the
// wall clock is stepped (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). It costs
// nothing in between.
func steps(ctx context.Context, wake chan<- struct{}) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	defer f.Close()
	// Its deadline ends the read when ctx is done; the stop waits for nothing.
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	// No expiry at all, so that none can be in the past: 32-bit ARM has no time
	// after 2038, and a battery clock with bad registers says 2095.
	var never unix.ItimerSpec
	for {
		if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil && !errors.Is(err, unix.ECANCELED) {
			return fmt.Errorf("timerfd: %w", err)
		}
		var b [8]byte
		_, err := f.Read(b[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, unix.ECANCELED):
			return fmt.Errorf("timerfd: %w", err)
		}
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}
