package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	byteorder "encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Slots. A card made with make image holds the whole system twice, and a version is a
// bundle for the slot that does not run: make bundle. RAUC checks whose signature it
// is, writes the slot and tells U-Boot, which counts a new slot's starts and goes back
// by itself where they come to nothing.
//
// A bundle is a squashfs padded to 4 KiB, the hash tree of its blocks (dm-verity's), the
// signed manifest with the tree's root, and that one's length in eight bytes. RAUC
// compares a block with the tree when it comes to it, in the midst of writing. Here
// all of it is compared before the first byte of a slot is touched.

const (
	raucVersion = "/etc/punchclock-image" // of the slot that runs
	raucSource  = "/etc/rauc/source"      // address of the bundle, one line
	raucConfig  = "/etc/rauc/system.conf"
	raucLargest = 130 << 20     // bytes of a bundle: a slot's, and its tree and signature
	raucSpare   = 256 << 20     // bytes that the outbox still has beside it
	raucPatient = 2 * time.Hour // for all of a bundle: who stalls must not keep the next hour's look out
	raucBlock   = 4096
)

type raucUpdates struct {
	dir                     string
	version, source, config string
	http                    *http.Client
	call                    func(ctx context.Context, program string, args ...string) (string, error)
}

func raucInstallation(dir string) (installation, bool) {
	_, err := os.Stat(raucVersion)
	return &raucUpdates{dir, raucVersion, raucSource, raucConfig, http.DefaultClient, callRauc}, err == nil
}

// callRauc returns all that a program says, in the language its words are known in.
func callRauc(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", program, args[0], err, bytes.TrimSpace(out))
	}
	return string(out), err
}

func (r *raucUpdates) Kind() string { return "rauc" }

func (r *raucUpdates) Running(context.Context) (string, error) {
	b, err := os.ReadFile(r.version)
	return strings.TrimSpace(string(b)), err
}

func (r *raucUpdates) bundle() string { return filepath.Join(r.dir, "bundle.raucb") }

func (r *raucUpdates) Offer(ctx context.Context, _ string) (string, error) {
	b, err := os.ReadFile(r.source)
	if errors.Is(err, os.ErrNotExist) {
		return "", usage("this image was made without an address to take updates from; make one with make image UPDATE_URL=https://…")
	} else if err != nil {
		return "", err
	}
	if err := r.fetch(ctx, strings.TrimSpace(string(b))); err != nil {
		return "", err
	}
	return r.prove(ctx, r.bundle())
}

// fetch has the bundle at the address in place of the one that was there, whole or
// not at all. One that has not changed at its address is not fetched again.
func (r *raucUpdates) fetch(ctx context.Context, address string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, raucPatient)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("fetch the bundle: %w", err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	tag := r.bundle() + ".etag"
	if known, err := os.ReadFile(tag); err == nil && len(known) > 0 {
		if _, err := os.Stat(r.bundle()); err == nil {
			req.Header.Set("If-None-Match", string(known))
		}
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified:
		return nil
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %s", req.URL.Host, resp.Status)
	case resp.ContentLength > raucLargest:
		return tooLarge(resp.ContentLength)
	}
	// A punch goes before a version.
	var at unix.Statfs_t
	if err := unix.Statfs(r.dir, &at); err != nil {
		return err
	}
	if free := int64(at.Bavail) * int64(at.Bsize); free < max(resp.ContentLength, 0)+raucSpare {
		return &refusal{refusedDisk, fmt.Sprintf("%d MB are free, and a bundle of %d MB would leave too little for punches", free>>20, max(resp.ContentLength, 0)>>20), "put in a larger card"}
	}
	// The tag first goes: it must never be that of another bundle.
	if err := os.Remove(tag); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	part := r.bundle() + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(resp.Body, raucLargest+1))
	if err == nil && n > raucLargest {
		err = tooLarge(n)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, r.bundle()); err != nil {
		return err
	}
	return os.WriteFile(tag, []byte(resp.Header.Get("ETag")), 0o600)
}

func tooLarge(n int64) error {
	return &refusal{refusedPayload, fmt.Sprintf("the bundle of %d bytes is larger than a slot", n), "publish what make bundle has written"}
}

// What RAUC says of a bundle, in the form for people: the one for programs differs from
// version to version.
var raucSays = regexp.MustCompile(`(?m)^\s*(Compatible|Version|Bundle Format|Verity Salt|Verity Hash|Verity Size|Filename|Size):\s*'?([^'\n]*?)'?\s*$`)

// prove returns the version of the bundle at path when it is signed by the key that
// this machine trusts, whole, and for this machine.
func (r *raucUpdates) prove(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	tree, err := measureBundle(f)
	if err != nil {
		return "", err
	}
	said, err := r.call(ctx, "rauc", "--conf="+r.config, "info", path)
	if err != nil {
		if strings.Contains(said, "signature verification failed") || strings.Contains(said, "ignature") {
			return "", &refusal{refusedKey, "the bundle is not signed by the key that this image trusts, or its manifest was changed afterwards (" + lastLine(said) + ")",
				"publish one that make bundle has signed with the right key; should it be a stranger's, find out whose"}
		}
		return "", &refusal{refusedPayload, "the bundle cannot be read (" + lastLine(said) + ")", "publish what make bundle has written"}
	}
	is := map[string]string{}
	for _, m := range raucSays.FindAllStringSubmatch(said, -1) {
		is[m[1]] = m[2]
	}
	conf, err := os.ReadFile(r.config)
	if err != nil {
		return "", err
	}
	board := regexp.MustCompile(`(?m)^compatible=(.*)$`).FindSubmatch(conf)
	switch {
	case board == nil:
		return "", fmt.Errorf("%s does not say what this machine is", r.config)
	case is["Compatible"] != string(board[1]):
		return "", &refusal{refusedMachine, fmt.Sprintf("the bundle is for %s, and this machine is %s", dash(is["Compatible"]), board[1]), "publish a bundle for " + string(board[1])}
	case is["Bundle Format"] != "verity" && !strings.HasPrefix(is["Bundle Format"], "verity "):
		return "", &refusal{refusedPayload, fmt.Sprintf("the bundle's format is %s", dash(is["Bundle Format"])), "publish what make bundle has written"}
	case is["Version"] == "" || is["Version"] == "(null)" || is["Filename"] != "slot.img":
		return "", &refusal{refusedPayload, "the bundle does not hold one slot with a version", "publish what make bundle has written"}
	}
	if size, err := strconv.ParseInt(is["Verity Size"], 10, 64); err != nil || size != tree.hashes {
		return "", &refusal{refusedCut, fmt.Sprintf("the bundle has %d bytes of hashes, and %s were signed", tree.hashes, dash(is["Verity Size"])), "publish it again, whole"}
	}
	salt, err := hex.DecodeString(is["Verity Salt"])
	if err != nil {
		return "", fmt.Errorf("the salt of the bundle: %w", err)
	}
	root, err := tree.root(ctx, f, salt)
	if err != nil {
		return "", err
	}
	if hex.EncodeToString(root) != is["Verity Hash"] {
		return "", &refusal{refusedAltered, "what came is not what was signed: the hash of its blocks is another", "publish it again; should that not help, something on the way changes it"}
	}
	return is["Version"], nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// bundleShape is where the parts of a bundle end.
type bundleShape struct {
	data, hashes int64 // bytes; of the squashfs with its padding, and of the tree behind it
}

// measureBundle reads how long the parts are, and refuses what is shorter or longer.
func measureBundle(f io.ReadSeeker) (s bundleShape, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return s, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, err
	}
	var super [48]byte // magic, and at 40 the bytes used: Documentation/filesystems/squashfs
	if _, err := io.ReadFull(f, super[:]); err != nil || string(super[:4]) != "hsqs" {
		return s, &refusal{refusedPayload, "what is offered is no bundle", "look what is at the address; publish what make bundle has written"}
	}
	used := int64(byteorder.LittleEndian.Uint64(super[40:]))
	cut := func(want int64) error {
		return &refusal{refusedCut, fmt.Sprintf("the bundle has %d bytes, and %d belong to it", size, want), "publish it again, whole; look whether a proxy or the disk of the server cuts it"}
	}
	if used <= 0 || used > raucLargest {
		return s, &refusal{refusedPayload, "what is offered is no bundle: the length in its head cannot be", "publish what make bundle has written"}
	}
	s.data = (used + raucBlock - 1) / raucBlock * raucBlock
	for blocks := s.data / raucBlock; blocks > 1; {
		blocks = (blocks + raucBlock/sha256.Size - 1) / (raucBlock / sha256.Size)
		s.hashes += blocks * raucBlock
	}
	if size == s.data || size == used {
		return s, &refusal{refusedUnsigned, "the bundle is not signed", "publish one that make bundle has signed"}
	}
	least := s.data + s.hashes + 8
	if size <= least {
		return s, cut(least + 1)
	}
	var tail [8]byte
	if _, err := f.Seek(-8, io.SeekEnd); err != nil {
		return s, err
	}
	if _, err := io.ReadFull(f, tail[:]); err != nil {
		return s, err
	}
	if signature := byteorder.BigEndian.Uint64(tail[:]); signature > 1<<16 || least+int64(signature) != size {
		return s, &refusal{refusedCut, "the bundle ends in the midst of its signature, or goes on behind it", "publish it again, whole; look whether a proxy or the disk of the server cuts it"}
	}
	return s, nil
}

// root reads the blocks and returns what their tree comes to: dm-verity's version 1, each
// block's hash over the salt and its 4 KiB, 128 of them a block of the next level.
func (s bundleShape) root(ctx context.Context, f io.ReadSeeker, salt []byte) ([]byte, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	level := make([]byte, 0, s.data/raucBlock*sha256.Size)
	in := io.Reader(io.LimitReader(f, s.data))
	for {
		var next []byte
		block := make([]byte, raucBlock)
		for {
			n, err := io.ReadFull(in, block)
			if n == 0 && err == io.EOF {
				break
			} else if err != nil && err != io.ErrUnexpectedEOF {
				return nil, err
			}
			clear(block[n:])
			h := sha256.New()
			h.Write(salt)
			h.Write(block)
			next = h.Sum(next)
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		if level = next; len(level) <= sha256.Size {
			return level, nil
		}
		in = bytes.NewReader(level)
	}
}

// Keep gives the slot that runs all its tries: it is where U-Boot goes back to.
func (r *raucUpdates) Keep(ctx context.Context, _ string) error {
	return r.rauc(ctx, "status", "mark-good")
}

func (r *raucUpdates) Install(ctx context.Context, _ string) error {
	return r.rauc(ctx, "install", r.bundle())
}

func (r *raucUpdates) Start(ctx context.Context, _ string) error { return r.restart(ctx) }

// Hold gives the slot on trial its three tries back.
func (r *raucUpdates) Hold(ctx context.Context, _ string) error {
	return r.rauc(ctx, "status", "mark-active", "booted")
}

func (r *raucUpdates) Good(ctx context.Context, _ string) error {
	return r.rauc(ctx, "status", "mark-good")
}

// Back has U-Boot take the slot of the previous version: the one that runs, if U-Boot
// has gone back already or nothing was installed; else the other one.
func (r *raucUpdates) Back(ctx context.Context, previous string) error {
	running, err := r.Running(ctx)
	if err != nil {
		return err
	}
	if running == previous {
		if err := r.rauc(ctx, "status", "mark-active", "booted"); err != nil {
			return err
		}
		return r.rauc(ctx, "status", "mark-good")
	}
	if err := r.rauc(ctx, "status", "mark-bad", "booted"); err != nil {
		return err
	}
	return r.restart(ctx)
}

func (r *raucUpdates) rauc(ctx context.Context, args ...string) error {
	_, err := r.call(ctx, "rauc", args...)
	return err
}

// restart does not return before the machine goes down.
func (r *raucUpdates) restart(ctx context.Context) error {
	if _, err := r.call(ctx, "systemctl", "reboot"); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

var _ installation = (*raucUpdates)(nil)
