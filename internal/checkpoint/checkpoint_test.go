package checkpoint

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/engine/weights"
)

const config = `{"model_type": "qwen3_vl", "text_config": {}, "vision_config": {}}`

// one is a safetensors file with one tensor of 2,000 bytes.
func one(name string) string {
	header := `{"` + name + `":{"dtype":"BF16","shape":[1000],"data_offsets":[0,2000]}}`
	return string(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)) + strings.Repeat("\x00",
		2000)
}

// folder writes files by name.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// Which files of a folder count, and what is said of the rest.
func TestFilesThatALoadReads(t *testing.T) {
	const index = `{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}`
	for name, c := range map[string]struct {
		files map[string]string
		bytes int64
		says  string // in the error where bytes are 0, else in a note
	}{
		"whole": {map[string]string{"model.safetensors": one("a")}, 2000, ""},
		"none":  {map[string]string{}, -1, ""},
		"index": {map[string]string{"model.safetensors.index.json": index, "model-00001-of-00002.safetensors": one("a"),
			"model-00002-of-00002.safetensors": one("b")}, 4000, ""},
		"second copy": {map[string]string{"model.safetensors": one("a"), "consolidated.safetensors": one("a")}, 2000,
			"consolidated.safetensors of 2 KiB is the same model in Mistral's format"},
		"adapter": {map[string]string{"model.safetensors": one("a"), "adapter_model.safetensors": one("x")}, 2000,
			"adapter_model.safetensors of 2 KiB is an adapter"},
		"missing shard": {map[string]string{"model.safetensors.index.json": index,
			"model-00001-of-00002.safetensors": one("a")}, 0, "model-00002-of-00002.safetensors is missing"},
		"missing without an index": {map[string]string{"model-00002-of-00003.safetensors": one("a")}, 0,
			"model-00001-of-00003.safetensors is missing: the model is in 3 files, of which 1 is here"},
		"broken index": {map[string]string{"model.safetensors.index.json": "{}"}, 0, "want a weight_map"},
		"header alone": {map[string]string{"model.safetensors": one("a")[:80]}, 2000, "a download cut off"},
	} {
		c.files["config.json"] = config
		got, err := Open(folder(t, c.files))
		notes := strings.Join(got.Notes, "; ")
		switch {
		case c.bytes == 0:
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
		case err != nil || !strings.Contains(notes, c.says) || (c.says == "") != (notes == ""):
			t.Errorf("%s: notes %q, want %q; %v", name, notes, c.says, err)
		case c.bytes < 0 != (got.Tensors == nil) || c.bytes > 0 && int64(weights.Total(got.Tensors)) != c.bytes:
			t.Errorf("%s: %d bytes, want %d", name, weights.Total(got.Tensors), c.bytes)
		}
	}
}

// The limits of a processor stand in files of its own, under names old and new.
func TestProcessorsLimits(t *testing.T) {
	for name, text := range map[string]string{
		"preprocessor_config.json": `{"size": {"longest_edge": 1048576, "shortest_edge": 65536}}`,
		"processor_config.json": `{"image_processor": {"min_pixels": 65536, "max_pixels": 1048576},
 "video_processor": {}}`,
	} {
		m, err := Configuration(folder(t, map[string]string{"config.json": config, name: text}))
		if err != nil {
			t.Fatal(err)
		}
		if g, err := m.ImageGrid(4032, 3024); err != nil || g.Width != 1152 || g.Height != 864 || g.Tokens != 972 {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
	if _, err := Configuration(folder(t, map[string]string{"config.json": config,
		"preprocessor_config.json": "{"})); err == nil {
		t.Error("half a file is taken")
	}
}

// ModelOpt says its quantisation beside config.json.
func TestModelOptBesideTheConfiguration(t *testing.T) {
	m, err := Configuration(folder(t, map[string]string{"config.json": config,
		"hf_quant_config.json": `{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", ` +
			`"exclude_modules": ["lm_head"]}}`}))
	if err != nil || m.Quantisation == nil || m.Quantisation.Name != "nvfp4" {
		t.Errorf("%+v, %v", m.Quantisation, err)
	}
}

// A folder that holds an adapter alone says which model it was made for.
func TestAdapterAlone(t *testing.T) {
	_, err := Configuration(folder(t, map[string]string{
		"adapter_config.json": `{"base_model_name_or_path": "Qwen/Qwen3-VL-2B-Instruct"}`}))
	if err == nil || !strings.Contains(err.Error(), "(Qwen/Qwen3-VL-2B-Instruct)") {
		t.Error(err)
	}
}

// The hub's cache and Ollama's blobs are found by name, and no name leads out of them.
func TestFoundByName(t *testing.T) {
	root := folder(t, map[string]string{
		"hub/models--Qwen--Qwen3-VL-8B-Instruct/refs/main":                    "abc123\n",
		"hub/models--Qwen--Qwen3-VL-8B-Instruct/snapshots/abc123/config.json": config,
		"ollama/manifests/registry.ollama.ai/library/qwen3-vl/8b": `{"layers": [
 {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:aa"},
	{"mediaType": "application/vnd.ollama.image.projector", "digest": "sha256:bb"}]}`,
	})
	p := Places{Hub: filepath.Join(root, "hub"), Ollama: filepath.Join(root, "ollama")}
	want := filepath.Join(root, "hub", "models--Qwen--Qwen3-VL-8B-Instruct", "snapshots", "abc123")
	for name, found := range map[string]string{"Qwen/Qwen3-VL-8B-Instruct": want, "Qwen/Other": "", "../../x": "",
		"x": ""} {
		if got := p.Snapshot(name); got != found {
			t.Errorf("%s: %q, want %q", name, got, found)
		}
	}
	model, tower := p.Blob("qwen3-vl:8b")
	if model != filepath.Join(root, "ollama", "blobs", "sha256-aa") || tower != filepath.Join(root, "ollama", "blobs",
		"sha256-bb") {
		t.Errorf("%q, %q", model, tower)
	}
	for _, name := range []string{"qwen3-vl", "qwen3-vl:4b", "../../x:y", "a:../b"} {
		if model, _ := p.Blob(name); model != "" {
			t.Errorf("%s: %q", name, model)
		}
	}
	t.Setenv("HF_HUB_CACHE", "")
	t.Setenv("HF_HOME", filepath.Join(root, "home"))
	t.Setenv("OLLAMA_MODELS", "")
	if got := Here(); got.Hub != filepath.Join(root, "home", "hub") || !strings.HasSuffix(got.Ollama, "models") {
		t.Errorf("%+v", got)
	}
}
