package main

import (
	"bytes"
	endian "encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/device/devicetest"
)

// cardFAT is a small FAT, written to a file and mounted by the kernel.
type cardFAT struct {
	*cardClock
	image string
	loop  *os.File
}

// format writes an empty FAT12 of 2 MB with clusters of 2 KB (Microsoft's FAT
// specification of 2000, page 9).
func format(path string) error {
	b := make([]byte, 2<<20)
	copy(b, "\xEB\x3C\x90MSDOS5.0")
	le := endian.LittleEndian
	le.PutUint16(b[11:], 512)  // bytes a sector
	b[13] = 4                  // sectors a cluster
	le.PutUint16(b[14:], 1)    // reserved
	b[16] = 2                  // copies of the table
	le.PutUint16(b[17:], 224)  // names in the root
	le.PutUint16(b[19:], 4096) // sectors
	b[21] = 0xF8
	le.PutUint16(b[22:], 4) // sectors a table
	le.PutUint16(b[24:], 32)
	le.PutUint16(b[26:], 2)
	b[36], b[38] = 0x80, 0x29
	copy(b[43:], "BOOT       FAT12   ")
	b[510], b[511] = 0x55, 0xAA
	for _, at := range []int{512, 5 * 512} {
		copy(b[at:], "\xF8\xFF\xFF")
	}
	return os.WriteFile(path, b, 0o600)
}

func newCardFAT(t *testing.T) *cardFAT {
	t.Helper()
	c := &cardFAT{cardClock: newCardClock(t)}
	c.image = filepath.Join(c.root, "fat.img")
	if err := format(c.image); err != nil {
		t.Fatal(err)
	}
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		t.Fatal(err)
	}
	if c.loop, err = os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(c.image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.IoctlSetInt(int(c.loop.Fd()), unix.LOOP_SET_FD, int(file.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount(c.boot, 0)
		unix.IoctlSetInt(int(c.loop.Fd()), unix.LOOP_CLR_FD, 0)
		c.loop.Close()
	})
	c.mount(0)
	return c
}

func (c *cardFAT) mount(flags uintptr) {
	c.t.Helper()
	if err := unix.Mount(c.loop.Name(), c.boot, "vfat", flags, ""); err != nil {
		c.t.Fatal(err)
	}
}

// raw unmounts the card and returns all its bytes.
func (c *cardFAT) raw() []byte {
	c.t.Helper()
	if err := unix.Unmount(c.boot, 0); err != nil {
		c.t.Fatal(err)
	}
	b, err := os.ReadFile(c.image)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// bare checks that, when the card is swept, no byte of the partition is a secret's, in a
// file or in none.
func (c *cardFAT) bare() {
	c.t.Helper()
	if err := c.sweep(); err != nil {
		c.t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(c.state, sweepName)); err == nil {
		c.t.Error("it would be swept again")
	}
	raw := c.raw()
	for _, canary := range []string{"CANARY", utf16Text(endian.LittleEndian, "CANARY")[2:]} {
		if at := bytes.Index(raw, []byte(canary)); at >= 0 {
			c.t.Errorf("a secret is at byte %d of the partition: %q", at, raw[max(0, at-20):at+40])
		}
	}
	c.mount(0)
}

// littered has a secret in every cluster that is free.
func (c *cardFAT) littered() {
	c.t.Helper()
	c.fill(strings.Repeat("CANARY-older secret\n", 1000))
	unix.Sync()
	if err := os.Remove(filepath.Join(c.boot, "vmlinuz")); err != nil {
		c.t.Fatal(err)
	}
	if n := bytes.Count(c.raw(), []byte("CANARY")); n < 100 {
		c.t.Fatalf("%d secrets on the card: this test sees nothing", n)
	}
	c.mount(0)
}

// fill leaves no free cluster.
func (c *cardFAT) fill(with string) {
	c.t.Helper()
	f, err := os.Create(filepath.Join(c.boot, "vmlinuz"))
	if err != nil {
		c.t.Fatal(err)
	}
	for err == nil {
		_, err = f.WriteString(with)
	}
	if !errors.Is(err, syscall.ENOSPC) || f.Close() != nil {
		c.t.Fatal(err)
	}
}

// The card as the kernel has it: a FAT, also a full one and one that cannot be
// written; and every byte of the partition looked at afterwards.
func TestKernelCardsPartitionKeepsNoSecret(t *testing.T) {
	devicetest.InKernel(t, devicetest.Machine{Modules: []string{"loop", "vfat", "nls_cp437", "nls_ascii"}, Within: 10 * time.Minute}, func(t *testing.T) {
		card := func(name string, fn func(c *cardFAT)) {
			t.Run(name, func(t *testing.T) { fn(newCardFAT(t)) })
		}
		good := func(c *cardFAT) {
			c.t.Helper()
			if r, err := c.run(); err != nil || r.Outcome != installedOutcome {
				c.t.Fatalf("%+v %v", r, err)
			}
			c.works()
			c.clean()
			c.bare()
			if s := c.onCard(); !strings.Contains(s, receiptName) || !strings.Contains(s, "Done: this is now the clock tpe-1f-lobby") {
				c.t.Errorf("no receipt:\n%.2000s", s)
			}
		}
		card("good", func(c *cardFAT) {
			// An older and longer form in the same clusters, and one that an editor removed.
			path := filepath.Join(c.boot, "punchclock.toml")
			c.put("punchclock.toml", strings.Repeat("# an older one: CANARY-older\n", 300), "punchclock.toml~", goodCard)
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				c.t.Fatal(err)
			}
			unix.Sync()
			text := c.text(goodCard)
			if _, err := f.WriteString(text); err != nil {
				c.t.Fatal(err)
			}
			if err := errors.Join(f.Truncate(int64(len(text))), f.Close(), os.Remove(path+"~")); err != nil {
				c.t.Fatal(err)
			}
			if n := bytes.Count(c.raw(), []byte("CANARY")); n < 200 {
				c.t.Fatalf("%d secrets on the card: this test sees nothing", n)
			}
			c.mount(0)
			c.put("feishu-secret", canaryFeishu)
			good(c)
		})
		card("older forms wherever there is room", func(c *cardFAT) {
			c.littered()
			c.put("punchclock.toml", goodCard, "feishu-secret", canaryFeishu)
			if r, err := c.run(); err != nil || r.Outcome != installedOutcome {
				c.t.Fatalf("%+v %v", r, err)
			}
			c.bare()
		})
		card("older forms wherever there is room, and a mistake", func(c *cardFAT) {
			c.littered()
			c.put("punchclock.toml", strings.Replace(goodCard, "timezone =", "timezoen =", 1))
			if r, err := c.run(); err != nil || r.Outcome != refusedOutcome {
				c.t.Fatalf("%+v %v", r, err)
			}
			c.bare()
		})
		card("UTF-16", func(c *cardFAT) {
			c.put("punchclock.toml", utf16Text(endian.LittleEndian, c.text(goodCard)), "feishu-secret", utf16Text(endian.LittleEndian, canaryFeishu))
			good(c)
		})
		card("full", func(c *cardFAT) {
			c.put("punchclock.toml", goodCard, "feishu-secret", canaryFeishu)
			c.fill(strings.Repeat("\x00", 2048))
			good(c)
		})
		card("full, and a mistake", func(c *cardFAT) {
			// In the same clusters was an older and longer form.
			wrong := c.text(strings.Replace(goodCard, "timezone =", "timezoen =", 1))
			c.put("punchclock.toml", wrong+strings.Repeat("# CANARY-older\n", 40))
			c.fill(strings.Repeat("\x00", 2048))
			unix.Sync()
			if err := os.Truncate(filepath.Join(c.boot, "punchclock.toml"), int64(len(wrong))); err != nil {
				c.t.Fatal(err)
			}
			if n := bytes.Count(c.raw(), []byte("CANARY-older")); n < 10 {
				c.t.Fatalf("%d older secrets on the card: this test sees nothing", n)
			}
			c.mount(0)
			r, err := c.run()
			if err != nil || r.Outcome != refusedOutcome || r.Problems[0].Line != 6 {
				c.t.Fatalf("%+v %v", r, err)
			}
			c.clean()
			c.bare()
			if !strings.Contains(c.read(filepath.Join(c.boot, "punchclock.toml")), `timezoen = ""`) {
				c.t.Error("what is to be corrected is not there")
			}
			if c.read(filepath.Join(c.state, receiptJSON)) == "" {
				c.t.Error("the screen has nothing to say")
			}
		})
		card("read-only", func(c *cardFAT) {
			c.put("punchclock.toml", goodCard, "feishu-secret", canaryFeishu)
			before := c.onCard()
			c.raw()
			c.mount(unix.MS_RDONLY)
			if _, err := c.run(); err == nil || !strings.Contains(err.Error(), "nothing was taken in and its secrets are still there") || !strings.Contains(err.Error(), "write a new one") {
				c.t.Fatal(err)
			}
			if c.read(c.config) != "" || c.onCard() != before || c.lastReceipt().Outcome != failedOutcome {
				c.t.Error("something was taken in")
			}
			c.raw()
			c.mount(0)
			good(c)
		})
		// The machine stops at a step; the card is mounted anew, as it is on the medium.
		every := 1
		if devicetest.ShortForm() {
			every = 13
		}
		for cut := 1; ; cut += every {
			c := newCardFAT(t)
			c.put("punchclock.toml", goodCard, "feishu-secret", canaryFeishu)
			unix.Sync()
			n := 0
			c.disk.before = func(step, path string) error {
				if n++; n >= cut {
					return errCut
				}
				return nil
			}
			_, err := c.run()
			if err == nil {
				err = c.sweep()
			}
			if n < cut {
				if err != nil || cut < 50 {
					t.Errorf("%d steps: %v", n, err)
				}
				t.Logf("%d steps", n)
				break
			}
			c.disk.before = nil
			c.raw()
			c.mount(0)
			if r, err := c.run(); err != nil || r.Outcome != installedOutcome {
				t.Fatalf("cut at step %d: %+v %v", cut, r, err)
			}
			c.clean()
			c.bare()
			unix.Unmount(c.boot, 0)
			if t.Failed() {
				t.Fatalf("cut at step %d", cut)
			}
		}
	})
}
