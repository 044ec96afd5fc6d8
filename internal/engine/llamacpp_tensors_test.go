package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
)

// What each of several cards holds where they share out every tensor, as v0.5.0's CUDA backend reserved it over a
// runtime that computes nothing, MiB: the largest card's weights, cache and compute, and the host's.
func TestTensorSplit(t *testing.T) {
	for _, c := range []struct {
		model                  string
		cards                  int
		change                 func(*Options)
		weights, cache         float64
		compute                float64
		hostWeights, hostCache float64
		hostCompute            float64
	}{
		{"qwen3-vl-4b", 1, nil, 2375.91, 576, 91.02, 304.28, 0, 29.02},
		{"qwen3-vl-4b", 2, nil, 1340.48, 288, 91.02, 304.28, 0, 29.02},
		{"qwen3-vl-4b", 3, nil, 996.06, 192, 91.02, 304.28, 0, 29.02},
		{"qwen3-vl-4b", 4, nil, 822.76, 144, 91.02, 304.28, 0, 29.02},
		{"qwen3-vl-8b", 2, nil, 2228.26, 288, 124.02, 333.84, 0, 44.02},
		{"qwen3-vl-8b", 3, nil, 1486.29, 192, 124.02, 333.84, 0, 44.02},
		{"qwen3-vl-2b", 2, nil, 647.17, 224, 64.02, 243.43, 0, 24.02},
		{"qwen3-vl-2b", 3, nil, 513.20, 150, 64.02, 243.43, 0, 24.02},
		{"qwen3-vl-4b", 2, func(o *Options) { o.Context = 32768 }, 1340.48, 2304, 119.02, 304.28, 0, 57.02},
		{"qwen3-vl-4b", 4, func(o *Options) { o.Context, o.UBatch, o.KVType = 32768, 1024, "q8_0" }, 822.76, 612.03, 284.11,
			304.28, 0, 114.11},
		{"qwen3-vl-4b", 2, func(o *Options) { o.HostLayers = 17 }, 852.86, 152, 71.02, 1279.16, 272, 111.02},
		{"qwen3-vl-4b", 2, func(o *Options) { o.Llama.Shares = []float64{3, 1} }, 1858.20, 432, 91.02, 304.28, 0, 29.02},
		{"qwen3-vl-4b", 2, func(o *Options) { o.Llama.NoKV = true }, 1340.48, 0, 92.01, 304.28, 576, 29.02},
		{"qwen3-vl-4b", 2, func(o *Options) {
			over, err := ParseOverride("ffn_down=CPU")
			if err != nil {
				t.Fatal(err)
			}
			o.Llama.Overrides = []Override{over}
		}, 1044.90, 288, 91.02, 895.44, 0, 48.02},
	} {
		o := Options{Quant: "q4_k_m", Context: 4096, Sequences: 1, Device: "gpu", Image: &Image{},
			Llama: LlamaOptions{Build: LlamaVersion, Cards: c.cards, SplitMode: "tensor", LoadMode: "none"}}
		if c.change != nil {
			c.change(&o)
		}
		m := model(t, c.model)
		mem, err := Estimate("llama-server", m, o)
		if err != nil {
			t.Fatalf("%s: %v", c.model, err)
		}
		most := map[string]units.Bytes{}
		for _, it := range mem.Items {
			where := "card"
			if it.Where == "host" {
				where = "host"
			}
			most[it.Name+where] = max(most[it.Name+where], it.Bytes)
		}
		for name, want := range map[string]float64{Weights + "card": c.weights, KVCache + "card": c.cache,
			Compute + "card": c.compute, Weights + "host": c.hostWeights, KVCache + "host": c.hostCache,
			Compute + "host": c.hostCompute} {
			got := float64(most[name]) / float64(units.MiB)
			if off := got - want; off > 0.005*want+0.01 || off < -0.005*want-0.01 {
				t.Errorf("%s over %d cards: %s %.2f, the engine %.2f", c.model, c.cards, name, got, want)
			}
		}
	}
}

// A context is refused as llama.cpp refuses it.
func TestTensorSplitRefuses(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"requires flash attention": func(o *Options) { o.FlashAttention = "off" },
		"before b9294":             func(o *Options) { o.Llama.Build = "b8672" },
		"fits no context":          func(o *Options) { o.Llama.Fit = &Fit{Free: units.GiB} },
		"vulkan's buffers":         func(o *Options) { o.Llama.Backend = "vulkan" },
		"does not support split":   func(o *Options) { o.Llama.SplitMode = "row" },
	} {
		o := Options{Context: 4096, Device: "gpu", Llama: LlamaOptions{Cards: 2, SplitMode: "tensor"}}
		change(&o)
		m := model(t, "qwen3-vl-2b")
		if _, err := Estimate("llama-server", m, o); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
