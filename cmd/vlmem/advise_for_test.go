package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
