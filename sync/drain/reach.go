package drain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
)

// Reached is who answers at an address.
type Reached struct {
	// Chain is what the far side showed, its own certificate first; nil where the
	// address is not https.
	Chain []*x509.Certificate
	// Untrusted is why a call would not be made all the same, in plain words; nil
	// where it would.
	Untrusted error
}

// Reach connects to where a call to address would go, by way of o's proxy, and hangs
// up as soon as it has seen the certificates. No request is sent: it is no call,
// needs no permit, and may be used beside a running engine. Of o only CAFile, Proxy
// and ProxyLogin count. It blocks until there is an answer, for 10 s to connect and
// 10 s to agree on TLS at most, or until ctx is done. The error says in plain words
// why nobody was reached; a certificate that is not to be trusted is in the answer.
func Reach(ctx context.Context, o ClientOptions, address string) (Reached, error) {
	words := &watched{timeout: dialTimeout, proxied: o.Proxy != ""}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return Reached{}, errors.New("not a web address")
	}
	if u.Scheme == "http" { // which is for loopback: no proxy, no certificate
		port := u.Port()
		if port == "" {
			port = "80"
		}
		c, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
		if err != nil {
			return Reached{}, words.explain(ctx, err)
		}
		return Reached{}, c.Close()
	}
	t, err := newTransport(o)
	if err != nil {
		return Reached{}, err
	}
	defer t.CloseIdleConnections()
	var r Reached
	seen := errors.New("seen")
	proxies := 0 // handshakes that are a proxy's, not the far side's
	if p, err := url.Parse(o.Proxy); err == nil && p.Scheme == "https" {
		proxies = 1
	}
	roots := t.TLSClientConfig.RootCAs
	// We verify ourselves, so that a bad chain can be shown. That of a proxy must be
	// good: it is about to be told a login.
	t.TLSClientConfig.InsecureSkipVerify = true
	t.TLSClientConfig.VerifyConnection = func(s tls.ConnectionState) error {
		host := u.Hostname()
		if proxies > 0 {
			p, _ := url.Parse(o.Proxy)
			host = p.Hostname()
		}
		v := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
		for _, c := range s.PeerCertificates[1:] {
			v.Intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(v)
		if err != nil {
			err = &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
		}
		if proxies > 0 {
			proxies--
			return err
		}
		r.Chain = s.PeerCertificates
		if err != nil {
			r.Untrusted = words.explain(ctx, err)
		}
		return seen // ends the handshake: nothing can be sent
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return Reached{}, errors.New("not a web address")
	}
	resp, err := t.RoundTrip(req)
	switch {
	case errors.Is(err, seen):
		return r, nil
	case err == nil: // cannot be: without the handshake there is nobody to send to
		resp.Body.Close()
		return Reached{}, errors.New("somebody answered without TLS")
	}
	return Reached{}, words.explain(ctx, err)
}
