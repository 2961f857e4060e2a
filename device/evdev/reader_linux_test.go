package evdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"punchclock/device"
	"punchclock/device/devicetest"
)

// records writes the strokes of keys, d apart, beginning now, as the kernel does.
func records(d time.Duration, codes ...uint16) []byte { return recordsAt(monotonic(), d, codes...) }

// recordsAt is records of another moment.
func recordsAt(at, d time.Duration, codes ...uint16) []byte {
	var b []byte
	put := func(typ, code uint16, value int32) {
		if wordSize == 8 {
			b = binary.LittleEndian.AppendUint64(b, uint64(at/time.Second))
			b = binary.LittleEndian.AppendUint64(b, uint64(at%time.Second/time.Microsecond))
		} else {
			b = binary.LittleEndian.AppendUint32(b, uint32(at/time.Second))
			b = binary.LittleEndian.AppendUint32(b, uint32(at%time.Second/time.Microsecond))
		}
		b = binary.LittleEndian.AppendUint16(b, typ)
		b = binary.LittleEndian.AppendUint16(b, code)
		b = binary.LittleEndian.AppendUint32(b, uint32(value))
	}
	for _, c := range codes {
		put(4, 4, 0x7001e) // EV_MSC MSC_SCAN, as USB keyboards send with each key
		put(evKey, c, pressed)
		put(evSyn, 0, 0)
		put(evKey, c, released)
		put(evSyn, 0, 0)
		at += d
	}
	return b
}

func codes(line string) (c []uint16) {
	for _, b := range []byte(line) {
		if b == '\n' {
			c = append(c, keyEnter)
		} else {
			c = append(c, codeOf(b))
		}
	}
	return c
}

// keyboard is a keyboard that is plugged in and out: a pipe each time.
type keyboard struct {
	t  testing.TB
	mu sync.Mutex
	w  *os.File // nil: not plugged in
	r  *os.File
}

func (k *keyboard) plug() {
	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	if k.r, k.w, err = os.Pipe(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(k.unplug)
}

func (k *keyboard) unplug() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.w != nil {
		k.w.Close()
		k.w = nil
	}
}

func (k *keyboard) open() (Device, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.w == nil {
		return nil, fs.ErrNotExist
	}
	return k.r, nil
}

func (k *keyboard) write(b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.w.Write(b); err != nil {
		k.t.Error(err)
	}
}

func (k *keyboard) tap(line string) func() {
	return func() { k.write(records(0, codes(line)...)) }
}

func TestUSBKeyboardReaderKeepsTheReadersContract(t *testing.T) {
	devicetest.TestReader(t, func(t *testing.T) devicetest.Subject {
		k := &keyboard{t: t}
		k.plug()
		r, err := New(Config{Name: "front", Dialect: "hex-line", Open: k.open})
		if err != nil {
			t.Fatal(err)
		}
		return devicetest.Subject{
			Reader: r, Name: "front",
			Cards: [2]devicetest.Card{
				{Tap: k.tap("06001259e3\n"), Medium: "em", Value: "06001259E3"},
				{Tap: k.tap("deadbeef\n"), Medium: "uid", Value: "DEADBEEF"},
			},
			Misread: k.tap("06001259e\n"),
			Unplug:  k.unplug, Replug: k.plug,
			Stop: 100 * time.Millisecond,
		}
	})
}

// runs is a reader that runs; events are taken one by one.
type runs struct {
	t    *testing.T
	k    *keyboard
	out  chan device.Event
	log  bytes.Buffer
	stop func()
}

func run(t *testing.T, cfg Config) *runs {
	t.Helper()
	r := &runs{t: t, k: &keyboard{t: t}, out: make(chan device.Event, 64)}
	r.k.plug()
	cfg.Name, cfg.Open, cfg.Logger = "front", r.k.open, slog.New(slog.NewTextHandler(&r.log, nil))
	reader, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- reader.Run(ctx, r.out) }()
	stopped := false
	r.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(r.stop)
	if ev := r.next(); ev.What != device.Up {
		t.Fatalf("first event %v", ev.What)
	}
	return r
}

func (r *runs) next() device.Event {
	r.t.Helper()
	select {
	case ev := <-r.out:
		return ev
	case <-time.After(5 * time.Second):
		r.t.Fatal("nothing came")
		return device.Event{}
	}
}

func TestACardHasTheKernelsTimesHoweverLateItIsRead(t *testing.T) {
	r := run(t, Config{Dialect: "dec-line"})
	began := time.Now()
	b := records(10*time.Millisecond, codes("0001202659\n")...)
	time.Sleep(250 * time.Millisecond) // asleep while it was typed
	r.k.write(b)
	ev := r.next()
	if ev.What != device.Card || ev.Value != "0001202659" {
		t.Fatalf("%v %s", ev.What, ev.Value)
	}
	if d := ev.First.Sub(began); d < -time.Millisecond || d > 20*time.Millisecond || ev.Last.Sub(ev.First) != 100*time.Millisecond {
		t.Errorf("from %v after the first key, %v long", d, ev.Last.Sub(ev.First))
	}
}

func TestAPersonWhoTypesIsNoBadgeHoweverLateTheKeysAreRead(t *testing.T) {
	r := run(t, Config{Dialect: "dec-line"})
	b := records(60*time.Millisecond, codes("0001202659\n")...)
	time.Sleep(700 * time.Millisecond)
	r.k.write(b) // all at once
	if ev := r.next(); ev.What != device.Fault || ev.Fault != device.FaultTimeout {
		t.Fatalf("%v %s", ev.What, ev.Value)
	}
}

// Three cards, the last one split between two reads, while nobody takes the first.
func TestALineInTwoReadsOfABusyHouseIsNeverCut(t *testing.T) {
	k := &keyboard{t: t}
	k.plug()
	reader, err := New(Config{Name: "front", Dialect: "dec-line", Open: k.open}) // it has no end, as far as we know
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan device.Event)
	done := make(chan error, 1)
	go func() { done <- reader.Run(ctx, out) }()
	if ev := <-out; ev.What != device.Up {
		t.Fatal(ev.What)
	}
	var b []byte
	for _, line := range []string{"0025771006435", "0001202659", "0040856634"} {
		b = append(b, records(time.Millisecond, codes(line)...)...)
		time.Sleep(200 * time.Millisecond) // between the two, by the kernel's time
	}
	k.write(b)
	time.Sleep(500 * time.Millisecond) // nobody listens
	for _, want := range []string{"0025771006435", "0001202659", "0040856634"} {
		if ev := <-out; ev.What != device.Card || ev.Value != want {
			t.Errorf("%v %s%s, want %s", ev.What, ev.Value, ev.Fault, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestANumberPadIsForPeople(t *testing.T) {
	r := run(t, Config{Dialect: Keypad})
	want := func(what device.What, key string) {
		t.Helper()
		ev := r.next()
		got := ev.Key
		if ev.What == device.Entry {
			got = ev.Number + "/" + string(ev.PIN) + " " + ev.Key
		}
		if ev.What != what || got != key || ev.Reader != "front" || ev.Last.Before(ev.First) {
			t.Errorf("%v %q, want %v %q", ev.What, got, what, key)
		}
	}
	enter, kpEnter, f3, esc, star := uint16(keyEnter), uint16(keyKPEnter), uint16(61), uint16(1), uint16(55)
	press := func(codes ...uint16) { r.k.write(records(0, codes...)) }
	press(append(codes("000123"), enter)...)
	time.Sleep(300 * time.Millisecond) // a person
	press(79, 80, 81, 75, kpEnter)     // 1234 on the keypad
	want(device.Entry, "000123/1234 ")
	press(f3, 11, esc)
	want(device.Key, "go-out")
	want(device.Key, "")
	press(append(codes("77"), star)...)
	press(append(append(codes("000124"), enter), append(codes("9876"), 523)...)...)
	want(device.Entry, "000124/9876 ")
	press(codes("12345")...)
	time.Sleep(100 * time.Millisecond)
	r.k.unplug()
	if ev := r.next(); ev.What != device.Down {
		t.Errorf("%v", ev.What)
	}
	r.k.plug()
	if ev := r.next(); ev.What != device.Up {
		t.Errorf("%v", ev.What)
	}
	press(enter)
	press(append(append(codes("6"), enter), append(codes("1111"), enter)...)...)
	want(device.Entry, "6/1111 ") // not 123456
}

func TestShiftOnANumberPad(t *testing.T) {
	var p pad
	at := time.Unix(1, 0)
	var got []byte
	for _, k := range []struct {
		code  uint16
		value int32
	}{{2, 1}, {42, 1}, {4, 1}, {42, 0}, {3, 1}, {3, 2}, {29, 1}, {5, 1}, {29, 0}, {54, 1}, {2, 1}, {4, 1}, {54, 0}} {
		if ev, ok := p.key(k.code, k.value, at); ok {
			got = append(got, ev.Number+"/"+string(ev.PIN)...)
		}
	}
	if string(got) != "1/2" {
		t.Errorf("got %s", got)
	}
}

func TestACardThatStaysIsOneTap(t *testing.T) {
	r := run(t, Config{Dialect: "dec-line"})
	at := monotonic() - time.Minute // the kernel's times count, not ours
	tap := func(after time.Duration, line string) {
		at += after
		r.k.write(recordsAt(at, 0, codes(line+"\n")...))
	}
	for range 5 {
		tap(200*time.Millisecond, "0001202659")
	}
	tap(200*time.Millisecond, "0025771006435")
	tap(200*time.Millisecond, "0001202659") // another card was there in between
	tap(presentation-time.Millisecond, "0001202659")
	tap(presentation, "0001202659")
	tap(time.Second, "0025771006435")
	for i, want := range []string{"0001202659", "0025771006435", "0001202659", "0001202659", "0025771006435"} {
		if ev := r.next(); ev.What != device.Card || ev.Value != want {
			t.Fatalf("tap %d: %v %s, want %s", i, ev.What, ev.Value, want)
		}
	}
}

func TestAMegabyteOfGarbageIsBoundedAndNoPunch(t *testing.T) {
	r := run(t, Config{Dialect: "hex-line"})
	done := make(chan int)
	go func() {
		n := 0
		for ev := range r.out {
			if ev.What == device.Card {
				t.Errorf("card %s", ev.Value)
			}
			n++
		}
		done <- n
	}()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	size := recordSize(wordSize)
	for _, junk := range []byte{0x00, 0xff, 0x1b, 0x01} {
		r.k.write(bytes.Repeat([]byte{junk}, 1<<20/size*size))
	}
	r.k.write(records(0, codes("'; drop table punches; --\n$(reboot)\n")...))
	time.Sleep(200 * time.Millisecond)
	runtime.GC()
	runtime.ReadMemStats(&after)
	r.stop()
	close(r.out)
	if n := <-done; n > 20 {
		t.Errorf("%d events", n)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes more", grown)
	}
	if r.log.Len() > 0 {
		t.Errorf("log: %s", r.log.String())
	}
}

// A tree like /sys/class/input, with what each device says of itself.
func inputs(t *testing.T, devices map[string][4]string) string {
	t.Helper()
	root := t.TempDir()
	for name, d := range devices {
		dir := filepath.Join(root, name, "device")
		for _, sub := range []string{"id", "capabilities"} {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		vendor, product, _ := strings.Cut(d[0], ":")
		for file, text := range map[string]string{"id/vendor": vendor, "id/product": product, "uniq": d[1], "phys": d[2], "capabilities/key": d[3]} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestTheOneDeviceIsFoundByWhatItIs(t *testing.T) {
	const full = "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe" // a USB keyboard
	const full32 = "10000 7 ff9f207a c14057ff febeffdf ffefffff ffffffff fffffffe"  // the same on a 32-bit kernel
	root := inputs(t, map[string][4]string{
		"event0": {"046d:c31c", "", "usb-1/input0", full},     // the office keyboard
		"event1": {"08ff:0009", "", "usb-2/input0", full},     // a reader
		"event2": {"08ff:0009", "", "usb-2/input1", "0"},      // its other half, without keys
		"event3": {"ffff:0035", "A1", "usb-3/input0", full32}, // two of a kind
		"event4": {"ffff:0035", "A2", "usb-4/input0", full},
		"event5": {"1234:0001", "", "gpio-keys/input0", "8000 0"}, // a power button
		"mouse0": {"08ff:0009", "", "usb-2/input2", full},
	})
	for _, tc := range []struct{ usb, serial, phys, want string }{
		{"08ff:0009", "", "", "/d/event1"},
		{"046d:c31c", "", "", "/d/event0"},
		{"ffff:0035", "A2", "", "/d/event4"},
		{"ffff:0035", "", "usb-3/input0", "/d/event3"},
		{"ffff:0035", "", "", "write serial, phys or the port"},
		{"ffff:0035", "A3", "", "no keyboard is"},
		{"1234:0001", "", "", "no keyboard is"},
		{"dead:beef", "", "", "no keyboard is"},
	} {
		got, err := search(root, "/d", Config{USB: tc.usb, Serial: tc.serial, Phys: tc.phys})
		if err != nil {
			got = err.Error()
		}
		if got != tc.want && (err == nil || !strings.Contains(got, tc.want)) {
			t.Errorf("%+v: %s", tc, got)
		}
	}
	if _, err := search(filepath.Join(root, "none"), "/d", Config{USB: "08ff:0009"}); err == nil || !strings.Contains(err.Error(), "plugged in") {
		t.Errorf("no input devices at all: %v", err)
	}
}

func TestWhatIsNoKeyboardIsRefusedWithAWayOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{file: "not a keyboard", "/dev/null": "not a keyboard", file + "y": "plugged in"} {
		if d, err := find(Config{Port: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v", path, d, err)
		}
	}
	if err := hint(&fs.PathError{Err: unix.EACCES}); !strings.Contains(err.Error(), "group") {
		t.Error(err)
	}
	if err := hint(unix.EBUSY); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "another program") {
		t.Error(err)
	}
}

func TestSettingsAreRefusedWithAWayOut(t *testing.T) {
	ok := Config{Name: "front", USB: "08ff:0009", Dialect: "dec-line"}
	for _, tc := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { c.Port, c.USB = "/dev/input/by-id/x", "" }, ""},
		{func(c *Config) { c.Digits = 10 }, ""},
		{func(c *Config) { c.Name = "" }, "no name"},
		{func(c *Config) { c.USB = "" }, "which device"},
		{func(c *Config) { c.USB = "08FF:0009" }, "four hexadecimal digits"},
		{func(c *Config) { c.USB, c.Port, c.Serial = "", "/dev/input/x", "A1" }, "write usb, too"},
		{func(c *Config) { c.Dialect = "rdm6300" }, "hex-line, dec-line, keypad"},
		{func(c *Config) { c.Digits = 9 }, "8, 10 or 13"},
		{func(c *Config) { c.Digits, c.Dialect = 10, "hex-line" }, "8, 10 or 13"},
	} {
		cfg := ok
		tc.change(&cfg)
		_, err := New(cfg)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", cfg, err, tc.want)
		}
	}
}

func TestNothingWakesTheReaderWhileItsDeviceIsAway(t *testing.T) {
	dir := t.TempDir()
	w := watchInputs(filepath.Join(dir, "by-id", "reader")) // by-id is not there yet
	defer w.Close()
	if _, ok := w.(inotify); !ok {
		t.Skip("no inotify here, or no /dev/input and nothing above it")
	}
	woken := make(chan struct{})
	go func() { w.wait(t.Context()); close(woken) }()
	select {
	case <-woken:
		t.Fatal("woken by nothing")
	case <-time.After(300 * time.Millisecond):
	}
	if err := os.Mkdir(filepath.Join(dir, "by-id"), 0o700); err != nil {
		t.Fatal(err)
	}
	select {
	case <-woken:
	case <-time.After(5 * time.Second):
		t.Fatal("not woken by the folder")
	}
	ctx, cancel := context.WithCancel(t.Context())
	woken = make(chan struct{})
	go func() { w.wait(ctx); close(woken) }()
	cancel()
	select {
	case <-woken:
	case <-time.After(5 * time.Second):
		t.Fatal("not woken by the end")
	}
}
