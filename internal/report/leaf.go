package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/terminal"
	"github.com/vlmem/vlmem/internal/units"
)

// leafTemplate is the page of a result: it asks the network for nothing, reads without a script, on a telephone and on
// paper. Charts are drawn here and not by the page, so that tests see where each label stands.
//
//go:embed page/leaf.html
var leafTemplate string

// About is what stands on top of a page: what made it, and when.
type About struct {
	Command, Version string
	Date             time.Time
}

// leaf is a page: a verdict, what it is of, and sections.
type leaf struct {
	Title, Verdict, Tone string
	Words                []string
	About                []Pair
	Sections             []leafSection
	Tree                 *node // nil: no icicle
	Drawing              template.JS
}

// Pair is an input with its value.
type Pair struct{ Name, Value string }

// leafSection is bars, a chart and a table, of which some are left out.
type leafSection struct {
	Title, Text string
	Bars        []barRow
	Charts      []*chart // a broad one and a narrow one, of which a window shows the one that it has room for
	Icicle      bool     // the page's tree is drawn here
	Columns     []string
	Rows        [][]string
	Mono        bool    // the last column is a drawing of letters
	Closed      bool    // the table is shown when it is asked for: the chart has the same
	Shades      [][]int // of the cells behind each row's first, in percent; nil for none
}

// Shade is how dark a cell is.
func (s leafSection) Shade(row, column int) int {
	if s.Shades == nil || column == 0 {
		return 0
	}
	return s.Shades[row][column-1]
}

// barRow is a bar with a range over it and a mark, in percent of the row.
type barRow struct {
	Label, Value, Class string
	From, Width         float64
	Ranged, Marked      bool
	Low, Span, At       float64
}

// write renders the page of a machine.
func (l leaf) write(w io.Writer, about About, machine string) error {
	t, err := template.New("leaf").Parse(leafTemplate)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	if l.Tree != nil {
		l.Drawing = template.JS(icicleDrawing)
	}
	l.About = append([]Pair{{"date", about.Date.Format("2006-01-02 15:04 MST")}, {"command", about.Command},
		{"machine", machine}, {"vlmem", about.Version}}, l.About...)
	return t.Execute(w, l)
}

// toneName is a tone as the page's style names it.
func toneName(t terminal.Tone) string {
	return [...]string{terminal.Plain: "", terminal.Good: "good", terminal.Doubtful: "doubtful", terminal.Bad: "bad"}[t]
}

// percent is a share of a whole within 0 to 100.
func percent(part, whole float64) float64 {
	if !(whole > 0) {
		return 0
	}
	return round1(100 * min(max(part/whole, 0), 1))
}

// slice is an item of a budget.
type slice struct {
	name           string
	mid, low, high units.Bytes
}

// waterfall lays the items of a capacity one behind the other, each with its interval about its end; what is left is
// last.
func waterfall(capacity units.Bytes, items []slice) (rows []barRow) {
	var at units.Bytes
	whole := float64(capacity)
	for _, s := range items {
		at += s.mid
		whole = max(whole, float64(at+s.high-s.mid))
	}
	rows = append(rows, barRow{Label: "capacity", Value: capacity.String(), Class: "free",
		Width: percent(float64(capacity), whole)})
	at = 0
	for i, s := range items {
		row := barRow{Label: s.name, Value: s.mid.String(), Class: string("abcd"[i%4]), From: percent(float64(at), whole),
			Width: percent(float64(s.mid), whole)}
		if s.low != s.high {
			row.Value = fmt.Sprintf("%s (%s to %s)", s.mid, s.low, s.high)
			row.Ranged, row.Low = true, percent(float64(at+s.low), whole)
			row.Span = round1(percent(float64(at+s.high), whole) - row.Low)
		}
		at += s.mid
		rows = append(rows, row)
	}
	left := barRow{Label: "free", Value: (capacity - at).String(), Class: "free", From: percent(float64(at), whole),
		Width: percent(float64(capacity-at), whole)}
	if at > capacity {
		left = barRow{Label: "missing", Value: (at - capacity).String(), Class: "bad",
			From: percent(float64(capacity), whole), Width: percent(float64(at-capacity), whole)}
	}
	return append(rows, left)
}

// chart is a drawing on two axes, with every label where it stands.
type chart struct {
	Label         string
	Width, Height float64
	Rects         []rect
	Areas, Curves []polyline
	Lines         []ruler
	Dots          []dot
	Texts         []placed

	x, y span
}

type (
	ruler struct {
		Class          string
		X1, Y1, X2, Y2 float64
	}
	rect struct {
		Class               string
		X, Y, Width, Height float64
	}
	polyline struct{ Class, Name, Points string }
	dot      struct {
		Class string
		X, Y  float64
	}
	placed struct {
		X, Y         float64
		Anchor, Text string
	}
	span struct {
		low, high, from, to float64
		linear              bool // or else logarithmic
	}
)

// at is where a value stands on an axis.
func (s span) at(v float64) float64 {
	share := 0.0
	switch {
	case !(s.high > s.low):
	case s.linear:
		share = (v - s.low) / (s.high - s.low)
	default:
		share = math.Log(max(v, s.low)/s.low) / math.Log(s.high/s.low)
	}
	return round1(s.from + min(max(share, 0), 1)*(s.to-s.from))
}

func round1(x float64) float64 { return math.Round(10*x) / 10 }

// drawn is a chart drawn twice: for a window on a desk, and for a telephone.
func drawn(draw func(width float64) *chart) []*chart { return []*chart{draw(720), draw(350)} }

// newChart is an empty field of a width between values.
func newChart(width float64, label string, lowX, highX, lowY, highY float64) *chart {
	c := &chart{Label: label, Width: width, Height: 336, x: span{lowX, highX, 70, width - 20, false},
		y: span{lowY, highY, 280, 50, false}}
	c.Lines = append(c.Lines, ruler{"grid", c.x.from, c.y.from, c.x.to, c.y.from})
	return c
}

// newPlain is an empty field of a width with plain axes from zero.
func newPlain(width float64, label string, highX, highY float64) *chart {
	c := newChart(width, label, 0, highX, 0, highY)
	c.x.linear, c.y.linear = true, true
	return c
}

// The size of a label's letters, in the chart's units: no letter of a system's font is wider on average.
const letterWidth, letterHeight = 7.2, 15.0

// box is the room that a label takes.
func (p placed) box() (left, top, right, bottom float64) {
	width := letterWidth * float64(runes(p.Text))
	left = p.X - map[string]float64{"start": 0, "middle": width / 2, "end": width}[p.Anchor]
	return left, p.Y - letterHeight + 3, left + width, p.Y + 3
}

func (p placed) meets(q placed) bool {
	l, t, r, b := p.box()
	l2, t2, r2, b2 := q.box()
	return l < r2 && l2 < r && t < b2 && t2 < b
}

// dotRadius is how far a dot reaches.
const dotRadius = 7

// covers says that a label stands on a dot.
func (p placed) covers(d dot) bool {
	l, t, r, b := p.box()
	return d.X+dotRadius > l && d.X-dotRadius < r && d.Y+dotRadius > t && d.Y-dotRadius < b
}

// free says that a label at this place is whole, and stands on nothing.
func (c *chart) free(p placed) bool {
	left, top, right, bottom := p.box()
	free := left >= -0.1 && top >= -0.1 && right <= c.Width+0.1 && bottom <= c.Height+0.1
	for _, q := range c.Texts {
		free = free && !p.meets(q)
	}
	for _, d := range c.Dots {
		free = free && !p.covers(d)
	}
	return free
}

// name writes a dot's name beside it: to the right, or the left, or above or below it.
func (c *chart) name(d dot, text string) {
	for _, p := range []placed{{d.X + 10, d.Y + 4, "start", text}, {d.X - 10, d.Y + 4, "end", text},
		{d.X, d.Y - 12, "middle", text}, {d.X, d.Y + 21, "middle", text}} {
		if c.free(p) {
			p.X, p.Y = round1(p.X), round1(p.Y)
			c.Texts = append(c.Texts, p)
			return
		}
	}
	c.label(d.X, d.Y+21, "middle", text)
}

// label writes a text at a place, moved into the field where it would be cut, and down where another stands; a text
// that finds no room among others is left out, for the tables have it too.
func (c *chart) label(x, y float64, anchor, text string) {
	p := placed{x, y, anchor, text}
	if left, _, right, _ := p.box(); left < 0 {
		p.X -= left
	} else if right > c.Width {
		p.X -= right - c.Width
	}
	p.X, p.Y = round1(p.X), round1(p.Y)
	for range 6 {
		if c.free(p) {
			c.Texts = append(c.Texts, p)
			return
		}
		p.Y += letterHeight
	}
}

// axisX and axisY write values along an axis with lines across the field.
func (c *chart) axisX(title string, values []float64, text func(float64) string) {
	for _, v := range values {
		c.label(c.x.at(v), c.y.from+18, "middle", text(v))
	}
	c.label(c.x.to, c.y.from+51, "end", title)
}

func (c *chart) axisY(title string, values []float64, text func(float64) string) {
	for _, v := range values {
		y := c.y.at(v)
		c.Lines = append(c.Lines, ruler{"grid", c.x.from, y, c.x.to, y})
		c.label(c.x.from-6, min(y+4, c.y.from-1), "end", text(v)) // the lowest stands above the other axis's first
	}
	c.label(0, 14, "start", title)
}

// mark draws a line across the field at a value, with its name on top.
func (c *chart) mark(v float64, name string) {
	x := c.x.at(v)
	c.Lines = append(c.Lines, ruler{"mark", x, c.y.to - 6, x, c.y.from})
	c.label(x, 30, "middle", name)
}

// curve draws points; those that lie on a level with both neighbours are left out.
func (c *chart) curve(class, name string, xs, ys []float64) {
	var points []string
	for i := range xs {
		y := c.y.at(ys[i])
		if i > 0 && i+1 < len(xs) && c.y.at(ys[i-1]) == y && c.y.at(ys[i+1]) == y {
			continue
		}
		points = append(points, fmt.Sprintf("%v,%v", c.x.at(xs[i]), y))
	}
	c.Curves = append(c.Curves, polyline{class, name, strings.Join(points, " ")})
}

// area fills what lies between two curves.
func (c *chart) area(class, name string, xs, below, above []float64) {
	var points []string
	for i := range xs {
		points = append(points, fmt.Sprintf("%v,%v", c.x.at(xs[i]), c.y.at(above[i])))
	}
	for i := len(xs) - 1; i >= 0; i-- {
		points = append(points, fmt.Sprintf("%v,%v", c.x.at(xs[i]), c.y.at(below[i])))
	}
	c.Areas = append(c.Areas, polyline{class, name, strings.Join(points, " ")})
}

// Key is what the colours of the chart mean.
func (c *chart) Key() []polyline {
	return slices.DeleteFunc(slices.Concat(c.Areas, c.Curves), func(p polyline) bool { return p.Name == "" })
}

// even are round values from zero, at most so many steps of them: decimal ones, or powers of two for bytes.
func even(high float64, most int, binary bool) (list []float64) {
	if !(high > 0) {
		return nil
	}
	factors, step := []float64{2, 2.5, 2}, math.Pow(10, math.Floor(math.Log10(high/float64(most))))
	if binary {
		factors, step = []float64{2, 2, 2}, math.Exp2(math.Floor(math.Log2(high/float64(most))))
	}
	for i := 0; high/step > float64(most); i++ {
		step *= factors[i%3]
	}
	for v := 0.0; v <= high*1.0001; v += step {
		list = append(list, v)
	}
	return list
}

// powers are the powers of a base between two values, at most a few.
func powers(base, low, high float64) (list []float64) {
	step := base
	for math.Log(high/low)/math.Log(step) > 10 {
		step *= base
	}
	for v := math.Pow(base, math.Ceil(math.Log(low)/math.Log(base)-1e-9)); v <= high*1.0001; v *= step {
		list = append(list, v)
	}
	return list
}
