// Package profile holds what vlmem knows before it measures anything: machines and models, as strict YAML.
//
// A Hardware describes one machine, read from the live system by package probe, from a file of the user's, or from the
// built-in profiles. Profiles combine: "i5-10210u+gtx-1080" is the CPU, memory and NUMA nodes of the first with the GPU
// of the second. A Model describes one vision-language model by its architecture; byte counts follow from it by
// equations that stand beside the methods.
//
// Three rules hold for every value here. It is in base units (bytes, bytes per second, hertz). An absent value is not
// zero: a field that may be missing is a pointer or left out, and one that could not be read is named in Unknown with
// the reason. And it has a source: Sources says for each field where its value comes from, "default" speaking for the
// rest. Unknown keys are refused on reading, with file and line.
package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/units"
)

// HardwareSchema is the version that hardware files name in their schema key.
const HardwareSchema = "vlmem/hardware/v1"

// Hardware is one machine. Sections that a profile or a probe knows nothing of are nil or empty.
type Hardware struct {
	Schema string  `yaml:"schema" json:"schema"`
	Name   string  `yaml:"name" json:"name"`
	CPU    *CPU    `yaml:"cpu,omitempty" json:"cpu,omitempty"`
	Memory *Memory `yaml:"memory,omitempty" json:"memory,omitempty"`
	NUMA   []Node  `yaml:"numa,omitempty" json:"numa,omitempty"`
	GPUs   []GPU   `yaml:"gpus,omitempty" json:"gpus,omitempty"`
	// all that the kernel shows, GPUs among them
	Cards    []Card    `yaml:"cards,omitempty" json:"cards,omitempty"`
	Measured *Measured `yaml:"measured,omitempty" json:"measured,omitempty"`
	System   *System   `yaml:"system,omitempty" json:"system,omitempty"`
	// field path → why it could not be read
	Unknown  map[string]string  `yaml:"unknown,omitempty" json:"unknown,omitempty"`
	Warnings []evidence.Warning `yaml:"warnings,omitempty" json:"warnings,omitempty"`
	// Fingerprint is equal for probed machines whose figures may be compared with each other.
	Fingerprint string `yaml:"fingerprint,omitempty" json:"fingerprint,omitempty"`
}

// Sources says where the values of a section come from, by YAML key; the key "default" speaks for the rest.
type Sources map[string]string

// CPU is the processors of a machine as it reports them.
type CPU struct {
	Model    string  `yaml:"model" json:"model"`
	Vendor   string  `yaml:"vendor,omitempty" json:"vendor,omitempty"`
	Packages int     `yaml:"packages" json:"packages"`
	Cores    int     `yaml:"cores" json:"cores"`     // physical, online
	Threads  int     `yaml:"threads" json:"threads"` // logical, online
	Caches   []Cache `yaml:"caches" json:"caches"`
	// vector extensions: avx2, fma, avx512f, amx-tile, neon
	ISA     []string   `yaml:"isa,omitempty" json:"isa,omitempty"`
	Kinds   []CoreKind `yaml:"kinds,omitempty" json:"kinds,omitempty"`     // set where cores differ
	Offline []int      `yaml:"offline,omitempty" json:"offline,omitempty"` // logical CPUs present but offline
	Allowed []int      `yaml:"allowed,omitempty" json:"allowed,omitempty"` // affinity, set where narrower than online
	// physical cores that hold an allowed CPU, set with Allowed
	AllowedCores int `yaml:"allowed_cores,omitempty" json:"allowed_cores,omitempty"`
	// CPUs that this process can keep busy at once, and threads for a computation: affinity, cpuset and quota applied
	UsableThreads     int     `yaml:"usable_threads,omitempty" json:"usable_threads,omitempty"`
	ComputeThreads    int     `yaml:"compute_threads,omitempty" json:"compute_threads,omitempty"`
	ComputeThreadsWhy string  `yaml:"compute_threads_why,omitempty" json:"compute_threads_why,omitempty"`
	MHz               float64 `yaml:"mhz,omitempty" json:"mhz,omitempty"` // nominal or maximum, megahertz
	Source            Sources `yaml:"source,omitempty" json:"source,omitempty"`
}

// CoreKind is a group of alike cores in a machine whose cores differ.
type CoreKind struct {
	Name    string `yaml:"name" json:"name"` // performance, efficiency, or the reported name
	Cores   int    `yaml:"cores" json:"cores"`
	Threads int    `yaml:"threads" json:"threads"`
	CPUs    []int  `yaml:"cpus,omitempty" json:"cpus,omitempty"`
}

// Cache is all the caches of one level, type and shape. size = ways · sets · line.
type Cache struct {
	Level     int         `yaml:"level" json:"level"`
	Type      string      `yaml:"type" json:"type"` // data, instruction, unified
	SizeBytes units.Bytes `yaml:"size_bytes" json:"size_bytes"`
	Ways      int         `yaml:"ways,omitempty" json:"ways,omitempty"` // absent where the machine does not say
	Sets      int         `yaml:"sets,omitempty" json:"sets,omitempty"`
	LineBytes units.Bytes `yaml:"line_bytes,omitempty" json:"line_bytes,omitempty"`
	SharedBy  int         `yaml:"shared_by" json:"shared_by"` // logical CPUs that share one instance
	Instances int         `yaml:"instances" json:"instances"`
}

// Node is one NUMA node. Distances are the firmware's, 10 for itself, in node order.
type Node struct {
	ID          int         `yaml:"id" json:"id"`
	CPUs        []int       `yaml:"cpus" json:"cpus"`
	MemoryBytes units.Bytes `yaml:"memory_bytes" json:"memory_bytes"`
	Distances   []int       `yaml:"distances,omitempty" json:"distances,omitempty"`
}

// Memory is the host's memory. LimitBytes is the tightest cgroup limit, nil where none is set.
type Memory struct {
	TotalBytes     units.Bytes  `yaml:"total_bytes" json:"total_bytes"`
	LimitBytes     *units.Bytes `yaml:"limit_bytes,omitempty" json:"limit_bytes"`
	AvailableBytes *units.Bytes `yaml:"available_bytes,omitempty" json:"available_bytes,omitempty"`
	// FillableBytes is what one more process may fill now without being killed, throttled or swapped: the least that
	// Bounds leave. Nil where none of them is known.
	FillableBytes *units.Bytes `yaml:"fillable_bytes,omitempty" json:"fillable_bytes,omitempty"`
	Bounds        []Bound      `yaml:"bounds,omitempty" json:"bounds,omitempty"`
	// theoretical
	BandwidthBytesPerS units.Rate `yaml:"bandwidth_bytes_per_s,omitempty" json:"bandwidth_bytes_per_s,omitempty"`
	// the file that sets LimitBytes
	LimitSource string `yaml:"limit_source,omitempty" json:"limit_source,omitempty"`
	// RLIMIT_MEMLOCK, nil: unlimited or unknown
	MaxMlockBytes *units.Bytes `yaml:"max_mlock_bytes,omitempty" json:"max_mlock_bytes,omitempty"`
	PageBytes     units.Bytes  `yaml:"page_bytes,omitempty" json:"page_bytes,omitempty"`
	HugePageBytes units.Bytes  `yaml:"huge_page_bytes,omitempty" json:"huge_page_bytes,omitempty"`
	// always, madvise, never
	TransparentHugePage string  `yaml:"transparent_huge_page,omitempty" json:"transparent_huge_page,omitempty"`
	Source              Sources `yaml:"source,omitempty" json:"source,omitempty"`
}

// GPU is one CUDA device. A profile gives what data sheets and the compute capability fix; a probe what the driver
// answers.
type GPU struct {
	Name              string `yaml:"name" json:"name"`
	ComputeCapability string `yaml:"compute_capability" json:"compute_capability"` // "6.1"
	// Backend is what engines reach the card through where that is not CUDA: rocm, vulkan
	Backend                   string      `yaml:"backend,omitempty" json:"backend,omitempty"`
	Architecture              string      `yaml:"architecture,omitempty" json:"architecture,omitempty"` // of a Card
	MemoryBytes               units.Bytes `yaml:"memory_bytes" json:"memory_bytes"`
	SMCount                   int         `yaml:"sm_count" json:"sm_count"`
	SharedMemoryPerBlockBytes units.Bytes `yaml:"shared_memory_per_block_bytes" json:"shared_memory_per_block_bytes"`
	SharedMemoryPerBlockOptin units.Bytes `yaml:"shared_memory_per_block_optin_bytes,omitempty" json:"shared_memory_per_block_optin_bytes,omitempty"`
	SharedMemoryPerSMBytes    units.Bytes `yaml:"shared_memory_per_sm_bytes" json:"shared_memory_per_sm_bytes"`
	// per block, by the driver
	SharedMemoryReservedBytes units.Bytes `yaml:"shared_memory_reserved_bytes,omitempty" json:"shared_memory_reserved_bytes,omitempty"`
	MaxThreadsPerBlock        int         `yaml:"max_threads_per_block" json:"max_threads_per_block"`
	MaxThreadsPerSM           int         `yaml:"max_threads_per_sm" json:"max_threads_per_sm"`
	MaxBlocksPerSM            int         `yaml:"max_blocks_per_sm" json:"max_blocks_per_sm"`
	RegistersPerSM            int         `yaml:"registers_per_sm" json:"registers_per_sm"` // 32-bit
	RegistersPerBlock         int         `yaml:"registers_per_block" json:"registers_per_block"`
	L2Bytes                   units.Bytes `yaml:"l2_bytes" json:"l2_bytes"`
	MemoryBusBits             int         `yaml:"memory_bus_bits,omitempty" json:"memory_bus_bits,omitempty"`
	// of one pin
	MemoryRateBitsPerS float64 `yaml:"memory_rate_bits_per_s,omitempty" json:"memory_rate_bits_per_s,omitempty"`
	// theoretical, device memory
	BandwidthBytesPerS   units.Rate `yaml:"bandwidth_bytes_per_s" json:"bandwidth_bytes_per_s"`
	L2BandwidthBytesPerS units.Rate `yaml:"l2_bandwidth_bytes_per_s,omitempty" json:"l2_bandwidth_bytes_per_s,omitempty"`
	// at boost clock, an FMA counting two
	FP32FlopsPerS float64 `yaml:"fp32_flops_per_s,omitempty" json:"fp32_flops_per_s,omitempty"`
	ClockHz       float64 `yaml:"clock_hz,omitempty" json:"clock_hz,omitempty"`
	CopyEngines   int     `yaml:"copy_engines,omitempty" json:"copy_engines,omitempty"`
	// the bus, one way
	HostBandwidthBytesPerS units.Rate `yaml:"host_bandwidth_bytes_per_s,omitempty" json:"host_bandwidth_bytes_per_s,omitempty"`
	DriverVersion          string     `yaml:"driver_version,omitempty" json:"driver_version,omitempty"`
	// FreeBytes is of probe time, nil where it is unknown
	FreeBytes *units.Bytes `yaml:"free_bytes,omitempty" json:"free_bytes,omitempty"`
	// Number is which of its backend's devices it is to an engine, where that is not its place in a list
	Number int `yaml:"-" json:"-"`
	// Integrated: it is a processor's graphics, which engines leave out beside a card, whether or not the firmware set
	// memory aside for it
	Integrated bool `yaml:"-" json:"-"`
	// FreeUnknown is why a probe could not tell it, "" where none tried
	FreeUnknown string `yaml:"free_unknown,omitempty" json:"free_unknown,omitempty"`
	PCIBusID    string `yaml:"pci_bus_id,omitempty" json:"pci_bus_id,omitempty"`
	UUID        string `yaml:"uuid,omitempty" json:"uuid,omitempty"`
	// UnifiedMemory: the card's memory is the host's, one budget for both
	UnifiedMemory           bool `yaml:"unified_memory,omitempty" json:"unified_memory,omitempty"`
	ManagedMemory           bool `yaml:"managed_memory,omitempty" json:"managed_memory,omitempty"`
	ConcurrentManagedAccess bool `yaml:"concurrent_managed_access,omitempty" json:"concurrent_managed_access,omitempty"`
	MemoryPools             bool `yaml:"memory_pools,omitempty" json:"memory_pools,omitempty"`
	VirtualMemoryManagement bool `yaml:"virtual_memory_management,omitempty" json:"virtual_memory_management,omitempty"`
	// measured, as the rest below
	H2DPinnedBytesPerS   units.Rate `yaml:"h2d_pinned_bytes_per_s,omitempty" json:"h2d_pinned_bytes_per_s,omitempty"`
	D2HPinnedBytesPerS   units.Rate `yaml:"d2h_pinned_bytes_per_s,omitempty" json:"d2h_pinned_bytes_per_s,omitempty"`
	H2DPageableBytesPerS units.Rate `yaml:"h2d_pageable_bytes_per_s,omitempty" json:"h2d_pageable_bytes_per_s,omitempty"`
	D2HPageableBytesPerS units.Rate `yaml:"d2h_pageable_bytes_per_s,omitempty" json:"d2h_pageable_bytes_per_s,omitempty"`
	DeviceCopyBytesPerS  units.Rate `yaml:"device_copy_bytes_per_s,omitempty" json:"device_copy_bytes_per_s,omitempty"`
	LaunchLatencySeconds float64    `yaml:"launch_latency_s,omitempty" json:"launch_latency_s,omitempty"`
	Source               Sources    `yaml:"source,omitempty" json:"source,omitempty"`
}

// System is what of the operating system changes how memory behaves.
type System struct {
	Hypervisor string `yaml:"hypervisor,omitempty" json:"hypervisor,omitempty"`
	Kernel     string `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	PSI        bool   `yaml:"psi,omitempty" json:"psi,omitempty"` // /proc/pressure is there
	CgroupV2   bool   `yaml:"cgroup_v2,omitempty" json:"cgroup_v2,omitempty"`
	// CPUQuota is the tightest cgroup CPU limit in CPUs, nil where none is set.
	CPUQuota *float64 `yaml:"cpu_quota,omitempty" json:"cpu_quota,omitempty"`
}

// Measured is what timing found, apart from what the machine reports. Zero fields were not measured.
type Measured struct {
	L1Bytes     units.Bytes `yaml:"l1_bytes,omitempty" json:"l1_bytes,omitempty"` // effective capacities
	L2Bytes     units.Bytes `yaml:"l2_bytes,omitempty" json:"l2_bytes,omitempty"`
	LLCBytes    units.Bytes `yaml:"llc_bytes,omitempty" json:"llc_bytes,omitempty"`
	L1Interval  *Interval   `yaml:"l1_interval,omitempty" json:"l1_interval,omitempty"`
	L2Interval  *Interval   `yaml:"l2_interval,omitempty" json:"l2_interval,omitempty"`
	LLCInterval *Interval   `yaml:"llc_interval,omitempty" json:"llc_interval,omitempty"`
	// all threads
	DRAMReadBytesPerS units.Rate `yaml:"dram_read_bytes_per_s,omitempty" json:"dram_read_bytes_per_s,omitempty"`
	DRAMReadThreads   int        `yaml:"dram_read_threads,omitempty" json:"dram_read_threads,omitempty"`
	DRAMLatencyS      float64    `yaml:"dram_latency_s,omitempty" json:"dram_latency_s,omitempty"`
	// one thread
	FP32FlopsPerS float64          `yaml:"fp32_flops_per_s,omitempty" json:"fp32_flops_per_s,omitempty"`
	Latency       []LatencyPoint   `yaml:"latency,omitempty" json:"latency,omitempty"`
	Bandwidth     []BandwidthPoint `yaml:"bandwidth,omitempty" json:"bandwidth,omitempty"`
	// seconds: page_fault, huge_page_fault, memcpy_per_byte, …
	Costs  map[string]float64 `yaml:"costs_s,omitempty" json:"costs_s,omitempty"`
	Source Sources            `yaml:"source,omitempty" json:"source,omitempty"`
}

// Interval is a range of sizes with the confidence, 0 to 1, that the true value lies in it.
type Interval struct {
	Low        units.Bytes `yaml:"low" json:"low"`
	High       units.Bytes `yaml:"high" json:"high"`
	Confidence float64     `yaml:"confidence" json:"confidence"`
}

// LatencyPoint is the time of one dependent load over a working set, by the order in which it is walked.
type LatencyPoint struct {
	Bytes   units.Bytes `yaml:"bytes" json:"bytes"`
	Order   string      `yaml:"order" json:"order"` // random, page-local, line-per-page
	Seconds float64     `yaml:"seconds" json:"seconds"`
}

// BandwidthPoint is the rate of one kernel over one working set.
type BandwidthPoint struct {
	Kernel  string      `yaml:"kernel" json:"kernel"` // load, copy, triad
	Bytes   units.Bytes `yaml:"bytes" json:"bytes"`
	Threads int         `yaml:"threads" json:"threads"`
	PerS    units.Rate  `yaml:"bytes_per_s" json:"bytes_per_s"`
	Level   string      `yaml:"level,omitempty" json:"level,omitempty"` // L1, L2, L3, DRAM
}

// Cache returns the data or unified cache of a level, or nil where none tells its size. Where kinds of core differ it
// is the smallest.
func (c *CPU) Cache(level int) *Cache {
	var found *Cache
	for i := range c.Caches {
		k := &c.Caches[i]
		if k.Level == level && k.Type != "instruction" && k.SizeBytes > 0 && (found == nil || k.SizeBytes < found.SizeBytes) {
			found = k
		}
	}
	return found
}

// Usable is the memory a process may fill: the total, or the cgroup limit where that is tighter.
func (m *Memory) Usable() units.Bytes {
	if m.LimitBytes != nil && *m.LimitBytes < m.TotalBytes {
		return *m.LimitBytes
	}
	return m.TotalBytes
}

// Validate says what no machine can be. Errors name the key.
func (h *Hardware) Validate() error {
	if h.CPU == nil && len(h.GPUs)+len(h.Cards) == 0 {
		return errors.New("neither cpu nor gpus nor cards is given")
	}
	faults := within("", *h)
	positive := func(key string, v float64) {
		if v <= 0 {
			faults = append(faults, key+" must be above zero")
		}
	}
	if h.CPU != nil {
		positive("cpu.cores", float64(h.CPU.Cores))
		positive("cpu.threads", float64(h.CPU.Threads))
		for i, c := range h.CPU.Caches {
			key := fmt.Sprintf("cpu.caches[%d]", i)
			positive(key+".level", float64(c.Level))
			if _, unknown := h.Unknown[key+".size_bytes"]; !unknown { // some ARM kernels list caches without a size
				positive(key+".size_bytes", float64(c.SizeBytes))
			}
			positive(key+".instances", float64(c.Instances))
			if c.Ways > 0 && c.SizeBytes > 0 && int64(c.SizeBytes)/int64(c.Ways) < max(1, int64(c.LineBytes)) {
				faults = append(faults, fmt.Sprintf("%s has %d ways of lines of %v and only %v", key, c.Ways, c.LineBytes,
					c.SizeBytes))
			}
			if !slices.Contains([]string{"data", "instruction", "unified"}, c.Type) {
				faults = append(faults, key+".type must be data, instruction or unified")
			}
		}
	}
	if h.Memory != nil {
		positive("memory.total_bytes", float64(h.Memory.TotalBytes))
	}
	for i, g := range h.GPUs {
		key := fmt.Sprintf("gpus[%d]", i)
		if g.Room() > g.MemoryBytes {
			faults = append(faults, key+".free_bytes is above memory_bytes")
		}
		positive(key+".memory_bytes", float64(g.MemoryBytes))
		positive(key+".sm_count", float64(g.SMCount))
		positive(key+".shared_memory_per_block_bytes", float64(g.SharedMemoryPerBlockBytes))
		positive(key+".max_threads_per_block", float64(g.MaxThreadsPerBlock))
		if _, _, err := g.Capability(); err != nil {
			faults = append(faults, key+".compute_capability "+err.Error())
		}
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
}

// AssumedHeld is what other programs are taken to hold of a card that a probe could not ask: a desktop and a browser.
const AssumedHeld = units.GiB

// Room is what the card had free at probe time, and where a probe could not tell that, all but AssumedHeld. Nobody is
// on a card of a profile. A full card has none.
func (g *GPU) Room() units.Bytes {
	switch {
	case g.FreeBytes != nil:
		return *g.FreeBytes
	case g.FreeUnknown != "":
		return max(0, g.MemoryBytes-AssumedHeld)
	}
	return g.MemoryBytes
}

// Capability splits ComputeCapability into major and minor.
func (g *GPU) Capability() (major, minor int, err error) {
	if n, err := fmt.Sscanf(g.ComputeCapability, "%d.%d", &major, &minor); n != 2 || err != nil {
		return 0, 0, fmt.Errorf("%q is not of the form \"6.1\"", g.ComputeCapability)
	}
	return major, minor, nil
}

// AtLeast reports whether the card's compute capability is known and that or later.
func (g *GPU) AtLeast(major, minor int) bool {
	a, b, err := g.Capability()
	return err == nil && (a > major || a == major && b >= minor)
}

// Combine lays the sections of parts over one another, left to right; GPUs add up. The name joins theirs with "+".
func Combine(parts ...Hardware) Hardware {
	sum := Hardware{Schema: HardwareSchema}
	var names []string
	for _, p := range parts {
		names = append(names, p.Name)
		if p.CPU != nil {
			sum.CPU = p.CPU
		}
		if p.Memory != nil {
			sum.Memory = p.Memory
		}
		if p.NUMA != nil {
			sum.NUMA = p.NUMA
		}
		if p.Measured != nil {
			sum.Measured = p.Measured
		}
		if p.System != nil {
			sum.System = p.System
		}
		sum.GPUs = append(sum.GPUs, p.GPUs...)
		sum.Cards = append(sum.Cards, p.Cards...)
		sum.Warnings = append(sum.Warnings, p.Warnings...)
	}
	if len(parts) == 1 { // of several it would be asked which one's
		sum.Unknown = parts[0].Unknown
	}
	sum.Name = strings.Join(names, "+")
	return sum
}
