package profile

import (
	"fmt"
	"slices"
)

// Variant is how a decoder differs from Qwen3-VL's, which norms the heads of queries and keys, keeps keys and values of
// every token in every layer, and has one kind of MLP.
type Variant struct {
	Architecture string `yaml:"architecture" json:"architecture"` // as the weights file names it: llama, qwen3, gemma3
	PlainHeads   bool   `yaml:"plain_heads,omitempty" json:"plain_heads,omitempty"`
	// of queries, keys and values
	ProjectionBias bool `yaml:"projection_bias,omitempty" json:"projection_bias,omitempty"`
	// attention and MLP are followed by norms too
	PostNorms bool `yaml:"post_norms,omitempty" json:"post_norms,omitempty"`
	// tokens that a sliding layer sees, 0: none slides
	Window int `yaml:"window,omitempty" json:"window,omitempty"`
	// every so manieth layer sees all tokens, 0: all slide; with linear attention the layers between have it
	FullEvery int `yaml:"full_every,omitempty" json:"full_every,omitempty"`
	// what each layer sees; in place of FullEvery where the layers are named one by one
	LayerTypes []LayerType `yaml:"layer_types,omitempty" json:"layer_types,omitempty"`
	Latent     *Latent     `yaml:"latent,omitempty" json:"latent,omitempty"`
	Linear     *Linear     `yaml:"linear,omitempty" json:"linear,omitempty"` // of the layers of linear attention
	// of a mixture, the first that have a dense MLP
	// experts are picked with a bias for each
	RouterBias    bool  `yaml:"router_bias,omitempty" json:"router_bias,omitempty"`
	DenseLayers   int   `yaml:"dense_layers,omitempty" json:"dense_layers,omitempty"`
	DenseAt       []int `yaml:"dense_at,omitempty" json:"dense_at,omitempty"` // and others that have
	SharedExperts int   `yaml:"shared_experts,omitempty" json:"shared_experts,omitempty"`
	// width of a shared expert that a gate weighs, 0: none
	SharedSize int `yaml:"shared_expert_intermediate_size,omitempty" json:"shared_expert_intermediate_size,omitempty"`
	// width of a dense MLP between experts where it is not intermediate_size
	DenseSize  int  `yaml:"intermediate_size_mlp,omitempty" json:"intermediate_size_mlp,omitempty"`
	OutputBias bool `yaml:"output_bias,omitempty" json:"output_bias,omitempty"` // of attention's way back
	MLPBias    bool `yaml:"mlp_bias,omitempty" json:"mlp_bias,omitempty"`
	ExpertBias bool `yaml:"expert_bias,omitempty" json:"expert_bias,omitempty"` // of experts and router
	Sinks      bool `yaml:"sinks,omitempty" json:"sinks,omitempty"`             // a learned score a head
	OutputGate bool `yaml:"output_gate,omitempty" json:"output_gate,omitempty"` // attention's result is gated
	// of the heads' width, how much rotates; 0: all
	RotaryFactor  float64 `yaml:"partial_rotary_factor,omitempty" json:"partial_rotary_factor,omitempty"`
	PackedExperts bool    `yaml:"packed_experts,omitempty" json:"packed_experts,omitempty"`

	// of Gemma 4: heads of the layers that see all tokens, 0: as elsewhere; their values are their keys
	FullHeadDim   int  `yaml:"global_head_dim,omitempty" json:"global_head_dim,omitempty"`
	FullKVHeads   int  `yaml:"num_global_key_value_heads,omitempty" json:"num_global_key_value_heads,omitempty"`
	KeysAreValues bool `yaml:"attention_k_eq_v,omitempty" json:"attention_k_eq_v,omitempty"`
	// so many last layers see the keys and values of one before them, with MLPs of twice the width
	SharedLayers int  `yaml:"num_kv_shared_layers,omitempty" json:"num_kv_shared_layers,omitempty"`
	DoubleWide   bool `yaml:"use_double_wide_mlp,omitempty" json:"use_double_wide_mlp,omitempty"`
	// each layer has inputs of its own from a table of so many rows
	LayerInput int `yaml:"hidden_size_per_layer_input,omitempty" json:"hidden_size_per_layer_input,omitempty"`
	LayerVocab int `yaml:"vocab_size_per_layer_input,omitempty" json:"vocab_size_per_layer_input,omitempty"`
	// a dense MLP stands beside the experts
	BesideExperts bool `yaml:"beside_experts,omitempty" json:"beside_experts,omitempty"`
}

// LayerType is what of the tokens before it a layer sees, as transformers names it.
type LayerType string

// The types. Chunked attention sees the tokens of its chunk, linear attention a state of constant size.
const (
	FullAttention    LayerType = "full_attention"
	SlidingAttention LayerType = "sliding_attention"
	ChunkedAttention LayerType = "chunked_attention"
	LinearAttention  LayerType = "linear_attention"
)

// Linear is a gated delta rule: a layer keeps a matrix a value head, and the last inputs of its convolution, whatever
// the length of the context.
type Linear struct {
	KeyHeads   int `yaml:"linear_num_key_heads" json:"linear_num_key_heads"`
	ValueHeads int `yaml:"linear_num_value_heads" json:"linear_num_value_heads"`
	KeyDim     int `yaml:"linear_key_head_dim" json:"linear_key_head_dim"`
	ValueDim   int `yaml:"linear_value_head_dim" json:"linear_value_head_dim"`
	Kernel     int `yaml:"linear_conv_kernel_dim" json:"linear_conv_kernel_dim"`
}

// RecurrentBytes is the state of one sequence in one layer, in fp32 whatever the model's type.
func (a *Linear) RecurrentBytes() int64 { return 4 * int64(a.ValueHeads*a.KeyDim*a.ValueDim) }

// ConvolutionBytes is what one layer keeps of one sequence's last tokens, in elements of so many bytes.
func (a *Linear) ConvolutionBytes(element int64) int64 {
	return int64(2*a.KeyHeads*a.KeyDim+a.ValueHeads*a.ValueDim) * int64(a.Kernel) * element
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

// Images reports whether the model has a tower.
func (m *Model) Images() bool { return m.Vision.Depth > 0 }

// TextOnly reports whether a model has no tower.
func (m *Model) TextOnly() bool { return !m.Images() }

// Replayable is nil where the model's requests can be replayed allocation by allocation, which bench, advise and trace
// gen do.
func (m *Model) Replayable() error {
	v, tower := m.Text.Variant, m.Vision.Kind
	decoder := v == nil || v.Linear != nil && v.OutputGate || v.Architecture == "qwen2vl" && v.Window == 0
	if m.Images() && decoder && (tower == "" || tower == Qwen25Tower) {
		return nil
	}
	if m.TextOnly() {
		return fmt.Errorf("%s: %s is a model without images, which estimate alone takes", m.Name, m.kind())
	}
	return fmt.Errorf("%s: requests of %s are not replayed: estimate and advise --for an engine take it", m.Name, m.kind())
}

func (m *Model) kind() string {
	if m.Kind == "" && m.Text.Variant != nil {
		return m.Text.Variant.Architecture
	}
	return m.Kind
}

// variant is the decoder's, the zero value for Qwen3-VL's own.
func (t *Text) variant() Variant {
	if t.Variant == nil {
		return Variant{}
	}
	return *t.Variant
}

// LayerType is what a layer sees.
func (t *Text) LayerType(layer int) LayerType {
	v := t.variant()
	switch {
	case len(v.LayerTypes) > layer:
		return v.LayerTypes[layer]
	case v.Linear != nil && v.FullEvery > 0 && (layer+1)%v.FullEvery != 0:
		return LinearAttention
	case len(v.LayerTypes) == 0 && v.Window > 0 && (v.FullEvery == 0 || layer%v.FullEvery < v.FullEvery-1):
		return SlidingAttention
	}
	return FullAttention
}

// Slides reports whether a layer sees a window of tokens alone.
func (t *Text) Slides(layer int) bool {
	kind := t.LayerType(layer)
	return kind == SlidingAttention || kind == ChunkedAttention
}

// HasExperts reports whether a layer has a mixture of experts in place of a dense MLP.
func (t *Text) HasExperts(layer int) bool {
	v := t.variant()
	return t.MoE != nil && layer >= v.DenseLayers && !slices.Contains(v.DenseAt, layer)
}

// CacheRow is the elements that a layer keeps of a token: keys and values of every key-value head, or what they are
// computed from.
func (t *Text) CacheRow() int64 {
	if l := t.variant().Latent; l != nil {
		return int64(l.KVRank + l.RopeDim)
	}
	return 2 * int64(t.KVHeads) * int64(t.HeadDim)
}

// cacheHeads is the heads of keys and values of a layer, and their width.
func (t *Text) cacheHeads(layer int) (heads, width int64) {
	heads, width = int64(t.KVHeads), int64(t.HeadDim)
	if v := t.Variant; v != nil && v.FullHeadDim > 0 && t.LayerType(layer) == FullAttention {
		width = int64(v.FullHeadDim)
		if v.FullKVHeads > 0 {
			heads = int64(v.FullKVHeads)
		}
	}
	return heads, width
}

// rowAt is the elements that one layer keeps of a token.
func (t *Text) rowAt(layer int) int64 {
	if t.variant().Latent != nil {
		return t.CacheRow()
	}
	heads, width := t.cacheHeads(layer)
	return 2 * heads * width
}

// Keeps reports whether a layer keeps keys and values of its own.
func (t *Text) Keeps(layer int) bool {
	v := t.Variant
	return v == nil || layer < t.Layers-v.SharedLayers && t.LayerType(layer) != LinearAttention
}

// KeptElements is what all layers keep of one token.
func (t *Text) KeptElements() (sum int64) {
	for layer := range t.Layers {
		if t.Keeps(layer) {
			sum += t.rowAt(layer)
		}
	}
	return sum
}

// Uniform reports whether every layer that keeps tokens keeps as much of one.
func (t *Text) Uniform() bool {
	v := t.Variant
	return v == nil || v.FullHeadDim == 0 && v.SharedLayers == 0
}

// CachedLayers is how many layers keep something of every token, or of every token of a window.
func (t *Text) CachedLayers() int {
	n := 0
	for layer := range t.Layers {
		if t.Keeps(layer) {
			n++
		}
	}
	return n
}

// CachedBefore is how many of the layers before this one keep tokens.
func (t *Text) CachedBefore(layer int) int {
	if t.variant().Linear == nil {
		return layer
	}
	n := 0
	for i := range layer {
		if t.LayerType(i) != LinearAttention {
			n++
		}
	}
	return n
}

// QueryWidth is what queries are projected to: of each head its width, and a gate as wide where there is one.
func (t *Text) QueryWidth() int64 {
	width := int64(t.Heads) * int64(t.HeadDim)
	if t.variant().OutputGate {
		return 2 * width
	}
	return width
}

// RotaryDim is how much of a head's width rotates.
func (t *Text) RotaryDim() int {
	if f := t.variant().RotaryFactor; f > 0 {
		return int(float64(t.HeadDim) * f)
	}
	return t.HeadDim
}

// CachedElements is what one sequence of tokens leaves in the caches of all layers as transformers keeps them. A layer
// that slides keeps one token less than its window: the window counts the token to come.
func (t *Text) CachedElements(tokens int) int64 {
	var sum int64
	for layer := range t.Layers {
		kept := tokens
		switch {
		case !t.Keeps(layer):
			kept = 0
		case t.Slides(layer):
			kept = min(tokens, t.Variant.Window-1)
		}
		sum += int64(kept) * t.rowAt(layer)
	}
	return sum
}

// StateBytes is what one sequence leaves in the layers of linear attention, however long it is, with convolutions in
// elements of so many bytes.
func (t *Text) StateBytes(element int64) int64 {
	a := t.variant().Linear
	if a == nil {
		return 0
	}
	return int64(t.LinearLayers()) * (a.RecurrentBytes() + a.ConvolutionBytes(element))
}

// LinearLayers is how many layers keep a state in place of tokens.
func (t *Text) LinearLayers() (n int) {
	for layer := range t.Layers {
		if t.LayerType(layer) == LinearAttention {
			n++
		}
	}
	return n
}
