package web

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"rsc.io/qr"
)

// quiet is the width of the white margin that a QR code must have, in modules.
const quiet = 4

// DrawQR draws a text as a QR code in SVG, black on white whatever the page's colours.
func DrawQR(text string) ([]byte, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	side := code.Size + 2*quiet
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="`, side, side, side, side)
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			from := x
			for x < code.Size && code.Black(x, y) {
				x++
			}
			if x > from {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x-from, x-from)
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return []byte(b.String()), nil
}

// Code returns what the QR code that a technician scans holds: the address of the status
// page where a phone can reach it, else the state itself, in plain words. Behind the
// address stands the fingerprint of this machine's certificate: what is read off the
// clock nobody in between can change.
func (s *Server) Code(ctx context.Context) string {
	url := s.statusURL()
	if url == "" {
		return s.stateInWords(ctx)
	}
	if sum := s.fingerprint(); sum != "" {
		url += "#sha256=" + strings.ReplaceAll(sum, ":", "")
	}
	return url
}

// serveQR answers with the code that a technician scans.
func (s *Server) serveQR(w http.ResponseWriter, r *http.Request) {
	svg, err := DrawQR(s.Code(r.Context()))
	if err != nil {
		s.cfg.Log.Error("the QR code could not be drawn", "err", err)
		refuse(w, http.StatusInternalServerError, "the QR code could not be drawn")
		return
	}
	w.Header().Set("Content-Type", mimeTypes[".svg"])
	// Whoever asked may have gone; there is nobody left to tell.
	_, _ = w.Write(svg)
}

// statusURL is where a phone finds the status page, "" where none may come in or
// this machine has no address that a phone could use.
func (s *Server) statusURL() string {
	if !s.cfg.AllowRemote {
		return ""
	}
	host, port, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		return ""
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil && host != "": // a name
	case err == nil && ip.IsLoopback():
		return ""
	case host == "" || ip.IsUnspecified():
		if host = s.cfg.address(); host == "" {
			return ""
		}
	}
	return "http://" + net.JoinHostPort(host, port) + "/status"
}

// fingerprint is the certificate's, "" for none.
func (s *Server) fingerprint() string {
	if s.cfg.Fingerprint == nil {
		return ""
	}
	return s.cfg.Fingerprint()
}

// ownAddress returns an address of this machine in its network, IPv4 before IPv6,
// "" while it has none.
func ownAddress() string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	var found netip.Addr
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); ok && ip.IsGlobalUnicast() && (!found.IsValid() || ip.Is4() && !found.Is4()) {
			found = ip
		}
	}
	if !found.IsValid() {
		return ""
	}
	return found.String()
}
