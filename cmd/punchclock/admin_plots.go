package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"punchclock/ui/text"
	"punchclock/ui/web"
)

// plotsSection draws the last day: each plot with a table of its hours beside it.
func (r *adminRoom) plotsSection() web.Section {
	return web.Section{Name: "plots", Title: "plots", Fresh: time.Minute, Show: r.showPlots}
}

func (r *adminRoom) showPlots(_ context.Context, ask web.Ask) ([]web.Block, error) {
	from, slots := r.h.samples.day()
	p := plotter{say: ask.Say, from: from.In(r.h.cfg.Device.Timezone), slots: slots}
	dests := r.h.samples.dests
	nan := math.NaN()
	out := []web.Block{p.bars("plot.punches", func(x slot) float64 { return float64(x.punches) })}
	if len(dests) > 0 {
		out = append(out, p.lines("plot.queue", "", dests, func(x slot, i int) (float64, float64) {
			if !x.looked {
				return nan, nan
			}
			return float64(x.queue[i]), float64(x.queue[i])
		}))
	}
	out = append(out, p.lines("plot.commit", "ms", []string{""}, func(x slot, _ int) (float64, float64) { return x.commits.ms() }))
	if len(dests) > 0 {
		out = append(out, p.lines("plot.call", "ms", dests, func(x slot, i int) (float64, float64) {
			if x.calls == nil {
				return nan, nan
			}
			return x.calls[i].ms()
		}))
	}
	return append(out, p.lines("plot.bound", "ms", []string{""}, func(x slot, _ int) (float64, float64) {
		if !x.looked {
			return nan, nan
		}
		ms := float64(x.bound) / float64(time.Millisecond)
		return ms, ms
	})), nil
}

// ms returns mean and maximum in milliseconds, NaN where there was nothing.
func (s timing) ms() (mean, most float64) {
	if s.n == 0 {
		return math.NaN(), math.NaN()
	}
	return float64(s.sum) / float64(s.n) / float64(time.Millisecond), float64(s.max) / float64(time.Millisecond)
}

// plotter draws plots of the same day.
type plotter struct {
	say   text.Catalog
	from  time.Time
	slots []slot
}

// hourly calls fn with the slots of each hour of the day, the newest first.
func (p plotter) hourly(fn func(hour string, slots []slot)) {
	// The clock may run a little apart from the slots: to the nearest.
	hour := func(i int) string {
		return p.from.Add(time.Duration(i) * slotLong).Round(slotLong).Format("01-02 15:00")
	}
	end := len(p.slots)
	for i := len(p.slots) - 1; i >= 0; i-- {
		if i == 0 || hour(i) != hour(i-1) {
			fn(hour(i), p.slots[i:end])
			end = i
		}
	}
}

// bars plots a count; the table has each hour's sum and its busiest slot.
func (p plotter) bars(title string, value func(slot) float64) web.Block {
	s := web.Series{Name: p.say.Office(title)}
	total := 0.0
	for _, x := range p.slots {
		s.Values = append(s.Values, value(x))
		total += value(x)
	}
	t := &web.Table{Head: []string{p.say.Office("hour"), p.say.Office("total"), p.say.Office("busiest")}}
	p.hourly(func(hour string, slots []slot) {
		sum, most := 0.0, 0.0
		for _, x := range slots {
			sum, most = sum+value(x), max(most, value(x))
		}
		t.Rows = append(t.Rows, web.Row{Cells: []string{hour, number(sum), number(most)}})
	})
	return p.block(title, "", true, []web.Series{s}, t, fmt.Sprintf("%s: %s", p.say.Office("total"), number(total)))
}

// lines plots how things were, a line for each name: fn returns what is usual and the
// worst of a slot. The table has both of each hour, once where they are the same.
func (p plotter) lines(title, unit string, names []string, fn func(x slot, i int) (usual, worst float64)) web.Block {
	var series []web.Series
	t := &web.Table{Head: []string{p.say.Office("hour")}}
	worstOfAll := math.NaN()
	for i, name := range names {
		s := web.Series{Name: name}
		for _, x := range p.slots {
			_, worst := fn(x, i)
			s.Values = append(s.Values, worst)
			if !math.IsNaN(worst) && !(worstOfAll >= worst) {
				worstOfAll = worst
			}
		}
		series = append(series, s)
		head := p.say.Office("worst")
		if name != "" {
			head = name
		}
		if unit != "" {
			head += " (" + unit + ")"
		}
		t.Head = append(t.Head, head)
	}
	p.hourly(func(hour string, slots []slot) {
		row := []string{hour}
		for i := range names {
			usual, worst, n := 0.0, 0.0, 0
			for _, x := range slots {
				if u, w := fn(x, i); !math.IsNaN(u) {
					usual, worst, n = usual+u, max(worst, w), n+1
				}
			}
			switch mean := number(usual / float64(max(n, 1))); {
			case n == 0:
				row = append(row, "-")
			case mean == number(worst) || unit == "":
				row = append(row, number(worst))
			default:
				row = append(row, fmt.Sprintf("%s (⌀ %s)", number(worst), mean))
			}
		}
		t.Rows = append(t.Rows, web.Row{Cells: row})
	})
	words := "-"
	if !math.IsNaN(worstOfAll) {
		words = fmt.Sprintf("%s: %s %s", p.say.Office("worst"), number(worstOfAll), unit)
	}
	return p.block(title, unit, false, series[:min(4, len(series))], t, words)
}

func (p plotter) block(title, unit string, bars bool, series []web.Series, t *web.Table, words string) web.Block {
	// Hours of which nothing is known say nothing.
	t.Rows = slices.DeleteFunc(t.Rows, func(r web.Row) bool {
		return !slices.ContainsFunc(r.Cells[1:], func(c string) bool { return c != "-" && (c != "0" || !bars) })
	})
	t.Empty = p.say.Office("none.yet")
	name := p.say.Office(title)
	return web.Block{Title: name, Live: true, Table: t, Plot: &web.Plot{Unit: unit, From: p.from, Step: slotLong, Bars: bars, Series: series, Words: name + ". " + words}}
}

// number writes a number with as much as one wants to know of it.
func number(v float64) string {
	if v >= 100 || v == math.Trunc(v) {
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
