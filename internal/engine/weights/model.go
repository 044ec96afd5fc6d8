package weights

import (
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
)

// Text is the decoder that a qwen3vl or qwen3vlmoe GGUF describes, and how many deepstack levels it takes.
func (g *GGUF) Text() (text profile.Text, levels int, err error) {
	arch := g.Strings["general.architecture"]
	if arch != "qwen3vl" && arch != "qwen3vlmoe" {
		return text, 0, fmt.Errorf("general.architecture is %q, want qwen3vl or qwen3vlmoe", arch)
	}
	var missing []string
	need := func(key string) int {
		v, ok := g.Numbers[arch+"."+key]
		if !ok || v != float64(int(v)) || v <= 0 || v > 1<<31 {
			missing = append(missing, arch+"."+key)
			return 0
		}
		return int(v)
	}
	text = profile.Text{
		HiddenSize: need("embedding_length"), Layers: need("block_count"), Heads: need("attention.head_count"),
		KVHeads: need("attention.head_count_kv"), HeadDim: need("attention.key_length"),
		MaxPositions: need("context_length"), TiedEmbeddings: true,
	}
	if arch == "qwen3vlmoe" {
		text.MoE = &profile.MoE{
			Experts: need("expert_count"), ExpertsPerToken: need("expert_used_count"), IntermediateSize: need("expert_feed_forward_length"),
		}
		text.IntermediateSize = int(g.Numbers[arch+".feed_forward_length"])
	} else {
		text.IntermediateSize = need("feed_forward_length")
	}
	for _, t := range g.Tensors {
		switch {
		case t.Name == "token_embd.weight" && len(t.Shape) == 2:
			text.VocabSize = int(t.Shape[1])
		case t.Name == "output.weight":
			text.TiedEmbeddings = false
		}
	}
	if text.VocabSize == 0 {
		missing = append(missing, "token_embd.weight")
	}
	if len(missing) > 0 {
		return text, 0, fmt.Errorf("%s missing or not a whole number", strings.Join(missing, ", "))
	}
	return text, int(g.Numbers[arch+".n_deepstack_layers"]), nil
}

// Vision is the tower that an mmproj GGUF of Qwen3-VL describes.
func (g *GGUF) Vision() (profile.Vision, error) {
	if arch, kind := g.Strings["general.architecture"], g.Strings["clip.projector_type"]; arch != "clip" || kind != "qwen3vl_merger" {
		return profile.Vision{}, fmt.Errorf("architecture %q with projector %q, want clip with qwen3vl_merger", arch, kind)
	}
	number := func(key string) int { return int(g.Numbers["clip.vision."+key]) }
	v := profile.Vision{
		Depth: number("block_count"), HiddenSize: number("embedding_length"), Heads: number("attention.head_count"),
		IntermediateSize: number("feed_forward_length"), PatchSize: number("patch_size"), SpatialMergeSize: number("spatial_merge_size"),
		OutHiddenSize: number("projection_dim"), InChannels: 3, TemporalPatchSize: 1,
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
