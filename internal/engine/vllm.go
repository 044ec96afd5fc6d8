package engine

import (
	"fmt"
	"math"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// The versions whose rules are followed and whose settings are written.
const (
	VLLMVersion   = "0.33.0"
	SGLangVersion = "0.5.23"
	OllamaVersion = "0.17.4"
)

// vllmBlock is the tokens of one block of the KV cache on CUDA.
const vllmBlock = 16

// vllmPageBytes is one block of one layer: what it keeps of 16 tokens, K and V.
func vllmPageBytes(t *profile.Text, b int64) units.Bytes {
	return units.Bytes(vllmBlock * t.CacheRow() * b)
}

// vllmBlocks is how many blocks fit into available bytes: whole pages, divided evenly among the layers.
func vllmBlocks(t *profile.Text, available units.Bytes, b int64) int64 {
	if available <= 0 {
		return 0
	}
	return int64(available/vllmPageBytes(t, b)) / int64(t.Layers)
}

// vllmDefaults are the tokens and sequences that the server schedules at once, by the card's memory.
func vllmDefaults(g *profile.GPU) (tokens, sequences int) {
	if g != nil && g.MemoryBytes >= 70*units.GiB && !strings.Contains(g.Name, "A100") {
		return 8192, 1024
	}
	return 2048, 256
}

// vllmLargestImage is the tokens of the image that the startup profile runs: the model's largest, 4096x4096 for
// Qwen3-VL, unless a smaller one is declared in limit-mm-per-prompt.
func vllmLargestImage(m *profile.Model, o Options) (profile.Grid, error) {
	side := int(math.Sqrt(float64(m.Preprocess.MaxPixels)))
	return torchImage(m, o, Image{side, side})
}

// vllmEncoderBudget is the embeddings that vLLM's encoder cache holds, max(scheduled tokens, largest image), and its
// bytes: an embedding carries the deepstack levels beside the text's width.
func vllmEncoderBudget(m *profile.Model, scheduled, largest int, b int64) (tokens int, bytes units.Bytes) {
	tokens = max(scheduled, largest)
	width := int64(m.Vision.OutHiddenSize) * int64(1+len(m.Vision.DeepstackLayers))
	return tokens, units.Bytes(int64(tokens) * width * b)
}

// estimateVLLM follows vLLM's start: what its profile run leaves of utilization × memory is cut into blocks.
//
//	available = ⌈total·utilization⌉ − weights − peak activation − outside torch − CUDA graphs
//	blocks    = ⌊available / page⌋ / layers
func estimateVLLM(m *profile.Model, o Options) (*Memory, error) {
	if o.Device == "cpu" {
		return nil, &Refusal{"vllm", "its CPU backend is not modelled",
			"estimate --engine llama.cpp --device cpu, or transformers"}
	}
	bits, err := dtypeBits("vllm", o.Quant)
	if err != nil {
		return nil, err
	}
	if o.Quant == "" {
		o.Quant = "auto"
	}
	kv, err := kvElement("vllm", o.KVType)
	if err != nil {
		return nil, err
	}
	b := int64(2)
	defaultTokens, defaultSequences := vllmDefaults(o.GPU)
	scheduled, sequences := orDefault(o.Batch, defaultTokens), orDefault(o.Sequences, defaultSequences)
	grid, err := vllmLargestImage(m, o)
	if err != nil {
		return nil, err
	}
	mem := &Memory{Version: VLLMVersion, Quant: o.Quant, KVType: kvName(o.KVType),
		ContextTokens: orDefault(o.Context, m.Text.MaxPositions)}
	mem.torchWeights(m, o, bits)
	d, f := int64(m.Text.HiddenSize), int64(m.Text.IntermediateSize)
	if m.Text.MoE != nil {
		f = int64(m.Text.MoE.IntermediateSize * m.Text.MoE.ExpertsPerToken)
	}
	activation := units.Bytes(int64(scheduled) * (4*d + 3*f) * b)
	mem.add(Compute, "device", activation, scaled(activation, 0.5), scaled(activation, 2), Assumed,
		"peak activation of %d scheduled tokens: hidden states, gate and up", scheduled)
	logits := units.Bytes(int64(sequences) * int64(m.Text.VocabSize) * 4 * 2)
	mem.add(Output, "device", logits, scaled(logits, 0.5), scaled(logits, 2), Assumed,
		"fp32 logits of %d sequences and the sampler's copy, in the profile run", sequences)
	if grid.Patches > 0 {
		mem.vllmVision(m, grid, scheduled, b)
	}
	mem.add("CUDA graphs", "device", units.GiB/2, 0, 3*units.GiB/2, Assumed, "captured graphs; none with enforce-eager")
	mem.add("outside torch", "device", 400*units.MiB, 200*units.MiB, 800*units.MiB, Assumed,
		"CUDA context, NCCL and library workspaces")
	mem.vllmCache(m, o, kv)
	return mem, nil
}

// vllmVision adds the tower's peak in the profile run, the encoder cache and the buffers of the deepstack levels.
func (mem *Memory) vllmVision(m *profile.Model, g profile.Grid, scheduled int, b int64) {
	v := m.Vision
	tower := units.Bytes(int64(g.Patches) * (int64(10*v.HiddenSize)*b + int64(2*v.IntermediateSize)*b +
		2*int64(g.PatchWidth)))
	mem.add(Vision, "device", tower, scaled(tower, 0.5), scaled(tower, 2), Assumed,
		"the tower's activation on the %dx%d image of the profile run, %d patches", g.Width, g.Height, g.Patches)
	tokens, cache := vllmEncoderBudget(m, scheduled, g.Tokens, b)
	mem.exact(Vision, "device", cache, "encoder cache of %d embeddings with their deepstack levels", tokens)
	levels := units.Bytes(int64(len(v.DeepstackLayers)) * int64(scheduled) * int64(m.Text.HiddenSize) * b)
	mem.exact(Vision, "device", levels, "persistent deepstack buffers for %d scheduled tokens", scheduled)
}

// vllmCache adds the blocks that fit what is left of the card, or, without a card, what one sequence of the context
// needs.
func (mem *Memory) vllmCache(m *profile.Model, o Options, kv int64) {
	perBlock := vllmPageBytes(&m.Text, kv) * units.Bytes(m.Text.Layers)
	need := perBlock * units.Bytes((int64(mem.ContextTokens)+vllmBlock-1)/vllmBlock)
	if o.GPU == nil {
		mem.exact(KVCache, "device", need,
			"one sequence of %d tokens in blocks of %d; with --hardware, all that fits the card", mem.ContextTokens, vllmBlock)
		return
	}
	share := o.Utilization
	if share == 0 {
		share = 0.92
	}
	budget := units.Bytes(math.Ceil(float64(o.GPU.MemoryBytes) * share))
	var used, low, high units.Bytes
	for _, i := range mem.Items {
		used, low, high = used+i.Bytes, low+i.Low, high+i.High
	}
	blocks := vllmBlocks(&m.Text, budget-used, kv)
	most, least := vllmBlocks(&m.Text, budget-low, kv), vllmBlocks(&m.Text, budget-high, kv)
	mem.filled = blocks > 0
	mem.add(KVCache, "device", perBlock*units.Bytes(blocks), perBlock*units.Bytes(least), perBlock*units.Bytes(most),
		Derived,
		"%d blocks of %d tokens: what is left of %.4g of the card", blocks, vllmBlock, share)
	if perBlock*units.Bytes(blocks) < need {
		mem.warn("vLLM will not start: %d blocks hold %d tokens, fewer than a context of %d; lower --ctx or --image", blocks,
			blocks*vllmBlock, mem.ContextTokens)
	}
}

// kvElement is the bytes of one cached element.
func kvElement(engine, name string) (int64, error) {
	switch strings.ToLower(name) {
	case "", "auto", "float16", "fp16", "f16", "bfloat16", "bf16":
		return 2, nil
	case "fp8", "fp8_e4m3", "fp8_e5m2":
		return 1, nil
	case "float32", "fp32":
		return 4, nil
	}
	return 0, fmt.Errorf("KV type %q: %s takes auto, float16, bfloat16, fp8, fp8_e4m3 or fp8_e5m2", name, engine)
}

func kvName(name string) string {
	if name == "" {
		return "auto"
	}
	return strings.ToLower(name)
}

// sglangStatic is the share of the card that SGLang gives to weights and KV cache by itself, with memory and reserved
// in MiB:
//
//	reserved = 512 + 1.5·chunked_prefill + 2·cuda_graph_max_bs + tp·pp/8·1024     at least 10 GiB above 60 GiB
//	share    = (memory − reserved)/memory × 0.95·clamp(1 − 0.1·(r − 1), 0.8, 1.05), r = depth·C²/(24·1024²)
//
// The factors after the first are for models with a vision tower; the last falls as the tower grows.
func sglangStatic(m *profile.Model, memory units.Bytes, chunked, graphs, cards int) float64 {
	total := float64(memory) / float64(units.MiB)
	reserved := 512 + 1.5*float64(chunked) + 2*float64(graphs) + float64(cards)/8*1024
	if total > 60*1024 {
		reserved = max(reserved, 10*1024)
	}
	if m.TextOnly() {
		return (total - reserved) / total
	}
	c := float64(m.Vision.HiddenSize)
	r := float64(m.Vision.Depth) * c * c / (24 * 1024 * 1024)
	return (total - reserved) / total * 0.95 * min(max(1-0.1*(r-1), 0.8), 1.05)
}

// sglangDefaults are the chunk of prefill and the largest captured batch, by the card's memory (memory_hook.py, below
// four cards).
func sglangDefaults(memory units.Bytes) (chunked, graphs int) {
	switch g := memory / units.GiB; {
	case g < 20:
		return 2048, 8
	case g < 35:
		return 4096, 48
	case g < 60:
		return 4096, 32
	case g < 160:
		return 8192, 256
	}
	return 16384, 512
}

// estimateSGLang gives weights and cache the static share of the card and leaves the rest to activations.
func estimateSGLang(m *profile.Model, o Options) (*Memory, error) {
	if o.Device == "cpu" {
		return nil, &Refusal{"sglang", "its CPU backend is not modelled",
			"estimate --engine llama.cpp --device cpu, or transformers"}
	}
	bits, err := dtypeBits("sglang", o.Quant)
	if err != nil {
		return nil, err
	}
	kv, err := kvElement("sglang", o.KVType)
	if err != nil {
		return nil, err
	}
	if o.Quant == "" {
		o.Quant = "auto"
	}
	mem := &Memory{Version: SGLangVersion, Quant: o.Quant, KVType: kvName(o.KVType),
		ContextTokens: orDefault(o.Context, m.Text.MaxPositions)}
	mem.torchWeights(m, o, bits)
	perToken := units.Bytes(int64(m.Text.Layers) * m.Text.CacheRow() * kv)
	if o.GPU == nil {
		mem.exact(KVCache, "device", perToken*units.Bytes(mem.ContextTokens),
			"one sequence of %d tokens; with --hardware, the static share of the card", mem.ContextTokens)
		return mem, nil
	}
	chunked, graphs := sglangDefaults(o.GPU.MemoryBytes)
	chunked = orDefault(o.Batch, chunked)
	share, why := o.Utilization, "as given"
	if share == 0 {
		share, why = sglangStatic(m, o.GPU.MemoryBytes, chunked, graphs, 1), "SGLang's own"
	}
	var weights units.Bytes
	for _, i := range mem.Items {
		weights += i.Bytes
	}
	tokens := max(0, (scaled(o.GPU.MemoryBytes, share)-weights)/perToken)
	mem.filled = tokens > 0
	mem.add(KVCache, "device", tokens*perToken, scaled(tokens*perToken, 0.93), tokens*perToken, Derived,
		"%d tokens: static share %.3f (%s) without the weights", tokens, share, why)
	rest := scaled(o.GPU.MemoryBytes, 1-share)
	mem.add(Compute, "device", rest, 0, rest, Derived,
		"what SGLang leaves to activations, CUDA graphs and the tower; above it the run is out of memory")
	if int(tokens) < mem.ContextTokens {
		mem.warn("the cache holds %d tokens, fewer than a context of %d", tokens, mem.ContextTokens)
	}
	return mem, nil
}
