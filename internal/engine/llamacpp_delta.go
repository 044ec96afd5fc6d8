package engine

import (
	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// hybrid reports whether layers of the gated delta rule stand between those of attention.
func (b *decoder) hybrid() bool { return b.variant.Linear != nil }

// stateBytes is what llama.cpp keeps of every sequence in a layer of the gated delta rule, in f32: a matrix a value
// head, and the tokens before the last that the convolution reads.
func stateBytes(a *profile.Linear, sequences int64) units.Bytes {
	return units.Bytes(sequences * 4 * (stateWidth(a) + windowWidth(a)))
}

func stateWidth(a *profile.Linear) int64 { return int64(a.ValueHeads * a.KeyDim * a.ValueDim) }

func windowWidth(a *profile.Linear) int64 { return int64(a.Kernel-1) * deltaChannels(a) }

// deltaChannels is the width of the convolution: queries, keys and values.
func deltaChannels(a *profile.Linear) int64 {
	return int64(2*a.KeyHeads*a.KeyDim + a.ValueHeads*a.ValueDim)
}

// delta is a layer of the gated delta rule (src/models/qwen35.cpp and delta-net-base.cpp of v0.5.0), its rule in one
// operation, which every backend of that build has.
func (b *decoder) delta(name func(string) string, _ int, x *ggml.Tensor) *ggml.Tensor {
	a, s := b.variant.Linear, b.shape
	dk, dv := int64(a.KeyDim), int64(a.ValueDim)
	keyHeads, heads, channels := int64(a.KeyHeads), int64(a.ValueHeads), deltaChannels(a)
	each := s.tokens / s.sequences
	weight := func(part string, ne ...int64) *ggml.Tensor {
		return ggml.Leaf(name(part), ggml.F32, s.place.home(name(part), b.at), ne...)
	}
	qkv := ggml.Reshape(ggml.MulMat(b.matrix(name("attn_qkv"), b.d, channels), x), channels, each, s.sequences)
	z := ggml.MulMat(b.matrix(name("attn_gate"), b.d, heads*dv), x)
	beta := ggml.MulMat(b.matrix(name("ssm_beta"), b.d, heads), x)
	beta = ggml.InPlace(ggml.Reshape(beta, 1, heads, each, s.sequences))
	alpha := ggml.MulMat(b.matrix(name("ssm_alpha"), b.d, heads), x)
	alpha = ggml.InPlace(ggml.Reshape(alpha, heads, each, s.sequences), weight("ssm_dt.bias", heads))
	gate := ggml.InPlace(ggml.InPlace(alpha), weight("ssm_a", heads))
	gate = ggml.Reshape(gate, 1, heads, each, s.sequences)

	input := b.convolved(name, qkv)
	state := ggml.Reshape(b.recall(name("cache_s"), stateWidth(a)), dv, dk, heads, s.sequences)
	mixed := ggml.New(ggml.F32, []*ggml.Tensor{input, weight("ssm_conv1d.weight", int64(a.Kernel), channels)}, channels,
		each, s.sequences)
	mixed = ggml.InPlace(mixed)
	look := func(width, n int64) *ggml.Tensor {
		return ggml.View(mixed, [4]int64{width, n, each, s.sequences},
			[4]int64{4, 4 * width, 4 * channels, 4 * channels * each})
	}
	q, k, v := look(dk, keyHeads), look(dk, keyHeads), look(dv, heads)
	q, k = ggml.InPlace(ggml.InPlace(q)), ggml.InPlace(ggml.InPlace(k))
	both := ggml.New(ggml.F32, []*ggml.Tensor{q, k, v, gate, beta, state}, dv*heads,
		s.tokens+dv*s.sequences*(1+s.states))
	both.Follow = false
	out := ggml.Reshape(both, dv, heads, each, s.sequences)
	last := ggml.View(both, [4]int64{dv, dk, heads, s.sequences}, [4]int64{4, 4 * dv, 4 * dv * dk, 4 * dv * dk * heads})
	b.graph.Expand(ggml.SetRows(b.cached(name("cache_s"), stateWidth(a)), last, nil))

	normed := ggml.InPlace(ggml.InPlace(out), weight("ssm_norm.weight", dv))
	open := ggml.InPlace(ggml.Reshape(z, dv, heads, each, s.sequences))
	weighed := ggml.Reshape(ggml.InPlace(normed, open), heads*dv, each, s.sequences)
	back := ggml.MulMat(b.matrix(name("ssm_out"), heads*dv, b.d), weighed)
	return ggml.Reshape(back, b.d, s.tokens)
}

// cached is the state of every sequence of one layer.
func (b *decoder) cached(name string, width int64) *ggml.Tensor {
	home := b.shape.place.layerHome(b.at)
	if b.shape.noKV {
		home = ggml.OnHost
	}
	return ggml.Leaf(name, ggml.F32, home, width, b.shape.sequences)
}

// recall gathers the states of a batch's sequences. Before it the state of a new sequence is cleared, after it those of
// others are moved, both within the cache and without memory: they keep what lies between them beside the cache
// (build_rs of src/llama-graph.cpp).
func (b *decoder) recall(name string, width int64) *ggml.Tensor {
	all := b.cached(name, width)
	states := ggml.GetRows(all, b.copies)
	b.graph.Expand(ggml.SetRows(all, all, nil), states, ggml.SetRows(all, all, nil))
	return states
}

// convolved is what a layer's convolution reads, [kernel-1 + tokens, channels, sequences], and writes its end back.
func (b *decoder) convolved(name func(string) string, qkv *ggml.Tensor) *ggml.Tensor {
	a, s := b.variant.Linear, b.shape
	before, channels := int64(a.Kernel-1), deltaChannels(a)
	states := ggml.Reshape(b.recall(name("cache_r"), windowWidth(a)), before, channels, s.sequences)
	tokens := ggml.Permute(qkv, 1, 0, 2, 3)
	input := ggml.New(ggml.F32, []*ggml.Tensor{states, tokens}, before+tokens.NE[0], channels, s.sequences)
	end := ggml.View(input, [4]int64{before, channels, s.sequences, 1}, input.NB)
	b.graph.Expand(ggml.SetRows(b.cached(name("cache_r"), windowWidth(a)), end, nil))
	return input
}

// gatedAttention is Qwen3.5's: each head is projected to a query and a gate, which weighs what the head reads.
func (b *decoder) gatedAttention(name func(string) string, _ int, x *ggml.Tensor) *ggml.Tensor {
	s, heads, kvHeads := b.shape, int64(b.text.Heads), int64(b.text.KVHeads)
	both := ggml.MulMat(b.matrix(name("attn_q"), b.d, 2*heads*b.h), x)
	k := ggml.MulMat(b.matrix(name("attn_k"), b.d, kvHeads*b.h), x)
	v := ggml.Reshape(ggml.MulMat(b.matrix(name("attn_v"), b.d, kvHeads*b.h), x), b.h, kvHeads, s.tokens)
	half := func() *ggml.Tensor {
		row := 8 * b.h
		return ggml.View(both, [4]int64{b.h, heads, s.tokens, 1}, [4]int64{4, row, row * heads, row * heads * s.tokens})
	}
	q := b.norm(half(), name("attn_q_norm"))
	k = b.norm(ggml.Reshape(k, b.h, kvHeads, s.tokens), name("attn_k_norm"))
	gate := ggml.New(ggml.F32, []*ggml.Tensor{half()}, b.h*heads, s.tokens)
	q, k = ggml.Rope(q, b.positions), ggml.Rope(k, b.positions)
	see := b.full
	q, k, v = rotate(q, see.rotateK), rotate(k, see.rotateK), rotate(v, see.rotateV)
	b.graph.Expand(q, v, k)
	keys, values := b.cache(name, see, k, v)
	out := rotate(b.attend(q, keys, values, see.mask), see.rotateV)
	weighed := ggml.InPlace(out, ggml.InPlace(gate))
	return ggml.MulMat(b.matrix(name("attn_output"), heads*b.h, b.d), weighed)
}
