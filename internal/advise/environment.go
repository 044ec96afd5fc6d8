package advise

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Environment is what a program is best started in. What is left out is left as it is.
type Environment struct {
	Threads   *Value[int]    `yaml:"threads,omitempty" json:"threads,omitempty"`
	AllocConf *Value[string] `yaml:"pytorch_alloc_conf,omitempty" json:"pytorch_alloc_conf,omitempty"`
	CPUs      *Value[string] `yaml:"cpus,omitempty" json:"cpus,omitempty"`                   // such as 0-7,16
	Memory    *Value[string] `yaml:"memory_policy,omitempty" json:"memory_policy,omitempty"` // prefer 0, interleave 0-1
}

// growing is the one setting of PyTorch that is tried for every configuration; --for pytorch tries the whole grid.
const growing = "expandable_segments:True"

// environment chooses what a program of the budget starts in.
func (in *Inputs) environment(b *Budget) (e Environment, err error) {
	if in.Hardware.CPU == nil {
		return e, nil
	}
	threads, why := in.Hardware.Compute()
	if list, of := in.kept(b, threads); len(list) > 0 {
		e.CPUs = new(derived(profile.Ranges(list), of))
	}
	if n := in.near(b); n != nil {
		cores := max(1, len(n.CPUs)*in.Hardware.CPU.Cores/max(1, in.Hardware.CPU.Threads))
		if cores < threads {
			threads, why = cores, fmt.Sprintf("one for each core of memory node %d", n.ID)
		}
		e.Memory = new(derived(fmt.Sprintf("prefer %d", n.ID),
			"beside the CPUs that feed the card; where it is full, others serve"))
	} else if nodes := in.nodes(); len(nodes) > 1 {
		var ids []int
		for _, n := range nodes {
			ids = append(ids, n.ID)
		}
		e.Memory = new(derived("interleave "+profile.Ranges(ids),
			"all CPUs read the weights: no node's memory is the one that all wait for"))
	}
	e.Threads = new(derived(threads, why))
	e.AllocConf, err = in.allocConf()
	return e, err
}

// nodes are the memory nodes with processors; none where this process may not use all of those.
func (in *Inputs) nodes() (list []profile.Node) {
	if len(in.Hardware.CPU.Allowed) > 0 {
		return nil
	}
	for _, n := range in.Hardware.NUMA {
		if n.MemoryBytes > 0 && len(n.CPUs) > 0 {
			list = append(list, n)
		}
	}
	return list
}

// near is the memory node that serves a program whose model lies wholly on the card: the largest, where there are
// several and what the budget takes of the host fits it. Nil for none.
func (in *Inputs) near(b *Budget) *profile.Node {
	list := in.nodes()
	if len(list) < 2 || b.Device == nil || b.LayersOnDevice.Value < in.Model.Text.Layers || b.ExpertsOnHost != nil {
		return nil
	}
	most := slices.MaxFunc(list, func(a, b profile.Node) int { return int(a.MemoryBytes>>20) - int(b.MemoryBytes>>20) })
	if _, high := b.Host.Intervals.sum(); high > most.MemoryBytes {
		return nil
	}
	return &most
}

// kept are the CPUs that a program should keep to, and why: the nearest node's, or the strong cores of a processor
// that has weak ones too. None where every CPU is as good, or this process may use fewer anyway.
func (in *Inputs) kept(b *Budget, threads int) (list []int, why string) {
	if n := in.near(b); n != nil {
		return slices.Sorted(slices.Values(n.CPUs)),
			fmt.Sprintf("of memory node %d: the host's part is small, and lies there", n.ID)
	}
	c := in.Hardware.CPU
	if len(c.Allowed) > 0 || threads >= c.Cores {
		return nil, ""
	}
	return c.StrongCPUs(), "every step waits for its slowest thread: the efficient cores are left to other programs"
}

// allocConf is PyTorch's setting where a replay shows that it reserves less on every run than the default does; nil
// where it does not, where there is no card of CUDA, and where nobody draws runs.
func (in *Inputs) allocConf() (*Value[string], error) {
	g := in.gpu()
	if g == nil || g.Backend != "" || in.Runs == nil {
		return nil, nil
	}
	traces, err := in.Runs()
	if err != nil {
		return nil, fmt.Errorf("drawing runs for PyTorch's allocator: %w", err)
	}
	all, err := tryGrid([]string{"", growing}, traces, make([]int64, len(traces)), nil)
	if err != nil {
		return nil, err
	}
	if bestOf(all, sequence(0, len(traces))) == 0 {
		return nil, nil
	}
	mean := func(s TorchSetting) units.Bytes { return s.Reserved / units.Bytes(len(traces)) }
	return new(replayed(growing, fmt.Sprintf("a program over PyTorch reserves %s beside its weights, %s by default; "+
		"mean of %d runs; --for pytorch tries more", mean(all[1]), mean(all[0]), len(traces)))), nil
}
