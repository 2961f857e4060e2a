package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"punchclock/device"
	"punchclock/device/evdev"
	"punchclock/device/keypad"
	"punchclock/device/mfrc522"
	"punchclock/device/pn532"
	"punchclock/device/serialport"
	"punchclock/device/stdin"
	"punchclock/device/wiegand"
	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/feishu"
	"punchclock/sync/signin"
	"punchclock/sync/transfercard"
	"punchclock/ui/text"
)

// The two tables of drivers. One line adds one.

var readerDrivers = map[string]func(readerConfig, readerParts) (device.Reader, error){
	"serial": func(c readerConfig, p readerParts) (device.Reader, error) {
		return serialport.New(serialport.Config{Name: c.Name, Port: c.Port, Baud: c.Baud, Dialect: c.Dialect, Logger: p.log})
	},
	"evdev": func(c readerConfig, p readerParts) (device.Reader, error) {
		return evdev.New(evdev.Config{Name: c.Name, Port: c.Port, USB: c.USB, Serial: c.Serial, Phys: c.Phys, Dialect: c.Dialect, Digits: c.Digits, Logger: p.log})
	},
	"mfrc522": func(c readerConfig, p readerParts) (device.Reader, error) {
		return mfrc522.New(mfrc522.Config{Name: c.Name, Port: c.Port, Logger: p.log})
	},
	"pn532": func(c readerConfig, p readerParts) (device.Reader, error) {
		return pn532.New(pn532.Config{Name: c.Name, Link: c.Link, Port: c.Port, IRQ: c.IRQ, Logger: p.log,
			Serial: func() (pn532.Serial, error) { return serialport.Open(c.Port, pn532.Baud) }})
	},
	"keypad": func(c readerConfig, p readerParts) (device.Reader, error) {
		return keypad.New(keypad.Config{Name: c.Name, Chip: c.Chip, Rows: c.Rows, Columns: c.Columns, Keys: c.Keys, Logger: p.log})
	},
	"wiegand": func(c readerConfig, p readerParts) (device.Reader, error) {
		return wiegand.New(wiegand.Config{Name: c.Name, Chip: c.Chip, D0: c.D0, D1: c.D1, Formats: c.Formats, Keypad: c.Keypad, Enter: c.Enter, Gap: c.Gap, Logger: p.log})
	},
	"stdin": func(c readerConfig, p readerParts) (device.Reader, error) { return stdin.New(c.Name, p.stdin), nil },
}

var destinationDrivers = map[string]func(destinationConfig, destinationParts) (drain.Destination, error){
	"transfercard": func(c destinationConfig, p destinationParts) (drain.Destination, error) {
		return transfercard.New(transfercard.Config{APIBase: c.APIBase, TokenURL: c.TokenURL, ClientID: c.ClientID, Secret: p.secret,
			HTTP: p.http, Log: p.log, Auth: transfercard.AuthStyle(c.AuthStyle), Batch: c.Batch, IdxBase: transfercard.IdxBase(c.IdxBase),
			EmpNoPad: c.EmpNoPad, UNO: c.UNO, UNOText: c.UNOText, TokenObserve: p.tokens})
	},
	"feishu": func(c destinationConfig, p destinationParts) (drain.Destination, error) {
		return feishu.New(feishu.Config{BaseURL: c.BaseURL, AppID: c.AppID, Secret: p.secret, HTTP: p.http, Log: p.log, Location: p.place,
			EmployeeType: feishu.EmployeeType(c.EmployeeType), People: p.people, CreatorID: c.CreatorID, FieldOut: c.FieldOut,
			Batch: c.Batch, TokenObserve: p.tokens})
	},
	"signin": func(c destinationConfig, p destinationParts) (drain.Destination, error) {
		return signin.New(signin.Config{Mode: signin.Mode(c.Mode), BaseURL: c.BaseURL, UserID: c.UserID, Secret: p.secret, HTTP: p.http, Log: p.log,
			Paths:          signin.Paths{Login: c.LoginPath, Logout: c.LogoutPath, Punch: c.PunchPath, Today: c.TodayPath, Records: c.RecordsPath},
			TokenTransport: c.TokenTransport, GroupID: signin.GroupID(c.GroupID), Tolerant: c.Tolerant, People: p.people, TokenObserve: p.tokens, Clock: p.clock})
	},
}

// readerParts is what the house gives to a reader.
type readerParts struct {
	log   *slog.Logger
	stdin io.Reader
}

// destinationParts is what the house gives to a destination.
type destinationParts struct {
	secret func() (string, error)
	http   *http.Client // paced, observed, with this destination's certificates
	log    *slog.Logger
	place  string // the device's name
	people func(number string, at time.Time) (punch.Employee, bool)
	tokens func(result string)
	clock  func(server time.Time) // hears the far side's own time, where that is not its Date header
}

// built is what this program was built with.
func built() inBuild {
	return inBuild{
		readers:      slices.Sorted(maps.Keys(readerDrivers)),
		destinations: slices.Sorted(maps.Keys(destinationDrivers)),
		dialects:     serialport.Dialects(),
		languages:    text.Languages(),
	}
}

func newReader(c readerConfig, p readerParts) (device.Reader, error) {
	r, err := readerDrivers[c.Driver](c, p)
	if err != nil {
		return nil, fmt.Errorf("reader %q: %w", c.Name, err)
	}
	return r, nil
}
