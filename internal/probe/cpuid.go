package probe

import (
	"github.com/vlmem/vlmem/internal/probe/kernel"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// cpuidReader runs CPUID, or answers from a recording.
type cpuidReader func(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// maxSubleafs bounds the cache leaf: some hypervisors answer the same entry for ever (klauspost/cpuid issue 103).
const maxSubleafs = 16

// cpuidCaches reads the caches of the CPU it runs on where sysfs is silent: leaf 4, or 0x8000001d on AMD.
//
//	eax  0-4 type (1 data, 2 instruction, 3 unified), 5-7 level, 14-25 threads sharing it - 1
//	ebx  0-11 line - 1, 12-21 partitions - 1, 22-31 ways - 1
//	ecx  sets - 1
//
// One core is asked and all are taken to be alike, so Instances is derived: threads over threads sharing, rounded up.
func cpuidCaches(read cpuidReader, vendor string, threads int) []profile.Cache {
	leaf := uint32(4)
	if vendor == "AuthenticAMD" || vendor == "HygonGenuine" {
		const topologyExtensions = 1 << 22
		if _, _, ecx, _ := read(0x80000001, 0); ecx&topologyExtensions == 0 {
			return nil
		}
		leaf = 0x8000001d
	} else if highest, _, _, _ := read(0, 0); highest < leaf {
		return nil
	}
	var caches []profile.Cache
	for i := range uint32(maxSubleafs) {
		eax, ebx, ecx, _ := read(leaf, i)
		kind := map[uint32]string{1: "data", 2: "instruction", 3: "unified"}[eax&0x1f]
		if kind == "" {
			break
		}
		line, partitions, ways, sets := int(ebx&0xfff)+1, int(ebx>>12&0x3ff)+1, int(ebx>>22)+1, int(ecx)+1
		sharing := min(int(eax>>14&0xfff)+1, max(threads, 1))
		c := profile.Cache{Level: int(eax >> 5 & 7), Type: kind, SizeBytes: units.Bytes(ways * partitions * line * sets),
			Ways: ways, Sets: sets, LineBytes: units.Bytes(line), SharedBy: sharing,
			Instances: (threads + sharing - 1) / sharing}
		if n := len(caches); n > 0 && caches[n-1] == c {
			break
		}
		caches = append(caches, c)
	}
	return caches
}

// liveCaches asks the CPU itself.
func liveCaches(vendor string, threads int) []profile.Cache {
	return cpuidCaches(kernel.CPUID, vendor, threads)
}
