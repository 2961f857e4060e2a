package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Packages. A repository's index says how large each package is and what its SHA-256
// is, the repository's InRelease the same of the index, and a key that lies on this
// machine signs the InRelease: apt and what it calls check all of it. The repository
// is named in a file of our own, in the form of apt's sources, where apt upgrade and
// unattended-upgrades do not look: a version comes through the gate or not at all.
// What a new version depends on comes from the system's own sources.
//
// The package of the version that runs is kept, so that dpkg alone can put it back.

const (
	aptSource  = "/etc/punchclock/update.sources"
	aptPackage = "punchclock"
)

// aptUpdates is the installation of a machine with a package.
type aptUpdates struct {
	dir  string
	call func(ctx context.Context, dir, program string, args ...string) (output string, err error)
}

func aptInstallation(dir string) (installation, bool) {
	_, err := output(context.Background(), "dpkg-query", "-W", aptPackage)
	return &aptUpdates{dir, callApt}, err == nil
}

// callApt runs one of Debian's tools in dir, nobody being asked, in the language that
// its words are known in, and returns all it says.
func callApt(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "DEBIAN_PRIORITY=critical")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", program, err, lastLines(out.String(), 8))
	}
	return out.String(), err
}

// lastLines are those that say why.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

func (a *aptUpdates) Kind() string { return "apt" }

func (a *aptUpdates) Running(ctx context.Context) (string, error) {
	out, err := a.call(ctx, "/", "dpkg-query", "-W", "-f", "${Status}\t${Version}", aptPackage)
	if err != nil {
		return "", err
	}
	status, version, _ := strings.Cut(out, "\t")
	if status != "install ok installed" && status != "hold ok installed" {
		return "", nil
	}
	return version, nil
}

// only has apt see our repository and nothing else, keep what it learns to us, and take
// nothing that is not signed.
func (a *aptUpdates) only(args ...string) []string {
	return append([]string{"-q",
		"-o", "Dir::Etc::SourceList=" + aptSource, "-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "Dir::State::Lists=" + filepath.Join(a.dir, "lists"), "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
		"-o", "Acquire::AllowInsecureRepositories=false", "-o", "Acquire::AllowWeakRepositories=false",
		"-o", "Acquire::AllowDowngradeToInsecureRepositories=false", "-o", "APT::Get::AllowUnauthenticated=false",
		"-o", "Acquire::Languages=none", "-o", "APT::Update::Error-Mode=any"}, args...)
}

// aptWords are what apt and what checks its signatures say of each kind of fault, the
// most telling first: a repository with a wrong signature is called not signed as well.
var aptWords = []struct {
	words                  []string
	reason, detail, remedy string
}{
	{[]string{"NO_PUBKEY", "Missing key"},
		refusedKey, "the repository is signed by another key than the one in " + aptSource, "publish it with make repo and the right key; should it be a stranger's, find out whose"},
	{[]string{"manipulated", "BADSIG", "Bad signature", "signatures were invalid", "invalid signature", "isn't valid, got", "Splitting up", "signature verification failed"},
		refusedKey, "the repository's list was changed or cut after it was signed", "publish it again with make repo; should that not help, something on the way changes it"},
	{[]string{"is not signed"},
		refusedUnsigned, "the repository is not signed", "publish it with make repo, which signs it"},
	{[]string{"unexpected size"},
		refusedCut, "what came is shorter or longer than what was signed", "publish it again, whole; look whether a proxy or the disk of the server cuts it"},
	{[]string{"Hash Sum mismatch", "Hashes of received file"},
		refusedAltered, "what came is not what was signed: its checksum is another", "publish it again; should that not help, something on the way changes it"},
}

// judge turns what apt says into a refusal where it is one.
func judgeApt(said string, err error) error {
	for _, w := range aptWords {
		for _, word := range w.words {
			if i := strings.Index(said, word); i >= 0 {
				from := strings.LastIndexByte(said[:i], '\n') + 1
				line, _, _ := strings.Cut(said[from:], "\n")
				return &refusal{w.reason, w.detail + " (" + strings.TrimSpace(line) + failedFile(said) + ")", w.remedy}
			}
		}
	}
	return err
}

// failedFile names the file that apt could not take.
func failedFile(said string) string {
	_, rest, found := strings.Cut(said, "Failed to fetch ")
	if !found {
		return ""
	}
	url, _, _ := strings.Cut(rest, " ")
	return ": " + path.Base(url)
}

func (a *aptUpdates) Offer(ctx context.Context, running string) (string, error) {
	if _, err := os.Stat(aptSource); errors.Is(err, fs.ErrNotExist) {
		return "", usage("no repository is named: put the punchclock.sources that make repo has written to %s", aptSource)
	}
	for _, d := range []string{"lists", "packages"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return "", err
		}
	}
	said, err := a.call(ctx, "/", "apt-get", a.only("update")...)
	if err != nil {
		return "", judgeApt(said, err)
	}
	arch, err := a.call(ctx, "/", "dpkg", "--print-architecture")
	if err != nil {
		return "", err
	}
	arch = strings.TrimSpace(arch)
	said, err = a.call(ctx, "/", "apt-cache", a.only("madison", aptPackage)...)
	if err != nil {
		return "", err
	}
	newest := ""
	for line := range strings.Lines(said) {
		if f := strings.Split(line, "|"); len(f) == 3 {
			if v := strings.TrimSpace(f[1]); newest == "" || compareVersions(v, newest) > 0 {
				newest = v
			}
		}
	}
	if newest == "" {
		if others := a.architectures(); len(others) > 0 && !slices.Contains(others, arch) {
			return "", &refusal{refusedMachine, fmt.Sprintf("the repository is for %s, and this machine is %s", strings.Join(others, ", "), arch), "publish a package for " + arch + ": make deb, make repo"}
		}
		return "", nil
	}
	if compareVersions(newest, running) <= 0 {
		return newest, nil
	}
	return newest, a.fetch(ctx, newest, arch)
}

// architectures are those that the repository says it has.
func (a *aptUpdates) architectures() []string {
	found, _ := filepath.Glob(filepath.Join(a.dir, "lists", "*Release")) // the pattern is sound
	for _, f := range found {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if names, is := strings.CutPrefix(line, "Architectures:"); is {
				return strings.Fields(names)
			}
		}
	}
	return nil
}

// deb is where the package of a version lies.
func (a *aptUpdates) deb(version string) string {
	return filepath.Join(a.dir, "packages", aptPackage+"_"+strings.ReplaceAll(version, ":", "%3a")+".deb")
}

// fetch brings a package of the repository, as its signed index describes it, and
// leaves it on the medium.
func (a *aptUpdates) fetch(ctx context.Context, version, arch string) error {
	name := aptPackage + "=" + version
	told, err := a.call(ctx, "/", "apt-cache", a.only("show", name)...)
	if err != nil {
		return err
	}
	want := ""
	for line := range strings.Lines(told) {
		if sum, is := strings.CutPrefix(line, "SHA256:"); is {
			want = strings.TrimSpace(sum)
			break
		}
	}
	if sum, err := sha256Of(a.deb(version)); err == nil && sum == want {
		return a.whatItSays(ctx, a.deb(version), version, arch)
	}
	tmp, err := os.MkdirTemp(a.dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if u, err := user.Lookup("_apt"); err == nil { // as whom apt speaks to the network, if it may write here
		uid, _ := strconv.Atoi(u.Uid)
		if err := os.Chown(tmp, uid, -1); err != nil {
			return err
		}
	}
	said, err := a.call(ctx, tmp, "apt-get", a.only("download", name)...)
	if err != nil {
		return judgeApt(said, err)
	}
	found, _ := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if len(found) != 1 {
		return fmt.Errorf("apt-get download %s left %d packages", name, len(found))
	}
	if err := a.whatItSays(ctx, found[0], version, arch); err != nil {
		return err
	}
	return moveSynced(found[0], a.deb(version))
}

// whatItSays compares a package with what the index called it, and looks whether it
// can be unpacked at all.
func (a *aptUpdates) whatItSays(ctx context.Context, path, version, arch string) error {
	wrong := func(format string, args ...any) error {
		return &refusal{refusedPayload, fmt.Sprintf(format, args...), "publish a package that make deb has built"}
	}
	said, err := a.call(ctx, "/", "dpkg-deb", "-f", path, "Package", "Version", "Architecture")
	if err != nil {
		return wrong("what was signed is no package: %s", lastLines(said, 1))
	}
	is := map[string]string{}
	for line := range strings.Lines(said) {
		key, value, _ := strings.Cut(line, ":")
		is[key] = strings.TrimSpace(value)
	}
	switch {
	case is["Package"] != aptPackage || is["Version"] != version:
		return wrong("the package is %s %s, and was offered as %s %s", is["Package"], is["Version"], aptPackage, version)
	case is["Architecture"] != arch:
		return &refusal{refusedMachine, fmt.Sprintf("the package is for %s, and this machine is %s", is["Architecture"], arch), "publish a package for " + arch + ": make deb, make repo"}
	}
	if said, err := a.call(ctx, "/", "dpkg-deb", "-c", path); err != nil {
		return wrong("the package cannot be unpacked: %s", lastLines(said, 1))
	}
	return nil
}

func (a *aptUpdates) Keep(ctx context.Context, running string) error {
	arch, err := a.call(ctx, "/", "dpkg", "--print-architecture")
	if err != nil {
		return err
	}
	arch = strings.TrimSpace(arch)
	if a.whatItSays(ctx, a.deb(running), running, arch) == nil {
		return nil
	}
	if err := a.fetch(ctx, running, arch); err != nil {
		return &refusal{refusedNoBack, fmt.Sprintf("the package of %s, which runs, is neither kept here nor in the repository (%v): one could not go back to it", running, err),
			"add its package to the repository, or copy it to " + a.deb(running)}
	}
	return nil
}

func (a *aptUpdates) Install(ctx context.Context, version string) error {
	if is, err := a.Running(ctx); err != nil || is == version {
		return err
	}
	a.call(ctx, "/", "dpkg", "--configure", "-a") // after a power cut; what it cannot finish, the next line tells
	if _, err := a.call(ctx, "/", "apt-get", "-q", "-y", "--no-install-recommends", "--no-remove", "--reinstall",
		"-o", "Dpkg::Options::=--force-confold", "-o", "DPkg::Lock::Timeout=120", "install", a.deb(version)); err != nil {
		return err
	}
	switch is, err := a.Running(ctx); {
	case err != nil:
		return err
	case is != version:
		return fmt.Errorf("apt-get install: %q is installed afterwards", is)
	}
	return nil
}

// Start has nothing to do: the package has restarted the clock.
func (a *aptUpdates) Start(context.Context, string) error { return nil }

// Hold has nothing to do: what is installed is what starts.
func (a *aptUpdates) Hold(context.Context, string) error { return nil }

// Good throws away what nobody goes back to any more.
func (a *aptUpdates) Good(_ context.Context, version string) error {
	found, _ := filepath.Glob(filepath.Join(a.dir, "packages", "*.deb"))
	for _, f := range found {
		if f != a.deb(version) {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Back uses dpkg alone: apt wants to mend first, and the network.
func (a *aptUpdates) Back(ctx context.Context, previous string) error {
	if is, err := a.Running(ctx); err != nil || is == previous {
		return err
	}
	_, err := a.call(ctx, "/", "dpkg", "--force-confold", "--force-downgrade", "-i", a.deb(previous))
	return err
}

func sha256Of(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// moveSynced gives a file its name once it is on the medium.
func moveSynced(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(from, to)); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

var _ installation = (*aptUpdates)(nil)
