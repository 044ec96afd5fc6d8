package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/units"
)

// The page of an explanation and the script that draws its icicle.
var (
	//go:embed page/account.html
	accountTemplate string
	//go:embed page/account.js
	accountDrawing string
)

// page writes the explanation as one HTML file that asks the network for nothing and reads without JavaScript. What a
// recording calls its functions is text on it, never markup.
func (e Explanation) page(w io.Writer) error {
	t, err := template.New("account").Parse(accountTemplate)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	return t.Execute(w, e.pageView())
}

type accountView struct {
	Title, Format, Settings, At, Total string
	Columns                            []string
	Devices                            []accountDevice
	Shown, All                         int
	Holders                            []holderRow
	Growth                             []growthView
	Tree                               *node
	Drawing                            template.JS
}

type (
	accountDevice struct {
		Name   string
		Words  []string
		Shares []shareBar
		Rows   [][]string
		Curve  *curveView
		Map    []mapRow
	}
	shareBar struct {
		Label string
		Parts []sharePart
	}
	sharePart struct {
		Class string
		Width float64
	}
	curveView struct {
		Events, Top, Live, Reserved string
	}
	mapRow     struct{ Total, Gap, Drawing string }
	holderRow  struct{ Bytes, Blocks, Share, Name string }
	growthView struct {
		Text string
		Rows []growthRow
	}
	growthRow struct{ PerStep, Steps, Name string }
)

func (e Explanation) pageView() accountView {
	v := accountView{Title: e.File, Format: e.Format, Settings: "settings not recorded or the default", At: e.At,
		Columns: accountColumns, Tree: treeOf(e.Stacks), Drawing: template.JS(accountDrawing)}
	if e.AllocConf != "" {
		v.Settings = "settings " + e.AllocConf
	}
	for i := range e.Devices {
		v.Devices = append(v.Devices, deviceView(&e.Devices[i]))
	}
	v.Total, v.All = units.Bytes(v.Tree.Bytes).String(), len(e.Stacks)
	for _, h := range e.Stacks[:min(len(e.Stacks), e.Top)] {
		v.Holders = append(v.Holders, holderRow{units.Bytes(h.Bytes).String(), units.Grouped(h.Blocks),
			share100(h.Bytes, v.Tree.Bytes), h.Name})
	}
	v.Shown = len(v.Holders)
	for _, g := range e.Growth {
		view := growthView{Text: growthWords(g)}
		for _, l := range g.Leaks[:min(len(g.Leaks), e.Top)] {
			view.Rows = append(view.Rows, growthRow{units.Bytes(l.PerStep).String(),
				fmt.Sprintf("%d of %d", l.Steps, g.Steps), l.Name})
		}
		v.Growth = append(v.Growth, view)
	}
	return v
}

func deviceView(d *account.Device) accountDevice {
	v := accountDevice{Name: d.Name, Words: deviceWords(d), Rows: accountRows(d)}
	if d.Peak != nil && !d.SumsAlone {
		v.Shares = append(v.Shares, shareOf("At the peak", d.Peak.Account))
	}
	for i := range d.OOMs[:min(len(d.OOMs), 1)] {
		v.Shares = append(v.Shares, shareOf("When the request was refused", d.OOMs[i].Account))
		for _, s := range d.OOMs[i].Map {
			v.Map = append(v.Map, mapRow{units.Bytes(s.Total).String(), units.Bytes(s.LargestFree).String(), s.Drawing})
		}
	}
	if !d.SumsAlone {
		v.Shares = append(v.Shares, shareOf("At the end", d.Account))
	}
	v.Curve = curveOf(d)
	return v
}

// shareOf is the four parts of what is reserved.
func shareOf(moment string, a account.Account) shareBar {
	b := shareBar{Label: fmt.Sprintf("%s %v: %v live, %v rounding, %v cached, %v stranded", moment,
		units.Bytes(a.Reserved),
		units.Bytes(a.Live), units.Bytes(a.Rounding), units.Bytes(a.Cached), units.Bytes(a.Stranded))}
	for _, part := range []struct {
		class string
		bytes int64
	}{{"live", a.Live}, {"rounding", a.Rounding}, {"cached", a.Cached}, {"stranded", a.Stranded}} {
		if part.bytes > 0 {
			b.Parts = append(b.Parts, sharePart{part.class, 100 * float64(part.bytes) / float64(a.Reserved)})
		}
	}
	return b
}

// curveOf is the device's memory over time in a field of 1000 by 220.
func curveOf(d *account.Device) *curveView {
	if len(d.Curve) < 2 {
		return nil
	}
	top := int64(1)
	for _, p := range d.Curve {
		top = max(top, p.Live, p.Reserved)
	}
	last := d.Curve[len(d.Curve)-1].Event
	var live, reserved strings.Builder
	for _, p := range d.Curve {
		x := 1000 * float64(p.Event) / float64(max(last, 1))
		fmt.Fprintf(&live, "%.1f,%.1f ", x, 218-215*float64(p.Live)/float64(top))
		fmt.Fprintf(&reserved, "%.1f,%.1f ", x, 218-215*float64(p.Reserved)/float64(top))
	}
	return &curveView{units.Grouped(int64(last)), units.Bytes(top).String(), live.String(), reserved.String()}
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
	count := 0
	for _, h := range stacks {
		at := root
		at.Bytes += h.Bytes
		frames := h.Frames
		switch {
		case count >= maxNodes:
			frames = []string{"(smaller stacks)"}
		case len(frames) == 0:
			frames = []string{h.Name}
		}
		for i := len(frames) - 1; i >= 0; i-- {
			at = at.child(frames[i], &count)
			at.Bytes += h.Bytes
		}
	}
	return root
}

func (n *node) child(name string, count *int) *node {
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	c := &node{Name: name}
	n.Children = append(n.Children, c)
	*count++
	return c
}
