package probe

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/vulkan"
	"github.com/vlmem/vlmem/internal/vulkan/standin"
)

// TestHeaps has a card whose kernel driver tells no memory, and graphics in the processor.
func TestHeaps(t *testing.T) {
	loader := standin.Build(t)
	if _, err := vulkan.Devices(context.Background(), loader); errors.Is(err, vulkan.ErrUnavailable) {
		t.Skip(err)
	}
	h := profile.Hardware{Unknown: map[string]string{}, Cards: []profile.Card{
		{Vendor: "Intel", Name: "Intel UHD", PCIID: "8086:9b41", PCIBusID: "0000:00:02.0", Driver: "i915",
			Backends: []string{"vulkan"}},
		{Vendor: "Intel", Name: "Intel Arc A770", PCIID: "8086:56a0", PCIBusID: "0000:03:00.0", Driver: "i915",
			Backends: []string{"vulkan", "sycl"}},
		{Vendor: "AMD", Name: "AMD unbound", PCIID: "1002:744c", PCIBusID: "0000:04:00.0"}}}
	addHeaps(&h, loader)
	uhd, arc, unbound := h.Cards[0], h.Cards[1], h.Cards[2]
	if !uhd.Unified || len(uhd.Heaps) != 1 || uhd.VRAMBytes != nil {
		t.Errorf("graphics in the processor: %+v", uhd)
	}
	if arc.VRAMBytes == nil || *arc.VRAMBytes != 16*units.GiB || len(arc.Heaps) != 2 || arc.Unified ||
		!strings.Contains(arc.Source["vram_bytes"], "Vulkan") {
		t.Errorf("a card of its own: %+v", arc)
	}
	if len(unbound.Heaps) != 0 {
		t.Errorf("no driver is bound: %+v", unbound)
	}
	if g := h.EngineCard(); g == nil || g.MemoryBytes != 16*units.GiB || g.Backend != "vulkan" {
		t.Errorf("the card that an engine computes on: %+v", g)
	}
}
