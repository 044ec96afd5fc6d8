package probe

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// shape writes the sysfs of a machine of packages × cores × threads, numbered in this order, with an L1d for each core
// and an L2 for each package.
type shape struct{ packages, cores, threads int }

func (s shape) machine() machine {
	n := s.packages * s.cores * s.threads
	m := machine{"sys/devices/system/cpu/online": fmt.Sprintf("0-%d\n", n-1),
		"proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 1000000 kB\n"}
	for cpu := range n {
		core, pkg := cpu/s.threads, cpu/s.threads/s.cores
		m = m.with(cpuFiles(cpu, "core_id", fmt.Sprint(core%s.cores), "physical_package_id", fmt.Sprint(pkg),
			"thread_siblings", span(core*s.threads, s.threads), "core_siblings", span(pkg*s.cores*s.threads, s.cores*s.threads)))
		m = m.with(cacheFiles(cpu, 0, "1", "Data", "32K", span(core*s.threads, s.threads)))
		m = m.with(cacheFiles(cpu, 1, "2", "Unified", "1024K", span(pkg*s.cores*s.threads, s.cores*s.threads)))
	}
	return m
}

// without drops the files below any of the paths.
func (m machine) without(paths ...string) machine {
	rest := machine{}
	for file, content := range m {
		if !slices.ContainsFunc(paths, func(p string) bool { return strings.Contains(file, p) }) {
			rest[file] = content
		}
	}
	return rest
}

// cpuFiles are files of a CPU's topology: name, content, name, …
func cpuFiles(cpu int, pairs ...string) machine {
	m := machine{}
	for i := 0; i < len(pairs); i += 2 {
		m[fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/%s", cpu, pairs[i])] = pairs[i+1] + "\n"
	}
	return m
}

func cacheFiles(cpu, index int, level, kind, size, shared string) machine {
	dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/cache/index%d/", cpu, index)
	return machine{dir + "level": level, dir + "type": kind, dir + "size": size, dir + "shared_cpu_map": shared}
}

// span is the mask of n CPUs from first on, as the kernel writes it.
func span(first, n int) string {
	var words []uint32
	for cpu := first; cpu < first+n; cpu++ {
		for len(words) <= cpu/32 {
			words = append(words, 0)
		}
		words[cpu/32] |= 1 << (cpu % 32)
	}
	var parts []string
	for _, w := range slices.Backward(words) {
		parts = append(parts, fmt.Sprintf("%08x", w))
	}
	return strings.Join(parts, ",")
}

func node(id int, cpus, distance string, kib int) machine {
	dir := fmt.Sprintf("sys/devices/system/node/node%d/", id)
	return machine{dir + "cpumap": cpus, dir + "distance": distance, dir +
		"meminfo": fmt.Sprintf("Node %d MemTotal: %d kB\n", id, kib)}
}

func join(machines ...machine) machine {
	sum := machine{}
	for _, m := range machines {
		sum = sum.with(m)
	}
	return sum
}

// word is a number of the device tree.
func word(numbers ...uint32) string {
	var b []byte
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return string(b)
}

// power is a POWER of two cores of four threads whose caches only the device tree tells: an L2 each and an L3 for both.
func power() machine {
	m := shape{1, 2, 4}.machine().without("/cache/")
	for core := range uint32(2) {
		dir := fmt.Sprintf("proc/device-tree/cpus/PowerPC,POWER7@%d/", 4*core)
		m[dir+"device_type"], m[dir+"reg"], m[dir+"l2-cache"] = "cpu\x00", word(4*core), word(100+core)
		m[dir+"ibm,ppc-interrupt-server#s"] = word(4*core, 4*core+1, 4*core+2, 4*core+3)
		m[dir+"d-cache-size"], m[dir+"d-cache-line-size"], m[dir+"d-cache-sets"] = word(32<<10), word(128), word(32)
		m[dir+"i-cache-size"] = word(32 << 10)
		dir = fmt.Sprintf("proc/device-tree/cpus/l2-cache@%d/", core)
		m[dir+"device_type"], m[dir+"ibm,phandle"], m[dir+"l2-cache"] = "cache\x00", word(100+core), word(200)
		m[dir+"d-cache-size"], m[dir+"cache-unified"], m[dir+"d-cache-sets"] = word(256<<10), "", word(1)
	}
	const l3 = "proc/device-tree/cpus/l3-cache@0/"
	return m.with(machine{l3 + "device_type": "cache\x00", l3 + "ibm,phandle": word(200), l3 +
		"d-cache-size": word(4 << 20), l3 + "cache-unified": ""})
}

// mainframe has books and drawers above its packages.
func mainframe() machine {
	m := shape{4, 1, 1}.machine()
	for cpu := range 4 {
		m = m.with(cpuFiles(cpu, "book_siblings", span(cpu/2*2, 2), "book_id", fmt.Sprint(cpu/2),
			"drawer_siblings", span(0, 4), "drawer_id", "0"))
	}
	return m
}

var machineShapes = []struct {
	name  string
	files machine
	want  string
}{
	{"one thread a core", shape{1, 4, 1}.machine(), "1 packages 4 cores 4 threads; L1d×4/1 L2×1/4; nodes 0[4]"},
	{"two threads", shape{2, 2, 2}.machine(), "2 packages 4 cores 8 threads; L1d×4/2 L2×2/4; nodes 0[8]"},
	{"four threads", shape{2, 3, 4}.machine(), "2 packages 6 cores 24 threads; L1d×6/4 L2×2/12; nodes 0[24]"},
	{"eight threads, more than 64", shape{2, 6, 8}.machine(),
		"2 packages 12 cores 96 threads; L1d×12/8 L2×2/48; nodes 0[96]"},
	{"no cache told", shape{1, 4, 1}.machine().without("/cache/"),
		"1 packages 4 cores 4 threads;; nodes 0[4]; unknown cpu.caches"},
	{"no map of who shares a cache", shape{1, 2, 1}.machine().without("index1/shared_cpu_map"),
		"1 packages 2 cores 2 threads; L1d×2/1; nodes 0[2]; unknown cpu.caches"},
	{"POWER device tree", power(), "1 packages 2 cores 8 threads; L1d×2/4 L1i×2/4 L2×2/4 L3×1/8; nodes 0[8]"},
	{"device tree that points at itself", power().with(machine{"proc/device-tree/cpus/l3-cache@0/l2-cache": word(200)}),
		"1 packages 2 cores 8 threads; L1d×2/4 L1i×2/4 L2×2/4 L3×1/8; nodes 0[8]"},
	{"books and drawers", mainframe(), "4 packages 4 cores 4 threads; L1d×4/1 L2×4/1; nodes 0[4]"},
	{"first CPU offline", shape{1, 4,
		1}.machine().with(machine{"sys/devices/system/cpu/online": "1-3\n"}).without("cpu0/topology", "cpu0/cache"),
		"1 packages 3 cores 3 threads; L1d×3/1 L2×1/3; nodes 0[3]"},
	{"every second CPU", shape{1, 2,
		2}.machine().with(machine{"sys/devices/system/cpu/online": "0,2\n"}).without("cpu1/topology", "cpu3/topology"),
		"1 packages 2 cores 2 threads; L1d×2/1 L2×1/2; nodes 0[2]"},
	{"memory without CPUs", join(shape{1, 4, 1}.machine(), node(0, "f", "10 31", 1<<20), node(1, "0", "31 10", 1<<18)),
		"1 packages 4 cores 4 threads; L1d×4/1 L2×1/4; nodes 0[4] 1[0]"},
	{"CPUs without memory", join(shape{1, 4, 1}.machine(), node(0, "3", "10 20", 1<<20), node(1, "c", "20 10", 0)),
		"1 packages 4 cores 4 threads; L1d×4/1 L2×1/4; nodes 0[2] 1[2]"},
	{"sparse nodes", join(shape{2, 2, 1}.machine(), node(0, "3", "10 40 80", 1<<20), node(8, "c", "40 10 80", 1<<20),
		node(252, "0", "80 80 10", 1<<18), machine{"sys/devices/system/node/online": "0,8,252\n"}),
		"2 packages 4 cores 4 threads; L1d×4/1 L2×2/2; nodes 0[2] 8[2] 252[0]"},
	{"cpuset of version 1", join(shape{2, 2, 1}.machine(), node(0, "3", "10 20", 1<<20), node(1, "c", "20 10", 1<<20),
		machine{
			"proc/self/mountinfo": "32 31 0:32 / /dev/cpuset rw - cgroup cgroup rw,cpuset\n", "proc/self/cpuset": "/job\n",
			"proc/self/cgroup":           "3:cpuset:/job\n",
			"dev/cpuset/job/cpuset.cpus": "2-3\n", "dev/cpuset/job/cpuset.mems": "1\n"}),
		"1 packages 2 cores 2 threads; L1d×2/1 L2×1/2; nodes 1[2]"},
	{"a node allowed without its CPUs", join(shape{1, 4, 1}.machine(), node(0, "3", "10 20", 1<<20),
		node(1, "8", "20 10", 1<<20), machine{
			"proc/self/mountinfo": "32 31 0:32 / /dev/cpuset rw - cgroup cgroup rw,cpuset\n", "proc/self/cpuset": "/job\n",
			"proc/self/cgroup":           "3:cpuset:/job\n",
			"dev/cpuset/job/cpuset.cpus": "0-1\n", "dev/cpuset/job/cpuset.mems": "0-1\n"}),
		"1 packages 2 cores 2 threads; L1d×3/1 L2×1/4; nodes 0[2] 1[0]"}, // lstopo keeps the cache that the node hangs on
	{"memory that is a cache", join(shape{1, 4, 1}.machine(), node(0, "3", "10 20", 1<<20), node(1, "c", "20 10", 1<<20),
		machine{"var/run/hwloc/knl_memoryside_cache": "version: 2\ncache_size: 2147483648\nassociativity: 1\nline_size: " +
			"64\nmemory_mode: Hybrid50\n"}),
		"1 packages 4 cores 4 threads; L1d×4/1 L2×1/4 L3×2/2; nodes 0[2] 1[2]"},
	{"memory that is a garbled cache", shape{1, 4,
		1}.machine().with(machine{"var/run/hwloc/knl_memoryside_cache": "cache_size: much\nmemory_mode: Cache\n"}),
		"1 packages 4 cores 4 threads; L1d×4/1 L2×1/4; nodes 0[4]; unknown cpu.caches"},
	{"caches of two sizes", join(shape{1, 4, 1}.machine(), cacheFiles(2, 0, "1", "Data", "48K", "4"),
		cacheFiles(3, 0, "1", "Data", "48K", "8")),
		"1 packages 4 cores 4 threads; L1d×2/1 L1d×2/1 L2×1/4; nodes 0[4]"},
	{"clusters", join(shape{1, 4, 1}.machine(), cpuFiles(0, "cluster_cpus", "3"), cpuFiles(1, "cluster_cpus", "3"),
		cpuFiles(2, "cluster_cpus", "c"), cpuFiles(3, "cluster_cpus", "c")),
		"1 packages 4 cores 4 threads; L1d×4/1 L2×1/4; nodes 0[4]"},
}

// TestShapes reads machines of kinds that captures rarely show.
func TestShapes(t *testing.T) {
	for _, test := range machineShapes {
		t.Run(test.name, func(t *testing.T) {
			h := reported(t, test.files)
			if got := counted(h); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if err := h.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// counted writes how many there are of each part, caches with the threads that share one, and what of the topology is
// unknown.
func counted(h profile.Hardware) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d packages %d cores %d threads;", h.CPU.Packages, h.CPU.Cores, h.CPU.Threads)
	for _, c := range h.CPU.Caches {
		fmt.Fprintf(&b, " %s×%d/%d", cacheName(c), c.Instances, c.SharedBy)
	}
	b.WriteString("; nodes")
	for _, n := range h.NUMA {
		fmt.Fprintf(&b, " %d[%d]", n.ID, len(n.CPUs))
	}
	for _, key := range []string{"cpu.caches", "numa.1.memory_bytes"} {
		if _, ok := h.Unknown[key]; ok {
			b.WriteString("; unknown " + key)
		}
	}
	return b.String()
}

// SPARC's caches stand in files of the CPU, S/390's shared ones in /proc/cpuinfo, where no other file tells of them.
func TestCachesOutsideSysfsFolders(t *testing.T) {
	sparc := machine{"proc/cpuinfo": "cpu             : UltraSparc T2 (Niagara2)\n", "proc/meminfo": "MemTotal: 1024 kB\n",
		"sys/devices/system/cpu/online": "0-3\n"}
	for cpu := range 4 {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/", cpu)
		sparc[dir+"topology/core_id"] = fmt.Sprintln(cpu / 2)
		sparc[dir+"topology/thread_siblings"] = fmt.Sprintf("%x\n", 3<<(cpu/2*2))
		sparc[dir+"l1_dcache_size"], sparc[dir+"l1_dcache_line_size"] = "8192\n", "16\n"
		sparc[dir+"l2_cache_size"] = "4194304\n"
	}
	mainframe := machine{"proc/meminfo": "MemTotal: 1024 kB\n", "sys/devices/system/cpu/online": "0-1\n",
		"proc/sysinfo": "LPAR Number:          7\nVM00 Control Program: z/VM    6.4.0\n",
		"proc/cpuinfo": "vendor_id       : IBM/S390\n# processors    : 2\n" +
			"cache0          : level=1 type=Data scope=Private size=128K line_size=256 associativity=8\n" +
			"cache4          : level=3 type=Unified scope=Shared size=65536K line_size=256 associativity=16\n" +
			"processor 0: version = FF,  identification = 1633E8,  machine = 2964\n"}
	for cpu := range 2 {
		mainframe[fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/core_id", cpu)] = fmt.Sprintln(cpu)
	}
	for _, c := range []struct {
		name, model, hypervisor string
		m                       machine
		caches                  []profile.Cache
	}{
		{"SPARC", "UltraSparc T2 (Niagara2)", "", sparc, []profile.Cache{
			{Level: 1, Type: "data", SizeBytes: 8 * units.KiB, LineBytes: 16, SharedBy: 2, Instances: 2},
			{Level: 2, Type: "unified", SizeBytes: 4 * units.MiB, SharedBy: 2, Instances: 2}}},
		{"S/390", "IBM/S390 2964", "z/vm", mainframe, []profile.Cache{
			{Level: 3, Type: "unified", SizeBytes: 64 * units.MiB, LineBytes: 256, Ways: 16, SharedBy: 2, Instances: 1}}},
	} {
		h := reported(t, c.m)
		if h.CPU.Model != c.model || !slices.Equal(h.CPU.Caches, c.caches) {
			t.Errorf("%s: %s, caches %+v", c.name, h.CPU.Model, h.CPU.Caches)
		}
		if got := h.System; c.hypervisor != "" && (got == nil || got.Hypervisor != c.hypervisor) {
			t.Errorf("%s: under %+v, want %s", c.name, got, c.hypervisor)
		}
	}
}
