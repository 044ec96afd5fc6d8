package profiles

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// impossible says what of a card contradicts the rest of it: bandwidth is the bus times the rate of a pin; arithmetic
// is two operations of every core at the clock; a memory chip of 32 bits holds 1 to 4 GiB, twice that where chips lie
// on both sides, and CUDA sees at most all of it and at least 91 %, less the error correction that lies in it; limits
// are those of the capability.
func impossible(g profile.GPU) (faults []string) {
	for key, figure := range map[string]float64{"memory_bus_bits": float64(g.MemoryBusBits), "clock_hz": g.ClockHz,
		"memory_rate_bits_per_s": g.MemoryRateBitsPerS, "fp32_flops_per_s": g.FP32FlopsPerS,
		"bandwidth_bytes_per_s": float64(g.BandwidthBytesPerS), "l2_bytes": float64(g.L2Bytes)} {
		if figure == 0 {
			faults = append(faults, key+" is missing: without it a wrong digit elsewhere is not found")
		}
	}
	for key, figure := range map[string]float64{"copy_engines": float64(g.CopyEngines),
		"host_bandwidth_bytes_per_s": float64(g.HostBandwidthBytesPerS)} {
		if figure == 0 {
			faults = append(faults, key+" is missing: without it nothing is known of what a copy costs")
		}
	}
	if g.MemoryBusBits > 0 {
		derived := float64(g.MemoryBusBits) / 8 * g.MemoryRateBitsPerS
		if math.Abs(float64(g.BandwidthBytesPerS)/derived-1) > 0.01 {
			faults = append(faults, "bandwidth is not the bus times its rate")
		}
		if !slices.ContainsFunc(chips(g), func(nominal units.Bytes) bool {
			return g.MemoryBytes <= nominal && float64(g.MemoryBytes) >= 0.91*float64(nominal)
		}) {
			faults = append(faults, "no number of chips on the bus holds this memory")
		}
	}
	if g.ClockHz > 0 && g.FP32FlopsPerS > 0 {
		if cores := g.FP32FlopsPerS / 2 / g.ClockHz / float64(g.SMCount); math.Abs(cores/128-1) > 0.03 &&
			math.Abs(cores/64-1) > 0.03 {
			faults = append(faults, "arithmetic is not that of 64 or 128 cores an SM at the clock")
		}
	}
	if g.L2Bytes > g.MemoryBytes/32 || g.SharedMemoryPerBlockOptin > g.SharedMemoryPerSMBytes {
		faults = append(faults, "a cache is larger than what it is a part of")
	}
	return faults
}

// chips are the capacities that a bus of that width comes with: chips of 32 bits, or stacks of 1,024.
func chips(g profile.GPU) (list []units.Bytes) {
	if g.MemoryBusBits >= 4096 {
		for _, of := range []float64{16, 18, 22.5, 24} { // GB of a stack, of which a part may be switched off
			stacks := math.Ceil(float64(g.MemoryBusBits) / 1024)
			list = append(list, units.Bytes(stacks*of*float64(units.GiB)))
		}
		return list
	}
	for _, gib := range []float64{0.5, 1, 1.5, 2, 3, 4, 8, 16} { // the last two: LPDDR5X packages
		list = append(list, units.Bytes(float64(g.MemoryBusBits)/32*gib*float64(units.GiB)))
	}
	return list
}

// contradictory are cards that are carried as somebody stated them.
var contradictory = map[string]string{"sm61-as-stated": "no card has this memory and this bandwidth"}

func TestCardsArePossible(t *testing.T) {
	for _, name := range HardwareNames() {
		h, err := Hardware(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range h.GPUs {
			faults := impossible(g)
			if why, ok := contradictory[name]; ok && len(faults) == 0 {
				t.Errorf("%s: nothing is wrong with it: %s", name, why)
			} else if !ok && len(faults) > 0 {
				t.Errorf("%s: %s", name, strings.Join(faults, "; "))
			}
		}
	}
}

// A wrong digit anywhere fails.
func TestImpossibleCardsAreFound(t *testing.T) {
	h, err := Hardware("rtx-4090")
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*profile.GPU){
		"bus": func(g *profile.GPU) { g.MemoryBusBits = 256 }, "SMs": func(g *profile.GPU) { g.SMCount = 118 },
		"bandwidth": func(g *profile.GPU) { g.BandwidthBytesPerS *= 1.1 }, "clock": func(g *profile.GPU) { g.ClockHz *= 1.1 },
		"memory": func(g *profile.GPU) { g.MemoryBytes -= 3 * units.GiB }, "L2": func(g *profile.GPU) { g.L2Bytes *= 1024 },
		"absent bus":       func(g *profile.GPU) { g.MemoryBusBits = 0 },
		"absent rate":      func(g *profile.GPU) { g.MemoryRateBitsPerS = 0 },
		"absent clock":     func(g *profile.GPU) { g.ClockHz = 0 },
		"absent FP32":      func(g *profile.GPU) { g.FP32FlopsPerS = 0 },
		"absent L2":        func(g *profile.GPU) { g.L2Bytes = 0 },
		"absent bandwidth": func(g *profile.GPU) { g.BandwidthBytesPerS = 0 },
		"absent engines":   func(g *profile.GPU) { g.CopyEngines = 0 },
		"absent link":      func(g *profile.GPU) { g.HostBandwidthBytesPerS = 0 },
	} {
		g := h.GPUs[0]
		if change(&g); impossible(g) == nil {
			t.Errorf("a wrong %s was not found", what)
		}
	}
}
