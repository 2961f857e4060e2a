package mfrc522

import (
	"periph.io/x/conn/v3/spi"

	"punchclock/device/devicetest"
)

type (
	sim = devicetest.MFRC522
	tag = devicetest.Tag
)

func readerOf(s *sim) *Reader {
	r, err := New(Config{Name: "front", Port: "/dev/spidev0.0"})
	if err != nil {
		panic(err)
	}
	r.open = func() (spi.Conn, func() error, error) { return s, func() error { return nil }, nil }
	return r
}
