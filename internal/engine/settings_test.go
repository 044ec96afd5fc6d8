package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/profile"
	rival "github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

var update = flag.Bool("update", false, "rewrite golden files")

func card(t *testing.T, name string) *profile.GPU {
	t.Helper()
	h, err := profiles.Hardware(name)
	if err != nil {
		t.Fatal(err)
	}
	return &h.GPUs[0]
}

// newer is a card that every engine runs on.
var newer = profile.GPU{Name: "NVIDIA L40S", ComputeCapability: "8.9", MemoryBytes: 48 * units.GiB}

// whole sets everything that an engine can be told.
func whole(t *testing.T, g *profile.GPU) Settings {
	return Settings{
		Model: model(t, "qwen3-vl-8b"), Path: "/models/it's here/qwen3 vl", Projector: "/models/mmproj.gguf", GPU: g,
		Served:    Served{TensorParallel: 2},
		Context:   8192,
		Sequences: 2, Batch: 1024, Image: Image{1920, 1080}, KVType: "q8_0", Share: 0.85, GPULayers: 20,
		Device: 6 * units.GiB, Host: 24 * units.GiB, Threads: 4, ThreadsWhy: "physical cores", HeadroomMB: 512,
		AllocConf: "expandable_segments:True,garbage_collection_threshold:0.8",
	}
}

// arguments is the committed list of names that one version of an engine takes.
func arguments(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("flags", name))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(strings.TrimSpace(string(data))) {
		names = append(names, strings.Fields(line)[0])
	}
	return names[1:]
}

func write(t *testing.T, target string, s Settings) map[string]string {
	t.Helper()
	b, err := Write(target, s)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range b.Files {
		files[f.Name] = f.Content
	}
	return files
}

func known(t *testing.T, target string, names []string, key string) {
	t.Helper()
	if !slices.Contains(names, key) {
		t.Errorf("%s: %q is no argument of the stated version", target, key)
	}
}

// vLLM and SGLang read flat YAML; nested values must survive their conversion to JSON.
func TestWriteYAML(t *testing.T) {
	for target, list := range map[string]string{"vllm": vllm.list(), "sglang": sglang.list()} {
		s := whole(t, &newer)
		s.KVType = "fp8_e4m3"
		text := write(t, target, s)[target+".yaml"]
		var document map[string]any
		if err := yaml.Load([]byte(text), &document); err != nil {
			t.Fatalf("%s: %v\n%s", target, err, text)
		}
		for key, value := range document {
			known(t, target, arguments(t, list), key)
			if nested, ok := value.(map[string]any); ok {
				if _, err := json.Marshal(nested); err != nil {
					t.Errorf("%s: %s cannot become JSON: %v", target, key, err)
				}
			}
		}
		if got := document["dtype"]; got != "bfloat16" {
			t.Errorf("%s: dtype %v", target, got)
		}
		if !strings.Contains(text, `"longest_edge": 2088960`) {
			t.Errorf("%s: images are not limited to 1920x1088:\n%s", target, text)
		}
	}
	s := whole(t, &newer)
	s.KVBytes, s.KVType = 3*units.GiB, ""
	text := write(t, "vllm", s)["vllm.yaml"]
	if !strings.Contains(text, "kv-cache-memory-bytes: 3221225472") || strings.Contains(text, "gpu-memory-utilization:") {
		t.Errorf("a fixed cache and a share exclude each other:\n%s", text)
	}
}

// The grammar that llama-server reads presets by (common/preset.cpp): sections, identifiers and values up to # or ;.
var iniLine = regexp.MustCompile(`^(\[[^\]]+\]|[a-zA-Z_][a-zA-Z0-9_.-]*[ \t]*=[ \t]*[^#;]*|[ \t]*[;#].*|[ \t]*)$`)

func TestWriteLlamaServer(t *testing.T) {
	names := arguments(t, llamaServer.list())
	for _, g := range []*profile.GPU{nil, card(t, "gtx-1080")} {
		files := write(t, "llama-server", whole(t, g))
		sections := 0
		for line := range strings.Lines(files["llama-server.ini"]) {
			line = strings.TrimSuffix(line, "\n")
			if !iniLine.MatchString(line) {
				t.Errorf("not a line of an INI preset: %q", line)
			}
			if strings.HasPrefix(line, "[") {
				sections++
			}
			if key, _, ok := strings.Cut(line, " = "); ok && !strings.HasPrefix(line, ";") && key != "version" {
				known(t, "llama-server", names, key)
			}
		}
		if sections != 1 || !strings.Contains(files["llama-server.ini"], "\nversion = 1\n") {
			t.Errorf("want one section and a version:\n%s", files["llama-server.ini"])
		}
		for line := range strings.Lines(files["llama-server.args"]) {
			if argument, ok := strings.CutPrefix(strings.TrimSpace(line), "--"); ok {
				name, _, _ := strings.Cut(argument, " ")
				known(t, "llama-server", names, name)
			}
		}
		layers := map[bool]string{true: "n-gpu-layers = 0\n", false: "n-gpu-layers = 20\n"}[g == nil]
		for _, want := range []string{layers, "ctx-size = 16384\n", "image-max-tokens = 2040\n", "cache-type-v = q8_0\n"} {
			if !strings.Contains(files["llama-server.ini"], want) {
				t.Errorf("%q is missing in\n%s", want, files["llama-server.ini"])
			}
		}
	}
}

// xargs takes the arguments apart as they were meant.
func TestArgumentsSurviveXargs(t *testing.T) {
	xargs, err := exec.LookPath("xargs")
	if err != nil {
		t.Skip("no xargs here")
	}
	var plainArguments []string
	for line := range strings.Lines(write(t, "llama-server", whole(t, nil))["llama-server.args"]) {
		if !strings.HasPrefix(line, "#") {
			plainArguments = append(plainArguments, line)
		}
	}
	cmd := exec.Command(xargs, "-n1")
	cmd.Stdin = strings.NewReader(strings.Join(plainArguments, ""))
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "\n/models/it's here/qwen3 vl\n") {
		t.Errorf("got %q, %v", out, err)
	}
}

// Modelfile: an instruction and its value a line (parser/parser.go of ollama).
var modelfileLine = regexp.MustCompile(`^(FROM \S.*|PARAMETER [a-z_]+ \S+|#.*)$`)

func TestWriteOllama(t *testing.T) {
	names := arguments(t, ollama.list())
	files := write(t, "ollama", whole(t, card(t, "gtx-1080")))
	for line := range strings.Lines(files["Modelfile"]) {
		line = strings.TrimSuffix(line, "\n")
		if !modelfileLine.MatchString(line) {
			t.Errorf("not a line of a Modelfile: %q", line)
		}
		if fields := strings.Fields(line); fields[0] == "PARAMETER" {
			known(t, "ollama", names, fields[1])
		}
	}
	for line := range strings.Lines(files["ollama.env"]) {
		if key, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			known(t, "ollama", names, key)
		}
	}
	if !strings.Contains(files["ollama.env"], "OLLAMA_GPU_OVERHEAD=536870912\n") {
		t.Errorf("overhead is not in bytes:\n%s", files["ollama.env"])
	}
}

func TestWriteTransformers(t *testing.T) {
	names := arguments(t, transformers.list())
	s := whole(t, card(t, "gtx-1080"))
	s.KVType, s.Sequences = "", 1
	files := write(t, "transformers", s)
	var document map[string]map[string]any
	if err := json.Unmarshal([]byte(files["transformers.json"]), &document); err != nil {
		t.Fatalf("%v\n%s", err, files["transformers.json"])
	}
	for _, part := range document {
		for key := range part {
			known(t, "transformers", names, key)
		}
	}
	if document["from_pretrained"]["dtype"] != "float16" {
		t.Errorf("Pascal has no bfloat16: %v", document["from_pretrained"])
	}
	if document["generate"]["disable_compile"] != true {
		t.Errorf("Pascal cannot compile: %v", document["generate"])
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 to parse the script")
	}
	cmd := exec.Command(python, "-c", "import ast,sys; ast.parse(sys.stdin.read())")
	cmd.Stdin = strings.NewReader(files["transformers.py"])
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("not Python: %s\n%s", out, files["transformers.py"])
	}
}

func TestWritePyTorch(t *testing.T) {
	for _, conf := range []string{"", "expandable_segments:True,garbage_collection_threshold:0.8",
		"roundup_power2_divisions:[256:1,512:2,>:8]", "large_segment_size_mb:64"} {
		text := write(t, "pytorch", Settings{Model: model(t, "qwen3-vl-2b"), AllocConf: conf})["pytorch.env"]
		if newer := strings.Contains(conf, pytorchSegmentKey); newer != strings.Contains(text, pytorchSegmentVersion) {
			t.Errorf("%s: the release is not that of the key:\n%s", conf, text)
		}
		found := false
		for line := range strings.Lines(text) {
			value, ok := strings.CutPrefix(strings.TrimSpace(line), "PYTORCH_ALLOC_CONF=")
			if !ok {
				continue
			}
			found = true
			if _, err := rival.ParseConf(strings.Trim(value, "'")); err != nil {
				t.Error(err)
			}
		}
		if !found {
			t.Errorf("no PYTORCH_ALLOC_CONF in\n%s", text)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, target := range []string{"vllm", "sglang"} {
		for _, s := range []Settings{whole(t, card(t, "gtx-1080")), whole(t, nil)} {
			b, err := Write(target, s)
			var refusal *Refusal
			if !errors.As(err, &refusal) || b != nil || refusal.Alternative == "" {
				t.Errorf("%s: got %v, %v; want a refusal with an alternative and no file", target, b, err)
			}
		}
	}
	for _, c := range []struct {
		target string
		edit   func(*Settings)
	}{
		{"nope", func(*Settings) {}}, {"ollama", func(s *Settings) { s.Model = nil }},
		{"ollama", func(s *Settings) { s.Path = "a\nFROM b" }},
		{"llama-server", func(s *Settings) { s.Path = "a;b" }}, {"llama-server", func(s *Settings) { s.Name = "a]b" }},
		{"transformers", func(s *Settings) { s.Image = Image{1, 9000} }},
	} {
		s := whole(t, nil)
		c.edit(&s)
		if b, err := Write(c.target, s); err == nil || b != nil {
			t.Errorf("%s: accepted: %v", c.target, b)
		}
	}
}

// Every target that runs on Pascal says what Pascal needs.
func TestPascalFacts(t *testing.T) {
	for _, target := range []string{"llama-server", "ollama", "transformers", "pytorch"} {
		b, err := Write(target, whole(t, card(t, "gtx-1080")))
		if err != nil {
			t.Fatal(err)
		}
		notes := strings.Join(b.Notes, "\n")
		for _, want := range []string{"driver:", "CUDA:", "cu126", "float16", "sdpa"} {
			if !strings.Contains(notes, want) {
				t.Errorf("%s: nothing of %q in\n%s", target, want, notes)
			}
		}
	}
	if facts := PascalFacts(&newer); facts != nil {
		t.Errorf("facts for another card: %v", facts)
	}
}

// Golden files show what is written, whole. Run with -update after a change.
func TestWriteGolden(t *testing.T) {
	for _, e := range All() {
		if !e.Writes() {
			continue
		}
		b, err := Write(e.Name, goldenSettings(t, e))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range b.Files {
			golden(t, filepath.Join("testdata", "settings", f.Name), []byte(f.Content))
		}
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run with -update if it should:\n%s", path, got)
	}
}
