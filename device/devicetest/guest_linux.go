package devicetest

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Machine is the virtual machine that [InKernel] starts.
type Machine struct {
	// Modules of the kernel to load, those they need come by themselves. One that
	// is part of the kernel anyway may be named too. Parameters follow after a
	// space: "i2c-stub chip_addr=0x68".
	Modules []string

	// Within is how long all of it may take by the clock on the wall; 0 is a quarter
	// of an hour, which is for hosts that have much else to do. The guest's own clock
	// runs as fast as its instructions are emulated, and much faster while it has
	// nothing to do.
	Within time.Duration

	// Fast makes its processor execute 500 million instructions a second instead of 125:
	// about what a Raspberry Pi Zero's does, and less than any other's. It is for what is
	// measured as a share of a processor.
	Fast bool

	// RaspberryPi makes it a Raspberry Pi 3: Debian's kernel for 64-bit ARM with the
	// board's device tree, and so the very drivers of its GPIO block and its I²C
	// controller. It has four processors and the host's time, and what is measured in
	// it says nothing. The test program is compiled once more, for it.
	RaspberryPi bool
	// I2C are chips on that board's bus /dev/i2c-1, as QEMU names them:
	// "ds1338,address=0x68".
	I2C []string

	// Screen is the size of a display, such as "800x480", with the modules "virtio-pci"
	// and "virtio-gpu"; "" for none. Or it is an older graphics card as QEMU names it,
	// such as "VGA", whose size the kernel sets. Picture is called outside with what is on
	// it, as a PNG, each time that the guest calls [TakePicture].
	Screen  string
	Picture func(t *testing.T, name string, png []byte)

	// Boot is added to the kernel's command line: "vga=0x314".
	Boot string
}

// TakePicture has the outside of the guest look at the display, and returns when it has.
func TakePicture(t *testing.T, name string) {
	t.Helper()
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	fmt.Fprintf(console, "\n%s%s\n", pictureLine, name)
	if _, err := console.Read(make([]byte, 16)); err != nil { // a line, when it is taken
		t.Fatal(err)
	}
}

// InKernel runs fn as part of a test on a kernel of its own: this very test
// program is the first process of a virtual machine with Debian's kernel, and
// runs there, as root, what t is. Outside, the test waits, prints what the guest
// says, and fails if it fails.
//
//	func TestTapsThroughTheKernel(t *testing.T) {
//		devicetest.InKernel(t, devicetest.Machine{Modules: []string{"uinput", "evdev"}}, func(t *testing.T) {
//			// make the device, run the reader, tap
//		})
//	}
//
// Nothing before InKernel in the test may need root or hardware: it runs on both
// sides. The usual machine has one processor, whose time is the number of instructions it
// has executed (8 ns each, or 2): what is measured there does not depend on how busy the
// host is. It has no disk and no network; /dev, /proc, /sys, configfs and /tmp are
// there. It is emulated in software always.
//
// It needs GUEST_KERNEL=<folder of an unpacked kernel> and a program without shared
// libraries, and says what is missing when it skips; make test-kernel has both. For
// make to find the test, its name holds the word Kernel. A Raspberry Pi needs
// GUEST_PI=<folder of an unpacked kernel, its device trees and a qemu-system-aarch64>.
func InKernel(t *testing.T, m Machine, fn func(t *testing.T)) {
	t.Helper()
	if os.Getenv(inGuest) != "" {
		fn(t)
		return
	}
	kernel := os.Getenv("GUEST_KERNEL")
	if m.RaspberryPi {
		kernel = os.Getenv("GUEST_PI")
	}
	switch {
	case kernel == "" && m.RaspberryPi:
		t.Skip("no Raspberry Pi to simulate here: make test-kernel starts it, in its full form")
	case kernel == "":
		t.Skip("no virtual machine here: make test-kernel starts it")
	case runtime.GOARCH != "amd64" && !m.RaspberryPi:
		t.Skipf("the virtual machine is an amd64 one, this program is for %s", runtime.GOARCH)
	}
	if err := m.run(t, kernel); err != nil {
		t.Fatal(err)
	}
}

// ShortForm reports whether a long test in the guest should do with a minute:
// GUEST_FORM=short.
func ShortForm() bool { return os.Getenv("GUEST_FORM") == "short" }

const (
	inGuest  = "PUNCHCLOCK_IN_GUEST"
	orders   = "/orders.json" // in the guest
	exitLine = "the guest's tests ended with "

	pictureLine = "the guest asks for a picture: "
)

// order is what the outside wants of the first process.
type order struct {
	Test    string   // pattern for -test.run
	Env     []string // of the test
	Modules []string // parameters of /mod/000 …
}

func (m Machine) run(t *testing.T, root string) error {
	kernels, _ := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if len(kernels) != 1 {
		return fmt.Errorf("%q is no unpacked kernel package: it holds %d kernels", root, len(kernels))
	}
	if m.Within == 0 {
		m.Within = 15 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), m.Within)
	defer cancel()
	program, err := os.Executable()
	if m.RaspberryPi {
		program, err = forRaspberryPi(ctx, t.TempDir())
	}
	if err != nil {
		return err
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := m.pack(t.Name(), root, program, initrd); err != nil {
		return fmt.Errorf("pack the guest: %w", err)
	}
	icount := "shift=3,sleep=off"
	if m.Fast {
		icount = "shift=1,sleep=off"
	}
	qemu, args, console := "qemu-system-x86_64", []string{"-machine", "pc,accel=tcg", "-smp", "1", "-icount", icount, "-m", "512", "-nodefaults"}, "ttyS0"
	if m.RaspberryPi {
		trees, _ := filepath.Glob(filepath.Join(root, "usr/lib/linux-image-*/broadcom/bcm2837-rpi-3-b.dtb"))
		if len(trees) != 1 {
			return fmt.Errorf("%q holds %d device trees of a Raspberry Pi 3", root, len(trees))
		}
		qemu, args, console = filepath.Join(root, "qemu-system-aarch64"), []string{"-machine", "raspi3b", "-dtb", trees[0], "-serial", "null"}, "ttyS1"
		for _, chip := range m.I2C {
			args = append(args, "-device", strings.Replace(chip, ",", ",bus=i2c-bus.1,", 1))
		}
	}
	args = append(args, "-no-reboot", "-display", "none", "-serial", "stdio", "-monitor", "none",
		"-kernel", kernels[0], "-initrd", initrd, "-append", "console="+console+",115200 loglevel=1 panic=-1 oops=panic "+m.Boot)
	cmd := exec.CommandContext(ctx, qemu, args...)
	var camera monitor
	if m.Screen != "" {
		card := m.Screen
		if w, h, sized := strings.Cut(m.Screen, "x"); sized {
			card = "virtio-gpu-pci,xres=" + w + ",yres=" + h
		}
		dir, err := os.MkdirTemp("", "guest") // t.TempDir may be too long for a socket's name
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		camera.dir = dir
		defer camera.close()
		cmd.Args = append(cmd.Args, "-device", card, "-qmp", "unix:"+camera.socket()+",server=on,wait=off")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var said strings.Builder
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the guest: %w", err)
	}
	end := "" // how it ended
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := strings.TrimRight(sc.Text(), "\r")
		if v, ok := strings.CutPrefix(line, exitLine); ok {
			end = v
			cancel() // it has nothing more to say, and a Raspberry Pi has no switch
			break
		}
		if name, ok := strings.CutPrefix(line, pictureLine); ok {
			png, err := camera.take()
			if err != nil {
				t.Errorf("picture %s: %v", name, err)
			} else {
				m.Picture(t, name, png)
			}
			fmt.Fprintln(in) // the guest goes on, or has ended
			continue
		}
		fmt.Fprintln(t.Output(), line)
	}
	werr := cmd.Wait()
	switch {
	case end == "0":
		fmt.Fprintf(t.Output(), "the guest took %v\n", time.Since(began).Round(100*time.Millisecond))
		return nil
	case end != "":
		return fmt.Errorf("the test in the guest failed, see above: %s", end)
	case ctx.Err() != nil:
		return fmt.Errorf("the guest was not done within %v", m.Within)
	}
	return fmt.Errorf("the guest ended before its test did: %w %s", errors.Join(werr, sc.Err()), said.String())
}

// monitor is the machine's monitor, which sees what is on its display.
type monitor struct {
	dir  string
	conn net.Conn
	in   *json.Decoder
}

func (m *monitor) socket() string { return filepath.Join(m.dir, "qmp") }

// take returns what is on the display.
func (m *monitor) take() ([]byte, error) {
	if m.conn == nil {
		var err error
		if m.conn, err = net.Dial("unix", m.socket()); err != nil {
			return nil, err
		}
		m.in = json.NewDecoder(m.conn)
		if err := m.ask(`{"execute":"qmp_capabilities"}`); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(m.dir, "picture.png")
	if err := m.ask(fmt.Sprintf(`{"execute":"screendump","arguments":{"filename":%q,"format":"png"}}`, file)); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// ask sends a command and waits until it is done.
func (m *monitor) ask(command string) error {
	if _, err := fmt.Fprintln(m.conn, command); err != nil {
		return err
	}
	for {
		var said struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := m.in.Decode(&said); err != nil {
			return err
		}
		switch {
		case said.Error != nil:
			return errors.New(said.Error.Desc)
		case said.Return != nil:
			return nil
		}
	}
}

func (m *monitor) close() {
	if m.conn != nil {
		m.conn.Close()
	}
}

// forRaspberryPi compiles the test program of this package, in whose folder tests run.
func forRaspberryPi(ctx context.Context, dir string) (path string, err error) {
	path = filepath.Join(dir, "test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", path, ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the test for a Raspberry Pi: %w\n%s", err, out)
	}
	return path, nil
}

// pack makes the first file system of the guest: the test program, and modules.
func (m Machine) pack(test, root, self, to string) error {
	if err := isStatic(self); err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	o := order{}
	for part := range strings.SplitSeq(test, "/") {
		o.Test += "/^" + regexp.QuoteMeta(part) + "$"
	}
	o.Test = o.Test[1:]
	for _, name := range []string{"GUEST_FORM", "GOTRACEBACK"} {
		if v, ok := os.LookupEnv(name); ok {
			o.Env = append(o.Env, name+"="+v)
		}
	}
	mods, err := modules(root, append([]string{"configfs"}, m.Modules...))
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	a := archive{w: w}
	a.add("dev", 0o040755, 0, nil)
	a.add("dev/console", 0o020600, 1, nil)
	a.add("tmp", 0o041777, 0, nil)
	a.add("mod", 0o040755, 0, nil)
	for i, mod := range mods {
		a.add(fmt.Sprintf("mod/%03d", i), 0o100644, 0, mod.data)
		o.Modules = append(o.Modules, mod.params)
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	a.add(strings.TrimPrefix(orders, "/"), 0o100644, 0, text)
	a.add("init", 0o100755, 0, program)
	a.add("TRAILER!!!", 0, 0, nil)
	return w.Flush()
}

// isStatic says whether a program runs where there is nothing else.
func isStatic(program string) error {
	e, err := elf.Open(program)
	if err != nil {
		return err
	}
	defer e.Close()
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("this test needs a program without shared libraries: set CGO_ENABLED=0, and no -race")
		}
	}
	return nil
}

// archive writes the format "newc" of cpio, which the kernel unpacks.
type archive struct {
	w     *bufio.Writer // keeps the first error for Flush
	inode int
}

// add writes an entry; minor is that of a character device with major 5.
func (a *archive) add(name string, mode, minor int, data []byte) {
	a.inode++
	major := 0
	if minor > 0 {
		major = 5
	}
	n, _ := fmt.Fprintf(a.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	a.w.Write(make([]byte, -n&3))
	a.w.Write(data)
	a.w.Write(make([]byte, -len(data)&3))
}

type module struct {
	data   []byte
	params string
}

// modules returns modules and what they need, in the order of loading. One that
// has no file must be part of the kernel itself.
func modules(root string, names []string) (out []module, err error) {
	files, builtin := map[string]string{}, map[string]bool{}
	plain := func(name string) string { return strings.ReplaceAll(name, "-", "_") }
	err = filepath.WalkDir(filepath.Join(root, "lib", "modules"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok {
			files[plain(name)] = path
		}
		if filepath.Base(path) == "modules.builtin" {
			b, err := os.ReadFile(path)
			for line := range strings.Lines(string(b)) {
				builtin[plain(strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko"))] = true
			}
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	done := map[string]bool{}
	var load func(name, params string) error
	load = func(name, params string) error {
		name = plain(name)
		path := files[name]
		switch {
		case done[name] || path == "" && builtin[name]:
			return nil
		case path == "":
			return fmt.Errorf("this kernel has no module %s", name)
		}
		done[name] = true
		data, err := os.ReadFile(path)
		if err == nil && strings.HasSuffix(path, ".xz") {
			data, err = exec.Command("xz", "-dc", path).Output()
		}
		if err != nil {
			return err
		}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		info := f.Section(".modinfo")
		if info == nil {
			return fmt.Errorf("%s: it says nothing of what it needs", path)
		}
		text, err := info.Data()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for line := range strings.SplitSeq(string(text), "\x00") {
			if deps, ok := strings.CutPrefix(line, "depends="); ok && deps != "" {
				for dep := range strings.SplitSeq(deps, ",") {
					if err := load(dep, ""); err != nil {
						return err
					}
				}
			}
		}
		out = append(out, module{data, params})
		return nil
	}
	for _, m := range names {
		name, params, _ := strings.Cut(m, " ")
		if err := load(name, params); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// The first process of the guest is this program too: it prepares the machine,
// runs the test as a process of its own, says how it ended and turns it off.
func init() {
	if os.Getpid() != 1 {
		return
	}
	text, err := os.ReadFile(orders)
	if errors.Is(err, fs.ErrNotExist) {
		return // a container, whose first process is a test
	}
	var o order
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err == nil {
		err = o.prepare()
	}
	end := "0"
	if err == nil {
		cmd := exec.Command("/init", "-test.v", "-test.timeout", "24h", "-test.run", o.Test) // hours of the guest: idle ones pass in minutes
		cmd.Env = append(o.Env, inGuest+"=1", "TMPDIR=/tmp", "HOME=/tmp", "PATH=/")
		cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stderr, "/tmp"
		err = cmd.Run()
	}
	if err != nil {
		end = err.Error()
	}
	fmt.Printf("\n%s%s\n", exitLine, end)
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func (o order) prepare() error {
	mount := func(what, where string) error {
		if err := os.MkdirAll(where, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(what, where, what, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", where, err)
		}
		return nil
	}
	for _, m := range []struct{ what, where string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := mount(m.what, m.where); err != nil {
			return err
		}
	}
	for i, params := range o.Modules {
		name := fmt.Sprintf("/mod/%03d", i)
		b, err := os.ReadFile(name)
		if err == nil {
			err = unix.InitModule(b, params)
		}
		if err != nil {
			return fmt.Errorf("load module %d, %q: %w", i, params, err)
		}
	}
	return mount("configfs", "/sys/kernel/config")
}

// GPIOSim is a GPIO chip of the kernel whose lines the test pulls: the other side
// of the wires. It exists in the guest only, with the modules "gpio-sim".
type GPIOSim struct {
	Path string // /dev/gpiochipN

	dir   string // in configfs
	pulls []*os.File
	fds   []uintptr // of pulls
	close sync.Once
}

// NewGPIOSim makes a chip with a label of its own and lines 0 to n-1, pulled up.
// names are those of its lines, as many as there are.
func NewGPIOSim(t testing.TB, label string, n int, names ...string) *GPIOSim {
	t.Helper()
	s := &GPIOSim{dir: "/sys/kernel/config/gpio-sim/" + label}
	if err := s.make(label, n, names); err != nil {
		s.Remove()
		t.Fatalf("simulated GPIO chip %s: %v", label, err)
	}
	t.Cleanup(s.Remove)
	return s
}

func (s *GPIOSim) make(label string, n int, names []string) error {
	bank := s.dir + "/bank0"
	if err := os.MkdirAll(bank, 0o755); err != nil {
		return err
	}
	for i, name := range names {
		line := fmt.Sprintf("%s/line%d", bank, i)
		if err := os.Mkdir(line, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(line+"/name", []byte(name), 0o644); err != nil {
			return err
		}
	}
	for _, v := range [][2]string{{bank + "/num_lines", strconv.Itoa(n)}, {bank + "/label", label}, {s.dir + "/live", "1"}} {
		if err := os.WriteFile(v[0], []byte(v[1]), 0o644); err != nil {
			return err
		}
	}
	var at [2]string
	for i, file := range []string{s.dir + "/dev_name", bank + "/chip_name"} {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		at[i] = strings.TrimSpace(string(b))
	}
	s.Path = "/dev/" + at[1]
	for i := range n {
		f, err := os.OpenFile(fmt.Sprintf("/sys/devices/platform/%s/%s/sim_gpio%d/pull", at[0], at[1], i), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		s.pulls, s.fds = append(s.pulls, f), append(s.fds, f.Fd())
		if err := s.Pull(i, true); err != nil {
			return err
		}
	}
	return nil
}

// Pull pulls a line up or down, which is what the kernel sees on it unless it is
// an output. It may be called by several goroutines, for a line each.
func (s *GPIOSim) Pull(line int, up bool) error {
	text := pullDown
	if up {
		text = pullUp
	}
	// The Go runtime does not hear of this call, which does not wait for anything:
	// what it does around one that may wait takes as long as the call itself.
	if _, _, e := unix.RawSyscall(unix.SYS_WRITE, s.fds[line], uintptr(unsafe.Pointer(&text[0])), uintptr(len(text))); e != 0 {
		return os.NewSyscallError("pull line "+strconv.Itoa(line), e)
	}
	return nil
}

var pullDown, pullUp = []byte("pull-down"), []byte("pull-up")

// Level reads what is on a line: what it is driven to if it is an output.
func (s *GPIOSim) Level(line int) (up bool, err error) {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(s.pulls[line].Name()), "value"))
	return strings.TrimSpace(string(b)) == "1", err
}

// Remove takes the chip away, as when a board is unplugged. It may be repeated.
func (s *GPIOSim) Remove() {
	s.close.Do(func() {
		for _, f := range s.pulls {
			f.Close()
		}
		// What was never made is not there: the kernel says so, and it does not matter.
		_ = os.WriteFile(s.dir+"/live", []byte("0"), 0o644)
		lines, _ := filepath.Glob(s.dir + "/bank0/line*")
		for _, dir := range append(slices.Clone(lines), s.dir+"/bank0", s.dir) {
			_ = os.Remove(dir)
		}
	})
}
