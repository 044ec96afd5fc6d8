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
		{"another model", []byte(`{"model_type": "bert", "text_config": {"hidden_size": []}}`),
			`model_type "bert" is not known`},
		{"text value", config(t, func(_, text, _ map[string]any) { text["hidden_size"] = "wide" }),
			"text_config.hidden_size is a string"},
		{"text as a list", config(t, func(outer, _, _ map[string]any) { outer["text_config"] = []int{1} }),
			"text_config is an array, want an object"},
		{"zero layers", config(t, func(_, text, _ map[string]any) { text["num_hidden_layers"] = 0 }),
			"num_hidden_layers is 0 and must be above zero"},
	} {
		_, err := profile.DecodeHuggingFace("broken.json", c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

// An absent key takes its class's default, as from_pretrained does, and the model says so. The key of tied embeddings
// that counts is the outer one.
func TestAbsentKeysTakeTheClassDefaults(t *testing.T) {
	for _, c := range []struct {
		name       string
		edit       func(outer, text, vision map[string]any)
		parameters int64
		note       string
	}{
		{"deepstack", func(_, _, vision map[string]any) {
			delete(vision, "deepstack_visual_indexes")
			vision["depth"] = 27
		}, 4_437_815_808 + 3*12_596_224,
			"vision_config.deepstack_visual_indexes [8 16 24]"},
		{"head width", func(_, text, _ map[string]any) { delete(text, "head_dim") }, 4_437_815_808,
			"text_config.head_dim 128"},
		{"outer tie", func(outer, text, _ map[string]any) {
			delete(outer, "tie_word_embeddings")
			text["tie_word_embeddings"] = true
		}, 4_437_815_808 + 151936*2560, ""},
		{"nothing", nil, 4_437_815_808, ""},
	} {
		m, err := profile.DecodeHuggingFace("config.json", config(t, c.edit))
		notes := strings.Join(m.Notes, " ")
		if err != nil || m.Parameters().Total() != c.parameters || !strings.Contains(notes, c.note) ||
			(c.note == "") != (notes == "") {
			t.Errorf("%s: %d parameters, want %d; notes %q; %v", c.name, m.Parameters().Total(), c.parameters, m.Notes, err)
		}
	}
}

// transformers 5 saves a mixture's experts as num_local_experts, 4.57 as num_experts: attribute_map makes them one.
func TestExpertsUnderEitherName(t *testing.T) {
	for _, name := range []string{"num_experts", "num_local_experts"} {
		m, err := profile.DecodeHuggingFace("config.json", config(t, func(outer, text, _ map[string]any) {
			outer["model_type"] = "qwen3_vl_moe"
			text[name], text["num_experts_per_tok"], text["moe_intermediate_size"] = 16, 2, 512
			text["rope_theta"], text["router_noise"] = "Infinity", "-Infinity"
		}))
		if err != nil || m.Text.MoE == nil || m.Text.MoE.Experts != 16 || m.Replayable() != nil {
			t.Errorf("%s: %+v, %v, %v", name, m.Text.MoE, err, m.Replayable())
		}
	}
	data := strings.Replace(string(config(t, nil)), `"rope_theta":5000000`,
		`"rope_theta":5000000,"x":[NaN,-Infinity,"Infinity"]`, 1)
	if m, err := profile.DecodeHuggingFace("config.json", []byte(data)); err != nil || m.Text.HiddenSize != 2560 {
		t.Errorf("numbers that Python writes: %v", err)
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
