package account

import (
	"cmp"
	"slices"
	"strings"
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
)

// growth looks for memory that grows with the steps of the recording; nil where there are no steps or nothing grows.
func (d *device) growth() *Growth {
	starts, _, by := d.steps()
	starts = slices.Compact(starts)
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
