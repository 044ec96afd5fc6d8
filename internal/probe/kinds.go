package probe

import (
	"fmt"
	"maps"
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
)

// readKinds tells the groups of alike cores apart, nil where all are alike. The witnesses in order: the
// performance-monitoring units by which Intel's kernels list their hybrid cores; the scheduler's cpu_capacity; ARM's
// identification register; the base frequency, and without one the maximum frequency, whose differences up to 10 % are
// turbo, not kind (hwloc's rule).
func (t *Topology) readKinds(r *root) []profile.CoreKind {
	if kinds := t.kindsByPMU(r); len(kinds) > 1 {
		return kinds
	}
	for _, file := range []string{"cpu_capacity", "regs/identification/midr_el1", "cpufreq/base_frequency"} {
		if kinds := t.kindsByFile(r, file, 0); len(kinds) > 1 {
			return kinds
		}
	}
	if r.exists(fmt.Sprintf("%s/cpu%d/cpufreq/base_frequency", cpuDir, max(t.visible.first(), 0))) {
		return nil
	}
	if kinds := t.kindsByFile(r, "cpufreq/cpuinfo_max_freq", 0.10); len(kinds) > 1 {
		return kinds
	}
	return nil
}

func (t *Topology) kindsByPMU(r *root) []profile.CoreKind {
	var kinds []profile.CoreKind
	for _, k := range []struct{ pmu, name string }{
		{"cpu_core", "performance"}, {"cpu_atom", "efficiency"}, {"cpu_lowpower", "low-power"},
	} {
		cpus, err := r.list("sys/devices/" + k.pmu + "/cpus")
		if cpus = cpus.and(t.visible); err == nil && len(cpus) > 0 {
			kinds = append(kinds, t.kind(k.name, cpus))
		}
	}
	return kinds
}

// kindsByFile groups CPUs by the number in one file, values within tolerance of the group's lowest counting as one.
// Every CPU must have it: cores that differ in what they tell need not differ in kind. The highest number counts as the
// strongest.
func (t *Topology) kindsByFile(r *root, file string, tolerance float64) []profile.CoreKind {
	byValue := map[int]cpuset{}
	for _, cpu := range t.visible.list() {
		value, err := r.number(fmt.Sprintf("%s/cpu%d/%s", cpuDir, cpu, file))
		if err != nil || value == 0 {
			return nil
		}
		byValue[value] = byValue[value].with(cpu)
	}
	var groups []cpuset
	lowest := 0
	for _, value := range slices.Sorted(maps.Keys(byValue)) {
		if last := len(groups) - 1; last >= 0 && float64(value-lowest) <= tolerance*float64(lowest) {
			groups[last] = groups[last].or(byValue[value])
			continue
		}
		lowest, groups = value, append(groups, byValue[value])
	}
	slices.Reverse(groups)
	var kinds []profile.CoreKind
	for i, cpus := range groups {
		name := "middle"
		switch i {
		case 0:
			name = "performance"
		case len(groups) - 1:
			name = "efficiency"
		}
		kinds = append(kinds, t.kind(name, cpus))
	}
	return kinds
}

func (t *Topology) kind(name string, cpus cpuset) profile.CoreKind {
	k := profile.CoreKind{Name: name, Threads: cpus.count(), CPUs: cpus.list()}
	for _, o := range t.objects {
		if o.Type == Core && o.visible.intersects(cpus) {
			k.Cores++
		}
	}
	return k
}
