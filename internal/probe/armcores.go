package probe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// armCore is what identifies a design of Arm core: who made it, and which of theirs it is. Both stand in MIDR_EL1 and,
// by each processor, in /proc/cpuinfo. Revisions of one design are one kind.
type armCore struct{ implementer, part int }

// midrCore is the core that a value of MIDR_EL1 names.
func midrCore(midr int) armCore { return armCore{midr >> 24 & 0xff, midr >> 4 & 0xfff} }

// name is the core's, "" where this table does not know it. Newer parts than gopsutil 3.24 knows, and those of other
// makers than Arm: Linux 6.17, arch/arm64/include/asm/cputype.h, and util-linux 2.41, lscpu-arm.c.
func (c armCore) name() string { return armCoreNames[c] }

var armCoreNames = map[armCore]string{
	{0x41, 0xd15}: "Cortex-R82", {0x41, 0xd4f}: "Neoverse-V2", {0x41, 0xd80}: "Cortex-A520",
	{0x41, 0xd81}: "Cortex-A720", {0x41, 0xd82}: "Cortex-X4", {0x41, 0xd83}: "Neoverse-V3AE",
	{0x41, 0xd84}: "Neoverse-V3", {0x41, 0xd85}: "Cortex-X925", {0x41, 0xd87}: "Cortex-A725",
	{0x41, 0xd88}: "Cortex-A520AE", {0x41, 0xd89}: "Cortex-A720AE", {0x41, 0xd8a}: "C1-Nano",
	{0x41, 0xd8b}: "C1-Pro", {0x41, 0xd8c}: "C1-Ultra", {0x41, 0xd8e}: "Neoverse-N3", {0x41, 0xd8f}: "Cortex-A320",
	{0x41, 0xd90}: "C1-Premium",
	{0x42, 0x00f}: "Brahma-B15", {0x42, 0x100}: "Brahma-B53", {0x42, 0x516}: "ThunderX2",
	{0x43, 0x0a1}: "ThunderX-88XX", {0x43, 0x0a2}: "ThunderX-81XX", {0x43, 0x0a3}: "ThunderX-83XX",
	{0x43, 0x0af}: "ThunderX2-99xx", {0x43, 0x0b8}: "ThunderX3-T110",
	{0x46, 0x001}: "A64FX", {0x46, 0x003}: "MONAKA",
	{0x48, 0xd01}: "TaiShan-v110", {0x48, 0xd02}: "TaiShan-v120", {0x48, 0xd06}: "TaiShan-v200",
	{0x48, 0xd40}: "Cortex-A76", {0x48, 0xd41}: "Cortex-A78AE",
	{0x4e, 0x000}: "Denver", {0x4e, 0x003}: "Denver 2", {0x4e, 0x004}: "Carmel", {0x4e, 0x010}: "Olympus",
	{0x50, 0x000}: "X-Gene",
	{0x51, 0x001}: "Oryon", {0x51, 0x002}: "Oryon", {0x51, 0x201}: "Kryo", {0x51, 0x205}: "Kryo",
	{0x51, 0x211}: "Kryo", {0x51, 0x800}: "Falkor-V1/Kryo", {0x51, 0x801}: "Kryo-V2", {0x51, 0x802}: "Kryo-3XX-Gold",
	{0x51, 0x803}: "Kryo-3XX-Silver", {0x51, 0x804}: "Kryo-4XX-Gold", {0x51, 0x805}: "Kryo-4XX-Silver",
	{0x51, 0xc00}: "Falkor", {0x51, 0xc01}: "Saphira",
	{0x53, 0x001}: "Exynos-M1", {0x53, 0x002}: "Exynos-M3", {0x53, 0x003}: "Exynos-M4", {0x53, 0x004}: "Exynos-M5",
	{0x61, 0x020}: "Icestorm-A14", {0x61, 0x021}: "Firestorm-A14", {0x61, 0x022}: "Icestorm-M1",
	{0x61, 0x023}: "Firestorm-M1", {0x61, 0x024}: "Icestorm-M1-Pro", {0x61, 0x025}: "Firestorm-M1-Pro",
	{0x61, 0x028}: "Icestorm-M1-Max", {0x61, 0x029}: "Firestorm-M1-Max", {0x61, 0x030}: "Blizzard-A15",
	{0x61, 0x031}: "Avalanche-A15", {0x61, 0x032}: "Blizzard-M2", {0x61, 0x033}: "Avalanche-M2",
	{0x61, 0x034}: "Blizzard-M2-Pro", {0x61, 0x035}: "Avalanche-M2-Pro", {0x61, 0x038}: "Blizzard-M2-Max",
	{0x61, 0x039}: "Avalanche-M2-Max",
	{0x6d, 0xd49}: "Azure-Cobalt-100",
	{0x70, 0x660}: "FTC660", {0x70, 0x661}: "FTC661", {0x70, 0x662}: "FTC662", {0x70, 0x663}: "FTC663",
	{0x70, 0x664}: "FTC664", {0x70, 0x862}: "FTC862",
	{0xc0, 0xac3}: "Ampere-1", {0xc0, 0xac4}: "Ampere-1a", {0xc0, 0xac5}: "Ampere-1b",
}

// readArmCores reads the processors' designs from /proc/cpuinfo. Old kernels write a processor's number alone and the
// common lines once, at the end, for all of them.
func readArmCores(text string) map[int]armCore {
	cores := map[int]armCore{}
	var waiting []int // processors whose design has not been read
	var c armCore
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		number, err := strconv.ParseInt(strings.TrimSpace(value), 0, 32)
		if err != nil || number < 0 {
			continue
		}
		switch strings.TrimSpace(key) {
		case "processor":
			waiting = append(waiting, int(number))
		case "CPU implementer":
			c = armCore{implementer: int(number)}
		case "CPU part":
			c.part = int(number)
			for _, cpu := range waiting {
				cores[cpu] = c
			}
			waiting = nil
		}
	}
	return cores
}

// armModel names a machine by its designs, the strongest first: "Cortex-X925 + Cortex-A725". known is what else names
// designs of Arm's own.
func (t *Topology) armModel(known func(cpu int) string) string {
	var names []string
	order := t.visible.list()
	if groups := t.byCore(); len(groups) > 1 {
		order = nil
		for _, g := range groups {
			order = append(order, g.first())
		}
	}
	for _, cpu := range order {
		c, ok := t.cores[cpu]
		if !ok {
			return ""
		}
		name := c.name()
		if name == "" {
			name = known(cpu)
		}
		if name == "" || name == "Undefined" {
			name = fmt.Sprintf("Arm core %#02x:%#03x", c.implementer, c.part)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " + ")
}
