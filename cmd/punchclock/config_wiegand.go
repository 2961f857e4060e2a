package main

import (
	"fmt"
	"slices"
	"time"

	"punchclock/device"
	"punchclock/device/wiegand"
)

// What the configuration says of readers with two wires.

// readWiegand takes the keys of a Wiegand reader.
func (v *readerConfig) readWiegand(s *section) {
	s.text("chip", &v.Chip)
	var lines [2]int
	good := true
	for i, k := range []struct {
		key string
		dst *string
		pin string
	}{{"d0", &v.D0, "GPIO17"}, {"d1", &v.D1, "GPIO18"}} {
		if n, ok := s.m[k.key].(int64); ok { // the commonest mistake
			s.take(k.key)
			s.bad(k.key, fmt.Sprintf("%s = %d may be a line or a pin of the header", k.key, n), fmt.Sprintf(`write %s = "GPIO%d" or "pin %d"`, k.key, n, n))
			good = false
			continue
		}
		if s.text(k.key, k.dst); *k.dst == "" {
			if s.textOrMissing(k.key) {
				s.bad(k.key, "a Wiegand reader needs the line of its wire "+k.key, fmt.Sprintf(`write %s = %q, or the pin of the header as "pin 11"`, k.key, k.pin))
			}
			good = false
			continue
		}
		line, err := device.ParsePin(v.Chip, *k.dst)
		if err != nil {
			s.bad(k.key, fmt.Sprintf("%s: %v", k.key, err), fmt.Sprintf(`each wire has a line of its own, for example %q`, k.pin))
			good = false
		}
		lines[i] = line
	}
	if good && lines[0] == lines[1] {
		s.bad("d1", fmt.Sprintf("%s is already the line of d0", v.D1), "give each wire a line of its own")
	}
	if formats, ok := s.texts("formats", `["26", "34"]`); ok && !slices.Contains(formats, "") {
		if err := wiegand.CheckFormats(formats); err != nil {
			s.bad("formats", fmt.Sprintf("formats: %v", err), `for example formats = ["26", "34"], or leave it out`)
		}
		v.Formats = formats
	}
	s.oneOf("keypad", &v.Keypad, append([]string{""}, wiegand.Keypads()...))
	s.oneOf("enter", &v.Enter, []string{"#", "*"})
	s.duration("gap", &v.Gap, 22*time.Millisecond, 60*time.Millisecond)
}

// showWiegand prints what readWiegand reads.
func (v readerConfig) showWiegand(set func(key string, v any), list func(key string, words []string)) {
	if v.Driver != "wiegand" {
		return
	}
	set("chip", v.Chip)
	set("d0", v.D0)
	set("d1", v.D1)
	list("formats", v.Formats)
	set("keypad", v.Keypad)
	set("enter", v.Enter)
	set("gap", v.Gap)
}

// wiegandReads is how many bytes of a card these formats tell. The others hold a
// number that is on no other reader's card.
func wiegandReads(formats []string) (bytes []int) {
	bytes = []int{}
	for _, format := range formats {
		switch format {
		case "24", "26":
			bytes = append(bytes, 3)
		case "32", "34":
			bytes = append(bytes, 4)
		}
	}
	return bytes
}

const exampleWiegand = `[[reader]]
name    = "gate"
driver  = "wiegand"                 # two wires, D0 and D1, 5 V: never straight to a Pi 一定要降壓到 3.3 V
d0      = "GPIO17"                  # usually green; or "pin 11", its place on the header
d1      = "GPIO18"                  # usually white; or "pin 12"
chip    = ""                        # "": that of the header; or a GPIO chip's label, or its path
formats = ["26", "30", "34"]        # 卡片格式, best only those in use; also "h10302" or "h10304" (37 bits), "24", "32"
keypad  = ""                        # 讀卡機上的按鍵 its keys: "4-bit", "6-bit" or "8-bit", as set in the reader; "": it has none
enter   = "#"                       # the key that ends a number or PIN; "*" for readers that have them the other way round
gap     = "30ms"                    # silence that ends a card, 22ms … 60ms
`
