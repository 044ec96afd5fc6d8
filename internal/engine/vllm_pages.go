package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// vllmBlocks is how a stage's KV cache is cut on one card (vllm/v1/core/kv_cache_planning.py of 0.33): blocks of tokens
// in every layer that keeps them.
//
//	page    = tokens · slot        of a layer
//	block   = page · layers        of all; with turboquant the first two and last two layers of a dense model in 16 bits
//	request = ⌈context / tokens⌉   blocks
//
// Layers of linear attention keep a state a sequence in blocks of the same pool: tokens grow until a page holds a
// state, layers are bundled by the fewer of both kinds, and each bundle takes blocks of its own:
//
//	tokens  = align · ⌈state / (align · slot)⌉
//	block   = page · min(cached, linear)
//	request = ⌈cached/bundle⌉ · ⌈context / tokens⌉ + ⌈linear/bundle⌉ · 2
//
// 2 where prefixes are kept, as the release does by itself; a third, and 64 in place of 16 tokens, where FlashInfer
// computes them: from compute capability 9.0 on (_resolve_gdn_prefill_backend in qwen_gdn_linear_attn.py).
type vllmBlocks struct {
	tokens  int64 // of one block
	bytes   units.Bytes
	bundles int64 // that take a block for so many tokens each
	states  int64 // blocks of a sequence that hold states
}

// request is how many blocks a sequence of so many tokens takes.
func (b vllmBlocks) request(context int) int64 {
	return b.bundles*((int64(context)+b.tokens-1)/b.tokens) + b.states
}

// holds is how many tokens so many blocks hold in sequences of so many, as vLLM prints it.
func (b vllmBlocks) holds(blocks int64, context int) int64 {
	return int64(float64(blocks) / float64(b.request(context)) * float64(context))
}

// vllmAligned is the least tokens of a block, and its multiple.
const vllmAligned = 16

// vllmSkipped are the layers at each end of a dense decoder that turboquant and ultraquant leave in 16 bits
// (get_boundary_skip_layers in vllm/model_executor/layers/quantization/turboquant/config.py).
const vllmSkipped = 2

// packed are the types whose keys and values share a slot.
func packed(kind string) bool {
	return strings.HasPrefix(kind, "turboquant_") || kind == "ultraquant_4bit"
}

// vllmSlot is the bytes of keys and values of one token and head of so many elements, of which so many rotate, by the
// release's own backends; 0 for a type that is not known. Scales are f32 a token and head (per_token_head), 8 bits for
// 16 elements (nvfp4), f16 norms and zeros (turboquant) or f16 for 64 rotated elements (octave), a byte for 32
// (ultraquant).
func vllmSlot(kind string, head, rotary int64) int64 {
	bits := func(n, bits int64) int64 { return (n*bits + 7) / 8 }
	even := func(n int64) int64 { return n + n%2 }
	up := func(n, to int64) int64 { return (n + to - 1) / to * to }
	switch kind {
	case "auto", "float16", "bfloat16":
		return 4 * head
	case "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc":
		return 2 * head
	case "int8_per_token_head", "fp8_per_token_head":
		return 2*head + 8
	case "int4_per_token_head":
		return head + 8
	case "nvfp4", "nvfp4_4over6":
		return head + head/8
	case "turboquant_k8v4":
		return even(head + bits(head, 4) + 4)
	case "turboquant_4bit_nc":
		return even(bits(head, 4) + 2 + bits(head, 4) + 4)
	case "turboquant_k3v4_nc":
		return even(bits(head, 3) + 2 + bits(head, 4) + 4)
	case "turboquant_3bit_nc":
		return even(bits(head, 3) + 2 + bits(head, 3) + 4)
	case "octave_k3v4":
		return up(rotary/2+bits(head-rotary, 3)+bits(head, 4)+2*(head/64+1), 8)
	case "octave_k3v3":
		return up(rotary/2+bits(head-rotary, 3)+bits(head, 3)+2*(head/64+1), 8)
	case "octave_k3v3_compact":
		return up(2*bits(head, 3)+4, 4)
	case "ultraquant_4bit":
		return head + 2*((head+31)/32)
	}
	return 0
}

// rotated is how many elements of a head rotate.
func rotated(t *profile.Text) int64 {
	if t.Variant != nil && t.Variant.RotaryFactor > 0 {
		return int64(math.Round(float64(t.HeadDim) * t.Variant.RotaryFactor))
	}
	return int64(t.HeadDim)
}

// vllmKV is the type of the cache as vLLM spells it. The last two kinds have kernels for ROCm alone.
func vllmKV(m *profile.Model, o Options) (string, error) {
	unknown := func(kind string) bool { return vllmSlot(kind, int64(m.Text.HeadDim), rotated(&m.Text)) == 0 }
	name, all := kvName(calibratedKV(m, o.KVType)), flagsIn("vllm-" + vllmVersion + ".txt")["kv-cache-dtype"]
	taken := slices.DeleteFunc(slices.Clone(all), unknown)
	if slices.Contains(all, name) && unknown(name) {
		return "", fmt.Errorf("KV type %q: vLLM %s takes it, and its bytes for %s are not known here; known are %s", name,
			vllmVersion, m.Name, strings.Join(taken, ", "))
	}
	if !slices.Contains(taken, name) {
		return "", fmt.Errorf("KV type %q: vLLM %s takes %s", name, vllmVersion, strings.Join(taken, ", "))
	}
	if o.GPU != nil && (strings.HasPrefix(name, "octave_") || name == "ultraquant_4bit") {
		return "", &Refusal{Engine: "vllm", Reason: fmt.Sprintf("release %s computes with a cache in %s on AMD's cards alone",
			vllmVersion, name), Alternative: "take --kv-type fp8, or a turboquant one"}
	}
	return name, nil
}

// blocksOf are the blocks of a stage.
func (r *vllmRun) blocksOf(g *profile.GPU) vllmBlocks {
	t, n := &r.m.Text, int64(r.at.tensor)
	slot := vllmSlot(r.kvType, int64(t.HeadDim), rotated(t))
	row := cardRow(t, r.at.tensor) * slot / int64(2*t.HeadDim) // of one token and layer on this card
	cached := int64(r.at.cachedLayers())
	b := vllmBlocks{tokens: vllmAligned, bundles: 1}
	a := (*profile.Linear)(nil)
	if t.Variant != nil {
		a = t.Variant.Linear
	}
	if linear := int64(r.at.end-r.at.first) - cached; linear > 0 && cached > 0 && a != nil {
		align, states := int64(vllmAligned), int64(2)
		if g != nil && g.AtLeast(9, 0) && a.KeyDim == 128 {
			align, states = 64, 3
		}
		// FlashAttention 4 on data centres' Blackwell cuts heads of 256 into blocks of 128 (flash_attn.py)
		if g != nil && strings.HasPrefix(g.ComputeCapability, "10.") && t.HeadDim == 256 && slot == 4*256 {
			align = 128
		}
		state := (a.RecurrentBytes() + r.b*int64(2*a.KeyHeads*a.KeyDim+a.ValueHeads*a.ValueDim)*int64(a.Kernel-1)) / n
		b.tokens = align * ((state + align*row - 1) / (align * row))
		bundle := min(cached, linear)
		if most := max(cached, linear); 2*most < 3*bundle {
			bundle = most
		}
		b.bundles, b.states = (cached+bundle-1)/bundle, states*((linear+bundle-1)/bundle)
		b.bytes = units.Bytes(b.tokens * row * bundle)
		return b
	}
	whole := int64(0) // layers in 16 bits
	if packed(r.kvType) {
		ends := min(vllmSkipped, t.Layers/2)
		for i := r.at.first; i < r.at.end; i++ {
			if i < ends || i >= t.Layers-ends {
				whole++
			}
		}
		b.tokens = 2 * vllmAligned
	}
	b.bytes = units.Bytes(b.tokens * ((max(1, cached)-whole)*row + whole*2*cardRow(t, r.at.tensor)))
	return b
}
