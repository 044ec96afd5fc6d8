package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// What the server's own code reserved for a model and its draft on a CPU, MiB (xllamacpp 2026.7.9873, 2026.9.11063 and
// 2026.10.11549): the model's buffers, then the draft's.
func TestLlamaDraftsAsTheEngine(t *testing.T) {
	for _, c := range []struct {
		build string
		o     Options
		want  [2][]float64 // weights, cache, compute, output
	}{
		{"b9873", Options{Context: 9000, Sequences: 3}, [2][]float64{{4076.43, 1296, 110.23, 1.74},
			{1050.43, 1008, 79.17, 1.74}}},
		{"b11063", Options{Context: 9000, Sequences: 3}, [2][]float64{{4076.43, 1296, 110.23, 1.74},
			{1050.43, 1008, 79.17, 1.74}}},
		{"b11549", Options{Context: 8192, Sequences: 1}, [2][]float64{{4076.43, 1152, 137.02, 0.58},
			{1050.43, 896, 108.02, 0.58}}},
	} {
		c.o.Quant, c.o.Device, c.o.Image = "q8_0", "cpu", &Image{}
		c.o.Llama = LlamaOptions{Build: c.build, CacheRAM: new(int), Draft: &Draft{Model: model(t, "qwen3-vl-2b"),
			Quant: "q4_k_m"}}
		mem := estimate(t, "llama-server", model(t, "qwen3-vl-4b"), c.o)
		for i, name := range []string{Weights, KVCache, Compute, Output} {
			var got []float64
			for _, it := range mem.Items {
				if it.Name == name {
					got = append(got, inMiB(it.Bytes))
				}
			}
			if len(got) != 2 || math.Abs(got[0]-c.want[0][i]) > 0.011 || math.Abs(got[1]-c.want[1][i]) > 0.011 {
				t.Errorf("%s: %s %v, the engine %.2f and %.2f", c.build, name, got, c.want[0][i], c.want[1][i])
			}
		}
	}
}

// Ways of guessing whose memory is not known are refused, and so is a draft that the engine would not take.
func TestLlamaDraftRefusals(t *testing.T) {
	draft := &Draft{Model: model(t, "qwen3-vl-2b")}
	other := &Draft{Model: decoders(t)["llama-3.2-1b"]}
	for _, c := range []struct {
		l    LlamaOptions
		want string
	}{
		{LlamaOptions{Speculation: []string{"draft-eagle3"}}, "not modelled"},
		{LlamaOptions{Speculation: []string{"draft-mtp"}}, "has no heads"},
		{LlamaOptions{DraftMost: new(-1)}, "draft tokens"},
		{LlamaOptions{Draft: draft, Build: "b8672"}, "before June 2026"}, {LlamaOptions{Draft: other}, "vocabulary"},
		{LlamaOptions{Draft: &Draft{Model: draft.Model, Quant: "q9"}}, "unknown quantisation"},
		{LlamaOptions{Draft: &Draft{Model: draft.Model, KVType: "q9"}}, "KV type"},
	} {
		_, err := Estimate("llama-server", model(t, "qwen3-vl-4b"), Options{Device: "cpu", Context: 4096, Llama: c.l})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.l, err, c.want)
		}
	}
	o := Options{Device: "cpu", Context: 4096, Sequences: 1, Image: &Image{}}
	plain := estimate(t, "llama-server", model(t, "qwen3-vl-4b"), o)
	o.Llama.Speculation = []string{"ngram-mod"} // 64 tokens are checked at once
	guessing := estimate(t, "llama-server", model(t, "qwen3-vl-4b"), o)
	if got := guessing.Items[len(guessing.Items)-1]; plain.OutputBytes != guessing.OutputBytes || got.Name != PromptCache {
		t.Errorf("%d and %d bytes of logits, %+v", plain.OutputBytes, guessing.OutputBytes, got)
	}
	for _, i := range guessing.Items {
		if i.Name == Output && i.High != 65*i.Bytes {
			t.Errorf("logits grow to %d, want 65 rows of %d", i.High, i.Bytes)
		}
	}
}

// The context that -fit chose for a model and its draft on one card, MiB (v0.5.0 on CUDA over a runtime that allocates
// nothing).
func TestLlamaFitsADraft(t *testing.T) {
	for free, want := range map[units.Bytes]int{8192: 14080, 6144: 5888} {
		o := Options{Quant: "q4_k_m", Device: "gpu", Image: &Image{}}
		o.Llama = LlamaOptions{Build: LlamaVersion, Fit: &Fit{Free: free * units.MiB}, LoadMode: "none",
			Draft: &Draft{Model: model(t, "qwen3-vl-2b"), Quant: "q4_k_m"}}
		if got := estimate(t, "llama-server", model(t, "qwen3-vl-4b"), o).ContextTokens; got != want {
			t.Errorf("%d MiB: %d tokens, the engine %d", free, got, want)
		}
	}
}

// Without a card the engine fits to the machine, whatever may be filled of it, which is said. In a control group of
// 3 GiB on a machine of 24 GB, b11549 took 192,256 tokens and was ended.
func TestLlamaFitsTheMachine(t *testing.T) {
	seen := Options{Quant: "q8_0", Device: "cpu", Image: &Image{}, Sequences: 1,
		Llama: LlamaOptions{Build: "b11549", Fit: &Fit{Free: 2.52765e+10, Bound: 3 * units.GiB}}}
	if got := estimate(t, "llama-server", model(t, "qwen3-vl-2b"), seen).ContextTokens; got != 192256 {
		t.Errorf("%d tokens, the engine 192256", got)
	}
	for bound, want := range map[units.Bytes]bool{0: false, 8 * units.GiB: true} {
		o := Options{Quant: "q4_k_m", Device: "cpu", Image: &Image{},
			Llama: LlamaOptions{Fit: &Fit{Free: 32 * units.GiB, Bound: bound}}}
		mem := estimate(t, "llama-server", model(t, "qwen3-vl-2b"), o)
		said := slices.ContainsFunc(mem.Warnings, func(w evidence.Warning) bool { return w.Code == FitsBeyond })
		if said != want || mem.HostBytes < 16*units.GiB {
			t.Errorf("bound %s: %v, %s on the host", bound, mem.Warnings, mem.HostBytes)
		}
	}
}

// Heads of a small Qwen3.5's own, as b11549 loads them on a CPU (xllamacpp 2026.10.11549), MiB: caches and states of
// the model and of the heads, the model's compute buffer, and that of the heads, which lies in its interval.
func TestLlamaHeadsOfItsOwn(t *testing.T) {
	config := `{"model_type": "qwen3_5_text", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
		"num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 1024, "vocab_size": 32000,
		"max_position_embeddings": 40960, "tie_word_embeddings": false, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
		"linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
		"linear_conv_kernel_dim": 4, "full_attention_interval": 4}`
	m, err := profile.DecodeHuggingFace("config.json", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	m.Vision = profile.Vision{}
	five := 5
	for _, c := range []struct {
		o           Options
		most        *int
		cache       float64
		model, head float64
	}{
		{Options{Context: 4096, Sequences: 1}, nil, 14.28, 19.02, 14.02},
		{Options{Context: 8192, Sequences: 4, Unified: true}, nil, 41.12, 35.12, 18.02},
		{Options{Context: 8192, Sequences: 3}, nil, 35.34, 27.89, 12.79},
		{Options{Context: 4096, Sequences: 1, UBatch: 128, FlashAttention: "off"}, nil, 14.28, 21, 20.25},
		{Options{Context: 4096, Sequences: 2, KVType: "q8_0"}, &five, 24.96, 21.15, 12.02},
	} {
		o := c.o
		o.Quant, o.Device, o.Image = "q8_0", "cpu", &Image{}
		o.Llama = LlamaOptions{Build: "b11549", Speculation: []string{"draft-mtp"}, DraftMost: c.most}
		if _, err := Estimate("llama-server", &m, o); err == nil {
			t.Error("a model without heads guesses by them")
		}
		with := m
		with.Text.PredictLayers = 1
		mem := estimate(t, "llama-server", &with, o)
		var compute []Item
		for _, i := range mem.Items {
			if i.Name == Compute {
				compute = append(compute, i)
			}
		}
		head := units.Bytes(c.head * float64(units.MiB))
		if math.Abs(mem.at(KVCache, false)-c.cache) > 0.011 || len(compute) != 2 || inMiB(compute[0].Bytes) != c.model ||
			compute[1].Low > head || compute[1].High < head {
			t.Errorf("%d cells: cache %.2f, compute %+v; the engine %.2f, %.2f and %.2f", c.o.Context, mem.at(KVCache, false),
				compute, c.cache, c.model, c.head)
		}
	}
	o := Options{Device: "cpu", Image: &Image{}, Llama: LlamaOptions{Build: "b9294", Speculation: []string{"draft-mtp"}}}
	if _, err := Estimate("llama-server", &m, o); err == nil {
		t.Error("b9294's heads are called known")
	}
}

// Rows are shared out by builds that had it, and refused for those that have not.
func TestLlamaSplitByRows(t *testing.T) {
	m := model(t, "qwen3-vl-8b")
	o := Options{Quant: "q8_0", Device: "gpu", Context: 4096, Image: &Image{}}
	layers := o
	layers.Llama = LlamaOptions{Build: "b9294", Cards: 2}
	o.Llama = LlamaOptions{Build: "b9294", Cards: 2, SplitMode: "row"}
	rows, whole := estimate(t, "llama-server", m, o), estimate(t, "llama-server", m, layers)
	if a, b := rows.at(Weights, true), whole.at(Weights, true); math.Abs(a-b) > 0.02 {
		t.Errorf("%.2f on both cards by rows, %.2f by layers", a, b)
	}
	for _, i := range rows.Items {
		if (i.Name == Weights || i.Name == Compute) && i.Where != "host" && i.Low >= i.High {
			t.Errorf("%s on %s is called exact", i.Name, i.Where)
		}
	}
	for _, build := range []string{"", "v0.5.0", "b9890"} {
		o.Llama.Build = build
		if _, err := Estimate("llama-server", m, o); err == nil {
			t.Errorf("%q splits by rows", build)
		}
	}
}

// A config.json of Qwen3.5 says how many heads of its own a converter writes behind the layers: they guess where that
// is asked for, and count among the layers that -ngl moves.
func TestHeadsOfAConfig(t *testing.T) {
	config := `{"model_type": "qwen3_5_text", "hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 8,
		"num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 2816, "vocab_size": 32000, "rms_norm_eps": 1e-6,
		"max_position_embeddings": 40960, "linear_num_key_heads": 4, "linear_num_value_heads": 8,
		"linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
		"full_attention_interval": 4, "mtp_num_hidden_layers": %d}`
	for heads, taken := range map[int]bool{0: false, 1: true} {
		m, err := profile.DecodeHuggingFace("heads", fmt.Appendf(nil, config, heads))
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Quant: "q8_0", Device: "gpu", Context: 4096, Image: &Image{}}
		o.Llama = LlamaOptions{Build: "b11549", Speculation: []string{"draft-mtp"}}
		if _, err := Estimate("llama-server", &m, o); (err == nil) != taken || m.Text.Blocks() != 8+heads {
			t.Errorf("%d heads, %d blocks: %v", heads, m.Text.Blocks(), err)
		}
	}
}

// While a model is fitted to several cards its draft keeps a split of its own: no layer leaves cards that have room.
func TestLlamaFitsADraftOverCards(t *testing.T) {
	cards := unevenCards(24*units.GiB, 24*units.GiB)
	o := Options{Quant: "q8_0", Device: "gpu", Image: &Image{}, GPU: &cards[0], GPUs: cards}
	o.Llama = LlamaOptions{Build: LlamaVersion, Cards: 2, Fit: &Fit{Free: 24 * units.GiB}, LoadMode: "none",
		Draft: &Draft{Model: model(t, "qwen3-vl-2b"), Quant: "q8_0"}}
	mem := estimate(t, "llama-server", model(t, "qwen3-vl-8b"), o)
	if host := mem.on("host", KVCache); host != 0 {
		t.Errorf("%s of the cache on the host", host)
	}
}
