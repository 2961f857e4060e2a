package main

import (
	"bytes"
	"cmp"
	endian "encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// What a card may hold, as a technician writes it. The secrets are told apart from
// everything else by their form, so that any of them is found wherever it is left.
const (
	canary104    = "CANARY-104-9f3a61c2"
	canaryFeishu = "CANARY-feishu-77b0e5d4"
	canaryWiFi   = "CANARY-wifi-c0ffee12"
)

const goodCard = `schema = 1

[device]
id       = "tpe-1f-lobby"           # 台北
name     = "台北總部一樓"
timezone = "Asia/Taipei"
state_dir = "STATE"

[secrets]
104-secret = "` + canary104 + `"
wifi-psk = '` + canaryWiFi + `'
# old one: CANARY-old-104

# the reader at the door
[[reader]]
name    = "front"
driver  = "serial"
port    = "/dev/ttyUSB0"

[network]
ntp = ["time.stdtime.gov.tw"]
[network.wired]
address = "192.168.7.20/24"
gateway = "192.168.7.1"
dns = ["192.168.7.1", "1.1.1.1"]
[network.wifi]
ssid = "一樓 Office"
country = "TW"

[[destination]]
name               = "104"
driver             = "transfercard"
client_id          = "clock"
client_secret_file = "104-secret"

[[destination]]
name            = "feishu"
driver          = "feishu"
app_id          = "cli_x"
app_secret_file = "feishu-secret"
`

// cardClock is a clock's card: the partition that a computer sees, and the clock's own.
type cardClock struct {
	*provisioner
	t    *testing.T
	root string
}

func newCardClock(t *testing.T) *cardClock {
	t.Helper()
	root := t.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "card"); err == nil { // syncs cost nothing there, and there are thousands
		t.Cleanup(func() { os.RemoveAll(dir) })
		root = dir
	}
	c := &cardClock{t: t, root: root, provisioner: &provisioner{boot: filepath.Join(root, "boot"), config: filepath.Join(root, "etc/punchclock/punchclock.toml"),
		credentials: filepath.Join(root, "etc/credstore"), network: filepath.Join(root, "etc/network"), wifi: filepath.Join(root, "etc/wifi/wlan0.conf"),
		state: filepath.Join(root, "var/provision"), have: built(), lasts: func(string) bool { return true }}}
	if err := os.Mkdir(c.boot, 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

// text puts this clock's state directory into a file.
func (c *cardClock) text(s string) string {
	return strings.ReplaceAll(s, "STATE", filepath.Join(c.root, "var/punchclock"))
}

// put lays files on the card, in pairs of name and text.
func (c *cardClock) put(pairs ...string) {
	c.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		path := filepath.Join(c.boot, pairs[i])
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(c.text(pairs[i+1])), 0o644)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// onCard is all that the card's partition holds, names included.
func (c *cardClock) onCard() string {
	c.t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(c.boot, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(&all, "== %s\n%s\n", e.Name(), b)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return all.String()
}

func (c *cardClock) read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	return string(b)
}

// works checks that the clock has all that the good card told it.
func (c *cardClock) works() {
	c.t.Helper()
	c.t.Setenv("CREDENTIALS_DIRECTORY", c.credentials)
	cfg, err := loadConfig(c.config, c.have)
	if err != nil {
		c.t.Fatalf("the configuration: %v\n%s", err, c.onCard())
	}
	if faults, warnings := cfg.checkFiles(); len(faults)+len(warnings) > 0 {
		c.t.Errorf("the configuration's files: %v %v", faults, warnings)
	}
	for name, want := range map[string]string{"104-secret": canary104, "feishu-secret": canaryFeishu, wifiSecret: canaryWiFi} {
		if s, err := readSecret(filepath.Join(c.credentials, name)); s != want {
			c.t.Errorf("%s: %q, %v", name, s, err)
		}
	}
	for path, want := range map[string]string{
		filepath.Join(c.network, "10-punchclock-wired.network"): "Address=192.168.7.20/24\nDNS=192.168.7.1\nDNS=1.1.1.1\nNTP=time.stdtime.gov.tw\n\n[Route]\nGateway=192.168.7.1\n",
		filepath.Join(c.network, "10-punchclock-wifi.network"):  "DHCP=yes\n",
		c.wifi: "country=TW\nnetwork={\n\tssid=" + fmt.Sprintf("%x", "一樓 Office") + "\n",
	} {
		if !strings.Contains(c.read(path), want) {
			c.t.Errorf("%s:\n%s", path, c.read(path))
		}
	}
	for path, want := range map[string]fs.FileMode{c.wifi: 0o600, c.config: 0o644, filepath.Join(c.credentials, "104-secret"): 0o600, c.credentials: 0o700 | fs.ModeDir} {
		if st, err := os.Stat(path); err != nil || st.Mode() != want {
			c.t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
	}
	if s := c.read(c.config); strings.Contains(s, "CANARY") || strings.Contains(s, "[network") || !strings.Contains(s, "# 台北\n") {
		c.t.Errorf("installed:\n%s", s)
	}
}

// clean checks that nothing is under way, and that no secret is anywhere but where
// secrets belong.
func (c *cardClock) clean() {
	c.t.Helper()
	if s := c.onCard(); strings.Contains(strings.ReplaceAll(s, "\x00", ""), "CANARY") { // UTF-16 has zeros between
		c.t.Errorf("a secret is on the card:\n%s", s)
	}
	err := filepath.WalkDir(c.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if strings.HasSuffix(path, ".new") || e.Name() == planName {
			c.t.Errorf("left over: %s", path)
		}
		secret := strings.HasPrefix(path, c.credentials+"/") || strings.HasPrefix(path, filepath.Join(c.state, "pending")+"/")
		if !secret && strings.Contains(c.read(path), "CANARY") {
			c.t.Errorf("a secret is in %s", path)
		}
		if st, err := e.Info(); secret && (err != nil || st.Mode() != 0o600) {
			c.t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func utf16Text(order endian.ByteOrder, s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune("\uFEFF" + s)) {
		b = append(b, 0, 0)
		order.PutUint16(b[len(b)-2:], u)
	}
	return string(b)
}

// Each file of a technician ends in a clock that works, or in what to write where;
// and in no case is a secret left on the card.
func TestEveryCardEndsInAClockOrInTheLineToCorrect(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(goodCard, old) {
			t.Fatalf("the card holds no %q", old)
		}
		return strings.Replace(goodCard, old, new, 1)
	}
	notepad := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	feishu := []string{"feishu-secret", canaryFeishu + "\n"}
	for _, tc := range []struct {
		name  string
		files []string // beside nothing else; pairs
		at    string   // line:column of the first mistake, "" for none
		want  string   // of its words and remedy
		kept  string   // secrets that need not be written again
	}{
		{name: "as it should be", files: append([]string{"punchclock.toml", goodCard}, feishu...)},
		{name: "all secrets inline", files: []string{"punchclock.toml", edit("[secrets]\n", "[secrets]\nfeishu-secret = \""+canaryFeishu+"\"\n")}},
		{name: "Notepad's mark and line ends", files: []string{"punchclock.toml", "\uFEFF" + notepad(goodCard), "feishu-secret.txt", "\uFEFF" + canaryFeishu + "\r\n"}},
		{name: "Notepad's name", files: append([]string{"PunchClock.toml.txt", notepad(goodCard)}, feishu...)},
		{name: "UTF-16 as Notepad saves it", files: []string{"punchclock.toml", utf16Text(endian.LittleEndian, notepad(goodCard)), "feishu-secret.txt", utf16Text(endian.LittleEndian, canaryFeishu+"\r\n")}},
		{name: "UTF-16 the other way", files: append([]string{"punchclock.toml", utf16Text(endian.BigEndian, goodCard)}, feishu...)},
		{name: "secret in a folder of the card", files: []string{"punchclock.toml", goodCard, "secrets/Feishu-Secret.TXT", canaryFeishu}},
		{name: "the sections as dotted keys", files: append([]string{"punchclock.toml", "secrets.104-secret = \"" + canary104 + "\"\nsecrets.wifi-psk = \"" + canaryWiFi + "\"\n" +
			strings.Replace(goodCard, "[secrets]\n104-secret = \""+canary104+"\"\nwifi-psk = '"+canaryWiFi+"'\n# old one: CANARY-old-104\n", "", 1)}, feishu...)},
		{name: "the same secret twice", files: append([]string{"punchclock.toml", goodCard, "104-secret", canary104}, feishu...)},

		{name: "typo in a key", files: append([]string{"punchclock.toml", edit("timezone =", "timezoen =")}, feishu...), at: "6:1", want: `did you mean "timezone"?`, kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "typo in a section", files: append([]string{"punchclock.toml", edit("[secrets]", "[sercets]")}, feishu...), at: "9:2", want: `unknown section [sercets]; did you mean "secrets"?`, kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "wrong type", files: append([]string{"punchclock.toml", edit(`id       = "tpe-1f-lobby"`, "id       = 7")}, feishu...), at: "4:12", want: `device.id is a whole number where a text belongs`, kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "impossible value", files: append([]string{"punchclock.toml", edit(`"Asia/Taipei"`, `"Asia/Taipeh"`)}, feishu...), at: "6:12", want: `not an IANA zone`, kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "no TOML", files: append([]string{"punchclock.toml", edit(`client_id          = "clock"`, `client_id          = clock`)}, feishu...), at: "33:22", want: "this is not TOML", kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "a quote that is not closed", files: append([]string{"punchclock.toml", edit(canary104+`"`, canary104)}, feishu...), at: "10:34", want: "this is not TOML", kept: "feishu-secret, wifi-psk"},
		{name: "Big5", files: append([]string{"punchclock.toml", edit("台北", "\xa5x\xa5_")}, feishu...), at: "4:39", want: "save the file as UTF-8 (not Big5 or GBK)", kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "the admin page's PIN", files: append([]string{"punchclock.toml", edit("[secrets]\n", "[secrets]\nadmin-pin = \"3092-kiosk\"\n")}, feishu...), kept: "104-secret, admin-pin, feishu-secret, wifi-psk"},
		{name: "a weak PIN", files: append([]string{"punchclock.toml", edit("[secrets]\n", "[secrets]\nadmin-pin = \"123456\"\n")}, feishu...), at: "10:13", want: `write 6 characters or more`, kept: "104-secret, admin-pin, feishu-secret, wifi-psk"},
		{name: "missing secret", files: []string{"punchclock.toml", goodCard}, at: "40:19", want: `write feishu-secret = "…" under [secrets], or put it into a file named feishu-secret beside punchclock.toml`, kept: "104-secret, wifi-psk"},
		{name: "empty secret", files: []string{"punchclock.toml", goodCard, "feishu-secret.txt", "\r\n"}, at: "40:19", want: "feishu-secret.txt is empty", kept: "104-secret, wifi-psk"},
		{name: "secret of two lines", files: []string{"punchclock.toml", goodCard, "feishu-secret", canaryFeishu + "\n" + canaryFeishu}, at: "40:19", want: "more than one line", kept: "104-secret, wifi-psk"},
		{name: "two different secrets", files: append([]string{"punchclock.toml", goodCard, "104-secret", "CANARY-another"}, feishu...), at: "10:14", want: "remove one of the two", kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "secret in the wrong place", files: append([]string{"punchclock.toml", edit(`client_secret_file = "104-secret"`, `client_secret = "`+canary104+`"`)}, feishu...), at: "30:3",
			want: "needs client_secret_file", kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "secret in the configuration, too", files: append([]string{"punchclock.toml", edit(`client_id          = "clock"`, `client_id          = "`+canary104+`"`)}, feishu...), at: "33:23",
			want: "the secret 104-secret stands here, too", kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "passphrase beside the network's name", files: append([]string{"punchclock.toml", edit(`country = "TW"`, `country = "TW"`+"\npsk = \""+canaryWiFi+`"`)}, feishu...), at: "29:1",
			want: `write it under [secrets] as wifi-psk = "the passphrase"`, kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "passphrase too short", files: append([]string{"punchclock.toml", edit(canaryWiFi, "CANARY")}, feishu...), at: "11:12", want: "no Wi-Fi passphrase", kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "no country", files: append([]string{"punchclock.toml", edit("country = \"TW\"\n", "")}, feishu...), at: "26:10", want: `write country = "TW"`, kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "address without its network", files: append([]string{"punchclock.toml", edit("192.168.7.20/24", "192.168.7.20")}, feishu...), at: "23:11", want: `192.168.1.20/24`, kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "secret of a name nobody hands over", files: append([]string{"punchclock.toml", edit(`"104-secret"`+"\n\n", `"104-secrt"`+"\n\n")}, feishu...), at: "34:22", want: `did you mean "104-secret"?`, kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "two files", files: append([]string{"punchclock.toml", goodCard, "punchclock.toml.txt", goodCard}, feishu...), at: "1:1", want: "keep the right one", kept: "104-secret, feishu-secret, wifi-psk"},
		{name: "pulled out while it was written", files: append([]string{"punchclock.toml", goodCard[:200] + strings.Repeat("\x00", 300)}, feishu...), at: "1:1", want: "copy the file to it again", kept: "104-secret, feishu-secret"},
		{name: "certificate that is not there", files: append([]string{"punchclock.toml", edit("client_id          =", "ca_file = \"proxy.pem\"\nclient_id          =")}, feishu...), at: "33:11", want: "put it beside punchclock.toml, or leave ca_file out", kept: "104-secret, feishu-secret, wifi-psk"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCardClock(t)
			c.put(append([]string{"config.txt", "arm_64bit=1\n"}, tc.files...)...)
			r, err := c.run()
			if err != nil {
				t.Fatal(err)
			}
			receipt := c.read(filepath.Join(c.boot, receiptName))
			c.clean()
			if !strings.HasPrefix(receipt, "\uFEFFpunchclock 打卡鐘\r\n") || strings.Contains(strings.ReplaceAll(receipt, "\r\n", ""), "\n") {
				t.Errorf("not for Notepad: %q", receipt)
			}
			if tc.at == "" {
				c.works()
				if len(r.Problems) > 0 || !strings.Contains(receipt, "設定完成：tpe-1f-lobby") || !strings.Contains(receipt, "Done: this is now the clock tpe-1f-lobby") ||
					!strings.Contains(receipt, r.Fingerprint) || !strings.Contains(receipt, cmp.Or(tc.kept, "104-secret, feishu-secret, wifi-psk")) {
					t.Errorf("%+v\n%s", r, receipt)
				}
				if names, _, _ := c.find(r); len(names) > 0 || strings.Contains(c.onCard(), "-secret\n") {
					t.Errorf("left on the card:\n%s", c.onCard())
				}
			} else {
				p := r.Problems[0]
				if at := fmt.Sprintf("%d:%d", p.Line, p.Column); at != tc.at || !strings.Contains(p.Message+"; "+p.Remedy, tc.want) {
					t.Errorf("%s: %s; %s", at, p.Message, p.Remedy)
				}
				for _, part := range []string{fmt.Sprintf("第 %d 行第 %d 字：", p.Line, p.Column), fmt.Sprintf("line %d, column %d: %s", p.Line, p.Column, p.Message), p.Remedy} {
					if !strings.Contains(receipt, part) {
						t.Errorf("the receipt lacks %q:\n%s", part, receipt)
					}
				}
				if kept := strings.Join(r.Secrets, ", "); kept != tc.kept {
					t.Errorf("kept: %q", kept)
				}
				if _, err := os.Stat(c.config); err == nil {
					t.Error("a refused file was installed")
				}
				// It stays to be corrected, and looking at it again changes nothing.
				before := c.onCard()
				if again, err := c.run(); err != nil || len(again.Problems) != len(r.Problems) || c.onCard() != before {
					t.Errorf("the second look: %+v %v", again, err)
				}
			}
			if n := strings.Count(c.onCard(), "arm_64bit=1"); n != 1 {
				t.Error("another file of the card was touched")
			}
		})
	}
}

// The technician corrects what was left on the card; the secrets need not be written
// again.
func TestCorrectedCardNeedsNoSecretTwice(t *testing.T) {
	c := newCardClock(t)
	c.put("punchclock.toml", strings.ReplaceAll(strings.Replace(goodCard, "timezone =", "timezoen =", 1), "\n", "\r\n"), "feishu-secret", canaryFeishu)
	if r, err := c.run(); err != nil || len(r.Problems) != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	left := c.read(filepath.Join(c.boot, "punchclock.toml"))
	for _, line := range []string{`timezoen = ""`, `104-secret = ""`, `wifi-psk = ""`, `id       = "tpe-1f-lobby"`, `dns = ["192.168.7.1", "1.1.1.1"]`} {
		if !strings.Contains(left, line+"\r\n") || strings.Contains(strings.ReplaceAll(left, "\r\n", ""), "\n") {
			t.Errorf("left to be corrected, without %q:\n%s", line, left)
		}
	}
	if n := strings.Count(left, "\n"); n != strings.Count(goodCard, "\n") {
		t.Errorf("%d lines, want %d: the receipt's line numbers would be wrong", n, strings.Count(goodCard, "\n"))
	}
	c.put("punchclock.toml.txt", strings.Replace(left, `timezoen = ""`, `timezone = "Asia/Taipei"`, 1))
	if r, err := c.run(); err != nil || len(r.Problems) > 0 {
		t.Fatalf("%+v %v", r, err)
	}
	c.clean()
	if s := c.read(filepath.Join(c.boot, "punchclock.toml")); s != "" {
		t.Errorf("the one that was to be corrected is still there:\n%s", s)
	}
	if !strings.Contains(c.read(c.config), `id       = "tpe-1f-lobby"`) {
		t.Error(c.read(c.config))
	}
	for name, want := range map[string]string{"104-secret": canary104, "feishu-secret": canaryFeishu, wifiSecret: canaryWiFi} {
		if s, err := readSecret(filepath.Join(c.credentials, name)); s != want {
			t.Errorf("%s: %q, %v", name, s, err)
		}
		if _, err := os.Stat(c.pending(name)); err == nil {
			t.Errorf("%s still waits", name)
		}
	}
}

var errCut = errors.New("power cut")

// Power cut at each step in turn, the machine started again: the clock has all of the
// new configuration or all of the old one, no secret is left on the card, and in the
// end it has the new one.
func TestPowerCutAtAnyStepOfProvisioning(t *testing.T) {
	second := strings.NewReplacer("台北總部一樓", "台北總部二樓", canary104, "CANARY-second").Replace(goodCard)
	refused := strings.Replace(goodCard, "timezone =", "timezoen =", 1)
	for _, visit := range []struct {
		name, text string
		works      bool
	}{{"first", goodCard, true}, {"second", second, true}, {"refused", refused, false}} {
		t.Run(visit.name, func(t *testing.T) {
			for _, fault := range []error{errCut, syscall.EIO} {
				steps := 0
				for cut := 1; ; cut++ {
					c := newCardClock(t)
					before := ""
					if visit.name != "first" {
						c.put("punchclock.toml", goodCard, "feishu-secret", canaryFeishu)
						if _, err := c.run(); err != nil {
							t.Fatal(err)
						}
						before = c.read(c.config)
					}
					c.put("punchclock.toml", visit.text, "feishu-secret", canaryFeishu)
					n := 0
					c.disk.before = func(step, path string) error {
						if n++; n == cut || n > cut && fault == errCut {
							return fmt.Errorf("%s %s: %w", step, filepath.Base(path), fault)
						}
						return nil
					}
					_, err := c.run()
					if n < cut {
						steps = n
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					// All or nothing, at any moment: what is in force is never a mixture.
					if _, planned := os.Stat(filepath.Join(c.state, planName)); planned != nil && c.read(c.config) == before {
						if s := c.read(filepath.Join(c.credentials, "104-secret")); visit.name == "second" && s != canary104+"\n" {
							t.Errorf("cut at step %d: the old configuration with the new secret %q", cut, s)
						}
					} else if before == c.read(c.config) && visit.works && planned != nil {
						t.Errorf("cut at step %d: neither planned nor done", cut)
					}
					c.disk.before = nil
					r, err := c.run()
					if err != nil {
						t.Fatalf("cut at step %d, started again: %v", cut, err)
					}
					if names, _, _ := c.find(r); len(names) > 0 {
						t.Fatalf("cut at step %d: %v is still on the card", cut, names)
					}
					c.clean()
					if c.read(filepath.Join(c.boot, receiptName)) != string(forNotepad(r.words())) {
						t.Errorf("cut at step %d: the card has no receipt:\n%s", cut, c.onCard())
					}
					switch {
					case visit.works && (r.Outcome != installedOutcome || !strings.Contains(c.read(c.config), r.Name)):
						t.Errorf("cut at step %d: %+v", cut, r)
					case visit.works:
						want := canary104
						if visit.name == "second" {
							want = "CANARY-second"
						}
						if s, _ := readSecret(filepath.Join(c.credentials, "104-secret")); s != want {
							t.Errorf("cut at step %d: secret %q", cut, s)
						}
					case r.Outcome != refusedOutcome || c.read(c.config) != before || len(r.Secrets) != 3:
						t.Errorf("cut at step %d: %+v", cut, r)
					}
					if t.Failed() {
						return
					}
				}
				if steps < 30 {
					t.Errorf("only %d steps", steps)
				}
				t.Logf("%d steps, each ended with: %v", steps, fault)
			}
		})
	}
}

// A file that was put on the card while an earlier one was half taken in is taken in
// after it, and not wiped unread.
func TestFileAfterAPowerCutIsNotLost(t *testing.T) {
	c := newCardClock(t)
	c.put("punchclock.toml", goodCard, "feishu-secret", canaryFeishu)
	c.disk.before = func(step, path string) error {
		if step == "write" && strings.HasPrefix(path, c.boot) { // all is installed, the card is not wiped yet
			return errCut
		}
		return nil
	}
	if _, err := c.run(); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	c.disk.before = nil
	c.put("punchclock.toml", strings.Replace(goodCard, "台北總部一樓", "另一個", 1))
	r, err := c.run()
	if err != nil || r.Name != "另一個" {
		t.Fatalf("%+v %v", r, err)
	}
	c.clean()
}

// The log collector's certificates come by the card, too, the key of the clock's own
// to where the log's unit gets it from; a later visit need not bring them again.
func TestCardBringsTheLogsCertificates(t *testing.T) {
	c := newCardClock(t)
	text := goodCard + "\n[logs]\nserver = \"logs.example.com:20514\"\nca = \"logs-ca.pem\"\ncert = \"logs-cert.pem\"\nkey = \"logs-key.pem\"\n"
	c.put("punchclock.toml", text, "feishu-secret", canaryFeishu, "logs-ca.pem", "ca\n", "logs-cert.pem", "cert\n", "logs-key.pem", "CANARY-1\nCANARY-2\n")
	for range 2 {
		if r, err := c.run(); err != nil || r.Outcome != installedOutcome {
			t.Fatalf("%+v %v", r, err)
		}
		c.clean()
		if c.read(filepath.Join(c.credentials, "logs-key.pem")) != "CANARY-1\nCANARY-2\n" || c.read(filepath.Join(filepath.Dir(c.config), "logs-ca.pem")) != "ca\n" {
			t.Error("not where they belong")
		}
		c.put("punchclock.toml", text)
	}
}

func TestOtherDevicesPunchesAreNotForgotten(t *testing.T) {
	c := newCardClock(t)
	c.put("punchclock.toml", goodCard, "feishu-secret", canaryFeishu)
	if _, err := c.run(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.root, "var/punchclock/outbox")
	o, err := queue.Open(queue.Options{Dir: dir, Device: "tpe-1f-lobby", Destinations: []string{"104"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Append(punch.Draft{Kind: punch.In, Reader: "front", Stamp: punch.Stamp{Wall: time.Unix(1_800_000_000, 0), Clock: punch.Synced}, Outcome: punch.Stored}); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	visit := func(text string) *receipt {
		t.Helper()
		c.put("punchclock.toml", text)
		r, err := c.run()
		if err != nil {
			t.Fatal(err)
		}
		c.clean()
		return r
	}
	// The same id again, with another name: the punches stay.
	if r := visit(strings.Replace(goodCard, "台北總部一樓", "一樓大廳", 1)); r.Outcome != installedOutcome || r.Aside != nil {
		t.Errorf("%+v", r)
	}
	other := strings.Replace(goodCard, "tpe-1f-lobby", "tpe-2f", 1)
	r := visit(other)
	if len(r.Problems) != 1 || r.Problems[0].Message != `this clock was "tpe-1f-lobby" and holds 1 punches that are not delivered yet` || r.Problems[0].Line != 4 {
		t.Fatalf("%+v", r)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	r = visit(other + "\n[provision]\nset_aside_punches = true\n")
	if r.Outcome != installedOutcome || !slices.Equal(r.Aside, []string{dir + "-of-tpe-1f-lobby"}) {
		t.Fatalf("%+v", r)
	}
	if o, err = queue.Open(queue.Options{Dir: r.Aside[0], ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if o.Stats().LastSeq != 1 {
		t.Error("the punch is gone")
	}
	// Nothing is owed by a clock whose punches are all delivered, or that has none.
	if r = visit(goodCard); r.Outcome != installedOutcome || r.Aside != nil {
		t.Errorf("%+v", r)
	}
}

// What the file cannot be blamed for is told as that, and nothing is changed.
func TestCardThatCannotBeWipedIsNotTakenIn(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(c *cardClock)
		want string
	}{
		{"own part in memory", func(c *cardClock) { c.lasts = func(dir string) bool { return dir != c.state } }, "write a new card"},
		{"own part full", func(c *cardClock) {
			c.disk.before = func(step, path string) error {
				if step == "write" && strings.HasPrefix(path, c.credentials) {
					return syscall.ENOSPC
				}
				return nil
			}
		}, "no space left on device; nothing was changed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCardClock(t)
			c.put("punchclock.toml", goodCard, "feishu-secret", canaryFeishu)
			tc.set(c)
			before := c.onCard()
			if _, err := c.run(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatal(err)
			}
			if c.onCard() != before || c.read(c.config) != "" {
				t.Errorf("something was changed:\n%s", c.onCard())
			}
			if leftovers, _ := filepath.Glob(filepath.Join(c.credentials, "*")); len(leftovers) > 0 {
				t.Error(leftovers)
			}
			// The screen says it as well.
			page := httptest.NewRecorder()
			c.page().ServeHTTP(page, httptest.NewRequest("GET", "/", nil))
			if !strings.Contains(page.Body.String(), "打卡鐘無法收下設定，沒有任何變更") {
				t.Error(page.Body)
			}
		})
	}
}

func TestScreenWithoutAConfigurationSaysWhatTheReceiptSays(t *testing.T) {
	c := newCardClock(t)
	show := func() string {
		page := httptest.NewRecorder()
		c.page().ServeHTTP(page, httptest.NewRequest("GET", "/", nil))
		return page.Body.String()
	}
	if !strings.Contains(show(), "這台打卡鐘還沒有設定") {
		t.Error(show())
	}
	c.lasts = func(string) bool { return false }
	if !strings.Contains(show(), "打卡鐘自己的儲存區不見或損壞") {
		t.Error(show())
	}
	c.lasts = func(string) bool { return true }
	c.put("punchclock.toml", strings.Replace(goodCard, `"tpe-1f-lobby"`, `"<Lobby>"`, 1))
	if _, err := c.run(); err != nil {
		t.Fatal(err)
	}
	if s := show(); !strings.Contains(s, "設定檔有誤，沒有採用：第 4 行第 12 字") || !strings.Contains(s, "line 4, column 12") || strings.Contains(s, "<Lobby>") || strings.Contains(s, "CANARY") {
		t.Error(s)
	}
}

// The same with a display and no browser, and where a clock goes on with what it had: the
// line, what is wrong with it and what to write, in both languages, and no secret.
func TestDisplayAndStatusSayWhatTheReceiptSays(t *testing.T) {
	c := newCardClock(t)
	c.now = t.TempDir()
	word := filepath.Join(c.now, receiptJSON)
	if s := c.outcome().sign(); !s.Calm || s.Heads[0] != "這台打卡鐘還沒有設定" || !strings.Contains(s.Texts[1], "Put a punchclock.toml on the card") {
		t.Errorf("%+v", s)
	}
	c.lasts = func(string) bool { return false }
	if s := c.outcome().sign(); s.Calm || s.Heads[1] != "The clock's own part of the card is missing or damaged" || !strings.Contains(s.Texts[0], "舊卡請留著") {
		t.Errorf("%+v", s)
	}
	c.lasts = func(string) bool { return true }
	wrong := strings.NewReplacer("timezone =", "timezoen =", "driver  = \"serial\"", "driver = \"seriel\"", "baud", "boud", "name     =", "nmae =").Replace(goodCard)
	c.put("punchclock.toml", wrong, "feishu-secret", canaryFeishu)
	r, err := c.run()
	if err != nil || len(r.Problems) <= mostOnScreen {
		t.Fatalf("%+v %v", r, err)
	}
	s := c.outcome().sign()
	known := readCardTrouble(word)
	if known == nil {
		t.Fatal("the clock is not told")
	}
	status := (&clockwork{card: known}).configuration().Problem
	for what, in := range map[string]string{"screen": strings.Join(append(s.Heads, s.Texts...), "\n"), "status": status} {
		for _, want := range []string{"設定檔有誤，沒有採用：第 5 行第 1 字", "Refused, nothing was changed: line 5, column 1", "裡沒有「nmae」這個鍵；是不是「name」？",
			"line 5, column 1: unknown key \"nmae\"", "did you mean \"name\"?", "見卡上的 punchclock-receipt.txt", "more: see punchclock-receipt.txt on the card"} {
			if !strings.Contains(in, want) {
				t.Errorf("the %s lacks %q:\n%s", what, want, in)
			}
		}
		if strings.Contains(in, "CANARY") {
			t.Errorf("a secret is on the %s:\n%s", what, in)
		}
	}
	if s.Calm || known.headIn("zh-CN") != s.Heads[0] || known.headIn("th") != s.Heads[1] || known.noteIn("zh-TW") != "[device] 裡沒有「nmae」這個鍵；是不是「name」？" || !strings.Contains(known.noteIn("en"), "did you mean") {
		t.Errorf("%q, %q, %q", s.Heads, known.noteIn("zh-TW"), known.noteIn("en"))
	}

	// While the file lies there it is said at every start; without it, at none.
	if err := os.Remove(word); err != nil {
		t.Fatal(err)
	}
	if _, err := c.run(); err != nil || readCardTrouble(word) == nil {
		t.Errorf("not said at the next start: %v", err)
	}
	if err := os.Remove(word); err != nil {
		t.Fatal(err)
	}
	c.put("punchclock.toml", goodCard)
	if r, err := c.run(); err != nil || r.Outcome != installedOutcome || readCardTrouble(word) != nil {
		t.Errorf("%+v %v, and the clock still complains", r, err)
	}
	if (&clockwork{}).configuration() != nil {
		t.Error("a clock that nothing is wrong with has something to say")
	}
	c.put("punchclock.toml", goodCard)
	c.disk.before = func(step, path string) error {
		if step == "write" && strings.HasPrefix(path, c.credentials) {
			return syscall.ENOSPC
		}
		return nil
	}
	if _, err := c.run(); err == nil {
		t.Fatal("taken in without room")
	}
	if r := readCardTrouble(word); r == nil || r.headIn("zh-TW") != "打卡鐘無法收下設定，沒有任何變更" || !strings.Contains(r.noteIn("en"), "no space left on device") {
		t.Errorf("%+v", r)
	}
}

func TestWiFiKeyIsTheStandardsOwn(t *testing.T) {
	// IEEE 802.11, annex J.4.2, the first and second test case.
	for _, tc := range [][3]string{
		{"password", "IEEE", "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"},
		{"ThisIsAPassword", "ThisIsASSID", "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"},
	} {
		w := wifiConfig{SSID: tc[1], Country: "TW"}
		if got := string(w.file(tc[0])); !strings.Contains(got, "psk="+tc[2]+"\n") {
			t.Error(got)
		}
	}
}

// A card that only says what is wrong with it must never show a secret, whatever was
// typed into it.
func FuzzCardLeavesNoSecret(f *testing.F) {
	f.Add([]byte(goodCard))
	f.Add([]byte("[secrets\n104-secret = \"SECRET-x9\"\n"))
	f.Add([]byte("secrets = { 104-secret = \"SECRET-x9\" }\n[secret]\na = [\n\"SECRET-x9\"\n]"))
	f.Add([]byte("[[destination]]\nclient_secret = \"SECRET-x9\" # SECRET-x9\nproxy = \"http://u:SECRET-x9@h:1\"\nnotes\nSECRET-x9"))
	f.Fuzz(func(t *testing.T, data []byte) {
		body := plainText(data)
		c, err := readCard("/etc/punchclock/punchclock.toml", body, built(), none, none, func(string) bool { return true }, func(*config, bool) (string, string) { return "", "" })
		if err == nil {
			if _, err := parseConfig("f", c.installed, built()); err != nil {
				t.Errorf("installed, and the clock refuses it: %v\n%s", err, c.installed)
			}
			for name, s := range c.secrets {
				if len(s) >= 6 && bytes.Contains(c.installed, []byte(s)) {
					t.Errorf("%s is in what is installed:\n%s", name, c.installed)
				}
			}
		}
		left, found := withoutSecrets(body)
		for name, s := range found {
			if len(s) >= 6 && bytes.Contains(left, []byte(s)) {
				t.Errorf("%s is left: %q", name, left)
			}
		}
	})
}

func none(string) (string, string, error) { return "", "", nil }
