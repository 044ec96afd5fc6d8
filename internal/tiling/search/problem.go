package search

import (
	"math"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
)

// Product is a matrix product to find tiles for: C (M x N) = A (M x K) · B (K x N).
type Product struct{ M, N, K int }

// FLOPs counts a multiplication and an addition each.
func (p Product) FLOPs() float64 { return 2 * float64(p.M) * float64(p.N) * float64(p.K) }

// Filled is a matrix of varied numbers between -1 and 1.
func Filled(rows, columns int) kernel.Matrix {
	m := kernel.NewMatrix(rows, columns)
	x := uint32(1)
	for i := range m.Data {
		x = x*1664525 + 1013904223
		m.Data[i] = float32(int32(x)) / (1 << 31)
	}
	return m
}

// What one timed run is sized to take: long enough that packing is the small part that it is of the whole.
const (
	productRun   = 30 * time.Millisecond
	attentionRun = 10 * time.Millisecond
)

// warmUp is how long a processor may need to reach its speed.
const warmUp = 20 * time.Millisecond

// within is how many FLOPs the register kernel does in d, from a small product whose operands stay in cache.
func within(d time.Duration, v kernel.Variant) float64 {
	sample := Product{40 * v.MR, 256, 512}
	a, b, c, space := Filled(sample.M, sample.K), Filled(sample.K, sample.N), kernel.NewMatrix(sample.M, sample.N),
		&kernel.Workspace{}
	fastest := math.Inf(1)
	for elapsed, runs := stopwatch(), 0; runs < 3 || elapsed() < warmUp; runs++ {
		fastest = min(fastest, Seconds(func() {
			v.Multiply(kernel.Tiled, c, a, b, kernel.Blocks{MC: sample.M, NC: sample.N, KC: sample.K}, space)
		}))
	}
	return sample.FLOPs() / fastest * d.Seconds()
}

// The part of a product that is timed: all of one that is small enough; of a larger one a block of A, two passes over
// C, or all there is, and columns until both C and the panel of B outgrow L2, as they do in the whole: else passes over
// C look free and shallow blocks look good. Where even that is too much, as it is for the kernels in Go, fewer rows and
// then columns.
const (
	partRows    = 192
	partColumns = 2048
	partPasses  = 2
)

func (p Product) part(v kernel.Variant, b kernel.Blocks, flops float64) Product {
	if p.FLOPs() <= flops {
		return p
	}
	part := Product{min(p.M, b.MC*max(1, partRows/b.MC)), min(p.N, partColumns), min(p.K, partPasses*b.KC)}
	part.M = cut(part.M, v.MR, flops*partSlack/part.FLOPs())
	part.N = cut(part.N, v.NR, flops*partSlack/part.FLOPs())
	return part
}

// partSlack is by how much a part may exceed its time before it is cut: blocks are worth more whole.
const partSlack = 1.5

// cut is the share of n that is allowed, in whole units and never less than one.
func cut(n, unit int, share float64) int {
	if share >= 1 {
		return n
	}
	return min(n, max(1, int(share*float64(n)/float64(unit)))*unit)
}

// Multiply searches the blocks of a product around the model's. Candidates are compared by time per multiplication,
// each on a part of the product that suits its blocks.
func Multiply(v kernel.Variant, model *tiling.CPUTiles, p Product, budget time.Duration) Found[kernel.Blocks] {
	elapsed := stopwatch()
	candidates, flops := blocksAround(v, model, p), within(productRun, v)
	var largest Product
	for _, b := range candidates {
		part := p.part(v, b, flops)
		largest = Product{max(largest.M, part.M), max(largest.N, part.N), max(largest.K, part.K)}
	}
	// Views of the whole rows, so that the stride is the part's largest and not a power of two by accident of the blocks.
	a, b, c := Filled(largest.M, largest.K), Filled(largest.K, largest.N), kernel.NewMatrix(largest.M, largest.N)
	space := &kernel.Workspace{}
	found := halve(candidates, budget, elapsed, func(t kernel.Blocks) float64 {
		part := p.part(v, t, flops)
		seconds := Seconds(func() {
			v.Multiply(kernel.Tiled, view(c, part.M, part.N), view(a, part.M, part.K), view(b, part.K, part.N), t, space)
		})
		return seconds / part.FLOPs() * p.FLOPs()
	})
	for _, t := range found.Timings {
		if t.Seconds <= sameSpeed*found.Timings[0].Seconds && t.Tiles.KC > found.Best.KC {
			found.Best = t.Tiles
		}
	}
	return found
}

// sameSpeed is what the parts cannot tell apart: among those the deepest blocks are taken, since the whole passes over
// more of C than a part and gains more by passing less often.
const sameSpeed = 1.02

func view(m kernel.Matrix, rows, columns int) kernel.Matrix {
	return kernel.Matrix{Rows: rows, Columns: columns, Stride: m.Stride, Data: m.Data}
}

// blocksAround lists the model's blocks first and then its answers for other depths, from half to eight times its own:
// the equations charge L1 with whole micropanels of A, which in truth stream through. A depth is an even part of K, so
// that no pass is short; mc is the equations' and, since B in L2 is worth as much, four register tiles. Few enough
// candidates that each can be timed more than once matters more than their closeness: speed is flat around its best.
func blocksAround(v kernel.Variant, model *tiling.CPUTiles, p Product) []kernel.Blocks {
	var list []kernel.Blocks
	add := func(g tiling.SGEMMTiles, mc int) {
		// Evened: as many blocks as the tile makes, all of one size.
		b := kernel.Blocks{MC: evened(p.M, mc, v.MR), NC: evened(p.N, g.NC, v.NR), KC: min(g.KC, p.K)}
		if !slices.Contains(list, b) {
			list = append(list, b)
		}
	}
	chosen := model.SGEMM
	add(chosen, chosen.MC)
	for _, times := range []float64{0.5, 0.87, 1.5, 2.6, 4.6, 8} {
		g := model.Deeper(v, evened(p.K, int(times*float64(chosen.KC)), 1))
		for _, mc := range []int{g.MC, 4 * v.MR} {
			add(g, mc)
		}
	}
	return list
}

// evened is the tile of which as many cover n as of the given one, but of one size; a multiple of unit.
func evened(n, tile, unit int) int {
	tile = max(unit, tile)
	pieces := (n + tile - 1) / tile
	even := (n + pieces - 1) / pieces
	return (even + unit - 1) / unit * unit
}

// AttentionShape is one head of attention to find tiles for.
type AttentionShape struct{ Queries, Keys, HeadDim int }

// FLOPs counts the two matrix products.
func (s AttentionShape) FLOPs() float64 {
	return 4 * float64(s.Queries) * float64(s.Keys) * float64(s.HeadDim)
}

// part is what of one head is timed: whole blocks of its queries, and where one block passes too many keys, fewer of
// those.
func (s AttentionShape) part(t kernel.AttentionBlocks, flops float64) AttentionShape {
	perQuery := s.FLOPs() / float64(s.Queries)
	blocks := max(1, int(math.Round(flops/perQuery/float64(t.Queries))))
	s.Queries = min(s.Queries, blocks*t.Queries)
	s.Keys = cut(s.Keys, t.Keys, flops*keysSlack/s.FLOPs())
	return s
}

// keysSlack is by how much a block of queries may exceed its time before it meets fewer keys.
const keysSlack = 4

// Attention searches the blocks of one head around the model's.
func Attention(v kernel.Variant, model tiling.AttentionTiles, s AttentionShape,
	budget time.Duration) Found[kernel.AttentionBlocks] {
	elapsed := stopwatch()
	candidates, flops := attentionAround(v, model, s), within(attentionRun, v)
	largest := AttentionShape{HeadDim: s.HeadDim}
	for _, t := range candidates {
		part := s.part(t, flops)
		largest.Queries, largest.Keys = max(largest.Queries, part.Queries), max(largest.Keys, part.Keys)
	}
	q, o := Filled(largest.Queries, s.HeadDim), kernel.NewMatrix(largest.Queries, s.HeadDim)
	k, val := Filled(largest.Keys, s.HeadDim), Filled(largest.Keys, s.HeadDim)
	space := &kernel.Workspace{}
	return halve(candidates, budget, elapsed, func(t kernel.AttentionBlocks) float64 {
		part := s.part(t, flops)
		rows := func(m kernel.Matrix, n int) kernel.Matrix { return view(m, n, s.HeadDim) }
		seconds := Seconds(func() {
			v.Attention(kernel.Tiled, rows(o, part.Queries), rows(q, part.Queries), rows(k, part.Keys), rows(val, part.Keys), t,
				space)
		})
		return seconds / part.FLOPs() * s.FLOPs()
	})
}

// attentionAround lists the model's blocks first, then smaller and larger ones in even parts of the problem.
func attentionAround(v kernel.Variant, model tiling.AttentionTiles, s AttentionShape) []kernel.AttentionBlocks {
	list := []kernel.AttentionBlocks{{Queries: evened(s.Queries, model.BlockQ, v.MR),
		Keys: evened(s.Keys, model.BlockKV, v.NR)}}
	for _, kv := range []int{1, 2, 4, 6, 10} {
		for _, q := range []int{1, 2, 4, 8, 16} {
			b := kernel.AttentionBlocks{Queries: evened(s.Queries, model.BlockQ/q, v.MR),
				Keys: evened(s.Keys, model.BlockKV*kv/2, v.NR)}
			if !slices.Contains(list, b) {
				list = append(list, b)
			}
		}
	}
	return list
}
