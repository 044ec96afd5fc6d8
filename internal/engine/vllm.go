package engine

import (
	"fmt"
	"math"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// vLLM 0.33.0: builds with nvcc from 12.8 leave capability 7.0 out (CMakeLists.txt), its documentation asks for 7.5.
var vllm = Engine{
	Name: "vllm", Product: "vLLM", Version: "0.33.0", Page: "vLLM 0.33",
	Least: 75, Weights: Checkpoint, Ladder: []string{""}, Cache: Fills, Share: 0.92,
	Estimate: estimateVLLM, Write: writeVLLM,
}

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
	mem := &Memory{Quant: o.Quant, KVType: kvName(o.KVType),
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

func writeVLLM(s Settings) (*Bundle, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	var l lines
	dtype, why := s.torchDType()
	l.add("model", s.path(), "what to load")
	l.add("served-model-name", s.Name, "what requests call it")
	l.add("dtype", dtype, "%s", why)
	l.add("max-model-len", s.Context, "tokens of one sequence")
	l.add("max-num-seqs", s.Sequences, "sequences at once")
	l.add("max-num-batched-tokens", s.Batch, "tokens scheduled at once; activations grow with it")
	if s.GPUs > 1 {
		l.add("tensor-parallel-size", s.GPUs, "alike cards")
	}
	if s.KVBytes > 0 {
		l.add("kv-cache-memory-bytes", s.KVBytes,
			"KV cache; vLLM then ignores gpu-memory-utilization and keeps no reserve of its own")
	} else {
		l.add("gpu-memory-utilization", s.Share, "share of the whole card for weights, cache and activations")
	}
	if s.KVType != "" && s.KVType != "auto" {
		l.add("kv-cache-dtype", strings.ToLower(s.KVType), "type of the cache")
	}
	if pixels > 0 {
		image := []setting{{"count", 1, ""}, {"width", s.Image.Width, ""}, {"height", s.Image.Height, ""}}
		l.add("limit-mm-per-prompt", []setting{{"image", image, ""}, {"video", 0, ""}},
			"what startup profiles, without it a 4096x4096 image; more images a prompt, or video, were not budgeted")
		size := []setting{{"size", s.imageSize(pixels), ""}}
		l.add("mm-processor-kwargs", []setting{{"images_kwargs", size, ""}},
			"areas in pixels: larger images are scaled down to the size that was budgeted")
	}
	return &Bundle{
		Files:    []File{{"vllm.yaml", yamlText(s.spelled, l)}},
		Use:      []string{"vllm serve --config vllm.yaml"},
		Notes:    []string{"the first start compiles and charges that to activations: start twice before believing the KV cache's size"},
		settings: l,
	}, nil
}
