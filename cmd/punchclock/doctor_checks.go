package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"punchclock/device/clock"
)

// checks are all that apply, parents before their children. What is known without
// asking anybody decides what applies.
func (p *patient) checks() (all []check) {
	all = append(all, p.programChecks()...)
	all = append(all, p.machineChecks()...)
	all = append(all, p.configChecks()...)
	all = append(all, p.stateChecks()...)
	all = append(all, p.outboxChecks()...)
	all = append(all, p.clockChecks()...)
	if p.cfg == nil {
		return all
	}
	all = append(all, p.rosterChecks()...)
	for _, d := range p.cfg.Destinations {
		all = append(all, p.destinationChecks(d)...)
	}
	all = append(all, p.gpioChecks()...)
	all = append(all, p.readerChecks()...)
	all = append(all, p.pageChecks()...)
	all = append(all, p.logChecks()...)
	return all
}

func (p *patient) programChecks() []check {
	all := []check{{id: "program", title: "version", run: p.program}}
	if p.exists(updateStateFile) { // there was an update
		all = append(all, check{id: "program.update", title: "update", run: p.update})
	}
	return all
}

func (p *patient) program(context.Context) sight {
	f := ok("punchclock %s, %s, %s", version, goVersion(), platform())
	if p.running != nil && p.running.Device.Version != version {
		return warn("systemctl restart punchclock", "%s; the clock that runs is version %s", f.detail, p.running.Device.Version)
	}
	return f
}

// update tells of a version that is on trial, and of one that went back.
func (p *patient) update(context.Context) sight {
	st, err := (&gate{dir: p.machine.path(updateDir)}).load()
	now, last, remedy := st.words()
	if st.Phase == "" && last != "" {
		now = last
	}
	if err != nil {
		return unknown(asRoot, "%v", err)
	} else if st.barred() {
		return warn(remedy, "%s", now)
	}
	return ok("%s", now)
}

// The machine.

const (
	warmMilli = 75_000 // the firmware slows the processor down from 80 °C on
	hotMilli  = 85_000 // ... and stops it from being of use here
)

func (p *patient) machineChecks() []check {
	_, isPi := p.raspberry()
	all := []check{
		{id: "machine.board", title: "board", run: p.board},
		{id: "machine.system", title: "system", run: p.system},
	}
	if isPi {
		all = append(all,
			check{id: "machine.power", title: "supply voltage", run: p.power},
			check{id: "machine.temperature", title: "temperature", run: p.temperature},
			check{id: "machine.watchdog", title: "hardware watchdog", run: p.watchdog})
	}
	tool, err := p.find("systemd-analyze")
	if p.unit != "" && err == nil {
		all = append(all, check{id: "systemd.exposure", title: "what the unit may do", limit: 20 * time.Second, run: func(ctx context.Context) sight { return p.exposure(ctx, tool) }})
	}
	return all
}

func (p *patient) board(context.Context) sight {
	if model, _ := p.raspberry(); model != "" {
		return ok("%s", model)
	}
	var words []string
	for _, file := range []string{"sys_vendor", "product_name"} {
		if s, _ := p.read("/sys/class/dmi/id/" + file); s != "" {
			words = append(words, s)
		}
	}
	if len(words) == 0 {
		return ok("a machine that does not say what it is, %s", platform())
	}
	return ok("%s", strings.Join(words, " "))
}

func (p *patient) system(context.Context) sight {
	name := "Linux"
	text, _ := p.read("/etc/os-release")
	for line := range strings.Lines(text) {
		if v, is := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); is {
			name = strings.Trim(v, `"'`)
		}
	}
	kernel, known := p.read("/proc/sys/kernel/osrelease")
	if !known {
		return unknown("", "%s; the kernel does not say its version", name)
	}
	detail := fmt.Sprintf("%s, Linux %s", name, kernel)
	if up, known := p.read("/proc/uptime"); known {
		seconds, _, _ := strings.Cut(up, " ")
		if s, err := strconv.ParseFloat(seconds, 64); err == nil {
			detail += ", up " + roughly(time.Duration(s*float64(time.Second)))
		}
	}
	var major, minor int
	if n, _ := fmt.Sscanf(kernel, "%d.%d", &major, &minor); n == 2 && (major < 5 || major == 5 && minor < 10) {
		return warn("install a newer system: GPIO readers and lamps need Linux 5.10", "%s", detail)
	}
	return ok("%s", detail)
}

// Bits of what the firmware says of supply and heat (raspberrypi.com,
// documentation of vcgencmd get_throttled).
const (
	lowVoltage    = 1 << 0
	cappedNow     = 1 << 1
	throttledNow  = 1 << 2
	softLimitNow  = 1 << 3
	hadLowVoltage = 1 << 16
	hadThrottled  = 1<<17 | 1<<18 | 1<<19
)

const supplyRemedy = "use the board's own supply and a short, thick cable; take current-hungry USB devices off the board"

// power asks the firmware, which remembers since boot, and the kernel's own sensor.
func (p *patient) power(ctx context.Context) sight {
	bits, source := uint64(0), ""
	// soc:firmware on a Raspberry Pi 4, axi:firmware on a 5.
	for _, file := range append(p.glob("/sys/devices/platform/*/*firmware/get_throttled"), p.glob("/sys/devices/platform/*firmware/get_throttled")...) {
		if s, found := p.read(file); found {
			if v, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32); err == nil {
				bits, source = v, "firmware"
			}
		}
	}
	if source == "" {
		if tool, err := p.find("vcgencmd"); err == nil {
			if s, err := p.output(ctx, tool, "get_throttled"); err == nil {
				_, hex, _ := strings.Cut(strings.TrimSpace(s), "=0x")
				if v, err := strconv.ParseUint(hex, 16, 32); err == nil {
					bits, source = v, "firmware"
				}
			}
		}
	}
	for _, name := range p.glob("/sys/class/hwmon/hwmon*/name") {
		if s, _ := p.read(name); s != "rpi_volt" {
			continue
		}
		if s, found := p.read(filepath.Join(filepath.Dir(name), "in0_lcrit_alarm")); found {
			if source == "" {
				source = "kernel"
			}
			if s == "1" {
				bits |= lowVoltage
			}
		}
	}
	switch {
	case source == "":
		return unknown("load the sensor's driver: modprobe raspberrypi-hwmon", "neither firmware nor kernel tells of the supply voltage")
	case bits&lowVoltage != 0:
		return fail(supplyRemedy, "below 4.63 V now: the board may stop, and the card may be damaged")
	case bits&hadLowVoltage != 0:
		return warn(supplyRemedy, "fell below 4.63 V since the start")
	case bits&(cappedNow|throttledNow|softLimitNow) != 0:
		return warn("give the board air, or a heat sink", "good, but the processor is slowed down now, by heat")
	case bits&hadThrottled != 0:
		return warn("give the board air, or a heat sink", "good, but the processor was slowed down since the start, by heat")
	case source == "kernel":
		return ok("not too low now; the kernel does not remember further back")
	}
	return ok("never too low since the start")
}

func (p *patient) temperature(context.Context) sight {
	most, found := math.MinInt, false
	for _, file := range p.glob("/sys/class/thermal/thermal_zone*/temp") {
		if s, _ := p.read(file); s != "" {
			if v, err := strconv.Atoi(s); err == nil {
				most, found = max(most, v), true
			}
		}
	}
	if !found {
		return unknown("", "the kernel tells of no temperature")
	}
	detail := fmt.Sprintf("%.1f °C", float64(most)/1000)
	const air = "give the board air: no closed box in the sun, a heat sink, a fan"
	switch {
	case most >= hotMilli:
		return fail(air, "%s: the board protects itself by standing still", detail)
	case most >= warmMilli:
		return warn(air, "%s: from 80 °C on it slows down", detail)
	}
	return ok("%s", detail)
}

func (p *patient) watchdog(context.Context) sight {
	const arm = "put RuntimeWatchdogSec=15 into /etc/systemd/system.conf.d/watchdog.conf below [Manager], then: systemctl daemon-reexec"
	if !p.exists("/dev/watchdog0") && !p.exists("/dev/watchdog") {
		return warn("load its driver: modprobe bcm2835_wdt", "there is none: a board that hangs stays so until somebody pulls the plug")
	}
	switch s, _ := p.read("/sys/class/watchdog/watchdog0/state"); s {
	case "inactive":
		return warn(arm, "there is one, and nobody has armed it: a board that hangs stays so until somebody pulls the plug")
	case "active":
		t, _ := p.read("/sys/class/watchdog/watchdog0/timeout")
		return ok("armed, %s s", t)
	}
	return ok("there is one; this kernel does not tell whether it is armed")
}

const mostExposure = 1.7 // of the unit as it is shipped, which a test of it holds

// exposure has systemd judge the unit as it is installed.
func (p *patient) exposure(ctx context.Context, tool string) sight {
	out, err := p.output(ctx, tool, "security", "--offline=yes", "--no-pager", p.unitPath)
	_, score, found := strings.Cut(out, "Overall exposure level for "+unitName+": ")
	word, _, _ := strings.Cut(score, " ")
	v, perr := strconv.ParseFloat(word, 64)
	if !found || perr != nil {
		return unknown("", "systemd-analyze does not say: %v", errors.Join(err, perr))
	}
	if v > mostExposure+0.05 {
		return warn("compare it with: punchclock units "+unitName, "exposure %.1f of 10, as shipped it is %.1f", v, mostExposure)
	}
	return ok("exposure %.1f of 10, by systemd-analyze", v)
}

// The configuration.

func (p *patient) configChecks() []check {
	all := []check{{id: "config.valid", title: "file", run: p.configValid}}
	if p.cfg != nil {
		all = append(all, check{id: "config.secrets", parent: "config.valid", title: "secrets and certificates", run: p.secrets})
	}
	return append(all, check{id: "daemon", parent: "config.valid", title: "program", run: p.daemon})
}

func (p *patient) configValid(context.Context) sight {
	if p.cfg == nil {
		f := fail("mend it, then: punchclock config check", "%v", p.cfgErr)
		if errors.Is(p.cfgErr, fs.ErrPermission) {
			return unknown("run doctor as root, or as the clock's own account", "%v", p.cfgErr)
		}
		f.config = true
		return f
	}
	detail := fmt.Sprintf("%s: %d readers, %d destinations", p.path, len(p.cfg.Readers), len(p.cfg.Destinations))
	if p.running != nil && p.running.Configuration != nil {
		switch c := p.running.Configuration; {
		case c.Problem != "":
			return warn("punchclock config check, then: systemctl restart punchclock", "%s; the clock has refused a change and runs with the old one", detail)
		case len(c.Restart) > 0:
			return warn("systemctl restart punchclock", "%s; changed, and in force only after a restart: %s", detail, strings.Join(c.Restart, ", "))
		}
	}
	switch {
	case len(p.cfg.Readers) == 0 && p.cfg.Kiosk.Listen == "":
		return warn("add a [[reader]], see: punchclock config example", "%s; nobody can punch: no reader, no page", detail)
	case len(p.cfg.Destinations) == 0:
		return warn("add a [[destination]], see: punchclock config example", "%s; punches are stored and go nowhere", detail)
	}
	return ok("%s", detail)
}

// secrets looks at every file that a destination needs, where the clock would.
func (p *patient) secrets(context.Context) sight {
	var bad, open, closed, old []string
	remedy, good := "", 0
	// look checks one; what is wrong goes into one of the lists.
	look := func(dest, what, name string, isLogin bool) {
		f := p.secret(name)
		path := f.path
		say := func(format string, args ...any) string {
			return fmt.Sprintf("%s: ", dest) + fmt.Sprintf(format, args...)
		}
		if f.handed && p.unit != "" && !slices.ContainsFunc(append(p.unitValues("LoadCredential"), p.unitValues("LoadCredentialEncrypted")...),
			func(v string) bool { return v == name || strings.HasPrefix(v, name+":") }) {
			bad = append(bad, say("%s: the unit does not hand %q over", what, name))
			remedy = fmt.Sprintf("systemctl edit punchclock, add [Service] and LoadCredential=%s, then restart it", name)
			return
		}
		if f.sealed {
			good++
			return
		}
		if f.stale && p.running != nil {
			old = append(old, say("%s: the clock runs with the one from before its start", what))
		}
		text, err := readSecret(path)
		switch {
		case errors.Is(err, fs.ErrPermission), f.closed && errors.Is(err, fs.ErrNotExist):
			closed = append(closed, say("%s may not be read by this account", what))
			return
		case err != nil:
			bad = append(bad, say("%s: %v", what, err))
			remedy = "write it, and nothing else, into that file, readable only by the clock's account"
			if p.unit != "" && !filepath.IsAbs(name) {
				remedy = "write it, and nothing else, into /etc/credstore/" + name + ", chmod 600, then: systemctl restart punchclock"
			}
			return
		}
		if user, _, parted := strings.Cut(text, ":"); isLogin && (!parted || user == "") {
			bad = append(bad, say("%s %s is not in the form user:password", what, path))
			remedy = "write user:password, on one line"
			return
		}
		if n, err := p.node(filepath.Dir(path)); secretIsOpen(path) && (err != nil || n.mode.Perm()&0o011 != 0) {
			open = append(open, say("%s can be read by other users of this machine", path))
			if remedy == "" {
				remedy = "chmod 600 " + path
			}
			return
		}
		good++
	}
	authority := func(who, file string) {
		if file == "" {
			return
		}
		if err := checkPEM(file); err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", who, err))
			remedy = `name a file with certificates in PEM form, or write ca_file = ""`
			return
		}
		good++
	}
	if r := p.cfg.Roster; r.TokenFile != "" {
		look("roster", "token", r.TokenFile, false)
	}
	authority("roster", p.cfg.Roster.CAFile)
	for _, d := range p.cfg.Destinations {
		if d.secretWanted() {
			look(d.Name, "secret", d.SecretFile, false)
		}
		if d.ProxyLoginFile != "" {
			look(d.Name, "proxy login", d.ProxyLoginFile, true)
		}
		authority(d.Name, d.CAFile)
	}
	switch lines := strings.Join(slices.Concat(bad, old, closed, open), "\n"); {
	case len(bad) > 0:
		f := fail(remedy, "%s", lines)
		f.config = true
		return f
	case len(old) > 0:
		return warn("systemctl restart punchclock", "%s", lines)
	case len(closed) > 0:
		return unknown("run doctor as root, or as the clock's own account", "%s", lines)
	case len(open) > 0:
		return warn(remedy, "%s", lines)
	case good == 0:
		return sight{} // no destination needs any
	}
	return ok("%d files, readable by the clock alone", good)
}

func (p *patient) daemon(context.Context) sight {
	switch {
	case p.running != nil:
		return ok("runs, and answers")
	case errors.Is(p.daemonErr, errNoDaemon):
		return unknown("systemctl start punchclock", "no clock runs on %s; what its files tell is below", p.cfg.Device.StateDir)
	case errors.Is(p.daemonErr, fs.ErrPermission):
		return unknown("run doctor as root, or as the clock's own account", "this account may not ask the clock")
	}
	return fail("journalctl -u punchclock, then: systemctl restart punchclock", "runs, and does not answer: %v", p.daemonErr)
}

// The state directory.

func (p *patient) stateChecks() []check {
	return []check{
		{id: "state.dir", parent: "config.valid", title: "folder", run: p.stateDir},
		{id: "state.medium", parent: "state.dir", title: "file system", run: p.medium},
		{id: "state.space", parent: "state.dir", title: "space", run: p.roomLeft},
		{id: "state.sync", parent: "state.medium", title: "time to store", medium: true, limit: 20 * time.Second, run: p.syncTime},
		{id: "state.life", parent: "state.dir", title: "medium's life", run: p.life},
		{id: "state.wear", parent: "state.dir", title: "written to it", run: p.wear},
	}
}

// mostFiles of the state directory are looked at: a clock that ran for 50 years has fewer.
const mostFiles = 5000

func (p *patient) stateDir(context.Context) sight {
	dir := p.cfg.Device.StateDir
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f := unknown("systemctl start punchclock makes it", "%s is not there yet", dir)
		if p.unit == "" {
			f.remedy = "the clock makes it when it first starts: punchclock run"
		}
		return f
	case errors.Is(err, fs.ErrPermission):
		return unknown("run doctor as root, or as the clock's own account", "%v", err)
	case err != nil:
		return fail("name another folder in device.state_dir", "%v", err)
	case !st.IsDir():
		return fail("name another folder in device.state_dir", "%s is not a folder", dir)
	}
	n, err := p.node(dir)
	if err != nil {
		return unknown("", "%v", err)
	}
	owner := p.account(n.uid)
	detail := fmt.Sprintf("%s, of %s, %v", dir, owner.name, n.mode.Perm())
	if users := p.unitValues("User"); len(users) > 0 && users[len(users)-1] != owner.name {
		want := users[len(users)-1]
		return fail(fmt.Sprintf("chown -R %s: %s", want, dir), "%s; the clock runs as %s and cannot write there", detail, want)
	}
	if n.mode.Perm()&0o700 != 0o700 {
		return fail("chmod 700 "+dir, "%s: its owner may not write there", detail)
	}
	// A file that root has left in it stops the clock one day.
	strange, seen := "", 0
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if seen++; seen > mostFiles {
			return fs.SkipAll
		}
		if n2, err := p.node(path); err == nil && n2.uid != n.uid && n.uid != 0 && e.Type()&(fs.ModeSymlink|fs.ModeSocket) == 0 {
			strange = path
			return fs.SkipAll
		}
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrPermission):
		return unknown("run doctor as root, or as the clock's own account", "%s; its files may not be looked at by this account", detail)
	case strange != "":
		return fail(fmt.Sprintf("chown -R %s: %s", owner.name, dir), "%s; %s belongs to somebody else", detail, strange)
	case n.mode.Perm()&0o077 != 0:
		return warn("chmod 700 "+dir, "%s: others may read names and badges", detail)
	}
	return ok("%s", detail)
}

// File systems by what they do with a punch.
var (
	fleeting = []string{"tmpfs", "ramfs", "overlay", "overlayfs", "aufs", "squashfs", "rootfs"}
	remote   = []string{"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "vboxsf"}
	fragile  = []string{"vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk"}
	unsafe   = []string{"nobarrier", "barrier=0", "data=writeback", "nofail_sync", "nosync", "async_commit", "journal_async_commit", "fsync_mode=nobarrier"}
)

func (p *patient) medium(context.Context) sight {
	dir, err := filepath.EvalSymlinks(p.cfg.Device.StateDir)
	if err != nil {
		return unknown("", "%v", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return unknown("", "%v", err)
	}
	mnt, found := p.mountOf(dir)
	if !found {
		return unknown("", "the kernel does not say what %s is mounted from", dir)
	}
	detail := fmt.Sprintf("%s on %s, %s", mnt.kind, mnt.source, mnt.point)
	var odd []string
	for _, o := range mnt.options {
		if slices.Contains(unsafe, o) {
			odd = append(odd, o)
		}
	}
	const elsewhere = "put device.state_dir on the card itself: an ext4 partition that is mounted for writing"
	switch {
	case slices.Contains(mnt.options, "ro"):
		return fail("mount -o remount,rw "+mnt.point+"; if that fails the card is worn out: dmesg --level=err", "%s, read-only: no punch can be stored", detail)
	case slices.Contains(fleeting, mnt.kind):
		return fail(elsewhere, "%s: what is stored there is gone after a power cut", detail)
	case len(odd) > 0:
		return warn("take the option out of /etc/fstab", "%s, with %s: a power cut may lose what was called stored", detail, strings.Join(odd, ", "))
	case slices.Contains(remote, mnt.kind):
		return warn(elsewhere, "%s: a tap waits for the network", detail)
	case slices.Contains(fragile, mnt.kind):
		return warn(elsewhere, "%s has no journal: a power cut may damage it", detail)
	}
	return ok("%s", detail)
}

func (p *patient) roomLeft(context.Context) sight {
	s, err := p.space(p.cfg.Device.StateDir)
	if err != nil {
		return unknown("", "%v", err)
	}
	reserve := p.cfg.Outbox.reserve(s.total)
	detail := fmt.Sprintf("%s of %s free (%.0f %%), %d MB of it kept in reserve", size(s.free), size(s.total), 100*float64(s.free)/float64(max(1, s.total)), reserve>>20)
	room := "make room on " + p.cfg.Device.StateDir + "; nothing that is stored is ever overwritten. What fills it: du -xh --max-depth=2 / | sort -h"
	days, known := 0.0, false
	if h := p.holds; h != nil {
		if days, known = runwayDays(h.PerDay, h.Punches, h.Bytes, s.free, reserve); known {
			detail += fmt.Sprintf("; %s, %.0f punches a day over %.0f days", runwayWords(days), h.PerDay, h.OverDays)
		}
	}
	switch {
	case s.free < reserve:
		return fail(room, "%s: no punch can be stored", detail)
	case s.totalFiles > 0 && s.freeFiles < 100:
		return fail("remove files: the file system can hold no more of them", "%s; but only %d more files", detail, s.freeFiles)
	case known && days < fewDays:
		return warn(room, "%s", detail)
	case s.free < s.total/5:
		return warn(room, "%s", detail)
	}
	return ok("%s", detail)
}

// runwayWords tell how long the space lasts.
func runwayWords(days float64) string {
	if days > 3650 {
		return "space for more than ten years at this site's rate"
	}
	return fmt.Sprintf("space for %.0f more days at this site's rate", days)
}

// wear is what is written to the card, whoever writes: that is what ends it.
func (p *patient) wear(context.Context) sight {
	dir, err := filepath.EvalSymlinks(p.cfg.Device.StateDir)
	if err != nil {
		return sight{}
	}
	mnt, _ := p.mountOf(dir)
	n, known := writtenPerDay(p.root, mnt.device)
	if !known {
		return sight{} // no such count here, or the machine's first day
	}
	detail := fmt.Sprintf("%s written a day since the machine's start, whoever wrote them", size(uint64(n)))
	if n > wearMost {
		return warn("see who writes: apt-get install iotop, then iotop -aoP; a log on the card goes by Storage=volatile in /etc/systemd/journald.conf, swap by swapoff -a",
			"%s: a card wears out early", detail)
	}
	return ok("%s", detail)
}

func size(b uint64) string {
	switch {
	case b >= 10e9:
		return fmt.Sprintf("%.0f GB", float64(b)/1e9)
	case b >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(b)/1e9)
	}
	return fmt.Sprintf("%.0f MB", float64(b)/1e6)
}

const (
	probes   = 10
	lateSync = 100 * time.Millisecond // two of these are the least that a tap waits
)

func (p *patient) syncTime(ctx context.Context) sight {
	took, err := p.probe(ctx, p.cfg.Device.StateDir, probes)
	if errors.Is(err, fs.ErrPermission) {
		return unknown("run doctor as root, or as the clock's own account", "%v", err)
	}
	if err != nil || len(took) == 0 {
		return fail("the medium does not take what is written: dmesg --level=err; copy "+p.cfg.Device.StateDir+" to a new card", "%v", err)
	}
	slices.Sort(took)
	median := took[len(took)/2]
	detail := fmt.Sprintf("a record written and synced in %v (%v to %v, %d times); a tap takes two of these at least",
		short(median), short(took[0]), short(took[len(took)-1]), len(took))
	if median > lateSync {
		return warn("use a card for industrial or surveillance use (A2 or better)", "%s", detail)
	}
	return ok("%s", detail)
}

// life is what an eMMC says of its wear (JESD84-B51: device life time estimation and
// pre-EOL information). An SD card has no word for it.
func (p *patient) life(context.Context) sight {
	dir, err := filepath.EvalSymlinks(p.cfg.Device.StateDir)
	if err != nil {
		return sight{}
	}
	mnt, found := p.mountOf(dir)
	if !found || mnt.device == "" || strings.HasPrefix(mnt.device, "0:") {
		return sight{}
	}
	disk, err := filepath.EvalSymlinks(p.machine.path("/sys/dev/block/" + mnt.device))
	if err != nil {
		return sight{}
	}
	if _, err := os.Stat(filepath.Join(disk, "partition")); err == nil {
		disk = filepath.Dir(disk)
	}
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(disk, "device", name))
		return strings.TrimSpace(string(b))
	}
	what := strings.TrimSpace(read("type") + " " + read("name"))
	if made := read("date"); made != "" {
		what += ", made " + made
	}
	words := strings.Fields(read("life_time"))
	if len(words) == 0 {
		if read("type") == "" {
			return sight{}
		}
		return ok("%s; it does not tell its wear", what)
	}
	worst := uint64(0)
	for _, w := range words {
		if v, err := strconv.ParseUint(strings.TrimPrefix(w, "0x"), 16, 8); err == nil {
			worst = max(worst, v)
		}
	}
	const change = "copy the state directory to a new medium, before it fails"
	pre := read("pre_eol_info")
	switch {
	case worst >= 11, strings.HasSuffix(pre, "3"):
		return fail(change, "%s: it has outlived its life", what)
	case worst >= 9, strings.HasSuffix(pre, "2"):
		return warn(change, "%s: %d to %d %% of its life is used", what, (worst-1)*10, worst*10)
	case worst == 0:
		return ok("%s; it does not tell its wear", what)
	}
	return ok("%s: %d to %d %% of its life is used", what, (worst-1)*10, worst*10)
}

// The clock.

const (
	looseBound = 5 * time.Second  // above it a time is not to be called exact
	farApart   = 60 * time.Second // two clocks that differ by more: one is wrong
)

func (p *patient) clockChecks() []check {
	all := []check{{id: "clock.time", title: "time", run: p.clockTime}}
	if p.running != nil && p.running.Clock.ServerSkew != nil {
		all = append(all, check{id: "clock.skew", title: "far sides' clocks", run: p.clockSkew})
	}
	return append(all, check{id: "clock.rtc", title: "battery clock", run: p.rtc})
}

// reading is what the daemon knows of the clock, or else this machine's kernel.
func (p *patient) reading() (state string, bound time.Duration, err error) {
	if p.running != nil {
		return p.running.Clock.State, time.Duration(p.running.Clock.ErrorBoundMS) * time.Millisecond, nil
	}
	c := clock.Config{Machine: p.machine.clock}
	if p.cfg != nil {
		c.Trust, c.StateFile = p.cfg.Clock.Trust, filepath.Join(p.cfg.Device.StateDir, "clock.json")
	}
	k, err := clock.New(c)
	if err != nil {
		return "", 0, err
	}
	r := k.Now()
	return r.State.String(), r.ErrorBound, nil
}

func (p *patient) clockTime(context.Context) sight {
	state, bound, err := p.reading()
	if err != nil {
		return unknown("", "%v", err)
	}
	now := p.now()
	zone := ""
	if p.cfg != nil {
		now = now.In(p.cfg.Device.Timezone)
		zone = " in " + p.cfg.Device.Timezone.String()
	}
	detail := fmt.Sprintf("%s%s, within %v", now.Format("2006-01-02 15:04:05 -07:00"), zone, short(bound))
	const server = "let this machine reach a time server: timedatectl timesync-status"
	switch {
	case state == "unset":
		return fail(server+"; or give it a battery clock", "%s%s, and nobody has told this boot the time: punches are stored and held", now.Format("2006-01-02 15:04:05 -07:00"), zone)
	case state == "holdover" && bound > looseBound:
		return warn(server, "%s; it runs on its own", detail)
	case state == "holdover":
		return ok("%s; set in this boot, and running on its own since", detail)
	case p.cfg != nil && p.cfg.Clock.Trust == clock.System:
		return ok(`%s; trusted as it is (clock.trust = "system")`, detail)
	case bound > looseBound:
		return warn(server, "%s", detail)
	}
	return ok("%s; a time server keeps it", detail)
}

func (p *patient) clockSkew(context.Context) sight {
	d := time.Duration(*p.running.Clock.ServerSkew * float64(time.Second))
	if d.Abs() > farApart {
		return skewed(d)
	}
	return ok("the one that differs most is %v apart", short(d.Abs()))
}

func skewed(d time.Duration) sight {
	way := "ahead of"
	if d < 0 {
		way = "behind"
	}
	return warn("one of the two is wrong: look at the time server, then at the battery clock (is it in local time?)", "a far side's clock is %v %s this one", roughly(d.Abs()), way)
}

// emptyCell is a voltage that no cell has which still keeps a clock going.
const emptyCell = 2.0

func (p *patient) rtc(ctx context.Context) sight {
	found := p.glob("/sys/class/rtc/rtc*/name")
	if len(found) == 0 {
		if _, isPi := p.raspberry(); !isPi {
			return sight{}
		}
		return warn("add a DS3231 and dtoverlay=i2c-rtc,ds3231 in /boot/firmware/config.txt",
			"there is none: after a power cut without network, punches are stored and held until a time server answers")
	}
	dir := filepath.Dir(found[0])
	name, _ := p.read(found[0])
	set := false
	for _, f := range found {
		if s, _ := p.read(filepath.Join(filepath.Dir(f), "hctosys")); s == "1" {
			dir, set = filepath.Dir(f), true
			name, _ = p.read(f)
		}
	}
	seconds, known := p.read(filepath.Join(dir, "since_epoch"))
	says, err := strconv.ParseInt(seconds, 10, 64)
	if !known || err != nil {
		return warn("look at its battery, then set it: hwclock --systohc --utc", "%s does not tell the time: its battery may be empty", name)
	}
	state, _, cerr := p.reading()
	if off := time.Unix(says, 0).Sub(p.now()); cerr == nil && state == "synced" && off.Abs() > farApart {
		return warn("set it: hwclock --systohc --utc; if that does not last, change its battery", "%s is off by %v", name, roughly(off.Abs()))
	}
	// A Raspberry Pi 5 has a clock of its own, and a socket for a cell, which is empty
	// when it is sold. It runs all the same until the power goes.
	if tool, err := p.find("vcgencmd"); err == nil && strings.Contains(name, "rpi") {
		text, err := p.output(ctx, tool, "pmic_read_adc", "BATT_V")
		_, v, found := strings.Cut(strings.TrimSpace(text), "=")
		volts, perr := strconv.ParseFloat(strings.TrimSuffix(v, "V"), 64)
		if err == nil && found && perr == nil && volts < emptyCell {
			return warn("plug a cell for the Raspberry Pi 5's clock into its socket", "%s runs, with a cell of %.1f V: after a power cut without network, punches are stored and held", name, volts)
		}
	}
	if _, isPi := p.raspberry(); !set && isPi {
		return warn("remove fake-hwclock, and use a kernel whose driver for it is built in or in the initramfs", "%s runs, and did not set the time at the start: after a power cut without network punches are held", name)
	}
	return ok("%s runs", name)
}

// short writes a time with two or three figures.
func short(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

// roughly writes a long time in days, hours or minutes.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprint(d.Round(time.Second))
}
