package engine

import (
	"encoding/csv"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

func run(t *testing.T, name string, o Options) *vllmRun {
	t.Helper()
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	places, err := vllmLayouts(model(t, name), o.Served)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newVLLMRun(model(t, name), o, places[0])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// vLLM's own classes on the meta device (tools/reference/engines/vllm_pages.py): how the cache of a card is cut, by
// type, cards, and with layers of linear attention; what no card of CUDA's has a kernel for is refused.
func TestVLLMPages(t *testing.T) {
	f, err := os.Open("testdata/vllm_pages.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 40 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		var n [6]int64 // cards, context, tokens, bytes, blocks of the context, tokens of 10 GiB
		for i, at := range []int{2, 5, 6, 7, 8, 9} {
			if n[i], err = strconv.ParseInt(row[at], 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		m, g := model(t, row[0]), card(t, row[1])
		o := Options{GPU: g, KVType: row[3], Served: Served{TensorParallel: int(n[0])}}
		if row[10] != "" {
			var refused *Refusal
			if _, err := newVLLMRun(m, o, alone(&m.Text)); !errors.As(err, &refused) {
				t.Errorf("%v: %v", row, err)
			}
			continue
		}
		b := run(t, row[0], o).blocksOf(g)
		if row[4] == "0" { // no prefixes are kept, which is not the release's own choice
			b.states /= 2
		}
		if got := b.holds(b.blocks(10*units.GiB), int(n[1])); b.tokens != n[2] || int64(b.bytes) != n[3] ||
			b.request(int(n[1])) != n[4] || got != n[5] {
			t.Errorf("%v: %+v, %d blocks, %d tokens", row, b, b.request(int(n[1])), got)
		}
	}
}

// What servers of models with linear attention printed, with a cache of FP8: Qwen3.8-27B in FP8 on two RTX 3090,
// 4.99 GiB a card for 2.31 sequences of 131,072 tokens, and Qwen3.6-35B-A3B in NVFP4 by 0.24, 5.98 GiB for 4.33.
func TestVLLMPublicHybrid(t *testing.T) {
	for _, c := range []struct {
		model  string
		cards  int
		cache  units.Bytes
		tokens int64
	}{
		{"qwen3.6-27b", 2, 499 * units.GiB / 100, 302921}, {"qwen3.6-35b-a3b", 1, 598 * units.GiB / 100, 567978},
	} {
		g := card(t, "rtx-3090")
		b := run(t, c.model, Options{GPU: g, KVType: "fp8", Served: Served{TensorParallel: c.cards}}).blocksOf(g)
		if got := b.holds(b.blocks(c.cache), 131072); got != c.tokens {
			t.Errorf("%s: %d tokens in blocks of %d, printed %d", c.model, got, b.tokens, c.tokens)
		}
	}
}

// Octave's and ultraquant's slots by hand after rocm_octave.py and ultraquant/format.py: heads of 256 with 64 rotated.
func TestVLLMSlotsOfROCm(t *testing.T) {
	for kind, want := range map[string]int64{"octave_k3v4": 248, "octave_k3v3": 216, "octave_k3v3_compact": 196,
		"ultraquant_4bit": 272} {
		if got := vllmSlot(kind, 256, 64); got != want {
			t.Errorf("%s: %d bytes, want %d", kind, got, want)
		}
	}
}

// vLLM 0.33.0's configuration builder and MultiModalBudget under a platform that reports the card, and its tower on the
// meta device: tokens and sequences scheduled, images profiled, embeddings budgeted, GiB of the tower's peak.
func TestVLLMProfileRun(t *testing.T) {
	h200, rtx := card(t, "h200"), card(t, "rtx-3090")
	named := func(name, capability string, gib units.Bytes) *profile.GPU {
		return &profile.GPU{Name: name, ComputeCapability: capability, MemoryBytes: gib * units.GiB}
	}
	sent := &Image{1280, 720}
	for _, c := range []struct {
		model                               string
		o                                   Options
		scheduled, sequences, items, budget int
		tower                               float64
	}{
		{"qwen3-vl-2b", Options{GPU: rtx}, 2048, 256, 1, 16384, 1.79},
		{"qwen3-vl-4b", Options{GPU: rtx}, 2048, 256, 1, 16384, 1.84},
		{"qwen3-vl-8b", Options{GPU: rtx}, 2048, 256, 1, 16384, 2.17},
		{"qwen3-vl-30b-a3b", Options{GPU: rtx}, 2048, 256, 1, 16384, 1.98},
		{"qwen3-vl-32b", Options{GPU: rtx}, 2048, 256, 1, 16384, 2.26},
		{"qwen3-vl-8b", Options{GPU: rtx, Batch: 32768}, 32768, 256, 2, 32768, 4.35},
		{"qwen3-vl-8b", Options{GPU: rtx, Image: sent, Sequences: 4, Context: 4096}, 2048, 4, 2, 2048, 0.23},
		{"qwen3-vl-8b", Options{GPU: h200, Image: sent, Sequences: 16, Context: 8192}, 8192, 16, 9, 8192, 1.05},
		{"qwen3-vl-8b", Options{GPU: h200, Image: sent, Sequences: 1, Context: 4096}, 4096, 1, 4, 4096, 0.46},
		{"qwen3-vl-8b", Options{GPU: h200, Image: sent, Sequences: 1, Context: 4096, Images: 1}, 4096, 1, 1, 4096, 0.12},
		{"qwen3-vl-8b", Options{GPU: rtx, Image: sent, ImageLimit: ImageProfiled}, 2048, 256, 1, 16384, 0.12},
		{"qwen3-vl-8b", Options{GPU: rtx, Image: sent, ImageLimit: ImageSent}, 2048, 256, 1, 16384, 2.17},
		{"qwen3-vl-8b", Options{GPU: rtx, Offline: true}, 8192, 256, 1, 16384, 2.17},
		{"qwen3-vl-8b", Options{GPU: named("NVIDIA B200", "10.0", 178)}, 16384, 1024, 1, 16384, 2.17},
		{"qwen3-vl-8b", Options{GPU: named("NVIDIA GB10", "12.1", 119)}, 2048, 256, 1, 16384, 2.17},
		{"qwen3-vl-8b", Options{GPU: named("nvidia a100-sxm4-80gb", "8.0", 80)}, 2048, 256, 1, 16384, 2.17},
	} {
		r := run(t, c.model, c.o)
		tower := float64(r.tower().bytes) / float64(units.GiB)
		if r.scheduled != c.scheduled || r.sequences != c.sequences || r.items != c.items || r.budget != c.budget ||
			math.Abs(tower-c.tower) > 0.01 {
			t.Errorf("%s %+v: %d tokens, %d sequences, %d images, budget %d, %.3f GiB", c.model, c.o, r.scheduled, r.sequences,
				r.items, r.budget, tower)
		}
	}
	for sequences, want := range map[int]int{1: 2, 16: 7, 256: 51, 1024: 51} {
		if got := vllmGraphs(sequences, rtx); got != want {
			t.Errorf("%d sizes for %d sequences, want %d", got, sequences, want)
		}
	}
	if got := vllmGraphs(1024, named("NVIDIA B200", "10.0", 178)); got != 83 {
		t.Errorf("%d sizes on Blackwell, want 83", got)
	}
}

// vLLM's items and its cache add up to the share of the card, to one block; a verdict is drawn from the whole interval.
func TestVLLMAddsUp(t *testing.T) {
	g := &profile.GPU{Name: "NVIDIA H100 80GB HBM3", ComputeCapability: "9.0", MemoryBytes: 80 * units.GiB}
	for _, share := range []float64{0, 0.5, 0.92} {
		m := model(t, "qwen3-vl-8b")
		mem := estimate(t, "vllm", m, Options{GPU: g, Device: "gpu", Utilization: share, Context: 8192})
		if share == 0 {
			share = 0.92
		}
		budget := units.Bytes(math.Ceil(float64(g.MemoryBytes) * share))
		if gap := budget - mem.TotalBytes; gap < 0 || gap >= 65536*36 {
			t.Errorf("share %g: %s of %s", share, mem.TotalBytes, budget)
		}
	}
	for _, c := range []struct {
		card, model string
		context     int
		code        evidence.Code
	}{
		{"t4", "qwen3-vl-8b", 4096, WillNotStart}, {"rtx-3090", "qwen3-vl-8b", 8192, ""},
		{"rtx-3090", "qwen3-vl-8b", 17000, MayNotStart}, {"rtx-3090", "qwen3-vl-8b", 65536, WillNotStart},
	} {
		mem := estimate(t, "vllm", model(t, c.model), Options{GPU: card(t, c.card), Device: "gpu", Context: c.context})
		if evidence.Has(mem.Warnings, WillNotStart) != (c.code == WillNotStart) ||
			evidence.Has(mem.Warnings, MayNotStart) != (c.code == MayNotStart) {
			t.Errorf("%+v: %d tokens, left %+v: %v", c, mem.CacheTokens, mem.Left, mem.Warnings)
		}
	}
}

// Bounds hold what they bound, whichever phase is the largest.
func TestVLLMIntervalsAreNotInverted(t *testing.T) {
	for _, name := range []string{"qwen3-vl-2b", "qwen3-vl-8b", "qwen3-vl-30b-a3b"} {
		for _, batch := range []int{256, 2048, 8192, 65536} {
			for _, side := range []int{64, 640, 1920, 4096} {
				for _, sequences := range []int{1, 16, 1024} {
					mem := estimate(t, "vllm", model(t, name), Options{GPU: card(t, "h200"), Device: "gpu", Context: 32768,
						Batch: batch,
						Image: &Image{side, side}, Sequences: sequences})
					for _, i := range mem.Items {
						if i.Low > i.Bytes || i.Bytes > i.High {
							t.Errorf("%s, %d tokens, %d pixels, %d at once: %s %s in [%s, %s]", name, batch, side, sequences, i.Name,
								i.Bytes,
								i.Low, i.High)
						}
					}
				}
			}
		}
	}
}

// What servers printed when they started: KV tokens, and the settings they were given. Releases from an old engine of
// 2024 over 0.8 to 0.27 of August 2026; the interval holds nine in ten of them and is at most 12 % of the card wide.
func TestVLLMPublicLogs(t *testing.T) {
	texts := decoders(t)
	llama, qwen := texts["llama-3.1-8b"], texts["qwen3-8b"]
	a100 := profile.GPU{Name: "NVIDIA A100-SXM4-40GB", ComputeCapability: "8.0", MemoryBytes: 42402064629}
	a6000 := profile.GPU{Name: "NVIDIA RTX A6000", ComputeCapability: "8.6", MemoryBytes: 51034948894}
	nvl := profile.GPU{Name: "NVIDIA H100 NVL", ComputeCapability: "9.0", MemoryBytes: 99965363814}
	a10080, two := *card(t, "a100-80gb"), Served{TensorParallel: 2}
	logs := []struct {
		model  *profile.Model
		card   profile.GPU
		o      Options
		tokens int64
	}{
		{model(t, "qwen3-vl-30b-a3b"), nvl, Options{Context: 8192, Utilization: 0.9}, 211936},
		{model(t, "qwen3-vl-8b"), a6000,
			Options{Context: 8192, Utilization: 0.85, Sequences: 5, Batch: 8192, Image: &Image{1120, 896}, Eager: true}, 163568},
		{llama, a100, Options{Context: 32768, Utilization: 0.9}, 163184}, // 19.92 GiB
		{llama, a6000, Options{Context: 32768, Utilization: 0.9}, 221824},
		{llama, nvl, Options{Context: 32768, Utilization: 0.9}, 545456},
		{llama, *card(t, "rtx-3090"), Options{Utilization: 0.9}, 31211}, // 3.81 GiB
		// release 0.11 for llm-d's benchmarks, 51.38 GiB; LMCache's table; release 0.9.2; 0.27.1 with and without graphs
		{llama, *card(t, "h100"), Options{Context: 16000, Utilization: 0.9}, 420904},
		{qwen, *card(t, "h100"), Options{Context: 40960, Utilization: 0.9}, 366400},
		{qwen, a100, Options{Context: 40960, Utilization: 0.9, Batch: 2048}, 136080},
		{texts["qwen2.5-7b"], *card(t, "l4"), Options{Context: 4096, Eager: true}, 102288},
		{texts["qwen2.5-7b"], *card(t, "l4"), Options{Context: 4096}, 69328},
		// release 0.10.1 with Qwen2-7B, of the same shape, 16,384 tokens (dennislee22/vLLM-benchmarking, log/)
		{texts["qwen2.5-7b"], a10080, Options{Context: 16384, Batch: 2048, Utilization: 0.25}, 93872},
		{texts["qwen2.5-7b"], a10080, Options{Context: 16384, Batch: 2048, Utilization: 0.5}, 464848},
		{texts["qwen2.5-7b"], a100, Options{Context: 16384, Batch: 2048, Utilization: 0.5, Served: two}, 412944},
		{texts["qwen2.5-7b"], a10080, Options{Context: 16384, Batch: 2048, Utilization: 0.25, Served: two}, 450192},
		{texts["qwen2.5-7b"], a10080, Options{Context: 16384, Batch: 2048, Utilization: 0.5, Served: two}, 1192160},
		// release 0.8.2 with room for adapters, on an A100 that is one of 40 GB by the sums (an article on the Gateway
		// API's inference extension, April 2025)
		{llama, a100, Options{Utilization: 0.9, Batch: 2048, Served: Served{LoRA: true, LoRAs: 2, LoRARank: 16}}, 148096},
	}
	held := 0
	for _, c := range logs {
		c.o.GPU, c.o.Device = &c.card, "gpu"
		mem := estimate(t, "vllm", c.model, c.o)
		low, high := int64(mem.Left.Low/mem.TokenBytes), int64(mem.Left.High/mem.TokenBytes)
		if width := mem.Left.High - mem.Left.Low; width > c.card.MemoryBytes*12/100 {
			t.Errorf("%s on %s: %s wide", c.model.Name, c.card.Name, width)
		}
		if low <= c.tokens && c.tokens <= high {
			held++
		} else {
			t.Logf("%s on %s: %d tokens [%d, %d]; printed %d", c.model.Name, c.card.Name, mem.CacheTokens, low, high, c.tokens)
		}
	}
	t.Logf("%d of %d figures within the interval", held, len(logs))
	if 10*held < 9*len(logs) {
		t.Errorf("%d of %d figures within the interval", held, len(logs))
	}
}

// What servers printed of a cache that was full: GiB on each card for so many tokens. A token takes the same bytes to
// two in a hundred: what is printed counts whole blocks and a rounded size.
func TestPublicCaches(t *testing.T) {
	for _, c := range []struct {
		engine, model, quant string
		cards                int
		gib                  float64
		tokens               float64
	}{
		{"vllm", "qwen3-vl-8b", "", 1, 36.0, 262144}, {"vllm", "qwen3-vl-8b", "", 1, 6.94, 50512},
		{"vllm", "qwen3-vl-32b", "", 1, 41.98, 171904},
		{"vllm", "qwen3-vl-235b-a22b", "fp8", 4, 8.11, 178880}, {"sglang", "qwen3-vl-235b-a22b", "fp8", 4, 16.46, 367404},
		{"sglang", "qwen3-vl-30b-a3b", "", 4, 47.84, 2090351}, // keys and values at 23.92 each
		{"vllm", "qwen3-vl-30b-a3b", "", 1, 19.40, 211936}, {"vllm", "qwen3-vl-8b", "", 1, 22.46, 163568},
	} {
		h200 := card(t, "h200")
		mem := estimate(t, c.engine, model(t, c.model), Options{Context: 4096, Quant: c.quant,
			Served: Served{TensorParallel: c.cards},
			GPU:    h200,
			Device: "gpu"})
		if got := float64(mem.TokenBytes) * c.tokens / (1 << 30); math.Abs(got/c.gib-1) > 0.02 {
			t.Errorf("%s, %s on %d cards: %.2f GiB for %.0f tokens, printed %.2f", c.engine, c.model, c.cards, got, c.tokens,
				c.gib)
		}
	}
}

// What "Model loading took" says on each card, GiB: weights, and the buffers that are made with them. rope is what the
// rotary table was in releases before its factor of 4 went.
func TestVLLMPublicLoads(t *testing.T) {
	llama := decoders(t)["llama-3.1-8b"]
	const rope = 0.1875 // 256 MiB less the 64 that it is now
	for _, c := range []struct {
		model *profile.Model
		o     Options
		older float64
		gib   float64
	}{
		{model(t, "qwen3-vl-30b-a3b"), Options{Batch: 16384}, rope, 58.23}, // release 0.13 scheduled 16,384 by itself
		{model(t, "qwen3-vl-8b"), Options{Batch: 8192}, 0, 16.78},
		{llama, Options{}, 0, 14.99},
		{model(t, "qwen3-vl-2b"), Options{Batch: 2048}, rope, 4.24},
		{model(t, "qwen3-vl-32b"), Options{Served: Served{TensorParallel: 2}, Batch: 2048}, rope, 31.46},
		{model(t, "qwen3-vl-8b"), Options{Served: Served{TensorParallel: 2}, Batch: 32768}, rope, 9.19},
	} {
		mem := estimate(t, "vllm", c.model, c.o)
		var sum units.Bytes
		for _, i := range mem.Items {
			if i.Name == Weights || i.Name == VisionWeights || i.Name == "rope cache" || i.Name == "deepstack buffers" {
				sum += i.Bytes
			}
		}
		if got := float64(sum)/(1<<30) + c.older; math.Abs(got/c.gib-1) > 0.02 {
			t.Errorf("%s on %d cards: %.2f GiB, printed %.2f", c.model.Name, max(c.o.TensorParallel, 1), got, c.gib)
		}
	}
}

// SGLang: the share by hand after memory_hook.py of 0.5.23, and the cache of a small card.
func TestSGLangStatic(t *testing.T) {
	for _, c := range []struct {
		model  string
		memory units.Bytes
		o      Options
		want   float64
	}{
		{"qwen3-vl-4b", 24 * units.GiB, Options{Batch: 2048, Sequences: 8}, 0.95 * 0.848},
		{"qwen3-vl-8b", 24 * units.GiB, Options{Batch: 2048, Sequences: 8}, 0.92477 * 0.848},
		{"qwen3-vl-8b", 24 * units.GiB, Options{}, 0.92477 * 0.720},                          // 512 + 6,144 + 96 + 128 MiB
		{"qwen3-vl-8b", 80 * units.GiB, Options{}, 0.92477 * 0.836},                          // 512 + 12,288 + 512 + 128 MiB
		{"qwen3-vl-8b", 80 * units.GiB, Options{Batch: 2048, Sequences: 8}, 0.92477 * 0.875}, // at least 10 GiB
	} {
		c.o.GPU = &profile.GPU{Name: "card", ComputeCapability: "8.6", MemoryBytes: c.memory}
		r, err := newSGLangRun(model(t, c.model), c.o, alone(&model(t, c.model).Text))
		if err != nil || math.Abs(r.share-c.want) > 0.0005 {
			t.Errorf("%s on %s: %.4f, want %.4f, %v", c.model, c.memory, r.share, c.want, err)
		}
	}
	// with what nvidia-smi says of the cards, by ServerArgs of 0.5.23
	for name, want := range map[string]float64{"rtx-3090": 0.6659, "a100-80gb": 0.7731, "h200": 0.8388, "b200": 0.7925,
		"rtx-5090": 0.7296} {
		r, err := newSGLangRun(model(t, "qwen3-vl-8b"), Options{GPU: card(t, name)},
			alone(&model(t, "qwen3-vl-8b").Text))
		if err != nil || math.Abs(r.share-want) > 0.0015 {
			t.Errorf("8B on %s: %.4f, want %.4f, %v", name, r.share, want, err)
		}
	}
	mem := estimate(t, "sglang", model(t, "qwen3-vl-4b"), Options{GPU: card(t, "t4"), Device: "gpu", Context: 4096})
	if got := float64(mem.KVCacheBytes) / float64(units.GiB); math.Abs(got-1.8) > 0.1 {
		t.Errorf("4B on a T4: a cache of %.2f GiB", got)
	}
	for chunk, want := range map[int]int{4096: 50, 8192: 58} {
		if got := sglangPrefillSizes(chunk); got != want {
			t.Errorf("%d sizes of prefill for %d, want %d", got, chunk, want)
		}
	}
}

// accelerate 1.15 on the meta device with Qwen3-VL in 16 bits: MiB that the card may hold, of which it fills so much,
// and the rest.
func TestTransformersSplit(t *testing.T) {
	for _, c := range []struct {
		model  string
		layers units.Bytes
		placed float64
	}{{"qwen3-vl-2b", 12, 2521.8}, {"qwen3-vl-4b", 18, 4999.3}, {"qwen3-vl-8b", 20, 9646.7}} {
		m := model(t, c.model)
		tower, embed, layer, head := layering(m, plainForms[1])
		placed := tower + embed + c.layers*layer
		device, host, missing := transformersSplit(m, Options{}, placed+max(layer, head)+2*units.MiB)
		rest := layer*(units.Bytes(m.Text.Layers)-c.layers) + head
		if missing > 0 || device < placed+max(layer, head) || device >= placed+max(layer, head)+2*units.MiB || host < rest ||
			host > rest+3*units.MiB || math.Abs(float64(placed)/(1<<20)-c.placed) > 0.5 {
			t.Errorf("%s: %s on the card of %s, host %s of %s, missing %s", c.model, placed, device, host, rest, missing)
		}
	}
	m := model(t, "qwen3-vl-8b")
	_, _, missing := transformersSplit(m, Options{}, units.GiB)
	if _, _, still := transformersSplit(m, Options{}, units.GiB+missing-1); missing <= 0 || still != 1 {
		t.Errorf("1 GiB lacks %s for tower, embeddings and a layer; with one byte less than that it lacks %s", missing, still)
	}
	if _, _, still := transformersSplit(m, Options{}, units.GiB+missing); still != 0 {
		t.Errorf("with what was missing it lacks %s", still)
	}
}

// A checkpoint that is quantised is loaded in its own scheme alone, by a server whose release still takes it, over
// cards that divide its heads.
func TestServersRefuseWhatTheyDoNotLoad(t *testing.T) {
	for _, c := range []struct {
		engine, method, quant string
		cards                 int
		want                  string // of the error or, after a +, of a warning; "" for neither
	}{
		{"vllm", "awq", "fp8", 1, "quantised already (awq)"}, {"sglang", "fp8", "awq", 1, "quantised already (fp8)"},
		{"vllm", "awq", "awq", 1, ""}, {"vllm", "awq", "bfloat16", 1, ""}, {"sglang", "nf4", "nf4", 1, ""},
		{"vllm", "nf4", "", 1, "+no checkpoints quantised with bitsandbytes"}, {"sglang", "nf4", "", 1, ""},
		{"vllm", "", "", 3, "3 cards"}, {"sglang", "", "", 16, ""}, {"vllm", "", "", 64, "64 cards"},
	} {
		m := model(t, "qwen3-vl-8b")
		if c.method != "" {
			m.Quantisation, _ = profile.QuantisationNamed(c.method)
		}
		mem, err := Estimate(c.engine, m, Options{Quant: c.quant, Context: 4096, Served: Served{TensorParallel: c.cards}})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			for _, w := range mem.Warnings {
				if w.Code == NotLoaded {
					got = "+" + w.String()
				}
			}
		}
		want, warned := strings.CutPrefix(c.want, "+")
		if (got == "") != (c.want == "") || !strings.Contains(got, want) || warned != strings.HasPrefix(got, "+") {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// A checkpoint whose keys and values were calibrated for 8 bits halves a cache that is left to it; a type that is asked
// for goes first, and SGLang follows ModelOpt's checkpoints alone.
func TestCacheAsTheCheckpointWasCalibrated(t *testing.T) {
	const scheme = `"kv_cache_scheme": {"num_bits": 8, "type": "float"}`
	for _, c := range []struct{ engine, method, asked, want string }{
		{"vllm", `"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"`, "", "fp8"},
		{"vllm", `"quant_method": "compressed-tensors", ` + scheme, "auto", "fp8"},
		{"vllm", `"quant_method": "compressed-tensors", ` + scheme, "bfloat16", "bfloat16"},
		{"vllm", `"quant_method": "modelopt", "quant_algo": "FP8"`, "", "auto"},
		{"sglang", `"quant_method": "modelopt", "quant_algo": "FP8", ` + scheme, "", "fp8_e4m3"},
		{"sglang", `"quant_method": "compressed-tensors", ` + scheme, "", "auto"},
	} {
		data := `{"model_type": "qwen3", "quantization_config": {` + c.method + `}}`
		m, err := profile.DecodeHuggingFace("config.json", []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		gpu := profile.GPU{ComputeCapability: "9.0", MemoryBytes: 80 * units.GiB}
		mem, err := Estimate(c.engine, &m, Options{GPU: &gpu, Context: 4096, KVType: c.asked})
		if err != nil || mem.KVType != c.want {
			t.Errorf("%s with %s, asked for %q: %v, %v", c.engine, c.method, c.asked, mem, err)
		}
	}
}

// transformers 5.24 makes FP8 on cards of 8.9 and later alone: elsewhere a checkpoint in FP8 becomes 16 bits and 16
// bits stay (validate_environment in quantizer_finegrained_fp8.py), and nothing that is quantised while it is loaded
// may lie on the host in part.
func TestTransformersFP8(t *testing.T) {
	stored := model(t, "qwen3-vl-8b")
	stored.Quantisation, _ = profile.QuantisationNamed("fp8")
	whole := estimate(t, "transformers", model(t, "qwen3-vl-8b"), Options{Device: "gpu", GPU: card(t, "rtx-3090")})
	for _, c := range []struct {
		card    string
		widened bool
	}{{"gtx-1080", true}, {"t4", true}, {"rtx-3090", true}, {"rtx-4090", false}, {"h100", false}} {
		mem := estimate(t, "transformers", stored, Options{Device: "gpu", GPU: card(t, c.card)})
		if (mem.WeightsBytes == whole.WeightsBytes) != c.widened || evidence.Has(mem.Warnings, Widened) != c.widened {
			t.Errorf("a checkpoint in FP8 on %s: %s, %v", c.card, mem.WeightsBytes, mem.Warnings)
		}
		_, err := Estimate("transformers", model(t, "qwen3-vl-8b"),
			Options{Device: "gpu", GPU: card(t, c.card), Quant: "fp8"})
		var refused *Refusal
		if errors.As(err, &refused) != c.widened {
			t.Errorf("FP8 made on %s: %v", c.card, err)
		}
	}
	for quant, split := range map[string]bool{"fp8": false, "nf4": false, "int8": false, "": true, "bfloat16": true,
		"awq": true} {
		_, _, missing := transformersSplit(model(t, "qwen3-vl-8b"), Options{Quant: quant}, 7*units.GiB)
		if quant == "awq" || quant == "nf4" {
			_, _, missing = transformersSplit(model(t, "qwen3-vl-32b"), Options{Quant: quant}, 12*units.GiB)
		}
		if (missing == 0) != split {
			t.Errorf("%q: %s missing of a split", quant, missing)
		}
	}
}

// A checkpoint of FP8 counts as it is stored where nobody said what it will run on, and may become 16 bits; on a
// processor that was named it does.
func TestFP8WhereNobodyNamedADevice(t *testing.T) {
	m := model(t, "qwen3-vl-8b")
	m.Quantisation, _ = profile.QuantisationNamed("fp8")
	sizes := map[bool]Item{}
	for _, anywhere := range []bool{false, true} {
		mem, err := Estimate("transformers", m, Options{Device: "cpu", Anywhere: anywhere, Context: 4096})
		if err != nil {
			t.Fatal(err)
		}
		sizes[anywhere] = mem.Items[0]
	}
	named, open := sizes[false], sizes[true]
	if named.Low != named.Bytes || open.Bytes*17/10 > named.Bytes || open.High != named.Bytes || open.Low != open.Bytes {
		t.Errorf("named %v, open %v", named, open)
	}
}

// A tower that was not replayed is assumed within half and twice, by vLLM's profile run as elsewhere.
func TestForeignTowerIsAssumed(t *testing.T) {
	r := run(t, "qwen3-vl-4b", Options{GPU: card(t, "l4")})
	if p := r.tower(); p.source != Derived {
		t.Errorf("%+v", p)
	}
	foreign := *r.m
	foreign.Vision.Kind = profile.Gemma4Tower
	r.m = &foreign
	if p := r.tower(); p.source != Assumed || p.low > p.bytes/2 || p.high < 2*p.bytes {
		t.Errorf("%+v", p)
	}
}
