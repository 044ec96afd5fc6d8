package profile

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/evidence"
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
	first.Steady(cpu, nil)
	second.Steady(cpu, nil)
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
	if m.Steady(cpu, nil); m.LLCBytes != 1408*units.KiB {
		t.Errorf("got %v", m.LLCBytes)
	}
	new(Measured).Steady(nil, nil)
	(*Measured)(nil).Steady(cpu, nil)
}

// TestTheLastRunStays: figures that move by 6 % about any value never change once they were kept; what moves by a
// quarter does, and no figure strays by more than 21 % from its timing.
func TestTheLastRunStays(t *testing.T) {
	folder := t.TempDir()
	lookup := func(name string) (string, bool) { return folder, name == "XDG_CACHE_HOME" }
	machines := 0
	rapid.Check(t, func(t *rapid.T) {
		machines++ // a draw that is tried again is of another machine, of which nothing is kept
		key := strconv.Itoa(machines)
		truth := math.Exp(rapid.Float64Range(10, 30).Draw(t, "rate"))
		run := func(by float64) *Measured {
			h := Hardware{Measured: &Measured{DRAMReadBytesPerS: units.Rate(truth * by), L2Bytes: 1650 * units.KiB,
				L2Interval: &Interval{Low: units.MiB, High: units.Bytes(2e6 * by)}, Costs: map[string]float64{"fault": truth * by},
				Latency: []LatencyPoint{{Bytes: 1}}}}
			h.Settle(lookup, key)
			return h.Measured
		}
		first := run(rapid.Float64Range(0.97, 1.03).Draw(t, "first"))
		for range 4 {
			again := run(rapid.Float64Range(0.97, 1.03).Draw(t, "again"))
			if again.DRAMReadBytesPerS != first.DRAMReadBytesPerS || again.Costs["fault"] != first.Costs["fault"] ||
				again.L2Bytes != first.L2Bytes || len(again.Latency) != 1 {
				t.Fatalf("%+v, then %+v", first, again)
			}
		}
		if moved := run(1.25); math.Abs(math.Log(float64(moved.DRAMReadBytesPerS)/truth/1.25)) > math.Log(1.21) {
			t.Fatalf("%g of %g", float64(moved.DRAMReadBytesPerS), truth*1.25)
		}
	})
}

// TestDisturbedRunsKeepNothing: nor does one host take another's figures for its own.
func TestDisturbedRunsKeepNothing(t *testing.T) {
	folder := t.TempDir()
	lookup := func(name string) (string, bool) { return folder, name == "XDG_CACHE_HOME" }
	run := func(rate units.Rate, warnings ...evidence.Warning) units.Rate {
		h := Hardware{Measured: &Measured{DRAMReadBytesPerS: rate}, Warnings: warnings}
		h.Settle(lookup, "key")
		return h.Measured.DRAMReadBytesPerS
	}
	run(8e9, evidence.Warn(Disturbed, "busy"))
	if got := run(9.2e9); got != 1e10 {
		t.Errorf("after a disturbed run: %v", got)
	}
	if got := run(8.7e9, evidence.Warn("firmware", "tables")); got != 1e10 {
		t.Errorf("after an even one: %v", got)
	}
	kept, err := os.ReadFile(filepath.Join(folder, "vlmem", "measured.json"))
	if host := hostIdentity(); err != nil || host != "" && strings.Contains(string(kept), host) {
		t.Errorf("kept %s, %v", kept, err)
	}
	if a, b := keyOf("key", "a"), keyOf("key", "b"); a == b || a != keyOf("key", "a") || a == keyOf("other", "a") {
		t.Errorf("keys %s and %s", a, b)
	}
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
