package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/device"
	"punchclock/device/clock"
	"punchclock/device/evdev"
	"punchclock/device/gpiochip"
	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/drain"
	"punchclock/sync/sandbox"
)

// bench is a clock on the table: a Raspberry Pi 4 in order, with the clock running,
// until a test breaks something.
type bench struct {
	t *testing.T
	*patient
	dir     string // of configuration and state
	now     time.Time
	chain   []*x509.Certificate
	devices map[string]node
	closed  string // a folder that this account may not look into
	kernel  clock.Kernel
}

func newBench(t *testing.T, extra string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), kernel: clock.Kernel{Synced: true, Bound: 12 * time.Millisecond}}
	state := filepath.Join(b.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	tc := sandbox.NewTransferCard(sandbox.TransferCardConfig{})
	id, secret := tc.Credentials()
	b.file("104-secret", secret+"\n")
	b.devices = map[string]node{
		"/dev/serial/by-id/usb-reader": {mode: fs.ModeDevice | fs.ModeCharDevice | 0o660, gid: 20, real: "/dev/ttyUSB0", writable: true},
		"/dev/gpiochip0":               {mode: fs.ModeDevice | fs.ModeCharDevice | 0o660, gid: 997, real: "/dev/gpiochip0", writable: true},
		"/dev/spidev0.0":               {mode: fs.ModeDevice | fs.ModeCharDevice | 0o660, gid: 30, real: "/dev/spidev0.0", writable: true},
		state:                          {mode: fs.ModeDir | 0o700, uid: 999, gid: 999, real: state},
	}
	header := gpiochip.Info{Path: "/dev/gpiochip0", Label: "pinctrl-bcm2711"}
	for i := range 58 {
		header.Lines = append(header.Lines, gpiochip.Line{Name: fmt.Sprintf("GPIO%d", i)})
	}
	b.chain = []*x509.Certificate{{NotBefore: b.now.AddDate(0, -3, 0), NotAfter: b.now.AddDate(0, 3, 0), Issuer: pkix.Name{Organization: []string{"Good Roots"}}}}
	m := &machine{
		root: filepath.Join(b.dir, "root"), uid: 0, network: inMemory{dated{tc, func() time.Time { return b.now }}}, now: func() time.Time { return b.now },
		find: func(p string) (string, error) { return "/usr/bin/" + p, nil },
		output: func(_ context.Context, p string, args ...string) (string, error) {
			switch filepath.Base(p) {
			case "vcgencmd":
				return "throttled=0x0\n", nil
			case "fc-list":
				return "Noto Sans CJK TC\n", nil
			case "systemd-analyze":
				return "→ Overall exposure level for punchclock.service: 1.7 OK\n", nil
			}
			return "", errors.New("no such program")
		},
		space: func(string) (space, error) { return space{20e9, 32e9, 1e6, 2e6}, nil },
		probe: func(context.Context, string, int) ([]time.Duration, error) { return ten(4 * time.Millisecond), nil },
		account: func(uid int) login {
			return login{uid, map[int]string{0: "root", 999: "punchclock"}[uid], []int{20, 30, 997}, nil}
		},
		group: func(gid int) string { return map[int]string{20: "dialout", 30: "spi", 997: "gpio"}[gid] },
		named: func(name string) (login, bool) {
			return login{999, name, []int{20, 30, 997}, nil}, name == "punchclock"
		},
		node: func(p string) (node, error) {
			if n, ok := b.devices[p]; ok {
				return n, nil
			}
			if b.closed != "" && strings.HasPrefix(p, b.closed) {
				return node{}, fmt.Errorf("stat %s: %w", p, fs.ErrPermission)
			}
			if strings.HasPrefix(p, "/dev/") {
				return node{}, fmt.Errorf("stat %s: %w", p, fs.ErrNotExist)
			}
			n, err := nodeOf(p)
			n.uid = 999 // as if the clock had made it
			return n, err
		},
		lookup: func(context.Context, string) ([]string, error) { return []string{"203.0.113.7"}, nil },
		reach: func(context.Context, drain.ClientOptions, string) (drain.Reached, error) {
			return drain.Reached{Chain: b.chain}, nil
		},
		page:     func(context.Context, string) (int, string, error) { return 200, "ready", nil },
		listen:   func(string) error { return nil },
		chips:    func() ([]gpiochip.Info, error) { return []gpiochip.Info{header}, nil },
		keyboard: func(evdev.Config) (string, error) { return "", errors.New("no keyboard is 08ff:0009") },
		port:     func(string, int) error { return nil },
		greet:    func(string, *tls.Config) error { return nil },
	}
	m.clock = &clock.Machine{BootID: [16]byte{1}, Wall: func() time.Time { return b.now }, Uptime: func() time.Duration { return time.Hour },
		Kernel: func() (clock.Kernel, error) { return b.kernel, nil }, Chip: func() (string, bool) { return "", false }}
	b.patient = &patient{machine: m}
	for name, text := range map[string]string{
		"/proc/device-tree/model":                                    "Raspberry Pi 4 Model B Rev 1.5\x00",
		"/proc/sys/kernel/osrelease":                                 "6.12.34+rpt-rpi-v8\n",
		"/proc/uptime":                                               "90061.5 300000.1\n",
		"/etc/os-release":                                            "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n",
		"/sys/class/thermal/thermal_zone0/temp":                      "48312\n",
		"/sys/class/hwmon/hwmon1/name":                               "rpi_volt\n",
		"/sys/class/hwmon/hwmon1/in0_lcrit_alarm":                    "0\n",
		"/dev/watchdog0":                                             "",
		"/sys/class/watchdog/watchdog0/state":                        "active\n",
		"/sys/class/watchdog/watchdog0/timeout":                      "15\n",
		"/proc/self/mountinfo":                                       "21 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw,commit=600\n30 21 0:25 / /run rw - tmpfs tmpfs rw\n",
		"/sys/class/rtc/rtc0/name":                                   "rtc-ds1307 1-0068\n",
		"/sys/class/rtc/rtc0/hctosys":                                "1\n",
		"/sys/class/rtc/rtc0/since_epoch":                            fmt.Sprint(b.now.Unix()),
		"/etc/systemd/system/punchclock.service":                     "[Service]\nUser=punchclock\nLoadCredential=104-secret\n",
		"/sys/devices/mmc0/mmc0:1/block/mmcblk0/mmcblk0p2/partition": "2\n",
		"/sys/devices/mmc0/mmc0:1/block/mmcblk0/stat":                " 1 2 3 4 5 6 1000000 8 9 10 11\n",
		"/sys/devices/mmc0/mmc0:1/type":                              "MMC\n",
		"/sys/devices/mmc0/mmc0:1/name":                              "DG4032\n",
		"/sys/devices/mmc0/mmc0:1/date":                              "03/2023\n",
		"/sys/devices/mmc0/mmc0:1/life_time":                         "0x02 0x01\n",
		"/sys/devices/mmc0/mmc0:1/pre_eol_info":                      "0x01\n",
	} {
		b.sys(name, text)
	}
	b.link("/sys/dev/block/179:2", "/sys/devices/mmc0/mmc0:1/block/mmcblk0/mmcblk0p2")
	b.link("/sys/devices/mmc0/mmc0:1/block/mmcblk0/device", "/sys/devices/mmc0/mmc0:1")
	b.findUnit()
	b.path = b.file("punchclock.toml", `schema = 1
[device]
id = "tpe-1f-lobby"
state_dir = "state"
[indicator]
green = "GPIO17"
[[reader]]
name = "front"
driver = "serial"
port = "/dev/serial/by-id/usb-reader"
[[destination]]
name = "104"
driver = "transfercard"
api_base = "https://far.example/prohrm/1.0"
token_url = "https://far.example/oauth2/token"
client_id = "`+id+`"
client_secret_file = "104-secret"
[[destination]]
name = "signin"
driver = "signin"
mode = "off"
`+extra)
	var err error
	if b.cfg, err = loadConfig(b.path, built()); err != nil {
		t.Fatal(err)
	}
	b.running = &status{Device: deviceStatus{"tpe-1f-lobby", "大廳", version, 3600}, Clock: machineClock{clockStatus: clockStatus{"synced", 12}},
		Outbox:       outboxStatus{LastSeq: 42, Ready: true, Bytes: 4e6},
		Destinations: []destinationStatus{{Name: "104", State: "ok", LastSuccess: "2026-11-22T08:58:03.123+08:00"}},
		Readers:      []readerStatus{{Name: "front", State: "ok", LastEvent: "2026-11-22T08:58:03.123+08:00"}}}
	b.holds = &holdings{Punches: 42, PerDay: 200, OverDays: 28, Destinations: map[string]waits{},
		Roster: &headcount{Counts: roster.Counts{People: 60, Active: 58}, Changed: b.now.Add(-72 * time.Hour)}}
	b.answers(verifyLine{Report: &verifyReport{OK: true, Records: 42, First: 1, Last: 42}})
	return b
}

func ten(d time.Duration) []time.Duration { return slices.Repeat([]time.Duration{d}, 10) }

func (b *bench) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// sys writes a file of the machine.
func (b *bench) sys(name, text string) { b.t.Helper(); b.file(filepath.Join("root", name), text) }

func (b *bench) gone(name string) { os.RemoveAll(b.machine.path(name)) }

func (b *bench) link(name, to string) {
	b.t.Helper()
	path := b.machine.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink(b.machine.path(to), path)); err != nil {
		b.t.Fatal(err)
	}
}

// dated is a far side whose clock is the test's.
type dated struct {
	http.Handler
	now func() time.Time
}

func (d dated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", d.now().UTC().Format(http.TimeFormat))
	d.Handler.ServeHTTP(w, r)
}

// stopped is the clock not running, with its files open for reading.
func (b *bench) stopped() {
	b.running, b.daemonErr = nil, fmt.Errorf("%w: state", errNoDaemon)
}

// examine makes every check and returns the report.
func (b *bench) examine() *checkup {
	r := &checkup{Schema: doctorSchema, Device: "tpe-1f-lobby", Version: version, At: b.now.Format(milliLayout)}
	// In a bubble, where the second before a first call costs nothing.
	synctest.Test(b.t, func(t *testing.T) { r.Checks = examine(t.Context(), b.checks(), func(int) {}) })
	r.sum()
	return r
}

func (r *checkup) find(id string) (checked, bool) {
	i := slices.IndexFunc(r.Checks, func(c checked) bool { return c.ID == id })
	if i < 0 {
		return checked{}, false
	}
	return r.Checks[i], true
}

func TestAClockInOrderHasNothingToRemedy(t *testing.T) {
	b := newBench(t, "")
	r := b.examine()
	if r.Exit != 0 || r.Summary.OK != len(r.Checks) {
		r.print(os.Stderr, false)
		t.Errorf("exit %d, %+v of %d checks", r.Exit, r.Summary, len(r.Checks))
	}
	seen := map[string]bool{"": true}
	for _, c := range r.Checks {
		if c.Remedy != "" || c.Detail == "" || c.Title == "" {
			t.Errorf("%+v", c)
		}
		if seen[c.ID] || !seen[c.Parent] {
			t.Errorf("%s below %q: twice, or before its parent", c.ID, c.Parent)
		}
		seen[c.ID] = true
	}
}

// Every state of every check, on machines with one fault.
func TestEachFaultIsFoundWithItsRemedy(t *testing.T) {
	running := func(fn func(s *status)) func(*bench) { return func(b *bench) { fn(b.running) } }
	dest := func(fn func(d *destinationStatus)) func(*bench) {
		return running(func(s *status) { fn(&s.Destinations[0]) })
	}
	traffic := func(r readerTraffic) func(*bench) {
		return running(func(s *status) { s.Readers[0].Traffic = &r })
	}
	sys := func(name, text string) func(*bench) { return func(b *bench) { b.sys(name, text) } }
	gone := func(name string) func(*bench) { return func(b *bench) { b.gone(name) } }
	mount := func(line string) func(*bench) { return sys("/proc/self/mountinfo", line+"\n") }
	const absent verdict = "absent"
	for _, tc := range []struct {
		name   string
		extra  string
		breaks func(*bench)
		id     string
		state  verdict
		detail string // part of it
		remedy string // part of it; "" only where there is none
		exit   int
	}{
		{"another version runs", "", running(func(s *status) { s.Device.Version = "0.9" }), "program", isWarning, "the clock that runs is version 0.9", "systemctl restart", 0},

		{"a laptop", "", func(b *bench) {
			b.gone("/proc/device-tree/model")
			b.sys("/sys/class/dmi/id/product_name", "ThinkPad\n")
		}, "machine.board", isOK, "ThinkPad", "", 0},
		{"a laptop has no supply to look at", "", gone("/proc/device-tree/model"), "machine.power", absent, "", "", 0},
		{"an old kernel", "", sys("/proc/sys/kernel/osrelease", "5.4.0\n"), "machine.system", isWarning, "Linux 5.4.0, up 25 hours", "newer system", 0},
		{"a kernel without a version", "", gone("/proc/sys/kernel/osrelease"), "machine.system", isUnknown, "does not say", "", 3},
		{"under-voltage now", "", sys("/sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"), "machine.power", isFailed, "below 4.63 V now", "board's own supply", 1},
		{"under-voltage by the kernel's sensor", "", sys("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"), "machine.power", isFailed, "below 4.63 V now", "board's own supply", 1},
		{"under-voltage since the start", "", sys("/sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n"), "machine.power", isWarning, "since the start", "board's own supply", 0},
		{"too hot to run at full speed", "", sys("/sys/devices/platform/soc/soc:firmware/get_throttled", "6\n"), "machine.power", isWarning, "slowed down now", "air", 0},
		{"was too hot", "", sys("/sys/devices/platform/soc/soc:firmware/get_throttled", "60000\n"), "machine.power", isWarning, "since the start", "air", 0},
		{"no firmware, a sensor", "", func(b *bench) {
			b.find = func(string) (string, error) { return "", errors.New("no") }
		}, "machine.power", isOK, "not too low now", "", 0},
		{"nobody tells of the supply", "", func(b *bench) {
			b.find = func(string) (string, error) { return "", errors.New("no") }
			b.gone("/sys/class/hwmon")
		}, "machine.power", isUnknown, "neither", "modprobe", 3},
		{"hot", "", sys("/sys/class/thermal/thermal_zone0/temp", "79100\n"), "machine.temperature", isWarning, "79.1 °C", "air", 0},
		{"very hot", "", sys("/sys/class/thermal/thermal_zone0/temp", "86000\n"), "machine.temperature", isFailed, "86.0 °C", "air", 1},
		{"no thermometer", "", gone("/sys/class/thermal"), "machine.temperature", isUnknown, "no temperature", "", 3},
		{"no watchdog", "", gone("/dev/watchdog0"), "machine.watchdog", isWarning, "there is none", "modprobe", 0},
		{"a watchdog nobody armed", "", sys("/sys/class/watchdog/watchdog0/state", "inactive\n"), "machine.watchdog", isWarning, "nobody has armed it", "RuntimeWatchdogSec", 0},
		{"a watchdog that does not tell", "", gone("/sys/class/watchdog"), "machine.watchdog", isOK, "does not tell", "", 0},
		{"a loose unit", "", func(b *bench) {
			b.output = func(context.Context, string, ...string) (string, error) {
				return "→ Overall exposure level for punchclock.service: 8.3 EXPOSED\n", nil
			}
		}, "systemd.exposure", isWarning, "8.3 of 10", "punchclock units", 0},
		{"systemd-analyze says nothing", "", func(b *bench) {
			b.output = func(context.Context, string, ...string) (string, error) { return "", errors.New("exit status 1") }
		}, "systemd.exposure", isUnknown, "exit status 1", "", 3},
		{"no unit", "", func(b *bench) { b.unit = "" }, "systemd.exposure", absent, "", "", 0},

		{"a configuration that is wrong", "", func(b *bench) {
			_, b.cfgErr = parseConfig("f", []byte("schema = 1\n[device]\nid = \"A B\"\n"), built())
			b.cfg = nil
		}, "config.valid", isFailed, "f:3:6: device id", "punchclock config check", 2},
		{"a configuration that may not be read", "", func(b *bench) {
			b.cfg, b.cfgErr = nil, fmt.Errorf("open: %w", fs.ErrPermission)
		}, "config.valid", isUnknown, "permission", "as root", 3},
		{"what hangs on a wrong configuration is not run", "", func(b *bench) { b.cfg, b.cfgErr = nil, errors.New("no") }, "state.dir", isUnknown, "not run: config.valid failed", "", 2},
		{"the machine is looked at all the same", "", func(b *bench) { b.cfg, b.cfgErr = nil, errors.New("no") }, "machine.temperature", isOK, "48.3 °C", "", 2},
		{"a change that was refused", "", running(func(s *status) { s.Configuration = &reloadStatus{Problem: "line 3"} }), "config.valid", isWarning, "runs with the old one", "config check", 0},
		{"a change that needs a restart", "", running(func(s *status) { s.Configuration = &reloadStatus{Restart: []string{"[kiosk]"}} }), "config.valid", isWarning, "[kiosk]", "restart", 0},
		{"nobody can punch", "", func(b *bench) { b.cfg.Readers, b.cfg.Kiosk.Listen = nil, "" }, "config.valid", isWarning, "nobody can punch", "[[reader]]", 0},
		{"punches go nowhere", "", func(b *bench) { b.cfg.Destinations = nil }, "config.valid", isWarning, "go nowhere", "[[destination]]", 0},
		{"a secret is missing", "", func(b *bench) { os.Remove(filepath.Join(b.dir, "104-secret")) }, "config.secrets", isFailed, "104: secret", "/etc/credstore/104-secret, chmod 600", 2},
		{"a secret for all to read", "", func(b *bench) {
			os.Chmod(filepath.Join(b.dir, "104-secret"), 0o644)
			os.Chmod(b.dir, 0o755)
		}, "config.secrets", isWarning, "can be read by other users", "chmod 600", 0},
		{"a secret in a closed folder", "", func(b *bench) { os.Chmod(filepath.Join(b.dir, "104-secret"), 0o644); os.Chmod(b.dir, 0o700) }, "config.secrets", isOK, "1 files", "", 0},
		{"a secret that systemd hands over", "", func(b *bench) {
			os.Remove(filepath.Join(b.dir, "104-secret"))
			b.sys("/etc/credstore/104-secret", "s3cret")
		}, "config.secrets", isOK, "1 files", "", 0},
		{"a secret that was corrected after the start", "", func(b *bench) {
			os.Remove(filepath.Join(b.dir, "104-secret"))
			b.sys("/etc/credstore/104-secret", "s3cret")
			b.sys("/run/credentials/punchclock.service/104-secret", "wrong")
		}, "config.secrets", isWarning, "the clock runs with the one from before", "systemctl restart punchclock", 0},
		{"a secret that is in force", "", func(b *bench) {
			os.Remove(filepath.Join(b.dir, "104-secret"))
			b.sys("/etc/credstore/104-secret", "s3cret")
			b.sys("/run/credentials/punchclock.service/104-secret", "s3cret")
		}, "config.secrets", isOK, "1 files", "", 0},
		{"a secret that only systemd opens", "", func(b *bench) {
			os.Remove(filepath.Join(b.dir, "104-secret"))
			b.sys("/etc/credstore.encrypted/104-secret", "sealed")
		}, "config.secrets", isOK, "1 files", "", 0},
		{"a secret that the unit does not hand over", "", func(b *bench) {
			os.Remove(filepath.Join(b.dir, "104-secret"))
			b.sys("/etc/credstore/104-secret", "s3cret")
			b.unit = "[Service]\nUser=punchclock\n"
		}, "config.secrets", isFailed, "does not hand", "LoadCredential=104-secret", 2},
		{"a secret that may lie where this account may not look", "", func(b *bench) {
			os.Remove(filepath.Join(b.dir, "104-secret"))
			b.closed = b.machine.path("/etc/credstore")
		}, "config.secrets", isUnknown, "may not be read by this account", "as root", 3},
		{"authorities that are none", "", func(b *bench) { b.cfg.Destinations[0].CAFile = b.file("ca.pem", "x") }, "config.secrets", isFailed, "no certificate", "PEM", 2},
		{"a proxy's login that is none", "", func(b *bench) { b.cfg.Destinations[0].ProxyLoginFile = b.file("login", "top") }, "config.secrets", isFailed, "not in the form", "user:password", 2},

		{"no clock runs", "", (*bench).stopped, "daemon", isUnknown, "no clock runs", "systemctl start punchclock", 3},
		{"the clock may not be asked", "", func(b *bench) {
			b.running, b.walk, b.holds = nil, nil, nil
			b.daemonErr = fmt.Errorf("control socket: %w", fs.ErrPermission)
		}, "daemon", isUnknown, "may not ask", "as root", 3},
		{"the clock hangs", "", func(b *bench) { b.running, b.daemonErr = nil, errors.New("timeout") }, "daemon", isFailed, "does not answer: timeout", "restart", 1},

		{"no state directory yet", "", func(b *bench) { os.RemoveAll(filepath.Join(b.dir, "state")) }, "state.dir", isUnknown, "not there yet", "systemctl start", 3},
		{"a file in its place", "", func(b *bench) {
			os.RemoveAll(filepath.Join(b.dir, "state"))
			b.file("state", "")
		}, "state.dir", isFailed, "not a folder", "state_dir", 1},
		{"somebody else's folder", "", func(b *bench) { b.sysUnit("[Service]\nUser=pi\n") }, "state.dir", isFailed, "the clock runs as pi", "chown -R pi:", 1},
		{"a file that root left", "", func(b *bench) {
			left := b.file("state/outbox/left", "")
			b.devices[left] = node{mode: 0o600, uid: 0}
		}, "state.dir", isFailed, "outbox/left belongs to somebody else", "chown -R punchclock:", 1},
		{"a folder for all to read", "", func(b *bench) { b.stateMode(0o755) }, "state.dir", isWarning, "others may read", "chmod 700", 0},
		{"a folder nobody may write", "", func(b *bench) { b.stateMode(0o500) }, "state.dir", isFailed, "may not write", "chmod 700", 1},
		{"a tmpfs", "", mount("21 1 0:40 / / rw - tmpfs tmpfs rw"), "state.medium", isFailed, "gone after a power cut", "ext4", 1},
		{"an overlay", "", mount("21 1 0:40 / / rw - overlay overlay rw,lowerdir=/a"), "state.medium", isFailed, "gone after a power cut", "ext4", 1},
		{"read-only", "", mount("21 1 179:2 / / ro,noatime - ext4 /dev/root ro"), "state.medium", isFailed, "read-only", "remount", 1},
		{"read-only: time to store is not tried", "", mount("21 1 179:2 / / ro,noatime - ext4 /dev/root ro"), "state.sync", isUnknown, "not run: state.medium failed", "", 1},
		{"without barriers", "", mount("21 1 179:2 / / rw - ext4 /dev/root rw,nobarrier,data=writeback"), "state.medium", isWarning, "nobarrier, data=writeback", "fstab", 0},
		{"a network's file system", "", mount("21 1 0:41 / / rw - nfs4 srv:/x rw"), "state.medium", isWarning, "waits for the network", "ext4", 0},
		{"a card as it was sold", "", mount("21 1 179:1 / / rw - vfat /dev/mmcblk0p1 rw"), "state.medium", isWarning, "no journal", "ext4", 0},
		{"a kernel without mounts", "", gone("/proc/self/mountinfo"), "state.medium", isUnknown, "does not say", "", 3},
		{"full to the reserve", "", func(b *bench) {
			b.space = func(string) (space, error) { return space{10 << 20, 32e9, 1e6, 2e6}, nil }
		}, "state.space", isFailed, "no punch can be stored", "make room", 1},
		{"less than a fifth", "", func(b *bench) {
			b.space = func(string) (space, error) { return space{6e9, 32e9, 1e6, 2e6}, nil }
		}, "state.space", isWarning, "6.0 GB of 32 GB free (19 %)", "make room", 0},
		{"three weeks left", "", func(b *bench) {
			b.space = func(string) (space, error) { return space{6.9e6, 32e6, 1e6, 2e6}, nil }
		}, "state.space", isWarning, "space for 24 more days at this site's rate, 200 punches a day over 28 days", "make room", 0},
		{"no more files", "", func(b *bench) {
			b.space = func(string) (space, error) { return space{20e9, 32e9, 7, 2e6}, nil }
		}, "state.space", isFailed, "only 7 more files", "remove files", 1},
		{"nobody knows the space", "", func(b *bench) { b.space = func(string) (space, error) { return space{}, errors.New("EIO") } }, "state.space", isUnknown, "EIO", "", 3},
		{"a slow card", "", func(b *bench) {
			b.probe = func(context.Context, string, int) ([]time.Duration, error) { return ten(180 * time.Millisecond), nil }
		}, "state.sync", isWarning, "180ms", "card", 0},
		{"a card that refuses", "", func(b *bench) {
			b.probe = func(context.Context, string, int) ([]time.Duration, error) {
				return nil, errors.New("input/output error")
			}
		}, "state.sync", isFailed, "input/output", "new card", 1},
		{"a folder that this account may not write", "", func(b *bench) {
			b.probe = func(context.Context, string, int) ([]time.Duration, error) { return nil, fs.ErrPermission }
		}, "state.sync", isUnknown, "permission", "as root", 3},
		{"an eMMC that is nearly worn out", "", sys("/sys/devices/mmc0/mmc0:1/life_time", "0x09 0x01\n"), "state.life", isWarning, "80 to 90 %", "new medium", 0},
		{"an eMMC that is worn out", "", sys("/sys/devices/mmc0/mmc0:1/pre_eol_info", "0x03\n"), "state.life", isFailed, "outlived", "new medium", 1},
		{"an SD card", "", func(b *bench) {
			b.gone("/sys/devices/mmc0/mmc0:1/life_time")
			b.sys("/sys/devices/mmc0/mmc0:1/type", "SD\n")
		}, "state.life", isOK, "SD DG4032, made 03/2023; it does not tell", "", 0},
		{"what a day writes", "", func(*bench) {}, "state.wear", isOK, "491 MB written a day", "", 0},
		{"something that writes all day", "", sys("/sys/devices/mmc0/mmc0:1/block/mmcblk0/stat", " 1 2 3 4 5 6 20000000 8 9 10 11\n"), "state.wear", isWarning, "9.8 GB written a day", "iotop", 0},
		{"a machine's first day", "", sys("/proc/uptime", "80000.5 1.1\n"), "state.wear", absent, "", "", 0},
		{"a disk that is no card", "", mount("21 1 8:1 / / rw - ext4 /dev/sda1 rw"), "state.life", absent, "", "", 0},

		{"another program reads the files", "", func(b *bench) { b.stopped(); b.outboxErr = fmt.Errorf("x: %w", queue.ErrInUse) }, "outbox.open", isUnknown, "is starting", "again", 3},
		{"before the first punch", "", func(b *bench) { b.stopped(); b.outboxErr = fs.ErrNotExist }, "outbox.open", isOK, "no punch was ever stored", "", 3},
		{"before the first punch there is no chain", "", func(b *bench) { b.stopped(); b.outboxErr = fs.ErrNotExist }, "outbox.chain", absent, "", "", 3},
		{"a damaged outbox", "", func(b *bench) { b.stopped(); b.outboxErr = errors.New("page 3 is torn") }, "outbox.open", isFailed, "page 3", "punchclock verify", 1},
		{"files of another account", "", func(b *bench) { b.stopped(); b.outboxErr = fs.ErrPermission }, "outbox.open", isUnknown, "permission", "as root", 3},
		{"nobody could be asked", "", func(b *bench) {
			b.running, b.walk, b.holds = nil, nil, nil
			b.daemonErr = fs.ErrPermission
		}, "outbox.open", isUnknown, "was not asked", "as root", 3},
		{"a clock that stores nothing", "", running(func(s *status) { s.Outbox.Ready, s.Outbox.Problem = false, "no space left" }), "outbox.ready", isFailed, "no space left", "see above", 1},
		{"a file that was mended", "", running(func(s *status) { s.Outbox.Incident = "set aside 000000000001.db" }), "outbox.mended", isWarning, "set aside", "verify", 0},
		{"no second copy", "", running(func(s *status) { s.Outbox.Mirror = mirrorStatus{7, "no space"} }), "outbox.mirror", isWarning, "7 punches behind: no space", "rights", 0},
		{"a second copy far behind", "", running(func(s *status) { s.Outbox.Mirror.Behind = 5000 }), "outbox.mirror", isWarning, "5000 punches behind", "look again", 0},
		{"a changed record", "", func(b *bench) {
			b.answers(verifyLine{Report: &verifyReport{Records: 42, Problems: []queue.Problem{{Seq: 7, ID: "tpe-1f-lobby-000000000007", What: "is not what was written"}}}})
		}, "outbox.chain", isFailed, "tpe-1f-lobby-000000000007 is not what was written", "punchclock recover", 1},
		{"a walk that breaks off", "", func(b *bench) { b.answers(verifyLine{Error: "closed"}) }, "outbox.chain", isUnknown, "closed", "punchclock verify", 3},

		{"nobody has told the time", "", running(func(s *status) { s.Clock.State = "unset" }), "clock.time", isFailed, "stored and held", "time server", 1},
		{"on its own for a day", "", running(func(s *status) { s.Clock.clockStatus = clockStatus{"holdover", 43_000} }), "clock.time", isWarning, "within 43s", "time server", 0},
		{"on its own for an hour", "", running(func(s *status) { s.Clock.clockStatus = clockStatus{"holdover", 1800} }), "clock.time", isOK, "within 1.8s", "", 0},
		{"a time server that was away", "", running(func(s *status) { s.Clock.clockStatus = clockStatus{"synced", 9000} }), "clock.time", isWarning, "within 9s", "time server", 0},
		{"without the clock the kernel is asked", "", func(b *bench) { b.stopped(); b.kernel = clock.Kernel{} }, "clock.time", isFailed, "stored and held", "time server", 1},
		{"trusted as it is", "[clock]\ntrust = \"system\"\n", func(b *bench) { b.stopped(); b.kernel = clock.Kernel{} }, "clock.time", isOK, "trusted as it is", "", 3},
		{"far sides that are two minutes ahead", "", running(func(s *status) { x := 125.0; s.Clock.ServerSkew = &x }), "clock.skew", isWarning, "2 minutes ahead of this one", "battery clock", 0},
		{"far sides that agree", "", running(func(s *status) { x := -1.0; s.Clock.ServerSkew = &x }), "clock.skew", isOK, "1s apart", "", 0},
		{"a Pi without a battery clock", "", gone("/sys/class/rtc"), "clock.rtc", isWarning, "after a power cut without network", "DS3231", 0},
		{"a laptop without a battery clock", "", func(b *bench) { b.gone("/sys/class/rtc"); b.gone("/proc/device-tree/model") }, "clock.rtc", absent, "", "", 0},
		{"a battery clock in local time", "", sys("/sys/class/rtc/rtc0/since_epoch", fmt.Sprint(time.Date(2026, 11, 22, 17, 0, 0, 0, time.UTC).Unix())), "clock.rtc", isWarning, "off by 8 hours", "hwclock", 0},
		{"a battery clock without a battery", "", gone("/sys/class/rtc/rtc0/since_epoch"), "clock.rtc", isWarning, "battery may be empty", "hwclock", 0},
		{"a Raspberry Pi 5 without a cell", "", func(b *bench) {
			b.sys("/sys/class/rtc/rtc0/name", "rpi-rtc soc:rpi_rtc\n")
			b.output = func(_ context.Context, p string, args ...string) (string, error) {
				if slices.Contains(args, "BATT_V") {
					return "     BATT_V volt(24)=0.00488000V\n", nil
				}
				return noThai(context.Background(), p, args...)
			}
		}, "clock.rtc", isWarning, "a cell of 0.0 V", "plug a cell", 0},
		{"a Raspberry Pi 5 with one", "", func(b *bench) {
			b.sys("/sys/class/rtc/rtc0/name", "rpi-rtc soc:rpi_rtc\n")
			b.output = func(_ context.Context, p string, args ...string) (string, error) {
				if slices.Contains(args, "BATT_V") {
					return "     BATT_V volt(24)=3.01000000V\n", nil
				}
				return noThai(context.Background(), p, args...)
			}
		}, "clock.rtc", isOK, "runs", "", 0},
		{"a battery clock that came too late", "", sys("/sys/class/rtc/rtc0/hctosys", "0\n"), "clock.rtc", isWarning, "did not set the time", "fake-hwclock", 0},

		{"no roster", "", func(b *bench) { b.holds.Roster = nil }, "roster.people", isWarning, "every badge is stored as unknown", "roster import", 0},
		{"an empty roster", "", func(b *bench) { b.holds.Roster.Counts = roster.Counts{} }, "roster.people", isWarning, "0 people", "roster import", 0},
		{"nobody has no badge", "", func(b *bench) { b.holds.Roster = nil }, "roster.badges", absent, "", "", 0},
		{"an old roster", "", func(b *bench) { b.holds.Roster.Changed = b.now.AddDate(-1, 0, 0) }, "roster.people", isWarning, "changed 365 days ago", "HR", 0},
		{"a damaged roster", "", func(b *bench) { b.stopped(); b.rosterErr = errors.New("damaged") }, "roster.people", isFailed, "damaged", "roster import", 1},
		{"a roster of another account", "", func(b *bench) { b.stopped(); b.rosterErr = fs.ErrPermission }, "roster.people", isUnknown, "permission", "as root", 3},
		{"a clock that cannot count", "", func(b *bench) { b.holds, b.holdsErr = nil, errors.New("404 page not found") }, "roster.people", isUnknown, "404", "restart", 3},
		{"people who cannot punch", "", func(b *bench) { b.holds.Roster.NoBadge, b.holds.Roster.NoMeans = 5, 2 }, "roster.badges", isWarning, "53 of 58 have a badge; 2 have neither", "PIN", 0},
		{"cards that are one", "", func(b *bench) { b.holds.Roster.Clashes = 1 }, "roster.badges", isFailed, "1 pairs", "same_card", 1},
		{"a source that is away", "", running(func(s *status) { s.Roster = &rosterStatus{Source: "https://hr.example/x", Problem: "HTTP 500"} }), "roster.source", isFailed, "HTTP 500", "last good roster", 1},
		{"a source in order", "", running(func(s *status) { s.Roster = &rosterStatus{Source: "https://hr.example/x"} }), "roster.source", isOK, "hr.example", "", 0},

		{"a far side that is off", "", func(*bench) {}, "dest.signin.delivery", isOK, "nothing is sent", "", 0},
		{"no such host", "", func(b *bench) {
			b.lookup = func(context.Context, string) ([]string, error) {
				return nil, &net.DNSError{Name: "far.example", IsNotFound: true}
			}
		}, "dest.104.name", isFailed, "far.example: no such host", "address", 1},
		{"no name server", "", func(b *bench) {
			b.lookup = func(context.Context, string) ([]string, error) {
				return nil, &net.DNSError{Name: "far.example", IsTimeout: true}
			}
		}, "dest.104.name", isFailed, "does not answer", "cable", 1},
		{"the proxy is looked for", "", func(b *bench) {
			b.cfg.Destinations[0].Proxy = "http://proxy.corp:3128"
			b.lookup = func(_ context.Context, host string) ([]string, error) {
				if host != "proxy.corp" {
					t.Errorf("asked for %s, which only the proxy needs to find", host)
				}
				return []string{"192.0.2.1"}, nil
			}
		}, "dest.104.name", isOK, "the proxy proxy.corp is 192.0.2.1", "", 0},
		{"no connection", "", func(b *bench) {
			b.reach = func(context.Context, drain.ClientOptions, string) (drain.Reached, error) {
				return drain.Reached{}, errors.New("connection refused")
			}
		}, "dest.104.certificate", isFailed, "far.example: connection refused", "firewall", 1},
		{"a certificate that ends soon", "", func(b *bench) { b.chain[0].NotAfter = b.now.Add(100 * time.Hour) }, "dest.104.certificate", isWarning, "by Good Roots, 2026-08-22 to 2026-11-26, 4 days left", "renew", 0},
		{"a certificate that has ended", "", func(b *bench) {
			b.chain[0].NotAfter = b.now.Add(-time.Hour)
			b.untrusted("it ended on 2026-11-22")
		}, "dest.104.certificate", isFailed, "it ended", "renew", 1},
		{"a certificate of the future, by a wrong clock", "", func(b *bench) {
			b.now = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
			b.running.Clock.State = "unset"
			b.untrusted("it begins on 2026-08-22")
		}, "dest.104.certificate", isFailed, "it begins", "set this machine's clock", 1},
		{"a certificate of a stranger", "", func(b *bench) { b.untrusted("an authority that this device does not know") }, "dest.104.certificate", isFailed, "does not know", "ca_file", 1},
		{"a sandbox on this machine", "", func(b *bench) { b.chain = nil }, "dest.104.certificate", isOK, "without TLS", "", 0},
		{"no call while the clock runs", "", func(b *bench) { b.network = noCalls{t} }, "dest.104.token", absent, "", "", 0},
		{"no call while nobody knows whether it runs", "", func(b *bench) {
			b.network = noCalls{t}
			b.running, b.daemonErr = nil, fmt.Errorf("x: %w", fs.ErrPermission)
		}, "dest.104.token", absent, "", "", 3},
		{"a far side that is away", "", dest(func(d *destinationStatus) {
			d.State, d.LastError, d.Pending, d.OldestUnsentSeconds = "retrying", "no connection", 12, 7300
		}), "dest.104.delivery", isFailed, "retrying, 12 punches wait, the oldest for 2 hours, last success 2026-11-22T08:58:03.123+08:00\nno connection", "nothing is lost", 1},
		{"a wrong secret", "", dest(func(d *destinationStatus) { d.State, d.LastError = "auth_failed", "refused" }), "dest.104.delivery", isFailed, "refused", "104-secret; no restart is needed", 1},
		{"a wrong secret that systemd has handed over", "", func(b *bench) {
			os.Remove(filepath.Join(b.dir, "104-secret"))
			b.sys("/etc/credstore/104-secret", "s3cret")
			b.running.Destinations[0].State = "auth_failed"
		}, "dest.104.delivery", isFailed, "auth_failed", "into /etc/credstore/104-secret, then: systemctl restart punchclock", 1},
		{"a wrong setting", "", dest(func(d *destinationStatus) { d.State, d.LastError = "misconfigured", "api_base" }), "dest.104.delivery", isFailed, "api_base", "configuration", 1},
		{"punches that are held", "", dest(func(d *destinationStatus) { d.Pending, d.OldestUnsentSeconds = 3, 4000 }), "dest.104.delivery", isWarning, "3 punches wait", "clock.time", 0},
		{"parked punches", "", dest(func(d *destinationStatus) { d.Parked = 4 }), "dest.104.parked", isWarning, "4 punches wait for a person", "queue ls", 0},
		{"a far side that the clock does not know", "", running(func(s *status) { s.Destinations = nil }), "dest.104.delivery", isFailed, "does not know it", "restart", 1},
		{"what waits while no clock runs", "", func(b *bench) { b.stopped(); b.holds.Destinations["104"] = waits{2, 1, 60} }, "dest.104.delivery", isOK, "2 punches wait, the oldest for 1m0s", "", 3},

		{"an unplugged reader", "", func(b *bench) { delete(b.devices, "/dev/serial/by-id/usb-reader") }, "reader.front.device", isFailed, "/dev/serial/by-id/usb-reader is not there", "plug it in", 4},
		{"a file in a reader's place", "", func(b *bench) { b.devices["/dev/serial/by-id/usb-reader"] = node{mode: 0o600} }, "reader.front.device", isFailed, "is no device", "by-id", 1},
		{"a name that may change", "", func(b *bench) {
			b.cfg.Readers[0].Port = "/dev/ttyUSB0"
			n := b.devices["/dev/serial/by-id/usb-reader"]
			b.devices["/dev/ttyUSB0"] = n
		}, "reader.front.device", isWarning, "/dev/ttyUSB0", "by-id", 0},
		{"the console on the reader's line", "", sys("/sys/class/tty/console/active", "tty0 ttyUSB0\n"), "reader.front.device", isFailed, "own console", "no login shell", 1},
		{"a group that is missing", "", func(b *bench) {
			b.named = func(name string) (login, bool) { return login{999, name, []int{997}, nil}, true }
		}, "reader.front.access", isFailed, "-rw-rw---- root:dialout: the account punchclock may not open it", "usermod -aG dialout punchclock", 1},
		{"a group that the unit adds", "", func(b *bench) {
			b.named = func(name string) (login, bool) { return login{999, name, []int{997}, nil}, true }
			b.sysUnit("[Service]\nUser=punchclock\n")
			b.sys("/etc/systemd/system/punchclock.service.d/groups.conf", "[Service]\nSupplementaryGroups=x dialout\n")
			b.findUnit()
		}, "reader.front.access", isOK, "the account punchclock may open it", "", 0},
		{"another program has the port", "", func(b *bench) {
			b.stopped()
			b.holds = nil
			b.port = func(string, int) error { return errors.New("device or resource busy") }
		}, "reader.front.access", isFailed, "busy", "fuser", 1},
		{"the port is free", "", (*bench).stopped, "reader.front.access", isOK, "opened at 9600 baud", "", 3},
		{"a reader that is down", "", running(func(s *status) { s.Readers[0].State = "down" }), "reader.front.listening", isFailed, "down", "journalctl", 1},
		{"a noisy reader", "", traffic(readerTraffic{Hour: 3, Usual: 2, Faults: 31}), "reader.front.traffic", isWarning, "3 punches in the last whole hour, usually 2 or more; 31 frames thrown away", "cable", 0},
		{"a reader that was noisy once", "", running(func(s *status) { s.Readers[0].Faults = map[string]uint64{"noise": 120, "length": 1} }), "reader.front.listening", isOK, "faults since the start: 1 length, 120 noise", "", 0},
		{"a reader that works", "", traffic(readerTraffic{Hour: 5, Usual: 5, OneCard: 20, Faults: 30}), "reader.front.traffic", isOK, "5 punches in the last whole hour", "", 0},
		{"a reader that nobody punches at, where people did", "", traffic(readerTraffic{Usual: 5}), "reader.front.traffic", isWarning, "never fewer than 5 punches", "tap a card there", 0},
		{"a reader that is silent at night", "", traffic(readerTraffic{Usual: 4}), "reader.front.traffic", isOK, "0 punches", "", 0},
		{"a card that lies on the reader", "", traffic(readerTraffic{Hour: 21, OneCard: 21, Faults: 40}), "reader.front.traffic", isWarning, "one card 21 times", "take away the card", 0},
		{"a reader that is down has no traffic", "", running(func(s *status) { s.Readers[0].State, s.Readers[0].Traffic = "down", &readerTraffic{Usual: 9} }), "reader.front.traffic", isUnknown, "not run: reader.front.listening failed", "", 1},
		{"a new reader", "", running(func(s *status) { s.Readers[0].LastEvent = "" }), "reader.front.listening", isOK, "nothing read since the start", "", 0},
		{"a reader that the clock does not know", "", running(func(s *status) { s.Readers = nil }), "reader.front.listening", isFailed, "does not know it", "restart", 1},
		{"a keyboard that is not there", "[[reader]]\nname = \"usb\"\ndriver = \"evdev\"\nusb = \"08ff:0009\"\n", func(*bench) {}, "reader.usb.device", isFailed, "no keyboard is 08ff:0009", "plug it in", 4},
		{"a bus that is off", "[[reader]]\nname = \"card\"\ndriver = \"mfrc522\"\nport = \"/dev/spidev0.1\"\n", func(*bench) {}, "reader.card.device", isFailed, "is not there", "dtparam=spi=on", 4},
		{"a bus that is on", "[[reader]]\nname = \"card\"\ndriver = \"mfrc522\"\n", func(*bench) {}, "reader.card.access", isOK, "root:spi", "", 1}, // which the clock in this test does not know
		{"standard input", "[[reader]]\nname = \"desk\"\ndriver = \"stdin\"\n", (*bench).stopped, "reader.desk.device", isOK, "standard input", "", 3},

		{"no GPIO", "", func(b *bench) {
			b.chips = func() ([]gpiochip.Info, error) {
				return nil, fmt.Errorf("this machine has no GPIO: %w", device.ErrMissing)
			}
		}, "gpio.chip", isFailed, "no GPIO", "Raspberry Pi", 4},
		{"another board's GPIO", "", func(b *bench) {
			b.chips = func() ([]gpiochip.Info, error) {
				return []gpiochip.Info{{Path: "/dev/gpiochip0", Label: "other", Lines: make([]gpiochip.Line, 4)}}, nil
			}
		}, "gpio.chip", isFailed, "there is other (/dev/gpiochip0, 4 lines)", "write a line", 4},
		{"a chip of root alone", "", func(b *bench) {
			b.devices["/dev/gpiochip0"] = node{mode: fs.ModeCharDevice | 0o600, real: "/dev/gpiochip0"}
		}, "gpio.chip", isFailed, "the account punchclock may not open it", "60-punchclock.rules", 1},
		{"a chip that this account may not open", "", func(b *bench) {
			b.chips = func() ([]gpiochip.Info, error) { return nil, fs.ErrPermission }
		}, "gpio.chip", isUnknown, "permission", "as root", 3},
		{"a chip that is none", "", func(b *bench) { b.chips = func() ([]gpiochip.Info, error) { return nil, errors.New("no GPIO chip") } }, "gpio.chip", isUnknown, "no GPIO chip", "", 3},
		{"a line that an overlay has", "", func(b *bench) { b.taken(17, "onewire@11") }, "gpio.lines", isFailed, `GPIO17 (green) by "onewire@11"`, "overlay", 1},
		{"a line that is ours", "", func(b *bench) { b.taken(17, "punchclock@812") }, "gpio.lines", isOK, "green GPIO17 ours", "", 0},
		{"a line that a clock has, which nobody knows to run", "", func(b *bench) { b.stopped(); b.taken(17, "punchclock@812") }, "gpio.lines", isFailed, "punchclock@812", "overlay", 1},
		{"a keypad's lines", "[[reader]]\nname = \"pad\"\ndriver = \"keypad\"\nrows = [\"GPIO5\", \"GPIO6\", \"GPIO13\", \"GPIO19\"]\ncolumns = [\"pin 32\", \"GPIO16\", \"GPIO20\"]\n",
			func(b *bench) { b.taken(12, "") }, "gpio.lines", isFailed, `pin 32 (reader pad) by "somebody"`, "overlay", 1},

		{"a page that is not there", "", func(b *bench) {
			b.page = func(context.Context, string) (int, string, error) { return 0, "", errors.New("connection refused") }
		}, "page.answers", isFailed, "http://127.0.0.1:8080 does not answer", "ss -ltnp", 1},
		{"a page that says no", "", func(b *bench) {
			b.page = func(context.Context, string) (int, string, error) { return 503, "no space left", nil }
		}, "page.answers", isFailed, "no space left", "see above", 1},
		{"an address that is taken", "", func(b *bench) {
			b.stopped()
			b.listen = func(string) error { return errors.New("address already in use") }
		}, "page.answers", isFailed, "already in use", "kiosk.listen", 1},
		{"a page that is off", "", func(b *bench) { b.cfg.Kiosk.Listen = "" }, "page.answers", absent, "", "", 0},
		{"a display on a bus that is off", "[display]\ndriver = \"ssd1306\"\n", func(*bench) {}, "display.device", isFailed, "/dev/i2c-1 is not there", "dtparam=i2c_arm=on", 4},
		{"a display", "[display]\ndriver = \"ssd1306\"\n", func(b *bench) {
			b.devices["/dev/i2c-1"] = node{mode: fs.ModeDevice | fs.ModeCharDevice | 0o660, gid: 30, real: "/dev/i2c-1"}
		}, "display.access", isOK, "the account punchclock may open it", "", 0},
		{"a screen without a display", "[screen]\ndevice = \"auto\"\n", func(*bench) {}, "screen.device", isFailed, "/dev/dri/card0 is not there", "vc4-kms-v3d", 4},
		{"a screen", "[screen]\ndevice = \"auto\"\n", func(b *bench) {
			b.devices["/dev/dri/card1"] = node{mode: fs.ModeDevice | fs.ModeCharDevice | 0o660, gid: 30, real: "/dev/dri/card1"}
		}, "screen.access", isOK, "the account punchclock may open it", "", 0},
		{"a Wiegand reader's lines", "[[reader]]\nname = \"gate\"\ndriver = \"wiegand\"\nd0 = \"GPIO22\"\nd1 = \"GPIO23\"\n", func(b *bench) { b.taken(23, "spi0 CS1") }, "gpio.lines", isFailed, `GPIO23 (reader gate) by "spi0 CS1"`, "overlay", 1},
		{"no font for Thai", "", func(b *bench) {
			b.holds.Roster.Languages = []string{"th", "en"}
			b.output = noThai
		}, "page.fonts", isFailed, "none can write th", "fonts-noto-core", 1},
		{"nobody to ask for fonts", "", func(b *bench) {
			b.find = func(p string) (string, error) {
				if p == "fc-list" {
					return "", errors.New("not found")
				}
				return p, nil
			}
		}, "page.fonts", isUnknown, "nobody to ask", "fontconfig", 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, tc.extra)
			tc.breaks(b)
			r := b.examine()
			c, there := r.find(tc.id)
			switch {
			case tc.state == absent && !there:
			case tc.state == absent || !there:
				t.Errorf("%s is there: %v, %+v", tc.id, there, c)
			case c.State != tc.state || !strings.Contains(c.Detail, tc.detail):
				t.Errorf("%s %q, want %s with %q", c.State, c.Detail, tc.state, tc.detail)
			case !strings.Contains(c.Remedy, tc.remedy), tc.remedy == "" && c.Remedy != "", strings.Contains(c.Remedy, "\n"):
				t.Errorf("remedy %q, want %q", c.Remedy, tc.remedy)
			}
			if r.Exit != tc.exit {
				t.Errorf("exit %d, want %d: %v", r.Exit, tc.exit, r.err())
			}
		})
	}
}

func (b *bench) sysUnit(text string) {
	b.sys("/etc/systemd/system/punchclock.service", text)
	b.findUnit()
}

func (b *bench) stateMode(mode fs.FileMode) {
	state := filepath.Join(b.dir, "state")
	n := b.devices[state]
	n.mode = fs.ModeDir | mode
	b.devices[state] = n
}

// taken gives a line of the header to somebody.
func (b *bench) taken(line int, who string) {
	chips, err := b.chips()
	if err != nil {
		b.t.Fatal(err)
	}
	chips[0].Lines[line].Used, chips[0].Lines[line].User = true, who
}

func (b *bench) untrusted(why string) {
	b.reach = func(context.Context, drain.ClientOptions, string) (drain.Reached, error) {
		return drain.Reached{Chain: b.chain, Untrusted: errors.New(why)}, nil
	}
}

// answers is what a walk along the chain comes to.
func (b *bench) answers(l verifyLine) {
	b.walk = func(context.Context) (io.ReadCloser, func(), error) {
		text, err := json.Marshal(l)
		return io.NopCloser(bytes.NewReader(text)), func() {}, err
	}
}

// noCalls is a network on which nobody may call.
type noCalls struct{ t *testing.T }

func (n noCalls) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("a call to %s while the clock may be running", r.URL.Host)
	return nil, errors.New("no")
}

func noThai(_ context.Context, p string, args ...string) (string, error) {
	switch {
	case filepath.Base(p) == "systemd-analyze":
		return "→ Overall exposure level for punchclock.service: 1.7 OK\n", nil
	case filepath.Base(p) == "vcgencmd":
		return "throttled=0x0\n", nil
	case slices.Contains(args, ":lang=th"):
		return "", nil
	}
	return "Noto Sans CJK TC\n", nil
}

func TestAFaultIsTheFirstOfTheExitCodes(t *testing.T) {
	b := newBench(t, "")
	b.stopped()                                             // 3
	b.sys("/sys/class/thermal/thermal_zone0/temp", "90000") // 1
	delete(b.devices, "/dev/serial/by-id/usb-reader")       // 4
	if r := b.examine(); r.Exit != 4 || r.Summary.Fail != 2 {
		t.Errorf("exit %d, %+v: hardware that is missing comes before what failed", r.Exit, r.Summary)
	}
	os.Remove(filepath.Join(b.dir, "104-secret"))
	r := b.examine()
	if r.Exit != 2 {
		t.Errorf("exit %d: a wrong configuration comes first", r.Exit)
	}
	err := r.err()
	if err == nil || !strings.Contains(err.Error(), "machine.temperature, config.secrets, reader.front.device") {
		t.Errorf("%v", err)
	}
}

// A token is asked for by the far side's own client, and only while no clock runs.
func TestWithoutAClockTheFarSidesAreAskedForAToken(t *testing.T) {
	for _, c := range []struct {
		name           string
		breaks         func(*bench)
		state          verdict
		detail, remedy string
	}{
		{"a right secret", func(*bench) {}, isOK, "a token was given", ""},
		{"a wrong one", func(b *bench) { b.file("104-secret", "nonsense") }, isFailed, "auth_failed: transfercard: token call: refused", "client_secret_file"},
		{"none that this account may read", func(b *bench) {
			os.Remove(filepath.Join(b.dir, "104-secret"))
			b.sys("/etc/credstore.encrypted/104-secret", "sealed")
		}, isUnknown, "only systemd", "systemctl start"},
		{"a far side that is away", func(b *bench) {
			b.network = inMemory{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) })}
		}, isFailed, "HTTP 502", "nothing is lost"},
		{"a clock an hour behind", func(b *bench) {
			b.network = inMemory{dated{b.network.(inMemory).h.(dated).Handler, func() time.Time { return b.now.Add(time.Hour) }}}
		}, isWarning, "60 minutes ahead of this one", "time server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "")
			b.stopped()
			c.breaks(b)
			got, _ := b.examine().find("dest.104.token")
			if got.State != c.state || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Remedy, c.remedy) || strings.Contains(got.Detail+got.Remedy, "nonsense") {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("a sign-in password counts", func(t *testing.T) {
		si := sandbox.NewSignin(sandbox.SigninConfig{})
		b := newBench(t, `[[destination]]
name = "door"
driver = "signin"
mode = "service_account"
base_url = "https://signin.example"
user_id = "svc"
password_file = "pw"
`)
		b.stopped()
		b.network = inMemory{dated{si, func() time.Time { return b.now }}}
		b.file("pw", "wrong-password")
		got, _ := b.examine().find("dest.door.token")
		if got.State != isFailed || !strings.Contains(got.Detail, "a wrong password counts as a try there") || strings.Contains(got.Detail, "wrong-password") {
			t.Errorf("%+v", got)
		}
	})
}

func TestChecksRunInTimeAndInOrder(t *testing.T) {
	quick := func(state verdict) func(context.Context) sight {
		return func(context.Context) sight { time.Sleep(time.Second); return sight{state: state, detail: "x"} }
	}
	t.Run("side by side, but for the medium's", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			var done []int
			out := examine(t.Context(), []check{
				{id: "a", run: quick(isOK)}, {id: "b", run: quick(isOK)}, {id: "a.x", parent: "a", run: quick(isWarning)},
				{id: "m1", medium: true, run: quick(isOK)}, {id: "m2", medium: true, run: quick(isOK)}, {id: "m3", medium: true, run: quick(isOK)},
			}, func(n int) { done = append(done, n) })
			if took := time.Since(begin); took != 3*time.Second || len(out) != 6 || !slices.Equal(done, []int{1, 2, 3, 4, 5, 6}) {
				t.Errorf("%v, %d, %v", took, len(out), done)
			}
			if out[2].ID != "a.x" || out[2].State != isWarning {
				t.Errorf("%+v", out[2])
			}
		})
	})
	t.Run("nothing below a fault", func(t *testing.T) {
		never := func(context.Context) sight { t.Error("run below a fault"); return sight{} }
		synctest.Test(t, func(t *testing.T) {
			out := examine(t.Context(), []check{
				{id: "a", run: quick(isFailed)}, {id: "a.x", parent: "a", run: never}, {id: "a.x.y", parent: "a.x", run: never},
				{id: "gone", run: quick(isAbsent)}, {id: "gone.x", parent: "gone", run: never},
			}, func(int) {})
			if len(out) != 3 || out[1].Detail != "not run: a failed" || out[2].Detail != "not run: it needs a.x" {
				t.Errorf("%+v", out)
			}
		})
	})
	t.Run("one that hangs in the kernel", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			out := examine(t.Context(), []check{{id: "hangs", run: func(context.Context) sight { time.Sleep(time.Hour); return ok("late") }}, {id: "b", run: quick(isOK)}}, func(int) {})
			if took := time.Since(begin); took != checkLimit+afterLimit || out[0].State != isUnknown || out[0].Detail != "no answer within 10s" || out[1].State != isOK {
				t.Errorf("%v: %+v", took, out)
			}
			time.Sleep(2 * time.Hour) // the bubble wants to see everybody gone
		})
	})
	t.Run("all together, and Ctrl-C", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			hang := func(ctx context.Context) sight { <-ctx.Done(); return unknown("", "cut off") }
			var many []check
			for i := range 20 {
				many = append(many, check{id: fmt.Sprint(i), medium: true, run: hang})
			}
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), doctorLimit)
			defer cancel()
			examine(ctx, many, func(int) {})
			if took := time.Since(begin); took > doctorLimit+time.Second {
				t.Errorf("it took %v", took)
			}
			ctx, interrupt := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Second, interrupt)
			begin = time.Now()
			out := examine(ctx, many, func(int) {})
			if took := time.Since(begin); took > 4*time.Second || len(out) != 20 {
				t.Errorf("interrupted: %v, %d", took, len(out))
			}
		})
	})
}

// The page is read on paper: it must be whole, need nothing from anywhere, and hold
// what a far side said only as text.
func TestTheJobSheetIsWholeAndNeedsNothing(t *testing.T) {
	b := newBench(t, "")
	b.running.Destinations[0].State, b.running.Destinations[0].LastError = "retrying", `<script>alert("x")</script> & more`
	var page bytes.Buffer
	if err := b.examine().html(&page); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, no := range []string{"<script", "src=", "href=", "url(", "@import"} {
		if strings.Contains(text, no) {
			t.Errorf("the page holds %q", no)
		}
	}
	for _, yes := range []string{"tpe-1f-lobby", "2026-11-22T", "技術人員", "destination 104", "x FAIL", "&lt;script&gt;", "1 failed"} {
		if !strings.Contains(text, yes) {
			t.Errorf("the page lacks %q", yes)
		}
	}
	d := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(text, "<!DOCTYPE html>")))
	d.Entity = xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
}

func TestTheReportInJSONKeepsItsForm(t *testing.T) {
	b := newBench(t, "")
	b.gone("/sys/class/rtc")
	text, err := json.Marshal(b.examine())
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	keys := func(m any) (out []string) {
		for k := range m.(map[string]any) {
			out = append(out, k)
		}
		slices.Sort(out)
		return out
	}
	if got := fmt.Sprint(keys(r)); got != "[at checks device exit schema summary version]" {
		t.Errorf("%s", got)
	}
	if got := fmt.Sprint(keys(r["summary"])); got != "[fail ok unknown warn]" {
		t.Errorf("%s", got)
	}
	for _, c := range r["checks"].([]any) {
		if got := fmt.Sprint(keys(c)); got != "[detail id parent remedy state title]" {
			t.Errorf("%s", got)
		}
		if s := c.(map[string]any)["state"]; !slices.Contains([]any{"ok", "warn", "fail", "unknown"}, s) {
			t.Errorf("state %v", s)
		}
	}
	if r["schema"] != 1.0 || r["exit"] != 0.0 {
		t.Errorf("schema %v, exit %v", r["schema"], r["exit"])
	}
}

func TestTheRateIsOfTheLastFourWeeks(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) punch.Punch {
		return punch.Punch{Draft: punch.Draft{Stamp: punch.Stamp{Wall: now.Add(-ago), Clock: punch.Synced}}}
	}
	const day = 24 * time.Hour
	for _, tc := range []struct {
		tail         []punch.Punch
		perDay, days float64
	}{
		{nil, 0, 0},
		{[]punch.Punch{at(60 * day)}, 0, 0},
		{[]punch.Punch{at(time.Hour), at(time.Minute)}, 2, 1},
		{[]punch.Punch{at(60 * day), at(10 * day), at(day), at(-day)}, 0.2, 10},
	} {
		if perDay, days := rate(tc.tail, now); perDay != tc.perDay || days != tc.days {
			t.Errorf("%d punches: %v a day over %v", len(tc.tail), perDay, days)
		}
	}
}

// The probe leaves nothing behind, and measures something.
func TestTheProbeLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	took, err := probeSync(t.Context(), dir, probes)
	if err != nil || len(took) != probes || slices.Min(took) <= 0 {
		t.Errorf("%v, %v", took, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := probeSync(t.Context(), filepath.Join(dir, "absent"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
