package profile

import "fmt"

// qwen3Tower reads the tower of Qwen3-VL, Qwen3-Omni's thinker and Qwen3.5, which has no deepstack levels.
func qwen3Tower(k keys, m *Model) {
	m.Vision = Vision{
		Depth: k.number("depth"), HiddenSize: k.number("hidden_size"), Heads: k.number("num_heads"),
		IntermediateSize: k.number("intermediate_size"), InChannels: k.number("in_channels"),
		PatchSize:         k.number("patch_size"),
		TemporalPatchSize: k.number("temporal_patch_size"), SpatialMergeSize: k.number("spatial_merge_size"),
		PositionEmbeddings: k.number("num_position_embeddings"), OutHiddenSize: k.number("out_hidden_size"),
		DeepstackLayers: k.numbers("deepstack_visual_indexes"),
	}
	m.preprocessAs("Qwen3-VL", publishedPreprocess)
}

// qwen2Tower reads the tower of Qwen2-VL, whose width is embed_dim and whose hidden_size is the decoder's.
func qwen2Tower(k keys, m *Model) {
	width := k.number("embed_dim")
	m.Vision = Vision{
		Kind: Qwen2Tower, Depth: k.number("depth"), HiddenSize: width, Heads: k.number("num_heads"),
		IntermediateSize: width * k.number("mlp_ratio"), InChannels: k.number("in_channels"),
		PatchSize:         k.number("patch_size"),
		TemporalPatchSize: k.number("temporal_patch_size"), SpatialMergeSize: k.number("spatial_merge_size"),
		OutHiddenSize: k.number("hidden_size"),
	}
	m.preprocessAs("Qwen2-VL", qwen2Preprocess)
}

// qwen25Tower reads the tower of Qwen2.5-VL: gated MLPs, and windows in all but a few blocks.
func qwen25Tower(k keys, m *Model) {
	m.Vision = Vision{
		Kind: Qwen25Tower, Depth: k.number("depth"), HiddenSize: k.number("hidden_size"), Heads: k.number("num_heads"),
		IntermediateSize: k.number("intermediate_size"), InChannels: k.number("in_channels"),
		PatchSize:         k.number("patch_size"),
		TemporalPatchSize: k.number("temporal_patch_size"), SpatialMergeSize: k.number("spatial_merge_size"),
		OutHiddenSize: k.number("out_hidden_size"), Window: k.number("window_size"),
		FullBlocks: k.numbers("fullatt_block_indexes"),
	}
	m.preprocessAs("Qwen2.5-VL", qwen2Preprocess)
}

// qwen2Preprocess is the limits of the published Qwen2-VL and Qwen2.5-VL processors: 4 to 16,384 tokens of 28 x 28
// pixels; of a video 128 to 768 tokens a frame.
var qwen2Preprocess = Preprocess{
	MinPixels: 3136, MaxPixels: 12845056, VideoMinPixels: 100352, VideoMaxPixels: 602112, VideoPerFrame: true,
	VideoFPS: 2, VideoMinFrames: 4, VideoMaxFrames: 768,
}

func (m *Model) preprocessAs(family string, p Preprocess) {
	m.Preprocess = p
	m.Source["preprocess"] = "assumed: the published " + family + " processors' limits"
}

// gemma3Tower reads SigLIP behind Gemma 3, and the projection between them.
func gemma3Tower(k keys, m *Model) {
	m.Vision = Vision{
		Kind: Gemma3Tower, Depth: k.number("num_hidden_layers"), HiddenSize: k.number("hidden_size"),
		Heads: k.number("num_attention_heads"), IntermediateSize: k.number("intermediate_size"),
		InChannels: k.number("num_channels"), PatchSize: k.number("patch_size"), TemporalPatchSize: 1, SpatialMergeSize: 1,
		OutHiddenSize: m.Text.HiddenSize, ImageSize: k.number("image_size"), ImageTokens: 256,
		PoolingHead: k.flag("vision_use_head"),
	}
	m.oneSize("Gemma 3")
}

// oneSize is the limits of a processor that scales every image to one size.
func (m *Model) oneSize(family string) {
	area := m.Vision.ImageSize * m.Vision.ImageSize
	m.preprocessAs(family, Preprocess{MinPixels: area, MaxPixels: area})
}

// transformer reads what the configurations of plain vision transformers have in common.
func (k keys) transformer(kind TowerKind, m *Model) Vision {
	return Vision{
		Kind: kind, Depth: k.number("num_hidden_layers"), HiddenSize: k.number("hidden_size"),
		Heads: k.number("num_attention_heads"), IntermediateSize: k.number("intermediate_size"),
		InChannels: k.number("num_channels"), PatchSize: k.number("patch_size"), TemporalPatchSize: 1, SpatialMergeSize: 1,
		OutHiddenSize: m.Text.HiddenSize, ImageSize: k.number("image_size"),
	}
}

// tiles says that the processor may cut an image into several, of which one is counted.
func (m *Model) tiles(family string) {
	m.oneSize(family)
	m.Notes = append(m.Notes, family+"'s processor cuts a large image into several of "+
		fmt.Sprintf("%d x %d pixels; one is counted, %d tokens", m.Vision.ImageSize, m.Vision.ImageSize,
			m.Vision.ImageTokens))
}

// internTower reads InternVL 3 and 3.5.
func internTower(k keys, m *Model) {
	v := k.transformer(InternTower, m)
	side := v.ImageSize / max(v.PatchSize, 1)
	if k.flag("use_absolute_position_embeddings") {
		v.PositionEmbeddings = side*side + 1
	}
	v.SpatialMergeSize = 2 // downsample_ratio 0.5
	v.ProjectionBias, v.HeadNorms = k.flag("attention_bias"), k.flag("use_qk_norm")
	v.PlainNorms, v.LastNorm = k.text("norm_type") == "rms_norm", !k.flag("use_mean_pooling")
	v.ImageTokens = side * side / 4
	m.Vision = v
	m.tiles("InternVL")
}

// pixtralTower reads the tower of Mistral Small 3, which sees images at their own size.
func pixtralTower(k keys, m *Model) {
	v := k.transformer(PixtralTower, m)
	v.SpatialMergeSize, v.JoinBias = k.outer.or("spatial_merge_size", 2), k.outer.flag("multimodal_projector_bias")
	most := v.ImageSize * v.ImageSize
	v.ImageSize = 0
	m.Vision = v
	m.preprocessAs("Pixtral", Preprocess{MinPixels: 1, MaxPixels: most})
}

// ideficsTower reads SigLIP behind Idefics 3 and SmolVLM.
func ideficsTower(k keys, m *Model) {
	v := k.transformer(IdeficsTower, m)
	v.SpatialMergeSize = k.outer.or("scale_factor", 2)
	side := v.ImageSize / max(v.PatchSize, 1) / v.SpatialMergeSize
	v.ImageTokens = side * side
	m.Vision = v
	m.tiles("SmolVLM")
}
