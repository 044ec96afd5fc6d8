package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A model whose requests are not replayed gets files all the same where the engine's own estimate is all that they rest
// on; where something is replayed it is refused.
func TestEnginesOfModelsThatAreNotReplayed(t *testing.T) {
	gemma := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(gemma, []byte(`{"model_type": "gemma3"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--for", "vllm", "--hardware", "rtx-3090", "--model", "qwen2.5-vl-7b"}, 0, "Qwen/Qwen2.5-VL-7B-Instruct"},
		{[]string{"--for", "sglang", "--hardware", "rtx-4090", "--model", "qwen3.5-9b"}, 0, "Qwen/Qwen3.5-9B"},
		{[]string{"--for", "pytorch", "--hardware", "i5-10210u", "--model", gemma}, exitUsage, "not replayed"},
	} {
		got := vlmem(t, nil, append([]string{"advise"}, c.args...)...)
		if got.code != c.code || !strings.Contains(got.stdout+got.stderr, c.want) {
			t.Errorf("%v: exit %d: %s", c.args, got.code, got.stderr)
		}
	}
}
