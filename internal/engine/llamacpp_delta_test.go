package engine

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

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
