package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/vulkan"
)

// heapsLimit is far above what Vulkan's drivers take to start.
const heapsLimit = 5 * time.Second

// addHeaps adds the memory heaps that Vulkan's drivers tell of the cards that CUDA does not serve. They also tell the
// memory of a card whose kernel driver does not, and whether a card is part of the processor.
func addHeaps(h *profile.Hardware, library string) {
	served := func(c profile.Card) bool {
		return c.Vendor != "NVIDIA" && c.Driver != "" && slices.Contains(c.Backends, "vulkan")
	}
	if !slices.ContainsFunc(h.Cards, served) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), heapsLimit)
	defer cancel()
	devices, err := vulkan.Devices(ctx, library)
	if err != nil && !errors.Is(err, vulkan.ErrUnavailable) {
		h.Unknown["cards.heaps"] = err.Error()
	}
	for i := range h.Cards {
		if c := &h.Cards[i]; served(*c) {
			if d := vulkanDevice(devices, c); d != nil {
				takeHeaps(c, d)
			}
		}
	}
}

// vulkanDevice is the card's: at its address, or where drivers tell none, the only one of its kind.
func vulkanDevice(devices []vulkan.Device, c *profile.Card) *vulkan.Device {
	var alike []*vulkan.Device
	for i := range devices {
		d := &devices[i]
		switch {
		case d.PCIBusID != "" && d.PCIBusID == c.PCIBusID:
			return d
		case d.PCIBusID == "" && d.Kind != vulkan.CPU && fmt.Sprintf("%04x:%04x", d.Vendor, d.ID) == c.PCIID:
			alike = append(alike, d)
		}
	}
	if len(alike) == 1 {
		return alike[0]
	}
	return nil
}

func takeHeaps(c *profile.Card, d *vulkan.Device) {
	bytes := func(n *int64) *units.Bytes {
		if n == nil {
			return nil
		}
		b := units.Bytes(*n)
		return &b
	}
	var own *profile.Heap
	for _, heap := range d.Heaps {
		c.Heaps = append(c.Heaps, profile.Heap{SizeBytes: units.Bytes(heap.Size), Local: heap.Local,
			BudgetBytes: bytes(heap.Budget), UsedBytes: bytes(heap.Used)})
		if last := &c.Heaps[len(c.Heaps)-1]; last.Local && (own == nil || last.SizeBytes > own.SizeBytes) {
			own = last
		}
	}
	if d.Kind == vulkan.Integrated {
		c.Unified = true
	}
	if own != nil && c.VRAMBytes == nil && d.Kind == vulkan.Discrete {
		size := own.SizeBytes
		c.VRAMBytes = &size
		if c.Source == nil {
			c.Source = profile.Sources{}
		}
		c.Source["vram_bytes"] = "reported: Vulkan's driver"
	}
}
