package drain

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/sync/token"
)

// restedPace is a ceiling that does not make a test wait.
func restedPace(n int) *Pace {
	p := NewPace(n)
	for i := range p.home {
		p.home[i] = p.home[i].Add(-2 * time.Second)
	}
	return p
}

// observed collects what Observe hears.
type observed struct {
	mu    sync.Mutex
	codes []string
}

func (o *observed) hear(code string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.codes = append(o.codes, code)
}

func (o *observed) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.codes, " ")
}

const (
	secretQuery  = "query-secret"
	secretHeader = "header-secret"
	secretBody   = "body-secret"
)

// call makes a call that is full of secrets, and checks that no error tells them.
func call(t *testing.T, ctx context.Context, c *http.Client, url string) (*http.Response, []byte, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "POST", url+"/path?k="+secretQuery, strings.NewReader(secretBody))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secretHeader)
	resp, err := Do(c, r)
	var b []byte
	if err == nil {
		b, err = ReadBody(resp, 1000)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("an error tells a secret: %v", err)
	}
	return resp, b, err
}

func newClient(t *testing.T, o ClientOptions) *http.Client {
	t.Helper()
	if o.Pace == nil {
		o.Pace = restedPace(20)
	}
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestEveryFailureOfACallHasItsCodeAndAPlainText(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, tt := range []struct {
		name   string
		err    error
		code   string
		text   string
		unsent bool
	}{
		{"refused", refused, "refused", "connection refused", true},
		{"no such name", &net.DNSError{Name: "far.invalid", IsNotFound: true}, "dns", "no such host: far.invalid", true},
		{"name server away", &net.OpError{Op: "dial", Err: &net.DNSError{Name: "far.invalid", IsTimeout: true}}, "dns", "name server did not answer", true},
		{"no route", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, "error", "no route to host", true},
		{"dial timeout", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, "timeout", "no connection within 10s", true},
		{"reset", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, "error", "closed before the answer was complete", false},
		{"end", io.EOF, "error", "closed before the answer was complete", false},
		{"half", io.ErrUnexpectedEOF, "error", "closed before the answer was complete", false},
		{"quoting", fmt.Errorf("malformed HTTP response %q", secretBody), "error", "not HTTP", false},
		{"other name", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "far.invalid"}, "tls", "another name", true},
		{"unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "tls", "ca_file", true},
		{"no TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "tls", "does not speak TLS", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o observed
			c := newClient(t, ClientOptions{Observe: o.hear, Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, tt.err })})
			_, _, err := call(t, t.Context(), c, "http://far.invalid")
			if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), "POST far.invalid/path: ") {
				t.Errorf("error %v, want one about %q", err, tt.text)
			}
			if o.String() != tt.code || neverLeft(err) != tt.unsent {
				t.Errorf("code %q, never left %v; want %q, %v", o.String(), neverLeft(err), tt.code, tt.unsent)
			}
		})
	}
}

func TestACallThatHangsEndsAtTheTimeout(t *testing.T) {
	for _, where := range []string{"header", "body"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o observed
				c := newClient(t, ClientOptions{Observe: o.hear, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					if where == "header" {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}
					return &http.Response{StatusCode: 200, Body: io.NopCloser(untilDone{r.Context()})}, nil
				})})
				start := time.Now()
				_, _, err := call(t, t.Context(), c, "http://far.invalid")
				if err == nil || !strings.Contains(err.Error(), "no complete answer within 1m0s") {
					t.Errorf("error %v", err)
				}
				if d := time.Since(start); d != time.Minute || o.String() != "timeout" || neverLeft(err) {
					t.Errorf("after %v, code %q, never left %v", d, o.String(), neverLeft(err))
				}
			})
		})
	}
}

type untilDone struct{ ctx context.Context }

func (u untilDone) Read([]byte) (int, error) { <-u.ctx.Done(); return 0, u.ctx.Err() }

// Waiting for the ceiling is not the far side's slowness.
func TestWaitingForTheCeilingDoesNotCountAsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		c := newClient(t, ClientOptions{
			Pace: NewPace(1), Timeout: 500 * time.Millisecond,
			Observe: func(_ string, d time.Duration) { took = append(took, d) },
			Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			}),
		})
		for range 3 {
			if _, _, err := call(t, t.Context(), c, "http://far.invalid"); err != nil {
				t.Error(err)
			}
		}
		if len(took) != 3 || took[2] != 0 {
			t.Errorf("took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, _, err := call(t, ctx, c, "http://far.invalid")
		if !errors.Is(err, context.DeadlineExceeded) || !neverLeft(err) || len(took) != 3 {
			t.Errorf("given up in the line: %v; %d calls were observed", err, len(took))
		}
	})
}

func TestARedirectComesBackAsItIs(t *testing.T) {
	visits := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits++
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(307)
	}))
	defer srv.Close()
	var o observed
	resp, _, err := call(t, t.Context(), newClient(t, ClientOptions{Observe: o.hear}), srv.URL)
	if err != nil || resp.StatusCode != 307 || visits != 1 || o.String() != "307" {
		t.Errorf("%v, %v; %d visits, observed %q", resp, err, visits, o.String())
	}
}

// net/http quotes a Location that it cannot parse.
func TestAnErrorOfTheClientItselfQuotesNothing(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://[bad-"+secretHeader)
		w.WriteHeader(302)
	}))
	defer srv.Close()
	if _, _, err := call(t, t.Context(), newClient(t, ClientOptions{}), srv.URL); err == nil {
		t.Error("no error")
	}
}

func TestAnAnswerLargerThanAllowedIsAnError(t *testing.T) {
	for _, tt := range []struct {
		size, max int64
		tooLarge  bool
	}{{10, 10, false}, {11, 10, true}, {0, 0, false}, {1 << 30, 1000, true}} {
		body := io.NopCloser(io.LimitReader(zeros{}, tt.size))
		b, err := ReadBody(&http.Response{Body: body}, tt.max)
		if errors.Is(err, ErrTooLarge) != tt.tooLarge || int64(len(b)) != min(tt.size, tt.max) {
			t.Errorf("%d bytes of %d: %d read, %v", tt.size, tt.max, len(b), err)
		}
	}
}

// A gateway may pack what nobody asked to have packed, and a small thing may unpack
// into a large one.
func TestAnAnswerThatComesPackedIsUnpackedUpToItsLimit(t *testing.T) {
	pack := func(r io.Reader) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := io.Copy(z, r); err != nil {
			t.Fatal(err)
		}
		z.Close()
		return b.Bytes()
	}
	const said = `{"success":1}`
	packed := pack(strings.NewReader(said))
	for _, tt := range []struct {
		name string
		sent []byte
		want string
		err  error // what errors.Is finds, nil for none
	}{
		{"packed", packed, said, nil},
		{"nothing", nil, "", nil},
		{"cut", packed[:len(packed)-6], said, io.ErrUnexpectedEOF},
		{"not packed at all", []byte(said), "", gzip.ErrHeader},
		{"a bomb", pack(io.LimitReader(zeros{}, 1<<24)), string(make([]byte, 1000)), ErrTooLarge},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header["Accept-Encoding"]; !slices.Equal(got, []string{"identity"}) {
				t.Errorf("%s: asked for %q", tt.name, got)
			}
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(tt.sent)
		}))
		_, b, err := call(t, t.Context(), newClient(t, ClientOptions{}), srv.URL)
		if string(b) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v", tt.name, b, err)
		}
		srv.Close()
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAnAnswerCutInTheMiddleIsAnError(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, `{"success":1}`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	var o observed
	_, _, err := call(t, t.Context(), newClient(t, ClientOptions{Observe: o.hear}), srv.URL)
	if err == nil || !strings.Contains(err.Error(), "closed before the answer was complete") || o.String() != "error" {
		t.Errorf("error %v, observed %q", err, o.String())
	}
}

func TestWithoutAPaceThereIsNoClient(t *testing.T) {
	if _, err := NewClient(ClientOptions{}); err == nil {
		t.Error("no error")
	}
}

func TestTheEnvironmentsProxyIsNotUsed(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	c := newClient(t, ClientOptions{})
	if n := c.Transport.(*paced).next.(*watched).next.(*network); n.keep.Proxy != nil || n.fresh.Proxy != nil {
		t.Error("a proxy is set without being asked for")
	}
}

func TestTheConfiguredProxyIsUsedAndABadOneIsRefusedWithoutItsPassword(t *testing.T) {
	asked := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = r.RequestURI }))
	defer srv.Close()
	if _, _, err := call(t, t.Context(), newClient(t, ClientOptions{Proxy: srv.URL}), "http://far.invalid"); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(asked, "http://far.invalid/path") {
		t.Errorf("the proxy was asked for %q", asked)
	}
	for _, bad := range []string{"proxy:8080", "ftp://proxy", "http://u:" + secretHeader + "@%zz", "://" + secretHeader} {
		_, err := NewClient(ClientOptions{Pace: NewPace(1), Proxy: bad})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("proxy %q: error %v", bad, err)
		}
	}
}

// authority signs certificates for the loopback address.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{}
	a.key, a.cert = a.sign(t, time.Now().AddDate(-10, 0, 0), time.Now().AddDate(100, 0, 0))
	return a
}

func (a *authority) sign(t *testing.T, from, to time.Time) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(from.Unix()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: from, NotAfter: to,
		IsCA: a.cert == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return key, c
}

func TestCertificatesAreChecked(t *testing.T) {
	a := newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, tt := range []struct {
		name     string
		from, to time.Time
		ca       string
		want     []string // in the error; none: no error
	}{
		{"good", now.Add(-time.Hour), now.Add(time.Hour), file, nil},
		{"authority unknown", now.Add(-time.Hour), now.Add(time.Hour), "", []string{"ca_file"}},
		{"not yet valid", now.Add(time.Hour), now.Add(2 * time.Hour), file, []string{"most likely the clock is wrong"}},
		{"expired", now.Add(-2 * time.Hour), now.Add(-time.Hour), file, []string{"it ended on", "clock"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, cert := a.sign(t, tt.from, tt.to)
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 1 {
					t.Errorf("asked over %s", r.Proto)
				}
			}))
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.EnableHTTP2 = true
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
			srv.StartTLS()
			defer srv.Close()
			var o observed
			_, _, err := call(t, t.Context(), newClient(t, ClientOptions{CAFile: tt.ca, Observe: o.hear}), srv.URL)
			if tt.want == nil {
				if err != nil || o.String() != "200" {
					t.Errorf("error %v, observed %q", err, o.String())
				}
				return
			}
			for _, s := range tt.want {
				if err == nil || !strings.Contains(err.Error(), s) || o.String() != "tls" || !neverLeft(err) {
					t.Errorf("error %v, want one with %q; observed %q", err, s, o.String())
				}
			}
		})
	}
}

func TestAnUnusableFileOfCertificatesIsRefusedWithItsName(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"empty.pem": "", "der.crt": "\x30\x82\x01",
		"key.pem":    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"broken.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"absent.pem": "-",
	} {
		file := filepath.Join(dir, name)
		if text != "-" {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := NewClient(ClientOptions{Pace: NewPace(1), CAFile: file}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// The kernel would deliver the rest of a call for minutes after a plain close.
func TestACallThatIsGivenUpCutsItsConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ended := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			ended <- err
			return
		}
		defer c.Close()
		_, err = io.Copy(io.Discard, c)
		ended <- err
	}()
	_, _, err = call(t, t.Context(), newClient(t, ClientOptions{Timeout: 100 * time.Millisecond}), "http://"+ln.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "no complete answer within 100ms") {
		t.Errorf("error %v", err)
	}
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the far side's connection ended with %v, want a reset", err)
	}
}

// And one that was answered is closed as politeness asks.
func TestAnAnsweredConnectionIsClosedNotCut(t *testing.T) {
	a := newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	key, cert := a.sign(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if scheme == "https" {
				ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}})
			}
			defer ln.Close()
			ended := make(chan error, 1)
			go func() {
				c, err := ln.Accept()
				if err != nil {
					ended <- err
					return
				}
				defer c.Close()
				b := bufio.NewReader(c)
				for range 2 {
					r, err := http.ReadRequest(b)
					if err != nil {
						ended <- err
						return
					}
					io.Copy(io.Discard, r.Body)
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				}
				_, err = io.Copy(io.Discard, b)
				ended <- err
			}()
			client := newClient(t, ClientOptions{CAFile: file})
			for range 2 {
				if _, _, err := call(t, t.Context(), client, scheme+"://"+ln.Addr().String()); err != nil {
					t.Error(err)
				}
			}
			client.CloseIdleConnections()
			if err := <-ended; err != nil {
				t.Errorf("the far side's connection ended with %v, want its end", err)
			}
		})
	}
}

// net/http repeats a GET by itself when a used connection dies under it.
func TestNoCallIsRepeatedBehindTheCeilingsBack(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			var mu sync.Mutex
			calls := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if calls++; calls > 1 {
					panic(http.ErrAbortHandler)
				}
			}))
			defer srv.Close()
			c := newClient(t, ClientOptions{})
			for i := range 2 {
				r, _ := http.NewRequest(method, srv.URL, nil)
				resp, err := Do(c, r)
				if err == nil {
					ReadBody(resp, 10)
				}
				if (err != nil) != (i == 1) {
					t.Errorf("call %d: %v", i+1, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if calls != 2 {
				t.Errorf("%d calls arrived, 2 were made", calls)
			}
		})
	}
}

func TestAProxyThatIsAwayIsNamed(t *testing.T) {
	var o observed
	_, _, err := call(t, t.Context(), newClient(t, ClientOptions{Proxy: "http://127.0.0.1:1", Observe: o.hear}), "http://far.invalid")
	if err == nil || !strings.Contains(err.Error(), "the proxy: connection refused") || o.String() != "refused" || !neverLeft(err) {
		t.Errorf("error %v, observed %q", err, o.String())
	}
}

func TestRetryAfterIsReadAsSecondsOrAsADate(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"7", "", 7 * time.Second},
		{" 12 ", "", 12 * time.Second},
		{"0", "", 0},
		{"-5", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{"600", "", 10 * time.Minute},
		{"601", "", 10 * time.Minute},
		{"9223372036854775807", "", 10 * time.Minute},
		{"99999999999999999999999", "", 10 * time.Minute},
		{"Sat, 21 Nov 2026 08:00:30 GMT", "", 30 * time.Second},
		{"Sat, 21 Nov 2026 07:59:30 GMT", "", 0},
		{"Sun, 22 Nov 2026 08:00:00 GMT", "", 10 * time.Minute},
		// Our clock may be wrong; the far side's own is what its date means.
		{"Fri, 01 Jan 2027 00:00:05 GMT", "Fri, 01 Jan 2027 00:00:00 GMT", 5 * time.Second},
		{"Sat, 21 Nov 2026 08:00:30 GMT", "junk", 30 * time.Second},
	} {
		h := http.Header{}
		if tt.value != "" {
			h.Set("Retry-After", tt.value)
		}
		if tt.date != "" {
			h.Set("Date", tt.date)
		}
		if got := RetryAfter(h, now); got != tt.want {
			t.Errorf("Retry-After %q, Date %q: %v, want %v", tt.value, tt.date, got, tt.want)
		}
	}
}

func FuzzRetryAfterNeverWaitsMoreThanTenMinutes(f *testing.F) {
	f.Add("7", "")
	f.Add("Sat, 21 Nov 2026 08:00:30 GMT", "Sat, 21 Nov 2026 08:00:00 GMT")
	f.Fuzz(func(t *testing.T, value, date string) {
		h := http.Header{"Retry-After": {value}, "Date": {date}}
		if d := RetryAfter(h, time.Now()); d < 0 || d > 10*time.Minute {
			t.Errorf("%v", d)
		}
	})
}

// Whatever comes back over the line, the error quotes none of it.
func FuzzNoErrorQuotesTheAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
	f.Add([]byte("HTTP/1.1 quoted-mark\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: http://[quoted-mark\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: quoted-mark\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: quoted-mark\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nquoted-mark\r\n"))
	f.Add([]byte("220 quoted-mark ESMTP\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		network := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				if _, err := http.ReadRequest(bufio.NewReader(there)); err == nil {
					there.Write(raw)
				}
			}()
			return here, nil
		}}
		defer network.CloseIdleConnections()
		c, err := NewClient(ClientOptions{Pace: restedPace(1), Timeout: time.Second, Transport: network})
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest("POST", "http://far.invalid/", strings.NewReader("[]"))
		resp, err := Do(c, r)
		if err == nil {
			_, err = ReadBody(resp, 1000)
		}
		if err != nil && bytes.Contains(raw, []byte("quoted-mark")) && strings.Contains(err.Error(), "quoted-mark") {
			t.Errorf("the error quotes the answer: %v", err)
		}
	})
}

func TestEveryAnswersDateIsHeardAndNonsenseIsNot(t *testing.T) {
	var heard []time.Time
	date := ""
	c := newClient(t, ClientOptions{Date: func(at time.Time) { heard = append(heard, at) },
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 500, Header: http.Header{"Date": {date}}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
		})})
	for _, date = range []string{"Sat, 21 Nov 2026 00:58:00 GMT", "", "yesterday", "Saturday, 21-Nov-26 00:58:01 GMT"} {
		if _, _, err := call(t, t.Context(), c, "http://cloud.invalid"); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 11, 21, 0, 58, 0, 0, time.UTC)
	if len(heard) != 2 || !heard[0].Equal(at) || !heard[1].Equal(at.Add(time.Second)) {
		t.Errorf("heard %v", heard)
	}
}

// connectProxy is a proxy on loopback that connects, after it has been asked who we
// are if login is not "", or answers CONNECT with refuse.
type connectProxy struct {
	login   string
	refuse  int
	mu      sync.Mutex
	asked   []string // targets it connected to
	strange []string // logins it did not take
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	user, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
	if got := user + ":" + password; p.login != "" && got != p.login {
		p.strange = append(p.strange, got)
		w.Header().Set("Proxy-Authenticate", "Basic realm=corp")
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect || p.refuse != 0 {
		w.WriteHeader(max(p.refuse, http.StatusOK))
		return
	}
	p.asked = append(p.asked, r.Host)
	far, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	near, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { io.Copy(far, near); far.Close() }()
	go func() { io.Copy(near, far); near.Close() }()
}

func TestCallsGoThroughTheProxyAndTheFarSidesCertificateIsStillChecked(t *testing.T) {
	a := newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	key, cert := a.sign(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	pair := tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	secured := func(h http.Handler) *httptest.Server {
		srv := httptest.NewUnstartedServer(h)
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv
	}
	var seen http.Header
	far := secured(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() }))
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme+" proxy", func(t *testing.T) {
			p := &connectProxy{login: "bob:hunter2-secret"}
			srv := httptest.NewServer(p)
			defer srv.Close()
			if scheme == "https" {
				srv = secured(p)
			}
			login := "bob:not-the-secret\n"
			o := ClientOptions{CAFile: file, Proxy: srv.URL, ProxyLogin: func() (string, error) { return login, nil }}
			c := newClient(t, o)
			_, _, err := call(t, t.Context(), c, far.URL)
			var denied *token.Denied
			if !errors.As(err, &denied) || denied.State != token.Misconfigured || !strings.Contains(err.Error(), "the proxy: it wants another login") ||
				!strings.Contains(err.Error(), "proxy_login_file") || !neverLeft(err) {
				t.Errorf("a wrong login: %v", err)
			}
			login = "bob:hunter2-secret\n" // the file was corrected
			if _, _, err := call(t, t.Context(), c, far.URL); err != nil {
				t.Fatal(err)
			}
			if len(p.asked) != 1 || p.asked[0] != far.Listener.Addr().String() || seen.Get("Authorization") == "" || seen.Get("Proxy-Authorization") != "" {
				t.Errorf("asked for %q, the far side saw %v", p.asked, seen)
			}
			o.CAFile = ""
			if scheme == "http" { // with a secured one the proxy's own certificate is doubted first
				if _, _, err := call(t, t.Context(), newClient(t, o), far.URL); err == nil || !strings.Contains(err.Error(), "ca_file") || strings.Contains(err.Error(), "the proxy:") {
					t.Errorf("a far side nobody knows: %v", err)
				}
			} else if _, _, err := call(t, t.Context(), newClient(t, o), far.URL); err == nil || !strings.Contains(err.Error(), "the proxy: the certificate is signed by an authority") {
				t.Errorf("a proxy nobody knows: %v", err)
			}
		})
	}
}

func TestWhatAProxyRefusesIsToldAsTheProxys(t *testing.T) {
	for _, c := range []struct {
		name   string
		proxy  *connectProxy
		scheme string
		login  func() (string, error)
		want   string
		person bool // must act
	}{
		{"no login at all", &connectProxy{login: "a:b"}, "https", nil, "the proxy: it wants another login than ours, or any at all (HTTP 407); put user:password", true},
		{"no login at all, without TLS", &connectProxy{login: "a:b"}, "http", nil, "the proxy: it wants another login than ours, or any at all (HTTP 407); put user:password", true},
		{"forbidden", &connectProxy{refuse: 403}, "https", nil, "the proxy: it forbids far.invalid:443 (HTTP 403)", false},
		{"cannot reach", &connectProxy{refuse: 502}, "https", nil, "the proxy: it could not reach far.invalid:443 (HTTP 502)", false},
		{"busy", &connectProxy{refuse: 503}, "https", nil, "the proxy: it could not reach far.invalid:443 (HTTP 503)", false},
		{"login cannot be read", &connectProxy{}, "https", func() (string, error) { return "", errors.New("open proxy-login: no such file") }, "the proxy: its login cannot be read: open proxy-login", true},
		{"login without a colon", &connectProxy{}, "https", func() (string, error) { return secretBody, nil }, "the proxy: its login is not in the form user:password", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(c.proxy)
			defer srv.Close()
			var o observed
			_, _, err := call(t, t.Context(), newClient(t, ClientOptions{Proxy: srv.URL, ProxyLogin: c.login, Observe: o.hear}), c.scheme+"://far.invalid")
			var denied *token.Denied
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &denied) != c.person || o.String() != "proxy" || !neverLeft(err) {
				t.Errorf("error %v, observed %q", err, o.String())
			}
		})
	}
	var o observed
	_, _, err := call(t, t.Context(), newClient(t, ClientOptions{Proxy: "http://127.0.0.1:1", Observe: o.hear}), "https://far.invalid")
	if err == nil || !strings.Contains(err.Error(), "the proxy: connection refused") || o.String() != "refused" || !neverLeft(err) {
		t.Errorf("one that is down: %v, %q", err, o.String())
	}
}
