package engine

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// The buffers that llama.cpp v0.5.0 reserves on a CPU for random models of qwen35, qwen35moe and qwen2vl at random
// settings (tools/reference/llamacpp/record_hybrid.py), to the byte.
func TestHybridDecodersAsLlamaReservesThem(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "llamacpp_hybrid.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var compared int
	for lines := bufio.NewScanner(f); lines.Scan(); compared++ {
		var c struct {
			Config         json.RawMessage
			Type           string
			Settings       map[string]any
			Cache, Compute units.Bytes
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		m, err := profile.DecodeHuggingFace("config.json", c.Config)
		if err != nil {
			t.Fatal(err)
		}
		m.Vision = profile.Vision{} // the decoder alone
		number := func(key string) int { n, _ := c.Settings[key].(float64); return int(n) }
		text := func(key string) string { s, _ := c.Settings[key].(string); return s }
		unified, _ := c.Settings["kv-unified"].(bool)
		o := Options{Quant: c.Type, Context: number("ctx-size"), Batch: number("batch-size"), UBatch: number("ubatch-size"),
			Sequences: number("parallel"), Unified: unified, Device: "cpu", Image: &Image{}, FlashAttention: text("flash-attn"),
			KVType: text("cache-type-k") + "," + text("cache-type-v"), Llama: LlamaOptions{LoadMode: "none"}}
		mem := estimate(t, "llama-server", &m, o)
		if mem.KVCacheBytes != c.Cache || mem.ComputeBytes != c.Compute {
			t.Errorf("line %d: cache %d, compute %d; llama.cpp reserves %d and %d", compared+1, mem.KVCacheBytes,
				mem.ComputeBytes,
				c.Cache, c.Compute)
		}
	}
	if compared < 20 {
		t.Errorf("only %d recorded", compared)
	}
}

// A block of multi-token prediction after the layers is not loaded unless it is asked for, and counts where layers are
// split off: v0.5.0 puts the first two of three layers on the host for -ngl 3 (n_layer_all, load_tensors).
func TestPredictionBlocksCountAndAreNotLoaded(t *testing.T) {
	m := model(t, "qwen3.5-2b")
	r, err := recipeByName("q8_0")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Device: "gpu", HostLayers: 2}
	plain := PlaceLlama(m, r, o)
	files := &Files{}
	for i, x := range plain.Tensors {
		if i == 0 || x.Name != plain.Tensors[i-1].Name { // a tied table is listed twice
			files.Tensors = append(files.Tensors, weights.Tensor{Name: x.Name, Type: x.Type, Shape: x.Shape, At: x.At})
		}
	}
	files.Tensors = append(files.Tensors, weights.Tensor{Name: fmt.Sprintf("blk.%d.nextn.eh_proj.weight", m.Text.Layers),
		Type: "q8_0", Shape: []int64{2048, 1024}})
	m.Text.PredictLayers, o.Files = 1, files
	block := PlaceLlama(m, r, o)
	if len(block.Tensors) != len(plain.Tensors) || !slices.Equal(block.Layers, plain.Layers) {
		t.Errorf("%d tensors over %v, want %d over %v", len(block.Tensors), block.Layers, len(plain.Tensors), plain.Layers)
	}
	for layers, want := range map[int]int{1: m.Text.Layers, m.Text.Layers: 2, m.Text.Layers + 2: 0} {
		o.HostLayers = m.Text.Blocks() + 1 - layers // as -ngl says it
		at := slices.Index(PlaceLlama(m, r, o).Layers, 0)
		if at != want {
			t.Errorf("-ngl %d: the card begins at layer %d, want %d", layers, at, want)
		}
	}
}

// The same of the CUDA backend over nocard.cpp, for a file with a block of multi-token prediction and -ngl 0, 4 and 5,
// and all with --no-kv-offload, here as -1: a layer's state stays with its cache, and what is computed on it passes
// over to the card.
func TestHybridDecodersSplitAsLlamaSplitsThem(t *testing.T) {
	m, err := profile.DecodeHuggingFace("config.json", []byte(`{"model_type": "qwen3_5_text", "hidden_size": 1024,
		"num_hidden_layers": 6, "num_attention_heads": 12, "num_key_value_heads": 3, "intermediate_size": 2816,
		"head_dim": 256, "vocab_size": 32000, "max_position_embeddings": 40960, "tie_word_embeddings": true,
		"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 64, "linear_value_head_dim": 64,
		"linear_conv_kernel_dim": 4, "full_attention_interval": 2}`))
	if err != nil {
		t.Fatal(err)
	}
	m.Vision, m.Text.PredictLayers = profile.Vision{}, 1
	for layers, want := range map[int][4]units.Bytes{ // caches on the card and on the host, compute on both
		0: {0, 47298048, 30542848, 2626112}, 4: {15766016, 31532032, 30542848, 2626112},
		5: {31494656, 15803392, 24428928, 2626112}, -1: {0, 47298048, 24381440, 2626112},
	} {
		left := m.Text.Blocks() + 1 - layers
		if layers < 0 {
			left = 0
		}
		mem := estimate(t, "llama-server", &m, Options{Quant: "q8_0", Context: 5000, UBatch: 128, Sequences: 1, Device: "gpu",
			HostLayers: left, Image: &Image{}, FlashAttention: "on",
			Llama: LlamaOptions{LoadMode: "none", NoKV: layers < 0}})
		var got [4]units.Bytes
		for _, i := range mem.Items {
			at := map[string]int{KVCache: 0, Compute: 2}
			if k, counted := at[i.Name]; counted && i.Where == "host" {
				got[k+1] += i.Bytes
			} else if counted {
				got[k] += i.Bytes
			}
		}
		if got != want {
			t.Errorf("-ngl %d: %v, llama.cpp reserves %v", layers, got, want)
		}
	}
}

// Two settings of random qwen35moe in bf16 whose split is not followed to the end: the first has caches in f32, and
// six layers' experts on the host with --no-op-offload, the second every ffn_down on the host. What the CUDA backend of
// v0.5.0 reserved over nocard.cpp (random_settings.py, seed 500, 39 and 52) lies in the intervals.
func TestExpertsBesideLinearAttentionAreHeld(t *testing.T) {
	config := `{"model_type": "qwen3_5_moe_text", "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d,
		"num_key_value_heads": %d, "intermediate_size": 2816, "head_dim": %d, "vocab_size": 50257,
		"max_position_embeddings": 40960, "tie_word_embeddings": false, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
		"linear_num_key_heads": 4, "linear_num_value_heads": %d, "linear_key_head_dim": %d, "linear_value_head_dim": %[7]d,
		"linear_conv_kernel_dim": 4, "full_attention_interval": %d, "num_experts": 16, "num_experts_per_tok": %d,
		"moe_intermediate_size": %d, "shared_expert_intermediate_size": %[10]d}`
	down := Override{Pattern: regexp.MustCompile("ffn_down"), Card: OnHostMemory}
	for _, c := range []struct {
		shape []any
		ngl   int
		o     Options
		want  [2]units.Bytes // compute on the card and on the host
	}{
		{[]any{1280, 6, 6, 3, 256, 12, 128, 2, 4, 256}, 6, Options{Context: 4096, Batch: 512, UBatch: 128, Sequences: 2,
			KVType: "f32", Llama: LlamaOptions{NoOps: true, Overrides: ExpertsOnHost(6)}}, [2]units.Bytes{21103232, 18092608}},
		{[]any{1024, 4, 8, 2, 64, 4, 64, 4, 2, 512}, 0, Options{Context: 5000, Batch: 512, UBatch: 512, Sequences: 4,
			KVType: "q5_1,bf16", Llama: LlamaOptions{Overrides: append([]Override{down}, ExpertsOnHost(2)...)}},
			[2]units.Bytes{33665152, 5539904}},
	} {
		m, err := profile.DecodeHuggingFace("config.json", fmt.Appendf(nil, config, c.shape...))
		if err != nil {
			t.Fatal(err)
		}
		m.Vision, m.Text.PredictLayers = profile.Vision{}, 1
		o := c.o
		o.Quant, o.Device, o.Image, o.Llama.LoadMode, o.Llama.NoRepack = "bf16", "gpu", &Image{}, "none", true
		if o.Llama.Build = LlamaVersion; c.ngl > 0 {
			o.HostLayers = m.Text.Blocks() + 1 - c.ngl
		}
		for _, i := range estimate(t, "llama-server", &m, o).Items {
			want := c.want[0]
			if i.Where == "host" {
				want = c.want[1]
			}
			least, most := float64(i.Low)/float64(i.Bytes), float64(i.High)/float64(i.Bytes)
			if i.Name == Compute && (want < i.Low || i.High < want || least < 0.89 || most > 1.31) {
				t.Errorf("%s: %d, %d to %d, llama.cpp reserves %d", i.Where, i.Bytes, i.Low, i.High, want)
			}
		}
	}
}
