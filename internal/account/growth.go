package account

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// Growth is what a device's program lets grow from step to step: memory allocated in a step and held ever after.
type Growth struct {
	Device  int    `json:"device" yaml:"device"`
	Steps   int    `json:"steps" yaml:"steps"`       // that were looked at
	FoundBy string `json:"found_by" yaml:"found_by"` // annotations of a name, or an allocation that comes back
	PerStep int64  `json:"bytes_per_step" yaml:"bytes_per_step"`
	Leaks   []Leak `json:"sites" yaml:"sites"` // the most a step first
}

// Leak is one origin of growth.
type Leak struct {
	Name    string   `json:"name" yaml:"name"`
	Frames  []string `json:"frames,omitempty" yaml:"frames,omitempty"`
	PerStep int64    `json:"bytes_per_step" yaml:"bytes_per_step"`
	Steps   int      `json:"steps" yaml:"steps"` // in which it grew
	Bytes   int64    `json:"bytes" yaml:"bytes"` // held at the end of what it allocated in them
	Blocks  int64    `json:"blocks" yaml:"blocks"`
}

const (
	// minSteps is how many steps must be there to speak of growth.
	minSteps = 4
	// warmUp is how many steps at the start are passed over: optimizers and caches allocate what they keep there.
	warmUp = 1
	// held is how many steps at the end are passed over: what they allocated may yet be freed.
	heldOn = 2
	// windows is into how many stretches of steps the recording is cut at most, and steady the share of them in which an
	// origin must grow to count: what was taken for steps may be parts of them.
	windows = 10
	steady  = 0.7
	// maxSpread is how far the lengths of steps that are found by an allocation may lie apart: their standard deviation
	// over their mean.
	maxSpread = 0.25
)

// growth looks for memory that grows with the steps of the recording; nil where there are no steps or nothing grows.
func (d *device) growth() *Growth {
	starts, by := d.steps()
	last := len(starts) - heldOn
	if last-warmUp < minSteps-heldOn {
		return nil
	}
	g := &Growth{Device: d.rec.Device, Steps: last - warmUp, FoundBy: by}
	sites, stacks := map[string]*leaking{}, map[int32]*leaking{}
	for _, i := range d.rec.Kept() {
		k, found := slices.BinarySearch(starts, i)
		if !found {
			k--
		}
		if k < warmUp || k >= last {
			continue
		}
		e := &d.rec.Entries[i]
		s := stacks[e.Stack]
		if s == nil {
			s = d.leaking(e.Stack, sites)
			stacks[e.Stack] = s
		}
		s.add(e.Size, k, (k-warmUp)*min(g.Steps, windows)/g.Steps)
	}
	for _, s := range sites {
		if float64(s.windows) >= steady*float64(min(g.Steps, windows)) {
			s.PerStep = s.Bytes / int64(g.Steps)
			g.PerStep += s.PerStep
			g.Leaks = append(g.Leaks, s.Leak)
		}
	}
	if len(g.Leaks) == 0 {
		return nil
	}
	slices.SortFunc(g.Leaks, func(a, b Leak) int {
		return cmp.Or(-cmp.Compare(a.PerStep, b.PerStep), strings.Compare(a.Name, b.Name),
			slices.Compare(a.Frames, b.Frames))
	})
	return g
}

// leaking is the origin of a stack, of sites or new among them.
func (d *device) leaking(stack int32, sites map[string]*leaking) *leaking {
	h := d.origin(stack, ByStack, 0)
	s := sites[h.key()]
	if s == nil {
		s = &leaking{Leak: Leak{Name: h.Name, Frames: h.Frames}, last: -1, window: -1}
		sites[h.key()] = s
	}
	return s
}

type leaking struct {
	Leak
	last    int // step in which it grew last
	window  int // and window
	windows int // in which it grew
}

func (s *leaking) add(size int64, step, window int) {
	if s.window != window {
		s.window = window
		s.windows++
	}
	if s.last != step {
		s.last = step
		s.Steps++
	}
	s.Bytes += size
	s.Blocks++
}

// steps is the entries at which steps begin, and how they were found: by the annotation that comes back most evenly, or
// else by the allocation that does.
func (d *device) steps() (starts []int, by string) {
	if starts, name := d.annotated(); len(starts) > 0 {
		return starts, "annotation " + name
	}
	if starts := d.recurring(); len(starts) > 0 {
		return starts, "an allocation that comes back"
	}
	return nil, ""
}

// annotated finds the name, its numbers left out, whose ranges are the most of at least minSteps.
func (d *device) annotated() ([]int, string) {
	names := map[string][]int64{}
	for _, m := range d.marks {
		name := strings.TrimRight(m.name, "0123456789")
		names[name] = append(names[name], m.from)
	}
	best := ""
	for name, list := range names {
		if len(list) >= minSteps && (best == "" || len(list) > len(names[best]) ||
			len(list) == len(names[best]) && name < best) {
			best = name
		}
	}
	var starts []int
	for _, from := range names[best] {
		i, _ := slices.BinarySearchFunc(d.rec.Entries, from, func(e snapshot.Entry, at int64) int {
			return cmp.Compare(e.TimeUs, at)
		})
		starts = append(starts, i)
	}
	slices.Sort(starts)
	return slices.Compact(starts), strings.TrimRight(best, "# ")
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
	for i := range d.rec.Entries {
		if e := &d.rec.Entries[i]; e.Action == snapshot.Alloc {
			all = append(all, signature{e.Size, e.Stack, int32(i)})
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
			if score := d.evenness(list); score < least || score == least && len(best) > 0 && list[0] < best[0] {
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
	return spread + outside + 1/float64(len(list))
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
