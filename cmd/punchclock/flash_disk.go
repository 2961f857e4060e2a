package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	endian "encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// medium is a card while it is written and read back.
type medium interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	// Forget has what is read next come from the card and not from memory.
	Forget() error
	Size() (int64, error)
}

// diskFile is a block device, or a file in its place.
type diskFile struct{ *os.File }

// openDisk opens it for nobody else: the kernel refuses that for a disk which is
// mounted, or a part of something that is.
func openDisk(path string) (medium, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	flags := os.O_RDWR
	if st.Mode()&os.ModeDevice != 0 {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, syscall.EBUSY) {
		return nil, fmt.Errorf("%w: something on this machine uses it; unmount it first", err)
	}
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (d diskFile) Size() (int64, error) { return d.Seek(0, io.SeekEnd) }

func (d diskFile) Forget() error {
	if st, err := d.Stat(); err == nil && st.Mode()&os.ModeDevice != 0 {
		if err := unix.IoctlSetInt(int(d.Fd()), unix.BLKFLSBUF, 0); err != nil {
			return err
		}
	}
	return unix.Fadvise(int(d.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// flashPiece is how much is written, and compared, at once.
const flashPiece = 4 << 20

// writeImage writes what image gives to the beginning of a card, and reads it back.
// Bytes are reported as they are written and as they are read; it returns how many
// there are, and their checksum.
func writeImage(ctx context.Context, image io.Reader, card medium, written, read func(n int64)) (n int64, sha string, err error) {
	room, err := card.Size()
	if err != nil {
		return 0, "", err
	}
	var pieces [][32]byte
	whole := sha256.New()
	buf := make([]byte, flashPiece)
	for end := false; !end; {
		m, err := io.ReadFull(image, buf)
		if end = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF); err != nil && !end {
			return n, "", fmt.Errorf("read the image: %w; fetch it again", err)
		}
		if err := ctx.Err(); err != nil {
			return n, "", err
		}
		if m == 0 {
			break
		}
		if n+int64(m) > room {
			return n, "", fmt.Errorf("the card holds %s, and the image is larger: use a larger card", inBytes(room))
		}
		whole.Write(buf[:m])
		pieces = append(pieces, sha256.Sum256(buf[:m]))
		if w, err := card.WriteAt(buf[:m], n); err != nil || w != m {
			return n, "", gone(fmt.Errorf("write at %s: %w", inBytes(n+int64(w)), cmp.Or(err, io.ErrShortWrite)))
		}
		n += int64(m)
		written(n)
	}
	if n == 0 {
		return 0, "", errors.New("the image is empty: fetch it again")
	}
	if err := card.Sync(); err != nil {
		return n, "", gone(fmt.Errorf("write: %w", err))
	}
	if err := card.Forget(); err != nil {
		return n, "", gone(err)
	}
	for i, want := range pieces {
		at := int64(i) * flashPiece
		part := buf[:min(flashPiece, n-at)]
		if _, err := card.ReadAt(part, at); err != nil {
			return n, "", gone(fmt.Errorf("read back at %s: %w", inBytes(at), err))
		}
		if sha256.Sum256(part) != want {
			return n, "", fmt.Errorf("what was written at %s reads back as something else: the card is bad, or smaller than it says; use another one", inBytes(at))
		}
		if err := ctx.Err(); err != nil {
			return n, "", err
		}
		read(at + int64(len(part)))
	}
	return n, hex.EncodeToString(whole.Sum(nil)), nil
}

// gone adds what a person should do about a card that stopped answering.
func gone(err error) error {
	return fmt.Errorf("%w; the card was pulled out or is failing: put it in again, or use another one, and write it anew", err)
}

func inBytes(n int64) string {
	if n < 10<<30 {
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%d GB", n/1e9)
}

// bootPartition finds where a card's first partition begins that any computer can
// read: a FAT in a table of either kind.
func bootPartition(card io.ReaderAt) (int64, error) {
	sector := make([]byte, 512)
	if _, err := card.ReadAt(sector, 0); err != nil {
		return 0, err
	}
	if sector[510] == 0x55 && sector[511] == 0xAA {
		for e := sector[446:510]; len(e) > 0; e = e[16:] {
			start := int64(endian.LittleEndian.Uint32(e[8:])) * 512
			switch e[4] {
			case 0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E:
				return start, nil
			case 0xEE:
				return gptPartition(card)
			}
		}
	}
	return 0, errors.New("the image has no partition that a computer can read (FAT): it is no clock's image")
}

// Types of partitions in a GPT, as they lie on the medium (UEFI specification, 5.3.3).
var (
	gptSystem = []byte("\x28\x73\x2A\xC1\x1F\xF8\xD2\x11\xBA\x4B\x00\xA0\xC9\x3E\xC9\x3B")
	gptData   = []byte("\xA2\xA0\xD0\xEB\xE5\xB9\x33\x44\x87\xC0\x68\xB6\xB7\x26\x99\xC7")
)

func gptPartition(card io.ReaderAt) (int64, error) {
	head := make([]byte, 512)
	if _, err := card.ReadAt(head, 512); err != nil {
		return 0, err
	}
	n, size := endian.LittleEndian.Uint32(head[80:]), endian.LittleEndian.Uint32(head[84:])
	if string(head[:8]) == "EFI PART" && size >= 128 && size <= 4096 && n <= 1024 {
		entry := make([]byte, size)
		for i := range n {
			if _, err := card.ReadAt(entry, int64(endian.LittleEndian.Uint64(head[72:]))*512+int64(i)*int64(size)); err != nil {
				return 0, err
			}
			if bytes.Equal(entry[:16], gptSystem) || bytes.Equal(entry[:16], gptData) {
				return int64(endian.LittleEndian.Uint64(entry[32:])) * 512, nil
			}
		}
	}
	return 0, errors.New("the image has no partition that a computer can read (FAT): it is no clock's image")
}

// fat is a card's partition, written without mounting it, by Debian's mtools.
type fat struct {
	disk   string
	offset int64
}

func (f fat) run(stdin []byte, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, append([]string{"-i", fmt.Sprintf("%s@@%d", f.disk, f.offset)}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%w: install it, on Debian: apt-get install mtools", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, strings.Join(strings.Fields(said.String()), " "))
	}
	return out.Bytes(), nil
}

// put writes a file through mtools' standard input, so that no copy of a secret
// lies anywhere else.
func (f fat) put(name string, data []byte) error {
	_, err := f.run(data, "mcopy", "-D", "o", "-", "::"+name)
	return err
}

func (f fat) get(name string) ([]byte, error) { return f.run(nil, "mtype", "::"+name) }

// largestCard is what a memory card holds at most that is sold for a board; what is
// larger is somebody's disk.
const largestCard = 256 << 30

// disks is where the kernel tells of disks; tests have their own.
type disks struct{ sys, mounts, swaps string }

var theseDisks = disks{"/sys", "/proc/self/mountinfo", "/proc/swaps"}

// check refuses what is no card, unless anyDisk is said, and, whatever is said, what
// this machine uses. A plain file is nobody's disk.
func (d disks) check(path string, anyDisk bool) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFBLK:
	default:
		return fmt.Errorf("%s is no disk: name the card, for example /dev/sdb or /dev/mmcblk0; lsblk lists them", path)
	}
	number := func(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }
	me := number(uint64(st.Rdev))
	dir, err := filepath.EvalSymlinks(filepath.Join(d.sys, "dev/block", me))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	word := func(parts ...string) string {
		b, _ := os.ReadFile(filepath.Join(append([]string{dir}, parts...)...)) // absent is ""
		return strings.TrimSpace(string(b))
	}
	if word("partition") != "" {
		return fmt.Errorf("%s is a part of a disk: name the whole of it, %s", path, filepath.Join(filepath.Dir(path), filepath.Base(filepath.Dir(dir))))
	}
	mine := []string{me} // and its parts
	parts, _ := filepath.Glob(filepath.Join(dir, "*/partition"))
	holders, _ := filepath.Glob(filepath.Join(dir, "holders/*"))
	for _, p := range parts {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(p), "dev"))
		if err != nil {
			return err
		}
		mine = append(mine, strings.TrimSpace(string(b)))
		more, _ := filepath.Glob(filepath.Join(filepath.Dir(p), "holders/*"))
		holders = append(holders, more...)
	}
	if len(holders) > 0 {
		return fmt.Errorf("%s is a part of %s of this machine: it is no card", path, filepath.Base(holders[0]))
	}
	mounts, err := os.ReadFile(d.mounts)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		at := slices.Index(f, "-")
		if len(f) < 5 || at < 0 || at+2 >= len(f) {
			continue
		}
		dev := f[2]
		if unix.Stat(f[at+2], &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			dev = number(uint64(st.Rdev)) // btrfs has a number of its own
		}
		if !slices.Contains(mine, dev) && !slices.Contains(mine, f[2]) {
			continue
		}
		if f[4] == "/" || strings.HasPrefix(f[4], "/boot") || strings.HasPrefix(f[4], "/usr") {
			return fmt.Errorf("%s holds the system that runs here (%s): it is no card", path, f[4])
		}
		return fmt.Errorf("%s is mounted at %s: unmount it first, umount %s", path, f[4], f[4])
	}
	swaps, _ := os.ReadFile(d.swaps) // absent: none
	for line := range strings.Lines(string(swaps)) {
		if f := strings.Fields(line); len(f) > 0 && unix.Stat(f[0], &st) == nil && slices.Contains(mine, number(uint64(st.Rdev))) {
			return fmt.Errorf("%s holds this machine's swap space: it is no card", path)
		}
	}
	if anyDisk {
		return nil
	}
	sectors, err := strconv.ParseInt(word("size"), 10, 64)
	switch {
	case err != nil:
		return fmt.Errorf("%s: its size is not known: %w", path, err)
	case sectors == 0:
		return fmt.Errorf("%s is empty: put a card in", path)
	case sectors > largestCard/512:
		return fmt.Errorf("%s holds %s, more than a card: if it is the right one all the same, add --any-disk", path, inBytes(sectors*512))
	case word("removable") != "1" && word("device", "type") != "SD":
		return fmt.Errorf("%s cannot be taken out, so it is no card: if it is the right one all the same, add --any-disk", path)
	}
	return nil
}
