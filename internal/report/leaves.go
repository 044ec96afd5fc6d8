package report

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/terminal"
	"github.com/vlmem/vlmem/internal/units"
)

// AdvicePage is a configuration as a page: what it fits in, how fast each precision writes, and what binds its phases.
func AdvicePage(w io.Writer, about About, a advise.Advice) error {
	lines := a.Now
	if len(lines) < 2 {
		lines = a.Headline
	}
	l := leaf{Title: "vlmem advise: " + a.Model.Name.Value, Tone: toneName(standing(a))}
	if len(lines) > 1 {
		l.Title, l.Verdict, l.Words = "vlmem advise: "+lines[0], lines[1], lines[2:]
	}
	if d := a.Budget.Device; d != nil {
		l.Sections = append(l.Sections, placeSection("The card's memory", d))
	}
	l.Sections = append(l.Sections, placeSection("The host's memory", &a.Budget.Host))
	l.Sections = append(l.Sections, choiceSections(a.Choices)...)
	if a.Next != nil {
		rows := [][]string{}
		if p := a.Next.Files; p != nil {
			rows = [][]string{{"download from", p.Repository}, {"decoder", p.Decoder}, {"tower", p.Tower}}
		}
		l.Sections = append(l.Sections, leafSection{Title: "What to do next", Columns: []string{"step", ""},
			Rows: append(rows, []string{"start", strings.Join(a.Next.Command, " ")})})
	}
	return l.write(w, about, a.Hardware.Name.Value)
}

// placeSection is the account of one memory.
func placeSection(title string, p *advise.Side) leafSection {
	i := &p.Intervals
	var items []slice
	var rows [][]string
	for _, x := range []struct {
		name  string
		value advise.Value[units.Bytes]
		of    evidence.Range
	}{
		{"weights", p.Weights, i.Weights}, {"KV cache", p.KVCache, i.KVCache}, {"vision", p.Vision, i.Vision},
		{"compute", p.Compute, i.Compute}, {"pools", p.Pools, i.Pools}, {"pinned", p.Pinned, i.Pinned},
		{"other", p.Other, i.Other},
	} {
		if x.value.Value == 0 && x.of.High == 0 {
			continue
		}
		items = append(items, slice{x.name, x.value.Value, x.of.Low, x.of.High})
		rows = append(rows, []string{x.name, fmt.Sprint(x.value.Source), x.value.Why})
	}
	return leafSection{Title: title, Text: "Each item stands where the last one ends; the dark line is its interval. " +
		p.Capacity.Value.String() + ": " + p.Capacity.Why + ".", Bars: waterfall(p.Capacity.Value, items),
		Columns: []string{"item", "source", "why"}, Rows: rows}
}

// choiceSections are the speeds of what fits, and the roof over the chosen one.
func choiceSections(choices []advise.Choice) (list []leafSection) {
	most := 0.0
	for _, c := range choices {
		if c.Speed != nil {
			most = max(most, c.Speed.Decode.High)
		}
	}
	s := leafSection{Title: "Tokens a second, and room for context", Text: "By precision of the weights, with an empty " +
		"context; the dark line holds four times in five."}
	for _, c := range choices {
		name := c.Precision
		if c.Chosen {
			name += ", chosen"
		}
		row := barRow{Label: name, Value: "unknown", Class: "a"}
		if f := c.Speed; f != nil {
			row = rangeRow(name, Figure(f.Decode.Median)+fmt.Sprintf(" tok/s, %s tokens", units.Grouped(int64(c.Context))),
				f.Decode, most)
		}
		if c.Chosen {
			row.Class = "c"
		}
		s.Bars = append(s.Bars, row)
	}
	if len(choices) > 0 {
		list = append(list, s)
	}
	if columns, rows := roomCells(choices); len(rows) > 0 {
		list = append(list, leafSection{Title: "Room for context, by image", Columns: columns, Rows: rows,
			Text: "The " + roomWords(choices) + "."})
	}
	for _, c := range choices {
		if c.Chosen && c.Speed != nil {
			list = append(list, roofSection(c.Speed)...)
		}
	}
	return list
}

// rangeRow is a bar of a median with its range.
func rangeRow(label, value string, r speed.Range, most float64) barRow {
	row := barRow{Label: label, Value: value, Class: "a", Width: percent(r.Median, most), Ranged: true,
		Low: percent(r.Low, most)}
	row.Span = round1(percent(r.High, most) - row.Low)
	return row
}

// roofSection is the roofline of where the model lies with the phases of an answer under it; none where it is unknown.
func roofSection(f *speed.Forecast) []leafSection {
	r := f.Roof
	if r == nil || !(r.OpsPerS > 0) || !(r.BytesPerS > 0) {
		return nil
	}
	low, high, least := 0.1, max(1000, 4*r.OpsPerS/r.BytesPerS), r.OpsPerS
	for _, p := range r.Phases {
		low, high, least = min(low, p.OpsPerByte/2), max(high, p.OpsPerByte*2), min(least, p.OpsPerS)
	}
	bottom := min(least/2, r.BytesPerS*low)
	draw := func(width float64) *chart { return roofChart(width, r, low, high, bottom) }
	s := leafSection{Title: "What binds the phases: " + r.Where, Charts: drawn(draw),
		Text: "A phase under the slope waits for memory, one under the flat for arithmetic; how far below the roof it " +
			"lies is what an engine leaves.",
		Columns: []string{"phase", "operations a byte", "operations a second", "of the roof"}}
	for _, p := range r.Phases {
		roof := math.Min(r.OpsPerS, r.BytesPerS*p.OpsPerByte)
		s.Rows = append(s.Rows, []string{p.Name, Figure(p.OpsPerByte), operations(p.OpsPerS),
			fmt.Sprintf("%.0f %%", 100*p.OpsPerS/roof)})
	}
	return []leafSection{s}
}

// operations scales a rate of arithmetic.
func operations(v float64) string { return Figure(v/1e9) + " G" }

// roofChart draws the roof between intensities, and the phases under it.
func roofChart(width float64, r *speed.Roof, low, high, bottom float64) *chart {
	c := newChart(width, "Roofline of "+r.Where, low, high, bottom, 2*r.OpsPerS)
	knee := r.OpsPerS / r.BytesPerS
	rate := func(v float64) string { return units.Rate(v).String() }
	c.axisX("operations a byte", powers(10, low, high), func(v float64) string { return fmt.Sprintf("%g", v) })
	c.axisY("operations a second", powers(10, bottom, 2*r.OpsPerS), operations)
	c.curve("b", "roof: "+rate(r.BytesPerS)+", then "+operations(r.OpsPerS)+" operations a second",
		[]float64{bottom / r.BytesPerS,
			knee, high}, []float64{bottom, r.OpsPerS, r.OpsPerS})
	for _, p := range r.Phases {
		c.Dots = append(c.Dots, dot{"a", c.x.at(p.OpsPerByte), c.y.at(p.OpsPerS)})
	}
	for i, p := range r.Phases {
		c.name(c.Dots[i], p.Name)
	}
	return c
}

// EstimatePage is an engine's estimate as a page.
func EstimatePage(w io.Writer, about About, mem *engine.Memory, s advise.Standing, machine string,
	fast *speed.Forecast) error {
	l := leaf{Title: fmt.Sprintf("vlmem estimate: %s on %s %s", mem.Model, mem.Engine, mem.Version), Verdict: s.Verdict}
	if s.Verdict != "" {
		l.Tone = toneName(terminal.Good)
		if s.Middle > 0 {
			l.Tone = toneName(terminal.Bad)
		} else if s.Most > 0 {
			l.Tone = toneName(terminal.Doubtful)
		}
	} else {
		l.Verdict = "needs " + mem.TotalBytes.String() + "; no machine was named to hold it against"
	}
	l.About = []Pair{{"settings", fmt.Sprintf("%s, KV cache %s, %s tokens, on the %s", mem.Quant, mem.KVType,
		units.Grouped(int64(mem.ContextTokens)), mem.Device)}}
	places := map[string][]engine.Item{}
	var order []string
	for _, i := range mem.Items {
		if len(places[i.Where]) == 0 {
			order = append(order, i.Where)
		}
		places[i.Where] = append(places[i.Where], i)
	}
	for _, where := range order {
		l.Sections = append(l.Sections, itemSection(where, mem, places[where]))
	}
	if fast != nil {
		l.Sections = append(l.Sections, speedSection(fast))
		l.Sections = append(l.Sections, roofSection(fast)...)
	}
	if machine == "" {
		machine = "none named"
	}
	return l.write(w, about, machine)
}

// itemSection is what an engine allocates in one place.
func itemSection(where string, mem *engine.Memory, items []engine.Item) leafSection {
	s := leafSection{Title: "On the " + where, Columns: []string{"item", "source", "why"}}
	var list []slice
	var sum units.Bytes
	for _, i := range items {
		list = append(list, slice{i.Name, i.Bytes, i.Low, i.High})
		sum += i.Bytes
		s.Rows = append(s.Rows, []string{i.Name, i.Source, i.Why})
	}
	s.Text = fmt.Sprintf("%s in all. Each item stands where the last one ends; the dark line is its interval.", sum)
	if where == "device" && mem.CardBytes > 0 {
		s.Bars = waterfall(mem.CardBytes, list)
	} else {
		rows := waterfall(sum, list)
		s.Bars = rows[1 : len(rows)-1]
	}
	return s
}

func speedSection(f *speed.Forecast) leafSection {
	s := leafSection{Title: "How fast", Text: "The dark line holds four times in five."}
	most := max(f.Decode.High, f.DecodeFull.High, f.Prefill.High)
	for _, x := range []struct {
		name string
		speed.Range
	}{{"reading the prompt", f.Prefill}, {"writing, empty context", f.Decode}, {"writing, full context", f.DecodeFull}} {
		if x.Median > 0 {
			s.Bars = append(s.Bars, rangeRow(x.name, fmt.Sprintf("%s tok/s (%s to %s)", Figure(x.Median), Figure(x.Low),
				Figure(x.High)), x.Range, most))
		}
	}
	if t := f.FirstToken; t.Median > 0 {
		s.Columns = []string{"", "seconds", "four times in five"}
		s.Rows = [][]string{{"first token", Figure(t.Median), Figure(t.Low) + " to " + Figure(t.High)}}
	}
	for _, note := range Evidence(f) {
		s.Text += " " + note + "."
	}
	return s
}

// VerificationPage is what a configuration claims beside what was seen.
func VerificationPage(w io.Writer, about About, v advise.Verification, machine string) error {
	l := leaf{Title: "vlmem verify: " + v.Config, Tone: toneName(terminal.Good)}
	absent := 0
	s := leafSection{Title: "Claims",
		Text: "The bar is the interval of a claim, the mark what was seen; both as shares of the " +
			"largest of them.", Columns: []string{"claim", "claimed", "seen", "", "how"}}
	for _, c := range v.Claims {
		word, seen := "holds", amount(c, c.Seen)
		most := max(c.High, c.Seen, c.Claimed) * 1.05
		row := barRow{Label: c.What, Class: "c", From: percent(c.Low, most), Value: seen, Marked: true,
			At: percent(c.Seen, most)}
		row.Width = round1(max(percent(c.High, most)-row.From, 0.5))
		switch {
		case c.Absent:
			word, seen, row.Value, row.Class, row.Marked = "not seen", "", "not seen", "free", false
			absent++
		case !c.Holds():
			word, row.Class = "FAILS", "bad"
		}
		s.Bars = append(s.Bars, row)
		s.Rows = append(s.Rows, []string{c.What, amount(c, c.Claimed), seen, word, c.How})
	}
	l.Verdict = fmt.Sprintf("%d of %d claims hold", len(v.Claims)-v.Failed-absent, len(v.Claims))
	if absent > 0 {
		l.Verdict += fmt.Sprintf(", %d could not be seen", absent)
		l.Tone = toneName(terminal.Doubtful)
	}
	if v.Failed > 0 {
		l.Tone = toneName(terminal.Bad)
	}
	l.Sections = []leafSection{s}
	return l.write(w, about, machine)
}

// MachinePage is a probed machine: its memory, and the staircase of latency with its caches marked.
func MachinePage(w io.Writer, about About, m Machine) error {
	l := leaf{Title: "vlmem probe: " + m.Name, Words: m.Notes}
	if m.Memory != nil && m.Memory.FillableBytes != nil {
		l.Verdict = fmt.Sprintf("%s of memory may still be filled, of %s", *m.Memory.FillableBytes, m.Memory.TotalBytes)
	}
	for _, x := range m.Warnings {
		l.Words = append(l.Words, x.Text)
	}
	if m.Measured != nil {
		l.Sections = append(l.Sections, staircase(m)...)
		l.Sections = append(l.Sections, bandwidths(m.Measured)...)
	}
	l.Sections = append(l.Sections, cacheSection(m), cardSection(m))
	return l.write(w, about, m.Name)
}

// staircase is the latency over the working set, by the order of the walk.
func staircase(m Machine) []leafSection {
	points := m.Measured.Latency
	if len(points) < 2 {
		return nil
	}
	lowX, highX, highY := math.Inf(1), 0.0, 0.0
	lowY := math.Inf(1)
	for _, p := range points {
		lowX, highX = min(lowX, float64(p.Bytes)), max(highX, float64(p.Bytes))
		lowY, highY = min(lowY, 1e9*p.Seconds), max(highY, 1e9*p.Seconds)
	}
	if !(lowX > 0 && lowY > 0 && highX > lowX) {
		return nil
	}
	draw := func(width float64) *chart {
		c := newChart(width, "Latency of a load over the working set", lowX, highX, min(1, lowY), highY*1.2)
		stairs(c, m, walks(points))
		return c
	}
	s := leafSection{Title: "Latency, and where the caches end", Charts: drawn(draw),
		Text:    "One dependent load after another, timed on this machine. Dashed: what the caches are reported to hold.",
		Columns: []string{"order", "working set", "a load"}}
	for _, walk := range walks(points) {
		for k := 0; k < len(walk.bytes); k += max(1, len(walk.bytes)/8) {
			s.Rows = append(s.Rows, []string{walk.order, units.Bytes(walk.bytes[k]).String(),
				fmt.Sprintf("%.1f ns", walk.nanoseconds[k])})
		}
	}
	return []leafSection{s}
}

// walk is the latency of one order.
type walk struct {
	order              string
	bytes, nanoseconds []float64
}

func walks(points []profile.LatencyPoint) (list []walk) {
	for _, order := range []string{"page-local", "random", "line-per-page"} {
		w := walk{order: order}
		for _, p := range points {
			if p.Order == order {
				w.bytes, w.nanoseconds = append(w.bytes, float64(p.Bytes)), append(w.nanoseconds, 1e9*p.Seconds)
			}
		}
		if len(w.bytes) > 1 {
			list = append(list, w)
		}
	}
	return list
}

// stairs draws the walks with the caches that end within them.
func stairs(c *chart, m Machine, list []walk) {
	for level := 1; m.CPU != nil && level <= 3; level++ {
		cache := m.CPU.Cache(level)
		if cache == nil || float64(cache.SizeBytes) <= c.x.low || float64(cache.SizeBytes) >= c.x.high {
			continue
		}
		c.mark(float64(cache.SizeBytes), fmt.Sprintf("L%d %s", level, cache.SizeBytes))
	}
	c.axisX("working set", powers(4, c.x.low, c.x.high), func(v float64) string { return units.Bytes(v).String() })
	nanoseconds := func(v float64) string { return fmt.Sprintf("%g ns", v) }
	c.axisY("time of one load", powers(10, c.y.low, c.y.high), nanoseconds)
	for i, w := range list {
		c.curve(string("abcd"[i]), w.order, w.bytes, w.nanoseconds)
	}
}

// bandwidths are the rates of each kernel by working set.
func bandwidths(m *profile.Measured) []leafSection {
	most := 0.0
	for _, p := range m.Bandwidth {
		most = max(most, float64(p.PerS))
	}
	s := leafSection{Title: "Bandwidth"}
	for _, p := range m.Bandwidth {
		s.Bars = append(s.Bars, barRow{Label: fmt.Sprintf("%s, %s, %s", p.Kernel, p.Bytes, count(p.Threads, "thread")),
			Value: p.PerS.String(), Class: "a", Width: percent(float64(p.PerS), most)})
	}
	if len(s.Bars) == 0 {
		return nil
	}
	return []leafSection{s}
}

func cacheSection(m Machine) leafSection {
	s := leafSection{Title: "Processor and memory", Columns: []string{"", ""}}
	add := func(name, value string) { s.Rows = append(s.Rows, []string{name, value}) }
	if c := m.CPU; c != nil {
		add("processor", fmt.Sprintf("%s, %s, %s", c.Model, count(c.Cores, "core"), count(c.Threads, "thread")))
		last := lastLevel(c.Caches, m.Measured)
		for _, x := range c.Caches {
			if x.Type != "instruction" {
				add(fmt.Sprintf("L%d", x.Level), fmt.Sprintf("%s reported, %s measured", x.SizeBytes,
					feltSize(m.Measured, x.Level, last)))
			}
		}
	}
	if x := m.Memory; x != nil {
		add("memory", x.TotalBytes.String())
		for _, b := range x.Bounds {
			add(b.Name, fmt.Sprintf("%s of %s held", b.HeldBytes, b.LimitBytes))
		}
	}
	return s
}

func cardSection(m Machine) leafSection {
	s := leafSection{Title: "Cards", Columns: []string{"card", "memory", "driver"}}
	for _, g := range m.GPUs {
		s.Rows = append(s.Rows, []string{g.Name, cardMemory(g), driver(g.DriverVersion)})
	}
	if len(s.Rows) == 0 {
		s.Text = "none: " + m.Unknown["gpus"]
	}
	return s
}
