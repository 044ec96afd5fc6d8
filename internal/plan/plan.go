// Package plan packs buffers of known lifetimes into one arena: offline dynamic storage allocation.
//
// A Buffer i lives over the half-open time [l_i, u_i) and needs s_i bytes at an offset x_i that is a multiple of its
// alignment. Two buffers overlap in time where l_i < u_j and l_j < u_i; they may then not share an address:
//
//	x_i + s_i ≤ x_j  or  x_j + s_j ≤ x_i        for all i, j that overlap in time
//	height = max_i (x_i + s_i)                  to be least
//	load(t) = Σ { s_i : l_i ≤ t < u_i }         no height is below max_t load(t), the lower bound
//
//	offset
//	  ▲  ┌───────┐┌────┐
//	  │  │   b   ││ d  │        a, b and c, b overlap in time;
//	  │  ├────┬──┘└────┤        d may lie beside b
//	  │  │ a  ├────────┤
//	  │  │    │   c    │
//	  └──┴────┴────────┴──▶ time
//
// The problem is strongly NP-hard, yet the lifetimes of real programs mostly pack to the lower bound by a greedy order
// (Greedy). What is left goes first to a repair of the greedy order (wheel) and then to an exact search (search), which
// finds a packing of a given height or proves that none exists. Solve runs the three in turn, Validate judges the
// result by the definition alone.
//
// Everything here is a function of its input: effort is counted in steps of the search, never in seconds, so that the
// same problem gives the same packing on every machine. A caller who must also keep to the clock hands in a Stop
// function.
//
// Pedigree: greedy by size is that of TFLite (arXiv 2001.03288); searching canonical packings in order of offset, a
// bound per section and the split over time are known from MiniMalloc (ASPLOS 2023). The branching, the release-time
// bound and the table of refuted states are this package's own.
package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// Buffer is one block to be placed. It lives over the half-open time [Lower, Upper).
type Buffer struct {
	ID           string
	Lower, Upper int64 // any clock: events, cycles, nanoseconds
	Size         int64 // bytes, above zero
	Align        int64 // the offset is a multiple of it; 0 means 1
}

// place is the lowest offset at or above x that the alignment allows.
func (b *Buffer) place(x int64) int64 {
	if b.Align > 1 {
		return (x + b.Align - 1) / b.Align * b.Align
	}
	return x
}

// Problem is the buffers to be packed.
type Problem struct {
	Buffers []Buffer
}

// Solution is a packing: the offset of each buffer of the problem, in its order, and the height of the arena.
type Solution struct {
	Offsets []int64
	Height  int64
}

// Check says what no problem can be: an empty lifetime, a size below one byte, a negative alignment; and refuses sizes
// and alignments whose sum leaves 62 bits, so that no offset can overflow.
func (p *Problem) Check() error {
	var sum int64
	for i := range p.Buffers {
		switch b := &p.Buffers[i]; {
		case b.Upper <= b.Lower:
			return fmt.Errorf("buffer %s lives over [%d, %d): upper must be above lower", b.ID, b.Lower, b.Upper)
		case b.Size <= 0:
			return fmt.Errorf("buffer %s has size %d: must be above zero", b.ID, b.Size)
		case b.Align < 0:
			return fmt.Errorf("buffer %s has alignment %d: must not be negative", b.ID, b.Align)
		case b.Size >= 1<<62-sum || b.Align >= 1<<62-sum-b.Size:
			return fmt.Errorf("buffer %s: the sizes add up to more than 2^62 bytes", b.ID)
		default:
			sum += b.Size + b.Align
		}
	}
	return nil
}

// edge is where the load changes.
type edge struct {
	time  int64
	size  int64 // that begins, negative where it ends
	index int
}

// edges lists begins and ends by time; at one time, ends before begins.
func (p *Problem) edges() []edge {
	list := make([]edge, 0, 2*len(p.Buffers))
	for i, b := range p.Buffers {
		list = append(list, edge{b.Lower, b.Size, i}, edge{b.Upper, -b.Size, i})
	}
	slices.SortFunc(list, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.size, b.size), cmp.Compare(a.index, b.index))
	})
	return list
}

// LowerBound is the largest sum of sizes that live at one time.
func (p *Problem) LowerBound() int64 {
	var load, peak int64
	for _, e := range p.edges() {
		load += e.size
		peak = max(peak, load)
	}
	return peak
}

// critical splits the indexes of the buffers, in order, into those that live at a moment whose load is at least
// threshold, and the others.
func (p *Problem) critical(threshold int64) (critical, rest []int) {
	// moment counts the critical moments so far; a buffer lives at one if the count moved during its life.
	begun, lived := make([]int, len(p.Buffers)), make([]bool, len(p.Buffers))
	moment, load := 0, int64(0)
	for _, e := range p.edges() {
		load += e.size
		if e.size < 0 {
			lived[e.index] = moment > begun[e.index]
			continue
		}
		begun[e.index] = moment
		if load >= threshold {
			moment++
		}
	}
	for i, c := range lived {
		if c {
			critical = append(critical, i)
		} else {
			rest = append(rest, i)
		}
	}
	return critical, rest
}

// height is the highest end of any buffer at the given offsets.
func (p *Problem) height(offsets []int64) int64 {
	var top int64
	for i := range p.Buffers {
		top = max(top, offsets[i]+p.Buffers[i].Size)
	}
	return top
}
