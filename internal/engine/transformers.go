package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/workload"
)

const transformersVersion = "5.24.0"

// transformers 5.24.0: PyTorch's wheels for CUDA 12.6 still hold code of compute capability 5.0.
var transformers = Engine{
	Name: "transformers", Product: "transformers", Version: transformersVersion, Page: "transformers 5.24",
	Least: 50, CPU: true, Weights: Checkpoint, Ladder: []string{""}, Offload: Bytes, Replay: Tensors,
	Requests: workload.Reckoned,
	Effects:  []string{"parallel", "kv-type", "flash-attention", "prompt", "images", "frames"},
	Estimate: estimateTransformers, Write: writeTransformers, Split: transformersSplit,
	Spellings:  transformersSpellings(),
	Unreckoned: []string{"from-pretrained.max-memory", "generate.num-beams", "generate.assistant-model"},
}

// deviceMap places modules: those on the host are not reckoned from a file.
const deviceMap = "from-pretrained.device-map"

// transformersSpellings are the arguments of from_pretrained, of the image processor and of generate.
func transformersSpellings() map[string][]spelling {
	return map[string][]spelling{
		"from-pretrained.pretrained-model-name-or-path": {{"model", nil}},
		"from-pretrained.dtype":                         {{"quant", unlessAuto}},
		"from-pretrained.quantization-config":           {{"quant", methodOf}},
		"from-pretrained.attn-implementation": {{"flash-attention", func(v string) (string, error) {
			return map[string]string{"eager": "off"}[v], nil
		}}},
		deviceMap: {{"device", func(v string) (string, error) {
			return map[string]string{"cpu": "cpu"}[v], nil
		}}},
		"image-processor.size":   {{"image", imageOfArea}},
		"generate.max-cache-len": {{"ctx", nil}},
	}
}

// methodOf is what a quantization_config quantises to while loading.
func methodOf(config string) (string, error) {
	for name, settings := range transformersQuantization {
		var want, got map[string]any
		if json.Unmarshal([]byte(jsonValue(settings)), &want) == nil && json.Unmarshal([]byte(config), &got) == nil &&
			maps.Equal(want, got) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s: want one of those that advise writes", config)
}

// transformersForms are what release 5.24 loads; bitsandbytes quantises while loading.
var transformersForms = append(plainForms[:len(plainForms):len(plainForms)],
	Form{Name: "fp8", Bits: 8.01, Method: "fp8"}, Form{Name: "int8", Bits: 8, Method: "int8"},
	Form{Name: "nf4", Bits: nf4, Method: "nf4"}, Form{Name: "int4", Bits: nf4, Method: "nf4"},
	Form{Name: "awq", Bits: grouped4, Suffix: "-AWQ"}, Form{Name: "gptq", Bits: grouped4, Suffix: "-GPTQ-Int4"},
	Form{Name: "compressed-tensors", Bits: w4a16, Suffix: "-quantized.w4a16"})

// transformersQuantization is the quantization_config of each method, as from_pretrained takes it.
var transformersQuantization = map[string][]setting{
	"fp8":  {{"quant_method", "fp8", ""}},
	"int8": {{"quant_method", "bitsandbytes", ""}, {"load_in_8bit", true, ""}},
	"nf4":  {{"quant_method", "bitsandbytes", ""}, {"load_in_4bit", true, ""}, {"bnb_4bit_quant_type", "nf4", ""}},
}

// transformersPeak is what one generate() call of transformers 4.57 holds beyond the weights at its two peaks, in
// bytes, for one sequence with elements of b bytes, N patches that become T tokens, S tokens of prompt, P values a
// patch, C the tower's width, d its head width, D, F, L, Hkv and h the decoder's. Flash or memory-efficient attention,
// no gradient.
//
//	tower   = 4PN + 2PN + 17b·NC + b·NC + 16·N·d + levels·b·T·D + b·S·D
//	          pixels, their cast, the block's fp32 rotary peak, position embeddings, rotary tables, deepstack,
//	          text embeddings
//	prefill = 4PN + b·S·D + (levels+1)·b·T·D + b·S·2·L·Hkv·h + 3b·S·(D+F) + 4h·S + 24S
//	          pixels, embeddings, image features, KV cache, the MLP's peak, rotary tables, position ids
//
// The tower's 17b·NC is, in NC units of b = 2: x 2, norm 2, qkv 6, q and k in fp32 4 + 4, and 16 for one rotation under
// way.
type transformersPeak struct {
	pixels, towerWork, features, embeddings, cache, mlp, tables units.Bytes
}

func newTransformersPeak(m *profile.Model, g profile.Grid, prompt int, b int64) transformersPeak {
	v, t := m.Vision, m.Text
	n, s, c := int64(g.Patches), int64(prompt), int64(v.HiddenSize)
	d, h := int64(t.HiddenSize), int64(t.HeadDim)
	f := int64(t.IntermediateSize)
	if t.MoE != nil {
		// Experts run one after another over their share of the tokens; routing keeps a few copies of the hidden states.
		f = int64(t.MoE.IntermediateSize * t.MoE.ExpertsPerToken)
	}
	feature := b * int64(g.Tokens) * int64(v.OutHiddenSize)
	return transformersPeak{
		pixels:     units.Bytes(g.PixelBytes()),
		towerWork:  units.Bytes(g.PixelBytes()/4*b + 17*b*n*c + b*n*c + 16*n*c/int64(max(v.Heads, 1))),
		features:   units.Bytes(feature * int64(len(v.DeepstackLayers))),
		embeddings: units.Bytes(b * s * d),
		cache:      units.Bytes(s * int64(2*t.Layers*t.KVHeads) * h * b),
		mlp:        units.Bytes(3 * b * s * (d + f)),
		tables:     units.Bytes(4*h*s + 24*s),
	}
}

func (p transformersPeak) tower() units.Bytes {
	return p.pixels + p.towerWork + p.features + p.embeddings
}

// prefill counts the image features once more for the concatenated copy that is scattered into the embeddings.
func (p transformersPeak) prefill(levels int) units.Bytes {
	once := units.Bytes(0)
	if levels > 0 {
		once = p.features / units.Bytes(levels)
	}
	return p.pixels + p.embeddings + p.features + once + p.cache + p.mlp + p.tables
}

// callPeak is what one generate() call of transformers 5.23 holds beyond the weights, replayed allocation by
// allocation: the highest point of all, and what makes up the highest point of the prefill.
type callPeak struct {
	all                         units.Bytes
	prefill, cache, visionBytes units.Bytes
}

// call is one generate() call: sequences of prompt tokens, with images, or videos of so many frames, in each, in a
// cache that will hold context tokens of each.
type call struct {
	image                      Image
	images, frames             int
	pictures                   []profile.Picture // these, or others in their place
	grid                       profile.Grid      // of one of them, with the patches and tokens of all of a sequence
	seen                       int               // tokens of the prompt that they take, markers and time stamps included
	context, prompt, sequences int
	fused                      bool  // kernels of flash-linear-attention
	element                    int64 // bytes of an activation and of a cached element
	dtype                      profile.DType
	device                     workload.Device
	amx                        bool // the CPU multiplies bf16 in tiles
}

// see fills in what the processor makes of the images.
func (c *call) see(m *profile.Model) (err error) {
	if c.image == (Image{}) {
		return nil
	}
	if len(c.pictures) == 0 {
		c.pictures = []profile.Picture{{Width: c.image.Width, Height: c.image.Height, Count: c.images, Frames: c.frames}}
	}
	c.grid, c.seen, err = workload.Seen(m, workload.Options{Pictures: c.pictures})
	return err
}

// request is the call as package workload replays it.
func (c call) request(m *profile.Model, attention workload.Attention) workload.Options {
	o := workload.Options{
		Pictures: c.pictures, PromptTokens: c.prompt - c.seen, Batch: c.sequences,
		DType: c.dtype, Attention: attention, Device: c.device, AMX: c.amx,
		Fused: c.fused,
	}
	if m.Vision.ImageTokens > 0 { // the tower is not replayed: its tokens are text to the decoder
		o.Pictures, o.PromptTokens = nil, c.prompt
	}
	return o
}

// replayCall takes the allocations of the call from package workload, whose sequences equal recorded runs one by one.
func replayCall(m *profile.Model, c call, attention workload.Attention) (callPeak, error) {
	t, err := workload.Request(*m, c.request(m, attention))
	if err != nil {
		return callPeak{}, fmt.Errorf("replaying a call: %w", err)
	}
	var p callPeak
	live := map[trace.Kind]int64{}
	phase := ""
	for _, o := range t.Operations() {
		switch sum := units.Bytes(o.Live); {
		case o.Op == trace.OpMark:
			phase = t.Tags[o.Tag]
		case o.Was != nil:
			live[o.Was.Kind] -= o.Was.Size
		default:
			live[o.Kind] += o.Size
			p.all = max(p.all, sum)
			if phase == "prefill" && sum > p.prefill {
				p.prefill, p.cache, p.visionBytes = sum, units.Bytes(live[trace.KVCache]),
					units.Bytes(live[trace.VisionFeatures])
			}
		}
	}
	return p, nil
}

// estimateTransformers follows generate(). Items add up at the highest point: what the tower needs beyond the later
// cache and decoder stands in vision. The lower bound is the formula of transformers 4.57, which keeps less.
func estimateTransformers(m *profile.Model, o Options) (*Memory, error) {
	load, err := newTorchLoad(torchRules{name: "transformers"}, m, o)
	if err != nil {
		return nil, err
	}
	if err := load.cacheType(o.KVType); err != nil {
		return nil, err
	}
	if err := load.withoutFP8(m, o); err != nil {
		return nil, err
	}
	image := Image{1024, 1024}
	if o.Image != nil {
		image = *o.Image
	}
	c := call{image: image, images: orDefault(o.Images, 1), frames: o.Frames, pictures: o.Pictures,
		sequences: orDefault(o.Sequences, 1),
		element:   load.element, dtype: load.dtype, device: workload.CUDA}
	if o.Device == "cpu" {
		c.device, c.amx = workload.CPU, cpuFeatures(o.Llama.CPU).bf16Tiles
	}
	if err := c.see(m); err != nil {
		return nil, err
	}
	c.context = orDefault(o.Context, c.grid.Tokens+1024)
	c.prompt = min(orDefault(o.PromptTokens, c.context), c.context)
	if c.prompt <= c.seen && c.seen > 0 {
		return nil, fmt.Errorf("a prompt of %d tokens: images and videos alone are %d", c.prompt, c.seen)
	}
	mem := &Memory{Quant: load.name, KVType: torchName[load.dtype], ContextTokens: c.context}
	mem.torchWeights(m, o, load)
	if load.widened {
		mem.warn(Widened, "transformers %s computes in FP8 on cards of compute capability 8.9 and later alone: elsewhere "+
			"the weights become %s", transformersVersion, torchName[load.dtype])
		mem.asStored(m, o, load)
	}
	if err := mem.torchCall(m, o, c); err != nil {
		return nil, err
	}
	if o.Device == "gpu" {
		mem.torchCard()
	} else {
		return mem, mem.ownTransformers(m, load, c.request(m, torchAttention(m, o)))
	}
	return mem, nil
}

// withoutFP8 loads a checkpoint of FP8 in the type of the rest where the card has no arithmetic for it, and refuses to
// make FP8 of 16 bits there, which would change nothing (validate_environment in quantizer_finegrained_fp8.py).
func (l *torchLoad) withoutFP8(m *profile.Model, o Options) error {
	if l.quant == nil || l.quant.Method != "fp8" || o.Device != "cpu" && (o.GPU == nil || o.GPU.AtLeast(8, 9)) {
		return nil
	}
	if l.asked {
		return &Refusal{Engine: "transformers", Alternative: "leave the precision open, or take nf4, awq or gptq",
			Reason: "release " + transformersVersion + " makes FP8 on cards of compute capability 8.9 and later alone, and " +
				"loads 16 bits elsewhere"}
	}
	l.quant, l.widened, l.name = nil, true, torchName[l.dtype]
	return nil
}

// asStored puts the checkpoint's own form in the place of what it becomes, which stays the most, where nobody said what
// the model will run on.
func (mem *Memory) asStored(m *profile.Model, o Options, l torchLoad) {
	stored := &Memory{}
	if l.quant = m.Quantisation; !o.Anywhere {
		return
	}
	stored.torchWeights(m, o, l)
	mem.Quant = l.quant.Name
	for i, it := range stored.Items {
		widened := mem.Items[i]
		it.High = max(it.High, widened.High)
		mem.Items[i] = it
	}
}

// torchName is how PyTorch spells a type.
var torchName = map[profile.DType]string{profile.FP32: "float32", profile.FP16: "float16", profile.BF16: "bfloat16"}

// cacheType refuses a cache in another type than the model's: generate() has none but the quantised cache, whose
// buffers are not modelled.
func (l torchLoad) cacheType(name string) error {
	if name == "" || strings.EqualFold(name, "auto") {
		return nil
	}
	if d, known := profile.TorchDType(name); !known || d.Bytes() != l.element {
		return fmt.Errorf("--kv-type %s: transformers keeps the cache in the model's type, here %s; other engines have "+
			"others",
			name, torchName[l.dtype])
	}
	return nil
}

// What PyTorch takes beside tensors, and how far a replay may be off. All are assumed: no release states them, and they
// are round figures on the wide side.
const (
	// A context of CUDA with PyTorch's kernels in it, which differs by card, driver and wheel.
	torchContext, leastTorchContext, mostTorchContext = 500 * units.MiB, 300 * units.MiB, 800 * units.MiB
	// Reserved and not in use, as a share of what a call holds: between the median of recorded programs, 4 %, and their
	// most, 16 %, which three times as much covers.
	torchReserve, mostTorchReserve = 0.06, 3
	// A cache that grows by concatenation holds a layer's old and new tensor at once, below 4 % of 28 layers and more, and
	// leaves holes of every size it had: the rest is room for these.
	mostCache = 1.15
	// A replay knows each allocation, and not the blocks that the allocator rounds it to nor what kernels ask for.
	mostReplayed, leastTower = 1.05, 0.9
	// A decoder of another family than was recorded does the same work with temporary tensors of its own: half as much
	// again.
	mostForeign = 1.5
	// A tower that is not replayed: half of one block's tensors at its peak, or twice as many.
	leastForeignTower, mostForeignTower = 0.5, 2
)

// torchCard adds what PyTorch takes of a card beside tensors.
func (mem *Memory) torchCard() {
	mem.add("CUDA context", "device", torchContext, leastTorchContext, mostTorchContext, Assumed,
		"driver context, cuBLAS and cuDNN workspaces, PyTorch's kernels")
	var call units.Bytes
	for _, i := range mem.Items {
		if i.Name == KVCache || i.Name == Compute || i.Name == Vision {
			call += i.Bytes
		}
	}
	reserve := scaled(call, torchReserve)
	mem.add("allocator", "device", reserve, 0, mostTorchReserve*reserve, Assumed,
		"reserved but not in use by PyTorch's caching allocator: 4 %% in the median of recorded programs, 16 %% at most")
}

// torchAttention is the attention that a call runs with. transformers 5.24 refuses sdpa for Gemma 2, whose scores are
// capped, and for gpt-oss, whose scores have sinks, and runs them eager.
func torchAttention(m *profile.Model, o Options) workload.Attention {
	switch eager := m.Kind == "gemma2" || m.Kind == "gpt_oss"; {
	case o.FlashAttention == "off", eager && o.FlashAttention != "on":
		return workload.Eager
	case m.Text.Variant != nil && m.Text.Variant.Latent != nil && o.Device == "cpu":
		return workload.Math // the CPU's kernel wants keys and values of one width
	case slowAttention(o):
		return workload.NoFlash
	}
	return workload.Flash
}

// unpacked is the model that is replayed: compressed keys are unpacked for every head before attention.
func unpacked(m *profile.Model) *profile.Model {
	if !m.Text.Uniform() { // every layer keeps its own, as wide as the layers that slide
		whole, v := *m, *m.Text.Variant
		v.SharedLayers, v.FullHeadDim, v.FullKVHeads = 0, 0, 0
		whole.Text.Variant = &v
		return &whole
	}
	if m.Text.Variant == nil || m.Text.Variant.Latent == nil {
		return m
	}
	l, whole := m.Text.Variant.Latent, *m
	whole.Text.HeadDim, whole.Text.KVHeads = l.NopeDim+l.RopeDim, m.Text.Heads
	return &whole
}

// torchCall adds what one call holds beyond the weights.
func (mem *Memory) torchCall(m *profile.Model, o Options, c call) error {
	attention, b := torchAttention(m, o), c.element
	own := m
	m = unpacked(m)
	p, err := replayCall(m, c, attention)
	if err != nil {
		return err
	}
	least := p
	if attention == workload.NoFlash { // newer releases of torch have a fused kernel after all
		if least, err = replayCall(m, c, workload.Flash); err != nil {
			return err
		}
	}
	sequences := int64(c.sequences)
	old := newTransformersPeak(m, c.grid, c.prompt*c.sequences, b)
	oldPeak := max(old.tower(), old.prefill(len(m.Vision.DeepstackLayers)))
	// The replay keeps every token in every layer; what this decoder keeps of the prompt stands in its place.
	replayed := units.Bytes(sequences * int64(c.prompt) * int64(2*m.Text.CachedLayers()*m.Text.KVHeads*m.Text.HeadDim) * b)
	replayed += units.Bytes(sequences * own.Text.StateBytes(b))
	kept := func(tokens int) units.Bytes {
		return units.Bytes(sequences * (own.Text.CachedElements(tokens)*b + own.Text.StateBytes(b)))
	}
	cache := kept(c.context)
	output := units.Bytes(sequences * int64(m.Text.VocabSize) * (b + 4))
	// Tokens yet to come lengthen the cache when the prefill's working memory is free again.
	compute := max(p.prefill-p.visionBytes-output-replayed+kept(c.prompt)-cache, cache/units.Bytes(m.Text.Layers))
	vision := max(p.visionBytes, p.all-compute-output-cache)
	lowest := max(0, min(least.prefill, oldPeak)-p.visionBytes-output-cache)
	mem.add(KVCache, o.place(), cache, cache, scaled(cache, mostCache), Derived,
		"%s; the cache grows by copying and leaves holes", cached(&m.Text, c))
	source, most, as := Derived, mostReplayed, ""
	if v := m.Text.Variant; v != nil && v.Architecture != "qwen3" && v.Linear == nil {
		source, most, as = Assumed, mostForeign, ", as Qwen3-VL's decoder of this size would"
	}
	mem.add(Compute, o.place(), compute, min(compute, lowest), scaled(compute, most), source,
		"prefill of %d tokens with %s attention, allocation by allocation%s", c.prompt*c.sequences, attention, as)
	if m.Text.Variant != nil && m.Text.Variant.Linear != nil && o.Device == "gpu" {
		if err := mem.fusedDelta(m, c, attention, output+cache); err != nil {
			return err
		}
	}
	mem.exact(Output, o.place(), output, "logits of one token of each sequence, and their fp32 copy")
	if c.grid.Patches > 0 {
		mem.torchVision(m, o, c, vision)
	}
	return nil
}

// cached says what the cache holds.
func cached(t *profile.Text, c call) string {
	text := fmt.Sprintf("%d tokens", c.context)
	if c.sequences > 1 {
		text = fmt.Sprintf("%d sequences of %s", c.sequences, text)
	}
	if n := t.LinearLayers(); n > 0 {
		text += fmt.Sprintf(" in %d layers and the states of %d", t.CachedLayers(), n)
	}
	return text
}

// torchVision adds the tower's part of a call: as replayed for the towers of Qwen3-VL's kind, else by the tensors that
// any block holds.
func (mem *Memory) torchVision(m *profile.Model, o Options, c call, replayed units.Bytes) {
	what := fmt.Sprintf("%dx%d, %d patches, %d tokens", c.grid.Width, c.grid.Height, c.grid.Patches, c.grid.Tokens)
	v := m.Vision
	if v.Kind == "" || v.Kind == profile.Qwen25Tower {
		mem.add(Vision, o.place(), replayed, scaled(replayed, leastTower), scaled(replayed, mostReplayed), Derived,
			"%s: pixels, features, and the tower's peak beyond the rest", what)
		return
	}
	n := int64(c.grid.Patches * c.sequences)
	block := n * int64(8*v.HiddenSize+2*v.IntermediateSize) * c.element
	features := int64(c.grid.Tokens*c.sequences) * int64(v.OutHiddenSize) * c.element
	size := units.Bytes(c.grid.PixelBytes()*int64(c.sequences) + block + features)
	mem.add(Vision, o.place(), size, scaled(size, leastForeignTower), scaled(size, mostForeignTower), Assumed,
		"%s: pixels, features and one block of a %s tower, which is not replayed", what, v.Kind)
}

// slowAttention reports whether the decoder's grouped heads fall back to plain scores: flash attention needs compute
// capability 8.0, and the memory-efficient kernels refused grouped heads in torch before 2.14.
func slowAttention(o Options) bool {
	if o.FlashAttention == "off" {
		return true
	}
	if o.FlashAttention == "on" || o.GPU == nil || o.Device != "gpu" {
		return false
	}
	major, _, err := o.GPU.Capability()
	return err == nil && major < 8
}

// torchImage is the grid of the image that is sent; without --image that of fallback.
func torchImage(m *profile.Model, o Options, fallback Image) (profile.Grid, error) {
	i := fallback
	if o.Image != nil {
		i = *o.Image
	}
	if i == (Image{}) {
		return profile.Grid{}, nil
	}
	return m.ImageGrid(i.Width, i.Height)
}

func writeTransformers(s Settings) (*Bundle, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	var model, images, generate, torch lines
	form, err := formOf(transformersForms, "transformers", s.Quant)
	if err != nil {
		return nil, err
	}
	path, pathWhy, dtype, dtypeWhy := s.load(form)
	model.add("pretrained_model_name_or_path", path, "%s", pathWhy)
	model.add("dtype", dtype, "%s", dtypeWhy)
	if config := transformersQuantization[form.Method]; config != nil {
		model.add("quantization_config", config, "the 16-bit weights are quantised as they are loaded")
	}
	attention := "sdpa"
	if s.Flash == "off" {
		attention = "eager"
	}
	model.add("attn_implementation", attention, "fused attention where the card has it")
	model.add("device_map", "auto", "fills the card first, then the host")
	inJSON := slices.Clone(model)
	if s.GPU == nil {
		model[len(model)-1] = setting{"device_map", "cpu", "no card is given"}
		inJSON = model
	} else if s.Device > 0 && s.Host > 0 {
		// JSON has no numbers for keys, which are how max_memory names cards: there the placement itself is written.
		inJSON[len(inJSON)-1] = setting{"device_map", s.placement(form), ""}
		memory := []setting{{"0", mib(s.Device), ""}, {"cpu", mib(s.Host), ""}}
		model.add("max_memory", memory, "weights alone, with the room through which those of the host pass")
	}
	if pixels > 0 {
		images.add("size", s.imageSize(pixels),
			"areas in pixels, of images alone: a video's frames have a limit of their own")
	}
	if s.KVType == "static" || s.KVType == "offloaded" || s.KVType == "offloaded_static" || s.KVType == "quantized" {
		generate.add("cache_implementation", s.KVType, "as given")
	} else if s.Sequences <= 1 && s.Context > 0 {
		generate.add("cache_implementation", "static", "a growing cache copies itself at every token and leaves holes")
		generate.add("max_cache_len", s.Context, "tokens of the cache")
		if major := s.major(); major > 0 && major < 7 {
			generate.add("disable_compile", true, "a static cache is compiled by default, which needs compute capability 7.0")
		}
	}
	torch.add("set_num_threads", s.Threads, "%s; left out, PyTorch counts the CPUs of its affinity, and no quota",
		s.ThreadsWhy)
	b := Bundle{settings: slices.Concat(model, images, generate, torch)}
	document := lines{{"from_pretrained", []setting(inJSON), ""}, {"image_processor", []setting(images), ""},
		{"generate", []setting(generate), ""}}
	if len(torch) > 0 {
		document = append(document, setting{"torch", []setting(torch), ""})
	}
	b.Files = []File{{"transformers.json", jsonText(document)},
		{"transformers.py", pythonText(s.spelled, model, images, generate, torch)}}
	b.Use = []string{"import runpy; load = runpy.run_path('transformers.py')['load']; model, processor, generate = load()"}
	b.Notes = s.threadsNote()
	return &b, nil
}

// layering is a model's parts in the order in which accelerate places them, in bytes: tower, embeddings, one decoder
// layer, and the head, which a tied table does not have.
func layering(m *profile.Model, f Form) (tower, embed, layer, head units.Bytes) {
	p, rest := m.Parameters(), max(f.Bits, 16)/8
	layer = scaled(units.Bytes((p.Layers-int64(m.Text.HiddenSize))/int64(m.Text.Layers)), f.Bits/8)
	return scaled(units.Bytes(p.VisionCore+p.Merger+p.Deepstack), rest), scaled(units.Bytes(p.Embed), rest), layer,
		scaled(units.Bytes(p.LMHead), rest)
}

// transformersSplit is max_memory for a card that may hold so much of the weights, as accelerate 1.15 fills it in the
// order of the modules: where not everything fits, room for the largest of what is still to be placed, a layer or an
// untied head, is kept free on the card, and that is where the host's pass through. Whatever the host's limit has no
// room for goes to the disk without a word.
//
//	card = tower + embeddings + n·layer + max(layer, head), n ≥ 1,  host = the rest
func transformersSplit(m *profile.Model, o Options, card units.Bytes) (device, host, missing units.Bytes) {
	f, err := formOf(transformersForms, "transformers", o.Quant)
	if err != nil {
		return 0, 0, m.WeightBytes(profile.BF16)
	}
	tower, embed, layer, head := layering(m, f)
	if f.Method != "" { // what is quantised while it is loaded lies on the card, or is refused
		whole := tower + embed + layer*units.Bytes(m.Text.Layers) + head
		return 0, 0, max(whole-card, 1)
	}
	spare := card - units.MiB - tower - embed - max(layer, head)
	if spare < layer {
		return 0, 0, layer - spare
	}
	n := min(spare/layer, units.Bytes(m.Text.Layers-1))
	up := func(b units.Bytes) units.Bytes { return (b + units.MiB - 1) / units.MiB * units.MiB }
	on := tower + embed + n*layer
	// norms and what is counted nowhere else: a MiB more
	return up(on + max(layer, head)), up(layer*units.Bytes(m.Text.Layers)+head-n*layer) + units.MiB, 0
}

// placement is the device_map that those limits lead to: what stays on the card, and the host's layers and head.
func (s *Settings) placement(f Form) []setting {
	tower, embed, layer, head := layering(s.Model, f)
	n := int((s.Device - tower - embed - max(layer, head)) / layer)
	list := []setting{{"model.visual", 0, ""}, {"model.language_model.embed_tokens", 0, ""},
		{"model.language_model.rotary_emb", 0, ""}}
	for i := range s.Model.Text.Layers {
		where := any(0)
		if i >= n {
			where = "cpu"
		}
		list = append(list, setting{fmt.Sprintf("model.language_model.layers.%d", i), where, ""})
	}
	last := any("cpu")
	if head == 0 {
		last = 0 // tied to the embeddings
	}
	return append(list, setting{"model.language_model.norm", "cpu", ""}, setting{"lm_head", last, ""})
}

// mib writes a size as accelerate reads it.
func mib(b units.Bytes) string { return fmt.Sprintf("%dMiB", b/units.MiB) }
