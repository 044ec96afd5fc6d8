package advise

import (
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

// What a program is kept to follows from the machine: nothing where all of it is alike, the strong cores of mixed ones,
// one memory node where the card does the work, all nodes in turn where the host does.
func TestEnvironment(t *testing.T) {
	model, err := profiles.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	cpu := func(change func(*profile.CPU)) profile.Hardware {
		c := &profile.CPU{Cores: 8, Threads: 16}
		change(c)
		return profile.Hardware{CPU: c}
	}
	nodes := func(h profile.Hardware) profile.Hardware {
		h.NUMA = []profile.Node{{ID: 0, CPUs: []int{0, 1, 2, 3, 8, 9, 10, 11}, MemoryBytes: 16 * units.GiB},
			{ID: 1, CPUs: []int{4, 5, 6, 7, 12, 13, 14, 15}, MemoryBytes: 32 * units.GiB},
			{ID: 2, MemoryBytes: 80 * units.GiB}} // a card's
		return h
	}
	mixed := func(c *profile.CPU) {
		c.Kinds = []profile.CoreKind{{Name: "performance", Cores: 2, CPUs: []int{0, 1, 2, 3}},
			{Name: "efficiency", Cores: 6, CPUs: []int{4, 5, 6, 7, 8, 9}}}
	}
	plain := func(*profile.CPU) {}
	onCard := Budget{Device: &Side{}, LayersOnDevice: derived(model.Text.Layers, "")}
	large := onCard
	large.Host.Intervals.Weights.High = 33 * units.GiB
	for _, c := range []struct {
		name    string
		machine profile.Hardware
		budget  Budget
		threads int
		cpus    string
		policy  string
	}{
		{"a laptop", cpu(plain), Budget{}, 8, "", ""},
		{"mixed cores", cpu(mixed), Budget{}, 2, "0-3", ""},
		{"mixed cores, four allowed", cpu(func(c *profile.CPU) { mixed(c); c.Allowed = []int{0, 1, 4, 5} }), Budget{}, 2,
			"", ""},
		{"two sockets", nodes(cpu(plain)), Budget{}, 8, "", "interleave 0-1"},
		{"two sockets and a card", nodes(cpu(plain)), onCard, 4, "4-7,12-15", "prefer 1"},
		{"a card whose host part is larger than a node", nodes(cpu(plain)), large, 8, "", "interleave 0-1"},
		{"one socket's CPUs allowed", nodes(cpu(func(c *profile.CPU) { c.Allowed, c.AllowedCores = []int{4, 5}, 2 })),
			onCard, 2, "", ""},
	} {
		in := Inputs{Hardware: c.machine, Model: model}
		e, err := in.environment(&c.budget)
		if err != nil {
			t.Fatal(err)
		}
		var cpus, policy string
		if e.CPUs != nil {
			cpus = e.CPUs.Value
		}
		if e.Memory != nil {
			policy = e.Memory.Value
		}
		if e.Threads.Value != c.threads || cpus != c.cpus || policy != c.policy {
			t.Errorf("%s: %d threads, CPUs %q, memory %q, want %d, %q, %q", c.name, e.Threads.Value, cpus, policy, c.threads,
				c.cpus, c.policy)
		}
	}
}
