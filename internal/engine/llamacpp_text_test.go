package engine

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// decoders are published configurations of models without images, by name.
func decoders(t *testing.T) map[string]*profile.Model {
	t.Helper()
	data, err := os.ReadFile("testdata/decoders.json")
	if err != nil {
		t.Fatal(err)
	}
	var configs map[string]json.RawMessage
	if err := json.Unmarshal(data, &configs); err != nil {
		t.Fatal(err)
	}
	list := map[string]*profile.Model{}
	for name, config := range configs {
		m, err := profile.DecodeHuggingFace(name, config)
		if err != nil {
			t.Fatal(err)
		}
		list[name] = &m
	}
	return list
}

// TestLlamaDecodersAsRecorded holds decoders without images, with grouped and single heads, experts, sliding layers and
// compressed caches, to what llama.cpp reserved for them: to the byte, but for DeepSeek's compute buffer, which lies in
// its interval.
func TestLlamaDecodersAsRecorded(t *testing.T) {
	models := decoders(t)
	checked := map[string]int{}
	for _, r := range records(t, "testdata/llamacpp_text.csv") {
		m := models[r["model"]]
		o := Options{
			Quant: r["weights_file"], Context: r.int(t, "ctx"), Batch: r.int(t, "batch"), UBatch: r.int(t, "ubatch"),
			Sequences: r.int(t, "parallel"),
			KVType:    r["kv_type"], FlashAttention: r["flash_attention"], Unified: r["unified"] == "1",
			Outputs: r.int(t, "outputs"), Image: &Image{}, Llama: standIn,
		}
		for _, place := range []struct{ device, where, column string }{
			{"cpu", "host", "cpu"}, {"gpu", "device", "device"}, {"gpu", "host", "host"},
		} {
			o.Device = place.device
			mem := estimate(t, "llama.cpp", m, o)
			for name, part := range map[string]string{Weights: "model", KVCache: "context", Compute: "compute"} {
				if place.column == "host" && name == KVCache {
					continue // all of it is on the card
				}
				want := units.Bytes(r.int(t, place.column+"_"+part+"_bytes"))
				got, low, high := mem.on(place.where, name), units.Bytes(0), units.Bytes(0)
				for _, i := range mem.Items {
					if i.Name == name && i.Where == place.where {
						low, high = low+i.Low, high+i.High
					}
				}
				exact := r["model"] != "deepseek-v2-lite" || name != Compute
				if exact && got != want || want < low || want > high {
					t.Errorf("%s, %d tokens, %s: %s %s: %d (%d to %d), recorded %d", r["model"], o.Context, place.device, place.where,
						name, got, low, high, want)
				}
				checked[r["model"]]++
			}
		}
	}
	if len(checked) != len(models) {
		t.Errorf("checked %v of %d models", checked, len(models))
	}
}

// Every engine has something to say of a decoder without images, and nothing of images.
func TestDecodersOnEveryEngine(t *testing.T) {
	card := profile.GPU{Name: "NVIDIA H200", ComputeCapability: "9.0", MemoryBytes: 140 * units.GiB}
	for name, m := range decoders(t) {
		for _, engine := range Names((*Engine).Estimates) {
			mem := estimate(t, engine, m, Options{Context: 4096, Device: "gpu", GPU: &card, Image: &Image{}})
			if mem.WeightsBytes <= 0 || mem.KVCacheBytes <= 0 || mem.ComputeBytes <= 0 || mem.VisionBytes != 0 ||
				mem.VisionWeightsBytes != 0 {
				t.Errorf("%s on %s: %+v", name, engine, mem)
			}
			for _, i := range mem.Items {
				if i.Low > i.Bytes || i.Bytes > i.High || i.Low < 0 {
					t.Errorf("%s on %s: %s: %d is not within %d and %d", name, engine, i.Name, i.Bytes, i.Low, i.High)
				}
			}
		}
	}
	// Mistral's first release slides in transformers, and not in llama.cpp.
	mistral := *decoders(t)["llama-3.1-8b"]
	variant := *mistral.Text.Variant
	variant.Window = 2048
	mistral.Text.Variant = &variant
	for engine, tokens := range map[string]units.Bytes{"llama.cpp": 4096, "transformers": 2047} {
		if got := estimate(t, engine, &mistral, Options{Context: 4096, Device: "cpu",
			Image: &Image{}}).KVCacheBytes; got != tokens*32*2*8*128*2 {
			t.Errorf("%s: %d bytes of cache, want %d tokens", engine, got, tokens)
		}
	}
	// transformers 5.24 keeps what DeepSeek compresses, and of a sliding layer's window all but the token to come.
	for name, want := range map[string]units.Bytes{"deepseek-v2-lite": 2 * 4096 * 27 * (512 + 64),
		"gemma-3-1b": 2 * 2 * 256 * (22*511 + 4*4096)} {
		if got := estimate(t, "transformers", decoders(t)[name], Options{Context: 4096, Device: "cpu",
			Image: &Image{}}).KVCacheBytes; got != want {
			t.Errorf("%s: %d bytes of cache, want %d", name, got, want)
		}
	}
}

// --image-max-tokens scales images of Qwen2-VL's family down as it does Qwen3-VL's: the tower's buffer follows.
func TestForeignTowerFollowsImageMost(t *testing.T) {
	vision := func(most int, image *Image) units.Bytes {
		o := Options{Quant: "q4_k_m", Context: 4096, Sequences: 1, Device: "cpu", Image: image}
		o.Llama.ImageMost = most
		return estimate(t, "llama-server", model(t, "qwen2.5-vl-7b"), o).on("host", Vision)
	}
	all, less, named := vision(0, nil), vision(300, nil), vision(0, &Image{476, 476})
	if less >= all || less < named*9/10 || less > named*11/10 {
		t.Errorf("%s of 300 tokens at most, %s without, %s of an image of 289", less, all, named)
	}
}
