package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
)

// Options say how a contest is held.
type Options struct {
	Budget  time.Duration // of the search
	Pairs   int           // timed runs of each contestant, each beside one of the chosen tiles
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

// enter times a contestant beside the chosen tiles. One that takes over a second is paired once only.
func (c *Contest) enter(o Options, flops float64, name, tiles string, chosen, other func()) {
	pairs := max(1, o.Pairs)
	const long = 1.0
	if first := Seconds(other); first > long {
		pairs = 1
	}
	ratio := Compare(pairs, other, chosen)
	c.add(o, Contestant{Name: name, Tiles: tiles, Ratio: ratio, Pairs: pairs}, flops, ratio*c.chosenSeconds())
}

func (c *Contest) add(o Options, e Contestant, flops, seconds float64) {
	e.Seconds, e.GFLOPS = seconds, flops/seconds/1e9
	c.Contestants = append(c.Contestants, e)
	if o.OnStep != nil {
		o.OnStep()
	}
}

func (c *Contest) chosenSeconds() float64 { return c.Contestants[0].Seconds }

// HoldMultiply searches tiles for a product and runs them against the model's own answer, their neighbours, no tiles, and
// the rivals.
func HoldMultiply(v kernel.Variant, model *tiling.CPUTiles, p Product, o Options) Contest {
	found := Multiply(v, model, p, o.Budget)
	contest := Contest{Shape: fmt.Sprintf("sgemm %dx%dx%d", p.M, p.N, p.K), Kernel: v.Name, SearchSeconds: found.Spent.Seconds(),
		Searched: len(found.Timings), Axes: [2]string{"kc", "mc"}}
	a, b, c, space := Filled(p.M, p.K), Filled(p.K, p.N), kernel.NewMatrix(p.M, p.N), &kernel.Workspace{}
	run := func(how kernel.How, t kernel.Blocks) func() {
		return func() { v.Multiply(how, c, a, b, t, space) }
	}
	text := func(t kernel.Blocks) string { return fmt.Sprintf("mc %d, nc %d, kc %d", t.MC, t.NC, t.KC) }
	chosen := run(kernel.Tiled, found.Best)
	chosen()
	contest.add(o, Contestant{Name: "chosen", Tiles: text(found.Best), Ratio: 1, Pairs: max(1, o.Pairs)}, p.FLOPs(), medianSeconds(o.Pairs, chosen))
	if o.Grid {
		best := contest.gridMultiply(o, p, run)
		contest.enter(o, p.FLOPs(), "best of the grid", text(best), chosen, run(kernel.Tiled, best))
	} else {
		for _, t := range found.Timings {
			contest.heat(t.Tiles.KC, t.Tiles.MC, p.FLOPs()/t.Seconds/1e9)
		}
	}
	for _, rival := range o.Product {
		contest.enter(o, p.FLOPs(), rival.Name, "", chosen, func() { rival.Run(c, a, b) })
	}
	analytical := blocksAround(v, model, p)[0]
	contest.enter(o, p.FLOPs(), "model alone", text(analytical), chosen, run(kernel.Tiled, analytical))
	for _, t := range neighbours(found.Best) {
		contest.enter(o, p.FLOPs(), "neighbour", text(t), chosen, run(kernel.Tiled, t))
	}
	contest.enter(o, p.FLOPs(), "untiled", "", chosen, run(kernel.Untiled, kernel.Blocks{}))
	return contest
}

func neighbours(t kernel.Blocks) []kernel.Blocks {
	return []kernel.Blocks{{MC: t.MC, NC: t.NC, KC: t.KC / 2}, {MC: t.MC, NC: t.NC, KC: 2 * t.KC}, {MC: t.MC / 2, NC: t.NC, KC: t.KC}, {MC: 2 * t.MC, NC: t.NC, KC: t.KC}}
}

// gridMultiply times every combination of depths and heights on the whole product.
func (c *Contest) gridMultiply(o Options, p Product, run func(kernel.How, kernel.Blocks) func()) kernel.Blocks {
	best, fastest := kernel.Blocks{}, math.Inf(1)
	seen := map[kernel.Blocks]bool{}
	for _, kc := range []int{64, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024} {
		for _, mc := range []int{24, 48, 96, 144, 192, 264, 348, 516, 768, 1032} {
			t := kernel.Blocks{MC: mc, NC: min(4096, p.N), KC: min(kc, p.K)}
			if seen[t] {
				continue
			}
			seen[t] = true
			seconds := c.point(o, run(kernel.Tiled, t))
			c.heat(kc, mc, p.FLOPs()/seconds/1e9)
			if seconds < fastest {
				best, fastest = t, seconds
			}
		}
	}
	c.GridPoints = len(seen)
	return best
}

// point times one point of a grid: twice where that is quick.
func (c *Contest) point(o Options, f func()) float64 {
	const quick = 0.2
	seconds := Seconds(f)
	if seconds < quick {
		seconds = min(seconds, Seconds(f))
	}
	if o.OnStep != nil {
		o.OnStep()
	}
	return seconds
}

// HoldAttention is [HoldMultiply] for one head of attention. ruleTile is the shared-memory rule's square tile, 0 for none.
func HoldAttention(v kernel.Variant, model tiling.AttentionTiles, s AttentionShape, ruleTile int, o Options) Contest {
	found := Attention(v, model, s, o.Budget)
	contest := Contest{Shape: fmt.Sprintf("attention %dx%d, head_dim %d", s.Queries, s.Keys, s.HeadDim), Kernel: v.Name,
		SearchSeconds: found.Spent.Seconds(), Searched: len(found.Timings), Axes: [2]string{"block_kv", "block_q"}}
	q, k, val, out := Filled(s.Queries, s.HeadDim), Filled(s.Keys, s.HeadDim), Filled(s.Keys, s.HeadDim), kernel.NewMatrix(s.Queries, s.HeadDim)
	space := &kernel.Workspace{}
	run := func(how kernel.How, t kernel.AttentionBlocks) func() {
		return func() { v.Attention(how, out, q, k, val, t, space) }
	}
	text := func(t kernel.AttentionBlocks) string {
		return fmt.Sprintf("block_q %d, block_kv %d", t.Queries, t.Keys)
	}
	chosen := run(kernel.Tiled, found.Best)
	chosen()
	contest.add(o, Contestant{Name: "chosen", Tiles: text(found.Best), Ratio: 1, Pairs: max(1, o.Pairs)}, s.FLOPs(), medianSeconds(o.Pairs, chosen))
	if o.Grid {
		best := contest.gridAttention(o, s, run)
		contest.enter(o, s.FLOPs(), "best of the grid", text(best), chosen, run(kernel.Tiled, best))
	} else {
		for _, t := range found.Timings {
			contest.heat(t.Tiles.Keys, t.Tiles.Queries, s.FLOPs()/t.Seconds/1e9)
		}
	}
	tiled := func(name string, t kernel.AttentionBlocks) {
		contest.enter(o, s.FLOPs(), name, text(t), chosen, run(kernel.Tiled, t))
	}
	tiled("model alone", attentionAround(v, model, s)[0])
	if ruleTile > 0 {
		tiled("rule", kernel.AttentionBlocks{Queries: ruleTile, Keys: ruleTile})
	}
	b := found.Best
	for _, t := range []kernel.AttentionBlocks{{Queries: b.Queries / 2, Keys: b.Keys}, {Queries: 2 * b.Queries, Keys: b.Keys}, {Queries: b.Queries, Keys: b.Keys / 2}, {Queries: b.Queries, Keys: 2 * b.Keys}} {
		tiled("neighbour", t)
	}
	contest.enter(o, s.FLOPs(), "untiled, vectorised", "", chosen, run(kernel.Untiled, b))
	contest.enter(o, s.FLOPs(), "untiled loop", "", chosen, run(kernel.Loop, b))
	return contest
}

// gridAttention times every combination of block sizes on the whole head.
func (c *Contest) gridAttention(o Options, s AttentionShape, run func(kernel.How, kernel.AttentionBlocks) func()) kernel.AttentionBlocks {
	best, fastest := kernel.AttentionBlocks{}, math.Inf(1)
	for _, kv := range []int{32, 64, 96, 128, 160, 192, 256, 320, 384, 512, 1024} {
		for _, q := range []int{12, 24, 36, 48, 72, 96, 120, 180, 264, 384} {
			t := kernel.AttentionBlocks{Queries: min(q, s.Queries), Keys: min(kv, s.Keys)}
			c.GridPoints++
			seconds := c.point(o, run(kernel.Tiled, t))
			c.heat(kv, q, s.FLOPs()/seconds/1e9)
			if seconds < fastest {
				best, fastest = t, seconds
			}
		}
	}
	return best
}

func medianSeconds(n int, f func()) float64 {
	var list []float64
	for range max(1, n) {
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
