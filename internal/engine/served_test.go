package engine

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
)

// What one card of many holds by vLLM 0.33.0's own classes on the meta device (tools/reference/engines/vllm_shards.py):
// weights of decoder and tower, buffers of adapters and the layers of each stage are equal to the byte, and what they
// refuse is refused.
func TestVLLMShards(t *testing.T) {
	for _, r := range records(t, "testdata/vllm_shards.csv") {
		m := model(t, r["model"])
		s := Served{TensorParallel: r.int(t, "tensor"), PipelineParallel: r.int(t, "stages"),
			DataParallel: r.int(t, "copies"), ExpertParallel: r["experts"] == "1",
			LoRA: r["loras"] != "0", LoRAs: r.int(t, "loras"), LoRARank: r.int(t, "rank")}
		_, err := Estimate(vllm.Name, m, Options{Context: 4096, Served: s})
		if refused := r["refused"] != ""; refused || err != nil {
			if refused != (err != nil) {
				t.Errorf("%+v: %v, want %q", s, err, r["refused"])
			}
			continue
		}
		places, err := vllmLayouts(m, s)
		if err != nil {
			t.Fatal(err)
		}
		at := places[r.int(t, "stage")]
		mem := served(m, Options{Served: s, Device: "gpu"}, vllmForms[0], "auto", 4096, at)
		mem.adapters(m, s, at)
		got := map[string]units.Bytes{}
		for _, i := range mem.Items {
			if got[i.Name] += i.Bytes; i.Low != i.High || i.Source != Derived {
				t.Errorf("%s: %s is not exact", at, i.Name)
			}
		}
		for name, column := range map[string]string{Weights: "decoder", VisionWeights: "tower", "LoRA buffers": "lora"} {
			if want := units.Bytes(r.int(t, column)); got[name] != want {
				t.Errorf("%s %+v: %s of %d bytes, want %d", r["model"], s, name, got[name], want)
			}
		}
		if at.first != r.int(t, "first") || at.end != r.int(t, "end") {
			t.Errorf("%+v: layers %d to %d, want %s to %s", s, at.first, at.end, r["first"], r["end"])
		}
	}
}

// The cache of a pipeline is bounded by its tightest stage, and is larger than on one card of the same kind.
func TestStagesShareTheCache(t *testing.T) {
	for _, name := range []string{"vllm", "sglang"} {
		one := estimate(t, name, model(t, "qwen3-vl-8b"), Options{Context: 4096, GPU: card(t, "rtx-3090"), Device: "gpu"})
		two := estimate(t, name, model(t, "qwen3-vl-8b"), Options{Context: 4096, GPU: card(t, "rtx-3090"), Device: "gpu",
			Served: Served{PipelineParallel: 2}})
		least := two.Stages[0].CacheTokens
		for _, s := range two.Stages {
			least = min(least, s.CacheTokens)
		}
		if two.CacheTokens != least || two.Stages[two.Stage-1].CacheTokens != least || two.CacheTokens < 3*one.CacheTokens {
			t.Errorf("%s: %d tokens on one card, %d on two stages of %+v", name, one.CacheTokens, two.CacheTokens, two.Stages)
		}
		if two.Stages[0].Layers+two.Stages[1].Layers != 36 || two.Cards != 2 {
			t.Errorf("%s: %+v on %d cards", name, two.Stages, two.Cards)
		}
	}
}

// SGLang's groups of experts change who holds which, and what they do not divide is refused.
func TestSGLangExperts(t *testing.T) {
	m := model(t, "qwen3-vl-30b-a3b")
	size := func(s Served) units.Bytes {
		return estimate(t, "sglang", m, Options{Context: 4096, Served: s}).WeightsBytes
	}
	if a, b := size(Served{TensorParallel: 4}), size(Served{TensorParallel: 4, ExpertCards: 4}); a != b {
		t.Errorf("parts of every expert %s, whole ones %s", a, b)
	}
	if a, b := size(Served{}), size(Served{DataParallel: 2}); a != b {
		t.Errorf("a copy of two holds %s of %s", b, a)
	}
	for _, s := range []Served{{TensorParallel: 4, ExpertCards: 3}, {ExpertCards: 2}, {TensorParallel: 3}} {
		if _, err := Estimate("sglang", m, Options{Context: 4096, Served: s}); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}

// Flags are refused by their bounds and where the engine has none.
func TestServedFlags(t *testing.T) {
	for _, c := range []struct {
		e    *Engine
		s    Served
		flag string
		want string
	}{
		{&vllm, Served{PipelineParallel: 2}, "pipeline-parallel", ""},
		{&vllm, Served{ExpertCards: 2}, "expert-cards", "only on sglang"},
		{&sglang, Served{LoRA: true}, "enable-lora", "only on vllm"},
		{&ollama, Served{DataParallel: 2}, "data-parallel", "only on"},
		{&vllm, Served{}, "max-loras", "want 1 to 1024"},
		{&vllm, Served{DataParallel: -1}, "data-parallel", "want 1 to 1024"},
	} {
		err := c.s.Check(c.e, func(flag string) bool { return flag == c.flag })
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s --%s: %v, want %q", c.e.Name, c.flag, err, c.want)
		}
	}
	for want, s := range map[string]Served{"--enable-lora": {LoRAs: 2}, "--max-lora-rank 24": {LoRA: true, LoRARank: 24}} {
		if _, err := Estimate("vllm", model(t, "qwen3-vl-2b"), Options{Served: s}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
