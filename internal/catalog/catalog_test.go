package catalog

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/profiles"
)

// text writes a file and returns its path.
func text(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a person types is a name, whatever its case, the family's, or a file; what it is not is said with what was
// meant.
func TestAny(t *testing.T) {
	folder := t.TempDir()
	config := text(t, filepath.Join(folder, "config.json"), `{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
		"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
		"intermediate_size": 128, "vocab_size": 1000, "max_position_embeddings": 4096}`)
	for _, c := range []struct{ name, want, refused string }{
		{"qwen3-vl", DefaultModel, ""}, {"qwen3-vl-2b", "qwen3-vl-2b", ""}, {"Qwen3-VL-2B", "qwen3-vl-2b", ""},
		{"Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl-8b", ""}, {config, config, ""},
		{folder, config, ""},
		{"", "", "--model is empty"}, {"qwen3-vl-2c", "", "qwen3-vl-2b"}, {"nowhere/model.yaml", "", "reading --model"},
		{text(t, filepath.Join(folder, "broken.yaml"), "schema: vlmem/model/v1\nsizes: 3\n"), "", "broken.yaml"},
	} {
		found, err := Any(c.name)
		switch {
		case c.refused == "" && (err != nil || found.Name != c.want):
			t.Errorf("%q: %q, %v", c.name, found.Name, err)
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%q: %v, want %q", c.name, err, c.refused)
		}
	}
	if _, err := Seeing(config); err == nil || !strings.Contains(err.Error(), "takes no images") {
		t.Errorf("a model without images: %v", err)
	}
}

// Parts that are joined with + are one machine, of files and names alike.
func TestHardware(t *testing.T) {
	folder := t.TempDir()
	built, err := Hardware("i5-10210u+gtx-1080")
	if err != nil || built.CPU == nil || built.Memory == nil || len(built.GPUs) != 1 {
		t.Fatalf("%+v, %v", built, err)
	}
	card := text(t, filepath.Join(folder, "card.yaml"),
		"schema: vlmem/hardware/v1\nname: my-card\ngpus:\n  - {name: A card, "+
			"compute_capability: \"6.1\", memory_bytes: 4 GiB, sm_count: 5}\n")
	mine, err := Hardware("I5-10210U+" + card)
	if err != nil || len(mine.GPUs) != 1 || mine.GPUs[0].MemoryBytes != 4<<30 || mine.Name != "i5-10210u+my-card" {
		t.Errorf("%+v, %v", mine.GPUs, err)
	}
	for spec, want := range map[string]string{"i5-10210v": "vlmem profiles lists", folder +
		"/none.yaml": "reading --hardware",
		text(t, folder+"/x.json", "{"): "x.json"} {
		if _, err := Hardware(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
}

// A pattern stands for what matches it, in each of its parts, each machine once; a card alone is no machine.
func TestMachines(t *testing.T) {
	names, list, _, err := Machines([]string{"i5-10210u+gtx-10[78]0", "i5-10210u", "I5-1021?U", "i5-10210u+gtx-1070"})
	want := []string{"i5-10210u+gtx-1070", "i5-10210u+gtx-1080", "i5-10210u"}
	if err != nil || !slices.Equal(names, want) || len(list) != len(want) {
		t.Errorf("%v, %v", names, err)
	}
	all, _, _, err := Machines([]string{"*+*"})
	cards, machines := 0, 0
	for _, name := range profiles.HardwareNames() {
		if h, _ := profiles.Hardware(name); h.Memory == nil {
			cards++
		} else {
			machines++
		}
	}
	if err != nil || len(all) != cards*machines || cards == 0 || machines == 0 {
		t.Errorf("%d machines of %d and %d cards, %v", len(all), machines, cards, err)
	}
	for pattern, want := range map[string]string{"gtx-1080": "says nothing of host memory", "zz*": "nothing matches",
		"[": "syntax error", "*+*+*+*": "more than"} {
		if _, _, _, err := Machines([]string{pattern}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", pattern, err, want)
		}
	}
}

// A link that leads nowhere is one machine that cannot be used, and no end of the others.
func TestADanglingLinkEndsNothing(t *testing.T) {
	folder := t.TempDir()
	if err := os.Symlink(filepath.Join(folder, "gone"), filepath.Join(folder, "b.yaml")); err != nil {
		t.Skip(err)
	}
	text(t, filepath.Join(folder, "a.yaml"),
		"schema: vlmem/hardware/v1\nname: a\ncpu: {model: x, cores: 2, threads: 2}\nmemory: {total_bytes: 8 GiB}\n")
	names, _, unusable, err := Machines([]string{folder + "/*.yaml"})
	if err != nil || len(names) != 1 || len(unusable) != 1 || !strings.Contains(unusable[0].Error(), "b.yaml") {
		t.Errorf("%v, %v, %v", names, unusable, err)
	}
}

func TestMix(t *testing.T) {
	own := text(t, filepath.Join(t.TempDir(), "mine.yaml"), "schema: vlmem/mix/v2\n")
	for name, want := range map[string]string{"chat": "", "CHAT": "", "chatt": "want one of", own: "mine.yaml"} {
		m, err := Mix(name)
		if want == "" && (err != nil || m.Name != "chat") || want != "" &&
			(err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v", name, m.Name, err)
		}
	}
}

// What is built in is all there, and every name finds it again.
func TestBuiltIn(t *testing.T) {
	models, err := Models()
	if err != nil || len(models) != len(profiles.ModelNames()) {
		t.Fatalf("%d models, %v", len(models), err)
	}
	for _, m := range models {
		if again, err := Any(m.Name); err != nil || again.Name != m.Name {
			t.Errorf("%s: %q, %v", m.Name, again.Name, err)
		}
	}
	hardware, err := AllHardware()
	if err != nil || len(hardware) != len(profiles.HardwareNames()) {
		t.Errorf("%d of hardware, %v", len(hardware), err)
	}
}
