package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// huggingFaceConfig is what of a config.json decides memory. A nil pointer is a key that the file lacks.
type huggingFaceConfig struct {
	ModelType string             `json:"model_type"`
	Tied      *bool              `json:"tie_word_embeddings"`
	Text      *huggingFaceText   `json:"text_config"`
	Vision    *huggingFaceVision `json:"vision_config"`
}

type huggingFaceText struct {
	HiddenSize       *int  `json:"hidden_size"`
	Layers           *int  `json:"num_hidden_layers"`
	Heads            *int  `json:"num_attention_heads"`
	KVHeads          *int  `json:"num_key_value_heads"`
	HeadDim          *int  `json:"head_dim"`
	IntermediateSize *int  `json:"intermediate_size"`
	VocabSize        *int  `json:"vocab_size"`
	MaxPositions     *int  `json:"max_position_embeddings"`
	Tied             *bool `json:"tie_word_embeddings"`
	Experts          *int  `json:"num_experts"`
	ExpertsPerToken  *int  `json:"num_experts_per_tok"`
	ExpertSize       *int  `json:"moe_intermediate_size"`
	DenseLayers      []int `json:"mlp_only_layers"`
	SparseStep       *int  `json:"decoder_sparse_step"`
	AttentionBias    bool  `json:"attention_bias"`
}

type huggingFaceVision struct {
	Depth              *int  `json:"depth"`
	HiddenSize         *int  `json:"hidden_size"`
	Heads              *int  `json:"num_heads"`
	IntermediateSize   *int  `json:"intermediate_size"`
	InChannels         *int  `json:"in_channels"`
	PatchSize          *int  `json:"patch_size"`
	TemporalPatchSize  *int  `json:"temporal_patch_size"`
	SpatialMergeSize   *int  `json:"spatial_merge_size"`
	PositionEmbeddings *int  `json:"num_position_embeddings"`
	OutHiddenSize      *int  `json:"out_hidden_size"`
	DeepstackLayers    []int `json:"deepstack_visual_indexes"`
}

// DecodeHuggingFace reads a Qwen3-VL config.json, dense or mixture of experts. Keys that do not decide memory are
// passed over; one that does and is missing is an error, never a default: the defaults of the configuration classes
// match no published checkpoint. config.json says nothing of preprocessing, so the limits are those of the published
// Qwen3-VL processors, marked as assumed.
func DecodeHuggingFace(name string, data []byte) (Model, error) {
	var c huggingFaceConfig
	if err := json.Unmarshal(data, &c); err != nil {
		return Model{}, jsonError(name, data, err)
	}
	if _, text := families[c.ModelType]; text {
		return Model{}, fmt.Errorf("%s: model_type is %q, a model without images, which estimate alone takes; want qwen3_vl or qwen3_vl_moe", name, c.ModelType)
	}
	if !c.withImages() {
		return Model{}, fmt.Errorf("%s: model_type is %q, want qwen3_vl or qwen3_vl_moe", name, c.ModelType)
	}
	m, err := c.model()
	if err != nil {
		return Model{}, fmt.Errorf("%s: %w", name, err)
	}
	m.Schema, m.Name = ModelSchema, name
	m.Source = Sources{"default": name, "preprocess": "assumed: the published Qwen3-VL processors' limits"}
	if err := m.Validate(); err != nil {
		return Model{}, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// WithImages reports whether a config.json is of a model that DecodeHuggingFace reads.
func WithImages(data []byte) bool {
	var c huggingFaceConfig
	_ = json.Unmarshal(data, &c) // what is no JSON is neither
	return c.withImages()
}

func (c *huggingFaceConfig) withImages() bool {
	return c.ModelType == "qwen3_vl" || c.ModelType == "qwen3_vl_moe"
}

// LooksLikeHuggingFace tells a Hugging Face config.json from a model document of this package's own schema.
func LooksLikeHuggingFace(data []byte) bool {
	var c struct {
		Schema        string `json:"schema"`
		ModelType     string `json:"model_type"`
		Architectures []any  `json:"architectures"`
	}
	if json.Unmarshal(data, &c) != nil {
		// A broken config.json still deserves a message about JSON.
		return bytes.Contains(data, []byte(`"model_type"`))
	}
	return c.Schema == "" && (c.ModelType != "" || len(c.Architectures) > 0)
}

func (c *huggingFaceConfig) model() (Model, error) {
	switch {
	case c.Text == nil:
		return Model{}, errors.New("text_config is missing")
	case c.Vision == nil:
		return Model{}, errors.New("vision_config is missing")
	case c.Text.AttentionBias:
		return Model{}, errors.New("text_config.attention_bias is true, which no known Qwen3-VL has")
	case c.ModelType == "qwen3_vl_moe" && (len(c.Text.DenseLayers) > 0 || c.Text.SparseStep != nil &&
		*c.Text.SparseStep != 1):
		return Model{}, errors.New("text_config mixes dense and expert layers, which no known Qwen3-VL does")
	}
	var missing []string
	need := func(key string, v *int) int {
		if v == nil {
			missing = append(missing, key)
			return 0
		}
		return *v
	}
	m := Model{Text: c.Text.text(c.ModelType, need), Vision: c.Vision.vision(need), Preprocess: publishedPreprocess}
	tied := c.Tied // the outer key is the one that transformers obeys
	if tied == nil {
		tied = c.Text.Tied
	}
	if tied == nil {
		missing = append(missing, "tie_word_embeddings")
	} else {
		m.Text.TiedEmbeddings = *tied
	}
	if len(missing) > 0 {
		return Model{}, errors.New(strings.Join(missing, ", ") + " missing")
	}
	return m, nil
}

func (t *huggingFaceText) text(modelType string, need func(string, *int) int) Text {
	text := Text{
		HiddenSize: need("text_config.hidden_size", t.HiddenSize), Layers: need("text_config.num_hidden_layers", t.Layers),
		Heads: need("text_config.num_attention_heads", t.Heads), KVHeads: need("text_config.num_key_value_heads", t.KVHeads),
		HeadDim: need("text_config.head_dim", t.HeadDim), IntermediateSize: need("text_config.intermediate_size",
			t.IntermediateSize),
		VocabSize: need("text_config.vocab_size", t.VocabSize), MaxPositions: need("text_config.max_position_embeddings",
			t.MaxPositions),
	}
	if modelType == "qwen3_vl_moe" {
		text.MoE = &MoE{
			Experts: need("text_config.num_experts", t.Experts), ExpertsPerToken: need("text_config.num_experts_per_tok",
				t.ExpertsPerToken),
			IntermediateSize: need("text_config.moe_intermediate_size", t.ExpertSize),
		}
	}
	return text
}

func (v *huggingFaceVision) vision(need func(string, *int) int) Vision {
	return Vision{
		Depth: need("vision_config.depth", v.Depth), HiddenSize: need("vision_config.hidden_size", v.HiddenSize),
		Heads: need("vision_config.num_heads", v.Heads), IntermediateSize: need("vision_config.intermediate_size",
			v.IntermediateSize),
		InChannels: need("vision_config.in_channels", v.InChannels), PatchSize: need("vision_config.patch_size", v.PatchSize),
		TemporalPatchSize:  need("vision_config.temporal_patch_size", v.TemporalPatchSize),
		SpatialMergeSize:   need("vision_config.spatial_merge_size", v.SpatialMergeSize),
		PositionEmbeddings: need("vision_config.num_position_embeddings", v.PositionEmbeddings),
		OutHiddenSize:      need("vision_config.out_hidden_size", v.OutHiddenSize), DeepstackLayers: v.DeepstackLayers,
	}
}

// publishedPreprocess is the limits of the published Qwen3-VL image and video processors, as in the built-in models.
var publishedPreprocess = Preprocess{
	MinPixels: 65536, MaxPixels: 16777216, VideoMinPixels: 4096, VideoMaxPixels: 25165824,
	VideoFPS: 2, VideoMinFrames: 4, VideoMaxFrames: 768,
}

// jsonError puts name and line before what the decoder says.
func jsonError(name string, data []byte, err error) error {
	offset := int64(-1)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		return fmt.Errorf("%s:%d: %s is a %s, want a number", name, line(data, kind.Offset), kind.Field, kind.Value)
	}
	if offset < 0 {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s:%d: %w", name, line(data, offset), err)
}

func line(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}
