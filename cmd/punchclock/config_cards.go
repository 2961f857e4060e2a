package main

import (
	"fmt"
	"regexp"
)

// The settings of readers of 13.56 MHz cards, chips on a bus of the header.

var (
	spiForm = regexp.MustCompile(`^/dev/spidev[0-9]{1,2}\.[0-9]{1,2}$`)
	i2cForm = regexp.MustCompile(`^/dev/i2c-[0-9]{1,3}$`)
)

func (v *readerConfig) readSPI(s *section) {
	if s.text("port", &v.Port) && !spiForm.MatchString(v.Port) {
		s.bad("port", fmt.Sprintf("port %q is no SPI device", v.Port), `write "/dev/spidev0.0" (chip select CE0) or "/dev/spidev0.1" (CE1)`)
	}
}

func (v *readerConfig) readPN532(s *section, c *config) {
	s.oneOf("link", &v.Link, []string{"hsu", "i2c", "spi"})
	switch v.Link {
	case "i2c":
		v.Port = "/dev/i2c-1"
		if s.text("port", &v.Port) && !i2cForm.MatchString(v.Port) {
			s.bad("port", fmt.Sprintf("port %q is no I²C bus", v.Port), `write "/dev/i2c-1", or link = "hsu" or "spi" as the chip's switches stand`)
		}
	case "spi":
		v.Port = "/dev/spidev0.0"
		v.readSPI(s)
	default:
		if s.text("port", &v.Port); v.Port != "" {
			v.Port = c.beside(v.Port)
		} else if s.textOrMissing("port") {
			s.bad("port", "a PN532 on a UART needs its port", `write port = "/dev/ttyAMA0", or the adapter's name below /dev/serial/by-id`)
		}
	}
	if v.Link == "hsu" {
		if s.given("irq") {
			s.take("irq")
			s.bad("irq", "a PN532 on a UART speaks by itself", `leave irq out, or write link = "i2c" or "spi"`)
		}
		return
	}
	if s.text("irq", &v.IRQ) && v.IRQ != "" && !pinForm.MatchString(v.IRQ) {
		s.bad("irq", fmt.Sprintf("pin %q is not a line of the header", v.IRQ), `write "GPIO0" to "GPIO27", or "" if it is not wired`)
	}
	v.atIRQ = s.mark("irq")
}

// showCards prints what readSPI and readPN532 read.
func (v readerConfig) showCards(set func(key string, v any)) {
	switch v.Driver {
	case "mfrc522":
		set("port", v.Port)
	case "pn532":
		set("link", v.Link)
		set("port", v.Port)
		if v.IRQ != "" {
			set("irq", v.IRQ)
		}
	}
}

const exampleMFRC522 = `[[reader]]
name   = "front"                    # in reports and metrics; up to 16 small letters, digits, dashes
driver = "mfrc522"                  # 13.56 MHz 卡片，SPI 小藍板 the small blue board, 3.3 V
port   = "/dev/spidev0.0"           # CE0; "/dev/spidev0.1" is CE1. Needs dtparam=spi=on in /boot/firmware/config.txt
`

const examplePN532 = `[[reader]]
name   = "front"                    # in reports and metrics; up to 16 small letters, digits, dashes
driver = "pn532"                    # 13.56 MHz 卡片 cards
link   = "hsu"                      # 依板上開關 as the board's switches stand: hsu (UART), i2c or spi
port   = "/dev/ttyAMA0"             # i2c: "/dev/i2c-1", spi: "/dev/spidev0.0"; hsu: 先關閉序列主控台 turn the serial console off
#irq   = "GPIO4"                    # i2c, spi: 有接 IRQ 才寫 if that wire is there, nobody has to ask the chip
`
