package predict

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
)

// source is a laptop on which the command is started.
func source(t *testing.T, name string, command ...string) *Source {
	t.Helper()
	machine, err := catalog.Hardware("i5-10210u")
	if err != nil {
		t.Fatal(err)
	}
	s := &Source{Engine: name, Command: command, Machine: machine}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.StringVar(&s.Request.Model, "model", "", "")
	s.Request.AddFlags(flags)
	s.Request.Given, s.Set = flags.Changed, flags.Set
	return s
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The command's own arguments are estimated as the same settings are of estimate, on this machine.
func TestFromTheCommand(t *testing.T) {
	s := source(t, "llama-server", "llama-server", "-hf", "Qwen/Qwen3-VL-2B-Instruct-GGUF:Q8_0", "-c", "8192", "-np", "2",
		"-ctk", "q8_0", "-ctv", "q8_0", "--no-mmap", "--lora", "x.gguf", "--port", "80", "--n-cpu-moe", "3")
	got, err := s.Predict()
	if err != nil || got.Memory == nil || got.Engine.Name != "llama-server" {
		t.Fatalf("%+v, %v", got, err)
	}
	if !slices.ContainsFunc(got.Warnings, func(w string) bool { return strings.HasSuffix(w, "depends on it: lora") }) {
		t.Errorf("what is not reckoned is not said: %q", got.Warnings)
	}
	r := estimate.Request{Engine: "llama-server", Model: "qwen3-vl-2b", GPULayers: -1, Machine: &s.Machine}
	r.Quant, r.Context, r.Sequences, r.KVType, r.Settings.NoMmap = "q8_0", 8192, 2, "q8_0", true
	m, err := r.Load()
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.Estimate(&m)
	if err != nil {
		t.Fatal(err)
	}
	if got.Memory.TotalBytes != want.TotalBytes || got.Memory.Device != "cpu" || want.TotalBytes == 0 {
		t.Errorf("%s on the %s, want %s", got.Memory.TotalBytes, got.Memory.Device, want.TotalBytes)
	}
}

// An estimate in a file comes before the command, and a configuration after it; where nothing says, that is said.
func TestNearestSource(t *testing.T) {
	m, err := catalog.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := engine.Estimate("llama.cpp", &m, engine.Options{Context: 4096, Device: "cpu", Quant: "q8_0"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(mem)
	if err != nil {
		t.Fatal(err)
	}
	whole := file(t, "estimate.json", string(data))
	for _, c := range []struct {
		name    string
		source  *Source
		total   bool
		warning string
		refused string
	}{
		{"an estimate", &Source{Estimate: whole}, true, "", ""},
		{"no estimate", &Source{Estimate: file(t, "x.json", "{}")}, false, "", "reading --estimate"},
		{"no engine", source(t, "", "true"), false, "nothing is predicted: --engine names", ""},
		{"no weights", source(t, "llama-server", "llama-server", "-c", "4096"), false, "the command names no weights", ""},
		{"an unknown engine", source(t, "llama"), false, "", `unknown engine "llama"`},
		{"weights that nobody knows", source(t, "llama-server", "llama-server", "-m", "nothere.gguf"), false, "",
			`reading the command: model: the name "nothere.gguf"`},
		{"an argument without its value", source(t, "llama-server", "llama-server", "-c"), false, "",
			"reading the command: -c is without its value"},
	} {
		p, err := c.source.Predict()
		switch {
		case c.refused != "" && (err == nil || !strings.HasPrefix(err.Error(), c.refused)):
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		case c.refused == "" && err != nil, c.total != (p.Memory != nil && p.Memory.TotalBytes == mem.TotalBytes):
			t.Errorf("%s: %+v, %v", c.name, p.Memory, err)
		case c.warning != "" && !strings.Contains(strings.Join(p.Warnings, "\n"), c.warning):
			t.Errorf("%s: said %q, want %q", c.name, p.Warnings, c.warning)
		}
	}
}
