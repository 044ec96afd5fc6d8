package search

import (
	"cmp"
	"math"
	"slices"

	"github.com/vlmem/vlmem/internal/tiling/kernel"
)

// gridPoint is one point of an exhaustive grid, at a place of the heat map. slice runs a part of its work that is like
// the rest of it: share of the whole, 1 where the whole is no longer.
type gridPoint[T any] struct {
	tiles       T
	row, column int
	slice       func()
	share       float64
	seconds     float64 // of the fastest run, of the slice until the whole has run
}

// productGrid is every combination of depths and heights. A slice is one panel of B, nc columns: the outermost of the
// five loops does the same for each, so that tiles that are slower on one are slower on all.
func productGrid(p Product, slice func(kernel.Blocks) func()) []gridPoint[kernel.Blocks] {
	var points []gridPoint[kernel.Blocks]
	seen := map[kernel.Blocks]bool{}
	for _, kc := range []int{64, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024} {
		for _, mc := range []int{24, 48, 96, 144, 192, 264, 348, 516, 768, 1032} {
			t := kernel.Blocks{MC: mc, NC: min(4096, p.N), KC: min(kc, p.K)}
			if !seen[t] {
				seen[t] = true
				points = append(points, gridPoint[kernel.Blocks]{tiles: t, row: kc, column: mc, slice: slice(t),
					share: float64(t.NC) / float64(p.N)})
			}
		}
	}
	return points
}

// attentionGrid is every combination of block sizes, each on the whole head.
func attentionGrid(s AttentionShape, whole func(kernel.AttentionBlocks) func()) []gridPoint[kernel.AttentionBlocks] {
	var points []gridPoint[kernel.AttentionBlocks]
	for _, kv := range []int{32, 64, 96, 128, 160, 192, 256, 320, 384, 512, 1024} {
		for _, q := range []int{12, 24, 36, 48, 72, 96, 120, 180, 264, 384} {
			t := kernel.AttentionBlocks{Queries: min(q, s.Queries), Keys: min(kv, s.Keys)}
			points = append(points, gridPoint[kernel.AttentionBlocks]{tiles: t, row: kv, column: q, slice: whole(t), share: 1})
		}
	}
	return points
}

// How many points stay in the race after their first run and after their second, and how much slower than the fastest
// they may be. Runs differ by one or two per cent of themselves: a point that is dropped could not have won by more.
const (
	semifinalists = 48
	wholes        = 24
	margin        = 1.10
)

// race times every point of a grid and returns the fastest. What the first slices leave runs a second time, what that
// leaves runs as a whole, and the first of those run three times more, in turn.
func (r *ring[T]) race(points []gridPoint[T]) T {
	r.GridPoints = len(points)
	time := func(p *gridPoint[T], run func()) { p.seconds = min(p.seconds, Seconds(run)) }
	for i := range points {
		p := &points[i]
		p.seconds = math.Inf(1)
		time(p, p.slice)
		r.step()
	}
	alive := fastest(points, semifinalists)
	for i := range alive {
		time(&alive[i], alive[i].slice)
	}
	for _, p := range points {
		r.heat(p.row, p.column, r.flops*p.share/p.seconds/1e9)
	}
	alive = fastest(alive, wholes)
	for i := range alive {
		if p := &alive[i]; p.share < 1 {
			p.seconds = Seconds(r.run(kernel.Tiled, p.tiles))
		}
	}
	const finalRuns = 3
	alive = fastest(alive, finalists)
	for range finalRuns {
		for i := range alive {
			time(&alive[i], r.run(kernel.Tiled, alive[i].tiles))
		}
	}
	return fastest(alive, 1)[0].tiles
}

// fastest sorts points and keeps at most n of them, none slower than the fastest by more than the margin.
func fastest[T any](points []gridPoint[T], n int) []gridPoint[T] {
	slices.SortFunc(points, func(a, b gridPoint[T]) int { return cmp.Compare(a.seconds, b.seconds) })
	for n = min(n, len(points)); points[n-1].seconds > margin*points[0].seconds; n-- {
	}
	return points[:n]
}
