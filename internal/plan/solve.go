package plan

import "slices"

// Options say how good a packing has to be and what it may cost. The zero value minimises with the default effort.
type Options struct {
	// Capacity ends the work at the first packing no higher than it; 0 means the lowest that is found.
	Capacity int64
	// Effort bounds the work, in comparisons of two buffers (about a nanosecond each); 0 means DefaultEffort. It is kept
	// to within some greedy passes, and eight of those are always allowed. Equal effort gives equal packings on every
	// machine.
	Effort int64
	// Stop, where it is set, is asked every few milliseconds; the work ends where it says so. This makes the packing
	// depend on the clock.
	Stop func() bool
}

// DefaultEffort is some five seconds on a laptop.
const DefaultEffort = 5e9

// boundCost is what a visit of the search's bound costs, in comparisons.
const boundCost = 4

// Result is a packing with what is known of it.
type Result struct {
	Solution
	LowerBound int64 // the largest sum of sizes that live at one time
	Optimal    bool  // no packing is lower: it meets the lower bound, or the search refuted the next lower height
	Effort     int64 // comparisons spent
	Stopped    bool  // by Options.Stop
}

// Solve packs p. It does not fail: the greedy packing stands where nothing better is found.
//
// Buffers that live at every critical section lie at the bottom, which costs nothing where offsets need no alignment:
// whatever lies below one of them can change places with it, as a whole layer. Weights and what else a program holds
// from end to end thus stay out of the search.
func Solve(p *Problem, o Options) Result {
	if o.Effort <= 0 {
		o.Effort = DefaultEffort
	}
	base, rest := p.foundation()
	if len(base) == 0 {
		return solve(p, o)
	}
	upper := &Problem{}
	for _, i := range rest {
		upper.Buffers = append(upper.Buffers, p.Buffers[i])
	}
	offsets, height := make([]int64, len(p.Buffers)), int64(0)
	for _, i := range base {
		offsets[i] = height
		height += p.Buffers[i].Size
	}
	if o.Capacity > 0 {
		o.Capacity = max(o.Capacity-height, 1)
	}
	r := solve(upper, o)
	for k, i := range rest {
		offsets[i] = height + r.Offsets[k]
	}
	r.Offsets, r.Height, r.LowerBound = offsets, height+r.Height, height+r.LowerBound
	return r
}

// foundation splits the indexes of the buffers into those that span all sections and the others; into none and all
// where an alignment is asked for.
func (p *Problem) foundation() (base, rest []int) {
	last := int32(0)
	spans := spansOf(p)
	for i := range spans {
		last = max(last, spans[i].hi)
		if spans[i].align > 1 {
			return nil, nil
		}
	}
	for i, v := range spans {
		if v.lo == 0 && v.hi == last {
			base = append(base, i)
		} else {
			rest = append(rest, i)
		}
	}
	return base, rest
}

func solve(p *Problem, o Options) Result {
	s := solver{problem: p, options: o, quantum: quantum(p)}
	s.options.Effort = max(o.Effort, 8*s.passCost())
	s.result.LowerBound = p.LowerBound()
	s.refutedBelow = s.roundUp(s.result.LowerBound)
	s.goal = max(s.refutedBelow, o.Capacity)
	s.greedy(BySize)
	s.core()
	for o := BySize + 1; o < orders && !s.done(); o++ {
		s.greedy(o)
	}
	s.repair()
	s.search()
	s.result.Optimal = s.result.Height <= s.refutedBelow
	return s.result
}

// solver is one run of Solve.
type solver struct {
	problem      *Problem
	options      Options
	result       Result
	quantum      int64 // heights of canonical packings are multiples of it
	goal         int64 // a packing this low ends the work
	refutedBelow int64 // no packing is lower
}

// quantum is the greatest common divisor of all sizes and of the alignments asked for. A canonical packing puts
// everything at multiples of it.
func quantum(p *Problem) int64 {
	var g int64
	join := func(v int64) {
		for v != 0 {
			g, v = v, g%v
		}
	}
	for _, b := range p.Buffers {
		join(b.Size)
		if b.Align > 1 {
			join(b.Align)
		}
	}
	return max(g, 1)
}

func (s *solver) roundUp(x int64) int64 { return (x + s.quantum - 1) / s.quantum * s.quantum }

// keep takes a packing where it is the lowest so far.
func (s *solver) keep(found Solution) {
	if s.result.Offsets == nil || found.Height < s.result.Height {
		s.result.Solution = found
	}
}

func (s *solver) spend(comparisons int64) { s.result.Effort += comparisons }
func (s *solver) left() int64             { return s.options.Effort - s.result.Effort }

// done says whether the work ends here.
func (s *solver) done() bool {
	if !s.result.Stopped && s.options.Stop != nil {
		s.result.Stopped = s.options.Stop()
	}
	return s.result.Stopped || s.result.Height <= max(s.goal, s.refutedBelow) || s.left() <= 0
}

// passCost estimates the comparisons of one greedy pass and the sorting before it. Windows save most of those of
// short-lived buffers.
func (s *solver) passCost() int64 {
	n := int64(len(s.problem.Buffers))
	return n*(n+1)/2/max(min(n/windowBuffers, mostWindows)/8, 1) + 32*n
}

func (s *solver) greedy(o Order) {
	s.keep(Pack(s.problem, o))
	s.spend(s.passCost())
}

// coreShares are the loads, in shares of the highest, from which on a moment is critical; tried in turn.
var coreShares = [...]float64{0.99, 0.95, 0.85, 0.7}

// core packs the buffers that live at critical moments apart, where a search can afford them, and the rest around them
// by the greedy orders. In a long program most buffers live where there is room to spare, and only hide the few that
// matter.
func (s *solver) core() {
	for _, share := range coreShares {
		if s.done() {
			return
		}
		critical, rest := s.problem.critical(int64(share * float64(s.result.LowerBound)))
		if len(rest) == 0 || len(rest) < len(critical)/4 || len(critical) < 2 {
			return // what is left is about the whole problem
		}
		sub := &Problem{}
		for _, i := range critical {
			sub.Buffers = append(sub.Buffers, s.problem.Buffers[i])
		}
		packed := Solve(sub, Options{Capacity: s.goal, Effort: max(s.left()/8, 1), Stop: s.options.Stop})
		s.spend(packed.Effort)
		for o := orders - 1; o >= 0 && !s.done(); o-- { // by start first: it leaves the holes of long programs whole
			offsets := make([]int64, len(s.problem.Buffers))
			for k, i := range critical {
				offsets[i] = packed.Offsets[k]
			}
			order := slices.DeleteFunc(o.sort(s.problem.Buffers), func(i int) bool {
				_,
					fixed := slices.BinarySearch(critical, i)
				return fixed
			})
			s.keep(packAround(s.problem, Solution{Offsets: offsets}, critical, order))
			s.spend(s.passCost())
		}
	}
}

// repair turns the wheels of all orders until the effort set aside for it is spent: all of it where the exact search
// cannot follow, else a little, since what it cannot mend at once it hardly ever mends.
func (s *solver) repair() {
	limit := s.options.Effort
	if s.searchable() {
		limit /= 64
	}
	wheels := make([]*wheel, orders)
	for i := range wheels {
		wheels[i] = newWheel(s.problem, Order(i))
	}
	for turn := 0; !s.done() && s.result.Effort+s.passCost() <= limit; turn++ {
		s.keep(wheels[turn%len(wheels)].turn(s.goal))
		s.spend(s.passCost())
	}
}

// search runs the exact search at falling capacities. Each round first tries the least height that is not refuted, then
// halves the way from it to the best packing, giving every height as many restarts; the next round gives four times as
// many.
func (s *solver) search() {
	if s.done() || !s.searchable() {
		return
	}
	x := newSearch(s.problem)
	x.stop = s.options.Stop
	for restarts := 8; !s.done(); restarts *= 4 {
		fine := max(s.quantum, s.result.Height/512)
		for low, target := s.refutedBelow, max(s.goal, s.refutedBelow); !s.done(); {
			switch s.try(x, target, restarts) {
			case refuted:
				s.refutedBelow = target + s.quantum
				low = s.refutedBelow
			case unknown:
				low = target
			}
			if s.result.Height-low <= fine {
				break
			}
			target = s.roundUp(low + (s.result.Height-low)/2)
		}
	}
}

// searchable says whether the effort allows at least some descents of the search from no buffer placed to all. One
// takes about as many bounds as there are buffers.
func (s *solver) searchable() bool {
	var sections int64
	for _, v := range spansOf(s.problem) {
		sections += int64(v.hi - v.lo)
	}
	return sections*int64(len(s.problem.Buffers)) <= s.options.Effort/(8*boundCost)
}

// restartStates is how many states a restart visits before another order gets its turn. Packings are found within a few
// thousand states or hardly ever.
const restartStates = 2000

// try searches for a packing of at most capacity bytes and keeps it.
func (s *solver) try(x *search, capacity int64, restarts int) outcome {
	for restart := range restarts {
		before := x.visits
		states := int64(restartStates)
		if restart > 0 && restart%32 == 0 {
			states *= int64(restart) / 8 // now and then a long one, so that small problems are refuted
		}
		r := x.try(capacity, x.candidateOrder(restart), states, s.left()/boundCost)
		s.spend(boundCost*(x.visits-before) + int64(len(x.spans)))
		if r == found {
			s.keep(Solution{Offsets: slices.Clone(x.offset), Height: s.problem.height(x.offset)})
		}
		if r != unknown || s.done() {
			return r
		}
	}
	return unknown
}
