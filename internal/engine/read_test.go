package engine

import (
	"reflect"
	"strings"
	"testing"
)

func TestReadSettings(t *testing.T) {
	for _, c := range []struct {
		engine *Engine
		text   string
		want   []Stated
		left   []string // not reckoned, then not looked at
		err    string
	}{
		{&llamaServer, "# a note\n--model Qwen3VL-4B-Instruct-Q8_0.gguf\n--mmproj mmproj-Qwen3VL-4B-Instruct-F16.gguf\n" +
			"--ctx-size 4096\n\n--n-gpu-layers all\n--cache-type-k q8_0\n--cache-type-v f16\n--no-warmup\n--fit off\n",
			[]Stated{{"quant", "q8_0"}, {"mmproj-quant", "f16"}, {"ctx", "4096"}, {"ngl", "-1"}, {"kv-type", "q8_0,f16"},
				{"no-warmup", "true"}}, []string{"fit"}, ""},
		{&llamaServer, "--model m-UD-Q4_K_XL.gguf\n--n-gpu-layers 17\n--override-tensor \"exps=CPU\"\n",
			[]Stated{{"quant", "ud-q4_k_xl"}, {"ngl", "17"}, {"override-tensor", "exps=CPU"}}, nil, ""},
		{&llamaServer, "# written by vlmem for llama.cpp b11549\n# a note\n--override-tensor 'blk\\.(0|1)\\.ffn_=CPU'\n",
			[]Stated{{"override-tensor", `blk\.(0|1)\.ffn_=CPU`}, {"build", "b11549"}}, nil, ""},
		{&llamaServer, "; written by vlmem for llama.cpp v0.5.0\nversion = 1\n[m]\nctx-size = 1\n",
			[]Stated{{"ctx", "1"}, {"build", "v0.5.0"}}, []string{"version"}, ""},
		{&vllm, "# written by vlmem for vLLM 0.25.1\nmax-model-len: 1\n", []Stated{{"ctx", "1"}}, nil, ""},
		{&vllm, "model: Qwen/Qwen3-VL-8B-Instruct\ndtype: bfloat16\nquantization: fp8\nmax-model-len: 4096\n" +
			"enforce-eager: true\nkv-cache-dtype: auto\nport: 8000\nlimit-mm-per-prompt: {\"image\": {\"width\": 1280, " +
			"\"height\": 720}}\n",
			[]Stated{{"model", "Qwen/Qwen3-VL-8B-Instruct"}, {"quant", "fp8"}, {"ctx", "4096"}, {"eager", "true"},
				{"image", "1280x720"}}, []string{"port"}, ""},
		{&vllm, "limit-mm-per-prompt: {image: 0}\n", []Stated{{"image", "none"}}, nil, ""},
		{&vllm, "limit-mm-per-prompt: {image: 4, video: 0}\n", nil, nil, ""},
		{&llamaServer,
			"--ctx_size\t4096\n--gpu-layers=0\n--no-mmproj\n--hf-repo Qwen/Qwen3-VL-8B-Instruct-GGUF:Q8_0\n--lora a\n",
			[]Stated{{"ctx", "4096"}, {"ngl", "0"}, {"image", "none"}, {"model", "Qwen/Qwen3-VL-8B-Instruct-GGUF"},
				{"quant", "q8_0"}},
			[]string{"lora"}, ""},
		{&llamaServer, "; a note: one\nversion = 1\n\n[m]\nctx-size = 8192\n", []Stated{{"ctx", "8192"}}, []string{"version"},
			""},
		{&llamaServer, "[m]\nmodel = m-Q4_K_M.gguf\nctx-size = 8192\n", []Stated{{"quant", "q4_k_m"}, {"ctx", "8192"}}, nil,
			""},
		{&vllm, "a: &x 5\nmax_model_len: *x\nkv_cache_memory_bytes: 9\n", []Stated{{"ctx", "5"}},
			[]string{"kv-cache-memory-bytes", "a"}, ""},
		{&vllm, "- a\n", nil, nil, "want lines of --name and value, or YAML"},
		{&llamaServer, "--ctx-size 1\nctx\n", nil, nil, `f:2: want a line of --name and value, found "ctx"`},
		{&llamaServer, "--model m.gguf\n", nil, nil, "does not end with the type of its weights"},
		{&transformers, "", nil, nil, "settings of transformers are not read; of llama.cpp, llama-server, vllm they are"},
	} {
		r, err := c.engine.ReadSettings("f", []byte(c.text))
		got, left := r.Stated, append(r.Unreckoned, r.Left...)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v, want %q", c.text, err, c.err)
		}
		if err == nil && (!reflect.DeepEqual(got, c.want) || !reflect.DeepEqual(left, c.left)) {
			t.Errorf("%q: %v and %v, want %v and %v", c.text, got, left, c.want, c.left)
		}
	}
}
