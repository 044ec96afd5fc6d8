package engine

import (
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
)

// decoderShape is what decides the size of a decoder graph beside the model.
type decoderShape struct {
	tokens int64 // in the batch that is computed at once
	// that the batch has tokens of, each a state of its own where the model has states
	sequences int64
	states    int64 // more of each, that guesses can be taken back to
	outputs   int64 // tokens whose logits are computed
	cells     int64 // of the KV cache that attention sees, in one stream
	window    int64 // the same of layers that see a window of tokens alone
	streams   int64 // separate caches: 1 where sequences share one
	kType     ggml.Type
	vType     ggml.Type
	flash     bool
	// V lies transposed in the cache: without flash attention, unless it was the engine that found it has no kernel for it
	transposed bool
	// Batches of 32 tokens and more are computed on a card although their weights lie on the host, from copies.
	place   *Placement
	noKV    bool // the cache stays on the host
	halves  bool // the cards' kernels want halves of a cache of another type
	flashOn bool // the cards have a kernel for flash attention of these heads and types
	rules   graphRules
}

// buildDecoder builds the graph that llama.cpp computes for a batch of tokens (src/llama-graph.cpp of v0.5.0, and of
// src/models qwen3vl, qwen3vlmoe, qwen2, qwen3, qwen3moe, llama, gemma2 and gemma3). Weights are leaves whose type does
// not matter here; what does is the order of operations and which of them share memory. Of layers that are alike it may
// build a few.
func buildDecoder(m *profile.Model, s decoderShape, of stretches) *decoder {
	b := newDecoder(m, s)
	x := b.embed()
	ends := map[int]*ggml.Tensor{}
	for _, b.at = range of.layers {
		x = b.layer(b.at, x)
		ends[b.at] = x
	}
	for _, r := range of.rounds {
		b.graph.Rounds = append(b.graph.Rounds, ggml.Round{First: ends[r[0]], Second: ends[r[1]]})
	}
	b.at = m.Text.Layers
	x = b.norm(x, "output_norm")
	if b.hybrid() { // all tokens are normed: a head that guesses several tokens would read them
		x = ggml.GetRows(x, b.outputs)
	}
	b.graph.Expand(ggml.MulMat(b.matrix("output", b.d, int64(m.Text.VocabSize)), x))
	return b
}

type decoder struct {
	graph              ggml.Graph
	fused              []*ggml.Tensor // flash attention of each layer that has it, where it is on
	fusedIn            []int          // those layers
	text               *profile.Text
	variant            profile.Variant // its differences from Qwen3-VL's
	shape              decoderShape
	d, h               int64 // width, head width
	deepstack          int
	at                 int          // the layer being built, the head after the last
	embeddings         *ggml.Tensor // [d·(1+deepstack), tokens]
	positions, outputs *ggml.Tensor
	copies             *ggml.Tensor // which states a batch's sequences go on from
	full, sliding      cacheInputs
	reserved           bool // its graph was, which rewires it
}

// cacheInputs say where a batch's keys and values go in the caches of one kind of layer, and what its tokens see there.
type cacheInputs struct {
	cells              int64
	rows, values, mask *ggml.Tensor
	rotateK, rotateV   *ggml.Tensor // nil where heads are not rotated
}

func newDecoder(m *profile.Model, s decoderShape) *decoder {
	text := m.Text
	b := &decoder{text: &text, shape: s, d: int64(text.HiddenSize), deepstack: len(m.Vision.DeepstackLayers)}
	if text.Variant != nil {
		b.variant = *text.Variant
	}
	if l := b.variant.Latent; l != nil { // every head sees the one compressed row
		text.KVHeads, text.HeadDim = 1, l.KVRank+l.RopeDim
	}
	b.h = int64(text.HeadDim)
	positions := int64(4) // of a token: time, height and width of an image's, and one that is not used
	if v := b.text.Variant; v != nil && v.Architecture != "qwen2vl" && v.Linear == nil {
		positions = 1
	}
	b.positions = ggml.Input("inp_pos", ggml.I32, positions*s.tokens)
	b.full, b.sliding = b.inputs("attn", s.cells), b.inputs("attn_swa", s.window)
	b.outputs = ggml.Input("out_ids", ggml.I32, s.outputs)
	if b.hybrid() {
		b.copies = ggml.Input("rs_s_copy", ggml.I32, s.sequences)
	}
	return b
}

func (b *decoder) inputs(name string, cells int64) cacheInputs {
	s := b.shape
	maskType, valueRows := ggml.F16, s.tokens
	if s.rules.wideMask {
		maskType = ggml.F32
	}
	if !s.flash {
		maskType = ggml.F32
	}
	if s.transposed {
		valueRows = s.tokens * int64(b.text.KVHeads) * b.h // V lies transposed: one row an element
	}
	seen := s.tokens / s.streams
	if s.rules.paddedMask {
		seen = (seen + 63) / 64 * 64
	}
	in := cacheInputs{cells: cells, mask: ggml.Input(name+"_inp_kq_mask", maskType, cells, seen, 1, s.streams)}
	if !s.rules.copies {
		in.rows = ggml.Input(name+"_inp_k_idxs", ggml.I64, s.tokens)
		in.values = ggml.Input(name+"_inp_v_idxs", ggml.I64, valueRows)
	}
	if s.rules.wideMask && s.flash {
		in.mask = ggml.New(ggml.F16, []*ggml.Tensor{in.mask}, in.mask.NE[:]...)
	}
	if s.rules.plainCache {
		return in
	}
	if s.kType.Quantized() && b.h%64 == 0 { // a quantised cache holds rotated heads
		n := int64(64)
		for b.h%(2*n) == 0 {
			n *= 2
		}
		in.rotateK = ggml.Input(name+"_inp_k_rot", ggml.F32, n, n)
	}
	if s.vType.Quantized() && b.h%64 == 0 {
		in.rotateV = ggml.Input(name+"_inp_v_rot", ggml.F32, 64, 64)
	}
	return in
}

// matrix is a weight in the type that the file stores it in, where it lies; only copies of it count.
func (b *decoder) matrix(name string, ne ...int64) *ggml.Tensor {
	name += ".weight"
	kind, ok := b.shape.place.kinds[name]
	if !ok || ne[0]%kind.Block != 0 {
		kind = ggml.F32
	}
	return ggml.Leaf(name, kind, b.shape.place.home(name, b.at), ne...)
}

// norm is a root mean square and a weight. Small batches are kept with the layer that they belong to.
func (b *decoder) norm(x *ggml.Tensor, name string) *ggml.Tensor {
	n := ggml.InPlace(x)
	if place := b.shape.place; (b.shape.tokens < ggml.MinBatch || !slices.Contains(place.Layers, OnHostMemory)) &&
		strings.HasPrefix(name, "blk.") {
		n.Pin = place.layerHome(b.at)
	}
	return ggml.InPlace(n, ggml.Leaf(name, ggml.F32, b.shape.place.home(name+".weight", b.at), x.NE[0]))
}

// embed gathers the token embeddings, widened with zeros for the deepstack features that image tokens bring in the same
// rows. The input for image embeddings takes part in every graph, read or not.
func (b *decoder) embed() *ggml.Tensor {
	s, wide := b.shape, b.d*int64(1+b.deepstack)
	if s.rules.textOnly {
		b.deepstack, wide = 0, b.d
	}
	x := b.lookUp("inp_tokens")
	switch {
	case s.rules.mixed:
		x = b.mixed(x, wide)
	case s.rules.textOnly:
	default:
		x = b.widened(x, wide)
		b.graph.Expand(x, ggml.Input("inp_embd", ggml.F32, wide, s.tokens))
	}
	b.embeddings = x
	if b.deepstack > 0 {
		x = b.columns(0)
	}
	if b.variant.PostNorms { // Gemma scales by the root of the width
		x = ggml.InPlace(x)
	}
	b.graph.Expand(x)
	return x
}

// lookUp gathers rows of the table of embeddings.
func (b *decoder) lookUp(name string) *ggml.Tensor {
	home := b.shape.place.home("token_embd.weight", 0)
	table := ggml.Leaf("token_embd", ggml.F32, home, b.d, int64(b.text.VocabSize))
	return ggml.GetRows(table, ggml.Input(name, ggml.I32, b.shape.tokens))
}

// widened pads rows of the model's width.
func (b *decoder) widened(x *ggml.Tensor, wide int64) *ggml.Tensor {
	if wide == b.d {
		return x
	}
	return ggml.New(ggml.F32, []*ggml.Tensor{x}, wide, b.shape.tokens)
}

// mixed is what later builds have besides: a batch of tokens among embeddings, whose rows are written into a copy of
// them that nothing in the graph of a prompt reads.
func (b *decoder) mixed(x *ggml.Tensor, wide int64) *ggml.Tensor {
	tokens := b.shape.tokens
	among := b.lookUp("inp_mixed_tokens")
	b.graph.Expand(x, among)
	x = b.widened(x, wide)
	b.graph.Expand(x, ggml.Input("inp_embd", ggml.F32, wide, tokens))
	among = b.widened(among, wide)
	into := ggml.Same(ggml.Input("inp_mixed_embd", ggml.F32, wide, tokens))
	b.graph.Expand(among, into, ggml.SetRows(into, among, ggml.Input("inp_mixed_slots", ggml.I64, tokens)))
	return x
}

// columns looks at the embeddings of the text, 0, or of a deepstack level.
func (b *decoder) columns(int) *ggml.Tensor {
	nb := b.embeddings.NB[1]
	return ggml.View(b.embeddings, [4]int64{b.d, b.shape.tokens, 1, 1},
		[4]int64{4, nb, nb * b.shape.tokens, nb * b.shape.tokens})
}

func (b *decoder) layer(i int, x *ggml.Tensor) *ggml.Tensor {
	block := "blk." + strconv.Itoa(i) + "."
	name := func(part string) string { return block + part }
	residual := x
	attend := b.attention
	norm := b.norm(x, name("attn_norm"))
	switch {
	case b.variant.Latent != nil:
		attend = b.latent
	case b.hybrid():
		b.graph.Expand(norm)
		attend = b.gatedAttention
		if b.text.LayerType(i) == profile.LinearAttention {
			attend = b.delta
		}
	}
	a := attend(name, i, norm)
	if i == b.text.Layers-1 && !b.hybrid() {
		a, residual = ggml.GetRows(a, b.outputs), ggml.GetRows(residual, b.outputs)
	}
	if b.variant.PostNorms {
		a = b.norm(a, name("post_attention_norm"))
	}
	residual = ggml.InPlace(a, residual)
	f := b.norm(residual, name(b.feedNorm()))
	if b.text.HasExperts(i) {
		routed := b.experts(name, f)
		if n := b.variant.SharedExperts; n > 0 {
			routed = ggml.InPlace(routed, b.gated(name, "_shexp", int64(n*b.text.MoE.IntermediateSize), f))
		}
		if n := int64(b.variant.SharedSize); n > 0 {
			open := ggml.InPlace(ggml.MulMat(b.matrix(name("ffn_gate_inp_shexp"), b.d, 1), f))
			routed = ggml.InPlace(routed, ggml.InPlace(b.gated(name, "_shexp", n, f), open))
		}
		f = routed
	} else {
		f = b.gated(name, "", int64(b.text.IntermediateSize), f)
	}
	if b.variant.PostNorms {
		f = b.norm(f, name("post_ffw_norm"))
	}
	x = ggml.InPlace(f, residual)
	if i < b.deepstack {
		x = ggml.InPlace(x, b.columns(i+1))
	}
	return x
}

// feedNorm is the name of the norm before the feed-forward part.
func (b *decoder) feedNorm() string {
	if b.hybrid() {
		return "post_attention_norm"
	}
	return "ffn_norm"
}

// gated is the feed-forward part of one width.
func (b *decoder) gated(name func(string) string, suffix string, width int64, x *ggml.Tensor) *ggml.Tensor {
	up := ggml.MulMat(b.matrix(name("ffn_up"+suffix), b.d, width), x)
	gate := ggml.MulMat(b.matrix(name("ffn_gate"+suffix), b.d, width), x)
	return ggml.MulMat(b.matrix(name("ffn_down"+suffix), width, b.d), ggml.Same(gate, up))
}

func (b *decoder) attention(name func(string) string, layer int, x *ggml.Tensor) *ggml.Tensor {
	s, heads, kvHeads := b.shape, int64(b.text.Heads), int64(b.text.KVHeads)
	project := func(part string, n int64) *ggml.Tensor {
		y := ggml.MulMat(b.matrix(name(part), b.d, n*b.h), x)
		if bias := name(part) + ".bias"; b.variant.ProjectionBias {
			y = ggml.InPlace(y, ggml.Leaf(bias, ggml.F32, s.place.home(bias, b.at), n*b.h))
		}
		return ggml.Reshape(y, b.h, n, s.tokens)
	}
	norm := func(x *ggml.Tensor, part string) *ggml.Tensor {
		if b.variant.PlainHeads {
			return x
		}
		return b.norm(x, name(part))
	}
	see := b.full
	if b.text.Slides(layer) {
		see = b.sliding
	}
	q, k, v := project("attn_q", heads), project("attn_k", kvHeads), project("attn_v", kvHeads)
	q = ggml.Rope(norm(q, "attn_q_norm"), b.positions)
	k = ggml.Rope(norm(k, "attn_k_norm"), b.positions)
	if b.variant.PostNorms { // Gemma scales queries before the cache is written
		q = ggml.InPlace(q)
	}
	q, k, v = rotate(q, see.rotateK), rotate(k, see.rotateK), rotate(v, see.rotateV)
	if b.variant.Window > 0 { // the attention of layers that see a window expands in another order
		b.graph.Expand(q, k, v)
	} else {
		b.graph.Expand(q, v, k)
	}
	keys, values := b.cache(name, see, k, v)
	out := rotate(b.attend(q, keys, values, see.mask), see.rotateV)
	return ggml.MulMat(b.matrix(name("attn_output"), heads*b.h, b.d), out)
}

// rotate multiplies by a Hadamard matrix, in groups of its size.
func rotate(x, by *ggml.Tensor) *ggml.Tensor {
	if by == nil {
		return x
	}
	n := by.NE[0]
	return ggml.Reshape(ggml.MulMat(by, ggml.Reshape(x, n, x.Elements()/n)), x.NE[:]...)
}

// cache writes the new keys and values and looks at what attention reads.
func (b *decoder) cache(name func(string) string, see cacheInputs, k, v *ggml.Tensor) (keys, values *ggml.Tensor) {
	s, kvHeads, cells := b.shape, int64(b.text.KVHeads), see.cells
	width, home := kvHeads*b.h, s.place.layerHome(b.at)
	if s.noKV {
		home = ggml.OnHost
	}
	cacheK := ggml.Leaf(name("cache_k"), s.kType, home, width, cells, s.streams)
	cacheV := ggml.Leaf(name("cache_v"), s.vType, home, width, cells, s.streams)
	merge := func(c *ggml.Tensor) *ggml.Tensor {
		if s.streams > 1 {
			return ggml.Reshape(c, width, cells*s.streams)
		}
		return c
	}
	flat := [4]int64{width, s.tokens, 1, 1}
	b.graph.Expand(ggml.SetRows(merge(cacheK), ggml.View(k, flat,
		[4]int64{4, 4 * width, 4 * width * s.tokens, 4 * width * s.tokens}), see.rows))
	look := func(c *ggml.Tensor) *ggml.Tensor {
		row := c.Type.Row(b.h)
		return ggml.View(c, [4]int64{b.h, kvHeads, cells, s.streams},
			[4]int64{c.Type.Bytes, row, row * kvHeads, row * kvHeads * cells})
	}
	if !s.transposed {
		b.graph.Expand(ggml.SetRows(merge(cacheV), ggml.View(v, flat,
			[4]int64{4, 4 * width, 4 * width * s.tokens, 4 * width * s.tokens}), see.values))
		return look(cacheK), look(cacheV)
	}
	elements := ggml.Reshape(cacheV, 1, cacheV.Elements())
	b.graph.Expand(ggml.SetRows(elements, ggml.Reshape(ggml.Reshape(v, width, s.tokens), 1, width*s.tokens), see.values))
	size := s.vType.Bytes
	return look(cacheK), ggml.View(cacheV, [4]int64{cells, kvHeads, b.h, s.streams},
		[4]int64{size, size * cells * b.h, size * cells, size * cells * width})
}

// byHead is queries of a width, cut by stream, keys and values, each with its heads outside its tokens.
func (b *decoder) byHead(q, keys, values *ggml.Tensor, width int64) (*ggml.Tensor, *ggml.Tensor, *ggml.Tensor) {
	streams := b.shape.streams
	q = ggml.View(q, [4]int64{width, int64(b.text.Heads), b.shape.tokens / streams, streams},
		[4]int64{4, q.NB[1], q.NB[2], q.NB[3] / streams})
	return ggml.Permute(q, 0, 2, 1, 3), ggml.Permute(keys, 0, 2, 1, 3), ggml.Permute(values, 0, 2, 1, 3)
}

// inOne is attention in one operation, with copies in halves where a backend makes them.
func (b *decoder) inOne(of []*ggml.Tensor, width int64, copied ...*ggml.Tensor) *ggml.Tensor {
	s := b.shape
	out := ggml.New(ggml.F32, of, width, int64(b.text.Heads), s.tokens/s.streams, s.streams)
	out.Follow, out.OnCPU = false, !s.flashOn
	b.fused, b.fusedIn = append(b.fused, out), append(b.fusedIn, b.at)
	if s.halves && !s.rules.pooled {
		out.Extra = halves(out, copied...)
	}
	return out
}

// attend is one fused operation with flash attention, scores [cells, tokens, heads] in f32 without.
func (b *decoder) attend(q, keys, values, mask *ggml.Tensor) *ggml.Tensor {
	s, heads := b.shape, int64(b.text.Heads)
	q, keys, values = b.byHead(q, keys, values, b.h)
	var out *ggml.Tensor
	if s.flash {
		if s.kType == ggml.F32 { // the fused operation reads halves
			keys = ggml.New(ggml.F16, []*ggml.Tensor{keys}, keys.NE[:]...)
		}
		if s.vType == ggml.F32 {
			values = ggml.New(ggml.F16, []*ggml.Tensor{values}, values.NE[:]...)
		}
		out = b.inOne([]*ggml.Tensor{q, keys, values, mask}, b.h, keys, values)
		out = ggml.Reshape(out, b.h*heads, s.tokens)
	} else {
		scores := ggml.InPlace(ggml.MulMat(keys, q), mask)
		if !s.transposed { // copied for every layer
			values = ggml.Permute(values, 1, 0, 2, 3)
			values = ggml.New(values.Type, []*ggml.Tensor{values}, values.NE[:]...)
		}
		out = ggml.Permute(ggml.MulMat(values, scores), 0, 2, 1, 3)
		out = ggml.New(ggml.F32, []*ggml.Tensor{out}, b.h*heads, s.tokens)
		if s.noKV {
			out.Pin = ggml.OnHost
		}
	}
	b.graph.Expand(out)
	return out
}

// halves is what CUDA's kernels for batches put behind their result: f16 copies of keys and values of other types.
func halves(out *ggml.Tensor, parts ...*ggml.Tensor) int64 {
	end := out.Bytes()
	for _, p := range parts {
		if p.Type != ggml.F16 {
			end = (end+cudaAlignment-1)/cudaAlignment*cudaAlignment + 2*p.Elements()
		}
	}
	return end - out.Bytes()
}

// experts routes every token to its experts and sums what they answer.
func (b *decoder) experts(name func(string) string, x *ggml.Tensor) *ggml.Tensor {
	moe, tokens := b.text.MoE, x.NE[1]
	all, used, width := int64(moe.Experts), int64(moe.ExpertsPerToken), int64(moe.IntermediateSize)
	probabilities := ggml.InPlace(ggml.MulMat(b.matrix(name("ffn_gate_inp"), b.d, all), x))
	ranked := probabilities
	if bias := name("exp_probs_b") + ".bias"; b.variant.RouterBias {
		ranked = ggml.InPlace(probabilities, ggml.Leaf(bias, ggml.F32, b.shape.place.home(bias, b.at), all))
	}
	sorted := ggml.New(ggml.I32, []*ggml.Tensor{ranked}, all, tokens)
	chosen := ggml.View(sorted, [4]int64{used, tokens, 1, 1}, sorted.NB)
	weights := ggml.GetRows(ggml.Reshape(probabilities, 1, all, tokens), chosen)
	if b.variant.Latent == nil { // normed
		weights = ggml.Reshape(weights, used, tokens)
		sum := ggml.InPlace(ggml.New(ggml.F32, []*ggml.Tensor{weights}, 1, tokens))
		weights = ggml.Reshape(ggml.InPlace(weights, sum), 1, used, tokens)
	}
	b.graph.Expand(weights)
	if routedAtOnce(all) {
		b.graph.Chains = append(b.graph.Chains, ggml.Chain{First: probabilities, Last: weights, Whole: true})
	}

	wide := ggml.Reshape(x, b.d, 1, tokens)
	up := ggml.MulMatID(b.matrix(name("ffn_up_exps"), b.d, width, all), wide, chosen)
	gate := ggml.MulMatID(b.matrix(name("ffn_gate_exps"), b.d, width, all), wide, chosen)
	answers := ggml.MulMatID(b.matrix(name("ffn_down_exps"), width, b.d, all), ggml.Same(gate, up), chosen)
	answers = ggml.InPlace(answers, weights)
	b.graph.Expand(answers)
	parts := make([]*ggml.Tensor, used)
	for i := range parts {
		parts[i] = ggml.View(answers, [4]int64{b.d, tokens, 1, 1},
			[4]int64{4, answers.NB[2], answers.NB[2] * tokens, answers.NB[2] * tokens})
		b.graph.Expand(parts[i])
	}
	out := parts[0]
	for _, p := range parts[1:] {
		out = ggml.InPlace(out, p)
		b.graph.Expand(out)
	}
	if used == 1 {
		return ggml.New(ggml.F32, []*ggml.Tensor{out}, out.NE[:]...)
	}
	if used <= mostReduced {
		b.graph.Chains = append(b.graph.Chains, ggml.Chain{First: answers, Last: out})
	}
	return out
}

// mostReduced is the experts of a token whose answers a CUDA build adds up in one kernel
// (MOE_WEIGHTED_REDUCTION_MAX_EXPERTS of v0.5.0).
const mostReduced = 15

// routedAtOnce reports whether a CUDA build has a kernel that picks among so many experts (topk-moe.cu of v0.5.0).
func routedAtOnce(experts int64) bool {
	return experts&(experts-1) == 0 && experts <= 512 || experts == 288 || experts == 576
}
