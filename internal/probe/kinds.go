package probe

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
)

// readKinds tells the groups of alike cores apart, nil where all are alike. The witnesses in order: the
// performance-monitoring units by which Intel's kernels list their hybrid cores; the design that an Arm core names, of
// which all cores are one kind whatever their clocks; the scheduler's cpu_capacity and the base frequency, whose
// differences up to 10 % are no kind (hwloc's rule); and where neither is told, the maximum frequency. Of that
// firmware promises each core another by its silicon, up to a fourth above the least (amd-pstate, CPPC), so that
// kinds are what a wider gap parts.
func (t *Topology) readKinds(r *root) []profile.CoreKind {
	if kinds := t.kindsByPMU(r); len(kinds) > 1 {
		return kinds
	}
	if len(t.cores) > 0 {
		if groups := t.byCore(); len(groups) > 1 {
			return t.named(groups)
		}
		return nil
	}
	for _, file := range []string{"cpu_capacity", "cpufreq/base_frequency"} {
		if groups := t.byFile(r, file, 0.10); len(groups) > 1 {
			return t.named(groups)
		}
	}
	if r.exists(fmt.Sprintf("%s/cpu%d/cpufreq/base_frequency", cpuDir, max(t.visible.first(), 0))) {
		return nil
	}
	if groups := t.byFile(r, "cpufreq/cpuinfo_max_freq", 0.25); len(groups) > 1 {
		return t.named(groups)
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

// byFile groups CPUs by the number in one file, the highest first: a value joins the group below it where it is within
// tolerance of that group's highest. Every CPU must have it: cores that differ in what they tell need not differ in
// kind.
func (t *Topology) byFile(r *root, file string, tolerance float64) []cpuset {
	byValue := map[int]cpuset{}
	for _, cpu := range t.visible.list() {
		value, err := r.number(fmt.Sprintf("%s/cpu%d/%s", cpuDir, cpu, file))
		if err != nil || value == 0 {
			return nil
		}
		byValue[value] = byValue[value].with(cpu)
	}
	var groups []cpuset
	highest := 0
	for _, value := range slices.Sorted(maps.Keys(byValue)) {
		if last := len(groups) - 1; last >= 0 && float64(value-highest) <= tolerance*float64(highest) {
			groups[last] = groups[last].or(byValue[value])
		} else {
			groups = append(groups, byValue[value])
		}
		highest = value
	}
	slices.Reverse(groups)
	return groups
}

// byCore groups CPUs by their Arm design, the strongest first: by the mean of what the kernel says of their capacity,
// else of their maximum frequency, else by number, as phones number their strong ones last.
func (t *Topology) byCore() []cpuset {
	sets := map[armCore]cpuset{}
	for _, cpu := range t.visible.list() {
		c, ok := t.cores[cpu]
		if !ok {
			return nil
		}
		sets[c] = sets[c].with(cpu)
	}
	cores := slices.SortedFunc(maps.Keys(sets), func(a, b armCore) int {
		return cmp.Or(cmp.Compare(t.strength(sets[b]), t.strength(sets[a])), cmp.Compare(sets[b].first(), sets[a].first()))
	})
	var groups []cpuset
	for _, c := range cores {
		groups = append(groups, sets[c])
	}
	return groups
}

// strength is the mean capacity of cpus, of a CPU whose kernel tells none its maximum frequency.
func (t *Topology) strength(cpus cpuset) float64 {
	sum := 0.0
	for _, cpu := range cpus.list() {
		sum += t.capacity[cpu]
	}
	return sum / float64(max(1, cpus.count()))
}

// readCores reads the designs and strengths of Arm cores, nil on other machines.
func (t *Topology) readCores(r *root) {
	text, _ := r.text("proc/cpuinfo")
	t.cores, t.capacity = readArmCores(text), map[int]float64{}
	for _, cpu := range t.online.list() {
		dir := fmt.Sprintf("%s/cpu%d/", cpuDir, cpu)
		if midr, err := r.number(dir + "regs/identification/midr_el1"); err == nil && midr != 0 {
			t.cores[cpu] = midrCore(midr)
		}
		for _, file := range []string{"cpu_capacity", "cpufreq/cpuinfo_max_freq"} {
			if v, err := r.number(dir + file); err == nil && v > 0 {
				t.capacity[cpu] = float64(v)
				break
			}
		}
	}
}

// named makes kinds of groups, the strongest first.
func (t *Topology) named(groups []cpuset) []profile.CoreKind {
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
	k.Cores += cpus.and(t.undescribed).count()
	return k
}
