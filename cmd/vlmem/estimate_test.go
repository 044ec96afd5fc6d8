package main

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEstimateTable(t *testing.T) {
	for name, args := range map[string][]string{
		"estimate_llama_cpu.txt": {"--model", "qwen3-vl-4b", "--quant", "q4_k_m", "--ctx", "16384", "--device", "cpu"},
		"estimate_llama_gpu.txt": {"--model", "qwen3-vl-8b", "--quant", "q4_0", "--hardware", "gtx-1080", "--kv-type",
			"q8_0", "--image", "1920x1080"},
		"estimate_torch_1080.txt": {"--model", "qwen3-vl-2b", "--engine", "transformers", "--hardware", "gtx-1080", "--image",
			"1280x720", "--ctx", "2048"},
	} {
		r := vlmem(t, nil, append([]string{"estimate"}, args...)...)
		if r.code != 0 {
			t.Fatalf("%v: exit %d: %s", args, r.code, r.stderr)
		}
		golden(t, name, r.stdout+r.stderr)
	}
}

// estimated is what scripts read.
type estimated struct {
	Weights, KVCache, Compute, Output, Vision, Total int64
}

func (e *estimated) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	for name, into := range map[string]*int64{
		"weights_bytes": &e.Weights, "kv_cache_bytes": &e.KVCache, "compute_bytes": &e.Compute,
		"output_bytes": &e.Output, "vision_bytes": &e.Vision, "total_bytes": &e.Total,
	} {
		if err := json.Unmarshal(fields[name], into); err != nil {
			return err
		}
	}
	return nil
}

func TestEstimateJSON(t *testing.T) {
	r := vlmem(t, nil, "estimate", "--model", "qwen3-vl-8b", "--device", "cpu", "--ctx", "16384", "--kv-type", "q8_0",
		"--image", "1472x1472", "--format", "json")
	var e estimated
	if err := json.Unmarshal([]byte(r.stdout), &e); err != nil || r.code != 0 {
		t.Fatalf("exit %d, %v: %s", r.code, err, r.stderr)
	}
	if e.KVCache != 1224<<20 || e.Vision != 390156544 || e.Output != 607744 {
		t.Errorf("got %+v", e)
	}
}

func TestEstimateRefuses(t *testing.T) {
	truncated := write(t, "cut.gguf", "GGUF\x03\x00\x00\x00")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--quant", "q9"}, 2, "unknown quantisation"},
		{[]string{"--ctx", "0", "--engine", "vllm", "--hardware", "h200"}, 2, "--ctx 0"},
		{[]string{"--image", "5"}, 2, "image"}, {[]string{"--image", "0x0"}, 2, "above zero"},
		{[]string{"--engine", "nope"}, 2, "unknown engine"},
		{[]string{"--model", truncated}, 2, "ends early"}, {[]string{"--model", "none.gguf"}, 2, "no such file"},
		{[]string{"--mmproj", truncated}, 2, "--mmproj"}, {[]string{"--device", "tpu"}, 2, "device"},
		{[]string{"--engine", "vllm", "--hardware", "gtx-1080"}, 3, "compute capability 6.1"},
		{[]string{"--engine", "sglang", "--device", "cpu"}, 3, "not modelled"},
	} {
		r := vlmem(t, nil, append([]string{"estimate"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.want) || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", c.args, r.code, r.stdout, r.stderr)
		}
	}
}

// A folder with config.json and safetensors is counted from the files.
func TestEstimateCheckpoint(t *testing.T) {
	folder := t.TempDir()
	config := `{"model_type": "qwen3_vl", "tie_word_embeddings": true,
 "text_config": {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
  "intermediate_size": 6144, "vocab_size": 151936, "max_position_embeddings": 262144},
 "vision_config": {"depth": 24, "hidden_size": 1024, "num_heads": 16, "intermediate_size": 4096, "in_channels": 3, "patch_size": 16,
  "temporal_patch_size": 2, "spatial_merge_size": 2, "num_position_embeddings": 2304, "out_hidden_size": 2048,
  "deepstack_visual_indexes": [5, 11, 17]}}`
	header := `{"a":{"dtype":"BF16","shape":[1000],"data_offsets":[0,2000]}}`
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	for name, data := range map[string][]byte{"config.json": []byte(config), "model-1.safetensors": file,
		"model-2.safetensors": file} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int64{folder: 4000, filepath.Join(folder, "model-1.safetensors"): 4000,
		filepath.Join(folder, "config.json"): 3441149952} {
		r := vlmem(t, nil, "estimate", "--engine", "transformers", "--model", path, "--format", "json")
		var e estimated
		if err := json.Unmarshal([]byte(r.stdout), &e); err != nil {
			t.Fatalf("%s: exit %d, %v: %s", path, r.code, err, r.stderr)
		}
		if said := strings.Contains(r.stderr, "elements"); said != (want == 4000) {
			t.Errorf("%s: %q", path, r.stderr) // two thousand numbers are no model of two thousand million
		}
		if e.Weights != want {
			t.Errorf("%s: %d bytes of weights, want %d", path, e.Weights, want)
		}
	}
}

// ggufOf is a GGUF header of numbers under an architecture and of tensors in f16.
func ggufOf(architecture string, numbers map[string]uint32, tensors map[string][]uint64) string {
	var b []byte
	text := func(s string) { b = append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...) }
	b = binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, uint64(len(tensors))), uint64(len(numbers)+1))
	text("general.architecture")
	b = binary.LittleEndian.AppendUint32(b, 8)
	text(architecture)
	for key, v := range numbers {
		text(key)
		b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, 4), v)
	}
	var at uint64
	for name, shape := range tensors {
		size := uint64(2)
		text(name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(shape)))
		for _, n := range shape {
			b = binary.LittleEndian.AppendUint64(b, n)
			size *= n
		}
		b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(b, 1), at)
		at += size
	}
	return string(b)
}

// A GGUF in parts is counted whole; a part that is missing, or is not the first, is said.
func TestEstimateGGUFInParts(t *testing.T) {
	keys := map[string]uint32{"llama.embedding_length": 64, "llama.block_count": 1, "llama.attention.head_count": 2,
		"llama.context_length":      4096,
		"llama.feed_forward_length": 128, "split.count": 2, "split.no": 0}
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := file("m-00001-of-00002.gguf", ggufOf("llama", keys, map[string][]uint64{"token_embd.weight": {64, 1000}}))
	args := []string{"estimate", "--model", first, "--device", "cpu", "--ctx", "256", "--format", "json"}
	if r := vlmem(t, nil, args...); r.code != exitUsage || !strings.Contains(r.stderr, "m-00002-of-00002.gguf") {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
	second := file("m-00002-of-00002.gguf", ggufOf("llama", map[string]uint32{"split.count": 2, "split.no": 1},
		map[string][]uint64{"blk.0.ffn_up.weight": {64, 128}, "output.weight": {64, 1000}}))
	var e estimated
	if r := vlmem(t, nil, args...); json.Unmarshal([]byte(r.stdout), &e) != nil || e.Weights != 2*64*(1000+128+1000) {
		t.Errorf("exit %d: %s, %+v", r.code, r.stderr, e)
	}
	if r := vlmem(t, nil, "estimate", "--model", second); r.code != exitUsage ||
		!strings.Contains(r.stderr, "part 2 of 2: name the first") {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
}

// A decoder without images is estimated from its config.json, and everything that needs images says that it has none.
func TestEstimateWithoutImages(t *testing.T) {
	config := `{"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
 "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256, "max_position_embeddings": 131072,
	"tie_word_embeddings": true}`
	path := write(t, "config.json", config)
	for _, engine := range []string{"llama.cpp", "llama-server", "ollama", "transformers", "vllm", "sglang"} {
		r := vlmem(t, nil, "estimate", "--model", path, "--engine", engine, "--hardware", "a100-80gb", "--ctx", "8192",
			"--format", "json")
		var e estimated
		if err := json.Unmarshal([]byte(r.stdout), &e); err != nil || r.code != 0 {
			t.Fatalf("%s: exit %d, %v: %s", engine, r.code, err, r.stderr)
		}
		if e.Vision != 0 || e.Weights == 0 || e.KVCache == 0 {
			t.Errorf("%s: %+v", engine, e)
		}
		if strings.HasPrefix(engine, "llama.cpp") && e.KVCache != 8192*16*2*8*64*2 {
			t.Errorf("%s: %d bytes of cache", engine, e.KVCache)
		}
	}
	for want, args := range map[string][]string{
		"has no images":                     {"estimate", "--model", path, "--image", "64x64"},
		"has no images ":                    {"estimate", "--model", path, "--mmproj", "none.gguf"},
		"a model without images, which est": {"advise", "--model", path, "--hardware", "i5-10210u"},
		`model_type "opt" is not known`: {"estimate", "--model",
			write(t, "config.json", strings.Replace(config, "llama", "opt", 1))},
	} {
		r := vlmem(t, nil, args...)
		if r.code != exitUsage || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 ||
			!strings.Contains(r.stderr, strings.TrimSpace(want)) {
			t.Errorf("%v: exit %d, %q, %q", args, r.code, r.stdout, r.stderr)
		}
	}
}
