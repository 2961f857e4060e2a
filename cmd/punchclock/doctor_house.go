package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"punchclock/device"
	"punchclock/device/evdev"
	"punchclock/device/gpiochip"
	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/token"
	"punchclock/ui/screen"
)

// What doctor looks at beside the machine: outbox, roster, far sides, readers, lamps,
// page.

const asRoot = "run doctor as root, or as the clock's own account"

// The outbox.

func (p *patient) outboxChecks() []check {
	all := []check{{id: "outbox.open", parent: "state.dir", title: "outbox", limit: 20 * time.Second, run: p.outboxOpen}}
	if p.running != nil {
		all = append(all,
			check{id: "outbox.ready", parent: "outbox.open", title: "takes punches", run: p.outboxReady},
			check{id: "outbox.mended", parent: "outbox.open", title: "damage", run: p.outboxMended},
			check{id: "outbox.mirror", parent: "outbox.open", title: "second copy", run: p.outboxMirror})
	}
	return append(all, check{id: "outbox.chain", parent: "outbox.open", title: "chain of records", medium: true, limit: chainLimit + time.Second, run: p.outboxChain})
}

func (p *patient) outboxOpen(context.Context) sight {
	switch {
	case p.running != nil:
		o := p.running.Outbox
		return ok("open, last number %d, %s", o.LastSeq, size(uint64(max(0, o.Bytes))))
	case !errors.Is(p.daemonErr, errNoDaemon):
		return unknown(asRoot, "the clock was not asked, and it has the files")
	case errors.Is(p.outboxErr, fs.ErrNotExist):
		return ok("no punch was ever stored here")
	case errors.Is(p.outboxErr, queue.ErrInUse):
		return unknown("run doctor again in a minute", "a clock is starting, or another program reads the files")
	case errors.Is(p.outboxErr, fs.ErrPermission):
		return unknown(asRoot, "%v", p.outboxErr)
	case p.outboxErr != nil:
		return fail("systemctl start punchclock mends what it can, keeping what it replaces; then: punchclock verify", "%v", p.outboxErr)
	case p.holds == nil:
		return unknown("", "%v", p.holdsErr)
	}
	return ok("whole, last number %d, %s", p.holds.Punches, size(uint64(max(0, p.holds.Bytes))))
}

func (p *patient) outboxReady(context.Context) sight {
	if o := p.running.Outbox; !o.Ready {
		return fail("see above: space, file system, time to store; the clock tries again with every tap", "NO PUNCH CAN BE STORED: %s", o.Problem)
	}
	return ok("a punch could be stored now")
}

func (p *patient) outboxMended(context.Context) sight {
	if s := p.running.Outbox.Incident; s != "" {
		return warn("keep outbox/quarantine, run punchclock verify; if punches are missing: punchclock recover", "%s", s)
	}
	return ok("none since the start")
}

// mostBehind is what the second copy may lack: it is written within a second.
const mostBehind = 1000

func (p *patient) outboxMirror(context.Context) sight {
	m := p.running.Outbox.Mirror
	switch {
	case m.Error != "":
		return warn("its folder lacks space or rights, or the medium fails; punches are stored all the same", "%d punches behind: %s", m.Behind, m.Error)
	case m.Behind > mostBehind:
		return warn("wait, and look again; the medium may be slow", "%d punches behind", m.Behind)
	}
	return ok("%d punches behind", m.Behind)
}

const (
	chainLimit = 20 * time.Second
	aloneLimit = 5 * time.Second // a clock that starts meanwhile has to wait for its files
)

// outboxChain walks as far as it comes in its time.
func (p *patient) outboxChain(ctx context.Context) sight {
	if errors.Is(p.outboxErr, fs.ErrNotExist) {
		return sight{} // nothing to walk along
	}
	if p.walk == nil {
		return unknown("", "nobody could be asked")
	}
	limit := chainLimit
	if p.alone() {
		limit = aloneLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, end, err := p.walk(ctx)
	if err != nil {
		return unknown("punchclock verify", "%v", err)
	}
	defer end()
	defer body.Close()
	var done, most uint64
	for d := json.NewDecoder(body); ; {
		var l verifyLine
		if err := d.Decode(&l); err != nil || l.Error != "" {
			switch {
			case ctx.Err() == nil:
				return unknown("punchclock verify", "the walk was cut off: %s", cmp.Or(l.Error, fmt.Sprint(err)))
			case done == 0:
				return unknown("punchclock verify", "it takes longer than %v", limit)
			}
			return ok("the first %d of %d records are what was written; all of them: punchclock verify", done, most)
		}
		if l.Report == nil {
			done, most = l.Done, l.All
			continue
		}
		if r := l.Report; !r.OK {
			return fail("punchclock verify names all; then: punchclock recover", "punch %s %s (%d problems)", r.Problems[0].ID, r.Problems[0].What, len(r.Problems))
		} else if r.Records > 0 {
			return ok("%d records, numbers %d to %d, are what was written", r.Records, r.First, r.Last)
		}
		return ok("no record yet")
	}
}

// The roster.

const oldRoster = 180 * 24 * time.Hour

func (p *patient) rosterChecks() []check {
	all := []check{
		{id: "roster.people", parent: "config.valid", title: "people", run: p.rosterPeople},
		{id: "roster.badges", parent: "roster.people", title: "badges", run: p.rosterBadges},
	}
	if p.running != nil && p.running.Roster != nil {
		all = append(all, check{id: "roster.source", title: "source", run: p.rosterSource})
	}
	return all
}

func (p *patient) rosterSource(context.Context) sight {
	s := p.running.Roster
	detail := fmt.Sprintf("%s, imported %s, looked at %s", s.Source, dash(s.Imported), dash(s.LookedAt))
	if s.Problem != "" {
		return fail("put it right at the source; until then the last good roster is in force", "%s\n%s", detail, s.Problem)
	}
	return ok("%s", detail)
}

const importRoster = "punchclock roster import people.csv"

func (p *patient) rosterPeople(context.Context) sight {
	absent := warn(importRoster, "there is none: every badge is stored as unknown")
	switch {
	case errors.Is(p.rosterErr, fs.ErrNotExist):
		return absent
	case errors.Is(p.rosterErr, fs.ErrPermission):
		return unknown(asRoot, "%v", p.rosterErr)
	case p.rosterErr != nil && p.alone():
		return fail("systemctl start punchclock sets it aside; then: "+importRoster, "%v", p.rosterErr)
	case p.holds == nil && p.running == nil && !errors.Is(p.daemonErr, errNoDaemon):
		return unknown(asRoot, "the clock was not asked, and it has the file")
	case p.holds == nil:
		return unknown("systemctl restart punchclock", "the clock did not tell: %v", p.holdsErr)
	case p.holds.Roster == nil:
		return absent
	}
	r := p.holds.Roster
	age := p.now().Sub(r.Changed)
	detail := fmt.Sprintf("%d people, %d of them active, changed %s ago", r.People, r.Active, roughly(max(0, age)))
	switch {
	case r.Active == 0:
		return warn(importRoster, "%s: every badge is stored as unknown", detail)
	case age > oldRoster:
		return warn("ask HR whether nobody has come or gone; then: "+importRoster, "%s", detail)
	}
	return ok("%s", detail)
}

func (p *patient) rosterBadges(context.Context) sight {
	if p.holds == nil || p.holds.Roster == nil || p.holds.Roster.Active == 0 {
		return sight{} // nobody to have one
	}
	r := p.holds.Roster
	detail := fmt.Sprintf("%d of %d have a badge", r.Active-r.NoBadge, r.Active)
	switch {
	case r.Clashes > 0:
		return fail("punchclock roster import names them: give one of each two another card, or take a rule out of badge.same_card",
			"%d pairs of people have cards that the readers cannot tell apart: their taps are stored as of unknown badges", r.Clashes)
	case r.NoMeans > 0:
		return warn("give them a badge or a PIN: punchclock roster ls, then import", "%s; %d have neither badge nor PIN and cannot punch", detail, r.NoMeans)
	}
	return ok("%s, no two the same", detail)
}

// The far sides.

// certificateSoon is when somebody should think of a certificate's end.
const certificateSoon = 14 * 24 * time.Hour

func (p *patient) destinationChecks(d destinationConfig) []check {
	id := "dest." + d.Name
	delivery := check{id: id + ".delivery", title: "delivery", run: func(context.Context) sight { return p.delivery(d) }}
	if !d.secretWanted() {
		return []check{{id: id + ".delivery", title: "delivery", run: func(context.Context) sight { return ok("off: nothing is sent, nor later") }}}
	}
	all := []check{
		{id: id + ".name", title: "name", run: func(ctx context.Context) sight { return p.resolve(ctx, d) }},
		{id: id + ".certificate", parent: id + ".name", title: "connection", limit: 25 * time.Second, run: func(ctx context.Context) sight { return p.certificate(ctx, d) }},
	}
	if p.alone() {
		// While the clock runs it keeps the ceiling of calls, and its state says the same.
		all = append(all, check{id: id + ".token", parent: id + ".certificate", title: "credentials", limit: 25 * time.Second, run: func(ctx context.Context) sight { return p.token(ctx, d) }})
	}
	return append(all, delivery, check{id: id + ".parked", title: "parked punches", run: func(context.Context) sight { return p.parked(d) }})
}

// addresses are where the destination is called, each host once.
func (d destinationConfig) addresses() (out []string) {
	seen := map[string]bool{}
	for _, a := range []string{d.APIBase, d.TokenURL, d.BaseURL} {
		if u, err := url.Parse(a); err == nil && u.Host != "" && !seen[u.Scheme+u.Host] {
			seen[u.Scheme+u.Host] = true
			out = append(out, a)
		}
	}
	return out
}

// resolve asks the name server for whoever is connected to: the proxy, if there is one.
func (p *patient) resolve(ctx context.Context, d destinationConfig) sight {
	var said []string
	addresses, who := d.addresses(), ""
	if d.Proxy != "" {
		addresses, who = []string{d.Proxy}, "the proxy "
	}
	for _, a := range addresses {
		u, err := url.Parse(a)
		if err != nil {
			return fail("correct the address in the configuration", "%snot an address", who)
		}
		host := u.Hostname()
		if net.ParseIP(host) != nil {
			said = append(said, who+host)
			continue
		}
		begin := time.Now()
		ips, err := p.lookup(ctx, host)
		if err != nil {
			var dns *net.DNSError
			if errors.As(err, &dns) && dns.IsNotFound {
				return fail("compare the address with what the far side's owner gave you; or this site's name server does not know it", "%s%s: no such host", who, host)
			}
			return fail("look at the cable, the network settings and the name server: resolvectl status; ip route", "%s%s: the name server does not answer", who, host)
		}
		said = append(said, fmt.Sprintf("%s%s is %s (%v)", who, host, strings.Join(ips[:min(2, len(ips))], ", "), short(time.Since(begin))))
	}
	return ok("%s", strings.Join(said, "\n"))
}

// clientOptions are the destination's, as the clock has them.
func (p *patient) clientOptions(d destinationConfig) drain.ClientOptions {
	o := drain.ClientOptions{CAFile: d.CAFile, Proxy: d.Proxy, Transport: p.network}
	if d.ProxyLoginFile != "" {
		path := p.secret(d.ProxyLoginFile).path
		o.ProxyLogin = func() (string, error) { return readSecret(path) }
	}
	return o
}

// certificate connects and looks, without a call.
func (p *patient) certificate(ctx context.Context, d destinationConfig) sight {
	out := sight{state: isOK}
	var said []string
	for _, a := range d.addresses() {
		f := p.shown(ctx, d, a)
		said = append(said, f.detail)
		if f.state == isFailed || f.state == isWarning && out.state == isOK {
			out = f
		}
	}
	out.detail = strings.Join(said, "\n")
	return out
}

func (p *patient) shown(ctx context.Context, d destinationConfig, address string) sight {
	u, _ := url.Parse(address)
	r, err := p.reach(ctx, p.clientOptions(d), address)
	if err != nil {
		return fail("look at the firewall, the proxy and the address; nothing is lost meanwhile", "%s: %v", u.Host, err)
	}
	if r.Chain == nil {
		return ok("%s answers, without TLS, on this machine", u.Host)
	}
	const day = time.DateOnly
	leaf, now := r.Chain[0], p.now()
	end := leaf.NotAfter
	for _, c := range r.Chain {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	issuer := cmp.Or(strings.Join(leaf.Issuer.Organization, " "), leaf.Issuer.CommonName, "nobody named")
	detail := fmt.Sprintf("%s: certificate by %s, %s to %s", u.Host, issuer, leaf.NotBefore.Format(day), leaf.NotAfter.Format(day))
	if r.Untrusted != nil {
		remedy := "the far side's owner must mend it; if a company proxy stands between, put its root certificate into ca_file"
		if now.Before(leaf.NotBefore) || now.After(end) {
			if state, _, err := p.reading(); err != nil || state != "synced" || now.Before(leaf.NotBefore) {
				remedy = "set this machine's clock, see clock.time: the certificate is not what is wrong"
			} else {
				remedy = "the far side's owner must renew it"
			}
		}
		return fail(remedy, "%s: %v", detail, r.Untrusted)
	}
	left := end.Sub(now)
	detail += fmt.Sprintf(", %s left", roughly(left))
	if left < certificateSoon {
		return warn("ask the far side's owner to renew it, or the proxy's", "%s", detail)
	}
	return ok("%s", detail)
}

// token asks for one. No clock runs, so nobody else makes calls.
func (p *patient) token(ctx context.Context, d destinationConfig) sight {
	at := p.secret(d.SecretFile)
	if at.sealed {
		return unknown("systemctl start punchclock", "only systemd can open the secret")
	}
	if _, err := readSecret(at.path); err != nil {
		return unknown("", "not run: the secret cannot be read, see config.secrets")
	}
	var server atomic.Pointer[time.Duration]
	o := p.clientOptions(d)
	o.Pace = drain.NewPace(d.CallsPerSecond)
	o.Date = func(at time.Time) { skew := at.Sub(p.now()); server.Store(&skew) }
	client, err := drain.NewClient(o)
	if err != nil {
		return fail("correct the configuration", "%v", err)
	}
	defer client.CloseIdleConnections()
	dest, err := destinationDrivers[d.Driver](d, destinationParts{
		secret: func() (string, error) { return readSecret(at.path) }, http: client, log: slog.New(slog.DiscardHandler), place: p.cfg.Device.Name,
		people: func(string, time.Time) (punch.Employee, bool) { return punch.Employee{}, false }, tokens: func(string) {}, clock: func(time.Time) {},
	})
	if err != nil {
		return fail("correct the configuration", "%v", err)
	}
	asked, can := dest.(interface{ Check(context.Context) error })
	if !can {
		return sight{}
	}
	counts := ""
	if d.Driver == "signin" {
		counts = "; this was a login: a wrong password counts as a try there"
	}
	err = asked.Check(ctx)
	var denied *token.Denied
	switch {
	case errors.As(err, &denied):
		return fail(denied.Hint, "%s: %v%s", denied.State, denied.Err, counts)
	case err != nil:
		return fail("look again in a minute; nothing is lost meanwhile", "%v%s", err, counts)
	}
	if skew := server.Load(); skew != nil && skew.Abs() > farApart {
		f := skewed(*skew)
		f.detail = "a token was given, but " + f.detail
		return f
	}
	return ok("a token was given%s", counts)
}

func (p *patient) delivery(d destinationConfig) sight {
	var s *destinationStatus
	if p.running != nil {
		i := slices.IndexFunc(p.running.Destinations, func(s destinationStatus) bool { return s.Name == d.Name })
		if i < 0 {
			return fail("systemctl restart punchclock", "the clock that runs does not know it")
		}
		s = &p.running.Destinations[i]
	} else {
		h := p.holds
		if h == nil {
			return unknown("", "nobody could be asked")
		}
		at, known := h.Destinations[d.Name]
		if !known {
			return ok("nothing was ever to be sent")
		}
		return ok("%s", waiting(at.Pending, time.Duration(at.OldestSeconds*float64(time.Second))))
	}
	oldest := time.Duration(s.OldestUnsentSeconds * float64(time.Second))
	detail := fmt.Sprintf("%s, %s", s.State, waiting(s.Pending, oldest))
	if s.LastSuccess != "" {
		detail += ", last success " + s.LastSuccess
	}
	switch s.State {
	case drain.OK:
		if s.Pending > 0 && oldest > time.Hour {
			return warn("punches made before the clock was set wait for it, see clock.time; else: journalctl -u punchclock", "%s", detail)
		}
		return ok("%s", detail)
	case token.AuthFailed:
		remedy := p.secret(d.SecretFile).remedy(d.SecretFile)
		if d.Driver == "signin" { // its password is not tried again by itself
			remedy += "; or have the account unlocked, then: punchclock queue retry --destination " + d.Name
		}
		return fail(remedy, "%s\n%s", detail, s.LastError)
	case token.Misconfigured:
		return fail("correct what it names in the configuration; no restart is needed", "%s\n%s", detail, s.LastError)
	}
	return fail("network or far side is away, see above; punches wait, nothing is lost", "%s\n%s", detail, s.LastError)
}

func waiting(n uint64, oldest time.Duration) string {
	if n == 0 {
		return "nothing waits"
	}
	return fmt.Sprintf("%d punches wait, the oldest for %s", n, roughly(oldest))
}

func (p *patient) parked(d destinationConfig) sight {
	n := 0
	if p.running != nil {
		for _, s := range p.running.Destinations {
			if s.Name == d.Name {
				n = s.Parked
			}
		}
	} else if p.holds != nil {
		n = p.holds.Destinations[d.Name].Parked
	} else {
		return unknown("", "nobody could be asked")
	}
	if n > 0 {
		return warn("punchclock queue ls --state parked says why; put right, then: punchclock queue retry --destination "+d.Name, "%d punches wait for a person", n)
	}
	return ok("none")
}

// The readers.

func (p *patient) readerChecks() (all []check) {
	for _, r := range p.cfg.Readers {
		id := "reader." + r.Name
		last := ""
		if len(r.lines()) > 0 {
			last = "gpio.chip"
		}
		if r.Driver != "stdin" && (r.Port != "" || r.Driver == "evdev") {
			all = append(all,
				check{id: id + ".device", title: "device", run: func(context.Context) sight { _, f := p.readerDevice(r); return f }},
				check{id: id + ".access", parent: id + ".device", title: "access", run: func(context.Context) sight { return p.readerAccess(r) }})
			last = id + ".device"
		}
		if p.running != nil {
			all = append(all,
				check{id: id + ".listening", parent: last, title: "reads", run: func(context.Context) sight { return p.readerListens(r) }},
				check{id: id + ".traffic", parent: id + ".listening", title: "traffic", run: func(context.Context) sight { return p.readerTraffic(r) }})
		} else if r.Driver == "stdin" {
			all = append(all, check{id: id + ".device", title: "device", run: func(context.Context) sight { return ok("lines of the standard input") }})
		}
	}
	return all
}

// readerDevice finds the file of the reader's device.
func (p *patient) readerDevice(r readerConfig) (path string, f sight) {
	path = r.Port
	remedy := "plug it in; if it is, look for its name: ls -l /dev/serial/by-id /dev/input/by-id; dmesg | tail"
	if r.Driver == "screen" {
		remedy = "check the display's cable and supply; on a Pi, dtoverlay=vc4-kms-v3d belongs in /boot/firmware/config.txt"
	}
	for prefix, overlay := range map[string]string{"/dev/spidev": "dtparam=spi=on", "/dev/i2c-": "dtparam=i2c_arm=on"} {
		if strings.HasPrefix(path, prefix) {
			remedy = "switch the bus on with " + overlay + " in /boot/firmware/config.txt, and restart the board"
		}
	}
	gone := func(detail any) sight {
		f := fail(remedy, "%v", detail)
		f.missing = true
		return f
	}
	if r.Driver == "evdev" {
		var err error
		if path, err = p.keyboard(evdev.Config{Name: r.Name, Port: r.Port, USB: r.USB, Serial: r.Serial, Phys: r.Phys}); err != nil {
			return "", gone(err)
		}
	}
	n, err := p.node(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", gone(path + " is not there")
	case errors.Is(err, fs.ErrPermission):
		return "", unknown(asRoot, "%v", err)
	case err != nil:
		return "", gone(err)
	case n.mode&fs.ModeCharDevice == 0:
		return "", fail("write the path of the reader's device, best one below /dev/serial/by-id", "%s is no device", path)
	}
	if active, _ := p.read("/sys/class/tty/console/active"); slices.Contains(strings.Fields(active), filepath.Base(n.real)) {
		return "", fail("raspi-config, interface options, serial port: no login shell; or take console=… out of /boot/firmware/cmdline.txt, then restart the board",
			"%s: the system's own console is on this line, and writes to the reader", path)
	}
	if n.real != path {
		return path, ok("%s, now %s", path, n.real)
	}
	if r.Driver == "serial" && strings.HasPrefix(filepath.Base(path), "ttyUSB") || strings.HasPrefix(filepath.Base(path), "ttyACM") {
		return path, warn("name it by /dev/serial/by-id/…: this name may be another reader's after the next start", "%s", path)
	}
	return path, ok("%s", path)
}

// readerAccess judges for the clock's account, whoever asks. A serial port that the
// clock does not have is opened for a moment.
func (p *patient) readerAccess(r readerConfig) sight {
	path, f := p.readerDevice(r)
	if path == "" {
		return f
	}
	n, err := p.node(path)
	if err != nil {
		return unknown("", "%v", err)
	}
	who := p.user()
	owner, group := p.account(n.uid).name, p.group(n.gid)
	detail := fmt.Sprintf("%v %s:%s", n.mode.Perm(), owner, group)
	if !p.mayUse(who, n) {
		return fail(fmt.Sprintf("usermod -aG %s %s, then: systemctl restart punchclock", group, who.name), "%s: the account %s may not open it", detail, who.name)
	}
	if r.Driver == "serial" && p.alone() && p.mayUse(p.account(p.uid), n) {
		if err := p.port(path, r.Baud); err != nil {
			return fail("stop whoever has it: fuser -v "+n.real, "%s: %v", detail, err)
		}
		return ok("%s, the account %s may open it; opened at %d baud", detail, who.name, r.Baud)
	}
	return ok("%s, the account %s may open it", detail, who.name)
}

func (p *patient) readerListens(r readerConfig) sight {
	i := slices.IndexFunc(p.running.Readers, func(s readerStatus) bool { return s.Name == r.Name })
	if i < 0 {
		return fail("systemctl restart punchclock", "the clock that runs does not know it")
	}
	s := p.running.Readers[i]
	detail := s.State
	if s.LastEvent == "" {
		detail += ", nothing read since the start"
	} else {
		detail += ", last heard " + s.LastEvent
	}
	var faults []string
	for word, n := range s.Faults {
		faults = append(faults, fmt.Sprintf("%d %s", n, word))
	}
	if slices.Sort(faults); len(faults) > 0 {
		detail += ", faults since the start: " + strings.Join(faults, ", ")
	}
	if s.State != "ok" {
		return fail("plug, cable, name and access, see above; journalctl -u punchclock -g "+r.Name+" says why; it comes back by itself", "%s", detail)
	}
	return ok("%s", detail)
}

// readerTraffic is what the punches say of a reader that is there.
func (p *patient) readerTraffic(r readerConfig) sight {
	i := slices.IndexFunc(p.running.Readers, func(s readerStatus) bool { return s.Name == r.Name })
	if i < 0 || p.running.Readers[i].Traffic == nil {
		return sight{} // the clock has only just begun
	}
	t := p.running.Readers[i].Traffic
	detail := fmt.Sprintf("%d punches in the last whole hour", t.Hour)
	if t.Usual > 0 {
		detail += fmt.Sprintf(", usually %d or more", t.Usual)
	}
	detail += fmt.Sprintf("; %d frames thrown away in the last 60 minutes", t.Faults)
	what := t.look()
	if len(what) == 0 {
		return ok("%s", detail)
	}
	var remedies []string
	for _, f := range what {
		detail += "\n" + f.detail
		remedies = append(remedies, f.remedy)
	}
	return warn(strings.Join(remedies, "; "), "%s", detail)
}

// Lamps, buzzer, relay, readers on wires: lines of a GPIO chip.

// gpioLine is a line that the configuration names.
type gpioLine struct{ what, chip, pin string }

func (c *config) gpioLines() (lines []gpioLine) {
	for _, o := range c.Indicator.pins() {
		if *o.pin != "" {
			lines = append(lines, gpioLine{what: o.key, pin: *o.pin})
		}
	}
	for _, r := range c.Readers {
		for _, pin := range r.lines() {
			lines = append(lines, gpioLine{what: "reader " + r.Name, chip: r.Chip, pin: pin})
		}
		if r.IRQ != "" {
			lines = append(lines, gpioLine{what: "reader " + r.Name, pin: r.IRQ})
		}
	}
	return lines
}

func (p *patient) gpioChecks() []check {
	lines := p.cfg.gpioLines()
	if len(lines) == 0 {
		return nil
	}
	var chips []gpiochip.Info
	return []check{
		{id: "gpio.chip", title: "chip", run: func(context.Context) sight {
			var f sight
			chips, f = p.gpioChip(lines)
			return f
		}},
		{id: "gpio.lines", parent: "gpio.chip", title: "lines", run: func(context.Context) sight { return p.gpioTaken(lines, chips) }},
	}
}

func (p *patient) gpioChip(lines []gpioLine) ([]gpiochip.Info, sight) {
	chips, err := p.chips()
	switch {
	case errors.Is(err, device.ErrMissing):
		f := fail("lamps, keypads and Wiegand readers need a Raspberry Pi: take them out of the configuration, or put it on one", "%v", err)
		f.missing = true
		return nil, f
	case errors.Is(err, fs.ErrPermission):
		return nil, unknown(asRoot, "%v", err)
	case err != nil:
		return nil, unknown("", "%v", err)
	}
	var have []string
	for _, c := range chips {
		have = append(have, fmt.Sprintf("%s (%s, %d lines)", c.Label, c.Path, len(c.Lines)))
		// The clock runs as somebody else.
		if n, err := p.node(c.Path); err == nil && !p.mayUse(p.user(), n) {
			g := p.group(n.gid)
			if n.gid == 0 {
				g = "gpio"
			}
			return nil, fail(fmt.Sprintf("install 60-punchclock.rules (punchclock units), usermod -aG %s %s, then: systemctl restart punchclock", g, p.user().name),
				"%s: the account %s may not open it", c.Path, p.user().name)
		}
	}
	for _, l := range lines {
		if _, err := l.in(chips); err != nil {
			f := fail("write a line that there is", "%s: %v; there is %s", l.what, err, strings.Join(have, ", "))
			f.missing = true
			return nil, f
		}
	}
	return chips, ok("%s", strings.Join(have, ", "))
}

// in finds the line, as whoever takes it does.
func (l gpioLine) in(chips []gpiochip.Info) (gpiochip.Line, error) {
	chip, line, err := gpiochip.Find(chips, l.chip, l.pin)
	if err != nil {
		return gpiochip.Line{}, err
	}
	return chip.Lines[line], nil
}

func (p *patient) gpioTaken(lines []gpioLine, chips []gpiochip.Info) sight {
	var taken, said []string
	for _, l := range lines {
		have, err := l.in(chips)
		switch {
		case err != nil:
			return unknown("", "%v", err)
		case have.Used && !(strings.HasPrefix(have.User, "punchclock") && !p.alone()):
			taken = append(taken, fmt.Sprintf("%s (%s) by %q", l.pin, l.what, cmp.Or(have.User, "somebody")))
		case have.Used:
			said = append(said, fmt.Sprintf("%s %s ours", l.what, l.pin))
		default:
			said = append(said, fmt.Sprintf("%s %s free", l.what, l.pin))
		}
	}
	if len(taken) > 0 {
		return fail("take it away from there (an overlay in config.txt, another program), or use another pin", "taken: %s", strings.Join(taken, ", "))
	}
	return ok("%s", strings.Join(said, ", "))
}

// The page, the fonts for it, and the small display.

func (p *patient) pageChecks() (all []check) {
	if d := p.cfg.Display; d.Driver != "" {
		bus := readerConfig{Name: "display", Driver: d.Driver, Port: d.Bus}
		all = append(all,
			check{id: "display.device", title: "device", run: func(context.Context) sight { _, f := p.readerDevice(bus); return f }},
			check{id: "display.access", parent: "display.device", title: "access", run: func(context.Context) sight { return p.readerAccess(bus) }})
	}
	if p.cfg.Screen.Device != "" {
		all = append(all,
			check{id: "screen.device", title: "device", run: func(context.Context) sight { _, f := p.readerDevice(p.screen()); return f }},
			check{id: "screen.access", parent: "screen.device", title: "access", run: func(context.Context) sight { return p.readerAccess(p.screen()) }},
			check{id: "screen.fonts", title: "fonts", run: p.screenFonts})
	}
	if p.cfg.Kiosk.Listen == "" {
		return all
	}
	all = append(all, check{id: "page.answers", title: "page", run: p.pageAnswers})
	for _, browser := range []string{"chromium", "chromium-browser", "firefox-esr", "firefox", "cog", "epiphany-browser", "surf"} {
		if _, err := p.find(browser); err == nil {
			return append(all, check{id: "page.fonts", title: "fonts", limit: 20 * time.Second, run: p.fonts})
		}
	}
	return all
}

// screen is the display that the clock draws on, as a reader is looked at.
func (p *patient) screen() readerConfig {
	s := readerConfig{Name: "screen", Driver: "screen", Port: p.cfg.Screen.Device}
	if s.Port != "auto" {
		return s
	}
	for _, path := range []string{"/dev/dri/card0", "/dev/dri/card1", "/dev/dri/card2", "/dev/fb0"} {
		if _, err := p.node(path); !errors.Is(err, fs.ErrNotExist) {
			s.Port = path
			return s
		}
	}
	s.Port = "/dev/dri/card0" // to be named as what is missing
	return s
}

// screenFonts tells whether any name can be written well.
func (p *patient) screenFonts(context.Context) sight {
	if path := screen.FontFile(); path != "" {
		return ok("names from %s", path)
	}
	return warn("apt-get install fonts-noto-cjk, or fonts-wqy-microhei on a small card", "Chinese names are written in coarse dots")
}

func (p *patient) pageAnswers(ctx context.Context) sight {
	at := p.cfg.Kiosk.Listen
	if p.running == nil {
		if !p.alone() {
			return unknown(asRoot, "the clock was not asked")
		}
		if err := p.listen(at); err != nil {
			return fail("stop the program that has it, or change kiosk.listen: ss -ltnp", "%v", err)
		}
		return ok("%s is free for it", at)
	}
	host, port, _ := net.SplitHostPort(at)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	address := "http://" + net.JoinHostPort(host, port)
	code, text, err := p.page(ctx, address+"/readyz")
	switch {
	case err != nil:
		return fail("another program may have the address: ss -ltnp; journalctl -u punchclock -g page", "%s does not answer: %v", address, err)
	case code != http.StatusOK:
		return fail("see above: space, file system, time to store", "%s: %s", address, text)
	}
	return ok("%s, ready", address)
}

// scripts are the languages that not every font can write, as fc-list names them,
// and where Debian has a font for each.
var scripts = map[string]struct{ lang, pkg string }{
	"zh-TW": {"zh-tw", "fonts-noto-cjk"}, "zh-CN": {"zh-cn", "fonts-noto-cjk"}, "th": {"th", "fonts-noto-core"}, "vi": {"vi", "fonts-dejavu-core"},
}

func (p *patient) fonts(ctx context.Context) sight {
	languages := []string{p.cfg.Kiosk.Language, "zh-TW"} // names are in Chinese, whatever the page's language
	if p.holds != nil && p.holds.Roster != nil {
		languages = append(languages, p.holds.Roster.Languages...)
	}
	tool, err := p.find("fc-list")
	if err != nil {
		return unknown("apt-get install fontconfig", "there is a browser, and nobody to ask for its fonts")
	}
	slices.Sort(languages)
	var have []string
	for _, l := range slices.Compact(languages) {
		script, special := scripts[l]
		if !special {
			continue
		}
		out, err := p.output(ctx, tool, ":lang="+script.lang, "family")
		if err != nil {
			return unknown("", "fc-list: %v", err)
		}
		if strings.TrimSpace(out) == "" {
			return fail("apt-get install "+script.pkg, "none can write %s: the screen shows empty boxes", l)
		}
		have = append(have, l)
	}
	return ok("there are some for %s", strings.Join(have, ", "))
}
