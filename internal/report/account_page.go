package report

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/terminal"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/internal/units"
)

// icicleDrawing draws an icicle.
//
//go:embed page/icicle.js
var icicleDrawing string

// Page writes the explanation as one HTML file. What a recording calls its functions is text on it, never markup.
func (e Explanation) Page(w io.Writer, about About) error {
	l := leaf{Title: "vlmem explain: " + e.File, Tree: treeOf(e.Stacks)}
	l.Verdict, l.Tone = e.standing()
	conf := "not recorded or the default"
	if e.AllocConf != "" {
		conf = e.AllocConf
	}
	l.About = []Pair{{"recording", e.Format}, {"settings", conf}}
	var names []string
	for i := range e.Devices {
		names = append(names, e.Devices[i].Name)
		l.Sections = append(l.Sections, deviceSections(&e.Devices[i])...)
	}
	l.Sections = append(append(l.Sections, e.heldSection(l.Tree.Bytes)), e.grownSections()...)
	return l.write(w, about, strings.Join(names, ", "))
}

// standing is the explanation in a sentence: what was refused, or else what was live of what was reserved.
func (e Explanation) standing() (text, tone string) {
	var words []string
	tone = toneName(terminal.Good)
	for i := range e.Devices {
		d := &e.Devices[i]
		switch n := len(d.OOMs); {
		case n > 0:
			tone = toneName(terminal.Bad)
			words = append(words, fmt.Sprintf("%s refused %s, the first for %s", d.Name, count(n, "request"),
				units.Bytes(d.OOMs[0].Requested)))
		case d.HasHistory && d.PeakLive != nil:
			words = append(words, fmt.Sprintf("%s refused no request, %s live at the peak", d.Name, units.Bytes(*d.PeakLive)))
		default:
			words = append(words, fmt.Sprintf("%s holds %s", d.Name, units.Bytes(d.Live)))
		}
	}
	if !e.HasHistory && tone != toneName(terminal.Bad) {
		tone = ""
	}
	return strings.Join(words, "; "), tone
}

// deviceSections are the account of one device, its memory over time, and where the gaps were when it ran out.
func deviceSections(d *account.Device) []leafSection {
	s := leafSection{Title: d.Name, Text: strings.Join(deviceWords(d), " "), Rows: accountRows(d)}
	for _, c := range accountColumns {
		s.Columns = append(s.Columns, strings.ToLower(c))
	}
	if !d.SumsAlone {
		if d.Peak != nil {
			s.Bars = append(s.Bars, shareRows("peak", d.Peak.Account)...)
		}
		if len(d.OOMs) > 0 {
			s.Bars = append(s.Bars, shareRows("refusal", d.OOMs[0].Account)...)
		}
		s.Bars = append(s.Bars, shareRows("end", d.Account)...)
	}
	list := []leafSection{s}
	if len(d.Curve) > 1 {
		list = append(list, leafSection{Title: d.Name + " over time", Charts: drawn(func(width float64) *chart {
			return timeChart(width, d.Curve)
		})})
	}
	if len(d.OOMs) > 0 && len(d.OOMs[0].Map) > 0 {
		m := leafSection{Title: "Segments with most free memory at the refused request", Mono: true,
			Columns: []string{"segment", "largest gap", "# live, + partly, . free"}}
		for _, x := range d.OOMs[0].Map {
			m.Rows = append(m.Rows, []string{units.Bytes(x.Total).String(), units.Bytes(x.LargestFree).String(), x.Drawing})
		}
		list = append(list, m)
	}
	return list
}

// shareRows lay the parts of what is reserved at a moment one behind the other; parts that are empty are left out.
func shareRows(moment string, a account.Account) (rows []barRow) {
	var at int64
	for _, part := range []struct {
		class, name string
		bytes       int64
	}{{"a", "live", a.Live}, {"d", "rounding", a.Rounding}, {"c", "cached", a.Cached}, {"b", "stranded", a.Stranded}} {
		if part.bytes > 0 {
			rows = append(rows, barRow{Label: moment + ": " + part.name, Class: part.class,
				Value: units.Bytes(part.bytes).String() + ", " + share100(part.bytes, a.Reserved),
				From:  percent(float64(at), float64(a.Reserved)), Width: percent(float64(part.bytes), float64(a.Reserved))})
		}
		at += part.bytes
	}
	return rows
}

// timeChart is a device's live and reserved memory over the entries of its recording.
func timeChart(width float64, curve []snapshot.Sum) *chart {
	var xs, live, reserved []float64
	last, most := 1.0, 1.0
	for _, p := range curve {
		xs, live = append(xs, float64(p.Event)), append(live, float64(p.Live))
		reserved = append(reserved, float64(p.Reserved))
		last, most = max(last, float64(p.Event)), max(most, float64(p.Live), float64(p.Reserved))
	}
	c := newPlain(width, "Live and reserved memory over the entries of the recording", last, most*1.02)
	c.axisX("entry", even(last, int(width/90), false), func(v float64) string { return units.Grouped(int64(v)) })
	c.axisY("bytes", even(most, 6, true), func(v float64) string { return units.Bytes(v).String() })
	c.area("live", "live", xs, make([]float64, len(xs)), live)
	c.curve("b", "reserved", xs, reserved)
	return c
}

// heldSection is what lived at the chosen moment, by the stacks that asked for it.
func (e Explanation) heldSection(total int64) leafSection {
	shown := e.Stacks[:min(len(e.Stacks), e.Top)]
	s := leafSection{Title: fmt.Sprintf("What lived at the %s: %s", e.At, units.Bytes(total)), Icicle: true,
		Columns: []string{"site", "bytes", "blocks", "share"},
		Text: fmt.Sprintf("Outermost frame on top, each as wide as what it holds. A click, or Enter on a frame, makes it "+
			"the whole width; Escape goes back. Arrow keys move between frames. The table has %d of %d stacks, by their "+
			"innermost line.", len(shown), len(e.Stacks))}
	for _, h := range shown {
		s.Rows = append(s.Rows, []string{h.Name, units.Bytes(h.Bytes).String(), units.Grouped(h.Blocks),
			share100(h.Bytes, total)})
	}
	return s
}

// grownSections are what each step leaves behind.
func (e Explanation) grownSections() (list []leafSection) {
	for _, g := range e.Growth {
		s := leafSection{Title: "What grows on " + deviceName(g.Device), Text: growthWords(g),
			Columns: []string{"site", "a step", "steps"}}
		for _, x := range g.Leaks[:min(len(g.Leaks), e.Top)] {
			s.Rows = append(s.Rows, []string{x.Name, units.Bytes(x.PerStep).String(), fmt.Sprintf("%d of %d", x.Steps, g.Steps)})
		}
		list = append(list, s)
	}
	return list
}

// node is a frame of the icicle with what it holds, in few letters: pages hold thousands.
type node struct {
	Name     string  `json:"n"`
	Bytes    int64   `json:"v"`
	Children []*node `json:"c,omitempty"`
}

// maxNodes bounds the frames of a page; smaller stacks than those that fit are one.
const maxNodes = 20_000

// treeOf joins stacks, the largest first, from their outermost frames on.
func treeOf(stacks []account.Holder) *node {
	root := &node{Name: "all"}
	total := 0
	for _, h := range stacks {
		at := root
		at.Bytes += h.Bytes
		frames := h.Frames
		switch {
		case total >= maxNodes:
			frames = []string{"(smaller stacks)"}
		case len(frames) == 0:
			frames = []string{h.Name}
		}
		for _, name := range slices.Backward(frames) {
			at = at.child(name, &total)
			at.Bytes += h.Bytes
		}
	}
	return root
}

func (n *node) child(name string, total *int) *node {
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	c := &node{Name: name}
	n.Children = append(n.Children, c)
	*total++
	return c
}
