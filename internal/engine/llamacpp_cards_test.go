package engine

import (
	"errors"
	"slices"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// unevenCards are alike cards with so much free on each.
func unevenCards(free ...units.Bytes) (list []profile.GPU) {
	for _, n := range free {
		list = append(list, profile.GPU{Name: "c", ComputeCapability: "8.6", MemoryBytes: 24 * units.GiB,
			FreeBytes: new(n)})
	}
	return list
}

// What v0.5.0's CUDA backend reserved for Qwen3-VL-4B in q8_0, -c 8192 -np 1, over cards with so much free: layers
// follow that unless -ts has a part above zero for one of the cards that are there.
func TestLayersFollowWhatIsFree(t *testing.T) {
	for _, c := range []struct {
		free   []units.Bytes
		shares []float64
		want   [2][3]units.Bytes // weights, KV cache and compute of each card
	}{
		{[]units.Bytes{6e9, 3e9}, nil, [2][3]units.Bytes{{2681369600, 838860800, 154206208},
			{1593078784, 369098752, 133235200}}},
		{[]units.Bytes{3e9, 6e9}, nil, [2][3]units.Bytes{{1394312192, 436207616, 154206208},
			{2880136192, 771751936, 133235200}}},
		{[]units.Bytes{6e9, 3e9}, []float64{0, 0}, [2][3]units.Bytes{{2681369600, 838860800, 154206208},
			{1593078784, 369098752, 133235200}}},
		{[]units.Bytes{6e9, 3e9}, []float64{1, 2, 3, 4}, [2][3]units.Bytes{{1394312192, 436207616, 154206208},
			{2880136192, 771751936, 133235200}}},
		{[]units.Bytes{0, 3e9}, nil, [2][3]units.Bytes{{}, {4274448384, 1207959552, 154206720}}},
	} {
		cards := unevenCards(c.free...)
		o := Options{Quant: "q8_0", Device: "gpu", Context: 8192, Sequences: 1, Image: &Image{}, GPU: &cards[0], GPUs: cards}
		o.Llama = LlamaOptions{Build: LlamaVersion, Cards: 2, Shares: c.shares, LoadMode: "none"}
		mem := estimate(t, "llama-server", model(t, "qwen3-vl-4b"), o)
		for i, name := range []string{Weights, KVCache, Compute} {
			for card, where := range []string{"device0", "device1"} {
				if got := mem.on(where, name); got != c.want[card][i] {
					t.Errorf("%v free, split %v: %s on %s is %d, the engine's %d", c.free, c.shares, name, where, got,
						c.want[card][i])
				}
			}
		}
	}
}

// Cards of which nobody counted what is free are an interval that holds what one of them would get with less; what the
// user shares out is none.
func TestUnknownFreeMemoryIsAnInterval(t *testing.T) {
	card := profile.GPU{Name: "c", ComputeCapability: "8.6", MemoryBytes: 8 * units.GiB}
	unknown := []profile.GPU{card, card}
	known := unevenCards(8*units.GiB, 7*units.GiB)
	of := func(cards []profile.GPU, shares ...float64) *Memory {
		o := Options{Quant: "q8_0", Device: "gpu", Context: 8192, Image: &Image{}, GPU: &cards[0], GPUs: cards}
		o.Llama = LlamaOptions{Build: LlamaVersion, Cards: 2, Shares: shares}
		return estimate(t, "llama.cpp", model(t, "qwen3-vl-4b"), o)
	}
	wide, less, named := of(unknown), of(known), of(unknown, 1, 1)
	for i, it := range wide.Items {
		if it.Name != Weights || it.Where == "host" {
			continue
		}
		if got := less.Items[i].Bytes; it.Low == it.High || got < it.Low || got > it.High || got == it.Bytes {
			t.Errorf("%s: %d to %d, with less free on the second %d", it.Where, it.Low, it.High, got)
		}
		if n := named.Items[i]; n.Low != n.High || n.Bytes != it.Bytes {
			t.Errorf("%s: named %d to %d, even %d", n.Where, n.Low, n.High, it.Bytes)
		}
	}
}

// Where nothing is free the engine finds no card for a layer and stops: that is refused with what works instead.
func TestNothingFreeOnAnyCard(t *testing.T) {
	cards := unevenCards(0, 0)
	o := Options{Quant: "q8_0", Device: "gpu", Image: &Image{}, GPU: &cards[0], GPUs: cards}
	o.Llama.Cards = 2
	var refusal *Refusal
	if _, err := Estimate("llama-server", model(t, "qwen3-vl-4b"), o); !errors.As(err, &refusal) {
		t.Errorf("%v", err)
	}
}

// The tower follows --device in builds that were measured since September 2026; before, the environment says so.
func TestTowerFollowsTheDevice(t *testing.T) {
	for _, c := range []struct{ build, device, want string }{
		{"b9873", "CUDA1", "MTMD_BACKEND_DEVICE=CUDA1"}, {"b9873", "CUDA0", ""}, {"b11063", "CUDA1", ""}, {"", "CUDA1", ""},
		{LlamaVersion, "CUDA1", ""},
	} {
		if got := TowerStays(c.build, c.device); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.build, c.device, got, c.want)
		}
	}
}

func TestDevicesAreReadAsLlamaReadsThem(t *testing.T) {
	for text, want := range map[string]struct {
		backend string
		numbers []int
	}{"CUDA0": {"cuda", []int{0}}, "CUDA1,CUDA0": {"cuda", []int{1, 0}}, "none": {}, "ROCm2": {"rocm", []int{2}},
		"MTL0": {"metal", []int{0}}, "Vulkan0,Vulkan1": {"vulkan", []int{0, 1}}, "GPUOpenCL": {"opencl", []int{0}}} {
		if backend, numbers, err := ParseDevices(text); err != nil || backend != want.backend ||
			!slices.Equal(numbers, want.numbers) {
			t.Errorf("%q: %s %v, %v", text, backend, numbers, err)
		}
	}
	for _, text := range []string{"", "cuda0", "CUDA", "CUDA00", "CUDA0,", "CUDA0,none", "CPU", "CUDA0,CUDA0",
		"CUDA0,Vulkan0", "CUDA-1", "GPU0"} {
		if backend, numbers, err := ParseDevices(text); err == nil {
			t.Errorf("%q is read as %s %v", text, backend, numbers)
		}
	}
}

// What v0.5.0's server came to by itself over cards of the CUDA backend with so much free: the context that all cards
// together allow, then layers card by card, of a mixture with parts of them on the next card or the host. Figures are
// weights, cache and compute of each card, and weights and cache of the host.
func TestFitFillsEachCard(t *testing.T) {
	mixture, err := profile.DecodeHuggingFace("mixture", []byte(`{"model_type": "qwen3_moe", "hidden_size": 1024,
		"architectures": ["Qwen3MoeForCausalLM"], "num_hidden_layers": 7, "num_attention_heads": 8, "num_experts": 16,
		"num_key_value_heads": 2, "intermediate_size": 3072, "head_dim": 128, "vocab_size": 50257,
		"max_position_embeddings": 40960, "tie_word_embeddings": false, "rms_norm_eps": 1e-6, "rope_theta": 10000,
		"num_experts_per_tok": 4, "moe_intermediate_size": 512}`))
	if err != nil {
		t.Fatal(err)
	}
	dense := model(t, "qwen3-vl-2b")
	for _, c := range []struct {
		m     *profile.Model
		free  []units.Bytes
		ctx   int
		cards [][3]units.Bytes
		host  [2]units.Bytes
	}{
		{dense, []units.Bytes{3e9, 2.5e9}, 9984, [][3]units.Bytes{{909411328, 695205888, 124846080},
			{919063552, 449839104, 108069376}}, [2]units.Bytes{330612736, 0}},
		{dense, []units.Bytes{2.5e9, 3e9}, 9984, [][3]units.Bytes{{641937408, 490733568, 124846080},
			{1186537472, 654311424, 108069376}}, [2]units.Bytes{330612736, 0}},
		{dense, []units.Bytes{1.6e9, 1.7e9}, 4096, [][3]units.Bytes{{320968704, 100663296, 76554752},
			{491105280, 50331648, 50348160}}, [2]units.Bytes{1347013632, 318767104}},
		{dense, []units.Bytes{1.15e9, 1.2e9}, 4096, [][3]units.Bytes{{0, 0, 76554752}, {}},
			[2]units.Bytes{1828474880, 469762048}},
		{dense, []units.Bytes{2e9}, 4096, [][3]units.Bytes{{705084416, 117440512, 76554752}},
			[2]units.Bytes{0, 352321536}},
		{&mixture, []units.Bytes{1.35e9, 1.25e9}, 6656, [][3]units.Bytes{{198278144, 47710208, 29894784},
			{63596672, 0, 205184}}, [2]units.Bytes{54679616, 0}},
		{&mixture, []units.Bytes{1.15e9, 1.18e9}, 4096, [][3]units.Bytes{{17160192, 25165824, 31991808},
			{84282496, 4194304, 12593280}}, [2]units.Bytes{215111744, 0}},
		{&mixture, []units.Bytes{1.2e9}, 4096, [][3]units.Bytes{{84282496, 4194304, 35192832}},
			[2]units.Bytes{232271936, 25165824}},
	} {
		cards := unevenCards(c.free...)
		o := Options{Quant: "q8_0", Device: "gpu", Sequences: 1, Image: &Image{}, GPU: &cards[0], GPUs: cards}
		o.Llama = LlamaOptions{Build: LlamaVersion, Cards: len(cards), LoadMode: "none", Fit: &Fit{Each: c.free}}
		mem := estimate(t, "llama-server", c.m, o)
		if mem.ContextTokens != c.ctx {
			t.Errorf("%s, %v free: %d tokens, the engine %d", c.m.Name, c.free, mem.ContextTokens, c.ctx)
		}
		p := Placement{Cards: len(cards)}
		for i, want := range c.cards {
			at := p.where(i)
			if got := [3]units.Bytes{mem.on(at, Weights), mem.on(at, KVCache), mem.on(at, Compute)}; got != want {
				t.Errorf("%s, %v free: %v on %s, the engine's %v", c.m.Name, c.free, got, at, want)
			}
		}
		if got := mem.on("host", KVCache); got != c.host[1] {
			t.Errorf("%s, %v free: %d of cache on the host, the engine's %d", c.m.Name, c.free, got, c.host[1])
		}
		if got := mem.on("host", Weights); got != c.host[0] && c.host[0] > 0 {
			t.Errorf("%s, %v free: %d of weights on the host, the engine's %d", c.m.Name, c.free, got, c.host[0])
		}
	}
}
