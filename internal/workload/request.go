package workload

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
)

// Attention is an implementation of attention in transformers.
type Attention string

// The implementations. Flash is sdpa with a fused kernel that takes grouped queries. NoFlash is sdpa below sm_80, with
// releases of PyTorch whose memory-efficient kernel refuses grouped queries (2.9 did, 2.14 no longer): the tower gets
// that kernel, the decoder none. Math is sdpa without any fused kernel. CuDNN is what sdpa takes from sm_90 on in 16
// bits. Eager is attn_implementation="eager".
const (
	Flash   Attention = "flash"
	CuDNN   Attention = "cudnn"
	NoFlash Attention = "no-flash"
	Math    Attention = "math"
	Eager   Attention = "eager"
)

// Cache is an implementation of the KV cache in transformers.
type Cache string

// The implementations: one that grows by concatenation, the default there, and one that takes all its room at first
// use.
const (
	Dynamic Cache = "dynamic"
	Static  Cache = "static"
)

// Device is where the program runs. The sequences differ in what kernels take beside their results.
type Device string

// The devices.
const (
	CUDA Device = "cuda"
	CPU  Device = "cpu"
)

// Options is one call of generate. The zero value of each field is its default.
type Options struct {
	Width, Height int               // of each image as given, in pixels, before resizing; 0 for text alone
	Images        int               // such images in each sequence; 1 where there is a size
	Frames        int               // sampled frames: above 0 each image is a video
	Pictures      []profile.Picture // of each sequence, in place of the four above
	PromptTokens  int               // of text in each sequence, beside vision tokens and their markers
	DecodeTokens  int               // decode steps after the prefill, which yields the first token
	Batch         int               // sequences; 1
	DType         profile.DType     // of weights, activations and KV cache; bf16
	Attention     Attention         // flash
	Cache         Cache             // dynamic
	Device        Device            // cuda
	Threads       int               // of the CPU; 1
	AMX           bool              // the CPU multiplies bf16 in tiles
	Hopper        bool              // the card is sm_90 or sm_100
	Fused         bool              // flash-linear-attention and causal-conv1d are installed, which Qwen3.5 runs on

	// Kernels are the sizes of what the library of matrix products makes, on a CPU, at the first product of a shape and
	// keeps: no tensors, so that recordings have none. Their operator is Kernel, and they end with the request.
	Kernels []int64

	// Into is memory of events that are not used any more, where the trace may lie; nil for new.
	Into []trace.Event

	layerByLayer bool // layers are written one by one, though they repeat
}

// Kernel is the operator that allocates what a library keeps of a product.
const Kernel = "kernel"

// pictures are those of one sequence, one by one.
func (o *Options) pictures() (list []profile.Picture) {
	all := o.Pictures
	if len(all) == 0 && o.Images > 0 {
		all = []profile.Picture{{Width: o.Width, Height: o.Height, Count: o.Images, Frames: o.Frames}}
	}
	for _, p := range all {
		list = append(list, slices.Repeat([]profile.Picture{p}, max(p.Count, 1))...)
	}
	return list
}

// Reckoned are the keys of a request file that a call of generate is replayed with.
var Reckoned = []string{profile.KeySizes, profile.KeyFrames}

// Take is a request file in the place of what nobody typed, by the names of trace gen's flags. The answer's first token
// is the prefill's.
func (o *Options) Take(r *profile.Request, typed func(flag string) bool) error {
	for _, key := range r.Keys() {
		if !slices.Contains(Reckoned, key) {
			return fmt.Errorf("%s is not replayed: of what not every request has, %s are", key,
				strings.Join(Reckoned, " and "))
		}
	}
	if !typed("image") && !typed("images") && !typed("frames") {
		o.Pictures, o.Width, o.Height, o.Images, o.Frames = r.Images, 0, 0, 0, 0
	}
	for _, x := range []struct {
		flag  string
		into  *int
		value int
	}{{"prompt", &o.PromptTokens, r.Prompt}, {"decode", &o.DecodeTokens, max(0, r.Output-1)},
		{"batch", &o.Batch, r.Sequences}} {
		if !typed(x.flag) && (x.value > 0 || x.flag == "prompt") {
			*x.into = x.value
		}
	}
	return nil
}

// Alone makes the only picture of a request that of the options, and refuses what one image and one sequence cannot be.
func (o *Options) Alone() error {
	all := o.pictures()
	switch {
	case len(all) > 1 || o.Batch > 1 || len(all) == 1 && all[0].Frames > 0:
		return errors.New("one image in one sequence is replayed")
	case len(all) == 1:
		o.Width, o.Height, o.Images, o.Pictures = all[0].Width, all[0].Height, 1, nil
	}
	return nil
}

// Show sets the size of each image, WIDTHxHEIGHT, or "none" for text alone.
func (o *Options) Show(image string) (err error) {
	if image != "none" {
		o.Width, o.Height, err = profile.ParseImage(image)
	}
	return err
}

func (o *Options) setDefaults() {
	if o.Width > 0 && o.Images == 0 {
		o.Images = 1
	}
	if o.Batch == 0 {
		o.Batch = 1
	}
	if o.DType == "" {
		o.DType = profile.BF16
	}
	if o.Attention == "" {
		o.Attention = Flash
	}
	if o.Cache == "" {
		o.Cache = Dynamic
	}
	if o.Device == "" {
		o.Device = CUDA
	}
}

// mostImages is of all sequences together: each is a grid of its own in memory.
const mostImages = 1 << 16

// form refuses what a request cannot be at once.
func (o *Options) form() error {
	videos, images := 0, o.Images
	for _, p := range o.Pictures {
		images += max(p.Count, 1)
		if p.Frames > 0 {
			videos += max(p.Count, 1)
		}
	}
	switch {
	case len(o.Pictures) > 0 && o.Width+o.Images+o.Frames > 0:
		return errors.New("pictures are given twice, by size and in a list")
	case videos > 0 && videos < images:
		return errors.New("images and videos in one request: the tower takes them in two passes, which is not replayed")
	}
	return nil
}

func (o *Options) validate() error {
	if err := o.form(); err != nil {
		return err
	}
	switch {
	case o.Images < 0 || o.Frames < 0 || o.PromptTokens < 0 || o.DecodeTokens < 0 || o.Batch < 0 || o.Threads < 0:
		return errors.New("counts of images, frames, tokens, sequences and threads may not be negative")
	case o.Images > mostImages/max(o.Batch, 1):
		return fmt.Errorf("%d images in each of %d sequences: at most %d together make sense", o.Images, o.Batch, mostImages)
	case o.PromptTokens == 0 && o.Images == 0 && len(o.Pictures) == 0:
		return errors.New("neither an image nor prompt tokens are given")
	case o.Frames > 0 && o.Images == 0:
		return errors.New("a video needs a width and a height")
	case o.DType != profile.FP32 && o.DType != profile.BF16 && o.DType != profile.FP16:
		return fmt.Errorf("element type %q: want fp32, bf16 or fp16", o.DType)
	case !slices.Contains([]Attention{Flash, CuDNN, NoFlash, Math, Eager}, o.Attention):
		return fmt.Errorf("attention %q: want flash, cudnn, no-flash, math or eager", o.Attention)
	case o.Attention == CuDNN && (o.Device == CPU || o.DType == profile.FP32):
		return errors.New("attention cudnn: want a card and bf16 or fp16")
	case o.Cache != Dynamic && o.Cache != Static:
		return fmt.Errorf("cache %q: want dynamic or static", o.Cache)
	case o.Device != CUDA && o.Device != CPU:
		return fmt.Errorf("device %q: want cuda or cpu", o.Device)
	}
	return nil
}

// Request is the memory behaviour of one call of transformers' generate, weights not included: phases inputs, prepare,
// vision, prefill and one decode per further token. The trace ends with nothing live.
func Request(model profile.Model, o Options) (*trace.Trace, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	each, err := o.grids(&model)
	if err != nil {
		return nil, err
	}
	g := generation{
		program: newProgram(name(model, o), &model, o),
		x:       gather(each.video, slices.Repeat(each.grids, o.Batch)...), batch: int64(o.Batch),
		perSequence: len(each.grids), prompt: promptTokens(&model, each, int64(o.PromptTokens)),
		text: int64(o.PromptTokens),
	}
	if limit := int64(model.Text.MaxPositions); g.prompt+int64(o.DecodeTokens) > limit {
		return nil, fmt.Errorf("%d prompt and %d decode tokens exceed the model's %d positions", g.prompt, o.DecodeTokens,
			limit)
	}
	if o.Cache == Static {
		g.kv.capacity = g.prompt + int64(o.DecodeTokens)
	}
	g.layerByLayer = o.layerByLayer
	layers := model.Vision.Depth + model.Text.Layers*(2+o.DecodeTokens)
	g.events.Into(o.Into, layers*layerEvents)
	g.run(o.DecodeTokens)
	return g.events.Trace(), nil
}

// layerEvents is about how many a layer writes at a time, its share of what is around it included.
const layerEvents = 128

// grids are what the processor makes of the pictures of one sequence.
func (o *Options) grids(m *profile.Model) (x images, err error) {
	var list []profile.Grid
	for _, p := range o.pictures() {
		var g profile.Grid
		if p.Frames > 0 {
			g, err = m.VideoGrid(p.Width, p.Height, p.Frames)
		} else {
			g, err = m.ImageGrid(p.Width, p.Height)
		}
		if err != nil {
			return x, err
		}
		list = append(list, g)
		x.video = p.Frames > 0
	}
	return gather(x.video, list...), nil
}

// Seen is what the processor makes of the first image or video of a request, with the patches and tokens of all of a
// sequence, and the tokens that these take of its prompt, with their markers and time stamps.
func Seen(m *profile.Model, o Options) (g profile.Grid, tokens int, err error) {
	o.setDefaults()
	all, err := o.grids(m)
	if err != nil || len(all.grids) == 0 {
		return g, 0, err
	}
	g = all.grids[0]
	g.Patches, g.Tokens = int(all.patches), int(all.tokens)
	return g, int(promptTokens(m, all, 0)), nil
}

func name(m profile.Model, o Options) string {
	all := o.pictures()
	if len(all) == 0 {
		return fmt.Sprintf("%s text %d+%d %s", m.Name, o.PromptTokens, o.DecodeTokens, o.DType)
	}
	return fmt.Sprintf("%s %dx%d %d+%d %s", m.Name, all[0].Width, all[0].Height, o.PromptTokens, o.DecodeTokens, o.DType)
}

// promptTokens is the length of one sequence: text, vision tokens with two markers around each image or each temporal
// patch of a video, and before each such patch its time stamp.
func promptTokens(m *profile.Model, x images, text int64) int64 {
	n := text
	for _, g := range x.grids {
		if m.Vision.Kind == profile.Qwen25Tower { // a video stands in one piece, without time stamps
			n += int64(g.Tokens) + 2
			continue
		}
		n += int64(g.Tokens) + 2*int64(g.Temporal)
		for i := range g.Temporal {
			n += x.timestamp(m, i)
		}
	}
	return n
}

// timestamp is the length in tokens of "<3.3 seconds>" before temporal patch i of a video: one token per digit and
// point, and three for "<", " seconds" and ">". The tokenizer splits numbers into digits.
func (x *images) timestamp(m *profile.Model, i int) int64 {
	if !x.video || m.Vision.Kind == profile.Qwen25Tower {
		return 0
	}
	t := float64(m.Vision.TemporalPatchSize)
	seconds := (t*float64(i) + (t-1)/2) / m.Preprocess.VideoFPS
	return int64(len(fmt.Sprintf("%.1f", seconds))) + 3
}

// generation is one call of generate in progress.
type generation struct {
	*program
	x           images
	batch       int64
	perSequence int
	prompt      int64 // tokens of each sequence
	text        int64 // of which text, half of it before the images

	inputs    []block // held by the caller
	prepared  []block // what generate keeps: unfinished flags, rope deltas, position ids
	features  features
	kv        kvCache
	length    int64   // tokens of each sequence so far
	carried   step    // from the step before
	following []block // inputs of the next step
}

// step is what one step of generate leaves to the next.
type step struct{ mask, positions, logits, next, ids, unfinished block }

func (g *generation) run(steps int) {
	g.takeInputs()
	g.prepare()
	vision := len(g.x.grids) > 0
	if vision {
		g.events.Mark("vision")
		g.features = g.tower(g.x)
	}
	g.events.Mark("prefill")
	g.prefill(vision, steps)
	for i := range steps {
		g.decodeStep(i == steps-1)
	}
	g.finish(vision)
}

// takeInputs are the tensors of the processor, which the caller of generate holds.
func (g *generation) takeInputs() {
	g.module = "inputs"
	g.events.Mark("inputs")
	if n := g.x.patches; n > 0 {
		g.inputs = append(g.inputs,
			g.keep(trace.VisionFeatures, "pixel_values", 4*n*int64(g.x.grids[0].PatchWidth)),
			g.alloc("grid_thw", 24*int64(len(g.x.grids))))
	}
	rows := 8 * g.batch * g.prompt
	g.inputs = append(g.inputs, g.alloc("token_types", rows), g.alloc("input_ids", rows), g.alloc("attention_mask", rows))
}

// prefill embeds the prompt, scatters the vision features into it and runs the decoder over all of it.
func (g *generation) prefill(vision bool, steps int) {
	d, rows := int64(g.model.Text.HiddenSize), g.batch*g.prompt
	g.module = "prefill"
	if g.kv.capacity > 0 {
		for range g.model.Text.CachedLayers() {
			g.prepared = append(g.prepared, g.alloc("static_cache.length", 8))
		}
	}
	g.anyOf(rows)
	g.carried.unfinished = g.alloc("unfinished", 8*g.batch)
	ids := g.alloc("input_ids", 8*rows)
	var mask []block
	if g.kv.capacity > 0 && g.attn == Eager {
		mask = append(mask, g.eagerMask(pass{batch: g.batch, length: g.prompt}, &g.kv, true))
	}
	embeds := g.keep(trace.TextEmbeddings, "embed_tokens", rows*d*g.elem)
	s := pass{batch: g.batch, length: g.prompt, vision: g.x.tokens}
	var held []block
	if vision {
		embeds, held = g.scatter(embeds, g.x, rows)
		for range g.features.deepstack {
			s.deepstack = append(s.deepstack, g.keep(trace.VisionFeatures, "deepstack", g.x.tokens*d*g.elem))
		}
	}
	normed := g.decode(s, embeds, &g.kv)
	g.module = "prefill"
	g.free(embeds)
	g.free(held...)
	g.free(reversed(s.deepstack)...)
	g.length = g.prompt
	logits := g.head(normed)
	g.free(ids)
	g.free(mask...)
	g.advance(logits, steps == 0)
}

// head frees the normed states and returns the logits of the last token of each sequence.
func (g *generation) head(normed block) block {
	g.module = "head"
	logits := g.linear("lm_head", trace.General, g.batch, int64(g.model.Text.VocabSize))
	g.free(normed)
	return logits
}

// advance is generate's bookkeeping after a step: mask and positions one token longer, a copy of the logits in fp32,
// the next token, and the inputs of the next step with its embeddings. It frees the logits and what the step before
// left.
func (g *generation) advance(logits block, last bool) {
	b, old := g.batch, g.carried
	g.module = "generate"
	first := g.length == g.prompt
	ones := g.alloc("ones", 8*b)
	next := step{mask: g.alloc("attention_mask", 8*b*(g.length+1))}
	g.free(ones)
	order := g.alloc("arange", 8)
	position := g.alloc("position", 32*b)
	g.free(order)
	shifted := g.integerOp("add", 32*b)
	g.free(position)
	next.positions = g.alloc("position_ids", 32*b*(g.length+1))
	g.free(shifted)
	if !first {
		g.free(old.mask, old.positions)
	}
	next.logits = g.alloc("logits_fp32", 4*b*int64(g.model.Text.VocabSize))
	if !first {
		g.free(old.logits)
	}
	next.next = g.alloc("argmax", 8*b)
	if g.hopper { // blocks of a reduction meet in memory: 38 of them for a vocabulary of 151,936 on an H100
		partial, semaphore := g.alloc("argmax.partial", 304*b), g.alloc("argmax.semaphore", 4*b)
		g.free(semaphore, partial)
	}
	if !first {
		g.free(old.next)
	}
	if g.model.EndTokens > 0 {
		next.next = g.padFinished(next.next)
	}
	next.ids = g.alloc("ids", 8*b*(g.length+1))
	if !first {
		g.free(old.ids)
	}
	next.unfinished = g.stop()
	g.free(old.unfinished)
	g.anyUnfinished()
	g.free(logits)
	g.carried = next
	if last {
		return
	}
	before := g.following
	g.following = []block{g.alloc("next.flag", 8*b), g.alloc("next.positions", 32*b), g.alloc("next.ids", 8*b)}
	token := pass{batch: b, length: 1, past: g.length}
	switch {
	case g.kv.capacity > 0 && g.attn == Eager:
		g.following = append(g.following, g.eagerMask(token, &g.kv, false))
	case g.kv.capacity > 0:
		g.following = append(g.following, g.boolMask(token, g.kv.capacity, false))
	}
	g.free(before...)
}

// padFinished puts padding in the place of tokens that sequences which have ended would add. It frees the tokens.
func (g *generation) padFinished(tokens block) block {
	kept := g.alloc("next.mul", 8*g.batch)
	ended := g.integerOp("next.rsub", 8*g.batch)
	padding := g.alloc("next.pad", 8*g.batch)
	g.free(ended)
	out := g.alloc("next.add", 8*g.batch)
	g.free(kept, padding, tokens)
	return out
}

// stop asks the stopping criteria which sequences go on.
func (g *generation) stop() block {
	b := g.batch
	done, met := g.alloc("stop.done", b), g.alloc("stop.met", b)
	either := g.alloc("stop.or", b)
	g.free(met, done)
	if n := int64(g.model.EndTokens); n > 0 {
		equal, ended := g.alloc("stop.isin", n*b), g.alloc("stop.any", b)
		g.free(equal)
		each := g.alloc("stop.or", b)
		g.free(ended, either)
		either = each
	}
	running := g.alloc("stop.not", b)
	g.free(either)
	if g.hopper { // the kernel casts as it reads
		out := g.alloc("unfinished", 8*b)
		g.free(running)
		return out
	}
	wide := g.alloc("stop.to_int64", 8*b)
	out := g.alloc("unfinished", 8*b)
	g.free(wide, running)
	return out
}

// anyUnfinished asks whether any sequence does.
func (g *generation) anyUnfinished() {
	highest := g.alloc("stop.max", 8)
	none := g.integerOp("stop.eq", 1)
	g.free(highest, none)
}

// decodeStep runs the decoder over one token of each sequence.
func (g *generation) decodeStep(last bool) {
	g.events.Mark("decode")
	g.module = "decode"
	s := pass{batch: g.batch, length: 1, past: g.length}
	embeds := g.keep(trace.TextEmbeddings, "embed_tokens", g.batch*int64(g.model.Text.HiddenSize)*g.elem)
	normed := g.decode(s, embeds, &g.kv)
	g.free(embeds)
	g.length++
	g.advance(g.head(normed), last)
}

// finish returns from generate.
func (g *generation) finish(vision bool) {
	g.free(g.carried.positions, g.carried.mask, g.carried.unfinished)
	g.free(g.following...)
	g.free(g.carried.logits, g.carried.next)
	g.free(g.prepared...)
	if vision {
		g.free(g.features.all()...)
	}
	g.freeCache(&g.kv)
	g.free(g.carried.ids)
	g.free(g.inputs...)
	if g.workspace {
		g.free(g.blas)
	}
	g.free(g.kept...)
}
