package report_test

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/units"
)

// TestScreenSaysWhatToDownloadAndStart looks at the three ways to come by a model's file.
func TestScreenSaysWhatToDownloadAndStart(t *testing.T) {
	name := evidence.Of("llama-server", "", evidence.Derived)
	official := &engine.Published{Repository: "Qwen/Qwen3-VL-4B-Instruct-GGUF", Decoder: "Qwen3VL-4B-Instruct-Q8_0.gguf",
		Tower: "mmproj-Qwen3VL-4B-Instruct-F16.gguf", Type: "Q8_0"}
	made := *official
	made.Decoder, made.Type, made.QuantizedFrom = "Qwen3VL-4B-Instruct-Q5_K_M.gguf", "Q5_K_M",
		"Qwen3VL-4B-Instruct-F16.gguf"
	for _, tt := range []struct {
		files *engine.Published
		want  []string
	}{
		{official, []string{"download from Qwen/Qwen3-VL-4B-Instruct-GGUF", "  Qwen3VL-4B-Instruct-Q8_0.gguf (4 GiB)\n"}},
		{&made, []string{"llama-quantize Qwen3VL-4B-Instruct-F16.gguf Qwen3VL-4B-Instruct-Q5_K_M.gguf Q5_K_M"}},
		{nil, []string{"no publisher"}},
	} {
		var b strings.Builder
		a := advise.Advice{Headline: []string{"fits: 5 of 8 GiB"}, Budget: advise.Budget{Engine: &name},
			Next: &advise.Next{Files: tt.files, Decoder: 4 * units.GiB, Tower: units.GiB,
				Command: []string{"llama-server", "--parallel 1"}}}
		if err := report.Screen(&b, a, "mine.yaml"); err != nil {
			t.Fatal(err)
		}
		for _, want := range append(tt.want, "fits: 5 of 8 GiB", "llama-server \\\n      --parallel 1\n",
			"vlmem run --config mine.yaml --engine llama-server --\n") {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q lacks %q", b.String(), want)
			}
		}
	}
}
