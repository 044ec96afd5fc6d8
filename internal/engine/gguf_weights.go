package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// role is what a tensor does in the model; the quantiser's recipes go by it.
type role uint8

const (
	roleOther role = iota // norms, biases, routers: never quantised
	roleEmbedding
	roleOutput
	roleAttentionV
	roleAttentionOutput
	roleDown   // the MLP's or the experts' way back to the model's width
	roleMatrix // every other matrix
)

// ggufTensor is one tensor of a GGUF file.
type ggufTensor struct {
	name  string // as the file has it
	role  role
	layer int // outside for tensors of no layer
	shape []int64
}

const outside = -1

// decoderTensors lists the tensors of a decoder's GGUF in layer order.
func decoderTensors(t *profile.Text) []ggufTensor {
	d := int64(t.HiddenSize)
	l := ggufList{layer: outside}
	l.add("token_embd", roleEmbedding, d, int64(t.VocabSize))
	if !t.TiedEmbeddings {
		l.add("output", roleOutput, d, int64(t.VocabSize))
	}
	l.add("output_norm", roleOther, d)
	v := profile.Variant{}
	if t.Variant != nil {
		v = *t.Variant
	}
	for l.layer = range t.Layers {
		l.add("attn_norm", roleOther, d)
		switch {
		case v.Latent != nil:
			l.latent(t, v.Latent)
		case t.LayerType(l.layer) == profile.LinearAttention:
			l.delta(d, v.Linear)
		default:
			l.attention(t, v)
		}
		if v.PostNorms || v.Linear != nil {
			l.add("post_attention_norm", roleOther, d)
		}
		if v.Linear == nil {
			l.add("ffn_norm", roleOther, d)
		}
		l.mlp(t, v)
		if v.PostNorms {
			l.add("post_ffw_norm", roleOther, d)
		}
	}
	return l.tensors
}

// ggufList grows by the tensors of one layer after the other.
type ggufList struct {
	layer   int
	tensors []ggufTensor
}

func (l *ggufList) add(part string, r role, shape ...int64) { l.put(part+".weight", r, shape...) }

func (l *ggufList) put(name string, r role, shape ...int64) {
	if l.layer != outside {
		name = "blk." + strconv.Itoa(l.layer) + "." + name
	}
	l.tensors = append(l.tensors, ggufTensor{name, r, l.layer, shape})
}

func (l *ggufList) attention(t *profile.Text, v profile.Variant) {
	d, h := int64(t.HiddenSize), int64(t.HeadDim)
	q, kv := h*int64(t.Heads), h*int64(t.KVHeads)
	l.add("attn_q", roleMatrix, d, t.QueryWidth())
	l.add("attn_k", roleMatrix, d, kv)
	l.add("attn_v", roleAttentionV, d, kv)
	if v.ProjectionBias {
		l.put("attn_q.bias", roleOther, q)
		l.put("attn_k.bias", roleOther, kv)
		l.put("attn_v.bias", roleOther, kv)
	}
	l.add("attn_output", roleAttentionOutput, q, d)
	if !v.PlainHeads {
		l.add("attn_q_norm", roleOther, h)
		l.add("attn_k_norm", roleOther, h)
	}
}

// delta is the gated delta rule. Its convolution is never quantised.
func (l *ggufList) delta(d int64, a *profile.Linear) {
	values, heads := int64(a.ValueHeads*a.ValueDim), int64(a.ValueHeads)
	l.add("attn_qkv", roleMatrix, d, deltaChannels(a))
	l.add("attn_gate", roleMatrix, d, values)
	l.add("ssm_conv1d", roleOther, int64(a.Kernel), deltaChannels(a))
	l.put("ssm_dt.bias", roleOther, heads)
	l.put("ssm_a", roleOther, heads)
	l.add("ssm_beta", roleMatrix, d, heads)
	l.add("ssm_alpha", roleMatrix, d, heads)
	l.add("ssm_norm", roleOther, int64(a.ValueDim))
	l.add("ssm_out", roleMatrix, values, d)
}

// latent is attention over compressed keys and values, whose up-projections llama.cpp keeps apart for each head.
func (l *ggufList) latent(t *profile.Text, c *profile.Latent) {
	d, heads, rank := int64(t.HiddenSize), int64(t.Heads), int64(c.KVRank)
	query := heads * int64(c.NopeDim+c.RopeDim)
	if r := int64(c.QueryRank); r > 0 {
		l.add("attn_q_a", roleMatrix, d, r)
		l.add("attn_q_a_norm", roleOther, r)
		l.add("attn_q_b", roleMatrix, r, query)
	} else {
		l.add("attn_q", roleMatrix, d, query)
	}
	l.add("attn_kv_a_mqa", roleMatrix, d, rank+int64(c.RopeDim))
	l.add("attn_kv_a_norm", roleOther, rank)
	l.add("attn_k_b", roleMatrix, int64(c.NopeDim), rank, heads)
	l.add("attn_v_b", roleMatrix, rank, int64(c.ValueDim), heads)
	l.add("attn_output", roleAttentionOutput, heads*int64(c.ValueDim), d)
}

func (l *ggufList) mlp(t *profile.Text, v profile.Variant) {
	d := int64(t.HiddenSize)
	gated := func(suffix string, f int64, experts ...int64) {
		up, down := append([]int64{d, f}, experts...), append([]int64{f, d}, experts...)
		l.add("ffn_gate"+suffix, roleMatrix, up...)
		l.add("ffn_up"+suffix, roleMatrix, up...)
		l.add("ffn_down"+suffix, roleDown, down...)
	}
	if !t.HasExperts(l.layer) {
		gated("", int64(t.IntermediateSize))
		return
	}
	e, f := int64(t.MoE.Experts), int64(t.MoE.IntermediateSize)
	l.add("ffn_gate_inp", roleOther, d, e)
	if v.RouterBias {
		l.put("exp_probs_b.bias", roleOther, e)
	}
	gated("_exps", f, e)
	if v.SharedExperts > 0 {
		gated("_shexp", f*int64(v.SharedExperts))
	}
	if v.SharedSize > 0 {
		l.add("ffn_gate_inp_shexp", roleOther, d)
		gated("_shexp", int64(v.SharedSize))
	}
}

// projectorTensors lists the tensors of the mmproj GGUF: matrices as roleMatrix, the rest, learned positions included,
// in f32.
func projectorTensors(v *profile.Vision) []ggufTensor {
	c, f, out := int64(v.HiddenSize), int64(v.IntermediateSize), int64(v.OutHiddenSize)
	merged, side := c*int64(v.SpatialMergeSize*v.SpatialMergeSize), int64(v.PatchSize)
	matrix := func(shape ...int64) ggufTensor { return ggufTensor{"", roleMatrix, 0, shape} }
	plain := func(shape ...int64) ggufTensor { return ggufTensor{"", roleOther, 0, shape} }
	list := []ggufTensor{plain(c), plain(c, int64(v.PositionEmbeddings)), plain(c), plain(c)} // bias, positions, post norm
	for range v.TemporalPatchSize {
		list = append(list, matrix(side, side, int64(v.InChannels), c))
	}
	for range v.Depth {
		list = append(list, matrix(c, 3*c), plain(3*c), matrix(c, c), plain(c), plain(c), plain(c), plain(c), plain(c),
			matrix(c, f), plain(f), matrix(f, c), plain(c))
	}
	mlp := []ggufTensor{matrix(merged, merged), plain(merged), matrix(merged, out), plain(out)}
	list = append(list, mlp...)
	for range v.DeepstackLayers {
		list = append(append(list, mlp...), plain(merged), plain(merged))
	}
	return list
}

// recipe is how a file of one name stores its tensors: a base type, and where the quantiser spends more bits.
type recipe struct {
	name  string
	base  string
	mixed bool // as llama-quantize mixes types; otherwise every matrix is of the base type
}

// recipes are the names that --quant takes for llama.cpp. The names of plain types mean that every matrix has that
// type, as convert_hf_to_gguf.py --outtype and llama-quantize --pure make them; llama-quantize without --pure gives
// more bits to the output head and, where embeddings are tied, to them.
var recipes = []recipe{
	{"f32", "f32", false}, {"f16", "f16", false}, {"bf16", "bf16", false}, {"q8_0", "q8_0", false},
	{"q4_0", "q4_0", false}, {"q4_1", "q4_1", false}, {"q5_0", "q5_0", false}, {"q5_1", "q5_1", false},
	{"q2_k", "q2_k", true}, {"q3_k_s", "q3_k", true}, {"q3_k_m", "q3_k", true}, {"q3_k_l", "q3_k", true},
	{"q4_k_s", "q4_k", true}, {"q4_k_m", "q4_k", true}, {"q5_k_s", "q5_k", true}, {"q5_k_m", "q5_k", true},
	{"q6_k", "q6_k", true},
	{"iq4_nl", "iq4_nl", true}, {"iq4_xs", "iq4_xs", true}, {"iq3_s", "iq3_s", true}, {"iq3_m", "iq3_s", true},
}

// aliases are the short names that llama-quantize also takes.
var aliases = map[string]string{"fp32": "f32", "fp16": "f16", "q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}

func recipeByName(name string) (recipe, error) {
	name = strings.ToLower(name)
	if a, ok := aliases[name]; ok {
		name = a
	}
	var names []string
	for _, r := range recipes {
		if r.name == name {
			return r, nil
		}
		names = append(names, r.name)
	}
	return recipe{}, fmt.Errorf("unknown quantisation %q for llama.cpp: want one of %s", name, strings.Join(names, ", "))
}

// decoderBytes is the size of the decoder's tensors in a file of this recipe.
func (r recipe) decoderBytes(t *profile.Text) units.Bytes {
	var sum int64
	for _, x := range decoderTensors(t) {
		sum += tensorBytes(r.typeOf(x, t), x.shape)
	}
	return units.Bytes(sum)
}

// projectorBytes is the size of the projector's tensors with every matrix of one type.
func projectorBytes(v *profile.Vision, matrices string) units.Bytes {
	var sum int64
	for _, x := range projectorTensors(v) {
		kind := "f32"
		if x.role == roleMatrix {
			kind = fallback(matrices, x.shape[0])
		}
		sum += tensorBytes(kind, x.shape)
	}
	return units.Bytes(sum)
}

// tensorBytes is rounded up to GGUF's alignment of 32.
func tensorBytes(kind string, shape []int64) int64 { return (rawBytes(kind, shape) + 31) / 32 * 32 }

// rawBytes is a tensor's data without padding.
func rawBytes(kind string, shape []int64) int64 {
	t, ok := ggml.TypeByName(kind)
	if !ok {
		panic("engine: no ggml type " + kind)
	}
	n := t.Row(shape[0])
	for _, s := range shape[1:] {
		n *= s
	}
	return n
}

// typeOf is the type that llama-quantize v0.5.0 (src/llama-quant.cpp) stores a tensor in, without an importance matrix.
func (r recipe) typeOf(x ggufTensor, t *profile.Text) string {
	kind := r.base
	switch {
	case x.role == roleOther:
		return "f32"
	case r.mixed:
		kind = r.mix(x, t)
	}
	return fallback(kind, x.shape[0])
}

func (r recipe) mix(x ggufTensor, t *profile.Text) string {
	n, grouped := t.Layers, t.Heads/t.KVHeads >= 4
	switch x.role {
	case roleOutput, roleEmbedding:
		if (x.role == roleOutput || t.TiedEmbeddings) && r.base != "q8_0" {
			return "q6_k"
		}
	case roleAttentionV:
		return r.mixV(x.layer, n, grouped)
	case roleAttentionOutput:
		switch r.name {
		case "q2_k":
			return "q3_k"
		case "q3_k_m", "iq3_m":
			return "q4_k"
		case "q3_k_l":
			return "q5_k"
		}
	case roleDown:
		return r.mixDown(x.layer, n)
	}
	return r.base
}

func (r recipe) mixV(layer, layers int, grouped bool) string {
	switch r.name {
	case "q2_k":
		if grouped {
			return "q4_k"
		}
		return "q3_k"
	case "q3_k_m":
		if layer < 2 {
			return "q5_k"
		}
		return "q4_k"
	case "q3_k_l":
		return "q5_k"
	case "iq3_m":
		return "q4_k"
	case "iq3_s":
		if grouped {
			return "q4_k"
		}
	case "iq4_nl", "iq4_xs":
		if grouped {
			return "q5_k"
		}
	case "q4_k_s":
		if layer < 4 {
			return "q5_k"
		}
	case "q4_k_m", "q5_k_m":
		if moreBits(layer, layers) {
			return "q6_k"
		}
	}
	return r.base
}

func (r recipe) mixDown(layer, layers int) string {
	early := layer < layers/8
	switch {
	case r.name == "q2_k":
		return "q3_k"
	case r.name == "q3_k_m" && layer < layers/16, r.name == "q3_k_l":
		return "q5_k"
	case r.name == "q3_k_m", r.name == "iq3_m" && early:
		return "q4_k"
	case slices.Contains([]string{"iq4_nl", "iq4_xs", "q4_k_s"}, r.name) && early:
		return "q5_k"
	case (r.name == "q4_k_m" || r.name == "q5_k_m") && moreBits(layer, layers):
		return "q6_k"
	}
	return r.base
}

// moreBits picks the first and last eighth of the layers and every third between.
func moreBits(layer, layers int) bool {
	return layer < layers/8 || layer >= 7*layers/8 || (layer-layers/8)%3 == 2
}

// fallback is the type of a row that is not whole blocks of kind.
func fallback(kind string, row int64) string {
	t, ok := ggml.TypeByName(kind)
	if !ok {
		panic("engine: no ggml type " + kind)
	}
	if row%t.Block == 0 {
		return kind
	}
	smaller := map[string]string{
		"q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "iq4_xs": "iq4_nl", "iq3_s": "iq4_nl",
	}[kind]
	if smaller == "" || row%32 != 0 {
		return "f16"
	}
	return smaller
}
