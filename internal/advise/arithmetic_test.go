package advise

import (
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

// arithmetic is a small model beside a card, with limits whose sums a reader can follow.
func arithmetic(t *testing.T) Inputs {
	t.Helper()
	m, err := profiles.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	card, err := profiles.Hardware("gtx-1080")
	if err != nil {
		t.Fatal(err)
	}
	return Inputs{Model: m, Precision: "fp16", Limits: Limits{ContextTokens: 100, Concurrency: 3, ImageWidth: 640,
		ImageHeight: 480}, Hardware: profile.Hardware{Memory: &profile.Memory{TotalBytes: 64 * units.GiB}, GPUs: card.GPUs}}
}

// need is a demand of so many bytes in each pool.
func need(bytes map[string]int64) Demand {
	d := Demand{}
	for name, n := range bytes {
		d[name] = &replay.Program{LowerBound: n}
	}
	return d
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestTheParts(t *testing.T) {
	in := arithmetic(t)
	grid, err := in.Model.ImageGrid(640, 480)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "staging: two buffers of the image's pixels in fp32", in.stagingBytes(),
		units.Bytes(2*4*int64(grid.Patches)*int64(grid.PatchWidth)))
	perToken := in.Model.KVBytesPerToken(in.activation())
	same(t, "cache: 100 tokens are seven pages of 16 for each of three", in.kvPool().Max.Value, roundUp(perToken*112*3))

	pools := Pools{General: Pool{Max: Value[units.Bytes]{Value: 10 * units.GiB}}}
	l := in.weigh(need(map[string]int64{"general": 1 << 20, "text_embeddings": 1 << 19, "vision_features": 1 << 18}),
		pools)
	same(t, "compute", l.compute, 1<<20+1<<19)
	same(t, "vision", l.vision, 1<<18)
	same(t, "what the pools hold beyond the rest", l.pools, 10*units.GiB-perToken*300-1<<20-1<<19-1<<18)
	in.Seen = []Seen{{"vision_features": {LowerBound: 1 << 10}, "general": {LowerBound: 1 << 12}}}
	least := in.leastLoad(l)
	same(t, "the least vision", least.vision, 1<<10)
	same(t, "the least compute", least.compute, 1<<12)
}

// A limit below the machine's total leaves the system's part out.
func TestHostMemoryUnderALimit(t *testing.T) {
	in := arithmetic(t)
	same(t, "a whole machine", in.hostMemory().Other.Value, systemBytes+processBytes)
	for limit, want := range map[units.Bytes]units.Bytes{
		32 * units.GiB: processBytes, 63 * units.GiB: systemBytes - units.GiB + processBytes,
	} {
		in.Hardware.Memory.LimitBytes = &limit
		same(t, "under a limit of "+limit.String(), in.hostMemory().Other.Value, want)
	}
}

// The pool takes the policy that reserves least over all, the median as its start and the largest need with a
// twentieth.
func TestChoose(t *testing.T) {
	const mib = 1 << 20
	in := arithmetic(t)
	p := in.choose(map[string][]int64{"vlmem": {400 * mib, 120 * mib, 250 * mib},
		"bestfit": {300 * mib, 100 * mib, 200 * mib},
		"buddy":   {800 * mib, 200 * mib, 400 * mib}}, []int64{290 * mib, 90 * mib, 190 * mib})
	same(t, "policy", p.Policy.Value, "bestfit")
	same(t, "initial", p.Initial.Value, 200*units.MiB)
	same(t, "most", p.Max.Value, roundUp(315*units.MiB))
	same(t, "what a reaction gives back", p.bursts.reclaim, 75*units.MiB)
}

// high = 1 − (U − R)/C, hysteresis = R/C and a hundredth, low = high − hysteresis − U/C.
func TestThresholds(t *testing.T) {
	p := bursts{burst: 20 * units.GiB, reclaim: 5 * units.GiB, samples: 4}.pressure(100 * units.GiB)
	same(t, "high", p.High.Value, 0.85)
	same(t, "hysteresis", p.Hysteresis.Value, 0.06)
	same(t, "low", p.Low.Value, 0.59)
}

// What is free is least where everything else is at its most.
func TestFreeInterval(t *testing.T) {
	in := arithmetic(t)
	exact := func(n units.Bytes) Value[units.Bytes] { return derived(n, "") }
	p := Side{Capacity: exact(8 * units.GiB), Weights: exact(units.GiB), KVCache: exact(0), Vision: exact(units.GiB),
		Compute: exact(0), Pools: exact(0), Pinned: exact(0), Other: exact(profile.ContextBytes)}
	in.bound(&p, load{vision: units.GiB / 2}, true)
	same(t, "least free", p.Intervals.Free.Low, 6*units.GiB-profile.MostContextBytes)
	same(t, "most free", p.Intervals.Free.High, 6*units.GiB+units.GiB/2-profile.LeastContextBytes)
}

// A card that is one byte too small for all layers takes all but one.
func TestOneLayerLess(t *testing.T) {
	in := arithmetic(t)
	l, all := in.weigh(Demand{}, Pools{}), in.Model.Text.Layers
	precision := in.allowed()[0]
	whole := in.budget(precision, all, l)
	in.Hardware.GPUs[0].MemoryBytes -= whole.Device.Free.Value + 1
	b, ok := in.place(Demand{}, Pools{})
	if !ok {
		t.Fatal("nothing fits")
	}
	same(t, "layers on the card", b.LayersOnDevice.Value, all-1)
}
