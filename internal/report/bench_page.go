package report

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/terminal"
	"github.com/vlmem/vlmem/internal/tiling/contest"
	"github.com/vlmem/vlmem/internal/units"
)

// Page is a benchmark as one HTML file. Its tables hold what its charts show.
type Page struct {
	Bench     Bench
	Against   string // the saved run that it is held against
	Timelines []NamedTimeline
	Machine   *profile.Hardware
	Heat      *contest.Heat // nil where no tiles were timed
	Granule   string
}

// NamedTimeline is a timeline, the workload it is of, and the limit it ran under, 0 for none.
type NamedTimeline struct {
	Name  string
	Limit int64
	*replay.Timeline
}

// HeatMap is a table whose cells are shaded by value, darkest where the value is least.
type HeatMap struct {
	Title, Text, Corner string
	Columns             []string
	Rows                []string
	Values              [][]float64 // NaN where there is none
	Format              string
}

// Write renders the page.
func (p Page) Write(w io.Writer, about About) error {
	l := leaf{Title: "vlmem bench: " + strings.Join(p.Bench.workloads(), ", ")}
	l.Verdict, l.Tone = p.Bench.standing(p.Against)
	l.About = []Pair{{"allocators", strings.Join(chosen(p.Bench), ", ")}, {"granule", p.Granule},
		{"Go", runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}, {"fingerprint", p.Machine.Fingerprint}}
	if c := p.Bench.Comparison; c != nil {
		l.Sections = append(l.Sections, comparedSection(c))
	}
	for _, g := range p.Bench.groups() {
		l.Sections = append(l.Sections, g.section())
	}
	l.Words = slices.Concat(p.Bench.Beside, p.Bench.Notes)
	for i, t := range p.Timelines {
		l.Sections = append(l.Sections, t.sections(len(p.Timelines) > 1)...)
		if i == 0 && len(t.Holds) > 0 {
			l.Tree = treeOf(holders(t.Holds))
			l.Sections = append(l.Sections, sitesSection(t))
		}
	}
	m := Machine{Hardware: *p.Machine}
	if m.Measured != nil {
		l.Sections = append(l.Sections, staircase(m)...)
	}
	for _, h := range TileHeat(p.Heat) {
		l.Sections = append(l.Sections, h.section())
	}
	return l.write(w, about, p.Machine.Name)
}

// standing is the benchmark in a sentence: how it compares with a saved run, or else who reserves least and where vlmem
// stands.
func (b Bench) standing(against string) (text, tone string) {
	if c := b.Comparison; c != nil {
		for _, f := range c.Findings {
			if f.Verdict == baseline.Regressed || f.Verdict == baseline.Missing {
				return Verdict(*c, against), toneName(terminal.Bad)
			}
		}
		return Verdict(*c, against), ""
	}
	var words []string
	tone = toneName(terminal.Good)
	for _, g := range b.groups() {
		text, best := g.standing()
		words = append(words, g.kind()+": "+text)
		if !best {
			tone = toneName(terminal.Doubtful)
		}
	}
	return strings.Join(words, "; "), tone
}

// standing says who of those that are compared reserves least, and whether that is vlmem or it did not take part.
func (g benchGroup) standing() (text string, best bool) {
	least := slices.MinFunc(g, func(a, b replay.Summary) int { return int(a.PeakReservedBytes - b.PeakReservedBytes) })
	text = fmt.Sprintf("%s reserves least, %.1f %% above the lower bound", least.Allocator, 100*least.Overhead)
	i := slices.IndexFunc(g, func(s replay.Summary) bool { return s.Allocator == "vlmem" })
	if best = i < 0 || g[i].PeakReservedBytes == least.PeakReservedBytes; !best {
		text += fmt.Sprintf(", vlmem %.1f %%", 100*g[i].Overhead)
	}
	return text, best
}

// kind is what the runs of the group were, in a word or two.
func (g benchGroup) kind() string {
	if g[0].Kind == replay.Touched {
		return "every page written"
	}
	return "addresses only"
}

// comparedSection is how the run differs from the saved one.
func comparedSection(c *baseline.Comparison) leafSection {
	s := leafSection{Title: "Against the saved run", Columns: []string{"allocator", "kind", "metric", "before", "after",
		"change", "p", "verdict"}}
	for _, f := range c.Findings {
		s.Rows = append(s.Rows, []string{f.Allocator, f.Kind, f.Metric, quantity(f.Before, f.Unit), quantity(f.After, f.Unit),
			fmt.Sprintf("%+.1f %%", 100*f.Change), probability(f.P), fmt.Sprint(f.Verdict)})
	}
	return s
}

// section is what each allocator reserved, and how long its operations took.
func (g benchGroup) section() leafSection {
	first := g[0]
	reserved, last := "reserved", "returned"
	if first.Kind == replay.Touched {
		reserved, last = "peak RSS", "faults"
	}
	s := leafSection{Title: fmt.Sprintf("%s, %s", first.Workload, g.kind()),
		Text: fmt.Sprintf("%s operations. The mark is the lower bound, %s: the largest sum of requested bytes live at one "+
			"time. Runs over addresses and runs that write every page are not to be compared.",
			units.Grouped(int64(first.Operations)), units.Bytes(first.LowerBoundBytes)),
		Columns: []string{"allocator", "ns/op", "p50", "p99", "peak live", reserved, "overhead", last}}
	var most int64
	for _, r := range g {
		most = max(most, r.PeakReservedBytes)
	}
	for _, r := range g {
		size, over := units.Bytes(r.PeakReservedBytes).String(), fmt.Sprintf("%.2f %%", 100*r.Overhead)
		row := barRow{Label: r.Allocator, Value: size + ", +" + over, Class: "a",
			Width: percent(float64(r.PeakReservedBytes), float64(most)), Marked: true,
			At: percent(float64(r.LowerBoundBytes), float64(most))}
		if r.Allocator == "vlmem" {
			row.Class = "c"
		}
		s.Bars = append(s.Bars, row)
		s.Rows = append(s.Rows, []string{r.Allocator, nanoseconds(r.NsPerOpMean), nanoseconds(r.NsPerOpP50),
			nanoseconds(r.NsPerOpP99), units.Bytes(r.PeakLiveBytes).String(), size, over, lastColumn(r)})
	}
	return s
}

// tableRows is how many moments the table of a timeline shows; the curves have them all.
const tableRows = 16

// sections draw a timeline; named says that there are several.
func (t NamedTimeline) sections(named bool) []leafSection {
	of := ""
	if named {
		of = ": " + t.Name
	}
	return []leafSection{t.overTime(of), t.byPool(of), t.addresses(of), t.sizes(of)}
}

// colours are the classes of curves, in order.
const colours = "abcdef"

func colour(i int) string { return string(colours[i%len(colours)]) }

// overTime is what each allocator reserves, over one another, with what is live below.
func (t NamedTimeline) overTime(of string) leafSection {
	s := leafSection{Title: "Reserved over the operations" + of, Text: "Each point is the moment of its stretch of " +
		"operations at which most was live; no allocator can reserve less than the filled area.", Closed: true,
		Columns: []string{"operation", "phase", "live"}}
	draw := func(width float64) *chart {
		xs, most := t.operations(), float64(t.Limit)
		for _, c := range t.Curves {
			for _, r := range c.Reserved {
				most = max(most, float64(r))
			}
		}
		c := t.field(width, "Memory reserved by each allocator over the operations", most)
		live := column(t.Points, func(p replay.Point) int64 { return p.Live })
		c.area("live", "live", xs, make([]float64, len(xs)), live)
		for i, line := range t.Curves {
			c.curve(colour(i), line.Allocator, xs, floats(line.Reserved))
		}
		if t.Limit > 0 {
			y := c.y.at(float64(t.Limit))
			c.Lines = append(c.Lines, ruler{"mark", c.x.from, y, c.x.to, y})
		}
		return c
	}
	s.Charts = drawn(draw)
	if t.Limit > 0 {
		s.Text += fmt.Sprintf(" The dashed line is the limit, %s.", units.Bytes(t.Limit))
	}
	for _, c := range t.Curves {
		s.Columns = append(s.Columns, c.Allocator)
	}
	phases := distinct(t.Phases)
	for i := 0; i < len(t.Points); i += max(1, len(t.Points)/tableRows) {
		p := t.Points[i]
		row := []string{units.Grouped(int64(p.Operation)), phaseAt(phases, p.Operation), units.Bytes(p.Live).String()}
		for _, c := range t.Curves {
			row = append(row, units.Bytes(c.Reserved[i]).String())
		}
		s.Rows = append(s.Rows, row)
	}
	return s
}

// field is an empty chart over the operations, with the phases marked.
func (t NamedTimeline) field(width float64, label string, most float64) *chart {
	last := 1.0
	for _, x := range t.operations() {
		last = max(last, x)
	}
	c := newPlain(width, label, last, most*1.02)
	c.axisX("operation", even(last, int(width/90), false), func(v float64) string { return units.Grouped(int64(v)) })
	c.axisY("bytes", even(most, 6, true), func(v float64) string { return units.Bytes(v).String() })
	for _, p := range distinct(t.Phases) {
		c.mark(float64(p.Operation), p.Name)
	}
	return c
}

func (t NamedTimeline) operations() []float64 {
	return column(t.Points, func(p replay.Point) int64 { return int64(p.Operation) })
}

func column(points []replay.Point, of func(replay.Point) int64) []float64 {
	list := make([]float64, len(points))
	for i, p := range points {
		list[i] = float64(of(p))
	}
	return list
}

func floats(list []int64) []float64 {
	out := make([]float64, len(list))
	for i, v := range list {
		out[i] = float64(v)
	}
	return out
}

// phaseAt is the phase that an operation belongs to.
func phaseAt(phases []replay.Phase, operation int) (name string) {
	for _, p := range phases {
		if p.Operation <= operation {
			name = p.Name
		}
	}
	return name
}

// distinct drops phases that go on under the same name.
func distinct(phases []replay.Phase) []replay.Phase {
	return slices.CompactFunc(slices.Clone(phases), func(a, b replay.Phase) bool { return a.Name == b.Name })
}

// byPool is what is live by what lives in it, one upon the other.
func (t NamedTimeline) byPool(of string) leafSection {
	s := leafSection{Title: "Live by pool" + of, Text: "What lives in each pool, one upon the other.",
		Columns: []string{"pool", "peak"}}
	most := 0.0
	for _, p := range t.Points {
		most = max(most, float64(p.Live))
	}
	s.Charts = drawn(func(width float64) *chart {
		c := t.field(width, "Live memory stacked by pool", most)
		below := make([]float64, len(t.Points))
		for k, name := range t.Pools {
			above := slices.Clone(below)
			for i, p := range t.Points {
				above[i] += float64(p.Pools[k])
			}
			c.area(colour(k), name, t.operations(), below, above)
			below = above
		}
		return c
	})
	for k, name := range t.Pools {
		var peak int64
		for _, p := range t.Points {
			peak = max(peak, p.Pools[k])
		}
		s.Rows = append(s.Rows, []string{name, units.Bytes(peak).String()})
	}
	return s
}

const (
	mapRows  = 16
	mapPitch = 16.0 // height of a row with its gap
)

// addresses lays what is live or committed out in rows, left to right and down; runs of bare addresses are cut to a
// sliver, for they cost nothing and would hide the rest.
func (t NamedTimeline) addresses(of string) leafSection {
	var live, holes int64
	for _, s := range t.Spans {
		switch {
		case s.Live:
			live += s.Size
		case s.Committed:
			holes += s.Size
		}
	}
	s := leafSection{Title: "Addresses of " + t.Allocator + " when most was reserved" + of, Text: fmt.Sprintf("After "+
		"operation %s: %s live, %s committed and free. Runs of addresses without memory are drawn as slivers.",
		units.Grouped(int64(t.PeakAt)), units.Bytes(live), units.Bytes(holes))}
	if live+holes > 0 {
		s.Charts = drawn(func(width float64) *chart { return addressMap(width, t.Spans, float64(live+holes)) })
	}
	return s
}

func addressMap(width float64, spans []alloc.Span, total float64) *chart {
	c := &chart{Label: "Map of addresses", Width: width, Height: mapRows * mapPitch}
	c.Areas = []polyline{{Class: "live", Name: "live"}, {Class: "hole", Name: "committed and free"},
		{Class: "space", Name: "addresses only"}}
	scale, at := mapRows*width/total*0.98, 0.0
	for _, s := range spans {
		class, long := "space", 1.0
		if s.Live {
			class, long = "live", scale*float64(s.Size)
		} else if s.Committed {
			class, long = "hole", scale*float64(s.Size)
		}
		for long > 0 && at < mapRows*width {
			row := math.Floor(at / width)
			part := min(long, width*(row+1)-at)
			c.lay(rect{class, round1(at - row*width), row * mapPitch, round1(part), mapPitch - 2})
			at, long = at+part, long-part
		}
	}
	return c
}

// lay adds a rectangle, or lengthens the last one where a block too narrow to see follows.
func (c *chart) lay(r rect) {
	if n := len(c.Rects); n > 0 && c.Rects[n-1].Y == r.Y && (c.Rects[n-1].Class == r.Class || r.Width < 0.2) {
		c.Rects[n-1].Width = round1(r.X + r.Width - c.Rects[n-1].X)
		return
	}
	c.Rects = append(c.Rects, r)
}

// sizes are how often each size was asked for.
func (t NamedTimeline) sizes(of string) leafSection {
	s := leafSection{Title: "Sizes asked for" + of, Text: "By powers of two: how many requests, and their bytes in all."}
	var most int64
	for _, b := range t.Sizes {
		most = max(most, b.Count)
	}
	for _, b := range t.Sizes {
		s.Bars = append(s.Bars, barRow{Label: "from " + units.Bytes(b.Low).String(), Class: "a",
			Value: units.Grouped(b.Count) + ", " + units.Bytes(b.Bytes).String(),
			Width: percent(float64(b.Count), float64(most))})
	}
	return s
}

// holders are sites as an icicle takes them: the parts of a site's name are its frames.
func holders(sites []replay.Hold) []account.Holder {
	list := make([]account.Holder, len(sites))
	for i, s := range sites {
		frames := []string{s.Site}
		if !strings.Contains(s.Site, ":") { // a line of a file is one frame
			frames = strings.Split(s.Site, ".")
		}
		slices.Reverse(frames)
		list[i] = account.Holder{Name: s.Site, Bytes: s.Bytes, Blocks: s.Blocks, Frames: frames}
	}
	return list
}

// sitesShown is how many sites the table of a page lists.
const sitesShown = 12

// sitesSection is what lived when most did, by who asked for it.
func sitesSection(t NamedTimeline) leafSection {
	var sum int64
	for _, h := range t.Holds {
		sum += h.Bytes
	}
	s := leafSection{Title: "Who held memory when most was live", Icicle: true,
		Columns: []string{"site", "bytes", "blocks", "share"},
		Text: fmt.Sprintf("%s of %s, each as wide as what it holds. A click, or Enter, makes a part the whole width; "+
			"Escape goes back, arrow keys move.", units.Bytes(sum), t.Name)}
	for _, h := range t.Holds[:min(len(t.Holds), sitesShown)] {
		bytes, share := units.Bytes(h.Bytes).String(), share100(h.Bytes, sum)
		s.Rows = append(s.Rows, []string{h.Site, bytes, units.Grouped(h.Blocks), share})
	}
	return s
}

// section is the map as a table.
func (h HeatMap) section() leafSection {
	s := leafSection{Title: h.Title, Text: h.Text, Columns: append([]string{h.Corner}, h.Columns...)}
	low, high := math.Inf(1), math.Inf(-1)
	for _, row := range h.Values {
		for _, x := range row {
			if !math.IsNaN(x) {
				low, high = min(low, x), max(high, x)
			}
		}
	}
	for i, name := range h.Rows {
		row, shades := []string{name}, []int{}
		for _, x := range h.Values[i] {
			text, shade := "", 0
			if !math.IsNaN(x) {
				text, shade = fmt.Sprintf(h.Format, x), int(60*(high-x)/max(high-low, 1e-300))
			}
			row, shades = append(row, text), append(shades, shade)
		}
		s.Rows, s.Shades = append(s.Rows, row), append(s.Shades, shades)
	}
	return s
}

// workloads are what ran, by name.
func (b Bench) workloads() []string {
	var names []string
	for _, g := range b.groups() {
		if name := g[0].Workload; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
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
