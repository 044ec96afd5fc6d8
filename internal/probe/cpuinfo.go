package probe

import (
	"runtime"
	"slices"
	"strings"

	"github.com/shirou/gopsutil/v3/cpu"
)

// cpuInfo is what /proc/cpuinfo says, through gopsutil, which knows the forms of most architectures.
type cpuInfo struct {
	model, vendor, family string
	arch                  string // as uname writes it: x86_64, aarch64, ppc64le; "" where nothing says
	flags                 []string
	mhz                   float64
	processors            []processor
	err                   error
}

// processor is one logical CPU with the names of its package and core, "" where the kernel gives none.
type processor struct {
	number    int
	pkg, core string
}

func readCPUInfo(r *root) cpuInfo {
	var c cpuInfo
	var stats []cpu.InfoStat
	// gopsutil takes a missing file for an empty one, and follows links
	if _, c.err = r.text("proc/cpuinfo"); c.err == nil {
		stats, c.err = cpu.InfoWithContext(r.gopsutil())
	}
	for _, s := range stats {
		c.processors = append(c.processors, processor{int(s.CPU), s.PhysicalID, s.CoreID})
		c.mhz = max(c.mhz, s.Mhz)
	}
	if len(stats) > 0 {
		first, last := stats[0], stats[len(stats)-1] // old ARM kernels write the common lines once, at the end
		c.model, c.vendor, c.family = first.ModelName, first.VendorID, first.Family
		c.flags = first.Flags
		if c.vendor == "" {
			c.vendor = last.VendorID
		}
		if c.model == "" || c.model == "Undefined" {
			c.model = last.ModelName
		}
		if len(c.flags) == 0 {
			c.flags = last.Flags
		}
	}
	c.model = strings.Join(strings.Fields(c.model), " ")
	for _, key := range []string{"uarch", "cpu"} { // RISC-V; SPARC, whose processors gopsutil does not count
		if _, value, ok := strings.Cut(r.field("proc/cpuinfo", key), ":"); c.model == "" && ok {
			c.model = strings.Join(strings.Fields(value), " ")
		}
	}
	if _, vendor, _ := strings.Cut(r.field("proc/cpuinfo", "vendor_id"), ":"); strings.TrimSpace(vendor) == "IBM/S390" {
		c.vendor = "IBM/S390" // it has no name of a model: the machine's type tells the generation
		c.model = strings.TrimSpace(c.vendor + " " + machineType(r))
	}
	c.arch = readArch(r, c)
	return c
}

// machineType is S/390's, "2964" for a z13: "processor 0: version = FF,  identification = 1633E8,  machine = 2964".
func machineType(r *root) string {
	text, _ := r.text("proc/cpuinfo") // it was read before
	_, after, _ := strings.Cut(text, "machine = ")
	kind, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(kind)
}

// readArch names the architecture: of the live machine, of a capture that says, or by the vendor.
func readArch(r *root, c cpuInfo) string {
	if r.live {
		switch runtime.GOARCH {
		case "amd64":
			return "x86_64"
		case "arm64":
			return "aarch64"
		}
		return runtime.GOARCH
	}
	if name, ok := captureInfo(r)["Architecture"]; ok {
		return name
	}
	switch {
	case slices.Contains([]string{"GenuineIntel", "AuthenticAMD", "HygonGenuine", "CentaurHauls"}, c.vendor):
		return "x86_64"
	case slices.Contains(c.flags, "asimd"), c.vendor == "ARM":
		return "aarch64"
	case strings.Contains(c.model, "POWER"):
		return "ppc64"
	}
	return ""
}

// captureInfo reads what hwloc-gather-topology writes beside a capture for what no file of the kernel tells.
func captureInfo(r *root) map[string]string {
	info := map[string]string{}
	text, _ := r.text("proc/hwloc-nofile-info")
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ": "); ok {
			info[key] = strings.TrimSpace(value)
		}
	}
	return info
}

// vectorFlags are the instruction sets that change how fast kernels run, in /proc/cpuinfo's words, oldest first.
var vectorFlags = []string{
	"sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni",
	"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8",
	"amx_bf16", "amx_fp16",
	"neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
	"altivec", "vsx",
}

// armFlags are those of vectorFlags that Arm's kernels write; x86's use one of them for something else: sme is there
// Secure Memory Encryption, of every Zen.
var armFlags = []string{"neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"}

// isa names the vector extensions of c in the kernel's words, but for asimd, which is neon.
func (c cpuInfo) isa() []string {
	arm := strings.HasPrefix(c.arch, "aarch64") || strings.HasPrefix(c.arch, "arm")
	var names []string
	for _, f := range vectorFlags {
		switch {
		case !slices.Contains(c.flags, f), slices.Contains(armFlags, f) && !arm && !c.isArm():
		case f == "asimd":
			names = append(names, "neon")
		default:
			names = append(names, f)
		}
	}
	return names
}

// isArm is whether the flags are Arm's, for captures that do not tell their architecture: all of its CPUs since v7
// have one of these.
func (c cpuInfo) isArm() bool {
	return slices.Contains(c.flags, "asimd") || slices.Contains(c.flags, "neon") || slices.Contains(c.flags, "vfpv3")
}
