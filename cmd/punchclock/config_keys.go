package main

import (
	"fmt"
	"slices"

	"punchclock/device"
	"punchclock/device/evdev"
	"punchclock/device/keypad"
)

// What the configuration says of readers that are keys: USB readers that act as a
// keyboard, and keypads.

// readEvdev takes the keys of a USB keyboard reader.
func (v *readerConfig) readEvdev(s *section, c *config) {
	const which = `write port = "/dev/input/by-id/…-event-kbd" (see: ls /dev/input/by-id), or usb = "vendor:product" (see: lsusb)`
	s.text("port", &v.Port)
	if s.text("usb", &v.USB) && v.USB != "" {
		if err := evdev.CheckUSB(v.USB); err != nil {
			s.bad("usb", fmt.Sprintf("usb %q: %v", v.USB, err), `write it as lsusb shows it, for example usb = "08ff:0009"`)
		}
	}
	if v.Port == "" && v.USB == "" && s.textOrMissing("port") && s.textOrMissing("usb") {
		s.bad("port", "a USB keyboard reader must be told from every other keyboard", which)
	}
	for _, k := range []struct {
		key string
		dst *string
	}{{"serial", &v.Serial}, {"phys", &v.Phys}} {
		if s.text(k.key, k.dst) && *k.dst != "" && v.USB == "" && s.textOrMissing("usb") {
			s.bad(k.key, k.key+" tells two devices of one make apart, and says nothing alone", which)
		}
	}
	s.oneOf("dialect", &v.Dialect, evdev.Dialects())
	if s.number("digits", &v.Digits, 0, 13) && v.Digits != 0 {
		switch {
		case v.Digits != 8 && v.Digits != 10 && v.Digits != 13:
			s.bad("digits", fmt.Sprintf("no reader types cards of %d digits", v.Digits), "write 8, 10 or 13 for a reader that leaves leading zeros out, or 0")
		case v.Dialect != "dec-line":
			s.bad("digits", "digits is for decimal readers", `write dialect = "dec-line", or digits = 0`)
		}
	}
	if v.Port != "" {
		v.Port = c.beside(v.Port)
	}
}

// readKeypad takes the keys of a matrix keypad.
func (v *readerConfig) readKeypad(s *section) {
	s.text("chip", &v.Chip)
	taken := map[int]string{}
	for _, k := range []struct {
		key     string
		dst     *[]string
		allowed []int
		example string
	}{
		{"rows", &v.Rows, []int{4}, `["GPIO5", "GPIO6", "GPIO13", "GPIO19"]`},
		{"columns", &v.Columns, []int{4, 3}, `["GPIO12", "GPIO16", "GPIO20", "GPIO21"]`},
	} {
		pins, ok := s.texts(k.key, k.example)
		if !ok {
			if !s.given(k.key) {
				s.bad(k.key, "a keypad needs its "+k.key, "write "+k.key+" = "+k.example)
			}
			continue
		}
		if !slices.Contains(k.allowed, len(pins)) {
			s.bad(k.key, fmt.Sprintf("a keypad with %d %s is not known", len(pins), k.key), "write 4 rows, and 4 columns or 3, as "+k.key+" = "+k.example)
		}
		for i, pin := range pins {
			if pin == "" {
				continue
			}
			at := s.d.marks[element(step(s.path, k.key), i)].val
			line, err := device.ParsePin(v.Chip, pin)
			if err != nil {
				s.d.badAt(at, fmt.Sprintf("%s: %v", k.key, err), `each wire has a line of its own, for example "GPIO5"`)
			} else if other, twice := taken[line]; twice {
				s.d.badAt(at, fmt.Sprintf("%s is already the line of %s", pin, other), "give each wire a line of its own")
			} else {
				taken[line] = fmt.Sprintf("%s, number %d", k.key, i+1)
			}
		}
		*k.dst = pins
	}
	if s.text("keys", &v.Keys) && v.Keys != "" {
		if n := len(v.Columns); n == 3 || n == 4 {
			if err := keypad.CheckKeys(v.Keys, n); err != nil {
				s.bad("keys", err.Error(), `or write keys = "" for the usual ones`)
			}
		}
	}
}

// texts takes a list of texts. What is none, or empty, is told, and "" in the list.
func (s *section) texts(key, example string) (list []string, ok bool) {
	v := s.take(key)
	values, ok := v.([]any)
	if !ok {
		if v != nil {
			s.wrongType(key, v, "a list", example)
		}
		return nil, false
	}
	for i, v := range values {
		t, ok := v.(string)
		what := typeName(v)
		if ok && t == "" {
			what = "an empty text"
		}
		if t == "" {
			s.d.badAt(s.d.marks[element(step(s.path, key), i)].val, fmt.Sprintf("%s holds %s where a text belongs", s.name1(key), what), "write "+key+" = "+example)
		}
		list = append(list, t)
	}
	return list, true
}

// lines lists the GPIO lines that a reader takes.
func (v readerConfig) lines() (names []string) {
	names = slices.Concat(v.Rows, v.Columns)
	for _, pin := range []string{v.D0, v.D1} {
		if pin != "" {
			names = append(names, pin)
		}
	}
	return names
}

// linesTwice finds a line of the header that two are wired to.
func (c *config) linesTwice(d *document) {
	type line struct {
		chip   string
		number int
	}
	owner := map[line]string{}
	for _, p := range c.Indicator.pins() {
		if n, err := device.ParsePin("", *p.pin); err == nil {
			owner[line{"", n}] = "the indicator's " + p.key
		}
	}
	for _, r := range c.Readers {
		if n, err := device.ParsePin("", r.IRQ); err == nil {
			owner[line{"", n}] = fmt.Sprintf("reader %q", r.Name)
		}
	}
	for _, r := range c.Readers {
		var mine []line
		for _, name := range r.lines() {
			n, err := device.ParsePin(r.Chip, name)
			if err != nil {
				continue // told where it was read
			}
			l := line{r.Chip, n}
			if other, taken := owner[l]; taken {
				d.badAt(r.at.val, fmt.Sprintf("%s of reader %q is already the line of %s", name, r.Name, other), "wire one of them to another line")
			}
			mine = append(mine, l)
		}
		for _, l := range mine {
			owner[l] = fmt.Sprintf("reader %q", r.Name)
		}
	}
}

// showKeys prints what readEvdev and readKeypad read.
func (v readerConfig) showKeys(set func(key string, v any), list func(key string, words []string)) {
	switch v.Driver {
	case "keypad":
		set("chip", v.Chip)
		list("rows", v.Rows)
		list("columns", v.Columns)
		set("keys", v.Keys)
	case "evdev":
		set("port", v.Port)
		set("usb", v.USB)
		set("serial", v.Serial)
		set("phys", v.Phys)
		set("dialect", v.Dialect)
		set("digits", v.Digits)
	}
}

const exampleEvdev = `[[reader]]
name    = "front"
driver  = "evdev"                   # a USB reader that types the card as a keyboard would 模擬鍵盤的 USB 讀卡機
port    = "/dev/input/by-id/usb-Sycreader_RFID_Technology-event-kbd" # see: ls /dev/input/by-id
usb     = ""                        # or what it is, vendor:product as lsusb shows it; with both, both must fit
serial  = ""                        # of two with one usb: serial number …
phys    = ""                        # … or the USB socket: "Uniq" and "Phys" in /proc/bus/input/devices
dialect = "dec-line"                # dec-line 十進位, hex-line 十六進位; keypad: 數字鍵盤, 員編 Enter 密碼 Enter, a number pad for people
digits  = 0                         # 讀卡機會省略開頭的 0 時填位數: 8, 10 or 13 if it leaves leading zeros out; 0: it does not
`

const exampleKeypad = `[[reader]]
name    = "pad"
driver  = "keypad"                  # 4×4 or 4×3 matrix of keys on GPIO 矩陣鍵盤: 員編 # 密碼 # number # PIN #, * 清除 clears
chip    = ""                        # "": that of the header; or a GPIO chip's label, or its path
rows    = ["GPIO5", "GPIO6", "GPIO13", "GPIO19"] # or "pin 29", its place on the header
columns = ["GPIO12", "GPIO16", "GPIO20", "GPIO21"] # three for a pad without A B C D (上班 下班 外出 外歸)
keys    = "123A456B789C*0#D"        # 按鍵排列 what is on the keys, row by row; "": as here
`
