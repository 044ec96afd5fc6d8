package alloc

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/vlmem/vlmem/internal/plan"
)

// Plan is where the blocks of a run of a program go the next time: its allocations in order, each with the place that
// packing their lifetimes gave it. It never changes and may serve several allocators.
type Plan struct {
	entries []entry
	bySize  map[int64][]int32 // entries of one size, in order
	height  int64
	bound   int64
}

// entry is one planned allocation.
type entry struct {
	size, offset int64
	rank         int32 // by address
}

// planEffort packs a recorded program in about a second; ten times as much gains less than 0.1 % on any seen so far.
const planEffort = 5e8

// NewPlan packs the lifetimes of a run. Sizes are rounded up to quantum, a power of two, 0 for 512.
func NewPlan(run *plan.Problem, quantum int64, o plan.Options) (*Plan, error) {
	if quantum == 0 {
		quantum = defaultQuantum
	}
	rounded := plan.Problem{Buffers: slices.Clone(run.Buffers)}
	slices.SortStableFunc(rounded.Buffers, func(a, b plan.Buffer) int { return cmp.Compare(a.Lower, b.Lower) })
	for i := range rounded.Buffers {
		b := &rounded.Buffers[i]
		b.Size = roundUp(b.Size, quantum)
		if b.Align <= quantum {
			b.Align = 0 // given, since every offset is a sum of sizes
		}
	}
	if err := rounded.Check(); err != nil {
		return nil, fmt.Errorf("packing a run: %w", err)
	}
	if o.Effort == 0 {
		o.Effort = planEffort
	}
	solved := plan.Solve(&rounded, o)
	p := &Plan{bySize: map[int64][]int32{}, height: solved.Height, bound: solved.LowerBound}
	for i, b := range rounded.Buffers {
		p.entries = append(p.entries, entry{size: b.Size, offset: solved.Offsets[i]})
		p.bySize[b.Size] = append(p.bySize[b.Size], int32(i))
	}
	byAddress := make([]int32, len(p.entries))
	for i := range byAddress {
		byAddress[i] = int32(i)
	}
	slices.SortStableFunc(byAddress, func(a, b int32) int { return cmp.Compare(p.entries[a].offset, p.entries[b].offset) })
	for rank, i := range byAddress {
		p.entries[i].rank = int32(rank)
	}
	return p, nil
}

// Height is the bytes that the planned run needs, LowerBound the least it could need.
func (p *Plan) Height() int64     { return p.height }
func (p *Plan) LowerBound() int64 { return p.bound }

// planned serves a run from the plan of an earlier one, and what deviates from it by best fit.
//
// Matching. The run's allocations are held against the plan in order. One of the size that is next takes the next
// place. Any other takes the nearest place of its size, ahead or behind, that this run has not used, within a window:
// so the two keep in step over blocks that are missing, extra or in another order. The window ahead is narrow, so that
// an extra block does not take the place of a later one and that one the place of the next; every miss in a row doubles
// it, up to the whole plan, which skips a phase left out.
//
// Safety. A planned place is taken only if all of it is free at that moment, as the one table of spans says that knows
// every live block, planned or not. A place that is not, and a block without a match, is a deviation. It goes above the
// plan while that costs little, where it can never be in the way; else to the best of the holes that the next planned
// places leave alone; else to the best hole. A run that deviates again and again is another program: the plan is then
// given up until Restart, and best fit serves what follows.
//
// Limits. A plan is rigid: it pays where runs repeat, and a few late frees of large blocks cost what these blocks hold.
// Growing above the plan before any hole that is due was tried, and is worse the more a run deviates.
type planned struct {
	bestFit
	plan    *Plan
	next    int      // the entry that is due
	used    []bool   // entries matched in this run
	misses  int      // allocations without a match since the last match
	strayed float64  // share of the last allocations that deviated
	live    bitset   // ranks of the entries that are live at their planned places
	spanOf  []uint32 // by rank, of those
	owner   []int32  // by Ref: rank + 1 of a planned block, 0 for others
}

const (
	planBehind = 64   // entries looked at that the run has passed by
	planAhead  = 4    // entries looked at from the one that is due, doubled by every miss since the last match
	planDue    = 64   // entries whose places a deviation leaves alone
	planHoles  = 8    // holes tried for a deviation
	planSpare  = 128  // deviations go above the plan while they add less than 1/128 to it
	planMemory = 128  // allocations over which strayed is averaged
	planStray  = 0.06 // share of deviations above which the plan is given up for this run
)

func newPlanned(limit int64, o PolicyOptions) (Policy, error) {
	online, err := newBestFit(limit, o)
	if err != nil {
		return nil, err
	}
	p := &planned{bestFit: *online.(*bestFit), plan: o.Plan}
	if p.plan == nil {
		p.plan = &Plan{}
	}
	p.used = make([]bool, len(p.plan.entries))
	p.spanOf = make([]uint32, len(p.plan.entries))
	return p, nil
}

// Restart begins the plan anew, for the next run of the program. Blocks still live stay where they are.
func (p *planned) Restart() {
	p.next, p.misses, p.strayed = 0, 0, 0
	clear(p.used)
}

func (p *planned) Place(size, align int64) (Block, bool) {
	if size <= 0 || size > p.limit {
		return Block{}, false
	}
	size, align = roundUp(size, p.quantum), max(align, p.quantum)
	if p.strayed > planStray {
		return p.bestFit.Place(size, align)
	}
	i, span := p.match(size), uint32(0)
	if i >= 0 && p.plan.entries[i].offset&(align-1) == 0 {
		span = p.takeAt(p.plan.entries[i].offset, size, p.plan.entries[i].rank)
	}
	if span == 0 {
		p.strayed += (1 - p.strayed) / planMemory
		return p.deviate(size, align)
	}
	p.strayed -= p.strayed / planMemory
	e := &p.plan.entries[i]
	p.live.add(int64(e.rank))
	p.spanOf[e.rank] = span
	for uint32(len(p.owner)) <= span {
		p.owner = append(p.owner, 0)
	}
	p.owner[span] = e.rank + 1
	return Block{Offset: e.offset, Size: size, Ref: uint64(span)}, true
}

func (p *planned) Remove(b Block) error {
	if err := p.bestFit.Remove(b); err != nil {
		return err
	}
	if b.Ref < uint64(len(p.owner)) && p.owner[b.Ref] > 0 {
		p.live.remove(int64(p.owner[b.Ref] - 1))
		p.owner[b.Ref] = 0
	}
	return nil
}

// match is the entry for an allocation of size bytes, marked as used, or -1.
func (p *planned) match(size int64) int {
	i := p.next
	if i >= len(p.used) || p.used[i] || p.plan.entries[i].size != size {
		i = p.nearest(size)
	}
	if i < 0 {
		p.misses++
		return -1
	}
	p.used[i] = true
	p.misses = 0
	if i >= p.next {
		p.next = i + 1
	}
	return i
}

// nearest is the unused entry of the size that is nearest to the one that is due, behind first, since nothing is lost
// by it, or -1.
func (p *planned) nearest(size int64) int {
	ahead := min(planAhead<<min(p.misses, 32), len(p.used))
	list := p.plan.bySize[size]
	at, _ := slices.BinarySearch(list, int32(p.next))
	for _, i := range slices.Backward(list[:at]) {
		if int(i) < p.next-planBehind {
			break
		}
		if !p.used[i] {
			return int(i)
		}
	}
	for _, i := range list[at:] {
		if int(i) >= p.next+ahead {
			break
		}
		if !p.used[i] {
			return int(i)
		}
	}
	return -1
}

// takeAt makes [off, off+size) live if it is free, and returns its span or 0. The search for the span that holds off
// starts from the planned block below it that is nearest.
func (p *planned) takeAt(off, size int64, rank int32) uint32 {
	t := p.table
	i := t.s[0].next
	if below := p.live.before(int64(rank)); below >= 0 {
		i = p.spanOf[below]
	}
	for i != 0 && t.s[i].off+t.s[i].size <= off {
		i = t.s[i].next
	}
	if i == 0 || t.s[i].next == 0 && t.s[i].state == holeSpan {
		if i = p.reach(off + size); i == 0 {
			return 0
		}
	}
	s := &t.s[i]
	if s.state != holeSpan || s.off > off || off+size > s.off+s.size {
		return 0
	}
	return t.take(i, off, size)
}

// reach makes the table end at or above end with a hole, which it returns, or 0 where the limit forbids.
func (p *planned) reach(end int64) uint32 {
	t := p.table
	start, last := t.top, t.s[0].prev
	if last != 0 && t.s[last].state == holeSpan {
		if t.top >= end {
			return last
		}
		start = t.s[last].off
	}
	return t.grow(end-start, 1, p.limit)
}

// deviate places what the plan does not.
func (p *planned) deviate(size, align int64) (Block, bool) {
	t := p.table
	if above := p.above(align); above+size <= p.plan.height+p.plan.height/planSpare {
		if hole := p.reach(above + size); hole != 0 {
			return Block{Offset: above, Size: size, Ref: uint64(t.take(hole, above, size))}, true
		}
	}
	hole := t.best(holeSpan, size)
	for range planHoles {
		if hole == 0 {
			break
		}
		s := &t.s[hole]
		off := roundUp(s.off, align)
		if off+size <= s.off+s.size && !p.due(off, size) {
			return Block{Offset: off, Size: size, Ref: uint64(t.take(hole, off, size))}, true
		}
		hole = t.after(holeSpan, s.size, s.off+1)
	}
	if t.top < p.plan.height {
		p.reach(p.plan.height)
	}
	return p.bestFit.Place(size, align)
}

// above is the lowest place at or above the plan's height with nothing above it.
func (p *planned) above(align int64) int64 {
	end := p.table.top
	if last := p.table.s[0].prev; p.table.s[last].state == holeSpan {
		end = p.table.s[last].off
	}
	return roundUp(max(end, p.plan.height), align)
}

// due says whether one of the next planned places touches [off, off+size).
func (p *planned) due(off, size int64) bool {
	for i := p.next; i < min(p.next+planDue, len(p.used)); i++ {
		e := &p.plan.entries[i]
		if !p.used[i] && e.offset < off+size && off < e.offset+e.size {
			return true
		}
	}
	return false
}

func (p *planned) Check() error {
	if err := p.bestFit.Check(); err != nil {
		return err
	}
	for span, rank := range p.owner {
		if rank > 0 && (p.table.s[span].state != liveSpan || p.spanOf[rank-1] != uint32(span) || !p.live.has(int64(rank-1))) {
			return fmt.Errorf("span %d is said to be planned block %d", span, rank-1)
		}
	}
	for rank := range p.live.all() {
		if span := p.spanOf[rank]; p.owner[span] != int32(rank)+1 {
			return fmt.Errorf("planned block %d is said to be span %d", rank, span)
		}
	}
	return nil
}

// before is the greatest element below i, or -1.
func (s *bitset) before(i int64) int64 {
	for l := range s.levels {
		w := min(i>>6, int64(len(s.levels[l]))-1)
		word := s.levels[l][w]
		if w == i>>6 {
			word &= 1<<(i&63) - 1
		}
		if word == 0 {
			i >>= 6
			continue
		}
		i = w<<6 + int64(63-bits.LeadingZeros64(word))
		for l--; l >= 0; l-- {
			i = i<<6 + int64(63-bits.LeadingZeros64(s.levels[l][i]))
		}
		return i
	}
	return -1
}
