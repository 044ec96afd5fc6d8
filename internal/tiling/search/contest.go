package search

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
)

// Options say how a contest is held.
type Options struct {
	Budget  time.Duration // of the search
	Pairs   int           // timed runs of each contestant, each beside one of the chosen tiles; at least 1
	Grid    bool          // time an exhaustive grid too and let its best compete
	OnStep  func()        // called after each timed contestant or point
	Product []Rival       // for matrix products
}

// Rival is another way to multiply.
type Rival struct {
	Name string
	Run  func(c, a, b kernel.Matrix)
}

// Contest is the chosen tiles of one shape against everything else.
type Contest struct {
	Shape         string         `json:"shape" yaml:"shape"`
	Kernel        string         `json:"kernel" yaml:"kernel"`
	SearchSeconds float64        `json:"search_seconds" yaml:"search_seconds"`
	Searched      int            `json:"searched" yaml:"searched"` // candidates
	Contestants   []Contestant   `json:"contestants" yaml:"contestants"`
	GridPoints    int            `json:"grid_points,omitempty" yaml:"grid_points,omitempty"`
	Heat          []Point        `json:"heat" yaml:"heat"` // of the grid where there is one, else of the search
	Axes          [2]string      `json:"axes" yaml:"axes"`
	points        map[[2]int]int // into Heat
}

// Contestant is one way to do the work. Seconds are medians of processor time on one thread.
type Contestant struct {
	Name    string  `json:"name" yaml:"name"`
	Tiles   string  `json:"tiles,omitempty" yaml:"tiles,omitempty"`
	Seconds float64 `json:"seconds" yaml:"seconds"`
	GFLOPS  float64 `json:"gflops_per_s" yaml:"gflops_per_s"`
	// Ratio is its time over that of the chosen tiles: the median of pairs run one after the other.
	Ratio float64 `json:"ratio" yaml:"ratio"`
	Pairs int     `json:"pairs" yaml:"pairs"`
}

// Point is one place of the heat map: two tile sizes and the best speed seen there.
type Point struct {
	Row    int     `json:"row" yaml:"row"`
	Column int     `json:"column" yaml:"column"`
	GFLOPS float64 `json:"gflops_per_s" yaml:"gflops_per_s"`
}

// heat keeps the best speed at a place.
func (c *Contest) heat(row, column int, gflops float64) {
	if c.points == nil {
		c.points = map[[2]int]int{}
	}
	i, ok := c.points[[2]int{row, column}]
	if !ok {
		i = len(c.Heat)
		c.points[[2]int{row, column}] = i
		c.Heat = append(c.Heat, Point{Row: row, Column: column})
	}
	c.Heat[i].GFLOPS = max(c.Heat[i].GFLOPS, gflops)
}

// ring is a contest under way: how to run the kernel with given tiles, and the chosen ones to run beside.
type ring[T any] struct {
	Contest
	options Options
	flops   float64
	run     func(kernel.How, T) func()
	text    func(T) string
	chosen  func()
}

// newRing lets the chosen tiles run first.
func newRing[T any](o Options, shape string, v kernel.Variant, flops float64, found Found[T],
	run func(kernel.How, T) func(), text func(T) string) *ring[T] {
	r := &ring[T]{options: o, flops: flops, run: run, text: text, chosen: run(kernel.Tiled, found.Best)}
	r.Contest = Contest{Shape: shape, Kernel: v.Name, SearchSeconds: found.Spent.Seconds(), Searched: len(found.Timings)}
	r.chosen()
	r.add(Contestant{Name: "chosen", Tiles: text(found.Best), Ratio: 1, Pairs: o.Pairs}, medianSeconds(o.Pairs, r.chosen))
	return r
}

// enter times a contestant beside the chosen tiles. One that takes over a second is paired once only.
func (r *ring[T]) enter(name, tiles string, other func()) {
	const long = 1.0
	first := Seconds(other)
	c := Contestant{Name: name, Tiles: tiles, Ratio: first / Seconds(r.chosen), Pairs: 1}
	if first <= long {
		c.Ratio, c.Pairs = Compare(r.options.Pairs, other, r.chosen), r.options.Pairs
	}
	r.add(c, c.Ratio*r.Contestants[0].Seconds)
}

func (r *ring[T]) tiled(name string, t T) { r.enter(name, r.text(t), r.run(kernel.Tiled, t)) }

func (r *ring[T]) add(c Contestant, seconds float64) {
	c.Seconds, c.GFLOPS = seconds, r.flops/seconds/1e9
	r.Contestants = append(r.Contestants, c)
	r.step()
}

func (r *ring[T]) step() {
	if r.options.OnStep != nil {
		r.options.OnStep()
	}
}

// HoldMultiply searches tiles for a product and runs them against the model's own answer, their neighbours, no tiles,
// and the rivals.
func HoldMultiply(v kernel.Variant, model *tiling.CPUTiles, p Product, o Options) Contest {
	found := Multiply(v, model, p, o.Budget)
	a, b, c, space := Filled(p.M, p.K), Filled(p.K, p.N), kernel.NewMatrix(p.M, p.N), &kernel.Workspace{}
	columns := func(how kernel.How, t kernel.Blocks, n int) func() {
		return func() { v.Multiply(how, view(c, p.M, n), a, view(b, p.K, n), t, space) }
	}
	run := func(how kernel.How, t kernel.Blocks) func() { return columns(how, t, p.N) }
	text := func(t kernel.Blocks) string { return fmt.Sprintf("mc %d, nc %d, kc %d", t.MC, t.NC, t.KC) }
	r := newRing(o, fmt.Sprintf("sgemm %dx%dx%d", p.M, p.N, p.K), v, p.FLOPs(), found, run, text)
	r.Axes = [2]string{"kc", "mc"}
	if o.Grid {
		r.tiled("best of the grid", r.race(productGrid(p,
			func(t kernel.Blocks) func() { return columns(kernel.Tiled, t, t.NC) })))
	} else {
		for _, t := range found.Timings {
			r.heat(t.Tiles.KC, t.Tiles.MC, p.FLOPs()/t.Seconds/1e9)
		}
	}
	for _, rival := range o.Product {
		r.enter(rival.Name, "", func() { rival.Run(c, a, b) })
	}
	r.tiled("model alone", blocksAround(v, model, p)[0])
	for _, t := range neighbours(v, found.Best, p) {
		r.tiled("neighbour", t)
	}
	r.enter("untiled", "", run(kernel.Untiled, kernel.Blocks{}))
	return r.Contest
}

// neighbours have half or twice the depth or the height, within the product and in whole register tiles.
func neighbours(v kernel.Variant, t kernel.Blocks, p Product) []kernel.Blocks {
	var list []kernel.Blocks
	for _, n := range []kernel.Blocks{{MC: t.MC, KC: t.KC / 2}, {MC: t.MC, KC: 2 * t.KC}, {MC: t.MC / 2, KC: t.KC},
		{MC: 2 * t.MC, KC: t.KC}} {
		n = kernel.Blocks{MC: evened(p.M, n.MC, v.MR), NC: t.NC, KC: evened(p.K, n.KC, 1)}
		if n != t && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// HoldAttention is [HoldMultiply] for one head of attention. ruleTile is the shared-memory rule's square tile, 0 for
// none.
func HoldAttention(v kernel.Variant, model tiling.AttentionTiles, s AttentionShape, ruleTile int, o Options) Contest {
	found := Attention(v, model, s, o.Budget)
	q, k, val, out := Filled(s.Queries, s.HeadDim), Filled(s.Keys, s.HeadDim), Filled(s.Keys, s.HeadDim),
		kernel.NewMatrix(s.Queries, s.HeadDim)
	space := &kernel.Workspace{}
	run := func(how kernel.How, t kernel.AttentionBlocks) func() {
		return func() { v.Attention(how, out, q, k, val, t, space) }
	}
	text := func(t kernel.AttentionBlocks) string {
		return fmt.Sprintf("block_q %d, block_kv %d", t.Queries, t.Keys)
	}
	r := newRing(o, fmt.Sprintf("attention %dx%d, head_dim %d", s.Queries, s.Keys, s.HeadDim), v, s.FLOPs(), found, run,
		text)
	r.Axes = [2]string{"block_kv", "block_q"}
	if o.Grid {
		r.tiled("best of the grid", r.race(attentionGrid(s,
			func(t kernel.AttentionBlocks) func() { return run(kernel.Tiled, t) })))
	} else {
		for _, t := range found.Timings {
			r.heat(t.Tiles.Keys, t.Tiles.Queries, s.FLOPs()/t.Seconds/1e9)
		}
	}
	r.tiled("model alone", attentionAround(v, model, s)[0])
	if ruleTile > 0 {
		r.tiled("rule", kernel.AttentionBlocks{Queries: ruleTile, Keys: ruleTile})
	}
	for _, t := range attentionNeighbours(v, found.Best, s) {
		r.tiled("neighbour", t)
	}
	r.enter("untiled, vectorised", "", run(kernel.Untiled, found.Best))
	r.enter("untiled loop", "", run(kernel.Loop, found.Best))
	return r.Contest
}

// attentionNeighbours have half or twice the queries or the keys, as [neighbours].
func attentionNeighbours(v kernel.Variant, t kernel.AttentionBlocks, s AttentionShape) []kernel.AttentionBlocks {
	var list []kernel.AttentionBlocks
	for _, n := range []kernel.AttentionBlocks{{Queries: t.Queries / 2, Keys: t.Keys},
		{Queries: 2 * t.Queries, Keys: t.Keys}, {Queries: t.Queries, Keys: t.Keys / 2},
		{Queries: t.Queries, Keys: 2 * t.Keys}} {
		n = kernel.AttentionBlocks{Queries: evened(s.Queries, n.Queries, v.MR), Keys: evened(s.Keys, n.Keys, v.NR)}
		if n != t && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

func medianSeconds(n int, f func()) float64 {
	var list []float64
	for range n {
		list = append(list, Seconds(f))
	}
	return median(list)
}

// Compare times two ways to do the same in turn, pairs times, and returns the median of first's time over second's.
func Compare(pairs int, first, second func()) float64 {
	var ratios []float64
	for range pairs {
		f, s := Seconds(first), Seconds(second)
		ratios = append(ratios, f/s)
	}
	return median(ratios)
}

func median(list []float64) float64 {
	slices.SortFunc(list, cmp.Compare[float64])
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}
