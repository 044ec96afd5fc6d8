package engine

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// machineWith is a machine of such cards, of which so many GiB are free; below zero for those that nobody asked.
func machineWith(t *testing.T, cards map[int]string, free ...float64) *profile.Hardware {
	t.Helper()
	h := profile.Hardware{Name: "here"}
	for i, gib := range free {
		g := *card(t, cards[i])
		if gib >= 0 {
			g.FreeBytes = new(units.Bytes(gib * float64(units.GiB)))
		}
		h.GPUs = append(h.GPUs, g)
	}
	return &h
}

// coded reports whether an estimate warns of something.
func coded(mem *Memory, code evidence.Code) bool {
	return slices.ContainsFunc(mem.Warnings, func(w evidence.Warning) bool { return w.Code == code })
}

// vLLM 0.33.0 compares what is free once its context lies there with a share of the whole card, and refuses where that
// is less (request_memory in vllm/v1/worker/utils.py); the card of all that has least free decides.
func TestAFilledCardRefusesItsShare(t *testing.T) {
	for _, c := range []struct {
		free     []float64
		share    float64
		starts   evidence.Code // "" for surely
		withheld bool
	}{
		{[]float64{-1}, 0, "", false}, {[]float64{23.3}, 0, "", false},
		{[]float64{0}, 0, WillNotStart, true}, {[]float64{12}, 0, WillNotStart, true},
		{[]float64{12}, 0.46, "", false}, {[]float64{12}, 0.49, MayNotStart, true}, {[]float64{12}, 0.5, WillNotStart, true},
		{[]float64{12}, 0.47, MayNotStart, false},
		{[]float64{23.3, 12}, 0, WillNotStart, true}, {[]float64{12, 23.3}, 0, WillNotStart, true},
		{[]float64{23.3, 12}, 0.46, "", false},
	} {
		h := machineWith(t, map[int]string{0: "rtx-3090", 1: "rtx-3090"}, c.free...)
		o := Options{Context: 4096, Utilization: c.share, Served: Served{TensorParallel: len(c.free)}, Device: "gpu"}
		o.Join(&vllm, h, false)
		mem := estimate(t, "vllm", model(t, "qwen3-vl-2b"), o)
		for _, code := range []evidence.Code{WillNotStart, MayNotStart} {
			if coded(mem, code) != (code == c.starts) {
				t.Errorf("%v free, share %g: %v", c.free, c.share, mem.Warnings)
			}
		}
		if (mem.Withheld.At > 0) != c.withheld {
			t.Errorf("%v free, share %g: %s withheld", c.free, c.share, mem.Withheld.At)
		}
		if o.Join(&vllm, h, true); coded(estimate(t, "vllm", model(t, "qwen3-vl-2b"), o), WillNotStart) {
			t.Errorf("%v free: taken for empty, and yet it does not start", c.free)
		}
	}
}

// The share that is said to start does, and a hundredth more may not.
func TestStartingShare(t *testing.T) {
	for _, free := range []float64{2, 7.5, 12, 20, 23.6} {
		g := machineWith(t, map[int]string{0: "rtx-3090"}, free).GPUs[0]
		for more, withheld := range map[float64]bool{0: false, 0.01: true} {
			mem := Memory{}
			share := StartingShare(&g) + more
			mem.withhold(&g, units.Bytes(math.Ceil(share*float64(g.MemoryBytes))))
			if (mem.Withheld.Most > 0) != withheld {
				t.Errorf("%g GiB free, share %.2f: %+v", free, share, mem.Withheld)
			}
		}
	}
	if g := machineWith(t, map[int]string{0: "rtx-3090"}, 0).GPUs[0]; StartingShare(&g) != 0 {
		t.Error("a full card has a share to start with")
	}
}

// Cards that differ are reckoned each by itself, and the one with least room for the cache is told.
func TestTheLeastOfUnlikeCardsDecides(t *testing.T) {
	least := 0
	const small, large = "rtx-4060-ti-16gb", "rtx-3090"
	for _, order := range []map[int]string{{0: large, 1: small}, {0: small, 1: large}} {
		h := machineWith(t, order, -1, -1)
		o := Options{Context: 4096, Device: "gpu", Served: Served{TensorParallel: 2}}
		o.Join(&vllm, h, false)
		mem := estimate(t, "vllm", model(t, "qwen3-vl-8b"), o)
		alone := Options{Context: 4096, Device: "gpu", Served: o.Served, GPU: card(t, small)}
		if want := estimate(t, "vllm", model(t, "qwen3-vl-8b"), alone).CacheTokens; mem.CacheTokens != want {
			t.Errorf("%v: %d tokens, want the smaller card's %d", order, mem.CacheTokens, want)
		}
		if least == 0 {
			least = int(mem.CacheTokens)
		}
		if int(mem.CacheTokens) != least {
			t.Errorf("%v: %d tokens, the other way round %d", order, mem.CacheTokens, least)
		}
		_, err := Estimate("sglang", model(t, "qwen3-vl-8b"), o)
		if r := (*Refusal)(nil); !errors.As(err, &r) || !strings.Contains(r.Alternative, "INBALANCE") {
			t.Errorf("%v: SGLang: %v", order, err)
		}
	}
}

// A server left to itself takes the cards that have as much free as the first.
func TestFilledCardsAreLeftOut(t *testing.T) {
	alike := map[int]string{0: "rtx-3090", 1: "rtx-3090", 2: "rtx-3090", 3: "rtx-3090"}
	for _, c := range []struct {
		free []float64
		want int
	}{{[]float64{-1, -1}, 2}, {[]float64{23, 22.5}, 2}, {[]float64{23, 0.5}, 1}, {[]float64{0.5, 23}, 2},
		{[]float64{23, 23, 23, 1}, 2}, {[]float64{23, 23, 23, 23}, 4}} {
		h := machineWith(t, alike, c.free...)
		if got := vllm.Spread(h, model(t, "qwen3-vl-8b")); got != c.want {
			t.Errorf("%v free: %d cards, want %d", c.free, got, c.want)
		}
	}
}

// What a server holds in the end is its share but for what is left over, and the parts that it does not measure before
// it sizes its cache: no total is exact where one of them is assumed.
func TestTotalsOfSharesAreNotExact(t *testing.T) {
	for _, c := range []struct {
		engine string
		eager  bool
	}{{"vllm", false}, {"vllm", true}, {"sglang", false}, {"sglang", true}} {
		g := card(t, "rtx-3090")
		o := Options{Context: 8192, GPU: g, Device: "gpu", Eager: c.eager}
		mem := estimate(t, c.engine, model(t, "qwen3-vl-4b"), o)
		spread := mem.HighBytes - mem.LowBytes
		if mem.LowBytes > mem.TotalBytes || mem.HighBytes < mem.TotalBytes || mem.HighBytes > g.MemoryBytes {
			t.Errorf("%+v: %s, between %s and %s", c, mem.TotalBytes, mem.LowBytes, mem.HighBytes)
		}
		for _, i := range mem.Items {
			late := i.Name == cudaGraphs || i.Name == Compute && c.engine == "sglang" // once the cache is there
			if late && spread < i.High-i.Low {
				t.Errorf("%+v: %s is known to %s, the total to %s", c, i.Name, i.High-i.Low, spread)
			}
		}
		if spread == 0 {
			t.Errorf("%+v: the total is called exact", c)
		}
	}
}

// SGLang starts with whatever its cache holds, and turns longer requests away; without a token it does not start.
func TestSGLangStartsWithAShortCache(t *testing.T) {
	for _, c := range []struct {
		share float64
		want  evidence.Code
	}{{0.9, ShortCache}, {0.3, WillNotStart}} {
		mem := estimate(t, "sglang", model(t, "qwen3-vl-4b"), Options{GPU: card(t, "rtx-3090"), Device: "gpu",
			Utilization: c.share})
		for _, code := range []evidence.Code{ShortCache, WillNotStart, MayNotStart} {
			if coded(mem, code) != (code == c.want) {
				t.Errorf("share %g: %v", c.share, mem.Warnings)
			}
		}
	}
}
