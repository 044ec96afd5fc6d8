package tiling

import (
	"errors"
	"fmt"
	"math"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"github.com/vlmem/vlmem/internal/units"
)

// CPUWork is what the CPU's tiles are for.
type CPUWork struct {
	HeadDim int // of the attention; 0 leaves its tiles out
	Threads int // running at once, each on its own tiles; 0 means one per physical core
}

// SGEMMTiles are the blocks of C += A·B in fp32: C is cut into MC x NC, the sum into KC, the register tile is MR x NR.
type SGEMMTiles struct{ MR, NR, KC, MC, NC int }

// AttentionTiles are the rows of Q and of K and V that attention in fp32 works on together.
type AttentionTiles struct{ HeadDim, BlockQ, BlockKV int }

// EffectiveCache is what one thread can count on of one level.
type EffectiveCache struct {
	Level    int
	Bytes    units.Bytes // min(measured, reported/sharers), whole ways
	Ways     int         // of WayBytes each
	WayBytes units.Bytes
	Source   string // measured or derived: which of the two was smaller; assumed where the profile has no such level
}

// AssumedCache is the code of a warning that the machine does not say all of a cache.
const AssumedCache evidence.Code = "assumed cache"

// CPUTiles are the tiles of one machine, before any timing. Attention is zero where no head dimension was asked for.
type CPUTiles struct {
	Variant   string // the register kernel: avx512, avx2, portable
	Threads   int
	SGEMM     SGEMMTiles
	Attention AttentionTiles
	Caches    []EffectiveCache // L1, L2 and, where there is one, L3
	Reasons   []Reason
	Warnings  []evidence.Warning
}

// CPU applies the equations of the package comment to the caches of a machine. measured may be nil. It fails where the
// machine names no L1 data cache and timing found none.
func CPU(cpu profile.CPU, measured *profile.Measured, work CPUWork) (CPUTiles, error) {
	v := kernel.For(cpu.ISA)
	t := CPUTiles{Variant: v.Name, Threads: work.Threads}
	if t.Threads == 0 {
		t.Threads = max(1, cpu.Cores)
	}
	if err := t.caches(&cpu, measured); err != nil {
		return CPUTiles{}, err
	}
	t.sgemm(v)
	if work.HeadDim > 0 {
		t.attention(v, work.HeadDim)
	}
	return t, nil
}

// Known is whether CPU can choose for a machine: it names its L1 data cache, or timing found one. Either may be nil.
func Known(cpu *profile.CPU, measured *profile.Measured) bool {
	return cpu != nil && (cpu.Cache(1) != nil || measured != nil && measured.L1Bytes > 0)
}

// caches fills t.Caches from L1 to L3. Without an L2 the equations still need one, so a small one is assumed.
func (t *CPUTiles) caches(cpu *profile.CPU, measured *profile.Measured) error {
	seen := [4]units.Bytes{}
	if measured != nil {
		seen = [4]units.Bytes{1: measured.L1Bytes, 2: measured.L2Bytes, 3: measured.LLCBytes}
	}
	for level := 1; level <= 3; level++ {
		c := cpu.Cache(level)
		switch {
		case c != nil:
			t.Caches = append(t.Caches, t.effective(*c, c.SizeBytes, seen[level]))
		case seen[level] > 0 && (level < 3 || seen[3] > seen[2]):
			t.Caches = append(t.Caches, t.effective(timed(cpu, level, seen[level]), 0, seen[level]))
			t.Warnings = append(t.Warnings,
				evidence.Warn(AssumedCache, "the machine names no L%d: its size is from timing, %d ways and who shares it are "+
					"assumed", level,
					assumedWays))
		case level == 1:
			return errors.New("choosing tiles: the machine names no L1 data cache")
		case level == 2:
			t.Caches = append(t.Caches, EffectiveCache{Level: 2, Bytes: 256 * units.KiB, Ways: 8, WayBytes: 32 * units.KiB,
				Source: Assumed})
			t.Warnings = append(t.Warnings, evidence.Warn(AssumedCache, "the machine names no L2 cache: 256 KiB, 8 ways are "+
				"assumed"))
		}
	}
	return nil
}

// timed is a cache that the machine does not name, as timing found it: a core's own, or the last for all.
func timed(cpu *profile.CPU, level int, seen units.Bytes) profile.Cache {
	cores := max(1, cpu.Cores)
	c := profile.Cache{Level: level, SizeBytes: seen, Ways: assumedWays, Instances: cores,
		SharedBy: ceilDiv(cpu.Threads, cores)}
	if level == 3 {
		c.Instances, c.SharedBy = 1, cpu.Threads
	}
	return c
}

// assumedWays stands in where a machine does not say its associativity.
const assumedWays = 8

// effective is what one of the running threads keeps of a cache. Threads spread over the instances before they share
// one.
func (t *CPUTiles) effective(c profile.Cache, reported, seen units.Bytes) EffectiveCache {
	sharers := min(ceilDiv(t.Threads, max(1, c.Instances)), max(1, c.SharedBy))
	e := EffectiveCache{Level: c.Level, Bytes: c.SizeBytes / units.Bytes(sharers), Ways: c.Ways, Source: Derived}
	if seen > 0 && seen <= e.Bytes && (reported == 0 || seen < e.Bytes) {
		e.Bytes, e.Source = seen, Measured
	}
	if e.Ways == 0 {
		e.Ways = assumedWays
		t.Warnings = append(t.Warnings, evidence.Warn(AssumedCache, "the machine does not say how associative L%d is: %d "+
			"ways are assumed",
			c.Level, e.Ways))
	}
	e.WayBytes = max(1, c.SizeBytes/units.Bytes(e.Ways))
	ways := int(e.Bytes / e.WayBytes)
	if ways < minWays {
		// Fewer ways than the equations need a way each for: keep their number and narrow them.
		ways, e.WayBytes = minWays, max(1, e.Bytes/minWays)
	}
	e.Ways, e.Bytes = ways, units.Bytes(ways)*e.WayBytes
	t.explain(fmt.Sprintf("l%d", c.Level), e.Source,
		"%s for each of %d threads: %s reported, shared by %d of them, %s measured",
		e.Bytes, t.Threads, orNone(reported), sharers, orNone(seen))
	return e
}

// minWays is what the equations divide a cache into: one way for each of the two operands and one for C.
const minWays = 3

func orNone(b units.Bytes) string {
	if b == 0 {
		return "none"
	}
	return b.String()
}

func (t *CPUTiles) explain(field, source, format string, args ...any) {
	t.Reasons = append(t.Reasons, Reason{Field: field, Text: fmt.Sprintf(format, args...), Source: source})
}

const (
	floatBytes = 4
	// kcStep keeps kc a multiple of the unrolling and of a cache line of packed A.
	kcStep = 16
	// withoutL3 is nc for a machine that has no third level: B's panel streams from memory whatever its width.
	withoutL3 = 4096
)

// panelWays is how many ways of a cache n elements of fp32 take.
func (e EffectiveCache) panelWays(n int) int { return ceilDiv(n*floatBytes, int(e.WayBytes)) }

// deepest is the largest multiple of step for which an A and a B micropanel of that depth and a line of C share L1.
func deepest(l1 EffectiveCache, v kernel.Variant, step int) int {
	k := step
	for l1.panelWays(v.MR*(k+step))+l1.panelWays(v.NR*(k+step))+1 <= l1.Ways {
		k += step
	}
	return k
}

func (t *CPUTiles) sgemm(v kernel.Variant) {
	l1, l2 := t.Caches[0], t.Caches[1]
	g := t.Deeper(v, deepest(l1, v, kcStep))
	t.explain("mr", Derived, "the %s register kernel", v.Name)
	t.explain("nr", Derived, "the %s register kernel", v.Name)
	t.explain("kc", l1.Source, "the deepest micropanels of A (%d rows) and B (%d columns) that share L1 with C", g.MR,
		g.NR)
	t.explain("mc", l2.Source, "the rows of A that %d ways of L2 hold beside a micropanel of B", l2.Ways)
	if len(t.Caches) < 3 {
		t.explain("nc", Assumed, "there is no L3 to hold a panel of B")
	} else {
		t.explain("nc", t.Caches[2].Source, "the columns of B that %d ways of L3 hold beside a block of A", t.Caches[2].Ways)
	}
	t.SGEMM = g
}

// Deeper is the model's answer for a kc other than the one it chose: mc and nc by the equations for L2 and L3.
func (t *CPUTiles) Deeper(v kernel.Variant, kc int) SGEMMTiles {
	l2 := t.Caches[1]
	g := SGEMMTiles{MR: v.MR, NR: v.NR, KC: kc, NC: withoutL3}
	g.MC = multiple((l2.Ways-1-l2.panelWays(g.NR*kc))*int(l2.WayBytes)/(floatBytes*kc), g.MR)
	if len(t.Caches) == 3 {
		l3 := t.Caches[2]
		g.NC = (l3.Ways - 1 - l3.panelWays(g.MC*kc)) * int(l3.WayBytes) / (floatBytes * kc)
	}
	g.NC = multiple(g.NC, g.NR)
	return g
}

func (t *CPUTiles) attention(v kernel.Variant, d int) {
	l1, l2 := t.Caches[0], t.Caches[1]
	elements := (l2.Ways - 1) * int(l2.WayBytes) / floatBytes
	equal := int(math.Sqrt(float64(4*d*d+elements))) - 2*d
	depth := deepest(l1, v, v.NR)
	a := AttentionTiles{HeadDim: d, BlockKV: min(depth, multiple(equal, v.NR))}
	a.BlockQ = multiple((elements-2*a.BlockKV*d)/(2*d+a.BlockKV), v.MR)
	if a.BlockKV == depth {
		t.explain("block_kv", l1.Source, "as deep as micropanels of P and V may be to share L1")
	} else {
		t.explain("block_kv", l2.Source, "as many keys as rows, so that K, V and O are moved least through L2")
	}
	t.explain("block_q", l2.Source, "the rows of Q, O and P that L2 holds beside a tile of K and of V")
	t.Attention = a
}

// multiple rounds n down to a multiple of unit, but never below one unit: a tile smaller than the register kernel's
// does not exist.
func multiple(n, unit int) int { return max(1, n/unit) * unit }
