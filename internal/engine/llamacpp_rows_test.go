package engine

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// published are the shapes of decoders in their publishers' config.json.
var published = map[string]string{
	"qwen3-0.6b": `{"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
		"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936,
		"max_position_embeddings": 40960, "tie_word_embeddings": true}`,
	"qwen3-4b": `{"model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
		"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9728, "vocab_size": 151936,
		"max_position_embeddings": 40960, "tie_word_embeddings": true}`,
	"llama-3.2-3b": `{"model_type": "llama", "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24,
		"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192, "vocab_size": 128256,
		"max_position_embeddings": 131072, "tie_word_embeddings": true}`,
	"llama-2-13b": `{"model_type": "llama", "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40,
		"num_key_value_heads": 40, "intermediate_size": 13824, "vocab_size": 32000,
		"max_position_embeddings": 4096, "tie_word_embeddings": false}`,
	"gemma-3-4b": `{"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "num_attention_heads": 8,
		"num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 10240, "vocab_size": 262208, "sliding_window": 1024,
		"sliding_window_pattern": 6, "max_position_embeddings": 131072, "tie_word_embeddings": true}`,
	"gemma-3-27b": `{"model_type": "gemma3_text", "hidden_size": 5376, "num_hidden_layers": 62, "num_attention_heads": 32,
		"num_key_value_heads": 16, "head_dim": 128, "intermediate_size": 21504, "vocab_size": 262208, "sliding_window": 1024,
		"sliding_window_pattern": 6, "max_position_embeddings": 131072, "tie_word_embeddings": true}`,
	"deepseek-v3": `{"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128,
		"num_key_value_heads": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
		"n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536,
		"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280,
		"max_position_embeddings": 163840, "tie_word_embeddings": false, "moe_layer_freq": 1}`,
}

// row is what an engine printed or reserved under settings: MiB on the cards together, and on the host, 0 for what was
// not said.
type row struct {
	name, model, engine string
	o                   Options
	card, host          map[string]float64
}

// shaped is the model of a row: a built-in one, one of the recordings, or one of those above.
func shaped(t *testing.T, name string) *profile.Model {
	t.Helper()
	if strings.HasPrefix(name, "qwen3-vl-") {
		return model(t, name)
	}
	if config := published[name]; config != "" {
		m, err := profile.DecodeHuggingFace(name, []byte(config))
		if err != nil {
			t.Fatal(err)
		}
		return &m
	}
	return decoders(t)[name]
}

func (r *row) hold(t *testing.T) {
	r.o.Quant, r.o.Device = orElse(r.o.Quant, "q4_k_m"), orElse(r.o.Device, "gpu")
	m := shaped(t, r.model)
	if r.o.Image == nil && m.Vision.Depth == 0 {
		r.o.Image = &Image{}
	}
	mem := estimate(t, orElse(r.engine, "llama-server"), m, r.o)
	for _, side := range []struct {
		where string
		want  map[string]float64
	}{{"cards", r.card}, {"host", r.host}} {
		for name, want := range side.want {
			if got := mem.at(name, side.where == "cards"); math.Abs(got-want) > 0.011 {
				t.Errorf("%s: %s on the %s: %.2f MiB, seen %.2f", r.name, name, side.where, got, want)
			}
		}
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// What the real v0.5.0 reserved on CUDA over a runtime that allocates nothing, beside the rows of
// TestLlamaSettingsAsTheEngine.
func TestLlamaRowsOfTheEngine(t *testing.T) {
	mixed := func(name string) string { // as files made with an importance matrix are
		switch {
		case strings.Contains(name, "norm"):
			return "f32"
		case strings.Contains(name, "ffn_down"):
			return "q5_k"
		case strings.Contains(name, "ffn"):
			return "q3_k"
		case name == "token_embd.weight":
			return "q4_k"
		}
		return "q8_0"
	}
	file := files(t, "qwen3-vl-8b", mixed)
	latent := Options{Quant: "q8_0", Context: 32768, Sequences: 1}
	latentLayers, latentLong, latentPlain := latent, latent, latent
	latentLayers.HostLayers = 52
	latentLong.Context, latentLong.UBatch = 131072, 2048
	latentPlain.Context, latentPlain.FlashAttention = 16384, "off"
	window := Options{Quant: "q8_0", Context: 32768, Sequences: 1, KVType: "q8_0", UBatch: 1024}
	windowMost, windowAll := window, window
	windowMost.HostLayers, windowAll.HostLayers = 33, 5
	for _, r := range []row{
		{"tower without flash attention", "qwen3-vl-2b", "", Options{Context: 16384, FlashAttention: "off"},
			map[string]float64{Vision: 4728.07}, nil},
		{"tower on the host", "qwen3-vl-2b", "", Options{Context: 16384, Llama: LlamaOptions{NoTower: true}},
			map[string]float64{Compute: 76.02, Vision: 0},
			map[string]float64{Compute: 36.02, VisionWeights: 781.42, Vision: 322.49}},
		{"types of a file", "qwen3-vl-8b", "", Options{Context: 8192, Image: &Image{}, Files: file},
			map[string]float64{Weights: 4834.77, KVCache: 1152, Compute: 128.02}, map[string]float64{Weights: 333.84}},
		{"types of a file, 20 layers", "qwen3-vl-8b", "", Options{Context: 8192, Image: &Image{}, Files: file,
			HostLayers: 17},
			map[string]float64{Weights: 2849.47, KVCache: 608, Compute: 165.63},
			map[string]float64{Weights: 2319.14, KVCache: 544, Compute: 48.02}},
		{"windows, 30 of 62 layers", "gemma-3-27b", "", windowMost,
			map[string]float64{Weights: 13563.25, KVCache: 884, Compute: 572.07},
			map[string]float64{Weights: 15236.95, KVCache: 918, Compute: 110.20}},
		{"windows, 30 of 34 layers", "gemma-3-4b", "", windowAll,
			map[string]float64{Weights: 3454.49, KVCache: 442, Compute: 242.93},
			map[string]float64{Weights: 1158.50, KVCache: 21.25, Compute: 88.57}},
		{"compressed cache", "deepseek-v3", "", latent,
			map[string]float64{KVCache: 2196, Compute: 412.01}, map[string]float64{Compute: 60.01}},
		{"compressed cache, 10 layers", "deepseek-v3", "", latentLayers, map[string]float64{Compute: 4092.50}, nil},
		{"compressed cache, large batches", "deepseek-v3", "", latentLong, map[string]float64{Compute: 2032.02}, nil},
		{"compressed cache without flash attention", "deepseek-v3", "", latentPlain, map[string]float64{Compute: 4497.02},
			nil},
	} {
		r.o.Llama.Build = LlamaVersion
		r.hold(t)
	}
}

// files is a file whose tensors have types of their own, in the order that a quantiser writes.
func files(t *testing.T, name string, types func(string) string) *Files {
	t.Helper()
	var list []PlacedTensor
	for _, x := range decoderTensors(&model(t, name).Text) {
		list = append(list, PlacedTensor{Name: x.name, Type: types(x.name), Shape: x.shape, Layer: x.layer})
	}
	asQuantised(list)
	f := &Files{Decoder: new(units.Bytes)}
	for _, x := range list {
		bytes := units.Bytes(tensorBytes(x.Type, x.Shape))
		*f.Decoder += bytes
		f.Tensors = append(f.Tensors, weights.Tensor{Name: x.Name, Type: x.Type, Shape: x.Shape, Bytes: bytes, At: x.At})
	}
	slices.SortFunc(f.Tensors, func(a, b weights.Tensor) int { return int(a.At - b.At) })
	return f
}

// What logs in public trackers and forums print. Where a log does not say a setting or its build, the one that is
// assumed here was found by solving for it: nothing else of what is common gives the same figures.
func TestLlamaRowsOfPublicLogs(t *testing.T) {
	on := func(build string, o Options) Options { o.Llama.Build = build; return o }
	backend := func(name string, o Options) Options { o.Llama.Backend = name; return o }
	arc := Options{Context: 131072, Sequences: 2, UBatch: 1024} // the log names neither; its two masks and copies do
	arc.Llama = LlamaOptions{Cards: 2, Backend: "vulkan"}
	lowVRAM := on("b5129", Options{Quant: "q5_k_m", Context: 6272}) // koboldcpp of 2024: older than any measured build
	lowVRAM.Llama.NoKV = true
	embeddings := on("b5129", Options{Context: 8192, Sequences: 4, FlashAttention: "off"}) // ollama asks for embeddings
	embeddings.Llama.Embeddings = true
	for _, r := range []row{
		{"lmstudio-bug-tracker 1176", "qwen3-vl-8b", "llama.cpp",
			on("b7079", Options{Context: 16384, Batch: 512, Sequences: 1, KVType: "q8_0", Image: &Image{}}),
			map[string]float64{KVCache: 1224, Compute: 352.77}, map[string]float64{Output: 0.58, Compute: 40.02}},
		{"llama.cpp 16895", "qwen3-vl-30b-a3b", "llama.cpp",
			backend("vulkan", Options{Context: 32768, Sequences: 2, UBatch: 2048, Image: &Image{}}),
			map[string]float64{Weights: 17524.43, KVCache: 3072}, map[string]float64{Weights: 166.92, Output: 1.16}},
		{"llama.cpp 18181", "qwen3-vl-235b-a22b", "llama.cpp", Options{Context: 4096, ProjectorQuant: "f32"},
			map[string]float64{VisionWeights: 2198.75, Vision: 372.08}, nil},
		{"gguf-parser-go 44", "qwen3-vl-2b", "", backend("rocm", Options{Context: 4096, FlashAttention: "off"}),
			map[string]float64{Vision: 4728.07}, nil},
		{"gguf-parser-go 45, four layers", "qwen3-0.6b", "", backend("rocm", on(LlamaVersion,
			Options{Quant: "q8_0", Context: 4096, Sequences: 1, KVType: "q8_0", HostLayers: 25})),
			map[string]float64{Compute: 41.64}, nil},
		{"gguf-parser-go 45, every layer", "qwen3-0.6b", "", backend("rocm", on(LlamaVersion,
			Options{Quant: "q8_0", Context: 4096, Sequences: 1, KVType: "q8_0"})),
			map[string]float64{Compute: 32.09}, nil},
		{"ollama 8310", "llama-3.2-3b", "llama.cpp", embeddings,
			map[string]float64{Weights: 1918.35, KVCache: 896, Compute: 424},
			map[string]float64{Weights: 308.23, Output: 2, Compute: 22.01}},
		{"llama.cpp 13729", "qwen3-30b-a3b", "llama.cpp", on("b5300", Options{Context: 4096, HostLayers: 19}),
			map[string]float64{Weights: 10750.86}, map[string]float64{Weights: 6940.48}},
		{"koboldcpp 1.78, low VRAM", "llama-2-13b", "llama.cpp", lowVRAM, map[string]float64{Weights: 8694.21, KVCache: 0},
			map[string]float64{Weights: 107.42, KVCache: 4900}},
		{"October 2026, four slots", "qwen3-4b", "", on("b11549", Options{Context: 8192}),
			map[string]float64{Weights: 2375.91, KVCache: 1152, Compute: 85.01},
			map[string]float64{Weights: 304.28, Output: 2.32, Compute: 28.02}},
		{"2026, GB10", "qwen3-4b", "llama.cpp", on("b8672", Options{Context: 4096, Sequences: 1}),
			map[string]float64{KVCache: 576, Compute: 301.75}, map[string]float64{Output: 0.58, Compute: 18.01}},
		{"2025, capability 6.1", "qwen3-4b", "llama.cpp",
			on("b5300", Options{Context: 8192, Sequences: 1, FlashAttention: "off"}),
			map[string]float64{KVCache: 1152, Compute: 554}, map[string]float64{Output: 0.58, Compute: 21.01}},
		{"2026, two Arc", "qwen3-30b-a3b", "", arc,
			map[string]float64{Weights: 17524.43, KVCache: 12288, Compute: 1424.16},
			map[string]float64{Weights: 166.92, Compute: 528.09}},
		{"2026, ROCm, 20 layers", "qwen2.5-7b", "llama.cpp", backend("rocm", on("b8156", Options{Context: 65536, Batch: 512,
			KVType: "q8_0", Sequences: 4, Unified: true, HostLayers: 8})),
			map[string]float64{KVCache: 1360, Compute: 304}, map[string]float64{KVCache: 544, Output: 2.32, Compute: 142.02}},
		{"2026, a card", "qwen2.5-7b", "", on(LlamaVersion, Options{Context: 16384, KVType: "q8_0", Sequences: 4,
			Unified: true}),
			map[string]float64{Weights: 4168.09, KVCache: 476, Compute: 148.09}, nil},
		{"December 2025", "qwen3-30b-a3b", "llama.cpp", on("b7551", Options{Context: 65536, Sequences: 4, Unified: true}),
			map[string]float64{KVCache: 6144, Compute: 300.75}, map[string]float64{Output: 2.32, Compute: 132.01}},
		// The tower's scores pass what the driver gives at once, and its small tensors keep them apart.
		{"2026, Adreno", "qwen3-vl-8b", "llama.cpp", backend("opencl", on("b8672", Options{Context: 4096, Sequences: 1})),
			map[string]float64{Compute: 304.75, Vision: 9030.32}, nil},
	} {
		r.hold(t)
	}
}

// Scores above 128 MiB, the least that a Vulkan device must bind at once, and those over a cache of another type than
// f16, may be left to the host, as Mesa's lavapipe does; what stays is off by a third at most.
func TestLlamaVulkanIntervals(t *testing.T) {
	small := *decoders(t)["qwen3-8b"]
	small.Text.HiddenSize, small.Text.Layers, small.Text.Heads, small.Text.KVHeads, small.Text.HeadDim = 1024, 3, 8, 2, 128
	small.Text.IntermediateSize, small.Text.VocabSize = 1024, 1000
	for _, kv := range []string{"f16", "q4_0,f16", "bf16"} {
		o := Options{Quant: "q8_0", Context: 10000, Device: "gpu", FlashAttention: "off", KVType: kv, Image: &Image{},
			Llama: LlamaOptions{Build: LlamaVersion, Backend: "vulkan"}}
		mem := estimate(t, "llama-server", &small, o)
		for _, i := range mem.Items {
			if i.Name == Compute && i.Where == "host" && i.High < mem.on("device", Compute) {
				t.Errorf("%s: at most %s on the host, where %s of scores may go", kv, i.High, mem.on("device", Compute))
			}
		}
	}
	o := Options{Quant: "q8_0", Context: 10000, Device: "gpu", Image: &Image{},
		Llama: LlamaOptions{Build: LlamaVersion, Backend: "vulkan"}}
	for _, i := range estimate(t, "llama-server", &small, o).Items {
		if i.Name == Compute && i.Where == "device" && (i.Low != scaled(i.Bytes, 0.65) || i.High != scaled(i.Bytes, 1.35)) {
			t.Errorf("%+v", i)
		}
	}
}
