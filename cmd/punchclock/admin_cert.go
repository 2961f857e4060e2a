package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"punchclock/queue/punch"
)

// adminCert is the certificate of the page, made here: nobody outside knows this
// machine by a name that an authority could vouch for. Whoever comes in compares its
// SHA-256 with the one in the QR code at the door.
//
// It lasts certLasts, the most that Apple's systems take, and is made anew certRenew
// before its end: with a new fingerprint, which goes into the log. A machine whose
// clock nobody has set cannot tell from when: it makes one for all times, and a proper
// one when the time is known. The key lies beside it, in the same file.
type adminCert struct {
	path string
	id   string // the device's
	now  func() punch.Stamp
	log  *slog.Logger
	held atomic.Pointer[tls.Certificate]
}

const (
	certLasts = 800 * 24 * time.Hour // at most 825 days: support.apple.com/en-us/103769
	certRenew = 30 * 24 * time.Hour
	certEarly = 48 * time.Hour // before it is made: the phone's clock may be behind
	certLook  = time.Hour
)

// forAllTimes is the time for which a machine without a clock makes it.
var forAllTimes = [2]time.Time{time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC)}

func certPath(dir string) string { return filepath.Join(dir, "admin-tls.pem") }

// newAdminCert reads the certificate, if there is one. It makes none.
func newAdminCert(dir, id string, now func() punch.Stamp, log *slog.Logger) *adminCert {
	c := &adminCert{path: certPath(dir), id: id, now: now, log: log}
	held, err := tls.LoadX509KeyPair(c.path, c.path)
	switch {
	case err == nil:
		c.held.Store(&held)
	case !errors.Is(err, fs.ErrNotExist):
		log.Error("the page's certificate cannot be read; another one is made", "file", c.path, "err", err)
	}
	return c
}

// run sees to it that there is a good one until ctx is done.
func (c *adminCert) run(ctx context.Context) error {
	said := ""
	for {
		wait := certLook
		if c.now().Clock == punch.Unset {
			wait = time.Minute // soon it may be known
		}
		if err := c.ensure(); err != nil {
			wait = time.Minute
			if said != err.Error() {
				said = err.Error()
				c.log.Error("no certificate for the admin page; tried again each minute", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// ensure makes one if that is due.
func (c *adminCert) ensure() error {
	now := c.now()
	if held := c.held.Load(); held != nil && !certDue(held.Leaf, now) {
		return nil
	}
	made, text, err := makeCert(c.id, now)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	if err := replaceFile(c.path, text); err != nil {
		return fmt.Errorf("keep the certificate: %w", err)
	}
	c.held.Store(made)
	c.log.Info("the page has a new certificate", "sha256", fingerprintOf(made), "until", made.Leaf.NotAfter.Format(time.DateOnly))
	return nil
}

// certDue reports whether another one is to be made. While the clock is not set any
// will do.
func certDue(leaf *x509.Certificate, now punch.Stamp) bool {
	if now.Clock == punch.Unset {
		return false
	}
	return leaf.NotAfter.Equal(forAllTimes[1]) || now.Wall.Before(leaf.NotBefore) || leaf.NotAfter.Sub(now.Wall) < certRenew
}

// makeCert makes a certificate with its key, and the text of both for the file.
func makeCert(id string, now punch.Stamp) (*tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	from, until := now.Wall.Add(-certEarly), now.Wall.Add(certLasts-certEarly)
	if now.Clock == punch.Unset {
		from, until = forAllTimes[0], forAllTimes[1]
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: id}, NotBefore: from, NotAfter: until, DNSNames: []string{id, "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	if name, err := os.Hostname(); err == nil {
		t.DNSNames = append(t.DNSNames, name, name+".local")
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	var text bytes.Buffer
	pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // into memory
	pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	made, err := tls.X509KeyPair(text.Bytes(), text.Bytes())
	return &made, text.Bytes(), err
}

// get is for a handshake.
func (c *adminCert) get() (*tls.Certificate, error) {
	if held := c.held.Load(); held != nil {
		return held, nil
	}
	return nil, errors.New("there is no certificate yet")
}

// fingerprint is the SHA-256 of the certificate as browsers show it, "" for none.
func (c *adminCert) fingerprint() string {
	held := c.held.Load()
	if held == nil {
		return ""
	}
	return fingerprintOf(held)
}

func fingerprintOf(c *tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}
