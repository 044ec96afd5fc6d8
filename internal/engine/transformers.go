package engine

import (
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// The transformers whose modeling_qwen3_vl.py was followed, and the one whose arguments are written.
const (
	TransformersVersion = "4.57"
	TransformersWritten = "5.23.0"
)

// transformersPeak is what one generate() call holds beyond the weights at its two peaks, in bytes, for one sequence with
// elements of b bytes, N patches that become T tokens, S tokens of prompt, P values a patch, C the tower's width, d its head
// width, D, F, L, Hkv and h the decoder's. Flash or memory-efficient attention, no gradient.
//
//	tower   = 4PN + 2PN + 17b·NC + b·NC + 16·N·d + levels·b·T·D + b·S·D
//	          pixels, their cast, the block's fp32 rotary peak, position embeddings, rotary tables, deepstack, text embeddings
//	prefill = 4PN + b·S·D + (levels+1)·b·T·D + b·S·2·L·Hkv·h + 3b·S·(D+F) + 4h·S + 24S
//	          pixels, embeddings, image features, KV cache, the MLP's peak, rotary tables, position ids
//
// The tower's 17b·NC is, in NC units of b = 2: x 2, norm 2, qkv 6, q and k in fp32 4 + 4, and 16 for one rotation under way.
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
		towerWork:  units.Bytes(g.PixelBytes()/4*b + 17*b*n*c + b*n*c + 16*n*c/int64(v.Heads)),
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

// mathAttention is what scores take where neither flash nor memory-efficient attention serves the decoder: two fp32 copies.
func mathAttention(t *profile.Text, prompt int) units.Bytes {
	return units.Bytes(8 * int64(t.Heads) * int64(prompt) * int64(prompt))
}

// dtypes are the weight types that the PyTorch engines take, in bits an element.
var dtypes = map[string]float64{
	"float32": 32, "fp32": 32, "float16": 16, "fp16": 16, "half": 16, "bfloat16": 16, "bf16": 16, "auto": 16, "": 16,
	"fp8": 8, "int8": 8, "nf4": 4.5, "int4": 4.5, "awq": 4.25, "gptq": 4.25,
}

func dtypeBits(engine, name string) (float64, error) {
	bits, ok := dtypes[strings.ToLower(name)]
	if !ok {
		return 0, fmt.Errorf("unknown data type %q for %s: want float32, float16, bfloat16, fp8, int8, int4, awq or gptq", name, engine)
	}
	return bits, nil
}

// torchWeights are the weights of a PyTorch engine. Types below 16 bits hold the decoder's matrices; the tower, the mergers,
// the embeddings and the head stay in 16 bits, as the published quantised checkpoints have them.
func torchWeights(m *profile.Model, bits float64) (decoder, vision units.Bytes) {
	p := m.Parameters()
	rest := max(bits, 16) / 8
	vision = scaled(units.Bytes(p.VisionCore+p.Merger+p.Deepstack), rest)
	return scaled(units.Bytes(p.Layers), bits/8) + scaled(units.Bytes(p.Embed+p.LMHead), rest), vision
}

func (mem *Memory) torchWeights(m *profile.Model, o Options, bits float64) {
	decoder, vision := torchWeights(m, bits)
	source, why := Derived, fmt.Sprintf("parameters in %g bits", bits)
	if bits < 16 {
		source = Assumed
		why += "; scales, and what stays in 16 bits, differ by checkpoint"
	}
	if o.Files != nil && o.Files.Decoder != nil {
		mem.add(Weights, o.place(), *o.Files.Decoder, *o.Files.Decoder, *o.Files.Decoder, FromFile, "tensors in the files' headers, tower included")
		return
	}
	spread := 0.0
	if bits < 16 {
		spread = 0.05
	}
	mem.add(Weights, o.place(), decoder, scaled(decoder, 1-spread), scaled(decoder, 1+spread), source, "decoder, embeddings and head: %s", why)
	mem.add(VisionWeights, o.place(), vision, vision, vision, Derived, "tower and mergers: parameters in 16 bits or more")
}

// estimateTransformers follows generate() on one sequence. Items add up at whichever of the two peaks is higher: what the
// tower needs beyond the later cache and decoder stands in vision.
func estimateTransformers(m *profile.Model, o Options) (*Memory, error) {
	if o.Quant == "" {
		o.Quant = "float16"
	}
	bits, err := dtypeBits("transformers", o.Quant)
	if err != nil {
		return nil, err
	}
	b := int64(max(bits, 16)) / 8
	mem := &Memory{Version: TransformersVersion, Quant: o.Quant, KVType: o.Quant}
	grid, err := torchImage(m, o, Image{1024, 1024})
	if err != nil {
		return nil, err
	}
	context := orDefault(o.Context, grid.Tokens+1024)
	prompt := min(orDefault(o.PromptTokens, context), context)
	if context < grid.Tokens {
		return nil, fmt.Errorf("context %d: the image alone is %d tokens", context, grid.Tokens)
	}
	mem.ContextTokens = context
	mem.torchWeights(m, o, bits)
	p := newTransformersPeak(m, grid, prompt, b)
	cache := units.Bytes(int64(context) * int64(2*m.Text.Layers*m.Text.KVHeads*m.Text.HeadDim) * b)
	levels := len(m.Vision.DeepstackLayers)
	compute := p.embeddings + p.mlp + p.tables
	vision := p.prefill(levels) - p.embeddings - p.mlp - p.tables - p.cache
	if extra := p.tower() - vision - compute - cache; extra > 0 {
		vision += extra
	}
	// A cache that grows by concatenation holds a layer's old and new tensor at once, and blocks of every size it had.
	mem.add(KVCache, o.place(), cache, cache, scaled(cache, 1.15), Derived, "%d tokens; the cache grows by copying and leaves holes", context)
	mem.add(Compute, o.place(), compute, scaled(compute, 0.97), scaled(compute, 1.1), Derived, "prefill of %d tokens at the MLP's peak", prompt)
	if scores := mathAttention(&m.Text, prompt); slowAttention(o) {
		mem.add(Compute, o.place(), scores, 0, scaled(scores, 1.2), Assumed, "scores of %d tokens: no fused attention for grouped heads on this card before torch 2.14", prompt)
	}
	mem.exact(Output, o.place(), units.Bytes(int64(m.Text.VocabSize)*(b+4)), "logits of one token, and their fp32 copy")
	if grid.Patches > 0 {
		mem.add(Vision, o.place(), vision, scaled(vision, 0.97), scaled(vision, 1.1), Derived, "%dx%d, %d patches, %d tokens: pixels, features, and the tower's peak beyond the rest", grid.Width, grid.Height, grid.Patches, grid.Tokens)
	}
	if o.Device == "gpu" {
		mem.add("CUDA context", "device", 500*units.MiB, 300*units.MiB, 800*units.MiB, Assumed, "driver context, cuBLAS and cuDNN workspaces, PyTorch's kernels")
		reserve := scaled(compute+vision+cache, 0.06)
		mem.add("allocator", "device", reserve, 0, 3*reserve, Assumed, "reserved but not in use by PyTorch's caching allocator: 4 %% in the median of recorded programs, 16 %% at most")
	}
	return mem, nil
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
