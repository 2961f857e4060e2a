package web

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

// The plot's measures, in units of its view box.
const (
	plotWide, plotHigh = 640, 220
	plotLeft, plotTop  = 56, 12
	plotRight, plotLow = 630, 190
)

// drawPlot draws a plot as SVG. Lines differ by their dashes too, not by colour alone;
// their colours are the style sheet's.
func drawPlot(p *Plot) template.HTML {
	n, most := 0, 0.0
	for _, s := range p.Series {
		n = max(n, len(s.Values))
		for _, v := range s.Values {
			if !math.IsNaN(v) {
				most = max(most, v)
			}
		}
	}
	step := tick(most)
	top := step * math.Ceil(most/step)
	if top == 0 {
		top = step
	}
	var b strings.Builder
	esc := template.HTMLEscapeString
	fmt.Fprintf(&b, `<svg class="plot" viewBox="0 0 %d %d" role="img" aria-label="%s">`, plotWide, plotHigh, esc(p.Words))
	y := func(v float64) float64 { return plotLow - (plotLow-plotTop)*v/top }
	x := func(i float64) float64 { return plotLeft + (plotRight-plotLeft)*i/float64(max(n, 1)) }
	for v := 0.0; v <= top*1.0001; v += step {
		fmt.Fprintf(&b, `<path class="grid" d="M%d %.1fH%d"/><text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>`, plotLeft, y(v), plotRight, plotLeft-6, y(v)+5, short(v))
	}
	fmt.Fprintf(&b, `<text class="tick" x="%d" y="%d">%s</text>`, 2, plotTop-1, esc(p.Unit))
	hours(p, n, func(i float64, label string) {
		anchor := "middle"
		if x(i) > plotRight-30 { // half of it would stand out
			anchor = "end"
		}
		fmt.Fprintf(&b, `<path class="grid" d="M%.1f %dV%d"/><text class="tick" x="%.1f" y="%d" text-anchor="%s">%s</text>`, x(i), plotTop, plotLow+4, x(i), plotLow+20, anchor, label)
	})
	for k, s := range p.Series {
		var d strings.Builder
		if p.Bars {
			for i, v := range s.Values {
				if !math.IsNaN(v) && v > 0 {
					fmt.Fprintf(&d, "M%.1f %dV%.1fH%.1fV%dz", x(float64(i)), plotLow, y(v), x(float64(i)+1), plotLow)
				}
			}
			fmt.Fprintf(&b, `<path class="bar s%d" d="%s"/>`, k, d.String())
			continue
		}
		pen := "M"
		for i, v := range s.Values {
			if math.IsNaN(v) {
				pen = "M"
				continue
			}
			// A value stands for its whole step, so that a lone one is seen.
			fmt.Fprintf(&d, "%s%.1f %.1fH%.1f", pen, x(float64(i)), y(v), x(float64(i)+1))
			pen = "L"
		}
		fmt.Fprintf(&b, `<path class="line s%d" d="%s"/>`, k, d.String())
	}
	b.WriteString(`</svg>`)
	if len(p.Series) > 1 {
		b.WriteString(`<ul class="legend">`)
		for k, s := range p.Series {
			fmt.Fprintf(&b, `<li><svg viewBox="0 0 40 12" aria-hidden="true"><path class="line s%d" d="M1 6H39"/></svg>%s</li>`, k, esc(s.Name))
		}
		b.WriteString(`</ul>`)
	}
	return template.HTML(b.String()) // numbers, and words that were escaped
}

// tick is a round step of which there are two to five up to most.
func tick(most float64) float64 {
	if most <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(most)))
	for _, m := range []float64{0.2, 0.5, 1, 2} {
		if most/(unit*m) <= 5 {
			return unit * m
		}
	}
	return unit * 2
}

// short writes a tick's value.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3gk", v/1e3)
	}
	return fmt.Sprintf("%.3g", v)
}

// hours calls mark with the place of each third full hour, in the zone of From.
func hours(p *Plot, n int, mark func(i float64, label string)) {
	if p.Step <= 0 {
		return
	}
	end := p.From.Add(time.Duration(n) * p.Step)
	y, m, d := p.From.Date()
	for h := p.From.Hour(); ; h++ {
		at := time.Date(y, m, d, h, 0, 0, 0, p.From.Location())
		if at.After(end) {
			return
		}
		if !at.Before(p.From) && at.Hour()%3 == 0 {
			mark(float64(at.Sub(p.From))/float64(p.Step), at.Format("15:04"))
		}
	}
}
