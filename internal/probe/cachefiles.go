package probe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// readSPARCCaches adds the caches of SPARC, whose kernels tell each in two files of the CPU, in bytes, and not who
// shares it: the threads of one core do (Linux, arch/sparc/kernel/sysfs.c).
func (p cpuPlace) readSPARCCaches(cpu int) {
	dir := fmt.Sprintf("%s/cpu%d/", cpuDir, cpu)
	set, err := p.root.firstMask(dir+"topology/core_cpus", dir+"topology/thread_siblings")
	if set = set.and(p.t.online); err != nil || !set.has(cpu) {
		set = cpuset{}.with(cpu)
	}
	for _, k := range []struct {
		name, kind string
		level      int
	}{{"l1_dcache", "data", 1}, {"l1_icache", "instruction", 1}, {"l2_cache", "unified", 2}} {
		size, err := p.root.int(dir + k.name + "_size")
		if err != nil || size <= 0 || set.first() != cpu {
			continue
		}
		line, _ := p.root.int(dir + k.name + "_line_size") // zero: the machine does not say
		c := profile.Cache{Level: k.level, Type: k.kind, SizeBytes: units.Bytes(size), LineBytes: units.Bytes(max(line, 0)),
			SharedBy: set.count(), Instances: 1}
		p.t.insert(&Object{Type: cacheName(c), ID: -1, Cache: &c, set: set})
	}
}

// readSharedCaches finds the caches of S/390 that CPUs share: they stand in /proc/cpuinfo alone, without saying who
// shares them or how many there are, so that they have no place in the tree.
func (t *Topology) readSharedCaches(r *root) {
	text, err := r.text("proc/cpuinfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(name, "cache") { // "cache4 : level=3 type=Unified scope=Shared size=65536K line_size=256 …"
			continue
		}
		fields := map[string]string{}
		for _, f := range strings.Fields(rest) {
			key, value, _ := strings.Cut(f, "=")
			fields[key] = value
		}
		number := func(key string) int { n, _ := strconv.Atoi(strings.TrimSuffix(fields[key], "K")); return max(n, 0) }
		c := profile.Cache{Level: number("level"), Type: strings.ToLower(fields["type"]), Instances: 1,
			SizeBytes: units.Bytes(number("size")) * units.KiB, LineBytes: units.Bytes(number("line_size")),
			Ways: number("associativity"), SharedBy: t.online.count()}
		told := slices.ContainsFunc(t.objects, func(o *Object) bool { return o.Type == cacheName(c) })
		if fields["scope"] == "Shared" && c.Level > 0 && c.SizeBytes > 0 && !told {
			t.unplaced = append(t.unplaced, c)
			t.unknown["cpu.caches.instances"] = fmt.Sprintf("/proc/cpuinfo tells of an L%d and not how many there are: "+
				"one for all CPUs is assumed", c.Level)
		}
	}
}
