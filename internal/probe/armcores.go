package probe

import (
	"fmt"
	"strconv"
	"strings"
)

// armCore is what identifies a design of Arm core: who made it, and which of theirs it is. Both stand in MIDR_EL1 and,
// by each processor, in /proc/cpuinfo. Revisions of one design are one kind.
type armCore struct{ implementer, part int }

// midrCore is the core that a value of MIDR_EL1 names.
func midrCore(midr int) armCore { return armCore{midr >> 24 & 0xff, midr >> 4 & 0xfff} }

// name is the core's, "" where this table does not know it. gopsutil 3.24 ends at Arm's parts of 2022 and knows no
// other maker's. Linux 6.17, arch/arm64/include/asm/cputype.h, and util-linux 2.41, lscpu-arm.c.
func (c armCore) name() string { return armCoreNames[c] }

var armCoreNames = map[armCore]string{
	{0x41, 0xc05}: "Cortex-A5", {0x41, 0xc07}: "Cortex-A7", {0x41, 0xc08}: "Cortex-A8", {0x41, 0xc09}: "Cortex-A9",
	{0x41, 0xc0d}: "Cortex-A17", {0x41, 0xc0e}: "Cortex-A17", {0x41, 0xc0f}: "Cortex-A15",
	{0x41, 0xd01}: "Cortex-A32", {0x41, 0xd02}: "Cortex-A34", {0x41, 0xd03}: "Cortex-A53",
	{0x41, 0xd04}: "Cortex-A35", {0x41, 0xd05}: "Cortex-A55", {0x41, 0xd06}: "Cortex-A65",
	{0x41, 0xd07}: "Cortex-A57", {0x41, 0xd08}: "Cortex-A72", {0x41, 0xd09}: "Cortex-A73",
	{0x41, 0xd0a}: "Cortex-A75", {0x41, 0xd0b}: "Cortex-A76", {0x41, 0xd0c}: "Neoverse-N1",
	{0x41, 0xd0d}: "Cortex-A77", {0x41, 0xd0e}: "Cortex-A76AE", {0x41, 0xd40}: "Neoverse-V1",
	{0x41, 0xd41}: "Cortex-A78", {0x41, 0xd42}: "Cortex-A78AE", {0x41, 0xd43}: "Cortex-A65AE",
	{0x41, 0xd44}: "Cortex-X1", {0x41, 0xd46}: "Cortex-A510", {0x41, 0xd47}: "Cortex-A710",
	{0x41, 0xd48}: "Cortex-X2", {0x41, 0xd49}: "Neoverse-N2", {0x41, 0xd4a}: "Neoverse-E1",
	{0x41, 0xd4b}: "Cortex-A78C", {0x41, 0xd4c}: "Cortex-X1C", {0x41, 0xd4d}: "Cortex-A715",
	{0x41, 0xd4e}: "Cortex-X3",
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

// armModel names a machine by its designs, the strongest first: "Cortex-X925 + Cortex-A725".
func (t *Topology) armModel() string {
	var names []string
	for _, group := range t.byCore() {
		c := t.cores[group.first()]
		name := c.name()
		if name == "" {
			name = fmt.Sprintf("Arm core %#02x:%#03x", c.implementer, c.part)
		}
		names = append(names, name)
	}
	return strings.Join(names, " + ")
}

// namesNoCore is whether a model name is none, or what kernels write for every Arm of an architecture.
func namesNoCore(model string) bool {
	return model == "" || model == "Undefined" || strings.HasPrefix(model, "ARMv") ||
		strings.HasPrefix(model, "AArch64 Processor")
}
