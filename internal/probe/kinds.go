package probe

import (
	"fmt"
	"maps"
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
)

// readKinds tells the groups of alike cores apart, nil where all are alike. The witnesses in order: the performance-monitoring
// units by which Intel's kernels list their hybrid cores; the scheduler's cpu_capacity; ARM's identification register; the base
// frequency, and without one the maximum frequency, whose differences up to 10 % are turbo, not kind (hwloc's rule).
func (t *Topology) readKinds(r *root) []profile.CoreKind {
	if kinds := t.kindsByPMU(r); len(kinds) > 1 {
		return kinds
	}
	for _, w := range []struct{ file, label string }{
		{"cpu_capacity", "capacity"},
		{"regs/identification/midr_el1", "midr"},
		{"cpufreq/base_frequency", "base frequency kHz"},
	} {
		if kinds := t.kindsByFile(r, w.file, w.label, 0); len(kinds) > 1 {
			return kinds
		}
	}
	if r.exists(fmt.Sprintf("%s/cpu%d/cpufreq/base_frequency", cpuDir, max(t.visible.first(), 0))) {
		return nil
	}
	return t.kindsByFile(r, "cpufreq/cpuinfo_max_freq", "max frequency kHz", 0.10)
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

// kindsByFile groups CPUs by the text of one file, values within tolerance of the group's lowest counting as one. Every CPU
// must have it: cores that differ in what they tell need not differ in kind.
func (t *Topology) kindsByFile(r *root, file, label string, tolerance float64) []profile.CoreKind {
	groups := map[int]cpuset{}
	for _, cpu := range t.visible.list() {
		value, err := r.number(fmt.Sprintf("%s/cpu%d/%s", cpuDir, cpu, file))
		if err != nil || value == 0 {
			return nil
		}
		groups[value] = groups[value].with(cpu)
	}
	var kinds []profile.CoreKind
	var members cpuset
	lowest := 0
	flush := func() {
		if len(members) > 0 {
			kinds = append(kinds, t.kind(fmt.Sprintf("%s %d", label, lowest), members))
		}
	}
	for _, value := range slices.Sorted(maps.Keys(groups)) {
		if len(members) > 0 && float64(value-lowest) <= tolerance*float64(lowest) {
			members = members.or(groups[value])
			continue
		}
		flush()
		lowest, members = value, groups[value]
	}
	flush()
	slices.Reverse(kinds) // the strongest first
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
