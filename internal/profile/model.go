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
}

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

	Variant *Variant `yaml:"variant,omitempty" json:"variant,omitempty"` // nil: the decoder of Qwen3-VL
}

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
}

// Preprocess is how images and videos become patches: limits are areas in pixels.
type Preprocess struct {
	MinPixels      int     `yaml:"min_pixels" json:"min_pixels"`
	MaxPixels      int     `yaml:"max_pixels" json:"max_pixels"`
	VideoMinPixels int     `yaml:"video_min_pixels" json:"video_min_pixels"` // over all temporal patches
	VideoMaxPixels int     `yaml:"video_max_pixels" json:"video_max_pixels"`
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

// Parameters counts the weights, biases and norms of the model, with
//
//	C, F      vision hidden and MLP width; M = merge²·C the merger's input; D the text width
//	core    = in·t·p²·C + C  +  pos·C  +  depth·(4C² + 4C + 2CF + F + C + 4C)
//	merger  = 2C + M² + M + MD + D             (norm before the shuffle)
//	each deepstack merger = 2M + M² + M + MD + D  (norm after it)
//	layer   = D·(Hq+2·Hkv)·h + Hq·h·D + 2h + 2D + MLP, MLP = 3DF or experts·3·D·F' + D·experts
//
// It equals the published counts of the 2B and 8B checkpoints exactly.
func (m *Model) Parameters() Parameters {
	v, t := m.Vision, m.Text
	c, f, d := int64(v.HiddenSize), int64(v.IntermediateSize), int64(t.HiddenSize)
	merged := int64(v.SpatialMergeSize*v.SpatialMergeSize) * c
	mlp := merged*merged + merged + merged*int64(v.OutHiddenSize) + int64(v.OutHiddenSize)
	patch := int64(v.InChannels * v.TemporalPatchSize * v.PatchSize * v.PatchSize)
	p := Parameters{
		VisionCore: patch*c + c + int64(v.PositionEmbeddings)*c + int64(v.Depth)*(4*c*c+4*c+2*c*f+f+c+4*c),
		Merger:     2*c + mlp,
		Deepstack:  int64(len(v.DeepstackLayers)) * (2*merged + mlp),
		Embed:      int64(t.VocabSize) * d,
		Layers:     t.layersParameters() + d,
	}
	if !t.TiedEmbeddings {
		p.LMHead = p.Embed
	}
	return p
}

// WeightBytes is the size of all weights at one element type.
func (m *Model) WeightBytes(d DType) units.Bytes {
	return units.Bytes(m.Parameters().Total() * d.Bytes())
}

// KVBytesPerToken is what one token adds to the KV cache: 2 · layers · kv_heads · head_dim elements where no layer
// slides.
func (m *Model) KVBytesPerToken(d DType) units.Bytes {
	return units.Bytes(int64(m.Text.Layers) * m.Text.CacheRow() * d.Bytes())
}

// Validate says what no model can be. Errors name the key.
func (m *Model) Validate() error {
	if faults := within("", *m); faults != nil { // first: the others compute with them
		return errors.New(strings.Join(faults, "; "))
	}
	v := m.Vision
	faults := m.Text.faults()
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
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return m.tooLarge()
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
		return errors.New(strings.Join(faults, "; "))
	}
	if faults := t.faults(); len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
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
