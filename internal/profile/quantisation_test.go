package profile

import (
	"strings"
	"testing"
)

// One linear layer of 9,728 rows and 2,560 columns as the libraries themselves allocate it: bitsandbytes, torchao,
// optimum-quanto, compressed-tensors and GPTQModel under transformers 5.24.
func TestBytesOfOneMatrix(t *testing.T) {
	x := Module{Name: "model.layers.0.mlp.up_proj", Kind: LinearModule, Part: LayersPart, Count: 1, Out: 9728, In: 2560}
	for config, want := range map[string]int64{
		`{"quant_method": "bitsandbytes", "load_in_4bit": true}`:                                    14_008_384,
		`{"load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}`:                                      14_008_384,
		`{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_use_double_quant": true}`: 12_848_132,
		`{"quant_method": "bitsandbytes", "load_in_8bit": true}`:                                    24_942_592,
		`{"quant_method": "torchao", "quant_type": "int8_weight_only"}`:                             24_952_320,
		`{"quant_method": "torchao", "quant_type": {"default": {"_type":
			"Float8WeightOnlyConfig", "_data": {}}}}`: 24_942_592,
		`{"quant_method": "torchao", "quant_type": {"default": {"_type": "IntxWeightOnlyConfig"}}}`: 25_487_360,
		`{"quant_method": "torchao", "quant_type": "int4_weight_only"}`:                             13_230_080,
		`{"quant_method": "quanto", "weights": "int4"}`:                                             13_230_080,
		`{"quant_method": "quanto", "weights": "int8"}`:                                             24_923_136,
		`{"quant_method": "quanto", "weights": "int2"}`:                                             7_004_160,
		`{"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"weights":
 {"num_bits": 4, "group_size": 128, "symmetric": true}}}}`: 12_840_976,
		`{"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"weights":
 {"num_bits": 4, "group_size": 128, "symmetric": false}}}}`: 12_938_256,
		`{"quant_method": "gptq", "bits": 4, "group_size": 128}`:     12_948_480,
		`{"quant_method": "fp8", "weight_block_size": [128, 128]}`:   24_909_760,
		`{"quant_method": "mxfp4"}`:                                  9728 * 2560 * 2, // experts alone
		`{"quant_method": "somebody-elses"}`:                         9728 * 2560 * 2,
		`{"quant_method": "awq", "modules_to_not_convert": ["mlp"]}`: 9728 * 2560 * 2,
		`{"quant_method": "compressed-tensors", "ignore": ["re:.*layers\\.0\\..*"], "config_groups": {"g": {"weights":
 {"num_bits": 8}}}}`: 9728 * 2560 * 2,
	} {
		m, err := DecodeHuggingFace("config.json", []byte(decoder("qwen3", qwen3dense, `"quantization_config": `+config)))
		if err != nil {
			t.Errorf("%s: %v", config, err)
			continue
		}
		if got := m.Quantisation.Bytes(x, 2); got != want {
			t.Errorf("%s: %d bytes, want %d", config, got, want)
		}
	}
}

// What each scheme leaves as it is, by the modules of a small mixture with a tower.
func TestWhatASchemeConverts(t *testing.T) {
	const config = `{"model_type": "qwen3_vl_moe", "text_config": {"num_hidden_layers": 1}, "vision_config": {"depth": 9,
 "deepstack_visual_indexes": [1]}, "quantization_config": `
	count := func(scheme string) map[string]int {
		m, err := DecodeHuggingFace("config.json", []byte(config+scheme+"}"))
		if err != nil {
			t.Fatal(err)
		}
		converted := map[string]int{}
		for _, x := range m.Modules() {
			if m.Quantisation.Converts(x) {
				switch {
				case x.Vision():
					converted["tower"]++
				case x.Kind == Experts:
					converted["experts"]++
				default:
					converted["decoder"]++
				}
			}
		}
		return converted
	}
	const tower = 9*4 + 2 + 2                    // blocks, the merger and one deepstack merger
	for scheme, want := range map[string][3]int{ // tower, experts, the rest of the decoder
		`{"load_in_4bit": true}`: {tower, 0, 4},
		`{"quant_method": "awq", "modules_to_not_convert": ["visual"]}`:                                   {0, 2, 4},
		`{"quant_method": "fp8", "modules_to_not_convert": ["model.visual", "model.layers.0.self_attn"]}`: {0, 2, 0},
		`{"quant_method": "fp8"}`:   {tower, 2, 4},
		`{"quant_method": "mxfp4"}`: {0, 2, 0},
		`{"quant_method": "compressed-tensors", "ignore": ["re:.*visual.*", "lm_head", "re:.*self_attn.*"],
 "config_groups": {"g": {"weights": {"num_bits": 4}}}}`: {0, 2, 0},
		`{"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["*visual*", "lm_head"]}`: {0, 2, 4},
	} {
		got := count(scheme)
		if got["tower"] != want[0] || got["experts"] != want[1] || got["decoder"] != want[2] {
			t.Errorf("%s: %v, want %v", scheme, got, want)
		}
	}
}

// A method that nobody here knows is an interval and a warning, not a figure; so are patterns that cannot be read.
func TestUnknownSchemes(t *testing.T) {
	x := Module{Name: "model.layers.0.mlp.up_proj", Kind: LinearModule, Part: LayersPart, Count: 1, Out: 64, In: 64}
	for scheme, want := range map[string][2]int64{
		`{"quant_method": "vptq"}`: {64 * 64 / 2, 64 * 64 * 2},
		`{"quant_method": "fp8", "modules_to_not_convert": ["re:(?!visual).*"]}`: {64*64 + 4, 64*64 + 4},
	} {
		m, err := DecodeHuggingFace("config.json", []byte(decoder("qwen3", qwen3dense, `"quantization_config": `+scheme)))
		if err != nil {
			t.Fatal(err)
		}
		if least, most := m.Quantisation.Bounds(x, 2); least != want[0] || most != want[1] || m.Quantisation.Warning() == "" {
			t.Errorf("%s: %d to %d, warning %q", scheme, least, most, m.Quantisation.Warning())
		}
	}
}

// Parameters of the classes' defaults, counted on the meta device of transformers 5.24
// (tools/reference/models/count.py), of the whole and of the tower with what joins it to the decoder.
func TestParametersAsOnTheMetaDevice(t *testing.T) {
	for kind, want := range map[string][2]int64{
		"gemma2": {2_614_341_888, 0}, "gpt_oss": {116_829_156_672, 0}, "llama4_text": {107_769_861_120, 0},
		"ministral3": {8_489_553_920, 0}, "mixtral": {46_702_792_704, 0}, "qwen2_5_vl": {75_789_228_800, 3_083_025_152},
		"qwen2_vl": {73_381_962_752, 675_759_104}, "qwen3": {12_049_461_248, 0},
		"qwen3_5": {9_407_453_936, 453_650_672}, "qwen3_5_moe": {35_114_261_360, 453_650_672},
		"qwen3_5_moe_text": {34_660_610_688, 0}, "qwen3_5_text": {8_953_803_264, 0}, "qwen3_moe": {15_350_731_776, 0},
		"llama": {6_738_415_616, 0}, "qwen3_omni_moe": {18_418_329_704, 566_949_104 + 649_894_784},
	} {
		m, err := DecodeHuggingFace("config.json", []byte(`{"model_type": "`+kind+`"}`))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		p := m.Parameters()
		if p.Total() != want[0] || p.VisionCore+p.Merger+p.Deepstack != want[1] {
			t.Errorf("%s: %d parameters, %d of the tower; want %v", kind, p.Total(), p.VisionCore+p.Merger+p.Deepstack, want)
		}
	}
}

// What layers of linear attention keep: a matrix a value head in fp32, and four inputs of the convolution.
func TestStatesOfLinearAttention(t *testing.T) {
	m, err := DecodeHuggingFace("config.json", []byte(`{"model_type": "qwen3_5_text"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Text.StateBytes(2); got != 24*(2_097_152+65_536) || m.Text.CachedLayers() != 8 {
		t.Errorf("%d bytes of state, %d layers that keep tokens", got, m.Text.CachedLayers())
	}
	if got := m.KVBytesPerToken(BF16); got != 8*4096 {
		t.Errorf("%d bytes a token", got)
	}
}

// Which layers slide, and what stays of 100 and 5,000 tokens, as real caches of narrow models have it.
func TestWindowsOfEachClass(t *testing.T) {
	const narrow = `"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, ` +
		`"vocab_size": 100, "max_position_embeddings": 8192`
	for _, c := range []struct {
		kind, keys      string
		tokens          int
		cached, element int64
	}{
		{"qwen2", `"num_hidden_layers": 6, "sliding_window": 32, "use_sliding_window": true, "max_window_layers": 4`, 100,
			59_136, 2},
		{"mistral", `"num_hidden_layers": 4`, 5000, 2_096_640, 2},
		{"gemma3_text", `"num_hidden_layers": 8, "head_dim": 16`, 5000, 4_309_120, 2},
		{"qwen2", `"num_hidden_layers": 6, "sliding_window": 32`, 100, 6 * 100 * 64, 1},
		{"mistral", `"num_hidden_layers": 4, "sliding_window": null`, 5000, 4 * 5000 * 64, 1},
		{"gpt_oss", `"num_hidden_layers": 4, "head_dim": 16`, 1000, (2*127 + 2*1000) * 64, 1},
	} {
		m, err := DecodeHuggingFace("config.json", []byte(decoder(c.kind, narrow, c.keys)))
		if err != nil || m.Text.CachedElements(c.tokens)*c.element != c.cached {
			t.Errorf("%s %s: %d, want %d, %v", c.kind, c.keys, m.Text.CachedElements(c.tokens)*c.element, c.cached, err)
		}
	}
}

// How many positions YaRN gives, and what leaves the limit as it is.
func TestPositions(t *testing.T) {
	for rope, want := range map[string]int{
		`null`: 40960,
		`{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}`:  131072,
		`{"type": "yarn", "factor": 2.0}`:                                                  81920,
		`{"rope_type": "linear", "factor": 2.0}`:                                           81920,
		`{"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}`: 40960,
		`{"rope_type": "default", "mrope_section": [24, 20, 20]}`:                          40960,
		`{"rope_type": "yarn", "factor": 1.5, "original_max_position_embeddings": 8192}`:   40960,
	} {
		m, err := DecodeHuggingFace("config.json", []byte(decoder("qwen3", qwen3dense, `"rope_scaling": `+rope)))
		if err != nil || m.Text.MaxPositions != want {
			t.Errorf("%s: %d positions, want %d, %v", rope, m.Text.MaxPositions, want, err)
		}
	}
}

// Bits that no scheme has are refused where they stand, not multiplied.
func TestBitsThatNoSchemeHas(t *testing.T) {
	for _, quantised := range []string{`{"quant_method": "gptq", "bits": 1000000000}`,
		`{"quant_method": "awq", "bits": 0}`,
		`{"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 64}}}}`} {
		text := decoder("qwen3", qwen3dense, `"quantization_config": `+quantised)
		if _, err := DecodeHuggingFace("config.json", []byte(text)); err == nil ||
			!strings.Contains(err.Error(), "want 1 to 16") {
			t.Errorf("%s: %v", quantised, err)
		}
	}
}

// Groups and blocks that no library takes are refused by their key, and those that some method takes are not: -1 is a
// whole row to GPTQ, AWQ, AutoRound and compressed-tensors, 0 the whole matrix to AutoRound alone. GPTQConfig and
// FineGrainedFP8Config of transformers 5.24 and QuantizationArgs of compressed-tensors 0.17 refuse the others so.
func TestGroupsThatNoSchemeHas(t *testing.T) {
	for scheme, key := range map[string]string{
		`"quant_method": "gptq", "bits": 4, "group_size": -1`:                     "",
		`"quant_method": "awq", "bits": 4, "group_size": -1`:                      "",
		`"quant_method": "auto-round", "bits": 4, "group_size": 0`:                "",
		`"quant_method": "auto-round", "bits": 4, "group_size": -5`:               "group_size",
		`"quant_method": "gptq", "bits": 4, "group_size": 0`:                      "group_size",
		`"quant_method": "gptq", "bits": 4, "group_size": -5`:                     "group_size",
		`"quant_method": "awq", "w_bit": 4, "q_group_size": 0`:                    "group_size",
		`"quant_method": "gptq", "bits": 4, "dynamic": {"a": {"group_size": -2}}`: "group_size",
		`"quant_method": "fp8", "weight_block_size": [128, 128]`:                  "",
		`"quant_method": "fp8", "weight_block_size": null`:                        "",
		`"quant_method": "fp8", "weight_block_size": [0, 0]`:                      "weight_block_size",
		`"quant_method": "fp8", "weight_block_size": [-5, 128]`:                   "weight_block_size",
		`"quant_method": "fp8", "weight_block_size": [128]`:                       "weight_block_size",
		`"quant_method": "compressed-tensors", "config_groups": {"g": {"weights":
 {"num_bits": 4, "group_size": -1}}}`: "",
		`"quant_method": "compressed-tensors", "config_groups": {"g": {"weights":
 {"num_bits": 4, "group_size": 0}}}`: "group_size",
		`"quant_method": "compressed-tensors", "config_groups": {"g": {"weights":
 {"num_bits": 8, "strategy": "channel", "group_size": 0}}}`: "",
		`"quant_method": "compressed-tensors", "config_groups": {"g": {"weights":
 {"num_bits": 0, "group_size": 128}}}`: "num_bits",
		`"quant_method": "compressed-tensors", "config_groups": {"g": {"weights":
 {"num_bits": 8, "strategy": "block", "block_structure": "128x128"}}}`: "",
		`"quant_method": "compressed-tensors", "config_groups": {"g": {"weights":
 {"num_bits": 8, "strategy": "block", "block_structure": [0, 128]}}}`: "block_structure",
		`"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": 0`: "group_size",
		`"bits": 4, "group_size": -1`:                                            "group_size", // MLX
		`"quant_method": "hqq", "quant_config": {"weight_quant_params":
 {"nbits": 4, "group_size": -64}}`: "group_size",
		`"quant_method": "torchao", "quant_type": "int4_weight_only", "quant_type_kwargs":
 {"group_size": 0}`: "group_size",
	} {
		_, err := DecodeHuggingFace("config.json", []byte(decoder("qwen3", qwen3dense,
			`"quantization_config": {`+scheme+`}`)))
		if (err == nil) != (key == "") || err != nil && !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v, want a word on %q", scheme, err, key)
		}
	}
}
