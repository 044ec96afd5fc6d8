package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/rivals/libc"
)

func TestEnginesFiles(t *testing.T) {
	for _, target := range []string{"llama-server", "ollama", "transformers"} {
		args := []string{"advise", "--for", target, "--hardware", "i5-10210u+gtx-1080", "--model", "qwen3-vl-4b"}
		got := vlmem(t, nil, args...)
		if got.code != 0 {
			t.Fatalf("%s: exit %d: %s", target, got.code, got.stderr)
		}
		golden(t, "advise_for_"+target+".txt", got.stdout)
		folder := t.TempDir()
		if got := vlmem(t, nil, append(args, "-o", folder)...); got.code != 0 || got.stdout != "" {
			t.Fatalf("%s: exit %d, stdout %q: %s", target, got.code, got.stdout, got.stderr)
		}
		if files, err := os.ReadDir(folder); err != nil || len(files) != 2 {
			t.Errorf("%s: %v, %v; want two files", target, files, err)
		}
	}
}

func TestEnginesRefuseWithTheAlternative(t *testing.T) {
	for _, target := range []string{"vllm", "sglang"} {
		got := vlmem(t, nil, "advise", "--for", target, "--hardware", "i5-10210u+gtx-1080", "--model", "qwen3-vl-4b")
		for _, want := range []string{"compute capability 6.1", "needs 7.5", "with llama-server qwen3-vl-4b (q8_0)"} {
			if got.code != exitUnable || got.stdout != "" || !strings.Contains(got.stderr, want) {
				t.Errorf("%s: exit %d, stdout %q, %q without %q", target, got.code, got.stdout, got.stderr, want)
			}
		}
	}
}

func TestEnginesWrongUsage(t *testing.T) {
	for want, args := range map[string][]string{
		`unknown --for "tgi"`:            {"--for", "tgi"},
		"it goes with --for pytorch":     {"--trace", "x.pickle"},
		`unknown --grow "speed"`:         {"--grow", "speed"},
		"opening trace none.pickle":      {"--for", "pytorch", "--trace", "none.pickle"},
		"leave --hardware out":           {"--for", "malloc"},
		`unknown --format "table"`:       {"--for", "ollama", "--format", "table"},
		"no such folder":                 {"--for", "ollama", "-o", "/proc/nope/"},
		`unknown quantisation "q99"`:     {"--for", "ollama", "--precision", "q99"},
		`unknown data type "q4_k_m" for`: {"--for", "transformers", "--precision", "q4_k_m"},
	} {
		got := vlmem(t, nil, append([]string{"advise", "--hardware", "i5-10210u"}, args...)...)
		if strings.Contains(want, "hardware out") && !libc.Available {
			continue
		}
		if got.code != exitUsage || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: exit %d, stdout %q, stderr %q; want %q", args, got.code, got.stdout, got.stderr, want)
		}
	}
}

// TestAdviseForPyTorchFromATrace tunes a small trace of the project's own format.
func TestEnginesPyTorchFromATrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.vlmt")
	if got := vlmem(t, nil, "trace", "gen", "--model", "qwen3-vl-2b", "--image", "320x240", "--decode", "4", "-o", path); got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	got := vlmem(t, nil, "advise", "--for", "pytorch", "--trace", path, "--hardware", "i5-10210u+gtx-1080", "--format", "json")
	var b bundle
	if err := json.Unmarshal([]byte(got.stdout), &b); got.code != 0 || err != nil {
		t.Fatalf("exit %d, %v: %s", got.code, err, got.stderr)
	}
	if b.Torch.Best.Reserved > b.Torch.Default.Reserved || !strings.Contains(b.Files[0].Content, "PYTORCH_ALLOC_CONF="+b.Torch.Best.Conf) {
		t.Errorf("%+v in\n%s", b.Torch.Best, b.Files[0].Content)
	}
}

// TestEnginesVLLM gives a card that vLLM takes; what is written is YAML with the settings that were solved for.
func TestEnginesVLLM(t *testing.T) {
	card := vlmem(t, nil, "profiles", "quadro-p6000", "--format", "yaml")
	if card.code != 0 || !strings.Contains(card.stdout, "6.1") {
		t.Fatalf("exit %d: %s", card.code, card.stderr)
	}
	path := write(t, "card.yaml", strings.Replace(card.stdout, "6.1", "8.6", 1))
	for target, want := range map[string]map[string]any{
		"vllm":   {"max-model-len": 4096, "max-num-seqs": 1, "dtype": "bfloat16", "gpu-memory-utilization": 0.92},
		"sglang": {"context-length": 4096, "max-running-requests": 1, "dtype": "bfloat16", "max-total-tokens": 4096},
	} {
		got := vlmem(t, nil, "advise", "--for", target, "--hardware", "i5-10210u+"+path, "--model", "qwen3-vl-4b")
		var settings map[string]any
		if err := yaml.Load([]byte(got.stdout), &settings); got.code != 0 || err != nil {
			t.Fatalf("%s: exit %d, %v: %s", target, got.code, err, got.stderr)
		}
		for key, value := range want {
			if settings[key] != value {
				t.Errorf("%s: %s is %v, want %v", target, key, settings[key], value)
			}
		}
	}
}

// TestEnginesMalloc runs a small image through every heap that is installed.
func TestEnginesMalloc(t *testing.T) {
	if !libc.Available || testing.Short() {
		t.Skip("it runs every heap that is installed, and needs cgo")
	}
	got := vlmem(t, nil, "advise", "--for", "malloc", "--model", "qwen3-vl-2b", "--image", "64x64", "--context", "128", "--format", "json")
	var b bundle
	if err := json.Unmarshal([]byte(got.stdout), &b); got.code != 0 || err != nil {
		t.Fatalf("exit %d, %v: %s", got.code, err, got.stderr)
	}
	if len(b.Malloc.Tried) < 4 || b.Malloc.Default.Name != "glibc" {
		t.Fatalf("tried %+v", b.Malloc.Tried)
	}
	for _, trial := range b.Malloc.Tried {
		if trial.NsPerOp <= 0 || trial.PeakRSS < b.Malloc.LowerBound {
			t.Errorf("%s: %.0f ns, %s resident for %s", trial.Name, trial.NsPerOp, trial.PeakRSS, b.Malloc.LowerBound)
		}
	}
	for _, variable := range b.Malloc.Best.Env {
		if !strings.Contains(b.Files[0].Content, "\n"+variable+"\n") {
			t.Errorf("no %s in\n%s", variable, b.Files[0].Content)
		}
	}
}
