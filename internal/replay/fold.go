package replay

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/trace"
)

// A model repeats itself, layer by layer and token by token, and so do the steps of its program: nine in ten of a
// request are those of the layer before. An allocator that stands at the end of a round exactly as it stood at the end
// of an earlier one will do in the next rounds what it did since, so they need not be run:
//
//	state(r) = state(r−m)  and equal steps   ⇒   round r+1 is round r+1−m, and so on
//
// where the state is every live block's place by its name, and all else that later placements depend on
// (alloc.Recurrent). States are compared in full, not by a hash. What only counts up (alloc.Recurrent.Odometers) moves
// on by what the rounds left out would have added. An allocator that cannot tell its state is run step by step.

// Blocks are named so that a round is the same as the one before it: those that live shortly by their age, the others
// by a number of their own.

// op is a step with its block named. A free has size 0 and names an age below zero, or a number; an allocation names 0,
// or the number of a block that will live long.
type op struct {
	size int64
	name int32
	kind trace.Kind
}

// young is the age in allocations up to which a block is named by it. A layer of a model makes about a hundred, and
// hands its result to the next. A power of two.
const young = 256

// named are the steps with their blocks named, and how many numbers there are.
func named(p *Program) (ops []op, numbers int32) {
	ops = make([]op, len(p.Steps))
	born, order := make([]int32, p.Slots), make([]int32, p.Slots) // by slot: one more than the step, and which allocation
	var count int32
	number := func(slot uint32) int32 {
		numbers++
		ops[born[slot]-1].name = numbers
		born[slot] = 0
		return numbers
	}
	for i, s := range p.Steps {
		ops[i] = op{size: s.Size, kind: s.Kind}
		switch {
		case s.Size > 0:
			born[s.Slot], order[s.Slot] = int32(i+1), count
			count++
		case count-order[s.Slot] <= young:
			ops[i].name, born[s.Slot] = order[s.Slot]-count, 0
		default:
			ops[i].name = number(s.Slot)
		}
	}
	for slot, at := range born {
		if at > 0 {
			number(uint32(slot)) // it stays
		}
	}
	return ops, numbers
}

// loop is a stretch of steps that is the same round again and again.
type loop struct{ from, period, rounds int }

func (l loop) end() int { return l.from + l.period*l.rounds }

const (
	leastRounds = 3       // of a loop: fewer are not worth the comparison
	window      = 8       // steps by which a round is found again
	tableBits   = 14      // of the table of windows
	longest     = 1 << 16 // steps of a round
)

// loops finds the stretches that repeat, the shortest round first where rounds hold rounds. A window of steps that was
// seen before names the length of a round; what follows is compared step by step.
func loops(ops []op) (list []loop) {
	seen := make([]int32, 1<<tableBits) // by hash: one more than where the window ended last
	var hash uint64
	failed := loop{} // the last that was too short: until its end its period is not tried again
	for i, free := 0, 0; i < len(ops); i++ {
		hash = hash<<8 ^ mix(&ops[i]) // what is older than eight steps is shifted out
		at := &seen[hash*0x9E3779B97F4A7C15>>(64-tableBits)]
		last := int(*at) - 1
		*at = int32(i + 1)
		if last < 0 || i-last > longest || i < free+window || i-last == failed.period && i < failed.from {
			continue
		}
		l, end := around(ops, free, i, i-last)
		if l.rounds >= leastRounds {
			list = append(list, l)
			i, free, hash = l.end()-1, l.end(), 0
		} else {
			failed = loop{from: end, period: l.period}
		}
	}
	return list
}

// around is the loop of a period that holds step i, begun no earlier than free, and where what repeats ends.
func around(ops []op, free, i, period int) (l loop, end int) {
	l = loop{from: i + 1, period: period}
	for l.from > free+period && ops[l.from-1] == ops[l.from-1-period] {
		l.from--
	}
	for end = i + 1; end < len(ops) && ops[end] == ops[end-period]; {
		end++
	}
	if l.from -= period; l.from >= free {
		l.rounds = (end - l.from) / period
	}
	return l, end
}

// mix is eight bits of a step.
func mix(s *op) uint64 {
	return (uint64(s.size)*0xD6E8FEB86659FD93 ^ uint64(uint32(s.name))*0x9E3779B97F4A7C15) >> 56
}

// Folded is a program whose repetitions are known.
type Folded struct {
	*Program
	ops     []op
	numbers int32
	loops   []loop
}

// Fold finds what the program repeats.
func (p *Program) Fold() Folded {
	f := p.unfolded()
	f.loops = loops(f.ops)
	return f
}

// unfolded is the program as if it repeated nothing.
func (p *Program) unfolded() Folded {
	ops, numbers := named(p)
	return Folded{Program: p, ops: ops, numbers: numbers}
}

// Growth runs the program through a, and returns the most that a reserved and the steps at which that grew. A refused
// request leaves its block out.
func (f Folded) Growth(a alloc.Allocator) (peak int64, steps []int, err error) {
	reserved := func() int64 { return a.Stats().PeakReserved }
	if r, ok := a.(alloc.Recurrent); ok {
		reserved = r.PeakReserved
	}
	peak = reserved()
	run := f.on(a)
	run.after = func(i int) {
		if now := reserved(); now > peak {
			peak, steps = now, append(steps, i)
		}
	}
	return peak, steps, run.all(len(f.ops))
}

// Before runs the program through a as far as the last of the steps, which are in order, and calls look before each.
func (f Folded) Before(a alloc.Allocator, steps []int, look func(i int)) error {
	if len(steps) == 0 {
		return nil
	}
	end := steps[len(steps)-1] + 1
	run := f.on(a)
	run.before = func(i int) {
		if len(steps) > 0 && i == steps[0] {
			look(i)
			steps = steps[1:]
		}
	}
	return run.all(end)
}

// folding is a run that leaves out rounds that repeat.
type folding struct {
	Folded
	a             alloc.Allocator
	allocations   int32
	recent        [young]alloc.Block // by allocation; of size 0 where it does not live
	lasting       []alloc.Block      // by number
	names         []string           // of the pools, by kind
	before, after func(i int)        // are called around each allocation that is run
	past          [earlier]standing  // the ends of the rounds of a loop, in turn
}

// standing is how an allocator stood at the end of a round.
type standing struct{ state, counts []int64 }

func (f Folded) on(a alloc.Allocator) *folding {
	nothing := func(int) {}
	return &folding{Folded: f, a: a, lasting: make([]alloc.Block, f.numbers+1), names: pools(), before: nothing,
		after: nothing}
}

// all runs the steps before end.
func (f *folding) all(end int) error {
	at := 0
	recurrent, _ := f.a.(alloc.Recurrent)
	for _, l := range f.loops {
		if recurrent == nil || l.end() > end {
			break
		}
		if err := f.run(at, l.from); err != nil {
			return err
		}
		if err := f.rounds(recurrent, l); err != nil {
			return err
		}
		at = l.end()
	}
	return f.run(at, end)
}

// run runs the steps [from, to).
func (f *folding) run(from, to int) error {
	for i := from; i < to; i++ {
		s := &f.ops[i]
		b := f.block(s)
		if s.size == 0 {
			if b.Size > 0 {
				if err := f.a.Free(*b); err != nil {
					return fmt.Errorf("step %d: %w", i, err)
				}
				b.Size = 0
			}
			continue
		}
		f.before(i)
		block, err := f.a.Alloc(alloc.Request{Size: s.size, Pool: f.names[s.kind]})
		if err != nil && !errors.Is(err, alloc.ErrOutOfMemory) {
			return fmt.Errorf("step %d: %w", i, err)
		}
		*b = block
		f.after(i)
	}
	return nil
}

// block is where the block of a step is kept. An allocation takes the next place of the recent ones, by age or not, so
// that ages are what they were when the steps were named.
func (f *folding) block(s *op) *alloc.Block {
	at := f.allocations + s.name
	if s.size > 0 {
		at = f.allocations
		f.allocations++
		f.recent[at&(young-1)].Size = 0
	}
	if s.name > 0 {
		return &f.lasting[s.name]
	}
	return &f.recent[at&(young-1)]
}

// earlier is how many ends of rounds are remembered, the last among them.
const earlier = 16

// rounds runs a loop until it is at the end of a round as it was at the end of an earlier one, and then what is left of
// whole such cycles.
func (f *folding) rounds(a alloc.Recurrent, l loop) error {
	for r := range l.rounds {
		from := l.from + r*l.period
		if err := f.run(from, from+l.period); err != nil {
			return err
		}
		left := l.rounds - r - 1
		if left == 0 {
			break
		}
		now := &f.past[r%earlier]
		now.state = f.state(a, now.state[:0])
		now.counts = odometers(a, now.counts[:0])
		for back := 1; back <= min(r, left, earlier-1); back++ {
			if then := &f.past[(r-back)%earlier]; slices.Equal(then.state, now.state) {
				advance(a, then.counts, int64(left/back))
				return f.run(l.end()-left%back*l.period, l.end())
			}
		}
	}
	return nil
}

// state is where every block lies, by its name now, and what else the allocator will go by.
func (f *folding) state(a alloc.Recurrent, state []int64) []int64 {
	for age := int32(1); age <= min(young, f.allocations); age++ {
		if b := &f.recent[(f.allocations-age)&(young-1)]; b.Size > 0 {
			state = append(state, -int64(age), b.Offset, b.Size)
		}
	}
	for number, b := range f.lasting {
		if b.Size > 0 {
			state = append(state, int64(number), b.Offset, b.Size)
		}
	}
	return a.State(state)
}

func odometers(a alloc.Recurrent, counts []int64) []int64 {
	for _, n := range a.Odometers() {
		counts = append(counts, *n)
	}
	return counts
}

// advance adds what they gained since before so many times more.
func advance(a alloc.Recurrent, before []int64, times int64) {
	for i, n := range a.Odometers() {
		*n += (*n - before[i]) * times
	}
}
