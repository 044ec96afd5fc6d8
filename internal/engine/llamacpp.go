package engine

import (
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// LlamaVersion is the llama.cpp whose rules are followed here and by the settings.
const LlamaVersion = "v0.5.0"

// llamaCPP is the library under its defaults of one context: nothing is written for it, the server reads files.
var llamaCPP = Engine{
	Name: "llama.cpp", Product: "llama.cpp", Version: LlamaVersion, Page: "llama.cpp v0.5.0",
	Least: 50, CPU: true, Weights: GGUF, Ladder: llamaLadder, Offload: Layers, Replay: Arenas, Estimate: estimateLlama,
}

// llamaLadder is the files that publishers of GGUF offer, by falling quality.
var llamaLadder = []string{"f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"}

// The defaults of llama.cpp's common arguments and of libllama's contexts.
const (
	llamaBatch    = 2048
	llamaUBatch   = 512
	llamaPad      = 256 // cells
	hostAlignment = 32  // bytes, TENSOR_ALIGNMENT
	cudaAlignment = 128
)

// llamaContext is the sizes of one llama.cpp context after its own rounding (llama_context's constructor).
type llamaContext struct {
	cells, streams, sequences int64 // cells of one stream
	window                    int64 // cells of one stream in layers that see a window of tokens alone
	batch, ubatch, outputs    int64
	kvType                    ggml.Type
	flash                     bool
}

// newLlamaContext rounds as llama.cpp does: the batch is cut to the context as given, the context padded to 256 cells,
// and without a unified cache every sequence gets an equal share, padded again.
func newLlamaContext(m *profile.Model, o Options) (llamaContext, error) {
	ctx := int64(orDefault(o.Context, m.Text.MaxPositions))
	c := llamaContext{sequences: int64(orDefault(o.Sequences, 1)), streams: 1}
	c.batch = min(ctx, int64(orDefault(o.Batch, llamaBatch)))
	c.ubatch = min(c.batch, int64(orDefault(o.UBatch, llamaUBatch)))
	c.outputs = int64(orDefault(o.Outputs, int(c.batch)))
	pad := func(n int64) int64 { return (n + llamaPad - 1) / llamaPad * llamaPad }
	c.cells = pad(ctx)
	if !o.Unified && c.sequences > 1 {
		c.streams = c.sequences
		c.cells = pad(c.cells / c.sequences)
	}
	c.window = c.cells
	if v := m.Text.Variant; v != nil && v.Window > 0 {
		seen := int64(v.Window)
		if o.Unified {
			seen *= c.sequences
		}
		c.window = pad(min(c.cells, seen+c.ubatch))
	}
	name := strings.ToLower(o.KVType)
	if name == "" || name == "fp16" || name == "auto" {
		name = "f16"
	}
	kinds := []string{"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"}
	found := false
	for _, k := range kinds {
		if k == name {
			c.kvType, found = ggml.TypeByName(k)
		}
	}
	if !found {
		return c, fmt.Errorf("KV type %q: llama.cpp takes %s", o.KVType, strings.Join(kinds, ", "))
	}
	c.flash = o.FlashAttention != "off"
	if c.kvType.Quantized() && !c.flash {
		return c, fmt.Errorf("KV type %s: a quantised V cache needs flash attention", name)
	}
	return c, nil
}

// kvBytes is K and V of the layers from first to before last: for each, 2 · streams · cells · row of kv_heads·head_dim
// elements. A card's backend pads quantised tensors.
func (c llamaContext) kvBytes(t *profile.Text, first, last int, onDevice bool) units.Bytes {
	width, tensors := int64(t.KVHeads)*int64(t.HeadDim), int64(2)
	if t.Variant != nil && t.Variant.Latent != nil {
		width, tensors = t.CacheRow(), 1
	}
	var sum int64
	for layer := first; layer < last; layer++ {
		cells := c.cells
		if t.Slides(layer) {
			cells = c.window
		}
		size := c.streams * cells * c.kvType.Row(width)
		if onDevice {
			size = c.kvType.OnDevice(width, c.streams*cells, cudaAlignment)
		}
		sum += tensors * size
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
	return decoderShape{
		cells: c.cells, window: c.window, streams: c.streams, kvType: c.kvType, flash: c.flash,
		outputs: outputs, tokens: (tokens + c.sequences - 1) / c.sequences * c.sequences,
	}
}

// computeBytes is the buffers that computing needs on the device, 0 on a CPU, and on the host.
func (c llamaContext) computeBytes(m *profile.Model, r recipe, onDevice bool, hostLayers int) (device,
	host units.Bytes) {
	for _, prompt := range []bool{true, false} {
		shape := c.shape(prompt)
		shape.device, shape.hostLayers, shape.weights = onDevice, hostLayers, r
		d, h := reserve(decoderGraph(m, shape), onDevice)
		device, host = max(device, d), max(host, h)
	}
	return device, host
}

func reserve(g *ggml.Graph, onDevice bool) (device, host units.Bytes) {
	if !onDevice {
		return 0, units.Bytes(g.Reserve(hostAlignment))
	}
	d, h := g.ReserveSplit(cudaAlignment, hostAlignment)
	return units.Bytes(d), units.Bytes(h)
}

// estimateLlama follows llama.cpp loading a model on one device, on the CPU, or split over both.
func estimateLlama(m *profile.Model, o Options) (*Memory, error) {
	if o.Quant == "" {
		o.Quant = "q8_0"
	}
	r, err := recipeByName(o.Quant)
	if _, known := ggml.TypeByName(o.Quant); err != nil && known && o.Files != nil && o.Files.Decoder != nil {
		r, err = recipe{o.Quant, o.Quant, false}, nil // a mixture without a recipe here: the file's header says its size
	}
	if err != nil {
		return nil, err
	}
	m = asLlama(m)
	c, err := newLlamaContext(m, o)
	if err != nil {
		return nil, err
	}
	gpu := o.Device == "gpu"
	mem := &Memory{Quant: r.name, KVType: c.kvType.Name, ContextTokens: int(c.cells * c.streams)}
	mem.llamaWeights(m, r, o)
	if gpu && o.HostLayers > m.Text.Layers+1 {
		return nil, fmt.Errorf("%d layers on the host: %s has %d and the head", o.HostLayers, m.Name, m.Text.Layers)
	}
	mem.llamaCache(m, c, o)
	mem.llamaCompute(m, r, c, o)
	// The output buffer is host memory, pinned where there is a card: one row of logits for each sequence.
	mem.exact(Output, "host", units.Bytes(4*int64(m.Text.VocabSize)*c.sequences),
		"logits of %d sequence(s); grows with the rows that one batch asks for", c.sequences)
	if err := mem.llamaVision(m, o, c.flash); err != nil {
		return nil, err
	}
	if gpu {
		mem.cudaContext(o.GPU)
	}
	if int(c.cells) > m.Text.MaxPositions {
		mem.warn("%d tokens are more than the %d that the model was trained for", c.cells, m.Text.MaxPositions)
	}
	return mem, nil
}

// asLlama is a model as llama.cpp runs it: of the architectures known here only Gemma's layers slide, Mistral's see
// every token.
func asLlama(m *profile.Model) *profile.Model {
	v := m.Text.Variant
	if v == nil || v.Window == 0 || strings.HasPrefix(v.Architecture, "gemma") {
		return m
	}
	whole, variant := *m, *v
	variant.Window = 0
	whole.Text.Variant = &variant
	return &whole
}

// llamaCompute adds the buffers of the graph, and widens them where the graph or its split was not followed to the end.
func (mem *Memory) llamaCompute(m *profile.Model, r recipe, c llamaContext, o Options) {
	gpu := o.Device == "gpu"
	device, host := c.computeBytes(m, r, gpu, o.HostLayers)
	why := fmt.Sprintf("the graph of %d tokens, %d with logits, over %d cells, reserved by ggml's rules", c.ubatch,
		min(c.ubatch, c.outputs), c.cells)
	mem.llamaBuffers(Compute, device, host, why)
	if gpu && o.HostLayers > 0 && (c.kvType == ggml.F32 || c.ubatch == ggml.MinBatch) {
		// Casts of such a cache, and batches at the very edge of what is worth moving, go where the rules followed here do
		// not see.
		mem.atMost(Compute, "host", "an upper bound with this cache or batch split over host and card")
	}
	if m.TextOnly() && graphOff[m.Text.Variant.Architecture] > 0 {
		off := graphOff[m.Text.Variant.Architecture]
		mem.assume(Compute, 1-off, 1+off, "a graph of Qwen3-VL's form stands in for that of "+m.Text.Variant.Architecture)
	}
}

// graphOff is how far the compute buffer may be off where the graph built here is not the architecture's own: deepseek2
// unpacks compressed keys and values. Against recordings it was off by 16 % at most.
var graphOff = map[string]float64{"deepseek2": 0.25}

// server is what llama-server makes of options: four slots over one cache unless told, and logits for the slots alone.
func (o Options) server() Options {
	if o.Sequences == 0 {
		o.Sequences, o.Unified = 4, true
	}
	o.Outputs = orDefault(o.Outputs, o.Sequences)
	return o
}

// place is where weights and caches go.
func (o *Options) place() string {
	if o.Device == "gpu" {
		return "device"
	}
	return "host"
}

// llamaWeights adds the decoder's tensors: all of them on the device except the embeddings, which stay on the host for
// the lookup; a tied table is on both, once as embeddings and once as the output head.
func (mem *Memory) llamaWeights(m *profile.Model, r recipe, o Options) {
	total := r.decoderBytes(&m.Text)
	low, high, source, why := total, total, Derived, "tensor by tensor, norms and routers in f32"
	if mixed := (recipe{r.name, r.base, true}).decoderBytes(&m.Text); !r.mixed && ggmlQuantized(r.base) && mixed > total {
		high = mixed
		mem.warn("a %s file made without --pure keeps the output head in q6_k: its decoder is %s", r.name, mixed)
	}
	if m.TextOnly() && r.mixed { // the quantiser's recipes know exceptions by architecture
		low, high, source = scaled(total, 0.95), scaled(total, 1.05), Assumed
	}
	if o.Files != nil && o.Files.Decoder != nil {
		total, source, why = *o.Files.Decoder, FromFile, "tensors in the file's header"
		low, high = total, total
	}
	if o.Device != "gpu" {
		mem.add(Weights, "host", total, low, high, source, "%s; mapped from the file where mmap is on", why)
		return
	}
	device, host := r.placedBytes(&m.Text, o.HostLayers)
	device += total - r.decoderBytes(&m.Text) // what a file differs by
	if o.Files != nil && o.Files.Embeddings > 0 {
		table := ggufTensor{roleEmbedding, outside, []int64{int64(m.Text.HiddenSize), int64(m.Text.VocabSize)}}
		differs := o.Files.Embeddings - units.Bytes(tensorBytes(r.typeOf(table, &m.Text), table.shape))
		host += differs
		if !m.Text.TiedEmbeddings {
			device -= differs
		}
	}
	mem.add(Weights, "device", device, device-(total-low), device+(high-total), source, "%s", why)
	stay := "token embeddings stay on the host"
	if o.HostLayers > 0 {
		stay = fmt.Sprintf("token embeddings and %d of %d layers, the head counting as one", o.HostLayers, m.Text.Layers+1)
	}
	mem.add(Weights, "host", host, host, host, source, "%s", stay)
}

// llamaCache adds the KV cache; the layers on the host keep theirs there.
func (mem *Memory) llamaCache(m *profile.Model, c llamaContext, o Options) {
	why := fmt.Sprintf("%d cells of %s in %d layers; a context is padded to %d cells", c.cells*c.streams, c.kvType.Name,
		m.Text.Layers, llamaPad)
	if c.window < c.cells {
		why += fmt.Sprintf("; %d in layers that see a window", c.window*c.streams)
	}
	onHost := m.Text.Layers
	if o.Device == "gpu" {
		onHost = min(o.HostLayers, m.Text.Layers)
	}
	if onHost < m.Text.Layers {
		mem.exact(KVCache, "device", c.kvBytes(&m.Text, onHost, m.Text.Layers, true), "%s", why)
	}
	if onHost > 0 {
		mem.exact(KVCache, "host", c.kvBytes(&m.Text, 0, onHost, false), "%s", why)
	}
}

func ggmlQuantized(name string) bool {
	t, ok := ggml.TypeByName(name)
	return ok && t.Quantized()
}

// llamaBuffers adds what a graph reserved on both sides.
func (mem *Memory) llamaBuffers(name string, device, host units.Bytes, why string) {
	if device > 0 {
		// Fusion in a CUDA build keeps some tensors longer, and versions differ: a log of 2025 is 16 % above this one.
		mem.add(name, "device", device, device, scaled(device, 1.2), Derived, "%s", why)
	}
	if host > 0 {
		mem.exact(name, "host", host, "%s", why)
	}
}

// llamaWarmupSide is the tokens along each side of the image that llama.cpp reserves the tower's buffer for at start.
const llamaWarmupSide = 46

// llamaVision adds the projector: its weights and the buffer for the largest image. A buffer once reserved is kept, so
// that the warm-up image bounds a smaller one's.
func (mem *Memory) llamaVision(m *profile.Model, o Options, flash bool) error {
	side := llamaWarmupSide * m.Vision.PatchSize * m.Vision.SpatialMergeSize
	image := Image{side, side}
	if o.Image != nil {
		image = *o.Image
	}
	if image == (Image{}) {
		return nil
	}
	width, height, err := llamaImage(m, image)
	if err != nil {
		return err
	}
	if err := mem.llamaProjector(m, o); err != nil {
		return err
	}
	gpu := o.Device == "gpu"
	device, host := reserve(projectorGraph(m, int64(width), int64(height), flash), gpu)
	patches := width / m.Vision.PatchSize * (height / m.Vision.PatchSize)
	mem.llamaBuffers(Vision, device, host, fmt.Sprintf("the tower's graph at %dx%d, %d patches; kept once reserved", width,
		height, patches))
	if width*height < side*side && !o.NoWarmup {
		device, host := reserve(projectorGraph(m, int64(side), int64(side), flash), gpu)
		mem.raise(Vision, "device", device)
		mem.raise(Vision, "host", host)
		mem.warn("llama.cpp warms up with an image of %dx%d, which takes %s; --no-warmup spares it", side, side, device+host)
	}
	if !flash {
		mem.warn("without flash attention the tower's scores take %s at %dx%d",
			units.Bytes(4*int64(m.Vision.Heads)*int64(patches)*int64(patches)), width, height)
	}
	return nil
}

// llamaProjector adds the tower's weights.
func (mem *Memory) llamaProjector(m *profile.Model, o Options) error {
	if o.Files != nil && o.Files.Projector != nil {
		b := *o.Files.Projector
		mem.add(VisionWeights, o.place(), b, b, b, FromFile, "tensors in the mmproj's header")
		return nil
	}
	matrices := strings.ToLower(o.ProjectorQuant)
	if matrices == "" {
		matrices = "f16"
	}
	if _, ok := ggml.TypeByName(matrices); !ok {
		return fmt.Errorf("projector quantisation %q: want f32, f16, bf16 or q8_0", o.ProjectorQuant)
	}
	mem.exact(VisionWeights, o.place(), projectorBytes(&m.Vision, matrices), "mmproj with matrices in %s", matrices)
	return nil
}

// llamaImage is the size that clip.cpp resizes an image to: 8 to 4,096 tokens, sides rounded to patch·merge.
func llamaImage(m *profile.Model, i Image) (width, height int, err error) {
	tokenSide := m.Vision.PatchSize * m.Vision.SpatialMergeSize
	limited := *m
	limited.Preprocess.MinPixels, limited.Preprocess.MaxPixels = 8*tokenSide*tokenSide, 4096*tokenSide*tokenSide
	g, err := limited.ImageGrid(i.Width, i.Height)
	if err != nil {
		return 0, 0, err
	}
	return g.Width, g.Height, nil
}

// cudaContext is what the driver and the libraries take before anything is loaded; it differs by card, driver and
// build.
func (mem *Memory) cudaContext(g *profile.GPU) {
	name := "a card"
	if g != nil {
		name = g.Name
	}
	mem.add("CUDA context", "device", 256*units.MiB, 100*units.MiB, 600*units.MiB, Assumed,
		"driver context, kernels and cuBLAS workspace of %s", name)
}
