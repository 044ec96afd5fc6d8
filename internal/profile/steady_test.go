package profile

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/units"
)

// TestTwoTimingsOfOneMachineAgree: what two runs saw of the same caches, with their intervals, and of the same memory.
func TestTwoTimingsOfOneMachineAgree(t *testing.T) {
	cpu := &CPU{Caches: []Cache{{Level: 1, Type: "data", SizeBytes: 48 * units.KiB}, {Level: 2, SizeBytes: 2 * units.MiB}}}
	first := Measured{L1Bytes: 40 * units.KiB, L1Interval: &Interval{Low: 32 * units.KiB, High: 52 * units.KiB},
		L2Bytes: 1662976, L2Interval: &Interval{Low: 200 * units.KiB, High: 3 * units.MiB}, DRAMReadBytesPerS: 24607051156,
		Costs: map[string]float64{"page_fault": 2.4e-7}}
	second := Measured{L1Bytes: 48 * units.KiB, L1Interval: &Interval{Low: 40 * units.KiB, High: 52 * units.KiB},
		L2Bytes: 1638400, L2Interval: &Interval{Low: 800 * units.KiB, High: 4 * units.MiB}, DRAMReadBytesPerS: 22969974232,
		Costs: map[string]float64{"page_fault": 2.6e-7}}
	first.Steady(cpu)
	second.Steady(cpu)
	if first.L1Bytes != 48*units.KiB || first.L1Bytes != second.L1Bytes || first.L2Bytes != 2*units.MiB ||
		first.L2Bytes != second.L2Bytes || first.DRAMReadBytesPerS != 25e9 ||
		first.DRAMReadBytesPerS != second.DRAMReadBytesPerS || first.Costs["page_fault"] != second.Costs["page_fault"] {
		t.Errorf("got %+v and %+v", first, second)
	}
}

// TestACacheThatIsFeltSmallerStaysSmaller: a reported size outside the interval is not believed.
func TestACacheThatIsFeltSmallerStaysSmaller(t *testing.T) {
	cpu := &CPU{Caches: []Cache{{Level: 3, SizeBytes: 6 * units.MiB}}}
	m := Measured{LLCBytes: 1400 * units.KiB, LLCInterval: &Interval{Low: 1200 * units.KiB, High: 1700 * units.KiB}}
	if m.Steady(cpu); m.LLCBytes != 1408*units.KiB {
		t.Errorf("got %v", m.LLCBytes)
	}
	new(Measured).Steady(nil)
	(*Measured)(nil).Steady(cpu)
}

// TestPreferredIsNear: never more than an eighth off, and the same again.
func TestPreferredIsNear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := math.Exp(rapid.Float64Range(-40, 40).Draw(t, "logarithm"))
		p := preferred(v)
		if off := math.Abs(math.Log(p / v)); off > math.Log(1.135) || math.Abs(preferred(p)/p-1) > 1e-9 {
			t.Fatalf("%g became %g, which becomes %g", v, p, preferred(p))
		}
	})
}
