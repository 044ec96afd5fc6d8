// Package probe finds out what a machine is: what it reports about itself, and what it really does.
//
// Reported reads the kernel's files below a root, the live machine's "/" or a captured /sys and /proc. The topology
// follows lstopo's rules, so its counts are lstopo's: online, described by the kernel, allowed by the cgroup. The
// tightest limit wins: memory under a cgroup is the smallest limit from the process's own group up to the top of what
// is mounted. An item that cannot be read is named in Hardware.Unknown with the reason, and the rest goes on; nothing
// is filled with a guess or a zero.
//
// Measure times the machine it runs on: latency by pointer chases in three orders (chase.go), capacities as change
// points of latency (knee.go), bandwidth (bandwidth.go, crew.go), arithmetic, faults and copies (costs.go), and Cards
// the CUDA devices (gpu.go). The clock is here alone. Both kinds of fact are kept apart because machines lie: a virtual
// machine commonly reports its host's whole last-level cache.
package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// reading collects one machine as its files are read.
type reading struct {
	root *root
	info cpuInfo
	t    *Topology
	h    profile.Hardware
}

// Reported reads the machine below dir, "/" for the live one. It fails only where dir holds no machine at all: no
// directory, or neither sys nor proc in it.
func Reported(dir string) (profile.Hardware, error) {
	h, _, err := Read(dir)
	return h, err
}

// Read is Reported with the topology, for drawing.
func Read(dir string) (profile.Hardware, *Topology, error) { return ReadFor(dir, 0) }

// ReadFor is Read with the limits, groups and affinity of the process pid, 0 for this one. What that process has
// mapped counts as held.
func ReadFor(dir string, pid int) (profile.Hardware, *Topology, error) {
	r, err := openRoot(dir)
	if err != nil {
		return profile.Hardware{}, nil, err
	}
	defer r.close()
	if pid > 0 {
		r.self, r.named = fmt.Sprintf("proc/%d", pid), true
		if !r.exists(r.self) {
			return profile.Hardware{}, nil, fmt.Errorf("root %s: no process %d is running there", dir, pid)
		}
	}
	if !r.exists("sys") && !r.exists("proc") {
		return profile.Hardware{}, nil, fmt.Errorf("root %s holds neither sys nor proc: want \"/\" or a captured machine",
			dir)
	}
	rd := &reading{root: r, info: readCPUInfo(r), h: profile.Hardware{Schema: profile.HardwareSchema,
		Unknown: map[string]string{}}}
	rd.t = readTopology(r, rd.info)
	rd.readCPU()
	rd.readMemory()
	rd.readSystem()
	rd.readCompute()
	rd.readCards()
	if !r.live {
		rd.readCaptured()
	}
	rd.h.NUMA = rd.t.Nodes
	rd.h.Warnings = append(rd.h.Warnings, rd.t.Warnings...)
	for key, why := range rd.t.unknown {
		rd.h.Unknown[key] = why
	}
	rd.h.Name = rd.name()
	rd.h.Fingerprint = Fingerprint(rd.h)
	if err := rd.h.Bounded(); err != nil {
		return profile.Hardware{}, nil, fmt.Errorf("reading %s: %w", dir, err)
	}
	return rd.h, rd.t, nil
}

func (rd *reading) unknown(key string, err error) {
	if err != nil {
		rd.h.Unknown[key] = err.Error()
	}
}

func (rd *reading) readCPU() {
	t, info := rd.t, rd.info
	if t.Count(PU) == 0 {
		rd.unknown("cpu", errors.New("neither /"+cpuDir+" nor /proc/cpuinfo lists a CPU"))
		return
	}
	c := &profile.CPU{
		Model: info.model, Vendor: info.vendor, MHz: info.mhz, ISA: info.isa(),
		Packages: t.Count(Package), Cores: t.Count(Core), Threads: t.Count(PU),
		Caches: t.caches(), Kinds: t.readKinds(rd.root), Offline: t.Offline,
		Source: profile.Sources{"default": "reported: /" + cpuDir, "model": "reported: /proc/cpuinfo",
			"isa": "reported: /proc/cpuinfo"},
	}
	rd.h.CPU = c
	if namesNoCore(c.Model) || len(c.Kinds) > 1 {
		if name := t.armModel(); name != "" {
			c.Model, c.Source["model"] = name, "derived: the cores' implementer and part"
		}
	}
	if c.Model == "" {
		err := info.err
		if err == nil {
			err = errors.New("/proc/cpuinfo names no model")
		}
		rd.unknown("cpu.model", err)
	}
	if c.Packages == 0 {
		rd.unknown("cpu.packages", errors.New("the kernel describes no package"))
	}
	if n := t.undescribed.and(t.visible).count(); n > 0 {
		c.Cores, c.Source["cores"] = c.Cores+n, "assumed: one thread per core that the kernel does not describe"
		rd.unknown("cpu.cores", fmt.Errorf("the kernel describes %d of %d CPUs", c.Threads-n, c.Threads))
	}
	if c.Cores == 0 {
		c.Cores, c.Source["cores"] = c.Threads, "assumed: one thread per core"
		rd.unknown("cpu.cores", errors.New("the kernel describes no core"))
	}
	if len(c.Caches) == 0 && rd.root.live {
		if c.Caches = liveCaches(c.Vendor, c.Threads); len(c.Caches) > 0 {
			c.Source["caches"] = "reported: CPUID of one core"
			delete(rd.t.unknown, "cpu.caches")
		}
	}
	if len(c.Caches) == 0 && rd.t.unknown["cpu.caches"] == "" {
		rd.unknown("cpu.caches", fmt.Errorf("no cache below /%s", cpuDir))
	}
	for i, k := range c.Caches {
		if k.SizeBytes == 0 {
			rd.unknown(fmt.Sprintf("cpu.caches[%d].size_bytes", i), errors.New("the kernel tells no size"))
		}
	}
	rd.readAffinity()
}

// readAffinity notes the CPUs this process may run on where they are fewer than the machine's.
func (rd *reading) readAffinity() {
	status, err := rd.root.text(rd.root.self + "/status")
	if err != nil {
		if rd.root.live {
			rd.unknown("cpu.allowed", err)
		}
		return // a capture is no process
	}
	for line := range strings.Lines(status) {
		list, ok := strings.CutPrefix(line, "Cpus_allowed_list:")
		if !ok {
			continue
		}
		allowed, err := parseList(list)
		rd.unknown("cpu.allowed", err)
		if allowed = allowed.and(rd.t.visible); err == nil && !allowed.equal(rd.t.visible) {
			rd.h.CPU.Allowed = allowed.list()
			for _, o := range rd.t.objects {
				if o.Type == Core && o.visible.intersects(allowed) {
					rd.h.CPU.AllowedCores++
				}
			}
		}
	}
}

// readCaptured takes a capture's cards, or says why there are none to describe.
func (rd *reading) readCaptured() {
	switch err := rd.readCapturedCards(); {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		rd.unknown("gpus", err)
	case !rd.root.exists(pciDir):
		rd.h.Unknown["gpus"] = "/" + pciDir + ": not there"
	case len(rd.h.Cards) > 0:
		rd.h.Unknown["gpus"] = "the capture holds no driver's answers: its cards are named, not described"
	}
}

// readCompute notes how many threads are worth running, once affinity and quota are known.
func (rd *reading) readCompute() {
	if c := rd.h.CPU; c != nil {
		c.UsableThreads = rd.h.UsableThreads()
		c.ComputeThreads, c.ComputeThreadsWhy = rd.h.Compute()
		c.Source["compute_threads"] = "derived: cores, affinity, kinds and CPU quota"
		c.Source["usable_threads"] = c.Source["compute_threads"]
	}
}

func (rd *reading) warn(code evidence.Code, format string, args ...any) {
	rd.h.Warnings = append(rd.h.Warnings, evidence.Warn(code, format, args...))
}

func (rd *reading) readMemory() {
	m := &profile.Memory{Source: profile.Sources{"default": "reported: /proc/meminfo"}}
	info, err := readMeminfo(rd.root, "proc/meminfo")
	if m.TotalBytes = info["MemTotal"]; m.TotalBytes > 0 {
		m.HugePageBytes = info["Hugepagesize"]
		if left, ok := available(info); ok {
			m.AvailableBytes = &left
		}
	} else {
		for _, n := range rd.t.Nodes {
			m.TotalBytes += n.MemoryBytes
		}
		m.Source["total_bytes"] = "derived: sum over NUMA nodes"
		if err == nil {
			err = errors.New("/proc/meminfo names no MemTotal")
		}
		if m.TotalBytes == 0 {
			rd.unknown("memory", err)
			return
		}
	}
	if m.AvailableBytes == nil {
		if err == nil {
			err = errors.New("/proc/meminfo names neither MemAvailable nor MemFree")
		}
		rd.unknown("memory.available_bytes", err)
	}
	rd.h.Memory = m
	rd.readPages()
	rd.readBounds(info)
}

func (rd *reading) readPages() {
	m := rd.h.Memory
	switch size, err := strconv.ParseInt(captureInfo(rd.root)["PageSize"], 10, 64); {
	case rd.root.live:
		m.PageBytes = units.Bytes(os.Getpagesize())
	case err == nil:
		m.PageBytes = units.Bytes(size)
	case rd.info.arch == "x86_64":
		m.PageBytes, m.Source["page_bytes"] = 4*units.KiB, "derived: x86_64 has one base page size"
	default:
		rd.unknown("memory.page_bytes", errors.New("the capture does not tell"))
	}
	text, err := rd.root.text("sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil {
		rd.unknown("memory.transparent_huge_page", err)
		return
	}
	_, after, _ := strings.Cut(text, "[")
	m.TransparentHugePage, _, _ = strings.Cut(after, "]")
	m.Source["transparent_huge_page"] = "reported: /sys/kernel/mm/transparent_hugepage/enabled"
}

func (rd *reading) readSystem() {
	s := &profile.System{Hypervisor: rd.hypervisor(), Kernel: rd.kernel()}
	if proc, err := procfs.NewFS(rd.root.dir + "/proc"); err == nil {
		_, err = proc.PSIStatsForResource("memory")
		s.PSI = err == nil
	}
	groups, _ := controlGroups(rd.root, "memory") // its failure is told with memory.limit_bytes
	s.CgroupV2 = len(groups) > 0 && groups[0].v2
	quota, err := readCPUQuota(rd.root)
	rd.unknown("system.cpu_quota", err)
	s.CPUQuota = quota
	if *s != (profile.System{}) {
		rd.h.System = s
	}
}

func (rd *reading) kernel() string {
	if rd.root.live {
		var u unix.Utsname
		if err := unix.Uname(&u); err == nil {
			return unix.ByteSliceToString(u.Release[:])
		}
	}
	if release, err := rd.root.text("proc/sys/kernel/osrelease"); err == nil {
		return release
	}
	if release := captureInfo(rd.root)["OSRelease"]; release != "" {
		return release
	}
	version, err := rd.root.text("proc/version") // "Linux version 6.1.0 (…"
	if f := strings.Fields(version); err == nil && len(f) >= 3 {
		return f[2]
	}
	rd.unknown("system.kernel", err)
	return ""
}

// name makes a machine name of the CPU model: "13th Gen Intel(R) Core(TM) i7-1370P" becomes
// "13th-gen-intel-core-i7-1370p".
func (rd *reading) name() string {
	model := rd.info.model
	if rd.h.CPU != nil {
		model = rd.h.CPU.Model
	}
	model, _, _ = strings.Cut(model, "@")
	model = strings.NewReplacer(" + ", " ", "/", " ", "(R)", "", "(TM)", "", "(r)", "", "(tm)", "", "CPU",
		"").Replace(model)
	if words := strings.Fields(strings.ToLower(model)); len(words) > 0 {
		return strings.Join(words, "-")
	}
	return "machine"
}
