package engine

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// generate() of a narrow Qwen3.5 (three layers of the gated delta rule, one of full attention) under torch's profiler,
// transformers 5.24 and torch 2.15 on a CPU, bf16: the most bytes live at one time, weights not counted.
func TestGatedDeltaRuleRecorded(t *testing.T) {
	const config = `{"model_type": "qwen3_5_text", "dtype": "bfloat16", "hidden_size": 512, "num_hidden_layers": 4,
 "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 1024, "vocab_size": 1000,
 "linear_num_value_heads": 16, "linear_num_key_heads": 8, "max_position_embeddings": 32768}`
	m, err := profile.DecodeHuggingFace("config.json", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	for tokens, recorded := range map[int]units.Bytes{500: 60_462_032, 1000: 116_627_344, 2000: 228_957_968} {
		mem := estimate(t, "transformers", &m, Options{Context: tokens + 2, PromptTokens: tokens, Device: "cpu",
			Image: &Image{}})
		got := mem.KVCacheBytes + mem.ComputeBytes + mem.OutputBytes
		near(t, "peak", float64(got), float64(recorded), 0.02)
		for _, i := range mem.Items {
			if i.Name == Compute && (i.Low > i.Bytes || i.High < i.Bytes) {
				t.Errorf("%d is not within %d and %d", i.Bytes, i.Low, i.High)
			}
		}
	}
}

// The same of other decoders at 1,000 tokens: 512 wide, four layers, eight heads. Those whose operators are Qwen3's are
// met within one per cent, the others lie in their intervals.
func TestOtherDecodersRecorded(t *testing.T) {
	const shape = `"dtype": "bfloat16", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
 "num_key_value_heads": 2, "intermediate_size": 1024, "vocab_size": 1000, "max_position_embeddings": 8192`
	for _, c := range []struct {
		kind, keys string
		recorded   units.Bytes
		exact      bool
	}{
		{"qwen2", "", 12_560_016, true}, {"llama", "", 12_560_024, true}, {"mistral", "", 12_560_056, true},
		{"qwen3", `, "head_dim": 64`, 12_560_016, true},
		{"qwen3_moe", `, "head_dim": 64, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256`,
			14_704_080,
			true},
		{"mixtral", `, "num_local_experts": 8`, 24_936_088, true},
		{"gemma3_text", `, "head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 256`, 15_487_608, false},
		{"gemma2", `, "head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 256`, 92_464_040, false},
		{"gpt_oss", `, "head_dim": 64, "num_local_experts": 8, "sliding_window": 128`, 104_272_096, false},
		{"deepseek_v3", `, "num_key_value_heads": 8, "n_routed_experts": 8, "num_experts_per_tok": 2,
 "moe_intermediate_size": 256, "kv_lora_rank": 128, "q_lora_rank": 256,
	"first_k_dense_replace": 1`, 118_136_028, false},
	} {
		keys := shape + c.keys
		if c.kind == "deepseek_v3" {
			keys = strings.Replace(keys, `"num_key_value_heads": 2,`, "", 1)
		}
		m, err := profile.DecodeHuggingFace("config.json", []byte(`{"model_type": "`+c.kind+`", `+keys+`}`))
		if err != nil {
			t.Fatal(err)
		}
		mem := estimate(t, "transformers", &m, Options{Context: 1002, PromptTokens: 1000, Device: "cpu", Image: &Image{}})
		weights := mem.WeightsBytes
		if c.exact {
			near(t, c.kind, float64(mem.TotalBytes-weights), float64(c.recorded), 0.01)
		} else if c.recorded < mem.LowBytes-weights || c.recorded > mem.HighBytes-weights {
			t.Errorf("%s: %d to %d, recorded %d", c.kind, mem.LowBytes-weights, mem.HighBytes-weights, c.recorded)
		}
	}
}
