package profile

import (
	"fmt"
	"strings"
	"testing"
)

// decoder is a config.json of these keys.
func decoder(kind string, keys ...string) string {
	return fmt.Sprintf(`{"model_type": %q, %s}`, kind, strings.Join(keys, ", "))
}

const (
	llama8B = `"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, ` +
		`"intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": false`
	llama1B = `"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, ` +
		`"head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256, "max_position_embeddings": 131072, ` +
		`"tie_word_embeddings": true`
	qwen3dense = `"hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, ` +
		`"head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936, "max_position_embeddings": 40960, ` +
		`"sliding_window": null, "use_sliding_window": false`
	qwen3moe = `"hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, ` +
		`"head_dim": 128, "intermediate_size": 6144, "vocab_size": 151936, "max_position_embeddings": 40960, ` +
		`"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768`
	qwen25 = `"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, ` +
		`"intermediate_size": 18944, "vocab_size": 152064, "max_position_embeddings": 32768, "sliding_window": 131072, ` +
		`"use_sliding_window": false`
	mistral7B = `"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, ` +
		`"intermediate_size": 14336, "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": 4096`
	mixtral = `"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, ` +
		`"intermediate_size": 14336, "vocab_size": 32000, "max_position_embeddings": 32768, "num_local_experts": 8, ` +
		`"num_experts_per_tok": 2`
	gemma2 = `"hidden_size": 3584, "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8, ` +
		`"head_dim": 256, "intermediate_size": 14336, "vocab_size": 256000, "max_position_embeddings": 8192`
	gemma3 = `"hidden_size": 1152, "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, ` +
		`"head_dim": 256, "intermediate_size": 6912, "vocab_size": 262144, "max_position_embeddings": 32768, ` +
		`"sliding_window": 512, "sliding_window_pattern": 6`
	deepseek = `"hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16, ` +
		`"intermediate_size": 10944, "vocab_size": 102400, "max_position_embeddings": 163840, "n_routed_experts": 64, ` +
		`"n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408, "first_k_dense_replace": 1, ` +
		`"kv_lora_rank": 512, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128`
)

// TestTextFamilies holds parameter counts against those that the repositories state, and what 8,192 tokens leave in the
// caches against a count by hand: two rows of key-value heads a token and layer, a window where a layer slides, one row
// of 576 for MLA.
func TestTextFamilies(t *testing.T) {
	for _, c := range []struct {
		kind, keys         string
		parameters, cached int64
	}{
		{"llama", llama8B, 8_030_261_248, 32 * 8192 * 2 * 8 * 128},
		{"llama", llama1B, 1_235_814_400, 16 * 8192 * 2 * 8 * 64},
		{"qwen3", qwen3dense, 8_190_735_360, 36 * 8192 * 2 * 8 * 128},
		{"qwen3_moe", qwen3moe, 30_532_122_624, 48 * 8192 * 2 * 4 * 128},
		{"qwen2", qwen25, 7_615_616_512, 28 * 8192 * 2 * 4 * 128},
		{"mistral", mistral7B, 7_241_732_096, 32 * 4095 * 2 * 8 * 128},
		{"mixtral", mixtral, 46_702_792_704, 32 * 8192 * 2 * 8 * 128},
		{"gemma2", gemma2, 9_241_705_984, (21*4095 + 21*8192) * 2 * 8 * 256},
		{"gemma3_text", gemma3, 999_885_952, (22*511 + 4*8192) * 2 * 256},
		{"deepseek_v2", deepseek, 15_706_484_224, 27 * 8192 * 576},
	} {
		m, err := DecodeHuggingFace("config.json", []byte(decoder(c.kind, c.keys)))
		if err != nil {
			t.Errorf("%s: %v", c.kind, err)
			continue
		}
		if got := m.Parameters().Total(); got != c.parameters {
			t.Errorf("%s: %d parameters, published %d", c.kind, got, c.parameters)
		}
		if got := m.Text.CachedElements(8192); got != c.cached {
			t.Errorf("%s: %d elements of 8,192 tokens, want %d", c.kind, got, c.cached)
		}
	}
}

// The tower of Gemma 3 counts, with the head that nobody reads, and so does what joins it to the decoder. Counted on
// the meta device of transformers 5.24.
func TestGemma3WithItsTower(t *testing.T) {
	const published = `"text_config": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, ` +
		`"sliding_window": 1024}`
	for _, c := range []struct {
		tower                  string
		core, merger, everyone int64
	}{
		{`"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "num_attention_heads": 16,
 "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": false`, 416_866_032, 2_950_272, 4_300_079_472},
		{`"hidden_size": 768, "image_size": 224, "intermediate_size": 3072, "num_attention_heads": 12,
 "num_hidden_layers": 12, "patch_size": 16`, 85_797_120 + 7_087_104, 1_966_848, 3_975_114_240},
	} {
		m, err := DecodeHuggingFace("config.json", []byte(
			`{"model_type": "gemma3", `+published+`, "vision_config": {`+c.tower+`}}`))
		p := m.Parameters()
		if err != nil || p.VisionCore != c.core || p.Merger != c.merger || p.Total() != c.everyone {
			t.Errorf("%+v, %d parameters, %v", p, p.Total(), err)
		}
		if got := m.Text.CachedElements(8192); got != (29*1023+5*8192)*2*4*256 {
			t.Errorf("%d elements of 8,192 tokens", got)
		}
		if !strings.Contains(strings.Join(m.Notes, " "), "text_config.vocab_size 262208") {
			t.Errorf("what the class gave is not said: %q", m.Notes)
		}
	}
}

// Towers behind decoders of any class, as published shapes have them, counted on the meta device of transformers 5.24.
func TestTowersOfOtherFamilies(t *testing.T) {
	for config, want := range map[string][2]int64{
		`{"model_type": "internvl", "tie_word_embeddings": false, "text_config": {"model_type": "qwen2", "hidden_size": 3584,
 "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 151674},
 "vision_config": {"attention_bias": true}}`: {7_944_373_760, 331_552_768},
		`{"model_type": "internvl", "tie_word_embeddings": false, "text_config": {"model_type": "qwen3_moe",
 "hidden_size": 2048, "num_hidden_layers": 48, "head_dim": 128}, "vision_config": {"attention_bias": true, "use_qk_norm": true, "norm_type":
 "rms_norm", "use_mean_pooling": false, "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 45,
 "num_attention_heads": 25}}`: {36_099_495_424, 5_567_372_800},
		`{"model_type": "mistral3", "tie_word_embeddings": false, "text_config": {"model_type": "mistral",
 "hidden_size": 5120, "num_hidden_layers": 40, "head_dim": 128, "intermediate_size": 32768, "vocab_size": 131072, "sliding_window": null},
 "vision_config": {"image_size": 1540, "patch_size": 14}}`: {24_011_361_280, 438_958_080},
		`{"model_type": "smolvlm", "scale_factor": 3, "text_config": {"model_type": "llama", "hidden_size": 2048,
 "num_hidden_layers": 24, "intermediate_size": 8192, "vocab_size": 49280, "max_position_embeddings": 8192}, "vision_config":
 {"image_size": 384, "patch_size": 14, "intermediate_size": 4304, "num_hidden_layers":
	27}}`: {2_246_784_880, 434_220_912},
		`{"model_type": "idefics3", "text_config": {"model_type": "llama"}}`: {6_909_685_760, 171_270_144},
	} {
		m, err := DecodeHuggingFace("config.json", []byte(config))
		p := m.Parameters()
		if err != nil || p.Total() != want[0] || p.VisionCore+p.Merger != want[1] {
			t.Errorf("%s: %d parameters, %d of the tower, want %v; %v", m.Kind, p.Total(), p.VisionCore+p.Merger, want, err)
		}
		if g, err := m.ImageGrid(1280, 720); err != nil || g.Patches == 0 || g.Tokens == 0 {
			t.Errorf("%s: %+v, %v", m.Kind, g, err)
		}
	}
	for config, want := range map[string]string{
		`{"model_type": "internvl"}`:                                        "text_config is missing",
		`{"model_type": "internvl", "text_config": {"model_type": "bert"}}`: `text_config.model_type "bert" is not known`,
		`{"model_type": "internvl", "text_config": {"model_type": "qwen3_vl"}}`: `text_config.model_type "qwen3_vl" is ` +
			`not known`,
	} {
		if _, err := DecodeHuggingFace("config.json", []byte(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestTextConfigRefuses(t *testing.T) {
	for want, text := range map[string]string{
		`model_type "bert" is not`:         decoder("bert", llama8B),
		"num_experts_per_tok missing":      decoder("deepseek_v2", `"hidden_size": 64`),
		"hidden_size is 0 and must be abo": decoder("llama", strings.Replace(llama8B, "4096", "0", 1)),
		"layer_types names 2 of 32 layers": decoder("qwen2", llama8B, `"layer_types": ["full_attention", "full_attention"]`),
		`layer_types: "ssm" is not known`: decoder("qwen2", strings.Replace(llama8B, "32", "1", 1),
			`"layer_types": ["ssm"]`),
		"no model_type": `{"hidden_size": 64}`,
		"at most 4096 make sense": decoder("llama", strings.Replace(llama8B, `"num_hidden_layers": 32`,
			`"num_hidden_layers": 2000000000`, 1)),
		"asks 9 experts for every": decoder("mixtral", strings.Replace(mixtral, `"num_experts_per_tok": 2`,
			`"num_experts_per_tok": 9`, 1)),
		"hidden_size is a string": decoder("llama", strings.Replace(llama8B, "4096", `"4096"`, 1)),
		"unexpected end of JSON":  `{"model_type": "llama"`,
		"is 1.5, want a whole":    decoder("llama", strings.Replace(llama8B, "4096", "1.5", 1)),
	} {
		if _, err := DecodeHuggingFace("config.json", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
