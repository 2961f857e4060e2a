package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// disk changes files so that a power cut leaves the old or the new. before, if set,
// is asked ahead of each step, for tests: an error of it is the step's.
type disk struct {
	before func(step, path string) error
}

func (d disk) step(step, path string) error {
	if d.before == nil {
		return nil
	}
	return d.before(step, path)
}

// put writes a file and waits until it is on the medium; its name may not be, yet.
func (d disk) put(path string, data []byte, mode fs.FileMode) error {
	if err := d.lay(path, data, mode); err != nil {
		return err
	}
	return d.sync(path)
}

// lay is put until settle.
func (d disk) lay(path string, data []byte, mode fs.FileMode) error {
	if err := d.step("create", path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if err = f.Chmod(mode); errors.Is(err, syscall.EPERM) { // a FAT has no modes
		err = nil
	}
	if stop := d.step("write", path); err == nil && stop == nil {
		_, err = f.Write(data)
	} else if stop != nil {
		_, _ = f.Write(data[:len(data)/2]) // as a power cut does
		err = stop
	}
	return errors.Join(err, f.Close())
}

// settle waits until all that was changed in these folders is on the medium, with one
// wait where they lie on one file system: a card takes as long for one file as for all.
// It is not for a FAT, whose driver leaves the device's own cache out of such a sync.
func (d disk) settle(dirs ...string) error {
	var last uint64
	for i, dir := range dirs {
		st, err := os.Stat(dir)
		if err != nil {
			return err
		}
		dev := uint64(st.Sys().(*syscall.Stat_t).Dev)
		if i > 0 && dev == last {
			continue
		}
		last = dev
		if err := d.step("settle", dir); err != nil {
			return err
		}
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// rename puts a file into its place, for good.
func (d disk) rename(from, to string) error {
	if err := d.move(from, to); err != nil {
		return err
	}
	return d.sync(filepath.Dir(to))
}

// move is rename until settle.
func (d disk) move(from, to string) error {
	if err := d.step("rename", to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func (d disk) remove(path string) error {
	if err := d.step("remove", path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.sync(filepath.Dir(path))
}

// sync waits until a file, or the names in a folder, are on the medium.
func (d disk) sync(path string) error {
	if err := d.step("sync", path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err = f.Sync(); errors.Is(err, syscall.EINVAL) { // a file system that does not know it
		err = nil
	}
	return errors.Join(err, f.Close())
}

func (d disk) mkdir(path string, mode fs.FileMode) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := d.mkdir(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := d.step("mkdir", path); err != nil {
		return err
	}
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.sync(filepath.Dir(path))
}

// largestCluster is the largest piece in which a card's FAT gives out space. What a
// longer file once held stands behind a shorter one's end, up to there.
const largestCluster = 64 << 10

// blank overwrites what a file holds with zeros, on the medium, up to the end of its
// last cluster. It leaves the file with its old length, or longer.
func (d disk) blank(path string) error {
	if err := d.step("write", path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		size := st.Size()
		if _, err = f.WriteAt(make([]byte, size), 0); err == nil {
			err = blankBehind(f, size)
		}
	}
	if err == nil {
		if err = d.step("sync", path); err == nil {
			err = f.Sync()
		}
	}
	return errors.Join(err, f.Close())
}

// blankBehind writes zeros behind the end of a file, to the end of its last cluster and
// perhaps further.
func blankBehind(f *os.File, size int64) error {
	zeros := make([]byte, -size&(largestCluster-1))
	_, err := f.WriteAt(zeros, size)
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	// The last cluster is the file's own. A full card refuses what lies behind it, and with
	// it what is in one write, so that it is given one sector at a time.
	for at, end := size, size+int64(len(zeros)); at < end; {
		n := 512 - at%512
		if _, err := f.WriteAt(zeros[:n], at); errors.Is(err, syscall.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
		at += n
	}
	return nil
}

// wipe overwrites a file and removes it. A file that is not there is wiped.
func (d disk) wipe(path string) error {
	if err := d.blank(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return d.remove(path)
}

// replace overwrites what a file holds with zeros and then with a text.
func (d disk) replace(path string, text []byte) error {
	if err := d.blank(path); err != nil {
		return err
	}
	return d.putCard(path, text)
}

// putCard is put for a file that stays on the card. It may be given a cluster that was
// another file's, an editor's older form for one: what that held is overwritten up to the
// cluster's end.
func (d disk) putCard(path string, text []byte) error {
	if err := d.step("create", path); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if stop := d.step("write", path); stop == nil {
		if _, err = f.Write(text); err == nil {
			err = blankBehind(f, int64(len(text)))
		}
	} else {
		_, _ = f.Write(text[:len(text)/2]) // as a power cut does
		err = stop
	}
	if err == nil {
		if err = d.step("sync", path); err == nil {
			err = errors.Join(f.Sync(), f.Truncate(int64(len(text))), f.Sync())
		}
	}
	return errors.Join(err, f.Close())
}

// mostFree is how much free space of a card is overwritten at most: what is larger
// than any card's first partition is none.
const mostFree = 1 << 30

// blankFree overwrites what is free on a FAT, where editors leave a file's older
// forms. Other file systems, which no card has there, are left alone.
func (d disk) blankFree(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || int64(st.Type) != unix.MSDOS_SUPER_MAGIC {
		return err
	}
	path := filepath.Join(dir, "punchclock-wipe.tmp")
	if err := d.step("write", path); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for done := 0; err == nil && done < mostFree; {
		var n int
		n, err = f.Write(zeros)
		if done += n; errors.Is(err, syscall.ENOSPC) && len(zeros) > 512 {
			zeros, err = zeros[:512], nil // the last clusters
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), d.remove(path))
}

// putJSON replaces a small file as a whole.
func (d disk) putJSON(path string, v any, mode fs.FileMode) error {
	b, err := jsonText(v)
	if err != nil {
		return err
	}
	if err := d.put(path+".new", b, mode); err != nil {
		return err
	}
	return d.rename(path+".new", path)
}

func jsonText(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// onMemory reports whether a folder would be empty after a power cut.
func onMemory(dir string) bool {
	var st unix.Statfs_t
	for ; unix.Statfs(dir, &st) != nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
	}
	switch int64(st.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.SQUASHFS_MAGIC: // the last is a system that cannot be written
		return true
	case unix.OVERLAYFS_SUPER_MAGIC: // such a system, with memory laid over it
		return true
	}
	return false
}

// plan is what is done with a card, all or nothing. It is written down before the
// first step, and each step may be repeated.
type plan struct {
	Aside  []move     `json:"aside,omitempty"`  // folders of another device's punches
	Files  []string   `json:"files,omitempty"`  // each lies beside its place under its name with .new
	Remove []string   `json:"remove,omitempty"` // what the new configuration does not name any more: overwritten, too
	Card   []cardPart `json:"card,omitempty"`
	Done   receipt    `json:"receipt"`
}

type move struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Device string `json:"device"`
}

// cardPart is a file on the card that has been read.
type cardPart struct {
	Name string `json:"name"`
	SHA  string `json:"sha256"`         // of what was read
	Left string `json:"left,omitempty"` // what stays of it, to be corrected; "" removes it
}

const (
	planName    = "plan.json"
	sweepName   = "sweep" // there while what is free on the card may hold secrets
	receiptJSON = "receipt.json"
	receiptName = "punchclock-receipt.txt"
)

// carry does what a plan says, from wherever a power cut has left it.
func (p *provisioner) carry(pl *plan) error {
	d := p.disk
	for _, m := range pl.Aside {
		if _, err := os.Stat(m.To); err == nil {
			continue
		}
		if err := d.rename(m.From, m.To); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put the punches of %s aside: %w", m.Device, err)
		}
	}
	dirs := []string{p.state}
	for _, path := range pl.Files {
		if err := d.move(path+".new", path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("install: %w", err)
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	done, err := jsonText(pl.Done)
	if err != nil {
		return err
	}
	receipt := filepath.Join(p.state, receiptJSON)
	// What is free on the card is overwritten when the clock runs, which may take a slow
	// card a minute.
	if err := errors.Join(d.lay(filepath.Join(p.state, sweepName), nil, 0o600), d.lay(receipt+".new", done, 0o644)); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	// Nothing of the card goes before all of it is in the clock.
	if err := d.settle(dirs...); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for _, path := range pl.Remove {
		if err := d.wipe(path); err != nil {
			return fmt.Errorf("remove what is not used any more: %w", err)
		}
	}
	for _, part := range pl.Card {
		path := filepath.Join(p.boot, part.Name)
		b, err := readSmall(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("card: %w", err)
		case part.Left != "" && string(b) == part.Left:
			continue
		case sum(b) != part.SHA && bytes.IndexByte(plainText(b), 0) < 0 && !strings.HasPrefix(part.Left, string(b)):
			continue // neither what was read, nor half overwritten: another file, put there since
		case part.Left != "":
			err = d.replace(path, []byte(part.Left))
			if errors.Is(err, syscall.ENOSPC) {
				err = d.wipe(path)
			}
		default:
			err = d.wipe(path)
		}
		if err != nil {
			return fmt.Errorf("card: wipe %s: %w", part.Name, err)
		}
	}
	// The receipt is a help; what it tells is done. A card too full for it still gets
	// its first words.
	if err := p.leaveReceipt(&pl.Done); err != nil {
		return err
	}
	if err := d.rename(receipt+".new", receipt); err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	// All is done: a plan that cannot be removed is gone through once more at the next
	// start, and changes nothing then.
	_ = d.remove(filepath.Join(p.state, planName))
	return nil
}

// sweep overwrites what is free on the card, if a file was taken in from it since that
// was last done. A power cut leaves it to the next start.
func (p *provisioner) sweep() error {
	note := filepath.Join(p.state, sweepName)
	if _, err := os.Stat(note); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := p.disk.blankFree(p.boot); err != nil {
		return fmt.Errorf("sweep: overwrite what is free on the card: %w; the next start tries again", err)
	}
	return p.disk.remove(note)
}

// leaveReceipt writes the receipt on the card, or its short form where that is all
// that fits, or nothing.
func (p *provisioner) leaveReceipt(r *receipt) error {
	path := filepath.Join(p.boot, receiptName)
	err := p.disk.putCard(path, forNotepad(r.words()))
	if errors.Is(err, syscall.ENOSPC) {
		err = p.disk.putCard(path, forNotepad(r.headline()))
	}
	if errors.Is(err, syscall.ENOSPC) {
		return p.disk.remove(path)
	}
	if err != nil {
		return fmt.Errorf("receipt on the card: %w", err)
	}
	return p.disk.sync(p.boot)
}
