package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"punchclock/ui/text"
)

func TestTableBesideAPlotSaysWhatThePlotShows(t *testing.T) {
	p := plotter{say: text.For("en"), from: time.Date(2026, 11, 21, 14, 35, 0, 2e9, time.FixedZone("IST", 5*3600+1800)), slots: make([]slot, 288)}
	for i := range p.slots {
		switch {
		case i < 5: // 14:35 to 15:00
			p.slots[i].punches = 2
		case i == 20: // 16:15
			p.slots[i].punches = 7
			p.slots[i].commits.add(10 * time.Millisecond)
			p.slots[i].commits.add(30 * time.Millisecond)
		case i == 21:
			p.slots[i].commits.add(100 * time.Millisecond)
		}
	}
	b := p.bars("plot.punches", func(x slot) float64 { return float64(x.punches) })
	rows := func(want ...string) {
		t.Helper()
		var got []string
		for _, r := range b.Table.Rows {
			got = append(got, strings.Join(r.Cells, " | "))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%q", got)
		}
	}
	rows("11-21 16:00 | 7 | 7", "11-21 14:00 | 10 | 2")
	if !strings.HasSuffix(b.Plot.Words, "Total: 17") || len(b.Plot.Series[0].Values) != 288 || b.Plot.Series[0].Values[20] != 7 {
		t.Errorf("%s %v", b.Plot.Words, b.Plot.Series)
	}
	b = p.lines("plot.commit", "ms", []string{""}, func(x slot, _ int) (float64, float64) { return x.commits.ms() })
	rows("11-21 16:00 | 100 (⌀ 60)")
	if v := b.Plot.Series[0].Values; v[20] != 30 || v[21] != 100 || !math.IsNaN(v[22]) {
		t.Errorf("%v", v[19:23])
	}
	b = p.lines("plot.bound", "ms", []string{""}, func(slot, int) (float64, float64) { return math.NaN(), math.NaN() })
	rows()
	if b.Table.Empty != "nothing yet" {
		t.Errorf("%q", b.Table.Empty)
	}
}
