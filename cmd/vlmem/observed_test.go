package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRatesMoveTheSpeed gives one run of llama-bench: what it measured comes back, marked observed.
func TestRatesMoveTheSpeed(t *testing.T) {
	bench := filepath.Join(t.TempDir(), "bench.json")
	text := `[{"model_filename":"m.gguf","model_type":"qwen3 4B Q4_K - Medium","model_size":2491000000,
		"model_n_params":4022468096,"n_gpu_layers":99,"n_ubatch":512,"n_prompt":0,"n_gen":128,
		"n_depth":0,"avg_ts":40.25,"backends":"CUDA"}]`
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

// TestSpeedOfTheEnginesOwnContext leaves --ctx out: the speed is that of the context that the memory was reckoned for.
func TestSpeedOfTheEnginesOwnContext(t *testing.T) {
	for _, name := range []string{"transformers", "vllm", "sglang", "ollama", "llama-server"} {
		out, complaints, code := runWith(t, nil, "estimate", "--engine", name, "--model", "qwen3-vl-2b",
			"--hardware", "i5-10210u+rtx-3090", "--format", "json")
		var e struct {
			ContextTokens int `json:"context_tokens"`
			Speed         struct {
				Prompt     int                      `json:"prompt_tokens"`
				Decode     struct{ Median float64 } `json:"decode_tokens_per_s"`
				DecodeFull struct{ Median float64 } `json:"decode_full_tokens_per_s"`
			} `json:"speed"`
		}
		if err := json.Unmarshal([]byte(out), &e); err != nil || code != 0 {
			t.Fatalf("%s: exit %d, %v, %s", name, code, err, complaints)
		}
		if s := e.Speed; s.Prompt != e.ContextTokens/2 || s.DecodeFull.Median >= s.Decode.Median {
			t.Errorf("%s: %d tokens of context, %+v", name, e.ContextTokens, s)
		}
	}
}
