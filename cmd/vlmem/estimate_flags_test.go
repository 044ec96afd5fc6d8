package main

import (
	"strings"
	"testing"
)

// A type of cache that no engine has is refused.
func TestNoSuchCache(t *testing.T) {
	r := vlmem(t, nil, "estimate", "--model", "qwen3-vl-2b", "--engine", "transformers", "--kv-type", "bogus")
	if r.code != exitUsage || !strings.Contains(r.stderr, "--kv-type bogus") {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
}

// A value that llama.cpp does not take, or that means nothing, ends with one line that says what is wanted.
func TestBadValuesOfLlamaFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--kv-type ,", "f32, f16"}, {"--kv-type q8_0,", "K,V"}, {"--kv-type ,q8_0", "K,V"}, {"--kv-type f16,f16,f16", "K,V"},
		{"--kv-type=", "without a value"}, {"--backend=", "without a value"}, {"--spec-type ,", "without a value"},
		{"--build b0", "bNNNN"}, {"--build b99", "GGUF"}, {"--build b12345678", "bNNNN"}, {"--build B11549", "bNNNN"},
		{"--cache-ram -7", "-1 for no limit"}, {"--cache-ram 99999999999", "-1 for no limit"},
		{"--cache-ram abc", `--cache-ram "abc": want a whole number`},
		{"--ngl 99999999999999999999", "a smaller whole number"},
		{"--kv-unified=maybe", "true or false"}, {"--backend metal --cards 2", "card alone"},
		{"--backend metal --tensor-split 1,1", "card alone"}, {"--backend CUDA", "want cuda"},
		{"--backend cpu --ngl 3", "cpu"},
		{"--split-mode LAYER", "want layer"}, {"--tensor-split ,", "of the first card"}, {"--tensor-split 1,x", "no number"},
		{"--tensor-split 1e40,1", "no number"}, {"--tensor-split 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "fewer than 16"},
		{"--n-cpu-ffn -1", "--n-cpu-ffn -1: want 0"}, {"--ngl -2", "-1 for all"}, {"--image-max-tokens 0", "at least 1"},
		{"--load-mode MMAP", "want auto"}, {"--load-mode mmap --mlock", "give one"}, {"--override-tensor a=cpu", "want CPU"},
		{"--override-tensor a=CUDA_Host", "want CPU"}, {"--override-tensor a=b=CPU", "unknown buffer"},
		{"--override-tensor a=CPU,", "PATTERN=CPU"}, {"--override-tensor [=CPU", "missing"},
		{"--override-tensor a=Vulkan0", "where the backend is cuda"}, {"--override-tensor a=CUDA1", "card 1 of 1"},
		{"--model-draft qwen3-vl-2b --kv-type-draft q8_0,", "K,V"},
		{"--model-draft qwen3-vl-2b --spec-draft-n-max -1", "want 0"},
		{"--swa-full", "sees a window"}, {"--image none --no-mmproj-offload", "--image none"},
		{"--ngl-draft 2 --model-draft qwen3-vl-2b --device cpu", "without a card"},
	} {
		r := vlmem(t, nil, append([]string{"estimate", "--engine", "llama-server", "--model", "qwen3-vl-4b"},
			strings.Fields(c.args)...)...)
		if r.code != exitUsage || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, c.want) ||
			strings.Contains(r.stderr, "strconv") {
			t.Errorf("%s: exit %d, %q; want %q", c.args, r.code, r.stderr, c.want)
		}
	}
	for _, args := range []string{"--batch 0", "--images 0", "--frames 0", "--batch -1"} {
		r := vlmem(t, nil, append([]string{"trace", "gen", "--model", "qwen3-vl-2b"}, strings.Fields(args)...)...)
		if r.code != exitUsage || !strings.Contains(r.stderr, "want at least 1") {
			t.Errorf("trace gen %s: exit %d, %q", args, r.code, r.stderr)
		}
	}
}

// What lies on a card is asked for of a card: one is taken where none is named, and a processor alone refuses.
func TestCardFlagsNeedACard(t *testing.T) {
	base := []string{"estimate", "--model", "qwen3-vl-2b", "--engine", "llama-server"}
	r := vlmem(t, nil, append(base, "--ngl", "9")...)
	if r.code != 0 || !strings.Contains(r.stdout, "on the device") {
		t.Errorf("no hardware: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	for _, args := range [][]string{{"--device", "cpu", "--ngl", "9"}, {"--hardware", "i5-10210u", "--cards", "2"},
		{"--device", "cpu", "--backend", "vulkan"}, {"--device", "cpu", "--no-kv-offload"}} {
		if r := vlmem(t, nil, append(base, args...)...); r.code != exitUsage ||
			!strings.Contains(r.stderr, "without a card") {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
	}
	if r := vlmem(t, nil, append(base, "--device", "cpu", "--ngl", "0")...); r.code != 0 {
		t.Errorf("no layers on no card: exit %d, %s", r.code, r.stderr)
	}
	r = vlmem(t, nil, "estimate", "--model", "qwen3-vl-2b", "--engine", "openvino", "--device", "gpu")
	if r.code != exitUsage || !strings.Contains(r.stderr, "--device gpu") {
		t.Errorf("openvino: exit %d, %s", r.code, r.stderr)
	}
}

// A zero that was given is not what is left out.
func TestCountsOfNothingAreRefused(t *testing.T) {
	for flag, engine := range map[string]string{"--cards 0": "llama-server", "--ngl -7": "llama-server",
		"--parallel 0": "vllm",
		"--ubatch 0":   "llama.cpp", "--batch -1": "vllm", "--utilization 0": "sglang", "--tensor-parallel 0": "vllm",
		"--frames 0": "transformers"} {
		args := append([]string{"estimate", "--model", "qwen3-vl-2b", "--engine", engine}, strings.Fields(flag)...)
		r := vlmem(t, nil, args...)
		if r.code != exitUsage || !strings.HasPrefix(r.stderr, "vlmem: "+flag+": want ") ||
			strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %s", flag, r.code, r.stderr)
		}
	}
}

// 32 GiB fit two cards of 24, and not where one of them gets nine tenths.
func TestEveryCardIsHeldAgainstItsOwnMemory(t *testing.T) {
	base := []string{"estimate", "--model", "qwen3-vl-30b-a3b", "--engine", "llama.cpp", "--quant", "q8_0", "--hardware",
		"i5-10210u+rtx-3090+rtx-3090"}
	r := vlmem(t, nil, base...)
	if r.code != 0 || r.stderr != "" || strings.Count(r.stdout, "CUDA context") != 2 ||
		!strings.Contains(r.stdout, "SPEED") {
		t.Errorf("even: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	r = vlmem(t, nil, append(base, "--tensor-split", "9,1")...)
	if r.code != 0 || !strings.Contains(r.stderr, "more on device0") {
		t.Errorf("9,1: exit %d, %s", r.code, r.stderr)
	}
}
