package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The way of the logs to their collector. No punch hangs on it.

const logsUnit = "punchclock-logs.service"

func (p *patient) logChecks() []check {
	if p.cfg.Logs.Server == "" {
		return nil
	}
	return []check{
		{id: "logs.service", title: "service", run: p.logService},
		{id: "logs.certificates", title: "certificates", run: p.logCertificates},
		{id: "logs.collector", parent: "logs.certificates", title: "collector", limit: 25 * time.Second, run: p.logCollector},
		{id: "logs.waiting", title: "waiting", run: p.logWaiting},
	}
}

func (p *patient) logService(context.Context) sight {
	switch {
	case p.unit == "":
		return sight{} // started by hand
	case !p.exists("/usr/sbin/rsyslogd"):
		return fail("apt-get install rsyslog, then: systemctl restart punchclock-logs", "rsyslog is not installed: nothing is sent to the collector")
	case !p.exists("/run/punchclock-logs/rsyslog.conf"):
		return fail("systemctl enable punchclock-logs; systemctl restart punchclock-logs; journalctl -u punchclock-logs says what keeps it", "it does not run: nothing is sent to the collector")
	}
	return ok("runs")
}

// logCertificates looks at what this end shows, and what it believes.
func (p *patient) logCertificates(context.Context) sight {
	v := p.cfg.Logs
	at := p.secretOf(logsUnit, v.KeyFile)
	if at.sealed {
		return unknown("systemctl start punchclock-logs", "only systemd can open the key")
	}
	c, err := v.tlsConfig(at.path)
	switch {
	case errors.Is(err, fs.ErrPermission), err != nil && at.closed:
		return unknown(asRoot, "%v", err)
	case errors.Is(err, fs.ErrNotExist):
		f := fail(fmt.Sprintf("put %s and %s there, and the key as /etc/credstore/%s, chmod 600; then: systemctl restart punchclock-logs", v.CA, v.Cert, filepath.Base(v.KeyFile)), "%v", err)
		f.config = true
		return f
	case err != nil:
		f := fail("ask whoever runs the collector for a certificate and the key that belongs to it", "%s, %s: %v", v.Cert, at.path, err)
		f.config = true
		return f
	}
	leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
	if err != nil {
		return fail("ask whoever runs the collector for another certificate", "%s: %v", v.Cert, err)
	}
	const day = time.DateOnly
	now := p.now()
	detail := fmt.Sprintf("%s, %s to %s", v.Cert, leaf.NotBefore.Format(day), leaf.NotAfter.Format(day))
	switch left := leaf.NotAfter.Sub(now); {
	case now.Before(leaf.NotBefore):
		return fail("set this machine's clock, see clock.time", "%s: not valid yet", detail)
	case left < 0:
		return fail("have a new one signed by whoever runs the collector", "%s: it is over", detail)
	case left < certificateSoon:
		return warn("have a new one signed by whoever runs the collector", "%s, %s left", detail, roughly(left))
	case at.stale:
		return warn("systemctl restart punchclock-logs", "%s; the key was changed since the service was started", detail)
	}
	return ok("%s", detail)
}

// logCollector connects and says hello, without sending a line.
func (p *patient) logCollector(context.Context) sight {
	v := p.cfg.Logs
	c, err := v.tlsConfig(p.secretOf(logsUnit, v.KeyFile).path)
	if err == nil {
		err = p.greet(v.Server, c)
	}
	if err != nil {
		remedy := "look at address, firewall, and whether the collector runs; lines wait on disk, punches do not wait"
		var foreign *tls.CertificateVerificationError
		if errors.As(err, &foreign) {
			remedy = "the collector shows a certificate that " + v.CA + " has not signed, or for another name: compare both with whoever runs it"
		}
		return fail(remedy, "%s: %v", v.Server, err)
	}
	return ok("%s answers, both ends show a certificate", v.Server)
}

// greet opens a session with a collector, and ends it.
func greet(server string, c *tls.Config) error {
	r, err := dialRELP(server, c)
	if err != nil {
		return err
	}
	r.command("close", "") // it is over either way
	return r.conn.Close()
}

const (
	logsFolder = "/var/lib/punchclock-logs"
	logsMost   = 64 << 20 // see senderConf
)

// logWaiting weighs what lies on disk until the collector takes it.
func (p *patient) logWaiting(context.Context) sight {
	if _, err := os.ReadDir(p.machine.path(logsFolder)); errors.Is(err, fs.ErrPermission) {
		return unknown(asRoot, "%v", err)
	}
	sum := uint64(0)
	for _, file := range p.glob(logsFolder + "/lines.*") {
		if st, err := os.Stat(p.machine.path(file)); err == nil {
			sum += uint64(st.Size())
		}
	}
	if sum > logsMost/2 {
		return warn("bring the collector back, see above", "%s of lines wait on disk; beyond %s reading the journal waits too, and the journal forgets", size(sum), size(logsMost))
	}
	return ok("%s of lines wait on disk", size(sum))
}
