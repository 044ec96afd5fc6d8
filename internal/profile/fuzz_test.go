package profile

import (
	"math"
	"testing"
)

// FuzzDecodeModel: what is accepted computes to sizes that fit.
func FuzzDecodeModel(f *testing.F) {
	f.Add([]byte("schema: vlmem/model/v1\nname: m\ntext: {hidden_size: 64, num_hidden_layers: 2, " +
		"num_attention_heads: 4, " +
		"num_key_value_heads: 2, head_dim: 16, intermediate_size: 128, vocab_size: 100, max_position_embeddings: 100}\n" +
		"vision: {depth: 2, hidden_size: 64, num_heads: 4, intermediate_size: 128, in_channels: 3, patch_size: 16, " +
		"temporal_patch_size: 2, spatial_merge_size: 2, num_position_embeddings: 100, out_hidden_size: 64}\n" +
		"preprocess: {min_pixels: 1024, max_pixels: 65536}\n"))
	f.Add([]byte("schema: vlmem/model/v1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeModel("model.yaml", data)
		if err != nil {
			return
		}
		for _, n := range []int64{m.Parameters().Total(), int64(m.WeightBytes(FP32)), int64(m.KVBytesPerToken(FP32)),
			m.Text.CachedElements(m.Text.MaxPositions)} {
			if n < 0 || n > math.MaxInt64/2 {
				t.Errorf("%q: %d", data, n)
			}
		}
		for _, side := range []int{1, 1000, 1 << 20} {
			if g, err := m.ImageGrid(side, side); err == nil && (g.Patches < 0 || g.Tokens < 0 || g.PixelBytes() < 0) {
				t.Errorf("%q: %+v", data, g)
			}
		}
	})
}
