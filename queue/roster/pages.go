package roster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// checkPages compares the file's size with what bbolt's meta pages say, before
// bbolt maps it: reading the missing end of a mapped file is a fault that ends
// the process, and a file of no length would open as a new, empty database.
//
// A meta page is 16 bytes of page header, then magic, version, page size and flags
// of 4 bytes each, then root, root's sequence, freelist, high-water mark,
// transaction and FNV-1a checksum over all before it, of 8 bytes each, all in the
// machine's byte order (every machine of ours is little-endian). There are two, on
// pages 0 and 1; the one of the later transaction counts.
func checkPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("roster: open: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("roster: open: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("roster: open: %s is not a plain file", path)
	}
	var newest, pages, size uint64
	found := false
	look := func(at int64) {
		var b [80]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return // too short for a meta page there
		}
		m := b[16:]
		sum := fnv.New64a()
		sum.Write(m[:56])
		if binary.LittleEndian.Uint32(m) != 0xED0CDAED || binary.LittleEndian.Uint32(m[4:]) != 2 ||
			binary.LittleEndian.Uint64(m[56:]) != sum.Sum64() {
			return
		}
		if tx := binary.LittleEndian.Uint64(m[48:]); !found || tx > newest {
			found, newest = true, tx
			size = uint64(binary.LittleEndian.Uint32(m[8:]))
			pages = binary.LittleEndian.Uint64(m[40:])
		}
	}
	look(0)
	for page := int64(512); page <= 64<<10; page *= 2 {
		look(page)
	}
	switch {
	case st.Size() == 0:
		return &Damaged{path, errors.New("it is empty")}
	case !found:
		return &Damaged{path, errors.New("it has no valid beginning")}
	case size < 512 || size > 64<<10 || pages > 1<<32 || uint64(st.Size()) < pages*size:
		return &Damaged{path, fmt.Errorf("its end is missing: %w", io.ErrUnexpectedEOF)}
	}
	return nil
}
