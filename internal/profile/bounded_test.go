package profile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Blocks of multi-token prediction belong to decoders that have them, a few at most.
func TestPredictLayersAreBounded(t *testing.T) {
	text := Text{HiddenSize: 64, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 16, IntermediateSize: 128, VocabSize: 100,
		MaxPositions: 100}
	for _, c := range []struct {
		n       int
		variant *Variant
		fault   string
	}{
		{1, nil, "no such blocks"}, {1, &Variant{}, "no such blocks"}, {1, &Variant{Linear: &Linear{}}, ""},
		{17, &Variant{Linear: &Linear{}}, "at most 16"}, {100000, nil, "at most 16"}, {-1, nil, "zero or more"},
	} {
		with := text
		with.PredictLayers, with.Variant = c.n, c.variant
		err := with.Validate()
		if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%d of %+v: %v", c.n, c.variant, err)
		}
	}
}

// What a configuration does not tell leaves an interval.
func TestUnnamedSchemesAreUnsure(t *testing.T) {
	x := Module{Name: "model.layers.0.mlp.up_proj", Kind: LinearModule, Part: LayersPart, Count: 1, Out: 1024, In: 1024}
	for _, text := range []string{`{"quant_method": "compressed-tensors"}`,
		`{"quant_method": "compressed-tensors", "config_groups": {}}`,
		`{"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}`,
		`{"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {}}`} {
		m, err := DecodeHuggingFace("config.json", fmt.Appendf(nil, `{"model_type": "qwen3", "hidden_size": 1024,
			"num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 2048,
			"vocab_size": 1000, "max_position_embeddings": 4096, "quantization_config": %s}`, text))
		if err != nil {
			t.Fatal(err)
		}
		if least, most := m.Quantisation.Bounds(x, 2); least != 1<<19 || most != 1<<21 {
			t.Errorf("%s: %d to %d bytes", text, least, most)
		}
	}
}

// Numbers that towers are listed by are held to what images and kernels can be.
func TestListedTowersAreBounded(t *testing.T) {
	k := func(text string) keys {
		at := keys{reader: &reader{name: "config.json", data: []byte(text), table: classes()}}
		if err := json.Unmarshal([]byte(text), &at.given); err != nil {
			t.Fatal(err)
		}
		return at
	}
	for text, read := range map[string]func(keys){
		`{"image_size": 1099511627776}`:                    func(k keys) { k.side() },
		`{"window_kernel_size": [-1, 99999999]}`:           func(k keys) { k.sizes("window_kernel_size", 64) },
		`{"window_kernel_size": [65, 2]}`:                  func(k keys) { k.sizes("window_kernel_size", 64) },
		`{"subsampling_conv_channels": [-1, 99999999]}`:    func(k keys) { k.sizes("subsampling_conv_channels", 1<<16) },
		`{"subsampling_conv_channels": [128, 4294967296]}`: func(k keys) { k.sizes("subsampling_conv_channels", 1<<16) },
	} {
		at := k(text)
		if read(at); at.err == nil {
			t.Errorf("%s is taken", text)
		}
	}
	m := Model{Vision: Vision{Depth: 1, listed: []Module{{Name: "a", Count: 1, Out: 1 << 40, In: 1 << 40}}}}
	if err := m.tooLarge(); err == nil {
		t.Error("2^80 parameters are taken")
	}
}
