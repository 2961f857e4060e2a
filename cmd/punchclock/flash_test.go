package main

import (
	"bytes"
	"compress/gzip"
	"context"
	endian "encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// testImage makes an image as a clock's: a FAT in the first partition, and something
// behind it.
func testImage(t *testing.T) (path string, data []byte) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, name := range []string{"mkfs.vfat", "mcopy"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed; on Debian: apt-get install dosfstools mtools", name)
		}
	}
	dir := t.TempDir()
	boot := filepath.Join(dir, "boot")
	if err := errors.Join(os.WriteFile(boot, nil, 0o600), os.Truncate(boot, 2<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.vfat", boot).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(boot)
	if err != nil {
		t.Fatal(err)
	}
	data = make([]byte, 5<<20+512) // no whole number of pieces
	rest := rand.NewChaCha8([32]byte{7})
	rest.Read(data[3<<20:])
	copy(data[1<<20:], b)
	entry := data[446:]
	entry[4] = 0x0C
	endian.LittleEndian.PutUint32(entry[8:], 1<<20/512)
	endian.LittleEndian.PutUint32(entry[12:], 2<<20/512)
	data[510], data[511] = 0x55, 0xAA
	path = filepath.Join(dir, "clock.img")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, data
}

// newFlasher is a run on plain files, with a configuration and its secrets.
func newFlasher(t *testing.T, answers string) (f *flasher, said *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "punchclock.toml")
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("punchclock.toml", "\uFEFF"+strings.ReplaceAll(goodCard, "\n", "\r\n"))
	write("feishu-secret.txt", canaryFeishu+"\r\n")
	card := write("card", "")
	if err := os.Truncate(card, 8<<20); err != nil {
		t.Fatal(err)
	}
	said = &bytes.Buffer{}
	image, _ := testImage(t)
	return &flasher{t: &tool{stdin: strings.NewReader(answers), stdout: said, stderr: said}, image: image, device: card, config: config,
		labels: filepath.Join(dir, "labels.html"), count: 1, yes: true, open: openDisk, disk: theseDisks}, said
}

// A written card holds the image, and beside it what its clock takes in at its first
// start and becomes the clock on the label.
func TestFlashedCardBecomesTheClockOnItsLabel(t *testing.T) {
	f, said := newFlasher(t, "")
	_, data := testImage(t)
	if err := f.run(t.Context()); err != nil {
		t.Fatal(err, said)
	}
	card, err := os.ReadFile(f.device)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(card[3<<20:5<<20+512], data[3<<20:]) || !bytes.Equal(card[:1<<20], data[:1<<20]) {
		t.Error("the card is not the image")
	}
	labels, err := readLabels(f.labels)
	if err != nil || len(labels) != 1 || labels[0].ID != "tpe-1f-lobby" || labels[0].Name != "台北總部一樓" || !strings.HasPrefix(labels[0].Image, "clock.img, 5 MB, sha256 ") {
		t.Fatalf("%+v %v", labels, err)
	}
	sheet, err := os.ReadFile(f.labels)
	if err != nil || !strings.Contains(string(sheet), "<svg ") || !strings.Contains(string(sheet), "<h1>tpe-1f-lobby</h1>") || strings.Contains(string(sheet), "CANARY") || strings.Contains(said.String(), "CANARY") {
		t.Errorf("%v %s %s", err, sheet, said)
	}
	// First start, on a copy of the partition.
	c := newCardClock(t)
	part := fat{f.device, 1 << 20}
	for _, name := range []string{"punchclock.toml", "feishu-secret"} {
		b, err := part.get(name)
		if err != nil {
			t.Fatal(err)
		}
		c.put(name, string(b))
	}
	r, err := c.run()
	if err != nil || r.Outcome != installedOutcome {
		t.Fatalf("%+v %v", r, err)
	}
	c.works()
	c.clean()
	// Its state directory is another one here, so the label is compared with the same.
	if want := fingerprint(mustCut(t, plainText(mustRead(t, f.config)))); labels[0].Fingerprint != want {
		t.Errorf("label %s, want %s", labels[0].Fingerprint, want)
	}
	// No second card for the same clock.
	if err := f.run(t.Context()); err == nil || !strings.Contains(err.Error(), "there is a card for tpe-1f-lobby already") {
		t.Error(err)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustCut(t *testing.T, text []byte) []byte {
	t.Helper()
	b, err := cutSections(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Cards one after another: each clock has an id of its own, a card that was not
// swapped is noticed, and the next run goes on where this one ended.
func TestTwentyBlankCards(t *testing.T) {
	f, said := newFlasher(t, "\n\n\n\n")
	spare := f.device + ".spare"
	if err := errors.Join(os.WriteFile(spare, nil, 0o600), os.Truncate(spare, 8<<20)); err != nil {
		t.Fatal(err)
	}
	// Somebody who answers once without swapping, and then swaps.
	opened := 0
	f.open = func(path string) (medium, error) {
		opened++
		if opened == 3 { // 1 wrote the first, 2 saw it still there
			if err := errors.Join(os.Rename(f.device, f.device+".done"), os.Rename(spare, f.device)); err != nil {
				return nil, err
			}
		}
		return openDisk(path)
	}
	f.count, f.ids = 2, "tpe-1f-##"
	if err := f.run(t.Context()); err != nil {
		t.Fatal(err, said)
	}
	if !strings.Contains(said.String(), "This is still the card of tpe-1f-01. Put the next one in") {
		t.Error(said)
	}
	for path, want := range map[string]string{f.device + ".done": "tpe-1f-01", f.device: "tpe-1f-02"} {
		if b, err := (fat{path, 1 << 20}).get("punchclock.toml"); err != nil || !strings.Contains(string(b), `id       = "`+want+`"           # 台北`) {
			t.Errorf("%v\n%s", err, b)
		}
	}
	f.open = openDisk
	f.count, f.ids = 1, filepath.Join(filepath.Dir(f.config), "clocks.csv")
	if err := os.WriteFile(f.ids, []byte("\uFEFFid,name\r\ntpe-1f-01,一號\r\ntpe-3f,三樓\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.run(t.Context()); err != nil {
		t.Fatal(err, said)
	}
	labels, err := readLabels(f.labels)
	if err != nil || len(labels) != 3 || labels[2].ID != "tpe-3f" || labels[2].Name != "三樓" {
		t.Errorf("%+v %v", labels, err)
	}
	prints := map[string]bool{}
	for _, l := range labels {
		prints[l.Fingerprint] = true
	}
	if len(prints) != 3 {
		t.Errorf("fingerprints: %+v", labels)
	}
}

// faulty is a card with a fault at a byte.
type faulty struct {
	medium
	at    int64
	fault string
}

func (m *faulty) WriteAt(b []byte, off int64) (int, error) {
	if off <= m.at && m.at < off+int64(len(b)) {
		switch m.fault {
		case "short":
			return m.medium.WriteAt(b[:m.at-off], off)
		case "gone":
			n, _ := m.medium.WriteAt(b[:m.at-off], off)
			return n, syscall.ENXIO
		case "lies":
			b = slices.Clone(b)
			b[m.at-off] ^= 1
		}
	}
	return m.medium.WriteAt(b, off)
}

func (m *faulty) ReadAt(b []byte, off int64) (int, error) {
	if m.fault == "unreadable" && off <= m.at && m.at < off+int64(len(b)) {
		return 0, syscall.EIO
	}
	return m.medium.ReadAt(b, off)
}

func (m *faulty) Sync() error {
	if m.fault == "unsynced" {
		return syscall.EIO
	}
	return m.medium.Sync()
}

func TestBadCardIsNoticedAndGetsNoLabel(t *testing.T) {
	for _, tc := range []struct{ fault, want string }{
		{"short", "write at 4 MB: short write; the card was pulled out or is failing"},
		{"gone", "write at 4 MB: no such device or address; the card was pulled out or is failing"},
		{"lies", "what was written at 4 MB reads back as something else: the card is bad"},
		{"unreadable", "read back at 4 MB: input/output error; the card was pulled out or is failing"},
		{"unsynced", "write: input/output error; the card was pulled out or is failing"},
		{"small", "the card holds 4 MB, and the image is larger: use a larger card"},
		{"stopped", "context canceled"},
	} {
		t.Run(tc.fault, func(t *testing.T) {
			f, said := newFlasher(t, "")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			f.open = func(path string) (medium, error) {
				m, err := openDisk(path)
				if tc.fault == "stopped" {
					cancel()
				}
				return &faulty{m, 9 << 19, tc.fault}, err
			}
			if tc.fault == "small" {
				if err := os.Truncate(f.device, 4<<20); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.run(ctx); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "flash: card 1 of 1, for tpe-1f-lobby: ") {
				t.Errorf("%v, want %q\n%s", err, tc.want, said)
			}
			if _, err := os.Stat(f.labels); err == nil {
				t.Error("it got a label")
			}
		})
	}
}

func TestPackedImagesAreUnpackedAndCutOnesRefused(t *testing.T) {
	f, said := newFlasher(t, "")
	plain := f.image
	data := mustRead(t, plain)
	pack := map[string]func() []byte{
		".gz": func() []byte {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			w.Write(data)
			w.Close()
			return b.Bytes()
		},
		".xz":  func() []byte { return packed1(t, "xz", plain) },
		".zst": func() []byte { return packed1(t, "zstd", plain) },
	}
	for ext, fn := range pack {
		b := fn()
		if b == nil {
			continue
		}
		f.labels = filepath.Join(t.TempDir(), "labels.html")
		f.image = plain + ext
		if err := errors.Join(os.WriteFile(f.image, b, 0o600), f.run(t.Context())); err != nil {
			t.Errorf("%s: %v %s", ext, err, said)
		}
		if card := mustRead(t, f.device); !bytes.Equal(card[3<<20:5<<20], data[3<<20:5<<20]) {
			t.Errorf("%s: the card is not the image", ext)
		}
		f.labels = filepath.Join(t.TempDir(), "labels.html")
		if err := os.WriteFile(f.image, b[:len(b)-len(b)/8], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.run(t.Context()); err == nil || !strings.Contains(err.Error(), "fetch it again") {
			t.Errorf("cut %s: %v", ext, err)
		}
	}
	f.image = filepath.Join(filepath.Dir(plain), "no.img")
	if err := errors.Join(os.WriteFile(f.image, make([]byte, 1<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.run(t.Context()); err == nil || !strings.Contains(err.Error(), "it is no clock's image") {
		t.Error(err)
	}
}

// packed1 packs a file with a program, nil where there is none.
func packed1(t *testing.T, program, path string) []byte {
	if _, err := exec.LookPath(program); err != nil {
		t.Logf("not tried: %v", err)
		return nil
	}
	out, err := exec.Command(program, "-c", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What is wrong with a card's configuration is told before the first card is touched.
func TestNothingIsWrittenForAConfigurationWithAMistake(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		set        func(f *flasher)
	}{
		{"typo", `punchclock.toml:6:1: unknown key "timezoen" in [device]; did you mean "timezone"?`, func(f *flasher) {
			os.WriteFile(f.config, []byte(strings.Replace(goodCard, "timezone =", "timezoen =", 1)), 0o600)
		}},
		{"secret missing", "the secret feishu-secret is not on the card", func(f *flasher) { os.Remove(filepath.Join(filepath.Dir(f.config), "feishu-secret.txt")) }},
		{"several of one id", "several cards need ids of their own", func(f *flasher) { f.count = 2 }},
		{"pattern without a place", "write # where the number belongs", func(f *flasher) { f.ids = "tpe" }},
		{"pattern too small", "write one # more", func(f *flasher) { f.ids, f.count = "tpe-#", 12 }},
		{"pattern that is no id", `device id "TPE-1" is not a name`, func(f *flasher) { f.ids = "TPE-#" }},
		{"twice in a file", `lines 2 and 4 have the same id "b"`, func(f *flasher) {
			f.ids = filepath.Join(filepath.Dir(f.config), "ids.csv")
			os.WriteFile(f.ids, []byte("id\nb\nc\nb\n"), 0o600)
		}},
		{"file without ids", "the first line must name the columns", func(f *flasher) {
			f.ids = filepath.Join(filepath.Dir(f.config), "ids.csv")
			os.WriteFile(f.ids, []byte("a\nb\n"), 0o600)
		}},
		{"labels that are none", "is no sheet of labels", func(f *flasher) { f.labels = f.config }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, _ := newFlasher(t, "")
			f.open = func(string) (medium, error) { t.Error("the card was opened"); return nil, errors.New("no") }
			tc.set(f)
			if err := f.run(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// A disk of this machine is not a card, whatever is said.
func TestDisksInUseAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a disk of one's own, a loop device, can be made by root only")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 8<<20)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Skipf("this machine gives no loop device: losetup: %v; on Debian: apt-get install mount", err)
	}
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "-d", loop).Run() })

	if err := theseDisks.check(loop, false); err == nil || !strings.Contains(err.Error(), "cannot be taken out, so it is no card") {
		t.Error(err)
	}
	if err := theseDisks.check(loop, true); err != nil {
		t.Error(err)
	}
	if err := theseDisks.check("/dev/null", true); err == nil || !strings.Contains(err.Error(), "is no disk") {
		t.Error(err)
	}
	// A card in every sense: written through the kernel's block layer.
	f, said := newFlasher(t, "")
	f.device, f.anyDisk = loop, true
	if err := f.run(t.Context()); err != nil {
		t.Error(err, said)
	}
	if !bytes.Equal(mustRead(t, file)[3<<20:5<<20], mustRead(t, f.image)[3<<20:5<<20]) {
		t.Error("the disk is not the image")
	}

	t.Run("mounted", func(t *testing.T) {
		if out, err := exec.Command("mkfs.ext4", "-q", "-F", loop).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		dir := t.TempDir()
		if out, err := exec.Command("mount", loop, dir).CombinedOutput(); err != nil {
			t.Skipf("this machine lets not even root mount a disk: %v %s", err, out)
		}
		t.Cleanup(func() { exec.Command("umount", dir).Run() })
		if err := theseDisks.check(loop, true); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("is mounted at %s: unmount it first", dir)) {
			t.Error(err)
		}
		if _, err := openDisk(loop); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("the kernel gave a mounted disk away: %v", err)
		}
	})
}

// The rest of the refusals, on a machine as the kernel would describe it. Every disk
// of it is this one's loop device or null device by number, so nothing is needed.
func TestDisksAreToldApartByWhatTheKernelSays(t *testing.T) {
	var node string
	for _, p := range []string{"/dev/loop0", "/dev/loop1", "/dev/vda", "/dev/sda"} {
		if st, err := os.Stat(p); err == nil && st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0 {
			node = p
			break
		}
	}
	if node == "" {
		t.Skip("this machine has no block device (of /dev/loop0, loop1, vda, sda) that a test could give a card's name to")
	}
	st, err := os.Stat(node)
	if err != nil {
		t.Fatal(err)
	}
	dev := st.Sys().(*syscall.Stat_t).Rdev
	number := fmt.Sprintf("%d:%d", dev>>8&0xfff, dev&0xff|dev>>12&0xfff00)
	for _, tc := range []struct {
		name, want string
		any        bool
		files      map[string]string
		mounts     string
	}{
		{name: "a card", files: map[string]string{"size": "62333952", "removable": "1"}},
		{name: "a card in a slot", files: map[string]string{"size": "62333952", "removable": "0", "device/type": "SD"}},
		{name: "a disk that stays", files: map[string]string{"size": "62333952", "removable": "0"}, want: "add --any-disk"},
		{name: "a large one", files: map[string]string{"size": "976773168", "removable": "1"}, want: "holds 500 GB, more than a card"},
		{name: "a large one, and told", any: true, files: map[string]string{"size": "976773168", "removable": "1"}},
		{name: "an empty reader", files: map[string]string{"size": "0", "removable": "1"}, want: "put a card in"},
		{name: "a part", any: true, files: map[string]string{"partition": "1", "size": "100"}, want: "name the whole of it"},
		{name: "of a RAID", any: true, files: map[string]string{"size": "100", "holders/md0/x": ""}, want: "a part of md0"},
		{name: "its part of a volume", any: true, files: map[string]string{"size": "100", "sdx1/partition": "1", "sdx1/dev": "8:99", "sdx1/holders/dm-3/x": ""}, want: "a part of dm-3"},
		{name: "the system's", any: true, files: map[string]string{"size": "62333952", "removable": "1", "sdx2/partition": "2", "sdx2/dev": "8:99"},
			mounts: "20 1 8:99 / / rw - ext4 /dev/nowhere rw\n", want: "holds the system that runs here"},
		{name: "mounted by a desktop", any: true, files: map[string]string{"size": "62333952", "removable": "1", "sdx1/partition": "1", "sdx1/dev": "8:99"},
			mounts: "20 1 8:99 / /media/me/BOOT rw - vfat /dev/nowhere rw\n", want: "is mounted at /media/me/BOOT"},
		{name: "another disk is mounted", files: map[string]string{"size": "62333952", "removable": "1"}, mounts: "20 1 8:97 / / rw - ext4 /dev/nowhere rw\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sys := t.TempDir()
			for name, text := range tc.files {
				path := filepath.Join(sys, "dev/block", number, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text+"\n"), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			mounts := filepath.Join(sys, "mountinfo")
			if err := os.WriteFile(mounts, []byte(tc.mounts), 0o600); err != nil {
				t.Fatal(err)
			}
			err := disks{sys, mounts, "/dev/null"}.check(node, tc.any)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}
