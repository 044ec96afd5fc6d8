package search

import (
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

// The part of a product that is timed: all of one that takes tens of milliseconds; of a larger one a block of A, two passes over C, or all there is, and columns until both C and the
// panel of B outgrow L2, as they do in the whole: else passes over C look free and shallow blocks look good.
const (
	partRows    = 192
	partColumns = 2048
	partPasses  = 2
	wholeFLOPs  = 2.5e9
)

func (p Product) part(b kernel.Blocks) Product {
	if p.FLOPs() <= wholeFLOPs {
		return p
	}
	return Product{min(p.M, b.MC*max(1, partRows/b.MC)), min(p.N, partColumns), min(p.K, partPasses*b.KC)}
}

// Multiply searches the blocks of a product around the model's. Candidates are compared by time per multiplication, each on
// a part of the product that suits its blocks.
func Multiply(v kernel.Variant, model *tiling.CPUTiles, p Product, budget time.Duration) Found[kernel.Blocks] {
	start := time.Now()
	candidates := blocksAround(v, model, p)
	var largest Product
	for _, b := range candidates {
		part := p.part(b)
		largest = Product{max(largest.M, part.M), max(largest.N, part.N), max(largest.K, part.K)}
	}
	// Views of the whole rows, so that the stride is the part's largest and not a power of two by accident of the blocks.
	a, b, c := Filled(largest.M, largest.K), Filled(largest.K, largest.N), kernel.NewMatrix(largest.M, largest.N)
	space := &kernel.Workspace{}
	found := halve(candidates, budget-time.Since(start), func(t kernel.Blocks) float64 {
		part := p.part(t)
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
	found.Spent = time.Since(start)
	return found
}

// sameSpeed is what the parts cannot tell apart: among those the deepest blocks are taken, since the whole passes over more
// of C than a part and gains more by passing less often.
const sameSpeed = 1.02

func view(m kernel.Matrix, rows, columns int) kernel.Matrix {
	return kernel.Matrix{Rows: rows, Columns: columns, Stride: m.Stride, Data: m.Data}
}

// blocksAround lists the model's blocks first and then its answers for other depths, from half to eight times its own: the
// equations charge L1 with whole micropanels of A, which in truth stream through. A depth is an even part of K, so that no
// pass is short; mc is the equations' and, since B in L2 is worth as much, four register tiles. Few enough candidates that each can be
// timed more than once matters more than their closeness: speed is flat around its best.
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
	var depths []int
	for passes := 1; passes <= p.K; passes++ {
		if kc := (p.K + passes - 1) / passes; kc >= chosen.KC/2 && kc <= 8*chosen.KC && !slices.Contains(depths, kc) {
			depths = append(depths, kc)
		}
	}
	for _, kc := range spread(depths, 6) {
		g := model.Deeper(v, kc)
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

// spread keeps at most n of a list, the ends among them, evenly.
func spread(list []int, n int) []int {
	if len(list) <= n {
		return list
	}
	kept := make([]int, n)
	for i := range kept {
		kept[i] = list[i*(len(list)-1)/(n-1)]
	}
	return kept
}

// AttentionShape is one head of attention to find tiles for.
type AttentionShape struct{ Queries, Keys, HeadDim int }

// FLOPs counts the two matrix products.
func (s AttentionShape) FLOPs() float64 {
	return 4 * float64(s.Queries) * float64(s.Keys) * float64(s.HeadDim)
}

// attentionPartFLOPs bounds what of one head is timed: its queries are cut until a run is a few milliseconds.
const attentionPartFLOPs = 6e8

func (s AttentionShape) part(t kernel.AttentionBlocks) AttentionShape {
	perQuery := s.FLOPs() / float64(s.Queries)
	blocks := max(1, int(attentionPartFLOPs/perQuery)/t.Queries)
	s.Queries = min(s.Queries, blocks*t.Queries)
	return s
}

// Attention searches the blocks of one head around the model's.
func Attention(v kernel.Variant, model tiling.AttentionTiles, s AttentionShape, budget time.Duration) Found[kernel.AttentionBlocks] {
	start := time.Now()
	q, k, val, o := Filled(s.Queries, s.HeadDim), Filled(s.Keys, s.HeadDim), Filled(s.Keys, s.HeadDim), kernel.NewMatrix(s.Queries, s.HeadDim)
	space := &kernel.Workspace{}
	found := halve(attentionAround(v, model, s), budget-time.Since(start), func(t kernel.AttentionBlocks) float64 {
		part := s.part(t)
		seconds := Seconds(func() {
			v.Attention(kernel.Tiled, view(o, part.Queries, s.HeadDim), view(q, part.Queries, s.HeadDim), k, val, t, space)
		})
		return seconds / part.FLOPs() * s.FLOPs()
	})
	found.Spent = time.Since(start)
	return found
}

// attentionAround lists the model's blocks first, then smaller and larger ones in even parts of the problem.
func attentionAround(v kernel.Variant, model tiling.AttentionTiles, s AttentionShape) []kernel.AttentionBlocks {
	list := []kernel.AttentionBlocks{{Queries: evened(s.Queries, model.BlockQ, v.MR), Keys: evened(s.Keys, model.BlockKV, v.NR)}}
	for _, kv := range []int{1, 2, 4, 6, 10} {
		for _, q := range []int{1, 2, 4, 8, 16} {
			b := kernel.AttentionBlocks{Queries: evened(s.Queries, model.BlockQ/q, v.MR), Keys: evened(s.Keys, model.BlockKV*kv/2, v.NR)}
			if !slices.Contains(list, b) {
				list = append(list, b)
			}
		}
	}
	return list
}
