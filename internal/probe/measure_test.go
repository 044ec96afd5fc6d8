package probe

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// brief measures as little as can be.
var brief = plan{top: leastTop, stream: 32 << 20, coarse: 1, fine: 2, repeats: 3, sweep: 50 * time.Millisecond,
	refine: time.Millisecond, last: time.Millisecond, window: time.Millisecond, memory: time.Millisecond, rounds: 1,
	total: time.Second, most: time.Minute, everyCount: true}

// TestMeasure runs the whole of it on this machine. What the figures are is the machine's affair; that all are there is
// ours.
func TestMeasure(t *testing.T) {
	h, err := Reported("/")
	if err != nil {
		t.Fatal(err)
	}
	var last, total int
	ms, err := newMeasuring(context.Background(), Options{Hardware: h, Progress: func(done, of int) {
		if done <= last || done > of {
			t.Errorf("progress went from %d to %d of %d", last, done, of)
		}
		last, total = done, of
	}})
	if err != nil {
		t.Skip(err)
	}
	ms.plan = brief
	m, err := ms.measure()
	if err != nil {
		t.Fatal(err)
	}
	if last == 0 || last > total {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	for _, order := range []string{Random, PageLocal, LinePerPage} {
		n := 0
		for _, p := range m.Latency {
			if p.Order == order && p.Seconds > 0 && p.Seconds < 1e-3 {
				n++
			}
		}
		if n < 2 {
			t.Errorf("%s has %d points", order, n)
		}
	}
	for _, kernel := range []string{"load", "copy", "triad"} {
		if !slices.ContainsFunc(m.Bandwidth, func(p profile.BandwidthPoint) bool {
			return p.Kernel == kernel &&
				p.Level == "DRAM" && p.PerS > 0
		}) {
			t.Errorf("no %s over main memory", kernel)
		}
	}
	if m.DRAMReadBytesPerS <= 0 || m.DRAMReadThreads != len(ms.cpus) || m.DRAMLatencyS <= 0 || m.FP32FlopsPerS <= 0 ||
		m.Costs["memcpy_per_byte"] <= 0 || m.Costs["page_fault"] <= 0 {
		t.Errorf("missing: %+v", m.Measured)
	}
	for key, size := range map[string]units.Bytes{"l1_bytes": m.L1Bytes, "l2_bytes": m.L2Bytes, "llc_bytes": m.LLCBytes} {
		if _, unknown := m.Unknown["measured."+key]; unknown != (size == 0) {
			t.Errorf("%s is %v, unknown %v", key, size, m.Unknown)
		}
	}
}

func TestMeasureStops(t *testing.T) {
	h, err := Reported("/")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Measure(ctx, Options{Hardware: h}); !errors.Is(err, context.Canceled) &&
		!errors.Is(err, ErrTooLittleMemory) {
		t.Errorf("a cancelled measurement answers %v", err)
	}
}

func TestMeasureRefuses(t *testing.T) {
	little := units.Bytes(64 << 20)
	for name, h := range map[string]profile.Hardware{
		"no CPU":        {},
		"little memory": {NUMA: []profile.Node{{CPUs: []int{0}}}, Memory: &profile.Memory{AvailableBytes: &little}},
	} {
		if _, err := Measure(context.Background(), Options{Hardware: h}); err == nil {
			t.Errorf("%s is measured", name)
		}
	}
}

func TestUsableCPUs(t *testing.T) {
	h := profile.Hardware{NUMA: []profile.Node{{CPUs: []int{0, 1, 2, 3}}, {CPUs: []int{4, 5}}},
		CPU: &profile.CPU{Allowed: []int{1, 2, 3, 4}, Kinds: []profile.CoreKind{{Name: "performance", CPUs: []int{3, 4}},
			{Name: "efficiency", CPUs: []int{0, 1, 2, 5}}}}}
	if got := usableCPUs(h); !slices.Equal(got, []int{3, 4, 1, 2}) {
		t.Errorf("%v, want the strong ones first", got)
	}
}

func TestNotes(t *testing.T) {
	h := profile.Hardware{
		CPU: &profile.CPU{Caches: []profile.Cache{{Level: 3, Type: "unified", SizeBytes: 32 * units.MiB, SharedBy: 8}}},
		Measured: &profile.Measured{LLCBytes: 10 * units.MiB,
			Bandwidth: []profile.BandwidthPoint{{Kernel: "load", Threads: 1, Level: "DRAM", PerS: 16e9},
				{Kernel: "load", Threads: 1, Level: hugeLevel, PerS: 32e9}}},
	}
	if got := Notes(h); len(got) != 2 || !strings.Contains(got[0], "32 MiB and 10 MiB are felt") ||
		!strings.Contains(got[1], "2.0 times") {
		t.Errorf("%q", got)
	}
	h.Measured.LLCBytes, h.Measured.Bandwidth = 30*units.MiB, nil
	if got := Notes(h); len(got) != 1 || !strings.Contains(got[0], "4 MiB") {
		t.Errorf("%q", got)
	}
}

// TestAffordable: on a busy machine main memory is what can be linked in time, no less than was sampled or than any
// last-level cache.
func TestAffordable(t *testing.T) {
	sizes := []int{1 << 20, 8 << 20, 16 << 20, 32 << 20, 64 << 20, 128 << 20}
	for _, c := range []struct {
		last int
		most float64
		want int
	}{{8 << 20, 1 << 30, 128 << 20}, {8 << 20, 40 << 20, 32 << 20}, {1 << 20, 0, leastTop}, {64 << 20, -1, 64 << 20}} {
		if got := affordable(sizes, c.last, c.most); got != c.want {
			t.Errorf("last %d, most %g: %d, want %d", c.last, c.most, got, c.want)
		}
	}
}

// TestLateMeasurementEnds: where the time is over at the start, each value is still there, taken once, with a warning.
func TestLateMeasurementEnds(t *testing.T) {
	h, err := Reported("/")
	if err != nil {
		t.Fatal(err)
	}
	ms, err := newMeasuring(t.Context(), Options{Hardware: h})
	if errors.Is(err, ErrTooLittleMemory) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ms.plan = brief
	ms.most = -1
	m, err := ms.measure()
	if err != nil {
		t.Fatal(err)
	}
	if m.DRAMLatencyS <= 0 || m.DRAMReadBytesPerS <= 0 || m.FP32FlopsPerS <= 0 || m.Costs["memcpy_per_byte"] <= 0 ||
		!slices.ContainsFunc(m.Warnings, func(w evidence.Warning) bool { return w.Code == Disturbed }) {
		t.Errorf("%+v", m)
	}
}
