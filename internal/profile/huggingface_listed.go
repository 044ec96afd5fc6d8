package profile

import "math"

// listedTowers are the classes of this file whose decoder has a name of its own, the class's with _text.
var listedTowers = map[string]func(keys, *Model){"gemma4": readGemma4, "gemma4_unified": readGemma4Patches,
	"glm4v": readGLM, "glm4v_moe": readGLM, "llama4": readLlama4, "deepseek_ocr2": readDeepSeekOCR}

// readGemma4 reads Gemma 4's tower and, where it has one, its encoder of sound, which counts with the tower.
func readGemma4(k keys, m *Model) {
	m.Vision = Vision{Kind: Gemma4Tower, Depth: k.number("num_hidden_layers"), HiddenSize: k.number("hidden_size"),
		Heads: k.number("num_attention_heads"), IntermediateSize: k.number("intermediate_size"), InChannels: 3,
		PatchSize: k.number("patch_size"), TemporalPatchSize: 1, SpatialMergeSize: k.number("pooling_kernel_size"),
		OutHiddenSize: m.Text.HiddenSize}
	m.Vision.listed = gemma4Tower(k, m.Vision)
	if k.outer.has("audio_config") {
		m.Vision.listed = append(m.Vision.listed, gemma4Audio(k.outer.part("audio_config"), int64(m.Text.HiddenSize))...)
		m.Notes = append(m.Notes, "Gemma 4's encoder of sound is counted with the tower")
	}
	m.softTokens()
}

// softTokens is the budget of Gemma 4's processor: every image is scaled to at most 280 tokens, whatever its size.
func (m *Model) softTokens() {
	side := m.Vision.PatchSize * m.Vision.SpatialMergeSize
	area := gemma4Tokens * side * side
	m.preprocessAs("Gemma 4", Preprocess{MinPixels: area, MaxPixels: area})
}

// gemma4Tokens is max_soft_tokens of Gemma4ImageProcessor, transformers 5.24.
const gemma4Tokens = 280

// softGrid scales an image as Gemma 4's processor does: to the largest sides below the budget's area that are whole
// tokens, with their ratio kept; a side of none becomes one, and the other what the ratio says, at most the budget.
func (m *Model) softGrid(width, height int) Grid {
	token := m.Vision.PatchSize * m.Vision.SpatialMergeSize
	budget := m.Preprocess.MaxPixels / (token * token)
	factor := math.Sqrt(float64(m.Preprocess.MaxPixels) / (float64(width) * float64(height)))
	w, h := int(factor*float64(width))/token, int(factor*float64(height))/token
	switch {
	case h == 0:
		w, h = min(width/height, budget), 1
	case w == 0:
		w, h = 1, min(height/width, budget)
	}
	return m.grid(w*token, h*token, 1)
}

// readGemma4Patches reads Gemma 4 without encoders: large patches are projected at once.
func readGemma4Patches(k keys, m *Model) {
	width := k.number("mm_embed_dim")
	m.Vision = Vision{Kind: Gemma4Tower, Depth: 1, HiddenSize: width, Heads: 1, IntermediateSize: width, InChannels: 3,
		PatchSize: k.number("patch_size"), TemporalPatchSize: 1, SpatialMergeSize: k.number("pooling_kernel_size"),
		OutHiddenSize: m.Text.HiddenSize}
	var audio int64
	if k.outer.has("audio_config") {
		audio = int64(k.outer.part("audio_config").or("audio_embed_dim", 640))
	}
	m.Vision.listed = gemma4Patches(m.Vision, k.number("mm_posemb_size"), audio)
	m.softTokens()
}

// readGLM reads the tower of GLM-4.1V to 4.6V.
func readGLM(k keys, m *Model) {
	m.Vision = Vision{
		Kind: GLMTower, Depth: k.number("depth"), HiddenSize: k.number("hidden_size"), Heads: k.number("num_heads"),
		IntermediateSize: k.number("intermediate_size"), InChannels: k.number("in_channels"),
		PatchSize: k.number("patch_size"), TemporalPatchSize: k.number("temporal_patch_size"),
		SpatialMergeSize: k.number("spatial_merge_size"), OutHiddenSize: k.number("out_hidden_size"),
	}
	grid := m.Vision
	grid.ImageSize = k.side()
	m.Vision.listed = glmTower(k, grid)
	m.preprocessAs("GLM-4.6V", glmPreprocess)
}

// glmPreprocess is the limits of Glm4vImageProcessor and Glm4vVideoProcessor, transformers 5.24: an image counts as two
// frames, so half its limits bind.
var glmPreprocess = Preprocess{
	MinPixels: 112 * 112 / 2, MaxPixels: 28 * 28 * 15000 / 2,
	VideoMinPixels: 112 * 112, VideoMaxPixels: 28 * 28 * 2 * 30000,
	VideoFPS: 2, VideoMinFrames: 1, VideoMaxFrames: 640,
}

// readLlama4 reads the tower of Llama 4, which sees tiles of one size.
func readLlama4(k keys, m *Model) {
	v := k.transformer(Llama4Tower, m)
	v.SpatialMergeSize = 2 // pixel_shuffle_ratio 0.5
	side := v.ImageSize / max(v.PatchSize, 1)
	v.ImageTokens, v.listed = side*side/4, llama4Tower(k, v)
	m.Vision = v
	m.tiles("Llama 4")
}

// readMiniCPM reads the tower of MiniCPM-V 4.6 and 4.7: patches are joined by fours twice, or once where
// downsample_mode is 4x.
func readMiniCPM(k keys, m *Model) {
	v := k.transformer(MiniCPMTower, m)
	v.SpatialMergeSize = 4
	if k.outer.text("downsample_mode") == "4x" {
		v.SpatialMergeSize = 2
	}
	slice := v
	v.ImageSize = k.outer.or("image_size", 448)
	side := v.ImageSize / max(v.PatchSize, 1) / v.SpatialMergeSize
	v.ImageTokens, v.listed = side*side, miniCPMTower(k, slice)
	m.Vision = v
	m.tiles("MiniCPM-V")
}

// readDeepSeekOCR reads the tower of DeepSeek-OCR 2, which sees a page at 1,024 x 1,024 pixels and cuts of it at 768 x
// 768.
func readDeepSeekOCR(k keys, m *Model) {
	sam, encoder := k.part("sam_config"), k.part("encoder_config")
	width := sam.number("hidden_size")
	v := Vision{Kind: DeepSeekTower, Depth: sam.number("num_hidden_layers"), HiddenSize: width,
		Heads: sam.number("num_attention_heads"), IntermediateSize: 4 * width, InChannels: sam.number("num_channels"),
		PatchSize: sam.number("patch_size"), TemporalPatchSize: 1, SpatialMergeSize: 4, OutHiddenSize: m.Text.HiddenSize,
		ImageSize: sam.number("image_size"), ImageTokens: 257} // learned queries, and the mark after them
	v.listed = deepSeekTower(sam, encoder, v)
	m.Vision = v
	m.tiles("DeepSeek-OCR")
}
