package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the zones live in the binary: a Pi's image may have none
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"punchclock/device/serialport"
	"punchclock/device/wiegand"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/resume"
	"punchclock/sync/signin"
	"punchclock/ui/lcd"
)

// The configuration file is read in two passes over one set of bytes. The first
// is go-toml's decoder into a plain tree: syntax, duplicate keys, values. The
// second walks the same bytes for the place of every key and value. Then each
// section below takes its keys out of the tree; a key nobody took is unknown.
// Decoding straight into structs would stop at the first wrong type and would
// know no place for "this must be at most 30": a technician at the door wants
// all that is wrong at once, each with its line and column.

// config is the whole file with every default filled in.
type config struct {
	path string // of the file; relative paths in it count from its directory

	Device       deviceConfig
	Kiosk        kioskConfig
	Clock        clockConfig
	Outbox       outboxConfig
	Badge        badgeConfig
	Roster       rosterConfig
	Candidates   candidatesConfig
	Indicator    indicatorConfig
	Display      displayConfig
	Logs         logsConfig
	Screen       screenConfig
	Support      supportConfig
	Schedule     []scheduleConfig
	Readers      []readerConfig
	Destinations []destinationConfig

	at struct{ rosterToken, rosterCA, candidatesSecret, candidatesCA mark }
}

type deviceConfig struct {
	ID       string
	Name     string
	Timezone *time.Location
	StateDir string // absolute, or beside the file
}

type kioskConfig struct {
	Listen          string // "" is off
	AllowRemote     bool
	Language        string
	DuplicateWindow time.Duration // 0 is off
	KindTimeout     time.Duration
	MaskNames       bool
	Portraits       bool
	Volume          int    // of the page's tones, 0 to 100
	Night           [2]int // minutes since local midnight, from and to; equal: no night
	Voices          string // folder of recordings, "" for none
}

type clockConfig struct {
	Trust string // auto or system
}

type outboxConfig struct {
	ReserveMB int // less free space than this on the state directory's file system: a tap is answered "not stored"
	KeepYears int // settled punches older than this are let go
}

// badgeConfig says which readings are one card.
type badgeConfig struct {
	SameCard []roster.Rule
}

// candidatesConfig says where people who are about to start are read from.
type candidatesConfig struct {
	APIBase, TokenURL string
	ClientID          string // "" is off
	SecretFile        string // as written; see config.secretPath
	Company           string // tax id, eight digits
	Flag              string // any, matched, applied or saved
	CallsPerSecond    int
	KeepDays          int    // who was not hired is forgotten then
	CAFile            string // "", absolute, or beside the file
}

// rosterConfig says where the roster is kept up to date from.
type rosterConfig struct {
	Source    string // a web address, or a file, absolute or beside the configuration; "" is none
	Every     time.Duration
	Encoding  string
	TokenFile string // as written; "" where the address asks nobody who they are
	CAFile    string // "", absolute, or beside the file
}

// displayConfig names a small display on the I²C bus.
type displayConfig struct {
	Driver        string // "" is none
	Bus           string
	Address       int // 0 looks at the usual ones
	Columns, Rows int // hd44780
}

// screenConfig names a display that the clock draws on by itself.
type screenConfig struct {
	Device string // "" is none; auto looks for one
	Turn   int    // degrees, clockwise
}

// indicatorConfig names output pins; "" is not wired.
type indicatorConfig struct {
	Green, Red, Amber, Blue, Buzzer, Relay string
	ActiveLow                              [6]bool // in the order of pins
	RelayPulse                             time.Duration
}

// fitted reports whether anything is wired.
func (v indicatorConfig) fitted() bool {
	return slices.ContainsFunc(v.pins(), func(p indicatorPin) bool { return *p.pin != "" })
}

type indicatorPin struct {
	key string
	pin *string
}

// scheduleConfig is the default kind from From (included) to To (excluded), in
// minutes since local midnight; To may be 1440. From > To runs over midnight.
type scheduleConfig struct {
	From, To int
	Kind     punch.Kind
}

type readerConfig struct {
	Name   string
	Driver string

	Port    string // a device's path
	Baud    int    // serial
	Dialect string // serial, evdev

	USB    string // evdev: vendor:product, "" for any
	Serial string // evdev
	Phys   string // evdev
	Digits int    // evdev: digits of a card whose leading zeros are left out; 0 is off

	Link string // pn532: hsu, i2c or spi
	IRQ  string // pn532: a line of the header, "" for none

	Chip          string   // keypad, wiegand: label or path, "" is the header's
	Rows, Columns []string // keypad
	Keys          string   // keypad

	D0, D1  string        // wiegand
	Formats []string      // wiegand
	Keypad  string        // wiegand: how its keys are sent, "" for none
	Enter   string        // wiegand
	Gap     time.Duration // wiegand

	at, atIRQ mark
}

type destinationConfig struct {
	Name           string
	Driver         string
	SecretFile     string // as written; see config.secretPath
	CallsPerSecond int
	Batch          int
	Statuses       []punch.Kind // what is sent; the rest is skipped
	CAFile         string       // "", absolute, or beside the file
	Proxy          string       // "" is none
	ProxyLoginFile string       // as written; "" for a proxy that asks nobody who they are

	// transfercard
	APIBase   string // no slash at the end
	TokenURL  string
	ClientID  string
	AuthStyle string // basic or body
	IdxBase   string // auto, 0 or 1
	EmpNoPad  int    // 0 is off
	UNO       string // "" is off
	UNOText   bool   // it goes out as a text

	// feishu
	BaseURL      string // no slash at the end; signin's too
	AppID        string
	EmployeeType string // employee_no or employee_id
	CreatorID    string // "" is the employee
	FieldOut     bool   // 外出 goes out as a punch outside the office

	// signin
	Mode           string // off or service_account
	LoginPath      string
	LogoutPath     string
	PunchPath      string
	TodayPath      string
	RecordsPath    string
	UserID         string
	TokenTransport string // bearer, header:<Name>, body:token_key or none
	GroupID        string // login or user
	Tolerant       bool   // answers may have commas before closing brackets

	at, atSecret, atCA, atProxyLogin mark
}

// withoutMarks is what the file says, without where it says it.
func (c *config) withoutMarks() config {
	out := *c
	out.Readers, out.Destinations = nil, nil
	out.at = config{}.at
	for _, r := range c.Readers {
		r.at, r.atIRQ = mark{}, mark{}
		out.Readers = append(out.Readers, r)
	}
	for _, d := range c.Destinations {
		out.Destinations = append(out.Destinations, d.withoutMarks())
	}
	return out
}

func (v destinationConfig) withoutMarks() destinationConfig {
	v.at, v.atSecret, v.atCA, v.atProxyLogin = mark{}, mark{}, mark{}, mark{}
	return v
}

// secretWanted reports whether the destination needs its secret's file.
func (v destinationConfig) secretWanted() bool { return v.Mode != "off" }

// inBuild is what this program was built with; a word that is not in it is refused.
type inBuild struct {
	readers      []string
	destinations []string
	dialects     []string
	languages    []string
}

// Drivers the file format knows. What is here and not in the build is refused as
// such, and not as a spelling mistake.
var (
	readerWords      = []string{"serial", "wiegand", "keypad", "evdev", "mfrc522", "pn532", "stdin"}
	destinationWords = []string{"transfercard", "feishu", "signin"}
)

// Speeds that readers are sold with.
var bauds = []int{1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200}

const (
	most104Calls    = 30 // 104: at most 30 calls a second
	most104Batch    = 500
	mostFeishuCalls = 50 // Feishu: 50 a second for the import
	mostFeishuBatch = 50 // Feishu: "operate too much flow" above it
	mostSigninCalls = 50 // no limit is known
	mostSigninBatch = 500
	mostConfigBytes = 1 << 20
)

// defaultConfig is every default there is. config show prints them.
func defaultConfig() *config {
	taipei, err := time.LoadLocation("Asia/Taipei")
	if err != nil {
		panic("the zone data is not in this binary: " + err.Error())
	}
	return &config{
		Device: deviceConfig{Timezone: taipei, StateDir: "/var/lib/punchclock"},
		Kiosk: kioskConfig{
			Listen: "127.0.0.1:8080", Language: "zh-TW",
			DuplicateWindow: 60 * time.Second, KindTimeout: 10 * time.Second,
			Volume: 60, Night: [2]int{22 * 60, 5 * 60},
		},
		Clock:     clockConfig{Trust: "auto"},
		Indicator: indicatorConfig{RelayPulse: time.Second},
		Display:   displayConfig{Bus: "/dev/i2c-1", Columns: 16, Rows: 2},
		Outbox:    outboxConfig{ReserveMB: 64, KeepYears: 5},
		Roster:    rosterConfig{Every: 15 * time.Minute, Encoding: "utf-8"},
		Candidates: candidatesConfig{APIBase: "https://apis.104api.com.tw/ehrweb_resume/1.0", TokenURL: "https://apis.104api.com.tw/oauth2/token",
			Flag: "any", CallsPerSecond: resume.DefaultCalls, KeepDays: 30},
		Badge: badgeConfig{SameCard: []roster.Rule{roster.Last4}},
	}
}

// defaultReader fills in what a driver takes for granted.
func defaultReader(driver string) readerConfig {
	switch driver {
	case "serial":
		return readerConfig{Driver: driver, Baud: 9600, Dialect: "rdm6300"}
	case "evdev":
		return readerConfig{Driver: driver, Dialect: "dec-line"}
	case "mfrc522":
		return readerConfig{Driver: driver, Port: "/dev/spidev0.0"}
	case "pn532":
		return readerConfig{Driver: driver, Link: "hsu"}
	case "wiegand":
		return readerConfig{Driver: driver, Formats: wiegand.DefaultFormats(), Enter: "#", Gap: 30 * time.Millisecond}
	}
	return readerConfig{Driver: driver}
}

// defaultDestination fills in what a driver takes for granted.
func defaultDestination(driver string) destinationConfig {
	all := slices.Clone(punch.Kinds[:])
	switch driver {
	case "transfercard":
		return destinationConfig{
			Driver: driver, CallsPerSecond: 25, Batch: 50, Statuses: all,
			APIBase: "https://apis.104api.com.tw/prohrm/1.0", TokenURL: "https://apis.104api.com.tw/oauth2/token",
			AuthStyle: "basic", IdxBase: "auto",
		}
	case "feishu":
		return destinationConfig{
			Driver: driver, CallsPerSecond: 10, Batch: 50, Statuses: all,
			BaseURL: "https://open.feishu.cn", EmployeeType: "employee_no",
		}
	case "signin":
		paths := signin.DefaultPaths()
		return destinationConfig{
			Driver: driver, CallsPerSecond: 5, Batch: 1, Statuses: all, Mode: "off",
			LoginPath: paths.Login, LogoutPath: paths.Logout, PunchPath: paths.Punch, TodayPath: paths.Today, RecordsPath: paths.Records,
			TokenTransport: "bearer", GroupID: "login",
		}
	}
	return destinationConfig{Driver: driver, Statuses: all}
}

// problem is one thing wrong with the file, and what to write instead.
type problem struct {
	file      string
	line, col int // from 1; col counts characters
	msg, fix  string
}

func (p problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s; %s", p.file, p.line, p.col, p.msg, p.fix)
}

// problems is the error of a file that was refused, in order of place.
type problems []problem

func (ps problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// loadConfig reads and checks a file. The error is problems where the text is at
// fault. It opens no other file: see config.checkFiles.
func loadConfig(path string, have inBuild) (*config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w; name the file with --config, or write one with: punchclock config example", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, mostConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w; give --config a plain file", err)
	}
	return parseConfig(path, data, have)
}

// parseConfig checks the text of a file of that name. All that is wrong with it
// comes back as one problems error, except that a file which is not TOML at all
// has only the first place where it is not.
func parseConfig(path string, data []byte, have inBuild) (*config, error) {
	return parseConfigAnd(path, data, have, nil)
}

// parseConfigAnd is parseConfig for a file with sections of its own beside those of
// a configuration: more takes them, after all others were read.
func parseConfigAnd(path string, data []byte, have inBuild, more func(root *section, c *config)) (*config, error) {
	d := &document{file: path, data: bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))}
	switch {
	case len(data) > mostConfigBytes:
		return nil, problems{{path, 1, 1, "the file is larger than 1 MiB", "this is not a punchclock configuration: check --config"}}
	case bytes.HasPrefix(data, []byte("\xFF\xFE")), bytes.HasPrefix(data, []byte("\xFE\xFF")):
		return nil, problems{{path, 1, 1, "the file is UTF-16", "save it as UTF-8"}}
	case !utf8.Valid(d.data):
		at := 0
		for at < len(d.data) {
			r, n := utf8.DecodeRune(d.data[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		line, col := d.place(at)
		return nil, problems{{path, line, col, "the text is not UTF-8", "save the file as UTF-8 (not Big5 or GBK)"}}
	}
	var tree map[string]any
	if err := toml.Unmarshal(d.data, &tree); err != nil {
		return nil, problems{d.syntax(err)}
	}
	d.index()

	c := defaultConfig()
	c.path = path
	root := &section{d: d, m: tree}
	schema := int64(1)
	switch {
	case !root.integer("schema", &schema, math.MinInt64, math.MaxInt64):
		if _, given := tree["schema"]; !given {
			root.bad("schema", "schema is missing", "write schema = 1 as the first line")
		}
	case schema != 1:
		root.bad("schema", fmt.Sprintf("schema %d is not known to this punchclock", schema), "write schema = 1, or install a newer punchclock")
		return nil, d.problems // nothing else in it can be judged
	}
	c.Device.read(root.table("device"), c)
	c.Kiosk.read(root.table("kiosk"), have)
	c.Kiosk.Voices = c.beside(c.Kiosk.Voices)
	c.Clock.read(root.table("clock"))
	c.Outbox.read(root.table("outbox"))
	c.Badge.read(root.table("badge"))
	c.Roster.read(root.table("roster"), c)
	c.Candidates.read(root.table("candidates"), c)
	c.Indicator.read(root.table("indicator"))
	c.Display.read(root.table("display"))
	c.Logs.read(root.table("logs"), c)
	c.Screen.read(root.table("screen"))
	c.Support.read(root.table("support"))
	for _, s := range root.tables("schedule") {
		c.Schedule = append(c.Schedule, readSchedule(s))
	}
	for _, s := range root.tables("reader") {
		c.Readers = append(c.Readers, readReader(s, have, c))
	}
	for _, s := range root.tables("destination") {
		c.Destinations = append(c.Destinations, readDestination(s, have, c))
	}
	if more != nil {
		more(root, c)
	}
	root.done()
	c.twice(d)
	c.linesTwice(d)
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b problem) int {
			if a.line != b.line {
				return a.line - b.line
			}
			return a.col - b.col
		})
		return nil, d.problems
	}
	return c, nil
}

var (
	idForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	readerForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,15}$`)
	pinForm    = regexp.MustCompile(`^GPIO([0-9]|1[0-9]|2[0-7])$`) // the 28 lines of the header
	unoForm    = regexp.MustCompile(`^[0-9]{8}$`)
)

func (v *deviceConfig) read(s *section, c *config) {
	if s.text("id", &v.ID) && !idForm.MatchString(v.ID) {
		s.bad("id", fmt.Sprintf("device id %q is not a name that can be part of a punch id", v.ID),
			"use 1 to 32 small letters, digits and dashes, beginning with a letter or digit, for example tpe-1f-lobby")
	} else if !s.given("id") {
		s.bad("id", "device.id is missing", `write id = "tpe-1f-lobby" under [device]; it is part of every punch id, so choose it once`)
	}
	v.Name = v.ID
	if s.text("name", &v.Name) {
		s.printable("name", v.Name, 64)
	}
	if strings.TrimSpace(v.Name) == "" { // Feishu takes no place without a name
		v.Name = v.ID
	}
	var zone string
	if s.text("timezone", &zone) {
		loc, err := time.LoadLocation(zone)
		if err != nil || zone == "" || zone == "Local" {
			s.bad("timezone", fmt.Sprintf("timezone %q is not an IANA zone", zone), `write for example "Asia/Taipei" or "Asia/Shanghai"`)
		} else {
			v.Timezone = loc
		}
	}
	if s.text("state_dir", &v.StateDir) && v.StateDir == "" {
		s.bad("state_dir", "state_dir is empty", `name a directory, for example "/var/lib/punchclock"`)
	}
	v.StateDir = c.beside(v.StateDir)
	s.done()
}

func (v *kioskConfig) read(s *section, have inBuild) {
	s.text("listen", &v.Listen)
	s.boolean("allow_remote", &v.AllowRemote)
	if v.Listen != "" {
		if loopback, err := listenAddress(v.Listen); err != nil {
			s.bad("listen", fmt.Sprintf("listen address %q: %v", v.Listen, err), `write "127.0.0.1:8080", or "" to turn the page off`)
		} else if !loopback && !v.AllowRemote {
			s.bad("listen", fmt.Sprintf("listen address %q can be reached from the network", v.Listen),
				`write "127.0.0.1:8080", or add allow_remote = true if everybody on that network may see names and punch by PIN`)
		}
	}
	s.oneOf("language", &v.Language, have.languages)
	s.duration("duplicate_window", &v.DuplicateWindow, 0, 12*time.Hour)
	s.duration("kind_timeout", &v.KindTimeout, time.Second, 10*time.Minute)
	s.boolean("mask_names", &v.MaskNames)
	s.boolean("portraits", &v.Portraits)
	s.number("volume", &v.Volume, 0, 100)
	s.text("voices", &v.Voices)
	var night string
	if s.text("night", &night) {
		if hours, ok := parseNight(night); ok {
			v.Night = hours
		} else {
			s.bad("night", fmt.Sprintf("night %q is not from one time of day to another", night), `write for example "22:00-05:00", or "" for none`)
		}
	}
	s.done()
}

// parseNight reads "22:00-05:00" as minutes of the day, "" as none.
func parseNight(text string) (v [2]int, ok bool) {
	if text == "" {
		return v, true
	}
	from, to, _ := strings.Cut(text, "-")
	for i, part := range []string{from, to} {
		t, err := time.Parse("15:04", part)
		if err != nil || len(part) != 5 {
			return v, false
		}
		v[i] = t.Hour()*60 + t.Minute()
	}
	return v, v[0] != v[1]
}

// showNight writes it back.
func showNight(v [2]int) string {
	if v[0] == v[1] {
		return ""
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", v[0]/60, v[0]%60, v[1]/60, v[1]%60)
}

func (v *clockConfig) read(s *section) {
	s.oneOf("trust", &v.Trust, []string{"auto", "system"})
	s.done()
}

func (v *outboxConfig) read(s *section) {
	s.number("reserve_mb", &v.ReserveMB, 0, 10_000)
	s.number("keep_years", &v.KeepYears, 1, 20)
	s.done()
}

func (v *candidatesConfig) read(s *section, c *config) {
	s.baseURL("api_base", &v.APIBase)
	s.baseURL("token_url", &v.TokenURL)
	s.text("client_id", &v.ClientID)
	s.text("client_secret_file", &v.SecretFile)
	if s.text("company", &v.Company) && v.Company != "" && !unoForm.MatchString(v.Company) {
		s.bad("company", fmt.Sprintf("company %q is not a tax id", v.Company), "write its eight digits, as text")
	}
	s.oneOf("flag", &v.Flag, slices.Sorted(maps.Keys(resumeFlags)))
	s.number("calls_per_second", &v.CallsPerSecond, 1, resume.MostCalls)
	s.number("keep_days", &v.KeepDays, 1, 365)
	s.text("ca_file", &v.CAFile)
	v.CAFile = c.beside(v.CAFile)
	c.at.candidatesSecret, c.at.candidatesCA = s.mark("client_secret_file"), s.mark("ca_file")
	if v.ClientID != "" {
		for key, have := range map[string]string{"client_secret_file": v.SecretFile, "company": v.Company} {
			if have == "" {
				s.bad(key, key+" is missing", `with client_id it takes company = "12345678" and client_secret_file = "104-resume-secret"`)
			}
		}
	}
	s.done()
}

func (v *rosterConfig) read(s *section, c *config) {
	if s.text("source", &v.Source) && v.Source != "" {
		if webAddress(v.Source) {
			u, err := url.Parse(v.Source)
			switch {
			case err != nil || u.Host == "":
				s.bad("source", "source is not a web address", `write for example "https://hr.example.com/clocks/roster.csv"`)
			case u.User != nil:
				s.bad("source", "source holds a user name or password", "write it without; a token goes into token_file")
			case u.Scheme == "http" && !loopbackHost(u.Hostname()):
				s.bad("source", "source is plain http to another machine", "write https://: names and PINs are in it")
			}
		} else {
			v.Source = c.beside(v.Source)
		}
	}
	s.duration("every", &v.Every, time.Minute, 24*time.Hour)
	s.oneOf("encoding", &v.Encoding, roster.Encodings())
	s.text("token_file", &v.TokenFile)
	s.text("ca_file", &v.CAFile)
	v.CAFile = c.beside(v.CAFile)
	c.at.rosterToken, c.at.rosterCA = s.mark("token_file"), s.mark("ca_file")
	if v.Source == "" || !webAddress(v.Source) {
		for _, key := range []string{"token_file", "ca_file"} {
			if s.given(key) {
				s.bad(key, key+" is for a source that is a web address", "leave it out, or write an https:// address into source")
			}
		}
	}
	s.done()
}

func (v *badgeConfig) read(s *section) {
	words := make([]string, len(roster.Rules))
	for i, r := range roster.Rules {
		words[i] = string(r)
	}
	if list, ok := s.words("same_card", "rule", words, `["last4"]`); ok {
		v.SameCard = []roster.Rule{}
		for _, w := range list {
			v.SameCard = append(v.SameCard, roster.Rule(w))
		}
	}
	s.done()
}

// cards is what the roster is told of the site's readers.
func (c *config) cards() roster.Cards {
	cards := roster.Cards{Same: c.Badge.SameCard, Reads: []int{}}
	for _, r := range c.Readers {
		cards.Reads = append(cards.Reads, r.reads()...)
		cards.Any = cards.Any || r.Driver == "stdin" // whatever writes to it says which medium
	}
	return cards
}

// reads is how many bytes of a card a reader may tell.
func (r readerConfig) reads() []int {
	if r.Driver == "wiegand" {
		return wiegandReads(r.Formats)
	}
	switch r.Driver + " " + r.Dialect {
	case "serial rdm6300", "serial id12la", "serial idteck", "serial parallax":
		return []int{5}
	case "serial raw4":
		return []int{4}
	case "serial hex-line", "evdev hex-line":
		return []int{4, 5, 7, 10}
	case "serial dec-line", "evdev dec-line":
		return []int{3, 4, 5}
	case "mfrc522 ", "pn532 ":
		return []int{4, 7, 10}
	case "keypad ":
		return nil
	}
	return []int{3, 4, 5, 7, 10} // as it is set, or as it is typed
}

// pins lists the outputs in the order of the file.
func (v *indicatorConfig) pins() []indicatorPin {
	return []indicatorPin{{"green", &v.Green}, {"red", &v.Red}, {"amber", &v.Amber}, {"blue", &v.Blue}, {"buzzer", &v.Buzzer}, {"relay", &v.Relay}}
}

func (v *displayConfig) read(s *section) {
	var size string
	s.oneOf("driver", &v.Driver, append([]string{""}, lcd.Drivers()...))
	if s.text("bus", &v.Bus) && !busForm.MatchString(v.Bus) {
		s.bad("bus", fmt.Sprintf("bus %q is no I²C bus", v.Bus), `write for example "/dev/i2c-1"`)
	}
	s.number("address", &v.Address, 0, 0x77)
	if s.oneOf("size", &size, displaySizes) {
		fmt.Sscanf(size, "%dx%d", &v.Columns, &v.Rows)
		if v.Driver != "hd44780" {
			s.bad("size", "size is for an hd44780", "leave it out: the others have 128x64 dots")
		}
	}
	s.done()
}

func (v *screenConfig) read(s *section) {
	if s.text("device", &v.Device) && !screenForm.MatchString(v.Device) {
		s.bad("device", fmt.Sprintf("device %q is no display", v.Device), `write "auto" to have one looked for, a path such as "/dev/dri/card0" or "/dev/fb0", or "" for none`)
	}
	if s.number("turn", &v.Turn, 0, 270) && v.Turn%90 != 0 {
		s.bad("turn", fmt.Sprintf("a picture cannot be turned by %d degrees", v.Turn), "write 0, 90, 180 or 270")
	}
	s.done()
}

var (
	screenForm   = regexp.MustCompile(`^(|auto|/dev/dri/card[0-9]{1,2}|/dev/fb[0-9]{1,2})$`)
	busForm      = regexp.MustCompile(`^/dev/i2c-[0-9]{1,3}$`)
	displaySizes = []string{"16x2", "20x4", "16x4", "20x2"}
)

func (v *indicatorConfig) read(s *section) {
	used := map[string]string{}
	for _, p := range v.pins() {
		if !s.text(p.key, p.pin) || *p.pin == "" {
			continue
		}
		if !pinForm.MatchString(*p.pin) {
			s.bad(p.key, fmt.Sprintf("pin %q is not a line of the header", *p.pin), `write "GPIO0" to "GPIO27", or "" if it is not wired`)
		} else if other := used[*p.pin]; other != "" {
			s.bad(p.key, fmt.Sprintf("%s is already the pin of %s", *p.pin, other), "give each output a pin of its own")
		}
		used[*p.pin] = p.key
	}
	v.readActiveLow(s)
	s.duration("relay_pulse", &v.RelayPulse, 200*time.Millisecond, 10*time.Second)
	s.done()
}

// readActiveLow takes which outputs are on at the low level: all of them, none, or
// those in a list. Relay boards often are where lamps are not.
func (v *indicatorConfig) readActiveLow(s *section) {
	if _, list := s.m["active_low"].([]any); !list {
		var all bool
		if s.boolean("active_low", &all) && all {
			for i := range v.ActiveLow {
				v.ActiveLow[i] = true
			}
		}
		return
	}
	var known []string
	for _, p := range v.pins() {
		known = append(known, p.key)
	}
	words, _ := s.words("active_low", "output", known, `["relay"]`)
	for i, key := range known {
		v.ActiveLow[i] = slices.Contains(words, key)
	}
}

func readSchedule(s *section) (v scheduleConfig) {
	clock := func(key string, dst *int, latest string) {
		var text string
		if s.text(key, &text) {
			if t, err := time.Parse("15:04", text); err == nil && len(text) == 5 {
				*dst = t.Hour()*60 + t.Minute()
			} else if latest != "" && text == latest {
				*dst = 24 * 60
			} else {
				s.bad(key, fmt.Sprintf("%q is not a time of day", text), `write hours and minutes, for example "08:30"`)
			}
		} else if !s.given(key) {
			s.bad(key, fmt.Sprintf("this schedule entry has no %s", key), fmt.Sprintf(`write %s = "08:30" under [[schedule]]`, key))
		}
	}
	before := len(s.d.problems)
	clock("from", &v.From, "")
	clock("to", &v.To, "24:00")
	if len(s.d.problems) == before && v.From == v.To {
		s.bad("to", "this schedule entry begins and ends at the same minute", `for a whole day write from = "00:00" and to = "24:00"`)
	}
	var kind string
	if s.text("kind", &kind) {
		k, err := punch.ParseKind(kind)
		if err != nil {
			s.bad("kind", fmt.Sprintf("kind %q is not known", kind), "write "+quotedList(kindWords(punch.Kinds[:])))
		}
		v.Kind = k
	} else if !s.given("kind") {
		s.bad("kind", "this schedule entry has no kind", "write kind = one of "+quotedList(kindWords(punch.Kinds[:])))
	}
	s.done()
	return v
}

func readReader(s *section, have inBuild, c *config) readerConfig {
	var name, driver string
	s.name("reader", &name, readerForm, "front", 16)
	if !s.driver("reader", &driver, readerWords, have.readers) {
		return readerConfig{Name: name, at: s.mark("name")}
	}
	v := defaultReader(driver)
	v.Name, v.at = name, s.mark("name")
	switch driver {
	case "serial":
		if s.text("port", &v.Port); v.Port != "" {
			v.Port = c.beside(v.Port)
		} else if s.textOrMissing("port") {
			s.bad("port", "a serial reader needs its port", `write port = "/dev/serial/by-id/…", see: ls /dev/serial/by-id`)
		}
		s.oneOf("dialect", &v.Dialect, have.dialects)
		if v.Dialect == "parallax" {
			v.Baud = 2400 // the only speed it has
		}
		if s.number("baud", &v.Baud, 1, math.MaxInt32) && !slices.Contains(bauds, v.Baud) {
			s.bad("baud", fmt.Sprintf("%d baud is not a speed that readers have", v.Baud),
				"write one of "+strings.Trim(strings.ReplaceAll(fmt.Sprint(bauds), " ", ", "), "[]")+"; most have 9600")
		}
	case "evdev":
		v.readEvdev(s, c)
	case "mfrc522":
		v.readSPI(s)
	case "pn532":
		v.readPN532(s, c)
	case "keypad":
		v.readKeypad(s)
	case "wiegand":
		v.readWiegand(s)
	}
	s.done()
	return v
}

func readDestination(s *section, have inBuild, c *config) destinationConfig {
	var name, driver string
	s.name("destination", &name, idForm, "104", 32)
	if !s.driver("destination", &driver, destinationWords, have.destinations) {
		return destinationConfig{Name: name, at: s.mark("name")}
	}
	v := defaultDestination(driver)
	v.Name, v.at = name, s.mark("name")
	required := func(key string, dst *string, example string) {
		if s.text(key, dst); *dst == "" && s.textOrMissing(key) {
			s.bad(key, fmt.Sprintf("destination %q needs %s", name, key), fmt.Sprintf("write %s = %q", key, example))
		}
	}
	switch driver {
	case "transfercard":
		s.baseURL("api_base", &v.APIBase)
		s.baseURL("token_url", &v.TokenURL)
		required("client_id", &v.ClientID, "the id that 104 gave your company")
		required("client_secret_file", &v.SecretFile, "104-secret")
		v.atSecret = s.mark("client_secret_file")
		s.number("calls_per_second", &v.CallsPerSecond, 1, most104Calls)
		s.number("batch", &v.Batch, 1, most104Batch)
		switch n := s.m["idx_base"].(type) { // 0 and 1 also without quotes
		case int64:
			s.take("idx_base")
			if v.IdxBase = fmt.Sprint(n); n != 0 && n != 1 {
				s.bad("idx_base", fmt.Sprintf("idx_base %d is impossible", n), `write "auto", 0 or 1`)
			}
		default:
			s.oneOf("idx_base", &v.IdxBase, []string{"auto", "0", "1"})
		}
		s.oneOf("auth_style", &v.AuthStyle, []string{"basic", "body"})
		s.number("emp_no_pad", &v.EmpNoPad, 0, 20)
		if s.text("uno", &v.UNO) && v.UNO != "" && !unoForm.MatchString(v.UNO) {
			s.bad("uno", fmt.Sprintf("uno %q is not a company tax id", v.UNO), `write eight digits in quotes, for example "12345678", or "" for a company's own account`)
		}
		s.boolean("uno_text", &v.UNOText)
	case "feishu":
		s.baseURL("base_url", &v.BaseURL)
		required("app_id", &v.AppID, "cli_…")
		required("app_secret_file", &v.SecretFile, "feishu-secret")
		v.atSecret = s.mark("app_secret_file")
		s.oneOf("employee_type", &v.EmployeeType, []string{"employee_no", "employee_id"})
		s.number("calls_per_second", &v.CallsPerSecond, 1, mostFeishuCalls)
		s.number("batch", &v.Batch, 1, mostFeishuBatch)
		s.text("creator_id", &v.CreatorID)
		s.boolean("field_out", &v.FieldOut)
	case "signin":
		v.readSignin(s, required)
	}
	s.kinds("statuses", &v.Statuses)
	s.text("ca_file", &v.CAFile)
	v.CAFile = c.beside(v.CAFile)
	v.atCA = s.mark("ca_file")
	s.proxy("proxy", &v.Proxy)
	if s.text("proxy_login_file", &v.ProxyLoginFile); v.ProxyLoginFile != "" && (s.m["proxy"] == nil || s.m["proxy"] == "") {
		s.bad("proxy_login_file", fmt.Sprintf("destination %q has a proxy_login_file and no proxy", name), `write proxy = "http://proxy.corp:3128", or remove proxy_login_file`)
	}
	v.atProxyLogin = s.mark("proxy_login_file")
	s.done()
	return v
}

// readSignin reads what is the sign-in system's own. An account is needed only
// where something is sent.
func (v *destinationConfig) readSignin(s *section, required func(key string, dst *string, example string)) {
	if s.m["mode"] == "keypad_login" {
		s.take("mode")
		s.bad("mode", "mode \"keypad_login\" is not built: it would ask for an employee's own password at the door, and without the network nothing could be sent later",
			`write "service_account", or "off"`)
	} else {
		s.oneOf("mode", &v.Mode, []string{"off", "service_account"})
	}
	s.baseURL("base_url", &v.BaseURL)
	if v.Mode == "off" {
		v.Batch = mostSigninBatch // skipping is no call, only a receipt
		s.text("user_id", &v.UserID)
		s.text("password_file", &v.SecretFile)
	} else {
		if _, isText := s.m["base_url"].(string); !isText && !s.given("base_url") {
			s.bad("base_url", fmt.Sprintf("destination %q needs base_url", v.Name), `write base_url = "https://signin.example.com", the sign-in system's address`)
		}
		required("user_id", &v.UserID, "the account that punches for everybody")
		required("password_file", &v.SecretFile, "signin-password")
	}
	v.atSecret = s.mark("password_file")
	for _, p := range []struct {
		key string
		dst *string
	}{{"login_path", &v.LoginPath}, {"logout_path", &v.LogoutPath}, {"punch_path", &v.PunchPath}, {"today_path", &v.TodayPath}, {"records_path", &v.RecordsPath}} {
		if s.text(p.key, p.dst) && signin.CheckPath(*p.dst) != nil {
			s.bad(p.key, fmt.Sprintf("%s %q is not a path", p.key, *p.dst), "write it from the first slash on, without host and query, for example "+quote(signin.DefaultPaths().Punch))
		}
	}
	if s.text("token_transport", &v.TokenTransport) {
		if err := signin.CheckTransport(v.TokenTransport); err != nil {
			s.bad("token_transport", fmt.Sprintf("token_transport %q: %v", v.TokenTransport, err), `write "bearer", "header:X-Token", "body:token_key" or "none"`)
		}
	}
	s.oneOf("group_id", &v.GroupID, []string{"login", "user"})
	s.boolean("tolerant", &v.Tolerant)
	s.number("calls_per_second", &v.CallsPerSecond, 1, mostSigninCalls)
	s.number("batch", &v.Batch, 1, mostSigninBatch)
}

// twice finds what may be there only once: names, ports, standard input.
func (c *config) twice(d *document) {
	names, ports := map[string]bool{}, map[string]string{}
	for _, r := range c.Readers {
		if r.Name != "" && names[r.Name] {
			d.badAt(r.at.val, fmt.Sprintf("a second reader is named %q", r.Name), "give each reader a name of its own")
		}
		names[r.Name] = true
		port := r.Port
		switch {
		case r.Driver == "stdin":
			port = "standard input"
		case r.Driver == "evdev" && port == "":
			port = "the USB device " + strings.TrimSpace(r.USB+" "+r.Serial+" "+r.Phys)
		}
		if first, taken := ports[port]; port != "" && taken {
			d.badAt(r.at.val, fmt.Sprintf("readers %q and %q share %s", first, r.Name, port), "remove one of them; two readers on one line steal each other's bytes")
		}
		ports[port] = r.Name
		for _, p := range c.Indicator.pins() {
			if r.IRQ != "" && r.IRQ == *p.pin {
				d.badAt(r.atIRQ.val, fmt.Sprintf("%s is already the pin of indicator.%s", r.IRQ, p.key), "give the reader's irq a line of its own")
			}
		}
	}
	names = map[string]bool{}
	for _, v := range c.Destinations {
		if v.Name != "" && names[v.Name] {
			d.badAt(v.at.val, fmt.Sprintf("a second destination is named %q", v.Name), "give each destination a name of its own; its position in the outbox hangs on it")
		}
		names[v.Name] = true
	}
}

// beside resolves a path that is not absolute against the file's directory.
func (c *config) beside(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(c.path), path)
}

// secretPath resolves a secret's file: absolute as it is, else below
// $CREDENTIALS_DIRECTORY where systemd hands secrets over, else beside the
// configuration.
func (c *config) secretPath(name string) string {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && !filepath.IsAbs(name) {
		return filepath.Join(dir, name)
	}
	return c.beside(name)
}

// checkFiles opens the secrets and root certificates that the configuration names.
// faults are what a destination, the roster or the candidates cannot work with: run
// keeps such a destination as misconfigured and keeps its punches until the file is
// there; config check ends with 2. warnings are for a person to read.
func (c *config) checkFiles() (faults, warnings problems) {
	add := func(to *problems, m mark, msg, fix string) {
		*to = append(*to, problem{c.path, max(1, m.val.line), max(1, m.val.col), msg, fix})
	}
	secret := func(m mark, who, name, what string, good func(string) bool) {
		path := c.secretPath(name)
		if text, err := readSecret(path); err != nil {
			add(&faults, m, fmt.Sprintf("%s: %v", who, err), "write "+what+", and nothing else, into that file, readable only by the program's user")
		} else if !good(text) {
			add(&faults, m, fmt.Sprintf("%s: %s is not in the form %s", who, path, what), "write "+what+", on one line")
		} else if secretIsOpen(path) {
			add(&warnings, m, fmt.Sprintf("%s: %s can be read by other users of this machine", who, path), "run: chmod 600 "+path)
		}
	}
	anything := func(string) bool { return true }
	authority := func(m mark, who, file string) {
		if file == "" {
			return
		}
		if err := checkPEM(file); err != nil {
			add(&faults, m, fmt.Sprintf("%s: %v", who, err), `name a file with certificates in PEM form, or write ca_file = ""`)
		}
	}
	if c.Roster.TokenFile != "" {
		secret(c.at.rosterToken, "roster", c.Roster.TokenFile, "the token", anything)
	}
	authority(c.at.rosterCA, "roster", c.Roster.CAFile)
	if c.Candidates.ClientID != "" {
		secret(c.at.candidatesSecret, "candidates", c.Candidates.SecretFile, "the secret", anything)
	}
	authority(c.at.candidatesCA, "candidates", c.Candidates.CAFile)
	for _, v := range c.Destinations {
		who := fmt.Sprintf("destination %q", v.Name)
		if v.secretWanted() {
			secret(v.atSecret, who, v.SecretFile, "the secret", anything)
		}
		authority(v.atCA, who, v.CAFile)
		if v.ProxyLoginFile != "" {
			secret(v.atProxyLogin, who, v.ProxyLoginFile, "user:password", func(login string) bool {
				user, _, ok := strings.Cut(login, ":")
				return ok && user != ""
			})
		}
	}
	return faults, warnings
}

// readSecret returns what is in a secret's file, without a byte order mark and
// without one newline at the end. An empty file is an error; the secret is in no
// error.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, mostSecretBytes+1))
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	return trimSecret(path, string(b))
}

const mostSecretBytes = 4096

// trimSecret returns the secret in a text of that name, as readSecret does.
func trimSecret(name, s string) (string, error) {
	if len(s) > mostSecretBytes {
		return "", fmt.Errorf("secret: %s is larger than %d bytes, which no secret is", name, mostSecretBytes)
	}
	s = strings.TrimPrefix(s, "\uFEFF")
	s = strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
	switch {
	case strings.TrimSpace(s) == "":
		return "", fmt.Errorf("secret: %s is empty", name)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", fmt.Errorf("secret: %s holds more than one line, or characters that no secret has", name)
	}
	return s, nil
}

// secretIsOpen reports whether others than the file's owner can read it. Below
// $CREDENTIALS_DIRECTORY the bits mean nothing: systemd closes the directory.
func secretIsOpen(path string) bool {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && strings.HasPrefix(path, filepath.Clean(dir)+"/") {
		return false
	}
	st, err := os.Stat(path)
	return err == nil && st.Mode().Perm()&0o077 != 0
}

// checkPEM reports whether a file holds at least one certificate, by its form.
func checkPEM(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("root certificates: %w", err)
	}
	for {
		var block *pem.Block
		block, b = pem.Decode(b)
		if block == nil {
			return fmt.Errorf("root certificates: %s holds no certificate in PEM form", path)
		}
		if block.Type == "CERTIFICATE" {
			return nil
		}
	}
}

// listenAddress checks host:port and reports whether only this machine can reach it.
func listenAddress(s string) (loopback bool, err error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false, errors.New("it is not host:port")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false, errors.New("the port is not a number from 0 to 65535")
	}
	if host == "localhost" {
		return true, nil
	}
	if host == "" {
		return false, nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false, errors.New("the host is neither an IP address nor localhost")
	}
	return ip.Unmap().IsLoopback(), nil
}

// document is one text, the places in it, and what is wrong with it.
type document struct {
	file     string
	data     []byte
	starts   []int // the offset of each line
	marks    map[string]mark
	problems problems
}

// place is a line and a column, from 1.
type place struct{ line, col int }

// mark is where a key and its value stand. A table's value stands at its key.
type mark struct{ key, val place }

// place turns an offset into a line and a column counted in characters.
func (d *document) place(offset int) (line, col int) {
	if d.starts == nil {
		d.starts = []int{0}
		for i, c := range d.data {
			if c == '\n' {
				d.starts = append(d.starts, i+1)
			}
		}
	}
	offset = min(max(offset, 0), len(d.data))
	line, found := slices.BinarySearch(d.starts, offset)
	if found {
		line++
	}
	return line, 1 + utf8.RuneCount(d.data[d.starts[line-1]:offset])
}

// syntax turns go-toml's error into a problem.
func (d *document) syntax(err error) problem {
	p := problem{file: d.file, line: 1, col: 1, msg: "this is not TOML: " + strings.TrimPrefix(err.Error(), "toml: "),
		fix: `write key = "value", one to a line; punchclock config example shows a whole file`}
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		// Its column counts bytes.
		row, col := de.Position()
		p.line, p.col = row, col
		lines := bytes.Split(d.data, []byte{'\n'})
		if row >= 1 && row <= len(lines) {
			p.col = 1 + utf8.RuneCount(lines[row-1][:min(max(col-1, 0), len(lines[row-1]))])
		}
		if strings.Contains(p.msg, "already") || strings.Contains(p.msg, "duplicate") {
			p.fix = "keep one of the two"
		}
	}
	return p
}

// step joins a path in the tree; at names an element of a list. The separators
// cannot be in a key that anybody looks for.
func step(path, key string) string      { return path + "\x00" + key }
func element(path string, i int) string { return fmt.Sprintf("%s\x01%d", path, i) }
func (d *document) at(r unstable.Range) place {
	line, col := d.place(int(r.Offset))
	return place{line, col}
}

// index walks the text, which is known to be good, and notes where everything is.
func (d *document) index() {
	d.marks = map[string]mark{}
	lists := map[string]int{} // how many [[tables]] a path has so far
	note := func(path string, m mark) {
		if _, had := d.marks[path]; !had {
			d.marks[path] = m
		}
	}
	var value func(path string, n *unstable.Node)
	keyValue := func(path string, n *unstable.Node) {
		keys := n.Key()
		for keys.Next() {
			k := keys.Node()
			path = step(path, string(k.Data))
			m := mark{d.at(k.Raw), d.at(k.Raw)}
			if v := n.Value(); v.Raw.Length > 0 {
				m.val = d.at(v.Raw)
			}
			note(path, m)
		}
		value(path, n.Value())
	}
	value = func(path string, n *unstable.Node) {
		children, i := n.Children(), 0
		for children.Next() {
			c := children.Node()
			switch {
			case n.Kind == unstable.InlineTable:
				keyValue(path, c)
			case n.Kind == unstable.Array:
				m := mark{d.at(c.Raw), d.at(c.Raw)}
				if c.Raw.Length == 0 { // a list in a list has no place of its own
					m = d.marks[path]
				}
				note(element(path, i), m)
				value(element(path, i), c)
				i++
			}
		}
	}
	var p unstable.Parser
	p.Reset(d.data)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			keys := e.Key()
			table = ""
			for keys.Next() {
				k := keys.Node()
				last := k.Next() == nil
				table = step(table, string(k.Data))
				m := mark{d.at(k.Raw), d.at(k.Raw)}
				note(table, m)
				if last && e.Kind == unstable.ArrayTable {
					lists[table]++
				}
				if n := lists[table]; n > 0 {
					table = element(table, n-1)
					note(table, m)
				}
			}
		case unstable.KeyValue:
			keyValue(table, e)
		}
	}
}

func (d *document) badAt(p place, msg, fix string) {
	d.problems = append(d.problems, problem{d.file, max(1, p.line), max(1, p.col), msg, fix})
}

// section is one table that is being read. A key is known once it was asked for.
type section struct {
	d     *document
	path  string
	word  string // as written between the brackets; "" for the top
	m     map[string]any
	known []string

	broken bool // it is no table, which was reported: nothing in it can be missing
}

func (s *section) take(key string) any {
	if !slices.Contains(s.known, key) {
		s.known = append(s.known, key)
	}
	return s.m[key]
}

func (s *section) given(key string) bool { _, ok := s.m[key]; return ok || s.broken }

// textOrMissing tells an absent or empty text from one of the wrong type, which
// was reported already.
func (s *section) textOrMissing(key string) bool {
	_, isText := s.m[key].(string)
	return isText || !s.given(key)
}

// mark is where a key stands, or else its table, or else the top of the file.
func (s *section) mark(key string) mark {
	if m, ok := s.d.marks[step(s.path, key)]; ok {
		return m
	}
	if m, ok := s.d.marks[s.path]; ok {
		return m
	}
	return mark{place{1, 1}, place{1, 1}}
}

// bad reports a key's value; a key that is absent is reported at its table.
func (s *section) bad(key, msg, fix string) { s.d.badAt(s.mark(key).val, msg, fix) }

func (s *section) wrongType(key string, v any, want, example string) {
	s.bad(key, fmt.Sprintf("%s is %s where %s belongs", s.name1(key), typeName(v), want), "write "+key+" = "+example)
}

// name1 writes a key the way people say it: device.id.
func (s *section) name1(key string) string {
	if s.word == "" {
		return key
	}
	return strings.Trim(s.word, "[]") + "." + key
}

func (s *section) text(key string, dst *string) bool {
	v := s.take(key)
	if v == nil {
		return false
	}
	t, ok := v.(string)
	if !ok {
		example := `"` + strings.TrimSpace(fmt.Sprint(v)) + `"`
		if _, scalar := v.(int64); !scalar {
			example = `"…", in quotes`
		}
		s.wrongType(key, v, "a text", example)
		return false
	}
	*dst = t
	return true
}

func (s *section) boolean(key string, dst *bool) bool {
	v := s.take(key)
	if v == nil {
		return false
	}
	b, ok := v.(bool)
	if !ok {
		s.wrongType(key, v, "true or false", "true or false, without quotes")
		return false
	}
	*dst = b
	return true
}

func (s *section) integer(key string, dst *int64, least, most int64) bool {
	v := s.take(key)
	if v == nil {
		return false
	}
	n, ok := v.(int64)
	if !ok {
		s.wrongType(key, v, "a whole number", fmt.Sprintf("%d, without quotes", max(least, *dst)))
		return false
	}
	if n < least || n > most {
		s.bad(key, fmt.Sprintf("%s = %d is out of range", s.name1(key), n), fmt.Sprintf("write a number from %d to %d", least, most))
		return false
	}
	*dst = n
	return true
}

func (s *section) number(key string, dst *int, least, most int64) bool {
	n := int64(*dst)
	if !s.integer(key, &n, least, most) {
		return false
	}
	*dst = int(n) // most fits an int of 32 bits everywhere
	return true
}

func (s *section) duration(key string, dst *time.Duration, least, most time.Duration) bool {
	v := s.take(key)
	if v == nil {
		return false
	}
	t, ok := v.(string)
	if !ok {
		example := `"` + shortDuration(*dst) + `"`
		if n, scalar := v.(int64); scalar {
			example = fmt.Sprintf(`"%ds"`, n)
		}
		s.wrongType(key, v, "a duration", example)
		return false
	}
	d, err := time.ParseDuration(t)
	switch {
	case err != nil:
		s.bad(key, fmt.Sprintf("%q is not a duration", t), fmt.Sprintf(`write a number and a unit (s, m, h), for example "%s"`, shortDuration(*dst)))
		return false
	case d < least || d > most:
		s.bad(key, fmt.Sprintf("%s = %q is out of range", s.name1(key), t), fmt.Sprintf(`write "%s" to "%s"`, shortDuration(least), shortDuration(most)))
		return false
	}
	*dst = d
	return true
}

func (s *section) oneOf(key string, dst *string, words []string) bool {
	var t string
	if !s.text(key, &t) {
		return false
	}
	if !slices.Contains(words, t) {
		s.bad(key, fmt.Sprintf("%s %q is not known", key, t), didYouMean(t, words, quotedList))
		return false
	}
	*dst = t
	return true
}

func (s *section) kinds(key string, dst *[]punch.Kind) {
	v := s.take(key)
	if v == nil {
		return
	}
	list, ok := v.([]any)
	if !ok {
		s.wrongType(key, v, "a list", `["in", "out", "go-out", "return"]`)
		return
	}
	words := kindWords(punch.Kinds[:])
	var kinds []punch.Kind
	for i, v := range list {
		at := s.d.marks[element(step(s.path, key), i)].val
		t, ok := v.(string)
		if !ok {
			s.d.badAt(at, fmt.Sprintf("%s holds %s where a kind belongs", s.name1(key), typeName(v)), "write "+quotedList(words))
			continue
		}
		k, err := punch.ParseKind(t)
		switch {
		case err != nil:
			s.d.badAt(at, fmt.Sprintf("kind %q is not known", t), didYouMean(t, words, quotedList))
		case slices.Contains(kinds, k):
			s.d.badAt(at, fmt.Sprintf("kind %q is there twice", t), "write it once")
		default:
			kinds = append(kinds, k)
		}
	}
	if len(list) == 0 {
		s.bad(key, s.name1(key)+" is empty: nothing would ever be sent", "name the kinds to send, or remove the destination")
	}
	*dst = kinds
}

// words reads a list in which each of the known words may stand once; ok is false
// where it is not given.
func (s *section) words(key, what string, known []string, example string) (words []string, ok bool) {
	v := s.take(key)
	if v == nil {
		return nil, false
	}
	list, ok := v.([]any)
	if !ok {
		s.wrongType(key, v, "a list", example)
		return nil, false
	}
	for i, v := range list {
		at := s.d.marks[element(step(s.path, key), i)].val
		t, ok := v.(string)
		switch {
		case !ok:
			s.d.badAt(at, fmt.Sprintf("%s holds %s where a %s belongs", s.name1(key), typeName(v), what), "write "+quotedList(known))
		case !slices.Contains(known, t):
			s.d.badAt(at, fmt.Sprintf("%s %q is not known", what, t), didYouMean(t, known, quotedList))
		case slices.Contains(words, t):
			s.d.badAt(at, fmt.Sprintf("%s %q is there twice", what, t), "write it once")
		default:
			words = append(words, t)
		}
	}
	return words, true
}

// name reads the name of a reader or a destination, which becomes a metric's label.
func (s *section) name(what string, dst *string, form *regexp.Regexp, example string, most int) {
	if s.text("name", dst) {
		if !form.MatchString(*dst) {
			s.bad("name", fmt.Sprintf("%s name %q cannot be used", what, *dst),
				fmt.Sprintf("use 1 to %d small letters, digits and dashes, beginning with a letter or digit, for example %q", most, example))
		}
	} else if !s.given("name") {
		s.bad("name", fmt.Sprintf("this %s has no name", what), fmt.Sprintf("write name = %q under [[%s]]", example, what))
	}
}

// driver reads a driver's word. False: the rest of the table cannot be judged.
func (s *section) driver(what string, dst *string, words, have []string) bool {
	var t string
	if !s.text("driver", &t) {
		if !s.given("driver") {
			s.bad("driver", fmt.Sprintf("this %s has no driver", what), "write driver = one of "+quotedList(have))
		}
		return false
	}
	*dst = t
	switch {
	case slices.Contains(have, t):
		return true
	case slices.Contains(words, t):
		s.bad("driver", fmt.Sprintf("driver %q is not in this build", t), "this build has "+quotedList(have))
	default:
		s.bad("driver", fmt.Sprintf("driver %q is not known", t), didYouMean(t, have, quotedList))
	}
	return false
}

// baseURL reads an address that calls go to. Plain http would show the token to
// everybody on the way, so it is for this machine only.
func (s *section) baseURL(key string, dst *string) {
	var t string
	if !s.text(key, &t) {
		return
	}
	example := "write for example " + *dst
	u, err := url.Parse(t)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		s.bad(key, fmt.Sprintf("%s is not a web address", s.name1(key)), example)
	case u.User != nil:
		s.bad(key, fmt.Sprintf("%s holds a user name or password", s.name1(key)), "write it without; secrets are in files of their own")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		s.bad(key, fmt.Sprintf("%s holds more than host and path", s.name1(key)), "write it without what follows ? or #")
	case u.Scheme == "https", u.Scheme == "http" && loopbackHost(u.Hostname()):
		*dst = strings.TrimRight(t, "/")
	case u.Scheme == "http":
		s.bad(key, fmt.Sprintf("%s is plain http to another machine", s.name1(key)), "write https://; plain http is for a sandbox on this machine only")
	default:
		s.bad(key, fmt.Sprintf("%s is not a web address", s.name1(key)), example)
	}
}

// proxy reads the address of a proxy. Who we are to it is in a file of its own.
func (s *section) proxy(key string, dst *string) {
	var t string
	if !s.text(key, &t) || t == "" {
		return
	}
	const example = `write for example "http://proxy.corp:3128", or "" for none`
	u, err := url.Parse(t)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		s.bad(key, fmt.Sprintf("%s is not the address of a proxy", s.name1(key)), example) // not the text: it may hold a password
	case u.User != nil:
		s.bad(key, fmt.Sprintf("%s holds a user name or password", s.name1(key)), "write it without, and user:password into a file of its own that proxy_login_file names")
	case u.Port() == "":
		s.bad(key, fmt.Sprintf("%s has no port", s.name1(key)), example)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		s.bad(key, fmt.Sprintf("%s holds more than host and port", s.name1(key)), example)
	default:
		*dst = strings.TrimRight(t, "/")
	}
}

func loopbackHost(h string) bool {
	ip, err := netip.ParseAddr(h)
	return h == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func (s *section) printable(key, t string, most int) {
	switch {
	case utf8.RuneCountInString(t) > most:
		s.bad(key, fmt.Sprintf("%s is longer than %d characters", s.name1(key), most), "write a shorter one")
	case strings.ContainsFunc(t, func(r rune) bool { return !unicode.IsPrint(r) }):
		s.bad(key, fmt.Sprintf("%s holds a character that cannot be shown", s.name1(key)), "write it in plain letters on one line")
	}
}

// table enters [word]; an absent one is empty.
func (s *section) table(word string) *section {
	sub := &section{d: s.d, path: step(s.path, word), word: "[" + word + "]"}
	switch v := s.take(word).(type) {
	case nil:
	case map[string]any:
		sub.m = v
	default:
		s.bad(word, fmt.Sprintf("%s is %s where one table belongs", word, typeName(v)), "write ["+word+"] on a line of its own, once")
		sub.broken = true
	}
	return sub
}

// tables enters each [[word]].
func (s *section) tables(word string) (subs []*section) {
	switch v := s.take(word).(type) {
	case nil:
	case []any:
		for i, e := range v {
			sub := &section{d: s.d, path: element(step(s.path, word), i), word: "[[" + word + "]]"}
			m, ok := e.(map[string]any)
			if !ok {
				s.d.badAt(s.d.marks[sub.path].val, fmt.Sprintf("%s holds %s where a table belongs", word, typeName(e)), "write [["+word+"]] on a line of its own")
				continue
			}
			sub.m = m
			subs = append(subs, sub)
		}
	default:
		s.bad(word, fmt.Sprintf("%s is %s where a list of tables belongs", word, typeName(v)), "write [["+word+"]] in double brackets, once for each")
	}
	return subs
}

// done reports every key that nobody asked for.
func (s *section) done() {
	for key := range s.m {
		if slices.Contains(s.known, key) {
			continue
		}
		msg := fmt.Sprintf("unknown key %q in %s", key, s.word)
		fix := didYouMean(key, s.known, func(known []string) string { return "one of: " + strings.Join(known, ", ") })
		if s.word == "" {
			msg = fmt.Sprintf("unknown key %q", key)
			if _, list := s.m[key].([]any); list {
				msg = fmt.Sprintf("unknown section [[%s]]", key)
			} else if _, table := s.m[key].(map[string]any); table {
				msg = fmt.Sprintf("unknown section [%s]", key)
			}
		} else if slices.Contains(s.known, key+"_file") {
			msg = fmt.Sprintf("%s does not belong into this file", s.name1(key))
			fix = fmt.Sprintf("put the secret into a file of its own and name that file in %s_file", key)
		}
		s.d.badAt(s.mark(key).key, msg, fix)
	}
}

// didYouMean names the nearest word, or all of them.
func didYouMean(t string, words []string, all func([]string) string) string {
	best, distance := "", 1+max(1, len(t)/3)
	for _, w := range words {
		if n := editDistance(strings.ToLower(t), w); n < min(distance, max(len(t), len(w))) {
			best, distance = w, n
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "write " + all(words)
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

func typeName(v any) string {
	switch v.(type) {
	case string:
		return "a text"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a point"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time without quotes"
}

func kindWords(kinds []punch.Kind) []string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = k.String()
	}
	return words
}

// quotedList writes "a", "b" or "c".
func quotedList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	if n := len(quoted); n > 1 {
		return strings.Join(quoted[:n-1], ", ") + " or " + quoted[n-1]
	}
	return strings.Join(quoted, "")
}

// shortDuration writes 1m instead of 1m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7F:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// show writes the configuration that is in effect as a file that reads back the
// same. It holds no secret: secrets are in files of their own, which it names.
func (c *config) show(w io.Writer) error {
	var b bytes.Buffer
	set := func(key string, v any) {
		switch v := v.(type) {
		case string:
			fmt.Fprintf(&b, "%s = %s\n", key, quote(v))
		case time.Duration:
			fmt.Fprintf(&b, "%s = %s\n", key, quote(shortDuration(v)))
		default:
			fmt.Fprintf(&b, "%s = %v\n", key, v)
		}
	}
	list := func(key string, words []string) {
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = quote(w)
		}
		fmt.Fprintf(&b, "%s = [%s]\n", key, strings.Join(quoted, ", "))
	}
	b.WriteString("schema = 1\n\n[device]\n")
	set("id", c.Device.ID)
	set("name", c.Device.Name)
	set("timezone", c.Device.Timezone.String())
	set("state_dir", c.Device.StateDir)
	b.WriteString("\n[kiosk]\n")
	set("listen", c.Kiosk.Listen)
	set("allow_remote", c.Kiosk.AllowRemote)
	set("language", c.Kiosk.Language)
	set("duplicate_window", c.Kiosk.DuplicateWindow)
	set("kind_timeout", c.Kiosk.KindTimeout)
	set("mask_names", c.Kiosk.MaskNames)
	set("portraits", c.Kiosk.Portraits)
	set("volume", c.Kiosk.Volume)
	set("night", showNight(c.Kiosk.Night))
	set("voices", c.Kiosk.Voices)
	b.WriteString("\n[clock]\n")
	set("trust", c.Clock.Trust)
	b.WriteString("\n[outbox]\n")
	set("reserve_mb", c.Outbox.ReserveMB)
	set("keep_years", c.Outbox.KeepYears)
	b.WriteString("\n[badge]\n")
	rules := make([]string, len(c.Badge.SameCard))
	for i, r := range c.Badge.SameCard {
		rules[i] = quote(string(r))
	}
	fmt.Fprintf(&b, "same_card = [%s]\n", strings.Join(rules, ", "))
	b.WriteString("\n[roster]\n")
	set("source", c.Roster.Source)
	set("every", c.Roster.Every)
	set("encoding", c.Roster.Encoding)
	if webAddress(c.Roster.Source) {
		set("token_file", c.Roster.TokenFile)
		set("ca_file", c.Roster.CAFile)
	}
	b.WriteString("\n[candidates]\n")
	set("client_id", c.Candidates.ClientID)
	if c.Candidates.ClientID != "" {
		set("client_secret_file", c.Candidates.SecretFile)
		set("company", c.Candidates.Company)
	}
	set("api_base", c.Candidates.APIBase)
	set("token_url", c.Candidates.TokenURL)
	set("flag", c.Candidates.Flag)
	set("calls_per_second", c.Candidates.CallsPerSecond)
	set("keep_days", c.Candidates.KeepDays)
	set("ca_file", c.Candidates.CAFile)
	b.WriteString("\n[indicator]\n")
	for _, p := range c.Indicator.pins() {
		set(p.key, *p.pin)
	}
	var low []string
	for i, p := range c.Indicator.pins() {
		if c.Indicator.ActiveLow[i] {
			low = append(low, p.key)
		}
	}
	list("active_low", low)
	set("relay_pulse", c.Indicator.RelayPulse)
	b.WriteString("\n[display]\n")
	set("driver", c.Display.Driver)
	if c.Display.Driver != "" {
		set("bus", c.Display.Bus)
		set("address", c.Display.Address)
	}
	if c.Display.Driver == "hd44780" {
		set("size", fmt.Sprintf("%dx%d", c.Display.Columns, c.Display.Rows))
	}
	b.WriteString("\n[logs]\n")
	c.Logs.show(set)
	b.WriteString("\n[screen]\n")
	set("device", c.Screen.Device)
	if c.Screen.Device != "" {
		set("turn", c.Screen.Turn)
	}
	b.WriteString("\n[support]\n")
	set("key", c.Support.Key)
	for _, s := range c.Schedule {
		b.WriteString("\n[[schedule]]\n")
		set("from", fmt.Sprintf("%02d:%02d", s.From/60, s.From%60))
		set("to", fmt.Sprintf("%02d:%02d", s.To/60, s.To%60))
		set("kind", s.Kind.String())
	}
	for _, r := range c.Readers {
		b.WriteString("\n[[reader]]\n")
		set("name", r.Name)
		set("driver", r.Driver)
		if r.Driver == "serial" {
			set("port", r.Port)
			set("baud", r.Baud)
			set("dialect", r.Dialect)
		}
		r.showKeys(set, list)
		r.showCards(set)
		r.showWiegand(set, list)
	}
	for _, v := range c.Destinations {
		b.WriteString("\n[[destination]]\n")
		set("name", v.Name)
		set("driver", v.Driver)
		switch v.Driver {
		case "transfercard":
			set("api_base", v.APIBase)
			set("token_url", v.TokenURL)
			set("client_id", v.ClientID)
			set("client_secret_file", v.SecretFile)
			set("auth_style", v.AuthStyle)
			set("idx_base", v.IdxBase)
			set("emp_no_pad", v.EmpNoPad)
			set("uno", v.UNO)
			set("uno_text", v.UNOText)
		case "feishu":
			set("base_url", v.BaseURL)
			set("app_id", v.AppID)
			set("app_secret_file", v.SecretFile)
			set("employee_type", v.EmployeeType)
			set("creator_id", v.CreatorID)
			set("field_out", v.FieldOut)
		case "signin":
			set("mode", v.Mode)
			if v.BaseURL != "" { // "" is no address, only absence is
				set("base_url", v.BaseURL)
			}
			set("user_id", v.UserID)
			set("password_file", v.SecretFile)
			set("login_path", v.LoginPath)
			set("logout_path", v.LogoutPath)
			set("punch_path", v.PunchPath)
			set("today_path", v.TodayPath)
			set("records_path", v.RecordsPath)
			set("token_transport", v.TokenTransport)
			set("group_id", v.GroupID)
			set("tolerant", v.Tolerant)
		}
		set("calls_per_second", v.CallsPerSecond)
		set("batch", v.Batch)
		quoted := make([]string, len(v.Statuses))
		for i, k := range v.Statuses {
			quoted[i] = quote(k.String())
		}
		fmt.Fprintf(&b, "statuses = [%s]\n", strings.Join(quoted, ", "))
		set("ca_file", v.CAFile)
		set("proxy", v.Proxy)
		set("proxy_login_file", v.ProxyLoginFile)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// exampleReader returns a [[reader]] for a driver, or for a serial reader's dialect, ""
// for one that is not known.
func exampleReader(driver string) string {
	if slices.Contains(serialport.Dialects(), driver) {
		s := strings.Replace(exampleReader("serial"), `"rdm6300" `, fmt.Sprintf("%-10q", driver), 1)
		if driver == "parallax" {
			s = strings.Replace(s, "baud    = 9600", "baud    = 2400", 1)
		}
		return s
	}
	switch driver {
	case "serial":
		return `[[reader]]
name    = "front"                   # in reports and metrics; up to 16 small letters, digits, dashes
driver  = "serial"                  # serial: a reader on a serial line or a USB serial adapter
port    = "/dev/ttyUSB0"            # better the name that never changes, see: ls /dev/serial/by-id
baud    = 9600                      # 1200 … 115200
dialect = "rdm6300"                 # 讀卡機送出的格式 what it sends: rdm6300, id12la, idteck, parallax, raw4, hex-line, dec-line
`
	case "evdev":
		return exampleEvdev
	case "mfrc522":
		return exampleMFRC522
	case "pn532":
		return examplePN532
	case "keypad":
		return exampleKeypad
	case "wiegand":
		return exampleWiegand
	case "stdin":
		return `[[reader]]
name    = "desk"
driver  = "stdin"                   # lines typed or piped into the program: for a desk without hardware
`
	}
	return ""
}

// exampleDestination returns a [[destination]] for a driver that exampleConfig
// leaves out, "" for any other.
func exampleDestination(driver string) string {
	if driver != "signin" {
		return ""
	}
	return `[[destination]]                     # 線上打卡系統 the in-house sign-in system
name             = "signin"         # 定了就不要改 never change it later: it names the position in the outbox
driver           = "signin"
mode             = "service_account" # off: 不送也不補送 nothing is sent, nor later; service_account: 一個帳號代打 one account punches for all
base_url         = "https://signin.example.com"
user_id          = "svc-clock"      # 代打帳號 the account that logs in
password_file    = "signin-password" # 密碼錯一次就停，避免帳號被鎖 a refused password is tried once: the directory may lock the account
login_path       = "/api/public/user/login" # 路徑請問系統管理者 ask the system's owner for the paths
logout_path      = "/api/public/user/logout"
punch_path       = "/api/public/signin"
today_path       = "/api/public/signin"
records_path     = "/api/public/signinDetail"
token_transport  = "bearer"         # bearer, header:<Name>, body:token_key or none
group_id         = "login"          # login: what the login returned; user: the same as user_id
tolerant         = false            # true: read answers with commas before closing brackets
calls_per_second = 5                # 一次一筆 a call is one punch
batch            = 1                # 每幾筆存一次回條 punches between two receipts: so many may go out twice after a power cut
statuses         = ["in", "out", "go-out", "return"]
ca_file          = ""
proxy            = ""               # 公司代理伺服器 a company proxy, e.g. "http://proxy.corp:3128"
proxy_login_file = ""               # 代理伺服器帳密另存檔案 a file with user:password for the proxy
`
}

// exampleConfig is a whole file with every section and key, ready to be edited.
func exampleConfig() string {
	return `# punchclock 設定檔 / configuration
# 打錯的鍵不會被忽略：會指出行與列。 A mistake is never ignored: it is refused with its line and column.
# 檢查 check:  punchclock config check --config THIS-FILE
# 生效值 values in effect, defaults included:  punchclock config show --config THIS-FILE
# 線上打卡系統 the in-house sign-in system:  punchclock config example --destination signin
# 相對路徑以本檔所在目錄為準。 Relative paths count from the directory of this file.

schema = 1

[device]                            # 這台打卡鐘 this clock
id        = "tpe-1f-lobby"          # 必填，定了就不要改 required; part of every punch id, so never change it later
name      = "台北總部一樓"            # 顯示在畫面上 on the screen, and the place that Feishu shows; default: id
timezone  = "Asia/Taipei"           # 時區 IANA name
state_dir = "/var/lib/punchclock"   # 所有資料 everything the program writes

[kiosk]                             # 畫面與打卡規則 the page and the rules of the door
listen           = "127.0.0.1:8080" # "" 關閉 turns the page off
allow_remote     = false            # true: 允許其他電腦連線 other machines may connect (they will see names)
language         = "zh-TW"          # zh-TW, zh-CN, en, vi, id, th, fil
duplicate_window = "60s"            # 同一人在此時間內重複打卡不送出 the same person again inside it is not sent; "0s" off
kind_timeout     = "10s"            # 選了類別後多久恢復 a chosen kind falls back after this
mask_names       = false            # true: 王○明
portraits        = false            # true: 打卡時顯示大頭照 a portrait beside the answer; false: 不取得，已存的也刪除 none is fetched, and those kept are deleted
volume           = 60               # 提示音量 of the page's tones, 0 (無聲 silent) to 100; at night a third
night            = "22:00-05:00"    # 夜間無人時畫面變暗 the unused page dims, then is dark; "" = 不變暗 never
voices           = ""               # 語音檔目錄 recordings said after the tone: zh-TW/in.ogg, en/not_stored.mp3 …; "" = 無 none

[clock]
trust = "auto"                      # auto: 對時前的打卡先保留 hold punches until the time is known; system: 信任系統時間

[outbox]
reserve_mb = 64                     # 磁碟剩餘低於此值即拒絕打卡 below this much free space a tap is answered "not stored"; of a small file system an eighth
keep_years = 5                      # 已送達的打卡保留幾年 (1–20) how long punches are kept that every destination has settled

[badge]                             # 同一張卡，不同讀法 one card, read in different ways: punchclock badge lookup
# 卡號較短的讀法也算同一張卡 a reading that tells only a part of the card's number, or tells it reversed, is the same card:
# last4 (卡面 10 碼 printed, Wiegand 34) · last3 (卡面 8 碼 printed, Wiegand 26) · first4, first3 (UID)
# reversed · last4-reversed · last3-reversed · first4-reversed · first3-reversed
same_card = ["last4"]               # []: 只認完全相同的號碼 only the whole number. 少用 last3：不同卡可能同號 last3 with care: cards may share it

[roster]                            # 員工名冊自動更新 a roster that keeps itself up to date
source   = ""                       # 檔案或 https 網址 a file, or an https:// address; "": punchclock roster import
every    = "15m"                    # 多久看一次 how often to look
encoding = "utf-8"                  # utf-8, big5, gbk
# token_file = "roster-token"       # 網址需要的權杖 sent as a bearer token to a web address

[candidates]                        # 104 履歷傳輸：新進人員 people about to start, from 104's résumé service: punchclock candidates ls
client_id = ""                      # "": 不使用 off; 使用時 with it: client_secret_file = "104-resume-secret", company = "12345678" (統一編號)
flag      = "any"                   # any, matched, applied, saved
keep_days = 30                      # 未錄用者幾天後刪除 who is not hired is forgotten then

[indicator]                         # 燈與蜂鳴器 lamps, buzzer, door relay; "" = 未接 not wired
green      = "GPIO17"
red        = "GPIO27"
amber      = ""
blue       = ""
buzzer     = "GPIO18"
relay      = ""
active_low = []                     # 低電位動作的輸出 outputs that are on at the low level, often ["relay"]; true: all of them
relay_pulse = "1s"                  # 門鎖繼電器動作多久 how long the relay is on for a stored punch, 0.2 to 10 s

[display]                           # I²C 小螢幕 a small display, for a site without a screen
driver  = ""                        # ssd1306, sh1106 (128x64 OLED, 中文), hd44780 (LCD 16x2, 20x4, 僅英數 no Chinese); "" = 無 none
bus     = "/dev/i2c-1"
address = 0                         # 0: 自動 look at the usual addresses; or 0x3C
# size  = "16x2"                    # hd44780: 16x2, 20x4, 16x4, 20x2

[logs]                              # 日誌收集 where IT collects the logs of all clocks: README, "Logs"
server = ""                         # "logs.example.com:20514"; "": 不送出 nowhere. 使用時 with it, both ends showing a certificate:
# ca   = "logs-ca.pem"              # 收集端的根憑證 of whoever has signed the collector's certificate
# cert = "logs-cert.pem"            # 本機憑證 this clock's own
# key  = "logs-key.pem"             # 本機私鑰 and its key, a secret

[screen]                            # 直接畫在螢幕上，不需瀏覽器 the door's screen without a browser, with touch
device = ""                         # "auto", 或 or /dev/dri/card0, /dev/fb0; "" = 無 none
turn   = 0                          # 順時針旋轉畫面 turns the picture clockwise: 0, 90, 180, 270

[support]
key = ""                            # 遠端協助的公鑰 whoever helps from afar: their public key of age, age1…; punchclock support-bundle

# 依時間預設類別，先符合者優先。 Default kind by local time, the first that matches wins.
# in 上班 · out 下班 · go-out 外出 · return 外歸
# 沒有符合時依本人當天上一筆。 Where none matches, the kind follows the person's own last punch of the day.
[[schedule]]
from = "05:00"
to   = "11:00"
kind = "in"

[[schedule]]
from = "17:00"
to   = "23:00"
kind = "out"

` + exampleReader("serial") + `
[[destination]]                     # 104 企業大師
name               = "104"          # 定了就不要改 never change it later: it names the position in the outbox
driver             = "transfercard"
api_base           = "https://apis.104api.com.tw/prohrm/1.0"
token_url          = "https://apis.104api.com.tw/oauth2/token"
client_id          = "your-client-id"
client_secret_file = "104-secret"   # 密碼另存檔案 a file that holds the secret and nothing else
auth_style         = "basic"        # basic or body: how the token call carries id and secret
calls_per_second   = 25             # 每秒上限，含取權杖 calls in any second, token calls included; at most 30
batch              = 50             # 每次筆數 punches in one call, 1 to 500
statuses           = ["in", "out", "go-out", "return"] # 要送的類別 kinds that are sent
idx_base           = "auto"         # auto, 0 or 1: how 104 counts the rows of its answers
emp_no_pad         = 0              # 工號補零位數 pad numbers with zeros to this width; 0 off
uno                = ""             # 統一編號 tax id, only for a vendor's account that serves several companies
uno_text           = false          # true: 統編以文字送出 send it as a text, if 104 wants it so
ca_file            = ""             # 公司代理伺服器的根憑證 extra root certificates (PEM), e.g. of a company proxy
proxy              = ""             # 公司代理伺服器 a company proxy, e.g. "http://proxy.corp:3128"
proxy_login_file   = ""             # 代理伺服器帳密另存檔案 a file with user:password for the proxy

[[destination]]                     # 飛書 Feishu / Lark
name             = "feishu"
driver           = "feishu"
base_url         = "https://open.feishu.cn" # 國際版 Lark: https://open.larksuite.com
app_id           = "cli_your_app"
app_secret_file  = "feishu-secret"
employee_type    = "employee_no"    # employee_no 工號 or employee_id
creator_id       = ""               # 建立者 who is named as the record's creator; "" the employee
field_out        = false            # true: 外出 counts as a punch outside the office
calls_per_second = 10               # at most 50
batch            = 50               # at most 50
statuses         = ["in", "out", "go-out", "return"]
ca_file          = ""
proxy            = ""
proxy_login_file = ""
`
}
