package profile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/units"
)

// ModelSchema is the version that model files name in their schema key.
const ModelSchema = "vlmem/model/v1"

// Model is the architecture of one vision-language model.
type Model struct {
	Schema     string     `yaml:"schema" json:"schema"`
	Name       string     `yaml:"name" json:"name"`
	Repository string     `yaml:"repository,omitempty" json:"repository,omitempty"` // where its weights are published
	Text       Text       `yaml:"text" json:"text"`
	Vision     Vision     `yaml:"vision" json:"vision"`
	Preprocess Preprocess `yaml:"preprocess" json:"preprocess"`
	Source     Sources    `yaml:"source,omitempty" json:"source,omitempty"`

	Kind string `yaml:"model_type,omitempty" json:"model_type,omitempty"` // the class in transformers, where it is known
	// of the published weights; "" where nothing is said
	DType DType `yaml:"dtype,omitempty" json:"dtype,omitempty"`
	// how the published weights are quantised, nil: they are not
	Quantisation *Quantisation `yaml:"-" json:"-"`
	Audio        *Audio        `yaml:"audio,omitempty" json:"audio,omitempty"` // nil: the model does not hear
	// how many tokens end a text; 0: not said
	EndTokens int      `yaml:"end_tokens,omitempty" json:"end_tokens,omitempty"`
	Notes     []string `yaml:"-" json:"-"` // what was assumed in reading it, a sentence each
}

// Audio is the encoder of sound beside the tower of Qwen3-Omni's thinker.
type Audio struct {
	Layers     int `yaml:"encoder_layers" json:"encoder_layers"`
	HiddenSize int `yaml:"d_model" json:"d_model"`
	MLP        int `yaml:"encoder_ffn_dim" json:"encoder_ffn_dim"`
	MelBins    int `yaml:"num_mel_bins" json:"num_mel_bins"`
	Channels   int `yaml:"downsample_hidden_size" json:"downsample_hidden_size"` // of the convolutions before it
	Output     int `yaml:"output_dim" json:"output_dim"`
}

// TowerKind is whose tower it is.
type TowerKind string

// The towers. "" is Qwen3-VL's, which Qwen3.5 has without deepstack levels.
const (
	Qwen2Tower   TowerKind = "qwen2_vl"
	Qwen25Tower  TowerKind = "qwen2_5_vl"
	Gemma3Tower  TowerKind = "gemma3" // SigLIP and a mean over neighbouring patches
	InternTower  TowerKind = "internvl"
	PixtralTower TowerKind = "pixtral"
	IdeficsTower TowerKind = "idefics3" // SigLIP and neighbouring patches side by side; SmolVLM's too
	// known by their weights, which their readers list
	Gemma4Tower   TowerKind = "gemma4"
	GLMTower      TowerKind = "glm4v"
	Llama4Tower   TowerKind = "llama4"
	MiniCPMTower  TowerKind = "minicpmv"
	DeepSeekTower TowerKind = "deepseek_ocr"
)

// Text is the decoder. Field names follow the Hugging Face configuration.
type Text struct {
	HiddenSize       int  `yaml:"hidden_size" json:"hidden_size"`
	Layers           int  `yaml:"num_hidden_layers" json:"num_hidden_layers"`
	Heads            int  `yaml:"num_attention_heads" json:"num_attention_heads"`
	KVHeads          int  `yaml:"num_key_value_heads" json:"num_key_value_heads"`
	HeadDim          int  `yaml:"head_dim" json:"head_dim"`
	IntermediateSize int  `yaml:"intermediate_size" json:"intermediate_size"` // of the dense MLP; unused where MoE is set
	VocabSize        int  `yaml:"vocab_size" json:"vocab_size"`
	MaxPositions     int  `yaml:"max_position_embeddings" json:"max_position_embeddings"`
	TiedEmbeddings   bool `yaml:"tie_word_embeddings" json:"tie_word_embeddings"`
	MoE              *MoE `yaml:"moe,omitempty" json:"moe,omitempty"`

	// PredictLayers are a GGUF's blocks of multi-token prediction after the layers: a layer that is split off counts them.
	PredictLayers int `yaml:"nextn_predict_layers,omitempty" json:"nextn_predict_layers,omitempty"`

	Variant *Variant `yaml:"variant,omitempty" json:"variant,omitempty"` // nil: the decoder of Qwen3-VL
}

// Blocks is how many blocks a GGUF of the decoder holds.
func (t *Text) Blocks() int { return t.Layers + t.PredictLayers }

// MoE is a mixture of experts in place of every dense MLP.
type MoE struct {
	Experts          int `yaml:"num_experts" json:"num_experts"`
	ExpertsPerToken  int `yaml:"num_experts_per_tok" json:"num_experts_per_tok"`
	IntermediateSize int `yaml:"moe_intermediate_size" json:"moe_intermediate_size"`
}

// Vision is the image tower with its mergers.
type Vision struct {
	Depth              int   `yaml:"depth" json:"depth"`
	HiddenSize         int   `yaml:"hidden_size" json:"hidden_size"`
	Heads              int   `yaml:"num_heads" json:"num_heads"`
	IntermediateSize   int   `yaml:"intermediate_size" json:"intermediate_size"`
	InChannels         int   `yaml:"in_channels" json:"in_channels"`
	PatchSize          int   `yaml:"patch_size" json:"patch_size"`
	TemporalPatchSize  int   `yaml:"temporal_patch_size" json:"temporal_patch_size"`
	SpatialMergeSize   int   `yaml:"spatial_merge_size" json:"spatial_merge_size"`
	PositionEmbeddings int   `yaml:"num_position_embeddings" json:"num_position_embeddings"`
	OutHiddenSize      int   `yaml:"out_hidden_size" json:"out_hidden_size"`
	DeepstackLayers    []int `yaml:"deepstack_visual_indexes" json:"deepstack_visual_indexes"`

	Kind       TowerKind `yaml:"kind,omitempty" json:"kind,omitempty"`
	Window     int       `yaml:"window_size,omitempty" json:"window_size,omitempty"` // pixels of a side that a block sees
	FullBlocks []int     `yaml:"fullatt_block_indexes,omitempty" json:"fullatt_block_indexes,omitempty"`
	// of towers that see every image at one size: its side in pixels, and the tokens that it becomes
	ImageSize   int  `yaml:"image_size,omitempty" json:"image_size,omitempty"`
	ImageTokens int  `yaml:"image_tokens,omitempty" json:"image_tokens,omitempty"`
	PoolingHead bool `yaml:"pooling_head,omitempty" json:"pooling_head,omitempty"` // whose output nobody reads
	// of InternVL: biases of queries, keys and values, norms of queries and keys, norms without biases, a last norm
	ProjectionBias bool `yaml:"projection_bias,omitempty" json:"projection_bias,omitempty"`
	HeadNorms      bool `yaml:"head_norms,omitempty" json:"head_norms,omitempty"`
	PlainNorms     bool `yaml:"plain_norms,omitempty" json:"plain_norms,omitempty"`
	LastNorm       bool `yaml:"last_norm,omitempty" json:"last_norm,omitempty"`
	JoinBias       bool `yaml:"join_bias,omitempty" json:"join_bias,omitempty"` // of Pixtral's projector

	listed []Module `yaml:"-"` // of towers that are known by their weights
}

// Preprocess is how images and videos become patches: limits are areas in pixels.
type Preprocess struct {
	MinPixels      int `yaml:"min_pixels" json:"min_pixels"`
	MaxPixels      int `yaml:"max_pixels" json:"max_pixels"`
	VideoMinPixels int `yaml:"video_min_pixels" json:"video_min_pixels"` // over all temporal patches
	VideoMaxPixels int `yaml:"video_max_pixels" json:"video_max_pixels"`
	// the limits above are of each frame, not of all of them
	VideoPerFrame  bool    `yaml:"video_per_frame,omitempty" json:"video_per_frame,omitempty"`
	VideoFPS       float64 `yaml:"video_fps" json:"video_fps"`
	VideoMinFrames int     `yaml:"video_min_frames" json:"video_min_frames"`
	VideoMaxFrames int     `yaml:"video_max_frames" json:"video_max_frames"`
}

// DType is the type of a tensor's elements.
type DType string

// The element types that vlmem sizes. Block-quantised types belong to engines and live there.
const (
	FP32 DType = "fp32"
	FP16 DType = "fp16"
	BF16 DType = "bf16"
	INT8 DType = "int8"
)

// Bytes is the size of one element, 0 for a type that is not one of the above.
func (d DType) Bytes() int64 { return map[DType]int64{FP32: 4, FP16: 2, BF16: 2, INT8: 1}[d] }

// Parameters counts a model's weights by part; a tied output head counts once, as Embed.
type Parameters struct {
	VisionCore, Merger, Deepstack, Embed, LMHead, Layers int64
}

// Total is the sum of the parts.
func (p Parameters) Total() int64 {
	return p.VisionCore + p.Merger + p.Deepstack + p.Embed + p.LMHead + p.Layers
}

// Parameters counts the weights, biases and norms of the model, module by module.
func (m *Model) Parameters() Parameters {
	var p Parameters
	parts := [...]*int64{&p.VisionCore, &p.Merger, &p.Deepstack, &p.Embed, &p.LMHead, &p.Layers}
	for _, x := range m.Modules() {
		*parts[x.Part] += x.Elements()
	}
	return p
}

// WeightBytes is the size of all weights at one element type.
func (m *Model) WeightBytes(d DType) units.Bytes {
	return units.Bytes(m.Parameters().Total() * d.Bytes())
}

// KVBytesPerToken is what one token adds to the KV cache: 2 · layers · kv_heads · head_dim elements where no layer
// slides; layers of linear attention and those that see another layer's keys add nothing.
func (m *Model) KVBytesPerToken(d DType) units.Bytes {
	return units.Bytes(m.Text.KeptElements() * d.Bytes())
}

// Validate says what no model can be. Errors name the key.
func (m *Model) Validate() error {
	if faults := within("", *m); faults != nil { // first: the others compute with them
		return joined(faults)
	}
	faults := m.Text.faults()
	if m.Images() || m.Text.Variant == nil {
		faults = append(faults, m.visionFaults()...)
	}
	if err := joined(faults); err != nil {
		return err
	}
	return m.tooLarge()
}

// visionFaults is what no tower can be.
func (m *Model) visionFaults() (faults []string) {
	v := m.Vision
	for _, f := range []field{
		{"vision.depth", v.Depth}, {"vision.hidden_size", v.HiddenSize}, {"vision.num_heads", v.Heads},
		{"vision.intermediate_size", v.IntermediateSize}, {"vision.in_channels", v.InChannels},
		{"vision.patch_size", v.PatchSize}, {"vision.temporal_patch_size", v.TemporalPatchSize},
		{"vision.spatial_merge_size", v.SpatialMergeSize}, {"vision.out_hidden_size", v.OutHiddenSize},
		{"preprocess.min_pixels", m.Preprocess.MinPixels}, {"preprocess.max_pixels", m.Preprocess.MaxPixels},
	} {
		faults = f.positive(faults)
	}
	if v.Depth > mostLayers {
		faults = append(faults, fmt.Sprintf("vision.depth is %d, at most %d make sense", v.Depth, mostLayers))
	}
	for _, l := range v.DeepstackLayers {
		if l < 0 || l >= v.Depth {
			faults = append(faults, fmt.Sprintf("vision.deepstack_visual_indexes: layer %d is not among %d", l, v.Depth))
		}
	}
	if m.Preprocess.MinPixels > m.Preprocess.MaxPixels {
		faults = append(faults, "preprocess.min_pixels is above max_pixels")
	}
	return faults
}

func joined(faults []string) error {
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
}

// field is a number that must be above zero.
type field struct {
	key   string
	value int
}

func (f field) positive(faults []string) []string {
	if f.value > 0 {
		return faults
	}
	return append(faults, f.key+" must be above zero")
}

// mostLayers is far above any model: every layer is walked.
const mostLayers = 4096

// Validate says what no decoder can be.
func (t *Text) Validate() error {
	if faults := within("text", *t); faults != nil {
		return joined(faults)
	}
	return joined(t.faults())
}

// faults is what no decoder can be.
func (t *Text) faults() []string {
	var faults []string
	for _, f := range []field{
		{"text.hidden_size", t.HiddenSize}, {"text.num_hidden_layers", t.Layers}, {"text.num_attention_heads", t.Heads},
		{"text.num_key_value_heads", t.KVHeads}, {"text.head_dim", t.HeadDim}, {"text.vocab_size", t.VocabSize},
		{"text.max_position_embeddings", t.MaxPositions},
	} {
		faults = f.positive(faults)
	}
	if v := t.Variant; t.PredictLayers > 0 && (v == nil || v.Linear == nil && v.Latent == nil) {
		faults = append(faults, fmt.Sprintf("text.nextn_predict_layers is %d, and a decoder of this kind has no such "+
			"blocks: leave it out", t.PredictLayers))
	}
	switch m := t.MoE; {
	case t.Layers > mostLayers:
		faults = append(faults, fmt.Sprintf("text.num_hidden_layers is %d, at most %d make sense", t.Layers, mostLayers))
	case m == nil && t.IntermediateSize <= 0:
		faults = append(faults, "text.intermediate_size must be above zero")
	case m != nil && (m.Experts <= 0 || m.ExpertsPerToken <= 0 || m.IntermediateSize <= 0):
		faults = append(faults, "text.moe needs num_experts, num_experts_per_tok and moe_intermediate_size above zero")
	case m != nil && m.ExpertsPerToken > m.Experts:
		faults = append(faults, fmt.Sprintf("text.moe asks %d experts for every token and has %d", m.ExpertsPerToken,
			m.Experts))
	}
	return faults
}
