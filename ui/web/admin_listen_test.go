package web_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/ui/web"
)

// street is a listener whose callers come from wherever they say.
type street struct {
	calls chan net.Conn
	once  sync.Once
}

type caravan struct {
	net.Conn
	from string
}

func (c caravan) RemoteAddr() net.Addr { a, _ := net.ResolveTCPAddr("tcp", c.from); return a }
func (c caravan) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 8080}
}

func (s *street) Accept() (net.Conn, error) {
	c, ok := <-s.calls
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (s *street) Close() error   { s.once.Do(func() { close(s.calls) }); return nil }
func (s *street) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 8080} }

// call opens a connection from an address; the far end is what the caller holds.
func (s *street) call(from string) net.Conn {
	near, far := net.Pipe()
	s.calls <- caravan{near, from}
	return far
}

// refused reports whether a connection was closed without a word.
func refused(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func testCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// open serves s on a street and returns it.
func openStreet(t *testing.T, s *web.Server, cert func() (*tls.Certificate, error)) *street {
	t.Helper()
	st := &street{calls: make(chan net.Conn)}
	srv := web.NewHTTPServer(s.Handler())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(web.Listen(st, cert)) }()
	t.Cleanup(func() { srv.Close(); st.Close(); <-done })
	return st
}

// request asks on a connection and returns the status and the body.
func request(t *testing.T, c net.Conn, text string) (int, string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go io.WriteString(c, text)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func TestTLSAndPlainHTTPShareAPort(t *testing.T) {
	s, _ := build(t, func(c *web.Config) { c.AllowRemote, c.Admin = true, &office{pin: "4711-0815"} })
	cert := testCertificate(t)
	var mu sync.Mutex
	missing := errors.New("none yet")
	st := openStreet(t, s, func() (*tls.Certificate, error) { mu.Lock(); defer mu.Unlock(); return cert, missing })
	const get = "GET %s HTTP/1.1\r\nHost: 192.0.2.1:8080\r\nConnection: close\r\n\r\n"
	secure := func() *tls.Conn {
		return tls.Client(st.call("192.0.2.9:1000"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	}
	c := secure()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if err := c.Handshake(); err == nil {
		t.Error("a handshake without a certificate")
	}
	mu.Lock()
	missing = nil
	mu.Unlock()
	for range 3 {
		c := secure()
		if code, body := request(t, c, fmt.Sprintf(get, "/admin/login")); code != 200 || !strings.Contains(body, `name="pin"`) || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
			t.Errorf("by TLS: %d %s", code, c.ConnectionState().NegotiatedProtocol)
		}
		if code, _ := request(t, st.call("192.0.2.9:1000"), fmt.Sprintf(get, "/admin/login")); code != http.StatusFound {
			t.Errorf("in the clear: %d", code)
		}
		if code, _ := request(t, st.call("192.0.2.9:1000"), fmt.Sprintf(get, "/")); code != 200 {
			t.Errorf("the page in the clear: %d", code)
		}
		if code, _ := request(t, st.call("127.0.0.1:1000"), fmt.Sprintf(strings.Replace(get, "192.0.2.1", "127.0.0.1", 1), "/admin/login")); code != 200 {
			t.Errorf("at the machine: %d", code)
		}
	}
}

// A thousand idle connections from elsewhere: the page at the door gets through.
func TestThousandIdleConnectionsFromElsewhereLeaveTheDoorItsPlace(t *testing.T) {
	s, _ := build(t, func(c *web.Config) { c.AllowRemote = true })
	st := openStreet(t, s, nil)
	away := 0
	var all []net.Conn
	for i := range 1000 {
		c := st.call(fmt.Sprintf("192.0.2.%d:%d", i%250+2, 1000+i))
		all = append(all, c)
		if i >= 256 && i%50 == 0 && refused(c) {
			away++
		}
	}
	if away < 10 {
		t.Errorf("only %d of 15 were turned away", away)
	}
	if code, _ := request(t, st.call("127.0.0.1:5"), "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); code != 200 {
		t.Errorf("at the machine itself: %d", code)
	}
	for _, c := range all {
		c.Close()
	}
	// Their places are free again.
	for end := time.Now().Add(20 * time.Second); ; {
		c := st.call("192.0.2.7:7")
		if !refused(c) {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("places are not given back")
		}
	}
}

func TestThousandIdleStreamsFromElsewhereLeaveTheDoorItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := build(t, func(c *web.Config) { c.AllowRemote = true })
		h := s.Handler()
		var all []*line
		open := func(from string) int {
			r := local("GET", "/events", "")
			r.RemoteAddr = from
			l := dial(h, r)
			all = append(all, l)
			synctest.Wait()
			return l.code
		}
		count := map[int]int{}
		for i := range 1000 {
			count[open(fmt.Sprintf("192.0.2.7:%d", i+1))]++
		}
		if count[200] != 48 || count[503] != 952 {
			t.Errorf("from elsewhere: %v", count)
		}
		if code := open("127.0.0.1:9"); code != 200 {
			t.Errorf("the page at the door: %d", code)
		}
		time.Sleep(24 * time.Hour) // of idling
		for _, l := range all {
			l.hangUp()
		}
		synctest.Wait()
		if code := open("192.0.2.7:1"); code != 200 {
			t.Errorf("when they have left: %d", code)
		}
		all[len(all)-1].hangUp()
	})
}
