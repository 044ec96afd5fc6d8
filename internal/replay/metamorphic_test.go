package replay

import (
	"context"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/trace"
)

// What changes nothing about a program changes nothing about what is stated of it: other names for its blocks, another
// unit of size, another interleaving of what lies in pools of its own, and a cut.

// summaries runs p through every policy whose Options are made by options.
func summaries(t *rapid.T, p *Program, names []string, options alloc.Options) []Summary {
	var entrants []Entrant
	for _, name := range names {
		open := func() (alloc.Allocator, error) { return alloc.New(name, options) }
		entrants = append(entrants, Entrant{Name: name, Open: open})
	}
	list, err := Compare(context.Background(), p, entrants, Options{Clock: ticks()})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// bounded is a drawn program with its lower bound.
func bounded(t *rapid.T) *Program {
	p := repetitive(t)
	p.bound()
	return p
}

// bound counts the lower bound again.
func (p *Program) bound() {
	held := make([]int64, p.Slots)
	var live int64
	p.LowerBound = 0
	for _, s := range p.Steps {
		live += s.Size - held[s.Slot]
		held[s.Slot] = s.Size
		p.LowerBound = max(p.LowerBound, live)
	}
}

func TestNamesOfBlocksMeanNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := bounded(t)
		other := *p
		other.Slots = 3 * p.Slots
		order := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Perm(int(other.Slots))
		other.Steps = nil
		for _, s := range p.Steps {
			s.Slot = uint32(order[s.Slot])
			other.Steps = append(other.Steps, s)
		}
		o := alloc.Options{Capacity: 1 << 40, Alone: true}
		if want, got := summaries(t, p, folded, o), summaries(t, &other, folded, o); !reflect.DeepEqual(got, want) {
			t.Fatalf("renamed: %+v, want %+v", got, want)
		}
	})
}

// TestUnitsOfSizeMeanNothing: bytes times a power of two, with the quantum times the same, reserve as many times as
// much. The vlmem policy and the plan count in granules and classes of their own.
func TestUnitsOfSizeMeanNothing(t *testing.T) {
	names := []string{"bestfit", "buddy", "buddy-lazy", "buddy-whole"}
	rapid.Check(t, func(t *rapid.T) {
		p := bounded(t)
		times := int64(1) << rapid.IntRange(1, 4).Draw(t, "times")
		larger := *p
		larger.Steps = nil
		for _, s := range p.Steps {
			s.Size *= times
			larger.Steps = append(larger.Steps, s)
		}
		larger.bound()
		options := func(times int64) alloc.Options {
			return alloc.Options{Capacity: times << 36, Alone: true, PolicyOptions: alloc.PolicyOptions{Quantum: 512 * times}}
		}
		want, got := summaries(t, p, names, options(1)), summaries(t, &larger, names, options(times))
		for i := range want {
			if got[i].PeakReservedBytes != times*want[i].PeakReservedBytes || got[i].Overhead != want[i].Overhead {
				t.Fatalf("%s: %d bytes of %d times as large, %d before", names[i], got[i].PeakReservedBytes, times,
					want[i].PeakReservedBytes)
			}
		}
	})
}

// An operation allocates a block of a kind, or frees it where bytes is 0.
type operation struct {
	kind  trace.Kind
	block int
	bytes int64
}

// life draws the operations on one kind's blocks.
func life(t *rapid.T, kind trace.Kind) (list []operation) {
	var live []int
	for next := range rapid.IntRange(1, 40).Draw(t, "operations") {
		if len(live) > 0 && rapid.IntRange(0, 2).Draw(t, "free") == 0 {
			i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
			list, live = append(list, operation{kind, live[i], 0}), append(live[:i], live[i+1:]...)
			continue
		}
		list = append(list, operation{kind, next, rapid.Int64Range(1, 4<<20).Draw(t, "bytes")})
		live = append(live, next)
	}
	return list
}

// interleaved merges lists, each in its own order.
func interleaved(t *rapid.T, lists ...[]operation) (merged []operation) {
	left := make([][]operation, len(lists))
	copy(left, lists)
	for len(left) > 0 {
		i := rapid.IntRange(0, len(left)-1).Draw(t, "next")
		merged, left[i] = append(merged, left[i][0]), left[i][1:]
		if len(left[i]) == 0 {
			left = append(left[:i:i], left[i+1:]...)
		}
	}
	return merged
}

// built is a trace of operations.
func built(list []operation) *trace.Trace {
	b := trace.NewBuilder("drawn")
	slots := map[operation]uint32{} // by kind and block
	for _, o := range list {
		block := operation{o.kind, o.block, 0}
		if o.bytes > 0 {
			slots[block] = b.Alloc(o.bytes, o.kind, 0, 0)
		} else {
			b.Free(slots[block], 0)
		}
	}
	return b.Trace()
}

func TestInterleavingOfPoolsMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := life(t, trace.General), life(t, trace.KVCache), life(t, trace.VisionFeatures)
		want, err := Split(built(interleaved(t, a, b, c)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Split(built(interleaved(t, c, b, a)))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v: %+v, want %+v", err, got, want)
		}
	})
}

// TestACutLosesNothing: a trace, and its first part with a second that starts with what was live at the cut, have the
// same lower bound.
func TestACutLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := interleaved(t, life(t, trace.General), life(t, trace.KVCache))
		cut := rapid.IntRange(1, len(whole)-1).Draw(t, "cut")
		var second []operation
		for i, o := range whole[:cut] {
			freed := operation{o.kind, o.block, 0}
			if o.bytes > 0 && !slices.Contains(whole[i:cut], freed) {
				second = append(second, o)
			}
		}
		second = append(second, whole[cut:]...)
		want, err := Compile(built(whole))
		if err != nil {
			t.Fatal(err)
		}
		a, err := Compile(built(whole[:cut]))
		if err != nil {
			t.Fatal(err)
		}
		lowerBound := a.LowerBound
		if len(second) > 0 {
			b, err := Compile(built(second))
			if err != nil {
				t.Fatal(err)
			}
			lowerBound = max(lowerBound, b.LowerBound)
		}
		if lowerBound != want.LowerBound {
			t.Fatalf("%d in two parts, %d in one", lowerBound, want.LowerBound)
		}
	})
}
