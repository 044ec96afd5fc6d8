package profile

// Variant is how a decoder differs from Qwen3-VL's, which norms the heads of queries and keys, keeps keys and values of
// every token in every layer, and has one kind of MLP. Models without a tower have one.
type Variant struct {
	Architecture string `yaml:"architecture" json:"architecture"` // as the weights file names it: llama, qwen3, gemma3
	PlainHeads   bool   `yaml:"plain_heads,omitempty" json:"plain_heads,omitempty"`
	// of queries, keys and values
	ProjectionBias bool `yaml:"projection_bias,omitempty" json:"projection_bias,omitempty"`
	// attention and MLP are followed by norms too
	PostNorms bool `yaml:"post_norms,omitempty" json:"post_norms,omitempty"`
	// tokens that a sliding layer sees, 0: none slides
	Window int `yaml:"window,omitempty" json:"window,omitempty"`
	// every so manieth layer sees all tokens, 0: all slide
	FullEvery int     `yaml:"full_every,omitempty" json:"full_every,omitempty"`
	Latent    *Latent `yaml:"latent,omitempty" json:"latent,omitempty"`
	// of a mixture, the first that have a dense MLP
	DenseLayers   int `yaml:"dense_layers,omitempty" json:"dense_layers,omitempty"`
	SharedExperts int `yaml:"shared_experts,omitempty" json:"shared_experts,omitempty"`
}

// Latent is attention over compressed keys and values (MLA): a layer keeps KVRank + RopeDim elements of a token,
// whatever its heads.
type Latent struct {
	QueryRank int `yaml:"q_lora_rank,omitempty" json:"q_lora_rank,omitempty"` // 0: queries are not compressed
	KVRank    int `yaml:"kv_lora_rank" json:"kv_lora_rank"`
	NopeDim   int `yaml:"qk_nope_head_dim" json:"qk_nope_head_dim"`
	RopeDim   int `yaml:"qk_rope_head_dim" json:"qk_rope_head_dim"`
	ValueDim  int `yaml:"v_head_dim" json:"v_head_dim"`
}

// TextOnly reports whether a model has no tower: it can be estimated, and nothing else.
func (m *Model) TextOnly() bool { return m.Text.Variant != nil }

// variant is the decoder's, the zero value for Qwen3-VL's own.
func (t *Text) variant() Variant {
	if t.Variant == nil {
		return Variant{}
	}
	return *t.Variant
}

// Slides reports whether a layer sees a window of tokens alone.
func (t *Text) Slides(layer int) bool {
	v := t.variant()
	return v.Window > 0 && (v.FullEvery == 0 || layer%v.FullEvery < v.FullEvery-1)
}

// CacheRow is the elements that a layer keeps of a token: keys and values of every key-value head, or what they are
// computed from.
func (t *Text) CacheRow() int64 {
	if l := t.variant().Latent; l != nil {
		return int64(l.KVRank + l.RopeDim)
	}
	return 2 * int64(t.KVHeads) * int64(t.HeadDim)
}

// CachedElements is what one sequence of tokens leaves in the caches of all layers. A sliding layer keeps its window.
func (t *Text) CachedElements(tokens int) int64 {
	var sum int64
	for layer := range t.Layers {
		kept := tokens
		if t.Slides(layer) {
			kept = min(tokens, t.Variant.Window)
		}
		sum += int64(kept) * t.CacheRow()
	}
	return sum
}

// layersParameters counts the weights, biases and norms of all layers.
func (t *Text) layersParameters() int64 {
	v := t.variant()
	d := int64(t.HiddenSize)
	norms := 2 * d
	if v.PostNorms {
		norms = 4 * d
	}
	dense := 3 * d * int64(t.IntermediateSize)
	var sum int64
	for layer := range t.Layers {
		mlp := dense
		if m := t.MoE; m != nil && layer >= v.DenseLayers {
			mlp = int64(m.Experts+v.SharedExperts)*3*d*int64(m.IntermediateSize) + d*int64(m.Experts)
		}
		sum += t.attentionParameters() + norms + mlp
	}
	return sum
}

func (t *Text) attentionParameters() int64 {
	v := t.variant()
	d, h, heads := int64(t.HiddenSize), int64(t.HeadDim), int64(t.Heads)
	if l := v.Latent; l != nil {
		rank, query := int64(l.KVRank), heads*int64(l.NopeDim+l.RopeDim)
		queries := d * query
		if r := int64(l.QueryRank); r > 0 {
			queries = d*r + r + r*query
		}
		return queries + d*(rank+int64(l.RopeDim)) + rank + rank*heads*int64(l.NopeDim+l.ValueDim) + heads*int64(l.ValueDim)*d
	}
	q, kv := heads*h, int64(t.KVHeads)*h
	n := d*(q+2*kv) + q*d
	if !v.PlainHeads {
		n += 2 * h
	}
	if v.ProjectionBias {
		n += q + 2*kv
	}
	return n
}
