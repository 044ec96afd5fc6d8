package engine

import (
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// OpenVINO 2026.4.1 packs at the first inference: as much as the file of int8 and int4, of 16 bits twice that where it
// computes in f32, and as much where AMX lets it compute in bf16; the file's pages stay beside.
func TestOpenVINOPacksByTheProcessor(t *testing.T) {
	avx2, amx := []string{"avx2", "fma"}, []string{"avx2", "avx512f", "amx_bf16"}
	for _, c := range []struct {
		quant         string
		isa           []string
		middle, least float64 // of the file
	}{
		{"fp16", avx2, 2, 2}, {"fp16", amx, 1, 1}, {"fp16", []string{"avx512f", "avx512_bf16"}, 2, 1}, {"fp16", nil, 2, 1},
		{"int8", avx2, 1, 1}, {"int8", amx, 1, 1}, {"int4", avx2, 1, 1}, {"int4", amx, 1, 1},
	} {
		mem := estimate(t, "openvino", model(t, "qwen3-vl-2b"), Options{Quant: c.quant, Context: 4096,
			Llama: LlamaOptions{CPU: &profile.CPU{ISA: c.isa}}})
		var packed, least, pages units.Bytes
		for _, i := range mem.Items {
			switch i.Name {
			case Weights, VisionWeights:
				packed, least = packed+i.Bytes, least+i.Low
			case FilePages:
				pages += i.Bytes
			}
		}
		near := func(got units.Bytes, times float64) bool { d := got - scaled(pages, times); return d < 2 && d > -2 }
		if !near(packed, c.middle) || !near(least, c.least) {
			t.Errorf("%s with %v: %s packed, at least %s, of files of %s", c.quant, c.isa, packed, least, pages)
		}
	}
}
