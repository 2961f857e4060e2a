package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/holoplot/go-evdev"
)

// cable is what a simulated reader hangs on.
type cable interface {
	name() string
	// send does what a tap does there, to its end; errNobody where nobody heard it.
	send(b []byte) error
	// listening says whether somebody hears it, as far as can be told.
	listening() bool
	waitListener(ctx context.Context) error
	plug() error
	unplug() error // may be repeated
	plugged() bool
	run(ctx context.Context) error // keeps it until ctx is done
}

// oneWay is a cable at whose end nothing tells who listens.
type oneWay struct {
	mu    sync.Mutex
	in    bool      // plugged in,
	since time.Time // then
}

// noticed is longer than a clock needs to notice hardware that was not there before: it
// looks for it once a second, and then waits until its wires are quiet.
const noticed = 1500 * time.Millisecond

func (o *oneWay) plugged() bool   { o.mu.Lock(); defer o.mu.Unlock(); return o.in }
func (o *oneWay) listening() bool { return o.plugged() }

func (o *oneWay) waitListener(ctx context.Context) error {
	for !o.plugged() {
		if err := sleep(ctx, pollLine); err != nil {
			return err
		}
	}
	o.mu.Lock()
	left := time.Until(o.since.Add(noticed))
	o.mu.Unlock()
	return sleep(ctx, left)
}

func (o *oneWay) run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// usbKeys is a USB reader that types, by the kernel's uinput.
type usbKeys struct {
	oneWay
	vendor, product uint16
	dev             *evdev.InputDevice
}

// keyPace is between two keys, as such readers have it: no person types so fast.
const keyPace = 2 * time.Millisecond

var keyCodes = func() map[byte]evdev.EvCode {
	codes := map[byte]evdev.EvCode{'\n': evdev.KEY_ENTER, ',': evdev.KEY_COMMA, '?': evdev.KEY_SLASH}
	for i, row := range map[evdev.EvCode]string{evdev.KEY_1: "1234567890", evdev.KEY_Q: "QWERTYUIOP", evdev.KEY_A: "ASDFGHJKL", evdev.KEY_Z: "ZXCVBNM"} {
		for n := range len(row) {
			codes[row[n]] = i + evdev.EvCode(n)
		}
	}
	return codes
}()

func (k *usbKeys) name() string { return fmt.Sprintf("USB %04x:%04x", k.vendor, k.product) }

func (k *usbKeys) plug() (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.in {
		return nil
	}
	var all []evdev.EvCode
	for code := evdev.EvCode(evdev.KEY_ESC); code < evdev.KEY_F12; code++ { // all that a keyboard has, or it is not taken for one
		all = append(all, code)
	}
	k.dev, err = evdev.CreateDevice("Simulated badge reader", evdev.InputID{BusType: evdev.BUS_USB, Vendor: k.vendor, Product: k.product, Version: 1},
		map[evdev.EvType][]evdev.EvCode{evdev.EV_KEY: all})
	if err != nil {
		return fmt.Errorf("make a keyboard: %w; it needs root, and the kernel's module: modprobe uinput", err)
	}
	k.in, k.since = true, time.Now()
	return nil
}

func (k *usbKeys) unplug() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.in {
		return nil
	}
	k.in = false
	return evdev.DestroyDevice(k.dev)
}

func (k *usbKeys) send(b []byte) error {
	for _, c := range strings.ToUpper(string(b)) {
		code, ok := keyCodes[byte(c)]
		if !ok {
			continue // the carriage return
		}
		k.mu.Lock()
		if !k.in {
			k.mu.Unlock()
			return errNobody
		}
		var err error
		for _, down := range []int32{1, 0} {
			err = errors.Join(err, k.dev.WriteOne(&evdev.InputEvent{Type: evdev.EV_KEY, Code: code, Value: down}),
				k.dev.WriteOne(&evdev.InputEvent{Type: evdev.EV_SYN, Code: evdev.SYN_REPORT}))
		}
		k.mu.Unlock()
		if err != nil {
			return fmt.Errorf("press a key: %w", err)
		}
		time.Sleep(keyPace)
	}
	return nil
}

// wires are the two of a Wiegand reader, lines 17 and 18 of a chip of the kernel's
// gpio-sim. A chip that is there already is used, and none is ever taken away: kernels
// before 6.10 do not survive that while a program has its lines.
type wires struct {
	oneWay
	label string
	pull  [2]*os.File
}

const (
	gpioSim   = "/sys/kernel/config/gpio-sim"
	firstWire = 17
	simLines  = 28
	bitPace   = 8 * time.Millisecond   // of a slow reader: a desk's clock is no reader's
	repeat    = 100 * time.Millisecond // a frame has ended long ago, and is still the same tap
)

func (w *wires) name() string {
	return fmt.Sprintf("GPIO%d (D0) and GPIO%d (D1) of the chip %s", firstWire, firstWire+1, w.label)
}

func (w *wires) plug() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pull[0] == nil {
		dir, err := simChip(w.label)
		if err != nil {
			return err
		}
		for i := range w.pull {
			if w.pull[i], err = simPull(dir, firstWire+i); err != nil {
				return err
			}
		}
	}
	w.in, w.since = true, time.Now()
	return nil
}

// simChip makes a chip, if there is none of that label, and returns where its lines are.
func simChip(label string) (dir string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make a GPIO chip: %w; it needs root, the kernel's module: modprobe gpio-sim, and a kernel that has it", err)
		}
	}()
	config := filepath.Join(gpioSim, label)
	bank := filepath.Join(config, "bank0")
	if _, err := os.Stat(bank); err != nil {
		if err := os.MkdirAll(bank, 0o755); err != nil {
			return "", err
		}
		for _, v := range [][2]string{{bank + "/num_lines", fmt.Sprint(simLines)}, {bank + "/label", label}, {config + "/live", "1"}} {
			if err := os.WriteFile(v[0], []byte(v[1]), 0o644); err != nil {
				return "", err
			}
		}
	}
	device, err := os.ReadFile(config + "/dev_name")
	if err != nil {
		return "", err
	}
	chip, err := os.ReadFile(bank + "/chip_name")
	if err != nil {
		return "", err
	}
	return filepath.Join("/sys/devices/platform", strings.TrimSpace(string(device)), strings.TrimSpace(string(chip))), nil
}

const up, down = "pull-up", "pull-down"

// simPull is what pulls a line, and has pulled it up.
func simPull(dir string, line int) (*os.File, error) {
	f, err := os.OpenFile(fmt.Sprintf("%s/sim_gpio%d/pull", dir, line), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(up)
	}
	if err != nil {
		return nil, fmt.Errorf("pull GPIO%d: %w", line, err)
	}
	return f, nil
}

func (w *wires) unplug() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in = false
	return nil
}

// send sends the frame's bits, '0' and '1'. A reader has its pace from a crystal, and a
// clock takes a pulse that is late for one that nobody saw: a frame in which this
// machine was held up is sent once more, as somebody does who is asked to try again.
// Where both are read they are one tap.
func (w *wires) send(b []byte) error {
	for range 5 {
		var last time.Time
		even := true
		for _, c := range b {
			time.Sleep(time.Until(last.Add(bitPace)))
			if !w.plugged() {
				return errNobody
			}
			if _, err := w.pull[c-'0'].WriteString(down); err != nil {
				return fmt.Errorf("pull a wire: %w", err)
			}
			now := time.Now()
			even = even && (last.IsZero() || now.Sub(last) < bitPace*5/4)
			last = now
			if _, err := w.pull[c-'0'].WriteString(up); err != nil {
				return fmt.Errorf("pull a wire: %w", err)
			}
		}
		if even {
			break
		}
		time.Sleep(repeat)
	}
	return nil
}

// pad is a matrix of 4×4 keys, on lines of a chip of the kernel's gpio-sim. A key that
// is held connects its row to its column: the row has to follow the column while the
// clock drives one column after another, and the kernel tells nobody when it does. So
// as long as a key is held its column is looked at without a pause, which takes a
// processor and is much faster than a clock lets its wires settle.
type pad struct {
	oneWay
	label               string
	rows, columns, look [4]*os.File // pulls, pulls, and what the columns are driven to
}

var padRows, padColumns = [4]int{5, 6, 13, 19}, [4]int{12, 16, 20, 21} // the example's

const (
	padKeys  = "123A456B789C*0#D"
	twoKeys  = '&' // 1 and 5, at once
	keyHeld  = 150 * time.Millisecond
	keysRest = 150 * time.Millisecond // from one to the next
)

func (p *pad) name() string {
	return fmt.Sprintf("GPIO5, 6, 13, 19 (rows) and GPIO12, 16, 20, 21 (columns) of the chip %s", p.label)
}

func (p *pad) plug() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows[0] == nil {
		dir, err := simChip(p.label)
		if err != nil {
			return err
		}
		for i := range padColumns {
			if p.look[i], err = os.Open(fmt.Sprintf("%s/sim_gpio%d/value", dir, padColumns[i])); err != nil {
				return fmt.Errorf("look at GPIO%d: %w", padColumns[i], err)
			}
			if p.columns[i], err = simPull(dir, padColumns[i]); err != nil {
				return err
			}
		}
		for i := range padRows {
			if p.rows[i], err = simPull(dir, padRows[i]); err != nil {
				return err
			}
		}
	}
	p.in, p.since = true, time.Now()
	return nil
}

func (p *pad) unplug() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in = false
	return nil
}

// send presses keys, one after another.
func (p *pad) send(b []byte) error {
	for _, c := range b {
		if !p.plugged() {
			return errNobody
		}
		held := []int{strings.IndexByte(padKeys, c)}
		if c == twoKeys {
			held = []int{0, 5}
		}
		if err := p.hold(held); err != nil {
			return fmt.Errorf("press a key: %w", err)
		}
		time.Sleep(keysRest)
	}
	return nil
}

// hold holds keys for a moment, of which no two share a row.
func (p *pad) hold(keys []int) error {
	low := make([]bool, len(keys)) // the rows
	var level [2]byte
	for began := time.Now(); time.Since(began) < keyHeld; runtime.Gosched() {
		for i, key := range keys {
			row, column := p.rows[key/4], key%4
			// A column that nobody drives any more stays where it was until it is pulled.
			if _, err := p.columns[column].WriteString(up); err != nil {
				return err
			}
			if _, err := p.look[column].ReadAt(level[:], 0); err != nil {
				return err
			}
			if is := level[0] == '0'; is != low[i] {
				if _, err := row.WriteString(map[bool]string{true: down, false: up}[is]); err != nil {
					return err
				}
				low[i] = is
			}
		}
	}
	for _, key := range keys {
		if _, err := p.rows[key/4].WriteString(up); err != nil {
			return err
		}
	}
	return nil
}
