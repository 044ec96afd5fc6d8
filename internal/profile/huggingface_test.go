package profile_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// config is a small but whole config.json, with what a case replaces.
func config(t *testing.T, edit func(outer, text, vision map[string]any)) []byte {
	t.Helper()
	text := map[string]any{
		"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
		"intermediate_size": 9728, "vocab_size": 151936, "max_position_embeddings": 262144, "rope_theta": 5e6,
	}
	vision := map[string]any{
		"depth": 24, "hidden_size": 1024, "num_heads": 16, "intermediate_size": 4096, "in_channels": 3, "patch_size": 16,
		"temporal_patch_size": 2, "spatial_merge_size": 2, "num_position_embeddings": 2304, "out_hidden_size": 2560,
		"deepstack_visual_indexes": []int{5, 11, 17},
	}
	outer := map[string]any{"model_type": "qwen3_vl", "tie_word_embeddings": true, "text_config": text,
		"vision_config": vision}
	if edit != nil {
		edit(outer, text, vision)
	}
	data, err := json.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecodeHuggingFaceGivesTheBuiltInModel(t *testing.T) {
	got, err := profile.DecodeHuggingFace("config.json", config(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	want, err := profiles.Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Text, want.Text) || !reflect.DeepEqual(got.Vision, want.Vision) ||
		got.Preprocess != want.Preprocess {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// The published configurations give the built-in models.
func TestDecodeHuggingFacePublished(t *testing.T) {
	root := os.Getenv("VLMEM_SHARED_DATA")
	if root == "" {
		root = "../../../shared/data"
	}
	folder := filepath.Join(root, "qwen3vl_configs", "aiconfigurator")
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Skipf("published configurations are not here: %v", err)
	}
	found := 0
	for _, e := range entries {
		size, ok := strings.CutPrefix(e.Name(), "Qwen--Qwen3-VL-")
		if !ok {
			continue
		}
		found++
		for _, ending := range []string{"-Instruct_config.json", "-Thinking_config.json"} {
			size = strings.TrimSuffix(size, ending)
		}
		t.Run(e.Name(), func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(folder, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got, err := profile.DecodeHuggingFace(e.Name(), data)
			if err != nil {
				t.Fatal(err)
			}
			want, err := profiles.Model("qwen3-vl-" + strings.ToLower(size))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Text, want.Text) || !reflect.DeepEqual(got.Vision, want.Vision) {
				t.Errorf("got  %+v %+v\nwant %+v %+v", got.Text, got.Vision, want.Text, want.Vision)
			}
			if got.Parameters() != want.Parameters() {
				t.Errorf("parameters %v, want %v", got.Parameters(), want.Parameters())
			}
		})
	}
	if found == 0 {
		t.Error("no configuration found in " + folder)
	}
}

func TestDecodeHuggingFaceRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"broken", []byte("{\n\"model_type\": \"qwen3_vl\",\n]"), "broken.json:3: "},
		{"empty", nil, "broken.json:1: "},
		{"a list", []byte("[]"), "broken.json:1: "},
		{"another model", []byte(`{"model_type": "llama"}`), `model_type is "llama"`},
		{"no text", []byte(`{"model_type": "qwen3_vl"}`), "text_config is missing"},
		{"text value", config(t, func(_, text, _ map[string]any) { text["hidden_size"] = "wide" }),
			"text_config.hidden_size is a string"},
		{"missing keys", config(t, func(_, text, vision map[string]any) {
			delete(text, "head_dim")
			delete(vision,
				"depth")
		}),
			"text_config.head_dim, vision_config.depth missing"},
		{"no tie", config(t, func(outer, _, _ map[string]any) { delete(outer, "tie_word_embeddings") }),
			"tie_word_embeddings missing"},
		{"no experts", config(t, func(outer, _, _ map[string]any) { outer["model_type"] = "qwen3_vl_moe" }),
			"text_config.num_experts, "},
		{"zero layers", config(t, func(_, text, _ map[string]any) { text["num_hidden_layers"] = 0 }),
			"num_hidden_layers must be above zero"},
		{"mixed layers", config(t, func(outer, text, _ map[string]any) {
			outer["model_type"] = "qwen3_vl_moe"
			text["mlp_only_layers"] = []int{3}
		}), "mixes dense and expert layers"},
	} {
		_, err := profile.DecodeHuggingFace("broken.json", c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func FuzzDecodeHuggingFace(f *testing.F) {
	f.Add([]byte(`{"model_type": "qwen3_vl", "text_config": {}, "vision_config": {}}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := profile.DecodeHuggingFace("f.json", data)
		if err == nil && m.Validate() != nil {
			t.Errorf("accepted a model that does not validate: %+v", m)
		}
	})
}
