package account

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// maxSpread is how far the lengths of steps that are found by an allocation may lie apart: their standard deviation
// over their mean. Steps of one to three parts, as many as chance says, have 0.4 to 0.7; what comes at any time has 1.
const maxSpread = 0.75

// How far from the beginnings of steps allocations are for each of these: few, that one of them may be even by chance;
// other, that their stack asks for other sizes too, of which each comes back when chance says so.
const (
	few   = 2
	other = 0.5
)

// steps is the entries at which steps begin, their numbers, and how they were found: by the annotation that comes back
// most often, or else by the allocation that comes back most evenly. Steps that bear no number are counted from 1.
func (d *device) steps() (starts, numbers []int, by string) {
	starts, numbers, name := d.annotated()
	if by = "annotation " + name; len(starts) == 0 {
		starts, by = d.recurring(), "an allocation that comes back"
	}
	if len(starts) == 0 {
		return nil, nil, ""
	}
	if numbers == nil {
		for i := range starts {
			numbers = append(numbers, i+1)
		}
	}
	return starts, numbers, by
}

// stepAt is how many entries come before a step.
func (d *device) stepAt(step string) (int, error) {
	n, err := strconv.Atoi(step)
	starts, numbers, by := d.steps()
	switch {
	case err != nil:
		return 0, fmt.Errorf("moment step:%s: want step: and a number", step)
	case len(starts) == 0:
		return 0, fmt.Errorf("moment step:%s: no steps were found on %s: neither an annotation nor an allocation comes "+
			"back evenly", step, d.rec.Name())
	}
	if k := slices.Index(numbers, n); k >= 0 {
		return starts[k], nil
	}
	return 0, fmt.Errorf("moment step:%d: %s has steps %d to %d, by %s", n, d.rec.Name(), slices.Min(numbers),
		slices.Max(numbers), by)
}

// annotated finds the name, its numbers left out, whose ranges are the most of at least minSteps. What the compiler of
// PyTorch times (dynamo_timed) comes as often as it compiles, which is no step of the program.
func (d *device) annotated() (starts, numbers []int, name string) {
	names := map[string][]mark{}
	for _, m := range d.marks {
		if name := strings.TrimRight(m.name, "0123456789"); !strings.HasSuffix(name, "(dynamo_timed)") {
			names[name] = append(names[name], m)
		}
	}
	best := ""
	for name, list := range names {
		if len(list) >= minSteps && (best == "" || len(list) > len(names[best]) ||
			len(list) == len(names[best]) && name < best) {
			best = name
		}
	}
	for _, m := range names[best] {
		i, _ := slices.BinarySearchFunc(d.rec.Entries, m.from, func(e snapshot.Entry, at int64) int {
			return cmp.Compare(e.TimeUs, at)
		})
		n, err := strconv.Atoi(m.name[len(best):])
		if err != nil {
			n = -1
		}
		starts, numbers = append(starts, i), append(numbers, n)
	}
	if slices.Contains(numbers, -1) {
		numbers = nil
	}
	return starts, numbers, strings.TrimRight(best, "# ")
}

// signature is what allocations that come back have in common.
type signature struct {
	size  int64
	stack int32
	entry int32 // which it is
}

// recurring finds the allocation, of one stack and size, that comes back most evenly; of those as even the one that
// spans most of the recording. Allocations are sorted by what they have in common: a map of lists would take many times
// the memory where few come back.
func (d *device) recurring() []int {
	var all []signature
	of := map[int32]int{} // allocations of each stack
	for i := range d.rec.Entries {
		if e := &d.rec.Entries[i]; e.Action == snapshot.Alloc {
			all = append(all, signature{e.Size, e.Stack, int32(i)})
			of[e.Stack]++
		}
	}
	slices.SortFunc(all, func(a, b signature) int {
		return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.stack, b.stack), cmp.Compare(a.entry, b.entry))
	})
	var best, list []int
	least := math.Inf(1)
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].size == all[0].size && all[n].stack == all[0].stack {
			n++
		}
		if n >= minSteps {
			list = list[:0]
			for _, s := range all[:n] {
				list = append(list, int(s.entry))
			}
			score := d.evenness(list) + other*(1-float64(n)/float64(of[all[0].stack]))
			if score < least || score == least && len(best) > 0 && list[0] < best[0] {
				best, least = slices.Clone(list), score
			}
		}
		all = all[n:]
	}
	return best
}

// evenness is how far from the beginnings of steps the entries of list are, less for the better ones: their distances
// are even, they span the recording, and they are more than a handful, which may be even by chance. It is infinite for
// none.
func (d *device) evenness(list []int) float64 {
	reach := list[len(list)-1] - list[0]
	if 2*reach < len(d.rec.Entries) {
		return math.Inf(1)
	}
	spread := spreadOf(list[1:]) // the first step does what no other does
	if spread > maxSpread {
		return math.Inf(1)
	}
	span := float64(reach) * float64(len(list)) / float64(len(list)-1)
	outside := max(0, 1-span/float64(len(d.rec.Entries)))
	return spread + outside + few/float64(len(list))
}

// spreadOf is the standard deviation of the distances of list over their mean.
func spreadOf(list []int) float64 {
	n := float64(len(list) - 1)
	mean := float64(list[len(list)-1]-list[0]) / n
	sum := 0.0
	for i := range list[1:] {
		d := float64(list[i+1]-list[i]) - mean
		sum += d * d
	}
	return math.Sqrt(sum/n) / mean
}
