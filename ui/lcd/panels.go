package lcd

import (
	"slices"
	"strings"
	"time"
)

// oled is an SSD1306, or an SH1106, whose memory is four columns wider and is written
// page by page. A control byte goes before everything: 00 commands follow, 40 dots.
type oled struct {
	bus    bus
	at     uint16
	sh1106 bool
	shown  dots
	known  bool // what it shows is shown
	dim    bool
}

const (
	oledCommands = 0x00
	oledData     = 0x40
	sh1106First  = 2 // column of its memory at the left edge of the glass
	worthJoining = 8 // unchanged columns that cost less than another address
)

// oledStart sets up an SSD1306 of 128×64: offset, start line, direction, wiring,
// contrast, normal, clock, charge pump, lines. Horizontal addressing is set where it is
// used.
var oledStart = []byte{0xD3, 0x00, 0x40, 0xA1, 0xC8, 0xDA, 0x12, 0x81, 0xFF, 0xA4, 0xA6, 0xD5, 0xF0, 0x8D, 0x14,
	0xD9, 0xF1, 0xDB, 0x40, 0x2E, 0xA8, 0x3F}

// sh1106Start leaves out the SSD1306's charge pump and scrolling; its own pump is AD 8B.
var sh1106Start = []byte{0xD3, 0x00, 0x40, 0xA1, 0xC8, 0xDA, 0x12, 0x81, 0xFF, 0xA4, 0xA6, 0xD5, 0x80, 0xAD, 0x8B,
	0xD9, 0x22, 0xDB, 0x35, 0xA8, 0x3F}

func (o *oled) commands(c ...byte) error {
	return o.bus.Write(o.at, append([]byte{oledCommands}, c...))
}

func (o *oled) start() error {
	if err := o.commands(0xAE); err != nil { // dark, for what it holds after power-up is noise
		return err
	}
	if err := o.refresh(); err != nil {
		return err
	}
	if err := o.draw(picture{}); err != nil {
		return err
	}
	return o.commands(0xAF)
}

func (o *oled) refresh() error {
	set := oledStart
	if o.sh1106 {
		set = sh1106Start
	}
	set = slices.Clone(set)
	if o.dim {
		set[slices.Index(set, 0x81)+1] = dimmed
	}
	if o.known { // not the first time: it is on
		set = append(set, 0xAF)
	}
	o.known = false
	return o.commands(set...)
}

// span writes columns of one page from x on.
func (o *oled) span(page, x int, b []byte) error {
	var err error
	if o.sh1106 {
		c := x + sh1106First
		err = o.commands(0xB0|byte(page), 0x10|byte(c>>4), byte(c&0x0F))
	} else {
		err = o.commands(0x20, 0x00, 0x21, byte(x), byte(x+len(b)-1), 0x22, byte(page), byte(page))
	}
	if err != nil {
		return err
	}
	return o.bus.Write(o.at, append([]byte{oledData}, b...))
}

func (o *oled) draw(p picture) error {
	for page := range high / 8 {
		old, fresh := o.shown[page*wide:(page+1)*wide], p.dots[page*wide:(page+1)*wide]
		for x := 0; x < wide; {
			if o.known && old[x] == fresh[x] {
				x++
				continue
			}
			end := x + 1
			for i := end; i < wide && i-end <= worthJoining; i++ {
				if !o.known || old[i] != fresh[i] {
					end = i + 1
				}
			}
			if err := o.span(page, x, fresh[x:end]); err != nil {
				return err
			}
			copy(old[x:end], fresh[x:end])
			x = end
		}
	}
	o.known = true
	return nil
}

const dimmed = 0x01 // contrast, of 255

func (o *oled) bright(on bool) error {
	if o.dim = !on; o.dim {
		return o.commands(0x81, dimmed)
	}
	return o.commands(0x81, 0xFF)
}

// characters is an HD44780 behind a PCF8574, wired as usual: P0 RS, P1 RW, P2 EN, P3
// backlight, P4 to P7 its D4 to D7. Two half bytes make a byte; each is taken when EN
// falls. RW stays low: it is never asked whether it is ready, but given the time that
// its slowest kind needs.
type characters struct {
	bus           bus
	at            uint16
	columns, rows int
	dark          bool
	shown         []string
}

const (
	pinRS        = 0x01
	pinEN        = 0x04
	pinBacklight = 0x08

	afterPower   = 50 * time.Millisecond // until it listens
	afterWake    = 4100 * time.Microsecond
	afterCommand = 2 * time.Millisecond // clearing takes the longest, 1.52 ms
	afterLetter  = 200 * time.Microsecond
)

// rowStarts are the addresses of the first character of each row.
var rowStarts = []byte{0x00, 0x40, 0x14, 0x54}

// half sends the upper four bits of b.
func (c *characters) half(b, rs byte) error {
	v := b&0xF0 | rs
	if !c.dark {
		v |= pinBacklight
	}
	// One transfer of three bytes: at 100 kHz each takes 90 µs, and EN has to be high
	// for half of one.
	return c.bus.Write(c.at, []byte{v, v | pinEN, v})
}

func (c *characters) send(b, rs byte, wait time.Duration) error {
	if err := c.half(b, rs); err != nil {
		return err
	}
	if err := c.half(b<<4, rs); err != nil {
		return err
	}
	time.Sleep(wait)
	return nil
}

func (c *characters) start() error {
	if err := c.bus.Write(c.at, []byte{pinBacklight}); err != nil {
		return err
	}
	time.Sleep(afterPower)
	return c.refresh()
}

func (c *characters) refresh() error {
	// Whichever half of a byte it is in the middle of, these bring it to 4 bits.
	for _, b := range []byte{0x30, 0x30, 0x30, 0x20} {
		if err := c.half(b, 0); err != nil {
			return err
		}
		time.Sleep(afterWake)
	}
	// Two lines of 5×8 dots; write to the right; on, without a cursor.
	for _, b := range []byte{0x28, 0x06, 0x0C} {
		if err := c.send(b, 0, afterCommand); err != nil {
			return err
		}
	}
	c.shown = slices.Repeat([]string{strings.Repeat("\x00", c.columns)}, c.rows) // nothing that is ever written
	return nil
}

func (c *characters) draw(p picture) error {
	for i := range c.rows {
		fresh := fit("", c.columns)
		if i < len(p.lines) {
			fresh = fit(p.lines[i], c.columns)
		}
		for x := 0; x < c.columns; {
			if c.shown[i][x] == fresh[x] {
				x++
				continue
			}
			end := x + 1
			for end < c.columns && c.shown[i][end] != fresh[end] {
				end++
			}
			start := rowStarts[i]
			if i >= 2 && c.columns == 16 { // rows three and four go on behind one and two
				start = rowStarts[i-2] + 16
			}
			if err := c.send(0x80|(start+byte(x)), 0, afterCommand); err != nil {
				return err
			}
			for _, b := range []byte(fresh[x:end]) {
				if err := c.send(b, pinRS, afterLetter); err != nil {
					return err
				}
			}
			c.shown[i] = c.shown[i][:x] + fresh[x:end] + c.shown[i][end:]
			x = end
		}
	}
	return nil
}

func (c *characters) bright(on bool) error {
	c.dark = !on
	v := byte(pinBacklight)
	if c.dark {
		v = 0
	}
	return c.bus.Write(c.at, []byte{v})
}
