package engine

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

var settingsRead = []struct {
	engine *Engine
	text   string
	want   []Stated
	left   []string // not reckoned, then not looked at, then unknown with ?
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
	{&vllm, "port: &x 5\nmax_model_len: *x\nkv_cache_memory_bytes: 9\n", []Stated{{"ctx", "5"}},
		[]string{"kv-cache-memory-bytes", "port"}, ""},
	// as the release's own parsers answered the same files
	{&vllm, "tp: 2\n", nil, nil, "f:1: vLLM 0.33.0 takes tp with one dash on the command line alone: write tensor-par"},
	{&vllm, "max-model-len: 1\npp: 2\n", nil, nil, "f:2: vLLM 0.33.0 takes pp with one dash"},
	{&vllm, "dp: 2\n", nil, nil, "f:1: vLLM 0.33.0 takes dp with one dash"},
	{&vllm, "ep: true\n", nil, nil,
		"f:1: vLLM 0.33.0 takes ep with one dash on the command line alone: write enable-expert"},
	{&vllm, "foo-bar: 1\n", nil, nil, "f:1: vLLM 0.33.0 has no foo-bar, and would not start"},
	{&vllm, "dtype: fp8\n", nil, nil, "f:1: dtype \"fp8\": vLLM 0.33.0 takes auto, half, float16"},
	{&vllm, "max-model: 8192\ntensor-parallel: 2\ngpu_memory_utilization: 0.5\ncompilation-config.mode: 0\n",
		[]Stated{{"ctx", "8192"}, {"tensor-parallel", "2"}, {"utilization", "0.5"}}, []string{"compilation-config"}, ""},
	{&vllm, "max-model-len: 8k\nmax-num-batched-tokens: 2K\nno-enforce-eager: true\n", []Stated{{"ctx", "8000"},
		{"batch", "2048"}, {"eager", "false"}}, nil, ""},
	{&vllm, "max-model-len: auto\n", nil, nil, "state the tokens that you need"},
	{&vllm, "vllm serve Qwen/x -tp 2 -pp 2 -dp 2 -ep --max-model-len 8k --api-key k\n", []Stated{{"model", "Qwen/x"},
		{"tensor-parallel", "2"}, {"pipeline-parallel", "2"}, {"data-parallel", "2"}, {"expert-parallel", "true"},
		{"ctx", "8000"}}, []string{"api-key"}, ""},
	{&vllm, "vllm serve Qwen/x --foo-bar 2\n", nil, nil, "f:1: vLLM 0.33.0 has no foo-bar"},
	{&vllm, "{\"max-model-len\": 4096, \"foo\": 1}\n", nil, nil, "f:1: vLLM 0.33.0 has no foo"},
	{&sglang, "tp: 2\ndp: 2\nep: 2\ncontext-length: 8k\nmem-fraction: 0.5\n", []Stated{{"tensor-parallel", "2"},
		{"data-parallel", "2"}, {"expert-cards", "2"}, {"ctx", "8000"}, {"utilization", "0.5"}}, nil, ""},
	{&sglang, "pp: 2\n", nil, nil, "f:1: SGLang 0.5.23 does not take pp, which may be pp-async-batch-depth"},
	{&sglang, "mem_fraction_static: 0.5\n", nil, nil, "f:1: SGLang 0.5.23 has no mem_fraction_static: with dashes"},
	{&sglang, "foo-bar: 1\n", nil, nil, "f:1: SGLang 0.5.23 has no foo-bar"},
	{&sglang, "cuda-graph-max-bs: 8\n", nil, nil, "which may be cuda-graph-max-bs-decode, cuda-graph-max-bs-prefill"},
	{&sglang, "disable-cuda-graph: true\n", nil, nil, "f:1: SGLang 0.5.23 takes disable-cuda-graph on the command line"},
	{&sglang, "python -m sglang.launch_server --model-path Qwen/x --tp 2 --disable-cuda-graph\n",
		[]Stated{{"model", "Qwen/x"}, {"tensor-parallel", "2"}, {"eager", "true"}}, nil, ""},
	{&ollama, "FROM a/qwen-Q8_0.gguf\nPARAMETER foo 1\nPARAMETER stop a\n", []Stated{{"quant", "q8_0"}},
		[]string{"stop", "foo?"}, ""},
	{&llamaServer, "-c 4096 --foo-bar 1\n", []Stated{{"ctx", "4096"}}, []string{"foo-bar?"}, ""},
	{&onnxGenAI, "{\"search\": {\"past_present_share_buffer\": true}, \"model\": {\"decoder\": {}}}", nil,
		[]string{"model.decoder", "search.past-present-share-buffer"}, ""},
	{&openVINO, "{\"pipeline\": {\"PERFORMANCE_HINT\": \"LATENCY\", \"FOO_BAR\": 1}}", nil,
		[]string{"pipeline.PERFORMANCE-HINT", "pipeline.FOO-BAR?"}, ""},
	{&transformers, "{\"from_pretrained\": {\"foo\": 1}}", nil, []string{"from-pretrained.foo?"}, ""},
	{&vllm, "- a\n", nil, nil, "want lines of --name and value, or YAML"},
	{&llamaServer, "--ctx-size 1\nctx\n", nil, nil, `f:2: want a line of --name and value, found "ctx"`},
	{&llamaServer, "--model m.gguf\n", nil, nil, "does not end with the type of its weights"},
	{&pytorch, "", nil, nil, "settings of pytorch are not read; of llama.cpp, llama-server, ollama"},
	{&transformers, "{\"from_pretrained\": {\"pretrained_model_name_or_path\": \"Qwen/x\", \"dtype\": \"float16\", " +
		"\"attn_implementation\": \"eager\", \"device_map\": \"cpu\"}, \"image_processor\": {\"size\": " +
		"{\"longest_edge\": 901120}}, \"generate\": {\"max_cache_len\": 4096}}",
		[]Stated{{"flash-attention", "off"}, {"device", "cpu"}, {"quant", "float16"}, {"model", "Qwen/x"}, {"ctx", "4096"},
			{"image", "1280x704"}}, nil, ""},
	{&transformers, "{\"from_pretrained\": {\"device_map\": {\"model.visual\": 0, \"lm_head\": \"cpu\"}}}", nil,
		[]string{"device_map of modules"}, ""},
	{&sglang, "model-path: \"Qwen/x\"\ncontext-length: 4096\nmem-fraction-static: 0.8\nmm-process-config: " +
		"{\"image\": {\"size\": {\"longest_edge\": 1048576}}}\n", []Stated{{"model", "Qwen/x"}, {"ctx", "4096"},
		{"utilization", "0.8"}, {"image", "1024x1024"}}, nil, ""},
	{&openVINO, "{\"pipeline\": {\"models_path\": \"a/qwen3-vl-2b-int8-ov\", \"KV_CACHE_PRECISION\": \"u4\"}}",
		[]Stated{{"kv-type", "u4"}, {"model", "qwen3-vl-2b"}, {"quant", "int8"}}, nil, ""},
	{&onnxGenAI, "{\"search\": {\"max_length\": 2048}}", []Stated{{"ctx", "2048"}}, nil, ""},
	{&ollama, "# a note\nFROM ./Qwen3VL-2B-Q4_K_M.gguf\nFROM ./mmproj-F16.gguf\nTEMPLATE \"\"\"a\nFROM b\n\"\"\"\n" +
		"PARAMETER num_ctx 4096\nparameter num_gpu 12\nADAPTER a.gguf\nSYSTEM be short\n", []Stated{{"quant", "q4_k_m"},
		{"mmproj-quant", "f16"}, {"ctx", "4096"}, {"ngl", "12"}}, []string{"adapter"}, ""},
	{&ollama, "FROM qwen3-vl:4b-instruct-q8_0\n", []Stated{{"model", "qwen3-vl-4b"}, {"quant", "q8_0"}}, nil, ""},
	{&ollama, "FROM a/b.gguf\nPARAMETER num_ctx\n", nil, nil, "f:2: PARAMETER num_ctx is without its value"},
	{&ollama, "FROM a\nSET x\n", nil, nil, `f:2: want an instruction such as FROM or PARAMETER, found "SET x"`},
	{&ollama, "# a\nOLLAMA_CONTEXT_LENGTH=8192\nOLLAMA_KV_CACHE_TYPE=q8_0\nexport OLLAMA_FLASH_ATTENTION=1\n" +
		"OLLAMA_NUM_PARALLEL=0\n", []Stated{{"ctx", "8192"}, {"kv-type", "q8_0"}, {"flash-attention", "on"}}, nil, ""},
	{&llamaServer, "-m m-Q8_0.gguf -c 4096 -fa on\n-ctk q8_0 -ctv q4_0 -np 2 \\\n  -ngl 99 -b 1024 -ub 256\n" +
		"-ot 'blk\\.[0-3]\\.=CPU' --port 80 -kvu --warmup -dev none -nkvo",
		[]Stated{{"quant", "q8_0"}, {"ctx", "4096"}, {"flash-attention", "on"}, {"kv-type", "q8_0,q4_0"}, {"parallel", "2"},
			{"ngl", "99"}, {"batch", "1024"}, {"ubatch", "256"}, {"override-tensor", `blk\.[0-3]\.=CPU`},
			{"kv-unified", "true"}, {"no-warmup", "false"}, {"backend", "cpu"}, {"no-kv-offload", "true"}},
		[]string{"port"}, ""},
	{&llamaServer, "llama-server \\\n  -m m-Q8_0.gguf \\\n  -c 4096\n", []Stated{{"quant", "q8_0"}, {"ctx", "4096"}}, nil,
		""},
	{&llamaServer, "exec ./build/bin/llama-server --model=m-Q8_0.gguf --mlock --no-mmap\n", []Stated{{"quant", "q8_0"},
		{"load-mode", "mlock"}}, nil, ""},
	{&llamaServer, "LLAMA_ARG_CTX_SIZE=4096\nLLAMA_ARG_N_PARALLEL=2\nLLAMA_ARG_KV_OFFLOAD=false\n",
		[]Stated{{"ctx", "4096"}, {"parallel", "2"}, {"no-kv-offload", "true"}}, nil, ""},
	{&llamaServer, "[*]\nc = 4096\nkv-unified = on\n[a]\nngl = all\n", []Stated{{"ctx", "4096"}, {"kv-unified", "true"},
		{"ngl", "-1"}}, nil, ""},
	{&llamaServer, "[a]\nc = 1\n[b]\nc = 2\n", nil, nil, "the settings of 2 models, [a], [b]: keep one"},
	{&llamaServer, "-ctk Q8_0\n", nil, nil, "want one of f32, f16"},
	{&llamaServer, "-c\n", nil, nil, "f:1: -c is without"},
	{&llamaServer, "-m 'a\n", nil, nil, "f:1: the quote ' is not closed"},
	{&llamaServer, "[a]\nkv-unified = perhaps\n", nil, nil, "want true or false"},
}

func TestReadSettings(t *testing.T) {
	for _, c := range settingsRead {
		r, err := c.engine.ReadSettings("f", []byte(c.text))
		got, left := r.Stated, append(r.Unreckoned, r.Left...)
		for _, name := range r.Unknown {
			left = append(left, name+"?")
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v, want %q", c.text, err, c.err)
		}
		if err == nil && (!reflect.DeepEqual(got, c.want) || !reflect.DeepEqual(left, c.left)) {
			t.Errorf("%q: %v and %v, want %v and %v", c.text, got, left, c.want, c.left)
		}
	}
}

// A file as PowerShell writes it, slots that are left to the server, the first of several cards, and whether images are
// read: what llama-server makes of each.
func TestArgumentsAsLlamaServerTakesThem(t *testing.T) {
	e, err := Lookup("engine", "llama-server", (*Engine).Estimates)
	if err != nil {
		t.Fatal(err)
	}
	utf16 := []byte{0xff, 0xfe}
	for _, r := range "-c 8192 --parallel 2\r\n" {
		utf16 = append(utf16, byte(r), 0)
	}
	for _, c := range []struct {
		text   string
		stated []Stated
		left   int
		tower  bool
	}{
		{string(utf16), []Stated{{"ctx", "8192"}, {"parallel", "2"}}, 0, false},
		{"-np -1\n-mm tower-f16.gguf", []Stated{{"mmproj-quant", "f16"}}, 0, true},
		{"--device CUDA1\n-mg 1\n--lora a.gguf\n-fitt 512\n-fitc 8192", []Stated{{"device", "CUDA1"}, {"main-gpu", "1"}}, 3,
			false},
		{"-dev CUDA1,CUDA0", []Stated{{"device", "CUDA1,CUDA0"}}, 0, false},
		{"-dev RPC0 --mmproj-device none", []Stated{{"no-mmproj-offload", "true"}}, 1, false},
	} {
		r, err := e.ReadSettings("llama-server.args", []byte(c.text))
		if err != nil || !slices.Equal(r.Stated, c.stated) || len(r.Unreckoned) != c.left || r.Tower != c.tower {
			t.Errorf("%q: %+v, %v; want %+v and %d not reckoned", c.text, r, err, c.stated, c.left)
		}
	}
}
