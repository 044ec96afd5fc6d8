package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRatesMoveTheSpeed gives one run of llama-bench: what it measured comes back, marked observed.
func TestRatesMoveTheSpeed(t *testing.T) {
	bench := filepath.Join(t.TempDir(), "bench.json")
	text := `[{"model_filename":"m.gguf","model_type":"qwen3 4B Q4_K - Medium","model_size":2491000000,"model_n_params":4022468096,
		"n_gpu_layers":99,"n_ubatch":512,"n_prompt":0,"n_gen":128,"n_depth":0,"avg_ts":40.25,"backends":"CUDA"}]`
	if err := os.WriteFile(bench, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"estimate", "--hardware", "gtx-1080", "--model", "qwen3-vl-2b", "--quant", "q8_0", "--no-warmup"}
	before, complaints, code := runWith(t, nil, args...)
	if code != 0 || !strings.Contains(before, "writing, full context") {
		t.Fatalf("exit %d: %s", code, complaints)
	}
	after, complaints, code := runWith(t, nil, append(args, "--observed", bench)...)
	if code != 0 || before == after || !strings.Contains(after, "observed") {
		t.Errorf("exit %d, %s\n%s", code, complaints, after)
	}
	_, complaints, code = runWith(t, nil, "estimate", "--model", "qwen3-vl-2b", "--observed", bench)
	if code != exitUsage || !strings.Contains(complaints, "--hardware") {
		t.Errorf("rates without a machine: exit %d, %s", code, complaints)
	}
}
