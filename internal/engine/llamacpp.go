package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// llamaCPP is the library under its defaults of one context: nothing is written for it, the server reads files.
var llamaCPP = Engine{
	Name: "llama.cpp", Product: "llama.cpp", Version: LlamaVersion, Page: "llama.cpp v0.5.0",
	Requests: []string{profile.KeySizes, profile.KeyKept, profile.KeyChunk, profile.KeyAllLogits},
	Effects:  llamaFlags,
	Least:    50, CPU: true, Weights: GGUF, Ladder: llamaLadder, Offload: Layers,
	Context: llamaLeastContext, Adapts: true, Pooled: true,
	Replay: Arenas, Estimate: estimateLlama,
	ReadLog: ReadLlamaLog, ReadRates: ReadLlamaRates,
	Spellings: llamaSpellings(), Shorts: llamaShorts, Switches: llamaSwitches,
	Opposites: llamaOpposites, Variables: llamaVariables,
	Unreckoned: llamaUnreckoned,
}

// llamaFlags are the flags of estimate that change the memory of everything that is llama.cpp within.
var llamaFlags = []string{"mmproj", "mmproj-quant", "batch", "ubatch", "parallel", "kv-unified", "outputs", "ngl",
	"kv-type",
	"flash-attention", "no-warmup", "build", "backend", "cards", "tensor-split", "split-mode", "main-gpu",
	"override-tensor",
	"cpu-moe", "n-cpu-moe", "n-cpu-ffn", "no-repack", "load-mode", "no-mmap", "mlock", "no-kv-offload", "no-op-offload",
	"no-mmproj-offload", "swa-full", "image-max-tokens", "embeddings"}

// llamaLeastContext is the shortest context that the server goes down to where it fits one by itself (-fitc).
const llamaLeastContext = 4096

// llamaLadder is the files that publishers of GGUF offer, by falling quality.
// The last is for cards that just miss the one before, which is faster on processors.
var llamaLadder = []string{"f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs"}

// The defaults of llama.cpp's common arguments and of libllama's contexts.
const (
	llamaBatch    = 2048
	llamaUBatch   = 512
	llamaPad      = 256 // cells
	llamaFinePad  = 32  // cells, in builds before October 2025 without flash attention
	hostAlignment = 32  // bytes, TENSOR_ALIGNMENT
	cudaAlignment = 128
)

// llamaContext is the sizes of one llama.cpp context after its own rounding (llama_context's constructor).
type llamaContext struct {
	cells, streams, sequences int64 // cells of one stream
	states                    int64 // of layers without a cache, beside that of each sequence: guesses may be taken back
	window                    int64 // cells of one stream in layers that see a window of tokens alone
	batch, ubatch, outputs    int64
	kType, vType              ggml.Type
	flash                     bool
	flashOn                   bool // the cards have a kernel for it
	transposed                bool // values in the cache
	noKV                      bool
	rules                     graphRules
	single                    *decoder // the graph of single tokens, where it was built already
}

// llamaSequences is the most sequences of one context (LLAMA_MAX_SEQ in src/llama-cparams.h of v0.5.0).
const llamaSequences = 256

// newLlamaContext rounds as llama.cpp does: the batch is cut to the context as given, the context padded to 256 cells,
// and without a unified cache every sequence gets an equal share, padded again.
func newLlamaContext(m *profile.Model, o Options) (llamaContext, error) {
	ctx := int64(orDefault(o.Context, m.Text.MaxPositions))
	c := llamaContext{sequences: int64(orDefault(o.Sequences, 1)), streams: 1}
	if c.sequences > llamaSequences {
		return c, fmt.Errorf("sequences %d: llama.cpp takes at most %d", c.sequences, llamaSequences)
	}
	c.batch = min(ctx, int64(orDefault(o.Batch, llamaBatch)))
	c.ubatch = min(c.batch, int64(orDefault(o.UBatch, llamaUBatch)))
	c.outputs = int64(orDefault(o.Outputs, int(c.batch)))
	c.rules = o.Llama.rules()
	if auto := o.FlashAttention == "" || o.FlashAttention == "auto"; auto && c.rules.flashAsked {
		o.FlashAttention = "off"
	}
	step := int64(llamaPad)
	if c.rules.finePad && o.FlashAttention == "off" {
		step = llamaFinePad
	}
	pad := func(n int64) int64 { return (n + step - 1) / step * step }
	c.cells = pad(ctx)
	if !o.Unified && !c.rules.oneCache && c.sequences > 1 {
		c.streams = c.sequences
		c.cells = pad(c.cells / c.sequences)
	}
	c.window = c.cells
	if v := m.Text.Variant; v != nil && v.Window > 0 && !o.Llama.FullWindow {
		seen, beside := int64(v.Window), c.ubatch
		if o.Unified || c.rules.oneCache {
			seen *= c.sequences
		}
		if c.rules.batchWindow {
			beside = c.batch
		}
		if !c.rules.fullWindow {
			c.window = pad(min(c.cells, seen+beside))
		}
	}
	c.noKV = o.Llama.NoKV && o.Device == "gpu"
	if c.rules.wholeBatch {
		c.outputs = c.batch
	}
	if o.Llama.predicts() {
		c.states = int64(o.Llama.draftMost())
	}
	var err error
	if c.kType, c.vType, err = cacheTypes(o.KVType); err != nil {
		return c, err
	}
	return c, c.decideFlash(m, o)
}

// llamaCacheTypes are the types that llama.cpp keeps keys and values in (kv_cache_types of v0.5.0's common/arg.cpp).
var llamaCacheTypes = []string{"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"}

// cacheTypes reads a type of the cache, or those of keys and values apart.
func cacheTypes(text string) (keys, values ggml.Type, err error) {
	k, v, apart := strings.Cut(strings.ToLower(text), ",")
	if !apart {
		v = k
	}
	types := make([]ggml.Type, 2)
	for i, name := range []string{strings.TrimSpace(k), strings.TrimSpace(v)} {
		if name == "" && text == "" || name == "fp16" || name == "auto" {
			name = "f16"
		}
		if !slices.Contains(llamaCacheTypes, name) {
			return keys, values, fmt.Errorf("KV type %q: llama.cpp takes %s, or K,V", text,
				strings.Join(llamaCacheTypes, ", "))
		}
		types[i], _ = ggml.TypeByName(name)
	}
	return types[0], types[1], nil
}

// CacheBits is the storage of one element of a cache of an engine's type, scales included: of keys and values, where
// these differ, the mean. Names without a width of their own are 16 bits.
func CacheBits(text string) float64 {
	k, v, apart := strings.Cut(strings.ToLower(text), ",")
	if apart {
		return (CacheBits(k) + CacheBits(v)) / 2
	}
	k = strings.TrimSpace(k)
	if t, known := ggml.TypeByName(k); known {
		return t.BitsPerElement()
	}
	switch {
	case strings.HasPrefix(k, "fp8"), k == "u8", k == "int8", k == "i8":
		return 8
	case strings.HasPrefix(k, "fp4"), k == "u4", k == "int4", k == "nvfp4":
		return 4
	case k == "fp32" || k == "float32":
		return 32
	}
	return 16
}

// kvName is how the cache's types are called.
func (c llamaContext) kvName() string {
	if c.kType == c.vType {
		return c.kType.Name
	}
	return c.kType.Name + "," + c.vType.Name
}

// decideFlash turns flash attention off where it is left to the engine and the cards have no kernel for the heads, and
// refuses what a context refuses: heads of a quantised cache that are no whole blocks, which it looks at for flash
// attention alone, all keys of a token that are none, at whose view it aborts, and quantised values without flash
// attention.
func (c *llamaContext) decideFlash(m *profile.Model, o Options) error {
	head, valueHead := cacheHeads(&m.Text)
	for _, x := range []struct {
		kind ggml.Type
		head int64
		name string
	}{{c.kType, head, "keys"}, {c.vType, valueHead, "values"}} {
		asked := o.FlashAttention != "off" && !(c.rules.looseRows && o.FlashAttention == "on")
		if x.head%x.kind.Block != 0 && asked {
			return fmt.Errorf("KV type %s: %s of %d elements are not whole blocks of %d; f16 works", x.kind.Name, x.name,
				x.head, x.kind.Block)
		}
	}
	if row := head * keyHeads(&m.Text); row%c.kType.Block != 0 {
		return fmt.Errorf("KV type %s: the %d elements of a token's keys are not whole blocks of %d; f16 works",
			c.kType.Name, row, c.kType.Block)
	}
	c.flashOn = o.Device != "gpu" || flashServed(o.Llama.backend(), &m.Text, c.kType, c.vType)
	c.flash = o.FlashAttention != "off"
	c.transposed = !c.flash
	if o.FlashAttention == "auto" || o.FlashAttention == "" {
		// llama.cpp looks where the operation would run for each layer, and wants it on the layer's own device. Quantised
		// values decide for it beforehand.
		onCard := o.Device == "gpu" && o.HostLayers < m.Text.Layers
		c.flash = c.vType.Quantized() || c.flashOn || !onCard
	}
	if c.vType.Quantized() && !c.flash {
		return fmt.Errorf("KV type %s: a quantised V cache needs flash attention", c.vType.Name)
	}
	return nil
}

// keepFlash turns flash attention off where it is left to the engine and a layer's would be computed elsewhere than the
// layer lies, as happens where cache and neighbours stay on the host: llama.cpp looks at a batch of single tokens.
func (c *llamaContext) keepFlash(m *profile.Model, p *Placement, o Options) {
	auto := o.FlashAttention == "auto" || o.FlashAttention == ""
	if !auto || !c.flash || p.Cards == 0 || c.vType.Quantized() {
		return
	}
	shape := c.shape(false)
	shape.place, shape.halves = p, o.Llama.halves()
	b := buildDecoder(m, shape, distinct(m, shape))
	c.single = b
	for i, at := range b.graph.BackendsOn(o.machine(p), b.fused) {
		want := p.Layers[b.fusedIn[i]]
		if want == OnHostMemory {
			want = p.Cards
		}
		if at != want {
			c.flash = false
		}
	}
}

// cacheHeads is the width of one head of keys and of values in the cache.
func cacheHeads(t *profile.Text) (keys, values int64) {
	if v := t.Variant; v != nil && v.Latent != nil {
		return int64(v.Latent.KVRank + v.Latent.RopeDim), int64(v.Latent.KVRank)
	}
	return int64(t.HeadDim), int64(t.HeadDim)
}

// keyHeads is how many heads of keys a token has: a latent cache holds one.
func keyHeads(t *profile.Text) int64 {
	if v := t.Variant; v != nil && v.Latent != nil {
		return 1
	}
	return int64(t.KVHeads)
}

// likeCUDA reports whether the cards run ggml-cuda, which ROCm compiles too.
func (l *LlamaOptions) likeCUDA() bool { return l.backend() == "cuda" || l.backend() == "rocm" }

func (l *LlamaOptions) backend() string {
	if l.Backend == "" {
		return "cuda"
	}
	return l.Backend
}

// kvBytes is K and V of one layer: streams · cells rows of kv_heads·head_dim elements each. A card's backend pads
// quantised tensors.
func (c llamaContext) kvBytes(t *profile.Text, layer int, onCard bool) units.Bytes {
	if t.LayerType(layer) == profile.LinearAttention {
		return stateBytes(t.Variant.Linear, c.sequences*(1+c.states))
	}
	width := int64(t.KVHeads) * int64(t.HeadDim)
	types := []ggml.Type{c.kType, c.vType}
	if t.Variant != nil && t.Variant.Latent != nil { // keys alone, values are read from them
		width, types = t.CacheRow(), types[:1]
	}
	rows := c.streams * c.cells
	if t.Slides(layer) {
		rows = c.streams * c.window
	}
	var sum int64
	for _, kind := range types {
		if onCard {
			sum += kind.OnDevice(width, rows, cudaAlignment)
		} else {
			sum += rows * kind.Row(width)
		}
	}
	return units.Bytes(sum)
}

// shape is the graph of the largest batch over a full cache, which a context reserves: prompt, or one token a sequence.
func (c llamaContext) shape(prompt bool) decoderShape {
	tokens := min(c.cells*c.streams, c.ubatch)
	outputs := min(tokens, c.outputs)
	if !prompt {
		tokens, outputs = c.sequences, c.sequences
	}
	even := c.sequences
	if c.rules.oddBatch || c.rules.oddUnified && c.streams == 1 {
		even = 1
	}
	return decoderShape{
		cells: c.cells, window: c.window, streams: c.streams, kType: c.kType, vType: c.vType, flash: c.flash,
		transposed: c.transposed, flashOn: c.flashOn, noKV: c.noKV, rules: c.rules,
		states: c.states, outputs: outputs, tokens: (tokens + even - 1) / even * even, sequences: c.sequences,
	}
}

// computeBytes is the buffers that computing needs: of each card in order, and of the host last.
func (c llamaContext) computeBytes(m *profile.Model, p *Placement, o Options) []units.Bytes {
	return c.batchBytes(m, p, o, true, false)
}

// promptBytes is the same of a prompt alone, as llama.cpp measures it before it allocates anything.
func (c llamaContext) promptBytes(m *profile.Model, p *Placement, o Options) []units.Bytes {
	o.Llama.measured = true
	return c.batchBytes(m, p, o, true)
}

func (c llamaContext) batchBytes(m *profile.Model, p *Placement, o Options, prompts ...bool) []units.Bytes {
	most := make([]units.Bytes, p.Cards+1)
	for _, prompt := range prompts {
		shape := c.shape(prompt)
		shape.place, shape.halves = p, o.Llama.halves()
		for i, n := range c.reserve(m, shape, o) {
			most[i] = max(most[i], units.Bytes(n))
		}
	}
	return most
}

// halves reports whether the cards' kernels want halves of a cache of another type.
func (l *LlamaOptions) halves() bool { return l.likeCUDA() || l.backend() == "sycl" }

// machine is what a graph is split over. Batches follow one another over several cards as in a pipeline where every
// layer is on a card, the cache with it, and no tensor was put elsewhere by name (llama_context's constructor).
func (o *Options) machine(p *Placement) ggml.Machine {
	machine := ggml.Machine{Cards: p.Cards, CardAlignment: cudaAlignment, HostAlignment: hostAlignment,
		NoOffload: o.Llama.NoOps, Fused: o.Llama.likeCUDA() && !o.Llama.unfused, Unpinned: o.Llama.measured}
	machine.CardLimit, machine.HostLimit = o.Llama.bufferLimits()
	whole := o.HostLayers == 0 && !o.Llama.NoKV && len(o.Llama.Overrides) == 0
	if p.Cards > 1 && whole && (o.Llama.SplitMode == "" || o.Llama.SplitMode == "layer") {
		machine.Copies = pipelineCopies
	}
	return machine
}

// pipelineCopies is GGML_SCHED_MAX_COPIES.
const pipelineCopies = 4

// bufferLimits are the most that one buffer of a graph takes on a card and on the host, 0 for no limit: a graph that
// needs more gets several, and what fits into none of them opens another. Vulkan asks for 1 GiB at once
// (suballocation_block_size), of the host too, which it pins; OpenCL for what the driver grants, a quarter of the
// memory at least, where every size from 256 MiB to 4 GiB gave the same in a log of an Adreno.
func (l *LlamaOptions) bufferLimits() (card, host int64) {
	if l.rules().oneBuffer {
		return 0, 0
	}
	switch l.backend() {
	case "vulkan":
		return int64(units.GiB), int64(units.GiB)
	case "opencl":
		return int64(units.GiB), 0
	}
	return 0, 0
}

// estimateLlama follows llama.cpp loading a model.
func estimateLlama(m *profile.Model, o Options) (*Memory, error) {
	if o.Device == "gpu" && o.Llama.SplitMode == "tensor" {
		return estimateTensorSplit(m, o)
	}
	return estimateLayers(m, o)
}

// estimateLayers follows it where whole tensors lie on one device, on the CPU, or on several.
func estimateLayers(m *profile.Model, o Options) (*Memory, error) {
	r, err := o.recipe()
	if err != nil {
		return nil, err
	}
	if err := llamaRefuses(m); err != nil {
		return nil, err
	}
	m = asLlama(m)
	asked, left := o, o
	o = o.asStarted(m)
	found, fit := "", o.Llama.Fit
	if fit != nil {
		if o, found, err = fitted(m, r, o); err != nil {
			return nil, err
		}
		asked.Context, asked.HostLayers, asked.Llama.Fit = o.Context, o.HostLayers, nil
		asked.Llama.Overrides, asked.Llama.Shares = o.Llama.Overrides, o.Llama.Shares
	}
	gpu := o.Device == "gpu"
	if gpu && o.HostLayers > m.Text.Blocks()+1 {
		return nil, fmt.Errorf("%d layers on the host: %s has %d and the head", o.HostLayers, m.Name, m.Text.Layers)
	}
	mem := &Memory{Version: cmp.Or(o.Llama.Build, LlamaVersion), Quant: r.name}
	c, place, err := mem.llamaDecoder(m, r, o)
	if err != nil {
		return nil, err
	}
	if err := mem.sharedLayers(m, r, place, o); err != nil {
		return nil, err
	}
	mem.KVType, mem.ContextTokens = c.kvName(), int(c.cells*c.streams)
	if found != "" {
		mem.warn(FittedContext, "llama.cpp fits %d tokens: %s", mem.ContextTokens, found)
		mem.fitsBeyond(fit)
	}
	mem.spanBuilds(m, r, asked, left)
	tower := func() error { return mem.llamaVision(m, o, towerFlash(m, o)) }
	if m.Vision.Kind != "" {
		tower = func() error { return mem.foreignTower(m, o) }
	}
	if err := tower(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(mem.Items, func(a, b Item) int { return cmp.Compare(a.use(), b.use()) })
	for card := range place.Cards {
		mem.cudaContext(o.card(card), o.Llama.backend(), place.where(card))
	}
	if gpu && !o.Llama.likeCUDA() {
		mem.widen(Vision, place.where(0), 0.8, 2, "the rules of "+o.Llama.backend()+" were read, not run")
		mem.mayLeaveCard(Vision, o, towerFlash(m, o), false, 0)
	}
	mem.ownLlama(m, place, o)
	mem.llamaLimits(m, &c)
	if err := mem.predicted(m, r, o); err != nil {
		return nil, err
	}
	return mem, mem.drafted(m, &c, o)
}

// asStarted is what a build makes of what is left to it: a server's slots, layers on a card, a context.
func (o Options) asStarted(m *profile.Model) Options {
	rules := o.Llama.rules()
	if o.serves {
		o = o.server()
	}
	if rules.hostFirst && o.Llama.LayersLeft && o.Device == "gpu" {
		o.HostLayers = m.Text.Blocks() + 1
	}
	switch {
	case rules.fixedCtx && o.Llama.Fit != nil:
		o.Context, o.Llama.Fit = llamaFixedContext, nil
	case o.serves && o.Llama.Fit == nil && o.Context == 0:
		o.Context = m.Text.MaxPositions * rules.unset.slots(&o)
	}
	return o
}

// llamaFixedContext is the context of builds that fit none (common/common.h of b7079, n_ctx).
const llamaFixedContext = 4096

// llamaDecoder adds the decoder as one set of rules lays it out: weights, cache, graph, output and kept prompts.
func (mem *Memory) llamaDecoder(m *profile.Model, r recipe, o Options) (llamaContext, *Placement, error) {
	c, err := newLlamaContext(m, o)
	if err != nil {
		return c, nil, err
	}
	place := PlaceLlama(m, r, o)
	c.keepFlash(m, place, o)
	mem.llamaWeights(m, r, place, o)
	mem.llamaCache(m, c, place)
	mem.llamaCompute(m, place, c, o)
	// The output buffer is host memory, pinned where there is a card: one row of logits for each sequence.
	mem.llamaOutput(m, &c, o)
	if o.promptCache {
		mem.keptPrompts(m, c, o)
	}
	return c, place, nil
}

// llamaOutput adds what a caller reads: a row of logits for each sequence, and of embeddings where these are asked for.
func (mem *Memory) llamaOutput(m *profile.Model, c *llamaContext, o Options) {
	row, why := int64(m.Text.VocabSize), "logits"
	if o.Llama.Embeddings {
		row, why = row+int64(m.Text.HiddenSize), "logits and embeddings"
	}
	mem.exact(Output, "host", units.Bytes(4*row*c.sequences),
		"%s of %d sequence(s); grows with the rows that one batch asks for", why, c.sequences)
	if n := int64(o.Llama.guesses()); n > 0 {
		mem.raise(Output, "host", units.Bytes(4*row*min(c.sequences*(1+n), c.batch)))
		mem.last().Why += fmt.Sprintf(", which are %d a slot once tokens are guessed", 1+n)
	}
}

// recipe is how the weights are stored, llama.cpp's own eight bits where nothing is said.
func (o *Options) recipe() (recipe, error) {
	if o.Quant == "" {
		o.Quant = "q8_0"
	}
	r, err := recipeByName(o.Quant)
	if _, known := ggml.TypeByName(o.Quant); err != nil && known && o.Files != nil && o.Files.Decoder != nil {
		r, err = recipe{o.Quant, o.Quant, false}, nil // a mixture without a recipe here: the file's header says its size
	}
	return r, err
}

// llamaLimits warns of what loads and then goes wrong.
func (mem *Memory) llamaLimits(m *profile.Model, c *llamaContext) {
	if head, _ := cacheHeads(&m.Text); head%c.kType.Block != 0 {
		mem.warn(CutBlocks, "keys of %d elements are not whole blocks of %s: llama.cpp loads so and computes wrongly", head,
			c.kType.Name)
	}
	if int(c.cells) > m.Text.MaxPositions {
		mem.warn(BeyondTraining, "%d tokens are more than the %d that the model was trained for", c.cells,
			m.Text.MaxPositions)
	}
}

// asLlama is a model as llama.cpp runs it: of the architectures known here only Gemma's layers slide, Mistral's see
// every token.
func asLlama(m *profile.Model) *profile.Model {
	v := m.Text.Variant
	if v == nil || v.Window == 0 || strings.HasPrefix(v.Architecture, "gemma") {
		return m
	}
	whole, variant := *m, *v
	variant.Window, variant.LayerTypes = 0, nil
	whole.Text.Variant = &variant
	return &whole
}

// LlamaWindow reports whether llama.cpp lets a layer of the model see a window of tokens alone.
func LlamaWindow(m *profile.Model) bool {
	m = asLlama(m)
	return m.Text.Variant != nil && m.Text.Variant.Window > 0
}

// llamaCompute adds the buffers of the graph, and widens them where the graph or its split was not followed to the end.
func (mem *Memory) llamaCompute(m *profile.Model, p *Placement, c llamaContext, o Options) {
	why := fmt.Sprintf("the graph of %d tokens, %d with logits, over %d cells, reserved by ggml's rules", c.ubatch,
		min(c.ubatch, c.outputs), c.cells)
	mem.llamaBuffers(Compute, c.computeBytes(m, p, o), why)
	cardsOnly := func(low, high float64, why string) {
		for i := range p.Cards {
			mem.widen(Compute, p.where(i), low, high, why)
		}
	}
	if p.Cards > 1 && o.Llama.SplitMode == "row" {
		cardsOnly(0.8, 1.3, "a split by rows was not measured")
	}
	mem.widenLinear(m, p, c, o)
	if p.Cards > 0 && !o.Llama.likeCUDA() {
		low, high, why := o.Llama.spread()
		cardsOnly(low, high, why)
		tokens := min(c.cells*c.streams, c.ubatch)
		plain := c.kType == ggml.F16 && c.vType == ggml.F16
		mem.mayLeaveCard(Compute, o, c.flash, plain, units.Bytes(4*c.cells*tokens*int64(m.Text.Heads)))
	}
}

// widenLinear widens what cards compute with layers of linear attention. On one card 250 random settings were equal or
// refused by both, whatever the cache's type; before them two of 56 mixtures with experts elsewhere by name were 3 %
// and 23 % above. On two cards 73 of 120 were equal, most others off by less than a batch of hidden states, and
// mixtures with tensors elsewhere by name from 34 % below to 8 % above.
func (mem *Memory) widenLinear(m *profile.Model, p *Placement, c llamaContext, o Options) {
	if v := m.Text.Variant; p.Cards == 0 || v == nil || v.Linear == nil {
		return
	}
	batch, low := units.Bytes(4*int64(m.Text.HiddenSize)*c.ubatch), 0.9
	if p.Cards > 1 {
		low = 0.6
		for i := range mem.Items {
			if it := &mem.Items[i]; it.Name == Compute {
				it.Low, it.High, it.Source = max(0, it.Low-batch), it.High+batch, Assumed
				it.Why += "; of linear attention over several cards, off by up to a batch of hidden states"
			}
		}
	}
	if m.Text.MoE != nil && len(o.Llama.Overrides) > 0 {
		for i := range p.Cards + 1 {
			mem.widen(Compute, p.where(i), low, 1.3, "a few such mixtures with experts elsewhere by name were off")
		}
	}
}

// spread is how far the compute buffers of a backend lie about the figure at most. Vulkan runs nodes of a graph in an
// order of its own (ggml_vk_graph_optimize), which was not followed: in 150 random settings on Mesa's lavapipe it took
// 0.73 to 1.23 times as much, and without that order all but one of 30 were exact.
func (l *LlamaOptions) spread() (low, high float64, why string) {
	if l.backend() == "vulkan" {
		return 0.65, 1.35, "Vulkan runs the graph in an order of its own"
	}
	return 0.5, 1.8, "the rules of " + l.backend() + " were read, not run"
}

// leastStorage is what every Vulkan device binds to a shader at once (maxStorageBufferRange: required limits of Vulkan
// 1.3); cards of today bind 4 GiB.
const leastStorage = 128 * units.MiB

// mayLeaveCard widens a buffer whose scores a Vulkan device may not take: operations on larger tensors than it binds
// run on the host, and so do products with rows of a quantised or bf16 cache that are not neighbours.
func (mem *Memory) mayLeaveCard(name string, o Options, flash, plain bool, scores units.Bytes) {
	if flash || o.Llama.backend() != "vulkan" || plain && scores <= leastStorage {
		return
	}
	var moved units.Bytes
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Name == name && it.Where != "host" {
			moved += it.High
			it.Low = 0
		}
	}
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Name == name && it.Where == "host" {
			it.High, it.Source = it.High+moved, Assumed
			it.Why += "; scores may be left to the host"
		}
	}
}

// spanBuilds widens every item to what the other rules give that the build may follow. Rules under which llama.cpp
// refuses the settings are not those of a build that runs. left is what was asked before a context was fitted: where
// the build takes another one for the trained length, it fits another.
func (mem *Memory) spanBuilds(m *profile.Model, r recipe, o, left Options) {
	open := left.Llama.Fit != nil || left.serves && left.Context == 0
	others, before := o.Llama.others(!open), slices.Clone(mem.Items)
	for _, rules := range others {
		under, err := o, error(nil)
		if open && rules.unset != o.Llama.rules().unset {
			under = left
		}
		under.Llama.under = &rules
		if under = under.asStarted(m); under.Llama.Fit != nil {
			under, _, err = fitted(m, r, under)
		}
		part := &Memory{}
		if err == nil {
			_, _, err = part.llamaDecoder(m, r, under)
		}
		if err == nil {
			mem.spanTo(part)
		}
	}
	for i := range mem.Items {
		it := &mem.Items[i]
		if v := m.Text.Variant; it.Name == Compute && v != nil && v.Linear != nil && o.Llama.rules().wholeBatch {
			it.Low, it.High, it.Source = scaled(it.Low, 0.6), scaled(it.High, 1.6), Assumed
			it.Why += "; the gated delta rule was not measured in builds before June 2026"
		}
		wider := i >= len(before) || it.Low < before[i].Low || it.High > before[i].High
		if len(others) > 0 && (it.Name == Compute || wider) {
			it.Why += "; " + o.Llama.neighbours()
		}
		if o.Llama.unmeasured() && it.Name != Weights {
			it.Low, it.High, it.Source = scaled(it.Low, unmeasuredLeast), scaled(it.High, unmeasuredMost), Assumed
			it.Why += fmt.Sprintf("; %s is older than b%d, the first that was measured", o.Llama.Build, epochs[0].first)
		}
	}
}

// What is assumed of builds older than all that were measured, whose graphs may differ as those of 2025 do: to cover
// the steps from one epoch to the next.
const (
	unmeasuredLeast = 0.9
	unmeasuredMost  = 1.4
)

// use is 1 for what is empty at start and grows with use, which comes last, and else 0.
func (i *Item) use() int {
	if i.Name == PromptCache || i.Name == contextCheckpoints {
		return 1
	}
	return 0
}

// spanTo widens items to those of another estimate, the n-th of a name, place and backing to the n-th.
func (mem *Memory) spanTo(other *Memory) {
	type key struct{ name, where, backing string }
	seen := map[key][]Item{}
	of := func(i Item) key { return key{i.Name, i.Where, string(i.Backing)} }
	for _, i := range other.Items {
		seen[of(i)] = append(seen[of(i)], i)
	}
	for j := range mem.Items {
		it := &mem.Items[j]
		k, there := of(*it), Item{}
		if list := seen[k]; len(list) > 0 {
			there, seen[k] = list[0], list[1:]
		}
		it.Low, it.High = min(it.Low, there.Low), max(it.High, there.High)
	}
	for _, i := range other.Items {
		if left := seen[of(i)]; len(left) > 0 {
			seen[of(i)] = nil
			for _, add := range left {
				add.Bytes, add.Low = 0, 0
				mem.Items = append(mem.Items, add)
			}
		}
	}
}

// where is the name of a backend's place: host for the last.
func (p *Placement) where(backend int) string {
	switch {
	case backend < 0 || backend >= p.Cards:
		return "host"
	case p.Cards == 1:
		return "device"
	}
	return fmt.Sprintf("device%d", backend)
}

// server is what llama-server makes of options: four slots over one cache unless told, one in builds before November
// 2025, and logits for the slots alone.
func (o Options) server() Options {
	switch {
	case o.Sequences == 0 && o.Llama.rules().oneSlot:
		o.Sequences = 1
	case o.Sequences == 0:
		o.Sequences, o.Unified = 4, true
	}
	o.promptCache = true
	if o.Llama.Embeddings { // of every token of a batch, which is computed at once
		o.Batch = min(orDefault(o.Batch, llamaBatch), orDefault(o.UBatch, llamaUBatch))
		return o
	}
	o.Outputs = orDefault(o.Outputs, o.Sequences*(1+o.Llama.guesses()))
	return o
}

// place is where weights and caches go.
func (o *Options) place() string {
	if o.Device == "gpu" {
		return "device"
	}
	return "host"
}

// llamaWeights adds the decoder's tensors, an item for each buffer.
func (mem *Memory) llamaWeights(m *profile.Model, r recipe, p *Placement, o Options) {
	shareLow, shareHigh, source, why := 1.0, 1.0, Derived, "tensor by tensor, norms and routers in f32"
	given := o.Files != nil && o.Files.Decoder != nil
	if !r.mixed && ggmlQuantized(r.base) && !given {
		total, mixed := r.decoderBytes(&m.Text), (recipe{r.name, r.base, true}).decoderBytes(&m.Text)
		if mixed > total {
			shareHigh = float64(mixed) / float64(total)
			mem.warn(OtherFiles, "a %s file made without --pure keeps the output head in q6_k: its decoder is %s", r.name,
				mixed)
		}
	}
	if m.Text.Variant != nil && r.mixed && !given { // the quantiser's recipes know exceptions by architecture
		shareLow, shareHigh, source = 0.95, 1.05, Assumed
	}
	if given {
		source, why = FromFile, "tensors in the file's header"
	}
	held := p.onCards(&o.Llama)
	if o.Llama.SplitMode == "row" && p.Cards > 1 {
		shareLow, shareHigh, source, why = 0.95, 1.05, Assumed, "rows of each matrix on every card, in whole tiles"
	}
	for card := range p.Cards {
		if b := held[card]; b > 0 {
			mem.add(Weights, p.where(card), b, scaled(b, shareLow), scaled(b, shareHigh), source, "%s", why)
		}
	}
	mem.hostWeights(m, p, o, source, why, shareLow, shareHigh)
}

// hostWeights adds what stays on the host: pages of the file or a copy of it, and copies in layouts of the CPU's own.
func (mem *Memory) hostWeights(m *profile.Model, p *Placement, o Options, source, why string, low, high float64) {
	if p.Cards > 0 {
		why = p.stays(m)
	}
	if o.Llama.mapped() {
		mem.mappedWeights(p, o, source, why, low, high)
	} else if plain := p.sum(OnHostMemory, BufferPlain); plain > 0 {
		mem.add(Weights, "host", plain, scaled(plain, low), scaled(plain, high), source, "%s; %s", why,
			map[bool]string{true: "read into memory and locked", false: "read into memory"}[o.Llama.LoadMode == "mlock"])
		mem.last().Backing = BackedAnonymous
	}
	if pinned := p.sum(OnHostMemory, BufferPinned); pinned > 0 {
		mem.add(Weights, "host", pinned, pinned, pinned, source, "%s; pinned, so that a card can read them", why)
		mem.last().Backing = BackedPinned
	}
	mem.repackedWeights(m, p, o, source)
}

// mappedWeights are pages of the file. Where there is no card every page is read once, for the copies too, and the
// range from the first to the last tensor in use stays mapped.
func (mem *Memory) mappedWeights(p *Placement, o Options, source, why string, low, high float64) {
	plain, span := p.sum(OnHostMemory, BufferPlain), p.Mapped()
	least := plain
	if p.Cards == 0 {
		least, plain = span, span
		if o.Files == nil || len(o.Files.Tensors) == 0 { // a file may hold its tensors in any order
			plain = p.inFile()
		}
	}
	if plain == 0 {
		return
	}
	mem.add(Weights, "host", plain, scaled(least, low), scaled(plain, high), source, "%s; mapped from the file", why)
	it := mem.last()
	it.Backing, it.MappedBytes = BackedFile, span
	if o.Llama.LoadMode == "mmap+mlock" {
		it.Backing, it.Why = BackedLocked, it.Why+" and locked"
		return
	}
	it.Why += ", pages that the kernel can drop"
}

// mapped reports whether weights are read from the file's own pages. Left to itself v0.5.0 maps none for OpenCL, whose
// devices say that they do not take it (mmap_support).
func (l *LlamaOptions) mapped() bool {
	switch l.LoadMode {
	case "", "auto":
		return l.backend() != "opencl" || l.Build != "" && buildNumber(l.Build) < firstAutoLoad
	}
	return strings.HasPrefix(l.LoadMode, "mmap")
}

// firstAutoLoad is the first measured build that decides by its devices how a file is loaded.
const firstAutoLoad = 11063

// repackedWeights are copies in layouts of the CPU's own, beside the file's pages.
func (mem *Memory) repackedWeights(m *profile.Model, p *Placement, o Options, source string) {
	for _, buffer := range []string{BufferRepacked, BufferAMX} {
		copied := p.sum(OnHostMemory, buffer)
		low, high, from := copied, copied, source
		why := "copied into " + buffer + " for a CPU " + avx2CPU.name
		if o.Llama.CPU != nil && len(o.Llama.CPU.ISA) > 0 {
			why = "copied into " + buffer + " for the vector extensions of " + o.Llama.CPU.Model
		} else if p.Cards == 0 && !o.Llama.NoRepack {
			low, high, from = p.copiesOnAny(buffer, copied)
			why += ", which is assumed: --hardware names yours"
		}
		if high > 0 {
			mem.add(RepackedWeights, "host", copied, low, high, from, "%s; --no-repack spares it and costs speed", why)
			mem.last().Backing = BackedAnonymous
		}
	}
}

// llamaCache adds the KV cache; layers on the host keep theirs there.
func (mem *Memory) llamaCache(m *profile.Model, c llamaContext, p *Placement) {
	why := fmt.Sprintf("%d cells of %s in %d layers; a context is padded to %d cells", c.cells*c.streams, c.kvName(),
		m.Text.CachedLayers(), llamaPad)
	if n := m.Text.Layers - m.Text.CachedLayers(); n > 0 {
		why += fmt.Sprintf("; the states of %d sequence(s) in %d layers, f32", c.sequences, n)
	}
	if c.window < c.cells {
		why += fmt.Sprintf("; %d in layers that see a window", c.window*c.streams)
	}
	sums := make([]units.Bytes, p.Cards+1)
	for layer := range m.Text.Layers {
		at := p.Cards
		if card := p.Layers[layer]; card >= 0 && !c.noKV {
			at = card
		}
		sums[at] += c.kvBytes(&m.Text, layer, at < p.Cards)
	}
	mem.llamaBuffers(KVCache, sums, why)
}

func ggmlQuantized(name string) bool {
	t, ok := ggml.TypeByName(name)
	return ok && t.Quantized()
}

// llamaBuffers adds what a graph reserved, of each card in order and of the host last.
func (mem *Memory) llamaBuffers(name string, sizes []units.Bytes, why string) {
	p := Placement{Cards: len(sizes) - 1}
	for i, size := range sizes {
		if size > 0 {
			mem.exact(name, p.where(i), size, "%s", why)
		}
	}
}

// llamaWarmupSide is the tokens along each side of the image that llama.cpp reserves the tower's buffer for at start.
const llamaWarmupSide = 46

// llamaVision adds the projector: its weights and the buffer for the largest image. A buffer once reserved is kept, so
// that the warm-up image bounds a smaller one's.
func (mem *Memory) llamaVision(m *profile.Model, o Options, flash bool) error {
	side := llamaWarmupSide * m.Vision.PatchSize * m.Vision.SpatialMergeSize
	warm := Image{side, side}
	image := warm
	if o.Image != nil {
		image = *o.Image
	}
	if image == (Image{}) {
		return nil
	}
	width, height, err := llamaImage(m, image, o.Llama.ImageMost)
	if err != nil {
		return err
	}
	if err := mem.llamaProjector(m, o); err != nil {
		return err
	}
	patches := width / m.Vision.PatchSize * (height / m.Vision.PatchSize)
	mem.llamaBuffers(Vision, o.towerBytes(m, Image{width, height}, flash),
		fmt.Sprintf("the tower's graph at %dx%d, %d patches; kept once reserved", width, height, patches))
	switch {
	case o.Image == nil && o.Llama.ImageMost > llamaWarmupSide*llamaWarmupSide:
		most := int(math.Sqrt(float64(o.Llama.ImageMost))) * side / llamaWarmupSide
		mem.raiseAll(Vision, o.towerBytes(m, Image{most, most}, flash))
		mem.warn(GrowsAtRunTime, "the tower's buffer is that of the warm-up image; one of %dx%d, which --image-max-tokens"+
			" lets in, makes it grow", most, most)
	case width*height < side*side && !o.NoWarmup:
		more := o.towerBytes(m, warm, flash)
		mem.raiseAll(Vision, more)
		var sum units.Bytes
		for _, b := range more {
			sum += b
		}
		mem.warn(WarmsUp, "llama.cpp warms up with an image of %dx%d, which takes %s; --no-warmup spares it", side, side, sum)
	}
	if !flash {
		mem.warn(NoFlash, "without flash attention the tower's scores take %s at %dx%d",
			units.Bytes(4*int64(m.Vision.Heads)*int64(patches)*int64(patches)), width, height)
	}
	return nil
}

// towerFlash reports whether the tower's heads get flash attention: llama.cpp looks for itself, apart from the decoder.
func towerFlash(m *profile.Model, o Options) bool {
	if o.FlashAttention == "off" || m.TextOnly() || m.Vision.Heads == 0 {
		return false
	}
	head := m.Vision.HiddenSize / m.Vision.Heads
	return o.Device != "gpu" || o.Llama.NoTower || headServed(o.Llama.backend(), head)
}

// towerBytes is what the graph of one image reserves: of each card, which is the first alone, and of the host last.
func (o *Options) towerBytes(m *profile.Model, i Image, flash bool) []units.Bytes {
	onCard := o.Device == "gpu" && !o.Llama.NoTower
	graph := projectorGraph(m, int64(i.Width), int64(i.Height), flash)
	sizes := make([]units.Bytes, 1)
	if o.Device == "gpu" {
		sizes = make([]units.Bytes, o.Llama.used()+1)
	}
	if !onCard {
		sizes[len(sizes)-1] = units.Bytes(graph.Reserve(hostAlignment))
		return sizes
	}
	both := graph.ReserveOn(o.machine(&Placement{Cards: 1}))
	sizes[0], sizes[len(sizes)-1] = units.Bytes(both[0]), units.Bytes(both[1])
	return sizes
}

// raiseAll lifts the upper bounds of the items of a name to these sizes, of each card and of the host last.
func (mem *Memory) raiseAll(name string, sizes []units.Bytes) {
	p := Placement{Cards: len(sizes) - 1}
	for i, size := range sizes {
		mem.raise(name, p.where(i), size)
	}
}

// llamaProjector adds the tower's weights.
func (mem *Memory) llamaProjector(m *profile.Model, o Options) error {
	where := "host"
	if o.Device == "gpu" && !o.Llama.NoTower {
		where = (&Placement{Cards: o.Llama.used()}).where(0)
	}
	if o.Files != nil && o.Files.Projector != nil {
		b := *o.Files.Projector
		mem.add(VisionWeights, where, b, b, b, FromFile, "tensors in the mmproj's header")
		return nil
	}
	matrices := strings.ToLower(o.ProjectorQuant)
	if matrices == "" {
		matrices = "f16"
	}
	if _, ok := ggml.TypeByName(matrices); !ok {
		return fmt.Errorf("projector quantisation %q: want f32, f16, bf16 or q8_0", o.ProjectorQuant)
	}
	mem.exact(VisionWeights, where, projectorBytes(&m.Vision, matrices), "mmproj with matrices in %s", matrices)
	return nil
}

// llamaImage is the size that clip.cpp resizes an image to: 8 to 4,096 tokens or what is set, sides rounded to
// patch·merge.
func llamaImage(m *profile.Model, i Image, most int) (width, height int, err error) {
	tokenSide := m.Vision.PatchSize * m.Vision.SpatialMergeSize
	limited := *m
	limited.Preprocess.MinPixels, limited.Preprocess.MaxPixels = 8*tokenSide*tokenSide,
		orDefault(most, 4096)*tokenSide*tokenSide
	g, err := limited.ImageGrid(i.Width, i.Height)
	if err != nil {
		return 0, 0, err
	}
	return g.Width, g.Height, nil
}

// cudaContext is what the driver and the libraries take before anything is loaded; it differs by card, driver and
// build.
func (mem *Memory) cudaContext(g *profile.GPU, backend, where string) {
	name, item := "a card", "CUDA context"
	switch {
	case g != nil && g.Backend != "":
		item = g.Backend + " context"
	case backend != "cuda":
		item = backend + " context"
	}
	if g != nil {
		name = g.Name
	}
	mem.add(item, where, profile.ContextBytes, profile.LeastContextBytes, profile.MostContextBytes, Assumed,
		"driver context, kernels and cuBLAS workspace of %s", name)
}
