package profile_test

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

func TestCompute(t *testing.T) {
	quota := func(cpus float64) *profile.System { return &profile.System{CPUQuota: &cpus} }
	hybrid := []profile.CoreKind{{Name: "performance", Cores: 2, Threads: 4, CPUs: []int{0, 1, 2, 3}},
		{Name: "efficiency", Cores: 4, Threads: 4, CPUs: []int{4, 5, 6, 7}}}
	for _, test := range []struct {
		name            string
		cpu             profile.CPU
		system          *profile.System
		compute, usable int
		why             string
	}{
		{"two threads a core", profile.CPU{Cores: 4, Threads: 8}, nil, 4, 8, "each core"},
		{"a quota", profile.CPU{Cores: 32, Threads: 64}, quota(2), 2, 2, "limited to 2 CPUs"},
		{"a broken quota", profile.CPU{Cores: 32, Threads: 64}, quota(2.9), 2, 2, "limited to 2.9 CPUs"},
		{"less than a CPU", profile.CPU{Cores: 4, Threads: 4}, quota(0.5), 1, 1, "limited to 0.5 CPUs"},
		{"a quota above the machine", profile.CPU{Cores: 4, Threads: 8}, quota(16), 4, 8, "each core"},
		{"affinity to one core", profile.CPU{Cores: 4, Threads: 8, Allowed: []int{0, 4}, AllowedCores: 1}, nil, 1, 2,
			"CPUs 0,4"},
		{"hybrid", profile.CPU{Cores: 6, Threads: 8, Kinds: hybrid}, nil, 2, 8, "performance"},
		{"hybrid, weak cores alone", profile.CPU{Cores: 6, Threads: 8, Kinds: hybrid, Allowed: []int{5, 6},
			AllowedCores: 2}, nil, 2, 2, "CPUs 5-6"},
	} {
		h := profile.Hardware{CPU: &test.cpu, System: test.system}
		got, why := h.Compute()
		if got != test.compute || h.UsableThreads() != test.usable || !strings.Contains(why, test.why) {
			t.Errorf("%s: compute %d, usable %d, %q; want %d, %d, %q", test.name, got, h.UsableThreads(), why,
				test.compute, test.usable, test.why)
		}
	}
}

func TestRoom(t *testing.T) {
	size := func(b units.Bytes) *units.Bytes { return &b }
	old := profile.Memory{TotalBytes: 32 * units.GiB, LimitBytes: size(28 * units.GiB),
		AvailableBytes: size(3 * units.GiB)}
	if r := old.Room(false); r.Capacity-r.Taken != 3*units.GiB || !r.Known {
		t.Errorf("a probe that tells no bounds: %+v", r)
	}
	bounded := old
	bounded.Bounds = []profile.Bound{profile.NewBound("host memory", "", 32*units.GiB, 4*units.GiB),
		profile.NewBound("control group /", "", 28*units.GiB, 5*units.GiB)}
	if r := bounded.Room(false); r.Capacity != 32*units.GiB || r.Capacity-r.Taken > 4*units.GiB ||
		r.Capacity-r.Taken < 4*units.GiB*511/512 {
		t.Errorf("the host binds: %+v", r)
	}
	if r := bounded.Room(true); r.Capacity != 28*units.GiB || r.Taken != 0 || r.Known {
		t.Errorf("idle, the group binds: %+v", r)
	}
}

// TestKindsOfBounds: each bound has a word of its own, whatever it is of; other names have none.
func TestKindsOfBounds(t *testing.T) {
	seen := map[string]bool{"": true}
	for _, name := range []string{profile.HostMemory, profile.MemoryNodes + " 0-1", profile.CardlessNodes + ", nodes 0",
		profile.AddressSpace, profile.WritableMappings, profile.Commitments, profile.ControlGroup + " /a",
		profile.ControlGroup + " /a" + profile.Throttling} {
		if kind := profile.KindOf(name); seen[kind] {
			t.Errorf("%s is of kind %q, as another", name, kind)
		} else {
			seen[kind] = true
		}
	}
	if kind := profile.KindOf("a name of before"); kind != "" {
		t.Errorf("got %q", kind)
	}
}
