package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/device/clock"
	"punchclock/device/evdev"
	"punchclock/device/gpiochip"
	"punchclock/device/serialport"
	"punchclock/sync/drain"
)

// machine is what doctor looks at: this computer, or one that a test has made up.
// Nothing in it changes the computer, but for probe, whose file has no name.
type machine struct {
	root string // "/": what lies in /proc, /sys, /etc and /lib; a test's folder
	uid  int    // who asks

	now      func() time.Time
	clock    *clock.Machine // nil is this computer's
	find     func(program string) (path string, err error)
	output   func(ctx context.Context, program string, args ...string) (string, error)
	space    func(dir string) (space, error)
	probe    func(ctx context.Context, dir string, n int) ([]time.Duration, error)
	node     func(path string) (node, error)
	account  func(uid int) login
	named    func(name string) (login, bool)
	group    func(gid int) string
	lookup   func(ctx context.Context, host string) ([]string, error)
	reach    func(ctx context.Context, o drain.ClientOptions, address string) (drain.Reached, error)
	network  http.RoundTripper // nil is the real one
	page     func(ctx context.Context, url string) (code int, text string, err error)
	listen   func(address string) error
	chips    func() ([]gpiochip.Info, error)
	keyboard func(evdev.Config) (path string, err error)
	port     func(path string, baud int) error // opens a serial port and closes it again
	greet    func(server string, c *tls.Config) error
}

// space is a file system's, in bytes and files.
type space struct {
	free, total           uint64
	freeFiles, totalFiles uint64 // 0, 0 where the file system has no such limit
}

// node is what stat says of a file.
type node struct {
	mode     fs.FileMode
	uid, gid int
	real     string // behind links
	writable bool   // for whoever asks
}

// login is a user of the machine.
type login struct {
	uid    int
	name   string // its number where it has none
	groups []int
	more   []string // groups by name
}

func thisMachine() *machine {
	return &machine{
		root: "/", uid: os.Geteuid(), now: time.Now,
		find: exec.LookPath, output: output, space: spaceOf, probe: probeSync, node: nodeOf, account: accountOf, named: accountNamed, group: groupOf,
		lookup: net.DefaultResolver.LookupHost, reach: drain.Reach, page: getPage, listen: tryListen,
		chips: gpiochip.Chips, keyboard: evdev.Find, greet: greet,
		port: func(path string, baud int) error {
			l, err := serialport.Open(path, baud)
			if err != nil {
				return err
			}
			return l.Close()
		},
	}
}

// path is where a file of the machine lies.
func (m *machine) path(p string) string { return filepath.Join(m.root, p) }

// read returns a file's text without white space and zeros around it.
func (m *machine) read(p string) (string, bool) {
	b, err := os.ReadFile(m.path(p))
	return strings.Trim(string(b), "\x00 \t\r\n"), err == nil
}

// glob returns the machine's files of that pattern, as it names them itself.
func (m *machine) glob(pattern string) (out []string) {
	found, _ := filepath.Glob(m.path(pattern)) // the patterns are sound
	for _, f := range found {
		rel, err := filepath.Rel(m.root, f)
		if err == nil {
			out = append(out, "/"+rel)
		}
	}
	return out
}

func (m *machine) exists(p string) bool { _, err := os.Stat(m.path(p)); return err == nil }

// output runs a program and returns what it printed, the first 64 KiB.
func output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	return string(out.Bytes()[:min(out.Len(), 64<<10)]), err
}

func spaceOf(dir string) (space, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return space{}, fmt.Errorf("space of %s: %w", dir, err)
	}
	return space{free: st.Bavail * uint64(st.Bsize), total: st.Blocks * uint64(st.Bsize), freeFiles: st.Ffree, totalFiles: st.Files}, nil
}

const (
	probeRecord = 152     // bytes of a punch with its key, at most
	probeAhead  = 1 << 16 // bytes written before the first probe; no more, for a tap may wait for them
)

// probeSync times what no punch can be faster than: a record written into a file that
// is already there, and synced. The file has no name where the file system can do
// that, so that nothing of it is left whatever happens; else it is removed.
func probeSync(ctx context.Context, dir string, n int) (took []time.Duration, err error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	f := os.NewFile(uintptr(fd), "probe")
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		if f, err = os.CreateTemp(dir, ".doctor-*"); err == nil {
			defer os.Remove(f.Name())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("write a file in %s: %w", dir, err)
	}
	defer f.Close()
	if _, err = f.Write(make([]byte, probeAhead)); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, fmt.Errorf("write a file in %s: %w", dir, err)
	}
	record := bytes.Repeat([]byte{0xA5}, probeRecord)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		begin := time.Now()
		if _, err = f.WriteAt(record, int64(i)*probeRecord); err == nil {
			err = unix.Fdatasync(int(f.Fd()))
		}
		if err != nil {
			return took, fmt.Errorf("write and sync in %s: %w", dir, err)
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

func nodeOf(path string) (node, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return node{}, err
	}
	st, err := os.Stat(real)
	if err != nil {
		return node{}, err
	}
	n := node{mode: st.Mode(), real: real, writable: unix.Access(real, unix.W_OK) == nil}
	if sys, isUnix := st.Sys().(*syscall.Stat_t); isUnix {
		n.uid, n.gid = int(sys.Uid), int(sys.Gid)
	}
	return n, nil
}

func accountOf(uid int) login {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return login{uid: uid, name: strconv.Itoa(uid)}
	}
	return loginOf(uid, u)
}

func accountNamed(name string) (login, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return login{}, false
	}
	uid, err := strconv.Atoi(u.Uid)
	return loginOf(uid, u), err == nil
}

func loginOf(uid int, u *user.User) login {
	a := login{uid: uid, name: u.Username}
	ids, _ := u.GroupIds() // none that we could learn of
	for _, id := range ids {
		if gid, err := strconv.Atoi(id); err == nil {
			a.groups = append(a.groups, gid)
		}
	}
	return a
}

func groupOf(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}

// mayUse reports whether an account may read and write a device, by its owner and
// group; for whoever asks himself the kernel is asked, which knows of more.
func (m *machine) mayUse(a login, n node) bool {
	perm := n.mode.Perm()
	switch {
	case a.uid == 0:
		return true
	case a.uid == m.uid && n.writable:
		return true
	case a.uid == n.uid:
		return perm&0o600 == 0o600
	case slices.Contains(a.groups, n.gid), slices.Contains(a.more, m.group(n.gid)):
		return perm&0o060 == 0o060
	}
	return perm&0o006 == 0o006
}

// getPage asks the clock's own page, on this machine, past any proxy.
func getPage(ctx context.Context, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	t := &http.Transport{DisableKeepAlives: true}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	text, err := drain.ReadBody(resp, 4096)
	return resp.StatusCode, strings.TrimSpace(string(text)), err
}

func tryListen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// mount is a line of /proc/self/mountinfo (proc(5)).
type mount struct {
	device  string // major:minor
	point   string
	kind    string   // ext4
	source  string   // /dev/mmcblk0p2
	options []string // of the mount and of the file system
}

// mountOf finds the file system that path is on.
func (m *machine) mountOf(path string) (best mount, found bool) {
	text, _ := m.read("/proc/self/mountinfo")
	for line := range strings.Lines(text) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
		left, right, separated := strings.Cut(line, " - ")
		a, b := strings.Fields(left), strings.Fields(right)
		if !separated || len(a) < 6 || len(b) < 2 {
			continue
		}
		at := mount{device: a[2], point: unescape(a[4]), kind: b[0], source: unescape(b[1]), options: strings.Split(a[5], ",")}
		if len(b) > 2 {
			at.options = append(at.options, strings.Split(b[2], ",")...)
		}
		if path != at.point && at.point != "/" && !strings.HasPrefix(path, at.point+"/") {
			continue
		}
		if !found || len(at.point) >= len(best.point) { // of two on one folder the later one is seen
			best, found = at, true
		}
	}
	return best, found
}

// unescape turns \040 into a space: proc(5) writes what would split a line so.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// raspberry reports whether this is a Raspberry Pi, and which one.
func (m *machine) raspberry() (model string, is bool) {
	model, _ = m.read("/proc/device-tree/model")
	return model, strings.HasPrefix(model, "Raspberry Pi")
}
