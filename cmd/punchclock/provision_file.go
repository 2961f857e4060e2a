package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf16"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"punchclock/systemd"
)

// A card's file is the configuration with three sections more, which never reach the
// configuration in force:
//
//	[secrets]         name = "the secret", for each name that a *_file key gives
//	[network]         how the machine gets into the network
//	[provision]       what a person has to say out loud
//
// It is checked by the configuration's own decoder. What is left of it when those
// sections are cut out is installed, letter for letter.

// cardSections are the sections that are only in a card's file.
var cardSections = []string{"provision", "network", "secrets"}

// cardFile is what a card says, checked.
type cardFile struct {
	cfg         *config
	installed   []byte            // the configuration, without the card's own sections
	secrets     map[string]string // by name, with what is in files; "" means what the clock has
	wanted      []wantedFile      // secrets that the configuration names
	authorities []wantedFile      // certificates it names, beside it
	network     *networkConfig    // nil: the network stays as it is
	wifiWanted  bool              // its passphrase is one of the secrets
	setAside    bool              // another device's punches may be put aside
}

// wantedFile is a file that the configuration names, and where.
type wantedFile struct {
	name, key string
	at        place
}

// networkConfig is [network].
type networkConfig struct {
	NTP   []string
	Wired addressConfig
	WiFi  *wifiConfig // nil for none
}

// addressConfig is how an interface gets its address: by DHCP if none is given.
type addressConfig struct {
	Address, Gateway string
	DNS              []string
}

type wifiConfig struct {
	SSID, Country string
	Hidden        bool
	addressConfig
}

// logsKey is the key of [logs] that names the private key of the clock's certificate:
// many lines, so a file always.
const logsKey = "key"

// wifiSecret is the name of the network's passphrase among the secrets.
const wifiSecret = "wifi-psk"

// handedOver are the secrets that the clock's unit hands over: a secret of another
// name would reach nobody.
var handedOver = sync.OnceValue(func() (names []string) {
	b, err := fs.ReadFile(systemd.Files(), "punchclock.service")
	if err != nil {
		panic(err) // it is in this binary
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "LoadCredential="); ok {
			name, _, _ = strings.Cut(name, ":")
			names = append(names, name)
		}
	}
	return names
})

// secretNames are all that may stand under [secrets].
func secretNames() []string { return append(slices.Clone(handedOver()), wifiSecret) }

// plainText turns what an editor has saved into UTF-8 with plain line ends: with or
// without a byte order mark, and UTF-16 where that mark says so.
func plainText(data []byte) []byte {
	return bytes.ReplaceAll(plainMark(data), []byte("\r\n"), []byte("\n"))
}

// plainMark is plainText with the line ends as they are.
func plainMark(data []byte) []byte {
	if le, be := bytes.HasPrefix(data, []byte("\xFF\xFE")), bytes.HasPrefix(data, []byte("\xFE\xFF")); le || be {
		units := make([]uint16, 0, len(data)/2)
		for i := 2; i+1 < len(data); i += 2 {
			a, b := uint16(data[i]), uint16(data[i+1])
			if le {
				a, b = b, a
			}
			units = append(units, a<<8|b)
		}
		data = []byte(string(utf16.Decode(units)))
	}
	return bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))
}

// source finds a secret that is not in the file itself: in a file of its own on the
// card, or in the clock. where is for a person.
type source func(name string) (secret, where string, err error)

// readCard checks a card's text. All that is wrong with it comes back as problems
// that call the file by the last part of its path; path is where the configuration
// will lie, whose folder relative names in it count from. onCard and inClock find
// secrets; hasFile tells whether a certificate's file is there, device whether another
// clock's punches stand in the way.
func readCard(path string, text []byte, have inBuild, onCard, inClock source, hasFile func(name string) bool,
	device func(c *config, setAside bool) (msg, fix string)) (*cardFile, error) {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return nil, problems{{path, 1, 1, "the file holds zeros instead of text", "the card was pulled out before it was written: copy the file to it again and eject the card"}}
	}
	f := &cardFile{secrets: map[string]string{}}
	cfg, err := parseConfigAnd(path, text, have, func(root *section, c *config) {
		f.readProvision(root)
		f.readNetwork(root)
		f.readSecrets(root, c, onCard, inClock)
		if idForm.MatchString(c.Device.ID) {
			if msg, fix := device(c, f.setAside); msg != "" {
				root.d.badAt(root.d.marks[step(step("", "device"), "id")].val, msg, fix)
			}
		}
		for _, w := range f.authorities {
			if !hasFile(w.name) {
				root.d.badAt(w.at, fmt.Sprintf("the file %q is not on the card, and the clock does not have it", w.name), "put it beside punchclock.toml, or leave "+w.key+" out")
			}
		}
	})
	if ps, ok := err.(problems); ok {
		return nil, sayWhere(ps)
	} else if err != nil {
		return nil, err
	}
	f.cfg = cfg
	if f.installed, err = cutSections(text); err != nil {
		return nil, err
	}
	again, err := parseConfig(path, f.installed, have)
	if err != nil {
		return nil, problems{{path, 1, 1, "without its sections for the card the file cannot be read", "write [secrets], [network] and [provision] as sections of their own at the end of the file"}}
	}
	f.cfg = again
	var ps problems
	for _, name := range slices.Sorted(maps.Keys(f.secrets)) {
		secret := f.secrets[name]
		at := bytes.Index(text, []byte(secret))
		if len(secret) < 6 || !bytes.Contains(f.installed, []byte(secret)) {
			continue
		}
		d := &document{data: text}
		for ; at >= 0; at = d.after(at, secret) { // the place that is not in [secrets]
			if line, _ := d.place(at); !d.within(line, "secrets") {
				break
			}
		}
		line, col := d.place(max(at, 0))
		ps = append(ps, problem{path, line, col, fmt.Sprintf("the secret %s stands here, too", name), "remove it from this line: secrets belong under [secrets], or into files of their own"})
	}
	if len(ps) > 0 {
		return nil, ps
	}
	return f, nil
}

// after finds the next place of a text behind an offset, -1 for none.
func (d *document) after(at int, text string) int {
	if i := bytes.Index(d.data[at+1:], []byte(text)); i >= 0 {
		return at + 1 + i
	}
	return -1
}

// within reports whether a line is in the section of that name, by its form.
func (d *document) within(line int, name string) bool {
	lines := strings.Split(string(d.data), "\n")
	for i := min(line, len(lines)) - 1; i >= 0; i-- {
		if t := strings.TrimSpace(lines[i]); strings.HasPrefix(t, "[") {
			return strings.Trim(t, "[] \t") == name
		}
	}
	return false
}

// sayWhere adds to what is wrong with a secret where it belongs on a card.
func sayWhere(ps problems) problems {
	for i, p := range ps {
		if strings.HasSuffix(p.msg, "does not belong into this file") {
			ps[i].fix = "write the secret under [secrets], and its name there into the key that ends in _file"
		}
	}
	return ps
}

func (f *cardFile) readProvision(root *section) {
	s := root.table("provision")
	s.boolean("set_aside_punches", &f.setAside)
	s.done()
}

var (
	countryForm = regexp.MustCompile(`^[A-Z]{2}$`)
	hostForm    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

func (f *cardFile) readNetwork(root *section) {
	if !root.given("network") {
		root.take("network")
		return
	}
	n := &networkConfig{}
	s := root.table("network")
	if n.NTP, _ = s.texts("ntp", `["time.stdtime.gov.tw"]`); n.NTP != nil {
		for i, host := range n.NTP {
			if host != "" && !hostForm.MatchString(host) {
				s.d.badAt(s.d.marks[element(step(s.path, "ntp"), i)].val, fmt.Sprintf("%q is not the name of a time server", host), `write for example "time.stdtime.gov.tw"`)
			}
		}
	}
	wired := s.below("wired")
	n.Wired.read(wired)
	wired.done()
	if s.given("wifi") {
		wifi := s.below("wifi")
		w := &wifiConfig{}
		if !wifi.text("ssid", &w.SSID) && !wifi.given("ssid") {
			wifi.bad("ssid", "the Wi-Fi network has no ssid", `write ssid = "the network's name" under [network.wifi]`)
		} else if n := len(w.SSID); wifi.m["ssid"] != nil && (n == 0 || n > 32) {
			wifi.bad("ssid", fmt.Sprintf("the ssid has %d bytes", n), "write the network's name, 1 to 32 bytes")
		}
		if wifi.text("country", &w.Country); !countryForm.MatchString(w.Country) && wifi.textOrMissing("country") {
			wifi.bad("country", "the Wi-Fi network's country is missing or no country code", `write country = "TW": without it a radio stays off`)
		}
		wifi.boolean("hidden", &w.Hidden)
		w.addressConfig.read(wifi)
		for _, key := range []string{"psk", "password", "passphrase"} {
			if wifi.given(key) && !wifi.broken {
				wifi.take(key)
				wifi.d.badAt(wifi.mark(key).key, "network.wifi."+key+" does not belong here", `write it under [secrets] as wifi-psk = "the passphrase"`)
			}
		}
		wifi.done()
		n.WiFi, f.wifiWanted = w, true
	}
	s.done()
	f.network = n
}

// below enters [word.key] of a section.
func (s *section) below(key string) *section {
	sub := s.table(key)
	sub.word = "[" + strings.Trim(s.word, "[]") + "." + key + "]"
	return sub
}

func (v *addressConfig) read(s *section) {
	if s.text("address", &v.Address) && v.Address != "" {
		if p, err := netip.ParsePrefix(v.Address); err != nil || p.Addr() == p.Masked().Addr() && p.Bits() < p.Addr().BitLen()-1 {
			s.bad("address", fmt.Sprintf("%q is not an address with the length of its network", v.Address), `write for example "192.168.1.20/24", or leave address out for DHCP`)
		}
	}
	one := func(key, text string, at place) {
		if _, err := netip.ParseAddr(text); err != nil && text != "" {
			s.d.badAt(at, fmt.Sprintf("%q is not an IP address", text), `write for example "192.168.1.1"`)
		}
		if v.Address == "" && key == "gateway" {
			s.d.badAt(at, s.name1(key)+" is given without an address", `write address = "192.168.1.20/24" as well, or leave gateway out: DHCP finds it`)
		}
	}
	if s.text("gateway", &v.Gateway) && v.Gateway != "" {
		one("gateway", v.Gateway, s.mark("gateway").val)
	}
	v.DNS, _ = s.texts("dns", `["192.168.1.1"]`)
	for i, host := range v.DNS {
		one("dns", host, s.d.marks[element(step(s.path, "dns"), i)].val)
	}
}

// readSecrets takes [secrets], and looks for each secret that the configuration names.
func (f *cardFile) readSecrets(root *section, c *config, onCard, inClock source) {
	d := root.d
	at := func(table, key string) place { return d.marks[step(step("", table), key)].val }
	want := func(name, key string, at place) {
		if name == "" || strings.HasPrefix(name, "/") || slices.ContainsFunc(f.wanted, func(w wantedFile) bool { return w.name == name }) {
			return // no secret; one that the machine has anyway; another key's
		}
		if names := handedOver(); !slices.Contains(names, name) {
			d.badAt(at, fmt.Sprintf("no secret of the name %q is handed to the clock", name), didYouMean(name, names, quotedList))
			return
		}
		f.wanted = append(f.wanted, wantedFile{name, key, at})
	}
	authority := func(key, path string, at place) {
		if text, ok := strings.CutPrefix(path, c.beside("x")[:len(c.beside("x"))-1]); ok && path != "" && !strings.Contains(text, "/") {
			f.authorities = append(f.authorities, wantedFile{text, key, at})
		}
	}
	for _, v := range c.Destinations {
		if v.secretWanted() {
			want(v.SecretFile, secretKeys[v.Driver], v.atSecret.val)
		}
		want(v.ProxyLoginFile, "proxy_login_file", v.atProxyLogin.val)
		authority("ca_file", v.CAFile, v.atCA.val)
	}
	if c.Logs.Server != "" {
		authority("ca", c.Logs.CA, at("logs", "ca"))
		authority("cert", c.Logs.Cert, at("logs", "cert"))
		authority(logsKey, c.beside(c.Logs.KeyFile), at("logs", "key"))
	}
	want(c.Roster.TokenFile, "token_file", at("roster", "token_file"))
	authority("ca_file", c.Roster.CAFile, at("roster", "ca_file"))
	if c.Candidates.ClientID != "" {
		want(c.Candidates.SecretFile, "client_secret_file", at("candidates", "client_secret_file"))
		authority("ca_file", c.Candidates.CAFile, at("candidates", "ca_file"))
	}
	if f.wifiWanted {
		f.wanted = append(f.wanted, wantedFile{wifiSecret, "ssid", d.marks[step(step(step("", "network"), "wifi"), "ssid")].val})
	}

	s := root.table("secrets")
	var pin string
	if _, where, _ := onCard(adminSecret); s.text(adminSecret, &pin) && pin != "" || where != "" { // nothing has to name it
		f.wanted = append(f.wanted, wantedFile{adminSecret, "", s.mark(adminSecret).val})
	}
	for _, name := range secretNames() {
		s.take(name) // one for all clocks of a site may hold more than this one needs
	}
	for _, w := range f.wanted {
		var secret string
		inline := s.text(w.name, &secret)
		if !s.textOrMissing(w.name) {
			continue // told
		}
		found, where, err := onCard(w.name)
		place := w.at
		switch {
		case err != nil:
			d.badAt(place, err.Error(), "write the secret, and nothing else, into that file")
			continue
		case inline && secret != "" && where != "" && found != secret:
			s.bad(w.name, fmt.Sprintf("the secret %s is here and another one in the file %s", w.name, where), "remove one of the two")
			continue
		case inline && secret != "":
			if secret, err = trimSecret(w.name, secret); err != nil {
				s.bad(w.name, err.Error(), "write the secret between the quotes, on one line")
				continue
			}
			place = s.mark(w.name).val
		case where != "":
			secret = found
		default:
			if secret, _, err = inClock(w.name); err != nil || secret == "" {
				if inline {
					place = s.mark(w.name).val
				}
				d.badAt(place, fmt.Sprintf("the secret %s is not on the card, and the clock does not have it", w.name),
					fmt.Sprintf(`write %s = "…" under [secrets], or put it into a file named %s beside punchclock.toml`, w.name, w.name))
				continue
			}
		}
		switch user, _, ok := strings.Cut(secret, ":"); {
		case w.key == "proxy_login_file" && (!ok || user == ""):
			d.badAt(place, fmt.Sprintf("the secret %s is not in the form user:password", w.name), "write user:password")
		case w.name == adminSecret && weakPIN(secret) != "":
			d.badAt(place, "the secret admin-pin is too short or too easy to guess", "write 6 characters or more, not one only and not one after the other")
		case w.name == wifiSecret && !wifiKeyForm(secret):
			d.badAt(place, "the secret wifi-psk is no Wi-Fi passphrase", "write the 8 to 63 letters, digits and signs of the passphrase")
		}
		f.secrets[w.name] = secret
	}
	s.done()
}

// secretKeys are the keys by which the drivers of destinations name their secret.
var secretKeys = map[string]string{"transfercard": "client_secret_file", "feishu": "app_secret_file", "signin": "password_file"}

// wifiKeyForm reports whether a text can be a WPA passphrase, or the key itself.
func wifiKeyForm(s string) bool {
	if _, err := hex.DecodeString(s); err == nil && len(s) == 64 {
		return true
	}
	return len(s) >= 8 && len(s) <= 63 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// cutSections returns the text without the sections that are only a card's.
func cutSections(text []byte) ([]byte, error) {
	type piece struct {
		from int
		cut  bool
	}
	var pieces []piece
	var p unstable.Parser
	p.Reset(text)
	in, top := false, true // a section to cut; before the first section
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable && e.Kind != unstable.KeyValue {
			continue // a comment goes with what it follows
		}
		keys := e.Key()
		keys.Next()
		first := keys.Node()
		cut := slices.Contains(cardSections, string(first.Data))
		if e.Kind == unstable.KeyValue {
			cut = in || top && cut
		} else {
			in, top = cut, false
		}
		from := bytes.LastIndexByte(text[:first.Raw.Offset], '\n') + 1
		pieces = append(pieces, piece{from, cut})
	}
	if err := p.Error(); err != nil {
		return nil, err
	}
	var out []byte
	for i, s := range pieces {
		if i == 0 {
			out = append(out, text[:s.from]...)
		}
		to := len(text)
		if i+1 < len(pieces) {
			to = pieces[i+1].from
		}
		if !s.cut {
			out = append(out, text[s.from:to]...)
		}
	}
	return out, nil
}

// fingerprint is a short name of a configuration's text, to compare a label, a
// receipt and a clock by eye.
func fingerprint(installed []byte) string {
	sum := sha256.Sum256(installed)
	h := strings.ToUpper(hex.EncodeToString(sum[:6]))
	return h[:4] + "-" + h[4:8] + "-" + h[8:]
}

// knownLines is all that the program itself writes into an example: what of a file
// that was refused is in it is nobody's secret.
var knownLines = sync.OnceValues(func() (keys map[string]bool, comments string) {
	var b strings.Builder
	b.WriteString(exampleConfig())
	for _, driver := range readerWords {
		b.WriteString(exampleReader(driver))
	}
	b.WriteString(exampleDestination("signin"))
	b.WriteString(exampleCard)
	keys = map[string]bool{}
	for line := range strings.Lines(b.String()) {
		if key, _, ok := strings.Cut(strings.TrimLeft(line, "# "), "="); ok {
			keys[strings.TrimSpace(key)] = !slices.Contains(secretNames(), strings.TrimSpace(key))
		}
	}
	return keys, b.String()
})

var (
	tomlKey   = regexp.MustCompile(`^\s*([A-Za-z0-9_."'-]+)\s*=\s*(.*)$`)
	loginInIt = regexp.MustCompile(`//[^/"'\s]*@`)
)

// withoutSecrets is a file that was refused, to be corrected: every line is still in
// its place, and of values and comments only those are left that a known key or an
// example has. What secrets it finds, in text that need not be TOML, comes back, too.
func withoutSecrets(text []byte) (left []byte, found map[string]string) {
	known, comments := knownLines()
	found = map[string]string{}
	var out strings.Builder
	secret, list := false, false // in [secrets]; in a list over several lines
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		body, comment := cutComment(line)
		if strings.TrimSpace(comment) == "" || !strings.Contains(comments, strings.TrimSpace(comment)) {
			comment = ""
		}
		m := tomlKey.FindStringSubmatch(body)
		switch {
		case strings.HasPrefix(trimmed, "["):
			secret, list = strings.Contains(strings.ToLower(trimmed), "secret"), false
			out.WriteString(withComment(body, comment))
		case m != nil && (secret || slices.Contains(secretNames(), m[1])):
			var tree map[string]any
			if err := toml.Unmarshal([]byte(body), &tree); err == nil {
				for key, v := range tree {
					if s, ok := v.(string); ok && s != "" {
						found[key] = s
					}
				}
			}
			out.WriteString(strings.TrimRight(body[:len(body)-len(m[2])], " ") + ` ""`)
		case secret:
		case m != nil && known[m[1]]:
			list = strings.HasPrefix(m[2], "[") && !strings.Contains(m[2], "]")
			out.WriteString(withComment(body, comment))
		case m != nil:
			list = false
			out.WriteString(body[:len(body)-len(m[2])] + `""`)
		case list:
			list = !strings.Contains(body, "]")
			out.WriteString(body)
		default:
			out.WriteString(comment)
		}
		out.WriteString("\n")
	}
	blank := out.String()
	for _, s := range found {
		if len(s) >= 6 {
			blank = strings.ReplaceAll(blank, s, "")
		}
	}
	return []byte(blank), found
}

// asItWas gives a text the mark and the line ends of the file that it replaces, in
// UTF-8: so it is hardly ever longer, and fits on a card that is full.
func asItWas(raw, left []byte) []byte {
	if bytes.Contains(plainMark(raw), []byte("\r\n")) {
		left = bytes.ReplaceAll(left, []byte("\n"), []byte("\r\n"))
	}
	if len(raw) > 1 && (raw[0] == 0xEF || raw[0] == 0xFF || raw[0] == 0xFE) {
		left = append([]byte("\uFEFF"), left...)
	}
	return left
}

// withComment writes a line whose value may stay, without a login in an address.
func withComment(body, comment string) string {
	return strings.TrimRight(loginInIt.ReplaceAllString(body, "//")+comment, " \t")
}

// cutComment splits a line at the # that is in no text.
func cutComment(line string) (body, comment string) {
	in := rune(0)
	for i, r := range line {
		switch {
		case in != 0 && r == in:
			in = 0
		case in != 0:
		case r == '"' || r == '\'':
			in = r
		case r == '#':
			return line[:i], line[i:]
		}
	}
	return line, ""
}

// exampleCard is what a card's file may hold beside the configuration.
const exampleCard = `
# 以下各段只寫在記憶卡的 punchclock.toml，開機後打卡鐘會收下並從卡上清除。
# The sections below are only for the punchclock.toml on a card: the clock takes them in and wipes them from it.

[secrets]                           # 名稱見各 *_file 鍵；留空 = 沿用打卡鐘已有的 names are those in the *_file keys; "": what the clock has
104-secret    = ""
feishu-secret = ""
wifi-psk      = ""                  # Wi-Fi 密碼 the Wi-Fi network's passphrase
admin-pin     = ""                  # 管理頁 /admin 的 PIN，至少 6 個字元 the PIN of the page /admin, 6 characters or more

[network]                           # 沒有本段則不更動網路 without this section the network stays as it is
ntp = []                            # 校時伺服器 time servers, e.g. ["time.stdtime.gov.tw"]; []: as DHCP says

[network.wired]                     # 沒有 address 則用 DHCP without address: DHCP
# address = "192.168.1.20/24"
# gateway = "192.168.1.1"
# dns     = ["192.168.1.1"]

# [network.wifi]
# ssid    = "Office"
# country = "TW"                    # 國碼 without it the radio stays off
# hidden  = false                   # true: 隱藏的網路 a network that does not show its name

[provision]
set_aside_punches = false           # true: 換代號時，舊代號未送出的打卡另存且不再送出 with another device id, put the unsent punches of the old one aside: they are not sent any more
`
