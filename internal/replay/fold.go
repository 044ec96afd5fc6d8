package replay

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/alloc"
)

// A model repeats itself, layer by layer and token by token, and so do the steps of its program: nine in ten of a
// request are those of the layer before. An allocator that stands at the end of a round exactly as it stood at the end
// of an earlier one will do in the next rounds what it did since, so they need not be run:
//
//	state(r) = state(r−m)  and equal steps   ⇒   round r+1 is round r+1−m, and so on
//
// where the state is every live block's place by its slot, and all else that later placements depend on
// (alloc.Recurrent). States are compared in full, not by a hash. What only counts up (alloc.Recurrent.Odometers) moves
// on by what the rounds left out would have added. An allocator that cannot tell its state is run step by step.

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
func loops(steps []Step) (list []loop) {
	seen := make([]int32, 1<<tableBits) // by hash: one more than where the window ended last
	var hash uint64
	failed := loop{} // the last that was too short: until its end its period is not tried again
	for i, free := 0, 0; i < len(steps); i++ {
		hash = hash<<8 ^ mix(&steps[i]) // what is older than eight steps is shifted out
		at := &seen[hash*0x9E3779B97F4A7C15>>(64-tableBits)]
		last := int(*at) - 1
		*at = int32(i + 1)
		if last < 0 || i-last > longest || i < free+window || i-last == failed.period && i < failed.from {
			continue
		}
		l := loop{from: i + 1, period: i - last}
		for l.from > free+l.period && steps[l.from-1] == steps[l.from-1-l.period] {
			l.from--
		}
		end := i + 1
		for end < len(steps) && steps[end] == steps[end-l.period] {
			end++
		}
		l.from -= l.period
		if l.from >= free {
			l.rounds = (end - l.from) / l.period
		}
		if l.rounds >= leastRounds {
			list = append(list, l)
			i, free, hash = l.end()-1, l.end(), 0
		} else {
			failed = loop{from: end, period: l.period}
		}
	}
	return list
}

// mix is eight bits of a step.
func mix(s *Step) uint64 {
	return (uint64(s.Size)*0xD6E8FEB86659FD93 ^ uint64(s.Slot)*0x9E3779B97F4A7C15) >> 56
}

// Folded is a program whose repetitions are known.
type Folded struct {
	*Program
	loops []loop
	names []string // of the pools, by kind
}

// Fold finds what the program repeats.
func (p *Program) Fold() Folded { return Folded{p, loops(p.Steps), pools()} }

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
	return peak, steps, run.all(len(f.Steps))
}

// Before runs the program through a as far as the last of the steps, which are in order, and calls look before each.
func (f Folded) Before(a alloc.Allocator, steps []int, look func(i int)) error {
	if len(steps) == 0 {
		return nil
	}
	end := steps[len(steps)-1] + 1
	run := f.on(a)
	run.before = func(i int) {
		if i == steps[0] {
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
	blocks        []alloc.Block // by slot, of size 0 where none is live
	before, after func(i int)   // are called around each step that is run
}

func (f Folded) on(a alloc.Allocator) *folding {
	nothing := func(int) {}
	return &folding{f, a, make([]alloc.Block, f.Slots), nothing, nothing}
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
		f.before(i)
		s := &f.Steps[i]
		b := &f.blocks[s.Slot]
		switch {
		case s.Size == 0 && b.Size > 0:
			if err := f.a.Free(*b); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
			b.Size = 0
		case s.Size > 0:
			block, err := f.a.Alloc(alloc.Request{Size: s.Size, Pool: f.names[s.Kind]})
			if err != nil && !errors.Is(err, alloc.ErrOutOfMemory) {
				return fmt.Errorf("step %d: %w", i, err)
			}
			*b = block
		}
		f.after(i)
	}
	return nil
}

// earlier is how many ends of rounds are remembered.
const earlier = 8

// rounds runs a loop until it is at the end of a round as it was at the end of an earlier one, and then what is left of
// whole such cycles.
func (f *folding) rounds(a alloc.Recurrent, l loop) error {
	var past, counts [][]int64 // states and odometers, the latest last
	for r := 0; r < l.rounds; r++ {
		from := l.from + r*l.period
		if err := f.run(from, from+l.period); err != nil {
			return err
		}
		left := l.rounds - r - 1
		if left == 0 {
			return nil
		}
		state, count := f.state(a), odometers(a)
		for back := 1; back <= len(past) && back <= left; back++ {
			if slices.Equal(past[len(past)-back], state) {
				advance(a, counts[len(counts)-back], int64(left/back))
				return f.run(l.end()-left%back*l.period, l.end())
			}
		}
		if past, counts = append(past, state), append(counts, count); len(past) > earlier {
			past, counts = past[1:], counts[1:]
		}
	}
	return nil
}

// state is where every block lies, and what else the allocator will go by.
func (f *folding) state(a alloc.Recurrent) []int64 {
	var state []int64
	for slot, b := range f.blocks {
		if b.Size > 0 {
			state = append(state, int64(slot), b.Offset, b.Size)
		}
	}
	return a.State(state)
}

func odometers(a alloc.Recurrent) (counts []int64) {
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
