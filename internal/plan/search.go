package plan

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// The exact search looks for a packing no higher than a given capacity. It answers found, refuted (there is none) or
// unknown (the effort was spent).
//
// Sections. Time is cut at the maximal sets of buffers that live together; whatever lives at another moment is a subset
// of one of them. A buffer spans the sections [lo, hi), and two overlap in time where they share a section.
//
// State. The buffers not yet placed, each with a floor, the least offset it can still have. Placing a buffer at x
// raises the floors of all that overlap it to x + size, so what lies below never matters again: two ways that leave the
// same buffers with the same floors are one state, and a state refuted once is refuted for good (table).
//
// Branching. A packing in which no buffer can be pushed down is called canonical; where there is a packing there is a
// canonical one no higher. Let h be the lowest floor and k a section that a buffer with this floor spans. In a
// canonical packing exactly one of these holds:
//
//   - one of the buffers that span k and have the floor h lies at h: a branch for each of them,
//   - the address h stays unused in section k. Then the lowest buffer in k rests on an unplaced buffer that does not
//     span k, or has a higher floor of its own; the least such height is a new floor for all buffers of k.
//
// The branches exclude one another, so no packing is met twice by another order of placing. k is the section with the
// fewest candidates, of equals the one with the least slack: where a choice is forced, it is made before it is buried.
//
// Bound. In each section the buffers stand on one another, none below its floor: a single machine with release times.
// Taken in the order of their floors f they end at t ← max(t, f) + size, and no order ends earlier. A section that ends
// above the capacity refutes the state.
//
// Split. Where no unplaced buffer spans from one section to the next, the two sides are solved apart, the smaller
// first; a side refuted refutes both without looking at the other's packings.
//
// Run times have a heavy tail: an order of trying the candidates either leads to a packing within some thousand states
// or to none within millions. So the search is restarted with other orders (see candidateOrder) and keeps its table.
type search struct {
	spans   []span
	overlap [][]int32 // for each buffer those that overlap it in time

	capacity  int64
	rank      []int32 // candidates are tried by rising rank
	visits    int64   // of a buffer in a section, by the bound: the unit of effort
	states    int64
	maxVisits int64
	maxStates int64
	stop      func() bool // may be nil

	floor  []int64 // of each buffer not yet placed
	placed []bool
	offset []int64 // of each placed buffer
	trail  []raised

	table     []fingerprint // of refuted states; the newer wins a collision of places
	sections  []section
	workspace []int32 // a stack of lists of buffers
}

// span is a buffer as the search sees it.
type span struct {
	lo, hi      int32 // sections [lo, hi)
	size, align int64
	salt        fingerprint
}

// section is what the bound finds: reset for each state.
type section struct {
	end        int64 // no packing of the section's buffers ends below it
	load       int64 // sum of their sizes
	firstTop   int64 // the lowest floor + size among them
	secondTop  int64 // the lowest among the others
	first      int32 // the buffer of firstTop
	candidates int32 // buffers of the section whose floor is the lowest of all
}

type raised struct {
	buffer int32
	from   int64
}

// fingerprint names a state by 128 bits, so that a false match within 10^9 states has a chance below 10^-20.
type fingerprint [2]uint64

type outcome int

const (
	refuted outcome = iota
	found
	unknown
)

// tableSize is the number of refuted states that are kept: 4 MiB of them.
const tableSize = 1 << 18

func newSearch(p *Problem) *search {
	n := len(p.Buffers)
	s := &search{
		spans: spansOf(p), overlap: make([][]int32, n),
		floor: make([]int64, n), placed: make([]bool, n), offset: make([]int64, n),
		table: make([]fingerprint, tableSize),
	}
	last := int32(0)
	for i := range s.spans {
		last = max(last, s.spans[i].hi)
		for j := range s.spans {
			if i != j && s.spans[i].lo < s.spans[j].hi && s.spans[j].lo < s.spans[i].hi {
				s.overlap[i] = append(s.overlap[i], int32(j))
			}
		}
	}
	s.sections = make([]section, last)
	return s
}

// spansOf cuts time into sections: a new one begins with the first end of a lifetime after a begin.
func spansOf(p *Problem) []span {
	type edge struct {
		time   int64
		begin  int // 0 for an end, which comes first at its time
		buffer int
	}
	edges := make([]edge, 0, 2*len(p.Buffers))
	for i, b := range p.Buffers {
		edges = append(edges, edge{b.Lower, 1, i}, edge{b.Upper, 0, i})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.begin, b.begin), cmp.Compare(a.buffer, b.buffer))
	})
	spans := make([]span, len(p.Buffers))
	now, grown := int32(0), false
	for _, e := range edges {
		if e.begin == 1 {
			spans[e.buffer].lo, grown = now, true
			continue
		}
		if grown {
			now, grown = now+1, false
		}
		spans[e.buffer].hi = now
	}
	for i, b := range p.Buffers {
		spans[i].size, spans[i].align = b.Size, max(b.Align, 1)
		spans[i].salt = fingerprint{scramble(uint64(2*i + 1)), scramble(uint64(2*i + 2))}
	}
	return spans
}

// scramble is the finaliser of SplitMix64.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// try searches for a packing of at most capacity bytes with the candidates in one order. The offsets are valid where it
// is found.
func (s *search) try(capacity int64, rank []int32, maxStates, maxVisits int64) outcome {
	s.capacity, s.rank = capacity, rank
	s.states, s.maxStates, s.maxVisits = 0, maxStates, s.visits+maxVisits
	s.trail, s.workspace = s.trail[:0], s.workspace[:0]
	clear(s.floor)
	clear(s.placed)
	all := make([]int32, len(s.spans))
	for i := range all {
		all[i] = int32(i)
	}
	slices.SortStableFunc(all, func(a, b int32) int { return cmp.Compare(s.spans[a].lo, s.spans[b].lo) })
	return s.solveWithout(all, -1)
}

// solve packs the unplaced buffers of part, given in the order of their first section, above their floors.
// Where it does not, it leaves everything as it was.
func (s *search) solve(part []int32) outcome {
	s.states++
	if s.states > s.maxStates || s.visits > s.maxVisits || s.states%256 == 0 && s.stop != nil && s.stop() {
		return unknown
	}
	state := s.name(part)
	known := &s.table[state[0]%tableSize]
	if *known == state {
		return refuted
	}
	work, trail := len(s.workspace), len(s.trail)
	r := refuted
	if s.bound(part) && (!s.tighten(part) || s.bound(part)) {
		r = s.branch(part)
	}
	s.workspace = s.workspace[:work]
	if r != found {
		s.lower(trail)
	}
	if r == refuted {
		*known = state
	}
	return r
}

// branch tries every candidate at the section it picks, then the section left unused.
func (s *search) branch(part []int32) outcome {
	h, k := s.branchAt(part)
	candidates := s.candidates(part, h, k)
	for i, b := range candidates {
		if s.twin(b, candidates[:i]) {
			continue
		}
		if r := s.cover(part, b, h); r != refuted {
			return r
		}
	}
	return s.leaveUnused(part, candidates, h, k)
}

// name is the fingerprint of a state: the capacity, the unplaced buffers and their floors, in any order.
func (s *search) name(part []int32) fingerprint {
	state := fingerprint{uint64(s.capacity), 1} // never the zero of an empty place in the table
	for _, b := range part {
		salt := &s.spans[b].salt
		x := scramble(salt[0] ^ uint64(s.floor[b]))
		state[0] += x
		state[1] += scramble(salt[1] ^ x)
	}
	return state
}

// bound fills in the sections of part and says whether all end within the capacity.
func (s *search) bound(part []int32) bool {
	byFloor := s.list(part)
	slices.SortFunc(byFloor, func(a, b int32) int { return cmp.Compare(s.floor[a], s.floor[b]) })
	last := int32(0)
	for _, b := range part {
		last = max(last, s.spans[b].hi)
	}
	clear(s.sections[s.spans[part[0]].lo:last])
	for _, b := range byFloor {
		v, f := &s.spans[b], s.floor[b]
		s.visits += int64(v.hi - v.lo)
		top := f + v.size
		spanned := s.sections[v.lo:v.hi]
		for i := range spanned {
			k := &spanned[i]
			k.end = max(k.end, f) + v.size
			if k.end > s.capacity {
				return false
			}
			switch {
			case k.load == 0:
				k.first, k.firstTop, k.secondTop = b, top, math.MaxInt64
			case top < k.firstTop:
				k.first, k.firstTop, k.secondTop = b, top, k.firstTop
			case top < k.secondTop:
				k.secondTop = top
			}
			k.load += v.size
		}
	}
	return true
}

// tighten lifts the floor of every buffer that cannot be the lowest in one of its sections, since everything on top of
// it would not fit: it then rests above the lowest top of another. It says whether it lifted any.
func (s *search) tighten(part []int32) bool {
	mark := len(s.trail)
	for _, b := range part {
		v, f := &s.spans[b], s.floor[b]
		spanned := s.sections[v.lo:v.hi]
		for i := range spanned {
			if k := &spanned[i]; f+k.load > s.capacity {
				if k.first != b {
					s.raise(b, k.firstTop)
				} else {
					s.raise(b, k.secondTop)
				}
			}
		}
	}
	return len(s.trail) > mark
}

// list copies a list of buffers to the workspace.
func (s *search) list(part []int32) []int32 {
	mark := len(s.workspace)
	s.workspace = append(s.workspace, part...)
	return s.workspace[mark:len(s.workspace):len(s.workspace)]
}

// branchAt picks the lowest floor and the section to branch on. It reads what bound left in the sections.
func (s *search) branchAt(part []int32) (h int64, k int32) {
	h = math.MaxInt64
	for _, b := range part {
		h = min(h, s.floor[b])
	}
	for _, b := range part {
		if s.floor[b] == h {
			for i := s.spans[b].lo; i < s.spans[b].hi; i++ {
				s.sections[i].candidates++
			}
		}
	}
	k = -1
	for _, b := range part {
		if s.floor[b] != h {
			continue
		}
		for i := s.spans[b].lo; i < s.spans[b].hi; i++ {
			c := &s.sections[i]
			if k < 0 || c.candidates < s.sections[k].candidates || c.candidates == s.sections[k].candidates &&
				c.end > s.sections[k].end {
				k = i
			}
		}
	}
	return h, k
}

// candidates lists the buffers of part that span section k and have the floor h, by rank.
func (s *search) candidates(part []int32, h int64, k int32) []int32 {
	mark := len(s.workspace)
	for _, b := range part {
		if s.floor[b] == h && s.spans[b].lo <= k && k < s.spans[b].hi {
			s.workspace = append(s.workspace, b)
		}
	}
	list := s.workspace[mark:len(s.workspace):len(s.workspace)]
	slices.SortFunc(list, func(a, b int32) int { return cmp.Compare(s.rank[a], s.rank[b]) })
	return list
}

// twin says whether a buffer that differs from b by nothing has been tried in this state.
func (s *search) twin(b int32, tried []int32) bool {
	v := &s.spans[b]
	return slices.ContainsFunc(tried, func(a int32) bool {
		w := &s.spans[a]
		return v.lo == w.lo && v.hi == w.hi && v.size == w.size && v.align == w.align
	})
}

// cover places b at its floor h and solves the rest of its part.
func (s *search) cover(part []int32, b int32, h int64) outcome {
	mark := len(s.trail)
	s.offset[b], s.placed[b] = h, true
	for _, a := range s.overlap[b] {
		if !s.placed[a] {
			s.raise(a, h+s.spans[b].size)
		}
	}
	r := s.solveWithout(part, b)
	if r != found {
		s.placed[b] = false
		s.lower(mark)
	}
	return r
}

// leaveUnused solves part with the address h unused in section k.
func (s *search) leaveUnused(part, candidates []int32, h int64, k int32) outcome {
	least := int64(math.MaxInt64)
	for _, b := range part {
		if v := &s.spans[b]; v.lo <= k && k < v.hi && s.floor[b] > h {
			least = min(least, s.floor[b])
		}
	}
	for _, b := range candidates {
		for _, a := range s.overlap[b] {
			if v := &s.spans[a]; !s.placed[a] && (k < v.lo || v.hi <= k) {
				least = min(least, s.floor[a]+v.size)
			}
		}
	}
	if least >= s.capacity {
		return refuted
	}
	mark := len(s.trail)
	for _, b := range candidates {
		s.raise(b, least)
	}
	r := s.solve(part)
	if r != found {
		s.lower(mark)
	}
	return r
}

// raise lifts the floor of b to at least x.
func (s *search) raise(b int32, x int64) {
	if a := s.spans[b].align; a > 1 {
		x = (x + a - 1) / a * a
	}
	if x > s.floor[b] {
		s.trail = append(s.trail, raised{b, s.floor[b]})
		s.floor[b] = x
	}
}

// lower takes back what raise did since the trail had the given length.
func (s *search) lower(mark int) {
	for _, r := range slices.Backward(s.trail[mark:]) {
		s.floor[r.buffer] = r.from
	}
	s.trail = s.trail[:mark]
}

// solveWithout solves what is left of part without the placed buffer b, side by side where it falls apart.
func (s *search) solveWithout(part []int32, b int32) outcome {
	mark := len(s.workspace)
	defer func() { s.workspace = s.workspace[:mark] }()
	sides := make([][]int32, 0, 4)
	end := int32(0)
	rest := s.list(part)[:0]
	for _, a := range part {
		if a == b {
			continue
		}
		if len(rest) > 0 && s.spans[a].lo >= end {
			sides = append(sides, rest)
			rest = rest[len(rest):]
		}
		rest = append(rest, a)
		end = max(end, s.spans[a].hi)
	}
	if len(rest) > 0 {
		sides = append(sides, rest)
	}
	slices.SortStableFunc(sides, func(a, b []int32) int { return len(a) - len(b) })
	for i, side := range sides {
		if r := s.solve(side); r != found {
			for _, solved := range sides[:i] {
				for _, a := range solved {
					s.placed[a] = false
				}
			}
			return r
		}
	}
	return found
}

// candidateOrder is the order of trying candidates in a restart, as ranks: by lifetime, size and area in turn, long or
// large first, from the fourth on with each key blurred by a log-normal factor drawn from the number of the restart.
func (s *search) candidateOrder(restart int) []int32 {
	random := rand.New(rand.NewPCG(uint64(restart), 0))
	keys := make([]float64, len(s.spans))
	order := make([]int32, len(s.spans))
	for i := range s.spans {
		v := &s.spans[i]
		size, life := float64(v.size), float64(v.hi-v.lo)
		keys[i] = [...]float64{life, size, size * life}[restart%3]
		if restart >= 3 {
			keys[i] *= math.Exp(random.NormFloat64())
		}
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(keys[b], keys[a]) })
	rank := make([]int32, len(order))
	for r, i := range order {
		rank[i] = int32(r)
	}
	return rank
}
