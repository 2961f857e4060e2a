package drain

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tlsSide is a TLS server that counts requests, and the file with its authority.
func tlsSide(t *testing.T) (s *httptest.Server, ca string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, ca, requests
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestReachShowsTheCertificatesAndSendsNoRequest(t *testing.T) {
	s, ca, requests := tlsSide(t)
	r, err := Reach(within(t, 5*time.Second), ClientOptions{CAFile: ca}, s.URL+"/some/path")
	if err != nil || r.Untrusted != nil || len(r.Chain) != 1 || !r.Chain[0].Equal(s.Certificate()) {
		t.Errorf("%v, %v, %d certificates", err, r.Untrusted, len(r.Chain))
	}
	r, err = Reach(within(t, 5*time.Second), ClientOptions{}, s.URL)
	if err != nil || len(r.Chain) != 1 || r.Untrusted == nil || !strings.Contains(r.Untrusted.Error(), "an authority that this device does not know") {
		t.Errorf("without the authority: %v, %v, %d certificates", err, r.Untrusted, len(r.Chain))
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestReachSaysWhyNobodyAnswers(t *testing.T) {
	s, _, _ := tlsSide(t)
	s.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for _, tc := range []struct{ address, want string }{
		{s.URL, "connection refused"},
		{strings.Replace(s.URL, "https", "http", 1), "connection refused"},
		{strings.Replace(plain.URL, "http", "https", 1), "does not speak TLS"},
		{"ftp://127.0.0.1", "not a web address"},
	} {
		if _, err := Reach(within(t, 5*time.Second), ClientOptions{}, tc.address); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.address, err, tc.want)
		}
	}
	if r, err := Reach(within(t, 5*time.Second), ClientOptions{}, plain.URL); err != nil || r.Chain != nil {
		t.Errorf("plain http on loopback: %v", err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	begin := time.Now()
	if _, err := Reach(within(t, 200*time.Millisecond), ClientOptions{}, "https://"+silent.Addr().String()); err == nil || time.Since(begin) > 3*time.Second {
		t.Errorf("somebody who says nothing: %v after %v", err, time.Since(begin))
	}
}

func TestReachGoesThroughTheProxyAndTellsItsFaultsApart(t *testing.T) {
	s, ca, requests := tlsSide(t)
	var login atomic.Value
	login.Store("")
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		login.Store(r.Header.Get("Proxy-Authorization"))
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") == "" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			out.Close()
			return
		}
		// Not before: the server would read on, and keep the first byte that comes.
		io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(out, in); out.Close() }()
		io.Copy(in, out)
		in.Close()
	})
	right := func() (string, error) { return "user:password", nil }
	plain := httptest.NewServer(handler)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
	secure.StartTLS()
	defer secure.Close()
	for _, proxy := range []string{plain.URL, secure.URL} {
		// httptest's servers all show the same certificate.
		r, err := Reach(within(t, 5*time.Second), ClientOptions{CAFile: ca, Proxy: proxy, ProxyLogin: right}, s.URL)
		if err != nil || r.Untrusted != nil || len(r.Chain) != 1 {
			t.Errorf("%s: %v, %v", proxy, err, r.Untrusted)
		}
		if _, err = Reach(within(t, 5*time.Second), ClientOptions{CAFile: ca, Proxy: proxy}, s.URL); err == nil || !strings.Contains(err.Error(), "the proxy: it wants another login") {
			t.Errorf("%s without a login: %v", proxy, err)
		}
	}
	login.Store("")
	if _, err := Reach(within(t, 5*time.Second), ClientOptions{Proxy: secure.URL, ProxyLogin: right}, s.URL); err == nil || login.Load() != "" {
		t.Errorf("a proxy that cannot be trusted: %v, and it was told %q", err, login.Load())
	}
	gone, _ := url.Parse(plain.URL)
	plain.Close()
	if _, err := Reach(within(t, 5*time.Second), ClientOptions{Proxy: gone.String()}, s.URL); err == nil || !strings.Contains(err.Error(), "the proxy: connection refused") {
		t.Errorf("a proxy that is away: %v", err)
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}
