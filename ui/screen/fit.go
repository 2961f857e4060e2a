package screen

import (
	"strings"
	"unicode"
)

// fitKey is a question to fit.
type fitKey struct {
	s           string
	w, h        int
	most, least int
	lines       int
	st          style
	clauses     bool
}

// fitted is its answer.
type fitted struct {
	px    int
	lines []string
	cut   bool // the end is missing
}

// lead is the height of a line, of 100 parts of the size: what stands above and below
// letters of Thai and Vietnamese needs room.
func lead(s string) int {
	for _, r := range s {
		if r >= 0xC0 && r < 0x2000 {
			return 136
		}
	}
	return 120
}

// fit finds the size, from most down to least, at which a text takes at most so many
// lines of width w and a height of h. With clauses, each clause begins a line where that
// costs little. What does not fit at the least size loses its end.
func (p *painter) fit(k fitKey) fitted {
	if f, ok := p.fits[k]; ok {
		return f
	}
	f := p.look(k)
	if len(p.fits) >= 1024 {
		clear(p.fits)
	}
	p.fits[k] = f
	return f
}

func (p *painter) look(k fitKey) fitted {
	lh := lead(k.s)
	for px := k.most; ; px -= max(px/24, 1) {
		px = max(px, k.least)
		st := k.st
		st.px = px
		fits := func(lines []string, ok bool) bool { return ok && len(lines) <= k.lines && len(lines)*px*lh/100 <= k.h }
		if k.clauses {
			if lines, ok := p.wrapClauses(k.s, k.w, st, p.wrap); fits(lines, ok) {
				lines, _ = p.wrapClauses(k.s, k.w, st, p.even)
				return fitted{px: px, lines: lines}
			}
			if px > k.least && px > k.most*7/10 {
				continue
			}
		}
		if lines, ok := p.wrap(k.s, k.w, st); fits(lines, ok) {
			lines, _ = p.even(k.s, k.w, st)
			return fitted{px: px, lines: lines}
		}
		if px == k.least {
			lines, _ := p.wrap(k.s, k.w, st)
			most := max(min(k.lines, k.h*100/(px*lh)), 1)
			f := fitted{px: px, lines: lines}
			if len(lines) > most {
				f.cut, f.lines = true, lines[:most]
				f.lines[most-1] = p.shorten(f.lines[most-1], k.w, st)
			}
			return f
		}
	}
}

// shorten takes characters off the end until the text fits with an ellipsis.
func (p *painter) shorten(s string, w int, st style) string {
	r := []rune(strings.TrimSpace(s))
	for len(r) > 0 && p.width(string(r)+"…", st) > w {
		r = r[:len(r)-1]
	}
	return string(r) + "…"
}

// even wraps a text into as many lines as wrap does, of about the same length: no word is
// left alone on the last.
func (p *painter) even(s string, w int, st style) (lines []string, ok bool) {
	lines, ok = p.wrap(s, w, st)
	if !ok || len(lines) < 2 {
		return lines, ok
	}
	for narrow := w / 2; w-narrow > max(st.px/2, 1); {
		mid := (narrow + w) / 2
		if l, ok := p.wrap(s, mid, st); ok && len(l) == len(lines) {
			lines, w = l, mid
		} else {
			narrow = mid
		}
	}
	return lines, true
}

// wrapClauses wraps each clause for itself, by wrap or by even.
func (p *painter) wrapClauses(s string, w int, st style, wrap func(string, int, style) ([]string, bool)) (all []string, ok bool) {
	for _, c := range clauses(s) {
		lines, ok := wrap(c, w, st)
		if !ok {
			return nil, false
		}
		all = append(all, lines...)
	}
	return all, true
}

// clauses splits a sentence behind its commas and full stops.
func clauses(s string) (out []string) {
	from := 0
	for i, r := range s {
		if strings.ContainsRune("，；。;.", r) {
			end := i + len(string(r))
			out = append(out, strings.TrimSpace(s[from:end]))
			from = end
		}
	}
	if rest := strings.TrimSpace(s[from:]); rest != "" {
		out = append(out, rest)
	}
	return out
}

// wrap breaks a text into lines of at most w: at spaces, around Chinese characters, but
// never so that a line begins with a mark of the one before. ok is false where one word
// alone is wider and had to be broken anywhere.
func (p *painter) wrap(s string, w int, st style) (lines []string, ok bool) {
	ok = true
	line := ""
	flush := func() {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
		line = ""
	}
	for _, word := range words(s) {
		if p.width(line+strings.TrimRight(word, " "), st) <= w {
			line += word
			continue
		}
		flush()
		for p.width(strings.TrimRight(word, " "), st) > w {
			ok = false
			cut := 0
			for i, r := range word {
				if i > 0 && p.width(word[:i], st) > w {
					break
				}
				if !isThaiMark(r) && r != 0x0E33 {
					cut = i
				}
			}
			if cut == 0 {
				break
			}
			lines = append(lines, word[:cut])
			word = word[cut:]
		}
		line = word
	}
	flush()
	return lines, ok
}

// words splits a text where a line may end.
func words(s string) (out []string) {
	word, last := "", rune(0)
	wide := func(r rune) bool { return unicode.Is(unicode.Han, r) || r > 0x3000 && unicode.IsPunct(r) }
	for _, r := range s {
		mark := r > 0xFF && unicode.IsPunct(r) && !strings.ContainsRune("「（『《", r)
		if word != "" && last != ' ' && !mark && (wide(r) || wide(last)) && !strings.ContainsRune("「（『《", last) {
			out = append(out, word)
			word = ""
		}
		word += string(r)
		last = r
		if r == ' ' {
			out = append(out, word)
			word = ""
		}
	}
	if word != "" {
		out = append(out, word)
	}
	return out
}
