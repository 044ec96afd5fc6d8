package profile

import "fmt"

// ModuleKind is what a module is to a quantiser.
type ModuleKind uint8

// The kinds. Quantisers take linear layers, some of them experts, and none of them the rest.
const (
	PlainModule  ModuleKind = iota // norms, biases, positions that are no embedding
	LinearModule                   // torch.nn.Linear
	Experts                        // matrices of all experts of a layer, one parameter since transformers 5
	Router                         // scores the experts
	Embedding                      // of tokens or positions
	Head                           // the output head
	Convolution
)

// Part is the part of a model that a module counts to.
type Part uint8

// The parts, as Parameters has them.
const (
	VisionCore Part = iota
	MergerPart
	DeepstackPart
	EmbedPart
	HeadPart
	LayersPart
)

// Module is one weight of a model with its bias, named as transformers names the module that holds it.
type Module struct {
	Name    string
	Kind    ModuleKind
	Part    Part
	Count   int64 // alike matrices: experts
	Out, In int64 // rows and columns; of a plain module all its elements in one column
	Bias    int64 // elements beside the matrices
}

// Matrix is the elements of the matrices.
func (x Module) Matrix() int64 { return x.Count * x.Out * x.In }

// Elements is the matrices and what stands beside them.
func (x Module) Elements() int64 { return x.Matrix() + x.Bias }

// Vision reports whether the module belongs to the image tower or a merger.
func (x Module) Vision() bool { return x.Part <= DeepstackPart }

// inventory collects modules under a prefix.
type inventory struct {
	list         []Module
	part         Part
	prefix, here string
}

// at names the place within the prefix that the next modules stand in.
func (l *inventory) at(format string, args ...any) { l.here = fmt.Sprintf(format, args...) }

func (l *inventory) add(kind ModuleKind, name string, out, in, bias int64) {
	l.list = append(l.list, Module{l.prefix + l.here + name, kind, l.part, 1, out, in, bias})
}

func (l *inventory) plain(name string, elements int64) { l.add(PlainModule, name, elements, 1, 0) }

// experts adds the matrices of all experts of a layer.
func (l *inventory) experts(name string, count, out, in, bias int64) {
	l.list = append(l.list, Module{l.prefix + l.here + name, Experts, l.part, count, out, in, bias})
}

// Modules lists the weights of the model. A tied head is not listed: it is the embedding.
func (m *Model) Modules() []Module {
	l := inventory{}
	switch {
	case m.Vision.Depth == 0:
	case m.Vision.listed != nil:
		l.list = append(l.list, m.Vision.listed...)
	case m.Vision.Kind == Gemma3Tower, m.Vision.Kind == IdeficsTower:
		m.Vision.siglip(&l)
	case m.Vision.Kind == InternTower:
		m.Vision.intern(&l)
	case m.Vision.Kind == PixtralTower:
		m.Vision.pixtral(&l)
	default:
		l.prefix = "model.visual."
		m.Vision.modules(&l)
	}
	if m.Audio != nil {
		l.prefix = "model.audio_tower."
		m.Audio.modules(&l)
	}
	l.prefix = "model."
	if m.Images() {
		l.prefix = "model.language_model."
	}
	m.Text.modules(&l)
	return l.list
}

// modules of the towers of the Qwen family. With C, F the width and the MLP's, M = merge²·C the merger's input and D
// the text width, Qwen3-VL's are
//
//	core    = in·t·p²·C + C  +  pos·C  +  depth·(4C² + 4C + 2CF + F + C + 4C)
//	merger  = 2C + M² + M + MD + D                (norm before the shuffle)
//	each deepstack merger = 2M + M² + M + MD + D  (norm after it)
//
// Qwen2-VL's patches have no bias and no learned positions; Qwen2.5-VL's norms have no bias and its MLP has a gate.
func (v *Vision) modules(l *inventory) {
	c, f := int64(v.HiddenSize), int64(v.IntermediateSize)
	patch := int64(v.InChannels * v.TemporalPatchSize * v.PatchSize * v.PatchSize)
	bias, norm, names := c, 2*c, [2]string{"mlp.linear_fc1", "mlp.linear_fc2"}
	switch v.Kind {
	case Qwen25Tower:
		bias, norm = 0, c
	case Qwen2Tower:
		bias, names = 0, [2]string{"mlp.fc1", "mlp.fc2"}
	}
	l.part = VisionCore
	l.at("")
	l.add(Convolution, "patch_embed.proj", c, patch, bias)
	if v.PositionEmbeddings > 0 {
		l.add(Embedding, "pos_embed", int64(v.PositionEmbeddings), c, 0)
	}
	for i := range v.Depth {
		l.at("blocks.%d.", i)
		l.plain("norm1", norm)
		l.plain("norm2", norm)
		l.add(LinearModule, "attn.qkv", 3*c, c, 3*c)
		l.add(LinearModule, "attn.proj", c, c, c)
		if v.Kind == Qwen25Tower {
			l.add(LinearModule, "mlp.gate_proj", f, c, f)
			l.add(LinearModule, "mlp.up_proj", f, c, f)
			l.add(LinearModule, "mlp.down_proj", c, f, c)
			continue
		}
		l.add(LinearModule, names[0], f, c, f)
		l.add(LinearModule, names[1], c, f, c)
	}
	l.part = MergerPart
	l.at("merger.")
	v.merger(l, norm)
	l.part = DeepstackPart
	for i := range v.DeepstackLayers {
		l.at("deepstack_merger_list.%d.", i)
		v.merger(l, 2*c*int64(v.SpatialMergeSize*v.SpatialMergeSize))
	}
	l.at("")
}

func (v *Vision) merger(l *inventory, norm int64) {
	merged, out := int64(v.HiddenSize*v.SpatialMergeSize*v.SpatialMergeSize), int64(v.OutHiddenSize)
	names := [3]string{"norm", "linear_fc1", "linear_fc2"}
	if v.Kind != "" {
		names = [3]string{"ln_q", "mlp.0", "mlp.2"}
	}
	l.plain(names[0], norm)
	l.add(LinearModule, names[1], merged, merged, merged)
	l.add(LinearModule, names[2], out, merged, out)
}

// modules of a decoder, layer by layer:
//
//	layer = D·(Hq+2·Hkv)·h + Hq·h·D + 2h + 2D + MLP, MLP = 3DF or experts·3·D·F' + D·experts
//
// with what its variant adds or leaves out.
func (t *Text) modules(l *inventory) {
	d, v := int64(t.HiddenSize), t.variant()
	l.part = EmbedPart
	l.at("")
	l.add(Embedding, "embed_tokens", int64(t.VocabSize), d, 0)
	l.part = LayersPart
	for i := range t.Layers {
		l.at("layers.%d.", i)
		norms := 2 * d
		if v.PostNorms {
			norms = 4 * d
		}
		l.plain("layernorms", norms)
		switch {
		case t.LayerType(i) == LinearAttention:
			v.Linear.modules(l, d)
		case v.Latent != nil:
			v.Latent.modules(l, d, int64(t.Heads), v)
		default:
			t.attentionModules(l, v, i)
		}
		t.mlpModules(l, v, i)
	}
	l.at("")
	l.plain("norm", d)
	v.inputModules(l, d, int64(t.Layers))
	if !t.TiedEmbeddings {
		l.part, l.prefix = HeadPart, ""
		l.add(Head, "lm_head", int64(t.VocabSize), d, 0)
	}
}

func (t *Text) attentionModules(l *inventory, v Variant, layer int) {
	heads, h := t.cacheHeads(layer)
	d, q, kv := int64(t.HiddenSize), h*int64(t.Heads), h*heads
	queries := q
	if v.OutputGate {
		queries = 2 * q
	}
	bias := func(b bool, n int64) int64 {
		if b {
			return n
		}
		return 0
	}
	l.add(LinearModule, "self_attn.q_proj", queries, d, bias(v.ProjectionBias, queries))
	if t.Keeps(layer) {
		l.add(LinearModule, "self_attn.k_proj", kv, d, bias(v.ProjectionBias, kv))
	}
	if t.Keeps(layer) && (!v.KeysAreValues || t.LayerType(layer) != FullAttention) {
		l.add(LinearModule, "self_attn.v_proj", kv, d, bias(v.ProjectionBias, kv))
	}
	l.add(LinearModule, "self_attn.o_proj", d, q, bias(v.OutputBias, d))
	if !v.PlainHeads {
		l.plain("self_attn.q_norm", h)
		if t.Keeps(layer) {
			l.plain("self_attn.k_norm", h)
		}
	}
	if v.Sinks {
		l.plain("self_attn.sinks", int64(t.Heads))
	}
}

// inputModules are the inputs that each layer has of its own: a table for all layers, and a projection of the
// embeddings.
func (v *Variant) inputModules(l *inventory, d, layers int64) {
	width := int64(v.LayerInput)
	if width == 0 {
		return
	}
	l.add(LinearModule, "per_layer_model_projection", layers*width, d, 0)
	l.plain("per_layer_projection_norm", width)
	part := l.part
	l.part = EmbedPart
	l.add(Embedding, "embed_tokens_per_layer", int64(v.LayerVocab), layers*width, 0)
	l.part = part
}

func (l *Latent) modules(list *inventory, d, heads int64, v Variant) {
	rank, rope := int64(l.KVRank), int64(l.RopeDim)
	query := heads * (int64(l.NopeDim) + rope)
	var bias, out int64
	if v.ProjectionBias {
		bias, out = 1, d
	}
	if r := int64(l.QueryRank); r > 0 {
		list.add(LinearModule, "self_attn.q_a_proj", r, d, bias*r)
		list.plain("self_attn.q_a_layernorm", r)
		list.add(LinearModule, "self_attn.q_b_proj", query, r, 0)
	} else {
		list.add(LinearModule, "self_attn.q_proj", query, d, 0)
	}
	list.add(LinearModule, "self_attn.kv_a_proj_with_mqa", rank+rope, d, bias*(rank+rope))
	list.plain("self_attn.kv_a_layernorm", rank)
	list.add(LinearModule, "self_attn.kv_b_proj", heads*int64(l.NopeDim+l.ValueDim), rank, 0)
	list.add(LinearModule, "self_attn.o_proj", d, heads*int64(l.ValueDim), out)
}

func (a *Linear) modules(l *inventory, d int64) {
	keys, values := int64(a.KeyHeads*a.KeyDim), int64(a.ValueHeads*a.ValueDim)
	l.add(LinearModule, "linear_attn.in_proj_qkv", 2*keys+values, d, 0)
	l.add(LinearModule, "linear_attn.in_proj_z", values, d, 0)
	l.add(LinearModule, "linear_attn.in_proj_b", int64(a.ValueHeads), d, 0)
	l.add(LinearModule, "linear_attn.in_proj_a", int64(a.ValueHeads), d, 0)
	l.add(LinearModule, "linear_attn.out_proj", d, values, 0)
	l.add(Convolution, "linear_attn.conv1d", 2*keys+values, int64(a.Kernel), 0)
	l.plain("linear_attn.state", 2*int64(a.ValueHeads)+int64(a.ValueDim)) // dt_bias, A_log and the gated norm
}

func (t *Text) mlpModules(l *inventory, v Variant, layer int) {
	d, m := int64(t.HiddenSize), t.MoE
	gated := func(name string, f, bias int64) {
		l.add(LinearModule, name+".gate_proj", f, d, bias*f)
		l.add(LinearModule, name+".up_proj", f, d, bias*f)
		l.add(LinearModule, name+".down_proj", d, f, bias*d)
	}
	if width := int64(v.LayerInput); width > 0 {
		l.add(LinearModule, "per_layer_input_gate", width, d, 0)
		l.add(LinearModule, "per_layer_projection", d, width, 0)
		l.plain("post_per_layer_input_norm", d)
	}
	if !t.HasExperts(layer) || v.BesideExperts {
		f := int64(t.IntermediateSize)
		if v.DoubleWide && !t.Keeps(layer) {
			f *= 2
		}
		if v.DenseSize > 0 {
			f = int64(v.DenseSize)
		}
		var bias int64
		if v.MLPBias {
			bias = 1
		}
		gated("mlp", f, bias)
	}
	if !t.HasExperts(layer) {
		return
	}
	e, f := int64(m.Experts), int64(m.IntermediateSize)
	var bias int64
	if v.ExpertBias {
		bias = 1
	}
	if v.BesideExperts {
		l.add(Router, "router.proj", e, d, d+e)
		l.plain("expert_norms", 3*d)
		l.experts("experts.gate_up_proj", e, 2*f, d, 0)
		l.experts("experts.down_proj", e, d, f, 0)
		return
	}
	l.add(Router, "mlp.gate", e, d, bias*e)
	l.experts("mlp.experts.gate_up_proj", e, 2*f, d, bias*e*2*f)
	l.experts("mlp.experts.down_proj", e, d, f, bias*e*d)
	if v.SharedExperts > 0 {
		shared := int64(0)
		if v.MLPBias {
			shared = 1
		}
		gated("mlp.shared_experts", f*int64(v.SharedExperts), shared)
	}
	if v.SharedSize > 0 {
		gated("mlp.shared_expert", int64(v.SharedSize), 0)
		l.add(LinearModule, "mlp.shared_expert_gate", 1, d, 0)
	}
}
