package replay

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/alloc"
)

var folded = []string{"vlmem", "bestfit", "buddy", "buddy-lazy", "buddy-whole", "fixed", "plan"}

func open(t testing.TB, policy string, capacity int64) alloc.Allocator {
	t.Helper()
	a, err := alloc.New(policy, alloc.Options{Capacity: capacity, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// repetitive draws a program of rounds within rounds, and what lies between them.
func repetitive(t *rapid.T) *Program {
	p := &Program{Name: "drawn", Slots: 24}
	live := make([]bool, p.Slots)
	size := rapid.Custom(func(t *rapid.T) int64 {
		return rapid.OneOf(rapid.Int64Range(1, 9000), rapid.Int64Range(1, 9<<20)).Draw(t, "size")
	})
	piece := func(most int) (steps []Step) {
		for range rapid.IntRange(1, most).Draw(t, "steps") {
			s := Step{Slot: rapid.Uint32Range(0, p.Slots-1).Draw(t, "slot")}
			if s.Size = size.Draw(t, "bytes"); rapid.Bool().Draw(t, "kv") {
				s.Kind = 1
			}
			steps = append(steps, s)
		}
		return steps
	}
	for range rapid.IntRange(1, 4).Draw(t, "pieces") {
		round := piece(20)
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			for _, s := range round {
				if live[s.Slot] {
					s = Step{Slot: s.Slot}
				}
				live[s.Slot] = s.Size > 0
				p.Steps = append(p.Steps, s)
			}
		}
		for _, s := range piece(3) {
			if !live[s.Slot] {
				live[s.Slot] = true
				p.Steps = append(p.Steps, s)
			}
		}
	}
	return p
}

// What is left out of a program that repeats itself changes nothing: not the peak, not where it grew, not how the
// allocator stood before.
func TestFoldingChangesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := repetitive(rt)
		whole, short := p.unfolded(), p.Fold()
		for _, name := range folded {
			capacity := int64(1) << rapid.IntRange(26, 40).Draw(rt, "capacity")
			a, b := open(t, name, capacity), open(t, name, capacity)
			wantPeak, want, err := whole.Growth(a)
			if err != nil {
				rt.Fatal(err)
			}
			if peak := plainly(rt, p, open(t, name, capacity)); peak != wantPeak {
				rt.Fatalf("%s: by names %d, by slots %d", name, wantPeak, peak)
			}
			peak, grown, err := short.Growth(b)
			if err != nil || peak != wantPeak || !slices.Equal(grown, want) {
				rt.Fatalf("%s: folded: peak %d, grown at %v, %v; want %d and %v", name, peak, grown, err, wantPeak, want)
			}
			var stands, wanted []alloc.Stats
			a, b = open(t, name, capacity), open(t, name, capacity)
			look := func(list *[]alloc.Stats, a alloc.Allocator) func(int) {
				return func(int) {
					s := a.Stats()
					s.Allocs, s.Frees, s.OutOfMemory = 0, 0, 0 // of what was run
					*list = append(*list, s)
				}
			}
			if err := whole.Before(a, want, look(&wanted, a)); err != nil {
				rt.Fatal(err)
			}
			if err := short.Before(b, want, look(&stands, b)); err != nil || !slices.Equal(stands, wanted) {
				rt.Fatalf("%s: folded: stands at %v, %v; want %v", name, stands, err, wanted)
			}
			if err := b.Check(); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// plainly replays the steps by their slots.
func plainly(t *rapid.T, p *Program, a alloc.Allocator) int64 {
	blocks, names := make([]alloc.Block, p.Slots), pools()
	for _, s := range p.Steps {
		if s.Size > 0 {
			blocks[s.Slot], _ = a.Alloc(s.request(names[s.Kind], false))
		} else if blocks[s.Slot].Size > 0 {
			if err := a.Free(blocks[s.Slot]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return a.Stats().PeakReserved
}

// Rounds are found whatever stands before and after them, and hold what they say.
func TestLoopsRepeat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops, _ := named(repetitive(t))
		end := 0
		for _, l := range loops(ops) {
			if l.from < end || l.end() > len(ops) || l.rounds < leastRounds || l.period < 1 {
				t.Fatalf("%+v after %d of %d steps", l, end, len(ops))
			}
			for i := l.from + l.period; i < l.end(); i++ {
				if ops[i] != ops[i-l.period] {
					t.Fatalf("%+v: step %d is not that of the round before", l, i)
				}
			}
			end = l.end()
		}
	})
	var ops []op
	for i := range 10 * 100 {
		ops = append(ops, op{size: int64(i%100 + 1)})
	}
	if got := loops(ops); len(got) != 1 || got[0].period != 100 || got[0].rounds != 10 {
		t.Errorf("ten rounds of a hundred steps: %+v", got)
	}
}
