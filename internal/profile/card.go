package profile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/units"
)

// Card is a graphics or compute device that the kernel shows, whatever its maker and whether or not anything can run
// on it. Those that the CUDA driver serves are described further as GPUs; the PCI address ties the two. Sizes are nil
// where the kernel does not tell them.
type Card struct {
	Vendor   string `yaml:"vendor" json:"vendor"`
	Name     string `yaml:"name" json:"name"`
	PCIID    string `yaml:"pci_id,omitempty" json:"pci_id,omitempty"` // "1002:744c"
	PCIBusID string `yaml:"pci_bus_id,omitempty" json:"pci_bus_id,omitempty"`
	Driver   string `yaml:"driver,omitempty" json:"driver,omitempty"` // bound kernel driver
	Node     string `yaml:"node,omitempty" json:"node,omitempty"`     // "card0" of /sys/class/drm
	Part     string `yaml:"part,omitempty" json:"part,omitempty"`     // of a divided card (MIG), "" for a whole one
	UUID     string `yaml:"uuid,omitempty" json:"uuid,omitempty"`     // of a part, as CUDA_VISIBLE_DEVICES takes it
	// memory of its own, and of the host's that it may map
	VRAMBytes     *units.Bytes `yaml:"vram_bytes,omitempty" json:"vram_bytes,omitempty"`
	VRAMUsedBytes *units.Bytes `yaml:"vram_used_bytes,omitempty" json:"vram_used_bytes,omitempty"`
	GTTBytes      *units.Bytes `yaml:"gtt_bytes,omitempty" json:"gtt_bytes,omitempty"`
	GTTUsedBytes  *units.Bytes `yaml:"gtt_used_bytes,omitempty" json:"gtt_used_bytes,omitempty"`
	// what of its memory the processor reaches on the bus: not below the memory, where it is known
	WindowBytes *units.Bytes `yaml:"window_bytes,omitempty" json:"window_bytes,omitempty"`
	// as Vulkan's driver tells them
	Heaps []Heap `yaml:"heaps,omitempty" json:"heaps,omitempty"`
	// Unified: its memory is the host's; it and the host cannot both have it.
	Unified bool    `yaml:"unified_memory,omitempty" json:"unified_memory,omitempty"`
	ClockHz float64 `yaml:"clock_hz,omitempty" json:"clock_hz,omitempty"` // highest of its shader clocks
	// of its data sheet: the generation of its cores (rdna2, rdna3, intel), its memory's rate, its arithmetic in 32 bits
	Architecture       string     `yaml:"architecture,omitempty" json:"architecture,omitempty"`
	BandwidthBytesPerS units.Rate `yaml:"bandwidth_bytes_per_s,omitempty" json:"bandwidth_bytes_per_s,omitempty"`
	FP32FlopsPerS      float64    `yaml:"fp32_flops_per_s,omitempty" json:"fp32_flops_per_s,omitempty"`
	// the bus, one way, theoretical
	HostBandwidthBytesPerS units.Rate `yaml:"host_bandwidth_bytes_per_s,omitempty" json:"host_bandwidth_bytes_per_s,omitempty"`
	// Backends of engines that can compute on it: cuda, rocm, vulkan, sycl.
	Backends []string `yaml:"backends,omitempty" json:"backends,omitempty"`
	Visible  bool     `yaml:"visible" json:"visible"` // vlmem's own card side, which is CUDA's, can use it
	// Why not Visible
	Why    string  `yaml:"why,omitempty" json:"why,omitempty"`
	Source Sources `yaml:"source,omitempty" json:"source,omitempty"`
}

// Heap is one memory that a card reaches. Budget, what may be had of it, and Used are nil where the driver does not
// count.
type Heap struct {
	SizeBytes   units.Bytes  `yaml:"size_bytes" json:"size_bytes"`
	Local       bool         `yaml:"local,omitempty" json:"local,omitempty"` // the card's own
	BudgetBytes *units.Bytes `yaml:"budget_bytes,omitempty" json:"budget_bytes,omitempty"`
	UsedBytes   *units.Bytes `yaml:"used_bytes,omitempty" json:"used_bytes,omitempty"`
}

// leastEngineCard is the memory below which nothing of a model worth the trouble lies on a card.
const leastEngineCard = 2 * units.GiB

// mi300A is the PCI id of AMD's Instinct MI300A, whose memory is all the host's as well.
const mi300A = "1002:74a0"

// EngineCard is the card that an engine computes on where no CUDA device is there: the one with the most memory that
// Vulkan or ROCm serves, as a GPU without a compute capability; nil for none. Intel's integrated graphics are left
// out: they are no faster than the cores beside them over the same memory.
func (h *Hardware) EngineCard() *GPU {
	if all := h.EngineCards(); len(all) > 0 {
		return &all[0]
	}
	return nil
}

// EngineCards are the cards that an engine spreads over where no CUDA device is there: the one with the most memory and
// what else its backend serves, by falling memory. A processor's graphics stand alone, and only where there is no
// card: llama.cpp leaves them out beside one, however much memory they may map (ggml-org/llama.cpp#14565, #15793).
func (h *Hardware) EngineCards() (list []GPU) {
	all := h.served()
	seen := map[bool]map[string]int{true: {}, false: {}}
	for i := range all { // cards are numbered without processors' graphics
		of := seen[all[i].Integrated]
		all[i].Number = of[all[i].Backend]
		of[all[i].Backend]++
	}
	slices.SortStableFunc(all, func(a, b GPU) int { return cmp.Compare(b.MemoryBytes, a.MemoryBytes) })
	slices.SortStableFunc(all, func(a, b GPU) int {
		switch {
		case a.Integrated == b.Integrated:
			return 0
		case b.Integrated:
			return -1
		}
		return 1
	})
	for i, g := range all {
		if best := all[0]; i == 0 || g.Backend == best.Backend && !g.Integrated && !best.Integrated {
			list = append(list, g)
		}
	}
	return list
}

// OtherCards are the cards of other makers beside CUDA's, which a backend for all makers' cards reaches too; graphics
// that share the host's memory are left out, as engines leave them out beside others.
func (h *Hardware) OtherCards() (list []GPU) {
	if len(h.GPUs) == 0 || h.GPUs[0].Backend != "" {
		return nil
	}
	return slices.DeleteFunc(h.served(), func(g GPU) bool { return g.UnifiedMemory })
}

// served are the cards that Vulkan or ROCm serves.
func (h *Hardware) served() (all []GPU) {
	for i, c := range h.Cards {
		if len(c.Backends) == 0 || c.Vendor == "NVIDIA" || c.VRAMBytes == nil || c.Unified && c.Vendor != "AMD" {
			continue
		}
		g := GPU{Name: c.Name, Backend: c.Backends[0], MemoryBytes: *c.VRAMBytes, PCIBusID: c.PCIBusID,
			HostBandwidthBytesPerS: c.HostBandwidthBytesPerS, UnifiedMemory: c.Unified, Integrated: c.Unified,
			Architecture: c.Architecture, BandwidthBytesPerS: c.BandwidthBytesPerS, FP32FlopsPerS: c.FP32FlopsPerS,
			Source: Sources{"default": "reported: the kernel's driver"}}
		if c.VRAMUsedBytes != nil {
			g.FreeBytes = new(max(0, g.MemoryBytes-*c.VRAMUsedBytes))
		}
		switch {
		case !c.Unified || c.GTTBytes == nil:
		case *c.VRAMBytes > *c.GTTBytes && c.PCIID != mi300A:
			// What the firmware set aside is in no total of the host's: it is the card's alone.
			g.UnifiedMemory = false
		default:
			g.MemoryBytes += *c.GTTBytes
			if g.FreeBytes = nil; c.VRAMUsedBytes != nil && c.GTTUsedBytes != nil {
				g.FreeBytes = new(max(0, g.MemoryBytes-*c.VRAMUsedBytes-*c.GTTUsedBytes))
			}
		}
		if g.FreeBytes == nil && !g.UnifiedMemory {
			g.FreeBytes = c.budget()
		}
		if g.FreeBytes == nil && h.inUse() {
			g.FreeUnknown = h.unread(i)
		}
		if g.MemoryBytes >= leastEngineCard {
			all = append(all, g)
		}
	}
	return all
}

// budget is what Vulkan's driver lets a program have of the card's own memory now, nil where it does not say.
func (c *Card) budget() *units.Bytes {
	var own *Heap
	for i := range c.Heaps {
		if heap := &c.Heaps[i]; heap.Local && (own == nil || heap.SizeBytes > own.SizeBytes) {
			own = heap
		}
	}
	if own == nil || own.BudgetBytes == nil || c.VRAMBytes == nil {
		return nil
	}
	return new(min(*own.BudgetBytes, *c.VRAMBytes))
}

// inUse is whether the machine was looked at while it ran, as profiles were not.
func (h *Hardware) inUse() bool { return h.Memory != nil && h.Memory.AvailableBytes != nil }

// unread is why it is not known what other programs hold of a card.
func (h *Hardware) unread(card int) string {
	for _, what := range []string{"vram_used_bytes", "gtt_used_bytes"} {
		if why := h.Unknown[fmt.Sprintf("cards[%d].%s", card, what)]; why != "" {
			return why
		}
	}
	return "its driver does not say what of its memory is used"
}
