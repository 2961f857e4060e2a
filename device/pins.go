package device

import (
	"fmt"
	"strconv"
	"strings"
)

// header maps the pins of the 40-pin header, the same on every Raspberry Pi that
// has one, to the processor's (BCM) line numbers. The rest is supply and ground.
var header = map[int]int{
	3: 2, 5: 3, 7: 4, 8: 14, 10: 15, 11: 17, 12: 18, 13: 27, 15: 22, 16: 23, 18: 24, 19: 10, 21: 9, 22: 25, 23: 11, 24: 8, 26: 7,
	27: 0, 28: 1, 29: 5, 31: 6, 32: 12, 33: 13, 35: 19, 36: 16, 37: 26, 38: 20, 40: 21,
}

const (
	headerLines = 28   // GPIO0 to GPIO27 are on the header
	mostLines   = 1024 // of a chip
)

// ParsePin reads the name of a GPIO line: "GPIO17", its number on the chip, which on
// a Raspberry Pi is the BCM number; or "pin 11", its place on the 40-pin header. chip
// is that of the configuration, "" for the header's: then only lines of the header
// are taken.
func ParsePin(chip, s string) (line int, err error) {
	if n, ok := strings.CutPrefix(s, "GPIO"); ok {
		line, err := strconv.Atoi(n)
		if err != nil || strconv.Itoa(line) != n || line < 0 || line >= mostLines {
			return 0, fmt.Errorf(`%q is no line: write "GPIO17", or "pin 11"`, s)
		}
		if chip == "" && line >= headerLines {
			return 0, fmt.Errorf(`%q is not on the header: write "GPIO0" to "GPIO27", or name the chip it is on`, s)
		}
		return line, nil
	}
	if n, ok := strings.CutPrefix(s, "pin "); ok {
		pin, err := strconv.Atoi(n)
		line, wired := header[pin]
		switch {
		case err != nil || pin < 1 || pin > 40:
			return 0, fmt.Errorf(`%q is no pin of the header: they are "pin 1" to "pin 40"`, s)
		case !wired:
			return 0, fmt.Errorf(`%q of the header is supply or ground: write for example "pin 11", which is GPIO17`, s)
		}
		return line, nil
	}
	return 0, fmt.Errorf(`%q is no line: write "GPIO17" or, for a pin of the header, "pin 11"`, s)
}
