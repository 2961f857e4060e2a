package web

// QR is the code for a text, for tests of what the code on the page says.
func QR(text string) string {
	svg, err := DrawQR(text)
	if err != nil {
		panic(err)
	}
	return string(svg)
}

// SetAddress makes a server believe that this is its machine's address.
func (s *Server) SetAddress(ip string) { s.cfg.address = func() string { return ip } }

// DrawPlot is a plot as it stands on the admin page.
func DrawPlot(p *Plot) string { return string(drawPlot(p)) }
