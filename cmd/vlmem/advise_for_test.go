package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/rivals/libc"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
)

func TestEnginesFiles(t *testing.T) {
	for target, c := range map[string]struct {
		card  string
		files int
	}{
		"llama-server": {"gtx-1080", 2}, "ollama": {"gtx-1080", 2}, "transformers": {"gtx-1080", 2}, "vllm": {"rtx-3090", 1},
		"sglang": {"rtx-3090", 1},
	} {
		args := []string{"advise", "--for", target, "--hardware", "i5-10210u+" + c.card, "--model", "qwen3-vl-4b"}
		got := vlmem(t, nil, args...)
		if got.code != 0 {
			t.Fatalf("%s: exit %d: %s", target, got.code, got.stderr)
		}
		golden(t, "advise_for_"+target+".txt", got.stdout)
		folder := t.TempDir()
		if got := vlmem(t, nil, append(args, "-o", folder)...); got.code != 0 || got.stdout != "" {
			t.Fatalf("%s: exit %d, stdout %q: %s", target, got.code, got.stdout, got.stderr)
		}
		if files, err := os.ReadDir(folder); err != nil || len(files) != c.files {
			t.Errorf("%s: %v, %v; want %d files", target, files, err, c.files)
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
		if got.code != exitUsage || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 ||
			!strings.Contains(got.stderr, want) {
			t.Errorf("%v: exit %d, stdout %q, stderr %q; want %q", args, got.code, got.stdout, got.stderr, want)
		}
	}
}

// TestAdviseForPyTorchFromATrace tunes a small trace of the project's own format.
func TestEnginesPyTorchFromATrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.vlmt")
	if got := vlmem(t, nil, "trace", "gen", "--model", "qwen3-vl-2b", "--image", "320x240", "--decode", "4", "-o",
		path); got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	got := vlmem(t, nil, "advise", "--for", "pytorch", "--trace", path, "--hardware", "i5-10210u+gtx-1080", "--format",
		"json")
	var b advise.Bundle
	if err := json.Unmarshal([]byte(got.stdout), &b); got.code != 0 || err != nil {
		t.Fatalf("exit %d, %v: %s", got.code, err, got.stderr)
	}
	if b.Torch.Best.Reserved > b.Torch.Default.Reserved || !strings.Contains(b.Files[0].Content,
		"PYTORCH_ALLOC_CONF="+b.Torch.Best.Conf) {
		t.Errorf("%+v in\n%s", b.Torch.Best, b.Files[0].Content)
	}
}

// taken is the names that one version of an engine takes, which internal/engine is held to as well.
func taken(t *testing.T, engine string) []string {
	t.Helper()
	lists, err := filepath.Glob(filepath.Join("..", "..", "internal", "engine", "flags", engine+"-*.txt"))
	if err != nil || len(lists) != 1 {
		t.Fatalf("%s: %v, %v; want one list", engine, lists, err)
	}
	var names []string
	for line := range strings.Lines(strings.TrimSpace(read(t, lists[0]))) {
		names = append(names, strings.Fields(line)[0])
	}
	return names
}

// TestEnginesOnBuiltInCards writes for every engine on cards of four generations what its reader takes, with what the
// card needs.
func TestEnginesOnBuiltInCards(t *testing.T) {
	for _, c := range []struct {
		target, card, model string
		want                map[string]any
	}{
		{"vllm", "rtx-3090", "qwen3-vl-4b", map[string]any{"dtype": "bfloat16", "max-model-len": 4096, "max-num-seqs": 1,
			"gpu-memory-utilization": 0.92}},
		{"vllm", "t4", "qwen3-vl-2b", map[string]any{"dtype": "float16", "max-model-len": 4096}},
		{"vllm", "h200", "qwen3-vl-32b", map[string]any{"dtype": "bfloat16", "model": "Qwen/Qwen3-VL-32B-Instruct"}},
		{"sglang", "a100-80gb", "qwen3-vl-8b", map[string]any{"dtype": "bfloat16", "context-length": 4096,
			"max-running-requests": 1}},
		{"sglang", "t4", "qwen3-vl-2b", map[string]any{"dtype": "float16"}},
		{"transformers", "rtx-3090", "qwen3-vl-4b", map[string]any{"dtype": "bfloat16", "attn_implementation": "sdpa",
			"cache_implementation": "static"}},
		{"llama-server", "rtx-3090", "qwen3-vl-8b", map[string]any{"n-gpu-layers": "all", "flash-attn": "on",
			"ctx-size": "4096", "fit": "off"}},
		{"ollama", "t4", "qwen3-vl-4b", map[string]any{"num_ctx": "4096"}},
		{"pytorch", "a100-80gb", "qwen3-vl-2b", nil},
	} {
		folder := t.TempDir()
		got := vlmem(t, nil, "advise", "--for", c.target, "--hardware", "i5-10210u+"+c.card, "--model", c.model, "-o", folder)
		if got.code != 0 || got.stdout != "" {
			t.Fatalf("%s on %s: exit %d, %q: %s", c.target, c.card, got.code, got.stdout, got.stderr)
		}
		found := map[string]any{}
		for _, f := range []func(*testing.T, string) map[string]any{settingsOfYAML, settingsOfJSON, settingsOfINI,
			settingsOfModelfile, settingsOfEnv} {
			maps.Copy(found, f(t, folder))
		}
		for key, value := range c.want {
			if found[key] != value {
				t.Errorf("%s on %s: %s is %v, want %v", c.target, c.card, key, found[key], value)
			}
		}
		if c.target == "pytorch" {
			if conf, _ := found["PYTORCH_ALLOC_CONF"].(string); conf == "" {
				t.Errorf("no PYTORCH_ALLOC_CONF among %v", found)
			} else if _, err := pytorch.ParseConf(conf); err != nil {
				t.Error(err)
			}
			continue
		}
		names := taken(t, c.target)
		for key := range found {
			if !slices.Contains(names, key) {
				t.Errorf("%s on %s: %q is no name of the stated version", c.target, c.card, key)
			}
		}
		if len(found) < 5 {
			t.Errorf("%s on %s: only %v", c.target, c.card, found)
		}
	}
}

// fileIn reads the file of a folder with one of the names, "" where there is none.
func fileIn(t *testing.T, folder string, names ...string) string {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			return read(t, filepath.Join(folder, name))
		}
	}
	return ""
}

// settingsOfYAML reads what vLLM and SGLang do: a flat mapping, whose nested values become JSON.
func settingsOfYAML(t *testing.T, folder string) map[string]any {
	text := fileIn(t, folder, "vllm.yaml", "sglang.yaml")
	if text == "" {
		return nil
	}
	var settings map[string]any
	if err := yaml.Load([]byte(text), &settings); err != nil {
		t.Error(err)
	}
	for key, value := range settings {
		if _, err := json.Marshal(value); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	return settings
}

// settingsOfJSON joins the sections of transformers.json.
func settingsOfJSON(t *testing.T, folder string) map[string]any {
	text, all := fileIn(t, folder, "transformers.json"), map[string]any{}
	if text == "" {
		return nil
	}
	var sections map[string]map[string]any
	if err := json.Unmarshal([]byte(text), &sections); err != nil {
		t.Error(err)
	}
	for _, section := range sections {
		maps.Copy(all, section)
	}
	return all
}

// settingsOfINI reads a preset by the grammar of llama.cpp's common/preset.cpp: a value ends at # or ;.
func settingsOfINI(t *testing.T, folder string) map[string]any {
	return settingsOfLines(t, fileIn(t, folder, "llama-server.ini"),
		regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_.-]*)[ \t]*=[ \t]*([^#;]*)$`),
		regexp.MustCompile(`^(;.*|\[[^\]]+\]|version = 1|)$`))
}

// settingsOfModelfile reads PARAMETER lines by the grammar of ollama's parser.
func settingsOfModelfile(t *testing.T, folder string) map[string]any {
	return settingsOfLines(t, fileIn(t, folder, "Modelfile"), regexp.MustCompile(`^PARAMETER ([a-z_]+) (\S+)$`),
		regexp.MustCompile(`^(#.*|FROM \S.*)$`))
}

// settingsOfEnv reads assignments as a shell and systemd do, without quotes.
func settingsOfEnv(t *testing.T, folder string) map[string]any {
	return settingsOfLines(t, fileIn(t, folder, "pytorch.env", "ollama.env"),
		regexp.MustCompile(`^([A-Z_]+)='?([^']*)'?$`), regexp.MustCompile(`^#.*$`))
}

func settingsOfLines(t *testing.T, text string, setting, other *regexp.Regexp) map[string]any {
	t.Helper()
	all := map[string]any{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := setting.FindStringSubmatch(line); m != nil && !other.MatchString(line) {
			all[m[1]] = m[2]
		} else if !other.MatchString(line) {
			t.Errorf("not of the grammar: %q", line)
		}
	}
	return all
}

// TestEnginesMalloc runs a small image through every heap that is installed.
func TestEnginesMalloc(t *testing.T) {
	if !libc.Available || testing.Short() {
		t.Skip("it runs every heap that is installed, and needs cgo")
	}
	got := vlmem(t, nil, "advise", "--for", "malloc", "--model", "qwen3-vl-2b", "--image", "64x64", "--context", "128",
		"--format", "json")
	var b advise.Bundle
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
