package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// textKeys is what of a decoder's config.json decides memory, beside what Qwen3-VL has.
type textKeys struct {
	huggingFaceText
	UseWindow   *bool    `json:"use_sliding_window"`
	Window      *int     `json:"sliding_window"`
	FullEvery   *int     `json:"sliding_window_pattern"`
	LayerTypes  []string `json:"layer_types"`       // sliding_attention, full_attention
	LocalExpert *int     `json:"num_local_experts"` // Mixtral's name
	Routed      *int     `json:"n_routed_experts"`  // DeepSeek's names, and those below
	Shared      *int     `json:"n_shared_experts"`
	FirstDense  *int     `json:"first_k_dense_replace"`
	QueryRank   *int     `json:"q_lora_rank"`
	KVRank      *int     `json:"kv_lora_rank"`
	NopeDim     *int     `json:"qk_nope_head_dim"`
	RopeDim     *int     `json:"qk_rope_head_dim"`
	ValueDim    *int     `json:"v_head_dim"`
}

// family is what a model_type says without a key. A configuration is published without the keys that equal its class's
// default, which for these classes are the checkpoints' own values.
type family struct {
	variant                                        Variant
	tied                                           bool
	window                                         int // this and the rest: where no key says another
	fullEvery                                      int
	heads, kvHeads, headDim, vocabulary, positions int
}

var families = map[string]family{
	"qwen2":     {variant: Variant{Architecture: "qwen2", PlainHeads: true, ProjectionBias: true}},
	"qwen3":     {variant: Variant{Architecture: "qwen3"}},
	"qwen3_moe": {variant: Variant{Architecture: "qwen3moe"}},
	"llama":     {variant: Variant{Architecture: "llama", PlainHeads: true}},
	"mistral":   {variant: Variant{Architecture: "llama", PlainHeads: true}},
	"mixtral":   {variant: Variant{Architecture: "llama", PlainHeads: true}},
	"gemma2": {variant: Variant{Architecture: "gemma2", PlainHeads: true, PostNorms: true}, tied: true, window: 4096,
		fullEvery: 2},
	"gemma3": {variant: Variant{Architecture: "gemma3", PostNorms: true}, tied: true, fullEvery: 6,
		heads: 8, kvHeads: 4, headDim: 256, vocabulary: 262208, positions: 131072},
	"gemma3_text": {variant: Variant{Architecture: "gemma3", PostNorms: true}, tied: true, fullEvery: 6},
	"deepseek_v2": {variant: Variant{Architecture: "deepseek2", PlainHeads: true}},
	"deepseek_v3": {variant: Variant{Architecture: "deepseek2", PlainHeads: true}},
}

// TextFamilies are the model types that DecodeHuggingFaceText reads.
func TextFamilies() []string {
	var list []string
	for name := range families {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// DecodeHuggingFaceText reads the config.json of a decoder without a tower, or with one that is left out (Gemma 3). The
// model has no Vision; it can be estimated, and neither replayed nor advised on.
func DecodeHuggingFaceText(name string, data []byte) (Model, error) {
	var c struct {
		ModelType string    `json:"model_type"`
		Tied      *bool     `json:"tie_word_embeddings"`
		Text      *textKeys `json:"text_config"`
	}
	var t textKeys
	for _, into := range []any{&c, &t} {
		if err := json.Unmarshal(data, into); err != nil {
			return Model{}, jsonError(name, data, err)
		}
	}
	f, known := families[c.ModelType]
	if !known {
		return Model{}, fmt.Errorf("%s: model_type is %q, want qwen3_vl, qwen3_vl_moe or one of %s", name, c.ModelType,
			strings.Join(TextFamilies(), ", "))
	}
	if c.Text != nil {
		t = *c.Text
	}
	for _, tied := range []*bool{t.Tied, c.Tied} {
		if tied != nil {
			f.tied = *tied
		}
	}
	text, err := t.decoder(f)
	if err != nil {
		return Model{}, fmt.Errorf("%s: %w", name, err)
	}
	m := Model{Schema: ModelSchema, Name: name, Text: text, Source: Sources{"default": name}}
	if err := m.Text.Validate(); err != nil {
		return Model{}, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

func (t *textKeys) decoder(f family) (Text, error) {
	t.complete(f)
	var missing []string
	need := func(key string, v *int) int {
		if v == nil {
			missing = append(missing, strings.TrimPrefix(key, "text_config."))
			return 0
		}
		return *v
	}
	kind := ""
	if t.Experts != nil && *t.Experts > 1 {
		kind = "qwen3_vl_moe"
	}
	text := t.text(kind, need)
	text.TiedEmbeddings = f.tied
	v := t.variant(f, need)
	if text.MoE == nil {
		v.DenseLayers, v.SharedExperts = 0, 0
	}
	text.Variant = &v
	if len(missing) > 0 {
		return text, errors.New(strings.Join(missing, ", ") + " missing")
	}
	return text, nil
}

// complete fills in what goes by another name, or is left out because it follows from the rest or from the class.
func (t *textKeys) complete(f family) {
	first := func(into **int, from ...*int) {
		for _, p := range from {
			if *into == nil && p != nil && *p > 0 {
				*into = p
			}
		}
	}
	first(&t.Experts, t.LocalExpert, t.Routed)
	first(&t.Heads, &f.heads)
	first(&t.KVHeads, &f.kvHeads, t.Heads) // or every head has its own
	first(&t.VocabSize, &f.vocabulary)
	first(&t.MaxPositions, &f.positions)
	first(&t.HeadDim, &f.headDim)
	if t.HeadDim == nil && t.HiddenSize != nil && t.Heads != nil && *t.Heads > 0 {
		share := *t.HiddenSize / *t.Heads
		t.HeadDim = &share
	}
	if t.LocalExpert != nil {
		first(&t.ExpertSize, t.IntermediateSize)
	}
}

// variant is the family's with what the keys say.
func (t *textKeys) variant(f family, need func(string, *int) int) Variant {
	v := f.variant
	or := func(p *int, otherwise int) int {
		if p == nil {
			return otherwise
		}
		return *p
	}
	v.ProjectionBias = v.ProjectionBias || t.AttentionBias
	if v.Window = f.window; t.UseWindow == nil || *t.UseWindow {
		v.Window = or(t.Window, f.window)
	}
	if v.FullEvery = or(t.FullEvery, f.fullEvery); len(t.LayerTypes) > 0 {
		v.FullEvery = slices.Index(t.LayerTypes, "full_attention") + 1
	}
	if v.Window == 0 {
		v.FullEvery = 0
	}
	if t.KVRank != nil {
		v.Latent = &Latent{QueryRank: or(t.QueryRank, 0), KVRank: *t.KVRank, NopeDim: need("qk_nope_head_dim", t.NopeDim),
			RopeDim: need("qk_rope_head_dim", t.RopeDim), ValueDim: need("v_head_dim", t.ValueDim)}
	}
	v.DenseLayers, v.SharedExperts = or(t.FirstDense, 0), or(t.Shared, 0)
	return v
}
