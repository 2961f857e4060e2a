package main

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// red reports whether the clock says that it could not store a punch.
func (h *house) red() bool {
	resp, err := http.Get("http://" + h.page + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusServiceUnavailable
}

// ext4 puts the state directory on a file system of its own and returns what
// mounts it again. The device's name is that in /sys/fs/ext4.
func (h *house) ext4(t *testing.T) (mount func(), device string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a file system of one's own can be mounted by root only")
	}
	state, image := filepath.Join(h.dir, "state"), filepath.Join(h.dir, "image")
	roster, err := os.ReadFile(filepath.Join(state, "roster.db"))
	if err != nil {
		t.Fatal(err)
	}
	cannot := t.Skipf // until it could once
	do := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			cannot("no file system of our own here: %s %v: %v: %s", name, args, err, out)
		}
	}
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	do("mkfs.ext4", "-q", "-F", image)
	mount = func() { t.Helper(); do("mount", "-o", "loop,errors=remount-ro", image, state) }
	mount()
	cannot = t.Fatalf
	t.Cleanup(func() { syscall.Unmount(state, syscall.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(state, "roster.db"), roster, 0o600); err != nil {
		t.Fatal(err)
	}
	syscall.Sync() // an error of the file system takes what was not
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[1] == state && f[2] == "ext4" {
			device = filepath.Base(f[0])
		}
	}
	return mount, device
}

// The kernel stops writing to a file system that has an error, and gives it back
// only after a repair. Nobody hears an OK meanwhile, the clock says so by itself
// before anybody taps, and what was promised is there afterwards.
func TestFileSystemThatTurnsReadOnlyPromisesNothing(t *testing.T) {
	h := newHouse(t, settings{people: 3, extra: "[outbox]\nreserve_mb = 1\n"})
	mount, device := h.ext4(t)
	h.start()
	if r := h.tap(h.people[0]); r.Outcome != "stored" {
		t.Fatalf("%+v", r)
	}
	err := os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("test"), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		t.Skip("this kernel does not let us give a file system an error: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	h.until(15*time.Second, "the clock says that no punch can be stored", h.red)
	if r := h.tap(h.people[1]); r.Outcome != "not_stored" || r.PunchID != "" {
		t.Errorf("on a read-only file system: %+v", r)
	}
	if s := h.status(); s.Outbox.Ready || s.Outbox.Problem == "" {
		t.Errorf("status: %+v", s.Outbox)
	}
	h.stop()
	state := filepath.Join(h.dir, "state")
	if err := syscall.Unmount(state, 0); err != nil {
		t.Fatal(err)
	}
	// 1 is "repaired".
	if out, err := exec.Command("e2fsck", "-fy", filepath.Join(h.dir, "image")).CombinedOutput(); err != nil && exitedWith(err) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	mount()
	h.start()
	if r := h.tap(h.people[1]); r.Outcome != "stored" || r.Seq != 2 {
		t.Errorf("repaired: %+v", r)
	}
	h.stop()
	if out, code := h.run("verify", "--config", h.config); code != 0 || !strings.Contains(out, "2 records") {
		t.Errorf("%d %s", code, out)
	}
}

func exitedWith(err error) int {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return -1
}

// A medium that is read-only for a while, under the running clock: it says so, and
// takes punches again by itself once it is not.
func TestClockRecoversFromAReadOnlyMediumByItself(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("strace may attach to a running program by root only")
	}
	h := newHouse(t, settings{people: 3})
	h.start()
	if r := h.tap(h.people[0]); r.Outcome != "stored" {
		t.Fatalf("%+v", r)
	}
	const calls = "pwrite64,ftruncate,fdatasync,fsync,renameat,mkdirat"
	// Without -f it would attach to one thread only; those to come are followed.
	strace := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+calls, "-e", "inject="+calls+":error=EROFS",
		"-p", strconv.Itoa(h.cmd.Process.Pid))
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	h.until(30*time.Second, "the clock says that no punch can be stored", h.red)
	if r := h.tap(h.people[1]); r.Outcome != "not_stored" || r.PunchID != "" {
		t.Errorf("on a read-only medium: %+v", r)
	}
	if err := strace.Process.Signal(syscall.SIGTERM); err != nil { // it lets go of the clock
		t.Fatal(err)
	}
	strace.Wait()
	h.until(30*time.Second, "the clock is ready again", func() bool { return h.status().Outbox.Ready })
	if r := h.tap(h.people[1]); r.Outcome != "stored" || r.Seq != 2 {
		t.Errorf("the medium takes writes again: %+v", r)
	}
	h.stop()
	if out, code := h.run("verify", "--config", h.config); code != 0 || !strings.Contains(out, "2 records") {
		t.Errorf("%d %s", code, out)
	}
}

// A state directory whose name is in memory only is gone after a power cut, with
// all the punches in it.
func TestStateDirectoryIsKnownToTheFoldersAbove(t *testing.T) {
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	state, trace := filepath.Join(base, "a", "b", "state"), filepath.Join(base, "trace")
	config, people := filepath.Join(base, "c.toml"), filepath.Join(base, "people.csv")
	if err := errors.Join(os.WriteFile(people, []byte("employee_no\n000001\n"), 0o600),
		os.WriteFile(config, []byte("schema = 1\n[device]\nid = \"desk\"\nstate_dir = \""+state+"\"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	run := func() []string {
		t.Helper()
		cmd := exec.Command("strace", "-f", "-qq", "-y", "-o", trace, "-e", "trace=mkdirat,fsync", bin, "roster", "import", "--config", config, people)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(b), "\n")
	}
	synced := func(lines []string, dir string) bool {
		made := false
		for _, l := range lines {
			made = made || strings.Contains(l, "mkdirat") && strings.Contains(l, `"`+dir+`"`)
			if made && strings.Contains(l, "fsync(") && strings.Contains(l, "<"+filepath.Dir(dir)+">") {
				return true
			}
		}
		return false
	}
	lines := run()
	for _, dir := range []string{filepath.Join(base, "a"), filepath.Join(base, "a", "b"), state} {
		if !synced(lines, dir) {
			t.Errorf("%s was made, and the folder above it not synced behind that: %q", dir, lines)
		}
	}
	// A start that was killed in between may have left it so.
	if lines = run(); !strings.Contains(strings.Join(lines, "\n"), "<"+filepath.Dir(state)+">") {
		t.Errorf("the second start does not make sure of it: %q", lines)
	}
}
