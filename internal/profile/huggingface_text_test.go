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
	llama8B    = `"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": false`
	llama1B    = `"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": true`
	qwen3dense = `"hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936, "max_position_embeddings": 40960, "sliding_window": null, "use_sliding_window": false`
	qwen3moe   = `"hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "vocab_size": 151936, "max_position_embeddings": 40960, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768`
	qwen25     = `"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064, "max_position_embeddings": 32768, "sliding_window": 131072, "use_sliding_window": false`
	mistral7B  = `"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": 4096`
	mixtral    = `"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "max_position_embeddings": 32768, "num_local_experts": 8, "num_experts_per_tok": 2`
	gemma2     = `"hidden_size": 3584, "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "intermediate_size": 14336, "vocab_size": 256000, "max_position_embeddings": 8192`
	gemma3     = `"hidden_size": 1152, "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 6912, "vocab_size": 262144, "max_position_embeddings": 32768, "sliding_window": 512, "sliding_window_pattern": 6`
	deepseek   = `"hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 10944, "vocab_size": 102400, "max_position_embeddings": 163840, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408, "first_k_dense_replace": 1, "kv_lora_rank": 512, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128`
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
		{"mistral", mistral7B, 7_241_732_096, 32 * 4096 * 2 * 8 * 128},
		{"mixtral", mixtral, 46_702_792_704, 32 * 8192 * 2 * 8 * 128},
		{"gemma2", gemma2, 9_241_705_984, (21*4096 + 21*8192) * 2 * 8 * 256},
		{"gemma3_text", gemma3, 999_885_952, (22*512 + 4*8192) * 2 * 256},
		{"deepseek_v2", deepseek, 15_706_484_224, 27 * 8192 * 576},
	} {
		m, err := DecodeHuggingFaceText("config.json", []byte(decoder(c.kind, c.keys)))
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

// A tower beside the decoder is left out, and its decoder read.
func TestTextConfigBesideATower(t *testing.T) {
	m, err := DecodeHuggingFaceText("config.json",
		[]byte(`{"model_type": "gemma3", "text_config": {`+gemma3+`}, "vision_config": {"hidden_size": 1152}}`))
	if err != nil || m.Parameters().Total() != 999_885_952 {
		t.Errorf("%d parameters, %v", m.Parameters().Total(), err)
	}
	// Gemma 3 4B as published: what equals the class's defaults is left out, and layers are named one by one.
	m, err = DecodeHuggingFaceText("config.json", []byte(`{"model_type": "gemma3", "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
 "num_hidden_layers": 34, "sliding_window": 1024, "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]}}`))
	if err != nil || m.Parameters().Total() != 3_880_263_168 || m.Text.CachedElements(8192) != (29*1024+5*8192)*2*4*256 {
		t.Errorf("%d parameters, %d elements, %v", m.Parameters().Total(), m.Text.CachedElements(8192), err)
	}
}

func TestTextConfigRefuses(t *testing.T) {
	for want, text := range map[string]string{
		`model_type is "bert"`:     decoder("bert", llama8B),
		"vocab_size":               decoder("llama", strings.Replace(llama8B, `"vocab_size"`, `"vocab"`, 1)),
		"qk_rope_head_dim missing": decoder("deepseek_v2", strings.Replace(deepseek, `"qk_rope_head_dim"`, `"x"`, 1)),
		"must be above zero":       decoder("llama", strings.Replace(llama8B, "4096", "0", 1)),
		"at most 4096 make sense": decoder("llama", strings.Replace(llama8B, `"num_hidden_layers": 32`,
			`"num_hidden_layers": 2000000000`, 1)),
		"asks 9 experts for every": decoder("mixtral", strings.Replace(mixtral, `"num_experts_per_tok": 2`,
			`"num_experts_per_tok": 9`, 1)),
		"hidden_size is a string":   decoder("llama", strings.Replace(llama8B, "4096", `"4096"`, 1)),
		"unexpected end of JSON":    `{"model_type": "llama"`,
		"config.json: num_hidden_l": decoder("llama", `"hidden_size": 1, "num_attention_heads": 1`),
	} {
		if _, err := DecodeHuggingFaceText("config.json", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
