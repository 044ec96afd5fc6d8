package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// vLLM 0.33.0: its wheel's kernels start at compute capability 7.5.
var vllm = Engine{
	Name: "vllm", Product: "vLLM", Version: vllmVersion, Page: "vLLM 0.33",
	Least: 75, Weights: Checkpoint, Ladder: []string{"", "fp8", "awq"}, Cache: Fills, Share: vllmShare,
	States: true, Whole: true, Cards: true,
	Requests: []string{profile.KeySizes, profile.KeyKept, profile.KeyChunk},
	Effects: []string{"images", "image-limit", "offline", "batch", "kv-type", "utilization", "tensor-parallel", "eager",
		"parallel", "pipeline-parallel", "data-parallel", "expert-parallel", "enable-lora", "max-loras", "max-lora-rank"},
	Estimate: estimateVLLM, Write: writeVLLM, ReadLog: ReadVLLMLog, Variants: vllmVariants,
	Spellings: vllmSpellings(), Verb: "serve", Parser: &argparse{underscores: true, dotted: true},
	Switches: []string{"enforce-eager", "enable-lora", "enable-expert-parallel", "language-model-only"},
	Opposites: map[string]string{"no-enforce-eager": "enforce-eager", "disable-lora": "enable-lora",
		"disable-expert-parallel": "enable-expert-parallel"},
	Shorts: map[string]string{"tp": "tensor-parallel-size", "pp": "pipeline-parallel-size", "dp": "data-parallel-size",
		"ep": "enable-expert-parallel"},
	Unreckoned: []string{"kv-cache-memory-bytes", "cpu-offload-gb", "prefill-context-parallel-size",
		"decode-context-parallel-size", "enable-eplb", "eplb-config", "swap-space", "num-gpu-blocks-override", "block-size",
		"fully-sharded-loras", "enable-tower-connector-lora", "lora-target-modules", "enable-moe-shared-loras",
		"enable-mixed-moe-lora-format", "lora-dtype", "mm-encoder-tp-mode", "speculative-config", "compilation-config",
		"hf-overrides", "load-format", "max-seq-len-to-capture", "cuda-graph-sizes", "cudagraph-capture-sizes",
		"language-model-only"},
}

// vllmSpellings are vLLM's arguments by long name.
func vllmSpellings() map[string][]spelling {
	m := plainly(map[string]string{"model": "model", "dtype": "quant", "quantization": "quant", "max-model-len": "ctx",
		"max-num-seqs": "parallel", "max-num-batched-tokens": "batch", "gpu-memory-utilization": "utilization",
		"kv-cache-dtype": "kv-type", "enforce-eager": "eager", "tensor-parallel-size": "tensor-parallel",
		"pipeline-parallel-size": "pipeline-parallel", "data-parallel-size": "data-parallel",
		"enable-expert-parallel": "expert-parallel", "enable-lora": "enable-lora", "max-loras": "max-loras",
		"max-lora-rank": "max-lora-rank"})
	m["mm-processor-kwargs"] = []spelling{{"image", imageOfArea}}
	m["limit-mm-per-prompt"] = []spelling{{"image", largestImage}}
	m["max-model-len"] = []spelling{{"ctx", contextOf}}
	m["max-num-batched-tokens"] = []spelling{{"batch", tokensOf}}
	m["dtype"] = []spelling{{"quant", unlessAuto}}
	m["kv-cache-dtype"] = []spelling{{"kv-type", unlessAuto}}
	return m
}

// unlessAuto is a value where one is chosen.
func unlessAuto(v string) (string, error) { return strings.TrimSuffix(v, "auto"), nil }

const (
	vllmVersion = "0.33.0"
	vllmShare   = 0.92 // of the card, for everything

	vllmTowerPositions = 8192 // of the tower's rotary table (Qwen3_VisionTransformer)

	// What a prompt may hold of one modality where nothing limits it (vllm/config/multimodal.py).
	vllmItems = 999
)

// vllmForms are what release 0.33 takes: bitsandbytes and GGUF are gone. fp8 and int8 are made from 16 bits while
// loading.
var vllmForms = append(plainForms[:len(plainForms):len(plainForms)],
	Form{Name: "fp8", Bits: 8, Method: "fp8"}, Form{Name: "fp8_per_tensor", Bits: 8, Method: "fp8_per_tensor"},
	Form{Name: "fp8_per_block", Bits: 8.01, Method: "fp8_per_block"}, Form{Name: "mxfp8", Bits: mxfp8, Method: "mxfp8"},
	Form{Name: "int8", Bits: 8, Method: "int8_per_channel_weight_only"},
	Form{Name: "awq", Bits: grouped4, Suffix: "-AWQ"}, Form{Name: "gptq", Bits: grouped4, Suffix: "-GPTQ-Int4"},
	Form{Name: "int4", Bits: w4a16, Suffix: "-quantized.w4a16"},
	Form{Name: "compressed-tensors", Bits: w4a16, Suffix: "-quantized.w4a16"},
	Form{Name: "nvfp4", Bits: nvfp4, Suffix: "-NVFP4"}, Form{Name: "modelopt_fp4", Bits: nvfp4, Suffix: "-NVFP4"},
	Form{Name: "mxfp4", Bits: mxfp4, Suffix: "-MXFP4"})

// vllmDefaults are the tokens and sequences that are scheduled at once, by the card's memory (get_batch_defaults in
// vllm/engine/arg_utils.py). An A100 and a GB10 count as small for their arithmetic.
func vllmDefaults(g *profile.GPU, offline bool) (tokens, sequences int) {
	large := g != nil && g.MemoryBytes >= 70*units.GiB && g.ComputeCapability != "12.1" &&
		!strings.Contains(strings.ToLower(g.Name), "a100") && !strings.Contains(strings.ToLower(g.Name), "gb10")
	switch {
	case g != nil && g.MemoryBytes >= 160*units.GiB:
		return 16384, 1024
	case large && offline:
		return 16384, 1024
	case large:
		return 8192, 1024
	case offline:
		return 8192, 256
	}
	return 2048, 256
}

// vllmGraphs is how many sizes are captured: 1, 2, 4, then by 8 to 256, by 16 to the largest, which is twice the
// sequences and at most 512, 1,024 on Blackwell (compilation config of vllm/config/vllm.py).
func vllmGraphs(sequences int, g *profile.GPU) (sizes int) {
	most := 512
	if g != nil && strings.HasPrefix(g.ComputeCapability, "10.") {
		most = 1024
	}
	most = min(most, 2*sequences)
	for n := 1; n <= most; {
		sizes++
		switch {
		case n < 4:
			n *= 2
		case n == 4 || n < 256:
			n = n/8*8 + 8
		default:
			n += 16
		}
	}
	return sizes
}

// vllmStages are the layers of each stage (get_pp_indices in vllm/distributed/utils.py): those left over go one each to
// the last stage but one and the stages before it.
func vllmStages(layers, stages int) []int {
	list := slices.Repeat([]int{layers / stages}, stages)
	for i := range layers % stages {
		list[stages-2-i]++
	}
	return list
}

// vllmLayouts are the cards that hold most of each stage. Experts are shared out over all copies of the server, by
// their widths or whole (FusedMoEParallelConfig); the tower stands at the first stage alone (the V2 runner).
func vllmLayouts(m *profile.Model, s Served) ([]layout, error) {
	at := alone(&m.Text)
	at.tensor, at.stages, at.exact = max(s.TensorParallel, 1), max(s.PipelineParallel, 1), held(m)
	if t := m.Text.MoE; t != nil {
		at.copies, at.everywhere = max(s.DataParallel, 1), true
		n := at.tensor * at.copies
		switch {
		case s.ExpertParallel && n > t.Experts:
			return nil, &Refusal{"vllm", fmt.Sprintf("%d cards share out %d experts", n, t.Experts), "take fewer cards"}
		case s.ExpertParallel:
			at.whole = n
		case t.IntermediateSize%n != 0:
			return nil, &Refusal{"vllm", fmt.Sprintf("%d cards do not share out %d columns of an expert evenly", n,
				t.IntermediateSize), "let each hold whole experts (--expert-parallel)"}
		default:
			at.spread = n
		}
	}
	return at.behind("vllm", m, vllmStages(m.Text.Layers, at.stages))
}

// vllmRun is a start of vLLM with everything resolved as its configuration builder does.
type vllmRun struct {
	m                    *profile.Model
	context              int
	scheduled, sequences int
	item                 int          // tokens of the largest image by the processor's limits
	dummy                profile.Grid // what the profile run sends through the tower
	items                int          // how many of them
	budget               int          // embeddings that the encoder cache may hold at run time
	at                   layout
	cards                int // in all
	share                float64
	kvType               string
	b                    int64 // bytes of an activation
}

// newVLLMRun resolves options. The encoder budget is the larger of the scheduled tokens and the largest item; the
// profile run sends as many items as budget and sequences hold (MultiModalBudget in vllm/multimodal/encoder_budget.py):
//
//	items = max(1, min(⌊budget/item⌋, sequences · max(1, min(limit, ⌊context/item⌋))))
func newVLLMRun(m *profile.Model, o Options, at layout) (*vllmRun, error) {
	name, err := vllmKV(m, o)
	if err != nil {
		return nil, err
	}
	tokens, sequences := vllmDefaults(o.GPU, o.Offline)
	r := &vllmRun{m: m, context: orDefault(o.Context, m.Text.MaxPositions), at: at, cards: o.Served.Cards(), b: 2,
		sequences: orDefault(o.Sequences, sequences), share: o.Utilization, kvType: name}
	if r.share == 0 {
		r.share = vllmShare
	}
	if r.scheduled = o.Batch; o.Batch == 0 {
		r.scheduled = min(tokens, r.sequences*r.context)
	}
	if o.Sequences == 0 {
		r.sequences = min(r.sequences, r.scheduled)
	}
	if m.TextOnly() || !at.tower() {
		return r, nil
	}
	side := int(math.Sqrt(float64(m.Preprocess.MaxPixels)))
	largest, err := m.ImageGrid(side, side)
	if err != nil {
		return nil, err
	}
	if r.dummy, err = torchImage(m, o, Image{side, side}); err != nil || r.dummy.Tokens == 0 {
		return r, err
	}
	switch r.item = r.dummy.Tokens; o.ImageLimit {
	case ImageSent:
		r.dummy, r.item = largest, largest.Tokens
	case ImageProfiled:
		r.item = largest.Tokens
	}
	r.budget = max(r.scheduled, r.item)
	each := max(1, min(orDefault(o.Images, vllmItems), r.context/r.item))
	r.items = max(1, min(r.budget/r.item, r.sequences*each))
	return r, nil
}

// feature is the bytes of one embedding: it carries the deepstack levels beside the text's width.
func (r *vllmRun) feature() int64 {
	return int64(r.m.Vision.OutHiddenSize) * int64(1+len(r.m.Vision.DeepstackLayers)) * r.b
}

// phase is one part of the profile run, at its peak.
type phase struct {
	item             string
	bytes, low, high units.Bytes
	source           string
	why              string
}

// tower is the encoder's peak on N patches of P values, C the tower's width, I that of its MLP, h that of a head, T
// tokens out, D the text's width, n cards, replayed from Qwen3_VisionTransformer of release 0.33:
//
//	peak = N·P + b·N·C + 2b·N·h + max(b·N·C·(2 + 9/n), b·N·(3C + 2I/n)) + levels·b·T·D
//
// pixels in bytes, position embeddings, rotary tables, then attention (input, norm, and of each card query, key and
// value, their rotations and copies) or MLP (old and new input, norm, both sides of the activation), and the features
// of every level, all live in the last blocks. The interval, 4 % below and 6 above, is assumed: no
// release states what its kernels keep beside these. Of another family's tower nothing was replayed: half to twice.
func (r *vllmRun) tower() phase {
	v := r.m.Vision
	n, t, c, k := int64(r.items*r.dummy.Patches), int64(r.items*r.dummy.Tokens), int64(v.HiddenSize), int64(r.at.tensor)
	head := c / int64(max(v.Heads, 1))
	block := max(r.b*n*c*2+9*r.b*n*c/k, 3*r.b*n*c+2*r.b*n*int64(v.IntermediateSize)/k)
	peak := units.Bytes(n*int64(r.dummy.PatchWidth) + r.b*n*c + 2*r.b*n*head + block +
		int64(len(v.DeepstackLayers))*r.b*t*int64(v.OutHiddenSize))
	why := fmt.Sprintf("the tower on %d of %dx%d, %d patches, with the features of all levels", r.items, r.dummy.Width,
		r.dummy.Height, n)
	if v.Kind != "" && v.Kind != profile.Qwen25Tower {
		return phase{Vision, peak, scaled(peak, leastForeignTower), scaled(peak, mostForeignTower), Assumed,
			fmt.Sprintf("%s, as if a %s tower's blocks were Qwen3-VL's", why, v.Kind)}
	}
	return phase{Vision, peak, scaled(peak, 0.96), scaled(peak, 1.06), Derived, why}
}

// held is the features that lie in the encoder cache while decoder and sampler are profiled.
func (r *vllmRun) held() units.Bytes { return units.Bytes(int64(r.items*r.dummy.Tokens) * r.feature()) }

// decoder is the peak of a batch of S scheduled tokens: its hidden states and residual, gate, up and their product; of
// experts what the fused kernel keeps for every routed copy, of the tokens of every copy of the server. The interval,
// 0.7 to 1.7 times as much, is assumed: which of these the compiled graph keeps beside one another was not recorded.
func (r *vllmRun) decoder() phase {
	t := r.m.Text
	s, d, wide := int64(r.scheduled), int64(t.HiddenSize), 3*int64(t.IntermediateSize)/int64(r.at.tensor)
	if t.MoE != nil {
		f := int64(t.MoE.IntermediateSize) / int64(r.at.spread)
		wide = int64(r.at.copies) * int64(t.MoE.ExpertsPerToken) * (max(2*f, d) + f)
	}
	b := units.Bytes(r.b * s * (2*d + wide))
	return phase{Compute, b + r.held(), scaled(b, 0.7) + r.held(), scaled(b, 1.7) + r.held(), Assumed, fmt.Sprintf(
		"the decoder on %d scheduled tokens: hidden states, gate and up; with the features of %d images", r.scheduled,
		r.items)}
}

// sampler is the peak of one row of logits a sequence: in the model's type, in fp32, and the passes of top-k and top-p.
// The V1 runner sorts, and holds up to nine fp32 copies.
func (r *vllmRun) sampler() phase {
	b := units.Bytes(int64(r.sequences) * int64(r.m.Text.VocabSize))
	return phase{Output, 14*b + r.held(), 6*b + r.held(), 36*b + r.held(), Assumed, fmt.Sprintf(
		"logits of %d sequences and the sampler's copies; with the features of %d images", r.sequences, r.items)}
}

// profiled adds the profile run's phases in their order. Its peak is the largest of them, for they are never live
// together: each adds what it takes beyond those before it, and says how much it takes in all.
func (mem *Memory) profiled(phases ...phase) {
	var at, low, high units.Bytes
	for _, p := range phases {
		bytes, least, most := max(0, p.bytes-at), max(0, p.low-low), max(0, p.high-high)
		// A phase before it with a narrow interval can leave more beyond its least than beyond its most.
		mem.add(p.item, "device", bytes, min(bytes, least, most), max(bytes, least, most), p.source,
			"%s: %s, what it takes beyond the phases before it in the profile run", p.why, p.bytes)
		at, low, high = max(at, p.bytes), max(low, p.low), max(high, p.high)
	}
}

// estimateVLLM follows vLLM's start on each card: what its profile run leaves of utilization × memory is cut into
// blocks. The CUDA context is not in the sum: the snapshot that is subtracted from is taken with it.
//
//	available = ⌈total·utilization⌉ − weights − persistent buffers − peak of the profile run − outside torch
//	            − CUDA graphs
//	blocks    = ⌊available / block⌋
//
// Of several stages every one gets as many blocks as the one that has least room; it is that stage's card.
func estimateVLLM(m *profile.Model, o Options) (*Memory, error) {
	form, err := formFor(vllmForms, "vllm", o.Quant, m)
	if err != nil {
		return nil, err
	}
	places, err := vllmLayouts(m, o.Served)
	if err != nil {
		return nil, err
	}
	var stages []*Memory
	for _, at := range places {
		mem, err := estimateVLLMCard(m, o, form, at)
		if err != nil {
			return nil, err
		}
		stages = append(stages, mem)
	}
	return tightest(places, stages), nil
}

// estimateVLLMCard is one card.
func estimateVLLMCard(m *profile.Model, o Options, form Form, at layout) (*Memory, error) {
	r, err := newVLLMRun(m, o, at)
	if err != nil {
		return nil, err
	}
	mem := served(m, o, form, r.kvType, r.context, at)
	r.persistent(mem)
	mem.adapters(m, o.Served, at)
	var phases []phase
	if r.items > 0 {
		phases = append(phases, r.tower())
	}
	if phases = append(phases, r.decoder()); at.last() {
		phases = append(phases, r.sampler())
	}
	mem.profiled(phases...)
	r.graphs(mem, o)
	outside, most := 256*units.MiB, 600*units.MiB
	if r.cards > 1 {
		outside, most = 512*units.MiB, 1536*units.MiB
	}
	mem.add("outside torch", "device", outside, outside/2, most, Assumed,
		"library workspaces, and NCCL's buffers where cards are joined; the CUDA context is not counted by vLLM")
	r.cache(mem, o)
	if more := units.Bytes(int64(r.budget)*r.feature()) - r.held(); r.items > 0 && more > 64*units.MiB {
		if mem.slack != nil {
			mem.slack.more += more
		}
		mem.warn(GrowsAtRunTime, "the encoder cache may grow to %d embeddings at run time, %s more than the profile run held",
			r.budget, more)
	}
	return mem, nil
}

// persistent adds buffers that lie there from the start: the rotary table of every position, the input embeddings and
// deepstack levels of a batch at the first stage, what a later one is handed, and the sampler's counts of every token
// for every sequence at the last (the V2 runner).
func (r *vllmRun) persistent(mem *Memory) {
	t := r.m.Text
	rope, towers := int64(t.MaxPositions)*rotated(&t)*r.b, ""
	if v := &r.m.Vision; v.Kind == "" && v.Heads > 0 && r.items > 0 {
		rope += vllmTowerPositions * int64(v.HiddenSize/v.Heads/2) * r.b
		towers = ", and the tower's"
	}
	mem.exact("rope cache", "device", units.Bytes(rope), "%d positions%s", t.MaxPositions, towers)
	if r.at.last() {
		counts := units.Bytes(int64(r.sequences) * int64(t.VocabSize) * 4)
		mem.add("penalty counts", "device", counts+counts/32, 0, counts+counts/32, Derived,
			"%d sequences x %d tokens in int32; none with the V1 runner", r.sequences, t.VocabSize)
	}
	row := int64(r.scheduled) * int64(t.HiddenSize) * r.b
	if r.at.stage > 0 {
		mem.exact("stage inputs", "device", units.Bytes(2*row),
			"hidden states and residual of %d scheduled tokens, from the stage before", r.scheduled)
	}
	if r.items == 0 {
		return
	}
	mem.exact("input embeddings", "device", units.Bytes(row), "%d scheduled tokens", r.scheduled)
	mem.exact("deepstack buffers", "device", units.Bytes(int64(len(r.m.Vision.DeepstackLayers))*row),
		"%d levels of %d scheduled tokens", len(r.m.Vision.DeepstackLayers), r.scheduled)
}

// graphs adds what capturing takes: a pool, and of each captured size a little for every layer, assumed; a log of
// release 0.13 shows 0.66 GiB for the 51 sizes of 30B-A3B's 48 layers, where this is 0.58. 48 MiB, 8 MiB over 36
// layers and 1.8 times as much at most are assumed too: that log is all that they are held against.
func (r *vllmRun) graphs(mem *Memory, o Options) {
	if o.Eager {
		mem.exact(cudaGraphs, "device", 0, "none with enforce-eager")
		return
	}
	sizes := vllmGraphs(r.sequences, o.GPU)
	b := 48*units.MiB + units.Bytes(sizes*(r.at.end-r.at.first))*units.MiB*8/36
	mem.add(cudaGraphs, "device", b, 0, scaled(b, 1.8), Assumed,
		"%d captured sizes; releases before 0.21 do not subtract them", sizes)
}

// blocks is how many fit into available bytes.
func (b vllmBlocks) blocks(available units.Bytes) int64 { return max(0, int64(available/b.bytes)) }

// cache adds the blocks that fit what is left of the card, or, without a card, what one sequence of the context needs.
func (r *vllmRun) cache(mem *Memory, o Options) {
	b := r.blocksOf(o.GPU)
	need := b.request(r.context)
	if o.GPU == nil {
		mem.exact(KVCache, "device", b.bytes*units.Bytes(need),
			"one sequence of %d tokens in blocks of %d; with --hardware, all that fits the card", r.context, b.tokens)
		return
	}
	budget := units.Bytes(math.Ceil(float64(o.GPU.MemoryBytes) * r.share))
	mem.Left = mem.left(budget)
	mem.withhold(o.GPU, budget)
	blocks, least, most := b.blocks(mem.Left.At), b.blocks(mem.Left.Low), b.blocks(mem.Left.High)
	if blocks > 0 {
		mem.slack = r.around(mem, b.bytes, mem.Left.At-b.bytes*units.Bytes(blocks))
	}
	mem.CacheTokens = b.holds(blocks, r.context)
	mem.TokenBytes = (b.bytes*units.Bytes(need) + units.Bytes(r.context) - 1) / units.Bytes(r.context)
	states := ""
	if b.states > 0 {
		states = fmt.Sprintf("; of each sequence %d blocks hold states of linear attention", b.states)
	}
	mem.add(KVCache, "device", b.bytes*units.Bytes(blocks), b.bytes*units.Bytes(least), b.bytes*units.Bytes(most), Derived,
		"%d blocks of %d tokens: what is left of %.4g of the card%s", blocks, b.tokens, r.share, states)
	switch {
	case most < need:
		mem.warn(WillNotStart, "vLLM will not start: at most %d tokens fit, fewer than a context of %d; lower --ctx or "+
			"--image, "+
			"or take more cards", b.holds(most, r.context), r.context)
	case blocks < need:
		mem.warn(MayNotStart, "vLLM may not start: between %d and %d tokens fit, and a context has %d",
			b.holds(least, r.context), b.holds(most, r.context), r.context)
	}
}

// around is how far what vLLM holds in the end may lie from its share: less by a block that did not fit, where so much
// is left over, and by how far the graphs, captured once the cache is there, are from what was set aside for them.
func (r *vllmRun) around(mem *Memory, block, over units.Bytes) *slack {
	s := slack{max(0, block-over), over}
	for _, i := range mem.Items {
		if i.Name == cudaGraphs {
			s.less, s.more = s.less+i.Bytes-i.Low, s.more+i.High-i.Bytes
		}
	}
	return &s
}

// cudaGraphs is the item of captured steps.
const cudaGraphs = "CUDA graphs"

// vllmVariants are vLLM as it is, and without captured graphs, which cost memory and save time.
func vllmVariants(_ *profile.Model, o Options) []Options {
	eager := o
	eager.Eager = true
	return []Options{o, eager}
}

// vllmCards writes how the model is laid out over cards, and adapters.
func (s *Settings) vllmCards(l *lines) {
	for _, x := range []struct {
		key   string
		value int
		why   string
	}{{"tensor-parallel-size", s.TensorParallel, "alike cards that share every layer"},
		{"pipeline-parallel-size", s.PipelineParallel, "stages that share the layers out"},
		{"data-parallel-size", s.DataParallel, "copies of the server, each with a cache and sequences of its own"}} {
		if x.value > 1 {
			l.add(x.key, x.value, "%s", x.why)
		}
	}
	if s.ExpertParallel {
		l.add("enable-expert-parallel", true, "each card holds whole experts")
	}
	if s.LoRA {
		l.add("enable-lora", true, "adapters of the decoder, for which room is held whether they are loaded or not")
		l.add("max-loras", s.LoRAs, "adapters in one batch")
		l.add("max-lora-rank", s.LoRARank, "the largest rank of one")
	}
}

func writeVLLM(s Settings) (*Bundle, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	var l lines
	if err := s.serve(&l, "model", vllmForms); err != nil {
		return nil, err
	}
	l.add("max-model-len", s.Context, "tokens of one sequence")
	l.add("max-num-seqs", s.Sequences, "sequences at once")
	l.add("max-num-batched-tokens", s.Batch, "tokens scheduled at once; activations grow with it")
	s.vllmCards(&l)
	if s.KVBytes > 0 {
		l.add("kv-cache-memory-bytes", s.KVBytes,
			"KV cache; vLLM then ignores gpu-memory-utilization and keeps no reserve of its own")
	} else {
		l.add("gpu-memory-utilization", s.Share, "share of the whole card for weights, cache and activations")
	}
	if s.Eager {
		l.add("enforce-eager", true, "captured graphs did not fit")
	}
	if s.KVType != "" && s.KVType != "auto" {
		l.add("kv-cache-dtype", strings.ToLower(s.KVType), "type of the cache")
	}
	if pixels > 0 {
		image := []setting{{"width", s.Image.Width, ""}, {"height", s.Image.Height, ""}}
		if s.Images > 0 {
			image = append([]setting{{"count", s.Images, ""}}, image...)
		}
		l.add("limit-mm-per-prompt", []setting{{"image", image, ""}},
			"the image that startup profiles, without it 4096x4096; any number of images a prompt")
		size := []setting{{"size", s.imageSize(pixels), ""}}
		l.add("mm-processor-kwargs", []setting{{"images_kwargs", size, ""}, {"videos_kwargs", s.videoSize(pixels), ""}},
			"areas in pixels: larger images, and the frames of a video together, are scaled down to what was budgeted")
	}
	b := &Bundle{
		Files: []File{{"vllm.yaml", yamlText(s.spelled, l)}},
		Use:   []string{"vllm serve --config vllm.yaml"},
		Notes: []string{"vLLM's wheel is built for CUDA 13: the driver must be of branch 580 or later",
			"the first start compiles and charges that to activations: start twice before believing the KV cache's size"},
		settings: l,
	}
	if s.Threads > 0 { // startup_omp_num_threads and set_torch_threads_for_runtime in vllm/utils/torch_utils.py
		b.Notes = append(b.Notes, fmt.Sprintf("threads are left to this release, which counts affinity and quota, "+
			"loads weights with so many and serves with 1; OMP_NUM_THREADS would hold while it serves as well; "+
			"here %d are of use: %s", s.Threads, s.ThreadsWhy))
	}
	return b, nil
}
