package systemd

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// What a package's program must be, and the processor that it is tried on: the oldest
// that the package is for. Debian's armhf is ARM v7 and up; ours runs on the ARM v6 of
// a Pi Zero too, where Raspberry Pi OS calls the architecture the same.
var processors = map[string]struct {
	machine elf.Machine
	class   elf.Class
	run     []string
}{
	"amd64": {elf.EM_X86_64, elf.ELFCLASS64, nil},
	"arm64": {elf.EM_AARCH64, elf.ELFCLASS64, []string{"qemu-aarch64", "-cpu", "cortex-a53"}},
	"armhf": {elf.EM_ARM, elf.ELFCLASS32, []string{"qemu-arm", "-cpu", "arm1176"}},
}

// testContent looks into the package of an architecture and returns the names in it.
func testContent(t *testing.T, deb, arch string) (names []string) {
	if got := strings.TrimSpace(sh(t, ".", nil, "dpkg-deb", "-f", deb, "Package", "Architecture", "Version")); got != "Package: punchclock\nVersion: "+firstVersion+"\nArchitecture: "+arch &&
		got != "Package: punchclock\nArchitecture: "+arch+"\nVersion: "+firstVersion {
		t.Errorf("%s: %s", arch, got)
	}
	out, err := exec.Command("dpkg-deb", "--fsys-tarfile", deb).Output()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "punchclock")
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, ".")
		names = append(names, name)
		mode := int64(0o644)
		if h.Typeflag == tar.TypeDir || name == "/usr/bin/punchclock" {
			mode = 0o755
		}
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o7777 != mode || strings.HasPrefix(name, "/usr/local") || strings.HasPrefix(name, "/var") {
			t.Errorf("%s: %s is of %d:%d, %o", arch, name, h.Uid, h.Gid, h.Mode)
		}
		if name != "/usr/bin/punchclock" {
			continue
		}
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(program, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := processors[arch]
	if f.Machine != p.machine || f.Class != p.class || f.Section(".interp") != nil {
		t.Errorf("%s: the program is for %v, %v, or takes a library", arch, f.Machine, f.Class)
	}
	if got := sh(t, ".", nil, "env", append(slices.Clone(p.run), program, "version")...); !strings.Contains(got, "punchclock "+firstVersion) || !strings.Contains(got, "linux/"+strings.Replace(arch, "armhf", "arm", 1)) {
		t.Errorf("%s: %s", arch, got)
	}
	return names
}

// testArchitectures compares the packages: but for the program they are the same.
func testArchitectures(t *testing.T, dir string, architectures []string) {
	var first []string
	for _, arch := range architectures {
		names := testContent(t, filepath.Join(dir, "bin/deb/punchclock_"+firstVersion+"_"+arch+".deb"), arch)
		if first == nil {
			first = names
		}
		if !slices.Equal(names, first) {
			t.Errorf("%s holds %q, and %s %q", arch, names, architectures[0], first)
		}
	}
	for _, want := range []string{"/usr/bin/punchclock", "/usr/lib/systemd/system/punchclock.service", "/usr/lib/systemd/system/punchclock-logs.service", "/usr/lib/systemd/system/punchclock-secrets.path",
		"/usr/lib/udev/rules.d/60-punchclock.rules", "/usr/lib/tmpfiles.d/punchclock.conf", "/usr/lib/sysusers.d/punchclock.conf", "/etc/punchclock/punchclock.toml.example",
		"/usr/share/bash-completion/completions/punchclock", "/usr/share/man/man1/punchclock.1.gz", "/usr/share/doc/punchclock/README.md.gz", "/usr/share/doc/punchclock/copyright"} {
		if !slices.Contains(first, want) {
			t.Errorf("the package lacks %s: %q", want, first)
		}
	}
}

// armScript registers the emulation for its own user namespace alone, and installs the
// package in a Debian for ARM that was unpacked and no more: dpkg and all that the
// package's scripts call are ARM programs.
const armScript = `mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf ':arm64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:'"$2"':F' >/proc/sys/fs/binfmt_misc/register
mount -t proc proc "$1/proc"
chroot "$1" /bin/sh -ec '
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C
	uname -m
	dpkg --force-depends -i /srv/punchclock.deb
	dpkg-query -W -f "\${Status} \${Architecture}\n" punchclock
	punchclock version
	grep punchclock /etc/passwd
	cp /etc/punchclock/punchclock.toml.example /etc/punchclock/punchclock.toml
	punchclock doctor || echo "doctor ended with $?"
	dpkg --force-depends -P punchclock
	! ls -d /usr/bin/punchclock /etc/punchclock 2>/dev/null'`

// testARM installs the package for arm64, runs its program, and purges it.
func testARM(t *testing.T, deb string) {
	base := os.Getenv("DEB_ARM_BASE")
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if _, serr := os.Stat(base); serr != nil || err != nil {
		t.Skip("a Debian for ARM is made by make test-deb FORM=full")
	}
	c := newChroot(t, base)
	b, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	c.write("/srv/punchclock.deb", string(b), 0o644)
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", armScript, "-", c.root, qemu)
	all := []syscall.SysProcIDMap{{Size: 1 << 16}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if bytes.Contains(out, []byte("/proc/sys/fs/binfmt_misc: ")) {
		t.Skipf("this kernel has no emulation of one's own: %s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantWords(t, string(out), "aarch64", "it has no configuration", "install ok installed arm64", "punchclock "+firstVersion, "linux/arm64", "punchclock:x:", "could not be checked")
}
