package web_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"punchclock/ui/web"
)

func TestPlotDrawsWhatIsKnownAndLeavesGapsWhereNothingIs(t *testing.T) {
	india := time.FixedZone("IST", 5*3600+1800)
	p := &web.Plot{Unit: "ms", From: time.Date(2026, 11, 21, 22, 10, 0, 0, india), Step: 5 * time.Minute, Words: `"<plot>`,
		Series: []web.Series{{Name: "<a>", Values: make([]float64, 288)}, {Name: "b", Values: make([]float64, 288)}}}
	for i := range 288 {
		p.Series[0].Values[i], p.Series[1].Values[i] = float64(i%41), math.NaN()
	}
	p.Series[0].Values[100] = math.NaN()
	p.Series[1].Values[5] = 40
	svg := web.DrawPlot(p)
	lines := regexp.MustCompile(`<path class="line s(\d)" d="([^"]*)"`).FindAllStringSubmatch(svg, -1)
	if len(lines) < 2 || strings.Count(lines[0][2], "M") != 2 || strings.Count(lines[1][2], "M") != 1 {
		t.Fatalf("gaps: %v", lines)
	}
	if !strings.HasPrefix(lines[1][2], "M66.0 12.0H") { // the fifth of 288 steps, at the top
		t.Errorf("one value: %s", lines[1][2])
	}
	for _, want := range []string{">00:00<", ">03:00<", ">21:00<", ">0<", ">10<", ">40<", "&lt;a&gt;", "&#34;&lt;plot&gt;"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(svg, "22:00") || strings.Contains(svg, "style=") {
		t.Error("an hour before the first value, or a style that the page's policy forbids")
	}
	// The last midnight is at its place: 110 minutes after the first value.
	x := 56 + 574*22.0/288
	if !strings.Contains(svg, fmt.Sprintf(`x="%.1f" y="210" text-anchor="middle">00:00`, x)) {
		t.Errorf("midnight is not at %.1f", x)
	}
	p.Bars = true
	bars := web.DrawPlot(p)
	if n := strings.Count(regexp.MustCompile(`class="bar s0" d="([^"]*)"`).FindStringSubmatch(bars)[1], "M"); n != 288-1-8 { // the gap, and the zeros
		t.Errorf("%d bars", n)
	}
	for _, values := range [][]float64{nil, {}, {0}, {math.NaN()}, {0.0003}, {1e9, 2}, {math.NaN(), 3}} {
		p.Series = []web.Series{{Values: values}}
		if svg := web.DrawPlot(p); strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") || len(svg) > 8<<10 {
			t.Errorf("%v: %s", values, svg)
		}
	}
}

func TestNoHourOfAPlotStandsOutOfIt(t *testing.T) {
	p := &web.Plot{From: time.Date(2026, 11, 21, 18, 5, 0, 0, time.UTC), Step: 5 * time.Minute, Series: []web.Series{{Name: "all", Values: make([]float64, 288)}}}
	svg := web.DrawPlot(p)
	if !strings.Contains(svg, `text-anchor="end">18:00`) || !strings.Contains(svg, `text-anchor="middle">00:00`) {
		t.Error(svg)
	}
}
