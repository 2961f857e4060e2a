package main

import (
	"sync"
	"time"
)

// pinGuard limits guesses of PINs: after five wrong ones for a number it is
// closed for a while, twice as long each time, and so is the whole keypad after
// twenty wrong ones for any numbers. It forgets at a restart.
type pinGuard struct {
	mu  sync.Mutex
	who map[string]*guesses
}

type guesses struct {
	wrong  int
	until  time.Time
	closed int // times in a row
}

const (
	guessesEach  = 5
	guessesAll   = 20
	closedFirst  = time.Minute
	closedMost   = time.Hour
	guessNumbers = 1000   // numbers remembered at most
	anyNumber    = "\x00" // the keypad as a whole
)

// wait returns how long no PIN is looked at for this number, 0 if it is.
func (g *pinGuard) wait(number string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var d time.Duration
	for _, n := range []string{number, anyNumber} {
		if e := g.who[n]; e != nil {
			d = max(d, e.until.Sub(now))
		}
	}
	return d
}

func (g *pinGuard) wrong(number string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.who) >= guessNumbers {
		for n := range g.who { // strangers' numbers; the keypad as a whole keeps its count
			if n != anyNumber {
				delete(g.who, n)
			}
		}
	}
	for n, most := range map[string]int{number: guessesEach, anyNumber: guessesAll} {
		e := g.who[n]
		if e == nil {
			if g.who == nil {
				g.who = map[string]*guesses{}
			}
			e = &guesses{}
			g.who[n] = e
		}
		if e.wrong++; e.wrong >= most {
			e.until = now.Add(min(closedMost, closedFirst<<min(e.closed, 10)))
			e.wrong = 0
			e.closed++
		}
	}
}

func (g *pinGuard) right(number string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.who, number)
}
