package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"go.yaml.in/yaml/v4"
)

// machine lays out files below a temporary root: path → content.
type machine map[string]string

func (m machine) lay(t *testing.T) string {
	t.Helper()
	dir := tempDir(t)
	for path, content := range m {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// with is m and more.
func (m machine) with(more machine) machine {
	sum := machine{}
	for _, part := range []machine{m, more} {
		for path, content := range part {
			sum[path] = content
		}
	}
	return sum
}

// smallMachine has two cores of two threads, an L1d each and one L2, 8 GiB, and a process without limits.
func smallMachine() machine {
	m := machine{
		"proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n" +
			"model name\t: Intel(R) Core(TM) i9  CPU @ 2GHz\nflags\t\t: sse4_2 avx avx2 fma hypervisor\n\n",
		"proc/meminfo": "MemTotal:        8388608 kB\nMemFree:         6000000 kB\n" +
			"MemAvailable:    7340032 kB\nHugepagesize:       2048 kB\n",
		"proc/self/status": "Name:\tx\nCpus_allowed_list:\t0-3\n",
		"proc/self/limits": "Limit                     Soft Limit           Hard Limit           Units\n" +
			"Max locked memory         65536                65536                bytes\n",
		"proc/self/cgroup":                           "0::/\n",
		"proc/version":                               "Linux version 6.1.0-test (x@y) #1\n",
		"sys/devices/system/cpu/online":              "0-3\n",
		"sys/devices/system/node/online":             "0\n",
		"sys/devices/system/node/node0/cpumap":       "f\n",
		"sys/devices/system/node/node0/distance":     "10\n",
		"sys/devices/system/node/node0/meminfo":      "Node 0 MemTotal:       8388608 kB\n",
		"sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
	}
	for cpu := range 4 {
		core, pair := cpu/2, fmt.Sprintf("%x", 3<<(cpu/2*2))
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/", cpu)
		m[dir+"topology/core_id"] = fmt.Sprintln(core)
		m[dir+"topology/core_cpus"] = pair + "\n"
		m[dir+"topology/package_cpus"] = "f\n"
		m[dir+"topology/physical_package_id"] = "0\n"
		for i, c := range []struct{ level, kind, size, ways, sets, shared string }{
			{"1", "Data", "32K", "8", "64", pair}, {"2", "Unified", "512K", "8", "1024", "f"},
		} {
			index := fmt.Sprintf("%scache/index%d/", dir, i)
			m[index+"level"], m[index+"type"], m[index+"size"] = c.level, c.kind, c.size
			m[index+"ways_of_associativity"], m[index+"number_of_sets"] = c.ways, c.sets
			m[index+"coherency_line_size"], m[index+"shared_cpu_map"] = "64", c.shared
		}
	}
	return m
}

func reported(t *testing.T, m machine) profile.Hardware {
	t.Helper()
	h, err := Reported(m.lay(t))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestReported(t *testing.T) {
	h := reported(t, smallMachine())
	want := `name: intel-core-i9
cpu:
  model: Intel(R) Core(TM) i9 CPU @ 2GHz
  packages 1 cores 2 threads 4
  L1d 32 KiB ways 8 sets 64 line 64 shared 2 ×2
  L2 512 KiB ways 8 sets 1024 line 64 shared 4 ×1
  isa [sse4_2 avx fma avx2]
memory: 8 GiB available 7 GiB limit <nil> lock 64 KiB page 4 KiB huge 2 MiB madvise
numa: [{0 [0 1 2 3] 8 GiB [10]}]
system: kernel 6.1.0-test psi false
unknown: map[gpus:/sys/bus/pci/devices: not there system.hypervisor:there is one, and no file names it]
`
	if got := outline(h); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// outline writes what the tests look at.
func outline(h profile.Hardware) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\ncpu:\n  model: %s\n  packages %d cores %d threads %d\n", h.Name, h.CPU.Model,
		h.CPU.Packages, h.CPU.Cores, h.CPU.Threads)
	for _, c := range h.CPU.Caches {
		fmt.Fprintf(&b, "  %s %v ways %d sets %d line %d shared %d ×%d\n", cacheName(c), c.SizeBytes, c.Ways, c.Sets,
			c.LineBytes, c.SharedBy, c.Instances)
	}
	m := h.Memory
	fmt.Fprintf(&b, "  isa %v\nmemory: %v available %v limit %v lock %v page %v huge %v %s\n", h.CPU.ISA,
		m.TotalBytes, m.AvailableBytes, m.LimitBytes, m.MaxMlockBytes, m.PageBytes, m.HugePageBytes, m.TransparentHugePage)
	fmt.Fprintf(&b, "numa: %v\nsystem: kernel %s psi %v\nunknown: %v\n", h.NUMA, h.System.Kernel, h.System.PSI, h.Unknown)
	return b.String()
}

const oldMounts = "32 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
	"33 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
const unlimitedV1 = "9223372036854771712\n"

func inFolder(dir string, files machine) machine {
	sum := machine{}
	for name, content := range files {
		sum[dir+"/"+name] = content
	}
	return sum
}

var controllers = machine{"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory\n",
	"proc/self/mountinfo": groupMount}

var limitsRead = []struct {
	name      string
	files     machine
	limit     units.Bytes // 0: none
	available units.Bytes
	quota     float64
	source    string
	unknown   string
	allowed   string
	threads   int
}{
	{name: "none", threads: 4, available: 7 * units.GiB},
	{name: "version 2, own limit", threads: 4, limit: 2 * units.GiB, available: units.GiB + 512*units.MiB, quota: 1.5,
		source: "/sys/fs/cgroup/app/memory.max",
		files: controllers.with(machine{"proc/self/cgroup": "0::/app\n"}).with(inFolder("sys/fs/cgroup/app", machine{
			"memory.max": "2147483648\n", "memory.current": "1073741824\n", "memory.stat": "anon 1\ninactive_file 536870912\n",
			"cpu.max": "150000 100000\n"}))},
	{name: "version 2, an ancestor's limit is tighter", threads: 4, limit: units.GiB, available: units.GiB,
		source: "/sys/fs/cgroup/a/memory.max",
		files: controllers.with(machine{"proc/self/cgroup": "0::/a/b/c\n", "sys/fs/cgroup/a/b/c/memory.max": "4294967296\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n",
			"sys/fs/cgroup/a/memory.max":   "1073741824\n", "sys/fs/cgroup/a/memory.current": "0\n",
			"sys/fs/cgroup/a/memory.stat": "inactive_file 0\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"})},
	{name: "version 2 in a container with a namespace", threads: 4, limit: units.GiB, available: units.GiB,
		source: "/sys/fs/cgroup/memory.max",
		files:  controllers.with(machine{"sys/fs/cgroup/memory.max": "1073741824\n"})},
	{name: "version 2, the process outside of the mount", threads: 4, limit: units.GiB, available: units.GiB,
		source: "/sys/fs/cgroup/memory.max",
		files:  controllers.with(machine{"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/memory.max": "1073741824\n"})},
	{name: "version 2, garbled", threads: 4, available: 7 * units.GiB,
		unknown: `/sys/fs/cgroup/memory.max: "lots" is no limit`,
		files:   controllers.with(machine{"sys/fs/cgroup/memory.max": "lots\n"})},
	{name: "version 1, own limit", threads: 4, limit: 2 * units.GiB, available: 2 * units.GiB, quota: 0.5,
		source: "/sys/fs/cgroup/memory/app/memory.limit_in_bytes",
		files: machine{"proc/self/mountinfo": oldMounts, "proc/self/cgroup": "5:memory:/app\n4:cpu,cpuacct:/app\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":      unlimitedV1,
			"sys/fs/cgroup/memory/app/memory.limit_in_bytes":  "2147483648\n",
			"sys/fs/cgroup/memory/app/memory.usage_in_bytes":  "4096\n",
			"sys/fs/cgroup/memory/app/memory.stat":            "total_inactive_file 8192\n",
			"sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us":  "50000\n",
			"sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us": "100000\n"}},
	{name: "version 1 in a container: the mount shows the group alone", threads: 4, limit: units.GiB,
		available: units.GiB, source: "/sys/fs/cgroup/memory/memory.limit_in_bytes",
		files: machine{"proc/self/mountinfo": "32 31 0:32 /docker/f00 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"proc/self/cgroup":                           "5:memory:/docker/f00\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"}},
	{name: "version 1, an ancestor outside of the mount", threads: 4, limit: 3 * units.GiB, available: 3 * units.GiB,
		source: "/sys/fs/cgroup/memory/memory.stat",
		files: machine{"proc/self/mountinfo": "32 31 0:32 /docker/f00 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"proc/self/cgroup":                           "5:memory:/docker/f00\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": unlimitedV1, "sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
			"sys/fs/cgroup/memory/memory.stat": "hierarchical_memory_limit 3221225472\n"}},
	{name: "version 2 without mountinfo", threads: 4, limit: units.GiB, available: units.GiB,
		source: "/sys/fs/cgroup/memory.max",
		files:  machine{"sys/fs/cgroup/cgroup.controllers": "memory\n", "sys/fs/cgroup/memory.max": "1073741824\n"}},
	{name: "one CPU of affinity", threads: 4, available: 7 * units.GiB, allowed: "[2]",
		files: machine{"proc/self/status": "Cpus_allowed_list:\t2\n"}},
	{name: "a cpuset of two CPUs", threads: 2, available: 7 * units.GiB,
		files: controllers.with(machine{"proc/self/cpuset": "/pod\n", "proc/self/cgroup": "0::/pod\n",
			"sys/fs/cgroup/pod/cpuset.cpus.effective": "1,3\n"})},
}

// TestLimits lays out control groups of both versions, containers included, and affinity.
func TestLimits(t *testing.T) {
	for _, test := range limitsRead {
		t.Run(test.name, func(t *testing.T) {
			h := reported(t, smallMachine().with(test.files))
			limit := units.Bytes(0)
			if h.Memory.LimitBytes != nil {
				limit = *h.Memory.LimitBytes
			}
			if limit != test.limit || h.Memory.LimitSource != test.source || h.Unknown["memory.limit_bytes"] != test.unknown {
				t.Errorf("limit %v from %q, unknown %q", limit, h.Memory.LimitSource, h.Unknown["memory.limit_bytes"])
			}
			if h.Memory.AvailableBytes == nil || *h.Memory.AvailableBytes != test.available {
				t.Errorf("available %v, want %v", h.Memory.AvailableBytes, test.available)
			}
			if q := h.System.CPUQuota; (q == nil) != (test.quota == 0) || q != nil && *q != test.quota {
				t.Errorf("CPU quota %v, want %v", q, test.quota)
			}
			if h.CPU.Threads != test.threads || test.allowed != "" && fmt.Sprint(h.CPU.Allowed) != test.allowed {
				t.Errorf("threads %d, allowed %v", h.CPU.Threads, h.CPU.Allowed)
			}
		})
	}
}

var damaged = []struct {
	name    string
	files   machine
	missing []string
	unknown map[string]string // key → part of the reason
	check   func(h profile.Hardware) bool
}{
	{name: "no meminfo", missing: []string{"proc/meminfo"},
		unknown: map[string]string{"memory.available_bytes": "/proc/meminfo: not there"},
		check:   func(h profile.Hardware) bool { return h.Memory.TotalBytes == 8*units.GiB }},
	{name: "garbled meminfo", files: machine{"proc/meminfo": "MemTotal: many kB\n"},
		unknown: map[string]string{"memory.available_bytes": "names no MemTotal"}},
	{name: "no cpuinfo", missing: []string{"proc/cpuinfo"},
		unknown: map[string]string{"cpu.model": "/proc/cpuinfo: not there", "memory.page_bytes": ""}},
	{name: "garbled cache level", files: machine{"sys/devices/system/cpu/cpu0/cache/index1/level": "x"},
		unknown: map[string]string{"cpu.caches": "is no number"},
		check:   func(h profile.Hardware) bool { return len(h.CPU.Caches) == 1 }},
	{name: "cache without size", files: machine{"sys/devices/system/cpu/cpu0/cache/index1/size": ""},
		unknown: map[string]string{"cpu.caches[1].size_bytes": "tells no size"},
		check:   func(h profile.Hardware) bool { return h.CPU.Caches[1].Instances == 1 }},
	{name: "cache with a list and no map", missing: []string{"sys/devices/system/cpu/cpu0/cache/index1/shared_cpu_map"},
		files: machine{"sys/devices/system/cpu/cpu0/cache/index1/shared_cpu_list": "0-3"},
		check: func(h profile.Hardware) bool { return h.CPU.Caches[1].SharedBy == 4 }},
	{name: "garbled node", files: machine{"sys/devices/system/node/node0/cpumap": "?"},
		unknown: map[string]string{"numa.0": "no mask of CPUs"},
		check:   func(h profile.Hardware) bool { return len(h.NUMA) == 1 }},
	{name: "garbled distance", files: machine{"sys/devices/system/node/node0/distance": "ten"},
		unknown: map[string]string{"numa.0.distances": "no distance"}},
	{name: "garbled affinity", files: machine{"proc/self/status": "Cpus_allowed_list:\t9-x\n"},
		unknown: map[string]string{"cpu.allowed": "no list of CPUs"}},
	{name: "no limits file", missing: []string{"proc/self/limits"},
		unknown: map[string]string{"memory.max_mlock_bytes": "not there"}},
	{name: "no sysfs topology", missing: []string{"sys/devices/system/cpu"},
		unknown: map[string]string{"cpu.caches": "describes no CPU", "cpu.packages": "", "cpu.cores": ""},
		check:   func(h profile.Hardware) bool { return h.CPU.Threads == 1 && h.CPU.Cores == 1 }},
	{name: "no CPU at all", missing: []string{"sys/devices/system/cpu", "proc/cpuinfo"},
		unknown: map[string]string{"cpu": "neither", "memory.page_bytes": ""},
		check:   func(h profile.Hardware) bool { return h.CPU == nil && h.Memory != nil }},
	{name: "package ids of -1", files: machine{"sys/devices/system/cpu/cpu0/topology/physical_package_id": "-1\n"},
		check: func(h profile.Hardware) bool { return h.CPU.Packages == 1 }},
	{name: "a group above what is seen", files: controllers.with(machine{"proc/self/cgroup": "0::/../..\n"}),
		unknown: map[string]string{"memory.limit_bytes": "says /../..", "system.cpu_quota": "says /../.."}},
	{name: "a group and no mount of groups", files: machine{"proc/self/cgroup": "0::/x\n",
		"proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"},
		unknown: map[string]string{"memory.limit_bytes": "says /x", "system.cpu_quota": "says /x"}},
	{name: "a group whose folder is not there", files: controllers.with(machine{"proc/self/cgroup": "0::/x\n"}),
		unknown: map[string]string{"memory.limit_bytes": "sys/fs/cgroup/x, the process's own group, is not there"}},
	{name: "a group of version 1 and no mount of it", files: machine{
		"proc/self/cgroup":    "5:cpu,cpuacct:/\n4:memory:/docker/x\n",
		"proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"},
		unknown: map[string]string{"memory.limit_bytes": "no groups of memory are mounted"}},
	{name: "a group of version 1 and a mount of others", files: machine{"proc/self/cgroup": "4:memory:/x\n3:cpu:/x\n",
		"proc/self/mountinfo": "35 31 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"},
		unknown: map[string]string{"memory.limit_bytes": "says /x", "system.cpu_quota": "says /x"}},
	{name: "a controller that the kernel leaves out", files: machine{"proc/self/cgroup": "0::/x\n",
		"proc/cgroups":        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t9\t0\nmemory\t0\t79\t0\n",
		"proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"}},
	{name: "garbled quota", files: controllers.with(machine{"sys/fs/cgroup/cpu.max": "-1 100000\n"}),
		unknown: map[string]string{"system.cpu_quota": "is no quota and period"}},
	{name: "quota without a period", files: controllers.with(machine{"sys/fs/cgroup/cpu.max": "100000 0\n"}),
		unknown: map[string]string{"system.cpu_quota": "is no quota and period"}},
	{name: "old file names", missing: []string{"sys/devices/system/cpu/cpu0/topology/core_cpus"},
		files: machine{"sys/devices/system/cpu/cpu0/topology/thread_siblings": "3\n"},
		check: func(h profile.Hardware) bool { return h.CPU.Cores == 2 }},
}

// TestDamaged breaks one thing at a time: it alone is unknown, with the reason.
func TestDamaged(t *testing.T) {
	for _, test := range damaged {
		t.Run(test.name, func(t *testing.T) {
			m := smallMachine().with(test.files)
			for path := range m {
				for _, gone := range test.missing {
					if path == gone || strings.HasPrefix(path, gone+"/") {
						delete(m, path)
					}
				}
			}
			h := reported(t, m)
			for key, why := range test.unknown {
				if got, ok := h.Unknown[key]; !ok || !strings.Contains(got, why) {
					t.Errorf("unknown %s: %q, want %q; all: %v", key, got, why, h.Unknown)
				}
			}
			delete(h.Unknown, "system.hypervisor")
			delete(h.Unknown, "gpus")
			if len(h.Unknown) != len(test.unknown) {
				t.Errorf("unknown: %v", h.Unknown)
			}
			if test.check != nil && !test.check(h) {
				t.Errorf("got %+v %+v", h.CPU, h.Memory)
			}
		})
	}
}

func TestNoPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := smallMachine().lay(t)
	if err := os.Chmod(filepath.Join(dir, "proc/self/limits"), 0); err != nil {
		t.Fatal(err)
	}
	h, err := Reported(dir)
	if err != nil || h.Unknown["memory.max_mlock_bytes"] != "/proc/self/limits: no permission" {
		t.Error(err, h.Unknown)
	}
}

func TestBadRoot(t *testing.T) {
	for name, dir := range map[string]string{"not there": "/nonexistent", "a file": "probe.go", "empty": t.TempDir()} {
		if _, err := Reported(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want an error that names %s", name, err, dir)
		}
	}
}

// TestCaptureStaysInside points a capture's files at the live machine: nothing may come of it.
func TestCaptureStaysInside(t *testing.T) {
	dir := smallMachine().lay(t)
	online := filepath.Join(dir, "sys/devices/system/cpu/online")
	if err := os.Remove(online); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "online")
	if err := os.WriteFile(outside, []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, online); err != nil {
		t.Fatal(err)
	}
	h, err := Reported(dir)
	if err != nil || h.CPU.Threads != 4 {
		t.Errorf("threads %d, error %v: the link outside was followed", h.CPU.Threads, err)
	}
	if h.System.Hypervisor != "" || h.System.Kernel != "6.1.0-test" {
		t.Errorf("the live machine shows: %+v", h.System)
	}
}

// TestYAMLReadsBack holds that what probe writes is what --hardware takes, to the last field.
func TestYAMLReadsBack(t *testing.T) {
	h := reported(t, smallMachine())
	m := Measurement{Unknown: map[string]string{"measured.l2_bytes": "no step"},
		Warnings: []evidence.Warning{{Code: Disturbed, Text: "noisy"}}}
	m.L1Bytes, m.L1Interval = 32*units.KiB, &profile.Interval{Low: 28 * units.KiB, High: 36 * units.KiB, Confidence: 0.9}
	m.DRAMReadBytesPerS, m.Costs = 2.5e10, map[string]float64{"page_fault": 5e-7}
	m.Latency = []profile.LatencyPoint{{Bytes: 4096, Order: Random, Seconds: 1e-9}}
	m.Into(&h)
	h.Fingerprint = Fingerprint(h)
	text, err := yaml.Dump(h)
	if err != nil {
		t.Fatal(err)
	}
	back, err := profile.DecodeHardware("probe.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want, _ := json.Marshal(h)
	if got, _ := json.Marshal(back); string(got) != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestJSONNames holds the names that scripts rely on.
func TestJSONNames(t *testing.T) {
	h := reported(t, smallMachine())
	m := Measurement{}
	m.L1Bytes, m.L2Bytes, m.LLCBytes, m.DRAMReadBytesPerS = 1, 2, 3, 4
	m.Into(&h)
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		CPU struct {
			Model    *string `json:"model"`
			Packages *int    `json:"packages"`
			Cores    *int    `json:"cores"`
			Threads  *int    `json:"threads"`
			Caches   []struct {
				Level     *int    `json:"level"`
				Type      *string `json:"type"`
				Size      *int64  `json:"size_bytes"`
				Ways      *int    `json:"ways"`
				Line      *int64  `json:"line_bytes"`
				SharedBy  *int    `json:"shared_by"`
				Instances *int    `json:"instances"`
			} `json:"caches"`
		} `json:"cpu"`
		Measured map[string]any   `json:"measured"`
		NUMA     []map[string]any `json:"numa"`
		Memory   map[string]any   `json:"memory"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	c := got.CPU
	if c.Model == nil || c.Packages == nil || c.Cores == nil || c.Threads == nil || len(c.Caches) != 2 {
		t.Errorf("cpu lacks a name: %s", data)
	}
	for _, k := range c.Caches {
		if k.Level == nil || k.Type == nil || k.Size == nil || k.Ways == nil || k.Line == nil || k.SharedBy == nil ||
			k.Instances == nil {
			t.Errorf("caches lack a name: %s", data)
		}
	}
	for where, names := range map[string][]string{
		"measured": {"l1_bytes", "l2_bytes", "llc_bytes", "dram_read_bytes_per_s"},
		"numa":     {"id", "cpus", "memory_bytes"},
		"memory":   {"total_bytes", "limit_bytes", "available_bytes"},
	} {
		section := map[string]map[string]any{"measured": got.Measured, "numa": got.NUMA[0], "memory": got.Memory}[where]
		for _, name := range names {
			if _, ok := section[name]; !ok {
				t.Errorf("%s lacks %s: %s", where, name, data)
			}
		}
	}
}

func TestFingerprint(t *testing.T) {
	h := reported(t, smallMachine())
	same := reported(t, smallMachine().with(machine{"proc/meminfo": "MemTotal:        8388608 kB\n" +
		"MemAvailable:    1000 kB\nHugepagesize: 2048 kB\n"}))
	other := reported(t, smallMachine().with(machine{"sys/devices/system/cpu/cpu0/cache/index1/size": "1024K"}))
	if h.Fingerprint == "" || h.Fingerprint != same.Fingerprint || h.Fingerprint == other.Fingerprint {
		t.Errorf("%q, with less free memory %q, with another cache %q", h.Fingerprint, same.Fingerprint, other.Fingerprint)
	}
}

func TestCoreKinds(t *testing.T) {
	perCPU := func(file string, values ...string) machine {
		m := machine{}
		for cpu, v := range values {
			m[fmt.Sprintf("sys/devices/system/cpu/cpu%d/%s", cpu, file)] = v + "\n"
		}
		return m
	}
	for _, test := range []struct {
		name  string
		files machine
		want  string
	}{
		{"alike", perCPU("cpufreq/cpuinfo_max_freq", "4000000", "4000000", "4100000", "4200000"), ""},
		{"by unit", machine{"sys/devices/cpu_core/cpus": "0-1\n", "sys/devices/cpu_atom/cpus": "2-3\n"},
			"performance 1/2 [0 1], efficiency 1/2 [2 3]"},
		{"by capacity", perCPU("cpu_capacity", "446", "446", "1024", "1024"), "performance 1/2 [2 3], efficiency 1/2 [0 1]"},
		{"by part", perCPU("regs/identification/midr_el1", "0x00000000410fd034", "0x00000000410fd034", "0x00000000410fd082",
			"0x00000000410fd082"), "performance 1/2 [2 3], efficiency 1/2 [0 1]"},
		{"by base frequency", perCPU("cpufreq/base_frequency", "1900000", "1900000", "1400000", "1400000"),
			"performance 1/2 [0 1], efficiency 1/2 [2 3]"},
		{"by maximum frequency", perCPU("cpufreq/cpuinfo_max_freq", "5000000", "5000000", "3900000", "3900000"),
			"performance 1/2 [0 1], efficiency 1/2 [2 3]"},
		{"some CPUs silent", perCPU("cpufreq/cpuinfo_max_freq", "5000000"), ""},
	} {
		var got []string
		for _, k := range reported(t, smallMachine().with(test.files)).CPU.Kinds {
			got = append(got, fmt.Sprintf("%s %d/%d %v", k.Name, k.Cores, k.Threads, k.CPUs))
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// TestCPUID decodes recordings: an Ice Lake client core, an EPYC, and a hypervisor that repeats an entry for ever.
func TestCPUID(t *testing.T) {
	type registers [3]uint32
	recording := func(leaf uint32, entries ...registers) cpuidReader {
		return func(l, sub uint32) (uint32, uint32, uint32, uint32) {
			switch {
			case l == 0:
				return 0x1b, 0, 0, 0
			case l == 0x80000001:
				return 0, 0, 1 << 22, 0
			case l != leaf || len(entries) == 0:
				return 0, 0, 0, 0
			}
			e := entries[min(int(sub), len(entries)-1)]
			return e[0], e[1], e[2], 0
		}
	}
	end := registers{}
	for _, test := range []struct {
		name   string
		read   cpuidReader
		vendor string
		want   string
	}{
		{"Intel", recording(4, registers{0x1c004121, 0x02c0003f, 0x3f}, registers{0x1c004122, 0x01c0003f, 0x3f},
			registers{0x1c004143, 0x01c0003f, 0x3ff}, registers{0x1c03c163, 0x02c0003f, 0x1fff}, end),
			"GenuineIntel", "L1d 48 KiB ways 12 shared 2 ×4, L1i 32 KiB ways 8 shared 2 ×4, L2 512 KiB ways 8 shared 2 ×4, " +
				"L3 6 MiB ways 12 shared 8 ×1"},
		{"AMD", recording(0x8000001d, registers{0x00000121, 0x01c0003f, 0x3f}, registers{0x0001c163, 0x03c0003f, 0x7fff},
			end),
			"AuthenticAMD", "L1d 32 KiB ways 8 shared 1 ×8, L3 32 MiB ways 16 shared 8 ×1"},
		{"repeating", recording(4, registers{0x1c004121, 0x02c0003f, 0x3f}), "GenuineIntel",
			"L1d 48 KiB ways 12 shared 2 ×4"},
		{"silent", recording(4), "GenuineIntel", ""},
	} {
		var got []string
		for _, c := range cpuidCaches(test.read, test.vendor, 8) {
			got = append(got, fmt.Sprintf("%s %v ways %d shared %d ×%d", cacheName(c), c.SizeBytes, c.Ways, c.SharedBy,
				c.Instances))
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("%s: %q", test.name, got)
		}
	}
}

// TestBulldozer: a module's two cores list each other as threads and have ids of their own.
func TestBulldozer(t *testing.T) {
	files := machine{"proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 21\n" +
		"model name\t: AMD Opteron(TM)\n\n"}
	for cpu := range 4 {
		files[fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/core_id", cpu)] = fmt.Sprintln(cpu)
	}
	if h := reported(t, smallMachine().with(files)); h.CPU.Cores != 4 || h.CPU.Packages != 1 {
		t.Errorf("cores %d, packages %d", h.CPU.Cores, h.CPU.Packages)
	}
}

var two = shape{2, 2, 1}.machine()

var drawn = []struct {
	name  string
	files machine
	want  string
}{
	{"one package", smallMachine(), `
Machine (8192MB total) + Package L#0
  NUMANode L#0 (P#0 8192MB)
  L2 L#0 (512KB)
    L1d L#0 (32KB) + Core L#0
      PU L#0 (P#0)
      PU L#1 (P#1)
    L1d L#1 (32KB) + Core L#1
      PU L#2 (P#2)
      PU L#3 (P#3)
`},
	{"two packages on one node of unknown size", two.without("meminfo"), `
Machine
  NUMANode L#0 (P#0)
  Package L#0 + L2 L#0 (1024KB)
    L1d L#0 (32KB) + Core L#0 + PU L#0 (P#0)
    L1d L#1 (32KB) + Core L#1 + PU L#1 (P#1)
  Package L#1 + L2 L#1 (1024KB)
    L1d L#2 (32KB) + Core L#2 + PU L#2 (P#2)
    L1d L#3 (32KB) + Core L#3 + PU L#3 (P#3)
`},
	{"one package of two allowed", join(two,
		machine{"proc/self/mountinfo": "32 31 0:32 / /dev/cpuset rw - cgroup cgroup rw,cpuset\n",
			"proc/self/cpuset": "/job\n", "proc/self/cgroup": "3:cpuset:/job\n", "dev/cpuset/job/cpuset.cpus": "3\n"}), `
Machine (1024MB total) + Package L#0
  NUMANode L#0 (P#0 1024MB)
  L2 L#0 (1024KB) + L1d L#0 (32KB) + Core L#0 + PU L#0 (P#3)
`},
	{"dies with a cache each", join(shape{1, 4, 1}.machine(), cpuFiles(0, "die_cpus", "3"), cpuFiles(1, "die_cpus", "3"),
		cpuFiles(2, "die_cpus", "c"), cpuFiles(3, "die_cpus", "c"),
		cacheFiles(0, 2, "3", "Unified", "8192K", "3"), cacheFiles(2, 2, "3", "Unified", "8192K", "c")).without("index1"), `
Machine (1024MB total) + Package L#0
  NUMANode L#0 (P#0 1024MB)
  Die L#0 + L3 L#0 (8192KB)
    L1d L#0 (32KB) + Core L#0 + PU L#0 (P#0)
    L1d L#1 (32KB) + Core L#1 + PU L#1 (P#1)
  Die L#1 + L3 L#1 (8192KB)
    L1d L#2 (32KB) + Core L#2 + PU L#2 (P#2)
    L1d L#3 (32KB) + Core L#3 + PU L#3 (P#3)
`},
}

func TestDraw(t *testing.T) {
	for _, test := range drawn {
		_, topology, err := Read(test.files.lay(t))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := topology.Draw(&b); err != nil {
			t.Fatal(err)
		}
		if b.String() != test.want[1:] {
			t.Errorf("%s: got\n%swant%s", test.name, b.String(), test.want)
		}
	}
}

// FuzzReported reads machines with one file replaced by anything: no panic, and what is read is valid or named as
// unknown.
func FuzzReported(f *testing.F) {
	base := smallMachine()
	for _, path := range []string{"proc/cpuinfo", "proc/meminfo", "proc/self/cgroup", "sys/devices/system/cpu/online",
		"sys/devices/system/node/node0/cpumap"} {
		f.Add(path, base[path])
		f.Add(path, "\x00,-")
	}
	f.Fuzz(func(t *testing.T, path, content string) {
		if _, ok := base[path]; !ok || !fs.ValidPath(path) {
			t.Skip("no file of a machine")
		}
		h, err := Reported(base.with(machine{path: content}).lay(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Validate(); err != nil && h.CPU != nil {
			t.Error(err)
		}
	})
}

// TestARootIsAFolder: a named pipe is refused at once, without waiting for its writer.
func TestARootIsAFolder(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "root")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := Reported(pipe); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("%v", err)
	}
}
