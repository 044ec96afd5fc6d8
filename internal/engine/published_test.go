package engine

import (
	"math"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

func TestPublishedNames(t *testing.T) {
	for _, tt := range []struct{ model, quant, repository, decoder, tower, from string }{
		{"Qwen/Qwen3-VL-4B-Instruct", "q8_0", "Qwen/Qwen3-VL-4B-Instruct-GGUF", "Qwen3VL-4B-Instruct-Q8_0.gguf",
			"mmproj-Qwen3VL-4B-Instruct-F16.gguf", ""},
		{"Qwen/Qwen3-VL-30B-A3B-Instruct", "q4_k_m", "Qwen/Qwen3-VL-30B-A3B-Instruct-GGUF",
			"Qwen3VL-30B-A3B-Instruct-Q4_K_M.gguf", "mmproj-Qwen3VL-30B-A3B-Instruct-F16.gguf", ""},
		{"Qwen/Qwen3-VL-8B-Thinking", "f16", "Qwen/Qwen3-VL-8B-Thinking-GGUF", "Qwen3VL-8B-Thinking-F16.gguf",
			"mmproj-Qwen3VL-8B-Thinking-F16.gguf", ""},
		{"Qwen/Qwen3-VL-8B-Instruct", "q6_k", "unsloth/Qwen3-VL-8B-Instruct-GGUF", "Qwen3-VL-8B-Instruct-Q6_K.gguf",
			"mmproj-F16.gguf", ""},
		{"Qwen/Qwen3-VL-8B-Instruct", "q5_k_m", "Qwen/Qwen3-VL-8B-Instruct-GGUF", "Qwen3VL-8B-Instruct-Q5_K_M.gguf",
			"mmproj-Qwen3VL-8B-Instruct-F16.gguf", "Qwen3VL-8B-Instruct-F16.gguf"},
	} {
		got, ok := PublishedGGUF(&profile.Model{Repository: tt.model}, tt.quant, "f16")
		if !ok || got.Repository != tt.repository || got.Decoder != tt.decoder || got.Tower != tt.tower ||
			got.QuantizedFrom != tt.from {
			t.Errorf("%s in %s: %v, %+v", tt.model, tt.quant, ok, got)
		}
	}
	for quant, want := range map[string]string{"f16": "F16", "q8_0": "Q8_0", "q4_k_m": "Q8_0"} {
		p, _ := PublishedGGUF(&profile.Model{Repository: "Qwen/Qwen3-VL-4B-Instruct"}, quant, "f16")
		if got := p.FetchedTower(); got != "mmproj-Qwen3VL-4B-Instruct-"+want+".gguf" {
			t.Errorf("-hf with %s: %s", quant, got)
		}
	}
	for _, other := range []string{"Qwen/Qwen2.5-VL-3B-Instruct", "", "Qwen/Qwen3-VL-4B", "Qwen/Qwen3-VL-9B-Instruct"} {
		if got, ok := PublishedGGUF(&profile.Model{Repository: other}, "q8_0", "f16"); ok {
			t.Errorf("%s: %+v", other, got)
		}
	}
}

// The sizes are those seen of the published files, in GB, to the half per cent that headers and vocabulary take.
func TestFileBytes(t *testing.T) {
	for _, tt := range []struct {
		model, quant   string
		decoder, tower float64
	}{{"qwen3-vl-8b", "q4_k_m", 5.03e9, 1.16e9}, {"qwen3-vl-30b-a3b", "q8_0", 32.48e9, 0}} {
		m, err := profiles.Model(tt.model)
		if err != nil {
			t.Fatal(err)
		}
		decoder, tower, err := FileBytes(&m, tt.quant, "f16")
		if err != nil || math.Abs(float64(decoder)/tt.decoder-1) > 0.005 ||
			tt.tower > 0 && math.Abs(float64(tower)/tt.tower-1) > 0.005 {
			t.Errorf("%s in %s: %d and %d bytes, %v", tt.model, tt.quant, decoder, tower, err)
		}
	}
}
