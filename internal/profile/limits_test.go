package profile

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
)

// A number at its limit is taken, one beyond it is refused by name; so is what breaks a line.
func TestLimits(t *testing.T) {
	card := func(change func(*GPU)) Hardware {
		g := GPU{Name: "card", ComputeCapability: "6.1", MemoryBytes: 8 << 30, SMCount: 20,
			SharedMemoryPerBlockBytes: 48 << 10,
			MaxThreadsPerBlock:        1024}
		change(&g)
		return Hardware{Name: "machine", GPUs: []GPU{g}}
	}
	for _, c := range []struct {
		change func(*GPU)
		want   string // "" where it is taken
	}{
		{func(*GPU) {}, ""},
		{func(g *GPU) { g.SMCount = 1 << 16 }, ""},
		{func(g *GPU) { g.SMCount = 1<<16 + 1 }, "gpus[0].sm_count is 65537, at most 65536 make sense"},
		{func(g *GPU) { g.SMCount = -1 }, "gpus[0].sm_count is -1, want zero or more"},
		{func(g *GPU) { g.MemoryBytes = mostSize }, ""},
		{func(g *GPU) { g.MemoryBytes = mostSize + 1 }, "gpus[0].memory_bytes"},
		{func(g *GPU) { g.BandwidthBytesPerS = 0.5 }, "gpus[0].bandwidth_bytes_per_s is 0.5, want a rate"},
		{func(g *GPU) { g.BandwidthBytesPerS = 2e18 }, "gpus[0].bandwidth_bytes_per_s"},
		{func(g *GPU) { g.FreeBytes = new(units.Bytes(9 << 30)) }, "gpus[0].free_bytes is above memory_bytes"},
		{func(g *GPU) { g.Name = "a\u202eb" }, "gpus[0].name has a control character (U+202E) at byte 1"},
		{func(g *GPU) { g.Name = "a\u2028b" }, "control character (U+2028)"},
		{func(g *GPU) { g.Name = "a\nb" }, "control character (U+000A)"},
		{func(g *GPU) { g.Name = "a\xff" }, "gpus[0].name is no UTF-8"},
		{func(g *GPU) { g.Name = strings.Repeat("a", mostText+1) }, "4097 bytes long"},
	} {
		h := card(c.change)
		err := h.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// A capture may lack what a profile must hold, and may hold nothing beyond limits either.
func TestBounded(t *testing.T) {
	h := Hardware{CPU: &CPU{Caches: []Cache{{Level: 8, SizeBytes: 32 * units.KiB}}}}
	if err := h.Bounded(); err != nil {
		t.Error(err)
	}
	h.CPU.Caches[0].Level = 1 << 31
	if err := h.Bounded(); err == nil || !strings.Contains(err.Error(), "cpu.caches[0].level is 2147483648") {
		t.Errorf("a level of 2^31: %v", err)
	}
	h.CPU.Caches[0].Level, h.CPU.Caches[0].SizeBytes = 1, 100
	if err := h.Bounded(); err == nil || !strings.Contains(err.Error(), "at least 512") {
		t.Errorf("a cache of 100 bytes: %v", err)
	}
}
