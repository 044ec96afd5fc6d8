package vulkan

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/vulkan/standin"
)

func TestAbsent(t *testing.T) {
	list, err := Devices(t.Context(), "/nonexistent/libvulkan.so.1")
	if len(list) > 0 || !errors.Is(err, ErrUnavailable) {
		t.Errorf("%+v, %v", list, err)
	}
	for name := range quiet {
		if value, left := os.LookupEnv(name); left {
			t.Errorf("%s=%s was left behind", name, value)
		}
	}
}

// available skips where no library can be loaded.
func available(t *testing.T) {
	t.Helper()
	if _, err := Devices(t.Context(), "/nonexistent"); strings.Contains(err.Error(), "without cgo") {
		t.Skip(err)
	}
}

func TestStandIn(t *testing.T) {
	available(t)
	list, err := Devices(t.Context(), standin.Build(t))
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	card, graphics := list[0], list[1]
	if card.PCIBusID != "0000:03:00.0" || card.Kind != Discrete || card.Vendor != 0x8086 || card.ID != 0x56a0 ||
		len(card.Heaps) != 2 || card.Heaps[0].Size != 16<<30 || !card.Heaps[0].Local || card.Heaps[1].Local ||
		card.Heaps[0].Budget == nil || *card.Heaps[0].Budget != 14<<30 || *card.Heaps[0].Used != 1<<30 {
		t.Errorf("%+v", card)
	}
	if graphics.PCIBusID != "" || graphics.Kind != Integrated || len(graphics.Heaps) != 1 ||
		graphics.Heaps[0].Budget != nil {
		t.Errorf("of Vulkan 1.0: %+v", graphics)
	}
}

func TestLoaderFails(t *testing.T) {
	available(t)
	if _, err := Devices(t.Context(), standin.Build(t, "VLMEM_VULKAN_CREATE=-9")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no driver: %v", err)
	}
}

func TestHang(t *testing.T) {
	available(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Devices(ctx, standin.Build(t, "VLMEM_VULKAN_HANG=1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drivers that hang answered: %v", err)
	}
}

// TestDevices asks the machine's own drivers, lavapipe where there is no card: VLMEM_VULKAN_DEVICE=llvmpipe holds
// that it is found.
func TestDevices(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	list, err := Devices(ctx, "")
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	want, told := os.LookupEnv("VLMEM_VULKAN_DEVICE")
	found := !told
	for _, d := range list {
		t.Logf("%+v", d)
		found = found || strings.Contains(d.Name, want)
		local := false
		for _, h := range d.Heaps {
			local = local || h.Local
			if h.Size <= 0 || h.Budget != nil && (*h.Budget < 0 || *h.Used < 0 || *h.Budget > 2*h.Size) {
				t.Errorf("%s: heap %+v", d.Name, h)
			}
		}
		if d.Name == "" || !local {
			t.Errorf("%+v has no heap of its own", d)
		}
	}
	if !found {
		t.Errorf("no %q among %d devices", want, len(list))
	}
}
