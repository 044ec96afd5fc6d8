package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/tiling/contest"
	"github.com/vlmem/vlmem/internal/units"
)

// The page and the library that draws its plots: uPlot 1.6.32, MIT, from its npm package, as it is.
var (
	//go:embed page/page.html
	pageTemplate string
	//go:embed page/draw.js
	pageDrawing string
	//go:embed page/uplot.min.js
	plotScript string
	//go:embed page/uplot.min.css
	plotStyle string
)

// Page is a benchmark as one HTML file that asks the network for nothing. Its tables hold everything, so that it reads
// without JavaScript; plots are drawn from the same numbers.
type Page struct {
	Title     string
	Bench     Bench
	Timelines []NamedTimeline
	Machine   *profile.Hardware // nil where nothing was measured
	Heat      []HeatMap
	Inputs    []Pair
}

// NamedTimeline is a timeline, the workload it is of, and the limit it ran under, 0 for none.
type NamedTimeline struct {
	Name  string
	Limit int64
	*replay.Timeline
}

// Pair is an input with its value.
type Pair struct{ Name, Value string }

// HeatMap is a table whose cells are shaded by value, darkest where the value is least.
type HeatMap struct {
	Title, Text, Corner string
	Columns             []string
	Rows                []string
	Values              [][]float64 // NaN where there is none
	Format              string
}

// Write renders the page.
func (p Page) Write(w io.Writer) error {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	return t.Execute(w, p.view())
}

type pageView struct {
	Title      string
	Headline   []string
	Scripted   bool
	Compared   []comparedRow
	Groups     []groupView
	Timelines  []timelineView
	Latency    *latencyView
	Heat       []heatView
	Inputs     []Pair
	Notes      []string
	Data       []timelineData
	PlotStyle  template.CSS
	PlotScript template.JS
	Drawing    template.JS
}

type (
	comparedRow struct {
		Allocator, Kind, Metric, Before, After, Change, P string
		Verdict                                           baseline.Verdict
		Bad                                               bool
	}
	groupView struct {
		Caption, Reserved, Last string
		Rows                    []allocatorRow
	}
	allocatorRow struct {
		Allocator, Mean, P50, P99, Live, Reserved, Overhead, Last string
		ReservedBytes                                             int64
		Share                                                     int
	}
	timelineView struct {
		Name, Allocator, LimitText, PeakLive, PeakReserved, MapText string
		Limit                                                       int64
		Operations, PeakAt, MapHeight                               int
		Pools                                                       []string
		Sampled                                                     []pointRow
		PoolPeaks                                                   []poolPeak
		Map                                                         []spanRect
		Sizes                                                       []sizeRow
	}
	pointRow struct {
		Operation             int
		Phase, Live, Reserved string
		Pools                 []string
	}
	poolPeak struct{ Name, Peak string }
	spanRect struct {
		Class       string
		X, Y, Width float64
	}
	sizeRow struct {
		Low, Bytes string
		Count      int64
		Share      int
	}
	timelineData struct {
		Points []replay.Point `json:"points"`
		Pools  []string       `json:"pools"`
		Phases []replay.Phase `json:"phases"`
		Limit  int64          `json:"limit"`
	}
	heatView struct {
		Title, Text, Corner string
		Columns             []string
		Rows                []heatRow
	}
	heatRow struct {
		Name  string
		Cells []heatCell
	}
	heatCell struct {
		Text  string
		Shade int
	}
)

func (p Page) view() pageView {
	v := pageView{
		Title: p.Title, Scripted: true, Inputs: p.Inputs, Notes: p.Bench.Notes, Latency: latencyOf(p.Machine),
		PlotStyle: template.CSS(plotStyle), PlotScript: template.JS(plotScript), Drawing: template.JS(pageDrawing),
	}
	for _, g := range p.Bench.groups() {
		v.Groups = append(v.Groups, g.view())
	}
	if c := p.Bench.Comparison; c != nil {
		v.Headline = append(v.Headline, Verdict(*c, "the saved run"))
		for _, f := range c.Findings {
			v.Compared = append(v.Compared, comparedRow{f.Allocator, f.Kind, f.Metric, quantity(f.Before, f.Unit),
				quantity(f.After, f.Unit),
				fmt.Sprintf("%+.1f %%", 100*f.Change), fmt.Sprintf("%.3f", f.P), f.Verdict, f.Verdict == baseline.Regressed ||
					f.Verdict == baseline.Missing})
		}
	}
	for _, t := range p.Timelines {
		phases := distinct(t.Phases)
		v.Timelines = append(v.Timelines, t.view(phases))
		v.Data = append(v.Data, timelineData{t.Points, t.Pools, phases, t.Limit})
	}
	for _, h := range p.Heat {
		v.Heat = append(v.Heat, h.view())
	}
	return v
}

func (g benchGroup) view() groupView {
	first := g[0]
	v := groupView{Reserved: "Reserved", Last: "Returned", Caption: fmt.Sprintf("%s, %s: %s operations, lower bound %s",
		first.Workload, first.Kind, units.Grouped(int64(first.Operations)), units.Bytes(first.LowerBoundBytes))}
	if first.Kind == replay.Touched {
		v.Reserved, v.Last = "Peak RSS", "Faults"
	}
	var most int64
	for _, r := range g {
		most = max(most, r.PeakReservedBytes)
	}
	for _, r := range g {
		v.Rows = append(v.Rows, allocatorRow{
			Allocator: r.Allocator, Mean: nanoseconds(r.NsPerOpMean), P50: nanoseconds(r.NsPerOpP50),
			P99:  nanoseconds(r.NsPerOpP99),
			Live: units.Bytes(r.PeakLiveBytes).String(), Reserved: units.Bytes(r.PeakReservedBytes).String(),
			Overhead: fmt.Sprintf("%.2f %%", 100*r.Overhead), Last: lastColumn(r), ReservedBytes: r.PeakReservedBytes,
			Share: share(r.PeakReservedBytes, most),
		})
	}
	return v
}

// share is the percentage that part is of whole.
func share(part, whole int64) int {
	if whole <= 0 {
		return 0
	}
	return int(100 * part / whole)
}

// distinct drops phases that go on under the same name.
func distinct(phases []replay.Phase) []replay.Phase {
	var list []replay.Phase
	for _, p := range phases {
		if n := len(list); n == 0 || list[n-1].Name != p.Name {
			list = append(list, p)
		}
	}
	return list
}

// tableRows is how many moments the table of a timeline shows; the plot has them all.
const tableRows = 40

func (t NamedTimeline) view(phases []replay.Phase) timelineView {
	v := timelineView{Name: t.Name, Allocator: t.Allocator, Limit: t.Limit, LimitText: units.Bytes(t.Limit).String(),
		Pools: t.Pools, PeakAt: t.PeakAt}
	var live, reserved int64
	peaks := make([]int64, len(t.Pools))
	step := max(1, len(t.Points)/tableRows)
	for i, p := range t.Points {
		live, reserved = max(live, p.Live), max(reserved, p.Reserved)
		v.Operations = p.Operation + 1
		for k, b := range p.Pools {
			peaks[k] = max(peaks[k], b)
		}
		if i%step == 0 {
			v.Sampled = append(v.Sampled, pointRowOf(p, phases))
		}
	}
	v.PeakLive, v.PeakReserved = units.Bytes(live).String(), units.Bytes(reserved).String()
	for k, name := range t.Pools {
		v.PoolPeaks = append(v.PoolPeaks, poolPeak{name, units.Bytes(peaks[k]).String()})
	}
	var most int64
	for _, s := range t.Sizes {
		most = max(most, s.Count)
	}
	for _, s := range t.Sizes {
		v.Sizes = append(v.Sizes, sizeRow{units.Bytes(s.Low).String(), units.Bytes(s.Bytes).String(), s.Count,
			share(s.Count, most)})
	}
	v.addresses(t.Spans)
	return v
}

func pointRowOf(p replay.Point, phases []replay.Phase) pointRow {
	row := pointRow{Operation: p.Operation, Live: units.Bytes(p.Live).String(), Reserved: units.Bytes(p.Reserved).String()}
	for _, phase := range phases {
		if phase.Operation <= p.Operation {
			row.Phase = phase.Name
		}
	}
	for _, b := range p.Pools {
		row.Pools = append(row.Pools, units.Bytes(b).String())
	}
	return row
}

const (
	mapRows    = 16
	mapColumns = 1000.0
	mapPitch   = 16 // height of a row with its gap
)

// addresses lays what is live or committed out in rows, left to right and down; runs of bare addresses are cut to a
// sliver, for they cost nothing and would hide the rest.
func (v *timelineView) addresses(spans []alloc.Span) {
	var live, holes, total int64
	for _, s := range spans {
		switch {
		case s.Live:
			live += s.Size
		case s.Committed:
			holes += s.Size
		}
	}
	total = live + holes
	v.MapText = fmt.Sprintf("%s live, %s committed and free. Runs of addresses without memory are drawn as slivers.",
		units.Bytes(live), units.Bytes(holes))
	v.MapHeight = mapRows * mapPitch
	if total == 0 {
		return
	}
	scale := mapRows * mapColumns / float64(total) * 0.98
	at := 0.0
	for _, s := range spans {
		class, width := "space", 1.0
		if s.Live {
			class, width = "live", scale*float64(s.Size)
		} else if s.Committed {
			class, width = "hole", scale*float64(s.Size)
		}
		for width > 0 && at < mapRows*mapColumns {
			row := math.Floor(at / mapColumns)
			part := min(width, mapColumns*(row+1)-at)
			v.draw(spanRect{class, round1(at - row*mapColumns), row * mapPitch, round1(part)})
			at, width = at+part, width-part
		}
	}
}

// draw adds a rectangle, or lengthens the last one where a block too narrow to see follows.
func (v *timelineView) draw(r spanRect) {
	if n := len(v.Map); n > 0 && v.Map[n-1].Y == r.Y && (v.Map[n-1].Class == r.Class || r.Width < 0.2) {
		v.Map[n-1].Width = round1(r.X + r.Width - v.Map[n-1].X)
		return
	}
	v.Map = append(v.Map, r)
}

func round1(x float64) float64 { return math.Round(10*x) / 10 }

func (h HeatMap) view() heatView {
	v := heatView{Title: h.Title, Text: h.Text, Corner: h.Corner, Columns: h.Columns}
	low, high := math.Inf(1), math.Inf(-1)
	for _, row := range h.Values {
		for _, x := range row {
			if !math.IsNaN(x) {
				low, high = min(low, x), max(high, x)
			}
		}
	}
	for i, name := range h.Rows {
		row := heatRow{Name: name}
		for _, x := range h.Values[i] {
			cell := heatCell{}
			if !math.IsNaN(x) {
				cell = heatCell{fmt.Sprintf(h.Format, x), int(60 * (high - x) / max(high-low, 1e-300))}
			}
			row.Cells = append(row.Cells, cell)
		}
		v.Rows = append(v.Rows, row)
	}
	return v
}

type (
	latencyView struct {
		Grid   []mark
		Ticks  []mark
		Points string
		Rows   []latencyRow
	}
	mark struct {
		X, Y  float64
		Label string
	}
	latencyRow struct{ Bytes, Latency string }
)

// tickPitch is how far apart labels under an axis stand at least.
const tickPitch = 90

// latencyOf draws the page-local curve on logarithmic axes.
func latencyOf(h *profile.Hardware) *latencyView {
	if h == nil || h.Measured == nil {
		return nil
	}
	var points []profile.LatencyPoint
	for _, p := range h.Measured.Latency {
		if p.Order == "page-local" {
			points = append(points, p)
		}
	}
	if len(points) < 2 {
		return nil
	}
	v := &latencyView{}
	slowest := points[0].Seconds
	for _, p := range points {
		slowest = max(slowest, p.Seconds)
	}
	first, last := math.Log2(float64(points[0].Bytes)), math.Log2(float64(points[len(points)-1].Bytes))
	x := func(b units.Bytes) float64 { return round1(60 + 930*(math.Log2(float64(b))-first)/(last-first)) }
	top := math.Log10(1.2 * slowest / 1e-9)
	y := func(s float64) float64 { return round1(235 - 225*math.Log10(s/1e-9)/top) }
	var line strings.Builder
	for _, p := range points {
		fmt.Fprintf(&line, "%v,%v ", x(p.Bytes), y(p.Seconds))
		v.Rows = append(v.Rows, latencyRow{p.Bytes.String(), fmt.Sprintf("%.1f ns", 1e9*p.Seconds)})
		if n := len(v.Ticks); n == 0 || x(p.Bytes)-v.Ticks[n-1].X > tickPitch {
			v.Ticks = append(v.Ticks, mark{X: x(p.Bytes), Label: p.Bytes.String()})
		}
	}
	for ns := 1.0; ns <= 1e9*slowest*1.2; ns *= 10 {
		v.Grid = append(v.Grid, mark{Y: y(ns * 1e-9), Label: fmt.Sprintf("%g ns", ns)})
	}
	v.Points = strings.TrimSpace(line.String())
	return v
}

// BenchPage is the page of a benchmark of some workloads on a machine, by a version of vlmem.
func BenchPage(what, granule, version string, b Bench, machine *profile.Hardware, heat *contest.Heat) Page {
	return Page{Heat: TileHeat(heat), Title: "vlmem bench: " + what, Bench: b, Machine: machine, Inputs: []Pair{
		{Name: "workload", Value: what}, {Name: "allocators", Value: strings.Join(chosen(b), ", ")},
		{Name: "granule", Value: granule}, {Name: "vlmem", Value: version},
		{Name: "Go", Value: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH},
		{Name: "machine", Value: machine.Name}, {Name: "fingerprint", Value: machine.Fingerprint},
	}}
}

// chosen lists the allocators that took part.
func chosen(b Bench) []string {
	var names []string
	for _, r := range b.Results {
		if !slices.Contains(names, r.Allocator) {
			names = append(names, r.Allocator)
		}
	}
	return names
}
