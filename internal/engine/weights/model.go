package weights

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
)

// architectures are the decoders that Text reads, by general.architecture, and how they differ from Qwen3-VL's where no
// key says so. A pattern of sliding layers is the architecture's (llama.cpp src/models).
var architectures = map[string]*profile.Variant{
	"qwen3vl": nil, "qwen3vlmoe": nil,
	"qwen2":     {PlainHeads: true, ProjectionBias: true},
	"qwen3":     {},
	"qwen3moe":  {},
	"llama":     {PlainHeads: true},
	"gemma2":    {PlainHeads: true, PostNorms: true, Window: 4096, FullEvery: 2},
	"gemma3":    {PostNorms: true, FullEvery: 6},
	"deepseek2": {PlainHeads: true},
	"qwen2vl":   {PlainHeads: true, ProjectionBias: true},
	"qwen35":    {OutputGate: true},
	"qwen35moe": {OutputGate: true},
}

// Text is the decoder that a GGUF describes, and how many deepstack levels it takes.
func (g *GGUF) Text() (text profile.Text, levels int, err error) {
	arch := g.Strings["general.architecture"]
	variant, known := architectures[arch]
	if !known {
		return text, 0, fmt.Errorf("general.architecture is %q, want one of %s", arch,
			strings.Join(slices.Sorted(maps.Keys(architectures)), ", "))
	}
	k := ggufKeys{g: g, arch: arch}
	heads := k.need("attention.head_count")
	text = profile.Text{
		HiddenSize: k.need("embedding_length"), Layers: k.need("block_count"), Heads: heads,
		KVHeads: k.or("attention.head_count_kv", heads), MaxPositions: k.need("context_length"), TiedEmbeddings: true,
	}
	text.HeadDim = k.or("attention.key_length", text.HiddenSize/max(heads, 1))
	text.PredictLayers = min(k.or("nextn_predict_layers", 0), text.Layers)
	text.Layers -= text.PredictLayers // these are not loaded unless asked for
	if _, mixture := g.Numbers[arch+".expert_count"]; mixture {
		text.IntermediateSize = k.or("feed_forward_length", 0)
		text.MoE = &profile.MoE{
			Experts: k.need("expert_count"), ExpertsPerToken: k.need("expert_used_count"),
			IntermediateSize: k.or("expert_feed_forward_length", text.IntermediateSize),
		}
	} else {
		text.IntermediateSize = k.need("feed_forward_length")
	}
	if variant != nil {
		text.Variant = k.variant(*variant)
	}
	for _, t := range g.Tensors {
		switch {
		case t.Name == "token_embd.weight" && len(t.Shape) == 2:
			text.VocabSize = int(t.Shape[1])
		case t.Name == "output.weight":
			text.TiedEmbeddings = false
		case strings.HasSuffix(t.Name, ".exp_probs_b.bias") && text.Variant != nil:
			text.Variant.RouterBias = true
		}
	}
	if text.VocabSize == 0 {
		k.missing = append(k.missing, "token_embd.weight")
	}
	if len(k.missing) > 0 {
		return text, 0, fmt.Errorf("%s missing or not a whole number", strings.Join(k.missing, ", "))
	}
	return text, int(g.Numbers[arch+".n_deepstack_layers"]), nil
}

// ggufKeys reads an architecture's numbers and remembers which are missing.
type ggufKeys struct {
	g       *GGUF
	arch    string
	missing []string
}

// need is a number above zero.
func (k *ggufKeys) need(key string) int {
	n := k.or(key, 0)
	if n == 0 && !slices.Contains(k.missing, k.arch+"."+key) {
		k.missing = append(k.missing, k.arch+"."+key)
	}
	return n
}

// or is a number that need not be there.
func (k *ggufKeys) or(key string, otherwise int) int {
	v, ok := k.g.Numbers[k.arch+"."+key]
	switch {
	case !ok:
		return otherwise
	case v != float64(int(v)) || v < 0 || v > 1<<31:
		k.missing = append(k.missing, k.arch+"."+key)
		return 0
	}
	return int(v)
}

// variant is the architecture's with what the keys say.
func (k *ggufKeys) variant(v profile.Variant) *profile.Variant {
	v.Architecture = k.arch
	if v.Window = k.or("attention.sliding_window", v.Window); v.Window == 0 || k.arch == "llama" {
		v.Window, v.FullEvery = 0, 0
	}
	v.DenseLayers, v.SharedExperts = k.or("leading_dense_block_count", 0), k.or("expert_shared_count", 0)
	if rank := k.or("attention.kv_lora_rank", 0); rank > 0 {
		rope, width := k.or("rope.dimension_count", 0), k.or("attention.key_length_mla", k.or("attention.key_length", 0))
		v.Latent = &profile.Latent{QueryRank: k.or("attention.q_lora_rank", 0), KVRank: rank, NopeDim: width - rope,
			RopeDim:  rope,
			ValueDim: k.or("attention.value_length_mla", k.or("attention.value_length", 0))}
	}
	if heads := k.or("ssm.time_step_rank", 0); heads > 0 && v.OutputGate {
		width := k.need("ssm.state_size")
		v.Linear = &profile.Linear{KeyHeads: k.need("ssm.group_count"), ValueHeads: heads, KeyDim: width,
			ValueDim: k.need("ssm.inner_size") / heads, Kernel: k.need("ssm.conv_kernel")}
		v.FullEvery, v.SharedExperts = k.or("full_attention_interval", 4), 0
		v.SharedSize = k.or("expert_shared_feed_forward_length", 0)
		if all := k.need("attention.key_length"); all > 0 {
			v.RotaryFactor = min(1, float64(k.or("rope.dimension_count", all))/float64(all))
		}
	}
	return &v
}

// Vision is the tower that an mmproj GGUF of Qwen3-VL describes.
func (g *GGUF) Vision() (profile.Vision, error) {
	if arch, kind := g.Strings["general.architecture"], g.Strings["clip.projector_type"]; arch != "clip" ||
		kind != "qwen3vl_merger" {
		return profile.Vision{}, fmt.Errorf("architecture %q with projector %q, want clip with qwen3vl_merger", arch, kind)
	}
	number := func(key string) int { return int(g.Numbers["clip.vision."+key]) }
	v := profile.Vision{
		Depth: number("block_count"), HiddenSize: number("embedding_length"), Heads: number("attention.head_count"),
		IntermediateSize: number("feed_forward_length"), PatchSize: number("patch_size"),
		SpatialMergeSize: number("spatial_merge_size"),
		OutHiddenSize:    number("projection_dim"), InChannels: 3, TemporalPatchSize: 1,
		DeepstackLayers: g.Trues["clip.vision.is_deepstack_layers"],
	}
	if v.SpatialMergeSize == 0 {
		v.SpatialMergeSize = 2
	}
	for _, t := range g.Tensors {
		switch {
		case t.Name == "v.patch_embd.weight.1":
			v.TemporalPatchSize = 2
		case t.Name == "v.position_embd.weight" && len(t.Shape) == 2:
			v.PositionEmbeddings = int(t.Shape[1])
		}
	}
	return v, nil
}
