package drain

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"punchclock/sync/token"
)

const (
	dialTimeout = 10 * time.Second
	tlsTimeout  = 10 * time.Second
	callTimeout = 60 * time.Second // default of ClientOptions.Timeout
	idleTimeout = 90 * time.Second
	headerLimit = 64 << 10 // bytes of an answer's header
)

// ClientOptions are the settings of a destination's HTTP client.
type ClientOptions struct {
	// Pace is the destination's ceiling. Required.
	Pace *Pace
	// Timeout is how long one call may take from leaving to the last byte of its
	// answer; 0 is 60 s. Waiting for the ceiling does not count.
	Timeout time.Duration
	// CAFile names a PEM file with root certificates that are trusted beside the
	// system's, for example a company proxy's; "" for none.
	CAFile string
	// Proxy is the address of a proxy, http, https or socks5; "" for none. The
	// environment is never asked.
	Proxy string
	// ProxyLogin reads user:password for the proxy afresh, for each connection; nil
	// for a proxy that wants none.
	ProxyLogin func() (string, error)
	// Observe hears of every call that left, once, when its answer was read or it
	// failed: the HTTP status as text, or timeout, refused, dns, tls, proxy or error,
	// and how long it took. It may be nil, and must not block.
	Observe func(code string, took time.Duration)
	// Date hears what every answer's Date header says, as it arrives: a hint at how
	// right this device's clock is, and no more. It may be nil, and must not block.
	Date func(server time.Time)
	// Transport takes the place of the network in tests.
	Transport http.RoundTripper
}

// NewClient returns the client for all calls of one destination, those for tokens
// and those for punches. It speaks HTTP/1.1, follows no redirect (a 3xx comes
// back as it is), holds no cookies, and lets no idle connection live longer than
// 90 s. Make calls with [Do], read answers with [ReadBody].
func NewClient(o ClientOptions) (*http.Client, error) {
	if o.Pace == nil {
		return nil, errors.New("http client: no pace: every destination has a ceiling")
	}
	if o.Timeout <= 0 {
		o.Timeout = callTimeout
	}
	if o.Observe == nil {
		o.Observe = func(string, time.Duration) {}
	}
	if o.Date == nil {
		o.Date = func(time.Time) {}
	}
	next := o.Transport
	if next == nil {
		t, err := newTransport(o)
		if err != nil {
			return nil, err
		}
		fresh := t.Clone()
		fresh.DisableKeepAlives = true
		next = &network{keep: t, fresh: fresh}
	}
	return &http.Client{
		Transport:     o.Pace.Transport(&watched{next, o.Timeout, o.Observe, o.Date, o.Proxy != ""}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// newTransport is the network as o wants it: certificates, proxy, time limits.
func newTransport(o ClientOptions) (*http.Transport, error) {
	t := &http.Transport{
		DialContext:            dial,
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  o.Timeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    2,
		MaxResponseHeaderBytes: headerLimit,
		DisableCompression:     true, // answers are small: not asked for, see Do
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if o.CAFile != "" {
		roots, err := roots(o.CAFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = roots
	}
	if o.Proxy != "" {
		u, err := url.Parse(o.Proxy)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
			// Not the text itself: it may hold a password.
			return nil, errors.New("proxy: not an address; write http://host:port, https://host:port or socks5://host:port")
		}
		t.Proxy = func(*http.Request) (*url.URL, error) { return withLogin(u, o.ProxyLogin) }
		t.OnProxyConnectResponse = proxyAnswered
	}
	return t, nil
}

// proxyError is a proxy that would not connect us, or could not be asked. Nothing
// of a call was sent then.
type proxyError struct {
	text   string
	denied error // a *token.Denied where a person must act
}

func (e *proxyError) Error() string { return e.text }
func (e *proxyError) Unwrap() error { return e.denied }

// proxyHint is what a person does about a login that the proxy does not take.
const proxyHint = "put user:password of an account of the proxy into proxy_login_file; it is read again by itself"

// withLogin returns the proxy's address with what it wants to know of us. The login
// is part of the connection pool's key: a changed one means a new connection.
func withLogin(u *url.URL, read func() (string, error)) (*url.URL, error) {
	if read == nil {
		return u, nil
	}
	login, err := read()
	if err != nil {
		return nil, refusedByProxy("its login cannot be read: " + err.Error())
	}
	user, password, ok := strings.Cut(strings.TrimSpace(login), ":")
	if !ok || user == "" {
		return nil, refusedByProxy("its login is not in the form user:password")
	}
	with := *u
	with.User = url.UserPassword(user, password)
	return &with, nil
}

// refusedByProxy is an error after which a person must act.
func refusedByProxy(text string) *proxyError {
	return &proxyError{text + "; " + proxyHint, &token.Denied{State: token.Misconfigured, Hint: proxyHint, Err: errors.New("the proxy: " + text)}}
}

const wantsLogin = "it wants another login than ours, or any at all (HTTP 407)"

// proxyAnswered hears of the proxy's answer to CONNECT.
func proxyAnswered(_ context.Context, _ *url.URL, asked *http.Request, answer *http.Response) error {
	switch code := answer.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code == http.StatusProxyAuthRequired:
		return refusedByProxy(wantsLogin)
	case code == http.StatusForbidden:
		return &proxyError{text: fmt.Sprintf("it forbids %s (HTTP 403); have its owner allow that address", asked.Host)}
	default:
		return &proxyError{text: fmt.Sprintf("it could not reach %s (HTTP %d)", asked.Host, code)}
	}
}

// roots reads extra certificates.
func roots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("extra certificates: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil { // a system without any: these are all there are
		pool = x509.NewCertPool()
	}
	n := 0
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("extra certificates: %s: holds a %q block; only certificates belong here", file, b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("extra certificates: %s: certificate %d: %w", file, n+1, err)
		}
		pool.AddCert(c)
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("extra certificates: %s: holds no PEM certificate; it should begin with -----BEGIN CERTIFICATE-----", file)
	}
	return pool, nil
}

// network is the real one. On a connection that was used before, net/http repeats
// a call on its own when the far side closed it just then, and the ceiling would
// not know. It never does so with a POST that may have been seen; for what it
// repeats, there is a connection for each call.
type network struct{ keep, fresh *http.Transport }

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost {
		return n.keep.RoundTrip(r)
	}
	return n.fresh.RoundTrip(r)
}

func (n *network) CloseIdleConnections() { n.keep.CloseIdleConnections() }

// dial opens a connection that is cut, not closed, when it goes down with a call
// unanswered: the kernel would go on delivering what it holds for minutes, and the
// call would arrive after its permit was used again.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, network, addr)
	if tcp, ok := c.(*net.TCPConn); ok {
		return &line{TCPConn: tcp}, nil
	}
	return c, err
}

// line is a TCP connection that knows which call is on it.
type line struct {
	*net.TCPConn
	call atomic.Pointer[watchedCall]
}

func (l *line) Close() error {
	if l.call.Load() != nil {
		l.SetLinger(0)
	}
	return l.TCPConn.Close()
}

// watchedCall is one call, for as long as it is not answered to the end.
type watchedCall struct{ line atomic.Pointer[line] }

// got takes note of the connection that the call is about to be written to.
func (c *watchedCall) got(info httptrace.GotConnInfo) {
	conn := info.Conn
	for {
		switch on := conn.(type) {
		case *tls.Conn:
			conn = on.NetConn()
			continue
		case *line:
			c.line.Store(on)
			on.call.Store(c)
		}
		return
	}
}

// answered lets go of the connection, unless the next call has it already.
func (c *watchedCall) answered() {
	if l := c.line.Load(); l != nil {
		l.call.CompareAndSwap(c, nil)
	}
}

// watched limits a call's time, tells Observe of it, and turns what went wrong
// into words that hold nothing secret.
type watched struct {
	next    http.RoundTripper
	timeout time.Duration
	observe func(string, time.Duration)
	date    func(time.Time)
	proxied bool
}

func (t *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := r.Context()
	ctx, cancel := context.WithTimeout(asked, t.timeout)
	call := new(watchedCall)
	start := time.Now()
	resp, err := t.next.RoundTrip(r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: call.got})))
	if err != nil {
		cancel()
		e := t.explain(asked, err)
		t.observe(e.code, time.Since(start))
		return nil, e
	}
	if t.proxied && resp.StatusCode == http.StatusProxyAuthRequired { // plain http: the proxy answers in the far side's place
		resp.Body.Close()
		cancel()
		e := t.explain(asked, refusedByProxy(wantsLogin))
		t.observe(e.code, time.Since(start))
		return nil, e
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		t.date(date)
	}
	code := strconv.Itoa(resp.StatusCode)
	resp.Body = &plainBody{t, asked, atEnd(resp.Body, func(err error) {
		if err != nil {
			code = t.explain(asked, err).code
		} else {
			call.answered()
		}
		cancel()
		t.observe(code, time.Since(start))
	})}
	return resp, nil
}

func (t *watched) CloseIdleConnections() { closeIdle(t.next) }

// plainBody turns the errors of reading an answer into plain words, too.
type plainBody struct {
	t     *watched
	asked context.Context
	io.ReadCloser
}

func (b *plainBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.t.explain(b.asked, err)
	}
	return n, err
}

// callError is a call that came to nothing, in words fit for a log: no query, no
// header, no body.
type callError struct {
	code   string // for metrics: timeout, refused, dns, tls, proxy, error
	text   string
	unsent bool // certain that nothing of the request was sent
	err    error
}

func (e *callError) Error() string { return e.text }
func (e *callError) Unwrap() error { return e.err }

// neverLeft reports whether err is certain to mean that the far side saw nothing.
func neverLeft(err error) bool {
	var e *callError
	return errors.As(err, &e) && e.unsent
}

// explain puts an error of the network into words.
func (t *watched) explain(asked context.Context, err error) *callError {
	e := &callError{code: "error", err: err}
	var (
		dns     *net.DNSError
		op      *net.OpError
		verify  *tls.CertificateVerificationError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		network net.Error
		errno   syscall.Errno
		refused *proxyError
	)
	proxy := ""
	dialing := false
	if errors.As(err, &op) {
		if op.Op == "proxyconnect" {
			proxy = "the proxy: "
		}
		dialing = op.Op == "dial" || proxy != ""
	}
	timeout := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
	switch {
	case asked.Err() != nil:
		// Our own side called it off.
		e.text, e.err = "given up: "+asked.Err().Error(), asked.Err()
		if errors.Is(asked.Err(), context.DeadlineExceeded) {
			e.code = "timeout"
		}
	case errors.As(err, &refused):
		e.code, e.unsent, e.text, proxy = "proxy", true, refused.text, "the proxy: "
	case errors.As(err, &dns):
		e.code, e.unsent = "dns", true
		e.text = fmt.Sprintf("the name server did not answer for %s; check the network and its name server", dns.Name)
		if dns.IsNotFound {
			e.text = fmt.Sprintf("no such host: %s; check the address in the configuration, and the name server", dns.Name)
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		e.code, e.unsent = "refused", true
		e.text = "connection refused: nothing listens there"
	case errors.As(err, &invalid):
		e.code, e.unsent, e.text = "tls", true, "the certificate is not valid: "+x509Text(invalid, time.Now())
	case errors.As(err, &unknown):
		e.code, e.unsent = "tls", true
		e.text = "the certificate is signed by an authority that this device does not know; if a company proxy stands between, put its root certificate into ca_file"
	case errors.As(err, &name):
		e.code, e.unsent = "tls", true
		e.text = "the certificate is for another name; a portal or a wrong address stands between"
	case errors.As(err, &verify):
		e.code, e.unsent, e.text = "tls", true, "the certificate could not be checked"
	case errors.As(err, &record):
		e.code, e.unsent, e.text = "tls", true, "the far side does not speak TLS there; a portal or a wrong port"
	case errors.As(err, &alert):
		e.code, e.text = "tls", alert.Error()
	case timeout && dialing:
		e.code, e.unsent, e.text = "timeout", true, fmt.Sprintf("no connection within %v", min(dialTimeout, t.timeout))
	case timeout:
		e.code, e.text = "timeout", fmt.Sprintf("no complete answer within %v", t.timeout)
	case dialing && errors.As(err, &errno):
		e.unsent, e.text = true, "no connection: "+errno.Error()
	case dialing:
		e.unsent, e.text = true, "no connection"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.text = "the connection was closed before the answer was complete"
	default:
		// net/http quotes what it could not understand: not for a log.
		e.text = "the connection broke, or the answer was not HTTP"
	}
	e.text = proxy + e.text
	return e
}

// x509Text says what is wrong with a certificate, and whose clock it is likely to be.
func x509Text(c x509.CertificateInvalidError, now time.Time) string {
	const day = "2006-01-02 15:04 MST"
	if c.Reason != x509.Expired || c.Cert == nil {
		return c.Error()
	}
	today := now.UTC().Format(day)
	if now.Before(c.Cert.NotBefore) {
		return fmt.Sprintf("it begins on %s and this device's clock says %s: most likely the clock is wrong, set it",
			c.Cert.NotBefore.UTC().Format(day), today)
	}
	return fmt.Sprintf("it ended on %s and this device's clock says %s: if the clock is right, the far side must renew it",
		c.Cert.NotAfter.UTC().Format(day), today)
}

// Do makes a call and names it in the error: method, host and path. The error
// holds no query, header or body, which http.Client.Do's would. The caller reads
// the answer with [ReadBody], or closes its body.
func Do(c *http.Client, r *http.Request) (*http.Response, error) {
	r.Header.Set("Accept-Encoding", "identity") // without it any encoding would do (RFC 9110, 12.5.3)
	resp, err := c.Do(r)
	if err == nil {
		return resp, nil
	}
	var e *callError
	if !errors.As(err, &e) {
		// Made by net/http itself, which quotes what it did not like.
		e = &callError{code: "error", text: "the call could not be made or its answer not be understood", err: err}
	}
	return nil, fmt.Errorf("%s %s%s: %w", r.Method, r.URL.Host, r.URL.EscapedPath(), e)
}

// ErrTooLarge is inside ReadBody's error for an answer above its limit.
var ErrTooLarge = errors.New("the answer is too large")

// ReadBody reads an answer of at most max bytes to its end and closes it. One that
// comes packed by gzip, as gateways do unasked, is unpacked, and max counts what comes
// out. The error of a longer one is [ErrTooLarge]; what was read up to any error is
// returned, too, and is not to be trusted as an answer.
func ReadBody(resp *http.Response, max int64) ([]byte, error) {
	defer resp.Body.Close()
	body := io.Reader(resp.Body)
	if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		z, err := gzip.NewReader(body)
		if errors.Is(err, io.EOF) { // no body at all
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading the answer: %w", err)
		}
		body = z
	}
	b, err := io.ReadAll(io.LimitReader(body, max+1))
	if int64(len(b)) > max {
		return b[:max], fmt.Errorf("%w: more than %d bytes", ErrTooLarge, max)
	}
	if err != nil {
		return b, fmt.Errorf("reading the answer: %w", err)
	}
	return b, nil
}

// RetryAfter returns how long an answer asks to wait in its Retry-After header,
// seconds or a date, 10 min at most. It is 0 where the header is missing, in the
// past, or not understood. A date counts from the answer's own Date header where
// it has one, for this device's clock may be wrong, else from now.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if strings.Trim(v, "0123456789") == "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n > int64(busyMost/time.Second) {
			return busyMost // more digits than a number has: long
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), busyMost)
}
