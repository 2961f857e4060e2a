package web

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
)

// remoteMost is how many connections other machines may have at one time. Beyond it
// theirs are closed; the machine's own page always gets through.
const remoteMost = 256

// Listen wraps the listener of the page: whoever begins with a TLS handshake gets TLS
// with the certificate that cert returns, on the same port as plain HTTP. nil: no TLS.
// Other machines may have remoteMost connections. Server finds out about both where
// the connection was taken by a server of NewHTTPServer.
func Listen(l net.Listener, cert func() (*tls.Certificate, error)) net.Listener {
	d := &doorway{Listener: l}
	if cert != nil {
		d.tls = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert() }}
	}
	return d
}

type doorway struct {
	net.Listener
	tls    *tls.Config
	remote atomic.Int32
}

func (d *doorway) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g := &guest{Conn: c, tls: d.tls}
		if p, err := netip.ParseAddrPort(c.RemoteAddr().String()); err != nil || !p.Addr().Unmap().IsLoopback() {
			if d.remote.Add(1) > remoteMost {
				d.remote.Add(-1)
				_ = c.Close() // nothing was said on it
				continue
			}
			g.left = sync.OnceFunc(func() { d.remote.Add(-1) })
		}
		return g, nil
	}
}

// guest is one connection. Whether it speaks TLS shows its first byte, which the first
// read looks at: so neither Accept nor a goroutine of ours ever waits for a client.
type guest struct {
	net.Conn
	tls  *tls.Config
	left func() // once, when it is closed; nil for the machine itself

	look   sync.Once
	inner  atomic.Pointer[net.Conn] // what to read and write, once that is known
	secure atomic.Bool
}

// handshake is the first byte of a TLS record that begins one: RFC 8446, 5.1.
const handshake = 0x16

func (g *guest) Read(b []byte) (int, error) {
	var err error
	g.look.Do(func() {
		first := make([]byte, 1)
		n := 0
		if g.tls != nil {
			n, err = g.Conn.Read(first)
		}
		var inner net.Conn = &begun{g.Conn, first[:n]}
		if n == 1 && first[0] == handshake {
			inner = tls.Server(inner, g.tls)
			g.secure.Store(true)
		}
		g.inner.Store(&inner)
	})
	if err != nil {
		return 0, err
	}
	return (*g.inner.Load()).Read(b)
}

func (g *guest) Write(b []byte) (int, error) {
	if in := g.inner.Load(); in != nil {
		return (*in).Write(b)
	}
	return g.Conn.Write(b)
}

func (g *guest) Close() error {
	if g.left != nil {
		defer g.left()
	}
	if in := g.inner.Load(); in != nil {
		return (*in).Close()
	}
	return g.Conn.Close()
}

// CloseWrite says that no more will be written; package http asks for it.
func (g *guest) CloseWrite() error {
	var c net.Conn = g.Conn
	if in := g.inner.Load(); in != nil && g.secure.Load() {
		c = *in
	}
	if c, ok := c.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// begun is a connection of which the first bytes have been read already.
type begun struct {
	net.Conn
	first []byte
}

func (c *begun) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// connection is the key under which a request finds what it came in on.
type connection struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connection{}, c)
}

// isSecure reports whether a request came through TLS.
func isSecure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	g, ok := r.Context().Value(connection{}).(*guest)
	return ok && g.secure.Load()
}
