package main

import (
	"fmt"

	"punchclock/device"
	"punchclock/device/evdev"
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
	s.oneOf("dialect", &v.Dialect, device.LineForms[:])
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

// showKeys prints what readEvdev read.
func (v readerConfig) showKeys(set func(key string, v any)) {
	if v.Driver == "evdev" {
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
dialect = "dec-line"                # dec-line 十進位 decimal, hex-line 十六進位 hexadecimal
digits  = 0                         # 讀卡機會省略開頭的 0 時填位數: 8, 10 or 13 if it leaves leading zeros out; 0: it does not
`
