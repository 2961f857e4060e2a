package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"punchclock/queue/punch"
)

var testBuild = inBuild{
	readers:      []string{"evdev", "keypad", "mfrc522", "pn532", "serial", "stdin"},
	destinations: []string{"transfercard", "feishu", "signin"},
	dialects:     []string{"rdm6300", "id12la", "idteck", "parallax", "hex-line", "dec-line"},
	languages:    []string{"zh-TW", "zh-CN", "en"},
}

// Line 1 and 2 of most files below.
const top = "schema = 1\ndevice.id = \"a\"\n"

const serialReader = "[[reader]]\nname = \"front\"\ndriver = \"serial\"\nport = \"/dev/ttyUSB0\"\n"

const to104 = "[[destination]]\nname = \"104\"\ndriver = \"transfercard\"\nclient_id = \"c\"\nclient_secret_file = \"s\"\n"

const toFeishu = "[[destination]]\nname = \"feishu\"\ndriver = \"feishu\"\napp_id = \"c\"\napp_secret_file = \"s\"\n"

const toSignin = "[[destination]]\nname = \"signin\"\ndriver = \"signin\"\nmode = \"service_account\"\nbase_url = \"https://signin.example.com\"\nuser_id = \"svc\"\npassword_file = \"s\"\n"

const chip = "[[reader]]\nname = \"nfc\"\ndriver = \"pn532\"\n"

func TestEveryMistakeIsToldWithPlaceAndRemedy(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"empty file", "", []string{
			`f:1:1: schema is missing; write schema = 1 as the first line`,
			`f:1:1: device.id is missing; write id = "tpe-1f-lobby" under [device]; it is part of every punch id, so choose it once`,
		}},
		{"newer schema says only that", "schema = 2\nfoo = 1\n", []string{
			`f:1:10: schema 2 is not known to this punchclock; write schema = 1, or install a newer punchclock`,
		}},
		{"older schema", "schema = 0\n", []string{
			`f:1:10: schema 0 is not known to this punchclock; write schema = 1, or install a newer punchclock`,
		}},
		{"schema as text", "schema = \"1\"\n[device]\nid=\"a\"", []string{
			`f:1:10: schema is a text where a whole number belongs; write schema = 1, without quotes`,
		}},
		{"not TOML", "schema = 1\n[device\n", []string{
			`f:2:8: this is not TOML: expected ']' to close table name; write key = "value", one to a line; punchclock config example shows a whole file`,
		}},
		{"a key twice", "schema = 1\n[device]\nid = \"a\"\nid = \"b\"\n", []string{
			`f:4:1: this is not TOML: key id is already defined; keep one of the two`,
		}},
		{"columns count characters, not bytes", "schema = 1\ndevice = { name = \"台北\", id = \"A\" }\n", []string{
			`f:2:30: device id "A" is not a name that can be part of a punch id; use 1 to 32 small letters, digits and dashes, beginning with a letter or digit, for example tpe-1f-lobby`,
		}},
		{"UTF-16", "\xFF\xFEs\x00", []string{`f:1:1: the file is UTF-16; save it as UTF-8`}},
		{"Big5", "schema = 1\nx = \"\xA5\xB4\"\n", []string{`f:2:6: the text is not UTF-8; save the file as UTF-8 (not Big5 or GBK)`}},
		{"misspelt key", top + "[kiosk]\nlangauge = \"en\"\n", []string{
			`f:4:1: unknown key "langauge" in [kiosk]; did you mean "language"?`,
		}},
		{"foreign key", top + "[clock]\nntp_server = \"x\"\n", []string{
			`f:4:1: unknown key "ntp_server" in [clock]; write one of: trust`,
		}},
		{"misspelt section", top + "[kisok]\n[[raeder]]\nname=\"a\"\n", []string{
			`f:3:2: unknown section [kisok]; did you mean "kiosk"?`,
			`f:4:3: unknown section [[raeder]]; did you mean "reader"?`,
		}},
		{"single brackets", top + "[reader]\nname = \"front\"\n", []string{
			`f:3:2: reader is a table where a list of tables belongs; write [[reader]] in double brackets, once for each`,
		}},
		{"double brackets", "schema = 1\n[[device]]\nid = \"a\"\n[[kiosk]]\n", []string{
			`f:2:3: device is a list where one table belongs; write [device] on a line of its own, once`,
			`f:4:3: kiosk is a list where one table belongs; write [kiosk] on a line of its own, once`,
		}},
		{"wrong types", top + "[kiosk]\nlisten = 8080\nmask_names = \"no\"\nduplicate_window = 60\n", []string{
			`f:4:10: kiosk.listen is a whole number where a text belongs; write listen = "8080"`,
			`f:5:14: kiosk.mask_names is a text where true or false belongs; write mask_names = true or false, without quotes`,
			`f:6:20: kiosk.duplicate_window is a whole number where a duration belongs; write duplicate_window = "60s"`,
		}},
		{"durations", top + "[kiosk]\nduplicate_window = \"60\"\nkind_timeout = \"0s\"\n", []string{
			`f:4:20: "60" is not a duration; write a number and a unit (s, m, h), for example "1m"`,
			`f:5:16: kiosk.kind_timeout = "0s" is out of range; write "1s" to "10m"`,
		}},
		{"a roster source in the clear", top + "[roster]\nsource = \"http://hr.example.com/r.csv\"\n", []string{
			`f:4:10: source is plain http to another machine; write https://: names and PINs are in it`}},
		{"a roster source with a password", top + "[roster]\nsource = \"https://me:pw@hr.example.com/r.csv\"\n", []string{
			`f:4:10: source holds a user name or password; write it without; a token goes into token_file`}},
		{"a token for a file", top + "[roster]\nsource = \"r.csv\"\ntoken_file = \"t\"\nencoding = \"latin\"\n", []string{
			`f:5:14: token_file is for a source that is a web address; leave it out, or write an https:// address into source`,
			`f:6:12: encoding "latin" is not known; write "big5", "gbk" or "utf-8"`}},
		{"displays", top + "[display]\ndriver = \"tft\"\nbus = \"i2c1\"\naddress = 0x99\nsize = \"40x2\"\n", []string{
			`f:4:10: driver "tft" is not known; write "", "ssd1306", "sh1106" or "hd44780"`,
			`f:5:7: bus "i2c1" is no I²C bus; write for example "/dev/i2c-1"`,
			`f:6:11: display.address = 153 is out of range; write a number from 0 to 119`,
			`f:7:8: size "40x2" is not known; did you mean "20x2"?`}},
		{"screens", top + "[screen]\ndevice = \"hdmi\"\nturn = 45\n", []string{
			`f:4:10: device "hdmi" is no display; write "auto" to have one looked for, a path such as "/dev/dri/card0" or "/dev/fb0", or "" for none`,
			`f:5:8: a picture cannot be turned by 45 degrees; write 0, 90, 180 or 270`}},
		{"a size for dots", top + "[display]\ndriver = \"ssd1306\"\nsize = \"20x4\"\n", []string{
			`f:5:8: size is for an hd44780; leave it out: the others have 128x64 dots`}},
		{"candidates without a company", top + "[candidates]\nclient_id = \"x\"\nclient_secret_file = \"s\"\nflag = \"all\"\ncalls_per_second = 4\n", []string{
			`f:3:2: company is missing; with client_id it takes company = "12345678" and client_secret_file = "104-resume-secret"`,
			`f:6:8: flag "all" is not known; write "any", "applied", "matched" or "saved"`,
			`f:7:20: candidates.calls_per_second = 4 is out of range; write a number from 1 to 3`}},
		{"open to the network", top + "[kiosk]\nlisten = \"0.0.0.0:8080\"\n", []string{
			`f:4:10: listen address "0.0.0.0:8080" can be reached from the network; write "127.0.0.1:8080", or add allow_remote = true if everybody on that network may see names and punch by PIN`,
		}},
		{"listen without a port", top + "[kiosk]\nlisten = \"127.0.0.1\"\nlanguage = \"fr\"\n", []string{
			`f:4:10: listen address "127.0.0.1": it is not host:port; write "127.0.0.1:8080", or "" to turn the page off`,
			`f:5:12: language "fr" is not known; write "zh-TW", "zh-CN" or "en"`,
		}},
		{"zone, name, trust, reserve", "schema = 1\n[device]\nid = \"a\"\nname = \"x\\u0007\"\ntimezone = \"Asia/Taipeh\"\nstate_dir = \"\"\n[clock]\ntrust = \"sytem\"\n[outbox]\nreserve_mb = 99999\nkeep_years = 0\n", []string{
			`f:4:8: device.name holds a character that cannot be shown; write it in plain letters on one line`,
			`f:5:12: timezone "Asia/Taipeh" is not an IANA zone; write for example "Asia/Taipei" or "Asia/Shanghai"`,
			`f:6:13: state_dir is empty; name a directory, for example "/var/lib/punchclock"`,
			`f:8:9: trust "sytem" is not known; did you mean "system"?`,
			`f:10:14: outbox.reserve_mb = 99999 is out of range; write a number from 0 to 10000`,
			`f:11:14: outbox.keep_years = 0 is out of range; write a number from 1 to 20`,
		}},
		{"indicator", top + "[indicator]\ngreen = \"17\"\nred = \"GPIO27\"\nbuzzer = \"GPIO27\"\n", []string{
			`f:4:9: pin "17" is not a line of the header; write "GPIO0" to "GPIO27", or "" if it is not wired`,
			`f:6:10: GPIO27 is already the pin of red; give each output a pin of its own`,
		}},
		{"badge", top + "[badge]\nsame_card = [\"last4\", \"last2\", \"last4\", 3]\n", []string{
			`f:4:23: rule "last2" is not known; did you mean "last4"?`,
			`f:4:32: rule "last4" is there twice; write it once`,
			`f:4:41: badge.same_card holds a whole number where a rule belongs; write "last4", "last3", "reversed", "last4-reversed", "last3-reversed", "first4", "first3", "first4-reversed" or "first3-reversed"`,
		}},
		{"badge rule without a list", top + "[badge]\nsame_card = \"last4\"\n", []string{
			`f:4:13: badge.same_card is a text where a list belongs; write same_card = ["last4"]`,
		}},
		{"indicator's levels and pulse", top + "[indicator]\nrelay = \"GPIO5\"\nactive_low = [\"relais\", \"relay\", 1]\nrelay_pulse = \"11s\"\n[[reader]]\nname = \"a\"\ndriver = \"stdin\"\n", []string{
			`f:5:15: output "relais" is not known; did you mean "relay"?`,
			`f:5:34: indicator.active_low holds a whole number where a output belongs; write "green", "red", "amber", "blue", "buzzer" or "relay"`,
			`f:6:15: indicator.relay_pulse = "11s" is out of range; write "200ms" to "10s"`,
		}},
		{"schedule", top + "[[schedule]]\nfrom = \"5:00\"\nto = \"25:00\"\nkind = \"lunch\"\n[[schedule]]\nfrom = 05:00:00\nto = \"05:00\"\n[[schedule]]\nfrom = \"\"\nto = \"\"\nkind = \"in\"\n", []string{
			`f:4:8: "5:00" is not a time of day; write hours and minutes, for example "08:30"`,
			`f:5:6: "25:00" is not a time of day; write hours and minutes, for example "08:30"`,
			`f:6:8: kind "lunch" is not known; write "in", "out", "go-out" or "return"`,
			`f:7:3: this schedule entry has no kind; write kind = one of "in", "out", "go-out" or "return"`,
			`f:8:8: schedule.from is a date or time without quotes where a text belongs; write from = "…", in quotes`,
			`f:11:8: "" is not a time of day; write hours and minutes, for example "08:30"`,
			`f:12:6: "" is not a time of day; write hours and minutes, for example "08:30"`,
		}},
		{"schedule of no length", top + "[[schedule]]\nfrom = \"08:00\"\nto = \"08:00\"\nkind = \"in\"\n", []string{
			`f:5:6: this schedule entry begins and ends at the same minute; for a whole day write from = "00:00" and to = "24:00"`,
		}},
		{"reader without anything", top + "[[reader]]\n", []string{
			`f:3:3: this reader has no name; write name = "front" under [[reader]]`,
			`f:3:3: this reader has no driver; write driver = one of "evdev", "keypad", "mfrc522", "pn532", "serial" or "stdin"`,
		}},
		{"reader of a later build", top + "[[reader]]\nname = \"door\"\ndriver = \"wiegand\"\nd0 = 17\n", []string{
			`f:5:10: driver "wiegand" is not in this build; this build has "evdev", "keypad", "mfrc522", "pn532", "serial" or "stdin"`,
		}},
		{"reader nobody knows", top + "[[reader]]\nname = \"Front Door\"\ndriver = \"seral\"\n", []string{
			`f:4:8: reader name "Front Door" cannot be used; use 1 to 16 small letters, digits and dashes, beginning with a letter or digit, for example "front"`,
			`f:5:10: driver "seral" is not known; did you mean "serial"?`,
		}},
		{"serial reader", top + "[[reader]]\nname = \"front\"\ndriver = \"serial\"\nbaud = 9601\ndialect = \"rdm630\"\npin = 4\n", []string{
			`f:3:3: a serial reader needs its port; write port = "/dev/serial/by-id/…", see: ls /dev/serial/by-id`,
			`f:6:8: 9601 baud is not a speed that readers have; write one of 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200; most have 9600`,
			`f:7:11: dialect "rdm630" is not known; did you mean "rdm6300"?`,
			`f:8:1: unknown key "pin" in [[reader]]; write one of: name, driver, port, dialect, baud`,
		}},
		{"two readers of one name and one port", top + serialReader + serialReader, []string{
			`f:8:8: a second reader is named "front"; give each reader a name of its own`,
			`f:8:8: readers "front" and "front" share /dev/ttyUSB0; remove one of them; two readers on one line steal each other's bytes`,
		}},
		{"USB keyboard reader", top + "[[reader]]\nname = \"usb\"\ndriver = \"evdev\"\nserial = \"A1\"\ndialect = \"rdm6300\"\ndigits = 9\nbaud = 9600\n", []string{
			`f:3:3: a USB keyboard reader must be told from every other keyboard; write port = "/dev/input/by-id/…-event-kbd" (see: ls /dev/input/by-id), or usb = "vendor:product" (see: lsusb)`,
			`f:6:10: serial tells two devices of one make apart, and says nothing alone; write port = "/dev/input/by-id/…-event-kbd" (see: ls /dev/input/by-id), or usb = "vendor:product" (see: lsusb)`,
			`f:7:11: dialect "rdm6300" is not known; write "hex-line", "dec-line" or "keypad"`,
			`f:8:10: no reader types cards of 9 digits; write 8, 10 or 13 for a reader that leaves leading zeros out, or 0`,
			`f:9:1: unknown key "baud" in [[reader]]; write one of: name, driver, port, usb, serial, phys, dialect, digits`,
		}},
		{"chips for cards", top + "[indicator]\nred = \"GPIO4\"\n[[reader]]\nname = \"a\"\ndriver = \"mfrc522\"\nport = \"/dev/i2c-1\"\n" +
			chip + chip + "port = \"/dev/ttyAMA0\"\nirq = \"GPIO4\"\n" + chip + "link = \"i2c\"\nport = \"i2c-1\"\nirq = \"4\"\n" + chip + "link = \"spi\"\nirq = \"GPIO4\"\n" + chip + "link = \"usb\"\n", []string{
			`f:8:8: port "/dev/i2c-1" is no SPI device; write "/dev/spidev0.0" (chip select CE0) or "/dev/spidev0.1" (CE1)`,
			`f:9:3: a PN532 on a UART needs its port; write port = "/dev/ttyAMA0", or the adapter's name below /dev/serial/by-id`,
			`f:13:8: a second reader is named "nfc"; give each reader a name of its own`,
			`f:16:7: a PN532 on a UART speaks by itself; leave irq out, or write link = "i2c" or "spi"`,
			`f:18:8: a second reader is named "nfc"; give each reader a name of its own`,
			`f:21:8: port "i2c-1" is no I²C bus; write "/dev/i2c-1", or link = "hsu" or "spi" as the chip's switches stand`,
			`f:22:7: pin "4" is not a line of the header; write "GPIO0" to "GPIO27", or "" if it is not wired`,
			`f:24:8: a second reader is named "nfc"; give each reader a name of its own`,
			`f:27:7: GPIO4 is already the pin of indicator.red; give the reader's irq a line of its own`,
			`f:28:3: a PN532 on a UART needs its port; write port = "/dev/ttyAMA0", or the adapter's name below /dev/serial/by-id`,
			`f:29:8: a second reader is named "nfc"; give each reader a name of its own`,
			`f:31:8: link "usb" is not known; write "hsu", "i2c" or "spi"`,
		}},
		{"USB keyboard readers that are one", top + "[[reader]]\nname = \"a\"\ndriver = \"evdev\"\nusb = \"08ff:0009\"\n[[reader]]\nname = \"b\"\ndriver = \"evdev\"\nusb = \"08ff:0009\"\ndialect = \"hex-line\"\ndigits = 8\n[[reader]]\nname = \"c\"\ndriver = \"evdev\"\nusb = \"08FF:9\"\n", []string{
			`f:8:8: readers "a" and "b" share the USB device 08ff:0009; remove one of them; two readers on one line steal each other's bytes`,
			`f:12:10: digits is for decimal readers; write dialect = "dec-line", or digits = 0`,
			`f:16:7: usb "08FF:9": it is not vendor:product, four hexadecimal digits each in small letters; write it as lsusb shows it, for example usb = "08ff:0009"`,
		}},
		{"keypad", top + "[indicator]\ngreen = \"GPIO5\"\n[[reader]]\nname = \"pad\"\ndriver = \"keypad\"\nrows = [\"GPIO5\", \"pin 1\", \"GPIO6\", \"GPIO6\"]\ncolumns = [\"GPIO12\", 16]\nkeys = \"123\"\npin = 4\n", []string{
			`f:6:8: GPIO5 of reader "pad" is already the line of the indicator's green; wire one of them to another line`,
			`f:8:18: rows: "pin 1" of the header is supply or ground: write for example "pin 11", which is GPIO17; each wire has a line of its own, for example "GPIO5"`,
			`f:8:36: GPIO6 is already the line of rows, number 3; give each wire a line of its own`,
			`f:9:1: a keypad with 2 columns is not known; write 4 rows, and 4 columns or 3, as columns = ["GPIO12", "GPIO16", "GPIO20", "GPIO21"]`,
			`f:9:22: reader.columns holds a whole number where a text belongs; write columns = ["GPIO12", "GPIO16", "GPIO20", "GPIO21"]`,
			`f:11:1: unknown key "pin" in [[reader]]; write one of: name, driver, chip, rows, columns, keys`,
		}},
		{"keypad without its wires", top + "[[reader]]\nname = \"pad\"\ndriver = \"keypad\"\nrows = \"GPIO5\"\n", []string{
			`f:3:3: a keypad needs its columns; write columns = ["GPIO12", "GPIO16", "GPIO20", "GPIO21"]`,
			`f:6:8: reader.rows is a text where a list belongs; write rows = ["GPIO5", "GPIO6", "GPIO13", "GPIO19"]`,
		}},
		{"keypads that share a wire", top + "[[reader]]\nname = \"a\"\ndriver = \"keypad\"\nrows = [\"GPIO5\", \"GPIO6\", \"GPIO13\", \"GPIO19\"]\ncolumns = [\"GPIO12\", \"GPIO16\", \"GPIO20\"]\nkeys = \"123A456B789C*0#D\"\n[[reader]]\nname = \"b\"\ndriver = \"keypad\"\nrows = [\"GPIO0\", \"GPIO1\", \"GPIO2\", \"GPIO3\"]\ncolumns = [\"GPIO4\", \"GPIO7\", \"GPIO8\", \"pin 29\"]\n", []string{
			`f:8:8: 16 keys are named and the pad has 12: write them row by row, as "123456789*0#"; or write keys = "" for the usual ones`,
			`f:10:8: pin 29 of reader "b" is already the line of reader "a"; wire one of them to another line`,
		}},
		{"secret in the file", top + to104 + "client_secret = \"hunter2\"\n", []string{
			`f:8:1: destination.client_secret does not belong into this file; put the secret into a file of its own and name that file in client_secret_file`,
		}},
		{"104 limits", top + to104 + "calls_per_second = 31\nbatch = 0\nidx_base = 2\nemp_no_pad = 21\nauth_style = \"Basic\"\nuno = \"123\"\nstatuses = [\"in\", \"Out\", \"in\", 3]\n", []string{
			`f:8:20: destination.calls_per_second = 31 is out of range; write a number from 1 to 30`,
			`f:9:9: destination.batch = 0 is out of range; write a number from 1 to 500`,
			`f:10:12: idx_base 2 is impossible; write "auto", 0 or 1`,
			`f:11:14: destination.emp_no_pad = 21 is out of range; write a number from 0 to 20`,
			`f:12:14: auth_style "Basic" is not known; did you mean "basic"?`,
			`f:13:7: uno "123" is not a company tax id; write eight digits in quotes, for example "12345678", or "" for a company's own account`,
			`f:14:19: kind "Out" is not known; did you mean "out"?`,
			`f:14:26: kind "in" is there twice; write it once`,
			`f:14:32: destination.statuses holds a whole number where a kind belongs; write "in", "out", "go-out" or "return"`,
		}},
		{"a word of one letter is not guessed", top + to104 + "idx_base = \"2\"\nproxy = \"\"\nproxy_login_file = \"p\"\n", []string{
			`f:8:12: idx_base "2" is not known; write "auto", "0" or "1"`,
			`f:10:20: destination "104" has a proxy_login_file and no proxy; write proxy = "http://proxy.corp:3128", or remove proxy_login_file`,
		}},
		{"feishu limits", top + toFeishu + "calls_per_second = 51\nbatch = 51\nemployee_type = \"open_id\"\nidx_base = 0\n", []string{
			`f:8:20: destination.calls_per_second = 51 is out of range; write a number from 1 to 50`,
			`f:9:9: destination.batch = 51 is out of range; write a number from 1 to 50`,
			`f:10:17: employee_type "open_id" is not known; write "employee_no" or "employee_id"`,
			`f:11:1: unknown key "idx_base" in [[destination]]; write one of: name, driver, base_url, app_id, app_secret_file, employee_type, calls_per_second, batch, creator_id, field_out, statuses, ca_file, proxy, proxy_login_file`,
		}},
		{"signin without its account", top + "[[destination]]\nname = \"signin\"\ndriver = \"signin\"\nmode = \"service_account\"\n", []string{
			`f:3:3: destination "signin" needs base_url; write base_url = "https://signin.example.com", the sign-in system's address`,
			`f:3:3: destination "signin" needs user_id; write user_id = "the account that punches for everybody"`,
			`f:3:3: destination "signin" needs password_file; write password_file = "signin-password"`,
		}},
		{"signin by keypad", top + "[[destination]]\nname = \"signin\"\ndriver = \"signin\"\nmode = \"keypad_login\"\npassword = \"hunter2\"\n", []string{
			`f:6:8: mode "keypad_login" is not built: it would ask for an employee's own password at the door, and without the network nothing could be sent later; write "service_account", or "off"`,
			`f:7:1: destination.password does not belong into this file; put the secret into a file of its own and name that file in password_file`,
		}},
		{"signin limits", top + toSignin + "calls_per_second = 51\nbatch = 501\npunch_path = \"api/signin\"\ntoken_transport = \"header:\"\ngroup_id = \"x\"\ntolerant = \"no\"\nmod = \"off\"\n", []string{
			`f:10:20: destination.calls_per_second = 51 is out of range; write a number from 1 to 50`,
			`f:11:9: destination.batch = 501 is out of range; write a number from 1 to 500`,
			`f:12:14: punch_path "api/signin" is not a path; write it from the first slash on, without host and query, for example "/api/public/signin"`,
			`f:13:19: token_transport "header:": a header's name is letters, digits and dashes, for example header:X-Token; write "bearer", "header:X-Token", "body:token_key" or "none"`,
			`f:14:12: group_id "x" is not known; write "login" or "user"`,
			`f:15:12: destination.tolerant is a text where true or false belongs; write tolerant = true or false, without quotes`,
			`f:16:1: unknown key "mod" in [[destination]]; did you mean "mode"?`,
		}},
		{"addresses", top + to104 + "api_base = \"http://apis.104api.com.tw/prohrm/1.0\"\ntoken_url = \"apis.104api.com.tw/oauth2/token\"\n" + toFeishu + "base_url = \"https://u:p@open.feishu.cn/\"\n", []string{
			`f:8:12: destination.api_base is plain http to another machine; write https://; plain http is for a sandbox on this machine only`,
			`f:9:13: destination.token_url is not a web address; write for example https://apis.104api.com.tw/oauth2/token`,
			`f:15:12: destination.base_url holds a user name or password; write it without; secrets are in files of their own`,
		}},
		{"proxies", top + to104 + "proxy = \"http://bob:hunter2@proxy.corp:3128\"\n" + toFeishu + "proxy = \"proxy.corp:3128\"\n" + toSignin + "proxy_login_file = \"p\"\n", []string{
			`f:8:9: destination.proxy holds a user name or password; write it without, and user:password into a file of its own that proxy_login_file names`,
			`f:14:9: destination.proxy is not the address of a proxy; write for example "http://proxy.corp:3128", or "" for none`,
			`f:22:20: destination "signin" has a proxy_login_file and no proxy; write proxy = "http://proxy.corp:3128", or remove proxy_login_file`,
		}},
		{"proxies that are no proxies", top + to104 + "proxy = \"socks5://proxy.corp:1080\"\n" + toFeishu + "proxy = \"http://proxy.corp\"\n" + toSignin + "proxy = \"https://proxy.corp:3128/x?y\"\nproxy_login = \"hunter2\"\n", []string{
			`f:8:9: destination.proxy is not the address of a proxy; write for example "http://proxy.corp:3128", or "" for none`,
			`f:14:9: destination.proxy has no port; write for example "http://proxy.corp:3128", or "" for none`,
			`f:22:9: destination.proxy holds more than host and port; write for example "http://proxy.corp:3128", or "" for none`,
			`f:23:1: destination.proxy_login does not belong into this file; put the secret into a file of its own and name that file in proxy_login_file`,
		}},
		{"destination without its account", top + "[[destination]]\nname = \"104\"\ndriver = \"transfercard\"\nclient_id = \"\"\n", []string{
			`f:3:3: destination "104" needs client_secret_file; write client_secret_file = "104-secret"`,
			`f:6:13: destination "104" needs client_id; write client_id = "the id that 104 gave your company"`,
		}},
		{"two destinations of one name", top + to104 + strings.ReplaceAll(toFeishu, `"feishu"`+"\ndriver", `"104"`+"\ndriver"), []string{
			`f:9:8: a second destination is named "104"; give each destination a name of its own; its position in the outbox hangs on it`,
		}},
		{"tables written as a list", top + "reader = [{ name = \"a\", driver = \"stdin\", port = \"x\" }, 5]\n", []string{
			`f:3:43: unknown key "port" in [[reader]]; write one of: name, driver`,
			`f:3:57: reader holds a whole number where a table belongs; write [[reader]] on a line of its own`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parseConfig("f", []byte(tc.text), testBuild)
			if _, ok := errors.AsType[problems](err); !ok || c != nil {
				t.Fatalf("parsed as %v, %v", c, err)
			}
			if got, want := err.Error(), strings.Join(tc.want, "\n"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			// A file from Notepad has its mistakes in the same places.
			notepad := "\uFEFF" + strings.ReplaceAll(tc.text, "\n", "\r\n")
			if strings.HasPrefix(tc.text, "\xFF") || tc.name == "not TOML" {
				return
			}
			if _, err2 := parseConfig("f", []byte(notepad), testBuild); err2 == nil || err2.Error() != err.Error() {
				t.Errorf("with BOM and CRLF:\n%v", err2)
			}
		})
	}
}

func parse(t *testing.T, text string) *config {
	t.Helper()
	c, err := parseConfig("/etc/punchclock/config.toml", []byte(text), testBuild)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSmallestFileGetsTheDefaults(t *testing.T) {
	c := parse(t, top+serialReader+to104+toFeishu)
	if c.Device.Name != "a" || c.Device.Timezone.String() != "Asia/Taipei" || c.Device.StateDir != "/var/lib/punchclock" {
		t.Errorf("device: %+v", c.Device)
	}
	if want := (kioskConfig{"127.0.0.1:8080", false, "zh-TW", time.Minute, 10 * time.Second, false, false, 60, [2]int{22 * 60, 5 * 60}, ""}); c.Kiosk != want {
		t.Errorf("kiosk: %+v", c.Kiosk)
	}
	if c.Clock.Trust != "auto" || c.Outbox.ReserveMB != 64 || c.Outbox.KeepYears != 5 || c.Indicator != (indicatorConfig{RelayPulse: time.Second}) {
		t.Errorf("%+v %+v %+v", c.Clock, c.Outbox, c.Indicator)
	}
	if r := c.Readers[0]; r.Baud != 9600 || r.Dialect != "rdm6300" {
		t.Errorf("reader: %+v", r)
	}
	d, f := c.Destinations[0], c.Destinations[1]
	if d.CallsPerSecond != 25 || d.Batch != 50 || d.IdxBase != "auto" || d.AuthStyle != "basic" || len(d.Statuses) != 4 ||
		d.APIBase != "https://apis.104api.com.tw/prohrm/1.0" || d.TokenURL != "https://apis.104api.com.tw/oauth2/token" {
		t.Errorf("104: %+v", d)
	}
	if f.CallsPerSecond != 10 || f.Batch != 50 || f.EmployeeType != "employee_no" || f.BaseURL != "https://open.feishu.cn" {
		t.Errorf("feishu: %+v", f)
	}
}

func TestADeviceWithoutANameIsCalledByItsID(t *testing.T) {
	for _, name := range []string{"", " "} {
		if c := parse(t, "schema = 1\n[device]\nid = \"a\"\nname = \""+name+"\"\n"); c.Device.Name != "a" {
			t.Errorf("%q: %q", name, c.Device.Name)
		}
	}
}

func TestNightIsFromOneTimeToAnotherOrNever(t *testing.T) {
	for text, want := range map[string][2]int{"23:30-04:15": {1410, 255}, "00:00-06:00": {0, 360}, "": {}} {
		c := parse(t, top+"[kiosk]\nnight = \""+text+"\"\n"+serialReader+to104)
		if c.Kiosk.Night != want || showNight(c.Kiosk.Night) != text {
			t.Errorf("%q: %v, shown as %q", text, c.Kiosk.Night, showNight(c.Kiosk.Night))
		}
	}
	for _, text := range []string{"22:00", "22-5", "22:00-22:00", "22:00-24:00", "-", "9:00-10:00", "22:00-05:00-06:00"} {
		_, err := parseConfig("f", []byte(top+"[kiosk]\nnight = \""+text+"\"\n"+serialReader+to104), testBuild)
		if err == nil || !strings.Contains(err.Error(), "22:00-05:00") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhatIsWrittenIsWhatCounts(t *testing.T) {
	c := parse(t, "\uFEFF"+strings.ReplaceAll(`schema = 1
[device]
id = "x1"
name = "大廳"
timezone = "Asia/Shanghai"
state_dir = "state"
[kiosk]
listen = "[::1]:0"
duplicate_window = "0s"
[[schedule]]
from = "22:00"
to = "02:00"
kind = "out"
[[schedule]]
from = "00:00"
to = "24:00"
kind = "go-out"
[[reader]]
name = "r"
driver = "serial"
port = "run/badge"
dialect = "parallax"
[[destination]]
name = "104"
driver = "transfercard"
api_base = "http://127.0.0.1:9/prohrm/1.0/"
client_id = "c"
client_secret_file = "s"
idx_base = 1
uno = "01234567"
uno_text = true
statuses = ["in"]
ca_file = "ca.pem"
`, "\n", "\r\n"))
	if c.Device.StateDir != "/etc/punchclock/state" || c.Device.Name != "大廳" || c.Device.Timezone.String() != "Asia/Shanghai" {
		t.Errorf("device: %+v", c.Device)
	}
	if c.Kiosk.DuplicateWindow != 0 || c.Kiosk.Listen != "[::1]:0" {
		t.Errorf("kiosk: %+v", c.Kiosk)
	}
	if want := []scheduleConfig{{1320, 120, punch.Out}, {0, 1440, punch.GoOut}}; !reflect.DeepEqual(c.Schedule, want) {
		t.Errorf("schedule: %+v", c.Schedule)
	}
	if r := c.Readers[0]; r.Port != "/etc/punchclock/run/badge" || r.Baud != 2400 {
		t.Errorf("reader: %+v", r)
	}
	d := c.Destinations[0]
	if d.APIBase != "http://127.0.0.1:9/prohrm/1.0" || d.IdxBase != "1" || d.UNO != "01234567" || !d.UNOText || len(d.Statuses) != 1 || d.CAFile != "/etc/punchclock/ca.pem" {
		t.Errorf("destination: %+v", d)
	}
}

func TestRemoteListenNeedsOneMoreWord(t *testing.T) {
	for _, tc := range []struct {
		listen   string
		loopback bool
		bad      bool
	}{
		{"127.0.0.1:8080", true, false}, {"127.9.9.9:1", true, false}, {"[::1]:80", true, false}, {"localhost:80", true, false},
		{"[::ffff:127.0.0.1]:80", true, false}, {":8080", false, false}, {"0.0.0.0:80", false, false}, {"[::]:80", false, false},
		{"192.168.1.5:80", false, false}, {"kiosk.local:80", false, true}, {"127.0.0.1:http", false, true}, {"127.0.0.1:65536", false, true},
		{"127.0.0.1:", false, true}, {"127.0.0.1:+1", false, true}, {"8080", false, true},
	} {
		loopback, err := listenAddress(tc.listen)
		if loopback != tc.loopback || (err != nil) != tc.bad {
			t.Errorf("%s: %v, %v", tc.listen, loopback, err)
		}
	}
	parse(t, top+"[kiosk]\nlisten = \":8080\"\nallow_remote = true\n")
}

// Everything but the marks, which are of the text.
func show(t *testing.T, c *config) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.show(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestShowReadsBackTheSame(t *testing.T) {
	for _, text := range []string{
		top, exampleConfig(), top + exampleReader("stdin"), top + exampleReader("evdev"), top + exampleReader("keypad"), top + exampleReader("mfrc522"), top + exampleReader("pn532"),
		top + chip + "link = \"i2c\"\nirq = \"GPIO4\"\n", top + chip + "link = \"spi\"\n", top + exampleDestination("signin"), top + "[[destination]]\nname = \"s\"\ndriver = \"signin\"\n",
		top + "[indicator]\nrelay = \"GPIO5\"\nactive_low = [\"relay\", \"red\"]\nrelay_pulse = \"3s\"\n", top + "[indicator]\nactive_low = true\n", top + "[indicator]\nactive_low = false\n",
		top + "[badge]\nsame_card = []\n", top + "[badge]\nsame_card = [\"reversed\", \"last3\"]\n",
		top + "[kiosk]\nduplicate_window=\"1h0m30.5s\"\nlisten=\"\"\n" + serialReader,
		"schema=1\n[device]\nid=\"b\"\nname=\"\\\"引號\\\\\"\n[[schedule]]\nfrom=\"22:30\"\nto=\"24:00\"\nkind=\"return\"\n",
	} {
		c := parse(t, text)
		again := parse(t, show(t, c))
		if a, b := c.withoutMarks(), again.withoutMarks(); !reflect.DeepEqual(a, b) {
			t.Errorf("%+v\nbecame\n%+v", a, b)
		}
	}
}

func TestWiegandReadersAreToldWhatIsWrong(t *testing.T) {
	reader := func(more string) string { return "[[reader]]\nname = \"gate\"\ndriver = \"wiegand\"\n" + more }
	wires := "d0 = \"GPIO17\"\nd1 = \"pin 12\"\n"
	for _, tc := range []struct {
		text string
		want []string
	}{
		{reader(""), []string{
			`f:3:3: a Wiegand reader needs the line of its wire d0; write d0 = "GPIO17", or the pin of the header as "pin 11"`,
			`f:3:3: a Wiegand reader needs the line of its wire d1; write d1 = "GPIO18", or the pin of the header as "pin 11"`,
		}},
		{reader("d0 = 17\nd1 = \"pin 6\"\n"), []string{
			`f:6:6: d0 = 17 may be a line or a pin of the header; write d0 = "GPIO17" or "pin 17"`,
			`f:7:6: d1: "pin 6" of the header is supply or ground: write for example "pin 11", which is GPIO17; each wire has a line of its own, for example "GPIO18"`,
		}},
		{reader("d0 = \"GPIO18\"\nd1 = \"pin 12\"\n"), []string{`f:7:6: pin 12 is already the line of d0; give each wire a line of its own`}},
		{reader(wires + "formats = [\"26\", \"24\"]\nkeypad = \"4bit\"\nenter = \"E\"\ngap = \"5ms\"\nbaud = 9600\n"), []string{
			`f:8:1: formats: "24" and "32" are "26" and "34" without their checks: two lost bits would make another card; write what this reader sends; for example formats = ["26", "34"], or leave it out`,
			`f:9:10: keypad "4bit" is not known; did you mean "4-bit"?`,
			`f:10:9: enter "E" is not known; write "#" or "*"`,
			`f:11:7: reader.gap = "5ms" is out of range; write "22ms" to "60ms"`,
			`f:12:1: unknown key "baud" in [[reader]]; write one of: name, driver, chip, d0, d1, formats, keypad, enter, gap`,
		}},
		{reader(wires+"formats = []\n") + "[indicator]\nred = \"GPIO18\"\n", []string{
			`f:4:8: pin 12 of reader "gate" is already the line of the indicator's red; wire one of them to another line`,
			`f:8:1: formats: no format: use some of "26", "30", "34", "h10304", "h10302", "24", "32"; for example formats = ["26", "34"], or leave it out`,
		}},
	} {
		_, err := parseConfig("f", []byte(top+tc.text), built())
		if err == nil || err.Error() != strings.Join(tc.want, "\n") {
			t.Errorf("%s\n%v\nwant\n%s", tc.text, err, strings.Join(tc.want, "\n"))
		}
	}
	c, err := parseConfig("f", []byte(top+reader(wires+"formats = [\"34\", \"h10302\"]\n")), built())
	if err != nil || !reflect.DeepEqual(c.cards().Reads, []int{4}) {
		t.Fatalf("%v %v", c, err)
	}
	again, err := parseConfig(c.path, []byte(show(t, c)), built())
	if err != nil || !reflect.DeepEqual(c.withoutMarks(), again.withoutMarks()) {
		t.Errorf("%v\n%s", err, show(t, c))
	}
}

func TestEveryDriverHasAnExampleThatPasses(t *testing.T) {
	for _, driver := range built().readers {
		example := exampleReader(driver)
		c, err := parseConfig("f", []byte(top+example), built())
		if err != nil || len(c.Readers) != 1 || c.Readers[0].Driver != driver {
			t.Errorf("%s: %v\n%s", driver, err, example)
			continue
		}
		for line := range strings.Lines(show(t, c)[strings.Index(show(t, c), "[[reader]]"):]) {
			if word, _, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.Contains(example, "\n"+word) {
				t.Errorf("%s: config show prints %q, which the example lacks", driver, word)
			}
		}
		for line := range strings.Lines(example) {
			if w := len([]rune(line)); w > 150 {
				t.Errorf("line of %d characters: %s", w, line)
			}
		}
	}
}

// Who holds a reader knows what is printed on it, not which driver that is.
func TestEveryDialectHasAnExampleThatPasses(t *testing.T) {
	for _, dialect := range built().dialects {
		example := exampleReader(dialect)
		c, err := parseConfig("f", []byte(top+example), built())
		if err != nil || len(c.Readers) != 1 || c.Readers[0].Driver != "serial" || c.Readers[0].Dialect != dialect {
			t.Errorf("%s: %v\n%s", dialect, err, example)
			continue
		}
		if want := map[bool]int{true: 2400, false: 9600}[dialect == "parallax"]; c.Readers[0].Baud != want {
			t.Errorf("%s at %d baud, want %d", dialect, c.Readers[0].Baud, want)
		}
	}
}

func TestExampleHasEveryKey(t *testing.T) {
	example := exampleConfig() + exampleDestination("signin")
	shown := show(t, parse(t, example))
	for line := range strings.Lines(shown) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word != "" && !strings.Contains(example, "\n"+word+" ") && !strings.Contains(example, "\n"+word+"\n") {
			t.Errorf("config show prints %q, which the example lacks", word)
		}
	}
	for line := range strings.Lines(example) {
		if w := len([]rune(line)); w > 150 {
			t.Errorf("line of %d characters: %s", w, line)
		}
	}
	if exampleReader("barcode") != "" || exampleDestination("feishu") != "" {
		t.Error("an example of a driver that is not there")
	}
}

func TestSecretsComeFromSystemdOrFromBesideTheFile(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	c := &config{path: "/etc/punchclock/config.toml"}
	if got := c.secretPath("s"); got != "/etc/punchclock/s" {
		t.Error(got)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/punchclock.service")
	if got := c.secretPath("s"); got != "/run/credentials/punchclock.service/s" {
		t.Error(got)
	}
	if got := c.secretPath("/x/s"); got != "/x/s" {
		t.Error(got)
	}
}

func TestSecretIsReadWithoutItsLineEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for _, tc := range []struct{ in, out, err string }{
		{"s3cret", "s3cret", ""}, {"s3cret\n", "s3cret", ""}, {"s3cret\r\n", "s3cret", ""}, {"\uFEFFs3 cret", "s3 cret", ""},
		{" s\n", " s", ""},
		{"", "", "is empty"}, {"\n", "", "is empty"}, {" \n", "", "is empty"},
		{"s3cret\n\n", "", "more than one line"}, {"a\nb", "", "more than one line"}, {"s3cret\x00", "", "characters"},
		{strings.Repeat("x", 4097), "", "larger"},
	} {
		if err := os.WriteFile(path, []byte(tc.in), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readSecret(path)
		if got != tc.out || (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%q: %q, %v", tc.in, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the secret is in the error: %v", err)
		}
	}
}

func TestASigninThatIsOffNeedsNothing(t *testing.T) {
	c := parse(t, top+"[[destination]]\nname = \"signin\"\ndriver = \"signin\"\n"+strings.Replace(toSignin, `"signin"`, `"signin2"`, 1))
	off, on := c.Destinations[0], c.Destinations[1]
	if off.Mode != "off" || off.Batch != 500 || off.CallsPerSecond != 5 || off.TokenTransport != "bearer" || off.PunchPath != "/api/public/signin" || off.secretWanted() {
		t.Errorf("%+v", off)
	}
	if on.Mode != "service_account" || on.UserID != "svc" || on.Batch != 1 || !on.secretWanted() {
		t.Errorf("%+v", on)
	}
	if faults, _ := c.checkFiles(); len(faults) != 1 || !strings.Contains(faults[0].msg, "signin2") {
		t.Errorf("%v", faults)
	}
	for _, d := range c.Destinations {
		dest, err := destinationDrivers["signin"](d, destinationParts{
			secret: func() (string, error) { return "", nil }, http: &http.Client{}, log: slog.New(slog.DiscardHandler)})
		if err != nil || dest == nil {
			t.Errorf("%s: %v", d.Mode, err)
		}
	}
}

func TestCheckOpensTheFilesThatAreNamed(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "c.toml")
	write("c.toml", top+to104+"ca_file = \"ca.pem\"\n"+toFeishu, 0o644)
	c, err := loadConfig(path, testBuild)
	if err != nil {
		t.Fatal(err)
	}
	faults, warnings := c.checkFiles()
	want := path + `:7:22: destination "104": secret: open ` + dir + `/s: no such file or directory; write the secret, and nothing else, into that file, readable only by the program's user
` + path + `:8:11: destination "104": root certificates: open ` + dir + `/ca.pem: no such file or directory; name a file with certificates in PEM form, or write ca_file = ""
` + path + `:13:19: destination "feishu": secret: open ` + dir + `/s: no such file or directory; write the secret, and nothing else, into that file, readable only by the program's user`
	if faults.Error() != want || len(warnings) != 0 {
		t.Errorf("%v\n%v", faults, warnings)
	}
	write("s", "s3cret\n", 0o644)
	write("ca.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o644)
	if faults, warnings = c.checkFiles(); len(faults) != 1 || !strings.Contains(faults[0].msg, "holds no certificate") || len(warnings) != 2 {
		t.Errorf("%v\n%v", faults, warnings)
	}
	write("r.toml", top+"[roster]\nsource = \"https://hr.example.com/r.csv\"\ntoken_file = \"t\"\nca_file = \"ca.pem\"\n[candidates]\nclient_id = \"x\"\nclient_secret_file = \"u\"\ncompany = \"12345678\"\n", 0o644)
	others, err := loadConfig(filepath.Join(dir, "r.toml"), testBuild)
	if err != nil {
		t.Fatal(err)
	}
	faults, _ = others.checkFiles()
	if len(faults) != 3 || faults[0].line != 5 || faults[1].line != 6 || faults[2].line != 9 || !strings.Contains(faults[0].msg, "roster: secret: open "+dir+"/t:") || !strings.Contains(faults[2].msg, "candidates: secret: open "+dir+"/u:") {
		t.Errorf("%v", faults)
	}
	write("p.toml", top+toFeishu+"proxy = \"http://proxy.corp:3128\"\nproxy_login_file = \"p\"\n", 0o644)
	proxied, err := loadConfig(filepath.Join(dir, "p.toml"), testBuild)
	if err != nil {
		t.Fatal(err)
	}
	write("s", "s3cret\n", 0o600)
	for text, want := range map[string]string{"": "is empty", "bob": "not in the form user:password", ":x": "not in the form user:password", "bob:hunter2\n": ""} {
		write("p", text, 0o600)
		if faults, _ := proxied.checkFiles(); (want == "") != (len(faults) == 0) || want != "" && !strings.Contains(faults.Error(), want) || strings.Contains(faults.Error(), "bob") {
			t.Errorf("%q: %v", text, faults)
		}
	}
	write("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644)
	if faults, warnings = c.checkFiles(); len(faults)+len(warnings) != 0 {
		t.Errorf("%v\n%v", faults, warnings)
	}
	// systemd shows group-readable modes in a directory that it keeps closed.
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	write("s", "s3cret", 0o440)
	if _, warnings = c.checkFiles(); len(warnings) != 0 {
		t.Errorf("%v", warnings)
	}
}

func TestMissingFileSaysHowToGetOne(t *testing.T) {
	_, err := loadConfig(filepath.Join(t.TempDir(), "none.toml"), testBuild)
	if err == nil || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "config example") {
		t.Error(err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(exampleConfig()))
	f.Add([]byte(top + serialReader + to104 + toFeishu))
	f.Add([]byte("\uFEFFschema = 1\r\ndevice.id = 'a'\r\nreader = [{name=1}, [2]]\r\n"))
	f.Add([]byte("[device.id.x]\n[[reader.a]]\n[[kiosk]]\n[kiosk.b]\nkiosk.c.d = [[{}]]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig("f", data, testBuild)
		if err == nil {
			var b bytes.Buffer
			if err := c.show(&b); err != nil {
				t.Fatal(err)
			}
			again, err := parseConfig("f", b.Bytes(), testBuild)
			if err != nil {
				t.Fatalf("does not read back: %v\n%s", err, b.Bytes())
			}
			if a, b := c.withoutMarks(), again.withoutMarks(); !reflect.DeepEqual(a, b) {
				t.Fatalf("%+v\nbecame\n%+v", a, b)
			}
			return
		}
		ps, ok := errors.AsType[problems](err)
		if !ok || len(ps) == 0 {
			t.Fatalf("an error of another kind: %v", err)
		}
		lines := 1 + bytes.Count(data, []byte{'\n'})
		for _, p := range ps {
			if p.line < 1 || p.col < 1 || p.line > lines || p.msg == "" || p.fix == "" {
				t.Fatalf("%+v in a file of %d lines", p, lines)
			}
		}
	})
}
