package engine

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// A stage of linear attention alone keeps nothing of a token: its room is not what bounds the others.
func TestSGLangStagesWithoutAttention(t *testing.T) {
	g := card(t, "h100")
	mem := estimate(t, "sglang", model(t, "qwen3.5-0.8b"), Options{GPU: g, Device: "gpu", Context: 4096,
		Served: Served{PipelineParallel: 8}})
	if len(mem.Stages) != 8 || mem.TokenBytes == 0 || mem.CacheTokens == 0 {
		t.Errorf("%d stages, %v a token, %d tokens", len(mem.Stages), mem.TokenBytes, mem.CacheTokens)
	}
	none := 0
	for _, s := range mem.Stages {
		if s.CacheTokens == 0 {
			none++
		}
	}
	if none == 0 || none == 8 {
		t.Errorf("%d of 8 stages keep no token", none)
	}
	m, err := profile.DecodeHuggingFace("config.json", []byte(`{"model_type": "qwen3_5_text", "hidden_size": 512,
		"num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128,
		"intermediate_size": 1024, "vocab_size": 32000, "max_position_embeddings": 40960, "full_attention_interval": 4,
		"linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 128,
		"linear_value_head_dim": 128, "linear_conv_kernel_dim": 4}`))
	if err != nil {
		t.Fatal(err)
	}
	m.Vision = profile.Vision{}
	if mem := estimate(t, "sglang", &m, Options{GPU: g, Device: "gpu", Context: 4096}); mem.TokenBytes != 0 {
		t.Errorf("three layers without attention keep %v a token", mem.TokenBytes)
	}
}

// Cards, stages and copies are read as the release spells them, long and short.
func TestSGLangReadsWhatItWrites(t *testing.T) {
	for _, text := range []string{"tp-size: 2\npp-size: 3\ndp-size: 4\nep-size: 2\n", "tensor-parallel-size: 2\n" +
		"pipeline-parallel-size: 3\ndata-parallel-size: 4\nexpert-parallel-size: 2\n"} {
		r, err := sglang.ReadSettings("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, s := range r.Stated {
			got[s.Flag] = s.Value
		}
		for flag, want := range map[string]string{"tensor-parallel": "2", "pipeline-parallel": "3", "data-parallel": "4",
			"expert-cards": "2"} {
			if got[flag] != want {
				t.Errorf("--%s is %q, want %s", flag, got[flag], want)
			}
		}
	}
}

// Blocks of vLLM's cache at their edges: worked by hand, 2 (keys and values) · 8 heads · 128 · 2 bytes · 16 tokens of a
// layer of Qwen3-VL-8B; heads are copied where cards outnumber them.
func TestVLLMBlocksAtTheEdges(t *testing.T) {
	const page = 65536
	for _, c := range []struct {
		model     string
		available units.Bytes
		cards     int
		block     units.Bytes
		blocks    int64
	}{
		{"qwen3-vl-8b", -5, 1, 36 * page, 0}, {"qwen3-vl-8b", -5 * units.GiB, 1, 36 * page, 0},
		{"qwen3-vl-8b", 0, 1, 36 * page, 0}, {"qwen3-vl-8b", 36*page - 1, 1, 36 * page, 0},
		{"qwen3-vl-8b", 36 * page, 1, 36 * page, 1}, {"qwen3-vl-8b", 72*page - 1, 1, 36 * page, 1},
		{"qwen3-vl-8b", 10 * units.GiB, 4, 9 * page, 18204},
		{"qwen3-vl-30b-a3b", 10 * units.GiB, 8, 48 * 8192, 27306}, // 4 heads of keys and values on 8 cards
	} {
		b := run(t, c.model, Options{Served: Served{TensorParallel: c.cards}}).blocksOf(nil)
		if b.bytes != c.block || b.blocks(c.available) != c.blocks {
			t.Errorf("%s on %d: %d blocks of %d bytes in %d, want %d of %d", c.model, c.cards, b.blocks(c.available), b.bytes,
				c.available, c.blocks, c.block)
		}
	}
}

// A type that the release has, and whose bytes are not known here, is not offered.
func TestVLLMOffersNoTypeThatIsRefused(t *testing.T) {
	_, err := vllmKV(model(t, "qwen3-vl-8b"), Options{KVType: "fp8_ds_mla"})
	if err == nil || strings.Count(err.Error(), "fp8_ds_mla") != 1 {
		t.Errorf("%v", err)
	}
}

// Heads of multi-token prediction without their file are counted with an interval, and refused where nobody has any.
func TestPredictedHeadsAreCounted(t *testing.T) {
	m := *model(t, "qwen3.5-2b")
	m.Text.PredictLayers = 1
	o := Options{Quant: "q8_0", Device: "cpu", Context: 4096, Llama: LlamaOptions{Speculation: []string{mtpHeads}}}
	var heads []Item
	for _, i := range estimate(t, "llama-server", &m, o).Items {
		if i.Name == Weights && i.Source == Assumed {
			heads = append(heads, i)
		}
	}
	if len(heads) != 1 || heads[0].Low >= heads[0].Bytes || heads[0].High <= heads[0].Bytes ||
		heads[0].Bytes < 20*units.MiB || heads[0].Bytes > 200*units.MiB {
		t.Errorf("heads %+v", heads)
	}
	plain := *model(t, "qwen3-vl-2b")
	plain.Text.PredictLayers = 1
	if _, err := Estimate("llama-server", &plain, o); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("%v", err)
	}
}
