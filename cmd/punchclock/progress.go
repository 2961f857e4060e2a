package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// progress is a line on the terminal that counts long work; nothing where stderr
// is not a terminal.
type progress struct {
	out   io.Writer
	what  string
	all   uint64
	shown time.Time
	last  uint64
}

func (t *tool) progress(what string, all uint64) *progress {
	p := &progress{what: what, all: all}
	if f, ok := t.stderr.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			p.out = f
		}
	}
	return p
}

// at shows the count, ten times a second at most.
func (p *progress) at(n uint64) {
	p.last = n
	if p.out == nil || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = time.Now()
	p.draw()
}

func (p *progress) draw() {
	if p.all > 0 {
		fmt.Fprintf(p.out, "\r\033[K%d of %d %s (%d %%)", p.last, p.all, p.what, 100*p.last/p.all)
	} else {
		fmt.Fprintf(p.out, "\r\033[K%d %s", p.last, p.what)
	}
}

func (p *progress) end() {
	if p.out != nil && !p.shown.IsZero() {
		p.draw()
		fmt.Fprintln(p.out)
	}
}
